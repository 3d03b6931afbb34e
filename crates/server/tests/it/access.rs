//! Who may decide on whose entry: Enable's own link, joining again, an admin's leaving, external collaborators, the end of
//! an account, and the races in which two of these meet.

use std::time::{Duration, Instant};

use doorward::store::{Query as _, load_owing_sso, load_role, owes_sso};
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, FakeIdp, Page, Person, TempDir};
use http::Method;
use serde_json::json;

use crate::harness::{On, Options, SecondNode, World, fresh_store};
use crate::stolen_password::from_environment;

const PASSWORD: &str = "three quiet lanterns";

/// Below an organization.
const DOWNLOAD: &str = "/settings/audit-log/download";

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

/// Which account each of the provider's people is linked to, as `address account`.
async fn links(world: &World) -> Vec<String> {
    let sql = "SELECT i.email || ' ' || a.name_key AS line FROM identity i \
               JOIN account a ON a.id = i.account_id ORDER BY line";
    let rows = world.app.store.reader().fetch_all(sql, Vec::new()).await.unwrap();
    rows.iter().map(|row| row.text("line").unwrap()).collect()
}

async fn give_password(world: &World, account: &str) {
    let password = Secret::new(PASSWORD.to_owned());
    let hash = world.app.passwords.hash(password, &world.app.random).await.unwrap();
    let id = world.account(account).await;
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(id, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
}

async fn role(world: &World, organization: &str, account: &str) -> Option<Role> {
    let (organization, account) = (world.organization(organization).await.id, world.account(account).await);
    load_role(&mut world.app.store.reader(), organization, account).await.unwrap()
}

fn page_of(world: &World, path: &str) -> String {
    format!("{}{path}", world.base)
}

/// Makes the SSO join link of acme: its whole address.
async fn make_join_link(world: &World, admin: &Browser, fields: &[(&str, &str)]) -> String {
    let page = admin.post(&world.settings("acme", "/join-link"), fields).await;
    assert_eq!(page.status, 303, "{} {:?}", page.text(), page.code());
    let page = admin.get(&page_of(world, "/organizations/acme/settings/members")).await;
    let (_, rest) = page.body.split_once("id=\"join_url\" type=\"text\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Opens the join link and signs in at the provider as `person`: the page that asks, or why there is none.
async fn go_to_confirm(world: &World, browser: &Browser, link: &str, person: &str) -> Page {
    world.idp.signs_in(person);
    go_by_link(world, browser, link).await
}

async fn go_by_link(world: &World, browser: &Browser, link: &str) -> Page {
    let page = browser.get(link).await;
    let path = link.strip_prefix(&world.base).unwrap();
    let page = browser.submit(page.form(path)).await;
    browser.follow_all(page).await
}

// Enable.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_enable_links_the_identity_that_its_page_showed_or_nobody() {
    for on in On::all() {
        let world = world_on(on).await;
        world.idp.add_person(Person::new("ada-at-work", "Ada Admin", "ada@corp.example"));
        world.idp.add_person(Person::new("colleague", "Con Colleague", "con@corp.example"));
        let ada = world.browser_of("ada").await;
        world.connect_and_test(&ada, "acme", "ada-at-work").await;
        let shown = ada.get(&world.settings("acme", "")).await;
        assert!(shown.says("linked to Ada Admin (ada@corp.example)"), "{}", shown.text());

        // In another tab the same settings are tested once more, and somebody else is signed in at the provider now.
        world.idp.signs_in("colleague");
        let page = ada.submit(ada.get(&world.settings("acme", "")).await.form("/sso/test")).await;
        ada.follow_all(page).await;

        let page = ada.submit(shown.form("/enable")).await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (409, Some("settings.identity_changed")),
            "{}",
            page.text()
        );
        assert!(links(&world).await.is_empty(), "{:?}", links(&world).await);
        assert_eq!(world.state("acme").await, "tested", "nothing was done");

        // The answer is the page itself, with whom it would be now; whoever presses again means it.
        assert!(page.says("linked to Con Colleague (con@corp.example)"), "{}", page.text());
        assert!(page.says("Test passed"), "the settings are as good as before: {}", page.text());
        let page = ada.submit(page.form("/enable")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(links(&world).await, ["con@corp.example ada"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_enable_asks_for_the_live_single_sign_on_again_for_a_draft_that_was_tested_with_it() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let second = world.register("acme");
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*second.id), ("client_secret", second.secret()), ("issuer_url", &*issuer)];
    world.idp.signs_in("ada");
    let page = world.update_and_test(&ada, "acme", &fields).await;
    ada.follow_all(page).await;
    // A new session in the same browser: her test counts, her single sign-on does not.
    world.sign_in(&ada, "ada").await;
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", "2")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", page.text());
    assert_eq!(world.state("acme").await, "live_change_pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_enabling_another_secret_loosens_nothing_without_single_sign_on() {
    let world = World::new().await;
    let (_, client) = world.enable_sso("acme", "ada").await;
    world.set_role("acme", "mira", Role::Admin).await;
    let issuer = world.idp.issuer();
    let fields = [("client_id", &*client.id), ("client_secret", ""), ("issuer_url", &*issuer)];
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    let page = world.update_and_test(&mira, "acme", &fields).await;
    mira.follow_all(page).await;
    let enable = world.settings("acme", "/enable");
    let page = mira.post(&enable, &[("revision", "2"), ("enforcement", "optional")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", page.text());
    let page = mira.post(&enable, &[("revision", "2"), ("enforcement", "enforced")]).await;
    assert_eq!(page.status, 303, "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_an_admin_who_is_spared_single_sign_on_makes_no_other_admin_without_it() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    world.set_role("acme", "mira", Role::Admin).await;
    ada.post(&world.settings("acme", "/users/collaborators"), &[("account", "mira")]).await;
    give_password(&world, "mira").await;
    world.set_role("acme", "eve", Role::Read).await;
    let mira = world.browser_of("mira").await;
    let members = page_of(&world, "/organizations/acme/settings/members");
    assert_eq!(mira.get(&members).await.status, 200, "what she is spared");
    // Nor does her password alone change who governs.
    let leave = page_of(&world, "/organizations/acme/leave");
    for (url, fields) in [
        (format!("{members}/remove"), &[("account", "ada")][..]),
        (format!("{members}/role"), &[("account", "ada"), ("role", "read")]),
        (members.clone(), &[("account", "ben"), ("role", "read")]),
        (leave, &[]),
    ] {
        let page = mira.post(&url, fields).await;
        assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{url}: {}", page.text());
    }
    let delete = page_of(&world, "/settings/account/delete");
    let page = mira.post(&delete, &[("current_password", PASSWORD)]).await;
    assert!(page.codes().contains(&"settings.sso_needed".to_owned()), "{}", page.text());
    assert_eq!(role(&world, "acme", "ada").await, Some(Role::Admin));
    for (url, fields) in [
        (members.clone(), [("account", "ben"), ("role", "admin")]),
        (format!("{members}/role"), [("account", "eve"), ("role", "admin")]),
    ] {
        let page = mira.post(&url, &fields).await;
        assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{url}: {}", page.text());
    }
    assert_eq!(
        (role(&world, "acme", "ben").await, role(&world, "acme", "eve").await),
        (None, Some(Role::Read))
    );
}

/// Each form of an admin's, sent by one whom the pages still know as admin: as another node for half a second, and as
/// this one for a form that waits for the organization's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_v45_who_is_no_admin_any_more_when_his_turn_comes_does_nothing() {
    for on in On::all() {
        for (ended, code) in [
            (
                "DELETE FROM membership WHERE account_id IN (SELECT id FROM account WHERE name_key = 'ada')",
                "organization.unknown",
            ),
            (
                "UPDATE membership SET role = 'write' WHERE account_id IN (SELECT id FROM account WHERE name_key = 'ada')",
                "organization.unknown",
            ),
            (
                "DELETE FROM browser_session WHERE account_id IN (SELECT id FROM account WHERE name_key = 'ada')",
                "account.sign_in_needed",
            ),
        ] {
            let world = world_on(on).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            world.set_role("acme", "mira", Role::Admin).await;
            let organization = page_of(&world, "/organizations/acme");
            assert_eq!(ada.get(&format!("{organization}/settings")).await.status, 200);
            world.behind_its_back(ended).await;
            let before = world.audit("acme").await.len();
            let forms: &[(&str, &[(&str, &str)])] = &[
                ("/settings", &[("display_name", "Mine")]),
                ("/settings/members", &[("account", "ben"), ("role", "admin")]),
                ("/settings/members", &[("account", "ada"), ("role", "admin")]),
                ("/settings/members/role", &[("account", "ada"), ("role", "admin")]),
                ("/settings/members/remove", &[("account", "mira")]),
                ("/settings/members/links/remove", &[("account", "ada")]),
                ("/settings/tokens", &[("days", "3")]),
                ("/settings/sso/enforcement", &[("enforcement", "optional")]),
                ("/settings/sso/users", &[("session_timeout_hours", "8760")]),
                ("/settings/sso/users/guests", &[("guests_may_link", "yes")]),
                ("/settings/sso/users/collaborators", &[("account", "mira")]),
                ("/settings/sso/join-link", &[("role", "read")]),
                ("/settings/sso/recovery-codes", &[]),
                ("/settings/sso/disable", &[]),
            ];
            for (path, fields) in forms {
                let page = ada.post(&format!("{organization}{path}"), fields).await;
                assert_eq!(page.code().as_deref(), Some(code), "{path} on {on:?}: {}", page.text());
            }
            // No form, but a deed all the same: it is written down in his name.
            let page = ada.get(&format!("{organization}{DOWNLOAD}")).await;
            assert_eq!(page.code().as_deref(), Some(code), "{on:?}: {}", page.text());
            assert_eq!(world.audit("acme").await.len(), before, "{on:?}");
            assert_eq!(world.state("acme").await, "live");
        }
    }
}

/// Each form of an admin's, sent by one whose single sign-on the pages still know: as another node for half a second, and
/// as this one for a form that waits for the organization's lock. What a fresh login may do, he may do still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_v45_whose_single_sign_on_is_over_when_his_turn_comes_widens_nothing() {
    for on in On::all() {
        for ended in [
            "DELETE FROM sso_session",
            // As another live issuer, or Disable and Enable, leave it.
            "UPDATE connection SET epoch = epoch + 1",
            "UPDATE sso_session SET authenticated_at = authenticated_at - 999999999999",
        ] {
            let world = world_on(on).await;
            let (ada, client) = world.enable_sso("acme", "ada").await;
            world.set_role("acme", "mira", Role::Admin).await;
            // A draft of hers waits, of which only whoever may widen entry makes something.
            let other = world.register("acme");
            let issuer = world.idp.issuer();
            let settings = |client: &str, secret: &str| {
                [("client_id", client), ("client_secret", secret), ("issuer_url", &*issuer)]
                    .map(|(name, value)| (name, value.to_owned()))
            };
            let save = async |client: &str, secret: &str| {
                let fields = settings(client, secret);
                let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
                world.update_and_test(&ada, "acme", &fields).await
            };
            let page = save(&other.id, other.secret()).await;
            ada.follow_all(page).await;
            let organization = page_of(&world, "/organizations/acme");
            let page = ada.get(&format!("{organization}/settings/sso")).await;
            assert!(page.has_form("/enable"), "{}", page.text());
            world.behind_its_back(ended).await;
            let before = world.audit("acme").await.len();
            let forms: &[(&str, &[(&str, &str)])] = &[
                ("/leave", &[]),
                ("/settings", &[("display_name", "Mine")]),
                ("/settings/members", &[("account", "ben"), ("role", "admin")]),
                ("/settings/members", &[("account", "ben"), ("role", "read")]),
                ("/settings/members/role", &[("account", "mira"), ("role", "read")]),
                ("/settings/members/remove", &[("account", "mira")]),
                ("/settings/members/invitations", &[("role", "read")]),
                ("/settings/members/links/remove", &[("account", "ada")]),
                ("/settings/tokens", &[("days", "3")]),
                ("/settings/sso/enforcement", &[("enforcement", "optional")]),
                ("/settings/sso/enable", &[("revision", "2")]),
                ("/settings/sso/users", &[("session_timeout_hours", "8760")]),
                ("/settings/sso/users/guests", &[("guests_may_link", "yes")]),
                ("/settings/sso/users/collaborators", &[("account", "mira")]),
                ("/settings/sso/users/collaborators/remove", &[("account", "mira")]),
                ("/settings/sso/join-link", &[("role", "read")]),
                ("/settings/sso/join-link/off", &[]),
                ("/settings/sso/recovery-codes", &[]),
                ("/settings/sso/disable", &[]),
            ];
            for (path, fields) in forms {
                let page = ada.post(&format!("{organization}{path}"), fields).await;
                assert_eq!(
                    page.code().as_deref(),
                    Some("settings.sso_needed"),
                    "{path} on {on:?} after {ended}: {}",
                    page.text()
                );
                assert!(!page.says("Mira Holt"), "{path}: its page is not hers any more: {}", page.text());
            }
            let page = ada.get(&format!("{organization}{DOWNLOAD}")).await;
            assert_eq!(
                page.code().as_deref(),
                Some("settings.sso_needed"),
                "{on:?}, {ended}: {}",
                page.text()
            );
            let page = save(&other.id, other.secret()).await;
            assert_eq!(page.code().as_deref(), Some("settings.secret_only"), "{on:?}: {}", page.text());
            assert_eq!(world.audit("acme").await.len(), before, "{on:?}");
            let secret = world.idp.add_secret(&client.id);
            assert_eq!(save(&client.id, &secret).await.status, 200, "a dead secret is replaced: {ended}");
            assert_eq!(world.draft("acme").await, "3");
        }
    }
}

/// Reading asks for less than a form: single sign-on where it is enforced, of whoever is not spared it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_who_reads_the_audit_log_without_single_sign_on_downloads_it_too() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        world.set_role("acme", "mira", Role::Admin).await;
        let download = page_of(&world, &format!("/organizations/acme{DOWNLOAD}"));
        let mira = world.browser_of("mira").await;
        assert!(mira.get(&download).await.location().unwrap().path().ends_with("/sso"), "{}", mira.history());
        let page = ada.post(&world.settings("acme", "/users/collaborators"), &[("account", "mira")]).await;
        assert_eq!(page.status, 303, "{}", page.text());
        assert!(mira.get(&download).await.says("org.create"), "spared: {}", mira.history());
        ada.post(&world.settings("acme", "/users/collaborators/remove"), &[("account", "mira")]).await;
        ada.post(&world.settings("acme", "/enforcement"), &[("enforcement", "optional")]).await;
        assert!(mira.get(&download).await.says("org.create"), "optional: {}", mira.history());
    }
}

/// The same with a recovery code, which the store is asked for with each form: it ends between the form's admission and its
/// turn, under the lock that the form waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_v45_whose_recovery_code_is_over_when_his_turn_comes_widens_nothing() {
    for on in On::all() {
        for is_over in [false, true] {
            let world = world_on(on).await;
            world.enable_sso("acme", "ada").await;
            world.set_role("acme", "mira", Role::Admin).await;
            let ada = world.browser_of("ada").await;
            let organization = world.organization("acme").await.id;
            let now = world.app.clock.now();
            // An admission asks the store for nothing but the code, once its caches are warm.
            let remove = page_of(&world, "/organizations/acme/settings/members/remove");
            ada.post(&remove, &[("account", "mira")]).await;
            let asked = world.app.store.statements_asked();
            let page = ada.post(&remove, &[("account", "mira")]).await;
            assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{}", page.text());
            assert_eq!(world.app.store.statements_asked(), asked + 1);
            world
                .behind_its_back(
                    "INSERT INTO recovery (session_id, organization_id, expires_at) \
                     SELECT b.id, o.id, 9000000000000 FROM browser_session b, organization o \
                     WHERE o.name_key = 'acme'",
                )
                .await;
            let mut tx = world.app.store.begin().await.unwrap();
            tx.lock_organization(organization).await.unwrap();
            let asked = world.app.store.statements_asked();
            let form = tokio::spawn(async move { ada.post(&remove, &[("account", "mira")]).await });
            // Admitted before its body and after it, it looks for mira, and then it waits.
            while world.app.store.statements_asked() < asked + 3 {
                tokio::task::yield_now().await;
            }
            if is_over {
                tx.replace_recovery_codes(organization, &[], None, now).await.unwrap();
            }
            tx.commit(now).await.unwrap();
            let page = form.await.unwrap();
            let found = (page.code(), role(&world, "acme", "mira").await);
            let expected = if is_over {
                (Some("settings.sso_needed".to_owned()), Some(Role::Admin))
            } else {
                (None, None)
            };
            assert_eq!(found, expected, "{on:?}: {}", page.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_whom_no_provider_may_know_is_not_the_other_admin_while_sso_is_live() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "ada").await;
        world.set_role("acme", "mira", Role::Admin).await;
        world.behind_its_back("UPDATE membership SET external_collaborator = 1 WHERE account_id IN (SELECT id FROM account WHERE name_key = 'mira')").await;
        let ada = world.browser_of("ada").await;
        world.connect_and_test(&ada, "acme", "ada").await;
        // What was made before Enable is told there.
        let page = ada.get(&world.settings("acme", "")).await;
        assert!(page.body.contains("data-spared=\"1\""), "{}", page.text());
        let revision = world.draft("acme").await;
        ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
        assert_eq!(world.state("acme").await, "live", "{}", ada.history());

        let page = ada.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(page.code().as_deref(), Some("organization.last_admin"), "{}", page.text());
        let page = ada.get(&page_of(&world, "/settings/account/delete")).await;
        assert!(page.says("You are its last admin"), "{}", page.text());
        let (code, _, errors) = world.operate("org member remove acme ada").await;
        assert!(code == 1, "{errors}");
        ada.post(&world.settings("acme", "/disable"), &[]).await;
        let page = ada.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(page.status, 303, "without SSO she governs as anybody: {}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_without_a_password_is_no_other_admin() {
    for on in On::all() {
        let world = world_on(on).await;
        world.set_role("acme", "mira", Role::Admin).await;
        world.behind_its_back("UPDATE account SET password_hash = NULL WHERE name_key = 'mira'").await;
        let ada = world.browser_of("ada").await;
        let page = ada.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(page.code().as_deref(), Some("organization.last_admin"), "{}", page.text());
        let page = ada.get(&page_of(&world, "/settings/account/delete")).await;
        assert!(page.says("You are its last admin"), "{}", page.text());
        let (code, _, errors) = world.operate("org member remove acme ada").await;
        assert!(code == 1 && errors.starts_with("error[organization.last_admin]"), "{errors}");

        world.behind_its_back("UPDATE account SET password_hash = 'one' WHERE name_key = 'mira'").await;
        let page = ada.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(page.status, 303, "{}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_single_sign_on_is_owed_alike_whether_one_organization_is_asked_about_or_all() {
    for on in On::all() {
        let world = world_on(on).await;
        world.enable_sso("acme", "ada").await;
        let (ada, acme) = (world.account("ada").await, world.organization("acme").await.id);
        let now = world.app.clock.now();
        let session = world.app.store.account_facts(ada, now).await.unwrap().unwrap().sessions[0].id;
        let another = doorward_core::ids::SessionId::new(1, [7; 10]);
        // What is changed behind its back, the session that is asked about, and whether single sign-on is owed then.
        for (change, session, owed) in [
            ("SELECT 1", Some(session), false),
            ("SELECT 1", Some(another), true),
            ("SELECT 1", None, true),
            ("UPDATE connection SET epoch = epoch + 1", Some(session), true),
            ("UPDATE connection SET epoch = epoch - 1", Some(session), false),
            ("UPDATE sso_session SET authenticated_at = 0", Some(session), true),
            (
                "INSERT INTO recovery (session_id, organization_id, expires_at) \
                 SELECT id, (SELECT id FROM organization WHERE name_key = 'globex'), 9000000000000 FROM browser_session",
                Some(session),
                true,
            ),
            (
                "UPDATE recovery SET organization_id = (SELECT id FROM organization WHERE name_key = 'acme')",
                Some(session),
                false,
            ),
            ("SELECT 1", Some(another), true),
            ("UPDATE recovery SET expires_at = 1768467600000", Some(session), true),
            ("UPDATE recovery SET expires_at = 1768467600001", Some(session), false),
            ("DELETE FROM recovery", Some(session), true),
            ("UPDATE connection SET live = NULL", Some(session), false),
        ] {
            world.behind_its_back(change).await;
            let mut reader = world.app.store.reader();
            let one = owes_sso(&mut reader, acme, session, now).await.unwrap();
            let all = load_owing_sso(&mut reader, ada, session, now).await.unwrap();
            assert_eq!((one, all.contains(&acme)), (owed, owed), "{on:?} {change}");
        }
        world.behind_its_back("UPDATE connection SET live = draft").await;
        world.behind_its_back("UPDATE membership SET role = 'write'").await;
        let all = load_owing_sso(&mut world.app.store.reader(), ada, None, now).await.unwrap();
        assert!(all.is_empty(), "{on:?}: whoever governs nothing owes nothing");
    }
}

// Joining again (ADR 0036).

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_a_question_to_the_admins_is_not_answered_by_leaving_and_joining_again() {
    for on in On::all() {
        for answer in ["nobody asked", "waiting", "refused", "unlinked"] {
            let world = world_on(on).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            let link = make_join_link(&world, &ada, &[("role", "write")]).await;
            world.idp.add_person(Person::new("corp", "Somebody Else", "somebody@corp.example"));
            let members = page_of(&world, "/organizations/acme/settings/members");
            let mira = world.browser_of("mira").await;
            let secret = format!("{}/acme/secret", world.hub);
            if answer == "unlinked" {
                world.idp.add_person(Person::new("corp", "Somebody Else", "mira@acme.example"));
                world.idp.signs_in("corp");
                assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
                ada.post(&format!("{members}/links/remove"), &[("account", "mira")]).await;
                world.idp.add_person(Person::new("corp", "Somebody Else", "somebody@corp.example"));
            } else {
                world.idp.signs_in("corp");
                let page = world.visit(&mira, &secret).await;
                assert_eq!(page.code().as_deref(), Some("sso.email_not_proved"), "{}", mira.history());
                if answer != "nobody asked" {
                    mira.submit(page.form("/sso/link")).await;
                }
                if answer == "refused" {
                    ada.submit(ada.get(&members).await.form("/links/refuse")).await;
                }
            }
            let page = mira.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
            assert_eq!(page.status, 303, "{answer}: {}", page.text());

            let page = go_to_confirm(&world, &mira, &link, "corp").await;
            assert_eq!(
                (page.status.as_u16(), page.code().as_deref()),
                (403, Some("join.link_in_question")),
                "{answer}: {}",
                page.text()
            );
            assert_eq!(links(&world).await, ["ada@acme.example ada"], "{answer}");
            assert_eq!(role(&world, "acme", "mira").await, None, "{answer}");

            // An account of which nothing was asked joins as the provider names it: that is what the link is for.
            let eve = world.browser_of("eve").await;
            let page = go_to_confirm(&world, &eve, &link, "corp").await;
            eve.submit(page.form("/join")).await;
            assert_eq!(
                links(&world).await,
                ["ada@acme.example ada", "somebody@corp.example eve"],
                "{answer}"
            );

            // The way out: added by an admin, asked, approved. Afterwards it is no question any more.
            world.idp.add_person(Person::new("own", "Mira Holt", "m.holt@corp.example"));
            ada.post(&members, &[("account", "mira"), ("role", "write")]).await;
            world.idp.signs_in("own");
            let page = world.visit(&mira, &secret).await;
            mira.submit(page.form("/sso/link")).await;
            ada.submit(ada.get(&members).await.form("/links/approve")).await;
            assert_eq!(
                links(&world).await,
                ["ada@acme.example ada", "m.holt@corp.example mira", "somebody@corp.example eve"],
                "{answer}"
            );
            let questions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM link_question";
            assert_eq!(world.count(questions).await, 0, "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_a_question_that_comes_up_while_the_confirmation_waits_is_read_again() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let link = make_join_link(&world, &ada, &[("role", "write")]).await;
    world.idp.add_person(Person::new("corp", "Somebody Else", "somebody@corp.example"));
    let eve = world.browser_of("eve").await;
    let page = go_to_confirm(&world, &eve, &link, "corp").await;
    assert!(page.has_form("/join"), "{}", page.text());
    let organization = world.organization("acme").await.id;
    let mut reader = world.app.store.reader();
    let connection = doorward::store::load_connection(&mut reader, organization).await.unwrap().unwrap().id;
    drop(reader);
    let (account, now) = (world.account("eve").await, world.app.clock.now());
    let mut tx = world.app.store.begin().await.unwrap();
    tx.put_link_question(connection, &world.idp.issuer(), account, now).await.unwrap();
    tx.commit(now).await.unwrap();
    let page = eve.submit(page.form("/join")).await;
    assert_eq!(page.code().as_deref(), Some("join.link_in_question"), "{}", page.text());
    assert_eq!(role(&world, "acme", "eve").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_a_member_who_was_never_linked_does_not_link_himself_by_leaving_and_joining() {
    for on in On::all() {
        for end in ["leaves", "is removed", "is removed by the operator"] {
            let world = world_on(on).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            let link = make_join_link(&world, &ada, &[("role", "write")]).await;
            world.idp.add_person(Person::new("thief", "Tom Thief", "tom@corp.example"));
            // Whoever has mira's password has not gone to the provider even once.
            let thief = world.browser_of("mira").await;
            match end {
                "leaves" => {
                    let page = thief.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
                    assert_eq!(page.status, 303, "{}", page.text());
                }
                "is removed" => {
                    let remove = page_of(&world, "/organizations/acme/settings/members/remove");
                    let page = ada.post(&remove, &[("account", "mira")]).await;
                    assert_eq!(page.status, 303, "{}", page.text());
                }
                _ => drop(world.good_command("org member remove acme mira").await),
            }
            let page = go_to_confirm(&world, &thief, &link, "thief").await;
            assert_eq!(page.code().as_deref(), Some("join.link_in_question"), "{end}: {}", page.text());
            assert_eq!(links(&world).await, ["ada@acme.example ada"], "{end}");
            assert_eq!(role(&world, "acme", "mira").await, None, "{end}");

            // Her proved address answers it, as at any sign-in.
            let page = go_to_confirm(&world, &thief, &link, "mira").await;
            thief.submit(page.form("/join")).await;
            assert_eq!(links(&world).await, ["ada@acme.example ada", "mira@acme.example mira"], "{end}");

            // Once it is answered, leaving asks nothing.
            world.remove_member("acme", "mira").await;
            let questions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM link_question";
            assert_eq!(world.count(questions).await, 0, "{end}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_a_change_of_provider_makes_no_former_member_a_stranger_who_links_himself() {
    for on in On::all() {
        for before in ["was linked", "was in question"] {
            let world = World::with(Options { on, second_provider: true, ..Options::default() }).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            let (old, new) = (&world.idp, world.second_idp());
            let mira = world.browser_of("mira").await;
            old.add_person(Person::new("corp", "Somebody Else", "somebody@corp.example"));
            old.signs_in(if before == "was in question" { "corp" } else { "mira" });
            world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
            world.remove_member("acme", "mira").await;

            // Another provider, which is enabled by the page as the first one was.
            for (name, address) in [("ada", "ada@acme.example"), ("tom", "tom@corp.example")] {
                new.add_person(Person::new(name, name, address));
            }
            new.signs_in("ada");
            let client = new.new_client(&page_of(&world, "/organizations/acme/oidc/consume"));
            let issuer = new.issuer();
            let fields =
                [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
            let page = world.update_and_test(&ada, "acme", &fields).await;
            ada.follow_all(page).await;
            let revision = world.draft("acme").await;
            ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
            assert_eq!(world.state("acme").await, "live", "{}", ada.history());
            let link = make_join_link(&world, &ada, &[("role", "write")]).await;

            // Whoever has mira's password, and an account of his own at the new provider.
            let thief = world.browser_of("mira").await;
            new.signs_in("tom");
            let page = go_by_link(&world, &thief, &link).await;
            assert_eq!(page.code().as_deref(), Some("join.link_in_question"), "{before}: {}", page.text());
            assert_eq!(role(&world, "acme", "mira").await, None, "{before}");

            // Her proved address answers it, at whichever issuer it was asked.
            new.add_person(Person::new("mira", "Mira Holt", "mira@acme.example"));
            new.signs_in("mira");
            let page = go_by_link(&world, &thief, &link).await;
            thief.submit(page.form("/join")).await;
            assert_eq!(
                role(&world, "acme", "mira").await,
                Some(Role::Write),
                "{before}: {}",
                thief.history()
            );
            let questions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM link_question";
            assert_eq!(world.count(questions).await, 0, "{before}");
        }
    }
}

/// Connects acme to this provider and enables it, whatever there was before.
async fn enable_at(world: &World, idp: &FakeIdp, ada: &Browser) {
    let client = idp.new_client(&page_of(world, "/organizations/acme/oidc/consume"));
    idp.signs_in("ada");
    let issuer = idp.issuer();
    let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
    let page = world.update_and_test(ada, "acme", &fields).await;
    ada.follow_all(page).await;
    let revision = world.draft("acme").await;
    ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
    assert_eq!(world.state("acme").await, "live", "{}", ada.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_nor_by_leaving_before_single_sign_on_is_live_whatever_there_is_of_it() {
    for on in On::all() {
        for before in ["nothing", "a draft", "switched off", "another provider"] {
            let world = World::with(Options { on, second_provider: true, ..Options::default() }).await;
            let idp = if before == "another provider" { world.second_idp() } else { &world.idp };
            for name in ["ada", "mira"] {
                world.second_idp().add_person(Person::new(name, name, &format!("{name}@acme.example")));
            }
            for idp in [&world.idp, world.second_idp()] {
                idp.add_person(Person::new("thief", "Tom Thief", "tom@corp.example"));
            }
            let ada = world.browser_of("ada").await;
            let thief = world.browser_of("mira").await;
            match before {
                "nothing" => {}
                "a draft" => drop(world.connect_and_test(&ada, "acme", "ada").await),
                _ => {
                    enable_at(&world, &world.idp, &ada).await;
                    if before == "another provider" {
                        // There she was linked, which says nothing of whom the next one names.
                        let mira = world.browser_of("mira").await;
                        world.idp.signs_in("mira");
                        world.visit(&mira, &page_of(&world, "/organizations/acme/sso")).await;
                        assert_eq!(links(&world).await, ["ada@acme.example ada", "mira@acme.example mira"]);
                    }
                    ada.post(&world.settings("acme", "/disable"), &[]).await;
                    assert_ne!(world.state("acme").await, "live");
                }
            }
            let page = thief.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
            assert_eq!(page.status, 303, "{}", page.text());

            enable_at(&world, idp, &ada).await;
            let link = make_join_link(&world, &ada, &[("role", "write")]).await;
            let known = links(&world).await;
            idp.signs_in("thief");
            let page = go_to_confirm(&world, &thief, &link, "thief").await;
            assert_eq!(page.code().as_deref(), Some("join.link_in_question"), "{before}: {}", page.text());
            assert_eq!((links(&world).await, role(&world, "acme", "mira").await), (known, None), "{before}");

            // Her proved address answers it; once it is answered, she comes back by the link as who she is.
            for address in ["mira@acme.example", "m.holt@corp.example"] {
                idp.add_person(Person::new("mira", "Mira Holt", address));
                idp.signs_in("mira");
                let page = go_to_confirm(&world, &thief, &link, "mira").await;
                thief.submit(page.form("/join")).await;
                assert_eq!(
                    role(&world, "acme", "mira").await,
                    Some(Role::Write),
                    "{before}: {}",
                    thief.history()
                );
                world.remove_member("acme", "mira").await;
            }
        }
    }
}

// An admin's leaving (ADR 0037).

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_password_alone_makes_no_admin_leave_and_takes_nothing_that_he_made() {
    for on in On::all() {
        for enforcement in ["enforced", "optional"] {
            let world = world_on(on).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            world.set_role("acme", "ben", Role::Admin).await;
            let link = make_join_link(&world, &ada, &[("role", "write")]).await;
            ada.post(&world.settings("acme", "/enforcement"), &[("enforcement", enforcement)]).await;
            let leave = page_of(&world, "/organizations/acme/leave");
            let thief = world.browser_of("ada").await;
            let page = thief.post(&leave, &[]).await;
            assert_eq!(page.code().as_deref(), Some("settings.sso_needed"), "{enforcement}: {}", page.text());
            assert_eq!(role(&world, "acme", "ada").await, Some(Role::Admin));
            assert_eq!(Browser::new().get(&link).await.status, 200, "her link goes on");
            // A member who governs nothing goes as he likes.
            let mira = world.browser_of("mira").await;
            assert_eq!(mira.post(&leave, &[]).await.status, 303);
            // And she herself.
            assert_eq!(ada.get(&leave).await.status, 200);
            assert_eq!(ada.post(&leave, &[]).await.status, 303);
            assert_eq!(role(&world, "acme", "ada").await, None);
        }
    }
}

// Accounts on the way.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_a_link_makes_no_more_accounts_than_it_lets_in() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        let invitations = page_of(&world, "/organizations/acme/settings/members/invitations");
        let page = ada.post(&invitations, &[("role", "read"), ("uses", "2")]).await;
        let (_, rest) = page.body.split_once("id=\"invitation_url\" type=\"text\" value=\"").unwrap();
        let invitation = rest.split('"').next().unwrap().to_owned();
        let sign_up = async |link: &str, name: &str| {
            let next = link.strip_prefix(&world.base).unwrap();
            let fields =
                [("next", next), ("name", name), ("password", PASSWORD), ("password_again", PASSWORD)];
            Browser::new().post(&page_of(&world, "/join"), &fields).await
        };
        assert_eq!(sign_up(&invitation, "nora-1").await.status, 303);
        // A name that is taken uses none of them up.
        assert_eq!(sign_up(&invitation, "nora-1").await.code().as_deref(), Some("account.name_taken"));
        assert_eq!(sign_up(&invitation, "nora-2").await.status, 303);
        let page = sign_up(&invitation, "nora-3").await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (410, Some("join.sign_ups_used")),
            "{}",
            page.text()
        );
        // The link itself works on: for those accounts, and for others that were there.
        let eve = world.browser_of("eve").await;
        assert_eq!(eve.get(&invitation).await.status, 200);

        let (ada, _) = world.enable_sso("acme", "ada").await;
        let link = make_join_link(&world, &ada, &[("role", "read"), ("uses", "1")]).await;
        assert_eq!(sign_up(&link, "nils-1").await.status, 303);
        assert_eq!(sign_up(&link, "nils-2").await.code().as_deref(), Some("join.sign_ups_used"));
        let link = make_join_link(&world, &ada, &[("role", "read")]).await;
        for name in ["nils-3", "nils-4", "nils-5"] {
            assert_eq!(sign_up(&link, name).await.status, 303, "{name}: a new link for any number");
        }
    }
}

// External collaborators (hub-sso.md M8).

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m8_an_external_collaborator_is_made_listed_let_in_without_sso_until_his_end_and_unmade() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        world.set_role("acme", "mira", Role::Read).await;
        let mira = world.browser_of("mira").await;
        let secret = format!("{}/acme/secret", world.hub);
        let users = world.settings("acme", "/users");
        let collaborators = world.settings("acme", "/users/collaborators");
        assert!(!world.visit(&mira, &secret).await.says("the application's page"));

        let page = ada.get(&users).await;
        assert!(page.says("There are none."), "{}", page.text());
        let page = ada.submit(page.form("/collaborators").fill("account", "mira")).await;
        let page = ada.follow(page).await;
        assert!(page.says("The external collaborators are changed.") && page.says("without an end"));
        assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
        // Within the organization's access control: his role is what it was.
        let page = mira.request(Method::POST, &secret, &[("accept", "application/json")], "").await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("gate.forbidden")));
        // He is spared it there alone.
        world.enable_sso("globex", "ben").await;
        assert!(
            !world.visit(&mira, &format!("{}/globex/secret", world.hub)).await.says("the application's page")
        );

        // An end: the day is his, the next one is not.
        let page = ada.post(&collaborators, &[("account", "mira"), ("until", "2026-01-16")]).await;
        assert_eq!(page.status, 303, "{}", page.text());
        assert!(ada.get(&users).await.says("until 16 Jan 2026, 23:59 UTC"));
        // START_MS is the 15th at nine; to the millisecond.
        let to_the_end = Lifetime::from_millis(Lifetime::from_hours(39).millis() - 1);
        world.pass(to_the_end);
        assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
        world.pass(Lifetime::from_millis(1));
        assert_eq!(mira.fetch(&secret).await.code().as_deref(), Some("sso.required"), "at the gate");
        let home = mira.get(&page_of(&world, "/")).await;
        assert!(home.says("Complete SSO"), "{}", home.text());

        world.sign_in(&ada, "ada").await;
        world.idp.signs_in("ada");
        world.visit(&ada, &page_of(&world, "/organizations/acme/sso?next=/")).await;
        let page = ada.get(&users).await;
        assert!(page.says("Over"), "{}", page.text());
        let page = ada.submit(page.form("/collaborators/remove")).await;
        assert!(ada.follow(page).await.says("There are none."));

        let log = world.audit("acme").await;
        let log: Vec<(&str, &str)> = log
            .iter()
            .filter(|event| event.action == "org.settings.sso.collaborator" && event.actor_name == "ada")
            .map(|event| {
                (event.details["before"].as_str().unwrap(), event.details["after"].as_str().unwrap())
            })
            .collect();
        assert_eq!(log, [("no", "yes"), ("yes", "until 2026-01-16"), ("until 2026-01-16", "no")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m8_rule_12_whom_the_page_refuses_and_who_may_not_make_an_external_collaborator() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let collaborators = world.settings("acme", "/users/collaborators");
    for (fields, code) in [
        (&[("account", "eve")][..], "membership.needed"),
        (&[("account", "nobody-at-all")], "membership.account_unknown"),
        (&[("account", "mira"), ("until", "2026-01-14")], "membership.end_invalid"),
        (&[("account", "mira"), ("until", "soon")], "membership.end_invalid"),
    ] {
        let page = ada.post(&collaborators, fields).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (422, Some(code)), "{}", page.text());
        assert!(page.body.contains(&format!("value=\"{}\"", fields[0].1)), "as typed: {}", page.body);
    }
    let thief = world.browser_of("ada").await;
    let page = thief.post(&collaborators, &[("account", "mira")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"));
    let external = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM membership WHERE external_collaborator = 1";
    assert_eq!(world.count(external).await, 0);
    // Of another organization nobody is one by it (rule 7).
    let (ben, _) = world.enable_sso("globex", "ben").await;
    ben.post(&world.settings("globex", "/users/collaborators"), &[("account", "mira")]).await;
    assert_eq!(world.count(external).await, 1);
    let page = ada.post(&format!("{collaborators}/remove"), &[("account", "mira")]).await;
    assert_eq!(page.status, 303, "she is none here: nothing to do");
    assert_eq!(world.count(external).await, 1);
    // Who leaves and comes back is an ordinary member.
    world.remove_member("globex", "mira").await;
    world.set_role("globex", "mira", Role::Read).await;
    assert_eq!(world.count(external).await, 0);
}

// The end of an account.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v35_an_account_that_its_person_deletes_is_gone_everywhere_and_its_name_is_never_given_again() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        give_password(&world, "mira").await;
        world.set_role("globex", "mira", Role::Admin).await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let secret = format!("{}/acme/secret", world.hub);
        assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
        let elsewhere = world.browser_of("mira").await;
        // What she made for others, what was made for her, and a question of hers.
        let invitations = page_of(&world, "/organizations/globex/settings/members/invitations");
        let page = mira.post(&invitations, &[("role", "read"), ("uses", "5")]).await;
        let (_, rest) = page.body.split_once("id=\"invitation_url\" type=\"text\" value=\"").unwrap();
        let invitation = rest.split('"').next().unwrap().to_owned();
        world.add_organization("initech", "ben", doorward::store::Plan::Enterprise).await;
        let ben = world.browser_of("ben").await;
        let invitations = page_of(&world, "/organizations/initech/settings/members/invitations");
        assert_eq!(ben.post(&invitations, &[("role", "admin"), ("account", "mira")]).await.status, 200);

        let page = mira.get(&page_of(&world, "/settings/account")).await;
        let page = mira.click(&page, "Delete account").await;
        for text in ["acme", "globex", "Nobody gets the name mira again"] {
            assert!(page.says(text), "{text}: {}", page.text());
        }
        let form = page.form("/settings/account/delete");
        let wrong = mira.submit(form.clone().fill("current_password", "something else entirely")).await;
        assert_eq!(wrong.code().as_deref(), Some("account.wrong_password"));
        let (id, globex) = (world.account("mira").await, world.organization("globex").await.id);
        let page = mira.submit(form.fill("current_password", PASSWORD)).await;
        assert_eq!(page.location().unwrap().query(), Some("done=account-deleted"), "{}", page.text());
        assert!(mira.follow(page).await.says("Your account is deleted."));

        for browser in [&mira, &elsewhere] {
            assert!(browser.get(&page_of(&world, "/settings/account")).await.location().is_some());
            assert!(!browser.fetch(&secret).await.says("the application's page"));
        }
        assert_eq!(
            world.browser_of("eve").await.get(&invitation).await.code().as_deref(),
            Some("join.invitation_voided")
        );
        assert_eq!(links(&world).await, ["ada@acme.example ada"]);
        let rows = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM invitation WHERE account_id IS NOT NULL";
        assert_eq!(world.count(rows).await, 0);
        let emails =
            "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account_email WHERE email_key = 'mira@acme.example'";
        assert_eq!(world.count(emails).await, 0);
        for organization in ["acme", "globex"] {
            let log = world.audit(organization).await;
            let event = log.last().unwrap();
            assert_eq!(
                (event.action.as_str(), event.actor_name.as_str(), event.details["account"].as_str()),
                ("org.account_delete", "mira", Some("mira")),
                "{organization}"
            );
        }
        let name = doorward::store::load_name(&mut world.app.store.reader(), &id.to_string()).await.unwrap();
        assert_eq!(name.as_deref(), Some("mira"), "whose id it was is known for ever");
        assert!(load_role(&mut world.app.store.reader(), globex, id).await.unwrap().is_none());

        // Nobody is mira again (rule 7), nor is anything of hers his who has her address next.
        let (code, _, errors) = world.operate("account delete mira").await;
        assert!(code == 1 && errors.contains("there is no account"), "{errors}");
        let taken = doorward::store::NewAccount {
            id: world.app.random.bytes().map(|bytes| doorward_core::ids::AccountId::new(1, bytes)).unwrap(),
            name: doorward_core::name::Name::parse("Mira").unwrap(),
            full_name: String::new(),
            email: None,
            email_proved: false,
            password_hash: None,
            operator: false,
        };
        let mut tx = world.app.store.begin().await.unwrap();
        let made = tx.insert_account(&taken, world.app.clock.now()).await;
        assert!(matches!(made, Err(doorward::store::StoreError::Conflict)), "{made:?}");
        drop(tx);

        // Her identity at the provider links to another account by the usual rules alone: not by its old link.
        world.add_account("nora", "Nora Lind").await;
        world.set_role("acme", "nora", Role::Write).await;
        let nora = world.browser_of("nora").await;
        world.idp.signs_in("mira");
        let page = world.visit(&nora, &secret).await;
        assert_eq!(page.code().as_deref(), Some("sso.email_not_proved"), "{}", page.text());
        drop(ada);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_an_admins_account_is_not_deleted_without_sso_nor_the_last_admins_at_all() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "ada").await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let delete = page_of(&world, "/settings/account/delete");
        let page = ada.get(&delete).await;
        assert!(page.says("You are its last admin") && !page.has_form("/delete"), "{}", page.text());
        let fields = [("current_password", PASSWORD)];
        let page = ada.post(&delete, &fields).await;
        assert!(page.status == 409 && page.codes().contains(&"organization.last_admin".to_owned()));
        let (code, _, errors) = world.operate("account delete ada").await;
        assert!(code == 1 && errors.contains("the last admin of acme"), "{errors}");

        world.set_role("acme", "ben", Role::Admin).await;
        let thief = world.browser_of("ada").await;
        let page = thief.get(&delete).await;
        assert!(page.says("Complete SSO") && !page.has_form("/delete"), "{}", page.text());
        let page = thief.post(&delete, &fields).await;
        assert!(page.codes().contains(&"settings.sso_needed".to_owned()), "{}", page.text());
        assert_eq!(role(&world, "acme", "ada").await, Some(Role::Admin));

        assert_eq!(ada.post(&delete, &fields).await.status, 303);
        // And by the operator, who needs nobody's single sign-on.
        let output = world.good_command("account delete mira").await;
        assert!(output.contains("mira is deleted"), "{output}");
        let log = world.audit("acme").await;
        assert_eq!(log.last().unwrap().actor_kind, "operator");
        let accounts = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account";
        assert_eq!(world.count(accounts).await, 2, "ben and eve are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v34_an_account_that_the_operator_switches_off_is_out_at_once_and_comes_back_by_a_new_login() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "mira").await;
        let mira = world.browser_of("mira").await;
        let secret = format!("{}/acme/secret", world.hub);
        assert!(world.visit(&mira, &secret).await.says("the application's page"), "{on:?}");
        let sign_in = async || {
            let fields = [("username", "mira"), ("password", PASSWORD)];
            Browser::new().post(&page_of(&world, "/login"), &fields).await
        };

        let output = world.good_command("account disable mira").await;
        assert!(output.contains("mira is switched off"), "{output}");
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        assert!(!mira.fetch(&secret).await.says("the application's page"), "{on:?}");
        assert_eq!(sign_in().await.code().as_deref(), Some("account.disabled"), "{on:?}");
        let output = world.good_command("account disable mira").await;
        assert!(output.contains("already"), "{output}");

        let output = world.good_command("account enable mira").await;
        assert!(output.contains("mira can sign in again"), "{output}");
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        assert!(!mira.fetch(&secret).await.says("the application's page"), "no session of before revives");
        assert_eq!(sign_in().await.status, 303, "{on:?}");
        let output = world.good_command("account enable mira").await;
        assert!(output.contains("already"), "{output}");

        // No organization is left without an admin who can govern it.
        let (code, _, errors) = world.operate("account disable ada").await;
        assert!(code == 1 && errors.contains("the last admin of acme"), "{errors}");
        give_password(&world, "ada").await;
        world.set_role("acme", "mira", Role::Admin).await;
        world.good_command("account disable ada").await;
        let (code, _, errors) = world.operate("account disable mira").await;
        assert!(code == 1 && errors.contains("the last admin of acme"), "{errors}");
        assert_eq!(sign_in().await.status, 303, "{on:?}: nothing was changed");

        let events = world.app.store.reader().audit_of_scope_after("system", 0, 1000).await.unwrap();
        let told: Vec<_> = events
            .iter()
            .filter(|event| event.action.ends_with("able"))
            .map(|event| (&*event.action, event.details["name"].as_str().unwrap(), &*event.actor_kind))
            .collect();
        assert_eq!(
            told,
            [
                ("account.disable", "mira", "operator"),
                ("account.enable", "mira", "operator"),
                ("account.disable", "ada", "operator")
            ],
            "{on:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_an_organization_that_the_operator_deletes_is_closed_and_lets_its_last_admin_go() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "eve").await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        world.idp.signs_in("mira");
        let mira = world.browser_of("mira").await;
        let secret = format!("{}/acme/secret", world.hub);
        assert!(world.visit(&mira, &secret).await.says("the application's page"), "{}", mira.history());
        let printed = world.good_command("sso join-link acme --rotate --role read").await;
        let link = printed.split_whitespace().find(|word| word.contains("/join/")).unwrap();
        let link = page_of(&world, &link[link.find("/organizations/").unwrap()..]);
        let token = world.good_command("token create --organization acme --name bi --scope members").await;
        let token = token.split_whitespace().find(|word| word.len() > 40).unwrap().to_owned();
        world.returning(&world.browser_of("mira").await, "acme").await;

        // Ada makes eve, whom nobody asked, the admin of it all, and leaves.
        world.set_role("acme", "eve", Role::Admin).await;
        let page = ada.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(page.status, 303, "{} {}", page.text(), ada.history());
        let eve = world.browser_of("eve").await;
        let delete = page_of(&world, "/settings/account/delete");
        let fields = [("current_password", PASSWORD)];
        let page = eve.post(&delete, &fields).await;
        assert!(page.codes().contains(&"organization.last_admin".to_owned()), "{}", page.text());

        let id = world.organization("acme").await.id.to_string();
        let output = world.good_command("org delete Acme").await;
        assert!(output.contains("acme is deleted"), "{output}");
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        assert!(!mira.fetch(&secret).await.says("the application's page"), "{on:?}");
        let website = format!("{}/acme/website", world.hub);
        assert!(!Browser::new().fetch(&website).await.says("the application's page"), "what was public, too");
        let settings = page_of(&world, "/organizations/acme/settings");
        assert_eq!(eve.get(&settings).await.code().as_deref(), Some("organization.unknown"));
        assert_eq!(mira.get(&link).await.code().as_deref(), Some("join.unknown"));
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let members = page_of(&world, "/api/organizations/acme/members");
        let page = Browser::new().request(Method::GET, &members, &headers, "").await;
        assert_eq!(page.status, 401, "{}", page.text());
        assert!(!eve.get(&page_of(&world, "/")).await.says("acme"), "{on:?}");
        assert_eq!(role(&world, "globex", "mira").await, Some(Role::Read));

        // Nothing of it is left but its name and its log, the connection's id, and for a day what became of trips.
        if on == On::Sqlite {
            let kept = world.everything_stored().await;
            let kept = kept.iter().filter(|(_, rows)| rows.iter().any(|row| row.contains(&id)));
            let kept: Vec<_> = kept.map(|(table, _)| &**table).filter(|t| !t.starts_with("audit")).collect();
            assert_eq!(kept, ["connection", "name", "organization", "spent_attempt"]);
        }
        let (code, _, errors) = world.operate("org create acme --name Acme --admin ben").await;
        assert!(code == 1 && errors.starts_with("error[organization.name_taken]"), "{errors}");
        let (code, _, errors) = world.operate("org delete acme").await;
        assert!(code == 1 && errors.starts_with("error[organization.unknown]"), "{errors}");
        let exported = world.good_command("audit export acme").await;
        assert!(exported.contains("\"org.delete\"") && exported.contains("\"operator\""), "{exported}");
        world.good_command("audit verify acme").await;
        world.good_command("audit verify --all").await;
        assert_eq!(eve.post(&delete, &fields).await.status, 303, "{on:?}: she may go");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v35_each_organization_is_told_of_the_links_that_go_with_an_account() {
    for on in On::all() {
        let world = world_on(on).await;
        // Of globex mira is no member any more; her identity there was kept, as it is when somebody leaves.
        let connection = |organization: &str| {
            format!(
                "{{\"type\":\"connection\",\"organization\":\"{organization}\",\"issuer_url\":\"https://idp.example\",\
                 \"client_id\":\"c\",\"client_secret\":\"a secret of one\"}}\n"
            )
        };
        let file = world.folder().join("connections.jsonl");
        std::fs::write(&file, connection("acme") + &connection("globex")).unwrap();
        world.good_command(&format!("import {}", file.display())).await;
        world
            .behind_its_back(
                "INSERT INTO identity (connection_id, issuer, subject, sub, account_id, email, linked_at) \
                 SELECT c.id, 'https://idp.example', 'mira at ' || o.name_key, 's', a.id, 'mira@acme.example', 1 \
                 FROM connection c JOIN organization o ON o.id = c.organization_id, account a \
                 WHERE a.name_key = 'mira'",
            )
            .await;
        world.remove_member("globex", "mira").await;
        assert_eq!(role(&world, "globex", "mira").await, None, "{on:?}");
        world.good_command("account delete mira").await;
        for organization in ["acme", "globex"] {
            let log = world.audit(organization).await;
            let told: Vec<_> = log.iter().filter(|event| event.action == "org.sso_unlink").collect();
            assert_eq!(told.len(), 1, "{on:?} {organization}");
            assert_eq!(told[0].details["account"], "mira");
            assert_eq!(told[0].details["subject"], format!("mira at {organization}"));
        }
        world.good_command("audit verify --all").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_more_organizations_than_a_page_shows_hide_none_whose_sso_is_owed() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "ada").await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        world.set_role("acme", "ben", Role::Admin).await;
        // Made and given by somebody else, with names that come first.
        let (account, now) = (world.account("ada").await, world.app.clock.now());
        let mut tx = world.app.store.begin().await.unwrap();
        for n in 0..500_u16 {
            let mut bytes = [7; 10];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let id = doorward_core::ids::OrganizationId::new(now.millis(), bytes);
            let name = doorward_core::name::Name::parse(&format!("aaa-{n}")).unwrap();
            tx.insert_organization(id, &name, "", doorward::store::Plan::Free, now).await.unwrap();
            tx.set_role(id, account, Role::Read, now).await.unwrap();
        }
        tx.commit(now).await.unwrap();
        let (delete, fields) =
            (page_of(&world, "/settings/account/delete"), [("current_password", PASSWORD)]);
        let page = world.browser_of("ada").await.post(&delete, &fields).await;
        assert!(page.codes().contains(&"settings.sso_needed".to_owned()), "{}", page.text());
        assert_eq!(role(&world, "acme", "ada").await, Some(Role::Admin));
        assert_eq!(ada.post(&delete, &fields).await.status, 303);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_outlived_leaving_ends_with_the_account_in_that_organizations_log() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "mira").await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        mira.post(&page_of(&world, "/organizations/acme/leave"), &[]).await;
        assert_eq!(links(&world).await.len(), 2, "{}", mira.history());
        let delete = page_of(&world, "/settings/account/delete");
        let page = mira.post(&delete, &[("current_password", PASSWORD)]).await;
        assert_eq!(page.status, 303, "{}", page.text());
        assert_eq!(links(&world).await, ["ada@acme.example ada"]);
        let log = world.audit("acme").await;
        let event = log.last().unwrap();
        assert_eq!(
            (event.action.as_str(), event.details["account"].as_str()),
            ("org.sso_unlink", Some("mira"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_operator_deletes_no_account_in_a_browser_and_leaves_no_link_for_a_first_one() {
    for on in On::all() {
        let world = world_on(on).await;
        give_password(&world, "mira").await;
        let now = world.app.clock.now();
        let hash = doorward_core::secret::TokenHash::of("a link");
        let mut tx = world.app.store.begin().await.unwrap();
        tx.replace_operator_link(hash, now, now.plus(Lifetime::from_hours(24))).await.unwrap();
        tx.commit(now).await.unwrap();
        world.behind_its_back("UPDATE account SET operator = 1 WHERE name_key = 'mira'").await;
        let mira = world.browser_of("mira").await;
        let (delete, fields) =
            (page_of(&world, "/settings/account/delete"), [("current_password", PASSWORD)]);
        let page = mira.post(&delete, &fields).await;
        assert!(page.codes().contains(&"account.last_operator".to_owned()), "{}", page.text());

        let other = doorward::store::NewAccount {
            id: world.app.random.bytes().map(|bytes| doorward_core::ids::AccountId::new(1, bytes)).unwrap(),
            name: doorward_core::name::Name::parse("olga").unwrap(),
            full_name: String::new(),
            email: None,
            email_proved: false,
            password_hash: None,
            operator: true,
        };
        let mut tx = world.app.store.begin().await.unwrap();
        tx.insert_account(&other, now).await.unwrap();
        tx.commit(now).await.unwrap();
        let left = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM operator_link";
        assert_eq!(world.count(left).await, 0);
        assert_eq!(mira.post(&delete, &fields).await.status, 303);
    }
}

/// Tables whose rows belong to an account, which `Transaction::delete_account` and `delete_membership` empty of them. A new
/// one belongs into `delete_account` first, and then here.
const OF_AN_ACCOUNT: &[&str] = &[
    "access_token",
    "account_email",
    "attempt",
    "browser_session",
    "counted_event",
    "former_member",
    "held_identity",
    "identity",
    "invitation",
    "join_link",
    "known_browser",
    "link_question",
    "membership",
    "sign_in_failure",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v35_every_table_that_refers_to_an_account_is_known_to_its_deletion() {
    let folder = TempDir::new();
    let (store, _) = fresh_store(On::Sqlite, &folder).await;
    let sql = "SELECT DISTINCT m.name AS name FROM sqlite_master m, pragma_foreign_key_list(m.name) k \
               WHERE m.type = 'table' AND k.\"table\" = 'account' ORDER BY m.name";
    let rows = store.reader().fetch_all(sql, Vec::new()).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.text("name").unwrap()).collect();
    assert_eq!(found, OF_AN_ACCOUNT);
}

// Races (V45), and another node.

/// `DOORWARD_ROUNDS` sets how many rounds each race has, here and in `people.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v45_deleting_leaving_removing_and_demoting_cross_and_one_admin_stays() {
    for on in On::all() {
        let world = world_on(on).await;
        let rounds = from_environment("DOORWARD_ROUNDS").unwrap_or(if on == On::Sqlite { 24 } else { 48 });
        for round in 0..rounds {
            let (first, second) = (format!("first-{round}"), format!("second-{round}"));
            let organization = format!("race-{round}");
            world.add_account(&first, "").await;
            world.add_account(&second, "").await;
            world.add_organization(&organization, &first, doorward::store::Plan::Enterprise).await;
            world.set_role(&organization, &second, Role::Admin).await;
            let ids = [world.account(&first).await, world.account(&second).await];
            let (one, two) = (world.browser_of(&first).await, world.browser_of(&second).await);
            let at = |rest: &str| page_of(&world, &format!("/organizations/{organization}{rest}"));
            let by = doorward::sso::settings::By {
                actor: doorward::store::Actor::System,
                session: None,
                address: None,
                request_id: None,
            };
            let deed = async |browser: &Browser, own: usize, other: &str, kind: u32| match kind {
                0 => drop(browser.post(&at("/leave"), &[]).await),
                1 => drop(browser.post(&at("/settings/members/remove"), &[("account", other)]).await),
                2 => {
                    let fields = [("account", other), ("role", "read")];
                    drop(browser.post(&at("/settings/members/role"), &fields).await);
                }
                _ => {
                    let name = if own == 0 { &first } else { &second };
                    let (store, now) = (&world.app.store, world.app.clock.now());
                    let who = (ids[own], name.as_str());
                    drop(doorward::account_end::delete_account(store, who, None, &by, now).await);
                }
            };
            // Every pair of which one at least is new here: delete with each, leave × demote, remove × remove.
            let (a, b) = [(3, 0), (3, 1), (3, 2), (3, 3), (0, 2), (1, 1)][(round % 6) as usize];
            tokio::join!(deed(&one, 0, &second, a), deed(&two, 1, &first, b));
            let id = world.organization(&organization).await.id;
            let mut admins = 0;
            for account in ids {
                let role = load_role(&mut world.app.store.reader(), id, account).await.unwrap();
                admins += u32::from(role == Some(Role::Admin));
            }
            assert!(admins >= 1, "round {round} on {on:?}: nobody governs");
        }
    }
}

/// Asks another node's gate for acme's private page with this browser's session: the status.
async fn at_another_gate(world: &World, node: &SecondNode, browser: &Browser) -> u16 {
    let cookie = browser.cookie("hub.localhost", "doorward-app").unwrap();
    let (cookie, url) = (format!("doorward-app={cookie}"), format!("{}/acme/secret", world.hub));
    let headers = [("x-original-method", "GET"), ("x-original-url", &*url), ("cookie", &*cookie)];
    let page =
        Browser::new().request(Method::GET, &format!("{}/auth-request", node.gate), &headers, "").await;
    page.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a second of real time is what is promised")]
async fn rule_16_what_one_node_does_is_felt_at_another_nodes_gate_within_a_second() {
    for on in On::all() {
        for deed in ["leave", "remove", "demote", "delete"] {
            let world = world_on(on).await;
            give_password(&world, "mira").await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            let mira = world.browser_of("mira").await;
            world.idp.signs_in("mira");
            let secret = format!("{}/acme/secret", world.hub);
            assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
            let node = world.second_node().await;
            assert_eq!(at_another_gate(&world, &node, &mira).await, 200, "{deed}: and it remembers that now");
            let members = page_of(&world, "/organizations/acme/settings/members");
            let page = match deed {
                "leave" => mira.post(&page_of(&world, "/organizations/acme/leave"), &[]).await,
                "remove" => ada.post(&format!("{members}/remove"), &[("account", "mira")]).await,
                "demote" => {
                    ada.post(&format!("{members}/role"), &[("account", "mira"), ("role", "no_access")]).await
                }
                _ => {
                    let fields = [("current_password", PASSWORD)];
                    mira.post(&page_of(&world, "/settings/account/delete"), &fields).await
                }
            };
            let done = Instant::now();
            assert_eq!(page.status, 303, "{deed}: {}", page.text());
            while at_another_gate(&world, &node, &mira).await == 200 {
                assert!(done.elapsed() < Duration::from_secs(1), "{deed} on {on:?}: still let in");
            }
        }
    }
}

// Providers whose issuer is everybody's (architecture.md §3, Linking).

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_googles_hd_must_be_one_of_the_organizations_domains_in_every_sign_in() {
    let world = World::new().await;
    let with = |hd: Option<serde_json::Value>| {
        let mut person = Person::new("g", "Mira Holt", "mira@acme.example");
        if let Some(hd) = hd {
            person = person.claim("hd", hd);
        }
        world.idp.add_person(person);
        world.idp.signs_in("g");
    };
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    world
        .idp
        .add_person(Person::new("ada", "Ada Admin", "ada@acme.example").claim("hd", json!("acme.example")));
    world.idp.signs_in("ada");
    let issuer = world.idp.issuer();
    let fields = [
        ("client_id", &*client.id),
        ("client_secret", client.secret()),
        ("issuer_url", &*issuer),
        ("hosted_domains", "acme.example acme-labs.example"),
    ];
    let page = world.update_and_test(&ada, "acme", &fields).await;
    let page = ada.follow_all(page).await;
    ada.submit(page.form("/enable")).await;
    assert_eq!(world.state("acme").await, "live", "{}", page.text());

    let secret = format!("{}/acme/secret", world.hub);
    let mira = world.browser_of("mira").await;
    for wrong in [
        // A private account of Google has none.
        None,
        Some(json!("evil.example")),
        Some(json!("sub.acme.example")),
        Some(json!("acme.example.evil.example")),
        Some(json!("")),
        Some(json!(["acme.example"])),
        Some(json!(["acme.example", "evil.example"])),
        Some(json!(7)),
        Some(json!(true)),
        Some(json!({ "hd": "acme.example" })),
    ] {
        with(wrong.clone());
        let page = world.visit(&mira, &secret).await;
        assert_eq!(
            page.code().as_deref(),
            Some("oidc.hosted_domain_mismatch"),
            "{wrong:?}: {}",
            mira.history()
        );
        assert_eq!(
            links(&world).await,
            ["ada@acme.example ada"],
            "{wrong:?}: the address alone links nobody"
        );
    }
    // Either of the two, whatever its case; and once linked it is asked for all the same.
    for right in ["acme-labs.example", "ACME.example"] {
        with(Some(json!(right)));
        let browser = world.browser_of("mira").await;
        assert!(world.visit(&browser, &secret).await.says("/acme/secret"), "{right}: {}", browser.history());
    }
    with(Some(json!("evil.example")));
    let browser = world.browser_of("mira").await;
    let page = world.visit(&browser, &secret).await;
    assert_eq!(page.code().as_deref(), Some("oidc.hosted_domain_mismatch"), "{}", browser.history());
}
