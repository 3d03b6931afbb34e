//! A new organization, and an organization's general settings.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::OrganizationId;
use doorward_core::membership::Role;
use doorward_core::name::Name;
use http::StatusCode;
use serde::Deserialize;

use super::audited;
use super::sso::by;
use crate::app::{App, SharedApp};
use crate::configuration::CreateOrganizations;
use crate::refusal::Refusal;
use crate::session::SignedIn;
use crate::store::{Plan, StoreError, load_organization};
use crate::web::access::redirect;
use crate::web::page::{Done, Frame, OrganizationHead, Problem, Problems, Tab, show, show_with};
use crate::web::visit::{OrganizationVisit, Visit};

/// `/organizations/new`.
#[derive(Template, Clone, Debug)]
#[template(path = "organization_new.html")]
pub struct NewOrganizationPage {
    /// The frame.
    pub frame: Frame,
    /// As typed before.
    pub name: String,
    /// As typed before.
    pub display_name: String,
    /// Mistakes.
    pub problems: Problems,
}

/// `/organizations/ORG/settings`.
#[derive(Template, Clone, Debug)]
#[template(path = "organization_general.html")]
pub struct GeneralSettingsPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// As typed or stored.
    pub display_name: String,
    /// The plan, for display.
    pub plan: &'static str,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
    /// Mistakes.
    pub problems: Problems,
}

/// Whether an account may make organizations.
pub fn may_create(app: &App, signed_in: &SignedIn) -> bool {
    signed_in.account.operator || app.configuration.create_organizations == CreateOrganizations::Anyone
}

/// A display name of 1 to 100 characters without control characters.
fn parse_display_name(text: &str) -> Result<String, ErrorCode> {
    let text = text.trim();
    let good = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(ErrorCode::OrganizationDisplayNameInvalid) }
}

/// `GET /organizations/new`.
pub async fn show_new(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    if !may_create(&app, visit.account()?) {
        return Err(ErrorCode::OrganizationCreateClosed.into());
    }
    Ok(show(&NewOrganizationPage {
        frame: Frame::of(&app, &visit),
        name: String::new(),
        display_name: String::new(),
        problems: Problems::default(),
    }))
}

/// The form of a new organization.
#[derive(Debug, Deserialize)]
pub struct NewOrganizationForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    display_name: String,
}

/// `POST /organizations/new`: the maker becomes the first admin.
pub async fn create(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<NewOrganizationForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    if !may_create(&app, signed_in) {
        return Err(ErrorCode::OrganizationCreateClosed.into());
    }
    let again = |problems: Vec<Problem>| {
        let page = NewOrganizationPage {
            frame: Frame::of(&app, &visit),
            name: form.name.clone(),
            display_name: form.display_name.clone(),
            problems: Problems(problems),
        };
        show_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
    };
    let name =
        Name::parse(form.name.trim()).map_err(|_| ErrorCode::OrganizationNameInvalid).and_then(|name| {
            let is_path = app.configuration.reserved_first_segments().contains(name.key());
            if is_path { Err(ErrorCode::OrganizationNameIsAPath) } else { Ok(name) }
        });
    let (name, display_name) = match (name, parse_display_name(&form.display_name)) {
        (Ok(name), Ok(display_name)) => (name, display_name),
        (name, display_name) => {
            let name = name.err().map(|code| Problem::new("name", code));
            let display_name = display_name.err().map(|code| Problem::new("display_name", code));
            return Ok(again(name.into_iter().chain(display_name).collect()));
        }
    };
    let now = app.clock.now();
    let id = OrganizationId::new(now.millis(), app.random.bytes()?);
    // Self-hosted, an organization has the whole plan unless the operator says otherwise (hub-sso.md S9).
    let plan = Plan::Enterprise;
    let mut tx = app.store.begin().await?;
    match tx.insert_organization(id, &name, &display_name, plan, now).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => {
            drop(tx);
            return Ok(again(vec![Problem::new("name", ErrorCode::OrganizationNameTaken)]));
        }
        Err(error) => return Err(error.into()),
    }
    tx.set_role(id, signed_in.account.id, Role::Admin, now).await?;
    let details = vec![("name", name.as_str().to_owned()), ("plan", plan.as_str().to_owned())];
    tx.audit(audited(&visit, Some(id), AuditAction::OrgCreate, details)?, now).await?;
    let details =
        vec![("account", signed_in.account.name().to_owned()), ("role", Role::Admin.as_str().to_owned())];
    tx.audit(audited(&visit, Some(id), AuditAction::OrgAddUser, details)?, now).await?;
    tx.commit(now).await?;
    let done = Done::OrganizationCreated.as_str();
    Ok(redirect(&app.page(&format!("/organizations/{name}/settings?done={done}", name = name.as_str()))))
}

fn general_page(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    display_name: String,
    problems: Problems,
) -> GeneralSettingsPage {
    GeneralSettingsPage {
        frame: Frame::of(app, visit),
        organization: OrganizationHead::of(place),
        tab: Tab::General,
        display_name,
        plan: place.organization.plan.label(),
        same_host_trusted: app.configuration.shares_host_with_application(),
        problems,
    }
}

/// `GET /organizations/ORG/settings`.
pub async fn show_general(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let display_name = place.organization.display_name.clone();
    Ok(show(&general_page(&app, &visit, &place, display_name, Problems::default())))
}

/// The form of the general settings.
#[derive(Debug, Deserialize)]
pub struct GeneralForm {
    #[serde(default)]
    display_name: String,
}

/// `POST /organizations/ORG/settings`.
pub async fn change_general(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<GeneralForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    let display_name = match parse_display_name(&form.display_name) {
        Ok(display_name) => display_name,
        Err(code) => {
            let page =
                general_page(&app, &visit, &place, form.display_name, Problems::one("display_name", code));
            return Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
    };
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by(&visit)?.lock_as_admin(&mut tx, organization.id, now).await??;
    let before = load_organization(&mut tx, organization.name.as_str()).await?;
    let before = before.ok_or(ErrorCode::OrganizationUnknown)?.display_name;
    if before != display_name {
        tx.update_display_name(organization, &display_name).await?;
        let details = vec![("before", before), ("after", display_name)];
        tx.audit(audited(&visit, Some(organization.id), AuditAction::OrgSettings, details)?, now).await?;
        tx.commit(now).await?;
    }
    Ok(redirect(&app.page(&format!("/organizations/{}/settings?done=saved", organization.name))))
}
