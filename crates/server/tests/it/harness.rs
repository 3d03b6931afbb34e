//! A whole Doorward for one test: its own database, a clock that is turned, a sample application, a provider.
//!
//! `World::new()` has accounts ada (admin), mira (member), eve (nobody's member), ben (admin of globex), the
//! organizations acme and globex, and a public and a private resource each. Nothing in it waits for real time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::{IntoResponse as _, Response};
use doorward::app::{App, SharedApp};
use doorward::clock::Clock;
use doorward::configuration::Configuration;
use doorward::outbound::{OutboundSettings, Times};
use doorward::random::Random;
use doorward::sealing::Sealing;
use doorward::serve::{Built, Listeners};
use doorward::store::{
    Actor, AuditEntry, AuditRecord, NewAccount, Organization, Plan, Query as _, Store, Synchronous,
    load_account_by_name, load_organization,
};
use doorward::web::Route;
use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::ids::{AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::{Browser, Client, FakeIdp, Page, Person, SharedClock, TempDir, clock_at, free_port};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use url::Url;

/// Where every test's time begins: 2026-01-15 09:00:00 UTC.
pub const START_MS: i64 = 1_768_467_600_000;

/// Which database a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Sqlite,
    Postgres,
}

impl On {
    /// SQLite always; PostgreSQL where `DOORWARD_TEST_POSTGRES` names a server, which the test command always does.
    pub fn all() -> Vec<Self> {
        if postgres_url().is_some() { vec![Self::Sqlite, Self::Postgres] } else { vec![Self::Sqlite] }
    }
}

pub fn postgres_url() -> Option<String> {
    std::env::vars().find(|(name, _)| name == "DOORWARD_TEST_POSTGRES").map(|(_, url)| url)
}

/// A fresh database: a file in `folder`, or one made on the PostgreSQL server. Its master key is in `folder`.
pub async fn fresh_store(on: On, folder: &TempDir) -> (Store, String) {
    let (store, url) = fresh_database(on, folder).await;
    open_audit(&store, folder).await;
    (store, url)
}

/// Opens the audit log's keys with the master key in `folder`, as `serve` does.
pub async fn open_audit(store: &Store, folder: &TempDir) {
    let random = Random::seeded(8);
    let sealing = Sealing::open_or_create(&folder.join("master.key"), &random).unwrap();
    store.check_key(&sealing, Timestamp::from_millis(START_MS)).await.unwrap();
    store.open_audit(&sealing, &random, Timestamp::from_millis(START_MS)).await.unwrap();
}

pub async fn fresh_database(on: On, folder: &TempDir) -> (Store, String) {
    fresh_database_at(on, folder, postgres_url()).await
}

/// The same, on another PostgreSQL server than the common one.
async fn fresh_database_at(on: On, folder: &TempDir, server: Option<String>) -> (Store, String) {
    match on {
        On::Sqlite => {
            let path: PathBuf = folder.join("doorward.db");
            (
                Store::open_sqlite(&path, Synchronous::Normal).await.unwrap(),
                format!("sqlite:{}", path.display()),
            )
        }
        On::Postgres => {
            use sqlx::{Connection as _, Executor as _};
            static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let server = server.expect("DOORWARD_TEST_POSTGRES");
            let n = MADE.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let name = format!("doorward_test_{}_{n}", std::process::id());
            let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
            let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
            connection.execute(sql).await.unwrap();
            let mut url = url_of(&server);
            url.set_path(&name);
            let store = Store::open_postgres(url.as_str()).await.unwrap();
            store.migrate().await.unwrap();
            (store, url.to_string())
        }
    }
}

