//! Attempts: trips of a browser to the provider, each taken once (rule 2).

use doorward_core::ids::{AccountId, ConnectionId, OrganizationId, RevisionNumber, SessionId};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::Transaction;
use super::database::{Query, StoreError};
use crate::values;

/// An attempt is worth nothing after this (decisions.md).
pub const ATTEMPT_LIFETIME: Lifetime = Lifetime::from_minutes(60);
/// What became of an attempt is remembered this long.
pub(super) const SPENT_KEPT: Lifetime = Lifetime::from_hours(24);
/// Open attempts of one browser, and of one browser session, which may call itself ever another browser; the oldest give
/// way (conformance.md V47).
const OPEN_MAX: i64 = 20;

/// What a trip to the provider is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// An admin tries the draft.
    Test,
    /// A member completes SSO under the live revision.
    SignIn,
    /// Somebody who holds the SSO join link becomes a member.
    Join,
}

impl Purpose {
    /// The name in the store, in metrics and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::SignIn => "sign_in",
            Self::Join => "join",
        }
    }

    /// The purpose of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Test, Self::SignIn, Self::Join].into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// One trip under way.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Hash of the state.
    pub state: TokenHash,
    /// Hash of the browser's cookie.
    pub browser: TokenHash,
    /// The organization whose redirect URI must be met.
    pub organization: OrganizationId,
    /// Its connection.
    pub connection: ConnectionId,
    /// The revision it is for: client, issuer and endpoints are this one's.
    pub revision: RevisionNumber,
    /// What it is for.
    pub purpose: Purpose,
    /// For `Join`, and for nothing else: hash of the join link's token.
    pub join_link: Option<TokenHash>,
    /// Who is signed in.
    pub account: AccountId,
    /// In which browser session.
    pub session: SessionId,
    /// Nonce and PKCE verifier, sealed.
    pub sealed: String,
    /// Where the browser goes on afterwards; judged when it was stored.
    pub next: String,
    /// When it began.
    pub created_at: Timestamp,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub struct SpentAttempt {
    /// The account it was for.
    pub account: AccountId,
    /// What it was for.
    pub purpose: Purpose,
    /// Where the browser was to go on.
    pub next: String,
    /// `pending` while the provider is asked, `ok`, or an error code.
    pub outcome: String,
}

/// What a callback's state led to.
#[derive(Clone, Debug)]
pub enum Taken {
    /// The attempt, which is nobody else's now.
    Fresh(Box<Attempt>),
    /// It was this browser's, and is over an hour old.
    Expired(Box<Attempt>),
    /// This browser's, and taken before: a reload, or the second of two tabs.
    Spent(SpentAttempt),
    /// Unknown here: another browser, another organization, or long ago. Nothing was burnt.
    Unknown,
}

/// Whether a state is that of an attempt of this browser at this organization that nobody has taken. Asked before
/// `take_attempt`, so that a state which a stranger made up never takes the writer (rule 9).
pub async fn attempt_is_open(
    query: &mut impl Query,
    state: TokenHash,
    browser: TokenHash,
    organization: OrganizationId,
) -> Result<bool, StoreError> {
    let sql = "SELECT state_hash FROM attempt \
               WHERE state_hash = $1 AND browser_hash = $2 AND organization_id = $3";
    Ok(query.fetch_optional(sql, values![state, browser, organization]).await?.is_some())
}

/// What became of this browser's attempt at this organization.
pub async fn load_spent_attempt(
    query: &mut impl Query,
    state: TokenHash,
    browser: TokenHash,
    organization: OrganizationId,
) -> Result<Option<SpentAttempt>, StoreError> {
    let sql = "SELECT account_id, purpose, next, outcome FROM spent_attempt \
               WHERE state_hash = $1 AND browser_hash = $2 AND organization_id = $3";
    let Some(row) = query.fetch_optional(sql, values![state, browser, organization]).await? else {
        return Ok(None);
    };
    Ok(Some(SpentAttempt {
        account: row.parsed("account_id")?,
        purpose: row.known("purpose", Purpose::from_text)?,
        next: row.text("next")?,
        outcome: row.text("outcome")?,
    }))
}

