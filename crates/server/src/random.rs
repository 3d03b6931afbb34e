//! The one source of randomness (rule 17): the system's generator, by way of aws-lc.

use doorward_core::secret::Secret;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives random bytes: the system's, or a counted series for a test.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Counted(Arc<AtomicU64>),
}

/// Octets of an id.
const ID_BYTES: usize = 12;
/// Ids that a thread draws at once: a call of the generator was 2.5 % of a check (bench/README.md).
const IDS_AHEAD: usize = 40;

thread_local! {
    /// Ids that were drawn and not given yet.
    static IDS: RefCell<Vec<[u8; ID_BYTES]>> = const { RefCell::new(Vec::new()) };
}

/// The system's generator gave nothing. There is no way on without it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random generator does not answer")]
pub struct NoRandomness;

/// What a signature's own random number comes from. The library asks for it by itself; nothing that a test looks at follows
/// from it, so it is never turned (rule 17).
pub fn for_signatures() -> aws_lc_rs::rand::SystemRandom {
    aws_lc_rs::rand::SystemRandom::new()
}

impl Random {
    /// The system's generator.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A series that depends on `seed` alone: for tests, never for a service.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Counted(Arc::new(AtomicU64::new(seed))))
    }

    /// `N` random bytes.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System => aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?,
            Source::Counted(next) => {
                for chunk in bytes.chunks_mut(32) {
                    let n = next.fetch_add(1, Ordering::SeqCst).to_be_bytes();
                    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n);
                    for (to, from) in chunk.iter_mut().zip(digest.as_ref()) {
                        *to = *from;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// 96 random bits for an id that everybody may see. They lie in memory for a while before they are given: never for
    /// anything that must be kept secret.
    pub fn id(&self) -> Result<[u8; ID_BYTES], NoRandomness> {
        if matches!(self.0, Source::Counted(_)) {
            return self.bytes();
        }
        IDS.with_borrow_mut(|ahead| {
            if ahead.is_empty() {
                let drawn = self.bytes::<{ ID_BYTES * IDS_AHEAD }>()?;
                ahead.extend_from_slice(drawn.as_chunks().0);
            }
            ahead.pop().ok_or(NoRandomness)
        })
    }

    /// A new token of 256 bits (`secret.rs`).
    pub fn token(&self) -> Result<Secret, NoRandomness> {
        Ok(Secret::token(self.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_id_is_given_twice_on_whatever_thread() {
        let draw = || (0..3 * IDS_AHEAD).map(|_| Random::system().id().unwrap()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw).join().unwrap();
        let all: HashSet<_> = draw().into_iter().chain(other).collect();
        assert_eq!(all.len(), 6 * IDS_AHEAD);
    }
}
