//! One test for each check, each turning exactly one thing of a good token (conformance.md §2.1 and §2.6).

use super::*;
use crate::oidc::test_provider::*;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

/// The code with which a token is refused for good.
fn refusal(result: Result<VerifiedIdToken, TokenFault>) -> ErrorCode {
    match result {
        Err(TokenFault::Refused(finding)) => finding.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// The refusal of good claims with one turned.
fn turned(name: &str, value: Value) -> ErrorCode {
    refusal(verify(&sign(&with(claims(), name, value))))
}

fn entra_turned(name: &str, value: Value) -> ErrorCode {
    refusal(verify_entra(&sign(&with(entra_claims(), name, value))))
}

/// The refusal of a good token with another header, signed for it by RS256.
fn header_turned(name: &str, value: Value) -> ErrorCode {
    let header = with(header(SignatureAlgorithm::Rs256), name, value);
    refusal(verify(&sign_texts(&header.to_string(), &claims().to_string(), SignatureAlgorithm::Rs256)))
}

fn seconds(offset: i64) -> Value {
    json!(NOW.seconds() + offset)
}

// Good tokens.

#[test]
fn a_good_token_is_accepted_with_each_algorithm() {
    for algorithm in SignatureAlgorithm::ALL {
        let token = sign_texts(&header(algorithm).to_string(), &claims().to_string(), algorithm);
        let verified = verify(&token).unwrap();
        assert_eq!((verified.issuer(), verified.sub()), (ISSUER, "248289761001"), "{algorithm:?}");
        assert_eq!(verified.key_subject(), "248289761001");
    }
}

#[test]
fn a_good_token_of_entra_is_keyed_by_the_object_id_and_keeps_the_sub() {
    let verified = verify_entra(&sign(&entra_claims())).unwrap();
    assert_eq!(verified.key_subject(), OBJECT_ID);
    assert_eq!(verified.sub(), "hT3kq0Zx9vWc2LrUe7yBnA5sJdGfMpQi8oXwRtVuYzE");
    assert!(verified.is_entra() && !verified.is_guest());
}

#[test]
fn ed25519_may_be_called_by_either_name() {
    let header = with(header(SignatureAlgorithm::Ed25519), "alg", json!("Ed25519"));
    let token = sign_texts(&header.to_string(), &claims().to_string(), SignatureAlgorithm::Ed25519);
    assert!(verify(&token).is_ok());
}

#[test]
fn unknown_claims_and_unknown_header_members_never_fail_a_sign_in() {
    let claims = with(claims(), "https://acme.example/x", json!({"a": [1, null, {"b": true}]}));
    let header = with(header(SignatureAlgorithm::Rs256), "x5t", json!("abc"));
    let token = sign_texts(&header.to_string(), &claims.to_string(), SignatureAlgorithm::Rs256);
    assert!(verify(&token).is_ok());
}

// Form: OC1, OC13, J6, J7, J10, J12 to J14.

#[test]
fn oc1_v52_an_encrypted_token_is_refused_before_anything_is_decrypted() {
    let good = sign(&claims());
    assert_eq!(refusal(verify(&format!("{good}.a.b"))), ErrorCode::OidcTokenEncrypted);
    assert_eq!(refusal(verify("a.b.c.d.e")), ErrorCode::OidcTokenEncrypted);
    assert_eq!(header_turned("enc", json!("A128GCM")), ErrorCode::OidcTokenEncrypted);
}

#[test]
fn j13_only_three_parts_of_strict_base64url_and_64_kib_are_read() {
    let good = sign(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.a"),
        ".".repeat(60_000),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{payload}.{signature}"),
        format!("{signed}.{signature}=="),
        format!("{signed}.{}+", &signature[1..]),
        format!("{header}.{}.{signature}", "A".repeat(70_000)),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})
            .to_string(),
        json!({"payload": payload, "protected": header, "signature": signature}).to_string(),
    ] {
        let start: String = bad.chars().take(40).collect();
        assert_eq!(refusal(verify(&bad)), ErrorCode::OidcTokenNotJws, "{start}");
    }
}

