//! The provider's answer: taken once, redeemed, verified, and ended as a test or as a sign-in.
//!
//! Order matters (rules 2, 3, 9): the attempt is taken by its state before the code is redeemed; no transaction is
//! open while the provider is asked; what was true at the start is read again in the transaction that ends the trip.
//! Invariant: every ending leaves one audit event, or is counted in one (`store/counted_events.rs`), and one outcome on the
//! spent attempt.

use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{TestOutcome, UserinfoMode, sso_session_ends_at};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::membership::Role;
use doorward_core::oidc::{
    self, CallbackAnswer, CallbackParameters, CodeRedemption, Expected, explain_authorization_error,
    judge_issuer, parse_callback,
};
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;

use super::Endpoints;
use super::join::refusal_to_confirm;
use super::linking::{How, Link, findings_of, judge_link, link_details, may_be_approved};
use super::settings::{By, keeps_provider};
use super::start::{revision_for, sealed_place};
use crate::app::App;
use crate::idp::KeySource;
use crate::refusal::Refusal;
use crate::session::SignedIn;
use crate::store::{
    Actor, Attempt, AuditEntry, Connection, FrozenEndpoints, HeldIdentity, Identity, Organization, Purpose,
    Revision, RevisionTest, SpentAttempt, StoreError, Taken, Transaction, attempt_is_open, load_connection,
    load_link_request_of, load_name, load_revision, load_role, load_spent_attempt, load_test,
};
use crate::web::access::{join_confirm_page, link_page, sso_page};
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

/// How a trip ends that was verified to its end.
enum Ended {
    /// With what it was for.
    Done,
    /// Whom the provider named is held: a person decides, there.
    Held { why: ErrorCode, decide_at: String },
    /// The person himself confirms there that he joins as whom the provider named.
    ToConfirm { at: String },
}

/// Why a trip ends without what it was for.
enum Stopped {
    /// Something is wrong with the settings, at the provider, or with the person.
    Finding(Finding),
    /// What the trip began under is no more; nobody's fault (rule 18).
    Superseded,
    /// The store.
    Store(StoreError),
}

