//! `import FILE`: accounts, organizations, memberships and connections from another system, as lines of JSON (docs/import.md).
//!
//! The file is checked whole before anything is written; then 1,000 lines are one transaction, with their audit events.
//! A line that was taken is remembered by its hash, so the same file again changes nothing, and a run that was
//! interrupted goes on. No secret of the file is ever shown, in a mistake neither.

use super::Context;
use crate::app::App;
use crate::command_line::Import;
use crate::failure::Failure;
use crate::passwords::judge_foreign_hash;
use crate::sso::settings::{SettingsForm, judge};
use crate::store::{
    Actor, AuditEntry, ImportedAccount, ImportedMembership, ImportedOrganization, NameOwner, NewAccount,
    NewRevision, Plan, StoreError, load_organization,
};
use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccountId, ConnectionId, OrganizationId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::{Secret, TokenHash};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::path::Path;

/// Lines of one commit.
const LINES_AT_ONCE: usize = 1_000;
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Mistakes that are told.
const MISTAKES_TOLD: usize = 100;
/// Progress is told after as many commits.
const COMMITS_PER_REPORT: u64 = 10;
/// Addresses of one account.
const EMAILS_MAX: usize = 20;

// === What a line may say ===

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Account(AccountLine),
    Organization(OrganizationLine),
    Membership(MembershipLine),
    Connection(ConnectionLine),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountLine {
    name: String,
    #[serde(default)]
    full_name: String,
    #[serde(default)]
    emails: Vec<EmailLine>,
    password_hash: Option<String>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmailLine {
    address: String,
    proved: bool,
    #[serde(default)]
    primary: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganizationLine {
    name: String,
    display_name: String,
    #[serde(default = "enterprise")]
    plan: String,
}

fn enterprise() -> String {
    Plan::Enterprise.as_str().to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipLine {
    organization: String,
    account: String,
    role: String,
    #[serde(default)]
    external_collaborator: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionLine {
    organization: String,
    issuer_url: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    client_auth_method: String,
    #[serde(default)]
    userinfo: String,
    #[serde(default)]
    email_claim: String,
    #[serde(default)]
    hosted_domains: Vec<String>,
}

/// One line with its place and what it is remembered by.
struct Numbered {
    number: u64,
    hash: String,
    line: Result<Line, String>,
}

impl Numbered {
    fn parse(number: u64, text: &[u8]) -> Self {
        let line = serde_json::from_slice::<Line>(text).map_err(|error| without_values(&error));
        // A client secret may be short enough to be guessed from a hash, so it is not part of it.
        let hash = match &line {
            Ok(Line::Connection(line)) => TokenHash::of(&format!(
                "connection {:?}",
                (
                    &line.organization.to_ascii_lowercase(),
                    (&line.issuer_url, &line.client_id, &line.scopes, &line.client_auth_method),
                    (&line.userinfo, &line.email_claim, &line.hosted_domains),
                )
            )),
            _ => TokenHash::of(&String::from_utf8_lossy(text)),
        };
        Self { number, hash: hash.to_text(), line }
    }

    /// The names that must be looked up before the line can be judged, in lower case. One with NUL is nobody's, and no
    /// text that PostgreSQL takes.
    fn names(&self) -> Vec<String> {
        let names = match &self.line {
            Ok(Line::Account(line)) => vec![&line.name],
            Ok(Line::Organization(line)) => vec![&line.name],
            Ok(Line::Membership(line)) => vec![&line.organization, &line.account],
            Ok(Line::Connection(line)) => vec![&line.organization],
            Err(_) => Vec::new(),
        };
        names.into_iter().filter(|name| !name.contains('\0')).map(|name| name.to_ascii_lowercase()).collect()
    }
}

/// What is wrong with a line as JSON, without any of its values: one of them may be a secret.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let tells_names_only = ["unknown field", "missing field", "duplicate field"];
    if tells_names_only.iter().any(|begin| text.starts_with(begin)) {
        text.chars().filter(|c| !c.is_control()).take(300).collect()
    } else if text.starts_with("unknown variant") {
        "the type is none of account, organization, membership and connection".to_owned()
    } else if error.is_data() {
        "a field has a value of the wrong kind".to_owned()
    } else {
        "it is not one JSON object".to_owned()
    }
}

/// Reads the file a commit's worth of lines at a time. Blank lines are passed over.
struct Chunks<'a> {
    path: &'a Path,
    file: BufReader<File>,
    number: u64,
}

impl<'a> Chunks<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path, file: BufReader::with_capacity(256 * 1024, file), number: 0 })
    }

    /// The next lines; empty at the end.
    fn next(&mut self) -> Result<Vec<Numbered>, Failure> {
        let mut chunk = Vec::new();
        let mut text = Vec::new();
        while chunk.len() < LINES_AT_ONCE {
            text.clear();
            let mut bounded = (&mut self.file).take(LINE_BYTES_MAX + 1);
            bounded.read_until(b'\n', &mut text).map_err(|error| unreadable(self.path, &error))?;
            if text.is_empty() {
                break;
            }
            self.number += 1;
            if text.len() as u64 > LINE_BYTES_MAX {
                let what = format!("line {}: it is longer than 64 KiB", self.number);
                return Err(Failure::about(ErrorCode::ImportMistaken, what));
            }
            let text = text.trim_ascii();
            if !text.is_empty() {
                chunk.push(Numbered::parse(self.number, text));
            }
        }
        Ok(chunk)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::about(ErrorCode::ImportMistaken, format!("{} can't be read: {error}", path.display()))
}

// === Checking ===

/// Where a name was met.
#[derive(Clone, Copy)]
enum Origin {
    Store,
    Line(u64),
}

#[derive(Clone, Copy)]
struct Known {
    owner: NameOwner,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    lines: u64,
    taken_before: u64,
    accounts: u64,
    organizations: u64,
    memberships: u64,
    connections: u64,
}

/// One run: what is known of names so far, and the mistakes.
struct Run<'a> {
    app: &'a App,
    operator: String,
    reserved: std::collections::BTreeSet<String>,
    names: HashMap<String, Known>,
    plans: HashMap<OrganizationId, Plan>,
    proved: HashMap<String, Origin>,
    members: HashSet<(OrganizationId, AccountId)>,
    connected: HashSet<OrganizationId>,
    /// Accounts of the file that can't sign in: switched off, or without a password.
    locked_out: HashSet<AccountId>,
    /// Organizations of the file that no line has given an admin who gets in yet.
    without_admin: HashMap<OrganizationId, u64>,
    /// Admins of such organizations whose accounts are in the store: whether they get in is not known yet.
    older_admins: Vec<(OrganizationId, AccountId)>,
    counts: Counts,
    mistakes: Vec<String>,
    mistakes_in_all: u64,
}

