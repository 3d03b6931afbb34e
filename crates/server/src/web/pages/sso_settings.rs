//! An organization's SSO settings: connect, test, enable (hub-sso.md S1 to S10).
//!
//! In: the connection with its draft, live revision and newest test. Out: one page that says where things stand and
//! what the next click is. Invariant: the green check is shown exactly when the draft's own test passed and the form
//! shows the draft (S7).

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{
    ClientAuthMethod, ConnectionState, Enforcement, TestOutcome, UserinfoMode, test_still_counts,
};
use doorward_core::error_code::{ErrorCode, Fault as Whose};
use doorward_core::finding::{Finding, Step};
use http::StatusCode;
use url::Url;

use super::join_link::{JoinLinkCard, join_link_card, join_roles};
use super::members::RoleChoice;
use super::step_label;
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::sso::linking::{Link, doubts_of_test, judge_link};
use crate::sso::settings::{FieldMistake, SettingsForm, changes_secret_alone};
use crate::store::{
    Connection, FrozenEndpoints, Reader, Revision, StoreError, StoredTest, count_link_requests,
    count_linked_members, count_members, count_recovery_codes, load_account, load_collaborators,
    load_connection, load_live, load_recovery, load_revision, load_test,
};
use crate::web::page::{
    Fault, Frame, Moment, OrganizationHead, Problem, Problems, Tab, counted, host_of, show, show_with,
    value_label,
};
use crate::web::visit::{OrganizationVisit, Visit};

/// The form, as typed or as stored.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct OidcForm {
    /// Client ID.
    pub client_id: String,
    /// Issuer or metadata document.
    pub issuer_url: String,
    /// Scopes; empty: the default.
    pub scopes: String,
    /// `client_secret_basic`, `client_secret_post`, or empty: automatic.
    pub client_auth_method: String,
    /// `when_needed` or `always`; empty: when needed.
    pub userinfo: String,
    /// The claim that holds the address; empty: `email`.
    pub email_claim: String,
    /// Google Workspace domains, separated by blanks.
    pub hosted_domains: String,
}

/// The secret that is stored.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// Its last four characters; empty for a short one.
    pub end: String,
}

/// How a step of a test went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepOutcome {
    /// Done.
    Passed,
    /// Ended the test.
    Failed,
    /// Not needed.
    Skipped,
    /// Not reached.
    NotReached,
}

/// One step of a test.
#[derive(Clone, Copy, Debug)]
pub struct StepLine {
    /// The step.
    pub step: Step,
    /// How it went.
    pub outcome: StepOutcome,
}

impl StepLine {
    fn label(self) -> &'static str {
        step_label(self.step)
    }

    fn class(self) -> &'static str {
        match self.outcome {
            StepOutcome::Passed => "passed",
            StepOutcome::Failed => "failed",
            StepOutcome::Skipped | StepOutcome::NotReached => "open",
        }
    }

    fn words(self) -> &'static str {
        match self.outcome {
            StepOutcome::Passed => "passed",
            StepOutcome::Failed => "failed",
            StepOutcome::Skipped => "not needed",
            StepOutcome::NotReached => "not reached",
        }
    }
}

/// Whom the provider named.
#[derive(Clone, Debug)]
pub struct IdentityShown {
    /// The person's name there; may be empty.
    pub display_name: String,
    /// The address that was sent; may be empty.
    pub email: String,
    /// The issuer.
    pub issuer: String,
    /// The key within the issuer.
    pub subject: String,
}

impl IdentityShown {
    /// In one line, for the Enable card.
    pub fn line(&self) -> String {
        match (self.display_name.as_str(), self.email.as_str()) {
            ("", "") => self.subject.clone(),
            ("", email) => email.to_owned(),
            (name, "") => name.to_owned(),
            (name, email) => format!("{name} ({email})"),
        }
    }
}

/// Whether the identity of the test would be linked to the account that looks.
#[derive(Clone, Debug)]
pub enum LinkVerdict {
    /// It is linked already.
    Linked,
    /// It would be: the address is a proved one.
    Would,
    /// Not by its address; the admin's own Enable confirms it.
    ByEnable(ErrorCode),
    /// It would not.
    WouldNot(ErrorCode),
}

