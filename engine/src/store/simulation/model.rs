//! The store as a plain map, and what may be true of requests that nobody acknowledged.
//!
//! While a store is open it shows the acknowledged requests and nothing else. A request that was
//! refused after it had been handed over may or may not be in the log; so when the store is opened
//! again, each of these is there as a whole or not at all. Without syncs ([`SyncMode::Off`]) a power
//! cut may take the latest requests, but never one and leave a later one.
//!
//! [`SyncMode::Off`]: crate::options::SyncMode::Off

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use super::derived::Replacement;
use super::rows::{self, Request};
use super::step::TENANTS;
use super::versions::{Version, Versions, received_at};
use crate::index::Matcher;
use crate::model::{Labels, Signal, TimeRange, TimestampNs};

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Float { bits: u64, start: i64 },
    Histogram { id: u64, start: i64 },
}

/// A document; the version is not known when the answer to its writing was an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) version: Option<u64>,
    pub(super) value: Vec<u8>,
}

/// All that one tenant has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TenantContents {
    /// What is shown of metrics.
    pub(super) series: BTreeMap<Labels, BTreeMap<i64, Cell>>,
    /// What that follows from. Not known of what a store showed.
    pub(super) versions: Arc<Versions>,
    pub(super) exemplars: BTreeMap<Labels, BTreeSet<(i64, u64)>>,
    /// Newest metadata by metric.
    pub(super) metadata: BTreeMap<String, u64>,
    /// Metadata goes with the last segment that has series of its metric, so after a deletion it may
    /// be there or not.
    metadata_may_be_gone: bool,
    /// Time and id by stream, in order of time, equal times in order of arrival.
    pub(super) logs: BTreeMap<u64, Vec<(i64, u64)>>,
    /// Version by stream, time and id.
    pub(super) spans: BTreeMap<(u64, i64, u64), u64>,
    pub(super) documents: BTreeMap<String, Document>,
}

/// All that a store has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) tenants: [TenantContents; TENANTS as usize],
}

/// A change of rows or documents.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A request, and its arrival in a store that keeps what was overwritten.
    Append(Request, Option<i64>),
    /// Rows of a computation.
    Replace {
        tenant: usize,
        replacement: Replacement,
        arrival: i64,
    },
    Delete {
        tenant: usize,
        signal: Signal,
        matchers: Vec<Matcher>,
        range: TimeRange,
    },
    /// Writes a document, or removes it.
    Document {
        tenant: usize,
        key: String,
        to: Option<Document>,
    },
}

impl Contents {
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(request, arrival) => self.tenants[request.tenant].append(request, *arrival),
            Op::Replace {
                tenant,
                replacement,
                arrival,
            } => self.tenants[*tenant].replace(replacement, *arrival),
            Op::Delete {
                tenant,
                signal,
                matchers,
                range,
            } => self.tenants[*tenant].delete(*signal, matchers, *range),
            Op::Document { tenant, key, to } => {
                let documents = &mut self.tenants[*tenant].documents;
                match to {
                    Some(document) => documents.insert(key.clone(), document.clone()),
                    None => documents.remove(key),
                };
            }
        }
    }

    /// What differs from what a store shows; `None` if nothing does. Rows before `floor` are
    /// expired: they may be there or not.
    pub(super) fn difference(&self, shown: &Self, floor: i64) -> Option<String> {
        let pairs = self.tenants.iter().zip(&shown.tenants).enumerate();
        pairs
            .filter_map(|(number, (expected, shown))| {
                let what = expected.since(floor).difference(&shown.since(floor))?;
                Some(format!("tenant {number}: {what}"))
            })
            .next()
    }

    /// Takes over the versions of documents whose writing was not answered.
    fn learn_versions(&mut self, shown: &Self) {
        for (mine, shown) in self.tenants.iter_mut().zip(&shown.tenants) {
            for (key, document) in &mut mine.documents {
                if let Some(shown) = shown.documents.get(key) {
                    document.version = document.version.or(shown.version);
                }
            }
        }
    }
}

fn first_difference<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    shown: &BTreeMap<K, V>,
) -> Option<String> {
    let keys: BTreeSet<&K> = expected.keys().chain(shown.keys()).collect();
    let key = keys
        .into_iter()
        .find(|key| expected.get(key) != shown.get(key))?;
    let (expected, shown) = (expected.get(key), shown.get(key));
    Some(format!(
        "{what} {key:?}:\n  expected {expected:?}\n  shown    {shown:?}"
    ))
}

