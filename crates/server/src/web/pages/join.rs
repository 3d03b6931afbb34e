//! `/organizations/ORG/join/TOKEN`: what a link leads to, said before it happens; and `/join`, an account on the way.
//!
//! Joining is a POST that names organization and account as the page showed them (conformance.md V26, V37). Nothing is
//! written before the link's token is proved (rule 9), and whatever is wrong with a link has one calm page.
//! Never here: what makes a member; that is `joining.rs`.

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, RawQuery, State};
use axum::response::Response;
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::bounded;
use doorward_core::ids::AccountId;
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;
use http::StatusCode;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::sign_in::{PASSWORD_BYTES_MAX, make_and_sign_in, parameter};
use super::sso::{by, with_browser};
use super::sso_link::shown;
use super::sso_settings::IdentityShown;
use super::to_its_end;
use crate::app::{App, SharedApp};
use crate::joining::{Offer, accept, look};
use crate::passwords::judge_new_password;
use crate::refusal::Refusal;
use crate::sso::join::{confirm, load_held_to_join};
use crate::sso::start::start_to_join;
use crate::store::{HeldIdentity, JoinLink, NewAccount, Organization, OrganizationFacts};
use crate::web::access::{redirect, sign_in_page, sso_page};
use crate::web::page::{
    Done, Frame, Moment, Problem, Problems, going_on, host_of, role_label, show, show_with,
};
use crate::web::throttle::AddressRefused;
use crate::web::visit::Visit;

/// Longest token that is looked up, in bytes: 43 are ours.
const TOKEN_BYTES_MAX: usize = 64;

/// How the link makes a member, for its page.
#[derive(Clone, Debug)]
pub enum JoinBy {
    /// By pressing the button.
    Invitation {
        /// Who made it.
        invited_by: String,
        /// When it stops working.
        expires_at: Moment,
        /// It is for one account.
        named: bool,
    },
    /// By signing in at the organization's provider first.
    Sso {
        /// The provider's host.
        provider_host: String,
    },
}

/// `/organizations/ORG/join/TOKEN`.
#[derive(Template, Clone, Debug)]
#[template(path = "join.html")]
pub struct JoinPage {
    /// The frame.
    pub frame: Frame,
    /// The organization's name.
    pub organization: String,
    /// What it is called on pages.
    pub display_name: String,
    /// Path and token of this page: where the form goes, and where the person comes back to.
    pub here: String,
    /// The role that one gets.
    pub role: Role,
    /// How.
    pub join_by: JoinBy,
    /// Who is signed in.
    pub account: Option<String>,
}

impl JoinPage {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn is_named(&self) -> bool {
        matches!(self.join_by, JoinBy::Invitation { named: true, .. })
    }
}

/// A link: whose it is, and what it leads to.
struct Found {
    facts: Arc<OrganizationFacts>,
    organization: Organization,
    token: TokenHash,
    /// Its page, under the base URL's path.
    here: String,
    offer: Offer,
}

/// What a link leads to. An organization that nobody has answers as one whose link this is not.
async fn find(app: &App, organization: &str, token: &str, now: Timestamp) -> Result<Found, Refusal> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(ErrorCode::JoinUnknown.into());
    }
    let facts = app.store.organization_facts(&organization.to_ascii_lowercase(), now).await?;
    let facts = facts.filter(|facts| !facts.deleted).ok_or(ErrorCode::JoinUnknown)?;
    let organization = facts.organization().ok_or(ErrorCode::JoinUnknown)?;
    let hash = TokenHash::of(token);
    let offer = look(&mut app.store.reader(), organization.id, hash, now).await?;
    let token = Secret::new(token.to_owned());
    let here = app.page(&crate::joining::link_path(organization.name.as_str(), &token));
    Ok(Found { facts, organization, token: hash, here, offer })
}

fn is_member(visit: &Visit, facts: &OrganizationFacts) -> bool {
    visit.signed_in.as_ref().is_some_and(|signed_in| signed_in.role_in(facts).is_some())
}

