//! Held identities: whom a provider named in a finished trip, kept until somebody decides (architecture.md §3, Linking).
//!
//! In: a verified identity with everything that the decision is pinned to. Out: the same, for the browser session that
//! made the trip, or for the admins once one of them was asked. Never here: the decision itself (`sso/linking.rs`).
//! Invariant: what is taken is what was shown; another trip of the account leaves nothing of the one before
//! (conformance.md V37).

use doorward_core::ids::{AccountId, ConnectionId, OrganizationId, RevisionNumber, SessionId};
use doorward_core::name::Name;
use doorward_core::oidc::Doubts;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::Transaction;
use super::attempts::Purpose;
use super::connections::Identity;
use super::database::{Query, Row, StoreError};
use crate::values;

/// A held identity waits this long for the person's own decision.
pub const HELD_LIFETIME: Lifetime = Lifetime::from_minutes(60);
/// A request waits this long for an admin.
pub const REQUEST_LIFETIME: Lifetime = Lifetime::from_days(14);
/// Requests that a page or the command line shows; the oldest first.
pub const LINK_REQUESTS_MAX: i64 = 100;

/// Whom the provider named, and all that a decision about it is pinned to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldIdentity {
    /// Hash of the handle that the person's page carries. It is no secret by itself: an admin's form carries it too.
    pub handle: TokenHash,
    /// The organization.
    pub organization: OrganizationId,
    /// Its connection.
    pub connection: ConnectionId,
    /// The revision that the trip was made under.
    pub revision: RevisionNumber,
    /// What the trip was for.
    pub purpose: Purpose,
    /// The account that went.
    pub account: AccountId,
    /// The browser session that went; `None` once an admin was asked.
    pub session: Option<SessionId>,
    /// Whom the provider named.
    pub identity: Identity,
    /// What the provider itself says against a first link.
    pub doubts: Doubts,
    /// Where the browser was to go on; judged when the attempt was stored.
    pub next: String,
    /// When the trip ended.
    pub created_at: Timestamp,
    /// When an admin was asked; `None`: nobody was.
    pub requested_at: Option<Timestamp>,
}

/// A first link that an admin was asked for.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// What he decides on.
    pub held: HeldIdentity,
    /// The account's name.
    pub account_name: Name,
    /// The person's name; may be empty.
    pub full_name: String,
}

/// What the store knows for and against a link of an identity to an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkFacts {
    /// The account that the identity is linked to.
    pub identity_account: Option<AccountId>,
    /// Whether the account is linked to an identity of this issuer.
    pub account_is_linked: bool,
    /// Whether the identity's address is one that the account has proved.
    pub address_is_proved: bool,
}

/// The columns of `LinkFacts`, of these values or columns.
macro_rules! link_facts {
    ($connection:literal, $issuer:literal, $subject:literal, $account:literal, $email_key:literal) => {
        concat!(
            "(SELECT i.account_id FROM identity i WHERE i.connection_id = ",
            $connection,
            " AND i.issuer = ",
            $issuer,
            " AND i.subject = ",
            $subject,
            ") AS identity_account, \
             (SELECT CAST(COUNT(*) AS BIGINT) FROM identity i WHERE i.connection_id = ",
            $connection,
            " AND i.issuer = ",
            $issuer,
            " AND i.account_id = ",
            $account,
            ") AS links, \
             (SELECT CAST(COUNT(*) AS BIGINT) FROM account_email e WHERE e.account_id = ",
            $account,
            " AND e.email_key = ",
            $email_key,
            " AND e.proved_at IS NOT NULL) AS proved "
        )
    };
}

fn link_facts(row: &Row) -> Result<LinkFacts, StoreError> {
    let linked = row
        .opt_text("identity_account")?
        .map(|text| text.parse().map_err(|_| StoreError::Corrupt("column account_id".to_owned())));
    Ok(LinkFacts {
        identity_account: linked.transpose()?,
        account_is_linked: row.flag("links")?,
        address_is_proved: row.flag("proved")?,
    })
}

/// What stands for and against linking this identity to this account. `email_key`: the identity's address as addresses
/// are compared; empty: it has none.
pub async fn load_link_facts(
    query: &mut impl Query,
    connection: ConnectionId,
    identity: &Identity,
    email_key: &str,
    account: AccountId,
) -> Result<LinkFacts, StoreError> {
    let sql = concat!("SELECT ", link_facts!("$1", "$2", "$3", "$4", "$5"));
    let v = values![connection, &identity.issuer, &identity.subject, account, email_key];
    let row = query.fetch_optional(sql, v).await?;
    link_facts(&row.ok_or_else(|| StoreError::Corrupt("identity".to_owned()))?)
}

