//! Steps about rows that were computed, and about what was known earlier.

use std::collections::BTreeMap;

use super::model::{Cell, Contents, Op, TenantContents};
use super::observe::read_metrics;
use super::random::Random;
use super::rows::{self, START_NS};
use super::world::{Failure, World};
use super::writes::{random_matchers, random_range};
use crate::derive::Derivation;
use crate::index::Matcher;
use crate::model::{HistogramSample, Labels, SampleColumns, TimeRange, TimestampNs};
use crate::scan::ScanRequest;
use crate::store::Store;

/// Computations that write, in the order in which they win over each other.
const DERIVATIONS: [&str; 2] = ["rules/a", "rules/b"];

/// A range of what a computation wrote, and what it says now.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    pub(super) derivation: usize,
    pub(super) matchers: Vec<Matcher>,
    pub(super) range: TimeRange,
    pub(super) rows: BTreeMap<Labels, BTreeMap<i64, Cell>>,
}

impl Replacement {
    fn new(seed: u64, now: i64) -> Self {
        let mut random = Random::new(seed);
        let range = random_range(&mut random, now);
        let mut rows: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for _ in 0..random.below(12) {
            let labels = rows::labels(random.below(9));
            let time = rows::time(&mut random, now);
            let start = if random.once_in(8) { now } else { 0 };
            let cell = match random.below(6) {
                0 => Cell::Histogram {
                    id: random.below(1000),
                    start: 0,
                },
                _ => Cell::Float {
                    bits: rows::value(&mut random),
                    start,
                },
            };
            if range.contains(TimestampNs(time)) {
                rows.entry(labels).or_default().insert(time, cell);
            }
        }
        Self {
            derivation: random.below(DERIVATIONS.len() as u64) as usize,
            matchers: random_matchers(&mut random),
            range,
            rows,
        }
    }
}

fn columns(cells: &BTreeMap<i64, Cell>) -> SampleColumns {
    let mut columns = SampleColumns::default();
    for (time, cell) in cells {
        match *cell {
            Cell::Float { bits, start } => {
                columns.timestamps.push(*time);
                columns.values.push(f64::from_bits(bits));
                columns.start_timestamps.push(start);
            }
            Cell::Histogram { id, start } => columns.histograms.push(HistogramSample {
                time: TimestampNs(*time),
                histogram: rows::histogram(id),
                start_time: (start != 0).then_some(TimestampNs(start)),
            }),
        }
    }
    columns
}

impl World {
    pub(super) fn replace(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let replacement = Replacement::new(seed, self.now());
        let Replacement {
            derivation,
            matchers,
            range,
            rows,
        } = &replacement;
        self.trace.push(format!(
            "  {} {matchers:?} {range:?}: {} series",
            DERIVATIONS[*derivation],
            rows.len()
        ));
        let derivation = Derivation::new(DERIVATIONS[*derivation]).expect("a good name");
        let rows = rows
            .iter()
            .map(|(labels, cells)| (labels.clone(), columns(cells)));
        let rows: Vec<_> = rows.collect();
        let context = &self.contexts[tenant];
        let result = self
            .store()
            .replace_range(context, &derivation, matchers, *range, &rows);
        let op = Op::Replace {
            tenant,
            replacement,
            arrival: self.now(),
        };
        self.settled(op, result).map(|_| ())
    }

    /// Reads what was known at a moment that may still be asked for.
    pub(super) fn as_of(&mut self, seed: u64) -> Result<(), Failure> {
        let moment = self.moment(seed);
        match moment {
            Some(moment) => self.check_as_of(&self.store().clone(), moment),
            None => Ok(()),
        }
    }

    /// A moment within the as-of retention; often one at which something was written, or just before.
    pub(super) fn moment(&self, seed: u64) -> Option<i64> {
        let kept = self.options.as_of_retention.as_nanos() as i64;
        let oldest = (self.now() - kept).max(START_NS);
        let mut random = Random::new(seed);
        let moment = match random.below(4) {
            0 => self.now() - random.below(kept.max(1) as u64) as i64,
            1 => *random.pick(&self.stops) - 1,
            _ => *random.pick(&self.stops),
        };
        (kept > 0).then_some(moment.max(oldest))
    }

    pub(super) fn check_as_of(&mut self, store: &Store, moment: i64) -> Result<(), Failure> {
        // What is expired by now may be there or not.
        let range = TimeRange::new(self.model.floor, i64::MAX);
        let mut shown = Contents::default();
        for (tenant, context) in self.contexts.iter().enumerate() {
            let mut found = TenantContents::default();
            store
                .pin_as_of(context, TimestampNs(moment))
                .and_then(|snapshot| {
                    snapshot.scan_metrics(context, &ScanRequest::new(vec![], range))
                })
                .and_then(|scan| read_metrics(&scan, range, &mut found))
                .map_err(|error| format!("as of {moment}: {error}"))?;
            shown.tenants[tenant] = found;
        }
        let floor = self.model.floor;
        self.model
            .observe(|now| now.as_of(moment).difference(&shown, floor))
            .map_err(|difference| format!("as of {moment}: {difference}"))
    }
}
