//! A frozen generation of the head becomes segments, one per tenant and partition of time.
//!
//! Series are read in the order of their labels, each once; a builder per partition takes what falls
//! into it. Partitions are UTC days. A generation that touches more than [`PARTITIONS_MAX`] days
//! (a wild clock, a backfill of years) gets wider ones, so that neither files nor memory explode.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::data::{DAY_NS, HeadData};
use super::series_table::{SeriesTable, TenantIndex, slot_of};
use super::sorted_series::SortedSeries;
use super::tenant::Tenant;
use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::io::SharedFileSystem;
use crate::model::arrived::{Versions, sort_out};
use crate::model::{
    Exemplar, Labels, METRIC_NAME, Metadata, SampleColumns, SegmentId, TimeRange, TimestampNs,
};
use crate::scan::merge::merge_parts;
use crate::segment::{
    FileIdentity, MetricBuildOptions, MetricSegmentBuilder, SegmentFileWriter, SegmentMeta,
    SegmentOrigin, file_name,
};

/// Partitions that one generation is split into at most.
const PARTITIONS_MAX: usize = 32;

/// Metrics whose metadata no segment holds yet.
pub(crate) type Unsaved = BTreeSet<(TenantIndex, String)>;

/// A segment file that was written and synced but is not yet in the manifest.
#[derive(Clone, Debug)]
pub(crate) struct NewSegment {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    pub(crate) meta: SegmentMeta,
    pub(crate) identity: FileIdentity,
}

impl NewSegment {
    /// Ends a metrics segment and gives its file its name.
    pub(crate) fn publish(
        id: SegmentId,
        builder: MetricSegmentBuilder<SegmentFileWriter>,
    ) -> Result<Self> {
        Self::finished(id, builder.finish()?)
    }

    /// Gives the file of a segment that a builder has finished its name.
    pub(crate) fn finished(
        id: SegmentId,
        (writer, meta, identity): (SegmentFileWriter, SegmentMeta, FileIdentity),
    ) -> Result<Self> {
        Ok(Self {
            id,
            path: writer.publish()?,
            meta,
            identity,
        })
    }
}

/// Where segments go and how they are named.
pub(crate) struct SegmentPlace<'a> {
    pub(crate) fs: &'a SharedFileSystem,
    pub(crate) dir: &'a Path,
    pub(crate) next_id: &'a (dyn Fn() -> SegmentId + Sync),
}

impl SegmentPlace<'_> {
    /// Starts a file under the next free name.
    pub(crate) fn create(&self) -> Result<(SegmentId, SegmentFileWriter)> {
        let id = (self.next_id)();
        Ok((
            id,
            SegmentFileWriter::create(self.fs, self.dir.join(file_name(id)))?,
        ))
    }
}

/// Widths of partitions: days, doubled until there are few enough of them.
pub(crate) fn partition_days(days: &[i64]) -> i64 {
    let mut width = 1;
    loop {
        let mut partitions: Vec<_> = days.iter().map(|day| day.div_euclid(width)).collect();
        partitions.dedup();
        if partitions.len() <= PARTITIONS_MAX {
            return width;
        }
        width *= 2;
    }
}

/// A partition that is being written.
struct Partition {
    id: SegmentId,
    builder: MetricSegmentBuilder<SegmentFileWriter>,
}

/// Writes the metrics of a generation. Superseded rows whose place was taken at `horizon` or before
/// are left out; at `i64::MAX` there are none.
pub(crate) fn seal_metrics(
    place: &SegmentPlace<'_>,
    table: &SeriesTable,
    tenants: &[Arc<Tenant>],
    data: &HeadData,
    horizon: i64,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
    unsaved: &mut Unsaved,
) -> Result<Vec<NewSegment>> {
    let width = partition_days(&data.days()).saturating_mul(DAY_NS);
    let mut slots = data.slots();
    slots.extend(data.exemplars.read().slots());
    slots.sort_unstable();
    slots.dedup();
    let mut by_tenant = table.by_tenant(&slots);
    drop(slots);
    let mut sealed = Vec::new();
    for tenant in tenants {
        let Some(series) = by_tenant.remove(&tenant.index) else {
            continue;
        };
        let sorted = SortedSeries::new(table, tenant.owner(), &series);
        drop(series);
        let mut sealer = Sealer::new(place, origin_of(tenant), width);
        // Equal labels in two slots: the slot that was given out later holds the later samples.
        for (labels, same) in sorted.groups() {
            let same: SmallVec<[u32; 2]> = same.map(slot_of).collect();
            let is_versioned = |slot: &u32| data.is_versioned(*slot);
            if horizon < i64::MAX && (same.len() > 1 || same.iter().any(is_versioned)) {
                let (mut versions, exemplars) = take_versions(data, &same);
                versions.superseded.retain(|row| row.until > horizon);
                sealer.push_versions(tenant, &labels, versions, exemplars, unsaved)?;
            } else {
                let (samples, exemplars) = take_series(data, &same);
                sealer.push(tenant, &labels, samples, exemplars, unsaved)?;
            }
        }
        sealer.finish(&mut sealed)?;
    }
    Ok(sealed)
}

