//! Span segments of versions 1 to 3: their rows are read into batches, and conditions are tested there.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::reader::SpanBlockRef;
use crate::error::Result;
use crate::model::TimeRange;
use crate::rows::{Selection, SpanBatch, SpanBlock, SpanCondition, SpanScanRequest, Streams};
use crate::segment::rows::{BlockRef, RowFilter, SpanSegmentReader};

/// A segment as the versions before wrote it.
#[derive(Debug)]
pub(super) struct OldSpans(pub(super) SpanSegmentReader);

fn filter_of(request: &SpanScanRequest, streams: Option<&RoaringBitmap>) -> RowFilter {
    let one_trace = request
        .conditions
        .iter()
        .find_map(|condition| match condition {
            SpanCondition::Trace(ids) if ids.len() == 1 => ids.first().copied(),
            _ => None,
        });
    RowFilter {
        streams: streams.cloned(),
        trace_id: one_trace,
        ..RowFilter::in_range(request.range)
    }
}

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
        let blocks = self.0.blocks(&filter_of(request, streams))?;
        Ok(blocks.iter().map(Self::reference).collect())
    }

    pub(super) fn blocks(&self) -> Vec<SpanBlockRef> {
        self.0.all_blocks().iter().map(Self::reference).collect()
    }

    fn batch(
        &self,
        block: &SpanBlockRef,
        filter: &RowFilter,
        streams: &Arc<Streams>,
    ) -> Result<SpanBatch> {
        let mut batch = SpanBatch::new();
        let blocks = self.0.all_blocks();
        let Some(block) = blocks.get(block.number) else {
            return Ok(batch);
        };
        for number in 0..streams.len() as u32 {
            batch.stream(streams.get(number)?);
        }
        for row in self.0.read_block(block, filter)? {
            batch.push(row.stream, &row.span);
        }
        Ok(batch)
    }

    pub(super) fn read(
        &self,
        block: &SpanBlockRef,
        request: &SpanScanRequest,
        chosen: Option<&RoaringBitmap>,
        streams: &Arc<Streams>,
    ) -> Result<Option<SpanBlock>> {
        let batch = self.batch(block, &filter_of(request, chosen), streams)?;
        let mut rows = Selection::All(batch.len());
        for condition in &request.conditions {
            condition.retain_batch(&batch, &mut rows);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let numbers: Vec<u32> = (0..streams.len() as u32).collect();
        let block = batch.block(
            streams,
            &numbers,
            &rows,
            request.columns,
            &request.attributes,
        );
        Ok(Some(block))
    }

    pub(super) fn read_batch(
        &self,
        block: &SpanBlockRef,
        streams: &Arc<Streams>,
    ) -> Result<SpanBatch> {
        self.batch(block, &RowFilter::in_range(TimeRange::ALL), streams)
    }
}
