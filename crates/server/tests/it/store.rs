//! The store suite: one contract, run over SQLite and PostgreSQL.

use doorward::store::{Change, NewAccount, Query as _, Store, StoreError, Taken};
use doorward_core::audit_event::AuditAction;
use doorward_core::email::Email;
use doorward_core::ids::{AccountId, ConnectionId, OrganizationId, RevisionNumber, SessionId};
use doorward_core::name::Name;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::TempDir;

use crate::harness::{On, START_MS, fresh_store};

const NOW: Timestamp = Timestamp::from_millis(START_MS);

pub fn account(n: u8, name: &str) -> NewAccount {
    NewAccount {
        id: AccountId::new(START_MS, [n; 10]),
        name: Name::parse(name).unwrap(),
        full_name: String::new(),
        email: Some(Email::parse(&format!("{name}@acme.example")).unwrap()),
        email_proved: true,
        password_hash: None,
        operator: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_name_is_given_once_to_accounts_and_organizations_alike() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let mut tx = store.begin().await.unwrap();
        tx.insert_account(&account(1, "acme"), NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let id = OrganizationId::new(START_MS, [2; 10]);
        let taken = tx
            .insert_organization(id, &Name::parse("ACME").unwrap(), "x", doorward::store::Plan::Team, NOW)
            .await;
        assert!(matches!(taken, Err(StoreError::Conflict)), "{taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_13_a_proved_address_belongs_to_one_account() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let mut tx = store.begin().await.unwrap();
        tx.insert_account(&account(1, "mira"), NOW).await.unwrap();
        let other = NewAccount {
            email: Email::parse("Mira@acme.example").ok(),
            email_proved: false,
            ..account(2, "eve")
        };
        tx.insert_account(&other, NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let third = NewAccount { email: Email::parse("MIRA@acme.example").ok(), ..account(3, "mallory") };
        assert!(matches!(tx.insert_account(&third, NOW).await, Err(StoreError::Conflict)));
        drop(tx);
        // The unproved one signs nobody in.
        let found =
            doorward::store::load_sign_in(&mut store.reader(), "mira@acme.example").await.unwrap().unwrap();
        assert_eq!(found.account.name.as_str(), "mira");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_a_dropped_transaction_leaves_neither_deed_nor_event_nor_change() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let mut tx = store.begin().await.unwrap();
        tx.insert_account(&account(1, "mira"), NOW).await.unwrap();
        tx.audit(
            doorward::store::AuditEntry {
                organization: None,
                action: AuditAction::AccountCreate,
                actor: doorward::store::Actor::System,
                details: Vec::new(),
                address: None,
                request_id: None,
            },
            NOW,
        )
        .await
        .unwrap();
        drop(tx);
        for sql in [
            "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account",
            "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM name",
            // The first event of all tells of the key that codes are made with.
            "SELECT CAST(COUNT(*) - 1 AS BIGINT) AS n FROM audit_event",
            "SELECT CAST(MAX(n) - 1 AS BIGINT) AS n FROM audit_sequence",
            "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM change",
        ] {
            let row = store.reader().fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
            assert_eq!(row.int("n").unwrap(), 0, "{on:?} {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_audit_sequences_have_no_gap_when_many_write_at_once() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let organization = OrganizationId::new(START_MS, [1; 10]);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let entry = doorward::store::AuditEntry {
                    organization: Some(organization),
                    action: AuditAction::OrgSettings,
                    actor: doorward::store::Actor::System,
                    details: vec![("n", n.to_string())],
                    address: None,
                    request_id: None,
                };
                tx.audit(entry, NOW).await.unwrap();
                // Every third is given up: its number is not lost.
                if n % 3 != 0 {
                    tx.commit(NOW).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let log = store.reader().audit_after(organization, 0, 1000).await.unwrap();
        let numbers: Vec<i64> = log.iter().map(|e| e.sequence).collect();
        assert_eq!(numbers, (1..=26).collect::<Vec<_>>(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_an_attempt_is_taken_once_whoever_races_for_it() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let mira = account(1, "mira");
        let organization = OrganizationId::new(START_MS, [2; 10]);
        let session = SessionId::new(START_MS, [3; 10]);
        let sealing = doorward::sealing::Sealing::new(&[1; 32]).unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.insert_account(&mira, NOW).await.unwrap();
        tx.insert_browser_session(session, TokenHash::of("session"), mira.id, NOW).await.unwrap();
        let plan = doorward::store::Plan::Team;
        tx.insert_organization(organization, &Name::parse("acme").unwrap(), "Acme", plan, NOW).await.unwrap();
        let acme = doorward::store::load_organization(&mut tx, "acme").await.unwrap().unwrap();
        let revision = doorward::store::NewRevision {
            issuer_url: "https://idp.example".into(),
            client_id: "c".into(),
            client_secret: doorward_core::secret::Secret::new("s".into()),
            client_auth_method: None,
            scopes: String::new(),
            userinfo: doorward_core::connection::UserinfoMode::WhenNeeded,
            email_claim: String::new(),
            hosted_domains: Vec::new(),
            created_by: None,
            endpoints: None,
        };
        let id = ConnectionId::new(START_MS, [4; 10]);
        let (connection, number) = tx.insert_revision(&acme, id, &revision, &sealing, NOW).await.unwrap();
        assert_eq!(number, RevisionNumber(1));
        let attempt = doorward::store::Attempt {
            state: TokenHash::of("state"),
            browser: TokenHash::of("browser"),
            organization,
            connection,
            revision: number,
            purpose: doorward::store::Purpose::SignIn,
            join_link: None,
            account: mira.id,
            session,
            sealed: "x".into(),
            next: "/".into(),
            created_at: NOW,
        };
        tx.insert_attempt(&attempt).await.unwrap();
        tx.commit(NOW).await.unwrap();

        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let taken = tx
                    .take_attempt(TokenHash::of("state"), TokenHash::of("browser"), organization, NOW)
                    .await
                    .unwrap();
                tx.commit(NOW).await.unwrap();
                matches!(taken, Taken::Fresh(_))
            });
        }
        let mut winners = 0;
        while let Some(done) = tasks.join_next().await {
            winners += usize::from(done.unwrap());
        }
        assert_eq!(winners, 1, "{on:?}");
    }
}

/// Two nodes over one database.
async fn two_nodes(on: On, folder: &TempDir) -> (Store, Store) {
    let (first, url) = fresh_store(on, folder).await;
    let synchronous = doorward::store::Synchronous::Normal;
    let second = match on {
        On::Sqlite => Store::open_sqlite(&folder.join("doorward.db"), synchronous).await.unwrap(),
        On::Postgres => Store::open_postgres(&url).await.unwrap(),
    };
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_a_second_node_forgets_what_the_first_one_changed() {
    for on in On::all() {
        let folder = TempDir::new();
        let (first, second) = two_nodes(on, &folder).await;
        let mira = account(1, "mira");
        let token = TokenHash::of("token");
        let session = SessionId::new(START_MS, [3; 10]);
        let mut tx = first.begin().await.unwrap();
        tx.insert_account(&mira, NOW).await.unwrap();
        tx.insert_browser_session(session, token, mira.id, NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();

        second.read_changes(NOW).await.unwrap();
        assert!(second.session_facts(token, NOW).await.unwrap().is_some());
        assert_eq!(second.facts().accounts_cached(), 1);
        let mut tx = first.begin().await.unwrap();
        tx.delete_browser_session(session, mira.id).await.unwrap();
        tx.commit(NOW).await.unwrap();
        // Until the change is read, the second node goes on by what it knows; then it refuses.
        assert!(second.session_facts(token, NOW).await.unwrap().is_some());
        second.read_changes(NOW).await.unwrap();
        assert!(second.session_facts(token, NOW).await.unwrap().is_none(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_f15_past_its_lease_a_node_trusts_nothing_it_remembers() {
    let folder = TempDir::new();
    let (store, _) = fresh_store(On::Sqlite, &folder).await;
    store.read_changes(NOW).await.unwrap();
    assert!(store.facts().is_trusted(NOW.plus(Lifetime::from_seconds(5))));
    assert!(!store.facts().is_trusted(NOW.plus(Lifetime::from_millis(5001))));
    assert!(!store.facts().is_trusted(NOW.minus(Lifetime::from_millis(1))), "a clock that went back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_f15_past_its_lease_a_node_asks_the_database_by_every_key() {
    for on in On::all() {
        let folder = TempDir::new();
        let (first, second) = two_nodes(on, &folder).await;
        let (mira, acme) = (account(1, "mira"), OrganizationId::new(START_MS, [2; 10]));
        let (token, session) = (TokenHash::of("token"), SessionId::new(START_MS, [3; 10]));
        let mut tx = first.begin().await.unwrap();
        tx.insert_account(&mira, NOW).await.unwrap();
        tx.insert_browser_session(session, token, mira.id, NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();
        second.read_changes(NOW).await.unwrap();
        assert!(second.session_facts(token, NOW).await.unwrap().is_some());
        assert!(second.organization_facts("acme", NOW).await.unwrap().is_none());

        let mut tx = first.begin().await.unwrap();
        tx.delete_browser_session(session, mira.id).await.unwrap();
        let plan = doorward::store::Plan::Team;
        tx.insert_organization(acme, &Name::parse("acme").unwrap(), "Acme", plan, NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();
        let within = NOW.plus(Lifetime::from_seconds(5));
        assert!(second.session_facts(token, within).await.unwrap().is_some(), "{on:?}");
        assert!(second.organization_facts("acme", within).await.unwrap().is_none(), "{on:?}");
        let past = NOW.plus(Lifetime::from_millis(5001));
        assert!(second.session_facts(token, past).await.unwrap().is_none(), "{on:?}");
        let account = second.account_facts(mira.id, past).await.unwrap().unwrap();
        assert!(account.sessions.is_empty(), "{on:?}");
        assert!(second.organization_facts("acme", past).await.unwrap().is_some(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_the_first_resource_of_an_organization_is_felt_on_every_node() {
    for on in On::all() {
        let folder = TempDir::new();
        let (first, second) = two_nodes(on, &folder).await;
        let acme = OrganizationId::new(START_MS, [2; 10]);
        let mut tx = first.begin().await.unwrap();
        let plan = doorward::store::Plan::Team;
        tx.insert_organization(acme, &Name::parse("Acme").unwrap(), "Acme", plan, NOW).await.unwrap();
        tx.commit(NOW).await.unwrap();
        second.read_changes(NOW).await.unwrap();
        let has_resources = async || {
            let facts = second.organization_facts("acme", NOW).await.unwrap().unwrap();
            (facts.has_resources, second.resource_is_public(acme, "", "site", NOW).await.unwrap())
        };
        assert_eq!(has_resources().await, (false, false));
        let mut tx = first.begin().await.unwrap();
        tx.set_resource(acme, "", "site", true).await.unwrap();
        tx.commit(NOW).await.unwrap();
        assert_eq!(has_resources().await, (false, false), "{on:?}: it was a cached fact");
        second.read_changes(NOW).await.unwrap();
        assert_eq!(has_resources().await, (true, true), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_changes_are_numbered_in_the_order_of_their_commits() {
    for on in On::all() {
        let folder = TempDir::new();
        let (store, _) = fresh_store(on, &folder).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..30u8 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut tx = store.begin().await.unwrap();
                tx.changed(Change::Account(AccountId::new(START_MS, [n; 10])));
                tx.commit(NOW).await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let rows = store.reader().fetch_all("SELECT n FROM change ORDER BY n", Vec::new()).await.unwrap();
        let numbers: Vec<i64> = rows.iter().map(|row| row.int("n").unwrap()).collect();
        assert_eq!(numbers, (1..=30).collect::<Vec<_>>(), "{on:?}");
    }
}
