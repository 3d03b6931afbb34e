//! Members and their roles, invitations by link, and leaving.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::AccountId;
use doorward_core::membership::Role;
use doorward_core::time::Timestamp;
use http::StatusCode;
use serde::Deserialize;

use super::audited;
use super::join_link::{JoinLinkCard, join_link_card, join_roles};
use super::link_requests::{LinkLine, RequestLine, load_requests};
use super::sso::by;
use crate::app::{App, SharedApp};
use crate::joining::{Wish, invite as make_invitation, link_path, revoke};
use crate::refusal::Refusal;
use crate::sso::enable::NotDone;
use crate::store::{
    SEARCH_CHARS_MAX, Transaction, count_members, count_other_admins, load_account_by_name,
    load_member_links, load_members, load_open_invitations, load_role, owes_sso,
};
use crate::web::access::{must_be_able_to_widen, query as query_string, redirect, sso_page};
use crate::web::page::{
    Done, Frame, Moment, OrganizationHead, Problem, Problems, Tab, counted, role_label, show, show_with,
};
use crate::web::visit::{OrganizationVisit, Visit};

/// Members on one page.
const PAGE: usize = 50;

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

/// An invitation that still works.
#[derive(Clone, Debug)]
pub struct InvitationLine {
    /// Its id.
    pub id: String,
    /// The role that it gives.
    pub role: Role,
    /// The only account that may use it.
    pub account: Option<String>,
    /// How many people may still use it.
    pub uses_left: i64,
    /// Who made it.
    pub created_by: String,
    /// When it stops working.
    pub expires_at: Moment,
}

impl InvitationLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn room(&self) -> String {
        counted(self.uses_left, "person", "people")
    }
}

/// What was typed into the forms of the page, to be shown again.
#[derive(Clone, Default, Debug)]
pub struct Typed {
    /// The account to be added.
    pub account: String,
    /// The account to be invited.
    pub invite_account: String,
    /// How many people may use the invitation.
    pub invite_uses: String,
    /// How many people may use the join link.
    pub join_uses: String,
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
    /// How many there are in all, or that the search finds.
    pub total: i64,
    /// What is searched for; empty: nothing.
    pub search: String,
    /// Not the first page.
    pub is_later_page: bool,
    /// Where the next page begins.
    pub next_after: Option<String>,
    /// First links that wait for an admin; for admins alone.
    pub link_requests: Vec<RequestLine>,
    /// Invitations that are not used up yet; for admins.
    pub invitations: Vec<InvitationLine>,
    /// Invitations by link don't work: the organization uses SSO.
    pub invitations_off: bool,
    /// The SSO join link, for an admin who may see it.
    pub join_link: Option<JoinLinkCard>,
    /// As typed before.
    pub typed: Typed,
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

    fn join_roles() -> Vec<RoleChoice> {
        join_roles()
    }

    /// The query of the next page.
    fn next_query(&self) -> Option<String> {
        let after = self.next_after.as_deref()?;
        let search = Some(("q", self.search.as_str())).filter(|(_, text)| !text.is_empty());
        Some(query_string(&search.into_iter().chain([("after", after)]).collect::<Vec<_>>()))
    }
}

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
pub struct MembersQuery {
    /// The name after which the page begins.
    #[serde(default)]
    after: String,
    /// What is searched for, in names.
    #[serde(default)]
    q: String,
}

