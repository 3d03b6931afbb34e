//! Listeners and life cycle: bind, serve until told to stop, stop gracefully.
//!
//! In: the configuration's addresses, one router for each listener. Out: nothing, when all is over.
//! Never here: what is served. Body limits are the routers' business; the limits on heads and connections are here.

use crate::app::SharedApp;
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::logging::{RequestLog, log_request};
use crate::metrics;
use crate::opening::open_app;
use crate::random::Random;
use crate::store::Store;
use crate::web::pages::sign_in::make_operator_link;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use doorward_core::error_code::ErrorCode;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// How long requests may go on after the first signal to stop.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Largest head of a request, request line and headers, in bytes. hyper's own limit of 100 headers holds too.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most connections at once on one listener; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;

/// How long the next head may take on the main listener, from the moment the connection is idle. Longer than the 60 s
/// for which nginx keeps an idle connection to us, so that it is never we who close while nginx sends.
const MAIN_HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The same on the gate's listener, where only proxies connect and a lost question is a failed request: longer than
/// the two minutes of Caddy.
const GATE_HEAD_TIMEOUT: Duration = Duration::from_mins(3);

/// How often changes are read (rule 16: at least every 500 ms).
const CHANGES_EVERY: Duration = Duration::from_millis(250);

/// How often old rows are deleted, a batch of each kind at a time.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(30);

/// What others make for the listeners.
pub struct Built {
    /// Pages, health, built-in proxy: `web::router`.
    pub main: Router,
    /// The adapters of the gate: `gate::door`.
    pub gate: Door,
}

/// Answers the requests of one listener, each with the address of the other end of its connection.
pub type Door =
    Arc<dyn Fn(Request<Incoming>, SocketAddr) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A router as a door: its handlers find the other end as axum's `ConnectInfo<SocketAddr>`.
fn door(router: Router) -> Door {
    Arc::new(move |mut request, peer| {
        request.extensions_mut().insert(ConnectInfo(peer));
        Box::pin(router.clone().oneshot(request).map(|answer| answer.unwrap_or_else(|never| match never {})))
    })
}

/// Serves until told to stop by SIGTERM or SIGINT. Whatever keeps it from starting is told at once.
///
/// `build` makes the pages and the gate; figures, request ids and the log are added here.
pub async fn serve(
    configuration: Configuration,
    clock: Clock,
    random: Random,
    build: impl FnOnce(&SharedApp) -> Built,
) -> Result<Stopped, Vec<Failure>> {
    let (app, listeners) = open(configuration, clock, random).await?;
    let signals = signals().map_err(|error| vec![Failure::from(error)])?;

    let (stop, stopping) = watch::channel(false);
    let mut background = JoinSet::new();
    background.spawn(app.store.clone().follow_changes(app.clock.clone(), CHANGES_EVERY, stopping));
    background.spawn(clean_up(app.store.clone(), app.clock.clone()));

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        base_url = %app.configuration.base_url,
        listen = %shown(listeners.main_address().ok()),
        gate = %shown(listeners.gate_address().ok()),
        metrics = %shown(listeners.metrics_address()),
        database = app.configuration.database.kind(),
        configuration = %app.configuration.fingerprint(),
        "serving"
    );
    announce_first_operator(&app).await?;
    app.assertions.prepare(&app, app.clock.now()).await.map_err(Failure::from)?;
    let routers = assemble(&app, build(&app));
    let stopped = run(listeners, routers, signals).await;
    stop.send_replace(true);
    Ok(stopped)
}

/// While there is no operator, each start makes a link for the first one. It goes to the terminal (or the service
/// manager's journal) alone, past the log, whose lines are collected and kept elsewhere (rule 6).
async fn announce_first_operator(app: &SharedApp) -> Result<(), Failure> {
    if let Some(link) = make_operator_link(app).await? {
        let words = format!(
            "There is no operator yet. Whoever opens this link within 24 hours makes the first account:\n{link}\n"
        );
        io::Write::write_all(&mut io::stderr(), words.as_bytes())?;
    }
    Ok(())
}

