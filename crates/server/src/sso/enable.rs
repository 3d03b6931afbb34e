//! Enable and Disable: which revision is live (architecture.md §3).
//!
//! Enable names its revision, which must be the newest draft, tested within the last hour by this account in this
//! browser; it links the tested identity to the admin and turns the test into his own SSO session, so that nobody
//! enables himself out. Facts come from the store's record of the test, never from the form (conformance.md V46).

use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{Enforcement, test_still_counts};
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::RevisionNumber;
use doorward_core::secret::{Secret, TokenHash};

use super::callback::entry;
use super::linking::{How, Link, doubts_of_test, judge_link, link_details};
use super::recovery::make_codes;
use super::settings::{By, changes_secret_alone, keeps_provider};
use crate::app::App;
use crate::session::SignedIn;
use crate::store::{
    Organization, StoreError, count_recovery_codes, load_connection, load_revision, load_test,
};

/// Why Enable or Disable did not happen.
#[derive(Debug)]
pub enum NotDone {
    /// The admin can do something about it.
    Refused(ErrorCode),
    /// The store.
    Store(StoreError),
}

impl From<ErrorCode> for NotDone {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code)
    }
}

impl From<StoreError> for NotDone {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Makes the tested draft live. `shown`: the subject whom the page said it would link; `None` where nobody was shown one
/// (a program that sends the contract's fields alone). Gives the recovery codes that were made, to be shown once: where the
/// organization has none left.
#[expect(clippy::too_many_arguments, reason = "one deed, and all that it must be proved from")]
pub async fn enable(
    app: &App,
    organization: &Organization,
    signed_in: &SignedIn,
    browser: Option<TokenHash>,
    revision: RevisionNumber,
    enforcement: Enforcement,
    shown: Option<&str>,
    by: &By,
) -> Result<Vec<Secret>, NotDone> {
    let now = app.clock.now();
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let account = signed_in.account.id;
    let mut tx = app.store.begin().await?;
    let may_widen = by.lock_as_fresh_admin(&mut tx, organization.id, now).await??;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    if connection.draft != Some(revision) || connection.live == Some(revision) {
        return Err(ErrorCode::SettingsRevisionStale.into());
    }
    let draft =
        load_revision(&mut tx, organization.id, revision).await?.ok_or(ErrorCode::SettingsRevisionStale)?;
    let stored = load_test(&mut tx, organization.id, revision).await?.ok_or(ErrorCode::SettingsNotTested)?;
    let (Some(identity), Some(_), true) = (&stored.test.identity, &draft.endpoints, stored.test.passed)
    else {
        return Err(ErrorCode::SettingsNotTested.into());
    };
    let own_test =
        stored.test.account == Some(account) && browser.is_some() && stored.test.browser == browser;
    if !own_test || !test_still_counts(stored.tested_at, now) {
        return Err(ErrorCode::SettingsTestTooOld.into());
    }
    // The same settings may have been tested once more meanwhile, by whoever was signed in at the provider then.
    if shown.is_some_and(|shown| shown != identity.subject) {
        return Err(ErrorCode::SettingsIdentityChanged.into());
    }

    // What widens entry on a live connection needs more than a fresh login (rule 12): anything but another secret, and
    // less enforcement.
    let live = match connection.live {
        Some(number) => load_revision(&mut tx, organization.id, number).await?,
        None => None,
    };
    let same_provider = live.as_ref().is_some_and(|live| keeps_provider(live, &draft));
    let loosens = connection.enforcement == Enforcement::Enforced && enforcement == Enforcement::Optional;
    let widens = live
        .as_ref()
        .is_some_and(|live| loosens || !changes_secret_alone(live, &draft, draft.endpoints.as_ref()));
    if widens && !may_widen {
        return Err(ErrorCode::SettingsSsoNeeded.into());
    }

    // The admin's own link: confirmed by pressing Enable, which shows whom it links. While another revision is live,
    // only whoever may widen entry may confirm what the address does not say: a password alone links nobody.
    let mut linked = None;
    match judge_link(&mut tx, &connection, identity, doubts_of_test(&stored.test), account).await? {
        Link::Linked => {}
        Link::WouldNot(finding)
            if matches!(finding.code, ErrorCode::SsoIdentityInUse | ErrorCode::SsoAccountLinkedElsewhere) =>
        {
            return Err(finding.code.into());
        }
        Link::WouldNot(_) if live.is_some() && !may_widen => {
            return Err(ErrorCode::SettingsSsoNeeded.into());
        }
        link @ (Link::WouldLink | Link::WouldNot(_)) => {
            match tx.insert_identity(connection.id, identity, account, now).await {
                Err(StoreError::Conflict) => return Err(ErrorCode::SsoIdentityInUse.into()),
                inserted => inserted?,
            }
            let how = if link == Link::WouldLink { How::Address } else { How::Enable };
            let details = link_details(signed_in.account.name(), identity, how);
            linked = Some(entry(organization, AuditAction::OrgSsoLink, by, details));
        }
    }
    // Whoever was let in by another provider, client or rule of linking is asked again (ADR 0018).
    let new_epoch = !same_provider;
    if !tx.enable_revision(organization, revision, connection.live, enforcement, new_epoch).await? {
        return Err(ErrorCode::SettingsRevisionStale.into());
    }
    // Not before: whoever ends an authorisation of a token holds its row before this log (PostgreSQL).
    if let Some(linked) = linked {
        tx.audit(linked, now).await?;
    }
    let epoch = connection.epoch + i64::from(new_epoch);
    tx.put_sso_session(session, account, organization.id, epoch, &identity.issuer, &identity.subject, now)
        .await?;
    let details = vec![
        ("revision", revision.to_string()),
        ("enforcement", enforcement.as_str().to_owned()),
        ("issuer", identity.issuer.clone()),
    ];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoEnable, by, details), now).await?;
    let codes = match count_recovery_codes(&mut tx, organization.id).await? {
        Some((left, _)) if left > 0 => Vec::new(),
        _ => make_codes(app, &mut tx, organization, by, Some(signed_in), now).await?,
    };
    tx.commit(now).await?;
    Ok(codes)
}

