//! A whole run, from the settings form to the application's page and through failures, with every secret recognisable:
//! none of them is in the log at its finest level, in a page (but where it is handed to its holder), in the audit log, in
//! a problem document, in a backup, or readable in the database's files (rule 6; conformance.md V57, V58, T11).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use doorward::configuration::{LogFormat, LogLevel};
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Client, Endpoint, Misbehavior, Page, Person};
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{On, Options, World};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const CLIENT_SECRET: &str = "planted-client-secret-Xk8Q~4711";
const WRONG_SECRET: &str = "planted-wrong-secret-0815-abcdefgh";
const PASSWORD: &str = "planted password of mira 4711";

/// Follows a trip and keeps every page on the way.
async fn walk(browser: &Browser, mut page: Page, pages: &mut Vec<Page>) -> Page {
    for _ in 0..20 {
        pages.push(page.clone());
        let Some(next) = page.location().or_else(|| page.meta_refresh()) else {
            let is_start = page.has_form("/sso");
            if !is_start {
                return page;
            }
            page = browser.submit(page.form("/sso")).await;
            continue;
        };
        page = browser.go(&page, &next).await;
    }
    panic!("{}", browser.history());
}

/// On one thread, so that all of it writes into the log of this test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_does_not_open_any_more_is_typed_anew_and_so_is_a_join_link() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (ada, client) = world.enable_sso("acme", "ada").await;
        let link = world.settings("acme", "/join-link");
        assert_eq!(ada.post(&link, &[("role", "write")]).await.status, 303, "{}", ada.history());
        // Sealed for another place, as after a restore by hand.
        for sql in [
            "UPDATE revision SET client_secret = (SELECT MIN(sealed) FROM audit_key)",
            "UPDATE join_link SET sealed = (SELECT MIN(sealed) FROM audit_key)",
        ] {
            world.behind_its_back(sql).await;
        }

        let members = format!("{}/organizations/acme/settings/members", world.base);
        let page = ada.get(&members).await;
        assert!(page.status == 200 && page.says("it can't be shown"), "{} {}", page.status, page.text());
        assert_eq!(ada.get(&world.settings("acme", "")).await.status, 200, "{}", ada.history());
        assert_eq!(ada.post(&link, &[("role", "write")]).await.status, 303, "{}", ada.history());
        assert!(ada.get(&members).await.body.contains("id=\"join_url\""));

        // A sign-in says what is missing, and whose move it is.
        let missing = Some("settings.client_secret_missing");
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        assert_eq!(page.code().as_deref(), missing, "{} {}", page.status, page.text());

        // An empty field keeps nothing; the secret typed again is taken, and members go on.
        let issuer = world.idp.issuer();
        let fields =
            |secret| [("client_id", &*client.id), ("client_secret", secret), ("issuer_url", &*issuer)];
        let page = world.update_and_test(&ada, "acme", &fields("")).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (422, missing), "{}", page.text());
        world.idp.signs_in("ada");
        let page = world.update_and_test(&ada, "acme", &fields(client.secret())).await;
        assert_eq!(page.status, 200, "{}", page.text());
        world.arrive(&ada, page).await;
        assert_eq!(world.state("acme").await, "live", "{}", ada.history());
        world.idp.signs_in("mira");
        let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        assert!(page.says("the application's page"), "{}", page.text());
    }
}

