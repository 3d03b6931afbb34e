//! `doorward probe`: looks through the operator's real proxy at whether the gate really stands in front (ADR 0032).
//!
//! In: an application's address, the configuration; to see what the application would get, an address to listen on in its
//! place, and an account. Out: a line for each look, what was seen and the line to add.
//! Never here: a door in the gate. The probe knows no more than a stranger, or signs its account in as the operator may.
//! Invariant: what is sent changes nothing in an application; the one POST goes where a GET was just refused.

mod echo;
mod exchange;
mod looks;
mod remedies;
mod rows;

use crate::app::SharedApp;
use crate::commands::Context;
use crate::configuration::Configuration;
use crate::cookies::Cookie;
use crate::failure::Failure;
use crate::gate::{Outcome as GateOutcome, Question, ask};
use crate::outbound::{system_lookup, tls_settings};
use crate::proxy_config::ProxyKind;
use crate::store::{self, Actor, AuditEntry};
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::{AccountId, SessionId};
use doorward_core::request_target::{Method, ORGANIZATION_LABEL, Unowned, normalise_host, normalise_path};
use doorward_core::secret::Secret;
use echo::Echo;
use exchange::Line;
use http::HeaderMap;
use looks::{Looks, Member};
pub use rows::{Needs, Row};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

/// A segment that nobody's page has.
const SEGMENT: &str = "doorward-probe";

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// An application's address, as browsers have it.
    pub url: String,
    /// Where the proxy is reached, if not where the name leads.
    pub connect: Option<SocketAddr>,
    /// Certificate authorities (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Which proxy it is, if its answers don't tell.
    pub proxy: Option<ProxyKind>,
    /// Where to listen in the application's place.
    pub echo: Option<SocketAddr>,
    /// Whom to sign in.
    pub account: Option<String>,
    /// The organization whose paths are asked for.
    pub organization: Option<String>,
    /// As JSON.
    pub json: bool,
}

/// What came of one look.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Passed,
    /// What was seen.
    Failed(String),
    /// Why nobody looked.
    Skipped(&'static str),
}

/// Probes, and writes the report; a failure if anything is wrong.
pub async fn probe(context: Context, wanted: Wanted, output: &mut dyn Write) -> Result<(), Failure> {
    let run = format!("{SEGMENT}/{}-", context.random.token()?.expose());
    let mut looks = prepare(&context.configuration, &wanted, &run).await?;
    if let Some(address) = wanted.echo {
        let listening = Echo::listen(address, run).await.map_err(|error| {
            let remedy =
                "Stop the application while the probe looks, or lead a host of the proxy to a free address.";
            let what = format!("--echo {address}: {error}");
            Failure::new(ErrorCode::ServiceCannotListen, what, remedy)
        })?;
        looks.echo = Some(listening);
    }
    let Some(account) = &wanted.account else { return report(&mut looks, &wanted, output).await };
    let operator = context.operator.clone();
    let app = context.app().await?;
    let session = Session::begin(&app, account, &looks.host, operator).await?;
    let reported = async {
        looks.member = Some(member(&app, &session, &looks).await?);
        report(&mut looks, &wanted, output).await
    };
    // However it ends, the session ends too.
    let reported = tokio::select! {
        reported = reported => reported,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new(ErrorCode::ServiceUnavailable, "interrupted", "Begin again when you like."))
        }
    };
    session.end(&app).await?;
    reported
}

