//! The chain that shows a changed audit log: hashes, keyed codes, signed checkpoints, and the walk that checks them.
//!
//! In: events, and the keys that the store holds sealed. Out: what to keep beside an event; the first wrong number.
//! Never here: the store, files, the clock. ADR 0021 says why there is a hash beside the keyed code.
//! Invariant: the encoding of version 1 never changes; another one gets another number.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use serde_json::{Value as Json, json};
use std::fmt;

use crate::store::{AuditRecord, SYSTEM_SCOPE};

/// A checkpoint is signed at every so many events of a scope.
pub const CHECKPOINT_EVENTS: i64 = 1000;
/// And at the first event that is so much younger than the scope's last checkpoint.
pub const CHECKPOINT_AFTER: Lifetime = Lifetime::from_hours(1);

/// Whether a checkpoint is signed beside the event of this number and time, the scope's last one being of `before`.
pub fn checkpoint_is_due(sequence: i64, at: Timestamp, before: Timestamp) -> bool {
    sequence % CHECKPOINT_EVENTS == 0 || at.since(before) >= CHECKPOINT_AFTER
}

/// Writes values so that no two lists of values give the same bytes: each text with its length before it.
struct Encoding(Vec<u8>);

impl Encoding {
    fn new(what: &str) -> Self {
        Self(format!("doorward {what} 1\n").into_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.int(i64::try_from(text.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn int(&mut self, int: i64) -> &mut Self {
        self.0.extend_from_slice(&int.to_be_bytes());
        self
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.0.push(0),
            Some(text) => {
                self.0.push(1);
                self.text(text);
            }
        }
        self
    }
}

/// The bytes of an event that its hash is over: everything that is kept of it, and the hash before it.
fn encoded(scope: &str, event: &AuditRecord, previous: Option<&str>) -> Vec<u8> {
    let mut bytes = Encoding::new("audit event");
    bytes
        .optional(previous)
        .text(scope)
        .int(event.sequence)
        .int(event.at.millis())
        .text(&event.action)
        .text(&event.actor_kind)
        .optional(event.actor_id.as_deref())
        .text(&event.actor_name)
        .int(i64::try_from(event.details.len()).unwrap_or(i64::MAX));
    let mut details: Vec<(&String, &Json)> = event.details.iter().collect();
    details.sort_by_key(|(name, _)| *name);
    for (name, value) in details {
        bytes.text(name).text(&value.to_string());
    }
    bytes.optional(event.address.as_deref()).optional(event.request_id.as_deref());
    bytes.0
}

/// The hash that an event must carry after the one with the hash `previous`.
pub fn event_hash(scope: &str, event: &AuditRecord, previous: Option<&str>) -> String {
    BASE64URL.encode(digest::digest(&digest::SHA256, &encoded(scope, event, previous)))
}

/// Makes and checks what only Doorward can make. From 32 random bytes, which the store keeps sealed.
struct AuditKey {
    id: String,
    mac: hmac::Key,
    pair: Ed25519KeyPair,
}

/// A key of the audit log can't be used.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a key of the audit log can't be used")]
pub struct UnusableKey;

struct Bytes32;

impl hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// Names a key by its public half, so that whoever holds that half can tell.
fn key_id(public: &[u8]) -> String {
    let id = digest::digest(&digest::SHA256, &[b"doorward audit key id".as_slice(), public].concat());
    BASE64URL.encode(id.as_ref().get(..8).unwrap_or_default())
}

impl AuditKey {
    fn from_secret(secret: &Secret) -> Result<Self, UnusableKey> {
        let bytes = zeroize::Zeroizing::new(BASE64URL.decode(secret.expose()).map_err(|_| UnusableKey)?);
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"doorward audit key").extract(&bytes);
        let derive = |purpose: &[u8]| {
            let mut out = zeroize::Zeroizing::new([0; 32]);
            root.expand(&[purpose], Bytes32)
                .and_then(|okm| okm.fill(out.as_mut_slice()))
                .map(|()| out)
                .map_err(|_| UnusableKey)
        };
        let mac = hmac::Key::new(hmac::HMAC_SHA256, derive(b"chain")?.as_slice());
        let pair = Ed25519KeyPair::from_seed_unchecked(derive(b"checkpoints")?.as_slice())
            .map_err(|_| UnusableKey)?;
        Ok(Self { id: key_id(pair.public_key().as_ref()), mac, pair })
    }
}

fn mac_input(hash: &str) -> Vec<u8> {
    let mut bytes = Encoding::new("audit mac");
    bytes.text(hash);
    bytes.0
}

/// The public half of a key, as the store's sealed mark and auditors keep it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// The key's id.
    pub id: String,
    /// Ed25519, in Base64url.
    pub public: String,
}

/// What is to be said of a checkpoint's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    /// The key that it names made it.
    Fits,
    /// Nobody here knows the key that it names.
    UnknownKey,
    /// The key that it names did not make it.
    DoesNotFit,
}

