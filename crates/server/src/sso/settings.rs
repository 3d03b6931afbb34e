//! Saving a connection's settings: judge the form, ask the provider what can be asked without a person, keep a draft.
//!
//! A mistake of form saves nothing; a check that fails on the network saves the draft as failed, so that nobody types
//! a secret twice (decisions.md). Nothing here touches what is live.

use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{ClientAuthMethod, UserinfoMode};
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::idp_quirks::shared_issuer;
use doorward_core::ids::{ConnectionId, OrganizationId, RevisionNumber, SessionId};
use doorward_core::oidc::issuer_input::clean_pasted;
use doorward_core::oidc::{Metadata, choose_auth_method, parse_issuer_input, secret_looks_like_an_id};
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;
use std::net::IpAddr;

use super::enable::NotDone;
use super::{freeze, is_same_provider};
use crate::app::App;
use crate::store::{
    Actor, AuditEntry, FrozenEndpoints, NewRevision, Organization, Query, Revision, RevisionTest, StoreError,
    Transaction, load_connection, load_live, load_revision,
};

/// The settings form as sent; every field may hold anything.
#[derive(Clone, Debug)]
pub struct SettingsForm {
    /// The client ID.
    pub client_id: String,
    /// The client secret; empty keeps the stored one.
    pub client_secret: Secret,
    /// Issuer or metadata document.
    pub issuer_url: String,
    /// Scopes; empty for the default.
    pub scopes: String,
    /// `client_secret_basic`, `client_secret_post`, or empty for automatic.
    pub client_auth_method: String,
    /// `when_needed` or `always`; empty for the default.
    pub userinfo: String,
    /// Claim that holds the address; empty for `email`.
    pub email_claim: String,
    /// Google Workspace domains, separated by blanks or commas; needed for an issuer that everybody shares.
    pub hosted_domains: String,
}

/// One field of the form that can't be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldMistake {
    /// The field's name in the form.
    pub field: &'static str,
    /// What is wrong with it.
    pub code: ErrorCode,
}

/// Who saves, from where.
#[derive(Clone, Debug)]
pub struct By {
    /// For the audit log.
    pub actor: Actor,
    /// The account's browser session; none of the operator's.
    pub session: Option<SessionId>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The request.
    pub request_id: Option<String>,
}

impl By {
    /// Locks the organization for what its admins and the operator may do. An account is read again under the lock, with
    /// the single sign-on, or the recovery code in its place, that every form of an admin's asks for but the few of a
    /// fresh login.
    pub async fn lock_as_admin(
        &self,
        tx: &mut Transaction,
        organization: OrganizationId,
        now: Timestamp,
    ) -> Result<Result<(), ErrorCode>, StoreError> {
        let may_widen = self.lock_as_fresh_admin(tx, organization, now).await?;
        Ok(may_widen.and_then(|may| if may { Ok(()) } else { Err(ErrorCode::SettingsSsoNeeded) }))
    }

    /// The same for what a fresh login alone may do, and whether more may be done, which widens entry (rule 12).
    pub async fn lock_as_fresh_admin(
        &self,
        tx: &mut Transaction,
        organization: OrganizationId,
        now: Timestamp,
    ) -> Result<Result<bool, ErrorCode>, StoreError> {
        match (&self.actor, self.session) {
            (Actor::Account(account, _), Some(session)) => {
                tx.lock_as_admin(organization, session, *account, now).await
            }
            (Actor::Account(..), None) => Ok(Err(ErrorCode::AccountSignInNeeded)),
            (Actor::Operator(_) | Actor::System, _) => {
                tx.lock_organization(organization).await.map(|()| Ok(true))
            }
        }
    }
}

/// What became of the form.
#[derive(Debug)]
pub enum Saved {
    /// Nothing was saved: these fields are wrong.
    Refused(Vec<FieldMistake>),
    /// A draft was saved; the provider answered as it should, so a person can test it.
    Ready(RevisionNumber),
    /// A draft was saved with a failed test: what the provider did wrong.
    Failed(RevisionNumber, Finding),
    /// Nothing was saved: the stored secret can't be kept without knowing that it stays with its provider.
    NotSaved(Finding),
    /// Nothing was saved: who saves may replace the secret of what is live, and this is more (rule 12).
    SecretOnly,
}

const FIELD_CLIENT_ID: &str = "client_id";
const FIELD_CLIENT_SECRET: &str = "client_secret";
const FIELD_ISSUER: &str = "issuer_url";

