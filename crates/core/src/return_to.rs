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
/// `is_application` is asked about hosts in the form of [`normalise_host`].
pub fn parse_return_to(
    text: &str,
    base_url: &Url,
    is_application: impl Fn(&str) -> bool,
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
    if !same_origin && !is_application(&host) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOSTS: [&str; 2] = ["hub.example.com", "other.example.com:8443"];

    fn own() -> Url {
        Url::parse("https://sso.example.com/doorward").unwrap()
    }

    fn parse(text: &str) -> Option<ReturnTo> {
        parse_return_to(text, &own(), |host| HOSTS.contains(&host))
    }

    fn location(text: &str) -> Option<(String, bool)> {
        parse(text).map(|to| (to.location().to_owned(), to.is_same_origin()))
    }

    #[test]
    fn a_path_here_and_a_page_of_an_application_are_taken_as_they_are() {
        for (text, expected, same_origin) in [
            ("/", "/", true),
            ("/doorward/organizations/acme/settings", "/doorward/organizations/acme/settings", true),
            ("/login?next=%2Fx&a=b#top", "/login?next=%2Fx&a=b#top", true),
            ("/?//evil.example", "/?//evil.example", true),
            ("https://sso.example.com/x", "/x", true),
            ("https://SSO.example.com:443", "/", true),
            ("https://hub.example.com", "https://hub.example.com/", false),
            ("https://Hub.Example.com.:443/acme/x?y=1", "https://hub.example.com/acme/x?y=1", false),
            ("https://hub.example.com?y", "https://hub.example.com/?y", false),
            ("https://other.example.com:8443/a%20b", "https://other.example.com:8443/a%20b", false),
        ] {
            assert_eq!(location(text), Some((expected.to_owned(), same_origin)), "{text}");
        }
    }

    #[test]
    fn v21_nothing_leads_to_another_host() {
        for text in [
            "",
            "e",
            "//e",
            "///e",
            "////e",
            "/\\e",
            "\\\\e",
            "\\/e",
            "/\t/e",
            "\t//e",
            " //e",
            " /e",
            "/\n/e",
            "/\r\n/e",
            "/x\r\nSet-Cookie: a=b",
            "/x\0",
            "/%5ce",
            "/%5c%5ce",
            "/%2fe",
            "/%2f%2fe",
            "/%252f%252fe",
            "/%09/e",
            "/%0d%0aX:y",
            "/./../\\e",
            "/.//e",
            "/..//e",
            "/;//e",
            "https:e",
            "https:/e",
            "https:/hub.example.com/",
            "https:///hub.example.com/",
            "https:\\\\hub.example.com/",
            "https://",
            "https:///",
            "javascript:alert(1)",
            "javascript://hub.example.com/%0aalert(1)",
            "data:text/html,x",
            "blob:https://hub.example.com/x",
            "http://hub.example.com/",
            "http://sso.example.com/",
            "ftp://hub.example.com/",
            "HTTPS//hub.example.com",
            "\u{ff0f}\u{ff0f}e",
            "/\u{ff0f}e",
            "/\u{3002}e",
            "/é",
            "//e@sso.example.com",
            "//sso.example.com",
            "https://e@hub.example.com/",
            "https://hub.example.com@e/",
            "https://hub.example.com:x@e/",
            "https://hub.example.com.e/",
            "https://hub.example.come/",
            "https://sso.example.com.e/",
            "https://sso.example.comx/",
            "https://xhub.example.com/",
            "https://example.com/",
            "https://hub.example.com:8443/",
            "https://other.example.com/",
            "https://hub.example.com\\.e/",
            "https://hub.example.com%2ee/",
            "https://hub%2eexample.com/",
            "https://hub.example.com//e",
            "https://hub.example.com/../x",
            "https://hub.example.com#@e/\\",
            "https://evil.example/#https://hub.example.com/",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX))), None);
    }

    #[test]
    fn on_plain_localhost_the_scheme_and_port_are_those_of_the_base_url() {
        let base = Url::parse("http://localhost:8080").unwrap();
        let parse = |text| {
            parse_return_to(text, &base, |host| host == "hub.localhost:8080")
                .map(|to| to.location().to_owned())
        };
        assert_eq!(
            parse("http://hub.localhost:8080/acme").as_deref(),
            Some("http://hub.localhost:8080/acme")
        );
        assert_eq!(parse("http://localhost:8080/x").as_deref(), Some("/x"));
        for text in [
            "http://localhost/x",
            "https://hub.localhost:8080/",
            "http://hub.localhost/",
            "http://localhost:80800/",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    fn check(text: &str) -> Result<(), TestCaseError> {
        let Some(to) = parse(text) else { return Ok(()) };
        // As a browser would go on from one of our pages.
        let there = own().join(to.location()).unwrap();
        let host = there.host_str().unwrap().to_owned()
            + &there.port().map_or(String::new(), |port| format!(":{port}"));
        prop_assert_eq!(there.scheme(), "https");
        prop_assert_eq!(to.is_same_origin(), host == "sso.example.com");
        prop_assert!(host == "sso.example.com" || HOSTS.contains(&host.as_str()), "{}", text);
        prop_assert!(to.location().bytes().all(|b| b.is_ascii_graphic()));
        prop_assert_eq!(parse(to.location()), Some(to.clone()), "a location is its own return address");
        Ok(())
    }

    proptest! {
        #[test]
        fn v21_b6_wherever_a_browser_ends_it_is_one_of_our_hosts(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "/", "//", "\\", "https:", "https://", "hub.example.com", "sso.example.com", "e", "@", ":", ":443", "#",
                    "?", ".", "..", "%2f", "%5c", "%09", "\t", "\n", ";", "%", "a", "\"", "<", "^", "|", "[",
                ]),
                0..10,
            ),
            any in any::<String>(),
        ) {
            check(&pieces.concat())?;
            check(&any)?;
        }
    }
}
