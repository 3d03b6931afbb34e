//! The banner that the built-in proxy puts into an application's page where single sign-on is optional and missing
//! (hub-sso.md M3; docs/adr/0042).
//!
//! In: a request that may go on, then the application's answer. Out: the same answer with an `<aside>` as the first thing of
//! its body, streamed on, never kept whole. Only a page that a person waits for is touched, and only one whose bytes can be
//! read: uncompressed, in a charset that has ASCII in it.
//! Never here: whether a request may go on. Invariant: the page's own bytes all go on, and a page that was changed is in no
//! cache.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::TokenHash;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
    SET_COOKIE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Body as HttpBody, Frame};
use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::access::{comes_from_page_of, read_whole_form, redirect};
use super::assets::asset_version;
use super::body_start::BodyStart;
use super::handover::next_on;
use crate::app::{App, SharedApp};
use crate::configuration::{self, Application};
use crate::cookies::Cookie;
use crate::gate::{Answer, Outcome, origin, sso_address};
use crate::refusal::Refusal;

/// Dismissals that one browser remembers on one host.
const DISMISSALS_MAX: usize = 8;
/// Characters of one.
const DISMISSAL_CHARS: usize = 8;

/// A banner for one page.
#[derive(Debug)]
pub(super) struct Banner {
    markup: Bytes,
}

impl Banner {
    /// The banner that the page asked for here shall have, if any: by the very headers that would let the application
    /// show one.
    pub(super) fn wanted(
        app: &App,
        (application, host): (&Application, &str),
        answer: &Answer,
        parts: &Parts,
    ) -> Option<Self> {
        if application.banner == configuration::Banner::Off || answer.outcome != Outcome::Allow {
            return None;
        }
        let identity = |name: &str| {
            let header = answer.identity.headers().iter().find(|(known, _)| known.as_str() == name);
            header.and_then(|(_, value)| value.to_str().ok())
        };
        if identity("doorward-sso") != Some("missing") {
            return None;
        }
        let organization = identity("doorward-organization").filter(|name| !name.is_empty())?;
        // A frame has the page around it; a range is the rest of something that the browser has.
        let is_frame = parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest.as_bytes() != b"document");
        let is_page = answer.navigation && parts.method == Method::GET && !is_frame;
        if !is_page
            || parts.headers.contains_key(RANGE)
            || is_dismissed(app, host, &parts.headers, organization)
        {
            return None;
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        Some(Self { markup: markup(app, host, organization, target) })
    }

    /// Asks the application for the page itself, as bytes that can be read, and not for what a cache holds of it.
    pub(super) fn prepare(headers: &mut HeaderMap) {
        headers.remove(IF_NONE_MATCH);
        headers.remove(IF_MODIFIED_SINCE);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }

    /// Puts the banner into the application's answer, if that is a page that it can be put into.
    pub(super) fn put_into(self, response: Response) -> Response {
        if response.status() != StatusCode::OK || !is_readable_page(response.headers()) {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        for name in OF_THE_BYTES.into_iter().chain(OF_CACHES.map(HeaderName::from_static)) {
            parts.headers.remove(name);
        }
        // What was changed for this person and this moment is nobody else's.
        parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let body = WithBanner { body, page: BodyStart::new(self.markup), over: false };
        Response::from_parts(parts, Body::new(body))
    }
}

/// What tells of the application's bytes: these are others.
const OF_THE_BYTES: [HeaderName; 5] = [CONTENT_LENGTH, ETAG, LAST_MODIFIED, ACCEPT_RANGES, EXPIRES];
/// The same, and what is for caches on the way.
const OF_CACHES: [&str; 6] =
    ["content-md5", "digest", "content-digest", "repr-digest", "cdn-cache-control", "surrogate-control"];

/// Whether an answer is HTML that a browser shows as a page, and whose markup is ASCII bytes.
fn is_readable_page(headers: &HeaderMap) -> bool {
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Some(""),
            (Some(value), None) => value.to_str().ok(),
            // Who says it twice is read by nobody in one way.
            _ => None,
        }
    };
    let (Some(content_type), Some(encoding)) = (one(CONTENT_TYPE), one(CONTENT_ENCODING)) else {
        return false;
    };
    let mut parameters = content_type.split(';').map(str::trim);
    let is_html = parameters.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("text/html"));
    let charset = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    });
    let has_ascii = charset.is_none_or(|charset| {
        CHARSETS.contains(&&*charset)
            || charset.starts_with("iso-8859-")
            || charset.starts_with("windows-125")
    });
    let is_download = headers
        .get(CONTENT_DISPOSITION)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"attachment"));
    is_html && has_ascii && matches!(&*encoding.to_ascii_lowercase(), "" | "identity") && !is_download
}

/// Charsets in which `<`, `>` and quotes are these bytes and no part of another character.
const CHARSETS: [&str; 14] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "latin1",
    "koi8-r",
    "koi8-u",
    "shift_jis",
    "euc-jp",
    "euc-kr",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
];

