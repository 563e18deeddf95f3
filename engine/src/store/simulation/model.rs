//! The store as a plain map, and what may be true of requests that nobody acknowledged.
//!
//! While a store is open it shows the acknowledged requests and nothing else. A request that was
//! refused after it had been handed over may or may not be in the log; so when the store is opened
//! again, each of these is there as a whole or not at all. Without syncs ([`SyncMode::Off`]) a power
//! cut may take the latest requests, but never one and leave a later one.
//!
//! What is seen does not always tell which of them happened: a computation in doubt may have written the
//! very value that had been received, and only a later sample shows which of the two is there. So the
//! model keeps every possibility that fits all observations so far; each further one narrows them.
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

    /// Contents of one tenant.
    pub(super) fn of(tenant: usize, contents: TenantContents) -> Self {
        let mut all = Self::default();
        all.tenants[tenant] = contents;
        all
    }

    /// The metric rows that were there at a moment, and nothing else.
    pub(super) fn as_of(&self, moment: i64) -> Self {
        let mut then = Self::default();
        for (then, tenant) in then.tenants.iter_mut().zip(&self.tenants) {
            then.series = tenant.versions.at(moment);
        }
        then
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

/// Possibilities that are kept. Each request in doubt at most doubles them, and most observations leave
/// one; a life that needs more is reported rather than judged on a part of them.
const POSSIBLE_MAX: usize = 128;

/// One course of events that fits all that was seen.
#[derive(Clone, Debug, PartialEq)]
struct Possible {
    /// What the open store shows.
    shown: Contents,
    /// What it showed when the journal began; the same as `shown` while the journal is empty.
    before: Contents,
}

/// What a store must show, and what it may show after the next opening.
#[derive(Debug)]
pub(super) struct Model {
    /// Never empty. All of them show the same but for versions of rows.
    possible: Vec<Possible>,
    /// What happened since they were last known, and whether it was acknowledged. Empty while there is
    /// no doubt.
    journal: Vec<(Op, bool)>,
    /// Whether acknowledged requests are in doubt too until a durable point.
    relaxed: bool,
    /// Rows before this time may have expired.
    pub(super) floor: i64,
}

impl Model {
    pub(super) fn new(relaxed: bool) -> Self {
        let nothing = Possible {
            shown: Contents::default(),
            before: Contents::default(),
        };
        Self {
            possible: vec![nothing],
            journal: Vec::new(),
            relaxed,
            floor: i64::MIN,
        }
    }

    pub(super) fn acknowledged(&mut self, op: Op) {
        for possible in &mut self.possible {
            possible.shown.apply(&op);
        }
        if self.relaxed || !self.journal.is_empty() {
            self.journal.push((op, true));
        }
    }

    pub(super) fn refused(&mut self, op: Op) {
        if self.journal.is_empty() {
            self.forget_before();
        }
        self.journal.push((op, false));
    }

    fn forget_before(&mut self) {
        for possible in &mut self.possible {
            possible.before = possible.shown.clone();
        }
    }

    /// How many requests are in doubt.
    pub(super) fn doubts(&self) -> usize {
        self.journal.iter().filter(|(_, certain)| !certain).count()
    }

    /// All that is shown is durable now, whatever the mode.
    pub(super) fn durable(&mut self) {
        if self.relaxed {
            self.forget_before();
            self.journal.clear();
        }
    }

    /// A document as every possibility has it: documents are read whole at each opening.
    pub(super) fn document(&self, tenant: usize, key: &str) -> Option<&Document> {
        self.possible[0].shown.tenants[tenant].documents.get(key)
    }

    /// Keeps the possibilities from which what the open store shows does not differ. The error is the
    /// difference from the first one, if none is left.
    pub(super) fn observe(
        &mut self,
        differs: impl Fn(&Contents) -> Option<String>,
    ) -> Result<(), String> {
        let mut first = None;
        let kept: Vec<bool> = (self.possible.iter())
            .map(|possible| {
                let difference = differs(&possible.shown);
                let fits = difference.is_none();
                first = first.take().or(difference);
                fits
            })
            .collect();
        if !kept.contains(&true) {
            return Err(first.unwrap_or_default());
        }
        let mut kept = kept.into_iter();
        self.possible.retain(|_| kept.next() == Some(true));
        Ok(())
    }

    /// Finds what explains a store that was opened again, and goes on from there.
    pub(super) fn resolve(
        &mut self,
        shown: &Contents,
        after_power_cut: bool,
    ) -> Result<(), String> {
        let mut explained = self.explain(shown, after_power_cut)?;
        if explained.len() > POSSIBLE_MAX {
            let count = explained.len();
            return Err(format!("{count} possibilities, more than are kept"));
        }
        for contents in &mut explained {
            contents.learn_versions(shown);
        }
        let possible = explained.into_iter().map(|contents| Possible {
            before: contents.clone(),
            shown: contents,
        });
        self.possible = possible.collect();
        self.journal.clear();
        Ok(())
    }

    /// All that may have happened for a store to show this after it was opened again, what is most
    /// likely first. Never empty.
    pub(super) fn explain(
        &self,
        shown: &Contents,
        after_power_cut: bool,
    ) -> Result<Vec<Contents>, String> {
        let mut explained: Vec<Contents> = Vec::new();
        let mut consider = |contents: Contents| {
            if contents.difference(shown, self.floor).is_none() && !explained.contains(&contents) {
                explained.push(contents);
            }
        };
        for possible in &self.possible {
            consider(possible.shown.clone());
            if self.relaxed && after_power_cut {
                let mut contents = possible.before.clone();
                for (op, _) in &self.journal {
                    consider(contents.clone());
                    contents.apply(op);
                }
                consider(contents);
            }
            for contents in self.courses(&possible.before) {
                consider(contents);
            }
        }
        if explained.is_empty() {
            let doubts = self.doubts();
            let difference = self.possible[0].shown.difference(shown, self.floor);
            let difference = difference.unwrap_or_default();
            return Err(format!("with {doubts} requests in doubt: {difference}"));
        }
        Ok(explained)
    }

    /// What the journal makes of `before`, with each request in doubt and without it.
    fn courses(&self, before: &Contents) -> Vec<Contents> {
        if self.doubts() == 0 {
            return Vec::new();
        }
        let mut courses = vec![before.clone()];
        for (op, certain) in &self.journal {
            let without = courses.clone();
            courses.iter_mut().for_each(|course| course.apply(op));
            if !certain {
                courses.extend(without);
            }
        }
        courses
    }
}
