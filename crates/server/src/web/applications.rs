//! Requests for applications on the main listener: the built-in reverse proxy, with the gate in front of it.
//!
//! The gate's answer decides; this adapter only writes it: on to the upstream, to the sign-in, or a page.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use futures_util::stream;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, VARY, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::access::finish;
use super::banner::Banner;
use super::page::render_refusal_elsewhere;
use super::visit::{Visit, wants_page};
use crate::app::SharedApp;
use crate::configuration::Application;
use crate::cookies;
use crate::gate::{Answer, Outcome, Question, Told, ask, is_still_allowed};
use crate::logging::{self, Arrival};
use crate::proxy::{Forwarding, Permission};
use crate::refusal::Refusal;
use crate::serve::CHANGES_EVERY;

/// How often a running stream's right to go on is looked at: it ends within a second of its revocation.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// On another node the change has to be read first.
const _: () = assert!(LOOK_AGAIN.as_millis() + CHANGES_EVERY.as_millis() < 1000);

/// How many looks may find no store before a stream ends: as long as the cache would be trusted (rule 16).
const UNANSWERED_MAX: u32 = 10;

/// Whose an answer is: an application has security headers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AnsweredBy {
    /// One of ours.
    Doorward,
    /// The application's.
    Application,
}

/// Answers a request on `host` for the application in `place` of the configuration's list.
pub(super) fn serve(
    app: SharedApp,
    place: usize,
    host: String,
    request: Request,
    arrival: Arrival,
) -> impl Future<Output = (Response, AnsweredBy)> + Send {
    let (parts, body) = request.into_parts();
    async move {
        let Some(application) = app.configuration.applications.get(place) else {
            let visit = Visit::elsewhere(Some(&arrival), false, None);
            return (
                refuse(&app, &visit, &Refusal::new(ErrorCode::RequestUnknownHost)),
                AnsweredBy::Doorward,
            );
        };
        let target = parts.uri.path_and_query().cloned();
        let answer =
            ask(&app, &question(application, &host, &parts.method, target.as_ref(), &parts.headers)).await;
        // What a person waits for who sends a form is a page too.
        let navigation =
            answer.navigation || (!parts.method.is_safe() && wants_page(&parts.method, &parts.headers));
        // Made for the few whom we answer ourselves.
        let visit =
            |target: &Option<PathAndQuery>| Visit::elsewhere(Some(&arrival), navigation, target.as_ref());
        if answer.outcome != Outcome::Allow {
            return (write(&app, &visit(&target), &answer), AnsweredBy::Doorward);
        }
        let Some(upstream) = application.upstream.as_ref() else {
            // An application that another proxy serves: only that proxy's host name leads here by mistake.
            let refusal = Refusal::new(ErrorCode::RequestUnknownHost);
            return (refuse(&app, &visit(&target), &refusal), AnsweredBy::Doorward);
        };
        let names = cookies::names(app.https());
        let banner = Banner::wanted(&app, (application, &host), &answer, &parts);
        let asked = (parts.method.clone(), target.clone());
        let permission = while_allowed(Arc::clone(&app), place, host, asked, &parts.headers, answer.told);
        let mut request = Request::from_parts(parts, body);
        if banner.is_some() {
            Banner::prepare(request.headers_mut());
        }
        let forwarding = Forwarding {
            upstream,
            set: answer.identity.headers(),
            own_cookie_names: &names,
            client_address: arrival.client.0,
            https: app.https(),
        };
        match app.proxy.forward(&forwarding, request, permission).await {
            Ok(response) => {
                let response = match banner {
                    Some(banner) => banner.put_into(response),
                    None => response,
                };
                (response, AnsweredBy::Application)
            }
            Err(fault) => {
                tracing::warn!(code = %fault.code, detail = fault.detail, "the application did not answer");
                (refuse(&app, &visit(&target), &Refusal::new(fault.code)), AnsweredBy::Doorward)
            }
        }
    }
}

/// What the gate is asked about a request.
fn question<'r>(
    application: &'r Application,
    host: &'r str,
    method: &'r Method,
    target: Option<&'r PathAndQuery>,
    headers: &'r HeaderMap,
) -> Question<'r> {
    let target = target.map_or("/", PathAndQuery::as_str);
    Question { application, host: Cow::Borrowed(host), method: method.as_str(), target, headers }
}

