//! `/settings/tokens`: a person's own access tokens, and which organizations with SSO they may reach (docs/adr/0040).
//!
//! A token is shown once, when it is made; afterwards there is only its hash. Making one asks for a fresh login, revoking
//! for none, and authorising one for an SSO session of that organization in this browser.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::access_token::{
    TOKEN_DAYS_DEFAULT, TOKEN_DAYS_MAX, TOKEN_NAME_CHARACTERS_MAX, new_access_token, token_reaches_until,
};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccessTokenId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use http::StatusCode;
use serde::Deserialize;

use super::audited;
use super::members::{RoleChoice, role_choices};
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::session::SignedIn;
use crate::store::{
    AccessToken, MemberOrganization, NewAccessToken, load_access_tokens, load_organizations_of,
};
use crate::web::access::{redirect, sso_page};
use crate::web::page::{Done, Frame, Moment, Problem, Problems, role_label, show, show_with};
use crate::web::visit::Visit;

/// Where a token stands with one organization that has SSO.
#[derive(Clone, Debug)]
pub enum Reach {
    /// It is authorised, until so long after the owner's last SSO.
    Authorized {
        /// Since when.
        since: Moment,
        /// Until when, if SSO is not completed again.
        until: Moment,
    },
    /// It is authorised, but its owner's last SSO is too long ago: the next one opens it again.
    Waits {
        /// Where SSO is completed.
        sso: String,
    },
    /// It may be authorised now.
    Open,
    /// SSO has to be completed first, there.
    SsoFirst {
        /// Where SSO is completed.
        sso: String,
    },
}

/// One organization at a token.
#[derive(Clone, Debug)]
pub struct ReachLine {
    /// The organization's name.
    pub name: String,
    /// What it is called on pages.
    pub display_name: String,
    /// Where the token stands there.
    pub reach: Reach,
}

/// One token.
#[derive(Clone, Debug)]
pub struct TokenLine {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it is over.
    pub expires: Moment,
    /// It is over.
    pub over: bool,
    /// When it was last used, to within an hour.
    pub last_used: Option<Moment>,
    /// The organizations that ask for SSO.
    pub reaches: Vec<ReachLine>,
}

impl TokenLine {
    fn role_label(&self) -> &'static str {
        role_label(self.ceiling)
    }
}

/// `/settings/tokens`.
#[derive(Template, Clone, Debug)]
#[template(path = "access_tokens.html")]
pub struct AccessTokensPage {
    /// The frame.
    pub frame: Frame,
    /// The tokens, the newest first.
    pub tokens: Vec<TokenLine>,
}

/// `/settings/tokens/new`.
#[derive(Template, Clone, Debug)]
#[template(path = "access_token_new.html")]
pub struct NewTokenPage {
    /// The frame.
    pub frame: Frame,
    /// As typed.
    pub name: String,
    /// As typed.
    pub days: String,
    /// As chosen.
    pub role: Role,
    /// Mistakes, by field.
    pub problems: Problems,
}

impl NewTokenPage {
    fn roles() -> Vec<RoleChoice> {
        role_choices().into_iter().filter(|choice| choice.role > Role::NoAccess).collect()
    }
}

/// A new token, which is shown this once.
#[derive(Template, Clone, Debug)]
#[template(path = "access_token_made.html")]
pub struct TokenMadePage {
    /// The frame.
    pub frame: Frame,
    /// What its owner calls it.
    pub name: String,
    /// The token.
    pub token: Secret,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it is over.
    pub expires: Moment,
}

impl TokenMadePage {
    fn role_label(&self) -> &'static str {
        role_label(self.ceiling)
    }
}

/// Where a token stands with an organization; nothing where no authorisation is needed.
fn reach_of(
    app: &App,
    signed_in: &SignedIn,
    token: &AccessToken,
    member: &MemberOrganization,
    now: Timestamp,
) -> Option<ReachLine> {
    let organization = &member.organization;
    if member.sso.is_none() || member.external_collaborator.spares(now) || member.role == Role::NoAccess {
        return None;
    }
    let sso = || sso_page(app, organization.name.as_str(), &app.page("/settings/tokens"));
    let since = token.authorizations.iter().find(|(id, _)| *id == organization.id).map(|(_, since)| *since);
    let until = until(signed_in, token.id, member).filter(|until| *until > now);
    let reach = match (since, until) {
        (Some(since), Some(until)) => Reach::Authorized { since: since.into(), until: until.into() },
        (Some(_), None) => Reach::Waits { sso: sso() },
        (None, _) if sso_is_complete(signed_in, member, now) => Reach::Open,
        (None, _) => Reach::SsoFirst { sso: sso() },
    };
    Some(ReachLine {
        name: organization.name.as_str().to_owned(),
        display_name: organization.display_name.clone(),
        reach,
    })
}