/// The keys of one store's audit log: the newest makes, all of them check.
pub struct AuditKeys {
    newest: AuditKey,
    older: Vec<AuditKey>,
    /// Keys of which only the public half is left: they check checkpoints, not codes.
    lost: Vec<PublicKey>,
}

impl fmt::Debug for AuditKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKeys").field("newest", &self.newest.id).finish_non_exhaustive()
    }
}

impl AuditKeys {
    /// From the opened secrets, the newest first; `None` without any.
    pub fn from_secrets(secrets: &[Secret]) -> Result<Option<Self>, UnusableKey> {
        let mut keys = secrets.iter().map(AuditKey::from_secret).collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok(keys.next().map(|newest| Self { newest, older: keys.collect(), lost: Vec::new() }))
    }

    /// The same with public halves of keys that are gone.
    #[must_use]
    pub fn with_lost(self, lost: Vec<PublicKey>) -> Self {
        Self { lost, ..self }
    }

    /// The public halves of those that are there, and those that are gone.
    pub fn public_keys(&self) -> (Vec<PublicKey>, &[PublicKey]) {
        let public = |key: &AuditKey| PublicKey {
            id: key.id.clone(),
            public: BASE64URL.encode(key.pair.public_key()),
        };
        (std::iter::once(&self.newest).chain(&self.older).map(public).collect(), &self.lost)
    }

    /// The id of the key that is used.
    pub fn id(&self) -> &str {
        &self.newest.id
    }

    /// The public half of the key that is used, in Base64url: for whoever checks without the database.
    pub fn public_key(&self) -> String {
        BASE64URL.encode(self.newest.pair.public_key())
    }

    fn by_id(&self, id: &str) -> Option<&AuditKey> {
        std::iter::once(&self.newest).chain(&self.older).find(|key| key.id == id)
    }

    /// The keyed code over an event's hash.
    pub fn mac(&self, hash: &str) -> String {
        let tag = hmac::sign(&self.newest.mac, &mac_input(hash));
        format!("v1.{}.{}", self.newest.id, BASE64URL.encode(tag))
    }

    /// Whether one of these keys made the code over an event's hash.
    pub fn mac_fits(&self, hash: &str, mac: &str) -> bool {
        let mut parts = mac.splitn(3, '.');
        let (Some("v1"), Some(id), Some(tag)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let (Some(key), Ok(tag)) = (self.by_id(id), BASE64URL.decode(tag)) else { return false };
        hmac::verify(&key.mac, &mac_input(hash), &tag).is_ok()
    }

    /// Signs what a scope's log is now.
    pub fn sign(&self, scope: &str, sequence: i64, hash: &str, at: Timestamp) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            scope: scope.to_owned(),
            sequence,
            at,
            hash: hash.to_owned(),
            key_id: self.newest.id.clone(),
            signature: String::new(),
        };
        checkpoint.signature = BASE64URL.encode(self.newest.pair.sign(&checkpoint.signed_bytes()));
        checkpoint
    }

    /// Whether one of these keys signed the checkpoint.
    pub fn signed(&self, checkpoint: &Checkpoint) -> Signed {
        let lost = || self.lost.iter().find(|key| key.id == checkpoint.key_id);
        let fits = match self.by_id(&checkpoint.key_id) {
            Some(key) => signature_fits(key.pair.public_key().as_ref(), checkpoint),
            None => match lost() {
                Some(key) => is_signed_by(&key.public, checkpoint),
                None => return Signed::UnknownKey,
            },
        };
        if fits { Signed::Fits } else { Signed::DoesNotFit }
    }
}

