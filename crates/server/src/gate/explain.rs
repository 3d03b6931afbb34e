//! Why the gate decides as it does: `doorward explain`, and the decision of the JSON API.
//!
//! In: one request for an application, and who would send it. Out: what the gate would answer, with what it looked at.
//! Invariant: nothing is decided here. Reading, facts and decision are the gate's own functions, and the explanation is
//! what they say of themselves (`Unreadable`, `Matched`, `Ground`). A test compares both over HTTP.

use doorward_core::connection::{Enforcement, sso_session_ends_at};
use doorward_core::error_code::ErrorCode;
use doorward_core::gate_decision::{
    Credential, Decision, Facts, Ground, Owner, Permit, Sso, SsoSession, SsoStanding, decide_and_say_why,
};
use doorward_core::ids::OrganizationId;
use doorward_core::request_target::{
    Ambiguous, Matched, Method, Offence, Pattern, Rule, Target, normalise_path, offence,
};
use doorward_core::time::Timestamp;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

pub use super::auth_request::Address;
use super::caller::{Caller, sso_session_at};
use super::{Place, Question, Unreadable, facts, question_is_navigation, read, way_on};
use crate::app::App;
use crate::audit_export::rfc3339;
use crate::session::session_is_alive;
use crate::store::{self, AccountFacts, SsoFacts, StoreError};

/// Who would send the request.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Nobody who is signed in.
    Stranger,
    /// An account that is signed in.
    Account(Arc<AccountFacts>, SsoTried),
}

/// Which single sign-on to suppose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SsoTried {
    /// That of the account's session in which it was completed last.
    AsItIs,
    /// Completed just now.
    Complete,
    /// Not completed.
    Missing,
    /// The organization has none.
    None,
}

/// What the gate would answer, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The application's name.
    pub application: String,
    /// The method, as sent.
    pub method: String,
    /// The path, as sent; without the query, which decides nothing and may hold secrets.
    pub path: String,
    /// What makes the request unreadable (step 1).
    pub refused: Option<Refused>,
    /// What the path means to the application.
    pub target: Option<TargetRead>,
    /// The organization that the path names.
    pub organization: Option<OrganizationKnown>,
    /// Who asks; nothing for a stranger.
    pub account: Option<AccountKnown>,
    /// `allow`, `authenticate`, `deny` or `refuse`.
    pub decision: &'static str,
    /// The step of the gate that decided, 1 to 6.
    pub step: u8,
    /// What it rests on, for programs.
    pub ground: &'static str,
    /// The same in words.
    pub reason: String,
    /// What is sent.
    pub answer: AnswerGiven,
    /// Whose the target is, for whoever may only see his own.
    #[serde(skip)]
    pub owner: Option<OrganizationId>,
}

/// The part of a request that can't be read in one way only.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// In words.
    pub cause: String,
    /// The character to blame, or its escape, as sent.
    pub character: Option<String>,
    /// Bytes of the path before it.
    pub at: Option<usize>,
    /// The segment that it stands in, as sent.
    pub segment: Option<String>,
}

/// What an application's patterns make of a path.
#[derive(Clone, Debug, Serialize)]
pub struct TargetRead {
    /// The path, decoded once.
    pub path: String,
    /// The pattern of `public` that matched.
    pub public_pattern: Option<String>,
    /// The pattern of `organization` that matched.
    pub organization_pattern: Option<String>,
    /// The organization's name in the path, in lower case.
    pub organization: Option<String>,
    /// The resource in the path.
    pub resource: Option<ResourceRead>,
    /// The least role that a member needs.
    pub needed_role: &'static str,
    /// The entry of `rules` that asks for it; without one, the method says which.
    pub rule: Option<RuleMatched>,
    /// The application's `unowned`.
    pub unowned: &'static str,
}

/// A resource, and whether it is public.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceRead {
    /// The literal segments before it in the pattern.
    pub prefix: String,
    /// Its name, in lower case.
    pub name: String,
    /// Registered as public.
    pub public: bool,
}

