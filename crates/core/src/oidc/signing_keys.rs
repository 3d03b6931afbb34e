//! The provider's published keys, and which of them may have signed a token.
//!
//! In: the answer at `jwks_uri`. Out: a `KeySet` with reasons for every key that was skipped. Never here: fetching.
//! A strange entry never fails the set: real sets mix curves, uses and algorithms. Key and algorithm belong together,
//! so a token can't turn a public key into a secret (RFC 7517, RFC 7518, RFC 8725; conformance.md J1 to J10, V53).

use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step, bounded};
use crate::idp_quirks::TENANT_PLACEHOLDER;
use crate::oidc::http_answer::HttpAnswer;
use crate::oidc::strict_json::{Limits, parse_object};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::fmt;

const LIMITS: Limits = Limits { bytes: 256 * 1024, depth: 8 };
/// Keys that are read of one set.
const MAX_KEYS: usize = 100;
/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 8;
/// Characters of a key identifier.
pub(crate) const MAX_KID: usize = 256;

/// A signature algorithm that we accept: asymmetric ones only (decisions.md).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519, which providers call `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    Ed25519,
}

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Ed25519,
    ];

    /// The name in tokens, metadata and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// The algorithm of that name; names are compared with their case (RFC 7515 section 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::Ed25519);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::Ed25519 => KeyKind::Ed25519,
        }
    }

    const fn of_library(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Ed25519 => Algorithm::EdDSA,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// One usable public key of a provider.
pub struct SigningKey {
    kid: Option<String>,
    kind: KeyKind,
    /// The key's own `alg`, if it names one: then it signs with nothing else.
    algorithm: Option<SignatureAlgorithm>,
    /// Entra's member `issuer`: the key signs for that issuer alone.
    issuer: Option<String>,
    public: DecodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SigningKey {
    fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.kind == algorithm.kind() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn serves(&self, issuer: &str, entra_tenant: Option<&str>) -> bool {
        match (&self.issuer, entra_tenant) {
            // The placeholder stands for the tenant that the organization configured, never for one a token claims.
            (Some(own), Some(tenant)) => own.replace(TENANT_PLACEHOLDER, tenant) == issuer,
            _ => true,
        }
    }

    /// Whether `signature` (Base64url) over `message` was made with this key.
    pub(crate) fn has_signed(&self, message: &str, signature: &str, algorithm: SignatureAlgorithm) -> bool {
        self.fits(algorithm)
            && jsonwebtoken::crypto::verify(
                signature,
                message.as_bytes(),
                &self.public,
                algorithm.of_library(),
            )
            .unwrap_or(false)
    }
}

/// The keys that may have signed a token.
#[derive(Debug)]
pub(crate) enum KeyChoice<'k> {
    /// Try these, at most 8. Never empty.
    Try(Vec<&'k SigningKey>),
    /// No key has this identifier, or none fits a token that names none: one fetch of the keys may help.
    Unknown,
    /// The key of this identifier is of another kind, or signs with another algorithm.
    OtherAlgorithm,
    /// The key of this identifier signs for another issuer (Entra).
    OtherIssuer,
}

/// A provider's usable keys.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<SigningKey>,
    skipped: Vec<String>,
}

impl KeySet {
    /// Why entries were skipped, for the finding; at most 100 lines.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable; `parse_jwks` never gives such a set.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this identifier: if not, one refetch is allowed.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    pub(crate) fn choose(
        &self,
        kid: Option<&str>,
        algorithm: SignatureAlgorithm,
        issuer: &str,
        entra_tenant: Option<&str>,
    ) -> KeyChoice<'_> {
        let named: Vec<_> = match kid {
            Some(kid) => self.keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).collect(),
            None => self.keys.iter().collect(),
        };
        if named.is_empty() {
            return KeyChoice::Unknown;
        }
        let fitting: Vec<_> = named.into_iter().filter(|key| key.fits(algorithm)).collect();
        if fitting.is_empty() {
            return if kid.is_some() { KeyChoice::OtherAlgorithm } else { KeyChoice::Unknown };
        }
        let serving: Vec<_> =
            fitting.into_iter().filter(|key| key.serves(issuer, entra_tenant)).take(MAX_TRIES).collect();
        if serving.is_empty() { KeyChoice::OtherIssuer } else { KeyChoice::Try(serving) }
    }
}

