//! The only HTTP client: what an admin typed leads here, so every URL is hostile (rule 5; conformance.md §5).
//!
//! In: a URL, who asks, limits. Out: a bounded answer, or an `OutboundFault` that says what kind of failure it was.
//! Never here: what the documents mean (`idp/`), the proxy's own upstream, a clock.
//! Invariant: a name is resolved once for each use, every address of it is judged, and the connection goes to a
//! judged address only. No redirect, proxy variable, cookie, `Referer` or decompression ever.

mod address;
mod fair_share;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

pub use address::judge_address;

use crate::clock::Clock;
use address::Nat64;
use bytes::{Bytes, BytesMut};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::ids::OrganizationId;
use doorward_core::request_target::ORGANIZATION_LABEL;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use fair_share::{FairShare, Place};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use url::{Host, Url};

/// Calls under way at the same time, of all organizations.
const CALLS: usize = 64;
/// Calls that may wait for a place.
const CALLS_WAITING: usize = 2048;
/// Name look-ups at the same time: each blocks a thread of the pool that password hashing uses too.
const LOOKUPS: usize = 16;
/// Clients, and so checked addresses, whose connections are kept.
const CLIENTS: usize = 256;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// Addresses of one name that are tried before giving up.
const ADDRESSES_TRIED: usize = 3;
/// Calls that an organization's settings tests may make in a minute.
const BUDGET: u32 = 20;
/// Organizations whose budget is remembered.
const BUDGETS: usize = 4096;
/// Longest URL that is followed.
const URL_BYTES: usize = 2048;
/// Longest head of an answer, names and values together.
const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields of an answer.
const HEAD_FIELDS: usize = 64;
/// Ports from 1024 up behind which databases and control planes listen.
const REFUSED_PORTS: [u16; 11] = [1433, 2375, 2379, 3306, 5432, 6379, 6443, 9200, 10250, 11211, 27017];
/// Ends of names that never lead to a public host.
const REFUSED_SUFFIXES: [&str; 5] = [".localhost", ".local", ".internal", ".home.arpa", ".onion"];

/// How names become addresses: the port is copied into each answer.
pub type Lookup = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The operating system's resolver.
pub fn system_lookup() -> Lookup {
    #[expect(clippy::disallowed_methods, reason = "Outbound is the one place that resolves names")]
    Arc::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }))
}

/// What the operator and the process say about outgoing calls.
#[derive(Clone)]
pub struct OutboundSettings {
    /// `[outbound] allow`: addresses that may be reached although they are not public.
    pub allow: Vec<SocketAddr>,
    /// Our own listeners and the database: never reached, listed or not.
    pub own_listeners: Vec<SocketAddr>,
    /// `base_url`'s host, in lower case: not reached unless the address is listed (no loops).
    pub own_hosts: Vec<String>,
    /// Certificate authorities beside the host's, as PEM.
    pub extra_authorities_pem: Option<Vec<u8>>,
    /// Limits of time.
    pub times: Times,
    /// How names become addresses.
    pub lookup: Lookup,
}

impl OutboundSettings {
    /// The usual limits and the system's resolver.
    pub fn new(allow: Vec<SocketAddr>) -> Self {
        Self {
            allow,
            own_listeners: Vec::new(),
            own_hosts: Vec::new(),
            extra_authorities_pem: None,
            times: Times::default(),
            lookup: system_lookup(),
        }
    }
}

/// Limits of time for one call (conformance.md S9).
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Waiting for a place among the calls under way.
    pub place: Duration,
    /// Resolving the name.
    pub lookup: Duration,
    /// TCP and TLS together, for each address tried.
    pub connect: Duration,
    /// From the first byte that we send to the head of the answer, added to `connect`.
    pub head: Duration,
    /// Everything after the look-up; a slow drip ends here.
    pub whole: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            place: Duration::from_secs(5),
            lookup: Duration::from_secs(2),
            connect: Duration::from_secs(3),
            head: Duration::from_secs(5),
            whole: Duration::from_secs(10),
        }
    }
}

/// Limits for one kind of answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest body, in bytes.
    pub max_bytes: usize,
    /// Whether the call is for a document that is cached here (metadata, keys): at most four at a time to one host.
    /// Calls that a member's sign-in needs are shared fairly instead, because many organizations may use one host.
    pub is_document: bool,
}

