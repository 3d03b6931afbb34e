//! The token endpoint, and UserInfo.
//!
//! In: a form, client credentials in it or in the header. Out: tokens, or an error as Entra words it.
//! Order of checks (Entra does not document its own): parameters, application, credential, code. Invariant: a code
//! gives tokens once, and a wrong verifier burns it. `entra.md` section 4.

use super::Provider;
use super::aadsts::{Facts, Refusal};
use super::directory::{AccessToken, App, Grant, Person, Platform, Tenant};
use super::fault::{Fault, TokenFault};
use super::metadata::Address;
use super::{Parameters, id_token};
use crate::random;
use aws_lc_rs::digest;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Who calls, as far as the request says.
#[derive(Default)]
struct Caller {
    client_id: String,
    secret: Option<String>,
}

/// What a successful exchange puts into the answer.
struct Exchange {
    app: App,
    tenant: Tenant,
    person: Person,
    grant: Grant,
}

/// `POST /{tenant}/oauth2/v2.0/token`
pub(super) async fn token(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_form = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let parameters = Parameters::parse(if is_form { &body } else { &[] });
    match forced_fault(&provider, &tenant, &headers, &parameters) {
        Some(Fault::Token(code)) => {
            let client_id = parameters.get("client_id").unwrap_or_default().to_owned();
            return refused(
                &provider,
                &provider.refusal(code, &Facts { client_id, tenant, ..Facts::default() }),
            );
        }
        Some(Fault::TokenUnavailable) => return unavailable(),
        Some(Fault::TokenNotJson) => return "OK\n".into_response(),
        Some(Fault::TokenSlow) => tokio::time::sleep(provider.slow_answer).await,
        _ => {}
    }
    answer(&provider, &tenant, &headers, &parameters).unwrap_or_else(|refusal| refused(&provider, &refusal))
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "Our services aren't available right now.\n").into_response()
}

fn answer(
    provider: &Provider,
    tenant: &str,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Response, Refusal> {
    let missing =
        |name: &str| provider.refusal(900_144, &Facts { detail: name.to_owned(), ..Facts::default() });
    let Address::Tenant(tenant) = provider.address(tenant)? else {
        let facts = Facts { tenant: tenant.to_owned(), ..Facts::default() };
        return Err(provider.refusal(50_194, &facts));
    };
    let grant_type = parameters.get("grant_type").ok_or_else(|| missing("grant_type"))?;
    let caller = caller(headers, parameters).ok_or_else(|| provider.refusal(9_002_313, &Facts::default()))?;
    if caller.client_id.is_empty() {
        return Err(missing("client_id"));
    }
    let facts = Facts {
        client_id: caller.client_id.clone(),
        tenant: tenant.name.clone(),
        redirect_uri: parameters.get("redirect_uri").unwrap_or_default().to_owned(),
        detail: grant_type.to_owned(),
        ..Facts::default()
    };
    let refuse = |code: u32| provider.refusal(code, &facts);

    let mut directory = provider.directory();
    let app = directory.app(&tenant.id, &caller.client_id).cloned().ok_or_else(|| refuse(700_016))?;
    if !app.enabled {
        return Err(refuse(7_000_112));
    }
    if grant_type == "client_credentials" {
        let secret = caller.secret.as_deref().ok_or_else(|| refuse(7_000_216))?;
        check_secret(&app, secret, provider.clock.now()).map_err(refuse)?;
        return Ok(tokens(json!({
            "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": random::opaque(),
        })));
    }
    if grant_type != "authorization_code" {
        return Err(refuse(70_003));
    }
    let code = parameters.get("code").ok_or_else(|| missing("code"))?;
    let grant = directory.grants.get(code).cloned();
    let platform = grant.as_ref().map_or(Platform::Web, |grant| grant.platform);
    let cross_origin = headers.contains_key(ORIGIN);
    match (platform, &caller.secret) {
        (Platform::Web, _) if cross_origin => return Err(refuse(9_002_326)),
        (Platform::Web, None) => return Err(refuse(7_000_218)),
        (Platform::Web, Some(secret)) => check_secret(&app, secret, provider.clock.now()).map_err(refuse)?,
        (Platform::Native, Some(_)) => return Err(refuse(700_025)),
        (Platform::Native, None) => {}
        (Platform::SinglePage, _) => {
            if grant.as_ref().is_some_and(|grant| grant.challenge.is_none()) {
                return Err(refuse(9_002_325));
            }
            if !cross_origin {
                return Err(refuse(9_002_327));
            }
        }
    }

    let grant = grant.ok_or_else(|| refuse(70_000))?;
    check_grant(&grant, &app, &tenant, parameters, provider.clock.now()).map_err(refuse)?;
    let stored = directory.grants.get_mut(code).ok_or_else(|| refuse(70_000))?;
    // From here on the code is gone, whatever the verifier says.
    stored.spent = true;
    if !verifier_fits(&grant, parameters.get("code_verifier")) {
        return Err(refuse(501_481));
    }
    let person =
        directory.person(&grant.oid).map(|(_, person)| person.clone()).ok_or_else(|| refuse(70_000))?;
    let fault = directory
        .app_mut(&tenant.id, &caller.client_id)
        .and_then(|app| app.take_fault(|fault| matches!(fault, Fault::IdToken(_) | Fault::NoIdToken)));
    let access_token = random::opaque();
    directory.access_tokens.insert(
        access_token.clone(),
        AccessToken {
            client_id: app.client_id.clone(),
            oid: person.oid.clone(),
            with_email: grant.scopes.iter().any(|scope| scope == "email"),
            expires_at: provider.clock.now().saturating_add(3_600),
        },
    );
    drop(directory);
    let exchange = Exchange { app, tenant, person, grant };
    Ok(success(provider, &exchange, &access_token, fault).unwrap_or_else(unavailable))
}

/// The application's fault that acts before anything of the request is looked at.
fn forced_fault(
    provider: &Provider,
    tenant: &str,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Option<Fault> {
    let client_id = caller(headers, parameters)?.client_id;
    let Ok(Address::Tenant(tenant)) = provider.address(tenant) else { return None };
    provider.directory().app_mut(&tenant.id, &client_id)?.take_fault(|fault| {
        matches!(fault, Fault::Token(_) | Fault::TokenUnavailable | Fault::TokenNotJson | Fault::TokenSlow)
    })
}

/// The client's identifier and secret, from the header (RFC 6749 section 2.3.1) or the form. None for garbage.
fn caller(headers: &HeaderMap, parameters: &Parameters) -> Option<Caller> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Some(Caller {
            client_id: parameters.get("client_id").unwrap_or_default().to_owned(),
            secret: parameters.get("client_secret").map(str::to_owned),
        });
    };
    let basic = header.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(basic.trim()).ok()?).ok()?;
    let (client_id, secret) = text.split_once(':')?;
    Some(Caller { client_id: form_decoded(client_id), secret: Some(form_decoded(secret)) })
}