/// `import`.
pub async fn import(context: Context, import: Import, output: &mut dyn Write) -> Result<(), Failure> {
    let operator = context.operator.clone();
    let path = &import.file;
    // Before anything is opened: a file that is not there makes no database.
    let chunks = Chunks::open(path)?;
    let app = context.app().await?;
    let mut run = Run::new(&app, operator);
    run.check(chunks).await?;
    if run.mistakes_in_all > 0 {
        for mistake in &run.mistakes {
            writeln!(output, "{mistake}")?;
        }
        let told = run.mistakes.len() as u64;
        if run.mistakes_in_all > told {
            writeln!(output, "and {} more", run.mistakes_in_all - told)?;
        }
        let what = format!("{}: {} mistakes; nothing was written", path.display(), run.mistakes_in_all);
        return Err(Failure::about(ErrorCode::ImportMistaken, what));
    }
    let counts = run.counts;
    if counts.lines == counts.taken_before {
        writeln!(output, "All {} lines were taken before; nothing was changed.", counts.lines)?;
        return Ok(());
    }
    if import.check {
        writeln!(output, "{} lines are without mistakes; nothing was written.", counts.lines)?;
        return Ok(());
    }
    run.take(path, output).await?;
    writeln!(
        output,
        "{} accounts, {} organizations, {} memberships and {} connections were taken; {} of {} lines were taken before.",
        counts.accounts,
        counts.organizations,
        counts.memberships,
        counts.connections,
        counts.taken_before,
        counts.lines
    )?;
    Ok(())
}