/// An entry of `rules`.
#[derive(Clone, Debug, Serialize)]
pub struct RuleMatched {
    /// Its methods; empty for all.
    pub methods: Vec<&'static str>,
    /// Its path.
    pub path: String,
    /// Its role.
    pub role: &'static str,
}

/// What is known of the name in the path.
#[derive(Clone, Debug, Serialize)]
pub struct OrganizationKnown {
    /// The name: as created, or as it stands in the path.
    pub name: String,
    /// `there`, `deleted` or `unknown`.
    pub state: &'static str,
    /// `off`, `optional` or `enforced`.
    pub sso: &'static str,
    /// How long an SSO session lasts, in seconds.
    pub session_timeout: Option<i64>,
}

/// What is known of the account, as far as it matters here.
#[derive(Clone, Debug, Serialize)]
pub struct AccountKnown {
    /// Its name.
    pub name: String,
    /// Switched off by the operator: its sessions count for nothing.
    pub switched_off: bool,
    /// Its role in the organization, if it is a member.
    pub role: Option<&'static str>,
    /// Spared single sign-on.
    pub external_collaborator: bool,
    /// The single sign-on that was looked at.
    pub sso_session: Option<SsoSessionKnown>,
}

/// An SSO session of the organization.
#[derive(Clone, Debug, Serialize)]
pub struct SsoSessionKnown {
    /// When the person signed in at the provider.
    pub authenticated_at: Option<String>,
    /// When it ends, by the organization's time-out of now.
    pub ends_at: Option<String>,
    /// It came from the settings that are live.
    pub under_live_settings: bool,
}

/// What is sent back, or on to the application.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerGiven {
    /// 200 goes on; a browser's address bar is redirected with 302; a program gets 401.
    pub status: u16,
    /// The code, unless it goes on.
    pub code: Option<&'static str>,
    /// Where the person signs in or completes single sign-on.
    pub location: Option<String>,
    /// `Doorward-Organization` of what goes on.
    pub organization: String,
    /// `Doorward-Role` of what goes on.
    pub role: &'static str,
    /// `Doorward-Sso` of what goes on.
    pub sso: &'static str,
}

/// The application and the target of an absolute URL, as a proxy's question names them. A URL without a path is its root.
pub fn split_url<'u>(app: &'u App, url: &'u str) -> Result<Address<'u>, ErrorCode> {
    super::auth_request::split(app, url)
}

/// Explains what the gate would answer to `question` if it came from `asker`; its cookies are not looked at.
pub async fn explain(app: &App, question: &Question<'_>, asker: &Asker) -> Result<Explanation, StoreError> {
    let navigation = question_is_navigation(question);
    let mut explanation = Explanation {
        application: question.application.name().to_owned(),
        method: question.method.to_owned(),
        path: question.target.split('?').next().unwrap_or_default().to_owned(),
        refused: None,
        target: None,
        organization: None,
        account: None,
        decision: "refuse",
        step: 1,
        ground: "unreadable",
        reason: String::new(),
        answer: AnswerGiven {
            status: 200,
            code: None,
            location: None,
            organization: String::new(),
            role: "",
            sso: "",
        },
        owner: None,
    };
    let (method, path) = match read(question) {
        Ok(read) => read,
        Err(unreadable) => return Ok(explanation.refuse(question, unreadable)),
    };
    let (target, matched) = match question.application.gate.target(method, &question.host, &path) {
        Ok(read) => read,
        Err(ambiguous) => return Ok(explanation.refuse(question, Unreadable::Path(ambiguous))),
    };

    let now = app.clock.now();
    let place = Place::of(app, &target, now).await?;
    let facts = facts_of(asker, &place, now);
    let (decision, ground) = decide_and_say_why(&target, &facts, now);

    explanation.step = ground.step();
    explanation.ground = ground.as_str();
    explanation.reason = reason(ground, &target, &facts);
    explanation.owner = place.organization.as_ref().map(|organization| organization.id);
    explanation.organization = target.organization.as_deref().map(|name| {
        OrganizationKnown::of(name, &facts, place.organization.as_deref().map(store::OrganizationFacts::name))
    });
    explanation.account = AccountKnown::of(asker, &facts, now);
    explanation.target = Some(TargetRead::of(path.as_str(), &target, &matched, &facts));
    let answer = &mut explanation.answer;
    explanation.decision = match &decision {
        Decision::Allow(permit) => {
            answer.set_identity(permit);
            "allow"
        }
        Decision::Authenticate(step) => {
            answer.status = if navigation { 302 } else { step.code().status() };
            answer.code = Some(step.code().as_str());
            answer.location = Some(way_on(app, question, *step, &Caller::Nobody, &place));
            "authenticate"
        }
        Decision::Deny(reason) => {
            answer.status = reason.code().status();
            answer.code = Some(reason.code().as_str());
            "deny"
        }
    };
    Ok(explanation)
}

