//! What a scan asks of an open segment of a signal that has streams, the same of log records and spans.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::logs::LogSegmentReader;
use super::rows::BlockRef;
use super::spans::{SpanBlockRef, SpanReader};
use crate::error::Result;
use crate::index::Matcher;
use crate::model::{Labels, TimeRange};
use crate::rows::{LogBlock, LogScanRequest, SpanBlock, SpanScanRequest, Streams};

/// An open segment of log records or spans. Streams and blocks have numbers in the segment; order and
/// limit of a request are the caller's to see to, and so are its matchers: `streams` are the numbers
/// that passed them, `None` for all.
pub(crate) trait RowReader: Send + Sync + 'static {
    type Request;
    type Block;
    type BlockRef: Copy + Send + Sync;

    /// The streams by number, shared by all that read them.
    fn streams(&self) -> &Arc<Streams>;
    fn stream_labels(&self, number: u32) -> Result<Labels>;
    /// Numbers of the streams whose labels pass all matchers.
    fn select_streams(&self, matchers: &[Matcher]) -> Result<RoaringBitmap>;
    fn attribute_keys(&self) -> &[Arc<str>];

    /// The blocks that may have rows that pass, without reading one.
    fn plan(
        &self,
        request: &Self::Request,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<Self::BlockRef>>;

    /// The first and last time of a block.
    fn range_of(block: &Self::BlockRef) -> TimeRange;

    /// The rows of a block that pass, with the columns asked for; `None` when none does.
    fn read(
        &self,
        block: &Self::BlockRef,
        request: &Self::Request,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<Self::Block>>;
}

impl RowReader for LogSegmentReader {
    type Request = LogScanRequest;
    type Block = LogBlock;
    type BlockRef = BlockRef;

    fn streams(&self) -> &Arc<Streams> {
        (**self).streams()
    }

    fn stream_labels(&self, number: u32) -> Result<Labels> {
        (**self).stream_labels(number)
    }

    fn select_streams(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        (**self).select_streams(matchers)
    }

    fn attribute_keys(&self) -> &[Arc<str>] {
        (**self).attribute_keys()
    }

    fn plan(
        &self,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<BlockRef>> {
        self.plan(request, streams)
    }

    fn range_of(block: &BlockRef) -> TimeRange {
        block.range()
    }

    fn read(
        &self,
        block: &BlockRef,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<LogBlock>> {
        self.read(block, request, streams)
    }
}

impl RowReader for SpanReader {
    type Request = SpanScanRequest;
    type Block = SpanBlock;
    type BlockRef = SpanBlockRef;

    fn streams(&self) -> &Arc<Streams> {
        self.streams()
    }

    fn stream_labels(&self, number: u32) -> Result<Labels> {
        self.stream_labels(number)
    }

    fn select_streams(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        self.select_streams(matchers)
    }

    fn attribute_keys(&self) -> &[Arc<str>] {
        self.attribute_keys()
    }

    fn plan(
        &self,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<SpanBlockRef>> {
        self.plan(request, streams)
    }

    fn range_of(block: &SpanBlockRef) -> TimeRange {
        block.range()
    }

    fn read(
        &self,
        block: &SpanBlockRef,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<SpanBlock>> {
        self.read(block, request, streams)
    }
}
