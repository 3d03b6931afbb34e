//! Every route with every kind of visitor: the answer is what the route's `Access` says, carries every security header,
//! changes nothing where it must not, and is never a 5xx, whatever is sent (rules 9 and 10; ASVS 3.4, 3.5, 13.4).

use doorward::web::access::Access;
use doorward::web::{Route, routes};
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::harness::{On, Options, World};

/// Who asks. Acme's SSO is live and enforced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Visitor {
    Stranger,
    /// Signed in, and of no organization.
    Nobody,
    Member,
    AdminElsewhere,
    /// An admin who has not completed SSO.
    AdminWithoutSso,
    /// An admin whose login is old.
    StaleAdmin,
    Admin,
}

const VISITORS: [Visitor; 7] = [
    Visitor::Stranger,
    Visitor::Nobody,
    Visitor::Member,
    Visitor::AdminElsewhere,
    Visitor::AdminWithoutSso,
    Visitor::StaleAdmin,
    Visitor::Admin,
];

/// What access enforcement does with a visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Admitted,
    SignIn,
    SignInAgain,
    Unknown,
    SsoNeeded,
    TokenNeeded,
}

/// The rule of architecture.md §5.10 and §5.12, written down a second time.
fn expected(route: &Route, visitor: Visitor) -> Outcome {
    use Visitor::{Admin, AdminElsewhere, AdminWithoutSso, Member, Nobody, StaleAdmin, Stranger};
    // Who the other members are is the organization's own business: this page asks for its SSO too.
    let tells_of_members = route.method == "get" && route.path.ends_with("/settings/members");
    match (route.access, visitor) {
        (Access::Member, Member | AdminWithoutSso) if tells_of_members => Outcome::SsoNeeded,
        (Access::Anyone, _) => Outcome::Admitted,
        // Nobody's cookie counts there.
        (Access::ApiToken, _) => Outcome::TokenNeeded,
        (_, Stranger) => Outcome::SignIn,
        (Access::FreshAccount | Access::FreshAdmin | Access::FreshAdminWithSso, StaleAdmin) => {
            Outcome::SignInAgain
        }
        (Access::Account | Access::FreshAccount, _) => Outcome::Admitted,
        (_, Nobody | AdminElsewhere) => Outcome::Unknown,
        (Access::Member, _) | (Access::Leaving, Member | Admin | StaleAdmin) => Outcome::Admitted,
        (_, Member) => Outcome::Unknown,
        (Access::Admin | Access::Leaving | Access::FreshAdminWithSso, AdminWithoutSso) => Outcome::SsoNeeded,
        (
            Access::Admin | Access::FreshAdmin | Access::FreshAdminWithSso,
            Admin | AdminWithoutSso | StaleAdmin,
        ) => Outcome::Admitted,
    }
}

fn found(page: &Page) -> Outcome {
    let to = page.location();
    let to = to.as_ref().map_or("", |to| to.path());
    let query = page.location().and_then(|to| to.query().map(str::to_owned)).unwrap_or_default();
    match page.code().as_deref() {
        Some("account.sign_in_needed") => Outcome::SignIn,
        Some("settings.fresh_sign_in_needed") => Outcome::SignInAgain,
        Some("organization.unknown") => Outcome::Unknown,
        Some("settings.sso_needed") => Outcome::SsoNeeded,
        Some("api.token_needed") => Outcome::TokenNeeded,
        _ if to == "/login" && query.contains("fresh=1") => Outcome::SignInAgain,
        _ if to == "/login" && query.contains("next=") => Outcome::SignIn,
        _ if to.ends_with("/organizations/acme/sso") => Outcome::SsoNeeded,
        _ => Outcome::Admitted,
    }
}

/// On SQLite, whose file can be looked into.
async fn on_sqlite() -> World {
    World::with(Options { on: On::Sqlite, ..Options::default() }).await
}

struct Ground {
    world: World,
    admin: Browser,
}

