//! Personal access tokens, and for which organizations with SSO their owners have authorised them (docs/adr/0040).
//!
//! A token is kept as a hash. Where one ends, its authorisations end with it; who revokes gets the organizations that it
//! reached, so that their logs can say so. Never here: whether a token opens anything (core's `decide`).

use doorward_core::access_token::TOKENS_MAX;
use doorward_core::audit_event::AuditAction;
use doorward_core::ids::{AccessTokenId, AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::audit_log::AuditEntry;
use super::database::{Query, Row, StoreError};
use super::{Change, Organization, Transaction};
use crate::values;

/// How long a token that is over stays in its owner's list.
pub(super) const EXPIRED_KEPT: Lifetime = Lifetime::from_days(30);

/// A token to be kept.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Its id.
    pub id: AccessTokenId,
    /// Hash of the token.
    pub hash: TokenHash,
    /// Whose it is.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it is over.
    pub expires_at: Timestamp,
}

/// A token as its owner sees it.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Its id.
    pub id: AccessTokenId,
    /// What its owner calls it.
    pub name: String,
    /// The most that it gives.
    pub ceiling: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// When it was last used, to within an hour.
    pub last_used_at: Option<Timestamp>,
    /// The organizations for which it is authorised, and since when.
    pub authorizations: Vec<(OrganizationId, Timestamp)>,
}

/// A token that reaches an organization, as its admins see it.
#[derive(Clone, Debug)]
pub struct ReachingToken {
    /// Its id.
    pub id: AccessTokenId,
    /// What its owner calls it.
    pub name: String,
    /// Its owner.
    pub owner: Name,
    /// What it gives here: its owner's role, up to its ceiling.
    pub role: Role,
    /// When it is over.
    pub expires_at: Timestamp,
    /// When it was last used, anywhere, to within an hour.
    pub last_used_at: Option<Timestamp>,
    /// When its owner authorised it; nothing for one that needs no authorisation.
    pub authorized_at: Option<Timestamp>,
    /// When its owner last completed SSO, under the issuer of the authorisation.
    pub last_sso_at: Option<Timestamp>,
}

/// A token that has ended, or whose authorisation has.
#[derive(Clone, Debug)]
pub struct EndedToken {
    /// Its id.
    pub id: AccessTokenId,
    /// What its owner called it.
    pub name: String,
    /// Its owner's account.
    pub owner: AccountId,
    /// The organizations for which it was authorised, in one order whoever asks.
    pub organizations: Vec<OrganizationId>,
}

/// The tokens of an account, the newest first.
pub async fn load_access_tokens(
    query: &mut impl Query,
    account: AccountId,
) -> Result<Vec<AccessToken>, StoreError> {
    // Two statements, so that no number of authorisations hides a token.
    let sql = "SELECT id, name, ceiling, created_at, expires_at, last_used_at FROM access_token \
               WHERE account_id = $1 ORDER BY created_at DESC, id";
    let mut tokens = Vec::new();
    for row in query.fetch_all(sql, values![account]).await? {
        tokens.push(AccessToken {
            id: row.parsed("id")?,
            name: row.text("name")?,
            ceiling: row.parsed("ceiling")?,
            created_at: row.time("created_at")?,
            expires_at: row.time("expires_at")?,
            last_used_at: row.opt_int("last_used_at")?.map(Timestamp::from_millis),
            authorizations: Vec::new(),
        });
    }
    let sql = "SELECT z.token_id, z.organization_id, z.authorized_at FROM access_token t \
               JOIN token_authorization z ON z.token_id = t.id WHERE t.account_id = $1 \
               ORDER BY z.organization_id LIMIT 5000";
    for row in query.fetch_all(sql, values![account]).await? {
        let id: AccessTokenId = row.parsed("token_id")?;
        if let Some(token) = tokens.iter_mut().find(|token| token.id == id) {
            token.authorizations.push((row.parsed("organization_id")?, row.time("authorized_at")?));
        }
    }
    Ok(tokens)
}

