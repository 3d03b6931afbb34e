//! Browser sessions, SSO sessions inside them, sessions on applications' hosts, and the tickets that hand over.

use doorward_core::ids::{AccountId, OrganizationId, SessionId};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::database::{Query, Row, StoreError};
use super::{Change, Transaction};
use crate::values;

/// A browser session ends when it was not used for this long (decisions.md).
pub const SESSION_IDLE: Lifetime = Lifetime::from_days(30);
/// A browser session ends this long after it began, used or not (decisions.md).
pub const SESSION_ABSOLUTE: Lifetime = Lifetime::from_days(365);
/// Sessions kept for an account; the longest unused give way.
const SESSIONS_MAX: i64 = 50;
/// Sessions on applications' hosts kept for a browser session; the oldest give way.
pub const HOST_SESSIONS_MAX: i64 = 32;
/// Tickets kept for a browser session; the oldest give way.
const TICKETS_MAX: i64 = 32;

/// A browser session as the account page shows it.
#[derive(Clone, Debug)]
pub struct BrowserSession {
    /// Its id.
    pub id: SessionId,
    /// When it began.
    pub created_at: Timestamp,
    /// When the password was last proved in it.
    pub authenticated_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_seen_at: Timestamp,
}

/// A ticket to be made: hands a browser session over to an application's host.
#[derive(Clone, Debug)]
pub struct NewTicket {
    /// Hash of the ticket.
    pub hash: TokenHash,
    /// The browser session that is handed over.
    pub session: SessionId,
    /// The host that may take it.
    pub host: String,
    /// Hash of the nonce cookie that the host set first (rule 11).
    pub handover: TokenHash,
    /// Where the browser goes on: a path on that host.
    pub next: String,
    /// When it is worth nothing any more.
    pub expires_at: Timestamp,
}

/// A ticket that was taken.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The browser session.
    pub session: SessionId,
    /// Its account.
    pub account: AccountId,
    /// Where the browser goes on: a path on the host.
    pub next: String,
}

/// The browser sessions of an account, the last used first.
pub async fn load_browser_sessions(
    query: &mut impl Query,
    account: AccountId,
) -> Result<Vec<BrowserSession>, StoreError> {
    let sql = "SELECT id, created_at, authenticated_at, last_seen_at FROM browser_session WHERE account_id = $1 \
               ORDER BY last_seen_at DESC LIMIT 100";
    let read = |row: &Row| {
        Ok(BrowserSession {
            id: row.parsed("id")?,
            created_at: row.time("created_at")?,
            authenticated_at: row.time("authenticated_at")?,
            last_seen_at: row.time("last_seen_at")?,
        })
    };
    query.fetch_all(sql, values![account]).await?.iter().map(read).collect()
}

/// Whether a ticket of this host and nonce is there. Asked before `take_ticket`, so that one which a stranger made up
/// never takes the writer (rule 9).
pub async fn ticket_is_there(
    query: &mut impl Query,
    hash: TokenHash,
    host: &str,
    handover: TokenHash,
) -> Result<bool, StoreError> {
    let sql = "SELECT ticket_hash FROM ticket WHERE ticket_hash = $1 AND host = $2 AND handover_hash = $3";
    Ok(query.fetch_optional(sql, values![hash, host, handover]).await?.is_some())
}

/// Of the account `$1`: the session `$2`, or with `$3` = 1 all but that one.
macro_rules! these_sessions {
    () => {
        "account_id = $1 AND (id <> $2) = ($3 = 1)"
    };
}

impl Transaction {
    /// Begins a browser session and lets the longest unused ones of the account go.
    pub async fn insert_browser_session(
        &mut self,
        id: SessionId,
        token: TokenHash,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO browser_session (id, token_hash, account_id, created_at, authenticated_at, last_seen_at) \
             VALUES ($1, $2, $3, $4, $4, $4)",
            values![id, token, account, now],
        )
        .await?;
        self.execute(
            "DELETE FROM browser_session WHERE id IN (SELECT id FROM browser_session WHERE account_id = $1 \
             ORDER BY last_seen_at DESC LIMIT 1000 OFFSET $2)",
            values![account, SESSIONS_MAX],
        )
        .await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Signing in again as the same account: a new secret, the same session with its SSO and its hosts. Whether the
    /// session was still there. Open attempts go on: it is the same account in the same browser.
    pub async fn renew_browser_session(
        &mut self,
        id: SessionId,
        account: AccountId,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let renewed = self
            .execute(
                "UPDATE browser_session SET token_hash = $3, authenticated_at = $4, last_seen_at = $4 \
                 WHERE id = $1 AND account_id = $2",
                values![id, account, token, now],
            )
            .await?;
        self.changed(Change::Account(account));
        Ok(renewed > 0)
    }

    /// Ends a browser session with all that hangs on it: SSO, hosts, tickets, attempts. Whether there was one.
    pub async fn delete_browser_session(
        &mut self,
        id: SessionId,
        account: AccountId,
    ) -> Result<bool, StoreError> {
        Ok(self.delete_browser_sessions(account, id, false).await? > 0)
    }

    /// Ends all browser sessions of an account but one; how many.
    pub async fn delete_other_browser_sessions(
        &mut self,
        keep: SessionId,
        account: AccountId,
    ) -> Result<u64, StoreError> {
        self.delete_browser_sessions(account, keep, true).await
    }

