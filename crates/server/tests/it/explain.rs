//! `doorward explain` never differs from the gate: the same requests are sent over HTTP and explained.

use doorward::gate::Question;
use doorward::gate::explain::{Asker, Explanation, SsoTried, explain};
use doorward::store::load_connection;
use doorward_core::connection::Enforcement;
use doorward_core::gate_decision::Ground;
use doorward_core::ids::SessionId;
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page};
use http::{HeaderMap, HeaderName, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::harness::{Options, World};

/// One request of a table or of chance.
#[derive(Clone, Debug)]
struct Case {
    host: String,
    method: &'static str,
    target: String,
    account: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

/// What the gate says over HTTP, as nginx asks it.
async fn over_http(world: &World, case: &Case, cookie: Option<&str>) -> Page {
    let url = format!("http://{}{}", case.host, case.target);
    let cookie = cookie.map(|token| format!("doorward-app={token}")).unwrap_or_default();
    let mut headers =
        vec![("x-original-method", case.method), ("x-original-url", &*url), ("cookie", &*cookie)];
    headers.extend(case.headers.iter().copied());
    Browser::new().request(Method::GET, &format!("{}/auth-request", world.gate), &headers, "").await
}

/// What the explanation says.
async fn explained(world: &World, case: &Case) -> Explanation {
    let application = world.app.configuration.application_on(&case.host).expect("an application");
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let question = Question {
        application,
        host: case.host.as_str().into(),
        method: case.method,
        target: &case.target,
        headers: &headers,
    };
    let asker = match case.account {
        None => Asker::Stranger,
        Some(name) => {
            let id = world.account(name).await;
            let facts = world.app.store.account_facts(id, world.app.clock.now()).await.unwrap().unwrap();
            Asker::Account(facts, SsoTried::AsItIs)
        }
    };
    explain(&world.app, &question, &asker).await.unwrap()
}

/// What both must agree on: real status, code, where to, and who it is for the application.
fn agree(page: &Page, explanation: &Explanation) -> Result<(), String> {
    let answer = &explanation.answer;
    let header = |name: &str| page.header(name).unwrap_or_default().to_owned();
    // A redirect is a 401 with an address to nginx.
    let status = if answer.status == 302 { 401 } else { answer.status };
    let location = if answer.status == 302 { answer.location.clone() } else { None };
    let gate = (
        header("doorward-status"),
        page.header("doorward-code").map(str::to_owned),
        page.header("location").map(str::to_owned),
        header("doorward-organization"),
        header("doorward-role"),
        header("doorward-sso"),
    );
    let said = (
        status.to_string(),
        answer.code.map(str::to_owned),
        location,
        answer.organization.clone(),
        answer.role.to_owned(),
        answer.sso.to_owned(),
    );
    if gate == said { Ok(()) } else { Err(format!("the gate: {gate:?}\nexplained: {said:?}\n{explanation}")) }
}

/// An account's cookie for an application's host, and the browser session behind it.
async fn host_session(world: &World, account: &str, host: &str) -> (String, SessionId) {
    let (id, now) = (world.account(account).await, world.app.clock.now());
    let [own, on_host] = [(); 2].map(|()| world.app.random.token().unwrap());
    let session = SessionId::new(now.millis(), world.app.random.bytes().unwrap());
    let mut tx = world.app.store.begin().await.unwrap();
    tx.insert_browser_session(session, own.hash(), id, now).await.unwrap();
    tx.insert_host_session(on_host.hash(), session, id, host, now).await.unwrap();
    tx.commit(now).await.unwrap();
    (on_host.expose().to_owned(), session)
}

const APPLICATIONS: usize = 6;

/// `[[app]]` tables with patterns, policy and rules by chance.
fn configurations(runner: &mut TestRunner) -> String {
    let organization =
        ["/{org}/{resource}/**", "/datasets/{org}/{resource}", "/{org}/**", "/x/{org}", "/{area}/{org}/**"];
    let public = ["/", "/static/**", "/about", "/acme/website/**", "/{any}/open"];
    let rules = [
        r#"{ methods = ["DELETE"], path = "/{org}/settings/**", role = "admin" }"#,
        r#"{ methods = [], path = "/{org}/settings/**", role = "write" }"#,
        r#"{ methods = ["POST"], path = "/{org}/**/votes", role = "read" }"#,
        r#"{ methods = ["GET", "HEAD"], path = "/**", role = "contributor" }"#,
    ];
    let strategy = (
        subsequence(organization.to_vec(), 1..=organization.len()).prop_shuffle(),
        subsequence(public.to_vec(), 0..=public.len()),
        select(vec!["deny", "signed_in", "allow"]),
        subsequence(rules.to_vec(), 0..=rules.len()).prop_shuffle(),
    );
    (0..APPLICATIONS)
        .map(|n| {
            let (organization, public, unowned, rules) = strategy.new_tree(runner).unwrap().current();
            format!(
                "[[app]]\nname = \"app{n}\"\nhost = \"app{n}.localhost:PORT\"\norganization = {organization:?}\n\
                 public = {public:?}\nunowned = \"{unowned}\"\nrules = [{}]\n",
                rules.join(", ")
            )
        })
        .collect()
}

fn requests(port: u16) -> impl Strategy<Value = Case> {
    let places = vec![
        "acme",
        "acme/secret",
        "acme/website",
        "ACME/Website/x",
        "acme/settings/keys",
        "acme/x/votes",
        "globex/plans",
        "gone/x",
        "nobody/x",
        "datasets/acme/secret",
        "x/acme",
        "y/acme/secret",
        "static/a.css",
        "about",
        "acme/open",
        "",
        ".doorward/x",
    ];
    let oddities = vec![
        "", "", "", "", "/", "/..", "/secret", ";a", "%2f", "/%61", "%25", "%3b", "%", "\\", "~", "?q=/x",
        "#", "//", "%20",
    ];
    let headers = vec![
        vec![("accept", "text/html")],
        vec![("accept", "text/html")],
        vec![("accept", "*/*")],
        vec![("sec-fetch-mode", "cors")],
        vec![("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")],
        vec![("accept", "text/html"), ("upgrade", "websocket")],
        vec![("upgrade", "h2c")],
    ];
    let methods =
        vec!["GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "POST", "DELETE", "PUT", "TRACE", "get"];
    (
        0..APPLICATIONS,
        select(methods),
        select(places),
        select(oddities),
        select(vec![None, Some("mira"), Some("mira"), Some("mira"), Some("eve"), Some("ben")]),
        select(headers),
    )
        .prop_map(move |(application, method, place, oddity, account, headers)| Case {
            host: format!("app{application}.localhost:{port}"),
            method,
            target: format!("/{place}{oddity}"),
            account,
            headers,
        })
}

/// Another state of what the gate looks at, by chance: SSO of acme, mira's role and SSO there, and her standing.
async fn other_facts(world: &World, runner: &mut TestRunner, sessions: &[SessionId]) -> String {
    let sso = select(vec![
        None,
        Some(Enforcement::Enforced),
        Some(Enforcement::Enforced),
        Some(Enforcement::Optional),
    ]);
    let strategy = (
        sso,
        select(vec![
            None,
            Some(Role::NoAccess),
            Some(Role::Read),
            Some(Role::Contributor),
            Some(Role::Write),
            Some(Role::Admin),
        ]),
        select(vec![None, Some(0_i64), Some(0), Some(8)]),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let chosen = strategy.new_tree(runner).unwrap().current();
    let (sso, role, sso_age_days, old_epoch, collaborator, public) = chosen;
    let acme = world.organization("acme").await;
    let (mira, now) = (world.account("mira").await, world.app.clock.now());
    let connection = load_connection(&mut world.app.store.reader(), acme.id).await.unwrap().unwrap();
    if collaborator {
        world.behind_its_back("UPDATE membership SET external_collaborator = 1").await;
    } else {
        world.behind_its_back("UPDATE membership SET external_collaborator = 0").await;
    }
    let mut tx = world.app.store.begin().await.unwrap();
    match (sso, connection.live, connection.draft) {
        (None, Some(_), _) => drop(tx.disable_connection(&acme).await.unwrap()),
        (Some(enforcement), None, Some(draft)) => {
            tx.enable_revision(&acme, draft, None, enforcement, false).await.unwrap();
        }
        (Some(enforcement), ..) => drop(tx.update_enforcement(&acme, enforcement).await.unwrap()),
        (None, None, _) => {}
    }
    match role {
        Some(role) => drop(tx.set_role(acme.id, mira, role, now).await.unwrap()),
        None => drop(tx.delete_membership(acme.id, mira, now).await.unwrap()),
    }
    tx.end_sso_of(acme.id, mira).await.unwrap();
    tx.commit(now).await.unwrap();
    let connection = load_connection(&mut world.app.store.reader(), acme.id).await.unwrap().unwrap();
    let mut tx = world.app.store.begin().await.unwrap();
    if let Some(days) = sso_age_days {
        let (epoch, at) = (connection.epoch - i64::from(old_epoch), now.minus(Lifetime::from_days(days)));
        for session in sessions {
            tx.put_sso_session(*session, mira, acme.id, epoch, "i", "s", at).await.unwrap();
        }
    }
    tx.set_resource(acme.id, "", "secret", public).await.unwrap();
    tx.commit(now).await.unwrap();
    format!("{chosen:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_whatever_is_configured_and_known_explain_says_what_the_gate_does() {
    let mut runner = TestRunner::deterministic();
    let world =
        World::with(Options { configuration: configurations(&mut runner), ..Options::default() }).await;
    world.enable_sso("acme", "ada").await;
    world.add_organization("gone", "ada", doorward::store::Plan::Free).await;
    world.behind_its_back("UPDATE organization SET deleted_at = 1 WHERE name_key = 'gone'").await;
    let port = url::Url::parse(&world.base).unwrap().port().unwrap();
    let mut cookies = Vec::new();
    let mut sessions = Vec::new();
    // Not ada: her other browser completed single sign-on when she enabled it, and an explanation takes the best session.
    for account in ["mira", "eve", "ben"] {
        for n in 0..APPLICATIONS {
            let host = format!("app{n}.localhost:{port}");
            let (cookie, session) = host_session(&world, account, &host).await;
            if account == "mira" {
                sessions.push(session);
            }
            cookies.push((account, host, cookie));
        }
    }
    // Until chance has met everything that the gate can say, and at least a few hundred times.
    let (least, most, cases) = (12, 60, 40);
    let refusals = ["ambiguous_path", "method", "upgrade", "handover"];
    // Nobody asks by an access token here, and none of these requests has cookies without measure.
    let of_tokens = [Ground::BadToken, Ground::AboveCeiling, Ground::TokenNotAuthorized];
    let met = Ground::ALL.into_iter().filter(|ground| !of_tokens.contains(ground)).map(Ground::as_str);
    let grounds = || refusals.into_iter().chain(met.clone());
    let mut decisions = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..most {
        if round >= least && grounds().all(|ground| decisions.contains_key(ground)) {
            break;
        }
        let known = other_facts(&world, &mut runner, &sessions).await;
        let mut cases_runner = TestRunner::new_with_rng(
            Config { cases, failure_persistence: None, ..Config::default() },
            runner.new_rng(),
        );
        let handle = tokio::runtime::Handle::current();
        let seen = std::cell::RefCell::new(&mut decisions);
        let outcome = tokio::task::block_in_place(|| {
            cases_runner
                .run(&requests(port), |case| {
                    let cookie = cookies
                        .iter()
                        .find(|(account, host, _)| Some(*account) == case.account && *host == case.host)
                        .map(|(_, _, cookie)| cookie.as_str());
                    let (page, explanation) = handle.block_on(async {
                        (over_http(&world, &case, cookie).await, explained(&world, &case).await)
                    });
                    *seen.borrow_mut().entry(explanation.ground.to_owned()).or_default() += 1;
                    agree(&page, &explanation).map_err(TestCaseError::fail)
                })
                .map_err(|error| error.to_string())
        });
        assert!(outcome.is_ok(), "{known}: {}", outcome.unwrap_err());
    }
    for ground in grounds() {
        assert!(decisions.contains_key(ground), "{ground} is not in {decisions:?}");
    }
}

/// A world whose organizations differ: acme enforces single sign-on, mira has completed it in one browser.
async fn furnished() -> (World, String) {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let host = world.hub.trim_start_matches("http://").to_owned();
    (world, host)
}

/// Explains by the command line, as JSON.
async fn by_command(world: &World, arguments: &str) -> Value {
    let file = world.folder().join("doorward.toml");
    let output = world.good_command(&format!("explain {arguments} --json --config {}", file.display())).await;
    serde_json::from_str(&output).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_requests_is_explained_by_the_command_as_the_gate_answers_it() {
    let (world, host) = furnished().await;
    let mut cookies = Vec::new();
    for account in ["mira", "eve"] {
        cookies.push((account, host_session(&world, account, &host).await.0));
    }
    // Method, target, account, status, step, ground.
    let table: [(&'static str, &str, Option<&'static str>, u64, u64, &str); 16] = [
        ("GET", "/", None, 200, 2, "public_path"),
        ("GET", "/static/app.css", Some("mira"), 200, 2, "public_path"),
        ("GET", "/acme/website/about", None, 200, 2, "public_resource"),
        ("POST", "/acme/website/about", None, 401, 3, "no_account"),
        ("GET", "/acme/secret", None, 302, 3, "no_account"),
        ("GET", "/nobody/secret", None, 302, 2, "unowned_name"),
        ("GET", "/nobody/secret", Some("mira"), 403, 2, "unowned"),
        ("GET", "/acme/secret", Some("eve"), 403, 4, "not_member"),
        ("DELETE", "/acme/settings/x", Some("mira"), 403, 4, "role_too_low"),
        ("GET", "/acme/secret", Some("mira"), 302, 5, "sso_missing"),
        ("POST", "/acme/secret", Some("mira"), 401, 5, "sso_missing"),
        ("GET", "/globex/secret", Some("mira"), 200, 6, "nothing_against"),
        ("POST", "/globex/secret", Some("mira"), 403, 4, "role_too_low"),
        ("GET", "/acme/..%2fglobex", Some("mira"), 400, 1, "ambiguous_path"),
        ("TRACE", "/acme/secret", Some("mira"), 400, 1, "method"),
        ("GET", "/.doorward/start", Some("mira"), 400, 1, "handover"),
    ];
    for (method, target, account, status, step, ground) in table {
        let case = Case {
            host: host.clone(),
            method,
            target: target.to_owned(),
            account,
            headers: vec![("accept", "text/html")],
        };
        let cookie = cookies.iter().find(|(name, _)| Some(*name) == account).map(|(_, cookie)| &**cookie);
        let page = over_http(&world, &case, cookie).await;
        agree(&page, &explained(&world, &case).await).unwrap_or_else(|differs| panic!("{case:?}\n{differs}"));
        let who = account.map(|name| format!(" --account {name}")).unwrap_or_default();
        let json = by_command(&world, &format!("{method} {}{target}{who}", world.hub)).await;
        assert_eq!(
            (json["answer"]["status"].as_u64(), json["step"].as_u64(), json["ground"].as_str()),
            (Some(status), Some(step), Some(ground)),
            "{case:?} {json}"
        );
        assert_eq!(json["answer"]["location"].as_str().filter(|_| status == 302), page.header("location"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_tells_a_person_what_was_looked_at_and_which_character_is_to_blame() {
    let (world, _) = furnished().await;
    let file = world.folder().join("doorward.toml");
    let explain = |arguments: String| {
        let line = format!("explain {arguments} --config {}", file.display());
        let world = &world;
        async move { world.good_command(&line).await }
    };
    let told = explain(format!("GET {}/acme/secret?token=planted --account mira", world.hub)).await;
    for words in [
        "application     hub",
        "pattern         /{org}/{resource}/** of organization",
        "organization    acme: single sign-on enforced, for 168 hours at a time",
        "resource        secret: private",
        "role needed     read, by the method: no rule matches",
        "account         mira: member, with the role write",
        "decision        authenticate, by step 5 (sso_missing)",
        "answer          302 sso.required, to ",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let decided = told.split("answer ").next().unwrap();
    assert!(!decided.contains("planted"), "a query decides nothing and is not shown: {told}");

    let told = explain(format!("GET {}/acme/..%2fglobex", world.hub)).await;
    assert!(told.contains("because of \"%2f\" at byte 8, in the segment \"..%2fglobex\""), "{told}");
    let told = explain(format!("DELETE {}/acme/settings/keys --account ada", world.hub)).await;
    assert!(told.contains("admin, by the rule for DELETE /{org}/settings/**"), "{told}");
    // The admin completed single sign-on when he enabled it.
    assert!(
        told.contains("single sign-on  completed 2026-01-15T09:00:00.000Z, good until 2026-01-22"),
        "{told}"
    );
    assert!(
        told.contains("on to the application with organization acme, role admin, single sign-on complete"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_supposes_another_single_sign_on_and_another_kind_of_request() {
    let (world, _) = furnished().await;
    let url = format!("{}/acme/secret", world.hub);
    let answer = async |more: &str| {
        let json =
            by_command(&world, &format!("GET {url} --account mira {more}").trim_end().replace("  ", " "))
                .await;
        (json["answer"]["status"].as_u64().unwrap(), json["answer"]["sso"].as_str().unwrap().to_owned())
    };
    assert_eq!(answer("--sso missing").await, (302, String::new()));
    assert_eq!(answer("--sso complete").await, (200, "complete".to_owned()));
    assert_eq!(answer("--sso none").await, (200, String::new()));
    assert_eq!(answer("--header Upgrade:websocket").await.0, 401, "a WebSocket is not redirected");
    assert_eq!(answer("--header Upgrade:h2c").await.0, 400);
    assert_eq!(answer("--header Sec-Fetch-Mode:cors").await.0, 401);

    // Switched off, nobody is signed in, whatever is supposed.
    world.behind_its_back("UPDATE account SET disabled = 1 WHERE name_key = 'mira'").await;
    let json = by_command(&world, &format!("GET {url} --account mira --sso complete")).await;
    assert_eq!(
        (json["ground"].as_str(), json["account"]["switched_off"].as_bool()),
        (Some("no_account"), Some(true))
    );

    for (arguments, code) in [
        ("GET http://elsewhere.localhost/x", "request.unknown_host"),
        ("GET /acme/secret", "gate.headers_malformed"),
        ("GET https://hub.localhost/acme", "gate.http_seen"),
    ] {
        let file = world.folder().join("doorward.toml");
        let (status, _, errors) =
            world.operate(&format!("explain {arguments} --config {}", file.display())).await;
        assert!(status == 1 && errors.contains(code), "{arguments}: {errors}");
    }
    if world.database().starts_with("sqlite:") {
        let before = world.everything_stored().await;
        by_command(&world, &format!("GET {url} --account mira")).await;
        assert_eq!(world.everything_stored().await, before, "explaining changes nothing");
    }
}
