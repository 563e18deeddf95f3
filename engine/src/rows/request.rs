//! What is wanted of log records or spans: plain data, so that a scan can be sent to another machine.
//!
//! Conditions are exact: a row that a scan returns passes all of them. A store may use them to pass
//! over blocks; the caller need not test again.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::fields::LineFields;
use crate::error::{EngineError, Result};
use crate::index::Matcher;
use crate::limits;
use crate::model::{TimeRange, TraceId};

/// In which order blocks come. Rows inside a block are always in the order asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowOrder {
    /// As is cheapest: what aggregations want.
    #[default]
    Any,
    /// By time, ascending; equal times in order of arrival.
    OldestFirst,
    /// By time, descending; equal times in reverse order of arrival.
    NewestFirst,
}

/// A pattern that text is tested with.
#[derive(Clone)]
pub enum TextPattern {
    /// The whole text.
    Equals(Arc<str>),
    /// Somewhere in the text.
    Contains(Arc<str>),
    /// Matches somewhere in the text (not anchored; write `^…$` for that).
    Regex(Arc<regex::bytes::Regex>),
    /// One of these.
    AnyOf(Vec<TextPattern>),
}

impl fmt::Debug for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(text) => f.debug_tuple("Equals").field(text).finish(),
            Self::Contains(text) => f.debug_tuple("Contains").field(text).finish(),
            Self::Regex(regex) => f.debug_tuple("Regex").field(&regex.as_str()).finish(),
            Self::AnyOf(patterns) => f.debug_tuple("AnyOf").field(patterns).finish(),
        }
    }
}

impl TextPattern {
    /// A pattern from a regex in RE2's syntax, not anchored.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] for one that does not parse or grows too large.
    pub fn regex(pattern: &str) -> Result<Self> {
        if pattern.len() > limits::REGEX_PATTERN_BYTES_MAX {
            return Err(EngineError::InvalidArgument(format!(
                "regex of {} bytes, at most {} are allowed",
                pattern.len(),
                limits::REGEX_PATTERN_BYTES_MAX
            )));
        }
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(limits::REGEX_COMPILED_BYTES_MAX)
            .dfa_size_limit(limits::REGEX_COMPILED_BYTES_MAX)
            .nest_limit(limits::REGEX_NESTING_MAX)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or(&text);
                let reason = last.trim_start_matches("error: ");
                EngineError::InvalidArgument(format!("regex {pattern:?}: {reason}"))
            })?;
        Ok(Self::Regex(Arc::new(regex)))
    }

    /// Whether a text passes.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Equals(whole) => whole.as_bytes() == text,
            Self::Contains(part) => memchr::memmem::find(text, part.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(text),
            Self::AnyOf(patterns) => patterns.iter().any(|pattern| pattern.matches(text)),
        }
    }
}

/// A test of text.
#[derive(Clone, Debug)]
pub struct TextTest {
    /// The pattern.
    pub pattern: TextPattern,
    /// Passes what does not match.
    pub negated: bool,
}

impl TextTest {
    /// Whether a text passes.
    #[must_use]
    pub fn passes(&self, text: &[u8]) -> bool {
        self.pattern.matches(text) != self.negated
    }
}

/// A test of an attribute's value. Every test but [`ValueTest::Absent`] fails on a row without the key.
#[derive(Clone, Debug)]
pub enum ValueTest {
    /// The row has the key.
    Present,
    /// The row lacks the key.
    Absent,
    /// Text (only of text values; other types fail, also when negated).
    Text(TextTest),
    /// Integers and doubles inside the range, compared as doubles unless both are integers.
    Number {
        /// Smallest and whether it is inside; `None`: no bound.
        min: Option<(f64, bool)>,
        /// Largest and whether it is inside; `None`: no bound.
        max: Option<(f64, bool)>,
        /// Passes numbers outside of the range.
        negated: bool,
    },
    /// A truth value.
    Bool(bool),
}

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttributeScope {
    /// The record or span itself.
    Row,
    /// The resource of its stream.
    Resource,
    /// The instrumentation scope of its stream; name and version are found under
    /// [`super::SCOPE_NAME`] and [`super::SCOPE_VERSION`].
    Instrumentation,
    /// Some event of the span.
    Event,
    /// Some link of the span.
    Link,
}

/// A condition on log records.
#[derive(Clone, Debug)]
pub enum LogCondition {
    /// On the body's text; of a body that is a value, on what [`super::append_text`] makes of it.
    Body(TextTest),
    /// On the severity number.
    Severity(RangeInclusive<u8>),
    /// On the severity text.
    SeverityText(TextTest),
    /// One of these traces.
    Trace(Arc<[TraceId]>),
    /// On the event name; events are what has one.
    EventName(TextTest),
    /// On an attribute.
    Attribute {
        /// Row, resource or instrumentation.
        scope: AttributeScope,
        /// The key.
        key: Arc<str>,
        /// The test.
        test: ValueTest,
    },
}

