//! Tokens of organizations for the JSON API: made, listed, used, revoked (rules 6, 7 and 14).
//!
//! Of a token only the hash is kept. Whether one still counts is judged by `ApiToken::is_good`, not by a statement, so
//! that a refusal can't come from a clock of the database.

use doorward_core::api_scope::ApiScope;
use doorward_core::ids::{ApiTokenId, OrganizationId};
use doorward_core::name::Name;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::database::{Query, Row, StoreError};
use super::{Organization, Plan, Transaction};
use crate::values;

/// A token ends at the latest after this.
pub const API_TOKEN_LIFETIME_MAX: Lifetime = Lifetime::from_days(365);
/// Tokens of one organization.
pub const API_TOKENS_MAX: i64 = 50;
/// How often a token's use is noted.
const TOUCH_EVERY: Lifetime = Lifetime::from_hours(1);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// Whose things it reads.
    pub organization: OrganizationId,
    /// Hash of the token.
    pub token: TokenHash,
    /// What it is called in lists.
    pub name: String,
    /// What it may read.
    pub scopes: Vec<ApiScope>,
    /// Who made it.
    pub created_by_name: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A token as kept.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// What it is called in lists.
    pub name: String,
    /// What it may read.
    pub scopes: Vec<ApiScope>,
    /// Who made it.
    pub created_by_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_used_at: Option<Timestamp>,
}

impl ApiToken {
    /// Whether it has not ended.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.created_at <= now && now < self.expires_at
    }

    /// Whether its use is to be noted.
    pub fn is_to_be_touched(&self, now: Timestamp) -> bool {
        self.last_used_at.is_none_or(|at| now.since(at) > TOUCH_EVERY)
    }
}

fn api_token(row: &Row) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: row.parsed("id")?,
        name: row.text("name")?,
        // A scope that this version doesn't know opens nothing.
        scopes: row.text("scopes")?.split(' ').filter_map(ApiScope::from_text).collect(),
        created_by_name: row.text("created_by_name")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.opt_int("last_used_at")?.map(Timestamp::from_millis),
    })
}

/// The token of this hash with its organization, unless that was deleted; it may have ended.
pub async fn load_api_token(
    query: &mut impl Query,
    token: TokenHash,
) -> Result<Option<(ApiToken, Organization)>, StoreError> {
    let sql = "SELECT t.id, t.name, t.scopes, t.created_by_name, t.created_at, t.expires_at, t.last_used_at, \
               o.id AS organization_id, n.spelled, o.display_name, o.plan, o.session_timeout FROM api_token t \
               JOIN organization o ON o.id = t.organization_id JOIN name n ON n.name_key = o.name_key \
               WHERE t.token_hash = $1 AND o.deleted_at IS NULL";
    let Some(row) = query.fetch_optional(sql, values![token]).await? else { return Ok(None) };
    let organization = Organization {
        id: row.parsed("organization_id")?,
        name: Name::from_store(row.text("spelled")?),
        display_name: row.text("display_name")?,
        plan: row.known("plan", Plan::from_text)?,
        session_timeout: Lifetime::from_millis(row.int("session_timeout")?),
    };
    Ok(Some((api_token(&row)?, organization)))
}

/// The tokens of an organization, the newest first, those that have ended too.
pub async fn load_api_tokens(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Vec<ApiToken>, StoreError> {
    let sql = "SELECT id, name, scopes, created_by_name, created_at, expires_at, last_used_at FROM api_token \
               WHERE organization_id = $1 ORDER BY created_at DESC, id LIMIT 500";
    query.fetch_all(sql, values![organization]).await?.iter().map(api_token).collect()
}

impl Transaction {
    /// Keeps a token. `false`: the organization has too many. Lock the organization first.
    pub async fn insert_api_token(&mut self, new: &NewApiToken, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM api_token WHERE organization_id = $1";
        let there = match self.fetch_optional(sql, values![new.organization]).await? {
            Some(row) => row.int("n")?,
            None => 0,
        };
        if there >= API_TOKENS_MAX {
            return Ok(false);
        }
        let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        self.execute(
            "INSERT INTO api_token (id, organization_id, token_hash, name, scopes, created_by_name, created_at, \
             expires_at, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)",
            values![
                new.id,
                new.organization,
                new.token,
                &new.name,
                scopes.join(" "),
                &new.created_by_name,
                now,
                new.expires_at
            ],
        )
        .await?;
        Ok(true)
    }

    /// Deletes a token of this organization: its name, or `None` if there is none of this id.
    pub async fn delete_api_token(
        &mut self,
        organization: OrganizationId,
        id: ApiTokenId,
    ) -> Result<Option<String>, StoreError> {
        let sql = "DELETE FROM api_token WHERE id = $1 AND organization_id = $2 RETURNING name";
        self.fetch_optional(sql, values![id, organization]).await?.map(|row| row.text("name")).transpose()
    }

    /// Notes that a token was used.
    pub async fn touch_api_token(&mut self, id: ApiTokenId, now: Timestamp) -> Result<(), StoreError> {
        self.execute("UPDATE api_token SET last_used_at = $2 WHERE id = $1", values![id, now]).await?;
        Ok(())
    }
}
