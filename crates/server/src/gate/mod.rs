//! What happens to a request for an application: one way from question to answer, for every adapter.
//!
//! An adapter reads a `Question` from its proxy's headers and writes the `Answer` in its proxy's dialect; what is
//! between is here, and the decision itself is core's `decide`. Every error ends in a refusal, never in an allow
//! (rule 15). Never here: identity providers, pages.

pub mod assertion;
pub(crate) mod auth_request;
mod caller;
pub mod explain;
mod ext_authz;
mod forward_auth;
mod identity;
mod listener;
mod passed_on;

pub use identity::Identity;
pub use listener::{door, respond};

use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::{
    AccountFacts, Credential, Decision, Facts, Owner, Permit, SsoSession, Step, decide,
};
use doorward_core::ids::AccountId;
use doorward_core::membership::Role;
use doorward_core::request_target::{
    Ambiguous, Method, NormalisedPath, Target, is_allowed_upgrade, is_navigation, normalise_path,
};
use doorward_core::time::Timestamp;
use http::header::{ACCEPT, COOKIE, UPGRADE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::sync::Arc;

use crate::app::{App, SharedApp};
use crate::configuration::Application;
use crate::header_names::{SEC_FETCH_MODE, X_REQUESTED_WITH};
use crate::metrics::GateOutcome;
use crate::store::{self, StoreError};
use assertion::Ready;
use caller::{At, Caller};

/// What an adapter has read: one request for an application.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The application, found by the request's host.
    pub application: &'a Application,
    /// The request's host, as `normalise_host` writes it.
    pub host: Cow<'a, str>,
    /// The method, as sent.
    pub method: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
    /// The request's headers: cookies, and what tells a navigation from a fetch.
    pub headers: &'a HeaderMap,
}

/// The gate's answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// What happens.
    pub outcome: Outcome,
    /// The complete set of identity headers, empty where nothing is known.
    pub identity: Identity,
    /// A browser's address bar waits: a redirect or a page helps. Otherwise a problem document does.
    pub navigation: bool,
    /// A personal access token was sent: a program asks, whatever else it says of itself, and gets no page.
    pub by_token: bool,
    /// A browser asks, which would show a dialogue of its own for the challenge `Basic`.
    pub browser: bool,
    /// Whom an allow tells of: nobody in every other answer.
    pub told: Told,
}

/// What an allow tells the application of the person, as far as what runs on rests on it. The organization is the path's,
/// whose name is never given again (rule 7).
#[derive(Clone, Copy, Default, Debug)]
pub struct Told {
    account: Option<AccountId>,
    /// In the path's organization.
    role: Option<Role>,
}

impl Told {
    fn by(permit: &Permit<'_>) -> Self {
        Self {
            account: permit.account().map(|account| account.id),
            role: permit.place().map(|place| place.role),
        }
    }

    /// Whether it is so still: the same account, with a role that is no lower. Whoever is told more now may go on.
    fn holds(self, now: Self) -> bool {
        (self.account.is_none() || self.account == now.account) && now.role >= self.role
    }
}

/// Writes an answer that is no allow for the browser that waits for it. The pages' side gives it to the gate, which knows
/// no pages.
pub type WriteAnswer = fn(&SharedApp, &Parts, &Answer) -> Response;

/// What happens to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Allow,
    /// The person signs in, or completes SSO, at this address.
    Authenticate {
        /// `account.sign_in_needed` or `sso.required`; for a token, `token.invalid` or
        /// `token.sso_authorization_required`.
        code: ErrorCode,
        /// Where.
        location: String,
    },
    /// It does not go on.
    Refuse(ErrorCode),
}

impl Answer {
    /// A refusal that was reached without a decision.
    pub fn refused(code: ErrorCode, navigation: bool) -> Self {
        Self {
            outcome: Outcome::Refuse(code),
            identity: Identity::nobody(),
            navigation,
            by_token: false,
            browser: false,
            told: Told::default(),
        }
    }
}