impl<'a> Run<'a> {
    fn new(app: &'a App, operator: String) -> Self {
        Self {
            app,
            operator,
            reserved: app.configuration.reserved_first_segments(),
            names: HashMap::new(),
            plans: HashMap::new(),
            proved: HashMap::new(),
            members: HashSet::new(),
            connected: HashSet::new(),
            locked_out: HashSet::new(),
            without_admin: HashMap::new(),
            older_admins: Vec::new(),
            counts: Counts::default(),
            mistakes: Vec::new(),
            mistakes_in_all: 0,
        }
    }

    fn wrong(&mut self, line: u64, what: impl std::fmt::Display) {
        self.mistakes_in_all += 1;
        if self.mistakes.len() < MISTAKES_TOLD {
            self.mistakes.push(format!("line {line}: {what}"));
        }
    }

    async fn check(&mut self, mut chunks: Chunks<'_>) -> Result<(), Failure> {
        loop {
            let chunk = chunks.next()?;
            if chunk.is_empty() {
                break;
            }
            self.look_up(&chunk).await?;
            let imported = self.imported(&chunk).await?;
            let mut older_pairs = Vec::new();
            for numbered in &chunk {
                self.counts.lines += 1;
                let before = imported.contains(&numbered.hash);
                self.counts.taken_before += u64::from(before);
                let judged = match &numbered.line {
                    Err(what) => Err(what.clone()),
                    Ok(Line::Account(line)) => self.judge_account(numbered.number, line, before),
                    Ok(Line::Organization(line)) => self.judge_organization(numbered.number, line, before),
                    Ok(Line::Membership(line)) => {
                        self.judge_membership(numbered.number, line, before, &mut older_pairs)
                    }
                    Ok(Line::Connection(line)) => self.judge_connection(line, before).await?,
                };
                if let Err(what) = judged {
                    self.wrong(numbered.number, what);
                }
            }
            self.check_older_members(&older_pairs).await?;
            self.look_at_older_admins().await?;
        }
        let mut lines: Vec<u64> = std::mem::take(&mut self.without_admin).into_values().collect();
        lines.sort_unstable();
        for line in lines {
            let what = "no line makes anybody an admin who gets in: switched on, with a password, no external collaborator";
            self.wrong(line, what);
        }
        Ok(())
    }

    async fn look_up(&mut self, chunk: &[Numbered]) -> Result<(), Failure> {
        let mut unknown: Vec<String> = chunk.iter().flat_map(Numbered::names).collect();
        unknown.retain(|key| !self.names.contains_key(key));
        unknown.sort_unstable();
        unknown.dedup();
        for (key, owner) in self.app.store.load_owners(&unknown).await? {
            self.names.insert(key, Known { owner, origin: Origin::Store });
        }
        let mut proved = Vec::new();
        for numbered in chunk {
            if let Ok(Line::Account(line)) = &numbered.line {
                let theirs = line.emails.iter().filter(|email| email.proved);
                let theirs = theirs.filter_map(|email| Email::parse(&email.address).ok());
                proved.extend(theirs.map(|email| email.key().to_owned()));
            }
        }
        for key in self.app.store.load_proved(&proved).await? {
            self.proved.entry(key).or_insert(Origin::Store);
        }
        Ok(())
    }

    async fn imported(&self, chunk: &[Numbered]) -> Result<HashSet<String>, Failure> {
        let hashes: Vec<String> = chunk.iter().map(|numbered| numbered.hash.clone()).collect();
        Ok(self.app.store.load_imported(&hashes).await?.into_iter().collect())
    }

