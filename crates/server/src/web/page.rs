//! What every page has: the frame around it, moments for people, mistakes in a form, the tabs of an organization.
//!
//! A page is a typed struct with a template of the same name (`templates/NAME.html`); Askama escapes every value.
//! Never here: the store, decisions. Invariant: URLs begin with the frame's `base`, and nothing is inline, so
//! that the content security policy needs no exception. Read next: `assets.rs`, `pages/mod.rs`.

use askama::Template;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Finding;
use doorward_core::membership::Role;
use doorward_core::time::Timestamp;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use url::Url;

use super::assets::asset_version;
use super::pages::answer::{Action, ErrorPage};
use super::pages::sso_start::GoingOnPage;
use super::visit::{OrganizationVisit, Visit};
use crate::app::App;
use crate::refusal::Refusal;

/// What surrounds a page.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The path of `base_url` without a slash at its end; empty at the root.
    pub base: String,
    /// Name of the account that is signed in.
    pub account: Option<String>,
    /// What was just done, said at the top of the page.
    pub done: Option<Done>,
    /// The page appears on an application's host: it knows nobody, and its assets lie beside the hand-over.
    pub elsewhere: bool,
}

impl Frame {
    /// The frame around a page for this visit.
    pub fn of(app: &App, visit: &Visit) -> Self {
        let query = visit.target.split_once('?').map_or("", |(_, query)| query);
        let done = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "done");
        Self {
            base: app.page(""),
            account: visit.signed_in.as_ref().map(|signed_in| signed_in.account.name().to_owned()),
            done: done.and_then(|(_, word)| Done::from_text(&word)),
            elsewhere: false,
        }
    }

    /// The frame around a page that appears on an application's host.
    fn on_application_host(app: &App) -> Self {
        let base_url = &app.configuration.base_url;
        Self { base: base_url.join(""), account: None, done: None, elsewhere: true }
    }

    /// The address of an asset; it changes with the content, so browsers keep it for ever.
    pub fn asset(&self, name: &str) -> String {
        let beside = if self.elsewhere { "/.doorward" } else { self.base.as_str() };
        format!("{beside}/assets/{name}?v={}", asset_version(name))
    }
}

/// What the previous page did; carried in the address as `?done=…`, so that only these few words can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Something was saved.
    Saved,
    /// An organization was made.
    OrganizationCreated,
    /// A member was added.
    MemberAdded,
    /// A member's role is another one.
    RoleChanged,
    /// A member was removed.
    MemberRemoved,
    /// The account left an organization.
    Left,
    /// The password is another one.
    PasswordChanged,
    /// Sessions were ended.
    SessionsEnded,
    /// SSO is on.
    SsoEnabled,
    /// SSO is off.
    SsoDisabled,
    /// Enforcement is another one.
    EnforcementChanged,
    /// SSO was completed.
    SsoCompleted,
    /// The admins were asked to approve a first link.
    LinkRequested,
    /// A first link was approved.
    LinkApproved,
    /// A first link was refused.
    LinkRefused,
    /// A member was unlinked.
    LinkRemoved,
    /// A recovery code was used.
    Recovered,
    /// The account was signed out.
    SignedOut,
    /// An invitation was taken back.
    InvitationRevoked,
    /// There is a new SSO join link.
    JoinLinkMade,
    /// The SSO join link was turned off.
    JoinLinkOff,
    /// The account became a member.
    Joined,
    /// The account was deleted.
    AccountDeleted,
    /// Whether a member is an external collaborator is changed.
    CollaboratorChanged,
    /// An access token is over.
    TokenRevoked,
    /// An access token may reach an organization.
    TokenAuthorized,
    /// It may no longer.
    TokenAuthorizationRevoked,
}

impl Done {
    const ALL: [Self; 27] = [
        Self::Saved,
        Self::OrganizationCreated,
        Self::MemberAdded,
        Self::RoleChanged,
        Self::MemberRemoved,
        Self::Left,
        Self::PasswordChanged,
        Self::SessionsEnded,
        Self::SsoEnabled,
        Self::SsoDisabled,
        Self::EnforcementChanged,
        Self::SsoCompleted,
        Self::LinkRequested,
        Self::LinkApproved,
        Self::LinkRefused,
        Self::LinkRemoved,
        Self::Recovered,
        Self::SignedOut,
        Self::InvitationRevoked,
        Self::JoinLinkMade,
        Self::JoinLinkOff,
        Self::Joined,
        Self::AccountDeleted,
        Self::CollaboratorChanged,
        Self::TokenRevoked,
        Self::TokenAuthorized,
        Self::TokenAuthorizationRevoked,
    ];

