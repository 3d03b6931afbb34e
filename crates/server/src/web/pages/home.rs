//! Home: the account's organizations, each with its SSO and what to do about it (hub-sso.md M1, M3, M5).

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use doorward_core::connection::{Enforcement, sso_session_ends_at};
use doorward_core::membership::Role;
use doorward_core::time::Timestamp;

use crate::app::SharedApp;
use crate::refusal::Refusal;
use crate::session::SignedIn;
use crate::store::{MemberOrganization, load_organizations_of};
use crate::web::page::{Frame, Moment, role_label, show};
use crate::web::visit::Visit;

/// What SSO means for this account, in this browser, in one organization.
#[derive(Clone, Debug)]
pub enum HomeSso {
    /// The organization has none.
    Off,
    /// Done; holds until then.
    Complete(Moment),
    /// Needed and not done.
    Needed,
    /// Asked for and not done.
    Asked,
    /// Not needed: an external collaborator.
    Exempt,
}

/// One organization of the account.
#[derive(Clone, Debug)]
pub struct HomeOrganization {
    /// Its name.
    pub name: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The account's role.
    pub role: Role,
    /// Its SSO for this account in this browser.
    pub sso: HomeSso,
}

impl HomeOrganization {
    fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn is_open(&self) -> bool {
        matches!(self.sso, HomeSso::Needed | HomeSso::Asked)
    }

    /// A letter for the picture beside the name.
    fn initial(&self) -> String {
        self.display_name.chars().next().map_or_else(String::new, |c| c.to_uppercase().collect())
    }
}

/// `/`.
#[derive(Template, Clone, Debug)]
#[template(path = "home.html")]
pub struct HomePage {
    /// The frame.
    pub frame: Frame,
    /// The person's name, or the account's.
    pub greeting: String,
    /// The organizations.
    pub organizations: Vec<HomeOrganization>,
    /// Whether the account may make organizations.
    pub may_create: bool,
}

impl HomePage {
    /// Those whose SSO is needed and not done: the page asks for it first.
    fn needed(&self) -> Vec<&HomeOrganization> {
        self.organizations.iter().filter(|o| matches!(o.sso, HomeSso::Needed)).collect()
    }
}

fn sso_of(signed_in: &SignedIn, member: &MemberOrganization, now: Timestamp) -> HomeSso {
    let Some(enforcement) = member.sso else { return HomeSso::Off };
    let done = signed_in.session().and_then(|session| {
        session
            .sso
            .iter()
            .find(|sso| sso.organization == member.organization.id && sso.epoch() == member.epoch)
    });
    let ends_at =
        done.map(|sso| sso_session_ends_at(sso.authenticated_at(), member.organization.session_timeout));
    match ends_at {
        Some(ends_at) if now < ends_at => HomeSso::Complete(ends_at.into()),
        _ if member.external_collaborator.spares(now) => HomeSso::Exempt,
        _ if enforcement == Enforcement::Optional => HomeSso::Asked,
        _ => HomeSso::Needed,
    }
}

/// `GET /`.
pub async fn show_home(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let now = app.clock.now();
    let organizations = load_organizations_of(&mut app.store.reader(), signed_in.account.id).await?;
    let organizations = organizations
        .iter()
        .map(|member| HomeOrganization {
            name: member.organization.name.as_str().to_owned(),
            display_name: member.organization.display_name.clone(),
            role: member.role,
            sso: sso_of(signed_in, member, now),
        })
        .collect();
    let account = &signed_in.account;
    let greeting = if account.full_name().is_empty() { account.name() } else { account.full_name() };
    Ok(show(&HomePage {
        frame: Frame::of(&app, &visit),
        greeting: greeting.split_whitespace().next().unwrap_or_default().to_owned(),
        organizations,
        may_create: super::organization::may_create(&app, signed_in),
    }))
}
