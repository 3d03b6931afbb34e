//! SQLite and PostgreSQL behind one executor: the same SQL text, typed values in, rows out.
//!
//! SQL uses `$n`, TEXT and BIGINT only. Writes go through a `Transaction`; on SQLite there is one writer connection,
//! so writers queue in order, and a transaction begins IMMEDIATE (a deferred one that has read can't write later).
//! Never here: what the statements mean. Invariant: a NULL is never read as "" or 0 (sqlx does so on SQLite).

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, ValueRef as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

use super::crash;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, is locked for too long, is full, or answered with an error of its own.
    #[error("the database does not answer as it should: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A unique constraint refused the row: somebody was first.
    #[error("a row with this key exists")]
    Conflict,
    /// A value in the store is not of the form that we write.
    #[error("the store holds a value that can't be read: {0}")]
    Corrupt(String),
    /// The schema is not the one that this binary knows.
    #[error("the database's schema is not current: {0}")]
    Schema(String),
    /// No random bytes could be had.
    #[error(transparent)]
    NoRandomness(#[from] crate::random::NoRandomness),
    /// The audit log's keys were not opened, or can't be used: nothing can be written down, so nothing is done.
    #[error("the audit log's keys are not there: {0}")]
    AuditKeys(&'static str),
    /// Keys of the audit log are gone from behind a past: none is made in their place by itself (ADR 0034).
    #[error("keys of the audit log are gone: {0}")]
    AuditKeysMissing(String),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Sealing(#[from] crate::sealing::SealingError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Conflict,
            _ => Self::Unavailable(error),
        }
    }
}

/// How hard SQLite tries to keep an acknowledged write through a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// Each commit waits for the disk.
    #[default]
    Full,
    /// The last commits may be lost with the power, none half.
    Normal,
}

#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite { write: SqlitePool, read: Arc<SqliteReaders> },
    Postgres(PgPool),
}

/// Binds values to a statement of either database.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
                Value::OptText(text) => query.bind(text),
                Value::OptInt(int) => query.bind(int),
            };
        }
        query
    }};
}

/// Values bound to one statement of `insert_rows`; SQLite takes 32,766.
const VALUES_AT_ONCE: usize = 1_000;

/// `head` followed by `rows` groups of `width` numbered places, and `tail`.
#[expect(clippy::disallowed_types, reason = "the one place where the number of values is known at run time")]
fn numbered(head: &str, width: usize, rows: usize, tail: &str) -> sqlx::AssertSqlSafe<String> {
    let mut sql = head.to_owned();
    for n in 0..rows * width {
        sql.push_str(match (n, n % width) {
            (0, _) => "($",
            (_, 0) => "), ($",
            _ => ", $",
        });
        sql.push_str(&(n + 1).to_string());
    }
    sql.push(')');
    sql.push_str(tail);
    sqlx::AssertSqlSafe(sql)
}

/// How long one waits for a connection.
const WAIT: Duration = Duration::from_secs(5);
/// How long one waits for PostgreSQL's answer: longer than its own `statement_timeout`, whose words are better. It is
/// for a server that says nothing at all, because the network swallows every packet.
const ANSWER_WAIT: Duration = Duration::from_secs(7);
/// The same for work on whole tables (`AnyTransaction::take_long`): a restore's statements, and what bulk inserts wait for.
const BULK_WAIT: Duration = Duration::from_mins(11);
/// How long a connection that is given back may take to say that it is still good.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

/// What PostgreSQL answers, or that it does not. In a box, so that every caller's future stays small.
fn answered<'a, T>(
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send + 'a,
) -> impl Future<Output = Result<T, sqlx::Error>> + Send + 'a
where
    T: 'a,
{
    answered_within(ANSWER_WAIT, answer)
}

fn answered_within<'a, T>(
    wait: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send + 'a,
) -> impl Future<Output = Result<T, sqlx::Error>> + Send + 'a
where
    T: 'a,
{
    let answer = Box::pin(answer);
    async move { tokio::time::timeout(wait, answer).await.unwrap_or_else(|_| Err(no_answer())) }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database did not answer in time"))
}
/// SQLite connections that read at the same time.
const SQLITE_READERS: usize = 4;

