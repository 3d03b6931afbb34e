//! The provider's answer: taken once, redeemed, verified, and ended as a test or as a sign-in.
//!
//! Order matters (rules 2, 3, 9): the attempt is taken by its state before the code is redeemed; no transaction is
//! open while the provider is asked; what was true at the start is read again in the transaction that ends the trip.
//! Invariant: every ending leaves one audit event, and one outcome on the spent attempt.

use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{TestOutcome, UserinfoMode, sso_session_ends_at};
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::AccountId;
use doorward_core::membership::Role;
use doorward_core::oidc::{
    self, CallbackAnswer, CallbackParameters, CodeRedemption, Expected, explain_authorization_error,
    judge_issuer, parse_callback,
};
use doorward_core::secret::Secret;

use super::Endpoints;
use super::settings::{By, keeps_provider};
use super::start::{revision_for, sealed_place};
use crate::app::App;
use crate::idp::KeySource;
use crate::refusal::Refusal;
use crate::session::SignedIn;
use crate::store::{
    Attempt, AuditEntry, FrozenEndpoints, Identity, Organization, Purpose, Query, Revision, RevisionTest,
    SpentAttempt, StoreError, Taken, Transaction, load_account_subject, load_connection, load_emails,
    load_identity_account, load_revision, load_test,
};
use crate::web::access::sso_page;
use crate::web::visit::Visit;

/// What the browser is told in the end.
#[derive(Debug)]
pub enum Ending {
    /// Go on there.
    GoTo(String),
    /// Something is in the way.
    Stop(Refusal),
}

impl From<StoreError> for Ending {
    fn from(error: StoreError) -> Self {
        Self::Stop(error.into())
    }
}

/// Whom the provider named, with what only this trip knows of him.
struct Person {
    identity: oidc::Identity,
    claims: Vec<(String, String)>,
}

/// Carries the callback of an organization's redirect URI through to its end.
pub async fn callback(app: &App, organization: &Organization, visit: &Visit, query: &str) -> Ending {
    match run(app, organization, visit, query).await {
        Ok(ending) => ending,
        Err(error) => error.into(),
    }
}

async fn run(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    query: &str,
) -> Result<Ending, StoreError> {
    let again = sso_page(app, organization.name.as_str(), &app.page("/"));
    let parameters = match parse_callback(query) {
        Ok(parameters) => parameters,
        Err(finding) => return Ok(Ending::Stop(Refusal::of(&finding).with_action("Start again", again))),
    };
    let unknown =
        || Ending::Stop(Refusal::new(ErrorCode::SsoAttemptUnknown).with_action("Start again", again.clone()));
    let Some(browser) = visit.browser else { return Ok(unknown()) };

    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let taken = tx.take_attempt(parameters.state.hash(), browser, organization.id, now).await?;
    tx.commit(now).await?;
    let attempt = match taken {
        Taken::Fresh(attempt) => attempt,
        Taken::Expired(attempt) => {
            return fail(
                app,
                organization,
                visit,
                &attempt,
                None,
                Finding::new(Step::Authorization, ErrorCode::SsoAttemptExpired),
            )
            .await;
        }
        Taken::Spent(spent) => return Ok(explain_spent(app, organization, visit, &spent)),
        Taken::Unknown => return take_on_or(app, organization, visit, unknown()).await,
    };
    let signed_in = match &visit.signed_in {
        Some(signed_in) if signed_in.account.id == attempt.account && is_session(signed_in, &attempt) => {
            signed_in
        }
        _ => return superseded(app, organization, visit, &attempt).await,
    };
    let Some(revision) = load_revision(&mut app.store.reader(), organization.id, attempt.revision).await?
    else {
        return superseded(app, organization, visit, &attempt).await;
    };
    let Some(frozen) = revision.endpoints.clone() else {
        return superseded(app, organization, visit, &attempt).await;
    };

    match ask(app, organization, &attempt, &revision, &frozen, parameters).await? {
        Err(finding) => fail(app, organization, visit, &attempt, Some(&revision), finding).await,
        Ok(person) => match attempt.purpose {
            Purpose::Test => {
                end_test(app, organization, visit, signed_in, &attempt, &revision, &frozen, person).await
            }
            Purpose::SignIn => {
                end_sign_in(app, organization, visit, signed_in, &attempt, &revision, person).await
            }
        },
    }
}

fn is_session(signed_in: &SignedIn, attempt: &Attempt) -> bool {
    signed_in.session().is_some_and(|session| session.id == attempt.session)
}

