//! From label sets to slots and back: the identity of every series that the head knows.
//!
//! A *slot* is a dense index into the table; a [`SeriesRef`] is a slot and the number of times the
//! slot was used before, so that a reference is never reused for another series. Series are found by
//! the 64-bit hash of tenant and labels with a full comparison on a hit, or by the 128-bit hash of
//! whatever bytes a protocol uses to name them, which is taken as unique (seeded per process).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

use crate::model::{Labels, SeriesRef};

/// Names a tenant inside an open store.
pub(crate) type TenantIndex = u32;

/// Locks over the two hash tables: enough that two cores seldom meet.
const MAP_SHARDS: usize = 32;

/// A 128-bit hash of the bytes by which a protocol names a series; see [`crate::Store::raw_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawSeriesKey(pub(crate) [u64; 2]);

/// What the head knows of a series besides its rows.
#[derive(Debug)]
pub(crate) struct SeriesEntry {
    pub(crate) labels: Labels,
    pub(crate) tenant: TenantIndex,
    pub(crate) series: SeriesRef,
    hash: u64,
}

impl SeriesEntry {
    pub(crate) fn slot(&self) -> u32 {
        slot_of(self.series)
    }
}

/// The slot of a reference.
#[inline]
pub(crate) fn slot_of(series: SeriesRef) -> u32 {
    series.0 as u32
}

/// How often the slot of a reference was used before.
#[inline]
fn uses_of(series: SeriesRef) -> u32 {
    (series.0 >> 32) as u32
}

#[derive(Default)]
struct Slot {
    entry: Option<Arc<SeriesEntry>>,
    uses: u32,
    /// Epoch of the log in which the series was last defined; 0 for never. Kept here rather than in
    /// the entry, so that a commit that defines nothing touches nothing but this array.
    defined_epoch: AtomicU32,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// Keys with the tenant mixed in, and the series they name.
type KeyMap = HashTable<([u64; 2], SeriesRef)>;

/// The series of all tenants.
pub(crate) struct SeriesTable {
    slots: RwLock<Slots>,
    by_labels: Vec<Mutex<HashTable<(u64, u32)>>>,
    by_key: Vec<RwLock<KeyMap>>,
    seed: u64,
    bytes: AtomicU64,
}

impl SeriesTable {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: RwLock::default(),
            by_labels: (0..MAP_SHARDS).map(|_| Mutex::default()).collect(),
            by_key: (0..MAP_SHARDS).map(|_| RwLock::default()).collect(),
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

    fn labels_hash(&self, tenant: TenantIndex, labels: &Labels) -> u64 {
        let seed = self.seed ^ u64::from(tenant).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        xxhash_rust::xxh3::xxh3_64_with_seed(labels.as_bytes(), seed)
    }

    /// The series remembered for a key.
    pub(crate) fn lookup(&self, tenant: TenantIndex, key: RawSeriesKey) -> Option<SeriesRef> {
        let key = Self::tenant_key(key, tenant);
        let shard = self.by_key[key[1] as usize % MAP_SHARDS].read();
        shard
            .find(key[0], |(k, _)| *k == key)
            .map(|(_, series)| *series)
    }

    /// Remembers a key for a series.
    pub(crate) fn remember(&self, tenant: TenantIndex, key: RawSeriesKey, series: SeriesRef) {
        let key = Self::tenant_key(key, tenant);
        let mut shard = self.by_key[key[1] as usize % MAP_SHARDS].write();
        match shard.find_mut(key[0], |(k, _)| *k == key) {
            Some((_, known)) => *known = series,
            None => {
                shard.insert_unique(key[0], (key, series), |(k, _)| k[0]);
            }
        }
    }

    /// The series of a label set, if the table has it.
    #[cfg(test)]
    pub(crate) fn find(&self, tenant: TenantIndex, labels: &Labels) -> Option<Arc<SeriesEntry>> {
        let hash = self.labels_hash(tenant, labels);
        let map = self.by_labels[hash as usize % MAP_SHARDS].lock();
        self.find_in(&map, hash, tenant, labels)
    }

