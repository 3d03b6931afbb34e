//! `docs/conformance.md` names every id that it must, and every test that it names exists.

use doorward_testkit::Misbehavior;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules of the conformance suite's plans B, C and T, without `oidcc-client-test`.
const MODULES: &[&str] = &[
    "(bare name)",
    "-invalid-iss",
    "-missing-sub",
    "-invalid-aud",
    "-missing-iat",
    "-nonce-invalid",
    "-kid-absent-single-jwks",
    "-kid-absent-multiple-jwks",
    "-idtoken-sig-rs256",
    "-idtoken-sig-none",
    "-invalid-sig-rs256",
    "-userinfo-invalid-sub",
    "-scope-userinfo-claims",
    "-client-secret-basic",
    "-discovery-openid-config",
    "-discovery-jwks-uri-keys",
    "-discovery-issuer-mismatch",
    "-signing-key-rotation",
    "-signing-key-rotation-just-before-signing",
    "-3rd-party-init-login",
];

/// Ids without a test, because there is nothing yet that one could try. The list may only get shorter.
const WITHOUT: &[&str] = &["B11", "V44"];

fn ids() -> Vec<String> {
    let series = [("OC", 1..=17), ("B", 1..=14), ("I", 1..=4), ("D", 1..=7), ("P", 1..=5), ("J", 1..=15)];
    let mut ids: Vec<String> =
        series.into_iter().flat_map(|(name, numbers)| numbers.map(move |n| format!("{name}{n}"))).collect();
    ids.extend([14, 16, 17, 22].into_iter().chain(26..=58).chain([70, 71]).map(|n| format!("V{n}")));
    ids
}

/// What one node can meet of conformance.md §8; F22 stands with the answers that a proxy can't take.
fn faults() -> Vec<String> {
    (1..=25).filter(|n| *n != 22).map(|n| format!("F{n}")).collect()
}

/// Whether one of the tests carries the id in its name.
fn is_carried(id: &str, tests: &[String]) -> bool {
    let id = id.to_ascii_lowercase();
    tests.iter().any(|test| test.split('_').any(|word| word == id))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the page: first cell, and the names in backticks in the last one.
fn rows() -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let names = cells.last().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[0].to_owned(), names)
    })
    .collect()
}

/// Every Rust source of ours as one text.
fn code() -> String {
    let mut folders: Vec<PathBuf> =
        ["core/src", "server/src", "server/tests"].map(|folder| root().join("crates").join(folder)).into();
    let mut code = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                code.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    code
}

#[test]
fn every_module_check_and_lesson_is_on_the_page_with_a_test_that_exists() {
    let (rows, code) = (rows(), code());
    let mut wrong = Vec::new();
    for id in MODULES.iter().map(|id| (*id).to_owned()).chain(ids()).chain(faults()) {
        match rows.iter().find(|(known, _)| *known == id) {
            None => wrong.push(format!("{id} is not on the page")),
            Some((_, tests)) if tests.is_empty() != WITHOUT.contains(&&*id) => {
                wrong.push(format!("{id}: {} tests", tests.len()));
            }
            Some(_) => {}
        }
    }
    for (id, tests) in &rows {
        // A module's test carries its name.
        if id.starts_with('-')
            && let [one] = tests.as_slice()
            && *one != format!("oidcc_client_test{}", id.replace('-', "_"))
        {
            wrong.push(format!("{id} is not tested by {one}"));
        }
        let is_series = |id: &&str| id.starts_with(|c: char| c.is_ascii_uppercase());
        for id in id.split(", ").filter(is_series).filter(|id| !tests.is_empty() && !is_carried(id, tests)) {
            wrong.push(format!("{id}: no test carries the id in its name"));
        }
        for test in tests {
            let written = code.contains(&format!("fn {test}("));
            let by_macro = code.contains(&format!("\n    {test}: "));
            if !written && !by_macro {
                wrong.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_check_of_a_providers_answer_has_a_misbehaviour_that_tries_it() {
    let tried: BTreeSet<&str> = Misbehavior::ALL.iter().flat_map(|fault| fault.covers().split(' ')).collect();
    // What a provider's answers can get wrong in a login or at set-up. OC12 is tried although nothing asks for it yet.
    let answers = ids().into_iter().filter(|id| id.starts_with("OC"));
    let others = ["I1", "I2", "B2", "B3", "B4", "B5", "D1", "D2", "D3", "D4", "D5", "D6", "D7"];
    let tokens = ["J1", "J4", "J5", "J6", "J7", "J10", "J11", "J12", "J13", "J14", "J15", "V22", "V39"];
    let missing: Vec<String> = answers
        .chain(others.into_iter().chain(tokens).map(str::to_owned))
        .filter(|id| !tried.contains(&**id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // And what is worth borrowing from the FAPI 2 plan.
    let borrowed = tried.iter().filter(|id| id.starts_with("fapi2-")).count();
    assert!(borrowed >= 14, "{borrowed}");
}
