//! Proxies that pass the gate's answer on as it is: Traefik, Caddy and HAProxy (forward_auth.rs), Envoy (ext_authz.rs).
//!
//! In: a question in one of two dialects. Out: 200 with the headers of the request that goes on, or the very answer
//! that the browser gets: 302, or a page or problem document with 400, 401, 403 or 503 (decisions.md).
//! Never here: what such a page looks like; the pages' side writes it, so that it is the same behind every proxy.

use axum::body::Body;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Answer, Outcome, Question, WriteAnswer, ext_authz, forward_auth};
use crate::access_token;
use crate::app::{App, SharedApp};
use crate::client_address::ClientAddress;
use crate::cookies::without_ours;
use crate::header_names::DOORWARD_STATUS;
use crate::logging::Arrival;

/// How a proxy puts its question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `/forward-auth`.
    ForwardAuth,
    /// `/ext-authz/…`.
    ExtAuthz,
}

/// The question in a request.
pub(super) fn read<'r>(app: &'r App, parts: &'r Parts, dialect: Dialect) -> Result<Question<'r>, ErrorCode> {
    match dialect {
        Dialect::ForwardAuth => forward_auth::read(app, &parts.headers),
        Dialect::ExtAuthz => ext_authz::read(app, parts),
    }
}

/// The answer to it.
pub(super) fn write(
    app: &SharedApp,
    parts: &mut Parts,
    arrival: Arrival,
    dialect: Dialect,
    answer: Answer,
    write: WriteAnswer,
) -> Response {
    if answer.outcome == Outcome::Allow {
        return allow(app, &parts.headers, arrival.client, dialect, answer);
    }
    parts.extensions.insert(arrival);
    let mut response = write(app, parts, &answer);
    if !matches!(response.status().as_u16(), 302 | 400 | 401 | 403 | 503) {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Cookie"));
    response
}

fn allow(app: &App, asked: &HeaderMap, client: ClientAddress, dialect: Dialect, answer: Answer) -> Response {
    let mut response = Response::new(Body::empty());
    let identity = answer.identity;
    *response.headers_mut() = identity.clone().into_answer();
    let headers = response.headers_mut();
    // nginx alone is told so.
    headers.remove(DOORWARD_STATUS);
    if let Some(cookie) = without_ours(asked, app.https()) {
        headers.insert(COOKIE, cookie);
    }
    match dialect {
        Dialect::ForwardAuth => {
            for value in access_token::without_ours(asked) {
                headers.append(AUTHORIZATION, value.clone());
            }
        }
        Dialect::ExtAuthz => ext_authz::complete(asked, client, &identity, headers),
    }
    response
}
