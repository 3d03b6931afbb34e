//! Envoy's `ext_authz` filter over HTTP: the question is the request itself, below `/ext-authz`.
//!
//! In: the request's own method, host, path and headers. Out: 200 with what Envoy sets on the request and what it takes
//! off it, or the answer for the browser, which Envoy passes on as it is.
//! Invariant: every header that only we may say is set or named in `x-envoy-auth-headers-to-remove`, under exactly the
//! spelling that the client chose, because Envoy compares names letter by letter (conformance.md V01).

use doorward_core::error_code::ErrorCode;
use doorward_core::identity_headers::is_not_the_clients;
use doorward_core::request_target::normalise_host;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::auth_request::one;
use super::{Identity, Question};
use crate::access_token;
use crate::app::App;
use crate::client_address::ClientAddress;
use crate::header_names::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

/// What the filter's `path_prefix` says.
const PREFIX: &str = "/ext-authz";

/// Whether a path on the gate's listener is a question of Envoy's.
pub(super) fn is_asked(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('/'))
}

pub(super) fn read<'r>(app: &'r App, parts: &'r Parts) -> Result<Question<'r>, ErrorCode> {
    // `use_remote_address` makes Envoy write this itself.
    if parts.headers.contains_key(X_FORWARDED_PROTO) {
        let https = one(&parts.headers, &X_FORWARDED_PROTO)? == "https";
        if https != app.https() {
            return Err(ErrorCode::GateHttpSeen);
        }
    }
    let target = parts.uri.path_and_query().and_then(|target| target.as_str().strip_prefix(PREFIX));
    let target = target.ok_or(ErrorCode::GateHeadersMalformed)?;
    let host = normalise_host(one(&parts.headers, &HOST)?, app.https());
    let host = host.ok_or(ErrorCode::RequestUnknownHost)?;
    let application = app.configuration.application_on(&host).ok_or(ErrorCode::RequestUnknownHost)?;
    Ok(Question { application, host, method: parts.method.as_str(), target, headers: &parts.headers })
}

const HEADERS_TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Sets the client's address on a request that goes on, and names what Envoy must take off it: whatever is the client's
/// under a name of ours that the answer doesn't set.
pub(super) fn complete(asked: &HeaderMap, client: ClientAddress, identity: &Identity, set: &mut HeaderMap) {
    // Envoy adds the address that it sees to what the client wrote; the application gets the one that counts.
    if let Ok(client) = HeaderValue::try_from(client.to_string()) {
        set.insert(X_FORWARDED_FOR, client);
    }
    let right_already = [X_FORWARDED_FOR, X_FORWARDED_PROTO];
    let goes = |name: &&HeaderName| {
        is_not_the_clients(name.as_str())
            && !right_already.contains(name)
            && !identity.headers().iter().any(|(ours, _)| ours == *name)
    };
    let mut names: Vec<&str> = asked.keys().filter(goes).map(HeaderName::as_str).collect();
    // No cookie of others is left: an empty header would be passed on.
    if set.get(COOKIE).is_some_and(HeaderValue::is_empty) {
        set.remove(COOKIE);
        names.push(COOKIE.as_str());
    }
    // What is not ours stays on the request as it is.
    if asked.contains_key(AUTHORIZATION) && access_token::without_ours(asked).next().is_none() {
        names.push(AUTHORIZATION.as_str());
    }
    if !names.is_empty()
        && let Ok(names) = HeaderValue::try_from(names.join(","))
    {
        set.insert(HEADERS_TO_REMOVE, names);
    }
}
