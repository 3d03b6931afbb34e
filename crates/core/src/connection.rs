//! A connection's settings and its state: revisions, draft and live (architecture.md §3).
//!
//! Settings are saved as immutable revisions. `draft` is the newest; `live` is the one that members use. Nothing here
//! is stored as a flag: the state shown is derived each time, so it can't go stale.

use crate::ids::RevisionNumber;
use crate::time::{Lifetime, Timestamp};

/// How long a passed test counts for Enable.
pub const TEST_COUNTS_FOR: Lifetime = Lifetime::from_hours(1);

/// An SSO session's lifetime unless the organization chose another (hub-sso.md M6).
pub const DEFAULT_SESSION_TIMEOUT: Lifetime = Lifetime::from_days(7);

/// How the client proves itself at the token endpoint (RFC 6749 section 2.3.1; OpenID Connect Core section 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuthMethod {
    /// Identifier and secret in the `Authorization` header.
    Basic,
    /// Identifier and secret in the form body.
    Post,
}

impl ClientAuthMethod {
    /// The name that OpenID Connect registered for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The method of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Basic, Self::Post].into_iter().find(|method| method.as_str() == text)
    }
}

/// When the UserInfo endpoint is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UserinfoMode {
    /// Only if the ID token lacks the address and the provider offers UserInfo.
    #[default]
    WhenNeeded,
    /// At every sign-in.
    Always,
}

impl UserinfoMode {
    /// The name in the store and in forms.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WhenNeeded => "when_needed",
            Self::Always => "always",
        }
    }

    /// The mode of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::WhenNeeded, Self::Always].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// Whether members need SSO, or are only asked for it (hub-sso.md M2, M3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enforcement {
    /// Nothing private without SSO.
    Enforced,
    /// A banner asks; access is not refused.
    Optional,
}

impl Enforcement {
    /// The name in the store, in forms and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Optional => "optional",
        }
    }

    /// The enforcement of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Enforced, Self::Optional].into_iter().find(|known| known.as_str() == text)
    }
}

/// How the newest test of a revision ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TestOutcome {
    /// No test has ended yet.
    #[default]
    None,
    /// The last test failed.
    Failed,
    /// A test passed.
    Passed,
}

impl TestOutcome {
    /// The name in the store and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Failed => "failed",
            Self::Passed => "passed",
        }
    }

    /// The outcome of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::None, Self::Failed, Self::Passed].into_iter().find(|known| known.as_str() == text)
    }
}

/// The state that pages and `sso show` give (architecture.md §3 and §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// No revision.
    NotSetUp,
    /// The draft has no ended test.
    Untested,
    /// The draft's last test failed.
    TestFailed,
    /// The draft's own test passed: the green check.
    Tested,
    /// Enabled, and the draft is the live one.
    Live,
    /// Enabled, and a newer draft waits; members go on with the live one.
    LiveChangePending,
}

impl ConnectionState {
    /// Derives the state: `draft` is the newest revision with its test, `live` the enabled one.
    pub fn of(draft: Option<(RevisionNumber, TestOutcome)>, live: Option<RevisionNumber>) -> Self {
        match (draft, live) {
            (None, _) => Self::NotSetUp,
            (Some((draft, _)), Some(live)) if draft == live => Self::Live,
            (Some(_), Some(_)) => Self::LiveChangePending,
            (Some((_, TestOutcome::None)), None) => Self::Untested,
            (Some((_, TestOutcome::Failed)), None) => Self::TestFailed,
            (Some((_, TestOutcome::Passed)), None) => Self::Tested,
        }
    }

    /// The name in `sso show --json` and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSetUp => "not_set_up",
            Self::Untested => "untested",
            Self::TestFailed => "test_failed",
            Self::Tested => "tested",
            Self::Live => "live",
            Self::LiveChangePending => "live_change_pending",
        }
    }

    /// Whether members need (or are asked for) SSO now.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveChangePending)
    }
}

/// Whether a test that ended at `tested_at` still counts for Enable.
pub fn test_still_counts(tested_at: Timestamp, now: Timestamp) -> bool {
    let age = now.since(tested_at);
    age >= Lifetime::from_millis(0) && age < TEST_COUNTS_FOR
}

/// When an SSO session ends: not sliding, and by the organization's time-out of this moment (decisions.md).
pub fn sso_session_ends_at(authenticated_at: Timestamp, timeout: Lifetime) -> Timestamp {
    authenticated_at.plus(timeout)
}

/// Whether an SSO session that began under the epoch `begun_under` counts now: the connection has that epoch still, and the
/// session is not over.
pub fn sso_session_counts(
    begun_under: i64,
    authenticated_at: Timestamp,
    epoch: i64,
    timeout: Lifetime,
    now: Timestamp,
) -> bool {
    begun_under == epoch && now < sso_session_ends_at(authenticated_at, timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RevisionNumber = RevisionNumber(1);
    const TWO: RevisionNumber = RevisionNumber(2);

    #[test]
    fn s7_the_state_is_that_of_the_newest_draft_own_test() {
        use TestOutcome::{Failed, None as Not, Passed};
        assert_eq!(ConnectionState::of(None, None), ConnectionState::NotSetUp);
        assert_eq!(ConnectionState::of(Some((ONE, Not)), None), ConnectionState::Untested);
        assert_eq!(ConnectionState::of(Some((ONE, Failed)), None), ConnectionState::TestFailed);
        assert_eq!(ConnectionState::of(Some((ONE, Passed)), None), ConnectionState::Tested);
        assert_eq!(ConnectionState::of(Some((ONE, Passed)), Some(ONE)), ConnectionState::Live);
        for outcome in [Not, Failed, Passed] {
            assert_eq!(
                ConnectionState::of(Some((TWO, outcome)), Some(ONE)),
                ConnectionState::LiveChangePending
            );
        }
    }

    #[test]
    fn a_test_counts_for_an_hour_and_never_from_the_future() {
        let t = Timestamp::from_seconds(1_000_000);
        assert!(test_still_counts(t, t));
        assert!(test_still_counts(t, t.plus(Lifetime::from_millis(3_599_999))));
        assert!(!test_still_counts(t, t.plus(Lifetime::from_hours(1))));
        assert!(!test_still_counts(t.plus(Lifetime::from_seconds(1)), t));
    }
}
