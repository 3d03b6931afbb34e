//! `doorward proxy-config`: a proxy's whole configuration, made from the operator's own.
//!
//! In: the configuration, the kind of proxy, where the applications listen. Out: the proxy's files as text, the same for
//! the same input; or everything that stands in the way, each with its remedy. The text is in `templates/proxy/`.
//! Never here: writing files, reaching anything. Invariant: what `docs/gate.md` shows is made here, and the tests run it.

use crate::configuration::{Application, Configuration};
use crate::failure::Failure;
use crate::proxy::Upstream;
use askama::Template;
use doorward_core::error_code::ErrorCode;
use doorward_core::identity_headers::{IDENTITY_HEADER_NAMES, OVERRIDE_HEADER_NAMES};
use doorward_core::request_target::ORGANIZATION_LABEL;
use std::fmt;
use std::net::SocketAddr;

/// What a proxy must set on a request as the gate answers, beside the identity headers, and take off where the answer has
/// nothing: credentials of ours, which the application never sees. Every template goes through this list.
const CREDENTIALS: [&str; 2] = ["Cookie", "Authorization"];

/// What is never the client's to say, beside [`OVERRIDE_HEADER_NAMES`] and what every proxy writes itself.
const FORWARDED: [&str; 5] =
    ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Prefix", "Forwarded", "Proxy"];

/// The placeholders where the operator names no certificate.
const CERTIFICATE: &str = "/etc/ssl/doorward.pem";
const KEY: &str = "/etc/ssl/doorward.key";

/// A proxy whose configuration can be made.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyKind {
    /// nginx.
    Nginx,
    /// Traefik 3.
    Traefik,
    /// Caddy 2.
    Caddy,
    /// Envoy.
    Envoy,
    /// HAProxy.
    Haproxy,
}

/// What the operator says beside his configuration.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which proxy.
    pub proxy: ProxyKind,
    /// Where applications listen, by their names.
    pub upstreams: Vec<(String, Upstream)>,
    /// The certificate's file.
    pub certificate: Option<String>,
    /// The file of its key.
    pub key: Option<String>,
    /// Where the proxy reaches Doorward, if not at the address that Doorward listens on.
    pub doorward: Option<String>,
}

/// One file of a proxy's configuration. Its first line names its path in a comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MadeFile {
    /// Where it belongs.
    pub path: &'static str,
    /// What it says.
    pub text: String,
}

/// Makes every file of the proxy's configuration, or tells all that is missing for it.
pub fn make(configuration: &Configuration, wanted: &Wanted) -> Result<Vec<MadeFile>, Vec<Failure>> {
    let site = &Site::of(configuration, wanted)?;
    let made = |path, text: askama::Result<String>| -> Result<MadeFile, Vec<Failure>> {
        let text = text.map_err(|error| Failure::about(ErrorCode::ServiceInternal, error.to_string()))?;
        Ok(MadeFile { path, text: format!("{}\n", text.trim_end()) })
    };
    Ok(match wanted.proxy {
        ProxyKind::Nginx => vec![
            made("/etc/nginx/conf.d/doorward.conf", NginxConf { s: site }.render())?,
            made("/etc/nginx/doorward/host.conf", NginxHost.render())?,
            made("/etc/nginx/doorward/ask.conf", NginxAsk { s: site }.render())?,
        ],
        ProxyKind::Traefik => vec![
            made("/etc/traefik/traefik.yaml", TraefikOwn { s: site }.render())?,
            made("/etc/traefik/doorward.yaml", TraefikDynamic { s: site }.render())?,
        ],
        ProxyKind::Caddy => vec![made("/etc/caddy/Caddyfile", Caddyfile { s: site }.render())?],
        ProxyKind::Envoy => vec![made("/etc/envoy/envoy.yaml", EnvoyYaml { s: site }.render())?],
        ProxyKind::Haproxy => vec![
            made("/etc/haproxy/haproxy.cfg", HaproxyCfg { s: site }.render())?,
            made("/etc/haproxy/doorward.lua", HaproxyLua { s: site }.render())?,
        ],
    })
}

#[derive(Template)]
#[template(path = "proxy/nginx.conf", escape = "none")]
struct NginxConf<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/nginx_host.conf", escape = "none")]
struct NginxHost;

