//! The whole store as lines of JSON, out of one moment, and back into either database (docs/adr/0022).
//!
//! Out: a header, each table's columns and rows, an end with a keyed checksum. In: the same, in one transaction, which
//! ends only if the bytes that were written are those of the checksum.
//! Left out, and so void after a restore: whatever opens something to somebody (sessions, links, codes, attempts).
//! Invariant: nothing is held in memory but a few hundred rows, and nothing is half: before or after.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::time::Timestamp;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sqlx::{Connection as _, Row as _, TypeInfo as _, ValueRef as _};
use std::io::{self, BufRead, Read as _, Write};

use super::audit_log::AuditEntry;
use super::database::{AnyTransaction, Database, Query, StoreError, Value};
use super::key_check::{keys_fit, load_known_keys};
use super::{Store, Transaction, migrations};
use crate::audit_chain::GONE;
use crate::random::Random;
use crate::sealing::{Sealing, SealingError};
use crate::values;

/// The format that is written and read.
const FORMAT: u32 = 1;
/// Longest line that is read, in bytes; the longest that is written is a provider's metadata or an audit event.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Rows that go into one statement.
const ROWS_AT_ONCE: usize = 200;
/// By how much a restore moves the counter of changes ahead: no node can have heard what lies between, so every node
/// forgets all that it remembers (`read_changes`).
const CHANGES_SKIPPED: i64 = 1_000_000;

/// A table, with the statements that need its name.
#[derive(Debug)]
struct Table {
    name: &'static str,
    select: &'static str,
    clear: &'static str,
    drop: &'static str,
    lock: &'static str,
}

macro_rules! tables {
    ($($name:literal),* $(,)?) => { &[$(Table {
        name: $name,
        select: concat!("SELECT * FROM ", $name),
        clear: concat!("DELETE FROM ", $name),
        drop: concat!("DROP TABLE IF EXISTS ", $name),
        lock: concat!("LOCK TABLE ", $name, " IN ACCESS EXCLUSIVE MODE"),
    }),*] };
}

/// What a backup holds, each table after those that it refers to.
const KEPT: &[Table] = tables![
    "name",
    "account",
    "account_email",
    "organization",
    "membership",
    "resource",
    "connection",
    "revision",
    "revision_test",
    "identity",
    "link_question",
    "former_member",
    "audit_sequence",
    "audit_event",
    "audit_checkpoint",
    "audit_key",
    "audit_mark",
    "key_check",
    "assertion_key",
    "imported_line",
];

/// What a backup leaves out, each table after those that it refers to: sessions and one-time things, which a restore
/// must void (conformance.md F30), and what is counted on at the restore itself.
const LEFT_OUT: &[Table] = tables![
    "operator_link",
    "sign_in_failure",
    "counted_event",
    "known_browser",
    "browser_session",
    "sso_session",
    "host_session",
    "ticket",
    "attempt",
    "spent_attempt",
    "held_identity",
    "recovery_code",
    "recovery",
    "access_token",
    "token_authorization",
    "invitation",
    "join_link",
    "api_token",
    "change_counter",
    "change",
    "store_generation",
];

/// The names of all tables, kept and left out, for the test that compares them with the schema.
pub fn backed_up_and_left_out() -> (Vec<&'static str>, Vec<&'static str>) {
    let names = |tables: &[Table]| tables.iter().map(|table| table.name).collect();
    (names(KEPT), names(LEFT_OUT))
}

/// The first line of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHeader {
    /// The format of the lines.
    pub doorward_backup: u32,
    /// The version of the binary that wrote it.
    pub version: String,
    /// When, in milliseconds since 1970.
    pub made_at: i64,
    /// The number of the newest schema change.
    pub schema: i64,
    /// How often the store had been restored, from 1.
    pub generation: i64,
    /// Ids of the master keys that it needs, the newest last.
    pub keys: Vec<String>,
    /// Id of the master key of the checksum.
    pub checksum_key: String,
}

/// The columns of the table whose rows follow; `true`: text, `false`: a number.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableLine {
    table: String,
    columns: Vec<(String, bool)>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    rows: u64,
    checksum: String,
}

