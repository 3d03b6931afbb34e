//! The built-in reverse proxy: carries one request that may go on to the application, and the answer back.
//!
//! In: a request, the identity headers to set, and the permission to go on. Out: the application's response,
//! streamed, or a `ProxyFault`. Nothing is buffered; WebSockets are joined through.
//! Never here: whether the request may go on. That was decided before; this file only keeps the decision whole.
//! Invariant: a header of ours reaches the application with our value or not at all, and our cookies and tokens never do
//! (rule 11; conformance.md V01, V07).

use axum::body::Body;
use bytes::Bytes;
use doorward_core::error_code::ErrorCode;
use doorward_core::identity_headers::is_not_the_clients;
use doorward_core::request_target::is_allowed_upgrade;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot::{self, error::TryRecvError};

mod kept_connections;

use self::kept_connections::{AnswerBody, Fault, KeptConnections};
use crate::access_token;
use crate::cookies;
use crate::header_names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::logging;

/// How long the application may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to begin its answer, from the moment that it has the whole request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request's body may stand still while the application waits for more of it.
const UPLOAD_PAUSE: Duration = Duration::from_mins(1);

/// Why a request got no answer from the application.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ProxyFault {
    /// What the person is told.
    pub code: ErrorCode,
    /// What the log is told. Holds no header and no part of a body.
    pub detail: String,
}

impl ProxyFault {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Where the application listens: `http://host:port`, from the operator's configuration.
/// Has the connections to it that are kept open.
#[derive(Clone, Debug)]
pub struct Upstream {
    authority: Authority,
    kept: KeptConnections,
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        self.authority == other.authority
    }
}

impl Eq for Upstream {}

impl Upstream {
    /// Its name or address, without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// What it is called in `Host`, without the port that nobody writes.
    fn host_header(&self) -> &str {
        if self.port() == 80 { self.authority.host() } else { self.authority.as_str() }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }
}

/// Not an address that the proxy can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upstream is http://host:port without a path; the application is reached over a trusted network")]
pub struct InvalidUpstream;

impl std::str::FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let uri: Uri = text.parse().map_err(|_| InvalidUpstream)?;
        let authority = uri.authority().ok_or(InvalidUpstream)?;
        let plain = uri.scheme() == Some(&Scheme::HTTP)
            && uri.path_and_query().is_none_or(|path| path.as_str() == "/")
            && !authority.as_str().contains('@');
        let upstream = || Self { authority: authority.clone(), kept: KeptConnections::default() };
        plain.then(upstream).ok_or(InvalidUpstream)
    }
}

/// Says again and again that the exchange may go on, with the time since it said so last, and ends when the exchange must
/// end at once. An application that does not begin its answer in time is found when it speaks, so it speaks every second
/// while it can.
pub type Permission = Pin<Box<dyn Stream<Item = Duration> + Send>>;

/// What one request is forwarded with.
pub struct Forwarding<'a> {
    /// Where to.
    pub upstream: &'a Upstream,
    /// The complete set of identity headers; each replaces whatever the client sent under any spelling of its name.
    pub set: &'a [(HeaderName, HeaderValue)],
    /// Names of Doorward's cookies on this host: kept from the application, and not to be set by it.
    pub own_cookie_names: &'a [&'a str],
    /// The client's address, as `trusted_proxies` lets us know it.
    pub client_address: IpAddr,
    /// The browser came over https.
    pub https: bool,
}

/// The client side of the proxy.
#[derive(Clone, Debug)]
pub struct UpstreamProxy {
    connector: HttpConnector,
    headers_timeout: Duration,
    upload_pause: Duration,
}

impl Default for UpstreamProxy {
    fn default() -> Self {
        Self::new()
    }
}

impl UpstreamProxy {
    /// A proxy without open connections. Needs a tokio runtime only when it is used.
    pub fn new() -> Self {
        Self::with_timeouts(CONNECT_TIMEOUT, HEADERS_TIMEOUT, UPLOAD_PAUSE)
    }