/// `GET /organizations/ORG/join/TOKEN`.
pub async fn show_join(
    State(app): State<SharedApp>,
    visit: Visit,
    Path((organization, token)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let found = find(&app, &organization, &token, app.clock.now()).await?;
    if is_member(&visit, &found.facts) {
        // Simply taken on: through the organization's SSO, if it has one, to his home (rule 18).
        return Ok(redirect(&sso_page(&app, found.organization.name.as_str(), &app.page("/"))));
    }
    let account = visit.signed_in.as_ref().map(|signed_in| &signed_in.account);
    if let (Some(account), Some(only)) = (account, found.offer.only_for())
        && account.id != only
    {
        return Err(Refusal::new(ErrorCode::JoinOtherAccount).with_action("Sign out", app.page("/logout")));
    }
    Ok(show(&JoinPage {
        frame: Frame::of(&app, &visit),
        organization: found.organization.name.as_str().to_owned(),
        display_name: found.organization.display_name.clone(),
        here: found.here,
        role: found.offer.role(),
        join_by: match &found.offer {
            Offer::Invitation(invitation) => JoinBy::Invitation {
                invited_by: invitation.created_by_name.clone(),
                expires_at: invitation.expires_at.into(),
                named: invitation.account.is_some(),
            },
            Offer::Sso(sso) => {
                let endpoint = sso.2.endpoints.as_ref().map_or("", |found| &found.authorization_endpoint);
                let host = host_of(endpoint).unwrap_or_else(|| "its identity provider".to_owned());
                JoinBy::Sso { provider_host: host }
            }
        },
        account: account.map(|account| account.name().to_owned()),
    }))
}

/// The form of that page.
#[derive(Debug, Deserialize)]
pub struct JoinForm {
    #[serde(default)]
    organization: String,
    #[serde(default)]
    account: String,
}

/// `POST /organizations/ORG/join/TOKEN`: joins by an invitation, or goes to the provider first.
pub async fn join(
    State(app): State<SharedApp>,
    visit: Visit,
    Path((organization, token)): Path<(String, String)>,
    Form(form): Form<JoinForm>,
) -> Result<Response, Refusal> {
    let now = app.clock.now();
    let signed_in = visit.account()?;
    let found = find(&app, &organization, &token, now).await?;
    if is_member(&visit, &found.facts) {
        let to = sso_page(&app, found.organization.name.as_str(), &app.page("/"));
        return Ok(going_on(&app, &visit, &to));
    }
    // What was shown is what happens: the other tab may have signed in as somebody else.
    if form.organization != found.organization.name.as_str() || form.account != signed_in.account.name() {
        return Err(Refusal::new(ErrorCode::JoinChanged).with_action("Look again", found.here));
    }
    match &found.offer {
        Offer::Invitation(_) => {
            accept(&app.store, &found.organization, found.token, signed_in, &by(&visit)?, now).await?;
            Ok(redirect(&app.page(&format!("/?done={}", Done::Joined.as_str()))))
        }
        Offer::Sso(sso) => {
            let (_, connection, revision) = &**sso;
            // A reload of the way back leads home: nothing is made before the next page is confirmed.
            let home = app.page("/");
            let started = start_to_join(
                &app,
                &found.organization,
                connection,
                revision,
                found.token,
                signed_in,
                visit.browser,
                &home,
            )
            .await?;
            let started = started.map_err(|finding| Refusal::of(&finding))?;
            Ok(with_browser(&app, &started, going_on(&app, &visit, started.url.as_str())))
        }
    }
}

/// `/organizations/ORG/join`, after the provider: names organization, account and identity before anything is made.
#[derive(Template, Clone, Debug)]
#[template(path = "join_confirm.html")]
pub struct JoinConfirmPage {
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
    /// The role that one gets.
    pub role: Role,
    /// Who is signed in.
    pub account: String,
    /// Finds what is held; works in this browser session alone.
    pub held: String,
}

impl JoinConfirmPage {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }
}

/// The query and the form of that page.
#[derive(Debug, Default, Deserialize)]
pub struct ConfirmForm {
    #[serde(default)]
    held: String,
    #[serde(default)]
    organization: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    subject: String,
}

/// The organization of the address, and what is held for this browser session under the handle.
async fn find_held(
    app: &App,
    visit: &Visit,
    organization: &str,
    handle: &str,
) -> Result<(Arc<OrganizationFacts>, Organization, Option<(HeldIdentity, JoinLink)>), Refusal> {
    let now = app.clock.now();
    let facts = app.store.organization_facts(&organization.to_ascii_lowercase(), now).await?;
    let facts = facts.filter(|facts| !facts.deleted).ok_or(ErrorCode::JoinHeldMissing)?;
    let organization = facts.organization().ok_or(ErrorCode::JoinHeldMissing)?;
    let handle = TokenHash::of(handle);
    let mut reader = app.store.reader();
    let held = load_held_to_join(&mut reader, app, &organization, visit.account()?, handle).await?;
    Ok((facts, organization, held))
}

