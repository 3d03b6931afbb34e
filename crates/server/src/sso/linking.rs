//! First links: whether an identity may be linked to an account, and what an admin decides where it may not by itself.
//!
//! ```text
//!  a sign-in ends ─▶ judge_link ─┬─ Linked / WouldLink: done by itself
//!                                └─ WouldNot ─▶ held (store) ─▶ ask ─▶ approve or refuse, by another admin
//! ```
//!
//! Never here: pages. Invariant: what is linked is what was held: the same account, identity and revision (V37); and one
//! identity per account and connection, and the reverse (architecture.md §3).

use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::AccountId;
use doorward_core::oidc::Doubts;
use doorward_core::secret::TokenHash;
use doorward_core::time::Timestamp;

use super::callback::entry;
use super::enable::NotDone;
use super::settings::{By, keeps_provider};
use crate::app::App;
use crate::session::SignedIn;
use crate::store::{
    Account, Actor, Connection, HeldIdentity, Identity, LinkFacts, LinkRequest, Organization, Purpose, Query,
    RevisionTest, StoreError, Transaction, load_connection, load_held, load_link_facts, load_link_request_of,
    load_revision,
};

/// Whether an identity may be linked to an account: what the page after a test says, and what a first sign-in does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// It is linked already.
    Linked,
    /// Its address is a proved one of the account.
    WouldLink,
    /// It would not, because of this.
    WouldNot(Finding),
}

/// Judges a link (architecture.md §3, Linking). One identity per account and connection, and the reverse.
pub async fn judge_link(
    query: &mut impl Query,
    connection: &Connection,
    identity: &Identity,
    doubts: Doubts,
    account: AccountId,
) -> Result<Link, StoreError> {
    let email = address(identity);
    let email_key = email.as_ref().map_or("", Email::key);
    let facts = load_link_facts(query, connection.id, identity, email_key, account).await?;
    Ok(judge_by(&facts, connection.guests_may_link, identity, doubts, account))
}

fn address(identity: &Identity) -> Option<Email> {
    identity.email.as_deref().and_then(|text| Email::parse(text).ok())
}

/// The same by facts that are there already.
pub fn judge_by(
    facts: &LinkFacts,
    guests_may_link: bool,
    identity: &Identity,
    doubts: Doubts,
    account: AccountId,
) -> Link {
    let would_not = |code| Link::WouldNot(Finding::new(Step::Policy, code));
    match facts.identity_account {
        Some(linked) if linked == account => return Link::Linked,
        Some(_) => return would_not(ErrorCode::SsoIdentityInUse),
        None => {}
    }
    if doubts.guest && !guests_may_link {
        return would_not(ErrorCode::SsoGuestRefused);
    }
    if facts.account_is_linked {
        return would_not(ErrorCode::SsoAccountLinkedElsewhere);
    }
    if doubts.email_unverified {
        return would_not(ErrorCode::SsoEmailUnverified);
    }
    let Some(email) = address(identity) else { return would_not(ErrorCode::SsoEmailMissing) };
    if facts.address_is_proved {
        return Link::WouldLink;
    }
    Link::WouldNot(Finding::new(Step::Policy, ErrorCode::SsoEmailNotProved).with("address", email))
}

/// Whether an admin may approve a link that does not come about because of this. Of the others, an identity in use must
/// be unlinked first, and guests are a setting.
pub const fn may_be_approved(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::SsoEmailNotProved
            | ErrorCode::SsoEmailUnverified
            | ErrorCode::SsoEmailMissing
            | ErrorCode::SsoAccountLinkedElsewhere
    )
}

/// The doubts that a stored test was left with.
pub fn doubts_of_test(test: &RevisionTest) -> Doubts {
    let has = |code| test.findings.iter().any(|finding| finding.code == code);
    Doubts { guest: has(ErrorCode::SsoGuestRefused), email_unverified: has(ErrorCode::SsoEmailUnverified) }
}

/// What a passed test keeps of a link that would not come about: why, and the doubts beside it.
pub(super) fn findings_of(link: &Link, doubts: Doubts) -> Vec<Finding> {
    let Link::WouldNot(finding) = link else { return Vec::new() };
    let mut findings = vec![finding.clone()];
    let doubts = [
        (doubts.guest, ErrorCode::SsoGuestRefused),
        (doubts.email_unverified, ErrorCode::SsoEmailUnverified),
    ];
    for (_, code) in doubts.into_iter().filter(|&(holds, code)| holds && code != finding.code) {
        findings.push(Finding::new(Step::Policy, code));
    }
    findings
}

