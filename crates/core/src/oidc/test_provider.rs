//! A provider for unit tests: real keys, real signatures, and tokens of which a test turns exactly one thing.
//!
//! In: changes to a good header or to good claims. Out: signed tokens and key documents. Never shipped.

use crate::oidc::http_answer::HttpAnswer;
use crate::oidc::id_token::{Expected, TokenFault, VerifiedIdToken, verify_id_token};
use crate::oidc::signing_keys::{KeySet, SignatureAlgorithm, parse_jwks};
use crate::secret::Secret;
use crate::time::{Lifetime, Timestamp};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_768_469_400);
pub(crate) const STARTED: Timestamp = NOW.minus(Lifetime::from_minutes(2));
pub(crate) const ISSUER: &str = "https://idp.example/realms/acme";
pub(crate) const CLIENT: &str = "client-7";
pub(crate) const TENANT: &str = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10";
pub(crate) const ENTRA_ISSUER: &str =
    "https://login.microsoftonline.com/3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10/v2.0";
pub(crate) const OBJECT_ID: &str = "7d2e9c41-0b5a-4f6e-8a37-5c1d2e3f4a5b";

/// One private key of each kind.
pub(crate) struct Keys {
    rsa: RsaKeyPair,
    /// A second RSA key, which the provider does not publish.
    pub(crate) stranger: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

/// Made once per process: RSA keys are slow to make.
pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    stranger: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Modulus and exponent of the DER form `SEQUENCE { INTEGER n, INTEGER e }` (RFC 8017 appendix A.1.1).
fn rsa_numbers(key: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..=127 => (usize::from(short), 2),
            long => {
                let octets = usize::from(long & 0x7f);
                (der[2..2 + octets].iter().fold(0, |n, b| n << 8 | usize::from(*b)), 2 + octets)
            }
        };
        der[start..].split_at(length)
    }
    let (inner, _) = element(key.public_key().as_ref());
    let (modulus, rest) = element(inner);
    let (exponent, _) = element(rest);
    (modulus.iter().copied().skip_while(|b| *b == 0).collect(), exponent.to_vec())
}

/// The public half as a JWK without optional members.
pub(crate) fn jwk(algorithm: SignatureAlgorithm) -> Map<String, Value> {
    let point = |key: &EcdsaKeyPair, curve: &str| {
        let point = key.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(point.len() / 2);
        json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
    };
    let key = match algorithm {
        SignatureAlgorithm::Es256 => point(&KEYS.p256, "P-256"),
        SignatureAlgorithm::Es384 => point(&KEYS.p384, "P-384"),
        SignatureAlgorithm::Ed25519 => {
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode(KEYS.ed25519.public_key())})
        }
        _ => {
            let (n, e) = rsa_numbers(&KEYS.rsa);
            json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
        }
    };
    key.as_object().unwrap().clone()
}

/// The same with more members, such as `kid`.
pub(crate) fn jwk_with(algorithm: SignatureAlgorithm, mut more: Value) -> Value {
    let mut key = jwk(algorithm);
    key.append(more.as_object_mut().unwrap());
    Value::Object(key)
}

pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    parse_jwks(&HttpAnswer::json(json!({"keys": keys}).to_string().as_bytes())).unwrap()
}

/// What the provider publishes: one key of each kind, named after its kind.
pub(crate) fn published() -> KeySet {
    key_set(&[
        jwk_with(SignatureAlgorithm::Rs256, json!({"kid": "rsa", "use": "sig"})),
        jwk_with(SignatureAlgorithm::Es256, json!({"kid": "p256", "use": "sig"})),
        jwk_with(SignatureAlgorithm::Es384, json!({"kid": "p384"})),
        jwk_with(SignatureAlgorithm::Ed25519, json!({"kid": "ed"})),
    ])
}

pub(crate) const fn kid_of(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm {
        SignatureAlgorithm::Es256 => "p256",
        SignatureAlgorithm::Es384 => "p384",
        SignatureAlgorithm::Ed25519 => "ed",
        _ => "rsa",
    }
}

