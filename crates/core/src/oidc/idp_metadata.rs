//! The provider's metadata document: bytes → `Metadata`, or the finding that explains what is wrong with it.
//!
//! In: the answer at `IssuerInput::metadata_url`. Out: issuer, endpoints, algorithms. Never here: fetching, caching.
//! What we don't need may be absent (a hint says what was assumed); what is there and wrong blocks.
//! OpenID Connect Discovery 1.0 sections 3 and 4.3, RFC 8414 section 3.3, RFC 9207 (conformance.md D1 to D7).

use crate::connection::ClientAuthMethod;
use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step};
use crate::idp_quirks::{PERSONAL_TENANT, TENANT_PLACEHOLDER, aadsts_numbers, help_for_aadsts};
use crate::oidc::http_answer::{HttpAnswer, MAX_URL, judge_endpoint};
use crate::oidc::issuer_input::{IssuerInput, guid};
use crate::oidc::signing_keys::SignatureAlgorithm;
use crate::oidc::strict_json::{JsonFault, Limits, parse_object};
use serde_json::{Map, Value};
use url::Url;

const LIMITS: Limits = Limits { bytes: 256 * 1024, depth: 16 };

/// What is used of a provider's metadata, all of it checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// The issuer in the document's own spelling; from here on compared octet by octet.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorization_endpoint: Url,
    /// Where the code is redeemed.
    pub token_endpoint: Url,
    /// Where further claims are, if the provider offers that.
    pub userinfo_endpoint: Option<Url>,
    /// Where the signing keys are.
    pub jwks_uri: Url,
    /// Where a browser signs out of the provider, if it offers that.
    pub end_session_endpoint: Option<Url>,
    /// The ways of authenticating at the token endpoint that both sides know. Never empty unless the document lists
    /// only others; an absent list means Basic.
    pub auth_methods: Vec<ClientAuthMethod>,
    /// Our signature algorithms that the document lists; never empty (conformance.md D5).
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Whether every authorization response names its issuer (RFC 9207 section 3).
    pub iss_parameter_promised: bool,
    /// The tenant's GUID, if the provider is Entra or shaped like it (decisions.md).
    pub entra_tenant: Option<String>,
    /// What was assumed because the document does not say it.
    pub hints: Vec<Finding>,
}

/// How to authenticate at the token endpoint: what the admin chose; else for Entra by post (which it lists first),
/// else Basic if it is offered or nothing is said, else post.
pub fn choose_auth_method(metadata: &Metadata, chosen: Option<ClientAuthMethod>) -> ClientAuthMethod {
    let offers = |method| metadata.auth_methods.contains(&method);
    match chosen {
        Some(method) => method,
        None if metadata.entra_tenant.is_some() => ClientAuthMethod::Post,
        None if offers(ClientAuthMethod::Basic) => ClientAuthMethod::Basic,
        None => ClientAuthMethod::Post,
    }
}

