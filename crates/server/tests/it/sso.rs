//! The life of a connection, by HTTP: connect, test, enable, complete, disable (architecture.md §3, rules 1 to 4).

use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Endpoint, Misbehavior};

use crate::harness::{On, Options, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_after_enable_a_member_reaches_private_pages_only_through_single_sign_on() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        let secret = format!("{}/acme/secret", world.hub);
        assert!(
            world.visit(&mira, &secret).await.says("the application's page /acme/secret"),
            "{}",
            mira.history()
        );

        let (ada, _) = world.enable_sso("acme", "ada").await;
        assert_eq!(world.state("acme").await, "live");

        // Enforced at once, on the host session that was good a moment ago.
        world.idp.signs_in("mira");
        let sent = mira.get(&secret).await;
        assert_eq!(sent.status, 302, "{}", mira.history());
        assert!(
            sent.location().unwrap().as_str().contains("/organizations/acme/sso?next="),
            "{}",
            mira.history()
        );
        let page = world.arrive(&mira, sent).await;
        assert!(page.says("the application's page /acme/secret"), "{}", mira.history());
        let seen = world.last_seen().unwrap();
        assert_eq!(seen.header("remote-user"), Some("mira"));
        assert_eq!(seen.header("doorward-organization"), Some("acme"));
        assert_eq!(seen.header("doorward-role"), Some("write"));
        assert_eq!(seen.header("doorward-sso"), Some("complete"));

        // The admin has not enabled herself out, and the other organization is untouched (M5).
        assert!(ada.visit(&secret).await.says("the application's page /acme/secret"), "{}", ada.history());
        assert!(world.visit(&mira, &format!("{}/globex/secret", world.hub)).await.says("/globex/secret"));

        // Public pages stay open, with nobody known (M4).
        let stranger = Browser::new();
        assert!(stranger.visit(&format!("{}/acme/website", world.hub)).await.says("/acme/website"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_the_green_check_is_of_exactly_the_settings_shown() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    assert_eq!(world.state("acme").await, "not_set_up");
    let client = world.connect_and_test(&ada, "acme", "ada").await;
    assert_eq!(world.state("acme").await, "tested");

    // A changed secret turns the check grey.
    let issuer = world.idp.issuer();
    let fields = [
        ("client_id", &*client.id),
        ("client_secret", "another-secret-0123456789"),
        ("issuer_url", &*issuer),
    ];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!(world.state("acme").await, "untested");
    ada.follow_all(page).await;
    assert_eq!(world.state("acme").await, "test_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_v46_only_a_draft_that_passed_its_own_test_can_be_enabled() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    world.update_and_test(&ada, "acme", &fields).await;
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", "1")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.not_tested"));
    assert_eq!(world.state("acme").await, "untested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_test_of_before_lunch_or_of_another_admin_does_not_count_for_enable() {
    let world = World::new().await;
    world.set_role("acme", "mira", Role::Admin).await;
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let revision = world.draft("acme").await;
    let enable = |browser: Browser| {
        let (url, revision) = (world.settings("acme", "/enable"), revision.clone());
        async move { browser.post(&url, &[("revision", &revision)]).await }
    };

    let mira = world.browser_of("mira").await;
    assert_eq!(enable(mira.clone()).await.code().as_deref(), Some("settings.test_too_old"));

    world.pass(Lifetime::from_minutes(61));
    world.sign_in(&ada, "ada").await;
    assert_eq!(enable(ada.clone()).await.code().as_deref(), Some("settings.test_too_old"));

    // "Test again" needs no secret, and the second admin's own test counts for him.
    world.sign_in(&mira, "mira").await;
    world.idp.signs_in("mira");
    let page = mira.post(&world.settings("acme", "/test"), &[]).await;
    mira.follow_all(page).await;
    assert_eq!(enable(mira).await.status, 200);
    assert_eq!(world.state("acme").await, "live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_edit_never_locks_members_out() {
    let world = World::new().await;
    let (ada, client) = world.enable_sso("acme", "ada").await;
    let issuer = world.idp.issuer();
    let wrong = [
        ("client_id", &*client.id),
        ("client_secret", "wrong-secret-0123456789ab"),
        ("issuer_url", &*issuer),
    ];
    let page = world.update_and_test(&ada, "acme", &wrong).await;
    ada.follow_all(page).await;
    assert_eq!(world.state("acme").await, "live_change_pending");

    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    assert!(page.says("the application's page /acme/secret"), "{}", mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotating_a_secret_is_an_ordinary_edit_that_goes_live_at_once_and_keeps_sessions() {
    let world = World::new().await;
    let (ada, client) = world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let secret_page = format!("{}/acme/secret", world.hub);
    world.visit(&mira, &secret_page).await;

    let new_secret = world.idp.add_secret(&client.id);
    let issuer = world.idp.issuer();
    world.idp.signs_in("ada");
    let fields = [("client_id", &*client.id), ("client_secret", &*new_secret), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    ada.follow_all(page).await;
    assert_eq!(world.state("acme").await, "live");
    let calls = world.idp.calls(Endpoint::Token);
    assert!(world.visit(&mira, &secret_page).await.says("/acme/secret"));
    assert_eq!(world.idp.calls(Endpoint::Token), calls, "the session went on without another trip");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_a_stored_secret_is_kept_only_for_its_own_issuer_and_client() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.connect_and_test(&ada, "acme", "ada").await;
    let issuer = world.idp.issuer();
    let keep = |client_id: &str, issuer: &str| {
        let fields = [
            ("client_id".to_owned(), client_id.to_owned()),
            ("client_secret".to_owned(), String::new()),
            ("issuer_url".to_owned(), issuer.to_owned()),
        ];
        let (ada, url) = (ada.clone(), world.settings("acme", "/oidc"));
        async move {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
            ada.post(&url, &fields).await
        }
    };
    assert_eq!(keep(&client.id, &issuer).await.status, 200);
    let other = keep(&client.id, &world.idp.issuer_named("other")).await;
    assert_eq!(other.status, 422, "{}", other.text());
    let other = keep("another-client", &issuer).await;
    assert_eq!(other.status, 422, "{}", other.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_disable_ends_sso_sessions_and_forgets_nothing() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let page = ada.post(&world.settings("acme", "/disable"), &[]).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!(world.state("acme").await, "tested");
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session").await, 0);
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity").await, 1);
    let mira = world.browser_of("mira").await;
    assert!(world.visit(&mira, &format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_the_session_lasts_as_long_as_the_organizations_time_out_says() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let secret = format!("{}/acme/secret", world.hub);
    world.visit(&mira, &secret).await;

    world.pass(Lifetime::from_days(7).minus_a_second());
    assert_eq!(mira.get(&secret).await.status, 200);
    world.pass(Lifetime::from_seconds(1));
    assert_eq!(mira.get(&secret).await.status, 302);
    // The time-out brings the member back to where he was.
    assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
}

trait Shorter {
    fn minus_a_second(self) -> Self;
}

impl Shorter for Lifetime {
    fn minus_a_second(self) -> Self {
        Self::from_millis(self.millis() - 1000)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_b2_a_foreign_browser_redeems_nothing_and_burns_nothing() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let to_provider = world.start_sso(&mira, "acme", "/").await;
    let callback = mira.get(&to_provider).await.location().unwrap();

    let calls = world.idp.calls(Endpoint::Token);
    let eve = world.browser_of("eve").await;
    let page = eve.get(callback.as_str()).await;
    assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"));
    assert_eq!(world.idp.calls(Endpoint::Token), calls);
    // Another organization's redirect URI does not honour it either (rule 1).
    let elsewhere = callback.as_str().replace("/acme/", "/globex/");
    assert_eq!(mira.get(&elsewhere).await.code().as_deref(), Some("sso.attempt_unknown"));
    assert_eq!(world.idp.calls(Endpoint::Token), calls);

    assert_eq!(mira.get(callback.as_str()).await.status, 303, "{}", mira.history());
    assert_eq!(world.idp.calls(Endpoint::Token), calls + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_f21_a_reload_of_the_callback_takes_the_person_on_and_redeems_once() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let to_provider = world.start_sso(&mira, "acme", &format!("{}/acme/secret", world.hub)).await;
    let callback = mira.get(&to_provider).await.location().unwrap();
    let calls = world.idp.calls(Endpoint::Token);
    let first = mira.get(callback.as_str()).await;
    let second = mira.get(callback.as_str()).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (303, 303), "{}", mira.history());
    assert_eq!(first.location(), second.location());
    assert_eq!(world.idp.calls(Endpoint::Token), calls + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_two_tabs_sign_in_at_once_with_one_cookie_of_constant_size() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let mut callbacks = Vec::new();
    for _ in 0..2 {
        let to_provider = world.start_sso(&mira, "acme", "/").await;
        callbacks.push(mira.get(&to_provider).await.location().unwrap());
    }
    let ours = mira.cookies().iter().filter(|(_, name)| name == "doorward-browser").count();
    assert_eq!(ours, 1);
    for callback in callbacks {
        assert_eq!(mira.get(callback.as_str()).await.status, 303, "{}", mira.history());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_an_attempt_of_more_than_an_hour_is_calmly_started_again() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let to_provider = world.start_sso(&mira, "acme", "/").await;
    let callback = mira.get(&to_provider).await.location().unwrap();
    world.pass(Lifetime::from_minutes(60));
    let page = mira.get(callback.as_str()).await;
    assert_eq!(page.code().as_deref(), Some("sso.attempt_expired"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_what_changed_on_the_way_ends_the_attempt_without_a_session() {
    let changes = ["removed", "signed out", "disabled", "other account"];
    for change in changes {
        let world = World::new().await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let to_provider = world.start_sso(&mira, "acme", "/").await;
        let callback = mira.get(&to_provider).await.location().unwrap();
        match change {
            "removed" => world.remove_member("acme", "mira").await,
            "signed out" => mira.lose_cookie("localhost", "doorward-session"),
            "disabled" => {
                ada.post(&world.settings("acme", "/disable"), &[]).await;
            }
            _ => world.sign_in(&mira, "eve").await,
        }
        let page = mira.get(callback.as_str()).await;
        // Where no single sign-on is needed any more, the member is simply taken on (rule 18).
        let expected = match change {
            "removed" => Some("sso.attempt_unknown"),
            "disabled" => None,
            _ => Some("sso.attempt_superseded"),
        };
        assert_eq!(page.code().as_deref(), expected, "{change}: {}", page.text());
        let admins = i64::from(change != "disabled");
        assert_eq!(
            world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session").await,
            admins,
            "{change}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_the_provider_signs_nobody_in_and_its_claims_move_no_account() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    // Eve, a member now, signs in at the provider as ada: the identity is ada's.
    world.set_role("acme", "eve", Role::Read).await;
    let eve = world.browser_of("eve").await;
    world.idp.signs_in("ada");
    let page = world.visit(&eve, &format!("{}/acme/secret", world.hub)).await;
    assert_eq!(page.code().as_deref(), Some("sso.identity_in_use"), "{}", eve.history());
    // As mira, whose identity nobody has linked yet: the address is not eve's.
    world.idp.signs_in("mira");
    let page = world.visit(&eve, &format!("{}/acme/secret", world.hub)).await;
    assert_eq!(page.code().as_deref(), Some("sso.email_not_proved"), "{}", eve.history());
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity").await, 1);
    // A stranger in front of the browser is asked for his account, never signed in by the provider.
    let stranger = Browser::new();
    let page = stranger.get(&format!("{}/organizations/acme/sso", world.base)).await;
    assert!(page.location().unwrap().path().ends_with("/login"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_is_called_exactly_once_a_login_in_steady_state() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let first = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&first, &format!("{}/acme/secret", world.hub)).await;
    world.idp.forget_requests();
    let second = world.browser_of("mira").await;
    world.visit(&second, &format!("{}/acme/secret", world.hub)).await;
    let calls = [Endpoint::Token, Endpoint::Jwks, Endpoint::Discovery, Endpoint::Userinfo]
        .map(|e| world.idp.calls(e));
    assert_eq!(calls, [1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_each_step_of_the_guide_is_in_the_audit_log_without_gaps() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    world.idp.misbehave_once(Misbehavior::NonceWrong);
    let again = world.browser_of("mira").await;
    world.visit(&again, &format!("{}/acme/secret", world.hub)).await;

    let log = world.audit("acme").await;
    let actions: Vec<&str> = log.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "org.settings.sso",
            "org.settings.sso.test",
            "org.sso_link",
            "org.settings.sso.enable",
            "org.recovery.codes",
            "org.sso_link",
            "org.sso_login",
            "org.sso_login_failed",
        ]
    );
    let sequences: Vec<i64> = log.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (2..=9).collect::<Vec<_>>(), "the first made the organization");
    assert_eq!(log[7].details["code"], "oidc.nonce_mismatch");
    assert_eq!(log[6].actor_name, "mira");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_a_form_from_another_origin_changes_nothing() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let page = ada.post_from("http://evil.localhost", &world.settings("acme", "/disable"), &[]).await;
    assert_eq!(page.code().as_deref(), Some("request.foreign_origin"));
    assert_eq!(world.state("acme").await, "live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_no_admin_opens_another_organizations_settings() {
    let world = World::new().await;
    let ben = world.browser_of("ben").await;
    let foreign = ben.post(&world.settings("acme", "/disable"), &[]).await;
    let unknown = ben.post(&world.settings("nonsense", "/disable"), &[]).await;
    assert_eq!((foreign.status.as_u16(), unknown.status.as_u16()), (404, 404));
    assert_eq!(foreign.code(), unknown.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_without_mailboxes_works_when_the_claim_is_named() {
    let world = World::with(Options { entra: true, ..Options::default() }).await;
    world.idp.add_person(
        doorward_testkit::Person::new("mira", "Mira Holt", "mira@acme.example").without_mailbox(),
    );
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
    assert!(page.says("/acme/secret"), "{}", mira.history());
}
