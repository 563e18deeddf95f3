//! Log records. Events are log records with an event name.

use std::sync::Arc;

use super::{AttributeValue, Attributes, SpanId, Stream, TimestampNs, TraceId};

/// One record of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When it happened.
    pub time: TimestampNs,
    /// When it was first seen by a collector; equals `time` if nobody said.
    pub observed_time: TimestampNs,
    /// OpenTelemetry severity number, 0 (not said) to 24.
    pub severity: u8,
    /// Severity as the source wrote it.
    pub severity_text: String,
    /// The message; structured bodies are kept as such.
    pub body: AttributeValue,
    /// Attributes of this record.
    pub attributes: Attributes,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// The span it belongs to.
    pub span_id: Option<SpanId>,
    /// The event's name; empty for an ordinary record.
    pub event_name: String,
}

/// A record together with its stream, as a scan returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The record.
    pub record: Arc<LogRecord>,
}
