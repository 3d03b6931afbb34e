//! A scripted browser over real loopback sockets: cookies, redirects, forms and the headers that Chromium sends.
//!
//! In: URLs, forms. Out: pages. Every host name connects to 127.0.0.1.
//! Never here: script, frames, TLS. A host on https is reached in plain text once the test said where it is
//! served (`serves`), and counts as secure, as behind a proxy that ends TLS.
//! Invariant: nothing waits longer than ten seconds; a failure prints the browser's history.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use url::Url;

use crate::SharedClock;
use crate::page::{Form, Page};

const PATIENCE: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 15;
const BODY_BYTES_MAX: usize = 16 << 20;
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 \
                     Safari/537.36";

/// One person's browser. A clone is another tab: the same cookies, the same history.
#[derive(Clone)]
pub struct Browser {
    shared: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    cookies: Vec<Cookie>,
    history: Vec<String>,
    served: HashMap<String, SocketAddr>,
    clock: Option<SharedClock>,
    refused_cookies: Vec<String>,
}

/// A cookie in the jar. Ports play no part, as in every browser.
#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    host: String,
    host_only: bool,
    path: String,
    secure: bool,
    same_site: SameSite,
    /// Milliseconds since 1970; `None` for the browser's own life.
    expires_at_ms: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SameSite {
    Strict,
    Lax,
    None,
}

/// Who asks for something: what decides `Sec-Fetch-Site`, `Origin` and SameSite.
#[derive(Clone, Debug)]
enum Initiator {
    /// The person: a typed address, a bookmark.
    Person,
    /// A page, by a link, form, redirect or script.
    Page(Url),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Navigate,
    Fetch,
    /// Not a browser at all: no fetch metadata, no `Origin`.
    Tool,
}

