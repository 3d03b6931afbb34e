//! What went wrong elsewhere (conformance.md §4) and concerns the relying party, sessions or pages: a test for each
//! lesson that no other file has. `docs/conformance.md` lists them all.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use doorward::app::{App, SharedApp};
use doorward::outbound::OutboundSettings;
use doorward::random::Random;
use doorward::sealing::Sealing;
use doorward::store::{Change, Query as _, load_sign_in};
use doorward::values;
use doorward::web::pages::sign_in::make_operator_link;
use doorward_core::ids::SessionId;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Endpoint, Misbehavior, Page};
use http::{Method, Request, Response, StatusCode};
use tower::ServiceExt as _;

use crate::harness::{On, Options, World};
use crate::stolen_password::Dice;

const PASSWORD: &str = "three quiet lanterns";
const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";
const ATTEMPTS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM attempt";
const HOST_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM host_session";
const ACCOUNTS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account";

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

async fn give_password(world: &World, account: &str) {
    let hash = world.app.passwords.hash(Secret::new(PASSWORD.to_owned()), &world.app.random).await.unwrap();
    let id = world.account(account).await;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(id, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
}

async fn sign_in(world: &World, browser: &Browser, username: &str, password: &str) -> Page {
    browser.post(&format!("{}/login", world.base), &[("username", username), ("password", password)]).await
}

/// Another node over the same database, with a memory of its own: also what this one is after a restart.
pub async fn another_node(world: &World) -> (SharedApp, Router) {
    let store = world.other_node().await;
    store.read_changes(world.app.clock.now()).await.unwrap();
    let random = Random::seeded(991);
    let sealing = Sealing::open_or_create(&world.folder().join("master.key"), &random).unwrap();
    let configuration = world.app.configuration.clone();
    let outbound = OutboundSettings::new(configuration.outbound_allow.clone());
    let app = App::new(configuration, store, sealing, world.app.clock.clone(), random, outbound).unwrap();
    let router = doorward::web::router(&app);
    (app, router)
}

/// A request as a browser's address bar sends it, without a socket in between.
fn navigation(world: &World, method: &str, target: &str, cookies: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", world.base.trim_start_matches("http://"))
        .header("origin", &world.base)
        .header("cookie", cookies)
        .header("sec-fetch-mode", "navigate")
        .header("content-type", "application/x-www-form-urlencoded")
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn sign_in_at(
    world: &World,
    router: &Router,
    username: &str,
    password: &str,
    cookies: &str,
) -> StatusCode {
    let body = form(&[("username", username), ("password", password)]);
    let request = navigation(world, "POST", "/login", cookies).body(Body::from(body)).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

/// The way of a signed-in browser to a ticket for an application's host, which is not opened yet.
async fn ticket_of(browser: &Browser, page: &str) -> url::Url {
    let start = browser.get(page).await.location().unwrap();
    let handover = browser.get(start.as_str()).await.location().unwrap();
    browser.get(handover.as_str()).await.location().unwrap()
}

async fn body_of(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Waits until what is written beside an answer is there.
async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !there().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("no {what}"));
}

// === The gate ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_what_is_remembered_of_one_organization_or_browser_answers_for_no_other() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.enable_sso("globex", "ben").await;
    let [acme, globex] = ["acme", "globex"].map(|name| format!("{}/{name}/secret", world.hub));
    // Two browsers of one account, both with a session on the application's host, one through at acme.
    let through = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&through, &acme).await;
    let other = world.browser_of("mira").await;
    let ticket = ticket_of(&other, &acme).await;
    other.get(ticket.as_str()).await;
    for _ in 0..5 {
        assert_eq!(through.get(&acme).await.status, 200);
        assert_eq!(world.last_seen().unwrap().header("doorward-organization"), Some("acme"));
        assert_eq!(through.get(&globex).await.status, 302);
        assert_eq!(other.get(&acme).await.status, 302);
        assert_eq!(other.get(&globex).await.status, 302);
    }
    world.visit(&through, &globex).await;
    assert_eq!(through.get(&globex).await.status, 200);
    assert_eq!(world.last_seen().unwrap().header("doorward-role"), Some("read"), "globex's role, not acme's");
    assert_eq!(other.get(&globex).await.status, 302);
}

/// A gzip file that holds `text` without packing it.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let length = u16::try_from(text.len()).unwrap();
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(text);
    file.extend((!crc).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v17_nothing_that_is_sent_to_us_is_unpacked() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let fields = form(&[("username", "mira"), ("password", PASSWORD)]);
    let router = doorward::web::router(&world.app);
    let send = async |encoding: &str, body: Vec<u8>| {
        let request = navigation(&world, "POST", "/login", "").header("content-encoding", encoding);
        router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status()
    };
    // As it stands the form is good; packed, it is no form, whatever it claims to be.
    assert_eq!(send("identity", fields.clone().into_bytes()).await, 303);
    for encoding in ["gzip", "x-gzip", "deflate", "br", "gzip, gzip"] {
        let status = send(encoding, gzip(fields.as_bytes())).await;
        assert!(status.is_client_error(), "{encoding}: {status}");
    }
}

// === What a browser is told ===