impl From<Finding> for Stopped {
    fn from(finding: Finding) -> Self {
        Self::Finding(finding)
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One trip back from the provider, with what it runs under.
#[derive(Clone, Copy)]
struct Trip<'a> {
    app: &'a App,
    organization: &'a Organization,
    attempt: &'a Attempt,
    signed_in: &'a SignedIn,
    revision: &'a Revision,
    frozen: &'a FrozenEndpoints,
    by: &'a By,
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

    let taken = take(app, organization, browser, &parameters).await?;
    let (attempt, ended) = match taken {
        Taken::Fresh(attempt) => {
            let ended = end(app, organization, visit, &attempt, parameters).await;
            (attempt, ended)
        }
        Taken::Expired(attempt) => {
            let expired = Finding::new(Step::Authorization, ErrorCode::SsoAttemptExpired);
            return fail(app, organization, visit, &attempt, expired, false).await;
        }
        Taken::Spent(spent) => return Ok(explain_spent(app, organization, visit, &spent)),
        Taken::Unknown => return take_on_or(app, organization, visit, unknown()).await,
    };
    match ended {
        Ok(Ended::Done) => {
            app.metrics.sso_attempt(attempt.purpose, Ok(()));
            Ok(Ending::GoTo(attempt.next.clone()))
        }
        Ok(Ended::ToConfirm { at }) => {
            app.metrics.sso_attempt(attempt.purpose, Ok(()));
            Ok(Ending::GoTo(at))
        }
        Ok(Ended::Held { why, decide_at }) => {
            app.metrics.sso_attempt(attempt.purpose, Err(why));
            Ok(Ending::GoTo(decide_at))
        }
        Err(Stopped::Finding(finding)) => fail(app, organization, visit, &attempt, finding, true).await,
        Err(Stopped::Superseded) => {
            let finding = Finding::new(Step::Policy, ErrorCode::SsoAttemptSuperseded);
            fail(app, organization, visit, &attempt, finding, false).await
        }
        Err(Stopped::Store(error)) => Err(error),
    }
}

/// Takes the attempt of this state: once, and before anything else is done. What can't be one is only read about, so
/// that strangers who make up states never keep others from writing (rule 9).
async fn take(
    app: &App,
    organization: &Organization,
    browser: TokenHash,
    parameters: &CallbackParameters,
) -> Result<Taken, StoreError> {
    let state = parameters.state.hash();
    let mut reader = app.store.reader();
    if !attempt_is_open(&mut reader, state, browser, organization.id).await? {
        let spent = load_spent_attempt(&mut reader, state, browser, organization.id).await?;
        return Ok(spent.map_or(Taken::Unknown, Taken::Spent));
    }
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let taken = tx.take_attempt(state, browser, organization.id, now).await?;
    tx.commit(now).await?;
    Ok(taken)
}

/// From a taken attempt to its end; the purpose is read here, after everything was verified.
async fn end(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    attempt: &Attempt,
    parameters: CallbackParameters,
) -> Result<Ended, Stopped> {
    let is_the_one = |signed_in: &&SignedIn| {
        signed_in.account.id == attempt.account
            && signed_in.session().is_some_and(|session| session.id == attempt.session)
    };
    let signed_in = visit.signed_in.as_ref().filter(is_the_one).ok_or(Stopped::Superseded)?;
    let revision = load_revision(&mut app.store.reader(), organization.id, attempt.revision).await?;
    let revision = revision.as_ref().ok_or(Stopped::Superseded)?;
    let frozen = revision.endpoints.as_ref().ok_or(Stopped::Superseded)?;
    let by = &By {
        actor: signed_in.actor(),
        session: signed_in.session().map(|s| s.id),
        address: visit.address,
        request_id: Some(visit.request_id.clone()),
    };
    let trip = Trip { app, organization, attempt, signed_in, revision, frozen, by };

    let person = trip.ask(parameters).await?;
    match attempt.purpose {
        Purpose::Test => trip.end_test(person).await,
        Purpose::SignIn => trip.end_sign_in(person).await,
        Purpose::Join => trip.end_join(person).await,
    }
}

impl Trip<'_> {
    /// From the provider's answer to a verified person, or to the one finding that stopped it.
    async fn ask(self, parameters: CallbackParameters) -> Result<Person, Stopped> {
        let Self { app, organization, attempt, revision, frozen, .. } = self;
        judge_issuer(parameters.iss.as_deref(), &frozen.issuer, frozen.iss_promised)?;
        let code = match parameters.answer {
            CallbackAnswer::Code(code) => code,
            CallbackAnswer::Error { error, description, subcode } => {
                return Err(
                    explain_authorization_error(&error, description.as_deref(), subcode.as_deref()).into()
                );
            }
        };
        let endpoints = Endpoints::of(frozen)?;
        let client_secret = revision
            .usable_secret(attempt.connection, &app.sealing)
            .ok_or_else(|| Finding::new(Step::Settings, ErrorCode::SettingsClientSecretMissing))?;
        let (nonce, verifier) = self.open_sealed()?;
        let redemption = CodeRedemption {
            code: &code,
            redirect_uri: &app.redirect_uri(organization.name.as_str()),
            code_verifier: &verifier,
            client_id: &revision.client_id,
            client_secret: &client_secret,
            auth_method: endpoints.auth_method,
        };
        let tokens = app.providers.redeem(organization.id, &endpoints.token, &redemption).await?;
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
        let verified = app.providers.verify(&source, &tokens.id_token, &expected, app.clock.now()).await?;
        let email_claim = Some(revision.email_claim.as_str()).filter(|claim| !claim.is_empty());
        let wanted = match revision.userinfo {
            UserinfoMode::Always => true,
            UserinfoMode::WhenNeeded => oidc::Identity::needs_userinfo(&verified, email_claim),
        };
        let userinfo = match (&endpoints.userinfo, &tokens.access_token) {
            (Some(endpoint), Some(access_token)) if wanted => {
                Some(app.providers.userinfo(organization.id, endpoint, access_token, &verified).await?)
            }
            _ => None,
        };
        let identity = oidc::Identity::from_verified(&verified, userinfo.as_ref(), email_claim)?;
        Ok(Person { identity, claims: verified.claims_for_display() })
    }