#[derive(Template)]
#[template(path = "proxy/nginx_ask.conf", escape = "none")]
struct NginxAsk<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/traefik.yaml", escape = "none")]
struct TraefikOwn<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/traefik_dynamic.yaml", escape = "none")]
struct TraefikDynamic<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/Caddyfile", escape = "none")]
struct Caddyfile<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/envoy.yaml", escape = "none")]
struct EnvoyYaml<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/haproxy.cfg", escape = "none")]
struct HaproxyCfg<'a> {
    s: &'a Site,
}

#[derive(Template)]
#[template(path = "proxy/doorward.lua", escape = "none")]
struct HaproxyLua<'a> {
    s: &'a Site,
}

/// What the templates write out. Nothing in it needs escaping any more: hosts and names have few signs by their own rules,
/// and paths were judged and quoted by [`quoted`].
struct Site {
    sso_host: String,
    /// With its port, if that is not 443.
    sso_authority: String,
    /// The one port that the proxy listens on.
    port: u16,
    doorward: Address,
    gate: Address,
    applications: Vec<Protected>,
    certificate: String,
    key: String,
    has_certificate: bool,
    from_gate: Vec<FromGate>,
    not_the_clients: Vec<&'static str>,
}

/// An application behind the proxy. `host` and `authority` begin with [`ORGANIZATION_LABEL`] where the host tells whose
/// they are: the proxy then takes one label there, made as organizations' names are, and nothing else.
struct Protected {
    name: String,
    /// Its name among the proxy's own things.
    id: String,
    host: String,
    authority: String,
    upstream: Address,
}

/// An organization's label, as a regular expression for a host in small letters.
const LABEL: &str = "[a-z0-9-]+";

impl Protected {
    /// Whether each organization has a host of its own.
    fn is_by_host(&self) -> bool {
        self.host.starts_with(ORGANIZATION_LABEL)
    }

    /// All of its hosts as a regular expression. Without a backslash, so that every syntax takes it as it is.
    fn expression(&self, label: &str) -> String {
        format!("^{}$", self.host.replace('.', "[.]").replace(ORGANIZATION_LABEL, label))
    }

    /// What stands behind nginx's `server_name`.
    fn nginx_name(&self) -> String {
        if self.is_by_host() {
            format!("~{}", self.expression(&format!("(?<doorward_org>{LABEL})")))
        } else {
            self.host.clone()
        }
    }

    /// The host that was asked for, with its port, in nginx's words.
    fn nginx_authority(&self) -> String {
        self.authority.replace(ORGANIZATION_LABEL, "${doorward_org}")
    }

    /// Traefik's matcher of its hosts.
    fn traefik_rule(&self) -> String {
        if self.is_by_host() {
            format!("HostRegexp(`(?i){}`)", self.expression(LABEL))
        } else {
            format!("Host(`{}`)", self.host)
        }
    }

    /// The address of Caddy's site: its `*` takes one label.
    fn caddy_site(&self) -> String {
        self.authority.replace(ORGANIZATION_LABEL, "*")
    }

    /// The domain of Envoy's virtual host. A bare `*` would begin an alias.
    fn envoy_domain(&self) -> String {
        if self.is_by_host() {
            format!("\"{}\"", self.host.replace(ORGANIZATION_LABEL, "*"))
        } else {
            self.host.clone()
        }
    }

    /// What stands behind HAProxy's `-i`.
    fn haproxy_match(&self) -> String {
        if self.is_by_host() { format!("-m reg {}", self.expression(LABEL)) } else { self.host.clone() }
    }
}

/// Where something listens.
#[derive(Clone)]
struct Address {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A header that the proxy sets as the gate answers.
struct FromGate {
    name: &'static str,
    lower: String,
    /// nginx's variable for it.
    variable: String,
    /// nginx's variable for the header of the gate's answer.
    answer: String,
}

impl FromGate {
    fn new(name: &'static str) -> Self {
        let lower = name.to_ascii_lowercase();
        let variable = lower.replace('-', "_");
        let short = variable.strip_prefix("doorward_").unwrap_or(&variable);
        Self {
            name,
            variable: format!("$doorward_{short}"),
            answer: format!("$upstream_http_{variable}"),
            lower,
        }
    }
}

/// One of Envoy's clusters.
struct Cluster<'a> {
    id: &'a str,
    host: &'a str,
    port: u16,
    /// Whether the name has to be looked up.
    by_name: bool,
}