macro_rules! columns {
    () => {
        "h.handle_hash, h.organization_id, h.connection_id, h.revision, h.purpose, h.account_id, h.session_id, \
         h.issuer, h.subject, h.sub, h.email, h.display_name, h.is_guest, h.email_unverified, h.next, h.created_at, \
         h.requested_at"
    };
}

fn held(row: &Row) -> Result<HeldIdentity, StoreError> {
    let session = row
        .opt_text("session_id")?
        .map(|text| text.parse().map_err(|_| StoreError::Corrupt("column session_id".to_owned())));
    Ok(HeldIdentity {
        handle: row.known("handle_hash", TokenHash::from_text)?,
        organization: row.parsed("organization_id")?,
        connection: row.parsed("connection_id")?,
        revision: RevisionNumber(row.int("revision")?),
        purpose: row.known("purpose", Purpose::from_text)?,
        account: row.parsed("account_id")?,
        session: session.transpose()?,
        identity: Identity {
            issuer: row.text("issuer")?,
            subject: row.text("subject")?,
            sub: row.text("sub")?,
            email: row.opt_text("email")?,
            display_name: row.opt_text("display_name")?,
        },
        doubts: Doubts { guest: row.flag("is_guest")?, email_unverified: row.flag("email_unverified")? },
        next: row.text("next")?,
        created_at: row.time("created_at")?,
        requested_at: row.opt_int("requested_at")?.map(Timestamp::from_millis),
    })
}

fn request(row: &Row) -> Result<LinkRequest, StoreError> {
    Ok(LinkRequest {
        held: held(row)?,
        account_name: Name::from_store(row.text("spelled")?),
        full_name: row.text("full_name")?,
    })
}

/// What is held for this browser session under this handle; nothing that is over, and nothing of another session,
/// organization or purpose.
pub async fn load_held(
    query: &mut impl Query,
    organization: OrganizationId,
    handle: TokenHash,
    session: SessionId,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Option<HeldIdentity>, StoreError> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM held_identity h WHERE h.handle_hash = $1 AND h.organization_id = $2 AND h.session_id = $3 \
         AND h.purpose = $4 AND h.expires_at > $5"
    );
    let v = values![handle, organization, session, purpose.as_str(), now];
    query.fetch_optional(sql, v).await?.as_ref().map(held).transpose()
}

/// The open requests of an organization, the oldest first, each with what it is judged by; at most `LINK_REQUESTS_MAX`.
pub async fn load_link_requests(
    query: &mut impl Query,
    organization: OrganizationId,
    now: Timestamp,
) -> Result<Vec<(LinkRequest, LinkFacts)>, StoreError> {
    let sql = concat!(
        "SELECT n.spelled, a.full_name, ",
        columns!(),
        ", ",
        link_facts!("h.connection_id", "h.issuer", "h.subject", "h.account_id", "LOWER(h.email)"),
        "FROM held_identity h JOIN account a ON a.id = h.account_id JOIN name n ON n.name_key = a.name_key \
         WHERE h.organization_id = $1 AND h.requested_at IS NOT NULL AND h.expires_at > $2 \
         ORDER BY h.requested_at, h.handle_hash LIMIT $3"
    );
    let rows = query.fetch_all(sql, values![organization, now, LINK_REQUESTS_MAX]).await?;
    rows.iter().map(|row| Ok((request(row)?, link_facts(row)?))).collect()
}

/// The open request of one account, if it has asked.
pub async fn load_link_request_of(
    query: &mut impl Query,
    organization: OrganizationId,
    account: AccountId,
    now: Timestamp,
) -> Result<Option<LinkRequest>, StoreError> {
    let sql = concat!(
        "SELECT n.spelled, a.full_name, ",
        columns!(),
        " FROM held_identity h JOIN account a ON a.id = h.account_id JOIN name n ON n.name_key = a.name_key \
         WHERE h.account_id = $2 AND h.organization_id = $1 AND h.requested_at IS NOT NULL AND h.expires_at > $3"
    );
    query.fetch_optional(sql, values![organization, account, now]).await?.as_ref().map(request).transpose()
}

/// How many requests of an organization wait for an admin.
pub async fn count_link_requests(
    query: &mut impl Query,
    organization: OrganizationId,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity \
               WHERE organization_id = $1 AND requested_at IS NOT NULL AND expires_at > $2";
    query.fetch_optional(sql, values![organization, now]).await?.map_or(Ok(0), |row| row.int("n"))
}

