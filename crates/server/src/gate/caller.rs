//! Who asks: a browser with its session, a program with a token, or nobody.
//!
//! In: a question's headers. Out: a `Caller`, and what its credential comes to at one organization, for `decide`.
//! Invariant: one credential decides. Where a token of ours is sent, no cookie is looked at (docs/adr/0040).

use doorward_core::access_token::Presented;
use doorward_core::gate_decision::{Credential, SsoSession};
use doorward_core::ids::{AccessTokenId, OrganizationId, SessionId};
use doorward_core::time::Timestamp;
use http::HeaderMap;
use std::sync::Arc;

use crate::access_token::{TokenHolder, holder, read};
use crate::app::SharedApp;
use crate::cookies::Cookie;
use crate::session::{SignedIn, signed_in_at};
use crate::store::{AccountFacts, OrganizationFacts, SsoFacts, StoreError};

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Nobody whom we know.
    Nobody,
    /// Somebody by his browser session.
    Session(SignedIn),
    /// Somebody by a token of his.
    Token(TokenHolder),
    /// Whoever sends a token that is none.
    BadToken,
}

/// An organization, as far as a credential is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub id: OrganizationId,
    pub epoch: i64,
    pub token_sso_days: i64,
}

impl At {
    pub(super) fn of(organization: &OrganizationFacts) -> Self {
        Self {
            id: organization.id,
            epoch: organization.epoch(),
            token_sso_days: organization.token_sso_days(),
        }
    }
}

/// What an assertion was signed for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum CredentialId {
    Session(SessionId),
    Token(AccessTokenId),
}

impl Caller {
    /// `host`: the application's host, `None` on our own.
    pub(super) async fn of(
        app: &SharedApp,
        headers: &HeaderMap,
        host: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        Ok(match read(headers) {
            Presented::Foreign => {
                let cookie = if host.is_none() { Cookie::Session } else { Cookie::App };
                let Some(token) = cookie.read(headers, app.https()) else { return Ok(Self::Nobody) };
                let signed_in = signed_in_at(app, token, host, now).await?;
                signed_in.map_or(Self::Nobody, Self::Session)
            }
            Presented::Token(token) => holder(app, token, now).await?.map_or(Self::BadToken, Self::Token),
            Presented::Unreadable => Self::BadToken,
        })
    }

    /// The account that the caller speaks for.
    pub(super) fn account(&self) -> Option<&Arc<AccountFacts>> {
        match self {
            Self::Session(signed_in) => Some(&signed_in.account),
            Self::Token(holder) => Some(&holder.account),
            Self::Nobody | Self::BadToken => None,
        }
    }

    /// Whether a token was sent, good or not.
    pub(super) fn is_token(&self) -> bool {
        matches!(self, Self::Token(_) | Self::BadToken)
    }

    /// What speaks for the account, as the organization of the request sees it.
    pub(super) fn credential(&self, at: Option<At>) -> Credential {
        match self {
            Self::Nobody | Self::Session(_) => Credential::Session,
            Self::Token(holder) => holder.credential(at.map(|at| (at.id, at.epoch, at.token_sso_days))),
            Self::BadToken => Credential::BadToken,
        }
    }

    /// The browser's SSO session at the organization of the request.
    pub(super) fn sso_session(&self, at: Option<At>) -> Option<SsoSession> {
        let Self::Session(signed_in) = self else { return None };
        sso_session_at(&signed_in.session()?.sso, at)
    }

    /// Which session or token this is.
    pub(super) fn credential_id(&self) -> Option<CredentialId> {
        match self {
            Self::Session(signed_in) => signed_in.session().map(|session| CredentialId::Session(session.id)),
            Self::Token(holder) => holder.token().map(|token| CredentialId::Token(token.id)),
            Self::Nobody | Self::BadToken => None,
        }
    }
}

/// The SSO session at an organization, among those of a browser session.
pub(super) fn sso_session_at(sso: &[SsoFacts], at: Option<At>) -> Option<SsoSession> {
    let at = at?;
    let sso = sso.iter().find(|sso| sso.organization == at.id)?;
    Some(SsoSession { authenticated_at: sso.authenticated_at(), under_live_issuer: sso.epoch() == at.epoch })
}
