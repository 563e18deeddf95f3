//! The result cache of range queries: a repeated dashboard costs only its newest steps.
//!
//! What is kept is the answer in columns ([`block`]), under everything that decides on it: tenant,
//! matchers that the principal must satisfy, the printed expression, step, start modulo step, lookback.
//! With it goes the store's change mark at the time of the evaluation. The next query asks the engine
//! from which time on anything changed since, however it changed (in order, late, deleted, replaced,
//! expired), and takes over exactly the steps whose samples ([`reach`]) lie outside of that: no clock
//! and no guess decides how fresh is fresh enough. The steps that are left, at either end, are evaluated
//! and joined to the others.
//!
//! ```text
//! kept        |--------------------------|
//! changed since                     |------------ …
//! asked            |---------------------------|
//! taken over       |---------------|
//! evaluated                         |-----------|
//! ```
//!
//! Remarks (annotations) belong to steps, but only the evaluation as a whole knows them. They are taken
//! over if all steps of the kept answer are, or if the steps evaluated now give the same; otherwise the
//! whole query is evaluated, so that no remark is lost and none outlives its reason.

pub(crate) mod block;
pub(crate) mod reach;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chronolith_engine::{ChangeMark, ChangedSince, Matcher, RequestContext, TenantId};
use parking_lot::{Mutex, MutexGuard};

use super::annotations::Annotations;
use super::ast::Expr;
use super::result::Value;
use super::steps::Steps;
use block::Block;
use reach::Reach;
pub use text::KeptText;

/// One answer may take this share of the cache; larger ones are not kept.
const ENTRY_SHARE: usize = 4;

/// What an answer depends on besides the data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    tenant: TenantId,
    /// The matchers that the context demands, printed.
    required: String,
    expr: String,
    step_ms: i64,
    phase_ms: i64,
    lookback_ms: i64,
}

/// A range query that the cache may know.
#[derive(Debug)]
pub(crate) struct CacheableQuery {
    key: Key,
    text: Arc<str>,
    reach: Reach,
    steps: Steps,
}

/// A kept answer.
#[derive(Debug)]
pub(crate) struct Entry {
    block: Arc<Block>,
    /// The state of the store that it was read from.
    mark: ChangeMark,
    /// Positions in them are those of `text`.
    annotations: Annotations,
    text: Arc<str>,
    /// Steps of the longest query it served: it keeps no more.
    steps_max: usize,
}

/// The part of a kept answer that is as good as evaluated now.
#[derive(Debug)]
pub(crate) struct Reuse {
    entry: Arc<Entry>,
    /// Times of the first and the last step, ms.
    steps: RangeInclusive<i64>,
    /// Steps of the entry that are good, asked for or not.
    good: RangeInclusive<i64>,
}

/// An answer of which at least some steps were taken over.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Empty if it is written already.
    pub(crate) value: Value,
    pub(crate) annotations: Annotations,
    /// Where it is written, if the caller wants that and nothing had to be evaluated.
    pub(crate) text: Option<KeptText>,
}

/// What has been asked of a [`ResultCache`] and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Queries answered without evaluating anything.
    pub hits: u64,
    /// Queries of which some steps were evaluated.
    pub partial_hits: u64,
    /// Queries evaluated as a whole that could have been answered.
    pub misses: u64,
    /// Range queries that cannot be kept.
    pub refused: u64,
    /// Steps taken over.
    pub steps_reused: u64,
    /// Answers dropped to make room.
    pub evictions: u64,
    /// Answers held.
    pub entries: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// Answers of range queries, the least recently used leaving first.
#[derive(Debug)]
pub(crate) struct ResultCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
    hits: AtomicU64,
    partial_hits: AtomicU64,
    misses: AtomicU64,
    refused: AtomicU64,
    steps_reused: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the number of the last use.
    entries: HashMap<Arc<Key>, (u64, Arc<Entry>)>,
    by_use: BTreeMap<u64, Arc<Key>>,
    uses: u64,
    bytes: usize,
}

