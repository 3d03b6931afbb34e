//! The operator's configuration: `doorward.toml` and the environment, turned into checked types.
//!
//! In: a file's path and the environment's variables. Out: a `Configuration`, or every mistake at once with its line
//! and remedy. Never here: opening the database, binding, reading keys; `check.rs` and `serve.rs` do that.
//! Invariant: what a `Configuration` holds was checked; nothing else reads the environment.

mod keys;
mod mistake;
mod reader;
mod reference;
mod values;

pub use keys::{APP, KEYS, Key, Kind, SECTIONS};
pub use mistake::{ConfigurationMistake, Place};
pub use reference::{example_file, reference_page};
pub use values::{
    Application, Banner, BaseUrl, CreateOrganizations, Database, LogFormat, LogLevel, SameHost, Synchronous,
};

use doorward_core::request_target::{self, Mapping, ORGANIZATION_LABEL, Pattern};
use doorward_core::secret::TokenHash;
use ipnet::IpNet;
use reader::{Reader, Reported, Table};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Longest configuration file that is read, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Everything the operator decided.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where browsers reach our own pages.
    pub base_url: BaseUrl,
    /// The main listener.
    pub listen: SocketAddr,
    /// Which database.
    pub database: Database,
    /// The file with the key that seals secrets.
    pub master_key_file: PathBuf,
    /// The listener of `/metrics`, if any.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether an application may live on our own host (rule 11).
    pub same_host: SameHost,
    /// Addresses that outbound requests may reach although they are not public.
    pub outbound_allow: Vec<SocketAddr>,
    /// More certificate authorities (PEM) for outbound requests.
    pub outbound_extra_ca_file: Option<PathBuf>,
    /// The gate's listener.
    pub gate_listen: SocketAddr,
    /// Proxies that may ask the gate and whose forwarded client address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may create organizations.
    pub create_organizations: CreateOrganizations,
    /// How the log looks.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Certificate and key for serving https directly.
    pub tls: Option<Tls>,
    /// How safely SQLite writes.
    pub sqlite_synchronous: Synchronous,
    /// What is protected.
    pub applications: Vec<Application>,
}

/// Files for serving https without a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

impl Configuration {
    /// Reads the file (if any) and lays the environment's `DOORWARD_…` variables over it.
    ///
    /// Returns every mistake of both, in the order of the file.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<ConfigurationMistake>> {
        let text = match file.map(read_bounded) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(mistake)) => return Err(vec![mistake]),
        };
        Self::parse(file, &text, environment)
    }

    /// As `load`, from a text that was read already. `file` is only named in mistakes.
    pub fn parse(
        file: Option<&Path>,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<ConfigurationMistake>> {
        let mut reader = Reader::new(file, text);
        let (mut main, apps) = reader.read_file();
        reader.read_environment(environment.into_iter(), &mut main);
        let configuration = assemble(&mut reader, &main, &apps);
        let mut mistakes = reader.mistakes;
        match configuration {
            Ok(configuration) if mistakes.is_empty() => Ok(configuration),
            _ => {
                mistakes.sort_by(|a, b| a.place.cmp(&b.place));
                mistakes.dedup();
                // What was read out of a line that is no TOML is guesswork; its form is the mistake to mend first.
                let malformed: BTreeSet<_> = mistakes
                    .iter()
                    .filter(|mistake| mistake.key.is_empty())
                    .filter_map(ConfigurationMistake::line)
                    .collect();
                mistakes.retain(|mistake| {
                    mistake.key.is_empty() || mistake.line().is_none_or(|line| !malformed.contains(&line))
                });
                Err(mistakes)
            }
        }
    }

    /// Lower-case first segments of paths that belong to applications themselves, such as `datasets` in
    /// `/datasets/{org}/**`. An organization of that name could never be reached (decisions.md).
    pub fn reserved_first_segments(&self) -> BTreeSet<String> {
        let segments =
            self.applications.iter().flat_map(|application| application.gate.literal_first_segments());
        let on_our_host = self.applications.iter().filter_map(|application| {
            // Our own host wins over an application's hosts, so an organization of that name would have none.
            application.gate.organization_in(&self.base_url.host)
        });
        segments.chain(on_our_host).map(str::to_ascii_lowercase).collect()
    }

    /// A short hash over what must be the same on every node: nodes that differ are seen in their figures and logs
    /// (conformance.md F18). Comparable between nodes of one version only.
    pub fn fingerprint(&self) -> String {
        let shared = (&self.base_url, self.same_host, self.create_organizations, &self.applications);
        TokenHash::of(&format!("{shared:?}")).to_text().chars().take(12).collect()
    }

    /// The application under that host, as it appears in a `Host` header. Compared in lower case.
    pub fn application_on(&self, host: &str) -> Option<&Application> {
        let found = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            self.application_in_place(&host.to_ascii_lowercase())
        } else {
            self.application_in_place(host)
        };
        found.map(|(_, application)| application)
    }

    /// The application under that host, as `normalise_host` writes it, with its place in the list. Our own host is no
    /// organization's, though an application's hosts may have it among them.
    pub fn application_in_place(&self, host: &str) -> Option<(usize, &Application)> {
        let own = host == self.base_url.host;
        let mut applications = self.applications.iter().enumerate();
        applications
            .find(|(_, application)| if own { application.host() == host } else { application.is_on(host) })
    }

    /// Whether an application lives on our own host, which every settings page then shows (rule 11).
    pub fn shares_host_with_application(&self) -> bool {
        self.applications.iter().any(|application| application.hostname() == self.base_url.hostname())
    }
}

