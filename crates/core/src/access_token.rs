//! Personal access tokens: how one is written, how one is found in `Authorization`, and for how long it reaches an
//! organization with single sign-on (docs/adr/0040).
//!
//! `dwp_`, 32 characters of 160 random bits, 6 characters of a checksum: scanners of source code know one by its form,
//! and what is mistyped or made up in passing is refused without a question to the store. The checksum is no secret.
//! Never here: whose a token is. Invariant: what [`presented`] calls foreign holds no token of ours, so it may go on to
//! an application.

use aws_lc_rs::digest;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};

use crate::secret::{Secret, TokenHash};
use crate::time::{Lifetime, Timestamp};

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "dwp_";
/// What an organization's token for the JSON API begins with.
pub const API_TOKEN_PREFIX: &str = "dwo_";
/// Tokens that an account may have at once.
pub const TOKENS_MAX: i64 = 50;
/// Longest name of a token, in characters.
pub const TOKEN_NAME_CHARACTERS_MAX: usize = 100;
/// For how many days a token is good unless its maker says otherwise.
pub const TOKEN_DAYS_DEFAULT: i64 = 30;
/// For how many days at most.
pub const TOKEN_DAYS_MAX: i64 = 365;
/// For how many days after its owner's last SSO a token reaches an organization with SSO, unless that set less; the most
/// that it may set.
pub const TOKEN_SSO_DAYS: i64 = 30;

/// Digits and small letters without those that are taken for others (Crockford's Base32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const RANDOM_CHARACTERS: usize = 32;
const CHECK_CHARACTERS: usize = 6;

/// A new token from twenty random bytes.
pub fn new_access_token(random: [u8; 20]) -> Secret {
    let mut text = String::from(TOKEN_PREFIX);
    let (high, low) = random.split_at(10);
    for half in [high, low] {
        let bits = half.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        push_characters(&mut text, bits, RANDOM_CHARACTERS / 2);
    }
    let check = checksum(&text);
    push_characters(&mut text, check, CHECK_CHARACTERS);
    Secret::new(text)
}

/// The lowest `5 * count` bits, the lowest first.
fn push_characters(text: &mut String, mut bits: u128, count: usize) {
    for _ in 0..count {
        let place = usize::try_from(bits & 31).unwrap_or(0);
        text.push(ALPHABET.get(place).copied().map_or('0', char::from));
        bits >>= 5;
    }
}

fn checksum(text: &str) -> u128 {
    digest::digest(&digest::SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .take(4)
        .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// What the store keeps of a token; nothing of a text that can't be one.
pub fn access_token_hash(text: &str) -> Option<TokenHash> {
    let characters = text.strip_prefix(TOKEN_PREFIX)?;
    let right = characters.len() == RANDOM_CHARACTERS + CHECK_CHARACTERS
        && characters.bytes().all(|b| ALPHABET.contains(&b));
    if !right {
        return None;
    }
    let (signed, check) = text.split_at_checked(text.len() - CHECK_CHARACTERS)?;
    let mut expected = String::new();
    push_characters(&mut expected, checksum(signed), CHECK_CHARACTERS);
    (check == expected).then(|| TokenHash::of(text))
}

/// What a request's `Authorization` holds, as far as we are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presented {
    /// Nothing of ours: it goes on to the application and says nothing to us.
    Foreign,
    /// One token of ours, well formed.
    Token(TokenHash),
    /// Something that begins as a token of ours and is none, or more than one credential of which one is ours.
    Unreadable,
}

/// Reads the values of `Authorization`: `Bearer` with the token, or `Basic` with the token as the password and any user
/// name, as git hosts take it. `values`: each header's octets.
pub fn presented<'v>(values: impl Iterator<Item = &'v [u8]>) -> Presented {
    // A proxy may have joined two headers by a comma. No credentials of ours hold one.
    let all: Vec<Presented> =
        values.flat_map(|value| value.split(|b| *b == b',')).map(of_credentials).collect();
    match all.as_slice() {
        [only] => *only,
        all if all.iter().all(|one| *one == Presented::Foreign) => Presented::Foreign,
        _ => Presented::Unreadable,
    }
}

