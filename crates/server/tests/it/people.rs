//! Joining and leaving: invitations by link, the SSO join link (hub-sso.md M9), what a removal voids (rule 14), and the
//! last admin (conformance.md V28, V34, V41, V45).

use doorward::sso::enable::NotDone;
use doorward::store::Plan;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::secret::TokenHash;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page, Person};

use crate::harness::{On, Options, World};
use crate::stolen_password::from_environment;

const INVITATIONS: &str =
    "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM invitation WHERE ended IS NULL AND uses_left > 0";
const ACCOUNTS: &str = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account";

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

fn members_page(world: &World) -> String {
    format!("{}/organizations/acme/settings/members", world.base)
}

/// Makes an invitation as a person does: its whole address.
async fn invite(world: &World, browser: &Browser, fields: &[(&str, &str)]) -> String {
    let page = browser.post(&format!("{}/invitations", members_page(world)), fields).await;
    assert_eq!(page.status, 200, "{} {:?}", page.text(), page.code());
    copied(&page, "invitation_url").unwrap_or_else(|| panic!("{}", page.text()))
}

/// The address that a page shows to be copied, in the field of this id.
fn copied(page: &Page, id: &str) -> Option<String> {
    let (_, rest) = page.body.split_once(&format!("id=\"{id}\" type=\"text\" value=\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// Opens a link and presses its button.
async fn join(browser: &Browser, link: &str) -> Page {
    let page = browser.get(link).await;
    assert_eq!(page.status, 200, "{} {:?}", page.text(), page.code());
    browser.submit(page.form(path_of(link))).await
}

fn path_of(link: &str) -> &str {
    link.find("/organizations/").and_then(|at| link.get(at..)).unwrap()
}

async fn role(world: &World, account: &str) -> Option<Role> {
    let (organization, account) = (world.organization("acme").await.id, world.account(account).await);
    doorward::store::load_role(&mut world.app.store.reader(), organization, account).await.unwrap()
}

async fn actions(world: &World) -> Vec<String> {
    world.audit("acme").await.into_iter().map(|event| event.action).collect()
}

// Invitations.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_says_what_will_happen_and_one_press_makes_a_member() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        let link = invite(&world, &ada, &[("role", "write")]).await;
        assert!(!ada.get(&members_page(&world)).await.body.contains(path_of(&link)), "shown once");

        let eve = world.browser_of("eve").await;
        let page = eve.get(&link).await;
        for text in ["Join acme", "ada", "Write", "eve"] {
            assert!(page.says(text), "{text}: {}", page.text());
        }
        assert_eq!(role(&world, "eve").await, None, "looking makes nobody a member");
        let page = eve.submit(page.form(path_of(&link))).await;
        assert_eq!(page.location().unwrap().query(), Some("done=joined"));
        assert_eq!(role(&world, "eve").await, Some(Role::Write));
        assert!(eve.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
        let events = world.audit("acme").await;
        let event = events.last().unwrap();
        assert_eq!(event.action, "org.invite.accept");
        assert_eq!(event.details["invited_by"], "ada");
        assert!(events.iter().any(|event| event.action == "org.invite_user"));

        // A member is simply taken on, and uses nothing up.
        let again = eve.get(&link).await;
        assert_eq!(again.code().as_deref(), Some("join.invitation_used"), "it was for one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_who_opens_a_link_is_taken_on_and_uses_nothing_up() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let link = invite(&world, &ada, &[("role", "read")]).await;
    let mira = world.browser_of("mira").await;
    assert_eq!(mira.get(&link).await.status, 303);
    let page = mira.post(&link, &[("organization", "acme"), ("account", "mira")]).await;
    assert_eq!((page.status.as_u16(), page.code()), (200, None));
    assert_eq!(role(&world, "mira").await, Some(Role::Write), "no other role by it");
    assert_eq!(world.count(INVITATIONS).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v41_whatever_is_wrong_with_a_link_has_one_calm_page_and_opens_nothing() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        let eve = world.browser_of("eve").await;
        let unknown = format!("{}/organizations/acme/join/{}", world.base, "x".repeat(43));
        let used = invite(&world, &ada, &[("role", "read")]).await;
        join(&world.browser_of("ben").await, &used).await;
        let revoked = invite(&world, &ada, &[("role", "read")]).await;
        let page = ada.get(&members_page(&world)).await;
        ada.submit(page.form("/invitations/revoke")).await;
        let expired = invite(&world, &ada, &[("role", "read")]).await;
        // Another organization's address is not its own (rule 7); nor does an organization that nobody has say so.
        let foreign = expired.replace("/acme/", "/globex/");
        let nowhere = expired.replace("/acme/", "/nonsense/");
        for (link, code, status) in [
            (&unknown, "join.unknown", 404),
            (&foreign, "join.unknown", 404),
            (&nowhere, "join.unknown", 404),
            (&used, "join.invitation_used", 410),
            (&revoked, "join.invitation_revoked", 410),
        ] {
            let page = eve.get(link).await;
            assert_eq!((page.code().as_deref(), page.status.as_u16()), (Some(code), status), "{link}");
            let page = eve.post(link, &[("organization", "acme"), ("account", "eve")]).await;
            assert_eq!(page.code().as_deref(), Some(code), "{link}");
        }
        let strangers: Vec<String> =
            [Browser::new().get(&nowhere).await, Browser::new().get(&unknown).await].map(|p| p.text()).into();
        let without_reference = |text: &str| text.split("Request ").next().unwrap_or_default().to_owned();
        assert_eq!(without_reference(&strangers[0]), without_reference(&strangers[1]), "no oracle of names");

        // To the millisecond: 1 ms before its end it works, at its end it does not.
        world.pass(Lifetime::from_millis(Lifetime::from_days(7).millis() - 1));
        let eve = world.browser_of("eve").await;
        let page = eve.get(&expired).await;
        assert_eq!(page.status, 200, "{}", page.text());
        world.pass(Lifetime::from_millis(1));
        let late = eve.submit(page.form(path_of(&expired))).await;
        assert_eq!(late.code().as_deref(), Some("join.invitation_expired"));
        assert_eq!(eve.get(&expired).await.code().as_deref(), Some("join.invitation_expired"));
        assert_eq!(role(&world, "eve").await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v41_joining_names_organization_and_account_and_nothing_else_can_be_sent() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let link = invite(&world, &ada, &[("role", "read")]).await;
    let eve = world.browser_of("eve").await;
    for fields in [
        &[("organization", "acme"), ("account", "ben")][..],
        &[("organization", "globex"), ("account", "eve")],
        &[("account", "eve")],
        &[("organization", "acme")],
        &[],
    ] {
        let page = eve.post(&link, fields).await;
        assert_eq!(page.code().as_deref(), Some("join.changed"), "{fields:?}");
    }
    // A role or an expiry of one's own is not read.
    let fields = [("organization", "acme"), ("account", "eve"), ("role", "admin"), ("uses", "9")];
    eve.post(&link, &fields).await;
    assert_eq!(role(&world, "eve").await, Some(Role::Read));
    // A form of another site is refused (V26).
    let ben = world.browser_of("ben").await;
    let link = invite(&world, &ada, &[("role", "read")]).await;
    let fields = [("organization", "acme"), ("account", "ben")];
    let page = ben.post_from("http://evil.localhost", &link, &fields).await;
    assert_eq!(page.code().as_deref(), Some("request.foreign_origin"));
    assert_eq!(role(&world, "ben").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_an_invitation_to_admin_is_for_one_named_account_once_for_seven_days() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        let post = async |fields: &[(&str, &str)]| {
            ada.post(&format!("{}/invitations", members_page(&world)), fields).await
        };
        for (fields, code) in [
            (&[("role", "admin")][..], "join.account_needed"),
            (&[("role", "admin"), ("account", "eve"), ("uses", "2")], "join.uses_invalid"),
            (&[("role", "admin"), ("account", "nobody-at-all")], "membership.account_unknown"),
            (&[("role", "admin"), ("account", "mira")], "membership.exists"),
            (&[("role", "boss")], "membership.role_unknown"),
            (&[("role", "read"), ("uses", "101")], "join.uses_invalid"),
            (&[("role", "read"), ("uses", "0")], "join.uses_invalid"),
            (&[("role", "read"), ("uses", "many")], "join.uses_invalid"),
        ] {
            let page = post(fields).await;
            assert_eq!(page.code().as_deref(), Some(code), "{fields:?} {}", page.text());
        }
        assert_eq!(world.count(INVITATIONS).await, 0);

        let link = invite(&world, &ada, &[("role", "admin"), ("account", "eve")]).await;
        let ben = world.browser_of("ben").await;
        assert_eq!(ben.get(&link).await.code().as_deref(), Some("join.other_account"));
        let page = ben.post(&link, &[("organization", "acme"), ("account", "ben")]).await;
        assert_eq!(page.code().as_deref(), Some("join.other_account"));
        assert_eq!(role(&world, "ben").await, None);
        // Nobody makes an account by it: its account is there.
        let stranger = Browser::new();
        let page = stranger.get(&link).await;
        assert!(page.says("Sign in with the invited account") && !page.says("Make an account"));
        join(&world.browser_of("eve").await, &link).await;
        assert_eq!(role(&world, "eve").await, Some(Role::Admin));
        assert_eq!(stranger.get(&link).await.code().as_deref(), Some("join.invitation_used"));

        // Made with an old login it would be a stolen session's (rule 12).
        world.pass(Lifetime::from_minutes(76));
        let page = post(&[("role", "admin"), ("account", "ben")]).await;
        assert_eq!(page.code().as_deref(), Some("settings.fresh_sign_in_needed"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_removing_leaving_or_demoting_voids_the_invitations_that_he_made() {
    for on in On::all() {
        for deed in ["remove", "leave", "demote", "operator"] {
            let world = world_on(on).await;
            world.set_role("acme", "ben", Role::Admin).await;
            let (ada, ben) = (world.browser_of("ada").await, world.browser_of("ben").await);
            let his = invite(&world, &ben, &[("role", "write"), ("uses", "5")]).await;
            let hers = invite(&world, &ada, &[("role", "read")]).await;
            let eve = world.browser_of("eve").await;
            let page = eve.get(&his).await;
            match deed {
                "remove" => {
                    ada.post(&format!("{}/remove", members_page(&world)), &[("account", "ben")]).await;
                }
                "leave" => {
                    let page = ben.get(&format!("{}/organizations/acme/leave", world.base)).await;
                    assert!(page.says("Invitations and the SSO join link that you made"), "{}", page.text());
                    ben.submit(page.form("/leave")).await;
                }
                "demote" => {
                    let fields = [("account", "ben"), ("role", "write")];
                    ada.post(&format!("{}/role", members_page(&world)), &fields).await;
                }
                _ => world.remove_member("acme", "ben").await,
            }
            let late = eve.submit(page.form(path_of(&his))).await;
            assert_eq!(late.code().as_deref(), Some("join.invitation_voided"), "{deed}");
            assert_eq!(eve.get(&his).await.code().as_deref(), Some("join.invitation_voided"), "{deed}");
            assert_eq!(role(&world, "eve").await, None, "{deed}");
            join(&eve, &hers).await;
            assert_eq!(role(&world, "eve").await, Some(Role::Read), "another's goes on: {deed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_whoever_could_not_invite_any_more_lets_nobody_in_by_an_older_invitation() {
    for on in On::all() {
        let world = world_on(on).await;
        world.set_role("acme", "ben", Role::Admin).await;
        let ben = world.browser_of("ben").await;
        let link = invite(&world, &ben, &[("role", "write"), ("uses", "5")]).await;
        let eve = world.browser_of("eve").await;
        for (before, after) in [
            (
                "UPDATE account SET disabled = 1 WHERE name_key = 'ben'",
                "UPDATE account SET disabled = 0 WHERE name_key = 'ben'",
            ),
            (
                "UPDATE membership SET role = 'write' WHERE account_id IN (SELECT id FROM account WHERE name_key = 'ben')",
                "UPDATE membership SET role = 'admin' WHERE account_id IN (SELECT id FROM account WHERE name_key = 'ben')",
            ),
        ] {
            world.behind_its_back(before).await;
            let page = eve.post(&link, &[("organization", "acme"), ("account", "eve")]).await;
            assert_eq!(page.code().as_deref(), Some("join.invitation_voided"), "{before}");
            world.behind_its_back(after).await;
        }
        join(&eve, &link).await;
        assert_eq!(role(&world, "eve").await, Some(Role::Write));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_while_single_sign_on_is_live_invitations_are_off_and_afterwards_they_go_on() {
    for on in On::all() {
        let world = world_on(on).await;
        let early = world.browser_of("ada").await;
        let link = invite(&world, &early, &[("role", "read")]).await;
        let eve = world.browser_of("eve").await;
        let page = eve.get(&link).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let late = eve.submit(page.form(path_of(&link))).await;
        assert_eq!(late.code().as_deref(), Some("join.invitations_off"));
        assert_eq!(eve.get(&link).await.code().as_deref(), Some("join.invitations_off"));
        // What the page has let through a moment before is judged again where the member is made.
        let cookie = TokenHash::of(&eve.cookie("localhost", "doorward-session").unwrap());
        let signed_in = doorward::session::signed_in(&world.app, Some(cookie), None).await.unwrap().unwrap();
        let by = doorward::sso::settings::By {
            actor: signed_in.actor(),
            session: None,
            address: None,
            request_id: None,
        };
        let (organization, now) = (world.organization("acme").await, world.app.clock.now());
        let token = TokenHash::of(link.rsplit('/').next().unwrap());
        let accepted =
            doorward::joining::accept(&world.app.store, &organization, token, &signed_in, &by, now).await;
        assert!(matches!(accepted, Err(NotDone::Refused(ErrorCode::JoinInvitationsOff))), "{accepted:?}");
        assert_eq!(role(&world, "eve").await, None);
        let page = ada.get(&members_page(&world)).await;
        assert!(!page.has_form("/members/invitations") && page.says("SSO join link"), "{}", page.text());
        let page = ada.post(&format!("{}/invitations", members_page(&world)), &[("role", "read")]).await;
        assert_eq!(page.code().as_deref(), Some("join.invitations_off"));

        ada.post(&world.settings("acme", "/disable"), &[]).await;
        join(&eve, &link).await;
        assert_eq!(role(&world, "eve").await, Some(Role::Read));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_has_two_hundred_open_invitations_and_a_revoked_one_is_gone_once() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let by = doorward::sso::settings::By {
        actor: doorward::store::Actor::System,
        session: None,
        address: None,
        request_id: None,
    };
    let wish = doorward::joining::Wish { role: Role::Read, account: String::new(), uses: 1 };
    let organization = world.organization("acme").await;
    for _ in 0..200 {
        let (app, now) = (&world.app, world.app.clock.now());
        doorward::joining::invite(&app.store, &app.random, &organization, &wish, &by, now).await.unwrap();
    }
    let page = ada.post(&format!("{}/invitations", members_page(&world)), &[("role", "read")]).await;
    assert_eq!(page.code().as_deref(), Some("join.too_many"));
    let page = ada.get(&members_page(&world)).await;
    let form = page.form("/invitations/revoke");
    let again = form.clone();
    assert_eq!(ada.submit(form).await.status, 303);
    assert_eq!(ada.submit(again).await.code().as_deref(), Some("join.invitation_missing"));
    assert_eq!(actions(&world).await.last().map(String::as_str), Some("org.invite.revoke"));
    // Another organization's id opens nothing (rule 7).
    let id = page.form("/invitations/revoke").value("invitation").unwrap().to_owned();
    let ben = world.browser_of("ben").await;
    let globex = members_page(&world).replace("/acme/", "/globex/");
    let page = ben.post(&format!("{globex}/invitations/revoke"), &[("invitation", &id)]).await;
    assert_eq!(page.code().as_deref(), Some("join.invitation_missing"));
    assert_eq!(world.count(INVITATIONS).await, 199);
}

// An account on the way.

const SIGN_UP: [(&str, &str); 4] = [
    ("name", "nora"),
    ("email", "mira@acme.example"),
    ("password", "marmalade each tuesday"),
    ("password_again", "marmalade each tuesday"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_makes_an_account_on_the_way_and_comes_back_to_the_link() {
    for on in On::all() {
        let world = world_on(on).await;
        let link = invite(&world, &world.browser_of("ada").await, &[("role", "read")]).await;
        let stranger = Browser::new();
        let page = stranger.get(&link).await;
        let page = stranger.click(&page, "Make an account").await;
        assert!(page.says("On your way to acme"), "{}", page.text());
        let mut form = page.form("/join");
        for (name, value) in SIGN_UP {
            form = form.fill(name, value);
        }
        let page = stranger.submit(form).await;
        let page = stranger.follow(page).await;
        assert_eq!(page.url.as_str(), link);
        assert!(page.says("nora"));
        assert_eq!(role(&world, "nora").await, None, "the account joins by its own press");
        // The address is somebody else's proved one: it counts for nothing (rule 13).
        let nora = world.account("nora").await;
        let emails = doorward::store::load_emails(&mut world.app.store.reader(), nora).await.unwrap();
        assert!(emails.iter().all(|email| email.proved_at.is_none()));
        stranger.submit(page.form(path_of(&link))).await;
        assert_eq!(role(&world, "nora").await, Some(Role::Read));
        assert!(stranger.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
        assert_eq!(world.last_seen().unwrap().header("remote-email"), Some(""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_nobody_makes_an_account_without_a_link_that_works() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let good = invite(&world, &ada, &[("role", "read")]).await;
    let used = invite(&world, &ada, &[("role", "read")]).await;
    join(&world.browser_of("eve").await, &used).await;
    let named = invite(&world, &ada, &[("role", "admin"), ("account", "ben")]).await;
    let stranger = Browser::new();
    let accounts = world.count(ACCOUNTS).await;
    for (next, code) in [
        ("", "account.sign_up_closed"),
        ("/", "account.sign_up_closed"),
        ("https://evil.example/organizations/acme/join/x", "account.sign_up_closed"),
        ("/organizations/../join/x", "account.sign_up_closed"),
        ("/organizations/acme/join/", "join.unknown"),
        ("/organizations/acme/join/nonsense", "join.unknown"),
        (path_of(&used), "join.invitation_used"),
        (path_of(&named), "join.other_account"),
    ] {
        let page = stranger.get(&format!("{}/join?next={next}", world.base)).await;
        assert_eq!(page.code().as_deref(), Some(code), "{next}");
        let mut fields = SIGN_UP.to_vec();
        fields.push(("next", next));
        let page = stranger.post(&format!("{}/join", world.base), &fields).await;
        assert_eq!(page.code().as_deref(), Some(code), "{next}");
    }
    for (field, value, code) in [
        ("name", "no--name", "account.name_invalid"),
        ("name", "mira", "account.name_taken"),
        ("name", "acme", "account.name_taken"),
        ("email", "nobody", "account.email_invalid"),
        ("password", "short", "account.password_too_short"),
        ("password_again", "marmalade each friday", "account.passwords_differ"),
    ] {
        let mut fields =
            SIGN_UP.map(|(name, kept)| (name, if name == field { value } else { kept })).to_vec();
        fields.push(("next", path_of(&good)));
        let page = stranger.post(&format!("{}/join", world.base), &fields).await;
        assert_eq!(page.code().as_deref(), Some(code), "{field}");
        assert!(!page.body.contains("marmalade"), "no password is shown again");
    }
    assert_eq!(world.count(ACCOUNTS).await, accounts, "nothing was made");
    assert_eq!(role(&world, "mira").await, Some(Role::Write));
    // Each try costs time and tells of names: twenty a minute from one address.
    let mut fields = SIGN_UP.to_vec();
    fields[0].1 = "mira";
    fields.push(("next", path_of(&good)));
    let mut last = None;
    for _ in 0..25 {
        last = stranger.post(&format!("{}/join", world.base), &fields).await.code();
    }
    assert_eq!(last.as_deref(), Some("account.throttled"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_names_that_are_taken_use_up_nothing_of_what_a_link_may_make() {
    let world = World::new().await;
    let link = invite(&world, &world.browser_of("ada").await, &[("role", "read"), ("uses", "5")]).await;
    let sign_up = async |name: &str| {
        let mut fields = SIGN_UP.to_vec();
        fields[0].1 = name;
        fields.push(("next", path_of(&link)));
        Browser::new().post(&format!("{}/join", world.base), &fields).await
    };
    // More than the accounts that a link makes in an hour.
    for _ in 0..6 {
        for _ in 0..20 {
            assert_eq!(sign_up("mira").await.code().as_deref(), Some("account.name_taken"));
        }
        world.pass(Lifetime::from_minutes(1));
    }
    assert_eq!(sign_up("nora").await.status, 303);
}

// The SSO join link.

/// Makes or rotates the join link in the Members tab: its whole address.
async fn make_join_link(world: &World, admin: &Browser, fields: &[(&str, &str)]) -> String {
    let page = admin.post(&world.settings("acme", "/join-link"), fields).await;
    assert_eq!(page.status, 303, "{} {:?}", page.text(), page.code());
    let page = admin.get(&members_page(world)).await;
    copied(&page, "join_url").unwrap_or_else(|| panic!("{}", page.text()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_the_join_link_is_made_shown_in_two_tabs_rotated_limited_and_turned_off() {
    for on in On::all() {
        let world = world_on(on).await;
        let early = world.browser_of("ada").await;
        let page = early.get(&members_page(&world)).await;
        assert!(!page.has_form("/join-link"), "only while SSO is live");
        let page = early.post(&world.settings("acme", "/join-link"), &[("role", "read")]).await;
        assert_eq!(page.code().as_deref(), Some("sso.not_enabled"));

        let (ada, _) = world.enable_sso("acme", "ada").await;
        let first = make_join_link(&world, &ada, &[("role", "write")]).await;
        let tab = ada.get(&world.settings("acme", "")).await;
        assert_eq!(copied(&tab, "join_url"), Some(first.clone()), "shown in the SSO tab too");
        let eve = world.browser_of("eve").await;
        let page = eve.get(&first).await;
        for text in ["Join acme", "Write", "eve", &world.idp.address().to_string()] {
            assert!(page.says(text), "{text}: {}", page.text());
        }

        let page = ada.submit(tab.form("/join-link").fill("role", "read").fill("uses", "1")).await;
        assert!(page.location().unwrap().path().ends_with("/settings/sso"), "back to the tab of the form");
        let second = copied(&ada.get(&members_page(&world)).await, "join_url").unwrap();
        assert_ne!(first, second);
        assert_eq!(eve.get(&first).await.code().as_deref(), Some("join.unknown"), "rotated");
        world.behind_its_back("UPDATE join_link SET uses_left = 0").await;
        assert_eq!(eve.get(&second).await.code().as_deref(), Some("join.link_used_up"));

        for (fields, code) in [
            (&[("role", "admin")][..], "join.role_refused"),
            (&[("role", "boss")], "membership.role_unknown"),
            (&[("role", "read"), ("uses", "0")], "join.uses_invalid"),
            (&[("role", "read"), ("uses", "-1")], "join.uses_invalid"),
            (&[("role", "read"), ("uses", "100001")], "join.uses_invalid"),
        ] {
            let page = ada.post(&world.settings("acme", "/join-link"), fields).await;
            assert_eq!(page.code().as_deref(), Some(code), "{fields:?}");
        }
        let third = make_join_link(&world, &ada, &[("role", "read")]).await;
        assert_eq!(eve.get(&third).await.status, 200);
        ada.post(&world.settings("acme", "/disable"), &[]).await;
        assert_eq!(eve.get(&third).await.code().as_deref(), Some("join.link_off"));
        let page = ada.get(&members_page(&world)).await;
        assert!(!page.body.contains(path_of(&third)));

        let page = ada.post(&world.settings("acme", "/join-link/off"), &[]).await;
        assert_eq!(page.location().unwrap().query(), Some("done=join-link-off"));
        assert_eq!(eve.get(&third).await.code().as_deref(), Some("join.unknown"));
        let settings: Vec<String> = world
            .audit("acme")
            .await
            .iter()
            .filter(|event| event.action == "org.update_join_settings")
            .map(|event| event.details["join_link"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(settings, ["made", "rotated", "rotated", "off"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_join_link_needs_a_fresh_login_and_single_sign_on_and_is_shown_to_nobody_without_it() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let link = make_join_link(&world, &ada, &[("role", "read")]).await;
    ada.post(&world.settings("acme", "/enforcement"), &[("enforcement", "optional")]).await;
    let thief = world.browser_of("ada").await;
    for page in [thief.get(&members_page(&world)).await, thief.get(&world.settings("acme", "")).await] {
        assert!(!page.body.contains(path_of(&link)) && !page.has_form("/join-link"), "{}", page.text());
    }
    let page = thief.post(&world.settings("acme", "/join-link"), &[("role", "write")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"));
    world.pass(Lifetime::from_minutes(76));
    let page = ada.post(&world.settings("acme", "/join-link"), &[("role", "write")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.fresh_sign_in_needed"));
    assert_eq!(world.browser_of("eve").await.get(&link).await.status, 200, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_removing_leaving_or_demoting_turns_off_the_join_link_that_he_made() {
    for on in On::all() {
        for deed in ["remove", "leave", "demote"] {
            let world = world_on(on).await;
            world.enable_sso("acme", "ada").await;
            world.set_role("acme", "ben", Role::Admin).await;
            let ben = world.browser_of("ben").await;
            world.idp.signs_in("ben");
            world.visit(&ben, &format!("{}/organizations/acme/sso?next=/", world.base)).await;
            let link = make_join_link(&world, &ben, &[("role", "write")]).await;
            let eve = world.browser_of("eve").await;
            assert_eq!(eve.get(&link).await.status, 200);
            match deed {
                "remove" => world.remove_member("acme", "ben").await,
                "demote" => world.set_role("acme", "ben", Role::Write).await,
                _ => {
                    let leave = format!("{}/organizations/acme/leave", world.base);
                    assert_eq!(ben.post(&leave, &[]).await.status, 303);
                }
            }
            assert_eq!(eve.get(&link).await.code().as_deref(), Some("join.unknown"), "{deed}");
        }
    }
}

/// From a join link through the provider, where the browser is signed in as `person`, to the page that asks.
async fn go_to_confirm(world: &World, browser: &Browser, link: &str, person: &str) -> Page {
    world.idp.signs_in(person);
    let page = browser.get(link).await;
    assert_eq!(page.status, 200, "{} {:?}", page.text(), page.code());
    let page = browser.submit(page.form(path_of(link))).await;
    assert_eq!(page.status, 200, "a page that goes on: {}", page.text());
    browser.follow_all(page).await
}

/// Acme with live SSO and a join link; nora is at the provider and has no account.
async fn joinable(world: &World, fields: &[(&str, &str)]) -> (Browser, String) {
    let (ada, _) = world.enable_sso("acme", "ada").await;
    world.idp.add_person(Person::new("nora", "Nora Lind", "nora@elsewhere.example"));
    let link = make_join_link(world, &ada, fields).await;
    (ada, link)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_a_stranger_joins_by_the_join_link_from_opening_it_to_the_private_page() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, link) = joinable(&world, &[("role", "contributor"), ("uses", "1")]).await;
        let stranger = Browser::new();
        let page = stranger.get(&link).await;
        assert!(page.says("Join acme") && page.says(&world.idp.address().to_string()), "{}", page.text());
        let page = stranger.click(&page, "Make an account").await;
        let mut form = page.form("/join");
        for (name, value) in SIGN_UP {
            form = form.fill(name, value);
        }
        let page = stranger.submit(form).await;
        assert_eq!(page.status, 303);
        let page = go_to_confirm(&world, &stranger, &link, "nora").await;
        for text in
            ["Join acme as this person?", "Nora Lind", "nora@elsewhere.example", "nora", "Contributor"]
        {
            assert!(page.says(text), "{text}: {}", page.text());
        }
        let identities = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity";
        assert_eq!((role(&world, "nora").await, world.count(identities).await), (None, 1), "nothing yet");
        let late = page.form("/join");
        let page = stranger.submit(page.form("/join")).await;
        assert_eq!(page.location().unwrap().query(), Some("done=joined"), "{}", page.text());
        assert_eq!(role(&world, "nora").await, Some(Role::Contributor));
        let page = stranger.visit(&format!("{}/acme/secret", world.hub)).await;
        assert!(page.says("/acme/secret"), "no second trip: {}", stranger.history());
        let events = world.audit("acme").await;
        let event = events.last().unwrap();
        assert_eq!((event.action.as_str(), &event.details["account"]), ("org.sso_join", &"nora".into()));
        assert_eq!(event.details["email"], "nora@elsewhere.example");

        // The button in the other tab: she is simply taken on. And the link was for one.
        assert_eq!(stranger.submit(late).await.status, 303);
        assert_eq!(Browser::new().get(&link).await.code().as_deref(), Some("join.link_used_up"));
        // Her next sign-in needs no address: the identity decides.
        world.pass(Lifetime::from_days(8));
        let page = world.visit(&stranger, &format!("{}/acme/secret", world.hub)).await;
        assert!(page.says("/acme/secret"), "{}", stranger.history());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_the_confirmation_is_pinned_to_organization_account_identity_and_browser() {
    for on in On::all() {
        let world = world_on(on).await;
        let (_, link) = joinable(&world, &[("role", "read")]).await;
        let eve = world.browser_of("eve").await;
        let page = go_to_confirm(&world, &eve, &link, "nora").await;
        let form = page.form("/join");
        let held = form.value("held").unwrap().to_owned();
        for (field, value) in [("organization", "globex"), ("account", "ben"), ("subject", "somebody-else")] {
            let page = eve.submit(page.form("/join").forge(field, value)).await;
            assert_eq!(page.code().as_deref(), Some("join.changed"), "{field}");
        }
        let url = format!("{}/organizations/acme/join", world.base);
        let own = [("organization", "acme"), ("account", "eve"), ("subject", form.value("subject").unwrap())];
        for handle in ["", "nonsense"] {
            let page = eve.post(&url, &[own[0], own[1], own[2], ("held", handle)]).await;
            assert_eq!(page.code().as_deref(), Some("join.held_missing"));
        }
        // Another account, another browser of the same account, and another organization find nothing.
        for browser in [world.browser_of("ben").await, world.browser_of("eve").await] {
            assert_eq!(
                browser.get(&format!("{url}?held={held}")).await.code().as_deref(),
                Some("join.held_missing")
            );
        }
        let page = eve.get(&format!("{}/organizations/globex/join?held={held}", world.base)).await;
        assert_eq!(page.code().as_deref(), Some("join.held_missing"));
        assert_eq!(role(&world, "eve").await, None);
        // A newer trip takes the place of the older one.
        go_to_confirm(&world, &eve, &link, "nora").await;
        assert_eq!(eve.submit(form).await.code().as_deref(), Some("join.held_missing"));
        // It waits an hour.
        let page = go_to_confirm(&world, &eve, &link, "nora").await;
        world.pass(Lifetime::from_minutes(60));
        assert_eq!(eve.submit(page.form("/join")).await.code().as_deref(), Some("join.held_missing"));
        assert_eq!(role(&world, "eve").await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_what_has_changed_since_the_provider_answered_is_read_again() {
    let maker = "UPDATE account SET disabled = 1 WHERE name_key = 'ada'";
    for (change, code) in [
        ("rotated", "join.held_missing"),
        ("turned off", "join.held_missing"),
        ("disabled", "join.held_missing"),
        ("off in the store alone", "join.link_off"),
        ("another client is live", "join.held_missing"),
        ("used up", "join.link_used_up"),
        ("its maker is switched off", "join.unknown"),
        ("the identity is another account's", "sso.identity_in_use"),
        ("the account has another identity", "sso.account_linked_elsewhere"),
        ("the account is switched off", "account.sign_in_needed"),
    ] {
        let world = World::new().await;
        let (ada, link) = joinable(&world, &[("role", "read")]).await;
        let eve = world.browser_of("eve").await;
        let page = go_to_confirm(&world, &eve, &link, "nora").await;
        let subject = page.form("/join").value("subject").unwrap().to_owned();
        let insert = |account: &str, subject: &str| {
            let (account, subject) = (account.to_owned(), subject.to_owned());
            let world = &world;
            async move {
                let organization = world.organization("acme").await.id;
                let mut tx = world.app.store.begin().await.unwrap();
                let connection =
                    doorward::store::load_connection(&mut tx, organization).await.unwrap().unwrap().id;
                let identity = doorward::store::Identity {
                    issuer: world.idp.issuer(),
                    subject: subject.clone(),
                    sub: subject,
                    email: None,
                    display_name: None,
                };
                let (account, now) = (world.account(&account).await, world.app.clock.now());
                tx.insert_identity(connection, &identity, account, now).await.unwrap();
                tx.commit(now).await.unwrap();
            }
        };
        match change {
            "rotated" => {
                make_join_link(&world, &ada, &[("role", "write")]).await;
            }
            "turned off" => {
                ada.post(&world.settings("acme", "/join-link/off"), &[]).await;
            }
            "disabled" => {
                ada.post(&world.settings("acme", "/disable"), &[]).await;
            }
            "off in the store alone" => world.behind_its_back("UPDATE connection SET live = NULL").await,
            "another client is live" => {
                world
                    .behind_its_back(
                        "INSERT INTO revision SELECT connection_id, 9, issuer_url, 'other', client_secret, \
                         client_secret_end, client_auth_method, scopes, userinfo, email_claim, hosted_domains, \
                         created_by, created_at, metadata FROM revision; UPDATE connection SET live = 9, draft = 9",
                    )
                    .await;
            }
            "used up" => world.behind_its_back("UPDATE join_link SET uses_left = 0").await,
            "its maker is switched off" => world.behind_its_back(maker).await,
            "the identity is another account's" => insert("ben", &subject).await,
            "the account has another identity" => insert("eve", "another-subject").await,
            _ => world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'eve'").await,
        }
        let page = eve.submit(page.form("/join")).await;
        assert_eq!(page.code().as_deref(), Some(code), "{change}: {}", page.text());
        assert_eq!(role(&world, "eve").await, None, "{change}");
        let sessions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session s JOIN browser_session b \
                        ON b.id = s.session_id JOIN account a ON a.id = b.account_id WHERE a.name_key = 'eve'";
        assert_eq!(world.count(sessions).await, 0, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v28_a_join_link_for_one_and_a_confirmation_are_had_by_one_of_two_at_the_same_moment() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = joinable(&world, &[("role", "read")]).await;
        let (eve, ben) = (world.browser_of("eve").await, world.browser_of("ben").await);
        let joins = async || actions(&world).await.iter().filter(|action| *action == "org.sso_join").count();
        for round in 1..=8 {
            let link = make_join_link(&world, &ada, &[("role", "read"), ("uses", "1")]).await;
            let first = go_to_confirm(&world, &eve, &link, "eve").await;
            let second = go_to_confirm(&world, &ben, &link, "ben").await;
            // Two people, and each presses the button twice at once.
            tokio::join!(
                eve.submit(first.form("/join")),
                ben.submit(second.form("/join")),
                eve.submit(first.form("/join")),
                ben.submit(second.form("/join"))
            );
            let members = [role(&world, "eve").await, role(&world, "ben").await];
            assert_eq!(members.iter().flatten().count(), 1, "round {round} on {on:?}");
            assert_eq!(joins().await, round);
            for name in ["eve", "ben"] {
                world.remove_member("acme", name).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v35_joining_touches_no_account_but_the_one_that_is_signed_in() {
    let world = World::new().await;
    let (ada, link) = joinable(&world, &[("role", "read")]).await;
    // The provider names mira, whose address is mira's proved one: eve joins as herself or not at all.
    let eve = world.browser_of("eve").await;
    let page = go_to_confirm(&world, &eve, &link, "mira").await;
    eve.submit(page.form("/join")).await;
    assert_eq!(role(&world, "eve").await, Some(Role::Read));
    assert_eq!(role(&world, "mira").await, Some(Role::Write), "untouched");
    let linked = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity i JOIN account a ON a.id = i.account_id \
                  WHERE a.name_key = 'mira'";
    assert_eq!(world.count(linked).await, 0);
    // An identity that is somebody's is refused before anything is held, without saying whose.
    let ben = world.browser_of("ben").await;
    let page = go_to_confirm(&world, &ben, &link, "mira").await;
    assert_eq!(page.code().as_deref(), Some("sso.identity_in_use"));
    assert!(!page.says("eve"), "{}", page.text());
    let held = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity";
    assert_eq!((role(&world, "ben").await, world.count(held).await), (None, 0));
    let failed: Vec<_> =
        world.audit("acme").await.into_iter().filter(|e| e.action == "org.sso_login_failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].details["purpose"], "join");
    drop(ada);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_guests_join_only_where_the_organization_lets_them_in() {
    use serde_json::json;
    let world = World::with(Options { entra: true, ..Options::default() }).await;
    let (_, link) = joinable(&world, &[("role", "read")]).await;
    world.idp.add_person(Person::new("gina", "Gina Guest", "gina@far.example").claim("acct", json!(1)));
    let eve = world.browser_of("eve").await;
    let page = go_to_confirm(&world, &eve, &link, "gina").await;
    assert_eq!(page.code().as_deref(), Some("sso.guest_refused"));
    world.behind_its_back("UPDATE connection SET guests_may_link = 1").await;
    let page = go_to_confirm(&world, &eve, &link, "gina").await;
    eve.submit(page.form("/join")).await;
    assert_eq!(role(&world, "eve").await, Some(Role::Read));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v26_a_join_that_was_started_ends_in_its_own_browser_and_for_its_own_account_alone() {
    let world = World::new().await;
    let (ada, link) = joinable(&world, &[("role", "read")]).await;
    let eve = world.browser_of("eve").await;
    let started = async || {
        world.idp.signs_in("nora");
        let page = eve.get(&link).await;
        let page = eve.submit(page.form(path_of(&link))).await;
        world.through_the_provider(&eve, page).await
    };
    let callback = started().await;
    let ben = world.browser_of("ben").await;
    ben.get(&link).await;
    assert_eq!(ben.get(callback.as_str()).await.code().as_deref(), Some("sso.attempt_unknown"));
    // Somebody else has signed in in the same browser meanwhile.
    world.sign_in(&eve, "ben").await;
    assert_eq!(eve.get(callback.as_str()).await.code().as_deref(), Some("sso.attempt_superseded"));
    world.sign_in(&eve, "eve").await;
    // While she was at the provider the link was rotated; a reload of the way back leads home.
    let callback = started().await;
    make_join_link(&world, &ada, &[("role", "read")]).await;
    assert_eq!(eve.get(callback.as_str()).await.code().as_deref(), Some("join.unknown"));
    assert_eq!(role(&world, "eve").await, None);
    // Added by an admin meanwhile, she completes an ordinary sign-in.
    let link = make_join_link(&world, &ada, &[("role", "read")]).await;
    world.idp.signs_in("eve");
    let page = eve.get(&link).await;
    let page = eve.submit(page.form(path_of(&link))).await;
    let callback = world.through_the_provider(&eve, page).await;
    world.set_role("acme", "eve", Role::Write).await;
    assert_eq!(eve.get(callback.as_str()).await.status, 303);
    assert_eq!(role(&world, "eve").await, Some(Role::Write));
    assert!(eve.visit(&format!("{}/acme/secret", world.hub)).await.says("/acme/secret"));
    assert!(!actions(&world).await.contains(&"org.sso_join".to_owned()));
}

// A switched-off account.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v34_a_switched_off_account_comes_in_by_no_way() {
    const OFF: &str = "UPDATE account SET disabled = 1 WHERE name_key = 'eve'";
    for on in On::all() {
        // By an invitation, whose page was open before.
        let world = world_on(on).await;
        let link = invite(&world, &world.browser_of("ada").await, &[("role", "read")]).await;
        let eve = world.browser_of("eve").await;
        let page = eve.get(&link).await;
        world.behind_its_back(OFF).await;
        let page = eve.submit(page.form(path_of(&link))).await;
        assert_eq!(page.code().as_deref(), Some("account.sign_in_needed"), "invitation");
        assert_eq!(role(&world, "eve").await, None);

        // By the join link: at the way back, and at the confirmation (above).
        let world = world_on(on).await;
        let (_, link) = joinable(&world, &[("role", "read")]).await;
        let eve = world.browser_of("eve").await;
        world.idp.signs_in("nora");
        let page = eve.get(&link).await;
        let page = eve.submit(page.form(path_of(&link))).await;
        let callback = world.through_the_provider(&eve, page).await;
        world.behind_its_back(OFF).await;
        let page = eve.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_superseded"), "join");

        // By SSO, by a session on the application's host, and by a ticket, once this node has heard of it.
        let world = world_on(on).await;
        world.set_role("acme", "eve", Role::Write).await;
        world.enable_sso("acme", "ada").await;
        let eve = world.browser_of("eve").await;
        world.idp.signs_in("eve");
        let secret = format!("{}/acme/secret", world.hub);
        assert!(world.visit(&eve, &secret).await.says("/acme/secret"), "{}", eve.history());
        // A ticket on its way, in another browser of hers: everything up to the last redirect.
        let third = world.browser_of("eve").await;
        let mut page = third.get(&secret).await;
        let ticket = loop {
            let to = page.location().unwrap_or_else(|| panic!("{} {}", page.text(), third.history()));
            if to.path().ends_with("/ticket") {
                break to;
            }
            page = third.get(to.as_str()).await;
        };
        let other = world.browser_of("eve").await;
        let callback = world.returning(&other, "acme").await;
        world.behind_its_back(OFF).await;
        let account = world.account("eve").await;
        let now = world.app.clock.now();
        let mut tx = world.app.store.begin().await.unwrap();
        tx.changed(doorward::store::Change::Account(account));
        tx.commit(now).await.unwrap();
        let page = third.get(ticket.as_str()).await;
        let page = if page.status.is_redirection() { third.get(&secret).await } else { page };
        assert!(!page.says("the application's page"), "ticket: {}", page.text());
        let page = eve.fetch(&secret).await;
        assert_eq!(page.status, 401, "host session");
        let page = other.get(callback.as_str()).await;
        assert!(!page.status.is_success() || page.code().is_some(), "sso: {}", page.text());
        let sso = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";
        assert_eq!(world.count(sso).await, 2, "ada's, and hers of before");
    }
}

// Leaving.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_leaving_removing_and_demoting_are_felt_at_the_gate_on_this_node_and_another() {
    for on in On::all() {
        for deed in ["leave", "remove", "demote"] {
            let world = world_on(on).await;
            let (ada, _) = world.enable_sso("acme", "ada").await;
            let mira = world.browser_of("mira").await;
            world.idp.signs_in("mira");
            let secret = format!("{}/acme/secret", world.hub);
            assert!(world.visit(&mira, &secret).await.says("/acme/secret"), "{}", mira.history());
            // Another node on the same store remembers the account too.
            let other = world.other_node().await;
            other.read_changes(world.app.clock.now()).await.unwrap();
            let (account, organization) = (world.account("mira").await, world.organization("acme").await.id);
            let there = async || {
                let facts = other.account_facts(account, world.app.clock.now()).await.unwrap().unwrap();
                let role = facts.memberships.iter().find(|m| m.organization == organization).map(|m| m.role);
                let sso = facts.sessions.iter().any(|s| s.sso.iter().any(|o| o.organization == organization));
                (role, sso)
            };
            assert_eq!(there().await, (Some(Role::Write), true));

            match deed {
                "leave" => {
                    let page = mira.get(&format!("{}/organizations/acme/leave", world.base)).await;
                    assert!(page.says("single sign-on sessions for acme end"), "{}", page.text());
                    let page = mira.submit(page.form("/leave")).await;
                    assert_eq!(page.location().unwrap().query(), Some("done=left"));
                }
                "remove" => {
                    ada.post(&format!("{}/remove", members_page(&world)), &[("account", "mira")]).await;
                }
                _ => {
                    let fields = [("account", "mira"), ("role", "no_access")];
                    ada.post(&format!("{}/role", members_page(&world)), &fields).await;
                }
            }
            let page = mira.fetch(&secret).await;
            assert_eq!(page.status, 403, "{deed}: at once on this node");
            other.read_changes(world.app.clock.now()).await.unwrap();
            let expected = if deed == "demote" { (Some(Role::NoAccess), true) } else { (None, false) };
            assert_eq!(there().await, expected, "{deed}: with the next reading of changes on another");
            assert!(mira.visit(&format!("{}/globex/secret", world.hub)).await.says("/globex/secret"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_whoever_is_removed_at_the_provider_comes_back_to_nothing() {
    for on in On::all() {
        let world = world_on(on).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let callback = world.returning(&mira, "acme").await;
        ada.post(&format!("{}/remove", members_page(&world)), &[("account", "mira")]).await;
        let page = mira.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"), "{}", page.text());
        assert_eq!(role(&world, "mira").await, None);

        // A demoted admin's test ends with nothing as well.
        world.set_role("acme", "ben", Role::Admin).await;
        let ben = world.browser_of("ben").await;
        let callback = world.returning_from_test(&ben, "acme").await;
        let fields = [("account", "ben"), ("role", "write")];
        ada.post(&format!("{}/role", members_page(&world)), &fields).await;
        let page = ben.get(callback.as_str()).await;
        assert_eq!(page.code().as_deref(), Some("sso.attempt_unknown"), "{}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_the_last_admin_can_not_leave_be_removed_or_demoted_and_an_admin_who_is_switched_off_is_none() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        for with_other in [false, true] {
            if with_other {
                world.set_role("acme", "ben", Role::Admin).await;
                world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'ben'").await;
            }
            let page = ada.get(&format!("{}/organizations/acme/leave", world.base)).await;
            assert_eq!(page.code().as_deref(), Some("organization.last_admin"));
            assert!(!page.has_form("/leave"));
            for (path, fields) in [
                ("/organizations/acme/leave", &[][..]),
                ("/organizations/acme/settings/members/remove", &[("account", "ada")]),
                ("/organizations/acme/settings/members/role", &[("account", "ada"), ("role", "write")]),
            ] {
                let page = ada.post(&format!("{}{path}", world.base), fields).await;
                assert_eq!(page.code().as_deref(), Some("organization.last_admin"), "{path}");
            }
            assert_eq!(role(&world, "ada").await, Some(Role::Admin));
        }
    }
}

/// Two admins, and each in the same moment ends or lowers the other or himself: one of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v45_two_admins_at_once_leave_remove_or_demote_and_one_stays() {
    for on in On::all() {
        let world = world_on(on).await;
        let rounds = from_environment("DOORWARD_ROUNDS").unwrap_or(if on == On::Sqlite { 60 } else { 100 });
        let (ada, ben) = (world.browser_of("ada").await, world.browser_of("ben").await);
        let leave = format!("{}/organizations/acme/leave", world.base);
        let remove = format!("{}/remove", members_page(&world));
        let demote = format!("{}/role", members_page(&world));
        for round in 0..rounds {
            world.set_role("acme", "ada", Role::Admin).await;
            world.set_role("acme", "ben", Role::Admin).await;
            let deed = async |browser: &Browser, own: &str, other: &str, kind: u64| match kind {
                0 => browser.post(&leave, &[]).await,
                1 => browser.post(&remove, &[("account", other)]).await,
                2 => browser.post(&demote, &[("account", other), ("role", "read")]).await,
                _ => browser.post(&demote, &[("account", own), ("role", "no_access")]).await,
            };
            let pages =
                tokio::join!(deed(&ada, "ada", "ben", round % 4), deed(&ben, "ben", "ada", (round / 4) % 4));
            let admins = [role(&world, "ada").await, role(&world, "ben").await];
            assert!(
                admins.contains(&Some(Role::Admin)),
                "round {round} on {on:?}: {:?} {:?}",
                pages.0.code(),
                pages.1.code()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v45_the_last_use_of_an_invitation_is_had_by_one_of_two_at_the_same_moment() {
    for on in On::all() {
        let world = world_on(on).await;
        let ada = world.browser_of("ada").await;
        let (eve, ben) = (world.browser_of("eve").await, world.browser_of("ben").await);
        for round in 0..40 {
            let link = invite(&world, &ada, &[("role", "read")]).await;
            let (a, b) = tokio::join!(
                eve.post(&link, &[("organization", "acme"), ("account", "eve")]),
                ben.post(&link, &[("organization", "acme"), ("account", "ben")])
            );
            let members = [role(&world, "eve").await, role(&world, "ben").await];
            assert_eq!(members.iter().flatten().count(), 1, "round {round}: {:?} {:?}", a.code(), b.code());
            let codes = [a.code(), b.code()];
            assert!(codes.contains(&Some("join.invitation_used".to_owned())), "{codes:?}");
            for name in ["eve", "ben"] {
                world.remove_member("acme", name).await;
            }
        }
    }
}

// The members page.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_members_come_fifty_at_a_time_and_are_found_by_name() {
    for on in On::all() {
        let world = world_on(on).await;
        for n in 0..500 {
            let name = format!("member-{n:03}");
            world.add_account(&name, if n == 321 { "Nora 50%_Lind" } else { "" }).await;
            world.set_role("acme", &name, Role::Read).await;
        }
        let ada = world.browser_of("ada").await;
        let mut page = ada.get(&members_page(&world)).await;
        assert!(page.says("502 members"), "{}", page.text());
        assert!(page.body.len() < 60 * 1024, "{} bytes", page.body.len());
        let mut seen = std::collections::BTreeSet::new();
        let mut pages = 0;
        loop {
            pages += 1;
            let lines: Vec<&str> = page.body.split("data-member=\"").skip(1).collect();
            assert!(lines.len() <= 50, "{}", lines.len());
            seen.extend(lines.iter().map(|line| line.split('"').next().unwrap().to_owned()));
            if !page.body.contains("rel=\"next\"") {
                break;
            }
            page = ada.click(&page, "More members").await;
        }
        assert_eq!((seen.len(), pages), (502, 11));
        for (search, found) in [
            ("MEMBER-32", 10),
            ("nora", 1),
            ("lind", 1),
            ("50%25_", 1),
            ("%25", 1),
            ("_", 1),
            ("ember-32", 0),
            ("!", 0),
            ("%27%22--", 0),
        ] {
            let page = ada.get(&format!("{}?q={search}", members_page(&world))).await;
            assert_eq!(page.body.matches("data-member=").count(), found, "{search}");
        }
        let page = ada.get(&format!("{}?q=member-1", members_page(&world))).await;
        let next = ada.click(&page, "More members").await;
        assert!(next.body.contains("member-199") && !next.body.contains("data-member=\"member-2"));
        assert!(next.says("100 members found"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_an_admins_role_sees_neither_invitations_nor_the_join_link() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    invite(&world, &ada, &[("role", "read"), ("uses", "3")]).await;
    world.add_organization("initech", "ada", Plan::Free).await;
    let mira = world.browser_of("mira").await;
    let page = mira.get(&members_page(&world)).await;
    assert!(!page.says("Invitations") && !page.says("Revoke") && page.says("Leave acme"), "{}", page.text());
    let page = mira.post(&format!("{}/invitations", members_page(&world)), &[("role", "read")]).await;
    assert_eq!(page.code().as_deref(), Some("organization.unknown"));
}
