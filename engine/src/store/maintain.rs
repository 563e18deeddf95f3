//! Sealing, merging, retention: what turns the head into segments and keeps their number small.
//!
//! One of these runs at a time (`Inner::maintenance`). Each writes new files, then publishes them
//! with one change of the manifest and one swap of the view, then removes what is no longer named.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::engine::Engine;
use super::inner::Evicted;
use super::row_kind::{Logs, Spans};
use super::segments::Segment;
use super::view::{FrozenHead, Hides};
use crate::codec::EncodeEffort;
use crate::compaction::merge::{MergeInput, merge_metrics};
use crate::compaction::merge_logs::merge_logs;
use crate::compaction::merge_spans::merge_spans;
use crate::compaction::plan::{
    Eagerness, MergeJob, RetentionRule, SegmentFacts, plan_merges, plan_retention,
};
use crate::context::{RequestContext, TenantId};
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::seal::{NewSegment, SegmentPlace, Unsaved, seal_metadata, seal_metrics};
use crate::head::seal_derived::seal_derived;
use crate::head::seal_rows::seal_rows;
use crate::head::series_table::{TenantIndex, slot_of};
use crate::head::tenant::Tenant;
use crate::io::replace;
use crate::manifest::{FileReference, Manifest, SegmentEntry, Tombstone};
use crate::model::{Generation, SegmentId, SeriesRef, Signal, TimeRange};
use crate::segment::{SegmentMeta, SegmentOrigin};

/// Hands out ids for new segments.
type NextId<'a> = dyn Fn() -> SegmentId + Sync + 'a;

/// A change of the set of live segments.
#[derive(Default)]
pub(crate) struct SegmentChange {
    pub(crate) added: Vec<NewSegment>,
    pub(crate) removed: Vec<SegmentId>,
    /// The frozen generation that the added segments replace.
    pub(crate) sealed: Option<FrozenHead>,
    /// Tenants whose retention took metrics, and up to which time.
    pub(crate) expired: Vec<(TenantId, i64)>,
}

/// Where a segment comes from that is no merge of others.
fn origin(tenant: &Tenant, generation: Generation, arrival: TimeRange) -> SegmentOrigin {
    SegmentOrigin {
        tenant: tenant.id.clone(),
        level: 0,
        generation,
        arrival,
        derivation: None,
        sources: Vec::new(),
    }
}