/// The last test of the draft.
#[derive(Clone, Debug)]
pub struct TestShown {
    /// Which revision.
    pub revision: i64,
    /// Passed or failed.
    pub passed: bool,
    /// When.
    pub at: Moment,
    /// Who did it, in words: `you, in this browser`.
    pub by: String,
    /// All steps.
    pub steps: Vec<StepLine>,
    /// What ended it (one), or hints.
    pub findings: Vec<Fault>,
    /// Claims received.
    pub claims: Vec<(String, String)>,
    /// Whom the provider named.
    pub identity: Option<IdentityShown>,
    /// What that would mean for the account that looks.
    pub verdict: Option<LinkVerdict>,
}

/// The steps of a test that ended, in their order.
pub fn step_lines(passed: bool, failed_at: Option<Step>, userinfo_asked: bool) -> Vec<StepLine> {
    let failed_at = failed_at.filter(|_| !passed);
    let line = |step| {
        let outcome = match failed_at {
            Some(failed) if step == failed => StepOutcome::Failed,
            Some(failed) if step > failed => StepOutcome::NotReached,
            _ if step == Step::Userinfo && !userinfo_asked => StepOutcome::Skipped,
            _ => StepOutcome::Passed,
        };
        StepLine { step, outcome }
    };
    Step::ALL.into_iter().map(line).collect()
}

/// What discovery found.
#[derive(Clone, Debug)]
pub struct ProviderFound {
    /// The issuer.
    pub issuer: String,
    /// The host where people sign in.
    pub sign_in_host: String,
    /// Entra's tenant, by id.
    pub tenant_id: Option<String>,
    /// Entra's tenant, by the name in the address or in the token's claims.
    pub tenant_name: Option<String>,
}

impl ProviderFound {
    fn is_entra(&self) -> bool {
        self.tenant_id.is_some()
    }
}

/// Why Enable asks for one more test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TestAgain {
    /// The test is older than an hour.
    TooOld,
    /// Another admin tested, or the same one in another browser.
    NotHere,
}

/// Offers to make the tested draft the live one.
#[derive(Clone, Debug)]
pub struct EnableCard {
    /// The draft.
    pub revision: i64,
    /// How many members there are.
    pub members: i64,
    /// How many of them are external collaborators, whom it does not ask.
    pub spared: usize,
    /// What is chosen at first.
    pub enforcement: Enforcement,
    /// Whose identity is linked to the account.
    pub identity: String,
    /// Its key at the provider: the form links nobody else (conformance.md V37).
    pub subject: String,
    /// The account.
    pub account: String,
    /// The identity's address does not match, so pressing Enable confirms it.
    pub confirms_identity: bool,
    /// One more test is needed first.
    pub test_again: Option<TestAgain>,
}

impl EnableCard {
    fn counted(&self) -> String {
        counted(self.members, "member", "members")
    }

    fn is_enforced(&self) -> bool {
        self.enforcement == Enforcement::Enforced
    }
}

/// What is enabled now.
#[derive(Clone, Debug)]
pub struct LiveCard {
    /// The live revision.
    pub revision: i64,
    /// Needed or asked for.
    pub enforcement: Enforcement,
    /// The live issuer.
    pub issuer: String,
    /// How many members there are.
    pub members: i64,
    /// How many of them have an identity.
    pub linked: i64,
}

impl LiveCard {
    fn counted(&self) -> String {
        counted(self.members, "member", "members")
    }

    fn is_enforced(&self) -> bool {
        self.enforcement == Enforcement::Enforced
    }
}

