//! Invitations by link: made, listed, looked at, taken, revoked, voided (rule 14).
//!
//! The link's token is a random handle of which only the hash is kept. What an invitation opens is decided in the
//! transaction that takes it; `load_invitation` only explains.
//! Invariant: an invitation that its maker could not make any more opens nothing.

use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccountId, InvitationId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};

use super::audit_log::Actor;
use super::database::{Query, Row, StoreError};
use super::{Transaction, load_role};
use crate::values;

/// An invitation opens nothing after this (rule 14).
pub const INVITATION_LIFETIME: Lifetime = Lifetime::from_days(7);
/// Most people whom one invitation lets in.
pub const INVITATION_USES_MAX: i64 = 100;
/// One that is over is kept this long after it has expired, to say what became of it.
pub(super) const ENDED_KEPT: Lifetime = Lifetime::from_days(30);
/// Invitations of one organization that can be open at the same time.
const PER_ORGANIZATION_MAX: i64 = 200;

/// An invitation to be made.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// Its id.
    pub id: InvitationId,
    /// The organization that it lets somebody into.
    pub organization: OrganizationId,
    /// Hash of the token in its link.
    pub token: TokenHash,
    /// The role that it gives.
    pub role: Role,
    /// The only account that may use it; needed for admin (rule 14).
    pub account: Option<AccountId>,
    /// How many people may use it, 1 to `INVITATION_USES_MAX`; 1 for a named account.
    pub uses: i64,
    /// Who makes it.
    pub by: Actor,
}

/// An invitation as kept.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The role that it gives.
    pub role: Role,
    /// The only account that may use it, with its name.
    pub account: Option<(AccountId, String)>,
    /// How many people may still use it.
    pub uses_left: i64,
    /// Who made it; `None` for the operator.
    pub created_by: Option<AccountId>,
    /// The maker's name at that time.
    pub created_by_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    ended: Option<String>,
}

impl Invitation {
    /// Why it opens nothing at `now`, if it does not.
    pub fn refusal(&self, now: Timestamp) -> Option<ErrorCode> {
        match self.ended.as_deref() {
            Some("revoked") => Some(ErrorCode::JoinInvitationRevoked),
            Some(_) => Some(ErrorCode::JoinInvitationVoided),
            None if self.uses_left < 1 => Some(ErrorCode::JoinInvitationUsed),
            None if now >= self.expires_at => Some(ErrorCode::JoinInvitationExpired),
            None => None,
        }
    }
}

macro_rules! invitations_where {
    ($condition:literal) => {
        concat!(
            "SELECT i.id, i.role, i.account_id, n.spelled AS account_name, i.uses_left, i.created_by, ",
            "i.created_by_name, i.created_at, i.expires_at, i.ended FROM invitation i ",
            "LEFT JOIN account a ON a.id = i.account_id LEFT JOIN name n ON n.name_key = a.name_key WHERE ",
            $condition
        )
    };
}

fn invitation(row: &Row) -> Result<Invitation, StoreError> {
    let account = match row.opt_text("account_id")? {
        None => None,
        Some(_) => Some((row.parsed("account_id")?, row.opt_text("account_name")?.unwrap_or_default())),
    };
    let created_by = match row.opt_text("created_by")? {
        None => None,
        Some(_) => Some(row.parsed("created_by")?),
    };
    Ok(Invitation {
        id: row.parsed("id")?,
        role: row.parsed("role")?,
        account,
        uses_left: row.int("uses_left")?,
        created_by,
        created_by_name: row.text("created_by_name")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        ended: row.opt_text("ended")?,
    })
}

/// The invitation whose link has this token, in whatever state it is.
pub async fn load_invitation(
    query: &mut impl Query,
    organization: OrganizationId,
    token: TokenHash,
) -> Result<Option<Invitation>, StoreError> {
    let sql = invitations_where!("i.organization_id = $1 AND i.token_hash = $2");
    query.fetch_optional(sql, values![organization, token]).await?.as_ref().map(invitation).transpose()
}

/// The invitations of an organization that still work at `now`, the newest first.
pub async fn load_open_invitations(
    query: &mut impl Query,
    organization: OrganizationId,
    now: Timestamp,
) -> Result<Vec<Invitation>, StoreError> {
    let sql = invitations_where!(
        "i.organization_id = $1 AND i.ended IS NULL AND i.uses_left > 0 AND i.expires_at > $2 \
         ORDER BY i.created_at DESC, i.id LIMIT 500"
    );
    query.fetch_all(sql, values![organization, now]).await?.iter().map(invitation).collect()
}

impl Transaction {
    /// Makes an invitation. `false`: the organization has too many open ones. Lock the organization first.
    pub async fn insert_invitation(
        &mut self,
        new: &NewInvitation,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM invitation \
                   WHERE organization_id = $1 AND ended IS NULL AND uses_left > 0 AND expires_at > $2";
        let open = self.fetch_optional(sql, values![new.organization, now]).await?;
        if open.map_or(Ok(0), |row| row.int("n"))? >= PER_ORGANIZATION_MAX {
            return Ok(false);
        }
        let (by, name) = maker(&new.by);
        self.execute(
            "INSERT INTO invitation (id, organization_id, token_hash, role, account_id, uses_left, created_by, \
             created_by_name, created_at, expires_at, sign_ups_left) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $6)",
            values![
                new.id.to_string(),
                new.organization,
                new.token,
                new.role.as_str(),
                new.account.map(|id| id.to_string()),
                new.uses,
                by.map(|id| id.to_string()),
                name,
                now,
                now.plus(INVITATION_LIFETIME),
            ],
        )
        .await?;
        Ok(true)
    }