impl TenantContents {
    fn append(&mut self, request: &Request, arrival: Option<i64>) {
        let floats = request.samples.iter().map(|row| {
            let (bits, start) = (row.bits, row.start);
            (row, Cell::Float { bits, start })
        });
        // Histograms arrive after all float samples of their request.
        let histograms = request.histograms.iter().map(|row| {
            let (id, start) = (row.bits, row.start);
            (row, Cell::Histogram { id, start })
        });
        for (row, cell) in floats.chain(histograms) {
            let version = Version {
                owner: None,
                arrival: received_at(arrival, row.time),
                cell: Some(cell),
            };
            Arc::make_mut(&mut self.versions).write(&row.labels, row.time, version);
            self.show(&row.labels, row.time);
        }
        for exemplar in &request.exemplars {
            let known = self.exemplars.entry(exemplar.labels.clone()).or_default();
            known.insert((exemplar.time, exemplar.bits));
        }
        for (metric, number) in &request.metadata {
            self.metadata.insert(metric.clone(), *number);
        }
        for row in &request.logs {
            let rows = self.logs.entry(row.stream).or_default();
            let place = rows.partition_point(|(time, _)| *time <= row.time);
            rows.insert(place, (row.time, row.id));
        }
        for row in &request.spans {
            self.spans
                .insert((row.stream, row.time, row.id), row.version);
        }
    }

    fn replace(&mut self, replacement: &Replacement, arrival: i64) {
        let Replacement {
            matchers, range, ..
        } = replacement;
        let owner = Some(replacement.derivation);
        let versions = Arc::make_mut(&mut self.versions);
        let mut touched = versions.remove(owner, arrival, matchers, *range);
        for (labels, cells) in &replacement.rows {
            for (time, cell) in cells {
                let version = Version {
                    owner,
                    arrival,
                    cell: Some(*cell),
                };
                versions.write(labels, *time, version);
                touched.push((labels.clone(), *time));
            }
        }
        for (labels, time) in &touched {
            self.show(labels, *time);
        }
        // As after a deletion: segments without series are dropped.
        self.metadata_may_be_gone = true;
    }

    /// Shows a row as its versions have it now.
    fn show(&mut self, labels: &Labels, time: i64) {
        if let Some(cell) = self.versions.now(labels, time) {
            let cells = self.series.entry(labels.clone()).or_default();
            cells.insert(time, cell);
        } else if let Some(cells) = self.series.get_mut(labels) {
            cells.remove(&time);
            if cells.is_empty() {
                self.series.remove(labels);
            }
        }
    }

    fn delete(&mut self, signal: Signal, matchers: &[Matcher], range: TimeRange) {
        if signal == Signal::Metrics {
            Arc::make_mut(&mut self.versions).erase(matchers, range);
        }
        self.hide(signal, matchers, range);
    }

    /// Takes away what is shown.
    fn hide(&mut self, signal: Signal, matchers: &[Matcher], range: TimeRange) {
        let matches = |labels: &Labels| matchers.iter().all(|m| m.matches_labels(labels));
        let inside = |time: i64| range.contains(TimestampNs(time));
        match signal {
            Signal::Metrics => {
                for (_, cells) in self.series.iter_mut().filter(|(l, _)| matches(l)) {
                    cells.retain(|time, _| !inside(*time));
                }
                for (_, all) in self.exemplars.iter_mut().filter(|(l, _)| matches(l)) {
                    all.retain(|(time, _)| !inside(*time));
                }
                self.metadata_may_be_gone = true;
                self.series.retain(|_, cells| !cells.is_empty());
                self.exemplars.retain(|_, all| !all.is_empty());
            }
            Signal::Logs => {
                for (stream, all) in &mut self.logs {
                    if matches(&rows::stream(*stream).labels) {
                        all.retain(|(time, _)| !inside(*time));
                    }
                }
                self.logs.retain(|_, all| !all.is_empty());
            }
            Signal::Spans => self.spans.retain(|(stream, time, _), _| {
                !(inside(*time) && matches(&rows::stream(*stream).labels))
            }),
        }
    }

    /// Without the rows before `floor`.
    fn since(&self, floor: i64) -> Self {
        let mut all = self.clone();
        if floor > i64::MIN {
            all.hide(Signal::Metrics, &[], TimeRange::new(i64::MIN, floor - 1));
            all.hide(Signal::Logs, &[], TimeRange::new(i64::MIN, floor - 1));
            all.hide(Signal::Spans, &[], TimeRange::new(i64::MIN, floor - 1));
        }
        all
    }

