//! One visit of a browser to our pages: who is signed in, from where, and what he may open.
//!
//! A route's middleware makes the `Visit` and, for a page of an organization, the `OrganizationVisit`; handlers take
//! them as arguments and find no other way to an account or an organization (rule 7).

use axum::extract::FromRequestParts;
use doorward_core::connection::sso_session_ends_at;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::request_target::{Method, is_navigation};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use http::HeaderMap;
use http::header::{ACCEPT, UPGRADE};
use http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;

use super::cookies::Cookie;
use super::error_response::Refusal;
use crate::app::{App, SharedApp};
use crate::client_address::ClientAddress;
use crate::logging::RequestId;
use crate::store::{
    AccountFacts, Actor, Organization, OrganizationFacts, SESSION_ABSOLUTE, SESSION_IDLE, SessionFacts, StoreError,
};

/// How often a session's use is noted.
const TOUCH_EVERY: Lifetime = Lifetime::from_hours(1);

/// The account that is signed in, with the session that proves it.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The account with all that decides for it.
    pub account: Arc<AccountFacts>,
    place: usize,
}

impl SignedIn {
    /// The session.
    pub fn session(&self) -> Option<&SessionFacts> {
        self.account.sessions.get(self.place)
    }

    /// The account's role in an organization.
    pub fn role_in(&self, organization: &OrganizationFacts) -> Option<Role> {
        self.account.memberships.iter().find(|m| m.organization == organization.id).map(|m| m.role)
    }

    /// Whether the session has an SSO session for the organization that is valid now.
    pub fn sso_is_complete(&self, organization: &OrganizationFacts, now: Timestamp) -> bool {
        self.session().is_some_and(|session| {
            session.sso.iter().any(|sso| {
                sso.organization == organization.id
                    && sso.epoch == organization.epoch
                    && now < sso_session_ends_at(sso.authenticated_at, organization.session_timeout)
            })
        })
    }

    /// How long ago the password was proved.
    pub fn login_age(&self, now: Timestamp) -> Lifetime {
        self.session().map_or(Lifetime::from_millis(i64::MAX), |session| now.since(session.authenticated_at))
    }

    /// As the audit log names him.
    pub fn actor(&self) -> Actor {
        Actor::Account(self.account.id, self.account.name.clone())
    }
}

/// Whether a browser session is neither idle too long nor too old (decisions.md).
pub fn session_is_alive(session: &SessionFacts, now: Timestamp) -> bool {
    now < session.last_seen_at.plus(SESSION_IDLE) && now < session.created_at.plus(SESSION_ABSOLUTE)
}

/// The live session behind a token; `host`: the application's host on which it was sent, `None` on our own.
pub async fn signed_in(
    app: &SharedApp,
    token: Option<TokenHash>,
    host: Option<&str>,
) -> Result<Option<SignedIn>, StoreError> {
    let Some(token) = token else { return Ok(None) };
    let now = app.clock.now();
    let Some((account, place, is_host_token)) = app.store.session_facts(token, now).await? else { return Ok(None) };
    let Some(session) = account.sessions.get(place) else { return Ok(None) };
    // A host's token counts on its own host alone, and never on ours; ours counts on no other host (rule 11).
    let fits = match host {
        None => !is_host_token,
        Some(host) => is_host_token && session.hosts.iter().any(|(hash, on)| *hash == token && on == host),
    };
    if !fits || account.disabled || !session_is_alive(session, now) {
        return Ok(None);
    }
    if now.since(session.last_seen_at) > TOUCH_EVERY {
        note_use(app, &account, session, now);
    }
    Ok(Some(SignedIn { account, place }))
}

/// Notes beside the request that a session was used; a store that can't write now is no reason to refuse.
fn note_use(app: &SharedApp, account: &AccountFacts, session: &SessionFacts, now: Timestamp) {
    let (app, account, session) = (Arc::clone(app), account.id, session.id);
    tokio::spawn(async move {
        let noted = async {
            let mut tx = app.store.begin().await?;
            tx.touch_browser_session(session, account, now).await?;
            tx.commit(now).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a session's use could not be noted");
        }
    });
}

/// One visit.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The request's id, as in the log.
    pub request_id: String,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// A browser's address bar waits for the answer: it gets pages and redirects, others problem documents.
    pub navigation: bool,
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
        Ok(Self { signed_in, ..Self::of_stranger(app, parts) })
    }

    /// The visit of whoever it may be, without asking the store.
    pub(super) fn of_stranger(app: &App, parts: &Parts) -> Self {
        Self {
            request_id: parts.extensions.get::<RequestId>().map_or_else(String::new, ToString::to_string),
            address: parts.extensions.get::<ClientAddress>().map(|address| address.0),
            navigation: wants_page(&parts.method, &parts.headers),
            target: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            signed_in: None,
            browser: Cookie::Browser.read(&parts.headers, app.https()),
        }
    }

    /// The account that the route's access rule has made sure of.
    pub fn account(&self) -> Result<&SignedIn, Refusal> {
        self.signed_in.as_ref().ok_or_else(|| Refusal::new(ErrorCode::AccountSignInNeeded))
    }
}

/// Whether a page is the right answer: a navigation, or a form that was sent.
pub fn wants_page(method: &http::Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A form is sent by a navigation too; only its method is another.
    let method = if method == http::Method::HEAD { Method::Head } else { Method::Get };
    is_navigation(
        method,
        text("sec-fetch-mode"),
        text(ACCEPT.as_str()),
        headers.contains_key("x-requested-with"),
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
    /// Whether his session has completed the organization's SSO, or there is none to complete.
    pub sso_complete: bool,
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
from_extensions!(Visit, OrganizationVisit);