/// Longest value that is looked into, in bytes: a proxy takes no longer head anyway.
const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;

/// What one value holds.
fn of_credentials(value: &[u8]) -> Presented {
    let value = value.trim_ascii();
    let at = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, credentials) = value.split_at_checked(at).unwrap_or_default();
    let credentials = credentials.trim_ascii_start();
    if is_ours(credentials) && scheme.eq_ignore_ascii_case(b"bearer") {
        return read(credentials);
    }
    if has_ours(value) {
        return Presented::Unreadable;
    }
    if !scheme.eq_ignore_ascii_case(b"basic") || credentials.len() > CREDENTIALS_BYTES_MAX {
        return Presented::Foreign;
    }
    // Some decoders are generous; what an application could read must be read here.
    let decoded = [&STANDARD, &URL_SAFE].into_iter().find_map(|base64| base64.decode(credentials).ok());
    let pair = decoded.unwrap_or_default();
    let mut parts = pair.splitn(2, |b| *b == b':');
    let (name, password) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if is_ours(password) && !has_ours(name) {
        return read(password);
    }
    if has_ours(&pair) { Presented::Unreadable } else { Presented::Foreign }
}

/// Whether a word begins as a token of ours does, wherever it stands: a program may forget the scheme, write it twice, or
/// quote what follows.
fn has_ours(text: &[u8]) -> bool {
    text.split(|b| b.is_ascii_whitespace() || b"\"'=:".contains(b)).any(is_ours)
}

/// An organization's token for the JSON API is ours too: it speaks for nobody here, and no application may have it.
fn is_ours(text: &[u8]) -> bool {
    text.starts_with(TOKEN_PREFIX.as_bytes()) || text.starts_with(API_TOKEN_PREFIX.as_bytes())
}

fn read(token: &[u8]) -> Presented {
    let hash = std::str::from_utf8(token).ok().and_then(access_token_hash);
    hash.map_or(Presented::Unreadable, Presented::Token)
}

const GENEROUS: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, GENEROUS);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, GENEROUS);

