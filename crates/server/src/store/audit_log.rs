//! The audit log: appended to in the transaction of the deed, never changed (rule 8).
//!
//! Sequences are gap-free within a scope (an organization, or the system), because the number is taken under a row
//! lock in the same transaction.

use doorward_core::audit_event::AuditAction;
use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::time::Timestamp;
use serde_json::{Map, Value as Json};
use std::net::IpAddr;

use super::database::{Query, Row, StoreError};
use super::{Reader, Transaction};
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
}

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
    organization.map_or_else(|| "system".to_owned(), |id| id.to_string())
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

impl Transaction {
    /// Appends an event; it becomes true with the rest of the transaction.
    pub async fn audit(&mut self, entry: AuditEntry, now: Timestamp) -> Result<i64, StoreError> {
        let scope = scope(entry.organization);
        let sql = "INSERT INTO audit_sequence (scope, n) VALUES ($1, 1) \
                   ON CONFLICT (scope) DO UPDATE SET n = audit_sequence.n + 1 RETURNING n";
        let row = self.fetch_optional(sql, values![&scope]).await?;
        let sequence = row.ok_or_else(|| StoreError::Corrupt("audit_sequence".to_owned()))?.int("n")?;
        let (kind, id, name) = match entry.actor {
            Actor::Account(id, name) => ("account", Some(id.to_string()), name),
            Actor::Operator(name) => ("operator", None, name),
            Actor::System => ("system", None, "doorward".to_owned()),
        };
        let details: Map<String, Json> =
            entry.details.into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect();
        self.execute(
            "INSERT INTO audit_event (scope, sequence, at, action, actor_kind, actor_id, actor_name, details, address, \
             request_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            values![
                scope,
                sequence,
                now,
                entry.action.as_str(),
                kind,
                id,
                name,
                Json::Object(details).to_string(),
                entry.address.map(anonymised),
                entry.request_id,
            ],
        )
        .await?;
        Ok(sequence)
    }
}

impl Reader {
    /// A page of an organization's events, newest first, before the number `before` (all of them: `i64::MAX`).
    /// `action` keeps events of one code; without it those hidden by default are left out. `limit` at most 500.
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
            let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id \
                           FROM audit_event WHERE scope = $1 AND action = $2 AND sequence < $3 \
                           ORDER BY sequence DESC LIMIT $4";
            self.fetch_all(sql, values![scope, action, before, limit]).await?
        } else {
            let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id \
                           FROM audit_event WHERE scope = $1 AND sequence < $2 AND action <> $3 \
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
        let sql = "SELECT sequence, at, action, actor_kind, actor_id, actor_name, details, address, request_id \
                   FROM audit_event WHERE scope = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
        let rows =
            self.fetch_all(sql, values![scope(Some(organization)), after, limit.clamp(1, 1000)]).await?;
        rows.iter().map(record).collect()
    }
}

fn record(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        sequence: row.int("sequence")?,
        at: row.time("at")?,
        action: row.text("action")?,
        actor_kind: row.text("actor_kind")?,
        actor_id: row.opt_text("actor_id")?,
        actor_name: row.text("actor_name")?,
        details: row.known("details", |text| serde_json::from_str(text).ok())?,
        address: row.opt_text("address")?,
        request_id: row.opt_text("request_id")?,
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
