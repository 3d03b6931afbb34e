//! Signing in and out, and the first operator's account.
//!
//! The session's secret changes at every sign-in. The same account keeps its session with all that hangs on it;
//! another account ends the old one (decisions.md, "Signing in again").

use askama::Template;
use axum::Form;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::bounded;
use doorward_core::ids::{AccountId, SessionId};
use doorward_core::name::Name;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::{Lifetime, Timestamp};
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, SharedApp};
use crate::cookies::Cookie;
use crate::passwords::{Caller, PasswordError, is_ours, judge_new_password};
use crate::refusal::Refusal;
use crate::store::{
    Account, Actor, AuditEntry, KnownBrowser, NewAccount, SignInFacts, StoreError, Transaction, has_operator,
    load_sign_in_from, operator_link_is_good,
};
use crate::web::access::redirect;
use crate::web::page::{Done, Frame, Problem, Problems, going_on, host_of, show, show_with, waiting};
use crate::web::throttle::{AddressRefused, Budget, Guess};
use crate::web::visit::Visit;

use super::to_its_end;

/// Longest user name or address that is looked up, in bytes.
const USERNAME_BYTES_MAX: usize = 254;
/// Longest password that is looked at, in bytes: 256 characters of at most 4.
pub(super) const PASSWORD_BYTES_MAX: usize = 1024;
/// How long the first operator's link works.
pub const OPERATOR_LINK_LIFETIME: Lifetime = Lifetime::from_days(1);
/// How often a failed sign-in is tried to be written down: each try waits up to five seconds for the store.
const NOTE_TRIES: u32 = 6;
/// The pause between two tries.
const NOTE_AGAIN: Duration = Duration::from_secs(1);
/// Where the first operator's link leads, under the base URL; `token` is its only parameter.
pub const OPERATOR_LINK_PATH: &str = "/login/first";

/// `/login`.
#[derive(Template, Clone, Debug)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// The frame.
    pub frame: Frame,
    /// As typed before.
    pub username: String,
    /// Where to go on afterwards; empty: home.
    pub next: String,
    /// The host to go on to, if it is an application's.
    pub next_host: Option<String>,
    /// Why the page is shown again.
    pub problems: Problems,
    /// Seconds to wait after too many attempts.
    pub wait_seconds: Option<i64>,
    /// Said above the form when something asks for a fresh sign-in.
    pub fresh: bool,
    /// Who is signed in already.
    pub signed_in_as: Option<String>,
}

impl SignInPage {
    fn wait(&self) -> Option<String> {
        self.wait_seconds.map(waiting)
    }
}

/// `GET /logout`: asks before it does.
#[derive(Template, Clone, Debug)]
#[template(path = "sign_out.html")]
pub struct SignOutPage {
    /// The frame.
    pub frame: Frame,
}

/// The one-time link of the first start.
#[derive(Template, Clone, Debug)]
#[template(path = "first_operator.html")]
pub struct FirstOperatorPage {
    /// The frame.
    pub frame: Frame,
    /// The link's token: whoever opens the page has it.
    pub token: String,
    /// As typed before.
    pub name: String,
    /// As typed before.
    pub full_name: String,
    /// As typed before.
    pub email: String,
    /// Mistakes.
    pub problems: Problems,
}

/// A parameter of a query, at most `max` characters of it.
pub(super) fn parameter(query: Option<&str>, name: &str, max: usize) -> String {
    let query = query.unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).take(16).find(|(known, _)| known == name);
    found.map_or_else(String::new, |(_, value)| value.chars().take(max).collect())
}

/// Where to go on after signing in: home, or a checked address.
struct GoOn {
    location: String,
    is_home: bool,
    host: Option<String>,
}

impl GoOn {
    /// Whether the way ends on another origin, at once or by a page of ours that only redirects: the browser holds a
    /// form's whole chain of redirects to `form-action` (rule 10).
    ///
    /// Only of home it is known that it never does: settings lead to single sign-on, and an application on our host
    /// wherever it likes.
    fn leads_on(&self) -> bool {
        !self.is_home
    }
}

fn go_on(app: &App, next: &str) -> Result<GoOn, Refusal> {
    if next.is_empty() {
        return Ok(GoOn { location: app.page("/"), is_home: true, host: None });
    }
    // A refused address is no reason for a half sign-in (conformance.md V20).
    let to = app.return_to(next).ok_or_else(|| {
        Refusal::new(ErrorCode::GateReturnRefused).with_action("Sign in", app.page("/login"))
    })?;
    Ok(GoOn {
        location: to.location().to_owned(),
        is_home: to.location() == app.page("/"),
        host: if to.is_same_origin() { None } else { host_of(to.location()) },
    })
}

