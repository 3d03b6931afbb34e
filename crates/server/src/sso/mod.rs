//! The trip to the identity provider, from the settings form to the session.
//!
//! ```text
//!  settings: save a draft ──┐
//!                           ├─▶ start ──▶ provider ──▶ callback ──▶ verify ──┬─ test:    findings on the draft
//!  member: complete SSO ────┘   (attempt)              (taken once)          └─ sign-in: SSO session
//!  enable / disable: point `live` at a tested draft, or at nothing
//!  linking: what a first sign-in may link by itself, and what an admin decides
//! ```
//!
//! Never here: pages (`web/`), SQL (`store/`), the network (`idp/`). The purpose of an attempt is read in one place,
//! after everything was verified (`callback.rs`).

pub mod callback;
pub mod enable;
pub mod join;
pub mod linking;
pub mod recovery;
pub mod settings;
pub mod start;

use doorward_core::connection::ClientAuthMethod;
use doorward_core::oidc::{Metadata, SignatureAlgorithm};
use url::Url;

use crate::store::{FrozenEndpoints, StoreError};

/// What of the metadata a revision freezes; `auth_method` is the one that will be used.
pub(crate) fn freeze(metadata: &Metadata, auth_method: ClientAuthMethod) -> FrozenEndpoints {
    FrozenEndpoints {
        issuer: metadata.issuer.clone(),
        authorization_endpoint: metadata.authorization_endpoint.to_string(),
        token_endpoint: metadata.token_endpoint.to_string(),
        userinfo_endpoint: metadata.userinfo_endpoint.as_ref().map(Url::to_string),
        jwks_uri: metadata.jwks_uri.to_string(),
        auth_method: auth_method.as_str().to_owned(),
        algorithms: metadata.algorithms.iter().map(|algorithm| algorithm.as_str().to_owned()).collect(),
        iss_promised: metadata.iss_parameter_promised,
        entra_tenant: metadata.entra_tenant.clone(),
    }
}

/// Frozen endpoints as the exchange needs them.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) userinfo: Option<Url>,
    pub(crate) jwks: Url,
    pub(crate) auth_method: ClientAuthMethod,
    pub(crate) algorithms: Vec<SignatureAlgorithm>,
}

impl Endpoints {
    pub(crate) fn of(frozen: &FrozenEndpoints) -> Result<Self, StoreError> {
        let url =
            |text: &str| Url::parse(text).map_err(|_| StoreError::Corrupt("a frozen endpoint".to_owned()));
        Ok(Self {
            authorization: url(&frozen.authorization_endpoint)?,
            token: url(&frozen.token_endpoint)?,
            userinfo: frozen.userinfo_endpoint.as_deref().map(url).transpose()?,
            jwks: url(&frozen.jwks_uri)?,
            auth_method: ClientAuthMethod::from_text(&frozen.auth_method)
                .ok_or_else(|| StoreError::Corrupt("a frozen method".to_owned()))?,
            algorithms: frozen
                .algorithms
                .iter()
                .filter_map(|name| SignatureAlgorithm::from_name(name))
                .collect(),
        })
    }
}

/// Whether two revisions trust the same provider for the same client: then a stored secret may be kept (rule 6), and a
/// passed test may go live at once (architecture.md §3).
pub(crate) fn is_same_provider(a: &FrozenEndpoints, b: &FrozenEndpoints) -> bool {
    let origins = |endpoints: &FrozenEndpoints| {
        [
            Some(&endpoints.authorization_endpoint),
            Some(&endpoints.token_endpoint),
            endpoints.userinfo_endpoint.as_ref(),
            Some(&endpoints.jwks_uri),
        ]
        .map(|url| url.and_then(|url| Url::parse(url).ok()).map(|url| url.origin().ascii_serialization()))
    };
    a.issuer == b.issuer && a.entra_tenant == b.entra_tenant && origins(a) == origins(b)
}
