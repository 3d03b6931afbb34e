//! Who may open what: one rule a route, enforced before its handler runs.
//!
//! Strangers and unknown organizations get the same 404 (decisions.md). Every POST proves its origin here (rule 10),
//! and only what was admitted has its form read, within a size and a time.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use http::header::{CONTENT_TYPE, LOCATION, ORIGIN, REFERRER_POLICY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

use super::api;
use super::page::render_refusal;
use super::visit::{OrganizationVisit, Visit};
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::store::load_recovery;

/// A login this fresh opens security settings (rule 12).
pub const FRESH_LOGIN: Lifetime = Lifetime::from_minutes(15);
/// Their forms are taken for this long after the login, so that typing is never lost (decisions.md).
pub const FRESH_LOGIN_POST: Lifetime = Lifetime::from_minutes(75);

/// Largest form of ours, in bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// A form has arrived whole within this.
const FORM_TIME: Duration = Duration::from_secs(10);

/// What a route asks of its visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    Anyone,
    /// An account.
    Account,
    /// An account with a fresh login.
    FreshAccount,
    /// A member of the organization in the path, with any role.
    Member,
    /// A member who would end his membership; an admin as for `Admin`, because his going changes who governs, as his
    /// removal would (ADR 0037).
    Leaving,
    /// An admin who has completed the organization's SSO, if it is enforced; or whom a recovery code let in.
    Admin,
    /// An admin with a fresh login; SSO is not asked for: a broken provider must be mendable (rule 12). While a
    /// connection is live this opens its page, replaces its secret, and takes a recovery code; nothing else.
    FreshAdmin,
    /// As `FreshAdmin`, and having completed SSO if it is live, or with a recovery code in its place: what widens entry
    /// (rule 12).
    FreshAdminWithSso,
    /// A token of the organization in the path, with the scope of the path's last segment; no cookie counts.
    ApiToken,
}

/// Middleware of a route: admits or refuses, and finishes the answer.
pub async fn enforce(
    State((app, access)): State<(SharedApp, Access)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let (visit, admitted) = let_in(&app, access, &mut parts, body).await;
    let response = match admitted {
        Ok(form) => {
            parts.extensions.insert(visit.clone());
            next.run(Request::from_parts(parts, form)).await
        }
        Err(Denied::Refusal(refusal)) => axum::response::IntoResponse::into_response(refusal),
        Err(Denied::GoTo(location)) => redirect(&location),
    };
    finish(&app, &visit, response)
}

/// Who visits, and the form he brings if the route admits him.
async fn let_in(
    app: &SharedApp,
    access: Access,
    parts: &mut Parts,
    body: Body,
) -> (Visit, Result<Body, Denied>) {
    // A provider's answer, the query, is read as a whole, and refused in words of its own.
    let path = parts.uri.path();
    let query = parts.uri.query().filter(|_| !path.ends_with("/oidc/consume"));
    if has_nul(path.as_bytes()) || query.is_some_and(|query| has_nul(query.as_bytes())) {
        return (Visit::of_stranger(parts), Err(ErrorCode::RequestMalformed.into()));
    }
    let (visit, admitted) = judge(app, access, parts).await;
    if let Err(denied) = admitted {
        return (visit, Err(denied));
    }
    let form = match read_form(&parts.method, body, FORM_TIME).await {
        Ok(form) => form,
        Err(code) => return (visit, Err(code.into())),
    };
    if access == Access::Anyone || matches!(parts.method, Method::GET | Method::HEAD) {
        return (visit, Ok(form));
    }
    // The sender decides when his form ends: he may have been removed, or his session ended, meanwhile.
    let (visit, admitted) = judge(app, access, parts).await;
    (visit, admitted.map(|()| form))
}

async fn judge(app: &SharedApp, access: Access, parts: &mut Parts) -> (Visit, Result<(), Denied>) {
    if access == Access::ApiToken {
        // A program asks, whatever it says that it reads: it gets problem documents.
        let visit = Visit { navigation: false, ..Visit::of_stranger(parts) };
        let name = organization_in_path(parts).await.unwrap_or_default();
        let admitted = api::admit(app, parts, &name).await.map(|call| {
            parts.extensions.insert(call);
        });
        return (visit, admitted.map_err(Denied::from));
    }
    match Visit::of(app, parts).await {
        Ok(visit) => {
            let admitted = admit(app, access, &visit, parts).await;
            (visit, admitted)
        }
        Err(error) => (Visit::of_stranger(parts), Err(error.into())),
    }
}

