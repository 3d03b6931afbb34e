//! The connections of a listener: accepted within limits, over TLS where it is set up, served by HTTP/1.1 or HTTP/2.
//!
//! In: a bound listener, a door that answers requests, limits. Out: nothing, when told to stop and all have ended.
//! Never here: what is answered. Invariant: whatever a client does or leaves undone, it holds a bounded number of
//! connections, each with bounded memory, and loses each one some time after it has stopped asking for anything.

mod request_body;
mod streams;

pub use self::request_body::RequestBody;
use self::request_body::{Left, split};
use self::streams::{Delivery, Streams, piece_of};
use crate::client_address::is_trusted_proxy;
use crate::clock::{Clock, Stopwatch};
use crate::metrics::{ConnectionFigures, ConnectionLimit};
use crate::tls::ServingTls;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Largest head of a request, request line and headers, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 100;
/// Requests that one HTTP/2 connection may have open at a time.
const STREAMS_MAX: u32 = 100;
/// Streams that a client opened and reset before we came to them, more than which end its connection (rapid reset).
const PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset for the client's faults, more than which end its connection.
const OWN_RESETS_MAX: usize = 128;
/// Answers that an HTTP/2 connection holds ready for a client that doesn't read, per stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Most that one HTTP/2 connection may send ahead of our reading, in bytes; a single stream as much as a small upload.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The same for one stream.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Answers the requests of one listener, each with the address of the other end of its connection.
pub type Door =
    Arc<dyn Fn(Request<RequestBody>, SocketAddr) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A router as a door: its handlers find the other end as axum's `ConnectInfo<SocketAddr>`.
pub fn door(router: Router) -> Door {
    Arc::new(move |mut request, peer| {
        request.extensions_mut().insert(ConnectInfo(peer));
        Box::pin(router.clone().oneshot(request).map(|answer| answer.unwrap_or_else(|never| match never {})))
    })
}

/// How many connections a listener has, and how long each may do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// At once, in all; further ones wait to be accepted.
    pub connections: usize,
    /// At once, from one address (IPv6: one /64); further ones are closed. Trusted proxies carry everybody's requests
    /// and are spared.
    pub per_address: usize,
    /// TLS is agreed on within this.
    pub handshake: Duration,
    /// The head of an HTTP/1.1 request is complete within this, from its first byte.
    pub head: Duration,
    /// A connection without a request is closed after this.
    pub idle: Duration,
    /// The same while three quarters of all places are taken, for whoever is no trusted proxy.
    pub idle_when_crowded: Duration,
    /// A client that takes none of our bytes for this long is given up; over HTTP/2 its answer is, and the connection
    /// when nothing else is answered on it.
    pub stalled: Duration,
}

impl Limits {
    /// For the main listener, when the process may have `descriptors` files open. A connection to an application
    /// behind us takes a second one.
    pub fn main(descriptors: usize) -> Self {
        let connections = (descriptors.saturating_sub(64) / 8 * 3).clamp(16, 16_384);
        Self {
            connections,
            per_address: (connections / 4).max(8),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            // Longer than the 60 s for which nginx keeps an idle connection to us, so that it is never we who close
            // while nginx sends.
            idle: Duration::from_secs(75),
            idle_when_crowded: Duration::from_secs(5),
            stalled: Duration::from_mins(1),
        }
    }

    /// For the gate's listener, where only proxies connect and a lost question is a failed request: it keeps idle
    /// connections longer than the two minutes of Caddy, and its places are its own.
    pub fn gate(descriptors: usize) -> Self {
        let connections = (descriptors.saturating_sub(64) / 8).clamp(16, 8192);
        Self {
            connections,
            per_address: (connections / 4).max(8),
            idle: Duration::from_mins(3),
            idle_when_crowded: Duration::from_mins(3),
            ..Self::main(descriptors)
        }
    }
}

/// How many files this process may have open: Linux tells in `/proc`, and 1024 is what is given where nobody says.
pub fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft {
        Some("unlimited") => usize::MAX,
        Some(number) => number.parse().unwrap_or(1024),
        None => 1024,
    }
}

