//! Secrets at rest: sealed with the master key, bound to their table, column and row (rule 6).
//!
//! AES-256-GCM-SIV (misuse-resistant: RFC 8452) under a key that HKDF-SHA-256 derives from the master key. A sealed
//! value is `v1.KEYID.BASE64URL(nonce, ciphertext, tag)`; the associated data is `table.column.row`, so a value moved
//! to another row does not open. Each key of the file opens; the one that the store knows as its newest seals, so that
//! a node with an older copy of the file undoes no rotation. A file that has changed is read again without a restart.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::secret::Secret;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use zeroize::Zeroizing;

use crate::key_file::{self, MasterKey, Version};
use crate::random::Random;

/// Seals and opens secrets with the keys of one master key file. Clones share what was read of it.
#[derive(Clone)]
pub struct Sealing {
    /// `None`: a key of a test, without a file.
    path: Option<PathBuf>,
    ring: Arc<RwLock<Arc<Ring>>>,
    /// A changed file that could not be used, so that it is read and told of once.
    unusable: Arc<Mutex<Option<Version>>>,
    /// The key that seals, by the store's word; `None` until it was asked, and the file's first seals.
    sealer: Arc<RwLock<Option<Arc<str>>>>,
}

/// The keys as they were when the file was read.
struct Ring {
    newest: Key,
    others: Vec<Key>,
    /// Which file that was.
    version: Option<Version>,
}

/// What is derived from one master key.
struct Key {
    id: String,
    sealing: RandomizedNonceKey,
    backups: hmac::Key,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("keys", &self.key_ids()).finish_non_exhaustive()
    }
}

/// Where a sealed value lives; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Table.
    pub table: &'static str,
    /// Column.
    pub column: &'static str,
    /// The row's key.
    pub row: &'a str,
}

/// Why a master key or a sealed value is of no use. Each text is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The key file is missing, or can't be read or written.
    #[error("the master key file {path} can't be used: {source}")]
    KeyFile {
        /// Its path.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The key file is readable by others.
    #[error("the master key file {0} can be read by others")]
    KeyFileOpen(String),
    /// The key file does not hold keys.
    #[error("the master key file {path} is damaged: {why}")]
    KeyFileMalformed {
        /// Its path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A value was sealed with a master key that is not in the file.
    #[error("a secret in the store was sealed with master key {found}, but the file holds {at_hand}")]
    OtherKey {
        /// Ids of the keys in the file.
        at_hand: String,
        /// Id of the key that sealed.
        found: String,
    },
    /// The file is a copy from before a rotation.
    #[error("the master key file is an older copy: it holds {at_hand}, but {newest} seals since a rotation")]
    OlderCopy {
        /// Ids of the keys in the file.
        at_hand: String,
        /// Id of the key that seals.
        newest: String,
    },
    /// There is no room for another key in the file.
    #[error("the master key file {0} holds eight keys, and more are not read")]
    KeyFileFull(String),
    /// A sealed value does not open: it was changed, or moved from another row.
    #[error("a sealed secret in the store does not open: it was changed or moved")]
    DoesNotOpen,
    /// No random bytes, or no key could be derived.
    #[error("the cryptographic library refused to work")]
    Library,
}

impl SealingError {
    /// The next step.
    pub fn remedy(&self) -> String {
        match self {
            Self::KeyFile { path, source } if source.kind() == ErrorKind::NotFound => {
                format!("Restore {path} from its copy, with mode 0600, or correct master_key_file.")
            }
            Self::KeyFile { path, .. } => {
                format!("Let the user that runs doorward own {path} and its folder, with mode 0600.")
            }
            Self::KeyFileOpen(path) => format!("Set its mode to 0600: chmod 600 {path}"),
            Self::KeyFileMalformed { path, .. } => format!("Restore {path} from its copy, with mode 0600."),
            Self::OtherKey { found, .. } => {
                format!("Restore the master key file that holds {found} from its copy, with mode 0600.")
            }
            Self::OlderCopy { newest, .. } => {
                format!("Copy the master key file from the node that holds {newest}, with mode 0600.")
            }
            Self::KeyFileFull(_) => {
                "Drop the old ones first, once their copy is kept: doorward key rotate --drop-old".to_owned()
            }
            Self::DoesNotOpen => {
                "Restore the database from its last backup, or save the settings anew.".to_owned()
            }
            Self::Library => "Tell the makers of doorward; nothing was written.".to_owned(),
        }
    }
}

/// The name of a master key: eight bytes of a hash over a prefix and the key. Says nothing of it.
pub fn key_id(master_key: &[u8; 32]) -> String {
    let text = Zeroizing::new([b"doorward key id".as_slice(), master_key].concat());
    let id = digest::digest(&digest::SHA256, &text);
    URL_SAFE_NO_PAD.encode(id.as_ref().get(..8).unwrap_or_default())
}

impl Key {
    fn new(master_key: &[u8; 32]) -> Result<Self, SealingError> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"doorward master key").extract(master_key);
        let derive = |purpose: &'static [u8]| {
            let mut key = Zeroizing::new([0; 32]);
            derived
                .expand(&[purpose], KeyLength)
                .and_then(|okm| okm.fill(key.as_mut_slice()))
                .map_err(|_| SealingError::Library)?;
            Ok::<_, SealingError>(key)
        };
        let sealing =
            RandomizedNonceKey::new(&AES_256_GCM_SIV, derive(b"sealing secrets at rest")?.as_slice())
                .map_err(|_| SealingError::Library)?;
        let backups = hmac::Key::new(hmac::HMAC_SHA256, derive(b"checksums of backups")?.as_slice());
        Ok(Self { id: key_id(master_key), sealing, backups })
    }
}