    /// Uses an invitation once for `account`. `Err` inside: why it does not work. Lock the organization first: nobody
    /// revokes, removes or demotes meanwhile, and of two at once one gets the last use (conformance.md V28, V45).
    pub async fn take_invitation(
        &mut self,
        organization: OrganizationId,
        token: TokenHash,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Result<Invitation, ErrorCode>, StoreError> {
        let Some(invitation) = load_invitation(self, organization, token).await? else {
            return Ok(Err(ErrorCode::JoinUnknown));
        };
        if let Some(code) = invitation.refusal(now) {
            return Ok(Err(code));
        }
        if invitation.account.as_ref().is_some_and(|(named, _)| *named != account) {
            return Ok(Err(ErrorCode::JoinOtherAccount));
        }
        // Beside the voiding: whoever could not make it any more, lets nobody in by it.
        if let Some(maker) = invitation.created_by
            && !self.may_still_invite(organization, maker, invitation.role).await?
        {
            return Ok(Err(ErrorCode::JoinInvitationVoided));
        }
        let sql = "UPDATE invitation SET uses_left = uses_left - 1 WHERE token_hash = $1 AND uses_left > 0 \
                   AND ended IS NULL";
        if self.execute(sql, values![token]).await? == 0 {
            return Ok(Err(ErrorCode::JoinInvitationUsed));
        }
        Ok(Ok(invitation))
    }

    /// Takes one of the accounts that may be made on the way by an invitation or by the join link: no more than it lets
    /// in, so that its holder makes no others (rule 9). Whether there was one left.
    pub async fn take_sign_up(
        &mut self,
        organization: OrganizationId,
        token: TokenHash,
    ) -> Result<bool, StoreError> {
        let by_invitation = "UPDATE invitation SET sign_ups_left = sign_ups_left - 1 \
                             WHERE token_hash = $2 AND organization_id = $1 AND sign_ups_left > 0";
        if self.execute(by_invitation, values![organization, token]).await? > 0 {
            return Ok(true);
        }
        let by_join_link = "UPDATE join_link SET sign_ups_left = sign_ups_left - 1 WHERE organization_id = $1 \
                            AND token_hash = $2 AND (sign_ups_left IS NULL OR sign_ups_left > 0)";
        Ok(self.execute(by_join_link, values![organization, token]).await? > 0)
    }

    /// Whether somebody could make an invitation with this role now: an admin whose account is not switched off, and
    /// whose own role is no lower.
    pub(super) async fn may_still_invite(
        &mut self,
        organization: OrganizationId,
        maker: AccountId,
        role: Role,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM account WHERE id = $1 AND disabled = 0";
        let counts = self.fetch_optional(sql, values![maker]).await?.is_some();
        let own = load_role(self, organization, maker).await?;
        Ok(counts && own == Some(Role::Admin) && role <= Role::Admin)
    }

    /// Takes an invitation back; the role that it would have given. `None`: there is no such open one.
    pub async fn revoke_invitation(
        &mut self,
        organization: OrganizationId,
        id: InvitationId,
        now: Timestamp,
    ) -> Result<Option<Role>, StoreError> {
        let sql = "UPDATE invitation SET ended = 'revoked' WHERE organization_id = $1 AND id = $2 \
                   AND ended IS NULL AND uses_left > 0 AND expires_at > $3 RETURNING role";
        let row = self.fetch_optional(sql, values![organization, id.to_string(), now]).await?;
        row.map(|row| row.parsed("role")).transpose()
    }

    /// Voids the invitations that name somebody: he was removed, and does not come back by an older one.
    pub(super) async fn void_invitations_for(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE invitation SET ended = 'voided' WHERE organization_id = $1 AND account_id = $2 \
             AND ended IS NULL AND uses_left > 0",
            values![organization, account],
        )
        .await?;
        Ok(())
    }

    /// Voids what somebody made to let others in: he was removed, left, or was demoted (rule 14).
    pub(super) async fn void_links_made_by(
        &mut self,
        organization: OrganizationId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE invitation SET ended = 'voided' WHERE organization_id = $1 AND created_by = $2 \
             AND ended IS NULL AND uses_left > 0",
            values![organization, account],
        )
        .await?;
        self.execute(
            "DELETE FROM join_link WHERE organization_id = $1 AND created_by = $2",
            values![organization, account],
        )
        .await?;
        Ok(())
    }
}

/// The maker's account, if he has one, and his name.
pub(super) fn maker(by: &Actor) -> (Option<AccountId>, String) {
    match by {
        Actor::Account(id, name) => (Some(*id), name.clone()),
        Actor::Operator(name) => (None, name.clone()),
        Actor::System => (None, "doorward".to_owned()),
    }
}