/// From the provider's answer to a verified person, or to the one finding that stopped it.
async fn ask(
    app: &App,
    organization: &Organization,
    attempt: &Attempt,
    revision: &Revision,
    frozen: &FrozenEndpoints,
    parameters: CallbackParameters,
) -> Result<Result<Person, Finding>, StoreError> {
    if let Err(finding) = judge_issuer(parameters.iss.as_deref(), &frozen.issuer, frozen.iss_promised) {
        return Ok(Err(finding));
    }
    let code = match parameters.answer {
        CallbackAnswer::Code(code) => code,
        CallbackAnswer::Error { error, description, subcode } => {
            return Ok(Err(explain_authorization_error(&error, description.as_deref(), subcode.as_deref())));
        }
    };
    let endpoints = Endpoints::of(frozen)?;
    let client_secret = revision.open_secret(attempt.connection, &app.sealing)?;
    let both = app.sealing.open_sealed(sealed_place(&attempt.state.to_text()), &attempt.sealed)?;
    let Some((nonce, verifier)) = both.expose().split_once('.') else {
        return Err(StoreError::Corrupt("a sealed attempt".to_owned()));
    };
    let (nonce, verifier) = (Secret::new(nonce.to_owned()), Secret::new(verifier.to_owned()));
    let redemption = CodeRedemption {
        code: &code,
        redirect_uri: &app.redirect_uri(organization.name.as_str()),
        code_verifier: &verifier,
        client_id: &revision.client_id,
        client_secret: &client_secret,
        auth_method: endpoints.auth_method,
    };
    let tokens = match app.providers.redeem(organization.id, &endpoints.token, &redemption).await {
        Ok(tokens) => tokens,
        Err(finding) => return Ok(Err(finding)),
    };
    let source = KeySource {
        organization: organization.id,
        connection: attempt.connection,
        revision: attempt.revision,
        issuer: frozen.issuer.clone(),
        jwks_uri: endpoints.jwks.clone(),
    };
    let expected = Expected {
        issuer: &frozen.issuer,
        client_id: &revision.client_id,
        nonce: &nonce,
        algorithms: &endpoints.algorithms,
        attempt_started_at: attempt.created_at,
        access_token: tokens.access_token.as_ref(),
        max_age: None,
        acr_values: &[],
        hosted_domains: &revision.hosted_domains,
        entra_tenant: frozen.entra_tenant.as_deref(),
    };
    let verified = match app.providers.verify(&source, &tokens.id_token, &expected, app.clock.now()).await {
        Ok(verified) => verified,
        Err(finding) => return Ok(Err(finding)),
    };
    let email_claim = Some(revision.email_claim.as_str()).filter(|claim| !claim.is_empty());
    let wanted = match revision.userinfo {
        UserinfoMode::Always => true,
        UserinfoMode::WhenNeeded => oidc::Identity::needs_userinfo(&verified, email_claim),
    };
    let userinfo = match (&endpoints.userinfo, &tokens.access_token) {
        (Some(endpoint), Some(access_token)) if wanted => {
            match app.providers.userinfo(organization.id, endpoint, access_token, &verified).await {
                Ok(userinfo) => Some(userinfo),
                Err(finding) => return Ok(Err(finding)),
            }
        }
        _ => None,
    };
    let identity = match oidc::Identity::from_verified(&verified, userinfo.as_ref(), email_claim) {
        Ok(identity) => identity,
        Err(finding) => return Ok(Err(finding)),
    };
    Ok(Ok(Person { identity, claims: verified.claims_for_display() }))
}

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

/// What the provider itself says against linking a person for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubt(ErrorCode);

impl Doubt {
    fn of(identity: &oidc::Identity) -> Option<Self> {
        if identity.is_guest {
            Some(Self(ErrorCode::SsoGuestRefused))
        } else if identity.email.is_some() && identity.email_verified == Some(false) {
            Some(Self(ErrorCode::SsoEmailUnverified))
        } else {
            None
        }
    }

    /// The doubt that a stored test was left with.
    pub fn of_test(test: &RevisionTest) -> Option<Self> {
        let is_doubt =
            |code: &ErrorCode| matches!(code, ErrorCode::SsoGuestRefused | ErrorCode::SsoEmailUnverified);
        test.findings.iter().map(|finding| finding.code).find(is_doubt).map(Self)
    }
}

