//! Passwords: Argon2id on a bounded pool (rule 9), so that a rush of sign-ins can't starve the gate.
//!
//! Parameters are OWASP's current ones: 19 MiB, two passes, one lane. A name that nobody has costs the same as a
//! wrong password (conformance.md ASVS 6.3.8). Hashes that were imported (Argon2 of other parameters, bcrypt) are
//! checked as they are, within bounds, and replaced by one of ours at the first sign-in.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::Secret;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::random::Random;

/// Argon2id's memory, passes and lanes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What an imported hash may cost at most: a hostile one would be a bomb. About a third of a second each.
const FOREIGN_MEMORY_KIB_MAX: u32 = 128 * 1024;
const FOREIGN_BLOCKS_MAX: u64 = 512 * 1024;
const FOREIGN_LANES_MAX: u32 = 8;
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=13;

/// Hashes made at the same time: one fewer than two cores would allow leaves the gate its own.
const AT_ONCE: usize = 2;
/// Strangers' passwords that may wait for a place; further ones are told to come back. So many get one in [`WAIT`].
const WAITING_MAX: usize = 256;
/// The same for known people, who wait in a queue of their own.
const KNOWN_WAITING_MAX: usize = 128;
/// How long one waits for a place.
const WAIT: Duration = Duration::from_secs(10);

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
    strangers: Queue,
    known: Queue,
    to_do: mpsc::Sender<Work>,
    /// A hash that no password is known for, for names that nobody has.
    nobody: Arc<str>,
}

/// Whose password it is: the two wait apart, so that no rush of strangers keeps out whom we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Anybody.
    Stranger,
    /// Somebody signed in, or in a browser in which the account signed in before.
    Known,
}

/// Those of one kind that wait. Its first one alone waits for a place: the places then go to the two kinds in turns.
#[derive(Clone, Debug)]
struct Queue {
    waiting: Arc<Semaphore>,
    first: Arc<Semaphore>,
}

impl Queue {
    fn of(most: usize) -> Self {
        Self { waiting: Arc::new(Semaphore::new(most)), first: Arc::new(Semaphore::new(1)) }
    }
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
    /// All places and all waiting places are taken, or there is no memory for one more hash: it may be tried again.
    #[error("all places for hashing are taken")]
    Busy,
    /// The library or the random source refused.
    #[error("the password could not be hashed")]
    Library,
}

impl PasswordError {
    const fn of(error: argon2::password_hash::Error) -> Self {
        match error {
            argon2::password_hash::Error::OutOfMemory => Self::Busy,
            _ => Self::Library,
        }
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Library)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_with(salt: [u8; 16], password: &Secret) -> Result<String, PasswordError> {
    argon2()?
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(PasswordError::of)
}

/// Whether a hash of another system can be taken: Argon2 in PHC form or bcrypt, of bounded cost; else why not.
pub fn judge_foreign_hash(hash: &str) -> Result<(), &'static str> {
    const NEITHER: &str = "password_hash is neither Argon2 in PHC form nor bcrypt ($2a$, $2b$, $2y$)";
    if hash.len() > 256 {
        return Err(NEITHER);
    }
    if hash.starts_with("$2") {
        let parts: bcrypt::HashParts = hash.parse().map_err(|_| NEITHER)?;
        // $2x$ marks hashes of a program that read some characters wrongly.
        if !["$2a$", "$2b$", "$2y$"].iter().any(|begin| hash.starts_with(begin)) {
            return Err(NEITHER);
        }
        return if BCRYPT_COSTS.contains(&parts.get_cost()) {
            Ok(())
        } else {
            Err("password_hash costs too much: bcrypt's cost is 4 to 13")
        };
    }
    let parsed = PasswordHash::new(hash).map_err(|_| NEITHER)?;
    let is_argon2 = Algorithm::try_from(parsed.algorithm.as_str()).is_ok();
    let params = Params::try_from(&parsed).map_err(|_| NEITHER)?;
    let bytes = parsed.hash.as_ref().map_or(0, |hash| hash.as_bytes().len());
    let salt_bytes = parsed.salt.as_ref().map_or(0, |salt| salt.len());
    if !is_argon2 || salt_bytes < argon2::MIN_SALT_LEN || bytes < 16 {
        return Err(NEITHER);
    }
    if Version::try_from(version_of(&parsed)).is_err() {
        return Err("password_hash is of an unknown version of Argon2: there are v=16 and v=19");
    }
    if !params.keyid().is_empty() {
        return Err("password_hash was made with a secret key besides the password (keyid)");
    }
    let blocks = u64::from(params.m_cost()).saturating_mul(u64::from(params.t_cost()));
    let too_much = params.m_cost() > FOREIGN_MEMORY_KIB_MAX
        || blocks > FOREIGN_BLOCKS_MAX
        || params.p_cost() > FOREIGN_LANES_MAX;
    if too_much {
        Err("password_hash costs too much: at most 128 MiB, 512 MiB over all passes, 8 lanes")
    } else {
        Ok(())
    }
}

