//! Where spans come from: a columnar scan that applies conditions and answers with blocks.

use chronolith_engine::rows::{SpanBlock, SpanScanRequest};
use chronolith_engine::{EngineError, RequestContext};

/// The blocks of a scan, one after the other. Dropping it ends the scan.
pub type SpanBlocks<'s> = Box<dyn Iterator<Item = Result<SpanBlock, EngineError>> + 's>;

/// One state of the spans of a store. Scans of one source see the same spans.
pub trait SpanSource {
    /// Scans. Rows that come pass all conditions of the request; columns that were not asked for may be
    /// missing. The iterator looks at the deadline and at cancellation.
    ///
    /// # Errors
    /// What the store says; also from the iterator.
    fn scan(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlocks<'_>, EngineError>;

    /// Bytes that one question may hold at a time.
    fn bytes_max(&self) -> usize {
        usize::MAX
    }
}

impl SpanSource for chronolith_engine::Snapshot {
    fn scan(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlocks<'_>, EngineError> {
        Ok(Box::new(self.scan_span_blocks(context, request)?))
    }
}

/// A source for one question: what is read is counted in the usage of its context, and what may be held is
/// bounded.
pub struct Measured<'s> {
    source: &'s dyn SpanSource,
    bytes_max: usize,
}

impl<'s> Measured<'s> {
    /// Over a source; a question holds at most `bytes_max` bytes.
    pub fn new(source: &'s dyn SpanSource, bytes_max: usize) -> Self {
        Self { source, bytes_max }
    }
}

impl SpanSource for Measured<'_> {
    fn scan(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlocks<'_>, EngineError> {
        let blocks = self.source.scan(context, request)?;
        let usage = std::sync::Arc::clone(&context.usage);
        Ok(Box::new(blocks.inspect(move |block| {
            if let Ok(block) = block {
                usage.add_samples(block.rows as u64);
            }
        })))
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}