struct Errand {
    method: Method,
    url: Url,
    body: Option<String>,
    initiator: Initiator,
    mode: Mode,
    /// What the `Origin` of a POST is, if not the initiator's.
    origin: Option<String>,
    extra: Vec<(String, String)>,
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Browser {
    /// A browser without cookies.
    pub fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// The same, whose cookies expire by this clock. Without one, only `Max-Age=0` ends a cookie.
    #[must_use]
    pub fn with_clock(self, clock: &SharedClock) -> Self {
        self.lock().clock = Some(Arc::clone(clock));
        self
    }

    /// Tells where an origin such as `https://sso.example.com` is served, in plain http.
    pub fn serves(&self, origin: &str, address: SocketAddr) {
        let origin = url(origin).origin().ascii_serialization();
        self.lock().served.insert(origin, address);
    }

    /// Opens an address as if typed, and follows redirects and refreshing pages to the end.
    pub async fn visit(&self, address: &str) -> Page {
        let page = self.get(address).await;
        self.follow_all(page).await
    }

    /// Opens an address as if typed; redirects are not followed.
    pub async fn get(&self, address: &str) -> Page {
        self.send(Errand::get(url(address), Initiator::Person)).await
    }

    /// Goes to a URL by a link on a page; redirects are not followed.
    pub async fn go(&self, from: &Page, to: &Url) -> Page {
        self.send(Errand::get(to.clone(), Initiator::Page(from.url.clone()))).await
    }

    /// Clicks the link with this text, and follows to the end.
    pub async fn click(&self, page: &Page, text: &str) -> Page {
        let page = self.go(page, &page.link(text)).await;
        self.follow_all(page).await
    }

    /// Posts a form from a page of the same origin; redirects are not followed.
    pub async fn post(&self, address: &str, fields: &[(&str, &str)]) -> Page {
        let to = url(address);
        self.send(Errand::post(to.clone(), fields, to)).await
    }

    /// Posts a form from a page of another origin, as a hostile site would; redirects are not followed.
    /// The origin `null` is that of a sandboxed page.
    pub async fn post_from(&self, origin: &str, address: &str, fields: &[(&str, &str)]) -> Page {
        let from = if origin == "null" { url("http://sandbox.invalid/") } else { url(origin) };
        let mut errand = Errand::post(url(address), fields, from);
        errand.origin = (origin == "null").then(|| "null".into());
        self.send(errand).await
    }

    /// Sends a form as its page would; redirects are not followed.
    pub async fn submit(&self, form: Form) -> Page {
        let pairs = form.pairs();
        if form.is_post {
            self.send(Errand::post(form.action.clone(), &pairs, form.page.clone())).await
        } else {
            let mut to = form.action.clone();
            to.query_pairs_mut().clear().extend_pairs(pairs);
            self.send(Errand::get(to, Initiator::Page(form.page.clone()))).await
        }
    }

    /// Asks as script on a page of the same origin does: `fetch(…)`. Redirects are not followed.
    pub async fn fetch(&self, address: &str) -> Page {
        let to = url(address);
        let mut errand = Errand::get(to.clone(), Initiator::Page(to));
        errand.mode = Mode::Fetch;
        self.send(errand).await
    }

    /// Any request, as a tool such as curl sends it: the jar's cookies and these headers, nothing else of a browser.
    pub async fn request(&self, method: Method, address: &str, headers: &[(&str, &str)], body: &str) -> Page {
        let to = url(address);
        let mut errand = Errand::get(to.clone(), Initiator::Page(to));
        errand.mode = Mode::Tool;
        errand.method = method;
        errand.body = (!body.is_empty()).then(|| body.to_owned());
        errand.extra =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.send(errand).await
    }

    /// Follows redirects. Ends at the first page that is none, or before a host on https that the test did not
    /// place with `serves`: the page is the redirect then.
    pub async fn follow(&self, page: Page) -> Page {
        self.follow_while(page, Page::location).await
    }

    /// Follows redirects and pages with a meta refresh.
    pub async fn follow_all(&self, page: Page) -> Page {
        self.follow_while(page, |page| page.location().or_else(|| page.meta_refresh())).await
    }

    async fn follow_while(&self, mut page: Page, next: impl Fn(&Page) -> Option<Url>) -> Page {
        for _ in 0..REDIRECTS_MAX {
            let Some(to) = next(&page) else { return page };
            if !self.can_reach(&to) {
                self.lock().history.push(format!("        stays, because nothing serves {to}"));
                return page;
            }
            page = self.follow_once(&page, to).await;
        }
        panic!("more than {REDIRECTS_MAX} redirects\n{}", self.history());
    }

    /// One step on from a redirect or refreshing page.
    async fn follow_once(&self, page: &Page, to: Url) -> Page {
        // Who began the trip stays the one who asks; a refresh is asked by its page.
        let is_redirect = page.status.is_redirection();
        let initiator = if is_redirect { page.trip.clone() } else { None };
        let keeps_body =
            matches!(page.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let mut errand = Errand::get(to, Initiator::Person);
        match initiator {
            Some(trip) => {
                if keeps_body {
                    errand.method = trip.method.clone();
                    errand.body.clone_from(&trip.body);
                    let crosses = trip.from.as_ref().is_some_and(|from| from.origin() != page.url.origin())
                        || page.url.origin() != errand.url.origin();
                    errand.origin = crosses.then(|| "null".into());
                }
                errand.initiator = trip.from.map_or(Initiator::Person, Initiator::Page);
            }
            None => errand.initiator = Initiator::Page(page.url.clone()),
        }
        self.send(errand).await
    }

    /// The value of a cookie that would be sent to this host; `None` if there is none.
    pub fn cookie(&self, host: &str, name: &str) -> Option<String> {
        let inside = self.lock();
        let mut cookies = inside.cookies.iter();
        cookies
            .find(|cookie| cookie.belongs_to(host) && cookie.name == name)
            .map(|cookie| cookie.value.clone())
    }

    /// Host and name of every cookie in the jar.
    pub fn cookies(&self) -> Vec<(String, String)> {
        self.lock().cookies.iter().map(|cookie| (cookie.host.clone(), cookie.name.clone())).collect()
    }

    /// Puts a cookie into the jar, as somebody with another person's cookie would. Host only, path `/`.
    pub fn plant_cookie(&self, host: &str, name: &str, value: &str) {
        self.lock().keep(Cookie {
            name: name.into(),
            value: value.into(),
            host: host.into(),
            host_only: true,
            path: "/".into(),
            secure: false,
            same_site: SameSite::Lax,
            expires_at_ms: None,
        });
    }

    /// Loses one cookie.
    pub fn lose_cookie(&self, host: &str, name: &str) {
        self.lock().cookies.retain(|cookie| !(cookie.host == host && cookie.name == name));
    }

    /// Loses every cookie.
    pub fn lose_all_cookies(&self) {
        self.lock().cookies.clear();
    }

    /// The `Set-Cookie` values that a browser refuses, each with the reason.
    pub fn refused_cookies(&self) -> Vec<String> {
        self.lock().refused_cookies.clone()
    }

    /// What this browser did, one line each, for failure messages.
    pub fn history(&self) -> String {
        self.lock().history.join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn can_reach(&self, to: &Url) -> bool {
        let placed = self.lock().served.contains_key(&to.origin().ascii_serialization());
        placed || (to.scheme() == "http" && is_loopback(to.host_str().unwrap_or_default()))
    }

    async fn send(&self, errand: Errand) -> Page {
        let label = format!("{} {}", errand.method, errand.url);
        let outcome = tokio::time::timeout(PATIENCE, self.exchange(errand)).await;
        let page = outcome.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}").into()));
        page.unwrap_or_else(|problem| panic!("{label}: {problem}\n{}", self.history()))
    }

    async fn exchange(&self, errand: Errand) -> Result<Page, Box<dyn std::error::Error + Send + Sync>> {
        let to = errand.url.clone();
        let (cookies, placed) = {
            let mut inside = self.lock();
            inside.history.push(format!("{} {to}", errand.method));
            (inside.cookies_for(&errand), inside.served.get(&to.origin().ascii_serialization()).copied())
        };
        let address = match placed {
            Some(address) => address,
            None if self.can_reach(&to) => {
                SocketAddr::from((Ipv4Addr::LOCALHOST, to.port_or_known_default().unwrap_or(80)))
            }
            None => return Err("nothing serves this; see Browser::serves".into()),
        };
        #[expect(clippy::disallowed_methods, reason = "a browser connects; rule 5 is about the product")]
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(errand.request(&cookies)?).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        connection.abort();
        let mut inside = self.lock();
        inside.history.push(format!(
            "        {}{}",
            head.status,
            head.headers
                .get("location")
                .map(|to| format!(" -> {}", String::from_utf8_lossy(to.as_bytes())))
                .unwrap_or_default()
        ));
        for value in head.headers.get_all(SET_COOKIE) {
            inside.take_cookie(&to, &String::from_utf8_lossy(value.as_bytes()));
        }
        let from = match errand.initiator {
            Initiator::Person => None,
            Initiator::Page(url) => Some(url),
        };
        Ok(Page {
            url: to,
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            trip: Some(Trip { from, method: errand.method, body: errand.body }),
        })
    }
}

/// How an answer was asked for, so that its redirect can be followed as a browser does.
#[derive(Clone, Debug)]
pub(crate) struct Trip {
    from: Option<Url>,
    method: Method,
    body: Option<String>,
}

impl Errand {
    fn get(url: Url, initiator: Initiator) -> Self {
        let (method, mode) = (Method::GET, Mode::Navigate);
        Self { method, url, body: None, initiator, mode, origin: None, extra: Vec::new() }
    }

    fn post(url: Url, fields: &[(&str, &str)], from: Url) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut errand = Self::get(url, Initiator::Page(from));
        errand.method = Method::POST;
        errand.body = Some(body);
        errand
    }

    /// `Sec-Fetch-Site` (Fetch metadata, section 2.3).
    fn site(&self) -> &'static str {
        match &self.initiator {
            Initiator::Person => "none",
            Initiator::Page(from) if from.origin() == self.url.origin() => "same-origin",
            Initiator::Page(from) if same_site(from, &self.url) => "same-site",
            Initiator::Page(_) => "cross-site",
        }
    }

