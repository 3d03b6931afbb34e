//! Opens what the configuration names: the database, the master key, the way out to providers.
//!
//! Used by `serve`, by the commands and by `check` alike, so that all judge the same.

use crate::app::{App, SharedApp, StartError};
use crate::clock::Clock;
use crate::configuration::{Application, Configuration, Database, Synchronous};
use crate::failure::Failure;
use crate::outbound::{OutboundSettings, system_lookup};
use crate::random::Random;
use crate::sealing::Sealing;
use crate::store::{self, Store};
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::Secret;
use doorward_core::time::Timestamp;
use std::net::SocketAddr;
use std::path::Path;
use url::Url;

/// Opens the database. SQLite is made and migrated as needed; on PostgreSQL a schema that is not current is refused.
pub async fn open_store(configuration: &Configuration) -> Result<Store, Failure> {
    let store = connect(configuration).await?;
    store.check_schema().await?;
    Ok(store)
}

/// Opens the database and brings its schema up to date, on PostgreSQL too.
pub async fn open_and_migrate(configuration: &Configuration) -> Result<Store, Failure> {
    let store = connect(configuration).await?;
    store.migrate().await?;
    Ok(store)
}

async fn connect(configuration: &Configuration) -> Result<Store, Failure> {
    match &configuration.database {
        Database::Sqlite(path) => {
            let synchronous = match configuration.sqlite_synchronous {
                Synchronous::Full => store::Synchronous::Full,
                Synchronous::Normal => store::Synchronous::Normal,
            };
            let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
            let store = Store::open_sqlite(path, synchronous).await.map_err(|error| {
                let failure = Failure::from(error);
                Failure { what: format!("{}: {}", path.display(), failure.what), ..failure }
            })?;
            if is_new {
                // Never silently: a path that is mistyped looks like a database that is lost (conformance.md F13).
                tracing::warn!(path = %path.display(), "there was no database here; made a new, empty one");
            }
            Ok(store)
        }
        Database::Postgres(url) => Store::open_postgres(url.expose()).await.map_err(|error| {
            let failure = Failure::from(error);
            Failure { what: format!("{}: {}", without_credentials(url), failure.what), ..failure }
        }),
    }
}