/// Judges a link (architecture.md §3, Linking). One identity per account and connection, and the reverse.
pub async fn judge_link(
    query: &mut impl Query,
    connection: doorward_core::ids::ConnectionId,
    identity: &Identity,
    doubt: Option<Doubt>,
    account: AccountId,
) -> Result<Link, StoreError> {
    let policy = |code| Finding::new(Step::Policy, code);
    match load_identity_account(query, connection, &identity.issuer, &identity.subject).await? {
        Some(linked) if linked == account => return Ok(Link::Linked),
        Some(_) => return Ok(Link::WouldNot(policy(ErrorCode::SsoIdentityInUse))),
        None => {}
    }
    if load_account_subject(query, connection, &identity.issuer, account).await?.is_some() {
        return Ok(Link::WouldNot(policy(ErrorCode::SsoAccountLinkedElsewhere)));
    }
    if let Some(Doubt(code)) = doubt {
        return Ok(Link::WouldNot(policy(code)));
    }
    let Some(email) = identity.email.as_deref().and_then(|text| Email::parse(text).ok()) else {
        return Ok(Link::WouldNot(policy(ErrorCode::SsoEmailMissing)));
    };
    let proved = load_emails(query, account).await?;
    if proved.iter().any(|own| own.proved_at.is_some() && own.key == email.key()) {
        Ok(Link::WouldLink)
    } else {
        Ok(Link::WouldNot(policy(ErrorCode::SsoEmailNotProved).with("address", email)))
    }
}

fn stored(identity: &oidc::Identity) -> Identity {
    Identity {
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
        sub: identity.sub.clone(),
        email: identity.email.as_ref().map(|email| email.as_str().to_owned()),
        display_name: identity.display_name.clone(),
    }
}

/// Ends a test: the draft has passed, with what the identity would mean. Opens nothing (architecture.md §3), but a
/// harmless change of a live connection goes live at once.
#[expect(clippy::too_many_arguments, reason = "one ending, and all that it was made from")]
async fn end_test(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    signed_in: &SignedIn,
    attempt: &Attempt,
    revision: &Revision,
    frozen: &FrozenEndpoints,
    person: Person,
) -> Result<Ending, StoreError> {
    let now = app.clock.now();
    let identity = stored(&person.identity);
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization.id).await?;
    if !still_admin(&mut tx, organization, attempt).await? {
        drop(tx);
        return superseded(app, organization, visit, attempt).await;
    }
    let doubt = Doubt::of(&person.identity);
    let link = judge_link(&mut tx, attempt.connection, &identity, doubt, attempt.account).await?;
    let findings = match &link {
        Link::Linked | Link::WouldLink => Vec::new(),
        Link::WouldNot(finding) => vec![finding.clone()],
    };
    let test = RevisionTest {
        passed: true,
        findings,
        claims: person.claims,
        account: Some(attempt.account),
        browser: Some(attempt.browser),
        identity: Some(identity.clone()),
    };
    tx.put_test(attempt.connection, attempt.revision, &test, now).await?;
    let by = by(visit, signed_in);
    let outcome = TestOutcome::Passed.as_str().to_owned();
    let details = vec![("revision", attempt.revision.to_string()), ("outcome", outcome)];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoTest, &by, details), now).await?;

    let connection = load_connection(&mut tx, organization.id).await?;
    if let Some(connection) = connection
        && let Some(live) = connection.live.filter(|live| *live != attempt.revision)
        && connection.draft == Some(attempt.revision)
        && link == Link::Linked
        && let Some(live_revision) = load_revision(&mut tx, organization.id, live).await?
        && keeps_provider(&live_revision, revision)
        && tx
            .enable_revision(organization, attempt.revision, Some(live), connection.enforcement, false)
            .await?
    {
        let details = vec![
            ("revision", attempt.revision.to_string()),
            ("enforcement", connection.enforcement.as_str().to_owned()),
            ("issuer", frozen.issuer.clone()),
        ];
        tx.audit(entry(organization, AuditAction::OrgSettingsSsoEnable, &by, details), now).await?;
    }
    tx.note_outcome(attempt.state, "ok").await?;
    tx.commit(now).await?;
    app.metrics.sso_attempt(Purpose::Test, Ok(()));
    Ok(Ending::GoTo(attempt.next.clone()))
}

