//! Values that must never be seen: passwords, client secrets, session tokens, codes.
//!
//! A `Secret` can't be printed or serialised (rule 6); reading it is visible in the code as `expose()`.
//! Tokens that we make are 32 random bytes in Base64url and are stored as their SHA-256.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use zeroize::Zeroizing;

/// A text that is hidden from logs and compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Each use is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A new token from 32 random bytes: 43 characters of Base64url.
    pub fn token(random: [u8; 32]) -> Self {
        Self::new(URL_SAFE_NO_PAD.encode(random))
    }

    /// What the store keeps of a token.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same_bytes(self.expose().as_bytes(), other.expose().as_bytes())
    }
}

impl Eq for Secret {}

/// Whether two byte strings are equal, in a time that depends on their length alone.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256 of a token: what is stored and looked up instead of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hash of what a browser sent. Any text is taken; a text that we never made is simply not found.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// For the store: 43 characters of Base64url.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From the store's text.
    pub fn from_text(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_6_a_secret_is_not_printed() {
        let secret = Secret::new("swordfish".to_owned());
        assert!(!format!("{secret:?} {:?}", secret.hash()).contains("swordfish"));
    }

    #[test]
    fn a_token_is_43_characters_and_its_hash_survives_the_store() {
        let token = Secret::token([7; 32]);
        assert_eq!(token.expose().len(), 43);
        assert_eq!(TokenHash::from_text(&token.hash().to_text()), Some(token.hash()));
    }
}