/// `GET /organizations/ORG/join?held=…`.
pub async fn show_confirm(
    State(app): State<SharedApp>,
    visit: Visit,
    Path(organization): Path<String>,
    Query(query): Query<ConfirmForm>,
) -> Result<Response, Refusal> {
    let (facts, organization, held) = find_held(&app, &visit, &organization, &query.held).await?;
    // The button was pressed in the other tab, or an admin was quicker (rule 18).
    if is_member(&visit, &facts) {
        return Ok(redirect(&app.page("/")));
    }
    let (held, link) = held.ok_or(ErrorCode::JoinHeldMissing)?;
    Ok(show(&JoinConfirmPage {
        frame: Frame::of(&app, &visit),
        organization: organization.name.as_str().to_owned(),
        display_name: organization.display_name.clone(),
        provider_host: host_of(&held.identity.issuer).unwrap_or_else(|| "the provider".to_owned()),
        identity: shown(&held),
        role: link.role,
        account: visit.account()?.account.name().to_owned(),
        held: query.held,
    }))
}

/// `POST /organizations/ORG/join`: makes membership, link and SSO session.
pub async fn confirm_join(
    State(app): State<SharedApp>,
    visit: Visit,
    Path(organization): Path<String>,
    Form(form): Form<ConfirmForm>,
) -> Result<Response, Refusal> {
    let (facts, organization, held) = find_held(&app, &visit, &organization, &form.held).await?;
    let signed_in = visit.account()?;
    if is_member(&visit, &facts) {
        return Ok(redirect(&app.page("/")));
    }
    let (held, _) = held.ok_or(ErrorCode::JoinHeldMissing)?;
    if form.organization != organization.name.as_str()
        || form.account != signed_in.account.name()
        || form.subject != held.identity.subject
    {
        return Err(ErrorCode::JoinChanged.into());
    }
    confirm(&app, &organization, signed_in, TokenHash::of(&form.held), &by(&visit)?).await?;
    Ok(redirect(&app.page(&format!("/?done={}", Done::Joined.as_str()))))
}

/// `/join`: an account on the way into an organization.
#[derive(Template, Clone, Debug)]
#[template(path = "sign_up.html")]
pub struct SignUpPage {
    /// The frame.
    pub frame: Frame,
    /// The organization that the person is on his way into, as it is called on pages.
    pub display_name: String,
    /// The link's page: where he goes on.
    pub next: String,
    /// As typed before.
    pub name: String,
    /// As typed before.
    pub full_name: String,
    /// As typed before.
    pub email: String,
    /// Mistakes.
    pub problems: Problems,
}

/// The link that somebody comes from, by the address of its page: an account is made for nobody else.
async fn find_by_page(app: &App, next: &str, now: Timestamp) -> Result<Found, Refusal> {
    let before = app.page("/organizations/");
    let link = next.strip_prefix(before.as_str()).and_then(|rest| rest.split_once("/join/"));
    let Some((organization, token)) = link.filter(|(name, _)| Name::parse(name).is_ok()) else {
        return Err(ErrorCode::AccountSignUpClosed.into());
    };
    let found = find(app, organization, token, now).await?;
    if found.offer.only_for().is_some() {
        // It is for an account that exists.
        return Err(
            Refusal::new(ErrorCode::JoinOtherAccount).with_action("Sign in", sign_in_page(app, &found.here))
        );
    }
    Ok(found)
}

/// `GET /join`.
pub async fn show_sign_up(
    State(app): State<SharedApp>,
    visit: Visit,
    RawQuery(asked): RawQuery,
) -> Result<Response, Refusal> {
    let next = parameter(asked.as_deref(), "next", 4096);
    let found = find_by_page(&app, &next, app.clock.now()).await?;
    if visit.signed_in.is_some() {
        return Ok(redirect(&found.here));
    }
    Ok(show(&SignUpPage {
        frame: Frame::of(&app, &visit),
        display_name: found.organization.display_name.clone(),
        next: found.here,
        name: String::new(),
        full_name: String::new(),
        email: String::new(),
        problems: Problems::default(),
    }))
}

