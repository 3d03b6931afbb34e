//! Personal access tokens (docs/adr/0040): made on a page, used at the gate, authorised for an organization with SSO, and
//! ended by everything that must end them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use doorward::sso::settings::By;
use doorward::store::{Actor, AuditEntry, NewAccessToken, Query as _};
use doorward_core::audit_event::AuditAction;
use doorward_core::ids::AccessTokenId;
use doorward_core::membership::Role;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use doorward_testkit::{Browser, Page, Person};
use http::Method;
use std::collections::BTreeSet;

use crate::harness::{On, Options, World};

/// Makes a token on the page; the token.
async fn make(world: &World, browser: &Browser, name: &str, role: &str, days: &str) -> String {
    let page = browser
        .post(
            &format!("{}/settings/tokens/new", world.base),
            &[("name", name), ("role", role), ("days", days)],
        )
        .await;
    assert_eq!(page.status, 200, "{}", browser.history());
    token_in(&page.body).unwrap_or_else(|| panic!("{}", page.body))
}

pub fn token_in(text: &str) -> Option<String> {
    let at = text.find("dwp_")?;
    Some(text[at..at + 42].to_owned())
}

/// The id of the newest token of that name.
async fn id_of(world: &World, account: &str, name: &str) -> String {
    let account = world.account(account).await;
    let all = doorward::store::load_access_tokens(&mut world.app.store.reader(), account).await.unwrap();
    all.iter().find(|token| token.name == name).expect("the token").id.to_string()
}

/// When an account's newest token was last used, as the store has it.
async fn noted(world: &World, account: &str) -> Option<Timestamp> {
    let account = world.account(account).await;
    let all = doorward::store::load_access_tokens(&mut world.app.store.reader(), account).await.unwrap();
    all[0].last_used_at
}

async fn send(address: &str, method: Method, headers: &[(&str, &str)]) -> Page {
    Browser::new().request(method, address, headers, "").await
}

/// A program without cookies asks for a page of the application with this token.
async fn ask(world: &World, token: &str, path: &str) -> Page {
    let bearer = format!("Bearer {token}");
    send(&format!("{}{path}", world.hub), Method::GET, &[("Authorization", &bearer)]).await
}

/// The status and the code of the answer, which is a problem document.
async fn refused(world: &World, token: &str, path: &str) -> (u16, String) {
    let page = ask(world, token, path).await;
    assert_eq!(page.header("content-type"), Some("application/problem+json"), "{}", page.body);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("location"), None, "a program is led nowhere");
    (
        page.status.as_u16(),
        page.code().unwrap_or_else(|| page.json().unwrap()["code"].as_str().unwrap().to_owned()),
    )
}

