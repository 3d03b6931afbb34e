//! Every key of the configuration in one table: its kind, default, meaning and an example.
//!
//! The reader refuses what is not in here; `docs/reference/configuration.md` and `doorward.example.toml` are
//! generated from here. A key that is added here and nowhere else is caught by a test.

/// What may stand behind a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A list of texts.
    List,
    /// The rules of an application: a list of tables with `methods`, `path` and `role`.
    Rules,
}

impl Kind {
    /// In words, for the reference and for mistakes.
    pub fn in_words(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Flag => "true or false".to_owned(),
            Self::List => "a list of texts".to_owned(),
            Self::Rules => "a list of { methods, path, role }".to_owned(),
        }
    }
}

/// One key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Section and name, as in `gate.listen`; no section for the keys at the top; `app` for those of `[[app]]`.
    pub path: &'static str,
    /// What may stand behind it.
    pub kind: Kind,
    /// What holds when it is not given: the plain text of a text, TOML of a list. `None`: nothing.
    pub default: Option<&'static str>,
    /// An example in TOML that `doorward.example.toml` shows.
    pub example: &'static str,
    /// What it is for, in sentences.
    pub about: &'static str,
}

impl Key {
    /// The section, or `None` at the top.
    pub fn section(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(section, _)| section)
    }

    /// The name without its section.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The variable of the environment that sets it; `None` for `[[app]]`, which is in the file only.
    pub fn variable(&self) -> Option<String> {
        (self.section() != Some(APP))
            .then(|| format!("DOORWARD_{}", self.path.to_ascii_uppercase().replace('.', "__")))
    }
}

/// The key of that path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The name of the one section that may stand many times.
pub const APP: &str = "app";

/// What each section is about, in the order of the reference.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "outbound",
        "Where requests to identity providers may go. Public addresses are always allowed, others only when they are listed.",
    ),
    ("gate", "The listener that reverse proxies ask."),
    ("organizations", "Who may make organizations."),
    ("log", "The log, on standard error."),
    ("tls", "Serving https without a proxy in front."),
    ("sqlite", "Only for `database = \"sqlite:…\"`."),
    (
        APP,
        "One table for each application that is protected; give as many as there are. In the file only, not in the environment.",
    ),
];

