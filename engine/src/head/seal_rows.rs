//! Log records and spans of a frozen generation become segments, one per tenant and partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::data::{DAY_NS, HeadData};
use super::seal::{NewSegment, SegmentPlace, partition_days};
use super::tenant::Tenant;
use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::model::{Labels, Stream};
use crate::segment::{RowBuildOptions, SegmentOrigin, stream_sort_key};
use crate::store::row_kind::RowKind;

/// Rows of one stream.
pub(crate) type StreamRows<R> = (Arc<Stream>, Vec<Arc<R>>);

/// Writes the rows of one signal of a generation.
pub(crate) fn seal_rows<R: RowKind>(
    place: &SegmentPlace<'_>,
    tenants: &[Arc<Tenant>],
    data: &HeadData,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
) -> Result<Vec<NewSegment>> {
    let mut sealed = Vec::new();
    for tenant in tenants {
        let streams: Vec<StreamRows<R>> = R::with_rows(data, |rows| rows.streams_of(tenant.index));
        let mut days: Vec<i64> = streams
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|row| row.time().div_euclid(DAY_NS)))
            .collect();
        days.sort_unstable();
        days.dedup();
        let width = partition_days(&days).saturating_mul(DAY_NS);
        let mut partitions: BTreeMap<i64, Vec<StreamRows<R>>> = BTreeMap::new();
        for (stream, rows) in streams {
            let mut parts: BTreeMap<i64, Vec<Arc<R>>> = BTreeMap::new();
            for row in rows {
                parts
                    .entry(row.time().div_euclid(width))
                    .or_default()
                    .push(row);
            }
            for (number, rows) in parts {
                partitions
                    .entry(number)
                    .or_default()
                    .push((Arc::clone(&stream), rows));
            }
        }
        for streams in partitions.into_values() {
            sealed.extend(write_rows(
                place,
                origin_of(tenant),
                EncodeEffort::Flush,
                streams,
            )?);
        }
    }
    Ok(sealed)
}

/// Writes one segment of rows, given in order of arrival; `None` when there are none.
pub(crate) fn write_rows<R: RowKind>(
    place: &SegmentPlace<'_>,
    origin: SegmentOrigin,
    effort: EncodeEffort,
    streams: Vec<StreamRows<R>>,
) -> Result<Option<NewSegment>> {
    let mut by_key: BTreeMap<(Labels, Vec<u8>), StreamRows<R>> = BTreeMap::new();
    for (stream, rows) in streams {
        let known = by_key
            .entry(stream_sort_key(&stream))
            .or_insert_with(|| (stream, Vec::new()));
        known.1.extend(rows);
    }
    by_key.retain(|_, (_, rows)| !rows.is_empty());
    if by_key.is_empty() {
        return Ok(None);
    }
    let (id, writer) = place.create()?;
    let options = RowBuildOptions {
        effort,
        ..RowBuildOptions::default()
    };
    let mut builder = R::builder(writer, origin, options)?;
    for (stream, mut rows) in by_key.into_values() {
        // Stable: rows of equal time stay in order of arrival.
        rows.sort_by_key(|row| row.time());
        R::begin_stream(&mut builder, &stream)?;
        for same_time in rows.chunk_by(|a, b| a.time() == b.time()) {
            let mut ordinal = 0;
            for (number, row) in same_time.iter().enumerate() {
                let replaced = same_time[number + 1..]
                    .iter()
                    .any(|later| row.is_replaced_by(later));
                if !replaced {
                    R::push(&mut builder, row, ordinal)?;
                    ordinal += 1;
                }
            }
        }
    }
    let (writer, meta, identity) = R::finish(builder)?;
    let path = writer.publish()?;
    Ok(Some(NewSegment {
        id,
        path,
        meta,
        identity,
    }))
}
