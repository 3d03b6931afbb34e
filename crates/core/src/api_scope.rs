//! What an organization's token for the JSON API may read.
//!
//! A scope's name is the last segment of the address that it opens. There is none that changes anything (rule 14).

/// One thing that a token may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiScope {
    /// What the gate would answer to a request, and why.
    Decision,
    /// Members with their roles.
    Members,
    /// Resources, public and private.
    Resources,
    /// The audit log.
    AuditLog,
}

impl ApiScope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Decision, Self::Members, Self::Resources, Self::AuditLog];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Members => "members",
            Self::Resources => "resources",
            Self::AuditLog => "audit-log",
        }
    }

    /// The scope of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}