/// Why a backup could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The file.
    #[error("reading or writing the file failed: {0}")]
    File(#[from] io::Error),
    /// The file is not a backup that this binary can restore.
    #[error("{0}")]
    Unusable(String),
    /// There is something in the store already.
    #[error("the database is not empty")]
    NotEmpty,
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

fn unusable(why: impl Into<String>) -> BackupError {
    BackupError::Unusable(why.into())
}

// === Out ===

/// Writes lines and follows them with the checksum.
struct Lines<'a> {
    to: &'a mut dyn Write,
    checksum: hmac::Context,
    rows: u64,
}

impl Lines<'_> {
    fn write(&mut self, line: &impl Serialize) -> Result<(), BackupError> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::from)?;
        text.push(b'\n');
        self.checksum.update(&text);
        Ok(self.to.write_all(&text)?)
    }
}

/// One table's columns and rows, from a connection of either database.
macro_rules! write_table {
    ($connection:expr, $table:expr, $lines:expr) => {{
        let mut columns: Vec<(String, bool)> = Vec::new();
        let mut rows = sqlx::query($table.select).fetch($connection);
        while let Some(row) = rows.try_next().await? {
            if columns.is_empty() {
                let column = |c: &_| column_of(c);
                columns = row.columns().iter().map(column).collect();
                $lines.write(&TableLine { table: $table.name.to_owned(), columns: columns.clone() })?;
            }
            let mut values = Vec::with_capacity(columns.len());
            for (n, (_, is_text)) in columns.iter().enumerate() {
                values.push(if row.try_get_raw(n)?.is_null() {
                    Json::Null
                } else if *is_text {
                    Json::String(row.try_get(n)?)
                } else {
                    Json::from(row.try_get::<i64, _>(n)?)
                });
            }
            $lines.write(&values)?;
            $lines.rows += 1;
        }
        if columns.is_empty() {
            $lines.write(&TableLine { table: $table.name.to_owned(), columns })?;
        }
    }};
}

fn column_of<C: sqlx::Column>(column: &C) -> (String, bool) {
    (column.name().to_owned(), column.type_info().name() == "TEXT")
}

impl Store {
    /// Writes the store as it is at one moment; how many rows. Others read and write meanwhile.
    pub async fn write_backup(
        &self,
        sealing: &Sealing,
        to: &mut (dyn Write + Send),
        now: Timestamp,
    ) -> Result<u64, BackupError> {
        match &self.database {
            Database::Sqlite { read, .. } => {
                let mut connection = read.connect().await?;
                let tx = connection.begin().await?;
                let mut tx = AnyTransactionRef::Sqlite(tx);
                tx.write_all(sealing, to, now).await
            }
            Database::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                let mut tx = connection.begin_with(begin).await?;
                // One statement may take as long as a table is long.
                sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
                let mut tx = AnyTransactionRef::Postgres(tx);
                tx.write_all(sealing, to, now).await
            }
        }
    }
}

/// A transaction on a connection that is lent.
enum AnyTransactionRef<'a> {
    Sqlite(sqlx::Transaction<'a, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'a, sqlx::Postgres>),
}

impl Query for AnyTransactionRef<'_> {
    async fn fetch_all(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<super::Row>, StoreError> {
        debug_assert!(values.is_empty(), "what a backup asks has no values");
        Ok(match self {
            Self::Sqlite(tx) => {
                sqlx::query(sql).fetch_all(&mut **tx).await?.into_iter().map(super::Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                sqlx::query(sql).fetch_all(&mut **tx).await?.into_iter().map(super::Row::Postgres).collect()
            }
        })
    }

    async fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<super::Row>, StoreError> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }
}

impl AnyTransactionRef<'_> {
    async fn write_all(
        &mut self,
        sealing: &Sealing,
        to: &mut (dyn Write + Send),
        now: Timestamp,
    ) -> Result<u64, BackupError> {
        let (checksum_key, checksum) = sealing.begin_checksum()?;
        let mut lines = Lines { to, checksum, rows: 0 };
        lines.write(&BackupHeader {
            doorward_backup: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: now.millis(),
            schema: load_int(self, "SELECT MAX(version) AS n FROM _sqlx_migrations").await?,
            generation: load_int(self, "SELECT n FROM store_generation WHERE id = 1").await?,
            keys: load_known_keys(self).await?.into_iter().map(|key| key.id).collect(),
            checksum_key,
        })?;
        for table in KEPT {
            match self {
                Self::Sqlite(tx) => write_table!(&mut **tx, table, lines),
                Self::Postgres(tx) => write_table!(&mut **tx, table, lines),
            }
        }
        let rows = lines.rows;
        let checksum = URL_SAFE_NO_PAD.encode(lines.checksum.clone().sign());
        lines.write(&json!({ "rows": rows, "checksum": checksum }))?;
        Ok(rows)
    }
}