#[test]
fn j13_trailing_bits_of_base64url_are_no_second_spelling() {
    // Three characters carry two octets and two unused bits; only zero is the spelling.
    let token =
        sign_texts(r#"{"alg":"RS256","kid":"rsa"}"#, &claims().to_string(), SignatureAlgorithm::Rs256);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(signature.len() % 4, 2, "256 octets end in two characters with four unused bits");
    let last = signature.chars().last().unwrap();
    let other = char::from_u32(u32::from(last) + 1).unwrap();
    let twin = format!("{signed}.{}{other}", &signature[..signature.len() - 1]);
    assert!(verify(&token).is_ok());
    assert_eq!(refusal(verify(&twin)), ErrorCode::OidcTokenNotJws);
}

#[test]
fn j13_more_than_64_claims_or_8_levels_are_refused() {
    let mut many = claims();
    for n in 0..64 {
        many = with(many, &format!("claim{n}"), json!(n));
    }
    assert_eq!(refusal(verify(&sign(&many))), ErrorCode::OidcClaimInvalid);
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert!(verify(&sign(&with(claims(), "deep", deep(7)))).is_ok());
    assert_eq!(turned("deep", deep(8)), ErrorCode::OidcTokenNotJws);
}

#[test]
fn j14_a_doubled_member_is_refused_in_header_and_payload() {
    let rs256 = SignatureAlgorithm::Rs256;
    let payload = claims().to_string();
    let header = header(rs256).to_string();
    let doubled_payload = payload.replacen('{', r#"{"sub":"248289761001","#, 1);
    let doubled_header = header.replacen('{', r#"{"alg":"RS256","#, 1);
    assert_eq!(refusal(verify(&sign_texts(&header, &doubled_payload, rs256))), ErrorCode::OidcClaimInvalid);
    assert_eq!(refusal(verify(&sign_texts(&doubled_header, &payload, rs256))), ErrorCode::OidcClaimInvalid);
}

#[test]
fn j7_a_payload_that_is_no_json_object_in_utf_8_is_refused() {
    let header = header(SignatureAlgorithm::Rs256).to_string();
    for payload in ["", "[]", "null", "\"x\"", "{", "{}{}", "\u{feff}{}"] {
        let token = sign_texts(&header, payload, SignatureAlgorithm::Rs256);
        assert_eq!(refusal(verify(&token)), ErrorCode::OidcTokenNotJws, "{payload:?}");
    }
    let message = format!("{}.{}", encode(&header), encode(b"{\"sub\":\"\xff\"}"));
    let token = format!("{message}.{}", encode(signature(&message, SignatureAlgorithm::Rs256)));
    assert_eq!(refusal(verify(&token)), ErrorCode::OidcTokenNotJws);
}

#[test]
fn oc13_an_extension_that_must_be_understood_is_refused() {
    assert_eq!(header_turned("crit", json!(["b64"])), ErrorCode::OidcTokenNotJws);
    assert_eq!(header_turned("crit", json!([])), ErrorCode::OidcTokenNotJws);
    assert_eq!(header_turned("b64", json!(false)), ErrorCode::OidcTokenNotJws);
}

#[test]
fn j6_nothing_is_inflated() {
    assert_eq!(header_turned("zip", json!("DEF")), ErrorCode::OidcTokenNotJws);
}

#[test]
fn j3_j12_a_nested_token_or_one_of_another_kind_is_no_id_token() {
    assert_eq!(header_turned("cty", json!("JWT")), ErrorCode::OidcTokenNotJws);
    for typ in [json!("logout+jwt"), json!("at+jwt"), json!("JWT1"), json!(""), json!(["JWT"])] {
        assert_eq!(header_turned("typ", typ), ErrorCode::OidcTokenNotJws);
    }
    for typ in [Value::Null, json!("jwt"), json!("application/jwt")] {
        let header = with(header(SignatureAlgorithm::Rs256), "typ", typ);
        let token = sign_texts(&header.to_string(), &claims().to_string(), SignatureAlgorithm::Rs256);
        assert!(verify(&token).is_ok(), "{header}");
    }
}

#[test]
fn j10_v51_a_key_in_the_header_is_not_used_and_the_kid_is_an_opaque_text() {
    let stranger = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    for member in ["jku", "x5u", "jwk", "x5c"] {
        // A good token stays good; one signed by a stranger stays bad.
        let header = with(header(SignatureAlgorithm::Rs256), member, stranger.clone()).to_string();
        assert!(verify(&sign_texts(&header, &claims().to_string(), SignatureAlgorithm::Rs256)).is_ok());
        let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
        let foreign = encode(rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, &message));
        assert_eq!(refusal(verify(&format!("{message}.{foreign}"))), ErrorCode::OidcSignatureInvalid);
    }
    assert_eq!(header_turned("kid", json!(7)), ErrorCode::OidcTokenNotJws);
    assert_eq!(header_turned("kid", json!("k".repeat(257))), ErrorCode::OidcTokenNotJws);
    for kid in ["../../etc/passwd", "' OR 1=1 --", "%s%n", "", "rsa1", "RSA"] {
        let header = with(header(SignatureAlgorithm::Rs256), "kid", json!(kid)).to_string();
        let token = sign_texts(&header, &claims().to_string(), SignatureAlgorithm::Rs256);
        assert!(matches!(verify(&token), Err(TokenFault::UnknownKey(_))), "{kid}");
    }
}

// Signature: OC5 to OC7, J1 to J5, V49 to V53.

#[test]
fn oc5_one_turned_bit_anywhere_is_refused() {
    let good = sign(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let flip = |part: &str, at: usize| {
        let mut bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        bytes[at] ^= 1;
        encode(bytes)
    };
    let code = |token: String| verify(&token).unwrap_err().into_finding().code;
    assert_eq!(code(format!("{signed}.{}", flip(signature, 0))), ErrorCode::OidcSignatureInvalid);
    assert_eq!(code(format!("{signed}.{}", flip(signature, 255))), ErrorCode::OidcSignatureInvalid);
    let name_at = claims().to_string().find("Mira").unwrap();
    assert_eq!(
        code(format!("{header}.{}.{signature}", flip(payload, name_at))),
        ErrorCode::OidcSignatureInvalid
    );
    let other_header = encode(r#"{"alg":"RS256","kid":"rsa","typ":"jWT"}"#);
    assert_eq!(code(format!("{other_header}.{payload}.{signature}")), ErrorCode::OidcSignatureInvalid);
    for length in [0, 4, signature.len() / 8 * 4] {
        let short: String = signature.chars().take(length).collect();
        assert_eq!(code(format!("{signed}.{short}")), ErrorCode::OidcSignatureInvalid);
    }
}

#[test]
fn oc6_alg_none_is_refused_in_every_spelling() {
    for name in
        ["none", "None", "nOnE", "NONE", "", "rs256", "RS256 ", "RS1", "RSA1_5", "ES512", "ES256K", "HS256"]
    {
        let header = json!({"alg": name, "kid": "rsa"}).to_string();
        let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
        assert_eq!(refusal(verify(&format!("{message}."))), ErrorCode::OidcAlgorithmRefused, "{name}");
        let signed = sign_texts(&header, &claims().to_string(), SignatureAlgorithm::Rs256);
        assert_eq!(refusal(verify(&signed)), ErrorCode::OidcAlgorithmRefused, "{name}");
    }
    for value in [Value::Null, json!(null), json!(0), json!(["RS256"])] {
        assert_eq!(header_turned("alg", value), ErrorCode::OidcAlgorithmRefused);
    }
}

#[test]
fn oc7_v49_a_mac_keyed_with_what_is_public_or_with_the_client_secret_is_refused() {
    let public = jwk(SignatureAlgorithm::Rs256);
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap();
    for key in
        [modulus, Value::Object(public).to_string().into_bytes(), b"client secret".to_vec(), Vec::new()]
    {
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let header = json!({"alg": name, "kid": "rsa"}).to_string();
            let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &key), message.as_bytes());
            let token = format!("{message}.{}", encode(tag));
            assert_eq!(refusal(verify(&token)), ErrorCode::OidcAlgorithmRefused);
        }
    }
}

#[test]
fn oc6_j2_an_algorithm_outside_the_revisions_list_is_refused_though_the_signature_is_good() {
    let token = sign(&claims());
    let nonce = nonce();
    let only_es256 = Expected { algorithms: &[SignatureAlgorithm::Es256], ..expected(&nonce) };
    assert_eq!(
        refusal(verify_id_token(&token, &published(), &only_es256, NOW)),
        ErrorCode::OidcAlgorithmRefused
    );
    let nothing = Expected { algorithms: &[], ..expected(&nonce) };
    assert_eq!(
        refusal(verify_id_token(&token, &published(), &nothing, NOW)),
        ErrorCode::OidcAlgorithmRefused
    );
}

#[test]
fn oc6_an_algorithm_that_does_not_fit_the_named_key_is_refused() {
    for (algorithm, kid) in [
        (SignatureAlgorithm::Es256, "rsa"),
        (SignatureAlgorithm::Rs256, "p256"),
        (SignatureAlgorithm::Es384, "p256"),
        (SignatureAlgorithm::Ed25519, "p256"),
    ] {
        let header = with(header(algorithm), "kid", json!(kid)).to_string();
        let token = sign_texts(&header, &claims().to_string(), algorithm);
        assert_eq!(refusal(verify(&token)), ErrorCode::OidcAlgorithmRefused, "{algorithm:?} {kid}");
    }
}

#[test]
fn j1_a_keys_own_alg_binds_it() {
    let keys = key_set(&[jwk_with(SignatureAlgorithm::Ps256, json!({"kid": "rsa", "alg": "PS256"}))]);
    let nonce = nonce();
    let rs256 = sign(&claims());
    assert_eq!(
        refusal(verify_id_token(&rs256, &keys, &expected(&nonce), NOW)),
        ErrorCode::OidcAlgorithmRefused
    );
    let ps256 = SignatureAlgorithm::Ps256;
    let token = sign_texts(&header(ps256).to_string(), &claims().to_string(), ps256);
    assert!(verify_id_token(&token, &keys, &expected(&nonce), NOW).is_ok());
}

#[test]
fn j4_v50_an_ecdsa_signature_of_zeros_is_refused() {
    let header = header(SignatureAlgorithm::Es256).to_string();
    let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
    for zeros in [vec![0; 64], vec![0; 63], Vec::new(), vec![0x30, 6, 2, 1, 0, 2, 1, 0]] {
        let token = format!("{message}.{}", encode(zeros));
        assert_eq!(refusal(verify(&token)), ErrorCode::OidcSignatureInvalid);
    }
}

#[test]
fn v55_a_strangers_key_of_the_same_name_is_refused() {
    let message =
        format!("{}.{}", encode(header(SignatureAlgorithm::Rs256).to_string()), encode(claims().to_string()));
    let foreign = encode(rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, &message));
    assert_eq!(refusal(verify(&format!("{message}.{foreign}"))), ErrorCode::OidcSignatureInvalid);
}

