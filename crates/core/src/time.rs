//! Points in time and spans of time, in milliseconds.
//!
//! Arithmetic only. Never here: a clock (rule 17). The server's `clock.rs` is the one place that asks for now.

use std::fmt;
use std::num::NonZeroU32;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. May lie before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch, as the store keeps them.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch, as tokens carry them (RFC 7519 section 2, `NumericDate`).
    /// Values out of range end at the range's end.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This point moved ahead by `span`. Ends at the range's end instead of overflowing.
    #[must_use]
    pub const fn plus(self, span: Lifetime) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This point moved back by `span`. Ends at the range's end instead of overflowing.
    #[must_use]
    pub const fn minus(self, span: Lifetime) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; negative when it lies before.
    pub const fn since(self, earlier: Self) -> Lifetime {
        Lifetime(self.0.saturating_sub(earlier.0))
    }
}

/// A point in time kept to the second, in four octets, for what is kept a million times.
///
/// Rounded down, so that what lasts from it on lasts a second less rather than longer. Ends at 1970 and 2106.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WholeSecond(NonZeroU32);

impl From<Timestamp> for WholeSecond {
    fn from(time: Timestamp) -> Self {
        // One more than the seconds: the number that this leaves free makes a list around it smaller.
        let seconds = u32::try_from(time.seconds().max(0)).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(seconds))
    }
}

impl From<WholeSecond> for Timestamp {
    fn from(second: WholeSecond) -> Self {
        Self::from_seconds(i64::from(second.0.get()) - 1)
    }
}

/// A span of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lifetime(i64);

impl Lifetime {
    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// From minutes.
    pub const fn from_minutes(minutes: i64) -> Self {
        Self::from_seconds(minutes.saturating_mul(60))
    }

    /// From hours.
    pub const fn from_hours(hours: i64) -> Self {
        Self::from_minutes(hours.saturating_mul(60))
    }

    /// From days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self::from_hours(days.saturating_mul(24))
    }

    /// Milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// For people: the largest whole unit, as in `7 days` or `1 hour`.
impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let (count, unit) = match seconds {
            s if s != 0 && s % 86_400 == 0 => (s / 86_400, "day"),
            s if s != 0 && s % 3_600 == 0 => (s / 3_600, "hour"),
            s if s != 0 && s % 60 == 0 => (s / 60, "minute"),
            s => (s, "second"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_ends_at_the_range_instead_of_overflowing() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.plus(Lifetime::from_days(1)), last);
        assert_eq!(Timestamp::from_seconds(i64::MAX), last);
    }

    #[test]
    fn a_whole_second_is_never_later_than_what_it_was_made_of() {
        for millis in [0, 1, 999, 1000, 1_800_000_000_999, 4_294_967_293_999, 4_294_967_294_000, i64::MAX] {
            let time = Timestamp::from_millis(millis);
            let kept = Timestamp::from(WholeSecond::from(time));
            assert!(kept <= time, "{millis}");
            assert_eq!(kept.seconds(), time.seconds().min(i64::from(u32::MAX) - 1), "{millis}");
        }
        let before = Timestamp::from(WholeSecond::from(Timestamp::from_millis(i64::MIN)));
        assert_eq!(before, Timestamp::from_millis(0));
        assert_eq!(size_of::<Option<WholeSecond>>(), 4);
    }

    #[test]
    fn a_lifetime_is_shown_in_its_largest_whole_unit() {
        assert_eq!(Lifetime::from_days(7).to_string(), "7 days");
        assert_eq!(Lifetime::from_hours(1).to_string(), "1 hour");
        assert_eq!(Lifetime::from_minutes(90).to_string(), "90 minutes");
    }
}
