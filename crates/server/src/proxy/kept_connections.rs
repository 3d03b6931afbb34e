//! Connections to one application, which rest between two requests and are driven by the request that uses them.
//!
//! In: a request for the application. Out: the head of its answer, and a body that gives the connection back when it has
//! come whole.
//! Why not hyper-util's client: it drives each connection on a task of its own, so every request goes to another task and
//! its answer comes back from there (ADR 0044). HTTP itself is hyper's here too.
//! Invariant: a connection takes a request only when hyper says that nothing of an earlier exchange is left on it, in
//! either direction; else it is closed. So nobody reads another one's answer.

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tower::ServiceExt as _;

/// How often connections that rest grow older by one.
const AGES_EVERY: Duration = Duration::from_secs(1);
/// At this age they are closed, so after three to four seconds: sooner than common servers do it (Node: 5 s), so that they
/// rarely close a connection as we use it again.
const AGE_MAX: u8 = 4;

/// Why a request got no answer.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The connections to one application that rest.
#[derive(Clone, Default)]
pub(super) struct KeptConnections(Arc<Mutex<Resting>>);

#[derive(Default)]
struct Resting {
    /// With their age; the one that came last is used first.
    connections: Vec<(Connection, u8)>,
    /// A task sees to it that they grow older.
    is_watched: bool,
}

impl fmt::Debug for KeptConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptConnections").finish_non_exhaustive()
    }
}

/// The head of an answer, and the connection that it came over.
type Head = (Response<Incoming>, Connection);