impl Site {
    fn of(configuration: &Configuration, wanted: &Wanted) -> Result<Self, Vec<Failure>> {
        let mut wrong = Vec::new();
        let mut mistake = |what: String, remedy: String| {
            wrong.push(Failure::new(ErrorCode::ConfigurationMistaken, what, remedy));
        };
        let base_url = &configuration.base_url;
        let port = base_url.url.port_or_known_default().unwrap_or(443);
        if !base_url.https {
            mistake(
                format!("base_url is {base_url}, plain http: browsers would keep no cookie through a proxy"),
                "Set base_url to the https address that browsers use, as in base_url = \"https://sso.example.com\"."
                    .to_owned(),
            );
        }
        if configuration.tls.is_some() {
            mistake(
                "[tls] makes Doorward's own listener speak https, and the proxy asks it by http".to_owned(),
                "Take [tls] out; the proxy serves https.".to_owned(),
            );
        }
        if configuration.trusted_proxies.is_empty() {
            mistake(
                "gate.trusted_proxies is empty: nobody may ask the gate".to_owned(),
                format!("List the proxy's address.\n{}", crate::check::WHAT_TO_LIST),
            );
        }
        for (key, address) in [("listen", configuration.listen), ("gate.listen", configuration.gate_listen)] {
            if address.port() == 0 {
                mistake(
                    format!("{key} has port 0, another one at each start"),
                    format!("Give {key} a port."),
                );
            }
        }
        if configuration.applications.is_empty() {
            mistake(
                "there is no application to protect".to_owned(),
                "Add an [[app]] with its name, host and patterns.".to_owned(),
            );
        }
        for (name, _) in &wanted.upstreams {
            if !configuration.applications.iter().any(|application| application.name() == name) {
                let known: Vec<_> = configuration.applications.iter().map(Application::name).collect();
                mistake(
                    format!("--upstream names the application {name:?}, which the configuration has not"),
                    format!("Use one of: {}", known.join(", ")),
                );
            }
        }
        let applications = configuration
            .applications
            .iter()
            .filter_map(|application| protected(application, configuration, wanted, port, &mut mistake))
            .collect();
        if base_url.hostname().starts_with('[') {
            mistake(
                "base_url has an IPv6 address for its host".to_owned(),
                "Give it a name; proxies tell hosts apart by their names.".to_owned(),
            );
        }
        let certificate = wanted.certificate.as_deref().unwrap_or(CERTIFICATE);
        let key = wanted.key.as_deref().unwrap_or(KEY);
        if wanted.proxy == ProxyKind::Haproxy
            && let Some(key) = &wanted.key
            && *key != format!("{certificate}.key")
        {
            mistake(
                format!("HAProxy takes the certificate's key from the same file, or from {certificate}.key"),
                format!("cat {certificate} {key} > both.pem, then --certificate both.pem without --key."),
            );
        }
        let (certificate, key) = (quoted(certificate), quoted(key));
        for path in [&certificate, &key] {
            if let Err(path) = path {
                mistake(
                    format!("{path:?} has signs that not every proxy's configuration can hold"),
                    "Use a path without quotes, $, backslashes, braces, backticks and control characters."
                        .to_owned(),
                );
            }
        }
        let doorward = wanted.doorward.as_deref();
        if doorward.is_some_and(|host| !is_host(host)) {
            mistake(
                format!("--doorward {:?} is not a host", doorward.unwrap_or_default()),
                "Write a name or an address without a port; the ports are those of the configuration."
                    .to_owned(),
            );
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let names = CREDENTIALS.into_iter().chain(IDENTITY_HEADER_NAMES);
        Ok(Self {
            sso_host: base_url.hostname().to_owned(),
            sso_authority: base_url.host.clone(),
            port,
            doorward: listener(configuration.listen, doorward),
            gate: listener(configuration.gate_listen, doorward),
            applications,
            certificate: certificate.unwrap_or_default(),
            key: key.unwrap_or_default(),
            has_certificate: wanted.certificate.is_some(),
            from_gate: names.map(FromGate::new).collect(),
            not_the_clients: OVERRIDE_HEADER_NAMES.into_iter().chain(FORWARDED).collect(),
        })
    }

    /// Traefik's rule for the hosts of all applications.
    fn traefik_hosts(&self) -> String {
        let hosts: Vec<_> = self.applications.iter().map(Protected::traefik_rule).collect();
        match hosts.as_slice() {
            [only] => only.clone(),
            several => format!("({})", several.join(" || ")),
        }
    }

    /// The credentials, as Traefik lists them.
    #[expect(clippy::unused_self, reason = "called as the templates call everything")]
    fn credentials(&self) -> String {
        CREDENTIALS.join(", ")
    }

    /// The credentials, as Envoy names headers.
    #[expect(clippy::unused_self, reason = "called as the templates call everything")]
    fn envoy_credentials(&self) -> String {
        CREDENTIALS.map(|name| format!("{{ exact: {} }}", name.to_ascii_lowercase())).join(", ")
    }

    /// Envoy's clusters.
    fn clusters(&self) -> Vec<Cluster<'_>> {
        let ours = [("doorward", &self.doorward), ("doorward_gate", &self.gate)];
        let applications = self.applications.iter().map(|app| (app.id.as_str(), &app.upstream));
        ours.into_iter()
            .chain(applications)
            .map(|(id, address)| Cluster {
                id,
                host: &address.host,
                port: address.port,
                by_name: address.host.parse::<std::net::IpAddr>().is_err(),
            })
            .collect()
    }
}

