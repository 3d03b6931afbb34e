//! The least that a Rust reverse proxy can do: `floor-proxy PORT UPSTREAM_PORT [headers]`, both on 127.0.0.1.
//!
//! Every request goes on as it came, on a kept connection, and the answer comes back. Nothing is judged or cleaned. With
//! `headers` each request gets as many headers of the same length as Doorward has to add, all of them constants.

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut ports = std::env::args().skip(1).take(2).map(|port| port.parse::<u16>().expect("a port"));
    let (Some(port), Some(upstream)) = (ports.next(), ports.next()) else {
        panic!("floor-proxy PORT UPSTREAM_PORT [headers]")
    };
    let headers =
        if std::env::args().nth(3).is_some_and(|word| word == "headers") { added() } else { Vec::new() };
    let headers: &'static [_] = headers.leak();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket takes options");
        let client = client.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            let uri = format!("http://127.0.0.1:{upstream}{target}").parse::<Uri>();
            *request.uri_mut() = uri.expect("a target of a request is one of a URI");
            request.headers_mut().reserve(headers.len());
            for (name, value) in headers {
                request.headers_mut().insert(name, value.clone());
            }
            client.request(request)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What Doorward adds for a member: names of the contract, values of the usual length.
fn added() -> Vec<(HeaderName, HeaderValue)> {
    let lengths = [
        ("remote-user", 6),
        ("remote-name", 0),
        ("remote-email", 20),
        ("remote-groups", 0),
        ("doorward-account", 36),
        ("doorward-organization", 5),
        ("doorward-role", 5),
        ("doorward-assertion", 650),
        ("doorward-sso", 8),
        ("x-forwarded-for", 9),
        ("x-forwarded-host", 18),
        ("x-forwarded-proto", 4),
    ];
    let value = |length| HeaderValue::try_from("a".repeat(length)).expect("letters are a value");
    lengths.into_iter().map(|(name, length)| (HeaderName::from_static(name), value(length))).collect()
}