/// `GET /login`.
pub async fn show_sign_in(
    State(app): State<SharedApp>,
    visit: Visit,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let next = parameter(query.as_deref(), "next", 4096);
    let fresh = parameter(query.as_deref(), "fresh", 1) == "1";
    let to = go_on(&app, &next)?;
    // A second tab, or the back button: whoever is through already is taken on (rule 18).
    if visit.signed_in.is_some() && !fresh && !next.is_empty() {
        return Ok(redirect(&to.location));
    }
    let account = visit.signed_in.as_ref().map(|signed_in| signed_in.account.name().to_owned());
    Ok(show(&SignInPage {
        frame: Frame::of(&app, &visit),
        username: account.clone().filter(|_| fresh).unwrap_or_default(),
        next,
        next_host: to.host,
        problems: Problems::default(),
        wait_seconds: None,
        fresh,
        signed_in_as: account.filter(|_| !fresh),
    }))
}

/// The form.
#[derive(Deserialize)]
pub struct SignInForm {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

impl std::fmt::Debug for SignInForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInForm").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Takes a place for one look at a password; `Err`: how long to wait. The same for a name that nobody has (`facts` is
/// `None`): nothing is written before the password was looked at.
pub(super) fn take_place(
    app: &App,
    facts: Option<&SignInFacts>,
    name: &str,
    browser: Option<TokenHash>,
) -> Result<Guess, Lifetime> {
    let (budget, stored) = Budget::of(facts, name, browser);
    app.sign_ins.take(budget, stored, app.clock.now())
}

/// Writes an account's failure down beside the answer: for the audit log, and so that other nodes count it too.
/// It takes the answer no time: how long that takes must not tell whether the name exists (conformance.md V48).
pub(super) fn note_failure(app: &SharedApp, guess: Guess, entry: AuditEntry) {
    let (account, browser) = match guess.budget {
        Budget::Account(account) => (account, None),
        Budget::Browser(account, browser) => (account, Some(browser)),
        Budget::Nobody(_) | Budget::Recovery(_) => return,
    };
    // Where so many wait, this node counts it alone.
    let Ok(place) = Arc::clone(&app.notes_of_failures).try_acquire_owned() else {
        tracing::warn!("so many failed sign-ins wait to be written down that this one is not");
        return;
    };
    let app = SharedApp::clone(app);
    crate::logging::spawn(async move {
        let _place = place;
        let now = app.clock.now();
        let _turn = app.failures_being_noted.acquire().await;
        for tries_left in (0..NOTE_TRIES).rev() {
            let noted = async {
                let mut tx = app.store.begin().await?;
                tx.note_failed_sign_in(account, browser, guess.counted).await?;
                tx.note_sign_in_failure(account, entry.clone(), now).await?;
                tx.commit(now).await
            };
            match noted.await {
                Ok(()) => return,
                // Somebody keeps the store from writing for a while; this must not be how one guesses unseen.
                Err(StoreError::Unavailable(error)) if tries_left > 0 => {
                    tracing::debug!(%error, "a failed sign-in will be written down later");
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(%error, "a failed sign-in could not be written down");
                    return;
                }
            }
        }
    });
}

/// `POST /login`.
pub async fn sign_in(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<SignInForm>,
) -> Result<Response, Refusal> {
    // Whoever hangs up meanwhile has failed as everybody does: in the log, and against his address.
    to_its_end(async move { look_at(&app, &visit, &form).await }).await?
}

async fn look_at(app: &SharedApp, visit: &Visit, form: &SignInForm) -> Result<Response, Refusal> {
    let to = go_on(app, &form.next)?;
    let username = form.username.trim();
    let again = |code: ErrorCode, wait: Option<Lifetime>| {
        app.metrics.sign_in(Err(code));
        let page = SignInPage {
            frame: Frame::of(app, visit),
            // As typed; a page has no place for control characters.
            username: username.chars().filter(|c| !c.is_control()).take(USERNAME_BYTES_MAX).collect(),
            next: form.next.clone(),
            next_host: to.host.clone(),
            problems: Problems::one("", code),
            wait_seconds: wait.map(|wait| wait.seconds().saturating_add(1)),
            fresh: false,
            signed_in_as: None,
        };
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        let mut response = show_with(status, &page);
        if let Some(seconds) = page.wait_seconds.or((code == ErrorCode::AccountBusy).then_some(5)) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    };
    if username.is_empty()
        || username.len() > USERNAME_BYTES_MAX
        || form.password.is_empty()
        || form.password.len() > PASSWORD_BYTES_MAX
    {
        return Ok(again(ErrorCode::AccountWrongPassword, None));
    }

    let now = app.clock.now();
    let facts = load_sign_in_from(&mut app.store.reader(), username, visit.browser).await?;
    // A browser in which the account signed in before has a budget of its own: its neighbours' failures are not its.
    let is_known = facts.as_ref().is_some_and(|facts| facts.known_browser.is_some());
    let address = visit.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = match (!is_known).then(|| app.sign_ins.enter(address, now)).transpose() {
        Ok(place) => place,
        Err(AddressRefused::Failures(wait)) => return Ok(again(ErrorCode::AccountThrottled, Some(wait))),
        Err(AddressRefused::Crowded) => return Ok(again(ErrorCode::AccountBusy, None)),
    };
    let guess = match take_place(app, facts.as_ref(), username, visit.browser) {
        Ok(guess) => guess,
        Err(wait) => return Ok(again(ErrorCode::AccountThrottled, Some(wait))),
    };
    let caller = if is_known { Caller::Known } else { Caller::Stranger };
    let turn = match app.passwords.turn(caller).await {
        Ok(turn) => turn,
        Err(PasswordError::Busy) => {
            app.sign_ins.give_back(guess, app.clock.now());
            return Ok(again(ErrorCode::AccountBusy, None));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(Err(wait)) = address.as_ref().map(|address| address.is_still_open(app.clock.now())) {
        app.sign_ins.give_back(guess, app.clock.now());
        return Ok(again(ErrorCode::AccountThrottled, Some(wait)));
    }
    let hash = facts.as_ref().and_then(|facts| facts.password_hash.clone());
    let verified = app.passwords.verify_in(turn, Secret::new(form.password.clone()), hash.clone()).await;
    // Not computed is not wrong.
    let right = verified.inspect_err(|_| app.sign_ins.give_back(guess, app.clock.now()))?;
    let (Some(facts), Some(hash), true) = (facts.as_ref(), hash, right) else {
        tracing::info!("a sign-in failed");
        if let Some(address) = address {
            address.failed(app.clock.now());
        }
        // Of a name that nobody has there is nothing to write.
        if let Some(facts) = &facts {
            note_failure(app, guess, failed(visit, &facts.account));
        }
        return Ok(again(ErrorCode::AccountWrongPassword, None));
    };
    drop(address);
    if facts.account.disabled {
        // It opens nothing, so it counts as every failure does, and the log tells of it.
        let mut entry = failed(visit, &facts.account);
        entry.details.push(("code", ErrorCode::AccountDisabled.to_string()));
        note_failure(app, guess, entry);
        return Ok(again(ErrorCode::AccountDisabled, None));
    }
    app.sign_ins.forget(guess);

    // An imported hash gives way to one of ours, now that the password is here. No place for that: the next time.
    let own_hash = if is_ours(&hash) {
        None
    } else {
        match app.passwords.turn(caller).await {
            Ok(turn) => {
                app.passwords.hash_in(turn, Secret::new(form.password.clone()), &app.random).await.ok()
            }
            Err(_) => None,
        }
    };

    let now = app.clock.now();
    let (browser, new_browser) = browser_of(app, visit)?;
    let mut tx = app.store.begin().await?;
    if !tx.confirm_sign_in(facts.account.id, &hash).await? {
        drop(tx);
        return Ok(again(ErrorCode::AccountWrongPassword, None));
    }
    if let Some(own_hash) = own_hash {
        tx.replace_password_hash(facts.account.id, &hash, &own_hash).await?;
    }
    let token = begin_session(app, &mut tx, visit, facts.account.id, now).await?;
    if !facts.known_browser.is_some_and(|known| is_remembered(known, now)) {
        tx.remember_browser(facts.account.id, browser, now).await?;
    }
    let actor = Actor::Account(facts.account.id, facts.account.name.as_str().to_owned());
    tx.audit(own_entry(visit, actor, AuditAction::AccountSignIn), now).await?;
    tx.commit(now).await?;
    app.metrics.sign_in(Ok(()));

    let response = if to.leads_on() { going_on(app, visit, &to.location) } else { redirect(&to.location) };
    Ok(with_cookies(app, &token, new_browser.as_ref(), response))
}

/// Whether there is nothing to write of a browser that signs in again: no failure, and noted within a day.
fn is_remembered(known: KnownBrowser, now: Timestamp) -> bool {
    known.count.failures == 0 && now.since(known.signed_in_at) < Lifetime::from_days(1)
}

/// The browser as it is known next time, with the new cookie for one that had none.
pub(super) fn browser_of(app: &App, visit: &Visit) -> Result<(TokenHash, Option<Secret>), Refusal> {
    if let Some(browser) = visit.browser {
        return Ok((browser, None));
    }
    let token = app.random.token()?;
    Ok((token.hash(), Some(token)))
}

/// What the audit log says of a wrong password.
pub(super) fn failed(visit: &Visit, account: &Account) -> AuditEntry {
    let mut entry = own_entry(visit, Actor::System, AuditAction::AccountSignInFailed);
    entry.details.push(("name", account.name.as_str().to_owned()));
    entry
}

pub(super) fn own_entry(visit: &Visit, actor: Actor, action: AuditAction) -> AuditEntry {
    AuditEntry {
        organization: None,
        action,
        actor,
        details: Vec::new(),
        address: visit.address,
        request_id: Some(visit.request_id.clone()),
    }
}

/// A session for the account with a new secret: the browser's own one renewed, or a new one in place of another
/// account's.
pub(super) async fn begin_session(
    app: &App,
    tx: &mut Transaction,
    visit: &Visit,
    account: AccountId,
    now: Timestamp,
) -> Result<Secret, Refusal> {
    let token = app.random.token()?;
    let before = visit.signed_in.as_ref().and_then(|before| Some((before.account.id, before.session()?.id)));
    if let Some((before, session)) = before {
        if before == account {
            if tx.renew_browser_session(session, account, token.hash(), now).await? {
                return Ok(token);
            }
        } else {
            tx.delete_browser_session(session, before).await?;
            if let Some(signed_in) = &visit.signed_in {
                tx.audit(own_entry(visit, signed_in.actor(), AuditAction::AccountSessionEnd), now).await?;
            }
        }
    }
    let session = SessionId::new(now.millis(), app.random.bytes()?);
    tx.insert_browser_session(session, token.hash(), account, now).await?;
    Ok(token)
}

/// Gives the browser its session, and the cookie by which it is known next time if it has none.
pub(super) fn with_cookies(
    app: &App,
    session: &Secret,
    new_browser: Option<&Secret>,
    mut response: Response,
) -> Response {
    let browser = new_browser.and_then(|token| Cookie::Browser.set(token, app.https()));
    for cookie in [Cookie::Session.set(session, app.https()), browser].into_iter().flatten() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// `GET /logout`.
pub async fn show_sign_out(State(app): State<SharedApp>, visit: Visit) -> Response {
    if visit.signed_in.is_none() {
        return redirect(&app.page("/login"));
    }
    show(&SignOutPage { frame: Frame::of(&app, &visit) })
}

/// `POST /logout`: ends the session with all that hangs on it.
pub async fn sign_out(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    if let Some(signed_in) = &visit.signed_in
        && let Some(session) = signed_in.session()
    {
        let now = app.clock.now();
        let mut tx = app.store.begin().await?;
        tx.delete_browser_session(session.id, signed_in.account.id).await?;
        tx.audit(own_entry(&visit, signed_in.actor(), AuditAction::AccountSignOut), now).await?;
        tx.commit(now).await?;
    }
    let mut response = redirect(&app.page(&format!("/login?done={}", Done::SignedOut.as_str())));
    if let Some(cookie) = Cookie::Session.clear(app.https()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Makes the link for the first operator, if there is none yet, in place of the one of an earlier start: the whole
/// URL, to be printed once. `None`: there is an operator.
pub async fn make_operator_link(app: &App) -> Result<Option<String>, StoreError> {
    if has_operator(&mut app.store.reader()).await? {
        return Ok(None);
    }
    let now = app.clock.now();
    let token = app.random.token()?;
    let mut tx = app.store.begin().await?;
    tx.replace_operator_link(token.hash(), now, now.plus(OPERATOR_LINK_LIFETIME)).await?;
    tx.commit(now).await?;
    let path = format!("{OPERATOR_LINK_PATH}?token={}", token.expose());
    Ok(Some(app.configuration.base_url.join(&path)))
}

async fn operator_link(app: &App, token: &str) -> Result<TokenHash, Refusal> {
    let hash = TokenHash::of(token);
    let mut reader = app.store.reader();
    let good = operator_link_is_good(&mut reader, hash, app.clock.now()).await?
        && !has_operator(&mut reader).await?;
    if good { Ok(hash) } else { Err(ErrorCode::AccountLinkExpired.into()) }
}

/// `GET /login/first`.
pub async fn show_first_operator(
    State(app): State<SharedApp>,
    visit: Visit,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let token = parameter(query.as_deref(), "token", 100);
    operator_link(&app, &token).await?;
    Ok(show(&FirstOperatorPage {
        frame: Frame { account: None, ..Frame::of(&app, &visit) },
        token,
        name: String::new(),
        full_name: String::new(),
        email: String::new(),
        problems: Problems::default(),
    }))
}

/// The form.
#[derive(Deserialize)]
pub struct FirstOperatorForm {
    #[serde(default)]
    token: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    full_name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
}

impl std::fmt::Debug for FirstOperatorForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstOperatorForm").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `POST /login/first`: the first account, an operator with a proved address, signed in.
pub async fn make_first_operator(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<FirstOperatorForm>,
) -> Result<Response, Refusal> {
    let link = operator_link(&app, &form.token).await?;
    let password = Secret::new(form.password.clone());
    let again = |problems: Vec<Problem>| {
        let page = FirstOperatorPage {
            frame: Frame { account: None, ..Frame::of(&app, &visit) },
            token: form.token.clone(),
            name: form.name.clone(),
            full_name: form.full_name.clone(),
            email: form.email.clone(),
            problems: Problems(problems),
        };
        show_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
    };
    let name = Name::parse(form.name.trim());
    let email = Email::parse(form.email.trim());
    let judged = judge_new_password(&password, form.name.trim());
    let (name, email) = match (name, email, judged) {
        (Ok(name), Ok(email), Ok(())) => (name, email),
        (name, email, judged) => {
            let problems = [
                name.err().map(|_| Problem::new("name", ErrorCode::AccountNameInvalid)),
                email.err().map(|_| Problem::new("email", ErrorCode::AccountEmailInvalid)),
                judged.err().map(|code| Problem::new("password", code)),
            ];
            return Ok(again(problems.into_iter().flatten().collect()));
        }
    };
    let hash = app.passwords.hash(password, &app.random).await?;
    let now = app.clock.now();
    let account = NewAccount {
        id: AccountId::new(now.millis(), app.random.bytes()?),
        name,
        full_name: bounded(&form.full_name, 100),
        email: Some(email),
        email_proved: true,
        password_hash: Some(hash),
        operator: true,
    };
    let mut tx = app.store.begin().await?;
    if !tx.take_operator_link(link, now).await? {
        return Err(ErrorCode::AccountLinkExpired.into());
    }
    let made = make_and_sign_in(&app, tx, &visit, &account, &app.page("/"), now).await?;
    Ok(made.unwrap_or_else(|| again(vec![Problem::new("name", ErrorCode::AccountNameTaken)])))
}

/// Makes an account, signs it in in this browser, and goes on to `to`. `None`: somebody has the name; nothing was written.
pub(super) async fn make_and_sign_in(
    app: &App,
    mut tx: Transaction,
    visit: &Visit,
    account: &NewAccount,
    to: &str,
    now: Timestamp,
) -> Result<Option<Response>, Refusal> {
    match tx.insert_account(account, now).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let actor = Actor::Account(account.id, account.name.as_str().to_owned());
    let mut entry = own_entry(visit, actor.clone(), AuditAction::AccountCreate);
    entry.details =
        vec![("name", account.name.as_str().to_owned()), ("operator", account.operator.to_string())];
    tx.audit(entry, now).await?;
    let token = begin_session(app, &mut tx, visit, account.id, now).await?;
    let (browser, new_browser) = browser_of(app, visit)?;
    tx.remember_browser(account.id, browser, now).await?;
    tx.audit(own_entry(visit, actor, AuditAction::AccountSignIn), now).await?;
    tx.commit(now).await?;
    Ok(Some(with_cookies(app, &token, new_browser.as_ref(), redirect(to))))
}