async fn load_int(query: &mut impl Query, sql: &'static str) -> Result<i64, StoreError> {
    let row = query.fetch_optional(sql, Vec::new()).await?;
    row.ok_or_else(|| StoreError::Corrupt("a row that every store has".to_owned()))?.int("n")
}

// === In ===

/// Reads one line, bounded; empty at the end.
fn read_line(from: &mut dyn BufRead) -> Result<Vec<u8>, BackupError> {
    let mut line = Vec::new();
    let mut bounded = from.take(LINE_BYTES_MAX);
    bounded.read_until(b'\n', &mut line)?;
    if !line.is_empty() && line.last() != Some(&b'\n') {
        return Err(unusable("the backup ends in the middle of a line: it is not whole"));
    }
    Ok(line)
}

/// Reads the header and says what of it this binary can't take.
pub fn read_backup_header(from: &mut dyn BufRead) -> Result<BackupHeader, BackupError> {
    let line = read_line(from)?;
    let header: BackupHeader = serde_json::from_slice(&line)
        .map_err(|_| unusable("the file is not a backup of doorward: its first line is no header"))?;
    if header.doorward_backup != FORMAT || !migrations::is_known(header.schema) {
        let version = header.version.chars().filter(char::is_ascii_graphic).take(20).collect::<String>();
        return Err(unusable(format!(
            "the backup was made by doorward {version}, which this one does not know"
        )));
    }
    Ok(header)
}

fn not_whole() -> BackupError {
    unusable("the backup has no end: it is not whole")
}

/// Reads lines and follows them with the checksum, so that what is used is what was checked.
struct CheckedLines<'a> {
    from: &'a mut (dyn BufRead + Send),
    checksum: hmac::Context,
}

impl<'a> CheckedLines<'a> {
    /// Reads the header, and sees that all keys are there that the backup needs.
    fn open(
        from: &'a mut (dyn BufRead + Send),
        sealing: &Sealing,
    ) -> Result<(BackupHeader, Self), BackupError> {
        let line = read_line(from)?;
        let header = read_backup_header(&mut line.as_slice())?;
        for key in &header.keys {
            sealing.begin_checksum_of(key)?;
        }
        let mut checksum = sealing.begin_checksum_of(&header.checksum_key)?;
        checksum.update(&line);
        Ok((header, Self { from, checksum }))
    }

    /// The next line of a table, or `None` at the end line, whose checksum is compared: how many rows it counts is then
    /// in `rows`.
    fn next(&mut self, rows: &mut u64) -> Result<Option<Vec<u8>>, BackupError> {
        let line = read_line(self.from)?;
        if line.is_empty() {
            return Err(not_whole());
        }
        let end = (!line.starts_with(b"[")).then(|| serde_json::from_slice::<EndLine>(&line).ok());
        let Some(end) = end.flatten() else {
            self.checksum.update(&line);
            return Ok(Some(line));
        };
        let found = URL_SAFE_NO_PAD.decode(&end.checksum).unwrap_or_default();
        let checksum = self.checksum.clone().sign();
        constant_time::verify_slices_are_equal(checksum.as_ref(), &found).map_err(|_| {
            unusable("the backup's checksum is not that of its content: it was changed or damaged")
        })?;
        if !read_line(self.from)?.is_empty() {
            return Err(unusable("the backup goes on after its end"));
        }
        *rows = end.rows;
        Ok(None)
    }
}

/// Reads the whole file once and compares its checksum, so that a file that no holder of the master key has made is
/// refused before the store is touched.
pub fn verify_backup(
    from: &mut (dyn BufRead + Send),
    sealing: &Sealing,
) -> Result<BackupHeader, BackupError> {
    let (header, mut lines) = CheckedLines::open(from, sealing)?;
    while lines.next(&mut 0)?.is_some() {}
    Ok(header)
}

/// What a restore has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// When the backup was made.
    pub made_at: Timestamp,
    /// Rows that were taken.
    pub rows: u64,
    /// Which restore of this store it is: the first makes 2.
    pub generation: i64,
}