/// The banner, in ASCII alone, so that it is right in any charset that has ASCII in it. No style and no script stand in it:
/// where the page's own policy refuses the style sheet too, it is shown plainly. Its addresses are whole, because a page may
/// name another base for the others.
fn markup(app: &App, host: &str, organization: &str, target: &str) -> Bytes {
    let origin = escaped(&origin(app, host));
    let version = asset_version("banner.css");
    let complete = escaped(&sso_address(app, host, organization, target));
    let (name, next) = (escaped(organization), escaped(target));
    Bytes::from(format!(
        "<aside class=\"doorward-banner\" aria-label=\"Single sign-on\" lang=\"en\" dir=\"ltr\">\
         <link rel=\"stylesheet\" href=\"{origin}/.doorward/assets/banner.css?v={version}\">\
         <p>{name} asks its members to complete single sign-on.</p>\
         <a href=\"{complete}\" target=\"_top\">Complete single sign-on</a>\
         <form method=\"post\" action=\"{origin}/.doorward/banner\" target=\"_self\">\
         <input type=\"hidden\" name=\"organization\" value=\"{name}\">\
         <input type=\"hidden\" name=\"next\" value=\"{next}\"><button>Not now</button></form></aside>"
    ))
}

/// Text for an attribute or between tags: ASCII, without what means something there.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "-_.~/:?=%+@,!".contains(c) {
            escaped.push(c);
        } else {
            escaped.extend(["&#", &u32::from(c).to_string(), ";"]);
        }
    }
    escaped
}

// === Dismissal ===

/// What the cookie remembers: this session on this host wants no banner of this organization. `None` without a session.
fn dismissal(app: &App, host: &str, headers: &HeaderMap, organization: &str) -> Option<String> {
    let cookie = if host == app.configuration.base_url.host { Cookie::Session } else { Cookie::App };
    let session = cookie.read(headers, app.https())?;
    let of_both = TokenHash::of(&format!("{} {}", session.to_text(), organization.to_ascii_lowercase()));
    of_both.to_text().get(..DISMISSAL_CHARS).map(str::to_owned)
}

/// The dismissals that a browser sent.
fn dismissals<'h>(app: &App, headers: &'h HeaderMap) -> Vec<&'h str> {
    let text = Cookie::Banner.text(headers, app.https()).unwrap_or_default();
    let of_one = |n: usize| text.get(n * DISMISSAL_CHARS..(n + 1) * DISMISSAL_CHARS);
    (0..DISMISSALS_MAX).map_while(of_one).collect()
}

fn is_dismissed(app: &App, host: &str, headers: &HeaderMap, organization: &str) -> bool {
    let this = dismissal(app, host, headers, organization);
    this.is_some_and(|this| dismissals(app, headers).contains(&&*this))
}

/// `POST /.doorward/banner`: the banner's "Not now", from a page of this host. It lasts as long as the session.
pub(super) async fn dismiss(
    app: &SharedApp,
    host: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    if parts.method != Method::POST {
        return Err(ErrorCode::RequestMethodNotAllowed.into());
    }
    // An application's pages may send no referrer at all, and then their forms no origin: a browser still knows it.
    let one = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    let is_nameless = one("origin") == Some(b"null") && one("sec-fetch-site") == Some(b"same-origin");
    if !is_nameless && !comes_from_page_of(&origin(app, host), &parts.headers) {
        return Err(ErrorCode::RequestForeignOrigin.into());
    }
    let form = read_whole_form(&parts.method, body).await?;
    let fields: HashMap<String, String> =
        form_urlencoded::parse(&form).take(8).map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    let organization = fields.get("organization").map_or("", String::as_str);
    let mut response = redirect(&next_on(app, host, &fields));
    if let Some(this) = dismissal(app, host, &parts.headers, organization) {
        let mut known = dismissals(app, &parts.headers);
        known.retain(|known| *known != this);
        known.insert(0, &this);
        known.truncate(DISMISSALS_MAX);
        if let Some(cookie) = Cookie::Banner.set_text(&known.concat(), app.https()) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

// === The page ===

/// The application's body with the banner in it. Trailers end here, as everywhere in the proxy.
struct WithBanner {
    body: Body,
    page: BodyStart,
    over: bool,
}

impl HttpBody for WithBanner {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while !self.over {
            let data = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.page.take(data),
                    Err(_) => continue,
                },
                Poll::Ready(None) => {
                    self.over = true;
                    self.page.end()
                }
            };
            // Nothing to pass on yet: a tag's name is still to come.
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_only_html_whose_bytes_can_be_read_is_touched() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        for good in [
            vec![("content-type", "text/html")],
            vec![("content-type", "Text/HTML; Charset=\"UTF-8\"")],
            vec![("content-type", "text/html;charset=windows-1252"), ("content-encoding", "Identity")],
            vec![("content-type", "text/html"), ("content-disposition", "inline")],
        ] {
            assert!(is_readable_page(&headers(&good)), "{good:?}");
        }
        for other in [
            vec![],
            vec![("content-type", "application/xhtml+xml")],
            vec![("content-type", "text/plain")],
            vec![("content-type", "text/html; charset=utf-16le")],
            vec![("content-type", "text/html; charset=iso-2022-jp")],
            vec![("content-type", "text/html"), ("content-encoding", "gzip")],
            vec![("content-type", "text/html"), ("content-encoding", "identity"), ("content-encoding", "br")],
            vec![("content-type", "text/html"), ("content-type", "text/plain")],
            vec![("content-type", "text/html"), ("content-disposition", "Attachment; filename=a.html")],
        ] {
            assert!(!is_readable_page(&headers(&other)), "{other:?}");
        }
    }

    #[test]
    fn what_stands_in_the_banner_can_not_end_its_attribute() {
        let hostile = escaped("/a?\"><script>&'x'");
        assert!(!hostile.contains(['"', '<', '>', '\'']) && hostile.is_ascii(), "{hostile}");
        assert_eq!(escaped("/acme/x?a=b"), "/acme/x?a=b");
        assert_eq!(escaped("é&"), "&#233;&#38;");
    }
}
