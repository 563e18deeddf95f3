//! Spans of traces, as in OpenTelemetry.

use std::fmt;
use std::sync::Arc;

use super::{Attributes, Stream, TimestampNs};

/// The 16 bytes that name a trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The 8 bytes that name a span inside its trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// The role of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SpanKind {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// Work inside a service.
    Internal = 1,
    /// Handles a request.
    Server = 2,
    /// Sends a request.
    Client = 3,
    /// Enqueues a message.
    Producer = 4,
    /// Takes a message.
    Consumer = 5,
}

impl SpanKind {
    /// From its stored number (OTLP's numbers).
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        [
            Self::Unspecified,
            Self::Internal,
            Self::Server,
            Self::Client,
            Self::Producer,
            Self::Consumer,
        ]
        .get(usize::from(number))
        .copied()
    }
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SpanStatus {
    /// Not said.
    #[default]
    Unset = 0,
    /// Declared good.
    Ok = 1,
    /// Failed.
    Error = 2,
}

impl SpanStatus {
    /// From its stored number (OTLP's numbers).
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Unset, Self::Ok, Self::Error]
            .get(usize::from(number))
            .copied()
    }
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// When.
    pub time: TimestampNs,
    /// What.
    pub name: String,
    /// More about it.
    pub attributes: Attributes,
}

/// A pointer to a span of the same or another trace.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanLink {
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// More about the link.
    pub attributes: Attributes,
}

/// One span. Its identity is (trace id, span id, kind, service).
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The span it is part of; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state as sent.
    pub trace_state: String,
    /// Operation name.
    pub name: String,
    /// Role.
    pub kind: SpanKind,
    /// Begin.
    pub time: TimestampNs,
    /// Length in nanoseconds; negative when the source's clock ran backwards.
    pub duration_ns: i64,
    /// Outcome.
    pub status: SpanStatus,
    /// Words about the outcome.
    pub status_message: String,
    /// Attributes of the span itself.
    pub attributes: Attributes,
    /// Events in the order sent.
    pub events: Vec<SpanEvent>,
    /// Links in the order sent.
    pub links: Vec<SpanLink>,
}

/// A span together with its stream, as a scan returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRow {
    /// The stream; its resource attribute `service.name` names the service.
    pub stream: Arc<Stream>,
    /// The span.
    pub span: Arc<Span>,
}