/// Until when a token reaches an organization, as the gate sees it.
fn until(signed_in: &SignedIn, token: AccessTokenId, member: &MemberOrganization) -> Option<Timestamp> {
    let token = signed_in.account.access_tokens.iter().find(|known| known.id == token)?;
    let found = token
        .authorizations
        .iter()
        .find(|known| known.organization == member.organization.id && known.epoch == member.epoch)?;
    Some(token_reaches_until(found.last_sso_at, member.token_sso_days))
}

/// When this browser's SSO session of an organization has to have begun, to be one still.
fn sso_since(member: &MemberOrganization, now: Timestamp) -> Timestamp {
    now.minus(member.organization.session_timeout)
}

fn sso_is_complete(signed_in: &SignedIn, member: &MemberOrganization, now: Timestamp) -> bool {
    let organization = &member.organization;
    signed_in.sso_counts(organization.id, member.epoch, organization.session_timeout, now)
}

/// `GET /settings/tokens`.
pub async fn show_tokens(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let account = signed_in.account.id;
    let now = app.clock.now();
    let mut reader = app.store.reader();
    let tokens = load_access_tokens(&mut reader, account).await?;
    let organizations = load_organizations_of(&mut reader, account).await?;
    let line = |token: AccessToken| TokenLine {
        reaches: organizations
            .iter()
            .filter_map(|member| reach_of(&app, signed_in, &token, member, now))
            .collect(),
        id: token.id.to_string(),
        name: token.name,
        ceiling: token.ceiling,
        expires: token.expires_at.into(),
        over: token.expires_at <= now,
        last_used: token.last_used_at.map(Moment::from),
    };
    Ok(show(&AccessTokensPage {
        frame: Frame::of(&app, &visit),
        tokens: tokens.into_iter().map(line).collect(),
    }))
}

/// `GET /settings/tokens/new`.
pub async fn show_new_token(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    Ok(show(&NewTokenPage {
        frame: Frame::of(&app, &visit),
        name: String::new(),
        days: TOKEN_DAYS_DEFAULT.to_string(),
        role: Role::Read,
        problems: Problems::default(),
    }))
}

/// The form of a new token.
#[derive(Debug, Deserialize)]
pub struct NewTokenForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    days: String,
    #[serde(default)]
    role: String,
}

/// `POST /settings/tokens/new`.
pub async fn make_token(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<NewTokenForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let name = form.name.trim().to_owned();
    let days = form.days.trim().parse().ok().filter(|days| (1..=TOKEN_DAYS_MAX).contains(days));
    let role: Option<Role> = form.role.parse().ok().filter(|role| *role > Role::NoAccess);
    let mut problems = Vec::new();
    let characters = name.chars().count();
    if characters == 0 || characters > TOKEN_NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        problems.push(Problem::new("name", ErrorCode::TokenNameInvalid));
    }
    if days.is_none() {
        problems.push(Problem::new("days", ErrorCode::TokenDaysInvalid));
    }
    if role.is_none() {
        problems.push(Problem::new("role", ErrorCode::MembershipRoleUnknown));
    }
    let again = |problems: Vec<Problem>| {
        show_with(
            problems.first().map_or(StatusCode::UNPROCESSABLE_ENTITY, |problem| {
                StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
            }),
            &NewTokenPage {
                frame: Frame::of(&app, &visit),
                name: name.chars().take(TOKEN_NAME_CHARACTERS_MAX).collect(),
                days: form.days.chars().take(10).collect(),
                role: role.unwrap_or(Role::Read),
                problems: Problems(problems),
            },
        )
    };
    let (Some(days), Some(ceiling), true) = (days, role, problems.is_empty()) else {
        return Ok(again(problems));
    };
    let token = new_access_token(app.random.bytes()?);
    let now = app.clock.now();
    let new = NewAccessToken {
        id: AccessTokenId::new(now.millis(), app.random.bytes()?),
        hash: token.hash(),
        account: signed_in.account.id,
        name: name.clone(),
        ceiling,
        expires_at: now.plus(Lifetime::from_days(days)),
    };
    let mut tx = app.store.begin().await?;
    tx.lock_account(new.account).await?;
    // A new password ends sessions and tokens: none is made by a session that it has just ended.
    if !tx.browser_session_counts(session, new.account).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    if !tx.insert_access_token(&new, now).await? {
        drop(tx);
        return Ok(again(vec![Problem::new("", ErrorCode::TokenTooMany)]));
    }
    let details = vec![
        ("token", new.id.to_string()),
        ("name", name.clone()),
        ("role", ceiling.to_string()),
        ("expires_at", Moment::from(new.expires_at).iso),
    ];
    tx.audit(audited(&visit, None, AuditAction::AccountTokenCreate, details)?, now).await?;
    tx.commit(now).await?;
    Ok(show(&TokenMadePage {
        frame: Frame::of(&app, &visit),
        name,
        token,
        ceiling,
        expires: new.expires_at.into(),
    }))
}

