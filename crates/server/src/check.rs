//! `doorward check`: every mistake at once, in the configuration and in what it names.
//!
//! In: the loaded configuration or its mistakes. Out: a line for each thing, `ok`, `note` or `wrong`, each wrong one
//! with its remedy. It makes no file: where the first start would make one, it says so.
//! Invariant: what `serve` would refuse is wrong here too, except that an address in use is a note, because `check` is
//! mostly run beside the running server.

use crate::clock::Clock;
use crate::configuration::{Configuration, ConfigurationMistake, Database, Tls};
use crate::failure::Failure;
use crate::opening::{check_paths, key_is_missing, open_store, outbound_settings, use_one_crypto_provider};
use crate::outbound::Outbound;
use crate::sealing::Sealing;
use crate::serve::Listeners;
use crate::store::{self, Store};
use crate::tls::{Expiry, Pair, in_words, served_names};
use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::ORGANIZATION_LABEL;
use doorward_core::time::Timestamp;
use std::io::{self, Write};
use std::path::Path;

/// What to list, by the kind of proxy.
pub(crate) const WHAT_TO_LIST: &str = "\
nginx, Caddy, Traefik, HAProxy or Envoy on this machine: trusted_proxies = [\"127.0.0.1\", \"::1\"]
Proxy and doorward in containers of one network: the network's subnet, as `docker network inspect NETWORK` shows it
Ingress controller in Kubernetes: the pods' network (`kubectl cluster-info dump | grep cluster-cidr`)
Proxies on other machines: their addresses, one by one";

/// The lines so far.
struct Report<'a> {
    output: &'a mut dyn Write,
    wrong: usize,
}

impl Report<'_> {
    fn ok(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.output, "ok     {what}")
    }

    fn note(&mut self, what: &str, more: &str) -> io::Result<()> {
        writeln!(self.output, "note   {what}")?;
        more.lines().try_for_each(|line| writeln!(self.output, "       {line}"))
    }

    fn wrong(&mut self, what: &str, remedy: &str) -> io::Result<()> {
        self.wrong += 1;
        writeln!(self.output, "wrong  {what}\n       next: {remedy}")
    }

    fn failure(&mut self, about: &str, failure: &Failure) -> io::Result<()> {
        self.wrong(&format!("{about}: {}", failure.what), &failure.remedy)
    }
}

/// Checks everything and writes the report; a failure if anything is wrong.
pub async fn check(
    file: Option<&Path>,
    loaded: Result<Configuration, Vec<ConfigurationMistake>>,
    clock: &Clock,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let mut report = Report { output, wrong: 0 };
    let name = file
        .map_or_else(|| "no file, defaults and environment".to_owned(), |file| file.display().to_string());
    match loaded {
        Ok(configuration) => {
            report.ok(&format!("configuration: {name}"))?;
            check_what_it_names(&configuration, clock, &mut report).await?;
        }
        Err(mistakes) => {
            for mistake in mistakes {
                let key = if mistake.key.is_empty() { String::new() } else { format!("{}: ", mistake.key) };
                report.wrong(&format!("{}: {key}{}", mistake.place, mistake.what), &mistake.remedy)?;
            }
        }
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(Failure::about(ErrorCode::ConfigurationMistaken, "1 thing is wrong")),
        n => Err(Failure::about(ErrorCode::ConfigurationMistaken, format!("{n} things are wrong"))),
    }
}

async fn check_what_it_names(
    configuration: &Configuration,
    clock: &Clock,
    report: &mut Report<'_>,
) -> io::Result<()> {
    check_listeners(configuration, report).await?;
    let store = check_database(configuration, report).await?;
    if let Some(store) = &store
        && let Err(failure) = check_paths(configuration, store).await
    {
        report.failure("app", &failure)?;
    }
    check_master_key(configuration, store.as_ref(), report).await?;
    if configuration.trusted_proxies.is_empty() {
        let what = "gate.trusted_proxies is empty: nobody may ask the gate, only the built-in proxy protects";
        report.note(what, WHAT_TO_LIST)?;
    }
    if configuration.shares_host_with_application() {
        let what =
            "an application lives on the host of base_url and could act in the name of everybody signed in";
        report.note(what, "Give Doorward a host of its own when you can.")?;
    }
    for application in &configuration.applications {
        if let Some(rest) = application.hostname().strip_prefix(ORGANIZATION_LABEL) {
            let what =
                format!("app {}: its hosts are *{rest}, one for each organization", application.name());
            let more = format!(
                "Give *{rest} a wildcard record in DNS and a wildcard certificate, and let the proxy send all of them here.\n\
                 An organization's name is not known in DNS: hosts of names that nobody has are answered as `unowned` says."
            );
            report.note(&what, &more)?;
        }
    }
    if let Some(tls) = &configuration.tls {
        check_tls(configuration, tls, clock.now(), report)?;
    }
    use_one_crypto_provider();
    if configuration.outbound_extra_ca_file.is_some() {
        let opened = outbound_settings(configuration, Vec::new()).and_then(|settings| {
            let opened = Outbound::new(settings, clock.clone());
            opened.map_err(|error| Failure::about(ErrorCode::ConfigurationMistaken, error.to_string()))
        });
        match opened {
            Ok(_) => report.ok("outbound.extra_ca_file: its certificates are trusted too")?,
            Err(failure) => report.failure("outbound", &failure)?,
        }
    }
    Ok(())
}