/// Whether an address or a form holds the character NUL, plain or percent-encoded. No field of ours may have it, and
/// PostgreSQL takes none in any text.
fn has_nul(bytes: &[u8]) -> bool {
    bytes.contains(&0) || bytes.windows(3).any(|three| three == b"%00")
}

/// The whole body of a form, bounded in size and time. A page is asked for without one.
async fn read_form(method: &Method, body: Body, time: Duration) -> Result<Body, ErrorCode> {
    if matches!(*method, Method::GET | Method::HEAD) || body.is_end_stream() {
        return Ok(Body::empty());
    }
    match timeout(time, Limited::new(body, FORM_BYTES_MAX).collect()).await {
        Ok(Ok(form)) => {
            let form = form.to_bytes();
            if has_nul(&form) { Err(ErrorCode::RequestMalformed) } else { Ok(Body::from(form)) }
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ErrorCode::RequestTooLarge),
        Ok(Err(_)) => Err(ErrorCode::RequestMalformed),
        Err(_) => Err(ErrorCode::RequestTooSlow),
    }
}

/// The bytes of a form that is sent to no route, within the same limits.
pub(super) async fn read_whole_form(method: &Method, body: Body) -> Result<Bytes, ErrorCode> {
    let form = read_form(method, body, FORM_TIME).await?.collect().await;
    form.map(Collected::to_bytes).map_err(|_| ErrorCode::RequestMalformed)
}

enum Denied {
    Refusal(Refusal),
    /// The person can do something about it there, and then comes back.
    GoTo(String),
}

impl<T: Into<Refusal>> From<T> for Denied {
    fn from(refusal: T) -> Self {
        Self::Refusal(refusal.into())
    }
}

async fn admit(app: &SharedApp, access: Access, visit: &Visit, parts: &mut Parts) -> Result<(), Denied> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if !reads && !comes_from_page_of(&app.configuration.base_url.origin, &parts.headers) {
        return Err(ErrorCode::RequestForeignOrigin.into());
    }
    if access == Access::Anyone {
        return Ok(());
    }
    let Some(signed_in) = &visit.signed_in else {
        return Err(sign_in(app, visit, reads, ErrorCode::AccountSignInNeeded));
    };
    let now = app.clock.now();
    if matches!(access, Access::FreshAccount | Access::FreshAdmin | Access::FreshAdminWithSso) {
        let limit = if reads { FRESH_LOGIN } else { FRESH_LOGIN_POST };
        let age = signed_in.login_age(now);
        // A login from the future is a clock that went back: not fresh.
        if age < Lifetime::from_millis(0) || age > limit {
            return Err(sign_in(app, visit, reads, ErrorCode::SettingsFreshSignInNeeded));
        }
    }
    let needs_organization = match access {
        Access::Anyone | Access::Account | Access::FreshAccount | Access::ApiToken => false,
        Access::Member | Access::Leaving | Access::Admin | Access::FreshAdmin | Access::FreshAdminWithSso => {
            true
        }
    };
    if !needs_organization {
        return Ok(());
    }

    let name = organization_in_path(parts).await.unwrap_or_default();
    let unknown = || Refusal::new(ErrorCode::OrganizationUnknown);
    let Some(facts) = app.store.organization_facts(&name.to_ascii_lowercase(), now).await? else {
        return Err(unknown().into());
    };
    let Some(membership) = signed_in.account.memberships.iter().find(|m| m.organization == facts.id) else {
        return Err(unknown().into());
    };
    let is_admin = membership.role == Role::Admin;
    if facts.deleted || (!is_admin && !matches!(access, Access::Member | Access::Leaving)) {
        return Err(unknown().into());
    }
    let Some(organization) = facts.organization() else {
        return Err(unknown().into());
    };
    // Pages show the spelling of the creation; a form's address is ours already.
    if reads && name != organization.name.as_str() {
        return Err(Denied::GoTo(spelled_as_created(app, &visit.target, organization.name.as_str())));
    }
    let complete = signed_in.sso_is_complete(&facts, now);
    let sso_complete = facts.sso.is_none() || complete;
    // Asked of the store each time: it is rare, and what it opens is not the gate's.
    let recovered = match signed_in.session() {
        Some(session) if !sso_complete && is_admin => {
            load_recovery(&mut app.store.reader(), facts.id, session.id, now).await?.is_some()
        }
        _ => false,
    };
    let is_spared = membership.external_collaborator().spares(now);
    let blocked = match access {
        // An external collaborator is spared SSO on his way in, and so he reads; a form of an admin's asks for it all the
        // same, or his password alone would be enough to remove the others.
        Access::Admin | Access::Leaving => {
            let is_asked = facts.sso == Some(Enforcement::Enforced) || (!reads && facts.sso.is_some());
            is_admin && is_asked && !sso_complete && !recovered && !(reads && is_spared)
        }
        Access::FreshAdminWithSso => !sso_complete && !recovered,
        Access::Anyone
        | Access::Account
        | Access::FreshAccount
        | Access::Member
        | Access::FreshAdmin
        | Access::ApiToken => false,
    };
    if blocked {
        let to = sso_page(app, organization.name.as_str(), &visit.target);
        return Err(if reads && visit.navigation {
            Denied::GoTo(to)
        } else {
            let back = app.page(&format!("/organizations/{}/settings/sso", organization.name));
            let to = sso_page(app, organization.name.as_str(), &back);
            Refusal::new(ErrorCode::SettingsSsoNeeded).with_action("Complete single sign-on", to).into()
        });
    }
    parts.extensions.insert(OrganizationVisit {
        organization,
        facts,
        role: membership.role,
        external_collaborator: is_spared,
        sso_complete,
        recovered,
    });
    Ok(())
}

