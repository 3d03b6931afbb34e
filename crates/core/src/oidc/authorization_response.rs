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
    let number = help_for_aadsts(&aadsts_numbers(words));
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
    if let Some((number, _)) = number {
        finding = finding.with("number", format_args!("AADSTS{number}"));
    }
    finding.with_provider_words(words)
}
