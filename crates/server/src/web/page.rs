//! Placeholder until the pages land: a refusal and the page that goes on, as plain as can be.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::visit::Visit;
use crate::app::App;
use crate::refusal::Refusal;

fn html(status: http::StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The page of a refusal.
pub fn render_refusal(_app: &App, visit: &Visit, refusal: &Refusal) -> Response {
    let action = refusal.action.as_ref().map_or_else(String::new, |(label, href)| {
        format!("<p><a href=\"{}\">{}</a></p>", escape(href), escape(label))
    });
    html(
        refusal.status(),
        format!(
            "<!doctype html><html lang=en><title>{t}</title><h1 data-error-code=\"{c}\">{t}</h1><p>{m}</p><p>{r}</p>{action}<p>{i}</p>",
            t = escape(refusal.code.title()),
            c = refusal.code,
            m = escape(refusal.code.meaning()),
            r = escape(refusal.code.remedy()),
            i = escape(&visit.request_id),
        ),
    )
}

/// The page that navigates on to another origin after a form (rule 10).
pub fn going_on(_app: &App, _visit: &Visit, url: &str) -> Response {
    let url = escape(url);
    html(
        http::StatusCode::OK,
        format!(
            "<!doctype html><html lang=en><meta http-equiv=refresh content=\"0;url={url}\"><title>Going on</title><h1>Going on</h1><a href=\"{url}\">Continue</a>"
        ),
    )
}
