//! One log record or span between its decoder and the batch: the form in which rules see it.
//!
//! A decoder keeps one of these for a whole request and fills it anew for every row, so that nothing
//! is allocated per row.

use std::borrow::Cow;
use std::ops::Range;

use chronolith_engine::model::{SpanId, SpanKind, SpanStatus, TimestampNs, TraceId};

use super::value::{Pairs, Value};

/// A log record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRow<'a> {
    /// When it happened; `None` if nobody said.
    pub time: Option<TimestampNs>,
    /// When a collector saw it first.
    pub observed_time: Option<TimestampNs>,
    /// OpenTelemetry severity number, 0 (not said) to 24.
    pub severity: u8,
    /// Severity as the source wrote it.
    pub severity_text: Cow<'a, str>,
    /// The message.
    pub body: Value<'a>,
    /// Attributes of this record.
    pub attributes: Pairs<'a>,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// The span it belongs to.
    pub span_id: Option<SpanId>,
    /// Empty for an ordinary record.
    pub event_name: Cow<'a, str>,
}

impl LogRow<'_> {
    /// Forgets the last row, keeps the memory.
    pub fn clear(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = Self {
            attributes,
            ..Self::default()
        };
    }

    /// The attribute of a key; of repeated keys the last.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value<'_>> {
        let mut pairs = self.attributes.iter().rev();
        pairs.find(|(k, _)| k == key).map(|(_, value)| value)
    }
}

/// An event of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow<'a> {
    /// Nanoseconds since the epoch.
    pub time: i64,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its attributes among [`SpanRow::nested`].
    pub attributes: Range<usize>,
}

/// A link of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkRow {
    /// The trace of the other span.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Its attributes among [`SpanRow::nested`].
    pub attributes: Range<usize>,
}

/// A span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanRow<'a> {
    /// The trace; `None` when what was sent is none.
    pub trace_id: Option<TraceId>,
    /// The span; `None` when what was sent is none.
    pub span_id: Option<SpanId>,
    /// The span above; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state as sent.
    pub trace_state: Cow<'a, str>,
    /// Operation name.
    pub name: Cow<'a, str>,
    /// Role.
    pub kind: SpanKind,
    /// Nanoseconds since the epoch.
    pub start: i64,
    /// Nanoseconds since the epoch.
    pub end: i64,
    /// Outcome.
    pub status: SpanStatus,
    /// Words about it.
    pub status_message: Cow<'a, str>,
    /// Attributes of the span.
    pub attributes: Pairs<'a>,
    /// Events in the order sent.
    pub events: Vec<EventRow<'a>>,
    /// Links in the order sent.
    pub links: Vec<LinkRow>,
    /// Attributes of all events and links.
    pub nested: Pairs<'a>,
}

impl SpanRow<'_> {
    /// Forgets the last row, keeps the memory.
    pub fn clear(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        let mut events = std::mem::take(&mut self.events);
        let mut links = std::mem::take(&mut self.links);
        let mut nested = std::mem::take(&mut self.nested);
        attributes.clear();
        events.clear();
        links.clear();
        nested.clear();
        *self = Self {
            attributes,
            events,
            links,
            nested,
            ..Self::default()
        };
    }

    /// The attribute of a key; of repeated keys the last.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value<'_>> {
        let mut pairs = self.attributes.iter().rev();
        pairs.find(|(k, _)| k == key).map(|(_, value)| value)
    }
}
