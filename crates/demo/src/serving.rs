//! What the provider and the sample hub share as small web servers: pages, assets, headers, listening.
//!
//! Never here: what a page says. Both listen on loopback alone: they are stand-ins, and everybody is let in.

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// No `form-action`: it would hold for the redirect that leads from the sign-in page back to an application.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The script of both: copy buttons and the like. Every page works without it.
const SCRIPT: &str = include_str!("../assets/demo.js");
/// The style of both.
const STYLE: &str = include_str!("../assets/demo.css");

/// The icon of both.
const ICON: &str = include_str!("../assets/icon.svg");

/// The files that the pages of both ask for.
pub(crate) fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/static/demo.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/static/demo.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/static/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
}

/// A page with its headers. A template that can't be rendered is our mistake and gives 500.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            with_page_headers((status, [(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn with_page_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Not no-referrer: with it a form's POST would carry the origin "null".
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A file that is part of the program.
fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "max-age=60")], text).into_response()
}

/// Refuses a form that another site's page sends: every browser of today says so in `Sec-Fetch-Site`.
pub(crate) async fn refuse_foreign_forms(request: Request<Body>, next: Next) -> Response {
    let from = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign = !matches!(from, None | Some(b"same-origin" | b"none"));
    if request.method() == Method::POST && foreign {
        return (StatusCode::FORBIDDEN, "This form was sent by a page of another site.\n").into_response();
    }
    next.run(request).await
}

/// The answer to a method that a path does not know.
pub(crate) async fn method_not_allowed() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, POST")], "Method not allowed.\n").into_response()
}

/// Opens the port. Loopback alone; port 0 takes a free one.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{address} is not a loopback address: the demo lets everybody in and stays on this machine"
            ),
        ));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the process ends or the task is dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    axum::serve(listener, router).await
}
