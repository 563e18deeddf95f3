//! From label sets to slots and back: the identity of every series that the head knows.
//!
//! A *slot* is a dense index into the table; a [`SeriesRef`] is a slot and the number of times the
//! slot was used before, so that a reference is never reused for another series. Series are found by
//! the hash of tenant and labels with a full comparison on a hit, or by the hash of whatever bytes a
//! protocol uses to name them ([`super::raw_keys`]), which is taken as unique (seeded per process).
//!
//! A series keeps its labels as numbers of pairs whose texts lie in the tenant's [`PostingIndex`], once
//! for all series: about 90 bytes a series all told, where a label set of its own takes 250.
//!
//! Locks, in the order in which they are taken: one shard of `by_labels`, the tenant's index, `slots`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hashbrown::{HashMap, HashTable};
use parking_lot::{Mutex, RwLock};

use super::pair_arena::{PairArena, PairRun};
use super::postings::{PairId, PostingIndex};
use super::raw_keys::{KEY_BYTES, RawKeys};
use crate::model::{Labels, SeriesRef};

/// Names a tenant inside an open store.
pub(crate) type TenantIndex = u32;

/// Locks over the hash table by labels: enough that two cores seldom meet.
const MAP_SHARDS: usize = 32;
/// Series that are looked at under one lock.
const SERIES_PER_LOCK: usize = 256;

/// A 128-bit hash of the bytes by which a protocol names a series; see [`crate::Store::raw_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawSeriesKey(pub(crate) [u64; 2]);

/// A tenant as the table sees it.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) index: TenantIndex,
    pub(crate) postings: &'a RwLock<PostingIndex>,
}

/// The slot of a reference.
#[inline]
pub(crate) fn slot_of(series: SeriesRef) -> u32 {
    series.0 as u32
}

/// How often the slot of a reference was used before.
#[inline]
pub(crate) fn uses_of(series: SeriesRef) -> u32 {
    (series.0 >> 32) as u32
}

pub(crate) fn reference(uses: u32, slot: u32) -> SeriesRef {
    SeriesRef(u64::from(uses) << 32 | u64::from(slot))
}

#[derive(Default)]
struct Slot {
    uses: u32,
    /// Epoch of the log in which the series was last defined; 0 for never.
    defined_epoch: AtomicU32,
    /// Of tenant and labels.
    hash: u32,
    tenant: TenantIndex,
    pairs: PairRun,
    is_taken: bool,
}

const _: () = assert!(size_of::<Slot>() <= 28);

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    pairs: PairArena,
}

impl Slots {
    /// The slot of a series that is still there.
    fn get(&self, series: SeriesRef) -> Option<&Slot> {
        let slot = self.slots.get(slot_of(series) as usize)?;
        (slot.is_taken && slot.uses == uses_of(series)).then_some(slot)
    }

    fn references(&self) -> impl Iterator<Item = (SeriesRef, TenantIndex)> {
        let taken = (0..).zip(&self.slots).filter(|(_, slot)| slot.is_taken);
        taken.map(|(number, slot)| (reference(slot.uses, number), slot.tenant))
    }
}

/// The series of all tenants.
pub(crate) struct SeriesTable {
    slots: RwLock<Slots>,
    /// Slots by the hash that they hold.
    by_labels: Vec<Mutex<HashTable<u32>>>,
    by_key: RawKeys,
    seed: u64,
    bytes: AtomicU64,
}

/// Spreads the bits of a hash over the 64 that a hash table wants.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The shard of a label hash: other bits than those that choose the place in the shard's table.
fn label_shard(hash: u32) -> usize {
    hash as usize % MAP_SHARDS
}

