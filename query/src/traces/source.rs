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