impl Limits {
    /// Metadata and keys.
    pub const DOCUMENT: Self = Self { max_bytes: 256 * 1024, is_document: true };
    /// The token endpoint.
    pub const TOKEN: Self = Self { max_bytes: 64 * 1024, is_document: false };
    /// The UserInfo endpoint.
    pub const USERINFO: Self = Self { max_bytes: 128 * 1024, is_document: false };
}

/// Documents fetched from one host at the same time.
const DOCUMENTS_PER_HOST: usize = 4;

/// What a server said. Any status but a redirect.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, if it is readable text.
    pub content_type: Option<String>,
    /// `Date`, as sent: it tells a wrong clock.
    pub date: Option<String>,
    /// The body, within the limit.
    pub body: Bytes,
}

/// Why there is no answer. Says the kind of failure and nothing that the other side sent (conformance.md S10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {kind}")]
pub struct OutboundFault {
    /// One of `outbound.*`.
    pub code: ErrorCode,
    /// A few fixed words, for people.
    pub kind: &'static str,
}

impl OutboundFault {
    const fn new(code: ErrorCode, kind: &'static str) -> Self {
        Self { code, kind }
    }

    /// Always the same words, whatever is behind the address: this must not become a port scanner.
    const REFUSED: Self = Self::new(ErrorCode::OutboundAddressRefused, "the address is not a public one");
    const TOO_LARGE: Self = Self::new(ErrorCode::OutboundTooLarge, "the answer is too large");
    const BUSY: Self = Self::new(ErrorCode::OutboundBusy, "too many calls at once");

    /// As a finding at `step`, with the host that was called.
    pub fn finding(self, step: Step, url: &Url) -> Finding {
        Finding::new(step, self.code).with("host", url.host_str().unwrap_or_default()).with("kind", self.kind)
    }
}

/// For how long a failed question for the network's translator stands.
const TRANSLATOR_UNKNOWN: Lifetime = Lifetime::from_minutes(1);

/// What is known of the network's own NAT64 translator.
enum Translator {
    /// Nobody has asked.
    Unknown,
    /// The question failed, and is not asked again before this.
    Failed(Timestamp),
    /// Its prefix, or that there is none.
    Known(Option<Nat64>),
}

/// The outgoing HTTP client. One for the process.
pub struct Outbound {
    allow: Vec<SocketAddr>,
    own_listeners: Vec<SocketAddr>,
    own_hosts: Vec<String>,
    times: Times,
    lookup: Lookup,
    tls: Arc<rustls::ClientConfig>,
    clock: Clock,
    translator: tokio::sync::Mutex<Translator>,
    calls: FairShare,
    lookups: FairShare,
    documents: Mutex<HashMap<String, Weak<Semaphore>>>,
    clients: Mutex<Clients>,
    budgets: Mutex<HashMap<OrganizationId, (Timestamp, u32)>>,
}

/// Why no `Outbound` could be made.
#[derive(Debug, thiserror::Error)]
pub enum OutboundSetupError {
    /// The TLS library refused its own settings.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The additional certificate authorities can't be read.
    #[error("the file of certificate authorities can't be read: {0}")]
    Authorities(String),
}

/// One request, ready to be sent to any checked address of its host.
struct Request<'a> {
    method: Method,
    url: &'a Url,
    headers: HeaderMap,
    body: Option<&'a Secret>,
}

impl Outbound {
    /// Reads the host's certificate authorities (some 10 ms) and makes the client.
    pub fn new(settings: OutboundSettings, clock: Clock) -> Result<Self, OutboundSetupError> {
        let tls = Arc::new(tls_settings(settings.extra_authorities_pem.as_deref())?);
        Ok(Self {
            allow: settings.allow,
            own_listeners: settings.own_listeners,
            own_hosts: settings.own_hosts,
            times: settings.times,
            lookup: settings.lookup,
            tls,
            clock,
            translator: tokio::sync::Mutex::new(Translator::Unknown),
            calls: FairShare::new(CALLS, CALLS_WAITING),
            lookups: FairShare::new(LOOKUPS, CALLS_WAITING),
            documents: Mutex::default(),
            clients: Mutex::default(),
            budgets: Mutex::default(),
        })
    }