/// Opens and binds everything, or tells everything that can't be.
async fn open(
    configuration: Configuration,
    clock: Clock,
    random: Random,
) -> Result<(SharedApp, Listeners), Vec<Failure>> {
    let mut failures = Vec::new();
    if configuration.tls.is_some() {
        failures.push(Failure::new(
            ErrorCode::ConfigurationNotBuilt,
            "[tls]: serving https from certificate files is not built yet",
            "Remove [tls] and let a proxy in front serve https.",
        ));
    }
    // The first use of the generator waits until the system has gathered enough; nobody else shall wait for it.
    if let Err(error) = random.bytes::<32>() {
        failures.push(error.into());
    }
    let (listeners, own) = match Listeners::bind(&configuration).await {
        Ok(listeners) => {
            let own = listeners.addresses();
            (Some(listeners), own)
        }
        Err(told) => {
            failures.extend(told.into_iter().map(Failure::from));
            (None, Vec::new())
        }
    };
    match open_app(configuration, clock, random, own).await {
        Ok(app) if failures.is_empty() => listeners.map(|listeners| (app, listeners)).ok_or(failures),
        Ok(_) => Err(failures),
        Err(failure) => {
            failures.push(failure);
            Err(failures)
        }
    }
}

/// Puts figures, request ids and the log around what was built; the gate has its own.
pub fn assemble(app: &SharedApp, built: Built) -> Routers {
    let log = RequestLog {
        random: app.random.clone(),
        clock: app.clock.clone(),
        trusted_proxies: Arc::from(app.configuration.trusted_proxies.as_slice()),
    };
    let asked = Arc::clone(app);
    let is_stale = move || !asked.store.facts().is_trusted(asked.clock.now());
    Routers {
        main: built.main.layer(axum::middleware::from_fn_with_state(log, log_request)),
        gate: built.gate,
        metrics: metrics::router(Arc::clone(&app.metrics), is_stale),
    }
}

/// Deletes old rows now and then, for as long as the process lives.
async fn clean_up(store: Store, clock: Clock) {
    let mut ticks = tokio::time::interval(CLEAN_UP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(back) = clock.set_back_by() {
            tracing::error!(
                seconds = back.seconds(),
                "the system's clock was set back; time goes on here as before, so that nothing expired comes alive \
                 again: restart this node once the clock is right"
            );
        }
        match store.clean_up(clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "old rows were deleted"),
            Err(error) => tracing::warn!(%error, "old rows could not be deleted"),
        }
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

/// What serves on each listener.
pub struct Routers {
    /// Pages, API, health, built-in proxy.
    pub main: Router,
    /// The adapters of the gate (rule 15: nothing else).
    pub gate: Door,
    /// `/metrics`.
    pub metrics: Router,
}

/// The bound listeners.
#[derive(Debug)]
pub struct Listeners {
    main: TcpListener,
    gate: TcpListener,
    metrics: Option<TcpListener>,
}

/// An address that can't be listened on.
#[derive(Debug)]
pub struct CannotListen {
    /// The configuration's key.
    pub key: &'static str,
    /// Its address.
    pub address: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
}

impl CannotListen {
    /// What to do.
    pub fn remedy(&self) -> String {
        let key = self.key;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!("Another program listens there, perhaps another doorward: stop it, or change {key}.")
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "Ports below 1024 need a privilege: choose a higher port for {key}, with a proxy in front."
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("This machine has no such address: set {key} to one it has, or to 0.0.0.0 for all.")
            }
            _ => format!("Correct {key}."),
        }
    }
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: can't listen on {}: {}", self.key, self.address, self.source)
    }
}

impl std::error::Error for CannotListen {}

