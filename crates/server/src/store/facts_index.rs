//! To which records a key may lead: an index from 64 bits of a hash to slots of a table, in six octets a place.
//!
//! A place holds 28 bits of the hash and 20 of the slot, so what it names is a candidate: whoever asks compares, and goes
//! on to the next. Eight other bits of the hash tell in which of 256 parts a key lies; there, its search begins where its hash
//! falls in the whole length and ends at the first empty place. A part grows by a quarter when seven eighths are taken, each
//! at another time: nobody waits long, and what a key takes doesn't depend on how many there are.
//! Invariant: a place is empty; there is none between where a key's search begins and where the key lies.

const PARTS: usize = 256;
const HASH_BITS: u32 = 28;
const SLOT_BITS: u32 = 48 - HASH_BITS;

/// Slots are less than this.
pub(super) const SLOTS_MAX: usize = (1 << SLOT_BITS) - 1;

/// 64 bits of a hash that strangers can't steer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) const fn new(hash: u64) -> Self {
        Self(hash)
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than PARTS")]
    const fn part(self) -> usize {
        (self.0 % PARTS as u64) as usize
    }

    const fn hash(self) -> u64 {
        (self.0 / PARTS as u64) & ((1 << HASH_BITS) - 1)
    }
}

/// 28 bits of a hash and, in the lower 20, the number after a slot's; all zero when empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place([u8; 6]);

impl Place {
    const EMPTY: Self = Self([0; 6]);

    const fn new(key: Key, slot: u32) -> Self {
        let [b0, b1, b2, b3, b4, b5, ..] = ((key.hash() << SLOT_BITS) | (slot as u64 + 1)).to_le_bytes();
        Self([b0, b1, b2, b3, b4, b5])
    }

    const fn number(self) -> u64 {
        let Self([b0, b1, b2, b3, b4, b5]) = self;
        u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0])
    }

    const fn hash(self) -> u64 {
        self.number() >> SLOT_BITS
    }

    const fn slot(self) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "twenty bits")]
        let after = self.number() as u32 & ((1 << SLOT_BITS) - 1);
        after.checked_sub(1)
    }
}

/// Where the search for a hash begins among so many places.
const fn home(hash: u64, places: usize) -> usize {
    // Less than `places`, as the hash is less than 1 << HASH_BITS.
    ((hash * places as u64) >> HASH_BITS) as usize
}

pub(super) struct Index {
    parts: Vec<Part>,
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(Part::new).collect() }
    }
}

impl Index {
    /// The slots that a key may lead to.
    pub(super) fn slots(&self, key: Key) -> impl Iterator<Item = u32> {
        let places = self.parts.get(key.part()).map_or(&[][..], |part| &part.places);
        let hash = key.hash();
        let (early, late) = places.split_at_checked(home(hash, places.len())).unwrap_or_default();
        let path = late.iter().chain(early).take_while(|&&place| place != Place::EMPTY);
        path.filter(move |place| place.hash() == hash).filter_map(|place| place.slot())
    }

    /// Lets a key lead to a slot, too.
    pub(super) fn insert(&mut self, key: Key, slot: u32) {
        if let Some(part) = self.parts.get_mut(key.part()) {
            part.insert(key, slot);
        }
    }

    /// Lets a key no longer lead to a slot.
    pub(super) fn remove(&mut self, key: Key, slot: u32) {
        if let Some(part) = self.parts.get_mut(key.part()) {
            part.remove(key, slot);
        }
    }

    /// How many keys lead somewhere.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.taken).sum()
    }
}

struct Part {
    places: Vec<Place>,
    taken: usize,
    /// How long it is at first: from 64 to 79, so that the parts grow by turns and not all at the same time.
    first: usize,
}

impl Part {
    fn new(number: usize) -> Self {
        Self { places: Vec::new(), taken: 0, first: 64 + number % 16 }
    }

    fn insert(&mut self, key: Key, slot: u32) {
        if (self.taken + 1) * 8 > self.places.len() * 7 {
            self.grow();
        }
        put(&mut self.places, Place::new(key, slot));
        self.taken += 1;
    }

    fn grow(&mut self) {
        let length = (self.places.len() + self.places.len() / 4).max(self.first);
        let mut longer = vec![Place::EMPTY; length];
        for place in self.places.iter().filter(|&&place| place != Place::EMPTY) {
            put(&mut longer, *place);
        }
        self.places = longer;
    }

