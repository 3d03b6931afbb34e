//! Users management: how long an SSO session lasts (hub-sso.md M6), whether the provider's guests may be linked, and who
//! needs no SSO (M8).

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::ExternalCollaborator;
use doorward_core::membership::Role;
use doorward_core::time::{Lifetime, Timestamp};
use http::StatusCode;
use jiff::civil::{Date, date};
use serde::Deserialize;

use super::audited;
use super::sso::{by, plan_allows};
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::store::{load_account_by_name, load_collaborators, load_connection, load_external_collaborator};
use crate::web::access::redirect;
use crate::web::page::{
    Done, Frame, Moment, OrganizationHead, Problem, Problems, Tab, role_label, show, show_with,
};
use crate::web::visit::{OrganizationVisit, Visit};

/// An external collaborator's time ends at most this far ahead.
const COLLABORATION_MAX: Lifetime = Lifetime::from_days(3660);

/// An external collaborator.
#[derive(Clone, Debug)]
pub struct CollaboratorLine {
    /// The account's name.
    pub name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The role: what he may do stays bounded by it.
    pub role: Role,
    /// The last moment without SSO; `None`: no end.
    pub until: Option<Moment>,
    /// That moment is over: he needs SSO as everybody.
    pub is_over: bool,
}

impl CollaboratorLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// What was typed to make somebody an external collaborator.
#[derive(Clone, Default, Debug)]
pub struct TypedCollaborator {
    /// The account.
    pub account: String,
    /// The last day.
    pub until: String,
}

/// `/organizations/ORG/settings/sso/users`.
#[derive(Template, Clone, Debug)]
#[template(path = "sso_users.html")]
pub struct SsoUsersPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The plan that would be needed is missing: no form.
    pub plan_missing: bool,
    /// Hours, as typed or stored.
    pub session_timeout_hours: String,
    /// The time-out in words, as stored.
    pub session_timeout: String,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
    /// Whether guests may be linked; nothing before a provider is connected.
    pub guests_may_link: Option<bool>,
    /// Who needs no SSO.
    pub collaborators: Vec<CollaboratorLine>,
    /// As typed before.
    pub typed: TypedCollaborator,
    /// Mistakes.
    pub problems: Problems,
}

impl SsoUsersPage {
    async fn load(app: &App, visit: &Visit, place: &OrganizationVisit) -> Result<Self, Refusal> {
        let mut reader = app.store.reader();
        let now = app.clock.now();
        let connection = load_connection(&mut reader, place.organization.id).await?;
        let collaborators = load_collaborators(&mut reader, place.organization.id).await?;
        let timeout = place.organization.session_timeout;
        Ok(Self {
            frame: Frame::of(app, visit),
            organization: OrganizationHead::of(place),
            tab: Tab::SsoUsers,
            plan_missing: !place.organization.plan.has_sso(),
            session_timeout_hours: (timeout.seconds() / 3600).to_string(),
            session_timeout: timeout.to_string(),
            same_host_trusted: app.configuration.shares_host_with_application(),
            guests_may_link: connection.map(|connection| connection.guests_may_link),
            collaborators: collaborators
                .into_iter()
                .map(|member| CollaboratorLine {
                    name: member.name.as_str().to_owned(),
                    full_name: member.full_name,
                    role: member.role,
                    until: last_moment(member.external_collaborator).map(Moment::from),
                    is_over: !member.external_collaborator.spares(now),
                })
                .collect(),
            typed: TypedCollaborator::default(),
            problems: Problems::default(),
        })
    }
}

/// `GET /organizations/ORG/settings/sso/users`.
pub async fn show_users(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    Ok(show(&SsoUsersPage::load(&app, &visit, &place).await?))
}

