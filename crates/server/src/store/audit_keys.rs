//! The audit log's keys: random, sealed with the master key, so that rotating that one seals them anew and no more.
//!
//! Beside them a mark, sealed too, that names them all: keys that are gone are missed (ADR 0034). A process reads the
//! keys once, and again when an event finds that another one is the newest (`Transaction::append`).
//! Invariant: by itself, a key is made only in a store without a past; behind one, an operator has to say so.

use doorward_core::audit_event::AuditAction;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::audit_log::{
    Actor, AuditEntry, AuditSequence, SYSTEM_SCOPE, events_after, load_audit_sequence, next_scope,
};
use super::database::{AnyTransaction, Query, StoreError, Value};
use super::{Store, Transaction};
use crate::audit_chain::{AuditKeys, BeforeTheChain, PublicKey, UnusableKey};
use crate::random::Random;
use crate::sealing::{Place, Sealing};
use crate::values;

/// Events that are read at once.
const PAGE: i64 = 500;

fn place(id: &str) -> Place<'_> {
    Place { table: "audit_key", column: "sealed", row: id }
}

const MARK: Place<'_> = Place { table: "audit_mark", column: "sealed", row: "keys" };

/// What the mark says: that these keys exist.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    keys: Vec<MarkedKey>,
}

/// One key as the mark names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkedKey {
    id: String,
    public: String,
    /// When the store first had it, in milliseconds since 1970.
    since: i64,
    /// An operator has said that it is gone for good.
    lost: bool,
}

impl From<UnusableKey> for StoreError {
    fn from(_: UnusableKey) -> Self {
        Self::AuditKeys("one of them is not of the form that we write")
    }
}

/// The keys as this process knows them, and the master key that opens what others put in their place.
#[derive(Debug, Default)]
pub(super) struct OpenAudit {
    sealing: OnceLock<Sealing>,
    keys: RwLock<Option<Arc<AuditKeys>>>,
}

impl OpenAudit {
    fn over(sealing: &Sealing, keys: AuditKeys) -> Self {
        Self { sealing: OnceLock::from(sealing.clone()), keys: RwLock::new(Some(Arc::new(keys))) }
    }

    fn keys(&self) -> Result<Arc<AuditKeys>, StoreError> {
        // A poisoned lock means a panic while a pointer was replaced; the pointer is one of the two.
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        keys.ok_or(StoreError::AuditKeys("they were not opened"))
    }

    fn put(&self, keys: AuditKeys) -> Arc<AuditKeys> {
        let keys = Arc::new(keys);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&keys));
        keys
    }
}

async fn load_mark(query: &mut impl Query, sealing: &Sealing) -> Result<Option<Mark>, StoreError> {
    let row = query.fetch_optional("SELECT sealed FROM audit_mark WHERE id = 'keys'", Vec::new()).await?;
    let Some(row) = row else { return Ok(None) };
    let text = sealing.open_sealed(MARK, &row.text("sealed")?)?;
    let mark = serde_json::from_str(text.expose());
    mark.map(Some).map_err(|_| StoreError::Corrupt("audit_mark.sealed".to_owned()))
}

/// The keys that are there, whatever the mark says.
async fn load_present(query: &mut impl Query, sealing: &Sealing) -> Result<Option<AuditKeys>, StoreError> {
    let sql = "SELECT id, sealed FROM audit_key ORDER BY created_at DESC, id";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    let mut secrets = Vec::new();
    for row in rows {
        secrets.push(sealing.open_sealed(place(&row.text("id")?), &row.text("sealed")?)?);
    }
    Ok(AuditKeys::from_secrets(&secrets)?)
}

