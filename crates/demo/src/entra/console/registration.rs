//! App registrations: identifiers, endpoints, redirect URIs, secrets, permissions, and the page of faults.

use super::{Frame, Missing, apps_of, change, checked_name, checked_redirect_uri, load, see_other};
use crate::clock::day;
use crate::entra::directory::{App, Audience, ClientSecret, Platform};
use crate::entra::fault::{Fault, OFFERS};
use crate::entra::{Parameters, Provider};
use crate::serving::page;
use askama::Template;
use axum::Router;
use axum::extract::{Path, RawForm, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use std::sync::Arc;

/// Choices of a new secret's life: value, label, days from now.
const EXPIRY_CHOICES: [(&str, &str, i64); 6] = [
    ("180", "Recommended: 180 days (6 months)", 180),
    ("90", "90 days (3 months)", 90),
    ("365", "365 days (12 months)", 365),
    ("545", "545 days (18 months)", 545),
    ("730", "730 days (24 months)", 730),
    ("expired", "Already expired (for trying it out)", -1),
];

pub(super) fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/console/{tenant}/app-registrations", get(list))
        .route("/console/{tenant}/app-registrations/{app}", get(overview))
        .route("/console/{tenant}/app-registrations/{app}/endpoints", get(endpoints))
        .route("/console/{tenant}/app-registrations/{app}/secrets", get(secrets).post(change_secrets))
        .route(
            "/console/{tenant}/app-registrations/{app}/authentication",
            get(authentication).post(change_redirect_uris),
        )
        .route("/console/{tenant}/app-registrations/{app}/permissions", get(permissions).post(change_consent))
        .route("/console/{tenant}/app-registrations/{app}/faults", get(faults).post(switch_fault))
}

#[derive(Template)]
#[template(path = "entra/registrations.html")]
struct ListPage {
    frame: Frame,
    apps: Vec<App>,
}

async fn list(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    let apps = apps_of(&provider, &frame.tenant);
    Ok(page(StatusCode::OK, &ListPage { frame, apps }))
}

#[derive(Template)]
#[template(path = "entra/reg_overview.html")]
struct OverviewPage {
    frame: Frame,
    app: App,
    tab: &'static str,
    audience: &'static str,
}

async fn overview(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let audience = match app.audience {
        Audience::SingleTenant => "My organization only",
        Audience::AnyTenant => "Multiple organizations",
        Audience::AnyTenantAndPersonal => "All Microsoft account users",
    };
    Ok(page(StatusCode::OK, &OverviewPage { frame, app, tab: "overview", audience }))
}

#[derive(Template)]
#[template(path = "entra/reg_endpoints.html")]
struct EndpointsPage {
    frame: Frame,
    app: App,
    tab: &'static str,
    endpoints: Vec<(&'static str, &'static str, String)>,
}

async fn endpoints(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    // A registration for several directories shows the shared addresses, which fit no single organization.
    let segment = match app.audience {
        Audience::SingleTenant => frame.tenant.id.as_str(),
        Audience::AnyTenant => "organizations",
        Audience::AnyTenantAndPersonal => "common",
    };
    let at = format!("{}/{segment}", provider.base_url);
    let of_tenant = format!("{}/{}", provider.base_url, frame.tenant.id);
    let endpoints = vec![
        ("authorize-v2", "OAuth 2.0 authorization endpoint (v2)", format!("{at}/oauth2/v2.0/authorize")),
        ("token-v2", "OAuth 2.0 token endpoint (v2)", format!("{at}/oauth2/v2.0/token")),
        ("authorize-v1", "OAuth 2.0 authorization endpoint (v1)", format!("{at}/oauth2/authorize")),
        ("token-v1", "OAuth 2.0 token endpoint (v1)", format!("{at}/oauth2/token")),
        (
            "metadata",
            "OpenID Connect metadata document",
            format!("{at}/v2.0/.well-known/openid-configuration"),
        ),
        ("graph", "Microsoft Graph API endpoint", "https://graph.microsoft.com".to_owned()),
        (
            "federation",
            "Federation metadata document",
            format!("{of_tenant}/federationmetadata/2007-06/federationmetadata.xml"),
        ),
        ("ws-federation", "WS-Federation sign-on endpoint", format!("{of_tenant}/wsfed")),
        ("saml-sign-on", "SAML-P sign-on endpoint", format!("{of_tenant}/saml2")),
        ("saml-sign-out", "SAML-P sign-out endpoint", format!("{of_tenant}/saml2")),
    ];
    Ok(page(StatusCode::OK, &EndpointsPage { frame, app, tab: "endpoints", endpoints }))
}