/// Text that wants to be more than text, the same in each run.
fn hostile(dice: &mut Dice) -> String {
    const BEFORE: [&str; 22] = [
        "",
        "\"",
        "'",
        "`",
        "\">",
        "'>",
        "</title>",
        "</textarea>",
        "<!--",
        "-->",
        "\\\"",
        "&lt;",
        "%3C",
        "\u{0}",
        "\r\n\r\n",
        "\u{2028}",
        "\u{ff1c}",
        "{{7*7}}",
        "${7*7}",
        "\u{202e}",
        "\t",
        "]]>",
    ];
    const INSIDE: [&str; 12] = [
        "<xss>",
        "<xss src=x onerror=alert(1)>",
        "\"xss=1 ",
        "'xss='",
        "<xss/onload=alert(1)",
        "<xss\u{0}>",
        "\" xss onfocus=alert(1) autofocus x=\"",
        "javascript:alert('xss')",
        "data:text/html,<xss>",
        "<xss><!--",
        "\u{0}<xss>",
        "<xss style=\"x:expression(1)\">",
    ];
    let mut text = String::new();
    for _ in 0..=dice.roll(3) {
        text.push_str(BEFORE[dice.roll(BEFORE.len())]);
    }
    text.push_str(INSIDE[dice.roll(INSIDE.len())]);
    text.push_str(BEFORE[dice.roll(BEFORE.len())]);
    text.push_str(&dice.roll(1_000_000).to_string());
    text
}

