//! `doorward proxy-config`: what docs/gate.md shows is made by it; what is missing is told; hosts and paths are written as
//! each syntax reads them. That the real proxies do what they should with it: e2e/journeys/adapters.test.js, probe.test.js.

use doorward::random::Random;
use std::path::{Path, PathBuf};

use crate::docs::command_line;

const PROXIES: [&str; 5] = ["nginx", "traefik", "caddy", "envoy", "haproxy"];

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gate.md")
}

/// The `doorward.toml` that docs/gate.md shows for a proxy of one's own.
fn shown_configuration() -> String {
    let page = std::fs::read_to_string(page()).unwrap();
    let behind = page.split("## Behind a proxy of your own").nth(1).unwrap();
    behind.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// Runs `proxy-config` over this text of a `doorward.toml`: exit code, standard output, standard error.
fn proxy_config(toml: &str, arguments: &[&str]) -> (u8, String, String) {
    let folder = std::env::temp_dir().join(format!("doorward-proxy-config-{}", uuid()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("doorward.toml");
    std::fs::write(&file, toml).unwrap();
    let configured = ["doorward", "--config", file.to_str().unwrap(), "proxy-config"];
    let ran =
        command_line(&configured.iter().chain(arguments).map(|&word| word.to_owned()).collect::<Vec<_>>());
    std::fs::remove_dir_all(&folder).unwrap();
    ran
}

fn uuid() -> String {
    Random::system().token().unwrap().expose().to_owned()
}

/// What it prints, for a configuration that must do.
fn made(toml: &str, arguments: &[&str]) -> String {
    let (code, output, errors) = proxy_config(toml, arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    output
}

/// Each file that it prints, by the comment that names its path.
fn files(printed: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in printed.lines() {
        let names_a_file = line
            .strip_prefix("# ")
            .or_else(|| line.strip_prefix("-- "))
            .is_some_and(|path| path.starts_with("/etc/") && !path.contains(' '));
        if names_a_file {
            files.push((line.to_owned(), String::new()));
        }
        let (_, text) = files.last_mut().expect("the first line names a file");
        text.push_str(line);
        text.push('\n');
    }
    for (_, text) in &mut files {
        *text = format!("{}\n", text.trim_end());
    }
    files
}

/// How what differs begins and ends where each organization has a host of its own.
const BY_HOST: [(&str, &str, &str); 5] = [
    ("nginx", "    server_name ~", "    set $doorward_host "),
    ("traefik", "    doorward: { rule", "      service: application_hub"),
    ("caddy", "# Your application hub", "}"),
    ("envoy", "                    - name: application_hub", "                      domains: "),
    ("haproxy", "    acl sso ", "    acl application_hub "),
];

/// The page with what `proxy-config` makes in its section on hosts by organization: of the section's own `[[app]]`, in one
/// block for each proxy.
fn with_hosts_by_organization(text: &str) -> String {
    const HEADING: &str = "\n## A host for each organization\n";
    let (before, rest) = text.split_once(HEADING).unwrap();
    let (section, after) = rest.split_once("\n## ").unwrap();
    let mut parts: Vec<String> = section.split("```").map(str::to_owned).collect();
    assert_eq!(parts.len(), 3 + 2 * BY_HOST.len(), "the configuration, and a block for each");
    let application = parts[1].strip_prefix("toml\n").unwrap();
    let configuration = format!("{}{application}", shown_configuration().split("[[app]]").next().unwrap());
    for ((proxy, first, last), block) in BY_HOST.iter().zip(parts.iter_mut().skip(3).step_by(2)) {
        let printed = made(&configuration, &[proxy, "--upstream", "hub=http://127.0.0.1:3000"]);
        let begin = printed.find(&format!("\n{first}")).unwrap_or_else(|| panic!("{proxy}: {first}")) + 1;
        let at_last = begin + printed[begin..].find(&format!("\n{last}")).unwrap() + 1;
        let end = at_last + printed[at_last..].find('\n').unwrap() + 1;
        *block = format!("{}\n{}", block.lines().next().unwrap(), &printed[begin..end]);
    }
    format!("{before}{HEADING}{}\n## {after}", parts.join("```"))
}

#[test]
fn the_configurations_of_the_gates_page_are_what_proxy_config_makes_word_for_word() {
    let configuration = shown_configuration();
    let page = page();
    let mut text = std::fs::read_to_string(&page).unwrap();
    let mut shown = 0;
    for proxy in PROXIES {
        let command = format!("doorward proxy-config {proxy} --upstream hub=http://127.0.0.1:3000\n");
        assert!(text.contains(&command), "{command}");
        let printed = made(&configuration, &[proxy, "--upstream", "hub=http://127.0.0.1:3000"]);
        for (first, made) in files(&printed) {
            let begin = text.find(&format!("\n{first}\n")).unwrap_or_else(|| panic!("{first} is not shown"));
            let end = begin + text[begin..].find("\n```\n").unwrap();
            if std::env::var_os("UPDATE_DOCS").is_some() {
                text.replace_range(begin + 1..=end, &made);
            } else {
                assert!(
                    text[begin + 1..=end] == made,
                    "{first} is stale: UPDATE_DOCS=1 cargo test -p doorward --test it docs proxy_config"
                );
            }
            shown += 1;
        }
    }
    assert_eq!(shown, 9);
    text = with_hosts_by_organization(&text);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, text).unwrap();
    } else {
        assert!(
            text == std::fs::read_to_string(&page).unwrap(),
            "hosts by organization are stale: UPDATE_DOCS=1"
        );
    }
}

#[test]
fn the_same_configuration_makes_the_same_text_and_a_file_can_be_had_alone() {
    let configuration = shown_configuration();
    for proxy in PROXIES {
        let arguments = [proxy, "--upstream", "hub=http://127.0.0.1:3000"];
        let all = made(&configuration, &arguments);
        assert_eq!(made(&configuration, &arguments), all);
        let parts = files(&all).into_iter().map(|(first, text)| {
            let name = first.rsplit('/').next().unwrap().to_owned();
            assert_eq!(made(&configuration, &[&arguments[..], &["--file", &name]].concat()), text);
            text
        });
        assert_eq!(parts.collect::<Vec<_>>().join("\n"), all);
    }
    let (code, output, errors) =
        proxy_config(&configuration, &["caddy", "--upstream", "hub=http://a:1", "--file", "nginx.conf"]);
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("Its files are: Caddyfile"), "{errors}");
}

const TWO: &str = r#"
base_url = "https://sso.example.com:8443/single-sign-on"
listen = "0.0.0.0:9000"

[gate]
listen = "10.0.0.5:9001"
trusted_proxies = ["10.0.0.0/8"]

[[app]]
name = "hub"
host = "hub.example.com:8443"
upstream = "http://127.0.0.1:3000"

[[app]]
name = "wiki-2"
host = "wiki.example.com:8443"
"#;

#[test]
fn every_application_port_and_listener_of_the_configuration_is_in_it_and_a_path_of_base_url_changes_nothing()
{
    for proxy in PROXIES {
        let text = made(TWO, &[proxy, "--upstream", "wiki-2=http://wiki.internal"]);
        for part in [
            "sso.example.com",
            "hub.example.com",
            "wiki.example.com",
            "application_hub",
            "application_wiki-2",
            "8443",
        ] {
            // Caddy has no names of its own for applications.
            let absent = proxy == "caddy" && part.starts_with("application_");
            assert!(text.contains(part) != absent, "{proxy}: {part}");
        }
        for address in ["127.0.0.1:9000", "10.0.0.5:9001", "127.0.0.1:3000", "wiki.internal:80"] {
            let (host, port) = address.split_once(':').unwrap();
            let envoys = format!("address: {host}, port_value: {port} ");
            assert!(text.contains(address) || text.contains(&envoys), "{proxy}: {address}");
        }
        assert!(!text.contains("single-sign-on") && !text.contains("/etc/ssl/example"), "{proxy}");
        let elsewhere =
            made(TWO, &[proxy, "--upstream", "wiki-2=http://w", "--doorward", "doorward.internal"]);
        assert!(!elsewhere.contains("10.0.0.5") && elsewhere.contains("doorward.internal"), "{proxy}");
    }
    // An address by name has to be looked up, which Envoy does only where it is told so.
    let envoy = made(TWO, &["envoy", "--upstream", "wiki-2=http://wiki.internal"]);
    assert_eq!(envoy.matches("STRICT_DNS").count(), 1);
    // The operator's word on the command line comes before the file's.
    let caddy = made(TWO, &["caddy", "--upstream", "wiki-2=http://w", "--upstream", "hub=http://[::1]:4000"]);
    assert!(caddy.contains("import doorward [::1]:4000\n"), "{caddy}");
}

/// That no proxy takes more than one label, nor another host than Doorward's for Doorward's: e2e/journeys/adapters.test.js.
#[test]
fn hosts_by_organization_stand_beside_others_with_their_port_and_doorwards_own_among_them() {
    let toml = TWO
        .replace("sso.example.com", "sso.apps.example.com")
        .replace("wiki.example.com", "{org}.apps.example.com");
    let whole = |proxy: &str| made(&toml, &[proxy, "--upstream", "wiki-2=http://wiki.internal"]);
    for (proxy, parts) in [
        (
            "nginx",
            &[
                "server_name hub.example.com;",
                "set $doorward_host hub.example.com:8443;",
                "server_name ~^(?<doorward_org>[a-z0-9-]+)[.]apps[.]example[.]com$;",
                "set $doorward_host ${doorward_org}.apps.example.com:8443;",
            ][..],
        ),
        (
            "traefik",
            &[
                "Host(`sso.apps.example.com`)\", service: doorward, priority: 2000",
                "(Host(`hub.example.com`) || HostRegexp(`(?i)^[a-z0-9-]+[.]apps[.]example[.]com$`)) && PathPrefix",
                "rule: \"HostRegexp(`(?i)^[a-z0-9-]+[.]apps[.]example[.]com$`) && !HeaderRegexp",
            ],
        ),
        ("caddy", &["\nsso.apps.example.com:8443 {", "acme_dns", "\n*.apps.example.com:8443 {"]),
        ("envoy", &["domains: [sso.apps.example.com]", "domains: [\"*.apps.example.com\"]"]),
        (
            "haproxy",
            &[
                "acl application_wiki-2 req.hdr(host),host_only -i -m reg ^[a-z0-9-]+[.]apps[.]example[.]com$\n",
            ],
        ),
    ] {
        let text = whole(proxy);
        for part in parts {
            assert!(text.contains(part), "{proxy}: {part}");
        }
        assert!(!text.contains("{org}"), "{proxy}");
    }
    // Who brings a certificate need not have Caddy get one.
    let caddy = made(&toml, &["caddy", "--upstream", "wiki-2=http://w", "--certificate", "a", "--key", "b"]);
    assert!(!caddy.contains("acme_dns"), "{caddy}");
}

#[test]
fn a_path_with_blanks_is_quoted_and_one_that_a_syntax_reads_as_more_is_refused() {
    let configuration = shown_configuration();
    let with = |proxy: &str, certificate: &str| {
        let upstream = ["--upstream", "hub=http://127.0.0.1:3000"];
        proxy_config(&configuration, &[&[proxy], &upstream[..], &["--certificate", certificate]].concat())
    };
    for proxy in PROXIES {
        let (code, text, _) = with(proxy, "/etc/my certificates/a, b.pem");
        assert_eq!(code, 0);
        assert!(text.contains("\"/etc/my certificates/a, b.pem\""), "{proxy}");
        for hostile in
            ["a\"b", "a'b", "a\\b", "a$b", "a{{b", "a}b", "a`b", "a\nb", "a\u{85}b", "", "/x\"; return 200;#"]
        {
            let (code, text, errors) = with(proxy, hostile);
            assert_eq!((code, text.as_str()), (1, ""), "{proxy}: {hostile:?}");
            assert!(errors.contains("configuration.mistaken"), "{errors}");
        }
    }
    let haproxy = proxy_config(
        &configuration,
        &["haproxy", "--upstream", "hub=http://a:1", "--certificate", "a.pem", "--key", "b.pem"],
    );
    assert_eq!(haproxy.0, 1);
    assert!(haproxy.2.contains("cat a.pem b.pem > both.pem"), "{}", haproxy.2);
}

#[test]
fn what_the_configuration_lacks_is_told_all_at_once_with_the_remedy() {
    let (code, output, errors) = proxy_config("", &["nginx"]);
    assert_eq!((code, output.as_str()), (1, ""));
    for part in ["plain http", "trusted_proxies = [\"127.0.0.1\"", "Add an [[app]]"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let good = shown_configuration();
    let one = |from: &str, to: &str, arguments: &[&str]| {
        let toml = good.replace(from, to);
        assert!(from.is_empty() || toml != good, "{from}");
        let (code, output, errors) = proxy_config(&toml, &[&["nginx"], arguments].concat());
        assert_eq!((code, output.as_str(), errors.matches("error[").count()), (1, "", 1), "{errors}");
        errors
    };
    let hub = ["--upstream", "hub=http://127.0.0.1:3000"];
    assert!(one("", "", &[]).contains("--upstream hub=http://"));
    let other = [&hub[..], &["--upstream", "wiki=http://127.0.0.1:1"]].concat();
    assert!(one("", "", &other).contains("Use one of: hub"));
    assert!(one("trusted_proxies = [\"127.0.0.1\"]", "", &hub).contains("docker network inspect"));
    assert!(one("127.0.0.1:8081", "127.0.0.1:0", &hub).contains("gate.listen has port 0"));
    assert!(one("\"hub.example.com\"", "\"hub.example.com:8443\"", &hub).contains("the same port"));
    assert!(one("\"hub.example.com\"", "\"[2001:db8::1]\"", &hub).contains("IPv6"));
    let trusted = format!("same_host = \"trusted\"\n{}", good.replace("hub.example.com", "sso.example.com"));
    let (code, _, errors) = proxy_config(&trusted, &[&["caddy"], &hub[..]].concat());
    assert!(code == 1 && errors.contains("Give each a host of its own"), "{errors}");
    let tls = format!("{good}\n[tls]\ncertificate_file = \"a\"\nkey_file = \"b\"\n");
    let (code, _, errors) = proxy_config(&tls, &[&["envoy"], &hub[..]].concat());
    assert!(code == 1 && errors.contains("Take [tls] out"), "{errors}");
    let elsewhere = [&hub[..], &["--doorward", "http://x/"]].concat();
    assert!(one("", "", &elsewhere).contains("without a port"));
}
