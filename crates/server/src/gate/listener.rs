//! The gate's listener: who may ask, which adapter answers, and a line in the log at `debug`.
//!
//! In: a request and the other end of its connection. Out: an adapter's answer with its `x-request-id`.
//! A plain function instead of a router with layers: it runs for each request of each application behind us, and the
//! layers alone would cost more than the decision (bench/README.md).
//! Invariant: a 2xx comes from an adapter and nothing else (rule 15), and only trusted proxies reach one.

use axum::body::Body;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::passed_on::Dialect;
use super::{Answer, WriteAnswer, ask, auth_request, ext_authz, forward_auth, passed_on};
use crate::app::SharedApp;
use crate::client_address::{client_address, is_trusted_proxy};
use crate::header_names::DOORWARD_CODE;
use crate::header_names::X_REQUEST_ID;
use crate::logging::{Arrival, PathForLog, RequestId, in_request};
use crate::metrics::GateOutcome;
use crate::refusal::Refusal;
use crate::security_headers;
use crate::serve::Door;

/// What answers on the gate's listener. `write` makes the answers that proxies pass on to browsers.
pub fn door(app: &SharedApp, write: WriteAnswer) -> Door {
    let app = Arc::clone(app);
    Arc::new(move |request, peer| {
        // A question has no body; should one come with it, `connections` reads past it.
        let (parts, _) = request.into_parts();
        Box::pin(respond(Arc::clone(&app), parts, peer, write))
    })
}

/// An adapter, by the path that a proxy asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Adapter {
    AuthRequest,
    PassedOn(Dialect),
}

impl Adapter {
    fn asked(path: &str) -> Option<Self> {
        match path {
            "/auth-request" => Some(Self::AuthRequest),
            "/forward-auth" => Some(Self::PassedOn(Dialect::ForwardAuth)),
            path if ext_authz::is_asked(path) => Some(Self::PassedOn(Dialect::ExtAuthz)),
            _ => None,
        }
    }
}

/// Answers one request from `peer`: adapters look at its head alone. What needs no waiting is done at once, so that the
/// future is small.
pub fn respond(
    app: SharedApp,
    mut parts: Parts,
    peer: SocketAddr,
    write: WriteAnswer,
) -> impl Future<Output = Response> + Send {
    let id = RequestId::new(&app.random);
    // For a line at `debug`; at other levels this is nothing, and no clock is asked.
    let logged = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| Box::new((app.clock.stopwatch(), parts.method.clone(), parts.uri.clone())));
    let trusted_proxies = &app.configuration.trusted_proxies;
    let client = client_address(peer.ip(), &parts.headers, trusted_proxies);
    let trusted = is_trusted_proxy(peer.ip(), trusted_proxies);
    let adapter = Adapter::asked(parts.uri.path());
    if adapter == Some(Adapter::PassedOn(Dialect::ForwardAuth)) {
        forward_auth::restore_upgrade(&mut parts);
    }
    in_request(id, async move {
        let mut response = match adapter {
            None => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
            Some(_) if !trusted => untrusted(&app, peer, &id),
            Some(adapter) => {
                let question = match adapter {
                    Adapter::AuthRequest => auth_request::read(&app, &parts.headers),
                    Adapter::PassedOn(dialect) => passed_on::read(&app, &parts, dialect),
                };
                let answer = match question {
                    Ok(question) => ask(&app, &question).await,
                    Err(code) => Answer::refused(code, false),
                };
                match adapter {
                    Adapter::AuthRequest => auth_request::write(&app, &parts.headers, answer),
                    Adapter::PassedOn(dialect) => {
                        let arrival = Arrival { id, peer, client };
                        passed_on::write(&app, &mut parts, arrival, dialect, answer, write)
                    }
                }
            }
        };
        if let Some(logged) = logged {
            let (began, method, uri) = *logged;
            tracing::debug!(
                %method,
                // Envoy's question has the application's own path in it.
                path = %PathForLog(uri.path()),
                status = response.status().as_u16(),
                ms = began.elapsed().as_millis(),
                %client,
                "gate answer"
            );
        }
        response.headers_mut().insert(X_REQUEST_ID, id.header());
        // nginx keeps an answer to itself; the others show it to the browser.
        if response.status() != StatusCode::OK && adapter != Some(Adapter::AuthRequest) {
            security_headers::set(response.headers_mut(), app.https());
        }
        response
    })
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
