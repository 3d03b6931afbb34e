//! Rule 12: what a fresh login alone can do to a live connection, what it can't, and recovery codes for the rest.

use doorward::store::{Change, Query as _, load_connection};
use doorward::values;
use doorward::web::access::Access;
use doorward::web::{Route, routes};
use doorward_core::ids::SessionId;
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page, Person};
use http::Method;

use crate::harness::{On, Options, World};

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

/// Connects, tests and enables; the codes that the answer shows.
async fn enable(world: &World) -> (Browser, Vec<String>) {
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let revision = world.draft("acme").await;
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
    let codes = codes_on(&page);
    assert_eq!(codes.len(), 10, "{}", page.text());
    (ada, codes)
}

fn codes_on(page: &Page) -> Vec<String> {
    let looks_like_one = |word: &&str| word.len() == 19 && word.split('-').all(|group| group.len() == 4);
    let mut codes: Vec<String> =
        page.text().split_whitespace().filter(looks_like_one).map(str::to_owned).collect();
    codes.sort();
    codes.dedup();
    codes
}

async fn recover(world: &World, browser: &Browser, code: &str) -> Page {
    browser.post(&world.settings("acme", "/recover"), &[("code", code)]).await
}

// The route list, and what is enforced.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sso {
    Complete,
    None,
    /// Completed under what was live before.
    OfAnotherRevision,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Live {
    Enforced,
    Optional,
    Off,
}

#[derive(Clone, Copy, Debug)]
struct Visitor {
    fresh: bool,
    sso: Sso,
    recovered: bool,
    role: Role,
    live: Live,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Admitted,
    SignInAgain,
    Unknown,
    SsoNeeded,
}

/// Rule 12 and decisions.md, written down a second time.
fn expected(route: &Route, visitor: Visitor) -> Outcome {
    let is_admin = visitor.role == Role::Admin;
    let complete = visitor.live == Live::Off || visitor.sso == Sso::Complete;
    let proved = complete || (visitor.recovered && is_admin);
    let tells_of_members = route.method == "get" && route.path.ends_with("/settings/members");
    let fresh = matches!(route.access, Access::FreshAccount | Access::FreshAdmin | Access::FreshAdminWithSso);
    if fresh && !visitor.fresh {
        return Outcome::SignInAgain;
    }
    match route.access {
        Access::Member if tells_of_members && visitor.live == Live::Enforced && !proved => Outcome::SsoNeeded,
        Access::Admin | Access::FreshAdmin | Access::FreshAdminWithSso if !is_admin => Outcome::Unknown,
        Access::Leaving if !is_admin => Outcome::Admitted,
        Access::Admin | Access::Leaving if visitor.live == Live::Enforced && !proved => Outcome::SsoNeeded,
        // Where SSO is optional, pages open without it; what they change does not.
        Access::Admin | Access::Leaving
            if visitor.live == Live::Optional && route.method == "post" && !proved =>
        {
            Outcome::SsoNeeded
        }
        Access::FreshAdminWithSso if !proved => Outcome::SsoNeeded,
        _ => Outcome::Admitted,
    }
}

fn found(page: &Page) -> Outcome {
    let to = page.location().map(|to| to.to_string()).unwrap_or_default();
    match page.code().as_deref() {
        Some("settings.fresh_sign_in_needed") => Outcome::SignInAgain,
        Some("organization.unknown") => Outcome::Unknown,
        Some("settings.sso_needed") => Outcome::SsoNeeded,
        _ if to.contains("/login?") && to.contains("fresh=1") => Outcome::SignInAgain,
        _ if to.contains("/organizations/acme/sso?") => Outcome::SsoNeeded,
        _ => Outcome::Admitted,
    }
}

