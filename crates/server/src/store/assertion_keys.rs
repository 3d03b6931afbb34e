//! The keys that sign the identity assertion: sealed, published before they sign and after they have signed.
//!
//! Invariant: what is published follows from the sealed half. `public_x` and `public_y` are written for nodes of an older
//! version and never read: whoever writes to the database could put a key of his own there.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};

use super::Transaction;
use super::database::{Query, StoreError};
use crate::sealing::{Place, Sealing, SealingError};
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
    public: (String, String),
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
}

impl AssertionKey {
    /// The key with this private half; `None` if that is no key on P-256 in PKCS #8.
    pub fn new(
        kid: String,
        private_key: Secret,
        created_at: Timestamp,
        signs_from: Timestamp,
    ) -> Option<Self> {
        let der = URL_SAFE_NO_PAD.decode(private_key.expose()).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()?;
        // An uncompressed point: 4, x, y.
        let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
        let public = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Some(Self { kid, private_key, public, created_at, signs_from })
    }

    /// The public half: the point's x and y on P-256, in Base64url.
    pub fn public(&self) -> (&str, &str) {
        (&self.public.0, &self.public.1)
    }
}

/// What the table holds.
#[derive(Clone, Debug, Default)]
pub struct AssertionKeys {
    /// All good keys, the newest first.
    pub good: Vec<AssertionKey>,
    /// The names of rows that we did not write so: their private half does not open, or is no key.
    pub corrupt: Vec<String>,
}

fn place(kid: &str) -> Place<'_> {
    Place { table: "assertion_key", column: "private_key", row: kid }
}

/// All keys. Refused where one is sealed with a master key that this node's file lacks: that row may be a good one.
pub async fn load_assertion_keys(
    query: &mut impl Query,
    sealing: &Sealing,
) -> Result<AssertionKeys, StoreError> {
    let sql = "SELECT kid, private_key, created_at, signs_from FROM assertion_key \
               ORDER BY signs_from DESC, kid";
    let mut keys = AssertionKeys::default();
    for row in &query.fetch_all(sql, Vec::new()).await? {
        let kid = row.text("kid")?;
        let private_key = match sealing.open_sealed(place(&kid), &row.text("private_key")?) {
            Ok(private_key) => private_key,
            Err(SealingError::DoesNotOpen) => {
                keys.corrupt.push(kid);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match AssertionKey::new(kid.clone(), private_key, row.time("created_at")?, row.time("signs_from")?) {
            Some(key) => keys.good.push(key),
            None => keys.corrupt.push(kid),
        }
    }
    Ok(keys)
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
