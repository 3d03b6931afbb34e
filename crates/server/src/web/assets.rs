//! Style sheet, script and icon: built in, served under `{base}/assets/NAME?v=VERSION`.
//!
//! The version is a hash of the content, computed once, so that browsers may keep an asset for ever. Never here:
//! anything personal.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::error_code::ErrorCode;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::sync::LazyLock;

use crate::refusal::Refusal;

/// One built-in file.
#[derive(Debug)]
pub struct Asset {
    /// Its name in the address.
    pub name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static str,
    /// The start of its hash.
    version: String,
}

impl Asset {
    fn new(name: &'static str, content_type: &'static str, content: &'static str) -> Self {
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, content.as_bytes()));
        Self { name, content_type, content, version: hash.chars().take(12).collect() }
    }
}

/// All of them.
pub static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        Asset::new("doorward.css", "text/css; charset=utf-8", include_str!("../../assets/doorward.css")),
        // Of the banner in applications' pages, and of nothing else.
        Asset::new("banner.css", "text/css; charset=utf-8", include_str!("../../assets/banner.css")),
        Asset::new("doorward.js", "text/javascript; charset=utf-8", include_str!("../../assets/doorward.js")),
        Asset::new("doorward.svg", "image/svg+xml", include_str!("../../assets/doorward.svg")),
    ]
});

/// The asset of that name.
pub fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The version in an asset's address; empty for a name that nobody knows.
pub fn asset_version(name: &str) -> &'static str {
    asset(name).map_or("", |asset| &asset.version)
}

/// `GET /assets/NAME?v=VERSION`.
pub async fn serve(Path(name): Path<String>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    answer(&name, query.as_deref()).ok_or_else(|| ErrorCode::PageNotFound.into())
}

/// The asset of that name as an answer. Under another version's address it is given, and not kept.
pub(super) fn answer(name: &str, query: Option<&str>) -> Option<Response> {
    let asset = asset(name)?;
    let current = query.and_then(|query| query.strip_prefix("v=")) == Some(asset.version.as_str());
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::new(Body::from(asset.content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    Some(response)
}