/// Reads the answer at `jwks_uri`.
pub fn parse_jwks(answer: &HttpAnswer<'_>) -> Result<KeySet, Finding> {
    let unusable = |why: &str| Finding::new(Step::Discovery, ErrorCode::OidcKeysUnusable).with("found", why);
    if answer.status != 200 {
        let code = if answer.is_unavailable() {
            ErrorCode::OidcProviderUnavailable
        } else {
            ErrorCode::OidcKeysUnusable
        };
        return Err(Finding::new(Step::Discovery, code)
            .with("field", "jwks_uri")
            .with("status", answer.status));
    }
    let document = parse_object(answer.bytes, LIMITS).map_err(|fault| unusable(&fault.to_string()))?;
    let entries =
        document.get("keys").and_then(Value::as_array).ok_or_else(|| unusable("no list of keys"))?;

    let mut set = KeySet::default();
    for (at, entry) in entries.iter().take(MAX_KEYS).enumerate() {
        match parse_key(entry) {
            Ok(key) => set.keys.push(key),
            Err(why) => {
                let kid = entry.get("kid").and_then(Value::as_str).unwrap_or("without kid");
                set.skipped.push(format!("key {} ({}): {why}", at.saturating_add(1), bounded(kid, 64)));
            }
        }
    }
    if set.keys.is_empty() {
        return Err(unusable(&format!("no usable key; {}", set.skipped.join("; "))));
    }
    Ok(set)
}

fn parse_key(entry: &Value) -> Result<SigningKey, &'static str> {
    let entry = entry.as_object().ok_or("not an object")?;
    let kid = text(entry, "kid")?.map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.chars().count() > MAX_KID) {
        return Err("its kid is longer than 256 characters");
    }
    if text(entry, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("not for signatures");
    }
    if let Some(operations) = entry.get("key_ops") {
        let operations = operations.as_array().ok_or("key_ops is not a list")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Err("not for verifying");
        }
    }
    if entry.contains_key("d") {
        return Err("a private key, which must not be published");
    }
    let (kind, public) = match text(entry, "kty")?.ok_or("no kty")? {
        "RSA" => (KeyKind::Rsa, rsa_key(entry)?),
        "EC" => match text(entry, "crv")?.ok_or("no crv")? {
            "P-256" => (KeyKind::P256, ec_key(entry, 32)?),
            "P-384" => (KeyKind::P384, ec_key(entry, 48)?),
            _ => return Err("an unknown curve"),
        },
        "OKP" if text(entry, "crv")? == Some("Ed25519") => (KeyKind::Ed25519, ed25519_key(entry)?),
        "OKP" => return Err("an unknown curve"),
        _ => return Err("an unknown kind of key"),
    };
    let algorithm = match text(entry, "alg")? {
        None => None,
        Some(name) => Some(
            SignatureAlgorithm::from_name(name)
                .filter(|algorithm| algorithm.kind() == kind)
                .ok_or("its alg is not accepted for this kind of key")?,
        ),
    };
    let issuer = text(entry, "issuer")?.map(str::to_owned);
    Ok(SigningKey { kid, kind, algorithm, issuer, public })
}

/// RSA of 2048 to 8192 bits with an odd exponent above 3 and below 2^32 (conformance.md J5).
fn rsa_key(entry: &Map<String, Value>) -> Result<DecodingKey, &'static str> {
    let modulus = without_leading_zeros(octets(entry, "n")?);
    let exponent = without_leading_zeros(octets(entry, "e")?);
    let unused_bits = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len().saturating_mul(8).saturating_sub(unused_bits);
    if !(2048..=8192).contains(&bits) {
        return Err("not of 2048 to 8192 bits");
    }
    if exponent.len() > 4 {
        return Err("its exponent is too large");
    }
    let value = exponent.iter().fold(0_u64, |value, octet| (value << 8) | u64::from(*octet));
    if value <= 3 || value % 2 == 0 || modulus.last().is_some_and(|last| last % 2 == 0) {
        return Err("its exponent or modulus can't be one of RSA");
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// A point that lies on its curve (conformance.md J4).
fn ec_key(entry: &Map<String, Value>, length: usize) -> Result<DecodingKey, &'static str> {
    let (x, y) = (octets(entry, "x")?, octets(entry, "y")?);
    if x.len() != length || y.len() != length {
        return Err("its coordinates are of the wrong length");
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let curve = if length == 32 { &ECDSA_P256_SHA256_FIXED } else { &ECDSA_P384_SHA384_FIXED };
    ParsedPublicKey::new(curve, &point).map_err(|_| "not a point of its curve")?;
    DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y))
        .map_err(|_| "not a point of its curve")
}

fn ed25519_key(entry: &Map<String, Value>) -> Result<DecodingKey, &'static str> {
    let x = octets(entry, "x")?;
    ParsedPublicKey::new(&ED25519, &x).map_err(|_| "not an Ed25519 key")?;
    DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(x)).map_err(|_| "not an Ed25519 key")
}

/// A member of Base64url without padding (RFC 7515 section 2).
fn octets(entry: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, &'static str> {
    let encoded = text(entry, name)?.ok_or("a part is missing")?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| "a part is not Base64url")
}

fn without_leading_zeros(octets: Vec<u8>) -> Vec<u8> {
    octets.into_iter().skip_while(|octet| *octet == 0).collect()
}

fn text<'k>(entry: &'k Map<String, Value>, name: &str) -> Result<Option<&'k str>, &'static str> {
    match entry.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a member is not a text"),
    }
}
