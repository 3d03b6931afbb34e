//! The gate on the wire: adapters, built-in proxy, hand-over (rules 11 and 15).

use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::Browser;
use http::Method;

use crate::harness::World;

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
    let routers = Routers { main: Router::new(), gate: doorward::gate::door(&app), metrics: Router::new() };
    let (_stop, signals) = tokio::sync::mpsc::channel(1);
    tokio::spawn(doorward::serve::run(listeners, routers, signals));
    let url = format!("{}/acme/website", world.hub);
    let headers = [("x-original-method", "GET"), ("x-original-url", &*url)];
    let page =
        Browser::new().request(Method::GET, &format!("http://{address}/auth-request"), &headers, "").await;
    assert_eq!(page.status, 403);
    assert_eq!(page.json().unwrap()["code"], "gate.untrusted_proxy");
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
