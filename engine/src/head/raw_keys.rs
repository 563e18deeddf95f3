//! From the bytes by which a protocol names a series to the series, without parsing them.
//!
//! Requests name series in the order of the request before, and series that were defined one after
//! the other have neighbouring slots. So keys lie by slot: a look-up compares the slot behind the one
//! that was found last, which is in the cache already, and only then asks the hash table, where every
//! look-up among a million series misses it.
//!
//! A series has one key here; the others of a series that is named in several ways are kept apart.
//! Locks: a shard of the hash table, then a block of slots.

use hashbrown::{HashSet, HashTable};
use parking_lot::RwLock;

use super::series_table::{reference, slot_of, uses_of};
use crate::model::SeriesRef;

/// Locks over the hash tables: enough that two cores seldom meet.
const SHARDS: usize = 32;
/// Locks over the keys by slot, and neighbours under one lock.
const BLOCKS: usize = 64;
const SLOTS_PER_BLOCK: usize = 64;

/// 96 of the key's 128 bits, 5 of which choose the shard; zero stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StoredKey {
    low: [u32; 2],
    high: u32,
}

impl StoredKey {
    fn new(key: [u64; 2]) -> Self {
        Self {
            low: [key[0] as u32, (key[0] >> 32) as u32],
            high: (key[1] >> 32) as u32,
        }
    }

    fn hash(self) -> u64 {
        u64::from(self.low[0]) | u64::from(self.low[1]) << 32
    }

    fn shard(self) -> usize {
        self.high as usize % SHARDS
    }
}

/// The key of a slot's series.
#[derive(Clone, Copy, Default)]
struct SlotKey {
    key: StoredKey,
    uses: u32,
}

const _: () = assert!(size_of::<SlotKey>() == 16);

#[derive(Default)]
struct Shard {
    /// Slots by the hash of their key.
    slots: HashTable<u32>,
    /// Further keys of series.
    further: HashTable<(StoredKey, SeriesRef)>,
}

/// All keys of all tenants.
pub(crate) struct RawKeys {
    by_slot: Vec<RwLock<Vec<SlotKey>>>,
    shards: Vec<RwLock<Shard>>,
}

