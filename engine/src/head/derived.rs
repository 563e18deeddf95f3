//! Derived rows of one generation of the head: what rules, scores and other computations wrote.
//!
//! They are kept apart from received rows, by series and derivation, each with its arrival, so that a
//! range can be replaced. They are few beside what they are computed from, so they lie here as they
//! are, uncompressed. The whole is a persistent structure (`Arc`s below a map): a view holds one
//! state of it, and a write copies only what a reader still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use smallvec::SmallVec;

use super::series_table::{TenantIndex, slot_of};
use crate::model::arrived::{ArrivedRow, LIVE, SampleValue};
use crate::model::{Generation, Histogram, TimeRange};
use crate::wal::Record;

/// What a derivation wrote to one series.
#[derive(Clone, Debug)]
pub(crate) struct DerivedSeries {
    pub(crate) derivation: Arc<str>,
    /// Ascending in time without duplicates.
    live: Vec<ArrivedRow>,
    /// Rows whose place was taken, if the store keeps such.
    superseded: Vec<ArrivedRow>,
}

impl DerivedSeries {
    /// Superseded rows, then live ones.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &ArrivedRow> {
        self.superseded.iter().chain(&self.live)
    }

    /// Takes live rows of a range away; with `until` they stay as superseded ones.
    fn remove_live(&mut self, range: TimeRange, until: Option<i64>) {
        let from = self.live.partition_point(|row| row.time < range.start.0);
        let to = self.live.partition_point(|row| row.time <= range.end.0);
        if from >= to {
            return;
        }
        for mut row in self.live.drain(from..to) {
            if let Some(until) = until {
                row.until = until;
                self.superseded.push(row);
            }
        }
    }

    fn push(&mut self, row: ArrivedRow, keep_superseded: bool) {
        let at = self.live.partition_point(|known| known.time < row.time);
        match self.live.get_mut(at) {
            Some(known) if known.time == row.time => {
                let mut before = std::mem::replace(known, row);
                if keep_superseded {
                    before.until = self.live[at].arrival;
                    self.superseded.push(before);
                }
            }
            _ => self.live.insert(at, row),
        }
    }

    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.superseded.is_empty()
    }
}

/// The derivations of one slot: nearly always one.
type SlotRows = SmallVec<[DerivedSeries; 1]>;

/// Names a derivation of a tenant.
type DerivationKey = (TenantIndex, Arc<str>);

/// The derived rows of one generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct DerivedHead {
    series: BTreeMap<u32, Arc<SlotRows>>,
    /// Generations that the rows of each derivation were computed from.
    sources: BTreeMap<DerivationKey, BTreeSet<Generation>>,
    rows: u64,
    bytes: u64,
}

impl DerivedHead {
    /// Adds the samples of a record of a derivation.
    pub(crate) fn push_record(&mut self, tenant: TenantIndex, record: &mut Record, keep: bool) {
        let Some(derivation) = record.derivation.clone() else {
            return;
        };
        let sources = self.sources.entry((tenant, Arc::clone(&derivation)));
        sources.or_default().extend(&record.sources);
        let arrival = record.arrival.0;
        let row = |time, start, value| ArrivedRow {
            time,
            arrival,
            until: LIVE,
            start,
            value,
        };
        let samples = std::mem::take(&mut record.samples);
        for (index, series) in samples.series.iter().enumerate() {
            let start = samples.starts.get(index).copied().unwrap_or(0);
            let value = SampleValue::Float(samples.values[index]);
            let row = row(samples.times[index], start, value);
            self.push(slot_of(*series), &derivation, row, keep);
        }
        for sample in std::mem::take(&mut record.histograms) {
            let start = sample.start.map_or(0, |start| start.0);
            let row = row(
                sample.time.0,
                start,
                SampleValue::Histogram(sample.histogram),
            );
            self.push(slot_of(sample.series), &derivation, row, keep);
        }
    }

    fn push(&mut self, slot: u32, derivation: &Arc<str>, row: ArrivedRow, keep: bool) {
        self.change(slot, |all| {
            let known = all.iter().position(|s| s.derivation == *derivation);
            let at = known.unwrap_or_else(|| {
                all.push(DerivedSeries {
                    derivation: Arc::clone(derivation),
                    live: Vec::new(),
                    superseded: Vec::new(),
                });
                all.len() - 1
            });
            all[at].push(row, keep);
        });
    }

