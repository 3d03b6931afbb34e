//! `/settings/account`: the account's own names, addresses, password and sessions.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::bounded;
use doorward_core::ids::SessionId;
use doorward_core::secret::Secret;
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;

use super::sign_in::{failed, note_failure, take_place};
use super::{audited, to_its_end};
use crate::app::{App, SharedApp};
use crate::cookies::Cookie;
use crate::passwords::{Caller, judge_new_password};
use crate::refusal::Refusal;
use crate::session::session_is_alive;
use crate::store::{load_account, load_emails, load_sign_in_from};
use crate::web::access::redirect;
use crate::web::page::{Done, Frame, Moment, Problem, Problems, show, show_with};
use crate::web::visit::Visit;

/// One address of the account.
#[derive(Clone, Debug)]
pub struct AccountEmailLine {
    /// As written.
    pub address: String,
    /// Whether it is proved; an unproved one counts for nothing (rule 13).
    pub proved: bool,
    /// The one that applications are told.
    pub primary: bool,
}

/// One browser session of the account.
#[derive(Clone, Debug)]
pub struct SessionLine {
    /// Its id.
    pub id: String,
    /// The one that looks.
    pub current: bool,
    /// When the password was last typed in it.
    pub signed_in: Moment,
    /// When it was last used.
    pub last_seen: Moment,
}

/// The page.
#[derive(Template, Clone, Debug)]
#[template(path = "account.html")]
pub struct AccountPage {
    /// The frame.
    pub frame: Frame,
    /// The account's name.
    pub username: String,
    /// The person's name, as typed or stored.
    pub full_name: String,
    /// Addresses.
    pub emails: Vec<AccountEmailLine>,
    /// Sessions, the last used first.
    pub sessions: Vec<SessionLine>,
    /// Mistakes, by field.
    pub problems: Problems,
}

async fn account_page(app: &App, visit: &Visit, problems: Problems) -> Result<AccountPage, Refusal> {
    let signed_in = visit.account()?;
    let account = &signed_in.account;
    let current = signed_in.session().map(|session| session.id);
    let now = app.clock.now();
    let emails = load_emails(&mut app.store.reader(), account.id).await?;
    let mut sessions: Vec<_> =
        account.sessions.iter().filter(|session| session_is_alive(session, now)).collect();
    sessions.sort_by_key(|session| (Some(session.id) != current, std::cmp::Reverse(session.last_seen_at())));
    Ok(AccountPage {
        frame: Frame::of(app, visit),
        username: account.name().to_owned(),
        full_name: account.full_name().to_owned(),
        emails: emails
            .into_iter()
            .map(|email| AccountEmailLine {
                address: email.address,
                proved: email.proved_at.is_some(),
                primary: email.primary,
            })
            .collect(),
        sessions: sessions
            .into_iter()
            .map(|session| SessionLine {
                id: session.id.to_string(),
                current: Some(session.id) == current,
                signed_in: session.authenticated_at().into(),
                last_seen: session.last_seen_at().into(),
            })
            .collect(),
        problems,
    })
}

fn back(app: &App, done: Done) -> Response {
    redirect(&app.page(&format!("/settings/account?done={}", done.as_str())))
}

/// `GET /settings/account`.
pub async fn show_account(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    Ok(show(&account_page(&app, &visit, Problems::default()).await?))
}

/// The form of the person's name.
#[derive(Debug, Deserialize)]
pub struct NameForm {
    #[serde(default)]
    full_name: String,
}

/// `POST /settings/account/name`.
pub async fn change_name(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<NameForm>,
) -> Result<Response, Refusal> {
    let account = &visit.account()?.account;
    let full_name = bounded(&form.full_name, 100);
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    // What the visit knows may be older.
    tx.lock_account(account.id).await?;
    let before = load_account(&mut tx, account.id).await?.ok_or(ErrorCode::AccountSignInNeeded)?.full_name;
    if before != full_name {
        tx.update_full_name(account.id, &full_name).await?;
        let details = vec![("before", before), ("after", full_name)];
        tx.audit(audited(&visit, None, AuditAction::AccountName, details)?, now).await?;
        tx.commit(now).await?;
    }
    Ok(back(&app, Done::Saved))
}

/// The form of a new password.
#[derive(Deserialize)]
pub struct PasswordForm {
    #[serde(default)]
    current_password: String,
    #[serde(default)]
    new_password: String,
}

impl std::fmt::Debug for PasswordForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordForm")
    }
}

