//! What one node meets: a provider that fails, a database that is locked, full, gone, foreign or silent, a clock that
//! jumps, many at once, a fault of our own, and power cuts (conformance.md §8). In none of them does the gate allow by
//! mistake; each is told by a code, the log or `/readyz`. What single files prove already is not repeated here.

use axum::routing::get;
use doorward::clock::Clock;
use doorward::store::{Identity, NewAccount, Store, StoreError, Synchronous, load_connection};
use doorward::web::Route;
use doorward_core::email::Email;
use doorward_core::ids::{AccountId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Endpoint, Misbehavior, Page, Person, TempDir, free_port};
use http::Method;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::harness::{On, Options, START_MS, World, postgres_url};
use crate::stolen_password::from_environment;

fn secret_page(world: &World) -> String {
    format!("{}/acme/secret", world.hub)
}

async fn is_ready(base: &str) -> bool {
    Browser::new().request(Method::GET, &format!("{base}/readyz"), &[], "").await.status == 200
}

/// Saves acme's general settings, as the plainest thing that writes.
async fn save(browser: &Browser, base: &str, name: &str) -> Page {
    browser.post(&format!("{base}/organizations/acme/settings"), &[("display_name", name)]).await
}

fn says_come_back(page: &Page) {
    assert_eq!(
        (page.status.as_u16(), page.code().as_deref()),
        (503, Some("service.unavailable")),
        "{page:?}"
    );
    assert!(page.header("retry-after").is_some());
}