    /// Ends one browser session of an account, or all others; how many. Holds them, and ends what hangs on them in the order
    /// in which whoever ends single sign-on takes it (`end_sso_of`). Their own end would take it session by session, and
    /// what is held before the attempts: each would wait for the other (PostgreSQL).
    async fn delete_browser_sessions(
        &mut self,
        account: AccountId,
        id: SessionId,
        others: bool,
    ) -> Result<u64, StoreError> {
        for sql in [
            concat!("UPDATE browser_session SET account_id = account_id WHERE ", these_sessions!()),
            concat!(
                "DELETE FROM sso_session WHERE session_id IN (SELECT id FROM browser_session WHERE ",
                these_sessions!(),
                ")"
            ),
            concat!(
                "DELETE FROM attempt WHERE session_id IN (SELECT id FROM browser_session WHERE ",
                these_sessions!(),
                ")"
            ),
            concat!(
                "DELETE FROM held_identity WHERE session_id IN (SELECT id FROM browser_session WHERE ",
                these_sessions!(),
                ")"
            ),
        ] {
            self.execute(sql, values![account, id, others]).await?;
        }
        let sql = concat!("DELETE FROM browser_session WHERE ", these_sessions!());
        let ended = self.execute(sql, values![account, id, others]).await?;
        self.changed(Change::Account(account));
        Ok(ended)
    }

    /// Notes that a session was used.
    pub async fn touch_browser_session(
        &mut self,
        id: SessionId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE browser_session SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2";
        self.execute(sql, values![id, now]).await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Whether a browser session of this account is there and the account is not switched off, with its row held until the
    /// transaction ends: nobody signs out between this and what is made for the session.
    pub async fn browser_session_counts(
        &mut self,
        id: SessionId,
        account: AccountId,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE browser_session SET account_id = account_id WHERE id = $1 AND account_id = $2 \
                   AND EXISTS (SELECT 1 FROM account a WHERE a.id = $2 AND a.disabled = 0) RETURNING id";
        Ok(self.fetch_optional(sql, values![id, account]).await?.is_some())
    }

    /// Makes (or renews) the SSO session of a browser session for one organization.
    #[expect(clippy::too_many_arguments, reason = "each is a column of its own type")]
    pub async fn put_sso_session(
        &mut self,
        session: SessionId,
        account: AccountId,
        organization: OrganizationId,
        epoch: i64,
        issuer: &str,
        subject: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO sso_session (session_id, organization_id, epoch, issuer, subject, authenticated_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (session_id, organization_id) \
             DO UPDATE SET epoch = $3, issuer = $4, subject = $5, authenticated_at = $6",
            values![session, organization, epoch, issuer, subject, now],
        )
        .await?;
        self.note_sso(organization, account, epoch, now).await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Ends what an account has open in an organization by its SSO: sessions, attempts, what is held, and the authorisations
    /// of its tokens.
    pub async fn end_sso_of(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM sso_session WHERE organization_id = $1 AND session_id IN \
             (SELECT id FROM browser_session WHERE account_id = $2)",
            values![organization, account],
        )
        .await?;
        self.execute(
            "DELETE FROM attempt WHERE organization_id = $1 AND account_id = $2",
            values![organization, account],
        )
        .await?;
        self.delete_held_of(organization, account).await?;
        self.end_token_authorizations_of(organization, account).await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Makes a ticket; the session's oldest give way.
    pub async fn insert_ticket(&mut self, ticket: &NewTicket) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM ticket WHERE ticket_hash IN (SELECT ticket_hash FROM ticket WHERE session_id = $1 \
             ORDER BY expires_at DESC LIMIT 1000 OFFSET $2)",
            values![ticket.session, TICKETS_MAX - 1],
        )
        .await?;
        self.execute(
            "INSERT INTO ticket (ticket_hash, session_id, host, handover_hash, next, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![
                ticket.hash,
                ticket.session,
                &ticket.host,
                ticket.handover,
                &ticket.next,
                ticket.expires_at
            ],
        )
        .await?;
        Ok(())
    }

    /// Takes a ticket, once, on its own host and with its own nonce; a foreign host or browser burns nothing.
    pub async fn take_ticket(
        &mut self,
        hash: TokenHash,
        host: &str,
        handover: TokenHash,
        now: Timestamp,
    ) -> Result<Option<Ticket>, StoreError> {
        let sql = "DELETE FROM ticket WHERE ticket_hash = $1 AND host = $2 AND handover_hash = $3 \
                   RETURNING session_id, next, expires_at";
        let Some(row) = self.fetch_optional(sql, values![hash, host, handover]).await? else {
            return Ok(None);
        };
        if row.time("expires_at")? <= now {
            return Ok(None);
        }
        let session: SessionId = row.parsed("session_id")?;
        let sql = "SELECT account_id FROM browser_session WHERE id = $1";
        let Some(owner) = self.fetch_optional(sql, values![session]).await? else { return Ok(None) };
        Ok(Some(Ticket { session, account: owner.parsed("account_id")?, next: row.text("next")? }))
    }

    /// Begins a session on an application's host as a child of a browser session; the oldest give way.
    pub async fn insert_host_session(
        &mut self,
        token: TokenHash,
        session: SessionId,
        account: AccountId,
        host: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO host_session (token_hash, session_id, host, created_at) VALUES ($1, $2, $3, $4)",
            values![token, session, host, now],
        )
        .await?;
        self.execute(
            "DELETE FROM host_session WHERE token_hash IN (SELECT token_hash FROM host_session WHERE session_id = $1 \
             ORDER BY created_at DESC, token_hash LIMIT 1000 OFFSET $2)",
            values![session, HOST_SESSIONS_MAX],
        )
        .await?;
        self.changed(Change::Account(account));
        Ok(())
    }
}
