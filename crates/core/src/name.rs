//! Names of accounts and organizations: one namespace, compared in lower case (hub-sso.md V; rule 7).

use std::fmt;

/// A name as it was created, with its lower-case key. Letters, digits and `-`; no `--`; no `-` at either end; not
/// digits only; 2 to 42 characters; not reserved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    spelled: String,
    key: String,
}

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 42;

/// Why a text can't be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Shorter than 2 or longer than 42 characters.
    #[error("a name has 2 to 42 characters")]
    Length,
    /// Something other than letters, digits and `-`.
    #[error("a name has letters, digits and - only")]
    Characters,
    /// A hyphen at an end, or two together.
    #[error("a name neither starts nor ends with -, and has no --")]
    Hyphens,
    /// Digits only.
    #[error("a name is not digits only")]
    DigitsOnly,
    /// One of our own paths, or a word that would mislead.
    #[error("this name is reserved")]
    Reserved,
}

/// First segments of our own paths, and words that would mislead on a page or in a path.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "apps",
    "assets",
    "auth",
    "authorize",
    "blog",
    "callback",
    "consume",
    "dashboard",
    "docs",
    "doorward",
    "explore",
    "favicon-ico",
    "forward-auth",
    "auth-request",
    "ext-authz",
    "gate",
    "graphql",
    "healthz",
    "help",
    "home",
    "index",
    "invite",
    "invitations",
    "join",
    "login",
    "logout",
    "me",
    "metrics",
    "new",
    "null",
    "oauth",
    "oidc",
    "operator",
    "org",
    "organization",
    "organizations",
    "orgs",
    "password",
    "pricing",
    "privacy",
    "public",
    "readyz",
    "robots-txt",
    "root",
    "saml",
    "scim",
    "search",
    "security",
    "self",
    "session",
    "sessions",
    "settings",
    "setup",
    "sign-in",
    "sign-out",
    "sign-up",
    "signin",
    "signout",
    "signup",
    "sso",
    "start",
    "static",
    "status",
    "support",
    "system",
    "terms",
    "undefined",
    "user",
    "users",
    "well-known",
    "webhooks",
    "www",
];

impl Name {
    /// Takes a name that somebody wants to have.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if !(2..=NAME_BYTES_MAX).contains(&text.len()) {
            return Err(InvalidName::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(InvalidName::Characters);
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(InvalidName::Hyphens);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidName::DigitsOnly);
        }
        let key = text.to_ascii_lowercase();
        if RESERVED.contains(&key.as_str()) {
            return Err(InvalidName::Reserved);
        }
        Ok(Self { spelled: text.to_owned(), key })
    }

    /// A name that the store holds: it was judged when it was given, by the rules of that day.
    pub fn from_store(spelled: String) -> Self {
        let key = spelled.to_ascii_lowercase();
        Self { spelled, key }
    }

    /// The spelling as created: what pages and the redirect URI show.
    pub fn as_str(&self) -> &str {
        &self.spelled
    }

    /// The lower-case form: what is looked up and compared.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_hub_sso_v() {
        for good in ["ab", "acme", "Acme-Corp", "a1", "1a", &"a".repeat(42)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("a", InvalidName::Length),
            ("", InvalidName::Length),
            (&*"a".repeat(43), InvalidName::Length),
            ("a_b", InvalidName::Characters),
            ("a/b", InvalidName::Characters),
            ("é2", InvalidName::Characters),
            ("a--b", InvalidName::Hyphens),
            ("-ab", InvalidName::Hyphens),
            ("ab-", InvalidName::Hyphens),
            ("123", InvalidName::DigitsOnly),
            ("Settings", InvalidName::Reserved),
        ] {
            assert_eq!(Name::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn rule_7_a_name_keeps_its_spelling_and_compares_in_lower_case() {
        let name = Name::parse("AcMe").unwrap();
        assert_eq!((name.as_str(), name.key()), ("AcMe", "acme"));
    }
}