/// The hash that the visitor's password fits; `None`: it was another password. A stolen session must not be a way to guess
/// it, so a wrong one counts as it does at the sign-in.
pub(super) async fn prove_password(
    app: &SharedApp,
    visit: &Visit,
    current: Secret,
) -> Result<Option<String>, Refusal> {
    let (app, visit) = (SharedApp::clone(app), visit.clone());
    to_its_end(async move { look_at(&app, &visit, current).await }).await?
}

async fn look_at(app: &SharedApp, visit: &Visit, current: Secret) -> Result<Option<String>, Refusal> {
    let account = &visit.account()?.account;
    let facts = load_sign_in_from(&mut app.store.reader(), account.name(), visit.browser).await?;
    let facts = facts.ok_or(ErrorCode::AccountSignInNeeded)?;
    let guess = take_place(app, Some(&facts), account.name(), visit.browser)
        .map_err(|wait| Refusal::new(ErrorCode::AccountThrottled).with_retry_after(wait.seconds() + 1))?;
    let before = facts.password_hash.clone().unwrap_or_default();
    let fits = current.expose().len() <= super::sign_in::PASSWORD_BYTES_MAX;
    let hash = Some(before.clone()).filter(|hash| !hash.is_empty());
    let verified = match app.passwords.turn(Caller::Known).await {
        Ok(turn) => app.passwords.verify_in(turn, current, hash).await,
        Err(error) => Err(error),
    };
    // Not looked at, or not computed, is not wrong.
    let right = verified.inspect_err(|_| app.sign_ins.give_back(guess, app.clock.now()))?;
    if !(fits && right) {
        note_failure(app, guess, failed(visit, &facts.account));
        return Ok(None);
    }
    app.sign_ins.forget(guess);
    let mut tx = app.store.begin().await?;
    tx.confirm_sign_in(account.id, &before).await?;
    tx.commit(app.clock.now()).await?;
    Ok(Some(before))
}

/// `POST /settings/account/password`: the other sessions end.
pub async fn change_password(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<PasswordForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let account = &signed_in.account;
    let current = Secret::new(form.current_password);
    let new = Secret::new(form.new_password);
    let mut problems = Vec::new();
    if let Err(code) = judge_new_password(&new, account.name()) {
        problems.push(Problem::new("new_password", code));
    }
    let proved = prove_password(&app, &visit, current).await?;
    if proved.is_none() {
        problems.insert(0, Problem::new("current_password", ErrorCode::AccountWrongPassword));
    }
    let (Some(before), true) = (proved, problems.is_empty()) else {
        let page = account_page(&app, &visit, Problems(problems)).await?;
        return Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let now = app.clock.now();
    let turn = app.passwords.turn(Caller::Known).await?;
    let hash = app.passwords.hash_in(turn, new, &app.random).await?;
    let mut tx = app.store.begin().await?;
    // Two changes at once: the first one counts, and the second proved a password that is no more.
    if !tx.confirm_sign_in(account.id, &before).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    let ended = tx.update_password(account.id, &hash, signed_in.session().map(|session| session.id)).await?;
    if let Some(browser) = visit.browser {
        tx.remember_browser(account.id, browser, now).await?;
    }
    let entry = audited(&visit, None, AuditAction::AccountPassword, Vec::new())?;
    tx.audit_ended_tokens(&ended, account.name(), &entry, now).await?;
    tx.audit(entry, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, Done::PasswordChanged))
}

/// The forms that end sessions.
#[derive(Debug, Deserialize)]
pub struct EndSessionForm {
    /// A session's id, or `all` for all but this one.
    #[serde(default)]
    session: String,
}

/// `POST /settings/account/sessions/end`.
pub async fn end_sessions(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<EndSessionForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let account = signed_in.account.id;
    let current = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let (count, own) = if form.session == "all" {
        (tx.delete_other_browser_sessions(current, account).await?, false)
    } else {
        let session: SessionId = form.session.parse().map_err(|_| ErrorCode::RequestMalformed)?;
        (u64::from(tx.delete_browser_session(session, account).await?), session == current)
    };
    // The log is never emptied: what ended nothing adds nothing to it.
    if count > 0 {
        let details = vec![("count", count.to_string())];
        tx.audit(audited(&visit, None, AuditAction::AccountSessionEnd, details)?, now).await?;
        tx.commit(now).await?;
    }
    if !own {
        return Ok(back(&app, Done::SessionsEnded));
    }
    let mut response = redirect(&app.page(&format!("/login?done={}", Done::SignedOut.as_str())));
    if let Some(cookie) = Cookie::Session.clear(app.https()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}
