//! Members and their roles.

use askama::Template;
use doorward_core::membership::Role;

use crate::web::page::{Frame, OrganizationHead, Problems, Tab, counted, role_label};

/// One member.
#[derive(Clone, Debug)]
pub struct MemberLine {
    /// The account's name.
    pub name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The role.
    pub role: Role,
    /// Reaches the organization without SSO.
    pub external_collaborator: bool,
    /// The account that looks.
    pub is_self: bool,
}

impl MemberLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// A choice in a list of roles.
#[derive(Clone, Copy, Debug)]
pub struct RoleChoice {
    /// The role.
    pub role: Role,
    /// In words.
    pub label: &'static str,
}

/// The roles, for a list.
pub fn role_choices() -> Vec<RoleChoice> {
    Role::ALL.into_iter().map(|role| RoleChoice { role, label: role_label(role) }).collect()
}

/// `/organizations/ORG/settings/members`.
#[derive(Template, Clone, Debug)]
#[template(path = "members.html")]
pub struct MembersPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The members of this page, by name.
    pub members: Vec<MemberLine>,
    /// How many there are in all.
    pub total: i64,
    /// Where the next page begins.
    pub next_after: Option<String>,
    /// As typed in the form that adds.
    pub add_account: String,
    /// Mistakes: `account`, `role`, or of the page as a whole.
    pub problems: Problems,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
}

impl MembersPage {
    fn may_change(&self) -> bool {
        self.organization.role == Role::Admin
    }

    fn counted(&self) -> String {
        counted(self.total, "member", "members")
    }

    fn roles() -> Vec<RoleChoice> {
        role_choices()
    }
}