/// The same at the command line: what is wrong is the link, not the key, and the line that is named mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_link_that_does_not_open_is_told_with_the_command_that_makes_another() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let (ada, _) = world.enable_sso("acme", "ada").await;
        let members = format!("{}/organizations/acme/settings/members", world.base);
        // The command knows another base URL than this world's pages.
        let path_of = |printed: &str| printed.trim().split_once("/organizations").unwrap().1.to_owned();
        let here = |printed: &str| format!("{}/organizations{}", world.base, path_of(printed));
        for (spoiled, fields, remedy) in [
            (
                "UPDATE join_link SET sealed = (SELECT MIN(sealed) FROM audit_key)",
                &[("role", "write"), ("uses", "5")][..],
                "sso join-link acme --rotate --role write --uses 5",
            ),
            // Sealed with a key that the file does not hold.
            (
                "UPDATE join_link SET sealed = 'v1.AAAAAAAAAAA' || SUBSTR(sealed, 15)",
                &[("role", "contributor")],
                "sso join-link acme --rotate --role contributor",
            ),
            (
                "UPDATE join_link SET sealed = ''",
                &[("role", "read")],
                "sso join-link acme --rotate --role read",
            ),
        ] {
            let page = ada.post(&world.settings("acme", "/join-link"), fields).await;
            assert_eq!(page.status, 303, "{}", page.text());
            let before = world.good_command("sso join-link acme").await;
            world.behind_its_back(spoiled).await;
            let (code, output, errors) = world.operate("sso join-link acme").await;
            assert_eq!((code, &*output), (1, ""), "{spoiled}");
            let told = errors.strip_prefix("error[").and_then(|rest| rest.split(']').next());
            assert_eq!(told, Some("join.link_unreadable"), "{spoiled}: {errors}");
            assert!(errors.trim_end().ends_with(&format!("doorward {remedy}")), "{spoiled}: {errors}");

            // Whoever has the link comes in by it as before, which the page says too.
            let stranger = Browser::new().with_clock(&world.clock);
            assert_eq!(stranger.get(&here(&before)).await.status, 200, "{spoiled}");
            assert!(ada.get(&members).await.says("Whoever has it can still join by it"), "{spoiled}");

            let made = world.good_command(remedy).await;
            assert_ne!(made, before);
            assert_eq!(world.good_command("sso join-link acme").await, made);
            let page = ada.get(&members).await;
            assert!(page.body.contains(&format!("value=\"{}\"", here(&made))), "{spoiled}: {}", page.text());
            assert_eq!(
                stranger.get(&here(&before)).await.code().as_deref(),
                Some("join.unknown"),
                "{spoiled}"
            );
        }
    }
}

/// After a restore by hand, or on a node whose key file is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_does_not_open_any_more_ends_calmly_and_the_next_one_gets_in() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        for sql in [
            "UPDATE attempt SET sealed = (SELECT MIN(sealed) FROM audit_key)",
            "UPDATE attempt SET sealed = 'AAAA'",
            "UPDATE attempt SET sealed = ''",
        ] {
            let back = world.returning(&mira, "acme").await;
            world.behind_its_back(sql).await;
            let page = world.visit(&mira, back.as_str()).await;
            let seen = (page.status.as_u16() < 500, page.code());
            assert_eq!(seen, (true, Some("sso.attempt_superseded".to_owned())), "{}", page.text());
            let sessions = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM sso_session";
            assert_eq!(world.count(sessions).await, 1, "ada's alone");
        }
        let page = world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        assert!(page.says("the application's page"), "{}", page.text());
    }
}