    /// Fetches `url`. `fairness_key` is the organization for which the call is made.
    pub async fn get(
        &self,
        fairness_key: OrganizationId,
        url: &Url,
        limits: Limits,
    ) -> Result<Answer, OutboundFault> {
        self.get_as(fairness_key, url, None, limits).await
    }

    /// Fetches `url` with an `Authorization` header, such as `Bearer …` for UserInfo.
    pub async fn get_as(
        &self,
        fairness_key: OrganizationId,
        url: &Url,
        authorization: Option<&Secret>,
        limits: Limits,
    ) -> Result<Answer, OutboundFault> {
        let headers = headers(authorization)?;
        self.call(fairness_key, Request { method: Method::GET, url, headers, body: None }, limits).await
    }

    /// Posts a form (already `application/x-www-form-urlencoded`). Never sent a second time: a code counts once.
    pub async fn post_form(
        &self,
        fairness_key: OrganizationId,
        url: &Url,
        authorization: Option<&Secret>,
        body: &Secret,
        limits: Limits,
    ) -> Result<Answer, OutboundFault> {
        let mut headers = headers(authorization)?;
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8"),
        );
        self.call(fairness_key, Request { method: Method::POST, url, headers, body: Some(body) }, limits)
            .await
    }

    /// Takes one of the 20 calls a minute that an organization's settings tests have. Members' sign-ins are not
    /// counted: an admin who presses Test must not lock them out.
    pub fn budget(&self, organization: OrganizationId, now: Timestamp) -> Result<(), OutboundFault> {
        let minute = Lifetime::from_minutes(1);
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= BUDGETS {
            budgets.retain(|_, (since, _)| now.since(*since) < minute);
        }
        if budgets.len() >= BUDGETS && !budgets.contains_key(&organization) {
            return Err(OutboundFault::BUSY);
        }
        let (since, used) = budgets.entry(organization).or_insert((now, 0));
        // A clock that was set back starts a new minute too.
        if now.since(*since) >= minute || now < *since {
            (*since, *used) = (now, 0);
        }
        if *used >= BUDGET {
            return Err(OutboundFault::BUSY);
        }
        *used += 1;
        Ok(())
    }

    /// Whether the operator's list lifts the https, name and port rules for this host, so that a URL can be judged
    /// without resolving a name: only a literal address or a name of the loopback says by itself where it leads.
    pub fn insecure_allowed(&self, host: &str, port: u16) -> bool {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match literal.parse::<IpAddr>() {
            Ok(address) => self.is_listed(SocketAddr::new(address, port)),
            Err(_) => is_localhost(host) && !self.listed_loopback(port).is_empty(),
        }
    }

    /// Judges an address without calling it: an endpoint that metadata names, before anybody is sent to the provider.
    /// It is judged again at each use.
    pub async fn judge(&self, organization: OrganizationId, url: &Url) -> Result<(), OutboundFault> {
        let target = Target::of(url).ok_or(OutboundFault::REFUSED)?;
        self.checked_addresses(organization, &target).await.map(|_| ())
    }

    async fn call(
        &self,
        organization: OrganizationId,
        request: Request<'_>,
        limits: Limits,
    ) -> Result<Answer, OutboundFault> {
        let target = Target::of(request.url).ok_or(OutboundFault::REFUSED)?;
        let waited = timeout(self.times.place, self.place(organization, &target, limits)).await;
        let _place = waited.map_err(|_| OutboundFault::BUSY)??;
        let addresses = self.checked_addresses(organization, &target).await?;
        timeout(self.times.whole, self.ask(&target, &addresses, request, limits))
            .await
            .unwrap_or(Err(TOO_SLOW))
    }

    /// A place among all calls, and for a document also among those to its host.
    async fn place(
        &self,
        organization: OrganizationId,
        target: &Target,
        limits: Limits,
    ) -> Result<(Option<OwnedSemaphorePermit>, Place), OutboundFault> {
        // One's own share first: whoever waits for it must not keep a place at a host from the others meanwhile.
        let place = self.calls.take(organization).await.map_err(|_| OutboundFault::BUSY)?;
        let at_host = if limits.is_document {
            let semaphore = self.documents_of(&target.host);
            Some(semaphore.acquire_owned().await.map_err(|_| OutboundFault::BUSY)?)
        } else {
            None
        };
        Ok((at_host, place))
    }

    fn documents_of(&self, host: &str) -> Arc<Semaphore> {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = documents.get(host).and_then(Weak::upgrade) {
            return semaphore;
        }
        // Only hosts that are being called have a living entry.
        documents.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(DOCUMENTS_PER_HOST));
        documents.insert(host.to_owned(), Arc::downgrade(&semaphore));
        semaphore
    }

    /// The addresses that may be connected to now, or a refusal. One bad answer refuses all (CVE-2026-58442).
    async fn checked_addresses(
        &self,
        organization: OrganizationId,
        target: &Target,
    ) -> Result<Vec<SocketAddr>, OutboundFault> {
        let lifted_possible = self.allow.iter().any(|listed| listed.port() == target.port);
        if !lifted_possible && !target.follows_rules {
            return Err(OutboundFault::REFUSED);
        }
        let found = match target.literal {
            Some(address) => vec![SocketAddr::new(address, target.port)],
            None if is_localhost(&target.host) => self.listed_loopback(target.port),
            None => self.resolve(organization, target.host.clone(), target.port).await?,
        };
        // The host of an application may stand for many, with `{org}` as its first label.
        let own_host = self.own_hosts.iter().any(|own| match own.strip_prefix(ORGANIZATION_LABEL) {
            Some(rest) => target.host.ends_with(rest),
            None => *own == target.host,
        });
        let all_listed = found.iter().all(|address| self.is_listed(*address));
        if found.is_empty() || (!all_listed && (own_host || !target.follows_rules)) {
            return Err(OutboundFault::REFUSED);
        }
        for address in &found {
            let listed = self.is_listed(*address);
            if self.is_own(*address) || !(listed || self.is_public(organization, address.ip()).await) {
                return Err(OutboundFault::REFUSED);
            }
        }
        Ok(found)
    }

    /// Asks the resolver once. It can't be stopped, so it keeps its place until it really ends.
    async fn resolve(
        &self,
        organization: OrganizationId,
        host: String,
        port: u16,
    ) -> Result<Vec<SocketAddr>, OutboundFault> {
        const SLOW: OutboundFault =
            OutboundFault::new(ErrorCode::OutboundTimeout, "the name was not resolved in time");
        let found = timeout(self.times.lookup, async {
            let place = self.lookups.take(organization).await.map_err(|_| OutboundFault::BUSY)?;
            let looking = (self.lookup)(host, port);
            let task = tokio::spawn(async move {
                let found = looking.await;
                drop(place);
                found
            });
            Ok::<_, OutboundFault>(task.await)
        });
        match found.await.map_err(|_| SLOW)?? {
            Ok(Ok(mut found)) if !found.is_empty() => {
                for address in &mut found {
                    address.set_port(port);
                }
                Ok(found)
            }
            _ => Err(OutboundFault::new(ErrorCode::OutboundNameUnknown, "the name has no address")),
        }
    }

    fn is_listed(&self, address: SocketAddr) -> bool {
        self.allow.iter().any(|listed| listed.ip() == address.ip() && listed.port() == address.port())
    }

    /// The loopback addresses of this port on the operator's list: what `localhost` may mean, without a resolver.
    fn listed_loopback(&self, port: u16) -> Vec<SocketAddr> {
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .map(|address| SocketAddr::new(address, port))
            .into_iter()
            .filter(|address| self.is_listed(*address))
            .collect()
    }

    /// One of our own listeners, or the database. A listener on every address is met on each of this machine's.
    fn is_own(&self, address: SocketAddr) -> bool {
        self.own_listeners.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    || (own.ip().is_unspecified() && is_of_this_machine(address.ip())))
        })
    }

    async fn is_public(&self, organization: OrganizationId, address: IpAddr) -> bool {
        if !judge_address(address) {
            return false;
        }
        if address.is_ipv4() {
            return true;
        }
        !self.translator(organization).await.is_some_and(|prefix| prefix.hides_refused(address))
    }

    /// RFC 7050: the network's own NAT64 prefix, which is asked for once. Without an answer there is none, and it is asked
    /// for again after a minute: a resolver that fails must not be waited for at each address.
    async fn translator(&self, organization: OrganizationId) -> Option<Nat64> {
        let mut translator = self.translator.lock().await;
        match *translator {
            Translator::Known(prefix) => return prefix,
            Translator::Failed(until) if self.clock.now() < until => return None,
            Translator::Failed(_) | Translator::Unknown => {}
        }
        let Ok(answers) = self.resolve(organization, "ipv4only.arpa".to_owned(), 443).await else {
            *translator = Translator::Failed(self.clock.now().plus(TRANSLATOR_UNKNOWN));
            return None;
        };
        let prefix = answers.iter().find_map(|answer| match answer.ip() {
            IpAddr::V6(answer) => Nat64::found_in(answer),
            IpAddr::V4(_) => None,
        });
        *translator = Translator::Known(prefix);
        prefix
    }

    /// Tries the checked addresses in turn, those with a kept connection first. Only while nothing was sent.
    async fn ask(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        request: Request<'_>,
        limits: Limits,
    ) -> Result<Answer, OutboundFault> {
        let mut fault = OutboundFault::REFUSED;
        for address in self.in_order(target, addresses).into_iter().take(ADDRESSES_TRIED) {
            let key = ClientKey { https: target.https, host: target.host.clone(), address };
            let client = self.client(&key)?;
            let mut sending =
                client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
            if let Some(body) = request.body {
                sending = sending.body(body.expose().to_owned());
            }
            match timeout(self.times.connect + self.times.head, sending.send()).await {
                Err(_) => return Err(TOO_SLOW),
                Ok(Ok(response)) => return read(response, address, limits.max_bytes).await,
                Ok(Err(error)) => {
                    fault = fault_of(&error);
                    if !error.is_connect() {
                        return Err(fault);
                    }
                    self.forget_client(&key);
                }
            }
        }
        Err(fault)
    }

    /// Kept connections first, then IPv6 and IPv4 by turns: a network whose IPv6 is broken still gets through.
    fn in_order(&self, target: &Target, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let (six, four): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6());
        let longer = six.len().max(four.len());
        let mut order: Vec<SocketAddr> =
            (0..longer).flat_map(|at| [six.get(at).copied(), four.get(at).copied()]).flatten().collect();
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        order.sort_by_key(|address| {
            let key = ClientKey { https: target.https, host: target.host.clone(), address: *address };
            !clients.by_key.contains_key(&key)
        });
        order
    }

    fn client(&self, key: &ClientKey) -> Result<reqwest::Client, OutboundFault> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.uses += 1;
        let uses = clients.uses;
        if let Some((client, used)) = clients.by_key.get_mut(key) {
            *used = uses;
            return Ok(client.clone());
        }
        if clients.by_key.len() >= CLIENTS {
            let oldest = clients.by_key.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| clients.by_key.remove(&oldest));
        }
        let client = self.make_client(key).map_err(|_| {
            OutboundFault::new(ErrorCode::OutboundUnreachable, "no connection could be prepared")
        })?;
        clients.by_key.insert(key.clone(), (client.clone(), uses));
        Ok(client)
    }

    fn forget_client(&self, key: &ClientKey) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).by_key.remove(key);
    }

    fn make_client(&self, key: &ClientKey) -> reqwest::Result<reqwest::Client> {
        #[expect(clippy::disallowed_methods, reason = "Outbound is the one place that makes clients")]
        reqwest::Client::builder()
            .tls_backend_preconfigured((*self.tls).clone())
            .dns_resolver(NoSecondLookup)
            .resolve_to_addrs(&key.host, &[key.address])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("doorward/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .http1_max_headers(HEAD_FIELDS)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(CALLS / 4)
            .connect_timeout(self.times.connect)
            .timeout(self.times.whole)
            .build()
    }
}

