//! An organization's SSO settings: connect, test, enable (hub-sso.md S1 to S10).
//!
//! In: the connection with its draft, live revision and newest test. Out: one page that says where things stand and
//! what the next click is. Invariant: the green check is shown exactly when the draft's own test passed and the form
//! shows the draft (S7).

use askama::Template;
use doorward_core::connection::{ConnectionState, Enforcement};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Step;

use super::step_label;
use crate::web::page::{Fault, Frame, Moment, OrganizationHead, Problems, Tab, counted};

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
    /// What is chosen at first.
    pub enforcement: Enforcement,
    /// Whose identity is linked to the account.
    pub identity: String,
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
    /// What widens entry asks for the organization's SSO first (rule 12).
    pub complete_sso_first: bool,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
}

impl SsoSettingsPage {
    fn org_path(&self) -> String {
        format!("{}/organizations/{}", self.frame.base, self.organization.name)
    }

    /// S7: of exactly the settings shown.
    fn check(&self) -> bool {
        self.draft_passed && self.problems.is_empty()
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
            || !form.email_claim.is_empty();
        let mistaken = ["scopes", "client_auth_method", "userinfo", "email_claim"]
            .into_iter()
            .any(|field| self.problems.of(field).is_some());
        chosen || mistaken
    }
}
