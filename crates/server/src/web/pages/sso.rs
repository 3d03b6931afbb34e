//! An organization's single sign-on: the forms of its settings page, and the way of a member through it.

use axum::Form;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::RevisionNumber;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use http::HeaderMap;
use http::header::SET_COOKIE;
use serde::Deserialize;

use crate::app::{App, SharedApp};
use crate::cookies::Cookie;
use crate::refusal::Refusal;
use crate::sso::callback::{Ending, callback};
use crate::sso::enable::{NotDone, disable, enable, set_enforcement, set_guests_may_link};
use crate::sso::settings::{By, Saved, SettingsForm, refresh, save};
use crate::sso::start::{Started, start};
use crate::store::{
    AuditEntry, Connection, Organization, Purpose, Revision, load_connection, load_live, load_organization,
    load_revision,
};
use crate::web::access::{redirect, sso_page};
use crate::web::loops;
use crate::web::page::{Done, Frame, going_on, host_of, show};
use crate::web::visit::{OrganizationVisit, Visit};

use super::sso_start::SsoStartPage;
use super::{recovery, sso_settings, sso_users, to_its_end};

/// What every deed of a visitor leaves in the audit log.
pub(super) fn by(visit: &Visit) -> Result<By, Refusal> {
    Ok(By {
        actor: visit.account()?.actor(),
        session: visit.account()?.session().map(|session| session.id),
        address: visit.address,
        request_id: Some(visit.request_id.clone()),
    })
}

pub(super) fn settings_page(app: &App, organization: &Organization) -> String {
    app.page(&format!("/organizations/{}/settings/sso", organization.name))
}

pub(super) fn plan_allows(organization: &Organization) -> Result<(), Refusal> {
    if organization.plan.has_sso() { Ok(()) } else { Err(ErrorCode::PlanRequired.into()) }
}

impl From<NotDone> for Refusal {
    fn from(reason: NotDone) -> Self {
        match reason {
            NotDone::Refused(code) => code.into(),
            NotDone::Store(error) => error.into(),
        }
    }
}

/// The form "Update and Test OIDC configuration".
#[derive(Deserialize)]
pub struct OidcForm {
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_secret: String,
    #[serde(default)]
    issuer_url: String,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    client_auth_method: String,
    #[serde(default)]
    userinfo: String,
    #[serde(default)]
    email_claim: String,
    #[serde(default)]
    hosted_domains: String,
}

impl std::fmt::Debug for OidcForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcForm").field("issuer_url", &self.issuer_url).finish_non_exhaustive()
    }
}

/// `POST …/settings/sso/oidc`: saves a draft and goes to the provider to test it.
pub async fn update_and_test(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<OidcForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    let form = SettingsForm {
        client_id: form.client_id,
        client_secret: Secret::new(form.client_secret),
        issuer_url: form.issuer_url,
        scopes: form.scopes,
        client_auth_method: form.client_auth_method,
        userinfo: form.userinfo,
        email_claim: form.email_claim,
        hosted_domains: form.hosted_domains,
    };
    match save(&app, organization, &form, place.may_widen(), &by(&visit)?).await? {
        Saved::Refused(mistakes) => {
            sso_settings::show_mistakes(&app, &visit, &place, &form, &mistakes, None).await
        }
        Saved::NotSaved(finding) => {
            sso_settings::show_mistakes(&app, &visit, &place, &form, &[], Some(&finding)).await
        }
        Saved::SecretOnly => Err(secret_only(&app, organization)),
        Saved::Failed(..) => Ok(redirect(&settings_page(&app, organization))),
        Saved::Ready(revision) => go_to_test(&app, &visit, organization, revision).await,
    }
}

/// Rule 12: a fresh login alone replaces the secret of what is live, and nothing else.
fn secret_only(app: &App, organization: &Organization) -> Refusal {
    let to = sso_page(app, organization.name.as_str(), &settings_page(app, organization));
    Refusal::new(ErrorCode::SettingsSecretOnly).with_action("Complete single sign-on", to)
}

