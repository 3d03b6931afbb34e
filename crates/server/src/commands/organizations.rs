//! `org …` and `resource …`.

use super::{Context, account, organization};
use crate::command_line::{MemberRemove, MemberSet, OrgCreate, OrgDelete, OrgPlan, ResourceSet};
use crate::failure::Failure;
use crate::store::{self, StoreError};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::OrganizationId;
use doorward_core::membership::Role;
use doorward_core::name::Name;
use std::io::Write;

/// `org create`.
pub async fn create_organization(
    context: &Context,
    create: OrgCreate,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let name = Name::parse(&create.organization).map_err(|why| {
        Failure::about(ErrorCode::OrganizationNameInvalid, format!("{:?}: {why}", create.organization))
    })?;
    if context.configuration.reserved_first_segments().contains(name.key()) {
        return Err(Failure::about(
            ErrorCode::OrganizationNameIsAPath,
            format!("an application has pages of its own under /{}", name.key()),
        ));
    }
    let display_name = create.name.trim();
    if !(1..=100).contains(&display_name.chars().count()) || display_name.chars().any(char::is_control) {
        return Err(ErrorCode::OrganizationDisplayNameInvalid.into());
    }

    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let admin = account(&mut tx, &create.admin).await?;
    let id = OrganizationId::new(now.millis(), context.random.bytes()?);
    match tx.insert_organization(id, &name, display_name, create.plan, now).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return Err(ErrorCode::OrganizationNameTaken.into()),
        Err(error) => return Err(error.into()),
    }
    tx.set_role(id, admin.id, Role::Admin, now).await?;
    let details = vec![("name", name.to_string()), ("plan", create.plan.as_str().to_owned())];
    tx.audit(context.entry(Some(id), AuditAction::OrgCreate, details), now).await?;
    let details = vec![("account", admin.name.to_string()), ("role", Role::Admin.to_string())];
    tx.audit(context.entry(Some(id), AuditAction::OrgAddUser, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "The organization {name} is there; {} is its admin.", admin.name)?;
    Ok(())
}

/// `org list`: name, plan, SSO state and display name, parted by tabs.
pub async fn list_organizations(context: &Context, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let mut after = String::new();
    loop {
        let page = store::load_organizations(&mut reader, &after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        last.name.key().clone_into(&mut after);
        for organization in &page {
            let (state, _) = store::load_state(&mut reader, organization.id).await?;
            let plan = organization.plan.as_str();
            writeln!(
                output,
                "{}\t{plan}\t{}\t{}",
                organization.name,
                state.as_str(),
                organization.display_name
            )?;
        }
    }
}

/// `org plan`: a lapsed plan freezes settings, never enforcement (architecture.md §3).
pub async fn set_plan(context: &Context, set: OrgPlan, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &set.organization).await?;
    tx.update_plan(&organization, set.plan).await?;
    let details =
        vec![("before", organization.plan.as_str().to_owned()), ("after", set.plan.as_str().to_owned())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgSettings, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} is on the plan {}.", organization.name, set.plan.as_str())?;
    Ok(())
}

/// `org delete`: its audit log stays.
pub async fn delete_organization(
    context: &Context,
    delete: OrgDelete,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &delete.organization).await?;
    if !tx.delete_organization(&organization, now).await? {
        return Err(ErrorCode::OrganizationUnknown.into());
    }
    let details = vec![("name", organization.name.to_string())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgDelete, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "The organization {} is deleted; its name is never given again.", organization.name)?;
    Ok(())
}

/// `org member set`.
pub async fn set_member(context: &Context, set: MemberSet, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &set.organization).await?;
    let account = account(&mut tx, &set.account).await?;
    tx.lock_organization(organization.id).await?;
    let before = tx.set_role(organization.id, account.id, set.role, now).await?;
    if before == Some(set.role) {
        writeln!(output, "{} has the role {} in {} already.", account.name, set.role, organization.name)?;
        return Ok(());
    }
    let demoted = before == Some(Role::Admin);
    if demoted && store::count_other_admins(&mut tx, organization.id, account.id, now).await? == 0 {
        return Err(ErrorCode::OrganizationLastAdmin.into());
    }
    let (action, details) = match before {
        None => {
            let details = vec![("account", account.name.to_string()), ("role", set.role.to_string())];
            (AuditAction::OrgAddUser, details)
        }
        Some(before) => {
            let details = vec![
                ("account", account.name.to_string()),
                ("before", before.to_string()),
                ("after", set.role.to_string()),
            ];
            (AuditAction::OrgChangeRole, details)
        }
    };
    tx.audit(context.entry(Some(organization.id), action, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} has the role {} in {}.", account.name, set.role, organization.name)?;
    Ok(())
}

/// `org member remove`.
pub async fn remove_member(
    context: &Context,
    remove: MemberRemove,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &remove.organization).await?;
    let account = account(&mut tx, &remove.account).await?;
    tx.lock_organization(organization.id).await?;
    let Some(role) = store::load_role(&mut tx, organization.id, account.id).await? else {
        return Err(Failure::new(
            ErrorCode::MembershipMissing,
            format!("{} is not a member of {}", account.name, organization.name),
            "Nothing needs to be done.",
        ));
    };
    if role == Role::Admin && store::count_other_admins(&mut tx, organization.id, account.id, now).await? == 0
    {
        return Err(ErrorCode::OrganizationLastAdmin.into());
    }
    tx.delete_membership(organization.id, account.id, now).await?;
    let details = vec![("account", account.name.to_string()), ("role", role.to_string())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgRemoveUser, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "{} is no longer a member of {}.", account.name, organization.name)?;
    Ok(())
}

/// `resource set`.
pub async fn set_resource(
    context: &Context,
    set: ResourceSet,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let prefix = set.prefix.trim_matches('/').to_ascii_lowercase();
    let prefix_good = prefix.is_empty() || prefix.split('/').all(is_segment);
    if !is_segment(&set.name) || !prefix_good {
        return Err(ErrorCode::CommandResourceInvalid.into());
    }
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &set.organization).await?;
    tx.lock_organization(organization.id).await?;
    tx.set_resource(organization.id, &prefix, &set.name, set.public).await?;
    let details =
        vec![("name", set.name.clone()), ("prefix", prefix.clone()), ("public", set.public.to_string())];
    tx.audit(context.entry(Some(organization.id), AuditAction::ResourceSet, details), now).await?;
    tx.commit(now).await?;
    let under = if prefix.is_empty() { String::new() } else { format!(" under {prefix}") };
    let visibility = if set.public { "public" } else { "private" };
    writeln!(output, "The resource {}{under} of {} is {visibility}.", set.name, organization.name)?;
    Ok(())
}

/// Whether the gate could ever meet it: deciding segments have these characters only (architecture.md §4.1).
fn is_segment(text: &str) -> bool {
    (1..=store::RESOURCE_NAME_BYTES_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
