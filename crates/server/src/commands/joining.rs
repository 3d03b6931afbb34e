//! `org invite`, `org invitations`, `org invite-revoke` and `sso join-link`.

use super::{Context, organization};
use crate::audit_export::rfc3339;
use crate::command_line::{OrgInvitations, OrgInvite, OrgInviteRevoke, SsoJoinLink};
use crate::failure::Failure;
use crate::joining::{Wish, link_path, make_join_link, revoke, turn_off_join_link};
use crate::sso::enable::NotDone;
use crate::store::{JoinLink, Organization, StoreError, load_join_link, load_live, load_open_invitations};
use doorward_core::error_code::ErrorCode;
use std::io::Write;

fn failure(reason: NotDone) -> Failure {
    match reason {
        NotDone::Refused(code) => code.into(),
        NotDone::Store(error) => error.into(),
    }
}

/// `org invite`: the link is all that is printed, so that it can be piped.
pub async fn invite(context: &Context, invite: OrgInvite, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let organization = organization(&mut store.reader(), &invite.organization).await?;
    let wish = Wish { role: invite.role, account: invite.account, uses: invite.uses };
    let now = context.clock.now();
    let made =
        crate::joining::invite(&store, &context.random, &organization, &wish, &context.by(), now).await;
    let token = made.map_err(failure)?;
    let path = link_path(organization.name.as_str(), &token);
    writeln!(output, "{}", context.configuration.base_url.join(&path))?;
    Ok(())
}

/// `org invitations`: id, role, account or number of people, maker and end, parted by tabs.
pub async fn list_invitations(
    context: &Context,
    list: OrgInvitations,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let organization = organization(&mut reader, &list.organization).await?;
    for invitation in load_open_invitations(&mut reader, organization.id, context.clock.now()).await? {
        let who = invitation.account.map_or_else(|| invitation.uses_left.to_string(), |(_, name)| name);
        let (id, role, by) = (invitation.id, invitation.role, invitation.created_by_name);
        let until = rfc3339(invitation.expires_at).unwrap_or_default();
        writeln!(output, "{id}\t{role}\t{who}\t{by}\t{until}")?;
    }
    Ok(())
}

/// `org invite-revoke`.
pub async fn revoke_invitation(
    context: &Context,
    wanted: OrgInviteRevoke,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let organization = organization(&mut store.reader(), &wanted.organization).await?;
    let id = wanted.invitation.parse().map_err(|_| Failure::from(ErrorCode::JoinInvitationMissing))?;
    revoke(&store, &organization, id, &context.by(), context.clock.now()).await.map_err(failure)?;
    writeln!(output, "The invitation works no longer.")?;
    Ok(())
}

/// That a link can't be printed, with the command that puts one like it in its place.
fn unreadable(organization: &Organization, link: &JoinLink, error: &StoreError) -> Failure {
    let uses = link.uses_left.map_or_else(String::new, |uses| format!(" --uses {}", uses.max(1)));
    let (name, role) = (&organization.name, link.role);
    Failure::new(
        ErrorCode::JoinLinkUnreadable,
        format!("the join link of {name} can't be shown: {error}. Whoever has it can still join by it"),
        format!(
            "Make another one in its place, which ends this one: doorward sso join-link {name} --rotate --role {role}{uses}"
        ),
    )
}

/// `sso join-link`: prints the link that is turned on, makes one, or turns it off.
pub async fn join_link(context: Context, wanted: SsoJoinLink, output: &mut dyn Write) -> Result<(), Failure> {
    let (by, now) = (context.by(), context.clock.now());
    let app = context.app().await?;
    let organization = organization(&mut app.store.reader(), &wanted.organization).await?;
    if wanted.off {
        let was_on = turn_off_join_link(&app.store, &organization, &by, now).await.map_err(failure)?;
        let done = if was_on { "is turned off" } else { "was turned off already" };
        writeln!(output, "The join link of {} {done}.", organization.name)?;
        return Ok(());
    }
    let token = if wanted.rotate {
        let (store, random, sealing) = (&app.store, &app.random, &app.sealing);
        let made =
            make_join_link(store, random, sealing, &organization, wanted.role, wanted.uses, &by, now).await;
        made.map_err(failure)?
    } else {
        if load_live(&mut app.store.reader(), organization.id).await?.is_none() {
            return Err(ErrorCode::JoinLinkOff.into());
        }
        let Some(link) = load_join_link(&mut app.store.reader(), organization.id).await? else {
            return Err(Failure::new(
                ErrorCode::JoinUnknown,
                format!("{} has no join link", organization.name),
                "Make one with: doorward sso join-link ORG --rotate",
            ));
        };
        link.open(organization.id, &app.sealing).map_err(|error| unreadable(&organization, &link, &error))?
    };
    let path = link_path(organization.name.as_str(), &token);
    writeln!(output, "{}", app.configuration.base_url.join(&path))?;
    Ok(())
}