/// Judges the form's fields, each by itself: the mistakes, and the revision that the form describes.
pub fn judge(app: &App, form: &SettingsForm) -> (Vec<FieldMistake>, NewRevision) {
    let mut mistakes = Vec::new();
    let mut wrong = |field, code| mistakes.push(FieldMistake { field, code });
    let client_id = clean_pasted(&form.client_id);
    if client_id.is_empty() {
        wrong(FIELD_CLIENT_ID, ErrorCode::SettingsClientIdMissing);
    } else if client_id.len() > 255 || !client_id.bytes().all(is_vschar) {
        wrong(FIELD_CLIENT_ID, ErrorCode::SettingsClientIdInvalid);
    }
    let secret = Secret::new(clean_pasted(form.client_secret.expose()));
    let text = secret.expose();
    let shortened = text.ends_with("...") || text.ends_with('…') || text.ends_with("***");
    if text.len() > 512 || !text.bytes().all(is_vschar) || shortened {
        wrong(FIELD_CLIENT_SECRET, ErrorCode::SettingsClientSecretInvalid);
    }
    let issuer_url = clean_pasted(&form.issuer_url);
    if issuer_url.is_empty() {
        wrong(FIELD_ISSUER, ErrorCode::SettingsIssuerMissing);
    } else if let Err(code) =
        parse_issuer_input(&issuer_url, |host, port| app.outbound.insecure_allowed(host, port))
    {
        wrong(FIELD_ISSUER, code);
    }
    let scopes: Vec<&str> = form.scopes.split_ascii_whitespace().collect();
    let scope_is_token =
        |scope: &&str| scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    let joined = scopes.join(" ");
    if !scopes.is_empty()
        && (!scopes.contains(&"openid") || joined.len() > 500 || !scopes.iter().all(scope_is_token))
    {
        wrong("scopes", ErrorCode::SettingsScopesInvalid);
    }
    let method = form.client_auth_method.trim();
    let client_auth_method = ClientAuthMethod::from_text(method);
    if !method.is_empty() && client_auth_method.is_none() {
        wrong("client_auth_method", ErrorCode::SettingsChoiceUnknown);
    }
    let userinfo = form.userinfo.trim();
    let userinfo_mode = UserinfoMode::from_text(userinfo);
    if !userinfo.is_empty() && userinfo_mode.is_none() {
        wrong("userinfo", ErrorCode::SettingsChoiceUnknown);
    }
    let email_claim = clean_pasted(&form.email_claim);
    let in_claim = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if email_claim.len() > 100 || !email_claim.chars().all(in_claim) {
        wrong("email_claim", ErrorCode::SettingsEmailClaimInvalid);
    }
    let separators = |c: char| c.is_whitespace() || c == ',';
    let hosted_domains: Vec<String> = form
        .hosted_domains
        .split(separators)
        .filter(|d| !d.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    // A domain is what may stand behind the @ of an address.
    let is_domain = |domain: &String| Email::parse(&format!("x@{domain}")).is_ok();
    if hosted_domains.len() > 20 || !hosted_domains.iter().all(is_domain) {
        wrong("hosted_domains", ErrorCode::SettingsHostedDomainInvalid);
    }
    let revision = NewRevision {
        issuer_url,
        client_id,
        client_secret: secret,
        client_auth_method,
        scopes: joined,
        userinfo: userinfo_mode.unwrap_or_default(),
        email_claim,
        hosted_domains,
        created_by: None,
        endpoints: None,
    };
    (mistakes, revision)
}

/// Saves the form as the organization's draft. The plan and the visitor's right to do so are the caller's to check;
/// `may_widen`: he may do what widens entry, so that on a live connection more than the secret may differ (rule 12).
pub async fn save(
    app: &App,
    organization: &Organization,
    form: &SettingsForm,
    may_widen: bool,
    by: &By,
) -> Result<Saved, NotDone> {
    let (mut mistakes, mut revision) = judge(app, form);
    revision.created_by = match &by.actor {
        Actor::Account(id, _) => Some(*id),
        Actor::Operator(_) | Actor::System => None,
    };

    // The stored secret, if the form keeps it: only for the same issuer and client, which is settled after discovery.
    let mut reader = app.store.reader();
    let mut kept_with: Option<FrozenEndpoints> = None;
    if revision.client_secret.expose().is_empty() {
        match stored_secret(app, &mut reader, organization, &revision).await? {
            Some((secret, endpoints)) => {
                revision.client_secret = secret;
                kept_with = Some(endpoints);
            }
            None => mistakes.push(FieldMistake {
                field: FIELD_CLIENT_SECRET,
                code: ErrorCode::SettingsClientSecretMissing,
            }),
        }
    }
    if !mistakes.is_empty() {
        return Ok(Saved::Refused(mistakes));
    }
    // Before anybody is called; and again, with what the provider says, where it is saved.
    if !may_widen && is_more_than_the_secret(&mut reader, organization, &revision, None).await? {
        return Ok(Saved::SecretOnly);
    }

    let found = ask_provider(app, organization, &revision.issuer_url).await;
    let (endpoints, finding) = match found {
        Ok(metadata) => {
            let is_id = secret_looks_like_an_id(revision.client_secret.expose());
            if metadata.entra_tenant.is_some() && is_id {
                let code = ErrorCode::SettingsClientSecretIsId;
                return Ok(Saved::Refused(vec![FieldMistake { field: FIELD_CLIENT_SECRET, code }]));
            }
            // Everybody shares this issuer: only the domain in the token tells the organization's people apart.
            if shared_issuer(&metadata.issuer).is_some() && revision.hosted_domains.is_empty() {
                let code = ErrorCode::SettingsHostedDomainMissing;
                return Ok(Saved::Refused(vec![FieldMistake { field: "hosted_domains", code }]));
            }
            (Some(freeze(&metadata, choose_auth_method(&metadata, revision.client_auth_method))), None)
        }
        Err((metadata, finding)) => {
            let method = revision.client_auth_method;
            (metadata.map(|metadata| freeze(&metadata, choose_auth_method(&metadata, method))), Some(finding))
        }
    };
    // Rule 6: a stored secret goes to its own provider alone.
    if let Some(bound) = &kept_with {
        match &endpoints {
            None => return Ok(Saved::NotSaved(finding.unwrap_or_else(missing_secret_finding))),
            Some(new) if new.issuer != bound.issuer || new.token_endpoint != bound.token_endpoint => {
                let code = ErrorCode::SettingsClientSecretMissing;
                return Ok(Saved::Refused(vec![FieldMistake { field: FIELD_CLIENT_SECRET, code }]));
            }
            Some(_) => {}
        }
    }
    revision.endpoints = endpoints;
    store(app, organization, &revision, finding, by).await
}

fn missing_secret_finding() -> Finding {
    Finding::new(Step::Settings, ErrorCode::SettingsClientSecretMissing)
}

/// Tests the draft once more. A draft whose discovery failed is asked for anew and saved as a new revision: its
/// secret was typed for that issuer and has met no endpoint yet. `may_widen` as for `save`.
pub async fn refresh(
    app: &App,
    organization: &Organization,
    may_widen: bool,
    by: &By,
) -> Result<Saved, NotDone> {
    let mut reader = app.store.reader();
    let not_set_up = || Ok(Saved::NotSaved(Finding::new(Step::Settings, ErrorCode::SettingsNotSetUp)));
    let Some(connection) = load_connection(&mut reader, organization.id).await? else { return not_set_up() };
    let Some(draft) = connection.draft else { return not_set_up() };
    let Some(old) = load_revision(&mut reader, organization.id, draft).await? else { return not_set_up() };
    if !may_widen && is_more_than_the_secret(&mut reader, organization, &old, old.endpoints.as_ref()).await? {
        return Ok(Saved::SecretOnly);
    }
    if old.endpoints.is_some() {
        return Ok(Saved::Ready(draft));
    }
    let (metadata, finding) = match ask_provider(app, organization, &old.issuer_url).await {
        Ok(metadata) => (Some(metadata), None),
        Err((metadata, finding)) => (metadata, Some(finding)),
    };
    let endpoints =
        metadata.map(|metadata| freeze(&metadata, choose_auth_method(&metadata, old.client_auth_method)));
    let Some(client_secret) = old.usable_secret(connection.id, &app.sealing) else {
        return Ok(Saved::NotSaved(missing_secret_finding()));
    };
    let revision = NewRevision {
        client_secret,
        endpoints,
        issuer_url: old.issuer_url,
        client_id: old.client_id,
        client_auth_method: old.client_auth_method,
        scopes: old.scopes,
        userinfo: old.userinfo,
        email_claim: old.email_claim,
        hosted_domains: old.hosted_domains,
        created_by: old.created_by,
    };
    store(app, organization, &revision, finding, by).await
}

/// The draft's secret, if the form names the same client, and the endpoints that it is bound to.
async fn stored_secret(
    app: &App,
    reader: &mut crate::store::Reader,
    organization: &Organization,
    new: &NewRevision,
) -> Result<Option<(Secret, FrozenEndpoints)>, StoreError> {
    let Some(connection) = load_connection(reader, organization.id).await? else { return Ok(None) };
    let Some(draft) = connection.draft else { return Ok(None) };
    let Some(old) = load_revision(reader, organization.id, draft).await? else { return Ok(None) };
    let Some(endpoints) = old.endpoints.clone() else { return Ok(None) };
    if old.client_id != new.client_id {
        return Ok(None);
    }
    Ok(old.usable_secret(connection.id, &app.sealing).map(|secret| (secret, endpoints)))
}

/// Metadata and keys: all that can be checked without a person. With an error comes what was found so far.
async fn ask_provider(
    app: &App,
    organization: &Organization,
    issuer_url: &str,
) -> Result<Metadata, (Option<Metadata>, Finding)> {
    let now = app.clock.now();
    let allowed = |host: &str, port: u16| app.outbound.insecure_allowed(host, port);
    let input =
        parse_issuer_input(issuer_url, allowed).map_err(|code| (None, Finding::new(Step::Settings, code)))?;
    app.outbound
        .budget(organization.id, now)
        .map_err(|fault| (None, fault.finding(Step::Discovery, &input.metadata_url)))?;
    let metadata =
        app.providers.discover(organization.id, &input).await.map_err(|finding| (None, finding))?;
    match check_endpoints(app, organization, &metadata).await {
        Ok(()) => Ok(metadata),
        Err(finding) => Err((Some(metadata), finding)),
    }
}

/// Whether the endpoints may be called, and keys can be had.
async fn check_endpoints(app: &App, organization: &Organization, metadata: &Metadata) -> Result<(), Finding> {
    let called = [Some(&metadata.token_endpoint), metadata.userinfo_endpoint.as_ref()];
    for endpoint in called.into_iter().flatten() {
        let judged = app.outbound.judge(organization.id, endpoint).await;
        judged.map_err(|fault| fault.finding(Step::Discovery, endpoint))?;
    }
    app.providers.check_keys(organization.id, &metadata.jwks_uri).await
}

async fn store(
    app: &App,
    organization: &Organization,
    revision: &NewRevision,
    finding: Option<Finding>,
    by: &By,
) -> Result<Saved, NotDone> {
    let now = app.clock.now();
    let new_connection = ConnectionId::new(now.millis(), app.random.bytes().map_err(StoreError::from)?);
    let mut tx = app.store.begin().await?;
    let may_widen = by.lock_as_fresh_admin(&mut tx, organization.id, now).await??;
    if !may_widen
        && is_more_than_the_secret(&mut tx, organization, revision, revision.endpoints.as_ref()).await?
    {
        return Ok(Saved::SecretOnly);
    }
    let changed = what_changes(app, &mut tx, organization, revision).await?;
    let (connection, number) =
        tx.insert_revision(organization, new_connection, revision, &app.sealing, now).await?;
    tx.audit(
        AuditEntry {
            organization: Some(organization.id),
            action: AuditAction::OrgSettingsSso,
            actor: by.actor.clone(),
            details: vec![
                ("revision", number.to_string()),
                ("issuer_url", revision.issuer_url.clone()),
                ("client_id", revision.client_id.clone()),
                ("changed", changed.join(", ")),
            ],
            address: by.address,
            request_id: by.request_id.clone(),
        },
        now,
    )
    .await?;
    if let Some(finding) = &finding {
        let test = RevisionTest {
            passed: false,
            findings: vec![finding.clone()],
            claims: Vec::new(),
            account: revision.created_by,
            browser: None,
            identity: None,
        };
        tx.put_test(connection, number, &test, now).await?;
        tx.audit(
            AuditEntry {
                organization: Some(organization.id),
                action: AuditAction::OrgSettingsSsoTest,
                actor: by.actor.clone(),
                details: vec![
                    ("revision", number.to_string()),
                    ("outcome", "failed".to_owned()),
                    ("code", finding.code.to_string()),
                    ("step", finding.step.as_str().to_owned()),
                ],
                address: by.address,
                request_id: by.request_id.clone(),
            },
            now,
        )
        .await?;
    }
    tx.commit(now).await?;
    Ok(match finding {
        None => Saved::Ready(number),
        Some(finding) => Saved::Failed(number, finding),
    })
}

/// The fields in which a revision differs from the newest one, which is read under the organization's lock: another
/// admin may have saved it since the form was shown.
async fn what_changes(
    app: &App,
    tx: &mut Transaction,
    organization: &Organization,
    revision: &NewRevision,
) -> Result<Vec<&'static str>, StoreError> {
    let Some(connection) = load_connection(tx, organization.id).await? else { return Ok(Vec::new()) };
    let Some(draft) = connection.draft else { return Ok(Vec::new()) };
    let Some(before) = load_revision(tx, organization.id, draft).await? else { return Ok(Vec::new()) };
    let secret = before.usable_secret(connection.id, &app.sealing);
    let fields = [
        ("issuer_url", before.issuer_url != revision.issuer_url),
        ("client_id", before.client_id != revision.client_id),
        ("scopes", before.scopes != revision.scopes),
        ("client_auth_method", before.client_auth_method != revision.client_auth_method),
        ("userinfo", before.userinfo != revision.userinfo),
        ("email_claim", before.email_claim != revision.email_claim),
        ("hosted_domains", before.hosted_domains != revision.hosted_domains),
        ("client_secret", secret.as_ref() != Some(&revision.client_secret)),
    ];
    Ok(fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
}

/// Whether `new` lets in the same people as `old`, by the same provider: then its passed test may go live at once, and
/// a sign-in that was under way counts (architecture.md §3). A new secret or scope keeps the provider; another client,
/// issuer, endpoint host or rule of linking does not.
pub(crate) fn keeps_provider(old: &Revision, new: &Revision) -> bool {
    let same_endpoints = match (&old.endpoints, &new.endpoints) {
        (Some(old), Some(new)) => is_same_provider(old, new),
        _ => false,
    };
    same_endpoints
        && old.client_id == new.client_id
        && old.email_claim == new.email_claim
        && old.hosted_domains == new.hosted_domains
}

/// Everything that an admin enters but the secret.
#[derive(PartialEq, Eq)]
pub(crate) struct AllButTheSecret<'a> {
    issuer_url: &'a str,
    client_id: &'a str,
    client_auth_method: Option<ClientAuthMethod>,
    scopes: &'a str,
    userinfo: UserinfoMode,
    email_claim: &'a str,
    hosted_domains: &'a [String],
}