/// How many connections each address has.
type ByAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Who may connect to one listener: its limits, whom they spare, and who is connected now.
#[derive(Clone)]
pub struct Admission {
    limits: Limits,
    trusted_proxies: Arc<[IpNet]>,
    clock: Clock,
    places: Arc<Semaphore>,
    by_address: ByAddress,
    figures: ConnectionFigures,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A connection's place: given back when the connection, or what it was upgraded to, is dropped.
struct Place {
    counted: Option<(IpAddr, ByAddress)>,
    figures: ConnectionFigures,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.figures.ended();
        let Some((address, by_address)) = self.counted.take() else { return };
        let mut by_address = by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let left = by_address.get(&address).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            by_address.remove(&address);
        } else {
            by_address.insert(address, left);
        }
    }
}

impl Admission {
    /// Nobody is connected yet. The clock measures how long connections do nothing; the figures count them.
    pub fn new(limits: Limits, trusted_proxies: &[IpNet], clock: Clock, figures: ConnectionFigures) -> Self {
        Self {
            limits,
            trusted_proxies: Arc::from(trusted_proxies),
            clock,
            places: Arc::new(Semaphore::new(limits.connections)),
            by_address: Arc::default(),
            figures,
        }
    }

    /// The place of a connection that was accepted, unless its address has enough of them.
    fn admit(&self, peer: SocketAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        if self.spares(peer) {
            return Some(self.place(None, permit));
        }
        let address = source(peer.ip());
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.limits.per_address {
            self.figures.refused();
            return None;
        }
        *count += 1;
        Some(self.place(Some((address, Arc::clone(&self.by_address))), permit))
    }

    fn place(&self, counted: Option<(IpAddr, ByAddress)>, permit: OwnedSemaphorePermit) -> Place {
        self.figures.began();
        Place { counted, figures: self.figures.clone(), _permit: permit }
    }

    fn spares(&self, peer: SocketAddr) -> bool {
        is_trusted_proxy(peer.ip(), &self.trusted_proxies)
    }

    /// How long a connection of this peer may be idle now.
    fn idle(&self, spared: bool) -> Duration {
        let crowded = self.places.available_permits() * 4 < self.limits.connections;
        if crowded && !spared { self.limits.idle_when_crowded } else { self.limits.idle }
    }
}

/// What is counted as one source: an IPv4 address, or the /64 that an IPv6 address is in.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        four @ IpAddr::V4(_) => four,
    }
}

/// Accepts connections until told to stop, then waits for those that are there.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServingTls>>,
    door: Door,
    admission: Admission,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut told = Told::default();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
            accepted = next(&listener, &admission) => match accepted {
                Ok((permit, stream, peer)) => match admission.admit(peer, permit) {
                    Some(place) => {
                        let connection = Connection {
                            peer,
                            place,
                            tls: tls.clone(),
                            door: Arc::clone(&door),
                            admission: admission.clone(),
                            stopping: stopping.clone(),
                        };
                        connections.spawn(connection.serve(stream));
                    }
                    None if told.is_due(&admission.clock) => {
                        tracing::warn!(peer = %peer.ip(), "an address has too many connections; further ones are closed");
                    }
                    None => {}
                },
                Err(error) => {
                    // A connection that broke before we saw it, or no file descriptor left: give others time to close.
                    admission.figures.not_accepted();
                    if told.is_due(&admission.clock) {
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for a free place, then for a connection.
async fn next(
    listener: &TcpListener,
    admission: &Admission,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let permit = Arc::clone(&admission.places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((permit, stream, peer))
}

/// Keeps what happens a thousand times a second from filling the log.
#[derive(Default)]
struct Told(Option<Stopwatch>);

impl Told {
    /// Once a minute.
    fn is_due(&mut self, clock: &Clock) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() > Duration::from_mins(1));
        if due {
            self.0 = Some(clock.stopwatch());
        }
        due
    }
}

/// Ends when the stop has been announced, or whoever would announce it is gone.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

// === One connection ===

/// Everything that one connection is served with.
struct Connection {
    peer: SocketAddr,
    place: Place,
    tls: Option<Arc<ServingTls>>,
    door: Door,
    admission: Admission,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(self, mut stream: TcpStream) {
        // Answers are written whole; waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Self { peer, place, tls, door, admission, stopping } = self;
        let limits = admission.limits;
        let figures = admission.figures.clone();
        let progress = Arc::new(Progress::new(&admission.clock));
        let running = Running { admission, spared: false, progress: Arc::clone(&progress), stopping };
        let running = Running { spared: running.admission.spares(peer), ..running };
        let answering = Answering { door, peer, progress: Arc::clone(&progress) };
        let Some(tls) = tls else {
            let stream = Watched::new(stream, progress, limits.stalled, place);
            return running.http1(stream, answering).await;
        };
        match timeout(limits.handshake, first_byte(&stream)).await {
            Ok(Some(TLS_HANDSHAKE)) => {}
            Ok(Some(b'A'..=b'Z')) => return drop(timeout(limits.handshake, say_https(&mut stream)).await),
            Ok(_) => return,
            Err(_) => return figures.closed(ConnectionLimit::Handshake),
        }
        let stream = Watched::new(stream, Arc::clone(&progress), limits.stalled, place);
        match timeout(limits.handshake, TlsAcceptor::from(tls.settings()).accept(stream)).await {
            Ok(Ok(stream)) => {
                progress.begin_idle();
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    running.http2(stream, answering).await;
                } else {
                    running.http1(stream, answering).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, peer = %peer.ip(), "no TLS could be agreed on"),
            Err(_) => {
                figures.closed(ConnectionLimit::Handshake);
                tracing::debug!(peer = %peer.ip(), "TLS was not agreed on in time");
            }
        }
    }
}

/// The first byte of every TLS connection: a record of the handshake.
const TLS_HANDSHAKE: u8 = 22;

/// The first byte that the client sends, without taking it.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => first.first().copied(),
        _ => None,
    }
}

