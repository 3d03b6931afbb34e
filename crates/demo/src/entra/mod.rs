//! An Entra-shaped OpenID provider with the console in which the guide is clicked. A stand-in for development:
//! not Microsoft, everybody is let in, everything is forgotten at the end of the process.
//!
//! Read next: `directory.rs` (what it knows), `authorize.rs` and `token.rs` (the protocol), `console/` (the clicks),
//! `aadsts.rs` (the refusals), `fault.rs` (what can be switched on). Never here: anything of Doorward.

mod aadsts;
mod authorize;
mod console;
mod directory;
mod fault;
mod id_token;
mod keys;
mod metadata;
#[cfg(test)]
mod tests;
mod token;

use crate::clock::Clock;
use crate::serving::{assets, method_not_allowed, page, refuse_foreign_forms};
use aadsts::{Facts, Refusal};
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::{get, post};
use directory::{App, AppKind, Directory, Platform};
use http::StatusCode;
use keys::{KeyError, Rollover, SigningKeys};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

pub(crate) use directory::{ACME_TENANT, GLOBEX_TENANT};

/// The provider: everything that a handler gets.
pub(crate) struct Provider {
    /// Scheme, host and port, from which every address in a document is built.
    base_url: String,
    clock: Clock,
    keys: Mutex<Arc<SigningKeys>>,
    directory: Mutex<Directory>,
    /// How long the fault "answers slowly" waits.
    slow_answer: Duration,
}

/// An application that was registered without clicking, for tests.
#[derive(Serialize)]
pub(crate) struct SeededApp {
    tenant: &'static str,
    client_id: String,
    client_secret: String,
    redirect_uri: String,
    issuer: String,
    metadata_url: String,
    /// Pages of the console.
    enterprise_url: String,
    registration_url: String,
}

impl Provider {
    /// A provider that is reached at `base_url`, such as `http://127.0.0.1:9400`, with new keys.
    pub(crate) fn new(base_url: String, clock: Clock) -> Result<Self, KeyError> {
        let keys = SigningKeys::generate(clock.now())?;
        Ok(Self::with_keys(base_url, clock, Arc::new(keys)))
    }

    fn with_keys(base_url: String, clock: Clock, keys: Arc<SigningKeys>) -> Self {
        let directory = Mutex::new(Directory::new());
        Self { base_url, clock, keys: Mutex::new(keys), directory, slow_answer: Duration::from_secs(15) }
    }

    /// Registers a Web application in a tenant with admin consent and a secret of half a year.
    ///
    /// Takes what the portal's box refuses and a manifest accepts too, such as `http://127.0.0.1`.
    pub(crate) fn seed_app(&self, tenant: &'static str, redirect_uri: &str) -> Result<SeededApp, String> {
        let uri = Url::parse(redirect_uri)
            .map(|_| redirect_uri)
            .map_err(|error| format!("{redirect_uri}: {error}"))?;
        let mut app = App::new(tenant, "Seeded for a test", AppKind::Developing);
        app.admin_consent = true;
        app.add_redirect_uri(Platform::Web, uri);
        let expires_at = self.clock.now().saturating_add(180 * 86_400);
        let client_secret =
            app.add_secret("seeded", expires_at).map(|secret| secret.value.clone()).unwrap_or_default();
        let seeded = SeededApp {
            tenant,
            client_id: app.client_id.clone(),
            client_secret,
            redirect_uri: uri.to_owned(),
            issuer: self.issuer(tenant),
            metadata_url: self.metadata_url(tenant),
            enterprise_url: format!("{}/console/{tenant}/enterprise-apps/{}", self.base_url, app.object_id),
            registration_url: format!(
                "{}/console/{tenant}/app-registrations/{}",
                self.base_url, app.object_id
            ),
        };
        if self.directory().add_app(app) {
            Ok(seeded)
        } else {
            Err("there are too many applications".to_owned())
        }
    }

    /// Address of the metadata document of a tenant.
    pub(crate) fn metadata_url(&self, tenant: &str) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer(tenant))
    }

    /// What the provider knows. Held for moments, never over an await.
    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys as they are now.
    fn keys(&self) -> Arc<SigningKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the keys. Nothing happens in the unlikely case that no key can be made.
    fn change_keys(&self, rollover: Rollover) {
        if let Ok(changed) = self.keys().after(rollover, self.clock.now()) {
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        }
    }

    fn refusal(&self, code: u32, facts: &Facts) -> Refusal {
        Refusal::new(code, facts, self.clock.now())
    }
}

/// Fields of a form or a query. The first value of a name counts; an empty one counts as absent.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn parse(encoded: &[u8]) -> Self {
        let mut fields = HashMap::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Every address of the provider and its console.
pub(crate) fn router(provider: Arc<Provider>) -> Router {
    let pages = Router::new()
        .merge(console::routes())
        .route("/{tenant}/login", post(authorize::login))
        .route("/error", get(explain_error))
        .layer(from_fn(refuse_foreign_forms));
    Router::new()
        .merge(pages)
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(metadata::v2))
        .route("/{tenant}/.well-known/openid-configuration", get(metadata::v1))
        .route("/{tenant}/discovery/v2.0/keys", get(metadata::keys_v2))
        .route("/{tenant}/discovery/keys", get(metadata::keys_v1))
        .route(
            "/{tenant}/oauth2/v2.0/authorize",
            get(authorize::authorize).post(authorize::authorize_by_form),
        )
        .route("/{tenant}/oauth2/v2.0/token", post(token::token))
        .route("/{tenant}/oauth2/v2.0/logout", get(authorize::logout))
        .route("/oidc/userinfo", get(token::userinfo).post(token::userinfo))
        .merge(assets())
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(provider)
}

#[derive(Template)]
#[template(path = "entra/notice.html")]
struct Notice {
    title: String,
    text: String,
}

async fn not_found() -> Response {
    notice(StatusCode::NOT_FOUND, "There is nothing at this address", "The provider does not know this page.")
}

/// A page that says one thing.
fn notice(status: StatusCode, title: &str, text: &str) -> Response {
    page(status, &Notice { title: title.to_owned(), text: text.to_owned() })
}

/// `GET /error?code=N`: what a number means, as the `error_uri` of an error promises.
async fn explain_error(
    State(provider): State<Arc<Provider>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let code = query.get("code").and_then(|code| code.parse().ok()).unwrap_or_default();
    let refusal = provider.refusal(
        code,
        &Facts {
            client_id: "(client ID)".to_owned(),
            tenant: "(tenant)".to_owned(),
            person: "(person)".to_owned(),
            redirect_uri: "(redirect URI)".to_owned(),
            detail: "(value)".to_owned(),
        },
    );
    notice(StatusCode::OK, &format!("AADSTS{code}"), &refusal.text)
}
