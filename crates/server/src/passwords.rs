//! Passwords: Argon2id on a bounded pool (rule 9), so that a rush of sign-ins can't starve the gate.
//!
//! Parameters are OWASP's current ones: 19 MiB, two passes, one lane. A name that nobody has costs the same as a
//! wrong password (conformance.md ASVS 6.3.8).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::Secret;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::random::Random;

/// Argon2id's memory, passes and lanes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes made at the same time: one fewer than two cores would allow leaves the gate its own.
const AT_ONCE: usize = 2;
/// Sign-ins that may wait for a place; further ones are told to come back.
const WAITING_MAX: usize = 64;
/// How long one waits for a place.
const WAIT: Duration = Duration::from_secs(5);

/// Shortest password, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 10;
/// Longest password, in characters.
pub const PASSWORD_CHARACTERS_MAX: usize = 256;

/// Passwords that are tried first and long enough to pass otherwise.
const COMMON: &[&str] = &[
    "1234567890",
    "0123456789",
    "password123",
    "password1234",
    "passwordpassword",
    "qwertyuiop",
    "1q2w3e4r5t",
    "iloveyou123",
    "administrator",
    "welcome123",
    "letmein123",
    "changeme123",
    "changemenow",
    "1111111111",
    "0000000000",
    "qwerty123456",
    "abcdefghij",
    "aaaaaaaaaa",
    "football123",
    "princess123",
    "sunshine123",
    "superman123",
    "trustno1trustno1",
    "correcthorsebatterystaple",
];

/// Hashes and checks passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// A hash that no password is known for, for names that nobody has.
    nobody: Arc<str>,
}

/// A place in the pool: whoever has one may have one hash made.
#[derive(Debug)]
pub struct Turn {
    _waiting: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
}

/// Why no hash was made.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// All places and all waiting places are taken.
    #[error("all places for hashing are taken")]
    Busy,
    /// The library or the random source refused.
    #[error("the password could not be hashed")]
    Library,
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Library)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_with(salt: [u8; 16], password: &Secret) -> Result<String, PasswordError> {
    argon2()?
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Library)
}

/// Judges a password that somebody wants to have, for an account of that name.
pub fn judge_new_password(password: &Secret, account_name: &str) -> Result<(), ErrorCode> {
    let characters = password.expose().chars().count();
    if characters < PASSWORD_CHARACTERS_MIN {
        return Err(ErrorCode::AccountPasswordTooShort);
    }
    if characters > PASSWORD_CHARACTERS_MAX {
        return Err(ErrorCode::AccountPasswordTooLong);
    }
    let lower = password.expose().to_lowercase();
    let letters: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    let repeats_name = letters.replace(&account_name.to_lowercase(), "").chars().count() < 4;
    if COMMON.contains(&lower.as_str()) || COMMON.contains(&letters.as_str()) || repeats_name {
        return Err(ErrorCode::AccountPasswordCommon);
    }
    Ok(())
}

impl Passwords {
    /// Makes the pool, and what names that nobody has are compared with.
    pub fn new(random: &Random) -> Result<Self, PasswordError> {
        let salt = random.bytes::<16>().map_err(|_| PasswordError::Library)?;
        // Random octets instead of a hash that is computed: as unlikely to be met, and the start is 15 ms shorter.
        let hash = random.bytes::<32>().map_err(|_| PasswordError::Library)?;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        Ok(Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            nobody: format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}").into(),
        })
    }

    /// The hash of a new password, in PHC form.
    pub async fn hash(&self, password: Secret, random: &Random) -> Result<String, PasswordError> {
        let salt = random.bytes().map_err(|_| PasswordError::Library)?;
        run(self.turn().await?, move || hash_with(salt, &password)).await?
    }

    /// Waits for a place, a few seconds at most. `Busy`: there was none, or too many wait already.
    pub async fn turn(&self) -> Result<Turn, PasswordError> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let place = tokio::time::timeout(WAIT, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| PasswordError::Busy)?
            .map_err(|_| PasswordError::Library)?;
        Ok(Turn { _waiting: waiting, place })
    }

    /// Whether `password` is the one of `hash`; with no hash, never, at the same cost.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, PasswordError> {
        self.verify_in(self.turn().await?, password, hash).await
    }

    /// The same, in a place that was waited for.
    pub async fn verify_in(
        &self,
        turn: Turn,
        password: Secret,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let fits = run(turn, move || {
            let parsed = PasswordHash::new(&hash).map_err(|_| PasswordError::Library)?;
            Ok::<_, PasswordError>(argon2()?.verify_password(password.expose().as_bytes(), &parsed).is_ok())
        })
        .await??;
        Ok(fits && known)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the bounded pool")]
async fn run<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PasswordError> {
    let Turn { _waiting, place } = turn;
    tokio::task::spawn_blocking(move || {
        let out = work();
        drop(place);
        out
    })
    .await
    .map_err(|_| PasswordError::Library)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only_and_nobodys_hash_fits_nothing() {
        let random = Random::seeded(1);
        let passwords = Passwords::new(&random).unwrap();
        let hash = passwords.hash(secret("correct horse battery"), &random).await.unwrap();
        let parameters = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(hash.starts_with(parameters), "{hash}");
        assert!(
            passwords.nobody.starts_with(parameters) && passwords.nobody.len() == hash.len(),
            "same cost"
        );
        assert!(passwords.verify(secret("correct horse battery"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horse batter"), Some(hash)).await.unwrap());
        assert!(!passwords.verify(secret("correct horse battery"), None).await.unwrap());
    }

    #[tokio::test]
    async fn rule_9_hashing_is_bounded_and_whoever_finds_no_place_is_told_to_come_back() {
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        assert_eq!(passwords.places.available_permits(), AT_ONCE);
        let everybody = Arc::clone(&passwords.waiting).acquire_many_owned(64).await.unwrap();
        let refused = passwords.verify(secret("correct horse battery"), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy)), "{refused:?}");
        drop(everybody);
        assert!(!passwords.verify(secret("correct horse battery"), None).await.unwrap());
        assert_eq!(passwords.waiting.available_permits(), WAITING_MAX, "places are given back");
    }

    #[test]
    fn new_passwords_are_long_enough_and_not_easy_to_guess() {
        use ErrorCode as E;
        for (password, judged) in [
            ("correct horse 7", Ok(())),
            ("🐎🐎🐎🐎🐎🐎🐎🐎🐎🐎 staple", Ok(())),
            ("short", Err(E::AccountPasswordTooShort)),
            (&*"x".repeat(257), Err(E::AccountPasswordTooLong)),
            ("Password123", Err(E::AccountPasswordCommon)),
            ("miramiramira", Err(E::AccountPasswordCommon)),
            ("Mira-Mira-1", Err(E::AccountPasswordCommon)),
        ] {
            assert_eq!(judge_new_password(&secret(password), "mira"), judged, "{password}");
        }
    }
}