async fn opens(world: &World, token: &str, path: &str) -> bool {
    ask(world, token, path).await.body.contains("the application's page")
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn authorize(world: &World, browser: &Browser, account: &str, token: &str, organization: &str) -> Page {
    let id = id_of(world, account, token).await;
    let address = format!("{}/settings/tokens/authorize", world.base);
    browser.post(&address, &[("token", &id), ("organization", organization)]).await
}

/// A world in which acme's SSO is enforced and mira has completed it, with an authorised token of hers.
async fn authorised(on: On) -> (World, Browser, String) {
    let world = World::with(Options { on, ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    world.visit(&mira, &format!("{}/organizations/acme/sso", world.base)).await;
    let token = make(&world, &mira, "laptop", "admin", "30").await;
    let page = authorize(&world, &mira, "mira", "laptop", "acme").await;
    assert_eq!(page.status, 303, "{}", mira.history());
    // Its first use is noted beside the request, and forgets the account: afterwards all of it is in the cache.
    while noted(&world, "mira").await.is_none() {
        assert!(opens(&world, &token, "/acme/secret").await);
        tokio::task::yield_now().await;
    }
    assert!(opens(&world, &token, "/acme/secret").await);
    (world, mira, token)
}

const OWED: (u16, &str) = (403, "token.sso_authorization_required");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_speaks_for_its_owner_up_to_its_ceiling_and_never_reaches_the_application() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        let token = make(&world, &mira, "nightly <build>", "read", "30").await;
        let list = mira.get(&format!("{}/settings/tokens", world.base)).await;
        assert!(list.says("nightly <build>") && list.says("not used yet") && token_in(&list.body).is_none());

        let basic = |user: &str| format!("Basic {}", BASE64.encode(format!("{user}:{token}")));
        for authorization in [
            format!("Bearer {token}"),
            format!("bearer  {token}"),
            basic("mira"),
            basic("x-token"),
            basic(""),
        ] {
            let address = format!("{}/acme/secret", world.hub);
            let page = send(&address, Method::GET, &[("Authorization", &authorization)]).await;
            assert!(page.body.contains("the application's page"), "{authorization}: {}", page.body);
            let seen = world.last_seen().unwrap();
            assert_eq!(seen.header("remote-user"), Some("mira"));
            assert_eq!(seen.header("doorward-organization"), Some("acme"));
            assert_eq!(seen.header("doorward-role"), Some("read"), "she is a writer, the token is not");
            assert_eq!(seen.header("authorization"), None);
            let claims = seen.header("doorward-assertion").unwrap().split('.').nth(1).unwrap().to_owned();
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(
                (claims["role"].as_str(), claims["organizations"]["acme"].as_str()),
                (Some("read"), Some("read"))
            );
        }
        // The same session of hers writes; this token does not, and a token of a higher ceiling does.
        let bearer = format!("Bearer {token}");
        let page =
            send(&format!("{}/acme/secret", world.hub), Method::POST, &[("Authorization", &bearer)]).await;
        assert_eq!(page.status, 403);
        let writer = format!("Bearer {}", make(&world, &mira, "deploy", "admin", "1").await);
        let page =
            send(&format!("{}/acme/secret", world.hub), Method::POST, &[("Authorization", &writer)]).await;
        assert_eq!(
            (page.status.as_u16(), world.last_seen().unwrap().header("doorward-role")),
            (200, Some("write"))
        );
        let page =
            send(&format!("{}/globex/secret", world.hub), Method::POST, &[("Authorization", &writer)]).await;
        assert_eq!(page.status, 403, "she is a reader there, and so is her token");
        let nobodys = refused(&world, &token, "/nobody/secret").await;
        assert_eq!(nobodys, code(403, "gate.forbidden"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_credential_decides_a_token_before_a_cookie_and_what_is_not_ours_goes_through() {
    let world = World::new().await;
    let (mira, eve) = (world.browser_of("mira").await, world.browser_of("eve").await);
    let secret = format!("{}/acme/secret", world.hub);
    mira.visit(&secret).await;
    let token = make(&world, &eve, "eves", "admin", "30").await;
    let both = |authorization: String| {
        let (mira, secret) = (mira.clone(), secret.clone());
        async move { mira.request(Method::GET, &secret, &[("Authorization", &authorization)], "").await }
    };
    assert_eq!(
        both(format!("Bearer {token}")).await.status,
        403,
        "eve is no member, whatever cookie is beside"
    );
    let mistyped = format!("{}0", &token[..41]);
    assert_eq!(both(format!("Bearer {mistyped}")).await.status, 401);
    // An application's own credentials identify nobody here, and reach it as they were sent.
    for foreign in [
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Basic bWlyYTpzd29yZGZpc2g=",
        "Digest username=\"x\", realm=\"y\"",
    ] {
        let page = both(foreign.to_owned()).await;
        assert_eq!(page.status, 200, "{foreign}");
        let seen = world.last_seen().unwrap();
        assert_eq!((seen.header("authorization"), seen.header("remote-user")), (Some(foreign), Some("mira")));
        assert_eq!(send(&secret, Method::GET, &[("Authorization", foreign)]).await.status, 401);
    }
    // An organization's token for the JSON API speaks for nobody here, and no application may have it.
    for slipped in ["Bearer dwo_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Basic bWlyYTpkd29fQUFBQQ=="] {
        assert_eq!(both(slipped.to_owned()).await.status, 401, "{slipped}");
    }
    // Nor a member's token that a program forgot to introduce, or introduced twice.
    for slipped in [token.clone(), format!("Bearer Bearer {token}"), format!("Bearer \"{token}\"")] {
        assert_eq!(both(slipped.clone()).await.status, 401, "{slipped}");
    }
    // Two at once are not guessed between.
    let bearer = format!("Bearer {token}");
    let two = [("Authorization", "Basic bWlyYTp4"), ("Authorization", bearer.as_str())];
    assert_eq!(send(&secret, Method::GET, &two).await.status, 401);
    // Our own pages take none.
    for page in ["/", "/settings/tokens", "/organizations/acme/settings/members"] {
        let page = send(&format!("{}{page}", world.base), Method::GET, &[("Authorization", &bearer)]).await;
        assert!(page.status == 401 || page.status == 303, "{} {}", page.status, page.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_none_gets_401_with_a_challenge_on_public_pages_too_and_costs_no_lookup() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let token = make(&world, &mira, "laptop", "read", "1").await;
    let mistyped = format!("{}{}", &token[..41], if token.ends_with('0') { '1' } else { '0' });
    let made_up = doorward_core::access_token::new_access_token([9; 20]);
    for (bad, path) in
        [(mistyped.as_str(), "/acme/secret"), (made_up.expose(), "/acme/secret"), (mistyped.as_str(), "/")]
    {
        assert_eq!(refused(&world, bad, path).await, code(401, "token.invalid"), "{path}");
        let page = ask(&world, bad, path).await;
        let challenges = page.headers_named("www-authenticate");
        assert!(
            challenges[0].contains("Bearer") && challenges[0].contains("invalid_token"),
            "{challenges:?}"
        );
        assert!(challenges[1].starts_with("Basic realm="), "git asks for it: {challenges:?}");
    }
    // Whoever says that he is a browser gets no page and no redirect either, and no dialogue.
    let bearer = format!("Bearer {mistyped}");
    let browserly =
        [("Authorization", bearer.as_str()), ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
    let page = send(&format!("{}/acme/secret", world.hub), Method::GET, &browserly).await;
    assert_eq!((page.status.as_u16(), page.headers_named("www-authenticate").len()), (401, 1));
    assert_eq!(page.header("content-type"), Some("application/problem+json"));
    // Rule 9: a checksum that is wrong asks the store nothing.
    ask(&world, &mistyped, "/acme/secret").await;
    let before = world.app.store.statements_asked();
    ask(&world, &mistyped, "/acme/secret").await;
    assert_eq!(world.app.store.statements_asked(), before);

    world.pass(Lifetime::from_days(1));
    assert_eq!(refused(&world, &token, "/acme/secret").await, code(401, "token.invalid"), "its day is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_enforced_sso_a_token_reaches_the_organization_only_once_its_owner_authorised_it_in_an_sso_session()
 {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        let token = make(&world, &mira, "laptop", "admin", "30").await;
        assert!(opens(&world, &token, "/acme/secret").await, "no SSO yet");
        world.enable_sso("acme", "ada").await;
        assert_eq!(refused(&world, &token, "/acme/secret").await, code(OWED.0, OWED.1));
        let problem = ask(&world, &token, "/acme/secret").await.json().unwrap();
        let address = problem["authorize_url"].as_str().unwrap().to_owned();
        let id = id_of(&world, "mira", "laptop").await;
        assert_eq!(address, format!("{}/settings/tokens#token-{id}", world.base));
        assert!(opens(&world, &token, "/globex/secret").await, "the other organization asks for nothing");
        // A stranger learns nothing of it.
        let eve = world.browser_of("eve").await;
        let eves = make(&world, &eve, "eves", "admin", "30").await;
        assert_eq!(
            refused(&world, &eves, "/acme/secret").await,
            refused(&world, &eves, "/nobody/secret").await
        );

        // Without an SSO session of this browser: no, and the page says what to do.
        let page = authorize(&world, &mira, "mira", "laptop", "acme").await;
        assert_eq!(page.code().as_deref(), Some("sso.required"), "{}", page.body);
        let list = mira.get(&format!("{}/settings/tokens", world.base)).await;
        assert!(list.says("Not authorised") && !list.has_form("/settings/tokens/authorize"), "{}", list.body);
        world.idp.signs_in("mira");
        world.visit(&mira, &format!("{}/organizations/acme/sso", world.base)).await;
        assert_eq!(
            refused(&world, &token, "/acme/secret").await,
            code(OWED.0, OWED.1),
            "SSO alone is no authorisation"
        );
        let list = mira.get(&format!("{}/settings/tokens", world.base)).await;
        let page = mira.submit(list.form("/settings/tokens/authorize")).await;
        assert_eq!(page.status, 303, "{}", mira.history());
        assert!(opens(&world, &token, "/acme/secret").await);
        assert_eq!(world.last_seen().unwrap().header("doorward-sso"), Some("complete"));
        let last = world.audit("acme").await.pop().unwrap();
        assert_eq!(last.action, "org.token.authorize");
        world.enable_sso("globex", "ben").await;
        assert_eq!(
            refused(&world, &token, "/globex/secret").await,
            code(OWED.0, OWED.1),
            "the one organization's authorisation is not the other's"
        );

        // Nobody authorises another's token, nor his own for an organization that is not his.
        let ada = world.browser_of("ada").await;
        world.idp.signs_in("ada");
        world.visit(&ada, &format!("{}/organizations/acme/sso", world.base)).await;
        let address = format!("{}/settings/tokens/authorize", world.base);
        let page = ada.post(&address, &[("token", &id), ("organization", "acme")]).await;
        assert_eq!(page.code().as_deref(), Some("token.missing"));
        let page = authorize(&world, &eve, "eve", "eves", "acme").await;
        assert_eq!(page.code().as_deref(), Some("token.missing"));
    }
}

/// The statement itself, for when what the page saw has ended since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_the_statement_that_authorises_a_token_reads_again_all_that_it_rests_on() {
    for on in On::all() {
        let (world, _mira, token) = authorised(on).await;
        let hash = TokenHash::of(&token);
        let now = world.app.clock.now();
        let (account, place) = world.app.store.access_token_facts(hash, now).await.unwrap().unwrap();
        let acme = world.organization("acme").await.id;
        let eve = world.account("eve").await;
        let mine = account.sessions.iter().find(|session| !session.sso.is_empty()).unwrap().id;
        let (id, ends) = (account.access_tokens[place].id, account.access_tokens[place].expires_at);
        let foreign = doorward_core::ids::SessionId::new(1, [1; 10]);
        let long_ago = now.minus(Lifetime::from_days(1));
        let may = async |who, session, since, now| {
            let mut tx = world.app.store.begin().await.unwrap();
            // Not committed.
            tx.authorize_token(id, who, session, acme, since, now).await.unwrap().is_some()
        };
        assert!(may(account.id, mine, long_ago, now).await);
        assert!(!may(eve, mine, long_ago, now).await, "another's token");
        assert!(!may(account.id, foreign, long_ago, now).await, "another session");
        assert!(!may(account.id, mine, now, now).await, "its single sign-on is over");
        assert!(!may(account.id, mine, long_ago, ends).await, "the token is over");
        world.behind_its_back("UPDATE connection SET epoch = epoch + 1").await;
        assert!(!may(account.id, mine, long_ago, now).await, "another issuer since");
        world.behind_its_back("UPDATE connection SET epoch = epoch - 1, live = NULL").await;
        assert!(!may(account.id, mine, long_ago, now).await, "off since");
    }
}

/// Waits until a transaction waits for a lock of another; on SQLite it waits before it begins.
pub async fn until_one_waits(world: &World, on: On) {
    let waiting = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while on == On::Postgres && world.count(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
}

/// What is written down of a token that an admin takes back.
fn taken_back() -> AuditEntry {
    AuditEntry {
        organization: None,
        action: AuditAction::OrgTokenRevoke,
        actor: Actor::System,
        details: Vec::new(),
        address: None,
        request_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_while_it_is_authorised_ends_in_that_organizations_log_too() {
    for on in On::all() {
        let (world, _mira, token) = authorised(on).await;
        world.behind_its_back("DELETE FROM token_authorization").await;
        let now = world.app.clock.now();
        let store = world.app.store.clone();
        let (account, place) = store.access_token_facts(TokenHash::of(&token), now).await.unwrap().unwrap();
        let session = account.sessions.iter().find(|session| !session.sso.is_empty()).unwrap().id;
        let (id, acme) = (account.access_tokens[place].id, world.organization("acme").await.id);
        let since = now.minus(Lifetime::from_days(1));
        let owner = account.id;
        let mut tx = store.begin().await.unwrap();
        assert!(tx.authorize_token(id, owner, session, acme, since, now).await.unwrap().is_some());
        let other = store.clone();
        let ending = tokio::spawn(async move {
            let mut tx = other.begin().await.unwrap();
            let ended = tx.delete_access_token(id, owner).await.unwrap().unwrap();
            tx.commit(now).await.unwrap();
            ended
        });
        until_one_waits(&world, on).await;
        tx.commit(now).await.unwrap();
        assert_eq!(ending.await.unwrap().organizations, [acme], "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_made_while_its_owner_signs_in_waits_and_neither_fails() {
    // On SQLite nobody holds a row without holding all.
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        let (now, account) = (world.app.clock.now(), world.account("mira").await);
        let session = world.app.store.account_facts(account, now).await.unwrap().unwrap().sessions[0].id;
        // As a sign-in does: the account, then the session.
        let mut tx = world.app.store.begin().await.unwrap();
        tx.lock_account(account).await.unwrap();
        let address = format!("{}/settings/tokens/new", world.base);
        let form = tokio::spawn(async move {
            mira.post(&address, &[("name", "laptop"), ("role", "read"), ("days", "1")]).await
        });
        until_one_waits(&world, on).await;
        assert!(tx.renew_browser_session(session, account, TokenHash::of("new"), now).await.unwrap());
        tx.commit(now).await.unwrap();
        let page = form.await.unwrap();
        assert!(page.status == 200 && page.says("laptop"), "{on:?}: {} {}", page.status, page.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_back_while_its_owners_account_ends_and_neither_fails() {
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let (world, _mira, token) = authorised(on).await;
        let (now, acme) = (world.app.clock.now(), world.organization("acme").await.id);
        let store = world.app.store.clone();
        let (account, place) = store.access_token_facts(TokenHash::of(&token), now).await.unwrap().unwrap();
        let (id, owner) = (account.access_tokens[place].id, account.id);
        // An admin takes it back: the token's row, then the log.
        let mut tx = store.begin().await.unwrap();
        let ended = tx.delete_token_authorization(id, acme, None).await.unwrap().unwrap();
        let by = By { actor: Actor::System, session: None, address: None, request_id: None };
        let other = store.clone();
        let ending = tokio::spawn(async move {
            doorward::account_end::delete_account(&other, (owner, "mira"), None, &by, now).await
        });
        until_one_waits(&world, on).await;
        tx.audit_ended_tokens(&[ended], "mira", &taken_back(), now).await.unwrap();
        tx.commit(now).await.unwrap();
        ending.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_back_while_other_settings_are_enabled_and_neither_fails() {
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let (world, _mira, token) = authorised(on).await;
        let ada = world.browser_of("ada").await;
        world.idp.signs_in("ada");
        world.visit(&ada, &format!("{}/organizations/acme/sso", world.base)).await;
        // Another client, so that Enable ends what rests on the one before; and a link of hers to write down.
        world.connect_and_test(&ada, "acme", "ada").await;
        world.behind_its_back("DELETE FROM identity").await;

        let (now, acme) = (world.app.clock.now(), world.organization("acme").await.id);
        let store = world.app.store.clone();
        let (account, place) = store.access_token_facts(TokenHash::of(&token), now).await.unwrap().unwrap();
        let mut tx = store.begin().await.unwrap();
        let id = account.access_tokens[place].id;
        let ended = tx.delete_token_authorization(id, acme, None).await.unwrap().unwrap();
        let enable = world.settings("acme", "/enable");
        let enabling = tokio::spawn(async move { ada.post(&enable, &[("revision", "2")]).await });
        until_one_waits(&world, on).await;
        tx.audit_ended_tokens(&[ended], "mira", &taken_back(), now).await.unwrap();
        tx.commit(now).await.unwrap();
        let page = enabling.await.unwrap();
        assert_eq!(page.status, 303, "{} {:?}", page.text(), page.code());
        let log: Vec<String> = world.audit("acme").await.into_iter().map(|event| event.action).collect();
        assert!(
            log.ends_with(&["org.token.revoke", "org.sso_link", "org.settings.sso.enable"].map(String::from)),
            "{log:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_while_single_sign_on_is_ended_and_neither_fails() {
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let (world, _mira, _) = authorised(on).await;
        world.start_sso(&world.browser_of("mira").await, "acme", "/").await;
        let (now, account) = (world.app.clock.now(), world.account("mira").await);
        let store = world.app.store.clone();
        // As `end_sso_of` does.
        let mut tx = store.begin().await.unwrap();
        let ended = tx.fetch_all("DELETE FROM sso_session RETURNING session_id", Vec::new()).await.unwrap();
        assert!(!ended.is_empty());
        let other = store.clone();
        let changing = tokio::spawn(async move {
            let mut tx = other.begin().await.unwrap();
            tx.update_password(account, "x", None).await.unwrap();
            tx.commit(now).await.unwrap();
        });
        until_one_waits(&world, on).await;
        let ended = tx.fetch_all("DELETE FROM attempt RETURNING state_hash", Vec::new()).await.unwrap();
        assert_eq!(ended.len(), 1);
        tx.commit(now).await.unwrap();
        changing.await.unwrap();
    }
}

/// Whoever ends single sign-on (`end_sso_of`) takes SSO sessions, then attempts, then what is held: a session's end must
/// not take the attempt of one session before the SSO session of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_sessions_that_are_ended_while_single_sign_on_is_ended_and_neither_fails() {
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let (now, mira, acme) =
            (world.app.clock.now(), world.account("mira").await, world.organization("acme").await.id);
        // An older session on its way to the provider, a newer one that came back, and the one that stays.
        world.start_sso(&world.browser_of("mira").await, "acme", "/").await;
        world.idp.signs_in("mira");
        let newer = world.browser_of("mira").await;
        world.visit(&newer, &format!("{}/organizations/acme/sso", world.base)).await;
        let stays = world.browser_of("mira").await.cookie("localhost", "doorward-session").unwrap();
        let facts = world.app.store.session_facts(TokenHash::of(&stays), now).await.unwrap().unwrap();
        let keep = facts.0.sessions[facts.1].id;

        let mut tx = world.app.store.begin().await.unwrap();
        let ended = tx.fetch_all("DELETE FROM sso_session RETURNING session_id", Vec::new()).await.unwrap();
        assert_eq!(ended.len(), 2, "hers and ada's");
        let store = world.app.store.clone();
        let ending = tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            let ended = tx.delete_other_browser_sessions(keep, mira).await.unwrap();
            tx.commit(now).await.unwrap();
            ended
        });
        until_one_waits(&world, on).await;
        tx.end_sso_of(acme, mira).await.unwrap();
        tx.commit(now).await.unwrap();
        assert_eq!(ending.await.unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_out_while_his_single_sign_on_is_ended_and_neither_fails() {
    for on in On::all().into_iter().filter(|on| *on == On::Postgres) {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let (now, mira, acme) =
            (world.app.clock.now(), world.account("mira").await, world.organization("acme").await.id);
        // Somebody else's identity is held for her session, which is on its way to the provider once more.
        world.idp.add_person(Person::new("corp", "Somebody Else", "somebody@corp.example"));
        world.idp.signs_in("corp");
        let browser = world.browser_of("mira").await;
        let page = world.visit(&browser, &format!("{}/organizations/acme/sso", world.base)).await;
        assert!(page.has_form("/sso/link"), "{}", page.text());
        world.start_sso(&browser, "acme", "/").await;
        let session = world.app.store.account_facts(mira, now).await.unwrap().unwrap().sessions[0].id;

        let mut tx = world.app.store.begin().await.unwrap();
        let ended = tx.fetch_all("DELETE FROM attempt RETURNING state_hash", Vec::new()).await.unwrap();
        assert_eq!(ended.len(), 1);
        let store = world.app.store.clone();
        let ending = tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            assert!(tx.delete_browser_session(session, mira).await.unwrap());
            tx.commit(now).await.unwrap();
        });
        until_one_waits(&world, on).await;
        tx.end_sso_of(acme, mira).await.unwrap();
        tx.commit(now).await.unwrap();
        ending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_a_session_that_ends_while_its_form_waits_for_the_store_makes_no_token() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (mira, ada) = (world.browser_of("mira").await, world.browser_of("ada").await);
        let now = world.app.clock.now();
        let account = world.account("mira").await;
        let session = world.app.store.account_facts(account, now).await.unwrap().unwrap().sessions[0].id;
        // Until it is committed, she is signed in, and her form waits for this.
        let mut tx = world.app.store.begin().await.unwrap();
        assert!(tx.delete_browser_session(session, account).await.unwrap());
        let (form, address) = (mira.clone(), format!("{}/settings/tokens/new", world.base));
        let form = tokio::spawn(async move {
            form.post(&address, &[("name", "late"), ("role", "read"), ("days", "1")]).await
        });
        for _ in 0..20 {
            assert_eq!(ada.get(&format!("{}/settings/tokens/new", world.base)).await.status, 200);
        }
        tx.commit(now).await.unwrap();
        let page = form.await.unwrap();
        assert!(token_in(&page.body).is_none(), "{}", page.body);
        let tokens = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM access_token";
        assert_eq!(world.count(tokens).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorisation_dies_with_all_that_it_rests_on_on_this_node_and_the_next_request() {
    for on in On::all() {
        for deed in [
            "revoked by its owner",
            "taken back by its owner",
            "taken back by an admin",
            "removed",
            "no access",
            "demoted",
            "unlinked",
            "disabled and enabled",
            "switched off",
            "a new password",
            "an operator's new password",
        ] {
            let (world, mira, token) = authorised(on).await;
            let other = world.other_node().await;
            other.read_changes(world.app.clock.now()).await.unwrap();
            let hash = TokenHash::of(&token);
            assert!(other.access_token_facts(hash, world.app.clock.now()).await.unwrap().is_some());
            let id = id_of(&world, "mira", "laptop").await;
            let page = |rest: &str| format!("{}{rest}", world.base);
            let acme = world.organization("acme").await;
            let account = world.account("mira").await;
            let now = world.app.clock.now();
            let (ends_whole, expected) = match deed {
                "revoked by its owner" => {
                    mira.post(&page("/settings/tokens/revoke"), &[("token", &id)]).await;
                    (true, code(401, "token.invalid"))
                }
                "taken back by its owner" => {
                    let fields = [("token", id.as_str()), ("organization", "acme")];
                    let ada = world.browser_of("ada").await;
                    let foreign = ada.post(&page("/settings/tokens/authorize/revoke"), &fields).await;
                    assert_eq!(foreign.code().as_deref(), Some("token.missing"), "not hers");
                    mira.post(&page("/settings/tokens/authorize/revoke"), &fields).await;
                    (false, code(OWED.0, OWED.1))
                }
                "taken back by an admin" => {
                    let ada = world.browser_of("ada").await;
                    world.idp.signs_in("ada");
                    world.visit(&ada, &page("/organizations/acme/sso")).await;
                    let list = ada.get(&page("/organizations/acme/settings/tokens")).await;
                    assert!(list.says("laptop") && list.says("mira"), "{}", list.body);
                    ada.submit(list.form("/settings/tokens/revoke")).await;
                    (false, code(OWED.0, OWED.1))
                }
                "removed" => {
                    world.remove_member("acme", "mira").await;
                    (false, code(403, "gate.forbidden"))
                }
                "no access" => {
                    world.set_role("acme", "mira", Role::NoAccess).await;
                    (false, code(403, "gate.forbidden"))
                }
                "demoted" => {
                    world.set_role("acme", "mira", Role::Read).await;
                    (false, code(OWED.0, OWED.1))
                }
                "unlinked" => {
                    world.good_command("sso unlink acme mira").await;
                    // The command has a store of its own.
                    world.app.store.read_changes(now).await.unwrap();
                    (false, code(OWED.0, OWED.1))
                }
                "disabled and enabled" => {
                    let mut tx = world.app.store.begin().await.unwrap();
                    let live = tx.disable_connection(&acme).await.unwrap().unwrap();
                    let enforced = doorward_core::connection::Enforcement::Enforced;
                    assert!(tx.enable_revision(&acme, live, None, enforced, true).await.unwrap());
                    tx.commit(now).await.unwrap();
                    let kept = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM token_authorization";
                    assert_eq!(world.count(kept).await, 0);
                    (false, code(OWED.0, OWED.1))
                }
                "switched off" => {
                    world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'mira'").await;
                    let mut tx = world.app.store.begin().await.unwrap();
                    tx.changed(doorward::store::Change::Account(account));
                    tx.commit(now).await.unwrap();
                    (false, code(401, "token.invalid"))
                }
                _ => {
                    let keep =
                        (deed == "a new password").then(|| doorward_core::ids::SessionId::new(1, [1; 10]));
                    let mut tx = world.app.store.begin().await.unwrap();
                    let ended = tx.update_password(account, "x", keep).await.unwrap();
                    assert_eq!((ended.len(), ended[0].organizations.as_slice()), (1, [acme.id].as_slice()));
                    tx.commit(now).await.unwrap();
                    (true, code(401, "token.invalid"))
                }
            };
            assert_eq!(refused(&world, &token, "/acme/secret").await, expected, "{deed}");
            if deed.starts_with("revoked") || deed.starts_with("taken") {
                let last = world.audit("acme").await.pop().unwrap();
                assert_eq!(last.action, "org.token.revoke", "{deed}");
            }
            // Another node hears of it with its next reading of changes.
            other.read_changes(world.app.clock.now()).await.unwrap();
            let facts = other.access_token_facts(hash, world.app.clock.now()).await.unwrap();
            let reaches = facts.as_ref().is_some_and(|(account, place)| {
                account.access_tokens[*place].authorizations.iter().any(|known| known.organization == acme.id)
            });
            assert_eq!(facts.is_none(), ends_whole, "{deed}");
            assert!(!reaches || deed == "switched off" || deed == "disabled and enabled", "{deed}");
            // Its coming back brings nothing back.
            if deed == "removed" || deed == "no access" || deed == "demoted" {
                world.set_role("acme", "mira", Role::Write).await;
                assert_eq!(refused(&world, &token, "/acme/secret").await, code(OWED.0, OWED.1));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sso_of_its_owner_for_thirty_days_or_what_the_organization_set_an_authorised_token_waits() {
    for on in On::all() {
        let (world, mira, token) = authorised(on).await;
        world.pass(Lifetime::from_millis(Lifetime::from_days(30).millis() - 1));
        // The token itself is thirty days old in a moment: another one that lives longer.
        let mira_again = world.browser_of("mira").await;
        let longer = make(&world, &mira_again, "longer", "read", "300").await;
        assert!(opens(&world, &token, "/acme/secret").await);
        world.idp.signs_in("mira");
        world.visit(&mira_again, &format!("{}/organizations/acme/sso", world.base)).await;
        authorize(&world, &mira_again, "mira", "longer", "acme").await;
        assert!(opens(&world, &longer, "/acme/secret").await);
        world.pass(Lifetime::from_days(7));
        assert!(opens(&world, &longer, "/acme/secret").await);

        // An admin sets seven days: those who were away longer wait, at once.
        let ada = world.browser_of("ada").await;
        world.idp.signs_in("ada");
        world.visit(&ada, &format!("{}/organizations/acme/sso", world.base)).await;
        let page = ada.get(&format!("{}/organizations/acme/settings/tokens", world.base)).await;
        let page = ada.submit(page.form("/settings/tokens").fill("days", "7")).await;
        assert_eq!(page.status, 303, "{}", ada.history());
        assert_eq!(refused(&world, &longer, "/acme/secret").await, code(OWED.0, OWED.1));
        let list = ada.get(&format!("{}/organizations/acme/settings/tokens", world.base)).await;
        assert!(list.says("Waits for its owner's SSO"), "{}", list.body);
        let fresh = world.browser_of("mira").await;
        let list = fresh.get(&format!("{}/settings/tokens", world.base)).await;
        assert!(list.says("Waits for you"), "{}", list.body);
        // His next SSO, in any browser, opens it again without another click.
        world.idp.signs_in("mira");
        world.visit(&fresh, &format!("{}/organizations/acme/sso", world.base)).await;
        assert!(opens(&world, &longer, "/acme/secret").await);
        drop(mira);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_more_days_without_sso_need_sso_fewer_do_not() {
    let world = World::new().await;
    let (ada, _) = world.enable_sso("acme", "ada").await;
    let address = format!("{}/organizations/acme/settings/tokens", world.base);
    for bad in ["0", "31", "", "seven", "-1"] {
        let page = ada.post(&address, &[("days", bad)]).await;
        assert_eq!(
            (page.status.as_u16(), page.codes()[0].as_str()),
            (422, "token.sso_days_invalid"),
            "{bad}"
        );
    }
    ada.post(&address, &[("days", "5")]).await;
    // A login that is no longer fresh makes it fewer, and not more; with optional enforcement and without SSO neither.
    world.pass(Lifetime::from_minutes(90));
    assert_eq!(ada.post(&address, &[("days", "4")]).await.status, 303);
    let page = ada.post(&address, &[("days", "5")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.fresh_sign_in_needed"));
    let without_sso = world.browser_of("ada").await;
    let page = without_sso.post(&address, &[("days", "30")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.sso_needed"));
    let entries = world.audit("acme").await;
    assert_eq!(entries.iter().filter(|entry| entry.action == "org.settings.tokens").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_token_asks_for_a_fresh_login_a_name_an_end_and_a_place_among_fifty() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let address = format!("{}/settings/tokens/new", world.base);
    for (fields, expected) in [
        ([("name", " "), ("role", "read"), ("days", "30")], "token.name_invalid"),
        ([("name", "a\u{7}b"), ("role", "read"), ("days", "30")], "token.name_invalid"),
        ([("name", "a"), ("role", "read"), ("days", "0")], "token.days_invalid"),
        ([("name", "a"), ("role", "read"), ("days", "366")], "token.days_invalid"),
        ([("name", "a"), ("role", "read"), ("days", "never")], "token.days_invalid"),
        ([("name", "a"), ("role", "no_access"), ("days", "30")], "membership.role_unknown"),
        ([("name", "a"), ("role", "owner"), ("days", "30")], "membership.role_unknown"),
    ] {
        let page = mira.post(&address, &fields).await;
        assert_eq!((page.status.as_u16(), page.codes()[0].as_str()), (422, expected), "{fields:?}");
    }
    for n in 0..50 {
        make(&world, &mira, &format!("token {n}"), "read", "365").await;
    }
    let page = mira.post(&address, &[("name", "one more"), ("role", "read"), ("days", "1")]).await;
    assert_eq!((page.status.as_u16(), page.codes()[0].as_str()), (409, "token.too_many"));
    let id = id_of(&world, "mira", "token 7").await;
    let revoke = format!("{}/settings/tokens/revoke", world.base);
    let eve = world.browser_of("eve").await;
    assert_eq!(
        eve.post(&revoke, &[("token", &id)]).await.code().as_deref(),
        Some("token.missing"),
        "not hers"
    );
    world.pass(Lifetime::from_minutes(16));
    let page = mira.get(&address).await;
    assert!(page.location().unwrap().as_str().contains("fresh=1"), "{}", mira.history());
    world.pass(Lifetime::from_minutes(60));
    let page = mira.post(&address, &[("name", "late"), ("role", "read"), ("days", "1")]).await;
    assert_eq!(page.code().as_deref(), Some("settings.fresh_sign_in_needed"));
    assert_eq!(mira.post(&revoke, &[("token", &id)]).await.status, 303, "revoking asks for none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokens_use_is_noted_beside_the_request_and_at_most_once_an_hour() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    let token = make(&world, &mira, "laptop", "read", "30").await;
    let noted_at = async |expected| {
        while noted(&world, "mira").await != expected {
            assert!(opens(&world, &token, "/acme/secret").await);
            tokio::task::yield_now().await;
        }
    };
    let first = world.app.clock.now();
    noted_at(Some(first)).await;
    world.pass(Lifetime::from_hours(1));
    assert!(opens(&world, &token, "/acme/secret").await);
    assert_eq!(noted(&world, "mira").await, Some(first));
    world.pass(Lifetime::from_minutes(1));
    noted_at(Some(world.app.clock.now())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_lists_and_revokes_an_accounts_tokens() {
    let (world, _, token) = authorised(Options::default().on).await;
    let list = world.good_command("account tokens mira").await;
    assert!(list.contains("laptop") && list.contains("admin") && list.contains("authorised for 1"), "{list}");
    assert!(!list.contains("dwp_"), "{list}");
    let id = id_of(&world, "mira", "laptop").await;
    let (status, _, errors) = world.operate(&format!("account tokens eve --revoke {id}")).await;
    assert!(status != 0 && errors.contains("token.missing"), "{errors}");
    world.good_command(&format!("account tokens mira --revoke {id}")).await;
    world.app.store.read_changes(world.app.clock.now()).await.unwrap();
    assert_eq!(refused(&world, &token, "/acme/secret").await, code(401, "token.invalid"));
    let last = world.audit("acme").await.pop().unwrap();
    assert_eq!(last.action, "org.token.revoke");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_sees_every_token_that_reaches_his_organization_fifty_on_a_page() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mut expected = BTreeSet::new();
        for (account, count) in [("ada", 30), ("mira", 50), ("eve", 5)] {
            let account_id = world.account(account).await;
            let now = world.app.clock.now();
            let mut tx = world.app.store.begin().await.unwrap();
            for n in 0..count {
                let token = NewAccessToken {
                    id: AccessTokenId::new(now.millis(), world.app.random.bytes().unwrap()),
                    hash: TokenHash::of(&format!("{account} {n}")),
                    account: account_id,
                    name: format!("{account} {n}"),
                    ceiling: Role::Read,
                    expires_at: now.plus(Lifetime::from_days(1)),
                };
                assert!(tx.insert_access_token(&token, now).await.unwrap());
                // Eve is no member.
                if account != "eve" {
                    expected.insert(token.id.to_string());
                }
            }
            tx.commit(now).await.unwrap();
        }
        let ada = world.browser_of("ada").await;
        let mut page = ada.get(&format!("{}/organizations/acme/settings/tokens", world.base)).await;
        let (mut seen, mut counts) = (Vec::new(), Vec::new());
        loop {
            let lines: Vec<&str> = page.body.split("data-token=\"").skip(1).collect();
            counts.push(lines.len());
            seen.extend(lines.iter().map(|line| line.split('"').next().unwrap().to_owned()));
            assert_eq!(page.body.contains("First tokens"), counts.len() > 1);
            if !page.body.contains("rel=\"next\"") {
                break;
            }
            page = ada.click(&page, "More tokens").await;
        }
        assert_eq!(counts, [50, 30], "{on:?}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
        let page = ada.click(&page, "First tokens").await;
        assert_eq!(page.body.matches("data-token=").count(), 50);
        for query in ["after=%25&token=%2500", "after=zz&token=x", "token=", "after=%F0%9F%98%80"] {
            let page = ada.get(&format!("{}/organizations/acme/settings/tokens?{query}", world.base)).await;
            assert_eq!(
                (page.status.as_u16(), page.body.matches("data-token=").count()),
                (200, 50),
                "{query}"
            );
        }
    }
}
