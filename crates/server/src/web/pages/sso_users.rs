//! Users management: how long an SSO session lasts (hub-sso.md M6).

use askama::Template;

use crate::web::page::{Frame, OrganizationHead, Problems, Tab};

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
    /// What widens entry asks for the organization's SSO first (rule 12).
    pub complete_sso_first: bool,
    /// Mistakes.
    pub problems: Problems,
}
