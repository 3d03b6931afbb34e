//! Records in memory, each found by any of its keys: a bounded table with one block of memory a record.
//!
//! A key is 64 bits of a hash, of which the index keeps 36; what is found must be compared with what was looked for.
//! A hit takes a lock for reading; a load or a change has it alone for a microsecond. When the table is full, a record
//! that nobody asked for since the hand last came by makes room (the clock algorithm).
//! Invariant: every key of a record leads to it; a record that would lose one leaves the table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::facts_index::{Index, Key, SLOTS_MAX};

/// Every key of a record. The first is its identity: a newer record with the same one replaces it.
type KeysOf<T> = Box<dyn Fn(&T) -> Vec<Key> + Send + Sync>;

pub(super) struct Table<T> {
    inner: RwLock<Inner<T>>,
    keys: KeysOf<T>,
    most: usize,
}

struct Inner<T> {
    slots: Vec<Option<Arc<T>>>,
    /// Beside each slot: asked for since the hand last came by.
    used: Vec<AtomicBool>,
    free: Vec<u32>,
    index: Index,
    hand: usize,
}

impl<T> Default for Inner<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), used: Vec::new(), free: Vec::new(), index: Index::default(), hand: 0 }
    }
}

impl<T> Table<T> {
    /// A table of at most `most` records; of a million at most, as the index keeps slots in 20 bits.
    pub(super) fn new(most: usize, keys: impl Fn(&T) -> Vec<Key> + Send + Sync + 'static) -> Self {
        Self { inner: RwLock::default(), keys: Box::new(keys), most: most.min(SLOTS_MAX) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record that a key leads to and of which `judge` says that it is the one, with what `judge` says of it.
    pub(super) fn get<R>(&self, key: Key, judge: impl Fn(&T) -> Option<R>) -> Option<(Arc<T>, R)> {
        let inner = self.read();
        let mut candidates = inner.index.slots(key).map(|slot| slot as usize);
        let (slot, record, judged) = candidates.find_map(|slot| {
            let record = inner.slots.get(slot)?.as_ref()?;
            judge(record).map(|judged| (slot, record, judged))
        })?;
        // Looked at before it is written, so that cores which ask for the same record don't take it from each other.
        if let Some(used) = inner.used.get(slot).filter(|used| !used.load(Ordering::Relaxed)) {
            used.store(true, Ordering::Relaxed);
        }
        Some((Arc::clone(record), judged))
    }

    /// Keeps a record instead of the one with the same identity.
    pub(super) fn insert(&self, record: Arc<T>) {
        let keys = (self.keys)(&record);
        let mut inner = self.write();
        for key in &keys {
            self.take_by(&mut inner, *key);
        }
        while inner.slots.len() - inner.free.len() >= self.most {
            self.make_room(&mut inner);
        }
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(inner.slots.len()) else { return };
                // By an eighth and not twofold, so that a record's share of the table hardly depends on how many there are.
                if inner.slots.len() == inner.slots.capacity() {
                    let more = (inner.slots.len() / 8).max(64);
                    inner.slots.reserve_exact(more);
                    inner.used.reserve_exact(more);
                }
                inner.slots.push(None);
                inner.used.push(AtomicBool::new(false));
                slot
            }
        };
        if let Some(place) = inner.slots.get_mut(slot as usize) {
            *place = Some(record);
            for key in keys {
                inner.index.insert(key, slot);
            }
        }
    }

    /// Forgets the record that a key leads to.
    pub(super) fn remove(&self, key: Key) {
        let removed = self.take_by(&mut self.write(), key);
        // Freed when nobody waits any more.
        drop(removed);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.write());
        drop(all);
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        let inner = self.read();
        inner.slots.len() - inner.free.len()
    }

    fn take_by(&self, inner: &mut Inner<T>, key: Key) -> Option<Arc<T>> {
        let has_it = |slot: &u32| {
            let record = inner.slots.get(*slot as usize).and_then(Option::as_ref);
            record.is_some_and(|record| (self.keys)(record).contains(&key))
        };
        let slot = inner.index.slots(key).find(has_it)?;
        self.take(inner, slot)
    }

    fn take(&self, inner: &mut Inner<T>, slot: u32) -> Option<Arc<T>> {
        let record = inner.slots.get_mut(slot as usize)?.take()?;
        for key in (self.keys)(&record) {
            inner.index.remove(key, slot);
        }
        inner.free.push(slot);
        Some(record)
    }

    /// Takes one record out: the first that was not used since the hand last came by.
    fn make_room(&self, inner: &mut Inner<T>) {
        loop {
            inner.hand = if inner.hand < inner.slots.len() { inner.hand } else { 0 };
            let hand = inner.hand;
            inner.hand += 1;
            let spared = inner.used.get_mut(hand).is_some_and(|used| std::mem::take(used.get_mut()));
            if !spared
                && let Ok(slot) = u32::try_from(hand)
                && self.take(inner, slot).is_some()
            {
                return;
            }
        }
    }
}

