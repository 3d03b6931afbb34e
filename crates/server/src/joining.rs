//! Becoming a member by a link: invitations while the organization has no SSO, the SSO join link while it has.
//!
//! ```text
//!  no SSO:  invite ──▶ link ──▶ page names organization, role, account ──▶ accept
//!  SSO:     join link ──▶ the same page ──▶ provider ──▶ identity held ──▶ page names it ──▶ `sso::join`
//! ```
//!
//! Never here: pages, SQL. Invariant: what a link opens is decided in the transaction that uses it, under the
//! organization's lock, from what is true there (rules 9 and 14).

use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccountId, InvitationId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;

use crate::random::Random;
use crate::sealing::Sealing;
use crate::session::SignedIn;
use crate::sso::callback::entry;
use crate::sso::enable::NotDone;
use crate::sso::settings::By;
use crate::store::{
    Connection, INVITATION_USES_MAX, Invitation, JOIN_LINK_USES_MAX, JoinLink, NewInvitation, Organization,
    Query, Revision, Store, load_account_by_name, load_connection, load_invitation, load_join_link,
    load_live, load_role,
};

/// Below the base URL: where a link with this token leads.
pub fn link_path(organization: &str, token: &Secret) -> String {
    format!("/organizations/{organization}/join/{}", token.expose())
}

/// What a link leads to.
#[derive(Clone, Debug)]
pub enum Offer {
    /// Membership, at the press of a button.
    Invitation(Invitation),
    /// Membership after a sign-in at the organization's provider, under its live revision.
    Sso(Box<(JoinLink, Connection, Revision)>),
}

impl Offer {
    /// The role that it gives.
    pub fn role(&self) -> Role {
        match self {
            Self::Invitation(invitation) => invitation.role,
            Self::Sso(sso) => sso.0.role,
        }
    }

    /// The only account that it is for, if there is one.
    pub fn only_for(&self) -> Option<AccountId> {
        match self {
            Self::Invitation(invitation) => invitation.account.as_ref().map(|(id, _)| *id),
            Self::Sso(_) => None,
        }
    }
}

/// What a link leads to at `now`, or why it leads nowhere. Only explains: using it judges anew.
pub async fn look(
    query: &mut impl Query,
    organization: OrganizationId,
    token: TokenHash,
    now: Timestamp,
) -> Result<Offer, NotDone> {
    let live = load_live(query, organization).await?;
    if let Some(invitation) = load_invitation(query, organization, token).await? {
        if let Some(code) = invitation.refusal(now) {
            return Err(code.into());
        }
        if live.is_some() {
            return Err(ErrorCode::JoinInvitationsOff.into());
        }
        return Ok(Offer::Invitation(invitation));
    }
    let link = load_join_link(query, organization).await?.filter(|link| link.token == token);
    match (link, live) {
        (None, _) => Err(ErrorCode::JoinUnknown.into()),
        (Some(_), None) => Err(ErrorCode::JoinLinkOff.into()),
        (Some(link), Some(_)) if !link.has_uses() => Err(ErrorCode::JoinLinkUsedUp.into()),
        (Some(link), Some((connection, revision))) => Ok(Offer::Sso(Box::new((link, connection, revision)))),
    }
}

/// What somebody wants an invitation to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The role that it gives.
    pub role: Role,
    /// The name of the only account that may use it; empty: whoever holds the link.
    pub account: String,
    /// How many people may use it.
    pub uses: i64,
}

/// Makes an invitation: the token of its link, to be shown once. Refused while SSO is live (hub-sso.md M9).
pub async fn invite(
    store: &Store,
    random: &Random,
    organization: &Organization,
    wish: &Wish,
    by: &By,
    now: Timestamp,
) -> Result<Secret, NotDone> {
    let token = random.token().map_err(crate::store::StoreError::from)?;
    let id = InvitationId::new(now.millis(), random.bytes().map_err(crate::store::StoreError::from)?);
    let mut tx = store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    if load_connection(&mut tx, organization.id).await?.is_some_and(|connection| connection.live.is_some()) {
        return Err(ErrorCode::JoinInvitationsOff.into());
    }
    let account = match wish.account.as_str() {
        "" if wish.role == Role::Admin => return Err(ErrorCode::JoinAccountNeeded.into()),
        "" => None,
        name => {
            let account = load_account_by_name(&mut tx, name).await?;
            let account = account.ok_or(ErrorCode::MembershipAccountUnknown)?;
            if load_role(&mut tx, organization.id, account.id).await?.is_some() {
                return Err(ErrorCode::MembershipExists.into());
            }
            Some(account)
        }
    };
    let uses_max = if account.is_some() { 1 } else { INVITATION_USES_MAX };
    if !(1..=uses_max).contains(&wish.uses) {
        return Err(ErrorCode::JoinUsesInvalid.into());
    }
    let new = NewInvitation {
        id,
        organization: organization.id,
        token: token.hash(),
        role: wish.role,
        account: account.as_ref().map(|account| account.id),
        uses: wish.uses,
        by: by.actor.clone(),
    };
    if !tx.insert_invitation(&new, now).await? {
        return Err(ErrorCode::JoinTooMany.into());
    }
    let details = vec![
        ("invitation", id.to_string()),
        ("role", wish.role.to_string()),
        ("account", account.map_or_else(String::new, |account| account.name.to_string())),
        ("uses", wish.uses.to_string()),
    ];
    tx.audit(entry(organization, AuditAction::OrgInviteUser, by, details), now).await?;
    tx.commit(now).await?;
    Ok(token)
}