impl Ground {
    async fn new() -> Self {
        let world = on_sqlite().await;
        let (admin, _) = world.enable_sso("acme", "ada").await;
        world.set_role("globex", "mira", Role::Read).await;
        Self { world, admin }
    }

    async fn browser(&self, visitor: Visitor) -> Browser {
        match visitor {
            Visitor::Stranger => Browser::new(),
            Visitor::Nobody => self.world.browser_of("eve").await,
            Visitor::Member => self.world.browser_of("mira").await,
            Visitor::AdminElsewhere => self.world.browser_of("ben").await,
            Visitor::AdminWithoutSso => self.world.browser_of("ada").await,
            Visitor::StaleAdmin | Visitor::Admin => self.admin.clone(),
        }
    }
}

async fn send(world: &World, browser: &Browser, route: &Route, navigation: bool) -> Page {
    send_to(world, browser, route, "acme", navigation).await
}

async fn send_to(
    world: &World,
    browser: &Browser,
    route: &Route,
    organization: &str,
    navigation: bool,
) -> Page {
    let path = route.path.replace("{org}", organization).replace("{name}", "nothing");
    let url = format!("{}{path}", world.base);
    match (route.method, navigation) {
        ("get", true) => browser.get(&url).await,
        ("get", false) => browser.fetch(&url).await,
        ("post", true) => browser.post(&url, &[]).await,
        (_, _) => {
            let headers = [("origin", &*world.base), ("content-type", "application/x-www-form-urlencoded")];
            browser.request(Method::POST, &url, &headers, "").await
        }
    }
}

/// Rows that a GET may write: the audit event of a download, and the attempt with which a member's way to the provider
/// begins (architecture.md §6: safe to open at any time).
fn may_write(route: &Route, table: &str) -> bool {
    match table {
        "audit_event" | "audit_sequence" | "audit_checkpoint" => route.path.ends_with("/download"),
        "attempt" => route.path == "/organizations/{org}/sso",
        _ => false,
    }
}

