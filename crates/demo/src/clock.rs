//! The demo's only now().
//!
//! Everything that depends on time takes a `Clock` (rule 17); tests turn theirs by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone)]
pub(crate) enum Clock {
    /// The machine's clock.
    System,
    /// A clock that only a test moves, in seconds since the Unix epoch.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests turn the clock"))]
    Turned(Arc<AtomicI64>),
}

impl Clock {
    /// Now, in whole seconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for the time")]
    pub(crate) fn now(&self) -> i64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            Self::Turned(seconds) => seconds.load(Ordering::Relaxed),
        }
    }
}

/// A point in time as Entra prints it in its errors: `2026-01-15 09:30:12Z`, with a space.
pub(crate) fn entra_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// The day of a point in time, as the console's lists show it: `2026-01-15`.
pub(crate) fn day(seconds: i64) -> String {
    entra_time(seconds).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entra_writes_its_times_with_a_space() {
        assert_eq!(entra_time(1_768_469_412), "2026-01-15 09:30:12Z");
        assert_eq!(day(1_768_469_412), "2026-01-15");
    }
}
