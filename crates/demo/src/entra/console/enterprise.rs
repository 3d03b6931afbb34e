//! Enterprise applications: where the guide begins, who may enter, and the way on to the registration.

use super::{Frame, Missing, apps_of, change, checked_name, checked_redirect_uri, load, see_other};
use crate::entra::directory::{App, AppKind, Audience, Person, Platform};
use crate::entra::{Parameters, Provider};
use crate::serving::page;
use askama::Template;
use axum::Router;
use axum::extract::{Path, RawForm, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/console/{tenant}/enterprise-apps", get(list))
        .route("/console/{tenant}/enterprise-apps/new", get(gallery))
        .route("/console/{tenant}/enterprise-apps/create", get(create_form).post(create))
        .route("/console/{tenant}/register", get(register_form).post(register))
        .route("/console/{tenant}/enterprise-apps/{app}", get(overview))
        .route("/console/{tenant}/enterprise-apps/{app}/properties", get(properties).post(save_properties))
        .route("/console/{tenant}/enterprise-apps/{app}/users", get(users).post(assign))
        .route("/console/{tenant}/enterprise-apps/{app}/single-sign-on", get(single_sign_on))
        .route("/console/{tenant}/enterprise-apps/{app}/delete", post(delete))
}

#[derive(Template)]
#[template(path = "entra/enterprise_apps.html")]
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
#[template(path = "entra/gallery.html")]
struct GalleryPage {
    frame: Frame,
}

async fn gallery(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    Ok(page(StatusCode::OK, &GalleryPage { frame }))
}

#[derive(Template)]
#[template(path = "entra/create.html")]
struct CreatePage {
    frame: Frame,
    name: String,
    kind: String,
    problem: String,
}

async fn create_form(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    // Entra's own form has the wrong choice ticked.
    let form =
        CreatePage { frame, name: String::new(), kind: "non-gallery".to_owned(), problem: String::new() };
    Ok(page(StatusCode::OK, &form))
}

async fn create(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    let form = Parameters::parse(&form);
    let typed = form.get("name").unwrap_or_default();
    let kind = form.get("kind").unwrap_or_default();
    let refuse = |frame, problem: String| {
        let form = CreatePage { frame, name: typed.to_owned(), kind: kind.to_owned(), problem };
        Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &form))
    };
    let name = match checked_name(typed) {
        Ok(name) => name,
        Err(problem) => return refuse(frame, problem),
    };
    match kind {
        "developing" => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", &name).finish();
            Ok(see_other(&format!("{}/register?{query}", frame.root)))
        }
        "non-gallery" => {
            let app = App::new(&frame.tenant.id, &name, AppKind::NonGallery);
            let address = format!("{}/enterprise-apps/{}", frame.root, app.object_id);
            if provider.directory().add_app(app) {
                Ok(see_other(&address))
            } else {
                refuse(frame, "There are too many applications. Delete one first.".to_owned())
            }
        }
        "proxy" => refuse(
            frame,
            "Application Proxy publishes a web application inside your network; it is not built in this stand-in, \
             and it is not how single sign-on is connected."
                .to_owned(),
        ),
        _ => refuse(frame, "Say what you want to do with your application.".to_owned()),
    }
}

#[derive(Template)]
#[template(path = "entra/register.html")]
struct RegisterPage {
    frame: Frame,
    name: String,
    audience: String,
    platform: String,
    redirect_uri: String,
    problem: String,
    platforms: [Platform; 3],
}

async fn register_form(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Missing> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes());
    let form = RegisterPage {
        frame: Frame::load(&provider, &tenant)?,
        name: query.get("name").unwrap_or_default().to_owned(),
        audience: "single".to_owned(),
        platform: String::new(),
        redirect_uri: String::new(),
        problem: String::new(),
        platforms: Platform::ALL,
    };
    Ok(page(StatusCode::OK, &form))
}

async fn register(
    State(provider): State<Arc<Provider>>,
    Path(tenant): Path<String>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let frame = Frame::load(&provider, &tenant)?;
    let form = Parameters::parse(&form);
    match registered_app(&frame, &form) {
        Ok(app) => {
            let address = format!("{}/enterprise-apps/{}", frame.root, app.object_id);
            if provider.directory().add_app(app) {
                return Ok(see_other(&address));
            }
            Ok(register_again(frame, &form, "There are too many applications. Delete one first.".to_owned()))
        }
        Err(problem) => Ok(register_again(frame, &form, problem)),
    }
}

