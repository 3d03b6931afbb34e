//! The log: how it looks, the id of each request on whatever is logged for it, and one line for each request.
//!
//! In: format and level of the configuration, requests. Out: lines on standard error, `x-request-id`, and an `Arrival` for
//! whoever answers the request.
//! Never in the log (rule 6): a query string, a cookie, another header's value, a body, a token in a path.

use crate::client_address::{ClientAddress, client_address};
use crate::clock::Clock;
use crate::configuration::{LogFormat, LogLevel};
use crate::header_names::X_REQUEST_ID;
use crate::random::Random;
use crate::web::Answers;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

tokio::task_local! {
    /// The request that this task answers.
    static REQUEST: RequestId;
}

/// Starts the log of this process, on standard error. A second call changes nothing.
pub fn start(format: LogFormat, level: LogLevel) {
    // An error only says that a log was started already, as it is in tests.
    drop(tracing::subscriber::set_global_default(subscriber(format, level, std::io::stderr)));
}

/// The log as `start` makes it, to any writer.
///
/// Libraries are heard when they warn and never below: at `debug` and `trace` they tell headers and bytes.
pub fn subscriber<W>(format: LogFormat, level: LogLevel, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let libraries = if level == LogLevel::Error { LogLevel::Error } else { LogLevel::Warn };
    let (libraries, level) = (libraries.as_str(), level.as_str());
    let filter = EnvFilter::new(format!("{libraries},doorward={level},doorward_core={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Human => {
            let lines = tracing_subscriber::fmt::format().with_ansi(false).with_target(false);
            Box::new(
                builder
                    .event_format(OfRequests { lines, end: "\n", before: " request_id=", after: "" })
                    .finish(),
            )
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            let lines = OfRequests { lines, end: "}\n", before: r#","request_id":""#, after: "\"" };
            Box::new(builder.json().event_format(lines).finish())
        }
    }
}

/// Lines with the id of the request that they were logged for, as the last field of each. No span does it, because one
/// costs each request a microsecond, logged or not (bench/README.md).
struct OfRequests<F> {
    lines: F,
    /// What a line ends with.
    end: &'static str,
    /// What stands before the id, and behind it.
    before: &'static str,
    after: &'static str,
}

impl<S, N, F> FormatEvent<S, N> for OfRequests<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(id) = REQUEST.try_with(|id| *id) else {
            return self.lines.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        let Self { end, before, after, .. } = self;
        let fields = line.strip_suffix(end).unwrap_or(&line);
        write!(writer, "{fields}{before}{id}{after}{end}")
    }
}

/// What is logged while `answering` goes on has this id.
pub(crate) fn in_request<F: Future>(id: RequestId, answering: F) -> TaskLocalFuture<RequestId, F> {
    REQUEST.scope(id, answering)
}

/// Names one request in the log, on error pages and in the answer's `x-request-id`. Never taken from outside, so that
/// nobody writes into our log or poses as another request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 24]);

impl RequestId {
    /// 96 random bits in hexadecimal; zeros from a system that has no randomness to give.
    pub(crate) fn new(random: &Random) -> Self {
        let bytes = random.id().unwrap_or_default();
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
        let mut text = [0; 24];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(text)
    }

    /// The id as a header's value.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static("none"))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("none")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Starts a task beside the request that this one answers, which goes on whatever becomes of the request: its lines have
/// that request's id.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match REQUEST.try_with(|id| *id) {
        Ok(id) => tokio::spawn(in_request(id, work)),
        Err(_) => tokio::spawn(work),
    }
}

/// What is known of a request on the main listener before it is read. In its extensions on its way to our pages.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its id.
    pub id: RequestId,
    /// The other end of its connection, for what only a trusted proxy may ask.
    pub peer: SocketAddr,
    /// Whose request it is, as `trusted_proxies` lets us know it.
    pub client: ClientAddress,
}

/// What `logged` needs.
#[derive(Debug)]
pub struct RequestLog {
    /// For the ids.
    pub random: Random,
    /// For the duration.
    pub clock: Clock,
    /// Whose forwarded addresses count.
    pub trusted_proxies: Arc<[IpNet]>,
}

/// Answers a request from `peer` on the main listener: gives it its id and its client's address, and logs one line when
/// the answer's head is ready.
pub fn logged(
    log: &RequestLog,
    answers: &Answers,
    request: Request,
    peer: SocketAddr,
) -> impl Future<Output = Response> + Send + use<> {
    let id = RequestId::new(&log.random);
    let client = client_address(peer.ip(), request.headers(), &log.trusted_proxies);
    // Boxed: a log of warnings alone shall not carry the room for it.
    let line = tracing::enabled!(tracing::Level::INFO)
        .then(|| Box::new((request.method().clone(), request.uri().clone(), log.clock.stopwatch())));
    let answered = REQUEST.sync_scope(id, || answers(request, Arrival { id, peer, client }));
    in_request(id, async move {
        let mut response = answered.await;
        if let Some(line) = line {
            let (method, uri, began) = *line;
            let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let status = response.status().as_u16();
            let path = PathForLog(uri.path());
            match path.0 {
                // A probe every second would be most of the log.
                "/healthz" | "/readyz" => tracing::debug!(%method, %path, status, ms, %client, "probe"),
                _ => tracing::info!(%method, %path, status, ms, %client, "request"),
            }
        }
        response.headers_mut().insert(X_REQUEST_ID, id.header());
        response
    })
}