/// What so many keys take in the index, whose parts are full to between seven tenths and seven eighths.
#[cfg(test)]
pub(super) fn octets_of_keys(keys: usize) -> usize {
    (keys * size_of::<super::facts_index::Place>() * 100).div_ceil(78)
}

/// What a record takes beside its keys and itself.
#[cfg(test)]
pub(super) const RECORD_OCTETS: usize = size_of::<Option<Arc<()>>>() + size_of::<AtomicBool>();

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by either half.
    fn table(most: usize) -> Table<(u64, u64)> {
        Table::new(most, |record: &(u64, u64)| vec![Key::new(record.0), Key::new(record.1)])
    }

    fn get(table: &Table<(u64, u64)>, key: u64) -> Option<(u64, u64)> {
        let found = table.get(Key::new(key), |record| (record.0 == key || record.1 == key).then_some(()));
        found.map(|(record, ())| *record)
    }

    #[test]
    fn a_record_is_found_by_each_of_its_keys_until_it_is_removed_by_one() {
        let table = table(10);
        table.insert(Arc::new((1, 101)));
        table.insert(Arc::new((2, 102)));
        assert_eq!((get(&table, 1), get(&table, 101)), (Some((1, 101)), Some((1, 101))));
        table.remove(Key::new(101));
        assert_eq!((get(&table, 1), get(&table, 101), table.len()), (None, None, 1));
        assert_eq!(get(&table, 102), Some((2, 102)));
        table.clear();
        assert_eq!((get(&table, 2), table.len()), (None, 0));
    }

    #[test]
    fn rule_16_a_newer_record_leaves_no_key_of_the_older_one_behind() {
        let table = table(10);
        table.insert(Arc::new((1, 101)));
        table.insert(Arc::new((1, 201)));
        assert_eq!((get(&table, 1), get(&table, 201), table.len()), (Some((1, 201)), Some((1, 201)), 1));
        assert_eq!(table.read().index.len(), 2, "and none is of the older one");
    }

    #[test]
    fn rule_16_a_record_that_loses_a_key_to_another_leaves_whole() {
        let table = table(10);
        table.insert(Arc::new((1, 101)));
        table.insert(Arc::new((2, 101)));
        assert_eq!((get(&table, 1), get(&table, 101)), (None, Some((2, 101))));
        table.remove(Key::new(2));
        assert_eq!((get(&table, 101), table.len()), (None, 0));
    }

    #[test]
    fn a_full_table_lets_go_of_what_nobody_asks_for() {
        let table = table(100);
        for n in 0..100 {
            table.insert(Arc::new((n, n + 10_000)));
        }
        for n in 100..1_000 {
            assert!(get(&table, 7).is_some() && get(&table, 10_042).is_some(), "{n}");
            table.insert(Arc::new((n, n + 10_000)));
            assert_eq!(table.len(), 100);
        }
        assert_eq!(table.read().index.len(), 200, "two keys a record");
        assert_eq!(table.read().slots.len(), 100, "slots are used again");
    }

    /// The index keeps 36 bits of a key; these differ in others alone.
    #[test]
    fn rule_16_keys_that_the_index_takes_for_one_lead_each_to_its_own_record() {
        let (one, other, third) = (5, 5 + (1 << 36), 5 + (1 << 40));
        let table = table(10);
        table.insert(Arc::new((one, 101)));
        table.insert(Arc::new((other, 102)));
        table.insert(Arc::new((third, one + (1 << 50))));
        assert_eq!(get(&table, one), Some((one, 101)));
        assert_eq!(get(&table, other), Some((other, 102)));
        table.remove(Key::new(one));
        assert_eq!((get(&table, one), get(&table, other)), (None, Some((other, 102))));
        table.remove(Key::new(third));
        assert_eq!((get(&table, third), get(&table, one + (1 << 50)), table.len()), (None, None, 1));
        table.remove(Key::new(third));
        assert_eq!((table.len(), table.read().index.len()), (1, 2));
    }

    #[test]
    fn what_a_key_leads_to_is_compared() {
        let table = table(10);
        table.insert(Arc::new((1, 101)));
        assert!(table.get(Key::new(1), |_| None::<()>).is_none());
    }
}
