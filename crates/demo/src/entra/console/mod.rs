//! The console in which the guide is clicked: its routes, its frame, and the pages around the applications.
//!
//! Labels are those of the guide, so that its steps can be followed word by word. Wrong choices are taken and have
//! the consequences that Entra gives them. Never here: the protocol.

mod enterprise;
mod registration;

use super::directory::{App, Platform, Tenant};
use super::keys::Rollover;
use super::{Parameters, Provider, notice};
use crate::serving::page;
use askama::Template;
use axum::Router;
use axum::extract::{Path, RawForm, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::StatusCode;
use std::sync::Arc;
use url::Url;

/// Longest name and description that a form takes.
const NAME_MAX: usize = 120;

/// Every page of the console. Forms post to the page that shows them.
pub(super) fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/console/acme.example") }))
        .route("/console/{tenant}", get(home))
        .route("/console/{tenant}/users", get(users))
        .route("/console/{tenant}/keys", get(keys).post(change_keys))
        .merge(enterprise::routes())
        .merge(registration::routes())
}

/// What every page of the console shows around its own content.
struct Frame {
    tenant: Tenant,
    /// Start of every address in this directory.
    root: String,
    /// Name and console address of the other directories.
    others: Vec<(String, String)>,
}

impl Frame {
    fn load(provider: &Provider, tenant: &str) -> Result<Self, Missing> {
        let directory = provider.directory();
        let tenant = directory.tenant(tenant).cloned().ok_or(Missing)?;
        let root_of = |tenant: &Tenant| format!("/console/{}", tenant.domain);
        let others = directory
            .tenants
            .iter()
            .filter(|other| other.id != tenant.id)
            .map(|other| (other.name.clone(), root_of(other)))
            .collect();
        Ok(Self { root: root_of(&tenant), tenant, others })
    }
}

/// The directory or the application that an address names is not there (any more).
struct Missing;

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        notice(
            StatusCode::NOT_FOUND,
            "There is nothing at this address",
            "The directory or the application is gone.",
        )
    }
}

/// An application of the directory, found by its object ID.
fn load_app(provider: &Provider, frame: &Frame, object_id: &str) -> Result<App, Missing> {
    provider
        .directory()
        .apps
        .iter()
        .find(|app| app.tenant_id == frame.tenant.id && app.object_id == object_id)
        .cloned()
        .ok_or(Missing)
}

/// Frame and application of a page under `/console/{tenant}/…/{app}`.
fn load(provider: &Provider, tenant: &str, object_id: &str) -> Result<(Frame, App), Missing> {
    let frame = Frame::load(provider, tenant)?;
    let app = load_app(provider, &frame, object_id)?;
    Ok((frame, app))
}

/// Changes an application where it is kept.
fn change(provider: &Provider, app: &App, change: impl FnOnce(&mut App)) {
    if let Some(kept) = provider.directory().app_mut(&app.tenant_id, &app.client_id) {
        change(kept);
    }
}

/// The applications of a directory, by name.
fn apps_of(provider: &Provider, tenant: &Tenant) -> Vec<App> {
    let mut apps: Vec<App> =
        provider.directory().apps.iter().filter(|app| app.tenant_id == tenant.id).cloned().collect();
    apps.sort_by_key(|app| app.name.to_lowercase());
    apps
}

fn see_other(address: &str) -> Response {
    Redirect::to(address).into_response()
}

/// A name as it may be kept: trimmed, not empty, bounded, without control characters.
fn checked_name(typed: &str) -> Result<String, String> {
    let name = typed.trim();
    if name.is_empty() {
        return Err("Give a name.".to_owned());
    }
    if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(format!("A name has at most {NAME_MAX} letters, all of them visible."));
    }
    Ok(name.to_owned())
}

/// A redirect URI as the portal's box takes it. `entra.md` section 3, "Redirect URI rules".
fn checked_redirect_uri(platform: Platform, typed: &str) -> Result<String, String> {
    let uri = typed.trim();
    if uri.chars().count() > 256 {
        return Err("A redirect URI has at most 256 characters.".to_owned());
    }
    if uri.chars().any(|c| "!$'(),;*".contains(c) || c.is_whitespace() || c.is_control()) {
        return Err("A redirect URI must not contain blanks or any of ! $ ' ( ) , ; *".to_owned());
    }
    let parsed =
        Url::parse(uri).map_err(|_| "This is not a complete address such as https://…".to_owned())?;
    if parsed.fragment().is_some() {
        return Err("A redirect URI must not have a fragment (#…).".to_owned());
    }
    let secure = parsed.scheme() == "https"
        || (parsed.scheme() == "http" && parsed.host_str() == Some("localhost"))
        || (platform == Platform::Native && parsed.scheme() != "http");
    if !secure {
        return Err("A redirect URI must start with https:// or http://localhost.".to_owned());
    }
    // Without a path Entra appends a slash, which then has to be sent too.
    let bare = parsed.path() == "/" && parsed.query().is_none() && !uri.ends_with('/');
    Ok(if bare { format!("{uri}/") } else { uri.to_owned() })
}

#[derive(Template)]
#[template(path = "entra/home.html")]
struct HomePage {
    frame: Frame,
    apps: Vec<App>,
}

async fn home(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    let apps = apps_of(&provider, &frame.tenant);
    Ok(page(StatusCode::OK, &HomePage { frame, apps }))
}

#[derive(Template)]
#[template(path = "entra/users.html")]
struct UsersPage {
    frame: Frame,
}

async fn users(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    Ok(page(StatusCode::OK, &UsersPage { frame }))
}

#[derive(Template)]
#[template(path = "entra/keys.html")]
struct KeysPage {
    frame: Frame,
    keys: Vec<(String, &'static str)>,
}

async fn keys(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    Ok(page(StatusCode::OK, &KeysPage { frame, keys: provider.keys().published() }))
}

async fn change_keys(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    match Parameters::parse(&form).get("rollover") {
        Some("planned") => provider.change_keys(Rollover::Planned),
        Some("emergency") => provider.change_keys(Rollover::Emergency),
        _ => {}
    }
    Ok(see_other(&format!("{}/keys", frame.root)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portals_box_takes_https_and_localhost_and_appends_a_slash() {
        let taken = |uri| checked_redirect_uri(Platform::Web, uri);
        assert_eq!(taken("https://sso.example.com"), Ok("https://sso.example.com/".to_owned()));
        assert_eq!(taken(" http://localhost:8080/a "), Ok("http://localhost:8080/a".to_owned()));
        assert!(taken("http://127.0.0.1:8080/a").is_err());
        assert!(taken("http://localhost.example/a").is_err());
        assert!(taken("https://sso.example.com/a*").is_err());
        assert!(taken("not an address").is_err());
    }
}
