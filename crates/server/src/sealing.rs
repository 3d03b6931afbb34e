//! Secrets at rest: sealed with the master key, bound to their table, column and row (rule 6).
//!
//! AES-256-GCM-SIV (misuse-resistant: RFC 8452) under a key that HKDF-SHA-256 derives from the master key. A sealed
//! value is `v1.KEYID.BASE64URL(nonce, ciphertext, tag)`; the associated data is `table.column.row`, so a value moved
//! to another row does not open.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hkdf};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::secret::Secret;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

use crate::random::Random;

/// Seals and opens secrets with the key of one master key.
pub struct Sealing {
    key: RandomizedNonceKey,
    key_id: String,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("key_id", &self.key_id).finish_non_exhaustive()
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
    /// The key file can't be read or made.
    #[error("the master key file {path} can't be read: {source}")]
    KeyFile {
        /// Its path.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The key file is readable by others.
    #[error("the master key file {0} can be read by others: set its mode to 0600")]
    KeyFileOpen(String),
    /// The key file does not hold a key.
    #[error("the master key file {0} does not hold 32 bytes in Base64url: restore it from its copy")]
    KeyFileMalformed(String),
    /// A value was sealed with another master key.
    #[error(
        "a secret in the store was sealed with master key {found}, but the key in use is {expected}: restore that key"
    )]
    OtherKey {
        /// Id of the key in use.
        expected: String,
        /// Id of the key that sealed.
        found: String,
    },
    /// A sealed value does not open: it was changed, or moved from another row.
    #[error("a sealed secret in the store does not open: it was changed or moved")]
    DoesNotOpen,
    /// No random bytes, or no key could be derived.
    #[error("the cryptographic library refused to work")]
    Library,
}

impl Sealing {
    /// From 32 bytes of master key.
    pub fn new(master_key: &[u8; 32]) -> Result<Self, SealingError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"doorward master key");
        let derived = salt.extract(master_key);
        let mut key = Zeroizing::new([0; 32]);
        derived
            .expand(&[b"sealing secrets at rest"], KeyLength)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .map_err(|_| SealingError::Library)?;
        let key =
            RandomizedNonceKey::new(&AES_256_GCM_SIV, key.as_slice()).map_err(|_| SealingError::Library)?;
        // Eight bytes of a hash over a prefix and the key: names the key, says nothing of it.
        let id = digest::digest(&digest::SHA256, &[b"doorward key id".as_slice(), master_key].concat());
        let key_id = URL_SAFE_NO_PAD.encode(id.as_ref().get(..8).unwrap_or_default());
        Ok(Self { key, key_id })
    }

    /// Reads the key file, or makes it with mode 0600 where there is none.
    pub fn open_or_create(path: &Path, random: &Random) -> Result<Self, SealingError> {
        match Self::open(path) {
            Err(SealingError::KeyFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Self::create(path, random)?;
                Self::open(path)
            }
            opened => opened,
        }
    }

    /// Reads the key file.
    pub fn open(path: &Path) -> Result<Self, SealingError> {
        let shown = path.display().to_string();
        let fault = |source| SealingError::KeyFile { path: shown.clone(), source };
        let mode = std::fs::metadata(path).map_err(fault)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(SealingError::KeyFileOpen(shown));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(fault)?);
        let bytes: [u8; 32] = URL_SAFE_NO_PAD
            .decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(SealingError::KeyFileMalformed(shown))?;
        Self::new(&Zeroizing::new(bytes))
    }

    fn create(path: &Path, random: &Random) -> Result<(), SealingError> {
        let shown = path.display().to_string();
        let fault = |source| SealingError::KeyFile { path: shown.clone(), source };
        let key = Secret::token(random.bytes().map_err(|_| SealingError::Library)?);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fault)?;
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
        writeln!(file, "{}", key.expose()).and_then(|()| file.sync_all()).map_err(fault)
    }

    /// Names the key; safe to show.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Seals `secret` for `place`. Twice the same secret gives two different values.
    pub fn seal(&self, place: Place<'_>, secret: &Secret) -> Result<String, SealingError> {
        let mut bytes = secret.expose().as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place.associated_data()), &mut bytes)
            .map_err(|_| SealingError::Library)?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut bytes);
        Ok(format!("v1.{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(whole)))
    }

    /// Opens what `seal` made for the same place.
    pub fn open_sealed(&self, place: Place<'_>, sealed: &str) -> Result<Secret, SealingError> {
        let mut parts = sealed.splitn(3, '.');
        let (Some("v1"), Some(key_id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SealingError::DoesNotOpen);
        };
        if key_id != self.key_id {
            return Err(SealingError::OtherKey { expected: self.key_id.clone(), found: key_id.to_owned() });
        }
        let mut whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealingError::DoesNotOpen)?;
        if whole.len() < NONCE_LEN {
            return Err(SealingError::DoesNotOpen);
        }
        let mut ciphertext = Zeroizing::new(whole.split_off(NONCE_LEN));
        let nonce = Nonce::try_assume_unique_for_key(&whole).map_err(|_| SealingError::DoesNotOpen)?;
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(place.associated_data()), &mut ciphertext)
            .map_err(|_| SealingError::DoesNotOpen)?;
        String::from_utf8(opened.to_vec()).map(Secret::new).map_err(|_| SealingError::DoesNotOpen)
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