/// The tokens that reach an organization, by owner, each owner's newest first; at most `limit` (at most 501), of those after
/// the token `after` of an owner (its name in lower case). `all`: its SSO is not enforced, so that those of all members do;
/// else only those that are authorised, and external collaborators'.
pub async fn load_reaching_tokens(
    query: &mut impl Query,
    organization: OrganizationId,
    all: bool,
    after: Option<(&str, AccessTokenId)>,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<ReachingToken>, StoreError> {
    let sql = "SELECT t.id, t.name, t.ceiling, t.expires_at, t.last_used_at, n.spelled, m.role, z.authorized_at, \
               CASE WHEN m.last_sso_epoch = z.epoch THEN m.last_sso_at END AS last_sso_at \
               FROM membership m JOIN account a ON a.id = m.account_id JOIN name n ON n.name_key = a.name_key \
               JOIN access_token t ON t.account_id = m.account_id \
               LEFT JOIN token_authorization z ON z.token_id = t.id AND z.organization_id = m.organization_id \
               WHERE m.organization_id = $1 AND m.role <> 'no_access' AND a.disabled = 0 AND t.expires_at > $3 \
               AND ($2 = 1 OR z.token_id IS NOT NULL \
               OR (m.external_collaborator = 1 AND (m.external_until IS NULL OR m.external_until > $3))) \
               AND (a.name_key > $5 OR (a.name_key = $5 AND t.id < $6)) \
               ORDER BY a.name_key, t.id DESC LIMIT $4";
    let (owner, token) =
        after.map_or((String::new(), String::new()), |(owner, id)| (owner.to_owned(), id.to_string()));
    let rows =
        query.fetch_all(sql, values![organization, all, now, limit.clamp(1, 501), owner, token]).await?;
    let time = |row: &Row, name| Ok::<_, StoreError>(row.opt_int(name)?.map(Timestamp::from_millis));
    rows.iter()
        .map(|row| {
            let (role, ceiling): (Role, Role) = (row.parsed("role")?, row.parsed("ceiling")?);
            Ok(ReachingToken {
                id: row.parsed("id")?,
                name: row.text("name")?,
                owner: Name::from_store(row.text("spelled")?),
                role: role.min(ceiling),
                expires_at: row.time("expires_at")?,
                last_used_at: time(row, "last_used_at")?,
                authorized_at: time(row, "authorized_at")?,
                last_sso_at: time(row, "last_sso_at")?,
            })
        })
        .collect()
}

/// For how many days after their owner's last SSO tokens reach an organization.
pub async fn load_token_sso_days(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<i64, StoreError> {
    let sql = "SELECT token_sso_days FROM organization WHERE id = $1";
    let row = query.fetch_optional(sql, values![organization]).await?;
    row.ok_or_else(|| StoreError::Corrupt("organization".to_owned()))?.int("token_sso_days")
}

impl Transaction {
    /// Keeps a token, unless its owner has as many as he may. Whether it did. Call it with the account locked
    /// (`lock_account`), so that two at once come one after the other, and with its session held
    /// (`browser_session_counts`).
    pub async fn insert_access_token(
        &mut self,
        token: &NewAccessToken,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM access_token WHERE account_id = $1";
        let row = self.fetch_optional(sql, values![token.account]).await?;
        if row.map_or(Ok(0), |row| row.int("n"))? >= TOKENS_MAX {
            return Ok(false);
        }
        self.execute(
            "INSERT INTO access_token (id, token_hash, account_id, name, ceiling, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            values![
                token.id,
                token.hash,
                token.account,
                &token.name,
                token.ceiling.as_str(),
                now,
                token.expires_at,
            ],
        )
        .await?;
        self.changed(Change::Account(token.account));
        Ok(true)
    }

    /// Ends a token of an account; nothing if it has no such token.
    pub async fn delete_access_token(
        &mut self,
        id: AccessTokenId,
        account: AccountId,
    ) -> Result<Option<EndedToken>, StoreError> {
        let Some(name) = self.hold_token(id, account).await? else { return Ok(None) };
        let organizations = self.organizations_of_token(id).await?;
        self.execute("DELETE FROM access_token WHERE id = $1", values![id]).await?;
        self.changed(Change::Account(account));
        Ok(Some(EndedToken { id, name, owner: account, organizations }))
    }

    /// Ends all tokens of an account.
    pub async fn delete_access_tokens_of(
        &mut self,
        account: AccountId,
    ) -> Result<Vec<EndedToken>, StoreError> {
        let sql = "SELECT id FROM access_token WHERE account_id = $1 ORDER BY created_at DESC, id";
        let mut ended = Vec::new();
        for row in self.fetch_all(sql, values![account]).await? {
            ended.extend(self.delete_access_token(row.parsed("id")?, account).await?);
        }
        Ok(ended)
    }

    /// The name of an account's token, with its row held until the transaction ends: it is not authorised anywhere while it
    /// ends, nor the reverse, so that each organization whose log tells that it is reached is told of the end too.
    async fn hold_token(
        &mut self,
        id: AccessTokenId,
        account: AccountId,
    ) -> Result<Option<String>, StoreError> {
        let sql = "UPDATE access_token SET name = name WHERE id = $1 AND account_id = $2 RETURNING name";
        self.fetch_optional(sql, values![id, account]).await?.map(|row| row.text("name")).transpose()
    }

    async fn organizations_of_token(&mut self, id: AccessTokenId) -> Result<Vec<OrganizationId>, StoreError> {
        let sql =
            "SELECT organization_id FROM token_authorization WHERE token_id = $1 ORDER BY organization_id";
        let rows = self.fetch_all(sql, values![id]).await?;
        rows.iter().map(|row| row.parsed("organization_id")).collect()
    }

    /// Authorises a token of an account for an organization, if this browser session of his has an SSO session there that
    /// began after `since`, under the live issuer; the token's name and ceiling. Call it with session and membership held
    /// (`browser_session_counts`, `hold_role`).
    pub async fn authorize_token(
        &mut self,
        id: AccessTokenId,
        account: AccountId,
        session: SessionId,
        organization: OrganizationId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Option<(String, Role)>, StoreError> {
        if self.hold_token(id, account).await?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT t.name, t.ceiling, s.epoch, s.authenticated_at FROM access_token t, sso_session s \
                   JOIN connection c ON c.organization_id = s.organization_id AND c.epoch = s.epoch \
                   WHERE t.id = $1 AND t.account_id = $2 AND t.expires_at > $6 AND s.session_id = $3 \
                   AND s.organization_id = $4 AND s.authenticated_at > $5 AND c.live IS NOT NULL";
        let v = values![id, account, session, organization, since, now];
        let Some(row) = self.fetch_optional(sql, v).await? else { return Ok(None) };
        let epoch = row.int("epoch")?;
        self.execute(
            "INSERT INTO token_authorization (token_id, organization_id, epoch, authorized_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (token_id, organization_id) \
             DO UPDATE SET epoch = $3, authorized_at = $4",
            values![id, organization, epoch, now],
        )
        .await?;
        // A session of before there were tokens was not noted when it began.
        self.note_sso(organization, account, epoch, row.time("authenticated_at")?).await?;
        self.changed(Change::Account(account));
        Ok(Some((row.text("name")?, row.parsed("ceiling")?)))
    }

    /// Takes the authorisation of a token for an organization back; nothing if there was none. `owner`: only of a token of
    /// his.
    pub async fn delete_token_authorization(
        &mut self,
        id: AccessTokenId,
        organization: OrganizationId,
        owner: Option<AccountId>,
    ) -> Result<Option<EndedToken>, StoreError> {
        let sql = "SELECT t.name, t.account_id FROM token_authorization z JOIN access_token t ON t.id = z.token_id \
                   WHERE z.token_id = $1 AND z.organization_id = $2";
        let Some(row) = self.fetch_optional(sql, values![id, organization]).await? else { return Ok(None) };
        let (name, of): (String, AccountId) = (row.text("name")?, row.parsed("account_id")?);
        let sql = "DELETE FROM token_authorization WHERE token_id = $1 AND organization_id = $2";
        if owner.is_some_and(|owner| owner != of) || self.execute(sql, values![id, organization]).await? == 0
        {
            return Ok(None);
        }
        self.changed(Change::Account(of));
        Ok(Some(EndedToken { id, name, owner: of, organizations: vec![organization] }))
    }

    /// Writes into the log of each organization that tokens reach it no longer. `by`: who did it, from where.
    pub async fn audit_ended_tokens(
        &mut self,
        ended: &[EndedToken],
        owner: &str,
        by: &AuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pairs = ended.iter().flat_map(|token| token.organizations.iter().map(move |id| (*id, token)));
        let mut pairs: Vec<(OrganizationId, &EndedToken)> = pairs.collect();
        // Logs are locked in one order, whoever writes into several.
        pairs.sort_by_key(|(organization, _)| *organization);
        for (organization, token) in pairs {
            let entry = AuditEntry {
                organization: Some(organization),
                action: AuditAction::OrgTokenRevoke,
                details: vec![
                    ("account", owner.to_owned()),
                    ("token", token.id.to_string()),
                    ("name", token.name.clone()),
                ],
                ..by.clone()
            };
            self.audit(entry, now).await?;
        }
        Ok(())
    }

    /// Ends the authorisations of an account's tokens for an organization, and forgets when he last completed its SSO.
    pub(super) async fn end_token_authorizations_of(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM token_authorization WHERE organization_id = $1 AND token_id IN \
             (SELECT id FROM access_token WHERE account_id = $2)",
            values![organization, account],
        )
        .await?;
        self.execute(
            "UPDATE membership SET last_sso_at = NULL, last_sso_epoch = NULL \
             WHERE organization_id = $1 AND account_id = $2",
            values![organization, account],
        )
        .await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Ends the authorisations of all tokens for an organization: its issuer is another one, or SSO is off. The new epoch
    /// already voids them in every cache.
    pub(super) async fn end_token_authorizations(
        &mut self,
        organization: OrganizationId,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM token_authorization WHERE organization_id = $1";
        self.execute(sql, values![organization]).await?;
        Ok(())
    }

    /// Notes when a member completed SSO.
    pub(super) async fn note_sso(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        epoch: i64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE membership SET last_sso_at = $4, last_sso_epoch = $3 WHERE organization_id = $1 \
             AND account_id = $2 AND (last_sso_at IS NULL OR last_sso_epoch <> $3 OR last_sso_at < $4)",
            values![organization, account, epoch, at],
        )
        .await?;
        Ok(())
    }

    /// Notes that a token was used.
    pub async fn touch_access_token(
        &mut self,
        id: AccessTokenId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE access_token SET last_used_at = $2 WHERE id = $1 \
                   AND (last_used_at IS NULL OR last_used_at < $2)";
        self.execute(sql, values![id, now]).await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// Sets for how many days after their owner's last SSO tokens reach an organization.
    pub async fn update_token_sso_days(
        &mut self,
        organization: &Organization,
        days: i64,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE organization SET token_sso_days = $2 WHERE id = $1";
        self.execute(sql, values![organization.id, days]).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(())
    }
}
