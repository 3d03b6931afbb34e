//! The SSO join link of an organization (hub-sso.md M9): at most one, which can be rotated, limited and turned off.
//!
//! It is found by its hash and kept sealed beside it, because admins are shown it again: it opens nothing without the
//! organization's provider. Whether SSO is live is the connection's business, not this file's.

use doorward_core::ids::{AccountId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;

use super::Transaction;
use super::audit_log::Actor;
use super::database::{Query, StoreError};
use super::invitations::maker;
use crate::sealing::{Place, Sealing};
use crate::values;

/// Most people whom a limited join link lets in.
pub const JOIN_LINK_USES_MAX: i64 = 100_000;

/// The join link of an organization.
#[derive(Clone, Debug)]
pub struct JoinLink {
    /// Hash of its token.
    pub token: TokenHash,
    /// The role of whoever joins by it; never admin.
    pub role: Role,
    /// How many people may still join by it; `None`: without limit.
    pub uses_left: Option<i64>,
    /// Who made it; `None` for the operator.
    pub created_by: Option<AccountId>,
    /// The maker's name at that time.
    pub created_by_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    sealed: String,
}

fn place(organization: &str) -> Place<'_> {
    Place { table: "join_link", column: "sealed", row: organization }
}

impl JoinLink {
    /// Its token, for an admin to copy.
    pub fn open(&self, organization: OrganizationId, sealing: &Sealing) -> Result<Secret, StoreError> {
        Ok(sealing.open_sealed(place(&organization.to_string()), &self.sealed)?)
    }

    /// Whether somebody may still join by it.
    pub fn has_uses(&self) -> bool {
        self.uses_left.is_none_or(|left| left > 0)
    }
}

/// The join link of an organization, if it is turned on.
pub async fn load_join_link(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Option<JoinLink>, StoreError> {
    let sql = "SELECT token_hash, sealed, role, uses_left, created_by, created_by_name, created_at FROM join_link \
               WHERE organization_id = $1";
    let Some(row) = query.fetch_optional(sql, values![organization]).await? else { return Ok(None) };
    let created_by = match row.opt_text("created_by")? {
        None => None,
        Some(_) => Some(row.parsed("created_by")?),
    };
    Ok(Some(JoinLink {
        token: row.known("token_hash", TokenHash::from_text)?,
        role: row.parsed("role")?,
        uses_left: row.opt_int("uses_left")?,
        created_by,
        created_by_name: row.text("created_by_name")?,
        created_at: row.time("created_at")?,
        sealed: row.text("sealed")?,
    }))
}

/// The join link's hash by which somebody came for whom an identity is held.
pub async fn load_held_join(
    query: &mut impl Query,
    handle: TokenHash,
) -> Result<Option<TokenHash>, StoreError> {
    let sql = "SELECT join_hash FROM held_identity WHERE handle_hash = $1";
    let row = query.fetch_optional(sql, values![handle]).await?;
    let text = row.map(|row| row.opt_text("join_hash")).transpose()?.flatten();
    Ok(text.as_deref().and_then(TokenHash::from_text))
}

impl Transaction {
    /// Notes by which join link somebody came for whom an identity is held.
    pub async fn note_held_join(&mut self, handle: TokenHash, link: TokenHash) -> Result<(), StoreError> {
        let sql = "UPDATE held_identity SET join_hash = $2 WHERE handle_hash = $1 AND purpose = 'join'";
        self.execute(sql, values![handle, link]).await?;
        Ok(())
    }

    /// Makes the join link, in place of the one before.
    pub async fn put_join_link(
        &mut self,
        organization: OrganizationId,
        (token, sealing): (&Secret, &Sealing),
        role: Role,
        uses: Option<i64>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = sealing.seal(place(&organization.to_string()), token)?;
        let (by, name) = maker(by);
        self.execute(
            "INSERT INTO join_link (organization_id, token_hash, sealed, role, uses_left, created_by, created_by_name, \
             created_at, sign_ups_left) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $5) \
             ON CONFLICT (organization_id) DO UPDATE SET token_hash = $2, sealed = $3, role = $4, uses_left = $5, \
             created_by = $6, created_by_name = $7, created_at = $8, sign_ups_left = $5",
            values![
                organization,
                token.hash(),
                sealed,
                role.as_str(),
                uses,
                by.map(|id| id.to_string()),
                name,
                now
            ],
        )
        .await?;
        Ok(())
    }

    /// Turns the join link off. Whether there was one.
    pub async fn delete_join_link(&mut self, organization: OrganizationId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM join_link WHERE organization_id = $1";
        Ok(self.execute(sql, values![organization]).await? > 0)
    }

    /// The join link of this token, if it lets somebody in now and whoever made it still could. Lock the organization
    /// first.
    pub async fn join_link_that_counts(
        &mut self,
        organization: OrganizationId,
        token: TokenHash,
    ) -> Result<Option<JoinLink>, StoreError> {
        let link = load_join_link(self, organization).await?;
        let Some(link) = link.filter(|link| link.token == token && link.has_uses()) else { return Ok(None) };
        if let Some(maker) = link.created_by
            && !self.may_still_invite(organization, maker, link.role).await?
        {
            return Ok(None);
        }
        Ok(Some(link))
    }

    /// Counts one use of a limited join link. Whether there was one left.
    pub async fn take_join_link_use(
        &mut self,
        organization: OrganizationId,
        token: TokenHash,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE join_link SET uses_left = uses_left - 1 WHERE organization_id = $1 AND token_hash = $2 \
                   AND (uses_left IS NULL OR uses_left > 0)";
        Ok(self.execute(sql, values![organization, token]).await? > 0)
    }
}
