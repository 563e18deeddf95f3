//! Span segments of versions 1 to 3: their spans are read into batches, and conditions are tested there.

use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::reader::SpanBlockRef;
use crate::error::Result;
use crate::model::TimeRange;
use crate::rows::{Selection, SpanBatch, SpanBlock, SpanCondition, SpanScanRequest, Streams};
use crate::segment::rows::{BlockRef, RowSegmentReader, legacy_spans};

/// A segment as the versions before wrote it: sorted by stream, then start.
#[derive(Debug)]
pub(super) struct OldSpans(pub(super) RowSegmentReader);

impl OldSpans {
    fn reference(block: &BlockRef) -> SpanBlockRef {
        SpanBlockRef {
            number: block.number,
            rows: block.row_count() as u32,
            range: block.range(),
        }
    }

    pub(super) fn plan(
        &self,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<SpanBlockRef>> {
        let mut traces: Option<RoaringBitmap> = None;
        for condition in &request.conditions {
            if let SpanCondition::Trace(ids) = condition {
                let mut blocks = RoaringBitmap::new();
                for id in ids.iter() {
                    blocks |= self.0.blocks_of_trace(id)?;
                }
                traces = Some(traces.map_or(blocks.clone(), |others| others & &blocks));
            }
        }
        let may_have = |block: &&BlockRef| {
            let its_streams = block.head.first_stream..=block.head.last_stream;
            let of_trace = |blocks: &RoaringBitmap| blocks.contains(block.number as u32);
            block.range().overlaps(request.range)
                && streams.is_none_or(|all| all.range_cardinality(its_streams) > 0)
                && traces.as_ref().is_none_or(of_trace)
        };
        let blocks = self.0.all_blocks();
        Ok(blocks
            .iter()
            .filter(may_have)
            .map(Self::reference)
            .collect())
    }

    pub(super) fn blocks(&self) -> Vec<SpanBlockRef> {
        self.0.all_blocks().iter().map(Self::reference).collect()
    }

    /// The spans with the right times and streams, and the number in the segment of each stream of the
    /// batch.
    fn batch(
        &self,
        block: &SpanBlockRef,
        range: TimeRange,
        wanted: Option<&RoaringBitmap>,
        streams: &Arc<Streams>,
    ) -> Result<(SpanBatch, Vec<u32>)> {
        let mut batch = SpanBatch::new();
        let mut numbers = Vec::new();
        let mut places = HashMap::new();
        let blocks = self.0.all_blocks();
        let Some(block) = blocks.get(block.number) else {
            return Ok((batch, numbers));
        };
        for (stream, span) in legacy_spans::read_block(&self.0, block, range, wanted)? {
            let place = match places.get(&stream) {
                Some(place) => *place,
                None => {
                    let place = batch.stream(streams.get(stream)?);
                    places.insert(stream, place);
                    numbers.push(stream);
                    place
                }
            };
            batch.push(place, &span);
        }
        Ok((batch, numbers))
    }

    pub(super) fn read(
        &self,
        block: &SpanBlockRef,
        request: &SpanScanRequest,
        wanted: Option<&RoaringBitmap>,
        streams: &Arc<Streams>,
    ) -> Result<Option<SpanBlock>> {
        let (batch, numbers) = self.batch(block, request.range, wanted, streams)?;
        let mut rows = Selection::All(batch.len());
        for condition in &request.conditions {
            condition.retain_batch(&batch, &mut rows);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let (columns, attributes) = (request.columns, &request.attributes);
        let block = batch.block(streams, &numbers, &rows, columns, attributes);
        Ok(Some(block))
    }

    pub(super) fn read_batch(
        &self,
        block: &SpanBlockRef,
        streams: &Arc<Streams>,
    ) -> Result<SpanBatch> {
        let (batch, _) = self.batch(block, TimeRange::ALL, None, streams)?;
        Ok(batch)
    }

    /// Decodes every block, for verify. Answers the number of spans.
    pub(super) fn count_rows(&self) -> Result<u64> {
        let mut rows = 0;
        for block in self.0.all_blocks() {
            rows += legacy_spans::read_block(&self.0, &block, TimeRange::ALL, None)?.len() as u64;
        }
        Ok(rows)
    }
}