impl Transaction {
    /// Begins an attempt; the oldest open ones of the browser and of the session give way.
    pub async fn insert_attempt(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM attempt WHERE state_hash IN (SELECT state_hash FROM attempt WHERE browser_hash = $1 \
             ORDER BY created_at DESC LIMIT 1000 OFFSET $2)",
            values![attempt.browser, OPEN_MAX - 1],
        )
        .await?;
        self.execute(
            "DELETE FROM attempt WHERE state_hash IN (SELECT state_hash FROM attempt WHERE session_id = $1 \
             ORDER BY created_at DESC LIMIT 1000 OFFSET $2)",
            values![attempt.session, OPEN_MAX - 1],
        )
        .await?;
        self.execute(
            "INSERT INTO attempt (state_hash, browser_hash, organization_id, connection_id, revision, purpose, \
             join_hash, account_id, session_id, sealed, next, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            values![
                attempt.state,
                attempt.browser,
                attempt.organization,
                attempt.connection,
                attempt.revision,
                attempt.purpose.as_str(),
                attempt.join_link.map(TokenHash::to_text),
                attempt.account,
                attempt.session,
                &attempt.sealed,
                &attempt.next,
                attempt.created_at,
                attempt.created_at.plus(ATTEMPT_LIFETIME),
            ],
        )
        .await?;
        Ok(())
    }

    /// Takes an attempt by its state: once, in its own browser, for its own organization.
    pub async fn take_attempt(
        &mut self,
        state: TokenHash,
        browser: TokenHash,
        organization: OrganizationId,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let sql = "DELETE FROM attempt WHERE state_hash = $1 AND browser_hash = $2 AND organization_id = $3 \
                   RETURNING connection_id, revision, purpose, join_hash, account_id, session_id, sealed, next, created_at, \
                   expires_at";
        let Some(row) = self.fetch_optional(sql, values![state, browser, organization]).await? else {
            let spent = load_spent_attempt(self, state, browser, organization).await?;
            return Ok(spent.map_or(Taken::Unknown, Taken::Spent));
        };
        let attempt = Attempt {
            state,
            browser,
            organization,
            connection: row.parsed("connection_id")?,
            revision: RevisionNumber(row.int("revision")?),
            purpose: row.known("purpose", Purpose::from_text)?,
            join_link: row.opt_text("join_hash")?.as_deref().and_then(TokenHash::from_text),
            account: row.parsed("account_id")?,
            session: row.parsed("session_id")?,
            sealed: row.text("sealed")?,
            next: row.text("next")?,
            created_at: row.time("created_at")?,
        };
        let expired = row.time("expires_at")? <= now;
        self.execute(
            "INSERT INTO spent_attempt (state_hash, browser_hash, organization_id, account_id, purpose, next, outcome, \
             spent_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            values![
                state,
                browser,
                organization,
                attempt.account,
                attempt.purpose.as_str(),
                &attempt.next,
                if expired { doorward_core::error_code::ErrorCode::SsoAttemptExpired.as_str() } else { "pending" },
                now,
            ],
        )
        .await?;
        let attempt = Box::new(attempt);
        Ok(if expired { Taken::Expired(attempt) } else { Taken::Fresh(attempt) })
    }

    /// Notes what became of a taken attempt.
    pub async fn note_outcome(&mut self, state: TokenHash, outcome: &str) -> Result<(), StoreError> {
        let sql = "UPDATE spent_attempt SET outcome = $2 WHERE state_hash = $1";
        self.execute(sql, values![state, outcome]).await?;
        Ok(())
    }

    /// Ends all open attempts of an organization: its live issuer changed, or single sign-on was switched off (rule 2).
    pub(super) async fn delete_attempts_of(
        &mut self,
        organization: OrganizationId,
    ) -> Result<(), StoreError> {
        self.execute("DELETE FROM attempt WHERE organization_id = $1", values![organization]).await?;
        Ok(())
    }
}