fn registered_app(frame: &Frame, form: &Parameters) -> Result<App, String> {
    let name = checked_name(form.get("name").unwrap_or_default())?;
    let mut app = App::new(&frame.tenant.id, &name, AppKind::Developing);
    app.audience = match form.get("audience") {
        Some("any") => Audience::AnyTenant,
        Some("any-and-personal") => Audience::AnyTenantAndPersonal,
        _ => Audience::SingleTenant,
    };
    // Both are optional in the portal too; one without the other is not.
    match (form.get("platform").and_then(Platform::from_value), form.get("redirect_uri")) {
        (Some(platform), Some(uri)) => {
            app.add_redirect_uri(platform, &checked_redirect_uri(platform, uri)?);
        }
        (None, Some(_)) => return Err("Select a platform for the redirect URI.".to_owned()),
        (_, None) => {}
    }
    Ok(app)
}

fn register_again(frame: Frame, form: &Parameters, problem: String) -> Response {
    let typed = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let form = RegisterPage {
        frame,
        name: typed("name"),
        audience: typed("audience"),
        platform: typed("platform"),
        redirect_uri: typed("redirect_uri"),
        problem,
        platforms: Platform::ALL,
    };
    page(StatusCode::UNPROCESSABLE_ENTITY, &form)
}

#[derive(Template)]
#[template(path = "entra/app_overview.html")]
struct OverviewPage {
    frame: Frame,
    app: App,
    tab: &'static str,
}

async fn overview(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    Ok(page(StatusCode::OK, &OverviewPage { frame, app, tab: "overview" }))
}

#[derive(Template)]
#[template(path = "entra/app_properties.html")]
struct PropertiesPage {
    frame: Frame,
    app: App,
    tab: &'static str,
}

async fn properties(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    Ok(page(StatusCode::OK, &PropertiesPage { frame, app, tab: "properties" }))
}

async fn save_properties(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let form = Parameters::parse(&form);
    change(&provider, &app, |app| {
        app.enabled = form.get("enabled") != Some("no");
        app.assignment_required = form.get("assignment_required") == Some("yes");
    });
    Ok(see_other(&format!("{}/enterprise-apps/{}/properties", frame.root, app.object_id)))
}

#[derive(Template)]
#[template(path = "entra/app_users.html")]
struct AppUsersPage {
    frame: Frame,
    assigned: Vec<Person>,
    others: Vec<Person>,
    app: App,
    tab: &'static str,
}

async fn users(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let (assigned, others) =
        frame.tenant.people.iter().cloned().partition(|person| app.assigned.contains(&person.oid));
    Ok(page(StatusCode::OK, &AppUsersPage { frame, assigned, others, app, tab: "users" }))
}

async fn assign(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
    RawForm(form): RawForm,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    let form = Parameters::parse(&form);
    let known = |oid: &&str| frame.tenant.people.iter().any(|person| person.oid == *oid);
    let assigned = form.get("assign").filter(known);
    change(&provider, &app, |app| {
        app.assigned.extend(assigned.map(str::to_owned));
        if let Some(oid) = form.get("remove") {
            app.assigned.remove(oid);
        }
    });
    Ok(see_other(&format!("{}/enterprise-apps/{}/users", frame.root, app.object_id)))
}

#[derive(Template)]
#[template(path = "entra/app_single_sign_on.html")]
struct SingleSignOnPage {
    frame: Frame,
    app: App,
    tab: &'static str,
}

async fn single_sign_on(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    Ok(page(StatusCode::OK, &SingleSignOnPage { frame, app, tab: "single-sign-on" }))
}

async fn delete(
    State(provider): State<Arc<Provider>>,
    Path((tenant, app)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let (frame, app) = load(&provider, &tenant, &app)?;
    provider.directory().apps.retain(|kept| kept.object_id != app.object_id);
    Ok(see_other(&format!("{}/enterprise-apps", frame.root)))
}
