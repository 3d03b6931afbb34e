//! Deletes what is over, by index, in small batches (decisions.md).

use doorward_core::time::Timestamp;

use super::access_tokens::EXPIRED_KEPT;
use super::attempts::SPENT_KEPT;
use super::database::StoreError;
use super::invitations::ENDED_KEPT;
use super::sessions::SESSION_IDLE;
use super::{Store, Transaction};
use crate::values;

const BATCH: i64 = 500;

impl Store {
    /// One round: at most a batch of each kind, so that writers wait for milliseconds only. How many rows went.
    pub async fn clean_up(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        let over: [(&'static str, Timestamp); 9] = [
            (
                "DELETE FROM attempt WHERE state_hash IN \
                 (SELECT state_hash FROM attempt WHERE expires_at < $1 LIMIT $2)",
                // An expired attempt is kept a while, to say that it expired.
                now.minus(SPENT_KEPT),
            ),
            (
                "DELETE FROM spent_attempt WHERE state_hash IN \
                 (SELECT state_hash FROM spent_attempt WHERE spent_at < $1 LIMIT $2)",
                now.minus(SPENT_KEPT),
            ),
            (
                "DELETE FROM ticket WHERE ticket_hash IN (SELECT ticket_hash FROM ticket WHERE expires_at < $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM held_identity WHERE handle_hash IN \
                 (SELECT handle_hash FROM held_identity WHERE expires_at < $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM recovery WHERE session_id IN \
                 (SELECT session_id FROM recovery WHERE expires_at < $1 LIMIT $2) AND expires_at < $1",
                now,
            ),
            (
                "DELETE FROM browser_session WHERE id IN \
                 (SELECT id FROM browser_session WHERE last_seen_at < $1 LIMIT $2)",
                now.minus(SESSION_IDLE),
            ),
            (
                "DELETE FROM invitation WHERE id IN (SELECT id FROM invitation WHERE expires_at < $1 LIMIT $2)",
                now.minus(ENDED_KEPT),
            ),
            (
                "DELETE FROM api_token WHERE id IN (SELECT id FROM api_token WHERE expires_at < $1 LIMIT $2)",
                now.minus(ENDED_KEPT),
            ),
            (
                "DELETE FROM access_token WHERE id IN \
                 (SELECT id FROM access_token WHERE expires_at < $1 LIMIT $2)",
                now.minus(EXPIRED_KEPT),
            ),
        ];
        for (sql, before) in over {
            let mut tx = self.begin().await?;
            gone += Transaction::execute(&mut tx, sql, values![before, BATCH]).await?;
            tx.commit(now).await?;
        }
        let mut tx = self.begin().await?;
        gone += tx.report_sign_in_failures(BATCH, now).await?;
        tx.commit(now).await?;
        gone += self.report_counted_events(BATCH, now).await?;
        self.delete_old_changes(now).await?;
        Ok(gone)
    }
}