impl Listeners {
    /// Binds every address of the configuration, or tells each that can't be bound.
    pub async fn bind(configuration: &Configuration) -> Result<Self, Vec<CannotListen>> {
        let main = bind("listen", configuration.listen).await;
        let gate = bind("gate.listen", configuration.gate_listen).await;
        let metrics = match configuration.metrics_listen {
            Some(address) => bind("metrics_listen", address).await.map(Some),
            None => Ok(None),
        };
        match (main, gate, metrics) {
            (Ok(main), Ok(gate), Ok(metrics)) => Ok(Self { main, gate, metrics }),
            (main, gate, metrics) => {
                Err([main.err(), gate.err(), metrics.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Where the main listener is, with the port that the system chose for port 0.
    pub fn main_address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// Where the gate's listener is.
    pub fn gate_address(&self) -> io::Result<SocketAddr> {
        self.gate.local_addr()
    }

    /// All addresses that are bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let all = [self.main_address().ok(), self.gate_address().ok(), self.metrics_address()];
        all.into_iter().flatten().collect()
    }

    /// Where the metrics listener is, if there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, CannotListen> {
    TcpListener::bind(address).await.map_err(|source| CannotListen { key, address, source })
}

/// How the serving ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// Every request that had begun was answered.
    Finished,
    /// Some were cut off after 30 s or at the second signal.
    CutOff,
}

/// Serves until the first message on `signals`; then accepts nothing more and gives requests 30 s to end. The second
/// message cuts them off at once.
pub async fn run(listeners: Listeners, routers: Routers, signals: mpsc::Receiver<()>) -> Stopped {
    run_with_grace(listeners, routers, signals, STOP_GRACE).await
}

async fn run_with_grace(
    listeners: Listeners,
    routers: Routers,
    mut signals: mpsc::Receiver<()>,
    grace: Duration,
) -> Stopped {
    let (stop, stopping) = watch::channel(false);
    let mut doors = JoinSet::new();
    doors.spawn(accept(listeners.main, door(routers.main), MAIN_HEAD_TIMEOUT, stopping.clone()));
    doors.spawn(accept(listeners.gate, routers.gate, GATE_HEAD_TIMEOUT, stopping.clone()));
    if let Some(metrics) = listeners.metrics {
        doors.spawn(accept(metrics, door(routers.metrics), MAIN_HEAD_TIMEOUT, stopping));
    }

    signals.recv().await;
    tracing::info!("stopping: nothing new is accepted, requests have 30 seconds to end");
    stop.send_replace(true);
    let all_ended = async { while doors.join_next().await.is_some() {} };
    let stopped = tokio::select! {
        () = all_ended => Stopped::Finished,
        () = tokio::time::sleep(grace) => Stopped::CutOff,
        Some(()) = signals.recv() => Stopped::CutOff,
    };
    match stopped {
        Stopped::Finished => tracing::info!("stopped"),
        Stopped::CutOff => tracing::warn!("stopped; requests that had not ended were cut off"),
    }
    // Dropping the set ends what is left in it.
    stopped
}

/// Accepts connections until told to stop, then waits for those that are there.
async fn accept(
    listener: TcpListener,
    door: Door,
    head_timeout: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve_connection(stream, peer, Arc::clone(&door), head_timeout, stopping.clone()));
                }
                Err(error) => {
                    // A connection that broke before we saw it, or no file descriptor left: give others time to close.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves the requests of one connection, one after the other, upgrades included.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    head_timeout: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let service = service_fn(move |request| door(request, peer).map(Ok::<_, Infallible>));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Ends when the stop has been announced, or whoever would announce it is gone.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// One message for each SIGTERM or SIGINT. SIGHUP is taken and does nothing, because there is nothing to read again.
pub fn signals() -> io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let stop = tokio::select! {
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                _ = hangup.recv() => false,
            };
            if stop && sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    fn on_free_ports() -> Configuration {
        let text =
            "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n[gate]\nlisten = \"127.0.0.1:0\"\n";
        Configuration::parse(None, text, []).unwrap()
    }

    fn routers(main: Router) -> Routers {
        Routers { main, gate: door(Router::new()), metrics: Router::new() }
    }

    /// Sends `head` and reads until the other end closes.
    async fn exchange(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses early may reset the connection; what came before counts.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A server whose one page says that it was reached and waits until it is told to answer.
    struct Waiting {
        reached: Arc<Notify>,
        answer: Arc<Notify>,
        address: SocketAddr,
        signals: mpsc::Sender<()>,
        ended: tokio::task::JoinHandle<Stopped>,
    }

    async fn waiting(grace: Duration) -> Waiting {
        let (reached, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (said, wait) = (Arc::clone(&reached), Arc::clone(&answer));
        let page = get(move || async move {
            said.notify_one();
            wait.notified().await;
            "late"
        });
        let listeners = Listeners::bind(&on_free_ports()).await.unwrap();
        let address = listeners.main_address().unwrap();
        let (signals, receiver) = mpsc::channel(2);
        let routers = routers(Router::new().route("/", page));
        let ended = tokio::spawn(run_with_grace(listeners, routers, receiver, grace));
        Waiting { reached, answer, address, signals, ended }
    }

    #[tokio::test]
    async fn a_request_that_has_begun_is_answered_after_the_signal_and_nothing_new_is_accepted() {
        let server = waiting(STOP_GRACE).await;
        let request = tokio::spawn(exchange(server.address, GET));
        server.reached.notified().await;
        server.signals.send(()).await.unwrap();
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        server.answer.notify_one();
        assert!(request.await.unwrap().ends_with("late"));
        assert_eq!(server.ended.await.unwrap(), Stopped::Finished);
    }

    #[tokio::test]
    async fn the_second_signal_cuts_off_at_once() {
        let server = waiting(STOP_GRACE).await;
        let request = tokio::spawn(exchange(server.address, GET));
        server.reached.notified().await;
        server.signals.send(()).await.unwrap();
        server.signals.send(()).await.unwrap();
        assert_eq!(server.ended.await.unwrap(), Stopped::CutOff);
        assert_eq!(request.await.unwrap(), "");
    }

    #[tokio::test]
    async fn when_the_time_is_over_what_is_left_is_cut_off() {
        let server = waiting(Duration::ZERO).await;
        let request = tokio::spawn(exchange(server.address, GET));
        server.reached.notified().await;
        server.signals.send(()).await.unwrap();
        assert_eq!(server.ended.await.unwrap(), Stopped::CutOff);
        assert_eq!(request.await.unwrap(), "");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_stop() {
        let server = waiting(STOP_GRACE).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        server.answer.notify_one();
        idle.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4];
        idle.read_exact(&mut answer).await.unwrap();
        server.signals.send(()).await.unwrap();
        assert_eq!(server.ended.await.unwrap(), Stopped::Finished);
    }

    #[tokio::test]
    async fn a_handler_knows_the_other_end() {
        let listeners = Listeners::bind(&on_free_ports()).await.unwrap();
        let address = listeners.main_address().unwrap();
        let page = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() });
        let (signals, receiver) = mpsc::channel(2);
        let ended = tokio::spawn(run(listeners, routers(Router::new().route("/", page)), receiver));
        let answer = exchange(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
        signals.send(()).await.unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_or_has_too_many_headers_is_431() {
        let listeners = Listeners::bind(&on_free_ports()).await.unwrap();
        let address = listeners.main_address().unwrap();
        let (_signals, receiver) = mpsc::channel(2);
        let server = tokio::spawn(run(listeners, routers(Router::new()), receiver));
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert!(exchange(address, &large).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
        assert!(exchange(address, &many).await.starts_with("HTTP/1.1 431"));
        server.abort();
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let server = tokio::spawn(accept(listener, door(Router::new()), Duration::from_millis(20), stopping));
        let answer = exchange(address, "GET / HTTP/1.1\r\nHost:").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn every_address_that_can_not_be_bound_is_told_at_once() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
        let text = format!("listen = \"{}\"\n[gate]\nlisten = \"192.0.2.1:1\"\n", taken.1);
        let configuration = Configuration::parse(None, &text, []).unwrap();
        let told = Listeners::bind(&configuration).await.unwrap_err();
        assert_eq!(told.iter().map(|one| one.key).collect::<Vec<_>>(), ["listen", "gate.listen"]);
        assert!(told[0].remedy().contains("Another program"), "{told:?}");
        assert!(told[1].remedy().contains("no such address"), "{told:?}");
    }
}