    fn remove(&mut self, key: Key, slot: u32) {
        let wanted = Place::new(key, slot);
        let length = self.places.len();
        let begin = home(key.hash(), length);
        let path = (begin..length).chain(0..begin);
        let mut taken = path.take_while(|&at| self.at(at) != Place::EMPTY);
        let Some(mut hole) = taken.find(|&at| self.at(at) == wanted) else { return };
        self.taken -= 1;
        // What lies behind the hole, up to the next empty place, moves into it if its search comes by there.
        let mut at = hole;
        loop {
            at = if at + 1 < length { at + 1 } else { 0 };
            let place = self.at(at);
            if place == Place::EMPTY {
                break;
            }
            let begin = home(place.hash(), length);
            let steps_to = |end: usize| (end + length - begin) % length;
            if steps_to(hole) < steps_to(at) {
                self.set(hole, place);
                hole = at;
            }
        }
        self.set(hole, Place::EMPTY);
    }

    fn at(&self, at: usize) -> Place {
        self.places.get(at).copied().unwrap_or(Place::EMPTY)
    }

    fn set(&mut self, at: usize, place: Place) {
        if let Some(there) = self.places.get_mut(at) {
            *there = place;
        }
    }
}

/// Lays a place where its search finds it; one of `places` is empty.
fn put(places: &mut [Place], place: Place) {
    let begin = home(place.hash(), places.len());
    let Some((early, late)) = places.split_at_mut_checked(begin) else { return };
    if let Some(empty) = late.iter_mut().chain(early).find(|there| **there == Place::EMPTY) {
        *empty = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn slots(index: &Index, key: u64) -> Vec<u32> {
        let mut slots: Vec<u32> = index.slots(Key::new(key)).collect();
        slots.sort_unstable();
        slots
    }

    proptest! {
        /// Few hashes, at the beginning, in the middle and at the end of one part, so that their searches cross each
        /// other and go on from the end to the beginning.
        #[test]
        fn the_index_leads_where_a_plain_map_leads(
            steps in prop::collection::vec((0_u64..12, 0_u32..4, prop::bool::weighted(0.6)), 0..400)
        ) {
            let key_of = |n: u64| [n, (1 << 27) + (n << 20), (1 << 28) - 1 - n][usize::try_from(n % 3).unwrap()] << 8;
            let mut index = Index::default();
            let mut plain: HashMap<u64, Vec<u32>> = HashMap::new();
            for (n, slot, insert) in steps {
                let (key, led) = (key_of(n), plain.entry(n).or_default());
                if insert {
                    index.insert(Key::new(key), slot);
                    led.push(slot);
                } else {
                    index.remove(Key::new(key), slot);
                    if let Some(at) = led.iter().position(|&known| known == slot) {
                        led.remove(at);
                    }
                }
                for (n, led) in &mut plain {
                    led.sort_unstable();
                    prop_assert_eq!(&slots(&index, key_of(*n)), led);
                }
                prop_assert_eq!(index.len(), plain.values().map(Vec::len).sum::<usize>());
            }
        }
    }

    /// Numbers like hashes, each another.
    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    #[test]
    fn an_index_is_full_to_three_quarters_and_more_however_many_keys_there_are() {
        let mut index = Index::default();
        for n in 0..60_000 {
            index.insert(Key::new(hash(n)), u32::try_from(n).unwrap());
            if n > 20_000 && n % 1_000 == 0 {
                let places: usize = index.parts.iter().map(|part| part.places.len()).sum();
                let percent = index.len() * 100 / places;
                assert!((76..=81).contains(&percent), "{percent} % of {places}");
                assert!(index.parts.iter().all(|part| part.taken * 8 <= part.places.len() * 7));
            }
        }
        for n in (0..60_000).step_by(2) {
            index.remove(Key::new(hash(n)), u32::try_from(n).unwrap());
        }
        for n in 0..60_000 {
            let found = slots(&index, hash(n)).contains(&u32::try_from(n).unwrap());
            assert_eq!(found, n % 2 == 1, "{n}");
        }
    }

    #[test]
    fn the_last_slot_and_the_first_are_told_from_none() {
        let last = u32::try_from(SLOTS_MAX).unwrap() - 1;
        for (key, slot) in [(0, 0), (u64::MAX, last), (0, last)] {
            let place = Place::new(Key::new(key), slot);
            assert_eq!((place.hash(), place.slot()), (key & 0x0fff_ffff, Some(slot)));
        }
        assert_eq!(Place::EMPTY.slot(), None);
        assert!(slots(&Index::default(), 7).is_empty());
    }
}
