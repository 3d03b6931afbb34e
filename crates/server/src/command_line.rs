//! The command line: what may be written, and what each command is handed to.
//!
//! In: arguments, environment, standard input. Out: text on standard output, `error[code]` lines on standard error,
//! and an exit code: 0, 1 for a failure, 2 for a command that can't be read.
//! Secrets are read from standard input alone, never from an argument (others see arguments in the process list).

use crate::app::SharedApp;
use crate::clock::Clock;
use crate::commands::{self, Context, VerifyFile};
use crate::configuration::{Configuration, ConfigurationMistake};
use crate::failure::Failure;
use crate::gate;
use crate::logging;
use crate::probe;
use crate::proxy::Upstream;
use crate::proxy_config::{self, MadeFile, ProxyKind, Wanted};
use crate::random::Random;
use crate::serve::{self, Built};
use crate::store::Plan;
use crate::web;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use doorward_core::api_scope::ApiScope;
use doorward_core::connection::Enforcement;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::{Role, UnknownRole};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file that is read when `--config` names none and it is there.
const DEFAULT_FILE: &str = "doorward.toml";

/// Per-organization single sign-on in front of any multi-tenant application.
#[derive(Parser, Debug)]
#[command(name = "doorward", version, propagate_version = true, disable_help_subcommand = true)]
struct CommandLine {
    /// The configuration file [default: doorward.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve pages, gate and figures until SIGTERM
    Serve,
    /// Tell every mistake of the configuration and of what it names
    Check,
    /// Bring the database's schema up to date
    Migrate,
    /// Print the configuration of the proxy in front, made from this one
    ProxyConfig(ProxyConfig),
    /// Look through the proxy in front, from outside, at whether the gate stands there and nothing gets around it
    Probe(Probe),
    /// Write everything that must be kept to a new file, while serving; without the master key
    Backup(Backup),
    /// Put a backup in the place of an empty database; everybody signs in anew
    Restore(Restore),
    /// Take accounts, organizations, memberships and connections from another system's file
    Import(Import),
    /// Make accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make organizations, give and take roles
    #[command(subcommand)]
    Org(OrgCommand),
    /// Say which resources are public
    #[command(subcommand)]
    Resource(ResourceCommand),
    /// Show and change an organization's single sign-on
    #[command(subcommand)]
    Sso(SsoCommand),
    /// Read the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// See to the master key
    #[command(subcommand)]
    Key(KeyCommand),
    /// Say what the gate would answer to one request, and why
    Explain(Explain),
    /// Make and revoke organizations' tokens for the JSON API
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    /// Make a token and print it, this once
    Create(TokenCreate),
    /// List an organization's tokens
    List(TokenList),
    /// Revoke a token; it is refused from the next call on
    Revoke(TokenRevoke),
}

/// `token create`.
#[derive(Args, Debug)]
pub struct TokenCreate {
    /// The organization that it reads
    #[arg(long, value_name = "ORG")]
    pub organization: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// When it ends: 1 to 365 days from now
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub days: u16,
    /// decision, members, resources or audit-log; may be given several times [default: decision]
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    pub scope: Vec<ApiScope>,
}

/// `token list`.
#[derive(Args, Debug)]
pub struct TokenList {
    /// The organization
    #[arg(long, value_name = "ORG")]
    pub organization: String,
}

/// `token revoke`.
#[derive(Args, Debug)]
pub struct TokenRevoke {
    /// The organization
    #[arg(long, value_name = "ORG")]
    pub organization: String,
    /// The token's id, as listed
    pub token: String,
}

/// `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The request's method
    pub method: String,
    /// The whole address, as browsers send it
    pub url: String,
    /// The account that is signed in [default: nobody is]
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Which single sign-on to suppose [default: the account's last]
    #[arg(long, value_enum, requires = "account")]
    pub sso: Option<SsoChoice>,
    /// A header of the request, such as 'Upgrade: websocket'; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub header: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What `explain --sso` supposes.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum SsoChoice {
    /// Completed just now
    Complete,
    /// Not completed
    Missing,
    /// The organization has none
    None,
}

