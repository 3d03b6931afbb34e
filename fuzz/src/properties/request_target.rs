//! The request target: lines of `METHOD PATH`, `Host NAME`, `organization PATTERN`, `public PATTERN`, `rule PATTERN`.
//!
//! A path that is taken leads to one target under every reading that a server behind us may have: decoded once or
//! twice, path parameters cut off before, between or after, dots resolved, slashes merged (conformance.md V09, V10).
//! The readings and the matching are written anew here, naively, so that a slip in either shows.

use super::first_line;
use doorward_core::membership::Role;
use doorward_core::request_target::{
    Application, Mapping, Method, NormalisedPath, Pattern, Rule, Unowned, is_allowed_upgrade, is_navigation,
    normalise_host, normalise_path,
};

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (request, rest) = first_line(text);
    let (method, path) = request.split_once(' ').unwrap_or(("GET", request));
    let method = Method::from_text(method).unwrap_or(Method::Get);
    let mut texts = Texts::default();
    for line in rest.lines().take(12) {
        match line.split_once(' ') {
            Some(("Host", host)) => hosts_have_one_form(host),
            Some(("Upgrade", upgrade)) => {
                assert_eq!(is_allowed_upgrade(upgrade), upgrade.trim().to_lowercase() == "websocket");
            }
            Some(("Accept", accept)) => {
                let page = is_navigation(method, None, Some(accept), false, false);
                assert!(!page || accept.to_lowercase().contains("text/html"), "{accept}");
                assert!(!is_navigation(Method::Post, None, Some(accept), false, false));
            }
            Some(("organization", pattern)) => texts.keep_organization(pattern),
            Some(("public", pattern)) if Pattern::parse_public(pattern).is_ok() => {
                texts.public.push(pattern.to_owned());
            }
            Some(("rule", pattern)) if Pattern::parse(pattern).is_ok() => {
                texts.rules.push(pattern.to_owned());
            }
            _ => {}
        }
    }
    if texts.organization.is_empty() && texts.public.is_empty() {
        texts = Texts::of(
            &["/datasets/{org}/{resource}/**", "/{org}/{resource}/**", "/{org}/**"],
            &["/", "/static/**", "/about"],
            &["/{org}/settings/**", "/{org}/**/danger"],
        );
    }
    judge(method, path, &texts);
}

/// An application's patterns as the operator wrote them.
#[derive(Default)]
pub(super) struct Texts {
    organization: Vec<String>,
    public: Vec<String>,
    rules: Vec<String>,
}

impl Texts {
    pub(super) fn of(organization: &[&str], public: &[&str], rules: &[&str]) -> Self {
        let texts = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
        Self { organization: texts(organization), public: texts(public), rules: texts(rules) }
    }

    fn keep_organization(&mut self, pattern: &str) {
        if Pattern::parse_organization(pattern).is_ok() {
            self.organization.push(pattern.to_owned());
        }
    }

    /// Each rule asks for the role of admin, whatever the method.
    fn application(&self) -> Application {
        let parse =
            |texts: &[String]| texts.iter().map(|text| Pattern::parse(text).unwrap()).collect::<Vec<_>>();
        let rule = |path| Rule { methods: Vec::new(), path, role: Role::Admin };
        Application {
            name: "hub".to_owned(),
            host: "hub.example.com".to_owned(),
            mapping: Mapping::Path,
            organization: parse(&self.organization),
            public: parse(&self.public),
            unowned: Unowned::Deny,
            rules: parse(&self.rules).into_iter().map(rule).collect(),
        }
    }
}

fn judge(method: Method, path: &str, texts: &Texts) {
    let Ok(normal) = normalise_path(path) else { return };
    nothing_climbs_or_hides(path, &normal);
    spelled_otherwise_it_is_the_same(path, &normal);

    let application = texts.application();
    let Ok((target, _)) = application.target(method, "hub.example.com", &normal) else { return };
    let raw = path.split('?').next().unwrap_or_default();
    for reading in readings(raw) {
        let seen = naive_target(&reading, texts);
        assert_eq!(seen.public, target.public, "{path:?} read as {reading:?}");
        let admin = target.needed_role == Role::Admin;
        if target.public && target.organization.is_none() {
            continue;
        }
        assert_eq!(
            seen.organization,
            target.organization.as_deref().map(str::to_owned),
            "{path:?} read as {reading:?}"
        );
        assert_eq!(
            seen.resource,
            target.resource.as_ref().map(|key| key.name.to_string()),
            "{path:?} read as {reading:?}"
        );
        assert_eq!(seen.admin, admin, "{path:?} read as {reading:?}");
    }
    let names =
        target.organization.iter().map(|name| &**name).chain(target.resource.iter().map(|key| &*key.name));
    for name in names {
        assert!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "{name}"
        );
        assert_eq!(name, name.to_lowercase());
    }
}