/// A condition on spans.
#[derive(Clone, Debug)]
pub enum SpanCondition {
    /// One of these traces.
    Trace(Arc<[TraceId]>),
    /// On the operation name.
    Name(TextTest),
    /// One of these kinds: bit `1 << kind`.
    Kind(u8),
    /// One of these states: bit `1 << status`.
    Status(u8),
    /// On the status message.
    StatusMessage(TextTest),
    /// Nanoseconds.
    Duration(RangeInclusive<i64>),
    /// Has no parent id.
    Root,
    /// On an attribute.
    Attribute {
        /// Where.
        scope: AttributeScope,
        /// The key.
        key: Arc<str>,
        /// The test.
        test: ValueTest,
    },
    /// One of these holds.
    Any(Vec<SpanCondition>),
    /// All of these hold.
    All(Vec<SpanCondition>),
}

/// Which attributes of rows a scan returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AttributeChoice {
    /// None.
    #[default]
    None,
    /// Of these keys.
    Keys(Vec<Arc<str>>),
    /// All, with their order.
    All,
}

/// What stands for text that varies in [`LogColumnSet::body_outline`].
pub const OUTLINE_SLOT: &str = "<_>";

/// Which columns of log records a scan returns. Stream and time are always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogColumnSet {
    /// [`super::LogBlock::observed_time`].
    pub observed_time: bool,
    /// [`super::LogBlock::severity`] and the text.
    pub severity: bool,
    /// [`super::LogBlock::body`] and its kind.
    pub body: bool,
    /// The same column, with [`super::OUTLINE_SLOT`] for what varies, where that is known without
    /// reading the text: of rows in segments that fit a template. Other rows come whole. Has no effect
    /// beside `body`.
    pub body_outline: bool,
    /// [`super::LogBlock::body_size`].
    pub body_size: bool,
    /// Trace and span ids.
    pub ids: bool,
    /// [`super::LogBlock::event_name`].
    pub event_name: bool,
}

impl LogColumnSet {
    /// Whether bodies are wanted, whole or in outline.
    #[must_use]
    pub fn wants_body(self) -> bool {
        self.body || self.body_outline
    }

    /// All that was written; bodies whole.
    pub const ALL: Self = Self {
        observed_time: true,
        severity: true,
        body: true,
        body_outline: false,
        body_size: false,
        ids: true,
        event_name: true,
    };
}

/// Which columns of spans a scan returns. Stream and time are always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanColumnSet {
    /// Trace id.
    pub trace_id: bool,
    /// Span id and parent span id.
    pub span_ids: bool,
    /// Operation name.
    pub name: bool,
    /// Kind.
    pub kind: bool,
    /// Duration.
    pub duration: bool,
    /// Status.
    pub status: bool,
    /// Status message and trace state.
    pub details: bool,
    /// Events, with all their attributes.
    pub events: bool,
    /// Links, with all their attributes.
    pub links: bool,
}

impl SpanColumnSet {
    /// All.
    pub const ALL: Self = Self {
        trace_id: true,
        span_ids: true,
        name: true,
        kind: true,
        duration: true,
        status: true,
        details: true,
        events: true,
        links: true,
    };
}

/// A scan of log records.
#[derive(Clone, Debug)]
pub struct LogScanRequest {
    /// Tests that the labels of streams must pass.
    pub matchers: Vec<Matcher>,
    /// Times of the records.
    pub range: TimeRange,
    /// All must hold.
    pub conditions: Vec<LogCondition>,
    /// Order of the rows.
    pub order: RowOrder,
    /// At most this many rows, the first in the order asked for.
    pub limit: Option<usize>,
    /// Columns returned.
    pub columns: LogColumnSet,
    /// Attributes returned.
    pub attributes: AttributeChoice,
    /// Fields of bodies that are to be found without the lines, where that can be done. Code rather than
    /// data, and an offer: where it is left out, rows come with their bodies. Asks for no bodies by itself.
    pub fields: Option<Arc<dyn LineFields>>,
}

/// A scan of spans.
#[derive(Clone, Debug)]
pub struct SpanScanRequest {
    /// Tests that the labels of streams must pass.
    pub matchers: Vec<Matcher>,
    /// Start times of the spans; [`TimeRange::ALL`] for a trace by id.
    pub range: TimeRange,
    /// All must hold.
    pub conditions: Vec<SpanCondition>,
    /// Order of the rows. Spans of one trace in one source come together with [`RowOrder::Any`].
    pub order: RowOrder,
    /// At most this many rows, the first in the order asked for.
    pub limit: Option<usize>,
    /// Columns returned.
    pub columns: SpanColumnSet,
    /// Attributes returned.
    pub attributes: AttributeChoice,
}

impl LogScanRequest {
    /// Everything of matching streams in a range, in any order, no columns but stream and time.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            conditions: Vec::new(),
            order: RowOrder::Any,
            limit: None,
            columns: LogColumnSet::default(),
            attributes: AttributeChoice::None,
            fields: None,
        }
    }
}

impl SpanScanRequest {
    /// Everything of matching streams in a range, in any order, no columns but stream and time.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            conditions: Vec::new(),
            order: RowOrder::Any,
            limit: None,
            columns: SpanColumnSet::default(),
            attributes: AttributeChoice::None,
        }
    }
}
