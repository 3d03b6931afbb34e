//! The demo's only source of randomness: identifiers, codes and secrets.
//!
//! Out: values in the shapes that Entra gives them. Never here: what they are used for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Letters of a client secret's value. 64 of them, so a random byte picks each equally often.
const SECRET_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~_";

/// Random bytes. The operating system's source does not fail once the machine is up; if it ever did, zeros in
/// a demo that keeps no secret of anybody are better than a panic.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for randomness")]
    let filled = aws_lc_rs::rand::fill(&mut out);
    debug_assert!(filled.is_ok(), "the operating system gives randomness");
    out
}

/// A new GUID, version 4.
pub(crate) fn guid() -> String {
    uuid::Builder::from_random_bytes(bytes()).into_uuid().to_string()
}

/// An opaque text of 43 characters: codes and access tokens.
pub(crate) fn opaque() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}

/// The value of a new client secret: 40 characters with the mark that newer ones carry after the third.
pub(crate) fn client_secret() -> String {
    let letter = |byte: u8| SECRET_ALPHABET.get(usize::from(byte % 64)).copied().map_or('A', char::from);
    let [head, tail] = [bytes::<3>().to_vec(), bytes::<34>().to_vec()];
    head.into_iter().map(letter).chain("8Q~".chars()).chain(tail.into_iter().map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_secret_has_entras_length_and_mark() {
        let secret = client_secret();
        assert_eq!(secret.len(), 40);
        assert_eq!(secret.get(3..6), Some("8Q~"));
        assert_ne!(secret, client_secret());
    }
}
