//! Traefik's ForwardAuth and Caddy's forward_auth: any status is passed to the browser as it is.
//!
//! The request asked about is in `X-Forwarded-Method`, `-Proto`, `-Host` and `-Uri`.

use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::normalise_host;
use http::header::{CACHE_CONTROL, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::auth_request::one;
use super::{Answer, Outcome, Question, ask};
use crate::app::SharedApp;
use crate::cookies::without_ours;
use crate::logging::RequestId;
use crate::refusal::Refusal;

/// `GET /forward-auth`.
pub(super) async fn forward_auth(app: &SharedApp, headers: &HeaderMap, request_id: &RequestId) -> Response {
    let answer = match read(app, headers) {
        Ok((application, method, target)) => {
            ask(app, Question { application, method, target, headers }).await
        }
        Err(code) => Answer::refused(code, false),
    };
    write(app, headers, answer, request_id.as_str())
}

fn read<'r>(
    app: &'r SharedApp,
    headers: &'r HeaderMap,
) -> Result<(&'r crate::configuration::Application, &'r str, &'r str), ErrorCode> {
    let method = one(headers, "x-forwarded-method")?;
    let proto = one(headers, "x-forwarded-proto")?;
    let host = one(headers, "x-forwarded-host")?;
    let target = one(headers, "x-forwarded-uri")?;
    // Traefik says `ws` and `wss` of WebSockets.
    let https = matches!(proto, "https" | "wss");
    if !matches!(proto, "http" | "https" | "ws" | "wss") || https != app.https() {
        return Err(ErrorCode::GateHeadersMalformed);
    }
    let host = normalise_host(host, app.https()).ok_or(ErrorCode::RequestUnknownHost)?;
    let application = app.configuration.application_on(&host).ok_or(ErrorCode::RequestUnknownHost)?;
    Ok((application, method, target))
}

fn write(app: &SharedApp, asked: &HeaderMap, answer: Answer, request_id: &str) -> Response {
    let mut response = match &answer.outcome {
        Outcome::Allow => Response::new(axum::body::Body::empty()),
        Outcome::Authenticate { location, .. } if answer.navigation => {
            let mut response = Response::new(axum::body::Body::empty());
            *response.status_mut() = StatusCode::FOUND;
            if let Ok(location) = HeaderValue::from_str(location) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
        Outcome::Authenticate { code, location } => Refusal::new(*code).problem(request_id, Some(location)),
        Outcome::Refuse(code) => Refusal::new(*code).problem(request_id, None),
    };
    // ForwardAuth knows 200, 302, 400, 401, 403 and 503 (decisions.md).
    if !matches!(response.status().as_u16(), 200 | 302 | 400 | 401 | 403 | 503) {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    let headers = response.headers_mut();
    headers.extend(answer.headers);
    if answer.outcome == Outcome::Allow {
        let cookie = without_ours(asked, app.https()).unwrap_or(HeaderValue::from_static(""));
        headers.insert("cookie", cookie);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Cookie"));
    response
}