/// The operator's explicit override from the command line: makes the draft live, tested or not, and says so in the
/// audit log. Without `untested` the draft's test must have passed, at any time and by anybody.
pub async fn enable_by_operator(
    app: &App,
    organization: &Organization,
    enforcement: Enforcement,
    untested: bool,
    by: &By,
) -> Result<RevisionNumber, NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    tx.lock_organization(organization.id).await?;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    let draft = connection.draft.ok_or(ErrorCode::SettingsNotSetUp)?;
    let revision =
        load_revision(&mut tx, organization.id, draft).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    let passed = load_test(&mut tx, organization.id, draft).await?.is_some_and(|stored| stored.test.passed);
    let Some(frozen) = &revision.endpoints else {
        // Without endpoints no member could ever sign in: not even the operator means that.
        return Err(ErrorCode::SettingsNotTested.into());
    };
    if !passed && !untested {
        return Err(ErrorCode::SettingsNotTested.into());
    }
    let live = match connection.live {
        Some(number) => load_revision(&mut tx, organization.id, number).await?,
        None => None,
    };
    let same_provider = live.as_ref().is_some_and(|live| keeps_provider(live, &revision));
    if !tx.enable_revision(organization, draft, connection.live, enforcement, !same_provider).await? {
        return Err(ErrorCode::SettingsRevisionStale.into());
    }
    let details = vec![
        ("revision", draft.to_string()),
        ("enforcement", enforcement.as_str().to_owned()),
        ("issuer", frozen.issuer.clone()),
        ("untested", (!passed).to_string()),
    ];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoEnable, by, details), now).await?;
    tx.commit(now).await?;
    Ok(draft)
}

/// Switches SSO off: ends its sessions and keeps everything else.
pub async fn disable(app: &App, organization: &Organization, by: &By) -> Result<(), NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let live = tx.disable_connection(organization).await?.ok_or(ErrorCode::SettingsNothingToDisable)?;
    let details = vec![("revision", live.to_string())];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoDisable, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// Sets whether the provider's guests may be linked.
pub async fn set_guests_may_link(
    app: &App,
    organization: &Organization,
    may: bool,
    by: &By,
) -> Result<(), NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    if connection.guests_may_link == may {
        return Ok(());
    }
    tx.update_guests_may_link(organization.id, may).await?;
    let details = vec![("before", connection.guests_may_link.to_string()), ("after", may.to_string())];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoGuests, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}

/// Changes between enforced and optional on a live connection.
pub async fn set_enforcement(
    app: &App,
    organization: &Organization,
    enforcement: Enforcement,
    by: &By,
) -> Result<(), NotDone> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    by.lock_as_admin(&mut tx, organization.id, now).await??;
    let connection = load_connection(&mut tx, organization.id).await?.ok_or(ErrorCode::SettingsNotSetUp)?;
    if connection.live.is_some() && connection.enforcement == enforcement {
        return Ok(());
    }
    if !tx.update_enforcement(organization, enforcement).await? {
        return Err(ErrorCode::SettingsNothingToDisable.into());
    }
    let details = vec![
        ("before", connection.enforcement.as_str().to_owned()),
        ("after", enforcement.as_str().to_owned()),
    ];
    tx.audit(entry(organization, AuditAction::OrgSettingsSsoEnforcement, by, details), now).await?;
    tx.commit(now).await?;
    Ok(())
}
