//! Identifiers, parsed once and never bare strings.
//!
//! Each is a UUID (version 7 when we make it: sorted by time), opaque to everybody else. None is a secret: secrets
//! are 32 random bytes, see `secret.rs`. An id is never given again (rule 7).

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(Uuid);

        impl $name {
            /// From the time in milliseconds and ten random bytes (RFC 9562 section 5.7).
            pub fn new(millis: i64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &random).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }
    };
}

/// A text that is no identifier of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier")]
pub struct InvalidId;

id! {
    /// An account: a person's login.
    AccountId
}
id! {
    /// An organization.
    OrganizationId
}
id! {
    /// An organization's SSO settings for one protocol.
    ConnectionId
}
id! {
    /// A browser session; the cookie's secret changes, this does not.
    SessionId
}

id! {
    /// An invitation by link; the link's token is another thing.
    InvitationId
}

id! {
    /// An organization's token for the JSON API; the token itself is another thing.
    ApiTokenId
}

id! {
    /// A personal access token; the token itself is another thing.
    AccessTokenId
}

/// Number of a revision within its connection, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RevisionNumber(pub i64);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