fn back(app: &App, done: Done) -> Response {
    redirect(&app.page(&format!("/settings/tokens?done={}", done.as_str())))
}

/// The form that names a token, and an organization where one is meant.
#[derive(Debug, Deserialize)]
pub struct TokenForm {
    #[serde(default)]
    token: String,
    #[serde(default)]
    organization: String,
}

impl TokenForm {
    fn token(&self) -> Result<AccessTokenId, Refusal> {
        self.token.parse().map_err(|_| ErrorCode::TokenMissing.into())
    }

    /// The organization of that name, of those whose member the visitor is.
    async fn organization(&self, app: &App, visit: &Visit) -> Result<MemberOrganization, Refusal> {
        let key = self.organization.to_ascii_lowercase();
        let all = load_organizations_of(&mut app.store.reader(), visit.account()?.account.id).await?;
        let found = all.into_iter().find(|member| member.organization.name.key() == key);
        found.ok_or_else(|| ErrorCode::TokenMissing.into())
    }
}

/// `POST /settings/tokens/revoke`: the token is over, everywhere.
pub async fn revoke_token(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<TokenForm>,
) -> Result<Response, Refusal> {
    let account = &visit.account()?.account;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let ended = tx.delete_access_token(form.token()?, account.id).await?.ok_or(ErrorCode::TokenMissing)?;
    let details = vec![
        ("account", account.name().to_owned()),
        ("token", ended.id.to_string()),
        ("name", ended.name.clone()),
    ];
    let entry = audited(&visit, None, AuditAction::AccountTokenRevoke, details)?;
    tx.audit_ended_tokens(&[ended], account.name(), &entry, now).await?;
    tx.audit(entry, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, Done::TokenRevoked))
}

/// `POST /settings/tokens/authorize`: the token may reach an organization whose SSO this browser has completed.
pub async fn authorize_token(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<TokenForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let account = &signed_in.account;
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let member = form.organization(&app, &visit).await?;
    let id: OrganizationId = member.organization.id;
    let token = form.token()?;
    let now = app.clock.now();
    if !sso_is_complete(signed_in, &member, now) {
        let to = sso_page(&app, member.organization.name.as_str(), &app.page("/settings/tokens"));
        return Err(Refusal::new(ErrorCode::SsoRequired).with_action("Complete single sign-on", to));
    }
    let mut tx = app.store.begin().await?;
    // The organization first, as all who end authorisations do. Session, membership and SSO session are read again where
    // the authorisation is made.
    tx.lock_organization(id).await?;
    if !tx.browser_session_counts(session, account.id).await? {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    if tx.hold_role(id, account.id).await?.is_none_or(|role| role == Role::NoAccess) {
        return Err(ErrorCode::TokenMissing.into());
    }
    let since = sso_since(&member, now);
    let authorized = tx.authorize_token(token, account.id, session, id, since, now).await?;
    let (name, ceiling) = authorized.ok_or(ErrorCode::TokenMissing)?;
    let details = vec![
        ("account", account.name().to_owned()),
        ("token", token.to_string()),
        ("name", name),
        ("role", ceiling.to_string()),
    ];
    tx.audit(audited(&visit, Some(id), AuditAction::OrgTokenAuthorize, details)?, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, Done::TokenAuthorized))
}

/// `POST /settings/tokens/authorize/revoke`: the token reaches that organization no longer.
pub async fn take_authorization_back(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<TokenForm>,
) -> Result<Response, Refusal> {
    let account = &visit.account()?.account;
    let organization = form.organization(&app, &visit).await?.organization.id;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let ended = tx.delete_token_authorization(form.token()?, organization, Some(account.id)).await?;
    let ended = ended.ok_or(ErrorCode::TokenMissing)?;
    let entry = audited(&visit, None, AuditAction::OrgTokenRevoke, Vec::new())?;
    tx.audit_ended_tokens(&[ended], account.name(), &entry, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, Done::TokenAuthorizationRevoked))
}
