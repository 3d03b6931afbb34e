//! Organizations, memberships and registered resources.

use doorward_core::connection::{DEFAULT_SESSION_TIMEOUT, Enforcement, sso_session_counts};
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::ExternalCollaborator;
use doorward_core::ids::{AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::time::{Lifetime, Timestamp};

use super::database::{Query, Row, StoreError};
use super::{Change, Transaction};
use crate::values;

/// The longest name of a registered resource, in bytes.
pub const RESOURCE_NAME_BYTES_MAX: usize = 100;

/// The longest text that members are searched by, in characters.
pub const SEARCH_CHARS_MAX: usize = 100;

/// What the operator grants an organization (hub-sso.md S9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Without single sign-on.
    Free,
    /// With single sign-on.
    Team,
    /// With single sign-on.
    Enterprise,
}

impl Plan {
    /// The name in the store and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Team => "team",
            Self::Enterprise => "enterprise",
        }
    }

    /// The name on pages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Team => "Team",
            Self::Enterprise => "Enterprise",
        }
    }

    /// The plan of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Free, Self::Team, Self::Enterprise].into_iter().find(|plan| plan.as_str() == text)
    }

    /// Whether SSO settings may be made and changed.
    pub const fn has_sso(self) -> bool {
        !matches!(self, Self::Free)
    }
}

/// An organization.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: Name,
    /// What it is called on pages.
    pub display_name: String,
    /// Its plan.
    pub plan: Plan,
    /// How long an SSO session lasts (hub-sso.md M6).
    pub session_timeout: Lifetime,
}

/// A member, as the members page shows him.
#[derive(Clone, Debug)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: Name,
    /// The person's name.
    pub full_name: String,
    /// The role.
    pub role: Role,
    /// Whether it reaches the organization without SSO.
    pub external_collaborator: ExternalCollaborator,
}

/// An organization of an account, as the home page shows it.
#[derive(Clone, Debug)]
pub struct MemberOrganization {
    /// The organization.
    pub organization: Organization,
    /// The account's role there.
    pub role: Role,
    /// Whether it reaches the organization without SSO.
    pub external_collaborator: ExternalCollaborator,
    /// SSO: `None` is off.
    pub sso: Option<Enforcement>,
    /// The connection's epoch.
    pub epoch: i64,
    /// For how many days after the account's last SSO its tokens reach the organization.
    pub token_sso_days: i64,
}

/// A registered resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The literal prefix of the pattern; empty for `/{org}/{resource}`.
    pub prefix: String,
    /// Its name as registered.
    pub name: String,
    /// Open to everybody.
    pub public: bool,
}

const ORGANIZATION: &str = "SELECT o.id, n.spelled, o.display_name, o.plan, o.session_timeout FROM organization o \
                            JOIN name n ON n.name_key = o.name_key WHERE o.name_key = $1 AND o.deleted_at IS NULL";

fn organization(row: &Row) -> Result<Organization, StoreError> {
    Ok(Organization {
        id: row.parsed("id")?,
        name: Name::from_store(row.text("spelled")?),
        display_name: row.text("display_name")?,
        plan: row.known("plan", Plan::from_text)?,
        session_timeout: Lifetime::from_millis(row.int("session_timeout")?),
    })
}

/// Of a membership: whether it is an external collaborator's (hub-sso.md M8).
pub(super) fn external_collaborator(row: &Row) -> Result<ExternalCollaborator, StoreError> {
    Ok(match (row.flag("external_collaborator")?, row.opt_int("external_until")?) {
        (false, _) => ExternalCollaborator::No,
        (true, None) => ExternalCollaborator::Yes,
        (true, Some(end)) => ExternalCollaborator::Until(Timestamp::from_millis(end)),
    })
}

/// The organization of that name, whatever its spelling; none that was deleted.
pub async fn load_organization(
    query: &mut impl Query,
    name: &str,
) -> Result<Option<Organization>, StoreError> {
    let key = name.to_ascii_lowercase();
    query.fetch_optional(ORGANIZATION, values![key]).await?.as_ref().map(organization).transpose()
}