    /// The word in the address.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::OrganizationCreated => "organization-created",
            Self::MemberAdded => "member-added",
            Self::RoleChanged => "role-changed",
            Self::MemberRemoved => "member-removed",
            Self::Left => "left",
            Self::PasswordChanged => "password-changed",
            Self::SessionsEnded => "sessions-ended",
            Self::SsoEnabled => "sso-enabled",
            Self::SsoDisabled => "sso-disabled",
            Self::EnforcementChanged => "enforcement-changed",
            Self::SsoCompleted => "sso-completed",
            Self::LinkRequested => "link-requested",
            Self::LinkApproved => "link-approved",
            Self::LinkRefused => "link-refused",
            Self::LinkRemoved => "link-removed",
            Self::Recovered => "recovered",
            Self::SignedOut => "signed-out",
            Self::InvitationRevoked => "invitation-revoked",
            Self::JoinLinkMade => "join-link-made",
            Self::JoinLinkOff => "join-link-off",
            Self::Joined => "joined",
            Self::AccountDeleted => "account-deleted",
            Self::CollaboratorChanged => "collaborator-changed",
            Self::TokenRevoked => "token-revoked",
            Self::TokenAuthorized => "token-authorized",
            Self::TokenAuthorizationRevoked => "token-authorization-revoked",
        }
    }

    /// What that word stands for.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|done| done.as_str() == text)
    }

    /// The sentence on the page.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Saved => "Saved.",
            Self::OrganizationCreated => "The organization is made. You are its first admin.",
            Self::MemberAdded => "The account is a member now.",
            Self::RoleChanged => "The role is changed.",
            Self::MemberRemoved => "The member is removed; what the membership opened is closed.",
            Self::Left => "You have left the organization.",
            Self::PasswordChanged => {
                "Your password is changed. Your other sessions and your access tokens have ended."
            }
            Self::SessionsEnded => "Ended.",
            Self::SsoEnabled => "Single sign-on is enabled.",
            Self::SsoDisabled => "Single sign-on is disabled. Its settings are kept.",
            Self::EnforcementChanged => "Enforcement is changed.",
            Self::SsoCompleted => "Single sign-on is complete.",
            Self::LinkRequested => "The admins are asked.",
            Self::LinkApproved => "The link is made. The member's next single sign-on simply works.",
            Self::LinkRefused => "The link is refused; the member may ask again.",
            Self::LinkRemoved => "The member is unlinked; the single sign-on sessions have ended.",
            Self::Recovered => {
                "The recovery code is used. For 60 minutes it stands in for single sign-on on these pages."
            }
            Self::SignedOut => "You are signed out.",
            Self::InvitationRevoked => "The invitation is taken back.",
            Self::JoinLinkMade => "The new SSO join link works now. An older one no longer does.",
            Self::JoinLinkOff => "The SSO join link is turned off.",
            Self::Joined => "You are a member now.",
            Self::AccountDeleted => "Your account is deleted.",
            Self::CollaboratorChanged => "The external collaborators are changed.",
            Self::TokenRevoked => "The token is revoked. Whatever still uses it is refused from now on.",
            Self::TokenAuthorized => "The token is authorised.",
            Self::TokenAuthorizationRevoked => "The authorisation is taken back.",
        }
    }
}

/// A point in time as a page shows it.
#[derive(Clone, Debug)]
pub struct Moment {
    /// For machines: `2026-11-25T18:08:19Z`.
    pub iso: String,
    /// For people: `25 Nov 2026, 18:08 UTC`.
    pub text: String,
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self { iso: at.to_string(), text: at.strftime("%-d %b %Y, %H:%M UTC").to_string() }
    }
}

/// One mistake in a form, or a refusal of all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The field's name, which is also its id; empty for the form as a whole.
    pub field: &'static str,
    /// What it is.
    pub code: ErrorCode,
    /// More about this case, in our own words; may be empty.
    pub detail: String,
}

impl Problem {
    /// A mistake in a field, with the words of its code.
    pub const fn new(field: &'static str, code: ErrorCode) -> Self {
        Self { field, code, detail: String::new() }
    }
}

/// The mistakes of a form, for the summary above it and for the text at each field.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One mistake in one field.
    pub fn one(field: &'static str, code: ErrorCode) -> Self {
        Self(vec![Problem::new(field, code)])
    }

    /// The mistake in that field.
    pub fn of(&self, field: &str) -> Option<&Problem> {
        self.0.iter().find(|problem| problem.field == field)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids that describe a field to a screen reader: its help text, and its mistake if there is one.
    pub fn described_by(&self, field: &str) -> String {
        let help = format!("{field}-help");
        if self.of(field).is_some() { format!("{field}-error {help}") } else { help }
    }
}

/// Which tab of an organization's settings is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tab {
    /// Its name on pages.
    General,
    /// Members and roles.
    Members,
    /// The connection to the identity provider.
    Sso,
    /// Session time-out and what concerns members at SSO.
    SsoUsers,
    /// Access tokens that reach it.
    Tokens,
    /// What was done by whom.
    AuditLog,
}