/// The form.
#[derive(Deserialize)]
pub struct SignUpForm {
    #[serde(default)]
    next: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    full_name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    password_again: String,
}

impl std::fmt::Debug for SignUpForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignUpForm").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What was typed, judged.
struct Wanted {
    name: Name,
    email: Option<Email>,
    password: Secret,
}

fn judge(form: &SignUpForm) -> Result<Wanted, Vec<Problem>> {
    let password = Secret::new(form.password.clone());
    let name = Name::parse(form.name.trim());
    // Applications are told no address before it is proved, so one may do without (rule 13).
    let email = Some(form.email.trim()).filter(|text| !text.is_empty()).map(Email::parse).transpose();
    let judged = judge_new_password(&password, form.name.trim()).and_then(|()| {
        let fits = form.password.len() <= PASSWORD_BYTES_MAX;
        if fits { Ok(()) } else { Err(ErrorCode::AccountPasswordTooLong) }
    });
    let again = Secret::new(form.password_again.clone());
    let differ = judged.is_ok() && again != password;
    match (name, email, judged) {
        (Ok(name), Ok(email), Ok(())) if !differ => Ok(Wanted { name, email, password }),
        (name, email, judged) => {
            let problems = [
                name.err().map(|_| Problem::new("name", ErrorCode::AccountNameInvalid)),
                email.err().map(|_| Problem::new("email", ErrorCode::AccountEmailInvalid)),
                judged.err().map(|code| Problem::new("password", code)),
                differ.then(|| Problem::new("password_again", ErrorCode::AccountPasswordsDiffer)),
            ];
            Err(problems.into_iter().flatten().collect())
        }
    }
}

/// `POST /join`: makes the account, signs it in, and goes back to the link's page.
pub async fn sign_up(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<SignUpForm>,
) -> Result<Response, Refusal> {
    // Whoever hangs up while the account is made has made it.
    to_its_end(async move { make_account(&app, &visit, form).await }).await?
}

async fn make_account(app: &SharedApp, visit: &Visit, form: SignUpForm) -> Result<Response, Refusal> {
    let now = app.clock.now();
    let found = find_by_page(app, &form.next, now).await?;
    if visit.signed_in.is_some() {
        return Ok(redirect(&found.here));
    }
    let again = |problems: Vec<Problem>| {
        let page = SignUpPage {
            frame: Frame::of(app, visit),
            display_name: found.organization.display_name.clone(),
            next: found.here.clone(),
            name: bounded(&form.name, 100),
            full_name: bounded(&form.full_name, 100),
            email: bounded(&form.email, 254),
            problems: Problems(problems),
        };
        show_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
    };
    let wanted = match judge(&form) {
        Ok(wanted) => wanted,
        Err(problems) => return Ok(again(problems)),
    };
    // A hash costs time, and each try tells whether a name is taken.
    let address = visit.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let throttled = |wait: doorward_core::time::Lifetime| {
        Refusal::new(ErrorCode::AccountThrottled).with_retry_after(wait.seconds() + 1)
    };
    let place = app.sign_ins.enter(address, now).map_err(|refused| match refused {
        AddressRefused::Failures(wait) => throttled(wait),
        AddressRefused::Crowded => ErrorCode::AccountBusy.into(),
    })?;
    // Counted as a failure, whatever comes of it.
    place.failed(now);
    let of_the_link = app.sign_ins.take_sign_up(found.token, now).map_err(throttled)?;
    let hash = app.passwords.hash(wanted.password, &app.random).await?;

    let now = app.clock.now();
    let account = NewAccount {
        id: AccountId::new(now.millis(), app.random.bytes()?),
        name: wanted.name,
        full_name: bounded(&form.full_name, 100),
        email: wanted.email,
        email_proved: false,
        password_hash: Some(hash),
        operator: false,
    };
    let mut tx = app.store.begin().await?;
    // Hashing took a while: the link is proved again where the account is made.
    look(&mut tx, found.organization.id, found.token, now).await?;
    if !tx.take_sign_up(found.organization.id, found.token).await? {
        return Err(
            Refusal::new(ErrorCode::JoinSignUpsUsed).with_action("Sign in", sign_in_page(app, &found.here))
        );
    }
    let Some(made) = make_and_sign_in(app, tx, visit, &account, &found.here, now).await? else {
        return Ok(again(vec![Problem::new("name", ErrorCode::AccountNameTaken)]));
    };
    of_the_link.made();
    Ok(made)
}
