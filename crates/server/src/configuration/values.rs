//! The types of single values, and their parsers: a text in, a checked type or what is wrong with it out.
//!
//! Never here: files, the environment, other keys.

use super::mistake::Wrong;
use crate::proxy::Upstream;
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::request_target::{
    self, Method, ORGANIZATION_LABEL, Pattern, PatternError, Rule, Unowned, normalise_host,
};
use doorward_core::secret::Secret;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use url::{Host, Url};

/// Where browsers reach our own pages. Every absolute URL is built from it, never from a request.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// The whole URL.
    pub url: Url,
    /// Scheme, host and port, as in an `Origin` header: `https://sso.example.com`.
    pub origin: String,
    /// The path before all of our pages: empty, or `/sso`, without a slash at its end.
    pub path: String,
    /// Whether browsers come by https.
    pub https: bool,
    /// As it appears in a `Host` header: `sso.example.com`, `localhost:8080`.
    pub host: String,
}

impl BaseUrl {
    /// Takes an http or https URL without user, query or fragment. Plain http is for loopback hosts only.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        const LIKE: &str = "Write it like \"https://sso.example.com\".";
        let url = Url::parse(text).map_err(|error| Wrong::new(format!("is not a URL: {error}"), LIKE))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Wrong::new("is neither an https nor an http URL", LIKE)),
        };
        let Some(host) = url.host() else { return Err(Wrong::new("has no host", LIKE)) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::new("has a user name in it", LIKE));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new("has a ? or # in it", "Leave out everything from there on."));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte))
            || path.contains("//")
        {
            return Err(Wrong::new(
                "has a path with unusual characters",
                "Use letters, digits, - and _ in the path, or no path at all.",
            ));
        }
        if !https && !is_loopback(&host) {
            return Err(Wrong::new(
                "is plain http on a host other than localhost, where browsers would not keep our cookies",
                "Write https://, and let the proxy in front serve it.",
            ));
        }
        // Requests are compared in that form; a host that has another one would never be asked.
        let name = host.to_string();
        if normalise_host(&name, https).as_deref() != Some(name.as_str()) {
            return Err(Wrong::new("has a host that browsers would spell otherwise", LIKE));
        }
        let host = authority(&host, url.port());
        let origin = format!("{}://{host}", url.scheme());
        Ok(Self { url, origin, path, https, host })
    }

    /// The absolute URL of one of our pages. `path` begins with `/` and is encoded already.
    pub fn join(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.path)
    }

    /// The host without its port.
    pub fn hostname(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Whether the host is this machine itself: `localhost`, `*.localhost`, 127.0.0.0/8 or ::1.
    pub fn is_localhost(&self) -> bool {
        self.url.host().is_some_and(|host| is_loopback(&host))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost" || name.as_ref().ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn authority<S: AsRef<str> + fmt::Display>(host: &Host<S>, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// Which database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Database {
    /// The file of an embedded SQLite.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL, with its password.
    Postgres(Secret),
}

impl Database {
    /// Takes `sqlite:PATH` or `postgres://…`. What is wrong never repeats the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        const LIKE: &str = "Write \"sqlite:data/doorward.db\" or \"postgres://USER:PASSWORD@HOST/DATABASE\".";
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() || path.starts_with("//") || path.contains('?') || path.starts_with(':') {
                return Err(Wrong::new(
                    "does not name a file plainly",
                    "Write \"sqlite:\" and the path directly behind it, as in \"sqlite:/var/lib/doorward/doorward.db\".",
                ));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let url = Url::parse(text).map_err(|error| {
                Wrong::new(
                    format!("is not a PostgreSQL URL: {error}"),
                    "Percent-encode what is special in user name and password.",
                )
            })?;
            if url.path().trim_matches('/').is_empty() {
                return Err(Wrong::new(
                    "names no database",
                    "Put the database's name behind the host, as in …@HOST/doorward.",
                ));
            }
            return Ok(Self::Postgres(Secret::new(text.to_owned())));
        }
        Err(Wrong::new("is neither an SQLite file nor a PostgreSQL URL", LIKE))
    }

    /// `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

macro_rules! one_of {
    ($(#[$about:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $word:literal ),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $( $(#[$doc])* $variant ),*
        }

        impl $name {
            /// From the word in the configuration.
            pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
                match text {
                    $( $word => Ok(Self::$variant), )*
                    _ => Err(Wrong::new(
                        format!("has no choice {:?}", shown(text)),
                        format!("Write one of: {}", [$($word),*].join(", ")),
                    )),
                }
            }

            /// The word in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }
        }
    };
}