fn signature_fits(public: &[u8], checkpoint: &Checkpoint) -> bool {
    BASE64URL.decode(&checkpoint.signature).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ED25519, public).verify(&checkpoint.signed_bytes(), &signature).is_ok()
    })
}

/// Whether the holder of this public key (Base64url) signed the checkpoint.
pub fn is_signed_by(public_key: &str, checkpoint: &Checkpoint) -> bool {
    BASE64URL.decode(public_key.trim()).is_ok_and(|public| signature_fits(&public, checkpoint))
}

/// What a scope's log was at a time: the hash of its newest event then, which stands for all before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The organization's id, or `system`.
    pub scope: String,
    /// The number of the newest event.
    pub sequence: i64,
    /// When it was signed.
    pub at: Timestamp,
    /// That event's hash.
    pub hash: String,
    /// The key that signed.
    pub key_id: String,
    /// Ed25519, in Base64url.
    pub signature: String,
}

impl Checkpoint {
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Encoding::new("audit checkpoint");
        bytes.text(&self.scope).int(self.sequence).int(self.at.millis()).text(&self.hash).text(&self.key_id);
        bytes.0
    }

    /// As files hold it; `at` is in milliseconds since 1970, as it was signed.
    pub fn to_json(&self) -> Json {
        json!({
            "version": 1,
            "scope": self.scope,
            "sequence": self.sequence,
            "at_ms": self.at.millis(),
            "hash": self.hash,
            "key": self.key_id,
            "signature": self.signature,
        })
    }

    /// Reads what `to_json` wrote.
    pub fn from_json(json: &Json) -> Option<Self> {
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        (json.get("version")?.as_i64()? == 1).then_some(())?;
        Some(Self {
            scope: text("scope")?,
            sequence: json.get("sequence")?.as_i64()?,
            at: Timestamp::from_millis(json.get("at_ms")?.as_i64()?),
            hash: text("hash")?,
            key_id: text("key")?,
            signature: text("signature")?,
        })
    }
}

/// What is wrong with a log, at the first number where it shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The event with this number is not there, although a later one is.
    Missing,
    /// The newest events are not there: the sequence or a checkpoint counts further.
    MissingAtEnd,
    /// The log does not begin with the making of what it is about: its beginning was taken away.
    NotTheBeginning,
    /// The number is none that an event can have: they begin with 1.
    BeforeTheFirst,
    /// The number comes twice.
    Twice,
    /// The event comes after later ones.
    OutOfOrder,
    /// The event is another organization's.
    OfAnotherLog,
    /// The event, or its place, is not what its hash was made over.
    Changed,
    /// The hash fits, but its code was not made with this Doorward's key: somebody made the chain anew.
    NotOurs,
    /// The event has no hash, although the chain had begun.
    Unchained,
    /// The events from before the chain are not those that its first event counted.
    BeforeTheChain,
    /// The row can't be read.
    Unreadable,
    /// The event is newer than the sequence counts, or the sequence goes on from another hash.
    BesideTheSequence,
    /// A checkpoint names another hash for this number.
    OtherThanCheckpoint,
    /// A checkpoint is not signed by the key that it names.
    CheckpointNotSigned,
    /// The checkpoint that was signed beside this event is gone.
    CheckpointMissing,
}

