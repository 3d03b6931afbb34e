//! `sso …`.

use super::{Context, organization};
use crate::audit_export::rfc3339;
use crate::command_line::{SsoDisable, SsoEnable, SsoSet, SsoShow};
use crate::failure::Failure;
use crate::sso::enable::{self, NotDone, enable_by_operator, set_enforcement};
use crate::sso::settings::{self, Saved, SettingsForm};
use crate::store::{self, Connection, Organization, Query, Revision, StoredTest};
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
pub async fn enable_sso(context: Context, enable: SsoEnable, output: &mut dyn Write) -> Result<(), Failure> {
    let by = context.by();
    let app = context.app().await?;
    let mut reader = app.store.reader();
    let organization = organization(&mut reader, &enable.organization).await?;
    if !organization.plan.has_sso() {
        return Err(ErrorCode::PlanRequired.into());
    }
    let shown = load(&mut reader, &organization).await?;
    let (Some(connection), Some((draft, test))) = (shown.connection, shown.draft) else {
        return Err(Failure::new(
            ErrorCode::SettingsNotSetUp,
            format!("{} has no single sign-on settings yet", organization.name),
            format!("Save some with: doorward sso set {}", organization.name),
        ));
    };
    let enforcement = enable.enforcement().unwrap_or(connection.enforcement);
    if connection.live == Some(draft.number) {
        if enforcement != connection.enforcement {
            set_enforcement(&app, &organization, enforcement, &by).await?;
        }
        writeln!(output, "Revision {} is live already, {}.", draft.number, enforcement.as_str())?;
        return Ok(());
    }
    if draft.endpoints.is_none() {
        return Err(Failure::new(
            ErrorCode::SettingsNotTested,
            format!("the provider of revision {} could not be reached when it was saved", draft.number),
            "See why with: doorward sso show; then save the settings again with: doorward sso set",
        ));
    }
    if !enable.untested && !test.is_some_and(|test| test.test.passed) {
        return Err(Failure::new(
            ErrorCode::SettingsNotTested,
            format!("revision {} has not passed its test", draft.number),
            "Test it on the SSO settings page, or take the risk with --untested.",
        ));
    }
    let live = enable_by_operator(&app, &organization, enforcement, enable.untested, &by).await?;
    writeln!(output, "Revision {live} is live for {}, {}.", organization.name, enforcement.as_str())?;
    Ok(())
}

/// `sso disable`.
pub async fn disable_sso(
    context: Context,
    disable: SsoDisable,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let by = context.by();
    let app = context.app().await?;
    let organization = organization(&mut app.store.reader(), &disable.organization).await?;
    enable::disable(&app, &organization, &by).await.map_err(|not_done| match not_done {
        NotDone::Refused(ErrorCode::SettingsNothingToDisable) => Failure::new(
            ErrorCode::SettingsNothingToDisable,
            format!("single sign-on is not enabled for {}", organization.name),
            "Nothing needs to be done.",
        ),
        other => other.into(),
    })?;
    writeln!(output, "Single sign-on of {} is off; its sessions have ended.", organization.name)?;
    Ok(())
}

/// `sso set`: saves an untested draft as the settings page does; the provider is asked for its metadata, so that the
/// endpoints are frozen. A draft whose provider does not answer is saved too, and is a failure.
pub async fn set_sso(
    context: Context,
    set: SsoSet,
    secret: Secret,
    output: &mut dyn Write,
) -> Result<(), Vec<Failure>> {
    let by = context.by();
    let app = context.app().await?;
    let organization = organization(&mut app.store.reader(), &set.organization).await?;
    if !organization.plan.has_sso() {
        return Err(Failure::from(ErrorCode::PlanRequired).into());
    }
    let form = SettingsForm {
        client_id: set.client_id,
        client_secret: secret,
        issuer_url: set.issuer_url,
        scopes: String::new(),
        client_auth_method: String::new(),
        userinfo: String::new(),
        email_claim: String::new(),
        hosted_domains: set.hosted_domain.join(" "),
    };
    match settings::save(&app, &organization, &form, true, &by).await.map_err(Failure::from)? {
        Saved::Refused(mistakes) => Err(mistakes.into_iter().map(|mistake| mistake.code.into()).collect()),
        Saved::NotSaved(finding) => Err(found("nothing was saved", &finding).into()),
        Saved::SecretOnly => Err(Failure::from(ErrorCode::SettingsSecretOnly).into()),
        Saved::Failed(number, finding) => {
            Err(found(&format!("revision {number} was saved, but does not work"), &finding).into())
        }
        Saved::Ready(number) => {
            let name = organization.name.as_str();
            let page = app.configuration.base_url.join(&format!("/organizations/{name}/settings/sso"));
            let text = format!(
                "Revision {number} of {name} is saved, untested.\n\
                 Redirect URI to register at the provider: {}\n\
                 Test and enable it at {page}\n",
                app.redirect_uri(name)
            );
            output.write_all(text.as_bytes()).map_err(Failure::from)?;
            Ok(())
        }
    }
}

/// A finding as a failure, with the values that were compared.
fn found(outcome: &str, finding: &Finding) -> Failure {
    let values: Vec<_> = finding.values.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
    Failure::about(finding.code, format!("{outcome}: {}{values}", finding.code.meaning()))
}
