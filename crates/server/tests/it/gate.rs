//! The gate on the wire: adapters, built-in proxy, hand-over (rules 11 and 15).

use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page};
use http::Method;

use crate::harness::{Options, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_sees_a_private_page_and_a_stranger_does_not() {
    let world = World::new().await;
    let secret = format!("{}/acme/secret", world.hub);
    let mira = world.browser_of("mira").await;
    assert!(mira.visit(&secret).await.says("the application's page /acme/secret"), "{}", mira.history());

    let stranger = Browser::new();
    let page = stranger.get(&secret).await;
    assert_eq!(page.status, 302);
    let eve = world.browser_of("eve").await;
    let page = eve.visit(&secret).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("gate.forbidden")));
    // What nobody owns looks the same (rule 7).
    let unknown = eve.visit(&format!("{}/nonsense/secret", world.hub)).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_deref()), (403, Some("gate.forbidden")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_gets_401_with_a_problem_document_and_starts_no_attempt() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/globex/secret", world.hub)).await;
    let attempts = world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM attempt").await;
    let page = mira.fetch(&format!("{}/acme/secret", world.hub)).await;
    assert_eq!(page.status, 401);
    assert_eq!(page.header("content-type"), Some("application/problem+json"));
    let problem = page.json().unwrap();
    assert_eq!(problem["code"], "sso.required");
    assert!(problem["sign_in_url"].as_str().unwrap().contains("/organizations/acme/sso?next="));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM attempt").await, attempts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_a_hosts_session_is_a_child_of_the_browser_session_and_counts_nowhere_else() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/acme/secret", world.hub);
    mira.visit(&secret).await;
    let token = mira.cookie("hub.localhost", "doorward-app").expect("the host's cookie");

    // On our own host it is nobody's session.
    let thief = Browser::new();
    thief.plant_cookie("localhost", "doorward-session", &token);
    let page = thief.get(&format!("{}/organizations/acme/sso", world.base)).await;
    assert!(page.location().unwrap().path().ends_with("/login"));
    // And our own session's cookie is none on the application's host.
    let own = mira.cookie("localhost", "doorward-session").unwrap();
    let thief = Browser::new();
    thief.plant_cookie("hub.localhost", "doorward-app", &own);
    assert_eq!(thief.get(&secret).await.status, 302);

    // It ends with its parent.
    let account = world.account("mira").await;
    let mut tx = world.app.store.begin().await.unwrap();
    let sessions = doorward::store::load_browser_sessions(&mut tx, account).await.unwrap();
    for session in sessions {
        tx.delete_browser_session(session.id, account).await.unwrap();
    }
    tx.commit(world.app.clock.now()).await.unwrap();
    assert_eq!(mira.get(&secret).await.status, 302);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_a_ticket_is_bound_to_its_host_and_browser_and_works_once_for_a_minute() {
    let world = World::new().await;
    let secret = format!("{}/acme/secret", world.hub);
    let mira = world.browser_of("mira").await;
    let ticket_for = |mira: Browser| {
        let secret = secret.clone();
        async move {
            let start = mira.get(&secret).await.location().unwrap();
            let handover = mira.get(start.as_str()).await.location().unwrap();
            mira.get(handover.as_str()).await.location().unwrap()
        }
    };
    let ticket = ticket_for(mira.clone()).await;
    // Another browser has another nonce: nothing is burnt.
    let eve = world.browser_of("eve").await;
    eve.get(&secret).await;
    let start = eve.get(&secret).await.location().unwrap();
    eve.get(start.as_str()).await;
    assert_eq!(eve.get(ticket.as_str()).await.code().as_deref(), Some("gate.ticket_expired"));

    let taken = mira.get(ticket.as_str()).await;
    assert_eq!(taken.status, 303);
    assert_eq!(taken.location().unwrap().path(), "/acme/secret");
    // Once: the second time whoever is through already is taken on, and no second session is made.
    mira.lose_cookie("hub.localhost", "doorward-app");
    assert_eq!(mira.get(ticket.as_str()).await.code().as_deref(), Some("gate.ticket_expired"));

    let late = ticket_for(mira.clone()).await;
    world.pass(Lifetime::from_seconds(60));
    assert_eq!(mira.get(late.as_str()).await.code().as_deref(), Some("gate.ticket_expired"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_our_cookies_never_reach_the_application() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    mira.plant_cookie("hub.localhost", "own", "1");
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let seen = world.last_seen().unwrap();
    assert_eq!(seen.header("cookie"), Some("own=1"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_role_or_membership_is_felt_by_the_next_request() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/acme/secret", world.hub);
    mira.visit(&secret).await;
    world.set_role("acme", "mira", Role::NoAccess).await;
    assert_eq!(mira.get(&secret).await.status, 403);
    world.set_role("acme", "mira", Role::Read).await;
    assert_eq!(mira.get(&secret).await.status, 200);
    assert_eq!(mira.request(Method::POST, &secret, &[], "").await.status, 403, "a reader writes nothing");
    world.remove_member("acme", "mira").await;
    assert_eq!(mira.get(&secret).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_the_auth_request_adapter_answers_200_401_or_403_with_every_identity_header() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let app = mira.cookie("hub.localhost", "doorward-app").unwrap();
    let ask = |path: &str, cookie: Option<&str>, accept: &str| {
        let (gate, url) = (world.gate.clone(), format!("{}{path}", world.hub));
        let cookie = cookie.map(|value| format!("doorward-app={value}")).unwrap_or_default();
        let accept = accept.to_owned();
        async move {
            let headers = [
                ("x-original-method", "GET"),
                ("x-original-url", &*url),
                ("cookie", &*cookie),
                ("accept", &*accept),
            ];
            Browser::new().request(Method::GET, &format!("{gate}/auth-request"), &headers, "").await
        }
    };
    let allowed = ask("/acme/secret", Some(&app), "text/html").await;
    assert_eq!((allowed.status.as_u16(), allowed.header("doorward-status")), (200, Some("200")));
    assert_eq!(allowed.header("remote-user"), Some("mira"));
    for name in [
        "remote-name",
        "remote-email",
        "remote-groups",
        "doorward-account",
        "doorward-organization",
        "doorward-role",
        "doorward-assertion",
        "doorward-sso",
    ] {
        assert!(allowed.header(name).is_some(), "{name}");
    }
    let signs_in = ask("/acme/secret", None, "text/html").await;
    assert_eq!(signs_in.status, 401);
    let to = signs_in.header("location").unwrap();
    assert!(to.starts_with(&format!("{}/.doorward/start?next=", world.hub)), "{to}");
    assert_eq!(
        ask("/acme/secret", None, "*/*").await.header("location"),
        None,
        "a program is not sent to a page"
    );
    assert_eq!(
        ask("/acme/..%2fglobex", Some(&app), "text/html").await.header("doorward-status"),
        Some("400")
    );
    assert_eq!(ask("/nonsense/x", Some(&app), "text/html").await.status, 403);
    assert_eq!(ask("/acme/website", None, "text/html").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_an_untrusted_caller_of_the_gate_gets_403() {
    use axum::Router;
    use doorward::serve::{Listeners, Routers};
    // The same world, but its trusted proxy is another machine.
    let world = World::new().await;
    let mut configuration = world.app.configuration.clone();
    configuration.trusted_proxies = vec!["192.0.2.1/32".parse().unwrap()];
    (configuration.listen, configuration.gate_listen) =
        (([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into());
    let listeners = Listeners::bind(&configuration).await.unwrap();
    let address = listeners.gate_address().unwrap();
    let app = doorward::app::App::new(
        configuration,
        world.app.store.clone(),
        doorward::sealing::Sealing::open(&world.folder().join("master.key")).unwrap(),
        world.app.clock.clone(),
        doorward::random::Random::seeded(9),
        doorward::outbound::OutboundSettings::new(Vec::new()),
    )
    .unwrap();
    let routers = Routers {
        main: doorward::connections::door(Router::new()),
        gate: doorward::gate::door(&app, doorward::web::write_answer),
        metrics: Router::new(),
        figures: std::sync::Arc::clone(&app.metrics),
    };
    let (_stop, signals) = tokio::sync::mpsc::channel(1);
    tokio::spawn(doorward::serve::run(listeners, routers, signals));
    let url = format!("{}/acme/website", world.hub);
    let headers = [("x-original-method", "GET"), ("x-original-url", &*url)];
    let page =
        Browser::new().request(Method::GET, &format!("http://{address}/auth-request"), &headers, "").await;
    assert_eq!(page.status, 403);
    assert_eq!(page.json().unwrap()["code"], "gate.untrusted_proxy");
    assert_eq!(page.header("doorward-code"), Some("gate.untrusted_proxy"), "for who can't read the body");
}

/// What nginx does with an answer that is no allow: it fetches the page from `/.doorward/answer`, telling what it saw.
async fn behind_nginx(world: &World, browser: &Browser, target: &str, seen: Option<&str>) -> Page {
    let url = format!("{}{target}", world.hub);
    let mut headers = vec![("x-original-method", "GET"), ("x-original-url", &*url), ("accept", "text/html")];
    headers.extend(seen.map(|code| ("doorward-code", code)));
    browser.request(Method::GET, &format!("{}/.doorward/answer", world.hub), &headers, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_may_not_ask_leads_nobody_round_in_circles() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/globex/secret", world.hub);
    assert_eq!(world.visit(&mira, &secret).await.status, 200);
    // Whatever the answer would be: the page names the cause, and sends nobody on.
    for (browser, target) in
        [(&mira, "/globex/secret"), (&Browser::new(), "/globex/secret"), (&mira, "/nobody/here")]
    {
        let page = behind_nginx(&world, browser, target, Some("gate.untrusted_proxy")).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("gate.untrusted_proxy")));
        assert!(page.body.contains("[gate] trusted_proxies"), "{}", page.body);
    }
    // In the meantime she may: there is nothing to tell.
    for seen in [None, Some("gate.forbidden"), Some("sso.required"), Some("nonsense")] {
        let page = behind_nginx(&world, &mira, "/globex/secret", seen).await;
        assert_eq!(page.header("location"), Some("/globex/secret"), "{seen:?}");
    }

    // A proxy configured before it told what it saw: who asks is not listed, and that is enough.
    let world = World::with(Options { trusted_proxies: "[]", ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    assert_eq!(world.visit(&mira, &format!("{}/globex/secret", world.hub)).await.status, 200);
    for browser in [&mira, &Browser::new()] {
        let page = behind_nginx(&world, browser, "/globex/secret", None).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("gate.untrusted_proxy")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_host_is_served_nothing() {
    let world = World::new().await;
    let page = Browser::new().get(&world.hub.replace("hub.", "other.")).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (421, Some("request.unknown_host")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m4_a_stranger_reads_a_public_resource_and_writes_nothing_to_it() {
    let world = World::new().await;
    let notes = format!("{}/acme/website/notes", world.hub);
    let stranger = Browser::new();
    assert_eq!(stranger.get(&notes).await.status, 200);
    let page = stranger.request(Method::POST, &notes, &[], "").await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (401, Some("account.sign_in_needed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v16_an_answer_stays_below_8_kib_whatever_address_it_comes_back_to() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/globex/secret", world.hub)).await;
    let app = mira.cookie("hub.localhost", "doorward-app").unwrap();
    for (cookie, path) in [(String::new(), "/acme/x"), (format!("doorward-app={app}"), "/acme/x")] {
        for (length, comes_back) in [(500, true), (7000, false)] {
            let url = format!("{}{path}?{}", world.hub, "%26".repeat(length / 3));
            let headers = [
                ("x-original-method", "GET"),
                ("x-original-url", &*url),
                ("cookie", &*cookie),
                ("accept", "text/html"),
            ];
            let page = Browser::new()
                .request(Method::GET, &format!("{}/auth-request", world.gate), &headers, "")
                .await;
            assert_eq!(page.status, 401);
            let location = page.header("location").unwrap();
            assert!(location.len() < 7 * 1024, "{} bytes", location.len());
            assert_eq!(location.contains("%2526"), comes_back, "{location}");
        }
    }
}

/// Asks `/forward-auth` as Traefik and Caddy do, for a program.
async fn forward_auth(world: &World, proto: &str, host: &str, target: &str, more: &[(&str, &str)]) -> Page {
    let mut headers = vec![
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", proto),
        ("x-forwarded-host", host),
        ("x-forwarded-uri", target),
    ];
    headers.extend_from_slice(more);
    Browser::new().request(Method::GET, &format!("{}/forward-auth", world.gate), &headers, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_says_the_wrong_scheme_or_asks_about_the_hand_over_is_told_so() {
    let world = World::new().await;
    let host = world.hub.trim_start_matches("http://");
    let page = forward_auth(&world, "https", host, "/acme/website", &[]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some("gate.http_seen")));
    let page = forward_auth(&world, "gopher", host, "/acme/website", &[]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some("gate.headers_malformed")));
    // It would lead to the hand-over again, and again to the gate.
    for accept in ["text/html", "*/*"] {
        let page = forward_auth(&world, "http", host, "/.doorward/start?next=/", &[("accept", accept)]).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some("gate.handover_not_routed")));
    }
    let page = forward_auth(&world, "http", "other.localhost", "/acme/website", &[]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("request.unknown_host")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_whose_upgrade_the_proxy_keeps_to_itself_is_not_redirected() {
    let world = World::new().await;
    let host = world.hub.trim_start_matches("http://");
    let page = forward_auth(&world, "http", host, "/acme/secret", &[("accept", "text/html")]).await;
    assert_eq!(page.status, 302);
    let key = [("accept", "text/html"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let page = forward_auth(&world, "http", host, "/acme/secret", &key).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (401, Some("account.sign_in_needed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v01_the_ext_authz_adapter_sets_or_takes_off_whatever_is_not_the_clients() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let app = mira.cookie("hub.localhost", "doorward-app").unwrap();
    let ask = |target: &str, more: &[(&str, &str)]| {
        let (url, host) = (format!("{}/ext-authz{target}", world.gate), world.hub.replace("http://", ""));
        let mut headers: Vec<(String, String)> = vec![("host".into(), host)];
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Browser::new().request(Method::GET, &url, &headers, "").await
        }
    };
    let cookie = format!("doorward-app={app}");
    let forged = [
        ("cookie", &*cookie),
        ("remote-user", "ada"),
        ("remote_user", "ada"),
        ("Doorward.Role", "admin"),
        ("x-original-url", "/static/x"),
        ("x-forwarded-for", "198.51.100.1, 203.0.113.7"),
        ("accept", "*/*"),
    ];
    let page = ask("/acme/secret?q=1", &forged).await;
    assert_eq!((page.status.as_u16(), page.header("remote-user")), (200, Some("mira")));
    let mut taken_off: Vec<&str> =
        page.header("x-envoy-auth-headers-to-remove").unwrap_or_default().split(',').collect();
    taken_off.sort_unstable();
    assert_eq!(taken_off, ["cookie", "doorward.role", "remote_user", "x-original-url"]);
    assert_eq!(page.header("x-forwarded-for"), Some("203.0.113.7"), "the address that our proxy saw");

    let page = ask("/acme/secret", &[("accept", "text/html")]).await;
    assert_eq!(page.status, 302);
    assert_eq!(page.header("remote-user"), None, "a browser is told nothing");
    let page = ask("/acme/..%2fsecret", &[("cookie", &cookie), ("accept", "text/html")]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some("gate.ambiguous_target")));
    let page = ask("/acme/website", &[("x-forwarded-proto", "https")]).await;
    assert_eq!(page.code().as_deref(), Some("gate.http_seen"));
    assert_eq!(ask("", &[]).await.status, 404, "no path was asked about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_climb_out_of_the_hand_over_is_refused_as_elsewhere() {
    let world = World::new().await;
    let page = Browser::new().get(&format!("{}/.doorward/..%2facme/secret", world.hub)).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some("gate.ambiguous_target")));
}

/// From an application's page that wants a session up to our own host's answer, as a browser with `more` headers goes.
async fn start_from(mira: &Browser, url: &str, more: &[(&str, &str)]) -> Page {
    let start = mira.get(url).await.location().expect("a way to sign in");
    let mut headers = vec![("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    headers.extend_from_slice(more);
    let handover = mira.request(Method::GET, start.as_str(), &headers, "").await.location().unwrap();
    mira.get(handover.as_str()).await
}

/// A browser whose SSO is complete is led back by an application's host again and again, as where that host's clock says
/// that its session is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_return_from_a_complete_single_sign_on_to_one_target_stops_with_the_cause() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&mira, &format!("{}/organizations/acme/sso", world.base)).await;
    let to = |path: &str| {
        let next: String =
            form_urlencoded::byte_serialize(format!("{}{path}", world.hub).as_bytes()).collect();
        format!("{}/organizations/acme/sso?next={next}", world.base)
    };
    for _ in 0..2 {
        let page = mira.get(&to("/acme/secret")).await;
        assert_eq!(page.status, 303, "{}", page.body);
        assert!(page.location().unwrap().as_str().ends_with("/acme/secret"), "{}", mira.history());
    }
    let page = mira.get(&to("/acme/secret")).await;
    assert_eq!(
        (page.status.as_u16(), page.code().as_deref()),
        (400, Some("gate.loop_clock")),
        "{}",
        page.body
    );
    assert!(page.says("Try again"), "{}", page.body);
    assert_eq!(mira.get(&to("/acme/other")).await.status, 303, "another target");
    world.pass(Lifetime::from_seconds(30));
    assert_eq!(mira.get(&to("/acme/secret")).await.status, 303, "too late to belong together");
    // Our own pages are left alone: whoever opens one thrice is in no loop.
    for _ in 0..4 {
        let own = format!("{}/organizations/acme/sso?next=/organizations/acme", world.base);
        assert_eq!(mira.get(&own).await.status, 303);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_start_for_one_target_within_half_a_minute_stops_with_the_cause() {
    let unknown_session = "A".repeat(43);
    let cases: [(&str, &[(&str, &str)], Option<&str>); 4] = [
        ("gate.loop_cookie_not_kept", &[], None),
        ("gate.loop_other_host", &[("x-forwarded-host", "www.example.com")], None),
        ("gate.http_seen", &[("x-forwarded-proto", "https")], None),
        ("gate.loop_clock", &[], Some(&unknown_session)),
    ];
    for (code, headers, cookie) in cases {
        let world = World::new().await;
        let mira = world.browser_of("mira").await;
        let secret = format!("{}/acme/secret", world.hub);
        if let Some(cookie) = cookie {
            mira.plant_cookie("hub.localhost", "doorward-app", cookie);
        }
        let mut sizes = Vec::new();
        for _ in 0..2 {
            // The ticket is never taken, so the application's host stays without a session.
            assert_eq!(start_from(&mira, &secret, headers).await.status, 303, "{code}");
            sizes.push(mira.cookie("localhost", "doorward-starts").expect("the count").len());
        }
        let page = start_from(&mira, &secret, headers).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (400, Some(code)), "{}", page.body);
        assert_eq!(sizes, [72, 72], "nothing piles up");
        // Another target is no loop, and half a minute later this one is none either.
        let other = start_from(&mira, &format!("{}/globex/plans", world.hub), headers).await;
        assert_eq!(other.status, 303);
        world.pass(Lifetime::from_seconds(30));
        assert_eq!(start_from(&mira, &secret, headers).await.status, 303, "{code}");
    }
}