#[tokio::test]
async fn rule_6_v57_v58_no_secret_of_a_whole_run_is_logged_shown_audited_or_readable_in_the_database() {
    let log = Kept::default();
    let subscriber = doorward::logging::subscriber(LogFormat::Json, LogLevel::Trace, log.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    let mut pages = Vec::new();
    let mut secrets: Vec<(&str, String)> = vec![
        ("the client secret", CLIENT_SECRET.to_owned()),
        ("a wrong client secret", WRONG_SECRET.to_owned()),
        ("a password", PASSWORD.to_owned()),
    ];

    // Connect with a wrong secret, then with the right one; test; enable. UserInfo is always asked, for its token.
    let redirect_uri = format!("{}/organizations/acme/oidc/consume", world.base);
    let client = Client::new("planted-client-id", CLIENT_SECRET, &redirect_uri);
    world.idp.add_client(client.clone());
    world.idp.signs_in("ada");
    let ada = world.browser_of("ada").await;
    let members = format!("{}/organizations/acme/settings/members", world.base);
    let page = ada.post(&format!("{members}/invitations"), &[("role", "read")]).await;
    let invitation = copied(&page, "invitation_url");
    secrets.push(("an invitation", last_segment(&invitation)));
    // Opened while it is good; the page is its holder's.
    assert_eq!(world.browser_of("eve").await.get(&invitation).await.status, 200);
    for secret in [WRONG_SECRET, CLIENT_SECRET] {
        let issuer = world.idp.issuer();
        let fields = [
            ("client_id", &*client.id),
            ("client_secret", secret),
            ("issuer_url", &*issuer),
            ("userinfo", "always"),
        ];
        let page = world.update_and_test(&ada, "acme", &fields).await;
        walk(&ada, page, &mut pages).await;
    }
    assert_eq!(world.state("acme").await, "tested");
    let revision = world.draft("acme").await;
    let page = ada.post(&world.settings("acme", "/enable"), &[("revision", &revision)]).await;
    let codes = recovery_codes_on(&page);
    assert_eq!(codes.len(), 10, "{}", page.text());
    for code in &codes {
        secrets.push(("a recovery code", code.clone()));
        secrets.push(("a recovery code as it is typed", code.replace('-', "").to_lowercase()));
    }
    // A mistake of form, with a secret typed.
    let page = world
        .update_and_test(&ada, "acme", &[("client_secret", WRONG_SECRET), ("issuer_url", "nonsense")])
        .await;
    pages.push(page);
    for page in ["", "/users"] {
        pages.push(ada.get(&world.settings("acme", page)).await);
    }
    pages.push(ada.get(&format!("{}/organizations/acme/settings/audit-log", world.base)).await);
    pages.push(ada.get(&format!("{}/organizations/acme/settings/audit-log/download", world.base)).await);

    // Members: a good sign-in to the application's page, and several that fail.
    world.idp.signs_in("mira");
    let mira = Browser::new().with_clock(&world.clock);
    sign_in_by_password(&world, &mira, &mut pages).await;
    let mut browsers = vec![ada.clone(), mira.clone()];
    for fault in [
        None,
        Some(Misbehavior::NonceWrong),
        Some(Misbehavior::TokenInvalidClient),
        Some(Misbehavior::TokenNotJson),
        Some(Misbehavior::SignatureBit),
        Some(Misbehavior::CallbackError),
        Some(Misbehavior::CallbackStateChanged),
    ] {
        let mira = match fault {
            None => mira.clone(),
            Some(fault) => {
                world.pass(Lifetime::from_seconds(61));
                world.idp.misbehave_once(fault);
                browsers.push(world.browser_of("mira").await);
                browsers.last().unwrap().clone()
            }
        };
        let page = mira.get(&format!("{}/acme/secret", world.hub)).await;
        walk(&mira, page, &mut pages).await;
        pages.push(mira.fetch(&format!("{}/acme/secret", world.hub)).await);
    }
    assert!(pages.iter().any(|page| page.says("the application's page /acme/secret")));

    hand_out(&world, &ada, &codes, &mut pages, &mut secrets, &mut browsers).await;
    pages.push(ada.get(&format!("{}/organizations/acme/settings/audit-log", world.base)).await);
    pages.push(ada.get(&format!("{}/organizations/acme/settings/audit-log/download", world.base)).await);
    plant_everywhere(&world, &mut pages, &mut secrets).await;

    // What was secret on the way, read off the browsers, the addresses and the provider.
    for browser in &browsers {
        for (host, cookie) in
            browser.cookies().into_iter().filter(|(_, cookie)| cookie.starts_with("doorward"))
        {
            secrets.push((cookie_label(&cookie), browser.cookie(&host, &cookie).unwrap()));
        }
    }
    for request in world.idp.requests() {
        let named = match request.kind {
            Endpoint::Authorize => vec![("a state", "state"), ("a nonce", "nonce")],
            Endpoint::Token => vec![("a code", "code"), ("a verifier", "code_verifier")],
            _ => Vec::new(),
        };
        for (label, field) in named {
            secrets.extend(request.field(field).map(|value| (label, value.to_owned())));
        }
        if request.kind == Endpoint::Userinfo {
            let token = request.header("authorization").unwrap().trim_start_matches("Bearer ").to_owned();
            secrets.push(("an access token", token));
        }
    }
    for page in &pages {
        let addresses = [Some(page.url.clone()), page.location()];
        for (name, value) in
            addresses.iter().flatten().flat_map(|url| url.query_pairs().into_owned().collect::<Vec<_>>())
        {
            match &*name {
                "ticket" => secrets.push(("a ticket", value)),
                "code" => secrets.push(("a code", value)),
                _ => {}
            }
        }
    }
    for label in
        ["a code", "a state", "a nonce", "a verifier", "an access token", "a ticket", "a session's cookie"]
    {
        assert!(
            secrets.iter().any(|(known, value)| *known == label && value.len() >= 8),
            "{label} was not found in {secrets:?}"
        );
    }

    // The log, at its finest.
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("an attempt ended without a session"), "the log was kept");
    for (label, secret) in &secrets {
        let shown = |text: &str| text.contains(secret) || text.contains(secret.get(..20).unwrap_or(secret));
        assert!(!shown(&logged), "{label} is in the log");
    }
    assert!(!logged.contains("eyJ"), "a token is in the log");

    // Pages and problem documents. An address that leads to the provider has to carry state and nonce.
    for page in pages.iter().filter(|page| page.url.host_str() == Some("localhost")) {
        for (label, secret) in &secrets {
            let leads_on = page.meta_refresh().is_some() && matches!(*label, "a state" | "a nonce");
            assert!(
                leads_on || !page.body.contains(secret),
                "{label} is shown at {}\n{}",
                page.url,
                page.text()
            );
        }
        assert!(!page.body.contains("eyJ"), "a token is shown at {}", page.url);
    }

    // The audit log, of the organization and of the system.
    let events = world.audit("acme").await;
    assert!(events.len() > 11, "{}", events.len());
    let events = format!("{events:?}");
    for (label, secret) in &secrets {
        assert!(!events.contains(secret), "{label} is in the audit log");
    }

    // Figures, and what the command line tells.
    let figures = world.app.metrics.to_text();
    assert!(figures.contains("doorward_sign_ins_total"), "the figures were read");
    let told = told_by_commands(&world).await;
    assert!(told.contains("planted-client-id") && told.contains("org.sso"), "the commands were run: {told}");
    for (label, secret) in &secrets {
        assert!(!figures.contains(secret), "{label} is in the figures");
        assert!(!told.contains(secret), "{label} is told by a command");
    }

    // A backup: what is sealed or hashed, and not even the hash of what opens something.
    let path = world.folder().join("kept.backup");
    world.good_command(&format!("backup {}", path.display())).await;
    let backup = std::fs::read_to_string(&path).unwrap();
    assert!(backup.contains("planted-client-id") && backup.contains("org.sso"), "the backup was read");
    let stored = format!("{:?}", world.everything_stored().await);
    let mut hashes = 0;
    for (label, secret) in &secrets {
        assert!(!backup.contains(secret), "{label} is in the backup");
        let hash = doorward_core::secret::TokenHash::of(secret).to_text();
        // It says in which browser a test was made, and opens nothing.
        let is_kept = *label == "a browser's mark";
        assert!(is_kept || !backup.contains(&hash), "the hash of {label} is in the backup");
        hashes += usize::from(stored.contains(&hash));
    }
    assert!(hashes > 8, "{hashes}: the hashes looked for are those that the database has");
    let master_key = std::fs::read_to_string(world.folder().join("master.key")).unwrap();
    let master_key = master_key.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(!backup.contains(master_key) && !logged.contains(master_key), "the master key");

    // The database's files, byte by byte: sealed or hashed, but never as they are.
    let mut files = Vec::new();
    for name in ["doorward.db", "doorward.db-wal"] {
        files.extend(std::fs::read(world.folder().join(name)).unwrap_or_default());
    }
    // Secrets are ASCII, which survives whatever else is made of the bytes.
    let files = String::from_utf8_lossy(&files);
    let has = |text: &str| files.contains(text);
    assert!(has("planted-client-id"), "the files were read");
    for (label, secret) in &secrets {
        assert!(!has(secret), "{label} is readable in the database");
    }
}