impl CacheableQuery {
    /// `None` if the query's steps cannot be kept.
    pub(crate) fn new(
        request: &RequestContext,
        (text, parsed, resolved): (&Arc<str>, &Expr, &Expr),
        steps: Steps,
        lookback_ms: i64,
        delayed_name_removal: bool,
    ) -> Option<Self> {
        let reach = Reach::of(parsed, resolved, lookback_ms, delayed_name_removal)?;
        let key = Key {
            tenant: request.tenant.clone(),
            required: printed(&request.required_matchers),
            expr: resolved.to_string(),
            step_ms: steps.step_ms,
            phase_ms: steps.start_ms.rem_euclid(steps.step_ms),
            lookback_ms,
        };
        Some(Self {
            key,
            text: Arc::clone(text),
            reach,
            steps,
        })
    }

    /// The steps before and after those that are taken over.
    pub(crate) fn missing(&self, reuse: &Reuse) -> [Option<Steps>; 2] {
        let Steps {
            start_ms, step_ms, ..
        } = self.steps;
        let between = |from: i64, to: i64| {
            Steps::range(from, to, step_ms, usize::MAX).filter(|steps| steps.count > 0)
        };
        [
            between(start_ms, reuse.steps.start() - step_ms),
            between(reuse.steps.end() + step_ms, self.steps.end_ms()),
        ]
    }

    fn asked(&self) -> RangeInclusive<i64> {
        self.steps.start_ms..=self.steps.end_ms()
    }
}

/// Matchers as text that differs where they differ.
fn printed(matchers: &[Matcher]) -> String {
    let mut text = String::new();
    for m in matchers {
        let (name, value) = (m.name(), m.value());
        let lengths = (name.len(), value.len());
        text.push_str(&format!("{lengths:?}{name}{:?}{value}", m.op()));
    }
    text
}

impl Reuse {
    /// How many steps are taken over.
    pub(crate) fn step_count(&self) -> usize {
        count(&self.steps, self.entry.block.steps().step_ms)
    }
}

impl Entry {
    /// The steps that read the same now.
    fn good(&self, reach: &Reach, changed: ChangedSince) -> Option<RangeInclusive<i64>> {
        let steps = self.block.steps();
        let (mut first, mut last) = (steps.start_ms, steps.end_ms());
        let (fixed_from, fixed_to) = reach.fixed.unwrap_or((i64::MAX, i64::MIN));
        if let Some(from) = changed.touched_from {
            let from = from.to_millis();
            if fixed_to >= from {
                return None;
            }
            last = last.min(from.saturating_sub(reach.ahead_ms).saturating_sub(1));
        }
        if let Some(until) = changed.removed_until {
            let until = until.to_millis();
            if fixed_from <= until {
                return None;
            }
            first = first.max(until.saturating_add(reach.back_ms));
        }
        on_grid(steps, first, last)
    }
}

/// The steps of a grid that lie in `first..=last`.
fn on_grid(grid: Steps, first: i64, last: i64) -> Option<RangeInclusive<i64>> {
    let (start, step) = (grid.start_ms, grid.step_ms);
    let early = first.saturating_sub(start).max(0);
    let first = start.checked_add(early.checked_add(step - 1)? / step * step)?;
    let last = start.checked_add(last.checked_sub(start)?.div_euclid(step) * step)?;
    (first <= last).then_some(first..=last)
}

fn count(range: &RangeInclusive<i64>, step_ms: i64) -> usize {
    let length = range.end() - range.start();
    usize::try_from(length / step_ms).map_or(0, |n| n + 1)
}

impl ResultCache {
    /// A cache of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
            hits: AtomicU64::new(0),
            partial_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            steps_reused: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// What is known of the answer. `changed` tells what changed since a mark, up to the state of the
    /// store that the rest of the answer will be read from.
    pub(crate) fn find(
        &self,
        query: &CacheableQuery,
        changed: impl FnOnce(ChangeMark) -> ChangedSince,
    ) -> Option<Reuse> {
        let entry = {
            let mut kept = self.kept.lock();
            kept.used(&query.key)?
        };
        if !entry.annotations.is_empty() && entry.text != query.text {
            return None;
        }
        let good = entry.good(&query.reach, changed(entry.mark))?;
        let asked = query.asked();
        let first = *good.start().max(asked.start());
        let last = *good.end().min(asked.end());
        let steps = on_grid(query.steps, first, last)?;
        let reuse = Reuse { entry, steps, good };
        // Two evaluations read more than one where they have to read nearly everything.
        let reused = count(&reuse.steps, query.steps.step_ms);
        if query.missing(&reuse).iter().all(Option::is_some) && reused * 2 < query.steps.count {
            return None;
        }
        Some(reuse)
    }

