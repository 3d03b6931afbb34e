//! Every cookie of ours, its name and its flags (rule 10; decisions.md "Cookies").
//!
//! All are opaque tokens of 43 characters (the count of starts is 72, dismissals are at most 64): bounded in size,
//! HttpOnly, SameSite=Lax, path `/`, no domain. On https they are Secure with the prefix `__Host-`; on plain-http
//! localhost the same without both. Names are compared octet by octet, and two cookies of one name count as none
//! (conformance.md V24, V25).

use bytes::Bytes;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Lifetime;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// One of our cookies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cookie {
    /// Proof of the account's login, on our own host.
    Session,
    /// Binds attempts to a browser; survives a new login.
    Browser,
    /// Proof of the account's login on an application's host.
    App,
    /// The nonce that an application's host sets before a hand-over (rule 11).
    Handover,
    /// How often this browser started for which target lately (web/loops.rs). No token, and no proof of anything.
    Starts,
    /// Which banners a session on an application's host wants to see no more (web/banner.rs). No proof of anything.
    Banner,
}

impl Cookie {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Session, Self::Browser, Self::App, Self::Handover, Self::Starts, Self::Banner];

    /// The cookie's name.
    pub const fn name(self, https: bool) -> &'static str {
        match (self, https) {
            (Self::Session, true) => "__Host-doorward-session",
            (Self::Session, false) => "doorward-session",
            (Self::Browser, true) => "__Host-doorward-browser",
            (Self::Browser, false) => "doorward-browser",
            (Self::App, true) => "__Host-doorward-app",
            (Self::App, false) => "doorward-app",
            (Self::Handover, true) => "__Host-doorward-handover",
            (Self::Handover, false) => "doorward-handover",
            (Self::Starts, true) => "__Host-doorward-starts",
            (Self::Starts, false) => "doorward-starts",
            (Self::Banner, true) => "__Host-doorward-banner",
            (Self::Banner, false) => "doorward-banner",
        }
    }

    /// How long a browser keeps it.
    const fn max_age(self) -> Lifetime {
        match self {
            Self::Session | Self::Browser | Self::App | Self::Banner => Lifetime::from_days(365),
            Self::Handover => Lifetime::from_minutes(60),
            Self::Starts => Lifetime::from_minutes(1),
        }
    }

    /// The hash of the value that a browser sent; `None` if it sent none, an impossible one, or two.
    pub fn read(self, headers: &HeaderMap, https: bool) -> Option<TokenHash> {
        self.text(headers, https).filter(|value| value.len() == TOKEN_BYTES).map(TokenHash::of)
    }

    /// The value that a browser sent; `None` if it sent none, one that is no text, or two.
    pub fn text(self, headers: &HeaderMap, https: bool) -> Option<&str> {
        let name = self.name(https);
        let mut found = None;
        for pair in pairs(headers) {
            // A name of ours has no `=`, so this is the pair's whole name.
            let value = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value {
                if found.is_some() {
                    return None;
                }
                found = Some(value);
            }
        }
        found.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// A `Set-Cookie` that gives the browser this token.
    pub fn set(self, token: &Secret, https: bool) -> Option<HeaderValue> {
        self.header(token.expose(), self.max_age().seconds(), https)
    }

    /// A `Set-Cookie` of one that is no token.
    pub fn set_text(self, value: &str, https: bool) -> Option<HeaderValue> {
        self.header(value, self.max_age().seconds(), https)
    }

    /// A `Set-Cookie` that takes the cookie away.
    pub fn clear(self, https: bool) -> Option<HeaderValue> {
        self.header("", 0, https)
    }

    fn header(self, value: &str, max_age: i64, https: bool) -> Option<HeaderValue> {
        let secure = if https { "; Secure" } else { "" };
        let text = format!(
            "{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}",
            self.name(https)
        );
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Length of a token: 32 bytes in Base64url.
const TOKEN_BYTES: usize = 43;

/// The names of all our cookies, which never reach an upstream.
pub const fn names(https: bool) -> [&'static str; 6] {
    [
        Cookie::Session.name(https),
        Cookie::Browser.name(https),
        Cookie::App.name(https),
        Cookie::Handover.name(https),
        Cookie::Starts.name(https),
        Cookie::Banner.name(https),
    ]
}

/// Each cookie sent, `name=value` in octets.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| Split { rest: Some(line.as_bytes()), at: b';' })
        .map(|pair| pair.strip_prefix(b" ").unwrap_or(pair))
}

/// The pieces of a text between one octet, as `slice::split` has them, but many octets at a time.
struct Split<'t> {
    rest: Option<&'t [u8]>,
    at: u8,
}

impl<'t> Iterator for Split<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let rest = self.rest?;
        let end = memchr::memchr(self.at, rest).unwrap_or(rest.len());
        self.rest = rest.get(end + 1..);
        rest.get(..end)
    }
}