/// What is given into somebody's hands: links, codes and questions, used and refused. A page that shows one to its holder
/// is not kept; every other page is.
async fn hand_out(
    world: &World,
    ada: &Browser,
    codes: &[String],
    pages: &mut Vec<Page>,
    secrets: &mut Vec<(&'static str, String)>,
    browsers: &mut Vec<Browser>,
) {
    // A recovery code, which marks its browser session: one of nobody, then a good one.
    let recover = world.settings("acme", "/recover");
    let second = world.browser_of("ada").await;
    for (code, status) in [("ABCD-EFGH-JKMN-PQRS", 422), (&*codes[0], 303)] {
        assert_eq!(second.post(&recover, &[("code", code)]).await.status, status);
    }
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM recovery").await, 1);
    pages.push(second.get(&world.settings("acme", "")).await);
    browsers.push(second);

    // A question to the admins: whose identity this is, asked and listed.
    world.idp.add_person(Person::new("mholt", "M. Holt", "m.holt@corp.example"));
    world.idp.signs_in("mholt");
    let ben = world.browser_of("ben").await;
    world.set_role("acme", "ben", Role::Write).await;
    let page = world.visit(&ben, &format!("{}/acme/secret", world.hub)).await;
    let question = page.form("/sso/link").value("held").unwrap().to_owned();
    secrets.push(("a question's handle", question));
    let asked = ben.submit(page.form("/sso/link")).await;
    assert_eq!(asked.status, 303, "{}", ben.history());
    walk(&ben, asked, pages).await;
    pages.push(ada.get(&format!("{}/organizations/acme/settings/members", world.base)).await);
    browsers.push(ben);

    // The SSO join link: made, opened, gone through to the provider and back, and rotated.
    for _ in 0..2 {
        let made = ada.post(&world.settings("acme", "/join-link"), &[("role", "read")]).await;
        assert_eq!(made.status, 303, "{} {:?}", made.text(), made.code());
        let page = ada.get(&format!("{}/organizations/acme/settings/members", world.base)).await;
        let link = copied(&page, "join_url");
        secrets.push(("a join link", last_segment(&link)));
        let eve = world.browser_of("eve").await;
        world.idp.signs_in("eve");
        let page = eve.get(&link).await;
        let (_, path) = link.split_once(&world.base).unwrap();
        let to_provider = eve.submit(page.form(path)).await;
        let back = world.through_the_provider(&eve, to_provider).await;
        let confirm = eve.get(back.as_str()).await;
        assert!(confirm.status.as_u16() < 400, "{} {}", confirm.text(), eve.history());
        browsers.push(eve);
    }
}

/// The address that a page shows to be copied, in the field of this id.
fn copied(page: &Page, id: &str) -> String {
    let (_, rest) = page
        .body
        .split_once(&format!("id=\"{id}\" type=\"text\" value=\""))
        .unwrap_or_else(|| panic!("{} {:?}", page.text(), page.code()));
    rest.split('"').next().unwrap().to_owned()
}

fn last_segment(link: &str) -> String {
    link.rsplit('/').next().unwrap().to_owned()
}

fn recovery_codes_on(page: &Page) -> Vec<String> {
    let looks_like_one = |word: &&str| word.len() == 19 && word.split('-').all(|group| group.len() == 4);
    let codes: BTreeSet<String> =
        page.text().split_whitespace().filter(looks_like_one).map(str::to_owned).collect();
    codes.into_iter().collect()
}

fn cookie_label(name: &str) -> &'static str {
    match name {
        name if name.ends_with("session") => "a session's cookie",
        name if name.ends_with("browser") => "a browser's mark",
        _ => "another cookie",
    }
}