/// A browser of mira's in that state, made straight in the store.
async fn browser_in(world: &World, visitor: Visitor) -> Browser {
    let now = world.app.clock.now();
    let acme = world.organization("acme").await;
    let mira = world.account("mira").await;
    world
        .behind_its_back(match visitor.live {
            Live::Enforced => "UPDATE connection SET live = 1, enforcement = 'enforced'",
            Live::Optional => "UPDATE connection SET live = 1, enforcement = 'optional'",
            Live::Off => "UPDATE connection SET live = NULL",
        })
        .await;
    let connection = load_connection(&mut world.app.store.reader(), acme.id).await.unwrap().unwrap();
    let token = world.app.random.token().unwrap();
    let session = SessionId::new(now.millis(), world.app.random.bytes().unwrap());
    let signed_in_at = if visitor.fresh { now } else { now.minus(Lifetime::from_minutes(76)) };
    let mut tx = world.app.store.begin().await.unwrap();
    tx.changed(Change::Organization("acme".to_owned()));
    tx.set_role(acme.id, mira, visitor.role, now).await.unwrap();
    tx.delete_other_browser_sessions(session, mira).await.unwrap();
    tx.insert_browser_session(session, token.hash(), mira, signed_in_at).await.unwrap();
    let epoch = match visitor.sso {
        Sso::Complete => Some(connection.epoch),
        Sso::OfAnotherRevision => Some(connection.epoch - 1),
        Sso::None => None,
    };
    if let Some(epoch) = epoch {
        tx.put_sso_session(session, mira, acme.id, epoch, "i", "s", now).await.unwrap();
    }
    if visitor.recovered {
        tx.put_recovery(acme.id, session, now).await.unwrap();
    }
    tx.commit(now).await.unwrap();
    let browser = Browser::new().with_clock(&world.clock);
    browser.plant_cookie("localhost", "doorward-session", token.expose());
    browser
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_every_route_of_an_organization_asks_each_kind_of_visitor_for_what_the_list_says() {
    let world = world_on(On::Sqlite).await;
    enable(&world).await;
    // What changes the ground comes last, and each visitor has the ground made anew.
    let mut routes = routes();
    routes.retain(|route| route.path.contains("/organizations/{org}/"));
    routes.sort_by_key(|route| (route.path.ends_with("/leave"), route.path.ends_with("/disable")));
    let mut wrong = Vec::new();
    for fresh in [true, false] {
        for sso in [Sso::Complete, Sso::None, Sso::OfAnotherRevision] {
            for (recovered, role) in [(false, Role::Admin), (true, Role::Admin), (true, Role::Write)] {
                for live in [Live::Enforced, Live::Optional, Live::Off] {
                    let visitor = Visitor { fresh, sso, recovered, role, live };
                    let browser = browser_in(&world, visitor).await;
                    for route in &routes {
                        let path = route.path.replace("{org}", "acme").replace("{token}", "nothing");
                        let url = format!("{}{path}", world.base);
                        // No form is of this type, so that what is admitted changes little.
                        let headers = [
                            ("origin", &*world.base),
                            ("content-type", "text/plain"),
                            ("accept", "text/html"),
                        ];
                        let page = match route.method {
                            "get" => browser.get(&url).await,
                            _ => browser.request(Method::POST, &url, &headers, "").await,
                        };
                        let (found, expected) = (found(&page), expected(route, visitor));
                        if found != expected {
                            wrong.push(format!("{route:?} {visitor:?}: {found:?} instead of {expected:?}"));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rule_12_what_widens_entry_says_so_in_the_route_list() {
    let routes = routes();
    let access = |method: &str, rest: &str| {
        let path = format!("/organizations/{{org}}/settings{rest}");
        routes.iter().find(|route| route.method == method && route.path == path).map(|route| route.access)
    };
    for rest in [
        "/sso/enforcement",
        "/sso/disable",
        "/sso/users",
        "/sso/users/guests",
        "/sso/users/collaborators",
        "/sso/recovery-codes",
        "/members/links/approve",
        "/members/links/remove",
    ] {
        assert_eq!(access("post", rest), Some(Access::FreshAdminWithSso), "{rest}");
    }
    // Without single sign-on: the page, its secret, and a recovery code. Enable and the roles ask for more inside.
    let open: Vec<&str> = routes
        .iter()
        .filter(|route| route.access == Access::FreshAdmin)
        .map(|route| route.path.trim_start_matches("/organizations/{org}/settings"))
        .collect();
    assert_eq!(open, ["/sso", "/sso/oidc", "/sso/test", "/sso/enable", "/sso/recover", "/sso/recover"]);
}

// A password alone.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_f7_a_password_alone_replaces_the_secret_of_what_is_live_and_nothing_else() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, client) = world.enable_sso("acme", "ada").await;
        drop(ada);
        let issuer = world.idp.issuer();
        let other = world.idp.issuer_named("other");
        // A fresh login, and no single sign-on in this browser.
        let ada = world.browser_of("ada").await;
        let second = world.idp.add_secret(&client.id);
        let good = [("client_id", &*client.id), ("client_secret", &*second), ("issuer_url", &*issuer)];
        world.idp.forget_requests();
        for (field, value) in [
            ("client_id", "another-client"),
            ("issuer_url", &*other),
            ("scopes", "openid email profile groups"),
            ("client_auth_method", "client_secret_post"),
            ("userinfo", "always"),
            ("email_claim", "upn"),
            ("hosted_domains", "evil.example"),
        ] {
            let mut fields: Vec<(&str, &str)> =
                good.iter().copied().filter(|(name, _)| *name != field).collect();
            fields.push((field, value));
            let page = world.update_and_test(&ada, "acme", &fields).await;
            assert_eq!(
                (page.status.as_u16(), page.code().as_deref()),
                (403, Some("settings.secret_only")),
                "{field}: {}",
                page.text()
            );
        }
        assert_eq!(world.draft("acme").await, "1", "nothing was saved");
        assert!(world.idp.requests().is_empty(), "and nobody was called");

        // The dead secret: the provider forgets the old one, and the new one goes live by its own test.
        world.idp.signs_in("ada");
        let page = world.update_and_test(&ada, "acme", &good).await;
        let page = ada.follow_all(page).await;
        assert!(page.says("The test passed"), "{}", page.text());
        assert_eq!((world.draft("acme").await.as_str(), world.state("acme").await), ("2", "live"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_password_alone_neither_tests_nor_enables_what_another_admin_drafted() {
    let world = World::new().await;
    let (ada, client) = world.enable_sso("acme", "ada").await;
    let issuer = world.idp.issuer();
    let fields = [
        ("client_id", &*client.id),
        ("client_secret", ""),
        ("issuer_url", &*issuer),
        ("scopes", "openid email"),
    ];
    world.update_and_test(&ada, "acme", &fields).await;
    let thief = world.browser_of("ada").await;
    let page = thief.post(&world.settings("acme", "/test"), &[]).await;
    assert_eq!(page.code().as_deref(), Some("settings.secret_only"), "{}", page.text());
    // The page offers what can be done: the secret of what is live.
    let page = thief.get(&world.settings("acme", "")).await;
    assert_eq!(page.form("/oidc").value("scopes"), Some(""), "the live settings, not the draft");
    assert!(!page.has_form("/enable") && !page.says("Test passed"), "{}", page.text());
    // The test that ada began does not go live when she comes back without single sign-on, for its scopes are other ones.
    assert_eq!(world.state("acme").await, "live_change_pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_password_alone_widens_nothing_on_any_route() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = enable(&world).await;
        // A member waits for an approval, and a member is linked.
        world.set_role("acme", "eve", Role::Read).await;
        world.idp.add_person(Person::new("stranger", "S.", "s@corp.example"));
        world.idp.signs_in("stranger");
        let eve = world.browser_of("eve").await;
        let page = world.visit(&eve, &format!("{}/acme/secret", world.hub)).await;
        eve.submit(page.form("/sso/link")).await;
        let members = format!("{}/organizations/acme/settings/members", world.base);
        let shown = ada.get(&members).await;
        let request = shown.form("/links/approve").value("request").unwrap().to_owned();

        let thief = world.browser_of("ada").await;
        let settings = |rest: &str| world.settings("acme", rest);
        for enforcement in ["enforced", "optional"] {
            let before = access(&world).await;
            for (url, fields) in [
                (settings("/disable"), vec![]),
                (settings("/enforcement"), vec![("enforcement", enforcement)]),
                (settings("/enable"), vec![("revision", "1"), ("enforcement", "optional")]),
                (settings("/users"), vec![("session_timeout_hours", "8760")]),
                (settings("/users/guests"), vec![("guests_may_link", "yes")]),
                (settings("/users/collaborators"), vec![("account", "mira")]),
                (format!("{}/organizations/acme/leave", world.base), vec![]),
                (settings("/recovery-codes"), vec![]),
                (settings("/recover"), vec![("code", "0000-0000-0000-0000")]),
                (members.clone(), vec![("account", "ben"), ("role", "admin")]),
                (format!("{members}/role"), vec![("account", "mira"), ("role", "admin")]),
                (format!("{members}/links/approve"), vec![("account", "eve"), ("request", &request)]),
                (format!("{members}/links/remove"), vec![("account", "ada")]),
            ] {
                let page = thief.post(&url, &fields).await;
                assert!(page.status.as_u16() >= 400, "{url}: {} {}", page.status, page.text());
            }
            assert_eq!(access(&world).await, before);
            // The same where single sign-on is only asked for.
            ada.post(&settings("/enforcement"), &[("enforcement", "optional")]).await;
        }
    }
}

/// Everything that says who may enter.
async fn access(world: &World) -> Vec<String> {
    let mut reader = world.app.store.reader();
    let mut all = Vec::new();
    for sql in [
        "SELECT organization_id || account_id || role || external_collaborator AS line FROM membership ORDER BY line",
        "SELECT COALESCE(CAST(live AS TEXT), '') || enforcement || epoch || guests_may_link AS line FROM connection",
        "SELECT name_key || session_timeout AS line FROM organization ORDER BY line",
        "SELECT issuer || subject || account_id AS line FROM identity ORDER BY line",
        "SELECT code_hash || COALESCE(CAST(used_at AS TEXT), '') AS line FROM recovery_code ORDER BY line",
        "SELECT session_id AS line FROM recovery ORDER BY line",
        "SELECT session_id AS line FROM sso_session ORDER BY line",
    ] {
        for row in reader.fetch_all(sql, values![]).await.unwrap() {
            all.push(row.text("line").unwrap());
        }
    }
    all
}

// With a recovery code.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_with_a_dead_provider_one_code_switches_it_off() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, codes) = enable(&world).await;
        world.idp.goes_down().await;
        let ada = world.browser_of("ada").await;
        let page = ada.post(&world.settings("acme", "/disable"), &[]).await;
        assert_eq!(page.code().as_deref(), Some("settings.sso_needed"));
        assert!(page.says("use one of the organization's recovery codes"), "{}", page.text());
        let typed = codes[3].to_lowercase().replace('-', " ");
        let page = recover(&world, &ada, &typed).await;
        assert_eq!(page.status, 303, "{}", page.text());
        let page = ada.follow_all(page).await;
        assert!(page.says("A recovery code stands in") && page.says("9 of 10"), "{}", page.text());
        // It opens settings, and nothing private.
        let private = ada.get(&format!("{}/acme/secret", world.hub)).await;
        assert!(!private.says("the application's page"), "{}", private.text());
        assert_eq!(ada.post(&world.settings("acme", "/disable"), &[]).await.status, 303);
        assert_eq!(world.state("acme").await, "tested");
        let log = world.audit("acme").await;
        let used = log.iter().find(|event| event.action == "org.recovery.use").unwrap();
        assert_eq!((used.actor_name.as_str(), used.details["left"].as_str()), ("ada", Some("9")));
        assert!(used.details["number"].as_str().unwrap().parse::<i64>().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_with_one_code_another_provider_is_connected_and_enabled() {
    let world = World::new().await;
    let (_, codes) = enable(&world).await;
    let ada = world.browser_of("ada").await;
    recover(&world, &ada, &codes[0]).await;
    let client = world.register("acme");
    let issuer = world.idp.issuer_named("moved");
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text());
    ada.follow_all(page).await;
    let revision = world.draft("acme").await;
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
    assert_eq!(page.status, 303, "codes are left, so none are made: {}", page.text());
    assert_eq!((revision.as_str(), world.state("acme").await), ("2", "live"));
    // Her test is her own single sign-on.
    assert!(ada.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"), "{}", ada.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_code_is_good_once_for_an_hour_in_its_own_browser_and_organization() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, codes) = enable(&world).await;
        world.enable_sso("globex", "ben").await;
        let ada = world.browser_of("ada").await;
        // Another organization's code opens nothing here.
        let ben = world.browser_of("ben").await;
        let page = ben.post(&world.settings("globex", "/recover"), &[("code", &codes[0])]).await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (422, Some("settings.recovery_code_wrong")),
            "{}",
            page.text()
        );
        assert!(page.says("This code is not good"));
        assert_eq!(recover(&world, &ada, &codes[0]).await.status, 303);
        let users = world.settings("acme", "/users");
        assert_eq!(ada.get(&users).await.status, 200);
        // The same account in another browser, and the same code once more.
        let second = world.browser_of("ada").await;
        assert!(second.get(&users).await.location().is_some());
        let page = recover(&world, &second, &codes[0]).await;
        assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"));
        // A member who is no admin.
        let mira = world.browser_of("mira").await;
        assert_eq!(recover(&world, &mira, &codes[1]).await.code().as_deref(), Some("organization.unknown"));
        // An hour later the login has to be fresh again, and the code is over.
        world.pass(Lifetime::from_minutes(60));
        let disable = world.settings("acme", "/disable");
        assert_eq!(ada.post(&disable, &[]).await.code().as_deref(), Some("settings.sso_needed"));
        assert_eq!(world.state("acme").await, "live");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_code_that_many_use_at_once_is_used_by_one() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, codes) = enable(&world).await;
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let browser = world.browser_of("ada").await;
            let (url, code) = (world.settings("acme", "/recover"), codes[0].clone());
            tries.spawn(async move { browser.post(&url, &[("code", &code)]).await.status.as_u16() });
        }
        let outcomes = tries.join_all().await;
        assert_eq!(outcomes.iter().filter(|status| **status == 303).count(), 1, "{outcomes:?}");
        assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM recovery").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_new_codes_void_the_old_and_what_the_old_had_opened_elsewhere() {
    let world = world_on(On::Sqlite).await;
    let (ada, codes) = enable(&world).await;
    let elsewhere = world.browser_of("ada").await;
    recover(&world, &elsewhere, &codes[0]).await;
    let page = ada.post(&world.settings("acme", "/recovery-codes"), &[]).await;
    let new = codes_on(&page);
    assert_eq!(new.len(), 10, "{}", page.text());
    assert!(new.iter().all(|code| !codes.contains(code)));
    assert!(elsewhere.get(&world.settings("acme", "/users")).await.location().is_some(), "closed");
    let page = recover(&world, &elsewhere, &codes[1]).await;
    assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"));
    assert_eq!(recover(&world, &elsewhere, &new[9]).await.status, 303);
    // Shown once: no page has them any more, nor does the store.
    let page = ada.get(&world.settings("acme", "")).await;
    assert!(codes_on(&page).is_empty() && page.says("9 of 10"), "{}", page.text());
    let kept = format!("{:?}", world.everything_stored().await);
    assert!(new.iter().chain(&codes).all(|code| !kept.contains(code.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_guesses_at_codes_are_throttled_and_in_the_log() {
    let world = World::new().await;
    let (_, codes) = enable(&world).await;
    let ada = world.browser_of("ada").await;
    for _ in 0..5 {
        let page = recover(&world, &ada, "0000-0000-0000-0000").await;
        assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"));
    }
    let page = recover(&world, &ada, &codes[0]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (429, Some("account.throttled")));
    let log = world.audit("acme").await;
    assert_eq!(log.iter().filter(|event| event.action == "org.recovery.failed").count(), 5);
    world.pass(Lifetime::from_minutes(2));
    assert_eq!(recover(&world, &ada, &codes[0]).await.status, 303);
}

/// A new sign-in is a new budget, so the guesses themselves don't bound the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_refused_codes_are_written_down_by_the_hour_and_not_by_the_guess() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, codes) = enable(&world).await;
        for _ in 0..3 {
            let ada = world.browser_of("ada").await;
            for _ in 0..3 {
                let page = recover(&world, &ada, "0000-0000-0000-0000").await;
                assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"));
            }
        }
        let refused = async || {
            let log = world.audit("acme").await.into_iter();
            let refused = log.filter(|event| event.action == "org.recovery.failed");
            refused.map(|event| event.details.get("count").cloned()).collect::<Vec<_>>()
        };
        assert_eq!(refused().await, [const { None }; 5], "{on:?}");
        // Failed trips have a count of their own.
        let ada = world.browser_of("ada").await;
        let provider = world.start_sso(&ada, "acme", "/").await;
        let (_, state) = provider.split_once("state=").unwrap();
        let state = state.split('&').next().unwrap();
        let (base, issuer) = (&world.base, world.idp.issuer());
        ada.get(&format!(
            "{base}/organizations/acme/oidc/consume?error=access_denied&state={state}&iss={issuer}"
        ))
        .await;
        assert_eq!(world.audit("acme").await.last().unwrap().action, "org.sso_login_failed", "{on:?}");

        world.pass(Lifetime::from_hours(1));
        world.app.store.clean_up(world.app.clock.now()).await.unwrap();
        let last = refused().await.pop().flatten();
        assert_eq!(last, Some("4".into()), "{on:?}: none is lost");
        let ada = world.browser_of("ada").await;
        assert_eq!(recover(&world, &ada, &codes[0]).await.status, 303);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbours_wrong_passwords_keep_nobody_from_a_recovery_code() {
    let world = World::new().await;
    let (_, codes) = enable(&world).await;
    let ada = world.browser_of("ada").await;
    let (now, office) = (world.app.clock.now(), "127.0.0.1".parse().unwrap());
    while let Ok(place) = world.app.sign_ins.enter(office, now) {
        place.failed(now);
    }
    assert_eq!(recover(&world, &ada, &codes[0]).await.status, 303, "{}", ada.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_the_operators_command_line_is_the_last_way_in() {
    for on in On::all() {
        let world = world_on(on).await;
        let (code, _, errors) = world.command("sso recovery-codes acme");
        assert!(code == 1 && errors.starts_with("error[settings.nothing_to_disable]"), "{errors}");
        let (_, old) = enable(&world).await;
        let (code, printed, errors) = world.command("sso recovery-codes acme");
        assert_eq!((code, errors.as_str()), (0, ""));
        let codes: Vec<&str> = printed.lines().collect();
        assert_eq!(codes.len(), 10, "{printed}");
        let ada = world.browser_of("ada").await;
        assert_eq!(recover(&world, &ada, &old[0]).await.status, 422);
        assert_eq!(recover(&world, &ada, codes[9]).await.status, 303);
        let log = world.audit("acme").await;
        let made = log.iter().rfind(|event| event.action == "org.recovery.codes").unwrap();
        assert_eq!(made.actor_kind, "operator");
    }
}

// Who was let in by other settings is asked again (ADR 0018).

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_or_hosted_domain_under_the_same_issuer_ends_the_sessions_of_before() {
    for (field, value) in [("client_id", ""), ("hosted_domains", "acme.example")] {
        let world = World::new().await;
        let (ada, client) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        assert!(world.visit(&mira, &format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
        world.idp.add_person(
            Person::new("ada", "Ada Admin", "ada@acme.example").claim("hd", "acme.example".into()),
        );
        let second = world.register("acme");
        let issuer = world.idp.issuer();
        let client = if field == "client_id" { second } else { client };
        let mut fields =
            vec![("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        if !value.is_empty() {
            fields.push((field, value));
        }
        world.idp.signs_in("ada");
        let page = world.update_and_test(&ada, "acme", &fields).await;
        ada.follow_all(page).await;
        assert!(mira.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"), "not yet");
        let revision = world.draft("acme").await;
        let page = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
        assert_eq!(page.status, 303, "{field}: {}", page.text());
        let sent = mira.get(&format!("{}/acme/secret", world.hub)).await;
        assert!(sent.location().unwrap().as_str().contains("/organizations/acme/sso"), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_link_only_where_the_organization_says_so() {
    for on in On::all() {
        let world = World::with(Options { on, entra: true, ..Options::default() }).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        world.idp.add_person(Person::new("guest", "Mira Holt", "mira@acme.example").claim("acct", 1.into()));
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("guest");
        let secret = format!("{}/acme/secret", world.hub);
        let page = world.visit(&mira, &secret).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("sso.guest_refused")));
        assert!(page.says("under Users management"), "{}", page.text());
        let page = ada.get(&world.settings("acme", "/users")).await;
        let page = ada.submit(page.form("/users/guests")).await;
        let page = ada.follow_all(page).await;
        assert!(page.says("They may be linked to accounts here"), "{}", page.text());
        let page = world.visit(&mira, &secret).await;
        assert!(page.says("/acme/secret"), "{} {}", page.text(), mira.history());
        assert!(world.audit("acme").await.iter().any(|event| event.action == "org.settings.sso.guests"));
    }
}