/// `proxy-config`.
#[derive(Args, Debug)]
struct ProxyConfig {
    /// Which proxy
    #[arg(value_enum)]
    proxy: ProxyKind,
    /// Where an application listens [default: its upstream in the configuration]; may be given several times
    #[arg(long, value_name = "APP=URL", value_parser = parse_upstream)]
    upstream: Vec<(String, Upstream)>,
    /// The certificate of all hosts (PEM) [default: a placeholder; Caddy gets its own]
    #[arg(long, value_name = "FILE")]
    certificate: Option<String>,
    /// The file of its key [default: a placeholder]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<String>,
    /// Where the proxy reaches Doorward [default: the addresses that it listens on]
    #[arg(long, value_name = "HOST")]
    doorward: Option<String>,
    /// Only the file of this name, where there are several
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
}

/// `probe`.
#[derive(Args, Debug)]
struct Probe {
    /// An application's address, as browsers have it; {org} in its host stands for --organization
    url: String,
    /// Where the proxy listens, if not where the name leads
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// Certificates (PEM) that are trusted besides the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Which proxy it is [default: the one that its answers name]
    #[arg(long, value_enum)]
    proxy: Option<ProxyKind>,
    /// Listen here in the application's place, to see what it would get
    #[arg(long, value_name = "ADDRESS:PORT")]
    echo: Option<SocketAddr>,
    /// Sign this account in for as long as the probe takes; the audit log says so
    #[arg(long = "as", value_name = "ACCOUNT", requires = "echo", requires = "organization")]
    account: Option<String>,
    /// An organization whose paths are asked for, without enforced single sign-on
    #[arg(long, value_name = "ORG")]
    organization: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn parse_upstream(text: &str) -> Result<(String, Upstream), String> {
    const LIKE: &str = "write it like hub=http://127.0.0.1:3000";
    let (name, url) = text.split_once('=').ok_or(LIKE)?;
    Ok((name.to_owned(), url.parse().map_err(|error| format!("{error}; {LIKE}"))?))
}

/// `import`.
#[derive(Args, Debug)]
pub struct Import {
    /// Lines of JSON, as docs/import.md describes them
    pub file: PathBuf,
    /// Only look for mistakes; write nothing
    #[arg(long)]
    pub check: bool,
}

/// `backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// The file to make; there must be none of this name
    pub file: PathBuf,
}

/// `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// A file that doorward backup made
    pub file: PathBuf,
    /// Although the database is not empty: everything that is in it goes
    #[arg(long)]
    pub replace: bool,
}

#[derive(Subcommand, Debug)]
enum AccountCommand {
    /// Make an account; your word proves its address
    Create(AccountCreate),
    /// Set a new password; the account's sessions end
    Password(AccountPassword),
    /// Give an account one more address; your word proves it
    Email(AccountEmail),
    /// Switch an account off: its sessions end, and nobody signs in to it
    Disable(AccountSwitch),
    /// Switch an account on again
    Enable(AccountSwitch),
    /// Delete an account with all that is its own; its name is never given again
    Delete(AccountDelete),
    /// List an account's access tokens, or revoke one
    Tokens(AccountTokens),
}

/// `account create`.
#[derive(Args, Debug)]
pub struct AccountCreate {
    /// User name
    pub name: String,
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// Read the password from standard input: one line
    #[arg(long, required = true)]
    password_stdin: bool,
    /// The person's name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub full_name: String,
    /// May make organizations and see to the service
    #[arg(long)]
    pub operator: bool,
}

/// `account password`.
#[derive(Args, Debug)]
pub struct AccountPassword {
    /// User name
    pub name: String,
    /// Read the password from standard input: one line
    #[arg(long, required = true)]
    password_stdin: bool,
}

/// `account tokens`.
#[derive(Args, Debug)]
pub struct AccountTokens {
    /// User name
    pub name: String,
    /// Revoke the token with this id
    #[arg(long, value_name = "ID")]
    pub revoke: Option<String>,
}

/// `account email`.
#[derive(Args, Debug)]
pub struct AccountEmail {
    /// User name
    pub name: String,
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    pub add: String,
}

