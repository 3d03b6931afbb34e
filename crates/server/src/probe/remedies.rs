//! What to add to which proxy when a look finds something wrong.
//!
//! In: the row, the proxy, what was seen. Out: the next step. Invariant: a line that is told is a line of the configuration
//! that `doorward proxy-config` makes, letter by letter (a test compares).

use super::looks::TO_ITSELF;
use super::rows::Row;
use crate::proxy_config::ProxyKind;
use doorward_core::error_code::{ErrorCode, Fault};

/// A line, and where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Remedy {
    pub place: &'static str,
    /// Empty where nothing is to be added.
    pub line: &'static str,
}

const fn add(place: &'static str, line: &'static str) -> Remedy {
    Remedy { place, line }
}

/// A proxy's name on the command line.
pub(super) fn name(proxy: ProxyKind) -> &'static str {
    match proxy {
        ProxyKind::Nginx => "nginx",
        ProxyKind::Traefik => "traefik",
        ProxyKind::Caddy => "caddy",
        ProxyKind::Envoy => "envoy",
        ProxyKind::Haproxy => "haproxy",
    }
}

/// The next step.
pub(super) fn next(row: Row, proxy: Option<ProxyKind>, saw: &str, base_host: &str) -> String {
    // What Doorward itself has said knows best.
    let told = ErrorCode::ALL.iter().find(|code| {
        code.fault() == Fault::Operator && saw.split([' ', ')']).any(|word| word == code.as_str())
    });
    let told = told.map(|code| code.remedy().to_owned());
    if saw.starts_with(TO_ITSELF) {
        return "Add the proxy's address to trusted_proxies under [gate]; `doorward check` says what to list.\n\
                If it is there, a header of the question is missing: compare location = /_doorward_gate (host.conf)."
            .to_owned();
    }
    if row == Row::PublicPage && told.is_none() && saw.starts_with('5') {
        return "Look whether the application is running, at the address that the proxy has for it."
            .to_owned();
    }
    let line = match proxy {
        None => {
            "Compare with what `doorward proxy-config` prints for your proxy; --proxy names it, then the line is told."
                .to_owned()
        }
        Some(proxy) => {
            let Remedy { place, line } = remedy(row, proxy);
            if line.is_empty() {
                place.to_owned()
            } else {
                format!("{place}:\n  {}", line.replace("sso.example.com", base_host))
            }
        }
    };
    told.map_or(line.clone(), |told| format!("{told}\n{line}"))
}

/// What belongs into this proxy's configuration. One arm a row and proxy, grouped where one line is behind several rows.
pub(super) fn remedy(row: Row, proxy: ProxyKind) -> Remedy {
    match proxy {
        ProxyKind::Nginx => nginx(row),
        ProxyKind::Traefik => traefik(row),
        ProxyKind::Caddy => caddy(row),
        ProxyKind::Envoy => envoy(row),
        ProxyKind::Haproxy => haproxy(row),
    }
}

