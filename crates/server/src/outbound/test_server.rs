//! A server for tests of outgoing calls: raw bytes on the loopback, so that it can say what no library would.
//!
//! In: a script from request to pieces of an answer. Out: an address, the connections and requests it has seen.
//! Never here: HTTP rules; a request is its head and body as text. Never shipped.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the script says to do with one request.
pub(crate) enum Say {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes again and again until the other side hangs up, a pause before each.
    Drip(&'static [u8], std::time::Duration),
    /// Nothing, and keep the connection.
    Nothing,
    /// Hang up.
    HangUp,
}

impl Say {
    /// A whole answer with JSON.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
                .into_bytes(),
        )
    }
}

type Script = dyn Fn(&str) -> Vec<Say> + Send + Sync;

/// The server. It ends with its test's runtime.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(script: impl Fn(&str) -> Vec<Say> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// Listens on `address`.
    pub(crate) async fn at(
        address: SocketAddr,
        script: impl Fn(&str) -> Vec<Say> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn({
            let (connections, requests) = (Arc::clone(&connections), Arc::clone(&requests));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&requests)));
                }
            }
        });
        Self { address, connections, requests }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests read so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, requests: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    loop {
        let request = loop {
            if let Some(end) = end_of_request(&read) {
                break String::from_utf8_lossy(&read.drain(..end).collect::<Vec<_>>()).into_owned();
            }
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        requests.lock().unwrap().push(request.clone());
        for say in script(&request) {
            let said = match say {
                Say::Bytes(bytes) => stream.write_all(&bytes).await,
                Say::Drip(bytes, pause) => loop {
                    tokio::time::sleep(pause).await;
                    if let Err(error) = stream.write_all(bytes).await {
                        break Err(error);
                    }
                },
                Say::Nothing => std::future::pending().await,
                Say::HangUp => return,
            };
            if said.is_err() {
                return;
            }
        }
    }
}

fn end_of_request(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse::<usize>().unwrap());
    (read.len() >= head + length).then_some(head + length)
}
