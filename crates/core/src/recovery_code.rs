//! Recovery codes as people write them: 80 random bits, in four groups of four characters (decisions.md).
//!
//! The alphabet is Crockford's Base32, which has no letter that is easily taken for a digit; what is typed may be in
//! either case, with blanks or hyphens anywhere, and with O for 0 and I or L for 1.

use crate::secret::{Secret, TokenHash};

/// How many codes an organization gets at once.
pub const RECOVERY_CODES: usize = 10;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 16;

/// A new code from ten random bytes: `7GQ2-MX4K-0RTD-93WZ`.
pub fn recovery_code(random: [u8; 10]) -> Secret {
    let mut bits = random.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut characters = Vec::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        let place = usize::try_from(bits & 31).unwrap_or(0);
        characters.push(ALPHABET.get(place).copied().map_or('0', char::from));
        bits >>= 5;
    }
    let groups: Vec<String> = characters.chunks(4).map(|group| group.iter().collect()).collect();
    Secret::new(groups.join("-"))
}

/// What the store keeps of a code, from what a person typed; nothing if it can't be one.
pub fn typed_recovery_code(typed: &str) -> Option<TokenHash> {
    let mut code = String::with_capacity(LENGTH);
    for c in typed.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let c = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        if code.len() == LENGTH || !c.is_ascii() || !ALPHABET.iter().any(|known| char::from(*known) == c) {
            return None;
        }
        code.push(c);
    }
    (code.len() == LENGTH).then(|| Secret::new(code).hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_four_groups_of_four_and_its_eighty_bits_all_count() {
        let code = recovery_code([0; 10]);
        assert_eq!(code.expose(), "0000-0000-0000-0000");
        assert_eq!(recovery_code([255; 10]).expose(), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        let mut seen = std::collections::HashSet::new();
        for bit in 0..80 {
            let mut random = [0_u8; 10];
            random[bit / 8] = 1 << (bit % 8);
            assert!(seen.insert(recovery_code(random).expose().to_owned()), "bit {bit}");
        }
    }

    #[test]
    fn a_code_is_known_again_however_it_is_typed() {
        let code = recovery_code([0x5a, 0x01, 0xff, 0x30, 0x22, 0x9c, 0x77, 0x00, 0xe1, 0x4d]);
        let kept = typed_recovery_code(code.expose());
        assert!(kept.is_some());
        let bare = code.expose().replace('-', "");
        for typed in
            [bare.to_lowercase(), bare.replace('0', "o").replace('1', "l"), format!(" {} ", code.expose())]
        {
            assert_eq!(typed_recovery_code(&typed), kept, "{typed}");
        }
    }

    #[test]
    fn what_can_not_be_a_code_is_none() {
        for typed in [
            "",
            "7GQ2",
            "7GQ2-MX4K-0RTD-93W",
            "7GQ2-MX4K-0RTD-93WZ5",
            "7GQ2-MX4K-0RTD-93W!",
            "ÄGQ2-MX4K-0RTD-93WZ",
        ] {
            assert_eq!(typed_recovery_code(typed), None, "{typed}");
        }
        assert_eq!(typed_recovery_code(&"7".repeat(100_000)), None);
    }
}