    fn difference(&self, shown: &Self) -> Option<String> {
        for (labels, cells) in &self.series {
            let empty = BTreeMap::new();
            let found = shown.series.get(labels).unwrap_or(&empty);
            if let Some(what) = first_difference("sample at", cells, found) {
                return Some(format!("series {labels:?}, {what}"));
            }
        }
        first_difference("series", &self.series, &shown.series)
            .or_else(|| first_difference("exemplars of", &self.exemplars, &shown.exemplars))
            .or_else(|| {
                let expected = (!self.metadata_may_be_gone).then_some(&self.metadata)?;
                first_difference("metadata of", expected, &shown.metadata)
            })
            .or_else(|| first_difference("logs of stream", &self.logs, &shown.logs))
            .or_else(|| first_difference("span", &self.spans, &shown.spans))
            .or_else(|| {
                let mut shown = shown.documents.clone();
                for (key, document) in &self.documents {
                    if let (None, Some(shown)) = (document.version, shown.get_mut(key)) {
                        shown.version = None;
                    }
                }
                first_difference("document", &self.documents, &shown)
            })
    }
}

/// What a store must show, and what it may show after the next opening.
#[derive(Debug)]
pub(super) struct Model {
    /// What the open store shows.
    pub(super) shown: Contents,
    /// What it showed when the journal began.
    before: Contents,
    /// What happened since, and whether it was acknowledged. Empty while there is no doubt.
    journal: Vec<(Op, bool)>,
    /// Whether acknowledged requests are in doubt too until a durable point.
    relaxed: bool,
    /// Rows before this time may have expired.
    pub(super) floor: i64,
}

impl Model {
    pub(super) fn new(relaxed: bool) -> Self {
        Self {
            shown: Contents::default(),
            before: Contents::default(),
            journal: Vec::new(),
            relaxed,
            floor: i64::MIN,
        }
    }

    pub(super) fn acknowledged(&mut self, op: Op) {
        self.shown.apply(&op);
        if self.relaxed || !self.journal.is_empty() {
            self.journal.push((op, true));
        }
    }

    pub(super) fn refused(&mut self, op: Op) {
        if self.journal.is_empty() {
            self.before = self.shown.clone();
        }
        self.journal.push((op, false));
    }

    /// How many requests are in doubt.
    pub(super) fn doubts(&self) -> usize {
        self.journal.iter().filter(|(_, certain)| !certain).count()
    }

    /// All that is shown is durable now, whatever the mode.
    pub(super) fn durable(&mut self) {
        if self.relaxed {
            self.before = self.shown.clone();
            self.journal.clear();
        }
    }

    /// Finds what explains a store that was opened again, and goes on from there.
    pub(super) fn resolve(
        &mut self,
        shown: &Contents,
        after_power_cut: bool,
    ) -> Result<(), String> {
        let explanation = self.explain(shown, after_power_cut)?;
        self.shown = explanation;
        self.shown.learn_versions(shown);
        self.before = self.shown.clone();
        self.journal.clear();
        Ok(())
    }

    /// What must have happened for a store to show this after it was opened again.
    pub(super) fn explain(
        &self,
        shown: &Contents,
        after_power_cut: bool,
    ) -> Result<Contents, String> {
        let Some(difference) = self.shown.difference(shown, self.floor) else {
            return Ok(self.shown.clone());
        };
        if self.relaxed && after_power_cut {
            let mut contents = self.before.clone();
            for next in 0..=self.journal.len() {
                if contents.difference(shown, self.floor).is_none() {
                    return Ok(contents);
                }
                if let Some((op, _)) = self.journal.get(next) {
                    contents.apply(op);
                }
            }
        }
        let doubts = self.doubts();
        for chosen in 1..1_u32 << doubts {
            let mut contents = self.before.clone();
            let mut doubt = 0;
            for (op, certain) in &self.journal {
                if *certain || chosen & (1 << doubt) != 0 {
                    contents.apply(op);
                }
                doubt += u32::from(!certain);
            }
            if contents.difference(shown, self.floor).is_none() {
                return Ok(contents);
            }
        }
        Err(format!("with {doubts} requests in doubt: {difference}"))
    }
}