/// Ends when the gate would no longer let the same request through, or would tell the application of another person or of
/// a lower role than it was `told`.
fn while_allowed(
    app: SharedApp,
    place: usize,
    host: String,
    (method, target): (Method, Option<PathAndQuery>),
    headers: &HeaderMap,
    told: Told,
) -> Permission {
    let mut credentials: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for name in [COOKIE, AUTHORIZATION] {
        credentials.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    let look = Look { app, place, host, method, target, credentials, told, unanswered: 0 };
    Box::pin(stream::unfold(look, |mut look| async {
        tokio::time::sleep(LOOK_AGAIN).await;
        let stopwatch = look.app.clock.stopwatch();
        // On a task of its own: nobody polls this while a client takes nothing of its answer, and a look that stands still
        // would keep its place at the database. Besides, most requests are over before the first look, and shall not
        // carry the room for one.
        let looking = logging::spawn(async move { (look.is_allowed().await, look) });
        let (allowed, look) = looking.await.ok()?;
        allowed.then_some((LOOK_AGAIN + stopwatch.elapsed(), look))
    }))
}

/// What the gate is asked again while a request runs.
struct Look {
    app: SharedApp,
    place: usize,
    host: String,
    method: Method,
    target: Option<PathAndQuery>,
    credentials: Vec<(HeaderName, HeaderValue)>,
    told: Told,
    /// How many looks in a row have found no store.
    unanswered: u32,
}

impl Look {
    async fn is_allowed(&mut self) -> bool {
        let Some(application) = self.app.configuration.applications.get(self.place) else { return false };
        let mut headers = HeaderMap::with_capacity(self.credentials.len());
        for (name, value) in &self.credentials {
            headers.append(name, value.clone());
        }
        let question = question(application, &self.host, &self.method, self.target.as_ref(), &headers);
        match is_still_allowed(&self.app, &question, self.told).await {
            Some(allowed) => {
                self.unanswered = 0;
                allowed
            }
            None => {
                self.unanswered += 1;
                self.unanswered <= UNANSWERED_MAX
            }
        }
    }
}

/// Writes an answer that is not an allow.
pub(super) fn write(app: &SharedApp, visit: &Visit, answer: &Answer) -> Response {
    let program;
    let visit = if answer.by_token {
        program = Visit { navigation: false, ..visit.clone() };
        &program
    } else {
        visit
    };
    match &answer.outcome {
        Outcome::Allow => refuse(app, visit, &Refusal::new(ErrorCode::PageNotFound)),
        Outcome::Authenticate { location, .. } if answer.navigation => {
            let mut response = super::access::redirect(location);
            *response.status_mut() = StatusCode::FOUND;
            uncacheable(response)
        }
        Outcome::Authenticate { code, location } => {
            if visit.navigation {
                // A form whose session has run out: its fields are in the tab, so nothing is redirected away.
                let refusal = Refusal::new(*code).with_action("Sign in", location.clone());
                return refuse(app, visit, &refusal);
            }
            let name = match code {
                ErrorCode::TokenInvalid => "tokens_url",
                ErrorCode::TokenSsoAuthorizationRequired => "authorize_url",
                _ => "sign_in_url",
            };
            let mut problem = Refusal::new(*code).problem(&visit.request_id, Some((name, location)));
            if problem.status() == StatusCode::UNAUTHORIZED {
                challenge(problem.headers_mut(), answer);
            }
            uncacheable(problem)
        }
        Outcome::Refuse(code) => refuse(app, visit, &Refusal::new(*code)),
    }
}

/// Says which credentials a program may send (RFC 9110 section 11.6.1). `Basic` to none that is a browser, which would
/// show a dialogue of its own.
fn challenge(headers: &mut HeaderMap, answer: &Answer) {
    let bearer = if answer.by_token {
        r#"Bearer realm="Doorward", error="invalid_token""#
    } else {
        r#"Bearer realm="Doorward""#
    };
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(bearer));
    if !answer.browser {
        headers
            .append(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="Doorward", charset="UTF-8""#));
    }
}

pub(super) fn refuse(app: &SharedApp, visit: &Visit, refusal: &Refusal) -> Response {
    let response = if visit.navigation {
        finish(app, visit, refusal.finish(render_refusal_elsewhere(app, visit, refusal)))
    } else {
        refusal.problem(&visit.request_id, None)
    };
    uncacheable(response)
}

fn uncacheable(mut response: Response<Body>) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Cookie"));
    response
}
