//! The gate's listener: who may ask, which adapter answers, and a line in the log at `debug`.
//!
//! In: a request and the other end of its connection. Out: an adapter's answer with its `x-request-id`.
//! A plain function instead of a router with layers: it runs for each request of each application behind us, and the
//! layers alone would cost more than the decision (bench/README.md).
//! Invariant: a 2xx comes from an adapter and nothing else (rule 15), and only trusted proxies reach one.

use axum::body::Body;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use http::{HeaderValue, Request, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

use super::auth_request::auth_request;
use super::passed_on::{Dialect, passed_on};
use super::{WriteAnswer, ext_authz};
use crate::app::SharedApp;
use crate::client_address::{client_address, is_trusted_proxy};
use crate::header_names::DOORWARD_CODE;
use crate::header_names::X_REQUEST_ID;
use crate::logging::{PathForLog, RequestId};
use crate::metrics::GateOutcome;
use crate::refusal::Refusal;
use crate::security_headers;
use crate::serve::Door;

/// What answers on the gate's listener. `write` makes the answers that proxies pass on to browsers.
pub fn door(app: &SharedApp, write: WriteAnswer) -> Door {
    let app = Arc::clone(app);
    Arc::new(move |request, peer| {
        let app = Arc::clone(&app);
        Box::pin(async move { respond(&app, request, peer, write).await })
    })
}

/// Answers one request from `peer`, whatever its body: adapters look at its head alone.
pub async fn respond<B: Send>(
    app: &SharedApp,
    request: Request<B>,
    peer: SocketAddr,
    write: WriteAnswer,
) -> Response {
    let id = RequestId::new(&app.random);
    let began = app.clock.stopwatch();
    // Lines at `debug` and what comes with them; at other levels this is nothing.
    let span = tracing::debug_span!("request", id = %id);
    // A question has no body; should one come with it, hyper reads past it.
    let (parts, _) = request.into_parts();
    let trusted_proxies = &app.configuration.trusted_proxies;
    let client = client_address(peer.ip(), &parts.headers, trusted_proxies);
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let path = uri.path();
    let dialect = match path {
        "/forward-auth" => Some(Dialect::ForwardAuth),
        path if ext_authz::is_asked(path) => Some(Dialect::ExtAuthz),
        _ => None,
    };
    let mut response = match (path, dialect) {
        ("/auth-request", _) | (_, Some(_)) if !is_trusted_proxy(peer.ip(), trusted_proxies) => {
            untrusted(app, peer, &id)
        }
        ("/auth-request", _) => auth_request(app, &parts.headers).instrument(span.clone()).await,
        (_, Some(dialect)) => {
            passed_on(app, parts, (&id, client), dialect, write).instrument(span.clone()).await
        }
        (_, None) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    tracing::debug!(
        parent: &span,
        %method,
        // Envoy's question has the application's own path in it.
        path = %PathForLog(path),
        status = response.status().as_u16(),
        ms = began.elapsed().as_millis(),
        %client,
        "gate answer"
    );
    response.headers_mut().insert(X_REQUEST_ID, id.header());
    // nginx keeps an answer to itself; the others show it to the browser.
    if response.status() != StatusCode::OK && path != "/auth-request" {
        security_headers::set(response.headers_mut(), app.https());
    }
    response
}

fn untrusted(app: &SharedApp, peer: SocketAddr, id: &RequestId) -> Response {
    app.metrics.gate_answer(None, GateOutcome::UntrustedProxy, Duration::ZERO);
    tracing::warn!(peer = %peer.ip(), "the gate was asked by an address that is not in [gate] trusted_proxies");
    let mut response = Refusal::new(ErrorCode::GateUntrustedProxy).problem(id.as_str(), None);
    // nginx reads no body: this is what it passes to /.doorward/answer.
    let code = HeaderValue::from_static(ErrorCode::GateUntrustedProxy.as_str());
    response.headers_mut().insert(DOORWARD_CODE, code);
    response
}