/// Ends a sign-in: the browser session has an SSO session for this organization, and nothing else has changed (rule 4).
async fn end_sign_in(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    signed_in: &SignedIn,
    attempt: &Attempt,
    revision: &Revision,
    person: Person,
) -> Result<Ending, StoreError> {
    let now = app.clock.now();
    let identity = stored(&person.identity);
    let mut tx = app.store.begin().await?;
    // Nobody enables, disables or removes meanwhile; and all who lock more than this lock it first.
    tx.lock_organization(organization.id).await?;
    let connection = load_connection(&mut tx, organization.id).await?;
    // The revision is still the live one; or the live one differs in its secret alone.
    let connection = match connection {
        Some(connection) if connection.live.is_some() => connection,
        _ => {
            drop(tx);
            return superseded(app, organization, visit, attempt).await;
        }
    };
    let allowed = match revision_for(&connection, Purpose::SignIn) {
        Some(live) if live == attempt.revision => true,
        Some(live) => {
            let live = load_revision(&mut tx, organization.id, live).await?;
            live.is_some_and(|live| keeps_provider(&live, revision))
        }
        None => false,
    };
    if !allowed || !tx.browser_session_counts(attempt.session, attempt.account).await? {
        drop(tx);
        return superseded(app, organization, visit, attempt).await;
    }
    if tx.hold_role(organization.id, attempt.account).await?.is_none() {
        drop(tx);
        let finding = Finding::new(Step::Policy, ErrorCode::SsoNotMember);
        return fail(app, organization, visit, attempt, Some(revision), finding).await;
    }
    let by = by(visit, signed_in);
    let doubt = Doubt::of(&person.identity);
    match judge_link(&mut tx, attempt.connection, &identity, doubt, attempt.account).await? {
        Link::Linked => tx.update_identity(attempt.connection, &identity).await?,
        Link::WouldLink => {
            match tx.insert_identity(attempt.connection, &identity, attempt.account, now).await {
                Ok(()) => {}
                Err(StoreError::Conflict) => {
                    drop(tx);
                    let finding = Finding::new(Step::Policy, ErrorCode::SsoIdentityInUse);
                    return fail(app, organization, visit, attempt, Some(revision), finding).await;
                }
                Err(error) => return Err(error),
            }
            let details = link_details(&signed_in.account.name, &identity);
            tx.audit(entry(organization, AuditAction::OrgSsoLink, &by, details), now).await?;
        }
        Link::WouldNot(finding) => {
            drop(tx);
            return fail(app, organization, visit, attempt, Some(revision), finding).await;
        }
    }
    tx.put_sso_session(
        attempt.session,
        attempt.account,
        organization.id,
        connection.epoch,
        &identity.issuer,
        &identity.subject,
        now,
    )
    .await?;
    let mut details = link_details(&signed_in.account.name, &identity);
    details.remove(0);
    tx.audit(entry(organization, AuditAction::OrgSsoLogin, &by, details), now).await?;
    tx.note_outcome(attempt.state, "ok").await?;
    tx.commit(now).await?;
    app.metrics.sso_attempt(Purpose::SignIn, Ok(()));
    Ok(Ending::GoTo(attempt.next.clone()))
}

/// What the audit log says of a link.
pub(super) fn link_details(account: &str, identity: &Identity) -> Vec<(&'static str, String)> {
    vec![
        ("account", account.to_owned()),
        ("issuer", identity.issuer.clone()),
        ("subject", identity.subject.clone()),
        ("email", identity.email.clone().unwrap_or_default()),
    ]
}

async fn still_admin(
    tx: &mut Transaction,
    organization: &Organization,
    attempt: &Attempt,
) -> Result<bool, StoreError> {
    Ok(tx.browser_session_counts(attempt.session, attempt.account).await?
        && tx.hold_role(organization.id, attempt.account).await? == Some(Role::Admin)
        && load_connection(tx, organization.id).await?.is_some())
}

/// What changed under the trip is nobody's fault (rule 18).
async fn superseded(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    attempt: &Attempt,
) -> Result<Ending, StoreError> {
    let finding = Finding::new(Step::Policy, ErrorCode::SsoAttemptSuperseded);
    fail(app, organization, visit, attempt, None, finding).await
}