one_of! {
    /// Whether an application may live on the host of `base_url` (rule 11).
    SameHost {
        /// No; `serve` refuses it, except on localhost.
        Refused = "refused",
        /// Yes; the application could act in the name of everybody signed in.
        Trusted = "trusted",
    }
}

one_of! {
    /// Who may create organizations.
    CreateOrganizations {
        /// Operators alone.
        Operators = "operators",
        /// Every account.
        Anyone = "anyone",
    }
}

one_of! {
    /// Whether the built-in proxy puts the banner into an application's pages.
    Banner {
        /// It never changes a page.
        Off = "off",
        /// Where single sign-on is optional and missing.
        On = "on",
    }
}

one_of! {
    /// How the log looks.
    LogFormat {
        /// Lines for people.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

one_of! {
    /// How much is logged.
    LogLevel {
        /// What failed.
        Error = "error",
        /// And what is odd.
        Warn = "warn",
        /// And a line for each page.
        Info = "info",
        /// And a line for each answer of the gate.
        Debug = "debug",
        /// And everything else.
        Trace = "trace",
    }
}

one_of! {
    /// How safely SQLite writes.
    Synchronous {
        /// Every commit is on the disk before it is answered.
        Full = "full",
        /// The last commits may be lost at a power failure.
        Normal = "normal",
    }
}

/// One protected application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Application {
    /// Name, host and patterns, as the gate reads them.
    pub gate: request_target::Application,
    /// Where the built-in proxy sends requests: an http URL without a path.
    pub upstream: Option<Upstream>,
    /// The built-in proxy shows the banner where single sign-on is optional and missing (hub-sso.md M3).
    pub banner: Banner,
    /// Whether the identity assertion is signed for it.
    pub assertion: bool,
}

impl Application {
    /// Its short name: small letters, digits and `-`.
    pub fn name(&self) -> &str {
        &self.gate.name
    }

    /// As it appears in a `Host` header, in lower case, without the scheme's usual port; with `{org}` as its first label
    /// if the host tells the organization.
    pub fn host(&self) -> &str {
        &self.gate.host
    }

    /// Whether this is its host, or one of its hosts. `host` as `normalise_host` writes it.
    pub fn is_on(&self, host: &str) -> bool {
        self.host() == host || self.gate.organization_in(host).is_some()
    }

    /// The host of an organization's part, for an example: `host` with a name in it.
    pub fn example_hostname(&self) -> String {
        self.hostname().replace(ORGANIZATION_LABEL, "organization")
    }

    /// The host without its port.
    pub fn hostname(&self) -> &str {
        match self.host().rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => self.host(),
        }
    }
}

/// The word of `unowned`.
pub(super) fn unowned(text: &str) -> Result<Unowned, Wrong> {
    Unowned::from_text(text).ok_or_else(|| {
        Wrong::new(format!("has no choice {:?}", shown(text)), "Write one of: deny, signed_in, allow")
    })
}

/// One entry of `rules`.
pub(super) fn rule(
    methods: &[String],
    path: &str,
    role: &str,
    parse: impl FnOnce(&str) -> Result<Pattern, PatternError>,
) -> Result<Rule, Wrong> {
    const ROLES: &str = "Write read, contributor, write or admin.";
    let methods = methods
        .iter()
        .map(|method| {
            Method::from_text(method).ok_or_else(|| {
                let known = Method::ALL.map(Method::as_str).join(", ");
                Wrong::new(format!("{:?} is not a method", shown(method)), format!("Use some of {known}."))
            })
        })
        .collect::<Result<_, _>>()?;
    let role: Role =
        role.parse().map_err(|_| Wrong::new(format!("{:?} is not a role", shown(role)), ROLES))?;
    if role == Role::NoAccess {
        return Err(Wrong::new("no_access can't be needed", ROLES));
    }
    Ok(Rule { methods, path: pattern(path, parse)?, role })
}

/// A path pattern of the kind that `parse` takes.
pub(super) fn pattern(
    text: &str,
    parse: impl FnOnce(&str) -> Result<Pattern, PatternError>,
) -> Result<Pattern, Wrong> {
    parse(text).map_err(|error| {
        Wrong::new(
            format!("{:?}: {error}", shown(text)),
            "Write it like \"/{org}/{resource}/**\" or \"/static/**\".",
        )
    })
}

