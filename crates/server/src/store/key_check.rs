//! Which master key seals this store's secrets (conformance.md F24).

use doorward_core::secret::Secret;

use super::database::{Query, StoreError};
use super::{Store, Transaction};
use crate::sealing::{Place, Sealing, SealingError};
use crate::values;
use doorward_core::time::Timestamp;

/// The text that is sealed: what counts is that it opens.
const PROOF: &str = "doorward";

fn place(key_id: &str) -> Place<'_> {
    Place { table: "key_check", column: "sealed", row: key_id }
}

/// The id of the master key that seals this store; `None` before the first start.
pub async fn load_key_id(query: &mut impl Query) -> Result<Option<String>, StoreError> {
    let sql = "SELECT key_id FROM key_check ORDER BY key_id LIMIT 1";
    query.fetch_optional(sql, Vec::new()).await?.map(|row| row.text("key_id")).transpose()
}

impl Store {
    /// Whether `sealing` has the key that seals this store. Refused with both ids if not. The first key ever given is
    /// taken as the right one.
    pub async fn check_key(&self, sealing: &Sealing, now: Timestamp) -> Result<(), StoreError> {
        let sql = "SELECT key_id, sealed FROM key_check ORDER BY key_id LIMIT 1";
        if let Some(row) = self.reader().fetch_optional(sql, Vec::new()).await? {
            let (found, sealed) = (row.text("key_id")?, row.text("sealed")?);
            if found != sealing.key_id() {
                let expected = sealing.key_id().to_owned();
                return Err(StoreError::Sealing(SealingError::OtherKey { expected, found }));
            }
            return match sealing.open_sealed(place(&found), &sealed) {
                Ok(proof) if proof.expose() == PROOF => Ok(()),
                Ok(_) => Err(StoreError::Sealing(SealingError::DoesNotOpen)),
                Err(error) => Err(error.into()),
            };
        }
        let mut tx = self.begin().await?;
        tx.insert_key_id(sealing).await?;
        tx.commit(now).await
    }
}

impl Transaction {
    async fn insert_key_id(&mut self, sealing: &Sealing) -> Result<(), StoreError> {
        let sealed = sealing.seal(place(sealing.key_id()), &Secret::new(PROOF.to_owned()))?;
        let sql = "INSERT INTO key_check (key_id, sealed) VALUES ($1, $2) ON CONFLICT (key_id) DO NOTHING";
        self.execute(sql, values![sealing.key_id(), sealed]).await?;
        Ok(())
    }
}