/// The keys, held against the mark; `None` in a store that never had any. Without a mark nothing says that those which
/// are there are all, so behind a past they don't count.
async fn load(query: &mut impl Query, sealing: &Sealing) -> Result<Option<AuditKeys>, StoreError> {
    let Some(mark) = load_mark(query, sealing).await? else {
        has_no_past(query).await?;
        return Ok(None);
    };
    let keys = load_present(query, sealing).await?;
    let present = keys.as_ref().map(|keys| keys.public_keys().0).unwrap_or_default();
    let is_gone = |marked: &&MarkedKey| !marked.lost && !present.iter().any(|key| key.id == marked.id);
    if let Some(gone) = mark.keys.iter().find(is_gone) {
        let since = crate::audit_export::rfc3339(Timestamp::from_millis(gone.since)).unwrap_or_default();
        return Err(StoreError::AuditKeysMissing(format!(
            "key {}, there since {since}, is not in audit_key",
            gone.id
        )));
    }
    let lost = mark.keys.into_iter().filter(|marked| marked.lost);
    let lost = lost.map(|marked| PublicKey { id: marked.id, public: marked.public }).collect();
    Ok(keys.map(|keys| keys.with_lost(lost)))
}

/// Refuses a store without a mark that has a past: anybody's name, an event, a checkpoint.
async fn has_no_past(query: &mut impl Query) -> Result<(), StoreError> {
    let name = query.fetch_optional("SELECT MIN(name_key) AS name FROM name", Vec::new()).await?;
    let nobody = name.map(|row| row.opt_text("name")).transpose()?.flatten().is_none();
    if nobody && next_scope(query, "").await?.is_none() {
        return Ok(());
    }
    Err(StoreError::AuditKeysMissing(
        "there is a past, and audit_mark does not say which keys there were".to_owned(),
    ))
}

impl Store {
    /// Opens the audit log's keys; without them no transaction can write an event. In a store without a past, makes
    /// them.
    pub async fn open_audit(
        &self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.audit_keys().is_ok() {
            return Ok(());
        }
        // Without a mark it is judged under a lock: another node's first start may just be making key, mark and past.
        let is_marked = load_mark(&mut self.reader(), sealing).await?.is_some();
        let keys = if is_marked { load(&mut self.reader(), sealing).await? } else { None };
        let keys = match keys {
            Some(keys) => keys,
            None => self.make_first_audit_key(sealing, random, now).await?,
        };
        // Whoever opened them at the same time read the same.
        drop(self.audit_keys.sealing.set(sealing.clone()));
        self.audit_keys.put(keys);
        Ok(())
    }

    /// The audit log's keys, once opened.
    pub fn audit_keys(&self) -> Result<Arc<AuditKeys>, StoreError> {
        self.audit_keys.keys()
    }

    /// The same as the store has them now: a key that another process has made since is among them.
    pub async fn audit_keys_now(&self) -> Result<Arc<AuditKeys>, StoreError> {
        let Some(sealing) = self.audit_keys.sealing.get() else { return self.audit_keys() };
        match load(&mut self.reader(), sealing).await? {
            Some(keys) => Ok(self.audit_keys.put(keys)),
            None => self.audit_keys(),
        }
    }

