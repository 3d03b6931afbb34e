//! The command line from end to end: arguments and standard input in, output, errors and exit codes out.

use doorward::clock::Clock;
use doorward::command_line::{Surroundings, run};
use doorward::commands;
use doorward::random::Random;
use doorward::sealing::Sealing;
use doorward::store::{SYSTEM_SCOPE, Store, Synchronous};
use doorward_testkit::{FakeIdp, TempDir, clock_at};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// A folder of its own for one test, gone at its end.
struct Folder(TempDir, Option<String>);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new(), None)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs one command in here: its exit code, standard output and standard error.
    fn run(&self, line: &str, input: &str) -> (u8, String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let sqlite = || format!("sqlite:{}", self.0.join("doorward.db").display());
        let database = self.1.clone().unwrap_or_else(sqlite);
        let key = self.0.join("master.key").display().to_string();
        let surroundings = Surroundings {
            input: &mut input.as_bytes(),
            output: &mut output,
            errors: &mut errors,
            environment: vec![
                ("DOORWARD_DATABASE".to_owned(), database),
                ("DOORWARD_MASTER_KEY_FILE".to_owned(), key),
                ("DOORWARD_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
                ("DOORWARD_GATE__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
                ("DOORWARD_LOG__LEVEL".to_owned(), "error".to_owned()),
            ],
            clock: Clock::system(),
            random: Random::system(),
        };
        let file = self.0.join("doorward.toml");
        let config = if file.exists() { file.display().to_string() } else { String::new() };
        let mut arguments: Vec<OsString> = vec!["doorward".into()];
        if !config.is_empty() {
            arguments.extend(["--config".into(), config.into()]);
        }
        arguments.extend(line.split(' ').map(OsString::from));
        let code = run(arguments, surroundings);
        (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    }

    /// Runs one command that must succeed: its output.
    fn good(&self, line: &str, input: &str) -> String {
        let (code, output, errors) = self.run(line, input);
        assert_eq!((code, errors.as_str()), (0, ""), "{line}: {output}");
        output
    }

    /// Runs one command that must fail with this code.
    fn bad(&self, line: &str, input: &str, code: &str) -> String {
        let (exit, _, errors) = self.run(line, input);
        assert_eq!(exit, 1, "{line}");
        assert!(errors.starts_with(&format!("error[{code}]: ")), "{line}: {errors}");
        assert!(errors.lines().any(|line| line.starts_with("next: ")), "{line}: {errors}");
        errors
    }
}

const PASSWORD: &str = "correct horse battery\n";

fn with_acme() -> Folder {
    let folder = Folder::new();
    folder.good("account create mira --email mira@acme.example --password-stdin", PASSWORD);
    folder.good("account create omar --email omar@acme.example --password-stdin", PASSWORD);
    folder.good("org create Acme --name Acme --admin mira", "");
    folder
}

#[test]
fn an_account_is_made_once_and_its_password_is_judged() {
    let folder = Folder::new();
    let create = "account create mira --email mira@acme.example --password-stdin";
    folder.bad(create, "short\n", "account.password_too_short");
    folder.bad(create, "", "command.input_missing");
    folder.bad("account create 1 --email m@a.example --password-stdin", PASSWORD, "account.name_invalid");
    folder.bad("account create mira --email m --password-stdin", PASSWORD, "account.email_invalid");
    assert!(folder.good(create, PASSWORD).contains("mira"));
    let again = folder.bad(create, PASSWORD, "account.name_taken");
    assert!(again.contains("the account mira is there already"), "{again}");
    let taken = folder.bad(
        "account create omar --email mira@acme.example --password-stdin",
        PASSWORD,
        "account.email_taken",
    );
    assert!(taken.contains("of the account mira"), "{taken}");
}

#[test]
fn an_account_that_the_operator_makes_is_in_the_systems_log() {
    let folder = Folder::new();
    folder.good("account create mira --email mira@acme.example --password-stdin", PASSWORD);
    folder.good("account create omar --email omar@acme.example --password-stdin --operator", PASSWORD);
    folder.bad("account create mira --email m@acme.example --password-stdin", PASSWORD, "account.name_taken");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = runtime.block_on(async {
        let database = folder.0.join("doorward.db");
        let store = Store::open_sqlite(&database, Synchronous::Normal).await.unwrap();
        store.reader().audit_of_scope_after(SYSTEM_SCOPE, 0, 100).await.unwrap()
    });
    let made: Vec<Value> = log
        .iter()
        .filter(|event| event.action == "account.create")
        .map(|event| json!([event.actor_kind, event.details]))
        .collect();
    assert_eq!(
        made,
        [
            json!(["operator", { "name": "mira", "operator": "false" }]),
            json!(["operator", { "name": "omar", "operator": "true" }]),
        ]
    );
}

#[test]
fn a_password_is_set_anew_and_an_address_added_by_the_operators_word() {
    let folder = with_acme();
    folder.bad("account password nobody --password-stdin", PASSWORD, "membership.account_unknown");
    folder.bad("account password mira --password-stdin", "short\n", "account.password_too_short");
    assert!(
        folder.good("account password mira --password-stdin", "other words in a row\n").contains("ended")
    );
    assert!(folder.good("account email mira --add m@globex.example", "").contains("proved"));
    assert!(folder.good("account email mira --add m@globex.example", "").contains("proved"), "twice is once");
    folder.bad("account email omar --add M@globex.example", "", "account.email_taken");
    folder.bad("account email omar --add m", "", "account.email_invalid");
}

#[test]
fn s9_the_operator_puts_an_organization_on_another_plan() {
    let folder = with_acme();
    folder.good("org plan acme free", "");
    assert_eq!(folder.good("org list", ""), "Acme\tfree\tnot_set_up\tAcme\n");
    folder.bad(
        "sso set acme --issuer-url https://a.example --client-id c --client-secret-stdin",
        "a-client-secret\n",
        "plan.required",
    );
}

#[test]
fn an_organization_is_made_with_its_admin_and_listed() {
    let folder = with_acme();
    assert_eq!(folder.good("org list", ""), "Acme\tenterprise\tnot_set_up\tAcme\n");
    folder.bad("org create acme --name A --admin mira", "", "organization.name_taken");
    folder.bad("org create mira --name A --admin mira", "", "organization.name_taken");
    folder.bad("org create other --name A --admin nobody", "", "membership.account_unknown");
    folder.bad("org create settings --name A --admin mira", "", "organization.name_invalid");
}

#[test]
fn an_organization_can_not_have_the_name_of_an_applications_path() {
    let folder = Folder::new();
    let app = "[[app]]\nname = \"hub\"\nhost = \"hub.localhost\"\norganization = [\"/Datasets/{org}/**\"]\n";
    folder.write("doorward.toml", app);
    folder.good("account create mira --email mira@acme.example --password-stdin", PASSWORD);
    folder.bad("org create datasets --name D --admin mira", "", "organization.name_is_a_path");
}

#[test]
fn a_path_of_later_does_not_open_an_organization_that_has_its_name() {
    let folder = with_acme();
    let app = |patterns: &str| {
        let text = format!("[[app]]\nname = \"hub\"\nhost = \"hub.localhost\"\n{patterns}\n");
        folder.write("doorward.toml", &format!("listen = \"127.0.0.1:0\"\n{text}"));
    };
    let backup = folder.0.join("acme.backup");
    folder.good(&format!("backup {}", backup.display()), "");
    for (patterns, pattern) in [
        ("public = [\"/\", \"/aCme/**\"]", "/aCme/**"),
        ("public = [\"/acme\"]", "/acme"),
        ("organization = [\"/acme/{org}/**\", \"/{org}/**\"]", "/acme/{org}/**"),
    ] {
        app(patterns);
        let both = format!("{pattern} of app hub is about pages of the organization Acme");
        let errors = folder.bad("serve", "", "organization.name_is_a_path");
        assert!(errors.contains(&both), "{errors}");
        let (code, report, _) = folder.run("check", "");
        assert!(code == 1 && report.contains("wrong  ") && report.contains(&both), "{report}");
        let told = folder.good(&format!("restore {} --replace", backup.display()), "");
        assert!(told.contains(&both) && told.contains("serve will not start"), "{told}");
    }
    app("public = [\"/acme/**\", \"/acme\"]");
    assert_eq!(folder.run("check", "").1.matches("the organization Acme").count(), 2, "all are told at once");
    // A rule opens nothing, and where hosts tell whose a page is, a path is nobody's name.
    for patterns in [
        "rules = [{ path = \"/acme/**\", role = \"admin\" }]",
        "organization = [\"/{org}/**\"]\npublic = [\"/\"]",
    ] {
        app(patterns);
        let (_, report, _) = folder.run("check", "");
        assert!(!report.contains("the organization Acme"), "{report}");
    }
    folder.write(
        "doorward.toml",
        "[[app]]\nname = \"hub\"\nhost = \"{org}.localhost\"\npublic = [\"/acme/**\"]\n",
    );
    assert!(!folder.run("check", "").1.contains("the organization Acme"));
    // Nor does the name of an account keep Doorward from serving.
    app("public = [\"/mira/**\"]");
    assert!(!folder.run("check", "").1.contains("the organization"));
}

#[test]
fn members_come_change_and_go_but_the_last_admin_stays() {
    let folder = with_acme();
    assert!(folder.good("org member set acme omar --role read", "").contains("role read"));
    assert!(folder.good("org member set acme omar --role read", "").contains("already"));
    folder.bad("org member set acme mira --role read", "", "organization.last_admin");
    folder.bad("org member remove acme mira", "", "organization.last_admin");
    folder.bad("org member set nowhere omar --role read", "", "organization.unknown");
    folder.good("org member set acme omar --role admin", "");
    folder.good("org member remove acme mira", "");
    folder.bad("org member remove acme mira", "", "membership.missing");
}

#[test]
fn rule_8_every_change_by_command_is_audited_with_the_system_user() {
    let folder = with_acme();
    folder.good("org member set acme omar --role read", "");
    folder.good("org member set acme omar --role write", "");
    folder.good("org member remove acme omar", "");
    folder.good("resource set acme Data --public --prefix /datasets/", "");
    let exported = folder.good("audit export acme", "");
    let mut lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap()["checkpoint"]["sequence"], 6);
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        ["org.create", "org.add_user", "org.add_user", "org.change_role", "org.remove_user", "resource.set"]
    );
    for (line, sequence) in lines.iter().zip(1..) {
        assert_eq!(line["sequence"], sequence);
        assert_eq!(line["actor"]["kind"], "operator");
        assert_eq!(line["actor"]["name"], commands::system_user(&[]));
        assert!(line["at"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert_eq!(lines[5]["details"]["prefix"], "datasets");
    let again = folder.good("audit export acme", "");
    assert!(again.lines().rev().nth(1).unwrap().contains("org.audit_log.export"));
}

#[test]
fn a_resource_has_the_characters_that_the_gate_takes() {
    let folder = with_acme();
    for line in [
        "resource set acme a/b --public",
        "resource set acme .. --public",
        "resource set acme a --public --prefix a//b",
    ] {
        folder.bad(line, "", "command.resource_invalid");
    }
}

#[test]
fn single_sign_on_that_is_not_set_up_is_shown_as_such_and_can_not_be_switched() {
    let folder = with_acme();
    let shown: Value = serde_json::from_str(&folder.good("sso show ACME --json", "")).unwrap();
    assert_eq!(
        shown,
        json!({
            "protocol": null, "state": "not_set_up", "enforcement": null, "draft": null, "live": null, "findings": []
        })
    );
    folder.bad("sso enable acme --untested", "", "settings.not_set_up");
    folder.bad("sso disable acme", "", "settings.nothing_to_disable");
}

#[test]
fn each_mistake_of_the_configuration_is_an_error_of_its_own() {
    let folder = Folder::new();
    folder.write("doorward.toml", "same_host = \"x\"\n\nunknown = 1\n");
    let errors = folder.bad("org list", "", "configuration.mistaken");
    assert_eq!(errors.matches("error[configuration.mistaken]").count(), 2, "{errors}");
    assert!(errors.contains("doorward.toml:3:1: unknown: "), "{errors}");
    let (code, report, _) = folder.run("check", "");
    assert_eq!(code, 1);
    assert!(report.contains("wrong") && report.contains("doorward.toml:1:1: same_host: "), "{report}");
    assert!(!folder.0.join("doorward.db").exists());
}

#[test]
fn check_makes_nothing_and_says_what_to_list_as_proxies() {
    let folder = Folder::new();
    let report = folder.good("check", "");
    for words in ["the first start makes it", "docker network inspect", "127.0.0.1", "nginx"] {
        assert!(report.contains(words), "{report}");
    }
    assert!(!folder.0.join("doorward.db").exists() && !folder.0.join("master.key").exists());
}

#[test]
fn f24_a_master_key_that_is_missing_wrong_or_open_to_others_is_refused_with_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = with_acme();
    let key = folder.0.join("master.key");
    // The first command that could need the key makes it.
    folder.bad("sso enable acme", "", "settings.not_set_up");
    assert!(folder.good("check", "").contains("the one that sealed the database"));

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(folder.bad("serve", "", "key.unusable").contains("0600"));
    assert!(folder.run("check", "").1.contains("0600"));

    std::fs::rename(&key, folder.0.join("copy")).unwrap();
    assert!(folder.bad("serve", "", "key.unusable").contains("missing"));
    assert!(!key.exists(), "no new key is made over sealed data");
    assert!(folder.run("check", "").1.contains("missing"));

    Sealing::open_or_create(&key, &Random::seeded(7)).unwrap();
    assert!(folder.bad("serve", "", "key.unusable").contains("sealed with master key"));
    assert!(folder.run("check", "").1.contains("sealed with master key"));
}

#[test]
fn f13_a_file_that_is_no_database_is_refused_with_the_remedy() {
    let folder = Folder::new();
    folder.write("doorward.db", &"this is no database ".repeat(500));
    let errors = folder.bad("org list", "", "store.corrupt");
    assert!(errors.contains("Restore the database"), "{errors}");
    assert!(folder.run("check", "").1.contains("wrong  database"));
}

#[test]
fn f25_a_certificate_that_can_not_be_served_stops_serve_and_what_browsers_refuse_is_told_by_check() {
    let folder = Folder::new();
    let write = |certificate: &str, key: &str| {
        let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates");
        let (certificate, key) = (files.join(certificate), files.join(key));
        let (certificate, key) = (certificate.display(), key.display());
        folder.write(
            "doorward.toml",
            &format!(
                "base_url = \"https://sso.example.com\"\n[tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n"
            ),
        );
    };
    write("one.pem", "two.key.pem");
    assert!(folder.bad("serve", "", "configuration.mistaken").contains("does not fit the certificate"));
    assert!(folder.run("check", "").1.contains("wrong  tls.key_file: "));
    write("expired.pem", "expired.key.pem");
    assert!(folder.run("check", "").1.contains("the certificate expired at 2021-06-01"));
    write("elsewhere.pem", "elsewhere.key.pem");
    assert!(folder.run("check", "").1.contains("the certificate is not for sso.example.com"));
    write("one.pem", "one.key.pem");
    let (code, report, _) = folder.run("check", "");
    assert!(code == 0 && report.contains("ok     [tls]: the certificate is valid until 2126"), "{report}");

    folder.write("doorward.toml", "[tls]\ncertificate_file = \"a\"\nkey_file = \"b\"\n");
    assert!(folder.run("check", "").1.contains("base_url: is plain http, but [tls]"));
}

#[test]
fn sso_is_set_shown_enabled_changed_and_disabled_without_a_browser() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let idp = FakeIdp::generic(&clock_at(0));
    let folder = with_acme();
    folder.write("doorward.toml", &format!("[outbound]\nallow = [\"{}\"]\n", idp.address()));
    let set = |client: &str| {
        format!("sso set acme --issuer-url {} --client-id {client} --client-secret-stdin", idp.issuer())
    };
    let show = || -> Value { serde_json::from_str(&folder.good("sso show acme --json", "")).unwrap() };

    let saved = folder.good(&set("one"), "0123456789-secret-of-acme\n");
    assert!(saved.contains("http://localhost:0/organizations/Acme/oidc/consume"), "{saved}");
    let shown = show();
    assert_eq!((&shown["protocol"], &shown["state"]), (&json!("oidc"), &json!("untested")));
    let draft = json!({
        "revision": 1, "issuer_url": idp.issuer(), "client_id": "one", "test": "none", "tested_at": null
    });
    assert_eq!((&shown["draft"], &shown["live"]), (&draft, &Value::Null));

    folder.bad("sso enable acme", "", "settings.not_tested");
    folder.good("sso enable acme --untested", "");
    assert_eq!((&show()["state"], &show()["enforcement"]), (&json!("live"), &json!("enforced")));
    folder.good("sso enable acme --enforcement optional", "");
    assert_eq!(show()["enforcement"], "optional");

    folder.good(&set("two"), "0123456789-secret-of-acme\n");
    let shown = show();
    assert_eq!(shown["state"], "live_change_pending");
    assert_eq!((&shown["draft"]["revision"], &shown["live"]["revision"]), (&json!(2), &json!(1)));

    folder.good("sso disable acme", "");
    assert_eq!((&show()["state"], &show()["live"]), (&json!("untested"), &Value::Null));
    folder.bad("sso disable acme", "", "settings.nothing_to_disable");

    let exported = folder.good("audit export acme", "");
    assert!(exported.contains("\"untested\":\"true\""), "the override is told: {exported}");
    for file in ["doorward.db", "doorward.db-wal"] {
        let bytes = std::fs::read(folder.0.join(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("0123456789-secret"), "rule 6: {file}");
    }
}

#[test]
fn settings_that_can_not_be_taken_say_which_and_a_silent_provider_leaves_a_draft() {
    let folder = with_acme();
    let port = doorward_testkit::free_port();
    folder.write("doorward.toml", &format!("[outbound]\nallow = [\"127.0.0.1:{port}\"]\n"));
    let set =
        |issuer: &str| format!("sso set acme --issuer-url {issuer} --client-id acme --client-secret-stdin");
    folder.bad(&set("ftp://a.example"), "secret-of-acme\n", "settings.issuer_not_url");
    folder.bad(&set("http://a.example"), "secret-of-acme\n", "settings.issuer_not_https");
    folder.bad(&set("https://gitlab.com"), "secret-of-acme\n", "settings.issuer_shared");
    folder.bad(&set("https://a.example"), "", "command.input_missing");
    let told =
        folder.bad(&set(&format!("http://127.0.0.1:{port}")), "secret-of-acme\n", "outbound.unreachable");
    assert!(told.contains("revision 1 was saved"), "{told}");
    let told = folder.bad("sso enable acme --untested", "", "settings.not_tested");
    assert!(told.contains("could not be reached"), "{told}");
    assert!(folder.good("sso show acme", "").contains("[outbound.unreachable]"));
}

/// One request over a connection of its own.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_binary_serves_on_three_listeners_logs_no_query_and_ends_with_0_at_sigterm() {
    serve_and_stop("info");
}

#[test]
fn answers_of_the_gate_are_logged_at_debug_only() {
    let answered = |line: &String| line.contains("gate answer");
    assert!(!serve_and_stop("info").iter().any(answered));
    assert!(serve_and_stop("debug").iter().any(answered));
}

#[test]
fn s8_no_proxy_of_the_environment_is_used() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let idp = FakeIdp::generic(&clock_at(0));
    let canary = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", canary.local_addr().unwrap());
    let folder = with_acme();
    folder.write("doorward.toml", &format!("[outbound]\nallow = [\"{}\"]\n", idp.address()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args([
            "--config",
            "doorward.toml",
            "sso",
            "set",
            "acme",
            "--client-id",
            "c",
            "--client-secret-stdin",
        ])
        .args(["--issuer-url", &idp.issuer()])
        .current_dir(folder.0.path())
        .env_clear()
        .env("DOORWARD_DATABASE", "sqlite:doorward.db")
        .env("DOORWARD_MASTER_KEY_FILE", "master.key")
        .envs(
            ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
                .map(|n| (n, &proxy)),
        )
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    command.stdin.take().unwrap().write_all(b"a-client-secret-of-the-test").unwrap();
    assert!(command.wait().unwrap().success());
    assert!(idp.calls(doorward_testkit::Endpoint::Discovery) > 0, "the provider was asked");
    assert_eq!(canary.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Runs the binary, asks each of its listeners, ends it, and gives what it logged at `level`.
fn serve_and_stop(level: &str) -> Vec<String> {
    let folder = TempDir::new();
    let mut server = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .arg("serve")
        .current_dir(folder.path())
        .env_clear()
        .env("DOORWARD_LISTEN", "127.0.0.1:0")
        .env("DOORWARD_GATE__LISTEN", "127.0.0.1:0")
        .env("DOORWARD_METRICS_LISTEN", "127.0.0.1:0")
        .env("DOORWARD_LOG__FORMAT", "json")
        .env("DOORWARD_LOG__LEVEL", level)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
    let serving: Value = log
        .by_ref()
        .map(|line| serde_json::from_str(&line).unwrap())
        .find(|line: &Value| line["message"] == "serving")
        .unwrap();
    let [main, gate, metrics] = ["listen", "gate", "metrics"].map(|key| serving[key].as_str().unwrap());

    assert!(get(main, "/healthz").starts_with("HTTP/1.1 200"));
    while !get(main, "/readyz").starts_with("HTTP/1.1 200") {}
    assert!(
        get(gate, "/healthz").starts_with("HTTP/1.1 404"),
        "rule 15: the gate's listener serves the gate alone"
    );
    assert!(get(gate, "/auth-request").starts_with("HTTP/1.1 403"), "nobody is trusted unless listed");
    // Envoy asks below a prefix about the application's own path, which may hold a token.
    let token = format!("planted{}", "A".repeat(36));
    assert!(get(gate, &format!("/ext-authz/acme/join/{token}")).starts_with("HTTP/1.1 403"));
    assert!(get(metrics, "/metrics").contains("doorward_change_reader_stale 0"));
    assert!(get(metrics, "/healthz").starts_with("HTTP/1.1 404"));
    let answer = get(main, "/nothing?code=planted");
    assert!(answer.to_lowercase().contains("x-request-id: "), "{answer}");

    Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let rest: Vec<String> = log.collect();
    assert!(
        rest.iter().any(|line| line.contains("/nothing"))
            && rest.iter().all(|line| !line.contains("planted"))
    );
    assert!(rest.last().unwrap().contains("stopped"), "{rest:?}");
    rest
}

/// A new, empty database on the PostgreSQL server of the test command; `None` without one.
fn empty_postgres() -> Option<String> {
    use sqlx::{Connection as _, Executor as _};
    let server = std::env::var_os("DOORWARD_TEST_POSTGRES")?.into_string().unwrap();
    let name = format!("doorward_command_line_{}", std::process::id());
    let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlx::PgConnection::connect(&server).await.unwrap().execute(sql).await.unwrap();
    });
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some(url.to_string())
}

#[test]
fn on_postgresql_only_migrate_changes_the_schema_and_everything_else_says_so() {
    let Some(database) = empty_postgres() else { return };
    let folder = Folder(TempDir::new(), Some(database));
    for command in ["org list", "serve"] {
        let told = folder.bad(command, "", "store.schema");
        assert!(told.contains("doorward migrate"), "{told}");
    }
    assert!(folder.run("check", "").1.contains("doorward migrate"));
    folder.good("migrate", "");
    folder.good("migrate", "");
    folder.good("account create mira --email mira@acme.example --password-stdin", PASSWORD);
    folder.good("org create acme --name Acme --admin mira", "");
    folder.bad("org create Acme --name Acme --admin mira", "", "organization.name_taken");
    assert!(folder.good("check", "").contains("its schema is current"));
    assert!(folder.good("audit export acme", "").contains("org.create"));
}

#[test]
fn rule_6_a_database_that_does_not_answer_is_named_without_its_password() {
    let mut folder = Folder::new();
    // Something that hangs up at once, so that nobody waits for the pool's five seconds.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    folder.1 = Some(format!("postgres://mira:swordfish@{}/doorward", other.local_addr().unwrap()));
    std::thread::spawn(move || other.incoming().for_each(drop));
    let told = folder.bad("org list", "", "store.unreachable");
    assert!(told.contains("PostgreSQL at 127.0.0.1:") && !told.contains("swordfish"), "{told}");
}