/// How a link came about, for the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The provider's address is a proved one of the account.
    Address,
    /// The admin's own Enable.
    Enable,
    /// Another admin, or the operator, approved it.
    Approval,
}

impl How {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Enable => "enable",
            Self::Approval => "approval",
        }
    }
}

/// What the audit log says of a link.
pub fn link_details(account: &str, identity: &Identity, how: How) -> Vec<(&'static str, String)> {
    let mut details = identity_details(account, identity);
    details.push(("how", how.as_str().to_owned()));
    details
}

/// An account and an identity, as the audit log names them.
pub fn identity_details(account: &str, identity: &Identity) -> Vec<(&'static str, String)> {
    vec![
        ("account", account.to_owned()),
        ("issuer", identity.issuer.clone()),
        ("subject", identity.subject.clone()),
        ("email", identity.email.clone().unwrap_or_default()),
    ]
}

/// Whether a decision on what is held still means the same: its revision is live, or the live one keeps its provider.
pub async fn held_is_current(
    query: &mut impl Query,
    connection: &Connection,
    held: &HeldIdentity,
) -> Result<bool, StoreError> {
    let Some(live) = connection.live.filter(|_| connection.id == held.connection) else { return Ok(false) };
    if live == held.revision {
        return Ok(true);
    }
    let then = load_revision(query, held.organization, held.revision).await?;
    let now = load_revision(query, held.organization, live).await?;
    Ok(matches!((then, now), (Some(then), Some(now)) if keeps_provider(&now, &then)))
}

/// What became of a person's wish that an admin decide.
#[derive(Debug)]
pub enum Asked {
    /// The admins see it now.
    Waiting,
    /// No decision is needed any more: the next single sign-on simply works, and then leads there.
    NotNeeded(String),
}

/// Asks the admins to approve what is held for this browser session. Everything is read again (rule 2).
pub async fn ask(
    app: &App,
    organization: &Organization,
    signed_in: &SignedIn,
    handle: TokenHash,
    by: &By,
) -> Result<Asked, NotDone> {
    let now = app.clock.now();
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let account = signed_in.account.id;
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization.id).await?;
    let held = load_held(&mut tx, organization.id, handle, session, Purpose::SignIn, now).await?;
    // The session's owner is the account that went: a handle is of one session, a session of one account.
    let held = held.filter(|held| held.account == account).ok_or(ErrorCode::SsoLinkOver)?;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SsoLinkOver)?;
    if !held_is_current(&mut tx, &connection, &held).await?
        || !tx.browser_session_counts(session, account).await?
    {
        return Err(ErrorCode::SsoLinkOver.into());
    }
    if tx.hold_role(organization.id, account).await?.is_none() {
        return Err(ErrorCode::SsoNotMember.into());
    }
    let code = match judge_link(&mut tx, &connection, &held.identity, held.doubts, account).await? {
        Link::Linked | Link::WouldLink => {
            tx.delete_held(organization.id, handle).await?;
            tx.commit(now).await?;
            return Ok(Asked::NotNeeded(held.next));
        }
        Link::WouldNot(finding) => finding.code,
    };
    if !may_be_approved(code) {
        return Err(code.into());
    }
    if !tx.request_link(organization.id, handle, session, now).await? {
        return Err(ErrorCode::SsoLinkOver.into());
    }
    let mut details = identity_details(signed_in.account.name(), &held.identity);
    details.push(("code", code.to_string()));
    let asked = entry(organization, AuditAction::OrgSsoLinkRequest, by, details);
    tx.audit_or_count(organization.id, account, asked, now).await?;
    tx.commit(now).await?;
    Ok(Asked::Waiting)
}

/// Which request somebody decides on: the account, and what he was shown of its request.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The account that asks.
    pub account: Account,
    /// The request that was shown, by a page.
    pub request: Option<TokenHash>,
    /// The subject that was shown, by the command line.
    pub subject: Option<String>,
}

