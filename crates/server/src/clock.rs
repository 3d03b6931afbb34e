//! The one place that asks for the time (rule 17).

use doorward_core::time::{Lifetime, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Gives the present time: the system's, or one that a test turns.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Turned(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at the shared number of milliseconds since 1970 until somebody turns it.
    pub fn turned(millis: Arc<AtomicI64>) -> Self {
        Self(Source::Turned(millis))
    }

    /// The present time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Turned(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Starts to measure how long something takes; for figures only, never for a decision.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Moves a turned clock ahead; the system's clock stays as it is.
    pub fn advance(&self, span: Lifetime) {
        if let Source::Turned(millis) = &self.0 {
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
