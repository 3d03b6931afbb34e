//! First links that need a decision: what is held, who decides, and each way out (architecture.md §3, Linking; rules 4,
//! 12 and 13; conformance.md V35 to V37).

use doorward::store::{
    HELD_LIFETIME, HeldIdentity, Identity, LinkFacts, Purpose, REQUEST_LIFETIME, count_link_requests,
    load_connection, load_held, load_link_facts, load_link_request_of, load_link_requests,
};
use doorward_core::email::Email;
use doorward_core::ids::RevisionNumber;
use doorward_core::membership::Role;
use doorward_core::oidc::Doubts;
use doorward_core::secret::TokenHash;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page, Person};

use crate::harness::{On, Options, World};

/// As the callback holds it: mira's browser session, and somebody called `subject` at the provider.
async fn held(world: &World, handle: &str, subject: &str) -> HeldIdentity {
    let organization = world.organization("acme").await.id;
    let connection = load_connection(&mut world.app.store.reader(), organization).await.unwrap().unwrap();
    let account = world.account("mira").await;
    let facts = world.app.store.account_facts(account, world.app.clock.now()).await.unwrap().unwrap();
    HeldIdentity {
        handle: TokenHash::of(handle),
        organization,
        connection: connection.id,
        revision: RevisionNumber(1),
        purpose: Purpose::SignIn,
        account,
        session: facts.sessions.first().map(|session| session.id),
        identity: Identity {
            issuer: world.idp.issuer(),
            subject: subject.to_owned(),
            sub: subject.to_owned(),
            email: Some("m.holt@corp.example".to_owned()),
            display_name: None,
        },
        doubts: Doubts { guest: false, email_unverified: true },
        next: "/".to_owned(),
        created_at: world.app.clock.now(),
        requested_at: None,
    }
}

async fn hold(world: &World, held: &HeldIdentity) {
    let mut tx = world.app.store.begin().await.unwrap();
    tx.hold_identity(held).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
}