fn url_of(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// One running Doorward with everything around it.
pub struct World {
    pub app: SharedApp,
    pub idp: FakeIdp,
    second_idp: Option<FakeIdp>,
    pub clock: SharedClock,
    /// `http://localhost:PORT`.
    pub base: String,
    /// `http://hub.localhost:PORT`, the sample application's host.
    pub hub: String,
    /// `http://127.0.0.1:PORT`, the gate's listener.
    pub gate: String,
    /// What the application was asked, oldest first.
    pub seen: Arc<Mutex<Vec<Seen>>>,
    upstream: tokio::task::JoinHandle<()>,
    upstream_address: SocketAddr,
    stop_changes: watch::Sender<bool>,
    stop: mpsc::Sender<()>,
    folder: TempDir,
    database: String,
    /// The configuration file.
    configuration: String,
}

/// Another node on a world's database.
pub struct SecondNode {
    /// `http://127.0.0.1:PORT`, its gate's listener.
    pub gate: String,
    _stop_changes: watch::Sender<bool>,
    _stop: mpsc::Sender<()>,
}

/// One request as the application saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a test may want otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    pub on: On,
    /// Added to the configuration file, before `[[app]]`. `PORT` becomes the main listener's port, `UPSTREAM` the address
    /// of the sample application.
    pub configuration: String,
    /// Whether the provider is shaped like Entra.
    pub entra: bool,
    /// Calls to providers give up within two seconds.
    pub hasty: bool,
    /// A path that `base_url` carries.
    pub base_path: &'static str,
    /// The PostgreSQL server, instead of the common one.
    pub postgres: Option<String>,
    /// The store is reached through this address (PostgreSQL).
    pub through: Option<SocketAddr>,
    /// The route list; a proof plants its holes here.
    pub routes: fn() -> Vec<Route>,
    /// A second provider, which admins' URLs may reach too.
    pub second_provider: bool,
    /// Who may ask the gate, as the configuration file writes it.
    pub trusted_proxies: &'static str,
}

impl Default for Options {
    /// On SQLite; with `DOORWARD_TEST_ON=postgres` the whole suite runs on PostgreSQL instead.
    fn default() -> Self {
        let postgres = std::env::vars()
            .any(|variable| variable == ("DOORWARD_TEST_ON".to_owned(), "postgres".to_owned()));
        Self {
            on: if postgres { On::Postgres } else { On::Sqlite },
            configuration: String::new(),
            entra: false,
            hasty: false,
            base_path: "",
            postgres: None,
            through: None,
            routes: doorward::web::routes,
            second_provider: false,
            trusted_proxies: "[\"127.0.0.1\"]",
        }
    }
}

