//! What a provider answered to one of our requests, before anything in it is believed.
//!
//! In: status, media type and bytes as the server's outbound client read them. Out: helpers for the parsers.
//! Never here: HTTP itself.

use crate::finding::bounded;
use url::Url;

/// One answer of a provider: to a metadata, key, token or UserInfo request.
#[derive(Clone, Copy, Debug)]
pub struct HttpAnswer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` header, if there was one.
    pub content_type: Option<&'a str>,
    /// The body, already bounded by the outbound client; each parser has its own smaller bound.
    pub bytes: &'a [u8],
}

impl<'a> HttpAnswer<'a> {
    /// An answer 200 with JSON: for what was cached and for tests.
    pub const fn json(bytes: &'a [u8]) -> Self {
        Self { status: 200, content_type: Some("application/json"), bytes }
    }

    /// The media type in lower case without its parameters.
    pub(crate) fn media_type(&self) -> Option<String> {
        let text = self.content_type?.split(';').next()?.trim().to_ascii_lowercase();
        (!text.is_empty()).then(|| bounded(&text, 100))
    }

    /// Whether the answer calls itself JSON.
    pub(crate) fn says_json(&self) -> bool {
        self.media_type().is_some_and(|media_type| {
            media_type == "application/json"
                || (media_type.starts_with("application/") && media_type.ends_with("+json"))
        })
    }

    /// Whether the provider can't serve at the moment: overloaded or down.
    pub(crate) const fn is_unavailable(&self) -> bool {
        matches!(self.status, 429 | 500 | 502 | 503 | 504)
    }
}

/// Whether a URL may be called or shown as a provider's address: https (or http where the operator allowed host and
/// port), no userinfo, no fragment, at most 2,048 characters (conformance.md D3, S5). The reason if not. `insecure_allowed` gets an IPv6 address without its brackets.
pub(crate) fn judge_endpoint(
    url: &Url,
    insecure_allowed: &impl Fn(&str, u16) -> bool,
) -> Result<(), EndpointFault> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EndpointFault::NotUrl)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().ok_or(EndpointFault::NotUrl)?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(EndpointFault::Extras);
    }
    if url.as_str().len() > MAX_URL {
        return Err(EndpointFault::TooLong);
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if insecure_allowed(host, port) => Ok(()),
        "http" => Err(EndpointFault::NotHttps),
        _ => Err(EndpointFault::NotUrl),
    }
}

/// The longest URL that is taken, in characters.
pub(crate) const MAX_URL: usize = 2048;

/// Why a URL can't be a provider's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndpointFault {
    NotUrl,
    NotHttps,
    Extras,
    TooLong,
}

impl EndpointFault {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotUrl => "not an absolute URL",
            Self::NotHttps => "not https",
            Self::Extras => "holds a user name, a password or a fragment",
            Self::TooLong => "longer than 2048 characters",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_decides_and_its_parameters_do_not() {
        let answer = |content_type| HttpAnswer { status: 200, content_type, bytes: b"" };
        assert!(answer(Some("Application/JSON; charset=utf-8")).says_json());
        assert!(answer(Some("application/jwk-set+json")).says_json());
        for other in [None, Some(""), Some("text/html"), Some("application/jwt"), Some("text/json+json")] {
            assert!(!answer(other).says_json(), "{other:?}");
        }
    }
}
