//! The demo: Doorward in front of a sample hub, with an Entra-shaped provider to click through. Never shipped.
//!
//! `doorward-demo` starts all three and prints the guide (`run.rs`); `entra` and `hub` start one alone, for tests.
//! Each prints one JSON line when it is ready.

mod clock;
mod entra;
mod hub;
mod random;
mod run;
mod serving;

use clap::{Args, Parser, Subcommand};
use clock::Clock;
use serde_json::json;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Parser)]
#[command(
    name = "doorward-demo",
    about = "Doorward, a sample hub and an Entra-shaped provider, to be tried out"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything and print the accounts and the guide (the default)
    Run(run::Options),
    /// Start the Entra-shaped provider alone
    Entra(EntraOptions),
    /// Start the sample hub alone
    Hub(HubOptions),
}

#[derive(Args)]
struct EntraOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9400")]
    listen: SocketAddr,
    /// Register a Web application with this redirect URI; `globex=URI` does so in the other directory. Repeatable
    #[arg(long, value_name = "[TENANT=]URI")]
    seed_app: Vec<String>,
}

#[derive(Args)]
struct HubOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Where Doorward's own pages are
    #[arg(long, default_value = "http://localhost:8080")]
    doorward_url: String,
}

/// What goes wrong on the way, as a sentence for whoever started the demo.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        None => run::run(run::Options::default()).await,
        Some(Command::Run(options)) => run::run(options).await,
        Some(Command::Entra(options)) => entra_alone(options).await,
        Some(Command::Hub(options)) => hub_alone(options).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If even this can't be written, the exit code still says it.
            drop(writeln!(io::stderr(), "doorward-demo: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn entra_alone(options: EntraOptions) -> Result<(), Failure> {
    let (listener, address) = serving::listen(options.listen).await?;
    let base_url = format!("http://{address}");
    let provider =
        entra::Provider::new(base_url.clone(), Clock::System).map_err(|_| "can't make signing keys")?;
    let mut apps = Vec::new();
    for wanted in &options.seed_app {
        let (tenant, uri) = match wanted.split_once('=') {
            Some(("acme", uri)) => (entra::ACME_TENANT, uri),
            Some(("globex", uri)) => (entra::GLOBEX_TENANT, uri),
            _ => (entra::ACME_TENANT, wanted.as_str()),
        };
        apps.push(provider.seed_app(tenant, uri)?);
    }
    let ready = json!({
        "ready": true,
        "address": address.to_string(),
        "base_url": base_url,
        "console_url": format!("{base_url}/console/acme.example"),
        "tenant": entra::ACME_TENANT,
        "tenants": {"acme": entra::ACME_TENANT, "globex": entra::GLOBEX_TENANT},
        "metadata_url": provider.metadata_url(entra::ACME_TENANT),
        "app": apps.first(),
        "apps": apps,
    });
    say(&ready.to_string())?;
    serving::serve(listener, entra::router(Arc::new(provider))).await?;
    Ok(())
}

async fn hub_alone(options: HubOptions) -> Result<(), Failure> {
    let (listener, address) = serving::listen(options.listen).await?;
    let ready =
        json!({"ready": true, "address": address.to_string(), "base_url": format!("http://{address}")});
    say(&ready.to_string())?;
    serving::serve(listener, hub::router(Arc::new(hub::Hub::new(options.doorward_url)))).await?;
    Ok(())
}

/// Prints a line at once, for people and for tests that wait for it.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
