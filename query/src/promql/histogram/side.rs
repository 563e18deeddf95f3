//! One side of a histogram as a list of buckets in ascending index, which is easier to work on
//! than spans.

use chronolith_engine::model::BucketSpan;

use super::bounds::exponential_bound;

/// A sum with the part that floating point lost (Kahan's method with Neumaier's improvement).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Compensated {
    pub(super) value: f64,
    pub(super) lost: f64,
}

impl Compensated {
    pub(super) fn new(value: f64) -> Self {
        Self { value, lost: 0.0 }
    }

    /// Adds with compensation.
    pub(super) fn add(&mut self, increment: f64) {
        let total = self.value + increment;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.value.abs() >= increment.abs() {
            self.lost += (self.value - total) + increment;
        } else {
            self.lost += (increment - total) + self.value;
        }
        self.value = total;
    }

    /// Adds `other`, its lost part included, with or without keeping what this addition loses.
    pub(super) fn merge(&mut self, other: Compensated, compensate: bool) {
        if compensate {
            self.add(other.value);
            if other.lost != 0.0 {
                self.add(other.lost);
            }
        } else {
            self.value += other.value;
        }
    }

    pub(super) fn total(self) -> f64 {
        self.value + self.lost
    }
}

/// A bucket by its index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) index: i32,
    pub(super) count: Compensated,
}

/// The explicit buckets of a side in ascending index. Stops where spans and populations disagree.
pub(super) fn entries<'a>(
    spans: &'a [BucketSpan],
    buckets: &'a [f64],
) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut end = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let start = end.saturating_add(span.offset);
        end = start.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        start..end
    });
    indexes.zip(buckets.iter().copied())
}

/// Buckets in ascending index, each index once.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Side(pub(super) Vec<Entry>);

impl Side {
    pub(super) fn new(spans: &[BucketSpan], buckets: &[f64]) -> Self {
        let entry = |(index, count)| Entry {
            index,
            count: Compensated::new(count),
        };
        Self(entries(spans, buckets).map(entry).collect())
    }

    /// Back to spans and populations.
    pub(super) fn into_spans(self) -> (Vec<BucketSpan>, Vec<f64>) {
        let mut spans: Vec<BucketSpan> = Vec::new();
        let mut next = 0i32;
        for entry in &self.0 {
            match spans.last_mut() {
                Some(span) if entry.index == next => span.length += 1,
                _ => spans.push(BucketSpan {
                    offset: entry.index.saturating_sub(next),
                    length: 1,
                }),
            }
            next = entry.index.saturating_add(1);
        }
        (spans, self.0.iter().map(|e| e.count.total()).collect())
    }

    /// Drops buckets without population.
    pub(super) fn compact(&mut self) {
        self.0.retain(|e| e.count.value != 0.0);
    }

    /// Merges buckets as a change from schema `from` to the coarser `to` does.
    pub(super) fn reduce(&mut self, from: i32, to: i32, compensate: bool) {
        let shift = (from - to).clamp(0, 31);
        if shift == 0 {
            return;
        }
        let mut merged: Vec<Entry> = Vec::with_capacity(self.0.len());
        for entry in &self.0 {
            let index = (entry.index.saturating_sub(1) >> shift) + 1;
            match merged.last_mut() {
                Some(last) if last.index == index => last.count.merge(entry.count, compensate),
                _ => merged.push(Entry {
                    index,
                    count: entry.count,
                }),
            }
        }
        self.0 = merged;
    }

    /// Moves every bucket of custom boundaries `from` into that of the coarser `to` which holds it.
    pub(super) fn rebound(&mut self, from: &[f64], to: &[f64], compensate: bool) {
        let mut merged: Vec<Entry> = Vec::with_capacity(self.0.len());
        for entry in &self.0 {
            let upper = usize::try_from(entry.index).ok().and_then(|i| from.get(i));
            let target = upper.map_or(to.len(), |upper| to.partition_point(|b| b < upper));
            let index = i32::try_from(target).unwrap_or(i32::MAX);
            match merged.last_mut() {
                Some(last) if last.index == index => last.count.merge(entry.count, compensate),
                _ => merged.push(Entry {
                    index,
                    count: entry.count,
                }),
            }
        }
        self.0 = merged;
    }

    /// Adds the buckets of `other`, which has the same layout.
    pub(super) fn merge(&mut self, other: &Side, compensate: bool) {
        let same = self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.index == b.index);
        if same {
            for (a, b) in self.0.iter_mut().zip(&other.0) {
                a.count.merge(b.count, compensate);
            }
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            match (mine.peek(), theirs.peek()) {
                (Some(a), Some(b)) if a.index == b.index => {
                    let mut entry = **a;
                    entry.count.merge(b.count, compensate);
                    merged.push(entry);
                    mine.next();
                    theirs.next();
                }
                (Some(a), Some(b)) if a.index > b.index => {
                    merged.push(**b);
                    theirs.next();
                }
                (Some(a), _) => {
                    merged.push(**a);
                    mine.next();
                }
                (None, Some(b)) => {
                    merged.push(**b);
                    theirs.next();
                }
                (None, None) => break,
            }
        }
        self.0 = merged;
    }

    /// Changes every sign.
    pub(super) fn negate(&mut self) {
        for entry in &mut self.0 {
            entry.count = Compensated {
                value: -entry.count.value,
                lost: -entry.count.lost,
            };
        }
    }

    /// Drops buckets that end within the zero bucket.
    pub(super) fn drop_below(&mut self, threshold: f64, schema: i32) {
        let inside = self
            .0
            .partition_point(|e| exponential_bound(e.index, schema) <= threshold);
        self.0.drain(..inside);
    }
}
