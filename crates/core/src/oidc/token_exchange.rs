//! Redeeming the code: what is sent to the token endpoint, and what its answer means.
//!
//! In: code, verifier, client and its secret; then the answer. Out: a request to send once; an ID token that is not
//! yet believed, or a finding. Never here: sending, or trying again with the same code (entra.md section 4).
//! RFC 6749 sections 2.3.1, 4.1.3 and 5, RFC 7636 section 4.5, OpenID Connect Core 1.0 section 3.1.3.

use crate::connection::ClientAuthMethod;
use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step};
use crate::idp_quirks::{aadsts_numbers, help_for_aadsts};
use crate::oidc::http_answer::HttpAnswer;
use crate::oidc::issuer_input::{clean_pasted, guid};
use crate::oidc::strict_json::{JsonFault, Limits, parse_object};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use url::form_urlencoded;

/// Room for an ID token of 64 KiB and an access token beside it.
const LIMITS: Limits = Limits { bytes: 256 * 1024, depth: 8 };

/// What is needed to redeem a code.
#[derive(Clone, Copy, Debug)]
pub struct CodeRedemption<'a> {
    /// The code of the authorization response.
    pub code: &'a Secret,
    /// The redirect URI, exactly as in the authorization request.
    pub redirect_uri: &'a str,
    /// The attempt's PKCE verifier.
    pub code_verifier: &'a Secret,
    /// Our identifier at the provider.
    pub client_id: &'a str,
    /// Our secret there.
    pub client_secret: &'a Secret,
    /// How the secret is sent; one way only.
    pub auth_method: ClientAuthMethod,
}

/// A POST to the token endpoint with `Content-Type: application/x-www-form-urlencoded` and `Accept: application/json`.
/// Never an `Origin`: Entra would take us for a browser.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The value of the header `Authorization`, if the client authenticates by Basic.
    pub authorization: Option<Secret>,
    /// The form body.
    pub body: Secret,
}

impl CodeRedemption<'_> {
    /// The request that redeems the code. Send it once.
    pub fn to_request(&self) -> TokenRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", self.code.expose())
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("code_verifier", self.code_verifier.expose());
        let authorization = match self.auth_method {
            ClientAuthMethod::Basic => Some(basic(self.client_id, self.client_secret)),
            ClientAuthMethod::Post => {
                form.append_pair("client_id", self.client_id)
                    .append_pair("client_secret", self.client_secret.expose());
                None
            }
        };
        TokenRequest { authorization, body: Secret::new(form.finish()) }
    }
}

/// Identifier and secret are form-encoded before Base64 (RFC 6749 section 2.3.1): a colon or an umlaut survives.
fn basic(client_id: &str, client_secret: &Secret) -> Secret {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encode(client_id), encode(client_secret.expose())));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

/// The tokens of a good answer. Nothing about the ID token has been checked.
#[derive(Clone, Debug)]
pub struct TokenResponse {
    /// The ID token as sent.
    pub id_token: Secret,
    /// The access token, for UserInfo and `at_hash`. Opaque to us.
    pub access_token: Option<Secret>,
}

/// Reads the token endpoint's answer. `sent` are the secrets of the request (client secret, code, verifier): should
/// the provider's words repeat one, it is masked (rule 6).
pub fn parse_token_response(answer: &HttpAnswer<'_>, sent: &[&Secret]) -> Result<TokenResponse, Finding> {
    let parsed = parse_object(answer.bytes, LIMITS);
    let members = match parsed {
        Ok(members) if answer.status == 200 && !members.contains_key("error") => members,
        Ok(members) => return Err(explain_token_error(answer, &members, sent)),
        Err(_) if answer.status != 200 => return Err(explain_token_error(answer, &Map::new(), sent)),
        Err(fault @ JsonFault::Doubled(_)) => {
            return Err(malformed("answer", &masked(&fault.to_string(), sent)));
        }
        Err(fault) => {
            return Err(malformed("answer", &fault.to_string())
                .with("content_type", masked(&answer.media_type().unwrap_or_default(), sent)));
        }
    };
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(_) => Err(malformed(name, "not a text")),
    };
    let token_type = text("token_type")?.ok_or_else(|| malformed("token_type", "missing"))?;
    if !token_type.eq_ignore_ascii_case("Bearer") {
        return Err(malformed("token_type", &masked(token_type, sent)));
    }
    let access_token = text("access_token")?.map(|token| Secret::new(token.to_owned()));
    let id_token = text("id_token")?.ok_or_else(|| finding(ErrorCode::OidcIdTokenMissing))?;
    Ok(TokenResponse { id_token: Secret::new(id_token.to_owned()), access_token })
}