/// `account disable` and `account enable`.
#[derive(Args, Debug)]
pub struct AccountSwitch {
    /// User name
    pub name: String,
}

/// `account delete`.
#[derive(Args, Debug)]
pub struct AccountDelete {
    /// User name
    pub name: String,
}

#[derive(Subcommand, Debug)]
enum OrgCommand {
    /// Make an organization with its first admin
    Create(OrgCreate),
    /// List organizations
    List,
    /// Put an organization on another plan; what is enabled stays enabled
    Plan(OrgPlan),
    /// Delete an organization: it is closed to everybody; its name is never given again
    Delete(OrgDelete),
    /// Make an invitation and print its link, this once
    Invite(OrgInvite),
    /// List the invitations that still work
    Invitations(OrgInvitations),
    /// Take an invitation back
    InviteRevoke(OrgInviteRevoke),
    /// Give and take roles
    #[command(subcommand)]
    Member(MemberCommand),
}

/// `org create`.
#[derive(Args, Debug)]
pub struct OrgCreate {
    /// The organization's name, as in its paths
    pub organization: String,
    /// What it is called on pages
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// The account that administers it
    #[arg(long, value_name = "ACCOUNT")]
    pub admin: String,
    /// free, team or enterprise
    #[arg(long, default_value = "enterprise", value_parser = parse_plan)]
    pub plan: Plan,
}

/// `org plan`.
#[derive(Args, Debug)]
pub struct OrgPlan {
    /// The organization
    pub organization: String,
    /// free, team or enterprise
    #[arg(value_parser = parse_plan)]
    pub plan: Plan,
}

/// `org delete`.
#[derive(Args, Debug)]
pub struct OrgDelete {
    /// The organization
    pub organization: String,
}

/// `org invite`.
#[derive(Args, Debug)]
pub struct OrgInvite {
    /// The organization
    pub organization: String,
    /// no_access, read, contributor, write or admin; admin needs --account
    #[arg(long, default_value = "read", value_parser = parse_role)]
    pub role: Role,
    /// The only account that may use it
    #[arg(long, value_name = "ACCOUNT", default_value = "")]
    pub account: String,
    /// How many people may use it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: i64,
}

/// `org invitations`.
#[derive(Args, Debug)]
pub struct OrgInvitations {
    /// The organization
    pub organization: String,
}

/// `org invite-revoke`.
#[derive(Args, Debug)]
pub struct OrgInviteRevoke {
    /// The organization
    pub organization: String,
    /// The invitation's id, as listed
    pub invitation: String,
}

#[derive(Subcommand, Debug)]
enum MemberCommand {
    /// Make an account a member, or change its role
    Set(MemberSet),
    /// Remove a member
    Remove(MemberRemove),
}

/// `org member set`.
#[derive(Args, Debug)]
pub struct MemberSet {
    /// The organization
    pub organization: String,
    /// The account
    pub account: String,
    /// no_access, read, contributor, write or admin
    #[arg(long, value_parser = parse_role)]
    pub role: Role,
}

/// `org member remove`.
#[derive(Args, Debug)]
pub struct MemberRemove {
    /// The organization
    pub organization: String,
    /// The account
    pub account: String,
}

#[derive(Subcommand, Debug)]
enum ResourceCommand {
    /// Register a resource as public or private
    Set(ResourceSet),
}

/// `resource set`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("visibility").required(true).args(["public", "private"]))]
pub struct ResourceSet {
    /// The organization
    pub organization: String,
    /// The resource's name, as in its path
    pub name: String,
    /// Open to everybody
    #[arg(long)]
    pub public: bool,
    /// For members only
    #[arg(long)]
    private: bool,
    /// The literal segments before the resource in its pattern, as datasets of /datasets/{org}/{resource}
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub prefix: String,
}