impl Engine {
    /// Why the head should be sealed now, if it should.
    pub(crate) fn seal_reason(&self) -> Option<&'static str> {
        let view = self.view();
        let (active, derived) = (&view.active, view.derived.bytes());
        let options = &self.options;
        let memory = self.memory_bytes();
        let (samples, series) = (active.samples(), active.series());
        let log_bytes = self.wal().map_or(0, |wal| wal.stats().bytes);
        // Sealing frees rows; when most of the memory is series, it would only make short chunks.
        if memory > options.memory_bytes_max / 2 && active.bytes() + derived > memory / 4 {
            return Some("memory");
        }
        let long_chunks = options.seal_samples_per_series_min.saturating_mul(series);
        let enough = long_chunks.min(options.seal_samples_max);
        if samples >= options.seal_samples.max(enough) {
            return Some("samples");
        }
        if log_bytes >= options.seal_log_bytes {
            return Some("log");
        }
        let is_empty = active.is_empty() && derived == 0;
        (active.age() >= options.seal_after && !is_empty).then_some("age")
    }

    /// Freezes the active generation and writes all frozen ones into segments.
    pub(crate) fn seal(&self) -> Result<()> {
        let _one_at_a_time = self.maintenance.lock();
        self.seal_now(|| ())
    }

    /// The same for the holder of the maintenance lock. `at_cut` runs between the last record that is
    /// sealed and the first that is not, while nothing reaches the log.
    pub(crate) fn seal_now<T>(&self, at_cut: impl FnOnce() -> T) -> Result<T> {
        self.free_evicted();
        let seen = self.freeze(at_cut)?;
        loop {
            let Some(frozen) = self.view.load().frozen.first().cloned() else {
                break;
            };
            self.make_and_publish(|next_id| {
                let mut unsaved = frozen.data.metadata.lock().clone();
                let place = self.segment_place(next_id);
                let added = self.write_segments(&place, &frozen, &mut unsaved)?;
                self.log_metadata_again(&unsaved)?;
                Ok(SegmentChange {
                    added,
                    sealed: Some(frozen.clone()),
                    ..SegmentChange::default()
                })
            })?;
            self.evict_inactive(&frozen);
        }
        self.shrink_postings();
        self.measure_postings();
        Ok(seen)
    }

    /// Stores the indexes of tenants in less memory, a few pairs at a time: new series wait for it.
    fn shrink_postings(&self) {
        for tenant in self.all_tenants() {
            let mut next = Some(0);
            while let Some(from) = next {
                next = tenant.postings.write().shrink(from);
            }
        }
    }

    /// Starts a new generation of the head, unless the log holds nothing that is not sealed.
    fn freeze<T>(&self, at_cut: impl FnOnce() -> T) -> Result<T> {
        let mut epoch = self.gate.write();
        let wal = self.wal()?;
        if wal.stats().next_sequence <= self.manifest.lock().log.sequence {
            return Ok(at_cut());
        }
        // Nothing new reaches the log while the gate is held; what is under way arrives first.
        let sequence = wal.cut()?;
        *epoch += 1;
        let seen = at_cut();
        let now = self.now();
        let generation = self.next_generation();
        self.change_view(|view| {
            let next = Arc::new(HeadData::after_pins(self.pins.issued()));
            let data = std::mem::replace(&mut view.active, next);
            let derived = std::mem::take(&mut view.derived);
            let since = std::mem::replace(&mut view.since, now);
            view.frozen.push(FrozenHead {
                generation,
                sequence,
                since,
                data,
                derived,
            });
        });
        Ok(seen)
    }

    fn segment_place<'a>(&'a self, next_id: &'a NextId<'a>) -> SegmentPlace<'a> {
        SegmentPlace {
            fs: &self.fs,
            dir: &self.dir,
            next_id,
        }
    }

    /// Writes a generation; takes away from `unsaved` the metadata that segments hold now.
    pub(crate) fn write_segments(
        &self,
        place: &SegmentPlace<'_>,
        frozen: &FrozenHead,
        unsaved: &mut Unsaved,
    ) -> Result<Vec<NewSegment>> {
        let tenants = self.all_tenants();
        let data = &frozen.data;
        let arrival = TimeRange {
            start: frozen.since,
            end: self.now(),
        };
        let origin_of = |tenant: &Tenant| origin(tenant, frozen.generation, arrival);
        let (table, horizon) = (&self.table, self.as_of_horizon());
        let mut sealed = seal_metrics(place, table, &tenants, data, horizon, origin_of, unsaved)?;
        let derived = &frozen.derived;
        sealed.extend(seal_derived(
            place, table, &tenants, derived, horizon, origin_of, unsaved,
        )?);
        sealed.extend(seal_rows::<Logs>(place, &tenants, data, origin_of)?);
        sealed.extend(seal_rows::<Spans>(place, &tenants, data, origin_of)?);
        Ok(sealed)
    }

    /// Writes what is known of metrics into segments that hold nothing else.
    pub(crate) fn write_metadata(
        &self,
        place: &SegmentPlace<'_>,
        generation: Generation,
        unsaved: &Unsaved,
    ) -> Result<Vec<NewSegment>> {
        let now = self.now();
        let arrival = TimeRange {
            start: now,
            end: now,
        };
        let origin_of = |tenant: &Tenant| origin(tenant, generation, arrival);
        seal_metadata(place, &self.all_tenants(), unsaved, now, origin_of)
    }

    /// Takes series out of the head that have no rows in any generation and had none in the one just
    /// sealed: they were silent for at least a whole generation.
    fn evict_inactive(&self, sealed: &FrozenHead) {
        let view = self.view();
        let is_live = |slot: u32| {
            sealed.data.has_rows(slot) || sealed.derived.has(slot) || view.has_rows(slot)
        };
        let mut pending = self.evicted.lock();
        let waiting: hashbrown::HashSet<SeriesRef> =
            pending.iter().flat_map(|e| &e.series).copied().collect();
        let mut silent = self.table.all();
        silent.retain(|series| !is_live(slot_of(*series)) && !waiting.contains(series));
        if silent.is_empty() {
            return;
        }
        self.table.hide(&silent);
        // Sessions from now on cannot find them; those that began earlier hold the token.
        let token = std::mem::take(&mut *self.sessions.write());
        pending.push(Evicted {
            token,
            series: silent,
        });
    }

    /// Frees the slots of evicted series that no session can know any more.
    fn free_evicted(&self) {
        // An earlier view that a pin holds may have rows of them.
        if !self.pins.live().is_empty() {
            return;
        }
        let view = self.view();
        let mut pending = self.evicted.lock();
        pending.retain_mut(|evicted| {
            if Arc::strong_count(&evicted.token) > 1 {
                return true;
            }
            // A session that was open then may have written: such series wait for their seal.
            let (busy, gone): (Vec<_>, Vec<_>) = evicted
                .series
                .drain(..)
                .partition(|series| view.has_rows(slot_of(*series)));
            let tenants = self.all_tenants();
            let owner_of = |tenant: TenantIndex| tenants.get(tenant as usize).map(|t| t.owner());
            self.table.free(&gone, owner_of);
            evicted.series = busy;
            !evicted.series.is_empty()
        });
    }

    /// Drops expired segments and merges the others, until there is nothing left to do.
    pub(crate) fn compact_all(&self, eagerness: Eagerness) -> Result<()> {
        let _one_at_a_time = self.maintenance.lock();
        self.drop_expired()?;
        let context = RequestContext {
            cancel: self.shutdown.clone(),
            ..RequestContext::new()
        };
        let tombstones = Arc::clone(&self.view().tombstones);
        loop {
            let jobs = plan_merges(&self.segment_facts(), eagerness);
            for job in &jobs {
                self.merge(&context, job, eagerness)?;
            }
            if jobs.is_empty() || eagerness != Eagerness::Background {
                break;
            }
        }
        if eagerness != Eagerness::Background {
            self.drop_tombstones(&tombstones)?;
        }
        Ok(())
    }

    /// What is done in the background now and then: retention, merges that pay, and the erasing of
    /// what deletions hide and of what nobody may read any more.
    pub(crate) fn housekeep(&self) -> Result<()> {
        self.compact_all(Eagerness::Background)?;
        if self.has_rows_to_erase() {
            self.compact_all(Eagerness::Erase)?;
        }
        Ok(())
    }

    /// Whether segments hold rows that nobody may read any more.
    fn has_rows_to_erase(&self) -> bool {
        let (view, horizon) = (self.view(), self.as_of_horizon());
        let mut segments = view.segments.iter();
        !view.tombstones.is_empty() || segments.any(|s| is_history_over(s.meta(), horizon))
    }

    fn segment_facts(&self) -> Vec<SegmentFacts> {
        let (view, horizon) = (self.view(), self.as_of_horizon());
        let facts = view.segments.iter().map(|segment| {
            let meta = segment.meta();
            SegmentFacts {
                id: segment.id,
                tenant: meta.origin.tenant.clone(),
                signal: meta.signal,
                derivation: meta.origin.derivation.clone(),
                level: meta.origin.level,
                generation: segment.generation(),
                range: meta.range,
                bytes: segment.bytes,
                has_deleted: view.tombstones.iter().any(|t| t.concerns(segment))
                    || is_history_over(meta, horizon),
            }
        });
        facts.collect()
    }

    fn retention_rule(&self, tenant: &TenantId) -> RetentionRule {
        let limits = self.tenant_or_insert(tenant).limits();
        let age = limits
            .retention
            .map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        RetentionRule {
            oldest: age.map(|age| self.now().0.saturating_sub(age)),
            bytes_max: limits.retention_bytes,
        }
    }

    fn drop_expired(&self) -> Result<()> {
        let rule_of = |tenant: &TenantId| self.retention_rule(tenant);
        let removed = plan_retention(&self.segment_facts(), rule_of, self.options.retention_bytes);
        if removed.is_empty() {
            return Ok(());
        }
        let view = self.view();
        let expired = view.segments.iter().filter_map(|segment| {
            let meta = segment.meta();
            let goes = meta.signal == Signal::Metrics && removed.contains(&segment.id);
            goes.then(|| (meta.origin.tenant.clone(), meta.range.end.0))
        });
        self.publish(SegmentChange {
            expired: expired.collect(),
            removed,
            ..SegmentChange::default()
        })
    }

    fn merge(&self, context: &RequestContext, job: &MergeJob, eagerness: Eagerness) -> Result<()> {
        let _counted = self.merges.begin();
        let view = self.view();
        let inputs: Vec<Arc<Segment>> = job
            .inputs
            .iter()
            .filter_map(|id| view.segments.iter().find(|segment| segment.id == *id))
            .map(Arc::clone)
            .collect();
        let Some(first) = inputs.first() else {
            return Ok(());
        };
        let (signal, tenant) = (first.meta().signal, &first.meta().origin.tenant);
        let owner = self.tenant_or_insert(tenant);
        let input = MergeInput {
            metadata: &|metric| owner.known_metadata(metric),
            segments: &inputs,
            tombstones: &view.tombstones,
            horizon: self.as_of_horizon(),
            oldest: self.retention_rule(tenant).oldest.unwrap_or(i64::MIN),
            effort: EncodeEffort::Compact,
        };
        let mut expired = Vec::new();
        if signal == Signal::Metrics && inputs.iter().any(|s| s.range().start.0 < input.oldest) {
            expired.push((tenant.clone(), input.oldest.saturating_sub(1)));
        }
        self.make_and_publish(|next_id| {
            let place = self.segment_place(next_id);
            let merged = match signal {
                Signal::Metrics => merge_metrics(&place, context, &input)?,
                Signal::Logs => merge_logs(&place, context, &input)?,
                Signal::Spans => merge_spans(&place, context, &input)?,
            };
            tracing::debug!(inputs = inputs.len(), ?eagerness, "segments merged");
            Ok(SegmentChange {
                added: merged.into_iter().collect(),
                removed: job.inputs.clone(),
                expired: expired.clone(),
                sealed: None,
            })
        })
    }

    /// Publishes the change that `make` prepares. If either fails, the files that were made on the
    /// way are removed: on a full disk, attempts must not eat the space that a later one needs.
    fn make_and_publish(
        &self,
        make: impl FnOnce(&NextId<'_>) -> Result<SegmentChange>,
    ) -> Result<()> {
        let made = Mutex::new(Vec::new());
        let next_id = || {
            let id = self.next_segment_id();
            made.lock().push(id);
            id
        };
        let published = make(&next_id).and_then(|change| self.publish(change));
        if published.is_err() {
            let files = made.into_inner().into_iter().map(crate::segment::file_name);
            self.discard(files);
        }
        published
    }

    /// Removes files that a failed change made, as soon as it is certain that no manifest names
    /// them: when the manifest's new name could not be synced, only the next change makes it so.
    fn discard(&self, files: impl IntoIterator<Item = String>) {
        self.leftovers.lock().extend(files);
        let in_force = self.manifest.lock().generation;
        let on_disk = Manifest::load(&*self.fs, &self.dir);
        if on_disk.is_ok_and(|found| found.is_some_and(|m| m.generation == in_force)) {
            self.remove_leftovers();
        }
    }

    /// Files that cannot be removed now are removed when the store opens next.
    fn remove_leftovers(&self) {
        for name in self.leftovers.lock().drain(..) {
            if let Err(error) = self.fs.remove(&self.dir.join(name)) {
                tracing::warn!(%error, "an unused file stays until the next start");
            }
        }
    }

    /// Makes a change of segments durable, then visible, then removes files that nobody names.
    fn publish(&self, change: SegmentChange) -> Result<()> {
        let mut opened = Vec::new();
        for new in &change.added {
            opened.push(Segment::open(
                &*self.fs,
                &new.path,
                new.id,
                new.meta.signal,
                new.identity,
            )?);
        }
        self.record_change(&change)?;
        let mut removed = Vec::new();
        // Rows that go, and the note that they went, are one change for who pins.
        let between_records = (!change.expired.is_empty()).then(|| self.applying.lock());
        self.change_view(|view| {
            let segments = Arc::make_mut(&mut view.segments);
            segments.retain(|segment| {
                let stays = !change.removed.contains(&segment.id);
                if !stays {
                    removed.push(Arc::clone(segment));
                }
                stays
            });
            segments.extend(opened);
            segments.sort_by_key(|segment| (segment.generation(), segment.id));
            if let Some(sealed) = &change.sealed {
                view.frozen
                    .retain(|frozen| frozen.generation != sealed.generation);
            }
        });
        for (tenant, until) in &change.expired {
            self.tenant_or_insert(tenant).changes.remove_until(*until);
        }
        drop(between_records);
        for segment in removed {
            // A file that cannot be removed now is removed when the store opens next.
            let path = self.dir.join(crate::segment::file_name(segment.id));
            if let Err(error) = self.fs.remove(&path) {
                tracing::warn!(%error, "a merged segment stays until the next start");
            }
        }
        Ok(())
    }

    /// Forgets deletions that the final merge has absorbed, unless a frozen row still needs them.
    fn drop_tombstones(&self, absorbed: &[Tombstone]) -> Result<()> {
        if absorbed.is_empty() || !self.view().frozen.is_empty() {
            return Ok(());
        }
        let left = |tombstones: &[Tombstone]| -> Vec<Tombstone> {
            let gone = |t: &Tombstone| absorbed.iter().any(|gone| gone.id == t.id);
            tombstones.iter().filter(|t| !gone(t)).cloned().collect()
        };
        self.change_view(|view| view.tombstones = Arc::new(left(&view.tombstones)));
        self.record_change(&SegmentChange::default())
    }

    /// Makes a change of segments durable: state snapshot, then manifest, then the log is cut short.
    fn record_change(&self, change: &SegmentChange) -> Result<()> {
        let wal = self.wal()?;
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        next.generation = self.next_generation();
        next.segments
            .retain(|entry| !change.removed.contains(&entry.id));
        next.segments
            .extend(change.added.iter().map(|new| SegmentEntry {
                id: new.id,
                identity: new.identity,
                meta: new.meta.clone(),
            }));
        next.segments
            .sort_by_key(|entry| (entry.meta.origin.generation, entry.id));
        next.segment_id_next = self.segment_ids.load(Ordering::Relaxed) + 1;
        next.tombstone_id_next = next.generation.0 + 1;
        next.tombstones = self.view.load().tombstones.to_vec();
        if let Some(sealed) = &change.sealed {
            next.log.sequence = sealed.sequence;
            next.log.first_file = wal.first_file_for(sealed.sequence);
            next.state = self.write_state(next.generation)?;
        }
        if let Err(error) = next.store(&*self.fs, &self.dir) {
            let state = next
                .state
                .filter(|state| Some(state) != manifest.state.as_ref());
            drop(manifest);
            self.discard(state.map(|state| state.name));
            return Err(error);
        }
        let before = std::mem::replace(&mut *manifest, next);
        // The change has happened. What fails from here on leaves files that nobody needs, and must
        // not make the caller believe that it has to be repeated.
        if before.state != manifest.state
            && let Some(old) = before.state
        {
            self.leftovers.lock().push(old.name);
        }
        self.remove_leftovers();
        if change.sealed.is_some()
            && let Err(error) = wal.remove_before(manifest.log.sequence)
        {
            tracing::warn!(%error, "a log file that is no longer needed stays");
        }
        Ok(())
    }

    /// Writes the state documents as they are now: at least what the log before the seal says.
    fn write_state(&self, generation: Generation) -> Result<Option<FileReference>> {
        if self.state.is_untouched() {
            return Ok(None);
        }
        let (name, bytes) = self.state.snapshot(generation);
        replace(&*self.fs, &self.dir.join(&name), &bytes)?;
        Ok(Some(FileReference::of(name, &bytes)))
    }
}

/// Whether all superseded rows of a segment are older than any read as of then may be.
fn is_history_over(meta: &SegmentMeta, horizon: i64) -> bool {
    meta.superseded_count > 0 && meta.origin.arrival.end.0 <= horizon
}
