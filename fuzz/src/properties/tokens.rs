//! ID tokens, and what the token endpoint and UserInfo answer.
//!
//! Three lines: a letter for what the attempt expects, a header, claims. They are signed here with a key of the
//! provider, so that the claims are reached; a second line that holds a dot and no brace is a token as it came.
//! What is believed was signed, for us, in answer to this attempt (rule 3; conformance.md OC1 to OC14): each of that
//! taken away, the same token is refused.

use super::{finding_is_bounded, first_line};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::email::Email;
use doorward_core::oidc::{
    Expected, HttpAnswer, Identity, KeySet, SignatureAlgorithm, VerifiedIdToken, parse_jwks,
    parse_token_response, parse_userinfo, verify_id_token,
};
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use std::sync::LazyLock;

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_768_469_400);
pub(super) const STARTED: Timestamp = NOW.minus(Lifetime::from_minutes(2));
pub(super) const ISSUER: &str = "https://idp.example/realms/acme";
pub(super) const CLIENT: &str = "client-7";
const TENANT: &str = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10";
const ENTRA: &str = "https://login.microsoftonline.com/3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10/v2.0";

/// Ed25519, because its signatures depend on nothing but key and text: a token that is believed must have this very one.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[42; 32]).unwrap());
static PUBLISHED: LazyLock<KeySet> = LazyLock::new(|| {
    let key = encode(KEY.public_key().as_ref());
    let document = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{key}"}}]}}"#);
    parse_jwks(&HttpAnswer::json(document.as_bytes())).unwrap()
});

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (letter, rest) = first_line(text);
    let (header, payload) = first_line(rest);
    let nonce = Secret::token([7; 32]);
    let access_token = Secret::new("an access token".to_owned());
    let acr_values = ["phr".to_owned(), "mfa".to_owned()];
    let hosted_domains = ["fjordline.example".to_owned()];
    let mut expected = Expected {
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
    match letter {
        "e" => (expected.issuer, expected.entra_tenant) = (ENTRA, Some(TENANT)),
        "g" => (expected.issuer, expected.hosted_domains) = ("https://accounts.google.com", &hosted_domains),
        "m" => (expected.max_age, expected.acr_values) = (Some(Lifetime::from_minutes(5)), &acr_values),
        "h" => expected.access_token = Some(&access_token),
        "t" => return token_answer(rest),
        _ => {}
    }
    let token = if header.contains('.') && !header.contains('{') {
        header.to_owned()
    } else {
        let message = format!("{}.{}", encode(header), encode(payload));
        format!("{message}.{}", encode(KEY.sign(message.as_bytes())))
    };
    match verify_id_token(&token, &PUBLISHED, &expected, NOW) {
        Ok(verified) => believed(&token, &verified, &expected),
        Err(fault) => finding_is_bounded(&fault.into_finding()),
    }
}

