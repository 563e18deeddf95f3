//! Merges log or span segments into one, without deleted and expired rows.
//!
//! The rows of a partition are held in memory meanwhile; planning bounds their size.

use std::sync::Arc;

use super::merge::{MergeInput, merged_origin};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::head::seal_rows::{StreamRows, write_rows};
use crate::model::{TimeRange, TimestampNs};
use crate::segment::RowFilter;
use crate::store::row_kind::RowKind;
use crate::store::view::Hides;

/// Merges the segments into one; `None` when no row is left.
///
/// # Errors
/// Damage in an input, what the file system says, or a context that was cancelled.
pub(crate) fn merge_rows<R: RowKind>(
    place: &SegmentPlace<'_>,
    context: &RequestContext,
    input: &MergeInput<'_>,
) -> Result<Option<NewSegment>> {
    let Some(origin) = merged_origin(input) else {
        return Ok(None);
    };
    let kept = TimeRange {
        start: TimestampNs(input.oldest),
        end: TimestampNs::MAX,
    };
    let mut streams: Vec<StreamRows<R>> = Vec::new();
    for segment in input.segments {
        context.check()?;
        let Some(reader) = R::reader(segment) else {
            continue;
        };
        let first = streams.len();
        for number in 0..reader.stream_count() {
            streams.push((Arc::new(reader.stream(number)?), Vec::new()));
        }
        for (number, row) in R::read(segment, &RowFilter::in_range(kept))? {
            // The reader made sure of the number.
            let (stream, rows) = &mut streams[first + number as usize];
            let deleted = input.tombstones.iter().any(|t| {
                t.concerns(segment)
                    && t.range.contains(TimestampNs(row.time()))
                    && t.covers(&stream.labels, t.range)
            });
            if !deleted {
                rows.push(Arc::new(row));
            }
        }
    }
    write_rows(place, origin, input.effort, streams)
}