impl SeriesTable {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: RwLock::default(),
            by_labels: (0..MAP_SHARDS).map(|_| Mutex::default()).collect(),
            by_key: RawKeys::default(),
            seed,
            bytes: AtomicU64::new(0),
        }
    }

    /// Hashes the bytes by which a protocol names a series.
    pub(crate) fn raw_key(&self, bytes: &[u8]) -> RawSeriesKey {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(bytes, self.seed);
        RawSeriesKey([hash as u64, (hash >> 64) as u64])
    }

    /// Keeps the keys of tenants apart: the same bytes name another series in another tenant.
    fn tenant_key(key: RawSeriesKey, tenant: TenantIndex) -> [u64; 2] {
        let [low, high] = key.0;
        [
            low,
            high ^ (u64::from(tenant) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ]
    }

    fn labels_hash(&self, tenant: TenantIndex, labels: &Labels) -> u32 {
        let seed = self.seed ^ u64::from(tenant).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(labels.as_bytes(), seed);
        (hash >> 32) as u32
    }

    /// The series remembered for a key; `guess` is the slot that it may well have: the one behind that
    /// of the key before.
    #[inline]
    pub(crate) fn lookup(
        &self,
        tenant: TenantIndex,
        key: RawSeriesKey,
        guess: u32,
    ) -> Option<SeriesRef> {
        self.by_key.lookup(Self::tenant_key(key, tenant), guess)
    }

    /// Remembers a key for a series.
    pub(crate) fn remember(&self, tenant: TenantIndex, key: RawSeriesKey, series: SeriesRef) {
        self.by_key.remember(Self::tenant_key(key, tenant), series);
    }

    /// The series of a label set, if the table has it.
    #[cfg(test)]
    pub(crate) fn find(&self, owner: Owner<'_>, labels: &Labels) -> Option<SeriesRef> {
        let hash = self.labels_hash(owner.index, labels);
        let map = self.by_labels[label_shard(hash)].lock();
        self.find_in(&map, hash, owner, labels)
    }

    fn find_in(
        &self,
        map: &HashTable<u32>,
        hash: u32,
        owner: Owner<'_>,
        labels: &Labels,
    ) -> Option<SeriesRef> {
        if map.is_empty() {
            return None;
        }
        let slots = self.slots.read();
        let at = |number: u32| slots.slots.get(number as usize);
        // Most look-ups of unknown series end here, without a lock on the index.
        let may_be = |number: &u32| at(*number).is_some_and(|slot| slot.hash == hash);
        map.find(spread(hash), may_be)?;
        drop(slots);
        let index = owner.postings.read();
        let slots = self.slots.read();
        let is_it = |number: &u32| {
            slots.slots.get(*number as usize).is_some_and(|slot| {
                slot.hash == hash
                    && slot.tenant == owner.index
                    && slot.is_taken
                    && index.is(slots.pairs.get(slot.pairs), labels)
            })
        };
        let number = map.find(spread(hash), is_it)?;
        Some(reference(slots.slots[*number as usize].uses, *number))
    }

    /// Finds or makes the series of a label set and puts it into the tenant's index. `admit` is asked
    /// before a new one is made.
    pub(crate) fn find_or_insert<E>(
        &self,
        owner: Owner<'_>,
        labels: &Labels,
        admit: impl FnOnce() -> Result<(), E>,
    ) -> Result<SeriesRef, E> {
        let hash = self.labels_hash(owner.index, labels);
        let mut map = self.by_labels[label_shard(hash)].lock();
        if let Some(series) = self.find_in(&map, hash, owner, labels) {
            return Ok(series);
        }
        admit()?;
        let number = {
            let mut slots = self.slots.write();
            slots.free.pop().unwrap_or_else(|| {
                slots.slots.push(Slot::default());
                u32::try_from(slots.slots.len() - 1).expect("bug: more than 2^32 series slots")
            })
        };
        // Readers that find the slot in the index before it is taken pass it over.
        let pairs = owner.postings.write().insert(number, labels);
        let mut slots = self.slots.write();
        let run = slots.pairs.store(&pairs);
        let slot = &mut slots.slots[number as usize];
        (slot.hash, slot.tenant, slot.pairs) = (hash, owner.index, run);
        slot.is_taken = true;
        let series = reference(slot.uses, number);
        let slots = parking_lot::RwLockWriteGuard::downgrade(slots);
        map.insert_unique(spread(hash), number, |other| {
            spread(slots.slots[*other as usize].hash)
        });
        self.bytes
            .fetch_add(series_bytes(pairs.len()), Ordering::Relaxed);
        Ok(series)
    }

    /// The definitions that a record with these series must carry: of those that the log has not
    /// defined in this epoch. `None` when a reference is not of this table.
    pub(crate) fn definitions(
        &self,
        owner: Owner<'_>,
        series: impl Iterator<Item = SeriesRef>,
        epoch: u32,
    ) -> Option<Vec<(SeriesRef, Labels)>> {
        let mut missing: Vec<SeriesRef> = Vec::new();
        {
            let slots = self.slots.read();
            for series in series {
                let slot = slots.get(series)?;
                if slot.defined_epoch.load(Ordering::Relaxed) != epoch {
                    missing.push(series);
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let mut definitions = Vec::with_capacity(missing.len());
        self.for_labels(owner, &missing, |series, labels| {
            definitions.push((series, labels));
        });
        // The session's token keeps them all.
        (definitions.len() == missing.len()).then_some(definitions)
    }

    /// Notes that the log has defined these series in this epoch.
    pub(crate) fn set_defined(&self, series: impl Iterator<Item = SeriesRef>, epoch: u32) {
        let slots = self.slots.read();
        for series in series {
            if let Some(slot) = slots.get(series) {
                slot.defined_epoch.store(epoch, Ordering::Relaxed);
            }
        }
    }

    /// Takes series out of the maps, so that they are found no more. Their slots and references stay
    /// valid until [`SeriesTable::free`].
    pub(crate) fn hide(&self, series: &[SeriesRef]) {
        let hashes: Vec<_> = {
            let slots = self.slots.read();
            let known = series
                .iter()
                .filter_map(|s| Some((slot_of(*s), slots.get(*s)?.hash)));
            known.collect()
        };
        for (number, hash) in hashes {
            let mut map = self.by_labels[label_shard(hash)].lock();
            if let Ok(found) = map.find_entry(spread(hash), |other| *other == number) {
                found.remove();
            }
        }
        self.by_key.forget(series);
    }

    /// Takes hidden series out of their tenants' indexes and gives their slots to others. No session
    /// may hold their references any more.
    pub(crate) fn free<'a>(
        &self,
        series: &[SeriesRef],
        owner_of: impl Fn(TenantIndex) -> Option<Owner<'a>>,
    ) {
        for batch in series.chunks(SERIES_PER_LOCK) {
            let mut gone: Vec<(u32, TenantIndex, Vec<PairId>)> = Vec::new();
            {
                let slots = &mut *self.slots.write();
                for series in batch {
                    if slots.get(*series).is_none() {
                        continue;
                    }
                    let number = slot_of(*series);
                    let slot = &mut slots.slots[number as usize];
                    slot.uses = slot.uses.wrapping_add(1);
                    slot.is_taken = false;
                    slot.defined_epoch.store(0, Ordering::Relaxed);
                    let run = std::mem::take(&mut slot.pairs);
                    gone.push((number, slot.tenant, slots.pairs.get(run).to_vec()));
                    slots.pairs.free(run);
                }
            }
            // The pairs stay until here, for readers that hold the index and saw the slot taken. Only
            // then may another series get the slot.
            for (number, tenant, pairs) in &gone {
                if let Some(owner) = owner_of(*tenant) {
                    owner.postings.write().remove(*number, pairs);
                }
                let bytes = series_bytes(pairs.len());
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            let mut slots = self.slots.write();
            slots.free.extend(gone.iter().map(|(number, ..)| *number));
        }
    }

    /// All series.
    pub(crate) fn all(&self) -> Vec<SeriesRef> {
        self.slots
            .read()
            .references()
            .map(|(series, _)| series)
            .collect()
    }

    /// The series at some slots, by tenant; empty slots are left out.
    pub(crate) fn by_tenant(&self, slots: &[u32]) -> HashMap<TenantIndex, Vec<SeriesRef>> {
        let mut found: HashMap<TenantIndex, Vec<SeriesRef>> = HashMap::new();
        for batch in slots.chunks(16 * SERIES_PER_LOCK) {
            let table = self.slots.read();
            for number in batch {
                let slot = table.slots.get(*number as usize);
                if let Some(slot) = slot.filter(|slot| slot.is_taken) {
                    let series = reference(slot.uses, *number);
                    found.entry(slot.tenant).or_default().push(series);
                }
            }
        }
        found
    }

    /// The series at some slots, in their order; empty slots are left out. The caller holds the index
    /// that named the slots, so that they are still those series'.
    pub(crate) fn at(&self, slots: impl IntoIterator<Item = u32>) -> Vec<SeriesRef> {
        let table = self.slots.read();
        let taken = slots.into_iter().filter_map(|number| {
            let slot = table.slots.get(number as usize)?;
            slot.is_taken.then(|| reference(slot.uses, number))
        });
        taken.collect()
    }

    /// Calls `each` with the pairs of each series that is still there. The pairs mean nothing once the
    /// series may have been freed.
    pub(crate) fn for_pairs(
        &self,
        series: &[SeriesRef],
        mut each: impl FnMut(SeriesRef, &[PairId]),
    ) {
        for batch in series.chunks(SERIES_PER_LOCK) {
            let slots = self.slots.read();
            for series in batch {
                if let Some(slot) = slots.get(*series) {
                    each(*series, slots.pairs.get(slot.pairs));
                }
            }
        }
    }

    /// Calls `each` with the labels of those series of a tenant that are still there.
    pub(crate) fn for_labels(
        &self,
        owner: Owner<'_>,
        series: &[SeriesRef],
        mut each: impl FnMut(SeriesRef, Labels),
    ) {
        let mut found = Vec::new();
        for batch in series.chunks(SERIES_PER_LOCK) {
            {
                // While the index is held, no pair of a taken slot goes.
                let index = owner.postings.read();
                self.for_pairs(batch, |series, pairs| {
                    found.push((series, index.labels(pairs)))
                });
            }
            found
                .drain(..)
                .for_each(|(series, labels)| each(series, labels));
        }
    }

    /// Series that have a slot.
    pub(crate) fn series(&self) -> u64 {
        let table = self.slots.read();
        (table.slots.len() - table.free.len()) as u64
    }

    /// Estimated bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a series costs: its slot, its pairs, its key, its place in a hash table that is two thirds full.
fn series_bytes(pairs: usize) -> u64 {
    let place = (size_of::<u32>() + 1) * 3 / 2;
    (size_of::<Slot>() + pairs * size_of::<PairId>() + place + KEY_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]).unwrap()
    }

    fn indexes() -> [RwLock<PostingIndex>; 2] {
        Default::default()
    }

    fn owner(indexes: &[RwLock<PostingIndex>; 2], tenant: usize) -> Owner<'_> {
        Owner {
            index: tenant as TenantIndex,
            postings: &indexes[tenant],
        }
    }

    fn labels_of(table: &SeriesTable, owner: Owner<'_>, series: SeriesRef) -> Option<Labels> {
        let mut found = None;
        table.for_labels(owner, &[series], |_, labels| found = Some(labels));
        found
    }

    #[test]
    fn series_are_found_by_labels_and_by_key_per_tenant() {
        let (table, indexes) = (SeriesTable::new(7), indexes());
        let make = |tenant, i| {
            table
                .find_or_insert::<()>(owner(&indexes, tenant), &labels(i), || Ok(()))
                .unwrap()
        };
        let first = make(0, 1);
        assert_eq!(make(0, 1), first);
        assert_ne!(make(1, 1), first);
        assert_ne!(make(0, 2), first);
        let key = table.raw_key(b"m{i=1}");
        assert_eq!(table.lookup(0, key, 0), None);
        table.remember(0, key, first);
        assert_eq!(table.lookup(0, key, 0), Some(first));
        assert_eq!(table.lookup(1, key, 0), None);
        assert_eq!(
            labels_of(&table, owner(&indexes, 0), first),
            Some(labels(1))
        );
        assert!(table.find(owner(&indexes, 0), &labels(3)).is_none());
        assert_eq!(table.by_tenant(&[0, 1, 2, 3])[&0].len(), 2);
    }

    #[test]
    fn a_slot_is_given_to_another_series_under_a_new_reference() {
        let (table, indexes) = (SeriesTable::new(7), indexes());
        let owner = owner(&indexes, 0);
        let make = |i| {
            table
                .find_or_insert::<()>(owner, &labels(i), || Ok(()))
                .unwrap()
        };
        let first = make(1);
        let key = table.raw_key(b"1");
        table.remember(0, key, first);
        table.hide(&[first]);
        assert_eq!(table.lookup(0, key, 0), None);
        assert!(table.find(owner, &labels(1)).is_none());
        let defined = table.definitions(owner, [first].into_iter(), 1);
        assert_eq!(defined, Some(vec![(first, labels(1))]));
        table.free(&[first], |_| Some(owner));
        assert_eq!((table.bytes(), indexes[0].read().bytes()), (0, 0));
        let second = make(2);
        assert_eq!(slot_of(second), slot_of(first));
        assert!(table.definitions(owner, [first].into_iter(), 1).is_none());
        assert_eq!(labels_of(&table, owner, first), None);
        let defined = table.definitions(owner, [second, second].into_iter(), 1);
        assert_eq!(defined, Some(vec![(second, labels(2))]));
        table.set_defined([second].into_iter(), 1);
        let defined = table.definitions(owner, [second].into_iter(), 1);
        assert_eq!(defined, Some(Vec::new()));
    }

    #[test]
    fn many_series_come_back_by_their_labels() {
        let (table, indexes) = (SeriesTable::new(7), indexes());
        let owner = owner(&indexes, 0);
        let all: Vec<_> = (0..20_000)
            .map(|i| {
                table
                    .find_or_insert::<()>(owner, &labels(i), || Ok(()))
                    .unwrap()
            })
            .collect();
        for (i, series) in all.iter().enumerate() {
            assert_eq!(table.find(owner, &labels(i)), Some(*series));
        }
        assert_eq!(table.all(), all);
    }

    #[test]
    fn a_refused_series_leaves_nothing_behind() {
        let (table, indexes) = (SeriesTable::new(7), indexes());
        let owner = owner(&indexes, 0);
        assert!(table.find_or_insert(owner, &labels(1), || Err(())).is_err());
        assert!(table.find(owner, &labels(1)).is_none());
        assert_eq!((table.series(), table.bytes()), (0, 0));
    }
}