fn read_bounded(file: &Path) -> Result<String, ConfigurationMistake> {
    let mistake = |what: String, remedy: &str| ConfigurationMistake {
        place: Place::File { file: file.to_owned(), line: 0, column: 0 },
        key: String::new(),
        what,
        remedy: remedy.to_owned(),
    };
    let bytes = std::fs::read(file).map_err(|error| {
        mistake(
            format!("the file can't be read: {error}"),
            "Check the path after --config and the file's permissions.",
        )
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(mistake("the file is larger than 1 MiB".to_owned(), "Name a doorward.toml."));
    }
    String::from_utf8(bytes)
        .map_err(|_| mistake("the file is not UTF-8 text".to_owned(), "Save it as UTF-8."))
}

/// Parses every value, then looks across them. Goes on after a mistake, so that all are found.
fn assemble(reader: &mut Reader<'_>, main: &Table, apps: &[Table]) -> Result<Configuration, Reported> {
    let listen = reader.text(main, "listen", values::listen);
    let base_url = match (&listen, main.has("base_url")) {
        // Without a base_url the pages are where the listener is.
        (Ok(listen), false) => BaseUrl::parse(&format!("http://localhost:{}", listen.port()))
            .map_err(|wrong| reader.report(Place::Nowhere, "base_url", wrong.what, wrong.remedy)),
        _ => reader.text(main, "base_url", BaseUrl::parse),
    };
    let database = reader.text(main, "database", Database::parse);
    let master_key_file = reader.text(main, "master_key_file", values::path);
    let metrics_listen = reader.optional(main, "metrics_listen", values::listen);
    let same_host = reader.text(main, "same_host", SameHost::parse);
    let outbound_allow = reader.list(main, "outbound.allow", values::allowed_address);
    let outbound_extra_ca_file = reader.optional(main, "outbound.extra_ca_file", values::path);
    let gate_listen = reader.text(main, "gate.listen", values::listen);
    let trusted_proxies = reader.list(main, "gate.trusted_proxies", values::network);
    let create_organizations = reader.text(main, "organizations.create", CreateOrganizations::parse);
    let log_format = reader.text(main, "log.format", LogFormat::parse);
    let log_level = reader.text(main, "log.level", LogLevel::parse);
    let certificate_file = reader.optional(main, "tls.certificate_file", values::path);
    let key_file = reader.optional(main, "tls.key_file", values::path);
    let sqlite_synchronous = reader.text(main, "sqlite.synchronous", Synchronous::parse);
    let https = base_url.as_ref().is_ok_and(|base_url| base_url.https);
    let applications: Vec<_> = apps.iter().map(|app| application(reader, app, https)).collect();

    one_listener_an_address(
        reader,
        main,
        &[
            ("listen", listen.as_ref().ok()),
            ("gate.listen", gate_listen.as_ref().ok()),
            ("metrics_listen", metrics_listen.as_ref().ok().and_then(Option::as_ref)),
        ],
    );
    let tls = match (certificate_file?, key_file?) {
        (Some(certificate_file), Some(key_file)) => Ok(Some(Tls { certificate_file, key_file })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(("tls.certificate_file", "key_file")),
        (None, Some(_)) => Err(("tls.key_file", "certificate_file")),
    }
    .map_err(|(given, missing)| {
        let remedy = format!("Add {missing} to [tls], or remove both.");
        reader.report(main.place_of(given), given, format!("stands there without {missing}"), remedy)
    });
    if let (Ok(Some(_)), Ok(base_url)) = (&tls, &base_url)
        && !base_url.https
    {
        let what = "is plain http, but [tls] makes the main listener speak https";
        reader.report(
            main.place_of("base_url"),
            "base_url",
            what.to_owned(),
            "Write https://, or remove [tls].".to_owned(),
        );
    }
    if let (Ok(base_url), Ok(same_host)) = (&base_url, &same_host) {
        hosts_are_apart(reader, base_url, *same_host, apps, &applications);
    }
    names_are_apart(reader, apps, &applications);

    Ok(Configuration {
        base_url: base_url?,
        listen: listen?,
        database: database?,
        master_key_file: master_key_file?,
        metrics_listen: metrics_listen?,
        same_host: same_host?,
        outbound_allow: outbound_allow?,
        outbound_extra_ca_file: outbound_extra_ca_file?,
        gate_listen: gate_listen?,
        trusted_proxies: trusted_proxies?,
        create_organizations: create_organizations?,
        log_format: log_format?,
        log_level: log_level?,
        tls: tls?,
        sqlite_synchronous: sqlite_synchronous?,
        applications: applications.into_iter().collect::<Result<_, _>>()?,
    })
}

fn application(reader: &mut Reader<'_>, app: &Table, https: bool) -> Result<Application, Reported> {
    let name = reader.text(app, "app.name", values::application_name);
    let host = reader.text(app, "app.host", |text| values::application_host(text, https));
    let belongs_to = reader.optional(app, "app.belongs_to", values::organization_name);
    let upstream = reader.optional(app, "app.upstream", values::upstream);
    let host_tells = host.as_ref().is_ok_and(|host| host.starts_with(ORGANIZATION_LABEL));
    if host_tells && app.has("app.belongs_to") {
        let what = "stands there although the host names the organization".to_owned();
        let remedy = "Remove belongs_to, or write a host without {org}.".to_owned();
        reader.report(app.place_of("app.belongs_to"), "app.belongs_to", what, remedy);
    }
    let parse = match (host_tells, app.has("app.belongs_to")) {
        (true, _) => Pattern::parse_without_organization,
        (false, true) => Pattern::parse,
        (false, false) => Pattern::parse_organization,
    };
    let organization = reader.list(app, "app.organization", |text| values::pattern(text, parse));
    let public = reader.list(app, "app.public", |text| values::pattern(text, Pattern::parse_public));
    let unowned = reader.text(app, "app.unowned", values::unowned);
    let assertion = Reader::flag(app, "app.assertion");
    let parse = if host_tells { Pattern::parse_without_organization } else { Pattern::parse };
    let rules = reader.rules(app, "app.rules", |raw| values::rule(&raw.methods, &raw.path, &raw.role, parse));
    let banner = reader.text(app, "app.banner", Banner::parse);
    let upstream = upstream?;
    if upstream.is_none() && matches!(banner, Ok(Banner::On)) {
        let what = "is on, but nothing is sent through the built-in proxy".to_owned();
        let remedy =
            "Add an upstream, or remove banner and let the application read Doorward-Sso.".to_owned();
        reader.report(app.place_of("app.banner"), "app.banner", what, remedy);
    }
    let mapping = match belongs_to? {
        _ if host_tells => Mapping::Host,
        Some(name) => Mapping::Fixed(name),
        None => Mapping::Path,
    };
    let mut organization = organization?;
    if mapping != Mapping::Path && organization.is_empty() {
        organization.extend(Pattern::parse_without_organization("/**"));
    }
    let gate = request_target::Application {
        name: name?,
        host: host?,
        mapping,
        organization,
        public: public?,
        unowned: unowned?,
        rules: rules?,
    };
    Ok(Application { gate, upstream, assertion: assertion?, banner: banner? })
}

/// Two listeners can't have one address. Port 0 takes a free one each time.
fn one_listener_an_address(reader: &mut Reader<'_>, main: &Table, listeners: &[(&str, Option<&SocketAddr>)]) {
    let mut seen: HashMap<SocketAddr, &str> = HashMap::new();
    for (key, address) in listeners {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        if let Some(other) = seen.insert(*address, key) {
            let place = if main.has(key) { main.place_of(key) } else { main.place_of(other) };
            reader.report(
                place,
                key,
                format!("is the address of {other} too: {address}"),
                "Give each its own port.",
            );
        }
    }
}

/// Rule 11: our pages have a host of their own, and so has each application. Cookies ignore ports, so the host counts
/// without its port.
fn hosts_are_apart(
    reader: &mut Reader<'_>,
    base_url: &BaseUrl,
    same_host: SameHost,
    apps: &[Table],
    applications: &[Result<Application, Reported>],
) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (table, application) in apps.iter().zip(applications) {
        let Ok(application) = application else { continue };
        let host = application.hostname();
        if let Some(other) = seen.insert(host, application.name()) {
            reader.report(
                table.place_of("app.host"),
                "app.host",
                format!("{host} is the host of application {other} too"),
                "Give each application a host of its own; browsers share cookies between ports.",
            );
        }
        let other = applications.iter().filter_map(|other| other.as_ref().ok()).find(|other| {
            let name = other.gate.host.rsplit_once(':').map_or(other.host(), |(name, _)| name);
            let hosts = request_target::Application { host: name.to_owned(), ..other.gate.clone() };
            !host.starts_with(ORGANIZATION_LABEL) && hosts.organization_in(host).is_some()
        });
        if let Some(other) = other {
            reader.report(
                table.place_of("app.host"),
                "app.host",
                format!("{host} is one of the hosts of application {} too", other.name()),
                "Give it a host that is not the host of an organization, such as one level higher.",
            );
        }
        // Cookies ignore ports: on another port than ours, our own name among its hosts is not ours by itself.
        let port = |authority: &str| authority.rsplit_once(':').map(|(_, port)| port.to_owned());
        let hosts = request_target::Application { host: host.to_owned(), ..application.gate.clone() };
        if hosts.organization_in(base_url.hostname()).is_some()
            && port(application.host()) != port(&base_url.host)
        {
            reader.report(
                table.place_of("app.host"),
                "app.host",
                format!("{} is one of its hosts, at another port", base_url.hostname()),
                "Give Doorward a host that is not the host of an organization, such as one level higher.",
            );
        }
        if host == base_url.hostname() && !base_url.is_localhost() && same_host == SameHost::Refused {
            reader.report(
                table.place_of("app.host"),
                "app.host",
                format!("{host} is the host of base_url, so the application could act in everybody's name"),
                "Give Doorward a host of its own, or write same_host = \"trusted\" if you trust the application that far.",
            );
        }
    }
}

fn names_are_apart(reader: &mut Reader<'_>, apps: &[Table], applications: &[Result<Application, Reported>]) {
    let mut seen = BTreeSet::new();
    for (table, application) in apps.iter().zip(applications) {
        let Ok(application) = application else { continue };
        if !seen.insert(application.name()) {
            reader.report(
                table.place_of("app.name"),
                "app.name",
                format!("{} is the name of another application", application.name()),
                "Give each application a name of its own.",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, Vec<ConfigurationMistake>> {
        Configuration::parse(Some(Path::new("doorward.toml")), text, [])
    }

    fn with_environment(variables: &[(&str, &str)]) -> Result<Configuration, Vec<ConfigurationMistake>> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Configuration::parse(None, "", variables)
    }

    #[test]
    fn without_anything_it_serves_on_localhost_with_sqlite_under_data() {
        let configuration = Configuration::load(None, []).unwrap();
        assert_eq!(configuration.base_url.to_string(), "http://localhost:8080");
        assert_eq!(configuration.base_url.host, "localhost:8080");
        assert_eq!(configuration.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(configuration.gate_listen.to_string(), "127.0.0.1:8081");
        assert_eq!(configuration.database, Database::Sqlite("data/doorward.db".into()));
        assert_eq!(configuration.master_key_file, PathBuf::from("data/master.key"));
        assert_eq!(configuration.metrics_listen, None);
        assert!(configuration.trusted_proxies.is_empty() && configuration.applications.is_empty());
        assert_eq!(configuration.same_host, SameHost::Refused);
        assert_eq!(configuration.sqlite_synchronous, Synchronous::Full);
        assert_eq!(configuration.create_organizations, CreateOrganizations::Operators);
    }

    #[test]
    fn the_sample_of_the_architecture_is_taken() {
        let configuration = parse(
            r#"
            base_url = "https://sso.example.com"
            listen = "127.0.0.1:8080"
            database = "sqlite:data/doorward.db"
            master_key_file = "data/master.key"
            [outbound]
            allow = ["127.0.0.1:9400"]
            [gate]
            listen = "127.0.0.1:8081"
            trusted_proxies = ["127.0.0.1"]
            [[app]]
            name = "hub"
            host = "hub.example.com"
            upstream = "http://127.0.0.1:3000"
            organization = ["/datasets/{org}/{resource}/**", "/{org}/**"]
            public = ["/", "/static/**"]
            unowned = "deny"
            rules = [{ methods = ["DELETE"], path = "/{org}/settings/**", role = "admin" }]
            "#,
        )
        .unwrap();
        assert_eq!(configuration.outbound_allow.len(), 1);
        assert!(configuration.application_on("HUB.example.com").is_some());
        assert_eq!(
            configuration.reserved_first_segments().into_iter().collect::<Vec<_>>(),
            ["datasets", "static"]
        );
    }

    #[test]
    fn our_own_host_wins_over_an_applications_hosts_and_takes_its_name_away() {
        let text =
            "base_url = \"https://sso.example.com\"\n[[app]]\nname = \"hub\"\nhost = \"{org}.Example.com\"\n";
        let configuration = parse(text).unwrap();
        let on = |host: &str| configuration.application_on(host).map(Application::host);
        assert_eq!(on("Acme.example.com"), Some("{org}.example.com"));
        assert_eq!(on("sso.example.com"), None);
        assert_eq!(configuration.reserved_first_segments().into_iter().collect::<Vec<_>>(), ["sso"]);
    }

    /// Each wrong text with the line of its mistake and a word of what it says.
    #[test]
    fn each_mistake_has_its_line_its_key_and_a_remedy() {
        for (text, line, key, word) in [
            ("base_url = \"sso.example.com\"", 1, "base_url", "not a URL"),
            ("\nbase_url = \"http://sso.example.com\"", 2, "base_url", "plain http"),
            ("base_url = \"https://sso.example.com/?a=b\"", 1, "base_url", "?"),
            ("base_url = \"https://me@sso.example.com\"", 1, "base_url", "user name"),
            ("base_url = \"https://sso.example.com/a%20b\"", 1, "base_url", "unusual"),
            ("base_url = \"https://sso.example.com.\"", 1, "base_url", "spell otherwise"),
            ("base_url = \"https://sso_1.example.com\"", 1, "base_url", "spell otherwise"),
            ("base_url = 8080", 1, "base_url", "is not a text"),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\nassertion = \"no\"",
                4,
                "app.assertion",
                "is not true or false",
            ),
            ("listen = \"localhost:8080\"", 1, "listen", "address with a port"),
            ("listen = \"127.0.0.1:8081\"", 1, "gate.listen", "address of listen too"),
            ("database = \"mysql://x\"", 1, "database", "neither"),
            ("database = \"sqlite::memory:\"", 1, "database", "plainly"),
            ("database = \"postgres://localhost/\"", 1, "database", "names no database"),
            ("same_host = \"yes\"", 1, "same_host", "no choice"),
            ("metrics_listen = \":9090\"", 1, "metrics_listen", "address with a port"),
            ("trusted_proxies = [\"127.0.0.1\"]", 1, "trusted_proxies", "not a key"),
            ("[gate]\ntrusted_proxies = \"127.0.0.1\"", 2, "gate.trusted_proxies", "a list of texts"),
            ("[gate]\ntrusted_proxies = [\n\"127.0.0.1\",\n\"nginx\"]", 4, "gate.trusted_proxies", "nginx"),
            ("[gate]\ntrusted_proxies = [\"0.0.0.0/0\"]", 2, "gate.trusted_proxies", "everybody"),
            ("[outbound]\nallow = [\"10.0.0.5\"]", 2, "outbound.allow", "with a port"),
            ("[log]\nlevel = \"loud\"", 2, "log.level", "no choice"),
            ("[tls]\nkey_file = \"k.pem\"", 2, "tls.key_file", "without certificate_file"),
            ("gate = 1", 1, "gate", "not a section"),
            ("[app]\nname = \"hub\"", 1, "app", "only once"),
            ("[[app]]\nname = \"hub\"", 1, "app.host", "is missing"),
            ("[[app]]\nname = \"Hub\"\nhost = \"h.example\"", 2, "app.name", "short name"),
            ("[[app]]\nname = \"hub\"\nhost = \"https://h.example\"", 3, "app.host", "not a host"),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\nupstream = \"http://h/x\"",
                4,
                "app.upstream",
                "more than",
            ),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\nupstream = \"https://h\"",
                4,
                "app.upstream",
                "http URL",
            ),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\npublic = [\"x\"]",
                4,
                "app.public",
                "starts with /",
            ),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\nrules = [{ methods = [\"GET\"], path = \"/\", role = \"boss\" }]",
                4,
                "app.rules",
                "not a role",
            ),
            (
                "[[app]]\nname = \"hub\"\nhost = \"h.example\"\nrules = [{ path = \"/\" }]",
                4,
                "app.rules",
                "{ methods, path, role }",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"h.example\"\n[[app]]\nname = \"a\"\nhost = \"i.example\"",
                5,
                "app.name",
                "another application",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"h.example\"\n[[app]]\nname = \"b\"\nhost = \"H.example:81\"",
                6,
                "app.host",
                "host of application a too",
            ),
            ("[[app]]\nname = \"a\"\nhost = \"a{org}.example\"", 3, "app.host", "not a host"),
            ("[[app]]\nname = \"a\"\nhost = \"{org}\"", 3, "app.host", "with an organization in it"),
            (
                "[[app]]\nname = \"a\"\nhost = \"{org}.127.0.0.1\"",
                3,
                "app.host",
                "with an organization in it",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"{org}.h.example\"\nbelongs_to = \"acme\"",
                4,
                "app.belongs_to",
                "although the host",
            ),
            ("[[app]]\nname = \"a\"\nhost = \"h.example\"\nbelongs_to = \"a--b\"", 4, "app.belongs_to", "--"),
            (
                "[[app]]\nname = \"a\"\nhost = \"{org}.h.example\"\norganization = [\"/{org}/**\"]",
                4,
                "app.organization",
                "{org} is not in the paths",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"{org}.h.example\"\n[[app]]\nname = \"b\"\nhost = \"{org}.h.example\"",
                6,
                "app.host",
                "host of application a too",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"www.h.example\"\n[[app]]\nname = \"b\"\nhost = \"{org}.h.example\"",
                3,
                "app.host",
                "one of the hosts of application b",
            ),
            (
                "base_url = \"https://sso.h.example:8443\"\n[[app]]\nname = \"a\"\nhost = \"{org}.h.example\"",
                4,
                "app.host",
                "sso.h.example is one of its hosts, at another port",
            ),
            (
                "[[app]]\nname = \"a\"\nhost = \"h.example\"\nbanner = \"on\"",
                4,
                "app.banner",
                "built-in proxy",
            ),
            ("listen = ", 1, "", ""),
        ] {
            let mistakes = parse(text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:#?}");
            let mistake = &mistakes[0];
            assert_eq!((mistake.line(), mistake.key.as_str()), (Some(line), key), "{text}: {mistake:?}");
            assert!(mistake.what.contains(word), "{text}: {mistake:?}");
            assert!(mistake.remedy.len() > 8, "{text}: {mistake:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
        let mistakes = parse(
            "listen = \"nowhere\"\nbase_urll = \"x\"\ndatabase = \"x\"\n[gate]\nlisten = 1\n[[app]]\nunowned = \"maybe\"\n",
        )
        .unwrap_err();
        let keys: Vec<_> = mistakes.iter().map(|mistake| (mistake.line(), mistake.key.as_str())).collect();
        assert_eq!(
            keys,
            [
                (Some(1), "listen"),
                (Some(2), "base_urll"),
                (Some(3), "database"),
                (Some(5), "gate.listen"),
                (Some(6), "app.name"),
                (Some(6), "app.host"),
                (Some(7), "app.unowned"),
            ]
        );
    }

    #[test]
    fn a_mistyped_key_is_told_its_likely_name() {
        for (text, word) in [
            ("base_ulr = \"x\"", "base_url"),
            ("trusted_proxies = []", "trusted_proxies of [gate]"),
            ("[gate]\ntrusted_proxy = []", "trusted_proxies of [gate]"),
            ("[[app]]\nname = \"a\"\nhost = \"b.c\"\nupstraem = \"\"", "upstream of [[app]]"),
            ("[logging]\nlevel = \"info\"", "docs/reference"),
            ("master_key = \"x\"", "master_key_file"),
            ("colour = 1", "docs/reference"),
        ] {
            let mistakes = parse(text).unwrap_err();
            assert!(mistakes[0].remedy.contains(word), "{text}: {mistakes:?}");
        }
    }

    #[test]
    fn the_environment_lies_over_the_file_as_toml_or_as_plain_text() {
        let configuration = Configuration::parse(
            Some(Path::new("doorward.toml")),
            "listen = \"127.0.0.1:1\"\n[gate]\ntrusted_proxies = [\"10.0.0.1\"]",
            [
                ("DOORWARD_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
                ("DOORWARD_GATE__LISTEN".to_owned(), "\"127.0.0.1:3\"".to_owned()),
                ("DOORWARD_GATE__TRUSTED_PROXIES".to_owned(), "[\"10.0.0.2\", \"10.1.0.0/16\"]".to_owned()),
                ("DOORWARD_LOG__FORMAT".to_owned(), String::new()),
                ("DOORWARD_SERVICE_HOST".to_owned(), "10.9.8.7".to_owned()),
                ("HOME".to_owned(), "/root".to_owned()),
            ],
        )
        .unwrap();
        assert_eq!(configuration.listen.to_string(), "127.0.0.1:2");
        assert_eq!(configuration.gate_listen.to_string(), "127.0.0.1:3");
        assert_eq!(configuration.trusted_proxies.len(), 2);
        assert_eq!(configuration.log_format, LogFormat::Human);
        assert_eq!(configuration.base_url.to_string(), "http://localhost:2");
    }

    #[test]
    fn a_mistake_in_the_environment_names_the_variable() {
        for (variable, value, word) in [
            ("DOORWARD_LISTEN", "8080", "address with a port"),
            ("DOORWARD_GATE__TRUSTED_PROXIES", "127.0.0.1", "a list of texts"),
            ("DOORWARD_APP__NAME", "hub", "can't be given in the environment"),
            ("DOORWARD_GATE_LISTEN", "127.0.0.1:1", "not a key"),
        ] {
            let mistakes = with_environment(&[(variable, value)]).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert_eq!(mistakes[0].place, Place::Environment { variable: variable.to_owned() });
            assert!(mistakes[0].what.contains(word), "{mistakes:?}");
        }
    }

    #[test]
    fn rule_6_a_database_password_is_in_no_mistake_and_in_no_debug_text() {
        for wrong in [
            "postgres://me:swordfish@host/",
            "postgres://me:swordfish@ho st/x",
            "mysql://me:swordfish@host/x",
        ] {
            let mistakes = with_environment(&[("DOORWARD_DATABASE", wrong)]).unwrap_err();
            assert!(!format!("{mistakes:?}").contains("swordfish"), "{mistakes:?}");
            let mistakes = parse(&format!("database = \"{wrong}\"\nlisten = ")).unwrap_err();
            assert!(!format!("{mistakes:?}").contains("swordfish"), "{mistakes:?}");
        }
        let configuration =
            with_environment(&[("DOORWARD_DATABASE", "postgres://me:swordfish@host/doorward")]).unwrap();
        assert!(!format!("{configuration:?}").contains("swordfish"));
    }

    #[test]
    fn a_base_url_may_carry_a_path_and_says_what_a_host_header_looks_like() {
        let base_url = parse("base_url = \"https://Example.com:443/sso/\"").unwrap().base_url;
        assert_eq!(base_url.path, "/sso");
        assert_eq!(base_url.host, "example.com");
        assert_eq!(base_url.origin, "https://example.com");
        assert_eq!(base_url.join("/login"), "https://example.com/sso/login");
        for local in ["http://127.8.9.1:80", "http://[::1]:8080", "http://hub.localhost:8080"] {
            let base_url = BaseUrl::parse(local).unwrap();
            assert!(base_url.is_localhost() && !base_url.https, "{local}");
        }
        assert_eq!(BaseUrl::parse("http://localhost:80/").unwrap().host, "localhost");
    }

    #[test]
    fn rule_11_an_application_on_our_own_host_is_refused_unless_it_is_trusted_or_localhost() {
        let on = |base_url: &str, host: &str, more: &str| {
            parse(&format!("base_url = \"{base_url}\"\n{more}\n[[app]]\nname = \"hub\"\nhost = \"{host}\"\n"))
        };
        let mistakes = on("https://example.com/sso", "example.com", "").unwrap_err();
        assert_eq!((mistakes.len(), mistakes[0].line()), (1, Some(5)));
        assert!(on("https://example.com", "example.com:8443", "").is_err(), "cookies ignore ports");
        assert!(on("https://sso.example.com", "example.com", "").is_ok());
        assert!(on("http://localhost:8080", "localhost:8080", "").is_ok());
        let trusted = on("https://example.com/sso", "example.com", "same_host = \"trusted\"").unwrap();
        assert!(trusted.shares_host_with_application());
    }

    #[test]
    fn a_file_that_is_not_there_is_one_plain_mistake() {
        let mistakes = Configuration::load(Some(Path::new("/nowhere/doorward.toml")), []).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].to_string().starts_with("/nowhere/doorward.toml: the file can't be read"));
    }

    #[test]
    fn f18_the_fingerprint_differs_when_what_nodes_share_differs() {
        let of = |text: &str| parse(text).unwrap().fingerprint();
        assert_eq!(
            of("base_url = \"https://a.example\""),
            of("base_url = \"https://a.example\"\nlisten = \"0.0.0.0:1\"")
        );
        assert_ne!(of("base_url = \"https://a.example\""), of("base_url = \"https://b.example\""));
        assert_eq!(of("").len(), 12);
    }

    proptest::proptest! {
        #[test]
        fn no_file_and_no_variable_can_make_it_panic(
            text in ".{0,200}",
            value in "\\PC{0,60}",
            key in 0..KEYS.len(),
        ) {
            drop(parse(&text));
            let key = &KEYS[key];
            drop(parse(&format!("{} = {value}", key.path)));
            drop(parse(&format!("[[app]]\n{} = {value:?}", key.name())));
            if let Some(variable) = key.variable() {
                drop(Configuration::parse(None, "", [(variable, value)]));
            }
        }
    }
}