/// The page with a time-out that can't be used, as it was typed (422).
pub(super) async fn show_mistake(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    typed: &str,
) -> Result<Response, Refusal> {
    let page = SsoUsersPage {
        session_timeout_hours: typed.chars().take(20).collect(),
        problems: Problems::one("session_timeout_hours", ErrorCode::SettingsTimeoutInvalid),
        ..SsoUsersPage::load(app, visit, place).await?
    };
    Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// The last moment at which an external collaborator needs no SSO.
fn last_moment(external: ExternalCollaborator) -> Option<Timestamp> {
    match external {
        ExternalCollaborator::Until(end) => Some(end.minus(Lifetime::from_millis(1))),
        ExternalCollaborator::No | ExternalCollaborator::Yes => None,
    }
}

/// The end of a day such as `2027-03-31`, in UTC.
fn end_of_day(text: &str) -> Option<Timestamp> {
    let next: Date = text.parse::<Date>().ok()?.tomorrow().ok()?;
    Some(Timestamp::from_seconds(next.duration_since(date(1970, 1, 1)).as_secs()))
}

/// What is typed into the field of the end, at `now`; an empty one is no end.
fn wanted(until: &str, now: Timestamp) -> Option<ExternalCollaborator> {
    if until.is_empty() {
        return Some(ExternalCollaborator::Yes);
    }
    let end = end_of_day(until)?;
    (now < end && end < now.plus(COLLABORATION_MAX)).then_some(ExternalCollaborator::Until(end))
}

/// As the audit log says it.
fn in_words(external: ExternalCollaborator) -> String {
    match (external, last_moment(external)) {
        (ExternalCollaborator::No, _) => "no".to_owned(),
        (_, None) => "yes".to_owned(),
        (_, Some(last)) => {
            let day = Moment::from(last).iso;
            format!("until {}", day.split('T').next().unwrap_or_default())
        }
    }
}

/// The forms of the external collaborators.
#[derive(Debug, Deserialize)]
pub struct CollaboratorForm {
    #[serde(default)]
    account: String,
    #[serde(default)]
    until: String,
}

/// Changes whether a member is an external collaborator. `Some`: why not.
async fn change(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    account: &str,
    external: ExternalCollaborator,
) -> Result<Option<ErrorCode>, Refusal> {
    let organization = place.organization.id;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by(visit)?.lock_as_admin(&mut tx, organization, now).await??;
    let Some(account) = load_account_by_name(&mut tx, account).await? else {
        return Ok(Some(ErrorCode::MembershipAccountUnknown));
    };
    let Some(before) = load_external_collaborator(&mut tx, organization, account.id).await? else {
        return Ok(Some(ErrorCode::MembershipNeeded));
    };
    if before == external {
        return Ok(None);
    }
    tx.set_external_collaborator(organization, account.id, external).await?;
    let details = vec![
        ("account", account.name.as_str().to_owned()),
        ("before", in_words(before)),
        ("after", in_words(external)),
    ];
    tx.audit(audited(visit, Some(organization), AuditAction::OrgSettingsSsoCollaborator, details)?, now)
        .await?;
    tx.commit(now).await?;
    Ok(None)
}

fn back(app: &App, place: &OrganizationVisit) -> Response {
    let done = Done::CollaboratorChanged.as_str();
    redirect(&app.page(&format!("/organizations/{}/settings/sso/users?done={done}", place.organization.name)))
}

/// `POST …/settings/sso/users/collaborators`: makes a member an external collaborator, or gives him another end.
pub async fn add_collaborator(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<CollaboratorForm>,
) -> Result<Response, Refusal> {
    plan_allows(&place.organization)?;
    let (account, until) = (form.account.trim(), form.until.trim());
    let (field, code) = match wanted(until, app.clock.now()) {
        None => ("until", ErrorCode::MembershipEndInvalid),
        Some(external) => match change(&app, &visit, &place, account, external).await? {
            None => return Ok(back(&app, &place)),
            Some(code) => ("account", code),
        },
    };
    let page = SsoUsersPage {
        typed: TypedCollaborator {
            account: account.chars().take(42).collect(),
            until: until.chars().take(10).collect(),
        },
        problems: Problems(vec![Problem::new(field, code)]),
        ..SsoUsersPage::load(&app, &visit, &place).await?
    };
    Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// `POST …/settings/sso/users/collaborators/remove`: he needs SSO as everybody. Taken under any plan: it lets nobody in.
pub async fn remove_collaborator(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<CollaboratorForm>,
) -> Result<Response, Refusal> {
    match change(&app, &visit, &place, form.account.trim(), ExternalCollaborator::No).await? {
        None => Ok(back(&app, &place)),
        Some(code) => Err(code.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m8_an_end_is_a_day_that_is_not_over_and_not_too_far_and_lasts_until_its_midnight() {
        // 2026-11-26 00:00:00 UTC.
        let now = Timestamp::from_seconds(1_795_651_200);
        let end = |text: &str| match wanted(text, now) {
            Some(ExternalCollaborator::Until(end)) => Some(end.seconds()),
            _ => None,
        };
        assert_eq!(wanted("", now), Some(ExternalCollaborator::Yes));
        assert_eq!(end("2026-11-26"), Some(1_795_651_200 + 86_400));
        for text in ["2026-11-25", "2026-02-30", "26.11.2026", "tomorrow", "9999-12-31", "2037-01-01", "-1"] {
            assert_eq!(wanted(text, now), None, "{text}");
        }
        let until = ExternalCollaborator::Until(Timestamp::from_seconds(1_795_651_200 + 86_400));
        assert_eq!(in_words(until), "until 2026-11-26");
    }
}