impl Store {
    /// Puts a backup in the place of everything in the store: one transaction, so before or after and nothing between,
    /// and every node forgets what it knew. Its checksum is compared in the reading that writes. `replace`: a store that
    /// is not empty too; names that were given since stay given (rule 7).
    pub async fn restore(
        &self,
        lines: &mut (dyn BufRead + Send),
        sealing: &Sealing,
        replace: bool,
        audit: impl FnOnce(&Restored) -> AuditEntry + Send,
        random: &Random,
        now: Timestamp,
    ) -> Result<Restored, BackupError> {
        let (header, mut lines) = CheckedLines::open(lines, sealing)?;
        let mut tx = self.begin_alone().await?;
        let not_empty = tx.fetch_optional("SELECT spelled FROM name LIMIT 1", Vec::new()).await?.is_some();
        if not_empty && !replace {
            return Err(BackupError::NotEmpty);
        }
        let counter = load_int(&mut tx, "SELECT n FROM change_counter WHERE id = 1").await?;
        let generation = load_int(&mut tx, "SELECT n FROM store_generation WHERE id = 1").await?;
        let audit_keys = tx.load_open_audit_keys(sealing).await?;
        tx.execute("CREATE TEMPORARY TABLE name_before AS SELECT * FROM name", Vec::new()).await?;
        for table in LEFT_OUT.iter().rev().chain(KEPT.iter().rev()) {
            tx.execute(table.drop, Vec::new()).await?;
        }
        tx.execute("DROP TABLE _sqlx_migrations", Vec::new()).await?;

        // The schema of the backup's time, its rows, and then the changes since: as the store itself would have aged.
        migrations::migrate_in(&mut tx.inner, Some(header.schema)).await?;
        let rows = tx.read_rows(&mut lines).await?;
        migrations::migrate_in(&mut tx.inner, None).await?;
        tx.execute(
            "DELETE FROM name_before WHERE EXISTS (SELECT 1 FROM name n \
             WHERE n.name_key = name_before.name_key OR n.owner_id = name_before.owner_id)",
            Vec::new(),
        )
        .await?;
        tx.execute(
            "INSERT INTO name (name_key, spelled, kind, owner_id, created_at) \
             SELECT name_key, spelled, kind, owner_id, created_at FROM name_before",
            Vec::new(),
        )
        .await?;
        keys_fit(&mut tx, sealing).await?;
        // The file may have newer ones, of a rotation since: they seal once this store has heard of them.
        if let Some(newest) = load_known_keys(&mut tx).await?.last() {
            sealing.seal_with(&newest.id);
        }
        tx.restore_audit_keys(audit_keys, sealing, random, now).await?;

        let made_at = Timestamp::from_millis(header.made_at);
        let restored = Restored { made_at, rows, generation: generation.max(header.generation) + 1 };
        tx.execute("DELETE FROM change", Vec::new()).await?;
        let sql = "UPDATE change_counter SET n = $1 WHERE id = 1";
        tx.execute(sql, values![counter + CHANGES_SKIPPED]).await?;
        let sql = "UPDATE store_generation SET n = $1, restored_at = $2, backup_made_at = $3 WHERE id = 1";
        tx.execute(sql, values![restored.generation, now, made_at]).await?;
        tx.tell_of_restore(audit(&restored), now).await?;
        tx.execute("DROP TABLE name_before", Vec::new()).await?;
        tx.commit(now).await?;
        Ok(restored)
    }
}

/// How often a restore begins again because somebody held the same tables in another order.
const BEGINNINGS: u32 = 5;

impl Store {
    /// Begins with every table for itself, before anything is read. Names first: one that is given while they are copied
    /// would be lost, and given again (rule 7).
    async fn begin_alone(&self) -> Result<Transaction, StoreError> {
        let mut left = BEGINNINGS;
        loop {
            let mut tx = self.begin().await?;
            tx.inner.take_long().await?;
            left -= 1;
            match tx.lock_everything().await {
                Err(error) if left > 0 && is_deadlock(&error) => {}
                locked => return locked.map(|()| tx),
            }
        }
    }
}

/// PostgreSQL ends one of two transactions that wait for each other.
fn is_deadlock(error: &StoreError) -> bool {
    let StoreError::Unavailable(sqlx::Error::Database(error)) = error else { return false };
    error.code().as_deref() == Some("40P01")
}