/// `/organizations/ORG/settings/sso`.
#[derive(Template, Clone, Debug)]
#[template(path = "sso_settings.html")]
pub struct SsoSettingsPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The plan that would be needed is missing: no forms (S9).
    pub plan_missing: bool,
    /// The connection's state.
    pub state: ConnectionState,
    /// The last sign-ins of members failed at the provider.
    pub failing: bool,
    /// The draft's own test passed.
    pub draft_passed: bool,
    /// `BASE_URL/organizations/ORG/oidc/consume`.
    pub redirect_uri: String,
    /// `BASE_URL/organizations/ORG/sso`.
    pub start_url: String,
    /// As stored, or as typed after a mistake.
    pub form: OidcForm,
    /// The stored secret that an empty field keeps.
    pub stored_secret: Option<StoredSecret>,
    /// Mistakes in the form.
    pub problems: Problems,
    /// The draft's number.
    pub draft: Option<i64>,
    /// What discovery found for the draft.
    pub found: Option<ProviderFound>,
    /// The draft's last test.
    pub test: Option<TestShown>,
    /// Offered when the draft passed its test and is not live.
    pub enable: Option<EnableCard>,
    /// Shown when SSO is on.
    pub live: Option<LiveCard>,
    /// First links that wait for an admin.
    pub link_requests: i64,
    /// Recovery codes that are left, and how many were made; nothing where there are none.
    pub recovery_codes: Option<(i64, i64)>,
    /// A recovery code stands in for SSO, until then.
    pub recovered_until: Option<Moment>,
    /// What widens entry asks for the organization's SSO first (rule 12).
    pub complete_sso_first: bool,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
    /// The SSO join link (hub-sso.md M9).
    pub join_link: Option<JoinLinkCard>,
}

impl From<&Revision> for OidcForm {
    fn from(revision: &Revision) -> Self {
        Self {
            client_id: revision.client_id.clone(),
            issuer_url: revision.issuer_url.clone(),
            scopes: revision.scopes.clone(),
            client_auth_method: revision
                .client_auth_method
                .map_or_else(String::new, |method: ClientAuthMethod| method.as_str().to_owned()),
            userinfo: revision.userinfo.as_str().to_owned(),
            email_claim: revision.email_claim.clone(),
            hosted_domains: revision.hosted_domains.join(" "),
        }
    }
}

impl From<&SettingsForm> for OidcForm {
    fn from(form: &SettingsForm) -> Self {
        Self {
            client_id: form.client_id.clone(),
            issuer_url: form.issuer_url.clone(),
            scopes: form.scopes.clone(),
            client_auth_method: form.client_auth_method.clone(),
            userinfo: form.userinfo.clone(),
            email_claim: form.email_claim.clone(),
            hosted_domains: form.hosted_domains.clone(),
        }
    }
}

impl ProviderFound {
    fn of(revision: &Revision, endpoints: &FrozenEndpoints) -> Self {
        // An address may name its tenant by a domain; the issuer always names it by its id.
        let named = Url::parse(&revision.issuer_url).ok().and_then(|url| {
            let first = url.path_segments().and_then(|mut segments| segments.next().map(str::to_owned));
            first.filter(|first| first.contains('.') && !first.starts_with('.'))
        });
        Self {
            issuer: endpoints.issuer.clone(),
            sign_in_host: host_of(&endpoints.authorization_endpoint).unwrap_or_default(),
            tenant_name: endpoints.entra_tenant.as_ref().and(named),
            tenant_id: endpoints.entra_tenant.clone(),
        }
    }
}

/// Whether the newest single sign-on of a member failed for a reason that lies with the settings or the provider.
async fn is_failing(reader: &mut Reader, place: &OrganizationVisit) -> Result<bool, StoreError> {
    let organization = place.organization.id;
    let failed = AuditAction::OrgSsoLoginFailed.as_str();
    let failed = reader.audit_page(organization, Some(failed), i64::MAX, 1).await?;
    let Some(failed) = failed.first() else { return Ok(false) };
    let code = failed.details.get("code").and_then(|code| code.as_str()).and_then(ErrorCode::from_code);
    let matters = code.is_some_and(|code| {
        let area = code.as_str().split('.').next().unwrap_or_default();
        matches!(area, "oidc" | "outbound") && matches!(code.fault(), Whose::Admin | Whose::Provider)
    });
    let good = AuditAction::OrgSsoLogin.as_str();
    let good = reader.audit_page(organization, Some(good), i64::MAX, 1).await?;
    Ok(matters && good.first().is_none_or(|good| good.sequence < failed.sequence))
}

