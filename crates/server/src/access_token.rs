//! Whose a personal access token is, and what it may reach: from a request's `Authorization` to the facts for the gate.
//!
//! The gate alone asks; our own pages take no token. Never here: the decision (core's `decide`).
//! Invariant: `Authorization` with a token of ours in it never reaches an application (`without_ours`).

use doorward_core::access_token::{Presented, presented, token_reaches_until};
use doorward_core::gate_decision::{Credential, TokenAuthorization, TokenFacts};
use doorward_core::ids::OrganizationId;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

use crate::app::SharedApp;
use crate::store::{AccessTokenFacts, AccountFacts, StoreError};

/// How often a token's use is noted.
const TOUCH_EVERY: Lifetime = Lifetime::from_hours(1);

/// What a request's `Authorization` holds for us.
pub fn read(headers: &HeaderMap) -> Presented {
    presented(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))
}

/// The `Authorization` that may go on to an application: what was sent, if none of it is ours.
pub fn without_ours(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let foreign = read(headers) == Presented::Foreign;
    headers.get_all(AUTHORIZATION).iter().filter(move |_| foreign)
}

/// An account that a token speaks for.
#[derive(Clone, Debug)]
pub struct TokenHolder {
    /// The account with all that decides for it.
    pub account: Arc<AccountFacts>,
    place: usize,
}

impl TokenHolder {
    /// The token.
    pub fn token(&self) -> Option<&AccessTokenFacts> {
        self.account.access_tokens.get(self.place)
    }

    /// The token as one organization sees it: `epoch` and `sso_days` are that organization's.
    pub fn credential(&self, organization: Option<(OrganizationId, i64, i64)>) -> Credential {
        let Some(token) = self.token() else { return Credential::BadToken };
        let authorization = organization.and_then(|(organization, epoch, sso_days)| {
            let found = token.authorizations.iter().find(|known| known.organization == organization)?;
            Some(TokenAuthorization {
                under_live_issuer: found.epoch == epoch,
                ends_at: token_reaches_until(found.last_sso_at, sso_days),
            })
        });
        Credential::Token(TokenFacts { ceiling: token.ceiling, authorization })
    }
}

/// Whom a token speaks for; nothing if it is unknown or over, or its account is switched off.
pub async fn holder(
    app: &SharedApp,
    token: TokenHash,
    now: Timestamp,
) -> Result<Option<TokenHolder>, StoreError> {
    let Some((account, place)) = app.store.access_token_facts(token, now).await? else { return Ok(None) };
    let holder = TokenHolder { account, place };
    let Some(token) = holder.token() else { return Ok(None) };
    if holder.account.disabled || token.expires_at <= now {
        return Ok(None);
    }
    if token.last_used_at.is_none_or(|last| now.since(last) > TOUCH_EVERY) {
        note_use(app, &holder.account, token, now);
    }
    Ok(Some(holder))
}

/// Notes beside the request that a token was used, as `session.rs` does of a session.
fn note_use(app: &SharedApp, account: &AccountFacts, token: &AccessTokenFacts, now: Timestamp) {
    let Ok(place) = Arc::clone(&app.notes_of_use).try_acquire_owned() else { return };
    let (app, account, token) = (Arc::clone(app), account.id, token.id);
    crate::logging::spawn(async move {
        let _place = place;
        let noted = async {
            let mut tx = app.store.begin().await?;
            tx.touch_access_token(token, account, now).await?;
            tx.commit(now).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a token's use could not be noted");
        }
    });
}
