//! Proxies that pass the gate's answer on as it is: Traefik, Caddy and HAProxy (forward_auth.rs), Envoy (ext_authz.rs).
//!
//! In: a question in one of two dialects. Out: 200 with the headers of the request that goes on, or the very answer
//! that the browser gets: 302, or a page or problem document with 400, 401, 403 or 503 (decisions.md).
//! Never here: what such a page looks like; the pages' side writes it, so that it is the same behind every proxy.

use axum::body::Body;
use axum::response::Response;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, VARY};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::{Answer, Outcome, WriteAnswer, ask, ext_authz, forward_auth};
use crate::access_token;
use crate::app::SharedApp;
use crate::client_address::ClientAddress;
use crate::cookies::without_ours;
use crate::logging::RequestId;

/// Headers of an allow beside those that tell who this is.
const OWN_HEADERS: usize = 6;

/// How a proxy puts its question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `/forward-auth`.
    ForwardAuth,
    /// `/ext-authz/…`.
    ExtAuthz,
}

pub(super) async fn passed_on(
    app: &SharedApp,
    mut parts: Parts,
    (id, client): (&RequestId, ClientAddress),
    dialect: Dialect,
    write: WriteAnswer,
) -> Response {
    let question = match dialect {
        Dialect::ForwardAuth => {
            forward_auth::restore_upgrade(&mut parts);
            forward_auth::read(app, &parts.headers)
        }
        Dialect::ExtAuthz => ext_authz::read(app, &parts),
    };
    let answer = match question {
        Ok(question) => ask(app, question).await,
        Err(code) => Answer::refused(code, false),
    };
    let mut response = match &answer.outcome {
        Outcome::Allow => Response::new(Body::empty()),
        Outcome::Authenticate { .. } | Outcome::Refuse(_) => {
            parts.extensions.insert(id.clone());
            parts.extensions.insert(client);
            write(app, &parts, &answer)
        }
    };
    if !matches!(response.status().as_u16(), 200 | 302 | 400 | 401 | 403 | 503) {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    let headers = response.headers_mut();
    if answer.outcome == Outcome::Allow {
        headers.reserve(answer.headers.len() + OWN_HEADERS);
        headers.extend(answer.headers.iter().cloned());
        let cookie = without_ours(&parts.headers, app.https()).unwrap_or(HeaderValue::from_static(""));
        headers.insert(COOKIE, cookie);
        match dialect {
            Dialect::ForwardAuth => {
                for value in access_token::without_ours(&parts.headers) {
                    headers.append(AUTHORIZATION, value.clone());
                }
            }
            Dialect::ExtAuthz => ext_authz::complete(&parts.headers, client, &answer, headers),
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Cookie"));
    response
}
