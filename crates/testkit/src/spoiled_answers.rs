//! Turns a good callback or token answer into a wrong one.
//!
//! In: what would have been sent, and one misbehaviour. Out: what is sent.
//! Never here: ID tokens (`id_token.rs`) and documents (`metadata.rs`), which spoil themselves.

use http::HeaderValue;
use http::header::RETRY_AFTER;
use serde_json::{Map, Value, json};

use crate::fake_idp::LastAttempt;
use crate::misbehavior::Misbehavior;
use crate::odd_answers::{Answer, Odd, answer, json as json_answer, json_text, redirect};
use crate::registry::Problem;

/// The misbehaviours that don't depend on the endpoint.
pub(crate) fn odd(fault: Misbehavior) -> Option<Odd> {
    use Misbehavior as M;
    Some(match fault {
        M::DiscoveryHtml | M::JwksHtml | M::TokenHtml | M::UserinfoHtml => Odd::Html,
        M::DiscoveryNotJson | M::JwksNotJson | M::TokenNotJson | M::UserinfoNotJson => Odd::NotJson,
        M::DiscoveryEmpty | M::TokenEmpty => Odd::Empty,
        M::DiscoveryArray | M::TokenArray => Odd::Array,
        M::DiscoveryNotFound | M::JwksNotFound | M::TokenNotFound => Odd::NotFound,
        M::DiscoveryServerError | M::JwksServerError | M::TokenServerError | M::UserinfoServerError => {
            Odd::ServerError
        }
        M::DiscoveryOneGiB | M::JwksOneGiB | M::TokenOneGiB | M::UserinfoOneGiB => Odd::OneGiB,
        M::DiscoveryGzipBomb | M::TokenGzipBomb => Odd::GzipBomb,
        M::DiscoverySlowDrip | M::JwksSlowDrip | M::TokenSlowDrip => Odd::SlowDrip,
        M::DiscoveryNeverAnswers | M::JwksNeverAnswers | M::TokenNeverAnswers | M::UserinfoNeverAnswers => {
            Odd::NeverAnswers
        }
        M::DiscoveryReset | M::JwksReset | M::TokenReset => Odd::Reset,
        _ => return None,
    })
}

