//! Changes of series at moments between scrapes.

use super::table::{HistogramSlots, SeriesTable, Slot};
use crate::incidents::Script;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Update {
    pub(crate) at_ms: i64,
    pub(crate) change: Change,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Add {
        slot: Slot,
        amount: f64,
    },
    Set {
        slot: Slot,
        value: f64,
    },
    /// The process of this target starts anew: its counters are zero.
    Restart {
        target: usize,
    },
}

/// Collects changes.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) updates: Vec<Update>,
}

impl Recorder {
    pub(crate) fn add(&mut self, at_ms: i64, slot: Slot, amount: f64) {
        self.updates.push(Update {
            at_ms,
            change: Change::Add { slot, amount },
        });
    }

    pub(crate) fn set(&mut self, at_ms: i64, slot: Slot, value: f64) {
        self.updates.push(Update {
            at_ms,
            change: Change::Set { slot, value },
        });
    }

    /// Counts one observation: in every bucket whose bound is not below it.
    pub(crate) fn observe(&mut self, at_ms: i64, histogram: &HistogramSlots, value: f64) {
        for &(bound, slot) in histogram
            .buckets
            .iter()
            .filter(|(bound, _)| value <= *bound)
        {
            debug_assert!(bound >= value, "bug: observation beyond its bucket");
            self.add(at_ms, slot, 1.0);
        }
        self.add(at_ms, histogram.sum, value);
        self.add(at_ms, histogram.count, 1.0);
    }
}

/// The restarts of the script.
pub(crate) fn restarts(table: &SeriesTable, script: &Script) -> Vec<Update> {
    script
        .restarts()
        .iter()
        .filter_map(|restart| {
            let target = table.targets.iter().position(|target| {
                target.job == restart.job && target.instance == restart.instance
            })?;
            Some(Update {
                at_ms: restart.at_ms,
                change: Change::Restart { target },
            })
        })
        .collect()
}
