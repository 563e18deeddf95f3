//! Deltas added up to what a counter would show (feature `otlp-deltatocumulative`).
//!
//! One running total per series, in memory: bounded in bytes, forgotten when no delta came for a
//! while, gone with the process. A total that begins anew has a new start time and a smaller value,
//! which PromQL takes for the reset that it is. A request's additions go in while it is read and are
//! taken back if it is not stored, unless another request has built on them already: then the total
//! keeps them and the retry is refused as out of order, so that nothing is ever counted twice.
//!
//! Rules (those of the collector's `deltatocumulative` processor): a delta must be later than the one
//! before; histograms whose boundaries change begin anew. A repeated delta (same time) is accepted
//! and adds nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chronolith_engine::TenantId;
use chronolith_engine::model::Labels;
use parking_lot::Mutex;

use super::message::{Counts, Explicit, Exponential, PointHead, Side};

/// Buckets of one sign of an exponential total; more are merged by twos, as the collector has it.
const EXPONENTIAL_BUCKETS_MAX: i64 = 160;
/// Bytes of an entry besides its labels and its total: two map slots and the times.
const ENTRY_BYTES: usize = 256;
/// The state is swept this many times while an entry ages.
const SWEEPS_PER_AGE: i64 = 4;

/// All running totals.
#[derive(Debug)]
pub struct Deltas {
    bytes_max: usize,
    stale_ms: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    swept_ms: i64,
}

type Key = (TenantId, Labels);

#[derive(Clone, Debug)]
struct Entry {
    total: Total,
    start_ns: u64,
    time_ns: u64,
    touched_ms: i64,
}

#[derive(Clone, Debug)]
enum Total {
    Number(f64),
    Explicit(Box<Explicit>),
    Exponential(Box<Exponential>),
}

impl Total {
    fn bytes(&self) -> usize {
        8 * match self {
            Self::Number(_) => 0,
            Self::Explicit(total) => 20 + total.buckets.values.len() + total.bounds.len(),
            Self::Exponential(total) => {
                30 + total.positive.buckets.values.len() + total.negative.buckets.values.len()
            }
        }
    }
}

fn entry_bytes(key: &Key, entry: &Entry) -> usize {
    ENTRY_BYTES + key.1.as_bytes().len() + entry.total.bytes()
}

impl State {
    fn insert(&mut self, key: Key, entry: Entry) {
        self.bytes += entry_bytes(&key, &entry);
        self.take_out(&key);
        self.entries.insert(key, entry);
    }

    fn take_out(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes = self.bytes.saturating_sub(entry_bytes(key, &entry));
        Some(entry)
    }

    fn sweep(&mut self, now_ms: i64, stale_ms: i64) {
        self.swept_ms = now_ms;
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let keep = now_ms.saturating_sub(entry.touched_ms) <= stale_ms;
            freed += if keep { 0 } else { entry_bytes(key, entry) };
            keep
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

impl Deltas {
    /// No totals yet; they will take at most `bytes_max`, and be forgotten after `stale`.
    #[must_use]
    pub fn new(bytes_max: usize, stale: Duration) -> Self {
        Self {
            bytes_max,
            stale_ms: i64::try_from(stale.as_millis()).unwrap_or(i64::MAX),
            state: Mutex::default(),
        }
    }

    /// How many series have a total, and the bytes that they take.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries.len(), state.bytes)
    }

    /// Begins the additions of one request.
    #[must_use]
    pub fn session(self: &Arc<Self>, tenant: TenantId, now_ms: i64) -> DeltaSession {
        DeltaSession {
            deltas: Arc::clone(self),
            tenant,
            now_ms,
            undo: Vec::new(),
        }
    }
}

/// The additions of one request; taken back when dropped, unless they are kept.
#[derive(Debug)]
pub struct DeltaSession {
    deltas: Arc<Deltas>,
    tenant: TenantId,
    now_ms: i64,
    undo: Vec<Undo>,
}

#[derive(Debug)]
struct Undo {
    key: Key,
    before: Option<Entry>,
    /// The total is taken back only if it still is of this time.
    time_ns: u64,
}

impl DeltaSession {
    /// Adds a number; answers the total, or `None` for a repeat. `head` gets the total's start.
    ///
    /// # Errors
    /// Why the delta cannot be added, for the client.
    pub fn number(
        &mut self,
        series: &Labels,
        head: &mut PointHead,
        value: f64,
    ) -> Result<Option<f64>, String> {
        let total = self.add(series, head, |before| match before {
            Some(Total::Number(sum)) => (Total::Number(sum + value), true),
            _ => (Total::Number(value), false),
        })?;
        Ok(total.and_then(|total| match total {
            Total::Number(sum) => Some(sum),
            _ => None,
        }))
    }

