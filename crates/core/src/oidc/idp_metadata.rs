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

impl Metadata {
    /// Whether a newer document may be used silently in this one's place: same issuer, tenant and endpoint hosts
    /// (conformance.md D7).
    pub fn is_same_provider(&self, newer: &Self) -> bool {
        self.issuer == newer.issuer
            && self.entra_tenant == newer.entra_tenant
            && self.endpoint_origins() == newer.endpoint_origins()
    }

    /// Scheme, host and port of each endpoint, as `https://host:port`; `None` for one that is not offered.
    fn endpoint_origins(&self) -> Vec<Option<String>> {
        [
            Some(&self.authorization_endpoint),
            Some(&self.token_endpoint),
            Some(&self.jwks_uri),
            self.userinfo_endpoint.as_ref(),
        ]
        .into_iter()
        .map(|url| url.map(|url| url.origin().ascii_serialization()))
        .collect()
    }
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
    let document = parse_object(answer.bytes, LIMITS).map_err(|fault| match fault {
        JsonFault::Doubled(_) => finding(ErrorCode::OidcMetadataWrong).with("found", fault),
        _ => finding(ErrorCode::OidcMetadataNotJson)
            .with("found", fault)
            .with("content_type", answer.media_type().unwrap_or_default()),
    })?;

    let issuer = text(&document, "issuer")?.ok_or_else(|| incomplete("issuer"))?;
    let is_shaped_like_entra = document.get("cloud_instance_name").is_some_and(Value::is_string);
    let tenant = tenant_in_path(issuer)
        .filter(|_| input.expected_issuer.is_entra() || (is_shaped_like_entra && issuer.ends_with("/v2.0")));
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
        None => false,
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

/// A member that is a text if it is there.
fn text<'d>(document: &'d Map<String, Value>, name: &str) -> Result<Option<&'d str>, Finding> {
    match document.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "not a text")),
    }
}

/// A member that is a list of texts if it is there.
fn texts<'d>(document: &'d Map<String, Value>, name: &str) -> Result<Option<Vec<&'d str>>, Finding> {
    let Some(value) = document.get(name) else { return Ok(None) };
    value
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
        .map(Some)
        .ok_or_else(|| wrong(name, "not a list of texts"))
}