/// What the identity of the visitor's own test would mean for him.
async fn verdict(
    reader: &mut Reader,
    visit: &Visit,
    connection: &Connection,
    stored: &StoredTest,
) -> Result<Option<LinkVerdict>, Refusal> {
    let account = visit.account()?.account.id;
    let (Some(identity), true) = (&stored.test.identity, stored.test.account == Some(account)) else {
        return Ok(None);
    };
    let doubts = doubts_of_test(&stored.test);
    Ok(Some(match judge_link(reader, connection, identity, doubts, account).await? {
        Link::Linked => LinkVerdict::Linked,
        Link::WouldLink => LinkVerdict::Would,
        Link::WouldNot(finding) => match finding.code {
            code @ (ErrorCode::SsoIdentityInUse | ErrorCode::SsoAccountLinkedElsewhere) => {
                LinkVerdict::WouldNot(code)
            }
            code => LinkVerdict::ByEnable(code),
        },
    }))
}

async fn tested_by(reader: &mut Reader, visit: &Visit, stored: &StoredTest) -> Result<String, Refusal> {
    let Some(tester) = stored.test.account else { return Ok("the command line".to_owned()) };
    if tester != visit.account()?.account.id {
        let account = load_account(reader, tester).await?;
        return Ok(
            account.map_or_else(|| "another admin".to_owned(), |account| account.name.as_str().to_owned())
        );
    }
    let here = stored.test.browser.is_none() || stored.test.browser == visit.browser;
    Ok(if here { "you, in this browser" } else { "you, in another browser" }.to_owned())
}

impl TestShown {
    fn of(revision: &Revision, stored: &StoredTest, by: String, verdict: Option<LinkVerdict>) -> Self {
        let test = &stored.test;
        let failed = test.findings.iter().find(|finding| !test.passed && finding.code.status() != 200);
        // A passed test's policy finding is the verdict, told once.
        let findings = test
            .findings
            .iter()
            .filter(|finding| !(test.passed && finding.step == Step::Policy))
            .map(Fault::from);
        let email_claim = match revision.email_claim.as_str() {
            "" => "email",
            named => named,
        };
        let lacks_email = !test.claims.iter().any(|(name, _)| name == email_claim);
        let offers_userinfo = revision.endpoints.as_ref().is_some_and(|e| e.userinfo_endpoint.is_some());
        let asked = offers_userinfo && (revision.userinfo == UserinfoMode::Always || lacks_email);
        Self {
            revision: revision.number.0,
            passed: test.passed,
            at: stored.tested_at.into(),
            by,
            steps: step_lines(test.passed, failed.or(test.findings.first()).map(|f| f.step), asked),
            findings: findings.collect(),
            claims: test.claims.clone(),
            identity: test.identity.as_ref().map(|identity| IdentityShown {
                display_name: identity.display_name.clone().unwrap_or_default(),
                email: identity.email.clone().unwrap_or_default(),
                issuer: identity.issuer.clone(),
                subject: identity.subject.clone(),
            }),
            verdict,
        }
    }
}

async fn live_card(
    reader: &mut Reader,
    place: &OrganizationVisit,
    connection: &Connection,
    live: &Revision,
) -> Result<LiveCard, StoreError> {
    Ok(LiveCard {
        revision: live.number.0,
        enforcement: connection.enforcement,
        issuer: live.endpoints.as_ref().map_or_else(String::new, |found| found.issuer.clone()),
        members: count_members(reader, place.organization.id, "").await?,
        linked: count_linked_members(reader, place.organization.id, connection.id).await?,
    })
}