fn nginx(row: Row) -> Remedy {
    const ASK: &str = "in every location that leads to the application";
    const ASK_FILE: &str = "in /etc/nginx/doorward/ask.conf";
    const QUESTION: &str = "in location = /_doorward_gate (host.conf)";
    match row {
        Row::Pages => add("in the server of Doorward's pages", "proxy_set_header Host sso.example.com;"),
        Row::Handover => add(
            "in the application's server (it has location /.doorward/)",
            "include /etc/nginx/doorward/host.conf;",
        ),
        Row::PrivatePage
        | Row::Browser
        | Row::Fetch
        | Row::Preflight
        | Row::Head
        | Row::Range
        | Row::FormPost => add(
            "in ask.conf, which every location that leads to the application includes",
            "error_page 401 403 = @doorward_answer;",
        ),
        Row::WebSocketStranger | Row::ManyHeaders | Row::PublicPage | Row::Arrives => {
            add(ASK, "include /etc/nginx/doorward/ask.conf;")
        }
        Row::OddMethods => add(QUESTION, "proxy_set_header X-Original-Method $request_method;"),
        Row::PathTricks | Row::OverrideHeaders | Row::ForwardedHeaders => {
            add(QUESTION, "proxy_set_header X-Original-URL    https://$doorward_host$request_uri;")
        }
        Row::BigCookies => add(QUESTION, "proxy_buffer_size 16k;"),
        Row::BigCookieArrives => add(QUESTION, "proxy_buffers 4 16k;"),
        Row::TwoHosts => {
            add("Let nginx refuse it, as it does by itself: nothing may rewrite Host before it.", "")
        }
        Row::GateListener => add(
            "in location = /_doorward_gate (host.conf); and let [gate] listen be an address that only the proxy reaches",
            "internal;",
        ),
        Row::ForgedIdentity
        | Row::ForgedMixedCase
        | Row::ForgedDoubled
        | Row::Identity
        | Row::IdentityReplaced
        | Row::ConnectionHeader
        | Row::IdentityConnection => add(
            "in ask.conf, and so for each identity header",
            "proxy_set_header Remote-User $doorward_remote_user;",
        ),
        Row::ForgedUnderscores => add("Take `underscores_in_headers on` out; off is nginx's default.", ""),
        Row::ForgedDots => add("Take `ignore_invalid_headers off` out; on is nginx's default.", ""),
        Row::ForgedOverrides => {
            add("in ask.conf, and so for each of its kin", "proxy_set_header X-Original-URL \"\";")
        }
        Row::ForgedForwarded => add(ASK_FILE, "proxy_set_header X-Forwarded-For   $remote_addr;"),
        Row::PathAsJudged => {
            add("without anything behind the name, not even a slash", "proxy_pass http://application_")
        }
        Row::HostArrives => add(ASK_FILE, "proxy_set_header Host              $doorward_host;"),
        Row::SchemeArrives => add(ASK_FILE, "proxy_set_header X-Forwarded-Proto $scheme;"),
        Row::CookiesArrive | Row::SessionCookie => add(ASK_FILE, "proxy_set_header Cookie $doorward_cookie;"),
        Row::HeadAndRange => {
            add("Take proxy_method and a changed Range out of the application's location.", "")
        }
        Row::OtherUpgrades => add(QUESTION, "proxy_set_header Upgrade           $http_upgrade;"),
        Row::WebSocket => add(
            "in ask.conf, with the map of doorward.conf",
            "proxy_set_header Connection        $connection_upgrade;",
        ),
    }
}

fn traefik(row: Row) -> Remedy {
    const ROUTER: &str = "on the application's router";
    const ENTRY: &str = "under http of each entry point that leads to the application (traefik.yaml)";
    const AUTH: &str = "under forwardAuth";
    match row {
        Row::Pages => add(
            "under routers",
            "doorward: { rule: \"Host(`sso.example.com`)\", service: doorward, priority: 2000 }",
        ),
        Row::Handover => add(
            "under routers, for the hosts of your applications",
            "&& PathPrefix(`/.doorward/`)\", service: doorward, priority: 1000 }",
        ),
        Row::PrivatePage
        | Row::Browser
        | Row::Fetch
        | Row::Preflight
        | Row::Head
        | Row::Range
        | Row::FormPost
        | Row::OddMethods
        | Row::WebSocketStranger
        | Row::PublicPage
        | Row::Arrives
        | Row::BigCookies
        | Row::ManyHeaders
        | Row::OverrideHeaders
        | Row::ForwardedHeaders
        | Row::HeadAndRange
        | Row::ConnectionHeader
        | Row::IdentityConnection => add(ROUTER, "middlewares: [forged, doorward]"),
        Row::PathTricks | Row::PathAsJudged => add(ENTRY, "sanitizePath: false"),
        Row::ForgedUnderscores => add(ENTRY, "underscoreHeadersStrategy: delete"),
        Row::ForgedIdentity
        | Row::ForgedMixedCase
        | Row::ForgedDoubled
        | Row::ForgedDots
        | Row::Identity
        | Row::IdentityReplaced => {
            add(AUTH, "authResponseHeadersRegex: \"(?i)^(remote|doorward)[^a-z0-9]|[^a-z0-9_-]\"")
        }
        Row::ForgedOverrides => {
            add("in the middleware forged, and so for each of its kin", "X-Original-URL: \"\"")
        }
        Row::ForgedForwarded | Row::SchemeArrives => add(
            "Take forwardedHeaders.insecure out of the entry point, and trust no more addresses than those of a proxy in front.",
            "",
        ),
        Row::CookiesArrive | Row::SessionCookie | Row::BigCookieArrives => {
            add(AUTH, "authResponseHeaders: [Cookie, Authorization]")
        }
        Row::HostArrives => add("Take passHostHeader: false out of the service.", ""),
        Row::OtherUpgrades => add(
            "on the application's router, in its rule",
            "!HeaderRegexp(`Upgrade`, `(?i)^([^w]|.{1,8}$|.{10,})`)",
        ),
        Row::WebSocket => add("Take what changes Connection or Upgrade out of the router's middlewares.", ""),
        Row::TwoHosts | Row::GateListener => add(
            "Let [gate] listen be an address that only the proxy reaches, and Traefik refuse what it refuses.",
            "",
        ),
    }
}