fn take_series(data: &HeadData, slots: &[u32]) -> (SampleColumns, Vec<Exemplar>) {
    let mut parts = Vec::new();
    let mut exemplars = Vec::new();
    for slot in slots {
        data.read(*slot, TimeRange::ALL, 0, &mut parts);
        exemplars.extend(data.exemplars.read().read(*slot, TimeRange::ALL));
    }
    let mut samples = SampleColumns::default();
    merge_parts(&mut parts, &mut samples);
    (samples, exemplars)
}

/// As [`take_series`], with every version of every sample.
fn take_versions(data: &HeadData, slots: &[u32]) -> (Versions, Vec<Exemplar>) {
    let mut rows = Vec::new();
    let mut exemplars = Vec::new();
    for slot in slots {
        data.read_rows(*slot, TimeRange::ALL, 0, &mut rows);
        exemplars.extend(data.exemplars.read().read(*slot, TimeRange::ALL));
    }
    (sort_out(rows), exemplars)
}

/// Writes the series of one owner, in the order of their labels, into a segment per partition.
pub(super) struct Sealer<'a> {
    place: &'a SegmentPlace<'a>,
    origin: SegmentOrigin,
    width: i64,
    open: HashMap<i64, Partition>,
    /// Name of the metric whose metadata was looked up last: series of a metric are neighbours.
    metric: String,
}

impl<'a> Sealer<'a> {
    pub(super) fn new(place: &'a SegmentPlace<'a>, origin: SegmentOrigin, width: i64) -> Self {
        Self {
            place,
            origin,
            width,
            open: HashMap::new(),
            metric: String::new(),
        }
    }

    /// Metadata of a metric that is new here.
    fn metadata(
        &mut self,
        tenant: &Tenant,
        labels: &Labels,
        unsaved: &mut Unsaved,
    ) -> Vec<(String, Metadata)> {
        let metric = labels.get(METRIC_NAME).unwrap_or("");
        if metric == self.metric {
            return Vec::new();
        }
        metric.clone_into(&mut self.metric);
        let family = tenant.metadata_of_family(metric);
        for (name, _) in &family {
            unsaved.remove(&(tenant.index, name.clone()));
        }
        family
    }

    /// Adds a series whose rows know when they arrived.
    pub(super) fn push_versions(
        &mut self,
        tenant: &Tenant,
        labels: &Labels,
        versions: Versions,
        exemplars: Vec<Exemplar>,
        unsaved: &mut Unsaved,
    ) -> Result<()> {
        if versions.live.is_empty() && versions.superseded.is_empty() && exemplars.is_empty() {
            return Ok(());
        }
        let metadata = self.metadata(tenant, labels, unsaved);
        let width = self.width;
        let mut parts: BTreeMap<i64, (Versions, Vec<Exemplar>)> = BTreeMap::new();
        for row in versions.live {
            let part = parts.entry(row.time.div_euclid(width)).or_default();
            part.0.live.push(row);
        }
        for row in versions.superseded {
            let part = parts.entry(row.time.div_euclid(width)).or_default();
            part.0.superseded.push(row);
        }
        for exemplar in exemplars {
            let part = parts.entry(exemplar.time.0.div_euclid(width)).or_default();
            part.1.push(exemplar);
        }
        for (partition, (versions, exemplars)) in parts {
            let builder = self.partition(partition)?;
            for (name, known) in &metadata {
                builder.push_metadata(name, known);
            }
            builder.begin_series(labels)?;
            builder.push_versions(versions)?;
            builder.push_exemplars(&exemplars)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        tenant: &Tenant,
        labels: &Labels,
        samples: SampleColumns,
        exemplars: Vec<Exemplar>,
        unsaved: &mut Unsaved,
    ) -> Result<()> {
        if samples.is_empty() && exemplars.is_empty() {
            return Ok(());
        }
        let metadata = self.metadata(tenant, labels, unsaved);
        for (partition, samples, exemplars) in split(samples, exemplars, self.width) {
            let builder = self.partition(partition)?;
            // Oldest first: reading them in order leaves the newest in front.
            for (name, known) in &metadata {
                builder.push_metadata(name, known);
            }
            builder.begin_series(labels)?;
            builder.push_samples(&samples)?;
            builder.push_exemplars(&exemplars)?;
        }
        Ok(())
    }

    fn partition(&mut self, number: i64) -> Result<&mut MetricSegmentBuilder<SegmentFileWriter>> {
        let partition = match self.open.entry(number) {
            hashbrown::hash_map::Entry::Occupied(open) => open.into_mut(),
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                let (id, writer) = self.place.create()?;
                let options = MetricBuildOptions::with_effort(EncodeEffort::Flush);
                let builder = MetricSegmentBuilder::new(writer, self.origin.clone(), options)?;
                vacant.insert(Partition { id, builder })
            }
        };
        Ok(&mut partition.builder)
    }

