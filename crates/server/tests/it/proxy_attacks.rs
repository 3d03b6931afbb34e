//! What went wrong at other gates and proxies, tried at the built-in one and at the pages on its listener: raw bytes on
//! real sockets, and an application that tells what reached it (conformance.md §4, V01 to V31).
#![allow(clippy::disallowed_methods, reason = "the test is the client")]

use std::fmt::Write as _;
use std::time::Duration;

use doorward_testkit::{Browser, Page};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::World;

/// Sends bytes to the main listener, and gives what comes back until the other end closes or says no more for a while.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let address = world.base.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    // What is still waited for is a body that was announced longer than it is.
    let silence = Duration::from_millis(if bytes.ends_with(UNFINISHED) { 300 } else { 20_000 });
    while let Ok(Ok(1..)) = tokio::time::timeout(silence, stream.read_buf(&mut answer)).await {}
    String::from_utf8_lossy(&answer).into_owned()
}

/// The end of a request that may be understood as unfinished.
const UNFINISHED: &[u8] = b"X-End: yes\r\n\r\n";

fn hub(world: &World) -> &str {
    world.hub.trim_start_matches("http://")
}

/// One request for the application's host, closed after its answer: the status, 0 for none, and the whole answer.
async fn ask(world: &World, host: &str, target: &str, headers: &str) -> (u16, String) {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    let answer = raw(world, head.as_bytes()).await;
    (answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// Whether anything private has reached the application.
fn private_page_was_asked(world: &World) -> bool {
    world.seen.lock().unwrap().iter().any(|seen| seen.target.to_ascii_lowercase().contains("acme"))
}

/// The cookie of mira's session at the application, so that raw requests can be hers.
async fn cookie_of_mira(world: &World) -> String {
    let mira = world.browser_of("mira").await;
    world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    let cookie = mira.cookie("hub.localhost", "doorward-app").expect("the host's session");
    world.seen.lock().unwrap().clear();
    format!("Cookie: doorward-app={cookie}\r\n")
}

// === Headers ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v01_v07_no_header_of_the_client_says_who_he_is_and_connection_removes_none_of_ours() {
    let world = World::new().await;
    let cookie = cookie_of_mira(&world).await;
    let names = doorward_core::identity_headers::IDENTITY_HEADER_NAMES;
    let mut forged = cookie;
    for name in names {
        for spelling in [name.to_owned(), name.replace('-', "_"), name.to_lowercase(), name.to_uppercase()] {
            write!(forged, "{spelling}: forged\r\n{spelling}: forged too\r\n").unwrap();
        }
        write!(forged, "Connection: {name}, cookie, X-Forwarded-For\r\n").unwrap();
    }
    let (status, _) = ask(&world, hub(&world), "/acme/secret", &forged).await;
    assert_eq!(status, 200);
    let seen = world.last_seen().unwrap();
    assert_eq!(seen.header("remote-user"), Some("mira"), "{seen:?}");
    assert!(!format!("{seen:?}").contains("forged"), "{seen:?}");
    for name in names {
        let count = seen.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
        assert_eq!(count, 1, "{name}: {seen:?}");
    }
    // A name with a blank, a NUL or a control character is no header at all.
    for odd in
        ["Remote-User : forged", "Remote User: forged", "Remote-User\0: forged", "Remote-User\x0b: forged"]
    {
        world.seen.lock().unwrap().clear();
        let (status, _) = ask(&world, hub(&world), "/static/x", &format!("{odd}\r\n")).await;
        assert!(status == 400 && world.last_seen().is_none(), "{odd:?}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v03_no_cookie_that_is_none_lets_anybody_through() {
    let world = World::new().await;
    let token = "A".repeat(43);
    for cookie in [
        "",
        "=",
        ";;;;",
        "doorward-app",
        "doorward-app=",
        "doorward-app=;doorward-session=",
        "doorward-app=%00",
        "doorward-app=\"\"",
        "doorward-app=null",
        "doorward-app=\u{ff}\u{fe}",
        "doorward-app=../../etc/passwd",
        &format!("doorward-app={token}"),
        &format!("doorward-app={token}; doorward-app={token}"),
        &format!("doorward-app={}", "A".repeat(9000)),
    ] {
        let (status, answer) =
            ask(&world, hub(&world), "/acme/secret", &format!("Cookie: {cookie}\r\n")).await;
        assert!(matches!(status, 400..=403), "{cookie}: {answer}");
    }
    assert!(!private_page_was_asked(&world));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v05_v06_v23_no_forwarded_header_and_no_user_agent_changes_a_decision_or_a_byte() {
    let world = World::new().await;
    let without_ids = |answer: &str| {
        let id =
            answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or("none").to_owned();
        let lines = answer.lines().filter(|line| !line.starts_with("date: "));
        lines.collect::<Vec<_>>().join("\n").replace(&id, "")
    };
    let own = world.base.trim_start_matches("http://").to_owned();
    let page = "Accept: text/html\r\n";
    for (host, target) in [
        (hub(&world), "/acme/secret"),
        (hub(&world), "/"),
        (hub(&world), "/.doorward/start?next=/acme/secret"),
        (&*own, "/login"),
        (&*own, "/organizations/acme/sso"),
        (&*own, "/nonsense"),
    ] {
        let plain = ask(&world, host, target, page).await;
        for header in [
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Host: evil.example\r\nX-Forwarded-Host: hub.localhost",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Proto: javascript",
            "X-Forwarded-Prefix: /static",
            "X-Forwarded-Prefix: //evil.example",
            "X-Forwarded-Port: 444",
            "X-Forwarded-Uri: /static/x",
            "X-Forwarded-Method: OPTIONS",
            "X-Forwarded-For: nonsense, , 10.0.0.1",
            "X-Forwarded-For:",
            "X-Forwarded-Server: evil.example",
            "Forwarded: for=127.0.0.1;host=evil.example;proto=https",
            "X-Original-URL: /static/x",
            "X-Rewrite-URL: /static/x",
            "X-HTTP-Method-Override: OPTIONS",
            "X-Host: evil.example",
            "User-Agent: kube-probe/1.30",
            "User-Agent: ELB-HealthChecker/2.0",
            "User-Agent: GoogleHC/1.0",
            "User-Agent: Mozilla/5.0 \u{fc}<script>",
            "User-Agent:",
        ] {
            let forged = ask(&world, host, target, &format!("{page}{header}\r\n")).await;
            assert_eq!(forged.0, plain.0, "{target}: {header}");
            // Nonces and tickets are new each time; nothing else may differ.
            if !target.contains("/start") && plain.0 != 302 {
                assert_eq!(without_ids(&forged.1), without_ids(&plain.1), "{target}: {header}");
            }
            assert!(!forged.1.contains("evil"), "{target}: {header}: {}", forged.1);
        }
    }
    assert!(!private_page_was_asked(&world));
}

// === Paths and hosts ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v09_v10_v11_no_spelling_of_a_path_makes_a_private_page_public() {
    let world = World::new().await;
    for target in [
        "/acme/secret",
        "/acme/secret?/static/x",
        "/acme/secret?x=/static/",
        "/acme/secret#/static/x",
        "/acme/secret%23/static/x",
        "/acme/secret%3f/static/x",
        "/acme/secret;/static/x",
        "/acme;/../static/secret",
        "/static/../acme/secret",
        "/static/..%2facme/secret",
        "/static/%2e%2e/acme/secret",
        "/static/%2e%2e%2facme%2fsecret",
        "/static/..%252facme/secret",
        "/static/..;/acme/secret",
        "/static/..;x=y/acme/secret",
        "/static/..\\acme\\secret",
        "/static/%5c..%5cacme",
        "/static//../acme/secret",
        "/static/.%00./acme/secret",
        "/static/%c0%ae%c0%ae/acme/secret",
        "//acme/secret",
        "/./acme/secret",
        "/%61cme/secret",
        "/ACME/secret",
        "/acme%2fsecret",
        "/static/x%0d%0aHost:%20acme",
        "/%",
        "/%zz/acme",
        "*",
        "acme/secret",
        "?acme",
        "http://hub.localhost/acme/secret",
        "http://evil.example/acme/secret",
        "//evil.example/acme/secret",
        "/\u{ff}acme",
    ] {
        let (status, answer) = ask(&world, hub(&world), target, "").await;
        assert!(status == 0 || (300..500).contains(&status), "{target}: {answer}");
    }
    assert!(!private_page_was_asked(&world), "{:?}", world.seen.lock().unwrap());
    // The gate's adapters, asked the same.
    for target in
        ["/static/../acme/secret", "/acme/secret#/static/x", "/static/..;/acme/secret", "/%", "*", ""]
    {
        for (adapter, headers) in [
            ("/auth-request", vec![("x-original-method", "GET"), ("x-original-url", target)]),
            (
                "/forward-auth",
                vec![
                    ("x-forwarded-method", "GET"),
                    ("x-forwarded-proto", "http"),
                    ("x-forwarded-host", hub(&world)),
                    ("x-forwarded-uri", target),
                ],
            ),
        ] {
            let url = format!("{}{target}", world.hub);
            let headers: Vec<_> = headers
                .into_iter()
                .map(|(n, v)| (n, if n == "x-original-url" { &*url } else { v }))
                .collect();
            let page =
                Browser::new().request(Method::GET, &format!("{}{adapter}", world.gate), &headers, "").await;
            assert!((300..600).contains(&page.status.as_u16()), "{adapter} {target}: {}", page.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v12_v13_a_host_has_one_spelling_and_an_unknown_one_is_served_nothing() {
    let world = World::new().await;
    let port = world.hub.rsplit(':').next().unwrap();
    // The same host, in another spelling: the same decision.
    for host in [format!("HUB.localhost:{port}"), format!("hub.LOCALHOST:{port}")] {
        assert!(matches!(ask(&world, &host, "/acme/secret", "").await.0, 302 | 401), "{host}");
    }
    for host in [
        format!("hub.localhost.:{port}"),
        format!("hub.localhost:0{port}"),
        "hub.localhost".to_owned(),
        "hub.localhost:1".to_owned(),
        format!("hub.localhost:{port}:{port}"),
        format!("x@hub.localhost:{port}"),
        format!("hub.localhost:{port}/"),
        format!("hub.localhost:{port}#"),
        format!("hub%2elocalhost:{port}"),
        format!("hub\u{3002}localhost:{port}"),
        format!("\u{ff48}ub.localhost:{port}"),
        format!("xn--hub-.localhost:{port}"),
        format!("xn--ub-wia.localhost:{port}"),
        format!("hub.localhost:{port} evil.example"),
        format!("hub.localhost,evil.example:{port}"),
        "evil.example".to_owned(),
        "[::1]".to_owned(),
        "127.0.0.1".to_owned(),
        String::new(),
    ] {
        let (status, answer) = ask(&world, &host, "/static/x", "").await;
        // One final dot is the same name (RFC 3986 section 3.2.2); whatever else is another one.
        let same = host.starts_with("hub.localhost.:") && status == 200;
        assert!(same || matches!(status, 400 | 421), "{host}: {answer}");
        assert!(status == 421 || !answer.contains("evil"), "{host}: {answer}");
    }
    let (status, _) = ask(&world, hub(&world), "/static/x", "Host: evil.example\r\n").await;
    assert!(matches!(status, 400 | 421), "two hosts");
    let without = raw(&world, b"GET /static/x HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(without.starts_with("HTTP/1.1 4"), "{without}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v15_no_answer_of_the_gate_may_be_kept_by_a_cache() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let eve = world.browser_of("eve").await;
    for browser in [&mira, &eve] {
        let page = browser.get(&format!("{}/.doorward/start?next=/", world.hub)).await;
        browser.follow_all(page).await;
    }
    let uncached = |page: &Page, what: &str| {
        assert_eq!(page.headers_named("cache-control"), ["no-store"], "{what}: {}", page.status);
        assert_eq!(page.headers_named("vary"), ["Cookie"], "{what}: {}", page.status);
    };
    let stranger = Browser::new();
    for (browser, who) in [(&stranger, "stranger"), (&mira, "mira"), (&eve, "eve")] {
        for path in ["/acme/secret", "/acme/../x", "/nobody", "/acme/settings/x"] {
            for navigation in [true, false] {
                let url = format!("{}{path}", world.hub);
                let page = if navigation { browser.get(&url).await } else { browser.fetch(&url).await };
                if page.status != 200 {
                    uncached(&page, &format!("{who} {path} {navigation}"));
                }
            }
        }
        for path in ["/", "/acme/secret", "/acme/website", "/%2e%2e/x"] {
            let url = format!("{}{path}", world.hub);
            let asked = [("x-original-method", "GET"), ("x-original-url", &*url)];
            let page =
                browser.request(Method::GET, &format!("{}/auth-request", world.gate), &asked, "").await;
            uncached(&page, &format!("auth-request {path}"));
            let asked = [
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", hub(&world)),
                ("x-forwarded-uri", path),
            ];
            let page =
                browser.request(Method::GET, &format!("{}/forward-auth", world.gate), &asked, "").await;
            uncached(&page, &format!("forward-auth {path}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v16_f22_an_answer_of_the_gate_fits_into_4_kib_however_long_the_address() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let page = mira.get(&format!("{}/.doorward/start?next=/", world.hub)).await;
    mira.follow_all(page).await;
    let query = |times| "x=%C3%A4&".repeat(times);
    for (path, kept) in [
        ("/acme/secret?a=b".to_owned(), "secret%3Fa%3Db"),
        (format!("/acme/secret?{}", query(300)), "secret"),
        (format!("/acme/secret?{}", query(5000)), "secret"),
        (format!("/acme/secret/{}", "y".repeat(4000)), "next="),
        (format!("/acme/secret/{}", "y".repeat(40_000)), "next="),
    ] {
        for browser in [&Browser::new(), &mira] {
            let url = format!("{}{path}", world.hub);
            let asked = [
                ("accept", "text/html"),
                ("x-original-method", "GET"),
                ("x-original-url", &*url),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", hub(&world)),
                ("x-forwarded-uri", &*path),
            ];
            for address in
                [format!("{}/auth-request", world.gate), format!("{}/forward-auth", world.gate), url.clone()]
            {
                // A question in one header is enough: both would not fit into one request.
                let asked: Vec<_> = asked
                    .into_iter()
                    .filter(|(name, _)| {
                        !(name.starts_with("x-original") && address.ends_with("/forward-auth")
                            || name.starts_with("x-forwarded") && address.ends_with("/auth-request")
                            || name.starts_with("x-") && address.starts_with(&world.hub))
                    })
                    .collect();
                let page = browser.request(Method::GET, &address, &asked, "").await;
                let size: usize =
                    page.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
                assert!(size + page.body.len() < 4096, "{address:.60}: {size} and {}", page.body.len());
                match page.header("location") {
                    Some(to) => assert!(to.contains(kept), "{to}"),
                    // Too long to be judged at all.
                    None => assert!(
                        page.status.is_client_error() && path.len() > 8192,
                        "{address:.60}: {}",
                        page.status
                    ),
                }
            }
        }
    }
}

// === Smuggling ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v07_no_request_hides_behind_another_whatever_its_length_is_said_to_be() {
    let world = World::new().await;
    let cookie = cookie_of_mira(&world).await;
    let host = hub(&world).to_owned();
    let hidden = format!("GET /acme/smuggled HTTP/1.1\r\nHost: {host}\r\nX-End: yes\r\n\r\n");
    let length = hidden.len();
    let zero = "0\r\n\r\n";
    // The header lines that tell the length, and the body in front of what is hidden.
    let table: Vec<(String, &str)> = vec![
        (format!("Content-Length: {}\r\nTransfer-Encoding: chunked", length + 5), zero),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {}", length + 5), zero),
        (format!("Content-Length: 0\r\nContent-Length: {length}"), ""),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), ""),
        (format!("Content-Length: 0, {length}"), ""),
        (format!("Content-Length: +{length}"), ""),
        (format!("Content-Length: {length} x"), ""),
        ("Content-Length: -1".to_owned(), ""),
        (format!("Content-Length : {length}"), ""),
        ("Transfer-Encoding : chunked".to_owned(), zero),
        ("Transfer-Encoding: xchunked".to_owned(), zero),
        ("Transfer-Encoding: chunked, identity".to_owned(), zero),
        ("Transfer-Encoding: identity, chunked".to_owned(), zero),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x".to_owned(), zero),
        ("Transfer-Encoding:\x0bchunked".to_owned(), zero),
        ("Transfer-Encoding: \"chunked\"".to_owned(), zero),
        ("Transfer_Encoding: chunked".to_owned(), zero),
        ("X: y\r\n Transfer-Encoding: chunked".to_owned(), zero),
        ("X: y\r\n\tContent-Length: 5".to_owned(), ""),
        ("X: y\nTransfer-Encoding: chunked".to_owned(), zero),
        ("X: y\rTransfer-Encoding: chunked".to_owned(), zero),
        ("Transfer-Encoding: chunked".to_owned(), "0;a=b\nX: \r\n\r\n"),
        ("Transfer-Encoding: chunked".to_owned(), "0\n\n"),
        ("Transfer-Encoding: chunked".to_owned(), "00000000000000000\r\n\r\n"),
        ("Transfer-Encoding: chunked".to_owned(), "-0\r\n\r\n"),
        ("Transfer-Encoding: chunked".to_owned(), "0x0\r\n\r\n"),
        ("Transfer-Encoding: chunked".to_owned(), "fffffffffffffffff\r\n"),
        ("Expect: 100-continue\r\nContent-Length: 0".to_owned(), ""),
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk".to_owned(), ""),
    ];
    for (lines, body) in table {
        for version in ["1.1", "1.0"] {
            world.seen.lock().unwrap().clear();
            let request = format!(
                "POST /acme/website HTTP/{version}\r\nHost: {host}\r\n{cookie}{lines}\r\n\r\n{body}{hidden}"
            );
            let answer = raw(&world, request.as_bytes()).await;
            let seen = world.seen.lock().unwrap().clone();
            // If it was read as a request of its own, then by us: a stranger's, and refused. The application has at most
            // the first one, whose length it learns from us alone.
            let smuggled = seen.iter().any(|seen| seen.target.contains("smuggled"));
            assert!(!smuggled, "{lines:?} {body:?}: {answer}\n{seen:?}");
            assert!(seen.len() <= 1, "{lines:?} {body:?}: {seen:?}");
            for seen in &seen {
                let told = ["content-length", "transfer-encoding"].map(|name| seen.header(name).is_some());
                assert_ne!(told, [true, true], "{lines:?}: {seen:?}");
            }
        }
    }
    // Chunks with extensions and trailers arrive as their content alone.
    world.seen.lock().unwrap().clear();
    let request = format!(
        "POST /acme/website HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=\"GET / HTTP/1.1\"\r\nabc\r\n0\r\nRemote-User: forged\r\n\r\n"
    );
    let answer = raw(&world, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = world.last_seen().unwrap();
    assert!(
        seen.header("remote-user") == Some("mira") && !format!("{seen:?}").contains("forged"),
        "{seen:?}"
    );
}

// === Cookies ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v19_a_huge_cookie_header_is_refused_or_ends_in_a_clean_sign_in() {
    let world = World::new().await;
    let own = world.base.trim_start_matches("http://").to_owned();
    let token = "A".repeat(43);
    let many: String = (0..500).map(|n| format!("c{n}=value")).collect::<Vec<_>>().join("; ");
    let ours: String = format!("doorward-session={token}; ").repeat(500);
    // Our own pages read what comes; for an application, 8 KiB are enough.
    for (cookies, expected, at_application) in
        [(many, 303, 302), (ours, 303, 400), ("x".repeat(64 * 1024), 431, 431)]
    {
        let headers = format!("Cookie: {cookies}\r\nAccept: text/html\r\n");
        let (status, answer) = ask(&world, &own, "/", &headers).await;
        assert_eq!(status, expected, "{}", answer.get(..300).unwrap_or(&answer));
        assert!(answer.len() < 4096);
        let (status, answer) = ask(&world, hub(&world), "/acme/secret", &headers).await;
        assert_eq!(status, at_application, "{}", answer.get(..300).unwrap_or(&answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v19_cookies_that_an_answer_has_no_room_for_are_refused_alike_by_every_adapter() {
    let world = World::new().await;
    let cookie = cookie_of_mira(&world).await;
    let cookie = cookie.trim_start_matches("Cookie: ").trim_end();
    let url = format!("{}/acme/secret", world.hub);
    for (size, status) in [(8192 - cookie.len() - 4, 200), (8192 - cookie.len() - 3, 400)] {
        let cookies = format!("{cookie}; x={}", "y".repeat(size));
        let asked = [
            ("accept", "text/html"),
            ("cookie", &*cookies),
            ("x-original-method", "GET"),
            ("x-original-url", &*url),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", hub(&world)),
            ("x-forwarded-uri", "/acme/secret"),
        ];
        for adapter in ["auth-request", "forward-auth"] {
            let page =
                Browser::new().request(Method::GET, &format!("{}/{adapter}", world.gate), &asked, "").await;
            let real =
                page.header("doorward-status").map_or(page.status.as_u16(), |real| real.parse().unwrap());
            assert_eq!(real, status, "{adapter} {size}");
            // nginx knows no other, and has 16 KiB of room.
            if adapter == "auth-request" {
                assert!(matches!(page.status.as_u16(), 200 | 403));
                let code = page.header("doorward-code");
                assert_eq!(code, (status == 400).then_some("gate.cookies_too_large"));
            }
            let head: usize =
                page.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
            assert!(head < 12 * 1024, "{adapter}: {head}");
        }
        let (told, answer) =
            ask(&world, hub(&world), "/acme/secret", &format!("Accept: text/html\r\nCookie: {cookies}\r\n"))
                .await;
        assert_eq!(told, status, "{}", answer.get(..300).unwrap_or(&answer));
        assert_eq!(answer.contains("data-error-code=\"gate.cookies_too_large\""), status == 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v24_v25_two_cookies_of_our_name_count_as_none_and_signing_in_again_is_clean() {
    let world = World::new().await;
    let cookie = cookie_of_mira(&world).await;
    let value = cookie.trim_end().rsplit('=').next().unwrap().to_owned();
    let good = format!("doorward-app={value}");
    let planted = format!("doorward-app={}", "B".repeat(43));
    let status =
        async |line: String| ask(&world, hub(&world), "/acme/secret", &format!("Cookie: {line}\r\n")).await.0;
    assert_eq!(status(good.clone()).await, 200);
    for line in [
        format!("{good}; {planted}"),
        format!("{planted}; {good}"),
        format!("{good}; {good}"),
        format!("{good}\r\nCookie: {planted}"),
        format!("doorward%2Dapp={value}"),
        format!("\u{a0}doorward-app={value}"),
        format!("doorward-app ={value}"),
        format!("DOORWARD-APP={value}"),
        format!("=doorward-app={value}"),
        format!("$Version=1; doorward-app=\"{value}\""),
        format!("__Host-doorward-app={value}"),
    ] {
        assert_eq!(status(line.clone()).await, 401, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v31_after_signing_out_the_cookie_is_gone_and_worth_nothing_on_any_host() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    let session = mira.cookie("localhost", "doorward-session").unwrap();
    let app = mira.cookie("hub.localhost", "doorward-app").unwrap();
    let page = mira.post(&format!("{}/logout", world.base), &[]).await;
    let cleared = page.headers_named("set-cookie");
    let cleared = cleared.iter().find(|cookie| cookie.starts_with("doorward-session=;")).expect("cleared");
    // With the attributes that it was set with, else a browser keeps it.
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=0"] {
        assert!(cleared.contains(part), "{cleared}");
    }
    assert_eq!(mira.cookie("localhost", "doorward-session"), None);
    let own = world.base.trim_start_matches("http://").to_owned();
    let headers = format!("Accept: text/html\r\nCookie: doorward-session={session}\r\n");
    let (status, answer) = ask(&world, &own, "/settings/account", &headers).await;
    assert!(status == 303 && answer.contains("/login"), "{answer}");
    assert_eq!(
        ask(&world, hub(&world), "/acme/secret", &format!("Cookie: doorward-app={app}\r\n")).await.0,
        401
    );
}

// === Redirects ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v20_v21_no_address_to_go_on_to_leads_off_our_hosts() {
    let world = World::new().await;
    let own_hosts = ["localhost", "hub.localhost"];
    let hub_host = hub(&world);
    let stays = |page: &Page, next: &str| {
        for to in [page.location(), page.meta_refresh()].into_iter().flatten() {
            assert!(own_hosts.contains(&to.host_str().unwrap_or_default()), "{next:?} leads to {to}");
            assert_eq!(to.scheme(), "http", "{next:?} leads to {to}");
        }
    };
    for next in [
        "//e.example",
        "///e.example",
        "/\\e.example",
        "\\\\e.example",
        "/\t/e.example",
        "/%5ce.example",
        "/%2f%2fe.example",
        "https:e.example",
        "https:/e.example",
        "https://e.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "\u{ff0f}\u{ff0f}e.example",
        "/\u{3002}e.example",
        "/\r\nLocation: //e.example",
        "/\0/e.example",
        "//e.example@localhost",
        "http://localhost@e.example/",
        "http://localhost.e.example/",
        "http://localhoste.example/",
        "/./../\\e.example",
        "/.//e.example",
        " //e.example",
        "\u{a0}//e.example",
        &format!("http://{hub_host}.e.example/"),
        &format!("http://{hub_host}@e.example/"),
        "http://hub.localhost:1/",
    ] {
        let encoded = form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>();
        let mira = world.browser_of("mira").await;
        for address in [
            format!("{}/login?next={encoded}", world.base),
            format!("{}/organizations/acme/sso?next={encoded}", world.base),
            format!("{}/organizations/acme/sso?target_link_uri={encoded}", world.base),
            format!("{}/.doorward/start?next={encoded}", world.hub),
            format!(
                "{}/.doorward/handover?host={hub_host}&handover={}&next={encoded}",
                world.base,
                "A".repeat(43)
            ),
        ] {
            let page = mira.get(&address).await;
            stays(&page, next);
            assert!(page.status.as_u16() < 500, "{address}: {}", page.text());
        }
        let page = mira.post(&format!("{}/organizations/acme/sso", world.base), &[("next", next)]).await;
        stays(&page, next);
        // A path of the hand-over's own host stays one.
        let page = mira.get(&format!("{}/.doorward/start?next={encoded}", world.hub)).await;
        let end = mira.follow_all(page).await;
        assert!(own_hosts.contains(&end.url.host_str().unwrap()), "{next:?}: {}", mira.history());
    }
}