/// Until when an authorised token reaches an organization with SSO: so many days after its owner last completed it.
pub const fn token_reaches_until(last_sso_at: Timestamp, days: i64) -> Timestamp {
    last_sso_at.plus(Lifetime::from_days(days))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use proptest::prelude::*;

    fn token(n: u8) -> Secret {
        new_access_token([n; 20])
    }

    fn one(value: &str) -> Presented {
        presented([value.as_bytes()].into_iter())
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64.encode(pair))
    }

    #[test]
    fn a_token_has_one_form_and_its_hundred_and_sixty_bits_all_count() {
        let mut seen = std::collections::HashSet::new();
        for bit in 0..160 {
            let mut random = [0_u8; 20];
            random[bit / 8] = 1 << (bit % 8);
            let token = new_access_token(random);
            let text = token.expose();
            assert_eq!(text.len(), 42);
            assert!(text.starts_with("dwp_") && text[4..].bytes().all(|b| ALPHABET.contains(&b)), "{text}");
            assert_eq!(access_token_hash(text), Some(token.hash()));
            assert!(seen.insert(text[4..36].to_owned()), "bit {bit}");
        }
    }

    #[test]
    fn rule_9_a_token_with_one_character_changed_is_known_to_be_none_without_a_question_to_the_store() {
        let token = token(7);
        for place in 4..42 {
            let mut changed = token.expose().as_bytes().to_vec();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(access_token_hash(std::str::from_utf8(&changed).unwrap()), None, "{place}");
        }
        for other in ["", "dwp_", "dwp_0", &token.expose()[..41], &format!("{}0", token.expose())] {
            assert_eq!(access_token_hash(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_found_as_bearer_and_as_the_password_of_basic() {
        let token = token(3);
        let text = token.expose();
        for value in [
            format!("Bearer {text}"),
            format!("bearer {text}"),
            format!("BEARER   {text}"),
            basic(&format!("mira:{text}")),
            basic(&format!(":{text}")),
            basic(&format!("x-access-token:{text}")).replace("Basic", "basic"),
            basic(&format!("mira:{text}")).trim_end_matches('=').to_owned(),
            basic(&format!("mira~?~?:{text}")).replace('+', "-").replace('/', "_"),
        ] {
            assert_eq!(one(&value), Presented::Token(token.hash()), "{value}");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for value in [
            "",
            "Bearer",
            "Bearer eyJhbGciOiJFUzI1NiJ9.dwp_.x",
            "Bearer xdwp_0000",
            "Negotiate YII=",
            "Basic",
            "Basic !!!",
            "Digest username=\"dwp\", realm=\"x\", nonce=\"y\"",
            &basic("mira:swordfish"),
            &basic("mira:xdwp_"),
            &basic("no colon"),
            "Digest username=\"dwp\", realm=\"xdwp_\"",
        ] {
            assert_eq!(one(value), Presented::Foreign, "{value}");
        }
        assert_eq!(presented(std::iter::empty()), Presented::Foreign);
        assert_eq!(presented([&b"Basic \xff"[..], b"Bearer a"].into_iter()), Presented::Foreign);
    }

    #[test]
    fn what_begins_as_ours_and_is_no_single_good_one_is_unreadable_and_never_foreign() {
        let text = token(9).expose().to_owned();
        for value in [
            "Bearer dwp_".to_owned(),
            format!("Bearer {text}x"),
            format!("token {text}"),
            format!("Bearer\t{text}, Basic bWlyYTp4"),
            basic(&format!("{text}:x-oauth-basic")),
            basic(&text),
            basic("mira:dwp_mistyped"),
            format!("Basic bWlyYTp4,Bearer {text}"),
            "dwp_alone".to_owned(),
            text.clone(),
            format!("Bearer Bearer {text}"),
            format!("Bearer \"{text}\""),
            format!("Bearer '{text}'"),
            format!("Bearer={text}"),
            format!("Bearer token=\"{text}\""),
            format!("Basic {text}"),
            format!("Basic bWlyYTp4 {text}"),
            format!("Digest username=\"{text}\", realm=\"x\""),
            "Token token=dwo_0000".to_owned(),
            basic(&format!("{text}:{text}")),
            basic(&format!("mira:x:{text}")),
            basic(&format!("mira: {text}")),
            basic(&format!("mira \"{text}\":x")),
        ] {
            assert_eq!(one(&value), Presented::Unreadable, "{value}");
        }
        let bearer = format!("Bearer {text}");
        for two in [[bearer.as_bytes(), bearer.as_bytes()], [b"Basic bWlyYTp4", bearer.as_bytes()]] {
            assert_eq!(presented(two.into_iter()), Presented::Unreadable);
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_reader_panic_and_none_with_a_token_at_its_place_is_foreign(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            scheme in "[A-Za-z]{1,10}",
            random in any::<[u8; 20]>(),
        ) {
            let _ = presented([before.as_slice()].into_iter());
            let token = new_access_token(random);
            let value = format!("{scheme} {}", token.expose());
            prop_assert_ne!(one(&value), Presented::Foreign);
            for between in ["", " ", "\t", "=", "\"", "'", "Bearer ", "Basic x "] {
                prop_assert_ne!(one(&format!("{between}{}", token.expose())), Presented::Foreign);
                prop_assert_ne!(one(&format!("{scheme} {between}{}", token.expose())), Presented::Foreign);
            }
            let two = [before.as_slice(), value.as_bytes()];
            prop_assert_eq!(presented(two.into_iter()), Presented::Unreadable);
        }
    }
}