/// Clients by what they are connected to. Their TLS settings are all the same, the process has one set.
#[derive(Default)]
struct Clients {
    uses: u64,
    by_key: HashMap<ClientKey, (reqwest::Client, u64)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    https: bool,
    host: String,
    address: SocketAddr,
}

/// A name that missed the checked list can't be resolved a second time.
struct NoSecondLookup;

impl reqwest::dns::Resolve for NoSecondLookup {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async { Err("names are resolved before, and only once".into()) })
    }
}

/// Where a URL leads, read by the one parser whose result the connection uses (S5, S6).
struct Target {
    https: bool,
    /// As the parser wrote it, in lower case; an IPv6 address in brackets.
    host: String,
    literal: Option<IpAddr>,
    port: u16,
    /// Whether it is https, with an ordinary name and port (S4, S5). An entry of the operator's list lifts these.
    follows_rules: bool,
}

impl Target {
    /// Nothing for a URL that no list can allow: userinfo, fragment, another scheme, too long.
    fn of(url: &Url) -> Option<Self> {
        let https = url.scheme() == "https";
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if !(https || url.scheme() == "http") || !plain || url.as_str().len() > URL_BYTES {
            return None;
        }
        let port = url.port_or_known_default()?;
        let literal = match url.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let host = url.host_str()?.to_owned();
        let good_name = literal.is_some() || is_public_name(&host);
        let good_port = port == 443 || (port >= 1024 && !REFUSED_PORTS.contains(&port));
        Some(Self { https, host, literal, port, follows_rules: https && good_name && good_port })
    }
}

