//! `doorward-demo run`: everything at once.
//!
//! Provider and hub run in this process; Doorward is the real binary beside this one, set up by its documented
//! command line and started as a child, which is stopped by its process id when this process ends.
//! Never here: anything that the binary's own contract does not promise.

use crate::clock::Clock;
use crate::hub::REPOSITORIES;
use crate::{Failure, entra, hub, say, serving};
use clap::Args;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long Doorward may take to get ready, and to stop.
const READY_SECONDS: u64 = 20;
const STOP_SECONDS: u64 = 10;
const STEP: Duration = Duration::from_millis(100);
const STEPS_PER_SECOND: u64 = 10;

/// Options of `run`.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Folder for Doorward's data: a new or an empty one, kept at the end. Without it, a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep the temporary folder at the end
    #[arg(long)]
    keep: bool,
    /// Added to every port, so that a second demo can run beside the first
    #[arg(long, value_name = "N", default_value_t = 0)]
    port_offset: u16,
}

/// Somebody who can sign in at Doorward.
struct Account {
    name: &'static str,
    email: &'static str,
    password: &'static str,
    what: &'static str,
}

/// The demo's people. The addresses are those of the provider's directories. The passwords are public: everything
/// listens on loopback, and the data is thrown away.
const ACCOUNTS: [Account; 4] = [
    Account { name: "ada", email: "ada@acme.example", password: "copper-kettle-41", what: "admin of acme" },
    Account {
        name: "ben",
        email: "ben@globex.example",
        password: "walnut-ladder-52",
        what: "admin of globex",
    },
    Account {
        name: "mira",
        email: "mira.holt@acme.example",
        password: "silver-anchor-63",
        what: "member of acme and globex",
    },
    Account {
        name: "eve",
        email: "eve@acme.example",
        password: "violet-lantern-74",
        what: "member of nothing",
    },
];

/// Where everything is reached.
struct Addresses {
    doorward: String,
    doorward_port: u16,
    gate_port: u16,
    provider: SocketAddr,
    hub: SocketAddr,
}

/// Starts everything, prints the guide, and stops everything on Ctrl-C, on SIGTERM, or when Doorward ends.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let binary = doorward_binary()?;
    let mut asked = Asked::listen()?;
    let port = |base: u16| base.checked_add(options.port_offset).ok_or("the port offset is too large");
    let (doorward_port, gate_port) = (port(8080)?, port(8081)?);
    let doorward = format!("http://localhost:{doorward_port}");

    let (provider_listener, provider_address) =
        serving::listen(SocketAddr::from(([127, 0, 0, 1], port(9400)?))).await?;
    let (hub_listener, hub_address) = serving::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let provider = entra::Provider::new(format!("http://{provider_address}"), Clock::System)
        .map_err(|_| "can't make signing keys")?;
    tokio::spawn(serving::serve(provider_listener, entra::router(Arc::new(provider))));
    tokio::spawn(serving::serve(hub_listener, hub::router(Arc::new(hub::Hub::new(doorward.clone())))));
    let addresses =
        Addresses { doorward, doorward_port, gate_port, provider: provider_address, hub: hub_address };

    let data = DataFolder::make(&options)?;
    say(&format!(
        "Data folder: {}{}",
        data.path.display(),
        if data.kept { "" } else { " (removed at the end)" }
    ))?;
    let configuration = data.path.join("doorward.toml");
    fs::write(&configuration, configuration_text(&data.path, &addresses))?;
    fill(&binary, &configuration)?;

    let log = data.path.join("doorward.log");
    let mut server = Doorward::start(&binary, &configuration, &log)?;
    tokio::select! {
        ready = server.wait_until_ready(addresses.doorward_port, &log) => ready?,
        () = asked.stop() => return server.stop().await,
    }
    say(&guide(&addresses, &log))?;
    tokio::select! {
        () = asked.stop() => {
            say("\nStopping.")?;
            server.stop().await
        }
        ended = server.ended() => Err(format!("Doorward ended by itself ({}); see {}", ended?, log.display()).into()),
    }
}

/// Ctrl-C and SIGTERM. From the moment it exists, neither ends the process by itself.
struct Asked {
    interrupt: Signal,
    terminate: Signal,
}

