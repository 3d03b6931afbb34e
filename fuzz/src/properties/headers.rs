//! A request on the gate's listener: `METHOD PATH` (a `!` before it: from a stranger), then header lines.
//!
//! A 2xx is given for what is public or for Mira's own session, and for nothing else (rule 15; conformance.md V03);
//! strangers are refused (V04); headers that say who somebody is change nothing and come out as ours, all of them
//! (V01, V02, V05, V06); no answer is large (V16) or cacheable (V15).

use super::first_line;
use super::request_target::{Texts, naive_target, readings};
use super::small_world::{MIRA, SmallWorld};
use doorward::client_address::client_address;
use doorward::cookies::{Cookie, without_ours};
use doorward::gate;
use doorward_core::identity_headers::{IDENTITY_HEADER_NAMES, is_identity_header, is_override_header};
use http::header::{CACHE_CONTROL, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

static WORLD: LazyLock<SmallWorld> = LazyLock::new(SmallWorld::new);

type Answer = axum::response::Response;

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (request_line, lines) = first_line(text);
    let (is_stranger, request_line) =
        request_line.strip_prefix('!').map_or((false, request_line), |rest| (true, rest));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.lines().take(40).filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            let folded: String =
                name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let is_ours = folded.starts_with("doorward-")
                || IDENTITY_HEADER_NAMES.iter().any(|ours| ours.to_lowercase() == folded);
            assert_eq!(is_identity_header(name.as_str()), is_ours, "{name}");
            assert!(!(is_ours && is_override_header(name.as_str())));
            headers.append(name, value);
        }
    }
    let peer: IpAddr = if is_stranger { [203, 0, 113, 9].into() } else { [127, 0, 0, 1].into() };
    address_is_vouched_for(peer, is_stranger, &headers);

    let path = request_line.split(' ').nth(1).unwrap_or("/");
    if !path.starts_with('/') || path.contains('#') || path.parse::<http::Uri>().is_err() {
        return;
    }
    let answer = ask(path, peer, &headers);
    let status = answer.status().as_u16();
    match path.split('?').next().unwrap_or_default() {
        "/auth-request" | "/forward-auth" if is_stranger => assert_eq!(status, 403),
        "/auth-request" => assert!(matches!(status, 200 | 401 | 403), "{status}"),
        "/forward-auth" => assert!(matches!(status, 200 | 302 | 400 | 401 | 403 | 503), "{status}"),
        path if path.starts_with("/ext-authz/") => assert!(status < 500 || status == 503, "{status}"),
        _ => assert_eq!(status, 404),
    }
    if status == 404 || is_stranger {
        return;
    }
    let size: usize =
        answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    assert!(size <= 4 * 1024 || status == 200, "{size} bytes of headers");
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    let identity = identity_of(&answer);
    if status == 200 {
        allowed_with_reason(path, &headers, &identity);
        let kept = without_ours(&headers, false).unwrap_or(HeaderValue::from_static(""));
        let passed_on = answer.headers().get(COOKIE).map_or(&b""[..], HeaderValue::as_bytes);
        assert_eq!(passed_on, kept.as_bytes());
    } else {
        assert!(identity.iter().all(|(_, value)| value.is_empty()), "{identity:?}");
    }

    // What a client adds changes nothing.
    for (name, value) in [
        ("user-agent", "kube-probe/1.29"),
        ("remote-user", "ada"),
        ("remote_user", "ada"),
        ("doorward-role", "admin"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/static"),
        ("forwarded", "host=localhost:8080;proto=https"),
        ("x-rewrite-url", "/static/app.css"),
        ("connection", "remote-user, doorward-account"),
    ] {
        let mut more = headers.clone();
        more.append(name, HeaderValue::from_static(value));
        let other = ask(path, peer, &more);
        assert_eq!(
            (other.status().as_u16(), identity_of(&other)),
            (status, identity.clone()),
            "{name} changed the answer"
        );
    }
}

fn ask(path: &str, peer: IpAddr, headers: &HeaderMap) -> Answer {
    let mut request = Request::builder().uri(path).body(()).unwrap();
    *request.headers_mut() = headers.clone();
    let (parts, ()) = request.into_parts();
    WORLD.runtime.block_on(gate::respond(
        Arc::clone(&WORLD.app),
        parts,
        SocketAddr::new(peer, 4711),
        doorward::web::write_answer,
    ))
}

/// The identity headers, each there exactly once.
fn identity_of(answer: &Answer) -> Vec<(&'static str, String)> {
    let value = |name: &'static str| {
        let values: Vec<&HeaderValue> = answer.headers().get_all(name).iter().collect();
        // A refusal that a proxy passes on to the browser may do without.
        if values.is_empty() && answer.status() != 200 {
            return (name, String::new());
        }
        let [value] = values[..] else { panic!("{name} is there {} times", values.len()) };
        (name, String::from_utf8(value.as_bytes().to_vec()).unwrap())
    };
    IDENTITY_HEADER_NAMES.into_iter().map(value).collect()
}

/// A 200: the path is public under each reading, or it is Mira's to open.
fn allowed_with_reason(adapter: &str, headers: &HeaderMap, identity: &[(&str, String)]) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (method, target) = if adapter.starts_with("/auth-request") {
        let rest = text("x-original-url").split_once("://").map_or("", |(_, rest)| rest);
        (text("x-original-method"), rest.find('/').map_or("", |at| &rest[at..]))
    } else if let Some(target) = adapter.strip_prefix("/ext-authz") {
        ("GET", target)
    } else {
        (text("x-forwarded-method"), text("x-forwarded-uri"))
    };
    let texts = Texts::of(&["/{org}/{resource}/**", "/{org}/**"], &["/", "/static/**"], &[]);
    let mira = Cookie::App.read(headers, false) == Some(doorward_core::secret::TokenHash::of(MIRA));
    for reading in readings(target.split('?').next().unwrap_or_default()) {
        let seen = naive_target(&reading, &texts);
        let segments: Vec<String> = reading.split('/').skip(1).map(str::to_lowercase).collect();
        let website = segments.first().map(String::as_str) == Some("acme")
            && segments.get(1).map(String::as_str) == Some("website");
        let reads = matches!(method, "GET" | "HEAD" | "OPTIONS");
        let hers = match seen.organization.as_deref() {
            Some("acme") => !(method == "DELETE" && segments.get(1).map(String::as_str) == Some("settings")),
            Some("globex") => reads,
            _ => false,
        };
        assert!(
            seen.public || (website && reads) || (mira && hers),
            "{method} {target:?} read as {reading:?} was let through"
        );
    }
    let user = identity.iter().find(|(name, _)| *name == "Remote-User").map_or("", |(_, value)| value);
    assert_eq!(user, if mira { "mira" } else { "" });
}

/// The address of the other end, or one that a trusted proxy wrote down.
fn address_is_vouched_for(peer: IpAddr, is_stranger: bool, headers: &HeaderMap) {
    let client = client_address(peer, headers, &WORLD.app.configuration.trusted_proxies).0;
    if is_stranger {
        return assert_eq!(client, peer, "a stranger chose his address");
    }
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let written = lines.flat_map(|line| line.split(',')).map(str::trim).any(|hop| {
        let bare = hop.strip_prefix('[').and_then(|hop| hop.split(']').next()).unwrap_or(hop);
        let port_off = bare.rsplit_once(':').map_or(bare, |(address, _)| address);
        [bare, port_off]
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .any(|address| address.to_canonical() == client)
    });
    assert!(client == peer || written, "{client} of {headers:?}");
}