/// What somebody reads who typed `http://` before the address of a port that speaks https.
const ONLY_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: 63\r\n\r\n\
    This port speaks https. Put https:// before the address again.\n";

async fn say_https(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let _what_was_asked = stream.read(&mut request).await?;
    stream.write_all(ONLY_HTTPS).await?;
    stream.shutdown().await?;
    // Closing with bytes unread would take the answer back; so what is on its way is read, for a moment.
    drop(
        timeout(Duration::from_secs(1), async {
            while stream.read(&mut request).await? > 0 {}
            io::Result::Ok(())
        })
        .await,
    );
    Ok(())
}

/// What decides when a connection has to end.
struct Running {
    admission: Admission,
    spared: bool,
    progress: Arc<Progress>,
    stopping: watch::Receiver<bool>,
}

impl Running {
    async fn http1<S>(self, stream: S, answering: Answering)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Both is watched over here, for idle connections and for heads that never end.
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answering)
            .with_upgrades();
        let head = self.admission.limits.head;
        self.until_it_ends(connection, Some(head)).await;
    }

    async fn http2<S>(self, stream: S, answering: Answering)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let streams = Streams {
            progress: Arc::clone(&self.progress),
            stalled: self.admission.limits.stalled,
            figures: self.admission.figures.clone(),
        };
        let connection = http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(OWN_RESETS_MAX)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            // Finds out that the other end is gone while an answer is waited for.
            .keep_alive_interval(Duration::from_mins(1))
            .serve_connection(TokioIo::new(stream), answering);
        // Frames of the protocol itself arrive at any time; so there is no clock for heads, only the one for idling.
        self.until_it_ends(connection, None).await;
    }

    async fn until_it_ends<C: Closing>(mut self, connection: C, head: Option<Duration>) {
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return self.tell(ended),
            () = told_to_stop(&mut self.stopping) => {}
            limit = self.progress.overstays(&self.admission, self.spared, head) => {
                self.admission.figures.closed(limit);
            }
        }
        connection.as_mut().close();
        tokio::select! {
            _already_told = connection => {}
            () = self.progress.has_nothing_left() => {}
        }
    }

    /// Counts and logs how a connection ended by itself.
    fn tell(&self, ended: hyper::Result<()>) {
        let Err(error) = ended else { return };
        tracing::debug!(%error, "a connection broke");
        let stalled = self.progress.stalled.load(Ordering::Relaxed);
        let limit = if stalled { ConnectionLimit::Stalled } else { ConnectionLimit::Broken };
        self.admission.figures.closed(limit);
    }
}

/// A connection of either protocol.
trait Closing: Future<Output = hyper::Result<()>> {
    /// Takes no further request, and ends after the last answer.
    fn close(self: Pin<&mut Self>);
}

impl<S> Closing for http1::UpgradeableConnection<TokioIo<S>, Answering>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Closing for http2::Connection<TokioIo<S>, Answering, Streams>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How far a connection is: whether a request is being answered, and since when not.
struct Progress {
    began: Stopwatch,
    requests: AtomicUsize,
    /// Milliseconds after `began`; likewise `head_since`, where 0 means that no head has begun.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    /// Bytes wait for the client to take them: perhaps the end of an answer whose body is in our buffers.
    writing: AtomicBool,
    /// The client has let an answer stand for too long.
    stalled: AtomicBool,
}

