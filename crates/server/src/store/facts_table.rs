//! Records in memory, each found by any of its keys: a bounded table with one block of memory a record.
//!
//! A key is 64 bits of a hash and lies in the index alone; what is found must be compared with what was looked for.
//! A hit takes a lock for reading; a load or a change has it alone for a microsecond. When the table is full, a record
//! that nobody asked for since the hand last came by makes room (the clock algorithm).
//! Invariant: every key of a record leads to it; a record that would lose one leaves the table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// 64 bits of a hash that strangers can't steer. Bytes and not a number, so that an index entry takes 12 bytes, not 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key([u8; 8]);

impl Key {
    pub(super) const fn new(hash: u64) -> Self {
        Self(hash.to_ne_bytes())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_ne_bytes(self.0));
    }
}

/// A key is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "keys are written as numbers");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

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
    index: HashMap<Key, u32, BuildHasherDefault<AsItIs>>,
    hand: usize,
}

impl<T> Default for Inner<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), used: Vec::new(), free: Vec::new(), index: HashMap::default(), hand: 0 }
    }
}

impl<T> Table<T> {
    /// A table of at most `most` records.
    pub(super) fn new(most: usize, keys: impl Fn(&T) -> Vec<Key> + Send + Sync + 'static) -> Self {
        Self { inner: RwLock::default(), keys: Box::new(keys), most }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record that a key leads to, with what `judge` says of it; nothing if `judge` says that it is another one.
    pub(super) fn get<R>(&self, key: Key, judge: impl FnOnce(&T) -> Option<R>) -> Option<(Arc<T>, R)> {
        let inner = self.read();
        let slot = *inner.index.get(&key)? as usize;
        let record = inner.slots.get(slot)?.as_ref()?;
        let judged = judge(record)?;
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
            self.take(&mut inner, *key);
        }
        while inner.slots.len() - inner.free.len() >= self.most {
            self.make_room(&mut inner);
        }
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(inner.slots.len()) else { return };
                inner.slots.push(None);
                inner.used.push(AtomicBool::new(false));
                slot
            }
        };
        if let Some(place) = inner.slots.get_mut(slot as usize) {
            *place = Some(record);
            inner.index.extend(keys.into_iter().map(|key| (key, slot)));
        }
    }

    /// Forgets the record that a key leads to.
    pub(super) fn remove(&self, key: Key) {
        let removed = self.take(&mut self.write(), key);
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

    fn take(&self, inner: &mut Inner<T>, key: Key) -> Option<Arc<T>> {
        let slot = *inner.index.get(&key)?;
        let record = inner.slots.get_mut(slot as usize)?.take()?;
        for key in (self.keys)(&record) {
            inner.index.remove(&key);
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
            let Some(Some(record)) = inner.slots.get(hand) else { continue };
            if !spared && let Some(key) = (self.keys)(record).first() {
                self.take(inner, *key);
                return;
            }
        }
    }
}

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
        assert!(!table.read().index.contains_key(&Key::new(101)));
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

    #[test]
    fn what_a_key_leads_to_is_compared() {
        let table = table(10);
        table.insert(Arc::new((1, 101)));
        assert!(table.get(Key::new(1), |_| None::<()>).is_none());
    }
}