/// Judges what was asked for. The looks have no listener and no member yet.
async fn prepare(configuration: &Configuration, wanted: &Wanted, run: &str) -> Result<Looks, Failure> {
    let base_url = &configuration.base_url;
    let mistake = |what: String, remedy: &str| Failure::new(ErrorCode::ConfigurationMistaken, what, remedy);
    let like = "Name an application's own address, as in https://hub.example.com.";
    // As the configuration writes it: the host of the organization that is named.
    let url = match (wanted.url.contains(ORGANIZATION_LABEL), &wanted.organization) {
        (true, Some(organization)) => wanted.url.replace(ORGANIZATION_LABEL, organization),
        (true, None) => {
            let what = format!("{} is a host for each organization", wanted.url);
            return Err(mistake(what, "Say whose to look at: --organization NAME"));
        }
        (false, _) => wanted.url.clone(),
    };
    let url = Url::parse(&url).map_err(|error| mistake(format!("{url:?}: {error}"), like))?;
    let scheme = if base_url.https { "https" } else { "http" };
    if url.scheme() != scheme {
        return Err(mistake(format!("{url} is not {scheme}, as base_url is"), like));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(mistake(format!("{url} is more than an address"), like));
    }
    let name = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let (host, application) = normalise_host(&authority, base_url.https)
        .and_then(|host| configuration.application_on(&host).map(|application| (host, application)))
        .ok_or_else(|| {
            let known: Vec<_> = configuration.applications.iter().map(|app| app.host().to_owned()).collect();
            let what = format!("no [[app]] has the host {authority}");
            mistake(what, &format!("Name one of: {}", known.join(", ")))
        })?;
    if application.hostname() == base_url.hostname() {
        let remedy = "Give the application a host of its own first.";
        return Err(mistake(format!("{authority} is Doorward's own host"), remedy));
    }
    let gate = &application.gate;
    let of_host = gate.organization_in(&host);
    if let (Some(label), Some(named)) = (of_host, &wanted.organization)
        && !label.eq_ignore_ascii_case(named)
    {
        let what = format!("{authority} is the host of {label}, and --organization names {named}");
        return Err(mistake(what, "Name the organization's own host, or leave --organization out."));
    }
    let organization = wanted.organization.as_deref().unwrap_or(SEGMENT);
    // What the gate says of it: public, and whether it belongs to an organization.
    let judged = |path: &str| {
        let path = normalise_path(path).ok()?;
        let (target, _) = gate.target(Method::Get, &host, &path).ok()?;
        Some((target.public, target.organization.is_some()))
    };
    let of_organization = gate.organization.iter().map(|pattern| pattern.example(organization, SEGMENT));
    let nobodys = (gate.unowned != Unowned::Allow).then(|| format!("/{SEGMENT}/page"));
    // A name that nobody has counts as no organization.
    let named = wanted.organization.is_some() || of_host.is_some() || gate.unowned != Unowned::Allow;
    let private = of_organization
        .filter(|path| named && judged(path) == Some((false, true)))
        .chain(nobodys.filter(|path| judged(path).is_some_and(|(public, _)| !public)))
        .next()
        .ok_or_else(|| {
            let what = format!("{} has no path that a stranger is refused", application.name());
            mistake(what, "Name an organization with --organization, or look at the application's patterns.")
        })?;
    // An open-ended one first: more can be asked below it.
    let mut public: Vec<_> = gate.public.iter().collect();
    public.sort_by_key(|pattern| !pattern.is_open_ended());
    let public = public
        .into_iter()
        .map(|pattern| (pattern.example(organization, SEGMENT), pattern.is_open_ended()))
        .find(|(path, _)| judged(path).is_some_and(|(public, _)| public));

    crate::opening::use_one_crypto_provider();
    let ca = wanted.ca.as_ref().map(|file| (file, std::fs::read(file)));
    let ca = match ca {
        None => None,
        Some((_, Ok(pem))) => Some(pem),
        Some((file, Err(error))) => {
            return Err(mistake(format!("--ca {}: {error}", file.display()), "Name a readable PEM file."));
        }
    };
    let settings = tls_settings(ca.as_deref())
        .map_err(|error| mistake(format!("--ca: {error}"), "Name a PEM file with certificates."))?;
    let settings = Arc::new(settings);
    let line = |address: SocketAddr, name: &str| -> Result<Line, Failure> {
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
            .map_err(|_| mistake(format!("{name} can't be in a certificate"), like))?;
        Ok(Line { address, tls: base_url.https.then(|| (Arc::clone(&settings), name)) })
    };
    let application_line = line(resolve(wanted.connect, &url).await?, name)?;
    let pages_line = line(resolve(wanted.connect, &base_url.url).await?, base_url.hostname())?;
    Ok(Looks {
        run: run.to_owned(),
        line: application_line,
        pages_line,
        origin: format!("{scheme}://{host}"),
        other_host: match of_host {
            Some(_) => application.host().replace(ORGANIZATION_LABEL, SEGMENT),
            None => format!("{SEGMENT}.invalid"),
        },
        host: host.into_owned(),
        base_host: base_url.host.clone(),
        base_origin: base_url.origin.clone(),
        base_path: base_url.path.clone(),
        https: base_url.https,
        gate_port: configuration.gate_listen.port(),
        private,
        public,
        proxy: wanted.proxy,
        echo: None,
        member: None,
        number: 0,
        private_is_refused: false,
        echo_stands: false,
    })
}

