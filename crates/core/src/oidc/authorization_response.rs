//! What the browser brings back from the provider to the redirect URI.
//!
//! In: the query string. Out: state, issuer, and a code or an error. Never here: looking the state up; until that is
//! done nothing of this is believed (RFC 6749 section 4.1.2, RFC 9207; conformance.md OC17, I1 to I4).
//! Invariant: a parameter that decides occurs once, so no two readers can see two different answers.

use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step, bounded};
use crate::idp_quirks::{aadsts_numbers, help_for_aadsts};
use crate::secret::Secret;
use url::form_urlencoded;

const MAX_QUERY: usize = 16 * 1024;
const MAX_STATE: usize = 256;
const MAX_CODE: usize = 8 * 1024;
const MAX_ISSUER: usize = 2048;
const MAX_ERROR: usize = 128;

/// The parameters of a callback, bounded and each there once.
#[derive(Clone, Debug)]
pub struct CallbackParameters {
    /// Which attempt it claims to answer.
    pub state: Secret,
    /// Who answers, if he says so.
    pub iss: Option<String>,
    /// The answer.
    pub answer: CallbackAnswer,
}

/// What the provider decided.
#[derive(Clone, Debug)]
pub enum CallbackAnswer {
    /// An authorization code to redeem.
    Code(Secret),
    /// An error instead of a code.
    Error {
        /// The registered error, such as `access_denied`.
        error: String,
        /// The provider's words, at most 2,000 characters.
        description: Option<String>,
        /// Entra's further reason, such as `cancel`.
        subcode: Option<String>,
    },
}

/// Reads the query of a request to the redirect URI, without its question mark.
///
/// Unknown parameters (`session_state`, `client_info`, …) are ignored. An empty value counts as absent (RFC 6749
/// section 3.1), but also as an occurrence. Errors: `oidc.response_malformed`.
pub fn parse_callback(query: &str) -> Result<CallbackParameters, Finding> {
    if query.len() > MAX_QUERY {
        return Err(malformed("query", "too long"));
    }
    let [mut state, mut iss, mut code, mut error, mut description, mut subcode] =
        [const { None::<String> }; 6];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let (slot, field, decides) = match &*name {
            "state" => (&mut state, "state", true),
            "iss" => (&mut iss, "iss", true),
            "code" => (&mut code, "code", true),
            "error" => (&mut error, "error", true),
            "error_description" => (&mut description, "error_description", false),
            "error_subcode" => (&mut subcode, "error_subcode", false),
            _ => continue,
        };
        if slot.is_none() {
            *slot = Some(value.into_owned());
        } else if decides {
            return Err(malformed(field, "there twice"));
        }
    }
    let state =
        visible("state", state, MAX_STATE)?.ok_or_else(|| malformed("state", "missing")).map(Secret::new)?;
    let iss = visible("iss", iss, MAX_ISSUER)?;
    let answer = match (visible("code", code, MAX_CODE)?, visible("error", error, MAX_ERROR)?) {
        (Some(code), None) => CallbackAnswer::Code(Secret::new(code)),
        (None, Some(error)) => CallbackAnswer::Error {
            error,
            description: description.map(|words| bounded(&words, 2000)).filter(|words| !words.is_empty()),
            subcode: subcode.map(|subcode| bounded(&subcode, MAX_ERROR)).filter(|text| !text.is_empty()),
        },
        (Some(_), Some(_)) => return Err(malformed("code", "there beside error")),
        (None, None) => return Err(malformed("code", "missing")),
    };
    Ok(CallbackParameters { state, iss, answer })
}

/// A parameter of visible ASCII characters and blanks (RFC 6749 appendix A) and of at most `max` of them.
fn visible(field: &str, value: Option<String>, max: usize) -> Result<Option<String>, Finding> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    if value.len() > max {
        return Err(malformed(field, "too long"));
    }
    if !value.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        return Err(malformed(field, "holds other than visible ASCII characters"));
    }
    Ok(Some(value))
}

fn malformed(field: &str, found: &str) -> Finding {
    finding(ErrorCode::OidcResponseMalformed).with("field", field).with("found", found)
}

fn finding(code: ErrorCode) -> Finding {
    Finding::new(Step::Authorization, code)
}

/// Compares the answer's issuer with that of the attempt's revision, octet by octet (RFC 9207 section 2.4); error
/// answers too. `promised` says whether the metadata promises the parameter.
pub fn judge_issuer(iss: Option<&str>, expected: &str, promised: bool) -> Result<(), Finding> {
    match iss {
        Some(iss) if iss == expected => Ok(()),
        Some(iss) => {
            Err(finding(ErrorCode::OidcResponseIssuerMismatch).with("expected", expected).with("found", iss))
        }
        None if promised => Err(finding(ErrorCode::OidcResponseIssuerMissing).with("expected", expected)),
        None => Ok(()),
    }
}

