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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::test_provider::{ISSUER, encode, jwk, jwk_with, key_set};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(document: &Value) -> Result<KeySet, Finding> {
        parse_jwks(&HttpAnswer::json(document.to_string().as_bytes()))
    }

    fn usable(key: impl Into<Value>) -> bool {
        read(&json!({"keys": [key.into()]})).is_ok()
    }

    fn rsa(more: Value) -> Value {
        jwk_with(SignatureAlgorithm::Rs256, more)
    }

    #[test]
    fn names_of_algorithms_are_compared_with_their_case() {
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(SignatureAlgorithm::from_name(algorithm.as_str()), Some(algorithm));
        }
        for other in ["none", "HS256", "rs256", "RS1", "ES512", "Ed448", "RS256 ", "eddsa", ""] {
            assert_eq!(SignatureAlgorithm::from_name(other), None, "{other}");
        }
    }

    #[test]
    fn strange_entries_are_skipped_with_a_reason_and_never_fail_the_set() {
        let set = read(&json!({"keys": [
            {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"},
            rsa(json!({"use": "enc", "kid": "enc"})),
            "text", null, 7, {}, {"kty": 7},
            {"kty": "oct", "k": "AA", "kid": "mac"},
            rsa(json!({"kid": "good", "x5t": "abc", "x5c": ["MIID"]})),
        ]}))
        .unwrap();
        assert_eq!((set.len(), set.skipped().len()), (1, 8));
        assert_eq!(set.keys[0].kid.as_deref(), Some("good"));
        assert!(set.skipped()[0].contains("k1") && set.skipped()[0].contains("unknown curve"));
        assert!(set.skipped()[1].contains("not for signatures"));
    }

    #[test]
    fn a_keys_own_use_alg_and_operations_are_honoured() {
        assert!(usable(rsa(json!({"use": "sig", "alg": "RS256", "key_ops": ["verify"]}))));
        assert!(usable(rsa(json!({"key_ops": ["sign", "verify"]}))));
        for more in [
            json!({"use": "enc"}),
            json!({"use": ["sig"]}),
            json!({"key_ops": ["encrypt"]}),
            json!({"key_ops": []}),
            json!({"key_ops": "verify"}),
            json!({"alg": "RSA-OAEP"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "none"}),
            json!({"alg": 1}),
            json!({"kid": 1}),
            json!({"kid": "k".repeat(257)}),
            json!({"d": "AQAB"}),
        ] {
            assert!(!usable(rsa(more.clone())), "{more}");
        }
    }

    #[test]
    fn j4_a_point_off_its_curve_or_of_another_length_is_skipped() {
        for algorithm in [SignatureAlgorithm::Es256, SignatureAlgorithm::Es384] {
            assert!(usable(Value::Object(jwk(algorithm))));
            let x = jwk(algorithm)["x"].as_str().unwrap().to_owned();
            let octets = URL_SAFE_NO_PAD.decode(&x).unwrap();
            for wrong in [
                encode(octets.iter().map(|octet| octet ^ 1).collect::<Vec<_>>()),
                encode([&[0], octets.as_slice()].concat()),
                encode(&octets[1..]),
                encode(vec![0; octets.len()]),
                format!("{x}="),
                String::new(),
            ] {
                assert!(!usable(jwk_with(algorithm, json!({"y": wrong}))), "{wrong}");
            }
        }
        assert!(!usable(jwk_with(SignatureAlgorithm::Es256, json!({"crv": "P-384"}))));
        assert!(!usable(jwk_with(SignatureAlgorithm::Ed25519, json!({"x": encode([1; 31])}))));
        assert!(!usable(jwk_with(SignatureAlgorithm::Ed25519, json!({"crv": "X25519"}))));
    }

    #[test]
    fn j5_v53_keys_of_wrong_size_or_exponent_are_skipped() {
        let rsa = |bits: usize, last: u8, e: &[u8]| {
            let mut modulus = vec![0x80; bits / 8];
            if let Some(octet) = modulus.last_mut() {
                *octet = last;
            }
            json!({"kty": "RSA", "kid": "k", "n": encode(modulus), "e": encode(e)})
        };
        let f4 = &[1, 0, 1][..];
        let read = |key: Value| read(&json!({"keys": [key]}));
        for bits in [2048, 3072, 4096, 8192] {
            assert!(read(rsa(bits, 1, f4)).is_ok(), "{bits}");
        }
        for key in [
            rsa(512, 1, f4),
            rsa(1024, 1, f4),
            rsa(2040, 1, f4),
            rsa(8200, 1, f4),
            rsa(16_384, 1, f4),
            rsa(2048, 2, f4),
            rsa(2048, 1, &[]),
            rsa(2048, 1, &[1]),
            rsa(2048, 1, &[3]),
            rsa(2048, 1, &[1, 0, 0]),
            rsa(2048, 1, &[1, 0, 0, 0, 1]),
        ] {
            let finding = read(key).unwrap_err();
            assert_eq!(finding.code, ErrorCode::OidcKeysUnusable);
        }
    }

    #[test]
    fn v53_at_most_100_keys_and_256_kib_are_read() {
        let mut keys = vec![json!({"kty": "oct"}); 100];
        keys.push(rsa(json!({})));
        assert_eq!(read(&json!({"keys": keys})).unwrap_err().code, ErrorCode::OidcKeysUnusable);
        keys.remove(0);
        assert_eq!(read(&json!({"keys": keys})).unwrap().len(), 1);
        let large = json!({"keys": [rsa(json!({}))], "more": "x".repeat(256 * 1024)});
        assert_eq!(read(&large).unwrap_err().code, ErrorCode::OidcKeysUnusable);
    }

    #[test]
    fn what_is_no_set_of_keys_is_explained() {
        for document in [json!([]), json!({}), json!({"keys": {}}), json!({"keys": []}), json!("x")] {
            assert_eq!(read(&document).unwrap_err().code, ErrorCode::OidcKeysUnusable, "{document}");
        }
        for (status, code) in [
            (404, ErrorCode::OidcKeysUnusable),
            (302, ErrorCode::OidcKeysUnusable),
            (503, ErrorCode::OidcProviderUnavailable),
        ] {
            let answer = HttpAnswer { status, content_type: None, bytes: b"{}" };
            assert_eq!(parse_jwks(&answer).unwrap_err().code, code);
        }
    }

    #[test]
    fn two_keys_of_one_name_are_told_apart_by_their_kind() {
        let set =
            key_set(&[jwk_with(SignatureAlgorithm::Es256, json!({"kid": "a"})), rsa(json!({"kid": "a"}))]);
        let choice = set.choose(Some("a"), SignatureAlgorithm::Rs256, ISSUER, None);
        assert!(matches!(choice, KeyChoice::Try(keys) if keys.len() == 1 && keys[0].kind == KeyKind::Rsa));
        let choice = set.choose(Some("a"), SignatureAlgorithm::Ed25519, ISSUER, None);
        assert!(matches!(choice, KeyChoice::OtherAlgorithm));
        assert!(matches!(set.choose(Some("b"), SignatureAlgorithm::Rs256, ISSUER, None), KeyChoice::Unknown));
    }

    proptest! {
        #[test]
        fn random_documents_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            kty in "RSA|EC|OKP", member in "n|e|x|y|crv|kid|use|alg|issuer", text in "[A-Za-z0-9_-]{0,90}",
        ) {
            drop(parse_jwks(&HttpAnswer::json(&bytes)));
            let mut key = json!({"kty": kty, "crv": "P-256", "n": text, "e": text, "x": text, "y": text});
            key[member] = json!(text);
            drop(read(&json!({"keys": [key]})));
        }
    }
}
