//! The authorization endpoint: checks of the request, account picker, consent, and the way back.
//!
//! Out: the application's redirect URI with a code or an error, or a page of the provider's own that never redirects.
//! Invariant: a redirect URI is used only after it was found among the application's. The request travels through
//! the pages as its own query string and is checked again at each step. `entra.md` section 3.

use super::aadsts::{Facts, Refusal};
use super::directory::{App, Grant, Person, Platform, Tenant};
use super::fault::Fault;
use super::metadata::Address;
use super::{Parameters, Provider};
use crate::random;
use crate::serving::page;
use askama::Template;
use axum::extract::{Path, RawForm, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{StatusCode, Uri};
use std::sync::Arc;
use url::Url;

/// Scopes that exist; a bare name means Microsoft Graph, which has no `groups`.
const SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "User.Read"];
/// Refusals that come before anybody is asked who they are.
const BEFORE_SIGN_IN: [u32; 3] = [50_011, 700_016, 90_002];

/// A request whose redirect URI is the application's.
struct Request {
    tenant: Tenant,
    app: App,
    redirect_uri: String,
    platform: Platform,
    state: Option<String>,
    mode: ResponseMode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

/// How a sign-in ends without a code.
enum Ending {
    /// On the provider's own page.
    Page(Refusal),
    /// At the application.
    Callback(Box<Request>, Vec<(&'static str, String)>),
}

#[derive(Template)]
#[template(path = "entra/sign_in.html")]
struct SignInPage {
    tenant: Tenant,
    app_name: String,
    action: String,
    request: String,
    people: Vec<Person>,
    strangers: Vec<(String, Person)>,
    hint: String,
}

#[derive(Template)]
#[template(path = "entra/consent.html")]
struct ConsentPage {
    tenant: Tenant,
    app_name: String,
    action: String,
    request: String,
    person: Person,
    wishes: Vec<&'static str>,
}

#[derive(Template)]
#[template(path = "entra/refusal.html")]
struct RefusalPage {
    refusal: Refusal,
    client_id: String,
}

#[derive(Template)]
#[template(path = "entra/form_post.html")]
struct FormPostPage {
    action: String,
    fields: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "entra/signed_out.html")]
struct SignedOutPage;

/// `GET /{tenant}/oauth2/v2.0/authorize`
pub(super) async fn authorize(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    begin(&provider, &tenant, query.as_deref().unwrap_or_default())
}

/// `POST /{tenant}/oauth2/v2.0/authorize`, which OpenID Connect Core 3.1.2.1 demands too.
pub(super) async fn authorize_by_form(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawForm(form): RawForm,
) -> Response {
    begin(&provider, &tenant, &String::from_utf8_lossy(&form))
}

fn begin(provider: &Provider, tenant: &str, raw: &str) -> Response {
    let parameters = Parameters::parse(raw.as_bytes());
    let request = match check(provider, tenant, &parameters, Some(&BEFORE_SIGN_IN)) {
        Ok(request) => request,
        Err(ending) => return end(ending, &parameters),
    };
    if parameters.get("prompt") == Some("none") {
        let refusal = provider.refusal(50_058, &Facts::default());
        return callback(&request, refusal.to_redirect(&provider.base_url));
    }
    let strangers = provider
        .directory()
        .tenants
        .iter()
        .filter(|other| other.id != request.tenant.id)
        .flat_map(|other| other.people.iter().map(|person| (other.name.clone(), person.clone())))
        .collect();
    let sign_in = SignInPage {
        app_name: request.app.name,
        action: format!("/{}/login", request.tenant.id),
        request: raw.to_owned(),
        people: request.tenant.people.clone(),
        tenant: request.tenant,
        strangers,
        hint: parameters.get("login_hint").unwrap_or_default().to_owned(),
    };
    page(StatusCode::OK, &sign_in)
}

/// `POST /{tenant}/login`: somebody was picked, consented, or went back.
pub(super) async fn login(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawForm(form): RawForm,
) -> Response {
    let form = Parameters::parse(&form);
    let raw = form.get("request").unwrap_or_default();
    let parameters = Parameters::parse(raw.as_bytes());
    let outcome = check(&provider, &tenant, &parameters, None)
        .and_then(|request| proceed(&provider, request, &parameters, &form, raw));
    match outcome {
        Ok(response) => response,
        Err(ending) => end(ending, &parameters),
    }
}

/// Everything about the request that does not depend on who signs in.
///
/// With `forced`, a fault of the application that shows a page with one of these numbers acts here.
fn check(
    provider: &Provider,
    tenant: &str,
    parameters: &Parameters,
    forced: Option<&[u32]>,
) -> Result<Request, Ending> {
    let client_id = parameters.get("client_id").unwrap_or_default();
    let requested = parameters.get("redirect_uri").unwrap_or_default();
    let mut facts = Facts {
        client_id: client_id.to_owned(),
        redirect_uri: requested.to_owned(),
        tenant: tenant.to_owned(),
        ..Facts::default()
    };
    let tenant = match provider.address(tenant).map_err(Ending::Page)? {
        Address::Tenant(tenant) => tenant,
        Address::Shared(_) | Address::Consumers => {
            return Err(Ending::Page(provider.refusal(50_194, &facts)));
        }
    };
    facts.tenant.clone_from(&tenant.name);
    let stop = |code: u32| Ending::Page(provider.refusal(code, &facts));
    if client_id.is_empty() {
        let facts = Facts { detail: "client_id".to_owned(), ..Facts::default() };
        return Err(Ending::Page(provider.refusal(900_144, &facts)));
    }
    let mut directory = provider.directory();
    let app = directory.app_mut(&tenant.id, client_id).ok_or_else(|| stop(700_016))?;
    if let Some(numbers) = forced {
        let fault = app.take_fault(|fault| matches!(fault, Fault::Page(code) if numbers.contains(&code)));
        if let Some(Fault::Page(code)) = fault {
            return Err(stop(code));
        }
    }
    let app = app.clone();
    drop(directory);
    if app.redirect_uris.is_empty() {
        return Err(stop(500_113));
    }
    // Without the parameter Entra takes any registered one.
    let registered =
        if requested.is_empty() { app.redirect_uris.first() } else { app.matching_redirect(requested) };
    let platform = registered.ok_or_else(|| stop(50_011))?.platform;
    let redirect_uri = match registered {
        Some(first) if requested.is_empty() => first.uri.clone(),
        _ => requested.to_owned(),
    };
    let mode = match parameters.get("response_mode") {
        Some("fragment") => ResponseMode::Fragment,
        Some("form_post") => ResponseMode::FormPost,
        _ => ResponseMode::Query,
    };
    let state = parameters.get("state").map(str::to_owned);
    let request = Request { tenant, app, redirect_uri, platform, state, mode };
    match unfit(parameters) {
        None => Ok(request),
        Some((code, detail)) => {
            let refusal = provider.refusal(code, &Facts { detail, ..facts });
            Err(Ending::Callback(Box::new(request), refusal.to_redirect(&provider.base_url)))
        }
    }
}

/// What is wrong with the rest of the parameters: number and value at fault.
fn unfit(parameters: &Parameters) -> Option<(u32, String)> {
    let response_type = parameters.get("response_type").unwrap_or_default();
    if response_type != "code" {
        return Some((70_005, response_type.to_owned()));
    }
    let scopes = scopes(parameters);
    if let Some(unknown) = scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        return Some((650_053, unknown.clone()));
    }
    if !scopes.iter().any(|scope| scope == "openid") {
        return Some((70_011, scopes.join(" ")));
    }
    let challenge = parameters.get("code_challenge")?;
    let method = parameters.get("code_challenge_method").unwrap_or("plain");
    let fits = (43..=128).contains(&challenge.len()) && matches!(method, "S256" | "plain");
    (!fits).then(|| (501_491, method.to_owned()))
}

fn scopes(parameters: &Parameters) -> Vec<String> {
    parameters.get("scope").unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

/// Everything that depends on who signs in, down to the code.
fn proceed(
    provider: &Provider,
    request: Request,
    parameters: &Parameters,
    form: &Parameters,
    raw: &str,
) -> Result<Response, Ending> {
    if form.get("cancel").is_some() {
        let cancelled = vec![("error", "access_denied".to_owned()), ("error_subcode", "cancel".to_owned())];
        return Err(Ending::Callback(Box::new(request), cancelled));
    }
    let oid = form.get("person").unwrap_or_default();
    let found = provider.directory().person(oid).map(|(tenant, person)| (tenant.id.clone(), person.clone()));
    let Some((home, person)) = found else {
        return Ok(begin(provider, &request.tenant.id, raw));
    };
    let facts = Facts {
        client_id: request.app.client_id.clone(),
        tenant: request.tenant.name.clone(),
        person: person.sign_in_name().to_owned(),
        redirect_uri: request.redirect_uri.clone(),
        detail: String::new(),
    };
    let stop = |code: u32| Ending::Page(provider.refusal(code, &facts));
    if home != request.tenant.id {
        return Err(stop(50_020));
    }
    if !person.enabled {
        return Err(stop(50_057));
    }
    if !request.app.enabled {
        return Err(stop(7_000_112));
    }
    let app = &request.app;
    if app.assignment_required && !app.assigned.contains(&person.oid) {
        return Err(stop(50_105));
    }
    if !app.admin_consent && !app.consented.contains(&person.oid) {
        match form.get("consent") {
            Some("accept") => {
                let for_everybody = person.admin && form.get("for_everybody").is_some();
                keep_consent(provider, app, &person, for_everybody);
            }
            Some(_) => {
                let refusal = provider.refusal(65_004, &facts);
                return Err(Ending::Callback(Box::new(request), refusal.to_redirect(&provider.base_url)));
            }
            // Where people have to be assigned, they can't consent for themselves.
            None if app.assignment_required && !person.admin => return Err(stop(90_094)),
            None => return Ok(page(StatusCode::OK, &consent_page(request, person, parameters, raw))),
        }
    }
    let fault = provider.directory().app_mut(&request.tenant.id, &request.app.client_id).and_then(|app| {
        app.take_fault(|fault| {
            matches!(
                fault,
                Fault::Page(_)
                    | Fault::Callback(_)
                    | Fault::CallbackWithoutState
                    | Fault::CallbackWithForeignState
            )
        })
    });
    let mut request = request;
    match fault {
        Some(Fault::Page(code)) => return Err(stop(code)),
        Some(Fault::Callback(code)) => {
            let refusal = provider.refusal(code, &facts);
            return Err(Ending::Callback(Box::new(request), refusal.to_redirect(&provider.base_url)));
        }
        Some(Fault::CallbackWithoutState) => request.state = None,
        Some(Fault::CallbackWithForeignState) => request.state = Some(random::opaque()),
        _ => {}
    }
    let code = hand_out_code(provider, &request, &person, parameters).ok_or_else(|| stop(90_055))?;
    Ok(callback(&request, vec![("code", code)]))
}

fn keep_consent(provider: &Provider, app: &App, person: &Person, for_everybody: bool) {
    if let Some(app) = provider.directory().app_mut(&app.tenant_id, &app.client_id) {
        app.consented.insert(person.oid.clone());
        app.admin_consent |= for_everybody;
    }
}

fn consent_page(request: Request, person: Person, parameters: &Parameters, raw: &str) -> ConsentPage {
    let wishes = scopes(parameters)
        .iter()
        .filter_map(|scope| match scope.as_str() {
            "openid" => Some("Sign you in"),
            "profile" => Some("View your basic profile"),
            "email" => Some("View your email address"),
            "offline_access" => Some("Maintain access to data you have given it access to"),
            "User.Read" => Some("Sign you in and read your profile"),
            _ => None,
        })
        .collect();
    ConsentPage {
        app_name: request.app.name,
        action: format!("/{}/login", request.tenant.id),
        request: raw.to_owned(),
        tenant: request.tenant,
        person,
        wishes,
    }
}

fn hand_out_code(
    provider: &Provider,
    request: &Request,
    person: &Person,
    parameters: &Parameters,
) -> Option<String> {
    let challenge = parameters
        .get("code_challenge")
        .map(|challenge| (challenge.to_owned(), parameters.get("code_challenge_method") == Some("S256")));
    let now = provider.clock.now();
    let grant = Grant {
        client_id: request.app.client_id.clone(),
        tenant_id: request.tenant.id.clone(),
        platform: request.platform,
        redirect_uri: request.redirect_uri.clone(),
        oid: person.oid.clone(),
        nonce: parameters.get("nonce").map(str::to_owned),
        scopes: scopes(parameters),
        challenge,
        issued_at: now,
        spent: false,
    };
    provider.directory().add_grant(grant, now)
}

fn end(ending: Ending, parameters: &Parameters) -> Response {
    match ending {
        Ending::Callback(request, fields) => callback(&request, fields),
        Ending::Page(refusal) => {
            let client_id = parameters.get("client_id").unwrap_or_default().to_owned();
            page(StatusCode::BAD_REQUEST, &RefusalPage { refusal, client_id })
        }
    }
}

/// Sends the browser back to the application, in the way that it asked for.
fn callback(request: &Request, mut fields: Vec<(&'static str, String)>) -> Response {
    if let Some(state) = &request.state {
        fields.push(("state", state.clone()));
    }
    if fields.iter().any(|(name, _)| *name == "code") {
        fields.push(("session_state", random::guid()));
    }
    if request.mode == ResponseMode::FormPost {
        return page(StatusCode::OK, &FormPostPage { action: request.redirect_uri.clone(), fields });
    }
    // Registration takes only what can be parsed.
    let Ok(mut target) = Url::parse(&request.redirect_uri) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if request.mode == ResponseMode::Fragment {
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        target.set_fragment(Some(&encoded));
    } else {
        target.query_pairs_mut().extend_pairs(fields);
    }
    (StatusCode::FOUND, [(LOCATION, String::from(target)), (CACHE_CONTROL, "no-store".to_owned())])
        .into_response()
}

/// `GET /{tenant}/oauth2/v2.0/logout`: on to a registered address, otherwise the provider's own page.
pub(super) async fn logout(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    uri: Uri,
) -> Response {
    let parameters = Parameters::parse(uri.query().unwrap_or_default().as_bytes());
    let target = parameters.get("post_logout_redirect_uri").unwrap_or_default();
    let Ok(Address::Tenant(tenant)) = provider.address(&tenant) else {
        return page(StatusCode::OK, &SignedOutPage);
    };
    let registered = provider.directory().apps.iter().any(|app| {
        app.tenant_id == tenant.id && app.redirect_uris.iter().any(|redirect| redirect.uri == target)
    });
    match Url::parse(target).ok().filter(|_| registered) {
        None => page(StatusCode::OK, &SignedOutPage),
        Some(mut target) => {
            if let Some(state) = parameters.get("state") {
                target.query_pairs_mut().append_pair("state", state);
            }
            (StatusCode::FOUND, [(LOCATION, String::from(target))]).into_response()
        }
    }
}
