//! The rules of architecture.md §5, clause by clause, where no other file has them. `docs/rules.md` says for each which
//! line holds it, and what was removed to see its test go red.

use doorward::store::{Plan, Store, load_browser_sessions, load_revision, load_test};
use doorward_core::connection::Enforcement;
use doorward_core::ids::RevisionNumber;
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Endpoint, Misbehavior};
use http::Method;

use crate::harness::{On, Options, World};

const ATTEMPTS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM attempt";
const TICKETS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM ticket";
const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";

// Rule 1: whose answer counts where.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_an_attempt_is_honoured_at_its_own_organizations_address_alone() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    let calls = world.idp.calls(Endpoint::Token);
    for (address, code) in [
        (callback.as_str().replace("/acme/", "/globex/"), "sso.attempt_unknown"),
        // The redirect URI has one spelling, that of the creation.
        (callback.as_str().replace("/acme/", "/ACME/"), "organization.unknown"),
        (callback.as_str().replace("/acme/", "/nonsense/"), "organization.unknown"),
    ] {
        let page = mira.get(&address).await;
        assert_eq!(page.code().as_deref(), Some(code), "{address}");
        assert_eq!(world.idp.calls(Endpoint::Token), calls, "nothing was redeemed");
    }
    assert_eq!(mira.get(callback.as_str()).await.status, 303, "nothing was burnt either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_test_stays_with_the_revision_and_client_it_was_started_for() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let first = world.connect_and_test(&ada, "acme", "ada").await;
    let callback = world.returning_from_test(&ada, "acme").await;

    // While she is at the provider, a second draft is saved.
    let second = world.register("acme");
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*second.id), ("client_secret", second.secret()), ("issuer_url", &*issuer)];
    world.update_and_test(&ada, "acme", &fields).await;
    world.behind_its_back("DELETE FROM revision_test").await;

    ada.get(callback.as_str()).await;
    let redeemed = world.idp.last_request(Endpoint::Token).unwrap();
    let basic = redeemed.header("authorization").map(str::to_owned);
    assert!(redeemed.field("client_id") == Some(&first.id) || basic.is_some(), "{redeemed:?}");
    let organization = world.organization("acme").await.id;
    let mut reader = world.app.store.reader();
    let tested = load_test(&mut reader, organization, RevisionNumber(1)).await.unwrap();
    assert!(tested.is_some_and(|stored| stored.test.passed), "the first revision passed");
    assert!(load_test(&mut reader, organization, RevisionNumber(2)).await.unwrap().is_none());
    assert_eq!(world.state("acme").await, "untested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_d7_f6_a_sign_in_uses_the_endpoints_that_its_revision_has_frozen() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    // From now on the provider's metadata names another host.
    world.idp.misbehave(Misbehavior::DiscoveryEndpointsMoved);
    world.idp.forget_requests();
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    assert_eq!(mira.get(callback.as_str()).await.status, 303, "{}", mira.history());
    let redeemed = world.idp.last_request(Endpoint::Token).unwrap();
    assert_eq!(redeemed.header("host"), Some(&*world.idp.address().to_string()));
    assert_eq!(world.idp.calls(Endpoint::Discovery), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_b5_i4_an_answer_of_another_issuer_or_without_the_promised_one_redeems_nothing() {
    for (fault, code) in [
        (Misbehavior::CallbackIssOfOtherIssuer, "oidc.response_issuer_mismatch"),
        (Misbehavior::CallbackIssWrong, "oidc.response_issuer_mismatch"),
        (Misbehavior::CallbackErrorIssWrong, "oidc.response_issuer_mismatch"),
        (Misbehavior::CallbackIssMissing, "oidc.response_issuer_missing"),
    ] {
        let world = World::new().await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let calls = world.idp.calls(Endpoint::Token);
        world.idp.misbehave_once(fault);
        let callback = world.returning(&mira, "acme").await;
        let page = mira.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some(code), "{fault:?}");
        assert_eq!(world.idp.calls(Endpoint::Token), calls, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_metadata_that_names_another_issuer_is_not_used() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    world.idp.misbehave(Misbehavior::DiscoveryIssuerOther);
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!(page.status, 303, "nobody is sent away: {}", page.text());
    assert_eq!(world.state("acme").await, "test_failed");
    assert_eq!(failed_code(&world, "acme").await, "oidc.issuer_mismatch");
}

/// The code of the newest failed test in the audit log.
async fn failed_code(world: &World, organization: &str) -> String {
    let log = world.audit(organization).await;
    let failed = log.iter().rev().find(|event| event.details.get("outcome").is_some_and(|o| o == "failed"));
    failed.map_or_else(String::new, |event| event.details["code"].as_str().unwrap_or_default().to_owned())
}

// Rule 2: the state, and what is read again.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_b3_v70_every_trip_has_an_s256_challenge_and_a_nonce_and_shows_its_verifier_once() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    mira.get(callback.as_str()).await;
    let asked = world.idp.last_request(Endpoint::Authorize).unwrap();
    assert_eq!(asked.field("code_challenge_method"), Some("S256"));
    assert_eq!(asked.field("nonce").map(str::len), Some(43));
    assert_eq!(asked.field("code_challenge").map(str::len), Some(43));
    let redeemed = world.idp.last_request(Endpoint::Token).unwrap();
    assert_eq!(redeemed.field("code_verifier").map(str::len), Some(43));
    assert_ne!(redeemed.field("code_verifier"), asked.field("code_challenge"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_the_attempt_is_spent_before_its_code_is_redeemed() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    world.idp.misbehave_once(Misbehavior::TokenNeverAnswers);
    let waiting = tokio::spawn({
        let (mira, callback) = (mira.clone(), callback.clone());
        async move { mira.get(callback.as_str()).await }
    });
    // As soon as the provider is asked, no attempt is left that a second request could redeem.
    let before = world.idp.calls(Endpoint::Token);
    while world.idp.calls(Endpoint::Token) == before && !waiting.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.count(ATTEMPTS).await, 0);
    let second = mira.get(callback.as_str()).await;
    assert!(second.status.is_client_error() || second.status == 303, "{}", second.text());
    assert_eq!(waiting.await.unwrap().code().as_deref(), Some("outbound.timeout"));
    assert_eq!(world.idp.calls(Endpoint::Token), before + 1, "redeemed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_the_transaction_that_makes_the_session_reads_everything_again() {
    // Each change is one that no request of this browser has seen: as if made while the provider was asked.
    let changes = [
        ("the membership is gone", "DELETE FROM membership WHERE role = 'write'", "sso.not_member"),
        (
            "the account is disabled",
            "UPDATE account SET disabled = 1 WHERE name_key = 'mira'",
            "sso.attempt_superseded",
        ),
        (
            "the browser session is gone",
            "DELETE FROM browser_session WHERE account_id = (SELECT id FROM account WHERE name_key = 'mira')",
            "sso.attempt_superseded",
        ),
        ("the connection is off", "UPDATE connection SET live = NULL", "sso.attempt_superseded"),
        (
            "the live revision is of another client",
            "INSERT INTO revision SELECT connection_id, 9, issuer_url, 'other', client_secret, client_secret_end, \
             client_auth_method, scopes, userinfo, email_claim, hosted_domains, created_by, created_at, metadata FROM revision; \
             UPDATE connection SET live = 9, draft = 9",
            "sso.attempt_superseded",
        ),
        (
            "the live revision is of another issuer",
            "INSERT INTO revision SELECT connection_id, 9, issuer_url, client_id, client_secret, client_secret_end, \
             client_auth_method, scopes, userinfo, email_claim, hosted_domains, created_by, created_at, \
             REPLACE(metadata, '\"issuer\":\"http', '\"issuer\":\"https') FROM revision; \
             UPDATE connection SET live = 9, draft = 9",
            "sso.attempt_superseded",
        ),
    ];
    for (change, sql, code) in changes {
        let world = World::new().await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let callback = world.returning(&mira, "acme").await;
        world.behind_its_back(sql).await;
        let page = mira.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some(code), "{change}: {}", page.text());
        assert_eq!(world.count(SSO_SESSIONS).await, 1, "{change}: only ada has one");
    }
    // What differs in its secret alone is the same trust: the sign-in goes on.
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    let same = "INSERT INTO revision SELECT connection_id, 9, issuer_url, client_id, client_secret, client_secret_end, \
                client_auth_method, scopes, userinfo, email_claim, hosted_domains, created_by, created_at, metadata FROM revision; \
                UPDATE connection SET live = 9, draft = 9";
    world.behind_its_back(same).await;
    assert_eq!(mira.get(callback.as_str()).await.status, 303, "{}", mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_the_transaction_that_ends_a_test_reads_everything_again() {
    for (change, sql) in [
        ("no admin any more", "UPDATE membership SET role = 'read' WHERE role = 'admin'"),
        ("no member any more", "DELETE FROM membership WHERE role = 'admin'"),
        ("disabled", "UPDATE account SET disabled = 1 WHERE name_key = 'ada'"),
        ("signed out", "DELETE FROM browser_session"),
    ] {
        let world = World::new().await;
        let ada = world.browser_of("ada").await;
        world.connect_and_test(&ada, "acme", "ada").await;
        let callback = world.returning_from_test(&ada, "acme").await;
        world.behind_its_back("DELETE FROM revision_test").await;
        world.behind_its_back(sql).await;
        let page = ada.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_superseded"), "{change}: {}", page.text());
        assert_eq!(world.state("acme").await, "untested", "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_an_attempt_ends_for_the_account_and_session_that_began_it_alone() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.set_role("acme", "eve", Role::Read).await;
    for (who, why) in [("eve", "another account"), ("mira", "another session of the same account")] {
        let browser = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let callback = world.returning(&browser, "acme").await;
        let calls = world.idp.calls(Endpoint::Token);
        world.sign_in(&browser, who).await;
        let page = browser.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_superseded"), "{why}");
        assert_eq!(world.idp.calls(Endpoint::Token), calls, "{why}: nothing was redeemed");
        assert_eq!(world.count(SSO_SESSIONS).await, 1, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_v47_another_browser_with_attempts_of_its_own_redeems_and_burns_nothing() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.set_role("acme", "eve", Role::Read).await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    for account in ["mira", "eve"] {
        let other = world.browser_of(account).await;
        world.returning(&other, "acme").await;
        assert!(other.cookie("localhost", "doorward-browser").is_some());
        let calls = world.idp.calls(Endpoint::Token);
        let page = other.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"), "{account}");
        assert_eq!(world.idp.calls(Endpoint::Token), calls, "{account}: nothing was redeemed");
    }
    assert_eq!(mira.get(callback.as_str()).await.status, 303, "{}", mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_what_ends_trust_deletes_open_attempts() {
    let deeds = ["signed out", "ended from afar", "new password", "removed", "disabled", "another issuer"];
    for deed in deeds {
        let world = World::new().await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        world.returning(&mira, "acme").await;
        assert_eq!(world.count(ATTEMPTS).await, 1);
        let account = world.account("mira").await;
        let now = world.app.clock.now();
        let mut tx = world.app.store.begin().await.unwrap();
        let session = load_browser_sessions(&mut tx, account).await.unwrap().first().unwrap().id;
        match deed {
            "signed out" => assert!(tx.delete_browser_session(session, account).await.unwrap()),
            "ended from afar" => {
                let other = doorward_core::ids::SessionId::new(now.millis(), [9; 10]);
                assert_eq!(tx.delete_other_browser_sessions(other, account).await.unwrap(), 1);
            }
            // The session in which the password was changed is kept; its attempts are not.
            "new password" => drop(tx.update_password(account, "x", Some(session)).await.unwrap()),
            "removed" => {
                let acme = world.organization("acme").await.id;
                assert!(tx.delete_membership(acme, account, now).await.unwrap());
            }
            _ => {}
        }
        tx.commit(now).await.unwrap();
        match deed {
            "disabled" => {
                world.returning_from_test(&ada, "acme").await;
                assert_eq!(ada.post(&world.settings("acme", "/disable"), &[]).await.status, 303);
            }
            "another issuer" => {
                let client = world.register("acme");
                let issuer = world.idp.issuer_named("other");
                world.idp.signs_in("ada");
                let fields = [
                    ("client_id", &*client.id),
                    ("client_secret", client.secret()),
                    ("issuer_url", &*issuer),
                ];
                let page = world.update_and_test(&ada, "acme", &fields).await;
                ada.follow_all(page).await;
                let revision = world.draft("acme").await;
                let enabled = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
                assert_eq!(enabled.status, 303, "{}", enabled.text());
            }
            _ => {}
        }
        assert_eq!(world.count(ATTEMPTS).await, 0, "{deed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_v47_one_browser_cookie_of_constant_size_serves_any_number_of_attempts() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.returning(&mira, "acme").await;
    let cookie = mira.cookie("localhost", "doorward-browser").unwrap();
    for _ in 0..24 {
        world.returning(&mira, "acme").await;
    }
    assert_eq!(mira.cookie("localhost", "doorward-browser").as_ref(), Some(&cookie));
    assert_eq!(cookie.len(), 43);
    let ours: Vec<_> = mira.cookies().into_iter().filter(|(_, name)| name.starts_with("doorward")).collect();
    assert_eq!(ours.len(), 2, "session and browser: {ours:?}");
    // Nor do attempts pile up in the store (conformance.md V47).
    assert_eq!(world.count(ATTEMPTS).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_v47_a_session_that_loses_its_other_cookies_piles_up_neither_attempts_nor_tickets() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let mut back = world.returning(&mira, "acme").await;
        for _ in 0..24 {
            mira.lose_cookie("localhost", "doorward-browser");
            back = world.returning(&mira, "acme").await;
        }
        assert_eq!(world.count(ATTEMPTS).await, 20, "{on:?}");
        assert!(mira.get(back.as_str()).await.code().is_none(), "{on:?}: the newest counts");

        let next = format!("/acme/secret?{}", "x".repeat(1_000));
        let start = mira.get(&format!("{}/.doorward/start?next={next}", world.hub)).await.location().unwrap();
        let mut handed_over = mira.get(start.as_str()).await;
        for _ in 0..40 {
            mira.lose_cookie("localhost", "doorward-starts");
            handed_over = mira.get(start.as_str()).await;
        }
        assert_eq!(world.count(TICKETS).await, 32, "{on:?}");
        let page = mira.follow(handed_over).await;
        assert!(
            page.body.contains("the application's page"),
            "{on:?}: the newest counts: {}",
            mira.history()
        );
    }
}

/// Each is a write, and SQLite has one writer: nobody takes it by opening one page again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_an_account_begins_a_few_hundred_ways_a_minute_and_its_neighbour_his_own() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let (mira, ben) = (world.browser_of("mira").await, world.browser_of("ben").await);
        let start = |host: &str| format!("{host}/.doorward/start?next=/acme/website");
        let handover = mira.get(&start(&world.hub)).await.location().unwrap();
        let (sso, globex) = (
            format!("{}/organizations/acme/sso?next=/", world.base),
            format!("{}/organizations/globex/settings/sso/test", world.base),
        );
        world.connect_and_test(&ben, "globex", "ben").await;
        // Somebody who opens a hundred tabs again is let through: two ways for each.
        let account = world.account("mira").await;
        for _ in 0..198 {
            world.app.sign_ins.take_beginning(account, world.app.clock.now()).unwrap();
        }
        let mut refused = None;
        for n in 0..130 {
            mira.lose_cookie("localhost", "doorward-starts");
            let page = mira.get(if n % 2 == 0 { handover.as_str() } else { &sso }).await;
            if page.status == 429 {
                refused = Some((n, page));
                break;
            }
            assert!(
                page.status.is_redirection() || page.has_form("/sso"),
                "{n}: {} {}",
                page.status,
                page.text()
            );
        }
        let (n, page) = refused.expect("a limit");
        assert_eq!((n, page.code().as_deref()), (102, Some("account.begins_too_often")), "{}", page.text());
        let seconds: i64 = page.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&seconds), "{seconds}");
        assert!(page.says("Wait a minute"), "{}", page.text());
        let (attempts, tickets) = (world.count(ATTEMPTS).await, world.count(TICKETS).await);
        mira.lose_cookie("localhost", "doorward-starts");
        for address in [handover.as_str(), &sso] {
            let page = mira.visit(address).await;
            assert_eq!(page.code().as_deref(), Some("account.begins_too_often"), "{}", page.text());
            assert!(page.header("retry-after").is_some());
        }
        assert_eq!((world.count(ATTEMPTS).await, world.count(TICKETS).await), (attempts, tickets), "{on:?}");

        // Nobody else notices, nor does she after the minute.
        assert_eq!(ben.post(&globex, &[]).await.status, 200, "{}", ben.history());
        world.pass(Lifetime::from_minutes(1));
        world.idp.signs_in("mira");
        let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        assert!(page.says("the application's page"), "{} {}", page.text(), mira.history());
    }
}

// Rule 4: single sign-on adds to the account signed in, and to nothing else.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_single_sign_on_counts_for_its_own_organization_and_browser_alone() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.enable_sso("globex", "ben").await;
    let second = world.browser_of("mira").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    let tables = [
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account",
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account_email",
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership",
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM browser_session",
    ];
    let mut before = Vec::new();
    for table in tables {
        before.push(world.count(table).await);
    }
    let page = mira.get(callback.as_str()).await;
    assert_eq!(page.status, 303, "{}", mira.history());
    assert!(page.headers_named("set-cookie").is_empty(), "the provider gives nobody a session of ours");
    for (table, before) in tables.into_iter().zip(before) {
        assert_eq!(world.count(table).await, before, "{table}");
    }
    assert!(mira.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
    let elsewhere = mira.get(&format!("{}/globex/secret", world.hub)).await;
    assert_eq!(elsewhere.status, 302);
    assert!(elsewhere.location().unwrap().path().ends_with("/organizations/globex/sso"));
    // Another browser of the same account has not completed anything.
    second.visit(&format!("{}/globex/website", world.hub)).await;
    let page = second.fetch(&format!("{}/acme/secret", world.hub)).await;
    assert_eq!(page.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_single_sign_on_of_one_organization_opens_no_settings_of_another() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.enable_sso("globex", "ben").await;
    world.set_role("acme", "ben", Role::Admin).await;
    let ben = world.browser_of("ben").await;
    world.idp.signs_in("ben");
    let callback = world.returning(&ben, "globex").await;
    assert_eq!(ben.get(callback.as_str()).await.status, 303, "{}", ben.history());
    let page = ben.post(&world.settings("acme", "/disable"), &[]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", page.text());
    assert_eq!(world.state("acme").await, "live");
    assert_eq!(ben.post(&world.settings("globex", "/disable"), &[]).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_an_address_counts_for_a_first_link_only_when_the_account_has_proved_it() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    world.behind_its_back(
        "UPDATE account_email SET proved_at = NULL WHERE account_id = (SELECT id FROM account WHERE name_key = 'mira')",
    )
    .await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    assert_eq!(mira.visit(callback.as_str()).await.code().as_deref(), Some("sso.email_not_proved"));
    assert_eq!(world.count(SSO_SESSIONS).await, 1);
}

// Rule 6: a stored secret goes to its own provider alone.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_a_stored_secret_is_discarded_when_the_token_endpoint_moves() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.connect_and_test(&ada, "acme", "ada").await;
    world.idp.misbehave(Misbehavior::DiscoveryEndpointsMoved);
    let issuer = world.idp.issuer();
    let draft = world.draft("acme").await;
    // Past the minutes for which metadata is remembered.
    world.pass(Lifetime::from_minutes(14));
    let fields = [("client_id", &*client.id), ("client_secret", ""), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (422, Some("settings.client_secret_missing")));
    assert_eq!(world.draft("acme").await, draft, "nothing was saved");
}

// Rule 7: nothing is read but through its own organization.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_revision_and_its_test_are_read_through_their_own_organization_alone() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let (acme, globex) = (world.organization("acme").await.id, world.organization("globex").await.id);
    let mut reader = world.app.store.reader();
    let first = RevisionNumber(1);
    assert!(load_revision(&mut reader, acme, first).await.unwrap().is_some());
    assert!(load_revision(&mut reader, globex, first).await.unwrap().is_none());
    assert!(load_test(&mut reader, acme, first).await.unwrap().is_some());
    assert!(load_test(&mut reader, globex, first).await.unwrap().is_none());
    assert!(world.audit("globex").await.is_empty(), "nor does its audit log hold another's events");
    // Enable names a revision, and that of another organization is none.
    let ben = world.browser_of("ben").await;
    let page = ben.post(&world.settings("globex", "/enable"), &[("revision", "1")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.not_set_up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_deleted_organizations_name_and_pages_stay_closed() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/acme/secret", world.hub);
    mira.visit(&secret).await;
    world.behind_its_back("UPDATE organization SET deleted_at = 1 WHERE name_key = 'acme'").await;
    // No command deletes an organization yet; one that does will say so to every node, as here.
    let mut tx = world.app.store.begin().await.unwrap();
    tx.changed(doorward::store::Change::Organization("acme".to_owned()));
    tx.commit(world.app.clock.now()).await.unwrap();
    let ada = world.browser_of("ada").await;
    let page = ada.post(&world.settings("acme", "/test"), &[]).await;
    assert_eq!(page.code().as_deref(), Some("organization.unknown"));
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    let id = doorward_core::ids::OrganizationId::new(now.millis(), [8; 10]);
    let name = doorward_core::name::Name::parse("Acme").unwrap();
    let again = tx.insert_organization(id, &name, "x", Plan::Team, now);
    assert!(matches!(again.await, Err(doorward::store::StoreError::Conflict)));
}

// Rules 8 and 16: a change is true everywhere at once.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_each_change_reaches_the_caches_of_other_nodes_in_its_own_transaction() {
    let deeds = [
        "session ended",
        "sessions ended",
        "password",
        "role",
        "removed",
        "enabled",
        "optional",
        "time-out",
        "switched off",
        "resource",
        "single sign-on",
        "host session",
    ];
    for deed in deeds {
        let world = World::new().await;
        let ada = world.browser_of("ada").await;
        world.connect_and_test(&ada, "acme", "ada").await;
        if matches!(deed, "optional" | "switched off" | "single sign-on") {
            let revision = world.draft("acme").await;
            ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
        }
        world.browser_of("mira").await;
        let now = world.app.clock.now();
        let (acme, mira) = (world.organization("acme").await, world.account("mira").await);
        let mut reader = world.app.store.reader();
        let session = load_browser_sessions(&mut reader, mira).await.unwrap().first().unwrap().id;

        // The other node knows everything by heart.
        let other = world.other_node().await;
        other.read_changes(now).await.unwrap();
        let facts = async |store: &Store| {
            let account = store.account_facts(mira, now).await.unwrap();
            let organization = store.organization_facts("acme", now).await.unwrap();
            let public = store.resource_is_public(acme.id, "", "secret", now).await.unwrap();
            format!("{account:?} {organization:?} {public}")
        };
        let before = facts(&other).await;
        facts(&world.app.store).await;

        let mut tx = world.app.store.begin().await.unwrap();
        match deed {
            "session ended" => {
                tx.delete_browser_session(session, mira).await.unwrap();
            }
            "sessions ended" => {
                let keep = doorward_core::ids::SessionId::new(now.millis(), [9; 10]);
                tx.delete_other_browser_sessions(keep, mira).await.unwrap();
            }
            "password" => drop(tx.update_password(mira, "x", None).await.unwrap()),
            "role" => {
                tx.set_role(acme.id, mira, Role::Read, now).await.unwrap();
            }
            "removed" => {
                tx.delete_membership(acme.id, mira, now).await.unwrap();
            }
            "enabled" => {
                let enforced = Enforcement::Enforced;
                assert!(tx.enable_revision(&acme, RevisionNumber(1), None, enforced, true).await.unwrap());
            }
            "optional" => {
                assert!(tx.update_enforcement(&acme, Enforcement::Optional).await.unwrap());
            }
            "time-out" => tx.update_session_timeout(&acme, Lifetime::from_hours(1)).await.unwrap(),
            "switched off" => {
                assert!(tx.disable_connection(&acme).await.unwrap().is_some());
            }
            "resource" => tx.set_resource(acme.id, "", "secret", true).await.unwrap(),
            "single sign-on" => {
                tx.put_sso_session(session, mira, acme.id, 1, "i", "s", now).await.unwrap();
            }
            _ => {
                let token = doorward_core::secret::TokenHash::of("host");
                tx.insert_host_session(token, session, mira, "hub.localhost", now).await.unwrap();
            }
        }
        tx.commit(now).await.unwrap();
        // This node knows at once, the other one when it has read the changes.
        assert_ne!(facts(&world.app.store).await, before, "{deed}: this node");
        assert_eq!(facts(&other).await, before, "{deed}: it was a cached fact");
        other.read_changes(now).await.unwrap();
        assert_ne!(facts(&other).await, before, "{deed}: the other node");
    }
}

// Rule 9: no transaction waits for a provider; strangers write nothing.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_no_transaction_is_open_while_the_provider_is_asked() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    let client = world.register("globex");
    let issuer = world.idp.issuer();
    let ben = world.browser_of("ben").await;
    let url = world.settings("globex", "/oidc");
    for step in ["a code is redeemed", "metadata are fetched"] {
        let before = (world.idp.calls(Endpoint::Token), world.idp.calls(Endpoint::Discovery));
        let waiting = if step == "a code is redeemed" {
            world.idp.misbehave_once(Misbehavior::TokenNeverAnswers);
            let (mira, callback) = (mira.clone(), callback.clone());
            tokio::spawn(async move { mira.get(callback.as_str()).await })
        } else {
            world.idp.misbehave_once(Misbehavior::DiscoveryNeverAnswers);
            // Known metadata would not be fetched again so soon.
            world.pass(Lifetime::from_minutes(14));
            let (ben, url, client, issuer) = (ben.clone(), url.clone(), client.clone(), issuer.clone());
            tokio::spawn(async move {
                let fields = [
                    ("client_id", &*client.id),
                    ("client_secret", client.secret()),
                    ("issuer_url", &*issuer),
                ];
                ben.post(&url, &fields).await
            })
        };
        while (world.idp.calls(Endpoint::Token), world.idp.calls(Endpoint::Discovery)) == before
            && !waiting.is_finished()
        {
            tokio::task::yield_now().await;
        }
        // SQLite has one writer: were a transaction open, this one could not begin before the provider's time is up.
        assert!(!waiting.is_finished(), "{step}");
        let mut tx = world.app.store.begin().await.unwrap();
        tx.update_full_name(world.account("eve").await, step).await.unwrap();
        tx.commit(world.app.clock.now()).await.unwrap();
        assert!(!waiting.is_finished(), "{step}");
        waiting.await.unwrap();
    }
}

// Rule 10: another origin is reached by a page, never by a redirect after a form.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_a_form_that_leads_to_the_provider_answers_with_a_page_that_goes_on() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let page = ada.post(&world.settings("acme", "/test"), &[]).await;
    assert_eq!((page.status.as_u16(), page.header("location")), (200, None));
    let to = page.meta_refresh().expect("a page that goes on");
    assert_eq!(to.host_str(), Some("127.0.0.1"), "the provider's host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_the_sessions_secret_changes_at_every_sign_in_and_a_planted_or_old_one_is_worth_nothing() {
    let world = World::new().await;
    let password = "correct horse battery 7";
    let secret = doorward_core::secret::Secret::new(password.to_owned());
    let hash = world.app.passwords.hash(secret, &world.app.random).await.unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(world.account("mira").await, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
    let login = format!("{}/login", world.base);
    let fields = [("username", "mira"), ("password", password)];

    let mira = Browser::new();
    let mut seen = vec!["P".repeat(43)];
    mira.plant_cookie("localhost", "doorward-session", &seen[0]);
    for _ in 0..2 {
        assert_eq!(mira.post(&login, &fields).await.status, 303, "{}", mira.history());
        let now = mira.cookie("localhost", "doorward-session").unwrap();
        assert!(!seen.contains(&now), "the secret stayed the same");
        seen.push(now);
    }
    let good = seen.pop().unwrap();
    for old in seen {
        let thief = Browser::new();
        thief.plant_cookie("localhost", "doorward-session", &old);
        let home = thief.get(&format!("{}/", world.base)).await;
        assert!(home.location().is_some_and(|to| to.path() == "/login"), "an old secret opens a page");
    }
    // Nor does the right one when it comes twice (conformance.md V24).
    let doubled =
        [("cookie", &*format!("doorward-session={good}; doorward-session={good}")), ("accept", "text/html")];
    let home = Browser::new().request(Method::GET, &format!("{}/", world.base), &doubled, "").await;
    assert!(home.location().is_some_and(|to| to.path() == "/login"));
}

// Rule 11: a host's session counts on its own host.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_the_session_of_one_applications_host_counts_on_no_other_host() {
    let configuration = "[[app]]\nname = \"wiki\"\nhost = \"wiki.localhost:PORT\"\norganization = [\"/{org}/**\"]\n\
                         upstream = \"http://127.0.0.1:9\"\n";
    let world = World::with(Options { configuration: configuration.into(), ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let token = mira.cookie("hub.localhost", "doorward-app").unwrap();
    let thief = Browser::new();
    thief.plant_cookie("hub.localhost", "doorward-app", &token);
    assert_eq!(thief.get(&format!("{}/acme/secret", world.hub)).await.status, 200);
    thief.plant_cookie("wiki.localhost", "doorward-app", &token);
    let wiki = world.hub.replace("hub.", "wiki.");
    assert_eq!(thief.get(&format!("{wiki}/acme/secret")).await.status, 302);

    // Nor is a ticket taken on another host than its own, even by a browser that has its nonce there.
    mira.lose_cookie("hub.localhost", "doorward-app");
    let start = mira.get(&format!("{}/acme/secret", world.hub)).await.location().unwrap();
    let handover = mira.get(start.as_str()).await.location().unwrap();
    let ticket = mira.get(handover.as_str()).await.location().unwrap();
    let nonce = mira.cookie("hub.localhost", "doorward-handover").unwrap();
    mira.plant_cookie("wiki.localhost", "doorward-handover", &nonce);
    let elsewhere = ticket.as_str().replace("hub.", "wiki.");
    assert_eq!(mira.get(&elsewhere).await.code().as_deref(), Some("gate.ticket_expired"));
    assert_eq!(mira.get(ticket.as_str()).await.status, 303, "nothing was burnt: {}", mira.history());
}

// Rule 15: fail closed, and say so.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_when_the_store_is_gone_every_adapter_says_so_and_lets_nobody_in() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/acme/secret", world.hub);
    assert_eq!(mira.visit(&secret).await.status, 200);
    let app = mira.cookie("hub.localhost", "doorward-app").unwrap();
    // The store stops answering, and the lease of what is remembered runs out.
    world
        .behind_its_back("ALTER TABLE browser_session RENAME TO gone; ALTER TABLE change RENAME TO gone_too")
        .await;
    world.pass(Lifetime::from_millis(5001));

    let page = mira.get(&secret).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (503, Some("gate.store_unavailable")));
    assert!(page.header("retry-after").is_some());
    let cookie = format!("doorward-app={app}");
    let host = world.hub.strip_prefix("http://").unwrap();
    let asked = [
        ("/auth-request", vec![("x-original-method", "GET"), ("x-original-url", &*secret)]),
        (
            "/forward-auth",
            vec![
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", host),
                ("x-forwarded-uri", "/acme/secret"),
            ],
        ),
        ("/ext-authz/acme/secret", vec![("host", host)]),
    ];
    for (path, mut headers) in asked {
        headers.push(("cookie", &cookie));
        let page = Browser::new().request(Method::GET, &format!("{}{path}", world.gate), &headers, "").await;
        let status = page.header("doorward-status").map_or(page.status.as_u16(), |s| s.parse().unwrap());
        assert_eq!(status, 503, "{path}: {page:?}");
        // nginx knows 403 alone; its error page comes from us and says when to come back.
        assert!(matches!(page.status.as_u16(), 403 | 503), "{path}");
        assert!(page.status != 503 || page.header("retry-after").is_some(), "{path}");
        assert_eq!(page.header("remote-user").unwrap_or_default(), "", "{path}");
    }
    let ready = Browser::new().request(Method::GET, &format!("{}/readyz", world.base), &[], "").await;
    assert_eq!(ready.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_the_gates_listener_has_its_adapters_and_nothing_else() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let paths =
        ["/", "/healthz", "/readyz", "/metrics", "/login", "/organizations/acme/sso", "/.doorward/answer"];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let page = ada.request(method.clone(), &format!("{}{path}", world.gate), &[], "").await;
            assert_eq!(page.status, 404, "{method} {path}");
        }
    }
    // And nobody finds the adapters on the main listener.
    for path in ["/auth-request", "/forward-auth", "/ext-authz/"] {
        let url = format!("{}/acme/website", world.hub);
        let headers = [("x-original-method", "GET"), ("x-original-url", &*url)];
        let page = ada.request(Method::GET, &format!("{}{path}", world.base), &headers, "").await;
        assert_eq!(page.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_a_question_that_can_not_be_read_is_never_answered_with_leave() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    mira.visit(&format!("{}/acme/secret", world.hub)).await;
    let cookie = format!("doorward-app={}", mira.cookie("hub.localhost", "doorward-app").unwrap());
    let good = format!("{}/acme/website", world.hub);
    let other = format!("{}/acme/website", world.hub.replace("hub.", "other."));
    let https = good.replace("http://", "https://");
    let questions: Vec<Vec<(&str, &str)>> = vec![
        vec![],
        vec![("x-original-url", &good)],
        vec![("x-original-method", "GET")],
        vec![("x-original-method", "GET"), ("x-original-url", &good), ("x-original-url", &good)],
        vec![("x-original-method", "GET"), ("x-original-url", "/acme/website")],
        vec![("x-original-method", "GET"), ("x-original-url", &other)],
        vec![("x-original-method", "GET"), ("x-original-url", &https)],
        vec![("x-original-method", "BREW"), ("x-original-url", &good)],
        vec![("x-original-method", "GET"), ("x-original-url", &good), ("upgrade", "h2c")],
        vec![("x-original-method", "GET"), ("x-original-url", "http://[::1")],
    ];
    for mut headers in questions {
        headers.push(("cookie", &cookie));
        let url = format!("{}/auth-request", world.gate);
        let page = Browser::new().request(Method::GET, &url, &headers, "").await;
        assert!(matches!(page.status.as_u16(), 401 | 403), "{headers:?}: {}", page.status);
    }
}

// Rule 17: what turns the rules is passed in.

#[test]
fn rule_17_the_clock_the_generator_and_the_network_are_asked_in_one_place_each() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let one_place = [
        ("SystemTime::now", "server/src/clock.rs"),
        ("Instant::now", "server/src/clock.rs"),
        ("Timestamp::now", ""),
        ("rand::fill", "server/src/random.rs"),
        ("SystemRandom", "server/src/random.rs"),
        ("reqwest::Client::builder", "server/src/outbound.rs"),
        ("reqwest::get", ""),
        ("lookup_host", "server/src/outbound.rs"),
        ("to_socket_addrs", ""),
    ];
    let mut files = Vec::new();
    for package in ["core/src", "server/src"] {
        rust_files(&root.join(package), &mut files);
    }
    assert!(files.len() > 60, "{}", files.len());
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if ["tests.rs", "test_server.rs", "test_provider.rs"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (what, place) in one_place {
            assert!(!product.contains(what) || name == place, "{name} asks {what}");
        }
    }
}

fn rust_files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `docs/rules.md` names tests that exist, and at least one of each rule that is built.
#[test]
fn the_table_of_rules_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.parent().unwrap().join("docs/rules.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["core/src", "server/src", "server/tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let named: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end_matches(" |").rsplit_once("| `")?.1.strip_suffix('`'))
        .flat_map(|names| names.split("`, `"))
        .collect();
    assert!(named.len() > 100, "{}", named.len());
    for name in &named {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    for rule in [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 15, 16, 17, 18] {
        let carries = format!("rule_{rule}_");
        assert!(named.iter().any(|name| name.starts_with(&carries)), "no test of rule {rule}");
    }
}

// Rule 18: benign causes, calm words.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_an_old_or_lost_attempt_takes_on_whoever_is_through_already() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let old = world.returning(&mira, "acme").await;
    // In a second tab she has finished in the meantime; then she reloads a page whose attempt nobody remembers.
    let callback = world.returning(&mira, "acme").await;
    mira.get(callback.as_str()).await;
    world.behind_its_back("DELETE FROM attempt; DELETE FROM spent_attempt").await;
    for address in [&old, &callback] {
        let page = mira.get(address.as_str()).await;
        assert_eq!(page.status, 303, "{}", page.text());
    }
    // To somebody who is not through, it says what to do, without alarm.
    let second = world.browser_of("mira").await;
    second.plant_cookie(
        "localhost",
        "doorward-browser",
        &mira.cookie("localhost", "doorward-browser").unwrap(),
    );
    let page = second.get(old.as_str()).await;
    assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"));
    assert!(page.says("Start again"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_a_reload_after_a_failure_shows_the_same_reason_and_not_an_invalid_state() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.idp.misbehave_once(Misbehavior::NonceWrong);
    let callback = world.returning(&mira, "acme").await;
    let first = mira.get(callback.as_str()).await;
    let second = mira.get(callback.as_str()).await;
    assert_eq!(first.code().as_deref(), Some("oidc.nonce_mismatch"));
    assert_eq!(second.code(), first.code());
}
