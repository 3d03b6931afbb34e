//! What runs through the built-in proxy when the right to it ends: a WebSocket, an event stream and a download, over
//! HTTP/1.1 and HTTP/2, at the node where it ends and at another one (issue 5, line 8; conformance.md V29).
#![allow(clippy::disallowed_methods, reason = "the test is the client")]

use axum::Router;
use bytes::Bytes;
use doorward::app::SharedApp;
use doorward::connections::{Admission, Limits, accept, door};
use doorward::metrics::{ConnectionFigures, ListenerKind};
use doorward::store::{Change, Plan};
use doorward::tls::ServingTls;
use doorward_core::connection::Enforcement;
use doorward_core::ids::RevisionNumber;
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::Browser;
use http::Method;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::harness::{On, Options, World};
use crate::lessons::another_node;
use crate::serving::{certificates, client_settings};

const PASSWORD: &str = "three quiet lanterns";
const ANOTHER: &str = "seven green umbrellas";

/// One more way to a Doorward: a listener of its own in front of a node's pages, over TLS with HTTP/2 or plain.
struct Door {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Door {
    async fn of(router: Router, tls: bool) -> Self {
        let files = doorward::configuration::Tls {
            certificate_file: certificates().join("one.pem"),
            key_file: certificates().join("one.key.pem"),
        };
        let now = doorward::clock::Clock::system().now();
        let tls = tls.then(|| Arc::new(ServingTls::open(files, vec!["localhost".to_owned()], now).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let clock = doorward::clock::Clock::system();
        let admission = Admission::new(Limits::main(1 << 16), &[], clock, ConnectionFigures::default());
        tokio::spawn(accept(listener, tls, door(router), admission, stopping));
        Self { address, _stop: stop }
    }
}

/// Where something runs that asks for membership and single sign-on.
const PRIVATE: &str = "/acme/secret";
/// Where something runs that is open to everybody, and told who it is that asks.
const PUBLIC: &str = "/acme/website/running";

/// Where something runs that belongs to no organization.
const UNOWNED: &str = "/static/running";

/// Two nodes, each with a way over HTTP/1.1 and one over HTTP/2, and somebody whose single sign-on is complete.
struct Stage {
    world: World,
    ada: Browser,
    mira: Browser,
    /// What each is called in a test's words, where it is, and whether it speaks HTTP/2.
    doors: Vec<(&'static str, Door, bool)>,
    _other: SharedApp,
    _follow: watch::Sender<bool>,
}

impl Stage {
    async fn on(on: On, deed: &str) -> Self {
        let world = World::with(Options { on, ..Options::default() }).await;
        if deed == "a new password, in another browser" {
            let hash = world.app.passwords.hash(Secret::new(PASSWORD.to_owned()), &world.app.random);
            let hash = hash.await.unwrap();
            let account = world.account("mira").await;
            let mut tx = world.app.store.begin().await.unwrap();
            tx.update_password(account, &hash, None).await.unwrap();
            tx.commit(world.app.clock.now()).await.unwrap();
        }
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        assert_eq!(page.status, 200, "{}", mira.history());

        let (other, router) = another_node(&world).await;
        let (follow, stopping) = watch::channel(false);
        let store = other.store.clone();
        tokio::spawn(store.follow_changes(other.clock.clone(), Duration::from_millis(250), stopping));
        let own = doorward::web::router(&world.app);
        let doors = vec![
            ("this node, HTTP/1.1", Door::of(own.clone(), false).await, false),
            ("this node, HTTP/2", Door::of(own, true).await, true),
            ("another node, HTTP/1.1", Door::of(router.clone(), false).await, false),
            ("another node, HTTP/2", Door::of(router, true).await, true),
        ];
        Self { world, ada, mira, doors, _other: other, _follow: follow }
    }

    /// Begins everything that can run below `place`, in mira's name; each has had something from the application.
    async fn begin(&self, place: &str, method: &Method) -> Vec<(String, Running)> {
        let cookie = self.mira.cookie("hub.localhost", "doorward-app").unwrap();
        let host = self.world.hub.trim_start_matches("http://");
        let mut running = Vec::new();
        for (name, door, http2) in &self.doors {
            for kind in ["socket", "events", "download"] {
                let path = format!("{place}/{kind}");
                let one = match (kind, http2) {
                    ("socket", true) => continue,
                    ("socket", false) if method != Method::GET => continue,
                    (_, true) => Running::http2(door.address, method, host, &path, &cookie).await,
                    (_, false) => Running::http1(door.address, method, host, &path, &cookie).await,
                };
                running.push((format!("{name}, {kind}, {method}"), one));
            }
        }
        running
    }
}

/// What comes from the application for one request.
enum Running {
    One(Box<dyn AsyncRead + Send + Unpin>),
    Two { body: Box<hyper::body::Incoming>, _sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>> },
}

impl Running {
    async fn http1(address: SocketAddr, method: &Method, host: &str, path: &str, cookie: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n";
        let is_socket = path.ends_with("/socket");
        let more = if is_socket { upgrade } else { "Content-Length: 0\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: doorward-app={cookie}\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(&answer[9..12], if is_socket { "101" } else { "200" }, "{answer}");
        if is_socket {
            stream.write_all(b"hello").await.unwrap();
        }
        stream.read_exact(&mut [0; 5]).await.unwrap();
        // The writing half stays open too, else it would be the client who ends.
        Self::One(Box::new(stream))
    }

    async fn http2(address: SocketAddr, method: &Method, host: &str, path: &str, cookie: &str) -> Self {
        let mut settings = client_settings(&[&rustls::version::TLS13]);
        settings.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(settings)).connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://{host}{path}"))
            .header("cookie", format!("doorward-app={cookie}"));
        let answer = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        let mut body = answer.into_body();
        body.frame().await.unwrap().unwrap();
        Self::Two { body: Box::new(body), _sender: sender }
    }

    /// Whether more comes; `false` when it has ended.
    async fn goes_on(&mut self) -> bool {
        match self {
            Self::One(stream) => stream.read(&mut vec![0; 64 * 1024]).await.is_ok_and(|read| read > 0),
            Self::Two { body, .. } => body.frame().await.is_some_and(|frame| frame.is_ok()),
        }
    }

    async fn ends(&mut self) {
        while self.goes_on().await {}
    }
}

/// Ends mira's right to acme's pages in one of the ways there are.
async fn end_it(stage: &Stage, deed: &str) {
    let Stage { world, ada, mira, .. } = stage;
    let members = format!("{}/organizations/acme/settings/members", world.base);
    let acme = world.organization("acme").await;
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    match deed {
        "signing out" => {
            drop(tx);
            mira.post(&format!("{}/logout", world.base), &[]).await;
        }
        "a new password, in another browser" => {
            drop(tx);
            let elsewhere = world.browser_of("mira").await;
            let fields = [("current_password", PASSWORD), ("new_password", ANOTHER)];
            let page = elsewhere.post(&format!("{}/settings/account/password", world.base), &fields).await;
            assert_eq!(page.status, 303, "{}", page.text());
        }
        "removal" => {
            drop(tx);
            ada.post(&format!("{members}/remove"), &[("account", "mira")]).await;
            assert_eq!(world.count("SELECT COUNT(*) AS n FROM membership").await, 3);
        }
        "a role without access" => {
            drop(tx);
            ada.post(&format!("{members}/role"), &[("account", "mira"), ("role", "no_access")]).await;
        }
        "a role that may only read" => {
            drop(tx);
            world.set_role("acme", "mira", Role::Read).await;
        }
        "the time-out" => {
            drop(tx);
            world.pass(Lifetime::from_hours(169));
        }
        "a shorter time-out" => {
            // She signed in two hours ago.
            drop(tx);
            world.pass(Lifetime::from_hours(2));
            let mut tx = world.app.store.begin().await.unwrap();
            tx.update_session_timeout(&acme, Lifetime::from_hours(1)).await.unwrap();
            tx.commit(world.app.clock.now()).await.unwrap();
        }
        "a new live issuer" => {
            let (live, enforced) = (RevisionNumber(1), Enforcement::Enforced);
            assert!(tx.enable_revision(&acme, live, Some(live), enforced, true).await.unwrap());
            tx.commit(now).await.unwrap();
        }
        "a deleted organization" => {
            drop(tx);
            world.behind_its_back("UPDATE organization SET deleted_at = 1 WHERE name_key = 'acme'").await;
            let mut tx = world.app.store.begin().await.unwrap();
            tx.changed(Change::Organization("acme".to_owned()));
            tx.commit(now).await.unwrap();
        }
        // What follows ends nobody's right.
        "disabling single sign-on" => {
            assert!(tx.disable_connection(&acme).await.unwrap().is_some());
            tx.commit(now).await.unwrap();
        }
        "a higher role" => {
            drop(tx);
            world.set_role("acme", "mira", Role::Admin).await;
        }
        "a lapsed plan" => {
            tx.update_plan(&acme, Plan::Free).await.unwrap();
            tx.commit(now).await.unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v29_whatever_runs_ends_when_the_right_to_it_does_at_every_node_over_both_protocols() {
    for on in On::all() {
        for (deed, place, method) in [
            ("signing out", PRIVATE, Method::GET),
            ("a new password, in another browser", PRIVATE, Method::GET),
            ("removal", PRIVATE, Method::GET),
            ("a role without access", PRIVATE, Method::GET),
            ("a role that may only read", PRIVATE, Method::POST),
            ("the time-out", PRIVATE, Method::GET),
            ("a shorter time-out", PRIVATE, Method::GET),
            ("a new live issuer", PRIVATE, Method::GET),
            ("a deleted organization", PRIVATE, Method::GET),
            // The request would still be let through, but in another's name, or with a lower role: what the application
            // was told when it began is not so any more.
            ("a role that may only read", PRIVATE, Method::GET),
            ("signing out", PUBLIC, Method::GET),
            ("removal", PUBLIC, Method::GET),
            ("a role that may only read", PUBLIC, Method::GET),
            ("the time-out", PUBLIC, Method::GET),
            ("signing out", UNOWNED, Method::GET),
        ] {
            let stage = Stage::on(on, deed).await;
            let mut running = stage.begin(place, &method).await;
            assert_eq!(running.len(), if method == Method::GET { 10 } else { 8 });
            end_it(&stage, deed).await;
            for (name, one) in &mut running {
                let ended = tokio::time::timeout(Duration::from_secs(30), one.ends()).await;
                assert!(ended.is_ok(), "{on:?}, {deed}, {place}: {name} goes on");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_nobodys_right_away_ends_nothing() {
    for on in On::all() {
        for (deed, place) in [
            ("disabling single sign-on", PRIVATE),
            ("a lapsed plan", PRIVATE),
            ("a higher role", PRIVATE),
            ("disabling single sign-on", PUBLIC),
        ] {
            let stage = Stage::on(on, deed).await;
            let mut running = stage.begin(place, &Method::GET).await;
            end_it(&stage, deed).await;
            // A piece comes every few milliseconds, and a look is taken twice a second: this is several looks long.
            for (name, one) in running.iter_mut().filter(|(name, _)| name.contains("download")) {
                for _ in 0..200 {
                    assert!(one.goes_on().await, "{on:?}, {deed}, {place}: {name} has ended");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_tell_how_many_connections_are_open() {
    let world = World::new().await;
    let figures = || world.app.metrics.to_text();
    let open = |listener: &str, n: u32| format!("doorward_connections{{listener=\"{listener}\"}} {n}\n");
    assert!(figures().contains(&open("main", 0)), "{}", figures());
    let address = world.base.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let held = [TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap()];
    while !figures().contains(&open("main", 2)) {
        tokio::task::yield_now().await;
    }
    drop(held);
    while !figures().contains(&open("main", 0)) {
        tokio::task::yield_now().await;
    }
    world.app.metrics.connections(ListenerKind::Gate).refused();
    assert!(
        figures().contains("doorward_connections_refused_total{listener=\"gate\",reason=\"address\"} 1\n")
    );
}