/// Finds the chosen request inside the transaction: another one than was shown is refused (V37).
async fn find_request(
    tx: &mut Transaction,
    organization: &Organization,
    chosen: &Chosen,
    now: Timestamp,
) -> Result<LinkRequest, NotDone> {
    let request = load_link_request_of(tx, organization.id, chosen.account.id, now).await?;
    let is_shown = |request: &LinkRequest| {
        chosen.request.is_none_or(|shown| shown == request.held.handle)
            && chosen.subject.as_ref().is_none_or(|shown| *shown == request.held.identity.subject)
    };
    Ok(request.filter(is_shown).ok_or(ErrorCode::SsoLinkOver)?)
}

/// Approves a first link: the member's next single sign-on simply works. `approver` is the admin; `None`: the operator.
///
/// Nobody approves his own, and an identity that is another account's meanwhile stays there. An account that has another
/// identity at this issuer gets this one instead, and what the other one opened is closed.
pub async fn approve(
    app: &App,
    organization: &Organization,
    chosen: &Chosen,
    approver: Option<AccountId>,
    by: &By,
) -> Result<LinkRequest, NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    if approver == Some(chosen.account.id) {
        return Err(ErrorCode::SsoLinkOwn.into());
    }
    let request = find_request(&mut tx, organization, chosen, now).await?;
    let held = &request.held;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SsoLinkOver)?;
    if !held_is_current(&mut tx, &connection, held).await? {
        return Err(ErrorCode::SsoLinkOver.into());
    }
    if tx.hold_role(organization.id, held.account).await?.is_none() {
        return Err(ErrorCode::MembershipMissing.into());
    }
    match judge_link(&mut tx, &connection, &held.identity, held.doubts, held.account).await? {
        Link::Linked => {}
        Link::WouldNot(finding) if !may_be_approved(finding.code) => return Err(finding.code.into()),
        link @ (Link::WouldLink | Link::WouldNot(_)) => {
            if matches!(&link, Link::WouldNot(finding) if finding.code == ErrorCode::SsoAccountLinkedElsewhere)
            {
                unlink_in(&mut tx, organization, &connection, &chosen.account, by, now).await?;
            }
            let approved_by = match &by.actor {
                Actor::Account(_, name) => name.as_str(),
                Actor::Operator(_) | Actor::System => "the operator",
            };
            match tx.insert_identity(connection.id, &held.identity, held.account, now).await {
                Err(StoreError::Conflict) => return Err(ErrorCode::SsoIdentityInUse.into()),
                inserted => inserted?,
            }
            tx.note_approval(connection.id, &held.identity, approved_by).await?;
            let details = link_details(chosen.account.name.as_str(), &held.identity, How::Approval);
            tx.audit(entry(organization, AuditAction::OrgSsoLink, by, details), now).await?;
        }
    }
    tx.delete_held(organization.id, held.handle).await?;
    tx.commit(now).await?;
    Ok(request)
}

/// Refuses a first link: the request is gone; the member may ask again.
pub async fn refuse(
    app: &App,
    organization: &Organization,
    chosen: &Chosen,
    by: &By,
) -> Result<LinkRequest, NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let request = find_request(&mut tx, organization, chosen, now).await?;
    tx.delete_held(organization.id, request.held.handle).await?;
    let details = identity_details(chosen.account.name.as_str(), &request.held.identity);
    tx.audit(entry(organization, AuditAction::OrgSsoLinkRefuse, by, details), now).await?;
    tx.commit(now).await?;
    Ok(request)
}

/// Unlinks an account from its identities at the organization's connection and ends its SSO sessions there. How many
/// identities there were.
pub async fn unlink(
    app: &App,
    organization: &Organization,
    account: &Account,
    by: &By,
) -> Result<usize, NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    let unlinked = unlink_in(&mut tx, organization, &connection, account, by, now).await?;
    if unlinked == 0 {
        return Err(ErrorCode::SsoNotLinked.into());
    }
    tx.commit(now).await?;
    Ok(unlinked)
}

async fn unlink_in(
    tx: &mut Transaction,
    organization: &Organization,
    connection: &Connection,
    account: &Account,
    by: &By,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let identities = tx.delete_identities_of(connection.id, account.id).await?;
    tx.end_sso_of(organization.id, account.id).await?;
    for identity in &identities {
        // Whose it is instead, an admin says, or a proved address: not the person by leaving and joining again.
        tx.put_link_question(connection.id, &identity.issuer, account.id, now).await?;
        let details = identity_details(account.name.as_str(), identity);
        tx.audit(entry(organization, AuditAction::OrgSsoUnlink, by, details), now).await?;
    }
    Ok(identities.len())
}