/// Turns the good callback parameters into what `fault` wants.
pub(crate) fn spoil_callback(
    fault: Misbehavior,
    answer: &mut Vec<(String, String)>,
    issuer: &str,
    other_issuer: &str,
    previous: Option<&LastAttempt>,
) {
    use Misbehavior as M;
    let value = |answer: &[(String, String)], name: &str| {
        answer.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (code, state) = (value(answer, "code"), value(answer, "state"));
    let mut set = |name: &str, value: Option<&str>| {
        answer.retain(|(key, _)| key != name);
        answer.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    };
    let mut doubled = None;
    match fault {
        M::CallbackIssWrong => set("iss", Some(&format!("{issuer}1"))),
        M::CallbackIssOfOtherIssuer => set("iss", Some(other_issuer)),
        M::CallbackIssMissing => set("iss", None),
        M::CallbackErrorIssWrong => {
            set("code", None);
            set("error", Some("access_denied"));
            set("iss", Some(&format!("{issuer}1")));
        }
        M::CallbackIssTwice => doubled = Some(("iss", issuer)),
        M::CallbackStateTwice => doubled = Some(("state", state.as_str())),
        M::CallbackCodeTwice => doubled = Some(("code", code.as_str())),
        M::CallbackErrorTwice => {
            set("code", None);
            set("error", Some("access_denied"));
            doubled = Some(("error", "server_error"));
        }
        M::CallbackCodeAndError => set("error", Some("access_denied")),
        M::CallbackStateChanged => {
            let (head, last) = state.split_at(state.len().saturating_sub(1));
            set("state", Some(&format!("{head}{}", if last == "A" { "B" } else { "A" })));
        }
        M::CallbackStateMissing => set("state", None),
        M::CallbackStateEmpty => set("state", Some("")),
        M::CallbackStateOfPrevious => {
            set(
                "state",
                Some(&previous.expect("CallbackStateOfPrevious needs an attempt before this one").state),
            );
        }
        M::CallbackCodeMissing => set("code", None),
        M::CallbackCodeEmpty => set("code", Some("")),
        M::CallbackCodeUnknown => set("code", Some("c-never-given")),
        M::CallbackCodeOfPrevious => {
            set(
                "code",
                Some(&previous.expect("CallbackCodeOfPrevious needs an attempt before this one").code),
            );
        }
        M::CallbackError => {
            set("code", None);
            set("error", Some("server_error"));
            set("error_description", Some("Something went wrong at the provider."));
        }
        M::CallbackCancelled => {
            set("code", None);
            set("error", Some("access_denied"));
            set("error_subcode", Some("cancel"));
        }
        M::CallbackLoginRequired => {
            set("code", None);
            set("error", Some("login_required"));
        }
        M::CallbackErrorWithoutState => {
            set("code", None);
            set("error", Some("server_error"));
            set("state", None);
        }
        M::CallbackErrorForeignState => {
            set("code", None);
            set("error", Some("server_error"));
            set("state", Some("a-state-that-nobody-gave"));
        }
        M::CallbackErrorScript => {
            set("code", None);
            set("error", Some("server_error"));
            let text = "<script>alert(document.domain)</script>\r\nSet-Cookie: planted=1";
            set("error_description", Some(text));
        }
        M::CallbackExtraParameters => {
            set("session_state", Some("5c1d"));
            set("client_info", Some("eyJ1aWQiOiI3In0"));
            set("utm_source", Some("portal"));
        }
        _ => {}
    }
    answer.extend(doubled.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Turns the good token answer into what `fault` wants.
pub(crate) fn spoil_token_answer(
    fault: Option<Misbehavior>,
    mut good: Map<String, Value>,
    moved_to: &str,
    refusal: impl Fn(Problem) -> Answer,
) -> Answer {
    use Misbehavior as M;
    match fault {
        Some(M::TokenNoIdToken) => drop(good.remove("id_token")),
        Some(M::TokenIdTokenNumber) => drop(good.insert("id_token".into(), json!(5))),
        Some(M::TokenErrorBesideTokens) => drop(good.insert("error".into(), json!("server_error"))),
        Some(M::TokenTypeOther) => drop(good.insert("token_type".into(), json!("mac"))),
        Some(M::TokenTypeMissing) => drop(good.remove("token_type")),
        Some(M::TokenTypeMixedCase) => drop(good.insert("token_type".into(), json!("bEARER"))),
        Some(M::TokenNoExpiresIn) => drop(good.remove("expires_in")),
        Some(M::TokenHuge) => drop(good.insert("padding".into(), json!("p".repeat(1 << 20)))),
        Some(M::TokenErrorWith200) => {
            return json_answer(200, &json!({"error": "invalid_grant", "error_description": "No."}));
        }
        Some(M::TokenInvalidGrant) => {
            let text = "The code has expired.";
            return refusal(Problem { status: 400, error: "invalid_grant", aadsts: 70_008, text });
        }
        Some(M::TokenInvalidClient) => {
            let text = "The provided client secret keys are expired.";
            return refusal(Problem { status: 401, error: "invalid_client", aadsts: 7_000_222, text });
        }
        Some(M::TokenSecretNotSent) => {
            let text = "The request body must contain 'client_assertion' or 'client_secret'.";
            return refusal(Problem { status: 401, error: "invalid_client", aadsts: 7_000_218, text });
        }
        Some(M::TokenPlatformPublic) => {
            let text =
                "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.";
            return refusal(Problem { status: 401, error: "invalid_client", aadsts: 700_025, text });
        }
        Some(M::TokenPlatformSpa) => {
            let text =
                "Proof Key for Code Exchange is required for cross-origin authorization code redemption.";
            return refusal(Problem { status: 400, error: "invalid_request", aadsts: 9_002_325, text });
        }
        Some(M::TokenClientUnknown) => {
            let text = "Application was not found in the directory.";
            return refusal(Problem { status: 400, error: "unauthorized_client", aadsts: 700_016, text });
        }
        Some(M::TokenTooManyRequests) => {
            let text = "Too many requests.";
            let mut answer =
                refusal(Problem { status: 429, error: "temporarily_unavailable", aadsts: 90_055, text });
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
            return answer;
        }
        Some(M::TokenUnavailable) => {
            let text = "Try again later.";
            return refusal(Problem { status: 503, error: "temporarily_unavailable", aadsts: 90_033, text });
        }
        Some(M::TokenRedirect) => return redirect(302, moved_to),
        Some(M::TokenRedirect307) => return redirect(307, moved_to),
        _ => {}
    }
    let id_token = good.get("id_token").cloned().unwrap_or_default();
    let text = Value::Object(good).to_string();
    match fault {
        Some(M::TokenTwoIdTokens) => {
            json_text(200, text.replacen('{', &format!("{{\"id_token\":{id_token},"), 1))
        }
        Some(M::TokenCacheable) => answer(200, "application/json", text),
        _ => json_text(200, text),
    }
}