async fn world_on(on: On) -> World {
    let world = World::with(Options { on, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_what_is_held_is_found_by_its_own_handle_session_and_organization_alone_and_taken_once() {
    for on in On::all() {
        let world = world_on(on).await;
        let _mira = world.browser_of("mira").await;
        let (store, now) = (&world.app.store, world.app.clock.now());
        let mine = held(&world, "mine", "sub-1").await;
        hold(&world, &mine).await;
        let (organization, session) = (mine.organization, mine.session.unwrap());
        let other_organization = world.organization("globex").await.id;
        let _ada = world.browser_of("ada").await;
        let ada = world.account("ada").await;
        let facts = store.account_facts(ada, now).await.unwrap().unwrap();
        let other_session = facts.sessions[0].id;
        let (handle, wrong) = (mine.handle, TokenHash::of("another"));
        for (organization, handle, session, purpose) in [
            (organization, wrong, session, Purpose::SignIn),
            (other_organization, handle, session, Purpose::SignIn),
            (organization, handle, other_session, Purpose::SignIn),
            (organization, handle, session, Purpose::Test),
        ] {
            let found =
                load_held(&mut store.reader(), organization, handle, session, purpose, now).await.unwrap();
            assert_eq!(found, None);
            let mut tx = store.begin().await.unwrap();
            assert_eq!(tx.take_held(organization, handle, session, purpose, now).await.unwrap(), None);
            assert!(
                purpose == Purpose::Test
                    || !tx.request_link(organization, handle, session, now).await.unwrap()
            );
            tx.commit(now).await.unwrap();
        }
        let late = now.plus(HELD_LIFETIME);
        let mut reader = store.reader();
        let load = load_held(&mut reader, organization, handle, session, Purpose::SignIn, late);
        assert_eq!(load.await.unwrap(), None, "an hour is over");
        let mut tx = store.begin().await.unwrap();
        let taken = tx.take_held(organization, handle, session, Purpose::SignIn, now).await.unwrap();
        assert_eq!(taken, Some(mine));
        assert_eq!(tx.take_held(organization, handle, session, Purpose::SignIn, now).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_another_trip_of_the_account_leaves_nothing_of_the_one_before() {
    for on in On::all() {
        let world = world_on(on).await;
        let _mira = world.browser_of("mira").await;
        let (store, now) = (&world.app.store, world.app.clock.now());
        let first = held(&world, "first", "sub-1").await;
        hold(&world, &first).await;
        let second = held(&world, "second", "sub-2").await;
        hold(&world, &second).await;
        let mut reader = store.reader();
        let load = |handle| {
            let (organization, session) = (first.organization, first.session.unwrap());
            let mut reader = store.reader();
            async move {
                load_held(&mut reader, organization, handle, session, Purpose::SignIn, now).await.unwrap()
            }
        };
        assert_eq!(load(first.handle).await, None);
        assert_eq!(load(second.handle).await, Some(second.clone()));
        let count = count_link_requests(&mut reader, first.organization, now).await.unwrap();
        assert_eq!(count, 0, "nobody was asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outlives_the_browser_session_and_what_is_only_held_does_not() {
    for on in On::all() {
        let world = world_on(on).await;
        let (store, now) = (&world.app.store, world.app.clock.now());
        for asked in [false, true] {
            let _mira = world.browser_of("mira").await;
            let mine = held(&world, "mine", "sub-1").await;
            hold(&world, &mine).await;
            let session = mine.session.unwrap();
            let mut tx = store.begin().await.unwrap();
            if asked {
                assert!(tx.request_link(mine.organization, mine.handle, session, now).await.unwrap());
                assert!(
                    !tx.request_link(mine.organization, mine.handle, session, now).await.unwrap(),
                    "once"
                );
            }
            tx.delete_browser_session(session, mine.account).await.unwrap();
            tx.commit(now).await.unwrap();
            let rows = world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity").await;
            assert_eq!(rows, i64::from(asked));
        }
        let organization = world.organization("acme").await.id;
        let mut reader = store.reader();
        let requests = load_link_requests(&mut reader, organization, now).await.unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].0.account_name.as_str(), "mira");
        assert_eq!(requests[0].0.held.session, None);
        let mira = world.account("mira").await;
        let globex = world.organization("globex").await.id;
        assert!(load_link_request_of(&mut reader, organization, mira, now).await.unwrap().is_some());
        assert!(load_link_request_of(&mut reader, globex, mira, now).await.unwrap().is_none());
        let late = now.plus(REQUEST_LIFETIME);
        assert!(load_link_requests(&mut reader, organization, late).await.unwrap().is_empty());
        store.clean_up(late.plus(Lifetime::from_millis(1))).await.unwrap();
        assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_judged_by_the_same_facts_in_the_list_and_alone() {
    for on in On::all() {
        let world = world_on(on).await;
        let _mira = world.browser_of("mira").await;
        let now = world.app.clock.now();
        let (ada, mira) = (world.account("ada").await, world.account("mira").await);
        let facts = |identity_account, account_is_linked, address_is_proved| LinkFacts {
            identity_account,
            account_is_linked,
            address_is_proved,
        };
        // What is changed behind its back, the address that the provider names, and what is known then.
        for (change, address, expected) in [
            ("SELECT 1", Some("m.holt@corp.example"), facts(None, false, false)),
            ("SELECT 1", None, facts(None, false, false)),
            ("SELECT 1", Some("no address"), facts(None, false, false)),
            ("SELECT 1", Some("Mira@ACME.example"), facts(None, false, true)),
            ("SELECT 1", Some("ada@acme.example"), facts(None, false, false)),
            (
                "UPDATE account_email SET proved_at = NULL",
                Some("mira@acme.example"),
                facts(None, false, false),
            ),
            (
                "UPDATE identity SET subject = 'sub-1'",
                Some("m.holt@corp.example"),
                facts(Some(ada), false, false),
            ),
            (
                "UPDATE identity SET account_id = (SELECT id FROM account WHERE name_key = 'mira')",
                Some("m.holt@corp.example"),
                facts(Some(mira), true, false),
            ),
            ("UPDATE identity SET subject = 'sub-2'", Some("m.holt@corp.example"), facts(None, true, false)),
            ("UPDATE identity SET issuer = 'x'", Some("m.holt@corp.example"), facts(None, false, false)),
        ] {
            world.behind_its_back(change).await;
            let mut mine = held(&world, "mine", "sub-1").await;
            mine.identity.email = address.map(str::to_owned);
            hold(&world, &mine).await;
            let mut tx = world.app.store.begin().await.unwrap();
            assert!(
                tx.request_link(mine.organization, mine.handle, mine.session.unwrap(), now).await.unwrap()
            );
            tx.commit(now).await.unwrap();
            let mut reader = world.app.store.reader();
            let listed = load_link_requests(&mut reader, mine.organization, now).await.unwrap();
            assert_eq!(listed[0].1, expected, "{on:?} {change} {address:?}");
            let key = address.and_then(|text| Email::parse(text).ok());
            let key = key.as_ref().map_or("", Email::key);
            let alone =
                load_link_facts(&mut reader, mine.connection, &mine.identity, key, mira).await.unwrap();
            assert_eq!(alone, expected, "{on:?} {change} {address:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_and_disable_delete_what_is_held() {
    for on in On::all() {
        let world = world_on(on).await;
        let _mira = world.browser_of("mira").await;
        hold(&world, &held(&world, "mine", "sub-1").await).await;
        world.remove_member("acme", "mira").await;
        assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity").await, 0);
        hold(&world, &held(&world, "mine", "sub-1").await).await;
        let acme = world.organization("acme").await;
        let mut tx = world.app.store.begin().await.unwrap();
        tx.disable_connection(&acme).await.unwrap();
        tx.commit(world.app.clock.now()).await.unwrap();
        assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM held_identity").await, 0);
    }
}

/// Acme's SSO is live; mira is known to the provider by an address that is not hers here.
async fn world_with_a_stranger_at_the_provider(on: On) -> (World, Browser) {
    let world = World::with(Options { on, ..Options::default() }).await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    world.idp.add_person(Person::new("mholt", "M. Holt", "m.holt@corp.example"));
    (world, ada)
}

fn members(world: &World) -> String {
    format!("{}/organizations/acme/settings/members", world.base)
}

fn private_page(world: &World) -> String {
    format!("{}/acme/secret", world.hub)
}

/// Signs in at the provider as `person` and asks the admins.
async fn ask(world: &World, browser: &Browser, person: &str) -> Page {
    world.idp.signs_in(person);
    let page = world.visit(browser, &private_page(world)).await;
    let asked = browser.submit(page.form("/sso/link")).await;
    assert_eq!(asked.status, 303, "{} {}", asked.text(), browser.history());
    browser.follow_all(asked).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_address_is_not_proved_asks_an_admin_and_then_simply_signs_in() {
    for on in On::all() {
        let (world, ada) = world_with_a_stranger_at_the_provider(on).await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mholt");
        let page = world.visit(&mira, &private_page(&world)).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("sso.email_not_proved")));
        for said in ["M. Holt (m.holt@corp.example)", "mira", "mira@acme.example", "operator", "Ask an admin"]
        {
            assert!(page.says(said), "{said}: {}", page.text());
        }
        assert!(!ada.get(&members(&world)).await.says("m.holt@corp.example"), "nobody was asked yet");

        let page = ask(&world, &mira, "mholt").await;
        assert!(page.says("An admin is asked") && page.status == 200, "{}", page.text());
        // Another sign-in on the way asks nothing twice.
        let page = world.visit(&mira, &private_page(&world)).await;
        assert!(page.says("An admin is asked"), "{} {}", page.text(), mira.history());

        let page = ada.get(&members(&world)).await;
        assert!(page.says("is M. Holt (m.holt@corp.example) at the provider"), "{}", page.text());
        let sso_page = ada.get(&world.settings("acme", "")).await;
        assert!(sso_page.says("1 member waits"), "{}", sso_page.text());
        let page = ada.submit(page.form("/links/approve")).await;
        let page = ada.follow_all(page).await;
        assert!(page.says("The link is made.") && page.says("approved by ada"), "{}", page.text());

        let page = world.visit(&mira, &private_page(&world)).await;
        assert!(page.says("the application's page /acme/secret"), "{}", mira.history());
        let actions: Vec<String> = world.audit("acme").await.into_iter().map(|e| e.action).collect();
        let at = actions.iter().position(|action| action == "org.sso_link.request").unwrap();
        let link = actions.iter().rposition(|action| action == "org.sso_link").unwrap();
        assert!(at < link && actions[link + 1..].contains(&"org.sso_login".to_owned()), "{actions:?}");
        let link = &world.audit("acme").await[link];
        assert_eq!((link.actor_name.as_str(), link.details["how"].as_str()), ("ada", Some("approval")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_nothing_but_the_very_question_that_was_shown_can_be_asked_or_approved() {
    for on in On::all() {
        let (world, ada) = world_with_a_stranger_at_the_provider(on).await;
        world.set_role("acme", "eve", Role::Read).await;
        world.idp.add_person(Person::new("other", "Other Person", "other@corp.example"));
        let (mira, eve) = (world.browser_of("mira").await, world.browser_of("eve").await);
        world.idp.signs_in("mholt");
        let first = world.visit(&mira, &private_page(&world)).await;
        let ask_url = first.form("/sso/link").action().to_string();
        let handle = first.form("/sso/link").value("held").unwrap().to_owned();

        // Another account, another organization, another browser session of the same account.
        let second_browser = world.browser_of("mira").await;
        for (browser, url) in [
            (&eve, ask_url.clone()),
            (&second_browser, ask_url.clone()),
            (&mira, ask_url.replace("/acme/", "/globex/")),
        ] {
            let page = browser.post(&url, &[("held", &handle)]).await;
            assert_eq!(page.code().as_deref(), Some("sso.link_over"), "{}", page.text());
        }
        // The identity was swapped by a later trip: the form of the first one asks nothing.
        world.idp.signs_in("other");
        let second = world.visit(&mira, &private_page(&world)).await;
        let page = mira.submit(first.form("/sso/link")).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (410, Some("sso.link_over")));
        mira.submit(second.form("/sso/link")).await;

        // The admin looks at the question about "other"; then the member asks about somebody else.
        let shown = ada.get(&members(&world)).await;
        ask(&world, &mira, "mholt").await;
        ask(&world, &eve, "other").await;
        let page = ada.submit(shown.form("/links/approve")).await;
        assert_eq!(page.code().as_deref(), Some("sso.link_over"), "{}", page.text());
        let page = ada.get(&members(&world)).await;
        let form = || page.forms().into_iter().find(|f| f.value("account") == Some("mira")).unwrap();
        let page_of_eve = page.forms().into_iter().find(|f| f.value("account") == Some("eve")).unwrap();
        let request_of_eve = page_of_eve.value("request").unwrap().to_owned();
        let swapped = ada.submit(form().forge("request", &request_of_eve)).await;
        assert_eq!(swapped.code().as_deref(), Some("sso.link_over"));
        let swapped = ada.submit(form().forge("account", "ada")).await;
        assert_eq!(swapped.code().as_deref(), Some("sso.link_own"));
        // An admin of another organization opens nothing of this one (rule 7).
        let ben = world.browser_of("ben").await;
        let elsewhere = form().action().to_string().replace("/acme/", "/globex/");
        let request = form().value("request").unwrap().to_owned();
        let page = ben.post(&elsewhere, &[("account", "mira"), ("request", &request)]).await;
        assert_eq!(page.code().as_deref(), Some("sso.link_over"), "{}", page.text());
        assert_eq!(linked(&world).await, 1, "the admin who enabled, and nobody else");
    }
}

async fn linked(world: &World) -> i64 {
    world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM identity").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_approves_the_link_of_his_own_account() {
    let (world, ada) = world_with_a_stranger_at_the_provider(On::Sqlite).await;
    let mira = world.browser_of("mira").await;
    ask(&world, &mira, "mholt").await;
    // Made an admin meanwhile; in a browser whose SSO is good by a proof of before.
    world.set_role("acme", "mira", Role::Admin).await;
    let page = ada.get(&members(&world)).await;
    let form = page.form("/links/approve");
    let (account, now) = (world.account("mira").await, world.app.clock.now());
    let organization = world.organization("acme").await.id;
    let epoch = load_connection(&mut world.app.store.reader(), organization).await.unwrap().unwrap().epoch;
    let facts = world.app.store.account_facts(account, now).await.unwrap().unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    tx.put_sso_session(facts.sessions[0].id, account, organization, epoch, "x", "y", now).await.unwrap();
    tx.commit(now).await.unwrap();
    let page = mira.get(&members(&world)).await;
    assert!(page.says("This is your own: another admin decides.") && !page.has_form("/links/approve"));
    let request = form.value("request").unwrap().to_owned();
    let page = mira.post(form.action().as_str(), &[("account", "mira"), ("request", &request)]).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("sso.link_own")));
    assert_eq!(linked(&world).await, 1);
    ada.submit(form).await;
    assert_eq!(linked(&world).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_made_anew_at_the_provider_is_put_in_the_place_of_the_old_identity_by_an_admin() {
    for on in On::all() {
        let (world, ada) = world_with_a_stranger_at_the_provider(on).await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        assert!(world.visit(&mira, &private_page(&world)).await.says("/acme/secret"));
        // The same address, another subject.
        world.idp.add_person(Person::new("mira-2", "Mira Holt", "mira@acme.example"));
        world.idp.signs_in("mira-2");
        let again = world.browser_of("mira").await;
        let page = world.visit(&again, &private_page(&world)).await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (409, Some("sso.account_linked_elsewhere"))
        );
        assert!(page.says("takes the place of the one before"), "{}", page.text());
        ask(&world, &again, "mira-2").await;
        let page = ada.get(&members(&world)).await;
        ada.submit(page.form("/links/approve")).await;
        assert_eq!(linked(&world).await, 2, "one identity per account and connection");
        // What the old one had opened is closed, and the new one opens it.
        let sent = mira.get(&private_page(&world)).await;
        assert!(sent.location().unwrap().as_str().contains("/organizations/acme/sso"), "{}", mira.history());
        assert!(world.visit(&again, &private_page(&world)).await.says("/acme/secret"));
        world.idp.signs_in("mira");
        let page = world.visit(&world.browser_of("mira").await, &private_page(&world)).await;
        assert_eq!(page.code().as_deref(), Some("sso.account_linked_elsewhere"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_of_another_account_is_unlinked_there_first_and_nobody_is_told_whose_it_was() {
    for on in On::all() {
        let (world, ada) = world_with_a_stranger_at_the_provider(on).await;
        world.set_role("acme", "eve", Role::Read).await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        assert!(world.visit(&mira, &private_page(&world)).await.says("/acme/secret"));
        // The account changed hands: eve is the person at the provider now.
        let eve = world.browser_of("eve").await;
        let page = world.visit(&eve, &private_page(&world)).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (409, Some("sso.identity_in_use")));
        let text = page.text();
        assert!(
            !text.contains("mira") && page.says("ask an admin of the organization to unlink it"),
            "{text}"
        );

        let page = ada.get(&members(&world)).await;
        let form = page.forms().into_iter().find(|form| {
            form.action().path().ends_with("/links/remove") && form.value("account") == Some("mira")
        });
        let page = ada.submit(form.unwrap()).await;
        assert!(ada.follow_all(page).await.says("The member is unlinked"));
        let sent = mira.get(&private_page(&world)).await;
        assert!(sent.location().unwrap().as_str().contains("/organizations/acme/sso"), "{}", mira.history());
        let page = ask(&world, &eve, "mira").await;
        assert!(page.says("An admin is asked"));
        let page = ada.get(&members(&world)).await;
        ada.submit(page.form("/links/approve")).await;
        assert!(world.visit(&eve, &private_page(&world)).await.says("/acme/secret"));
        let page = ada.post(&format!("{}/links/remove", members(&world)), &[("account", "ben")]).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (409, Some("sso.not_linked")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_question_is_gone_and_may_be_asked_again() {
    let (world, ada) = world_with_a_stranger_at_the_provider(On::Sqlite).await;
    let mira = world.browser_of("mira").await;
    ask(&world, &mira, "mholt").await;
    let page = ada.get(&members(&world)).await;
    ada.submit(page.form("/links/refuse")).await;
    let page = mira.get(&format!("{}/organizations/acme/sso/link", world.base)).await;
    assert_eq!((page.status.as_u16(), page.code().as_deref()), (410, Some("sso.link_over")));
    assert!(ask(&world, &mira, "mholt").await.says("An admin is asked"));
    assert!(world.audit("acme").await.iter().any(|event| event.action == "org.sso_link.refuse"));
    assert_eq!(linked(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_proved_meanwhile_needs_no_decision() {
    let (world, _ada) = world_with_a_stranger_at_the_provider(On::Sqlite).await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mholt");
    let page = world.visit(&mira, &private_page(&world)).await;
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    let account = world.account("mira").await;
    tx.prove_email(account, &Email::parse("m.holt@corp.example").unwrap(), now).await.unwrap();
    tx.commit(now).await.unwrap();
    let page = mira.submit(page.form("/sso/link")).await;
    let page = world.arrive(&mira, page).await;
    assert!(page.says("the application's page /acme/secret"), "{} {}", page.text(), mira.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unverified_address_and_none_at_all_can_be_approved_and_link_nobody_by_themselves() {
    for (person, code) in [
        (Person::new("mira-x", "Mira Holt", "mira@acme.example").unverified(), "sso.email_unverified"),
        (Person::new("mira-y", "Mira Holt", "").without_mailbox(), "sso.email_missing"),
    ] {
        let (world, ada) = world_with_a_stranger_at_the_provider(On::Sqlite).await;
        let name = person.name.clone();
        world.idp.add_person(person);
        let mira = world.browser_of("mira").await;
        world.idp.signs_in(&name);
        let page = world.visit(&mira, &private_page(&world)).await;
        assert_eq!(page.code().as_deref(), Some(code), "{}", page.text());
        ask(&world, &mira, &name).await;
        let page = ada.get(&members(&world)).await;
        ada.submit(page.form("/links/approve")).await;
        assert!(world.visit(&mira, &private_page(&world)).await.says("/acme/secret"), "{}", mira.history());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_lists_approves_and_unlinks_and_the_log_names_the_system_user() {
    for on in On::all() {
        let (world, _ada) = world_with_a_stranger_at_the_provider(on).await;
        assert_eq!(world.command("sso link-requests acme").1, "Nobody waits for a decision.\n");
        let (code, _, errors) = world.command("sso approve-link acme mira --subject mholt");
        assert_eq!(code, 1);
        assert!(errors.starts_with("error[sso.link_over]: there is no such question"), "{errors}");

        let mira = world.browser_of("mira").await;
        ask(&world, &mira, "mholt").await;
        let (_, listed, _) = world.command("sso link-requests acme");
        assert!(
            listed.starts_with("mira  2026-01-15T09:") && listed.contains("M. Holt (m.holt@corp.example)")
        );
        // The question that was listed, and no other (V37).
        let (code, _, errors) = world.command("sso approve-link acme mira --subject another");
        assert!(code == 1 && errors.contains("sso.link_over"), "{errors}");
        assert_eq!(linked(&world).await, 1);
        // Nor whichever is open by now: what the operator was shown, he names.
        let (code, _, errors) = world.command("sso approve-link acme mira");
        assert!(code != 0 && errors.contains("--subject"), "{errors}");
        assert_eq!(linked(&world).await, 1);
        let (_, subject) = listed.split_once(", subject ").unwrap();
        let subject = subject.split(' ').next().unwrap();
        let (code, said, errors) = world.command(&format!("sso approve-link acme mira --subject {subject}"));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(said.starts_with("mira is linked to M. Holt"), "{said}");
        assert!(world.visit(&mira, &private_page(&world)).await.says("/acme/secret"), "{}", mira.history());

        let (code, said, errors) = world.command("sso unlink acme mira");
        assert_eq!((code, errors.as_str()), (0, ""), "{said}");
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
        let sent = mira.get(&private_page(&world)).await;
        assert!(sent.location().unwrap().as_str().contains("/organizations/acme/sso"), "{}", mira.history());
        let log = world.audit("acme").await;
        let by_operator: Vec<&str> = log
            .iter()
            .filter(|event| event.actor_kind == "operator")
            .map(|event| event.action.as_str())
            .collect();
        assert_eq!(by_operator, ["org.sso_link", "org.sso_unlink"]);
    }
}