#[derive(Subcommand, Debug)]
enum SsoCommand {
    /// Show settings, state and findings
    Show(SsoShow),
    /// Make the newest settings the ones that members use
    Enable(SsoEnable),
    /// Switch single sign-on off; its sessions end
    Disable(SsoDisable),
    /// Save settings as an untested draft
    Set(SsoSet),
    /// Show the SSO join link, make or rotate it, turn it off
    JoinLink(SsoJoinLink),
    /// List first links that wait for a decision
    LinkRequests(SsoLinkRequests),
    /// Approve a member's first link; your word says that both are the same person
    ApproveLink(SsoApproveLink),
    /// Unlink an account from the provider's identity; its single sign-on sessions end
    Unlink(SsoUnlink),
    /// Make new recovery codes and print them once; older ones are void
    RecoveryCodes(SsoRecoveryCodes),
}

/// `sso link-requests`.
#[derive(Args, Debug)]
pub struct SsoLinkRequests {
    /// The organization
    pub organization: String,
}

/// `sso approve-link`.
#[derive(Args, Debug)]
pub struct SsoApproveLink {
    /// The organization
    pub organization: String,
    /// The account that asks
    pub account: String,
    /// The subject that link-requests showed; another one is refused
    #[arg(long, value_name = "SUBJECT")]
    pub subject: String,
}

/// `sso unlink`.
#[derive(Args, Debug)]
pub struct SsoUnlink {
    /// The organization
    pub organization: String,
    /// The account
    pub account: String,
}

/// `sso recovery-codes`.
#[derive(Args, Debug)]
pub struct SsoRecoveryCodes {
    /// The organization
    pub organization: String,
}

/// `sso show`.
#[derive(Args, Debug)]
pub struct SsoShow {
    /// The organization
    pub organization: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `sso enable`.
#[derive(Args, Debug)]
pub struct SsoEnable {
    /// The organization
    pub organization: String,
    /// Although no test has passed; members may be locked out, and the audit log says so
    #[arg(long)]
    pub untested: bool,
    /// Whether members need it or are only asked for it [default: as it was, at first enforced]
    #[arg(long, value_enum)]
    enforcement: Option<EnforcementChoice>,
}

impl SsoEnable {
    /// What was chosen.
    pub fn enforcement(&self) -> Option<Enforcement> {
        self.enforcement.map(|choice| match choice {
            EnforcementChoice::Enforced => Enforcement::Enforced,
            EnforcementChoice::Optional => Enforcement::Optional,
        })
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum EnforcementChoice {
    Enforced,
    Optional,
}

/// `sso disable`.
#[derive(Args, Debug)]
pub struct SsoDisable {
    /// The organization
    pub organization: String,
}

/// `sso set`.
#[derive(Args, Debug)]
pub struct SsoSet {
    /// The organization
    pub organization: String,
    /// The provider's issuer URL
    #[arg(long, value_name = "URL")]
    pub issuer_url: String,
    /// The client ID that the provider gave
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// A Google Workspace domain whose people may sign in; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    pub hosted_domain: Vec<String>,
    /// Read the client secret from standard input: one line
    #[arg(long, required = true)]
    client_secret_stdin: bool,
}

/// `sso join-link`.
#[derive(Args, Debug)]
pub struct SsoJoinLink {
    /// The organization
    pub organization: String,
    /// Make a link, in place of the one there is, and print it
    #[arg(long, conflicts_with = "off")]
    pub rotate: bool,
    /// Turn the link off
    #[arg(long)]
    pub off: bool,
    /// The role of whoever joins by the new link; any but admin
    #[arg(long, default_value = "read", value_parser = parse_role, requires = "rotate")]
    pub role: Role,
    /// How many people may join by the new link [default: any number]
    #[arg(long, value_name = "N", requires = "rotate")]
    pub uses: Option<i64>,
}

#[derive(Subcommand, Debug)]
enum AuditCommand {
    /// Write an audit log, one JSON object a line, oldest first, with a signed checkpoint at the end
    Export(AuditExported),
    /// Find what was changed, taken out or put in: in the database, or in an exported file
    Verify(AuditVerify),
    /// Sign what the audit log is now; keep the output where the database's writers can't reach it
    Checkpoint(AuditCheckpoint),
    /// Print the key with which exports and checkpoints are checked elsewhere
    PublicKey,
    /// Make another key for the log; with --lost, although keys are gone for good
    NewKey(AuditNewKey),
}

/// `audit export`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct AuditExported {
    /// The organization
    pub organization: Option<String>,
    /// The system's own log: accounts and their sign-ins, keys, backups, imports
    #[arg(long)]
    pub system: bool,
}

/// `audit verify`.
#[derive(Args, Debug)]
pub struct AuditVerify {
    /// Which.
    #[command(flatten)]
    pub logs: AuditLogs,
    /// An export or a download of that organization (its name, or its id), without the database
    #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with = "all")]
    file: Option<PathBuf>,
    /// The key that `audit public-key` once printed; several times, if it was replaced since
    #[arg(long, value_name = "KEY", requires = "file")]
    public_key: Vec<String>,
    /// Checkpoints that were kept elsewhere: what `audit checkpoint` or an export wrote
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// As JSON, one object a log
    #[arg(long)]
    pub json: bool,
}

/// `audit checkpoint`.
#[derive(Args, Debug)]
pub struct AuditCheckpoint {
    /// Which.
    #[command(flatten)]
    pub logs: AuditLogs,
}

/// `audit new-key`.
#[derive(Args, Debug)]
pub struct AuditNewKey {
    /// Go on although the keys of what is there are lost: its codes can never be checked again
    #[arg(long)]
    pub lost: bool,
}

/// Which logs.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct AuditLogs {
    /// The organization
    pub organization: Option<String>,
    /// Every organization, deleted ones too, and the system's own log
    #[arg(long)]
    pub all: bool,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Make a new master key and seal everything with it, while serving; the old one still opens
    Rotate(KeyRotate),
    /// Name the keys of the master key file
    Fingerprint,
}

/// `key rotate`.
#[derive(Args, Debug)]
pub struct KeyRotate {
    /// Only add a key that does not seal yet: copy the file to every node, then rotate
    #[arg(long, conflicts_with = "drop_old")]
    pub prepare: bool,
    /// Make no new key: drop the old one, once nothing is sealed with it
    #[arg(long)]
    pub drop_old: bool,
}

fn parse_role(text: &str) -> Result<Role, UnknownRole> {
    text.parse()
}

fn parse_scope(text: &str) -> Result<ApiScope, &'static str> {
    ApiScope::from_text(text).ok_or("no such scope: use decision, members, resources or audit-log")
}

