//! Events that an account can bring about as often as it likes, counted by organization, account, action and hour
//! (ADR 0046): trips that failed, recovery codes that were refused, questions to the admins.
//!
//! In: each of them, with what the log would say. Out: the first few of an hour as events, and one event that tells how many
//! came after them. Never here: why a trip failed (`sso/callback.rs`).
//! Invariant: none is lost, and no account adds more than `TOLD_MAX` events of an action and one to a log in an hour.

use doorward_core::audit_event::AuditAction;
use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::time::{Lifetime, Timestamp};

use super::accounts::load_name;
use super::audit_log::{Actor, AuditEntry};
use super::database::{Query, Row, StoreError};
use super::{Store, Transaction};
use crate::values;

/// For how long they are counted together.
const COUNTED: Lifetime = Lifetime::from_hours(1);
/// So many of them are events of their own: an admin who helps sees each cause.
const TOLD_MAX: i64 = 5;

fn action(row: &Row) -> Result<AuditAction, StoreError> {
    row.known("action", AuditAction::from_code)
}

impl Store {
    /// Tells what was counted in hours that are over, of at most `limit` rows; how many those were. Each in a transaction of
    /// its own, so that no log is locked while another row is waited for.
    pub(super) async fn report_counted_events(&self, limit: i64, now: Timestamp) -> Result<u64, StoreError> {
        let sql =
            "SELECT organization_id, account_id, action FROM counted_event WHERE began_at <= $1 LIMIT $2";
        let due = self.reader().fetch_all(sql, values![now.minus(COUNTED), limit]).await?;
        for row in &due {
            let (organization, account) = (row.parsed("organization_id")?, row.parsed("account_id")?);
            let mut tx = self.begin().await?;
            tx.report_hours_that_are_over(organization, account, action(row)?, now).await?;
            tx.commit(now).await?;
        }
        Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
    }
}

impl Transaction {
    /// Appends what `account` has brought about at an organization; counts it instead if there were enough of its kind in
    /// this hour.
    pub async fn audit_or_count(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        entry: AuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.report_hours_that_are_over(organization, account, entry.action, now).await?;
        let sql = "INSERT INTO counted_event (organization_id, account_id, action, began_at, events) \
                   VALUES ($1, $2, $3, $4, 1) ON CONFLICT (organization_id, account_id, action) \
                   DO UPDATE SET events = counted_event.events + 1 RETURNING events";
        let v = values![organization, account, entry.action.as_str(), now];
        let row = self.fetch_optional(sql, v).await?;
        let events = row.ok_or_else(|| StoreError::Corrupt("counted_event".to_owned()))?.int("events")?;
        if events <= TOLD_MAX {
            self.audit(entry, now).await?;
        }
        Ok(())
    }

    async fn report_hours_that_are_over(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        action: AuditAction,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // An hour that has not begun yet was counted by a clock that ran ahead.
        let sql = "DELETE FROM counted_event WHERE organization_id = $1 AND account_id = $2 AND action = $3 \
                   AND (began_at <= $4 OR began_at > $5) RETURNING events";
        let v = values![organization, account, action.as_str(), now.minus(COUNTED), now];
        let Some(row) = self.fetch_optional(sql, v).await? else { return Ok(()) };
        if let Some(entry) = self.further_events(organization, account, action, row.int("events")?).await? {
            self.audit(entry, now).await?;
        }
        Ok(())
    }

    /// What was counted of an account, in all organizations, as entries that are still to be written: it ends.
    pub async fn take_counted_events_of(
        &mut self,
        account: AccountId,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let sql = "DELETE FROM counted_event WHERE account_id = $1 RETURNING organization_id, action, events";
        let mut entries = Vec::new();
        for row in self.fetch_all(sql, values![account]).await? {
            let organization = row.parsed("organization_id")?;
            entries
                .extend(self.further_events(organization, account, action(&row)?, row.int("events")?).await?);
        }
        Ok(entries)
    }

    /// What the log says of those that were counted and not told.
    async fn further_events(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        action: AuditAction,
        events: i64,
    ) -> Result<Option<AuditEntry>, StoreError> {
        let further = events.saturating_sub(TOLD_MAX);
        if further <= 0 {
            return Ok(None);
        }
        let id = account.to_string();
        let name = load_name(self, &id).await?.unwrap_or(id);
        Ok(Some(AuditEntry {
            organization: Some(organization),
            action,
            actor: Actor::System,
            details: vec![("account", name), ("count", further.to_string())],
            address: None,
            request_id: None,
        }))
    }
}