/// A secret as the list shows it.
struct ShownSecret {
    id: String,
    description: String,
    expires: String,
    expired: bool,
    /// In full once, then its beginning.
    value: String,
    fresh: bool,
    /// Names of the fields that are copied from: `value-1`, `secret-id-1`, counted in the order of the list.
    value_field: String,
    id_field: String,
}

impl ShownSecret {
    fn new(number: usize, secret: &ClientSecret, now: i64) -> Self {
        let value = if secret.unseen {
            secret.value.clone()
        } else {
            secret.value.chars().take(3).chain("******************".chars()).collect()
        };
        Self {
            id: secret.id.clone(),
            description: secret.description.clone(),
            expires: day(secret.expires_at),
            expired: secret.expires_at <= now,
            value,
            fresh: secret.unseen,
            value_field: format!("value-{number}"),
            id_field: format!("secret-id-{number}"),
        }
    }
}

#[derive(Template)]
#[template(path = "entra/reg_secrets.html")]
struct SecretsPage {
    frame: Frame,
    app: App,
    tab: &'static str,
    secrets: Vec<ShownSecret>,
    choices: [(&'static str, &'static str, i64); 6],
    problem: String,
}

async fn secrets(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    secrets_page(&provider, &tenant, &app, StatusCode::OK, String::new())
}

fn secrets_page(
    provider: &Provider,
    tenant: &str,
    app: &str,
    status: StatusCode,
    problem: String,
) -> Result<Response, Missing> {
    let (frame, app) = load(provider, tenant, app)?;
    let now = provider.clock.now();
    // The newest first: it is the one that somebody came for.
    let secrets = (1..)
        .zip(app.secrets.iter().rev())
        .map(|(number, secret)| ShownSecret::new(number, secret, now))
        .collect();
    // The copy that is shown now is the only one.
    change(provider, &app, |app| app.secrets.iter_mut().for_each(|secret| secret.unseen = false));
    Ok(page(status, &SecretsPage { frame, app, tab: "secrets", secrets, choices: EXPIRY_CHOICES, problem }))
}

async fn change_secrets(
    State(provider): State<Arc<Provider>>,
    Path((tenant, object_id)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &object_id)?;
    let form = Parameters::parse(&form);
    let here = format!("{}/app-registrations/{}/secrets", frame.root, app.object_id);
    if let Some(id) = form.get("delete") {
        change(&provider, &app, |app| app.secrets.retain(|secret| secret.id != id));
        return Ok(see_other(&here));
    }
    let refuse = |problem: String| {
        secrets_page(&provider, &tenant, &object_id, StatusCode::UNPROCESSABLE_ENTITY, problem)
    };
    let description = match form.get("description").map_or_else(|| Ok("(none)".to_owned()), checked_name) {
        Ok(description) => description,
        Err(problem) => return refuse(problem),
    };
    let Some((_, _, days)) = EXPIRY_CHOICES.iter().find(|(value, ..)| form.get("expires") == Some(*value))
    else {
        return refuse("Choose when the secret expires.".to_owned());
    };
    let expires_at = provider.clock.now().saturating_add(days * 86_400);
    let mut made = false;
    change(&provider, &app, |app| made = app.add_secret(&description, expires_at).is_some());
    if made {
        Ok(see_other(&here))
    } else {
        refuse("There are too many secrets. Delete one first.".to_owned())
    }
}