fn parse_plan(text: &str) -> Result<Plan, &'static str> {
    Plan::from_text(text).ok_or("no such plan: use free, team or enterprise")
}

/// Where a run of the command line reads and writes.
pub struct Surroundings<'a> {
    /// Standard input.
    pub input: &'a mut dyn BufRead,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

/// Runs one command; the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, surroundings: Surroundings<'_>) -> u8 {
    let Surroundings { input, output, errors, environment, clock, random } = surroundings;
    let parsed = match CommandLine::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(told) => {
            // Help and version come this way too.
            let to: &mut dyn Write = if told.use_stderr() { errors } else { output };
            drop(write!(to, "{told}"));
            return u8::try_from(told.exit_code()).unwrap_or(2);
        }
    };
    let outcome = execute(parsed, input, output, &environment, clock, random);
    match outcome {
        Ok(()) => 0,
        Err(failures) => {
            for failure in failures {
                drop(writeln!(errors, "{failure}"));
            }
            1
        }
    }
}

fn execute(
    parsed: CommandLine,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    environment: &[(String, String)],
    clock: Clock,
    random: Random,
) -> Result<(), Vec<Failure>> {
    let file =
        parsed.config.or_else(|| Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![Failure::from(error)])?;
    let loaded = Configuration::load(file.as_deref(), environment.iter().cloned());
    if matches!(parsed.command, Command::Check) {
        let checked = runtime.block_on(crate::check::check(file.as_deref(), loaded, &clock, output));
        return checked.map_err(|failure| vec![failure]);
    }
    if let Command::Audit(AuditCommand::Verify(verify)) = &parsed.command
        && let (Some(file), Some(of)) = (&verify.file, &verify.logs.organization)
    {
        let AuditVerify { public_key, checkpoint, json, .. } = verify;
        let given =
            VerifyFile { of, file, public_keys: public_key, checkpoint: checkpoint.as_deref(), json: *json };
        return commands::verify_audit_file(given, output).map_err(|failure| vec![failure]);
    }
    let configuration = loaded.map_err(|mistakes| mistakes.iter().map(mistaken).collect::<Vec<_>>())?;
    logging::start(configuration.log_format, configuration.log_level);
    if let Command::ProxyConfig(wanted) = parsed.command {
        return print_proxy_config(&configuration, wanted, output);
    }
    if matches!(parsed.command, Command::Serve) {
        return runtime.block_on(serve::serve(configuration, clock, random, build)).map(|_| ());
    }
    let operator = commands::system_user(environment);
    let context = Context { configuration, clock, random, operator };
    runtime.block_on(async {
        let one = |failure: Failure| vec![failure];
        match parsed.command {
            Command::Serve | Command::Check | Command::ProxyConfig(_) => Ok(()),
            Command::Probe(asked) => {
                let Probe { url, connect, ca, proxy, echo, account, organization, json } = asked;
                let wanted = probe::Wanted { url, connect, ca, proxy, echo, account, organization, json };
                Box::pin(probe::probe(context, wanted, output)).await.map_err(one)
            }
            Command::Migrate => commands::migrate(&context, output).await.map_err(one),
            Command::Import(import) => commands::import(context, import, output).await.map_err(one),
            Command::Backup(backup) => commands::backup(&context, backup, output).await.map_err(one),
            Command::Restore(restore) => commands::restore(&context, restore, output).await.map_err(one),
            Command::Account(AccountCommand::Create(create)) => {
                let password = commands::read_secret_line(input).map_err(one)?;
                commands::create_account(&context, create, password, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Password(set)) => {
                let password = commands::read_secret_line(input).map_err(one)?;
                commands::set_password(&context, set, password, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Email(email)) => {
                commands::add_email(&context, email, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Disable(switch)) => {
                commands::disable_account(&context, switch, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Enable(switch)) => {
                commands::enable_account(&context, switch, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Delete(delete)) => {
                commands::delete_account(&context, delete, output).await.map_err(one)
            }
            Command::Account(AccountCommand::Tokens(tokens)) => {
                commands::list_or_revoke_tokens(&context, tokens, output).await.map_err(one)
            }
            Command::Org(command) => match command {
                OrgCommand::Create(create) => commands::create_organization(&context, create, output).await,
                OrgCommand::List => commands::list_organizations(&context, output).await,
                OrgCommand::Plan(plan) => commands::set_plan(&context, plan, output).await,
                OrgCommand::Delete(delete) => commands::delete_organization(&context, delete, output).await,
                OrgCommand::Invite(invite) => commands::invite(&context, invite, output).await,
                OrgCommand::Invitations(list) => commands::list_invitations(&context, list, output).await,
                OrgCommand::InviteRevoke(revoke) => {
                    commands::revoke_invitation(&context, revoke, output).await
                }
                OrgCommand::Member(MemberCommand::Set(set)) => {
                    commands::set_member(&context, set, output).await
                }
                OrgCommand::Member(MemberCommand::Remove(remove)) => {
                    commands::remove_member(&context, remove, output).await
                }
            }
            .map_err(one),
            Command::Resource(ResourceCommand::Set(set)) => {
                commands::set_resource(&context, set, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::Set(set)) => {
                let secret = commands::read_secret_line(input).map_err(one)?;
                commands::set_sso(context, set, secret, output).await
            }
            Command::Sso(SsoCommand::LinkRequests(list)) => {
                commands::list_link_requests(context, list, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::ApproveLink(approve)) => {
                commands::approve_link(context, approve, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::Unlink(unlink)) => {
                commands::unlink(context, unlink, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::RecoveryCodes(make)) => {
                commands::make_recovery_codes(context, make, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::Show(show)) => {
                commands::show_sso(&context, show, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::Enable(enable)) => {
                Box::pin(commands::enable_sso(context, enable, output)).await.map_err(one)
            }
            Command::Sso(SsoCommand::Disable(disable)) => {
                commands::disable_sso(context, disable, output).await.map_err(one)
            }
            Command::Sso(SsoCommand::JoinLink(link)) => {
                commands::join_link(context, link, output).await.map_err(one)
            }
            Command::Audit(command) => match command {
                AuditCommand::Export(export) => commands::export_audit_log(&context, export, output).await,
                AuditCommand::Verify(verify) => commands::verify_audit_logs(&context, verify, output).await,
                AuditCommand::Checkpoint(wanted) => {
                    commands::print_checkpoints(&context, wanted, output).await
                }
                AuditCommand::PublicKey => commands::print_public_key(&context, output).await,
                AuditCommand::NewKey(new) => commands::make_audit_key(&context, new, output).await,
            }
            .map_err(one),
            Command::Key(KeyCommand::Rotate(rotate)) => {
                commands::rotate_key(&context, rotate, output).await.map_err(one)
            }
            Command::Key(KeyCommand::Fingerprint) => {
                commands::fingerprint(&context, output).await.map_err(one)
            }
            Command::Token(command) => match command {
                TokenCommand::Create(create) => commands::create_token(&context, create, output).await,
                TokenCommand::List(list) => commands::list_tokens(&context, list, output).await,
                TokenCommand::Revoke(revoke) => commands::revoke_token(&context, revoke, output).await,
            }
            .map_err(one),
            Command::Explain(explain) => commands::explain(context, explain, output).await.map_err(one),
        }
    })
}

/// `proxy-config`: the files one after the other; the first line of each names its path.
fn print_proxy_config(
    configuration: &Configuration,
    wanted: ProxyConfig,
    output: &mut dyn Write,
) -> Result<(), Vec<Failure>> {
    let ProxyConfig { proxy, upstream, certificate, key, doorward, file } = wanted;
    let wanted = Wanted { proxy, upstreams: upstream, certificate, key, doorward };
    let mut files = proxy_config::make(configuration, &wanted)?;
    if let Some(file) = file {
        let name = |made: &MadeFile| made.path.rsplit('/').next().unwrap_or_default();
        let known: Vec<_> = files.iter().map(name).collect();
        if !known.contains(&file.as_str()) {
            let remedy = format!("Its files are: {}", known.join(", "));
            let what = format!("this proxy has no file {file:?}");
            return Err(Failure::new(ErrorCode::RequestMalformed, what, remedy).into());
        }
        files.retain(|made| name(made) == file);
    }
    let texts: Vec<_> = files.into_iter().map(|made| made.text).collect();
    write!(output, "{}", texts.join("\n")).map_err(|error| vec![error.into()])
}

/// The pages and the gate.
fn build(app: &SharedApp) -> Built {
    Built { main: web::answers(app), gate: gate::door(app, web::write_answer) }
}

/// A mistake of the configuration, with its place.
fn mistaken(mistake: &ConfigurationMistake) -> Failure {
    let key = if mistake.key.is_empty() { String::new() } else { format!("{}: ", mistake.key) };
    let what = format!("{}: {key}{}", mistake.place, mistake.what);
    Failure::new(ErrorCode::ConfigurationMistaken, what, mistake.remedy.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_architecture_is_read() {
        for line in [
            "doorward serve",
            "doorward --config a.toml serve",
            "doorward serve --config a.toml",
            "doorward check",
            "doorward migrate",
            "doorward probe https://hub.example.com",
            "doorward probe https://hub.example.com --connect 127.0.0.1:443 --ca ca.pem --proxy haproxy --json",
            "doorward probe https://hub.example.com --echo 127.0.0.1:3000 --as mira --organization acme",
            "doorward proxy-config nginx",
            "doorward proxy-config haproxy --upstream hub=http://127.0.0.1:3000 --upstream wiki=http://wiki:80",
            "doorward proxy-config traefik --certificate a.pem --key b.pem --doorward doorward --file traefik.yaml",
            "doorward account create mira --email m@a.example --password-stdin",
            "doorward account create mira --email m@a.example --password-stdin --full-name M --operator",
            "doorward account password mira --password-stdin",
            "doorward account email mira --add m@b.example",
            "doorward account tokens mira",
            "doorward account tokens mira --revoke 0193f0c2-a7d1-7000-8000-000000000001",
            "doorward org plan acme team",
            "doorward org create acme --name Acme --admin mira",
            "doorward org create acme --name Acme --admin mira --plan enterprise",
            "doorward org member set acme mira --role contributor",
            "doorward org member remove acme mira",
            "doorward org list",
            "doorward org invite acme",
            "doorward org invite acme --role admin --account mira",
            "doorward org invite acme --role write --uses 5",
            "doorward org invitations acme",
            "doorward org invite-revoke acme 0199a0b0-0000-7000-8000-000000000001",
            "doorward sso join-link acme",
            "doorward sso join-link acme --rotate --role write --uses 20",
            "doorward sso join-link acme --off",
            "doorward resource set acme data --public",
            "doorward resource set acme data --private --prefix datasets",
            "doorward sso show acme",
            "doorward sso show acme --json",
            "doorward sso enable acme",
            "doorward sso enable acme --untested --enforcement optional",
            "doorward sso disable acme",
            "doorward sso set acme --issuer-url https://a.example --client-id c --client-secret-stdin",
            "doorward audit export acme",
            "doorward audit verify acme",
            "doorward audit verify --all --json --checkpoint kept.jsonl",
            "doorward audit verify acme --file acme.jsonl --public-key k --public-key l",
            "doorward audit new-key --lost",
            "doorward audit checkpoint acme",
            "doorward audit checkpoint --all",
            "doorward audit public-key",
            "doorward key rotate",
            "doorward key rotate --prepare",
            "doorward key rotate --drop-old",
            "doorward key fingerprint",
            "doorward explain GET https://hub.example.com/acme/x",
            "doorward token create --organization acme --name desk",
            "doorward token create --organization acme --name desk --days 365 --scope decision --scope audit-log",
            "doorward token list --organization acme",
            "doorward token revoke --organization acme 0199a0b0-0000-7000-8000-000000000001",
            "doorward explain GET https://hub.example.com/acme/x --account mira --sso missing --json",
            "doorward explain GET https://hub.example.com/acme/x --header Upgrade:websocket --header Accept:*/*",
            "doorward import people.jsonl",
            "doorward import people.jsonl --check",
            "doorward backup doorward.backup",
            "doorward restore doorward.backup",
            "doorward restore doorward.backup --replace",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn rule_6_a_secret_can_not_be_given_as_an_argument() {
        for line in [
            "doorward account create mira --email m@a.example",
            "doorward account create mira --email m@a.example --password x",
            "doorward account create mira --email m@a.example --password-stdin=x",
            "doorward sso set acme --issuer-url https://a.example --client-id c --client-secret x",
            "doorward sso set acme --issuer-url https://a.example --client-id c",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn what_can_not_be_read_ends_with_2_and_says_why() {
        for (line, word) in [
            ("doorward", "Usage"),
            ("doorward srve", "serve"),
            ("doorward org member set acme mira --role boss", "no such role"),
            ("doorward org create acme --name A --admin mira --plan gold", "no such plan"),
            ("doorward resource set acme data", "--public"),
            ("doorward resource set acme data --public --private", "cannot be used with"),
            ("doorward sso enable acme --enforcement maybe", "optional"),
            ("doorward sso join-link acme --rotate --off", "cannot be used with"),
            ("doorward sso join-link acme --uses 3", "--rotate"),
            ("doorward explain GET https://hub.example.com/ --sso none", "--account"),
            ("doorward token create --organization acme --name n --days 366", "365"),
            ("doorward token create --organization acme --name n --scope write", "no such scope"),
            ("doorward proxy-config apache", "nginx"),
            ("doorward probe https://a.example --as mira", "--echo"),
            ("doorward proxy-config nginx --upstream hub", "hub=http://127.0.0.1:3000"),
            ("doorward proxy-config nginx --upstream hub=https://a.example/x", "http://host:port"),
        ] {
            let told = parse(line).unwrap_err();
            assert_eq!(told.exit_code(), 2, "{line}");
            assert!(told.to_string().contains(word), "{line}: {told}");
        }
    }
}
