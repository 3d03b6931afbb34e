//! A provider's metadata document. The first line says to which address the admin pointed; the rest is the answer.
//!
//! What is taken names the issuer that was asked for, and only addresses that an admin might have typed himself
//! (rules 1 and 5; conformance.md D1 to D7).

use super::{finding_is_bounded, first_line};
use doorward_core::oidc::{HttpAnswer, choose_auth_method, parse_issuer_input, parse_metadata};

/// What the admin may have typed, by the first letter of the input.
fn typed(letter: &str) -> (&'static str, u16, Option<&'static str>) {
    match letter {
        "e" => ("3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10", 200, Some("application/json")),
        "d" => ("fjordline.example", 200, None),
        "c" => (
            "https://fjordline.ciamlogin.com/fjordline.onmicrosoft.com/v2.0",
            200,
            Some("application/json; charset=utf-8"),
        ),
        "b" => (
            "https://fjordline.b2clogin.com/fjordline.onmicrosoft.com/b2c_1_login/v2.0",
            200,
            Some("application/json"),
        ),
        "l" => ("http://127.0.0.1:9400/acme", 200, Some("application/json")),
        "s" => ("https://idp.example/realms/acme", 404, Some("text/html")),
        _ => ("https://idp.example/realms/acme", 200, Some("application/json")),
    }
}

pub(super) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (letter, _) = first_line(&text);
    let start = data.iter().position(|b| *b == b'\n').map_or(data.len(), |at| at + 1);
    let bytes = data.get(start..).unwrap_or_default();
    let (typed, status, content_type) = typed(letter);
    let allowed = |host: &str, port: u16| host == "127.0.0.1" && port == 9400;
    let input = parse_issuer_input(typed, allowed).unwrap();
    let answer = HttpAnswer { status, content_type, bytes };
    let metadata = match parse_metadata(&answer, &input, allowed) {
        Ok(metadata) => metadata,
        Err(finding) => return finding_is_bounded(&finding),
    };
    assert_eq!(status, 200);
    assert!(input.expected_issuer.accepts(&metadata.issuer), "{}", metadata.issuer);
    let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
    for url in endpoints.into_iter().chain(&metadata.userinfo_endpoint).chain(&metadata.end_session_endpoint)
    {
        let host = url.host_str().unwrap_or_default();
        assert!(!host.is_empty(), "{url}");
        assert!(
            url.scheme() == "https" || (url.scheme() == "http" && url.authority() == "127.0.0.1:9400"),
            "{url}"
        );
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
        assert!(url.as_str().len() <= 2048, "{url}");
    }
    assert!(!metadata.algorithms.is_empty());
    metadata.hints.iter().for_each(finding_is_bounded);
    choose_auth_method(&metadata, None);
    if matches!(letter, "e" | "d" | "c") {
        // A tenant's tokens are judged by its id, so there is one, and it is the issuer's.
        let tenant =
            metadata.entra_tenant.as_deref().unwrap_or_else(|| panic!("no tenant in {}", metadata.issuer));
        assert!(metadata.issuer.contains(tenant));
    }

    // As any other JSON reader reads it; where readers may differ (a member twice), it was refused.
    let document: serde_json::Value = serde_json::from_slice(bytes).expect("what was taken is JSON");
    assert_eq!(document["issuer"], metadata.issuer);
    assert!(
        document["response_types_supported"].as_array().is_none_or(|all| all.iter().any(|one| one == "code"))
    );
    let mut doubled = bytes.to_vec();
    let end = doubled.iter().rposition(|b| *b == b'}').expect("an object");
    doubled.splice(end..end, *b",\"issuer\":\"https://evil.example\"");
    let answer = HttpAnswer { status, content_type, bytes: &doubled };
    assert!(parse_metadata(&answer, &input, allowed).is_err(), "a second issuer is not overlooked");
}