/// Signs mira in with her password where the sign-in page is there already; straight in the store otherwise.
async fn sign_in_by_password(world: &World, browser: &Browser, pages: &mut Vec<Page>) {
    let has_page =
        doorward::web::routes().iter().any(|route| route.path == "/login" && route.method == "post");
    if !has_page {
        world.sign_in(browser, "mira").await;
        return;
    }
    let password = doorward_core::secret::Secret::new(PASSWORD.to_owned());
    let hash = world.app.passwords.hash(password, &world.app.random).await.unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_password(world.account("mira").await, &hash, None).await.unwrap();
    tx.commit(world.app.clock.now()).await.unwrap();
    let url = format!("{}/login", world.base);
    pages.push(browser.post(&url, &[("username", "mira"), ("password", WRONG_SECRET)]).await);
    let page = browser.post(&url, &[("username", "mira"), ("password", PASSWORD)]).await;
    walk(browser, page, pages).await;
    assert!(browser.cookie("localhost", "doorward-session").is_some(), "{}", browser.history());
}

/// Puts something recognisable into every input that strangers, proxies and members have, on each listener.
async fn plant_everywhere(world: &World, pages: &mut Vec<Page>, secrets: &mut Vec<(&'static str, String)>) {
    let mut plant = |label: &'static str| {
        let number = secrets.len();
        // As long as a token, so that it is one to whoever looks at its form.
        let value = format!("planted-{number:02}-{:Q<32}", "x7");
        assert_eq!(value.len(), 43, "else it is not hidden in a path");
        secrets.push((label, value.clone()));
        value
    };
    let (basic, bearer, cookie, header) =
        (plant("Basic credentials"), plant("a bearer token"), plant("a foreign cookie"), plant("an API key"));
    let (ours, query, fragment) =
        (plant("a cookie of our name"), plant("a query"), plant("a parameter of ours"));
    let (path, ticket, nonce) = (plant("a token in a path"), plant("a forged ticket"), plant("a nonce"));
    let (state, code, error) = (plant("a forged state"), plant("a forged code"), plant("a forged error"));
    let (typed, body, recovery) =
        (plant("a password in the wrong field"), plant("a body"), plant("a recovery code"));

    let basic = format!("Basic {basic}");
    let bearer = format!("Bearer {bearer}");
    let cookies =
        format!("other={cookie}; doorward-session={ours}; doorward-app={ours}; doorward-browser={ours}");
    let hub = world.hub.trim_start_matches("http://");
    let gate_target = format!("/acme/secret?access_token={query}");
    let gate_url = format!("{}{gate_target}", world.hub);
    let stranger = Browser::new().with_clock(&world.clock);
    for accept in ["text/html", "application/json"] {
        for authorization in [&*basic, &*bearer] {
            let headers = [
                ("accept", accept),
                ("authorization", authorization),
                ("proxy-authorization", authorization),
                ("cookie", &*cookies),
                ("x-api-key", &*header),
                ("x-request-id", &*header),
                ("user-agent", &*header),
                ("referer", &*gate_url),
                ("x-original-method", "GET"),
                ("x-original-url", &*gate_url),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", hub),
                ("x-forwarded-uri", &*gate_target),
            ];
            for address in [
                format!("{}/?x={query}", world.base),
                format!("{}/healthz?x={query}", world.base),
                format!("{}/nonsense/{path}?x={query}", world.base),
                format!("{}/organizations/acme/join/{path}", world.base),
                format!("{}/organizations/acme/settings/sso?x={query}", world.base),
                format!(
                    "{}/organizations/acme/oidc/consume?state={state}&code={code}&error={error}&error_description={error}",
                    world.base
                ),
                format!("{}/login/first?token={fragment}", world.base),
                format!("{}/.doorward/handover?host={hub}&handover={nonce}&next=/", world.base),
                format!("{}/.doorward/ticket?ticket={ticket}", world.hub),
                format!("{}/acme/secret?access_token={query}", world.hub),
                format!("{}/static/x?access_token={query}", world.hub),
                format!("{}/auth-request?x={query}", world.gate),
                format!("{}/forward-auth?x={query}", world.gate),
            ] {
                pages.push(stranger.request(http::Method::GET, &address, &headers, "").await);
            }
        }
    }
    // Forms: what a page gives back as it was typed is the person's own; it is looked for everywhere else.
    for (path, fields) in [
        ("/login", vec![("username", &*typed), ("password", &*body)]),
        ("/login", vec![("username", "mira"), ("password", &*body), ("extra", &*body)]),
        ("/organizations/acme/settings/sso/recover", vec![("code", &*recovery)]),
        ("/nonsense", vec![("password", &*body)]),
    ] {
        stranger.post(&format!("{}{path}", world.base), &fields).await;
    }
    let mira = world.browser_of("mira").await;
    let password = [("current", &*body), ("new", &*body), ("again", &*typed), ("current_password", &*body)];
    mira.post(&format!("{}/settings/account/password", world.base), &password).await;
    let json = [("content-type", "application/json")];
    stranger.request(http::Method::POST, &format!("{}/login", world.base), &json, &body).await;
    // The provider is asked for what it tells, and the application is told nothing of all this.
    let seen = format!("{:?}", world.seen.lock().unwrap());
    assert!(!seen.contains(&ours) && !seen.contains("proxy-authorization"), "{seen}");
}

