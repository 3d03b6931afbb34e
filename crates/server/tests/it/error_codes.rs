//! Each error code has a test that provokes it by HTTP or at the command line, and reads what the person sees.
//!
//! A test that provokes a code names it in quotes; this file looks for it among the other files' tests. What can't be
//! provoked yet is listed here with the reason, and the list may only get shorter.

use doorward_core::error_code::ErrorCode;

/// Codes that no test can provoke from outside yet, and why.
const NOT_PROVOKED: &[(&str, &str)] = &[
    ("account.busy", "needs 258 passwords checked at once; rule_9 in passwords.rs does it inside"),
    ("settings.hosted_domain_missing", "needs an issuer that everybody shares, which is not on loopback"),
    ("oidc.metadata_assumed", "a hint, which no page shows yet"),
    ("gate.upstream_timeout", "needs 30 s of real time"),
    ("request.too_slow", "needs 10 s of real time; access.rs does it inside"),
    ("service.cannot_listen", "its text is read in command_line.rs, which says it in words"),
];

/// The tests of a file: the name of each, and its text up to the next one. What stands before the first one (tables and
/// helpers) counts as part of every test of its file.
fn tests_of(text: &str) -> Vec<(String, String)> {
    let begins = |line: &str| line.starts_with("#[tokio::test") || line.starts_with("#[test]");
    let mut preamble = String::new();
    let mut tests: Vec<(String, String)> = Vec::new();
    let mut in_test = false;
    for line in text.lines() {
        if begins(line) {
            tests.push((String::new(), String::new()));
            in_test = true;
        }
        if let (true, Some((name, body))) = (in_test, tests.last_mut()) {
            if name.is_empty()
                && let Some((_, rest)) = line.split_once("fn ")
            {
                name.extend(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_'));
            }
            body.push_str(line);
            body.push('\n');
        } else {
            preamble.push_str(line);
            preamble.push('\n');
        }
        in_test &= line != "}";
    }
    for (_, body) in &mut tests {
        body.push_str(&preamble);
    }
    tests
}

/// `code → file::test`, the first one found.
fn provoked() -> Vec<(ErrorCode, String)> {
    let files = [
        ("access", include_str!("access.rs")),
        ("api", include_str!("api.rs")),
        ("access_tokens", include_str!("access_tokens.rs")),
        ("attack", include_str!("attack.rs")),
        ("audit", include_str!("audit.rs")),
        ("bad_input", include_str!("bad_input.rs")),
        ("command_line", include_str!("command_line.rs")),
        ("gate", include_str!("gate.rs")),
        ("linking", include_str!("linking.rs")),
        ("keeping", include_str!("keeping.rs")),
        ("pages", include_str!("pages.rs")),
        ("people", include_str!("people.rs")),
        ("provider_faults", include_str!("provider_faults.rs")),
        ("proxy_attacks", include_str!("proxy_attacks.rs")),
        ("recovery", include_str!("recovery.rs")),
        ("rules", include_str!("rules.rs")),
        ("secrets", include_str!("secrets.rs")),
        ("sso", include_str!("sso.rs")),
    ];
    let tests: Vec<(String, String)> = files
        .into_iter()
        .flat_map(|(file, text)| tests_of(text).into_iter().map(move |(n, b)| (format!("{file}::{n}"), b)))
        .collect();
    let by = |code: &ErrorCode| {
        let quoted = format!("\"{code}\"");
        let as_word = format!("{code}:");
        tests
            .iter()
            .find(|(_, body)| body.contains(&quoted) || body.contains(&as_word))
            .map(|(name, _)| (*code, name.clone()))
    };
    ErrorCode::ALL.iter().filter_map(by).collect()
}

#[test]
fn each_error_code_has_a_test_that_provokes_it_and_reads_what_the_person_sees() {
    let provoked = provoked();
    let is_excused = |code: &ErrorCode| NOT_PROVOKED.iter().any(|(excused, _)| *excused == code.as_str());
    let missing: Vec<&str> = ErrorCode::ALL
        .iter()
        .filter(|code| !is_excused(code) && !provoked.iter().any(|(known, _)| known == *code))
        .map(|code| code.as_str())
        .collect();
    assert!(missing.is_empty(), "no test names these: {missing:#?}");
    for (code, reason) in NOT_PROVOKED {
        let known = ErrorCode::from_code(code).unwrap_or_else(|| panic!("{code} is no code any more"));
        let by = provoked.iter().find(|(provoked, _)| *provoked == known);
        assert!(by.is_none(), "{code} is provoked now, by {by:?}: take it off the list ({reason})");
    }
}