impl Ring {
    fn read(path: &Path) -> Result<Self, SealingError> {
        let (keys, version) = key_file::read(path)?;
        Self::new(&keys, Some(version))
    }

    fn new(keys: &[MasterKey], version: Option<Version>) -> Result<Self, SealingError> {
        let mut keys =
            keys.iter().map(|key| Key::new(&key.bytes)).collect::<Result<Vec<_>, _>>()?.into_iter();
        let newest = keys.next().ok_or(SealingError::Library)?;
        Ok(Self { newest, others: keys.collect(), version })
    }

    fn find(&self, id: &str) -> Option<&Key> {
        std::iter::once(&self.newest).chain(&self.others).find(|key| key.id == id)
    }

    fn ids(&self) -> Vec<String> {
        std::iter::once(&self.newest).chain(&self.others).map(|key| key.id.clone()).collect()
    }
}

impl Sealing {
    /// From 32 bytes of master key, without a file.
    pub fn new(master_key: &[u8; 32]) -> Result<Self, SealingError> {
        let key = MasterKey { bytes: Zeroizing::new(*master_key), prepared: false };
        Ok(Self::over(None, Ring::new(&[key], None)?))
    }

    /// Reads the key file, or makes it with mode 0600 where there is none.
    pub fn open_or_create(path: &Path, random: &Random) -> Result<Self, SealingError> {
        match Self::open(path) {
            Err(SealingError::KeyFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
                match key_file::create(path, random) {
                    // Another process was first: its key is the right one.
                    Err(SealingError::KeyFile { source, .. })
                        if source.kind() == ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                Self::open(path)
            }
            opened => opened,
        }
    }

    /// Reads the key file.
    pub fn open(path: &Path) -> Result<Self, SealingError> {
        Ok(Self::over(Some(path.to_owned()), Ring::read(path)?))
    }

    fn over(path: Option<PathBuf>, ring: Ring) -> Self {
        Self {
            path,
            ring: Arc::new(RwLock::new(Arc::new(ring))),
            unusable: Arc::default(),
            sealer: Arc::default(),
        }
    }

    fn ring(&self) -> Arc<Ring> {
        // A poisoned lock means a panic while a pointer was replaced; the pointer is one of the two.
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of the file as it is now. Looks at the file's entry and reads it only if it is another one, so that a
    /// rotation is met at once and a key id that nobody has costs no reading. A file that can't be used is not taken:
    /// the keys that were good go on.
    fn current_ring(&self) -> Arc<Ring> {
        let known = self.ring();
        let Some(path) = &self.path else { return known };
        let version = Version::of(path);
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        if version.is_none() || version == known.version || version == *unusable {
            return known;
        }
        let ring = match Ring::read(path) {
            Ok(ring) => Arc::new(ring),
            Err(error) => {
                *unusable = version;
                tracing::warn!(%error, "the master key file has changed and can't be used; the keys before go on");
                return known;
            }
        };
        tracing::info!(first = %ring.newest.id, "the master key file has changed and was read again");
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ring);
        ring
    }

    /// Takes the store's word on which key seals. Whether that is another one than before.
    pub fn seal_with(&self, key_id: &str) -> bool {
        let mut sealer = self.sealer.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = sealer.as_deref() != Some(key_id);
        *sealer = Some(key_id.into());
        is_another
    }

    /// Names the key that seals, whether or not the file has it; safe to show.
    pub fn key_id(&self) -> String {
        let sealer = self.sealer.read().unwrap_or_else(PoisonError::into_inner).clone();
        sealer.map_or_else(|| self.first_key_id(), |id| (*id).to_owned())
    }

    /// Whether the file has the key that seals.
    pub fn can_seal(&self) -> bool {
        self.current_ring().find(&self.key_id()).is_some()
    }

    /// Names the file's first key, which seals as soon as the store knows it; safe to show.
    pub fn first_key_id(&self) -> String {
        self.current_ring().newest.id.clone()
    }

    /// Names every key that opens, the file's first at first; safe to show.
    pub fn key_ids(&self) -> Vec<String> {
        self.ring().ids()
    }

    /// Seals `secret` for `place`. Twice the same secret gives two different values. Refused where the key that seals is
    /// not in the file: what an older one sealed would be lost with it.
    pub fn seal(&self, place: Place<'_>, secret: &Secret) -> Result<String, SealingError> {
        self.seal_under(&self.key_id(), place, secret)
    }

    /// The same with a key of the file that the store does not know yet.
    pub fn seal_under(
        &self,
        key_id: &str,
        place: Place<'_>,
        secret: &Secret,
    ) -> Result<String, SealingError> {
        let ring = self.current_ring();
        let key = ring.find(key_id).ok_or_else(|| older_copy(&ring, key_id))?;
        let mut bytes = secret.expose().as_bytes().to_vec();
        let nonce = key
            .sealing
            .seal_in_place_append_tag(Aad::from(place.associated_data()), &mut bytes)
            .map_err(|_| SealingError::Library)?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut bytes);
        Ok(format!("v1.{key_id}.{}", URL_SAFE_NO_PAD.encode(whole)))
    }