/// Reads the answer at the metadata URL.
///
/// `insecure_allowed(host, port)` says whether the operator lets plain http reach it. Every endpoint is judged like an
/// address that an admin typed, because the document is no more trustworthy than he is (rule 5).
pub fn parse_metadata(
    answer: &HttpAnswer<'_>,
    input: &IssuerInput,
    insecure_allowed: impl Fn(&str, u16) -> bool,
) -> Result<Metadata, Finding> {
    if answer.status != 200 {
        return Err(explain_status(answer));
    }
    // A page that happens to be JSON is no metadata document (conformance.md D6); a missing type is forgiven.
    if answer.content_type.is_some() && !answer.says_json() {
        let found = answer.media_type().unwrap_or_default();
        return Err(finding(ErrorCode::OidcMetadataNotJson).with("content_type", found));
    }
    let document = parse_object(answer.bytes, LIMITS).map_err(|fault| match fault {
        JsonFault::Doubled(_) => finding(ErrorCode::OidcMetadataWrong).with("found", fault),
        _ => finding(ErrorCode::OidcMetadataNotJson)
            .with("found", fault)
            .with("content_type", answer.media_type().unwrap_or_default()),
    })?;

    let issuer = text(&document, "issuer")?.ok_or_else(|| incomplete("issuer"))?;
    let is_shaped_like_entra = document.get("cloud_instance_name").is_some_and(Value::is_string);
    let tenant = tenant_in_path(issuer).filter(|_| input.expected_issuer.is_entra() || is_shaped_like_entra);
    if issuer.contains(TENANT_PLACEHOLDER) || tenant.as_deref() == Some(PERSONAL_TENANT) {
        return Err(finding(ErrorCode::SettingsIssuerMultiTenant).with("found", issuer));
    }
    if !input.expected_issuer.accepts(issuer) {
        return Err(finding(ErrorCode::OidcIssuerMismatch)
            .with("expected", input.expected_issuer.describe())
            .with("found", issuer));
    }
    endpoint("issuer", issuer, &insecure_allowed)?;

    let needed = |name: &str| {
        let url = text(&document, name)?.ok_or_else(|| incomplete(name))?;
        endpoint(name, url, &insecure_allowed)
    };
    let optional =
        |name: &str| text(&document, name)?.map(|url| endpoint(name, url, &insecure_allowed)).transpose();
    let authorization_endpoint = needed("authorization_endpoint")?;
    let token_endpoint = needed("token_endpoint")?;
    let jwks_uri = needed("jwks_uri")?;
    let userinfo_endpoint = optional("userinfo_endpoint")?;
    let end_session_endpoint = optional("end_session_endpoint")?;

    let mut hints = Vec::new();
    let mut assume = |name: &str, value: &str| {
        hints.push(finding(ErrorCode::OidcMetadataAssumed).with("field", name).with("assumed", value));
    };
    match texts(&document, "response_types_supported")? {
        None => assume("response_types_supported", "code"),
        Some(types) if types.contains(&"code") => {}
        Some(types) => {
            return Err(finding(ErrorCode::OidcCodeFlowUnsupported).with("found", types.join(", ")));
        }
    }
    // Absent means that the code flow is allowed (Discovery section 3, grant_types_supported).
    if let Some(types) = texts(&document, "grant_types_supported")?
        && !types.contains(&"authorization_code")
    {
        return Err(finding(ErrorCode::OidcCodeFlowUnsupported).with("found", types.join(", ")));
    }
    texts(&document, "subject_types_supported")?;
    let algorithms = match texts(&document, "id_token_signing_alg_values_supported")? {
        None => {
            assume("id_token_signing_alg_values_supported", "RS256");
            vec![SignatureAlgorithm::Rs256]
        }
        Some(names) => {
            let ours: Vec<_> = SignatureAlgorithm::ALL
                .into_iter()
                .filter(|algorithm| {
                    names.iter().any(|name| SignatureAlgorithm::from_name(name) == Some(*algorithm))
                })
                .collect();
            if ours.is_empty() {
                return Err(finding(ErrorCode::OidcAlgorithmUnsupported).with("found", names.join(", ")));
            }
            ours
        }
    };
    // Entra takes S256 and never says so; for others a missing promise is worth a line (conformance.md B4).
    let challenge_methods = texts(&document, "code_challenge_methods_supported")?;
    if tenant.is_none() && !challenge_methods.is_some_and(|methods| methods.contains(&"S256")) {
        assume("code_challenge_methods_supported", "S256");
    }
    let auth_methods = texts(&document, "token_endpoint_auth_methods_supported")?.map_or_else(
        || vec![ClientAuthMethod::Basic],
        |names| names.into_iter().filter_map(ClientAuthMethod::from_text).collect(),
    );
    let iss_parameter_promised = match document.get("authorization_response_iss_parameter_supported") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(promised)) => *promised,
        Some(_) => return Err(wrong("authorization_response_iss_parameter_supported", "not true or false")),
    };

    Ok(Metadata {
        issuer: issuer.to_owned(),
        authorization_endpoint,
        token_endpoint,
        userinfo_endpoint,
        jwks_uri,
        end_session_endpoint,
        auth_methods,
        algorithms,
        iss_parameter_promised,
        entra_tenant: tenant,
        hints,
    })
}

