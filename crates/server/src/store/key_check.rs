//! Which master keys seal this store's secrets (conformance.md F24).
//!
//! A row for each key that something may be sealed with: one, or two while a rotation is under way.

use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;

use super::audit_log::{Actor, AuditEntry};
use super::database::{Query, StoreError};
use super::{Store, Transaction};
use crate::sealing::{Place, Sealing, SealingError};
use crate::values;

/// The text that is sealed: what counts is that it opens.
const PROOF: &str = "doorward";

fn place(key_id: &str) -> Place<'_> {
    Place { table: "key_check", column: "sealed", row: key_id }
}

/// A master key that something in the store may be sealed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownKey {
    /// Its id.
    pub id: String,
    /// When the store first met it; 1970 where an older version wrote it.
    pub since: Timestamp,
}

/// The master keys that seal this store, the newest last; none before the first start.
pub async fn load_known_keys(query: &mut impl Query) -> Result<Vec<KnownKey>, StoreError> {
    let sql = "SELECT key_id, created_at FROM key_check ORDER BY created_at, key_id";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    rows.iter().map(|row| Ok(KnownKey { id: row.text("key_id")?, since: row.time("created_at")? })).collect()
}

/// Whether `sealing` has every key that seals this store. Refused with the ids if not.
pub async fn keys_fit(query: &mut impl Query, sealing: &Sealing) -> Result<(), StoreError> {
    for row in query.fetch_all("SELECT key_id, sealed FROM key_check ORDER BY key_id", Vec::new()).await? {
        let key_id = row.text("key_id")?;
        let proof = sealing.open_sealed(place(&key_id), &row.text("sealed")?)?;
        if proof.expose() != PROOF {
            return Err(StoreError::Sealing(SealingError::DoesNotOpen));
        }
    }
    Ok(())
}

impl Store {
    /// Whether `sealing` has every key that seals this store. The first key ever given is taken as the right one.
    pub async fn check_key(&self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        keys_fit(&mut self.reader(), sealing).await?;
        if load_known_keys(&mut self.reader()).await?.is_empty() {
            let mut tx = self.begin().await?;
            tx.insert_key(sealing, now).await?;
            tx.commit(now).await?;
        }
        Ok(())
    }

    /// Notes a newer key beside those that fit: a rotation was interrupted before it could.
    pub async fn note_newer_key(&self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        let newest = sealing.key_id();
        if load_known_keys(&mut self.reader()).await?.iter().any(|known| known.id == newest) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        if tx.insert_key(sealing, now).await? {
            let entry = AuditEntry {
                organization: None,
                action: AuditAction::KeyRotate,
                actor: Actor::System,
                details: vec![("key", newest)],
                address: None,
                request_id: None,
            };
            tx.audit(entry, now).await?;
        }
        tx.commit(now).await
    }
}

impl Transaction {
    /// Notes the newest key of `sealing`, before anything is sealed anew with it. Whether it was new.
    pub async fn insert_key(&mut self, sealing: &Sealing, now: Timestamp) -> Result<bool, StoreError> {
        let key_id = sealing.key_id();
        let sealed = sealing.seal(place(&key_id), &Secret::new(PROOF.to_owned()))?;
        let sql = "INSERT INTO key_check (key_id, sealed, created_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (key_id) DO NOTHING";
        Ok(self.execute(sql, values![key_id, sealed, now]).await? > 0)
    }

    /// Forgets every key but the newest of `sealing`: nothing is sealed with them. How many.
    pub async fn forget_old_keys(&mut self, sealing: &Sealing) -> Result<u64, StoreError> {
        self.execute("DELETE FROM key_check WHERE key_id <> $1", values![sealing.key_id()]).await
    }
}
