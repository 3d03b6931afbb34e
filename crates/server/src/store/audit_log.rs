//! The audit log: appended to in the transaction of the deed, never changed (rule 8).
//!
//! Sequences are gap-free within a scope (an organization, or the system), because the number is taken under a row
//! lock in the same transaction. The same row holds the hash that the next event's hash goes on from (ADR 0021).

use doorward_core::audit_event::AuditAction;
use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::time::Timestamp;
use serde_json::{Map, Value as Json};
use std::net::IpAddr;

use super::database::{Query, Row, StoreError};
use super::{Reader, Transaction};
use crate::audit_chain::{Checkpoint, checkpoint_is_due, event_hash};
use crate::values;

/// Who did it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Actor {
    /// An account, with its name at that time.
    Account(AccountId, String),
    /// The operator at the command line, with the system user's name.
    Operator(String),
    /// Doorward itself.
    System,
}

/// One event to be appended.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The organization it concerns; `None` for the system's own log.
    pub organization: Option<OrganizationId>,
    /// What was done.
    pub action: AuditAction,
    /// Who did it.
    pub actor: Actor,
    /// Named details; never a secret.
    pub details: Vec<(&'static str, String)>,
    /// The client's address; anonymised before it is kept.
    pub address: Option<IpAddr>,
    /// The request that did it.
    pub request_id: Option<String>,
}

/// One event as kept.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Its number within the organization, from 1, without gaps.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// The action's code; a code of a newer version is kept as it is.
    pub action: String,
    /// `account`, `operator` or `system`.
    pub actor_kind: String,
    /// The account's id.
    pub actor_id: Option<String>,
    /// The actor's name at that time.
    pub actor_name: String,
    /// Named details.
    pub details: Map<String, Json>,
    /// The client's anonymised address.
    pub address: Option<String>,
    /// The request that did it.
    pub request_id: Option<String>,
    /// SHA-256 over all this, the scope and the hash before; `None` from before there was a chain.
    pub hash: Option<String>,
    /// The keyed code over the hash.
    pub mac: Option<String>,
}

/// Where a scope's log stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditSequence {
    /// The number of the newest event.
    pub count: i64,
    /// Its hash.
    pub hash: Option<String>,
}

/// The scope of what concerns no organization.
pub const SYSTEM_SCOPE: &str = "system";

