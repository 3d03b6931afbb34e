//! Makes ID tokens: a right one, or one that is wrong in exactly the chosen ways.
//!
//! In: the right claims and the faults. Out: the compact token as text.
//! Never here: who may have a token. Read top to bottom: claims, header, signature, outer form.

use serde_json::{Map, Value, json};

use aws_lc_rs::signature;

use crate::metadata::{Issuer, nested, rsa, with};
use crate::misbehavior::Misbehavior;
use crate::signing::{self, EC_K256, EC_P256, RSA_ASIDE, RSA_STRANGER, base64url, sha256};

/// What goes into one ID token.
pub(crate) struct Draft<'a> {
    pub(crate) issuer: &'a Issuer,
    /// The issuer that mix-up faults name.
    pub(crate) other_issuer: &'a Issuer,
    pub(crate) claims: Map<String, Value>,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    /// The id of another client of this provider.
    pub(crate) other_client: &'a str,
    pub(crate) access_token: &'a str,
    /// The nonce of the attempt before this one, if there was one.
    pub(crate) previous_nonce: Option<&'a str>,
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Which key signs, see `metadata::rsa`.
    pub(crate) generation: u32,
    /// Where the server listens, for URLs in headers and claims.
    pub(crate) base: &'a str,
}

impl Draft<'_> {
    /// The token, with all `faults` in it.
    pub(crate) fn make(mut self, faults: &[Misbehavior]) -> String {
        for fault in faults {
            self.spoil_claims(*fault);
        }
        let mut header = json!({"typ": "JWT", "alg": "RS256", "kid": self.issuer.rsa_kid(self.generation)});
        for fault in faults {
            header = self.spoil_header(*fault, header);
        }
        let mut header = header.to_string();
        let mut payload = Value::Object(self.claims.clone()).to_string().into_bytes();
        for fault in faults {
            spoil_text(*fault, &mut header, &mut payload);
        }
        let padded = faults.contains(&Misbehavior::PaddedBase64);
        let (first, second) = if padded {
            use base64::Engine;
            // A blank or two make sure that there is something to pad.
            let encode = |bytes: &[u8]| {
                let more = if bytes.len().is_multiple_of(3) { b" ".as_slice() } else { b"" };
                base64::engine::general_purpose::URL_SAFE.encode([bytes, more].concat())
            };
            (encode(header.as_bytes()), encode(&payload))
        } else {
            (base64url(&header), base64url(&payload))
        };
        let input = format!("{first}.{second}");
        let mut signature = self.sign(faults, input.as_bytes());
        for fault in faults {
            spoil_signature(*fault, &mut signature);
        }
        let mut token = format!("{input}.{}", base64url(signature));
        for fault in faults {
            token = self.spoil_form(*fault, token, &header);
        }
        token
    }

    fn spoil_claims(&mut self, fault: Misbehavior) {
        use Misbehavior as M;
        let text = |claims: &Map<String, Value>, name: &str| {
            claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (iss, aud) = (self.issuer.url.clone(), self.client_id.to_owned());
        let (nonce, sub) = (text(&self.claims, "nonce"), text(&self.claims, "sub"));
        let now = self.now;
        let mut set = |name: &str, value: Value| drop(self.claims.insert(name.into(), value));
        match fault {
            M::IssWrong => set("iss", json!(iss + "1")),
            M::IssSlash => set("iss", json!(iss + "/")),
            M::IssCase => set("iss", json!(iss.replacen("http", "HTTP", 1))),
            M::IssPercentEncoded => {
                let (head, last) = iss.split_at(iss.len() - 1);
                set("iss", json!(format!("{head}%{:02X}", last.as_bytes()[0])));
            }
            M::IssLookAlike => set("iss", json!(iss.replacen("http", "htt\u{440}", 1))),
            M::IssArray => set("iss", json!([iss])),
            M::IssOfOtherIssuer => set("iss", json!(self.other_issuer.url)),
            M::AudWrong => set("aud", json!(aud + "1")),
            M::AudPrefix => set("aud", json!(aud[..aud.len() - 1])),
            M::AudNumber => set("aud", json!(1)),
            M::AudObject => set("aud", json!({ aud: true })),
            M::AudEmptyArray => set("aud", json!([])),
            M::AudWithStranger => set("aud", json!([aud, "stranger"])),
            M::AudOfOtherClient => set("aud", json!(self.other_client)),
            M::AudArrayOwn => set("aud", json!([aud])),
            M::AzpOther => set("azp", json!("stranger")),
            M::AzpOwn => set("azp", json!(aud)),
            M::ExpString => set("exp", json!((now + 3600).to_string())),
            M::ExpNegative => set("exp", json!(-1)),
            M::ExpAstronomic => set("exp", json!(1e300)),
            M::ExpNull => set("exp", Value::Null),
            // The token is as old as a token that ran out is.
            M::ExpPast => {
                set("iat", json!(now - 361));
                set("exp", json!(now - 61));
            }
            M::ExpLongPast => {
                set("iat", json!(now - 500));
                set("exp", json!(now - 300));
            }
            M::ExpWithinSkew => {
                set("iat", json!(now - 350));
                set("exp", json!(now - 50));
            }
            M::ExpTooFar => set("exp", json!(now + 25 * 3600)),
            M::ExpFraction => {
                set("exp", json!(f64::from(u32::try_from(now + 3600).unwrap_or(u32::MAX)) + 0.5));
            }
            M::IatString => set("iat", json!(now.to_string())),
            M::IatAhead => set("iat", json!(now + 61)),
            M::IatWithinSkew => set("iat", json!(now + 50)),
            M::IatBackDated => set("iat", json!(now - 300)),
            M::IatDayOld => {
                set("iat", json!(now - 23 * 3600));
                set("exp", json!(now + 600));
            }
            M::NbfAhead => set("nbf", json!(now + 61)),
            M::NbfString => set("nbf", json!(now.to_string())),
            M::AuthTimeOld => set("auth_time", json!(now - 86_400)),
            M::AuthTimeString => set("auth_time", json!(now.to_string())),
            M::AcrOther => set("acr", json!("urn:example:weak")),
            M::NonceWrong => set("nonce", json!(nonce + "1")),
            M::NoncePrefix => set("nonce", json!(nonce[..nonce.len().saturating_sub(1)])),
            M::NonceNumber => set("nonce", json!(7)),
            M::NonceOfPrevious => {
                set(
                    "nonce",
                    json!(self.previous_nonce.expect("NonceOfPrevious needs an attempt before this one")),
                );
            }
            M::SubEmpty => set("sub", json!("")),
            M::SubNumber => set("sub", json!(42)),
            M::SubArray => set("sub", json!([sub])),
            M::SubTooLong => set("sub", json!("s".repeat(256))),
            M::SubLongest => set("sub", json!("s".repeat(255))),
            M::SubNotAscii => set("sub", json!(sub + "\u{e9}")),
            M::AtHashWrong => set("at_hash", json!(at_hash("another access token"))),
            M::AtHashWrongSize => set("at_hash", json!(base64url(sha256(self.access_token)))),
            M::AtHashNumber => set("at_hash", json!(9)),
            M::AtHashRight => set("at_hash", json!(at_hash(self.access_token))),
            M::EmailNumber => set("email", json!(5)),
            M::TidOther => set("tid", json!(self.other_issuer.tenant)),
            M::VerOne => set("ver", json!("1.0")),
            M::HdOther => set("hd", json!("stranger.example")),
            M::HugeToken => set("padding", json!("p".repeat(80 * 1024))),
            M::ManyClaims => (0..80).for_each(|n| set(&format!("claim_{n}"), json!(n))),
            M::DeepClaims => set("deep", nested(12)),
            M::UnknownClaim => set("https://example.com/shoe_size", json!({"left": 42, "right": [42]})),
            M::DistributedClaims => {
                set("_claim_names", json!({"groups": "src1"}));
                let endpoint = format!("{}{}", self.base, self.issuer.claims);
                set("_claim_sources", json!({"src1": {"endpoint": endpoint, "access_token": "distributed"}}));
            }
            M::AggregatedClaims => {
                let jwt = format!(
                    "{}.{}.{}",
                    base64url(r#"{"alg":"none"}"#),
                    base64url(r#"{"groups":["admins"]}"#),
                    ""
                );
                set("_claim_names", json!({"groups": "src1"}));
                set("_claim_sources", json!({"src1": {"JWT": jwt}}));
            }
            M::IssMissing => drop(self.claims.remove("iss")),
            M::AudMissing => drop(self.claims.remove("aud")),
            M::ExpMissing => drop(self.claims.remove("exp")),
            M::IatMissing => drop(self.claims.remove("iat")),
            M::NonceMissing => drop(self.claims.remove("nonce")),
            M::SubMissing => drop(self.claims.remove("sub")),
            M::AuthTimeMissing => drop(self.claims.remove("auth_time")),
            M::AcrMissing => drop(self.claims.remove("acr")),
            M::TidMissing => drop(self.claims.remove("tid")),
            M::OidMissing => drop(self.claims.remove("oid")),
            M::HdMissing => drop(self.claims.remove("hd")),
            _ => {}
        }
    }

    fn spoil_header(&self, fault: Misbehavior, header: Value) -> Value {
        use Misbehavior as M;
        let without = |name: &str| {
            let mut header = header.clone();
            header.as_object_mut().map(|members| members.remove(name));
            header
        };
        let set = |more: Value| with(header.clone(), more);
        let kid = |key: &str| self.issuer.kid(key);
        match fault {
            M::AlgNone => json!({"alg": "none"}),
            M::AlgNoneCapital => json!({"alg": "None"}),
            M::AlgNoneMixed => json!({"alg": "nOnE"}),
            M::AlgMissing => without("alg"),
            M::AlgNumber => set(json!({"alg": 256})),
            M::AlgHs256Secret
            | M::AlgHs256Broken
            | M::AlgHs256PublicPem
            | M::AlgHs256PublicDer
            | M::AlgHs256PublicJwk => set(json!({"alg": "HS256"})),
            M::AlgEs256WithRsaKey => set(json!({"alg": "ES256"})),
            M::SignedEs256 | M::Es256SignatureBit | M::Es256SignatureZero | M::Es256SignatureDer => {
                set(json!({"alg": "ES256", "kid": kid("ec")}))
            }
            M::SignedEdDsa => set(json!({"alg": "EdDSA", "kid": kid("ed")})),
            M::SignedEd25519 => set(json!({"alg": "Ed25519", "kid": kid("ed")})),
            M::SignedEs256k => set(json!({"alg": "ES256K", "kid": kid("k256")})),
            M::SignedPs256 => set(json!({"alg": "PS256"})),
            M::SignedRs512 => set(json!({"alg": "RS512"})),
            M::SignedByEncryptionKey | M::SignedByForeignIssuersKey => set(json!({"kid": kid("aside")})),
            M::KidUnknown => set(json!({"kid": "never-published"})),
            M::KidMissing | M::KidMissingManyKeys => without("kid"),
            M::KidHuge => set(json!({"kid": "k".repeat(300)})),
            M::KidHostile => set(json!({"kid": "../../../../dev/null'; DROP TABLE account; --"})),
            M::KidNumber => set(json!({"kid": 5})),
            M::HeaderJwk => with(without("kid"), json!({"jwk": RSA_STRANGER.jwk()})),
            M::HeaderJku => set(json!({"jku": format!("{}/strangers-keys", self.base), "kid": "stranger"})),
            M::HeaderX5u => set(json!({"x5u": format!("{}/strangers-chain", self.base), "kid": "stranger"})),
            M::HeaderCrit => set(json!({"crit": ["urn:example:unknown"], "urn:example:unknown": true})),
            M::HeaderB64False => set(json!({"crit": ["b64"], "b64": false})),
            M::HeaderZip => set(json!({"zip": "DEF"})),
            M::HeaderTypLogout => set(json!({"typ": "logout+jwt"})),
            _ => header,
        }
    }

    fn sign(&self, faults: &[Misbehavior], input: &[u8]) -> Vec<u8> {
        use Misbehavior as M;
        let own = rsa(self.generation);
        let rs256 = &signature::RSA_PKCS1_SHA256;
        for fault in faults {
            return match fault {
                M::AlgNone | M::AlgNoneCapital | M::AlgNoneMixed => Vec::new(),
                M::AlgHs256Secret | M::AlgHs256Broken => signing::hs256(self.client_secret.as_bytes(), input),
                M::AlgHs256PublicPem => signing::hs256(own.public_pem().as_bytes(), input),
                M::AlgHs256PublicDer => signing::hs256(&own.public_der, input),
                M::AlgHs256PublicJwk => signing::hs256(own.jwk().to_string().as_bytes(), input),
                M::SignedEs256 | M::Es256SignatureBit => EC_P256.sign(input),
                M::Es256SignatureZero => vec![0; 64],
                M::Es256SignatureDer => signing::ecdsa_as_der(&EC_P256.sign(input)),
                M::SignedEs256k => EC_K256.sign(input),
                M::SignedEdDsa | M::SignedEd25519 => signing::ed25519_sign(input),
                M::SignedPs256 => own.sign(&signature::RSA_PSS_SHA256, input),
                M::SignedRs512 => own.sign(&signature::RSA_PKCS1_SHA512, input),
                M::SignedByEncryptionKey | M::SignedByForeignIssuersKey => RSA_ASIDE.sign(rs256, input),
                M::SignedByStranger | M::HeaderJwk | M::HeaderJku | M::HeaderX5u => {
                    RSA_STRANGER.sign(rs256, input)
                }
                _ => continue,
            };
        }
        own.sign(rs256, input)
    }

    fn spoil_form(&self, fault: Misbehavior, token: String, header: &str) -> String {
        use Misbehavior as M;
        let parts: Vec<&str> = token.split('.').collect();
        match fault {
            // A blank in the JSON: it means the same and is no longer what was signed.
            M::HeaderBit => format!("{}.{}.{}", base64url(header.replacen(',', ", ", 1)), parts[1], parts[2]),
            M::PayloadBit => {
                let mut claims = self.claims.clone();
                claims.insert("sub".into(), json!("somebody-else"));
                format!("{}.{}.{}", parts[0], base64url(Value::Object(claims).to_string()), parts[2])
            }
            M::Jwe => {
                let header = base64url(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT"}"#);
                let key = base64url([7; 256]);
                format!("{header}.{key}.{}.{}.{}", base64url([1; 12]), base64url(token), base64url([2; 16]))
            }
            M::FourParts => format!("{token}.{}", base64url("more")),
            M::JsonSerialization => {
                json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string()
            }
            M::TrailingBlank => token + " ",
            _ => token,
        }
    }
}

/// `at_hash` for an algorithm with SHA-256: its left half (OpenID Connect Core 3.1.3.6).
pub(crate) fn at_hash(access_token: &str) -> String {
    base64url(&sha256(access_token)[..16])
}

/// What `serde_json` would not write.
fn spoil_text(fault: Misbehavior, header: &mut String, payload: &mut Vec<u8>) {
    use Misbehavior as M;
    match fault {
        M::DuplicateHeaderMember => header.insert_str(1, r#""alg":"none","#),
        M::DuplicateClaim => drop(payload.splice(1..1, *br#""sub":"somebody-else","#)),
        M::PayloadNotUtf8 => drop(payload.splice(1..1, *b"\"note\":\"\xff\xfe\",")),
        M::PayloadArray => {
            payload.insert(0, b'[');
            payload.push(b']');
        }
        M::PayloadNotJson => drop(payload.pop()),
        _ => {}
    }
}

fn spoil_signature(fault: Misbehavior, signature: &mut Vec<u8>) {
    use Misbehavior as M;
    match fault {
        M::SignatureBit | M::Es256SignatureBit | M::AlgHs256Broken => signature[10] ^= 1,
        M::SignatureTruncated => signature.truncate(signature.len() - 8),
        M::SignatureEmpty => signature.clear(),
        _ => {}
    }
}
