//! Users management: how long an SSO session lasts (hub-sso.md M6), and whether the provider's guests may be linked.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use http::StatusCode;

use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::store::load_connection;
use crate::web::page::{Frame, OrganizationHead, Problems, Tab, show, show_with};
use crate::web::visit::{OrganizationVisit, Visit};

/// `/organizations/ORG/settings/sso/users`.
#[derive(Template, Clone, Debug)]
#[template(path = "sso_users.html")]
pub struct SsoUsersPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The plan that would be needed is missing: no form.
    pub plan_missing: bool,
    /// Hours, as typed or stored.
    pub session_timeout_hours: String,
    /// The time-out in words, as stored.
    pub session_timeout: String,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
    /// Whether guests may be linked; nothing before a provider is connected.
    pub guests_may_link: Option<bool>,
    /// Mistakes.
    pub problems: Problems,
}

impl SsoUsersPage {
    async fn load(app: &App, visit: &Visit, place: &OrganizationVisit) -> Result<Self, Refusal> {
        let connection = load_connection(&mut app.store.reader(), place.organization.id).await?;
        let timeout = place.organization.session_timeout;
        Ok(Self {
            frame: Frame::of(app, visit),
            organization: OrganizationHead::of(place),
            tab: Tab::SsoUsers,
            plan_missing: !place.organization.plan.has_sso(),
            session_timeout_hours: (timeout.seconds() / 3600).to_string(),
            session_timeout: timeout.to_string(),
            same_host_trusted: app.configuration.shares_host_with_application(),
            guests_may_link: connection.map(|connection| connection.guests_may_link),
            problems: Problems::default(),
        })
    }
}

/// `GET /organizations/ORG/settings/sso/users`.
pub async fn show_users(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    Ok(show(&SsoUsersPage::load(&app, &visit, &place).await?))
}

/// The page with a time-out that can't be used, as it was typed (422).
pub(super) async fn show_mistake(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    typed: &str,
) -> Result<Response, Refusal> {
    let page = SsoUsersPage {
        session_timeout_hours: typed.chars().take(20).collect(),
        problems: Problems::one("session_timeout_hours", ErrorCode::SettingsTimeoutInvalid),
        ..SsoUsersPage::load(app, visit, place).await?
    };
    Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
}