#[derive(Template)]
#[template(path = "entra/reg_authentication.html")]
struct AuthenticationPage {
    frame: Frame,
    app: App,
    tab: &'static str,
    platforms: [Platform; 3],
    platform: String,
    redirect_uri: String,
    problem: String,
}

async fn authentication(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    Ok(page(StatusCode::OK, &authentication_page(frame, app, &Parameters::parse(b""), String::new())))
}

fn authentication_page(frame: Frame, app: App, form: &Parameters, problem: String) -> AuthenticationPage {
    AuthenticationPage {
        frame,
        app,
        tab: "authentication",
        platforms: Platform::ALL,
        platform: form.get("platform").unwrap_or_default().to_owned(),
        redirect_uri: form.get("redirect_uri").unwrap_or_default().to_owned(),
        problem,
    }
}

async fn change_redirect_uris(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let form = Parameters::parse(&form);
    let platform = form.get("platform").and_then(Platform::from_value);
    let uri = form.get("redirect_uri").unwrap_or_default();
    let outcome = match (platform, form.get("remove")) {
        (Some(platform), Some(_)) => {
            let gone =
                |kept: &crate::entra::directory::RedirectUri| kept.platform == platform && kept.uri == uri;
            change(&provider, &app, |app| app.redirect_uris.retain(|kept| !gone(kept)));
            Ok(())
        }
        (Some(platform), None) => checked_redirect_uri(platform, uri).and_then(|uri| {
            let mut added = false;
            change(&provider, &app, |app| added = app.add_redirect_uri(platform, &uri));
            if added { Ok(()) } else { Err("This redirect URI is registered already.".to_owned()) }
        }),
        (None, _) => Err("Select a platform.".to_owned()),
    };
    match outcome {
        Ok(()) => {
            Ok(see_other(&format!("{}/app-registrations/{}/authentication", frame.root, app.object_id)))
        }
        Err(problem) => {
            let again = authentication_page(frame, app, &form, problem);
            Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &again))
        }
    }
}

#[derive(Template)]
#[template(path = "entra/reg_permissions.html")]
struct PermissionsPage {
    frame: Frame,
    app: App,
    tab: &'static str,
}

async fn permissions(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    Ok(page(StatusCode::OK, &PermissionsPage { frame, app, tab: "permissions" }))
}

async fn change_consent(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let revoke = Parameters::parse(&form).get("revoke").is_some();
    change(&provider, &app, |app| {
        app.admin_consent = !revoke;
        if revoke {
            app.consented.clear();
        }
    });
    Ok(see_other(&format!("{}/app-registrations/{}/permissions", frame.root, app.object_id)))
}

/// The faults under one heading: value, label, whether it is on.
type FaultGroup = (&'static str, Vec<(&'static str, &'static str, bool)>);

#[derive(Template)]
#[template(path = "entra/reg_faults.html")]
struct FaultsPage {
    frame: Frame,
    app: App,
    tab: &'static str,
    groups: Vec<FaultGroup>,
    active: &'static str,
}

async fn faults(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let mut groups: Vec<FaultGroup> = Vec::new();
    for offer in OFFERS {
        let line = (offer.value, offer.label, app.fault == Some(offer.fault));
        match groups.last_mut().filter(|(heading, _)| *heading == offer.group) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((offer.group, vec![line])),
        }
    }
    let active = app.fault.and_then(Fault::offer).map_or("", |offer| offer.label);
    Ok(page(StatusCode::OK, &FaultsPage { frame, app, tab: "faults", groups, active }))
}

async fn switch_fault(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let form = Parameters::parse(&form);
    change(&provider, &app, |app| {
        app.fault = form.get("fault").and_then(Fault::from_value);
        app.fault_stays = form.get("stays").is_some();
    });
    Ok(see_other(&format!("{}/app-registrations/{}/faults", frame.root, app.object_id)))
}