/// The connections that read an SQLite file; the one used last is used next, because its memory is warm.
///
/// Not sqlx's pool, which asks a connection before and after each use whether it is still there: for a file that is
/// two more changes of threads for each statement, three times the cost of most of ours (bench/README.md).
#[derive(Debug)]
pub(super) struct SqliteReaders {
    options: SqliteConnectOptions,
    places: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl SqliteReaders {
    async fn open(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let first = SqliteConnection::connect_with(&options).await?;
        Ok(Self { options, places: Semaphore::new(SQLITE_READERS), idle: Mutex::new(vec![first]) })
    }

    /// A connection for a long reading, beside the others.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        Ok(SqliteConnection::connect_with(&self.options).await?)
    }

    async fn fetch_all(
        &self,
        sql: impl sqlx::SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let place = tokio::time::timeout(WAIT, self.places.acquire()).await;
        let _place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await?,
        };
        let rows = bound!(sql, values).fetch_all(&mut connection).await?;
        // One that failed, or whose user went away in the middle, is closed instead.
        self.idle().push(connection);
        Ok(rows.into_iter().map(Row::Sqlite).collect())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value bound to `$n`.
#[derive(Clone, Debug)]
pub enum Value {
    /// TEXT.
    Text(String),
    /// BIGINT.
    Int(i64),
    /// TEXT or NULL.
    OptText(Option<String>),
    /// BIGINT or NULL.
    OptInt(Option<i64>),
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $to:expr),* $(,)?) => { $(
        impl From<$from> for Value { fn from($v: $from) -> Self { $to } }
    )* };
}
value_from! {
    &str => |v| Self::Text(v.to_owned()),
    &String => |v| Self::Text(v.clone()),
    String => |v| Self::Text(v),
    i64 => |v| Self::Int(v),
    bool => |v| Self::Int(i64::from(v)),
    Option<String> => |v| Self::OptText(v),
    Option<&str> => |v| Self::OptText(v.map(str::to_owned)),
    Option<i64> => |v| Self::OptInt(v),
    doorward_core::time::Timestamp => |v| Self::Int(v.millis()),
    doorward_core::ids::AccessTokenId => |v| Self::Text(v.to_string()),
    doorward_core::ids::AccountId => |v| Self::Text(v.to_string()),
    doorward_core::ids::OrganizationId => |v| Self::Text(v.to_string()),
    doorward_core::ids::ConnectionId => |v| Self::Text(v.to_string()),
    doorward_core::ids::SessionId => |v| Self::Text(v.to_string()),
    doorward_core::ids::ApiTokenId => |v| Self::Text(v.to_string()),
    doorward_core::ids::RevisionNumber => |v| Self::Int(v.0),
    doorward_core::secret::TokenHash => |v| Self::Text(v.to_text()),
}

/// The values of one statement, in the order of `$1`, `$2`, …
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::Value::from($value)),*] };
}

/// One row of an answer; columns are read by name and type.
pub enum Row {
    #[doc(hidden)]
    Sqlite(SqliteRow),
    #[doc(hidden)]
    Postgres(PgRow),
}

macro_rules! column {
    ($self:ident, $name:ident, $type:ty) => {
        match $self {
            Row::Sqlite(row) => row.try_get::<Option<$type>, _>($name),
            Row::Postgres(row) => row.try_get::<Option<$type>, _>($name),
        }
        .map_err(|error| StoreError::Corrupt(format!("column {}: {error}", $name)))
    };
}

impl Row {
    /// A TEXT column that is never NULL.
    pub fn text(&self, name: &'static str) -> Result<String, StoreError> {
        self.opt_text(name)?.ok_or_else(|| unexpected_null(name))
    }

    /// A BIGINT column that is never NULL.
    pub fn int(&self, name: &'static str) -> Result<i64, StoreError> {
        self.opt_int(name)?.ok_or_else(|| unexpected_null(name))
    }