// === The provider ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_a_provider_that_is_down_stops_new_sign_ins_and_nothing_else() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);

    let late = world.browser_of("mira").await;
    let back = world.returning(&late, "acme").await;
    world.idp.goes_down().await;
    let page = late.get(back.as_str()).await;
    assert_eq!(page.code().as_deref(), Some("outbound.unreachable"), "{}", page.text());
    assert_eq!(mira.get(&secret_page(&world)).await.status, 200, "who is through goes on");
    assert_eq!(ada.get(&world.settings("acme", "")).await.status, 200);
    assert!(is_ready(&world.base).await, "a provider's fault is not ours");

    world.idp.comes_back();
    assert_eq!(world.visit(&late, &secret_page(&world)).await.status, 200, "{}", late.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_provider_that_never_answers_holds_nobody_else_up() {
    let world = Arc::new(World::with(Options { hasty: true, ..Options::default() }).await);
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let back = world.returning(&mira, "acme").await;
    world.idp.misbehave(Misbehavior::TokenNeverAnswers);
    let asked = world.idp.calls(Endpoint::Token);
    let waiting = tokio::spawn({
        let mira = mira.clone();
        async move { mira.get(back.as_str()).await }
    });
    while world.idp.calls(Endpoint::Token) == asked {
        tokio::task::yield_now().await;
    }
    // While it waits: another organization reads and writes.
    let ben = world.browser_of("ben").await;
    let saved =
        ben.post(&format!("{}/organizations/globex/settings", world.base), &[("display_name", "G")]).await;
    assert_eq!(saved.status, 303);
    assert_eq!(world.visit(&ben, &format!("{}/globex/secret", world.hub)).await.status, 200);
    assert!(!waiting.is_finished(), "the provider was still being waited for");
    assert_eq!(waiting.await.unwrap().code().as_deref(), Some("outbound.timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_keys_that_rotate_or_roll_back_in_the_middle_of_a_login_let_it_through() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.idp.signs_in("mira");
    for how in ["with overlap", "without overlap", "rolled back"] {
        // Keys are fetched at most twice a minute.
        world.pass(Lifetime::from_seconds(61));
        let mira = world.browser_of("mira").await;
        let back = world.returning(&mira, "acme").await;
        match how {
            "with overlap" => world.idp.rotate_keys(true),
            "without overlap" => world.idp.rotate_keys(false),
            _ => world.idp.roll_keys_back(),
        }
        let page = mira.get(back.as_str()).await;
        assert!(page.code().is_none(), "{how}: {}", page.text());
        assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_a_providers_clock_may_be_a_minute_ahead_and_more_is_told_with_its_measure() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.idp.signs_in("mira");
    for (seconds, code) in [
        (59, None),
        (120, Some("oidc.clock_skew")),
        (3600, Some("oidc.clock_skew")),
        (-120, None),
        (-3600, Some("oidc.clock_skew")),
    ] {
        world.idp.set_clock_error_ms(seconds * 1000);
        let mira = world.browser_of("mira").await;
        let back = world.returning(&mira, "acme").await;
        let page = mira.get(back.as_str()).await;
        let found = page.code();
        // A token of an hour ago is also over.
        let fits = found.as_deref() == code || (seconds == -3600 && found.as_deref() == Some("oidc.expired"));
        assert!(fits, "{seconds}: {found:?} {}", page.text());
    }
    world.idp.set_clock_error_ms(0);
}

// === Our own clock ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_a_clock_that_jumps_ahead_and_back_revives_nothing_that_was_refused() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    let late = world.browser_of("mira").await;
    let back = world.returning(&late, "acme").await;

    let hours = Lifetime::from_hours(169).millis();
    world.clock.fetch_add(hours, Ordering::SeqCst);
    assert_eq!(mira.get(&secret_page(&world)).await.status, 302, "the time-out is over");
    assert_eq!(late.get(back.as_str()).await.code().as_deref(), Some("sso.attempt_expired"));
    world.clock.fetch_sub(hours, Ordering::SeqCst);
    assert_eq!(mira.get(&secret_page(&world)).await.status, 302);
    assert_ne!(late.get(back.as_str()).await.status, 303);
    // The log keeps its order by numbers, and its times by ours.
    let log = world.audit("acme").await;
    assert!(log.windows(2).all(|two| two[0].at <= two[1].at && two[0].sequence + 1 == two[1].sequence));
}

// === The database ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_locked_database_refuses_writes_after_a_while_and_the_gate_goes_on_reading() {
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    let mira = world.browser_of("mira").await;
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    assert_eq!(save(&ada, &world.base, "Before").await.status, 303);

    let path = world.folder().join("doorward.db");
    let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let (refused, allowed) = tokio::join!(save(&ada, &world.base, "Meanwhile"), async {
        // What is remembered no longer counts, so this asks the database.
        world.pass(Lifetime::from_millis(5001));
        let allowed = mira.get(&secret_page(&world)).await.status;
        // Changes are read all the time, locked or not.
        let mut tries = 0;
        while !is_ready(&world.base).await {
            tries += 1;
            assert!(tries < 1000, "never ready");
        }
        allowed
    },);
    says_come_back(&refused);
    assert_eq!(allowed, 200);
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(save(&ada, &world.base, "After").await.status, 303);
    assert_eq!(world.organization("acme").await.display_name, "After");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_file_that_is_moved_away_and_back_loses_nothing() {
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    assert_eq!(save(&ada, &world.base, "Before").await.status, 303);
    let files =
        || ["doorward.db", "doorward.db-wal", "doorward.db-shm"].map(|name| world.folder().join(name));
    let away = |path: &PathBuf| path.with_extension("away");
    for file in files() {
        std::fs::rename(
            &file,
            away(&file).with_file_name(format!("away-{}", file.file_name().unwrap().display())),
        )
        .unwrap();
    }
    let stranger = Browser::new().get(&secret_page(&world)).await;
    assert!(matches!(stranger.status.as_u16(), 302 | 503), "nobody gets in: {stranger:?}");
    let meanwhile = save(&ada, &world.base, "Meanwhile").await;
    assert!(matches!(meanwhile.status.as_u16(), 303 | 503), "{meanwhile:?}");
    assert!(!world.folder().join("doorward.db").exists(), "never a new, empty database in its place");
    for file in files() {
        let from = world.folder().join(&format!("away-{}", file.file_name().unwrap().display()));
        std::fs::rename(from, file).unwrap();
    }
    assert_eq!(save(&ada, &world.base, "After").await.status, 303);
    let kept = if meanwhile.status == 303 { ["Before", "Meanwhile", "After"].len() } else { 2 };
    assert_eq!(world.audit("acme").await.len(), kept, "what was acknowledged is there, and nothing else");
    let (code, output, _) = world.command("audit verify acme");
    assert_eq!(code, 0, "{output}");
}

async fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open_sqlite(path, Synchronous::Normal).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_f18_a_newer_foreign_or_damaged_database_is_refused_with_words() {
    let folder = TempDir::new();
    let newer = folder.join("newer.db");
    drop(open(&newer).await.unwrap());
    let options = sqlx::sqlite::SqliteConnectOptions::new().create_if_missing(true);
    let mut connection = options.clone().filename(&newer).connect().await.unwrap();
    connection
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'of tomorrow', 1, x'00', 0)",
        )
        .await
        .unwrap();
    connection.close().await.unwrap();
    let told = open(&newer).await.unwrap_err().to_string();
    assert!(told.contains("newer doorward"), "{told}");

    let foreign = folder.join("foreign.db");
    let mut connection = options.filename(&foreign).connect().await.unwrap();
    connection.execute("CREATE TABLE invoice (id INTEGER)").await.unwrap();
    connection.close().await.unwrap();
    let told = open(&foreign).await.unwrap_err().to_string();
    assert!(told.contains("another program's") && told.contains("invoice"), "{told}");

    // Cut in the middle: pages that the file's head counts are not there.
    let cut = folder.join("cut.db");
    let store = open(&cut).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.changed(doorward::store::Change::Organization("acme".to_owned()));
    tx.commit(doorward_core::time::Timestamp::from_millis(START_MS)).await.unwrap();
    drop(store);
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&cut).connect().await.unwrap();
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    connection.close().await.unwrap();
    let whole = std::fs::metadata(&cut).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(whole / 2 / 4096 * 4096).unwrap();
    let failure = match open(&cut).await {
        Err(error) => doorward::failure::Failure::from(error),
        Ok(store) => doorward::failure::Failure::from(store.check_schema().await.unwrap_err()),
    };
    assert_eq!(failure.code.as_str(), "store.corrupt", "{failure}");
}

/// A TCP proxy to PostgreSQL that can hang up, or swallow everything without a word.
struct Wire {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    swallowing: Arc<AtomicBool>,
    changed: Arc<tokio::sync::Notify>,
}

impl Wire {
    async fn to(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            cut: Arc::default(),
            swallowing: Arc::default(),
            changed: Arc::default(),
        };
        let (cut, swallowing, changed) =
            (Arc::clone(&wire.cut), Arc::clone(&wire.swallowing), Arc::clone(&wire.changed));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                #[expect(clippy::disallowed_methods, reason = "a wire; rule 5 is about the product")]
                let server = tokio::net::TcpStream::connect(target).await.unwrap();
                let (swallowing, changed) = (Arc::clone(&swallowing), Arc::clone(&changed));
                tokio::spawn(carry(client, server, swallowing, changed));
            }
        });
        wire
    }

    /// Ends every connection, and refuses new ones until `mend`.
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Says nothing any more, on old and new connections.
    fn swallow(&self) {
        self.swallowing.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.swallowing.store(false, Ordering::SeqCst);
    }
}

