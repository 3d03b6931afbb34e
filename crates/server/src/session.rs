//! Who is signed in: from a cookie's token to the account and the session that proves it.
//!
//! Used by the pages and by the gate alike, so that both judge a session the same way.

use doorward_core::connection::sso_session_counts;
use doorward_core::ids::OrganizationId;
use doorward_core::membership::Role;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use std::sync::Arc;

use crate::app::SharedApp;
use crate::store::{
    AccountFacts, Actor, OrganizationFacts, SESSION_ABSOLUTE, SESSION_IDLE, SessionFacts, StoreError,
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
        self.sso_counts(organization.id, organization.epoch(), organization.session_timeout(), now)
    }

    /// The same of an organization that is known otherwise, by its connection's epoch and its time-out.
    pub fn sso_counts(
        &self,
        organization: OrganizationId,
        epoch: i64,
        timeout: Lifetime,
        now: Timestamp,
    ) -> bool {
        let done = self
            .session()
            .and_then(|session| session.sso.iter().find(|sso| sso.organization == organization));
        done.is_some_and(|sso| sso_session_counts(sso.epoch(), sso.authenticated_at(), epoch, timeout, now))
    }

    /// How long ago the password was proved.
    pub fn login_age(&self, now: Timestamp) -> Lifetime {
        self.session()
            .map_or(Lifetime::from_millis(i64::MAX), |session| now.since(session.authenticated_at()))
    }

    /// As the audit log names him.
    pub fn actor(&self) -> Actor {
        Actor::Account(self.account.id, self.account.name().to_owned())
    }
}

/// Whether a browser session is neither idle too long nor too old (decisions.md).
pub fn session_is_alive(session: &SessionFacts, now: Timestamp) -> bool {
    now < session.last_seen_at().plus(SESSION_IDLE) && now < session.created_at().plus(SESSION_ABSOLUTE)
}

/// The live session behind a token; `host`: the application's host on which it was sent, `None` on our own.
pub async fn signed_in(
    app: &SharedApp,
    token: Option<TokenHash>,
    host: Option<&str>,
) -> Result<Option<SignedIn>, StoreError> {
    match token {
        Some(token) => signed_in_at(app, token, host, app.clock.now()).await,
        None => Ok(None),
    }
}

/// The same at a moment that is known already.
pub async fn signed_in_at(
    app: &SharedApp,
    token: TokenHash,
    host: Option<&str>,
    now: Timestamp,
) -> Result<Option<SignedIn>, StoreError> {
    let found = match app.store.known_session(token, now) {
        // Boxed: nearly every request's session is known, and shall not carry the room for asking.
        None => Box::pin(app.store.session_facts(token, now)).await?,
        known => known,
    };
    let Some((account, place, is_host_token)) = found else { return Ok(None) };
    let Some(session) = account.sessions.get(place) else { return Ok(None) };
    // A host's token counts on its own host alone, and never on ours; ours counts on no other host (rule 11).
    let fits = match host {
        None => !is_host_token,
        Some(host) => {
            is_host_token && session.hosts.iter().any(|on| on.token == token.into() && *on.host == host)
        }
    };
    if !fits || account.disabled || !session_is_alive(session, now) {
        return Ok(None);
    }
    if now.since(session.last_seen_at()) > TOUCH_EVERY {
        note_use(app, &account, session, now);
    }
    Ok(Some(SignedIn { account, place }))
}

/// Notes beside the request that a session was used; a store that can't write now is no reason to refuse. A few at a
/// time: where there is no place, a later request notes it.
fn note_use(app: &SharedApp, account: &AccountFacts, session: &SessionFacts, now: Timestamp) {
    let Ok(place) = Arc::clone(&app.notes_of_use).try_acquire_owned() else { return };
    let (app, account, session) = (Arc::clone(app), account.id, session.id);
    tokio::spawn(async move {
        let _place = place;
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