    /// Removes what a derivation (`None`: any) wrote to some slots in a range. With `until`, rows stay
    /// as superseded ones.
    pub(crate) fn remove(
        &mut self,
        slots: &RoaringBitmap,
        derivation: Option<&str>,
        range: TimeRange,
        until: Option<i64>,
    ) {
        let is_meant = |series: &DerivedSeries| {
            derivation.is_none_or(|derivation| *series.derivation == *derivation)
        };
        let touched: Vec<u32> = self
            .series
            .iter()
            .filter(|(slot, all)| slots.contains(**slot) && all.iter().any(is_meant))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in touched {
            self.change(slot, |all| {
                for series in all.iter_mut().filter(|series| is_meant(series)) {
                    series.remove_live(range, until);
                    if until.is_none() && derivation.is_none() {
                        // Erasure also beats what was kept.
                        series.superseded.retain(|row| !row.is_in(range));
                    }
                }
                all.retain(|series| !series.is_empty());
            });
        }
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut SlotRows)) {
        let all = Arc::make_mut(self.series.entry(slot).or_default());
        let before = size(all);
        change(all);
        let after = size(all);
        if all.is_empty() {
            self.series.remove(&slot);
        }
        self.rows = (self.rows + after.0).saturating_sub(before.0);
        self.bytes = (self.bytes + after.1).saturating_sub(before.1);
    }

    /// What derivations wrote to a slot.
    pub(crate) fn series(&self, slot: u32) -> &[DerivedSeries] {
        self.series.get(&slot).map_or(&[], |all| all.as_slice())
    }

    /// Whether derivations wrote to a slot.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.series.contains_key(&slot)
    }

    /// Whether a slot has rows in a range that are there (now, or as of then).
    pub(crate) fn overlaps(&self, slot: u32, range: TimeRange, as_of: Option<i64>) -> bool {
        self.series(slot).iter().any(|series| {
            let mut rows = series.rows();
            rows.any(|row| row.is_in(range) && row.is_there(as_of))
        })
    }

    /// Slots that have rows, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.series.keys().copied()
    }

    /// Derivations and the generations that their rows were computed from.
    pub(crate) fn derivations(
        &self,
    ) -> impl Iterator<Item = (TenantIndex, &Arc<str>, &BTreeSet<Generation>)> {
        self.sources
            .iter()
            .map(|((tenant, derivation), sources)| (*tenant, derivation, sources))
    }

    /// Rows held, superseded ones included.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Estimated bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// Rows and bytes of a slot.
fn size(all: &SlotRows) -> (u64, u64) {
    let (mut rows, mut bytes) = (0, (size_of::<SlotRows>() + 48) as u64);
    for series in all {
        let count = series.live.len() + series.superseded.len();
        let room = series.live.capacity() + series.superseded.capacity();
        rows += count as u64;
        bytes += (room * size_of::<ArrivedRow>()) as u64;
        // Histograms of a series are alike: one speaks for all.
        if let Some(SampleValue::Histogram(histogram)) = series.live.last().map(|row| &row.value) {
            bytes += (count * (histogram.heap_bytes() + size_of::<Histogram>())) as u64;
        }
    }
    (rows, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SeriesRef, TimestampNs};
    use crate::wal::Samples;

    fn record(arrival: i64, samples: &[(u64, i64, f64)]) -> Record {
        Record {
            arrival: TimestampNs(arrival),
            derivation: Some(Arc::from("rule/a")),
            sources: vec![Generation(arrival as u64)],
            samples: Samples {
                series: samples.iter().map(|s| SeriesRef(s.0)).collect(),
                times: samples.iter().map(|s| s.1).collect(),
                starts: Vec::new(),
                values: samples.iter().map(|s| s.2).collect(),
            },
            ..Record::default()
        }
    }

    fn shape(head: &DerivedHead, slot: u32) -> Vec<(i64, i64, i64)> {
        let rows = head.series(slot).iter().flat_map(DerivedSeries::rows);
        rows.map(|r| (r.time, r.arrival, r.until)).collect()
    }

    #[test]
    fn ranges_are_replaced_and_what_a_reader_holds_stays() {
        for keep in [false, true] {
            let mut head = DerivedHead::default();
            head.push_record(
                0,
                &mut record(9, &[(1, 1, 1.0), (1, 3, 3.0), (2, 1, 1.0)]),
                keep,
            );
            let held = head.clone();
            let until = keep.then_some(12);
            head.remove(
                &RoaringBitmap::from([1]),
                Some("rule/a"),
                TimeRange::new(2, 9),
                until,
            );
            head.remove(
                &RoaringBitmap::from([1, 2]),
                Some("rule/b"),
                TimeRange::ALL,
                None,
            );
            head.push_record(0, &mut record(12, &[(1, 1, 2.0), (1, 4, 4.0)]), keep);
            assert_eq!(shape(&held, 1), [(1, 9, LIVE), (3, 9, LIVE)]);
            let live = [(1, 12, LIVE), (4, 12, LIVE)];
            let superseded = [(3, 9, 12), (1, 9, 12)];
            let all = [&superseded[..], &live[..]].concat();
            assert_eq!(shape(&head, 1), if keep { &all[..] } else { &live[..] });
            assert_eq!(head.rows(), if keep { 5 } else { 3 });
            assert!(head.overlaps(1, TimeRange::new(4, 4), None));
            assert_eq!(head.overlaps(1, TimeRange::new(3, 3), Some(11)), keep);
            // A deletion takes all of it.
            head.remove(&RoaringBitmap::from([1, 2]), None, TimeRange::ALL, None);
            assert!(head.is_empty() && head.rows() == 0 && !held.is_empty());
        }
    }
}