/// What the gate would know of this asker.
fn facts_of<'f>(asker: &'f Asker, place: &'f Place, now: Timestamp) -> Facts<'f> {
    // As in `session::signed_in`: the sessions of an account that is switched off count for nothing.
    let (account, tried) = match asker {
        Asker::Account(account, tried) if !account.disabled => (account, *tried),
        Asker::Account(..) | Asker::Stranger => return facts(None, Credential::Session, None, place),
    };
    let sso_session = sso_session_at(last_sso(account, place, now), place.at());
    let mut facts = facts(Some(account), Credential::Session, sso_session, place);
    match tried {
        SsoTried::AsItIs => {}
        SsoTried::Complete => {
            facts.sso_session = Some(SsoSession { authenticated_at: now, under_live_issuer: true });
        }
        SsoTried::Missing => facts.sso_session = None,
        SsoTried::None => {
            if let Owner::Organization(organization) = &mut facts.owner {
                organization.sso = Sso::Off;
            }
        }
    }
    facts
}

/// The single sign-on of the account's session in which the organization's was completed last.
fn last_sso<'f>(account: &'f AccountFacts, place: &Place, now: Timestamp) -> &'f [SsoFacts] {
    let Some(organization) = &place.organization else { return &[] };
    let done = |sso: &[SsoFacts]| {
        let done = sso.iter().find(|sso| sso.organization == organization.id)?;
        Some((done.epoch() == organization.epoch(), done.authenticated_at()))
    };
    let alive = account.sessions.iter().filter(|session| session_is_alive(session, now));
    let last = alive.filter(|session| done(&session.sso).is_some()).max_by_key(|session| done(&session.sso));
    last.map_or(&[], |session| &session.sso)
}

fn reason(ground: Ground, target: &Target<'_>, facts: &Facts<'_>) -> String {
    let words = ground.in_words();
    match (ground, facts.membership) {
        (Ground::Unowned, _) => format!("{words} It is `{}`.", target.unowned.as_str()),
        (Ground::RoleTooLow, Some(membership)) => {
            format!("{words} It is {}, and {} is needed.", membership.role, target.needed_role)
        }
        _ => words.to_owned(),
    }
}

impl Explanation {
    fn refuse(mut self, question: &Question<'_>, unreadable: Unreadable) -> Self {
        let (ground, cause) = match unreadable {
            Unreadable::Method => ("method", "the method is not one that is passed on".to_owned()),
            Unreadable::Upgrade => ("upgrade", "the upgrade is not a single websocket".to_owned()),
            Unreadable::Path(ambiguous) => ("ambiguous_path", ambiguous.to_string()),
            Unreadable::Cookies => ("cookies_too_large", "the cookies are more than 8 KiB".to_owned()),
            Unreadable::Handover => ("handover", "paths below /.doorward/ are Doorward's own".to_owned()),
        };
        let to_blame = match unreadable {
            Unreadable::Path(ambiguous) => blame(question, ambiguous),
            Unreadable::Method | Unreadable::Upgrade | Unreadable::Cookies | Unreadable::Handover => None,
        };
        self.ground = ground;
        self.reason = format!("The request can't be passed on: {cause}.");
        self.answer.status = unreadable.code().status();
        self.answer.code = Some(unreadable.code().as_str());
        self.refused = Some(Refused {
            cause,
            character: to_blame.map(|offence| offence.character.to_owned()),
            at: to_blame.map(|offence| offence.at),
            segment: to_blame.map(|offence| offence.segment.to_owned()),
        });
        self
    }
}