fn headers_are_complete(page: &Page, what: &str) {
    // The redirect URI's address holds code and state: it is told to nobody (conformance.md B8).
    let referrer_policy =
        if page.url.path().ends_with("/oidc/consume") { "no-referrer" } else { "same-origin" };
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", referrer_policy),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.headers_named(name), [value], "{what}: {name}");
    }
    let csp = page.header("content-security-policy").unwrap_or_default();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(csp.contains(part), "{what}: {csp}");
    }
    assert!(!csp.contains("unsafe") && !csp.contains('*'), "{what}: {csp}");
    let cached = page.header("cache-control").unwrap_or_default();
    // Built-in files and published keys are the same for everybody.
    let is_for_all =
        ["/assets/", "/.well-known/", "/api/openapi.json"].iter().any(|path| what.contains(path));
    assert!(cached == "no-store" || (is_for_all && page.status == 200), "{what}: {cached:?}");
    for name in page.headers.keys() {
        let name = name.as_str();
        assert!(!name.starts_with("access-control-"), "{what}: {name}");
        assert!(!matches!(name, "server" | "x-powered-by" | "via"), "{what}: {name}");
    }
    for cookie in page.headers_named("set-cookie") {
        for flag in ["; Path=/", "; HttpOnly", "; SameSite=Lax"] {
            assert!(cookie.contains(flag), "{what}: {cookie}");
        }
        assert!(!cookie.contains("Domain") && cookie.starts_with("doorward-"), "{what}: {cookie}");
        assert!(cookie.len() < 200, "{what}: {cookie}");
    }
    assert!(page.status.as_u16() < 500, "{what}: {} {}", page.status, page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_b13_every_route_admits_exactly_whom_its_access_rule_names_and_a_refusal_changes_nothing() {
    let mut ground = Ground::new().await;
    let mut wrong = Vec::new();
    for route in routes() {
        for visitor in VISITORS {
            let wanted = expected(&route, visitor);
            let asks_freshness =
                matches!(route.access, Access::FreshAccount | Access::FreshAdmin | Access::FreshAdminWithSso);
            if visitor == Visitor::StaleAdmin && !asks_freshness {
                continue;
            }
            for navigation in [true, false] {
                if visitor == Visitor::StaleAdmin {
                    // Forms are taken for an hour longer than pages open.
                    let minutes = if route.method == "get" { 16 } else { 76 };
                    ground.world.pass(Lifetime::from_minutes(minutes));
                }
                let browser = ground.browser(visitor).await;
                let before = ground.world.everything_stored().await;
                let page = send(&ground.world, &browser, &route, navigation).await;
                let what = format!("{route:?} by {visitor:?}, navigation: {navigation}");
                headers_are_complete(&page, &what);
                if found(&page) != wanted {
                    wrong.push(format!(
                        "{what}: {:?} instead of {wanted:?}: {} {:?}",
                        found(&page),
                        page.status,
                        page.code()
                    ));
                }
                let after = ground.world.everything_stored().await;
                if wanted != Outcome::Admitted || route.method == "get" {
                    for ((table, before), (_, after)) in before.iter().zip(&after) {
                        let allowed = wanted == Outcome::Admitted && may_write(&route, table);
                        if before != after && !allowed {
                            wrong.push(format!("{what}: changed {table}"));
                        }
                    }
                }
                if before != after || visitor == Visitor::StaleAdmin {
                    ground = Ground::new().await;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_foreign_organizations_routes_answer_as_those_of_an_unknown_one() {
    let ground = Ground::new().await;
    let ben = ground.world.browser_of("ben").await;
    for route in routes().into_iter().filter(|route| route.path.contains("{org}")) {
        if route.access == Access::Anyone {
            continue;
        }
        let foreign = send_to(&ground.world, &ben, &route, "acme", true).await;
        let unknown = send_to(&ground.world, &ben, &route, "nonsense", true).await;
        assert_eq!(foreign.status, unknown.status, "{route:?}");
        assert_eq!(foreign.code(), unknown.code(), "{route:?}");
        assert_eq!(foreign.title(), unknown.title(), "{route:?}");
        let status = if route.access == Access::ApiToken { 401 } else { 404 };
        assert_eq!(foreign.status, status, "{route:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_beside_the_routes_has_the_headers_too() {
    let world = on_sqlite().await;
    let mira = world.browser_of("mira").await;
    let html = [("accept", "text/html"), ("origin", "http://evil.localhost")];
    for path in [
        "/healthz",
        "/readyz",
        "/nonsense",
        "/organizations/acme/nonsense",
        "/.doorward/nonsense",
        "/.doorward/handover",
        "/organizations/%FF/oidc/consume",
    ] {
        let page = mira.request(Method::GET, &format!("{}{path}", world.base), &html, "").await;
        headers_are_complete(&page, path);
    }
    for method in [Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE, Method::PATCH] {
        for path in ["/organizations/acme/sso", "/organizations/acme/settings/sso/oidc"] {
            let page = mira.request(method.clone(), &format!("{}{path}", world.base), &html, "").await;
            headers_are_complete(&page, path);
            assert_eq!(page.status, 405, "{method} {path}");
            assert!(!page.body.contains("evil"), "TRACE and OPTIONS tell nothing back");
        }
    }
    for path in ["/.doorward/start", "/.doorward/ticket", "/.doorward/nonsense", "/.doorward/sign-out"] {
        let page = mira.request(Method::GET, &format!("{}{path}", world.hub), &html, "").await;
        headers_are_complete(&page, path);
    }
    // The gate's answers on an application's host, for people and for programs; and those that Traefik and Caddy pass on.
    let hub = world.hub.trim_start_matches("http://");
    for path in ["/acme/secret", "/acme/%2e%2e/x", "/nobody/x", "/.doorward/answer"] {
        for accept in ["text/html", "application/json"] {
            let asked = [("accept", accept)];
            let page = mira.request(Method::GET, &format!("{}{path}", world.hub), &asked, "").await;
            headers_are_complete(&page, &format!("{path} as {accept}"));
            let asked = [
                ("accept", accept),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", hub),
                ("x-forwarded-uri", path),
            ];
            let page = mira.request(Method::GET, &format!("{}/forward-auth", world.gate), &asked, "").await;
            headers_are_complete(&page, &format!("forward-auth {path} as {accept}"));
        }
    }
    // The application's own page has the application's headers.
    let page = mira.get(&format!("{}/static/x", world.hub)).await;
    assert!(page.status == 200 && page.header("content-security-policy").is_none());
    // And when it is down, the page that says so is ours.
    let configuration = "[[app]]\nname = \"down\"\nhost = \"down.localhost:PORT\"\nunowned = \"allow\"\n\
                         upstream = \"http://127.0.0.1:9\"\n";
    let world = World::with(Options { configuration: configuration.into(), ..Options::default() }).await;
    let down = world.hub.replace("hub.", "down.");
    for accept in ["text/html", "application/json"] {
        let page = mira.request(Method::GET, &format!("{down}/x"), &[("accept", accept)], "").await;
        assert_eq!(page.status, 502, "{}", page.text());
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{accept}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_on_https_cookies_are_host_bound_and_every_answer_asks_for_https() {
    let world = on_sqlite().await;
    let text = format!(
        "base_url = \"https://sso.example.com\"\ndatabase = \"sqlite:{}\"\nmaster_key_file = \"{}\"\n",
        world.folder().join("doorward.db").display(),
        world.folder().join("master.key").display()
    );
    let configuration = doorward::configuration::Configuration::parse(None, &text, []).unwrap();
    let app = doorward::app::App::new(
        configuration,
        world.app.store.clone(),
        doorward::sealing::Sealing::open(&world.folder().join("master.key")).unwrap(),
        world.app.clock.clone(),
        doorward::random::Random::seeded(9),
        doorward::outbound::OutboundSettings::new(Vec::new()),
    )
    .unwrap();
    let router = doorward::web::router(&app);
    let mut paths: Vec<String> =
        ["/healthz", "/readyz", "/nonsense", "/.doorward/handover"].map(str::to_owned).into();
    paths.extend(routes().iter().map(|route| route.path.replace("{org}", "acme").replace("{name}", "x")));
    for path in paths {
        for method in [Method::GET, Method::POST] {
            let request = http::Request::builder()
                .method(method)
                .uri(&path)
                .header("host", "sso.example.com")
                .header("accept", "text/html")
                .body(axum::body::Body::empty())
                .unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let hsts = response.headers().get("strict-transport-security");
            let hsts = hsts.and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert!(hsts.starts_with("max-age=31536000"), "{path}: {hsts:?}");
            for cookie in response.headers().get_all("set-cookie") {
                let cookie = cookie.to_str().unwrap();
                assert!(cookie.starts_with("__Host-doorward-") && cookie.contains("; Secure"), "{cookie}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_head_has_the_headers_of_the_answer_to_get_and_no_body() {
    let world = on_sqlite().await;
    // Without a listener: over HTTP/2 nobody else takes a body off.
    let router = doorward::web::router(&world.app);
    let own = world.base.trim_start_matches("http://");
    let hub = world.hub.trim_start_matches("http://");
    for (host, target) in [
        (own, "/login"),
        (own, "/nonsense"),
        (hub, "/acme/secret"),
        (hub, "/acme/%2e%2e/secret"),
        (hub, "/.doorward/%2e%2e/secret"),
        ("nobody.example.com", "/"),
        (own, "/readyz"),
    ] {
        let ask = async |method: Method| {
            let request = http::Request::builder()
                .method(method)
                .uri(target)
                .header("host", host)
                .body(axum::body::Body::empty())
                .unwrap();
            let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
            (parts.status, parts.headers, axum::body::to_bytes(body, 1 << 20).await.unwrap())
        };
        let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
        assert_eq!(head.0, get.0, "{host}{target}");
        assert!(head.2.is_empty(), "{host}{target}: {:?}", head.2);
        let length = head.1.get("content-length").map(|length| length.to_str().unwrap().to_owned());
        if !get.2.is_empty() {
            assert_eq!(length, Some(get.2.len().to_string()), "{host}{target}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_strangers_leave_no_row_whatever_they_send() {
    let world = on_sqlite().await;
    world.enable_sso("acme", "ada").await;
    let stranger = Browser::new();
    stranger.plant_cookie("localhost", "doorward-session", &"S".repeat(43));
    stranger.plant_cookie("localhost", "doorward-browser", &"B".repeat(43));
    stranger.plant_cookie("hub.localhost", "doorward-app", &"A".repeat(43));
    stranger.plant_cookie("hub.localhost", "doorward-handover", &"H".repeat(43));
    let before = world.everything_stored().await;
    let state = "T".repeat(43);
    for path in [
        format!("/organizations/acme/oidc/consume?code=x&state={state}"),
        format!("/organizations/acme/oidc/consume?error=access_denied&state={state}"),
        "/organizations/acme/sso?next=/".to_owned(),
        format!("/.doorward/handover?host=hub.localhost&handover={state}&next=/"),
        format!("/login?next=/&state={state}"),
    ] {
        stranger.get(&format!("{}{path}", world.base)).await;
        stranger.get(&format!("{}{path}", world.hub)).await;
    }
    for route in routes() {
        send(&world, &stranger, &route, true).await;
    }
    stranger.get(&format!("{}/.doorward/start?next=/acme/secret", world.hub)).await;
    stranger.get(&format!("{}/.doorward/ticket?ticket={state}", world.hub)).await;
    stranger.visit(&format!("{}/acme/secret", world.hub)).await;
    assert_eq!(world.everything_stored().await, before);
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }

    /// Bytes that a head may hold in some reading: everything but CR, LF and NUL.
    fn bytes(&mut self, longest: usize, from: u8) -> Vec<u8> {
        let length = self.roll(longest + 1);
        (0..length)
            .map(|_| {
                loop {
                    let byte = u8::try_from(self.roll(256)).unwrap();
                    if byte >= from && byte != 0x7f {
                        break byte;
                    }
                }
            })
            .collect()
    }
}

/// One request over a socket of its own, head and body as they are; the status, or nothing for a closed connection.
async fn raw(address: &str, request: &[u8]) -> Option<u16> {
    #[expect(clippy::disallowed_methods, reason = "a hostile client connects as it likes")]
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let reading = socket.read_to_end(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.expect("an answer").ok()?;
    let line = String::from_utf8_lossy(answer.get(..12)?).into_owned();
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_random_request_to_any_route_gate_or_application_ends_in_a_5xx_or_a_panic() {
    let world = on_sqlite().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    ada.visit(&format!("{}/acme/secret", world.hub)).await;
    let session = ada.cookie("localhost", "doorward-session").unwrap();
    let app = ada.cookie("hub.localhost", "doorward-app").unwrap();
    let port = world.base.rsplit(':').next().unwrap().to_owned();
    let main = format!("127.0.0.1:{port}");
    let gate = world.gate.strip_prefix("http://").unwrap().to_owned();
    let paths: Vec<String> = routes()
        .iter()
        .map(|route| route.path.replace("{org}", "acme").replace("{name}", "x"))
        .chain(
            [
                "/",
                "/acme/secret",
                "/acme/website",
                "/%2e%2e/acme",
                "/acme/..;/globex",
                "//acme//secret",
                "/acme/%00",
                "/acme/secret/%c0%ae%c0%ae",
                "/.doorward/start",
                "/.doorward/ticket",
                "/.doorward/handover",
                "/.doorward/answer",
                "/.doorward/sign-out",
                "/auth-request",
                "/forward-auth",
                "/ext-authz/acme/secret",
                "*",
                "/healthz",
            ]
            .map(str::to_owned),
        )
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let names =
        ["next", "state", "code", "iss", "error", "login_hint", "ticket", "host", "handover", "x", "%00"];
    let values = [
        "",
        "/",
        "//e.example",
        "https://e.example",
        "%FF",
        "%00",
        "\u{FF0F}\u{FF0F}e",
        "'--",
        "<script>",
        "%0d%0aa:b",
        "javascript:alert(1)",
        "&&&",
        "===",
        "%",
        "hub.localhost",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    let seed = 0x2026_0115_u64;
    let mut dice = Dice(seed);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..600 {
        let own_host = format!("localhost:{port}");
        let hub_host = format!("hub.localhost:{port}");
        let to_gate = dice.roll(5) == 0;
        let host = dice.pick(&[
            &*own_host,
            &*own_host,
            &*hub_host,
            &*hub_host,
            "",
            "evil.example",
            "localhost",
            "[::1]",
            "LOCALHOST.",
            "hub.localhost:99999",
            "a b",
            "\u{e9}",
        ]);
        let mut head =
            format!("{} ", dice.pick(&["GET", "GET", "GET", "POST", "HEAD", "PUT", "OPTIONS", "BREW"]));
        head.push_str(dice.pick(&paths));
        head.push('?');
        for _ in 0..dice.roll(6) {
            head.extend([dice.pick(&names), "=", dice.pick(&values), "&"]);
        }
        let mut request = head.into_bytes();
        if dice.roll(3) == 0 {
            let noise = dice.bytes(60, 0x21);
            request.extend(noise);
        }
        request.extend(format!(" HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n").bytes());
        if to_gate {
            let target = dice.pick(&paths);
            request.extend(
                format!("X-Original-Method: GET\r\nX-Original-URL: http://{host}{target}\r\n").bytes(),
            );
            request.extend(
                format!("X-Forwarded-Method: GET\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Uri: {target}\r\n")
                    .bytes(),
            );
        }
        // Often as a person's browser asks, so that the noise meets redirects too.
        if dice.roll(3) == 0 {
            request.extend(b"Accept: text/html\r\n");
        }
        for _ in 0..dice.roll(8) {
            let name = dice.pick(&[
                "Cookie",
                "Accept",
                "Origin",
                "Sec-Fetch-Site",
                "Sec-Fetch-Mode",
                "X-Forwarded-For",
                "X-Original-URL",
                "Forwarded",
                "Upgrade",
                "Content-Type",
                "Referer",
                "X-HTTP-Method-Override",
                "Remote-User",
                "Accept-Encoding",
                "User-Agent",
                "Doorward-Account",
                "X_Forwarded_Host",
                "If-None-Match",
                "Range",
            ]);
            request.extend(format!("{name}: ").bytes());
            match dice.roll(5) {
                0 => request.extend(format!("doorward-session={session}; doorward-app={app}").bytes()),
                1 => request.extend(b"text/html"),
                2 => request.extend(format!("http://localhost:{port}").bytes()),
                3 => request.extend(b"navigate"),
                _ => {
                    let noise = dice.bytes(80, 0x20);
                    request.extend(noise);
                }
            }
            request.extend(b"\r\n");
        }
        if dice.roll(3) == 0 {
            let body = dice.bytes(200, 0x01);
            request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            request.extend(body);
        } else {
            request.extend(b"\r\n");
        }
        let status = raw(if to_gate { &gate } else { &main }, &request).await;
        let shown = String::from_utf8_lossy(&request);
        assert!(status.is_none_or(|status| status < 500), "seed {seed}, request {n}: {status:?}\n{shown}");
        seen.extend(status);
    }
    // The noise reaches everything: leave, redirects, and each kind of refusal.
    for status in [200, 303, 400, 403, 404, 405, 421] {
        assert!(seen.contains(&status), "no {status} in {seen:?}");
    }
    // It still serves.
    assert!(ada.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
}