    fn find_in(
        &self,
        map: &HashTable<(u64, u32)>,
        hash: u64,
        tenant: TenantIndex,
        labels: &Labels,
    ) -> Option<Arc<SeriesEntry>> {
        let slots = self.slots.read();
        let entry_at = |slot: u32| slots.slots.get(slot as usize)?.entry.as_ref();
        let is_it = |e: &Arc<SeriesEntry>| e.tenant == tenant && e.labels == *labels;
        map.find(hash, |(h, slot)| {
            *h == hash && entry_at(*slot).is_some_and(is_it)
        })
        .and_then(|(_, slot)| entry_at(*slot).map(Arc::clone))
    }

    /// Finds or makes the series of a label set. `admit` is asked before a new one is made; `added`
    /// runs while no other thread can find the new series.
    pub(crate) fn find_or_insert<E>(
        &self,
        tenant: TenantIndex,
        labels: &Labels,
        admit: impl FnOnce() -> Result<(), E>,
        added: impl FnOnce(&Arc<SeriesEntry>),
    ) -> Result<Arc<SeriesEntry>, E> {
        let hash = self.labels_hash(tenant, labels);
        let mut map = self.by_labels[hash as usize % MAP_SHARDS].lock();
        if let Some(entry) = self.find_in(&map, hash, tenant, labels) {
            return Ok(entry);
        }
        admit()?;
        let entry = {
            let mut slots = self.slots.write();
            let slot = match slots.free.pop() {
                Some(slot) => slot,
                None => {
                    slots.slots.push(Slot::default());
                    u32::try_from(slots.slots.len() - 1).expect("bug: more than 2^32 series slots")
                }
            };
            let place = &mut slots.slots[slot as usize];
            let entry = Arc::new(SeriesEntry {
                labels: labels.clone(),
                tenant,
                series: SeriesRef(u64::from(place.uses) << 32 | u64::from(slot)),
                hash,
            });
            place.entry = Some(Arc::clone(&entry));
            entry
        };
        self.bytes.fetch_add(entry_bytes(&entry), Ordering::Relaxed);
        added(&entry);
        map.insert_unique(hash, (hash, entry.slot()), |(h, _)| *h);
        Ok(entry)
    }

    #[cfg(test)]
    /// The series at a reference; `None` when the slot has another occupant by now.
    pub(crate) fn get(&self, series: SeriesRef) -> Option<Arc<SeriesEntry>> {
        let slots = self.slots.read();
        let entry = slots.slots.get(slot_of(series) as usize)?.entry.as_ref()?;
        (entry.series == series).then(|| Arc::clone(entry))
    }

