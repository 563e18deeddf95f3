//! What patterns found in segments: a dashboard asks with the same ones again and again, and the values
//! of a segment never change.
//!
//! Shared by the process and bounded in bytes; what was not asked for longest goes first. Entries of
//! segments that are gone are never asked for again, so they go by themselves.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::index::MatchOp;

/// Entries and bytes that are kept.
const ENTRIES_MAX: usize = 4096;
const BYTES_MAX: usize = 16 << 20;
/// What an entry takes besides pattern and rows.
const ENTRY_BYTES: usize = 160;

/// A matcher on a label of one open segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    /// [`super::label_index::LabelIndex::id`]: never given twice in a process.
    pub(super) index: u64,
    pub(super) label: u32,
    pub(super) op: MatchOp,
    pub(super) pattern: Arc<str>,
}

struct Entry {
    last_use: u64,
    bytes: usize,
    rows: Arc<RoaringBitmap>,
}

#[derive(Default)]
struct SelectCache {
    uses: u64,
    bytes: usize,
    by_key: HashMap<CacheKey, Entry>,
}

static CACHE: Mutex<Option<SelectCache>> = Mutex::new(None);

/// The rows that were found before.
pub(super) fn get(key: &CacheKey) -> Option<Arc<RoaringBitmap>> {
    CACHE.lock().get_or_insert_default().get(key)
}

/// Remembers the rows that were found.
pub(super) fn insert(key: CacheKey, rows: &RoaringBitmap) {
    let rows = Arc::new(rows.clone());
    CACHE.lock().get_or_insert_default().insert(key, rows);
}

impl SelectCache {
    fn get(&mut self, key: &CacheKey) -> Option<Arc<RoaringBitmap>> {
        self.uses += 1;
        let entry = self.by_key.get_mut(key)?;
        entry.last_use = self.uses;
        Some(Arc::clone(&entry.rows))
    }

    fn insert(&mut self, key: CacheKey, rows: Arc<RoaringBitmap>) {
        let bytes = rows.serialized_size() + key.pattern.len() + ENTRY_BYTES;
        if bytes > BYTES_MAX / 16 {
            return;
        }
        if self.by_key.len() >= ENTRIES_MAX || self.bytes + bytes > BYTES_MAX {
            self.make_room();
        }
        self.uses += 1;
        let entry = Entry {
            last_use: self.uses,
            bytes,
            rows,
        };
        self.bytes += bytes;
        if let Some(before) = self.by_key.insert(key, entry) {
            self.bytes -= before.bytes;
        }
    }

    /// Drops the older half: looking for the oldest one each time would cost more than it saves.
    fn make_room(&mut self) {
        let mut uses: Vec<u64> = self.by_key.values().map(|entry| entry.last_use).collect();
        uses.sort_unstable();
        let middle = uses.get(uses.len() / 2).copied().unwrap_or(0);
        self.by_key.retain(|_, entry| entry.last_use > middle);
        self.bytes = self.by_key.values().map(|entry| entry.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> CacheKey {
        CacheKey {
            index: number,
            label: 0,
            op: MatchOp::Regex,
            pattern: Arc::from("a.*"),
        }
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let mut cache = SelectCache::default();
        let rows = Arc::new(RoaringBitmap::from_iter([1, 5]));
        for number in 0..ENTRIES_MAX as u64 {
            cache.insert(key(number), Arc::clone(&rows));
        }
        assert!(cache.get(&key(0)).is_some());
        cache.insert(key(1 << 40), Arc::clone(&rows));
        assert!(cache.get(&key(0)).is_some() && cache.get(&key(1 << 40)).is_some());
        assert!(cache.get(&key(1)).is_none());
        let held: usize = cache.by_key.values().map(|entry| entry.bytes).sum();
        assert_eq!(held, cache.bytes);
        cache.insert(key(0), Arc::clone(&rows));
        let held: usize = cache.by_key.values().map(|entry| entry.bytes).sum();
        assert_eq!(held, cache.bytes);
    }

    #[test]
    fn bytes_are_bounded() {
        let mut cache = SelectCache::default();
        let many = Arc::new((0..400_000).step_by(3).collect::<RoaringBitmap>());
        for number in 0..2000 {
            cache.insert(key(number), Arc::clone(&many));
            assert!(cache.bytes <= BYTES_MAX);
        }
        assert!(cache.get(&key(1999)).is_some());
    }
}
