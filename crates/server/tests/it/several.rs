//! Several organizations at once in one browser, told by path, by host, or by the configuration (hub-sso.md M5).

use doorward::store::Plan;
use doorward_core::connection::Enforcement;
use doorward_core::membership::Role;
use doorward_testkit::{Browser, Page};
use http::Method;

use crate::harness::{Options, World};

const APPLICATIONS: &str = r#"
[[app]]
name = "by-host"
host = "{org}.apps.localhost:PORT"
upstream = "http://UPSTREAM"
organization = ["/data/{resource}/**", "/**"]
public = ["/static/**"]
rules = [{ methods = ["DELETE"], path = "/settings/**", role = "admin" }]
[[app]]
name = "wiki"
host = "wiki.localhost:PORT"
upstream = "http://UPSTREAM"
belongs_to = "initech"
"#;

/// Three organizations with mira in each: acme enforces single sign-on, globex only asks for it, initech has none.
async fn three_organizations() -> World {
    let world = World::with(Options { configuration: APPLICATIONS.to_owned(), ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    world.enable_sso("globex", "ben").await;
    world.add_organization("initech", "ada", Plan::Free).await;
    world.set_role("initech", "mira", Role::Contributor).await;
    let globex = world.organization("globex").await;
    let mut tx = world.app.store.begin().await.unwrap();
    assert!(tx.update_enforcement(&globex, Enforcement::Optional).await.unwrap());
    tx.commit(world.app.clock.now()).await.unwrap();
    world.idp.signs_in("mira");
    world
}

/// The same port on another host.
fn on(world: &World, host: &str) -> String {
    world.hub.replace("hub.localhost", host)
}

/// What the application was told last: organization, role, state of single sign-on.
fn told(world: &World) -> [String; 3] {
    let seen = world.last_seen().expect("a request");
    ["doorward-organization", "doorward-role", "doorward-sso"]
        .map(|name| seen.header(name).unwrap_or_default().to_owned())
}

fn code(page: &Page) -> (u16, String) {
    (page.status.as_u16(), page.code().unwrap_or_default())
}

fn denied(page: &Page) {
    assert_eq!(code(page), (403, "gate.forbidden".to_owned()), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_three_organizations_live_side_by_side_in_one_browser_told_by_path() {
    let world = three_organizations().await;
    let mira = world.browser_of("mira").await;
    let hub = &world.hub;
    // The optional one and the one without are open before any single sign-on; the enforced one is not.
    assert!(world.visit(&mira, &format!("{hub}/initech/plans")).await.says("the application's page"));
    assert_eq!(told(&world), ["initech", "contributor", ""]);
    assert_eq!(mira.get(&format!("{hub}/globex/plans")).await.status, 200);
    assert_eq!(told(&world), ["globex", "read", "missing"]);
    assert!(mira.get(&format!("{hub}/acme/plans")).await.location().unwrap().path().ends_with("/acme/sso"));

    assert!(
        world.visit(&mira, &format!("{hub}/acme/plans")).await.says("the application's page /acme/plans")
    );
    assert_eq!(told(&world), ["acme", "write", "complete"]);
    // It counts for its own organization alone.
    assert_eq!(mira.get(&format!("{hub}/globex/plans")).await.status, 200);
    assert_eq!(told(&world), ["globex", "read", "missing"]);
    world.visit(&mira, &format!("{}/organizations/globex/sso?next={hub}/globex/plans", world.base)).await;
    assert_eq!(told(&world), ["globex", "read", "complete"]);
    assert_eq!(mira.get(&format!("{hub}/acme/plans")).await.status, 200);
    assert_eq!(told(&world), ["acme", "write", "complete"]);

    // Roles and rules, by method and path, each in its own organization.
    let send =
        async |method: Method, path: &str| mira.request(method, &format!("{hub}{path}"), &[], "").await;
    assert_eq!(send(Method::POST, "/acme/plans").await.status, 200, "write");
    denied(&send(Method::POST, "/globex/plans").await);
    denied(&send(Method::POST, "/initech/plans").await);
    denied(&send(Method::DELETE, "/acme/settings/keys").await);
    world.set_role("acme", "mira", Role::Admin).await;
    assert_eq!(send(Method::DELETE, "/acme/settings/keys").await.status, 200);
    denied(&send(Method::DELETE, "/globex/settings/keys").await);
    // Denied unless something opens it; a host that nobody configured serves nothing.
    denied(&send(Method::GET, "/umbrella/plans").await);
    let page = mira.get(&on(&world, "elsewhere.localhost")).await;
    assert_eq!(code(&page), (421, "request.unknown_host".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_three_organizations_live_side_by_side_in_one_browser_each_on_its_own_host() {
    let world = three_organizations().await;
    let mira = world.browser_of("mira").await;
    let at = |organization: &str| on(&world, &format!("{organization}.apps.localhost"));
    for (organization, expected) in [
        ("initech", ["initech", "contributor", ""]),
        ("globex", ["globex", "read", "missing"]),
        ("acme", ["acme", "write", "complete"]),
    ] {
        let page = world.visit(&mira, &format!("{}/data/x", at(organization))).await;
        assert!(page.says("the application's page /data/x"), "{organization}: {}", mira.history());
        assert_eq!(told(&world), expected);
    }
    // A path names nobody here, and another organization's name in it changes nothing.
    assert_eq!(mira.get(&format!("{}/acme/secret", at("globex"))).await.status, 200);
    assert_eq!(told(&world), ["globex", "read", "missing"]);
    denied(&mira.request(Method::DELETE, &format!("{}/settings/keys", at("acme")), &[], "").await);
    let stranger = Browser::new();
    assert_eq!(stranger.get(&format!("{}/static/x.css", at("acme"))).await.status, 200);
    assert_eq!(told(&world), ["", "", ""]);

    // Spelled otherwise it is the same host, deeper or without a label it is none.
    assert_eq!(mira.get(&format!("{}/data/x", at("ACME"))).await.status, 200);
    for host in ["apps.localhost", "a.acme.apps.localhost"] {
        let page = mira.get(&on(&world, host)).await;
        assert_eq!(code(&page), (421, "request.unknown_host".to_owned()), "{host}");
    }
    // A name that nobody has: a member of others is refused, a stranger asked to sign in as anywhere.
    let page = world.visit(&mira, &format!("{}/data/x", at("umbrella"))).await;
    denied(&page);
    let page = stranger.get(&format!("{}/data/x", at("umbrella"))).await;
    assert!(page.location().unwrap().path().starts_with("/.doorward/start"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_each_organizations_host_has_a_session_of_its_own_that_counts_nowhere_else() {
    let world = three_organizations().await;
    let mira = world.browser_of("mira").await;
    let at = |organization: &str| on(&world, &format!("{organization}.apps.localhost"));
    for organization in ["globex", "initech"] {
        world.visit(&mira, &format!("{}/data/x", at(organization))).await;
    }
    let [globex, initech] = ["globex", "initech"]
        .map(|name| mira.cookie(&format!("{name}.apps.localhost"), "doorward-app").unwrap());
    assert_ne!(globex, initech);
    let thief = Browser::new();
    thief.plant_cookie("initech.apps.localhost", "doorward-app", &globex);
    assert_eq!(thief.get(&format!("{}/data/x", at("initech"))).await.status, 302);
    thief.plant_cookie("hub.localhost", "doorward-app", &globex);
    assert_eq!(thief.get(&format!("{}/globex/x", world.hub)).await.status, 302);

    // A ticket for one host is no ticket on another.
    let start = mira.get(&format!("{}/data/x", at("acme"))).await.location().unwrap();
    let handover = mira.get(start.as_str()).await.location().unwrap();
    let ticket = mira.get(handover.as_str()).await.location().unwrap();
    let moved = ticket.as_str().replace("acme.", "globex.");
    let other = Browser::new();
    other.get(&format!("{}/.doorward/start?next=/", at("globex"))).await;
    assert_eq!(other.get(&moved).await.code().as_deref(), Some("gate.ticket_expired"));
    // Nor is one made for the host of an organization of which she is no member, or which nobody has: its name may lead to
    // somebody else's server.
    world.add_organization("hooli", "ben", Plan::Free).await;
    for organization in ["hooli", "umbrella"] {
        let start = mira.get(&format!("{}/data/x", at(organization))).await.location().unwrap();
        let handover = mira.get(start.as_str()).await.location().unwrap();
        assert_eq!(
            mira.get(handover.as_str()).await.code().as_deref(),
            Some("gate.forbidden"),
            "{organization}"
        );
    }
    // Where a hand-over leads is a host of the application; nothing else is.
    for host in ["globex.apps.localhost.evil.example", "apps.localhost", "a.b.apps.localhost"] {
        let port = url::Url::parse(&world.base).unwrap().port().unwrap();
        let address = format!(
            "{}/.doorward/handover?host={host}:{port}&handover={}&next=/",
            world.base,
            "A".repeat(43)
        );
        assert_eq!(mira.get(&address).await.code().as_deref(), Some("gate.return_refused"), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_belongs_to_one_organization_is_its_whatever_the_path() {
    let world = three_organizations().await;
    let mira = world.browser_of("mira").await;
    let wiki = on(&world, "wiki.localhost");
    for path in ["/", "/acme/secret"] {
        assert!(world.visit(&mira, &format!("{wiki}{path}")).await.says("the application's page"));
        assert_eq!(told(&world), ["initech", "contributor", ""]);
    }
    let ben = world.browser_of("ben").await;
    denied(&world.visit(&ben, &format!("{wiki}/globex/x")).await);
    assert_eq!(Browser::new().get(&wiki).await.status, 302);
}
