//! From a request's rows to rows that are durable and visible.
//!
//! ```text
//! caller thread:  definitions that the log lacks -> encode -> log (in order)
//! log thread:     write and sync what waits -> apply in order -> acknowledge
//! ```
//!
//! The gate is held shared from the choice of definitions to the hand-over to the log, so that a
//! record never lands in an epoch that lacks a definition it needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::engine::{Engine, Payload};
use super::inner::{Inner, SessionToken};
use super::snapshot::LivePins;
use super::view::{FrozenHead, Hides, View};
use crate::append::Committed;
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::data::{HeadData, PushMode};
use crate::head::metadata::AnnouncedMetadata;
use crate::head::series_data::{Sample, SampleValue};
use crate::head::series_table::{TenantIndex, slot_of};
use crate::head::tenant::Tenant;
use crate::index::Matcher;
use crate::manifest::Tombstone;
use crate::model::{Generation, SeriesRef, Signal, TimeRange};
use crate::scan::metric_scan::all_matchers;
use crate::wal::{Deletion, Record};

/// Called once, from a thread of the engine, when a commit is decided.
pub(crate) type Done = Box<dyn FnOnce(Result<Committed>) + Send>;

impl Engine {
    /// Hands a record to the log; `done` learns what became of it.
    pub(crate) fn submit(&self, record: Record, token: SessionToken, done: Done) {
        if let Err(refused) = self.check_writable() {
            return done(Err(refused));
        }
        let gate = self.gate.read();
        self.enqueue(*gate, record, token, done);
    }

    /// Called with the gate held; `epoch` is what it says.
    fn enqueue(&self, epoch: u32, mut record: Record, token: SessionToken, done: Done) {
        let series = record.samples.series.iter().copied();
        let series = series.chain(record.histograms.iter().map(|row| row.series));
        let series = series.chain(record.exemplars.iter().map(|(series, _)| *series));
        let tenant = self.tenant_or_insert(&record.tenant);
        let definitions = self.table.definitions(tenant.owner(), series, epoch);
        let Some(definitions) = definitions else {
            let why = "series reference from another session or store".to_owned();
            return done(Err(EngineError::InvalidArgument(why)));
        };
        record.series = definitions;
        let encoded = record.as_record_ref().encode();
        let (wal, encoded) = match self.wal().and_then(|wal| Ok((wal, encoded?))) {
            Ok(ready) => ready,
            Err(refused) => return done(Err(refused)),
        };
        let rows = record.rows();
        let generation = self.generation();
        let announced = AnnouncedMetadata::new(&tenant, &record.metadata);
        let payload = Payload {
            record,
            epoch,
            token,
        };
        wal.submit(encoded, payload, move |logged| {
            drop(announced);
            done(logged.map(|_sequence| Committed { rows, generation }));
        });
    }

    /// Commits what `make` returns and waits. `make` runs while no generation of the head can begin.
    pub(crate) fn commit(&self, make: impl FnOnce() -> Record) -> Result<Committed> {
        self.check_writable()?;
        let token = Arc::clone(&self.sessions.read());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        {
            let gate = self.gate.read();
            // The receiver waits below; it cannot be gone.
            let done = Box::new(move |result| drop(sender.send(result)));
            self.enqueue(*gate, make(), token, done);
        }
        receiver
            .recv()
            .unwrap_or_else(|_| Err(EngineError::Unavailable("the store was closed".into())))
    }