/// The version of an Argon2 hash: one that names none is of the time before there were two, as the reference code reads it.
fn version_of(hash: &PasswordHash) -> u32 {
    hash.version.unwrap_or(Version::V0x10.into())
}

/// Whether a hash is one that we would make today; another one is replaced when its password is known.
pub fn is_ours(hash: &str) -> bool {
    hash.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
}

/// Whether `password` is the one of `hash`, at the hash's own cost.
fn fits(password: &Secret, hash: &str) -> Result<bool, PasswordError> {
    if judge_foreign_hash(hash).is_err() {
        // Not one that we made or took: it opens to nobody.
        return Ok(false);
    }
    if hash.starts_with("$2") {
        return bcrypt::verify(password.expose(), hash).map_err(|_| PasswordError::Library);
    }
    let mut parsed = PasswordHash::new(hash).map_err(|_| PasswordError::Library)?;
    // The library would take the newer version for one that names none.
    parsed.version = Some(version_of(&parsed));
    match argon2()?.verify_password(password.expose().as_bytes(), &parsed) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        // Not computed is not wrong: nobody's failures are counted for it.
        Err(error) => Err(PasswordError::of(error)),
    }
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
            strangers: Queue::of(WAITING_MAX),
            known: Queue::of(KNOWN_WAITING_MAX),
            to_do: start_threads()?,
            nobody: format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}").into(),
        })
    }

    /// The hash of a stranger's new password, in PHC form.
    pub async fn hash(&self, password: Secret, random: &Random) -> Result<String, PasswordError> {
        self.hash_in(self.turn(Caller::Stranger).await?, password, random).await
    }

    /// The same, in a place that was waited for.
    pub async fn hash_in(
        &self,
        turn: Turn,
        password: Secret,
        random: &Random,
    ) -> Result<String, PasswordError> {
        let salt = random.bytes().map_err(|_| PasswordError::Library)?;
        self.run(turn, move || hash_with(salt, &password)).await?
    }

    /// Waits for a place, a few seconds at most. `Busy`: there was none, or too many wait already.
    pub async fn turn(&self, caller: Caller) -> Result<Turn, PasswordError> {
        let queue = match caller {
            Caller::Stranger => &self.strangers,
            Caller::Known => &self.known,
        };
        let waiting = Arc::clone(&queue.waiting).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let place = async {
            let _first = queue.first.acquire().await?;
            Arc::clone(&self.places).acquire_owned().await
        };
        let place = tokio::time::timeout(WAIT, place)
            .await
            .map_err(|_| PasswordError::Busy)?
            .map_err(|_| PasswordError::Library)?;
        Ok(Turn { _waiting: waiting, place })
    }

    /// Whether a stranger's `password` is the one of `hash`; with no hash, never, at the same cost.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, PasswordError> {
        self.verify_in(self.turn(Caller::Stranger).await?, password, hash).await
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
        let fits = self.run(turn, move || fits(&password, &hash)).await??;
        Ok(fits && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Turn { _waiting, place } = turn;
        let (tell, told) = oneshot::channel();
        let work = move || {
            let out = work();
            drop(place);
            drop(tell.send(out));
        };
        self.to_do.send(Box::new(work)).map_err(|_| PasswordError::Library)?;
        told.await.map_err(|_| PasswordError::Library)
    }
}

/// A hash to be made.
type Work = Box<dyn FnOnce() + Send>;

/// Lets whatever else wants to run on this thread's processor run at once: a hash takes tens of milliseconds, a check of the
/// gate must not wait for the scheduler to take turns (rule 9; docs/adr/0010). Without such a policy, or the right to it,
/// things are as they were.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let done = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        if let Err(error) = done {
            tracing::debug!(?error, "password hashing keeps the usual priority");
        }
    }
}

