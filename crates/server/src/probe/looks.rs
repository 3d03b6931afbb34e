//! How each thing is looked at: what is sent, and what of the answer or of what arrived would be wrong.
//!
//! In: a row. Out: passed, or what was seen. Every request has a `User-Agent` of its own, by which the listener in the
//! application's place tells it from others'.

use super::Outcome;
use super::echo::{Echo, Seen};
use super::exchange::{Answer, Line, Request};
use super::rows::{Needs, Row};
use crate::cookies::Cookie;
use crate::proxy_config::ProxyKind;
use doorward_core::identity_headers::{IDENTITY_HEADER_NAMES, OVERRIDE_HEADER_NAMES, is_identity_header};
use std::io;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// In every value that is not the client's to say.
const FORGED: &str = "forged-by-the-probe";
/// How long a connection to the gate's listener may take: a packet filter lets it hang.
const GATE_TIMEOUT: Duration = Duration::from_secs(2);

/// nginx keeps to itself that the gate refuses its question; the page that it asks for instead says: you may, load it again.
pub(super) const TO_ITSELF: &str = "a redirect to itself, so the gate refuses the proxy's question:";

const NAVIGATION: [(&str, &str); 3] = [
    ("Accept", "text/html,application/xhtml+xml"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];
const API: [(&str, &str); 1] = [("Accept", "application/json")];
const WEBSOCKET: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// What was seen that must not be; `Err` of every look.
type Look = Result<(), String>;

/// Everything that looks need to know.
pub(super) struct Looks {
    /// Begins every `User-Agent` of this run.
    pub run: String,
    pub line: Line,
    pub pages_line: Line,
    /// The application's host, with its port.
    pub host: String,
    pub origin: String,
    /// A host that is not to be taken for it: another organization's, where hosts tell them.
    pub other_host: String,
    pub base_host: String,
    pub base_origin: String,
    pub base_path: String,
    pub https: bool,
    pub gate_port: u16,
    /// A path that asks for a session.
    pub private: String,
    /// A path that is open to everybody, and whether everything below it is.
    pub public: Option<(String, bool)>,
    /// Named by the operator, or recognised.
    pub proxy: Option<ProxyKind>,
    pub echo: Option<Echo>,
    pub member: Option<Member>,
    /// How many requests were sent.
    pub number: u32,
    pub private_is_refused: bool,
    pub echo_stands: bool,
}

/// Somebody who is signed in.
pub(super) struct Member {
    /// His cookie on the application's host.
    pub cookie: String,
    /// Names in lower case, and what the gate says.
    pub expected: Vec<(String, String)>,
}

/// An answer, and what arrived at the application of the same request.
struct Sent {
    answer: Answer,
    seen: Vec<Seen>,
}

impl Looks {
    /// Looks at one thing.
    pub(super) async fn look(&mut self, row: Row) -> Outcome {
        if let Some(why) = self.lacks(row) {
            return Outcome::Skipped(why);
        }
        let looked = self.look_at(row).await;
        match (row, &looked) {
            (Row::PrivatePage, Ok(())) => self.private_is_refused = true,
            (Row::Arrives, Ok(())) => self.echo_stands = true,
            _ => {}
        }
        match looked {
            Ok(()) => Outcome::Passed,
            Err(saw) => Outcome::Failed(saw),
        }
    }

    /// What is missing for a look.
    fn lacks(&self, row: Row) -> Option<&'static str> {
        let needs = row.needs();
        let at_the_application = matches!(needs, Needs::Echo | Needs::Member);
        if needs == Needs::Refusal && !self.private_is_refused {
            Some("because a private page was not refused")
        } else if needs == Needs::Public && self.public.is_none() {
            Some("because the application has no public path")
        } else if at_the_application && self.echo.is_none() {
            Some("it takes --echo, a listener in the application's place")
        } else if needs == Needs::Member && self.member.is_none() {
            Some("it takes --as and --organization, somebody to sign in")
        } else if needs == Needs::Echo && self.public.is_none() && self.member.is_none() {
            Some("because the application has no public path; it takes --as")
        } else if at_the_application && row != Row::Arrives && !self.echo_stands {
            // Nothing more is sent, least of all with a session, as long as it may be the application that gets it.
            Some("because nothing arrives at --echo")
        } else {
            None
        }
    }

    async fn look_at(&mut self, row: Row) -> Look {
        let private = Request::new("GET", &self.private);
        match row {
            Row::Pages => self.pages().await,
            Row::PrivatePage => self.must_ask_to_sign_in(private.with_all(&API)).await,
            Row::Browser => self.browser().await,
            Row::Handover => self.handover().await,
            Row::PublicPage => self.public_page().await,
            Row::Fetch => {
                let fetch = private.with_all(&[("Accept", "*/*"), ("Sec-Fetch-Mode", "cors")]);
                self.must_ask_to_sign_in(fetch).await
            }
            Row::Preflight => {
                let asked = [
                    ("Origin", "https://other.example"),
                    ("Access-Control-Request-Method", "PUT"),
                    ("Sec-Fetch-Mode", "cors"),
                ];
                self.must_be_401(Request::new("OPTIONS", &self.private).with_all(&asked)).await
            }
            Row::Head => {
                let head = Request::new("HEAD", &self.private).with_all(&API);
                self.must_be_401(head).await
            }
            Row::Range => self.must_ask_to_sign_in(private.with_all(&API).with("Range", "bytes=0-3")).await,
            Row::FormPost => self.form_post().await,
            Row::OddMethods => self.odd_methods().await,
            Row::WebSocketStranger => self.must_be_401(private.with_all(&WEBSOCKET)).await,
            Row::PathTricks => self.path_tricks().await,
            Row::OverrideHeaders => self.override_headers().await,
            Row::ForwardedHeaders => self.forwarded_headers().await,
            Row::BigCookies => self.big_cookies().await,
            Row::ManyHeaders => self.many_headers().await,
            Row::TwoHosts => {
                let sent = self.send(private.with_all(&API).with("Host", &self.other_host)).await;
                must_be_refused(sent, "two hosts")
            }
            Row::GateListener => self.gate_listener().await,
            Row::Arrives => self.arrives(self.open()).await.map(|_| ()),
            Row::ForgedIdentity => self.forged_identity(str::to_owned, false).await,
            Row::ForgedUnderscores => {
                let others = [
                    "X-HTTP-Method-Override",
                    "X-Original-URL",
                    "X-Forwarded-For",
                    "X-Real-IP",
                    "Script-Name",
                ];
                let names = IDENTITY_HEADER_NAMES.into_iter().chain(others);
                self.nothing_forged_arrives(names.map(|name| name.replace('-', "_"))).await
            }
            Row::ForgedMixedCase => self.forged_identity(mixed_case, false).await,
            Row::ForgedDoubled => self.forged_identity(str::to_owned, true).await,
            Row::ForgedDots => {
                let names = IDENTITY_HEADER_NAMES.into_iter().chain(OVERRIDE_HEADER_NAMES);
                self.nothing_forged_arrives(names.map(|name| name.replace('-', "."))).await
            }
            Row::ForgedOverrides => {
                let names = OVERRIDE_HEADER_NAMES.into_iter();
                let kin = ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Prefix"];
                self.nothing_forged_arrives(names.chain(kin).map(str::to_owned)).await
            }
            Row::ForgedForwarded => {
                let names = [
                    "X-Forwarded-For",
                    "X-Forwarded-Host",
                    "X-Forwarded-Proto",
                    "X-Forwarded-Port",
                    "X-Real-IP",
                    "Forwarded",
                    "Proxy",
                ];
                self.nothing_forged_arrives(names.into_iter().map(str::to_owned)).await
            }
            Row::ConnectionHeader => self.connection_header().await,
            Row::PathAsJudged => self.path_as_judged().await,
            Row::HostArrives => self.host_as_judged().await,
            Row::SchemeArrives => {
                let seen = self.arrives(self.open()).await?;
                only(&seen, "x-forwarded-proto", if self.https { "https" } else { "http" })
            }
            Row::CookiesArrive => {
                let ours = format!("{}={}", Cookie::App.name(self.https), "A".repeat(43));
                self.cookies_arrive(&ours).await
            }
            Row::BigCookieArrives => {
                let big = format!("big={}", "x".repeat(7000));
                let seen =
                    self.arrives(self.open_without_cookie().with("Cookie", &self.cookies(&[&big]))).await?;
                only(&seen, "cookie", &big).map_err(|saw| saw.chars().take(100).collect())
            }
            Row::HeadAndRange => self.head_and_range().await,
            Row::OtherUpgrades => self.other_upgrades().await,
            Row::WebSocket => self.websocket().await,
            Row::Identity => self.identity(&[], "close").await,
            Row::IdentityConnection => {
                let names: Vec<_> = IDENTITY_HEADER_NAMES.into_iter().collect();
                self.identity(&[], &format!("close, {}", names.join(", "))).await
            }
            Row::IdentityReplaced => {
                let forged: Vec<_> = IDENTITY_HEADER_NAMES
                    .into_iter()
                    .flat_map(|name| [name.to_owned(), name.to_uppercase(), name.replace('-', "_")])
                    .collect();
                self.identity(&forged, "close").await
            }
            Row::SessionCookie => {
                let ours = self.member.as_ref().map(|member| member.cookie.clone()).unwrap_or_default();
                self.cookies_arrive(&ours).await
            }
        }
    }

    // === Sending

    async fn send_on(&mut self, line: Line, host: String, request: Request) -> io::Result<Sent> {
        self.number += 1;
        let agent = format!("{}{}", self.run, self.number);
        let answer = line.exchange(&request, &host, &agent).await;
        let seen = self.echo.as_ref().map(|echo| echo.take(&agent)).unwrap_or_default();
        let answer = answer?;
        if self.proxy.is_none() {
            self.proxy = recognised(&answer);
        }
        Ok(Sent { answer, seen })
    }

    async fn send(&mut self, request: Request) -> io::Result<Sent> {
        self.send_on(self.line.clone(), self.host.clone(), request).await
    }

    /// A request that the gate lets through, without a cookie of others': for everybody, or with the member's session.
    fn open(&self) -> Request {
        let cookies = self.cookies(&[]);
        let open = self.open_without_cookie();
        if cookies.is_empty() { open } else { open.with("Cookie", &cookies) }
    }

    fn open_without_cookie(&self) -> Request {
        let path = self.public.as_ref().map_or(&self.private, |(path, _)| path);
        Request::new("GET", path).with_all(&API)
    }

    /// A `Cookie` header's value for an open request.
    fn cookies(&self, others: &[&str]) -> String {
        let member = self.member.as_ref().filter(|_| self.public.is_none());
        let ours = member.map(|member| member.cookie.as_str());
        others.iter().copied().chain(ours).collect::<Vec<_>>().join("; ")
    }

    /// Sends what must arrive at the application, once, and be answered.
    async fn arrives(&mut self, request: Request) -> Result<Seen, String> {
        let Sent { answer, mut seen } = self.send(request).await.map_err(|error| told(&error))?;
        match (seen.pop(), seen.is_empty()) {
            (Some(seen), true) if answer.status == 200 || answer.status == 101 => Ok(seen),
            (Some(_), true) => Err(format!("it arrived, but was answered {}", described(&answer))),
            (Some(_), false) => Err("it arrived more than once".to_owned()),
            (None, _) => Err(format!("it did not arrive: {}", described(&answer))),
        }
    }

    // === What a stranger gets

    async fn pages(&mut self) -> Look {
        let page = Request::new("GET", &format!("{}/login", self.base_path)).with_all(&NAVIGATION);
        let sent = self
            .send_on(self.pages_line.clone(), self.base_host.clone(), page)
            .await
            .map_err(|error| told(&error))?;
        let ours = sent.answer.header("content-security-policy").is_some();
        if sent.answer.status == 200 && ours { Ok(()) } else { Err(described(&sent.answer)) }
    }

    async fn must_be_401(&mut self, request: Request) -> Look {
        let head = request.method == "HEAD";
        let sent = self.send(request).await.map_err(|error| told(&error))?;
        not_reached(&sent)?;
        let answer = &sent.answer;
        if answer.status != 401 || (head && !answer.body.is_empty()) {
            return Err(described(answer));
        }
        if answer.header("cache-control").is_none_or(|value| !value.contains("no-store")) {
            return Err(
                "401 that caches may keep (no Cache-Control: no-store), so it is not Doorward's".to_owned()
            );
        }
        Ok(())
    }

    /// 401 with a problem document that names the very page.
    async fn must_ask_to_sign_in(&mut self, request: Request) -> Look {
        let target = request.target.clone();
        let sent = self.send(request).await.map_err(|error| told(&error))?;
        not_reached(&sent)?;
        let answer = &sent.answer;
        let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let of = |name: &str| document.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        if answer.status != 401 || of("code") != "account.sign_in_needed" {
            return Err(described(answer));
        }
        if answer.header("cache-control").is_none_or(|value| !value.contains("no-store")) {
            return Err("the 401 lacks Cache-Control: no-store, so caches may keep it".to_owned());
        }
        self.leads_back(of("sign_in_url"), &target)
    }

    /// Whether an address is where this host's sign-in begins, with the way back to `target`.
    fn leads_back(&self, address: &str, target: &str) -> Look {
        let start = format!("{}/.doorward/start?", self.origin);
        let next = Url::parse(address).ok().and_then(|url| {
            url.query_pairs().find(|(name, _)| name == "next").map(|(_, value)| value.into_owned())
        });
        if address.starts_with(&start) && next.as_deref() == Some(target) {
            Ok(())
        } else {
            Err(format!("asked about {target}, Doorward answers with {address}"))
        }
    }

    async fn browser(&mut self) -> Look {
        let target = self.private.clone();
        let sent = self
            .send(Request::new("GET", &target).with_all(&NAVIGATION))
            .await
            .map_err(|error| told(&error))?;
        not_reached(&sent)?;
        match (sent.answer.status, sent.answer.header("location")) {
            (302, Some(location)) => self.leads_back(location, &target),
            _ => Err(described(&sent.answer)),
        }
    }

    async fn handover(&mut self) -> Look {
        let start = Request::new("GET", "/.doorward/start?next=%2F").with_all(&NAVIGATION);
        let sent = self.send(start).await.map_err(|error| told(&error))?;
        not_reached(&sent)?;
        let to = format!("{}/.doorward/handover?", self.base_origin);
        let leads = sent.answer.header("location").is_some_and(|location| location.starts_with(&to));
        if leads { Ok(()) } else { Err(described(&sent.answer)) }
    }

    async fn public_page(&mut self) -> Look {
        let Some((target, _)) = self.public.clone() else { return Ok(()) };
        let Sent { answer, .. } =
            self.send(Request::new("GET", &target).with_all(&API)).await.map_err(|error| told(&error))?;
        let itself = [target.as_str(), &format!("{}{target}", self.origin)]
            .into_iter()
            .any(|address| answer.header("location") == Some(address));
        if itself && (300..400).contains(&answer.status) {
            return Err(format!("{TO_ITSELF} {}", described(&answer)));
        }
        let code = code(&answer);
        if code.as_deref().is_some_and(|code| code.starts_with("gate.") || code.starts_with("account.")) {
            return Err(described(&answer));
        }
        // The application's own 404 is its own matter.
        if answer.status >= 500 { Err(described(&answer)) } else { Ok(()) }
    }

    async fn form_post(&mut self) -> Look {
        let mut form = Request::new("POST", &self.private)
            .with_all(&NAVIGATION)
            .with("Origin", &self.origin)
            .with("Content-Type", "application/x-www-form-urlencoded");
        form.body = "doorward=probe";
        self.must_be_401(form).await
    }

    async fn odd_methods(&mut self) -> Look {
        for method in ["TRACE", "PROPFIND", "get"] {
            let sent = self.send(Request::new(method, &self.private).with_all(&API)).await;
            must_be_refused(sent, method)?;
        }
        Ok(())
    }

    async fn path_tricks(&mut self) -> Look {
        let private = self.private.clone();
        let mut targets: Vec<String> = [
            "/./",
            "//",
            "/x/../",
            "/x/%2e%2e/",
            "/x/.%2E/",
            "/x/..%2f",
            "/x/..%5c",
            "/x/%252e%252e/",
            "/x/..;/",
            "/.doorward/../",
            "/.doorward/%2e%2e/",
            "/.doorward/..%2f",
            "/%c0%ae%c0%ae/",
        ]
        .into_iter()
        .map(|trick| format!("{trick}{}", private.trim_start_matches('/')))
        .chain(["%00", "/..%2f..", "%2f..%2f", "/%2e"].into_iter().map(|end| format!("{private}{end}")))
        .collect();
        if let Some((public, _)) = &self.public {
            let up = "/..".repeat(public.matches('/').count());
            targets.push(format!("{public}{up}{private}"));
            targets.push(format!("{public}{}{private}", up.replace("..", "%2e%2e")));
        }
        for target in targets {
            let sent = self.send(Request::new("GET", &target).with_all(&API)).await;
            must_be_refused(sent, &target)?;
        }
        Ok(())
    }

    async fn override_headers(&mut self) -> Look {
        let open = self.public.as_ref().map_or("/", |(path, _)| path).to_owned();
        for name in
            ["X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Prefix"]
        {
            let request = Request::new("GET", &self.private).with_all(&API).with(name, &open);
            self.must_ask_to_sign_in(request).await.map_err(|saw| format!("with {name}: {open}: {saw}"))?;
        }
        for name in ["X-Original-Method", "X-Forwarded-Method", "X-HTTP-Method-Override"] {
            let request = Request::new("GET", &self.private).with_all(&API).with(name, "OPTIONS");
            self.must_ask_to_sign_in(request).await.map_err(|saw| format!("with {name}: OPTIONS: {saw}"))?;
        }
        Ok(())
    }

    async fn forwarded_headers(&mut self) -> Look {
        for (name, value) in [
            ("X-Forwarded-Host", "forged.example"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-For", "203.0.113.7"),
            ("Forwarded", "host=forged.example;proto=http;for=203.0.113.7"),
        ] {
            let request = Request::new("GET", &self.private).with_all(&API).with(name, value);
            self.must_ask_to_sign_in(request).await.map_err(|saw| format!("with {name}: {value}: {saw}"))?;
        }
        Ok(())
    }

    async fn big_cookies(&mut self) -> Look {
        let with = |length: usize| {
            Request::new("GET", &self.private)
                .with_all(&API)
                .with("Cookie", &format!("big={}", "x".repeat(length)))
        };
        let (big, huge) = (with(7_000), with(70_000));
        self.must_ask_to_sign_in(big).await?;
        let sent = self.send(huge).await;
        // A connection that is closed is a refusal too.
        if sent.is_err() { Ok(()) } else { must_be_refused(sent, "a cookie of 70000 bytes") }
    }

    /// A proxy that copies headers into its question may have room for a hundred, and go on where that is too few.
    async fn many_headers(&mut self) -> Look {
        let with = |number: usize| {
            (0..number)
                .fold(Request::new("GET", &self.private).with_all(&API), |request, _| request.with("a", "1"))
        };
        // One that is known to do so must refuse the request before it asks, and before it comes to harm.
        if self.proxy == Some(ProxyKind::Haproxy) {
            let sent = self.send(with(90)).await;
            return must_be_refused(sent, "a request of 94 headers");
        }
        let sent = self.send(with(94)).await.map_err(|error| told(&error))?;
        not_reached(&sent)?;
        // Who can't ask may say so; an application's own 404 is none of these.
        match sent.answer.status {
            400 | 401 | 403 | 413 | 431 | 500 | 502 | 503 => Ok(()),
            _ => Err(format!("a request of 98 headers: {}", described(&sent.answer))),
        }
    }

    /// Neither past the proxy nor through it: what the gate says of somebody is for the proxy alone.
    async fn gate_listener(&mut self) -> Look {
        let url = format!("{}{}", self.origin, self.private);
        let question = |path: &str| {
            Request::new("GET", path).with("X-Original-Method", "GET").with("X-Original-URL", &url)
        };
        let is_the_gates = |answer: &Answer| answer.header("doorward-status").is_some();
        let mut address = self.line.address;
        address.set_port(self.gate_port);
        // This very machine may ask, if the proxy runs here.
        if !address.ip().is_loopback() {
            let line = Line { address, tls: None };
            let agent = format!("{}gate", self.run);
            let asked =
                timeout(GATE_TIMEOUT, line.exchange(&question("/auth-request"), &self.host, &agent)).await;
            if let Ok(Ok(answer)) = asked
                && is_the_gates(&answer)
            {
                return Err(format!("{address} answers this machine: {}", described(&answer)));
            }
        }
        for path in ["/_doorward_gate", "/auth-request", "/forward-auth"] {
            let sent = self.send(question(path)).await.map_err(|error| told(&error))?;
            if is_the_gates(&sent.answer) {
                return Err(format!("the proxy shows the gate's own answer at {path}"));
            }
        }
        Ok(())
    }

    // === What the application gets

    async fn forged_identity(&mut self, spelled: impl Fn(&str) -> String, doubled: bool) -> Look {
        let mut request = self.open();
        for name in IDENTITY_HEADER_NAMES {
            request = request.with(&spelled(name), FORGED);
            if doubled {
                request = request.with(&name.to_lowercase(), &format!("{FORGED} too"));
            }
        }
        nothing_forged(&self.arrives(request).await?)
    }

    async fn nothing_forged_arrives(&mut self, names: impl Iterator<Item = String> + Send) -> Look {
        let mut request = self.open();
        for name in names {
            request = request.with(&name, FORGED);
        }
        nothing_forged(&self.arrives(request).await?)
    }

    /// What is named in `Connection` is for one hop: it must not take off what the proxy adds, nor bring in what it drops.
    async fn connection_header(&mut self) -> Look {
        let names = "close, Remote-User, Doorward-Role, X-Forwarded-For, X-Forwarded-Proto, X-Original-URL";
        let request = self
            .open()
            .with("Connection", names)
            .with("Remote-User", FORGED)
            .with("Doorward-Role", FORGED)
            .with("X-Forwarded-For", FORGED);
        let sent = self.send(request).await.map_err(|error| told(&error))?;
        let Some(seen) = sent.seen.first() else {
            // Envoy refuses it.
            return must_be_refused(Ok(sent), "a Connection header with others' names");
        };
        nothing_forged(seen)?;
        only(seen, "x-forwarded-proto", if self.https { "https" } else { "http" })
    }

    async fn path_as_judged(&mut self) -> Look {
        let mut request = self.open();
        if self.public.as_ref().is_none_or(|(_, open_ended)| *open_ended) {
            request.target.push_str("/a%20b%2Cc");
        }
        request.target.push_str("?x=%2F..%2f&y=a+b%20c");
        let wanted = request.target.clone();
        // With the host in it too, as clients of proxies send it: servers behind could read it otherwise than the gate.
        let absolute = format!("{}{wanted}", self.origin);
        for target in [wanted.clone(), absolute] {
            request.target.clone_from(&target);
            let seen = self.arrives(request.clone()).await.map_err(|saw| format!("{target}: {saw}"))?;
            if seen.target != wanted {
                return Err(format!("{target} arrived as {}", seen.target));
            }
        }
        Ok(())
    }

    /// Where an absolute target names this host and `Host` another (another organization's, if hosts tell them), one of the
    /// two is judged: it must not be the other that arrives.
    async fn host_as_judged(&mut self) -> Look {
        let seen = self.arrives(self.open()).await?;
        only(&seen, "host", &self.host)?;
        let mut request = self.open();
        request.target.insert_str(0, &self.origin);
        let what = format!("a target on {} beside Host: {}", self.host, self.other_host);
        let sent = self.send_on(self.line.clone(), self.other_host.clone(), request).await;
        let sent = sent.map_err(|error| format!("{what}: {}", told(&error)))?;
        match sent.seen.first() {
            Some(seen) => only(seen, "host", &self.host).map_err(|saw| format!("{what}: {saw}")),
            None => must_be_refused(Ok(sent), &what),
        }
    }

    async fn cookies_arrive(&mut self, ours: &str) -> Look {
        // The value of a session is nothing to print.
        let value = ours.split_once('=').map_or("", |(_, value)| value).to_owned();
        let hidden = |saw: String| saw.replace(&value, "…");
        let cookies = format!("theme=dark; {ours}; lang=de");
        let seen = self.arrives(self.open_without_cookie().with("Cookie", &cookies)).await?;
        only(&seen, "cookie", "theme=dark; lang=de").map_err(hidden)?;
        let seen = self.arrives(self.open_without_cookie().with("Cookie", ours)).await?;
        match seen.values("cookie").as_slice() {
            [] | [""] => Ok(()),
            values => Err(hidden(format!("Doorward's cookie alone arrived as {values:?}"))),
        }
    }

    async fn head_and_range(&mut self) -> Look {
        let mut head = self.open();
        head.method = "HEAD";
        let seen = self.arrives(head).await?;
        if seen.method != "HEAD" {
            return Err(format!("HEAD arrived as {}", seen.method));
        }
        only(&self.arrives(self.open().with("Range", "bytes=0-3")).await?, "range", "bytes=0-3")
    }

    async fn other_upgrades(&mut self) -> Look {
        for to in ["h2c", "doorward-probe"] {
            let upgrade =
                [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", to), ("HTTP2-Settings", "AAMAAABk")];
            let sent = self.send(self.open().with_all(&upgrade)).await.map_err(|error| told(&error))?;
            match sent.seen.first() {
                Some(seen) if !seen.values("upgrade").is_empty() => {
                    return Err(format!("Upgrade: {to} arrived"));
                }
                Some(_) => {}
                None => must_be_refused(Ok(sent), &format!("Upgrade: {to}"))?,
            }
        }
        Ok(())
    }

    async fn websocket(&mut self) -> Look {
        let sent = self.send(self.open().with_all(&WEBSOCKET)).await.map_err(|error| told(&error))?;
        match sent.answer.status {
            101 if sent.answer.echoed => Ok(()),
            101 => Err("101, but nothing comes back".to_owned()),
            200 => Err("it arrived as an ordinary request, without its Upgrade".to_owned()),
            _ => Err(described(&sent.answer)),
        }
    }

    async fn identity(&mut self, forged: &[String], connection: &str) -> Look {
        let Some(member) = &self.member else { return Ok(()) };
        let expected = member.expected.clone();
        let mut request = Request::new("GET", &self.private)
            .with_all(&API)
            .with("Cookie", &member.cookie)
            .with("Connection", connection);
        for name in forged {
            request = request.with(name, FORGED);
        }
        let sent = self.send(request.clone()).await.map_err(|error| told(&error))?;
        if sent.seen.is_empty() && connection != "close" {
            // Envoy refuses it.
            return must_be_refused(Ok(sent), "a Connection header with others' names");
        }
        let seen = self.arrives(request).await?;
        nothing_forged(&seen)?;
        for (name, value) in &expected {
            let values = seen.values(name);
            let right = match values.as_slice() {
                [] => value.is_empty(),
                // Signed anew each minute: that it is one is what can be said.
                [only] if name == "doorward-assertion" => {
                    only.matches('.').count() == value.matches('.').count()
                }
                [only] => only == value,
                _ => false,
            };
            if !right {
                let shown = if name == "doorward-assertion" { "a signed assertion" } else { value };
                return Err(format!("{name} arrived as {values:?}, the gate says {shown:?}"));
            }
        }
        // Nothing else that a server might read as one of them.
        let other = seen.headers.iter().find(|(name, _)| {
            is_identity_header(name) && !expected.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
        });
        other.map_or(Ok(()), |(name, _)| Err(format!("{name} arrived beside them")))
    }
}

fn mixed_case(name: &str) -> String {
    name.chars()
        .enumerate()
        .map(|(n, c)| if n % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
        .collect()
}

fn told(error: &io::Error) -> String {
    format!("no answer: {error}")
}

/// Which proxy an answer came from, if it says so.
fn recognised(answer: &Answer) -> Option<ProxyKind> {
    let says = |name: &str, word: &str| {
        answer.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    if says("server", "nginx") {
        Some(ProxyKind::Nginx)
    } else if says("server", "envoy") {
        Some(ProxyKind::Envoy)
    } else if says("server", "caddy") || says("via", "caddy") {
        Some(ProxyKind::Caddy)
    } else {
        None
    }
}

/// The code that an answer of Doorward's carries, in its problem document or on its page.
fn code(answer: &Answer) -> Option<String> {
    let document: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    let code = document.as_ref().and_then(|document| document.get("code")?.as_str().map(str::to_owned));
    code.or_else(|| {
        let rest = answer.body.split("data-error-code=\"").nth(1)?;
        rest.split('"').next().map(str::to_owned)
    })
}

fn described(answer: &Answer) -> String {
    let mut text = answer.status.to_string();
    if let Some(location) = answer.header("location") {
        text.extend([" to ", location]);
    }
    match code(answer) {
        Some(code) => text.extend([" ", code.as_str()]),
        None => text.push_str(" that is not Doorward's"),
    }
    text
}

fn not_reached(sent: &Sent) -> Look {
    if sent.seen.is_empty() { Ok(()) } else { Err("it reached the application".to_owned()) }
}

/// Refused with a 4xx, by whomever, but not with 401: then it was judged as something else than it is.
fn must_be_refused(sent: io::Result<Sent>, what: &str) -> Look {
    let sent = sent.map_err(|error| format!("{what}: {}", told(&error)))?;
    not_reached(&sent).map_err(|saw| format!("{what}: {saw}"))?;
    match sent.answer.status {
        401 => Err(format!("{what} was judged as something else: {}", described(&sent.answer))),
        400..=499 | 501 => Ok(()),
        _ => Err(format!("{what}: {}", described(&sent.answer))),
    }
}

fn nothing_forged(seen: &Seen) -> Look {
    let forged = seen.headers.iter().find(|(_, value)| value.contains(FORGED));
    forged.map_or(Ok(()), |(name, value)| Err(format!("{name}: {value} arrived")))
}

/// The header arrived once, with this value.
fn only(seen: &Seen, name: &str, value: &str) -> Look {
    let values = seen.values(name);
    if values == [value] { Ok(()) } else { Err(format!("{name} arrived as {values:?} instead of {value:?}")) }
}