impl Damage {
    /// A word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::MissingAtEnd => "missing_at_end",
            Self::NotTheBeginning => "not_the_beginning",
            Self::BeforeTheFirst => "before_the_first",
            Self::Twice => "twice",
            Self::OutOfOrder => "out_of_order",
            Self::OfAnotherLog => "of_another_log",
            Self::Changed => "changed",
            Self::NotOurs => "not_ours",
            Self::Unchained => "unchained",
            Self::BeforeTheChain => "before_the_chain",
            Self::Unreadable => "unreadable",
            Self::BesideTheSequence => "beside_the_sequence",
            Self::OtherThanCheckpoint => "other_than_checkpoint",
            Self::CheckpointNotSigned => "checkpoint_not_signed",
            Self::CheckpointMissing => "checkpoint_missing",
        }
    }

    /// For people: goes on after "event 7".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Missing => "is missing, although later ones are there",
            Self::MissingAtEnd => "and what came after it are missing at the end",
            Self::NotTheBeginning => "is not the one that a log begins with: what was before it is gone",
            Self::BeforeTheFirst => "was put before the first one",
            Self::Twice => "comes twice",
            Self::OutOfOrder => "comes after later ones",
            Self::OfAnotherLog => "belongs to another log",
            Self::Changed => "was changed, or put in the place of another",
            Self::NotOurs => "was not written with this Doorward's key",
            Self::Unchained => "has no hash, although the chain had begun",
            Self::BeforeTheChain => "and those before it are not what they were when the chain began",
            Self::Unreadable => "can't be read",
            Self::BesideTheSequence => "does not fit the count of the log",
            Self::OtherThanCheckpoint => "is not the one that a checkpoint names",
            Self::CheckpointNotSigned => "has a checkpoint that its key did not sign",
            Self::CheckpointMissing => "has lost the checkpoint that was signed beside it",
        }
    }
}

/// The first thing that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// The first number where it shows.
    pub sequence: i64,
    /// What.
    pub damage: Damage,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} {}", self.sequence, self.damage.words())
    }
}

/// Goes through one scope's events in their order and stops at the first that is wrong. Its memory does not grow.
pub struct ChainWalk {
    scope: String,
    last: i64,
    hash: Option<String>,
    /// What `audit.chain_start` must say of the events before it; `None` once the chain has begun.
    before: Option<BeforeTheChain>,
    /// The first event whose code none of the keys made, and that no later event has explained.
    unexplained: Option<i64>,
    unproved: i64,
    restored: Option<i64>,
}