/// Id and name of the organization that has or had that name, whatever its spelling: a log outlives its organization.
pub async fn load_organization_of_log(
    query: &mut impl Query,
    name: &str,
) -> Result<Option<(OrganizationId, Name)>, StoreError> {
    let sql = "SELECT o.id, n.spelled FROM organization o JOIN name n ON n.name_key = o.name_key \
               WHERE o.name_key = $1";
    let row = query.fetch_optional(sql, values![name.to_ascii_lowercase()]).await?;
    row.map(|row| Ok((row.parsed("id")?, Name::from_store(row.text("spelled")?)))).transpose()
}

/// All organizations by name, for the operator; at most 1000 after `after`.
pub async fn load_organizations(
    query: &mut impl Query,
    after: &str,
) -> Result<Vec<Organization>, StoreError> {
    let sql = "SELECT o.id, n.spelled, o.display_name, o.plan, o.session_timeout FROM organization o \
               JOIN name n ON n.name_key = o.name_key WHERE o.name_key > $1 AND o.deleted_at IS NULL \
               ORDER BY o.name_key LIMIT 1000";
    query.fetch_all(sql, values![after]).await?.iter().map(organization).collect()
}

/// The role of an account in an organization.
pub async fn load_role(
    query: &mut impl Query,
    organization: OrganizationId,
    account: AccountId,
) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT role FROM membership WHERE organization_id = $1 AND account_id = $2";
    query.fetch_optional(sql, values![organization, account]).await?.map(|row| row.parsed("role")).transpose()
}

/// The members of an organization by name, after the name `after`; at most `limit` (at most 500). `search`: only those
/// whose account name begins with it, or whose own name has it in it, whatever the case of A to Z; empty: all.
pub async fn load_members(
    query: &mut impl Query,
    organization: OrganizationId,
    search: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Member>, StoreError> {
    let (name, full_name) = patterns(search);
    let sql = "SELECT m.account_id, n.spelled, a.full_name, m.role, m.external_collaborator, m.external_until \
               FROM membership m \
               JOIN account a ON a.id = m.account_id JOIN name n ON n.name_key = a.name_key \
               WHERE m.organization_id = $1 AND a.name_key > $2 \
               AND (a.name_key LIKE $4 ESCAPE '!' OR LOWER(a.full_name) LIKE $5 ESCAPE '!') \
               ORDER BY a.name_key LIMIT $3";
    let v = values![organization, after, limit.clamp(1, 500), name, full_name];
    let rows = query.fetch_all(sql, v).await?;
    rows.iter().map(member).collect()
}

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        account: row.parsed("account_id")?,
        name: Name::from_store(row.text("spelled")?),
        full_name: row.text("full_name")?,
        role: row.parsed("role")?,
        external_collaborator: external_collaborator(row)?,
    })
}