/// The network of an address: /24 of IPv4, /48 of IPv6 (hub-sso.md A1).
fn anonymised(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

fn scope(organization: Option<OrganizationId>) -> String {
    organization.map_or_else(|| SYSTEM_SCOPE.to_owned(), |id| id.to_string())
}

/// The number of an organization's newest event: how many there are, because there are no gaps.
pub async fn count_audit_events(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<i64, StoreError> {
    let sql = "SELECT n FROM audit_sequence WHERE scope = $1";
    let row = query.fetch_optional(sql, values![scope(Some(organization))]).await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// Where a scope's log stands: an organization's id, or `SYSTEM_SCOPE`.
pub async fn load_audit_sequence(
    query: &mut impl Query,
    scope: &str,
) -> Result<Option<AuditSequence>, StoreError> {
    let sql = "SELECT n, hash FROM audit_sequence WHERE scope = $1";
    let row = query.fetch_optional(sql, values![scope]).await?;
    row.map(|row| Ok(AuditSequence { count: row.int("n")?, hash: row.opt_text("hash")? })).transpose()
}

/// The next scope after `after`, in the order of their names, of all that anything names: organizations that live or
/// lived, events, counts, checkpoints. So a log of which only a trace is left is not overlooked.
pub(super) async fn next_scope(query: &mut impl Query, after: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT MIN(scope) AS scope FROM audit_sequence WHERE scope > $1 \
               UNION ALL SELECT MIN(scope) FROM audit_event WHERE scope > $1 \
               UNION ALL SELECT MIN(scope) FROM audit_checkpoint WHERE scope > $1 \
               UNION ALL SELECT MIN(id) FROM organization WHERE id > $1 \
               UNION ALL SELECT MIN(owner_id) FROM name WHERE owner_id > $1 AND kind = 'organization'";
    let rows = query.fetch_all(sql, values![after]).await?;
    let named = rows.iter().map(|row| row.opt_text("scope")).collect::<Result<Vec<_>, _>>()?;
    Ok(named.into_iter().flatten().min())
}

/// Tells the log of what was signed: where the log is kept elsewhere, so is the checkpoint.
pub(super) fn log_checkpoints(checkpoints: &[Checkpoint]) {
    for checkpoint in checkpoints {
        tracing::info!(
            scope = checkpoint.scope,
            sequence = checkpoint.sequence,
            at_ms = checkpoint.at.millis(),
            hash = checkpoint.hash,
            key = checkpoint.key_id,
            signature = checkpoint.signature,
            "a checkpoint of the audit log"
        );
    }
}

impl Transaction {
    /// Appends an event; it becomes true with the rest of the transaction.
    pub async fn audit(&mut self, entry: AuditEntry, now: Timestamp) -> Result<i64, StoreError> {
        self.append(&scope(entry.organization), entry, now).await
    }

    pub(super) async fn append(
        &mut self,
        scope: &str,
        entry: AuditEntry,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        // The row's lock also makes the hash the newest one: PostgreSQL answers with the row as it is after the wait.
        let sql = "INSERT INTO audit_sequence (scope, n) VALUES ($1, 1) \
                   ON CONFLICT (scope) DO UPDATE SET n = audit_sequence.n + 1 RETURNING n, hash, checkpoint_at";
        let row = self.fetch_optional(sql, values![scope]).await?;
        let row = row.ok_or_else(|| StoreError::Corrupt("audit_sequence".to_owned()))?;
        let (sequence, previous) = (row.int("n")?, row.opt_text("hash")?);
        let mut checkpoint_at = row.time("checkpoint_at")?;

        let mut event = record_of(entry, sequence, now);
        let hash = event_hash(scope, &event, previous.as_deref());
        let is_checkpoint = checkpoint_is_due(sequence, now, checkpoint_at);
        if is_checkpoint {
            checkpoint_at = now;
        }
        // Under the row's lock, so a key that took this one's place before is seen: no event that comes after the word
        // of a lost key carries a code of it.
        let sql = "UPDATE audit_sequence SET hash = $2, checkpoint_at = $3 WHERE scope = $1 RETURNING \
                   (SELECT id FROM audit_key ORDER BY created_at DESC, id LIMIT 1) AS key_id";
        let row = self.fetch_optional(sql, values![scope, &hash, checkpoint_at]).await?;
        let newest = row.map(|row| row.opt_text("key_id")).transpose()?.flatten();
        let keys = self.audit_keys_at(newest.as_deref()).await?;
        event.mac = Some(keys.mac(&hash));
        if is_checkpoint {
            self.insert_checkpoint(keys.sign(scope, sequence, &hash, now)).await?;
        }
        self.execute(
            "INSERT INTO audit_event (scope, sequence, at, action, actor_kind, actor_id, actor_name, details, address, \
             request_id, hash, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            values![
                scope,
                sequence,
                event.at,
                event.action,
                event.actor_kind,
                event.actor_id,
                event.actor_name,
                Json::Object(event.details).to_string(),
                event.address,
                event.request_id,
                hash,
                event.mac,
            ],
        )
        .await?;
        Ok(sequence)
    }

    async fn insert_checkpoint(&mut self, signed: Checkpoint) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO audit_checkpoint (scope, sequence, at, hash, key_id, signature) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope, sequence) DO NOTHING",
            values![
                &signed.scope,
                signed.sequence,
                signed.at,
                &signed.hash,
                &signed.key_id,
                &signed.signature
            ],
        )
        .await?;
        self.checkpoints.push(signed);
        Ok(())
    }
}

/// An event as it is kept, before it has a hash.
fn record_of(entry: AuditEntry, sequence: i64, now: Timestamp) -> AuditRecord {
    let (kind, id, name) = match entry.actor {
        Actor::Account(id, name) => ("account", Some(id.to_string()), name),
        Actor::Operator(name) => ("operator", None, name),
        Actor::System => ("system", None, "doorward".to_owned()),
    };
    AuditRecord {
        sequence,
        at: now,
        action: entry.action.as_str().to_owned(),
        actor_kind: kind.to_owned(),
        actor_id: id,
        actor_name: name,
        details: entry
            .details
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Json::String(value)))
            .collect(),
        address: entry.address.map(anonymised),
        request_id: entry.request_id,
        hash: None,
        mac: None,
    }
}

