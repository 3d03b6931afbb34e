//! Listeners and life cycle: bind, serve until told to stop, stop gracefully.
//!
//! In: the configuration's addresses, one router for each listener. Out: nothing, when all is over.
//! Never here: what is served. Limits on connections and heads are in `connections.rs`, those on bodies in `web/`.

use crate::app::SharedApp;
use crate::clock::Clock;
use crate::configuration::Configuration;
pub use crate::connections::Door;
use crate::connections::{Admission, Limits, accept, descriptors, door};
use crate::failure::Failure;
use crate::logging::{RequestLog, logged};
use crate::metrics::{self, ListenerKind, Metrics};
use crate::opening::{check_paths, open_app};
use crate::random::Random;
use crate::store::{Store, StoreError};
use crate::tls::{Expiry, ServingTls, in_words, served_names};
use crate::web::Answers;
use crate::web::pages::sign_in::make_operator_link;
use axum::Router;
use axum::body::Body;
use http_body::Body as _;
use ipnet::IpNet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long requests may go on after the first signal to stop.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// How often changes are read (rule 16: at least every 500 ms).
pub(crate) const CHANGES_EVERY: Duration = Duration::from_millis(250);

/// How often it is looked which master key seals: far more often than `key rotate --drop-old` waits (a minute).
const LOOK_AT_KEYS_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether the certificate runs out.
const LOOK_AT_CERTIFICATE_EVERY: Duration = Duration::from_hours(1);

/// How often old rows are deleted, a batch of each kind at a time.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(30);

/// What others make for the listeners.
pub struct Built {
    /// Pages, health, built-in proxy: `web::answers`.
    pub main: Answers,
    /// The adapters of the gate: `gate::door`.
    pub gate: Door,
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
    let hangups = signal(SignalKind::hangup()).map_err(|error| vec![Failure::from(error)])?;