/// Signs `message`, whatever its header says.
pub(crate) fn signature(message: &str, algorithm: SignatureAlgorithm) -> Vec<u8> {
    let random = SystemRandom::new();
    match algorithm {
        SignatureAlgorithm::Rs256 => rsa_signature(&KEYS.rsa, &RSA_PKCS1_SHA256, message),
        SignatureAlgorithm::Rs384 => rsa_signature(&KEYS.rsa, &RSA_PKCS1_SHA384, message),
        SignatureAlgorithm::Rs512 => rsa_signature(&KEYS.rsa, &RSA_PKCS1_SHA512, message),
        SignatureAlgorithm::Ps256 => rsa_signature(&KEYS.rsa, &RSA_PSS_SHA256, message),
        SignatureAlgorithm::Ps384 => rsa_signature(&KEYS.rsa, &RSA_PSS_SHA384, message),
        SignatureAlgorithm::Ps512 => rsa_signature(&KEYS.rsa, &RSA_PSS_SHA512, message),
        SignatureAlgorithm::Es256 => KEYS.p256.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        SignatureAlgorithm::Es384 => KEYS.p384.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        SignatureAlgorithm::Ed25519 => KEYS.ed25519.sign(message.as_bytes()).as_ref().to_vec(),
    }
}

pub(crate) fn rsa_signature(key: &RsaKeyPair, padding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signature
}

/// A token of these very texts, signed with the key of `algorithm`.
pub(crate) fn sign_texts(header: &str, payload: &str, algorithm: SignatureAlgorithm) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = encode(signature(&message, algorithm));
    format!("{message}.{signature}")
}

pub(crate) fn header(algorithm: SignatureAlgorithm) -> Value {
    json!({"alg": algorithm.as_str(), "kid": kid_of(algorithm), "typ": "JWT"})
}

/// A token of these claims, signed by RS256.
pub(crate) fn sign(claims: &Value) -> String {
    sign_texts(&header(SignatureAlgorithm::Rs256).to_string(), &claims.to_string(), SignatureAlgorithm::Rs256)
}

pub(crate) fn nonce() -> Secret {
    Secret::token([7; 32])
}

/// The claims of a good token of an ordinary provider.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "248289761001", "nonce": nonce().expose(),
        "iat": NOW.seconds() - 5, "exp": NOW.seconds() + 3600,
        "email": "mira.holt@fjordline.example", "name": "Mira Holt",
    })
}

/// The claims of a good token of Entra (entra.md section 5).
pub(crate) fn entra_claims() -> Value {
    json!({
        "iss": ENTRA_ISSUER, "aud": CLIENT, "nonce": nonce().expose(), "ver": "2.0", "tid": TENANT,
        "iat": NOW.seconds() - 300, "nbf": NOW.seconds() - 300, "exp": NOW.seconds() + 3600,
        "sub": "hT3kq0Zx9vWc2LrUe7yBnA5sJdGfMpQi8oXwRtVuYzE", "oid": OBJECT_ID,
        "preferred_username": "mira.holt@fjordline.example", "name": "Mira Holt", "uti": "kQ3vT0rXhUqLw9ZsAbYDAA",
    })
}

/// Good claims with one of them set; `Value::Null` takes it away.
pub(crate) fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    claims
}

/// What the attempt at the ordinary provider expects.
pub(crate) fn expected(nonce: &Secret) -> Expected<'_> {
    Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        nonce,
        algorithms: &SignatureAlgorithm::ALL,
        attempt_started_at: STARTED,
        access_token: None,
        max_age: None,
        acr_values: &[],
        hosted_domains: &[],
        entra_tenant: None,
    }
}

/// What the attempt at Entra expects.
pub(crate) fn entra_expected(nonce: &Secret) -> Expected<'_> {
    Expected { issuer: ENTRA_ISSUER, entra_tenant: Some(TENANT), ..expected(nonce) }
}

/// Verifies a token of the ordinary provider.
pub(crate) fn verify(token: &str) -> Result<VerifiedIdToken, TokenFault> {
    verify_id_token(token, &published(), &expected(&nonce()), NOW)
}

/// Verifies a token of Entra.
pub(crate) fn verify_entra(token: &str) -> Result<VerifiedIdToken, TokenFault> {
    verify_id_token(token, &published(), &entra_expected(&nonce()), NOW)
}
