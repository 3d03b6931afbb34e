//! The signing keys: what the provider publishes, and the signing of ID tokens.
//!
//! Out: JWK sets shaped as Entra's (no `alg`, `x5t` equal to `kid`, a self-signed certificate, an issuer for each
//! key) and compact RS256 tokens. They change by `after` alone. Never here: claims.

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::Arc;

/// The fixed tenant of personal accounts. A key whose issuer this is must never validate a work account's token.
pub(crate) const CONSUMERS_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Key generation or signing failed: the machine is out of randomness or memory.
#[derive(Debug)]
pub(crate) struct KeyError;

/// One RSA key with the names that it is published under.
struct SigningKey {
    pair: KeyPair,
    kid: String,
    modulus: String,
    certificate: String,
}

impl SigningKey {
    fn generate(not_before: i64) -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError)?;
        let certificate = self_signed_certificate(&pair, not_before)?;
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let modulus = modulus_of_2048_bits(pair.public_key().as_ref()).ok_or(KeyError)?;
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(thumbprint),
            modulus: URL_SAFE_NO_PAD.encode(modulus),
            certificate: STANDARD.encode(certificate),
            pair,
        })
    }

    fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = json!({
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid,
            "n": self.modulus, "e": "AQAB", "x5c": [self.certificate],
        });
        if let (Some(issuer), Some(members)) = (issuer, jwk.as_object_mut()) {
            members.insert("issuer".to_owned(), issuer.into());
            members.insert("cloud_instance_name".to_owned(), "microsoftonline.com".into());
        }
        jwk
    }
}

/// Which key signs a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signer {
    /// The key in use.
    Current,
    /// The published key of another tenant: its signature is right, its issuer is not.
    Foreign,
    /// A key of one application alone, which only the set behind `?appid=` holds.
    OfApplication,
}

/// All keys of the provider.
#[derive(Clone)]
pub(crate) struct SigningKeys {
    /// Still published after a planned change, for tokens that are under way.
    previous: Option<Arc<SigningKey>>,
    current: Arc<SigningKey>,
    /// Published before it is used.
    next: Arc<SigningKey>,
    foreign: Arc<SigningKey>,
    of_application: Arc<SigningKey>,
}

/// How the keys change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rollover {
    /// The announced key takes over; the old one stays published.
    Planned,
    /// A key that nobody has seen takes over; the old ones are gone at once.
    Emergency,
}

impl SigningKeys {
    /// Makes new keys. Takes a moment: four RSA keys of 2048 bits.
    pub(crate) fn generate(now: i64) -> Result<Self, KeyError> {
        let one = move || SigningKey::generate(now).map(Arc::new);
        let [first, second, third] = [(); 3].map(|()| std::thread::spawn(one));
        let current = one()?;
        let [next, foreign, of_application] =
            [first, second, third].map(|made| made.join().map_err(|_| KeyError).flatten());
        Ok(Self { previous: None, current, next: next?, foreign: foreign?, of_application: of_application? })
    }

    /// The keys after a change.
    pub(crate) fn after(&self, rollover: Rollover, now: i64) -> Result<Self, KeyError> {
        let next = Arc::new(SigningKey::generate(now)?);
        let (previous, current) = match rollover {
            Rollover::Planned => (Some(self.current.clone()), self.next.clone()),
            Rollover::Emergency => (None, Arc::new(SigningKey::generate(now)?)),
        };
        Ok(Self { previous, current, next, ..self.clone() })
    }

    /// What is published, with a word for people.
    pub(crate) fn published(&self) -> Vec<(String, &'static str)> {
        let own = [
            (Some(&self.next), "announced"),
            (Some(&self.current), "in use"),
            (self.previous.as_ref(), "old"),
        ];
        let foreign = (Some(&self.foreign), "of another directory");
        own.into_iter().chain([foreign]).filter_map(|(key, what)| Some((key?.kid.clone(), what))).collect()
    }

    fn own(&self) -> impl Iterator<Item = &SigningKey> {
        [Some(&self.next), Some(&self.current), self.previous.as_ref()].into_iter().flatten().map(Arc::as_ref)
    }

