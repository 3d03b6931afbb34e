//! The keys that sign the identity assertion: sealed, published before they sign and after they have signed.

use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};

use super::Transaction;
use super::database::{Query, StoreError};
use crate::sealing::{Place, Sealing};
use crate::values;

/// A new key is made when the newest is this old.
pub const ASSERTION_KEY_AGE: Lifetime = Lifetime::from_days(90);
/// A key is published this long before it signs, and its predecessor as long after it has signed: longer than anybody
/// keeps a key set.
pub const ASSERTION_KEY_OVERLAP: Lifetime = Lifetime::from_days(1);

/// One key.
#[derive(Clone, Debug)]
pub struct AssertionKey {
    /// Names it in a token's header.
    pub kid: String,
    /// PKCS #8, in Base64url.
    pub private_key: Secret,
    /// The point's coordinates on P-256, in Base64url.
    pub public: (String, String),
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
}

fn place(kid: &str) -> Place<'_> {
    Place { table: "assertion_key", column: "private_key", row: kid }
}

/// All keys, the newest first.
pub async fn load_assertion_keys(
    query: &mut impl Query,
    sealing: &Sealing,
) -> Result<Vec<AssertionKey>, StoreError> {
    let sql = "SELECT kid, private_key, public_x, public_y, created_at, signs_from FROM assertion_key \
               ORDER BY signs_from DESC, kid";
    let rows = query.fetch_all(sql, Vec::new()).await?;
    rows.iter()
        .map(|row| {
            let kid = row.text("kid")?;
            Ok(AssertionKey {
                private_key: sealing.open_sealed(place(&kid), &row.text("private_key")?)?,
                public: (row.text("public_x")?, row.text("public_y")?),
                created_at: row.time("created_at")?,
                signs_from: row.time("signs_from")?,
                kid,
            })
        })
        .collect()
}

impl Transaction {
    /// Adds a key, and drops those that neither sign nor are published any more.
    pub async fn insert_assertion_key(
        &mut self,
        key: &AssertionKey,
        sealing: &Sealing,
    ) -> Result<(), StoreError> {
        let sealed = sealing.seal(place(&key.kid), &key.private_key)?;
        self.execute(
            "INSERT INTO assertion_key (kid, private_key, public_x, public_y, created_at, signs_from) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![&key.kid, sealed, &key.public.0, &key.public.1, key.created_at, key.signs_from],
        )
        .await?;
        // The predecessor signs until the new key does; what is older than it has had its time.
        self.execute(
            "DELETE FROM assertion_key WHERE signs_from < (SELECT MAX(signs_from) FROM assertion_key \
             WHERE signs_from < $1)",
            values![key.signs_from],
        )
        .await?;
        Ok(())
    }

    /// Makes way for one maker of a key at a time.
    pub async fn lock_assertion_keys(&mut self) -> Result<(), StoreError> {
        self.execute("UPDATE change_counter SET n = n WHERE id = 1", Vec::new()).await?;
        Ok(())
    }
}