/// Answers one question, and counts it.
pub async fn ask(app: &SharedApp, question: &Question<'_>) -> Answer {
    let stopwatch = app.clock.stopwatch();
    let navigation = question_is_navigation(question);
    let now = app.clock.now_on(&stopwatch);
    let answer = match answer(app, question, navigation, now).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "the gate can't ask the store");
            app.metrics.store_error();
            Answer::refused(ErrorCode::GateStoreUnavailable, navigation)
        }
    };
    let outcome = match &answer.outcome {
        Outcome::Allow => GateOutcome::Allow,
        Outcome::Authenticate {
            code: ErrorCode::SsoRequired | ErrorCode::TokenSsoAuthorizationRequired,
            ..
        } => GateOutcome::CompleteSso,
        Outcome::Authenticate { .. } => GateOutcome::SignIn,
        Outcome::Refuse(ErrorCode::GateStoreUnavailable) => GateOutcome::Unavailable,
        Outcome::Refuse(ErrorCode::GateForbidden) => GateOutcome::Deny,
        Outcome::Refuse(_) => GateOutcome::Refused,
    };
    app.metrics.gate_answer(Some(question.application.name()), outcome, stopwatch.elapsed());
    answer
}

/// Whether a request that was let through would be let through now, and what the application was told then is still so:
/// for cutting running streams. Counted nowhere. `None`: the store can't be asked.
pub async fn is_still_allowed(app: &SharedApp, question: &Question<'_>, told: Told) -> Option<bool> {
    let answer = answer(app, question, false, app.clock.now()).await.ok()?;
    Some(answer.outcome == Outcome::Allow && told.holds(answer.told))
}

async fn answer(
    app: &SharedApp,
    question: &Question<'_>,
    navigation: bool,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    // Step 1: what the request is for.
    let (method, path) = match read(question) {
        Ok(read) => read,
        Err(unreadable) => return Ok(Answer::refused(unreadable.code(), navigation)),
    };
    let target = match question.application.gate.target(method, &question.host, &path) {
        Ok((target, _)) => target,
        Err(ambiguous) => return Ok(Answer::refused(ambiguous.code(), navigation)),
    };

    // What is known of the account, the organization and the resource.
    let host = (!is_on_own_host(app, question)).then_some(&*question.host);
    let caller = Caller::of(app, question.headers, host, now).await?;
    // Whoever sends a token is a program: it is never led to a page.
    let navigation = navigation && !caller.is_token();
    let place = Place::of(app, &target, now).await?;
    let known = Known { target: &target, caller: &caller, place: &place, now };
    if let Some(answer) = decided(app, question, &known, navigation, None)? {
        return Ok(answer);
    }
    let ready = Box::pin(app.assertions.make_ready(app, &caller, now)).await?;
    let answer = decided(app, question, &known, navigation, Some(&ready))?;
    answer.ok_or_else(|| StoreError::Corrupt("assertion".to_owned()))
}

/// What a request is decided by.
#[derive(Clone, Copy)]
struct Known<'k> {
    target: &'k Target<'k>,
    caller: &'k Caller,
    place: &'k Place,
    now: Timestamp,
}

/// Steps 2 to 6, the decision, and the answer that follows from it. `None`: an assertion has to be signed, and is when
/// asked again with what that needs. No future, because it is all that nearly every check comes to (bench/README.md).
fn decided(
    app: &App,
    question: &Question<'_>,
    Known { target, caller, place, now }: &Known<'_>,
    navigation: bool,
    ready: Option<&Ready>,
) -> Result<Option<Answer>, StoreError> {
    let at = place.at();
    let facts = facts(
        caller.account().map(|account| &**account),
        caller.credential(at),
        caller.sso_session(at),
        place,
    );
    let by_token = caller.is_token();
    Ok(Some(match decide(target, &facts, *now) {
        Decision::Allow(permit) => {
            let organization = place.organization.as_ref();
            let application = question.application;
            let identity =
                app.assertions.identity(app, &permit, caller, organization, application, *now, ready)?;
            let Some(identity) = identity else { return Ok(None) };
            let told = Told::by(&permit);
            Answer { outcome: Outcome::Allow, identity, navigation, by_token, browser: false, told }
        }
        Decision::Authenticate(step) => Answer {
            outcome: Outcome::Authenticate {
                code: step.code(),
                location: way_on(app, question, step, caller, place),
            },
            identity: Identity::nobody(),
            navigation,
            by_token,
            browser: is_browser(question.headers),
            told: Told::default(),
        },
        Decision::Deny(reason) => {
            tracing::debug!(reason = reason.as_str(), "denied");
            Answer { by_token, ..Answer::refused(reason.code(), navigation) }
        }
    }))
}

