//! Home: the account's organizations, each with its SSO and what to do about it (hub-sso.md M1, M3, M5).

use askama::Template;
use doorward_core::membership::Role;

use crate::web::page::{Frame, Moment, role_label};

/// What SSO means for this account, in this browser, in one organization.
#[derive(Clone, Debug)]
pub enum HomeSso {
    /// The organization has none.
    Off,
    /// Done; holds until then.
    Complete(Moment),
    /// Needed and not done.
    Needed,
    /// Asked for and not done.
    Asked,
    /// Not needed: an external collaborator.
    Exempt,
}

/// One organization of the account.
#[derive(Clone, Debug)]
pub struct HomeOrganization {
    /// Its name.
    pub name: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The account's role.
    pub role: Role,
    /// Its SSO for this account in this browser.
    pub sso: HomeSso,
}

impl HomeOrganization {
    fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn is_open(&self) -> bool {
        matches!(self.sso, HomeSso::Needed | HomeSso::Asked)
    }

    /// A letter for the picture beside the name.
    fn initial(&self) -> String {
        self.display_name.chars().next().map_or_else(String::new, |c| c.to_uppercase().collect())
    }
}

/// `/`.
#[derive(Template, Clone, Debug)]
#[template(path = "home.html")]
pub struct HomePage {
    /// The frame.
    pub frame: Frame,
    /// The person's name, or the account's.
    pub greeting: String,
    /// The organizations.
    pub organizations: Vec<HomeOrganization>,
    /// Whether the account may make organizations.
    pub may_create: bool,
}

impl HomePage {
    /// Those whose SSO is needed and not done: the page asks for it first.
    fn needed(&self) -> Vec<&HomeOrganization> {
        self.organizations.iter().filter(|o| matches!(o.sso, HomeSso::Needed)).collect()
    }
}