    /// The answer of what is taken over and what was evaluated: the steps before and after it. `None`
    /// if the remarks cannot be told without evaluating all. The answer is kept for the next time; with
    /// `keep_text` its written form may be too.
    pub(crate) fn join(
        self: &Arc<Self>,
        query: &CacheableQuery,
        reuse: &Reuse,
        fresh: [Option<(Steps, Value)>; 2],
        annotations: &Annotations,
        mark: ChangeMark,
        keep_text: bool,
    ) -> Option<Joined> {
        let entry = &reuse.entry;
        let known = &entry.annotations;
        let all = entry.block.steps().start_ms..=entry.block.steps().end_ms();
        let merged = if reuse.steps == all {
            let mut merged = known.clone();
            merged.merge(annotations.clone());
            merged
        } else if known.is_repeated_in(annotations) {
            annotations.clone()
        } else {
            return None;
        };
        let step_ms = query.steps.step_ms;
        self.steps_reused
            .fetch_add(count(&reuse.steps, step_ms) as u64, Ordering::Relaxed);
        let blocks = fresh.map(|part| {
            part.map(|(steps, value)| match value {
                Value::Matrix(matrix) => Block::from_matrix(steps, &matrix),
                _ => Block::from_matrix(steps, &[]),
            })
        });
        let kept_with = |block: Arc<Block>| Entry {
            block,
            mark,
            annotations: merged.clone(),
            text: Arc::clone(&query.text),
            steps_max: entry.steps_max.max(query.steps.count),
        };
        let [before, after] = &blocks;
        if before.is_none() && after.is_none() {
            self.hits.fetch_add(1, Ordering::Relaxed);
            let (block, steps) = (&entry.block, &reuse.steps);
            let text = keep_text.then(|| KeptText::new(self, &query.key, block, steps));
            let is_written = text.as_ref().is_some_and(|text| text.written().is_some());
            let matrix = match is_written {
                true => Vec::new(),
                false => block.to_matrix(steps),
            };
            // Nothing of it changed: the next look at what did can begin here.
            if reuse.good == all && reuse.steps == all && entry.mark != mark {
                self.insert(&query.key, kept_with(Arc::clone(&entry.block)));
            }
            return Some(Joined {
                value: Value::Matrix(matrix),
                annotations: merged,
                text,
            });
        }
        self.partial_hits.fetch_add(1, Ordering::Relaxed);
        // Good steps that were not asked for stay, as far as there is room.
        let steps_max = entry.steps_max.max(query.steps.count) as i64;
        let length = (steps_max - 1).saturating_mul(step_ms);
        let (mut first, mut last) = (*reuse.good.start(), *reuse.good.end());
        match after {
            Some(_) => first = first.max(query.steps.end_ms().saturating_sub(length)),
            None => last = last.min(query.steps.start_ms.saturating_add(length)),
        }
        let range = |block: &Block| block.steps().start_ms..=block.steps().end_ms();
        let mut parts = Vec::with_capacity(3);
        parts.extend(before.iter().map(|block| (block, range(block))));
        parts.push((&*entry.block, first..=last));
        parts.extend(after.iter().map(|block| (block, range(block))));
        let (first, last) = (*parts.first()?.1.start(), *parts.last()?.1.end());
        let steps = Steps::range(first, last, step_ms, usize::MAX)?;
        let joined = Arc::new(Block::join(steps, &parts));
        let matrix = joined.to_matrix(&query.asked());
        self.insert(&query.key, kept_with(joined));
        Some(Joined {
            value: Value::Matrix(matrix),
            annotations: merged,
            text: None,
        })
    }