    /// Takes a name for a line; refused if somebody has it.
    fn take_name(&mut self, number: u64, name: &Name, owner: NameOwner) -> Result<(), String> {
        match self.names.get(name.key()) {
            Some(Known { origin: Origin::Store, .. }) => Err(format!("the name {name} is taken")),
            Some(Known { origin: Origin::Line(line), .. }) => {
                Err(format!("the name {name} is that of line {line}"))
            }
            None => {
                let known = Known { owner, origin: Origin::Line(number) };
                self.names.insert(name.key().to_owned(), known);
                Ok(())
            }
        }
    }

    fn judge_account(&mut self, number: u64, line: &AccountLine, before: bool) -> Result<(), String> {
        let name = Name::parse(&line.name).map_err(|why| why.to_string())?;
        if before {
            return Ok(());
        }
        if line.full_name.chars().count() > 100 || line.full_name.chars().any(char::is_control) {
            return Err("a person's name has at most 100 characters, and no control characters".to_owned());
        }
        if let Some(hash) = &line.password_hash {
            judge_foreign_hash(hash).map_err(str::to_owned)?;
        }
        let emails = emails_of(line)?;
        for (email, ..) in emails.iter().filter(|(_, proved, _)| *proved) {
            match self.proved.get(email.key()) {
                Some(Origin::Store) => {
                    return Err("one of its proved addresses is another account's".to_owned());
                }
                Some(Origin::Line(line)) => {
                    return Err(format!("one of its proved addresses is proved on line {line} too"));
                }
                None => {}
            }
        }
        let id = AccountId::new(self.app.clock.now().millis(), self.random_bytes()?);
        self.take_name(number, &name, NameOwner::Account(id))?;
        if line.disabled || line.password_hash.is_none() {
            self.locked_out.insert(id);
        }
        let proved = emails.iter().filter(|(_, proved, _)| *proved);
        self.proved.extend(proved.map(|(email, ..)| (email.key().to_owned(), Origin::Line(number))));
        self.counts.accounts += 1;
        Ok(())
    }

    fn judge_organization(
        &mut self,
        number: u64,
        line: &OrganizationLine,
        before: bool,
    ) -> Result<(), String> {
        let name = Name::parse(&line.name).map_err(|why| why.to_string())?;
        let plan = Plan::from_text(&line.plan).ok_or("the plan is none of free, team and enterprise")?;
        if before {
            return Ok(());
        }
        if self.reserved.contains(name.key()) {
            return Err(format!("an application has pages of its own under /{}", name.key()));
        }
        let characters = line.display_name.trim().chars().count();
        if !(1..=100).contains(&characters) || line.display_name.chars().any(char::is_control) {
            return Err("display_name has 1 to 100 characters, and no control characters".to_owned());
        }
        let id = OrganizationId::new(self.app.clock.now().millis(), self.random_bytes()?);
        self.take_name(number, &name, NameOwner::Organization(id))?;
        self.plans.insert(id, plan);
        self.without_admin.insert(id, number);
        self.counts.organizations += 1;
        Ok(())
    }

    fn random_bytes(&self) -> Result<[u8; 10], String> {
        self.app.random.bytes().map_err(|error| error.to_string())
    }

    fn organization(&self, name: &str) -> Result<(OrganizationId, Origin), String> {
        match self.names.get(&name.to_ascii_lowercase()) {
            Some(Known { owner: NameOwner::Organization(id), origin }) => Ok((*id, *origin)),
            Some(Known { owner: NameOwner::Gone, .. }) => {
                Err(format!("what the name {name} belonged to is gone"))
            }
            _ => Err("there is no such organization, neither on an earlier line nor in the store".to_owned()),
        }
    }

    fn account(&self, name: &str) -> Result<(AccountId, Origin), String> {
        match self.names.get(&name.to_ascii_lowercase()) {
            Some(Known { owner: NameOwner::Account(id), origin }) => Ok((*id, *origin)),
            Some(Known { owner: NameOwner::Gone, .. }) => {
                Err(format!("what the name {name} belonged to is gone"))
            }
            _ => Err("there is no such account, neither on an earlier line nor in the store".to_owned()),
        }
    }

