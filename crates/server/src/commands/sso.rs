//! `sso …`.

use super::{Context, organization, rfc3339};
use crate::command_line::{SsoDisable, SsoEnable, SsoSet, SsoShow};
use crate::failure::Failure;
use crate::store::{self, Connection, Organization, Query, Revision, StoredTest};
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{ConnectionState, TestOutcome};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Finding;
use doorward_core::ids::RevisionNumber;
use doorward_core::secret::Secret;
use serde_json::{Value, json};
use std::io::Write;

/// A revision with its test.
type Tested = (Revision, Option<StoredTest>);

/// What `sso show` shows.
struct Shown {
    state: ConnectionState,
    connection: Option<Connection>,
    draft: Option<Tested>,
    live: Option<Tested>,
}

async fn load(query: &mut impl Query, organization: &Organization) -> Result<Shown, Failure> {
    let (state, connection) = store::load_state(query, organization.id).await?;
    let draft = connection.as_ref().and_then(|connection| connection.draft);
    let live = connection.as_ref().and_then(|connection| connection.live);
    Ok(Shown {
        state,
        draft: load_tested(query, organization, draft).await?,
        live: load_tested(query, organization, live).await?,
        connection,
    })
}

async fn load_tested(
    query: &mut impl Query,
    organization: &Organization,
    number: Option<RevisionNumber>,
) -> Result<Option<Tested>, Failure> {
    let Some(number) = number else { return Ok(None) };
    let Some(revision) = store::load_revision(query, organization.id, number).await? else { return Ok(None) };
    let test = store::load_test(query, organization.id, number).await?;
    Ok(Some((revision, test)))
}

/// `sso show`.
pub async fn show_sso(context: &Context, show: SsoShow, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let mut reader = store.reader();
    let organization = organization(&mut reader, &show.organization).await?;
    let shown = load(&mut reader, &organization).await?;
    if show.json {
        writeln!(output, "{}", as_json(&shown))?;
        return Ok(());
    }
    writeln!(output, "state        {}", shown.state.as_str())?;
    if let Some(connection) = &shown.connection {
        writeln!(output, "enforcement  {}", connection.enforcement.as_str())?;
    }
    for (label, tested) in [("draft", &shown.draft), ("live", &shown.live)] {
        let Some((revision, test)) = tested else { continue };
        let outcome = test.as_ref().map_or(TestOutcome::None, StoredTest::outcome);
        writeln!(
            output,
            "{label:<12} revision {}, issuer {}, client {}, test {}",
            revision.number,
            revision.issuer_url,
            revision.client_id,
            outcome.as_str()
        )?;
    }
    for finding in findings(&shown) {
        writeln!(output, "{:<12} [{}] {}", finding.step.as_str(), finding.code, finding.code.meaning())?;
        writeln!(output, "             next: {}", finding.code.remedy())?;
    }
    Ok(())
}

fn findings(shown: &Shown) -> &[Finding] {
    shown.draft.as_ref().and_then(|(_, test)| test.as_ref()).map_or(&[], |test| &test.test.findings)
}

fn as_json(shown: &Shown) -> Value {
    let findings: Vec<Value> = findings(shown).iter().map(finding_as_json).collect();
    json!({
        "protocol": shown.connection.as_ref().map(|_| "oidc"),
        "state": shown.state.as_str(),
        "enforcement": shown.connection.as_ref().map(|connection| connection.enforcement.as_str()),
        "draft": shown.draft.as_ref().map(tested_as_json),
        "live": shown.live.as_ref().map(tested_as_json),
        "findings": findings,
    })
}

fn tested_as_json((revision, test): &Tested) -> Value {
    json!({
        "revision": revision.number.0,
        "issuer_url": revision.issuer_url,
        "client_id": revision.client_id,
        "test": test.as_ref().map_or(TestOutcome::None, StoredTest::outcome).as_str(),
        "tested_at": test.as_ref().and_then(|test| rfc3339(test.tested_at)),
    })
}

fn finding_as_json(finding: &Finding) -> Value {
    let values: serde_json::Map<String, Value> =
        finding.values.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    json!({
        "step": finding.step.as_str(),
        "code": finding.code.as_str(),
        "title": finding.code.title(),
        "meaning": finding.code.meaning(),
        "remedy": finding.code.remedy(),
        "values": values,
        "provider_words": finding.provider_words,
    })
}

