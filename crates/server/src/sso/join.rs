//! Joining by the SSO join link (hub-sso.md M9): what happens once the person has confirmed whom the provider named.
//!
//! In: the handle of what the callback has held for this browser session. Out: membership, link and SSO session, in one
//! transaction that reads everything again (rule 2).
//! Never here: pages. Invariant: what is made is what the page named: this account, organization and identity (V37).

use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::AccountId;
use doorward_core::secret::TokenHash;

use super::callback::entry;
use super::enable::NotDone;
use super::linking::{Link, held_is_current, judge_link};
use super::settings::By;
use crate::app::App;
use crate::session::SignedIn;
use crate::store::{
    Connection, HeldIdentity, Identity, JoinLink, Organization, Purpose, Query, StoreError, Transaction,
    is_in_question, load_connection, load_held, load_held_join, load_join_link, load_role,
};

/// Why somebody who joins may not confirm a first link by himself that would not come about for the reason `why`; `None`:
/// he may, for his organization's provider vouches for him, and the address is not what he joins by. But a question that
/// was the admins' is answered by them, and not by leaving and coming back (ADR 0036).
pub(super) async fn refusal_to_confirm(
    query: &mut impl Query,
    connection: &Connection,
    identity: &Identity,
    account: AccountId,
    why: Finding,
) -> Result<Option<Finding>, StoreError> {
    let is_the_address = matches!(
        why.code,
        ErrorCode::SsoEmailNotProved | ErrorCode::SsoEmailUnverified | ErrorCode::SsoEmailMissing
    );
    if !is_the_address {
        return Ok(Some(why));
    }
    let asked = is_in_question(query, connection.id, &identity.issuer, account).await?;
    Ok(asked.then(|| Finding::new(Step::Policy, ErrorCode::JoinLinkInQuestion)))
}

/// What somebody is asked to confirm: whom the provider named, and the link that he came by.
pub async fn load_held_to_join(
    query: &mut impl Query,
    app: &App,
    organization: &Organization,
    signed_in: &SignedIn,
    handle: TokenHash,
) -> Result<Option<(HeldIdentity, JoinLink)>, StoreError> {
    let Some(session) = signed_in.session() else { return Ok(None) };
    let now = app.clock.now();
    let held = load_held(query, organization.id, handle, session.id, Purpose::Join, now).await?;
    let Some(held) = held.filter(|held| held.account == signed_in.account.id) else { return Ok(None) };
    let came_by = load_held_join(query, handle).await?;
    let link = load_join_link(query, organization.id).await?;
    Ok(link.filter(|link| Some(link.token) == came_by).map(|link| (held, link)))
}

/// Makes the account a member, links the identity, and begins its SSO session.
pub async fn confirm(
    app: &App,
    organization: &Organization,
    signed_in: &SignedIn,
    handle: TokenHash,
    by: &By,
) -> Result<(), NotDone> {
    let now = app.clock.now();
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let account = signed_in.account.id;
    let mut tx = app.store.begin().await?;
    // Nobody enables, disables, rotates, removes or demotes meanwhile.
    tx.lock_organization(organization.id).await?;
    if !tx.browser_session_counts(session, account).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    if load_role(&mut tx, organization.id, account).await?.is_some() {
        return Ok(());
    }
    let (held, link) = link_that_counts(&mut tx, app, organization, signed_in, handle).await?;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::JoinLinkOff)?;
    if connection.live.is_none() {
        return Err(ErrorCode::JoinLinkOff.into());
    }
    if !held_is_current(&mut tx, &connection, &held).await? {
        return Err(ErrorCode::JoinHeldMissing.into());
    }
    let identity = &held.identity;
    match judge_link(&mut tx, &connection, identity, held.doubts, account).await? {
        Link::Linked => tx.update_identity(connection.id, identity).await?,
        link @ (Link::WouldLink | Link::WouldNot(_)) => {
            if let Link::WouldNot(why) = link
                && let Some(refused) =
                    refusal_to_confirm(&mut tx, &connection, identity, account, why).await?
            {
                return Err(refused.code.into());
            }
            match tx.insert_identity(connection.id, identity, account, now).await {
                Err(StoreError::Conflict) => return Err(ErrorCode::SsoIdentityInUse.into()),
                inserted => inserted?,
            }
        }
    }
    // Each of the two is had by one of two at the same moment (conformance.md V28).
    if !tx.delete_held(organization.id, handle).await? {
        return Err(ErrorCode::JoinHeldMissing.into());
    }
    if !tx.take_join_link_use(organization.id, link.token).await? {
        return Err(ErrorCode::JoinLinkUsedUp.into());
    }
    tx.set_role(organization.id, account, link.role, now).await?;
    tx.put_sso_session(
        session,
        account,
        organization.id,
        connection.epoch,
        &identity.issuer,
        &identity.subject,
        // It lasts from when the provider named him, not from the press of the button.
        held.created_at,
    )
    .await?;
    let details = vec![
        ("account", signed_in.account.name().to_owned()),
        ("role", link.role.to_string()),
        ("issuer", identity.issuer.clone()),
        ("subject", identity.subject.clone()),
        ("email", identity.email.clone().unwrap_or_default()),
    ];
    tx.audit(entry(organization, AuditAction::OrgSsoJoin, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// What is held, with the join link that it came by, if that is still the one and whoever made it still could.
async fn link_that_counts(
    tx: &mut Transaction,
    app: &App,
    organization: &Organization,
    signed_in: &SignedIn,
    handle: TokenHash,
) -> Result<(HeldIdentity, JoinLink), NotDone> {
    let found = load_held_to_join(tx, app, organization, signed_in, handle).await?;
    let (held, link) = found.ok_or(ErrorCode::JoinHeldMissing)?;
    if !link.has_uses() {
        return Err(ErrorCode::JoinLinkUsedUp.into());
    }
    let link = tx.join_link_that_counts(organization.id, link.token).await?;
    Ok((held, link.ok_or(ErrorCode::JoinUnknown)?))
}
