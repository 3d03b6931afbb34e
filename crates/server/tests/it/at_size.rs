//! What a page costs the database does not grow with what it shows (issue 4, "At size").
//!
//! How long each statement takes at size is `query_plans.rs`'s and bench's; here they are counted.

use doorward::store::{Actor, AuditEntry};
use doorward_core::audit_event::AuditAction;
use doorward_core::membership::Role;
use doorward_testkit::Browser;

use crate::harness::World;
use crate::pages::give_password;

/// 600 more accounts, all members of acme, and 600 more organizations of which Ada is a member, made in the database.
const MEMBERS: &str = "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 600) \
    INSERT INTO name (name_key, spelled, kind, owner_id, created_at) \
    SELECT 'm' || i, 'M' || i, 'account', '00000000-0000-7000-8000-' || substr(CAST(1000000000000 + i AS TEXT), 2), 0 FROM k";
const REST_OF_MEMBERS: [&str; 2] = [
    "INSERT INTO account (id, name_key, full_name, created_at) \
     SELECT owner_id, name_key, spelled, 0 FROM name WHERE owner_id LIKE '00000000-0000-7000-8000-%'",
    "INSERT INTO membership (organization_id, account_id, role, created_at) \
     SELECT o.id, a.id, 'read', 0 FROM organization o, account a \
     WHERE o.name_key = 'acme' AND a.id LIKE '00000000-0000-7000-8000-%'",
];
const ORGANIZATIONS: &str = "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 600) \
    INSERT INTO name (name_key, spelled, kind, owner_id, created_at) \
    SELECT 'o' || i, 'O' || i, 'organization', '00000000-0000-7000-9000-' || substr(CAST(1000000000000 + i AS TEXT), 2), 0 FROM k";
const REST_OF_ORGANIZATIONS: [&str; 2] = [
    "INSERT INTO organization (id, name_key, display_name, plan, session_timeout, created_at) \
     SELECT owner_id, name_key, spelled, 'team', 604800000, 0 FROM name WHERE owner_id LIKE '00000000-0000-7000-9000-%'",
    "INSERT INTO membership (organization_id, account_id, role, created_at) \
     SELECT o.id, a.id, 'read', 0 FROM organization o, account a \
     WHERE a.name_key = 'ada' AND o.id LIKE '00000000-0000-7000-9000-%'",
];

/// How many statements a page asks, once the gate's facts about its visitor are in memory.
async fn statements(world: &World, browser: &Browser, path: &str) -> u64 {
    let address = format!("{}{path}", world.base);
    let page = browser.get(&address).await;
    assert_eq!(page.status, 200, "{path}: {}", page.text());
    let before = world.app.store.statements_asked();
    browser.get(&address).await;
    world.app.store.statements_asked() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_audit_log_and_home_ask_as_much_for_600_rows_as_for_a_few() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let organization = world.organization("acme").await.id;
    let now = world.app.clock.now();
    let audit = |count: usize| {
        let (world, actor) = (&world, Actor::System);
        async move {
            let mut tx = world.app.store.begin().await.unwrap();
            for _ in 0..count {
                let entry = AuditEntry {
                    organization: Some(organization),
                    action: AuditAction::OrgSettingsSsoTimeout,
                    actor: actor.clone(),
                    details: vec![("before", "7 days".to_owned()), ("after", "8 days".to_owned())],
                    address: None,
                    request_id: None,
                };
                tx.audit(entry, now).await.unwrap();
            }
            tx.commit(now).await.unwrap();
        }
    };
    audit(3).await;
    let pages = [
        "/",
        "/organizations/acme/settings/members",
        "/organizations/acme/settings/audit-log",
        "/organizations/acme/settings",
        "/organizations/acme/settings/sso/users",
    ];
    let mut few = Vec::new();
    for path in pages {
        few.push(statements(&world, &ada, path).await);
    }

    audit(600).await;
    for sql in [MEMBERS, ORGANIZATIONS].into_iter().chain(REST_OF_MEMBERS).chain(REST_OF_ORGANIZATIONS) {
        world.behind_its_back(sql).await;
    }
    // What the gate remembers of Ada is read anew.
    world.set_role("acme", "ada", Role::Admin).await;
    for (path, few) in pages.into_iter().zip(few) {
        let many = statements(&world, &ada, path).await;
        assert_eq!(many, few, "{path} asks more for more rows");
        assert!(many <= 6, "{path} asks {many} times");
    }
    let home = ada.get(&format!("{}/", world.base)).await;
    assert!(home.says("O123"), "what was made is there");
    let members = ada.get(&format!("{}/organizations/acme/settings/members", world.base)).await;
    assert!(members.says("M10"), "{}", members.text());
}

/// A question to acme's admins from each of the 600, all about identities of one issuer.
const REQUESTS: &str = "INSERT INTO held_identity (handle_hash, organization_id, connection_id, revision, purpose, \
    account_id, issuer, subject, sub, email, is_guest, email_unverified, next, created_at, requested_at, expires_at) \
    SELECT substr(a.id, 32, 5) || 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', o.id, c.id, c.live, 'sign_in', \
    a.id, 'https://idp.example', a.name_key, a.name_key, a.name_key || '@corp.example', 0, 0, '/', 0, 1, 9000000000000 \
    FROM account a, organization o JOIN connection c ON c.organization_id = o.id \
    WHERE a.id LIKE '00000000-0000-7000-8000-%' AND o.name_key = 'acme'";
/// Single sign-on that is live in each of the 600 organizations, which Ada and Ben govern.
const LIVE: [&str; 3] = [
    "UPDATE membership SET role = 'admin' WHERE organization_id LIKE '00000000-0000-7000-9000-%'",
    "INSERT INTO membership (organization_id, account_id, role, created_at) \
     SELECT o.id, a.id, 'admin', 0 FROM organization o, account a \
     WHERE a.name_key = 'ben' AND o.id LIKE '00000000-0000-7000-9000-%'",
    "INSERT INTO connection (id, organization_id, protocol, draft, live, enforcement) \
     SELECT id, id, 'oidc', 1, 1, 'enforced' FROM organization WHERE id LIKE '00000000-0000-7000-9000-%'",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_links_and_organizations_to_leave_are_judged_in_as_many_statements_as_one() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    give_password(&world, "ben").await;
    world.set_role("acme", "ben", Role::Admin).await;
    let pages = ["/organizations/acme/settings/members", "/settings/account/delete"];
    let mut few = Vec::new();
    for path in pages {
        few.push(statements(&world, &ada, path).await);
    }
    for sql in [MEMBERS, ORGANIZATIONS].into_iter().chain(REST_OF_MEMBERS).chain(REST_OF_ORGANIZATIONS) {
        world.behind_its_back(sql).await;
    }
    for sql in [REQUESTS].into_iter().chain(LIVE) {
        world.behind_its_back(sql).await;
    }
    world.set_role("acme", "ada", Role::Admin).await;
    for (path, few) in pages.into_iter().zip(few) {
        assert_eq!(statements(&world, &ada, path).await, few, "{path} asks more for more rows");
    }
    let members = ada.get(&format!("{}{}", world.base, pages[0])).await;
    assert!(members.says("m7@corp.example"), "{}", members.text());
    let delete = ada.get(&format!("{}{}", world.base, pages[1])).await;
    assert!(delete.says("O123"), "{}", delete.text());
}
