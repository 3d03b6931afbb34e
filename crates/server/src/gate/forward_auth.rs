//! Traefik's `forwardAuth`, Caddy's `forward_auth` and HAProxy: the question is in `X-Forwarded-Method`, `-Proto`,
//! `-Host` and `-Uri`; the answer is passed to the browser as it is.

use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::normalise_host;
use http::header::{SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::Question;
use super::auth_request::one;
use crate::app::App;
use crate::header_names::{X_FORWARDED_HOST, X_FORWARDED_METHOD, X_FORWARDED_PROTO, X_FORWARDED_URI};

pub(super) fn read<'r>(app: &'r App, headers: &'r HeaderMap) -> Result<Question<'r>, ErrorCode> {
    let method = one(headers, &X_FORWARDED_METHOD)?;
    let proto = one(headers, &X_FORWARDED_PROTO)?;
    let host = one(headers, &X_FORWARDED_HOST)?;
    let target = one(headers, &X_FORWARDED_URI)?;
    // Traefik says `ws` and `wss` of WebSockets.
    let https = match proto {
        "https" | "wss" => true,
        "http" | "ws" => false,
        _ => return Err(ErrorCode::GateHeadersMalformed),
    };
    if https != app.https() {
        return Err(ErrorCode::GateHttpSeen);
    }
    let host = normalise_host(host, app.https()).ok_or(ErrorCode::RequestUnknownHost)?;
    let application = app.configuration.application_on(&host).ok_or(ErrorCode::RequestUnknownHost)?;
    Ok(Question { application, host, method, target, headers })
}

/// Traefik keeps `Upgrade` to itself, as a header for one hop; what else belongs to a WebSocket tells of it.
pub(super) fn restore_upgrade(parts: &mut Parts) {
    if parts.headers.contains_key(SEC_WEBSOCKET_KEY) && !parts.headers.contains_key(UPGRADE) {
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}