fn nothing_climbs_or_hides(path: &str, normal: &NormalisedPath<'_>) {
    assert!(normal.as_str().starts_with('/'));
    for reading in readings(path.split('?').next().unwrap_or_default()) {
        assert!(
            !reading.contains(['\\', '?', '#']) && !reading.chars().any(char::is_control),
            "{path:?}: {reading:?}"
        );
        let segments: Vec<&str> = reading.split('/').collect();
        assert!(!segments.iter().any(|segment| matches!(*segment, "." | "..")), "{path:?}: {reading:?}");
        assert!(!reading.contains("//"), "{path:?}: {reading:?}");
    }
}

fn spelled_otherwise_it_is_the_same(path: &str, normal: &NormalisedPath<'_>) {
    // Each character that may be encoded, encoded.
    let encoded: String = normal
        .as_str()
        .bytes()
        .map(|b| {
            if b == b'/' || b.is_ascii_alphanumeric() {
                char::from(b).to_string()
            } else {
                format!("%{b:02x}")
            }
        })
        .collect();
    if encoded.len() <= 8192 {
        assert_eq!(normalise_path(&encoded).as_ref(), Ok(normal), "{path:?} as {encoded:?}");
    }
    let query = format!("{}?/../..%2f;x#y\\", path.split('?').next().unwrap_or_default());
    assert_eq!(normalise_path(&query).as_ref(), Ok(normal), "a query changes nothing");
    if normal.as_str().bytes().all(|b| b.is_ascii_graphic() && b != b'%') {
        assert_eq!(
            normalise_path(normal.as_str()).map(|again| again.as_str().to_owned()).as_deref(),
            Ok(normal.as_str())
        );
    }
}

/// What servers make of a path that came over the wire.
pub(super) fn readings(raw: &str) -> Vec<String> {
    type Step = fn(&str) -> String;
    const KEEP: Step = str::to_owned;
    const CUT_SEGMENTS: Step = |text| {
        text.split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("/")
    };
    const CUT_ALL: Step = |text| text.split(';').next().unwrap_or_default().to_owned();
    const DECODE: Step = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut readings = Vec::new();
    for first in [KEEP, CUT_SEGMENTS, CUT_ALL] {
        for between in [KEEP, CUT_SEGMENTS, CUT_ALL] {
            for last in [KEEP, CUT_SEGMENTS, CUT_ALL] {
                let once = between(&DECODE(&first(raw)));
                readings.push(last(&DECODE(&once)));
                readings.push(once);
            }
        }
    }
    readings.sort();
    readings.dedup();
    readings
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) public: bool,
    pub(super) organization: Option<String>,
    resource: Option<String>,
    admin: bool,
}

/// What a reading is for, by patterns as texts.
pub(super) fn naive_target(reading: &str, texts: &Texts) -> Seen {
    let segments: Vec<&str> = reading.split('/').filter(|segment| !segment.is_empty()).collect();
    let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let split = |pattern: &str| {
        pattern.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let in_lower =
        |pattern: &str| split(pattern).iter().map(|part| part.to_ascii_lowercase()).collect::<Vec<_>>();
    let captured = texts.organization.iter().find_map(|pattern| {
        let mut captured = [None, None];
        matches(&in_lower(pattern), &lower, &mut captured).then_some(captured)
    });
    let [organization, resource] = captured.unwrap_or_default();
    let mut nothing = [None, None];
    Seen {
        public: texts.public.iter().any(|pattern| matches(&split(pattern), &segments, &mut nothing)),
        organization,
        resource,
        admin: texts.rules.iter().any(|pattern| matches(&in_lower(pattern), &lower, &mut nothing)),
    }
}

fn matches(pattern: &[String], path: &[&str], captured: &mut [Option<String>; 2]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            (0..=path.len()).any(|skipped| matches(rest, &path[skipped..], captured))
        }
        (Some((part, rest)), Some((segment, path))) => {
            match part.as_str() {
                "{org}" => captured[0] = Some((*segment).to_owned()),
                "{resource}" => captured[1] = Some((*segment).to_owned()),
                any if any.starts_with('{') => {}
                literal if literal != *segment => return false,
                _ => {}
            }
            matches(rest, path, captured)
        }
        _ => false,
    }
}

fn hosts_have_one_form(text: &str) {
    for https in [true, false] {
        let Some(host) = normalise_host(text, https) else { continue };
        assert_eq!(host, host.to_ascii_lowercase(), "{text:?}");
        assert!(!host.ends_with('.') && host.is_ascii() && !host.contains(['@', '/', ' ', '\\']), "{host}");
        assert_eq!(normalise_host(&host, https).as_deref(), Some(&*host), "{text:?}");
        assert_eq!(normalise_host(&text.to_ascii_uppercase(), https).as_deref(), Some(&*host), "{text:?}");
        let default = if https { ":443" } else { ":80" };
        assert!(!host.ends_with(default), "{host}");
    }
}