    fn judge_membership(
        &mut self,
        number: u64,
        line: &MembershipLine,
        before: bool,
        older_pairs: &mut Vec<(u64, OrganizationId, AccountId)>,
    ) -> Result<(), String> {
        let known =
            self.organization(&line.organization).and_then(|known| Ok((known, self.account(&line.account)?)));
        // A line that was taken is passed over, whatever became of those whom it names.
        let ((organization, organization_origin), (account, account_origin)) = match known {
            Err(_) if before => return Ok(()),
            known => known?,
        };
        let role: Role =
            line.role.parse().map_err(|error: doorward_core::membership::UnknownRole| error.to_string())?;
        if !self.members.insert((organization, account)) {
            return Err("an earlier line says the same account's role in this organization".to_owned());
        }
        if before {
            return Ok(());
        }
        if role == Role::Admin && !line.external_collaborator {
            match account_origin {
                Origin::Store => self.older_admins.push((organization, account)),
                Origin::Line(_) if self.locked_out.contains(&account) => {}
                Origin::Line(_) => drop(self.without_admin.remove(&organization)),
            }
        }
        if let (Origin::Store, Origin::Store) = (organization_origin, account_origin) {
            older_pairs.push((number, organization, account));
        }
        self.counts.memberships += 1;
        Ok(())
    }

    async fn check_older_members(
        &mut self,
        pairs: &[(u64, OrganizationId, AccountId)],
    ) -> Result<(), Failure> {
        let keys: Vec<_> = pairs.iter().map(|&(_, organization, account)| (organization, account)).collect();
        let there: HashSet<_> = self.app.store.load_existing_members(&keys).await?.into_iter().collect();
        for &(number, organization, account) in pairs {
            if there.contains(&(organization, account)) {
                self.wrong(number, "this account is a member already");
            }
        }
        Ok(())
    }

    async fn look_at_older_admins(&mut self) -> Result<(), Failure> {
        let mut admins = std::mem::take(&mut self.older_admins);
        admins.retain(|(organization, _)| self.without_admin.contains_key(organization));
        let accounts: Vec<_> = admins.iter().map(|&(_, account)| account).collect();
        let get_in: HashSet<_> = self.app.store.load_able_to_sign_in(&accounts).await?.into_iter().collect();
        for (organization, _) in admins.iter().filter(|(_, account)| get_in.contains(account)) {
            self.without_admin.remove(organization);
        }
        Ok(())
    }

    async fn judge_connection(
        &mut self,
        line: &ConnectionLine,
        before: bool,
    ) -> Result<Result<(), String>, Failure> {
        if before {
            return Ok(Ok(()));
        }
        let (id, origin) = match self.organization(&line.organization) {
            Ok(known) => known,
            Err(what) => return Ok(Err(what)),
        };
        let plan = match origin {
            Origin::Line(_) => self.plans.get(&id).copied(),
            Origin::Store => {
                let mut reader = self.app.store.reader();
                load_organization(&mut reader, &line.organization).await?.map(|found| found.plan)
            }
        };
        if !plan.is_some_and(Plan::has_sso) {
            return Ok(Err("the organization's plan has no single sign-on".to_owned()));
        }
        if let Err(what) = self.revision(line) {
            return Ok(Err(what));
        }
        if !self.connected.insert(id) {
            return Ok(Err("an earlier line has this organization's connection".to_owned()));
        }
        self.counts.connections += 1;
        Ok(Ok(()))
    }