/// Whether it is a question whose identity at this issuer is that of an account which is not linked there: one that a
/// member's sign-in has left to the admins or that they have opened by unlinking him, at whichever issuer, and that no link
/// has answered yet; that his membership's end has opened; or his own identity at another issuer, from before the provider
/// was changed (ADR 0036).
pub async fn is_in_question(
    query: &mut impl Query,
    connection: ConnectionId,
    issuer: &str,
    account: AccountId,
) -> Result<bool, StoreError> {
    let sql = "SELECT issuer FROM link_question WHERE connection_id = $1 AND account_id = $2 \
               UNION ALL \
               SELECT issuer FROM identity WHERE connection_id = $1 AND account_id = $2 AND issuer <> $3 \
               UNION ALL SELECT c.id FROM former_member f \
               JOIN connection c ON c.organization_id = f.organization_id WHERE c.id = $1 AND f.account_id = $2";
    Ok(query.fetch_optional(sql, values![connection, account, issuer]).await?.is_some())
}

impl Transaction {
    /// Holds what a trip has found. It takes the place of what was held for the account and connection before, a
    /// request included: the newest trip says whom the person means. Of a member's sign-in the question is kept longer
    /// than the answer is waited for (`is_in_question`).
    pub async fn hold_identity(&mut self, held: &HeldIdentity) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM held_identity WHERE connection_id = $1 AND account_id = $2",
            values![held.connection, held.account],
        )
        .await?;
        self.execute(
            "INSERT INTO held_identity (handle_hash, organization_id, connection_id, revision, purpose, account_id, \
             session_id, issuer, subject, sub, email, display_name, is_guest, email_unverified, next, created_at, \
             requested_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, NULL, $17)",
            values![
                held.handle,
                held.organization,
                held.connection,
                held.revision,
                held.purpose.as_str(),
                held.account,
                held.session.map(|id| id.to_string()),
                &held.identity.issuer,
                &held.identity.subject,
                &held.identity.sub,
                held.identity.email.clone(),
                held.identity.display_name.clone(),
                held.doubts.guest,
                held.doubts.email_unverified,
                &held.next,
                held.created_at,
                held.created_at.plus(HELD_LIFETIME),
            ],
        )
        .await?;
        if held.purpose == Purpose::SignIn {
            self.put_link_question(held.connection, &held.identity.issuer, held.account, held.created_at)
                .await?;
        }
        Ok(())
    }

    /// Notes that it is a question whose identity is the account's, until it is linked.
    pub async fn put_link_question(
        &mut self,
        connection: ConnectionId,
        issuer: &str,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO link_question (connection_id, account_id, issuer, asked_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (connection_id, account_id, issuer) DO UPDATE SET asked_at = $4",
            values![connection, account, issuer, now],
        )
        .await?;
        Ok(())
    }

    /// Takes what is held for this browser session under this handle: once. Anything else takes nothing.
    pub async fn take_held(
        &mut self,
        organization: OrganizationId,
        handle: TokenHash,
        session: SessionId,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Option<HeldIdentity>, StoreError> {
        let Some(held) = load_held(self, organization, handle, session, purpose, now).await? else {
            return Ok(None);
        };
        // The deleting statement decides: of two at once, one has taken it.
        Ok(self.delete_held(organization, handle).await?.then_some(held))
    }

    /// Turns what is held into a request to the admins, which outlives the browser session. Whether it was there.
    pub async fn request_link(
        &mut self,
        organization: OrganizationId,
        handle: TokenHash,
        session: SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE held_identity SET requested_at = $4, expires_at = $5, session_id = NULL \
                   WHERE handle_hash = $1 AND organization_id = $2 AND session_id = $3 AND purpose = 'sign_in' \
                   AND requested_at IS NULL AND expires_at > $4";
        let v = values![handle, organization, session, now, now.plus(REQUEST_LIFETIME)];
        Ok(self.execute(sql, v).await? > 0)
    }

    /// Deletes what is held under a handle. Whether it was there.
    pub async fn delete_held(
        &mut self,
        organization: OrganizationId,
        handle: TokenHash,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM held_identity WHERE handle_hash = $1 AND organization_id = $2";
        Ok(self.execute(sql, values![handle, organization]).await? > 0)
    }

    /// Deletes what is held for an account in an organization: it was removed, or is linked.
    pub async fn delete_held_of(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM held_identity WHERE account_id = $2 AND organization_id = $1";
        self.execute(sql, values![organization, account]).await?;
        Ok(())
    }

    /// Deletes everything held in an organization: another provider is live, or none.
    pub(super) async fn delete_held_of_organization(
        &mut self,
        organization: OrganizationId,
    ) -> Result<(), StoreError> {
        self.execute("DELETE FROM held_identity WHERE organization_id = $1", values![organization]).await?;
        Ok(())
    }
}