    let (stop, stopping) = watch::channel(false);
    let mut background = JoinSet::new();
    background.spawn(app.store.clone().follow_changes(app.clock.clone(), CHANGES_EVERY, stopping));
    background.spawn(clean_up(app.store.clone(), app.clock.clone()));
    background.spawn(follow_keys(Arc::clone(&app)));
    background.spawn(keep_certificate(Arc::clone(&app), listeners.tls.clone(), hangups));

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
    let tls = configuration
        .tls
        .clone()
        .map(|files| ServingTls::open(files, served_names(&configuration), clock.now()));
    let tls = match tls.transpose() {
        Ok(tls) => tls.map(Arc::new),
        Err(failure) => {
            failures.push(failure);
            None
        }
    };
    // The first use of the generator waits until the system has gathered enough; nobody else shall wait for it.
    if let Err(error) = random.bytes::<32>() {
        failures.push(error.into());
    }
    let (listeners, own) = match Listeners::bind(&configuration).await {
        Ok(listeners) => {
            let own = listeners.addresses();
            (Some(Listeners { tls, ..listeners }), own)
        }
        Err(told) => {
            failures.extend(told.into_iter().map(Failure::from));
            (None, Vec::new())
        }
    };
    let app = match open_app(configuration, clock, random, own).await {
        Ok(app) => check_paths(&app.configuration, &app.store).await.map(|()| app),
        Err(failure) => Err(failure),
    };
    match app {
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
    let main: Door = Arc::new(move |request, peer| {
        // No body needs no box; nearly every request has none.
        let request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
        Box::pin(logged(&log, &built.main, request, peer))
    });
    let asked = Arc::clone(app);
    let is_stale = move || !asked.store.facts().is_trusted(asked.clock.now());
    Routers {
        main,
        gate: built.gate,
        metrics: metrics::router(Arc::clone(&app.metrics), is_stale),
        figures: Arc::clone(&app.metrics),
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

/// Seals with the key that another node has rotated to, for as long as the process lives.
async fn follow_keys(app: SharedApp) {
    let mut ticks = tokio::time::interval(LOOK_AT_KEYS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match app.store.look_at_keys(&app.sealing).await {
            Ok(()) => {}
            Err(StoreError::Sealing(error)) => tracing::error!(
                remedy = error.remedy(),
                "{error}; this node seals nothing until it has the key"
            ),
            Err(error) => tracing::debug!(%error, "it could not be asked which master key seals"),
        }
    }
}

/// Takes the certificate anew at each SIGHUP, and says in good time that it runs out (conformance.md F25).
async fn keep_certificate(app: SharedApp, tls: Option<Arc<ServingTls>>, mut hangups: Signal) {
    let mut looks = tokio::time::interval(LOOK_AT_CERTIFICATE_EVERY);
    let mut told = Expiry::Far;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            Some(()) = hangups.recv() => match &tls {
                None => tracing::info!("SIGHUP: there is no [tls], so nothing is read again"),
                Some(tls) => match tls.reload(app.clock.now()) {
                    Ok(()) => tracing::info!("SIGHUP: new connections get the certificate as it is now"),
                    Err(failure) => tracing::error!(
                        what = failure.what,
                        remedy = failure.remedy,
                        "SIGHUP: the new certificate was not taken, the old one stays"
                    ),
                },
            }
        }
        let Some(pair) = tls.as_ref().map(|tls| tls.pair()) else { continue };
        app.metrics.certificate_expires(pair.not_after);
        let expiry = pair.expiry(app.clock.now());
        let until = in_words(pair.not_after);
        match expiry {
            _ if expiry == told => {}
            Expiry::Far => {}
            Expiry::Within30Days | Expiry::Within14Days => {
                tracing::warn!(
                    until,
                    "the certificate runs out soon: renew it, replace both files, send SIGHUP"
                );
            }
            Expiry::Within3Days | Expiry::Expired | Expiry::NotYet => {
                tracing::error!(until, "the certificate runs out or is not valid: renew it, send SIGHUP");
            }
        }
        told = expiry;
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

/// What serves on each listener.
pub struct Routers {
    /// Pages, API, health, built-in proxy.
    pub main: Door,
    /// The adapters of the gate (rule 15: nothing else).
    pub gate: Door,
    /// `/metrics`.
    pub metrics: Router,
    /// Counts the connections.
    pub figures: Arc<Metrics>,
}

/// The bound listeners.
#[derive(Debug)]
pub struct Listeners {
    main: TcpListener,
    gate: TcpListener,
    metrics: Option<TcpListener>,
    tls: Option<Arc<ServingTls>>,
    trusted_proxies: Vec<IpNet>,
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
            (Ok(main), Ok(gate), Ok(metrics)) => {
                let trusted_proxies = configuration.trusted_proxies.clone();
                Ok(Self { main, gate, metrics, tls: None, trusted_proxies })
            }
            (main, gate, metrics) => {
                Err([main.err(), gate.err(), metrics.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Makes the main listener speak https.
    #[must_use]
    pub fn with_tls(self, tls: Arc<ServingTls>) -> Self {
        Self { tls: Some(tls), ..self }
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
    let descriptors = descriptors();
    let admission = |kind| {
        let limits = match kind {
            ListenerKind::Main => Limits::main(descriptors),
            ListenerKind::Gate | ListenerKind::Metrics => Limits::gate(descriptors),
        };
        let figures = routers.figures.connections(kind);
        Admission::new(limits, &listeners.trusted_proxies, Clock::system(), figures)
    };
    let (main, gate) = (admission(ListenerKind::Main), admission(ListenerKind::Gate));
    let mut doors = JoinSet::new();
    doors.spawn(accept(listeners.main, listeners.tls, routers.main, main, stopping.clone()));
    doors.spawn(accept(listeners.gate, None, routers.gate, gate, stopping.clone()));
    if let Some(metrics) = listeners.metrics {
        let admission = admission(ListenerKind::Metrics);
        doors.spawn(accept(metrics, None, door(routers.metrics), admission, stopping));
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

/// One message for each SIGTERM or SIGINT.
pub fn signals() -> io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
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
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    fn on_free_ports() -> Configuration {
        let text =
            "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n[gate]\nlisten = \"127.0.0.1:0\"\n";
        Configuration::parse(None, text, []).unwrap()
    }

    fn routers(main: Router) -> Routers {
        let figures = Arc::new(Metrics::new(&on_free_ports()));
        Routers { main: door(main), gate: door(Router::new()), metrics: Router::new(), figures }
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
    async fn f17_a_request_that_has_begun_is_answered_after_the_signal_and_nothing_new_is_accepted() {
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