    /// Logs metadata again that a sealed generation knew and no segment of it holds: metadata lies in
    /// segments beside series of its metric, and there may have been none.
    pub(crate) fn log_metadata_again(
        &self,
        unsaved: &BTreeSet<(TenantIndex, String)>,
    ) -> Result<()> {
        if unsaved.is_empty() {
            return Ok(());
        }
        let token = Arc::clone(&self.sessions.read());
        let (sender, receiver) = std::sync::mpsc::channel();
        {
            let epoch = self.gate.write();
            // What is on its way has been applied: what is known of a metric now is the newest.
            self.wal()?.sync()?;
            let view = self.view();
            let is_logged = |name: &(TenantIndex, String)| {
                view.heads()
                    .skip(1)
                    .any(|head| head.metadata.lock().contains(name))
            };
            for tenant in self.all_tenants() {
                let known = tenant.metadata.read();
                let names = unsaved.iter().filter(|name| name.0 == tenant.index);
                let metadata: Vec<_> = names
                    .filter(|name| !is_logged(name))
                    .filter_map(|(_, metric)| Some((metric, known.get(metric)?)))
                    .flat_map(|(metric, all)| all.iter().rev().map(|m| (metric.clone(), m.clone())))
                    .collect();
                drop(known);
                if metadata.is_empty() {
                    continue;
                }
                let record = Record {
                    tenant: tenant.id.clone(),
                    arrival: self.now(),
                    metadata,
                    ..Record::default()
                };
                let sender = sender.clone();
                let done = Box::new(move |result| drop(sender.send(result)));
                self.enqueue(*epoch, record, Arc::clone(&token), done);
            }
        }
        drop(sender);
        receiver.iter().try_for_each(|logged| logged.map(|_| ()))
    }

    /// Deletes matching rows of a signal in a range.
    pub(crate) fn delete(
        &self,
        context: &RequestContext,
        signal: Signal,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Generation> {
        context.check()?;
        let mut generation = Generation::default();
        self.commit(|| {
            // Numbered under the gate: what is frozen already bears lower numbers, what will be
            // frozen higher ones.
            generation = self.next_generation();
            Record {
                tenant: context.tenant.clone(),
                arrival: self.now(),
                deletions: vec![Deletion {
                    id: generation.0,
                    generation,
                    signal,
                    matchers: all_matchers(context, matchers),
                    range,
                }],
                ..Record::default()
            }
        })?;
        Ok(generation)
    }

    /// Writes (or with `None` removes) a state document and returns its new version.
    pub(crate) fn change_state(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected: Option<u64>,
        value: Option<&[u8]>,
    ) -> Result<u64> {
        context.check()?;
        self.check_writable()?;
        // Until it is dropped, other changes of the document wait.
        let change = match value {
            Some(value) => self
                .state
                .begin_put(context, collection, key, expected, value)?,
            None => self
                .state
                .begin_delete(context, collection, key, expected)?,
        };
        let version = change.version();
        self.commit(|| Record {
            tenant: context.tenant.clone(),
            arrival: self.now(),
            state: vec![change.op().clone()],
            ..Record::default()
        })?;
        Ok(version)
    }
}

impl Inner {
    /// Gives the rows of series that were evicted after the record's session had looked them up to the
    /// series that bear their labels now. With rows under both, nobody could tell which arrived later.
    ///
    /// (What is left: rows that are applied in the moment between the choice of what to evict and the
    /// change of the sessions' token.)
    pub(crate) fn revive_evicted(&self, record: &mut Record) {
        let evicted: HashSet<SeriesRef> = {
            let all = self.evicted.lock();
            all.iter().flat_map(|e| &e.series).copied().collect()
        };
        let floats = record.samples.series.iter_mut();
        let histograms = record.histograms.iter_mut().map(|row| &mut row.series);
        let exemplars = record.exemplars.iter_mut().map(|(series, _)| series);
        let mut rows: Vec<&mut SeriesRef> = floats
            .chain(histograms)
            .chain(exemplars)
            .filter(|series| evicted.contains(&**series))
            .collect();
        if rows.is_empty() {
            return;
        }
        let mut gone: Vec<SeriesRef> = rows.iter().map(|series| **series).collect();
        gone.sort_unstable();
        gone.dedup();
        let tenant = self.tenant_or_insert(&record.tenant);
        let mut labels_of = Vec::with_capacity(gone.len());
        self.table
            .for_labels(tenant.owner(), &gone, |series, labels| {
                labels_of.push((series, labels));
            });
        let mut heirs: HashMap<SeriesRef, SeriesRef> = HashMap::new();
        for (series, labels) in labels_of {
            // The series was admitted when its session looked it up.
            let admit = || Ok::<(), EngineError>(());
            if let Ok(heir) = self.table.find_or_insert(tenant.owner(), &labels, admit) {
                heirs.insert(series, heir);
            }
        }
        for series in &mut rows {
            if let Some(heir) = heirs.get(&**series) {
                **series = *heir;
            }
        }
    }

