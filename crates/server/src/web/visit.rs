//! One visit of a browser to our pages: who is signed in, from where, and what he may open.
//!
//! A route's middleware makes the `Visit` and, for a page of an organization, the `OrganizationVisit`; handlers take
//! them as arguments and find no other way to an account or an organization (rule 7).

use axum::extract::FromRequestParts;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::request_target::{Method, is_navigation};
use doorward_core::secret::TokenHash;
use http::header::{ACCEPT, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::sync::Arc;

use crate::app::SharedApp;
use crate::cookies::Cookie;
use crate::header_names::{SEC_FETCH_MODE, SEC_FETCH_SITE, X_REQUESTED_WITH};
use crate::logging::Arrival;
use crate::refusal::Refusal;
use crate::session::{SignedIn, signed_in};
use crate::store::{Organization, OrganizationFacts, StoreError};

/// One visit.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The request's id, as in the log.
    pub request_id: String,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// A browser's address bar waits for the answer: it gets pages and redirects, others problem documents.
    pub navigation: bool,
    /// A page of another site sent the browser here: an application, a portal, or a stranger's.
    pub from_foreign_site: bool,
    /// Path and query as asked, from the host's root.
    pub target: String,
    /// Who is signed in.
    pub signed_in: Option<SignedIn>,
    /// Hash of the cookie that binds attempts to this browser.
    pub browser: Option<TokenHash>,
}

impl Visit {
    pub(super) async fn of(app: &SharedApp, parts: &Parts) -> Result<Self, StoreError> {
        let https = app.https();
        let headers = &parts.headers;
        let signed_in = signed_in(app, Cookie::Session.read(headers, https), None).await?;
        let browser = Cookie::Browser.read(headers, https);
        Ok(Self { signed_in, browser, ..Self::of_stranger(parts) })
    }

    /// The visit of whoever it may be, who proves nothing: no cookie is looked at.
    pub(super) fn of_stranger(parts: &Parts) -> Self {
        let is_foreign = |site: &HeaderValue| !matches!(site.as_bytes(), b"none" | b"same-origin");
        Self {
            from_foreign_site: parts.headers.get(SEC_FETCH_SITE).is_some_and(is_foreign),
            ..Self::elsewhere(
                parts.extensions.get(),
                wants_page(&parts.method, &parts.headers),
                parts.uri.path_and_query(),
            )
        }
    }

    /// The visit of whoever it may be to a page that is not ours.
    pub(super) fn elsewhere(
        arrival: Option<&Arrival>,
        navigation: bool,
        target: Option<&PathAndQuery>,
    ) -> Self {
        Self {
            request_id: arrival.map_or_else(String::new, |arrival| arrival.id.to_string()),
            address: arrival.map(|arrival| arrival.client.0),
            navigation,
            from_foreign_site: false,
            target: target.map_or_else(|| "/".to_owned(), ToString::to_string),
            signed_in: None,
            browser: None,
        }
    }

    /// The account that the route's access rule has made sure of.
    pub fn account(&self) -> Result<&SignedIn, Refusal> {
        self.signed_in.as_ref().ok_or_else(|| Refusal::new(ErrorCode::AccountSignInNeeded))
    }
}

/// Whether a page is the right answer: a navigation, or a form that was sent.
pub fn wants_page(method: &http::Method, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A form is sent by a navigation too; only its method is another.
    let method = if method == http::Method::HEAD { Method::Head } else { Method::Get };
    is_navigation(
        method,
        text(&SEC_FETCH_MODE),
        text(&ACCEPT),
        headers.contains_key(X_REQUESTED_WITH),
        headers.contains_key(UPGRADE),
    )
}

/// A visit to a page of an organization, by somebody whom the route's access rule admits.
#[derive(Clone, Debug)]
pub struct OrganizationVisit {
    /// The organization.
    pub organization: Organization,
    /// What the gate knows of it.
    pub facts: Arc<OrganizationFacts>,
    /// The visitor's role.
    pub role: Role,
    /// Spared SSO.
    pub external_collaborator: bool,
    /// Whether his session has completed the organization's SSO, or the organization has none. An external
    /// collaborator has not, though he is spared it.
    pub sso_complete: bool,
    /// An admin's recovery code stands in for that SSO in this browser session, on settings pages alone.
    pub recovered: bool,
}

impl OrganizationVisit {
    /// Whether the visitor, once his login is fresh, may do what widens entry (rule 12).
    pub const fn may_widen(&self) -> bool {
        self.sso_complete || self.recovered
    }
}

macro_rules! from_extensions {
    ($($type:ty),*) => { $(
        impl<S: Sync> FromRequestParts<S> for $type {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
                parts.extensions.get::<Self>().cloned().ok_or_else(|| {
                    tracing::error!("a handler asks for what its route's access rule does not give");
                    Refusal::new(ErrorCode::ServiceInternal)
                })
            }
        }
    )* };
}
from_extensions!(Visit, OrganizationVisit, super::api::ApiCall);
