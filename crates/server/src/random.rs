//! The one source of randomness (rule 17): the system's generator, by way of aws-lc.

use doorward_core::secret::Secret;
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

    /// A new token of 256 bits (`secret.rs`).
    pub fn token(&self) -> Result<Secret, NoRandomness> {
        Ok(Secret::token(self.bytes()?))
    }
}