/// The character that the gate's own reading of this target refuses.
fn blame<'q>(question: &Question<'q>, why: Ambiguous) -> Option<Offence<'q>> {
    let method = Method::from_text(question.method)?;
    offence(question.target, why, |path| {
        question.application.gate.target(method, &question.host, &normalise_path(path)?).map(|_| ())
    })
}

impl TargetRead {
    fn of(path: &str, target: &Target<'_>, matched: &Matched<'_>, facts: &Facts<'_>) -> Self {
        let text = |pattern: Option<&Pattern>| pattern.map(|pattern| pattern.as_str().to_owned());
        Self {
            path: path.to_owned(),
            public_pattern: text(matched.public),
            organization_pattern: text(matched.organization),
            organization: target.organization.as_deref().map(str::to_owned),
            resource: target.resource.as_ref().map(|resource| ResourceRead {
                prefix: resource.prefix.to_owned(),
                name: resource.name.as_ref().to_owned(),
                public: facts.resource_is_public,
            }),
            needed_role: target.needed_role.as_str(),
            rule: matched.rule.map(RuleMatched::of),
            unowned: target.unowned.as_str(),
        }
    }
}

impl RuleMatched {
    fn of(rule: &Rule) -> Self {
        Self {
            methods: rule.methods.iter().map(|method| method.as_str()).collect(),
            path: rule.path.as_str().to_owned(),
            role: rule.role.as_str(),
        }
    }
}

impl OrganizationKnown {
    fn of(in_path: &str, facts: &Facts<'_>, as_created: Option<&str>) -> Self {
        let (state, sso) = match facts.owner {
            Owner::Nobody => ("unknown", Sso::Off),
            Owner::DeletedOrganization => ("deleted", Sso::Off),
            Owner::Organization(organization) => ("there", organization.sso),
        };
        let (sso, session_timeout) = match sso {
            Sso::Off => ("off", None),
            Sso::On { enforcement, session_timeout } => {
                let sso = match enforcement {
                    Enforcement::Enforced => "enforced",
                    Enforcement::Optional => "optional",
                };
                (sso, Some(session_timeout.seconds()))
            }
        };
        Self { name: as_created.unwrap_or(in_path).to_owned(), state, sso, session_timeout }
    }
}

impl AccountKnown {
    fn of(asker: &Asker, facts: &Facts<'_>, now: Timestamp) -> Option<Self> {
        let Asker::Account(account, _) = asker else { return None };
        let timeout = match facts.owner {
            Owner::Organization(organization) => match organization.sso {
                Sso::On { session_timeout, .. } => Some(session_timeout),
                Sso::Off => None,
            },
            Owner::Nobody | Owner::DeletedOrganization => None,
        };
        let membership = facts.membership;
        Some(Self {
            name: account.name().to_owned(),
            switched_off: account.disabled,
            role: membership.map(|membership| membership.role.as_str()),
            external_collaborator: membership
                .is_some_and(|membership| membership.external_collaborator.spares(now)),
            sso_session: facts.sso_session.zip(timeout).map(|(session, timeout)| SsoSessionKnown {
                authenticated_at: rfc3339(session.authenticated_at),
                ends_at: rfc3339(sso_session_ends_at(session.authenticated_at, timeout)),
                under_live_settings: session.under_live_issuer,
            }),
        })
    }
}

impl AnswerGiven {
    fn set_identity(&mut self, permit: &Permit<'_>) {
        if let Some(place) = permit.place() {
            place.organization.clone_into(&mut self.organization);
            self.role = place.role.as_str();
        }
        self.sso = match permit.sso() {
            SsoStanding::Complete => "complete",
            SsoStanding::Missing => "missing",
            SsoStanding::None => "",
        };
    }
}