/// What an operator reads with the server running: settings, findings, and the exported audit log.
async fn told_by_commands(world: &World) -> String {
    let (database, key) = (world.folder().join("doorward.db"), world.folder().join("master.key"));
    let clock = world.app.clock.clone();
    let run = move || {
        let mut told = Vec::new();
        for line in [
            "sso show acme",
            "sso show acme --json",
            "sso link-requests acme",
            "org list",
            "org invitations acme",
            "audit export acme",
            "audit export",
            "audit verify --all",
            "audit checkpoint",
            "key fingerprint",
        ] {
            let mut errors = Vec::new();
            let surroundings = doorward::command_line::Surroundings {
                input: &mut [].as_slice(),
                output: &mut told,
                errors: &mut errors,
                environment: vec![
                    ("DOORWARD_DATABASE".to_owned(), format!("sqlite:{}", database.display())),
                    ("DOORWARD_MASTER_KEY_FILE".to_owned(), key.display().to_string()),
                    ("DOORWARD_LOG__LEVEL".to_owned(), "trace".to_owned()),
                ],
                clock: clock.clone(),
                random: doorward::random::Random::seeded(5),
            };
            let arguments = std::iter::once("doorward").chain(line.split(' ')).map(std::ffi::OsString::from);
            doorward::command_line::run(arguments.collect::<Vec<_>>(), surroundings);
            told.extend(errors);
        }
        String::from_utf8_lossy(&told).into_owned()
    };
    // A command has a runtime of its own.
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(run()));
    told.await.unwrap()
}