    async fn make_first_audit_key(
        &self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<AuditKeys, StoreError> {
        let mut tx = self.begin().await?;
        // Two nodes that start at once: the second waits here, and finds the keys of the first.
        tx.execute("UPDATE change_counter SET n = n WHERE id = 1", Vec::new()).await?;
        if load(&mut tx, sealing).await?.is_none() {
            tx.make_audit_key(sealing, random, now).await?;
            tx.tell_of_new_key(Actor::System, &[], now).await?;
        }
        let keys = load(&mut tx, sealing).await?.ok_or(StoreError::AuditKeys("none was made"))?;
        tx.commit(now).await?;
        Ok(keys)
    }

    /// Makes another key, which is used from now on; older ones check. `although_lost`: keys that the mark names, or
    /// that made the codes that are there, are gone. Then each log tells so, and goes on from its hash. Answers the
    /// ids of those that are gone.
    pub async fn renew_audit_key(
        &self,
        sealing: &Sealing,
        random: &Random,
        although_lost: bool,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        tx.lock_audit_logs().await?;
        let (mut lost, mut behind_a_past) = (Vec::new(), false);
        match load(&mut tx, sealing).await {
            Ok(_) => {}
            Err(StoreError::AuditKeysMissing(_)) if although_lost => {
                behind_a_past = true;
                lost = tx.give_up_missing_keys(sealing).await?;
            }
            Err(error) => return Err(error),
        }
        tx.make_audit_key(sealing, random, now).await?;
        if behind_a_past {
            tx.go_on_without_lost_keys(&actor, now).await?;
        }
        tx.tell_of_new_key(actor, &lost, now).await?;
        tx.commit(now).await?;
        Ok(lost)
    }
}

impl Transaction {
    /// The keys that an event is written with, given the id of the store's newest. Another one than this process knows
    /// (made by another node, or come with a restore) is read here.
    pub(super) async fn audit_keys_at(&mut self, newest: Option<&str>) -> Result<Arc<AuditKeys>, StoreError> {
        let keys = self.audit_keys.keys()?;
        if newest == Some(keys.id()) {
            return Ok(keys);
        }
        let open = Arc::clone(&self.audit_keys);
        let sealing = open.sealing.get().ok_or(StoreError::AuditKeys("they were not opened"))?;
        let gone = || StoreError::AuditKeysMissing("there is none, although this process had one".to_owned());
        let keys = load(self, sealing).await?.ok_or_else(gone)?;
        Ok(open.put(keys))
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

    /// After the rows of a backup are in: its keys make from now on, or a new one if it is from before there were any
    /// (its checksum says that it is a backup of ours). Those of before the restore check.
    pub(super) async fn restore_audit_keys(
        &mut self,
        before: Vec<Vec<Value>>,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // A backup without a mark is from before there were marks: the store that it was made of had started.
        if load_mark(self, sealing).await?.is_none() {
            self.write_mark(sealing, now).await?;
        }
        let is_older = load(self, sealing).await?.is_none();
        for key in before {
            let sql = "INSERT INTO audit_key (id, sealed, created_at) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING";
            self.execute(sql, key).await?;
        }
        if is_older {
            self.make_audit_key(sealing, random, now).await?;
            self.go_on_without_lost_keys(&Actor::System, now).await?;
            return self.tell_of_new_key(Actor::System, &[], now).await;
        }
        self.write_mark(sealing, now).await?;
        self.use_audit_keys_of_the_store(sealing).await
    }

    /// Makes a key, the newest from now on, and uses it for the rest of this transaction.
    async fn make_audit_key(
        &mut self,
        sealing: &Sealing,
        random: &Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let secret = Secret::token(random.bytes()?);
        let made = AuditKeys::from_secrets(std::slice::from_ref(&secret))?
            .ok_or(StoreError::AuditKeys("none was made"))?;
        let sealed = sealing.seal(place(made.id()), &secret)?;
        // The newest even if the clock was set back.
        let sql = "INSERT INTO audit_key (id, sealed, created_at) VALUES ($1, $2, \
                   (SELECT CASE WHEN MAX(created_at) >= $3 THEN MAX(created_at) + 1 ELSE $3 END FROM audit_key))";
        self.execute(sql, values![made.id(), sealed, now]).await?;
        self.write_mark(sealing, now).await?;
        self.use_audit_keys_of_the_store(sealing).await
    }

    async fn use_audit_keys_of_the_store(&mut self, sealing: &Sealing) -> Result<(), StoreError> {
        let keys = load(self, sealing).await?.ok_or(StoreError::AuditKeys("none was made"))?;
        // This transaction's alone: whoever else has this store open must not meet them before the commit.
        self.audit_keys = Arc::new(OpenAudit::over(sealing, keys));
        Ok(())
    }

    /// Brings the mark up to the keys that are there.
    async fn write_mark(&mut self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        let before = load_mark(self, sealing).await?;
        let mut mark = before.clone().unwrap_or_default();
        let present = load_present(self, sealing).await?.map(|keys| keys.public_keys().0).unwrap_or_default();
        for PublicKey { id, public } in present {
            mark.keys.retain(|marked| marked.id != id || !marked.lost);
            if !mark.keys.iter().any(|marked| marked.id == id) {
                mark.keys.push(MarkedKey { id, public, since: now.millis(), lost: false });
            }
        }
        if before.as_ref() == Some(&mark) { Ok(()) } else { self.put_mark(sealing, &mark).await }
    }

    async fn put_mark(&mut self, sealing: &Sealing, mark: &Mark) -> Result<(), StoreError> {
        let text = serde_json::to_string(mark).map_err(|_| StoreError::Corrupt("audit_mark".to_owned()))?;
        let sealed = sealing.seal(MARK, &Secret::new(text))?;
        let sql = "INSERT INTO audit_mark (id, sealed) VALUES ('keys', $1) \
                   ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed";
        self.execute(sql, values![sealed]).await?;
        Ok(())
    }

    /// Notes in the mark that keys which are not there are gone for good; their ids.
    async fn give_up_missing_keys(&mut self, sealing: &Sealing) -> Result<Vec<String>, StoreError> {
        let mut mark = load_mark(self, sealing).await?.unwrap_or_default();
        let present = load_present(self, sealing).await?.map(|keys| keys.public_keys().0).unwrap_or_default();
        let mut lost = Vec::new();
        for marked in &mut mark.keys {
            if !marked.lost && !present.iter().any(|key| key.id == marked.id) {
                marked.lost = true;
                lost.push(marked.id.clone());
            }
        }
        self.put_mark(sealing, &mark).await?;
        Ok(lost)
    }

    /// Keeps writers of events away until the commit, so that no event with an old key comes after what is told here.
    async fn lock_audit_logs(&mut self) -> Result<(), StoreError> {
        if let AnyTransaction::Postgres(tx, _) = &mut self.inner {
            sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut **tx).await?;
            sqlx::query("SET LOCAL lock_timeout = '30s'").execute(&mut **tx).await?;
            sqlx::query("LOCK TABLE audit_key, audit_sequence IN EXCLUSIVE MODE").execute(&mut **tx).await?;
        }
        // On SQLite there is one writer, from its first statement on.
        self.execute("UPDATE change_counter SET n = n WHERE id = 1", Vec::new()).await?;
        Ok(())
    }