    fn with_timeouts(connect: Duration, headers: Duration, upload_pause: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(connect));
        connector.set_nodelay(true);
        Self { connector, headers_timeout: headers, upload_pause }
    }

    /// Carries the request to the application and the beginning of its answer back; both bodies stream on by
    /// themselves, until they end or the permission does.
    ///
    /// Faults: `gate.upstream_unavailable`, `gate.upstream_timeout`, `gate.method_refused` (an upgrade other than
    /// `websocket`), `gate.ambiguous_target` (no path), `service.unavailable` (the permission ended before the
    /// answer began).
    pub fn forward<'f>(
        &'f self,
        forwarding: &Forwarding<'f>,
        request: Request<Body>,
        permission: Permission,
    ) -> impl Future<Output = Result<Response<Body>, ProxyFault>> + Send + 'f {
        let Forwarding { own_cookie_names, upstream: Upstream { authority, kept }, .. } = *forwarding;
        // Before anything is waited for, so that the request is in no future of ours.
        let begun = prepare_request(forwarding, request, self.upload_pause).map(|prepared| {
            let Prepared { request, client_side, sent } = prepared;
            let head = kept.exchange(&self.connector, authority, request, client_side.is_some());
            (head, client_side, sent)
        });
        async move {
            let (head, client_side, mut sent) = begun?;
            let (head, permission) = self.head_in_time(head, sent.as_mut(), permission).await?;
            let (mut response, connection) = head;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                clean_response_headers(response.headers_mut(), own_cookie_names);
                return Ok(response.map(|body| {
                    // Who was refused a WebSocket has a task for his connection already.
                    if client_side.is_none() && is_being_sent(sent.as_mut()) {
                        // The upload goes on beside the answer, and ends with the permission, and the answer with it.
                        connection.leave(permission.for_each(|_| std::future::ready(())));
                        return Body::new(body);
                    }
                    let body = kept.rest_of(body, connection);
                    if body.is_end_stream() {
                        Body::empty()
                    } else if body.is_here() {
                        // Nothing is left to stop.
                        Body::new(body)
                    } else {
                        Body::new(StoppableBody { body, permission })
                    }
                }));
            }
            let Some(client_side) = client_side.filter(|_| switches_to_websocket(response.headers())) else {
                return Err(ProxyFault::new(
                    ErrorCode::GateUpstreamUnavailable,
                    "switched to a protocol that nobody asked for",
                ));
            };
            let application_side = hyper::upgrade::on(&mut response);
            logging::spawn(join_through(client_side, application_side, permission));
            clean_response_headers(response.headers_mut(), own_cookie_names);
            set_upgrade(response.headers_mut());
            Ok(response.map(|_| Body::empty()))
        }
    }

    /// Waits for the head of an answer, for as long as is permitted and as an application may take. Gives the permission
    /// back, which goes on to the body.
    async fn head_in_time<T>(
        &self,
        mut head: BoxFuture<'_, Result<T, Fault>>,
        mut sent: Option<&mut oneshot::Receiver<()>>,
        mut permission: Permission,
    ) -> Result<(T, Permission), ProxyFault> {
        // Since the application has the whole request: an upload may take as long as it takes.
        let mut waited: Option<Duration> = None;
        loop {
            let look = tokio::select! {
                biased;
                head = &mut head => return match head {
                    Ok(head) => Ok((head, permission)),
                    Err(fault) => {
                        let is_ours = causes(&*fault).any(<dyn std::error::Error>::is::<Stalled>);
                        let code = if is_ours { ErrorCode::RequestTooSlow } else { ErrorCode::GateUpstreamUnavailable };
                        Err(ProxyFault::new(code, describe(&*fault)))
                    }
                },
                look = permission.next() => look,
            };
            let Some(since_last) = look else {
                return Err(ProxyFault::new(ErrorCode::ServiceUnavailable, "ended before the answer began"));
            };
            if !is_being_sent(sent.as_deref_mut()) {
                let so_far = waited.map_or(Duration::ZERO, |waited| waited + since_last);
                if so_far >= self.headers_timeout {
                    return Err(ProxyFault::new(
                        ErrorCode::GateUpstreamTimeout,
                        "no response headers in time",
                    ));
                }
                waited = Some(so_far);
            }
        }
    }
}

/// Whether the application has not the whole body yet. Either way of ending counts: read to the end, or given up.
fn is_being_sent(sent: Option<&mut oneshot::Receiver<()>>) -> bool {
    sent.is_some_and(|sent| sent.try_recv() == Err(TryRecvError::Empty))
}

/// The chain of causes, because hyper's own text says only that something failed.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

// === The request ===

/// Whether the client asks for a WebSocket. Another upgrade is refused, not dropped: what follows would be read as
/// something else than it was judged as.
fn asked_upgrade(headers: &HeaderMap) -> Result<bool, ProxyFault> {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    match (upgrades.next(), upgrades.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.to_str().is_ok_and(is_allowed_upgrade) => Ok(true),
        _ => Err(ProxyFault::new(ErrorCode::GateMethodRefused, "an upgrade other than websocket")),
    }
}

/// A request as the application gets it.
struct Prepared {
    request: Request<Body>,
    /// The client's side of a WebSocket, if it asks for one.
    client_side: Option<OnUpgrade>,
    /// Tells when the application has the whole body, if there is one.
    sent: Option<oneshot::Receiver<()>>,
}