/// What an error answer means. The registered error decides; Entra's numbers and the words only choose better help.
pub fn explain_authorization_error(error: &str, description: Option<&str>, subcode: Option<&str>) -> Finding {
    let words = description.unwrap_or_default();
    let numbers = aadsts_numbers(words);
    let number = help_for_aadsts(&numbers);
    let lower = words.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let code = match (number, error) {
        _ if subcode == Some("cancel") => ErrorCode::OidcCancelled,
        (Some((_, code)), _) => code,
        (None, "access_denied") if says(&["not assigned"]) => ErrorCode::OidcNotAssigned,
        // The person pressed "cancel" or "deny": few providers say more (npm oidc-provider: "End-User aborted …").
        (None, "access_denied")
            if words.is_empty()
                || says(&["cancel", "abort", "declined", "denied by", "user denied", "resource owner"]) =>
        {
            ErrorCode::OidcCancelled
        }
        (None, "consent_required") => ErrorCode::OidcConsentMissing,
        (None, "invalid_scope") => ErrorCode::OidcScopeRefused,
        (None, "unauthorized_client" | "invalid_client") => ErrorCode::OidcClientRefused,
        (None, "unsupported_response_type") => ErrorCode::OidcCodeFlowUnsupported,
        (None, "temporarily_unavailable" | "server_error") => ErrorCode::OidcProviderUnavailable,
        // login_required, interaction_required, invalid_request and whatever a provider invents.
        (None, _) => ErrorCode::OidcProviderRefused,
    };
    let mut finding = finding(code).with("error", error);
    if let Some(subcode) = subcode {
        finding = finding.with("error_subcode", subcode);
    }
    if let Some(number) = number.map(|(number, _)| number).or_else(|| numbers.first().copied()) {
        finding = finding.with("number", format_args!("AADSTS{number}"));
    }
    finding.with_provider_words(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn malformed_field(query: &str) -> String {
        let finding = parse_callback(query).expect_err(query);
        assert_eq!(finding.code, ErrorCode::OidcResponseMalformed);
        finding.values[0].1.clone()
    }

    #[test]
    fn a_code_or_an_error_is_read_and_unknown_parameters_are_ignored() {
        let read =
            parse_callback("code=a%2Bb&state=s1&session_state=x&session_state=y&client_info=z").unwrap();
        assert_eq!(read.state.expose(), "s1");
        assert!(matches!(read.answer, CallbackAnswer::Code(code) if code.expose() == "a+b"));
        assert_eq!(read.iss, None);
        let read =
            parse_callback("error=access_denied&error_subcode=cancel&state=s1&iss=https%3A%2F%2Fi").unwrap();
        assert_eq!(read.iss.as_deref(), Some("https://i"));
        let CallbackAnswer::Error { error, description, subcode } = read.answer else { panic!() };
        assert_eq!(
            (error.as_str(), description, subcode.as_deref()),
            ("access_denied", None, Some("cancel"))
        );
    }

    #[test]
    fn oc17_what_decides_occurs_once() {
        for name in ["state", "code", "iss"] {
            for twice in [
                format!("{name}=s1"),
                format!("{name}="),
                format!("%{:02x}{}=x", name.as_bytes()[0], &name[1..]),
            ] {
                assert_eq!(malformed_field(&format!("code=c&state=s1&iss=i&{twice}")), name, "{twice}");
            }
        }
        assert_eq!(malformed_field("state=s&error=a&error=b"), "error");
    }

    #[test]
    fn oc17_without_state_or_without_an_answer_nothing_can_be_done() {
        for query in ["", "code=c", "code=c&state=", "error=access_denied", "STATE=s&code=c"] {
            assert_eq!(malformed_field(query), "state", "{query}");
        }
        for query in ["state=s", "state=s&code=", "state=s&error=", "state=s&error_description=x"] {
            assert_eq!(malformed_field(query), "code", "{query}");
        }
        assert_eq!(malformed_field("state=s&code=c&error=access_denied"), "code");
    }

    #[test]
    fn values_are_bounded_visible_ascii() {
        assert_eq!(malformed_field(&format!("code=c&state={}", "s".repeat(257))), "state");
        assert_eq!(malformed_field(&format!("state=s&code={}", "c".repeat(8193))), "code");
        assert_eq!(malformed_field(&format!("state=s&code=c&iss={}", "i".repeat(2049))), "iss");
        assert_eq!(malformed_field(&format!("state=s&error={}", "e".repeat(129))), "error");
        assert_eq!(malformed_field(&format!("state=s&code=c&x={}", "x".repeat(20_000))), "query");
        for octet in ["%00", "%0a", "%ff", "%c3%bc", "%7f"] {
            assert_eq!(malformed_field(&format!("code=c&state=s{octet}")), "state");
            assert_eq!(malformed_field(&format!("code=c{octet}&state=s")), "code");
            assert_eq!(malformed_field(&format!("code=c&state=s&iss=i{octet}")), "iss");
            assert_eq!(malformed_field(&format!("error=e{octet}&state=s")), "error");
        }
    }

    #[test]
    fn v22_the_providers_words_are_bounded_and_freed_of_control_characters() {
        let query = format!("state=s&error=x&error_description=a%0d%0ab%00%e2%80%aec{}", "w".repeat(5000));
        let CallbackAnswer::Error { error, description, .. } = parse_callback(&query).unwrap().answer else {
            panic!()
        };
        let description = description.unwrap();
        assert!(description.starts_with("a b c") && description.chars().count() <= 2000);
        let finding = explain_authorization_error(&error, Some(&description), None);
        assert_eq!(finding.provider_words.map(|words| words.chars().count()), Some(600));
    }

    #[test]
    fn i1_i3_the_issuer_is_compared_octet_by_octet_whenever_it_is_there() {
        let expected = "https://idp.example/a";
        for promised in [false, true] {
            assert!(judge_issuer(Some(expected), expected, promised).is_ok());
            for other in [
                "https://idp.example/a1",
                "https://idp.example/a/",
                "https://IDP.example/a",
                "",
                "https://idp.example",
            ] {
                let finding = judge_issuer(Some(other), expected, promised).unwrap_err();
                assert_eq!(finding.code, ErrorCode::OidcResponseIssuerMismatch, "{other}");
            }
        }
    }

    #[test]
    fn i2_a_promised_issuer_that_is_missing_is_refused() {
        let finding = judge_issuer(None, "https://idp.example", true).unwrap_err();
        assert_eq!(finding.code, ErrorCode::OidcResponseIssuerMissing);
        assert!(judge_issuer(None, "https://idp.example", false).is_ok());
    }

    #[test]
    fn rule_18_whoever_cancels_is_told_so_calmly() {
        for (words, subcode) in [
            (None, Some("cancel")),
            (None, None),
            (Some("End-User aborted interaction"), None),
            (Some("The resource owner denied the request"), None),
            (Some("User cancelled"), None),
        ] {
            let finding = explain_authorization_error("access_denied", words, subcode);
            assert_eq!(finding.code, ErrorCode::OidcCancelled, "{words:?}");
        }
    }

    #[test]
    fn entras_numbers_choose_the_help() {
        for (error, number, expected) in [
            ("access_denied", 65_004, ErrorCode::OidcConsentDeclined),
            ("consent_required", 65_004, ErrorCode::OidcConsentDeclined),
            ("consent_required", 65_001, ErrorCode::OidcConsentMissing),
            ("access_denied", 90_094, ErrorCode::OidcConsentMissing),
            ("interaction_required", 50_105, ErrorCode::OidcNotAssigned),
            ("invalid_client", 650_053, ErrorCode::OidcScopeRefused),
            ("unauthorized_client", 700_016, ErrorCode::OidcClientUnknown),
            ("server_error", 90_033, ErrorCode::OidcProviderUnavailable),
        ] {
            let words = format!("AADSTS{number}: Words.\r\nTrace ID: 5d1b\r\nCorrelation ID: 0c9e");
            let finding = explain_authorization_error(error, Some(&words), None);
            assert_eq!(finding.code, expected, "{number}");
            assert!(finding.values.contains(&("number".to_owned(), format!("AADSTS{number}"))));
            assert!(finding.provider_words.unwrap().contains("Correlation ID: 0c9e"));
        }
    }

    #[test]
    fn registered_errors_are_explained_without_numbers() {
        for (error, words, expected) in [
            ("access_denied", "User is not assigned to the client application.", ErrorCode::OidcNotAssigned),
            ("access_denied", "Policy says no", ErrorCode::OidcProviderRefused),
            ("access_denied", "AADSTS53003: Blocked by policy", ErrorCode::OidcProviderRefused),
            ("consent_required", "", ErrorCode::OidcConsentMissing),
            ("login_required", "", ErrorCode::OidcProviderRefused),
            ("interaction_required", "", ErrorCode::OidcProviderRefused),
            ("invalid_scope", "", ErrorCode::OidcScopeRefused),
            ("unauthorized_client", "", ErrorCode::OidcClientRefused),
            ("unsupported_response_type", "", ErrorCode::OidcCodeFlowUnsupported),
            ("temporarily_unavailable", "", ErrorCode::OidcProviderUnavailable),
            ("server_error", "", ErrorCode::OidcProviderUnavailable),
            ("<script>", "", ErrorCode::OidcProviderRefused),
        ] {
            let finding = explain_authorization_error(error, Some(words), None);
            assert_eq!(finding.code, expected, "{error} {words}");
            assert_eq!(finding.values[0], ("error".to_owned(), error.to_owned()));
        }
    }

    #[test]
    fn rule_6_the_parameters_print_neither_state_nor_code() {
        let printed = format!("{:?}", parse_callback("code=swordfish&state=hering").unwrap());
        assert!(!printed.contains("swordfish") && !printed.contains("hering"), "{printed}");
    }

    proptest! {
        #[test]
        fn random_queries_never_panic(
            query in "((state|code|iss|error|error_description|error_subcode)=?(%[0-9a-f]{2}|\\PC){0,10}&?){0,6}",
            bytes in "\\PC{0,200}",
        ) {
            drop(parse_callback(&bytes));
            if let Ok(read) = parse_callback(&query) {
                prop_assert!(!read.state.expose().is_empty());
                if let CallbackAnswer::Error { error, description, subcode } = read.answer {
                    drop(explain_authorization_error(&error, description.as_deref(), subcode.as_deref()));
                }
            }
        }
    }
}
