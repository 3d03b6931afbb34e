//! An OpenID provider on loopback for tests: right by default, wrong on demand.
//!
//! In: people, clients, misbehaviours, a shared clock. Out: a real HTTP server, and a log of what it was asked.
//! Never here: code of the product, the system clock, the network beyond 127.0.0.1.
//! Invariant: it is strict. A request that a careful provider would refuse is refused here too, and a
//! misbehaviour shows only where the right answer would have been a good one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::id_token::{self, Draft};
use crate::metadata::{Issuer, Personality, with};
use crate::misbehavior::{Misbehavior, Stage};
use crate::odd_answers::{
    Answer, HangUp, Odd, answer, json as json_answer, json_text, odd_answer, page, redirect,
};
use crate::signing::{RSA_STRANGER, base64url, guid, sha256, word};

/// The clock that a test turns: milliseconds since 1970, shared between test, product and provider.
pub type SharedClock = Arc<AtomicI64>;

/// A code may be redeemed for ten minutes.
const CODE_LIFE_MS: i64 = 600_000;
/// Nobody sends more than this to a provider.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A place of the provider that can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// The metadata document.
    Discovery,
    /// The key set.
    Jwks,
    /// Where browsers come to.
    Authorize,
    /// Where codes are redeemed.
    Token,
    /// Claims for an access token.
    Userinfo,
    /// The source of distributed claims; nobody should ever come here.
    Claims,
    /// What a redirect of a misbehaving endpoint leads to; nobody should ever come here.
    Moved,
    /// Any other path, such as one that a token's header names; nobody should ever come here.
    Stray,
}

/// One request that the provider received.
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked.
    pub kind: Endpoint,
    /// The name of the issuer that was asked; empty for `Stray`.
    pub issuer: String,
    /// The method.
    pub method: Method,
    /// The path and query as sent.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The decoded form in the body.
    pub form: Vec<(String, String)>,
}

impl Request {
    /// The value of a form or query field; `None` if it is missing. The first one counts.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.form.iter().chain(&self.query);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn doubled_field(&self) -> Option<&str> {
        let all: Vec<&str> = self.form.iter().chain(&self.query).map(|(key, _)| key.as_str()).collect();
        all.iter().enumerate().find(|(at, key)| all[..*at].contains(key)).map(|(_, key)| *key)
    }
}

/// How a client must show its secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// Only `client_secret_basic`.
    Basic,
    /// Only `client_secret_post`.
    Post,
    /// Either, but never both at once.
    Either,
}

/// An application registered at the provider: normally Doorward, for one organization.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// The secrets that open; Entra has up to two at once.
    pub secrets: Vec<String>,
    /// Secrets that did.
    pub expired_secrets: Vec<String>,
    /// Compared octet by octet.
    pub redirect_uris: Vec<String>,
    /// How the secret must be shown.
    pub auth: ClientAuth,
}

impl Client {
    /// A client with one secret and one redirect URI that may use either way to show the secret.
    pub fn new(id: &str, secret: &str, redirect_uri: &str) -> Self {
        Self {
            id: id.into(),
            secrets: vec![secret.into()],
            expired_secrets: Vec::new(),
            redirect_uris: vec![redirect_uri.into()],
            auth: ClientAuth::Either,
        }
    }

    /// The same client, with a way to show the secret demanded.
    #[must_use]
    pub fn demanding(mut self, auth: ClientAuth) -> Self {
        self.auth = auth;
        self
    }

    /// The newest secret that opens.
    pub fn secret(&self) -> &str {
        self.secrets.last().map(String::as_str).unwrap_or_default()
    }
}

/// Somebody who can sign in at the provider.
#[derive(Clone, Debug)]
pub struct Person {
    /// What tests call this person: `mira`.
    pub name: String,
    /// `sub`. The Entra-like provider makes a pairwise one from it for each client.
    pub sub: String,
    /// `oid`, in the Entra-like provider.
    pub oid: String,
    /// `email`; `None` for somebody without a mailbox.
    pub email: Option<String>,
    /// `email_verified`; never sent by the Entra-like provider.
    pub email_verified: bool,
    /// `name`.
    pub full_name: String,
    /// `preferred_username`; the user principal name of Entra.
    pub username: String,
    /// Further claims; they win over those above. `hd`, `idp`, `acct`, `groups`, `roles` go here.
    pub claims: Map<String, Value>,
}