/// Takes an invitation back.
pub async fn revoke(
    store: &Store,
    organization: &Organization,
    id: InvitationId,
    by: &By,
    now: Timestamp,
) -> Result<(), NotDone> {
    let mut tx = store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let role = tx.revoke_invitation(organization.id, id, now).await?;
    let role = role.ok_or(ErrorCode::JoinInvitationMissing)?;
    let details = vec![("invitation", id.to_string()), ("role", role.to_string())];
    tx.audit(entry(organization, AuditAction::OrgInviteRevoke, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// Makes the account a member by an invitation. Whoever is one already uses nothing up (rule 18).
pub async fn accept(
    store: &Store,
    organization: &Organization,
    token: TokenHash,
    signed_in: &SignedIn,
    by: &By,
    now: Timestamp,
) -> Result<(), NotDone> {
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let account = signed_in.account.id;
    let mut tx = store.begin().await?;
    // Nobody enables SSO, revokes, removes or demotes meanwhile.
    tx.lock_organization(organization.id).await?;
    if !tx.browser_session_counts(session, account).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    if load_role(&mut tx, organization.id, account).await?.is_some() {
        return Ok(());
    }
    if load_connection(&mut tx, organization.id).await?.is_some_and(|connection| connection.live.is_some()) {
        return Err(ErrorCode::JoinInvitationsOff.into());
    }
    let invitation = tx.take_invitation(organization.id, token, account, now).await??;
    tx.set_role(organization.id, account, invitation.role, now).await?;
    let details = vec![
        ("account", signed_in.account.name().to_owned()),
        ("role", invitation.role.to_string()),
        ("invitation", invitation.id.to_string()),
        ("invited_by", invitation.created_by_name),
    ];
    tx.audit(entry(organization, AuditAction::OrgInviteAccept, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// Makes the SSO join link, in place of the one before: its token. Only while SSO is live (hub-sso.md M9).
/// `uses`: how many people may join by it; `None`: any number.
#[expect(clippy::too_many_arguments, reason = "one deed, and all that it is made of")]
pub async fn make_join_link(
    store: &Store,
    random: &Random,
    sealing: &Sealing,
    organization: &Organization,
    role: Role,
    uses: Option<i64>,
    by: &By,
    now: Timestamp,
) -> Result<Secret, NotDone> {
    if role == Role::Admin {
        return Err(ErrorCode::JoinRoleRefused.into());
    }
    if uses.is_some_and(|uses| !(1..=JOIN_LINK_USES_MAX).contains(&uses)) {
        return Err(ErrorCode::JoinUsesInvalid.into());
    }
    let token = random.token().map_err(crate::store::StoreError::from)?;
    let mut tx = store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    if load_live(&mut tx, organization.id).await?.is_none() {
        return Err(ErrorCode::SsoNotEnabled.into());
    }
    let is_new = load_join_link(&mut tx, organization.id).await?.is_none();
    tx.put_join_link(organization.id, (&token, sealing), role, uses, &by.actor, now).await?;
    let details = vec![
        ("join_link", if is_new { "made" } else { "rotated" }.to_owned()),
        ("role", role.to_string()),
        ("uses", uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string())),
    ];
    tx.audit(entry(organization, AuditAction::OrgUpdateJoinSettings, by, details), now).await?;
    tx.commit(now).await?;
    Ok(token)
}

/// Turns the SSO join link off. Whether there was one.
pub async fn turn_off_join_link(
    store: &Store,
    organization: &Organization,
    by: &By,
    now: Timestamp,
) -> Result<bool, NotDone> {
    let mut tx = store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    if !tx.delete_join_link(organization.id).await? {
        return Ok(false);
    }
    let details = vec![("join_link", "off".to_owned())];
    tx.audit(entry(organization, AuditAction::OrgUpdateJoinSettings, by, details), now).await?;
    tx.commit(now).await?;
    Ok(true)
}
