//! Recovery codes of an organization, and what a used one has opened (architecture.md rule 12).
//!
//! Codes are kept as hashes, each is good once, and making new ones leaves nothing of the old.

use doorward_core::ids::{OrganizationId, SessionId};
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::Transaction;
use super::database::{Query, StoreError};
use crate::values;

/// A used code opens rule 12's actions for this long (decisions.md).
pub const RECOVERY_LIFETIME: Lifetime = Lifetime::from_minutes(60);

/// How many unused codes an organization has, and how many were made; nothing where none were ever made.
pub async fn count_recovery_codes(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n, CAST(COUNT(used_at) AS BIGINT) AS used FROM recovery_code \
               WHERE organization_id = $1";
    let Some(row) = query.fetch_optional(sql, values![organization]).await? else { return Ok(None) };
    let (made, used) = (row.int("n")?, row.int("used")?);
    Ok((made > 0).then_some((made - used, made)))
}

/// Until when a recovery code holds in this browser session; nothing where it holds no more.
pub async fn load_recovery(
    query: &mut impl Query,
    organization: OrganizationId,
    session: SessionId,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let sql =
        "SELECT expires_at FROM recovery WHERE session_id = $1 AND organization_id = $2 AND expires_at > $3";
    let row = query.fetch_optional(sql, values![session, organization, now]).await?;
    row.map(|row| row.time("expires_at")).transpose()
}

impl Transaction {
    /// Gives an organization these codes, numbered from 1, and voids all that it had. What older codes have opened in
    /// other browser sessions than `keep` is closed.
    pub async fn replace_recovery_codes(
        &mut self,
        organization: OrganizationId,
        codes: &[TokenHash],
        keep: Option<SessionId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute("DELETE FROM recovery_code WHERE organization_id = $1", values![organization]).await?;
        self.execute(
            "DELETE FROM recovery WHERE organization_id = $1 AND session_id <> $2",
            values![organization, keep.map_or_else(String::new, |id| id.to_string())],
        )
        .await?;
        for (number, code) in (1_i64..).zip(codes) {
            self.execute(
                "INSERT INTO recovery_code (organization_id, number, code_hash, created_at) VALUES ($1, $2, $3, $4)",
                values![organization, number, *code, now],
            )
            .await?;
        }
        Ok(())
    }

    /// Uses a code, once: its number, if the organization has it and it was not used.
    pub async fn use_recovery_code(
        &mut self,
        organization: OrganizationId,
        code: TokenHash,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let sql = "UPDATE recovery_code SET used_at = $3 WHERE organization_id = $1 AND code_hash = $2 \
                   AND used_at IS NULL RETURNING number";
        let row = self.fetch_optional(sql, values![organization, code, now]).await?;
        row.map(|row| row.int("number")).transpose()
    }

    /// Opens rule 12's actions of an organization in a browser session.
    pub async fn put_recovery(
        &mut self,
        organization: OrganizationId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO recovery (session_id, organization_id, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (session_id, organization_id) DO UPDATE SET expires_at = $3",
            values![session, organization, now.plus(RECOVERY_LIFETIME)],
        )
        .await?;
        Ok(())
    }
}