    /// The draft that a line describes, judged as the settings form is.
    fn revision(&self, line: &ConnectionLine) -> Result<NewRevision, String> {
        let form = SettingsForm {
            client_id: line.client_id.clone(),
            client_secret: Secret::new(line.client_secret.clone()),
            issuer_url: line.issuer_url.clone(),
            scopes: line.scopes.clone(),
            client_auth_method: line.client_auth_method.clone(),
            userinfo: line.userinfo.clone(),
            email_claim: line.email_claim.clone(),
            hosted_domains: line.hosted_domains.join(" "),
        };
        let (mistakes, revision) = judge(self.app, &form);
        if revision.client_secret.expose().is_empty() {
            return Err(format!("client_secret: {}", ErrorCode::SettingsClientSecretMissing.meaning()));
        }
        match mistakes.first() {
            Some(mistake) => Err(format!("{}: {}", mistake.field, mistake.code.meaning())),
            None => Ok(revision),
        }
    }
}

/// The addresses of a line: which are proved, and which one applications are told.
fn emails_of(line: &AccountLine) -> Result<Vec<(Email, bool, bool)>, String> {
    if line.emails.len() > EMAILS_MAX {
        return Err(format!("an account has at most {EMAILS_MAX} addresses"));
    }
    let marked = line.emails.iter().filter(|email| email.primary).count();
    if marked > 1 {
        return Err("only one address can be primary".to_owned());
    }
    let first_proved = line.emails.iter().position(|email| email.proved).unwrap_or(0);
    let mut emails: Vec<(Email, bool, bool)> = Vec::new();
    for (n, email) in line.emails.iter().enumerate() {
        let address = Email::parse(&email.address).map_err(|_| "an address is not one".to_owned())?;
        if emails.iter().any(|(known, ..)| known.key() == address.key()) {
            return Err("an address is there twice".to_owned());
        }
        let primary = if marked == 1 { email.primary } else { n == first_proved };
        emails.push((address, email.proved, primary));
    }
    Ok(emails)
}

// === Taking ===

/// What one commit does to an organization, for its audit log.
#[derive(Default)]
struct Deeds {
    created: bool,
    members: u64,
    admins: Vec<String>,
    revision: Option<String>,
}

