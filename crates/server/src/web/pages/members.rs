//! Members and their roles.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::AccountId;
use doorward_core::membership::Role;
use http::StatusCode;
use serde::Deserialize;

use super::audited;
use super::link_requests::{LinkLine, RequestLine, load_requests};
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::store::{
    Transaction, count_members, load_account_by_name, load_member_links, load_members, load_role,
};
use crate::web::access::{must_be_able_to_widen, redirect, sso_page};
use crate::web::page::{
    Done, Frame, OrganizationHead, Problem, Problems, Tab, counted, role_label, show, show_with,
};
use crate::web::visit::{OrganizationVisit, Visit};

/// Members on one page.
const PAGE: usize = 100;

/// One member.
#[derive(Clone, Debug)]
pub struct MemberLine {
    /// The account's name.
    pub name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The role.
    pub role: Role,
    /// Reaches the organization without SSO.
    pub external_collaborator: bool,
    /// The account that looks.
    pub is_self: bool,
    /// The provider's identities that are linked to it; for admins alone.
    pub links: Vec<LinkLine>,
}

impl MemberLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// A choice in a list of roles.
#[derive(Clone, Copy, Debug)]
pub struct RoleChoice {
    /// The role.
    pub role: Role,
    /// In words.
    pub label: &'static str,
}

/// The roles, for a list.
pub fn role_choices() -> Vec<RoleChoice> {
    Role::ALL.into_iter().map(|role| RoleChoice { role, label: role_label(role) }).collect()
}

/// `/organizations/ORG/settings/members`.
#[derive(Template, Clone, Debug)]
#[template(path = "members.html")]
pub struct MembersPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The members of this page, by name.
    pub members: Vec<MemberLine>,
    /// How many there are in all.
    pub total: i64,
    /// Where the next page begins.
    pub next_after: Option<String>,
    /// First links that wait for an admin; for admins alone.
    pub link_requests: Vec<RequestLine>,
    /// As typed in the form that adds.
    pub add_account: String,
    /// Mistakes: `account`, `role`, or of the page as a whole.
    pub problems: Problems,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
}

impl MembersPage {
    fn may_change(&self) -> bool {
        self.organization.role == Role::Admin
    }

    fn counted(&self) -> String {
        counted(self.total, "member", "members")
    }

    fn roles() -> Vec<RoleChoice> {
        role_choices()
    }
}

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
pub struct MembersQuery {
    /// The name after which the page begins.
    #[serde(default)]
    after: String,
}

async fn members_page(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    after: &str,
    add_account: String,
    problems: Problems,
) -> Result<MembersPage, Refusal> {
    let own = visit.account()?.account.id;
    let organization = place.organization.id;
    let mut reader = app.store.reader();
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut members = load_members(&mut reader, organization, &after.to_ascii_lowercase(), limit).await?;
    let more = members.len() > PAGE;
    members.truncate(PAGE);
    let (mut links, mut link_requests) = (Vec::new(), Vec::new());
    if let (Role::Admin, Some(first), Some(last)) = (place.role, members.first(), members.last()) {
        links = load_member_links(&mut reader, organization, first.name.key(), last.name.key()).await?;
        link_requests = load_requests(&mut reader, app, visit, place).await?;
    }
    // Who may see nothing of the organization sees himself, so that he can leave.
    if place.role < Role::Read {
        members.retain(|member| member.account == own);
    }
    Ok(MembersPage {
        frame: Frame::of(app, visit),
        organization: OrganizationHead::of(place),
        tab: Tab::Members,
        next_after: members
            .last()
            .filter(|_| more && place.role >= Role::Read)
            .map(|member| member.name.key().to_owned()),
        total: if place.role < Role::Read { 1 } else { count_members(&mut reader, organization).await? },
        members: members
            .into_iter()
            .map(|member| MemberLine {
                name: member.name.as_str().to_owned(),
                full_name: member.full_name,
                role: member.role,
                external_collaborator: member.external_collaborator,
                is_self: member.account == own,
                links: links
                    .iter()
                    .filter(|l| l.account == member.account)
                    .cloned()
                    .map(Into::into)
                    .collect(),
            })
            .collect(),
        link_requests,
        add_account,
        problems,
        same_host_trusted: app.configuration.shares_host_with_application(),
    })
}

/// `GET /organizations/ORG/settings/members`: for every member, behind the organization's SSO as anything private.
pub async fn show_members(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Query(query): Query<MembersQuery>,
) -> Result<Response, Refusal> {
    let owed = !place.may_widen() && !place.external_collaborator;
    if place.facts.sso == Some(Enforcement::Enforced) && owed {
        return Ok(redirect(&sso_page(&app, place.organization.name.as_str(), &visit.target)));
    }
    let page = members_page(&app, &visit, &place, &query.after, String::new(), Problems::default()).await?;
    Ok(show(&page))
}

/// The forms of this page.
#[derive(Debug, Deserialize)]
pub struct MemberForm {
    #[serde(default)]
    account: String,
    #[serde(default)]
    role: String,
}

fn back(app: &App, place: &OrganizationVisit, done: Done) -> Response {
    let page = format!("/organizations/{}/settings/members?done={}", place.organization.name, done.as_str());
    redirect(&app.page(&page))
}