async fn carry(
    client: tokio::net::TcpStream,
    server: tokio::net::TcpStream,
    swallowing: Arc<AtomicBool>,
    changed: Arc<tokio::sync::Notify>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let pump = |from: tokio::net::tcp::OwnedReadHalf, to: tokio::net::tcp::OwnedWriteHalf| {
        let swallowing = Arc::clone(&swallowing);
        async move {
            let mut bytes = [0; 16 * 1024];
            loop {
                from.readable().await.unwrap();
                let read = match from.try_read(&mut bytes) {
                    Ok(0) => return,
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(_) => return,
                };
                if swallowing.load(Ordering::SeqCst) {
                    continue;
                }
                let mut written = 0;
                while written < read {
                    if to.writable().await.is_err() {
                        return;
                    }
                    match to.try_write(&bytes[written..read]) {
                        Ok(more) => written += more,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
            }
        }
    };
    tokio::select! {
        () = pump(from_client, to_server) => {}
        () = pump(from_server, to_client) => {}
        () = changed.notified() => {}
    }
}

/// A world on PostgreSQL, with a wire between; `None` where there is no PostgreSQL.
async fn wired_world() -> Option<(World, Wire)> {
    let url = url::Url::parse(&postgres_url()?).unwrap();
    let target = url.socket_addrs(|| Some(5432)).unwrap()[0];
    let wire = Wire::to(target).await;
    let options = Options { on: On::Postgres, through: Some(wire.address), ..Options::default() };
    Some((World::with(options).await, wire))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_postgresql_that_goes_away_and_comes_back_is_felt_and_forgotten() {
    let Some((world, wire)) = wired_world().await else { return };
    let (ada, mira) = (world.browser_of("ada").await, world.browser_of("mira").await);
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    wire.cut();
    world.pass(Lifetime::from_millis(5001));
    let page = mira.get(&secret_page(&world)).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (503, Some("gate.store_unavailable")));
    assert!(!is_ready(&world.base).await);
    wire.mend();
    assert_eq!(mira.get(&secret_page(&world)).await.status, 200);
    assert_eq!(save(&ada, &world.base, "After").await.status, 303);
}

/// A PostgreSQL of a test's own, which is stopped and started for real. Only where `DOORWARD_TEST_POSTGRES` says that there
/// is one to be had.
struct Cluster {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    is_root: bool,
}

impl Cluster {
    fn start() -> Option<Self> {
        postgres_url()?;
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.map_while(Result::ok);
        let binaries = versions.map(|version| version.path().join("bin")).max()?;
        let folder = TempDir::new();
        let is_root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
        let cluster = Self { binaries, folder, port: free_port(), is_root };
        if is_root {
            // PostgreSQL refuses to run as root, who lends it Debian's user.
            assert!(
                Command::new("chown").arg("postgres").arg(cluster.folder.path()).status().unwrap().success()
            );
        }
        cluster
            .run("initdb", &["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]);
        cluster.go_on();
        Some(cluster)
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.binaries.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(self.folder.join("data")).args(arguments).current_dir(self.folder.path());
        // What it starts stays, and must not keep our pipes.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{command:?}");
    }

    /// Ends it without a word to anybody, as a crash does.
    fn crash(&self) {
        self.run("pg_ctl", &["stop", "-m", "immediate"]);
    }

    fn go_on(&self) {
        let folder = self.folder.path().display();
        let settings = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off",
            self.port
        );
        let log = self.folder.join("log").display().to_string();
        self.run("pg_ctl", &["start", "-w", "-l", &log, "-o", &settings]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.folder.join("data/postmaster.pid").exists() {
            self.crash();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_postgresql_that_crashes_and_is_started_again_loses_nothing_and_lets_nobody_in_meanwhile() {
    let Some(cluster) = Cluster::start() else { return };
    let options = Options { on: On::Postgres, postgres: Some(cluster.url()), ..Options::default() };
    let world = World::with(options).await;
    let (ada, mira) = (world.browser_of("ada").await, world.browser_of("mira").await);
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    for round in 0..2 {
        assert_eq!(save(&ada, &world.base, &format!("Before {round}")).await.status, 303);
        cluster.crash();
        says_come_back(&save(&ada, &world.base, "Meanwhile").await);
        world.pass(Lifetime::from_millis(5001));
        for browser in [&mira, &Browser::new()] {
            let page = browser.get(&secret_page(&world)).await;
            assert_eq!(page.code().as_deref(), Some("gate.store_unavailable"), "{page:?}");
        }
        assert!(!is_ready(&world.base).await);
        cluster.go_on();
        // Connections of before are found out to be dead, one by one.
        let mut tries = 0;
        while !is_ready(&world.base).await {
            tries += 1;
            assert!(tries < 1000, "never ready");
        }
        assert_eq!(mira.get(&secret_page(&world)).await.status, 200);
        assert_eq!(save(&ada, &world.base, &format!("After {round}")).await.status, 303);
    }
    assert_eq!(world.audit("acme").await.len(), 4, "what was acknowledged is there, and nothing else");
    let (code, output, _) = world.command("audit verify --all");
    assert_eq!(code, 0, "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_postgresql_that_says_nothing_at_all_is_given_up_in_bounded_time() {
    let Some((world, wire)) = wired_world().await else { return };
    let (ada, mira) = (world.browser_of("ada").await, world.browser_of("mira").await);
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    assert_eq!(save(&ada, &world.base, "Before").await.status, 303);
    // A transaction that has begun, so that its statement is what meets the silence.
    let (acme, secret) = (world.organization("acme").await.id, secret_page(&world));
    let mut tx = world.app.store.begin().await.unwrap();
    wire.swallow();
    world.pass(Lifetime::from_millis(5001));
    let (page, statement) = tokio::join!(
        mira.get(&secret),
        tokio::time::timeout(Duration::from_secs(9), tx.lock_organization(acme)),
    );
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (503, Some("gate.store_unavailable")));
    assert!(matches!(statement, Ok(Err(StoreError::Unavailable(_)))), "{statement:?}");
    drop(tx);
    wire.mend();
    // Connections that met the silence are not used again.
    let mut tries = 0;
    while mira.get(&secret_page(&world)).await.status != 200 {
        tries += 1;
        assert!(tries < 10, "it never recovers");
    }
    assert_eq!(save(&ada, &world.base, "After").await.status, 303);
}

// === Many at once ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_forty_whose_sessions_end_at_once_sign_in_again_with_one_fetch_of_the_keys() {
    let world = Arc::new(World::new().await);
    world.enable_sso("acme", "ada").await;
    world.idp.signs_in("mira");
    let mut browsers = Vec::new();
    for _ in 0..40 {
        let browser = world.browser_of("mira").await;
        assert_eq!(world.visit(&browser, &secret_page(&world)).await.status, 200);
        browsers.push(browser);
    }
    // All time out; nothing of the provider is fresh any more.
    world.pass(Lifetime::from_hours(169));
    world.idp.forget_requests();
    let ben = world.browser_of("ben").await;
    let again = browsers.into_iter().map(|browser| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.visit(&browser, &secret_page(&world)).await.status })
    });
    let again: Vec<_> = again.collect();
    assert_eq!(world.visit(&ben, &format!("{}/globex/secret", world.hub)).await.status, 200);
    for status in again {
        assert_eq!(status.await.unwrap(), 200);
    }
    assert_eq!(world.idp.calls(Endpoint::Jwks), 1);
    assert!(world.idp.calls(Endpoint::Discovery) <= 1);
}

/// A thousand members of acme who have completed its single sign-on in a browser each, and opened the application.
async fn a_thousand_who_are_in(world: &World) -> Vec<(String, Browser)> {
    let now = world.app.clock.now();
    let acme = world.organization("acme").await.id;
    let connection = load_connection(&mut world.app.store.reader(), acme).await.unwrap().unwrap();
    let issuer = world.idp.issuer();
    let mut browsers = Vec::new();
    let mut tx = world.app.store.begin().await.unwrap();
    for n in 0..1000 {
        let name = format!("one-{n}");
        let person = Person::new(&name, &name, &format!("{name}@acme.example"));
        let new = NewAccount {
            id: AccountId::new(now.millis(), world.app.random.bytes().unwrap()),
            name: Name::parse(&name).unwrap(),
            full_name: String::new(),
            email: Some(Email::parse(&format!("{name}@acme.example")).unwrap()),
            email_proved: true,
            password_hash: None,
            operator: false,
        };
        tx.insert_account(&new, now).await.unwrap();
        tx.set_role(acme, new.id, Role::Read, now).await.unwrap();
        let identity = Identity {
            issuer: issuer.clone(),
            subject: person.sub.clone(),
            sub: person.sub.clone(),
            email: person.email.clone(),
            display_name: None,
        };
        tx.insert_identity(connection.id, &identity, new.id, now).await.unwrap();
        let session = SessionId::new(now.millis(), world.app.random.bytes().unwrap());
        let (ours, hubs) = (world.app.random.token().unwrap(), world.app.random.token().unwrap());
        tx.insert_browser_session(session, ours.hash(), new.id, now).await.unwrap();
        let subject = &identity.subject;
        tx.put_sso_session(session, new.id, acme, connection.epoch, &issuer, subject, now).await.unwrap();
        let host = world.hub.trim_start_matches("http://");
        tx.insert_host_session(hubs.hash(), session, new.id, host, now).await.unwrap();
        world.idp.add_person(person);
        let browser = Browser::new().with_clock(&world.clock);
        browser.plant_cookie("localhost", "doorward-session", ours.expose());
        browser.plant_cookie("hub.localhost", "doorward-app", hubs.expose());
        browsers.push((name, browser));
    }
    tx.commit(now).await.unwrap();
    browsers
}

/// All of them come at once, and some go all the way through the provider, a hundred at a time: `DOORWARD_HERD=1000` lets
/// everybody. What it takes is printed; judged is only that nobody else's page waits for the herd to be over.
///
/// 2026-11-26, SQLite, a debug build beside fuzzing (load 11 on two cores): a thousand in again after 28.7 s; the other
/// page's p99 123 ms meanwhile, 20 ms alone; the keys fetched once. Without the hundred at a time some waited more than five
/// seconds for the store's writer, and were told to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_a_thousand_whose_sessions_end_at_once_are_asked_to_sign_in_and_others_go_on() {
    let through = from_environment("DOORWARD_HERD").unwrap_or(100);
    let world = Arc::new(World::new().await);
    world.enable_sso("acme", "ada").await;
    let thousand = a_thousand_who_are_in(&world).await;
    for (_, browser) in thousand.iter().step_by(333) {
        assert!(browser.get(&secret_page(&world)).await.says("/acme/secret"), "{}", browser.history());
    }
    world.pass(Lifetime::from_hours(169));
    let ben = world.browser_of("ben").await;
    let globex = format!("{}/globex/secret", world.hub);
    assert_eq!(world.visit(&ben, &globex).await.status, 200);
    let clock = Clock::system();
    let check = async || {
        let began = clock.stopwatch();
        assert_eq!(ben.get(&globex).await.status, 200);
        began.elapsed()
    };
    let mut quiet = Vec::new();
    for _ in 0..200 {
        quiet.push(check().await);
    }
    world.idp.forget_requests();
    world.idp.follows_hints();
    let places = Arc::new(Semaphore::new(100));
    let whole = clock.stopwatch();
    let herd = thousand.into_iter().zip(0..).map(|((name, browser), n)| {
        let (world, places) = (Arc::clone(&world), Arc::clone(&places));
        tokio::spawn(async move {
            let mut tries = 0;
            let page = browser.get(&secret_page(&world)).await;
            assert!(page.location().is_some() && !page.says("/acme/secret"), "{}", page.text());
            if n < through {
                let _place = places.acquire().await.unwrap();
                let next =
                    form_urlencoded::byte_serialize(secret_page(&world).as_bytes()).collect::<String>();
                let sso = format!("{}/organizations/acme/sso?next={next}&login_hint={name}", world.base);
                let mut page = world.visit(&browser, &sso).await;
                // Whoever has waited for the store for five seconds is told so, and tries again.
                while page.status.as_u16() >= 500 && tries < 20 {
                    says_come_back(&page);
                    tries += 1;
                    page = world.visit(&browser, &sso).await;
                }
                assert!(page.says("/acme/secret"), "{} {}", page.text(), browser.history());
            }
            tries
        })
    });
    let herd: Vec<_> = herd.collect();
    let mut crowded = Vec::new();
    while !herd.iter().all(tokio::task::JoinHandle::is_finished) {
        crowded.push(check().await);
    }
    let whole = whole.elapsed();
    let mut tries = 0;
    for one in herd {
        tries += one.await.unwrap();
    }
    let calls = [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token].map(|at| world.idp.calls(at));
    crowded.sort();
    quiet.sort();
    let p99 = |times: &[Duration]| (times[times.len() / 2], times[times.len() * 99 / 100], times.len());
    #[expect(clippy::print_stderr, reason = "figures")]
    {
        eprintln!(
            "{through} of a thousand in again after {whole:?}; another organization's page (median, p99, n): alone {:?}, \
             meanwhile {:?}; calls: metadata, keys, token {calls:?}; told to come back: {tries}",
            p99(&quiet),
            p99(&crowded),
        );
    }
    assert!(calls[0] <= 1 && calls[1] == 1, "each of the herd asks for the keys: {calls:?}");
    assert!((through..=through + tries).contains(&(calls[2] as u64)), "one question a sign-in: {calls:?}");
    assert!(crowded.len() >= 10, "somebody else waited for the herd: {} answers in {whole:?}", crowded.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_storm_of_made_up_callbacks_writes_nothing_and_the_good_one_gets_through() {
    let world = Arc::new(World::new().await);
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let back = world.returning(&mira, "acme").await;
    let rows = world
        .count("SELECT (SELECT COUNT(*) FROM attempt) + (SELECT COUNT(*) FROM spent_attempt) AS n")
        .await;
    let storm = (0..20).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for m in 0..25 {
                let made_up = format!("{}/organizations/acme/oidc/consume?state={n}-{m}&code=x", world.base);
                let status = Browser::new().get(&made_up).await.status.as_u16();
                assert!(status < 500, "{status}");
            }
        })
    });
    let storm: Vec<_> = storm.collect();
    assert!(mira.get(back.as_str()).await.code().is_none());
    for one in storm {
        one.await.unwrap();
    }
    assert_eq!(world.visit(&mira, &secret_page(&world)).await.status, 200);
    assert_eq!(
        world
            .count("SELECT (SELECT COUNT(*) FROM attempt) + (SELECT COUNT(*) FROM spent_attempt) AS n")
            .await,
        rows,
        "the good one became a spent one"
    );
}

