//! Bad input, as people and strangers send it: each gets a clear page with a code of its own, opens nothing, and never a
//! 500 (issue 3, "Bad input"). ID tokens and provider answers that are wrong are in `provider_faults.rs`.

use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Client, ClientAuth, Endpoint, Misbehavior, Page};
use http::Method;

use crate::harness::{Options, World};

const SSO_SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";

/// What a person reads: the code, its title and what to do next, with the status of the code.
fn reads(page: &Page, code: &str) {
    let known = ErrorCode::from_code(code).unwrap_or_else(|| panic!("{code} is no code"));
    let codes = page.codes();
    let found = if codes.is_empty() { page.code().into_iter().collect() } else { codes };
    assert!(found.iter().any(|found| found == code), "{code}: {} {}", page.status, page.text());
    assert!(page.says(known.title()), "{code}: {}", page.text());
    assert!(page.says(known.remedy()), "{code}: {}", page.text());
    assert_ne!(page.status, 500);
}

/// The finding of a draft that was saved as failed: in the audit log, and on the page where the admin ends.
async fn finding(world: &World, ada: &Browser, page: Page, code: &str) {
    assert_eq!(page.status, 303, "{code}: {}", page.text());
    assert_eq!(world.state("acme").await, "test_failed", "{code}");
    let log = world.audit("acme").await;
    let failed = log.last().unwrap();
    assert_eq!(failed.details["code"], code, "{failed:?}");
    let page = ada.follow_all(page).await;
    assert_ne!(page.status, 500);
    if page.status == 200 {
        reads(&page, code);
    }
}

/// The settings form as an admin types it.
async fn save(world: &World, ada: &Browser, client: &Client, issuer: &str) -> Page {
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", issuer)];
    world.update_and_test(ada, "acme", &fields).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_can_not_be_one_is_refused_with_the_field_as_typed() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    for (issuer, code) in [
        ("", "settings.issuer_missing"),
        ("   ", "settings.issuer_missing"),
        ("our provider", "settings.issuer_not_url"),
        ("ftp://idp.example", "settings.issuer_not_url"),
        ("javascript:alert(1)", "settings.issuer_not_url"),
        ("https://", "settings.issuer_not_url"),
        ("http://idp.example/tenant", "settings.issuer_not_https"),
        ("http://127.0.0.1:1/", "settings.issuer_not_https"),
        ("https://login.microsoftonline.com/common/v2.0", "settings.issuer_multi_tenant"),
        ("https://login.microsoftonline.com/organizations/v2.0", "settings.issuer_multi_tenant"),
        ("https://login.microsoftonline.com/consumers/v2.0", "settings.issuer_multi_tenant"),
        (
            "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration",
            "settings.issuer_multi_tenant",
        ),
        ("https://gitlab.com", "settings.issuer_shared"),
        ("https://portal.azure.com/#home", "settings.issuer_wrong_page"),
    ] {
        let page = save(&world, &ada, &client, issuer).await;
        reads(&page, code);
        assert_eq!(page.status, 422, "{issuer}");
        assert_eq!(world.state("acme").await, "not_set_up", "{issuer}");
        typed_fields_stay(&page, &client, issuer);
    }
    assert_eq!(world.idp.calls(Endpoint::Discovery), 0);
}