/// Starts the pool's threads; they end when nobody can send them work any more. They are made here and not when they are
/// needed: in tokio's pool, work for which the system has no thread to give waits for ever, and keeps its place, so that
/// nobody could sign in any more (conformance.md F23).
fn start_threads() -> Result<mpsc::Sender<Work>, PasswordError> {
    let (to_do, queue) = mpsc::channel::<Work>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..AT_ONCE {
        let queue = Arc::clone(&queue);
        let one_after_the_other = move || {
            give_way();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(work) = next else { return };
                // A panic is that hash's failure, not the thread's end: its answer never comes.
                drop(catch_unwind(AssertUnwindSafe(work)));
            }
        };
        let started = std::thread::Builder::new().name("passwords".to_owned()).spawn(one_after_the_other);
        started.map_err(|_| PasswordError::Library)?;
    }
    Ok(to_do)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGON2_OF_PYTHON: &str =
        "$argon2id$v=19$m=8192,t=3,p=4$A/kg6oJfiniFJ65BLHrUjg$3x/E4fLF7PWXUEk5KUzJ3ro44bbc5/SjzKLcv6BOQ0E";
    const ARGON2_OF_2015: &str =
        "$argon2id$v=16$m=1024,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$91xeK+/gQOP9DPSaDVpgUWPDsfa6WyQRY9OqKhkw8QU";
    const ARGON2_WITHOUT_A_VERSION: &str =
        "$argon2i$m=1024,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$VnTiqqifJBNDeH28CZ3JsUjW0zI7O4zte1M4NThRhI0";
    const BCRYPT_OF_PHP: &str = "$2y$06$EzS..Ydm7qrE2PNXdDGzfecCxqlugA1MCl7TM1/74yMzRYGmb2rH6";

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
        let all = u32::try_from(WAITING_MAX).unwrap();
        let everybody = Arc::clone(&passwords.strangers.waiting).acquire_many_owned(all).await.unwrap();
        let refused = passwords.verify(secret("correct horse battery"), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy)), "{refused:?}");
        drop(everybody);
        assert!(!passwords.verify(secret("correct horse battery"), None).await.unwrap());
        let left = passwords.strangers.waiting.available_permits();
        assert_eq!(left, WAITING_MAX, "places are given back");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn rule_9_a_hash_gives_way_to_whatever_else_wants_to_run() {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_native_id, thread_schedule_policy_param,
        };
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        let turn = passwords.turn(Caller::Stranger).await.unwrap();
        let policy = passwords.run(turn, || thread_schedule_policy_param(thread_native_id())).await.unwrap();
        let (policy, _) = policy.unwrap();
        assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
    }

    #[tokio::test]
    async fn rule_9_known_people_have_every_second_place_however_many_strangers_wait() {
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        let mut working = Vec::new();
        for _ in 0..AT_ONCE {
            working.push(passwords.turn(Caller::Stranger).await.unwrap());
        }
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let wait = |caller| {
            let (passwords, tell) = (passwords.clone(), tell.clone());
            tokio::spawn(async move {
                if let Ok(turn) = passwords.turn(caller).await {
                    tell.send((caller, turn)).unwrap();
                }
            });
        };
        // As many strangers as may wait and more, from wherever they come; then three whom we know.
        (0..WAITING_MAX + 10).for_each(|_| wait(Caller::Stranger));
        tokio::task::yield_now().await;
        (0..3).for_each(|_| wait(Caller::Known));
        tokio::task::yield_now().await;
        // One place alone, so that it is seen who has it after whom.
        drop(working.pop());
        let mut order = Vec::new();
        for _ in 0..6 {
            let (caller, turn) = told.recv().await.unwrap();
            order.push(caller);
            drop(turn);
        }
        let known = order.iter().filter(|caller| **caller == Caller::Known).count();
        assert_eq!(known, 3, "{order:?}");
        assert!(order.windows(2).all(|two| two[0] != two[1]), "in turns: {order:?}");
    }

    #[tokio::test]
    async fn a_hash_of_another_system_fits_its_password_within_bounds() {
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        // Made by Python's argon2-cffi and by PHP's password_hash.
        for hash in [ARGON2_OF_PYTHON, ARGON2_OF_2015, ARGON2_WITHOUT_A_VERSION, BCRYPT_OF_PHP] {
            assert_eq!(judge_foreign_hash(hash), Ok(()), "{hash}");
            assert!(!is_ours(hash));
            assert!(passwords.verify(secret("correct horse battery"), Some(hash.to_owned())).await.unwrap());
            assert!(!passwords.verify(secret("correct horse batter"), Some(hash.to_owned())).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_that_would_cost_too_much_is_neither_taken_nor_tried() {
        let tail = "c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo";
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        for hash in [
            format!("$argon2id$v=19$m=4194304,t=1,p=1${tail}"),
            format!("$argon2id$v=19$m=65536,t=4000000000,p=1${tail}"),
            format!("$argon2id$v=19$m=19456,t=2,p=200${tail}"),
            format!("$argon2id$v=19$m=131072,t=5,p=1${tail}"),
            "$2b$31$abcdefghijklmnopqrstuuGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG".into(),
            "$2b$14$abcdefghijklmnopqrstuuGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG".into(),
            "$2x$10$abcdefghijklmnopqrstuuGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG".into(),
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0".into(),
            "$5$rounds=1000$salt$hash".into(),
            "5f4dcc3b5aa765d61d8327deb882cf99".into(),
            String::new(),
            "$".repeat(300),
        ] {
            assert!(judge_foreign_hash(&hash).is_err(), "{hash}");
            assert!(!passwords.verify(secret("x"), Some(hash)).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_that_no_password_could_ever_be_compared_with_is_not_taken() {
        let hash = "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo";
        let passwords = Passwords::new(&Random::seeded(1)).unwrap();
        for hash in [
            format!("$argon2id$v=18$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0${hash}"),
            format!("$argon2id$v=20$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0${hash}"),
            // A salt of four octets; a secret key that is kept elsewhere.
            format!("$argon2id$v=19$m=1024,t=2,p=1$c2FsdA${hash}"),
            format!("$argon2id$v=19$m=1024,t=2,p=1,keyid=YWJj$c2FsdHNhbHRzYWx0${hash}"),
        ] {
            assert!(judge_foreign_hash(&hash).is_err(), "{hash}");
            assert!(!passwords.verify(secret("x"), Some(hash)).await.unwrap());
        }
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