/// The `Cookie` header without ours, for an upstream; `None` when nothing is left.
pub fn without_ours(headers: &HeaderMap, https: bool) -> Option<HeaderValue> {
    without(headers, &names(https))
}

/// The `Cookie` header without these cookies; the others' bytes stay as they are. Several `Cookie` headers, which HTTP/2
/// allows, become one (RFC 9113 section 8.2.3). Over HTTP/1.1 a proxy may have joined two by a comma (Envoy does), which
/// puts one of ours into another's value: both go. `None` when nothing is left.
pub fn without(headers: &HeaderMap, ours: &[&str]) -> Option<HeaderValue> {
    let mut kept = Vec::with_capacity(headers.get_all(COOKIE).iter().map(HeaderValue::len).sum());
    let lines = headers.get_all(COOKIE).iter();
    for pair in lines.flat_map(|line| Split { rest: Some(line.as_bytes()), at: b';' }) {
        let pair = pair.trim_ascii();
        if pair.is_empty() || (Split { rest: Some(pair), at: b',' }).any(|part| is_one_of(ours, part)) {
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(pair);
    }
    if kept.is_empty() { None } else { HeaderValue::from_maybe_shared(Bytes::from(kept)).ok() }
}

/// Whether `name=value` is a cookie of one of these names.
fn is_one_of(names: &[&str], cookie: &[u8]) -> bool {
    let name = Split { rest: Some(cookie), at: b'=' }.next().unwrap_or_default().trim_ascii();
    names.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn rule_10_cookies_are_host_bound_secure_and_unreadable_to_scripts() {
        for cookie in Cookie::ALL {
            let set = cookie.set(&Secret::token([1; 32]), true).unwrap();
            let set = set.to_str().unwrap();
            assert!(set.starts_with("__Host-doorward-") && set.len() < 200, "{set}");
            for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(set.contains(flag), "{set}");
            }
            assert!(!set.contains("Domain"));
            let plain = cookie.set(&Secret::token([1; 32]), false).unwrap();
            assert!(
                !plain.to_str().unwrap().contains("Secure")
                    && plain.to_str().unwrap().starts_with("doorward-")
            );
        }
    }

    #[test]
    fn v24_a_cookie_is_read_by_its_octets_and_two_of_one_name_count_as_none() {
        let token = "A".repeat(43);
        let name = Cookie::Session.name(true);
        let read = |lines: &[&str]| Cookie::Session.read(&headers(lines), true).is_some();
        assert!(read(&[&format!("{name}={token}")]));
        assert!(read(&[&format!("a=b; {name}={token}; c=d")]));
        assert!(!read(&[&format!("{name}={token}; {name}={token}")]));
        assert!(!read(&[&format!("{name}={token}"), &format!("{name}={token}")]));
        assert!(!read(&[&format!("__host-doorward-session={token}")]));
        assert!(!read(&[&format!("%5F_Host-doorward-session={token}")]));
        assert!(!read(&[&format!("{name} ={token}")]));
        assert!(!read(&[&format!("{name}={token}x")]));
        assert!(!read(&[&format!("doorward-session={token}")]));
    }

    #[test]
    fn rule_11_our_cookies_are_taken_out_whatever_their_case() {
        let sent = headers(&[
            "a=1; __Host-doorward-app=x; b=2",
            "__HOST-DOORWARD-SESSION=y; c",
            " __Host-doorward-browser =z",
        ]);
        assert_eq!(without_ours(&sent, true).unwrap(), "a=1; b=2; c");
        assert_eq!(without_ours(&headers(&["__Host-doorward-app=x"]), true), None);
    }

    #[test]
    fn rule_11_a_cookie_of_ours_that_a_proxy_joined_to_anothers_by_a_comma_is_taken_out_with_it() {
        for cookie in Cookie::ALL {
            for https in [true, false] {
                let name = cookie.name(https);
                for joined in [
                    format!("theme=dark,{name}=SECRET"),
                    format!("theme=dark , {} =SECRET", name.to_ascii_uppercase()),
                    format!(",{name}=SECRET"),
                    format!("theme=dark,{name}=SECRET,later=1"),
                ] {
                    let sent = headers(&[&format!("a=1; {joined}; b=2,3")]);
                    assert_eq!(without_ours(&sent, https).unwrap(), "a=1; b=2,3", "{joined}");
                }
            }
        }
        // What only looks like it stays.
        let sent = headers(&["a=1,x-__Host-doorward-app=2; b=__Host-doorward-app"]);
        assert_eq!(without_ours(&sent, true).unwrap(), "a=1,x-__Host-doorward-app=2; b=__Host-doorward-app");
    }
}
