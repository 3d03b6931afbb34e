//! Where a browser may be sent back to after it has signed in.
//!
//! In: a `next` that anybody may have written. Out: the exact `Location` of a page on our own host or on an
//! application's, or nothing (conformance.md V20, V21). Never here: a guess at what was meant.
//! Invariant: the browser, whatever it makes of the text, ends on one of these hosts with the base URL's scheme.

use crate::request_target::{normalise_host, normalise_path};
use std::borrow::Cow;
use url::{Position, Url};

/// The longest `next` that is taken, in bytes.
pub const RETURN_TO_BYTES_MAX: usize = 4096;

/// An address that a browser may be sent to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReturnTo {
    location: String,
    same_origin: bool,
}

impl ReturnTo {
    /// What to send as `Location`: a path for our own host, else an absolute URL.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Whether it is on our own host. A POST may redirect there; to another origin it answers with a page (rule 10).
    pub const fn is_same_origin(&self) -> bool {
        self.same_origin
    }
}

/// Takes a path on our own host, or an absolute URL with the base URL's scheme on our own host or an application's.
/// `application_hosts` are in the form of [`normalise_host`].
pub fn parse_return_to<'h>(
    text: &str,
    base_url: &Url,
    application_hosts: impl IntoIterator<Item = &'h str>,
) -> Option<ReturnTo> {
    // Browsers drop tabs and line ends and read `\` as `/`: none of these belongs into an address.
    let plain = text.len() <= RETURN_TO_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if !plain {
        return None;
    }
    let https = base_url.scheme() == "https";
    let own_host = normalise_host(base_url.authority(), https)?;
    let (host, path) = if text.starts_with('/') {
        (own_host.clone(), Cow::Borrowed(text))
    } else {
        split_absolute(text, base_url.scheme(), https)?
    };
    let same_origin = host == own_host;
    if !same_origin && !application_hosts.into_iter().any(|known| known == host) {
        return None;
    }

    // The gate's own reading of paths, so that nothing comes back here that the gate would refuse.
    let before_fragment = path.split_once('#').map_or(&*path, |(before, _)| before);
    normalise_path(before_fragment).ok()?;

    // What is sent is what the parser that browsers share made of it (WHATWG URL), not what was typed.
    let url = Url::parse(&format!("{}://{host}{path}", base_url.scheme())).ok()?;
    let parsed_host = normalise_host(url.authority(), https)?;
    if parsed_host != host || url.scheme() != base_url.scheme() {
        return None;
    }
    let location = if same_origin { &url[Position::BeforePath..] } else { url.as_str() };
    Some(ReturnTo { location: location.to_owned(), same_origin })
}

/// Splits `scheme://host/path`; a missing path is `/`.
fn split_absolute<'t>(text: &'t str, scheme: &str, https: bool) -> Option<(Cow<'t, str>, Cow<'t, str>)> {
    let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_ends)?;
    let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
    Some((normalise_host(authority, https)?, path))
}