fn form_decoded(text: &str) -> String {
    // The other way round of form encoding; a bare value is a name without a value.
    let plain = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(plain.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

fn check_secret(app: &App, sent: &str, now: i64) -> Result<(), u32> {
    let matching: Vec<_> = app.secrets.iter().filter(|secret| secret.value == sent).collect();
    match (matching.is_empty(), matching.iter().any(|secret| secret.expires_at > now)) {
        (true, _) => Err(7_000_215),
        (false, false) => Err(7_000_222),
        (false, true) => Ok(()),
    }
}

fn check_grant(
    grant: &Grant,
    app: &App,
    tenant: &Tenant,
    parameters: &Parameters,
    now: i64,
) -> Result<(), u32> {
    if grant.client_id != app.client_id {
        return Err(7_000_110);
    }
    if grant.tenant_id != tenant.id {
        return Err(700_005);
    }
    if grant.spent {
        return Err(54_005);
    }
    if grant.expired(now) {
        return Err(70_008);
    }
    if parameters.get("redirect_uri") != Some(grant.redirect_uri.as_str()) {
        return Err(500_112);
    }
    Ok(())
}

/// Proof Key for Code Exchange (RFC 7636): mandatory as soon as a challenge was sent.
fn verifier_fits(grant: &Grant, verifier: Option<&str>) -> bool {
    match (&grant.challenge, verifier) {
        (None, None) => true,
        (Some((challenge, true)), Some(verifier)) => {
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes())) == *challenge
        }
        (Some((challenge, false)), Some(verifier)) => challenge == verifier,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn success(
    provider: &Provider,
    exchange: &Exchange,
    access_token: &str,
    fault: Option<Fault>,
) -> Option<Response> {
    let Exchange { app, tenant, person, grant } = exchange;
    let mut body = json!({
        "token_type": "Bearer",
        "scope": grant.scopes.join(" "),
        "expires_in": 4512,
        "ext_expires_in": 4512,
        "access_token": access_token,
    });
    if fault != Some(Fault::NoIdToken) {
        let spoiled: Option<TokenFault> = match fault {
            Some(Fault::IdToken(fault)) => Some(fault),
            _ => None,
        };
        let id_token = id_token::make(provider, app, tenant, person, grant, spoiled).ok()?;
        body.as_object_mut()?.insert("id_token".to_owned(), id_token.into());
    }
    Some(tokens(body))
}

fn tokens(body: serde_json::Value) -> Response {
    ([(CACHE_CONTROL, "no-store, no-cache")], Json(body)).into_response()
}

fn refused(provider: &Provider, refusal: &Refusal) -> Response {
    let body = Json(refusal.to_json(&provider.base_url));
    let mut response = (refusal.status(), [(CACHE_CONTROL, "no-store, no-cache")], body).into_response();
    if refusal.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// `GET` or `POST /oidc/userinfo`: Entra's short list, which Graph serves there.
pub(super) async fn userinfo(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let directory = provider.directory();
    let found = token
        .and_then(|token| directory.access_tokens.get(token))
        .filter(|token| token.expires_at > provider.clock.now())
        .and_then(|token| directory.person(&token.oid).map(|(_, person)| (token, person)));
    let Some((token, person)) = found else {
        let body = Json(json!({"error": {
            "code": "InvalidAuthenticationToken", "message": "The access token is missing, unknown or too old.",
        }}));
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], body).into_response();
    };
    let mut body = json!({
        "sub": id_token::subject(&token.client_id, &person.oid),
        "name": person.name,
        "given_name": person.given_name,
        "family_name": person.family_name,
        "picture": "https://graph.microsoft.com/v1.0/me/photo/$value",
    });
    if let (Some(mail), Some(members)) =
        (person.mail.as_deref().filter(|_| token.with_email), body.as_object_mut())
    {
        members.insert("email".to_owned(), mail.into());
    }
    Json(body).into_response()
}