/// What was typed is there again; the secret is not.
fn typed_fields_stay(page: &Page, client: &Client, issuer: &str) {
    assert!(!page.body.contains(client.secret()), "the secret is on the page");
    if page.has_form("/oidc") {
        let form = page.form("/oidc");
        assert_eq!(form.value("client_id"), Some(&*client.id));
        assert_eq!(form.value("issuer_url"), Some(issuer));
        assert_eq!(form.value("client_secret").unwrap_or_default(), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_5_an_address_in_a_private_network_is_saved_as_failed_and_never_called() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    for issuer in [
        "https://127.0.0.1",
        "https://10.0.0.1/tenant",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://localhost/",
        "https://idp.internal/",
    ] {
        // Twenty tests a minute are an organization's share.
        world.pass(Lifetime::from_seconds(20));
        let page = save(&world, &ada, &client, issuer).await;
        finding(&world, &ada, page, "outbound.address_refused").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_answer_as_it_should_is_explained_and_nobody_is_sent_there() {
    let world = World::with(Options { hasty: true, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    for (fault, code) in [
        (Misbehavior::DiscoveryReset, "outbound.unreachable"),
        (Misbehavior::DiscoveryNeverAnswers, "outbound.timeout"),
        (Misbehavior::DiscoverySlowDrip, "outbound.timeout"),
        (Misbehavior::DiscoveryOneGiB, "outbound.too_large"),
        (Misbehavior::DiscoveryRedirect, "outbound.redirected"),
        (Misbehavior::DiscoveryNotFound, "oidc.metadata_status"),
        (Misbehavior::DiscoveryServerError, "oidc.provider_unavailable"),
        (Misbehavior::DiscoveryNotJson, "oidc.metadata_not_json"),
        (Misbehavior::DiscoveryHtml, "oidc.metadata_not_json"),
        (Misbehavior::DiscoveryEmpty, "oidc.metadata_not_json"),
        (Misbehavior::DiscoveryIssuerOther, "oidc.issuer_mismatch"),
        (Misbehavior::DiscoveryAuthorizationEndpointMissing, "oidc.metadata_incomplete"),
        (Misbehavior::DiscoveryTokenEndpointMissing, "oidc.metadata_incomplete"),
        (Misbehavior::DiscoveryJwksUriMissing, "oidc.metadata_incomplete"),
        (Misbehavior::DiscoveryTokenEndpointNumber, "oidc.metadata_wrong"),
        (Misbehavior::DiscoveryTokenEndpointPrivate, "outbound.address_refused"),
        (Misbehavior::DiscoveryResponseTypesWithoutCode, "oidc.code_flow_unsupported"),
        (Misbehavior::DiscoveryAlgsWeakOnly, "oidc.algorithm_unsupported"),
        (Misbehavior::JwksEmpty, "oidc.keys_unusable"),
    ] {
        world.pass(Lifetime::from_minutes(6));
        world.sign_in(&ada, "ada").await;
        world.idp.misbehave(fault);
        let page = save(&world, &ada, &client, &issuer).await;
        world.idp.behave();
        finding(&world, &ada, page, code).await;
        // The secret was kept, so that nobody types it again.
        assert!(world.draft("acme").await.parse::<i64>().unwrap() > 0, "{fault:?}");
    }
    assert_eq!(world.idp.calls(Endpoint::Authorize), 0);
    world.idp.goes_down().await;
    world.pass(Lifetime::from_minutes(6));
    world.sign_in(&ada, "ada").await;
    let page = save(&world, &ada, &client, &issuer).await;
    finding(&world, &ada, page, "outbound.unreachable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_who_tests_all_the_time_waits_and_nothing_is_lost() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    for _ in 0..20 {
        save(&world, &ada, &client, "https://127.0.0.1").await;
    }
    let issuer = world.idp.issuer();
    let page = save(&world, &ada, &client, &issuer).await;
    finding(&world, &ada, page, "outbound.busy").await;
    world.pass(Lifetime::from_minutes(1));
    let page = ada.post(&world.settings("acme", "/test"), &[]).await;
    assert_eq!(page.status, 200, "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_fields_of_the_settings_form_each_have_their_code() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    let long = "x".repeat(513);
    for (field, value, code) in [
        ("client_id", "", "settings.client_id_missing"),
        ("client_id", "mira\u{e9}", "settings.client_id_invalid"),
        ("client_id", &*"x".repeat(256), "settings.client_id_invalid"),
        ("client_secret", "", "settings.client_secret_missing"),
        ("client_secret", "hunter2...", "settings.client_secret_invalid"),
        ("client_secret", "Xk8***", "settings.client_secret_invalid"),
        ("client_secret", &*long, "settings.client_secret_invalid"),
        ("scopes", "email profile", "settings.scopes_invalid"),
        ("scopes", "openid \"x\"", "settings.scopes_invalid"),
        ("client_auth_method", "private_key", "settings.choice_unknown"),
        ("userinfo", "sometimes", "settings.choice_unknown"),
        ("email_claim", "e mail", "settings.email_claim_invalid"),
        ("email_claim", &*"e".repeat(101), "settings.email_claim_invalid"),
    ] {
        let mut fields =
            vec![("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        let page = world.update_and_test(&ada, "acme", &fields).await;
        reads(&page, code);
        assert_eq!(page.status, 422, "{field} {value}");
        assert_eq!(world.state("acme").await, "not_set_up");
        assert!(!page.body.contains(client.secret()) && !page.body.contains("hunter2"));
    }
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", "one")]).await;
    reads(&page, "settings.revision_stale");
    let page =
        ada.post(&world.settings("acme", "/enable"), &[("revision", "1"), ("enforcement", "maybe")]).await;
    reads(&page, "settings.choice_unknown");
    for hours in ["", "0", "8761", "-1", "1.5", "99999999999999999999"] {
        let page = ada.post(&world.settings("acme", "/users"), &[("session_timeout_hours", hours)]).await;
        reads(&page, "settings.timeout_invalid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entras_secret_id_and_an_unknown_tenant_are_recognised() {
    let world = World::with(Options { entra: true, ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    let mut client = world.register("acme");
    let issuer = world.idp.issuer();
    let good = client.secrets.clone();
    client.secrets = vec!["0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()];
    let page = save(&world, &ada, &client, &issuer).await;
    reads(&page, "settings.client_secret_is_id");
    assert_eq!(world.state("acme").await, "not_set_up");
    client.secrets = good;
    let tenant = world.idp.tenant_id("main");
    let unknown = issuer.replace(&tenant, "00000000-0000-4000-8000-000000000000");
    assert_ne!(unknown, issuer);
    let page = save(&world, &ada, &client, &unknown).await;
    finding(&world, &ada, page, "oidc.tenant_unknown").await;
}

/// How a test of these settings ends: the code in the audit log, `ok` for a passed one.
async fn tested(world: &World, ada: &Browser, page: Page) -> String {
    assert_eq!(page.status, 200, "{}", page.text());
    ada.follow_all(page).await;
    let log = world.audit("acme").await;
    let last = log.iter().rev().find(|event| event.action == "org.settings.sso.test");
    let details = &last.unwrap_or_else(|| panic!("no test\n{}", ada.history())).details;
    details.get("code").map_or("ok".to_owned(), |code| code.as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_client_id_and_a_wrong_or_expired_secret_are_told_apart_as_far_as_the_provider_does() {
    for entra in [false, true] {
        let world = World::with(Options { entra, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let client = world.register("acme");
        let issuer = world.idp.issuer();
        world.idp.signs_in("ada");

        let mut wrong = client.clone();
        wrong.secrets = vec!["Xk8Q~wrong-secret-0123456789abcdef".to_owned()];
        let page = save(&world, &ada, &wrong, &issuer).await;
        let code = tested(&world, &ada, page).await;
        assert_eq!(code, "oidc.client_secret_wrong");
        assert_eq!(world.state("acme").await, "test_failed");

        world.idp.expire_secrets(&client.id);
        let page = save(&world, &ada, &client, &issuer).await;
        let code = tested(&world, &ada, page).await;
        assert_eq!(code == "oidc.client_secret_expired", entra, "{code}");

        // A client ID that the provider does not know never comes back from it: its page tells the person.
        let mut unknown = client.clone();
        unknown.id = "9a1f0e7c-0000-4000-8000-000000000000".to_owned();
        let page = save(&world, &ada, &unknown, &issuer).await;
        assert_eq!(page.status, 200);
        let page = ada.follow_all(page).await;
        assert_eq!(page.url.host_str(), Some("127.0.0.1"), "{}", ada.history());
        assert_eq!(world.state("acme").await, "untested");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_of_a_client_has_a_code_and_a_next_step_each() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    world.idp.signs_in("ada");
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    for (fault, code) in [
        (Misbehavior::TokenInvalidClient, "oidc.client_refused"),
        (Misbehavior::TokenInvalidGrant, "oidc.code_refused"),
        (Misbehavior::TokenUnavailable, "oidc.provider_unavailable"),
        (Misbehavior::TokenNotJson, "oidc.token_malformed"),
        (Misbehavior::TokenNoIdToken, "oidc.id_token_missing"),
        (Misbehavior::TokenRedirect, "outbound.redirected"),
        (Misbehavior::TokenReset, "outbound.unreachable"),
        (Misbehavior::CallbackCancelled, "oidc.cancelled"),
        (Misbehavior::CallbackError, "oidc.provider_unavailable"),
        (Misbehavior::CallbackLoginRequired, "oidc.provider_refused"),
    ] {
        world.pass(Lifetime::from_minutes(2));
        world.sign_in(&ada, "ada").await;
        let page = save(&world, &ada, &client, &issuer).await;
        world.idp.misbehave_once(fault);
        let got = tested(&world, &ada, page).await;
        assert_eq!(got, code, "{fault:?}");
        assert_eq!(world.state("acme").await, "test_failed", "{fault:?}");
    }
    // A client that must show its secret otherwise: the choice under Advanced.
    let strict = Client::new(
        "only-post",
        "a-secret-of-the-other-kind-0123",
        &format!("{}/organizations/acme/oidc/consume", world.base),
    )
    .demanding(ClientAuth::Post);
    world.idp.add_client(strict.clone());
    let fields = [
        ("client_id", &*strict.id),
        ("client_secret", strict.secret()),
        ("issuer_url", &*issuer),
        ("client_auth_method", "client_secret_basic"),
    ];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!(tested(&world, &ada, page).await, "oidc.client_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_who_cancels_or_is_refused_reads_why_and_can_start_again() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    for (fault, code) in [
        (Misbehavior::CallbackCancelled, "oidc.cancelled"),
        (Misbehavior::CallbackLoginRequired, "oidc.provider_refused"),
        (Misbehavior::CallbackError, "oidc.provider_unavailable"),
        (Misbehavior::CallbackErrorScript, "oidc.provider_unavailable"),
    ] {
        world.idp.misbehave_once(fault);
        let callback = world.returning(&mira, "acme").await;
        let page = mira.get(callback.as_str()).await;
        reads(&page, code);
        assert!(!page.body.contains("<script>alert"), "the provider's words are escaped");
        page.link("Start again");
        assert_eq!(world.count(SSO_SESSIONS).await, 1, "{fault:?}");
    }
    // The way that the page shows works.
    let again = mira.get(mira.get(world.returning(&mira, "acme").await.as_str()).await.url.as_str()).await;
    assert_eq!(again.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_missing_unknown_used_late_or_of_elsewhere_opens_nothing() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let consume = format!("{}/organizations/acme/oidc/consume", world.base);
    let state = "A".repeat(43);
    for (query, code) in [
        (String::new(), "oidc.response_malformed"),
        ("?code=x".to_owned(), "oidc.response_malformed"),
        (format!("?state={state}"), "oidc.response_malformed"),
        (format!("?code=x&state={state}&state={state}"), "oidc.response_malformed"),
        (format!("?code=x&code=x&state={state}"), "oidc.response_malformed"),
        (format!("?code=x&error=y&state={state}"), "oidc.response_malformed"),
        (format!("?code=x&state={}", "A".repeat(20_000)), "oidc.response_malformed"),
        ("?code=x&state=%00".to_owned(), "oidc.response_malformed"),
        (format!("?code=x&state={state}"), "sso.attempt_unknown"),
        (format!("?error=access_denied&state={state}"), "sso.attempt_unknown"),
    ] {
        let page = mira.get(&format!("{consume}{query}")).await;
        reads(&page, code);
    }
    // Used, and with another account in the browser since.
    let used = world.returning(&mira, "acme").await;
    assert_eq!(mira.get(used.as_str()).await.status, 303);
    let other = world.browser_of("eve").await;
    other.plant_cookie(
        "localhost",
        "doorward-browser",
        &mira.cookie("localhost", "doorward-browser").unwrap(),
    );
    reads(&other.get(used.as_str()).await, "sso.attempt_spent");

    // Late.
    let second = world.browser_of("mira").await;
    let late = world.returning(&second, "acme").await;
    world.pass(Lifetime::from_minutes(60));
    reads(&second.get(late.as_str()).await, "sso.attempt_expired");
    // Of another browser, of another organization.
    let third = world.browser_of("mira").await;
    let foreign = world.returning(&second, "acme").await;
    reads(&third.get(foreign.as_str()).await, "sso.attempt_unknown");
    let elsewhere = foreign.as_str().replace("/acme/", "/globex/");
    reads(&second.get(&elsewhere).await, "sso.attempt_unknown");
    assert_eq!(world.count(SSO_SESSIONS).await, 2, "ada's and mira's one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_of_another_account_or_of_nobody_here_is_explained() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    world.set_role("acme", "eve", Role::Read).await;
    let eve = world.browser_of("eve").await;
    for (person, code) in [("ada", "sso.identity_in_use"), ("mira", "sso.email_not_proved")] {
        world.idp.signs_in(person);
        let callback = world.returning(&eve, "acme").await;
        reads(&eve.visit(callback.as_str()).await, code);
    }
    world.idp.add_person(doorward_testkit::Person::new("ghost", "No Address", "x").without_mailbox());
    world.idp.signs_in("ghost");
    let callback = world.returning(&eve, "acme").await;
    reads(&eve.visit(callback.as_str()).await, "sso.email_missing");
    // Linked already, and somebody else at the provider.
    world.idp.signs_in("eve");
    let again = world.browser_of("ada").await;
    let callback = world.returning(&again, "acme").await;
    reads(&again.visit(callback.as_str()).await, "sso.account_linked_elsewhere");
    // Not a member.
    let stranger = world.browser_of("ben").await;
    let page = stranger.get(&format!("{}/organizations/acme/sso", world.base)).await;
    reads(&page, "organization.unknown");
    let removed = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let callback = world.returning(&removed, "acme").await;
    world.behind_its_back("DELETE FROM membership WHERE role = 'write'").await;
    reads(&removed.get(callback.as_str()).await, "sso.not_member");
    drop(ada);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_can_not_be_one_says_so() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let start = format!("{}/organizations/acme/sso", world.base);
    let foreign = mira.get(&format!("{start}?iss=https://other.example")).await;
    reads(&foreign, "sso.foreign_issuer");
    // conformance.md V21: no spelling leads off this site.
    for next in [
        "//e.example",
        "///e.example",
        "/\\e.example",
        "\\\\e.example",
        "/%09/e.example",
        "https:e.example",
        "https:/e.example",
        "https://e.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "/%0d%0aset-cookie:x=1",
        "//e.example@localhost",
        "http://hub.localhost.e.example/",
    ] {
        let query = form_urlencoded(next);
        let page = mira.get(&format!("{start}?next={query}")).await;
        if page.status == 400 {
            reads(&page, "gate.return_refused");
            continue;
        }
        // Taken as a path here: then it is one on this host, whatever the browser makes of it.
        let to = page.location().unwrap_or_else(|| page.url.clone());
        assert!(matches!(to.host_str(), Some("localhost" | "127.0.0.1")), "{next}: {to}");
    }
    assert_eq!(mira.fetch(&start).await.code().as_deref(), Some("sso.required"));
}

fn form_urlencoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_v27_a_form_of_a_foreign_null_or_absent_origin_is_refused_on_every_route() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    for route in doorward::web::routes().into_iter().filter(|route| route.method == "post") {
        let url = format!("{}{}", world.base, route.path.replace("{org}", "acme"));
        let own = world.base.clone();
        let twice = format!("{own}, {own}");
        let html = ("accept", "text/html");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let cases: [&[(&str, &str)]; 9] = [
            &[html, form],
            &[html, form, ("origin", "null")],
            &[html, form, ("origin", "http://evil.localhost")],
            &[html, form, ("origin", "http://localhost")],
            &[html, form, ("origin", &own.replace("http:", "https:"))],
            &[html, form, ("origin", &twice)],
            &[html, form, ("origin", "http://evil.localhost"), ("sec-fetch-site", "same-origin")],
            &[html, form, ("sec-fetch-site", "same-site")],
            &[html, ("content-type", "text/plain"), ("sec-fetch-site", "cross-site")],
        ];
        for headers in cases {
            let page = ada.request(Method::POST, &url, headers, "x=1").await;
            reads(&page, "request.foreign_origin");
            assert_eq!(page.status, 403, "{route:?} {headers:?}");
        }
        let page = ada.request(Method::POST, &url, &[("origin", "null")], "").await;
        assert_eq!(page.json().map(|problem| problem["code"].clone()), Some("request.foreign_origin".into()));
    }
    assert_eq!(world.state("acme").await, "live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_is_none_gets_our_page_and_not_the_frameworks_text() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let form = "application/x-www-form-urlencoded";
    for route in doorward::web::routes().into_iter().filter(|route| route.method == "post") {
        let url = format!("{}{}", world.base, route.path.replace("{org}", "acme"));
        let big = format!("client_id={}", "x".repeat(70_000));
        let many = "a=1&".repeat(10_000);
        // One of the routes signs out.
        world.sign_in(&ada, "ada").await;
        for (content_type, body) in [
            (form, &*big),
            ("application/json", "{\"client_id\":\"x\"}"),
            ("text/plain", "client_id=x"),
            ("multipart/form-data; boundary=x", "--x--"),
            (form, "client_id=%FF%FE&client_secret=%00&issuer_url=%ED%A0%80&session_timeout_hours=%FF"),
            (
                form,
                "client_id=1&client_id=2&revision=1&revision=2&session_timeout_hours=1&session_timeout_hours=2",
            ),
            (form, ""),
            (form, "%%%&&&===&=&%"),
            (form, &*many),
        ] {
            let headers = [("origin", &*world.base), ("accept", "text/html"), ("content-type", content_type)];
            let page = ada.request(Method::POST, &url, &headers, body).await;
            let what = format!("{route:?} {content_type} {} bytes: {}", body.len(), page.status);
            assert!(page.status.as_u16() < 500, "{what} {}", page.text());
            if page.status.is_client_error() {
                assert!(page.code().is_some(), "{what}: {}", page.body);
                assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{what}");
            }
            assert!(page.header("content-security-policy").is_some(), "{what}");
        }
    }
    // Where a form is read, each fault has its own code.
    world.sign_in(&ada, "ada").await;
    let url = world.settings("acme", "/oidc");
    let post = |content_type: &'static str, body: String| {
        let (ada, url, base) = (ada.clone(), url.clone(), world.base.clone());
        async move {
            let headers = [("origin", &*base), ("accept", "text/html"), ("content-type", content_type)];
            ada.request(Method::POST, &url, &headers, &body).await
        }
    };
    let page = post(form, format!("client_id={}", "x".repeat(70_000))).await;
    assert_eq!(page.status, 413);
    reads(&page, "request.too_large");
    for (content_type, body) in
        [("application/json", "{}"), ("text/plain", "client_id=x"), (form, "client_id=1&client_id=2")]
    {
        let page = post(content_type, body.to_owned()).await;
        reads(&page, "request.malformed");
        assert_eq!(page.status, 400, "{content_type} {body}");
    }
    // For a program it is a problem document.
    let headers = [("origin", &*world.base), ("content-type", "text/plain")];
    let page = ada.request(Method::POST, &url, &headers, "x").await;
    assert_eq!(page.header("content-type"), Some("application/problem+json"));
    assert_eq!(page.code().as_deref(), Some("request.malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_organization_page_method_or_host_is_told_calmly() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let html = [("accept", "text/html")];
    for path in ["/organizations/nonsense/sso", "/organizations/%FF/sso", "/organizations/a%2Fb/sso"] {
        let page = mira.request(Method::GET, &format!("{}{path}", world.base), &html, "").await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (404, Some("organization.unknown")),
            "{path}"
        );
    }
    for (path, code) in [
        ("/organizations/%FF/oidc/consume", "request.malformed"),
        ("/organizations/a%00/oidc/consume?code=x&state=y", "request.malformed"),
        ("/organizations/nonsense/oidc/consume?code=x&state=y", "organization.unknown"),
        ("/nonsense", "page.not_found"),
        ("/organizations/acme/settings/nonsense", "page.not_found"),
        ("/.doorward/nonsense", "page.not_found"),
        ("/.doorward/handover?host=evil.example&handover=x", "gate.return_refused"),
        ("/.doorward/handover?host=hub.localhost&handover=x", "gate.return_refused"),
    ] {
        let page = mira.request(Method::GET, &format!("{}{path}", world.base), &html, "").await;
        reads(&page, code);
    }
    let host = world.hub.strip_prefix("http://").unwrap();
    let page = mira.get(&format!("{}/.doorward/handover?host={host}&handover=x", world.base)).await;
    reads(&page, "request.malformed");
    let page = mira.request(Method::PUT, &format!("{}/organizations/acme/sso", world.base), &html, "").await;
    reads(&page, "request.method_not_allowed");
    let page = mira.get(&world.hub.replace("hub.", "other.")).await;
    reads(&page, "request.unknown_host");
    let page = mira.get(&format!("{}/.doorward/ticket?ticket=x", world.hub)).await;
    reads(&page, "gate.ticket_expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upper_and_lower_case_mean_the_same_organization_and_the_address_becomes_the_one_as_created() {
    let world = World::new().await;
    world.add_organization("FjordLine", "ada", doorward::store::Plan::Team).await;
    world.set_role("FjordLine", "mira", Role::Read).await;
    let mira = world.browser_of("mira").await;
    for typed in ["fjordline", "FJORDLINE", "fJordLine"] {
        let page = mira.get(&format!("{}/organizations/{typed}/sso?next=/x", world.base)).await;
        let to = page.location().unwrap();
        assert_eq!(to.path(), "/organizations/FjordLine/sso", "{typed}");
        assert_eq!(to.query(), Some("next=/x"));
        // The gate compares in lower case and tells the name as created.
        let page = mira.visit(&format!("{}/{typed}/page", world.hub)).await;
        assert!(page.says(&format!("/{typed}/page")), "{}", mira.history());
        assert_eq!(world.last_seen().unwrap().header("doorward-organization"), Some("FjordLine"));
    }
    // The redirect URI has one spelling alone.
    for typed in ["fjordline", "FJORDLINE"] {
        let page =
            mira.get(&format!("{}/organizations/{typed}/oidc/consume?code=x&state=y", world.base)).await;
        reads(&page, "organization.unknown");
    }
    let ada = world.browser_of("ada").await;
    let client = world.register("FjordLine");
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    let page = world.update_and_test(&ada, "fjordline", &fields).await;
    let to = page.meta_refresh().unwrap_or_else(|| panic!("{}", page.text()));
    let uri = to.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(uri, format!("{}/organizations/FjordLine/oidc/consume", world.base));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_plan_or_the_right_to_do_so_settings_stay_as_they_are() {
    let world = World::new().await;
    world.add_organization("small", "ada", doorward::store::Plan::Free).await;
    let ada = world.browser_of("ada").await;
    for rest in ["/oidc", "/test", "/enable", "/users"] {
        let page = ada.post(&world.settings("small", rest), &[("session_timeout_hours", "5")]).await;
        reads(&page, "plan.required");
    }
    for (rest, code) in [
        ("/test", "settings.not_set_up"),
        ("/enforcement", "settings.not_set_up"),
        ("/disable", "settings.nothing_to_disable"),
    ] {
        reads(&ada.post(&world.settings("acme", rest), &[]).await, code);
    }
    // An admin whose session has not completed the live SSO can't widen entry.
    world.enable_sso("acme", "ada").await;
    let bare = world.browser_of("ada").await;
    for rest in ["/disable", "/enforcement"] {
        reads(
            &bare.post(&world.settings("acme", rest), &[("enforcement", "optional")]).await,
            "settings.sso_needed",
        );
    }
    let longer = [("session_timeout_hours", "8760")];
    reads(&bare.post(&world.settings("acme", "/users"), &longer).await, "settings.sso_needed");
    // Nor can one whose login is old.
    world.pass(Lifetime::from_minutes(76));
    reads(&bare.post(&world.settings("acme", "/test"), &[]).await, "settings.fresh_sign_in_needed");
    reads(&Browser::new().post(&world.settings("acme", "/test"), &[]).await, "account.sign_in_needed");
    assert_eq!(world.state("acme").await, "live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_exist_and_a_server_without_a_certificate_are_told_apart() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let page = save(&world, &ada, &client, "https://idp.nowhere.example").await;
    finding(&world, &ada, page, "outbound.name_unknown").await;
    let https = world.idp.issuer().replace("http://", "https://");
    let page = save(&world, &ada, &client, &https).await;
    finding(&world, &ada, page, "outbound.tls").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_number_of_entra_in_an_answer_has_its_own_page() {
    let world = World::with(Options { entra: true, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    for (error, words, code) in [
        ("access_denied", "AADSTS65004: User declined to consent.", "oidc.consent_declined"),
        ("access_denied", "AADSTS65001: Nobody has consented.", "oidc.consent_missing"),
        ("access_denied", "AADSTS50105: Not assigned to a role.", "oidc.not_assigned"),
        ("invalid_scope", "", "oidc.scope_refused"),
        ("unsupported_response_type", "", "oidc.code_flow_unsupported"),
        ("access_denied", "", "oidc.cancelled"),
    ] {
        let callback = world.returning(&mira, "acme").await;
        let state = callback.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let mut answer = callback.clone();
        answer.query_pairs_mut().clear().extend_pairs([
            ("error", error),
            ("error_description", words),
            ("state", &state),
        ]);
        let page = mira.get(answer.as_str()).await;
        reads(&page, code);
        assert!(page.says(words), "the provider's own words: {}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_a_foreign_domain_and_a_wrong_acr_are_refused() {
    use doorward_testkit::Person;
    use serde_json::json;
    let world = World::with(Options { entra: true, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let person = || Person::new("mira", "Mira Holt", "mira@acme.example");
    world.idp.add_person(person().claim("acct", json!(1)));
    world.idp.signs_in("mira");
    let callback = world.returning(&mira, "acme").await;
    reads(&mira.get(callback.as_str()).await, "sso.guest_refused");

    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    world.idp.signs_in("ada");
    let with_domains = |domains: &'static str| {
        let (ada, url) = (ada.clone(), world.settings("acme", "/oidc"));
        let (id, secret, issuer) = (client.id.clone(), client.secret().to_owned(), issuer.clone());
        async move {
            let fields = [
                ("client_id", &*id),
                ("client_secret", &*secret),
                ("issuer_url", &*issuer),
                ("hosted_domains", domains),
            ];
            ada.post(&url, &fields).await
        }
    };
    reads(&with_domains("no domain!").await, "settings.hosted_domain_invalid");
    let page = with_domains("acme.example").await;
    assert_eq!(tested(&world, &ada, page).await, "oidc.hosted_domain_mismatch");
    world.idp.add_person(Person::new("ada", "Ada Admin", "ada@acme.example").claim("acr", json!(7)));
    let page = with_domains("").await;
    assert_eq!(tested(&world, &ada, page).await, "oidc.acr_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gate_can_not_pass_on_is_explained_on_a_page() {
    let configuration = "[[app]]\nname = \"wiki\"\nhost = \"wiki.localhost:PORT\"\nunowned = \"allow\"\n\
                         organization = [\"/{org}/**\"]\nupstream = \"http://127.0.0.1:9\"\n";
    let world = World::with(Options { configuration: configuration.into(), ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    let html = ("accept", "text/html");
    for path in ["/acme/..%2fglobex", "/acme/%00", "/acme//x", "/a%5cb"] {
        let page = mira.request(Method::GET, &format!("{}{path}", world.hub), &[html], "").await;
        reads(&page, "gate.ambiguous_target");
        assert_eq!(page.status, 400, "{path}");
    }
    let brew = Method::from_bytes(b"BREW").unwrap();
    let page = mira.request(brew, &format!("{}/acme/website", world.hub), &[html], "").await;
    reads(&page, "gate.method_refused");
    let page = mira.request(Method::GET, &format!("{}/.doorward/answer", world.hub), &[html], "").await;
    reads(&page, "gate.headers_malformed");
    let wiki = world.hub.replace("hub.", "wiki.");
    let page = mira.get(&format!("{wiki}/nobody/here")).await;
    reads(&page, "gate.upstream_unavailable");
    assert_eq!(page.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switched_off_account_and_a_password_that_is_no_good_are_told() {
    let world = World::new().await;
    let password = "correct horse battery 7";
    let secret = doorward_core::secret::Secret::new(password.to_owned());
    let hash = world.app.passwords.hash(secret, &world.app.random).await.unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    for name in ["mira", "eve"] {
        tx.update_password(world.account(name).await, &hash, None).await.unwrap();
    }
    tx.commit(world.app.clock.now()).await.unwrap();
    let login = format!("{}/login", world.base);
    let mira = Browser::new();
    assert_eq!(mira.post(&login, &[("username", "mira"), ("password", password)]).await.status, 303);
    let url = format!("{}/settings/account/password", world.base);
    for (new, code) in [
        ("short", "account.password_too_short"),
        (&*"x".repeat(257), "account.password_too_long"),
        ("password123", "account.password_common"),
    ] {
        let fields = [("current_password", password), ("new_password", new)];
        reads(&mira.post(&url, &fields).await, code);
    }
    world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'eve'").await;
    let page = Browser::new().post(&login, &[("username", "eve"), ("password", password)]).await;
    reads(&page, "account.disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_single_sign_on_ends_or_the_store_is_gone_or_damaged_the_page_says_so() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.returning(&mira, "acme").await;
    // Switched off by another node, whose word has not arrived yet.
    world.behind_its_back("UPDATE connection SET live = NULL").await;
    let page = mira.get(&format!("{}/organizations/acme/sso", world.base)).await;
    reads(&page, "sso.not_enabled");

    // A damaged row: the one 500 there is, with the request's id and no detail.
    world.behind_its_back("UPDATE connection SET live = 1; UPDATE revision SET metadata = '{'").await;
    let page = mira.get(&format!("{}/organizations/acme/sso", world.base)).await;
    let known = ErrorCode::ServiceInternal;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (500, Some("service.internal")));
    assert!(page.says(known.title()) && page.says(known.remedy()), "{}", page.text());
    assert!(page.says(page.header("x-request-id").unwrap()), "{}", page.text());
    assert!(!page.body.contains("metadata"), "{}", page.text());

    world
        .behind_its_back("ALTER TABLE browser_session RENAME TO gone; ALTER TABLE change RENAME TO gone_too")
        .await;
    world.pass(Lifetime::from_millis(5001));
    let page = mira.get(&format!("{}/settings/account", world.base)).await;
    assert_eq!(page.status, 503);
    reads(&page, "service.unavailable");
    assert!(page.header("retry-after").is_some());
}
