//! `doorward probe` through the built-in proxy, on both databases: what a stranger gets, and the session that it begins.
//! Through the other proxies, and what it finds when a line is missing: e2e/journeys/probe.test.js.

use crate::harness::{Options, World};
use serde_json::Value;

/// Runs `probe … --json` beside the running service: the exit code and the report.
async fn probe(world: &World, arguments: &str) -> (u8, Value, String) {
    let application = format!(
        "host = \"{}\"\norganization = [\"/{{org}}/{{resource}}/**\", \"/{{org}}/**\"]\npublic = [\"/\", \"/static/**\"]",
        world.hub.trim_start_matches("http://")
    );
    probe_of(world, &application, &world.hub, arguments).await
}

/// The same, of an application that is configured otherwise.
async fn probe_of(world: &World, application: &str, url: &str, arguments: &str) -> (u8, Value, String) {
    let file = world.folder().join("probe.toml");
    let (base, gate) = (&world.base, world.gate.trim_start_matches("http://"));
    std::fs::write(
        &file,
        format!(
            "base_url = \"{base}\"\n[gate]\nlisten = \"{gate}\"\n[[app]]\nname = \"hub\"\n{application}\n"
        ),
    )
    .unwrap();
    let proxy = base.trim_start_matches("http://localhost:");
    let line =
        format!("--config {} probe {url} --connect 127.0.0.1:{proxy} --json{arguments}", file.display());
    let (code, output, errors) = world.operate(&line).await;
    (code, serde_json::from_str(&output).unwrap_or_default(), errors)
}

/// The names of the rows with this outcome.
fn rows<'r>(report: &'r Value, outcome: &str) -> Vec<&'r str> {
    let rows = report["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["outcome"] == outcome).map(|row| row["row"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_gets_through_the_built_in_proxy_is_all_right_and_no_post_reaches_the_application() {
    let world = World::new().await;
    let (code, report, errors) = probe(&world, "").await;
    assert_eq!((code, errors.as_str()), (0, ""), "{report:#}");
    assert_eq!(rows(&report, "failed"), [""; 0]);
    let passed = rows(&report, "passed");
    assert_eq!(passed.len(), 19, "{passed:?}");
    assert!(passed.contains(&"form-post") && passed.contains(&"path-tricks"), "{passed:?}");
    // What is open to everybody arrived, and nothing else.
    let seen = world.seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.target == "/static/doorward-probe"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_the_session_of_a_probe_is_the_operators_in_the_audit_log_and_ends_with_it() {
    let world = World::new().await;
    let sessions = "SELECT count(*) AS n FROM browser_session";
    let by_operators = "SELECT count(*) AS n FROM audit_event WHERE actor_kind = 'operator' AND action IN \
                        ('account.sign_in', 'account.session_end')";
    // Where nothing arrives, because the application is still there, no session goes out either.
    let member = " --echo 127.0.0.1:0 --as mira --organization acme";
    let (code, report, _) = probe(&world, member).await;
    assert_eq!(code, 1);
    assert_eq!(rows(&report, "failed"), ["arrives"]);
    assert!(rows(&report, "skipped").contains(&"identity"));
    assert!(
        world.seen.lock().unwrap().iter().all(|seen| seen.header("remote-user").is_none_or(str::is_empty))
    );
    assert_eq!((world.count(sessions).await, world.count(by_operators).await), (0, 2));

    // Nor is anything left of one that may not open the page, whether for its role or for want of single sign-on.
    for (account, code) in [("eve", "gate.forbidden"), ("nobody", "membership.account_unknown")] {
        let (exit, _, errors) =
            probe(&world, &format!(" --echo 127.0.0.1:0 --as {account} --organization acme")).await;
        assert!(exit == 1 && errors.contains(code), "{errors}");
    }
    world.enable_sso("acme", "ada").await;
    let before = world.count(sessions).await;
    let (exit, _, errors) = probe(&world, member).await;
    assert!(exit == 1 && errors.contains("sso.required") && errors.contains("--plan free"), "{errors}");
    assert_eq!(world.count(sessions).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_tell_the_organization_one_of_them_is_looked_at() {
    let configuration = "[[app]]\nname = \"by-host\"\nhost = \"{org}.apps.localhost:PORT\"\nupstream = \"http://UPSTREAM\"\n\
                         public = [\"/static/**\"]\n";
    let world = World::with(Options { configuration: configuration.to_owned(), ..Options::default() }).await;
    let at = |label: &str| world.hub.replace("hub.localhost", &format!("{label}.apps.localhost"));
    let application =
        format!("host = \"{}\"\npublic = [\"/static/**\"]", at("{org}").trim_start_matches("http://"));
    let (code, report, errors) = probe_of(&world, &application, &at("{org}"), " --organization acme").await;
    assert_eq!((code, errors.as_str()), (0, ""), "{report:#}");
    assert_eq!(rows(&report, "passed").len(), 19, "{report:#}");
    let (code, again, errors) = probe_of(&world, &application, &at("ACME"), "").await;
    assert_eq!((code, errors.as_str(), &again["rows"]), (0, "", &report["rows"]), "{again:#}");

    for (url, arguments, words) in [
        (at("{org}"), "", "Say whose to look at: --organization NAME"),
        (at("{org}"), " --organization a.b", "no [[app]] has the host a.b.apps.localhost"),
        (at("globex"), " --organization acme", "is the host of globex, and --organization names acme"),
        (at("{org}").replace("{org}.", ""), "", "no [[app]] has the host apps.localhost"),
    ] {
        let (code, _, errors) = probe_of(&world, &application, &url, arguments).await;
        assert!(code == 1 && errors.contains(words), "{url}{arguments}: {errors}");
    }
}