/// Refuses what widens entry where a route's own rule asks for less, because only some of what its form takes widens
/// entry: an admin's role among roles (rule 12). `page`: below `/organizations/ORG`, where the person comes back.
pub fn must_be_able_to_widen(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    page: &str,
) -> Result<(), Refusal> {
    let back = app.page(&format!("/organizations/{}{page}", place.organization.name));
    if !place.may_widen() {
        let to = sso_page(app, place.organization.name.as_str(), &back);
        return Err(Refusal::new(ErrorCode::SettingsSsoNeeded).with_action("Complete single sign-on", to));
    }
    let age = visit.account()?.login_age(app.clock.now());
    if age < Lifetime::from_millis(0) || age > FRESH_LOGIN_POST {
        let to = format!("{}&fresh=1", sign_in_page(app, &back));
        return Err(Refusal::new(ErrorCode::SettingsFreshSignInNeeded).with_action("Sign in", to));
    }
    Ok(())
}

/// The address of an organization's page with its name as created, however it was spelled or encoded.
fn spelled_as_created(app: &App, target: &str, name: &str) -> String {
    let before = app.page("/organizations/");
    let rest = target.strip_prefix(before.as_str()).unwrap_or_default();
    let rest = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
    format!("{before}{name}{rest}")
}

/// The page where SSO is completed, with where to go on.
pub fn sso_page(app: &App, organization: &str, next: &str) -> String {
    app.page(&format!("/organizations/{organization}/sso?{}", query(&[("next", next)])))
}

/// The page where a first link is decided on; `handle` finds what is held for this browser.
pub fn link_page(app: &App, organization: &str, handle: Option<&Secret>) -> String {
    let held = handle.map_or_else(String::new, |handle| format!("?{}", query(&[("held", handle.expose())])));
    app.page(&format!("/organizations/{organization}/sso/link{held}"))
}

/// The page where somebody confirms that he joins as whom the provider named.
pub fn join_confirm_page(app: &App, organization: &str, handle: &Secret) -> String {
    let held = query(&[("held", handle.expose())]);
    app.page(&format!("/organizations/{organization}/join?{held}"))
}

/// The sign-in page, with where to go on.
pub fn sign_in_page(app: &App, next: &str) -> String {
    app.page(&format!("/login?{}", query(&[("next", next)])))
}

