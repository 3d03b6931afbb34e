//! What somebody tries who wants in, wants something changed without a trace, or wants others out.
//!
//! Each test began as a way that worked. Never here: what the pages and the gate promise to those who mean well.

use std::time::Duration;

use axum::body::Body;
use doorward::passwords::Caller;
use doorward::store::{FailureCount, Query as _, Store, Transaction};
use doorward::values;
use doorward::web::throttle::Budget;
use doorward_core::ids::SessionId;
use doorward_core::membership::Role;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::{Browser, Endpoint, Person, TempDir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::harness::{On, Options, START_MS, World, fresh_store};

const NOW: Timestamp = Timestamp::from_millis(START_MS);
const PASSWORD: &str = "three quiet lanterns";
const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";
const IDENTITIES: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity";

async fn give_password(world: &World, account: &str, password: &str) -> String {
    let hash = world.app.passwords.hash(Secret::new(password.to_owned()), &world.app.random).await.unwrap();
    let id = world.account(account).await;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(id, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
    hash
}

async fn sign_in_for(world: &World, browser: &Browser, username: &str, next: &str) -> doorward_testkit::Page {
    let fields = [("username", username), ("password", PASSWORD), ("next", next)];
    browser.post(&format!("{}/login", world.base), &fields).await
}

/// Sends bytes to Doorward as no library would, and reads what comes until the other end closes.
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
async fn raw(world: &World, head: &str) -> String {
    let address = world.base.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

// === Getting in ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v36_an_address_that_the_provider_itself_calls_unverified_links_nobody() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    // Eve has mira's password, and wrote mira's address into her own profile at the provider.
    world.idp.add_person(Person::new("evil-eve", "Eve", "mira@acme.example").unverified());
    let thief = world.browser_of("mira").await;
    world.idp.signs_in("evil-eve");
    let page = world.visit(&thief, &format!("{}/acme/secret", world.hub)).await;
    assert_eq!(page.code().as_deref(), Some("sso.email_unverified"), "{}", thief.history());
    assert_eq!(world.count(IDENTITIES).await, 1);
    assert_eq!(world.count(SSO_SESSIONS).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_enable_without_single_sign_on_links_no_identity_but_the_admins_own() {
    let world = World::new().await;
    let (_, client) = world.enable_sso("acme", "ada").await;
    world.set_role("acme", "mira", Role::Admin).await;
    let issuer = world.idp.issuer();
    // The same settings with a secret: what an admin may save without SSO. The stored one is kept.
    let fields = [("client_id", &*client.id), ("client_secret", ""), ("issuer_url", &*issuer)];
    // Eve has the password of mira, an admin who never completed SSO, and an account of her own at the provider.
    let thief = world.browser_of("mira").await;
    world.idp.signs_in("eve");
    let page = world.update_and_test(&thief, "acme", &fields).await;
    thief.follow_all(page).await;
    let enable = async |browser: &Browser| {
        let revision = world.draft("acme").await;
        browser.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await
    };
    let page = enable(&thief).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", thief.history());
    assert_eq!(world.count(IDENTITIES).await, 1);

    // Mira herself, whose proved address the provider names: so that a dead secret can always be replaced.
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let page = world.update_and_test(&mira, "acme", &fields).await;
    mira.follow_all(page).await;
    assert_eq!(enable(&mira).await.status, 303, "{}", mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_an_external_collaborator_widens_nothing_without_single_sign_on() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.set_role("acme", "mira", Role::Admin).await;
    let (organization, mira) = (world.organization("acme").await.id, world.account("mira").await);
    let mut tx = world.app.store.begin().await.unwrap();
    let sql = "UPDATE membership SET external_collaborator = 1 \
               WHERE organization_id = $1 AND account_id = $2 RETURNING role";
    tx.fetch_optional(sql, values![organization, mira]).await.unwrap().unwrap();
    tx.changed(doorward::store::Change::Account(mira));
    tx.commit(world.app.clock.now()).await.unwrap();

    let thief = world.browser_of("mira").await;
    let page = thief.post(&world.settings("acme", "/disable"), &[]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", thief.history());
    assert_eq!(world.state("acme").await, "live");
    // What he is spared is the way in.
    let members = format!("{}/organizations/acme/settings/members", world.base);
    assert_eq!(thief.get(&members).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v29_a_password_that_is_changed_while_it_is_looked_at_opens_no_session() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let old = give_password(&world, "mira", "a stolen password").await;
        let mira = world.account("mira").await;
        give_password(&world, "mira", PASSWORD).await;
        // The sign-in with the old one was being looked at meanwhile, and now wants its session.
        let mut tx = world.app.store.begin().await.unwrap();
        assert!(!tx.confirm_sign_in(mira, &old).await.unwrap(), "{on:?}");
        drop(tx);
        assert_eq!(sign_in_for(&world, &Browser::new(), "mira", "").await.status, 303);
    }
}

// === Leaving no trace ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_whoever_hangs_up_at_the_callback_is_in_the_audit_log_all_the_same() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("eve");
    let to_provider = world.start_sso(&mira, "acme", "/").await;
    let callback = mira.get(&to_provider).await.location().unwrap();
    let before = world.audit("acme").await.len();

    let cookies = ["doorward-session", "doorward-browser"]
        .map(|name| format!("{name}={}", mira.cookie("localhost", name).unwrap()));
    let request = http::Request::get(format!("{}?{}", callback.path(), callback.query().unwrap()))
        .header("host", world.base.trim_start_matches("http://"))
        .header("cookie", cookies.join("; "))
        .header("sec-fetch-mode", "navigate")
        .body(Body::empty())
        .unwrap();
    world.idp.forget_requests();
    let asked = async {
        while world.idp.calls(Endpoint::Token) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = asked => {}
        _ = doorward::web::router(&world.app).oneshot(request) => {}
    }
    let told = async {
        while world.audit("acme").await.len() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("an event");
    assert_eq!(world.audit("acme").await.last().unwrap().action, "org.sso_login_failed");
}

/// A form as this browser would post it, for the router itself.
fn posted(world: &World, browser: &Browser, path: &str, fields: &[(&str, &str)]) -> http::Request<Body> {
    let cookies = ["doorward-session", "doorward-browser"]
        .map(|name| browser.cookie("localhost", name).map(|value| format!("{name}={value}")));
    let cookies: Vec<_> = cookies.into_iter().flatten().collect();
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    http::Request::post(path)
        .header("host", world.base.trim_start_matches("http://"))
        .header("origin", &world.base)
        .header("cookie", cookies.join("; "))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-mode", "navigate")
        .body(Body::from(body))
        .unwrap()
}

/// Failures that this node counts for this budget.
fn counted(world: &World, budget: Budget) -> i64 {
    let now = world.app.clock.now();
    let Ok(guess) = world.app.sign_ins.take(budget, FailureCount::default(), now) else { return i64::MAX };
    world.app.sign_ins.give_back(guess, now);
    guess.counted.failures - 1
}

/// Asks, and hangs up as soon as a guess was counted.
async fn hang_up(world: &World, request: http::Request<Body>, budget: Budget) {
    let before = counted(world, budget);
    let taken = async {
        while counted(world, budget) == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = taken => {}
        _ = doorward::web::router(&world.app).oneshot(request) => panic!("answered"),
    }
}

/// Waits until there are so many.
async fn until(world: &World, sql: &'static str, count: i64) {
    let there = async {
        while world.count(sql).await != count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), there).await;
    assert!(waited.is_ok(), "{} instead of {count}: {sql}", world.count(sql).await);
}

const FAILED_SIGN_INS: &str =
    "SELECT CAST(SUM(failed_sign_ins) AS BIGINT) AS n FROM account WHERE name_key = 'mira'";

// One thread: nothing happens between the look at a count and the hanging up.
#[tokio::test]
async fn rule_9_whoever_hangs_up_while_a_password_is_looked_at_has_failed_like_everybody() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira", PASSWORD).await;
        let mira = world.account("mira").await;
        for guesses in 1..=5 {
            // No password is looked at before the guesser has hung up.
            let places = [
                world.app.passwords.turn(Caller::Stranger).await,
                world.app.passwords.turn(Caller::Known).await,
            ];
            let fields = [("username", "mira"), ("password", "one guess of many")];
            let request = posted(&world, &Browser::new(), "/login", &fields);
            hang_up(&world, request, Budget::Account(mira)).await;
            drop(places);
            until(&world, FAILED_SIGN_INS, guesses).await;
        }
        let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
        assert!(events.iter().any(|event| event.action == "account.sign_in_failed"), "{on:?}");
        // The address has failed five times, and fails fifteen times more.
        let now = world.app.clock.now();
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        for _ in 0..15 {
            world.app.sign_ins.enter(here, now).unwrap().failed(now);
        }
        assert!(world.app.sign_ins.enter(here, now).is_err(), "{on:?}");
    }
}

#[tokio::test]
async fn rule_9_whoever_hangs_up_while_he_proves_his_password_has_failed_like_everybody() {
    let world = World::new().await;
    give_password(&world, "mira", PASSWORD).await;
    let thief = world.browser_of("mira").await;
    let mira = world.account("mira").await;
    let places =
        [world.app.passwords.turn(Caller::Stranger).await, world.app.passwords.turn(Caller::Known).await];
    let fields = [("current_password", "one guess of many"), ("new_password", "four loud lanterns")];
    let request = posted(&world, &thief, "/settings/account/password", &fields);
    hang_up(&world, request, Budget::Account(mira)).await;
    drop(places);
    until(&world, FAILED_SIGN_INS, 1).await;
}

#[tokio::test]
async fn rule_12_whoever_hangs_up_while_a_recovery_code_is_looked_at_is_in_the_audit_log() {
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let ada = world.browser_of("ada").await;
    // The one that has not completed single sign-on.
    let sql = "SELECT id FROM browser_session WHERE id NOT IN (SELECT session_id FROM sso_session)";
    let row = world.app.store.reader().fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
    let session: SessionId = row.parsed("id").unwrap();
    let request =
        posted(&world, &ada, "/organizations/acme/settings/sso/recover", &[("code", "0000-0000-0000-0000")]);
    // Nothing is written before the guesser has hung up.
    let writing = world.app.store.begin().await.unwrap();
    hang_up(&world, request, Budget::Recovery(session)).await;
    drop(writing);
    until(&world, "SELECT COUNT(*) AS n FROM audit_event WHERE action = 'org.recovery.failed'", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rush_of_wrong_passwords_hides_none_from_the_audit_log() {
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    let names: Vec<String> = (0..14).map(|n| format!("somebody-{n}")).collect();
    for name in &names {
        world.add_account(name, "Somebody").await;
        give_password(&world, name, PASSWORD).await;
    }
    // The store writes nothing meanwhile, so that the notes of all wait.
    let writing = world.app.store.begin().await.unwrap();
    for _ in 0..5 {
        for name in &names {
            let fields = [("username", &**name), ("password", "one guess of many")];
            let page = Browser::new().post(&format!("{}/login", world.base), &fields).await;
            assert_eq!(page.code().as_deref(), Some("account.wrong_password"));
        }
        world.pass(Lifetime::from_minutes(1));
    }
    drop(writing);
    let all = u32::try_from(doorward::app::NOTES_OF_FAILURES_MAX).unwrap();
    drop(world.app.notes_of_failures.acquire_many(all).await.unwrap());
    world.pass(Lifetime::from_hours(2));
    world.app.store.clean_up(world.app.clock.now()).await.unwrap();
    let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
    let told = events.iter().filter(|event| event.action == "account.sign_in_failed");
    let told: i64 = told.map(|event| event.details["count"].as_str().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(told, 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_on_another_site_makes_nobody_download_the_audit_log() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let elsewhere = ada.get(&format!("{}/", world.hub)).await;
    let download = format!("{}/organizations/acme/settings/audit-log/download", world.base);
    let page = ada.go(&elsewhere, &download.parse().unwrap()).await;
    assert!(page.location().unwrap().path().ends_with("/audit-log"), "{}", ada.history());
    assert!(world.audit("acme").await.iter().all(|event| event.action != "org.audit_log.export"));
    assert_eq!(ada.get(&download).await.status, 200);
}

// === What a node remembers ===

async fn two_nodes(on: On, folder: &TempDir) -> (Store, Store) {
    let (first, url) = fresh_store(on, folder).await;
    let second = match on {
        On::Sqlite => {
            let path = folder.join("doorward.db");
            Store::open_sqlite(&path, doorward::store::Synchronous::Normal).await.unwrap()
        }
        On::Postgres => Store::open_postgres(&url).await.unwrap(),
    };
    (first, second)
}

async fn insert_session(tx: &mut Transaction, n: u8, secret: &str, account: doorward_core::ids::AccountId) {
    let id = SessionId::new(START_MS, [n; 10]);
    tx.insert_browser_session(id, TokenHash::of(secret), account, NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_a_node_that_slept_longer_than_changes_are_kept_trusts_nothing_of_before() {
    for on in On::all() {
        let folder = TempDir::new();
        let (awake, sleeper) = two_nodes(on, &folder).await;
        let account = crate::store::account(1, "mira");
        let mut tx = awake.begin().await.unwrap();
        tx.insert_account(&account, NOW).await.unwrap();
        insert_session(&mut tx, 1, "stolen", account.id).await;
        tx.commit(NOW).await.unwrap();
        sleeper.read_changes(NOW).await.unwrap();
        let stolen = TokenHash::of("stolen");
        assert!(sleeper.session_facts(stolen, NOW).await.unwrap().is_some());

        // While it sleeps, the session is ended, and the word of it grows old and is deleted.
        let mut tx = awake.begin().await.unwrap();
        tx.delete_browser_session(SessionId::new(START_MS, [1; 10]), account.id).await.unwrap();
        tx.commit(NOW).await.unwrap();
        let later = NOW.plus(Lifetime::from_minutes(11));
        awake.clean_up(later).await.unwrap();

        sleeper.read_changes(later).await.unwrap();
        assert!(sleeper.session_facts(stolen, later).await.unwrap().is_none(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_just_signed_in_at_one_node_is_known_at_every_other() {
    for on in On::all() {
        let folder = TempDir::new();
        let (first, second) = two_nodes(on, &folder).await;
        let account = crate::store::account(1, "mira");
        let mut tx = first.begin().await.unwrap();
        tx.insert_account(&account, NOW).await.unwrap();
        insert_session(&mut tx, 1, "old", account.id).await;
        tx.commit(NOW).await.unwrap();
        second.read_changes(NOW).await.unwrap();
        assert!(second.session_facts(TokenHash::of("old"), NOW).await.unwrap().is_some());

        let mut tx = first.begin().await.unwrap();
        insert_session(&mut tx, 2, "new", account.id).await;
        tx.commit(NOW).await.unwrap();
        // The next request comes to the second node before it has read of it.
        assert!(second.session_facts(TokenHash::of("new"), NOW).await.unwrap().is_some(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v16_what_can_be_no_name_is_neither_looked_up_nor_remembered() {
    let world = World::new().await;
    let stranger = Browser::new();
    let before = world.app.store.facts().organizations_cached();
    let page = stranger.get(&format!("{}/{}/x", world.hub, "a".repeat(8000))).await;
    assert_eq!(page.status, 302);
    assert_eq!(world.app.store.facts().organizations_cached(), before);
    stranger.get(&format!("{}/{}/x", world.hub, "a".repeat(42))).await;
    assert_eq!(world.app.store.facts().organizations_cached(), before + 1);
}

// === Locking others out ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rush_of_sign_ins_counts_no_failure_against_anybody() {
    let world = World::new().await;
    give_password(&world, "mira", PASSWORD).await;
    let hash = give_password(&world, "eve", "another long secret").await;
    let rush: Vec<_> = (0..300)
        .map(|_| {
            let (app, hash) = (world.app.clone(), hash.clone());
            tokio::spawn(async move {
                loop {
                    drop(app.passwords.verify(Secret::new("x".to_owned()), Some(hash.clone())).await);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut busy = 0;
    while busy < 7 {
        let page = sign_in_for(&world, &Browser::new(), "mira", "").await;
        assert!([303, 503].contains(&page.status.as_u16()), "{} {:?}", page.status, page.code());
        busy += u32::from(page.status == 503);
    }
    for task in rush {
        task.abort();
    }
}

// === Pages ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_a_failed_callback_tells_its_address_to_nobody() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let state = Secret::token([9; 32]);
    let address = format!("{}/organizations/acme/oidc/consume?code=c&state={}", world.base, state.expose());
    let page = mira.get(&address).await;
    assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_a_sign_in_for_a_page_that_asks_for_single_sign_on_answers_with_a_page_too() {
    let world = World::with(Options::default()).await;
    world.enable_sso("acme", "ada").await;
    give_password(&world, "ada", PASSWORD).await;
    for path in ["/organizations/acme/settings", "/organizations/acme/settings/members"] {
        let browser = Browser::new();
        let page = sign_in_for(&world, &browser, "ada", path).await;
        assert_eq!(page.status, 200, "{path}: a redirect would end at the provider");
        let next = page.meta_refresh().unwrap();
        assert_eq!(next.path(), path);
        assert!(browser.get(next.as_str()).await.location().unwrap().path().ends_with("/sso"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_odd_spelling_of_an_organization_is_no_fault_of_ours_and_no_endless_way() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let cookie = mira.cookie("localhost", "doorward-session").unwrap();
    let host = world.base.trim_start_matches("http://").to_owned();
    let ask = async |target: &str| {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: doorward-session={cookie}\r\n\
             Sec-Fetch-Mode: navigate\r\nConnection: close\r\n\r\n"
        );
        raw(&world, &head).await
    };
    let answer = ask("/organizations/ACME/settings/members?after=\u{e9}").await;
    assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    let answer = ask("/organizations/%41CME/settings/members?after=x").await;
    assert!(answer.contains("\r\nlocation: /organizations/acme/settings/members?after=x\r\n"), "{answer}");
}

// === Found by a second reading: what waits, what outlives ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_a_form_that_ends_after_its_sender_was_removed_does_nothing() {
    let world = World::new().await;
    world.set_role("acme", "mira", Role::Admin).await;
    let ada = world.browser_of("ada").await;
    let body = "account=eve&role=write";
    let host = world.base.trim_start_matches("http://");
    let head = format!(
        "POST /organizations/acme/settings/members HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\n\
         Cookie: doorward-session={}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        world.base,
        ada.cookie("localhost", "doorward-session").unwrap(),
        body.len()
    );
    let address = host.replace("localhost", "127.0.0.1");
    #[expect(clippy::disallowed_methods, reason = "the test is the client")]
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (all_but_one, last) = body.split_at(body.len() - 1);
    stream.write_all(format!("{head}{all_but_one}").as_bytes()).await.unwrap();
    // By now she is let in, and her form is waited for.
    for _ in 0..3 {
        assert_eq!(ada.get(&format!("{}/organizations/acme/settings/members", world.base)).await.status, 200);
    }
    world.remove_member("acme", "ada").await;
    stream.write_all(last.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let members = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership m JOIN account a ON a.id = m.account_id \
                   WHERE a.name_key = 'eve'";
    assert_eq!(world.count(members).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_an_invitation_that_names_somebody_does_not_outlive_his_removal() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let members = format!("{}/organizations/acme/settings/members", world.base);
    let page = ada.post(&format!("{members}/invitations"), &[("role", "admin"), ("account", "eve")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    world.set_role("acme", "eve", Role::Read).await;
    world.remove_member("acme", "eve").await;
    let open = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM invitation WHERE ended IS NULL";
    assert_eq!(world.count(open).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_uses_up_an_admins_tries_with_a_recovery_code() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let ada = world.browser_of("ada").await;
    let id = world.account("ada").await;
    for n in 0..6 {
        // A stranger, by a name that no account can have; and whoever has the password too, in his own browser.
        sign_in_for(&world, &Browser::new(), &format!("recovery {id}"), "").await;
        let thief = world.browser_of("ada").await;
        let page = thief.post(&world.settings("acme", "/recover"), &[("code", "0000-0000-0000-0000")]).await;
        assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"), "{n}: {}", page.text());
    }
    let page = ada.post(&world.settings("acme", "/recover"), &[("code", "0000-0000-0000-0000")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.recovery_code_wrong"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_with_nul_is_malformed_on_both_databases_and_no_fault_of_the_store() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let nul = [("username", "a\0"), ("password", PASSWORD)];
        let page = Browser::new().post(&format!("{}/login", world.base), &nul).await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (400, Some("request.malformed")),
            "{on:?}"
        );
        for path in [
            "/organizations/%00/settings",
            "/organizations/acme/settings/audit-log?action=%00",
            "/organizations/a%00/oidc/consume",
        ] {
            let page = ada.get(&format!("{}{path}", world.base)).await;
            assert_eq!(page.code().as_deref(), Some("request.malformed"), "{on:?}: {path}");
        }
    }
}