impl World {
    /// On SQLite, with an ordinary provider.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let clock = clock_at(START_MS);
        let idp = if options.entra { FakeIdp::entra_like(&clock) } else { FakeIdp::generic(&clock) };
        let second_idp = options.second_provider.then(|| FakeIdp::generic(&clock));
        let folder = TempDir::new();
        let server = options.postgres.clone().or_else(postgres_url);
        let (mut store, database) = fresh_database_at(options.on, &folder, server).await;
        open_audit(&store, &folder).await;
        if let Some(through) = options.through {
            let mut url = url_of(&database);
            url.set_ip_host(through.ip()).unwrap();
            url.set_port(Some(through.port())).unwrap();
            store = Store::open_postgres(url.as_str()).await.unwrap();
            open_audit(&store, &folder).await;
        }

        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (upstream_address, upstream) = echo(Arc::clone(&seen)).await;
        let (main, gate) = (free_port(), free_port());
        let base = format!("http://localhost:{main}{}", options.base_path);
        let hub = format!("http://hub.localhost:{main}");
        let text = format!(
            "base_url = \"{base}\"\nlisten = \"127.0.0.1:{main}\"\ndatabase = \"{database}\"\n\
             master_key_file = \"{key}\"\n[outbound]\nallow = [\"{idp}\"{second}]\n[gate]\nlisten = \"127.0.0.1:{gate}\"\n\
             trusted_proxies = {trusted}\n{more}\n[[app]]\nname = \"hub\"\nhost = \"hub.localhost:{main}\"\n\
             upstream = \"http://{upstream_address}\"\norganization = [\"/{{org}}/{{resource}}/**\", \"/{{org}}/**\"]\n\
             public = [\"/\", \"/static/**\"]\n\
             rules = [{{ methods = [\"DELETE\"], path = \"/{{org}}/settings/**\", role = \"admin\" }}]\n",
            key = folder.join("master.key").display(),
            idp = idp.address(),
            second = second_idp.as_ref().map_or_else(String::new, |idp| format!(", \"{}\"", idp.address())),
            trusted = options.trusted_proxies,
            more = options
                .configuration
                .replace("PORT", &main.to_string())
                .replace("UPSTREAM", &upstream_address.to_string()),
        );
        // For commands that read it: `--config` names this file.
        std::fs::write(folder.join("doorward.toml"), &text).unwrap();
        let configuration =
            Configuration::parse(None, &text, []).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));

        let random = Random::seeded(7);
        let sealing = Sealing::open_or_create(&folder.join("master.key"), &random).unwrap();
        let mut outbound = OutboundSettings::new(configuration.outbound_allow.clone());
        // No test asks a resolver: what is not an address or a name of the loopback does not exist.
        outbound.lookup =
            Arc::new(|_, _| Box::pin(async { Err(std::io::Error::other("no names in tests")) }));
        if options.hasty {
            let short = Duration::from_millis(800);
            outbound.times =
                Times { place: short, lookup: short, connect: short, head: short, whole: 2 * short };
        }
        let listeners = Listeners::bind(&configuration).await.unwrap_or_else(|faults| panic!("{faults:?}"));
        let app = App::new(
            configuration,
            store.clone(),
            sealing,
            Clock::turned(Arc::clone(&clock)),
            random,
            outbound,
        )
        .unwrap();

        let (stop_changes, stopping) = watch::channel(false);
        store.read_changes(app.clock.now()).await.unwrap();
        tokio::spawn(store.follow_changes(app.clock.clone(), Duration::from_millis(50), stopping));
        let (stop, signals) = mpsc::channel(2);
        let built = Built {
            main: doorward::web::answers_of(&app, (options.routes)()),
            gate: doorward::gate::door(&app, doorward::web::write_answer),
        };
        let routers = doorward::serve::assemble(&app, built);
        tokio::spawn(doorward::serve::run(listeners, routers, signals));

        let world = Self {
            app,
            idp,
            second_idp,
            clock,
            base,
            hub,
            gate: format!("http://127.0.0.1:{gate}"),
            seen,
            upstream,
            upstream_address,
            stop_changes,
            stop,
            folder,
            database,
            configuration: text,
        };
        world.furnish().await;
        world
    }

    async fn furnish(&self) {
        for (name, full) in
            [("ada", "Ada Admin"), ("mira", "Mira Holt"), ("eve", "Eve Else"), ("ben", "Ben Boss")]
        {
            self.add_account(name, full).await;
            self.idp.add_person(Person::new(name, full, &format!("{name}@acme.example")));
        }
        for (organization, admin) in [("acme", "ada"), ("globex", "ben")] {
            self.add_organization(organization, admin, Plan::Enterprise).await;
        }
        self.set_role("acme", "mira", Role::Write).await;
        self.set_role("globex", "mira", Role::Read).await;
        let now = self.app.clock.now();
        for organization in ["acme", "globex"] {
            let organization = self.organization(organization).await.id;
            let mut tx = self.app.store.begin().await.unwrap();
            tx.set_resource(organization, "", "website", true).await.unwrap();
            tx.set_resource(organization, "", "secret", false).await.unwrap();
            tx.commit(now).await.unwrap();
        }
    }

    pub async fn add_account(&self, name: &str, full_name: &str) -> AccountId {
        let now = self.app.clock.now();
        let id = AccountId::new(now.millis(), self.app.random.bytes().unwrap());
        let new = NewAccount {
            id,
            name: Name::parse(name).unwrap(),
            full_name: full_name.to_owned(),
            email: Some(Email::parse(&format!("{name}@acme.example")).unwrap()),
            email_proved: true,
            // He has one, and nobody knows it: a test that signs in with a password sets it.
            password_hash: Some("a hash that no password fits".to_owned()),
            operator: false,
        };
        let mut tx = self.app.store.begin().await.unwrap();
        tx.insert_account(&new, now).await.unwrap();
        tx.commit(now).await.unwrap();
        id
    }

    pub async fn add_organization(&self, name: &str, admin: &str, plan: Plan) {
        let now = self.app.clock.now();
        let id = OrganizationId::new(now.millis(), self.app.random.bytes().unwrap());
        let mut tx = self.app.store.begin().await.unwrap();
        tx.insert_organization(id, &Name::parse(name).unwrap(), name, plan, now).await.unwrap();
        // As the command does it: every organization's log begins with its making.
        let entry = AuditEntry {
            organization: Some(id),
            action: AuditAction::OrgCreate,
            actor: Actor::System,
            details: vec![("name", name.to_owned()), ("plan", plan.as_str().to_owned())],
            address: None,
            request_id: None,
        };
        tx.audit(entry, now).await.unwrap();
        tx.commit(now).await.unwrap();
        self.set_role(name, admin, Role::Admin).await;
    }

    pub async fn organization(&self, name: &str) -> Organization {
        load_organization(&mut self.app.store.reader(), name).await.unwrap().expect("the organization")
    }

    pub async fn account(&self, name: &str) -> AccountId {
        load_account_by_name(&mut self.app.store.reader(), name).await.unwrap().expect("the account").id
    }

    pub async fn set_role(&self, organization: &str, account: &str, role: Role) {
        let (organization, account) = (self.organization(organization).await.id, self.account(account).await);
        let now = self.app.clock.now();
        let mut tx = self.app.store.begin().await.unwrap();
        tx.set_role(organization, account, role, now).await.unwrap();
        tx.commit(now).await.unwrap();
    }

    pub async fn remove_member(&self, organization: &str, account: &str) {
        let (organization, account) = (self.organization(organization).await.id, self.account(account).await);
        let now = self.app.clock.now();
        let mut tx = self.app.store.begin().await.unwrap();
        tx.delete_membership(organization, account, now).await.unwrap();
        tx.commit(now).await.unwrap();
    }

    /// A browser in which this account is signed in, without the password's cost.
    pub async fn browser_of(&self, account: &str) -> Browser {
        let browser = Browser::new().with_clock(&self.clock);
        self.sign_in(&browser, account).await;
        browser
    }

    /// Signs an account in in this browser, straight in the store.
    pub async fn sign_in(&self, browser: &Browser, account: &str) {
        let now = self.app.clock.now();
        let token: Secret = self.app.random.token().unwrap();
        let id = SessionId::new(now.millis(), self.app.random.bytes().unwrap());
        let mut tx = self.app.store.begin().await.unwrap();
        tx.insert_browser_session(id, token.hash(), self.account(account).await, now).await.unwrap();
        tx.commit(now).await.unwrap();
        browser.plant_cookie("localhost", "doorward-session", token.expose());
    }

    /// Opens an address and follows it to its end, as a person does who presses "Continue to …" on the way.
    pub async fn visit(&self, browser: &Browser, address: &str) -> Page {
        let page = browser.get(address).await;
        self.arrive(browser, page).await
    }

    /// The same from a page that was opened already.
    pub async fn arrive(&self, browser: &Browser, page: Page) -> Page {
        let page = browser.follow_all(page).await;
        if !page.has_form("/sso") {
            return page;
        }
        let page = browser.submit(page.form("/sso")).await;
        browser.follow_all(page).await
    }

    /// Presses "Continue to …" of an organization: the address at the provider that the browser is sent to.
    pub async fn start_sso(&self, browser: &Browser, organization: &str, next: &str) -> String {
        let address = format!("{}/organizations/{organization}/sso", self.base);
        let page = browser.post(&address, &[("next", next)]).await;
        page.meta_refresh().unwrap_or_else(|| panic!("{}", browser.history())).to_string()
    }

    /// Registers an organization's redirect URI at the provider.
    pub fn register(&self, organization: &str) -> Client {
        self.idp.new_client(&format!("{}/organizations/{organization}/oidc/consume", self.base))
    }

    /// Presses "Update and Test OIDC configuration" with these settings.
    pub async fn update_and_test(
        &self,
        browser: &Browser,
        organization: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        browser.post(&self.settings(organization, "/oidc"), fields).await
    }

    pub fn settings(&self, organization: &str, rest: &str) -> String {
        format!("{}/organizations/{organization}/settings/sso{rest}", self.base)
    }

    /// The whole guide by HTTP: connect, test, enable. The admin's browser has completed SSO afterwards.
    pub async fn enable_sso(&self, organization: &str, admin: &str) -> (Browser, Client) {
        let browser = self.browser_of(admin).await;
        let client = self.connect_and_test(&browser, organization, admin).await;
        let revision = self.draft(organization).await;
        let page = browser
            .post(
                &self.settings(organization, "/enable"),
                &[("revision", &revision), ("enforcement", "enforced")],
            )
            .await;
        // The answer shows the recovery codes, once.
        assert_eq!(page.status, 200, "{}", browser.history());
        (browser, client)
    }

    /// Connects and passes the test, signing in at the provider as `person`.
    pub async fn connect_and_test(&self, browser: &Browser, organization: &str, person: &str) -> Client {
        let client = self.register(organization);
        self.idp.signs_in(person);
        let issuer = self.idp.issuer();
        let fields =
            [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        let page = self.update_and_test(browser, organization, &fields).await;
        assert_eq!(page.status, 200, "{} {}", page.text(), browser.history());
        browser.follow_all(page).await;
        client
    }

    /// The number of an organization's newest revision.
    pub async fn draft(&self, organization: &str) -> String {
        let organization = self.organization(organization).await.id;
        let connection =
            doorward::store::load_connection(&mut self.app.store.reader(), organization).await.unwrap();
        connection.and_then(|c| c.draft).map_or_else(String::new, |n| n.to_string())
    }

    /// The state that pages and `sso show` give.
    pub async fn state(&self, organization: &str) -> &'static str {
        let organization = self.organization(organization).await.id;
        doorward::store::load_state(&mut self.app.store.reader(), organization).await.unwrap().0.as_str()
    }

    /// The audit log of an organization, oldest first, without its first event: that this harness made it.
    pub async fn audit(&self, organization: &str) -> Vec<AuditRecord> {
        let organization = self.organization(organization).await.id;
        let log = self.app.store.reader().audit_after(organization, 0, 1000).await.unwrap();
        let ours = |event: &AuditRecord| event.action == "org.create" && event.actor_kind == "system";
        log.into_iter().skip_while(ours).collect()
    }

    /// How many rows a statement counts, for a look behind the pages.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let row = self.app.store.reader().fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
        row.int("n").unwrap()
    }

    /// Changes the database behind the service's back: no cascade, no word to any cache, as another node whose change
    /// was not read yet, or as a request that ran in between.
    pub async fn behind_its_back(&self, sql: &'static str) {
        use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
        if self.database.starts_with("sqlite:") {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(self.folder.join("doorward.db"))
                .foreign_keys(false)
                .busy_timeout(Duration::from_secs(5));
            let mut connection = options.connect().await.unwrap();
            connection.execute(sql).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.database).await.unwrap();
            connection.execute("SET session_replication_role = replica").await.unwrap();
            connection.execute(sql).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// Runs the command line on this world's database: its exit code, standard output and standard error.
    pub fn command(&self, line: &str) -> (u8, String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = self.run_command(line, &mut output, &mut errors);
        (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    }

    /// The same for a command that must succeed, with its output written to `output`.
    pub fn command_into<W: std::io::Write>(&self, line: &str, mut output: W) -> W {
        let mut errors = Vec::new();
        let code = self.run_command(line, &mut output, &mut errors);
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&errors));
        output
    }

    fn run_command(&self, line: &str, output: &mut dyn std::io::Write, errors: &mut Vec<u8>) -> u8 {
        let environment = vec![
            ("DOORWARD_DATABASE".to_owned(), self.database.clone()),
            ("DOORWARD_MASTER_KEY_FILE".to_owned(), self.folder.join("master.key").display().to_string()),
            ("DOORWARD_LOG__LEVEL".to_owned(), "error".to_owned()),
        ];
        let arguments: Vec<_> =
            std::iter::once("doorward").chain(line.split(' ')).map(std::ffi::OsString::from).collect();
        let surroundings = doorward::command_line::Surroundings {
            input: &mut std::io::empty(),
            output,
            errors,
            environment,
            clock: Clock::turned(Arc::clone(&self.clock)),
            random: Random::system(),
        };
        // It makes a runtime of its own.
        tokio::task::block_in_place(|| doorward::command_line::run(arguments, surroundings))
    }

    /// Runs a command of the operator beside the running service, at this world's time: exit code, output, errors.
    pub async fn operate(&self, line: &str) -> (u8, String, String) {
        command_on(&self.database, &self.folder.join("master.key"), &self.app.clock, line).await
    }

    /// The same, which must succeed: its output.
    pub async fn good_command(&self, line: &str) -> String {
        let (code, output, errors) = self.operate(line).await;
        assert_eq!((code, errors.as_str()), (0, ""), "{line}: {output}");
        output
    }

    /// Another node's store, over the same database.
    pub async fn other_node(&self) -> Store {
        let store = if self.database.starts_with("sqlite:") {
            Store::open_sqlite(&self.folder.join("doorward.db"), Synchronous::Normal).await.unwrap()
        } else {
            Store::open_postgres(&self.database).await.unwrap()
        };
        open_audit(&store, &self.folder).await;
        store
    }

    /// Another node on the same database, with caches and a gate of its own, which hears of changes as `serve` lets it:
    /// every 500 ms.
    pub async fn second_node(&self) -> SecondNode {
        let (main, gate) = (free_port(), free_port());
        let text = self
            .configuration
            .lines()
            .scan(main, |port, line| {
                // The first is the main listener's, the second the gate's.
                let line = if line.starts_with("listen = ") {
                    let moved = format!("listen = \"127.0.0.1:{port}\"");
                    *port = gate;
                    moved
                } else {
                    line.to_owned()
                };
                Some(line + "\n")
            })
            .collect::<String>();
        let configuration =
            Configuration::parse(None, &text, []).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let store = self.other_node().await;
        let random = Random::seeded(77);
        let sealing = Sealing::open_or_create(&self.folder.join("master.key"), &random).unwrap();
        let outbound = OutboundSettings::new(configuration.outbound_allow.clone());
        let listeners = Listeners::bind(&configuration).await.unwrap_or_else(|faults| panic!("{faults:?}"));
        let clock = Clock::turned(Arc::clone(&self.clock));
        let app = App::new(configuration, store.clone(), sealing, clock, random, outbound).unwrap();
        let (stop_changes, stopping) = watch::channel(false);
        store.read_changes(app.clock.now()).await.unwrap();
        tokio::spawn(store.follow_changes(app.clock.clone(), Duration::from_millis(500), stopping));
        let (stop, signals) = mpsc::channel(2);
        let built = Built {
            main: doorward::web::answers(&app),
            gate: doorward::gate::door(&app, doorward::web::write_answer),
        };
        tokio::spawn(doorward::serve::run(listeners, doorward::serve::assemble(&app, built), signals));
        SecondNode { gate: format!("http://127.0.0.1:{gate}"), _stop_changes: stop_changes, _stop: stop }
    }

    /// Everything in the SQLite file but what only tells caches and clocks of use: table, and each row as text.
    pub async fn everything_stored(&self) -> Vec<(String, Vec<String>)> {
        use sqlx::{ConnectOptions as _, Row as _};
        // Names of tables and columns can't be bound values.
        let sql = |text: String| sqlx::AssertSqlSafe(text);
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.folder.join("doorward.db"))
            .read_only(true);
        let mut connection = options.connect().await.unwrap();
        let tables = sqlx::query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('change', 'change_counter') ORDER BY name",
        );
        let mut stored = Vec::new();
        for table in tables.fetch_all(&mut connection).await.unwrap() {
            let table: String = table.get("name");
            let columns = sqlx::query(sql(format!("SELECT name FROM pragma_table_info('{table}')")));
            let columns: Vec<String> = columns
                .fetch_all(&mut connection)
                .await
                .unwrap()
                .iter()
                .map(|row| row.get::<String, _>("name"))
                .filter(|column| column != "last_seen_at")
                .map(|column| format!("quote({column})"))
                .collect();
            let rows = sqlx::query(sql(format!(
                "SELECT {} AS line FROM {table} ORDER BY line",
                columns.join(" || ' ' || ")
            )));
            let rows = rows.fetch_all(&mut connection).await.unwrap();
            stored.push((table, rows.iter().map(|row| row.get("line")).collect()));
        }
        stored
    }

    /// Starts a sign-in in this browser and comes back from the provider: the redirect URI, not yet opened.
    pub async fn returning(&self, browser: &Browser, organization: &str) -> Url {
        let page = browser.get(&format!("{}/organizations/{organization}/sso?next=/", self.base)).await;
        self.through_the_provider(browser, page).await
    }

    /// The same for a test of the draft, by "Test again".
    pub async fn returning_from_test(&self, browser: &Browser, organization: &str) -> Url {
        let page = browser.post(&self.settings(organization, "/test"), &[]).await;
        self.through_the_provider(browser, page).await
    }

    /// From a page on the way to the provider, with its button pressed if it has one, to the redirect URI.
    pub async fn through_the_provider(&self, browser: &Browser, page: Page) -> Url {
        let page = if page.has_form("/sso") { browser.submit(page.form("/sso")).await } else { page };
        let to_provider = page.location().or_else(|| page.meta_refresh());
        let to_provider = to_provider.unwrap_or_else(|| panic!("{}\n{}", page.text(), browser.history()));
        let back = browser.get(to_provider.as_str()).await;
        back.location().unwrap_or_else(|| panic!("{}\n{}", back.text(), browser.history()))
    }

    /// The second provider that `Options::second_provider` asked for.
    pub fn second_idp(&self) -> &FakeIdp {
        self.second_idp.as_ref().expect("Options::second_provider")
    }

    /// Turns the clock ahead.
    pub fn pass(&self, span: Lifetime) {
        self.app.clock.advance(span);
    }

    /// What the application was asked last.
    pub fn last_seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap().last().cloned()
    }

    /// The database's address, as in the configuration.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The address of its sample application.
    pub fn upstream(&self) -> SocketAddr {
        self.upstream_address
    }

    /// The folder of this world's files.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_changes.send_replace(true);
        // Twice: stop, and don't wait for what is open.
        for _ in 0..2 {
            self.stop.try_send(()).unwrap_or_default();
        }
        self.upstream.abort();
    }
}