/// Ends a trip without a session: one audit event, the outcome noted, and a page or, after a test, the settings page
/// with the finding. `revision` is given when the fault says something about it.
async fn fail(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    attempt: &Attempt,
    revision: Option<&Revision>,
    finding: Finding,
) -> Result<Ending, StoreError> {
    let now = app.clock.now();
    tracing::info!(code = %finding.code, step = finding.step.as_str(), purpose = attempt.purpose.as_str(), "an attempt ended without a session");
    let actor = match &visit.signed_in {
        Some(signed_in) if signed_in.account.id == attempt.account => signed_in.actor(),
        _ => crate::store::Actor::System,
    };
    let by = By { actor, address: visit.address, request_id: Some(visit.request_id.clone()) };
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization.id).await?;
    tx.note_outcome(attempt.state, finding.code.as_str()).await?;
    let mut details = vec![("code", finding.code.to_string()), ("step", finding.step.as_str().to_owned())];
    let ending = match attempt.purpose {
        Purpose::Test => {
            details.insert(0, ("outcome", TestOutcome::Failed.as_str().to_owned()));
            details.insert(0, ("revision", attempt.revision.to_string()));
            tx.audit(entry(organization, AuditAction::OrgSettingsSsoTest, &by, details), now).await?;
            match revision {
                Some(revision) => {
                    // A later failure doesn't take back what a passed test has shown of the same revision while live.
                    let is_live = load_connection(&mut tx, organization.id)
                        .await?
                        .is_some_and(|c| c.live == Some(revision.number));
                    let passed = load_test(&mut tx, organization.id, revision.number)
                        .await?
                        .is_some_and(|t| t.test.passed);
                    if !(is_live && passed && finding.code == ErrorCode::OidcCancelled) {
                        let test = RevisionTest {
                            passed: false,
                            findings: vec![finding.clone()],
                            claims: Vec::new(),
                            account: Some(attempt.account),
                            browser: Some(attempt.browser),
                            identity: None,
                        };
                        tx.put_test(attempt.connection, revision.number, &test, now).await?;
                    }
                    Ending::GoTo(attempt.next.clone())
                }
                None => Ending::Stop(
                    Refusal::of(&finding).with_action("Back to the settings", attempt.next.clone()),
                ),
            }
        }
        Purpose::SignIn => {
            tx.audit(entry(organization, AuditAction::OrgSsoLoginFailed, &by, details), now).await?;
            let again = sso_page(app, organization.name.as_str(), &attempt.next);
            Ending::Stop(Refusal::of(&finding).with_action("Start again", again))
        }
    };
    tx.commit(now).await?;
    app.metrics.sso_attempt(attempt.purpose, Err(finding.code));
    Ok(ending)
}

/// A reload, a second tab, or the back button (rule 18): whoever is through already is simply taken on.
fn explain_spent(app: &App, organization: &Organization, visit: &Visit, spent: &SpentAttempt) -> Ending {
    let own = visit.signed_in.as_ref().is_some_and(|signed_in| signed_in.account.id == spent.account);
    let code = ErrorCode::from_code(&spent.outcome);
    if own && (spent.outcome == "ok" || spent.purpose == Purpose::Test) {
        return Ending::GoTo(spent.next.clone());
    }
    let again = sso_page(app, organization.name.as_str(), &spent.next);
    Ending::Stop(Refusal::new(code.unwrap_or(ErrorCode::SsoAttemptSpent)).with_action("Start again", again))
}

/// An unknown state is no matter where the session is good already, or where no SSO is needed any more (rule 18).
async fn take_on_or(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    otherwise: Ending,
) -> Result<Ending, StoreError> {
    let now = app.clock.now();
    let connection = load_connection(&mut app.store.reader(), organization.id).await?;
    let is_off = visit.signed_in.is_some() && connection.is_some_and(|connection| connection.live.is_none());
    let is_good = visit.signed_in.as_ref().and_then(SignedIn::session).is_some_and(|session| {
        session.sso.iter().any(|sso| {
            sso.organization == organization.id
                && now < sso_session_ends_at(sso.authenticated_at, organization.session_timeout)
        })
    });
    Ok(if is_good || is_off { Ending::GoTo(app.page("/")) } else { otherwise })
}

fn by(visit: &Visit, signed_in: &SignedIn) -> By {
    By { actor: signed_in.actor(), address: visit.address, request_id: Some(visit.request_id.clone()) }
}

/// An audit entry of this organization.
pub(super) fn entry(
    organization: &Organization,
    action: AuditAction,
    by: &By,
    details: Vec<(&'static str, String)>,
) -> AuditEntry {
    AuditEntry {
        organization: Some(organization.id),
        action,
        actor: by.actor.clone(),
        details,
        address: by.address,
        request_id: by.request_id.clone(),
    }
}
