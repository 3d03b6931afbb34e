//! Three texts of something that is kept a million times, one after the other.
//!
//! Up to `N` octets lie in their owner, so that they take no block of memory of their own and are read with the rest of
//! it; longer ones lie beside it. Choose `N` where the owner's block is rounded up to anyway (ADR 0039).

/// Three texts. `N`: how many octets lie here; less than 256.
#[derive(Debug)]
pub(super) enum Texts<const N: usize> {
    /// Where each ends, and all of them.
    Here([u8; 3], [u8; N]),
    /// The same, longer.
    There([u32; 3], Box<str>),
}

impl<const N: usize> Texts<N> {
    const FITS: () = assert!(N < 256, "where a text ends is kept in an octet");

    pub(super) fn new(texts: [&str; 3]) -> Self {
        let () = Self::FITS;
        let mut end = 0;
        let ends = texts.map(|text| {
            end += text.len();
            end
        });
        let all = texts.concat();
        let mut here = [0; N];
        match here.get_mut(..all.len()) {
            Some(room) => {
                room.copy_from_slice(all.as_bytes());
                Self::Here(ends.map(|end| u8::try_from(end).unwrap_or(u8::MAX)), here)
            }
            None => Self::There(ends.map(|end| u32::try_from(end).unwrap_or(u32::MAX)), all.into()),
        }
    }

    /// One of the three, by its place from 0.
    pub(super) fn text(&self, place: usize) -> &str {
        str::from_utf8(self.octets(place)).unwrap_or_default()
    }

    /// The same in octets, for whoever only compares.
    pub(super) fn octets(&self, place: usize) -> &[u8] {
        let (all, ends): (&[u8], _) = match self {
            Self::Here(ends, all) => (all, ends.map(usize::from)),
            Self::There(ends, all) => (all.as_bytes(), ends.map(|end| end as usize)),
        };
        let from = place.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
        let to = ends.get(place).copied().unwrap_or(from);
        all.get(from..to).unwrap_or_default()
    }

    /// Whether they take no memory of their own.
    #[cfg(test)]
    pub(super) fn lies_here(&self) -> bool {
        matches!(self, Self::Here(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_the_same_wherever_they_lie() {
        let (none, long, longer) = (String::new(), "ä".repeat(20), "n".repeat(100_000));
        for texts in
            [[&none, &none, &none], [&none, &long, &none], [&long, &none, &long], [&none, &longer, &long]]
        {
            let texts = texts.map(String::as_str);
            let kept = Texts::<40>::new(texts);
            assert_eq!(
                [kept.text(0), kept.text(1), kept.text(2), kept.text(3)],
                [texts[0], texts[1], texts[2], ""]
            );
            assert_eq!(kept.octets(1), texts[1].as_bytes());
            assert_eq!(kept.lies_here(), texts.concat().len() <= 40);
        }
    }
}