// === Our own fault ===

/// The route list, with a home page that panics.
fn with_a_fault() -> Vec<Route> {
    async fn fault() -> String {
        panic!("a fault of our own")
    }
    let is_home = |route: &Route| route.path == "/" && route.method == "get";
    let routes = doorward::web::routes().into_iter();
    routes.map(|route| if is_home(&route) { route.answered_by(get(fault)) } else { route }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_a_panic_in_a_handler_is_one_500_and_the_next_request_is_served() {
    let world = World::with(Options { routes: with_a_fault, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    for _ in 0..3 {
        let page = ada.get(&format!("{}/", world.base)).await;
        assert_eq!(page.status, 500);
        assert_eq!(page.json().unwrap()["code"], "service.internal");
        assert!(!page.body.contains("a fault of our own"));
    }
    assert_eq!(ada.get(&format!("{}/settings/account", world.base)).await.status, 200);
    assert!(is_ready(&world.base).await);
}

// === The binary: power cuts and a full disk ===

/// The shipped binary (in its debug build) over a world's database and key, on ports of its own.
struct Served {
    child: Child,
    base: String,
    hub: String,
    ports: (u16, u16),
    crash_file: PathBuf,
}

impl Served {
    fn start(world: &World, before: &str) -> Self {
        Self::start_on(world, before, (free_port(), free_port()))
    }

    fn start_on(world: &World, before: &str, ports: (u16, u16)) -> Self {
        let (main, gate) = ports;
        let base = format!("http://localhost:{main}");
        let hub = format!("http://hub.localhost:{main}");
        let file = world.folder().join("served.toml");
        let text = format!(
            "base_url = \"{base}\"\nlisten = \"127.0.0.1:{main}\"\ndatabase = \"{database}\"\n\
             master_key_file = \"{key}\"\n[log]\nformat = \"json\"\n[outbound]\nallow = [\"{idp}\"]\n\
             [gate]\nlisten = \"127.0.0.1:{gate}\"\n\
             [[app]]\nname = \"hub\"\nhost = \"hub.localhost:{main}\"\nupstream = \"http://{upstream}\"\n\
             organization = [\"/{{org}}/{{resource}}/**\", \"/{{org}}/**\"]\n",
            database = world.database(),
            key = world.folder().join("master.key").display(),
            idp = world.idp.address(),
            upstream = world.upstream(),
        );
        std::fs::write(&file, text).unwrap();
        let crash_file = world.folder().join("crash");
        let line = format!("{before} exec \"$0\" --config \"$1\" serve");
        let (child, log) = loop {
            let mut child = Command::new("sh")
                .args(["-c", &line, env!("CARGO_BIN_EXE_doorward")])
                .arg(&file)
                .env_clear()
                .env("DOORWARD_TEST_CRASH_FILE", &crash_file)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            let mut told = Vec::new();
            let serving = log.by_ref().any(|line| {
                let is_serving =
                    serde_json::from_str::<Value>(&line).is_ok_and(|line| line["message"] == "serving");
                told.push(line);
                is_serving
            });
            if serving {
                break (child, log);
            }
            child.wait().unwrap();
            // While it was dead, another test may have taken its port for a moment.
            assert!(told.iter().any(|line| line.contains("service.cannot_listen")), "{told:#?}");
        };
        // What follows must be read, or the server waits for us.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, base, hub, ports, crash_file }
    }

    /// From now on, the process dies before the `n`-th statement of a transaction.
    fn dies_at(&self, n: u32) {
        std::fs::write(&self.crash_file, n.to_string()).unwrap();
    }

    fn lives(&self) {
        drop(std::fs::remove_file(&self.crash_file));
    }

    /// Waits for the end that was asked for.
    fn ends(&mut self) {
        assert!(!self.child.wait().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.lives();
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A world whose clock is the real one, as the binary's is, so that both agree about sessions.
async fn world_of_today(on: On) -> World {
    let world = World::with(Options { on, ..Options::default() }).await;
    world.clock.store(Clock::system().now().millis(), Ordering::SeqCst);
    // An operator, so that the binary makes no link for the first one.
    world.behind_its_back("UPDATE account SET operator = 1").await;
    world
}

/// Dying writes no file.
const WITHOUT_CORES: &str = "ulimit -c 0;";

/// What a script does, one after the other: each may be cut off and done again.
const SCRIPT: &[&str] = &["save", "test", "enable", "sign in", "change a role", "sign out"];

struct Actors {
    ada: Browser,
    mira: Browser,
    client: doorward_testkit::Client,
    issuer: String,
    base: String,
}

impl Actors {
    /// Whether the person saw it done. A connection that breaks ends the task with a panic.
    async fn act(&self, step: &str, draft: &str) -> bool {
        let settings = |rest: &str| format!("{}/organizations/acme/settings/sso{rest}", self.base);
        match step {
            "save" => {
                let fields = [
                    ("client_id", &*self.client.id),
                    ("client_secret", self.client.secret()),
                    ("issuer_url", &*self.issuer),
                ];
                self.ada.post(&settings("/oidc"), &fields).await.status == 200
            }
            "test" => {
                let page = self.ada.post(&settings("/test"), &[]).await;
                self.ada.follow_all(page).await.code().is_none()
            }
            "enable" => {
                let fields = [("revision", draft), ("enforcement", "enforced")];
                self.ada.post(&settings("/enable"), &fields).await.status == 200
            }
            "sign in" => {
                let page = self.mira.get(&format!("{}/organizations/acme/sso?next=/", self.base)).await;
                let page = self.mira.follow_all(page).await;
                let page =
                    if page.has_form("/sso") { self.mira.submit(page.form("/sso")).await } else { page };
                self.mira.follow_all(page).await.code().is_none()
            }
            "change a role" => {
                let members = format!("{}/organizations/acme/settings/members/role", self.base);
                self.ada.post(&members, &[("account", "mira"), ("role", "read")]).await.status == 303
            }
            "sign out" => self.mira.post(&format!("{}/logout", self.base), &[]).await.status == 303,
            step => panic!("{step}"),
        }
    }
}

/// Whether the step's effect is in the store.
async fn is_done(world: &World, step: &str) -> bool {
    let some = |n: i64| n > 0;
    match step {
        "save" => some(world.count("SELECT COUNT(*) AS n FROM revision").await),
        "test" => some(world.count("SELECT COUNT(*) AS n FROM revision_test WHERE outcome = 'passed'").await),
        "enable" => some(world.count("SELECT COUNT(*) AS n FROM connection WHERE live IS NOT NULL").await),
        "sign in" => {
            some(world.count("SELECT COUNT(*) AS n FROM identity i JOIN name n ON n.owner_id = i.account_id \
                              WHERE n.name_key = 'mira'").await)
        }
        "change a role" => some(world.count("SELECT COUNT(*) AS n FROM membership WHERE role = 'read' AND \
                                             organization_id IN (SELECT owner_id FROM name WHERE name_key = 'acme')").await),
        _ => world.count("SELECT COUNT(*) AS n FROM browser_session s JOIN name n ON n.owner_id = s.account_id \
                          WHERE n.name_key = 'mira'").await == 0,
    }
}

/// Before or after, never between: rows and events that one transaction writes are there together, or not at all.
async fn nothing_is_half(world: &World, when: &str) {
    let pairs: &[(&str, &str)] = &[
        (
            "SELECT COUNT(*) AS n FROM revision",
            "SELECT COUNT(*) AS n FROM audit_event WHERE action = 'org.settings.sso'",
        ),
        (
            "SELECT COUNT(*) AS n FROM connection WHERE live IS NOT NULL",
            "SELECT COUNT(*) AS n FROM audit_event WHERE action = 'org.settings.sso.enable'",
        ),
        (
            "SELECT COUNT(*) AS n FROM identity",
            "SELECT COUNT(*) AS n FROM audit_event WHERE action = 'org.sso_link'",
        ),
        (
            "SELECT COUNT(*) AS n FROM membership WHERE role = 'read' AND \
             organization_id IN (SELECT owner_id FROM name WHERE name_key = 'acme')",
            "SELECT COUNT(*) AS n FROM audit_event WHERE action = 'org.change_role'",
        ),
        (
            "SELECT COUNT(*) AS n FROM audit_event WHERE scope <> 'system'",
            "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n FROM audit_sequence WHERE scope <> 'system'",
        ),
    ];
    for (rows, events) in pairs {
        assert_eq!(world.count(rows).await, world.count(events).await, "{when}: {rows}");
    }
    // Nobody is half signed in: a session for single sign-on belongs to a linked identity.
    let half = "SELECT COUNT(*) AS n FROM sso_session s JOIN browser_session b ON b.id = s.session_id \
                WHERE NOT EXISTS (SELECT 1 FROM identity i WHERE i.account_id = b.account_id)";
    assert_eq!(world.count(half).await, 0, "{when}");
    let (code, output, errors) = world.command("audit verify --all");
    assert_eq!(code, 0, "{when}: {output}{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_a_process_that_dies_at_any_statement_leaves_before_or_after_and_never_between() {
    for on in On::all() {
        let world = world_of_today(on).await;
        let mut served = Served::start(&world, WITHOUT_CORES);
        let client = world.idp.new_client(&format!("{}/organizations/acme/oidc/consume", served.base));
        let actors = Arc::new(Actors {
            ada: world.browser_of("ada").await,
            mira: world.browser_of("mira").await,
            client,
            issuer: world.idp.issuer(),
            base: served.base.clone(),
        });
        let mut deaths = 0;
        let mut acknowledged: Vec<&str> = Vec::new();
        for &step in SCRIPT {
            world.idp.signs_in(if step == "sign in" { "mira" } else { "ada" });
            for n in 1.. {
                served.dies_at(n);
                let draft = world.draft("acme").await;
                let act = Arc::clone(&actors);
                let seen = tokio::spawn(async move { act.act(step, &draft).await }).await;
                let when = format!("{on:?}, {step}, statement {n}");
                let Err(cut_off) = seen else {
                    served.lives();
                    let histories = || format!("{}{}", actors.ada.history(), actors.mira.history());
                    assert!(matches!(seen, Ok(true)), "{when}: {}", histories());
                    acknowledged.push(step);
                    break;
                };
                let told = cut_off.into_panic();
                let told = told.downcast_ref::<String>().map_or("", |told| &**told);
                // Cut off in the middle, or before it could begin.
                let is_cut_off =
                    ["onnection", "operation was canceled"].iter().any(|words| told.contains(words));
                assert!(is_cut_off, "{when}: {told}");
                served.ends();
                served.lives();
                deaths += 1;
                nothing_is_half(&world, &when).await;
                for done in &acknowledged {
                    assert!(is_done(&world, done).await, "{when}: {done} was acknowledged");
                }
                served = Served::start_on(&world, WITHOUT_CORES, served.ports);
                // Nobody gets in by mistake.
                let stranger = Browser::new().get(&format!("{}/acme/secret", served.hub)).await;
                assert_eq!(stranger.status, 302, "{when}");
                if is_done(&world, step).await && matches!(step, "sign out" | "change a role" | "enable") {
                    // It was done before the end, and once is enough.
                    acknowledged.push(step);
                    break;
                }
                assert!(n < 60, "{when}: it never ends");
            }
            nothing_is_half(&world, step).await;
        }
        assert!(deaths > 30, "{on:?}: only {deaths} deaths");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_full_disk_refuses_writes_cleanly_and_the_gate_goes_on_until_there_is_room() {
    let world = world_of_today(On::Sqlite).await;
    let (ada, mira) = (world.browser_of("ada").await, world.browser_of("mira").await);
    let size = |name: &str| std::fs::metadata(world.folder().join(name)).map_or(0, |file| file.len());
    // In blocks of 512 bytes: what is there, and some more. Ignoring the signal makes writes fail as on a full disk.
    let blocks = size("doorward.db").max(size("doorward.db-wal")) / 512 + 400;
    let served = Served::start(&world, &format!("trap '' XFSZ; ulimit -S -f {blocks};"));
    assert_eq!(save(&ada, &served.base, "Before").await.status, 303);
    let secret = format!("{}/acme/secret", served.hub);
    assert_eq!(mira.visit(&secret).await.status, 200, "{}", mira.history());

    let mut saved = 1;
    let refused = loop {
        let page = save(&ada, &served.base, &format!("{saved} {}", "x".repeat(50))).await;
        if page.status != 303 {
            break page;
        }
        saved += 1;
        assert!(saved < 2000, "the disk is never full");
    };
    says_come_back(&refused);
    assert_eq!(mira.get(&secret).await.status, 200, "the gate goes on");
    assert_eq!(Browser::new().get(&secret).await.status, 302, "and lets nobody in by mistake");
    assert!(is_ready(&served.base).await);
    assert_eq!(world.audit("acme").await.len(), saved, "what was acknowledged is there, and nothing else");

    let pid = served.child.id().to_string();
    let room = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
    assert!(room.success());
    assert_eq!(save(&ada, &served.base, "After").await.status, 303);
    assert_eq!(world.audit("acme").await.len(), saved + 1);
    let (code, output, _) = world.command("audit verify --all");
    assert_eq!(code, 0, "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_on_a_read_only_file_system_serve_refuses_to_start_and_says_why() {
    let world = world_of_today(On::Sqlite).await;
    let folder = world.folder().path().display().to_string();
    let file = world.folder().join("served.toml");
    drop(Served::start(&world, ""));
    // In a mount namespace of its own, so that nobody else sees the mount; what may not mount can't try this.
    let mount = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let may = Command::new("unshare").args(["--mount", "sh", "-c", mount, "sh", &folder]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return;
    }
    let line = format!("{mount} && exec \"$0\" --config \"$2\" serve");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &line, env!("CARGO_BIN_EXE_doorward"), &folder])
        .arg(&file)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("store.unreachable") && told.contains("readonly"), "{told}");
    let (code, output, _) = world.command("audit verify --all");
    assert_eq!(code, 0, "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_without_memory_nobody_is_let_in_by_mistake_and_a_new_start_finds_everything() {
    // What it uses may not grow: the first password, 19 MiB, is too much.
    let is_refused = without_memory("VmData:", "data").await;
    assert!(is_refused, "there was enough memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_where_no_thread_can_be_had_people_sign_in_all_the_same() {
    // Its address space may not grow, so no thread finds a place for its stack. What it has reserved is enough for all else.
    without_memory("VmSize:", "as").await;
}

/// People sign in, and those who may not come in ask meanwhile, at a process that has no more than it `has` of what
/// `limit` of prlimit stands for. Whether a sign-in was refused or cut off.
async fn without_memory(has: &str, limit: &str) -> bool {
    let world = world_of_today(On::Sqlite).await;
    let password = "correct horse battery 7";
    let hash = world.app.passwords.hash(Secret::new(password.to_owned()), &world.app.random).await.unwrap();
    let ben = world.account("ben").await;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(ben, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
    let (ada, eve) = (world.browser_of("ada").await, world.browser_of("eve").await);
    let mut served = Served::start(&world, WITHOUT_CORES);
    let secret = format!("{}/acme/secret", served.hub);
    assert_eq!(ada.visit(&secret).await.status, 200, "{}", ada.history());
    assert_eq!(eve.visit(&secret).await.status, 403, "{}", eve.history());
    assert_eq!(save(&ada, &served.base, "Before").await.status, 303);
    let pid = served.child.id().to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix(has)).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let may_have = |bytes: &str| {
        let limit = format!("--{limit}={bytes}:");
        Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success()
    };
    assert!(may_have(&(size * 1024).to_string()));

    let login = format!("{}/login", served.base);
    let sign_in = async || {
        let (login, password) = (login.clone(), password.to_owned());
        let signed_in =
            async move { Browser::new().post(&login, &[("username", "ben"), ("password", &password)]).await };
        tokio::spawn(async move { signed_in.await.status.as_u16() }).await
    };
    let pressure = async {
        let (a, b, c) = tokio::join!(sign_in(), sign_in(), sign_in());
        [a, b, c]
    };
    let mut pressure = std::pin::pin!(pressure);
    let mut cut_off = 0;
    let signed_in = loop {
        let (eve, secret) = (eve.clone(), secret.clone());
        let strangers = tokio::spawn(async move {
            [Browser::new().get(&secret).await.status.as_u16(), eve.get(&secret).await.status.as_u16()]
        });
        match strangers.await {
            Ok(statuses) => assert!(!statuses.contains(&200), "let in by mistake: {statuses:?}"),
            // The test's browser panics when it is hung up on.
            Err(_) => cut_off += 1,
        }
        tokio::select! {
            biased;
            signed_in = &mut pressure => break signed_in,
            () = tokio::task::yield_now() => {}
        }
    };
    let ended = served.child.try_wait().unwrap();
    assert!(
        !signed_in.iter().any(|status| matches!(status, Ok(422))),
        "a good password is not called wrong: {signed_in:?}"
    );
    match ended {
        Some(status) => {
            assert!(!status.success());
            served = Served::start_on(&world, WITHOUT_CORES, served.ports);
        }
        None => {
            assert!(may_have("unlimited"));
            assert_eq!(cut_off, 0, "it lives, so it answered");
        }
    }
    // Everything is as it was, and whoever may comes in.
    assert!(matches!(sign_in().await, Ok(303)), "nobody can sign in any more");
    assert_eq!(ada.get(&secret).await.status, 200, "{}", ada.history());
    assert_eq!(eve.get(&secret).await.status, 403, "{}", eve.history());
    assert_eq!(Browser::new().get(&secret).await.status, 302);
    assert_eq!(save(&ada, &served.base, "After").await.status, 303);
    assert_eq!(world.audit("acme").await.len(), 2, "what was acknowledged is there");
    let (code, output, _) = world.command("audit verify --all");
    assert_eq!(code, 0, "{output}");
    signed_in.iter().any(|status| !matches!(status, Ok(303)))
}