macro_rules! all_but_the_secret {
    ($($revision:ty),*) => { $(
        impl<'a> From<&'a $revision> for AllButTheSecret<'a> {
            fn from(revision: &'a $revision) -> Self {
                Self {
                    issuer_url: &revision.issuer_url,
                    client_id: &revision.client_id,
                    client_auth_method: revision.client_auth_method,
                    scopes: &revision.scopes,
                    userinfo: revision.userinfo,
                    email_claim: &revision.email_claim,
                    hosted_domains: &revision.hosted_domains,
                }
            }
        }
    )* };
}
all_but_the_secret!(Revision, NewRevision);

/// Whether `new` differs from what is live in its secret at most: what a fresh login alone may save, test and enable
/// (rule 12). Scopes and claims are not the secret: they change what is asked of the provider and who is linked.
/// `endpoints`: those of `new`; `None`: the provider was not asked for them yet, or did not tell them, so nobody goes there.
pub(crate) fn changes_secret_alone<'a>(
    live: &'a Revision,
    new: impl Into<AllButTheSecret<'a>>,
    endpoints: Option<&FrozenEndpoints>,
) -> bool {
    let same_provider = match (&live.endpoints, endpoints) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(live), Some(new)) => is_same_provider(live, new),
    };
    AllButTheSecret::from(live) == new.into() && same_provider
}

/// Whether a revision is more than another secret for what is live now, and so may not be saved or tested by a fresh login
/// alone.
async fn is_more_than_the_secret<'a>(
    query: &mut impl Query,
    organization: &Organization,
    new: impl Into<AllButTheSecret<'a>>,
    endpoints: Option<&FrozenEndpoints>,
) -> Result<bool, StoreError> {
    let live = load_live(query, organization.id).await?;
    let new = new.into();
    Ok(live.is_some_and(|(_, live)| !changes_secret_alone(&live, new, endpoints)))
}

/// What RFC 6749 appendix A allows in identifiers and secrets: printable ASCII, the blank included.
const fn is_vschar(b: u8) -> bool {
    matches!(b, 0x20..=0x7e)
}
