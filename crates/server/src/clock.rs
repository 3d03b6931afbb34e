//! The one place that asks for the time (rule 17).
//!
//! A clock that is set back would revive what was already refused as expired (conformance.md F9). So ours never goes
//! back: it is the process's steady time plus the largest distance from it that the wall clock has ever had.

use doorward_core::time::{Lifetime, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Gives the present time: the system's, or one that a test turns. Never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// Largest distance of the wall clock from the steady one so far, in milliseconds.
    ahead: Arc<AtomicI64>,
}

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
        Self { source, ahead: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    /// Wall clock and steady time, in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn read(&self) -> (i64, i64) {
        match &self.source {
            Source::System(start) => {
                let wall =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                (millis(wall), millis(start.elapsed()))
            }
            Source::Turned(millis) => (millis.load(Ordering::SeqCst), 0),
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        let (wall, steady) = self.read();
        let ahead = wall.saturating_sub(steady);
        // Written only when there is something new: every request of every core reads it.
        let known = self.ahead.load(Ordering::SeqCst);
        let ahead =
            if ahead > known { self.ahead.fetch_max(ahead, Ordering::SeqCst).max(ahead) } else { known };
        Timestamp::from_millis(steady.saturating_add(ahead))
    }

    /// By how much the wall clock was set back, if it was: our time goes on as before, and a restart takes the new one.
    pub fn set_back_by(&self) -> Option<Lifetime> {
        let (wall, _) = self.read();
        let back = self.now().since(Timestamp::from_millis(wall));
        (back >= STEP_BACK).then_some(back)
    }

    /// Starts to measure how long something takes; for figures only, never for a decision.
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
    fn the_systems_time_goes_on() {
        let clock = Clock::system();
        let first = clock.now();
        while clock.now() == first {}
        assert!(clock.now() > first);
    }
}