    async fn tell_of_new_key(
        &mut self,
        actor: Actor,
        lost: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = self.audit_keys.keys()?.id().to_owned();
        let mut details = vec![("key", key)];
        if !lost.is_empty() {
            details.push(("lost", lost.join(" ")));
        }
        let action = AuditAction::AuditKeyNew;
        let entry =
            AuditEntry { organization: None, action, actor, details, address: None, request_id: None };
        self.append(SYSTEM_SCOPE, entry, now).await?;
        Ok(())
    }

    /// Tells in every log that has events that what came before can't be proved by its codes, and from where on it can.
    async fn go_on_without_lost_keys(&mut self, actor: &Actor, now: Timestamp) -> Result<(), StoreError> {
        let mut after = String::new();
        while let Some(scope) = next_scope(self, &after).await? {
            match load_audit_sequence(self, &scope).await? {
                None => {}
                Some(AuditSequence { hash: None, .. }) => self.begin_chain(&scope, actor, now).await?,
                Some(AuditSequence { count, .. }) => {
                    let key = self.audit_keys.keys()?.id().to_owned();
                    let details = vec![("events", count.to_string()), ("key", key)];
                    self.append(&scope, of_a_log(AuditAction::AuditKeyLost, actor, details), now).await?;
                }
            }
            after = scope;
        }
        Ok(())
    }

    /// Marks where a log's chain begins, and what was there before.
    async fn begin_chain(&mut self, scope: &str, actor: &Actor, now: Timestamp) -> Result<(), StoreError> {
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
        let details = vec![("events", count.to_string()), ("sha256", before.finish())];
        self.append(scope, of_a_log(AuditAction::AuditChainStart, actor, details), now).await?;
        Ok(())
    }
}

/// An entry whose scope is told apart.
fn of_a_log(action: AuditAction, actor: &Actor, details: Vec<(&'static str, String)>) -> AuditEntry {
    AuditEntry { organization: None, action, actor: actor.clone(), details, address: None, request_id: None }
}
