//! An OpenID provider on loopback for tests: right by default, wrong on demand.
//!
//! In: people, clients, misbehaviours, a shared clock. Out: a real HTTP server, and a log of what it was asked.
//! Never here: code of the product, the system clock, the network beyond 127.0.0.1.
//! Invariant: it is strict. A request that a careful provider would refuse is refused here too, and a
//! misbehaviour shows only where the right answer would have been a good one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::metadata::{Issuer, Personality};
use crate::misbehavior::Misbehavior;
use crate::registry::{Client, Endpoint, Person, Request};
use crate::signing::{guid, word};

/// The clock that a test turns: milliseconds since 1970, shared between test, product and provider.
pub type SharedClock = Arc<AtomicI64>;

/// The fake provider. It listens from its making until it is dropped.
pub struct FakeIdp {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub(crate) personality: Personality,
    pub(crate) seed: u64,
    pub(crate) base: String,
    pub(crate) clock: SharedClock,
    pub(crate) state: Mutex<State>,
}

/// Who sits before the provider's sign-in page.
#[derive(Default)]
pub(crate) enum SignedIn {
    /// Whom `login_hint` names, else the person registered first: Mira.
    #[default]
    Hinted,
    /// This person, whatever the hint says.
    Person(String),
    /// Nobody.
    Nobody,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) clients: Vec<Client>,
    pub(crate) people: Vec<Person>,
    pub(crate) signed_in: SignedIn,
    pub(crate) always: Vec<Misbehavior>,
    pub(crate) once: VecDeque<Misbehavior>,
    pub(crate) log: Vec<Request>,
    pub(crate) grants: HashMap<String, Grant>,
    pub(crate) access_tokens: HashMap<String, Grant>,
    pub(crate) last_attempt: Option<LastAttempt>,
    pub(crate) generation: u32,
    pub(crate) overlap: bool,
    pub(crate) clock_error_ms: i64,
    pub(crate) claims_at_userinfo_only: bool,
    pub(crate) counter: u64,
}

#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: String,
    pub(crate) scope: String,
    pub(crate) nonce: Option<String>,
    pub(crate) previous_nonce: Option<String>,
    pub(crate) max_age: bool,
    pub(crate) acr: Option<String>,
    pub(crate) person: Person,
    pub(crate) given_at_ms: i64,
    pub(crate) spent: bool,
}

#[derive(Clone, Default)]
pub(crate) struct LastAttempt {
    pub(crate) state: String,
    pub(crate) code: String,
    pub(crate) nonce: Option<String>,
}

impl FakeIdp {
    /// A provider by the book. See `Personality::Generic`.
    pub fn generic(clock: &SharedClock) -> Self {
        Self::start(Personality::Generic, clock)
    }

    /// A provider with Entra's habits. See `Personality::EntraLike`.
    pub fn entra_like(clock: &SharedClock) -> Self {
        Self::start(Personality::EntraLike, clock)
    }

    /// A provider with Google's habits. See `Personality::GoogleLike`.
    pub fn google_like(clock: &SharedClock) -> Self {
        Self::start(Personality::GoogleLike, clock)
    }

