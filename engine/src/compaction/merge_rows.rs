//! Merges log or span segments into one, without deleted and expired rows.
//!
//! The rows of a partition are held in memory meanwhile, as columns; planning bounds their size.

use std::sync::Arc;

use hashbrown::HashMap;

use super::merge::{MergeInput, merged_origin};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::rows::RowBatch;
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::model::{TimeRange, TimestampNs};
use crate::scan::blocks::SegmentSource;
use crate::store::row_kind::{Part, RowBlock, RowKind, RowRequest};

/// Merges the segments into one; `None` when no row is left.
///
/// # Errors
/// Damage in an input, what the file system says, or a context that was cancelled.
pub(crate) fn merge_rows<K: RowKind>(
    place: &SegmentPlace<'_>,
    context: &RequestContext,
    input: &MergeInput<'_>,
) -> Result<Option<NewSegment>> {
    let Some(origin) = merged_origin(input) else {
        return Ok(None);
    };
    let request = K::Request::everything(TimeRange {
        start: TimestampNs(input.oldest),
        end: TimestampNs::MAX,
    });
    let mut parts = Vec::new();
    for segment in input.segments {
        let source = SegmentSource::<K>::open(segment, input.tombstones, &request)?;
        let Some(source) = source else { continue };
        for number in 0..source.blocks() {
            context.check()?;
            let Some(block) = source.read(number, &request)? else {
                continue;
            };
            let mut batch = K::Batch::default();
            let mut numbers = HashMap::new();
            for row in 0..block.len() {
                let stream = block.stream(row);
                if !numbers.contains_key(&stream) {
                    let number = batch.add_stream(block.streams().get(stream)?);
                    numbers.insert(stream, number);
                }
            }
            K::collect(&mut batch, &block, &numbers);
            parts.push(Part {
                rows: (0..batch.row_count() as u32).collect(),
                batch: Arc::new(batch),
            });
        }
    }
    K::write(place, origin, input.effort, &parts)
}
