//! Every error that a person or a program can meet: a stable code, who must act, and the next step.
//!
//! A code never changes its meaning and never vanishes. The page, the problem document, the finding and the audit
//! entry all follow from this one table; `docs/reference/error-codes.md` is generated from it.

use std::fmt;

/// Who has to act. The page's tone and the addressee of the remedy follow from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The organization's admin, at the settings page or in the provider's console.
    Admin,
    /// The identity provider, or whoever runs it.
    Provider,
    /// The person in front of the browser.
    Member,
    /// Whoever runs Doorward and the application.
    Operator,
    /// Nobody: it happens, and the page simply goes on.
    Nobody,
}

impl Fault {
    /// The addressee, as the page names him.
    pub const fn who(self) -> &'static str {
        match self {
            Self::Admin => "an admin of the organization",
            Self::Provider => "the identity provider",
            Self::Member => "you",
            Self::Operator => "the operator of this site",
            Self::Nobody => "nobody",
        }
    }
}

macro_rules! error_codes {
    ($( $variant:ident = $code:literal, $fault:ident, $status:literal, $title:literal, $meaning:literal, $remedy:literal; )*) => {
        /// A stable error code, `area.cause`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ErrorCode {
            $(
                #[doc = $meaning]
                $variant,
            )*
        }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code itself: `area.cause`, stable for ever.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// Who has to act.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),* }
            }

            /// The HTTP status of a page or problem document with this code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// A heading of a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What happened, in one or two sentences.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// The next step for whoever has to act.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),* }
            }
        }
    };
}

impl ErrorCode {
    /// The code of that name.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

include!("error_code_table.rs");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_code_is_unique_and_of_the_form_area_dot_cause() {
        let mut seen = HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            let (area, cause) = code.as_str().split_once('.').unwrap();
            assert!(
                area.bytes().all(|b| b.is_ascii_lowercase())
                    && cause.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()),
                "{code}"
            );
            assert_eq!(ErrorCode::from_code(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn rule_18_no_text_calls_a_benign_cause_an_attack_or_an_invalid_state() {
        for code in ErrorCode::ALL {
            let text = format!("{} {} {}", code.title(), code.meaning(), code.remedy()).to_lowercase();
            assert!(
                !text.contains("attack") && !text.contains("invalid state") && !text.contains("csrf"),
                "{code}"
            );
            assert!(
                !code.remedy().is_empty() && code.meaning().ends_with('.') && code.remedy().ends_with('.'),
                "{code}"
            );
        }
    }
}