/// Host, port and database of a PostgreSQL URL, for a message.
fn without_credentials(url: &Secret) -> String {
    let Ok(url) = Url::parse(url.expose()) else { return "PostgreSQL".to_owned() };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("PostgreSQL at {}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

/// Opens the master key, and the audit log's keys with it: whoever writes must be able to write it down.
pub async fn open_sealing(
    configuration: &Configuration,
    store: &Store,
    random: &Random,
    now: Timestamp,
) -> Result<Sealing, Failure> {
    let sealing = open_master_key(configuration, store, random, now).await?;
    store.open_audit(&sealing, random, now).await?;
    store.note_newer_key(&sealing, now).await?;
    Ok(sealing)
}

/// Reads the master key, or makes it if the store has never had one, and compares it with the one that sealed the
/// store (conformance.md F24).
pub async fn open_master_key(
    configuration: &Configuration,
    store: &Store,
    random: &Random,
    now: Timestamp,
) -> Result<Sealing, Failure> {
    let path = &configuration.master_key_file;
    let sealing = match store::load_known_keys(&mut store.reader()).await?.last() {
        Some(known) if !path.exists() => return Err(key_is_missing(path, &known.id)),
        Some(_) => Sealing::open(path)?,
        None => Sealing::open_or_create(path, random)?,
    };
    store.check_key(&sealing, now).await?;
    Ok(sealing)
}

/// That the key file is not there although something was sealed with a key.
pub fn key_is_missing(path: &Path, key_id: &str) -> Failure {
    let path = path.display();
    Failure::new(
        ErrorCode::KeyUnusable,
        format!("the master key file {path} is missing, but key {key_id} sealed this database"),
        format!("Restore {path} from its copy, with mode 0600, or correct master_key_file."),
    )
}

/// Everything that a command or the service works with. `own_listeners` are never reached from here.
pub async fn open_app(
    configuration: Configuration,
    clock: Clock,
    random: Random,
    own_listeners: Vec<SocketAddr>,
) -> Result<SharedApp, Failure> {
    use_one_crypto_provider();
    let store = open_store(&configuration).await?;
    let sealing = open_sealing(&configuration, &store, &random, clock.now()).await?;
    let mut never_reached = own_listeners;
    never_reached.extend(database_addresses(&configuration).await);
    let outbound = outbound_settings(&configuration, never_reached)?;
    App::new(configuration, store, sealing, clock, random, outbound).map_err(|error| {
        let code = match &error {
            StartError::Outbound(_) => ErrorCode::ConfigurationMistaken,
            StartError::Random(_) | StartError::Passwords(_) => ErrorCode::ServiceInternal,
        };
        Failure::about(code, error.to_string())
    })
}

/// Refuses paths of the configuration that would open an existing organization: names are compared when an organization is
/// made, and a path may be newer.
pub async fn check_paths(configuration: &Configuration, store: &Store) -> Result<(), Failure> {
    let mut reader = store.reader();
    let mut told = Vec::new();
    for application in &configuration.applications {
        for pattern in application.gate.patterns_that_open() {
            let Some(name) = pattern.first_literal() else { continue };
            let Some(organization) = store::load_organization(&mut reader, name).await? else { continue };
            let (path, app, name) = (pattern.as_str(), application.name(), organization.name);
            told.push(format!(
                "the path {path} of app {app} is about pages of the organization {name}, and would open them to others"
            ));
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::OrganizationNameIsAPath,
        told.join("; "),
        "Choose another first segment for the path. One page of the organization is opened by \
         doorward resource set ORG NAME --public."
            .to_owned(),
    ))
}

/// Where PostgreSQL is: an address that no admin's URL may lead to, allowed or not (conformance.md S3).
async fn database_addresses(configuration: &Configuration) -> Vec<SocketAddr> {
    let Database::Postgres(url) = &configuration.database else { return Vec::new() };
    let Ok(url) = Url::parse(url.expose()) else { return Vec::new() };
    let host = url.host_str().unwrap_or("localhost").trim_matches(['[', ']']).to_owned();
    // Without an answer there is nothing to keep apart: the store could not be opened by that name either.
    system_lookup()(host, url.port().unwrap_or(POSTGRES_PORT)).await.unwrap_or_default()
}

/// Where PostgreSQL listens if the URL doesn't say it.
const POSTGRES_PORT: u16 = 5432;

/// Makes aws-lc the process's one provider of cryptography for TLS. A second call changes nothing.
pub fn use_one_crypto_provider() {
    // An error only says that there is one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// What the operator says about the way out to providers.
pub fn outbound_settings(
    configuration: &Configuration,
    own_listeners: Vec<SocketAddr>,
) -> Result<OutboundSettings, Failure> {
    let mut settings = OutboundSettings::new(configuration.outbound_allow.clone());
    settings.own_listeners = own_listeners;
    settings.own_hosts = std::iter::once(configuration.base_url.hostname())
        .chain(configuration.applications.iter().map(Application::hostname))
        .map(str::to_owned)
        .collect();
    if let Some(path) = &configuration.outbound_extra_ca_file {
        let pem = std::fs::read(path).map_err(|error| {
            Failure::about(
                ErrorCode::ConfigurationMistaken,
                format!("outbound.extra_ca_file: {} can't be read: {error}", path.display()),
            )
        })?;
        settings.extra_authorities_pem = Some(pem);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn s3_the_databases_address_is_one_that_no_admins_url_may_lead_to() {
        let addresses = async |database: &str| {
            let text = format!("database = \"{database}\"\n");
            database_addresses(&Configuration::parse(None, &text, []).unwrap()).await
        };
        assert_eq!(addresses("postgres://d:p@127.0.0.1:5433/d").await, ["127.0.0.1:5433".parse().unwrap()]);
        assert_eq!(addresses("postgres://d:p@[::1]/d").await, ["[::1]:5432".parse().unwrap()]);
        assert_eq!(addresses("sqlite:data/x.db").await, []);
    }
}
