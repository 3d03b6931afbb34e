//! Every column that holds sealed values, in one list: a rotation seals each of them anew.
//!
//! `key_check` is not among them: it has a row of its own for each master key. A test compares the list with what a
//! whole run leaves in the database, so a column that is forgotten here is found.

use super::database::{Query as _, StoreError};
use super::{Store, Transaction, load_known_keys};
use crate::sealing::{Place, Sealing, SealingError, sealed_with};
use crate::values;
use doorward_core::time::Timestamp;

/// Values that are sealed anew in one transaction: writers wait for milliseconds only.
const BATCH: i64 = 100;

/// One column of sealed values. A row is named by a text and a number; where a text is enough the number is 0.
#[derive(Debug)]
pub struct SealedColumn {
    /// Its table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row as the seal names it (`Place::row`).
    row: fn(&str, i64) -> String,
    /// `a`, `b` and `sealed` of the rows after ($1, $2), in order, at most $3.
    page: &'static str,
    /// Puts $3 in the place of $4 in the row ($1, $2).
    replace: &'static str,
}

/// A column whose rows are named by one text, in the table and in the seal alike.
macro_rules! named_by_a_text {
    ($table:literal, $key:literal, $column:literal) => {
        SealedColumn {
            table: $table,
            column: $column,
            row: |key, _| key.to_owned(),
            page: concat!(
                "SELECT ",
                $key,
                " AS a, CAST(0 AS BIGINT) AS b, ",
                $column,
                " AS sealed FROM ",
                $table,
                " WHERE (",
                $key,
                ", 0) > ($1, $2) ORDER BY ",
                $key,
                " LIMIT $3"
            ),
            replace: concat!(
                "UPDATE ",
                $table,
                " SET ",
                $column,
                " = $3 WHERE ",
                $key,
                " = $1 AND $2 = 0 AND ",
                $column,
                " = $4"
            ),
        }
    };
}

/// All of them.
pub const SEALED_COLUMNS: &[SealedColumn] = &[
    SealedColumn {
        table: "revision",
        column: "client_secret",
        row: |connection, number| format!("{connection}.{number}"),
        page: "SELECT connection_id AS a, number AS b, client_secret AS sealed FROM revision \
               WHERE (connection_id, number) > ($1, $2) ORDER BY connection_id, number LIMIT $3",
        replace: "UPDATE revision SET client_secret = $3 WHERE connection_id = $1 AND number = $2 \
                  AND client_secret = $4",
    },
    named_by_a_text!("attempt", "state_hash", "sealed"),
    named_by_a_text!("audit_key", "id", "sealed"),
    named_by_a_text!("audit_mark", "id", "sealed"),
    named_by_a_text!("join_link", "organization_id", "sealed"),
    named_by_a_text!("assertion_key", "kid", "private_key"),
];

/// What a round over all sealed values found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resealed {
    /// Values looked at.
    pub seen: u64,
    /// Values sealed anew.
    pub resealed: u64,
    /// What did not open and is left as it is: it keeps nothing else from being sealed anew.
    pub spoiled: Vec<Spoiled>,
}

/// A sealed value that does not open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoiled {
    /// Where, as `table.column`.
    pub place: String,
    /// The row, as the seal names it.
    pub row: String,
    /// The key that sealed it, if the store uses it no more: somebody put an old row back. `None`: it was changed or
    /// moved.
    pub sealed_with: Option<String>,
}

impl Store {
    /// Seals anew what is not sealed with the newest key, a small batch at a time. Interrupted, the next run goes on:
    /// what is done is seen by its key id. A value that somebody replaces meanwhile is left as he made it.
    pub async fn reseal(&self, sealing: &Sealing, now: Timestamp) -> Result<Resealed, StoreError> {
        let newest = sealing.key_id();
        let known = load_known_keys(&mut self.reader()).await?;
        let mut report = Resealed::default();
        for column in SEALED_COLUMNS {
            let (mut a, mut b) = (String::new(), 0);
            loop {
                let rows = self.reader().fetch_all(column.page, values![&a, b, BATCH]).await?;
                let Some(last) = rows.last() else { break };
                (a, b) = (last.text("a")?, last.int("b")?);
                let mut tx = self.begin().await?;
                for row in &rows {
                    report.seen += 1;
                    let sealed = row.text("sealed")?;
                    if sealed_with(&sealed) == Some(&*newest) {
                        continue;
                    }
                    let (a, b) = (row.text("a")?, row.int("b")?);
                    let sealed_with = match tx.reseal_one(column, sealing, (&a, b), &sealed).await {
                        Ok(done) => {
                            report.resealed += u64::from(done);
                            continue;
                        }
                        Err(StoreError::Sealing(SealingError::DoesNotOpen)) => None,
                        // A key that the store does use is missing here: that is no fault of the row.
                        Err(StoreError::Sealing(SealingError::OtherKey { found, .. }))
                            if known.iter().all(|known| known.id != found) =>
                        {
                            Some(found)
                        }
                        Err(error) => return Err(error),
                    };
                    let place = format!("{}.{}", column.table, column.column);
                    report.spoiled.push(Spoiled { place, row: (column.row)(&a, b), sealed_with });
                }
                tx.commit(now).await?;
            }
        }
        Ok(report)
    }
}

impl Transaction {
    async fn reseal_one(
        &mut self,
        column: &SealedColumn,
        sealing: &Sealing,
        (a, b): (&str, i64),
        sealed: &str,
    ) -> Result<bool, StoreError> {
        let row = (column.row)(a, b);
        let place = Place { table: column.table, column: column.column, row: &row };
        let anew = sealing.seal(place, &sealing.open_sealed(place, sealed)?)?;
        Ok(self.execute(column.replace, values![a, b, anew, sealed]).await? > 0)
    }
}
