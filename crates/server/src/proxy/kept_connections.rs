//! Connections to one application, which rest between two requests and are driven by the request that uses them.
//!
//! In: a request for the application. Out: the head of its answer, and a body that gives the connection back when it has
//! come whole.
//! Why not hyper-util's client: it drives each connection on a task of its own, so every request goes to another task and
//! its answer comes back from there (ADR 0044). HTTP itself is hyper's here too.
//! Invariant: a connection is used again only when hyper is ready for it, which it is once the last answer has come whole and the
//! last request's body is written; else it is closed. So nobody reads another one's answer.

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
    /// Begun at once, so that no future of the caller's has the request in it; and in a box, because it is large: it has the
    /// room for a request that is given back.
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
            tokio::spawn(watch(Arc::downgrade(&self.0), AGES_EVERY));
        }
    }

    /// What is left of an answer after its head.
    pub(super) fn rest_of(&self, body: Incoming, connection: Connection) -> AnswerBody {
        let rest = if connection.is_at_rest() {
            self.keep(connection);
            Rest::Here
        } else {
            match connection.carrier {
                Carrier::Ended => Rest::Here,
                Carrier::Task => Rest::CarriedByTask,
                Carrier::User(_) if body.is_end_stream() => {
                    connection.leave(std::future::pending());
                    Rest::Here
                }
                Carrier::User(_) => Rest::OnItsWay(connection, self.clone()),
            }
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
async fn watch(resting: Weak<Mutex<Resting>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(resting) = resting.upgrade() else { return };
        let mut resting = resting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = resting.age();
        resting.is_watched = !resting.connections.is_empty();
        let goes_on = resting.is_watched;
        drop(resting);
        // Closed here, where no request waits for it.
        drop(old);
        if !goes_on {
            return;
        }
    }
}

impl Resting {
    /// Takes out those that have rested for their time.
    fn age(&mut self) -> Vec<(Connection, u8)> {
        self.connections
            .extract_if(.., |(_, age)| {
                *age += 1;
                *age >= AGE_MAX
            })
            .collect()
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

    /// Leaves what is still to be sent to a task, until it is sent or `stop` ends, and then closes the connection. An
    /// application that answers early has perhaps not taken all of its request, though hyper may have.
    pub(super) fn leave(self, stop: impl Future<Output = ()> + Send + 'static) {
        let Carrier::User(mut carried) = self.carrier else { return };
        tokio::spawn(async move {
            let mut stop = pin!(stop);
            // hyper may write the last bytes and not look whether anybody has a further request, until it is asked again.
            let mut again = tokio::time::interval(AGES_EVERY);
            loop {
                tokio::select! {
                    _its_end = &mut carried => return,
                    () = &mut stop => return,
                    _ = again.tick() => {}
                }
            }
        });
    }

    /// hyper takes a further request: nothing of the last exchange is left to read, nor a body to write.
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
            } else {
                connection.leave(std::future::pending());
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
        // hyper tells the connection that there is room again; who asks here needs no word of it.
        connection.user.0.take();
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, header};
    use http_body_util::{BodyExt as _, Full};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    /// An application that is one function for each connection, with the number of the connection.
    struct Application {
        kept: KeptConnections,
        connector: HttpConnector,
        authority: Authority,
        connections: Arc<AtomicUsize>,
    }

    impl Application {
        async fn of<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&connections);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, counted.fetch_add(1, Ordering::SeqCst)));
                }
            });
            Self { kept: KeptConnections::default(), connector: HttpConnector::new(), authority, connections }
        }

        async fn ask(&self, request: Request<Body>) -> Result<Response<AnswerBody>, Fault> {
            let (response, connection) =
                self.kept.exchange(&self.connector, &self.authority, request, false).await?;
            Ok(response.map(|body| self.kept.rest_of(body, connection)))
        }

        async fn text(&self, path: &str) -> String {
            text(self.ask(get(path)).await.unwrap()).await
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }

        fn at_rest(&self) -> usize {
            self.kept.resting().connections.len()
        }
    }

    fn get(path: &str) -> Request<Body> {
        Request::get(path).header(header::HOST, "app").body(Body::empty()).unwrap()
    }

    async fn text(response: Response<AnswerBody>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Reads one head; nothing if the connection ends before.
    async fn head(stream: &mut TcpStream) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        String::from_utf8(head).ok()
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Answers each request with its number on the connection, or with nothing.
    async fn count_requests(mut stream: TcpStream, connection: usize) {
        let mut request = 0;
        while let Some(head) = head(&mut stream).await {
            let counted = answer(&format!("{connection}.{request}"));
            let nothing = "HTTP/1.1 204 No Content\r\n\r\n";
            let answer = if head.starts_with("GET /nothing") { nothing } else { &counted };
            stream.write_all(answer.as_bytes()).await.unwrap();
            request += 1;
        }
    }

    #[tokio::test]
    async fn a_connection_whose_answer_has_come_whole_is_used_again() {
        let application = Application::of(count_requests).await;
        for request in 0..3 {
            assert_eq!(application.text("/").await, format!("0.{request}"));
        }
        assert!(application.kept.resting().is_watched, "somebody sees to its age");
    }

    #[tokio::test]
    async fn a_long_answer_and_one_in_chunks_give_their_connection_back_at_their_end() {
        let application = Application::of(async |mut stream, connection| {
            while let Some(head) = head(&mut stream).await {
                if head.starts_with("GET /chunks") {
                    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    stream.write_all(head).await.unwrap();
                    for _ in 0..1000 {
                        stream.write_all(b"4\r\nfour\r\n").await.unwrap();
                    }
                    stream.write_all(b"0\r\n\r\n").await.unwrap();
                } else {
                    let body = connection.to_string().repeat(3 << 20);
                    stream.write_all(answer(&body).as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        for _ in 0..3 {
            assert_eq!(application.text("/long").await, "0".repeat(3 << 20));
            assert_eq!(application.text("/chunks").await, "four".repeat(1000));
            assert_eq!(application.at_rest(), 1);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_given_up_ends_its_connection() {
        let application = Application::of(async |mut stream, connection| {
            while head(&mut stream).await.is_some() {
                let body = connection.to_string().repeat(1 << 20);
                if stream.write_all(answer(&body).as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        drop(application.ask(get("/")).await.unwrap());
        assert_eq!(application.at_rest(), 0);
        assert!(application.text("/").await.starts_with("11"));
    }

    #[tokio::test]
    async fn what_an_application_says_unasked_is_nobodys_answer() {
        // Together with an answer, and while the connection rests.
        for at_once in [true, false] {
            let (tell, mut told) = mpsc::channel::<()>(1);
            let application = Application::of(move |mut stream, connection| {
                let tell = tell.clone();
                async move {
                    while head(&mut stream).await.is_some() {
                        let own = answer(&connection.to_string());
                        let unasked = answer("of somebody else");
                        let first = if at_once { format!("{own}{unasked}") } else { own };
                        drop(stream.write_all(first.as_bytes()).await);
                        if !at_once {
                            drop(stream.write_all(unasked.as_bytes()).await);
                        }
                        tell.send(()).await.unwrap_or_default();
                    }
                }
            })
            .await;
            for request in 0..3 {
                assert_eq!(application.text("/").await, request.to_string(), "{at_once}");
                told.recv().await;
                if !at_once {
                    until_it_is_noticed(&application).await;
                }
            }
        }
    }

    /// Until the runtime has heard what came on the connections that rest.
    async fn until_it_is_noticed(application: &Application) {
        poll_fn(|context| {
            let mut resting = application.kept.resting();
            resting.connections.retain_mut(|(connection, _)| {
                connection.carry(context);
                matches!(connection.carrier, Carrier::User(_))
            });
            if resting.connections.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_is_not_lost_on_a_connection_that_the_application_has_closed_meanwhile() {
        let (close, told_to_close) = mpsc::channel::<()>(1);
        let told_to_close = Arc::new(tokio::sync::Mutex::new(told_to_close));
        let (tell, mut told) = mpsc::channel::<()>(1);
        let application = Application::of(move |mut stream, connection| {
            let (tell, told_to_close) = (tell.clone(), Arc::clone(&told_to_close));
            async move {
                let head = head(&mut stream).await.unwrap();
                let mut body = vec![0; if head.starts_with("POST") { 5 } else { 0 }];
                stream.read_exact(&mut body).await.unwrap();
                let body = String::from_utf8(body).unwrap();
                stream.write_all(answer(&format!("{connection}{body}")).as_bytes()).await.unwrap();
                told_to_close.lock().await.recv().await;
                drop(stream);
                tell.send(()).await.unwrap_or_default();
            }
        })
        .await;
        for (request, method) in
            [Method::GET, Method::POST, Method::POST, Method::GET].into_iter().enumerate()
        {
            let words = if method == Method::POST { "words" } else { "" };
            let mut asked = get("/").map(|_| Body::new(Full::from(words)));
            *asked.method_mut() = method;
            assert_eq!(text(application.ask(asked).await.unwrap()).await, format!("{request}{words}"));
            assert_eq!(application.at_rest(), 1);
            close.send(()).await.unwrap();
            told.recv().await;
            // Lets the runtime look at what has come.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn an_upload_arrives_whole_although_its_answer_comes_first() {
        const UPLOAD: usize = 16 << 20;
        for body in ["", "early"] {
            let (tell, mut told) = mpsc::channel::<usize>(1);
            let (go_on, may_go_on) = mpsc::channel::<()>(1);
            let may_go_on = Arc::new(tokio::sync::Mutex::new(may_go_on));
            let application = Application::of(move |mut stream, _| {
                let (tell, may_go_on) = (tell.clone(), Arc::clone(&may_go_on));
                async move {
                    head(&mut stream).await.unwrap();
                    stream.write_all(answer(body).as_bytes()).await.unwrap();
                    may_go_on.lock().await.recv().await;
                    let mut upload = Vec::new();
                    drop(stream.read_to_end(&mut upload).await);
                    tell.send(upload.len()).await.unwrap_or_default();
                }
            })
            .await;
            let upload = get("/").map(|_| Body::new(Full::from(vec![7; UPLOAD])));
            assert_eq!(text(application.ask(upload).await.unwrap()).await, body);
            go_on.send(()).await.unwrap();
            assert_eq!(told.recv().await, Some(UPLOAD), "{body:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_rested_for_its_time_is_closed() {
        let (tell, mut ended) = mpsc::channel::<()>(1);
        let application = Application::of(move |stream, connection| {
            let tell = tell.clone();
            async move {
                count_requests(stream, connection).await;
                tell.send(()).await.unwrap_or_default();
            }
        })
        .await;
        // Nobody but this test.
        application.kept.resting().is_watched = true;
        for _ in 0..2 {
            application.text("/").await;
            for _ in 1..AGE_MAX {
                drop(application.kept.resting().age());
                assert_eq!(application.at_rest(), 1, "its age counts from its last use");
            }
        }
        tokio::spawn(watch(Arc::downgrade(&application.kept.0), Duration::from_millis(1)));
        ended.recv().await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_wakes_only_who_waits_for_it() {
        let application = Application::of(count_requests).await;
        application.text("/").await;
        let user = Arc::clone(&application.kept.resting().connections[0].0.user);
        assert!(user.0.take().is_none(), "nobody waits for a connection that rests");
        for path in ["/", "/nothing"] {
            let response = application.ask(get(path)).await.unwrap();
            assert!(response.body().is_here() && user.0.take().is_none(), "nor for an answer that is here");
        }
        assert_eq!(application.text("/").await, "0.3");
    }

    /// Bodies of all lengths, some given up, many at a time: the answer is always that of the request.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_reads_another_ones_answer() {
        let application = Application::of(async |mut stream, _| {
            while let Some(head) = head(&mut stream).await {
                let path = head.split(' ').nth(1).unwrap();
                let length: usize = path.rsplit('/').next().unwrap().parse().unwrap();
                let name = path.split('/').nth(1).unwrap();
                let body = name.repeat(length);
                let sent = if length.is_multiple_of(3) {
                    let chunks = body.as_bytes().chunks(4000).map(|chunk| {
                        format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap())
                    });
                    format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                        chunks.collect::<String>()
                    )
                } else {
                    answer(&body)
                };
                if stream.write_all(sent.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let application = Arc::new(application);
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..32_usize {
            let application = Arc::clone(&application);
            clients.spawn(async move {
                for round in 0..60_usize {
                    let length = (client * 7919 + round * 104_729) % 30_011;
                    let name = format!("c{client:02}r{round:02}");
                    let response = application.ask(get(&format!("/{name}/{length}"))).await.unwrap();
                    if (client + round).is_multiple_of(11) {
                        drop(response);
                        continue;
                    }
                    assert_eq!(text(response).await, name.repeat(length));
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        assert!(application.connections() < 32 * 60 / 4, "{} connections", application.connections());
    }
}