/// `POST …/settings/sso/test`: tests the draft once more, without typing anything.
pub async fn test_again(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    match refresh(&app, organization, place.may_widen(), &by(&visit)?).await? {
        Saved::Ready(revision) => go_to_test(&app, &visit, organization, revision).await,
        Saved::Failed(..) => Ok(redirect(&settings_page(&app, organization))),
        Saved::NotSaved(finding) => Err(Refusal::of(&finding)),
        Saved::SecretOnly => Err(secret_only(&app, organization)),
        Saved::Refused(mistakes) => {
            Err(mistakes.first().map_or(ErrorCode::ServiceInternal, |mistake| mistake.code).into())
        }
    }
}

async fn go_to_test(
    app: &App,
    visit: &Visit,
    organization: &Organization,
    revision: RevisionNumber,
) -> Result<Response, Refusal> {
    let mut reader = app.store.reader();
    let connection =
        load_connection(&mut reader, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    let revision = load_revision(&mut reader, organization.id, revision)
        .await?
        .ok_or(ErrorCode::SettingsRevisionStale)?;
    let next = settings_page(app, organization);
    let signed_in = visit.account()?;
    let started = start(
        app,
        organization,
        &connection,
        &revision,
        Purpose::Test,
        signed_in,
        visit.browser,
        &next,
        None,
    )
    .await?;
    let started = started.map_err(|finding| Refusal::of(&finding))?;
    Ok(with_browser(app, &started, going_on(app, visit, started.url.as_str())))
}

/// Adds the browser cookie that a new attempt needs.
pub(super) fn with_browser(app: &App, started: &Started, mut response: Response) -> Response {
    if let Some(cookie) =
        started.new_browser.as_ref().and_then(|token| Cookie::Browser.set(token, app.https()))
    {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The forms "Enable" and "Enforcement".
#[derive(Debug, Deserialize)]
pub struct EnableForm {
    #[serde(default)]
    revision: String,
    #[serde(default)]
    enforcement: String,
    subject: Option<String>,
}

fn enforcement(text: &str) -> Result<Enforcement, Refusal> {
    if text.is_empty() {
        return Ok(Enforcement::Enforced);
    }
    Enforcement::from_text(text).ok_or_else(|| ErrorCode::SettingsChoiceUnknown.into())
}

/// `POST …/settings/sso/enable`.
pub async fn enable_sso(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<EnableForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    let back = settings_page(&app, organization);
    let with_back = |refusal: Refusal| refusal.with_action("Back to the settings", back.clone());
    let revision = form
        .revision
        .parse()
        .map(RevisionNumber)
        .map_err(|_| with_back(ErrorCode::SettingsRevisionStale.into()))?;
    let enforcement = enforcement(&form.enforcement)?;
    let signed_in = visit.account()?;
    let codes = enable(
        &app,
        organization,
        signed_in,
        visit.browser,
        revision,
        enforcement,
        form.subject.as_deref(),
        &by(&visit)?,
    )
    .await;
    let codes = match codes {
        Err(NotDone::Refused(code @ ErrorCode::SettingsIdentityChanged)) => {
            return sso_settings::show_refused(&app, &visit, &place, code).await;
        }
        codes => codes.map_err(|reason| with_back(reason.into()))?,
    };
    // Shown once, as the answer itself: nothing that could show them again is kept.
    Ok(if codes.is_empty() {
        redirect(&back)
    } else {
        recovery::show_codes(&app, &visit, &place, &codes, true)
    })
}

/// `POST …/settings/sso/enforcement`: between enforced and optional.
pub async fn change_enforcement(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<EnableForm>,
) -> Result<Response, Refusal> {
    plan_allows(&place.organization)?;
    set_enforcement(&app, &place.organization, enforcement(&form.enforcement)?, &by(&visit)?).await?;
    Ok(redirect(&settings_page(&app, &place.organization)))
}

/// `POST …/settings/sso/disable`.
pub async fn disable_sso(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    disable(&app, &place.organization, &by(&visit)?).await?;
    Ok(redirect(&settings_page(&app, &place.organization)))
}

/// The form of the session time-out.
#[derive(Debug, Deserialize)]
pub struct TimeoutForm {
    #[serde(default)]
    session_timeout_hours: String,
}

/// `POST …/settings/sso/users`: the session time-out (hub-sso.md M6).
pub async fn change_timeout(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<TimeoutForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    let hours = form.session_timeout_hours.trim().parse().ok().filter(|hours| (1..=8760).contains(hours));
    let Some(hours) = hours else {
        return sso_users::show_mistake(&app, &visit, &place, &form.session_timeout_hours).await;
    };
    let timeout = Lifetime::from_hours(hours);
    let by = by(&visit)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let before = load_organization(&mut tx, organization.name.as_str()).await?;
    let before = before.ok_or(ErrorCode::OrganizationUnknown)?.session_timeout;
    if before != timeout {
        tx.update_session_timeout(organization, timeout).await?;
        let entry = AuditEntry {
            organization: Some(organization.id),
            action: AuditAction::OrgSettingsSsoTimeout,
            actor: by.actor,
            details: vec![("before", before.to_string()), ("after", timeout.to_string())],
            address: by.address,
            request_id: by.request_id,
        };
        tx.audit(entry, now).await?;
        tx.commit(now).await?;
    }
    Ok(redirect(&app.page(&format!("/organizations/{}/settings/sso/users", organization.name))))
}

/// The form of the guests.
#[derive(Debug, Deserialize)]
pub struct GuestsForm {
    #[serde(default)]
    guests_may_link: String,
}

/// `POST …/settings/sso/users/guests`: whether guests may be linked (architecture.md §3, Linking).
pub async fn change_guests(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<GuestsForm>,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    plan_allows(organization)?;
    set_guests_may_link(&app, organization, form.guests_may_link == "yes", &by(&visit)?).await?;
    let page =
        format!("/organizations/{}/settings/sso/users?done={}", organization.name, Done::Saved.as_str());
    Ok(redirect(&app.page(&page)))
}

/// The query of `GET /organizations/ORG/sso`.
#[derive(Debug, Default)]
struct SsoQuery {
    next: Option<String>,
    iss: Option<String>,
    login_hint: Option<String>,
}

impl SsoQuery {
    fn read(query: Option<&str>) -> Self {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let place = match &*name {
                "next" | "target_link_uri" => &mut read.next,
                "iss" => &mut read.iss,
                "login_hint" => &mut read.login_hint,
                _ => continue,
            };
            place.get_or_insert_with(|| value.chars().take(4096).collect());
        }
        read
    }
}

/// A member's way to the provider: where he goes on afterwards, and under which revision.
struct Way {
    next: String,
    /// `next` is elsewhere: only a page may lead there after a form.
    elsewhere: bool,
    login_hint: Option<String>,
    /// `None`: there is nothing to complete.
    live: Option<(Connection, Revision)>,
}

async fn find_way(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    query: SsoQuery,
) -> Result<Way, Refusal> {
    let (next, elsewhere) = match query.next.as_deref().filter(|next| !next.is_empty()) {
        None => (app.page("/"), false),
        // A refused address is no reason for a half sign-in (conformance.md V20).
        Some(next) => {
            let to = app.return_to(next).ok_or(ErrorCode::GateReturnRefused)?;
            (to.location().to_owned(), !to.is_same_origin())
        }
    };
    let login_hint = query.login_hint.filter(|hint| hint.len() <= 255 && !hint.chars().any(char::is_control));
    if place.facts.sso.is_none() || visit.account()?.sso_is_complete(&place.facts, app.clock.now()) {
        return Ok(Way { next, elsewhere, login_hint, live: None });
    }
    if !visit.navigation {
        return Err(ErrorCode::SsoRequired.into());
    }
    let mut reader = app.store.reader();
    let organization = place.organization.id;
    let live = load_live(&mut reader, organization).await?;
    let (connection, revision) = live.ok_or(ErrorCode::SsoNotEnabled)?;
    if let (Some(iss), Some(endpoints)) = (&query.iss, &revision.endpoints)
        && *iss != endpoints.issuer
    {
        return Err(Refusal::new(ErrorCode::SsoForeignIssuer));
    }
    Ok(Way { next, elsewhere, login_hint, live: Some((connection, revision)) })
}

/// `GET /organizations/ORG/sso`: completes SSO for a member; safe to open at any time.
///
/// From one of our own pages, or typed, it goes on to the provider without a detour (hub-sso.md M1). Where another site
/// sent the browser here, an application's too, a page says first whose single sign-on it is and why: no session comes
/// of what the person did not ask for (conformance.md V26, ASVS 7.6.2).
pub async fn show_sso(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let way = find_way(&app, &visit, &place, SsoQuery::read(query.as_deref())).await?;
    let Some((connection, revision)) = &way.live else {
        // Nothing is left to complete, and yet an application's host led here: once is an old tab, thrice is a loop.
        if !way.elsewhere {
            return Ok(redirect(&way.next));
        }
        let start = loops::count(&app, &headers, &way.next);
        if start.goes_in_circles {
            return Err(Refusal::new(ErrorCode::GateLoopClock).with_action("Try again", way.next));
        }
        let mut response = redirect(&way.next);
        if let Some(cookie) = start.cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        return Ok(response);
    };
    if !visit.from_foreign_site {
        let started = go_to_provider(&app, &visit, &place, &way, (connection, revision)).await?;
        return Ok(with_browser(&app, &started, redirect(started.url.as_str())));
    }
    let signed_in = visit.account()?;
    let endpoint = revision.endpoints.as_ref().map_or("", |endpoints| &endpoints.authorization_endpoint);
    let organization = &place.organization;
    let before = signed_in.session().is_some_and(|session| {
        session.sso.iter().any(|sso| sso.organization == organization.id && sso.epoch() == connection.epoch)
    });
    let may_skip = connection.enforcement == Enforcement::Optional || place.external_collaborator;
    Ok(show(&SsoStartPage {
        frame: Frame::of(&app, &visit),
        organization: organization.name.as_str().to_owned(),
        display_name: organization.display_name.clone(),
        provider_host: host_of(endpoint).unwrap_or_else(|| "your identity provider".to_owned()),
        account: signed_in.account.name().to_owned(),
        skip_to: may_skip.then(|| way.next.clone()),
        next: way.next,
        login_hint: way.login_hint.unwrap_or_default(),
        session_timeout: organization.session_timeout.to_string(),
        expired: before,
    }))
}

/// The form of that page.
#[derive(Debug, Deserialize)]
pub struct SsoForm {
    #[serde(default)]
    next: String,
    #[serde(default)]
    login_hint: String,
}

/// `POST /organizations/ORG/sso`: goes to the provider.
pub async fn complete_sso(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<SsoForm>,
) -> Result<Response, Refusal> {
    let query = SsoQuery {
        next: Some(form.next.chars().take(4096).collect()),
        iss: None,
        login_hint: Some(form.login_hint).filter(|hint| !hint.is_empty()),
    };
    let way = find_way(&app, &visit, &place, query).await?;
    let Some((connection, revision)) = &way.live else {
        return Ok(if way.elsewhere { going_on(&app, &visit, &way.next) } else { redirect(&way.next) });
    };
    let started = go_to_provider(&app, &visit, &place, &way, (connection, revision)).await?;
    Ok(with_browser(&app, &started, going_on(&app, &visit, started.url.as_str())))
}

async fn go_to_provider(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    way: &Way,
    (connection, revision): (&Connection, &Revision),
) -> Result<Started, Refusal> {
    let started = start(
        app,
        &place.organization,
        connection,
        revision,
        Purpose::SignIn,
        visit.account()?,
        visit.browser,
        &way.next,
        way.login_hint.as_deref(),
    )
    .await?;
    started.map_err(|finding| Refusal::of(&finding))
}

/// `GET /organizations/ORG/oidc/consume`: the redirect URI.
pub async fn consume(
    State(app): State<SharedApp>,
    visit: Visit,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let facts = app.store.organization_facts(&name.to_ascii_lowercase(), app.clock.now()).await?;
    let organization = facts.and_then(|facts| facts.organization());
    // The redirect URI has one spelling: that of the creation (rule 1).
    let organization = organization.filter(|organization| organization.name.as_str() == name);
    let organization = organization.ok_or(ErrorCode::OrganizationUnknown)?;
    // On a task of its own: whoever hangs up meanwhile ends the trip no earlier, nor without its audit event.
    let trip =
        async move { callback(&app, &organization, &visit, query.as_deref().unwrap_or_default()).await };
    Ok(match to_its_end(trip).await? {
        Ending::GoTo(next) => redirect(&next),
        Ending::Stop(refusal) => refusal.into_response(),
    })
}
