//! The query of a request to the redirect URI.
//!
//! What decides occurs once (so that no two readers see two answers), is bounded and visible; what the provider says is
//! bounded too, and an error answer never becomes a code.

use super::finding_is_bounded;
use doorward_core::oidc::{CallbackAnswer, explain_authorization_error, judge_issuer, parse_callback};

pub(super) fn check(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    // As any form parser reads it.
    let pairs: Vec<(String, String)> = form_urlencoded::parse(data).into_owned().collect();
    let all = |name: &str| {
        pairs.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let visible = |text: &str, longest: usize| {
        !text.is_empty() && text.len() <= longest && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
    };
    let parameters = match parse_callback(query) {
        Ok(parameters) => parameters,
        Err(finding) => return finding_is_bounded(&finding),
    };
    assert_eq!(all("state"), [parameters.state.expose()], "the one state");
    assert!(visible(parameters.state.expose(), 256));
    if let Some(iss) = &parameters.iss {
        assert_eq!(all("iss"), [iss.as_str()]);
        assert!(visible(iss, 2048));
    }
    match &parameters.answer {
        CallbackAnswer::Code(code) => {
            assert_eq!(all("code"), [code.expose()]);
            assert!(visible(code.expose(), 8 * 1024));
            assert!(all("error").iter().all(|error| error.is_empty()), "an error beside the code");
        }
        CallbackAnswer::Error { error, description, subcode } => {
            assert_eq!(all("error"), [error.as_str()]);
            assert!(visible(error, 128));
            assert!(all("code").iter().all(|code| code.is_empty()), "a code beside the error");
            assert!(description.as_ref().is_none_or(|words| words.chars().count() <= 2000));
            assert!(subcode.as_ref().is_none_or(|subcode| subcode.chars().count() <= 128));
            finding_is_bounded(&explain_authorization_error(
                error,
                description.as_deref(),
                subcode.as_deref(),
            ));
        }
    }
    // Only octets decide whether the issuer is the attempt's.
    let ours = "https://idp.example/realms/acme";
    let judged = judge_issuer(parameters.iss.as_deref(), ours, true);
    assert_eq!(judged.is_ok(), parameters.iss.as_deref() == Some(ours));

    // A second one of what decides is never overlooked, wherever it stands.
    for name in ["state", "code", "iss", "error"] {
        if !all(name).is_empty() {
            assert!(parse_callback(&format!("{name}=x&{query}")).is_err(), "{name} twice");
            assert!(parse_callback(&format!("{query}&{name}=x")).is_err(), "{name} twice");
        }
    }
}
