//! Which master keys seal this store's secrets (conformance.md F24).
//!
//! A row for each key that ever sealed, numbered. One is in use, or two while a rotation is under way; the newest seals,
//! and those that were dropped are remembered, so that no older copy of the key file brings one back (docs/adr/0035).

use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;

use super::audit_log::{Actor, AuditEntry};
use super::database::{Query, Reader, Row, StoreError};
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

/// The master keys that something in this store may be sealed with, the newest last; none before the first start.
pub async fn load_known_keys(query: &mut impl Query) -> Result<Vec<KnownKey>, StoreError> {
    let sql = "SELECT key_id, created_at FROM key_check WHERE dropped_at IS NULL ORDER BY number";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    rows.iter().map(|row| Ok(KnownKey { id: row.text("key_id")?, since: row.time("created_at")? })).collect()
}

/// The ids of all master keys that this store ever had, those that were dropped too.
pub async fn load_every_key_id(query: &mut impl Query) -> Result<Vec<String>, StoreError> {
    let rows = query.fetch_all("SELECT key_id FROM key_check ORDER BY number", Vec::new()).await?;
    rows.iter().map(|row| row.text("key_id")).collect()
}

/// Whether `sealing` has every key that something in this store may be sealed with. Refused with the ids if not.
pub async fn keys_fit(query: &mut impl Query, sealing: &Sealing) -> Result<(), StoreError> {
    let sql = "SELECT key_id, sealed, dropped_at FROM key_check ORDER BY number DESC";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    let at_hand = sealing.key_ids();
    let mut is_newest = true;
    for row in &rows {
        if row.opt_int("dropped_at")?.is_some() {
            continue;
        }
        let key_id = row.text("key_id")?;
        let proof = match sealing.open_sealed(place(&key_id), &row.text("sealed")?) {
            // A file with keys of this store, but without its newest, is from before a rotation.
            Err(SealingError::OtherKey { .. }) if is_newest && knows_one_of(&rows, &at_hand)? => {
                return Err(sealing.older_copy(&key_id).into());
            }
            proof => proof?,
        };
        if proof.expose() != PROOF {
            return Err(StoreError::Sealing(SealingError::DoesNotOpen));
        }
        is_newest = false;
    }
    Ok(())
}

fn knows_one_of(rows: &[Row], keys: &[String]) -> Result<bool, StoreError> {
    for row in rows {
        if keys.contains(&row.text("key_id")?) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Store {
    /// Whether `sealing` has every key that seals this store, and the newest of them seals from now on. The first key
    /// ever given is taken as the right one.
    pub async fn check_key(&self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        keys_fit(&mut self.reader(), sealing).await?;
        if load_known_keys(&mut self.reader()).await?.is_empty() {
            let mut tx = self.begin().await?;
            tx.lock_keys().await?;
            if load_known_keys(&mut tx).await?.is_empty() {
                tx.insert_key(sealing, now).await?;
            }
            tx.commit(now).await?;
            // Another node's first start may have been a moment earlier: then its key is the right one.
            keys_fit(&mut self.reader(), sealing).await?;
        }
        self.look_at_keys(sealing).await
    }

    /// Lets the store's newest key seal. To be called again and again: another node may have rotated it. Says once of
    /// each key that the file lacks it; from then on nothing is sealed until the file has it.
    pub async fn look_at_keys(&self, sealing: &Sealing) -> Result<(), StoreError> {
        let known = load_known_keys(&mut Reader::uncounted(self.database.clone())).await?;
        let Some(newest) = known.last() else { return Ok(()) };
        if sealing.seal_with(&newest.id) && !sealing.key_ids().contains(&newest.id) {
            return Err(sealing.older_copy(&newest.id).into());
        }
        Ok(())
    }

    /// Notes a newer key beside those that fit: a rotation was interrupted before it could.
    pub async fn note_newer_key(&self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        let newest = sealing.first_key_id();
        if load_every_key_id(&mut self.reader()).await?.contains(&newest) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        tx.hold_keys(sealing).await?;
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
        tx.commit(now).await?;
        self.look_at_keys(sealing).await
    }
}

impl Transaction {
    /// Lets nobody else change which keys there are until this ends, before the first is there too.
    async fn lock_keys(&mut self) -> Result<(), StoreError> {
        self.execute("UPDATE store_generation SET n = n WHERE id = 1", Vec::new()).await.map(drop)
    }

    /// Lets nobody else change which keys there are until this ends, and looks once more whether ours fit: another node
    /// may have rotated a moment ago.
    pub async fn hold_keys(&mut self, sealing: &Sealing) -> Result<(), StoreError> {
        self.lock_keys().await?;
        keys_fit(self, sealing).await?;
        match load_known_keys(self).await?.last() {
            Some(newest) if newest.id != sealing.key_id() => Err(sealing.older_copy(&newest.id).into()),
            _ => Ok(()),
        }
    }

    /// Notes the first key of the file as the newest, before anything is sealed with it. Whether it was new.
    pub async fn insert_key(&mut self, sealing: &Sealing, now: Timestamp) -> Result<bool, StoreError> {
        let key_id = sealing.first_key_id();
        let sealed = sealing.seal_under(&key_id, place(&key_id), &Secret::new(PROOF.to_owned()))?;
        let sql = "INSERT INTO key_check (key_id, sealed, created_at, number) \
                   SELECT $1, $2, $3, COALESCE(MAX(number), 0) + 1 FROM key_check WHERE true \
                   ON CONFLICT (key_id) DO NOTHING";
        Ok(self.execute(sql, values![key_id, sealed, now]).await? > 0)
    }

    /// Remembers every key but the newest as dropped: nothing is sealed with them. How many there were.
    pub async fn drop_old_keys(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "UPDATE key_check SET dropped_at = $1 WHERE dropped_at IS NULL \
                   AND number < (SELECT MAX(number) FROM key_check)";
        self.execute(sql, values![now]).await
    }
}
