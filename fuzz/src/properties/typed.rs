//! What people type and paste: names, e-mail addresses, an issuer. The input is tried as each.
//!
//! What is taken is plain: one spelling, one address, one host by https, and reading it again changes nothing.

use doorward_core::email::Email;
use doorward_core::name::{NAME_BYTES_MAX, Name};
use doorward_core::oidc::issuer_input::{METADATA_PATH, clean_pasted};
use doorward_core::oidc::{ExpectedIssuer, parse_issuer_input, secret_looks_like_an_id};

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    name(text);
    email(text);
    issuer(text);

    let clean = clean_pasted(text);
    assert_eq!(clean_pasted(&clean), clean, "{text:?} cleaned twice is another");
    assert!(clean.len() <= text.len() && !clean.chars().any(char::is_control), "{clean:?}");
    assert_eq!(secret_looks_like_an_id(text), secret_looks_like_an_id(&clean));
}

fn name(text: &str) {
    let Ok(name) = Name::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    assert_eq!(name.key(), text.to_lowercase(), "{text}");
    assert!((2..=NAME_BYTES_MAX).contains(&text.len()));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
    assert!(text.bytes().any(|b| !b.is_ascii_digit()), "{text}");
    // Whoever takes it in another case takes the same name.
    assert_eq!(Name::parse(name.key()).map(|name| name.key().to_owned()).as_deref(), Ok(name.key()));
    assert!(Name::parse(&text.to_uppercase()).is_ok(), "{text}");
}

fn email(text: &str) {
    let Ok(email) = Email::parse(text) else { return };
    assert_eq!(email.as_str(), text);
    assert_eq!(email.key(), text.to_lowercase());
    assert!(text.len() <= 254 && text.is_ascii());
    assert_eq!(text.matches('@').count(), 1, "{text}");
    // Nothing that a mail program reads as a second address, a comment, a name or a route.
    assert!(
        !text.contains(|c: char| c.is_whitespace() || c.is_control() || ",;:<>()[]\\\"".contains(c)),
        "{text}"
    );
    let domain = text.rsplit('@').next().unwrap_or_default();
    assert!(
        domain.contains('.') && !domain.starts_with(['.', '-']) && !domain.ends_with(['.', '-']),
        "{text}"
    );
    assert_eq!(Email::parse(email.key()).map(|email| email.key().to_owned()).as_deref(), Ok(email.key()));
}

fn issuer(text: &str) {
    // The operator lets plain http reach one port of the loopback.
    let allowed = |host: &str, port: u16| host == "127.0.0.1" && port == 9400;
    let Ok(input) = parse_issuer_input(text, allowed) else { return };
    let url = &input.metadata_url;
    assert!(
        url.scheme() == "https" || (url.scheme() == "http" && url.authority() == "127.0.0.1:9400"),
        "{url}"
    );
    assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    assert!(url.path().ends_with(METADATA_PATH) && url.as_str().len() <= 2048, "{url}");

    // Rule 1: metadata comes from the issuer's own host, but for the written table of Microsoft hosts.
    match &input.expected_issuer {
        ExpectedIssuer::Exact { normalised, .. } => {
            let issuer = url::Url::parse(normalised).unwrap();
            assert_eq!(issuer.authority(), url.authority(), "{text:?}");
            assert_eq!(issuer.scheme(), url.scheme(), "{text:?}");
            assert!(input.expected_issuer.accepts(normalised));
        }
        ExpectedIssuer::EntraTenant { host, .. } => assert_eq!(url.host_str(), Some(*host)),
        ExpectedIssuer::ExternalIdTenant { .. } => {
            assert!(url.host_str().is_some_and(|host| host.ends_with(".ciamlogin.com")), "{url}");
        }
        ExpectedIssuer::B2cTenant { host } => {
            assert!(host.ends_with(".b2clogin.com") && url.host_str() == Some(host), "{url}");
        }
    }
    for (host, foreign) in [
        (Some("evil.example"), "https://evil.example"),
        (
            Some("login.microsoftonline.com.evil.example"),
            "https://login.microsoftonline.com.evil.example/v2.0",
        ),
        (None, ""),
    ] {
        assert!(url.host_str() == host || !input.expected_issuer.accepts(foreign), "{text:?}");
    }
    // What was found out is found out again from the document's own address. (Of several slashes one may go each time.)
    if url.path().contains("//") {
        return;
    }
    if let Ok(again) = parse_issuer_input(url.as_str(), allowed) {
        assert_eq!(again.metadata_url, *url, "{text:?}");
    } else {
        panic!("{url} of {text:?} is not taken itself");
    }
}
