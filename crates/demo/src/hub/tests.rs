//! The sample hub over its router: what it shows to whom, by headers alone.

use super::{Hub, IDENTITY_HEADERS, router};
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use std::sync::Arc;
use tower::ServiceExt as _;

/// What Doorward sets for Mira in an organization.
const MIRA_IN_ACME: [(&str, &str); 4] = [
    ("remote-user", "mira"),
    ("doorward-account", "a1"),
    ("doorward-organization", "acme"),
    ("doorward-role", "write"),
];

async fn get(path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    send(Request::get(path), headers, Body::empty()).await
}

async fn send(
    mut request: http::request::Builder,
    headers: &[(&str, &str)],
    body: Body,
) -> (StatusCode, String) {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let router = router(Arc::new(Hub::new("http://localhost:8080".to_owned())));
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_front_page_lists_every_repository() {
    let (status, page) = get("/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    for name in ["acme/website", "acme/secret", "globex/handbook", "globex/plans"] {
        assert!(page.contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_private_repository_is_shown_only_with_its_own_organization_beside_an_account() {
    assert_eq!(get("/acme/secret", &MIRA_IN_ACME).await.0, StatusCode::OK);
    assert_eq!(get("/globex/plans", &MIRA_IN_ACME).await.0, StatusCode::FORBIDDEN);
    assert_eq!(get("/acme/secret", &[("doorward-organization", "acme")]).await.0, StatusCode::FORBIDDEN);
    assert_eq!(get("/acme/secret/data", &[]).await.0, StatusCode::FORBIDDEN);
    assert_eq!(get("/acme/website", &[]).await.0, StatusCode::OK);
    assert_eq!(get("/acme/unknown", &MIRA_IN_ACME).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_about_you_shows_every_identity_header_and_no_other() {
    let headers: Vec<_> =
        IDENTITY_HEADERS.iter().map(|name| (*name, "here")).chain([("x-remote-user", "smuggled")]).collect();
    let (_, page) = get("/whoami", &headers).await;
    for name in IDENTITY_HEADERS {
        assert!(page.contains(&format!("<dt>{name}</dt><dd class=\"mono\">here")), "{name}: {page}");
    }
    assert!(!page.contains("smuggled"));
}

#[tokio::test]
async fn a_request_that_did_not_come_through_doorward_is_marked() {
    assert!(get("/whoami", &[]).await.1.contains("did not come through Doorward"));
    assert!(!get("/whoami", &[("doorward-account", "")]).await.1.contains("did not come through Doorward"));
}

#[tokio::test]
async fn where_single_sign_on_is_optional_and_missing_the_page_offers_it() {
    let headers = [MIRA_IN_ACME.as_slice(), &[("doorward-sso", "missing")]].concat();
    assert!(get("/acme/secret", &headers).await.1.contains("/organizations/acme/sso"));
}

#[tokio::test]
async fn a_note_is_kept_with_its_author_and_shown_as_text() {
    let hub = Arc::new(Hub::new(String::new()));
    let mut post = Request::post("/acme/secret/notes");
    let mut read = Request::get("/acme/secret");
    for (name, value) in MIRA_IN_ACME {
        post = post.header(name, value);
        read = read.header(name, value);
    }
    let posted = router(hub.clone()).oneshot(post.body(Body::from("note=%3Cb%3Ehello")).unwrap()).await;
    // A form has to say that it is one.
    assert_eq!(posted.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut post =
        Request::post("/acme/secret/notes").header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in MIRA_IN_ACME {
        post = post.header(name, value);
    }
    let posted = router(hub.clone()).oneshot(post.body(Body::from("note=%3Cb%3Ehello")).unwrap()).await;
    assert_eq!(posted.unwrap().status(), StatusCode::SEE_OTHER);
    let page = router(hub).oneshot(read.body(Body::empty()).unwrap()).await.unwrap();
    let page = to_bytes(page.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8(page.to_vec()).unwrap().contains("mira: &#60;b&#62;hello"));
}

#[tokio::test]
async fn the_socket_asks_for_an_upgrade() {
    assert_eq!(get("/acme/website/socket", &[]).await.0, StatusCode::UPGRADE_REQUIRED);
}