    /// Makes a record visible. Called by one thread at a time, in the order of the log.
    pub(crate) fn apply(&self, sequence: u64, mut record: Record, epoch: u32) {
        // Pins begin between two records.
        let _applying = self.applying.lock();
        self.table
            .set_defined(record.series.iter().map(|(series, _)| *series), epoch);
        let tenant = self.tenant_or_insert(&record.tenant);
        let mut touched = i64::MAX;
        if record.derivation.is_some() || !record.deletions.is_empty() {
            touched = earliest_change(&record);
            // One change of the view: no reader sees a range removed and not yet written anew.
            self.change_view(|view| self.change_rows(view, sequence, &tenant, &mut record));
        }
        for op in &record.state {
            self.state.apply(&tenant.id, op);
        }
        let active = Arc::clone(&self.view.load().active);
        let touched = touched.min(self.apply_rows(&active, &tenant, record));
        // After the rows: who reads a mark sees what was noted before it.
        if touched < i64::MAX {
            tenant.changes.touch(touched);
        }
    }

    /// Puts the rows of a record into a generation of the head. Answers the earliest time of its
    /// samples, the latest that there is without any.
    pub(crate) fn apply_rows(&self, active: &HeadData, tenant: &Tenant, record: Record) -> i64 {
        for (metric, metadata) in record.metadata {
            tenant.set_metadata(&metric, metadata);
            active.metadata.lock().insert((tenant.index, metric));
        }
        let mode = PushMode {
            arrival: self.keeps_superseded().then_some(record.arrival.0),
            pins: self.pins.live(),
        };
        let earliest = push_metrics(
            active,
            mode,
            &record.samples,
            record.histograms.into_iter().map(|row| {
                let start = row.start.map_or(0, |start| start.0);
                let value = SampleValue::Histogram(row.histogram);
                (
                    row.series,
                    Sample {
                        time: row.time.0,
                        start,
                        value,
                    },
                )
            }),
        );
        if !record.exemplars.is_empty() {
            let mut exemplars = active.exemplars.write();
            for (series, exemplar) in record.exemplars {
                active.note_time(exemplar.time.0);
                exemplars.push(slot_of(series), exemplar, self.options.exemplars_max);
            }
        }
        for batch in record.logs {
            self.options.observers.logs(&tenant.id, &batch);
            active.push_logs(tenant.index, batch);
        }
        for batch in record.spans {
            self.options.observers.spans(&tenant.id, &batch);
            active.push_spans(tenant.index, batch);
        }
        earliest
    }

    /// Does what changes earlier rows: deletions, and the rows of a derivation, which are taken out of
    /// the record.
    pub(crate) fn change_rows(
        &self,
        view: &mut View,
        sequence: u64,
        tenant: &Tenant,
        record: &mut Record,
    ) {
        for deletion in &record.deletions {
            self.delete_from(view, sequence, tenant, record, deletion);
        }
        if record.derivation.is_some() {
            let keep = self.keeps_superseded();
            Arc::make_mut(&mut view.derived).push_record(tenant.index, record, keep);
        }
    }