    /// A TEXT column that may be NULL.
    pub fn opt_text(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        if self.is_null(name)? { Ok(None) } else { column!(self, name, String) }
    }

    /// A BIGINT column that may be NULL.
    pub fn opt_int(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        if self.is_null(name)? { Ok(None) } else { column!(self, name, i64) }
    }

    /// A flag.
    pub fn flag(&self, name: &'static str) -> Result<bool, StoreError> {
        Ok(self.int(name)? != 0)
    }

    /// A point in time.
    pub fn time(&self, name: &'static str) -> Result<doorward_core::time::Timestamp, StoreError> {
        self.int(name).map(doorward_core::time::Timestamp::from_millis)
    }

    /// A TEXT column that parses as `T`: an id, a role.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| StoreError::Corrupt(format!("column {name}")))
    }

    /// A TEXT column that `parse` turns into one of a few known values.
    pub fn known<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(&self.text(name)?).ok_or_else(|| StoreError::Corrupt(format!("column {name}")))
    }

    fn is_null(&self, name: &'static str) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(row) => row.try_get_raw(name).map(|value| value.is_null()),
            Self::Postgres(row) => row.try_get_raw(name).map(|value| value.is_null()),
        }
        .map_err(|error| StoreError::Corrupt(format!("column {name}: {error}")))
    }
}

fn unexpected_null(name: &str) -> StoreError {
    StoreError::Corrupt(format!("column {name} is NULL"))
}

/// Whatever can be asked: the pool of readers, or a transaction that must see its own writes.
pub trait Query: Send {
    /// All rows of the answer.
    fn fetch_all(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// The row of the answer, if there is one.
    fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send;
}

/// Asks outside a transaction; each statement sees what is committed when it runs.
#[derive(Clone, Debug)]
pub struct Reader {
    database: Database,
    asked: Arc<AtomicU64>,
}

impl Reader {
    /// A reader whose statements are counted in `asked`.
    pub(super) fn new(database: Database, asked: Arc<AtomicU64>) -> Self {
        Self { database, asked }
    }

    /// A reader for what runs by itself, apart from any request.
    pub(super) fn uncounted(database: Database) -> Self {
        Self::new(database, Arc::default())
    }
}

impl Query for Reader {
    async fn fetch_all(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(match &self.database {
            Database::Sqlite { read, .. } => read.fetch_all(sql, values).await?,
            Database::Postgres(pool) => {
                answered(bound!(sql, values).fetch_all(pool)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(match &self.database {
            Database::Sqlite { read, .. } => read.fetch_all(sql, values).await?.into_iter().next(),
            Database::Postgres(pool) => {
                answered(bound!(sql, values).fetch_optional(pool)).await?.map(Row::Postgres)
            }
        })
    }
}

impl Reader {
    /// Rows of a statement that ends in a list of values: `head` is `SELECT … WHERE … IN (VALUES `, with `width` values
    /// for each group.
    pub(super) async fn fetch_listed(
        &mut self,
        head: &str,
        width: usize,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        let mut values = values.into_iter().peekable();
        while values.peek().is_some() {
            let some: Vec<Value> = values.by_ref().take(width * (VALUES_AT_ONCE / width)).collect();
            let sql = numbered(head, width, some.len() / width, ")");
            self.asked.fetch_add(1, Ordering::Relaxed);
            match &self.database {
                Database::Sqlite { read, .. } => found.extend(read.fetch_all(sql, some).await?),
                Database::Postgres(pool) => {
                    let rows = answered(bound!(sql, some).persistent(false).fetch_all(pool)).await?;
                    found.extend(rows.into_iter().map(Row::Postgres));
                }
            }
        }
        Ok(found)
    }
}

pub(super) enum AnyTransaction {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>, Duration),
}

impl AnyTransaction {
    /// Lets each statement, and the commit, take minutes instead of seconds.
    pub(super) async fn take_long(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(tx, wait) = self {
            sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut **tx).await?;
            sqlx::query("SET LOCAL lock_timeout = '30s'").execute(&mut **tx).await?;
            *wait = BULK_WAIT;
        }
        Ok(())
    }

    /// Runs a statement that answers no rows; how many it touched.
    pub(super) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        crash::point();
        Ok(match self {
            Self::Sqlite(tx) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx, wait) => {
                answered_within(*wait, bound!(sql, values).execute(&mut **tx)).await?.rows_affected()
            }
        })
    }

