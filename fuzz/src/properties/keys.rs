//! A provider's key set: the input is the answer at `jwks_uri`.
//!
//! Odd entries are skipped with a reason and never fail the set; whatever keys there are, a signature of zeros, of
//! nothing, or the text itself is theirs never (conformance.md J1 to J10, V49, V50, V53).

use super::finding_is_bounded;
use super::tokens::{CLIENT, ISSUER, NOW, STARTED, encode};
use doorward_core::oidc::{Expected, HttpAnswer, SignatureAlgorithm, parse_jwks, verify_id_token};
use doorward_core::secret::Secret;

pub(super) fn check(data: &[u8]) {
    let keys = match parse_jwks(&HttpAnswer::json(data)) {
        Ok(keys) => keys,
        Err(finding) => return finding_is_bounded(&finding),
    };
    let document: serde_json::Value = serde_json::from_slice(data).expect("what was taken is JSON");
    let entries = document["keys"].as_array().expect("a list of keys");
    assert_eq!(keys.len() + keys.skipped().len(), entries.len().min(100), "each is used or skipped");
    assert!(!keys.is_empty());
    assert!(keys.skipped().iter().all(|why| why.chars().count() < 200), "{:?}", keys.skipped());

    // None of these was signed by anybody; some keys of the past took such signatures.
    let nonce = Secret::token([7; 32]);
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"{CLIENT}","sub":"1","nonce":"{}","iat":{now},"exp":{soon}}}"#,
        nonce.expose(),
        now = NOW.seconds(),
        soon = NOW.seconds() + 60,
    );
    let expected = Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        nonce: &nonce,
        algorithms: &SignatureAlgorithm::ALL,
        attempt_started_at: STARTED,
        access_token: None,
        max_age: None,
        acr_values: &[],
        hosted_domains: &[],
        entra_tenant: None,
    };
    let kid =
        entries.first().and_then(|key| key["kid"].as_str()).map(|kid| serde_json::json!(kid).to_string());
    let kid = kid.map(|kid| format!(r#","kid":{kid}"#)).unwrap_or_default();
    for (name, length) in [
        ("RS256", 256),
        ("PS256", 256),
        ("ES256", 64),
        ("ES384", 96),
        ("EdDSA", 64),
        ("HS256", 32),
        ("none", 0),
    ] {
        for kid in [kid.as_str(), ""] {
            let message = format!("{}.{}", encode(format!(r#"{{"alg":"{name}"{kid}}}"#)), encode(&claims));
            for signature in [vec![0; length], vec![1; length], Vec::new(), message.clone().into_bytes()] {
                let token = format!("{message}.{}", encode(signature));
                assert!(verify_id_token(&token, &keys, &expected, NOW).is_err(), "{token}");
            }
        }
    }
}