    /// A provider of a personality, with a seed of its own. Must be called inside a tokio runtime.
    pub fn start(personality: Personality, clock: &SharedClock) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(1);
        Self::start_with_seed(personality, clock, STARTED.fetch_add(1, Ordering::Relaxed))
    }

    /// The same, with the seed from which paths, codes and key ids are made.
    pub fn start_with_seed(personality: Personality, clock: &SharedClock, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let base = format!("http://{address}");
        let issuers = ["main", "other"].map(|name| Issuer::new(personality, seed, &base, name)).to_vec();
        let mut mira = Person::new("mira", "Mira Holt", "mira.holt@fjordline.example");
        if personality == Personality::GoogleLike {
            mira = mira.claim("hd", json!("fjordline.example"));
        }
        let state = State { issuers, people: vec![mira], ..State::default() };
        let shared =
            Arc::new(Shared { personality, seed, base, clock: Arc::clone(clock), state: Mutex::new(state) });
        let server = Mutex::new(Some(serve(listener, Arc::clone(&shared))));
        Self { shared, address, server }
    }

    /// The issuer of the provider's main tenant.
    pub fn issuer(&self) -> String {
        self.issuer_named("main")
    }

    /// Another issuer on the same server, made when first named. All share keys, people and clients, so that
    /// only a check of the issuer tells them apart.
    pub fn issuer_named(&self, name: &str) -> String {
        self.issuer_parts(name).url
    }

    /// The tenant id of an issuer; only the Entra-like provider has a use for it.
    pub fn tenant_id(&self, name: &str) -> String {
        self.issuer_parts(name).tenant
    }

    /// The URL of an endpoint of the main issuer. Tests only: the product has to find it in the metadata.
    pub fn url_of(&self, endpoint: Endpoint) -> String {
        let issuer = self.issuer_parts("main");
        let path = match endpoint {
            Endpoint::Discovery => issuer.discovery,
            Endpoint::Jwks => issuer.jwks,
            Endpoint::Authorize => issuer.authorize,
            Endpoint::Token => issuer.token,
            Endpoint::Userinfo => issuer.userinfo,
            Endpoint::Claims => issuer.claims,
            Endpoint::Moved => "/moved".into(),
            Endpoint::Stray => "/stray".into(),
        };
        format!("{}{path}", self.shared.base)
    }

    /// Address and port, for the operator's `[outbound] allow`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The seed, to print when a test fails.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Registers a client; one with the same id is replaced.
    pub fn add_client(&self, client: Client) {
        let mut state = self.shared.lock();
        state.clients.retain(|old| old.id != client.id);
        state.clients.push(client);
    }

    /// Registers a client with an id in the personality's style and a secret full of characters that need encoding.
    pub fn new_client(&self, redirect_uri: &str) -> Client {
        let number = self.shared.lock().next();
        let id = match self.shared.personality {
            Personality::Generic => {
                format!("doorward {}", word(self.shared.seed, &format!("client/{number}")))
            }
            Personality::EntraLike => guid(self.shared.seed, &format!("client/{number}")),
            Personality::GoogleLike => {
                let name = word(self.shared.seed, &format!("client/{number}"));
                format!("{number}-{name}.apps.googleusercontent.example")
            }
        };
        let client = Client::new(&id, &self.new_secret(), redirect_uri);
        self.add_client(client.clone());
        client
    }

    /// Gives a client one more secret, which opens beside the old ones, and returns it.
    pub fn add_secret(&self, client_id: &str) -> String {
        let secret = self.new_secret();
        self.shared.client(client_id, |client| client.secrets.push(secret.clone()));
        secret
    }

    /// All of a client's secrets expire.
    pub fn expire_secrets(&self, client_id: &str) {
        self.shared.client(client_id, |client| client.expired_secrets.append(&mut client.secrets));
    }

    /// Lets somebody exist. One with the same name is replaced. Mira Holt is there from the start.
    pub fn add_person(&self, person: Person) {
        let mut state = self.shared.lock();
        state.people.retain(|old| old.name != person.name);
        state.people.push(person);
    }

    /// From now on the browser's owner at the provider is this person, whomever `login_hint` names. Before the first
    /// call it is the hinted person, or Mira.
    pub fn signs_in(&self, name: &str) {
        let mut state = self.shared.lock();
        assert!(state.people.iter().any(|person| person.name == name), "nobody is called {name}");
        state.signed_in = SignedIn::Person(name.into());
    }

    /// From now on each browser's owner is whom its `login_hint` names, as before the first `signs_in`.
    pub fn follows_hints(&self) {
        self.shared.lock().signed_in = SignedIn::Hinted;
    }

    /// From now on nobody is signed in at the provider: `prompt=none` gets `login_required`.
    pub fn signs_out(&self) {
        self.shared.lock().signed_in = SignedIn::Nobody;
    }

    /// Misbehaves until `behave`. Several may be on at once.
    pub fn misbehave(&self, misbehavior: Misbehavior) {
        self.shared.lock().always.push(misbehavior);
    }

    /// Misbehaves in the next good answer of that stage only.
    pub fn misbehave_once(&self, misbehavior: Misbehavior) {
        let mut state = self.shared.lock();
        if misbehavior.holds() { state.always.push(misbehavior) } else { state.once.push_back(misbehavior) }
    }

    /// Ends every misbehaviour.
    pub fn behave(&self) {
        let mut state = self.shared.lock();
        state.always.clear();
        state.once.clear();
    }

    /// Signs with a new key from now on; `overlap` says whether the old key stays published.
    pub fn rotate_keys(&self, overlap: bool) {
        let mut state = self.shared.lock();
        state.generation += 1;
        state.overlap = overlap;
    }

    /// Goes back to the key before the last rotation, and publishes that alone.
    pub fn roll_keys_back(&self) {
        let mut state = self.shared.lock();
        state.generation = state.generation.saturating_sub(1);
        state.overlap = false;
    }

    /// The provider's clock is wrong by so many milliseconds (F8).
    pub fn set_clock_error_ms(&self, error_ms: i64) {
        self.shared.lock().clock_error_ms = error_ms;
    }

    /// Whether e-mail and names come from userinfo only, not in the ID token.
    pub fn set_claims_at_userinfo_only(&self, only: bool) {
        self.shared.lock().claims_at_userinfo_only = only;
    }

    /// Stops listening and cuts every connection: connections are refused from now on (F1).
    pub async fn goes_down(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.abort();
            drop(server.await);
        }
    }

    /// Listens again, on the same port.
    pub fn comes_back(&self) {
        let listener = std::net::TcpListener::bind(self.address).expect("the old port");
        let server = serve(listener, Arc::clone(&self.shared));
        let old = self.server.lock().unwrap_or_else(PoisonError::into_inner).replace(server);
        assert!(old.is_none(), "comes_back needs goes_down before it");
    }

    /// Everything that was asked, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().log.clone()
    }

    /// The last request of a kind.
    pub fn last_request(&self, kind: Endpoint) -> Option<Request> {
        self.shared.lock().log.iter().rev().find(|request| request.kind == kind).cloned()
    }

    /// How often an endpoint was asked, by whatever method.
    pub fn calls(&self, kind: Endpoint) -> usize {
        self.shared.lock().log.iter().filter(|request| request.kind == kind).count()
    }

    /// Forgets what was asked, so that a test can count from here.
    pub fn forget_requests(&self) {
        self.shared.lock().log.clear();
    }

    fn issuer_parts(&self, name: &str) -> Issuer {
        let mut state = self.shared.lock();
        if let Some(issuer) = state.issuers.iter().find(|issuer| issuer.name == name) {
            return issuer.clone();
        }
        let issuer = Issuer::new(self.shared.personality, self.shared.seed, &self.shared.base, name);
        state.issuers.push(issuer.clone());
        issuer
    }

    fn new_secret(&self) -> String {
        let number = self.shared.lock().next();
        format!("s3:{}+/%~ &=", word(self.shared.seed, &format!("secret/{number}")))
    }
}

impl Drop for FakeIdp {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
    }
}

fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    listener.set_nonblocking(true).expect("a socket that doesn't block");
    let listener = TcpListener::from_std(listener).expect("a socket of this runtime");
    tokio::spawn(async move {
        // Owned by this task, so that ending it cuts every connection too.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { shared.answer(request).await }
                });
                // A cut connection is what some tests are about.
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    })
}
