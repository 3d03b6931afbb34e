//! nginx's `auth_request` (decisions.md, "Status on /auth-request").
//!
//! nginx knows 2xx, 401 and 403 and makes a 500 of everything else; so the real status is in `Doorward-Status`, and
//! where to go is in `Location`. The request asked about is in `X-Original-Method` and `X-Original-URL`.

use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::normalise_host;
use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;

use super::{Answer, Outcome, Question};
use crate::access_token;
use crate::app::App;
use crate::configuration::Application;
use crate::cookies::without_ours;
use crate::header_names::{DOORWARD_CODE, DOORWARD_STATUS, X_ORIGINAL_METHOD, X_ORIGINAL_URL};

/// One value of a header that the proxy sets; doubled or missing is not guessed at.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, ErrorCode> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(ErrorCode::GateHeadersMalformed),
    }
}

/// The question in nginx's headers.
pub(crate) fn read<'r>(app: &'r App, headers: &'r HeaderMap) -> Result<Question<'r>, ErrorCode> {
    let method = one(headers, &X_ORIGINAL_METHOD)?;
    let Address { application, host, target } = split(app, one(headers, &X_ORIGINAL_URL)?)?;
    Ok(Question { application, host, method, target, headers })
}

/// What an absolute URL names.
#[derive(Clone, Debug)]
pub struct Address<'r> {
    /// The application.
    pub application: &'r Application,
    /// The host, as `normalise_host` writes it.
    pub host: Cow<'r, str>,
    /// Path and query, as sent.
    pub target: &'r str,
}

/// Takes an absolute URL apart.
pub(super) fn split<'r>(app: &'r App, url: &'r str) -> Result<Address<'r>, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::GateHeadersMalformed)?;
    match (scheme, app.https()) {
        ("https", true) | ("http", false) => {}
        ("https" | "http", _) => return Err(ErrorCode::GateHttpSeen),
        _ => return Err(ErrorCode::GateHeadersMalformed),
    }
    let at = rest.find('/').ok_or(ErrorCode::GateHeadersMalformed)?;
    let (authority, target) = rest.split_at_checked(at).ok_or(ErrorCode::GateHeadersMalformed)?;
    let host = normalise_host(authority, app.https()).ok_or(ErrorCode::RequestUnknownHost)?;
    let application = app.configuration.application_on(&host).ok_or(ErrorCode::RequestUnknownHost)?;
    Ok(Address { application, host, target })
}

/// The answer for nginx to a question in these headers.
pub(super) fn write(app: &App, asked: &HeaderMap, answer: Answer) -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    let (status, real) = match &answer.outcome {
        Outcome::Allow => (StatusCode::OK, 200),
        Outcome::Authenticate { code, .. } => (StatusCode::UNAUTHORIZED, code.status()),
        Outcome::Refuse(code) => (StatusCode::FORBIDDEN, code.status()),
    };
    *response.status_mut() = status;
    *response.headers_mut() = answer.identity.into_answer();
    let headers = response.headers_mut();
    if answer.outcome != Outcome::Allow {
        headers.remove(COOKIE);
        headers.insert(DOORWARD_STATUS, HeaderValue::from(real));
    }
    match &answer.outcome {
        Outcome::Allow => {
            if let Some(cookie) = without_ours(asked, app.https()) {
                headers.insert(COOKIE, cookie);
            }
            for value in access_token::without_ours(asked) {
                headers.append(AUTHORIZATION, value.clone());
            }
        }
        Outcome::Authenticate { code, location } => {
            headers.insert(DOORWARD_CODE, HeaderValue::from_static(code.as_str()));
            // A program gets a problem document instead, from /.doorward/answer.
            if let (true, Ok(location)) = (answer.navigation, HeaderValue::from_str(location)) {
                headers.insert(LOCATION, location);
            }
        }
        Outcome::Refuse(code) => {
            headers.insert(DOORWARD_CODE, HeaderValue::from_static(code.as_str()));
        }
    }
    response
}