    /// Opens what `seal` made for the same place, with whichever key of the file it was.
    pub fn open_sealed(&self, place: Place<'_>, sealed: &str) -> Result<Secret, SealingError> {
        let (key_id, text) = parse(sealed)?;
        let mut ring = self.ring();
        if ring.find(key_id).is_none() {
            ring = self.current_ring();
        }
        let key = ring.find(key_id).ok_or_else(|| self.other_key(key_id))?;
        let mut whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealingError::DoesNotOpen)?;
        if whole.len() < NONCE_LEN {
            return Err(SealingError::DoesNotOpen);
        }
        let mut ciphertext = Zeroizing::new(whole.split_off(NONCE_LEN));
        let nonce = Nonce::try_assume_unique_for_key(&whole).map_err(|_| SealingError::DoesNotOpen)?;
        let opened = key
            .sealing
            .open_in_place(nonce, Aad::from(place.associated_data()), &mut ciphertext)
            .map_err(|_| SealingError::DoesNotOpen)?;
        String::from_utf8(opened.to_vec()).map(Secret::new).map_err(|_| SealingError::DoesNotOpen)
    }

    /// That the file is a copy from before `newest` was there.
    pub fn older_copy(&self, newest: &str) -> SealingError {
        older_copy(&self.ring(), newest)
    }

    /// That key `found` is not in the file.
    pub fn other_key(&self, found: &str) -> SealingError {
        SealingError::OtherKey { at_hand: self.key_ids().join(" and "), found: found.to_owned() }
    }

    /// Begins a checksum that only a holder of the key that seals can make, for backups; with the key's id.
    pub fn begin_checksum(&self) -> Result<(String, hmac::Context), SealingError> {
        let key_id = self.key_id();
        let checksum = self.begin_checksum_of(&key_id)?;
        Ok((key_id, checksum))
    }

    /// Begins the same checksum again under the key that made it.
    pub fn begin_checksum_of(&self, key_id: &str) -> Result<hmac::Context, SealingError> {
        let ring = self.current_ring();
        let key = ring.find(key_id).ok_or_else(|| self.other_key(key_id))?;
        Ok(hmac::Context::with_key(&key.backups))
    }
}

