//! E-mail addresses: one strict address, compared without regard to case (rule 13; conformance.md V38).

use std::fmt;

/// One address: exactly one `@`, no blanks, quotes, commas or brackets, an ASCII domain with a dot; at most 254
/// characters (RFC 5321 section 4.5.3.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Email {
    address: String,
    key: String,
}

/// A text that is not one plain address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct InvalidEmail;

impl Email {
    /// Takes an address that somebody typed or an identity provider sent.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let (local, domain) = text.split_once('@').ok_or(InvalidEmail)?;
        let local_ok = !local.is_empty()
            && local.len() <= 64
            && local.chars().all(|c| c.is_ascii_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c))
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let domain_ok = domain.contains('.') && domain.split('.').all(label_ok);
        if text.len() > 254 || !local_ok || !domain_ok {
            return Err(InvalidEmail);
        }
        Ok(Self { address: text.to_owned(), key: text.to_ascii_lowercase() })
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// The lower-case form: what is compared.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v38_only_one_plain_address_is_taken() {
        for good in ["a@b.example", "Mira.Holt@Fjordline.example", "x+y@sub.b.example"] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@",
            "@b.example",
            "a@b",
            "a@evil.example@corp.example",
            "a@b.example,c@d.example",
            "\"a b\"@c.example",
            "a b@c.example",
            "a@b..example",
            "a@-b.example",
            "<a@b.example>",
            "a@b.example\n",
            "a@b\u{ff0e}example",
            "ä@b.example",
        ] {
            assert_eq!(Email::parse(bad), Err(InvalidEmail), "{bad:?}");
        }
    }
}