/// Longest path in the log, in characters.
const PATH_CHARS_MAX: usize = 200;

/// Longest segment of a path in the log: that of a name. Tokens, as in a join link, have 43 characters.
const SEGMENT_CHARS_MAX: usize = 42;

/// A path without what must not be logged: every segment long enough to be a token is hidden.
pub(crate) struct PathForLog<'p>(pub(crate) &'p str);

impl fmt::Display for PathForLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for (i, segment) in self.0.split('/').enumerate() {
            if i > 0 {
                f.write_str("/")?;
                shown += 1;
            }
            if shown >= PATH_CHARS_MAX {
                return f.write_str("...");
            }
            let segment = if segment.chars().count() > SEGMENT_CHARS_MAX { "[hidden]" } else { segment };
            f.write_str(segment)?;
            shown += segment.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicI64;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    async fn inner(arrival: Arrival) -> Response {
        tracing::warn!("within");
        spawn(async { tracing::warn!("beside it") }).await.unwrap();
        Response::new(Body::from(arrival.id.to_string()))
    }

    /// Sends one request through the middleware; gives the answer and what was logged.
    async fn logged(format: LogFormat, level: LogLevel, request: Request) -> (Response, String) {
        let kept = Kept::default();
        let log = RequestLog {
            random: Random::seeded(1),
            clock: Clock::turned(Arc::new(AtomicI64::new(0))),
            trusted_proxies: Arc::from(["10.0.0.1/32".parse().unwrap()]),
        };
        let answers: Answers = Arc::new(|_, arrival| Box::pin(inner(arrival)));
        let guard = tracing::subscriber::set_default(subscriber(format, level, kept.clone()));
        let peer = SocketAddr::from(([10, 0, 0, 1], 5000));
        let response = super::logged(&log, &answers, request, peer).await;
        drop(guard);
        let text = kept.text();
        (response, text)
    }

    fn request(target: &str) -> Request {
        Request::post(target)
            .header("cookie", "__Host-doorward-session=planted-cookie")
            .header("authorization", "Bearer planted-header")
            .header("x-request-id", "planted-id")
            .header("x-forwarded-for", "203.0.113.9")
            .body(Body::from("password=planted-body"))
            .unwrap()
    }

    #[tokio::test]
    async fn rule_6_no_query_cookie_header_body_or_token_is_logged_at_any_level() {
        let token = "T".repeat(43);
        for level in [LogLevel::Info, LogLevel::Trace] {
            for format in [LogFormat::Human, LogFormat::Json] {
                let target = format!("/organizations/acme/join/{token}?code=planted-query");
                let (_, log) = logged(format, level, request(&target)).await;
                assert!(!log.contains("planted") && !log.contains(&token), "{log}");
                assert!(log.contains("/organizations/acme/join/[hidden]"), "{log}");
                assert!(log.contains("203.0.113.9"), "{log}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_has_one_fresh_id_in_the_answer_in_its_extensions_and_on_every_line() {
        let (response, log) = logged(LogFormat::Human, LogLevel::Info, request("/login")).await;
        let id = response.headers().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        assert_eq!(id.len(), 24);
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, id);
        assert_eq!(
            log.lines().filter(|line| line.ends_with(&format!(" request_id={id}"))).count(),
            3,
            "{log}"
        );
    }

    #[tokio::test]
    async fn a_line_of_json_has_method_path_status_duration_and_client() {
        let (_, log) = logged(LogFormat::Json, LogLevel::Info, request("/login")).await;
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(line["method"], "POST");
        assert_eq!(line["path"], "/login");
        assert_eq!(line["status"], 200);
        assert!(line["ms"].is_u64(), "{log}");
        assert_eq!(line["client"], "203.0.113.9");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["request_id"].as_str().unwrap().len(), 24);
    }

    #[test]
    fn a_path_in_the_log_is_bounded() {
        let path_for_log = |path: &str| PathForLog(path).to_string();
        assert!(path_for_log(&"/ab".repeat(10_000)).len() < 250);
        assert_eq!(path_for_log(&format!("/{}/x", "a".repeat(5000))), "/[hidden]/x");
        assert_eq!(path_for_log("/acme/data"), "/acme/data");
    }
}
