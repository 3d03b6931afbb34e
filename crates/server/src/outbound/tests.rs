//! What outgoing calls reach, and what they never reach (conformance.md S1 to S12, F2, F3, V55, V59, V60).

use super::test_server::{Say, TestServer};
use super::*;
use futures_util::FutureExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

fn organization() -> OrganizationId {
    OrganizationId::new(0, [1; 10])
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn made(settings: OutboundSettings) -> Outbound {
    Outbound::new(settings, Clock::system()).unwrap()
}

fn outbound(allow: &[SocketAddr]) -> Outbound {
    made(OutboundSettings::new(allow.to_vec()))
}

fn outbound_to(address: SocketAddr) -> Outbound {
    outbound(&[address])
}

/// A resolver that answers every name with what the test says at that moment, and counts.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<SocketAddr>>>, Arc<AtomicUsize>);

impl Names {
    fn are(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }

    fn asked(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    fn lookup(&self) -> Lookup {
        let names = self.clone();
        Arc::new(move |host, _| {
            let found = if host == "ipv4only.arpa" { Vec::new() } else { names.0.lock().unwrap().clone() };
            names.1.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move { Ok(found) })
        })
    }
}

fn outbound_with(names: &Names, allow: &[SocketAddr]) -> Outbound {
    let settings = OutboundSettings { lookup: names.lookup(), ..OutboundSettings::new(allow.to_vec()) };
    made(settings)
}

async fn get(outbound: &Outbound, text: &str) -> Result<Answer, OutboundFault> {
    outbound.get(organization(), &url(text), Limits::DOCUMENT).await
}

fn hello(_: &str) -> Vec<Say> {
    vec![Say::json(200, "{}")]
}

#[tokio::test]
async fn v60_s6_each_spelling_of_a_refused_address_is_refused_and_nobody_is_called() {
    let canary = TestServer::start(hello).await;
    let port = canary.address.port();
    // Everything that is left as a name resolves to the canary.
    let names = Names::default();
    names.are(&[canary.address]);
    let outbound = outbound_with(&names, &[]);
    let hosts = [
        "127.0.0.1",
        "0177.0.0.1",
        "0x7f.1",
        "2130706433",
        "127.1",
        "017700000001",
        "[::1]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "127。0。0。1",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "%31%32%37.0.0.1",
        "127.0.0.1.",
        "[fe80::1%25eth0]",
        "0",
        "[::]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "printer",
        "printer.local",
        "metadata.google.internal",
        "router.home.arpa",
        "site.onion",
        "example.com.",
        "localtest.me",
        "169.254.169.254",
        "168.63.129.16",
        "10.0.0.1",
        "100.100.100.200",
        "169.254.170.2",
        "169.254.42.42",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[64:ff9b:1::1]",
        "[::ffff:a9fe:a9fe]",
        "[2606:4700::5efe:127.0.0.1]",
        "[::1%25lo]",
        "127.0.0.1%00.example.com",
        "127.0.0.1\t",
        "0x7f000001",
        "0x7f.0x0.0x0.0x1",
        "127.000.000.001",
        "0000::1",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "localhost%00",
        "localhost。",
    ];
    for host in hosts {
        for scheme in ["https", "http"] {
            // What no URL parser takes can't be asked for.
            let Ok(url) = Url::parse(&format!("{scheme}://{host}:{port}/")) else { continue };
            let fault = outbound.get(organization(), &url, Limits::DOCUMENT).await.unwrap_err();
            assert_eq!(fault, OutboundFault::REFUSED, "{url}");
            // Judged without a call, as an endpoint of the metadata is: the same.
            let judged = outbound.judge(organization(), &url).await;
            assert_eq!(judged, Err(OutboundFault::REFUSED), "{url}");
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn s5_userinfo_fragment_scheme_port_and_length_are_judged_before_anything_is_asked() {
    let names = Names::default();
    names.are(&["8.8.8.8:443".parse().unwrap()]);
    let outbound = outbound_with(&names, &[]);
    let long = format!("https://idp.example.com/{}", "x".repeat(2048));
    for port in REFUSED_PORTS.into_iter().chain([1, 22, 25, 80, 444, 1023]) {
        let text = format!("https://idp.example.com:{port}/");
        assert_eq!(get(&outbound, &text).await.unwrap_err(), OutboundFault::REFUSED, "{text}");
    }
    let refused = [
        "https://mira@idp.example.com/",
        "https://:secret@idp.example.com/",
        "https://idp.example.com/#x",
        "http://idp.example.com/",
        "ftp://idp.example.com/",
        "file:///etc/passwd",
        "data:application/json,{}",
        "https://idp.example.com:22/",
        "https://idp.example.com:80/",
        "https://idp.example.com:5432/",
        "https://idp.example.com:6379/",
        "https://idp.example.com:10250/",
        &long,
    ];
    for text in refused {
        assert_eq!(get(&outbound, text).await.unwrap_err(), OutboundFault::REFUSED, "{text}");
    }
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn s4_a_name_of_a_private_network_is_refused_without_asking_a_resolver_even_if_it_would_be_public() {
    let names = Names::default();
    names.are(&["8.8.8.8:443".parse().unwrap()]);
    let outbound = outbound_with(&names, &[]);
    let hosts =
        ["idp", "idp.", "idp.example.com.", "idp.local", "idp.internal", "idp.home.arpa", "idp.onion"];
    for host in hosts.into_iter().chain(["localhost", "idp.localhost", "IDP.LOCAL"]) {
        assert_eq!(
            get(&outbound, &format!("https://{host}/")).await.unwrap_err(),
            OutboundFault::REFUSED,
            "{host}"
        );
    }
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn v59_s7_one_bad_address_among_good_ones_refuses_all() {
    let canary = TestServer::start(hello).await;
    let names = Names::default();
    let outbound = outbound_with(&names, &[]);
    let public: SocketAddr = "8.8.8.8:443".parse().unwrap();
    for bad in [canary.address.to_string(), "[::ffff:10.0.0.1]:1".to_owned(), "[fd00:ec2::254]:1".to_owned()]
    {
        names.are(&[public, bad.parse().unwrap()]);
        let text = format!("https://idp.example.com:{}/", canary.address.port());
        assert_eq!(get(&outbound, &text).await.unwrap_err(), OutboundFault::REFUSED, "{bad}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn s12_an_address_is_judged_again_at_each_use_although_a_connection_is_kept() {
    let provider = TestServer::start(hello).await;
    let port = provider.address.port();
    let names = Names::default();
    names.are(&[provider.address]);
    let outbound = outbound_with(&names, &[provider.address]);
    let text = format!("http://idp.example.com:{port}/");
    assert_eq!(get(&outbound, &text).await.unwrap().status, 200);
    // The name is pointed elsewhere between two uses.
    let canary = TestServer::at(SocketAddr::new("127.0.0.2".parse().unwrap(), port), hello).await;
    names.are(&[canary.address]);
    assert_eq!(get(&outbound, &text).await.unwrap_err(), OutboundFault::REFUSED);
    assert_eq!((canary.connections(), provider.requests().len(), names.asked()), (0, 1, 2));
}

#[tokio::test]
async fn rule_5_connections_are_reused_for_the_same_host_and_not_across_addresses_or_names() {
    let one = TestServer::start(hello).await;
    let port = one.address.port();
    let two = TestServer::at(SocketAddr::new("127.0.0.2".parse().unwrap(), port), hello).await;
    let names = Names::default();
    let outbound = outbound_with(&names, &[one.address, two.address]);
    names.are(&[one.address]);
    for _ in 0..5 {
        get(&outbound, &format!("http://idp.example.com:{port}/")).await.unwrap();
    }
    assert_eq!((one.connections(), one.requests().len()), (1, 5));
    get(&outbound, &format!("http://other.example.com:{port}/")).await.unwrap();
    assert_eq!(one.connections(), 2);
    names.are(&[two.address]);
    get(&outbound, &format!("http://idp.example.com:{port}/")).await.unwrap();
    assert_eq!((one.connections(), two.connections()), (2, 1));
    // Of several checked addresses the one with a kept connection is taken.
    names.are(&[two.address]);
    get(&outbound, &format!("http://third.example.com:{port}/")).await.unwrap();
    names.are(&[one.address, two.address]);
    get(&outbound, &format!("http://third.example.com:{port}/")).await.unwrap();
    assert_eq!((one.connections(), two.connections()), (2, 2));
}

#[tokio::test]
async fn f26_a_dead_address_does_not_hide_a_living_one_of_the_same_name() {
    let living = TestServer::start(hello).await;
    let port = living.address.port();
    let dead: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    let names = Names::default();
    names.are(&[dead, living.address]);
    let outbound = outbound_with(&names, &[dead, living.address]);
    for _ in 0..3 {
        get(&outbound, &format!("http://idp.example.com:{port}/")).await.unwrap();
    }
    assert_eq!(living.connections(), 1);
}

#[tokio::test]
async fn an_entry_of_the_list_lifts_https_name_and_port_rules_for_that_address_and_port_alone() {
    let provider = TestServer::start(hello).await;
    let other = TestServer::start(hello).await;
    let (port, other_port) = (provider.address.port(), other.address.port());
    let names = Names::default();
    names.are(&[provider.address]);
    let outbound = outbound_with(&names, &[provider.address]);
    for host in ["127.0.0.1", "localhost", "idp.localhost", "printer", "idp.corp.internal", "127.1"] {
        assert_eq!(get(&outbound, &format!("http://{host}:{port}/")).await.unwrap().status, 200, "{host}");
        let fault = get(&outbound, &format!("http://{host}:{other_port}/")).await.unwrap_err();
        assert_eq!(fault, OutboundFault::REFUSED, "{host}");
    }
    assert_eq!(other.connections(), 0);
    assert!(get(&outbound, &format!("http://x@127.0.0.1:{port}/")).await.is_err());
}

#[test]
fn a_form_is_judged_without_a_resolver() {
    let outbound = outbound(&["127.0.0.1:9400".parse().unwrap(), "[fd00::1]:443".parse().unwrap()]);
    for (host, port) in
        [("127.0.0.1", 9400), ("localhost", 9400), ("idp.localhost", 9400), ("[fd00::1]", 443)]
    {
        assert!(outbound.insecure_allowed(host, port), "{host}");
    }
    for (host, port) in
        [("127.0.0.1", 9401), ("127.0.0.2", 9400), ("idp.example.com", 9400), ("localhost", 443)]
    {
        assert!(!outbound.insecure_allowed(host, port), "{host}");
    }
}

#[tokio::test]
async fn s3_our_own_listeners_are_never_called_even_if_listed_or_public() {
    let own = TestServer::start(hello).await;
    let port = own.address.port();
    let names = Names::default();
    names.are(&["8.8.8.8:443".parse().unwrap()]);
    let settings = OutboundSettings {
        own_listeners: vec![
            SocketAddr::new("0.0.0.0".parse().unwrap(), port),
            "8.8.4.4:443".parse().unwrap(),
        ],
        own_hosts: vec!["sso.example.com".to_owned()],
        lookup: names.lookup(),
        ..OutboundSettings::new(vec![own.address])
    };
    let outbound = made(settings);
    for text in [&format!("http://127.0.0.1:{port}/"), "https://8.8.4.4/", "https://sso.example.com/"] {
        assert_eq!(get(&outbound, text).await.unwrap_err(), OutboundFault::REFUSED, "{text}");
    }
    assert_eq!(own.connections(), 0);
}

#[tokio::test]
async fn s8_a_redirect_is_reported_and_not_followed() {
    let canary = TestServer::start(hello).await;
    let to = canary.address;
    let provider = TestServer::start(move |_| {
        vec![Say::Bytes(
            format!("HTTP/1.1 302 X\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )]
    })
    .await;
    let outbound = outbound(&[provider.address, canary.address]);
    let fault = get(&outbound, &format!("http://{}/", provider.address)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutboundRedirected);
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn s8_nothing_of_ours_but_the_request_is_sent() {
    let provider = TestServer::start(hello).await;
    let outbound = outbound(&[provider.address]);
    let basic = Secret::new("Basic eDp5".to_owned());
    let body = Secret::new("grant_type=authorization_code".to_owned());
    let to = url(&format!("http://{}/token", provider.address));
    outbound.post_form(organization(), &to, Some(&basic), &body, Limits::TOKEN).await.unwrap();
    let request = provider.requests().remove(0);
    let (head, sent) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(sent, body.expose());
    let mut names: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_lowercase())
        .collect();
    names.sort();
    assert_eq!(names, ["accept", "authorization", "content-length", "content-type", "host", "user-agent"]);
}

#[tokio::test]
async fn f3_a_huge_body_is_cut_whether_it_is_announced_or_not() {
    let announced = "HTTP/1.1 200 X\r\nContent-Length: 1073741824\r\n\r\n";
    let endless = "HTTP/1.1 200 X\r\n\r\n";
    let chunked = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    for head in [announced, endless, chunked] {
        let provider = TestServer::start(move |_| {
            // What is announced as too long is not waited for.
            let piece: &[u8] = match head {
                _ if head == announced => b"",
                _ if head == chunked => b"8\r\nxxxxxxxx\r\n",
                _ => b"xxxxxxxx",
            };
            vec![Say::Bytes(head.into()), Say::Bytes(piece.repeat(20_000)), Say::Nothing]
        })
        .await;
        let outbound = outbound(&[provider.address]);
        let limits = Limits { max_bytes: 64 * 1024, is_document: true };
        let to = url(&format!("http://{}/", provider.address));
        let fault = outbound.get(organization(), &to, limits).await.unwrap_err();
        assert_eq!(fault, OutboundFault::TOO_LARGE, "{head}");
    }
}

#[tokio::test]
async fn f3_a_body_within_the_limit_arrives_whole_and_a_compressed_one_is_not_unpacked() {
    let provider = TestServer::start(|_| {
        let head = "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nDate: Wed, 25 Nov 2026 17:00:00 GMT\r\n";
        vec![Say::Bytes(format!("{head}Content-Length: 4096\r\n\r\n{}", "z".repeat(4096)).into_bytes())]
    })
    .await;
    let outbound = outbound(&[provider.address]);
    let to = url(&format!("http://{}/", provider.address));
    let limits = |max_bytes| Limits { max_bytes, is_document: true };
    let answer = outbound.get(organization(), &to, limits(4096)).await.unwrap();
    assert_eq!((answer.body.len(), answer.date.as_deref()), (4096, Some("Wed, 25 Nov 2026 17:00:00 GMT")));
    let accepted = provider.requests().remove(0).to_lowercase();
    assert!(!accepted.contains("accept-encoding"));
    assert_eq!(outbound.get(organization(), &to, limits(4095)).await.unwrap_err(), OutboundFault::TOO_LARGE);
}

#[tokio::test]
async fn s8_a_head_of_more_than_16_kib_or_64_fields_is_refused() {
    for (fields, length) in [(1, 17_000), (65, 1)] {
        let provider = TestServer::start(move |_| {
            let head = format!("X: {}\r\n", "v".repeat(length)).repeat(fields);
            vec![Say::Bytes(format!("HTTP/1.1 200 X\r\nContent-Length: 0\r\n{head}\r\n").into_bytes())]
        })
        .await;
        let outbound = outbound(&[provider.address]);
        assert!(get(&outbound, &format!("http://{}/", provider.address)).await.is_err(), "{fields}");
    }
}

/// Limits short enough to be met within a test.
fn hasty(allow: SocketAddr) -> Outbound {
    let (short, long) = (Duration::from_millis(50), Duration::from_millis(200));
    let times = Times { place: long, lookup: long, connect: short, head: short, whole: long };
    made(OutboundSettings { times, ..OutboundSettings::new(vec![allow]) })
}

#[tokio::test]
async fn f2_a_slow_drip_and_a_silent_server_end_at_the_limit() {
    let drip = |head: &'static str| {
        move |_: &str| vec![Say::Bytes(head.into()), Say::Drip(b"x", Duration::from_millis(5))]
    };
    let servers = [
        TestServer::start(drip("HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")).await,
        TestServer::start(drip("HTTP/1.1 200 X\r\nX: ")).await,
        TestServer::start(|_| vec![Say::Nothing]).await,
    ];
    for server in servers {
        let outbound = hasty(server.address);
        let fault = get(&outbound, &format!("http://{}/", server.address)).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::OutboundTimeout);
    }
}

#[tokio::test]
async fn rule_9_who_waits_for_his_own_share_keeps_no_place_at_a_host_from_the_others() {
    let outbound = outbound(&[]);
    let target = Target::of(&url("https://idp.example.com/keys")).unwrap();
    let (greedy, other) = (organization(), OrganizationId::new(0, [2; 10]));
    let mut share = Vec::new();
    while let Some(place) = outbound.calls.take(greedy).now_or_never() {
        share.push(place.unwrap());
    }
    let mut waiting: Vec<_> = (0..DOCUMENTS_PER_HOST)
        .map(|_| Box::pin(outbound.place(greedy, &target, Limits::DOCUMENT)))
        .collect();
    for one in &mut waiting {
        assert!(one.as_mut().now_or_never().is_none(), "it has its share already");
    }
    let place = outbound.place(other, &target, Limits::DOCUMENT).now_or_never();
    assert!(place.is_some_and(|place| place.is_ok()));
}

#[tokio::test]
async fn f26_a_resolver_that_does_not_answer_ends_at_the_limit() {
    let times = Times { lookup: Duration::from_millis(20), ..Times::default() };
    let lookup: Lookup = Arc::new(|_, _| Box::pin(std::future::pending()));
    let outbound = made(OutboundSettings { times, lookup, ..OutboundSettings::new(Vec::new()) });
    let fault = get(&outbound, "https://idp.example.com/").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutboundTimeout);
}

#[tokio::test]
async fn f1_a_closed_port_a_lost_connection_and_an_unknown_name_are_told_apart() {
    // Bound but not listening: the port stays closed and nobody else's.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap();
    let outbound = outbound_to(closed);
    let fault = get(&outbound, &format!("http://{closed}/")).await.unwrap_err();
    assert_eq!(fault, OutboundFault::new(ErrorCode::OutboundUnreachable, "the connection was refused"));

    let lost = TestServer::start(|_| vec![Say::HangUp]).await;
    let outbound = outbound_to(lost.address);
    let fault = get(&outbound, &format!("http://{}/", lost.address)).await.unwrap_err();
    assert_eq!(fault, OutboundFault::new(ErrorCode::OutboundUnreachable, "the connection broke off"));

    let outbound = outbound_with(&Names::default(), &[]);
    let fault = get(&outbound, "https://idp.example.com/").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutboundNameUnknown);
}

#[tokio::test]
async fn a_code_is_sent_once_even_if_the_connection_breaks_off_and_there_is_another_address() {
    let one = TestServer::start(|_| vec![Say::HangUp]).await;
    let port = one.address.port();
    let two =
        TestServer::at(SocketAddr::new("127.0.0.2".parse().unwrap(), port), |_| vec![Say::HangUp]).await;
    let names = Names::default();
    names.are(&[one.address, two.address]);
    let outbound = outbound_with(&names, &[one.address, two.address]);
    let to = url(&format!("http://idp.example.com:{port}/token"));
    let body = Secret::new("code=x".to_owned());
    assert!(outbound.post_form(organization(), &to, None, &body, Limits::TOKEN).await.is_err());
    assert_eq!(one.requests().len() + two.requests().len(), 1);
}

#[tokio::test]
async fn s9_at_most_four_documents_at_a_time_are_fetched_from_one_host() {
    let provider = TestServer::start(|_| vec![Say::Nothing]).await;
    let outbound = outbound_to(provider.address);
    let to = url(&format!("http://{}/", provider.address));
    let calls = (0..10).map(|n| outbound.get(OrganizationId::new(0, [n; 10]), &to, Limits::DOCUMENT));
    let watched = async {
        while provider.requests().len() < 4 {
            tokio::task::yield_now().await;
        }
        // Time enough for a fifth one, if it were let through.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(calls) => panic!("nobody answers"),
        () = watched => assert_eq!(provider.connections(), 4),
    }
}

#[tokio::test]
async fn s9_an_organization_has_twenty_tests_a_minute_and_another_one_its_own() {
    let outbound = outbound(&[]);
    let now = Timestamp::from_seconds(1_800_000_000);
    for _ in 0..20 {
        outbound.budget(organization(), now).unwrap();
    }
    assert_eq!(outbound.budget(organization(), now).unwrap_err().code, ErrorCode::OutboundBusy);
    outbound.budget(OrganizationId::new(0, [2; 10]), now).unwrap();
    outbound.budget(organization(), now.plus(Lifetime::from_minutes(1))).unwrap();
}

/// A TLS server with this certificate; it answers one request on each connection.
fn tls_server(certificate: &[u8], key: &[u8]) -> SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    use std::io::{Read as _, Write as _};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate).unwrap()],
            rustls::pki_types::PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    let settings = Arc::new(settings);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Ok(session)) = (stream, rustls::ServerConnection::new(Arc::clone(&settings)))
            else {
                return;
            };
            let mut tls = rustls::StreamOwned::new(session, stream);
            let mut read = [0; 4096];
            // A client that refuses the certificate hangs up here.
            if tls.read(&mut read).is_ok_and(|count| count > 0) {
                tls.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                tls.flush().unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn v55_the_certificate_is_always_checked_and_a_private_authority_can_be_added() {
    let provider = tls_server(
        include_bytes!("test_certificates/host.pem"),
        include_bytes!("test_certificates/host.key.pem"),
    );
    let port = provider.port();
    let names = Names::default();
    names.are(&[provider]);
    let trusting = |pem: Option<&[u8]>| {
        let settings = OutboundSettings {
            lookup: names.lookup(),
            extra_authorities_pem: pem.map(<[u8]>::to_vec),
            ..OutboundSettings::new(vec![provider])
        };
        Outbound::new(settings, Clock::system())
    };
    let authority: &[u8] = include_bytes!("test_certificates/authority.pem");
    let tls = |kind| OutboundFault::new(ErrorCode::OutboundTls, kind);

    let stranger = trusting(None).unwrap();
    let fault = get(&stranger, &format!("https://idp.example.com:{port}/")).await.unwrap_err();
    assert_eq!(fault, tls("the certificate's authority is not known here"));

    let trusted = trusting(Some(authority)).unwrap();
    assert_eq!(get(&trusted, &format!("https://idp.example.com:{port}/")).await.unwrap().status, 200);
    let fault = get(&trusted, &format!("https://other.example.com:{port}/")).await.unwrap_err();
    assert_eq!(fault, tls("the certificate is for another host name"));

    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = plain.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"HTTP/1.1 400 X\r\n\r\n").unwrap();
    });
    let fault = get(&outbound_to(address), &format!("https://{address}/")).await.unwrap_err();
    assert_eq!(fault, tls("no secure connection could be agreed on"));

    assert!(matches!(trusting(Some(b"no certificate")), Err(OutboundSetupError::Authorities(_))));
}

#[tokio::test]
async fn v55_an_expired_certificate_and_one_that_vouches_for_itself_are_refused() {
    let authority: &[u8] = include_bytes!("../../tests/it/certificates/authority.pem");
    let expired: (&[u8], &[u8]) = (
        include_bytes!("../../tests/it/certificates/expired.pem"),
        include_bytes!("../../tests/it/certificates/expired.key.pem"),
    );
    let good: (&[u8], &[u8]) = (
        include_bytes!("../../tests/it/certificates/one.pem"),
        include_bytes!("../../tests/it/certificates/one.key.pem"),
    );
    for ((certificate, key), trusted, told) in [
        (good, true, None),
        (expired, true, Some("the certificate has expired")),
        (good, false, Some("the certificate's authority is not known here")),
    ] {
        let provider = tls_server(certificate, key);
        let names = Names::default();
        names.are(&[provider]);
        let settings = OutboundSettings {
            lookup: names.lookup(),
            extra_authorities_pem: trusted.then(|| authority.to_vec()),
            ..OutboundSettings::new(vec![provider])
        };
        let outbound = made(settings);
        let answer = get(&outbound, &format!("https://sso.example.com:{}/", provider.port())).await;
        assert_eq!(answer.err().map(|fault| fault.kind), told);
    }
}

#[tokio::test]
async fn s12_v60_a_name_that_is_public_when_judged_and_private_when_called_reaches_nobody() {
    let canary = TestServer::start(hello).await;
    let port = canary.address.port();
    let other = TestServer::at(format!("[::1]:{port}").parse().unwrap(), hello).await;
    let public: SocketAddr = "8.8.8.8:443".parse().unwrap();
    let names = Names::default();
    let outbound = outbound_with(&names, &[]);
    let to = url(&format!("https://rebind.example.com:{port}/"));
    for private in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00:ec2::254", "0.0.0.0"]
    {
        names.are(&[public]);
        outbound.judge(organization(), &to).await.unwrap();
        // A time to live of nothing: the next answer is another one.
        names.are(&[SocketAddr::new(private.parse().unwrap(), port)]);
        let asked = names.asked();
        let fault = outbound.get(organization(), &to, Limits::DOCUMENT).await.unwrap_err();
        assert_eq!((fault, names.asked() - asked), (OutboundFault::REFUSED, 1), "{private}");
    }
    assert_eq!((canary.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn s2_s7_what_a_networks_own_translator_would_lead_to_is_judged_by_its_inside() {
    let lookup: Lookup = Arc::new(|host, _| {
        let found = match host.as_str() {
            // RFC 7050: this network translates under 2606:4700:64::/96.
            "ipv4only.arpa" => vec!["[2606:4700:64::192.0.0.170]:443".parse().unwrap()],
            "inside.example.com" => vec!["[2606:4700:64::10.0.0.1]:443".parse().unwrap()],
            _ => vec!["[2606:4700:64::8.8.8.8]:443".parse().unwrap()],
        };
        Box::pin(async move { Ok(found) })
    });
    let outbound = made(OutboundSettings { lookup, ..OutboundSettings::new(Vec::new()) });
    let judged = async |host: &str| outbound.judge(organization(), &url(&format!("https://{host}/"))).await;
    assert_eq!(judged("inside.example.com").await, Err(OutboundFault::REFUSED));
    assert_eq!(judged("outside.example.com").await, Ok(()));
}

#[tokio::test]
async fn s2_a_resolver_that_fails_for_the_translators_name_is_asked_once_a_minute() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |host, _| {
        let found = if host == "ipv4only.arpa" {
            count.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::other("no resolver"))
        } else {
            Ok(vec!["[2606:4700::1]:443".parse().unwrap()])
        };
        Box::pin(async move { found })
    });
    let settings = OutboundSettings { lookup, ..OutboundSettings::new(Vec::new()) };
    let time = doorward_testkit::clock_at(0);
    let outbound = Outbound::new(settings, Clock::turned(Arc::clone(&time))).unwrap();
    let judged = async || outbound.judge(organization(), &url("https://idp.example.com/")).await;
    for minute in 1..4 {
        for _ in 0..5 {
            assert_eq!(judged().await, Ok(()));
        }
        assert_eq!(asked.load(Ordering::SeqCst), minute);
        outbound.clock.advance(TRANSLATOR_UNKNOWN);
    }
}

#[tokio::test]
async fn s3_a_listener_on_every_address_is_met_on_each_of_this_machines() {
    let names = Names::default();
    let own = SocketAddr::new("0.0.0.0".parse().unwrap(), 8443);
    let listed: SocketAddr = "127.0.0.9:8443".parse().unwrap();
    let settings = OutboundSettings {
        own_listeners: vec![own],
        lookup: names.lookup(),
        ..OutboundSettings::new(vec![listed])
    };
    let outbound = made(settings);
    assert!(outbound.is_own(listed));
    // Whatever this machine is called outside of the loopback.
    if let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0")
        && socket.connect("192.0.2.1:9").is_ok()
        && let Ok(mine) = socket.local_addr()
    {
        assert!(outbound.is_own(SocketAddr::new(mine.ip(), 8443)), "{mine}");
        assert!(!outbound.is_own(SocketAddr::new(mine.ip(), 8444)), "{mine}");
    }
    assert!(!outbound.is_own("8.8.8.8:8443".parse().unwrap()));
}

#[tokio::test]
async fn s9_at_most_64_calls_are_under_way_at_a_time() {
    let provider = TestServer::start(|_| vec![Say::Nothing]).await;
    let outbound = outbound_to(provider.address);
    let to = url(&format!("http://{}/", provider.address));
    let limits = Limits { is_document: false, ..Limits::TOKEN };
    let calls = (0..80).map(|n| outbound.get(OrganizationId::new(0, [n; 10]), &to, limits));
    let watched = async {
        while provider.requests().len() < 64 {
            tokio::task::yield_now().await;
        }
        // Time enough for one more, if it were let through.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(calls) => panic!("nobody answers"),
        () = watched => assert_eq!(provider.connections(), 64),
    }
}

#[tokio::test]
async fn s10_a_refused_address_is_told_in_the_same_words_whatever_is_behind_it() {
    let open = TestServer::start(hello).await;
    let silent = TestServer::start(|_| vec![Say::Nothing]).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap();
    let outbound = outbound(&[]);
    for address in [open.address, silent.address, closed, "192.0.2.1:443".parse().unwrap()] {
        let fault = get(&outbound, &format!("https://{address}/")).await.unwrap_err();
        assert_eq!(fault, OutboundFault::REFUSED);
        let finding = fault.finding(Step::Discovery, &url("https://idp.example.com/x"));
        assert!(!format!("{finding:?}").contains(&address.port().to_string()));
    }
    assert_eq!((open.connections(), silent.connections()), (0, 0));
}

#[tokio::test]
async fn s11_an_endpoint_that_metadata_names_is_judged_as_an_entered_url_is() {
    let names = Names::default();
    names.are(&["8.8.8.8:443".parse().unwrap()]);
    let outbound = outbound_with(&names, &[]);
    for text in [
        "http://idp.example.com/token",
        "https://127.0.0.1/token",
        "https://idp.internal/token",
        "https://idp.example.com:22/token",
        "https://x@idp.example.com/token",
        "https://[fd00::1]/token",
    ] {
        assert_eq!(outbound.judge(organization(), &url(text)).await, Err(OutboundFault::REFUSED), "{text}");
    }
    assert_eq!(outbound.judge(organization(), &url("https://idp.example.com/token")).await, Ok(()));
}