impl Run<'_> {
    async fn take(&mut self, path: &Path, output: &mut dyn Write) -> Result<(), Failure> {
        let mut chunks = Chunks::open(path)?;
        let mut commits = 0;
        loop {
            let chunk = chunks.next()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let last = chunks.number;
            self.take_chunk(&chunk).await.map_err(|failure| Failure {
                what: format!(
                    "{}; lines before {} are taken",
                    failure.what,
                    chunk.first().map_or(0, |n| n.number)
                ),
                ..failure
            })?;
            commits += 1;
            if commits % COMMITS_PER_REPORT == 0 {
                writeln!(output, "{last} lines")?;
                output.flush()?;
            }
        }
    }

    async fn take_chunk(&mut self, chunk: &[Numbered]) -> Result<(), Failure> {
        let changed = || Failure::about(ErrorCode::ImportMistaken, "the file changed while it was read");
        let imported = self.imported(chunk).await?;
        let (mut accounts, mut organizations, mut memberships) = (Vec::new(), Vec::new(), Vec::new());
        let (mut connections, mut hashes) = (Vec::new(), Vec::new());
        let mut deeds: BTreeMap<OrganizationId, Deeds> = BTreeMap::new();
        let first = chunk.first().map_or(0, |numbered| numbered.number);
        for numbered in chunk.iter().filter(|numbered| !imported.contains(&numbered.hash)) {
            hashes.push(numbered.hash.clone());
            match numbered.line.as_ref().map_err(|_| changed())? {
                Line::Account(line) => accounts.push(self.imported_account(line).ok_or_else(changed)?),
                Line::Organization(line) => {
                    let organization = self.imported_organization(line).ok_or_else(changed)?;
                    deeds.entry(organization.id).or_default().created = true;
                    organizations.push(organization);
                }
                Line::Membership(line) => {
                    let membership = self.imported_membership(line, first).map_err(|_| changed())?;
                    let deed = deeds.entry(membership.organization).or_default();
                    deed.members += 1;
                    if membership.role == Role::Admin {
                        deed.admins.push(line.account.clone());
                    }
                    memberships.push(membership);
                }
                Line::Connection(line) => connections.push(line),
            }
        }
        if hashes.is_empty() {
            return Ok(());
        }
        let now = self.app.clock.now();
        let mut tx = self.app.store.begin().await?;
        tx.note_imported(&hashes).await.map_err(taken_meanwhile)?;
        tx.import_organizations(&organizations, now).await.map_err(taken_meanwhile)?;
        tx.import_accounts(&accounts, now).await.map_err(taken_meanwhile)?;
        tx.import_memberships(&memberships, now).await.map_err(taken_meanwhile)?;
        for line in connections {
            let organization = load_organization(&mut tx, &line.organization).await?.ok_or_else(changed)?;
            let revision = self.revision(line).map_err(|_| changed())?;
            let connection = ConnectionId::new(now.millis(), self.app.random.bytes()?);
            let (_, number) =
                tx.insert_revision(&organization, connection, &revision, &self.app.sealing, now).await?;
            deeds.entry(organization.id).or_default().revision = Some(number.to_string());
        }
        for (organization, deed) in deeds {
            tx.audit(self.entry(Some(organization), AuditAction::OrgImport, deed.details()), now).await?;
        }
        // The system's log comes last, as everywhere: whoever holds it waits for nobody's.
        if !accounts.is_empty() {
            let details = vec![("count", accounts.len().to_string())];
            tx.audit(self.entry(None, AuditAction::AccountImport, details), now).await?;
        }
        tx.commit(now).await.map_err(taken_meanwhile)
    }

    fn entry(
        &self,
        organization: Option<OrganizationId>,
        action: AuditAction,
        details: Vec<(&'static str, String)>,
    ) -> AuditEntry {
        let actor = Actor::Operator(self.operator.clone());
        AuditEntry { organization, action, actor, details, address: None, request_id: None }
    }

    fn imported_account(&self, line: &AccountLine) -> Option<ImportedAccount> {
        let account = NewAccount {
            id: self.account(&line.name).ok()?.0,
            name: Name::parse(&line.name).ok()?,
            full_name: line.full_name.trim().to_owned(),
            email: None,
            email_proved: false,
            password_hash: line.password_hash.clone(),
            operator: false,
        };
        Some(ImportedAccount { account, disabled: line.disabled, emails: emails_of(line).ok()? })
    }

    fn imported_organization(&self, line: &OrganizationLine) -> Option<ImportedOrganization> {
        Some(ImportedOrganization {
            id: self.organization(&line.name).ok()?.0,
            name: Name::parse(&line.name).ok()?,
            display_name: line.display_name.trim().to_owned(),
            plan: Plan::from_text(&line.plan)?,
        })
    }

    /// `first` is the first line of this commit: an account of an earlier one may be signed in already.
    fn imported_membership(&self, line: &MembershipLine, first: u64) -> Result<ImportedMembership, String> {
        let (account, origin) = self.account(&line.account)?;
        Ok(ImportedMembership {
            organization: self.organization(&line.organization)?.0,
            account,
            role: line.role.parse().map_err(|_| "role".to_owned())?,
            external_collaborator: line.external_collaborator,
            account_is_older: !matches!(origin, Origin::Line(line) if line >= first),
        })
    }
}

impl Deeds {
    fn details(self) -> Vec<(&'static str, String)> {
        let mut details = vec![("members", self.members.to_string())];
        if self.created {
            details.push(("created", "true".to_owned()));
        }
        if !self.admins.is_empty() {
            details.push(("admins", self.admins.join(" ")));
        }
        if let Some(revision) = self.revision {
            details.push(("revision", revision));
        }
        details
    }
}

fn taken_meanwhile(error: StoreError) -> Failure {
    match error {
        StoreError::Conflict => Failure::new(
            ErrorCode::ImportMistaken,
            "a name, an address or a membership of the file was taken while it was imported",
            "Run the command again: it checks anew, and goes on where it was.",
        ),
        error => error.into(),
    }
}