impl KeptConnections {
    /// Sends a request, whose target is path and query alone, and waits for the head of its answer. With `upgrade` the
    /// connection may become one of another protocol, which outlives the request.
    ///
    /// An application may close a connection that has rested in the moment in which it is used again; if nothing of the
    /// request was written by then, it goes over a new one.
    ///
    /// In a box, because it has the room to take the request back, and begun at once, so that the request is in no other future.
    pub(super) fn exchange<'k>(
        &self,
        connector: &'k HttpConnector,
        upstream: &'k Authority,
        request: Request<Body>,
        upgrade: bool,
    ) -> BoxFuture<'k, Result<Head, Fault>> {
        let rested = self.resting().connections.pop();
        let Some((mut connection, _age)) = rested else {
            return Box::pin(exchange_anew(connector, upstream, request, upgrade));
        };
        let answer = connection.send(request, upgrade);
        Box::pin(async move {
            match connection.head_of(pin!(answer)).await {
                Ok(response) => Ok((response, connection)),
                Err(mut fault) => match fault.take_message() {
                    Some(request) => Box::pin(exchange_anew(connector, upstream, request, upgrade)).await,
                    None => Err(fault.into_error().into()),
                },
            }
        })
    }

    /// Keeps a connection that is at rest.
    fn keep(&self, connection: Connection) {
        connection.user.0.take();
        let mut resting = self.resting();
        resting.connections.push((connection, 0));
        if !resting.is_watched {
            resting.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
    }

    /// What is left of an answer after its head. If the application answers while the request is still `being_sent`, a task
    /// sends the rest of that, and the connection is not used again.
    pub(super) fn rest_of(&self, body: Incoming, mut connection: Connection, being_sent: bool) -> AnswerBody {
        if being_sent
            && let Carrier::User(carried) = std::mem::replace(&mut connection.carrier, Carrier::Task)
        {
            tokio::spawn(carried);
        }
        let rest = match connection.carrier {
            Carrier::Ended => Rest::Here,
            Carrier::Task => Rest::CarriedByTask,
            Carrier::User(_) if connection.is_at_rest() => {
                self.keep(connection);
                Rest::Here
            }
            Carrier::User(_) => Rest::OnItsWay(connection, self.clone()),
        };
        AnswerBody { body, rest }
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same over a connection of its own.
async fn exchange_anew(
    connector: &HttpConnector,
    upstream: &Authority,
    request: Request<Body>,
    upgrade: bool,
) -> Result<Head, Fault> {
    let mut connection = Connection::open(connector, upstream).await?;
    let answer = connection.send(request, upgrade);
    match connection.head_of(pin!(answer)).await {
        Ok(response) => Ok((response, connection)),
        Err(fault) => Err(fault.into_error().into()),
    }
}

/// Ages what rests, while anything does, and closes what has rested for too long.
async fn watch(resting: Weak<Mutex<Resting>>) {
    loop {
        tokio::time::sleep(AGES_EVERY).await;
        let Some(resting) = resting.upgrade() else { return };
        let mut resting = resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.age();
        resting.is_watched = !resting.connections.is_empty();
        if !resting.is_watched {
            return;
        }
    }
}

impl Resting {
    fn age(&mut self) {
        self.connections.retain_mut(|(_, age)| {
            *age += 1;
            *age < AGE_MAX
        });
    }
}

// === One connection ===

/// One connection to an application: where requests are given to it, and what carries them when it is polled.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    carrier: Carrier,
    user: Arc<User>,
    /// Wakes the user. hyper and tokio keep it from one exchange to the next.
    waker: Waker,
}

enum Carrier {
    /// Whoever waits for the answer or reads it.
    User(Box<http1::Connection<TokioIo<TcpStream>, Body>>),
    /// A task of its own.
    Task,
    /// Nobody: the connection has ended.
    Ended,
}

/// The task that uses a connection now; nobody while it rests. Without this the task that used it last would be woken when
/// the next request is given to it.
#[derive(Default)]
struct User(AtomicWaker);

impl Wake for User {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

impl Connection {
    async fn open(connector: &HttpConnector, upstream: &Authority) -> Result<Self, Fault> {
        let address = Uri::builder().scheme(Scheme::HTTP).authority(upstream.clone()).path_and_query("/");
        let stream = connector.clone().oneshot(address.build()?).await?;
        let (sender, carried) = http1::handshake(stream).await?;
        let user = Arc::new(User::default());
        let waker = Waker::from(Arc::clone(&user));
        Ok(Self { sender, carrier: Carrier::User(Box::new(carried)), user, waker })
    }

    /// Gives a request to the connection, which goes out when it is carried.
    fn send(
        &mut self,
        request: Request<Body>,
        upgrade: bool,
    ) -> impl Future<Output = Answered> + Send + use<> {
        let answer = self.sender.try_send_request(request);
        if upgrade && let Carrier::User(carried) = std::mem::replace(&mut self.carrier, Carrier::Task) {
            tokio::spawn(carried.with_upgrades());
        }
        answer
    }

    async fn head_of(&mut self, mut answer: Pin<&mut (impl Future<Output = Answered> + Send)>) -> Answered {
        poll_fn(|context| {
            self.carry(context);
            match self.carrier {
                Carrier::Task => answer.as_mut().poll(context),
                Carrier::User(_) | Carrier::Ended => poll_carried(answer.as_mut()),
            }
        })
        .await
    }

    /// Carries bytes as far as they go now. How a connection ended is told to whoever waits for its answer or reads it.
    fn carry(&mut self, context: &Context<'_>) {
        if let Carrier::User(carried) = &mut self.carrier {
            self.user.0.register(context.waker());
            if Pin::new(carried).poll(&mut Context::from_waker(&self.waker)).is_ready() {
                self.carrier = Carrier::Ended;
            }
        }
    }

    /// Nothing of the last exchange is left.
    fn is_at_rest(&self) -> bool {
        matches!(self.carrier, Carrier::User(_)) && self.sender.is_ready()
    }
}

/// Asks for what comes over a connection that was carried a moment ago: nothing else can bring it, so nobody has to be woken
/// for it, and a task's budget is no reason to wait.
fn poll_carried<F: Future>(future: F) -> Poll<F::Output> {
    pin!(unconstrained(future)).poll(&mut Context::from_waker(Waker::noop()))
}

/// What hyper answers a request with, or gives it back if nothing of it was written.
type Answered = Result<Response<Incoming>, TrySendError<Request<Body>>>;

// === The answer's body ===

/// The body of an application's answer, which is carried as it is read, and gives the connection back at its end.
pub(super) struct AnswerBody {
    body: Incoming,
    rest: Rest,
}

/// Where the rest of an answer is.
enum Rest {
    /// In our memory.
    Here,
    CarriedByTask,
    OnItsWay(Connection, KeptConnections),
}

impl AnswerBody {
    /// All of it is in our memory.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.rest, Rest::Here)
    }

    /// Gives the connection back once the answer has come whole.
    fn end(&mut self, context: &Context<'_>) {
        if let Rest::OnItsWay(mut connection, kept) = std::mem::replace(&mut self.rest, Rest::Here) {
            if !connection.is_at_rest() {
                connection.carry(context);
            }
            if connection.is_at_rest() {
                kept.keep(connection);
            }
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, rest } = &mut *self;
        let Rest::OnItsWay(connection, _) = rest else { return Pin::new(body).poll_frame(context) };
        let mut next = || poll_carried(poll_fn(|context| Pin::new(&mut *body).poll_frame(context)));
        let mut frame = next();
        if frame.is_pending() {
            connection.carry(context);
            frame = next();
        }
        if body.is_end_stream() || matches!(frame, Poll::Ready(None)) {
            self.end(context);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