fn prepare_request(
    forwarding: &Forwarding<'_>,
    mut request: Request<Body>,
    upload_pause: Duration,
) -> Result<Prepared, ProxyFault> {
    let upgrade = asked_upgrade(request.headers())?;
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(ProxyFault::new(ErrorCode::GateMethodRefused, "CONNECT"));
    }
    // HTTP/2 has the host in its target.
    let authority =
        parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let host = parts.headers.get(header::HOST).cloned().or(authority);
    parts.uri = origin_form(parts.uri)?;
    parts.version = Version::HTTP_11;

    let headers = &mut parts.headers;
    // With both, the length is the one that counts for nothing (RFC 9112 section 6.1).
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    remove(headers, |name| {
        is_not_the_clients(name.as_str())
            // Answered by our own server.
            || *name == header::EXPECT
            || (chunked && *name == header::CONTENT_LENGTH)
    });
    match cookies::without(headers, forwarding.own_cookie_names) {
        Some(cookies) => headers.insert(header::COOKIE, cookies),
        None => headers.remove(header::COOKIE),
    };
    if access_token::without_ours(headers).next().is_none() {
        headers.remove(header::AUTHORIZATION);
    }

    // From here on nothing is removed, so nothing that the client names in `Connection` can undo it (V07). Room for all
    // of it at once.
    headers.reserve(forwarding.set.len() + OWN_HEADERS);
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
        headers.insert(X_FORWARDED_HOST, host);
    } else if let Ok(host) = HeaderValue::from_str(forwarding.upstream.host_header()) {
        // HTTP/1.0 needs none, what we speak with the application does.
        headers.insert(header::HOST, host);
    }
    if let Ok(address) = HeaderValue::try_from(written(forwarding.client_address)) {
        headers.insert(X_FORWARDED_FOR, address);
    }
    let proto = if forwarding.https { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    for (name, value) in forwarding.set {
        headers.insert(name, value.clone());
    }
    if upgrade {
        set_upgrade(headers);
    } else if !body.is_end_stream() && !headers.contains_key(header::CONTENT_LENGTH) {
        // Else hyper would take a GET with a body of unknown length for one without.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }

    let (body, sent) = if body.is_end_stream() {
        (Body::empty(), None)
    } else {
        let (tell, sent) = oneshot::channel();
        (Body::new(SentBody { body, _tell: tell, pause: upload_pause, waiting: None }), Some(sent))
    };
    Ok(Prepared { request: Request::from_parts(parts, body), client_side, sent })
}

/// An address as text. The library's own way takes more than a thousand instructions for one of IPv4.
fn written(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (n, octet) in address.octets().into_iter().enumerate() {
        if n > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// Headers that the application gets beside those of `Forwarding::set`: host, three of forwarding, one of the body, two of
/// an upgrade.
const OWN_HEADERS: usize = 7;

/// Path and query of the request's target, and nothing else of it.
fn origin_form(target: Uri) -> Result<Uri, ProxyFault> {
    let path_and_query = target.into_parts().path_and_query;
    path_and_query
        .filter(|path| path.as_str().starts_with('/'))
        .map(Uri::from)
        .ok_or_else(|| ProxyFault::new(ErrorCode::GateAmbiguousTarget, "a target without a path"))
}

/// What is for one hop only (RFC 9110 section 7.6.1).
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    // Trailers are not passed on: they could smuggle in what is removed above a body.
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what is for one hop only, what `Connection` names included, and `more`. Looks at each header once, because most
/// messages have nothing of it.
fn remove(headers: &mut HeaderMap, more: impl Fn(&HeaderName) -> bool) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut names: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    names.extend(headers.keys().filter(|name| HOP_BY_HOP.contains(name) || more(name)).cloned());
    for name in names {
        headers.remove(name);
    }
}

/// A request's body that says when it has been sent, or given up: then it is dropped, and the sender with it.
struct SentBody {
    body: Body,
    _tell: oneshot::Sender<()>,
    /// How long its sender may send nothing.
    pause: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// The sender of a body has sent nothing for too long: a connection of ours and one to the application wait for him.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the request's body did not go on")]
struct Stalled;

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = None;
            return Poll::Ready(frame);
        }
        // Counted while the application waits for more, not while it is slow to take what is there.
        let pause = self.pause;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        waiting.as_mut().poll(context).map(|()| Some(Err(axum::Error::new(Stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === The answer ===

fn clean_response_headers(headers: &mut HeaderMap, own_cookie_names: &[&str]) {
    remove(headers, |_| false);
    let sets_ours = |value: &HeaderValue| {
        // Browsers trim names, and make `a=b` out of a cookie without a name and with the value `a=b`.
        let text = value.as_bytes();
        let begins = text.iter().position(|b| !matches!(b, b'=' | b' ' | b'\t')).unwrap_or(text.len());
        let pair = text.get(begins..).unwrap_or_default();
        let name = pair.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default().trim_ascii();
        own_cookie_names.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    };
    if headers.get_all(header::SET_COOKIE).iter().any(sets_ours) {
        let kept: Vec<HeaderValue> =
            headers.get_all(header::SET_COOKIE).iter().filter(|value| !sets_ours(value)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// The application's body, which breaks off when it must stop. The client sees that it is not whole.
struct StoppableBody {
    body: AnswerBody,
    permission: Permission,
}

/// What a body ends with that was cut off.
#[derive(Debug, thiserror::Error)]
enum BodyFault {
    #[error("ended because the session or the server did")]
    Stopped,
    #[error(transparent)]
    Application(#[from] hyper::Error),
}

impl HttpBody for StoppableBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        while let Poll::Ready(look) = self.permission.as_mut().poll_next(context) {
            if look.is_none() {
                // Not polled again: a body ends with its first error.
                self.permission = Box::pin(stream::pending());
                return Poll::Ready(Some(Err(BodyFault::Stopped)));
            }
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(BodyFault::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === WebSockets ===

fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn switches_to_websocket(headers: &HeaderMap) -> bool {
    asked_upgrade(headers).unwrap_or(false)
}

/// Carries bytes both ways until one side ends or the permission does.
async fn join_through(client: OnUpgrade, application: OnUpgrade, permission: Permission) {
    let joined = async {
        let (client, application) = tokio::try_join!(client, application).map_err(std::io::Error::other)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(application)).await
    };
    tokio::select! {
        ended = joined => match ended {
            Ok((up, down)) => tracing::debug!(up, down, "websocket ended"),
            Err(error) => tracing::debug!(%error, "websocket broke off"),
        },
        () = permission.for_each(|_| std::future::ready(())) => tracing::debug!("websocket was ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::State;
    use doorward_core::identity_headers::{IDENTITY_HEADER_NAMES, OVERRIDE_HEADER_NAMES};
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::{mpsc, watch};

    /// How often the permission of these tests speaks.
    const LOOK: Duration = Duration::from_millis(1);
    const OWN: [&str; 2] = ["__Host-doorward-app", "__Host-doorward-handover"];

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn serve(router: Router) -> SocketAddr {
        let (listener, address) = listen().await;
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// An application that reads one request's head and answers with fixed bytes, then waits for the other side.
    async fn serve_bytes(answer: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
        let (listener, address) = listen().await;
        let (tell, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await?);
                    }
                    drop(tell.send(String::from_utf8_lossy(&head).into_owned()));
                    socket.write_all(answer).await?;
                    // Bytes come back as they went, as in a WebSocket that echoes.
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        (address, heads)
    }

    struct Front {
        proxy: UpstreamProxy,
        upstream: Upstream,
        set: Vec<(HeaderName, HeaderValue)>,
        stop: watch::Receiver<bool>,
    }

    /// A server with nothing but the proxy, and what stops its exchanges.
    async fn proxy_to(upstream: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
        let patient = Duration::from_mins(1);
        proxy_with(upstream, UpstreamProxy::with_timeouts(patient, patient, patient)).await
    }

    async fn proxy_with(upstream: SocketAddr, proxy: UpstreamProxy) -> (SocketAddr, watch::Sender<bool>) {
        let set = IDENTITY_HEADER_NAMES.iter().map(|name| {
            let value = if *name == "Remote-User" { "mira" } else { "" };
            (name.parse().unwrap(), HeaderValue::from_static(value))
        });
        let (stopper, stop) = watch::channel(false);
        let front = Front {
            proxy,
            upstream: format!("http://{upstream}").parse().unwrap(),
            set: set.collect(),
            stop,
        };
        let router = Router::new().fallback(forward).with_state(Arc::new(front));
        (serve(router).await, stopper)
    }

    async fn forward(State(front): State<Arc<Front>>, request: Request<Body>) -> Response<Body> {
        let forwarding = Forwarding {
            upstream: &front.upstream,
            set: &front.set,
            own_cookie_names: &OWN,
            client_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            https: true,
        };
        let permission = Box::pin(stream::unfold(front.stop.clone(), |mut stopped| async {
            let looked = tokio::time::timeout(LOOK, stopped.wait_for(|stop| *stop)).await;
            // Whoever would stop it may be gone.
            let stop = matches!(&looked, Ok(Ok(_)));
            drop(looked);
            (!stop).then_some((LOOK, stopped))
        }));
        front.proxy.forward(&forwarding, request, permission).await.unwrap_or_else(|fault| {
            let mut response = Response::new(Body::from(fault.code.as_str()));
            *response.status_mut() = StatusCode::from_u16(fault.code.status()).unwrap();
            response
        })
    }

    async fn send(request: Request<Body>) -> Response<hyper::body::Incoming> {
        let client: Client<HttpConnector, Body> =
            Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        client.request(request).await.unwrap()
    }

    async fn text(response: Response<hyper::body::Incoming>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn get(front: SocketAddr, path: &str) -> http::request::Builder {
        Request::get(format!("http://{front}{path}")).header("host", "hub.example.com")
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// The head that the application gets for a request.
    async fn head_of(request: impl FnOnce(SocketAddr) -> Request<Body>) -> String {
        let (upstream, mut heads) = serve_bytes(OK).await;
        let (front, _stopper) = proxy_to(upstream).await;
        assert_eq!(send(request(front)).await.status(), StatusCode::OK);
        heads.recv().await.unwrap()
    }

    /// Every value of a header, by its name in lower case.
    fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    #[tokio::test]
    async fn v01_no_spelling_of_an_identity_header_arrives_with_the_clients_value() {
        let head = head_of(|front| {
            let mut request = get(front, "/");
            for name in IDENTITY_HEADER_NAMES {
                for spelling in
                    [name.to_owned(), name.replace('-', "_"), name.replace('-', "."), name.to_uppercase()]
                {
                    request = request.header(&spelling, "forged").header(&spelling, "forged twice");
                }
            }
            request.header("Doorward-Later", "forged").body(Body::empty()).unwrap()
        })
        .await;
        assert!(!head.contains("forged"), "{head}");
        for name in IDENTITY_HEADER_NAMES {
            assert_eq!(values(&head, name), [if name == "Remote-User" { "mira" } else { "" }], "{name}");
        }
    }

    #[tokio::test]
    async fn v07_connection_can_not_remove_what_we_set() {
        let named =
            format!("{}, x-forwarded-for, X-Forwarded-Host, host, x-named", IDENTITY_HEADER_NAMES.join(", "));
        let head = head_of(|front| {
            get(front, "/")
                .header("connection", &named)
                .header("x-named", "one hop")
                .body(Body::empty())
                .unwrap()
        })
        .await;
        assert_eq!(values(&head, "remote-user"), ["mira"]);
        assert_eq!(values(&head, "doorward-sso"), [""]);
        assert_eq!(values(&head, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(values(&head, "host"), ["hub.example.com"]);
        assert!(values(&head, "x-named").is_empty(), "what `Connection` names is for one hop");
    }

    #[tokio::test]
    async fn v10_headers_that_override_path_or_method_do_not_arrive() {
        let head = head_of(|front| {
            let mut request = get(front, "/");
            for name in OVERRIDE_HEADER_NAMES {
                request = request.header(name, "other").header(name.replace('-', "_"), "other");
            }
            request.body(Body::empty()).unwrap()
        })
        .await;
        assert!(!head.contains("other"), "{head}");
    }

    #[tokio::test]
    async fn v05_b10_where_the_client_comes_from_is_what_we_say() {
        let head = head_of(|front| {
            let mut request = get(front, "/");
            for name in [
                "x-forwarded-for",
                "x_forwarded_for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-forwarded-prefix",
            ] {
                request = request.header(name, "forged");
            }
            request = request
                .header("forwarded", "for=forged")
                .header("x-real-ip", "forged")
                .header("proxy", "forged");
            request.body(Body::empty()).unwrap()
        })
        .await;
        assert!(!head.contains("forged"), "{head}");
        assert_eq!(values(&head, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(values(&head, "x-forwarded-proto"), ["https"]);
        assert_eq!(values(&head, "x-forwarded-host"), ["hub.example.com"]);
        assert_eq!(values(&head, "host"), ["hub.example.com"]);
    }

    #[tokio::test]
    async fn headers_for_one_hop_stay_on_their_hop() {
        let head = head_of(|front| {
            let request = get(front, "/").header("te", "trailers").header("trailer", "remote-user");
            let request = request.header("keep-alive", "timeout=5").header("proxy-authorization", "x");
            request.header("accept", "text/html").body(Body::empty()).unwrap()
        })
        .await;
        for name in [
            "te",
            "trailer",
            "keep-alive",
            "proxy-authorization",
            "connection",
            "transfer-encoding",
            "expect",
        ] {
            assert!(values(&head, name).is_empty(), "{name}: {head}");
        }
        assert_eq!(values(&head, "accept"), ["text/html"]);

        let (upstream, _heads) = serve_bytes(
            b"HTTP/1.1 200 OK\r\nConnection: x-named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        let (front, _stopper) = proxy_to(upstream).await;
        let response = send(get(front, "/").body(Body::empty()).unwrap()).await;
        assert!(
            !response.headers().contains_key("x-named") && !response.headers().contains_key("keep-alive")
        );
        assert_eq!(response.headers()["x-own"], "1");
    }

    #[tokio::test]
    async fn the_application_gets_path_and_query_as_the_client_wrote_them() {
        for path in ["/acme/a%20b;v/?q=%2F..&r=//x", "/", "/?", "/%E2%82%AC"] {
            let head = head_of(|front| get(front, path).body(Body::empty()).unwrap()).await;
            assert_eq!(head.lines().next(), Some(&*format!("GET {path} HTTP/1.1")));
        }
    }

    #[test]
    fn an_absolute_request_target_reaches_the_configured_application_only() {
        assert_eq!(origin_form("http://evil.example:99/x?y".parse().unwrap()).unwrap(), "/x?y");
        for target in ["evil.example:99", "*"] {
            assert!(origin_form(target.parse().unwrap()).is_err(), "{target}");
        }
    }

    #[test]
    fn an_upstream_is_plain_http_without_a_path() {
        for good in ["http://127.0.0.1:3000", "http://app:80/", "http://[::1]:3000"] {
            assert!(good.parse::<Upstream>().is_ok(), "{good}");
        }
        for bad in ["", "app:80", "https://app", "http://app/x", "http://u:p@app", "unix:/x", "http://"] {
            assert_eq!(bad.parse::<Upstream>(), Err(InvalidUpstream), "{bad}");
        }
    }

    #[tokio::test]
    async fn rule_11_our_cookies_are_kept_from_the_application_and_the_others_stay_as_they_are() {
        for (sent, arrives) in [
            (vec!["__Host-doorward-app=secret"], vec![]),
            (vec!["a=1; __Host-doorward-app=secret; b=\"x y\""], vec!["a=1; b=\"x y\""]),
            (vec!["__Host-doorward-app=secret;__Host-doorward-handover=secret; c"], vec!["c"]),
            (vec!["a=1", "__Host-doorward-app=secret; b=2"], vec!["a=1; b=2"]),
            (vec!["__Host-doorward-app =secret; a=__Host-doorward-app"], vec!["a=__Host-doorward-app"]),
            (
                vec!["__Host-doorward-apple=1; x__Host-doorward-app=2"],
                vec!["__Host-doorward-apple=1; x__Host-doorward-app=2"],
            ),
        ] {
            let head = head_of(|front| {
                let request =
                    sent.iter().fold(get(front, "/"), |request, cookie| request.header("cookie", *cookie));
                request.body(Body::empty()).unwrap()
            })
            .await;
            assert_eq!(values(&head, "cookie"), arrives, "{sent:?}");
        }
    }

    #[test]
    fn rule_11_the_application_can_not_set_a_cookie_of_our_name() {
        let mut headers = HeaderMap::new();
        for value in [
            "__Host-doorward-app=x; Path=/; Secure",
            " __Host-doorward-handover = x",
            "=__Host-doorward-app=x",
            "= __host-Doorward-app=x",
            "__Host-doorward-app",
            "own=__Host-doorward-app; Path=/",
            "__Host-doorward-apple=1",
            "",
        ] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(value));
        }
        clean_response_headers(&mut headers, &OWN);
        let kept: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(kept, ["own=__Host-doorward-app; Path=/", "__Host-doorward-apple=1", ""]);
    }

    #[tokio::test]
    async fn an_application_that_is_down_is_said_to_be_down() {
        let (listener, nobody) = listen().await;
        drop(listener);
        let (front, _stopper) = proxy_to(nobody).await;
        let response = send(get(front, "/").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(text(response).await, "gate.upstream_unavailable");
    }

    #[tokio::test]
    async fn an_application_that_breaks_off_or_talks_nonsense_is_said_to_be_down() {
        for answer in [
            b"SSH-2.0-x\r\n\r\n".as_slice(),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ] {
            let (upstream, _heads) = serve_bytes(answer).await;
            let (front, _stopper) = proxy_to(upstream).await;
            let response = send(get(front, "/").body(Body::empty()).unwrap()).await;
            assert_eq!(text(response).await, "gate.upstream_unavailable");
        }
    }

    #[tokio::test]
    async fn an_application_that_does_not_begin_its_answer_in_time_is_given_up() {
        let (upstream, mut heads) = serve_bytes(b"").await;
        let impatient = UpstreamProxy::with_timeouts(
            Duration::from_mins(1),
            Duration::from_millis(1),
            Duration::from_mins(1),
        );
        let (front, _stopper) = proxy_with(upstream, impatient).await;
        let response = send(get(front, "/").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(text(response).await, "gate.upstream_timeout");
        assert!(heads.recv().await.is_some(), "it had the request");
    }

    /// Counts the bytes of an upload until it ends, or a piece ends with `!`, and tells each piece as it arrives.
    async fn counting_application() -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
        let (tell, pieces) = mpsc::unbounded_channel();
        let total = Arc::new(AtomicU64::new(0));
        let router = Router::new().fallback(move |request: Request<Body>| {
            let (tell, total) = (tell.clone(), Arc::clone(&total));
            async move {
                let mut body = request.into_body().into_data_stream();
                while let Some(Ok(piece)) = body.next().await {
                    total.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    tell.send(piece.len()).unwrap();
                    if piece.ends_with(b"!") {
                        break;
                    }
                }
                total.load(Ordering::Relaxed).to_string()
            }
        });
        (serve(router).await, pieces)
    }

    #[tokio::test]
    async fn an_upload_streams_through_and_its_length_does_not_count_against_the_time_to_answer() {
        let (upstream, mut pieces) = counting_application().await;
        let impatient = UpstreamProxy::with_timeouts(
            Duration::from_mins(1),
            Duration::from_millis(1),
            Duration::from_mins(1),
        );
        let (front, _stopper) = proxy_with(upstream, impatient).await;
        let (upload, body) = mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
        let body =
            Body::from_stream(stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) }));
        let request = Request::put(format!("http://{front}/big")).body(body).unwrap();
        let answer = tokio::spawn(send(request));

        upload.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        assert_eq!(pieces.recv().await, Some(5), "the application has it before the rest is sent");
        // Much more than a millisecond's worth.
        let mebibyte = Bytes::from(vec![7; 1 << 20]);
        for _ in 0..20 {
            upload.send(Ok(mebibyte.clone())).await.unwrap();
        }
        upload.send(Ok(Bytes::from_static(b"!"))).await.unwrap();
        assert_eq!(text(answer.await.unwrap()).await, (5 + 20 * (1 << 20) + 1).to_string());
    }

    #[tokio::test]
    async fn a_body_that_does_not_go_on_is_given_up_and_holds_nothing() {
        let (upstream, mut pieces) = counting_application().await;
        let minute = Duration::from_mins(1);
        let proxy = UpstreamProxy::with_timeouts(minute, minute, Duration::from_millis(20));
        let (front, _stopper) = proxy_with(upstream, proxy).await;
        let (upload, body) = mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
        let body =
            Body::from_stream(stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) }));
        upload.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        let response = send(Request::put(format!("http://{front}/big")).body(body).unwrap()).await;
        assert_eq!(pieces.recv().await, Some(5));
        assert_eq!(text(response).await, "request.too_slow");
        drop(upload);
    }

    #[tokio::test]
    async fn a_get_with_a_body_of_unknown_length_keeps_its_body() {
        let (upstream, _pieces) = counting_application().await;
        let (front, _stopper) = proxy_to(upstream).await;
        let body = Body::from_stream(stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(
            b"query",
        ))]));
        let request = get(front, "/").header("transfer-encoding", "chunked").body(body).unwrap();
        assert_eq!(text(send(request).await).await, "5");
    }

    /// An application whose answer is fed by the test.
    async fn feeding_application() -> (SocketAddr, mpsc::Sender<&'static str>) {
        let (feed, events) = mpsc::channel::<&'static str>(1);
        let events = Arc::new(tokio::sync::Mutex::new(Some(events)));
        let router = Router::new().fallback(move || {
            let events = Arc::clone(&events);
            async move {
                let events = events.lock().await.take().unwrap();
                let body = stream::unfold(events, |mut events| async {
                    let event = events.recv().await?;
                    Some((Ok::<_, std::convert::Infallible>(event), events))
                });
                Response::builder()
                    .header("content-type", "text/event-stream")
                    .body(Body::from_stream(body))
                    .unwrap()
            }
        });
        (serve(router).await, feed)
    }

    async fn next_piece(body: &mut hyper::body::Incoming) -> Option<Result<Bytes, hyper::Error>> {
        Some(body.frame().await?.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test]
    async fn server_sent_events_arrive_one_by_one() {
        let (upstream, feed) = feeding_application().await;
        let (front, _stopper) = proxy_to(upstream).await;
        let mut body = send(get(front, "/").body(Body::empty()).unwrap()).await.into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            feed.send(event).await.unwrap();
            assert_eq!(next_piece(&mut body).await.unwrap().unwrap(), event);
        }
        drop(feed);
        assert!(next_piece(&mut body).await.is_none(), "a clean end stays one");
    }

    #[tokio::test]
    async fn v29_a_revoked_session_ends_a_running_stream_and_the_client_sees_that_it_is_not_whole() {
        let (upstream, feed) = feeding_application().await;
        let (front, stopper) = proxy_to(upstream).await;
        let mut body = send(get(front, "/").body(Body::empty()).unwrap()).await.into_body();
        feed.send("data: 1\n\n").await.unwrap();
        assert!(next_piece(&mut body).await.unwrap().is_ok());
        stopper.send(true).unwrap();
        assert!(next_piece(&mut body).await.unwrap().is_err());
        feed.closed().await;
    }

    #[tokio::test]
    async fn v29_a_revoked_session_ends_an_exchange_that_has_no_answer_yet() {
        let (upstream, mut heads) = serve_bytes(b"").await;
        let (front, stopper) = proxy_to(upstream).await;
        let answer = tokio::spawn(send(get(front, "/").body(Body::empty()).unwrap()));
        heads.recv().await.unwrap();
        stopper.send(true).unwrap();
        assert_eq!(text(answer.await.unwrap()).await, "service.unavailable");
    }

    #[tokio::test]
    async fn v29_an_upload_goes_on_after_its_answer_and_ends_with_the_session() {
        for revoked in [false, true] {
            let (listener, upstream) = listen().await;
            let (tell, mut uploads) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await.unwrap();
                let mut upload = Vec::new();
                drop(socket.read_to_end(&mut upload).await);
                tell.send(String::from_utf8(upload).unwrap()).unwrap();
            });
            let (front, stopper) = proxy_to(upstream).await;
            let (upload, body) = mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
            let body = Body::from_stream(stream::unfold(body, |mut body| async {
                Some((body.recv().await?, body))
            }));
            upload.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
            let answer = send(Request::put(format!("http://{front}/big")).body(body).unwrap()).await;
            assert_eq!(text(answer).await, "early");
            if revoked {
                stopper.send(true).unwrap();
            } else {
                upload.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
                drop(upload);
            }
            let arrived = uploads.recv().await.unwrap();
            assert_eq!(arrived.ends_with("6\r\nsecond\r\n0\r\n\r\n"), !revoked, "{arrived}");
        }
    }

    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

    fn websocket(front: SocketAddr) -> Request<Body> {
        let request =
            get(front, "/socket").header("connection", "keep-alive, Upgrade").header("upgrade", "WebSocket");
        request.header("sec-websocket-key", "k").body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_websocket_is_joined_through_both_ways() {
        let (upstream, mut heads) = serve_bytes(SWITCH).await;
        let (front, _stopper) = proxy_to(upstream).await;
        let mut response = send(websocket(front)).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "x");
        let head = heads.recv().await.unwrap();
        assert_eq!(values(&head, "upgrade"), ["websocket"]);
        assert_eq!(values(&head, "connection"), ["upgrade"]);
        assert_eq!(values(&head, "remote-user"), ["mira"]);

        let mut socket = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        for message in [b"hello", b"again"] {
            socket.write_all(message).await.unwrap();
            let mut echo = [0; 5];
            socket.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, message);
        }
    }

    #[tokio::test]
    async fn v29_a_revoked_session_ends_a_websocket() {
        let (upstream, _heads) = serve_bytes(SWITCH).await;
        let (front, stopper) = proxy_to(upstream).await;
        let mut response = send(websocket(front)).await;
        let mut socket = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stopper.send(true).unwrap();
        let mut nothing = Vec::new();
        drop(socket.read_to_end(&mut nothing).await);
        assert!(nothing.is_empty());
    }

    #[tokio::test]
    async fn v29_a_revoked_session_ends_the_answer_of_who_was_refused_a_websocket_and_sends_on() {
        let (upstream, _heads) =
            serve_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        let (front, stopper) = proxy_to(upstream).await;
        let (_upload, body) = mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
        let body =
            Body::from_stream(stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) }));
        let mut request = websocket(front).map(|_| body);
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("100"));
        let mut answer = send(request).await.into_body();
        assert_eq!(next_piece(&mut answer).await.unwrap().unwrap(), "first");
        stopper.send(true).unwrap();
        assert!(next_piece(&mut answer).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_application_may_decline_a_websocket() {
        let (upstream, _heads) = serve_bytes(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        let (front, _stopper) = proxy_to(upstream).await;
        let response = send(websocket(front)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(text(response).await, "no");
    }

    #[tokio::test]
    async fn every_upgrade_but_websocket_is_refused() {
        let (upstream, _heads) = serve_bytes(OK).await;
        let (front, _stopper) = proxy_to(upstream).await;
        for upgrade in ["h2c", "websocket, h2c", "TLS/1.0"] {
            let request = get(front, "/").header("upgrade", upgrade).body(Body::empty()).unwrap();
            assert_eq!(text(send(request).await).await, "gate.method_refused", "{upgrade}");
        }
    }
}
