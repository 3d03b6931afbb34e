//! Holds every sample of every page against what all pages promise.

use std::collections::HashSet;

use super::samples::{HOSTILE, all};
use crate::web::assets::ASSETS;

/// The tags of a page: name, and the text between `<` and `>`.
fn tags(html: &str) -> Vec<(&str, &str)> {
    html.split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag))
        .filter(|tag| !tag.starts_with('/') && !tag.starts_with('!'))
        .map(|tag| (tag.split_whitespace().next().unwrap_or(tag), tag))
        .collect()
}

/// The attributes of a tag; a bare one has an empty value. Our templates quote every value.
fn attributes(tag: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = tag.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let name = name.to_owned();
        rest = after;
        if let Some(after) = rest.strip_prefix("=\"") {
            let (value, after) = after.split_once('"').unwrap();
            out.push((name, value.to_owned()));
            rest = after.trim_start();
        } else {
            assert!(!rest.starts_with('='), "an unquoted value in <{tag}>");
            out.push((name, String::new()));
            rest = rest.trim_start();
        }
    }
    out
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    attributes(tag).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn rule_10_no_page_needs_an_exception_from_the_content_security_policy() {
    for (page, html) in all() {
        for (name, tag) in tags(&html) {
            assert!(
                name != "style" && name != "iframe" && name != "object" && name != "base",
                "{page}: <{tag}>"
            );
            assert!(name != "script" || attribute(tag, "src").is_some(), "{page}: an inline script");
            for (attribute, value) in attributes(tag) {
                assert!(!attribute.starts_with("on"), "{page}: an event handler in <{tag}>");
                assert!(attribute != "style", "{page}: an inline style in <{tag}>");
                assert!(!value.trim_start().starts_with("javascript:"), "{page}: <{tag}>");
            }
        }
    }
}

#[test]
fn no_page_loads_anything_from_elsewhere() {
    for (page, html) in all() {
        for (name, tag) in tags(&html) {
            for (attribute, value) in attributes(tag) {
                let loads =
                    attribute == "src" || (name == "link" && attribute == "href") || attribute == "action";
                assert!(!loads || value.starts_with("/door/"), "{page}: <{tag}>");
            }
        }
    }
}

#[test]
fn every_address_begins_with_the_path_of_base_url() {
    for (page, html) in all() {
        for (_, tag) in tags(&html) {
            let Some(href) = attribute(tag, "href") else { continue };
            let ours = href.starts_with("/door/") || href.starts_with('#') || href.starts_with("https://");
            assert!(ours, "{page}: <{tag}>");
        }
    }
}

#[test]
fn values_from_outside_are_escaped() {
    for (page, html) in all() {
        assert!(!html.contains(HOSTILE) && !html.contains("<script>"), "{page}");
    }
    let shown = all().iter().filter(|(_, html)| html.contains("alert(1)")).count();
    assert!(shown >= 8, "the hostile text is on many pages, and harmless: {shown}");
}

#[test]
fn every_page_has_a_language_a_title_one_main_heading_and_a_name() {
    for (page, html) in all() {
        let tags = tags(&html);
        let count = |name: &str| tags.iter().filter(|(tag, _)| *tag == name).count();
        assert_eq!(count("h1"), 1, "{page}");
        assert_eq!(count("main"), 1, "{page}");
        assert_eq!(count("title"), 1, "{page}");
        assert!(!html.contains("<title> ·"), "{page}");
        assert!(html.starts_with("<!doctype html>"), "{page}");
        assert!(
            tags.iter().any(|(name, tag)| *name == "html" && attribute(tag, "lang").as_deref() == Some("en"))
        );
        let body = tags.iter().find(|(name, _)| *name == "body").unwrap().1;
        assert!(attribute(body, "data-page").is_some_and(|name| !name.is_empty()), "{page}");
    }
}

