//! Log records and spans of a frozen generation become segments, one per tenant and partition.
//!
//! Rows stay where they are: what is sorted are their numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::data::{DAY_NS, HeadData};
use super::rows::RowBatch;
use super::seal::{NewSegment, SegmentPlace, partition_days};
use super::tenant::Tenant;
use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::model::TimeRange;
use crate::segment::SegmentOrigin;
use crate::store::row_kind::{Part, RowKind};

/// Writes the rows of one signal of a generation.
pub(crate) fn seal_rows<K: RowKind>(
    place: &SegmentPlace<'_>,
    tenants: &[Arc<Tenant>],
    data: &HeadData,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
) -> Result<Vec<NewSegment>> {
    let mut sealed = Vec::new();
    for tenant in tenants {
        let everything = (0, u64::MAX);
        let seen = K::rows(data)
            .read()
            .see(tenant.index, TimeRange::ALL, None, everything);
        let Some(seen) = seen else { continue };
        let mut days = Vec::new();
        for batch in &seen.batches {
            let times = batch.batch.times();
            let mut last = None;
            batch.rows.for_each(|row| {
                let day = times[row as usize].div_euclid(DAY_NS);
                if last != Some(day) {
                    last = Some(day);
                    days.push(day);
                }
            });
        }
        days.sort_unstable();
        days.dedup();
        let width = partition_days(&days).saturating_mul(DAY_NS);
        let mut partitions: BTreeMap<i64, Vec<Part<K::Batch>>> = BTreeMap::new();
        for batch in seen.batches {
            let mut parts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
            let times = batch.batch.times();
            batch.rows.for_each(|row| {
                let number = times[row as usize].div_euclid(width);
                parts.entry(number).or_default().push(row);
            });
            for (number, rows) in parts {
                partitions.entry(number).or_default().push(Part {
                    batch: Arc::clone(&batch.batch),
                    rows,
                });
            }
        }
        for parts in partitions.into_values() {
            let origin = origin_of(tenant);
            sealed.extend(K::write(place, origin, EncodeEffort::Flush, &parts)?);
        }
    }
    Ok(sealed)
}