#[test]
fn v54_an_unknown_kid_asks_for_one_refetch_and_nothing_else_does() {
    let header = with(header(SignatureAlgorithm::Rs256), "kid", json!("new")).to_string();
    let token = sign_texts(&header, &claims().to_string(), SignatureAlgorithm::Rs256);
    let fault = verify(&token).unwrap_err();
    assert!(matches!(fault, TokenFault::UnknownKey(_)));
    assert_eq!(fault.into_finding().code, ErrorCode::OidcKeyUnknown);
    let rotated = key_set(&[jwk_with(SignatureAlgorithm::Rs256, json!({"kid": "new"}))]);
    assert!(verify_id_token(&token, &rotated, &expected(&nonce()), NOW).is_ok());
}

#[test]
fn a_token_without_kid_is_tried_with_the_fitting_keys_and_asks_for_a_refetch_if_none_fits() {
    let header = json!({"alg": "RS256"}).to_string();
    let token = sign_texts(&header, &claims().to_string(), SignatureAlgorithm::Rs256);
    assert!(verify(&token).is_ok());
    // Ed25519 alone can't have signed it; a fetch may bring the key.
    let ed = key_set(&[jwk_with(SignatureAlgorithm::Ed25519, json!({}))]);
    let fault = verify_id_token(&token, &ed, &expected(&nonce()), NOW).unwrap_err();
    assert!(matches!(fault, TokenFault::UnknownKey(_)));
    // A fitting key that did not sign: perhaps rotated.
    let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
    let foreign = encode(rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, &message));
    let fault = verify(&format!("{message}.{foreign}")).unwrap_err();
    assert!(
        matches!(&fault, TokenFault::UnknownKey(finding) if finding.code == ErrorCode::OidcSignatureInvalid)
    );
}

