//! Membership: an account in an organization, with a role.

use std::fmt;
use std::str::FromStr;

/// What a member may do, in rising order (hub-sso.md M10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Belongs to the organization and sees nothing by it.
    NoAccess,
    /// May look.
    Read,
    /// May add his own.
    Contributor,
    /// May change what there is.
    Write,
    /// May change settings and members.
    Admin,
}

impl Role {
    /// All roles in rising order.
    pub const ALL: [Self; 5] = [Self::NoAccess, Self::Read, Self::Contributor, Self::Write, Self::Admin];

    /// The role's name in the store, in headers, in the API and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAccess => "no_access",
            Self::Read => "read",
            Self::Contributor => "contributor",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such role: use no_access, read, contributor, write or admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_roles_rise_from_no_access_to_admin() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("Admin".parse::<Role>(), Err(UnknownRole));
    }
}