/// The system lets a socket be bound to an address exactly if it is one of this machine's. Nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// At least two labels, no final dot, no suffix of private networks.
fn is_public_name(host: &str) -> bool {
    host.contains('.')
        && !host.ends_with('.')
        && !REFUSED_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

const TOO_SLOW: OutboundFault = OutboundFault::new(ErrorCode::OutboundTimeout, "no complete answer in time");

fn headers(authorization: Option<&Secret>) -> Result<HeaderMap, OutboundFault> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::from_str(authorization.expose()).map_err(|_| {
            OutboundFault::new(ErrorCode::OutboundUnreachable, "the credentials don't fit into a header")
        })?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Reads an answer within its limits. `address` is where it must have come from.
async fn read(
    mut response: reqwest::Response,
    address: SocketAddr,
    max_bytes: usize,
) -> Result<Answer, OutboundFault> {
    if response.remote_addr() != Some(address) {
        return Err(OutboundFault::REFUSED);
    }
    let status = response.status();
    if status.is_redirection() {
        return Err(OutboundFault::new(ErrorCode::OutboundRedirected, "the answer is a redirect"));
    }
    let head = response.headers();
    let head_bytes: usize = head.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let announced = response.content_length().unwrap_or(0);
    if head_bytes > HEAD_BYTES || usize::try_from(announced).map_or(true, |announced| announced > max_bytes) {
        return Err(OutboundFault::TOO_LARGE);
    }
    let text = |name: HeaderName| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (content_type, date) = (text(header::CONTENT_TYPE), text(header::DATE));
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(&error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(OutboundFault::TOO_LARGE);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: status.as_u16(), content_type, date, body: body.freeze() })
}