/// An answer other than 200: Entra says so when it does not know the tenant.
fn explain_status(answer: &HttpAnswer<'_>) -> Finding {
    let words = parse_object(answer.bytes, LIMITS)
        .ok()
        .and_then(|document| document.get("error_description").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default();
    let code = match help_for_aadsts(&aadsts_numbers(&words)) {
        Some((_, ErrorCode::OidcTenantUnknown)) => ErrorCode::OidcTenantUnknown,
        _ if answer.is_unavailable() => ErrorCode::OidcProviderUnavailable,
        _ => ErrorCode::OidcMetadataStatus,
    };
    finding(code).with("status", answer.status).with_provider_words(&words)
}

/// The GUID in an issuer's path `/{guid}/v2.0`.
fn tenant_in_path(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok()?;
    let tenant = url.path().strip_prefix('/')?.strip_suffix("/v2.0")?;
    guid(tenant)
}

fn endpoint(name: &str, url: &str, insecure_allowed: &impl Fn(&str, u16) -> bool) -> Result<Url, Finding> {
    if url.len() > MAX_URL {
        return Err(wrong(name, "longer than 2048 characters"));
    }
    let parsed = Url::parse(url).map_err(|_| wrong(name, "not an absolute URL").with("value", url))?;
    judge_endpoint(&parsed, insecure_allowed)
        .map_err(|fault| wrong(name, fault.as_str()).with("value", url))?;
    Ok(parsed)
}

fn finding(code: ErrorCode) -> Finding {
    Finding::new(Step::Discovery, code)
}

fn incomplete(field: &str) -> Finding {
    finding(ErrorCode::OidcMetadataIncomplete).with("field", field)
}

fn wrong(field: &str, found: &str) -> Finding {
    finding(ErrorCode::OidcMetadataWrong).with("field", field).with("found", found)
}

/// A member that is a text if it is there. Some providers write null for what they don't offer.
fn text<'d>(document: &'d Map<String, Value>, name: &str) -> Result<Option<&'d str>, Finding> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "not a text")),
    }
}