impl Person {
    /// A person with a verified address. `sub` and `oid` follow from the name.
    pub fn new(name: &str, full_name: &str, email: &str) -> Self {
        Self {
            name: name.into(),
            sub: format!("sub-{}", word(7, name)),
            oid: guid(7, name),
            email: Some(email.into()),
            email_verified: true,
            full_name: full_name.into(),
            username: email.into(),
            claims: Map::new(),
        }
    }

    /// The same person with one more claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.into(), value);
        self
    }

    /// The same person without a mailbox, as in a directory that has none.
    #[must_use]
    pub fn without_mailbox(mut self) -> Self {
        self.email = None;
        self
    }

    /// The same person with an address that nobody verified.
    #[must_use]
    pub fn unverified(mut self) -> Self {
        self.email_verified = false;
        self
    }
}

/// The fake provider. It listens from its making until it is dropped.
pub struct FakeIdp {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    personality: Personality,
    seed: u64,
    base: String,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    issuers: Vec<Issuer>,
    clients: Vec<Client>,
    people: Vec<Person>,
    signed_in: Option<String>,
    always: Vec<Misbehavior>,
    once: VecDeque<Misbehavior>,
    log: Vec<Request>,
    grants: HashMap<String, Grant>,
    access_tokens: HashMap<String, Grant>,
    last_attempt: Option<LastAttempt>,
    generation: u32,
    overlap: bool,
    clock_error_ms: i64,
    claims_at_userinfo_only: bool,
    counter: u64,
}

#[derive(Clone)]
struct Grant {
    issuer: String,
    client_id: String,
    redirect_uri: String,
    challenge: String,
    scope: String,
    nonce: Option<String>,
    previous_nonce: Option<String>,
    max_age: bool,
    acr: Option<String>,
    person: Person,
    given_at_ms: i64,
    spent: bool,
}

#[derive(Clone, Default)]
struct LastAttempt {
    state: String,
    code: String,
    nonce: Option<String>,
}

