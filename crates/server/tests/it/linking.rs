//! First links that need a decision: what is held, who decides, and each way out (architecture.md §3, Linking; rules 4,
//! 12 and 13; conformance.md V35 to V37).

use doorward::store::{
    HELD_LIFETIME, HeldIdentity, Identity, Purpose, REQUEST_LIFETIME, count_link_requests, load_connection,
    load_held, load_link_request_of, load_link_requests,
};
use doorward_core::ids::RevisionNumber;
use doorward_core::oidc::Doubts;
use doorward_core::secret::TokenHash;
use doorward_core::time::Lifetime;

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
        assert_eq!(requests[0].account_name.as_str(), "mira");
        assert_eq!(requests[0].held.session, None);
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