    /// Adds a histogram in place; false for a repeat.
    ///
    /// # Errors
    /// As [`DeltaSession::number`].
    pub fn explicit(
        &mut self,
        series: &Labels,
        head: &mut PointHead,
        delta: &mut Explicit,
    ) -> Result<bool, String> {
        let total = self.add(series, head, |before| match before {
            Some(Total::Explicit(sum)) if sum.bounds == delta.bounds => {
                let mut sum = sum.clone();
                add_explicit(&mut sum, delta);
                (Total::Explicit(sum), true)
            }
            _ => (Total::Explicit(Box::new(delta.clone())), false),
        })?;
        if let Some(Total::Explicit(sum)) = total {
            let has_exemplars = delta.has_exemplars;
            *delta = *sum;
            delta.has_exemplars = has_exemplars;
            return Ok(true);
        }
        Ok(false)
    }

    /// Adds a histogram in place; false for a repeat.
    ///
    /// # Errors
    /// As [`DeltaSession::number`].
    pub fn exponential(
        &mut self,
        series: &Labels,
        head: &mut PointHead,
        delta: &mut Exponential,
    ) -> Result<bool, String> {
        let total = self.add(series, head, |before| match before {
            Some(Total::Exponential(sum)) if sum.zero_threshold == delta.zero_threshold => {
                let mut sum = sum.clone();
                add_exponential(&mut sum, delta);
                (Total::Exponential(sum), true)
            }
            _ => (Total::Exponential(Box::new(delta.clone())), false),
        })?;
        if let Some(Total::Exponential(sum)) = total {
            let has_exemplars = delta.has_exemplars;
            *delta = *sum;
            delta.has_exemplars = has_exemplars;
            return Ok(true);
        }
        Ok(false)
    }

    /// `merge` answers the new total and whether it goes on from the one before.
    fn add(
        &mut self,
        series: &Labels,
        head: &mut PointHead,
        merge: impl FnOnce(Option<&Total>) -> (Total, bool),
    ) -> Result<Option<Total>, String> {
        let key = (self.tenant.clone(), series.clone());
        let mut state = self.deltas.state.lock();
        let stale_ms = self.deltas.stale_ms;
        if self.now_ms.saturating_sub(state.swept_ms) > stale_ms / SWEEPS_PER_AGE {
            state.sweep(self.now_ms, stale_ms);
        }
        let before = state.entries.get(&key).cloned();
        if let Some(entry) = &before {
            if head.time_ns == entry.time_ns {
                return Ok(None);
            }
            if head.time_ns < entry.time_ns {
                return Err(format!(
                    "delta of {} is out of order: the last one is of {}",
                    head.time_ns, entry.time_ns
                ));
            }
            if head.start_ns != 0 && head.start_ns < entry.start_ns {
                return Err(format!(
                    "delta begins at {}, before its series did at {}",
                    head.start_ns, entry.start_ns
                ));
            }
        }
        let (total, goes_on) = merge(before.as_ref().map(|entry| &entry.total));
        let start_ns = match &before {
            Some(entry) if goes_on => entry.start_ns,
            // Where the client does not say, the new total begins where the old one ended.
            Some(entry) if head.start_ns == 0 => entry.time_ns,
            _ => head.start_ns,
        };
        let entry = Entry {
            total: total.clone(),
            start_ns,
            time_ns: head.time_ns,
            touched_ms: self.now_ms,
        };
        if before.is_none() && state.bytes + entry_bytes(&key, &entry) > self.deltas.bytes_max {
            return Err(format!(
                "the totals of deltas take {} bytes already, a new series has no place",
                state.bytes
            ));
        }
        state.insert(key.clone(), entry);
        head.start_ns = start_ns;
        self.undo.push(Undo {
            key,
            before,
            time_ns: head.time_ns,
        });
        Ok(Some(total))
    }