/// The page again with what was wrong.
async fn again(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    typed: String,
    problem: Problem,
) -> Result<Response, Refusal> {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let page = members_page(app, visit, place, "", typed, Problems(vec![problem])).await?;
    Ok(show_with(status, &page))
}

/// Making somebody an admin widens entry: it needs the live SSO and a fresh login (rule 12).
fn may_make(app: &App, visit: &Visit, place: &OrganizationVisit, role: Role) -> Result<(), Refusal> {
    if role == Role::Admin { must_be_able_to_widen(app, visit, place, "/settings/members") } else { Ok(()) }
}

/// Refuses what would leave the organization without an admin. The organization is locked.
async fn keep_an_admin(
    tx: &mut Transaction,
    place: &OrganizationVisit,
    account: AccountId,
) -> Result<(), Refusal> {
    if tx.count_other_admins(place.organization.id, account).await? > 0 {
        Ok(())
    } else {
        Err(ErrorCode::OrganizationLastAdmin.into())
    }
}

/// `POST …/settings/members`: adds an account by its name.
pub async fn add(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<MemberForm>,
) -> Result<Response, Refusal> {
    let organization = place.organization.id;
    let typed = form.account.trim();
    let problem = |field, code| again(&app, &visit, &place, typed.to_owned(), Problem::new(field, code));
    let Ok(role) = form.role.parse::<Role>() else {
        return problem("role", ErrorCode::MembershipRoleUnknown).await;
    };
    let Some(account) = load_account_by_name(&mut app.store.reader(), typed).await? else {
        return problem("account", ErrorCode::MembershipAccountUnknown).await;
    };
    may_make(&app, &visit, &place, role)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization).await?;
    if load_role(&mut tx, organization, account.id).await?.is_some() {
        drop(tx);
        return problem("account", ErrorCode::MembershipExists).await;
    }
    tx.set_role(organization, account.id, role, now).await?;
    let details = vec![("account", account.name.as_str().to_owned()), ("role", role.as_str().to_owned())];
    tx.audit(audited(&visit, Some(organization), AuditAction::OrgAddUser, details)?, now).await?;
    tx.commit(now).await?;
    Ok(back(&app, &place, Done::MemberAdded))
}

/// `POST …/settings/members/role`.
pub async fn change_role(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<MemberForm>,
) -> Result<Response, Refusal> {
    let organization = place.organization.id;
    let role: Role = form.role.parse().map_err(|_| ErrorCode::MembershipRoleUnknown)?;
    let account = load_account_by_name(&mut app.store.reader(), form.account.trim()).await?;
    let account = account.ok_or(ErrorCode::MembershipMissing)?;
    may_make(&app, &visit, &place, role)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization).await?;
    let before = load_role(&mut tx, organization, account.id).await?.ok_or(ErrorCode::MembershipMissing)?;
    if before == Role::Admin
        && role != Role::Admin
        && let Err(refusal) = keep_an_admin(&mut tx, &place, account.id).await
    {
        drop(tx);
        return again(&app, &visit, &place, String::new(), Problem::new("", refusal.code)).await;
    }
    if before != role {
        tx.set_role(organization, account.id, role, now).await?;
        let details = vec![
            ("account", account.name.as_str().to_owned()),
            ("before", before.as_str().to_owned()),
            ("after", role.as_str().to_owned()),
        ];
        tx.audit(audited(&visit, Some(organization), AuditAction::OrgChangeRole, details)?, now).await?;
        tx.commit(now).await?;
    }
    Ok(back(&app, &place, Done::RoleChanged))
}

/// Ends a membership with all that it opened, unless it is the last admin's.
async fn end_membership(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    (account, name): (AccountId, &str),
    action: AuditAction,
) -> Result<(), Refusal> {
    let organization = place.organization.id;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization).await?;
    let role = load_role(&mut tx, organization, account).await?.ok_or(ErrorCode::MembershipMissing)?;
    if role == Role::Admin {
        keep_an_admin(&mut tx, place, account).await?;
    }
    tx.delete_membership(organization, account).await?;
    let mut details = vec![("account", name.to_owned())];
    if action == AuditAction::OrgRemoveUser {
        details.push(("role", role.as_str().to_owned()));
    }
    tx.audit(audited(visit, Some(organization), action, details)?, now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// `POST …/settings/members/remove`.
pub async fn remove(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<MemberForm>,
) -> Result<Response, Refusal> {
    let account = load_account_by_name(&mut app.store.reader(), form.account.trim()).await?;
    let account = account.ok_or(ErrorCode::MembershipMissing)?;
    let who = (account.id, account.name.as_str());
    match end_membership(&app, &visit, &place, who, AuditAction::OrgRemoveUser).await {
        Ok(()) => Ok(back(&app, &place, Done::MemberRemoved)),
        Err(refusal) if refusal.code == ErrorCode::OrganizationLastAdmin => {
            again(&app, &visit, &place, String::new(), Problem::new("", refusal.code)).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// `POST /organizations/ORG/leave`.
pub async fn leave(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let account = &visit.account()?.account;
    let members = app.page(&format!("/organizations/{}/settings/members", place.organization.name));
    end_membership(&app, &visit, &place, (account.id, &account.name), AuditAction::OrgLeave)
        .await
        .map_err(|refusal| refusal.with_action("Back to the members", members))?;
    Ok(redirect(&app.page(&format!("/?done={}", Done::Left.as_str()))))
}