impl Default for RawKeys {
    fn default() -> Self {
        Self {
            by_slot: (0..BLOCKS).map(|_| RwLock::default()).collect(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }
}

/// What a key takes per series: itself and its place in a hash table that is two thirds full.
pub(crate) const KEY_BYTES: usize = size_of::<SlotKey>() + (size_of::<u32>() + 1) * 3 / 2;

/// Block of a slot and its place there.
#[inline]
fn place(slot: u32) -> (usize, usize) {
    let (run, inside) = (
        slot as usize / SLOTS_PER_BLOCK,
        slot as usize % SLOTS_PER_BLOCK,
    );
    (run % BLOCKS, run / BLOCKS * SLOTS_PER_BLOCK + inside)
}

impl RawKeys {
    /// The series of a key; `guess` is the slot that it may well have.
    #[inline]
    pub(crate) fn lookup(&self, key: [u64; 2], guess: u32) -> Option<SeriesRef> {
        let key = StoredKey::new(key);
        self.series_at(guess, key)
            .or_else(|| self.lookup_by_hash(key))
    }

    fn lookup_by_hash(&self, key: StoredKey) -> Option<SeriesRef> {
        let shard = self.shards[key.shard()].read();
        let is_it = |slot: &u32| self.series_at(*slot, key).is_some();
        match shard.slots.find(key.hash(), is_it) {
            Some(slot) => self.series_at(*slot, key),
            None => {
                let found = shard.further.find(key.hash(), |(other, _)| *other == key);
                found.map(|(_, series)| *series)
            }
        }
    }

    /// The series at a slot, if that is its key.
    #[inline]
    fn series_at(&self, slot: u32, key: StoredKey) -> Option<SeriesRef> {
        let (block, index) = place(slot);
        let keys = self.by_slot[block].read();
        let found = keys.get(index).filter(|found| found.key == key)?;
        Some(reference(found.uses, slot))
    }

    fn key_at(&self, slot: u32) -> StoredKey {
        let (block, index) = place(slot);
        let keys = self.by_slot[block].read();
        keys.get(index)
            .map_or(StoredKey::default(), |found| found.key)
    }

    fn set(&self, slot: u32, new: SlotKey) {
        let (block, index) = place(slot);
        let mut keys = self.by_slot[block].write();
        if keys.len() <= index {
            keys.resize(index + 1, SlotKey::default());
        }
        keys[index] = new;
    }

    /// Remembers a key for a series; what it named before it names no more.
    pub(crate) fn remember(&self, key: [u64; 2], series: SeriesRef) {
        let key = StoredKey::new(key);
        let shard = &mut *self.shards[key.shard()].write();
        let is_it = |slot: &u32| self.series_at(*slot, key).is_some();
        if let Ok(known) = shard.slots.find_entry(key.hash(), is_it) {
            if self.series_at(*known.get(), key) == Some(series) {
                return;
            }
            let (slot, _) = known.remove();
            self.set(slot, SlotKey::default());
        }
        let is_same = |(other, _): &(StoredKey, SeriesRef)| *other == key;
        if let Some((_, known)) = shard.further.find_mut(key.hash(), is_same) {
            *known = series;
            return;
        }
        let slot = slot_of(series);
        if self.key_at(slot) == StoredKey::default() {
            let uses = uses_of(series);
            self.set(slot, SlotKey { key, uses });
            let hash = |slot: &u32| self.key_at(*slot).hash();
            shard.slots.insert_unique(key.hash(), slot, hash);
        } else {
            let hash = |(key, _): &(StoredKey, SeriesRef)| key.hash();
            shard.further.insert_unique(key.hash(), (key, series), hash);
        }
    }

    /// Forgets all keys of these series.
    pub(crate) fn forget(&self, series: &[SeriesRef]) {
        for series in series {
            let slot = slot_of(*series);
            let key = self.key_at(slot);
            if self.series_at(slot, key) != Some(*series) || key == StoredKey::default() {
                continue;
            }
            let mut shard = self.shards[key.shard()].write();
            if let Ok(found) = shard.slots.find_entry(key.hash(), |other| *other == slot) {
                found.remove();
                self.set(slot, SlotKey::default());
            }
        }
        let mut gone: Option<HashSet<SeriesRef>> = None;
        for shard in &self.shards {
            if shard.read().further.is_empty() {
                continue;
            }
            let gone = gone.get_or_insert_with(|| series.iter().copied().collect());
            shard
                .write()
                .further
                .retain(|(_, series)| !gone.contains(series));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> [u64; 2] {
        let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
        [hash as u64, (hash >> 64) as u64]
    }

    #[test]
    fn keys_are_found_with_and_without_a_good_guess() {
        let keys = RawKeys::default();
        for slot in 0..10_000 {
            keys.remember(key(u64::from(slot)), reference(slot % 3, slot));
        }
        for slot in 0..10_000 {
            let series = Some(reference(slot % 3, slot));
            for guess in [slot, slot + 1, u32::MAX] {
                assert_eq!(keys.lookup(key(u64::from(slot)), guess), series);
            }
        }
        assert_eq!(keys.lookup(key(10_001), 7), None);
        assert_eq!(keys.lookup([0, 0], 20_000), None);
    }

    #[test]
    fn a_series_may_have_several_keys_and_loses_all_of_them() {
        let keys = RawKeys::default();
        let (first, second) = (reference(0, 5), reference(0, 6));
        for number in 0..3 {
            keys.remember(key(number), first);
        }
        keys.remember(key(3), second);
        keys.remember(key(3), second);
        // Another way to read the same bytes.
        keys.remember(key(0), second);
        keys.remember(key(1), second);
        let found = |number| keys.lookup(key(number), 0);
        assert_eq!(
            [found(0), found(1), found(2), found(3)],
            [Some(second), Some(second), Some(first), Some(second)]
        );
        keys.forget(&[second]);
        assert_eq!(
            [found(0), found(1), found(2), found(3)],
            [None, None, Some(first), None]
        );
        // The slot's next series.
        keys.remember(key(3), reference(1, 6));
        keys.forget(&[second]);
        assert_eq!(found(3), Some(reference(1, 6)));
    }
}
