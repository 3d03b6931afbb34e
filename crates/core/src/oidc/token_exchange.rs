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
        Err(fault @ JsonFault::Doubled(_)) => return Err(malformed("answer", &fault.to_string())),
        Err(fault) => {
            return Err(malformed("answer", &fault.to_string())
                .with("content_type", answer.media_type().unwrap_or_default()));
        }
    };
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(_) => Err(malformed(name, "not a text")),
    };
    let token_type = text("token_type")?.ok_or_else(|| malformed("token_type", "missing"))?;
    if !token_type.eq_ignore_ascii_case("Bearer") {
        return Err(malformed("token_type", token_type));
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
    numbers.extend(
        aadsts_numbers(&words).into_iter().filter(|number| !numbers.contains(number)).collect::<Vec<_>>(),
    );
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
    if let Some((number, _)) = number {
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
