//! The audit log's keys: random, sealed with the master key, so that rotating that one seals them anew and no more.
//!
//! Made once, with the mark `audit.chain_start` in every log that has events from before (ADR 0021).
//! Invariant: keys are never made where events were chained already; who deletes them is told so.

use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;

use super::audit_log::{Actor, AuditEntry, AuditSequence, events_after, load_audit_sequence};
use super::database::{Query, StoreError, Value};
use super::{Store, Transaction};
use crate::audit_chain::{AuditKeys, BeforeTheChain, UnusableKey};
use crate::random::Random;
use crate::sealing::{Place, Sealing};
use crate::values;
use std::sync::{Arc, OnceLock};

/// Logs and events that are read at once.
const PAGE: i64 = 500;

fn place(id: &str) -> Place<'_> {
    Place { table: "audit_key", column: "sealed", row: id }
}

impl From<UnusableKey> for StoreError {
    fn from(_: UnusableKey) -> Self {
        Self::AuditKeys("one of them is not of the form that we write")
    }
}

async fn load(query: &mut impl Query, sealing: &Sealing) -> Result<Option<AuditKeys>, StoreError> {
    let sql = "SELECT id, sealed FROM audit_key ORDER BY created_at DESC, id";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    let mut secrets = Vec::new();
    for row in rows {
        secrets.push(sealing.open_sealed(place(&row.text("id")?), &row.text("sealed")?)?);
    }
    Ok(AuditKeys::from_secrets(&secrets)?)
}

impl Store {
    /// Opens the audit log's keys; without them no transaction can write an event. The first time, makes them, and
    /// binds the events that are there already.
    pub async fn open_audit(
        &self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.audit_keys.get().is_some() {
            return Ok(());
        }
        let keys = match load(&mut self.reader(), sealing).await? {
            Some(keys) => keys,
            None => self.make_audit_keys(sealing, random, now).await?,
        };
        // Whoever opened them at the same time read the same.
        drop(self.audit_keys.set(keys));
        Ok(())
    }

    /// The audit log's keys, once opened.
    pub fn audit_keys(&self) -> Result<&AuditKeys, StoreError> {
        self.audit_keys.get().ok_or(StoreError::AuditKeys("they were not opened"))
    }

    async fn make_audit_keys(
        &self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<AuditKeys, StoreError> {
        let mut tx = self.begin().await?;
        // Two nodes that start at once: the second waits here, and finds the keys of the first.
        tx.execute("UPDATE change_counter SET n = n WHERE id = 1", Vec::new()).await?;
        if let Some(keys) = load(&mut tx, sealing).await? {
            return Ok(keys);
        }
        let keys = tx.make_audit_keys(sealing, random, now).await?;
        tx.commit(now).await?;
        Ok(keys)
    }
}

impl Transaction {
    /// Takes the keys that are in the store now for the rest of this transaction, made if there are none: after a
    /// restore they are those of the backup.
    pub(super) async fn reopen_audit(
        &mut self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let keys = match load(self, sealing).await? {
            Some(keys) => keys,
            None => self.make_audit_keys(sealing, random, now).await?,
        };
        self.audit_keys = Arc::new(OnceLock::from(keys));
        Ok(())
    }

    /// The audit keys that open, as they are kept: a node that goes on with one after a restore must find it there.
    pub(super) async fn load_open_audit_keys(
        &mut self,
        sealing: &Sealing,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut kept = Vec::new();
        for row in self.fetch_all("SELECT id, sealed FROM audit_key", Vec::new()).await? {
            let (id, sealed) = (row.text("id")?, row.text("sealed")?);
            if sealing.open_sealed(place(&id), &sealed).is_ok() {
                kept.push(values![id, sealed]);
            }
        }
        Ok(kept)
    }

    /// Puts such keys back beside the others, as older ones: they verify, and the backup's newest signs.
    pub(super) async fn put_older_audit_keys(&mut self, keys: Vec<Vec<Value>>) -> Result<(), StoreError> {
        for key in keys {
            let sql = "INSERT INTO audit_key (id, sealed, created_at) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING";
            self.execute(sql, key).await?;
        }
        Ok(())
    }

    async fn make_audit_keys(
        &mut self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<AuditKeys, StoreError> {
        let secret = Secret::token(random.bytes()?);
        let keys = AuditKeys::from_secrets(std::slice::from_ref(&secret))?
            .ok_or(StoreError::AuditKeys("none was made"))?;
        let sealed = sealing.seal(place(keys.id()), &secret)?;
        let sql = "INSERT INTO audit_key (id, sealed, created_at) VALUES ($1, $2, $3)";
        self.execute(sql, values![keys.id(), sealed, now]).await?;
        self.begin_chains(&keys, now).await?;
        Ok(keys)
    }

    /// Marks in every log that has events where its chain begins, and what was there before.
    async fn begin_chains(&mut self, keys: &AuditKeys, now: Timestamp) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let sql = "SELECT scope FROM audit_sequence WHERE scope > $1 ORDER BY scope LIMIT $2";
            let scopes = self.fetch_all(sql, values![&after, PAGE]).await?;
            for row in &scopes {
                after = row.text("scope")?;
                self.begin_chain(keys, &after, now).await?;
            }
            if scopes.is_empty() {
                return Ok(());
            }
        }
    }

    async fn begin_chain(&mut self, keys: &AuditKeys, scope: &str, now: Timestamp) -> Result<(), StoreError> {
        if let Some(AuditSequence { hash: Some(_), .. }) = load_audit_sequence(self, scope).await? {
            return Err(StoreError::AuditKeys("audit_key is empty, although events were chained with a key"));
        }
        let (mut before, mut count) = (BeforeTheChain::default(), 0);
        loop {
            let page = events_after(self, scope, count, PAGE).await?;
            for event in &page {
                before.take(scope, event);
                count = event.sequence;
            }
            if page.is_empty() {
                break;
            }
        }
        let entry = AuditEntry {
            organization: None,
            action: AuditAction::AuditChainStart,
            actor: Actor::System,
            details: vec![("events", count.to_string()), ("sha256", before.finish())],
            address: None,
            request_id: None,
        };
        self.append(keys, scope, entry, now).await?;
        Ok(())
    }
}
