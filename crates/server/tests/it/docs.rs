//! The documentation is true: references are generated, links lead somewhere, snippets are taken by what they are for.
//!
//! `UPDATE_DOCS=1 cargo test -p doorward --test it docs` writes the generated pages anew.
//! `docs/reference/configuration.md` has its own test, beside the table of keys.

use doorward::clock::Clock;
use doorward::command_line::{Surroundings, run};
use doorward::configuration::Configuration;
use doorward::random::Random;
use doorward::web::access::Access;
use doorward::web::routes;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::{ErrorCode, Fault};
use doorward_core::finding::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

// === The generated references ===

#[test]
fn the_reference_of_error_codes_is_the_table() {
    compare_or_update("docs/reference/error-codes.md", &error_codes_page());
}

#[test]
fn the_reference_of_audit_events_is_the_table() {
    compare_or_update("docs/reference/audit-events.md", &audit_events_page());
}

#[test]
fn the_reference_of_the_command_line_is_its_own_help() {
    compare_or_update("docs/reference/command-line.md", &command_line_page());
}

#[test]
fn the_description_of_the_json_api_is_the_one_that_is_served() {
    let document = doorward::web::api::openapi::document("https://sso.example.com");
    compare_or_update("docs/reference/openapi.json", &format!("{document:#}\n"));
}

#[test]
fn the_reference_of_routes_is_the_route_list() {
    compare_or_update("docs/reference/routes.md", &routes_page());
}

fn error_codes_page() -> String {
    let mut page = generated(
        "Error codes",
        "`crates/core/src/error_code_table.rs`",
        "Every error that a person or a program can meet has a code of the form `area.cause`. It stands on the page, in \
         the problem document of a program's request (RFC 9457, member `code`), in the finding of a test, in the audit \
         log and after `error[` on the command line. A code never changes its meaning and never vanishes.\n\n\
         The status is that of a page or problem document. Behind nginx the gate itself answers 401 or 403 only, with \
         the true status in `Doorward-Status`; see [the gate](../gate.md).\n",
    );
    let steps: Vec<&str> = Step::ALL.iter().map(|step| step.as_str()).collect();
    push(&mut page, format_args!("\nA finding also names the step of the trip: `{}`.\n", steps.join("`, `")));
    let mut areas: Vec<&str> = Vec::new();
    for code in ErrorCode::ALL {
        let area = area_of(*code);
        if !areas.contains(&area) {
            areas.push(area);
        }
    }
    page.push_str("\n| area | codes |\n|---|---|\n");
    for area in &areas {
        let links: Vec<String> =
            codes_of(area).map(|code| format!("[{}](#{code})", cause_of(code))).collect();
        push(&mut page, format_args!("| {area} | {} |\n", links.join(", ")));
    }
    for area in &areas {
        push(&mut page, format_args!("\n## {area}\n"));
        for code in codes_of(area) {
            push(&mut page, format_args!("\n<a id=\"{code}\"></a>\n\n### `{code}`: {}\n\n", code.title()));
            push(&mut page, format_args!("- What happened: {}\n", escaped(code.meaning())));
            push(&mut page, format_args!("- Who must act: {}\n", who(code.fault())));
            push(&mut page, format_args!("- Next step: {}\n", escaped(code.remedy())));
            push(&mut page, format_args!("- Status: {}\n", code.status()));
        }
    }
    page
}

fn area_of(code: ErrorCode) -> &'static str {
    code.as_str().split('.').next().unwrap()
}

fn cause_of(code: ErrorCode) -> &'static str {
    code.as_str().split('.').nth(1).unwrap()
}

fn codes_of(area: &str) -> impl Iterator<Item = ErrorCode> {
    ErrorCode::ALL.iter().copied().filter(move |code| area_of(*code) == area)
}

fn who(fault: Fault) -> &'static str {
    match fault {
        Fault::Admin => "an admin of the organization",
        Fault::Provider => "the identity provider, or whoever runs it",
        Fault::Member => "the person in front of the browser",
        Fault::Operator => "the operator",
        Fault::Nobody => "nobody; it happens, and one simply goes on",
    }
}