    /// The attempt's nonce and PKCE verifier. One that does not open is begun anew; the operator reads why in the log.
    fn open_sealed(self) -> Result<(Secret, Secret), Stopped> {
        let state = self.attempt.state.to_text();
        let opened = self.app.sealing.open_sealed(sealed_place(&state), &self.attempt.sealed);
        let both = opened.map_err(|error| {
            tracing::error!(%error, organization = %self.organization.name, "an attempt does not open");
            Stopped::Superseded
        })?;
        let (nonce, verifier) = both
            .expose()
            .split_once('.')
            .ok_or_else(|| StoreError::Corrupt("a sealed attempt".to_owned()))?;
        Ok((Secret::new(nonce.to_owned()), Secret::new(verifier.to_owned())))
    }

    /// Ends a test: the draft has passed, with what the identity would mean. Opens nothing (architecture.md §3), but a
    /// harmless change of a live connection goes live at once.
    async fn end_test(self, person: Person) -> Result<Ended, Stopped> {
        let Self { app, organization, attempt, revision, frozen, by, .. } = self;
        let now = app.clock.now();
        let identity = stored(&person.identity);
        let mut tx = app.store.begin().await?;
        tx.lock_organization(organization.id).await?;
        let still_admin = tx.browser_session_counts(attempt.session, attempt.account).await?
            && tx.hold_role(organization.id, attempt.account).await? == Some(Role::Admin);
        let connection = load_connection(&mut tx, organization.id).await?.filter(|_| still_admin);
        let connection = connection.ok_or(Stopped::Superseded)?;
        let doubts = person.identity.doubts();
        let link = judge_link(&mut tx, &connection, &identity, doubts, attempt.account).await?;
        let test = RevisionTest {
            passed: true,
            findings: findings_of(&link, doubts),
            claims: person.claims,
            account: Some(attempt.account),
            browser: Some(attempt.browser),
            identity: Some(identity),
        };
        tx.put_test(attempt.connection, attempt.revision, &test, now).await?;
        let outcome = TestOutcome::Passed.as_str().to_owned();
        let details = vec![("revision", attempt.revision.to_string()), ("outcome", outcome)];
        tx.audit(entry(organization, AuditAction::OrgSettingsSsoTest, by, details), now).await?;

        if let Some(live) = connection.live.filter(|live| *live != attempt.revision)
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
            tx.audit(entry(organization, AuditAction::OrgSettingsSsoEnable, by, details), now).await?;
        }
        tx.note_outcome(attempt.state, "ok").await?;
        tx.commit(now).await?;
        Ok(Ended::Done)
    }

    /// Ends a sign-in: the browser session has an SSO session for this organization, and nothing else has changed
    /// (rule 4).
    async fn end_sign_in(self, person: Person) -> Result<Ended, Stopped> {
        let Self { app, organization, attempt, signed_in, by, .. } = self;
        let policy = |code| Stopped::Finding(Finding::new(Step::Policy, code));
        let now = app.clock.now();
        let identity = stored(&person.identity);
        let mut tx = app.store.begin().await?;
        let connection = self.lock_and_judge(&mut tx).await?;
        if tx.hold_role(organization.id, attempt.account).await?.is_none() {
            return Err(policy(ErrorCode::SsoNotMember));
        }
        let doubts = person.identity.doubts();
        match judge_link(&mut tx, &connection, &identity, doubts, attempt.account).await? {
            Link::Linked => tx.update_identity(attempt.connection, &identity).await?,
            Link::WouldLink => {
                match tx.insert_identity(attempt.connection, &identity, attempt.account, now).await {
                    Err(StoreError::Conflict) => return Err(policy(ErrorCode::SsoIdentityInUse)),
                    inserted => inserted?,
                }
                // Whatever was asked before is answered by this.
                tx.delete_held_of(organization.id, attempt.account).await?;
                let details = link_details(signed_in.account.name(), &identity, How::Address);
                tx.audit(entry(organization, AuditAction::OrgSsoLink, by, details), now).await?;
            }
            Link::WouldNot(finding) if may_be_approved(finding.code) => {
                return self.end_held(tx, &person, &finding, now).await;
            }
            Link::WouldNot(finding) => return Err(finding.into()),
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
        let details = vec![
            ("issuer", identity.issuer.clone()),
            ("subject", identity.subject.clone()),
            ("email", identity.email.clone().unwrap_or_default()),
        ];
        tx.audit(entry(organization, AuditAction::OrgSsoLogin, by, details), now).await?;
        tx.note_outcome(attempt.state, "ok").await?;
        tx.commit(now).await?;
        Ok(Ended::Done)
    }

    /// Locks the organization, so that nobody enables, disables or removes meanwhile (all who lock more lock it first),
    /// and reads again what the trip began under: the connection, if its live revision is still the trip's or differs
    /// in its secret alone, and if the browser session counts.
    async fn lock_and_judge(self, tx: &mut Transaction) -> Result<Connection, Stopped> {
        let Self { organization, attempt, revision, .. } = self;
        tx.lock_organization(organization.id).await?;
        let connection = load_connection(tx, organization.id).await?.ok_or(Stopped::Superseded)?;
        let live = revision_for(&connection, attempt.purpose).ok_or(Stopped::Superseded)?;
        let allowed = live == attempt.revision
            || load_revision(tx, organization.id, live)
                .await?
                .is_some_and(|live| keeps_provider(&live, revision));
        if !allowed || !tx.browser_session_counts(attempt.session, attempt.account).await? {
            return Err(Stopped::Superseded);
        }
        Ok(connection)
    }

    /// Ends the trip of somebody who holds the join link: nothing is made before he has seen whom the provider named.
    async fn end_join(self, person: Person) -> Result<Ended, Stopped> {
        let Self { app, organization, attempt, .. } = self;
        let policy = |code| Stopped::Finding(Finding::new(Step::Policy, code));
        let now = app.clock.now();
        let mut tx = app.store.begin().await?;
        let connection = self.lock_and_judge(&mut tx).await?;
        if load_role(&mut tx, organization.id, attempt.account).await?.is_some() {
            // Somebody has added him meanwhile: an ordinary sign-in.
            drop(tx);
            return self.end_sign_in(person).await;
        }
        let came_by = attempt.join_link.ok_or(Stopped::Superseded)?;
        if tx.join_link_that_counts(organization.id, came_by).await?.is_none() {
            return Err(policy(ErrorCode::JoinUnknown));
        }
        let identity = stored(&person.identity);
        let doubts = person.identity.doubts();
        match judge_link(&mut tx, &connection, &identity, doubts, attempt.account).await? {
            Link::WouldNot(why) => {
                let refused = refusal_to_confirm(&mut tx, &connection, &identity, attempt.account, why);
                if let Some(refused) = refused.await? {
                    return Err(refused.into());
                }
            }
            Link::Linked | Link::WouldLink => {}
        }
        let handle = app.random.token().map_err(StoreError::from)?;
        tx.hold_identity(&self.held(&person, handle.hash(), now)).await?;
        tx.note_held_join(handle.hash(), came_by).await?;
        tx.note_outcome(attempt.state, "ok").await?;
        tx.commit(now).await?;
        Ok(Ended::ToConfirm { at: join_confirm_page(app, organization.name.as_str(), &handle) })
    }

    /// Ends a sign-in whose link somebody has to decide on: the identity is held, and the page that asks is next.
    async fn end_held(
        self,
        mut tx: Transaction,
        person: &Person,
        finding: &Finding,
        now: Timestamp,
    ) -> Result<Ended, Stopped> {
        let Self { app, organization, attempt, by, .. } = self;
        let name = organization.name.as_str();
        let open = load_link_request_of(&mut tx, organization.id, attempt.account, now).await?;
        let decide_at = if open.is_some_and(|open| {
            open.held.identity.issuer == person.identity.issuer
                && open.held.identity.subject == person.identity.subject
        }) {
            // The admins were asked about this very identity: the question stays where it is.
            link_page(app, name, None)
        } else {
            let handle = app.random.token().map_err(StoreError::from)?;
            // What waits for an admin is a link, also where he set out to join and was added meanwhile.
            let held = HeldIdentity { purpose: Purpose::SignIn, ..self.held(person, handle.hash(), now) };
            tx.hold_identity(&held).await?;
            link_page(app, name, Some(&handle))
        };
        let details = vec![("code", finding.code.to_string()), ("step", finding.step.as_str().to_owned())];
        let failed = entry(organization, AuditAction::OrgSsoLoginFailed, by, details);
        tx.audit_or_count(organization.id, attempt.account, failed, now).await?;
        tx.note_outcome(attempt.state, finding.code.as_str()).await?;
        tx.commit(now).await?;
        Ok(Ended::Held { why: finding.code, decide_at })
    }

    /// Whom the provider named, with all that a decision about it is pinned to (conformance.md V37).
    fn held(self, person: &Person, handle: TokenHash, now: Timestamp) -> HeldIdentity {
        let attempt = self.attempt;
        HeldIdentity {
            handle,
            organization: attempt.organization,
            connection: attempt.connection,
            revision: attempt.revision,
            purpose: attempt.purpose,
            account: attempt.account,
            session: Some(attempt.session),
            identity: stored(&person.identity),
            doubts: person.identity.doubts(),
            next: attempt.next.clone(),
            created_at: now,
            requested_at: None,
        }
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

/// Ends a trip without a session: noted for the audit log, the outcome noted, and a page or, after a test, the settings page
/// with the finding. `is_about_revision`: the finding says something about the revision that was tested.
async fn fail(
    app: &App,
    organization: &Organization,
    visit: &Visit,
    attempt: &Attempt,
    finding: Finding,
    is_about_revision: bool,
) -> Result<Ending, StoreError> {
    let now = app.clock.now();
    tracing::info!(code = %finding.code, step = finding.step.as_str(), purpose = attempt.purpose.as_str(), "an attempt ended without a session");
    let actor = match &visit.signed_in {
        Some(signed_in) if signed_in.account.id == attempt.account => signed_in.actor(),
        _ => Actor::System,
    };
    let by = By { actor, session: None, address: visit.address, request_id: Some(visit.request_id.clone()) };
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization.id).await?;
    tx.note_outcome(attempt.state, finding.code.as_str()).await?;
    let mut details = vec![("code", finding.code.to_string()), ("step", finding.step.as_str().to_owned())];
    if by.actor == Actor::System {
        // Who comes back is not who set out: whose trip it was is said beside.
        let id = attempt.account.to_string();
        details.push(("account", load_name(&mut tx, &id).await?.unwrap_or(id)));
    }
    let ending = match attempt.purpose {
        Purpose::Test => {
            details.insert(0, ("outcome", TestOutcome::Failed.as_str().to_owned()));
            details.insert(0, ("revision", attempt.revision.to_string()));
            tx.audit(entry(organization, AuditAction::OrgSettingsSsoTest, &by, details), now).await?;
            if is_about_revision {
                note_failed_test(&mut tx, organization, attempt, &finding, now).await?;
                Ending::GoTo(attempt.next.clone())
            } else {
                let back = attempt.next.clone();
                Ending::Stop(Refusal::of(&finding).with_action("Back to the settings", back))
            }
        }
        Purpose::SignIn => {
            let failed = entry(organization, AuditAction::OrgSsoLoginFailed, &by, details);
            tx.audit_or_count(organization.id, attempt.account, failed, now).await?;
            let again = sso_page(app, organization.name.as_str(), &attempt.next);
            Ending::Stop(Refusal::of(&finding).with_action("Start again", again))
        }
        Purpose::Join => {
            details.push(("purpose", attempt.purpose.as_str().to_owned()));
            let failed = entry(organization, AuditAction::OrgSsoLoginFailed, &by, details);
            tx.audit_or_count(organization.id, attempt.account, failed, now).await?;
            Ending::Stop(Refusal::of(&finding).with_action("Your organizations", app.page("/")))
        }
    };
    tx.commit(now).await?;
    app.metrics.sso_attempt(attempt.purpose, Err(finding.code));
    Ok(ending)
}

/// Stores the failed test; but who merely turns back at the provider doesn't take back what a passed test has shown of
/// the live revision.
async fn note_failed_test(
    tx: &mut Transaction,
    organization: &Organization,
    attempt: &Attempt,
    finding: &Finding,
    now: Timestamp,
) -> Result<(), StoreError> {
    let live = load_connection(tx, organization.id).await?.and_then(|connection| connection.live);
    let passed =
        load_test(tx, organization.id, attempt.revision).await?.is_some_and(|stored| stored.test.passed);
    if live == Some(attempt.revision) && passed && finding.code == ErrorCode::OidcCancelled {
        return Ok(());
    }
    let test = RevisionTest {
        passed: false,
        findings: vec![finding.clone()],
        claims: Vec::new(),
        account: Some(attempt.account),
        browser: Some(attempt.browser),
        identity: None,
    };
    tx.put_test(attempt.connection, attempt.revision, &test, now).await
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
                && now < sso_session_ends_at(sso.authenticated_at(), organization.session_timeout)
        })
    });
    Ok(if is_good || is_off { Ending::GoTo(app.page("/")) } else { otherwise })
}

/// An audit entry of this organization.
pub(crate) fn entry(
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