async fn members_page(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    query: &MembersQuery,
    typed: Typed,
    problems: Problems,
) -> Result<MembersPage, Refusal> {
    let own = visit.account()?.account.id;
    let organization = place.organization.id;
    let now = app.clock.now();
    let mut reader = app.store.reader();
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    // Who may see nothing of the organization sees himself, so that he can leave: his own name is the first that begins
    // with it.
    let sees_others = place.role >= Role::Read;
    let search = if sees_others { query.q.trim() } else { visit.account()?.account.name() };
    let search: String = search.chars().take(SEARCH_CHARS_MAX).collect();
    let after = if sees_others { query.after.to_ascii_lowercase() } else { String::new() };
    let mut members = load_members(&mut reader, organization, &search, &after, limit).await?;
    let more = members.len() > PAGE;
    members.truncate(PAGE);
    let (mut links, mut link_requests) = (Vec::new(), Vec::new());
    if let (Role::Admin, Some(first), Some(last)) = (place.role, members.first(), members.last()) {
        links = load_member_links(&mut reader, organization, first.name.key(), last.name.key()).await?;
        link_requests = load_requests(&mut reader, app, visit, place).await?;
    }
    if !sees_others {
        members.retain(|member| member.account == own);
    }
    let is_admin = place.role == Role::Admin;
    let invitations = if is_admin {
        load_open_invitations(&mut reader, organization, app.clock.now()).await?
    } else {
        Vec::new()
    };
    Ok(MembersPage {
        frame: Frame::of(app, visit),
        organization: OrganizationHead::of(place),
        tab: Tab::Members,
        next_after: members.last().filter(|_| more && sees_others).map(|member| member.name.key().to_owned()),
        total: if sees_others { count_members(&mut reader, organization, &search).await? } else { 1 },
        members: members
            .into_iter()
            .map(|member| MemberLine {
                name: member.name.as_str().to_owned(),
                full_name: member.full_name,
                role: member.role,
                external_collaborator: member.external_collaborator.spares(now),
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
        search: if sees_others { search } else { String::new() },
        is_later_page: !after.is_empty(),
        invitations: invitations
            .into_iter()
            .map(|invitation| InvitationLine {
                id: invitation.id.to_string(),
                role: invitation.role,
                account: invitation.account.map(|(_, name)| name),
                uses_left: invitation.uses_left,
                created_by: invitation.created_by_name,
                expires_at: invitation.expires_at.into(),
            })
            .collect(),
        invitations_off: place.facts.sso.is_some(),
        join_link: join_link_card(app, place, typed.join_uses.clone()).await?,
        typed,
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
    let page = members_page(&app, &visit, &place, &query, Typed::default(), Problems::default()).await?;
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
pub(super) async fn again(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    typed: Typed,
    problem: Problem,
) -> Result<Response, Refusal> {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let page =
        members_page(app, visit, place, &MembersQuery::default(), typed, Problems(vec![problem])).await?;
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
    now: Timestamp,
) -> Result<(), Refusal> {
    if count_other_admins(tx, place.organization.id, account, now).await? > 0 {
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
    let problem = |field, code| {
        let typed = Typed { account: typed.to_owned(), ..Typed::default() };
        again(&app, &visit, &place, typed, Problem::new(field, code))
    };
    let Ok(role) = form.role.parse::<Role>() else {
        return problem("role", ErrorCode::MembershipRoleUnknown).await;
    };
    let Some(account) = load_account_by_name(&mut app.store.reader(), typed).await? else {
        return problem("account", ErrorCode::MembershipAccountUnknown).await;
    };
    may_make(&app, &visit, &place, role)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by(&visit)?.lock_as_admin(&mut tx, organization, now).await??;
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
    by(&visit)?.lock_as_admin(&mut tx, organization, now).await??;
    let before = load_role(&mut tx, organization, account.id).await?.ok_or(ErrorCode::MembershipMissing)?;
    if before == Role::Admin
        && role != Role::Admin
        && let Err(refusal) = keep_an_admin(&mut tx, &place, account.id, now).await
    {
        drop(tx);
        return again(&app, &visit, &place, Typed::default(), Problem::new("", refusal.code)).await;
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
    if action == AuditAction::OrgRemoveUser {
        by(visit)?.lock_as_admin(&mut tx, organization, now).await??;
    } else {
        tx.lock_organization(organization).await?;
        let session = visit.account()?.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
        if !tx.browser_session_counts(session, account).await? {
            return Err(ErrorCode::AccountSignInNeeded.into());
        }
    }
    let role = load_role(&mut tx, organization, account).await?.ok_or(ErrorCode::MembershipMissing)?;
    if role == Role::Admin {
        // Whoever became an admin while the lock was waited for leaves as an admin does, or not at all.
        let session = visit.account()?.session().map(|session| session.id);
        if action == AuditAction::OrgLeave && owes_sso(&mut tx, organization, session, now).await? {
            return Err(ErrorCode::SettingsSsoNeeded.into());
        }
        keep_an_admin(&mut tx, place, account, now).await?;
    }
    tx.delete_membership(organization, account, now).await?;
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
            again(&app, &visit, &place, Typed::default(), Problem::new("", refusal.code)).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// A new invitation's link, which is shown this once.
#[derive(Template, Clone, Debug)]
#[template(path = "invitation_made.html")]
pub struct InvitationMadePage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The whole address.
    pub url: String,
    /// The role that it gives.
    pub role: Role,
    /// The only account that may use it; empty: whoever holds it.
    pub account: String,
    /// How many people may use it.
    pub uses: i64,
}

impl InvitationMadePage {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn room(&self) -> String {
        counted(self.uses, "person", "people")
    }
}

/// The forms that make an invitation and take one back.
#[derive(Debug, Deserialize)]
pub struct InvitationForm {
    #[serde(default)]
    role: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    uses: String,
    #[serde(default)]
    invitation: String,
}

/// `POST …/settings/members/invitations`: shows the link once.
pub async fn invite(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<InvitationForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    let role = form.role.parse::<Role>().map_err(|_| ErrorCode::MembershipRoleUnknown)?;
    may_make(&app, &visit, &place, role)?;
    let wish = Wish {
        role,
        account: form.account.trim().to_owned(),
        // A number that can't be read is judged as one that can't be used.
        uses: if form.uses.trim().is_empty() { 1 } else { form.uses.trim().parse().unwrap_or(0) },
    };
    let (now, by) = (app.clock.now(), by(&visit)?);
    let token = match make_invitation(&app.store, &app.random, organization, &wish, &by, now).await {
        Ok(token) => token,
        Err(NotDone::Refused(code)) => {
            let field = match code {
                ErrorCode::JoinUsesInvalid => "invite_uses",
                ErrorCode::JoinAccountNeeded
                | ErrorCode::MembershipAccountUnknown
                | ErrorCode::MembershipExists => "invite_account",
                ErrorCode::JoinInvitationsOff | ErrorCode::JoinTooMany => "",
                // The page is not his any more.
                _ => return Err(code.into()),
            };
            let typed = Typed { invite_account: wish.account, invite_uses: form.uses, ..Typed::default() };
            return again(&app, &visit, &place, typed, Problem::new(field, code)).await;
        }
        Err(reason) => return Err(reason.into()),
    };
    let path = link_path(organization.name.as_str(), &token);
    Ok(show(&InvitationMadePage {
        frame: Frame::of(&app, &visit),
        organization: OrganizationHead::of(&place),
        tab: Tab::Members,
        url: app.configuration.base_url.join(&path),
        role,
        account: wish.account,
        uses: wish.uses,
    }))
}

/// `POST …/settings/members/invitations/revoke`.
pub async fn revoke_invitation(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<InvitationForm>,
) -> Result<Response, Refusal> {
    let id = form.invitation.parse().map_err(|_| ErrorCode::JoinInvitationMissing)?;
    let revoked = revoke(&app.store, &place.organization, id, &by(&visit)?, app.clock.now()).await;
    match revoked {
        Ok(()) => Ok(back(&app, &place, Done::InvitationRevoked)),
        Err(NotDone::Refused(code @ ErrorCode::JoinInvitationMissing)) => {
            again(&app, &visit, &place, Typed::default(), Problem::new("", code)).await
        }
        Err(reason) => Err(reason.into()),
    }
}

/// `/organizations/ORG/leave`: says what will happen.
#[derive(Template, Clone, Debug)]
#[template(path = "leave.html")]
pub struct LeavePage {
    /// The frame.
    pub frame: Frame,
    /// The organization's name.
    pub organization: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The role that ends.
    pub role: Role,
    /// Nobody else could change the settings afterwards: it is refused.
    pub is_last_admin: bool,
    /// The organization uses SSO.
    pub has_sso: bool,
}

impl LeavePage {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// `GET /organizations/ORG/leave`.
pub async fn show_leave(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let account = visit.account()?.account.id;
    let is_admin = place.role == Role::Admin;
    let others =
        count_other_admins(&mut app.store.reader(), place.organization.id, account, app.clock.now()).await?;
    Ok(show(&LeavePage {
        frame: Frame::of(&app, &visit),
        organization: place.organization.name.as_str().to_owned(),
        display_name: place.organization.display_name.clone(),
        role: place.role,
        is_last_admin: is_admin && others == 0,
        has_sso: place.facts.sso.is_some(),
    }))
}

/// `POST /organizations/ORG/leave`.
pub async fn leave(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let account = &visit.account()?.account;
    let members = app.page(&format!("/organizations/{}/settings/members", place.organization.name));
    end_membership(&app, &visit, &place, (account.id, account.name()), AuditAction::OrgLeave)
        .await
        .map_err(|refusal| refusal.with_action("Back to the members", members))?;
    Ok(redirect(&app.page(&format!("/?done={}", Done::Left.as_str()))))
}