async fn resolve(connect: Option<SocketAddr>, url: &Url) -> Result<SocketAddr, Failure> {
    if let Some(connect) = connect {
        return Ok(connect);
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let found = system_lookup()(host.clone(), port).await.unwrap_or_default();
    found.into_iter().next().ok_or_else(|| {
        let remedy = "Say where the proxy listens: --connect ADDRESS:PORT";
        Failure::new(ErrorCode::ConfigurationMistaken, format!("{host} has no address yet"), remedy)
    })
}

/// A session of the operator's own making, as he may: it is in the audit log under his name, and ends with the probe. Should
/// the probe be cut off, nobody has its token.
struct Session {
    id: SessionId,
    account: AccountId,
    token: Secret,
    operator: String,
}

impl Session {
    async fn begin(app: &SharedApp, name: &str, host: &str, operator: String) -> Result<Self, Failure> {
        let account = store::load_account_by_name(&mut app.store.reader(), name).await?.ok_or_else(|| {
            Failure::new(
                ErrorCode::MembershipAccountUnknown,
                format!("there is no account {name:?}"),
                "Check the spelling, or make it with: doorward account create",
            )
        })?;
        let now = app.clock.now();
        let id = SessionId::new(now.millis(), app.random.bytes()?);
        let (token, parent) = (app.random.token()?, app.random.token()?);
        let session = Self { id, account: account.id, token, operator };
        let mut tx = app.store.begin().await?;
        tx.insert_browser_session(id, parent.hash(), account.id, now).await?;
        tx.insert_host_session(session.token.hash(), id, account.id, host, now).await?;
        tx.audit(session.entry(AuditAction::AccountSignIn, Vec::new()), now).await?;
        tx.commit(now).await?;
        Ok(session)
    }

    async fn end(self, app: &SharedApp) -> Result<(), Failure> {
        let now = app.clock.now();
        let mut tx = app.store.begin().await?;
        tx.delete_browser_session(self.id, self.account).await?;
        let details = vec![("count", "1".to_owned())];
        tx.audit(self.entry(AuditAction::AccountSessionEnd, details), now).await?;
        tx.commit(now).await?;
        Ok(())
    }

    fn entry(&self, action: AuditAction, details: Vec<(&'static str, String)>) -> AuditEntry {
        let actor = Actor::Operator(self.operator.clone());
        AuditEntry { organization: None, action, actor, details, address: None, request_id: None }
    }
}

/// The signed-in account, with what the gate's own function says of it: that is what the application has to see.
async fn member(app: &SharedApp, session: &Session, looks: &Looks) -> Result<Member, Failure> {
    let application = app
        .configuration
        .application_on(&looks.host)
        .ok_or_else(|| Failure::from(ErrorCode::RequestUnknownHost))?;
    let cookie = format!("{}={}", Cookie::App.name(looks.https), session.token.expose());
    let mut headers = HeaderMap::new();
    if let Ok(value) = cookie.parse() {
        headers.insert(http::header::COOKIE, value);
    }
    let question = Question {
        application,
        host: looks.host.as_str().into(),
        method: "GET",
        target: &looks.private,
        headers: &headers,
    };
    let answer = ask(app, &question).await;
    let code = match answer.outcome {
        GateOutcome::Allow => {
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let expected = answer
                .identity
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect();
            return Ok(Member { cookie, expected });
        }
        GateOutcome::Authenticate { code, .. } | GateOutcome::Refuse(code) => code,
    };
    let remedy = "Name a member of an organization without enforced single sign-on. One for this alone: doorward org create \
                  doorward-probe --name Probe --admin ACCOUNT --plan free";
    Err(Failure::new(code, format!("the account may not open {}: {}", looks.private, code.meaning()), remedy))
}

/// Looks at everything, one after the other, and writes it down.
async fn report(looks: &mut Looks, wanted: &Wanted, output: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for row in Row::ALL.iter().copied() {
        let outcome = looks.look(row).await;
        let next = match &outcome {
            Outcome::Failed(saw) => remedies::next(row, looks.proxy, saw, &looks.base_host),
            _ => String::new(),
        };
        let (word, saw) = match &outcome {
            Outcome::Passed => {
                passed += 1;
                ("passed", String::new())
            }
            Outcome::Failed(saw) => {
                failed += 1;
                ("failed", saw.clone())
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                ("skipped", (*why).to_owned())
            }
        };
        if !wanted.json {
            match &outcome {
                Outcome::Passed => writeln!(output, "ok     {}: {}", row.name(), row.what())?,
                Outcome::Failed(saw) => {
                    writeln!(output, "wrong  {}: {}\n       saw: {saw}", row.name(), row.what())?;
                    next.lines().enumerate().try_for_each(|(n, line)| {
                        let label = if n == 0 { "next: " } else { "      " };
                        writeln!(output, "       {label}{line}")
                    })?;
                }
                Outcome::Skipped(why) => writeln!(output, "note   {}: not looked at, {why}", row.name())?,
            }
        }
        rows.push(serde_json::json!({
            "row": row.name(), "what": row.what(), "outcome": word, "saw": saw, "next": next,
        }));
    }
    let proxy = looks.proxy.map(remedies::name);
    if wanted.json {
        let whole = serde_json::json!({
            "url": wanted.url, "proxy": proxy, "passed": passed, "failed": failed, "skipped": skipped, "rows": rows,
        });
        writeln!(output, "{whole}")?;
    } else {
        let proxy = proxy.unwrap_or("a proxy that doesn't tell its name (--proxy says it)");
        writeln!(output, "{proxy}: {passed} passed, {failed} wrong, {skipped} not looked at")?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(
            ErrorCode::ConfigurationMistaken,
            format!("{failed} of {} looks through the proxy found something wrong", passed + failed),
            "Mend the first one, then probe again: others often follow from it.",
        )),
    }
}