impl fmt::Debug for ChainWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainWalk")
            .field("scope", &self.scope)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl ChainWalk {
    /// Before the first event.
    pub fn new(scope: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            last: 0,
            hash: None,
            before: Some(BeforeTheChain::default()),
            unexplained: None,
            unproved: 0,
            restored: None,
        }
    }

    /// The organization's id, or `system`.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The number of the newest event seen.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// The hash of the newest event seen; `None` before the chain has begun.
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// Events up to this number carry no code that these keys could check: they are from before the chain, or their
    /// keys were lost. 0: none.
    pub fn unproved(&self) -> i64 {
        self.unproved
    }

    /// The number of the newest event that tells of a restore: what was written between the backup and it is gone.
    pub fn restored(&self) -> Option<i64> {
        self.restored
    }

    /// Takes the next event. Without `keys`, codes are not checked: a file is judged by its hashes alone. A code that
    /// none of the keys made is wrong unless a later event tells that its key was lost; `finish` judges that.
    pub fn take(&mut self, event: &AuditRecord, keys: Option<&AuditKeys>) -> Result<(), Wrong> {
        self.take_next(event, keys).map_err(|wrong| self.earliest(wrong))
    }

    fn earliest(&self, wrong: Wrong) -> Wrong {
        let not_ours = self.unexplained.map(|sequence| Wrong { sequence, damage: Damage::NotOurs });
        not_ours.filter(|first| first.sequence <= wrong.sequence).unwrap_or(wrong)
    }

    fn take_next(&mut self, event: &AuditRecord, keys: Option<&AuditKeys>) -> Result<(), Wrong> {
        let wrong = |sequence, damage| Err(Wrong { sequence, damage });
        let expected = self.last.saturating_add(1);
        if event.sequence > expected {
            return wrong(expected, Damage::Missing);
        }
        if event.sequence < expected {
            return wrong(event.sequence, Damage::Twice);
        }
        let Some(hash) = &event.hash else {
            let Some(before) = &mut self.before else { return wrong(expected, Damage::Unchained) };
            before.take(&self.scope, event);
            self.last = expected;
            return Ok(());
        };
        if let Some(before) = self.before.take()
            && self.last > 0
            && !starts_after(event, self.last, &before.finish())
        {
            return wrong(self.last, Damage::BeforeTheChain);
        }
        if expected == 1 && !begins_a_log(&self.scope, event) {
            return wrong(expected, Damage::NotTheBeginning);
        }
        if event_hash(&self.scope, event, self.hash.as_deref()) != *hash {
            return wrong(expected, Damage::Changed);
        }
        let ours = |keys: &AuditKeys| event.mac.as_ref().is_some_and(|mac| keys.mac_fits(hash, mac));
        if !keys.is_none_or(ours) {
            self.unexplained.get_or_insert(expected);
        } else if self.hash.is_none() || tells_of_lost_keys(event, self.last) {
            self.unproved = self.last;
            self.unexplained = None;
        }
        if event.action == AuditAction::StoreRestore.as_str() {
            self.restored = Some(expected);
        }
        self.hash = Some(hash.clone());
        self.last = expected;
        Ok(())
    }

    /// Compares a checkpoint of this scope for the number that was taken last.
    pub fn compare(&self, checkpoint: &Checkpoint) -> Result<(), Wrong> {
        let fits = checkpoint.scope == self.scope
            && checkpoint.sequence == self.last
            && Some(&*checkpoint.hash) == self.hash();
        let wrong = Wrong { sequence: self.last, damage: Damage::OtherThanCheckpoint };
        if fits { Ok(()) } else { Err(self.earliest(wrong)) }
    }

    /// After the last event: whether it is the one that the log's sequence counts and goes on from. No log is empty:
    /// its first event makes what it is about.
    pub fn finish(&self, count: i64, hash: Option<&str>) -> Result<(), Wrong> {
        if let Some(sequence) = self.unexplained {
            return Err(Wrong { sequence, damage: Damage::NotOurs });
        }
        let wrong = |sequence, damage| Err(Wrong { sequence, damage });
        if count > self.last || self.last == 0 {
            return wrong(self.last.saturating_add(1), Damage::MissingAtEnd);
        }
        if self.before.is_some() {
            return wrong(self.last, Damage::Unchained);
        }
        if count < self.last || hash != self.hash() {
            return wrong(self.last, Damage::BesideTheSequence);
        }
        Ok(())
    }
}

/// The detail of `store.restore` that names an organization of which nothing but the name is left.
pub const GONE: &str = "gone";

/// Whether this is the first event that was ever written to such a log, or that of an organization which a restore took
/// away whole.
fn begins_a_log(scope: &str, event: &AuditRecord) -> bool {
    let is = |action: AuditAction| event.action == action.as_str();
    if scope == SYSTEM_SCOPE {
        return is(AuditAction::AuditKeyNew);
    }
    is(AuditAction::OrgCreate)
        || is(AuditAction::OrgImport)
        || (is(AuditAction::StoreRestore) && event.details.contains_key(GONE))
}

fn says(event: &AuditRecord, name: &str, value: &str) -> bool {
    event.details.get(name).and_then(Json::as_str) == Some(value)
}

/// Whether `event` is the first of a chain that begins after `count` events with this digest.
fn starts_after(event: &AuditRecord, count: i64, digest: &str) -> bool {
    event.action == AuditAction::AuditChainStart.as_str()
        && says(event, "events", &count.to_string())
        && says(event, "sha256", digest)
}

/// Whether `event` tells that the keys of the `count` events before it were lost.
fn tells_of_lost_keys(event: &AuditRecord, count: i64) -> bool {
    event.action == AuditAction::AuditKeyLost.as_str() && says(event, "events", &count.to_string())
}

/// The digest over events from before the chain, one after the other.
pub struct BeforeTheChain(digest::Context);

impl fmt::Debug for BeforeTheChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BeforeTheChain")
    }
}

impl Default for BeforeTheChain {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl BeforeTheChain {
    /// Takes the next event.
    pub fn take(&mut self, scope: &str, event: &AuditRecord) {
        self.0.update(&encoded(scope, event, None));
    }

    /// The digest, in Base64url.
    pub fn finish(self) -> String {
        BASE64URL.encode(self.0.finish())
    }
}