/// Runs one command on this database with this key file, on a thread of its own because it has a runtime of its own.
pub async fn command_on(
    database: &str,
    key: &std::path::Path,
    clock: &Clock,
    line: &str,
) -> (u8, String, String) {
    let arguments: Vec<std::ffi::OsString> =
        std::iter::once("doorward").chain(line.split(' ')).map(Into::into).collect();
    let environment = [
        ("DOORWARD_DATABASE", database),
        ("DOORWARD_MASTER_KEY_FILE", &*key.display().to_string()),
        ("DOORWARD_LISTEN", "127.0.0.1:0"),
        ("DOORWARD_GATE__LISTEN", "127.0.0.1:0"),
        ("DOORWARD_LOG__LEVEL", "error"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let clock = clock.clone();
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let surroundings = doorward::command_line::Surroundings {
            input: &mut std::io::empty(),
            output: &mut output,
            errors: &mut errors,
            environment: environment.to_vec(),
            clock,
            random: Random::system(),
        };
        let code = doorward::command_line::run(arguments, surroundings);
        done.send((code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())).unwrap();
    });
    ended.await.unwrap()
}

/// Switches to a protocol in which whatever comes goes back.
fn join_as_echo(mut request: Request) -> Response {
    tokio::spawn(async move {
        let socket = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let (mut read, mut write) = tokio::io::split(socket);
        tokio::io::copy(&mut read, &mut write).await
    });
    let switch = http::Response::builder().status(101).header("connection", "upgrade");
    switch.header("upgrade", "websocket").body(Body::empty()).unwrap()
}