/// Everything that a token which was believed must have had, read a second time.
fn believed(token: &str, verified: &VerifiedIdToken, expected: &Expected<'_>) {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    assert_eq!(
        signature,
        encode(KEY.sign(format!("{header}.{payload}").as_bytes())),
        "nobody signed {token}"
    );
    let read = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (read(header), read(payload));
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519");
    for extension in ["crit", "zip", "b64", "enc", "cty"] {
        assert!(header.get(extension).is_none(), "{header}");
    }
    assert_eq!(claims["iss"], expected.issuer);
    assert!(claims["aud"] == expected.client_id || claims["aud"] == serde_json::json!([expected.client_id]));
    assert!(claims.get("azp").is_none_or(|party| party == expected.client_id));
    assert_eq!(claims["nonce"], expected.nonce.expose());
    let (issued, expires) = (claims["iat"].as_f64().unwrap(), claims["exp"].as_f64().unwrap());
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
    let (now, started) = (NOW.seconds() as f64, STARTED.seconds() as f64);
    assert!(issued <= now + 60.0 && issued >= started - 600.001, "iat {issued}");
    assert!(expires > now - 60.0 && expires - issued <= 86_400.001, "exp {expires}");
    assert!(claims.get("nbf").is_none_or(|at| at.as_f64().unwrap() <= now + 60.0));
    assert_eq!(claims["sub"], verified.sub());
    assert!(
        (1..=255).contains(&verified.sub().len())
            && verified.sub().bytes().all(|b| (0x20..0x7f).contains(&b))
    );
    if expected.max_age.is_some() {
        let at = claims["auth_time"].as_f64().unwrap();
        assert!(at >= now - 360.0 && at <= now + 60.0, "auth_time {at}");
        assert!(claims["acr"] == "phr" || claims["acr"] == "mfa");
    }
    if !expected.hosted_domains.is_empty() {
        assert!(claims["hd"].as_str().unwrap().eq_ignore_ascii_case("fjordline.example"));
    }
    if expected.entra_tenant.is_some() {
        assert!(claims["tid"].as_str().unwrap().eq_ignore_ascii_case(TENANT) && claims["ver"] == "2.0");
        assert_eq!(claims["oid"].as_str().unwrap().to_lowercase(), verified.key_subject());
    }

    // One thing taken away.
    let refused = |expected: Expected<'_>, now: Timestamp, what: &str| {
        assert!(verify_id_token(token, &PUBLISHED, &expected, now).is_err(), "believed {what}: {token}");
    };
    let other_nonce = Secret::token([8; 32]);
    refused(Expected { nonce: &other_nonce, ..*expected }, NOW, "for another attempt");
    refused(Expected { client_id: "client-8", ..*expected }, NOW, "for another client");
    refused(Expected { issuer: "https://idp.example/realms/globex", ..*expected }, NOW, "of another issuer");
    refused(Expected { algorithms: &[SignatureAlgorithm::Rs256], ..*expected }, NOW, "by another algorithm");
    refused(*expected, NOW.plus(Lifetime::from_days(3)), "when it is over");
    let mut spoiled = URL_SAFE_NO_PAD.decode(signature).unwrap();
    spoiled[0] ^= 1;
    let spoiled = format!("{}.{}", &token[..token.len() - signature.len() - 1], encode(spoiled));
    assert!(verify_id_token(&spoiled, &PUBLISHED, expected, NOW).is_err(), "another signature: {spoiled}");

    // A member twice, which two readers may read differently.
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let end = text.rfind('}').unwrap();
    let doubled = format!("{},\"sub\":\"somebody else\"{}", &text[..end], &text[end..]);
    let message = format!("{}.{}", token.split('.').next().unwrap(), encode(doubled));
    let doubled = format!("{message}.{}", encode(KEY.sign(message.as_bytes())));
    assert!(
        verify_id_token(&doubled, &PUBLISHED, expected, NOW).is_err(),
        "a second subject is not overlooked"
    );

    // Whom it names.
    for claim in [None, Some("email"), Some("upn")] {
        match Identity::from_verified(verified, None, claim) {
            Err(finding) => finding_is_bounded(&finding),
            Ok(identity) => {
                assert_eq!(
                    (identity.issuer.as_str(), identity.sub.as_str()),
                    (expected.issuer, verified.sub())
                );
                assert!(identity.display_name.as_ref().is_none_or(|name| name.chars().count() <= 200 && !name.chars().any(char::is_control)));
                if let Some(email) = &identity.email {
                    let used = identity.email_claim_used.as_deref().expect("the claim it was taken from");
                    let sent = claims[used].as_str().expect("one text, never a list");
                    assert_eq!(Email::parse(sent.trim()).as_ref(), Ok(email));
                }
            }
        }
    }
    for (name, value) in verified.claims_for_display() {
        assert!(
            name.chars().count() <= 100 && value.chars().count() <= 300 && name != "nonce",
            "{name} {value}"
        );
    }
    // UserInfo is about the same person, or nothing.
    let answer = HttpAnswer::json(text.as_bytes());
    assert!(parse_userinfo(&answer, verified).is_ok(), "the very same claims");
    let other = text.replace(verified.sub(), "somebody else");
    if serde_json::from_str::<serde_json::Value>(&other).is_ok_and(|other| other["sub"] != verified.sub()) {
        assert!(parse_userinfo(&HttpAnswer::json(other.as_bytes()), verified).is_err());
    }
}

/// The token endpoint's answer: a status, a line end, a body.
fn token_answer(rest: &str) {
    let (status, body) = first_line(rest);
    let status = status.parse().unwrap_or(200);
    let secrets = [Secret::new("sEcReT-0123456789".to_owned()), Secret::new("c0de".to_owned())];
    let answer = HttpAnswer { status, content_type: Some("application/json"), bytes: body.as_bytes() };
    match parse_token_response(&answer, &secrets.each_ref()) {
        Ok(response) => {
            assert_eq!(status, 200);
            let members: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(members["id_token"], response.id_token.expose());
            assert!(!response.id_token.expose().is_empty());
            assert!(members.get("error").is_none());
            assert!(members["token_type"].as_str().unwrap().eq_ignore_ascii_case("bearer"));
        }
        Err(finding) => {
            finding_is_bounded(&finding);
            // Rule 6: were the provider to repeat what we sent, nobody reads it. (A short one may be a word by chance.)
            let said = format!("{finding:?}");
            assert!(!said.contains(secrets[0].expose()), "{said}");
        }
    }
}