/// The external collaborators of an organization by name, those whose end has come too; at most 500.
pub async fn load_collaborators(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Vec<Member>, StoreError> {
    let sql = "SELECT m.account_id, n.spelled, a.full_name, m.role, m.external_collaborator, m.external_until \
               FROM membership m JOIN account a ON a.id = m.account_id JOIN name n ON n.name_key = a.name_key \
               WHERE m.organization_id = $1 AND m.external_collaborator = 1 ORDER BY a.name_key LIMIT 500";
    query.fetch_all(sql, values![organization]).await?.iter().map(member).collect()
}

/// Whether a member is an external collaborator; `None`: the account is no member.
pub async fn load_external_collaborator(
    query: &mut impl Query,
    organization: OrganizationId,
    account: AccountId,
) -> Result<Option<ExternalCollaborator>, StoreError> {
    let sql = "SELECT external_collaborator, external_until FROM membership \
               WHERE organization_id = $1 AND account_id = $2";
    let row = query.fetch_optional(sql, values![organization, account]).await?;
    row.as_ref().map(external_collaborator).transpose()
}

/// `LIKE` patterns for an account's name and for a person's, in lower case, in which nothing of `search` is a wildcard.
fn patterns(search: &str) -> (String, String) {
    let mut literal = String::new();
    for c in search.trim().to_ascii_lowercase().chars().take(SEARCH_CHARS_MAX) {
        if matches!(c, '%' | '_' | '!') {
            literal.push('!');
        }
        literal.push(c);
    }
    (format!("{literal}%"), format!("%{literal}%"))
}

/// How many members an organization has, or of those that `load_members` finds by `search`.
pub async fn count_members(
    query: &mut impl Query,
    organization: OrganizationId,
    search: &str,
) -> Result<i64, StoreError> {
    let (name, full_name) = patterns(search);
    let row = if search.trim().is_empty() {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership WHERE organization_id = $1";
        query.fetch_optional(sql, values![organization]).await?
    } else {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership m JOIN account a ON a.id = m.account_id \
                   WHERE m.organization_id = $1 \
                   AND (a.name_key LIKE $2 ESCAPE '!' OR LOWER(a.full_name) LIKE $3 ESCAPE '!')";
        query.fetch_optional(sql, values![organization, name, full_name]).await?
    };
    row.map_or(Ok(0), |row| row.int("n"))
}

/// Another admin `x` than the account `$2`, who can govern at the time `$3`: he has a password, without which nobody signs
/// in (rule 4), his account is not switched off, and while a connection is live he is no external collaborator, whom no
/// provider may know.
macro_rules! other_admin {
    () => {
        "FROM membership x JOIN account a ON a.id = x.account_id \
                           LEFT JOIN connection c ON c.organization_id = x.organization_id \
                           WHERE x.role = 'admin' AND x.account_id <> $2 AND a.disabled = 0 \
                           AND a.password_hash IS NOT NULL AND (c.live IS NULL OR x.external_collaborator = 0 OR x.external_until <= $3)"
    };
}

/// How many admins the organization has besides `account` who can govern it (ADR 0037). To decide by it, ask in a
/// transaction that has locked the organization: of two admins who leave at once, one finds himself the last.
pub async fn count_other_admins(
    query: &mut impl Query,
    organization: OrganizationId,
    account: AccountId,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let sql = concat!("SELECT CAST(COUNT(*) AS BIGINT) AS n ", other_admin!(), " AND x.organization_id = $1");
    query.fetch_optional(sql, values![organization, account, now]).await?.map_or(Ok(0), |row| row.int("n"))
}

/// The organizations that have no other admin than this account, in one question; at most 500.
pub async fn load_governed_alone(
    query: &mut impl Query,
    account: AccountId,
    now: Timestamp,
) -> Result<Vec<OrganizationId>, StoreError> {
    let sql = concat!(
        "SELECT m.organization_id FROM membership m JOIN organization o ON o.id = m.organization_id \
         WHERE m.account_id = $1 AND m.role = 'admin' AND o.deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 ",
        other_admin!(),
        " AND x.organization_id = m.organization_id) \
         ORDER BY o.name_key LIMIT 500"
    );
    let rows = query.fetch_all(sql, values![account, account, now]).await?;
    rows.iter().map(|row| row.parsed("organization_id")).collect()
}

/// What is live, for a browser session `$1` at the time `$2`, with what the session has in its organization.
macro_rules! live_for_session {
    () => {
        "SELECT c.organization_id, c.epoch, o.session_timeout, s.epoch AS begun_under, s.authenticated_at, r.expires_at \
         FROM connection c JOIN organization o ON o.id = c.organization_id \
         LEFT JOIN sso_session s ON s.organization_id = c.organization_id AND s.session_id = $1 \
         LEFT JOIN recovery r ON r.organization_id = c.organization_id AND r.session_id = $1 AND r.expires_at > $2 \
         WHERE c.live IS NOT NULL AND "
    };
}

/// Whether the session has nothing that counts: no single sign-on, and no recovery code in its place.
fn is_owed(row: &Row, now: Timestamp) -> Result<bool, StoreError> {
    let (epoch, timeout) = (row.int("epoch")?, Lifetime::from_millis(row.int("session_timeout")?));
    if let Some(begun_under) = row.opt_int("begun_under")?
        && sso_session_counts(begun_under, row.time("authenticated_at")?, epoch, timeout, now)
    {
        return Ok(false);
    }
    Ok(row.opt_int("expires_at")?.is_none())
}

/// Whether a browser session has neither completed the organization's live single sign-on nor a recovery code in its
/// place; none of it is owed where none is live. A page's admission judges the same (`web/access.rs`), by what it remembers.
pub async fn owes_sso(
    query: &mut impl Query,
    organization: OrganizationId,
    session: Option<SessionId>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = session.map_or_else(String::new, |session| session.to_string());
    let sql = concat!(live_for_session!(), "c.organization_id = $3");
    let live = query.fetch_optional(sql, values![id, now, organization]).await?;
    live.map_or(Ok(false), |row| is_owed(&row, now))
}

/// The same of all organizations that an account is an admin of, in one question: those where it is owed; at most 500.
pub async fn load_owing_sso(
    query: &mut impl Query,
    account: AccountId,
    session: Option<SessionId>,
    now: Timestamp,
) -> Result<Vec<OrganizationId>, StoreError> {
    let id = session.map_or_else(String::new, |session| session.to_string());
    let sql = concat!(
        live_for_session!(),
        "o.deleted_at IS NULL AND c.organization_id IN \
         (SELECT organization_id FROM membership WHERE account_id = $3 AND role = 'admin') \
         ORDER BY o.name_key LIMIT 500"
    );
    let mut owing = Vec::new();
    for row in query.fetch_all(sql, values![id, now, account]).await? {
        if is_owed(&row, now)? {
            owing.push(row.parsed("organization_id")?);
        }
    }
    Ok(owing)
}

/// The organizations of an account by name, each with its SSO; at most 500.
pub async fn load_organizations_of(
    query: &mut impl Query,
    account: AccountId,
) -> Result<Vec<MemberOrganization>, StoreError> {
    let sql = "SELECT o.id, n.spelled, o.display_name, o.plan, o.session_timeout, o.token_sso_days, m.role, \
               m.external_collaborator, m.external_until, c.live, c.enforcement, c.epoch FROM membership m JOIN organization o ON o.id = m.organization_id \
               JOIN name n ON n.name_key = o.name_key LEFT JOIN connection c ON c.organization_id = o.id \
               WHERE m.account_id = $1 AND o.deleted_at IS NULL ORDER BY o.name_key LIMIT 500";
    let rows = query.fetch_all(sql, values![account]).await?;
    rows.iter()
        .map(|row| {
            Ok(MemberOrganization {
                organization: organization(row)?,
                role: row.parsed("role")?,
                external_collaborator: external_collaborator(row)?,
                sso: match row.opt_int("live")? {
                    None => None,
                    Some(_) => Some(row.known("enforcement", Enforcement::from_text)?),
                },
                epoch: row.opt_int("epoch")?.unwrap_or(0),
                token_sso_days: row.int("token_sso_days")?,
            })
        })
        .collect()
}

/// The organizations that an account belongs to or has a link in, which outlives leaving, in the order of their ids, and
/// whether each was deleted; at most 500.
pub async fn load_bonds(
    query: &mut impl Query,
    account: AccountId,
) -> Result<Vec<(OrganizationId, bool)>, StoreError> {
    let sql = "SELECT o.id, o.deleted_at FROM organization o \
               WHERE o.id IN (SELECT organization_id FROM membership WHERE account_id = $1 \
               UNION SELECT c.organization_id FROM identity i JOIN connection c ON c.id = i.connection_id \
               WHERE i.account_id = $1) ORDER BY o.id LIMIT 500";
    let rows = query.fetch_all(sql, values![account]).await?;
    rows.iter().map(|row| Ok((row.parsed("id")?, row.opt_int("deleted_at")?.is_some()))).collect()
}

/// The registered resources of an organization; at most 1000.
pub async fn load_resources(
    query: &mut impl Query,
    organization: OrganizationId,
) -> Result<Vec<Resource>, StoreError> {
    let sql = "SELECT prefix, name, is_public FROM resource WHERE organization_id = $1 ORDER BY prefix, name_key LIMIT 1000";
    let rows = query.fetch_all(sql, values![organization]).await?;
    rows.iter()
        .map(|row| {
            Ok(Resource {
                prefix: row.text("prefix")?,
                name: row.text("name")?,
                public: row.flag("is_public")?,
            })
        })
        .collect()
}

impl Transaction {
    /// Makes an organization. `Conflict` if the name is taken.
    pub async fn insert_organization(
        &mut self,
        id: OrganizationId,
        name: &Name,
        display_name: &str,
        plan: Plan,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.take_name(name, "organization", id.to_string(), now).await?;
        self.execute(
            "INSERT INTO organization (id, name_key, display_name, plan, session_timeout, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![id, name.key(), display_name, plan.as_str(), DEFAULT_SESSION_TIMEOUT.millis(), now],
        )
        .await?;
        self.changed(Change::Organization(name.key().to_owned()));
        Ok(())
    }

    /// Locks the organization's row, so that checks on its members and what follows from them can't be overtaken.
    pub async fn lock_organization(&mut self, id: OrganizationId) -> Result<(), StoreError> {
        self.execute("UPDATE organization SET plan = plan WHERE id = $1", values![id]).await?;
        Ok(())
    }

    /// Locks the organization for a deed of its admin, who is read again under the lock: whoever was removed, demoted,
    /// switched off or signed out while the lock was waited for does nothing any more. Every deed of an admin's page
    /// begins with it: what the page was admitted by is older than the lock. Gives whether he may widen entry now
    /// (rule 12).
    pub async fn lock_as_admin(
        &mut self,
        organization: OrganizationId,
        session: SessionId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Result<bool, ErrorCode>, StoreError> {
        self.lock_organization(organization).await?;
        if !self.browser_session_counts(session, account).await? {
            return Ok(Err(ErrorCode::AccountSignInNeeded));
        }
        if self.hold_role(organization, account).await? != Some(Role::Admin) {
            return Ok(Err(ErrorCode::OrganizationUnknown));
        }
        Ok(Ok(!owes_sso(self, organization, Some(session), now).await?))
    }

    /// Sets what the organization is called on pages.
    pub async fn update_display_name(
        &mut self,
        organization: &Organization,
        display_name: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE organization SET display_name = $2 WHERE id = $1";
        self.execute(sql, values![organization.id, display_name]).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(())
    }

    /// Puts an organization on another plan.
    pub async fn update_plan(&mut self, organization: &Organization, plan: Plan) -> Result<(), StoreError> {
        let sql = "UPDATE organization SET plan = $2 WHERE id = $1";
        self.execute(sql, values![organization.id, plan.as_str()]).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(())
    }

    /// Sets how long an SSO session lasts.
    pub async fn update_session_timeout(
        &mut self,
        organization: &Organization,
        timeout: Lifetime,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE organization SET session_timeout = $2 WHERE id = $1";
        self.execute(sql, values![organization.id, timeout.millis()]).await?;
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(())
    }

    /// Makes an account a member, or gives a member another role; the role before. A lower role voids the invitations
    /// and the join link that he made, and ends the tests that he has under way (rule 14).
    pub async fn set_role(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        role: Role,
        now: Timestamp,
    ) -> Result<Option<Role>, StoreError> {
        let before = load_role(self, organization, account).await?;
        self.execute(
            "INSERT INTO membership (organization_id, account_id, role, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (organization_id, account_id) DO UPDATE SET role = $3",
            values![organization, account, role.as_str(), now],
        )
        .await?;
        if before.is_some_and(|before| role < before) {
            self.void_links_made_by(organization, account).await?;
            // What he let his tokens reach in the higher role, he says again in the lower one.
            self.end_token_authorizations_of(organization, account).await?;
            self.execute(
                "DELETE FROM attempt WHERE organization_id = $1 AND account_id = $2 AND purpose = 'test'",
                values![organization, account],
            )
            .await?;
        }
        self.changed(Change::Account(account));
        Ok(before)
    }

    /// Makes a member an external collaborator, for ever or until then, or an ordinary one.
    pub async fn set_external_collaborator(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        external: ExternalCollaborator,
    ) -> Result<(), StoreError> {
        let until = match external {
            ExternalCollaborator::Until(end) => Some(end.millis()),
            ExternalCollaborator::No | ExternalCollaborator::Yes => None,
        };
        let sql = "UPDATE membership SET external_collaborator = $3, external_until = $4 \
                   WHERE organization_id = $1 AND account_id = $2";
        let flag = external != ExternalCollaborator::No;
        self.execute(sql, values![organization, account, flag, until]).await?;
        self.changed(Change::Account(account));
        Ok(())
    }

    /// The role of a member, with his row held until the transaction ends: nobody removes or demotes him meanwhile, so
    /// what is made for him here is not left behind by his removal.
    pub async fn hold_role(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<Option<Role>, StoreError> {
        let sql =
            "UPDATE membership SET role = role WHERE organization_id = $1 AND account_id = $2 RETURNING role";
        self.fetch_optional(sql, values![organization, account])
            .await?
            .map(|row| row.parsed("role"))
            .transpose()
    }

    /// Removes a member with what the membership opened: SSO sessions, attempts, held identities, recovery; the
    /// invitations and the join link that he made (rule 14); and invitations that name him. Whose identity his is, is a
    /// question from then on, until a link answers it (ADR 0036). Whether there was one.
    pub async fn delete_membership(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM membership WHERE organization_id = $1 AND account_id = $2";
        let removed = self.execute(sql, values![organization, account]).await? > 0;
        if removed {
            // Whose identity his is, he would else answer himself by the join link, with his password alone.
            let sql = "INSERT INTO former_member (organization_id, account_id, left_at) VALUES ($1, $2, $3) \
                       ON CONFLICT (organization_id, account_id) DO UPDATE SET left_at = $3";
            self.execute(sql, values![organization, account, now]).await?;
        }
        self.end_sso_of(organization, account).await?;
        self.execute(
            "DELETE FROM recovery WHERE organization_id = $1 AND session_id IN \
             (SELECT id FROM browser_session WHERE account_id = $2)",
            values![organization, account],
        )
        .await?;
        self.void_links_made_by(organization, account).await?;
        self.void_invitations_for(organization, account).await?;
        Ok(removed)
    }

    /// Deletes an organization: its members, its settings and whatever lets somebody in are gone. Its id and name stay
    /// taken, and closed at the gate (rule 7); so does the connection's bare row, to which what is left of trips refers. `false`: somebody else has deleted it.
    pub async fn delete_organization(
        &mut self,
        organization: &Organization,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = organization.id;
        let sql = "UPDATE organization SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL";
        if self.execute(sql, values![id, now]).await? == 0 {
            return Ok(false);
        }
        self.end_sso_sessions(id).await?;
        for sql in [
            "DELETE FROM invitation WHERE organization_id = $1",
            "DELETE FROM join_link WHERE organization_id = $1",
            "DELETE FROM api_token WHERE organization_id = $1",
            "DELETE FROM recovery WHERE organization_id = $1",
            "DELETE FROM recovery_code WHERE organization_id = $1",
            "DELETE FROM link_question WHERE connection_id IN (SELECT id FROM connection WHERE organization_id = $1)",
            "DELETE FROM identity WHERE connection_id IN (SELECT id FROM connection WHERE organization_id = $1)",
            "DELETE FROM revision_test WHERE connection_id IN (SELECT id FROM connection WHERE organization_id = $1)",
            "DELETE FROM revision WHERE connection_id IN (SELECT id FROM connection WHERE organization_id = $1)",
            "UPDATE connection SET draft = NULL, live = NULL, epoch = epoch + 1 WHERE organization_id = $1",
            "DELETE FROM membership WHERE organization_id = $1",
            "DELETE FROM former_member WHERE organization_id = $1",
            "DELETE FROM resource WHERE organization_id = $1",
        ] {
            self.execute(sql, values![id]).await?;
        }
        // Every cache forgets it; what one still knows of its members opens nothing of an organization that is deleted.
        self.changed(Change::Organization(organization.name.key().to_owned()));
        Ok(true)
    }

    /// Registers a resource as public or private.
    pub async fn set_resource(
        &mut self,
        organization: OrganizationId,
        prefix: &str,
        name: &str,
        public: bool,
    ) -> Result<(), StoreError> {
        let name_key = name.to_ascii_lowercase();
        self.execute(
            "INSERT INTO resource (organization_id, prefix, name_key, name, is_public) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (organization_id, prefix, name_key) DO UPDATE SET is_public = $5",
            values![organization, prefix, &name_key, name, public],
        )
        .await?;
        self.changed(Change::Resource { organization, prefix: prefix.to_owned(), name_key });
        // The first resource of an organization changes what the gate knows of the organization itself.
        let sql = "SELECT name_key FROM organization WHERE id = $1";
        if let Some(row) = self.fetch_optional(sql, values![organization]).await? {
            self.changed(Change::Organization(row.text("name_key")?));
        }
        Ok(())
    }
}