    pub(super) fn finish(self, sealed: &mut Vec<NewSegment>) -> Result<()> {
        let mut partitions: Vec<_> = self.open.into_iter().collect();
        partitions.sort_by_key(|(number, _)| *number);
        for (_, Partition { id, builder }) in partitions {
            sealed.push(NewSegment::publish(id, builder)?);
        }
        Ok(())
    }
}

/// Writes metadata that lies beside no series into segments of its own, one per tenant: for copies,
/// which have no log to keep it in. It ages as rows of `now` do.
pub(crate) fn seal_metadata(
    place: &SegmentPlace<'_>,
    tenants: &[Arc<Tenant>],
    unsaved: &Unsaved,
    now: TimestampNs,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
) -> Result<Vec<NewSegment>> {
    let mut sealed = Vec::new();
    for tenant in tenants {
        let of_tenant = unsaved.iter().filter(|(owner, _)| *owner == tenant.index);
        let mut metrics = of_tenant.map(|(_, metric)| metric).peekable();
        if metrics.peek().is_none() {
            continue;
        }
        let (id, writer) = place.create()?;
        let options = MetricBuildOptions::with_effort(EncodeEffort::Flush);
        let mut builder = MetricSegmentBuilder::new(writer, origin_of(tenant), options)?;
        builder.cover(now);
        for metric in metrics {
            for known in tenant.known_metadata(metric) {
                builder.push_metadata(metric, &known);
            }
        }
        sealed.push(NewSegment::publish(id, builder)?);
    }
    Ok(sealed)
}

/// Cuts a series' rows at the borders of partitions, in ascending order of time.
fn split(
    samples: SampleColumns,
    exemplars: Vec<Exemplar>,
    width: i64,
) -> Vec<(i64, SampleColumns, Vec<Exemplar>)> {
    let number = |time: i64| time.div_euclid(width);
    let mut all = samples
        .timestamps
        .iter()
        .copied()
        .chain(samples.histograms.iter().map(|h| h.time.0))
        .chain(exemplars.iter().map(|e| e.time.0))
        .map(number);
    let Some(first) = all.next() else {
        return Vec::new();
    };
    if all.all(|other| other == first) {
        return vec![(first, samples, exemplars)];
    }
    let mut parts: BTreeMap<i64, (SampleColumns, Vec<Exemplar>)> = BTreeMap::new();
    for (index, time) in samples.timestamps.iter().enumerate() {
        let part = &mut parts.entry(number(*time)).or_default().0;
        part.timestamps.push(*time);
        part.values.push(samples.values[index]);
        part.start_timestamps
            .extend(samples.start_timestamps.get(index));
    }
    for histogram in samples.histograms {
        parts
            .entry(number(histogram.time.0))
            .or_default()
            .0
            .histograms
            .push(histogram);
    }
    for exemplar in exemplars {
        parts
            .entry(number(exemplar.time.0))
            .or_default()
            .1
            .push(exemplar);
    }
    parts
        .into_iter()
        .map(|(number, (samples, exemplars))| (number, samples, exemplars))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_days_share_partitions() {
        assert_eq!(partition_days(&[1, 2, 3]), 1);
        let years: Vec<i64> = (0..1000).collect();
        assert_eq!(partition_days(&years), 32);
        assert_eq!(partition_days(&[-106_751, 19_000, 106_751]), 1);
    }

    #[test]
    fn rows_are_cut_at_midnight() {
        let samples = SampleColumns {
            timestamps: vec![-1, 0, DAY_NS - 1, DAY_NS],
            values: vec![1.0, 2.0, 3.0, 4.0],
            ..SampleColumns::default()
        };
        let parts = split(samples, Vec::new(), DAY_NS);
        let shape: Vec<_> = parts
            .iter()
            .map(|(n, s, _)| (*n, s.values.clone()))
            .collect();
        assert_eq!(
            shape,
            [(-1, vec![1.0]), (0, vec![2.0, 3.0]), (1, vec![4.0])]
        );
    }
}
