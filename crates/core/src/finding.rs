//! One explained fault of a set-up or a sign-in: at which step, which code, with which values.

use crate::error_code::ErrorCode;
use std::fmt;

/// The step of a trip at which something was found (peers.md pain 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// The form itself.
    Settings,
    /// Metadata and keys.
    Discovery,
    /// What the provider said to the browser.
    Authorization,
    /// Redeeming the code.
    Token,
    /// The ID token's signature and claims.
    IdToken,
    /// The UserInfo answer.
    Userinfo,
    /// What Doorward makes of the identity.
    Policy,
}

impl Step {
    /// All steps in their order.
    pub const ALL: [Self; 7] = [
        Self::Settings,
        Self::Discovery,
        Self::Authorization,
        Self::Token,
        Self::IdToken,
        Self::Userinfo,
        Self::Policy,
    ];

    /// The step's name in the store, in JSON and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Discovery => "discovery",
            Self::Authorization => "authorization",
            Self::Token => "token",
            Self::IdToken => "id_token",
            Self::Userinfo => "userinfo",
            Self::Policy => "policy",
        }
    }

    /// The step of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

/// One explained fault. Values come from outside: they are escaped where shown, bounded here, and never secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Where it was found.
    pub step: Step,
    /// What it is; remedy and fault follow from the code.
    pub code: ErrorCode,
    /// Named values that help: (`expected`, …), (`found`, …), (`field`, …). At most 8, each at most 300 characters.
    pub values: Vec<(String, String)>,
    /// The provider's own words, if it said any. At most 600 characters.
    pub provider_words: Option<String>,
}

impl Finding {
    /// A finding with nothing but its code.
    pub fn new(step: Step, code: ErrorCode) -> Self {
        Self { step, code, values: Vec::new(), provider_words: None }
    }

    /// Adds a named value, shortened to 300 characters and freed of control characters.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        if self.values.len() < 8 {
            self.values.push((name.to_owned(), bounded(&value.to_string(), 300)));
        }
        self
    }

    /// Adds the provider's own words, shortened to 600 characters and freed of control characters.
    #[must_use]
    pub fn with_provider_words(mut self, words: &str) -> Self {
        let words = bounded(words, 600);
        self.provider_words = (!words.is_empty()).then_some(words);
        self
    }
}

/// The first `max` characters, each run of control characters made one blank.
pub fn bounded(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut blank = false;
    for c in text.trim().chars().take(max) {
        // Bidirectional overrides could turn a line on a page or in a terminal around.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            if !blank {
                out.push(' ');
            }
            blank = true;
        } else {
            out.push(c);
            blank = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_outside_are_bounded_and_hold_no_control_characters() {
        let finding = Finding::new(Step::Token, ErrorCode::OidcTokenStatus)
            .with("found", "a\r\nb\u{202e}c")
            .with_provider_words(&"x".repeat(5000));
        assert_eq!(finding.values[0].1, "a b c");
        assert_eq!(finding.provider_words.map(|w| w.len()), Some(600));
    }
}