/// The application as the templates write it, or a mistake that was told.
fn protected(
    application: &Application,
    configuration: &Configuration,
    wanted: &Wanted,
    port: u16,
    mistake: &mut impl FnMut(String, String),
) -> Option<Protected> {
    let name = application.name();
    let given = wanted.upstreams.iter().rev().find(|(named, _)| named == name).map(|(_, upstream)| upstream);
    let Some(upstream) = given.or(application.upstream.as_ref()) else {
        mistake(
            format!("where does the application {name} listen?"),
            format!("Say it: --upstream {name}=http://127.0.0.1:3000"),
        );
        return None;
    };
    let (host, authority) = (application.hostname(), application.host());
    if host == configuration.base_url.hostname() {
        mistake(
            format!("the application {name} lives on the host of base_url, {host}"),
            "Give each a host of its own: the proxy tells them apart by it.".to_owned(),
        );
        return None;
    }
    if host.starts_with('[') {
        mistake(
            format!("the application {name} has an IPv6 address for its host"),
            "Give it a name; proxies tell hosts apart by their names.".to_owned(),
        );
        return None;
    }
    let own = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    if configuration.base_url.https && own != port {
        mistake(
            format!("the application {name} is reached at port {own}, base_url at {port}"),
            "Give both the same port: one proxy serves them.".to_owned(),
        );
        return None;
    }
    Some(Protected {
        name: name.to_owned(),
        id: format!("application_{name}"),
        host: host.to_owned(),
        authority: authority.to_owned(),
        upstream: Address { host: upstream.host().to_owned(), port: upstream.port() },
    })
}

/// Where the proxy reaches one of our listeners. One on every address of this machine is reached on its loopback.
fn listener(address: SocketAddr, doorward: Option<&str>) -> Address {
    let ip = address.ip();
    let own = match (ip.is_unspecified(), ip.is_ipv6()) {
        (false, _) => ip.to_string(),
        (true, false) => "127.0.0.1".to_owned(),
        (true, true) => "::1".to_owned(),
    };
    Address { host: doorward.map_or(own, str::to_owned), port: address.port() }
}

/// A name or an address as it stands in every proxy's configuration without quotes.
fn is_host(text: &str) -> bool {
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (is_name && !text.is_empty() && !text.starts_with('-')) || text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// A path as all five syntaxes read it: bare where it is plain, else in double quotes. What one of them would read as more
/// than a sign (an end of the quotes, an escape, a variable, a template) is refused, and given back.
fn quoted(path: &str) -> Result<String, String> {
    let special = |c: char| c.is_control() || "\"'\\$`{}".contains(c);
    if path.is_empty() || path.chars().any(special) {
        return Err(path.to_owned());
    }
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    Ok(if plain && !path.starts_with('-') { path.to_owned() } else { format!("\"{path}\"") })
}
