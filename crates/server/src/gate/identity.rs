//! The identity headers as HTTP's types, made once for as long as an assertion is used again.
//!
//! In: core's identity headers. Out: the same for the built-in proxy's request, or as the headers of a gate's answer.
//! Invariant: always the complete set, empty where nothing is known (conformance.md V02).

use doorward_core::identity_headers::{IDENTITY_HEADER_COUNT, IdentityHeaders, empty_identity_headers};
use http::header::{CACHE_CONTROL, COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::{Arc, LazyLock, OnceLock};

use crate::header_names::{DOORWARD_STATUS, X_REQUEST_ID};

/// The place of the signed assertion among the identity headers.
pub(super) const ASSERTION_PLACE: usize = 7;

/// Names and values of the identity headers, in core's order.
pub(super) type Headers = [(HeaderName, HeaderValue); IDENTITY_HEADER_COUNT];

/// The complete set of identity headers. Copies share it.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    headers: Headers,
    /// Made when the gate's listener uses them a second time.
    answer: OnceLock<HeaderMap>,
}

/// The set of whoever is not known.
static NOBODY: LazyLock<Identity> = LazyLock::new(|| Identity::new(headers_of(empty_identity_headers())));

impl Identity {
    pub(super) fn new(headers: Headers) -> Self {
        Self(Arc::new(Kept { headers, answer: OnceLock::new() }))
    }

    /// The set with nothing in it.
    pub(super) fn nobody() -> Self {
        NOBODY.clone()
    }

    /// Name and value of each.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// The headers of a gate's answer: these, what every answer has, and places for what each has of its own, `Cookie` and
    /// `X-Request-Id`. Copying a map costs a third of filling one (bench/README.md).
    pub(super) fn into_answer(self) -> HeaderMap {
        match Arc::try_unwrap(self.0) {
            Ok(only) => answer_of(&only.headers),
            Err(kept) => kept.answer.get_or_init(|| answer_of(&kept.headers)).clone(),
        }
    }
}

fn answer_of(identity: &Headers) -> HeaderMap {
    let nothing = HeaderValue::from_static("");
    let others = [
        (DOORWARD_STATUS, HeaderValue::from_static("200")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("Cookie")),
        (COOKIE, nothing.clone()),
        (X_REQUEST_ID, nothing),
    ];
    let mut headers = HeaderMap::with_capacity(identity.len() + others.len());
    headers.extend(identity.iter().cloned().chain(others));
    headers
}

/// Core's identity headers as HTTP writes them: UTF-8 octets.
pub(super) fn headers_of(identity: IdentityHeaders<'_>) -> Headers {
    let value = |value: &str| match value {
        "" => HeaderValue::from_static(""),
        // Core has taken control characters out, so this does not fail; were it to, the header would be empty.
        value => HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static("")),
    };
    let mut values = identity.into_iter().map(|(_, text)| value(&text));
    NAMES.each_ref().map(|name| (name.clone(), values.next().unwrap_or(HeaderValue::from_static(""))))
}

/// Core's `IDENTITY_HEADER_NAMES`, in its order, as HTTP's types: read once and not at each answer.
static NAMES: [HeaderName; IDENTITY_HEADER_COUNT] = [
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("remote-name"),
    HeaderName::from_static("remote-email"),
    HeaderName::from_static("remote-groups"),
    HeaderName::from_static("doorward-account"),
    HeaderName::from_static("doorward-organization"),
    HeaderName::from_static("doorward-role"),
    HeaderName::from_static("doorward-assertion"),
    HeaderName::from_static("doorward-sso"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_core::identity_headers::IDENTITY_HEADER_NAMES;

    #[test]
    fn the_names_of_identity_headers_are_cores_names_in_its_order() {
        let names: Vec<_> = Identity::nobody().headers().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, IDENTITY_HEADER_NAMES.map(str::to_lowercase));
        assert_eq!(IDENTITY_HEADER_NAMES[ASSERTION_PLACE], "Doorward-Assertion");
    }

    #[test]
    fn an_answer_is_the_same_however_often_its_identity_is_used() {
        let identity = Identity::new(headers_of(empty_identity_headers()));
        let kept = [identity.clone().into_answer(), identity.clone().into_answer()];
        let only = identity.into_answer();
        assert!(kept.iter().all(|kept| *kept == only), "{kept:?} {only:?}");
        assert_eq!(only.len(), IDENTITY_HEADER_COUNT + 5);
    }
}