/// No 5xx, nothing that has become markup, nowhere to go that is not ours.
fn is_only_text(what: &str, status: StatusCode, location: Option<&str>, body: &str) {
    assert!(!status.is_server_error(), "{what}: {status}");
    for markup in [
        "<xss",
        "\"xss",
        "'xss",
        "\" xss",
        "href=\"javascript",
        "href=\"data",
        "action=\"javascript",
        "url=javascript",
        "url=data",
        "\u{0}",
    ] {
        assert!(!body.contains(markup), "{what}: {markup:?} in {body}");
    }
    let to = location.unwrap_or("/");
    assert!(to.starts_with('/') && !to.starts_with("//"), "{what}: to {to}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v22_ten_thousand_hostile_texts_in_each_parameter_stay_text() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.returning(&mira, "acme").await;
    let cookies = ["doorward-session", "doorward-browser"]
        .map(|name| format!("{name}={}", mira.cookie("localhost", name).unwrap()))
        .join("; ");
    let router = doorward::web::router(&world.app);
    let ask = async |method: &str, target: String, body: String| {
        let request = navigation(&world, method, &target, &cookies)
            // From another site: single sign-on shows its page before anybody is sent on.
            .header("sec-fetch-site", if method == "GET" { "cross-site" } else { "same-origin" });
        let answer = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        let status = answer.status();
        (status, location, body_of(answer).await)
    };
    let mut dice = Dice(22);
    let state = "S".repeat(43);
    for n in 0..10_000 {
        let text = hostile(&mut dice);
        let consume = |fields: &[(&str, &str)]| format!("/organizations/acme/oidc/consume?{}", form(fields));
        let sso = |fields: &[(&str, &str)]| format!("/organizations/acme/sso?{}", form(fields));
        let target = match n % 8 {
            0 => consume(&[("state", &text), ("code", &text), ("iss", &text)]),
            1 => consume(&[
                ("state", &state),
                ("error", &text),
                ("error_description", &text),
                ("error_uri", &text),
            ]),
            2 => consume(&[("state", &state), ("code", "c"), (&text, &text)]),
            3 => sso(&[("next", "/"), ("login_hint", &text)]),
            4 => sso(&[("iss", &text), ("target_link_uri", "/"), ("login_hint", &text)]),
            5 => sso(&[("next", &text), (&text, "x")]),
            6 => format!("/login?{}", form(&[("next", &text), ("fresh", &text), ("done", &text)])),
            _ => {
                format!("/login?{}", form(&[("fresh", "1"), ("next", "/"), ("done", &text), (&text, &text)]))
            }
        };
        let (status, location, body) = ask("GET", target.clone(), String::new()).await;
        // A member who is through, or signed in, is taken on; else nothing leads away.
        is_only_text(&target, status, location.as_deref(), &body);
        if n % 4 == 0 {
            let fields = form(&[("username", &text), ("password", ""), ("next", "")]);
            let (status, location, body) = ask("POST", "/login".to_owned(), fields).await;
            is_only_text("the form of /login", status, location.as_deref(), &body);
        }
    }

    // With a state that is good, the provider's own words are on the page: as text, and cut.
    for n in 0..250 {
        let callback = world.returning(&mira, "acme").await;
        let state = callback.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let text: String = (0..4).map(|_| hostile(&mut dice)).collect();
        let mut fields = vec![("state", &*state), ("error_description", &text)];
        fields.push(("error", if n % 2 == 0 { "server_error" } else { &text }));
        let issuer = world.idp.issuer();
        fields.push(("iss", &issuer));
        let target = format!("/organizations/acme/oidc/consume?{}", form(&fields));
        let (status, location, body) = ask("GET", target.clone(), String::new()).await;
        is_only_text(
            &target,
            if status == 502 { StatusCode::OK } else { status },
            location.as_deref(),
            &body,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v26_nothing_but_a_deliberate_act_in_the_own_browser_starts_a_trip() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let sso = format!("{}/organizations/acme/sso", world.base);
    let begun = world.count(ATTEMPTS).await;
    let asked = world.idp.calls(Endpoint::Authorize);
    // A link on another site, an image, a script: at most a page that asks.
    let elsewhere = mira.get(&format!("{}/", world.hub)).await;
    let page = mira.go(&elsewhere, &format!("{sso}?next=/").parse().unwrap()).await;
    assert!(page.has_form("/sso"), "{}", page.text());
    mira.fetch(&sso).await;
    let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image"), ("accept", "image/*")];
    mira.request(Method::GET, &sso, &image, "").await;
    // A form that another site sends, or that says of no site.
    assert_eq!(
        mira.post_from("http://evil.localhost", &sso, &[]).await.code().unwrap(),
        "request.foreign_origin"
    );
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    assert!(mira.request(Method::POST, &sso, &headers, "").await.status.is_client_error());
    assert_eq!((world.count(ATTEMPTS).await, world.idp.calls(Endpoint::Authorize)), (begun, asked));
    // The button.
    mira.submit(page.form("/sso")).await;
    assert_eq!(world.count(ATTEMPTS).await, begun + 1);
}

// === Once ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v28_what_is_good_once_is_good_once_at_the_same_instant_too() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        world.idp.signs_in("mira");
        for _ in 0..5 {
            // State, code, nonce and verifier: one trip.
            let mira = world.browser_of("mira").await;
            let callback = world.returning(&mira, "acme").await;
            let (redeemed, sessions) = (world.idp.calls(Endpoint::Token), world.count(SSO_SESSIONS).await);
            let at_once = (0..6).map(|_| {
                let (mira, callback) = (mira.clone(), callback.clone());
                tokio::spawn(async move { mira.get(callback.as_str()).await })
            });
            for answer in at_once.collect::<Vec<_>>() {
                let page = answer.await.unwrap();
                assert!(!page.status.is_server_error(), "{on:?}: {}", page.text());
            }
            assert_eq!(mira.get(callback.as_str()).await.status, 303, "{on:?}: a reload is taken on");
            assert_eq!(world.idp.calls(Endpoint::Token), redeemed + 1, "{on:?}");
            assert_eq!(world.count(SSO_SESSIONS).await, sessions + 1, "{on:?}");

            // The ticket to an application's host.
            let ticket = ticket_of(&mira, &format!("{}/acme/secret", world.hub)).await;
            let sessions = world.count(HOST_SESSIONS).await;
            let at_once = (0..6).map(|_| {
                let (mira, ticket) = (mira.clone(), ticket.clone());
                tokio::spawn(async move { mira.get(ticket.as_str()).await.status })
            });
            for status in at_once.collect::<Vec<_>>() {
                assert!(!status.await.unwrap().is_server_error(), "{on:?}");
            }
            mira.get(ticket.as_str()).await;
            assert_eq!(world.count(HOST_SESSIONS).await, sessions + 1, "{on:?}");
        }

        // The first operator's link.
        let link = make_operator_link(&world.app).await.unwrap().unwrap();
        let token = link.split_once("token=").unwrap().1.to_owned();
        let accounts = world.count(ACCOUNTS).await;
        let at_once = (0..4).map(|n| {
            let (address, token) = (format!("{}/login/first", world.base), token.clone());
            tokio::spawn(async move {
                let (name, email) = (format!("first-{n}"), format!("first-{n}@acme.example"));
                let fields =
                    [("token", &*token), ("name", &*name), ("email", &*email), ("password", PASSWORD)];
                Browser::new().post(&address, &fields).await.status
            })
        });
        let mut made = 0;
        for status in at_once.collect::<Vec<_>>() {
            made += usize::from(status.await.unwrap() == 303);
        }
        assert_eq!((made, world.count(ACCOUNTS).await), (1, accounts + 1), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v45_a_recovery_code_opens_once_however_many_hold_it_at_the_same_instant() {
    for on in On::all() {
        let world = world_on(on).await;
        let acme = world.organization("acme").await.id;
        let now = world.app.clock.now();
        let mut opened = 0;
        for round in 0..100 {
            let codes: Vec<TokenHash> = (0..10).map(|n| TokenHash::of(&format!("{round}/{n}"))).collect();
            let mut tx = world.app.store.begin().await.unwrap();
            tx.replace_recovery_codes(acme, &codes, None, now).await.unwrap();
            tx.commit(now).await.unwrap();
            for code in codes {
                let used = async |store: &doorward::store::Store| {
                    let mut tx = store.begin().await.unwrap();
                    let number = tx.use_recovery_code(acme, code, now).await.unwrap();
                    tx.commit(now).await.unwrap();
                    number.is_some()
                };
                let (first, second) = tokio::join!(used(&world.app.store), used(&world.app.store));
                assert!(first ^ second, "{on:?}: {first} {second}");
                opened += 1;
            }
        }
        assert_eq!(opened, 1000);
        let left = doorward::store::count_recovery_codes(&mut world.app.store.reader(), acme).await.unwrap();
        assert_eq!(left, Some((0, 10)), "{on:?}");
    }
}

// === Sessions ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v29_a_thousand_races_of_a_sign_out_with_a_request_leave_no_session_alive() {
    for on in On::all() {
        let world = world_on(on).await;
        let mira = world.account("mira").await;
        let (here, (there, elsewhere)) = (doorward::web::router(&world.app), another_node(&world).await);
        // Used long ago, so that each request notes its use: the parallel write that could bring it back.
        let long_ago = world.app.clock.now().minus(Lifetime::from_hours(2));
        let mut dead = Vec::new();
        for n in 0..1000 {
            let token: Secret = world.app.random.token().unwrap();
            let id = SessionId::new(long_ago.millis(), world.app.random.bytes().unwrap());
            let mut tx = world.app.store.begin().await.unwrap();
            tx.insert_browser_session(id, token.hash(), mira, long_ago).await.unwrap();
            tx.commit(world.app.clock.now()).await.unwrap();
            let cookie = format!("doorward-session={}", token.expose());
            let request = |router: &Router, method: &str, target: &str| {
                let request = navigation(&world, method, target, &cookie).body(Body::empty()).unwrap();
                let router = router.clone();
                tokio::spawn(async move { router.oneshot(request).await.unwrap().status() })
            };
            let other = if n % 2 == 0 { &here } else { &elsewhere };
            let (read, out) = (request(other, "GET", "/settings/account"), request(&here, "POST", "/logout"));
            assert_eq!(out.await.unwrap(), 303, "{on:?}");
            let again = request(&here, "GET", "/settings/account").await.unwrap();
            assert_eq!(again, 303, "{on:?}: signed out, and yet it is served, race {n}");
            assert!([200, 303].contains(&read.await.unwrap().as_u16()), "{on:?}");
            dead.push(token.hash());
        }
        let now = world.app.clock.now();
        there.store.read_changes(now).await.unwrap();
        for token in dead {
            assert!(world.app.store.session_facts(token, now).await.unwrap().is_none(), "{on:?}");
            assert!(there.store.session_facts(token, now).await.unwrap().is_none(), "{on:?}");
        }
        let left = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM browser_session";
        assert_eq!(world.count(left).await, 0, "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v30_a_session_that_was_planted_before_the_login_is_worth_nothing_after_it() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    // A planted secret that nobody has, and one of eve's own, good session: mira gets another one in either case.
    let eve = world.browser_of("eve").await;
    for planted in ["P".repeat(43), eve.cookie("localhost", "doorward-session").unwrap()] {
        let mira = Browser::new();
        mira.plant_cookie("localhost", "doorward-session", &planted);
        assert_eq!(sign_in(&world, &mira, "mira", PASSWORD).await.status, 303);
        assert_ne!(mira.cookie("localhost", "doorward-session").unwrap(), planted);
        let thief = Browser::new();
        thief.plant_cookie("localhost", "doorward-session", &planted);
        let page = thief.get(&format!("{}/settings/account", world.base)).await;
        assert!(page.location().is_some_and(|to| to.path() == "/login"), "{}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v31_after_signing_out_the_cookie_is_gone_and_what_it_was_opens_nothing() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let old = [("localhost", "doorward-session"), ("hub.localhost", "doorward-app")]
        .map(|(host, name)| (host, name, mira.cookie(host, name).unwrap()));
    assert_eq!(mira.post(&format!("{}/logout", world.base), &[]).await.status, 303);
    assert_eq!(mira.cookie("localhost", "doorward-session"), None);
    let thief = Browser::new();
    for (host, name, value) in old {
        thief.plant_cookie(host, name, &value);
    }
    for address in [format!("{}/settings/account", world.base), format!("{}/acme/secret", world.hub)] {
        assert!(thief.get(&address).await.status.is_redirection(), "{address}");
        assert!(!thief.visit(&address).await.says("the application's page"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v32_whatever_a_cookie_holds_it_is_the_one_form_or_nothing() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let good = mira.cookie("localhost", "doorward-session").unwrap();
    let router = doorward::web::router(&world.app);
    let home = async |cookies: &str| {
        let request = navigation(&world, "GET", "/settings/account", cookies).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(home(&format!("doorward-session={good}")).await, 200);
    let mut dice = Dice(32);
    for _ in 0..2000 {
        // The right one with something in it changed, cut out, put in, encoded or quoted.
        let at = dice.roll(good.len());
        let piece = ["", "%", "\"", "=", "A", ".", "%41", " ", "-_", "\t"][dice.roll(10)];
        let cut = dice.roll(3);
        let (before, after) = (good.get(..at).unwrap_or_default(), good.get(at + cut..).unwrap_or_default());
        let value = format!("{before}{piece}{after}");
        if value == good {
            continue;
        }
        assert_eq!(home(&format!("doorward-session={value}")).await, 303, "{value}");
    }
    for value in [format!("\"{good}\""), format!(" {good}x"), good.to_lowercase(), format!("{good}\u{7f}")] {
        if let Ok(value) = http::HeaderValue::from_str(&format!("doorward-session={value}")) {
            assert_eq!(home(value.to_str().unwrap_or_default()).await, 303);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v33_state_nonce_and_verifier_come_from_the_systems_generator_each_for_itself() {
    // The service's own source: 256 bits each, and none like another.
    let random = Random::system();
    let tokens: std::collections::HashSet<String> =
        (0..10_000).map(|_| random.token().unwrap().expose().to_owned()).collect();
    assert_eq!(tokens.len(), 10_000);
    assert!(tokens.iter().all(|token| token.len() == 43));
    let mut seen = [0_u32; 256];
    (0..100)
        .for_each(|_| random.bytes::<256>().unwrap().iter().for_each(|byte| seen[usize::from(*byte)] += 1));
    assert!(seen.iter().all(|count| (30..250).contains(count)), "{seen:?}");
    // Nothing that is shipped asks for the counted series of the tests.
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
                assert!(!shipped.contains("Random::seeded"), "{}", path.display());
            }
        }
    }
    // In a trip the three are three.
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let mut values = std::collections::HashSet::new();
    for _ in 0..20 {
        world.returning(&mira, "acme").await;
        let asked = world.idp.last_request(Endpoint::Authorize).unwrap();
        for name in ["state", "nonce", "code_challenge"] {
            assert!(values.insert(asked.field(name).unwrap().to_owned()), "{name} came twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v34_who_is_switched_off_removed_or_whose_organization_is_gone_finds_every_way_closed() {
    for change in ["switched off", "removed", "organization gone"] {
        let world = World::new().await;
        world.enable_sso("acme", "ada").await;
        give_password(&world, "mira").await;
        world.idp.signs_in("mira");
        let secret = format!("{}/acme/secret", world.hub);
        let through = world.browser_of("mira").await;
        world.visit(&through, &secret).await;
        assert_eq!(through.get(&secret).await.status, 200);
        let on_the_way = world.browser_of("mira").await;
        let callback = world.returning(&on_the_way, "acme").await;
        let handed_over = world.browser_of("mira").await;
        let ticket = ticket_of(&handed_over, &secret).await;
        let sessions = world.count(SSO_SESSIONS).await;

        match change {
            "switched off" => {
                let mira = world.account("mira").await;
                let mut tx = world.app.store.begin().await.unwrap();
                let sql = "UPDATE account SET disabled = 1 WHERE id = $1 RETURNING id";
                tx.fetch_optional(sql, values![mira]).await.unwrap().unwrap();
                tx.changed(Change::Account(mira));
                tx.commit(world.app.clock.now()).await.unwrap();
            }
            "removed" => world.remove_member("acme", "mira").await,
            _ => {
                world.behind_its_back("UPDATE organization SET deleted_at = 1 WHERE name_key = 'acme'").await;
                let mut tx = world.app.store.begin().await.unwrap();
                tx.changed(Change::Organization("acme".to_owned()));
                tx.commit(world.app.clock.now()).await.unwrap();
            }
        }
        let before = world.seen.lock().unwrap().len();
        let shut = |way: &str, page: &Page| {
            assert!(!page.says("the application's page"), "{change}, {way}: {}", page.text());
        };
        shut("an open session", &through.visit(&secret).await);
        let app = through.cookie("hub.localhost", "doorward-app").unwrap();
        let cookie = format!("doorward-app={app}");
        let host = world.hub.trim_start_matches("http://");
        for (adapter, headers) in [
            ("auth-request", vec![("x-original-method", "GET"), ("x-original-url", &*secret)]),
            (
                "forward-auth",
                vec![
                    ("x-forwarded-method", "GET"),
                    ("x-forwarded-proto", "http"),
                    ("x-forwarded-host", host),
                    ("x-forwarded-uri", "/acme/secret"),
                ],
            ),
        ] {
            let headers = [headers, vec![("cookie", &*cookie)]].concat();
            let page =
                Browser::new().request(Method::GET, &format!("{}/{adapter}", world.gate), &headers, "").await;
            assert!(!page.status.is_success(), "{change}, {adapter}: {}", page.status);
        }
        on_the_way.get(callback.as_str()).await;
        shut("an answer of the provider", &on_the_way.visit(&secret).await);
        shut("a ticket", &handed_over.visit(ticket.as_str()).await);
        shut(
            "single sign-on",
            &world.visit(&through, &format!("{}/organizations/acme/sso", world.base)).await,
        );
        let anew = Browser::new();
        let page = sign_in(&world, &anew, "mira", PASSWORD).await;
        if change == "switched off" {
            assert_eq!(page.code().as_deref(), Some("account.disabled"));
        }
        shut("a new login", &world.visit(&anew, &secret).await);
        assert!(world.count(SSO_SESSIONS).await <= sessions, "{change}");
        assert_eq!(world.seen.lock().unwrap().len(), before, "{change}: the application was asked");
    }
}

// === Organizations ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v39_a_token_for_another_organizations_client_of_the_same_provider_is_refused() {
    let world = World::new().await;
    let (_, acme) = world.enable_sso("acme", "ada").await;
    world.enable_sso("globex", "ben").await;
    world.idp.signs_in("mira");
    let mira = world.browser_of("mira").await;
    let sessions = world.count(SSO_SESSIONS).await;
    world.idp.misbehave_once(Misbehavior::AudOfOtherClient);
    let page = world.visit(&mira, &format!("{}/globex/secret", world.hub)).await;
    assert_eq!(page.code().as_deref(), Some("oidc.audience_mismatch"), "{}", page.text());
    assert_eq!(world.count(SSO_SESSIONS).await, sessions);
    // It was acme's, whose keys and issuer are the same.
    let failed = world.audit("globex").await.pop().unwrap();
    assert_eq!(failed.details["code"], "oidc.audience_mismatch", "{failed:?}");
    assert!(!acme.id.is_empty() && world.audit("acme").await.iter().all(|event| event.actor_name != "mira"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v40_no_id_of_another_organization_opens_or_changes_anything_on_any_route() {
    // On SQLite, whose file can be looked into.
    let world = world_on(On::Sqlite).await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let (ben, _) = world.enable_sso("globex", "ben").await;
    let globex = world.organization("globex").await.id.to_string();
    let ids = [globex.clone(), world.account("ben").await.to_string()];
    let session = {
        let ben = world.account("ben").await;
        let sessions =
            doorward::store::load_browser_sessions(&mut world.app.store.reader(), ben).await.unwrap();
        sessions[0].id.to_string()
    };
    let of_globex = async || {
        let stored = world.everything_stored().await.into_iter();
        let rows =
            stored.flat_map(|(table, rows)| rows.into_iter().map(move |row| format!("{table}: {row}")));
        rows.filter(|row| ids.iter().any(|id| row.contains(id))).collect::<Vec<_>>()
    };
    let before = of_globex().await;
    assert!(before.len() > 5, "{before:?}");
    let state = world.returning(&world.browser_of("mira").await, "globex").await;
    let before_trip = of_globex().await;
    for route in doorward::web::routes().into_iter().filter(|route| route.path.contains("{org}")) {
        // Ada's own organization with everything of the other one in the form and in the query.
        let fields = [
            ("account", "ben"),
            ("role", "admin"),
            ("revision", &*globex),
            ("session", &*session),
            ("organization", &*globex),
            ("org", "globex"),
            ("id", &*globex),
            ("handle", &*globex),
            ("confirm", "yes"),
        ];
        let own = format!("{}{}", world.base, route.path.replace("{org}", "acme").replace("{name}", "x"));
        // What would take acme out of the state that the rest of the walk needs.
        let ends_the_walk = ["/leave", "/sso/disable", "/members/remove"];
        if route.method == "post" {
            if !ends_the_walk.iter().any(|end| route.path.ends_with(end)) || route.path.ends_with("/remove") {
                ada.post(&own, &fields).await;
            }
        } else {
            ada.get(&format!("{own}?{}&{}", form(&fields), state.query().unwrap())).await;
        }
        // And the other organization's own page: as one that nobody has.
        let foreign =
            format!("{}{}", world.base, route.path.replace("{org}", "globex").replace("{name}", "x"));
        let nonsense = foreign.replace("/globex", "/nonsense");
        let ask = async |address: &str| match route.method {
            "post" => ada.post(address, &fields).await,
            _ => ada.get(address).await,
        };
        if route.path.ends_with("/oidc/consume") {
            continue;
        }
        let (foreign, nonsense) = (ask(&foreign).await, ask(&nonsense).await);
        assert_eq!((foreign.status, foreign.code()), (nonsense.status, nonsense.code()), "{route:?}");
    }
    ada.post(&format!("{}/settings/account/sessions/end", world.base), &[("session", &session)]).await;
    let after = of_globex().await;
    // Adding ben to acme is acme's own row; nothing of globex's is another one.
    let changed: Vec<_> = before_trip.iter().filter(|row| !after.contains(row)).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(ben.get(&world.settings("globex", "")).await.status, 200);
    assert!(before.iter().all(|row| after.contains(row) || !row.contains(&globex)), "{before:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v42_a_field_that_a_form_does_not_have_changes_nothing() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let extra = [
        ("operator", "1"),
        ("disabled", "0"),
        ("plan", "team"),
        ("id", "x"),
        ("role", "admin"),
        ("name_key", "eve"),
        ("email_proved", "1"),
        ("session_timeout", "1"),
        ("live", "1"),
    ];
    for (path, own) in [
        ("/settings/account/name", ("full_name", "Ada A.")),
        ("/organizations/acme/settings", ("display_name", "Acme A.")),
        ("/organizations/acme/settings/sso/users", ("session_timeout_hours", "24")),
    ] {
        let fields = [vec![own], extra.to_vec()].concat();
        let status = ada.post(&format!("{}{path}", world.base), &fields).await.status;
        assert_eq!(status, 303, "{path}");
    }
    let row = async |sql: &'static str| world.count(sql).await;
    assert_eq!(
        row("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account WHERE operator = 1 OR disabled = 1").await,
        0
    );
    assert_eq!(
        row("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM organization WHERE plan <> 'enterprise'").await,
        0
    );
    let ada_was_changed = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account WHERE full_name = 'Ada A.'";
    assert_eq!(row(ada_was_changed).await, 1, "its own field was taken");
    assert_eq!(world.organization("acme").await.session_timeout, Lifetime::from_hours(24));
}

// === Passwords ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v48_a_wrong_password_writes_nothing_before_it_is_answered_whoever_has_the_name() {
    let world = world_on(On::Sqlite).await;
    give_password(&world, "mira").await;
    let known = Browser::new();
    assert_eq!(sign_in(&world, &known, "mira", PASSWORD).await.status, 303);
    // Somebody else writes; whoever had to wait for him would tell that the name exists.
    let held = world.app.store.begin().await.unwrap();
    let mut answers = Vec::new();
    for (browser, name) in
        [(&known, "mira"), (&Browser::new(), "mira"), (&Browser::new(), "ada"), (&Browser::new(), "nobody")]
    {
        let answer = sign_in(&world, browser, name, "not the password");
        let page = tokio::time::timeout(Duration::from_secs(4), answer).await;
        let page = page.unwrap_or_else(|_| panic!("{name} waits for the writer"));
        answers.push((page.status.as_u16(), page.code(), page.headers.len()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[3]), "{answers:?}");
    assert_eq!(answers[0].0, 422);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v48_name_and_address_of_an_account_are_one_budget() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    for name in ["mira", "mira@acme.example", "MIRA", " Mira@Acme.Example", "mira"] {
        assert_eq!(sign_in(&world, &Browser::new(), name, "not the password").await.status, 422);
    }
    for name in ["mira", "mira@acme.example"] {
        assert_eq!(sign_in(&world, &Browser::new(), name, PASSWORD).await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v48_failures_count_at_every_node_and_after_a_restart() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "mira").await;
        let count =
            async || load_sign_in(&mut world.app.store.reader(), "mira").await.unwrap().unwrap().count;
        for _ in 0..3 {
            assert_eq!(sign_in(&world, &Browser::new(), "mira", "not the password").await.status, 422);
        }
        until("count of three", async || count().await.failures == 3).await;
        let (_, node) = another_node(&world).await;
        for _ in 0..2 {
            assert_eq!(sign_in_at(&world, &node, "mira", "not the password", "").await, 422, "{on:?}");
        }
        assert_eq!(sign_in_at(&world, &node, "mira", PASSWORD, "").await, 429, "{on:?}");
        until("count of five", async || count().await.failures == 5).await;
        assert_eq!(sign_in(&world, &Browser::new(), "mira", PASSWORD).await.status, 429, "{on:?}");
        // A sign-in at one node begins anew at both.
        world.pass(Lifetime::from_minutes(1));
        assert_eq!(sign_in_at(&world, &node, "mira", PASSWORD, "").await, 303, "{on:?}");
        assert_eq!(count().await.failures, 0);
        for _ in 0..4 {
            assert_eq!(sign_in(&world, &Browser::new(), "mira", "not the password").await.status, 422);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v48_a_browser_signed_in_before_has_its_own_budget_at_every_node_and_after_a_restart() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "mira").await;
        let own = Browser::new();
        assert_eq!(sign_in(&world, &own, "mira", PASSWORD).await.status, 303);
        let cookie = format!("doorward-browser={}", own.cookie("localhost", "doorward-browser").unwrap());
        for _ in 0..5 {
            sign_in(&world, &Browser::new(), "mira", "not the password").await;
        }
        assert_eq!(sign_in(&world, &Browser::new(), "mira", PASSWORD).await.status, 429);
        // A node that never saw it, while a stranger has used up the account's budget.
        let (_, node) = another_node(&world).await;
        assert_eq!(sign_in_at(&world, &node, "mira", PASSWORD, &cookie).await, 303, "{on:?}");
        // The account's name in another account's browser is no way around.
        let eves = format!("doorward-browser={}", "E".repeat(43));
        assert_eq!(sign_in_at(&world, &node, "eve", PASSWORD, &eves).await, 422, "{on:?}");
        // Its own budget is one: five, then a wait, and after a restart as well.
        for _ in 0..5 {
            assert_eq!(sign_in_at(&world, &node, "mira", "a slip", &cookie).await, 422, "{on:?}");
        }
        assert_eq!(sign_in_at(&world, &node, "mira", PASSWORD, &cookie).await, 429, "{on:?}");
        let failures = "SELECT failed_sign_ins AS n FROM known_browser";
        until("five slips", async || world.count(failures).await == 5).await;
        let (_, restarted) = another_node(&world).await;
        assert_eq!(sign_in_at(&world, &restarted, "mira", PASSWORD, &cookie).await, 429, "{on:?}");
        // A new password owes nothing to who knew the old one.
        give_password(&world, "mira").await;
        let known = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM known_browser";
        assert_eq!(world.count(known).await, 0, "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_at_most_twenty_known_browsers() {
    for on in On::all() {
        let world = world_on(on).await;
        let mira = world.account("mira").await;
        for n in 0..30 {
            let at = world.app.clock.now().plus(Lifetime::from_minutes(n));
            let mut tx = world.app.store.begin().await.unwrap();
            tx.remember_browser(mira, TokenHash::of(&n.to_string()), at).await.unwrap();
            tx.commit(at).await.unwrap();
        }
        let known = async |n: i64| {
            let browser = Some(TokenHash::of(&n.to_string()));
            let facts =
                doorward::store::load_sign_in_from(&mut world.app.store.reader(), "mira", browser).await;
            facts.unwrap().unwrap().known_browser.is_some()
        };
        assert!(!known(9).await && known(10).await && known(29).await, "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_office_behind_one_address_is_not_blocked_by_slow_hashing_or_by_a_colleagues_slips() {
    let world = World::new().await;
    for n in 0..25 {
        world.add_account(&format!("clerk-{n}"), "").await;
    }
    // One hash for all: making it costs what checking it costs.
    let hash = world.app.passwords.hash(Secret::new(PASSWORD.to_owned()), &world.app.random).await.unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    for n in 0..25 {
        tx.update_password(world.account(&format!("clerk-{n}")).await, &hash, None).await.unwrap();
    }
    tx.commit(world.app.clock.now()).await.unwrap();
    // Nine o'clock: all at once, more than an address may fail in a minute.
    let address = format!("{}/login", world.base);
    let at_once = (0..25).map(|n| {
        let address = address.clone();
        tokio::spawn(async move {
            let (browser, name) = (Browser::new(), format!("clerk-{n}"));
            let fields = [("username", &*name), ("password", PASSWORD)];
            let mut page = browser.post(&address, &fields).await;
            // On a slow machine some are told to come back; that counts against nobody.
            while page.status == 503 {
                page = browser.post(&address, &fields).await;
            }
            (browser, page.status)
        })
    });
    let mut clerks = Vec::new();
    for clerk in at_once.collect::<Vec<_>>() {
        let (browser, status) = clerk.await.unwrap();
        assert_eq!(status, 303);
        clerks.push(browser);
    }
    // Somebody at the same address fails as often as he may; who signed in here before does not wait for him.
    for n in 0..20 {
        assert_eq!(sign_in(&world, &Browser::new(), &format!("name-{n}"), "a guess").await.status, 422);
    }
    assert_eq!(sign_in(&world, &Browser::new(), "clerk-3", PASSWORD).await.status, 429);
    assert_eq!(sign_in(&world, &clerks[3], "clerk-3", PASSWORD).await.status, 303);
}

// === Strangers, and a provider that is down ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_what_strangers_make_up_waits_for_no_writer() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    let stranger = Browser::new();
    stranger.plant_cookie("localhost", "doorward-session", &"S".repeat(43));
    stranger.plant_cookie("localhost", "doorward-browser", &"B".repeat(43));
    stranger.plant_cookie("hub.localhost", "doorward-app", &"A".repeat(43));
    stranger.plant_cookie("hub.localhost", "doorward-handover", &"H".repeat(43));
    let token = "T".repeat(43);
    let held = world.app.store.begin().await.unwrap();
    for (address, code) in [
        (
            format!("{}/organizations/acme/oidc/consume?code=x&state={token}", world.base),
            "sso.attempt_unknown",
        ),
        (
            format!("{}/organizations/acme/oidc/consume?error=x&state={token}", world.base),
            "sso.attempt_unknown",
        ),
        (format!("{}/.doorward/ticket?ticket={token}", world.hub), "gate.ticket_expired"),
        (format!("{}/login/first?token={token}", world.base), "account.link_expired"),
    ] {
        let page = tokio::time::timeout(Duration::from_secs(4), stranger.get(&address)).await;
        let page = page.unwrap_or_else(|_| panic!("{address} waits for the writer"));
        assert_eq!(page.code().as_deref(), Some(code), "{address}: {}", page.text());
    }
    for path in ["/.doorward/handover?host=x", "/organizations/acme/sso", "/logout", "/"] {
        let page =
            tokio::time::timeout(Duration::from_secs(4), stranger.get(&format!("{}{path}", world.base)))
                .await;
        assert!(!page.unwrap_or_else(|_| panic!("{path} waits for the writer")).status.is_server_error());
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_a_provider_that_is_down_is_told_calmly_and_reloads_add_no_event() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    world.idp.signs_in("mira");
    let mira = world.browser_of("mira").await;
    let callbacks = [world.returning(&mira, "acme").await, world.returning(&mira, "acme").await];
    let entries = world.audit("acme").await.len();
    world.idp.goes_down().await;
    // Two tabs, each reloaded again and again, and again at the same instant.
    for callback in &callbacks {
        for _ in 0..5 {
            let page = mira.get(callback.as_str()).await;
            assert_eq!(page.code().as_deref(), Some("outbound.unreachable"), "{}", page.text());
            assert!(!page.text().to_lowercase().contains("attack"));
            assert!(page.body.contains("Start again"), "{}", page.text());
        }
        let at_once = (0..5).map(|_| {
            let (mira, callback) = (mira.clone(), callback.clone());
            tokio::spawn(async move { mira.get(callback.as_str()).await.code() })
        });
        for code in at_once.collect::<Vec<_>>() {
            assert_eq!(code.await.unwrap().as_deref(), Some("outbound.unreachable"));
        }
    }
    assert_eq!(world.audit("acme").await.len(), entries + 2, "one event for each trip");
    // Who is through already goes on, and the way is free again as soon as the provider is.
    world.idp.comes_back();
    let again = mira.get(callbacks[0].as_str()).await;
    let page = mira.get(again.link("Start again").as_str()).await;
    let page = world.arrive(&mira, page).await;
    assert_eq!(page.status, 200, "{}", mira.history());
    assert_eq!(world.count(SSO_SESSIONS).await, 2);
}

// === What the rest of §2 asks of a trip ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_b4_b7_b12_b14_p1_p4_a_trip_asks_for_a_code_with_s256_and_little_else_and_never_otherwise() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.idp.misbehave_once(Misbehavior::TokenInvalidGrant);
    world.idp.forget_requests();
    world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    let asked = world.idp.last_request(Endpoint::Authorize).unwrap();
    assert_eq!(asked.field("response_type"), Some("code"), "b1");
    assert_eq!(asked.field("code_challenge_method"), Some("S256"), "b4");
    assert!(asked.field("code_challenge").is_some_and(|challenge| challenge.len() == 43), "b4");
    let own = format!("{}/organizations/acme/oidc/consume", world.base);
    assert_eq!(asked.field("redirect_uri"), Some(&*own), "b7");
    let mut scopes: Vec<&str> = asked.field("scope").unwrap().split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(
        scopes,
        ["email", "openid", "profile"],
        "b12, b14: no refresh token, nothing that is not needed"
    );
    for never in ["response_mode", "request", "request_uri", "code_verifier", "client_secret"] {
        assert_eq!(asked.field(never), None, "{never}");
    }
    // The code was refused: nobody tries again, with a weaker proof least of all.
    assert_eq!(world.idp.calls(Endpoint::Token), 1, "b4, p4");
    let redeemed = world.idp.last_request(Endpoint::Token).unwrap();
    let verifier = redeemed.form.iter().filter(|(name, _)| name == "code_verifier").collect::<Vec<_>>();
    assert_eq!(verifier.len(), 1, "p1");
    let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    assert!((43..=128).contains(&verifier[0].1.len()) && verifier[0].1.chars().all(unreserved), "p1");
    assert!(redeemed.query.is_empty(), "p3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_b9_p5_a_good_answer_leads_on_at_once_and_leaves_nothing_of_it_behind() {
    let world = world_on(On::Sqlite).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    let page = mira.get(callback.as_str()).await;
    assert_eq!(page.status, 303, "b9: never 307");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"), "b8");
    let values: Vec<String> = callback.query_pairs().map(|(_, value)| value.into_owned()).collect();
    let redeemed = world.idp.last_request(Endpoint::Token).unwrap();
    let verifier = redeemed.field("code_verifier").unwrap().to_owned();
    let to = page.location().unwrap().to_string();
    let stored = format!("{:?}", world.everything_stored().await);
    for value in
        values.iter().chain([&verifier]).filter(|value| value.len() > 20 && !value.starts_with("http"))
    {
        assert!(!to.contains(value.as_str()) && !stored.contains(value.as_str()), "{value} is left");
    }
    assert_eq!(world.count(ATTEMPTS).await, 0, "p5");
}

#[test]
fn v56_no_crate_with_a_known_flaw_in_its_private_keys_is_linked() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"rsa\"\n"), "the rsa crate is linked");
    // What may be named there and never be built: the check of dependencies refuses them.
    let refused = std::fs::read_to_string(root.join("deny.toml")).unwrap();
    for name in ["rsa", "ring", "openssl", "openssl-sys"] {
        assert!(refused.contains(&format!("crate = \"{name}\"")), "{name} is not refused");
    }
}
