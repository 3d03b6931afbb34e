//! How often single sign-on failed, by organization, account and hour (ADR 0046).
//!
//! In: each trip that ended without a session, with what the log would say of it. Out: the first few of an hour as events,
//! and one event that tells how many came after them. Never here: why a trip failed (`sso/callback.rs`).
//! Invariant: no failure is lost, and no account adds more than `TOLD_MAX` events and one to a log in an hour.

use doorward_core::audit_event::AuditAction;
use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::time::{Lifetime, Timestamp};

use super::accounts::load_name;
use super::audit_log::{Actor, AuditEntry};
use super::database::{Query, StoreError};
use super::{Store, Transaction};
use crate::values;

/// For how long failures are counted together.
const COUNTED: Lifetime = Lifetime::from_hours(1);
/// So many of them are events of their own: an admin who helps sees each cause.
const TOLD_MAX: i64 = 5;

impl Store {
    /// Tells what was counted in hours that are over, of at most `limit` accounts; how many those were. Each in a
    /// transaction of its own, so that no log is locked while another row is waited for.
    pub(super) async fn report_sso_failures(&self, limit: i64, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT organization_id, account_id FROM sso_failure WHERE began_at <= $1 LIMIT $2";
        let due = self.reader().fetch_all(sql, values![now.minus(COUNTED), limit]).await?;
        for row in &due {
            let (organization, account) = (row.parsed("organization_id")?, row.parsed("account_id")?);
            let mut tx = self.begin().await?;
            tx.report_sso_failures_of_hours_that_are_over(organization, account, now).await?;
            tx.commit(now).await?;
        }
        Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
    }
}

impl Transaction {
    /// Notes a trip that ended without a session: as an event, or counted if there were enough of them in this hour.
    pub async fn note_sso_failure(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        entry: AuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.report_sso_failures_of_hours_that_are_over(organization, account, now).await?;
        let sql = "INSERT INTO sso_failure (organization_id, account_id, began_at, failures) VALUES ($1, $2, $3, 1) \
                   ON CONFLICT (organization_id, account_id) DO UPDATE SET failures = sso_failure.failures + 1 \
                   RETURNING failures";
        let row = self.fetch_optional(sql, values![organization, account, now]).await?;
        let failures = row.ok_or_else(|| StoreError::Corrupt("sso_failure".to_owned()))?.int("failures")?;
        if failures <= TOLD_MAX {
            self.audit(entry, now).await?;
        }
        Ok(())
    }

    async fn report_sso_failures_of_hours_that_are_over(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // An hour that has not begun yet was counted by a clock that ran ahead.
        let sql = "DELETE FROM sso_failure WHERE organization_id = $1 AND account_id = $2 \
                   AND (began_at <= $3 OR began_at > $4) RETURNING failures";
        let v = values![organization, account, now.minus(COUNTED), now];
        let Some(row) = self.fetch_optional(sql, v).await? else { return Ok(()) };
        if let Some(entry) = self.further_failures(organization, account, row.int("failures")?).await? {
            self.audit(entry, now).await?;
        }
        Ok(())
    }

    /// What was counted of an account, in all organizations, as entries that are still to be written: it ends.
    pub async fn take_sso_failures_of(&mut self, account: AccountId) -> Result<Vec<AuditEntry>, StoreError> {
        let sql = "DELETE FROM sso_failure WHERE account_id = $1 RETURNING organization_id, failures";
        let mut entries = Vec::new();
        for row in self.fetch_all(sql, values![account]).await? {
            let organization = row.parsed("organization_id")?;
            entries.extend(self.further_failures(organization, account, row.int("failures")?).await?);
        }
        Ok(entries)
    }

    /// What the log says of those that were counted and not told.
    async fn further_failures(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        failures: i64,
    ) -> Result<Option<AuditEntry>, StoreError> {
        let further = failures.saturating_sub(TOLD_MAX);
        if further <= 0 {
            return Ok(None);
        }
        let id = account.to_string();
        let name = load_name(self, &id).await?.unwrap_or(id);
        Ok(Some(AuditEntry {
            organization: Some(organization),
            action: AuditAction::OrgSsoLoginFailed,
            actor: Actor::System,
            details: vec![("account", name), ("count", further.to_string())],
            address: None,
            request_id: None,
        }))
    }
}