fn older_copy(ring: &Ring, newest: &str) -> SealingError {
    SealingError::OlderCopy { at_hand: ring.ids().join(" and "), newest: newest.to_owned() }
}

/// The id of the key that sealed a value, without opening it.
pub fn sealed_with(sealed: &str) -> Option<&str> {
    parse(sealed).ok().map(|(key_id, _)| key_id)
}

/// A sealed value's key id and its bytes as text.
fn parse(sealed: &str) -> Result<(&str, &str), SealingError> {
    let mut parts = sealed.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("v1"), Some(key_id), Some(text)) => Ok((key_id, text)),
        _ => Err(SealingError::DoesNotOpen),
    }
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        format!("{}.{}.{}", self.table, self.column, self.row).into_bytes()
    }
}

/// HKDF wants to be told how many bytes it derives.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'static> = Place { table: "revision", column: "client_secret", row: "a.1" };

    #[test]
    fn rule_6_a_sealed_secret_opens_in_its_own_row_only() {
        let sealing = Sealing::new(&[1; 32]).unwrap();
        let sealed = sealing.seal(HERE, &Secret::new("swordfish".to_owned())).unwrap();
        assert!(!sealed.contains("swordfish"));
        assert_eq!(sealing.open_sealed(HERE, &sealed).unwrap().expose(), "swordfish");
        for moved in
            [Place { row: "a.2", ..HERE }, Place { column: "x", ..HERE }, Place { table: "x", ..HERE }]
        {
            assert!(matches!(sealing.open_sealed(moved, &sealed), Err(SealingError::DoesNotOpen)));
        }
    }

    #[test]
    fn v71_the_same_secret_sealed_twice_differs() {
        let sealing = Sealing::new(&[1; 32]).unwrap();
        let secret = Secret::new("swordfish".to_owned());
        assert_ne!(sealing.seal(HERE, &secret).unwrap(), sealing.seal(HERE, &secret).unwrap());
    }

    #[test]
    fn f24_another_master_key_is_named() {
        let sealed = Sealing::new(&[1; 32]).unwrap().seal(HERE, &Secret::new("x".to_owned())).unwrap();
        let other = Sealing::new(&[2; 32]).unwrap();
        assert!(matches!(other.open_sealed(HERE, &sealed), Err(SealingError::OtherKey { .. })));
    }

    const SECRET: &str = "swordfish";

    fn secret() -> Secret {
        Secret::new(SECRET.to_owned())
    }

    #[test]
    fn a_running_service_meets_a_rotation_without_a_restart() {
        let folder = doorward_testkit::TempDir::new();
        let path = folder.join("master.key");
        let random = Random::seeded(1);
        let running = Sealing::open_or_create(&path, &random).unwrap();
        let old = running.seal(HERE, &secret()).unwrap();
        let (mut keys, _) = key_file::read(&path).unwrap();
        keys.insert(0, MasterKey::generate(&random).unwrap());
        key_file::replace(&path, &keys).unwrap();

        let elsewhere = Sealing::open(&path).unwrap();
        let new = elsewhere.seal(HERE, &secret()).unwrap();
        assert_ne!(sealed_with(&old), sealed_with(&new), "the newest key seals");
        for sealed in [&old, &new] {
            assert_eq!(
                running.open_sealed(HERE, sealed).unwrap().expose(),
                SECRET,
                "both open during rotation"
            );
        }
        assert_eq!(sealed_with(&running.seal(HERE, &secret()).unwrap()), sealed_with(&new));
        keys.truncate(1);
        key_file::replace(&path, &keys).unwrap();
        let late = running.seal(HERE, &secret()).unwrap();
        assert_eq!(sealed_with(&late), sealed_with(&new));
        assert!(
            matches!(running.open_sealed(HERE, &old), Err(SealingError::OtherKey { .. })),
            "dropped is dropped"
        );
    }

    #[test]
    fn f24_the_key_that_the_store_names_seals_and_where_the_file_lacks_it_none_does() {
        let folder = doorward_testkit::TempDir::new();
        let path = folder.join("master.key");
        let random = Random::seeded(1);
        let sealing = Sealing::open_or_create(&path, &random).unwrap();
        let old = sealing.key_id();
        let (mut keys, _) = key_file::read(&path).unwrap();
        let new = MasterKey::generate(&random).unwrap();
        let new_id = key_id(&new.bytes);

        assert!(sealing.seal_with(&old) && !sealing.seal_with(&old));
        keys.insert(0, new.clone());
        key_file::replace(&path, &keys).unwrap();
        let sealed = sealing.seal(HERE, &secret()).unwrap();
        assert_eq!(sealed_with(&sealed), Some(&*old), "a key that the store has not heard of seals nothing");
        assert_eq!(sealing.first_key_id(), new_id);
        sealing.seal_with(&new_id);
        assert_eq!(sealed_with(&sealing.seal(HERE, &secret()).unwrap()), Some(&*new_id));

        key_file::replace(&path, &keys[1..]).unwrap();
        let refused = sealing.seal(HERE, &secret()).unwrap_err();
        assert!(matches!(&refused, SealingError::OlderCopy { newest, .. } if *newest == new_id), "{refused}");
        assert!(sealing.begin_checksum().is_err(), "no backup under it either");
        assert_eq!(sealing.open_sealed(HERE, &sealed).unwrap().expose(), SECRET, "what it opens, it opens");
        keys.rotate_left(1);
        key_file::replace(&path, &keys).unwrap();
        let sealed = sealing.seal(HERE, &secret()).unwrap();
        assert_eq!(sealed_with(&sealed), Some(&*new_id), "wherever in the file it stands");
    }

    #[test]
    fn a_key_file_that_became_unusable_does_not_stop_a_running_service() {
        let folder = doorward_testkit::TempDir::new();
        let path = folder.join("master.key");
        let running = Sealing::open_or_create(&path, &Random::seeded(1)).unwrap();
        let sealed = running.seal(HERE, &secret()).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(sealed_with(&running.seal(HERE, &secret()).unwrap()), sealed_with(&sealed));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(running.open_sealed(HERE, &sealed).unwrap().expose(), SECRET);
    }

    #[test]
    fn a_changed_byte_or_a_foreign_text_does_not_open() {
        let sealing = Sealing::new(&[1; 32]).unwrap();
        let sealed = sealing.seal(HERE, &Secret::new("swordfish".to_owned())).unwrap();
        let mut changed = sealed.clone().into_bytes();
        let last = changed.len() - 3;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        for bad in [
            String::from_utf8(changed).unwrap(),
            String::new(),
            "v1".into(),
            "v1..".into(),
            format!("v1.{}.", sealing.key_id()),
        ] {
            assert!(sealing.open_sealed(HERE, &bad).is_err(), "{bad}");
        }
    }
}