    /// The request is stored: its additions stay.
    pub fn keep(mut self) {
        self.undo.clear();
    }
}

impl Drop for DeltaSession {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        let mut state = self.deltas.state.lock();
        while let Some(Undo {
            key,
            before,
            time_ns,
        }) = self.undo.pop()
        {
            if state
                .entries
                .get(&key)
                .is_some_and(|e| e.time_ns == time_ns)
            {
                match before {
                    Some(before) => state.insert(key, before),
                    None => drop(state.take_out(&key)),
                }
            }
        }
    }
}

fn add_sums(total: &mut Option<f64>, delta: Option<f64>) {
    *total = match (*total, delta) {
        (Some(a), Some(b)) => Some(a + b),
        // A sum without some of its parts means nothing.
        _ => None,
    };
}

fn add_explicit(total: &mut Explicit, delta: &Explicit) {
    total.count = total.count.saturating_add(delta.count);
    add_sums(&mut total.sum, delta.sum);
    add_counts(&mut total.buckets, &delta.buckets, 0);
}

/// Adds the buckets of `delta`, the first of them to the bucket `at` of the total.
fn add_counts(total: &mut Counts, delta: &Counts, at: usize) {
    let length = total.values.len().max(at + delta.values.len());
    total.values.resize(length, 0);
    total.too_many |= delta.too_many;
    for (sum, count) in total.values.iter_mut().skip(at).zip(&delta.values) {
        *sum = sum.saturating_add(*count);
    }
}

fn add_exponential(total: &mut Exponential, delta: &Exponential) {
    total.count = total.count.saturating_add(delta.count);
    total.zero_count = total.zero_count.saturating_add(delta.zero_count);
    add_sums(&mut total.sum, delta.sum);
    let mut delta = delta.clone();
    let mut scale = total.scale.min(delta.scale);
    let width = |scale: i32, total: &Exponential, delta: &Exponential| {
        let positive = joint_width(&[
            (&total.positive, total.scale - scale),
            (&delta.positive, delta.scale - scale),
        ]);
        positive.max(joint_width(&[
            (&total.negative, total.scale - scale),
            (&delta.negative, delta.scale - scale),
        ]))
    };
    // 32 halvings bring any two indexes together.
    let coarsest = scale.saturating_sub(32);
    while scale > coarsest && width(scale, total, &delta) > EXPONENTIAL_BUCKETS_MAX {
        scale -= 1;
    }
    for side in [&mut total.positive, &mut total.negative] {
        downscale(side, total.scale - scale);
    }
    for side in [&mut delta.positive, &mut delta.negative] {
        downscale(side, delta.scale - scale);
    }
    total.scale = scale;
    add_side(&mut total.positive, &delta.positive);
    add_side(&mut total.negative, &delta.negative);
}

/// Buckets from the first to the last full one of all `sides`, each merged by so many halvings.
fn joint_width(sides: &[(&Side, i32)]) -> i64 {
    let mut ends: Option<(i64, i64)> = None;
    for (side, halvings) in sides {
        let full = |count: &u64| *count > 0;
        let values = &side.buckets.values;
        let (Some(first), Some(last)) =
            (values.iter().position(full), values.iter().rposition(full))
        else {
            continue;
        };
        let halvings = u32::try_from(*halvings).unwrap_or(0).min(62);
        let first = (side.offset + first as i64) >> halvings;
        let last = (side.offset + last as i64) >> halvings;
        let (low, high) = ends.unwrap_or((first, last));
        ends = Some((low.min(first), high.max(last)));
    }
    ends.map_or(0, |(low, high)| high - low + 1)
}