/// Every key.
pub const KEYS: &[Key] = &[
    Key {
        path: "base_url",
        kind: Kind::Text,
        default: Some("http://localhost:8080"),
        example: r#""https://sso.example.com""#,
        about: "The address under which browsers reach Doorward's own pages; every absolute URL, the redirect URIs \
                included, is built from it. It may carry a path. Plain http is for localhost only.",
    },
    Key {
        path: "listen",
        kind: Kind::Text,
        default: Some("127.0.0.1:8080"),
        example: r#""127.0.0.1:8080""#,
        about: "Address and port of the main listener: the pages, and the applications that have an upstream.",
    },
    Key {
        path: "database",
        kind: Kind::Text,
        default: Some("sqlite:data/doorward.db"),
        example: r#""sqlite:data/doorward.db""#,
        about: "`sqlite:PATH` for one node, or `postgres://USER:PASSWORD@HOST/DATABASE` for many. A path is relative \
                to the working directory.",
    },
    Key {
        path: "master_key_file",
        kind: Kind::Text,
        default: Some("data/master.key"),
        example: r#""data/master.key""#,
        about: "The key that seals secrets in the database. Made on first start with mode 0600; keep its copy apart \
                from the database's.",
    },
    Key {
        path: "metrics_listen",
        kind: Kind::Text,
        default: None,
        example: r#""127.0.0.1:9090""#,
        about: "Address and port of a listener that serves `/metrics` alone. Off unless given.",
    },
    Key {
        path: "same_host",
        kind: Kind::OneOf(&["refused", "trusted"]),
        default: Some("refused"),
        example: r#""refused""#,
        about: "Whether an application may live on the host of `base_url`. `trusted` means that the application could \
                act in the name of everybody signed in; every settings page then says so.",
    },
    Key {
        path: "outbound.allow",
        kind: Kind::List,
        default: Some("[]"),
        example: r#"["10.0.0.5:8443"]"#,
        about: "Addresses with port that admins' URLs may reach although they are not public, such as a provider in \
                the own network.",
    },
    Key {
        path: "outbound.extra_ca_file",
        kind: Kind::Text,
        default: None,
        example: r#""/etc/doorward/company-ca.pem""#,
        about: "Certificates (PEM) that are trusted besides the system's, for providers with a company's own authority.",
    },
    Key {
        path: "gate.listen",
        kind: Kind::Text,
        default: Some("127.0.0.1:8081"),
        example: r#""127.0.0.1:8081""#,
        about: "Address and port of the gate's listener. Only reverse proxies need to reach it.",
    },
    Key {
        path: "gate.trusted_proxies",
        kind: Kind::List,
        default: Some("[]"),
        example: r#"["127.0.0.1"]"#,
        about: "Addresses or networks (`10.1.0.0/16`) of the proxies that may ask the gate, and whose forwarded client \
                address counts. Others get 403.",
    },
    Key {
        path: "organizations.create",
        kind: Kind::OneOf(&["operators", "anyone"]),
        default: Some("operators"),
        example: r#""operators""#,
        about: "Who may make an organization: operators, or anyone who is signed in.",
    },
    Key {
        path: "log.format",
        kind: Kind::OneOf(&["human", "json"]),
        default: Some("human"),
        example: r#""json""#,
        about: "Lines for people, or one JSON object a line.",
    },
    Key {
        path: "log.level",
        kind: Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
        default: Some("info"),
        example: r#""info""#,
        about: "How much is logged. `info` has a line for each page, `debug` one for each answer of the gate too.",
    },
    Key {
        path: "tls.certificate_file",
        kind: Kind::Text,
        default: None,
        example: r#""/etc/doorward/tls.crt""#,
        about: "The certificate and its chain (PEM): then the main listener speaks https. Read again on SIGHUP.",
    },
    Key {
        path: "tls.key_file",
        kind: Kind::Text,
        default: None,
        example: r#""/etc/doorward/tls.key""#,
        about: "The certificate's private key (PEM, without a passphrase). Goes with `certificate_file`.",
    },
    Key {
        path: "sqlite.synchronous",
        kind: Kind::OneOf(&["full", "normal"]),
        default: Some("full"),
        example: r#""full""#,
        about: "`full` loses nothing at a power failure; `normal` is faster and may lose the last moments, never more.",
    },
    Key {
        path: "app.name",
        kind: Kind::Text,
        default: None,
        example: r#""hub""#,
        about: "A short name of small letters, digits and `-`: in the log, the figures, and as the assertion's \
                audience. Required.",
    },
    Key {
        path: "app.host",
        kind: Kind::Text,
        default: None,
        example: r#""hub.example.com""#,
        about: "The host under which browsers reach the application, with its port if that is not the usual one; or \
                `{org}.hub.example.com`, where the first label names the organization. Required.",
    },
    Key {
        path: "app.belongs_to",
        kind: Kind::Text,
        default: None,
        example: r#""acme""#,
        about: "The organization that the whole application belongs to, but for what a pattern with `{org}` names.",
    },
    Key {
        path: "app.upstream",
        kind: Kind::Text,
        default: None,
        example: r#""http://127.0.0.1:3000""#,
        about: "Where the built-in proxy sends what it lets through. Only without another proxy in front.",
    },
    Key {
        path: "app.banner",
        kind: Kind::OneOf(&["off", "on"]),
        default: Some("off"),
        example: r#""on""#,
        about: "Whether the built-in proxy puts a banner into the application's pages where single sign-on is optional and \
                missing. Needs an `upstream`; behind another proxy, the application reads `Doorward-Sso`.",
    },
    Key {
        path: "app.organization",
        kind: Kind::List,
        default: Some("[]"),
        example: r#"["/{org}/{resource}/**", "/{org}/**"]"#,
        about: "Patterns that tell organization and resource from a path; the first match wins. `{x}` is one segment, \
                `**` any number. Where the host tells the organization, patterns have no `{org}`. With such a host or \
                `belongs_to`, no patterns at all mean that everything is the organization's.",
    },
    Key {
        path: "app.public",
        kind: Kind::List,
        default: Some("[]"),
        example: r#"["/", "/static/**"]"#,
        about: "Patterns of paths that are open to everybody.",
    },
    Key {
        path: "app.unowned",
        kind: Kind::OneOf(&["deny", "signed_in", "allow"]),
        default: Some("deny"),
        example: r#""deny""#,
        about: "What happens to a path that belongs to no organization.",
    },
    Key {
        path: "app.assertion",
        kind: Kind::Flag,
        default: Some("true"),
        example: "false",
        about: "Whether `Doorward-Assertion` is signed for this application. `false` only where nobody reads it: the \
                header is empty then, and a check by somebody who has not asked for half a minute costs no signature.",
    },
    Key {
        path: "app.rules",
        kind: Kind::Rules,
        default: Some("[]"),
        example: r#"[{ methods = ["DELETE"], path = "/{org}/settings/**", role = "admin" }]"#,
        about: "Which role a method needs on a path: `read`, `contributor`, `write` or `admin`. Without a rule, GET, \
                HEAD and OPTIONS need `read`, everything else `write`.",
    },
];
