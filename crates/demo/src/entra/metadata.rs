//! Discovery: the metadata documents and key sets of each tenant, v2 and v1, and of the shared addresses.
//!
//! Out: documents shaped as Entra's, fields that it leaves out included (`code_challenge_methods_supported`).
//! Invariant: a tenant's document names the tenant by GUID however it was asked for. `entra.md` sections 1 and 2.

use super::Provider;
use super::aadsts::{Facts, Refusal};
use super::directory::{GLOBEX_TENANT, Tenant};
use super::keys::CONSUMERS_TENANT;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// What the first segment of a path can mean.
#[derive(Clone)]
pub(super) enum Address {
    /// One tenant.
    Tenant(Tenant),
    /// `common` or `organizations`: people of many tenants.
    Shared(&'static str),
    /// `consumers`: personal accounts.
    Consumers,
}

impl Address {
    /// Segment in the document's own addresses.
    fn segment(&self) -> &str {
        match self {
            Self::Tenant(tenant) => &tenant.id,
            Self::Shared(name) => name,
            Self::Consumers => CONSUMERS_TENANT,
        }
    }

    /// What stands in the issuer for the tenant. The shared documents keep the braces, literally.
    fn issuer_tenant(&self) -> &str {
        match self {
            Self::Shared(_) => "{tenantid}",
            other => other.segment(),
        }
    }
}

impl Provider {
    /// Reads the first segment of a path.
    pub(super) fn address(&self, segment: &str) -> Result<Address, Refusal> {
        match segment.to_ascii_lowercase().as_str() {
            "common" => return Ok(Address::Shared("common")),
            "organizations" => return Ok(Address::Shared("organizations")),
            "consumers" | CONSUMERS_TENANT => return Ok(Address::Consumers),
            _ => {}
        }
        self.directory().tenant(segment).cloned().map(Address::Tenant).ok_or_else(|| {
            self.refusal(90_002, &Facts { tenant: segment.chars().take(100).collect(), ..Facts::default() })
        })
    }

    /// The issuer of a tenant's v2 tokens.
    pub(super) fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base_url)
    }
}

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`
pub(super) async fn v2(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let address = match provider.address(&tenant) {
        Ok(address) => address,
        Err(refusal) => return not_found(&provider, &refusal),
    };
    let at = format!("{}/{}", provider.base_url, address.segment());
    let mut keys = format!("{at}/discovery/v2.0/keys");
    if let Some(client_id) = app_id(&query) {
        keys = format!(
            "{keys}?appid={}",
            form_urlencoded::byte_serialize(client_id.as_bytes()).collect::<String>()
        );
    }
    let region = if matches!(address, Address::Tenant(_)) { json!("EU") } else { Value::Null };
    document(json!({
        "token_endpoint": format!("{at}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported":
            ["client_secret_post", "private_key_jwt", "client_secret_basic", "self_signed_tls_client_auth"],
        "jwks_uri": keys,
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": provider.issuer(address.issuer_tenant()),
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": format!("{}/oidc/userinfo", provider.base_url),
        "authorization_endpoint": format!("{at}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{at}/oauth2/v2.0/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{at}/oauth2/v2.0/logout"),
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host",
            "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash",
            "c_hash", "email",
        ],
        "kerberos_endpoint": format!("{at}/kerberos"),
        "mtls_endpoint_aliases": {"token_endpoint": format!("{at}/oauth2/v2.0/token")},
        "tls_client_certificate_bound_access_tokens": true,
        "tenant_region_scope": region,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
        "rbac_url": "https://pas.windows.net",
    }))
}

/// `GET /{tenant}/.well-known/openid-configuration`
pub(super) async fn v1(State(provider): State<Arc<Provider>>, Path(tenant): Path<String>) -> Response {
    let address = match provider.address(&tenant) {
        Ok(address) => address,
        Err(refusal) => return not_found(&provider, &refusal),
    };
    let at = format!("{}/{}", provider.base_url, address.segment());
    document(json!({
        "token_endpoint": format!("{at}/oauth2/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{at}/discovery/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
        "scopes_supported": ["openid"],
        "issuer": format!("https://sts.windows.net/{}/", address.issuer_tenant()),
        "microsoft_multi_refresh_token": true,
        "authorization_endpoint": format!("{at}/oauth2/authorize"),
        "device_authorization_endpoint": format!("{at}/oauth2/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{at}/oauth2/logout"),
        "check_session_iframe": format!("{at}/oauth2/checksession"),
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host",
            "aud", "exp", "iat", "auth_time", "acr", "amr", "nonce", "email", "given_name", "family_name", "nickname",
        ],
        "userinfo_endpoint": format!("{at}/openid/userinfo"),
        "kerberos_endpoint": format!("{at}/kerberos"),
        "tenant_region_scope": "EU",
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
        "rbac_url": "https://pas.windows.net",
    }))
}

/// `GET /{tenant}/discovery/v2.0/keys`
pub(super) async fn keys_v2(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let address = match provider.address(&tenant) {
        Ok(address) => address,
        Err(refusal) => return not_found(&provider, &refusal),
    };
    let issuer = provider.issuer(address.issuer_tenant());
    if app_id(&query).is_some() {
        return document(provider.keys().set_of_application(&issuer));
    }
    let foreign = match &address {
        Address::Tenant(tenant) if tenant.id == GLOBEX_TENANT => provider.issuer(CONSUMERS_TENANT),
        _ => provider.issuer(GLOBEX_TENANT),
    };
    document(provider.keys().set(&issuer, &foreign))
}

/// `GET /{tenant}/discovery/keys`
pub(super) async fn keys_v1(State(provider): State<Arc<Provider>>, Path(tenant): Path<String>) -> Response {
    match provider.address(&tenant) {
        Ok(_) => document(provider.keys().set_v1()),
        Err(refusal) => not_found(&provider, &refusal),
    }
}

fn app_id(query: &HashMap<String, String>) -> Option<&str> {
    query.get("appid").map(String::as_str).filter(|id| !id.is_empty())
}

fn document(value: Value) -> Response {
    ([(CACHE_CONTROL, "max-age=86400, private"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(value))
        .into_response()
}

fn not_found(provider: &Provider, refusal: &Refusal) -> Response {
    (StatusCode::BAD_REQUEST, Json(refusal.to_json(&provider.base_url))).into_response()
}