/// Why a request is refused before anybody is asked who sent it (step 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unreadable {
    Method,
    Upgrade,
    Path(Ambiguous),
    /// More cookies than an answer could give back.
    Cookies,
    /// Below `/.doorward/`.
    Handover,
}

impl Unreadable {
    const fn code(self) -> ErrorCode {
        match self {
            Self::Method | Self::Upgrade => ErrorCode::GateMethodRefused,
            Self::Path(ambiguous) => ambiguous.code(),
            Self::Cookies => ErrorCode::GateCookiesTooLarge,
            Self::Handover => ErrorCode::GateHandoverNotRouted,
        }
    }
}

/// Method and path of a request. What can be read in two ways is refused, not guessed.
fn read<'q>(question: &Question<'q>) -> Result<(Method, NormalisedPath<'q>), Unreadable> {
    let method = Method::from_text(question.method).ok_or(Unreadable::Method)?;
    let mut upgrades = question.headers.get_all(UPGRADE).iter();
    if let Some(upgrade) = upgrades.next() {
        let allowed = upgrade.to_str().is_ok_and(is_allowed_upgrade) && upgrades.next().is_none();
        if !allowed {
            return Err(Unreadable::Upgrade);
        }
    }
    let path = normalise_path(question.target).map_err(Unreadable::Path)?;
    // An allow gives the cookies back, and proxies have little room for an answer's head: nginx makes a 500 of one that
    // does not fit. The same behind every proxy, whatever it could take itself.
    let cookies: usize = question.headers.get_all(COOKIE).iter().map(HeaderValue::len).sum();
    if cookies > COOKIE_BYTES_MAX {
        return Err(Unreadable::Cookies);
    }
    // The hand-over is ours to answer: asked about it, the gate would lead there again and again.
    if path.as_str().starts_with("/.doorward/") {
        return Err(Unreadable::Handover);
    }
    Ok((method, path))
}

/// What the store knows of a target.
struct Place {
    organization: Option<Arc<store::OrganizationFacts>>,
    resource_is_public: bool,
}

impl Place {
    async fn of(app: &App, target: &Target<'_>, now: Timestamp) -> Result<Self, StoreError> {
        let organization = match &target.organization {
            Some(key) => app.store.organization_facts(key, now).await?,
            None => None,
        };
        let resource_is_public = match (&organization, &target.resource) {
            (Some(organization), Some(resource)) if organization.has_resources => {
                let (prefix, name) = (resource.prefix, &resource.name);
                app.store.resource_is_public(organization.id, prefix, name, now).await?
            }
            _ => false,
        };
        Ok(Self { organization, resource_is_public })
    }

    /// The organization, as far as a credential is concerned.
    fn at(&self) -> Option<At> {
        self.organization.as_deref().map(At::of)
    }
}

/// What is known, as `decide` wants it.
fn facts<'f>(
    account: Option<&'f store::AccountFacts>,
    credential: Credential,
    sso_session: Option<SsoSession>,
    place: &'f Place,
) -> Facts<'f> {
    let organization = place.organization.as_deref();
    let membership = account.zip(organization).and_then(|(account, organization)| {
        account.memberships.iter().find(|membership| membership.organization == organization.id)
    });
    Facts {
        credential,
        account: account.map(|account| AccountFacts {
            id: account.id,
            name: account.name(),
            display_name: account.full_name(),
            email: account.email(),
        }),
        owner: match organization {
            None => Owner::Nobody,
            Some(organization) if organization.deleted => Owner::DeletedOrganization,
            Some(organization) => Owner::Organization(organization.for_decision()),
        },
        membership: membership.map(store::MembershipFacts::for_decision),
        sso_session,
        resource_is_public: place.resource_is_public,
    }
}

