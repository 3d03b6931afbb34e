//! The fake provider's own keys and signatures, on aws-lc-rs alone.
//!
//! In: bytes and a key. Out: signatures, public keys as JWK, PEM and DER.
//! Never here: any code of the product; a fake that shares it would agree with its mistakes.
//! Keys are made once per process (an RSA key takes a while) and only when first used.

use std::sync::LazyLock;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Base64url without padding, as JOSE wants it.
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    digest::digest(&SHA256, bytes.as_ref()).as_ref().to_vec()
}

/// A word that looks random and is the same for the same seed and label: lower-case letters and digits.
pub(crate) fn word(seed: u64, label: &str) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let hash = sha256(format!("{seed}/{label}"));
    hash.iter().take(12).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// A GUID that is the same for the same seed and label.
pub(crate) fn guid(seed: u64, label: &str) -> String {
    let mut bytes = sha256(format!("{seed}/{label}"));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [hex[0..4].concat(), hex[4..6].concat(), hex[6..8].concat(), hex[8..10].concat(), hex[10..16].concat()]
        .join("-")
}

/// An RSA key of 2048 bits with its public half in the forms that JWKS and attackers use.
pub(crate) struct RsaKey {
    pair: RsaKeyPair,
    /// Base64url of the modulus.
    pub(crate) n: String,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) public_der: Vec<u8>,
}

impl RsaKey {
    fn generate() -> Self {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let public_der = AsDer::as_der(pair.public_key()).expect("a public key").as_ref().to_vec();
        Self { n: base64url(modulus(pair.public_key().as_ref())), public_der, pair }
    }

    /// RSASSA-PKCS1-v1_5 or PSS over `message`.
    pub(crate) fn sign(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("an RSA signature");
        signature
    }

    /// The public key as JWK: `kty`, `n`, `e` and nothing else.
    pub(crate) fn jwk(&self) -> Value {
        json!({"kty": "RSA", "n": self.n, "e": "AQAB"})
    }

    /// The public key as PEM.
    pub(crate) fn public_pem(&self) -> String {
        let body = STANDARD.encode(&self.public_der);
        let lines: Vec<&str> = body
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("Base64 is ASCII"))
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// The modulus out of an `RSAPublicKey` (RFC 8017 A.1.1): SEQUENCE { INTEGER n, INTEGER e }.
fn modulus(der: &[u8]) -> &[u8] {
    fn length(der: &[u8]) -> (usize, usize) {
        let first = usize::from(der[1]);
        if first < 0x80 {
            return (2, first);
        }
        let count = first - 0x80;
        (2 + count, der[2..2 + count].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    }
    let (head, _) = length(der);
    let (int_head, int_length) = length(&der[head..]);
    let number = &der[head + int_head..head + int_head + int_length];
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// A key on an elliptic curve.
pub(crate) struct EcKey {
    pair: EcdsaKeyPair,
    curve: &'static str,
}

impl EcKey {
    fn generate(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(algorithm).expect("an EC key"), curve }
    }

    /// ECDSA as r and s (RFC 7518 section 3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).expect("an EC signature").as_ref().to_vec()
    }

    /// The public key as JWK: `kty`, `crv`, `x`, `y`.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        json!({"kty": "EC", "crv": self.curve, "x": base64url(x), "y": base64url(y)})
    }
}

/// Signs tokens of even generations; see `FakeIdp::rotate_keys`.
pub(crate) static RSA_EVEN: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);
/// Signs tokens of odd generations.
pub(crate) static RSA_ODD: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);
/// Published for something else: encryption, another tenant.
pub(crate) static RSA_ASIDE: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);
/// Never published: the attacker's.
pub(crate) static RSA_STRANGER: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);
/// P-256.
pub(crate) static EC_P256: LazyLock<EcKey> =
    LazyLock::new(|| EcKey::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"));
/// secp256k1, as the OIDF suite mixes it in: to be skipped.
pub(crate) static EC_K256: LazyLock<EcKey> =
    LazyLock::new(|| EcKey::generate(&signature::ECDSA_P256K1_SHA256_FIXED_SIGNING, "secp256k1"));
static ED25519: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::generate().expect("an Ed25519 key"));

/// Ed25519 over `message`.
pub(crate) fn ed25519_sign(message: &[u8]) -> Vec<u8> {
    ED25519.sign(message).as_ref().to_vec()
}

/// The Ed25519 public key as JWK.
pub(crate) fn ed25519_jwk() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(ED25519.public_key().as_ref())})
}

/// HMAC-SHA-256, as forgers use it.
pub(crate) fn hs256(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// A fixed r ‖ s signature written as DER, which JOSE does not allow.
pub(crate) fn ecdsa_as_der(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
        let mut number = bytes[start..].to_vec();
        if number[0] & 0x80 != 0 {
            number.insert(0, 0);
        }
        let mut out = vec![0x02, u8::try_from(number.len()).expect("33 bytes at most")];
        out.append(&mut number);
        out
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).expect("70 bytes at most")], body].concat()
}
