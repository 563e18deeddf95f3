//! What sealing, scanning and merging need to know of log records and spans, so that they are
//! written once for both.

use std::sync::Arc;

use super::segments::{Segment, SegmentBody};
use super::snapshot::RowMarks;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::rows::Rows;
use crate::model::{LogRecord, Signal, Span, Stream};
use crate::segment::{
    FileIdentity, LogSegmentBuilder, RowBuildOptions, RowFilter, RowSegmentReader,
    SegmentFileWriter, SegmentMeta, SegmentOrigin, SpanSegmentBuilder,
};

/// A row of a signal that has streams.
pub(crate) trait RowKind: Send + Sync + Sized + 'static {
    /// Its signal.
    const SIGNAL: Signal;
    /// What makes its segments.
    type Builder;

    fn time(&self) -> i64;
    /// Whether `later` is the same row as `self`, written again.
    fn is_replaced_by(&self, later: &Self) -> bool;
    /// Calls `look` with the rows of a generation of the head.
    fn with_rows<T>(head: &HeadData, look: impl FnOnce(&Rows<Self>) -> T) -> T;
    /// Where the rows of a generation of the head end for a pin.
    fn mark(marks: RowMarks) -> u64;
    fn reader(segment: &Segment) -> Option<&RowSegmentReader>;
    /// Rows of a segment with the numbers of their streams, in order of stream, time and arrival.
    fn read(segment: &Segment, filter: &RowFilter) -> Result<Vec<(u32, Self)>>;

    fn builder(
        sink: SegmentFileWriter,
        origin: SegmentOrigin,
        options: RowBuildOptions,
    ) -> Result<Self::Builder>;
    fn begin_stream(builder: &mut Self::Builder, stream: &Stream) -> Result<()>;
    fn push(builder: &mut Self::Builder, row: &Arc<Self>, ordinal: u64) -> Result<()>;
    fn finish(builder: Self::Builder) -> Result<(SegmentFileWriter, SegmentMeta, FileIdentity)>;
}

impl RowKind for LogRecord {
    const SIGNAL: Signal = Signal::Logs;
    type Builder = LogSegmentBuilder<SegmentFileWriter>;

    fn time(&self) -> i64 {
        self.time.0
    }

    fn is_replaced_by(&self, _later: &Self) -> bool {
        false
    }

    fn with_rows<T>(head: &HeadData, look: impl FnOnce(&Rows<Self>) -> T) -> T {
        look(&head.logs.read())
    }

    fn mark(marks: RowMarks) -> u64 {
        marks.logs
    }

    fn reader(segment: &Segment) -> Option<&RowSegmentReader> {
        match &segment.body {
            SegmentBody::Logs(reader) => Some(reader),
            _ => None,
        }
    }

    fn read(segment: &Segment, filter: &RowFilter) -> Result<Vec<(u32, Self)>> {
        let SegmentBody::Logs(reader) = &segment.body else {
            return Ok(Vec::new());
        };
        Ok(reader
            .scan(filter)?
            .into_iter()
            .map(|row| (row.stream, row.record))
            .collect())
    }

    fn builder(
        sink: SegmentFileWriter,
        origin: SegmentOrigin,
        options: RowBuildOptions,
    ) -> Result<Self::Builder> {
        LogSegmentBuilder::new(sink, origin, options)
    }

    fn begin_stream(builder: &mut Self::Builder, stream: &Stream) -> Result<()> {
        builder.begin_stream(stream)
    }

    fn push(builder: &mut Self::Builder, row: &Arc<Self>, ordinal: u64) -> Result<()> {
        builder.push(row, ordinal)
    }

    fn finish(builder: Self::Builder) -> Result<(SegmentFileWriter, SegmentMeta, FileIdentity)> {
        builder.finish()
    }
}

impl RowKind for Span {
    const SIGNAL: Signal = Signal::Spans;
    type Builder = SpanSegmentBuilder<SegmentFileWriter>;

    fn time(&self) -> i64 {
        self.time.0
    }

    fn is_replaced_by(&self, later: &Self) -> bool {
        // The service is part of the identity; rows that are compared share their stream.
        self.trace_id == later.trace_id && self.span_id == later.span_id && self.kind == later.kind
    }

    fn with_rows<T>(head: &HeadData, look: impl FnOnce(&Rows<Self>) -> T) -> T {
        look(&head.spans.read())
    }

    fn mark(marks: RowMarks) -> u64 {
        marks.spans
    }

    fn reader(segment: &Segment) -> Option<&RowSegmentReader> {
        match &segment.body {
            SegmentBody::Spans(reader) => Some(reader),
            _ => None,
        }
    }

    fn read(segment: &Segment, filter: &RowFilter) -> Result<Vec<(u32, Self)>> {
        let SegmentBody::Spans(reader) = &segment.body else {
            return Ok(Vec::new());
        };
        Ok(reader
            .scan(filter)?
            .into_iter()
            .map(|row| (row.stream, row.span))
            .collect())
    }

    fn builder(
        sink: SegmentFileWriter,
        origin: SegmentOrigin,
        options: RowBuildOptions,
    ) -> Result<Self::Builder> {
        SpanSegmentBuilder::new(sink, origin, options)
    }

    fn begin_stream(builder: &mut Self::Builder, stream: &Stream) -> Result<()> {
        builder.begin_stream(stream)
    }

    fn push(builder: &mut Self::Builder, row: &Arc<Self>, ordinal: u64) -> Result<()> {
        builder.push(row, ordinal)
    }

    fn finish(builder: Self::Builder) -> Result<(SegmentFileWriter, SegmentMeta, FileIdentity)> {
        builder.finish()
    }
}