/// Where the person goes for the step that is missing.
fn way_on(app: &App, question: &Question<'_>, step: Step, caller: &Caller, place: &Place) -> String {
    let on_own_host = is_on_own_host(app, question);
    match (step, &place.organization) {
        (Step::CompleteSso, Some(organization)) => {
            sso_address(app, &question.host, organization.name(), question.target)
        }
        (Step::PresentToken | Step::AuthorizeToken, _) => tokens_address(app, caller),
        _ => sign_in_address(app, question, on_own_host),
    }
}

/// Where the organization's single sign-on is completed, to come back to a target on this host.
pub fn sso_address(app: &App, host: &str, organization: &str, target: &str) -> String {
    let next = format!("{}{target}", address_of_host(app, host));
    let query = query("next", shortened(&next));
    app.configuration.base_url.join(&format!("/organizations/{organization}/sso?{query}"))
}

/// Most bytes of cookies that a request for an application may bring: what common servers take in a header (8 KiB), and
/// half of the room that docs/gate.md gives an answer in nginx. The identity takes a quarter of it at most (ADR 0038).
const COOKIE_BYTES_MAX: usize = 8 * 1024;

/// Whether an application shares our own host (localhost, or the operator trusts it): then our own session counts.
fn is_on_own_host(app: &App, question: &Question<'_>) -> bool {
    question.host == app.configuration.base_url.host
}

/// What a request's own address begins with, to come back to: nothing on our own host, else the application's origin.
fn address_of_host(app: &App, host: &str) -> String {
    if host == app.configuration.base_url.host { String::new() } else { origin(app, host) }
}

/// The origin of an application's host, as browsers see it.
pub fn origin(app: &App, host: &str) -> String {
    let scheme = if app.https() { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// Where to sign in: at our own page, or by a hand-over that the application's host begins (rule 11).
fn sign_in_address(app: &App, question: &Question<'_>, on_own_host: bool) -> String {
    // A form's address is not where its page is.
    let target = if matches!(question.method, "GET" | "HEAD") { shortened(question.target) } else { "/" };
    if on_own_host {
        app.configuration.base_url.join(&format!("/login?{}", query("next", target)))
    } else {
        format!("{}/.doorward/start?{}", origin(app, &question.host), query("next", target))
    }
}

/// Where the owner of a token sees to it.
fn tokens_address(app: &App, caller: &Caller) -> String {
    let token = match caller {
        Caller::Token(holder) => holder.token().map(|token| format!("#token-{}", token.id)),
        _ => None,
    };
    app.configuration.base_url.join(&format!("/settings/tokens{}", token.unwrap_or_default()))
}

/// Whether something in a request says that a browser sent it.
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
    agent || headers.keys().any(|name| name.as_str().starts_with("sec-"))
}

/// Longest address to come back to, in bytes as a query writes it: an answer of the gate has to fit into the 4 KiB that
/// proxies have for it (conformance.md V16, F22).
const NEXT_BYTES_MAX: usize = 2048;

/// An address to come back to: itself, without its query where that is too long, or the front page.
fn shortened(next: &str) -> &str {
    let fits = |next: &str| {
        form_urlencoded::byte_serialize(next.as_bytes()).map(str::len).sum::<usize>() <= NEXT_BYTES_MAX
    };
    let without_query = next.split_once('?').map_or(next, |(path, _)| path);
    [next, without_query].into_iter().find(|next| fits(next)).unwrap_or("/")
}

fn query(name: &str, value: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}

fn question_is_navigation(question: &Question<'_>) -> bool {
    let text = |name: &HeaderName| question.headers.get(name).and_then(|value| value.to_str().ok());
    let (mode, accept) = (text(&SEC_FETCH_MODE), text(&ACCEPT));
    // What else would count is looked for only where it does.
    let has = |name: HeaderName| mode.is_none() && accept.is_some() && question.headers.contains_key(name);
    Method::from_text(question.method)
        .is_some_and(|method| is_navigation(method, mode, accept, has(X_REQUESTED_WITH), has(UPGRADE)))
}