fn caddy(row: Row) -> Remedy {
    const SITE: &str = "in the application's site (the snippet doorward)";
    const ASK: &str = "before the reverse_proxy to the application";
    match row {
        Row::Pages => add("as the site of Doorward's pages", "sso.example.com {"),
        Row::Handover => add(SITE, "handle /.doorward/* {"),
        Row::PrivatePage
        | Row::Browser
        | Row::Fetch
        | Row::Preflight
        | Row::Head
        | Row::Range
        | Row::FormPost
        | Row::OddMethods
        | Row::WebSocketStranger
        | Row::PathTricks
        | Row::PublicPage
        | Row::Arrives
        | Row::BigCookies
        | Row::ManyHeaders
        | Row::HeadAndRange
        | Row::OtherUpgrades => add(ASK, "uri /forward-auth"),
        Row::OverrideHeaders | Row::ForgedOverrides => {
            add("in the application's site, and so for each of its kin", "request_header -X-Original-*")
        }
        Row::ForwardedHeaders | Row::ForgedForwarded | Row::SchemeArrives => {
            add(SITE, "request_header -X-Forwarded-*")
        }
        Row::ForgedUnderscores => add(SITE, "request_header -*_*"),
        Row::ForgedIdentity | Row::ForgedMixedCase | Row::ForgedDoubled => {
            add("in the application's site, and -Doorward* beside it", "request_header -Remote*")
        }
        Row::ForgedDots => add(SITE, "request_header -*.*"),
        Row::ConnectionHeader | Row::IdentityConnection | Row::WebSocket => {
            add(SITE, "request_header Connection Upgrade")
        }
        Row::Identity
        | Row::IdentityReplaced
        | Row::CookiesArrive
        | Row::SessionCookie
        | Row::BigCookieArrives => add(
            "under forward_auth, with every name",
            "copy_headers Cookie Authorization Remote-User Remote-Name Remote-Email Remote-Groups Doorward-Account Doorward-Organization Doorward-Role Doorward-Assertion Doorward-Sso",
        ),
        Row::PathAsJudged => add("Take rewrite, uri and handle_path away from the application's site.", ""),
        Row::HostArrives => add("Take header_up Host out of the application's reverse_proxy.", ""),
        Row::TwoHosts | Row::GateListener => add(
            "Let [gate] listen be an address that only the proxy reaches, and Caddy refuse what it refuses.",
            "",
        ),
    }
}

fn envoy(row: Row) -> Remedy {
    const FILTER: &str = "in the ext_authz filter";
    const MANAGER: &str = "in the http_connection_manager";
    match row {
        Row::Pages => add("as a virtual host of Doorward's own", "domains: [sso.example.com]"),
        Row::Handover => {
            add("as the first route of the application's virtual host", "- match: { prefix: /.doorward/ }")
        }
        Row::PrivatePage
        | Row::Fetch
        | Row::Preflight
        | Row::Head
        | Row::Range
        | Row::FormPost
        | Row::OddMethods
        | Row::WebSocketStranger
        | Row::PathTricks
        | Row::PublicPage
        | Row::Arrives
        | Row::BigCookies
        | Row::ManyHeaders
        | Row::HeadAndRange => add("first of the http_filters", "- name: envoy.filters.http.ext_authz"),
        Row::Browser
        | Row::OverrideHeaders
        | Row::ForgedOverrides
        | Row::ForgedDots
        | Row::ForgedIdentity
        | Row::ForgedMixedCase
        | Row::ForgedDoubled => {
            add(FILTER, "allowed_headers: { patterns: [{ safe_regex: { regex: \".+\" } }] }")
        }
        Row::ForwardedHeaders | Row::ForgedForwarded | Row::SchemeArrives => {
            add(MANAGER, "use_remote_address: true")
        }
        Row::ForgedUnderscores => {
            add(MANAGER, "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }")
        }
        Row::WebSocket | Row::OtherUpgrades => add(MANAGER, "upgrade_configs: [{ upgrade_type: websocket }]"),
        Row::Identity
        | Row::IdentityReplaced
        | Row::CookiesArrive
        | Row::SessionCookie
        | Row::BigCookieArrives
        | Row::ConnectionHeader
        | Row::IdentityConnection => add(
            "in the ext_authz filter, below allowed_upstream_headers",
            "patterns: [{ prefix: doorward- }, { prefix: remote- }, { exact: cookie }, { exact: authorization }, { exact: x-forwarded-for }]",
        ),
        Row::PathAsJudged => add(
            "Take normalize_path, merge_slashes and rewrites out: the path is judged as it is sent on.",
            "",
        ),
        Row::HostArrives => add("Take host_rewrite out of the application's route.", ""),
        Row::TwoHosts | Row::GateListener => add(
            "Let [gate] listen be an address that only the proxy reaches, and Envoy refuse what it refuses.",
            "",
        ),
    }
}