    /// Takes deleted rows out of the head of a view, and notes what segments have to hide.
    fn delete_from(
        &self,
        view: &mut View,
        sequence: u64,
        tenant: &Tenant,
        record: &Record,
        deletion: &Deletion,
    ) {
        let derivation = record.derivation.clone();
        if derivation.is_none() {
            let pins = self.pins.live();
            for head in view.heads() {
                erase(head, tenant, deletion, &pins);
            }
        }
        if deletion.signal == Signal::Metrics {
            let slots = tenant.postings.read().select(&deletion.matchers);
            let replaced = derivation.is_some() && self.keeps_superseded();
            let until = replaced.then_some(record.arrival.0);
            let frozen = view.frozen.iter_mut().map(|frozen| &mut frozen.derived);
            for derived in frozen.chain([&mut view.derived]) {
                if !derived.is_empty() {
                    let derived = Arc::make_mut(derived);
                    derived.remove(&slots, derivation.as_deref(), deletion.range, until);
                }
            }
        }
        self.raise_generation(deletion.generation);
        let tombstone = Tombstone {
            id: deletion.id,
            tenant: tenant.id.clone(),
            signal: deletion.signal,
            matchers: deletion.matchers.clone(),
            range: deletion.range,
            generation: deletion.generation,
            sequence,
            derivation,
            arrival: record.arrival,
        };
        // Replay meets deletions that the manifest has already.
        let known = view.tombstones.iter().any(|known| known.id == tombstone.id);
        let is_frozen = |frozen: &FrozenHead| match tombstone.derivation {
            None => true,
            Some(_) => !frozen.derived.is_empty(),
        };
        let needed = view.frozen.iter().any(is_frozen)
            || view
                .segments
                .iter()
                .any(|segment| tombstone.concerns(segment));
        if needed && !known {
            Arc::make_mut(&mut view.tombstones).push(tombstone);
        }
    }
}

/// The earliest time of metrics that a record with deletions or derived rows changes.
fn earliest_change(record: &Record) -> i64 {
    let deletions = record.deletions.iter();
    let deleted = deletions.filter(|deletion| deletion.signal == Signal::Metrics);
    let floats = record.samples.times.iter().copied();
    let histograms = record.histograms.iter().map(|row| row.time.0);
    let changed = deleted.map(|deletion| deletion.range.start.0);
    changed
        .chain(floats)
        .chain(histograms)
        .min()
        .unwrap_or(i64::MAX)
}

/// Appends the metric rows of a record: floats, then histograms. Answers their earliest time.
fn push_metrics(
    active: &HeadData,
    mode: PushMode,
    samples: &crate::wal::Samples,
    histograms: impl Iterator<Item = (SeriesRef, Sample)>,
) -> i64 {
    let starts = samples.starts.iter().copied().chain(std::iter::repeat(0));
    let floats = samples
        .series
        .iter()
        .zip(&samples.times)
        .zip(&samples.values)
        .zip(starts);
    let floats = floats.map(|(((series, time), value), start)| {
        (
            slot_of(*series),
            Sample {
                time: *time,
                start,
                value: SampleValue::Float(*value),
            },
        )
    });
    let histograms = histograms.map(|(series, row)| (slot_of(series), row));
    active.push_samples(floats.chain(histograms), mode)
}

/// Takes deleted rows out of a generation of the head.
fn erase(head: &HeadData, tenant: &Tenant, deletion: &Deletion, pins: &LivePins) {
    let newest_pin = pins.last().copied().unwrap_or(0);
    let Deletion {
        matchers, range, ..
    } = deletion;
    match deletion.signal {
        Signal::Metrics => {
            let slots = tenant.postings.read().select(matchers);
            for slot in slots {
                head.remove(slot, *range, pins.clone());
                head.exemplars.write().remove(slot, *range);
            }
        }
        Signal::Logs => {
            let mut logs = head.logs.write();
            logs.remove(tenant.index, matchers, newest_pin, *range);
        }
        Signal::Spans => {
            let mut spans = head.spans.write();
            spans.remove(tenant.index, matchers, newest_pin, *range);
        }
    }
}