    /// The definitions that a record with these series must carry: of those that the log has not
    /// defined in this epoch. `None` when a reference is not of this table.
    pub(crate) fn definitions(
        &self,
        series: impl Iterator<Item = SeriesRef>,
        epoch: u32,
    ) -> Option<Vec<(SeriesRef, Labels)>> {
        let mut missing: Vec<SeriesRef> = Vec::new();
        let table = self.slots.read();
        for series in series {
            let slot = table.slots.get(slot_of(series) as usize)?;
            if slot.uses != uses_of(series) || slot.entry.is_none() {
                return None;
            }
            if slot.defined_epoch.load(Ordering::Relaxed) != epoch {
                missing.push(series);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let entries = missing.into_iter().map(|series| {
            let entry = table.slots[slot_of(series) as usize].entry.as_ref();
            (
                series,
                entry.map_or_else(Labels::empty, |entry| entry.labels.clone()),
            )
        });
        Some(entries.collect())
    }

    /// Notes that the log has defined these series in this epoch.
    pub(crate) fn set_defined(&self, series: impl Iterator<Item = SeriesRef>, epoch: u32) {
        let table = self.slots.read();
        for series in series {
            if let Some(slot) = table.slots.get(slot_of(series) as usize)
                && slot.uses == uses_of(series)
            {
                slot.defined_epoch.store(epoch, Ordering::Relaxed);
            }
        }
    }

    /// Takes series out of the maps, so that they are found no more. Their slots and references stay
    /// valid until [`SeriesTable::free`].
    pub(crate) fn hide(&self, entries: &[Arc<SeriesEntry>]) {
        for entry in entries {
            let mut map = self.by_labels[entry.hash as usize % MAP_SHARDS].lock();
            let slot = entry.slot();
            if let Ok(found) = map.find_entry(entry.hash, |(_, other)| *other == slot) {
                found.remove();
            }
        }
        let hidden: hashbrown::HashSet<SeriesRef> = entries.iter().map(|e| e.series).collect();
        for shard in &self.by_key {
            shard.write().retain(|(_, series)| !hidden.contains(series));
        }
    }

    /// Gives the slots of hidden series to others. No session may hold their references any more.
    pub(crate) fn free(&self, entries: &[Arc<SeriesEntry>]) {
        let mut table = self.slots.write();
        for entry in entries {
            let number = entry.slot();
            let slot = &mut table.slots[number as usize];
            if slot.uses == uses_of(entry.series) && slot.entry.take().is_some() {
                slot.uses = slot.uses.wrapping_add(1);
                slot.defined_epoch.store(0, Ordering::Relaxed);
                table.free.push(number);
                self.bytes.fetch_sub(entry_bytes(entry), Ordering::Relaxed);
            }
        }
    }

    /// All series.
    pub(crate) fn entries(&self) -> Vec<Arc<SeriesEntry>> {
        let table = self.slots.read();
        table
            .slots
            .iter()
            .filter_map(|slot| slot.entry.as_ref().map(Arc::clone))
            .collect()
    }

    /// The entries at some slots, in their order; empty slots are left out.
    pub(crate) fn entries_at(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Arc<SeriesEntry>> {
        let table = self.slots.read();
        slots
            .into_iter()
            .filter_map(|slot| {
                table
                    .slots
                    .get(slot as usize)?
                    .entry
                    .as_ref()
                    .map(Arc::clone)
            })
            .collect()
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

/// What an entry costs: labels, both hash tables, slot, counters of two `Arc`s.
fn entry_bytes(entry: &SeriesEntry) -> u64 {
    (entry.labels.as_bytes().len() + size_of::<SeriesEntry>() + 32 + 24 + 48 + 16) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]).unwrap()
    }

    #[test]
    fn series_are_found_by_labels_and_by_key_per_tenant() {
        let table = SeriesTable::new(7);
        let make = |tenant, i| {
            table
                .find_or_insert::<()>(tenant, &labels(i), || Ok(()), |_| {})
                .unwrap()
                .series
        };
        let first = make(0, 1);
        assert_eq!(make(0, 1), first);
        assert_ne!(make(1, 1), first);
        assert_ne!(make(0, 2), first);
        let key = table.raw_key(b"m{i=1}");
        assert_eq!(table.lookup(0, key), None);
        table.remember(0, key, first);
        assert_eq!(table.lookup(0, key), Some(first));
        assert_eq!(table.lookup(1, key), None);
        assert_eq!(table.get(first).unwrap().labels, labels(1));
        assert!(table.find(0, &labels(3)).is_none());
    }

    #[test]
    fn a_slot_is_given_to_another_series_under_a_new_reference() {
        let table = SeriesTable::new(7);
        let make = |i| {
            table
                .find_or_insert::<()>(0, &labels(i), || Ok(()), |_| {})
                .unwrap()
        };
        let first = make(1);
        let key = table.raw_key(b"1");
        table.remember(0, key, first.series);
        let gone = [Arc::clone(&first)];
        table.hide(&gone);
        assert_eq!(table.lookup(0, key), None);
        assert!(table.find(0, &labels(1)).is_none());
        assert!(table.definitions([first.series].into_iter(), 1).is_some());
        table.free(&gone);
        let second = make(2);
        assert_eq!(second.slot(), first.slot());
        assert!(table.definitions([first.series].into_iter(), 1).is_none());
        let defined = table
            .definitions([second.series, second.series].into_iter(), 1)
            .unwrap();
        assert_eq!(defined, [(second.series, labels(2))]);
        table.set_defined([second.series].into_iter(), 1);
        assert!(
            table
                .definitions([second.series].into_iter(), 1)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_refused_series_leaves_nothing_behind() {
        let table = SeriesTable::new(7);
        assert!(
            table
                .find_or_insert(0, &labels(1), || Err(()), |_| {})
                .is_err()
        );
        assert!(table.find(0, &labels(1)).is_none());
    }
}
