//! The admins' side of first links: the questions on the members page, and what is linked to whom.
//!
//! In: the requests that members have made. Out: lines for the members page, and the forms that decide (rule 12: a link
//! rule widens entry). Never here: the decision itself (`sso/linking.rs`).

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::TokenHash;
use serde::Deserialize;

use super::sso::by;
use super::sso_link::shown;
use super::sso_settings::IdentityShown;
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::sso::enable::NotDone;
use crate::sso::linking::{Chosen, Link, approve, judge_by, may_be_approved, refuse, unlink};
use crate::store::{MemberLink, Reader, load_account_by_name, load_connection, load_link_requests};
use crate::web::access::redirect;
use crate::web::page::{Done, Moment, host_of};
use crate::web::visit::{OrganizationVisit, Visit};

/// One question: whether an identity is a member's.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// The account's name.
    pub account: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// Whom the provider named.
    pub identity: IdentityShown,
    /// Why it is not linked by itself; `None`: it would be now.
    pub why: Option<ErrorCode>,
    /// When the member asked.
    pub asked_at: Moment,
    /// What the forms name: the request that is shown, and no other.
    pub request: String,
    /// The visitor's own: another admin decides.
    pub is_own: bool,
}

impl RequestLine {
    /// Whether pressing "Approve" can do anything.
    pub fn may_be_approved(&self) -> bool {
        !self.is_own && self.why.is_none_or(may_be_approved)
    }

    /// Whether it takes the place of another identity.
    pub fn replaces(&self) -> bool {
        self.why == Some(ErrorCode::SsoAccountLinkedElsewhere)
    }
}

/// Whom a member is linked to.
#[derive(Clone, Debug)]
pub struct LinkLine {
    /// The address at the provider, or the key where there is none.
    pub who: String,
    /// The provider's host.
    pub provider_host: String,
    /// Since when.
    pub since: Moment,
    /// Who approved it; empty where the address made it.
    pub approved_by: String,
}

impl From<MemberLink> for LinkLine {
    fn from(link: MemberLink) -> Self {
        Self {
            who: link.email.unwrap_or(link.subject),
            provider_host: host_of(&link.issuer).unwrap_or(link.issuer),
            since: link.linked_at.into(),
            approved_by: link.approved_by.unwrap_or_default(),
        }
    }
}

/// The questions that wait, the oldest first, as the visitor may decide on them.
pub(super) async fn load_requests(
    reader: &mut Reader,
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
) -> Result<Vec<RequestLine>, Refusal> {
    let own = visit.account()?.account.id;
    let requests = load_link_requests(reader, place.organization.id, app.clock.now()).await?;
    let Some(connection) = load_connection(reader, place.organization.id).await? else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::with_capacity(requests.len());
    for (request, facts) in requests {
        let held = &request.held;
        let link = judge_by(&facts, connection.guests_may_link, &held.identity, held.doubts, held.account);
        lines.push(RequestLine {
            account: request.account_name.as_str().to_owned(),
            full_name: request.full_name,
            identity: shown(held),
            why: match link {
                Link::Linked | Link::WouldLink => None,
                Link::WouldNot(finding) => Some(finding.code),
            },
            asked_at: held.requested_at.unwrap_or(held.created_at).into(),
            request: held.handle.to_text(),
            is_own: held.account == own,
        });
    }
    Ok(lines)
}

/// The forms of a question, and of a link.
#[derive(Debug, Deserialize)]
pub struct DecisionForm {
    #[serde(default)]
    account: String,
    #[serde(default)]
    request: String,
}

fn members_page(app: &App, place: &OrganizationVisit) -> String {
    app.page(&format!("/organizations/{}/settings/members", place.organization.name))
}

fn done(app: &App, place: &OrganizationVisit, done: Done) -> Response {
    redirect(&format!("{}?done={}", members_page(app, place), done.as_str()))
}

async fn chosen(app: &App, form: &DecisionForm) -> Result<Chosen, NotDone> {
    let account = load_account_by_name(&mut app.store.reader(), form.account.trim()).await?;
    let account = account.ok_or(ErrorCode::SsoLinkOver)?;
    let request = TokenHash::from_text(&form.request).ok_or(ErrorCode::SsoLinkOver)?;
    Ok(Chosen { account, request: Some(request), subject: None })
}

/// `POST …/settings/members/links/approve`.
pub async fn approve_link(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<DecisionForm>,
) -> Result<Response, Refusal> {
    let approver = visit.account()?.account.id;
    let by = by(&visit)?;
    let approved = async {
        let chosen = chosen(&app, &form).await?;
        approve(&app, &place.organization, &chosen, Some(approver), &by).await
    };
    approved.await.map_err(|reason| back(&app, &place, reason))?;
    Ok(done(&app, &place, Done::LinkApproved))
}

/// `POST …/settings/members/links/refuse`.
pub async fn refuse_link(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<DecisionForm>,
) -> Result<Response, Refusal> {
    let by = by(&visit)?;
    let refused = async {
        let chosen = chosen(&app, &form).await?;
        refuse(&app, &place.organization, &chosen, &by).await
    };
    refused.await.map_err(|reason| back(&app, &place, reason))?;
    Ok(done(&app, &place, Done::LinkRefused))
}

/// `POST …/settings/members/links/remove`: unlinks a member, and ends his SSO sessions of this organization.
pub async fn remove_link(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<DecisionForm>,
) -> Result<Response, Refusal> {
    let account = load_account_by_name(&mut app.store.reader(), form.account.trim()).await?;
    let unlinked = match account {
        None => Err(ErrorCode::SsoNotLinked.into()),
        Some(account) => unlink(&app, &place.organization, &account, &by(&visit)?).await,
    };
    unlinked.map_err(|reason| back(&app, &place, reason))?;
    Ok(done(&app, &place, Done::LinkRemoved))
}

fn back(app: &App, place: &OrganizationVisit, reason: NotDone) -> Refusal {
    Refusal::from(reason).with_action("Back to the members", members_page(app, place))
}