    /// The JWK set of the v2 endpoint. `issuer` is the tenant's, with `{tenantid}` in the shared documents.
    pub(crate) fn set(&self, issuer: &str, foreign_issuer: &str) -> Value {
        let foreign = self.foreign.jwk(Some(foreign_issuer));
        json!({"keys": self.own().map(|key| key.jwk(Some(issuer))).chain([foreign]).collect::<Vec<_>>()})
    }

    /// The JWK set of the v1 endpoint, whose keys name no issuer.
    pub(crate) fn set_v1(&self) -> Value {
        let foreign = self.foreign.jwk(None);
        json!({"keys": self.own().map(|key| key.jwk(None)).chain([foreign]).collect::<Vec<_>>()})
    }

    /// The JWK set that `?appid=` gives for an application with a key of its own.
    pub(crate) fn set_of_application(&self, issuer: &str) -> Value {
        json!({"keys": [self.of_application.jwk(Some(issuer))]})
    }

    /// A compact token over `claims`. Header as Entra's v2 tokens: `typ`, `alg`, `kid`.
    pub(crate) fn sign(&self, claims: &Value, signer: Signer) -> Result<String, KeyError> {
        let key = match signer {
            Signer::Current => &self.current,
            Signer::Foreign => &self.foreign,
            Signer::OfApplication => &self.of_application,
        };
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": key.kid});
        let input = format!("{}.{}", encoded(&header), encoded(claims));
        let mut signature = vec![0; key.pair.public_modulus_len()];
        key.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
            .map_err(|_| KeyError)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A token that claims to need no signature. Nobody may take it.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", encoded(&json!({"typ": "JWT", "alg": "none"})), encoded(claims))
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The 256 bytes of the modulus out of a PKCS#1 public key, whose head has a fixed length at this size.
fn modulus_of_2048_bits(pkcs1: &[u8]) -> Option<&[u8]> {
    pkcs1.strip_prefix(&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00])?.get(..256)
}

/// A self-signed X.509 certificate (RFC 5280), DER. Entra's are self-signed too: nobody validates their chain.
fn self_signed_certificate(pair: &KeyPair, not_before: i64) -> Result<Vec<u8>, KeyError> {
    const SHA256_WITH_RSA: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
    const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
    let name =
        der(0x30, &der(0x31, &der(0x30, &[COMMON_NAME, &der(0x0c, b"demo.doorward.example")].concat())));
    let utc = |seconds| {
        jiff::Timestamp::from_second(seconds)
            .map(|at| der(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()))
            .map_err(|_| KeyError)
    };
    let validity = der(0x30, &[utc(not_before)?, utc(not_before.saturating_add(5 * 365 * 86_400))?].concat());
    let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyError)?;
    let serial = der(0x02, &[&[0x01], crate::random::bytes::<8>().as_slice()].concat());
    let body = der(
        0x30,
        &[
            &der(0xa0, &der(0x02, &[2])),
            &serial,
            SHA256_WITH_RSA,
            &name,
            &validity,
            &name,
            public_key.as_ref(),
        ]
        .concat(),
    );
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &body, &mut signature).map_err(|_| KeyError)?;
    let signature = der(0x03, &[&[0x00], signature.as_slice()].concat());
    Ok(der(0x30, &[body.as_slice(), SHA256_WITH_RSA, &signature].concat()))
}

/// One DER value: tag, length, content. Contents here stay below 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = match content.len() {
        0..=127 => vec![tag, low],
        128..=255 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    #[test]
    fn a_published_key_verifies_what_the_current_key_signed() {
        let keys = SigningKeys::generate(1_768_469_412).unwrap();
        let set = keys.set("http://127.0.0.1:9400/t/v2.0", "http://127.0.0.1:9400/other/v2.0");
        let token = keys.sign(&json!({"sub": "x"}), Signer::Current).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let jwk = &set["keys"][1];
        assert_eq!(jwk["kid"], jwk["x5t"]);
        assert!(jwk.get("alg").is_none());
        let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        let public = RsaPublicKeyComponents { n: n.as_slice(), e: [1, 0, 1].as_slice() };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature).unwrap();
    }
}
