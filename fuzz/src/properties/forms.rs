//! Forms: `POST PATH` of the route list (a `!` before it: by nobody who is signed in), then the body as sent.
//!
//! Whatever a form holds, the answer is a page or a refusal with a code: never a 500, never markup that was typed,
//! never a secret. Forms that others add to the route list are reached without a change here.

use super::first_line;
use super::small_world::{ADA, SmallWorld};
use axum::body::Body;
use doorward::cookies::Cookie;
use doorward::session::signed_in;
use doorward_core::membership::Role;
use doorward_core::secret::TokenHash;
use http::Request;
use http_body_util::BodyExt as _;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tower::ServiceExt as _;

/// How many forms one world takes before its database grows too large to be quick.
const FORMS_MAX: u32 = 3000;
/// A secret in a form begins so, and is looked for in what comes back.
const SECRET: &str = "s3cr3t-";

static WORLD: Mutex<Option<(SmallWorld, u32)>> = Mutex::new(None);

pub(super) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (line, _) = first_line(&text);
    let body = data.iter().position(|b| *b == b'\n').map_or(&[][..], |at| &data[at + 1..]);
    let (is_nobody, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let Some(path) = line.strip_prefix("POST ") else { return };
    if !is_form(path) || names_an_address(body) {
        return;
    }
    let mut slot = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let (world, taken) = slot.get_or_insert_with(|| (SmallWorld::new(), 0));
    *taken += 1;
    let again = post(world, path, is_nobody, body);
    if again || *taken > FORMS_MAX {
        *slot = None;
    }
}

/// Whether a route of the list takes a form at this path.
fn is_form(path: &str) -> bool {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_".contains(&b));
    plain
        && doorward::web::routes().iter().any(|route| {
            let (wanted, found) = (route.path.split('/'), path.split('/'));
            route.method == "post"
                && wanted.clone().count() == found.clone().count()
                && wanted.zip(found).all(|(wanted, found)| wanted == found || wanted.starts_with('{'))
        })
}

/// Whether a field names a host by its address: nothing is called from here, not even with a connection that fails.
fn names_an_address(body: &[u8]) -> bool {
    form_urlencoded::parse(body).any(|(_, value)| {
        let text = value.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[');
        let url = url::Url::parse(text).or_else(|_| url::Url::parse(&format!("https://{text}")));
        url.is_ok_and(|url| matches!(url.host(), Some(url::Host::Ipv4(_) | url::Host::Ipv6(_))))
    })
}

/// Sends the form; whether it used this world up.
fn post(world: &SmallWorld, path: &str, is_nobody: bool, body: &[u8]) -> bool {
    let app = &world.app;
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "localhost:8080")
        .header("origin", "http://localhost:8080")
        .header("sec-fetch-mode", "navigate")
        .header("content-type", "application/x-www-form-urlencoded");
    if !is_nobody {
        request = request.header("cookie", format!("{}={ADA}", Cookie::Session.name(false)));
    }
    let request = request.body(Body::from(body.to_vec())).unwrap();
    world.runtime.block_on(async {
        let answer = doorward::web::router(app).oneshot(request).await.unwrap();
        let (parts, body_of_answer) = answer.into_parts();
        let page = body_of_answer.collect().await.unwrap().to_bytes();
        let page = String::from_utf8(page.to_vec()).expect("pages are UTF-8");
        let status = parts.status.as_u16();
        // The store works and nothing here is slow, so whatever goes wrong is the form's doing.
        assert!(status < 500, "{status} for {path}: {page}");
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/html") {
            assert!(parts.headers.contains_key("content-security-policy"), "{path}");
            only_our_markup(&page);
        }
        for secret in secrets(body) {
            assert!(!page.contains(&secret), "a secret on the page of {path}");
            assert!(!format!("{:?}", parts.headers).contains(&secret), "a secret in a header of {path}");
        }
        // A secret that was typed in an open field as well is kept and shown there.
        if typed_openly(body) {
            return true;
        }
        // Signed out, demoted, moved: the next form needs a world as it was.
        let ada = signed_in(app, Some(TokenHash::of(ADA)), None).await.unwrap();
        let acme = app.store.organization_facts("acme", app.clock.now()).await.unwrap();
        ada.zip(acme).is_none_or(|(ada, acme)| ada.role_in(&acme) != Some(Role::Admin))
    })
}

/// Whether a field is for something that nobody may see again.
fn is_secret(name: &str) -> bool {
    name.contains("secret") || name.contains("password")
}

/// Whether one of this world's secrets stands in a field that is shown again.
fn typed_openly(body: &[u8]) -> bool {
    form_urlencoded::parse(body).any(|(name, value)| !is_secret(&name) && value.contains(SECRET))
}

/// What a form holds that nobody may see again.
fn secrets(body: &[u8]) -> Vec<String> {
    let (hidden, shown): (Vec<_>, Vec<_>) =
        form_urlencoded::parse(body).partition(|(name, _)| is_secret(name));
    let shown: BTreeSet<_> = shown.into_iter().map(|(_, value)| value).collect();
    let hidden = hidden.into_iter().map(|(_, value)| value.into_owned());
    // One that was typed in another field too is no secret there.
    hidden
        .filter(|value| {
            value.starts_with(SECRET) && value.len() > 12 && !shown.iter().any(|shown| shown.contains(value))
        })
        .collect()
}

/// Every tag on the page is one that our templates use.
fn only_our_markup(page: &str) {
    const TAGS: &str = " !doctype html head meta title link script body header nav main footer section article aside div p a ul ol li \
        h1 h2 h3 h4 h5 h6 form label input select option optgroup textarea button fieldset legend table caption thead tbody tr th td dl dt dd \
        details summary span strong em b i small code pre time br hr img svg path circle rect use g abbr output progress kbd noscript ";
    for after in page.split('<').skip(1) {
        let tag: String =
            after.trim_start_matches('/').chars().take_while(|c| !c.is_whitespace() && *c != '>').collect();
        let tag = tag.trim_end_matches('/').to_ascii_lowercase();
        assert!(TAGS.contains(&format!(" {tag} ")), "<{tag}> is none of ours: {page}");
    }
    assert!(page.matches("<script").count() <= 1, "another script: {page}");
}