impl Transaction {
    /// In the system's log and in each organization's, so that each one's auditors see why a part of it is gone.
    async fn tell_of_restore(&mut self, entry: AuditEntry, now: Timestamp) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let sql = "SELECT id FROM organization WHERE id > $1 ORDER BY id LIMIT 500";
            let page = self.fetch_all(sql, values![&after]).await?;
            for row in &page {
                after = row.text("id")?;
                let id = after.parse().map_err(|_| StoreError::Corrupt("organization.id".to_owned()))?;
                self.audit(AuditEntry { organization: Some(id), ..entry.clone() }, now).await?;
            }
            if page.is_empty() {
                break;
            }
        }
        self.begin_logs_of_the_gone(&entry, now).await?;
        self.audit(entry, now).await?;
        Ok(())
    }

    /// Of an organization that was made since the backup, the name is left, which must have a log: it begins with the
    /// restore that took the rest. One that is in the backup without a log stays without: that was somebody else.
    async fn begin_logs_of_the_gone(&mut self, entry: &AuditEntry, now: Timestamp) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let sql = "SELECT owner_id, spelled FROM name_before \
                       WHERE kind = 'organization' AND owner_id > $1 ORDER BY owner_id LIMIT 500";
            let page = self.fetch_all(sql, values![&after]).await?;
            for row in &page {
                after = row.text("owner_id")?;
                let mut entry = entry.clone();
                entry.details.push((GONE, row.text("spelled")?));
                self.append(&after, entry, now).await?;
            }
            if page.is_empty() {
                return Ok(());
            }
        }
    }

    /// On SQLite a transaction that writes is alone already.
    async fn lock_everything(&mut self) -> Result<(), StoreError> {
        if let AnyTransaction::Sqlite(_) = self.inner {
            return Ok(());
        }
        for table in KEPT.iter().chain(LEFT_OUT) {
            self.execute(table.lock, Vec::new()).await?;
        }
        Ok(())
    }

    /// Inserts every row up to the end line; how many.
    async fn read_rows(&mut self, lines: &mut CheckedLines<'_>) -> Result<u64, BackupError> {
        let malformed = || unusable("the backup holds a line that can't be read");
        let mut table: Option<(String, Vec<(String, bool)>)> = None;
        let mut waiting: Vec<Value> = Vec::new();
        let (mut rows, mut rows_counted) = (0, 0);
        loop {
            let line = lines.next(&mut rows_counted)?;
            let is_row = line.as_ref().is_some_and(|line| line.starts_with(b"["));
            let width = table.as_ref().map_or(1, |(_, columns)| columns.len());
            if (!is_row || waiting.len() >= width * ROWS_AT_ONCE)
                && let Some((head, _)) = &table
            {
                self.inner.insert_rows(head, width, std::mem::take(&mut waiting)).await?;
            }
            let Some(line) = line else {
                return if rows_counted == rows { Ok(rows) } else { Err(malformed()) };
            };
            if !is_row {
                let line: TableLine = serde_json::from_slice(&line).map_err(|_| malformed())?;
                let kept = KEPT.iter().find(|table| table.name == line.table).ok_or_else(malformed)?;
                // A schema change may have put rows there.
                self.execute(kept.clear, Vec::new()).await?;
                table = Some((insert_head(kept, &line.columns).ok_or_else(malformed)?, line.columns));
                continue;
            }
            let (_, columns) = table.as_ref().ok_or_else(malformed)?;
            let row: Vec<Json> = serde_json::from_slice(&line).map_err(|_| malformed())?;
            if row.len() != columns.len() {
                return Err(malformed());
            }
            for (value, (_, is_text)) in row.into_iter().zip(columns) {
                waiting.push(match (value, is_text) {
                    (Json::Null, true) => Value::OptText(None),
                    (Json::Null, false) => Value::OptInt(None),
                    (Json::String(text), true) => Value::Text(text),
                    (Json::Number(number), false) => Value::Int(number.as_i64().ok_or_else(malformed)?),
                    _ => return Err(malformed()),
                });
            }
            rows += 1;
        }
    }
}

/// The beginning of an INSERT into a table; `None` for an odd column.
fn insert_head(table: &Table, columns: &[(String, bool)]) -> Option<String> {
    let plain = |name: &str| {
        (1..=60).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let names: Vec<&str> = columns.iter().map(|(name, _)| &**name).collect();
    (names.len() <= 100 && names.iter().all(|name| plain(name)))
        .then(|| format!("INSERT INTO {} ({}) VALUES ", table.name, names.join(", ")))
}