    /// Keeps an answer that was evaluated as a whole.
    pub(crate) fn keep(
        &self,
        query: &CacheableQuery,
        value: &Value,
        annotations: &Annotations,
        mark: ChangeMark,
    ) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let Value::Matrix(matrix) = value else { return };
        // At least 8 bytes a point: what cannot fit need not be copied.
        let points: usize = matrix
            .iter()
            .map(|s| s.floats.len() + s.histograms.len())
            .sum();
        if points.saturating_mul(8) > self.bytes_max / ENTRY_SHARE {
            return;
        }
        let entry = Entry {
            block: Arc::new(Block::from_matrix(query.steps, matrix)),
            mark,
            annotations: annotations.clone(),
            text: Arc::clone(&query.text),
            steps_max: query.steps.count,
        };
        self.insert(&query.key, entry);
    }

    /// Counts a range query that cannot be kept.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn insert(&self, key: &Key, entry: Entry) {
        let bytes = entry.bytes(key);
        if bytes > self.entry_bytes_max() {
            return;
        }
        let mut kept = self.kept.lock();
        kept.insert(Arc::new(key.clone()), &Arc::new(entry));
        self.make_room(kept);
    }

    /// Bytes that one answer may take.
    fn entry_bytes_max(&self) -> usize {
        self.bytes_max / ENTRY_SHARE
    }

    /// Keeps the written form of steps of a kept answer, if that is still there.
    fn keep_text(
        &self,
        key: &Key,
        block: &Arc<Block>,
        steps: RangeInclusive<i64>,
        pieces: Arc<[Bytes]>,
    ) {
        let mut kept = self.kept.lock();
        let Some((_, entry)) = kept.entries.get(key) else {
            return;
        };
        if !Arc::ptr_eq(&entry.block, block) {
            return;
        }
        // Only under the lock, so that what was added for an entry is what is taken off with it.
        let before = entry.bytes(key);
        block.set_text(steps, pieces);
        let after = entry.bytes(key);
        kept.bytes = (kept.bytes + after).saturating_sub(before);
        self.make_room(kept);
    }

    /// Drops what was used the longest ago.
    fn make_room(&self, mut kept: MutexGuard<'_, Kept>) {
        let mut evicted = Vec::new();
        while kept.bytes > self.bytes_max {
            match kept.pop_oldest() {
                Some(oldest) => evicted.push(oldest),
                None => break,
            }
        }
        drop(kept);
        self.evictions
            .fetch_add(evicted.len() as u64, Ordering::Relaxed);
    }

    /// Figures.
    pub(crate) fn stats(&self) -> CacheStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let kept = self.kept.lock();
        CacheStats {
            hits: load(&self.hits),
            partial_hits: load(&self.partial_hits),
            misses: load(&self.misses),
            refused: load(&self.refused),
            steps_reused: load(&self.steps_reused),
            evictions: load(&self.evictions),
            entries: kept.entries.len() as u64,
            bytes: kept.bytes as u64,
        }
    }
}

impl Entry {
    fn bytes(&self, key: &Key) -> usize {
        let texts = key.expr.len() + key.required.len() + self.text.len();
        self.block.bytes() + texts + size_of::<Key>() + size_of::<Self>() + 256
    }
}

impl Kept {
    fn used(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let (known, _) = self.entries.get_key_value(key)?;
        let key = Arc::clone(known);
        self.uses += 1;
        let (use_number, entry) = self.entries.get_mut(&key)?;
        self.by_use.remove(use_number);
        *use_number = self.uses;
        self.by_use.insert(self.uses, key);
        Some(Arc::clone(entry))
    }

    fn insert(&mut self, key: Arc<Key>, entry: &Arc<Entry>) {
        self.uses += 1;
        self.bytes += entry.bytes(&key);
        self.by_use.insert(self.uses, Arc::clone(&key));
        let before = self
            .entries
            .insert(Arc::clone(&key), (self.uses, Arc::clone(entry)));
        if let Some((use_number, before)) = before {
            self.by_use.remove(&use_number);
            self.bytes = self.bytes.saturating_sub(before.bytes(&key));
        }
    }