/// Merges neighbours so many times, and leaves empty ends out.
fn downscale(side: &mut Side, halvings: i32) {
    let halvings = u32::try_from(halvings).unwrap_or(0).min(62);
    let mut merged = Side::default();
    for (index, count) in (side.offset..).zip(&side.buckets.values) {
        if *count == 0 {
            continue;
        }
        let index = index >> halvings;
        if merged.buckets.values.is_empty() {
            merged.offset = index;
        }
        let at = (index - merged.offset) as usize;
        merged.buckets.values.resize(at + 1, 0);
        if let Some(sum) = merged.buckets.values.get_mut(at) {
            *sum = sum.saturating_add(*count);
        }
    }
    merged.buckets.too_many = side.buckets.too_many;
    *side = merged;
}

fn add_side(total: &mut Side, delta: &Side) {
    if delta.buckets.values.is_empty() {
        return;
    }
    if total.buckets.values.is_empty() {
        *total = delta.clone();
        return;
    }
    if delta.offset < total.offset {
        let missing = (total.offset - delta.offset) as usize;
        let front = std::iter::repeat_n(0, missing);
        total.buckets.values.splice(0..0, front);
        total.offset = delta.offset;
    }
    let at = (delta.offset - total.offset) as usize;
    add_counts(&mut total.buckets, &delta.buckets, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(bytes_max: usize) -> Arc<Deltas> {
        Arc::new(Deltas::new(bytes_max, Duration::from_secs(60)))
    }

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)]).unwrap()
    }

    fn head(start_ns: u64, time_ns: u64) -> PointHead {
        PointHead {
            start_ns,
            time_ns,
            no_recorded_value: false,
        }
    }

    fn add(deltas: &Arc<Deltas>, now_ms: i64, from: u64, to: u64) -> Result<Option<f64>, String> {
        let mut session = deltas.session(TenantId::default(), now_ms);
        let added = session.number(&series("m"), &mut head(from, to), 1.0);
        session.keep();
        added
    }

    #[test]
    fn numbers_add_up_and_keep_their_start() {
        let deltas = deltas(1 << 20);
        let mut session = deltas.session(TenantId::default(), 0);
        let labels = series("m");
        for (start, time, value, expected) in [
            (10, 20, 3.0, Ok(Some(3.0))),
            (20, 30, 4.0, Ok(Some(7.0))),
            (20, 30, 4.0, Ok(None)),
            (40, 50, 1.0, Ok(Some(8.0))),
            (20, 30, 9.0, Err(())),
            (5, 60, 9.0, Err(())),
        ] {
            let mut head = head(start, time);
            let got = session.number(&labels, &mut head, value).map_err(|_| ());
            assert_eq!(got, expected, "{start} {time}");
            if let Ok(Some(_)) = got {
                assert_eq!(head.start_ns, 10);
            }
        }
    }

    #[test]
    fn a_request_that_is_not_stored_leaves_no_trace() {
        let deltas = deltas(1 << 20);
        assert_eq!(add(&deltas, 0, 1, 10), Ok(Some(1.0)));
        let before = deltas.size();
        let mut session = deltas.session(TenantId::default(), 0);
        session
            .number(&series("m"), &mut head(10, 20), 5.0)
            .unwrap();
        session
            .number(&series("m"), &mut head(20, 30), 5.0)
            .unwrap();
        session
            .number(&series("other"), &mut head(20, 30), 5.0)
            .unwrap();
        drop(session);
        assert_eq!(deltas.size(), before);
        assert_eq!(
            add(&deltas, 0, 10, 20),
            Ok(Some(2.0)),
            "the retry counts once"
        );
    }

    #[test]
    fn what_another_request_built_upon_stays() {
        let deltas = deltas(1 << 20);
        let mut failing = deltas.session(TenantId::default(), 0);
        failing.number(&series("m"), &mut head(1, 10), 5.0).unwrap();
        assert_eq!(add(&deltas, 0, 10, 20), Ok(Some(6.0)));
        drop(failing);
        assert_eq!(add(&deltas, 0, 20, 30), Ok(Some(7.0)));
        assert!(add(&deltas, 0, 1, 10).is_err(), "counted already");
    }

    #[test]
    fn totals_are_bounded_and_forgotten() {
        let deltas = deltas(2 * (ENTRY_BYTES + 20));
        let add = |name: &str, now_ms| {
            let mut session = deltas.session(TenantId::default(), now_ms);
            let added = session.number(&series(name), &mut head(1, 10), 1.0);
            session.keep();
            added
        };
        assert!(add("a", 0).is_ok() && add("b", 50_000).is_ok());
        assert!(add("c", 50_000).unwrap_err().contains("no place"));
        assert!(add("c", 90_000).is_ok(), "a is forgotten");
        assert_eq!(deltas.size().0, 2);
    }

    #[test]
    fn tenants_are_kept_apart() {
        let deltas = deltas(1 << 20);
        for tenant in ["a", "b"] {
            let mut session = deltas.session(TenantId::new(tenant).unwrap(), 0);
            let added = session.number(&series("m"), &mut head(1, 10), 2.0);
            assert_eq!(added, Ok(Some(2.0)));
            session.keep();
        }
    }

    fn counts(values: &[u64]) -> Counts {
        Counts {
            values: values.to_vec(),
            too_many: false,
        }
    }

    #[test]
    fn explicit_histograms_add_up_until_their_boundaries_change() {
        let deltas = deltas(1 << 20);
        let mut session = deltas.session(TenantId::default(), 0);
        let point = |bound: f64| Explicit {
            count: 3,
            sum: Some(1.5),
            buckets: counts(&[1, 2]),
            bounds: vec![bound],
            has_exemplars: false,
        };
        let labels = series("h");
        let mut add = |bound, from, to| {
            let (mut head, mut point) = (head(from, to), point(bound));
            assert_eq!(session.explicit(&labels, &mut head, &mut point), Ok(true));
            (head.start_ns, point.count, point.sum, point.buckets.values)
        };
        assert_eq!(add(1.0, 5, 10), (5, 3, Some(1.5), vec![1, 2]));
        assert_eq!(add(1.0, 10, 20), (5, 6, Some(3.0), vec![2, 4]));
        assert_eq!(add(2.0, 20, 30), (20, 3, Some(1.5), vec![1, 2]));
    }

    fn exponential(scale: i32, offset: i64, values: &[u64]) -> Exponential {
        Exponential {
            count: values.iter().sum(),
            sum: Some(1.0),
            scale,
            positive: Side {
                offset,
                buckets: counts(values),
            },
            ..Exponential::default()
        }
    }

    #[test]
    fn exponential_histograms_meet_at_the_coarser_scale() {
        let mut total = exponential(1, 0, &[1, 2, 3, 4]);
        add_exponential(&mut total, &exponential(0, -1, &[10, 20]));
        assert_eq!((total.scale, total.positive.offset), (0, -1));
        assert_eq!(total.positive.buckets.values, [10, 23, 7]);
        assert_eq!((total.count, total.sum), (40, Some(2.0)));
    }

    #[test]
    fn wide_exponential_histograms_are_merged_until_they_fit() {
        let mut total = exponential(5, 0, &[1]);
        add_exponential(&mut total, &exponential(5, 1_000, &[2]));
        assert_eq!(total.scale, 2);
        assert!(total.positive.buckets.values.len() <= 160);
        assert_eq!(total.positive.buckets.values.iter().sum::<u64>(), 3);
        let far = i64::from(i32::MAX);
        add_exponential(&mut total, &exponential(5, far, &[2]));
        add_exponential(&mut total, &exponential(5, -far, &[2]));
        assert!(total.positive.buckets.values.len() <= 160);
        assert_eq!(total.positive.buckets.values.iter().sum::<u64>(), 7);
    }
}