fn audit_events_page() -> String {
    let mut page = generated(
        "Audit events",
        "`crates/core/src/audit_event.rs`",
        "What is done to an organization is written down in the transaction that does it. An action's code never changes \
         its meaning and never vanishes. How to read, filter and download the log: [for auditors](../auditor.md).\n",
    );
    page.push_str("\n| action | what happened | details |\n|---|---|---|\n");
    for action in AuditAction::ALL {
        let details: Vec<String> = action
            .details()
            .split(", ")
            .filter(|name| !name.is_empty())
            .map(|name| format!("`{name}`"))
            .collect();
        let details = if details.is_empty() { "none".to_owned() } else { details.join(", ") };
        push(&mut page, format_args!("| `{action}` | {} | {details} |\n", escaped(action.meaning())));
    }
    let hidden: Vec<String> = AuditAction::ALL
        .iter()
        .filter(|action| action.is_hidden_by_default())
        .map(|action| format!("`{action}`"))
        .collect();
    push(&mut page, format_args!("\nLeft out of the default view: {}.\n", hidden.join(", ")));
    page
}

fn command_line_page() -> String {
    let mut page = generated(
        "Command line",
        "the command line's own help",
        "Secrets are read from standard input, never from an argument, because others see arguments in the process list. \
         Every command acts on the store directly, with the server running or not; a running server hears of it within \
         half a second. The audit log names the system user.\n\n\
         Exit codes: 0, 1 for a failure (each told as a line `error[code]` on standard error), 2 for a command that \
         can't be read.\n",
    );
    describe_command(&mut page, &mut Vec::new());
    page
}

/// Adds a command's help, then that of each of its subcommands.
fn describe_command(page: &mut String, path: &mut Vec<String>) {
    let told = help(path);
    let name =
        std::iter::once("doorward").chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let about = told.lines().next().unwrap();
    let rest = told.split_once('\n').unwrap().1.trim();
    push(page, format_args!("\n## {name}\n\n{}.\n\n```text\n{rest}\n```\n", about.trim_end_matches('.')));
    for command in subcommands(&told) {
        path.push(command);
        describe_command(page, path);
        path.pop();
    }
}

fn help(path: &[String]) -> String {
    let mut arguments = vec!["doorward".to_owned()];
    arguments.extend_from_slice(path);
    arguments.push("--help".to_owned());
    let (code, output, errors) = command_line(&arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    output
}

/// The names under "Commands:" in a help text.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
        .map(str::to_owned)
        .collect()
}

/// Runs a command line: exit code, standard output, standard error.
pub(crate) fn command_line(arguments: &[String]) -> (u8, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let surroundings = Surroundings {
        input: &mut &b""[..],
        output: &mut output,
        errors: &mut errors,
        environment: Vec::new(),
        clock: Clock::system(),
        random: Random::system(),
    };
    let code = run(arguments.iter().map(Into::into), surroundings);
    (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

fn routes_page() -> String {
    let mut page = generated(
        "Pages and forms",
        "the route list in `crates/server/src/web/mod.rs`",
        "Each lies under `base_url`. What a route asks of its visitor is enforced before its code runs; every form must \
         come from one of Doorward's own pages. Beside these, at the root of the main listener: `/healthz`, `/readyz` \
         and `/.doorward/…` (the hand-over to an application's host). The gate's listener and the figures' listener \
         are described in [the gate](../gate.md) and [for operators](../operator.md).\n",
    );
    page.push_str("\n| method | path | asks for |\n|---|---|---|\n");
    let mut asked = BTreeMap::new();
    for route in routes() {
        let rule = format!("{:?}", route.access);
        push(
            &mut page,
            format_args!(
                "| {} | `{}` | {rule} |\n",
                route.method.to_uppercase(),
                route.path.replace("{org}", "ORG")
            ),
        );
        asked.insert(rule, route.access);
    }
    page.push_str("\n| asks for | which means |\n|---|---|\n");
    for (rule, access) in asked {
        push(&mut page, format_args!("| {rule} | {} |\n", in_words(access)));
    }
    page
}

fn in_words(access: Access) -> &'static str {
    match access {
        Access::Anyone => "nothing",
        Access::Account => "an account that is signed in",
        Access::FreshAccount => "an account that signed in within the last 15 minutes",
        Access::ApiToken => {
            "a token of the organization for the JSON API, with the scope of the path's last segment; no cookie counts"
        }
        Access::Member => {
            "a member of the organization, with any role; everybody else meets the page of what does not exist"
        }
        Access::Leaving => {
            "a member of the organization, with any role; an admin as `Admin` asks, because his going changes who governs"
        }
        Access::Admin => {
            "an admin of the organization who has completed its single sign-on if that is enforced"
        }
        Access::FreshAdmin => {
            "an admin who signed in within the last 15 minutes; single sign-on is not asked for, so that a broken \
             provider can be mended"
        }
        Access::FreshAdminWithSso => {
            "an admin who signed in within the last 15 minutes and has completed the organization's single sign-on if \
             it is live"
        }
    }
}

fn generated(title: &str, from: &str, about: &str) -> String {
    format!(
        "# {title}\n\n<!-- Generated from {from}: UPDATE_DOCS=1 cargo test -p doorward --test it docs -->\n\n{about}"
    )
}

/// Text as Markdown shows it: no `<` that could begin a tag, no `|` that ends a table's cell.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).unwrap();
}