/// At most 60 characters of a value, for a message.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// `IP:PORT` to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8080);
        Wrong::new(
            format!("{:?} is not an address with a port", shown(text)),
            format!("Write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every network of this machine."),
        )
    })
}

/// `IP:PORT` that outbound requests may reach.
pub(super) fn allowed_address(text: &str) -> Result<SocketAddr, Wrong> {
    const LIKE: &str = "Write the address and the port, as in \"10.0.0.5:8443\" or \"[fd00::5]:443\".";
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Wrong::new(format!("{:?} is not an IP address with a port", shown(text)), LIKE))?;
    if address.port() == 0 {
        return Err(Wrong::new("port 0 can't be reached", LIKE));
    }
    Ok(address)
}

/// An IP address or a network.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    const LIKE: &str = "Write an address or a network, as in \"127.0.0.1\" or \"10.1.0.0/16\".";
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            Wrong::new(format!("{:?} is neither an address nor a network", shown(text)), LIKE)
        })?,
    };
    if network.prefix_len() == 0 {
        return Err(Wrong::new(
            "would trust everybody",
            "List the addresses or the network of your proxies alone.",
        ));
    }
    Ok(network.trunc())
}

/// A path in the file system.
pub(super) fn path(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("names no file", "Write the path of a file."));
    }
    Ok(PathBuf::from(text))
}

/// An application's short name.
pub(super) fn application_name(text: &str) -> Result<String, Wrong> {
    let good = (1..=40).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            format!("{:?} is not a short name", shown(text)),
            "Use 1 to 40 small letters, digits and -, as in \"hub\".",
        ))
    }
}

/// A host as browsers send it; the usual port of the scheme is left out.
pub(super) fn host(text: &str, https: bool) -> Result<String, Wrong> {
    const LIKE: &str = "Write the host alone, as in \"hub.example.com\" or \"hub.localhost:8080\".";
    let wrong = || Wrong::new(format!("{:?} is not a host", shown(text)), LIKE);
    if text.contains(['/', '@', '?', '#', '\\', '*', ' ']) {
        return Err(wrong());
    }
    let scheme = if https { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{text}/")).map_err(|_| wrong())?;
    let host = url.host().ok_or_else(wrong)?;
    // The url crate turns international names into the form that browsers send; the gate says what a host is.
    normalise_host(&authority(&host, url.port()), https).map(std::borrow::Cow::into_owned).ok_or_else(wrong)
}

/// The host of an application: one host, or `{org}.` before one, where the first label tells the organization.
pub(super) fn application_host(text: &str, https: bool) -> Result<String, Wrong> {
    let Some(rest) = text.strip_prefix(ORGANIZATION_LABEL) else { return host(text, https) };
    let wrong = || {
        Wrong::new(
            format!("{:?} is not a host with an organization in it", shown(text)),
            "Write {org} as its whole first label, as in \"{org}.hub.example.com\".",
        )
    };
    let rest = host(rest.strip_prefix('.').ok_or_else(wrong)?, https)?;
    let is_address =
        rest.starts_with('[') || rest.split(':').next().is_some_and(|name| name.parse::<IpAddr>().is_ok());
    if is_address { Err(wrong()) } else { Ok(format!("{ORGANIZATION_LABEL}.{rest}")) }
}

/// The name of the organization that a whole application belongs to, in lower case.
pub(super) fn organization_name(text: &str) -> Result<String, Wrong> {
    let name = Name::parse(text).map_err(|why| {
        Wrong::new(format!("{:?}: {why}", shown(text)), "Write the organization's name, as in its paths.")
    })?;
    Ok(name.key().to_owned())
}

/// Where the built-in proxy sends requests.
pub(super) fn upstream(text: &str) -> Result<Upstream, Wrong> {
    const LIKE: &str = "Write scheme, host and port alone, as in \"http://127.0.0.1:3000\".";
    let url = Url::parse(text).map_err(|error| Wrong::new(format!("is not a URL: {error}"), LIKE))?;
    if url.scheme() != "http" {
        return Err(Wrong::new("is not an http URL", LIKE));
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("has more than a host and a port in it", LIKE));
    }
    url.as_str().parse().map_err(|_| Wrong::new("is not an address that can be reached", LIKE))
}