fn haproxy(row: Row) -> Remedy {
    const FRONTEND: &str = "in the frontend, before lua.doorward";
    const DELETE: &str = "http-request del-header (?i)[^a-z0-9-]|^(doorward|remote|forwarded|proxy|script-name|path-info|daphne)(-|$)|^x-(real-ip|forwarded|original|rewrite|override|http|method|host|script|sendfile|accel)(-|$) -m reg";
    match row {
        Row::Pages => add("in the frontend", "acl sso      req.hdr(host),host_only -i sso.example.com"),
        Row::Handover => add("in the frontend", "use_backend doorward if sso or handover"),
        Row::PrivatePage
        | Row::Browser
        | Row::Fetch
        | Row::Preflight
        | Row::Head
        | Row::Range
        | Row::FormPost
        | Row::OddMethods
        | Row::WebSocketStranger
        | Row::PathTricks
        | Row::PublicPage
        | Row::Arrives
        | Row::BigCookies
        | Row::HeadAndRange
        | Row::OtherUpgrades => add("in the frontend", "http-request lua.doorward unless sso or handover"),
        Row::ManyHeaders => add(FRONTEND, "http-request deny deny_status 400 if { req.fhdr_cnt gt 90 }"),
        Row::ForwardedHeaders | Row::SchemeArrives => {
            add(FRONTEND, "http-request set-header X-Forwarded-Proto https")
        }
        Row::OverrideHeaders
        | Row::ForgedIdentity
        | Row::ForgedUnderscores
        | Row::ForgedMixedCase
        | Row::ForgedDoubled
        | Row::ForgedDots
        | Row::ForgedOverrides
        | Row::ForgedForwarded
        | Row::ConnectionHeader
        | Row::IdentityConnection => add(FRONTEND, DELETE),
        Row::Identity
        | Row::IdentityReplaced
        | Row::CookiesArrive
        | Row::SessionCookie
        | Row::BigCookieArrives => add(
            "in doorward.lua, with every name",
            "local SET = { \"cookie\", \"authorization\", \"remote-user\", \"remote-name\", \"remote-email\", \"remote-groups\", \"doorward-account\", \"doorward-organization\", \"doorward-role\", \"doorward-assertion\", \"doorward-sso\" }",
        ),
        Row::PathAsJudged => add(FRONTEND, "http-request set-uri %[pathq]"),
        Row::WebSocket => add(
            "Take what changes Connection or Upgrade out of the frontend and the application's backend.",
            "",
        ),
        Row::HostArrives => add("Take what sets Host out of the frontend and the application's backend.", ""),
        Row::TwoHosts | Row::GateListener => add(
            "Let [gate] listen be an address that only the proxy reaches, and HAProxy refuse what it refuses.",
            "",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Configuration;
    use crate::proxy_config::{Wanted, make};
    use clap::ValueEnum as _;

    #[test]
    fn every_line_that_is_told_is_in_the_configuration_that_proxy_config_makes() {
        let toml = "base_url = \"https://sso.example.com\"\n[gate]\ntrusted_proxies = [\"127.0.0.1\"]\n[[app]]\n\
                    name = \"hub\"\nhost = \"hub.example.com\"\nupstream = \"http://127.0.0.1:3000\"\n";
        let configuration = Configuration::parse(None, toml, []).unwrap();
        for proxy in ProxyKind::value_variants() {
            let wanted =
                Wanted { proxy: *proxy, upstreams: vec![], certificate: None, key: None, doorward: None };
            let made: String =
                make(&configuration, &wanted).unwrap().into_iter().map(|file| file.text).collect();
            let mut lines = 0;
            for row in Row::ALL {
                let Remedy { place, line } = remedy(*row, *proxy);
                assert!(!place.is_empty());
                assert!(made.contains(line), "{proxy:?}, {}: {line}", row.name());
                lines += usize::from(!line.is_empty());
            }
            assert!(lines > 20, "{proxy:?}");
        }
    }

    #[test]
    fn what_doorward_itself_has_said_comes_first_and_the_lines_name_the_operators_host() {
        let text = next(Row::Browser, Some(ProxyKind::Caddy), "403 gate.untrusted_proxy", "sso.a.example");
        assert!(text.starts_with(ErrorCode::GateUntrustedProxy.remedy()), "{text}");
        let text = next(Row::Pages, Some(ProxyKind::Nginx), "421 request.unknown_host", "sso.a.example");
        assert!(text.ends_with("proxy_set_header Host sso.a.example;"), "{text}");
        assert!(next(Row::Pages, None, "404 that is not Doorward's", "a").contains("--proxy"));
    }
}