impl Tab {
    /// Below `/organizations/ORG`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::General => "/settings",
            Self::Members => "/settings/members",
            Self::Sso => "/settings/sso",
            Self::SsoUsers => "/settings/sso/users",
            Self::Tokens => "/settings/tokens",
            Self::AuditLog => "/settings/audit-log",
        }
    }

    /// On the tab.
    pub const fn label(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Members => "Members",
            Self::Sso => "SSO",
            Self::SsoUsers => "Users management",
            Self::Tokens => "Access tokens",
            Self::AuditLog => "Audit log",
        }
    }

    const ALL: [Self; 6] =
        [Self::General, Self::Members, Self::Sso, Self::SsoUsers, Self::Tokens, Self::AuditLog];
}

/// An organization above its settings pages.
#[derive(Clone, Debug)]
pub struct OrganizationHead {
    /// Its name, as created.
    pub name: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The role of the account that looks.
    pub role: Role,
}

impl OrganizationHead {
    /// Of the organization that is visited.
    pub fn of(place: &OrganizationVisit) -> Self {
        Self {
            name: place.organization.name.as_str().to_owned(),
            display_name: place.organization.display_name.clone(),
            role: place.role,
        }
    }

    /// The tabs that this account may open.
    pub fn tabs(&self) -> &'static [Tab] {
        if self.role == Role::Admin { &Tab::ALL } else { &[Tab::Members] }
    }
}

/// A role as people read it.
pub fn role_label(role: Role) -> &'static str {
    match role {
        Role::NoAccess => "No access",
        Role::Read => "Read",
        Role::Contributor => "Contributor",
        Role::Write => "Write",
        Role::Admin => "Admin",
    }
}

/// An explained fault, ready for a template.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it is.
    pub code: ErrorCode,
    /// At which step, in words; empty where steps mean nothing.
    pub step: &'static str,
    /// Named values that help.
    pub values: Vec<(String, String)>,
    /// The provider's own words.
    pub provider_words: Option<String>,
}

impl Fault {
    /// Just the code.
    pub fn new(code: ErrorCode) -> Self {
        Self { code, step: "", values: Vec::new(), provider_words: None }
    }
}

impl From<&Finding> for Fault {
    fn from(finding: &Finding) -> Self {
        Self {
            code: finding.code,
            step: super::pages::step_label(finding.step),
            values: finding.values.iter().map(|(name, value)| (value_label(name), value.clone())).collect(),
            provider_words: finding.provider_words.clone(),
        }
    }
}

/// `content_type` as people read it: `Content type`.
pub fn value_label(name: &str) -> String {
    if name == "aadsts" {
        return "Microsoft's number".to_owned();
    }
    let mut letters = name.chars();
    match letters.next() {
        None => String::new(),
        Some(first) => first.to_uppercase().chain(letters.map(|c| if c == '_' { ' ' } else { c })).collect(),
    }
}

/// How many of something, with its noun in the right number.
pub fn counted(n: i64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A wait in words, rounded up: `40 seconds`, `5 minutes`.
pub fn waiting(seconds: i64) -> String {
    if seconds < 90 {
        counted(seconds.max(1), "second", "seconds")
    } else {
        counted(seconds.saturating_add(59) / 60, "minute", "minutes")
    }
}

/// A page as an answer.
pub fn show(page: &impl Template) -> Response {
    show_with(StatusCode::OK, page)
}

/// A page as an answer with another status.
pub fn show_with(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let mut response = Response::new(Body::from(html));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response
        }
        // Templates write into memory and format our own values: this can't happen, and must not panic if it does.
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The page of a refusal on our own host.
pub fn render_refusal(app: &App, visit: &Visit, refusal: &Refusal) -> Response {
    refusal_in(Frame { done: None, ..Frame::of(app, visit) }, visit, refusal)
}

/// The page of a refusal on an application's host.
pub fn render_refusal_elsewhere(app: &App, visit: &Visit, refusal: &Refusal) -> Response {
    refusal_in(Frame::on_application_host(app), visit, refusal)
}

fn refusal_in(frame: Frame, visit: &Visit, refusal: &Refusal) -> Response {
    let values = refusal.values.iter().map(|(name, value)| (value_label(name), value.clone())).collect();
    let mut action = refusal.action.clone().map(|(label, href)| Action { label, href });
    if action.is_none() && visit.signed_in.is_none() && !frame.elsewhere {
        action = Some(Action { label: "Sign in".to_owned(), href: format!("{}/login", frame.base) });
    }
    let page = ErrorPage {
        frame,
        fault: Fault { code: refusal.code, step: "", values, provider_words: refusal.provider_words.clone() },
        action,
        request_id: visit.request_id.clone(),
    };
    show_with(refusal.status(), &page)
}

/// A URL's host as people know it, with its port where that is not the usual one.
pub fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The page that navigates on to another origin after a form (rule 10). The address was checked before.
pub fn going_on(app: &App, visit: &Visit, location: &str) -> Response {
    show(&GoingOnPage {
        frame: Frame { done: None, ..Frame::of(app, visit) },
        location: location.to_owned(),
        host: host_of(location).unwrap_or_else(|| "the next page".to_owned()),
    })
}
