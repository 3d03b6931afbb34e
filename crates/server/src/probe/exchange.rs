//! One HTTP exchange of the probe, letter by letter: what no well-behaved client would send.
//!
//! In: a request as text, where the proxy listens. Out: the answer's head and the beginning of its body.
//! Never here: redirects followed, cookies kept, anything that corrects a request. Bounded in size and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long one exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Sent over a WebSocket, to see whether it comes back.
const PING: &[u8] = b"doorward-probe-ping";

/// Where requests go.
#[derive(Clone)]
pub(super) struct Line {
    pub address: SocketAddr,
    /// With https: the settings, and the name that the certificate must have.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A request: every header is written as it is, in this order.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: &'static str,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: &'static str,
}

impl Request {
    pub(super) fn new(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), body: "" }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn with_all(mut self, headers: &[(&str, &str)]) -> Self {
        for (name, value) in headers {
            self = self.with(name, value);
        }
        self
    }

    fn names(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn bytes(&self, host: &str, agent: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target);
        if !self.names("connection") {
            text.push_str("Connection: close\r\n");
        }
        text.extend(["User-Agent: ", agent, "\r\n"]);
        for (name, value) in &self.headers {
            text.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        if !self.body.is_empty() {
            text.extend(["Content-Length: ", self.body.len().to_string().as_str(), "\r\n"]);
        }
        text.push_str("\r\n");
        text.push_str(self.body);
        text.into_bytes()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What was sent over a WebSocket came back.
    pub echoed: bool,
}

impl Answer {
    /// The first value of a header; `name` in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Line {
    /// Sends one request on a connection of its own and reads the answer. `host` and `agent`: its `Host` and `User-Agent`.
    pub(super) async fn exchange(&self, request: &Request, host: &str, agent: &str) -> io::Result<Answer> {
        let all = async {
            #[expect(
                clippy::disallowed_methods,
                reason = "to the operator's own proxy, whose address he gave"
            )]
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let bytes = request.bytes(host, agent);
            match &self.tls {
                None => converse(stream, request, &bytes).await,
                Some((settings, name)) => {
                    let connector = TlsConnector::from(Arc::clone(settings));
                    converse(connector.connect(name.clone(), stream).await?, request, &bytes).await
                }
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 seconds");
        timeout(EXCHANGE_TIMEOUT, all).await.map_err(late)?
    }
}

async fn converse<S>(mut stream: S, request: &Request, bytes: &[u8]) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A proxy that refuses early may close before it has read everything; what it answered counts.
    let written = stream.write_all(bytes).await;
    let flushed = stream.flush().await;
    let mut seen = Vec::new();
    let mut pinged = false;
    loop {
        if is_whole(&seen, request.method, pinged) || seen.len() > ANSWER_BYTES_MAX {
            break;
        }
        if !pinged && seen.starts_with(b"HTTP/1.1 101") && find(&seen, b"\r\n\r\n").is_some() {
            stream.write_all(PING).await?;
            stream.flush().await?;
            pinged = true;
        }
        match stream.read_buf(&mut seen).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if find(&seen, b"\r\n\r\n").is_none() => {
                written.and(flushed)?;
                return Err(error);
            }
            Err(_) => break,
        }
    }
    read(&seen).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Whether everything that is waited for is there. An answer of unknown length ends with its connection.
fn is_whole(seen: &[u8], method: &str, pinged: bool) -> bool {
    let Some(end) = find(seen, b"\r\n\r\n") else { return false };
    let (head, body) = seen.split_at_checked(end + 4).unwrap_or((seen, &[]));
    if head.starts_with(b"HTTP/1.1 101") {
        return pinged && find(body, PING).is_some();
    }
    let Some(answer) = read(head) else { return false };
    if method == "HEAD" || matches!(answer.status, 204 | 304) {
        return true;
    }
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length) || body.ends_with(b"\r\n0\r\n\r\n")
}

fn read(seen: &[u8]) -> Option<Answer> {
    let end = find(seen, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(seen.get(..end)?).into_owned();
    let body = String::from_utf8_lossy(seen.get(end + 4..)?).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let echoed = find(body.as_bytes(), PING).is_some();
    Some(Answer { status, headers, body, echoed })
}
