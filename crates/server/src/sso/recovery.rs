//! Recovery codes: the way in for an admin whose provider is gone (architecture.md rule 12).
//!
//! A code stands in for single sign-on on settings pages, for an hour, in one browser session; it opens no private page
//! and makes no session anywhere else. Codes are shown once, when they are made, and kept as hashes.

use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::recovery_code::{RECOVERY_CODES, recovery_code, typed_recovery_code};
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Timestamp;

use super::callback::entry;
use super::enable::NotDone;
use super::settings::By;
use crate::app::App;
use crate::session::SignedIn;
use crate::store::{Organization, StoreError, Transaction, count_recovery_codes, load_connection};

/// Makes new codes for an organization inside `tx` and voids all that it had. What older ones have opened in other
/// browser sessions is closed.
pub(super) async fn make_codes(
    app: &App,
    tx: &mut Transaction,
    organization: &Organization,
    by: &By,
    keep: Option<&SignedIn>,
    now: Timestamp,
) -> Result<Vec<Secret>, StoreError> {
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        codes.push(recovery_code(app.random.bytes()?));
    }
    let hashes: Vec<TokenHash> = codes.iter().filter_map(|code| typed_recovery_code(code.expose())).collect();
    let keep = keep.and_then(SignedIn::session).map(|session| session.id);
    tx.replace_recovery_codes(organization.id, &hashes, keep, now).await?;
    let details = vec![("count", hashes.len().to_string())];
    tx.audit(entry(organization, AuditAction::OrgRecoveryCodes, by, details), now).await?;
    Ok(codes)
}

/// Makes new codes where single sign-on is live; `admin`: who asks, `None` for the operator.
pub async fn new_codes(
    app: &App,
    organization: &Organization,
    admin: Option<&SignedIn>,
    by: &By,
) -> Result<Vec<Secret>, NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    if load_connection(&mut tx, organization.id).await?.is_none_or(|connection| connection.live.is_none()) {
        return Err(ErrorCode::SettingsNothingToDisable.into());
    }
    let codes = make_codes(app, &mut tx, organization, by, admin, now).await?;
    tx.commit(now).await?;
    Ok(codes)
}

/// Uses a code, once: from then on rule 12's actions are open in this browser session for an hour. A code that is not
/// good is in the audit log too.
pub async fn recover(
    app: &App,
    organization: &Organization,
    admin: &SignedIn,
    typed: &str,
    by: &By,
) -> Result<(), NotDone> {
    let now = app.clock.now();
    let session = admin.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let mut tx = app.store.begin().await?;
    by.lock_as_fresh_admin(&mut tx, organization.id, now).await??;
    let number = match typed_recovery_code(typed) {
        None => None,
        Some(code) => tx.use_recovery_code(organization.id, code, now).await?,
    };
    let Some(number) = number else {
        let refused = entry(organization, AuditAction::OrgRecoveryFailed, by, Vec::new());
        tx.audit_or_count(organization.id, admin.account.id, refused, now).await?;
        tx.commit(now).await?;
        return Err(ErrorCode::SettingsRecoveryCodeWrong.into());
    };
    tx.put_recovery(organization.id, session, now).await?;
    let left = count_recovery_codes(&mut tx, organization.id).await?.map_or(0, |(left, _)| left);
    let details = vec![("number", number.to_string()), ("left", left.to_string())];
    tx.audit(entry(organization, AuditAction::OrgRecoveryUse, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}