// --- what tests call ------------------------------------------------------------------------------------------

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
        let state = State { issuers, people: vec![mira], signed_in: Some("mira".into()), ..State::default() };
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

    /// From now on the browser's owner at the provider is this person, unless `login_hint` names another.
    pub fn signs_in(&self, name: &str) {
        let mut state = self.shared.lock();
        assert!(state.people.iter().any(|person| person.name == name), "nobody is called {name}");
        state.signed_in = Some(name.into());
    }

    /// From now on nobody is signed in at the provider: `prompt=none` gets `login_required`.
    pub fn signs_out(&self) {
        self.shared.lock().signed_in = None;
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

// --- the server -----------------------------------------------------------------------------------------------

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

impl State {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The misbehaviours for an answer of this stage. Those for one answer are used up.
    fn faults(&mut self, stage: Stage) -> Vec<Misbehavior> {
        let mut faults: Vec<Misbehavior> =
            self.always.iter().copied().filter(|m| m.stage() == stage).collect();
        if let Some(at) = self.once.iter().position(|m| m.stage() == stage) {
            faults.extend(self.once.remove(at));
        }
        faults
    }

    fn issuer(&self, name: &str) -> Issuer {
        self.issuers.iter().find(|issuer| issuer.name == name).expect("a known issuer").clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn client(&self, id: &str, change: impl FnOnce(&mut Client)) {
        let mut state = self.lock();
        change(state.clients.iter_mut().find(|client| client.id == id).expect("a registered client"));
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Result<Answer, HangUp> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
            return Ok(page(413, "Too large", "That is more than anybody sends here."));
        };
        let is_form = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let form = if is_form { pairs(&body.to_bytes()) } else { Vec::new() };
        let path = head.uri.path();
        let (moved, path) = path.strip_prefix("/moved").map_or((false, path), |rest| (true, rest));
        let (issuer, kind) = self.place(path);
        let request = Request {
            kind: if moved { Endpoint::Moved } else { kind },
            issuer: issuer.clone(),
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
            form,
        };
        self.lock().log.push(request.clone());
        match kind {
            Endpoint::Discovery => self.discovery(&issuer, moved).await,
            Endpoint::Jwks => self.jwks(&issuer, moved).await,
            Endpoint::Authorize => Ok(self.authorize(&issuer, &request)),
            Endpoint::Token => self.token(&issuer, &request, moved).await,
            Endpoint::Userinfo => self.userinfo(&request, moved).await,
            Endpoint::Claims => Ok(json_answer(200, &json!({"groups": ["fetched-from-a-stranger"]}))),
            Endpoint::Stray if path == "/strangers-keys" => {
                let key = with(RSA_STRANGER.jwk(), json!({"kid": "stranger", "use": "sig"}));
                Ok(json_answer(200, &json!({ "keys": [key] })))
            }
            Endpoint::Moved | Endpoint::Stray => Ok(page(404, "Not found", "There is nothing here.")),
        }
    }

    fn place(&self, path: &str) -> (String, Endpoint) {
        for issuer in &self.lock().issuers {
            for (known, kind) in [
                (&issuer.discovery, Endpoint::Discovery),
                (&issuer.jwks, Endpoint::Jwks),
                (&issuer.authorize, Endpoint::Authorize),
                (&issuer.token, Endpoint::Token),
                (&issuer.userinfo, Endpoint::Userinfo),
                (&issuer.claims, Endpoint::Claims),
            ] {
                if known == path {
                    return (issuer.name.clone(), kind);
                }
            }
        }
        (String::new(), Endpoint::Stray)
    }

    async fn discovery(&self, issuer: &str, moved: bool) -> Result<Answer, HangUp> {
        let (issuer, fault) = {
            let mut state = self.lock();
            let fault = if moved { None } else { state.faults(Stage::Discovery).pop() };
            (state.issuer(issuer), fault)
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        Ok(match fault {
            Some(Misbehavior::DiscoveryRedirect) => {
                redirect(302, &format!("{}/moved{}", self.base, issuer.discovery))
            }
            Some(Misbehavior::DiscoveryWrongContentType) => {
                answer(200, "text/html; charset=utf-8", issuer.metadata_text(None))
            }
            _ => answer(200, "application/json", issuer.metadata_text(fault)),
        })
    }

    async fn jwks(&self, issuer: &str, moved: bool) -> Result<Answer, HangUp> {
        let (issuer, fault, generation, overlap) = {
            let mut state = self.lock();
            let fault = if moved { None } else { state.faults(Stage::Jwks).pop() };
            let held = state.always.iter().copied().find(|m| m.holds());
            (state.issuer(issuer), fault.or(held), state.generation, state.overlap)
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        if fault == Some(Misbehavior::JwksRedirect) {
            return Ok(redirect(302, &format!("{}/moved{}", self.base, issuer.jwks)));
        }
        Ok(answer(200, "application/json", issuer.jwks_text(generation, overlap, fault)))
    }

    // --- authorize --------------------------------------------------------------------------------------------

    fn authorize(&self, issuer: &str, request: &Request) -> Answer {
        let mut state = self.lock();
        let issuer = state.issuer(issuer);
        let field = |name: &str| request.field(name).unwrap_or_default();
        // Errors about client or address must never redirect.
        if let Some(name) = request.doubled_field() {
            return page(400, "Request refused", &format!("The parameter {name} came twice."));
        }
        let Some(client) = state.clients.iter().find(|client| client.id == field("client_id")).cloned()
        else {
            return page(400, "Request refused", &self.text("AADSTS700016: ", "Unknown client_id."));
        };
        let redirect_uri = field("redirect_uri").to_owned();
        if !client.redirect_uris.contains(&redirect_uri) {
            let text = self.text("AADSTS50011: ", "This redirect_uri is not registered for the application.");
            return page(400, "Request refused", &text);
        }
        let scope = field("scope").to_owned();
        let knows = |wanted: &str| scope.split(' ').any(|one| one == wanted);
        if self.personality == Personality::EntraLike && knows("groups") {
            return page(400, "Request refused", "AADSTS650053: The scope 'groups' does not exist.");
        }
        let hint = field("login_hint");
        let person = state
            .people
            .iter()
            .find(|person| {
                let names =
                    [Some(person.name.as_str()), Some(person.username.as_str()), person.email.as_deref()];
                !hint.is_empty() && names.contains(&Some(hint))
            })
            .or_else(|| state.people.iter().find(|person| Some(&person.name) == state.signed_in.as_ref()))
            .cloned();
        let problem = if field("response_type") != "code" {
            Some(("unsupported_response_type", "Only the code flow is open."))
        } else if !knows("openid") {
            Some(("invalid_scope", "The scope openid is missing."))
        } else if field("code_challenge_method") != "S256" || field("code_challenge").len() != 43 {
            Some(("invalid_request", "A code_challenge with S256 is demanded."))
        } else if !field("response_mode").is_empty() && field("response_mode") != "query" {
            Some(("invalid_request", "Only response_mode query is offered."))
        } else if person.is_none() && field("prompt") == "none" {
            Some(("login_required", "Nobody is signed in."))
        } else {
            None
        };
        let Some(person) = person.or_else(|| problem.map(|_| Person::new("nobody", "", ""))) else {
            return page(200, "Sign in", "Nobody is signed in here: call signs_in first.");
        };

        let mut answer: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: &str| answer.push((name.into(), value.into()));
        let code = format!("c-{}", word(self.seed, &format!("code/{}", state.next())));
        let previous = state.last_attempt.clone();
        if let Some((error, description)) = problem {
            add("error", error);
            add("error_description", description);
        } else {
            add("code", &code);
            let nonce = request.field("nonce").map(str::to_owned);
            let grant = Grant {
                issuer: issuer.name.clone(),
                client_id: client.id,
                redirect_uri: redirect_uri.clone(),
                challenge: field("code_challenge").into(),
                scope,
                nonce: nonce.clone(),
                previous_nonce: previous.as_ref().and_then(|last| last.nonce.clone()),
                max_age: request.field("max_age").is_some(),
                acr: field("acr_values").split(' ').next().filter(|acr| !acr.is_empty()).map(str::to_owned),
                person,
                given_at_ms: self.now_ms(),
                spent: false,
            };
            state.grants.insert(code.clone(), grant);
            let last = LastAttempt { state: field("state").into(), code, nonce };
            state.last_attempt = Some(last);
        }
        if let Some(value) = request.field("state") {
            add("state", value);
        }
        if self.personality == Personality::EntraLike {
            add("session_state", &guid(self.seed, "session_state"));
        } else {
            add("iss", &issuer.url);
        }
        if problem.is_none() {
            let other = state.issuer("other").url;
            for fault in state.faults(Stage::Callback) {
                spoil_callback(fault, &mut answer, &issuer.url, &other, previous.as_ref());
            }
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        let joint = if redirect_uri.contains('?') { '&' } else { '?' };
        redirect(302, &format!("{redirect_uri}{joint}{query}"))
    }

    /// A text for people, with Entra's number in front if this is Entra.
    fn text(&self, entra: &str, text: &str) -> String {
        if self.personality == Personality::EntraLike { format!("{entra}{text}") } else { text.into() }
    }

    // --- token ------------------------------------------------------------------------------------------------

    async fn token(&self, issuer: &str, request: &Request, moved: bool) -> Result<Answer, HangUp> {
        let grant = match self.redeem(issuer, request) {
            Ok(grant) => grant,
            Err(problem) => return Ok(self.refusal(&problem, request)),
        };
        let (good, fault) = self.issue(&grant, moved);
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        if matches!(fault, Some(Misbehavior::TokenRedirect | Misbehavior::TokenRedirect307)) {
            // Whoever follows shall succeed, so that only not following saves the code.
            let code = request.field("code").unwrap_or_default();
            self.lock().grants.entry(code.into()).and_modify(|grant| grant.spent = false);
        }
        let moved_to = format!("{}/moved{}", self.base, request.target);
        Ok(spoil_token_answer(fault, good, &moved_to, |problem| self.refusal(&problem, request)))
    }

    /// Judges a token request; a good one spends its code.
    fn redeem(&self, issuer: &str, request: &Request) -> Result<Grant, Problem> {
        let mut state = self.lock();
        let field = |name: &str| request.field(name).unwrap_or_default();
        let invalid = |text| Problem { status: 400, error: "invalid_request", aadsts: 900_144, text };
        if request.method != Method::POST || !request.query.is_empty() {
            return Err(invalid("Send a form by POST, and nothing in the query."));
        }
        if request.doubled_field().is_some() {
            return Err(invalid("A parameter came twice."));
        }
        if request.headers.contains_key(ORIGIN) {
            return Err(Problem { aadsts: 9_002_326, ..invalid("Cross-origin redemption is for browsers.") });
        }
        if field("grant_type") != "authorization_code" {
            return Err(Problem {
                error: "unsupported_grant_type",
                aadsts: 70_003,
                ..invalid("Only codes.")
            });
        }
        let client = judge_client(&state.clients, request)?.id.clone();
        let now_ms = self.now_ms();
        let grant = state.grants.get_mut(field("code")).filter(|grant| grant.client_id == client);
        let denied = |aadsts, text| Problem { status: 400, error: "invalid_grant", aadsts, text };
        let Some(grant) = grant else { return Err(denied(70_008, "The code is unknown.")) };
        if std::mem::replace(&mut grant.spent, true) {
            return Err(denied(54_005, "The code was redeemed already."));
        }
        if grant.issuer != issuer {
            return Err(denied(700_005, "The code is another tenant's."));
        }
        if now_ms - grant.given_at_ms > CODE_LIFE_MS {
            return Err(denied(70_008, "The code has expired."));
        }
        if grant.redirect_uri != field("redirect_uri") {
            return Err(denied(50_011, "The redirect_uri is not the one of the authorization request."));
        }
        let verifier = field("code_verifier");
        if !(43..=128).contains(&verifier.len()) || base64url(sha256(verifier)) != grant.challenge {
            return Err(denied(501_481, "The code_verifier does not fit the code_challenge."));
        }
        Ok(grant.clone())
    }

    /// The token answer's members, and what is to be done to it as a whole.
    fn issue(&self, grant: &Grant, moved: bool) -> (Map<String, Value>, Option<Misbehavior>) {
        let mut state = self.lock();
        let faults = state.faults(Stage::IdToken);
        for (fault, overlap) in
            [(Misbehavior::KeysRotatedWithOverlap, true), (Misbehavior::KeysRotatedWithoutOverlap, false)]
        {
            if faults.contains(&fault) {
                state.generation += 1;
                state.overlap = overlap;
            }
        }
        let fault = if moved { None } else { state.faults(Stage::Token).pop() };
        let access_token = format!("at-{}", word(self.seed, &format!("access/{}", state.next())));
        let now = (self.now_ms() + state.clock_error_ms).div_euclid(1000);
        let issuer = state.issuer(&grant.issuer);
        let secret = state.clients.iter().find(|client| client.id == grant.client_id);
        let secret = secret.map(|client| client.secret().to_owned()).unwrap_or_default();
        let draft = Draft {
            issuer: &issuer,
            other_issuer: &state.issuer("other"),
            claims: self.claims(&issuer, grant, &access_token, now, state.claims_at_userinfo_only),
            client_id: &grant.client_id,
            client_secret: &secret,
            access_token: &access_token,
            previous_nonce: grant.previous_nonce.as_deref(),
            now,
            generation: state.generation,
            base: &self.base,
        };
        let id_token = draft.make(&faults);
        state.access_tokens.insert(access_token.clone(), grant.clone());
        let good = json!({
            "token_type": "Bearer",
            "scope": grant.scope,
            "expires_in": 3599,
            "access_token": access_token,
            "id_token": id_token,
        });
        let good = if self.personality == Personality::EntraLike {
            with(good, json!({"ext_expires_in": 3599}))
        } else {
            good
        };
        (good.as_object().cloned().unwrap_or_default(), fault)
    }

    /// The right claims of an ID token.
    fn claims(
        &self,
        issuer: &Issuer,
        grant: &Grant,
        access_token: &str,
        now: i64,
        only_core: bool,
    ) -> Map<String, Value> {
        let mut claims = json!({"iss": issuer.url, "aud": grant.client_id});
        let (issued_at, life) = match self.personality {
            Personality::EntraLike => (now - 300, 3900),
            Personality::Generic | Personality::GoogleLike => (now, 3600),
        };
        claims["iat"] = json!(issued_at);
        claims["exp"] = json!(issued_at + life);
        if let Some(nonce) = &grant.nonce {
            claims["nonce"] = json!(nonce);
        }
        if grant.max_age {
            claims["auth_time"] = json!(now);
        }
        if let Some(acr) = &grant.acr {
            claims["acr"] = json!(acr);
        }
        match self.personality {
            Personality::Generic => {}
            Personality::EntraLike => {
                claims["nbf"] = json!(issued_at);
                claims["ver"] = json!("2.0");
                claims["uti"] = json!(word(self.seed, access_token));
                claims["rh"] = json!("1.AXkA");
                claims["aio"] = json!("AYQAe/8ZAAAA");
                if grant.scope.split(' ').any(|scope| scope == "profile") {
                    claims["tid"] = json!(issuer.tenant);
                    claims["oid"] = json!(grant.person.oid);
                }
            }
            Personality::GoogleLike => {
                claims["azp"] = json!(grant.client_id);
                claims["at_hash"] = json!(id_token::at_hash(access_token));
            }
        }
        let person = self.person_claims(grant, only_core);
        with(claims, Value::Object(person)).as_object().cloned().unwrap_or_default()
    }

    /// What is said about the person, as far as the scope goes.
    fn person_claims(&self, grant: &Grant, only_core: bool) -> Map<String, Value> {
        let person = &grant.person;
        let asked = |wanted: &str| grant.scope.split(' ').any(|scope| scope == wanted);
        let entra = self.personality == Personality::EntraLike;
        let sub = if entra {
            base64url(sha256(format!("{}/{}", person.sub, grant.client_id)))
        } else {
            person.sub.clone()
        };
        let mut claims = json!({ "sub": sub });
        if only_core {
            return claims.as_object().cloned().unwrap_or_default();
        }
        if asked("profile") {
            claims["name"] = json!(person.full_name);
            if self.personality != Personality::GoogleLike {
                claims["preferred_username"] = json!(person.username);
            }
        }
        if let (true, Some(email)) = (asked("email"), &person.email) {
            claims["email"] = json!(email);
            if !entra {
                claims["email_verified"] = json!(person.email_verified);
            }
        }
        with(claims, Value::Object(person.claims.clone())).as_object().cloned().unwrap_or_default()
    }

    /// An error of the token endpoint in the personality's form.
    fn refusal(&self, problem: &Problem, request: &Request) -> Answer {
        let body = if self.personality == Personality::EntraLike {
            let ids = ["trace", "correlation"].map(|label| guid(self.seed, label));
            json!({
                "error": problem.error,
                "error_description": format!(
                    "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: 2026-01-15 09:30:12Z",
                    problem.aadsts, problem.text, ids[0], ids[1]
                ),
                "error_codes": [problem.aadsts],
                "timestamp": "2026-01-15 09:30:12Z",
                "trace_id": ids[0],
                "correlation_id": ids[1],
                "error_uri": format!("{}/error?code={}", self.base, problem.aadsts),
            })
        } else {
            json!({"error": problem.error, "error_description": problem.text})
        };
        let mut answer = json_answer(problem.status, &body);
        if problem.status == 401 && request.headers.contains_key(AUTHORIZATION) {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
        }
        answer
    }

    // --- userinfo ---------------------------------------------------------------------------------------------

    async fn userinfo(&self, request: &Request, moved: bool) -> Result<Answer, HangUp> {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let (grant, fault) = {
            let mut state = self.lock();
            let grant = token.and_then(|token| state.access_tokens.get(token).cloned());
            let fault = if moved || grant.is_none() { None } else { state.faults(Stage::Userinfo).pop() };
            (grant, fault)
        };
        let Some(grant) = grant.filter(|_| fault != Some(Misbehavior::UserinfoUnauthorized)) else {
            let mut answer = json_answer(401, &json!({"error": "invalid_token"}));
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Ok(answer);
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        let mut claims = self.person_claims(&grant, false);
        let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        match fault {
            Some(Misbehavior::UserinfoOtherSub) => drop(claims.insert("sub".into(), json!(sub + "1"))),
            Some(Misbehavior::UserinfoSubMissing) => drop(claims.remove("sub")),
            Some(Misbehavior::UserinfoArray) => {
                return Ok(json_answer(200, &json!([claims])));
            }
            Some(Misbehavior::UserinfoWrongContentType) => {
                return Ok(answer(200, "text/html", Value::Object(claims).to_string()));
            }
            Some(Misbehavior::UserinfoRedirect) => {
                return Ok(redirect(302, &format!("{}/moved{}", self.base, request.target)));
            }
            _ => {}
        }
        Ok(json_answer(200, &Value::Object(claims)))
    }
}

// --- judging and spoiling ---------------------------------------------------------------------------------------

/// Why a token request is refused.
#[derive(Clone, Copy, Debug)]
struct Problem {
    status: u16,
    error: &'static str,
    aadsts: u32,
    text: &'static str,
}

/// Which client shows itself, by exactly one method and with a secret that opens.
fn judge_client<'a>(clients: &'a [Client], request: &Request) -> Result<&'a Client, Problem> {
    let refused = |aadsts, text| Problem { status: 401, error: "invalid_client", aadsts, text };
    let invalid = |text| Problem { status: 400, error: "invalid_request", aadsts: 900_144, text };
    let (id, secret, method) = match (request.header("authorization"), request.field("client_secret")) {
        (Some(_), Some(_)) => return Err(invalid("Two ways to authenticate at once.")),
        (Some(value), None) => {
            let (id, secret) = basic(value)
                .ok_or_else(|| invalid("The Authorization header is not Basic, or malformed."))?;
            if request.field("client_id").is_some_and(|other| other != id) {
                return Err(invalid("Two client ids."));
            }
            (id, secret, ClientAuth::Basic)
        }
        (None, Some(secret)) => {
            (request.field("client_id").unwrap_or_default().to_owned(), secret.to_owned(), ClientAuth::Post)
        }
        (None, None) => return Err(refused(7_000_218, "The request must hold a client secret.")),
    };
    let client = clients.iter().find(|client| client.id == id);
    let client = client.ok_or_else(|| refused(700_016, "The client is unknown."))?;
    if client.auth != ClientAuth::Either && client.auth != method {
        return Err(refused(7_000_218, "This client has to authenticate in the other way."));
    }
    if client.expired_secrets.contains(&secret) {
        return Err(refused(7_000_222, "The provided client secret keys are expired."));
    }
    if !client.secrets.contains(&secret) {
        return Err(refused(7_000_215, "Invalid client secret provided."));
    }
    Ok(client)
}

/// Id and secret out of `Authorization: Basic`, form-decoded (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |part: &str| {
        // Raw '=', '&' or a colon show that the part was not encoded.
        let encoded = !part.contains(['=', '&', ' ', ':', '/']);
        encoded.then(|| pairs(format!("x={part}").as_bytes()).pop().map(|(_, value)| value)).flatten()
    };
    Some((decoded(id)?, decoded(secret)?))
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// The misbehaviours that don't depend on the endpoint.
fn odd(fault: Misbehavior) -> Option<Odd> {
    use Misbehavior as M;
    Some(match fault {
        M::DiscoveryHtml | M::JwksHtml | M::TokenHtml | M::UserinfoHtml => Odd::Html,
        M::DiscoveryNotJson | M::JwksNotJson | M::TokenNotJson | M::UserinfoNotJson => Odd::NotJson,
        M::DiscoveryEmpty | M::TokenEmpty => Odd::Empty,
        M::DiscoveryArray | M::TokenArray => Odd::Array,
        M::DiscoveryNotFound | M::JwksNotFound => Odd::NotFound,
        M::DiscoveryServerError | M::JwksServerError | M::TokenServerError | M::UserinfoServerError => {
            Odd::ServerError
        }
        M::DiscoveryOneGiB | M::JwksOneGiB | M::TokenOneGiB | M::UserinfoOneGiB => Odd::OneGiB,
        M::DiscoveryGzipBomb | M::TokenGzipBomb => Odd::GzipBomb,
        M::DiscoverySlowDrip | M::JwksSlowDrip | M::TokenSlowDrip => Odd::SlowDrip,
        M::DiscoveryNeverAnswers | M::JwksNeverAnswers | M::TokenNeverAnswers | M::UserinfoNeverAnswers => {
            Odd::NeverAnswers
        }
        M::DiscoveryReset | M::JwksReset | M::TokenReset => Odd::Reset,
        _ => return None,
    })
}

/// Turns the good callback parameters into what `fault` wants.
fn spoil_callback(
    fault: Misbehavior,
    answer: &mut Vec<(String, String)>,
    issuer: &str,
    other_issuer: &str,
    previous: Option<&LastAttempt>,
) {
    use Misbehavior as M;
    let value = |answer: &[(String, String)], name: &str| {
        answer.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (code, state) = (value(answer, "code"), value(answer, "state"));
    let mut set = |name: &str, value: Option<&str>| {
        answer.retain(|(key, _)| key != name);
        answer.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    };
    let mut doubled = None;
    match fault {
        M::CallbackIssWrong => set("iss", Some(&format!("{issuer}1"))),
        M::CallbackIssOfOtherIssuer => set("iss", Some(other_issuer)),
        M::CallbackIssMissing => set("iss", None),
        M::CallbackErrorIssWrong => {
            set("code", None);
            set("error", Some("access_denied"));
            set("iss", Some(&format!("{issuer}1")));
        }
        M::CallbackIssTwice => doubled = Some(("iss", issuer)),
        M::CallbackStateTwice => doubled = Some(("state", state.as_str())),
        M::CallbackCodeTwice => doubled = Some(("code", code.as_str())),
        M::CallbackErrorTwice => {
            set("code", None);
            set("error", Some("access_denied"));
            doubled = Some(("error", "server_error"));
        }
        M::CallbackCodeAndError => set("error", Some("access_denied")),
        M::CallbackStateChanged => {
            let (head, last) = state.split_at(state.len().saturating_sub(1));
            set("state", Some(&format!("{head}{}", if last == "A" { "B" } else { "A" })));
        }
        M::CallbackStateMissing => set("state", None),
        M::CallbackStateEmpty => set("state", Some("")),
        M::CallbackStateOfPrevious => {
            set(
                "state",
                Some(&previous.expect("CallbackStateOfPrevious needs an attempt before this one").state),
            );
        }
        M::CallbackCodeMissing => set("code", None),
        M::CallbackCodeEmpty => set("code", Some("")),
        M::CallbackCodeUnknown => set("code", Some("c-never-given")),
        M::CallbackCodeOfPrevious => {
            set(
                "code",
                Some(&previous.expect("CallbackCodeOfPrevious needs an attempt before this one").code),
            );
        }
        M::CallbackError => {
            set("code", None);
            set("error", Some("server_error"));
            set("error_description", Some("Something went wrong at the provider."));
        }
        M::CallbackCancelled => {
            set("code", None);
            set("error", Some("access_denied"));
            set("error_subcode", Some("cancel"));
        }
        M::CallbackLoginRequired => {
            set("code", None);
            set("error", Some("login_required"));
        }
        M::CallbackErrorWithoutState => {
            set("code", None);
            set("error", Some("server_error"));
            set("state", None);
        }
        M::CallbackErrorForeignState => {
            set("code", None);
            set("error", Some("server_error"));
            set("state", Some("a-state-that-nobody-gave"));
        }
        M::CallbackErrorScript => {
            set("code", None);
            set("error", Some("server_error"));
            let text = "<script>alert(document.domain)</script>\r\nSet-Cookie: planted=1";
            set("error_description", Some(text));
        }
        M::CallbackExtraParameters => {
            set("session_state", Some("5c1d"));
            set("client_info", Some("eyJ1aWQiOiI3In0"));
            set("utm_source", Some("portal"));
        }
        _ => {}
    }
    answer.extend(doubled.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Turns the good token answer into what `fault` wants.
fn spoil_token_answer(
    fault: Option<Misbehavior>,
    mut good: Map<String, Value>,
    moved_to: &str,
    refusal: impl Fn(Problem) -> Answer,
) -> Answer {
    use Misbehavior as M;
    match fault {
        Some(M::TokenNoIdToken) => drop(good.remove("id_token")),
        Some(M::TokenIdTokenNumber) => drop(good.insert("id_token".into(), json!(5))),
        Some(M::TokenErrorBesideTokens) => drop(good.insert("error".into(), json!("server_error"))),
        Some(M::TokenTypeOther) => drop(good.insert("token_type".into(), json!("mac"))),
        Some(M::TokenTypeMissing) => drop(good.remove("token_type")),
        Some(M::TokenTypeMixedCase) => drop(good.insert("token_type".into(), json!("bEARER"))),
        Some(M::TokenNoExpiresIn) => drop(good.remove("expires_in")),
        Some(M::TokenHuge) => drop(good.insert("padding".into(), json!("p".repeat(1 << 20)))),
        Some(M::TokenErrorWith200) => {
            return json_answer(200, &json!({"error": "invalid_grant", "error_description": "No."}));
        }
        Some(M::TokenInvalidGrant) => {
            let text = "The code has expired.";
            return refusal(Problem { status: 400, error: "invalid_grant", aadsts: 70_008, text });
        }
        Some(M::TokenInvalidClient) => {
            let text = "The provided client secret keys are expired.";
            return refusal(Problem { status: 401, error: "invalid_client", aadsts: 7_000_222, text });
        }
        Some(M::TokenTooManyRequests) => {
            let text = "Too many requests.";
            let mut answer =
                refusal(Problem { status: 429, error: "temporarily_unavailable", aadsts: 90_055, text });
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
            return answer;
        }
        Some(M::TokenUnavailable) => {
            let text = "Try again later.";
            return refusal(Problem { status: 503, error: "temporarily_unavailable", aadsts: 90_033, text });
        }
        Some(M::TokenRedirect) => return redirect(302, moved_to),
        Some(M::TokenRedirect307) => return redirect(307, moved_to),
        _ => {}
    }
    let id_token = good.get("id_token").cloned().unwrap_or_default();
    let text = Value::Object(good).to_string();
    match fault {
        Some(M::TokenTwoIdTokens) => {
            json_text(200, text.replacen('{', &format!("{{\"id_token\":{id_token},"), 1))
        }
        Some(M::TokenCacheable) => answer(200, "application/json", text),
        _ => json_text(200, text),
    }
}