impl Progress {
    fn new(clock: &Clock) -> Self {
        Self {
            began: clock.stopwatch(),
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
        }
    }

    /// The client has taken the bytes that waited, or some of them.
    fn bytes_went(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.writing.store(false, Ordering::Relaxed);
    }

    /// Neither is a request being answered nor does anything wait to be taken, for which there is another limit.
    fn is_at_rest(&self) -> bool {
        !self.is_answering() && !self.writing.load(Ordering::Relaxed)
    }

    fn note_stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn begin_idle(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    fn is_answering(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Bytes have come: the beginning of a head, unless a request is being answered.
    fn bytes_came(&self) {
        if !self.is_answering() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Ends when the connection has been idle, or busy with one head, for too long, or has no answer left but such as its
    /// client did not take.
    async fn overstays(
        &self,
        admission: &Admission,
        spared: bool,
        head: Option<Duration>,
    ) -> ConnectionLimit {
        let limits = &admission.limits;
        loop {
            tokio::time::sleep(limits.idle_when_crowded.min(limits.head)).await;
            if !self.is_at_rest() {
                continue;
            }
            let since = |mark: &AtomicU64| {
                Duration::from_millis(self.now().saturating_sub(mark.load(Ordering::Relaxed)))
            };
            let in_head = self.head_since.load(Ordering::Relaxed) > 0;
            if self.stalled.load(Ordering::Relaxed) {
                return ConnectionLimit::Stalled;
            }
            if head.is_some_and(|head| in_head && since(&self.head_since) >= head) {
                return ConnectionLimit::Head;
            }
            if since(&self.idle_since) >= admission.idle(spared) {
                return ConnectionLimit::Idle;
            }
        }
    }

    /// Ends a moment after the last answer: what a closing connection still holds open then is no request.
    async fn has_nothing_left(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.is_at_rest() {
                return;
            }
        }
    }
}

/// A request that is being answered, until its answer's body has been sent or given up.
struct InProgress(Arc<Progress>);

impl InProgress {
    fn begin(progress: &Arc<Progress>) -> Self {
        progress.requests.fetch_add(1, Ordering::Relaxed);
        progress.head_since.store(0, Ordering::Relaxed);
        Self(Arc::clone(progress))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.begin_idle();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives a connection's requests to the door.
#[derive(Clone)]
struct Answering {
    door: Door,
    peer: SocketAddr,
    progress: Arc<Progress>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn call(&self, request: Request<Incoming>) -> AnswerFuture {
        let in_progress = Some(InProgress::begin(&self.progress));
        let (request, left) = split(request);
        let answer = match plain_form(request) {
            Ok(request) => (self.door)(request, self.peer),
            Err(status) => Box::pin(async move {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }),
        };
        AnswerFuture { answer, answered: None, left, in_progress }
    }
}

/// The answer on its way; what is in progress is its body afterwards.
struct AnswerFuture {
    answer: BoxFuture<'static, Response<Body>>,
    /// Ready, while what is left of its request is read.
    answered: Option<Response<Body>>,
    left: Option<Left>,
    in_progress: Option<InProgress>,
}

impl Future for AnswerFuture {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match self.answered.take() {
            Some(response) => response,
            None => std::task::ready!(self.answer.as_mut().poll(context)),
        };
        if let Some(left) = &mut self.left {
            match left.poll_read(context) {
                Poll::Ready(true) => {}
                // A connection that becomes a WebSocket takes no request anyway.
                Poll::Ready(false) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {}
                Poll::Ready(false) => {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Poll::Pending => {
                    self.answered = Some(response);
                    return Poll::Pending;
                }
            }
        }
        let in_progress = self.in_progress.take();
        let delivery = Delivery::of_this_task();
        Poll::Ready(Ok(response.map(|body| AnswerBody {
            body,
            rest: Bytes::new(),
            delivery,
            _in_progress: in_progress,
        })))
    }
}

/// An answer's body, which is in progress until it is dropped. Over HTTP/2 it goes out in pieces, and tells when one is
/// taken.
struct AnswerBody {
    body: Body,
    /// What the body gave and is not handed out yet.
    rest: Bytes,
    delivery: Option<Arc<Delivery>>,
    _in_progress: Option<InProgress>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(delivery) = self.delivery.clone() else {
            return Pin::new(&mut self.body).poll_frame(context);
        };
        delivery.taken();
        if self.rest.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                // Trailers, which need no window; a fault; the end.
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        delivery.offer();
        Poll::Ready(Some(Ok(Frame::data(piece_of(&mut self.rest)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.saturating_add(body.lower()));
        if let Some(upper) = body.upper() {
            hint.set_upper(rest.saturating_add(upper));
        }
        hint
    }
}

/// One form for whatever the protocols allow: path and query as the target, one `Host`, one `Cookie`. What says two
/// things at once is refused, so that nobody behind us reads the other one.
fn plain_form<B>(mut request: Request<B>) -> Result<Request<B>, StatusCode> {
    if request.headers().len() > HEADERS_MAX {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if request.headers().contains_key(TRANSFER_ENCODING) && request.headers().contains_key(CONTENT_LENGTH) {
        return Err(StatusCode::BAD_REQUEST);
    }
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    if request.method() == Method::CONNECT {
        return Ok(request);
    }
    // An absolute target (RFC 9112 section 3.2.2), or `:authority` of HTTP/2.
    let Some(authority) = request.uri().authority().map(|authority| authority.as_str().to_owned()) else {
        return Ok(request);
    };
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => {
            let host = HeaderValue::from_str(&authority).map_err(|_| StatusCode::BAD_REQUEST)?;
            request.headers_mut().insert(HOST, host);
        }
        (Some(host), None) if host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {}
        _ => return Err(StatusCode::BAD_REQUEST),
    }
    let path =
        request.uri().path_and_query().map_or_else(|| Ok(Uri::default()), |path| path.as_str().parse());
    *request.uri_mut() = path.map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(request)
}

/// HTTP/2 may send each cookie in a line of its own (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&lines.join(b"; ".as_slice())) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

// === Under TLS ===

/// A connection's bytes: says when some have come, gives up when none go any more, and keeps the connection's place.
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
    stalled_after: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Watched {
    fn new(stream: TcpStream, progress: Arc<Progress>, stalled_after: Duration, place: Place) -> Self {
        Self { stream, progress, stalled_after, stalled: None, _place: place }
    }

    /// Passes a write's outcome on; one that has waited for too long is an error.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.progress.bytes_went();
            }
            return written;
        }
        self.progress.writing.store(true, Ordering::Relaxed);
        let after = self.stalled_after;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.progress.note_stall();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::sync::Notify;

    /// Generous, but for what the test says.
    fn patient() -> Limits {
        let long = Duration::from_mins(10);
        Limits {
            connections: 64,
            per_address: 64,
            handshake: long,
            head: long,
            idle: long,
            idle_when_crowded: long,
            stalled: long,
        }
    }

    const SHORT: Duration = Duration::from_millis(30);

    struct Server {
        address: SocketAddr,
        stop: watch::Sender<bool>,
    }

    async fn serve(router: Router, limits: Limits, trusted: &[&str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let admission = Admission::new(limits, &trusted, Clock::system(), ConnectionFigures::default());
        tokio::spawn(accept(listener, None, door(router), admission, stopping));
        Server { address, stop }
    }

    fn hello() -> Router {
        Router::new()
            .fallback(get(|request: axum::extract::Request| async move { request.uri().to_string() }))
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

    /// Whether the server answers on this connection; `false` when it has closed it.
    async fn answers(stream: &mut TcpStream) -> bool {
        if stream.write_all(GET.as_bytes()).await.is_err() {
            return false;
        }
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.is_ok_and(|_| &begin == b"HTTP/1.1 200")
    }

    #[tokio::test]
    async fn v19_a_head_that_is_too_large_or_has_too_many_headers_is_431() {
        let server = serve(hello(), patient(), &[]).await;
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert!(exchange(server.address, &large).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX + 1));
        assert!(exchange(server.address, &many).await.starts_with("HTTP/1.1 431"));
        let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        let answer = exchange(server.address, &line).await;
        assert!(answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_not_waited_for_however_it_drips() {
        let server = serve(hello(), Limits { head: SHORT, ..patient() }, &[]).await;
        assert_eq!(exchange(server.address, "GET / HTTP/1.1\r\nHost:").await, "");
        let mut drip = TcpStream::connect(server.address).await.unwrap();
        while drip.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(answers(&mut TcpStream::connect(server.address).await.unwrap()).await);
    }

    /// What comes back until it ends with this.
    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_does_not_cost_its_connection() {
        let reached = Arc::new(Notify::new());
        let said = Arc::clone(&reached);
        let unread = move || async move {
            said.notify_one();
            "unread"
        };
        let server = serve(Router::new().fallback(unread), patient(), &[]).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for head in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
            stream
                .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            // The answer is there before the body is.
            reached.notified().await;
            let body = if head.ends_with('3') { "x=1" } else { "3\r\nx=1\r\n0\r\n\r\n" };
            stream.write_all(body.as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, "unread").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
        }
        assert!(answers(&mut stream).await, "the connection goes on");
    }

    #[tokio::test]
    async fn a_request_within_a_body_that_nobody_reads_is_no_request() {
        let server = serve(hello(), patient(), &[]).await;
        let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        let length = format!("Content-Length: {}", hidden.len());
        for (head, body) in [(&*length, hidden), ("Transfer-Encoding: chunked", &*chunk)] {
            let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let sent = format!("POST /first HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}{next}");
            let answers = exchange(server.address, &sent).await;
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
            assert!(answers.ends_with("/next") && !answers.contains("/hidden"), "{answers}");
        }
    }

    #[tokio::test]
    async fn a_body_that_was_waited_for_and_read_does_not_cost_its_connection() {
        let server =
            serve(Router::new().fallback(|body: String| async { body + " read" }), patient(), &[]).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        for _ in 0..2 {
            stream.write_all(head.as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(b"3\r\nx=1\r\n0\r\n\r\n").await.unwrap();
            let answer = read_until(&mut stream, "x=1 read").await;
            assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("connection: close"), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_says_so_when_what_is_left_of_its_request_ends_the_connection() {
        let server = serve(Router::new().fallback(|| async { "unread" }), patient(), &[]).await;
        // Sent up to the byte that is one too many, because a server that leaves bytes unread resets the connection.
        let sent = "x".repeat((1 << 20) + 1);
        let large = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n{sent}");
        let awaited = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        let late = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx";
        for request in [&*large, awaited, late] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_and_one_with_a_request_under_way_is_not() {
        let (reached, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (said, wait) = (Arc::clone(&reached), Arc::clone(&answer));
        let page = get(move || async move {
            said.notify_one();
            wait.notified().await;
            "late"
        });
        let limits = Limits { idle: SHORT, idle_when_crowded: SHORT, ..patient() };
        let server = serve(Router::new().route("/", page), limits, &[]).await;
        let busy = tokio::spawn(exchange(server.address, GET));
        reached.notified().await;
        // An idle one comes and goes several times meanwhile.
        for _ in 0..3 {
            assert_eq!(exchange(server.address, "").await, "");
        }
        answer.notify_one();
        // Answered, and then closed as idle too.
        assert!(busy.await.unwrap().ends_with("late"));
    }

    #[tokio::test]
    async fn one_address_has_its_share_of_connections_and_another_its_own() {
        let server = serve(hello(), Limits { per_address: 2, ..patient() }, &[]).await;
        let from = async |address: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
            socket.connect(server.address).await.unwrap()
        };
        let mut held = vec![from("127.0.0.1").await, from("127.0.0.1").await];
        for stream in &mut held {
            assert!(answers(stream).await);
        }
        assert!(!answers(&mut from("127.0.0.1").await).await, "a third one");
        assert!(answers(&mut from("127.0.0.2").await).await);
        // A place that was given back is there again.
        drop(held.pop());
        while !answers(&mut from("127.0.0.1").await).await {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_trusted_proxy_carries_everybodys_requests_and_is_not_counted() {
        let server = serve(hello(), Limits { per_address: 1, ..patient() }, &["127.0.0.1/32"]).await;
        let mut held = Vec::new();
        for _ in 0..5 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            assert!(answers(&mut stream).await);
            held.push(stream);
        }
    }

    #[tokio::test]
    async fn a_listener_at_its_cap_serves_on_when_a_connection_ends_and_idle_ones_end_sooner() {
        let limits = Limits { connections: 4, idle_when_crowded: SHORT, ..patient() };
        let server = serve(hello(), limits, &[]).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(TcpStream::connect(server.address).await.unwrap());
        }
        // All places are taken by connections that ask for nothing; they make room.
        assert!(answers(&mut TcpStream::connect(server.address).await.unwrap()).await);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let endless = || async {
            let piece = Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 20]));
            Body::from_stream(futures_util::stream::repeat_with(move || piece.clone()))
        };
        let server = serve(
            Router::new().fallback(get(endless)),
            Limits { connections: 1, stalled: SHORT, ..patient() },
            &[],
        )
        .await;
        let mut stuck = TcpStream::connect(server.address).await.unwrap();
        stuck.write_all(GET.as_bytes()).await.unwrap();
        // The one place is free again although the first client still holds on.
        let mut other = TcpStream::connect(server.address).await.unwrap();
        other.write_all(GET.as_bytes()).await.unwrap();
        other.read_exact(&mut [0; 12]).await.unwrap();
    }

    /// A connection whose client's end keeps no more than this.
    async fn with_window(address: SocketAddr, bytes: u32) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_that_reads_a_byte_now_and_then_is_given_up_too() {
        let endless = || async {
            let piece = Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 20]));
            Body::from_stream(futures_util::stream::repeat_with(move || piece.clone()))
        };
        let limits = Limits { connections: 1, stalled: Duration::from_millis(150), ..patient() };
        let server = serve(Router::new().fallback(get(endless)), limits, &[]).await;
        let mut slow = with_window(server.address, 1).await;
        slow.write_all(GET.as_bytes()).await.unwrap();
        let mut other = TcpStream::connect(server.address).await.unwrap();
        other.write_all(GET.as_bytes()).await.unwrap();
        let mut answered = [0; 12];
        let mut reading = std::pin::pin!(other.read_exact(&mut answered));
        // Until the other one has the only place.
        while timeout(Duration::from_millis(5), reading.as_mut()).await.is_err() {
            drop(slow.read_u8().await);
        }
    }

    #[tokio::test]
    async fn the_end_of_an_answer_is_not_taken_for_idleness() {
        const SIZE: usize = 8 << 20;
        let large = || async { Bytes::from(vec![b'x'; SIZE]) };
        let limits = Limits { idle: SHORT, idle_when_crowded: SHORT, ..patient() };
        let server = serve(Router::new().fallback(get(large)), limits, &[]).await;
        let mut slow = with_window(server.address, 64 << 10).await;
        slow.write_all(GET.as_bytes()).await.unwrap();
        let mut read = 0;
        let mut buffer = vec![0; 64 << 10];
        // Some three seconds: longer than anything idle is kept, and than a closing connection is waited for.
        loop {
            match slow.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(more) => read += more,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(read > SIZE, "only {read} bytes came");
    }

    #[tokio::test]
    async fn v23_an_absolute_target_and_the_host_must_say_the_same() {
        let server = serve(hello(), patient(), &[]).await;
        let ask = async |target: &str, host: &str| {
            exchange(
                server.address,
                &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            )
            .await
        };
        assert!(ask("http://a.example/x?y", "A.example").await.ends_with("\r\n\r\n/x?y"));
        assert!(ask("http://a.example/x", "b.example").await.starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let source = |text: &str| source(text.parse().unwrap()).to_string();
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(source("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(source("192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn the_limits_leave_descriptors_for_the_gate_the_database_and_the_way_out() {
        for descriptors in [1024, 65_536, usize::MAX] {
            let (main, gate) = (Limits::main(descriptors), Limits::gate(descriptors));
            assert!(2 * main.connections + gate.connections + 128 <= descriptors, "{descriptors}");
            assert!(main.per_address < main.connections);
        }
        assert!(descriptors() > 0);
    }

    #[test]
    fn cookies_in_several_lines_are_one_header_afterwards() {
        let request = Request::builder().version(Version::HTTP_2).uri("https://a.example/x");
        let request = request.header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        let request = plain_form(request).unwrap();
        assert_eq!(request.headers().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert_eq!(request.headers()[HOST], "a.example");
        assert_eq!(request.uri(), "/x");
    }

    #[tokio::test]
    async fn stopping_waits_for_no_head_that_is_not_complete() {
        let server = serve(hello(), patient(), &[]).await;
        let half = tokio::spawn(exchange(server.address, "GET / HT"));
        while !answers(&mut TcpStream::connect(server.address).await.unwrap()).await {}
        server.stop.send_replace(true);
        assert_eq!(half.await.unwrap(), "");
    }
}