    pub(super) async fn fetch_all(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        crash::point();
        Ok(match self {
            Self::Sqlite(tx) => {
                bound!(sql, values).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx, wait) => {
                let rows = answered_within(*wait, bound!(sql, values).fetch_all(&mut **tx)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub(super) async fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        crash::point();
        Ok(match self {
            Self::Sqlite(tx) => bound!(sql, values).fetch_optional(&mut **tx).await?.map(Row::Sqlite),
            Self::Postgres(tx, wait) => {
                let row = bound!(sql, values).fetch_optional(&mut **tx);
                answered_within(*wait, row).await?.map(Row::Postgres)
            }
        })
    }

    /// Inserts many rows with few statements: `head` is `INSERT INTO table (columns) VALUES `, and `values` holds
    /// `width` values for each row.
    pub(super) async fn insert_rows(
        &mut self,
        head: &str,
        width: usize,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        let width = width.max(1);
        let mut values = values.into_iter().peekable();
        while values.peek().is_some() {
            let some: Vec<Value> = values.by_ref().take(width * (VALUES_AT_ONCE / width).max(1)).collect();
            let sql = numbered(head, width, some.len() / width, "");
            match self {
                Self::Sqlite(tx) => {
                    bound!(sql, some).persistent(false).execute(&mut **tx).await?.rows_affected()
                }
                Self::Postgres(tx, wait) => {
                    let inserted = bound!(sql, some).persistent(false).execute(&mut **tx);
                    answered_within(*wait, inserted).await?.rows_affected()
                }
            };
        }
        Ok(())
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        crash::point();
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx, wait) => answered_within(wait, tx.commit()).await?,
        }
        crash::point();
        Ok(())
    }
}

impl Database {
    /// Opens (and makes, where there is none) an SQLite file.
    pub(super) async fn open_sqlite(path: &Path, synchronous: Synchronous) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|error| StoreError::Unavailable(sqlx::Error::Io(error)))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match synchronous {
                Synchronous::Full => SqliteSynchronous::Full,
                Synchronous::Normal => SqliteSynchronous::Normal,
            })
            .foreign_keys(true)
            .busy_timeout(WAIT)
            // The pages that every sign-in writes are copied into the file once in 16 MB of log instead of 4.
            .pragma("wal_autocheckpoint", "4000")
            .pragma("trusted_schema", "OFF");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WAIT)
            // A file does not go away between two uses (as in `SqliteReaders`).
            .test_before_acquire(false)
            // On a full disk SQLite may end a transaction by itself; sqlx then rolls back what is no more, and believes
            // for ever that one is open. Such a connection is closed, or no write would ever succeed again.
            .before_acquire(|connection, _| {
                let is_free = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_free) })
            })
            .connect_with(options.clone())
            .await?;
        let read = Arc::new(SqliteReaders::open(options.read_only(true)).await?);
        Ok(Self::Sqlite { write, read })
    }

    /// Connects to PostgreSQL.
    pub(super) async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?.application_name("doorward").options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("client_encoding", "UTF8"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(WAIT)
            // The pool asks a connection that is given back whether it is good, and waits for ever. One that does not
            // answer must not keep its place.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let pong = tokio::time::timeout(RELEASE_WAIT, connection.ping()).await;
                    pong.unwrap_or_else(|_| Err(no_answer())).map(|()| true)
                })
            })
            .connect_with(options)
            .await?;
        Ok(Self::Postgres(pool))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(super) async fn begin(&self) -> Result<AnyTransaction, StoreError> {
        Ok(match self {
            Self::Sqlite { write, .. } => AnyTransaction::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => AnyTransaction::Postgres(answered(pool.begin()).await?, ANSWER_WAIT),
        })
    }
}
