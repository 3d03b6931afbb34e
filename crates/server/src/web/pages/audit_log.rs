//! The audit log: who did what, when and from where (hub-sso.md A1 to A3).

use askama::Template;
use doorward_core::audit_event::AuditAction;

use crate::web::page::{Frame, Moment, OrganizationHead, Tab};

/// One entry.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// Its number within the organization.
    pub sequence: i64,
    /// When.
    pub at: Moment,
    /// Who: the name at that time.
    pub actor: String,
    /// `account`, `operator` or `system`.
    pub actor_kind: String,
    /// The action's code.
    pub action: String,
    /// Named details.
    pub details: Vec<(String, String)>,
    /// The network that the request came from; empty if unknown.
    pub place: String,
    /// The request; empty if there was none.
    pub request_id: String,
}

impl AuditLine {
    /// What the action means; empty for a code of a newer version.
    fn meaning(&self) -> &'static str {
        AuditAction::from_code(&self.action).map_or("", AuditAction::meaning)
    }
}

/// `/organizations/ORG/settings/audit-log`.
#[derive(Template, Clone, Debug)]
#[template(path = "audit_log.html")]
pub struct AuditLogPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The entries, the newest first.
    pub entries: Vec<AuditLine>,
    /// The chosen action; empty for all.
    pub action: String,
    /// Where the next, older page begins.
    pub next_before: Option<i64>,
    /// Whether newer entries lie before this page.
    pub has_newer: bool,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
}

impl AuditLogPage {
    fn is_chosen(&self, code: &str) -> bool {
        self.action == code
    }

    /// Actions that an organization's log can have.
    fn actions() -> Vec<&'static str> {
        let of_organizations = |action: &AuditAction| !action.as_str().starts_with("account.");
        AuditAction::ALL.iter().filter(|a| of_organizations(a)).map(|action| action.as_str()).collect()
    }
}
