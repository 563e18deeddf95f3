//! A frozen generation of the head becomes segments, one per tenant and partition of time.
//!
//! Series are read in the order of their labels, each once; a builder per partition takes what falls
//! into it. Partitions are UTC days. A generation that touches more than [`PARTITIONS_MAX`] days
//! (a wild clock, a backfill of years) gets wider ones, so that neither files nor memory explode.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use super::data::{DAY_NS, HeadData};
use super::series_table::{SeriesTable, TenantIndex, slot_of};
use super::sorted_series::SortedSeries;
use super::tenant::Tenant;
use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::io::SharedFileSystem;
use crate::model::{Exemplar, Labels, METRIC_NAME, SampleColumns, SegmentId, SeriesRef, TimeRange};
use crate::scan::merge::merge_parts;
use crate::segment::{
    FileIdentity, MetricBuildOptions, MetricSegmentBuilder, SegmentFileWriter, SegmentMeta,
    SegmentOrigin, file_name,
};

/// Partitions that one generation is split into at most.
const PARTITIONS_MAX: usize = 32;

/// A segment file that was written and synced but is not yet in the manifest.
#[derive(Clone, Debug)]
pub(crate) struct NewSegment {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    pub(crate) meta: SegmentMeta,
    pub(crate) identity: FileIdentity,
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

/// Writes the metrics of a generation.
pub(crate) fn seal_metrics(
    place: &SegmentPlace<'_>,
    table: &SeriesTable,
    tenants: &[Arc<Tenant>],
    data: &HeadData,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
    unsaved: &mut BTreeSet<(TenantIndex, String)>,
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
        let origin = origin_of(tenant);
        let mut sealer = Sealer {
            place,
            origin,
            width,
            open: HashMap::new(),
            metric: String::new(),
        };
        // Equal labels in two slots: the slot that was given out later holds the later samples.
        for (labels, same) in sorted.groups() {
            let (samples, exemplars) = take_series(data, same);
            sealer.push(tenant, &labels, samples, exemplars, unsaved)?;
        }
        sealer.finish(&mut sealed)?;
    }
    Ok(sealed)
}

fn take_series(
    data: &HeadData,
    series: impl Iterator<Item = SeriesRef>,
) -> (SampleColumns, Vec<Exemplar>) {
    let mut parts = Vec::new();
    let mut exemplars = Vec::new();
    for slot in series.map(slot_of) {
        data.read(slot, TimeRange::ALL, &mut parts);
        exemplars.extend(data.exemplars.read().read(slot, TimeRange::ALL));
    }
    let mut samples = SampleColumns::default();
    merge_parts(&mut parts, &mut samples);
    (samples, exemplars)
}

struct Sealer<'a> {
    place: &'a SegmentPlace<'a>,
    origin: SegmentOrigin,
    width: i64,
    open: HashMap<i64, Partition>,
    /// Name of the metric whose metadata was looked up last: series of a metric are neighbours.
    metric: String,
}

impl Sealer<'_> {
    fn push(
        &mut self,
        tenant: &Tenant,
        labels: &Labels,
        samples: SampleColumns,
        exemplars: Vec<Exemplar>,
        unsaved: &mut BTreeSet<(TenantIndex, String)>,
    ) -> Result<()> {
        if samples.is_empty() && exemplars.is_empty() {
            return Ok(());
        }
        let metric = labels.get(METRIC_NAME).unwrap_or("");
        let metadata = if metric == self.metric {
            Vec::new()
        } else {
            metric.clone_into(&mut self.metric);
            let family = tenant.metadata_of_family(metric);
            for (name, _) in &family {
                unsaved.remove(&(tenant.index, name.clone()));
            }
            family
        };
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

    fn finish(self, sealed: &mut Vec<NewSegment>) -> Result<()> {
        let mut partitions: Vec<_> = self.open.into_iter().collect();
        partitions.sort_by_key(|(number, _)| *number);
        for (_, Partition { id, builder }) in partitions {
            let (writer, meta, identity) = builder.finish()?;
            let path = writer.publish()?;
            sealed.push(NewSegment {
                id,
                path,
                meta,
                identity,
            });
        }
        Ok(())
    }
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
    let mut parts: std::collections::BTreeMap<i64, (SampleColumns, Vec<Exemplar>)> =
        Default::default();
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