#[test]
fn ids_are_unique_and_every_reference_leads_to_one() {
    for (page, html) in all() {
        let tags = tags(&html);
        let mut ids = HashSet::new();
        for (_, tag) in &tags {
            if let Some(id) = attribute(tag, "id") {
                assert!(ids.insert(id.clone()), "{page}: the id {id} twice");
            }
        }
        for (_, tag) in &tags {
            for (name, value) in attributes(tag) {
                let refers = matches!(
                    name.as_str(),
                    "for" | "aria-labelledby" | "aria-describedby" | "data-copy" | "data-reveal"
                );
                for id in value.split_whitespace().filter(|_| refers) {
                    assert!(ids.contains(id), "{page}: {name} leads to {id}, which is not there");
                }
                if let Some(id) = value.strip_prefix('#').filter(|_| name == "href") {
                    assert!(ids.contains(id), "{page}: a link leads to #{id}, which is not there");
                }
            }
        }
    }
}

#[test]
fn every_field_has_a_label() {
    for (page, html) in all() {
        let tags = tags(&html);
        let labelled: HashSet<_> = tags
            .iter()
            .filter(|(name, _)| *name == "label")
            .filter_map(|(_, tag)| attribute(tag, "for"))
            .collect();
        for (name, tag) in &tags {
            if !matches!(*name, "input" | "select" | "textarea") {
                continue;
            }
            let kind = attribute(tag, "type").unwrap_or_default();
            let inside_label = kind == "radio";
            let labelled = attribute(tag, "id").is_some_and(|id| labelled.contains(&id))
                || attribute(tag, "aria-label").is_some();
            assert!(kind == "hidden" || inside_label || labelled, "{page}: <{tag}> has no label");
        }
    }
}

#[test]
fn a_secret_is_never_written_into_a_page() {
    for (page, html) in all() {
        for (name, tag) in tags(&html) {
            if name == "input" && attribute(tag, "type").as_deref() == Some("password") {
                assert_eq!(attribute(tag, "value"), None, "{page}: <{tag}>");
            }
        }
    }
}

#[test]
fn a_page_weighs_at_most_60_kib_with_everything_that_it_loads() {
    let assets: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
    for (page, html) in all() {
        assert!(html.len() + assets <= 60 * 1024, "{page}: {} + {assets} bytes", html.len());
    }
}

#[test]
fn every_error_code_has_a_page_that_carries_it_and_says_what_to_do() {
    for (page, html) in all() {
        if let Some(code) = page.strip_prefix("error-").filter(|code| code.contains('.')) {
            assert!(html.contains(&format!("data-error-code=\"{code}\"")), "{page}");
            assert!(html.contains("0193f0c2a7d1"), "{page}: without the request's id");
        }
    }
}

#[test]
fn s7_the_green_check_is_there_exactly_when_the_drafts_own_test_passed() {
    let shown: HashSet<_> = all()
        .into_iter()
        .filter(|(page, html)| page.starts_with("sso-") && html.contains("data-check"))
        .map(|(page, _)| page)
        .collect();
    let expected = ["sso-tested", "sso-tested-yesterday", "sso-live", "sso-live-change-pending"];
    assert_eq!(shown, expected.map(str::to_owned).into());
}

#[test]
fn s9_without_the_plan_there_is_no_form_of_the_settings() {
    let (_, html) = all().into_iter().find(|(page, _)| page == "sso-plan-missing").unwrap();
    assert!(!html.contains("action=\"/door/organizations"), "{html}");
    assert!(html.contains("data-error-code=\"plan.required\""));
}

#[test]
fn the_samples_can_be_looked_at() {
    // DOORWARD_SAMPLES_TO=/tmp/pages cargo test -p doorward the_samples_can_be_looked_at
    let Some(folder) = std::env::var_os("DOORWARD_SAMPLES_TO") else { return };
    let folder = std::path::PathBuf::from(folder).join("door");
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    for asset in ASSETS.iter() {
        std::fs::write(folder.join("assets").join(asset.name), asset.content).unwrap();
    }
    for (page, html) in all() {
        std::fs::write(folder.join(format!("{page}.html")), html).unwrap();
    }
}