/// A query string of these parameters.
pub fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn sign_in(app: &App, visit: &Visit, reads: bool, code: ErrorCode) -> Denied {
    if reads && visit.navigation {
        let fresh = if code == ErrorCode::SettingsFreshSignInNeeded { "&fresh=1" } else { "" };
        return Denied::GoTo(format!("{}{fresh}", sign_in_page(app, &visit.target)));
    }
    // What a form's address shows by GET is its page, so the person comes back there.
    let next = if reads { &visit.target } else { "/" };
    Refusal::new(code).with_action("Sign in", sign_in_page(app, next)).into()
}

async fn organization_in_path(parts: &mut Parts) -> Option<String> {
    use axum::extract::FromRequestParts as _;
    let Path(mut captured) = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await.ok()?;
    captured.remove("org")
}

/// Whether a form was sent from a page of this origin, where it is taken: `Origin` is the same or, where a browser sends
/// none, `Sec-Fetch-Site` says same-origin. A request with neither is no browser's form (conformance.md ASVS 3.5.1).
pub(super) fn comes_from_page_of(origin: &str, headers: &HeaderMap) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() { None } else { first.and_then(|value| value.to_str().ok()) }
    };
    if headers.contains_key(ORIGIN) {
        return one(ORIGIN.as_str()) == Some(origin);
    }
    one("sec-fetch-site") == Some("same-origin")
}

/// A redirect that turns whatever was sent into a GET (conformance.md B9).
pub fn redirect(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// Gives a refusal its body, and the redirect URI's answer its stricter policy.
pub fn finish(app: &App, visit: &Visit, mut response: Response) -> Response {
    let refusal = response.extensions_mut().remove::<Refusal>();
    if let Some(refusal) = refusal.or_else(|| refusal_of_extractor(&response)) {
        let cookies: Vec<HeaderValue> =
            response.headers().get_all(http::header::SET_COOKIE).iter().cloned().collect();
        response = if visit.navigation {
            refusal.finish(render_refusal(app, visit, &refusal))
        } else {
            refusal.problem(&visit.request_id, None)
        };
        for cookie in cookies {
            response.headers_mut().append(http::header::SET_COOKIE, cookie);
        }
    }
    // Code and state are in the redirect URI's address: nothing that follows may learn of it (conformance.md B8).
    if visit.target.split('?').next().is_some_and(|path| path.ends_with("/oidc/consume")) {
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

/// axum's extractors refuse in plain text of their own: a form that is none, a path that is no UTF-8.
fn refusal_of_extractor(response: &Response) -> Option<Refusal> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_plain = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    (is_plain && response.status().is_client_error()).then(|| Refusal::new(ErrorCode::RequestMalformed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};

    #[tokio::test]
    async fn a_form_is_read_whole_within_its_size_and_time_and_a_page_has_none() {
        let long = Duration::from_mins(1);
        let pieces = |bytes: usize| {
            let pieces = [0, 1].map(|_| Ok::<_, std::io::Error>(vec![b'x'; bytes / 2]));
            Body::from_stream(stream::iter(pieces))
        };
        let read = async |method: Method, body: Body, time: Duration| {
            Ok::<_, ErrorCode>(
                read_form(&method, body, time).await?.collect().await.unwrap().to_bytes().len(),
            )
        };
        assert_eq!(read(Method::POST, pieces(FORM_BYTES_MAX), long).await, Ok(FORM_BYTES_MAX));
        let too_large = read(Method::POST, pieces(FORM_BYTES_MAX + 2), long).await;
        assert_eq!(too_large, Err(ErrorCode::RequestTooLarge));
        let broken = Body::from_stream(stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("gone"))]));
        assert_eq!(read(Method::POST, broken, long).await, Err(ErrorCode::RequestMalformed));
        let endless = stream::iter([Ok::<_, std::io::Error>("a=b")]).chain(stream::pending());
        let late = read(Method::POST, Body::from_stream(endless), Duration::from_millis(5)).await;
        assert_eq!(late, Err(ErrorCode::RequestTooSlow));
        assert_eq!(read(Method::GET, pieces(100), long).await, Ok(0));
    }
}
