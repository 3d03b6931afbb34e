//! The one place that asks for the time (rule 17).
//!
//! A clock that is set back would revive what was already refused as expired (conformance.md F9). So ours never goes
//! back: it is the process's steady time plus the largest distance from it that the wall clock was ever seen to have.

use doorward_core::time::{Lifetime, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Gives the present time: the system's, or one that a test turns. Never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    seen: Arc<Seen>,
}

/// What has been seen of the wall clock, in milliseconds.
#[derive(Debug)]
struct Seen {
    /// Its largest distance from the steady clock so far.
    ahead: AtomicI64,
    /// When it was read last, by the steady clock.
    at: AtomicI64,
}

/// How often the wall clock is read, in milliseconds: a step ahead is seen so much later, and most requests read one clock
/// instead of two.
const LOOK_EVERY: i64 = 10;

#[derive(Clone, Debug)]
enum Source {
    /// The wall clock, and a steady one since the process's start.
    System(std::time::Instant),
    Turned(Arc<AtomicI64>),
}

/// A step back that is worth a word; adjustments of the system's clock are smaller.
const STEP_BACK: Lifetime = Lifetime::from_seconds(5);

impl Clock {
    /// The system's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn system() -> Self {
        Self::over(Source::System(std::time::Instant::now()))
    }

    /// A clock that stands at the shared number of milliseconds since 1970 until somebody turns it.
    pub fn turned(millis: Arc<AtomicI64>) -> Self {
        Self::over(Source::Turned(millis))
    }

    fn over(source: Source) -> Self {
        let seen = Seen { ahead: AtomicI64::new(i64::MIN), at: AtomicI64::new(i64::MIN) };
        let clock = Self { source, seen: Arc::new(seen) };
        // So that nobody finds that nothing has been seen yet.
        clock.now();
        clock
    }

    /// The wall clock, in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn wall(&self) -> i64 {
        match &self.source {
            Source::System(_) => {
                let now = std::time::SystemTime::now();
                millis(now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
            }
            Source::Turned(millis) => millis.load(Ordering::SeqCst),
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.now_on(&self.stopwatch())
    }

    /// The time at which a stopwatch was started a moment ago: for whoever needs both, as the gate does. Earlier than what
    /// another task may have been told meanwhile, by the stopwatch's age.
    pub fn now_on(&self, stopwatch: &Stopwatch) -> Timestamp {
        let steady = self.steady(stopwatch);
        let looked = steady.saturating_sub(self.seen.at.load(Ordering::SeqCst)) < LOOK_EVERY;
        if !looked || matches!(self.source, Source::Turned(_)) {
            return self.look(steady);
        }
        Timestamp::from_millis(steady.saturating_add(self.seen.ahead.load(Ordering::SeqCst)))
    }

    /// Reads the wall clock. The present time, for one of the steady clock.
    fn look(&self, steady: i64) -> Timestamp {
        let wall = self.wall();
        // Read after it: what comes in between makes our time late, which the next look mends; ahead it would stay.
        let ahead = wall.saturating_sub(self.steady(&self.stopwatch()));
        let ahead = self.seen.ahead.fetch_max(ahead, Ordering::SeqCst).max(ahead);
        self.seen.at.store(steady, Ordering::SeqCst);
        Timestamp::from_millis(steady.saturating_add(ahead))
    }

    /// A stopwatch's start by the steady clock.
    fn steady(&self, stopwatch: &Stopwatch) -> i64 {
        match &self.source {
            Source::System(start) => millis(stopwatch.0.saturating_duration_since(*start)),
            Source::Turned(_) => 0,
        }
    }

    /// By how much the wall clock was set back, if it was: our time goes on as before, and a restart takes the new one.
    pub fn set_back_by(&self) -> Option<Lifetime> {
        let back = self.now().since(Timestamp::from_millis(self.wall()));
        (back >= STEP_BACK).then_some(back)
    }

    /// Starts to measure how long something takes. For figures; a decision asks `now_on` at once, or `now`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Moves a turned clock ahead; the system's clock stays as it is.
    pub fn advance(&self, span: Lifetime) {
        if let Source::Turned(millis) = &self.source {
            millis.fetch_add(span.millis(), Ordering::SeqCst);
        }
    }
}

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Time since the start.
    pub fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f9_time_never_goes_back_and_tells_that_the_clock_was_set_back() {
        let wall = Arc::new(AtomicI64::new(1_000_000));
        let clock = Clock::turned(Arc::clone(&wall));
        assert_eq!((clock.now().millis(), clock.set_back_by()), (1_000_000, None));
        wall.store(1_000_000 - 3_600_000, Ordering::SeqCst);
        assert_eq!(clock.now().millis(), 1_000_000);
        assert_eq!(clock.set_back_by(), Some(Lifetime::from_hours(1)));
        wall.store(1_000_001, Ordering::SeqCst);
        assert_eq!((clock.now().millis(), clock.set_back_by()), (1_000_001, None));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is compared")]
    fn f9_a_pause_between_two_readings_puts_no_clock_ahead() {
        let start = std::time::Instant::now().checked_sub(std::time::Duration::from_secs(1)).unwrap();
        let clock = Clock::over(Source::System(start));
        // A stopwatch of a second ago, and the wall clock of now.
        clock.look(0);
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(clock.now().millis() <= millis(wall) + 100);
    }

    #[test]
    fn the_systems_time_goes_on() {
        let clock = Clock::system();
        let first = clock.now();
        while clock.now() == first {}
        assert!(clock.now() > first);
    }
}
