//! The log: how it looks, the id of each request, and one line for each request.
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
use tracing::{Instrument as _, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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
        LogFormat::Human => Box::new(builder.with_target(false).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(true).finish()),
    }
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
    log: &Arc<RequestLog>,
    answers: &Answers,
    request: Request,
    peer: SocketAddr,
) -> impl Future<Output = Response> + Send + use<> {
    let log = Arc::clone(log);
    let id = RequestId::new(&log.random);
    let client = client_address(peer.ip(), request.headers(), &log.trusted_proxies);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // At the level error, so that the id is there even in a log that has errors alone.
    let span = tracing::error_span!("request", id = %id);
    let began = log.clock.now();
    let answered = span.in_scope(|| answers(request, Arrival { id, peer, client }));
    let answered = answered.instrument(span.clone());
    async move {
        let mut response = answered.await;
        let ms = log.clock.now().since(began).millis();
        let status = response.status().as_u16();
        let path = PathForLog(uri.path());
        match path.0 {
            // A probe every second would be most of the log.
            "/healthz" | "/readyz" => {
                tracing::debug!(parent: &span, %method, %path, status, ms, %client, "probe");
            }
            _ => tracing::info!(parent: &span, %method, %path, status, ms, %client, "request"),
        }
        response.headers_mut().insert(X_REQUEST_ID, id.header());
        response
    }
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

    fn inner(arrival: Arrival) -> Response {
        tracing::warn!("within");
        Response::new(Body::from(arrival.id.to_string()))
    }

    /// Sends one request through the middleware; gives the answer and what was logged.
    async fn logged(format: LogFormat, level: LogLevel, request: Request) -> (Response, String) {
        let kept = Kept::default();
        let log = Arc::new(RequestLog {
            random: Random::seeded(1),
            clock: Clock::turned(Arc::new(AtomicI64::new(0))),
            trusted_proxies: Arc::from(["10.0.0.1/32".parse().unwrap()]),
        });
        let answers: Answers = Arc::new(|_, arrival| Box::pin(async move { inner(arrival) }));
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
        assert_eq!(log.lines().filter(|line| line.contains(&id)).count(), 2, "{log}");
    }

    #[tokio::test]
    async fn a_line_of_json_has_method_path_status_duration_and_client() {
        let (_, log) = logged(LogFormat::Json, LogLevel::Info, request("/login")).await;
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(line["method"], "POST");
        assert_eq!(line["path"], "/login");
        assert_eq!(line["status"], 200);
        assert_eq!(line["ms"], 0);
        assert_eq!(line["client"], "203.0.113.9");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["id"].as_str().unwrap().len(), 24);
    }

    #[test]
    fn a_path_in_the_log_is_bounded() {
        let path_for_log = |path: &str| PathForLog(path).to_string();
        assert!(path_for_log(&"/ab".repeat(10_000)).len() < 250);
        assert_eq!(path_for_log(&format!("/{}/x", "a".repeat(5000))), "/[hidden]/x");
        assert_eq!(path_for_log("/acme/data"), "/acme/data");
    }
}
