//! Our own pages by HTTP: signing in, home, account, organizations, members, the settings page, the audit log.

use std::sync::Arc;

use doorward::store::{Plan, load_sign_in};
use doorward::web::access::Access;
use doorward::web::pages::sign_in::make_operator_link;
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page};

use crate::harness::{On, Options, World};

pub const PASSWORD: &str = "three quiet lanterns";

pub async fn give_password(world: &World, account: &str) {
    let hash = world.app.passwords.hash(Secret::new(PASSWORD.to_owned()), &world.app.random).await.unwrap();
    let id = world.account(account).await;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(id, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
}

pub async fn sign_in(world: &World, browser: &Browser, username: &str, password: &str) -> Page {
    sign_in_for(world, browser, username, password, "").await
}

async fn sign_in_for(world: &World, browser: &Browser, username: &str, password: &str, next: &str) -> Page {
    let fields = [("username", username), ("password", password), ("next", next)];
    browser.post(&format!("{}/login", world.base), &fields).await
}

fn page(world: &World, path: &str) -> String {
    format!("{}{path}", world.base)
}

fn member_form<'f>(account: &'f str, role: &'f str) -> [(&'f str, &'f str); 2] {
    [("account", account), ("role", role)]
}

async fn actions(world: &World, organization: &str) -> Vec<String> {
    world.audit(organization).await.into_iter().map(|record| record.action).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_by_name_or_proved_address_and_gets_a_new_secret_each_time() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira").await;
        give_password(&world, "ada").await;
        let browser = Browser::new();
        let first = sign_in(&world, &browser, "Mira", PASSWORD).await;
        assert_eq!(first.status, 303, "{}", first.text());
        assert!(first.location().unwrap().path().ends_with('/'));
        let secret = browser.cookie("localhost", "doorward-session").unwrap();
        assert!(browser.visit(&page(&world, "/")).await.says("Your organizations"));

        // The same account again: another secret, the same session.
        assert_eq!(sign_in(&world, &browser, "mira@acme.example", PASSWORD).await.status, 303);
        assert_ne!(browser.cookie("localhost", "doorward-session").unwrap(), secret);
        let sessions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM browser_session";
        assert_eq!(world.count(sessions).await, 1);

        // Another account: the old session is gone.
        assert_eq!(sign_in(&world, &browser, "ada", PASSWORD).await.status, 303);
        assert_eq!(world.count(sessions).await, 1);
        assert!(browser.visit(&page(&world, "/settings/account")).await.says("ada"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_keeps_the_name_and_tells_nothing_of_who_exists() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let browser = Browser::new();
    let known = sign_in(&world, &browser, "mira", "not the password").await;
    assert_eq!((known.status.as_u16(), known.code().as_deref()), (422, Some("account.wrong_password")));
    assert_eq!(known.form("/login").value("username"), Some("mira"));
    assert_eq!(known.form("/login").value("password").unwrap_or_default(), "");
    assert!(browser.cookie("localhost", "doorward-session").is_none());
    let unknown = sign_in(&world, &browser, "nobody", "not the password").await;
    assert_eq!(unknown.text(), known.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_failures_even_the_right_password_waits_a_minute() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        give_password(&world, "mira").await;
        let own = Browser::new();
        assert_eq!(sign_in(&world, &own, "mira", PASSWORD).await.status, 303);
        let guesser = Browser::new();
        for name in ["mira", "nobody"] {
            for _ in 0..5 {
                assert_eq!(sign_in(&world, &guesser, name, "a guess, a guess").await.status, 422);
            }
            let page = sign_in(&world, &guesser, name, PASSWORD).await;
            assert_eq!((page.status.as_u16(), page.code().as_deref()), (429, Some("account.throttled")));
            let wait: i64 = page.header("retry-after").unwrap().parse().unwrap();
            assert!((60..=61).contains(&wait), "{name}: {wait}");
        }
        // Strangers who guess lock nobody out: the browser that signed in before has its own budget.
        assert_eq!(sign_in(&world, &own, "mira", "a slip").await.status, 422);
        assert_eq!(sign_in(&world, &own, "mira", PASSWORD).await.status, 303);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_later_the_right_password_opens_again_and_clears_the_count() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let browser = Browser::new();
    for _ in 0..5 {
        sign_in(&world, &browser, "mira", "a guess, a guess").await;
    }
    world.pass(Lifetime::from_minutes(1));
    assert_eq!(sign_in(&world, &browser, "mira", PASSWORD).await.status, 303);
    let facts = load_sign_in(&mut world.app.store.reader(), "mira").await.unwrap().unwrap();
    assert_eq!(facts.count.failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_failures_a_minute_are_all_that_an_address_gets() {
    let world = World::new().await;
    let browser = Browser::new();
    for n in 0..20 {
        assert_eq!(sign_in(&world, &browser, &format!("name-{n}"), "a guess").await.status, 422);
    }
    assert_eq!(sign_in(&world, &browser, "name-20", "a guess").await.status, 429);
    world.pass(Lifetime::from_minutes(1));
    assert_eq!(sign_in(&world, &browser, "name-20", "a guess").await.status, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_a_sign_in_that_leads_to_an_application_answers_with_a_page_that_goes_on() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let browser = Browser::new();
    let next = format!("{}/acme/secret", world.hub);
    let page = sign_in_for(&world, &browser, "mira", PASSWORD, &next).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.meta_refresh().unwrap().as_str(), next);
    assert!(
        browser.follow_all(page).await.says("the application's page /acme/secret"),
        "{}",
        browser.history()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v20_a_refused_return_address_gives_no_session() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let browser = Browser::new();
    for next in ["https://evil.example/", "//evil.example", "/\\evil.example"] {
        let page = sign_in_for(&world, &browser, "mira", PASSWORD, next).await;
        assert_eq!(page.code().as_deref(), Some("gate.return_refused"), "{next}");
        assert!(browser.cookie("localhost", "doorward-session").is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_ends_the_session_here_and_in_the_applications() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let secret = format!("{}/acme/secret", world.hub);
    assert!(mira.visit(&secret).await.says("the application's page"));
    let asked = mira.get(&page(&world, "/logout")).await;
    assert!(asked.says("Sign out?"), "a link from elsewhere signs nobody out");
    let done = mira.submit(asked.form("/logout")).await;
    assert!(mira.follow_all(done).await.says("You are signed out."));
    assert_eq!(mira.get(&secret).await.status, 302);
    assert_eq!(mira.get(&page(&world, "/")).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_no_form_is_taken_from_another_origin() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let events = world.audit("acme").await.len();
    for route in doorward::web::routes().iter().filter(|route| route.method == "post") {
        let address = page(&world, &route.path.replace("{org}", "acme"));
        let answer = ada.post_from("http://evil.localhost", &address, &[]).await;
        assert_eq!(answer.code().as_deref(), Some("request.foreign_origin"), "{route:?}");
    }
    assert_eq!(world.audit("acme").await.len(), events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_asks_for_what_its_route_says() {
    let world = World::new().await;
    let stranger = Browser::new();
    let (eve, mira) = (world.browser_of("eve").await, world.browser_of("mira").await);
    for route in doorward::web::routes().iter().filter(|route| route.method == "get") {
        // The JSON API has no pages: tests of its own say whom it answers.
        if matches!(route.access, Access::Anyone | Access::ApiToken) {
            continue;
        }
        let address = page(&world, &route.path.replace("{org}", "acme"));
        let answer = stranger.get(&address).await;
        assert!(answer.location().is_some_and(|to| to.path() == "/login"), "{route:?}: {}", answer.status);
        if !route.path.contains("{org}") {
            continue;
        }
        // Strangers and unknown organizations get the same answer.
        let foreign = eve.get(&address).await;
        let unknown = eve.get(&page(&world, &route.path.replace("{org}", "nonsense"))).await;
        assert_eq!((foreign.status.as_u16(), unknown.status.as_u16()), (404, 404), "{route:?}");
        assert_eq!(foreign.code(), unknown.code(), "{route:?}");
        // A join that waits for its confirmation is nobody's but whoever began it.
        if !matches!(route.access, Access::Member | Access::Leaving | Access::Account) {
            assert_eq!(mira.get(&address).await.status, 404, "{route:?} is for admins");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_home_lists_the_organizations_and_asks_for_what_is_left() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let home = mira.get(&page(&world, "/")).await;
    assert!(home.says("One step is left, Mira") && home.says("globex"), "{}", home.text());
    world.idp.signs_in("mira");
    let there = mira.click(&home, "Complete SSO for acme").await;
    let back = world.arrive(&mira, there).await;
    assert!(back.says("SSO complete") && !back.says("One step is left"), "{}", mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_work_under_a_path_of_the_base_url() {
    let world = World::with(Options { base_path: "/door", ..Options::default() }).await;
    let ada = world.browser_of("ada").await;
    for path in ["", "/", "/settings/account", "/organizations/acme/settings"] {
        let page = ada.get(&page(&world, path)).await;
        assert_eq!(page.status, 200, "{path}: {}", ada.history());
        assert!(page.body.contains("href=\"/door/assets/doorward.css?v="), "{path}");
    }
    let home = ada.get(&page(&world, "/")).await;
    assert_eq!(ada.click(&home, "Settings of acme").await.status, 200);
    let asked = Browser::new().get(&page(&world, "/settings/account?x=y")).await;
    let next = asked.location().unwrap().query().unwrap().to_owned();
    assert_eq!(next, "next=%2Fdoor%2Fsettings%2Faccount%3Fx%3Dy", "the person comes back to where he was");
    let missing = ada.get(&page(&world, "/nothing")).await;
    assert_eq!((missing.status.as_u16(), missing.code().as_deref()), (404, Some("page.not_found")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_is_kept_for_ever_under_the_address_of_its_content_alone() {
    let world = World::new().await;
    let browser = Browser::new();
    let login = browser.get(&page(&world, "/login")).await;
    let at = login.body.split("href=\"").find(|rest| rest.starts_with("/assets/doorward.css")).unwrap();
    let current = browser.get(&page(&world, at.split('"').next().unwrap())).await;
    assert_eq!(current.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(current.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let old = browser.get(&page(&world, "/assets/doorward.css?v=old")).await;
    assert_eq!((old.status.as_u16(), old.header("cache-control")), (200, Some("no-cache")));
    assert_eq!(browser.get(&page(&world, "/assets/../doorward.toml")).await.status, 404);
    assert_eq!(login.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_on_an_applications_host_finds_its_style_there() {
    let world = World::new().await;
    let eve = world.browser_of("eve").await;
    let refused = eve.visit(&format!("{}/acme/secret", world.hub)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (403, Some("gate.forbidden")));
    let at = refused.body.split("href=\"").find(|rest| rest.contains("doorward.css")).unwrap();
    let style = eve.get(&format!("{}{}", world.hub, at.split('"').next().unwrap())).await;
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_changed_and_removed_and_each_deed_is_in_the_audit_log() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let members = page(&world, "/organizations/acme/settings/members");
        let added = ada.post(&members, &member_form("Eve", "read")).await;
        let shown = ada.follow_all(added).await;
        assert!(shown.says("The account is a member now.") && shown.says("Eve Else"), "{}", shown.text());

        let twice = ada.post(&members, &member_form("eve", "admin")).await;
        assert_eq!(twice.code().as_deref(), Some("membership.exists"));
        let nobody = ada.post(&members, &member_form("nobody", "read")).await;
        assert_eq!(
            (nobody.status.as_u16(), nobody.code().as_deref()),
            (422, Some("membership.account_unknown"))
        );
        assert_eq!(nobody.form("/settings/members").value("account"), Some("nobody"));
        assert_eq!(
            ada.post(&members, &member_form("ben", "boss")).await.code().as_deref(),
            Some("membership.role_unknown")
        );

        let role = format!("{members}/role");
        assert_eq!(ada.post(&role, &member_form("eve", "write")).await.status, 303);
        let remove = format!("{members}/remove");
        assert_eq!(ada.post(&remove, &[("account", "eve")]).await.status, 303);
        assert_eq!(actions(&world, "acme").await, ["org.add_user", "org.change_role", "org.remove_user"]);
        let change = &world.audit("acme").await[1];
        assert_eq!((&change.details["before"], &change.details["after"]), (&"read".into(), &"write".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_the_last_admin_can_not_be_demoted_removed_or_leave() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let members = page(&world, "/organizations/acme/settings/members");
    for (address, form) in [
        (format!("{members}/role"), &member_form("ada", "read")[..]),
        (format!("{members}/remove"), &[("account", "ada")][..]),
        (page(&world, "/organizations/acme/leave"), &[][..]),
    ] {
        let page = ada.post(&address, form).await;
        assert_eq!(page.code().as_deref(), Some("organization.last_admin"), "{address}");
    }
    assert!(actions(&world, "acme").await.is_empty());

    world.set_role("acme", "mira", Role::Admin).await;
    let left = ada.post(&page(&world, "/organizations/acme/leave"), &[]).await;
    assert!(ada.follow_all(left).await.says("You have left the organization."));
    assert_eq!(actions(&world, "acme").await, ["org.leave"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_two_admins_who_remove_each_other_at_once_leave_one_admin() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        for _ in 0..5 {
            for admin in ["ada", "mira"] {
                world.set_role("acme", admin, Role::Admin).await;
            }
            let (ada, mira) = (world.browser_of("ada").await, world.browser_of("mira").await);
            let remove = page(&world, "/organizations/acme/settings/members/remove");
            tokio::join!(
                ada.post(&remove, &[("account", "mira")]),
                mira.post(&remove, &[("account", "ada")])
            );
            let admins = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership m JOIN organization o \
                          ON o.id = m.organization_id WHERE o.name_key = 'acme' AND m.role = 'admin'";
            assert_eq!(world.count(admins).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_making_an_admin_needs_single_sign_on_and_a_fresh_login() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let members = page(&world, "/organizations/acme/settings/members");
    let role = format!("{members}/role");
    // Optional, so that settings open without it; an admin role still needs it.
    ada.post(&world.settings("acme", "/enforcement"), &[("enforcement", "optional")]).await;
    let other = world.browser_of("ada").await;
    let refused = other.post(&role, &member_form("mira", "admin")).await;
    assert_eq!(refused.code().as_deref(), Some("settings.sso_needed"));
    world.pass(Lifetime::from_hours(2));
    let stale = ada.post(&role, &member_form("mira", "admin")).await;
    assert_eq!(stale.code().as_deref(), Some("settings.fresh_sign_in_needed"));
    assert_eq!(ada.post(&role, &member_form("mira", "read")).await.status, 303, "what narrows needs neither");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_sees_the_members_and_may_leave_but_changes_nobody() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let members = page(&world, "/organizations/acme/settings/members");
    let shown = mira.get(&members).await;
    assert!(
        shown.says("Ada Admin")
            && shown.body.contains("/organizations/acme/leave\"")
            && !shown.has_form("/role"),
        "{}",
        shown.text()
    );
    assert_eq!(mira.post(&members, &member_form("eve", "read")).await.status, 404);
    // Who may see nothing of the organization sees himself alone.
    world.set_role("acme", "mira", Role::NoAccess).await;
    let shown = mira.get(&members).await;
    assert!(shown.says("Mira Holt") && !shown.says("Ada Admin"), "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_the_list_of_members_is_private_too() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    let sent = mira.get(&page(&world, "/organizations/acme/settings/members")).await;
    assert!(sent.location().unwrap().path().ends_with("/organizations/acme/sso"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_changes_its_name_its_password_and_ends_its_sessions() {
    let world = World::new().await;
    give_password(&world, "mira").await;
    let mira = world.browser_of("mira").await;
    let other = world.browser_of("mira").await;
    let account = page(&world, "/settings/account");
    mira.post(&format!("{account}/name"), &[("full_name", "Mira Novak")]).await;
    let shown = mira.get(&account).await;
    assert_eq!(shown.form("/name").value("full_name"), Some("Mira Novak"));
    assert!(shown.says("mira@acme.example") && shown.says("Proved"));

    let change = |current, new| {
        let (mira, address) = (mira.clone(), format!("{account}/password"));
        async move { mira.post(&address, &[("current_password", current), ("new_password", new)]).await }
    };
    let wrong = change("not the password", "short").await;
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.form("/password").value("current_password").unwrap_or_default(), "");
    for code in ["account.wrong_password", "account.password_too_short"] {
        assert!(wrong.codes().iter().any(|known| known == code), "{code}");
    }
    assert_eq!(change(PASSWORD, "four quiet lanterns").await.status, 303);
    assert_eq!(other.get(&account).await.status, 303, "the other session has ended");
    assert_eq!(mira.get(&account).await.status, 200);

    let other = world.browser_of("mira").await;
    mira.post(&format!("{account}/sessions/end"), &[("session", "all")]).await;
    assert_eq!(other.get(&account).await.status, 303);
    // A foreign session's id opens nothing (rule 7).
    let eve = world.browser_of("eve").await;
    let shown = mira.get(&account).await;
    let id = shown.body.split("data-session=\"").nth(1).unwrap().split('"').next().unwrap();
    eve.post(&format!("{account}/sessions/end"), &[("session", id)]).await;
    assert_eq!(mira.get(&account).await.status, 200);
    mira.post(&format!("{account}/sessions/end"), &[("session", id)]).await;
    assert_eq!(mira.get(&account).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_are_made_by_operators_unless_anyone_may() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let new = page(&world, "/organizations/new");
    assert_eq!(mira.get(&new).await.code().as_deref(), Some("organization.create_closed"));
    let fields = [("name", "umbra"), ("display_name", "Umbra")];
    assert_eq!(mira.post(&new, &fields).await.code().as_deref(), Some("organization.create_closed"));

    let open = "[organizations]\ncreate = \"anyone\"\n".to_owned();
    let world = World::with(Options { configuration: open, ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    let new = page(&world, "/organizations/new");
    for (name, code) in [
        ("acme", "organization.name_taken"),
        ("MIRA", "organization.name_taken"),
        ("a", "organization.name_invalid"),
        ("settings", "organization.name_invalid"),
        ("static", "organization.name_invalid"),
    ] {
        let page = mira.post(&new, &[("name", name), ("display_name", "X")]).await;
        assert_eq!(page.code().as_deref(), Some(code), "{name}");
        assert_eq!(page.form("/organizations/new").value("name"), Some(name));
    }
    let made = mira.post(&new, &fields).await;
    assert!(mira.follow_all(made).await.says("You are its first admin."), "{}", mira.history());
    assert_eq!(actions(&world, "umbra").await, ["org.create", "org.add_user"]);

    let general = page(&world, "/organizations/umbra/settings");
    assert_eq!(
        mira.post(&general, &[("display_name", " ")]).await.code().as_deref(),
        Some("organization.display_name_invalid")
    );
    let saved = mira.post(&general, &[("display_name", "Umbra & Sons")]).await;
    assert!(mira.follow_all(saved).await.says("Umbra & Sons"));
    // Pages redirect to the spelling as created.
    let spelled = mira.get(&page(&world, "/organizations/UMBRA/settings")).await;
    assert_eq!(spelled.location().unwrap().path(), "/organizations/umbra/settings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_operators_link_works_once() {
    let world = World::new().await;
    let link = make_operator_link(&world.app).await.unwrap().expect("a link");
    // A later start prints a new one, and the old one is over.
    let newer = make_operator_link(&world.app).await.unwrap().expect("a link");
    let browser = Browser::new();
    assert_eq!(browser.get(&link).await.code().as_deref(), Some("account.link_expired"));

    let form = browser.get(&newer).await.form("/login/first");
    let wrong = form.clone().fill("name", "operator").fill("email", "nothing").fill("password", "short");
    let wrong = browser.submit(wrong).await;
    for code in ["account.name_invalid", "account.email_invalid", "account.password_too_short"] {
        assert!(wrong.codes().iter().any(|known| known == code), "{code} in {:?}", wrong.codes());
    }
    let form = wrong.form("/login/first").fill("name", "olga").fill("email", "olga@example.com");
    let made = browser.submit(form.fill("password", PASSWORD)).await;
    let home = browser.follow_all(made).await;
    assert!(home.says("No organization yet"), "{}", browser.history());
    assert_eq!(browser.get(&page(&world, "/organizations/new")).await.status, 200, "an operator");
    assert_eq!(Browser::new().get(&newer).await.code().as_deref(), Some("account.link_expired"));
    assert!(make_operator_link(&world.app).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_s2_the_settings_page_has_the_selector_and_the_redirection_uri() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let shown = ada.get(&world.settings("acme", "")).await;
    let uri = format!("value=\"{}/organizations/acme/oidc/consume\"", world.base);
    assert!(shown.body.contains(&uri), "{}", shown.body);
    for text in ["OIDC", "SAML", "Not available yet", "Not set up", "Update and Test OIDC configuration"] {
        assert!(shown.says(text), "{text}");
    }
    assert!(!shown.has_form("/enable") && !shown.has_form("/disable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_s8_after_the_test_the_page_shows_the_check_the_claims_and_what_enable_does() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let shown = ada.get(&world.settings("acme", "")).await;
    for text in [
        "Test passed",
        "The test passed",
        "by you, in this browser",
        "This would link you",
        "2 members of acme are asked to sign in",
        "Claims received",
        "you are not locked out",
    ] {
        assert!(shown.says(text), "{text}: {}", shown.text());
    }
    let enabled = ada.submit(shown.form("/enable")).await;
    assert!(enabled.says("Keep these now: they are not shown again"), "{}", enabled.text());
    let live = ada.click(&enabled, "I have kept them").await;
    assert!(live.has_form("/disable") && live.says("1 of 2"), "{}", live.text());

    // Another admin's page says whose test it was.
    world.set_role("acme", "mira", Role::Admin).await;
    let mira = world.browser_of("mira").await;
    let shown = mira.get(&world.settings("acme", "")).await;
    assert!(
        shown.says("by ada") && shown.says("Without acme's single sign-on you can replace the client secret"),
        "{}",
        shown.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_a_mistake_in_the_form_keeps_what_was_typed_but_not_the_secret_and_shows_no_check() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    world.connect_and_test(&ada, "acme", "ada").await;
    let fields = [
        ("client_id", ""),
        ("client_secret", "a-secret-that-stays-here"),
        ("issuer_url", "http://public.example/<x>"),
        ("scopes", "profile"),
        ("client_auth_method", "client_secret_post"),
    ];
    let refused = world.update_and_test(&ada, "acme", &fields).await;
    assert_eq!(refused.status, 422);
    for code in ["settings.client_id_missing", "settings.issuer_not_https", "settings.scopes_invalid"] {
        assert!(refused.codes().iter().any(|known| known == code), "{code} in {:?}", refused.codes());
    }
    let form = refused.form("/settings/sso/oidc");
    assert_eq!(form.value("issuer_url"), Some("http://public.example/<x>"));
    assert_eq!(form.value("scopes"), Some("profile"));
    assert_eq!(form.value("client_auth_method"), Some("client_secret_post"));
    assert!(!refused.body.contains("a-secret-that-stays-here"));
    assert!(!refused.says("Test passed"));
    assert_eq!(world.state("acme").await, "tested", "nothing was saved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_test_names_the_step_the_cause_and_the_providers_own_words() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.connect_and_test(&ada, "acme", "ada").await;
    let issuer = world.idp.issuer();
    let fields = [
        ("client_id", &*client.id),
        ("client_secret", "wrong-secret-0123456789ab"),
        ("issuer_url", &*issuer),
    ];
    let sent = world.update_and_test(&ada, "acme", &fields).await;
    ada.follow_all(sent).await;
    let shown = ada.get(&world.settings("acme", "")).await;
    assert!(shown.says("The test did not pass") && shown.says("Whose move"), "{}", shown.text());
    assert!(shown.body.contains("data-step=\"token\" data-outcome=\"failed\""), "{}", shown.body);
    assert!(shown.body.contains("data-step=\"id_token\" data-outcome=\"not reached\""));
    assert!(shown.says("ends in …89ab") && !shown.body.contains("wrong-secret-0123456789ab"));
    assert!(!shown.has_form("/enable") && !shown.says("Test passed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_without_the_plan_the_page_says_what_it_would_give_and_has_no_forms() {
    let world = World::new().await;
    world.add_organization("frugal", "ada", Plan::Free).await;
    let ada = world.browser_of("ada").await;
    let shown = ada.get(&world.settings("frugal", "")).await;
    assert_eq!((shown.status.as_u16(), shown.code().as_deref()), (200, Some("plan.required")));
    assert!(!shown.has_form("/settings/sso/oidc"));
    let users = ada.get(&world.settings("frugal", "/users")).await;
    assert!(!users.has_form("/settings/sso/users"));
    for rest in ["/oidc", "/test", "/enable", "/users"] {
        let refused = ada.post(&world.settings("frugal", rest), &[]).await;
        assert_eq!(refused.code().as_deref(), Some("plan.required"), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_the_time_out_is_changed_in_hours_and_a_mistake_stays_in_the_field() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let users = world.settings("acme", "/users");
    assert_eq!(ada.get(&users).await.form("/users").value("session_timeout_hours"), Some("168"));
    for wrong in ["0", "8761", "soon", ""] {
        let page = ada.post(&users, &[("session_timeout_hours", wrong)]).await;
        assert_eq!(page.code().as_deref(), Some("settings.timeout_invalid"), "{wrong}");
        assert_eq!(page.form("/users").value("session_timeout_hours").unwrap_or_default(), wrong);
    }
    let saved = ada.post(&users, &[("session_timeout_hours", "24")]).await;
    assert!(ada.follow_all(saved).await.says("asked again after 1 day"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a3_the_audit_log_is_filtered_paged_and_downloaded_and_the_download_is_an_event() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let ada = world.browser_of("ada").await;
        let general = page(&world, "/organizations/acme/settings");
        // The first event made the organization.
        for n in 0..119 {
            ada.post(&general, &[("display_name", &format!("Acme {n}"))]).await;
        }
        ada.post(&format!("{general}/members"), &member_form("eve", "read")).await;
        let log = page(&world, "/organizations/acme/settings/audit-log");

        let filtered = ada.get(&format!("{log}?action=org.add_user")).await;
        assert!(filtered.says("eve") && !filtered.says("Acme 117"), "{}", filtered.text());
        let first = ada.get(&log).await;
        assert!(first.says("no. 121") && first.says("no. 72") && !first.says("no. 71"));
        let second = ada.click(&first, "Older entries").await;
        assert!(second.says("no. 71") && second.says("no. 22") && !second.says("no. 21"));
        assert!(ada.click(&second, "Older entries").await.says("no. 1 "), "the end");

        let download = ada.get(&format!("{log}/download")).await;
        assert_eq!(download.header("content-type"), Some("application/json"));
        assert!(download.header("content-disposition").unwrap().contains("acme-audit-log.json"));
        let mut events = download.json().unwrap();
        let end = events.as_array_mut().unwrap().pop().unwrap();
        assert_eq!(end["checkpoint"]["sequence"], 122, "{end}");
        let sequences: Vec<i64> =
            events.as_array().unwrap().iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
        assert_eq!(
            sequences,
            (1..=122).collect::<Vec<_>>(),
            "the whole log, the download's own event included"
        );
        assert_eq!(events[121]["action"], "org.audit_log.export");
        assert_eq!(events[121]["details"]["count"], "122");
        assert_eq!(events[120]["actor"]["name"], "ada");
        // Hidden from the default view, shown when asked for.
        assert!(!ada.get(&log).await.says("The audit log was downloaded"));
        assert!(
            ada.get(&format!("{log}?action=org.audit_log.export")).await.says("The audit log was downloaded")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_guesses_at_once_gain_nothing() {
    let world = Arc::new(World::new().await);
    give_password(&world, "mira").await;
    let guesses = (0..12).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { sign_in(&world, &Browser::new(), "mira", "a guess, a guess").await.status })
    });
    let mut looked_at = 0;
    for guess in guesses.collect::<Vec<_>>() {
        looked_at += usize::from(guess.await.unwrap() == 422);
    }
    assert_eq!(looked_at, 5);
}
