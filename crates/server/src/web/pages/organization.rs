//! A new organization, and an organization's general settings.

use askama::Template;

use crate::web::page::{Frame, OrganizationHead, Problems, Tab};

/// `/organizations/new`.
#[derive(Template, Clone, Debug)]
#[template(path = "organization_new.html")]
pub struct NewOrganizationPage {
    /// The frame.
    pub frame: Frame,
    /// As typed before.
    pub name: String,
    /// As typed before.
    pub display_name: String,
    /// Mistakes.
    pub problems: Problems,
}

/// `/organizations/ORG/settings`.
#[derive(Template, Clone, Debug)]
#[template(path = "organization_general.html")]
pub struct GeneralSettingsPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// As typed or stored.
    pub display_name: String,
    /// The plan, for display.
    pub plan: &'static str,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
    /// Mistakes.
    pub problems: Problems,
}