/// What an error answer means (RFC 6749 section 5.2; entra.md sections 4 and 8).
fn explain_token_error(answer: &HttpAnswer<'_>, members: &Map<String, Value>, sent: &[&Secret]) -> Finding {
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let error = text("error");
    let words = masked(text("error_description"), sent);
    let mut numbers: Vec<u64> = members
        .get("error_codes")
        .and_then(Value::as_array)
        .map(|codes| codes.iter().take(8).filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    if numbers.is_empty() {
        numbers = aadsts_numbers(&words);
    }
    let number = help_for_aadsts(&numbers);
    let lower = words.to_lowercase();
    let blames_secret = lower.contains("secret")
        && ["invalid", "incorrect", "wrong", "mismatch", "does not match"]
            .iter()
            .any(|part| lower.contains(part));
    let code = match (number, error) {
        (Some((_, code)), _) => code,
        (None, "invalid_client" | "unauthorized_client") if blames_secret => ErrorCode::OidcClientSecretWrong,
        (None, "invalid_client" | "unauthorized_client") => ErrorCode::OidcClientRefused,
        (None, "invalid_grant") if text("suberror") == "consent_required" => ErrorCode::OidcConsentMissing,
        (None, "invalid_grant") => ErrorCode::OidcCodeRefused,
        (None, "invalid_scope") => ErrorCode::OidcScopeRefused,
        (None, "consent_required") => ErrorCode::OidcConsentMissing,
        (None, "temporarily_unavailable" | "server_error") => ErrorCode::OidcProviderUnavailable,
        (None, _) if answer.is_unavailable() => ErrorCode::OidcProviderUnavailable,
        (None, "") if answer.status == 401 => ErrorCode::OidcClientRefused,
        (None, _) => ErrorCode::OidcTokenStatus,
    };
    let mut finding = finding(code).with("status", answer.status);
    if !error.is_empty() {
        finding = finding.with("error", masked(error, sent));
    }
    if let Some(number) = number.map(|(number, _)| number).or_else(|| numbers.last().copied()) {
        finding = finding.with("number", format_args!("AADSTS{number}"));
    }
    finding.with_provider_words(&words)
}

/// A provider's words without our secrets, in case it repeats them.
fn masked(words: &str, sent: &[&Secret]) -> String {
    sent.iter()
        .map(|secret| secret.expose())
        .filter(|secret| secret.len() >= 4)
        .fold(words.to_owned(), |words, secret| words.replace(secret, "…"))
}

/// Whether a pasted secret has the form of an identifier: in Entra the column Secret ID was copied instead of Value.
/// To be refused for an Entra-shaped issuer only (`settings.client_secret_is_id`); elsewhere a GUID may be a secret.
pub fn secret_looks_like_an_id(secret: &str) -> bool {
    guid(&clean_pasted(secret)).is_some()
}

fn malformed(field: &str, found: &str) -> Finding {
    finding(ErrorCode::OidcTokenMalformed).with("field", field).with("found", found)
}

fn finding(code: ErrorCode) -> Finding {
    Finding::new(Step::Token, code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn form(request: &TokenRequest) -> Vec<(String, String)> {
        form_urlencoded::parse(request.body.expose().as_bytes()).into_owned().collect()
    }

    fn request(auth_method: ClientAuthMethod) -> TokenRequest {
        CodeRedemption {
            code: &secret("SplxlOBe+ZQQ=YbYS6WxSbIA"),
            redirect_uri: "https://sso.example.com/organizations/Acme/oidc/consume",
            code_verifier: &Secret::token([3; 32]),
            client_id: "client:7 ü",
            client_secret: &secret("a b:c~d&e%"),
            auth_method,
        }
        .to_request()
    }

    fn answer(status: u16, body: &Value) -> Result<TokenResponse, Finding> {
        let bytes = body.to_string();
        parse_token_response(
            &HttpAnswer { status, content_type: Some("application/json"), bytes: bytes.as_bytes() },
            &[],
        )
    }

    fn code(status: u16, body: &Value) -> ErrorCode {
        answer(status, body).unwrap_err().code
    }

    fn good() -> Value {
        json!({"token_type": "Bearer", "id_token": "h.p.s", "access_token": "opaque", "expires_in": 3600})
    }

    fn without(name: &str) -> Value {
        let mut body = good();
        body.as_object_mut().unwrap().remove(name);
        body
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = good();
        body.as_object_mut().unwrap().insert(name.to_owned(), value);
        body
    }

    /// Entra's answer with this number (entra.md section 4).
    fn entra(error: &str, numbers: &[u64]) -> Value {
        let number = numbers.last().unwrap();
        json!({
            "error": error,
            "error_description": format!("AADSTS{number}: Words.\r\nTrace ID: 5d1b0c7e\r\nTimestamp: 2026-01-15 09:30:12Z"),
            "error_codes": numbers, "timestamp": "2026-01-15 09:30:12Z",
        })
    }

    #[test]
    fn p3_by_post_everything_is_in_the_body_once_and_nothing_in_the_header() {
        let request = request(ClientAuthMethod::Post);
        assert!(request.authorization.is_none());
        let form = form(&request);
        let expected = [
            ("grant_type", "authorization_code"),
            ("code", "SplxlOBe+ZQQ=YbYS6WxSbIA"),
            ("redirect_uri", "https://sso.example.com/organizations/Acme/oidc/consume"),
            ("code_verifier", Secret::token([3; 32]).expose()),
            ("client_id", "client:7 ü"),
            ("client_secret", "a b:c~d&e%"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(form, expected);
    }

    #[test]
    fn by_basic_identifier_and_secret_are_form_encoded_before_base64_and_not_in_the_body() {
        let request = request(ClientAuthMethod::Basic);
        let header = request.authorization.as_ref().unwrap().expose().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(header).unwrap()).unwrap();
        assert_eq!(pair, "client%3A7+%C3%BC:a+b%3Ac%7Ed%26e%25");
        let names: Vec<_> = form(&request).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["grant_type", "code", "redirect_uri", "code_verifier"]);
    }

    #[test]
    fn rule_6_a_token_request_prints_no_secret() {
        let printed = format!("{:?} {:?}", request(ClientAuthMethod::Post), request(ClientAuthMethod::Basic));
        assert!(
            !printed.contains("a b") && !printed.contains("a+b") && !printed.contains("Splxl"),
            "{printed}"
        );
    }

    #[test]
    fn a_good_answer_gives_both_tokens() {
        let response = answer(200, &good()).unwrap();
        assert_eq!(response.id_token.expose(), "h.p.s");
        assert_eq!(response.access_token.unwrap().expose(), "opaque");
        assert!(answer(200, &without("access_token")).unwrap().access_token.is_none());
        assert!(answer(200, &without("expires_in")).is_ok());
        assert!(answer(200, &with("ext_expires_in", json!({"more": 1}))).is_ok());
    }

    #[test]
    fn oc16_the_token_type_is_bearer_in_any_case() {
        for name in ["bearer", "bEARER", "BEARER"] {
            assert!(answer(200, &with("token_type", json!(name))).is_ok());
        }
        for wrong in [json!("Bearer1"), json!("DPoP"), json!(""), json!(["Bearer"]), json!(null)] {
            assert_eq!(code(200, &with("token_type", wrong)), ErrorCode::OidcTokenMalformed);
        }
        assert_eq!(code(200, &without("token_type")), ErrorCode::OidcTokenMalformed);
    }

    #[test]
    fn rule_6_whatever_part_of_an_answer_repeats_a_secret_no_finding_shows_it() {
        let sent = secret("sEcReT-0123456789");
        let shown = |kind: &str, bytes: &str| {
            let answer = HttpAnswer { status: 200, content_type: Some(kind), bytes: bytes.as_bytes() };
            format!("{:?}", parse_token_response(&answer, &[&sent]).unwrap_err())
        };
        for (kind, bytes) in [
            ("application/json", r#"{"id_token":"a.b.c","token_type":"sEcReT-0123456789 Bearer"}"#),
            ("application/json", r#"{"sEcReT-0123456789":1,"sEcReT-0123456789":2}"#),
            ("text/sEcReT-0123456789", "no JSON"),
        ] {
            assert!(!shown(kind, bytes).contains("sEcReT-0123456789"), "{kind} {bytes}");
        }
    }

    #[test]
    fn oc16_without_an_id_token_nobody_is_signed_in() {
        assert_eq!(code(200, &without("id_token")), ErrorCode::OidcIdTokenMissing);
        for wrong in [json!(""), json!(1), json!(null), json!(["h.p.s"])] {
            assert_eq!(code(200, &with("id_token", wrong)), ErrorCode::OidcTokenMalformed);
        }
    }

    #[test]
    fn oc16_an_error_with_status_200_and_doubled_id_tokens_are_refused() {
        assert_eq!(code(200, &with("error", json!("invalid_grant"))), ErrorCode::OidcCodeRefused);
        let doubled = good().to_string().replacen('{', r#"{"id_token":"a.b.c","#, 1);
        let finding = parse_token_response(&HttpAnswer::json(doubled.as_bytes()), &[]).unwrap_err();
        assert_eq!(finding.code, ErrorCode::OidcTokenMalformed);
    }

    #[test]
    fn what_is_no_json_object_is_explained() {
        for body in ["", "<html>", "[]", "id_token=h.p.s&token_type=Bearer"] {
            let finding = parse_token_response(
                &HttpAnswer { status: 200, content_type: Some("text/html"), bytes: body.as_bytes() },
                &[],
            )
            .unwrap_err();
            assert_eq!(finding.code, ErrorCode::OidcTokenMalformed, "{body}");
        }
        for (status, expected) in [
            (302, ErrorCode::OidcTokenStatus),
            (401, ErrorCode::OidcClientRefused),
            (404, ErrorCode::OidcTokenStatus),
            (429, ErrorCode::OidcProviderUnavailable),
            (503, ErrorCode::OidcProviderUnavailable),
        ] {
            let answer = HttpAnswer { status, content_type: None, bytes: b"<html>" };
            assert_eq!(parse_token_response(&answer, &[]).unwrap_err().code, expected, "{status}");
        }
    }

    #[test]
    fn entras_numbers_choose_the_help() {
        for (error, numbers, expected) in [
            ("invalid_client", &[7_000_215][..], ErrorCode::OidcClientSecretWrong),
            ("invalid_client", &[7_000_222], ErrorCode::OidcClientSecretExpired),
            ("invalid_client", &[7_000_218], ErrorCode::OidcClientSecretNotSent),
            ("invalid_client", &[700_025], ErrorCode::OidcPlatformPublic),
            ("invalid_request", &[9_002_325], ErrorCode::OidcPlatformSpa),
            ("invalid_request", &[9_002_327], ErrorCode::OidcPlatformSpa),
            ("invalid_grant", &[54_005], ErrorCode::OidcCodeRefused),
            ("invalid_grant", &[70_008], ErrorCode::OidcCodeRefused),
            ("invalid_grant", &[70_002, 54_005], ErrorCode::OidcCodeRefused),
            ("invalid_grant", &[65_001], ErrorCode::OidcConsentMissing),
            ("unauthorized_client", &[700_016], ErrorCode::OidcClientUnknown),
            ("invalid_scope", &[70_011], ErrorCode::OidcScopeRefused),
            ("invalid_request", &[90_002], ErrorCode::OidcTenantUnknown),
        ] {
            assert_eq!(code(400, &entra(error, numbers)), expected, "{numbers:?}");
            // The list may be missing: then the words say it.
            let mut body = entra(error, numbers);
            body.as_object_mut().unwrap().remove("error_codes");
            assert_eq!(code(400, &body), expected, "{numbers:?} in words");
        }
        let finding = answer(401, &entra("invalid_client", &[7_000_215])).unwrap_err();
        assert!(finding.values.contains(&("number".to_owned(), "AADSTS7000215".to_owned())));
        assert!(finding.provider_words.unwrap().contains("Trace ID: 5d1b0c7e"));
    }

    #[test]
    fn an_unknown_number_falls_back_to_the_registered_error_and_is_shown() {
        let finding = answer(400, &entra("invalid_grant", &[1_234_567])).unwrap_err();
        assert_eq!(finding.code, ErrorCode::OidcCodeRefused);
        assert!(finding.values.contains(&("number".to_owned(), "AADSTS1234567".to_owned())));
    }

    #[test]
    fn registered_errors_are_explained_without_numbers() {
        let body = |error: &str, words: &str| json!({"error": error, "error_description": words});
        for (error, words, expected) in [
            ("invalid_client", "Client authentication failed.", ErrorCode::OidcClientRefused),
            (
                "invalid_client",
                "The client secret supplied for a confidential client is invalid.",
                ErrorCode::OidcClientSecretWrong,
            ),
            (
                "unauthorized_client",
                "Invalid client or Invalid client credentials",
                ErrorCode::OidcClientRefused,
            ),
            ("invalid_grant", "Code not valid", ErrorCode::OidcCodeRefused),
            ("invalid_scope", "", ErrorCode::OidcScopeRefused),
            ("temporarily_unavailable", "", ErrorCode::OidcProviderUnavailable),
            ("server_error", "", ErrorCode::OidcProviderUnavailable),
            ("something_new", "", ErrorCode::OidcTokenStatus),
        ] {
            assert_eq!(code(400, &body(error, words)), expected, "{error} {words}");
        }
        let suberror = json!({"error": "invalid_grant", "suberror": "consent_required"});
        assert_eq!(code(400, &suberror), ErrorCode::OidcConsentMissing);
        assert_eq!(code(400, &json!({"error": ["invalid_grant"]})), ErrorCode::OidcTokenStatus);
    }

    #[test]
    fn rule_6_a_secret_that_the_provider_repeats_is_masked() {
        let sent = [secret("hunter2hunter2"), secret("the-code")];
        let body = json!({"error": "bad the-code", "error_description": "secret hunter2hunter2 is invalid"})
            .to_string();
        let answer = HttpAnswer { status: 400, content_type: None, bytes: body.as_bytes() };
        let finding = parse_token_response(&answer, &[&sent[0], &sent[1]]).unwrap_err();
        let printed = format!("{finding:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("the-code"), "{printed}");
    }

    #[test]
    fn s3_a_secret_that_is_a_guid_looks_like_an_id() {
        let id = "0c9e8d7f-6b5a-4c3d-8e2f-1a0b9c8d7e6f";
        for text in [id.to_owned(), id.to_uppercase(), format!(" \"{id}\"\n")] {
            assert!(secret_looks_like_an_id(&text), "{text}");
        }
        for text in ["", "Ab38Q~xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &format!("{id}1"), &id.replace('-', "")]
        {
            assert!(!secret_looks_like_an_id(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn random_answers_never_panic(
            status in any::<u16>(), bytes in prop::collection::vec(any::<u8>(), 0..300),
            error in "\\PC{0,30}", words in "\\PC{0,60}",
        ) {
            let answer = HttpAnswer { status, content_type: None, bytes: &bytes };
            prop_assert!(parse_token_response(&answer, &[]).is_err());
            let body = json!({"error": error, "error_description": words, "error_codes": [1, "x", -1]}).to_string();
            let answer = HttpAnswer { status, content_type: None, bytes: body.as_bytes() };
            prop_assert!(parse_token_response(&answer, &[]).is_err());
        }
    }
}