/// A member that is a list of texts if it is there.
fn texts<'d>(document: &'d Map<String, Value>, name: &str) -> Result<Option<Vec<&'d str>>, Finding> {
    let Some(value) = document.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    value
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
        .map(Some)
        .ok_or_else(|| wrong(name, "not a list of texts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::issuer_input::parse_issuer_input;
    use proptest::prelude::*;
    use serde_json::json;

    const ISSUER: &str = "https://idp.example/realms/acme";
    const TENANT: &str = "3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10";
    const LOOPBACK: &str = "http://127.0.0.1:9400/3f1c2b7a-6d54-4e0b-9a21-7c0de5a81f10/v2.0";

    fn loopback_allowed(host: &str, port: u16) -> bool {
        host == "127.0.0.1" && port == 9400
    }

    fn read_at(typed: &str, document: &Value) -> Result<Metadata, Finding> {
        let input = parse_issuer_input(typed, loopback_allowed).unwrap();
        parse_metadata(&HttpAnswer::json(document.to_string().as_bytes()), &input, loopback_allowed)
    }

    fn good() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://idp.example/authorize?audience=7",
            "token_endpoint": "https://idp.example/token",
            "userinfo_endpoint": "https://idp.example/userinfo",
            "jwks_uri": "https://keys.example/jwks",
            "end_session_endpoint": "https://idp.example/logout",
            "response_types_supported": ["none", "code token", "code", "id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["none", "HS256", "ES256", "RS256", "ES256K", "EdDSA"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// Entra's document (entra.md section 1).
    fn entra(base: &str) -> Value {
        json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported":
                ["client_secret_post", "private_key_jwt", "client_secret_basic", "self_signed_tls_client_auth"],
            "cloud_instance_name": "microsoftonline.com",
            "tenant_region_scope": null,
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut document = good();
        document[name] = value;
        document
    }

    fn without(name: &str) -> Value {
        let mut document = good();
        document.as_object_mut().unwrap().remove(name);
        document
    }

    fn read(document: &Value) -> Result<Metadata, Finding> {
        read_at(ISSUER, document)
    }

    fn code(document: &Value) -> ErrorCode {
        read(document).expect_err(&document.to_string()).code
    }

    fn hinted(metadata: &Metadata) -> Vec<&str> {
        metadata.hints.iter().map(|hint| hint.values[0].1.as_str()).collect()
    }

    #[test]
    fn a_good_document_gives_what_a_sign_in_needs() {
        let metadata = read(&good()).unwrap();
        assert_eq!(metadata.issuer, ISSUER);
        assert_eq!(metadata.authorization_endpoint.as_str(), "https://idp.example/authorize?audience=7");
        assert_eq!(metadata.jwks_uri.as_str(), "https://keys.example/jwks");
        assert!(metadata.userinfo_endpoint.is_some() && metadata.end_session_endpoint.is_some());
        assert_eq!(
            metadata.algorithms,
            [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256, SignatureAlgorithm::Ed25519]
        );
        assert!(metadata.iss_parameter_promised);
        assert_eq!(metadata.entra_tenant, None);
        assert!(metadata.hints.is_empty(), "{:?}", metadata.hints);
    }

    #[test]
    fn d1_the_document_names_the_issuer_whose_url_it_came_from() {
        for other in [
            format!("{ISSUER}1"),
            format!("{ISSUER}INVALID"),
            "https://evil.example".to_owned(),
            ISSUER.to_uppercase(),
        ] {
            let finding = read(&with("issuer", json!(other))).unwrap_err();
            assert_eq!(finding.code, ErrorCode::OidcIssuerMismatch, "{other}");
            assert_eq!(finding.values[0], ("expected".to_owned(), ISSUER.to_owned()));
            assert_eq!(finding.values[1], ("found".to_owned(), other));
        }
        assert_eq!(code(&without("issuer")), ErrorCode::OidcMetadataIncomplete);
    }

    #[test]
    fn d1_a_final_slash_of_the_document_is_kept_for_the_token() {
        let slashed = format!("{ISSUER}/");
        assert_eq!(read(&with("issuer", json!(slashed))).unwrap().issuer, slashed);
        assert_eq!(code(&with("issuer", json!(format!("{ISSUER}//")))), ErrorCode::OidcIssuerMismatch);
    }

    #[test]
    fn d2_an_endpoint_that_is_needed_is_there() {
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            for document in [without(name), with(name, Value::Null)] {
                let finding = read(&document).unwrap_err();
                assert_eq!(finding.code, ErrorCode::OidcMetadataIncomplete, "{name}");
                assert_eq!(finding.values[0].1, name);
            }
        }
    }

    #[test]
    fn d2_what_is_there_is_of_the_right_kind() {
        for name in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
            for wrong in [json!(1), json!(["https://idp.example/x"]), json!({}), json!(true)] {
                assert_eq!(code(&with(name, wrong.clone())), ErrorCode::OidcMetadataWrong, "{name} {wrong}");
            }
        }
        for name in [
            "response_types_supported",
            "grant_types_supported",
            "subject_types_supported",
            "id_token_signing_alg_values_supported",
            "token_endpoint_auth_methods_supported",
            "code_challenge_methods_supported",
        ] {
            for wrong in [json!("code"), json!([1]), json!({}), json!(true)] {
                assert_eq!(code(&with(name, wrong.clone())), ErrorCode::OidcMetadataWrong, "{name} {wrong}");
            }
        }
        for wrong in [json!("true"), json!(1)] {
            let document = with("authorization_response_iss_parameter_supported", wrong);
            assert_eq!(code(&document), ErrorCode::OidcMetadataWrong);
        }
    }

    #[test]
    fn d3_every_endpoint_is_judged_like_an_entered_url() {
        for name in [
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "userinfo_endpoint",
            "end_session_endpoint",
        ] {
            for wrong in [
                "http://idp.example/x",
                "https://user@idp.example/x",
                "https://idp.example/x#y",
                "/x",
                "",
                "ftp://idp.example/x",
                "javascript:alert(1)",
                "https://",
                "http://127.0.0.1:9401/x",
            ] {
                let finding = read(&with(name, json!(wrong))).expect_err(wrong);
                assert_eq!(finding.code, ErrorCode::OidcMetadataWrong, "{name} {wrong}");
                assert_eq!(finding.values[0].1, name);
            }
            let long = format!("https://idp.example/{}", "a".repeat(2048));
            assert_eq!(code(&with(name, json!(long))), ErrorCode::OidcMetadataWrong);
            assert!(
                read(&with(name, json!("http://127.0.0.1:9400/x"))).is_ok(),
                "the operator allows this one"
            );
        }
    }

    #[test]
    fn d2_the_code_flow_is_offered_or_nothing_is_said() {
        assert_eq!(
            code(&with("response_types_supported", json!(["id_token", "code token"]))),
            ErrorCode::OidcCodeFlowUnsupported
        );
        assert_eq!(code(&with("response_types_supported", json!([]))), ErrorCode::OidcCodeFlowUnsupported);
        assert_eq!(
            code(&with("grant_types_supported", json!(["implicit"]))),
            ErrorCode::OidcCodeFlowUnsupported
        );
        assert!(read(&with("grant_types_supported", json!(["authorization_code"]))).is_ok());
        let metadata = read(&without("response_types_supported")).unwrap();
        assert_eq!(hinted(&metadata), ["response_types_supported"]);
    }

    #[test]
    fn d5_algorithms_are_ours_and_theirs() {
        for none_of_ours in [json!([]), json!(["none"]), json!(["HS256", "ES512", "rs256"])] {
            let document = with("id_token_signing_alg_values_supported", none_of_ours);
            assert_eq!(code(&document), ErrorCode::OidcAlgorithmUnsupported);
        }
        let metadata = read(&without("id_token_signing_alg_values_supported")).unwrap();
        assert_eq!(metadata.algorithms, [SignatureAlgorithm::Rs256]);
        assert_eq!(hinted(&metadata), ["id_token_signing_alg_values_supported"]);
    }

    #[test]
    fn b4_pkce_that_is_not_announced_is_a_hint_and_for_entra_not_even_that() {
        for document in [
            without("code_challenge_methods_supported"),
            with("code_challenge_methods_supported", json!(["plain"])),
        ] {
            assert_eq!(hinted(&read(&document).unwrap()), ["code_challenge_methods_supported"]);
        }
        let base = format!("https://login.microsoftonline.com/{TENANT}");
        assert!(read_at(TENANT, &entra(&base)).unwrap().hints.is_empty());
    }

    #[test]
    fn d4_basic_is_used_if_nothing_is_said_or_it_is_offered_and_post_otherwise() {
        let choose = |methods: Value, chosen| {
            let document = with("token_endpoint_auth_methods_supported", methods);
            choose_auth_method(&read(&document).unwrap(), chosen)
        };
        assert_eq!(choose(Value::Null, None), ClientAuthMethod::Basic);
        assert_eq!(
            choose(json!(["client_secret_post", "client_secret_basic"]), None),
            ClientAuthMethod::Basic
        );
        assert_eq!(choose(json!(["client_secret_post"]), None), ClientAuthMethod::Post);
        assert_eq!(choose(json!(["private_key_jwt"]), None), ClientAuthMethod::Post);
        assert_eq!(
            choose(json!(["client_secret_basic"]), Some(ClientAuthMethod::Post)),
            ClientAuthMethod::Post,
            "the admin's word counts"
        );
        let absent = without("token_endpoint_auth_methods_supported");
        assert_eq!(choose_auth_method(&read(&absent).unwrap(), None), ClientAuthMethod::Basic);
        let base = format!("https://login.microsoftonline.com/{TENANT}");
        let entra = read_at(TENANT, &entra(&base)).unwrap();
        assert_eq!(choose_auth_method(&entra, None), ClientAuthMethod::Post);
        assert_eq!(choose_auth_method(&entra, Some(ClientAuthMethod::Basic)), ClientAuthMethod::Basic);
    }

    #[test]
    fn d6_only_one_json_object_of_bounded_size_and_depth_is_read() {
        let input = parse_issuer_input(ISSUER, loopback_allowed).unwrap();
        let code = |bytes: &[u8]| {
            parse_metadata(&HttpAnswer::json(bytes), &input, loopback_allowed).unwrap_err().code
        };
        assert_eq!(code(b"<!doctype html>"), ErrorCode::OidcMetadataNotJson);
        assert_eq!(code(b"[]"), ErrorCode::OidcMetadataNotJson);
        assert_eq!(code(b""), ErrorCode::OidcMetadataNotJson);
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(read(&with("x", deep(15))).is_ok());
        assert_eq!(code(with("x", deep(16)).to_string().as_bytes()), ErrorCode::OidcMetadataNotJson);
        let large = with("x", json!("x".repeat(256 * 1024))).to_string();
        assert_eq!(code(large.as_bytes()), ErrorCode::OidcMetadataNotJson);
        let doubled = good().to_string().replacen('{', r#"{"issuer":"https://evil.example","#, 1);
        assert_eq!(code(doubled.as_bytes()), ErrorCode::OidcMetadataWrong);
    }

    #[test]
    fn another_status_is_explained_and_an_unknown_tenant_by_name() {
        let input = parse_issuer_input(ISSUER, loopback_allowed).unwrap();
        let finding = |status, bytes: &[u8]| {
            parse_metadata(&HttpAnswer { status, content_type: None, bytes }, &input, loopback_allowed)
                .unwrap_err()
        };
        let unknown =
            json!({"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant 'x' not found."});
        let found = finding(400, unknown.to_string().as_bytes());
        assert_eq!(found.code, ErrorCode::OidcTenantUnknown);
        assert_eq!(found.provider_words.as_deref(), Some("AADSTS90002: Tenant 'x' not found."));
        assert_eq!(finding(404, b"nothing").code, ErrorCode::OidcMetadataStatus);
        assert_eq!(finding(301, good().to_string().as_bytes()).code, ErrorCode::OidcMetadataStatus);
        assert_eq!(finding(503, b"").code, ErrorCode::OidcProviderUnavailable);
    }

    #[test]
    fn entra_is_recognised_by_its_host_and_its_shape() {
        let base = format!("https://login.microsoftonline.com/{TENANT}");
        for typed in [TENANT, "fjordline.example"] {
            assert_eq!(read_at(typed, &entra(&base)).unwrap().entra_tenant.as_deref(), Some(TENANT));
        }
        let local = entra(&format!("http://127.0.0.1:9400/{TENANT}"));
        assert_eq!(read_at(LOOPBACK, &local).unwrap().entra_tenant.as_deref(), Some(TENANT));
        let mut plain = local;
        plain.as_object_mut().unwrap().remove("cloud_instance_name");
        assert_eq!(read_at(LOOPBACK, &plain).unwrap().entra_tenant, None, "the path alone is not enough");
        let other_shape = with("cloud_instance_name", json!("microsoftonline.com"));
        assert_eq!(read(&other_shape).unwrap().entra_tenant, None, "nor is the name alone");
    }

    #[test]
    fn d1_metadata_for_many_organizations_is_refused() {
        let local = |tenant: &str| entra(&format!("http://127.0.0.1:9400/{tenant}"));
        for (typed, document) in [
            ("http://127.0.0.1:9400/common/v2.0", local("{tenantid}")),
            ("http://127.0.0.1:9400/organizations/v2.0", local("{tenantid}")),
            ("http://127.0.0.1:9400/consumers/v2.0", local(PERSONAL_TENANT)),
            (LOOPBACK, local("{tenantid}")),
            ("fjordline.example", entra("https://login.microsoftonline.com/{tenantid}")),
            ("fjordline.example", entra(&format!("https://login.microsoftonline.com/{PERSONAL_TENANT}"))),
        ] {
            let code = read_at(typed, &document).unwrap_err().code;
            assert_eq!(code, ErrorCode::SettingsIssuerMultiTenant, "{typed}");
        }
    }

    #[test]
    fn d1_another_tenant_or_cloud_than_typed_is_refused() {
        let other = TENANT.replace("f10", "f11");
        for base in [
            format!("https://login.microsoftonline.com/{other}"),
            format!("https://login.microsoftonline.us/{TENANT}"),
            format!("https://login.evil.example/{TENANT}"),
        ] {
            assert_eq!(
                read_at(TENANT, &entra(&base)).unwrap_err().code,
                ErrorCode::OidcIssuerMismatch,
                "{base}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_documents_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), status in any::<u16>(),
            name in prop::sample::select(vec!["issuer", "token_endpoint", "jwks_uri", "userinfo_endpoint"]),
            value in "(https?://)?\\PC{0,40}",
        ) {
            let input = parse_issuer_input(ISSUER, loopback_allowed).unwrap();
            let answer = HttpAnswer { status, content_type: None, bytes: &bytes };
            prop_assert!(parse_metadata(&answer, &input, loopback_allowed).is_err());
            if let Ok(metadata) = read(&with(name, json!(value))) {
                prop_assert!(metadata.token_endpoint.scheme() == "https" || metadata.token_endpoint.port() == Some(9400));
            }
        }
    }
}
