//! The end of an account: its person deletes it, or the operator does.
//!
//! In: the account, and who wants it. Out: memberships, sessions, links and what it made for others are gone in one
//! transaction, with an audit event in each of its organizations.
//! Never here: pages, passwords. Invariant: no organization is left without an admin, and neither id nor name is given
//! again (architecture.md rule 7).

use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::time::Timestamp;

use crate::sso::enable::NotDone;
use crate::sso::linking::identity_details;
use crate::sso::settings::By;
use crate::store::{
    AuditEntry, MemberOrganization, Query, Store, StoreError, count_other_admins, load_bonds,
    load_connection, load_governed_alone, load_organizations_of, load_role, owes_sso,
};

/// An organization that the account belongs to, and whether it would be left without an admin.
#[derive(Clone, Debug)]
pub struct Tie {
    /// The membership.
    pub member: MemberOrganization,
    /// The account is its last admin.
    pub is_last_admin: bool,
}

/// What an account belongs to, by the organizations' names; at most 500. Only shows: deleting judges anew.
pub async fn load_ties(
    query: &mut impl Query,
    account: AccountId,
    now: Timestamp,
) -> Result<Vec<Tie>, StoreError> {
    let mut ties = Vec::new();
    let alone = load_governed_alone(query, account, now).await?;
    for member in load_organizations_of(query, account).await? {
        let is_last_admin = alone.contains(&member.organization.id);
        ties.push(Tie { member, is_last_admin });
    }
    Ok(ties)
}

/// Deletes the account of this id and name. `password_hash`: what its person's password was proved by just now; another
/// one meanwhile, and nothing is done; and an admin owes what leaving asks for, in every organization. `None`: the operator
/// asks.
pub async fn delete_account(
    store: &Store,
    (account, name): (AccountId, &str),
    password_hash: Option<&str>,
    by: &By,
    now: Timestamp,
) -> Result<(), NotDone> {
    let entry = |organization: Option<OrganizationId>, action, details| AuditEntry {
        organization,
        action,
        actor: by.actor.clone(),
        details,
        address: by.address,
        request_id: by.request_id.clone(),
    };
    let mut tx = store.begin().await?;
    // Written last: whoever ends tokens holds these before the logs that tell of it (PostgreSQL).
    let mut told = Vec::new();
    loop {
        // Always in the order of their ids, so that two who end at once don't wait for each other.
        let bonds = load_bonds(&mut tx, account).await?;
        if bonds.is_empty() {
            break;
        }
        for (organization, is_deleted) in bonds {
            tx.lock_organization(organization).await?;
            // A link outlives leaving: where he has left, too, its end is told.
            if let Some(connection) = load_connection(&mut tx, organization).await? {
                for identity in tx.delete_identities_of(connection.id, account).await? {
                    let details = identity_details(name, &identity);
                    told.push(entry(Some(organization), AuditAction::OrgSsoUnlink, details));
                }
            }
            // Whoever was removed or demoted while the lock was waited for is what he is now.
            let Some(role) = load_role(&mut tx, organization, account).await? else { continue };
            if role == Role::Admin && !is_deleted {
                if count_other_admins(&mut tx, organization, account, now).await? == 0 {
                    return Err(ErrorCode::OrganizationLastAdmin.into());
                }
                if password_hash.is_some() && owes_sso(&mut tx, organization, by.session, now).await? {
                    return Err(ErrorCode::SettingsSsoNeeded.into());
                }
            }
            tx.delete_membership(organization, account, now).await?;
            let details = vec![("account", name.to_owned()), ("role", role.to_string())];
            told.push(entry(Some(organization), AuditAction::OrgAccountDelete, details));
        }
    }
    // Without an operator the next start's link makes one: a browser must not be able to ask for that.
    if password_hash.is_some() && tx.is_last_operator(account).await? {
        return Err(ErrorCode::AccountLastOperator.into());
    }
    if let Some(proved) = password_hash
        && !tx.confirm_sign_in(account, proved).await?
    {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    told.extend(tx.take_counted_events_of(account).await?);
    told.extend(tx.take_sign_in_failures_of(account).await?);
    if !tx.delete_account(account).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    // Logs are locked in one order, whoever writes into several: the system's comes last.
    told.sort_by_key(|entry| (entry.organization.is_none(), entry.organization));
    for entry in told {
        tx.audit(entry, now).await?;
    }
    let details = vec![("name", name.to_owned())];
    tx.audit(entry(None, AuditAction::AccountDelete, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}