/// For a person: one line for each thing that was looked at, in the order of the gate's steps.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, text: &str| writeln!(f, "{label:<15} {}", printable(text));
        line("application", &self.application)?;
        line("request", &format!("{} {}", self.method, self.path))?;
        if let Some(refused) = &self.refused {
            line("refused", &refused.cause)?;
            if let (Some(character), Some(at), Some(segment)) =
                (&refused.character, refused.at, &refused.segment)
            {
                line("", &format!("because of {character:?} at byte {at}, in the segment {segment:?}"))?;
            }
        }
        if let Some(target) = &self.target {
            line("path", &target.path)?;
            line("pattern", &target.pattern_in_words())?;
            if let Some(organization) = &self.organization {
                line("organization", &organization.in_words())?;
            }
            if let Some(resource) = &target.resource {
                let visibility = if resource.public { "public" } else { "private" };
                let prefix = if resource.prefix.is_empty() {
                    String::new()
                } else {
                    format!(" under {}", resource.prefix)
                };
                line("resource", &format!("{}{prefix}: {visibility}", resource.name))?;
            }
            line("role needed", &target.role_in_words())?;
            let account = self
                .account
                .as_ref()
                .map_or("a stranger: nobody is signed in".to_owned(), AccountKnown::in_words);
            line("account", &account)?;
            if let Some(session) = self.account.as_ref().and_then(|account| account.sso_session.as_ref()) {
                line("single sign-on", &session.in_words())?;
            }
        }
        line("decision", &format!("{}, by step {} ({})", self.decision, self.step, self.ground))?;
        line("reason", &self.reason)?;
        line("answer", &self.answer.in_words())
    }
}

/// Nothing from outside moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl TargetRead {
    fn pattern_in_words(&self) -> String {
        match (&self.public_pattern, &self.organization_pattern) {
            (Some(public), Some(organization)) => {
                format!("{public} of public, and {organization} of organization")
            }
            (Some(public), None) => format!("{public} of public"),
            (None, Some(organization)) => format!("{organization} of organization"),
            (None, None) => {
                format!("none: the path belongs to no organization (unowned = {:?})", self.unowned)
            }
        }
    }

    fn role_in_words(&self) -> String {
        match &self.rule {
            Some(rule) if rule.methods.is_empty() => {
                format!("{}, by the rule for {}", self.needed_role, rule.path)
            }
            Some(rule) => {
                format!("{}, by the rule for {} {}", self.needed_role, rule.methods.join(", "), rule.path)
            }
            None => format!("{}, by the method: no rule matches", self.needed_role),
        }
    }
}

impl OrganizationKnown {
    fn in_words(&self) -> String {
        match (self.state, self.session_timeout) {
            ("unknown", _) => format!("{}: nobody has this name", self.name),
            ("deleted", _) => format!("{}: deleted", self.name),
            (_, Some(timeout)) => {
                format!("{}: single sign-on {}, for {} hours at a time", self.name, self.sso, timeout / 3600)
            }
            (_, None) => format!("{}: single sign-on {}", self.name, self.sso),
        }
    }
}

impl AccountKnown {
    fn in_words(&self) -> String {
        if self.switched_off {
            return format!("{}: switched off, so its sessions count for nothing", self.name);
        }
        let collaborator = if self.external_collaborator { ", external collaborator" } else { "" };
        match self.role {
            Some(role) => format!("{}: member, with the role {role}{collaborator}", self.name),
            None => format!("{}: not a member", self.name),
        }
    }
}

impl SsoSessionKnown {
    fn in_words(&self) -> String {
        let [began, ends] = [&self.authenticated_at, &self.ends_at].map(|at| at.as_deref().unwrap_or("?"));
        let settings = if self.under_live_settings { "" } else { ", under settings that are no longer live" };
        format!("completed {began}, good until {ends}{settings}")
    }
}

impl AnswerGiven {
    fn in_words(&self) -> String {
        match (self.code, &self.location) {
            (None, _) => {
                let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
                format!(
                    "{}, on to the application with organization {}, role {}, single sign-on {}",
                    self.status,
                    shown(&self.organization),
                    shown(self.role),
                    shown(self.sso)
                )
            }
            (Some(code), None) => format!("{} {code}", self.status),
            (Some(code), Some(location)) => format!("{} {code}, to {location}", self.status),
        }
    }
}