/// Loads all that the page shows.
async fn load(app: &App, visit: &Visit, place: &OrganizationVisit) -> Result<SsoSettingsPage, Refusal> {
    let organization = &place.organization;
    let signed_in = visit.account()?;
    let name = organization.name.as_str();
    let mut reader = app.store.reader();
    let mut page = SsoSettingsPage {
        frame: Frame::of(app, visit),
        organization: OrganizationHead::of(place),
        tab: Tab::Sso,
        plan_missing: !organization.plan.has_sso(),
        state: ConnectionState::NotSetUp,
        failing: false,
        draft_passed: false,
        redirect_uri: app.redirect_uri(name),
        start_url: app.configuration.base_url.join(&format!("/organizations/{name}/sso")),
        form: OidcForm::default(),
        stored_secret: None,
        problems: Problems::default(),
        draft: None,
        found: None,
        test: None,
        enable: None,
        live: None,
        link_requests: count_link_requests(&mut reader, organization.id, app.clock.now()).await?,
        recovery_codes: count_recovery_codes(&mut reader, organization.id).await?,
        recovered_until: match signed_in.session() {
            Some(session) if place.recovered => {
                load_recovery(&mut reader, organization.id, session.id, app.clock.now())
                    .await?
                    .map(Into::into)
            }
            _ => None,
        },
        complete_sso_first: !place.may_widen(),
        same_host_trusted: app.configuration.shares_host_with_application(),
        join_link: join_link_card(app, place, String::new()).await?,
    };
    let Some(connection) = load_connection(&mut reader, organization.id).await? else { return Ok(page) };
    let Some(draft) = connection.draft else { return Ok(page) };
    let Some(revision) = load_revision(&mut reader, organization.id, draft).await? else { return Ok(page) };
    if !place.may_widen()
        && let Some((_, live)) = load_live(&mut reader, organization.id).await?
        && !changes_secret_alone(&live, &revision, revision.endpoints.as_ref())
    {
        // The draft is somebody's who may widen entry. What this visitor can do is replace the live secret.
        page.state = ConnectionState::LiveChangePending;
        page.draft = Some(draft.0);
        page.form = OidcForm::from(&live);
        page.found = live.endpoints.as_ref().map(|endpoints| ProviderFound::of(&live, endpoints));
        page.live = Some(live_card(&mut reader, place, &connection, &live).await?);
        page.failing = is_failing(&mut reader, place).await?;
        return Ok(page);
    }
    let stored = load_test(&mut reader, organization.id, draft).await?;
    let outcome = stored.as_ref().map_or(TestOutcome::None, StoredTest::outcome);
    let members = count_members(&mut reader, organization.id, "").await?;
    page.state = ConnectionState::of(Some((draft, outcome)), connection.live);
    page.draft_passed = outcome == TestOutcome::Passed;
    page.draft = Some(draft.0);
    page.form = OidcForm::from(&revision);
    page.stored_secret =
        revision.endpoints.as_ref().map(|_| StoredSecret { end: revision.client_secret_end.clone() });
    page.found = revision.endpoints.as_ref().map(|endpoints| ProviderFound::of(&revision, endpoints));

    if let Some(live) = connection.live {
        let of_live = if live == draft {
            Some(revision.clone())
        } else {
            load_revision(&mut reader, organization.id, live).await?
        };
        if let Some(of_live) = of_live {
            page.live = Some(live_card(&mut reader, place, &connection, &of_live).await?);
        }
        page.failing = is_failing(&mut reader, place).await?;
    }

    let Some(stored) = stored else { return Ok(page) };
    let verdict = verdict(&mut reader, visit, &connection, &stored).await?;
    let by = tested_by(&mut reader, visit, &stored).await?;
    let own = stored.test.account == Some(signed_in.account.id)
        && visit.browser.is_some()
        && stored.test.browser == visit.browser;
    let test_again = if !own {
        Some(TestAgain::NotHere)
    } else if !test_still_counts(stored.tested_at, app.clock.now()) {
        Some(TestAgain::TooOld)
    } else {
        None
    };
    let shown = TestShown::of(&revision, &stored, by, verdict);
    let may_enable = !matches!(shown.verdict, Some(LinkVerdict::WouldNot(_)));
    if page.draft_passed && connection.live != Some(draft) && may_enable {
        let collaborators = load_collaborators(&mut reader, organization.id).await?;
        page.enable = Some(EnableCard {
            revision: draft.0,
            members,
            spared: collaborators.iter().filter(|m| m.external_collaborator.spares(app.clock.now())).count(),
            enforcement: connection.enforcement,
            identity: shown.identity.as_ref().map_or_else(String::new, IdentityShown::line),
            subject: shown.identity.as_ref().map_or_else(String::new, |identity| identity.subject.clone()),
            account: signed_in.account.name().to_owned(),
            confirms_identity: matches!(shown.verdict, Some(LinkVerdict::ByEnable(_))),
            test_again,
        });
    }
    page.test = Some(shown);
    Ok(page)
}

