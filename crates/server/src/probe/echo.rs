//! What stands in the application's place while the probe looks: it keeps what arrives of the probe's own requests.
//!
//! In: an address to listen on. Out: for each request of this run, its first line and headers as they came.
//! Never here: judging. Invariant: whoever else comes meanwhile is sent away with 503, and nothing of it is kept.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longest head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// How long one connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request as the application would have got it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub method: String,
    pub target: String,
    /// As they were written.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// Every value of a header, whatever the case of its name.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str()).collect()
    }
}

/// The listener. It ends with this value.
pub(super) struct Echo {
    kept: Arc<Mutex<Vec<(String, Seen)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Echo {
    /// Listens; `run` begins the `User-Agent` of everything that is kept.
    pub(super) async fn listen(address: SocketAddr, run: String) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (keep, run) = (Arc::clone(&keep), run.clone());
                tokio::spawn(
                    async move { drop(timeout(CONNECTION_TIMEOUT, answer(stream, &keep, &run)).await) },
                );
            }
        });
        Ok(Self { kept, task })
    }

    /// What arrived under this `User-Agent` so far.
    pub(super) fn take(&self, agent: &str) -> Vec<Seen> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mine, others) = kept.drain(..).partition(|(known, _)| known == agent);
        *kept = others;
        let mine: Vec<(String, Seen)> = mine;
        mine.into_iter().map(|(_, seen)| seen).collect()
    }
}

async fn answer(mut stream: TcpStream, kept: &Mutex<Vec<(String, Seen)>>, run: &str) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let seen = Seen {
        method: first.next().unwrap_or_default().to_owned(),
        target: first.next().unwrap_or_default().to_owned(),
        headers: lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
    };
    let agent = seen.values("user-agent").first().map(|agent| (*agent).to_owned()).unwrap_or_default();
    if !agent.starts_with(run) {
        let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(busy.as_bytes()).await;
    }
    let key = seen.values("sec-websocket-key").first().map(|key| (*key).to_owned());
    let names = |name: &str, token: &str| {
        seen.values(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let websocket = key.filter(|_| names("upgrade", "websocket") && names("connection", "upgrade"));
    let body = if seen.method == "HEAD" { "" } else { "doorward probe\n" };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push((agent, seen));
    let Some(key) = websocket else {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nConnection: close\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
        return stream.shutdown().await;
    };
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{WEBSOCKET_GUID}").as_bytes());
    let accept = STANDARD.encode(accept);
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    stream.write_all(format!("{switching}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}