impl Asked {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The real binary, which Cargo puts beside this one.
fn doorward_binary() -> Result<PathBuf, Failure> {
    let beside = env::current_exe()?.with_file_name(format!("doorward{}", env::consts::EXE_SUFFIX));
    if beside.is_file() {
        return Ok(beside);
    }
    Err(format!("{} is not there: build it first, with `cargo build`", beside.display()).into())
}

/// The folder of one run. A temporary one goes away with this value.
struct DataFolder {
    path: PathBuf,
    kept: bool,
}

impl DataFolder {
    fn make(options: &Options) -> Result<Self, Failure> {
        let temporary = || env::temp_dir().join(format!("doorward-demo-{}", std::process::id()));
        let path = options.data.clone().unwrap_or_else(temporary);
        fs::create_dir_all(&path)?;
        let path = path.canonicalize()?;
        if fs::read_dir(&path)?.next().is_some() {
            return Err(format!("{} is not empty: the demo begins with nothing", path.display()).into());
        }
        Ok(Self { path, kept: options.keep || options.data.is_some() })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if !self.kept {
            // A leftover in the temporary folder harms nobody.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// The operator's file, as somebody would write it for this hub.
fn configuration_text(data: &Path, addresses: &Addresses) -> String {
    let quoted = |path: PathBuf| toml_text(&path.to_string_lossy());
    let Addresses { doorward, doorward_port, gate_port, provider, hub } = addresses;
    format!(
        r#"# Written by doorward-demo.
base_url = "{doorward}"
listen = "127.0.0.1:{doorward_port}"
database = {database}
master_key_file = {master_key}

[outbound]
# The stand-in provider lives on this machine. Admins' addresses may reach no other private one.
allow = ["{provider}"]

[gate]
listen = "127.0.0.1:{gate_port}"
trusted_proxies = ["127.0.0.1"]

[[app]]
name = "hub"
host = "hub.localhost:{doorward_port}"
upstream = "http://{hub}"
organization = ["/{{org}}/{{resource}}/**", "/{{org}}/**"]
public = ["/", "/static/**", "/whoami", "/try"]
unowned = "deny"
"#,
        database = toml_text(&format!("sqlite:{}", data.join("doorward.db").to_string_lossy())),
        master_key = quoted(data.join("master.key")),
    )
}

/// A basic string of TOML.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Accounts, organizations, members and resources, by Doorward's own command line.
fn fill(binary: &Path, configuration: &Path) -> Result<(), Failure> {
    let doorward = |arguments: &[&str], input: &str| command(binary, configuration, arguments, input);
    for Account { name, email, password, .. } in &ACCOUNTS {
        doorward(&["account", "create", name, "--email", email, "--password-stdin"], password)?;
    }
    doorward(&["org", "create", "acme", "--name", "Acme", "--admin", "ada", "--plan", "enterprise"], "")?;
    doorward(&["org", "create", "globex", "--name", "Globex", "--admin", "ben", "--plan", "enterprise"], "")?;
    for organization in ["acme", "globex"] {
        doorward(&["org", "member", "set", organization, "mira", "--role", "write"], "")?;
    }
    for repository in REPOSITORIES {
        let visibility = if repository.public { "--public" } else { "--private" };
        doorward(&["resource", "set", repository.organization, repository.name, visibility], "")?;
    }
    Ok(())
}

/// The binary without what the environment may say about another Doorward: the file alone counts here.
fn doorward(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOORWARD_")) {
        command.env_remove(name);
    }
    command
}

/// One call of the command line. What it prints is shown only when it fails.
fn command(binary: &Path, configuration: &Path, arguments: &[&str], input: &str) -> Result<(), Failure> {
    let mut child = doorward(binary)
        .arg("--config")
        .arg(configuration)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that takes no input may have closed it; its exit code tells what counts.
        drop(writeln!(stdin, "{input}"));
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(format!("`doorward {}` failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&said)).into())
}

/// The running server.
struct Doorward {
    child: Child,
}

impl Doorward {
    fn start(binary: &Path, configuration: &Path, log: &Path) -> Result<Self, Failure> {
        let out = File::create(log)?;
        let child = doorward(binary)
            .arg("serve")
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { child })
    }

    async fn wait_until_ready(&mut self, port: u16, log: &Path) -> Result<(), Failure> {
        for _ in 0..READY_SECONDS * STEPS_PER_SECOND {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("Doorward did not start ({status}):\n{said}").into());
            }
            if is_ready(port).await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        Err(format!("Doorward was not ready after {READY_SECONDS} seconds; see {}", log.display()).into())
    }

    /// Waits until it ends by itself.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Asks it to stop, and insists after a while. Ctrl-C in a terminal has reached it already.
    async fn stop(&mut self) -> Result<(), Failure> {
        let asked =
            Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        if asked.is_ok()
            && tokio::time::timeout(Duration::from_secs(STOP_SECONDS), self.ended()).await.is_ok()
        {
            return Ok(());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Doorward {
    fn drop(&mut self) {
        // Whatever way `run` ends: no server is left behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Whether `/readyz` answers 200.
async fn is_ready(port: u16) -> io::Result<bool> {
    #[expect(
        clippy::disallowed_methods,
        reason = "asks our own child on loopback, which is no outbound call"
    )]
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut status_line = [0; 12];
    connection.read_exact(&mut status_line).await?;
    Ok(&status_line == b"HTTP/1.1 200")
}

/// What is printed when everything runs.
fn guide(addresses: &Addresses, log: &Path) -> String {
    let Addresses { doorward, doorward_port, provider, .. } = addresses;
    let hub = format!("http://hub.localhost:{doorward_port}");
    let accounts = ACCOUNTS.map(|Account { name, email, password, what }| {
        format!("  {name:<5} {password:<18} {email:<23} {what}")
    });
    let accounts = accounts.join("\n");
    let password_of = |name: &str| {
        ACCOUNTS.iter().find(|account| account.name == name).map_or("", |account| account.password)
    };
    let (password, mira) = (password_of("ada"), password_of("mira"));
    format!(
        r#"
Doorward    {doorward}/
Sample hub  {hub}/
Provider    http://{provider}/   (a stand-in for Microsoft Entra ID; not Microsoft)
Log         {log}

Accounts at Doorward: name, password, address
{accounts}

The guide: connect Acme's provider, test it, enable it
   1. Open {doorward}/organizations/acme/settings/sso and sign in as ada with {password}.
   2. Copy the "Redirection URI":
      {doorward}/organizations/acme/oidc/consume
   3. In a second tab open http://{provider}/console/acme.example and click
      Enterprise applications > New application > Create your own application.
   4. Type a name, choose "Register an application to integrate with Microsoft Entra ID (App you're developing)",
      click Create.
   5. Under Redirect URI select the platform Web, paste the Redirection URI, click Register.
   6. Click Single sign-on, then "Go to application". Copy the Application (client) ID into "Client ID" in the first tab.
   7. Click Endpoints. Copy the "OpenID Connect metadata document" into "Issuer URL".
   8. Click Certificates & secrets, then Add under New client secret. Copy the Value, not the Secret ID, into
      "Client secret".
   9. Click API permissions, then "Grant admin consent for Acme".
  10. In the first tab click "Update and Test OIDC configuration" and pick Ada Quill at the provider.
      You come back to a green check.
  11. Click Enable.

What to try then
   - In a private window open {hub}/acme/secret, sign in as mira with {mira},
     go on to the provider and pick Mira Holt.
   - {hub}/acme/website is public: it opens without any sign-in.
   - {hub}/globex/plans opens for Mira without Acme's single sign-on.
   - {hub}/whoami shows who the hub thinks you are,
     {hub}/try what a fetch, a stream and a WebSocket get.
   - Wrong choices have Entra's consequences: the Secret ID as secret, the Object ID as client ID, another platform
     than Web, an expired secret, "Assignment required?" with nobody assigned. The rest is under Try a fault.

Ctrl-C stops everything."#,
        log = log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            doorward: "http://localhost:8080".to_owned(),
            doorward_port: 8080,
            gate_port: 8081,
            provider: SocketAddr::from(([127, 0, 0, 1], 9400)),
            hub: SocketAddr::from(([127, 0, 0, 1], 3000)),
        }
    }

    #[test]
    fn the_configuration_lets_admins_reach_the_provider_and_nothing_else_on_this_machine() {
        let text = configuration_text(Path::new("/tmp/a \"quoted\" folder"), &addresses());
        assert!(text.contains("allow = [\"127.0.0.1:9400\"]"), "{text}");
        assert!(text.contains(r#"master_key_file = "/tmp/a \"quoted\" folder/master.key""#), "{text}");
        assert!(text.contains("organization = [\"/{org}/{resource}/**\", \"/{org}/**\"]"), "{text}");
    }

    #[test]
    fn the_guide_names_every_account_with_its_password_and_prints_addresses_in_full() {
        let text = guide(&addresses(), Path::new("/tmp/doorward.log"));
        for account in &ACCOUNTS {
            assert!(text.contains(account.name) && text.contains(account.password), "{text}");
        }
        for address in [
            "http://localhost:8080/organizations/acme/settings/sso",
            "http://localhost:8080/organizations/acme/oidc/consume",
            "http://127.0.0.1:9400/console/acme.example",
            "http://hub.localhost:8080/acme/secret",
        ] {
            assert!(text.contains(address), "{address}");
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let path = env::temp_dir().join(format!("doorward-demo-test-{}", std::process::id()));
        let options = Options { data: Some(path.clone()), ..Options::default() };
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("precious"), "x").unwrap();
        assert!(DataFolder::make(&options).is_err());
        fs::remove_dir_all(&path).unwrap();
    }
}