fn compare_or_update(path: &str, written: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == written,
        "{} is stale: UPDATE_DOCS=1 cargo test -p doorward --test it docs",
        path.display()
    );
}

// === What every page keeps ===

#[test]
fn every_relative_link_leads_to_a_file_and_its_anchor_to_a_place_in_it() {
    let pages: BTreeMap<PathBuf, String> = pages().into_iter().collect();
    let mut dead = Vec::new();
    for (path, text) in &pages {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target =
                if file.is_empty() { path.clone() } else { flat(&path.parent().unwrap().join(file)) };
            let there = match pages.get(&target) {
                Some(text) => anchor.is_empty() || anchors(text).contains(anchor),
                None => target.exists() && anchor.is_empty(),
            };
            if !there {
                dead.push(format!("{}: {link}", shown(path)));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_code_that_a_page_names_exists() {
    let areas: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| area_of(*code)).collect();
    let keys = configuration_keys();
    let mut unknown = Vec::new();
    for (path, text) in pages() {
        for code in without_fences(&text).split('`').skip(1).step_by(2) {
            let is_file_or_host = is_source(code) || code.contains(".example");
            let is_code = !is_file_or_host
                && code.split_once('.').is_some_and(|(area, cause)| {
                    areas.contains(area)
                        && cause.bytes().all(|b| b.is_ascii_lowercase() || b".0123456789_".contains(&b))
                });
            let known = ErrorCode::from_code(code).is_some()
                || AuditAction::from_code(code).is_some()
                || keys.contains(code);
            if is_code && !known {
                unknown.push(format!("{}: {code}", shown(&path)));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_source_file_that_a_page_names_exists() {
    let sources: Vec<String> = files_named(".rs").iter().map(|path| format!("/{}", shown(path))).collect();
    let mut unknown = Vec::new();
    let mut named = 0;
    for (path, text) in pages() {
        for name in without_fences(&text).split('`').skip(1).step_by(2).filter(|name| is_source(name)) {
            named += 1;
            if !sources.iter().any(|source| source.ends_with(&format!("/{name}"))) {
                unknown.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    assert!(unknown.is_empty() && named > 50, "{named} names, unknown: {unknown:#?}");
}

/// `file.rs::function` of `docs/security.md`: the function is in a file of that name.
#[test]
fn every_function_and_test_that_the_threat_model_names_exists() {
    let sources: Vec<(String, String)> = files_named(".rs")
        .into_iter()
        .map(|path| (format!("/{}", shown(&path)), std::fs::read_to_string(path).unwrap()))
        .collect();
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut missing = Vec::new();
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let Some((file, function)) = name.split_once(".rs::") else { continue };
        named += 1;
        let end = format!("/{file}.rs");
        let there = sources.iter().any(|(path, text)| {
            path.ends_with(&end)
                && [format!("fn {function}("), format!("fn {function}<")]
                    .iter()
                    .any(|head| text.contains(head))
        });
        if !there {
            missing.push(name);
        }
    }
    assert!(missing.is_empty() && named > 60, "{named} names, missing: {missing:#?}");
    for row in page.lines().filter(|line| line.starts_with("| T") || line.starts_with("| | ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert!(cells[3].contains(".rs::") && cells[4].contains(".rs::"), "code and a test: {row}");
    }
}

fn is_source(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

/// The keys that the generated reference lists.
fn configuration_keys() -> BTreeSet<String> {
    let reference = std::fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap();
    let keys = reference.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    keys.map(str::to_owned).collect()
}

#[test]
fn every_configuration_that_a_page_shows_is_without_mistakes() {
    let mut shown_ones = 0;
    for (path, text) in pages() {
        for (_, block) in fences(&text).into_iter().filter(|(kind, _)| kind == "toml") {
            let taken = Configuration::parse(None, &block, []);
            assert!(taken.is_ok(), "{}: {:#?}\n{block}", shown(&path), taken.err());
            shown_ones += 1;
        }
    }
    assert!(shown_ones >= 3, "the blocks were not found");
}

#[test]
fn every_command_that_a_page_shows_is_understood() {
    let mut shown_ones = 0;
    for (path, text) in pages() {
        let blocks = fences(&text).into_iter().filter(|(kind, _)| kind == "sh");
        let blocks: String = blocks.map(|(_, block)| block.replace("\\\n", " ")).collect();
        for line in blocks.lines().map(|line| line.rsplit('|').next().unwrap().trim()) {
            let Some(rest) = line.strip_prefix("doorward ") else { continue };
            let rest = rest.split(" #").next().unwrap().split(['<', '>']).next().unwrap();
            // With the help asked for last, everything before it is read and nothing is done.
            let mut arguments = vec!["doorward".to_owned()];
            arguments.extend(words(rest));
            arguments.push("--help".to_owned());
            let (code, _, errors) = command_line(&arguments);
            assert_eq!(code, 0, "{}: {line}\n{errors}", shown(&path));
            shown_ones += 1;
        }
    }
    assert!(shown_ones >= 5, "the commands were not found");
}

#[test]
fn no_page_names_a_registry_or_a_path_of_one_machine() {
    // In two halves, so that this file is free of them too.
    let names = [
        ("crates", ".io"),
        ("npmjs", ".com"),
        ("npmjs", ".org"),
        ("pypi", ".org"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
    ];
    for (path, text) in pages() {
        for (a, b) in names {
            assert!(!text.contains(&format!("{a}{b}")), "{} names {a}{b}", shown(&path));
        }
    }
}

#[test]
fn every_decision_has_context_choice_cost_and_what_would_change_it() {
    let mut decisions = 0;
    for (path, text) in pages().into_iter().filter(|(path, _)| shown(path).starts_with("docs/adr/0")) {
        for heading in ["# ", "## Context\n", "## Choice\n", "## Cost\n", "## What would change it\n"] {
            assert!(
                text.lines().any(|line| format!("{line}\n").starts_with(heading)),
                "{}: {heading}",
                shown(&path)
            );
        }
        decisions += 1;
    }
    assert!(decisions > 10);
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let pages: BTreeMap<PathBuf, String> = pages().into_iter().collect();
    let mut reached = BTreeSet::from([root().join("README.md")]);
    let mut next: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(path) = next.pop() {
        let Some(text) = pages.get(&path) else { continue };
        for link in links(text) {
            let file = link.split('#').next().unwrap();
            let target = flat(&path.parent().unwrap().join(file));
            if !file.is_empty() && reached.insert(target.clone()) {
                next.push(target);
            }
        }
    }
    let lost: Vec<String> =
        pages.keys().filter(|path| !reached.contains(*path)).map(|path| shown(path)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

// === Reading Markdown, as much as is needed ===

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().parent().unwrap().to_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every Markdown file of the repository, by path.
fn pages() -> Vec<(PathBuf, String)> {
    let found: Vec<(PathBuf, String)> = files_named(".md")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    assert!(found.len() > 15, "the pages were not found");
    found
}

/// Every file of the repository whose name ends so, in order.
fn files_named(end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if name.ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Fenced blocks: what follows the opening fence, and the text.
fn fences(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, block)), None) => push(block, format_args!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

fn without_fences(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            push(&mut kept, format_args!("{line}\n"));
        }
    }
    kept
}

/// Targets of inline links, of pictures and of `src` and `href`, outside of code.
fn links(text: &str) -> Vec<String> {
    let text = without_fences(text);
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let mut found = Vec::new();
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        for rest in prose.split(opening).skip(1) {
            found.extend(rest.split(closing).next().map(|link| link.trim().to_owned()));
        }
    }
    found
}

/// The places of a page that a link may name: its headings as GitHub spells them, and explicit ids.
fn anchors(text: &str) -> BTreeSet<String> {
    let text = without_fences(text);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    let ids = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next().map(str::to_owned));
    headings.chain(ids).collect()
}

/// A path without `.` and `..`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                flat.pop();
            }
            std::path::Component::CurDir => {}
            part => flat.push(part),
        }
    }
    flat
}

/// The words of a shell line: blanks part them, double quotes hold them together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
