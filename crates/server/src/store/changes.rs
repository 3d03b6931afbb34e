//! What has changed, told to every node in the order of commits (rule 16).
//!
//! The last statement of a transaction takes the next number of `change_counter`; its row lock makes the numbers come
//! in commit order, which a sequence would not. Each node reads the new rows at least every 500 ms.

use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::time::{Lifetime, Timestamp};

use super::audit_log::log_checkpoints;
use super::database::{Query as _, Reader, StoreError};
use super::{Store, Transaction};
use crate::values;

/// How long rows of changes are kept: far longer than any node trusts what it has not refreshed.
const KEPT: Lifetime = Lifetime::from_minutes(10);

/// One thing that is no longer as a node may remember it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Change {
    /// The account, its memberships, its sessions or their SSO.
    Account(AccountId),
    /// The organization of this name (in lower case), its plan, its time-out or its connection.
    Organization(String),
    /// Whether one resource is public.
    Resource {
        /// The organization.
        organization: OrganizationId,
        /// The literal prefix of the pattern.
        prefix: String,
        /// The resource's name in lower case.
        name_key: String,
    },
}

impl Change {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Organization(_) => "organization",
            Self::Resource { .. } => "resource",
        }
    }

    fn item(&self) -> String {
        match self {
            Self::Account(id) => id.to_string(),
            Self::Organization(key) => key.clone(),
            // Segments hold no blank, so it parts the three.
            Self::Resource { organization, prefix, name_key } => {
                format!("{organization} {prefix} {name_key}")
            }
        }
    }

    fn read(kind: &str, item: &str) -> Option<Self> {
        match kind {
            "account" => item.parse().ok().map(Self::Account),
            "organization" => Some(Self::Organization(item.to_owned())),
            "resource" => {
                let mut parts = item.splitn(3, ' ');
                Some(Self::Resource {
                    organization: parts.next()?.parse().ok()?,
                    prefix: parts.next()?.to_owned(),
                    name_key: parts.next()?.to_owned(),
                })
            }
            _ => None,
        }
    }
}

fn empty_counter() -> StoreError {
    StoreError::Corrupt("change_counter is empty".to_owned())
}

impl Transaction {
    /// Makes everything true at once: the writes, their audit events, and the word to other nodes. This node's own
    /// cache has forgotten what changed when this returns.
    pub async fn commit(mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.changes.is_empty() {
            self.inner.commit().await?;
            log_checkpoints(&self.checkpoints);
            return Ok(());
        }
        let sql = "UPDATE change_counter SET n = n + 1 WHERE id = 1 RETURNING n";
        let n = self.inner.fetch_optional(sql, Vec::new()).await?;
        let n = n.ok_or_else(empty_counter)?.int("n")?;
        let rows = self.changes.iter().flat_map(|change| values![n, change.kind(), change.item(), now]);
        let rows = rows.collect();
        self.inner.insert_rows("INSERT INTO change (n, kind, item, at) VALUES ", 4, rows).await?;
        self.inner.commit().await?;
        self.facts.forget_own(n, self.changes);
        log_checkpoints(&self.checkpoints);
        Ok(())
    }
}

impl Store {
    /// Reads what changed since the last reading and makes the cache forget it. Called at least every 500 ms; each
    /// success renews the lease under which the cache is trusted. `now` is the time before the reading.
    pub async fn read_changes(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut reader = Reader::uncounted(self.database.clone());
        let Some(seen) = self.facts.read_up_to() else {
            // The first reading: nothing is remembered yet, so only where to go on from counts.
            let row = reader.fetch_optional("SELECT n FROM change_counter WHERE id = 1", Vec::new()).await?;
            self.facts.begin_at(row.ok_or_else(empty_counter)?.int("n")?, now);
            return Ok(());
        };
        // One statement, so that counter and rows are of one moment: every number up to the counter is among the rows,
        // or its word is lost (deleted while this node slept, cut by the limit, or the database is an older copy).
        let rows = reader
            .fetch_all(
                "SELECT u.n AS newest, c.n, c.kind, c.item FROM change_counter u LEFT JOIN change c ON c.n > $1 \
                 WHERE u.id = 1 ORDER BY c.n LIMIT 10000",
                values![seen],
            )
            .await?;
        let newest = rows.first().ok_or_else(empty_counter)?.int("newest")?;
        let mut last = seen;
        let mut all_heard = rows.len() < 10_000;
        for row in &rows {
            let Some(n) = row.opt_int("n")? else { break };
            all_heard &= n - last <= 1;
            last = n;
            match Change::read(&row.text("kind")?, &row.text("item")?) {
                Some(change) => self.facts.forget(n, change),
                // A newer binary's word: what it means is unknown, so nothing is trusted.
                None => all_heard = false,
            }
        }
        if all_heard && last == newest {
            self.facts.read_until(newest, now);
        } else {
            self.facts.begin_at(newest, now);
        }
        Ok(())
    }

    /// Reads changes for as long as the process lives, every `every`, and keeps the lease. Ends when `stop` says so.
    pub async fn follow_changes(
        self,
        clock: crate::clock::Clock,
        every: std::time::Duration,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut healthy = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.changed() => return,
            }
            match self.read_changes(clock.now()).await {
                Ok(()) => healthy = true,
                Err(error) if healthy => {
                    healthy = false;
                    tracing::error!(%error, "changes can't be read; the gate asks the database itself");
                }
                Err(_) => {}
            }
        }
    }

    /// Deletes rows of changes that every node has read long ago.
    pub(super) async fn delete_old_changes(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("DELETE FROM change WHERE at < $1", values![now.minus(KEPT)]).await?;
        tx.commit(now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_the_store() {
        let organization = OrganizationId::new(1, [7; 10]);
        for change in [
            Change::Account(AccountId::new(1, [1; 10])),
            Change::Organization("acme".to_owned()),
            Change::Resource { organization, prefix: String::new(), name_key: "x".to_owned() },
            Change::Resource { organization, prefix: "datasets".to_owned(), name_key: "x".to_owned() },
        ] {
            assert_eq!(Change::read(change.kind(), &change.item()), Some(change));
        }
    }
}
