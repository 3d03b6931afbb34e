//! `sso link-requests`, `approve-link`, `unlink`, `recovery-codes`: the operator's last way in (architecture.md rule 12).

use super::{Context, account, organization};
use crate::audit_export::rfc3339;
use crate::command_line::{SsoApproveLink, SsoLinkRequests, SsoRecoveryCodes, SsoUnlink};
use crate::failure::Failure;
use crate::sso::enable::NotDone;
use crate::sso::linking::{self, Chosen};
use crate::sso::recovery::new_codes;
use crate::store::{Identity, Organization, load_link_requests};
use doorward_core::error_code::ErrorCode;
use std::io::Write;

/// An identity in one line.
fn line(identity: &Identity) -> String {
    let name = identity.display_name.as_deref().unwrap_or_default();
    let email = identity.email.as_deref().unwrap_or("no e-mail");
    let who = if name.is_empty() { email.to_owned() } else { format!("{name} ({email})") };
    format!("{who}, subject {} at {}", identity.subject, identity.issuer)
}

/// `sso link-requests`.
pub async fn list_link_requests(
    context: Context,
    list: SsoLinkRequests,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let organization = organization(&mut reader, &list.organization).await?;
    let requests = load_link_requests(&mut reader, organization.id, context.clock.now()).await?;
    if requests.is_empty() {
        writeln!(output, "Nobody waits for a decision.")?;
    }
    for (request, _) in requests {
        let asked = request.held.requested_at.and_then(rfc3339).unwrap_or_default();
        writeln!(output, "{}  {asked}  {}", request.account_name, line(&request.held.identity))?;
    }
    Ok(())
}

fn nothing_asked(organization: &Organization, code: ErrorCode) -> Failure {
    Failure::new(
        code,
        "there is no such question",
        format!("See what waits with: doorward sso link-requests {}", organization.name),
    )
}

/// `sso approve-link`.
pub async fn approve_link(
    context: Context,
    approve: SsoApproveLink,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let by = context.by();
    let app = context.app().await?;
    let mut reader = app.store.reader();
    let organization = organization(&mut reader, &approve.organization).await?;
    let account = account(&mut reader, &approve.account).await?;
    let chosen = Chosen { account, request: None, subject: Some(approve.subject) };
    let approved = linking::approve(&app, &organization, &chosen, None, &by).await;
    let approved = approved.map_err(|reason| match reason {
        NotDone::Refused(code @ ErrorCode::SsoLinkOver) => nothing_asked(&organization, code),
        other => other.into(),
    })?;
    writeln!(output, "{} is linked to {}.", chosen.account.name, line(&approved.held.identity))?;
    Ok(())
}

/// `sso unlink`.
pub async fn unlink(context: Context, unlink: SsoUnlink, output: &mut dyn Write) -> Result<(), Failure> {
    let by = context.by();
    let app = context.app().await?;
    let mut reader = app.store.reader();
    let organization = organization(&mut reader, &unlink.organization).await?;
    let account = account(&mut reader, &unlink.account).await?;
    linking::unlink(&app, &organization, &account, &by).await?;
    writeln!(
        output,
        "{} is unlinked; its single sign-on sessions of {} have ended.",
        account.name, organization.name
    )?;
    Ok(())
}

/// `sso recovery-codes`: prints the codes, once.
pub async fn make_recovery_codes(
    context: Context,
    make: SsoRecoveryCodes,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let by = context.by();
    let app = context.app().await?;
    let organization = organization(&mut app.store.reader(), &make.organization).await?;
    for code in new_codes(&app, &organization, None, &by).await? {
        writeln!(output, "{}", code.expose())?;
    }
    Ok(())
}
