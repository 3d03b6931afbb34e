//! The least that a Rust reverse proxy can do: `floor-proxy PORT UPSTREAM_PORT`, both on 127.0.0.1.
//!
//! Every request goes on as it came, on a kept connection, and the answer comes back. Nothing is judged, cleaned or added.

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>().expect("a port"));
    let (Some(port), Some(upstream)) = (ports.next(), ports.next()) else { panic!("floor-proxy PORT UPSTREAM_PORT") };
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
            client.request(request)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
