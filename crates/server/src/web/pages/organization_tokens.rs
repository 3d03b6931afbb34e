//! The access tokens that reach an organization, for its admins: whose, since when, last used; and for how long after
//! their owner's last SSO (docs/adr/0040).
//!
//! An admin takes back a token's authorisation here, never the token, which is its owner's.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use doorward_core::access_token::{TOKEN_SSO_DAYS, token_reaches_until};
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use http::StatusCode;
use serde::Deserialize;

use super::audited;
use super::sso::by;
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::store::{load_account, load_reaching_tokens, load_token_sso_days};
use crate::web::access::{must_be_able_to_widen, query as query_string, redirect};
use crate::web::page::{Done, Frame, Moment, OrganizationHead, Problems, Tab, role_label, show, show_with};
use crate::web::visit::{OrganizationVisit, Visit};

/// Tokens on a page.
const PAGE: usize = 50;

/// One token.
#[derive(Clone, Debug)]
pub struct ReachingLine {
    /// Its id.
    pub id: String,
    /// Its owner's account.
    pub owner: String,
    /// What its owner calls it.
    pub name: String,
    /// What it gives here.
    pub role: Role,
    /// When it is over.
    pub expires: Moment,
    /// When it was last used.
    pub last_used: Option<Moment>,
    /// When it was authorised; nothing for one that needs no authorisation.
    pub authorized: Option<Moment>,
    /// It waits for its owner's next SSO.
    pub waits: bool,
}

impl ReachingLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// `/organizations/ORG/settings/tokens`.
#[derive(Template, Clone, Debug)]
#[template(path = "organization_tokens.html")]
pub struct OrganizationTokensPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// Tokens need an authorisation here.
    pub enforced: bool,
    /// The tokens, by owner.
    pub tokens: Vec<ReachingLine>,
    /// Not the first page.
    pub is_later_page: bool,
    /// The query of the next page.
    pub next_query: Option<String>,
    /// Days after the last SSO, as typed or stored.
    pub days: String,
    /// Mistakes.
    pub problems: Problems,
}

impl OrganizationTokensPage {
    async fn load(
        app: &App,
        visit: &Visit,
        place: &OrganizationVisit,
        query: &TokensQuery,
    ) -> Result<Self, Refusal> {
        let now = app.clock.now();
        let organization = place.organization.id;
        let enforced = place.facts.sso == Some(Enforcement::Enforced);
        let mut reader = app.store.reader();
        let days = load_token_sso_days(&mut reader, organization).await?;
        let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
        let owner = query.after.to_ascii_lowercase();
        let after = query.token.parse().ok().map(|token| (owner.as_str(), token));
        let mut tokens =
            load_reaching_tokens(&mut reader, organization, !enforced, after, now, limit).await?;
        let more = tokens.len() > PAGE;
        tokens.truncate(PAGE);
        let last = tokens.last().filter(|_| more);
        let next_query =
            last.map(|last| query_string(&[("after", last.owner.key()), ("token", &last.id.to_string())]));
        let lines = tokens.into_iter().map(|token| ReachingLine {
            id: token.id.to_string(),
            owner: token.owner.as_str().to_owned(),
            name: token.name,
            role: token.role,
            expires: token.expires_at.into(),
            last_used: token.last_used_at.map(Moment::from),
            waits: token.authorized_at.is_some()
                && token.last_sso_at.is_none_or(|last| token_reaches_until(last, days) <= now),
            authorized: token.authorized_at.map(Moment::from),
        });
        Ok(Self {
            frame: Frame::of(app, visit),
            organization: OrganizationHead::of(place),
            tab: Tab::Tokens,
            enforced,
            tokens: lines.collect(),
            is_later_page: after.is_some(),
            next_query,
            days: days.to_string(),
            problems: Problems::default(),
        })
    }
}

/// The last token of the page before; nothing on the first page.
#[derive(Debug, Default, Deserialize)]
pub struct TokensQuery {
    /// Its owner's account.
    #[serde(default)]
    after: String,
    /// Its id.
    #[serde(default)]
    token: String,
}

/// `GET /organizations/ORG/settings/tokens`.
pub async fn show_tokens(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Query(query): Query<TokensQuery>,
) -> Result<Response, Refusal> {
    Ok(show(&OrganizationTokensPage::load(&app, &visit, &place, &query).await?))
}

fn back(app: &App, place: &OrganizationVisit, done: Done) -> Response {
    let page = format!("/organizations/{}/settings/tokens?done={}", place.organization.name, done.as_str());
    redirect(&app.page(&page))
}

/// The form of the days.
#[derive(Debug, Deserialize)]
pub struct DaysForm {
    #[serde(default)]
    days: String,
}

/// `POST /organizations/ORG/settings/tokens`: for how many days after their owner's last SSO tokens reach the
/// organization. Fewer is any admin's; more widens entry (rule 12).
pub async fn change_days(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<DaysForm>,
) -> Result<Response, Refusal> {
    let Some(days) = form.days.trim().parse().ok().filter(|days| (1..=TOKEN_SSO_DAYS).contains(days)) else {
        let page = OrganizationTokensPage {
            days: form.days.chars().take(10).collect(),
            problems: Problems::one("days", ErrorCode::TokenSsoDaysInvalid),
            ..OrganizationTokensPage::load(&app, &visit, &place, &TokensQuery::default()).await?
        };
        return Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let organization = &place.organization;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by(&visit)?.lock_as_admin(&mut tx, organization.id, now).await??;
    let before = load_token_sso_days(&mut tx, organization.id).await?;
    if days > before {
        must_be_able_to_widen(&app, &visit, &place, "/settings/tokens")?;
    }
    if days != before {
        tx.update_token_sso_days(organization, days).await?;
        let details = vec![("before", before.to_string()), ("after", days.to_string())];
        tx.audit(audited(&visit, Some(organization.id), AuditAction::OrgSettingsTokens, details)?, now)
            .await?;
        tx.commit(now).await?;
    }
    Ok(back(&app, &place, Done::Saved))
}

/// The form that names a token.
#[derive(Debug, Deserialize)]
pub struct RevokeForm {
    #[serde(default)]
    token: String,
}

/// `POST /organizations/ORG/settings/tokens/revoke`: takes a token's authorisation for this organization back.
pub async fn revoke_authorization(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<RevokeForm>,
) -> Result<Response, Refusal> {
    let token = form.token.parse().map_err(|_| ErrorCode::TokenMissing)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by(&visit)?.lock_as_admin(&mut tx, place.organization.id, now).await??;
    let ended = tx.delete_token_authorization(token, place.organization.id, None).await?;
    let ended = ended.ok_or(ErrorCode::TokenMissing)?;
    let owner = load_account(&mut tx, ended.owner).await?.ok_or(ErrorCode::TokenMissing)?.name;
    let entry = audited(&visit, None, AuditAction::OrgTokenRevoke, Vec::new())?;
    tx.audit_ended_tokens(&[ended], owner.as_str(), &entry, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, &place, Done::TokenAuthorizationRevoked))
}
