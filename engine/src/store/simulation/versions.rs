//! Every version of every metric row: who wrote it, when it counts as arrived, and what it said.
//!
//! What a store shows of a row follows from its versions: of each owner (what was received, each
//! derivation) the last one; of the owners that have one, the one that arrived last, and of those that
//! arrived together that of the later owner. As of a moment, versions that had not arrived by then do
//! not count.

use std::collections::BTreeMap;

use super::model::Cell;
use super::rows::SECOND_NS;
use crate::index::Matcher;
use crate::model::{Labels, TimeRange, TimestampNs};

/// Who wrote a row: nobody in particular, or the derivation of a number.
pub(super) type Owner = Option<usize>;

/// One version of a row; without a cell it says that the row was replaced by nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) owner: Owner,
    pub(super) arrival: i64,
    pub(super) cell: Option<Cell>,
}

/// When a received row counts as arrived: at its own time, but in a store that keeps what was
/// overwritten at `now` (`None` for other stores), if that is more than a minute off.
pub(super) fn received_at(now: Option<i64>, time: i64) -> i64 {
    match now {
        Some(now) if now.abs_diff(time) > 60 * SECOND_NS as u64 => now,
        _ => time,
    }
}

/// The versions of all rows of a tenant, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Versions(BTreeMap<Labels, BTreeMap<i64, Vec<Version>>>);

fn there(versions: &[Version], moment: i64) -> Option<Cell> {
    let mut newest: BTreeMap<Owner, Version> = BTreeMap::new();
    for version in versions.iter().filter(|v| v.arrival <= moment) {
        newest.insert(version.owner, *version);
    }
    let live = newest.into_values().filter(|v| v.cell.is_some());
    live.max_by_key(|v| (v.arrival, v.owner))?.cell
}

impl Versions {
    pub(super) fn write(&mut self, labels: &Labels, time: i64, version: Version) {
        let rows = self.0.entry(labels.clone()).or_default();
        let versions = rows.entry(time).or_default();
        // The same once more changes nothing, then or as of earlier.
        let mut earlier = versions.iter().rev();
        if earlier.find(|v| v.owner == version.owner) != Some(&version) {
            versions.push(version);
        }
    }

    /// Removes what an owner has in a range of matching series. Answers the rows.
    pub(super) fn remove(
        &mut self,
        owner: Owner,
        arrival: i64,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Vec<(Labels, i64)> {
        let mut touched = Vec::new();
        for (labels, rows) in &mut self.0 {
            if !matchers.iter().all(|m| m.matches_labels(labels)) {
                continue;
            }
            for (time, versions) in rows {
                let last = versions.iter().rfind(|version| version.owner == owner);
                if range.contains(TimestampNs(*time)) && last.is_some_and(|v| v.cell.is_some()) {
                    versions.push(Version {
                        owner,
                        arrival,
                        cell: None,
                    });
                    touched.push((labels.clone(), *time));
                }
            }
        }
        touched
    }

    /// Forgets all versions of rows in a range of matching series: a deletion takes the past too.
    pub(super) fn erase(&mut self, matchers: &[Matcher], range: TimeRange) {
        for (labels, rows) in &mut self.0 {
            if matchers.iter().all(|m| m.matches_labels(labels)) {
                rows.retain(|time, _| !range.contains(TimestampNs(*time)));
            }
        }
        self.0.retain(|_, rows| !rows.is_empty());
    }

    /// What the present shows of a row.
    pub(super) fn now(&self, labels: &Labels, time: i64) -> Option<Cell> {
        there(self.0.get(labels)?.get(&time)?, i64::MAX)
    }

    /// What was there at a moment.
    pub(super) fn at(&self, moment: i64) -> BTreeMap<Labels, BTreeMap<i64, Cell>> {
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (labels, rows) in &self.0 {
            let cells = rows
                .iter()
                .filter_map(|(time, versions)| Some((*time, there(versions, moment)?)));
            let cells: BTreeMap<_, _> = cells.collect();
            if !cells.is_empty() {
                all.insert(labels.clone(), cells);
            }
        }
        all
    }
}