    fn pop_oldest(&mut self) -> Option<Arc<Entry>> {
        let (_, key) = self.by_use.pop_first()?;
        let (_, entry) = self.entries.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes(&key));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::TimestampNs;

    use super::*;

    fn steps(start_ms: i64, count: usize) -> Steps {
        Steps {
            start_ms,
            step_ms: 10,
            count,
        }
    }

    fn entry(start_ms: i64, count: usize) -> Entry {
        Entry {
            block: Arc::new(Block::from_matrix(steps(start_ms, count), &[])),
            mark: ChangeMark::default(),
            annotations: Annotations::default(),
            text: Arc::from(""),
            steps_max: count,
        }
    }

    const REACH: Reach = Reach {
        back_ms: 30,
        ahead_ms: 0,
        fixed: None,
    };

    fn good(reach: &Reach, from_ms: Option<i64>, until_ms: Option<i64>) -> Option<(i64, i64)> {
        let changed = ChangedSince {
            touched_from: from_ms.and_then(TimestampNs::from_millis),
            removed_until: until_ms.and_then(TimestampNs::from_millis),
        };
        let range = entry(100, 11).good(reach, changed)?;
        Some((*range.start(), *range.end()))
    }

    #[test]
    fn steps_are_good_whose_samples_did_not_change() {
        assert_eq!(good(&REACH, None, None), Some((100, 200)));
        assert_eq!(good(&REACH, Some(200), None), Some((100, 190)));
        assert_eq!(good(&REACH, Some(201), None), Some((100, 200)));
        assert_eq!(good(&REACH, Some(100), None), None);
        // The window of step 130 is (100, 130].
        assert_eq!(good(&REACH, None, Some(100)), Some((130, 200)));
        assert_eq!(good(&REACH, None, Some(99)), Some((130, 200)));
        assert_eq!(good(&REACH, Some(165), Some(111)), Some((150, 160)));
        let ahead = Reach {
            ahead_ms: 15,
            ..REACH
        };
        assert_eq!(good(&ahead, Some(200), None), Some((100, 180)));
        let delayed = Reach {
            ahead_ms: -50,
            ..REACH
        };
        assert_eq!(good(&delayed, Some(200), None), Some((100, 200)));
        let fixed = Reach {
            back_ms: 0,
            ahead_ms: i64::MIN,
            fixed: Some((40, 60)),
        };
        assert_eq!(good(&fixed, Some(61), None), Some((100, 200)));
        assert_eq!(good(&fixed, Some(60), None), None);
        assert_eq!(good(&fixed, None, Some(40)), None);
        assert_eq!(good(&fixed, None, Some(39)), Some((100, 200)));
    }

    #[test]
    fn the_least_recently_used_answer_leaves_first() {
        let cache = ResultCache::new(8 * 1024);
        let key = |expr: String| Key {
            tenant: TenantId::default(),
            required: String::new(),
            expr,
            step_ms: 10,
            phase_ms: 0,
            lookback_ms: 1,
        };
        for number in 0..40 {
            cache.insert(&key(format!("a{number}")), entry(0, 5));
            // In use all the time.
            assert!(cache.kept.lock().used(&key("a0".into())).is_some());
        }
        let stats = cache.stats();
        assert!(stats.bytes <= 8 * 1024 && stats.evictions > 0, "{stats:?}");
        assert_eq!(stats.entries + stats.evictions, 40);
        assert!(cache.kept.lock().used(&key("a39".into())).is_some());
        assert!(cache.kept.lock().used(&key("a1".into())).is_none());
    }

    #[test]
    fn matchers_print_differently_where_they_differ() {
        let (a, b) = ([Matcher::equal("a", "b")], [Matcher::equal("ab", "")]);
        assert_ne!(printed(&a), printed(&b));
        let both: Vec<Matcher> = a.iter().chain(&b).cloned().collect();
        assert_ne!(printed(&both), printed(&a));
    }
}