impl Reader {
    /// A page of an organization's events, newest first, before the number `before` (all of them: `i64::MAX`). Numbers
    /// begin with 1: what somebody put before that is none of them. `action` keeps events of one code; without it those
    /// hidden by default are left out. `limit` at most 500.
    pub async fn audit_page(
        &mut self,
        organization: OrganizationId,
        action: Option<&str>,
        before: i64,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let limit = limit.clamp(1, 500);
        let scope = scope(Some(organization));
        let columns = if let Some(action) = action {
            let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id, \
                           hash, mac \
                           FROM audit_event WHERE scope = $1 AND action = $2 AND sequence > 0 AND sequence < $3 \
                           ORDER BY sequence DESC LIMIT $4";
            self.fetch_all(sql, values![scope, action, before, limit]).await?
        } else {
            let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id, \
                           hash, mac \
                           FROM audit_event WHERE scope = $1 AND sequence > 0 AND sequence < $2 AND action <> $3 \
                           ORDER BY sequence DESC LIMIT $4";
            let hidden = AuditAction::OrgAuditLogExport.as_str();
            self.fetch_all(sql, values![scope, before, hidden, limit]).await?
        };
        columns.iter().map(record).collect()
    }

    /// Events in their order, after the number `after`: for the export, page by page. `limit` at most 1000.
    pub async fn audit_after(
        &mut self,
        organization: OrganizationId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.audit_of_scope_after(&scope(Some(organization)), after, limit).await
    }

    /// The same by scope: an organization's id, or `SYSTEM_SCOPE`. For whoever checks all logs.
    pub async fn audit_of_scope_after(
        &mut self,
        scope: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        events_after(self, scope, after, limit).await
    }

    /// The lowest number of a row that stands before a scope's first event, where only somebody else can have put it.
    pub async fn audit_before_the_first(&mut self, scope: &str) -> Result<Option<i64>, StoreError> {
        let sql =
            "SELECT CAST(MIN(sequence) AS BIGINT) AS n FROM audit_event WHERE scope = $1 AND sequence < 1";
        let row = self.fetch_optional(sql, values![scope]).await?;
        row.map_or(Ok(None), |row| row.opt_int("n"))
    }

    /// The next scope after `after` that has a log or should have one, in the order of their names.
    pub async fn next_audit_scope(&mut self, after: &str) -> Result<Option<String>, StoreError> {
        next_scope(self, after).await
    }

    /// A scope's checkpoints in their order, after the number `after`. `limit` at most 1000.
    pub async fn checkpoints_after(
        &mut self,
        scope: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let sql = "SELECT scope, sequence, at, hash, key_id, signature FROM audit_checkpoint \
                   WHERE scope = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
        let rows = self.fetch_all(sql, values![scope, after, limit.clamp(1, 1000)]).await?;
        rows.iter().map(checkpoint).collect()
    }
}

/// A scope's events in their order, after the number `after`. `limit` at most 1000.
pub(super) async fn events_after(
    query: &mut impl Query,
    scope: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<AuditRecord>, StoreError> {
    let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id, hash, mac \
               FROM audit_event WHERE scope = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
    let rows = query.fetch_all(sql, values![scope, after, limit.clamp(1, 1000)]).await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<AuditRecord, StoreError> {
    let details = row.text("details")?;
    Ok(AuditRecord {
        sequence: row.int("sequence")?,
        at: row.time("at")?,
        action: row.text("action")?,
        actor_kind: row.text("actor_kind")?,
        actor_id: row.opt_text("actor_id")?,
        actor_name: row.text("actor_name")?,
        // What somebody spoiled is shown as it is: the hash tells that it was changed.
        details: serde_json::from_str(&details)
            .unwrap_or_else(|_| Map::from_iter([("unreadable".to_owned(), Json::String(details))])),
        address: row.opt_text("address")?,
        request_id: row.opt_text("request_id")?,
        hash: row.opt_text("hash")?,
        mac: row.opt_text("mac")?,
    })
}

fn checkpoint(row: &Row) -> Result<Checkpoint, StoreError> {
    Ok(Checkpoint {
        scope: row.text("scope")?,
        sequence: row.int("sequence")?,
        at: row.time("at")?,
        hash: row.text("hash")?,
        key_id: row.text("key_id")?,
        signature: row.text("signature")?,
    })
}

#[cfg(test)]
mod tests {
    use super::anonymised;

    #[test]
    fn a1_an_address_is_kept_as_its_network() {
        assert_eq!(anonymised("192.0.2.77".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(anonymised("::ffff:192.0.2.77".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(anonymised("2001:db8:1:2::3".parse().unwrap()), "2001:db8:1::/48");
    }
}