/// An application that answers 200 to everything and remembers what it was asked. In `/acme/secret`, which is
/// private, and below `/acme/website` and `/static`, which are public, there is what runs on: `events` says one thing and
/// no more, `download` a little every few milliseconds, `socket` what it hears.
pub async fn echo(seen: Arc<Mutex<Vec<Seen>>>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = axum::routing::any(|Path(kind): Path<String>, request: Request| async move {
        match &*kind {
            "socket" => join_as_echo(request),
            "events" => {
                let one = futures_util::stream::iter([Ok::<_, Infallible>("data: one\n\n")]);
                Body::from_stream(one.chain(futures_util::stream::pending())).into_response()
            }
            _ => {
                let pieces = futures_util::stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Some((Ok::<_, Infallible>("a piece of it\n"), ()))
                });
                Body::from_stream(pieces).into_response()
            }
        }
    });
    let running_on = Router::new()
        .route("/acme/secret/{kind}", running.clone())
        .route("/acme/website/running/{kind}", running.clone())
        .route("/static/running/{kind}", running);
    let router = running_on.fallback(move |request: Request| {
        let seen = Arc::clone(&seen);
        async move {
            let headers = request.headers().iter();
            let headers = headers
                .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
                .collect();
            let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
            let body = format!("the application's page {target}");
            seen.lock().unwrap().push(Seen { target, headers });
            body
        }
    });
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, task)
}
