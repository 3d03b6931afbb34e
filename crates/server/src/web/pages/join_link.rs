//! The SSO join link as the tabs Members and SSO show it to an admin, and its two forms (hub-sso.md M9).

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use serde::Deserialize;

use super::members::RoleChoice;
use super::sso::{by, plan_allows};
use crate::app::{App, SharedApp};
use crate::joining::{link_path, make_join_link, turn_off_join_link};
use crate::refusal::Refusal;
use crate::sso::enable::NotDone;
use crate::store::load_join_link;
use crate::web::access::redirect;
use crate::web::page::{Done, Moment, Problem, Tab, counted, role_label};
use crate::web::visit::{OrganizationVisit, Visit};

/// The card of the join link: there while SSO is live, for an admin who has completed it.
#[derive(Clone, Debug)]
pub struct JoinLinkCard {
    /// The link that is turned on.
    pub link: Option<JoinLinkShown>,
    /// As typed before, in the field of how many people.
    pub uses: String,
}

/// The link that is turned on.
#[derive(Clone, Debug)]
pub struct JoinLinkShown {
    /// The whole address; `None`: what is stored of it does not open.
    pub url: Option<String>,
    /// The role that it gives.
    pub role: Role,
    /// How many people may still join by it; `None`: any number.
    pub uses_left: Option<i64>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Moment,
}

impl JoinLinkShown {
    /// Its role, in words.
    pub fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    /// For how many people it still works, in words.
    pub fn room(&self) -> String {
        self.uses_left.map_or_else(
            || "any number of people".to_owned(),
            |left| format!("{} more", counted(left, "person", "people")),
        )
    }
}

/// The roles that a join link can give: all but admin.
pub fn join_roles() -> Vec<RoleChoice> {
    super::members::role_choices().into_iter().filter(|choice| choice.role != Role::Admin).collect()
}

/// The card for this visit; `None` while there is no SSO, or for whom it is not.
pub async fn join_link_card(
    app: &App,
    place: &OrganizationVisit,
    uses: String,
) -> Result<Option<JoinLinkCard>, Refusal> {
    if place.facts.sso.is_none() || place.role != Role::Admin || !place.sso_complete {
        return Ok(None);
    }
    let organization = &place.organization;
    let link = match load_join_link(&mut app.store.reader(), organization.id).await? {
        None => None,
        Some(link) => {
            let url = match link.open(organization.id, &app.sealing) {
                Ok(token) => {
                    let path = link_path(organization.name.as_str(), &token);
                    Some(app.configuration.base_url.join(&path))
                }
                Err(error) => {
                    tracing::error!(%error, organization = %organization.name, "a join link does not open");
                    None
                }
            };
            Some(JoinLinkShown {
                url,
                role: link.role,
                uses_left: link.uses_left,
                created_by: link.created_by_name,
                created_at: link.created_at.into(),
            })
        }
    };
    Ok(Some(JoinLinkCard { link, uses }))
}

/// Both forms.
#[derive(Debug, Deserialize)]
pub struct JoinLinkForm {
    #[serde(default)]
    role: String,
    #[serde(default)]
    uses: String,
    /// The tab that the form stands in.
    #[serde(default)]
    tab: String,
}

fn back(app: &App, place: &OrganizationVisit, tab: &str, done: Done) -> Response {
    let tab = if tab == "sso" { Tab::Sso } else { Tab::Members };
    let (name, path) = (&place.organization.name, tab.path());
    redirect(&app.page(&format!("/organizations/{name}{path}?done={}#join-link", done.as_str())))
}

/// `POST …/settings/sso/join-link`: makes or rotates it.
pub async fn make(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<JoinLinkForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    let role = form.role.parse::<Role>().map_err(|_| ErrorCode::MembershipRoleUnknown)?;
    // A number that can't be read is judged as one that can't be used.
    let uses = match form.uses.trim() {
        "" => None,
        text => Some(text.parse().unwrap_or(0)),
    };
    let (now, by) = (app.clock.now(), by(&visit)?);
    let made =
        make_join_link(&app.store, &app.random, &app.sealing, organization, role, uses, &by, now).await;
    match made {
        Ok(_) => Ok(back(&app, &place, &form.tab, Done::JoinLinkMade)),
        Err(NotDone::Refused(code @ ErrorCode::JoinUsesInvalid)) => {
            let typed = super::members::Typed { join_uses: form.uses, ..Default::default() };
            let problem = Problem::new("join_uses", code);
            super::members::again(&app, &visit, &place, typed, problem).await
        }
        Err(reason) => Err(reason.into()),
    }
}

/// `POST …/settings/sso/join-link/off`.
pub async fn turn_off(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<JoinLinkForm>,
) -> Result<Response, Refusal> {
    turn_off_join_link(&app.store, &place.organization, &by(&visit)?, app.clock.now()).await?;
    Ok(back(&app, &place, &form.tab, Done::JoinLinkOff))
}