async fn check_listeners(configuration: &Configuration, report: &mut Report<'_>) -> io::Result<()> {
    let Err(told) = Listeners::bind(configuration).await else {
        return report.ok("the addresses can be listened on");
    };
    for cannot in told {
        if cannot.source.kind() == io::ErrorKind::AddrInUse {
            let what = format!("{}: something listens on {} already", cannot.key, cannot.address);
            report.note(&what, "Fine if it is this doorward, running; else change the address.")?;
        } else {
            report.wrong(&cannot.to_string(), &cannot.remedy())?;
        }
    }
    Ok(())
}

async fn check_database(configuration: &Configuration, report: &mut Report<'_>) -> io::Result<Option<Store>> {
    if let Database::Sqlite(path) = &configuration.database
        && !path.exists()
    {
        let what = format!("database: {} is not there; the first start makes it", path.display());
        report.note(
            &what,
            "If there should be one, correct the path: it is relative to the working directory.",
        )?;
        return Ok(None);
    }
    match open_store(configuration).await {
        Ok(store) => {
            report
                .ok(&format!("database: {} answers, its schema is current", configuration.database.kind()))?;
            Ok(Some(store))
        }
        Err(failure) => {
            report.failure("database", &failure)?;
            Ok(None)
        }
    }
}

/// Never makes a key, and never takes one for the right one (conformance.md F24).
async fn check_master_key(
    configuration: &Configuration,
    store: Option<&Store>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let path = &configuration.master_key_file;
    let known = match store {
        None => Vec::new(),
        Some(store) => match store::load_known_keys(&mut store.reader()).await {
            Ok(known) => known,
            Err(error) => return report.failure("master key", &error.into()),
        },
    };
    if !path.exists() {
        return match known.last() {
            None => {
                let what =
                    format!("master_key_file: {} is not there; the first start makes it", path.display());
                report.note(&what, "Keep a copy of it, apart from the database's.")
            }
            Some(known) => report.failure("master_key_file", &key_is_missing(path, &known.id)),
        };
    }
    let sealing = match Sealing::open(path) {
        Ok(sealing) => sealing,
        Err(error) => return report.failure("master_key_file", &error.into()),
    };
    let Some(store) = store.filter(|_| !known.is_empty()) else {
        return report.ok("master_key_file: readable by its owner alone");
    };
    match store::keys_fit(&mut store.reader(), &sealing).await {
        Err(error) => report.failure("master_key_file", &error.into()),
        Ok(()) if known.len() > 1 => report.note(
            "master_key_file: the ones that seal the database; an old key is still kept",
            "When every node has the new file: doorward key rotate --drop-old",
        ),
        Ok(()) => report.ok("master_key_file: the one that sealed the database"),
    }
}

/// Says of the certificate what `serve` would say of it, and what browsers will.
fn check_tls(
    configuration: &Configuration,
    tls: &Tls,
    now: Timestamp,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let pair = match Pair::read(tls, &served_names(configuration)) {
        Ok(pair) => pair,
        Err(failure) => return report.wrong(&failure.what, &failure.remedy),
    };
    let faults = pair.faults(now);
    for fault in &faults {
        report.wrong(&fault.what, &fault.remedy)?;
    }
    let until = in_words(pair.not_after);
    match pair.expiry(now) {
        Expiry::Within30Days | Expiry::Within14Days | Expiry::Within3Days => {
            let what = format!("tls.certificate_file: the certificate expires at {until}");
            report.note(&what, "Renew it, replace both files and send SIGHUP.")
        }
        _ if faults.is_empty() => report.ok(&format!("[tls]: the certificate is valid until {until}")),
        _ => Ok(()),
    }
}