/// Which kind of failure this is. The certificate's fault hides inside an `io::Error`.
fn fault_of(error: &reqwest::Error) -> OutboundFault {
    let mut refused = false;
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return OutboundFault::new(ErrorCode::OutboundTls, tls_words(tls));
        }
        let io = current.downcast_ref::<io::Error>();
        refused |= io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
        cause = match io.and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => current.source(),
        };
    }
    if error.is_timeout() {
        return TOO_SLOW;
    }
    let kind = match (refused, error.is_connect()) {
        (true, _) => "the connection was refused",
        (false, true) => "no connection could be made",
        (false, false) => "the connection broke off",
    };
    OutboundFault::new(ErrorCode::OutboundUnreachable, kind)
}

fn tls_words(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::Expired | Certificate::ExpiredContext { .. } => "the certificate has expired",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate is for another host name"
            }
            Certificate::UnknownIssuer => "the certificate's authority is not known here",
            Certificate::Revoked => "the certificate was revoked",
            _ => "the certificate is not valid",
        },
        _ => "no secure connection could be agreed on",
    }
}

/// One set of TLS settings for the process: the host's authorities and the operator's, TLS 1.2 and 1.3.
pub(crate) fn tls_settings(
    extra_authorities_pem: Option<&[u8]>,
) -> Result<rustls::ClientConfig, OutboundSetupError> {
    use rustls::pki_types::pem::PemObject as _;
    let mut authorities = rustls::RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_authorities_pem {
        let mut count = 0;
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| OutboundSetupError::Authorities(error.to_string()))?;
            authorities
                .add(certificate)
                .map_err(|error| OutboundSetupError::Authorities(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(OutboundSetupError::Authorities("it holds no certificate".to_owned()));
        }
    }
    // The provider is named: a second one, switched on by some dependency's feature, must not be found instead.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut settings = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}
