//! A first link that needs a decision: whose identity, which account, why not by itself, and what to do.
//!
//! In: what the callback has held for this browser, or the request that this account has made. Out: the page, and the
//! question to the admins. Never here: the decision (`sso/linking.rs`).
//! Invariant: the question is about what the page has shown: its handle names one trip's identity (conformance.md V37).

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::TokenHash;
use http::StatusCode;
use serde::Deserialize;

use super::sso::by;
use super::sso_settings::IdentityShown;
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::sso::linking::{Asked, Link, ask, held_is_current, judge_link, may_be_approved};
use crate::store::{
    HeldIdentity, Purpose, REQUEST_LIFETIME, load_connection, load_emails, load_held, load_link_request_of,
};
use crate::web::access::{link_page, redirect, sso_page};
use crate::web::page::{Done, Fault, Frame, Moment, host_of, show_with};
use crate::web::visit::{OrganizationVisit, Visit};

/// Where the question stands.
#[derive(Clone, Debug)]
pub enum Question {
    /// It can be asked; the handle names what is held.
    Open {
        /// For the form.
        handle: String,
    },
    /// The admins were asked.
    Waiting {
        /// When.
        since: Moment,
        /// When it is forgotten.
        until: Moment,
    },
}

/// `/organizations/ORG/sso/link`.
#[derive(Template, Clone, Debug)]
#[template(path = "sso_link.html")]
pub struct SsoLinkPage {
    /// The frame.
    pub frame: Frame,
    /// The organization's name.
    pub organization: String,
    /// What it is called on pages.
    pub display_name: String,
    /// Whom the provider named.
    pub identity: IdentityShown,
    /// The provider's host.
    pub provider_host: String,
    /// The account that went.
    pub account: String,
    /// Its proved addresses.
    pub addresses: Vec<String>,
    /// Why it does not link by itself.
    pub fault: Fault,
    /// Where the question stands.
    pub question: Question,
    /// Starts single sign-on once more.
    pub again: String,
}

impl SsoLinkPage {
    /// Another identity of this provider is linked to the account.
    fn replaces(&self) -> bool {
        self.fault.code == ErrorCode::SsoAccountLinkedElsewhere
    }
}

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
pub struct LinkQuery {
    #[serde(default)]
    held: String,
}

/// `GET /organizations/ORG/sso/link`.
pub async fn show_link(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Query(query): Query<LinkQuery>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let organization = place.organization.id;
    let now = app.clock.now();
    let mut reader = app.store.reader();
    let session = signed_in.session().map(|session| session.id);
    let mut held = None;
    if let (Some(session), false) = (session, query.held.is_empty()) {
        let handle = TokenHash::of(&query.held);
        held = load_held(&mut reader, organization, handle, session, Purpose::SignIn, now).await?;
    }
    if held.is_none() {
        let request = load_link_request_of(&mut reader, organization, signed_in.account.id, now).await?;
        held = request.map(|request| request.held);
    }
    let held = held.ok_or_else(|| over(&app, &place))?;
    let connection = load_connection(&mut reader, organization).await?.ok_or_else(|| over(&app, &place))?;
    if !held_is_current(&mut reader, &connection, &held).await? {
        return Err(over(&app, &place));
    }
    let again = sso_page(&app, place.organization.name.as_str(), &held.next);
    let link =
        judge_link(&mut reader, &connection, &held.identity, held.doubts, signed_in.account.id).await?;
    let finding = match link {
        // An address was proved meanwhile, or an admin was quicker.
        Link::Linked | Link::WouldLink => return Ok(redirect(&again)),
        Link::WouldNot(finding) => finding,
    };
    if held.requested_at.is_none() && !may_be_approved(finding.code) {
        return Err(Refusal::of(&finding).with_action("Start again", again));
    }
    let proved = load_emails(&mut reader, signed_in.account.id).await?;
    let proved = proved.into_iter().filter(|email| email.proved_at.is_some());
    let status = match held.requested_at {
        Some(_) => StatusCode::OK,
        None => StatusCode::from_u16(finding.code.status()).unwrap_or(StatusCode::FORBIDDEN),
    };
    Ok(show_with(
        status,
        &SsoLinkPage {
            frame: Frame::of(&app, &visit),
            organization: place.organization.name.as_str().to_owned(),
            display_name: place.organization.display_name.clone(),
            provider_host: host_of(&held.identity.issuer).unwrap_or_else(|| "your provider".to_owned()),
            identity: shown(&held),
            account: signed_in.account.name().to_owned(),
            addresses: proved.map(|email| email.address).collect(),
            fault: Fault::from(&finding),
            question: match held.requested_at {
                None => Question::Open { handle: query.held },
                Some(at) => Question::Waiting { since: at.into(), until: at.plus(REQUEST_LIFETIME).into() },
            },
            again,
        },
    ))
}

/// Whom the provider named.
pub(super) fn shown(held: &HeldIdentity) -> IdentityShown {
    let identity = &held.identity;
    IdentityShown {
        display_name: identity.display_name.clone().unwrap_or_default(),
        email: identity.email.clone().unwrap_or_default(),
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
    }
}

fn over(app: &App, place: &OrganizationVisit) -> Refusal {
    let again = sso_page(app, place.organization.name.as_str(), &app.page("/"));
    Refusal::new(ErrorCode::SsoLinkOver).with_action("Complete single sign-on", again)
}

/// The form "Ask an admin to approve".
#[derive(Debug, Deserialize)]
pub struct AskForm {
    #[serde(default)]
    held: String,
}

/// `POST /organizations/ORG/sso/link`: asks the admins to approve what the page has shown.
pub async fn ask_admins(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<AskForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    let name = organization.name.as_str();
    let handle = TokenHash::of(&form.held);
    let asked = ask(&app, organization, visit.account()?, handle, &by(&visit)?).await;
    let asked = asked.map_err(|reason| {
        let again = sso_page(&app, name, &app.page("/"));
        Refusal::from(reason).with_action("Complete single sign-on", again)
    })?;
    Ok(redirect(&match asked {
        Asked::Waiting => format!("{}?done={}", link_page(&app, name, None), Done::LinkRequested.as_str()),
        Asked::NotNeeded(next) => sso_page(&app, name, &next),
    }))
}