/// `sso enable`: the newest draft becomes live. Without a passed test only with `--untested`, which the audit log
/// tells. Enforcement alone can be changed by it too.
pub async fn enable_sso(context: &Context, enable: SsoEnable, output: &mut dyn Write) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &enable.organization).await?;
    if !organization.plan.has_sso() {
        return Err(ErrorCode::PlanRequired.into());
    }
    tx.lock_organization(organization.id).await?;
    let shown = load(&mut tx, &organization).await?;
    let (Some(connection), Some((draft, test))) = (shown.connection, shown.draft) else {
        return Err(Failure::new(
            ErrorCode::SettingsNotSetUp,
            format!("{} has no single sign-on settings yet", organization.name),
            format!("Save some: doorward sso set {} …", organization.name),
        ));
    };
    let enforcement = enable.enforcement().unwrap_or(connection.enforcement);
    if connection.live == Some(draft.number) {
        if enforcement == connection.enforcement {
            writeln!(output, "Revision {} is live already, {}.", draft.number, enforcement.as_str())?;
            return Ok(());
        }
        tx.update_enforcement(&organization, enforcement).await?;
        let details = vec![
            ("before", connection.enforcement.as_str().to_owned()),
            ("after", enforcement.as_str().to_owned()),
        ];
        let entry = context.entry(Some(organization.id), AuditAction::OrgSettingsSsoEnforcement, details);
        tx.audit(entry, now).await?;
        tx.commit(now).await?;
        writeln!(output, "Revision {} stays live, now {}.", draft.number, enforcement.as_str())?;
        return Ok(());
    }

    // Without frozen endpoints no sign-in could even start: every member would be locked out.
    let Some(endpoints) = &draft.endpoints else {
        return Err(Failure::new(
            ErrorCode::SettingsNotTested,
            format!("the provider of revision {} could not be reached when it was saved", draft.number),
            "See the findings with: doorward sso show; then save the settings again with: doorward sso set",
        ));
    };
    let passed = test.as_ref().is_some_and(|test| test.test.passed);
    if !passed && !enable.untested {
        return Err(Failure::new(
            ErrorCode::SettingsNotTested,
            format!("revision {} has not passed its test", draft.number),
            "Test it on the SSO settings page, or take the risk with --untested.",
        ));
    }
    let live_issuer =
        shown.live.as_ref().and_then(|(live, _)| live.endpoints.as_ref()).map(|live| &live.issuer);
    let new_issuer = live_issuer.is_some_and(|live| *live != endpoints.issuer);
    if !tx.enable_revision(&organization, draft.number, connection.live, enforcement, new_issuer).await? {
        return Err(ErrorCode::SettingsRevisionStale.into());
    }
    let details = vec![
        ("revision", draft.number.to_string()),
        ("enforcement", enforcement.as_str().to_owned()),
        ("issuer", endpoints.issuer.clone()),
        ("untested", (!passed).to_string()),
    ];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgSettingsSsoEnable, details), now).await?;
    tx.commit(now).await?;
    writeln!(
        output,
        "Revision {} is live for {}, {}.",
        draft.number,
        organization.name,
        enforcement.as_str()
    )?;
    Ok(())
}

/// `sso disable`.
pub async fn disable_sso(
    context: &Context,
    disable: SsoDisable,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let store = context.store().await?;
    let now = context.clock.now();
    let mut tx = store.begin().await?;
    let organization = organization(&mut tx, &disable.organization).await?;
    tx.lock_organization(organization.id).await?;
    let Some(live) = tx.disable_connection(&organization).await? else {
        return Err(Failure::new(
            ErrorCode::SettingsNothingToDisable,
            format!("single sign-on is not enabled for {}", organization.name),
            "Nothing needs to be done.",
        ));
    };
    let details = vec![("revision", live.to_string())];
    tx.audit(context.entry(Some(organization.id), AuditAction::OrgSettingsSsoDisable, details), now).await?;
    tx.commit(now).await?;
    writeln!(output, "Single sign-on of {} is off; its sessions have ended.", organization.name)?;
    Ok(())
}

/// `sso set`: saves an untested draft, as the settings page does.
pub async fn set_sso(
    _context: &Context,
    set: SsoSet,
    _secret: Secret,
    _output: &mut dyn Write,
) -> Result<(), Failure> {
    Err(Failure::new(
        ErrorCode::ConfigurationNotBuilt,
        "saving SSO settings from the command line is not built yet",
        format!("Use the page /organizations/{}/settings/sso.", set.organization),
    ))
}