#[test]
fn a_token_without_kid_is_tried_with_at_most_8_keys() {
    let filler = || {
        let mut key = jwk(SignatureAlgorithm::Rs256);
        let mut modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
        modulus[100] ^= 1;
        key.insert("n".to_owned(), json!(encode(modulus)));
        Value::Object(key)
    };
    let token = sign_texts(r#"{"alg":"RS256"}"#, &claims().to_string(), SignatureAlgorithm::Rs256);
    let good = || Value::Object(jwk(SignatureAlgorithm::Rs256));
    let set = |fillers: usize| {
        let mut keys: Vec<_> = (0..fillers).map(|_| filler()).collect();
        keys.push(good());
        key_set(&keys)
    };
    assert!(verify_id_token(&token, &set(7), &expected(&nonce()), NOW).is_ok());
    assert!(verify_id_token(&token, &set(8), &expected(&nonce()), NOW).is_err());
}

// Claims: OC2 to OC4.

#[test]
fn oc2_the_issuer_is_compared_octet_by_octet() {
    for other in [
        format!("{ISSUER}1"),
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        ISSUER.replace("idp.example", "idp.example:443"),
        ISSUER.replace("acme", "%61cme"),
        ISSUER.replace("acme", "\u{430}cme"),
        ISSUER.replace("https", "http"),
        ISSUER[..ISSUER.len() - 1].to_owned(),
        format!(" {ISSUER}"),
        String::new(),
    ] {
        assert_eq!(turned("iss", json!(other)), ErrorCode::OidcTokenIssuerMismatch, "{other}");
    }
    for other in [Value::Null, json!([ISSUER]), json!(1), json!({"iss": ISSUER})] {
        assert_eq!(turned("iss", other), ErrorCode::OidcTokenIssuerMismatch);
    }
}

#[test]
fn oc3_j9_v39_the_audience_is_this_client_alone() {
    for other in [
        Value::Null,
        json!(format!("{CLIENT}1")),
        json!(&CLIENT[..CLIENT.len() - 1]),
        json!(CLIENT.to_uppercase()),
        json!(7),
        json!([]),
        json!([format!("{CLIENT}1")]),
        json!([CLIENT, "other"]),
        json!(["other", CLIENT]),
        json!([CLIENT, CLIENT]),
        json!([[CLIENT]]),
        json!({CLIENT: true}),
    ] {
        assert_eq!(turned("aud", other.clone()), ErrorCode::OidcAudienceMismatch, "{other}");
    }
    assert!(verify(&sign(&with(claims(), "aud", json!([CLIENT])))).is_ok());
}

#[test]
fn oc4_the_authorized_party_is_this_client_if_named() {
    assert!(verify(&sign(&with(claims(), "azp", json!(CLIENT)))).is_ok());
    for other in [json!(format!("{CLIENT}1")), json!(""), json!([CLIENT]), json!(1)] {
        assert_eq!(turned("azp", other), ErrorCode::OidcAuthorizedPartyMismatch);
    }
    let null = claims().to_string().replacen('{', r#"{"azp":null,"#, 1);
    let token = sign_texts(&header(SignatureAlgorithm::Rs256).to_string(), &null, SignatureAlgorithm::Rs256);
    assert_eq!(refusal(verify(&token)), ErrorCode::OidcAuthorizedPartyMismatch);
}

// Times: OC8, OC9, OC13.

#[test]
fn oc8_the_expiry_is_a_time_in_the_future_give_or_take_a_minute() {
    assert_eq!(turned("exp", Value::Null), ErrorCode::OidcClaimInvalid);
    for wrong in [
        json!((NOW.seconds() + 60).to_string()),
        json!(-1),
        json!(1e300),
        json!("NaN"),
        json!([1]),
        json!(true),
    ] {
        assert_eq!(turned("exp", wrong.clone()), ErrorCode::OidcClaimInvalid, "{wrong}");
    }
    assert_eq!(turned("exp", json!(0)), ErrorCode::OidcExpired);
    assert_eq!(turned("exp", seconds(-61)), ErrorCode::OidcExpired);
    assert_eq!(turned("exp", seconds(-60)), ErrorCode::OidcExpired);
    assert!(verify(&sign(&with(claims(), "exp", seconds(-59)))).is_ok());
    assert!(verify(&sign(&with(claims(), "exp", json!(f64::from(1_768_469_341) + 0.5)))).is_ok());
}

#[test]
fn oc8_a_token_lives_for_at_most_24_hours() {
    let day = 24 * 3600;
    assert!(verify(&sign(&with(claims(), "exp", seconds(day - 5)))).is_ok());
    assert_eq!(turned("exp", seconds(day - 4)), ErrorCode::OidcClaimInvalid);
    assert_eq!(turned("exp", json!(253_402_300_799_i64)), ErrorCode::OidcClaimInvalid);
}

#[test]
fn oc9_the_issue_is_a_time_near_the_attempt() {
    assert_eq!(turned("iat", Value::Null), ErrorCode::OidcIssuedAtInvalid);
    for wrong in [json!(NOW.seconds().to_string()), json!(-5), json!(1e300), json!([NOW.seconds()])] {
        assert_eq!(turned("iat", wrong.clone()), ErrorCode::OidcIssuedAtInvalid, "{wrong}");
    }
    assert!(verify(&sign(&with(claims(), "iat", seconds(60)))).is_ok());
    assert_eq!(turned("iat", seconds(61)), ErrorCode::OidcClockSkew);
    // The attempt was started 120 seconds ago.
    assert!(verify(&sign(&with(claims(), "iat", seconds(-720)))).is_ok());
    assert_eq!(turned("iat", seconds(-721)), ErrorCode::OidcClockSkew);
    assert_eq!(turned("iat", seconds(-80_000)), ErrorCode::OidcClockSkew);
}

#[test]
fn oc13_a_token_that_is_not_valid_yet_is_refused() {
    assert!(verify(&sign(&with(claims(), "nbf", seconds(60)))).is_ok());
    assert_eq!(turned("nbf", seconds(61)), ErrorCode::OidcNotYetValid);
    for wrong in [json!(NOW.seconds().to_string()), json!(-1), json!({})] {
        assert_eq!(turned("nbf", wrong), ErrorCode::OidcClaimInvalid);
    }
}

#[test]
fn rule_17_the_time_is_an_argument() {
    let token = sign(&claims());
    let at = |offset| {
        verify_id_token(&token, &published(), &expected(&nonce()), NOW.plus(Lifetime::from_seconds(offset)))
    };
    assert!(at(3659).is_ok());
    assert_eq!(refusal(at(3660)), ErrorCode::OidcExpired);
    assert_eq!(refusal(at(-66)), ErrorCode::OidcClockSkew);
}

// The attempt: OC10, OC14.

#[test]
fn oc10_the_nonce_is_that_of_this_attempt() {
    let right = nonce();
    for other in [
        Value::Null,
        json!(format!("{}1", right.expose())),
        json!(&right.expose()[..42]),
        json!(Secret::token([8; 32]).expose()),
        json!(""),
        json!([right.expose()]),
        json!(7),
    ] {
        assert_eq!(turned("nonce", other.clone()), ErrorCode::OidcNonceMismatch, "{other}");
    }
}

#[test]
fn oc14_at_hash_fits_the_access_token_if_it_is_there() {
    let access_token = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y".to_owned());
    let nonce = nonce();
    let expected = Expected { access_token: Some(&access_token), ..expected(&nonce) };
    let verify = |algorithm: SignatureAlgorithm, at_hash: Value| {
        let claims = with(claims(), "at_hash", at_hash);
        let token = sign_texts(&header(algorithm).to_string(), &claims.to_string(), algorithm);
        verify_id_token(&token, &published(), &expected, NOW)
    };
    // The example of OpenID Connect Core 1.0 appendix A.3.
    let right = "77QmUPtjPfzWtF2AnpK9RQ";
    assert!(verify(SignatureAlgorithm::Rs256, Value::Null).is_ok());
    assert!(verify(SignatureAlgorithm::Rs256, json!(right)).is_ok());
    assert!(verify(SignatureAlgorithm::Es256, json!(right)).is_ok());
    for (algorithm, hash) in [
        (SignatureAlgorithm::Rs256, json!(format!("{right}1"))),
        (SignatureAlgorithm::Rs256, json!("77QmUPtjPfzWtF2AnpK9RR")),
        (SignatureAlgorithm::Rs256, json!("")),
        (SignatureAlgorithm::Rs256, json!([right])),
        (SignatureAlgorithm::Rs384, json!(right)),
        (SignatureAlgorithm::Ed25519, json!(right)),
    ] {
        assert_eq!(refusal(verify(algorithm, hash)), ErrorCode::OidcAccessTokenHashMismatch, "{algorithm:?}");
    }
    for algorithm in [SignatureAlgorithm::Rs384, SignatureAlgorithm::Rs512, SignatureAlgorithm::Ed25519] {
        let kind = if algorithm == SignatureAlgorithm::Rs384 { &digest::SHA384 } else { &digest::SHA512 };
        let hash = digest::digest(kind, access_token.expose().as_bytes());
        let half = encode(&hash.as_ref()[..hash.as_ref().len() / 2]);
        assert!(verify(algorithm, json!(half)).is_ok(), "{algorithm:?}");
    }
}

// The person: OC11, OC12.

#[test]
fn oc11_the_subject_is_a_text_of_1_to_255_ascii_characters() {
    for wrong in [
        Value::Null,
        json!(""),
        json!(248_289),
        json!(["248289"]),
        json!("s".repeat(256)),
        json!("sübject"),
        json!("a\u{0}b"),
        json!("a\nb"),
    ] {
        assert_eq!(turned("sub", wrong.clone()), ErrorCode::OidcSubjectInvalid, "{wrong}");
    }
    for good in ["a".to_owned(), "s".repeat(255), "auth0|5f7c Mira".to_owned()] {
        assert_eq!(verify(&sign(&with(claims(), "sub", json!(good)))).unwrap().sub(), good);
    }
}

#[test]
fn oc12_max_age_is_proved_by_auth_time() {
    let nonce = nonce();
    let expected = Expected { max_age: Some(Lifetime::from_minutes(5)), ..expected(&nonce) };
    let verify = |auth_time| {
        verify_id_token(&sign(&with(claims(), "auth_time", auth_time)), &published(), &expected, NOW)
    };
    assert!(verify(seconds(-360)).is_ok());
    assert_eq!(verify(seconds(-10)).unwrap().auth_time(), Some(NOW.minus(Lifetime::from_seconds(10))));
    for wrong in [Value::Null, seconds(-361), seconds(61), json!(NOW.seconds().to_string()), json!(-1)] {
        assert_eq!(refusal(verify(wrong.clone())), ErrorCode::OidcAuthTimeInvalid, "{wrong}");
    }
}

#[test]
fn j15_a_wrong_auth_time_is_an_error_even_if_nobody_asked() {
    assert_eq!(turned("auth_time", json!("yesterday")), ErrorCode::OidcAuthTimeInvalid);
    assert!(verify(&sign(&with(claims(), "auth_time", seconds(-100_000)))).is_ok());
}

#[test]
fn oc12_a_demanded_acr_is_in_the_token() {
    let nonce = nonce();
    let wanted = ["mfa".to_owned(), "phr".to_owned()];
    let expected = Expected { acr_values: &wanted, ..expected(&nonce) };
    let verify = |acr| verify_id_token(&sign(&with(claims(), "acr", acr)), &published(), &expected, NOW);
    assert!(verify(json!("phr")).is_ok());
    for wrong in [Value::Null, json!("mfa1"), json!("mfa phr"), json!(["mfa"]), json!(1)] {
        assert_eq!(refusal(verify(wrong.clone())), ErrorCode::OidcAcrInvalid, "{wrong}");
    }
    assert!(super::super::test_provider::verify(&sign(&with(claims(), "acr", json!("0")))).is_ok());
}

// Providers: Google's shared issuer, Entra.

#[test]
fn a_shared_issuer_needs_a_domain_of_the_organization_in_the_token() {
    let google = "https://accounts.google.com";
    let nonce = nonce();
    let domains = ["fjordline.example".to_owned()];
    let verify = |domains: &[String], hd: Value| {
        let token = sign(&with(with(claims(), "iss", json!(google)), "hd", hd));
        let expected = Expected { issuer: google, hosted_domains: domains, ..expected(&nonce) };
        verify_id_token(&token, &published(), &expected, NOW)
    };
    assert!(verify(&domains, json!("fjordline.example")).is_ok());
    assert!(verify(&domains, json!("FJORDLINE.example")).is_ok());
    for wrong in [
        Value::Null,
        json!("fjordline.example1"),
        json!("x.fjordline.example"),
        json!(""),
        json!(["fjordline.example"]),
    ] {
        assert_eq!(refusal(verify(&domains, wrong.clone())), ErrorCode::OidcHostedDomainMismatch, "{wrong}");
    }
    assert_eq!(refusal(verify(&[], json!("fjordline.example"))), ErrorCode::OidcHostedDomainMismatch);
}

#[test]
fn entra_a_token_of_another_tenant_is_refused() {
    let other = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f11";
    for wrong in
        [Value::Null, json!(other), json!(format!("{TENANT}1")), json!(""), json!([TENANT]), json!(1)]
    {
        assert_eq!(entra_turned("tid", wrong.clone()), ErrorCode::OidcTenantMismatch, "{wrong}");
    }
    let other_issuer = ENTRA_ISSUER.replace(TENANT, other);
    assert_eq!(entra_turned("iss", json!(other_issuer)), ErrorCode::OidcTokenIssuerMismatch);
}

#[test]
fn entra_a_token_of_version_1_is_refused_and_says_so() {
    assert_eq!(entra_turned("ver", json!("1.0")), ErrorCode::OidcVersionMismatch);
    for wrong in [Value::Null, json!("2.01"), json!(2.0), json!("")] {
        assert_eq!(entra_turned("ver", wrong.clone()), ErrorCode::OidcVersionMismatch, "{wrong}");
    }
    let old = with(entra_claims(), "ver", json!("1.0"));
    let old = with(old, "iss", json!(format!("https://sts.windows.net/{TENANT}/")));
    assert_eq!(refusal(verify_entra(&sign(&old))), ErrorCode::OidcVersionMismatch);
}

#[test]
fn entra_without_an_object_id_nobody_is_identified() {
    for wrong in
        [Value::Null, json!(""), json!("mira"), json!(format!("{OBJECT_ID}1")), json!([OBJECT_ID]), json!(7)]
    {
        assert_eq!(entra_turned("oid", wrong.clone()), ErrorCode::OidcObjectIdMissing, "{wrong}");
    }
    let upper = with(entra_claims(), "oid", json!(OBJECT_ID.to_uppercase()));
    assert_eq!(verify_entra(&sign(&upper)).unwrap().key_subject(), OBJECT_ID, "one spelling, one key");
}

#[test]
fn entra_a_key_signs_only_for_the_issuer_that_it_names() {
    let nonce = nonce();
    let token = sign(&entra_claims());
    let verify = |issuer: &str| {
        let keys = key_set(&[jwk_with(SignatureAlgorithm::Rs256, json!({"kid": "rsa", "issuer": issuer}))]);
        verify_id_token(&token, &keys, &entra_expected(&nonce), NOW)
    };
    assert!(verify(ENTRA_ISSUER).is_ok());
    assert!(verify("https://login.microsoftonline.com/{tenantid}/v2.0").is_ok());
    for foreign in [
        "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
        "https://login.microsoftonline.us/{tenantid}/v2.0",
        "https://login.microsoftonline.com/{tenantid}/v2.01",
        "",
    ] {
        assert_eq!(refusal(verify(foreign)), ErrorCode::OidcKeyUnknown, "{foreign}");
    }
}

#[test]
fn entra_a_guest_is_recognised_and_what_cannot_be_read_counts_as_one() {
    let guest = |name: &str, value: Value| {
        verify_entra(&sign(&with(entra_claims(), name, value))).unwrap().is_guest()
    };
    assert!(guest("acct", json!(1)));
    assert!(guest("acct", json!("1")));
    assert!(guest("acct", json!([0])));
    assert!(!guest("acct", json!(0)));
    assert!(guest("idp", json!("https://sts.windows.net/9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d/")));
    assert!(guest("idp", json!("live.com")));
    assert!(guest("idp", json!({})));
    assert!(!guest("idp", json!(format!("https://sts.windows.net/{TENANT}/"))));
    let elsewhere = verify(&sign(&with(claims(), "idp", json!("google")))).unwrap();
    assert!(!elsewhere.is_guest(), "the claims mean this at Entra only");
}

// What is shown, and what is not.

#[test]
fn s6_the_claims_for_display_are_bounded_and_leave_the_nonce_out() {
    let mut claims = with(claims(), "groups", json!(["a", "b"]));
    claims = with(claims, "long", json!("x".repeat(1000)));
    claims = with(claims, "evil", json!("a\u{202e}b\r\nc"));
    for n in 0..45 {
        claims = with(claims, &format!("z{n:02}"), json!({"n": n}));
    }
    let shown = verify(&sign(&claims)).unwrap().claims_for_display();
    let value = |name: &str| shown.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(shown.len(), 40);
    assert_eq!(value("groups"), Some("a, b"));
    assert_eq!(value("evil"), Some("a b c"));
    assert_eq!(value("long").map(str::len), Some(300));
    assert_eq!(value("z00"), Some(r#"{"n":0}"#));
    assert_eq!(value("nonce"), None);
}

#[test]
fn rule_6_a_verified_token_prints_no_claims() {
    let printed = format!("{:?}", verify(&sign(&claims())).unwrap());
    assert!(!printed.contains("fjordline") && !printed.contains("Mira"), "{printed}");
}

#[test]
fn rule_6_no_finding_repeats_the_token_or_the_nonce() {
    let token = sign(&with(claims(), "nonce", json!("swordfish")));
    let finding = verify(&token).unwrap_err().into_finding();
    let printed = format!("{finding:?}");
    assert!(!printed.contains("swordfish") && !printed.contains(nonce().expose()));
    assert!(!printed.contains(&token[..20]));
}

#[test]
fn v39_the_token_of_another_organizations_client_or_attempt_is_refused() {
    // Same provider, same keys, same person: organization B's connection has another client and another nonce.
    let token = sign(&claims());
    let nonce_a = nonce();
    let nonce_b = Secret::token([9; 32]);
    let b_client = Expected { client_id: "client-8", ..expected(&nonce_a) };
    assert_eq!(
        refusal(verify_id_token(&token, &published(), &b_client, NOW)),
        ErrorCode::OidcAudienceMismatch
    );
    let b_attempt = expected(&nonce_b);
    assert_eq!(refusal(verify_id_token(&token, &published(), &b_attempt, NOW)), ErrorCode::OidcNonceMismatch);
    let b_issuer = Expected { issuer: "https://idp.example/realms/beta", ..expected(&nonce_a) };
    assert_eq!(
        refusal(verify_id_token(&token, &published(), &b_issuer, NOW)),
        ErrorCode::OidcTokenIssuerMismatch
    );
}

#[test]
fn j11_j12_a_logout_token_is_no_id_token() {
    let mut logout = claims();
    logout = with(logout, "nonce", Value::Null);
    logout = with(logout, "events", json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!(refusal(verify(&sign(&logout))), ErrorCode::OidcNonceMismatch);
}

// Chance.

static GOOD: LazyLock<String> = LazyLock::new(|| sign(&claims()));
static PUBLISHED: LazyLock<KeySet> = LazyLock::new(published);

fn verify_cheaply(token: &str) -> Result<VerifiedIdToken, TokenFault> {
    verify_id_token(token, &PUBLISHED, &expected(&nonce()), NOW)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn oc5_no_token_with_another_character_anywhere_is_accepted(at in any::<prop::sample::Index>(), c in "[A-Za-z0-9_.=-]") {
        let at = at.index(GOOD.len());
        let mutated = format!("{}{c}{}", &GOOD[..at], &GOOD[at + 1..]);
        prop_assume!(mutated != *GOOD);
        prop_assert!(verify_cheaply(&mutated).is_err());
    }

    #[test]
    fn oc5_no_token_with_something_cut_out_or_put_in_is_accepted(
        from in any::<prop::sample::Index>(), length in 0_usize..40, more in "[A-Za-z0-9_.-]{0,5}",
    ) {
        let from = from.index(GOOD.len());
        let to = (from + length).min(GOOD.len());
        let mutated = format!("{}{more}{}", &GOOD[..from], &GOOD[to..]);
        prop_assume!(mutated != *GOOD);
        prop_assert!(verify_cheaply(&mutated).is_err());
    }

    #[test]
    fn random_texts_are_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(verify_cheaply(&text).is_err());
    }

    #[test]
    fn random_parts_are_refused_without_a_panic(
        header in prop::collection::vec(any::<u8>(), 0..60),
        payload in prop::collection::vec(any::<u8>(), 0..60),
        signature in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let token = format!("{}.{}.{}", encode(header), encode(payload), encode(signature));
        prop_assert!(verify_cheaply(&token).is_err());
    }

    #[test]
    fn signed_claims_of_any_kind_never_panic(
        name in prop::sample::select(vec!["iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "sub", "auth_time", "acr", "at_hash", "idp", "acct"]),
        value in prop_oneof![
            Just(json!(true)), any::<i64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n)),
            "\\PC{0,20}".prop_map(|text| json!(text)), Just(json!([])), Just(json!([1, "a"])), Just(json!({"a": 1})),
        ],
    ) {
        if let Ok(verified) = verify_cheaply(&sign(&with(claims(), name, value))) {
            prop_assert_eq!(verified.sub().is_empty(), false);
            drop(verified.claims_for_display());
        }
    }
}
