//! The numbered list of schema changes, applied in order, on both databases from one text.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, SqlSafeStr as _};

use super::database::{AnyTransaction, Database, Query, Reader, StoreError};

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "start", include_str!("../../../../migrations/0001_start.sql")),
    (2, "linking", include_str!("../../../../migrations/0002_linking.sql")),
    (3, "people", include_str!("../../../../migrations/0003_people.sql")),
    (4, "audit_chain", include_str!("../../../../migrations/0004_audit_chain.sql")),
    (5, "keeping", include_str!("../../../../migrations/0005_keeping.sql")),
    (6, "throttle", include_str!("../../../../migrations/0006_throttle.sql")),
    (7, "indexes", include_str!("../../../../migrations/0007_indexes.sql")),
    (8, "assertion", include_str!("../../../../migrations/0008_assertion.sql")),
    (9, "audit_mark", include_str!("../../../../migrations/0009_audit_mark.sql")),
    (10, "key_order", include_str!("../../../../migrations/0010_key_order.sql")),
    (11, "access", include_str!("../../../../migrations/0011_access.sql")),
    (12, "access_tokens", include_str!("../../../../migrations/0012_access_tokens.sql")),
    (13, "api_tokens", include_str!("../../../../migrations/0013_api_tokens.sql")),
    (15, "sso_failures", include_str!("../../../../migrations/0015_sso_failures.sql")),
    (
        16,
        "counts_and_former_members",
        include_str!("../../../../migrations/0016_counts_and_former_members.sql"),
    ),
];

fn migrator() -> Migrator {
    Migrator::with_migrations(
        MIGRATIONS
            .iter()
            .map(|&(version, name, sql)| {
                Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect(),
    )
}

/// Brings the schema up to date. Two processes at once are fine: on SQLite one exclusive transaction covers
/// everything (sqlx takes no lock there), on PostgreSQL an advisory lock does.
pub(super) async fn migrate(database: &Database) -> Result<(), StoreError> {
    refuse_foreign(database).await?;
    let outcome = match database {
        Database::Sqlite { write, .. } => {
            let mut connection = write.acquire().await?;
            let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await?;
            let outcome = migrator().run_direct(None, &mut *tx, false).await;
            if outcome.is_ok() {
                tx.commit().await?;
            }
            outcome
        }
        Database::Postgres(pool) => {
            let mut connection = pool.acquire().await?;
            migrator().run_direct(None, &mut *connection, false).await
        }
    };
    outcome.map_err(|error| match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => newer(),
        error => StoreError::Schema(error.to_string()),
    })
}

fn newer() -> StoreError {
    StoreError::Schema("it was made by a newer doorward: use that one".to_owned())
}

fn older() -> StoreError {
    StoreError::Schema("it was made by an older doorward: run doorward migrate".to_owned())
}

/// Whether the file is another program's: it has tables, and none of them is ours. Ours would be made beside them.
async fn refuse_foreign(database: &Database) -> Result<(), StoreError> {
    let Database::Sqlite { .. } = database else { return Ok(()) };
    let sql = "SELECT name, (SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations') AS ours \
               FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' LIMIT 1";
    match Reader::uncounted(database.clone()).fetch_optional(sql, Vec::new()).await? {
        Some(row) if row.int("ours")? == 0 => Err(StoreError::Schema(format!(
            "it is another program's database: it has a table {:?} and none of ours",
            row.text("name")?
        ))),
        _ => Ok(()),
    }
}

/// Whether the newest migration that was applied is this binary's newest: one row by its key.
pub(super) async fn ask_newest(query: &mut impl Query) -> Result<(), StoreError> {
    let sql = "SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 1";
    let row = query.fetch_optional(sql, Vec::new()).await?.ok_or_else(older)?;
    match (row.int("version")?, MIGRATIONS.last()) {
        (found, Some(&(known, ..))) if found == known => Ok(()),
        (found, Some(&(known, ..))) if found > known => Err(newer()),
        _ => Err(older()),
    }
}

/// Whether this binary knows the schema of that number.
pub(super) fn is_known(version: i64) -> bool {
    MIGRATIONS.iter().any(|&(known, ..)| known == version)
}

/// Brings the schema up to `version`, or up to date, inside a transaction that is somebody else's to end.
pub(super) async fn migrate_in(tx: &mut AnyTransaction, version: Option<i64>) -> Result<(), StoreError> {
    match tx {
        AnyTransaction::Sqlite(tx) => migrator().run_direct(version, &mut **tx, false).await,
        AnyTransaction::Postgres(tx, _) => migrator().run_direct(version, &mut **tx, false).await,
    }
    .map_err(|error| StoreError::Schema(error.to_string()))
}

/// Whether the schema is exactly the one of this binary; else what is wrong with it.
pub(super) async fn check(database: &Database) -> Result<(), StoreError> {
    let rows = Reader::uncounted(database.clone())
        .fetch_all("SELECT version FROM _sqlx_migrations ORDER BY version", Vec::new())
        .await
        .map_err(|_| StoreError::Schema("it has no tables yet: run doorward migrate".to_owned()))?;
    let found = rows.iter().map(|row| row.int("version")).collect::<Result<Vec<_>, _>>()?;
    let known: Vec<i64> = MIGRATIONS.iter().map(|&(version, ..)| version).collect();
    if found == known {
        Ok(())
    } else if found.iter().any(|version| !known.contains(version)) {
        Err(newer())
    } else {
        Err(older())
    }
}