    fn request(&self, cookies: &str) -> Result<Request<Full<Bytes>>, http::Error> {
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = match self.url.port() {
            Some(port) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            None => self.url.host_str().unwrap_or_default().to_owned(),
        };
        let mut request = Request::builder().method(self.method.clone()).uri(target).header(HOST, host);
        request = match self.mode {
            Mode::Navigate => request
                .header(ACCEPT, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-user", "?1")
                .header("upgrade-insecure-requests", "1"),
            Mode::Fetch => request
                .header(ACCEPT, "*/*")
                .header("sec-fetch-mode", "cors")
                .header("sec-fetch-dest", "empty"),
            Mode::Tool => request.header(ACCEPT, "*/*"),
        };
        if self.mode != Mode::Tool {
            request = request.header(USER_AGENT, AGENT).header("sec-fetch-site", self.site());
        }
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies);
        }
        if self.mode != Mode::Tool && !matches!(self.method, Method::GET | Method::HEAD) {
            let own = match &self.initiator {
                Initiator::Person => "null".into(),
                Initiator::Page(from) => from.origin().ascii_serialization(),
            };
            request = request.header(ORIGIN, self.origin.clone().unwrap_or(own));
        }
        if self.body.is_some() && self.mode != Mode::Tool {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = self.body.clone().unwrap_or_default();
        let mut request = request.body(Full::new(Bytes::from(body)))?;
        for (name, _) in &self.extra {
            // What a test names replaces what would have been said.
            request.headers_mut().remove(name.as_str());
        }
        for (name, value) in &self.extra {
            request.headers_mut().append(HeaderName::try_from(name.as_str())?, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }
}

// --- the jar ----------------------------------------------------------------------------------------------------

impl Cookie {
    fn belongs_to(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.host == host || (!self.host_only && host.ends_with(&format!(".{}", self.host)))
    }

    fn fits_path(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }
}

impl Inside {
    fn now_ms(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.load(Ordering::SeqCst))
    }

    fn keep(&mut self, cookie: Cookie) {
        self.cookies
            .retain(|old| !(old.name == cookie.name && old.host == cookie.host && old.path == cookie.path));
        self.cookies.push(cookie);
    }

    /// The `Cookie` header, the longest path first (RFC 6265 section 5.4).
    fn cookies_for(&mut self, errand: &Errand) -> String {
        let now_ms = self.now_ms();
        self.cookies.retain(|cookie| match (cookie.expires_at_ms, now_ms) {
            (Some(end), Some(now)) => now < end,
            _ => true,
        });
        let host = errand.url.host_str().unwrap_or_default();
        let same_site = match &errand.initiator {
            Initiator::Person => true,
            Initiator::Page(from) => same_site(from, &errand.url),
        };
        let top_level_get = errand.mode == Mode::Navigate && errand.method == Method::GET;
        let mut sent: Vec<&Cookie> = self
            .cookies
            .iter()
            .filter(|cookie| cookie.belongs_to(host) && cookie.fits_path(errand.url.path()))
            .filter(|cookie| !cookie.secure || is_trustworthy(&errand.url))
            .filter(|cookie| match cookie.same_site {
                SameSite::None => true,
                SameSite::Lax => same_site || top_level_get,
                SameSite::Strict => same_site,
            })
            .collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        sent.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    /// Keeps, replaces, deletes or refuses what a `Set-Cookie` says (RFC 6265bis section 5.7).
    fn take_cookie(&mut self, from: &Url, header: &str) {
        if let Err(reason) = self.try_cookie(from, header) {
            self.refused_cookies.push(format!("{header} ({reason})"));
        }
    }

    fn try_cookie(&mut self, from: &Url, header: &str) -> Result<(), &'static str> {
        let mut parts = header.split(';');
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).ok_or("no name")?;
        let (name, value) = (name.trim(), value.trim());
        if name.len() + value.len() > 4096 {
            return Err("longer than 4096 bytes");
        }
        let host = from.host_str().unwrap_or_default().to_ascii_lowercase();
        // The folder of the page, for a cookie without a path.
        let folder = from.path().rfind('/').filter(|at| *at > 0).map_or("/", |at| &from.path()[..at]);
        let mut cookie = Cookie {
            name: name.into(),
            value: value.into(),
            host: host.clone(),
            host_only: true,
            path: folder.into(),
            secure: false,
            same_site: SameSite::Lax,
            expires_at_ms: None,
        };
        let mut gone = false;
        let mut has_max_age = false;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "secure" => cookie.secure = true,
                "path" if value.starts_with('/') => cookie.path = value.into(),
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    let is_suffix = !domain.contains('.');
                    let covers = host == domain || host.ends_with(&format!(".{domain}"));
                    if !covers || (is_suffix && host != domain) || is_address(&host) && host != domain {
                        return Err("its domain is not this host's");
                    }
                    cookie.host_only = is_suffix || is_address(&host);
                    cookie.host = domain;
                }
                "max-age" => {
                    if let Ok(seconds) = value.parse::<i64>() {
                        has_max_age = true;
                        gone = seconds <= 0;
                        cookie.expires_at_ms =
                            self.now_ms().map(|now| now.saturating_add(seconds.saturating_mul(1000)));
                    }
                }
                // Dates are not read: ours come with Max-Age, and who deletes by date says 1970.
                "expires" if !has_max_age => gone = value.contains("1970"),
                "samesite" => {
                    cookie.same_site = match value.to_ascii_lowercase().as_str() {
                        "strict" => SameSite::Strict,
                        "none" => SameSite::None,
                        _ => SameSite::Lax,
                    };
                }
                _ => {}
            }
        }
        if cookie.secure && !is_trustworthy(from) {
            return Err("Secure over plain http");
        }
        if cookie.same_site == SameSite::None && !cookie.secure {
            return Err("SameSite=None without Secure");
        }
        // Unlike Secure, the prefixes are not forgiven on plain http at localhost.
        let prefix = name.to_ascii_lowercase();
        let is_host = prefix.starts_with("__host-");
        if (is_host || prefix.starts_with("__secure-")) && !(cookie.secure && from.scheme() == "https") {
            return Err("a __Host- or __Secure- name needs Secure and https");
        }
        if is_host && (cookie.path != "/" || header.to_ascii_lowercase().contains("domain=")) {
            return Err("a __Host- name needs Path=/ and no Domain");
        }
        let hides = |old: &Cookie| old.secure && old.name == cookie.name && old.host == cookie.host;
        if !is_trustworthy(from) && self.cookies.iter().any(hides) {
            return Err("a Secure cookie of this name is there already");
        }
        if gone {
            self.cookies.retain(|old| {
                !(old.name == cookie.name && old.host == cookie.host && old.path == cookie.path)
            });
        } else {
            self.keep(cookie);
        }
        Ok(())
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text:?} is no URL: {error}"))
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// "Potentially trustworthy": https, or loopback whatever the scheme.
fn is_trustworthy(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url.host_str().unwrap_or_default())
}

/// Same scheme and same registrable domain, taken as the last two labels; an address is its own site.
/// So `hub.localhost` and `localhost` are two sites, as they are for Chromium.
fn same_site(one: &Url, two: &Url) -> bool {
    fn site(url: &Url) -> &str {
        let host = url.host_str().unwrap_or_default();
        if is_address(host) {
            return host;
        }
        let mut dots = host.rmatch_indices('.').map(|(at, _)| at);
        dots.nth(1).map_or(host, |at| &host[at + 1..])
    }
    one.scheme() == two.scheme() && site(one) == site(two)
}