/// `GET /organizations/ORG/settings/sso`.
pub async fn show_settings(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    Ok(show(&load(&app, &visit, &place).await?))
}

/// The settings page as it is now, with why nothing was done.
pub async fn show_refused(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    code: ErrorCode,
) -> Result<Response, Refusal> {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::CONFLICT);
    let page = SsoSettingsPage { problems: Problems::one("", code), ..load(app, visit, place).await? };
    Ok(show_with(status, &page))
}

/// The settings page with the fields as typed and what is wrong with them (422). The secret is not among them.
pub async fn show_mistakes(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    form: &SettingsForm,
    mistakes: &[FieldMistake],
    finding: Option<&Finding>,
) -> Result<Response, Refusal> {
    let mut problems: Vec<Problem> =
        mistakes.iter().map(|mistake| Problem::new(mistake.field, mistake.code)).collect();
    if let Some(finding) = finding {
        // What was found on the way to the provider is about its address.
        let field = if finding.code == ErrorCode::SettingsClientSecretMissing {
            "client_secret"
        } else {
            "issuer_url"
        };
        let values = finding.values.iter().map(|(name, value)| format!(" {}: {value}.", value_label(name)));
        let detail = format!("{}{}", finding.code.meaning(), values.collect::<String>());
        problems.push(Problem { field, code: finding.code, detail });
    }
    let page = SsoSettingsPage {
        form: OidcForm::from(form),
        problems: Problems(problems),
        // They belong to what is stored, and the form shows something else.
        found: None,
        test: None,
        enable: None,
        ..load(app, visit, place).await?
    };
    Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

impl SsoSettingsPage {
    fn join_roles() -> Vec<RoleChoice> {
        join_roles()
    }

    fn org_path(&self) -> String {
        format!("{}/organizations/{}", self.frame.base, self.organization.name)
    }

    /// S7: of exactly the settings shown.
    fn check(&self) -> bool {
        self.draft_passed && self.problems.0.iter().all(|problem| problem.field.is_empty())
    }

    fn state_label(&self) -> &'static str {
        match self.state {
            ConnectionState::NotSetUp => "Not set up",
            ConnectionState::Untested => "Not tested",
            ConnectionState::TestFailed => "Test failed",
            ConnectionState::Tested => "Tested",
            ConnectionState::Live => "Live",
            ConnectionState::LiveChangePending => "Live, change pending",
        }
    }

    fn state_class(&self) -> &'static str {
        match self.state {
            ConnectionState::NotSetUp | ConnectionState::Untested => "",
            ConnectionState::TestFailed => "bad",
            ConnectionState::Tested | ConnectionState::Live => "good",
            ConnectionState::LiveChangePending => "warn",
        }
    }

    /// How many members wait for an admin's decision.
    fn waiting(&self) -> String {
        counted(self.link_requests, "member waits", "members wait")
    }

    /// What members go on with while a newer draft waits.
    fn pending(&self) -> Option<&LiveCard> {
        self.live.as_ref().filter(|_| self.state == ConnectionState::LiveChangePending)
    }

    /// Advanced settings differ from their defaults, or one of them has a mistake.
    fn advanced_open(&self) -> bool {
        let form = &self.form;
        let chosen = !form.scopes.is_empty()
            || !form.client_auth_method.is_empty()
            || form.userinfo == "always"
            || !form.email_claim.is_empty()
            || !form.hosted_domains.is_empty();
        let mistaken = ["scopes", "client_auth_method", "userinfo", "email_claim", "hosted_domains"]
            .into_iter()
            .any(|field| self.problems.of(field).is_some());
        chosen || mistaken
    }
}
