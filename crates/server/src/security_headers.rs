//! The one place of security headers (rule 10).
//!
//! In: the headers of an answer of ours. Out: the same, complete. An application's own answers are the application's.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

/// Sets what each answer of ours carries; what a page has set more strictly stays.
pub fn set(headers: &mut HeaderMap, https: bool) {
    for (name, value) in ALWAYS {
        headers.entry(*name).or_insert_with(|| HeaderValue::from_static(value));
    }
    if https {
        headers.insert("strict-transport-security", HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-store"));
}

const ALWAYS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Not no-referrer: under it browsers send `Origin: null` with our own forms too.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];
