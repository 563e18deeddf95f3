//! What a scan of log records or spans answers with: some rows, and of them the columns asked for.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::codec::strings::Strings;
use crate::error::Result;
use crate::model::{AttributeValue, Stream};

use super::fields::BodyFields;
use super::value::{NESTING_MAX, ValueRef, read_value};

/// A column of integers.
#[derive(Clone, Debug, PartialEq)]
pub enum IntColumn {
    /// The same in every row; also what a column reads as that nobody wrote (0).
    Constant(i64),
    /// One per row.
    Values(Vec<i64>),
}

impl IntColumn {
    /// The value of a row.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> i64 {
        match self {
            Self::Constant(value) => *value,
            Self::Values(values) => values.get(row).copied().unwrap_or(0),
        }
    }
}

/// A column of text (or of bytes).
#[derive(Clone, Debug, PartialEq)]
pub enum TextColumn {
    /// The same in every row; also what a column reads as that nobody wrote (empty).
    Constant(Box<[u8]>),
    /// Row `i` is `values[keys[i]]`; keys are in range.
    Dictionary {
        /// Per row.
        keys: Vec<i32>,
        /// Distinct texts.
        values: Strings,
    },
    /// One per row.
    Plain(Strings),
}

impl Default for TextColumn {
    fn default() -> Self {
        Self::Constant(Box::default())
    }
}

impl TextColumn {
    /// The bytes of a row.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Constant(bytes) => bytes,
            Self::Dictionary { keys, values } => {
                let key = keys.get(row).copied().unwrap_or(0);
                values.get(key as usize).unwrap_or(&[])
            }
            Self::Plain(values) => values.get(row).unwrap_or(&[]),
        }
    }

    /// The text of a row; what is no UTF-8 reads as empty.
    #[must_use]
    pub fn str(&self, row: usize) -> &str {
        std::str::from_utf8(self.get(row)).unwrap_or("")
    }
}

/// A column of ids; all zeros mean none.
#[derive(Clone, Debug, PartialEq)]
pub enum IdColumn<const N: usize> {
    /// No row has one.
    None,
    /// One per row.
    Values(Vec<[u8; N]>),
}

impl<const N: usize> IdColumn<N> {
    /// The id of a row.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<[u8; N]> {
        match self {
            Self::None => None,
            Self::Values(ids) => ids.get(row).copied().filter(|id| *id != [0; N]),
        }
    }
}

/// The values of one attribute key and type.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValues {
    /// Nothing but the type.
    Null,
    /// UTF-8.
    Text(TextColumn),
    /// Integers.
    Int(IntColumn),
    /// Doubles.
    Float(Vec<f64>),
    /// 0 and 1.
    Bool(IntColumn),
    /// Raw bytes.
    Bytes(TextColumn),
    /// Arrays and maps in their stored form.
    Nested(TextColumn),
}

/// One attribute key with the values of one type. A key that has several types in a block has as many
/// columns.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeColumn {
    /// The key.
    pub key: Arc<str>,
    /// Rows of the block that have it, ascending (a repeated key repeats its row, the last wins);
    /// `None`: every row, once.
    pub rows: Option<Vec<u32>>,
    /// The values, in the order of `rows`.
    pub values: AttributeValues,
    /// Where the pair stood in the attribute set of its row, in the order of `rows`; empty unless the
    /// order was asked for.
    pub positions: Vec<u16>,
}

impl AttributeColumn {
    /// Where the value of a row is among the values.
    #[must_use]
    pub fn index_of(&self, row: u32) -> Option<usize> {
        match &self.rows {
            None => Some(row as usize),
            Some(rows) => {
                let end = rows.partition_point(|r| *r <= row);
                (end > 0 && rows.get(end - 1) == Some(&row)).then(|| end - 1)
            }
        }
    }

    /// Value `index`, counted as the values are.
    #[must_use]
    pub fn value(&self, index: usize) -> ValueRef<'_> {
        let text = |bytes| std::str::from_utf8(bytes).map_or(ValueRef::Null, ValueRef::Str);
        match &self.values {
            AttributeValues::Null => ValueRef::Null,
            AttributeValues::Text(column) => text(column.get(index)),
            AttributeValues::Int(column) => ValueRef::Int(column.get(index)),
            AttributeValues::Float(values) => values
                .get(index)
                .map_or(ValueRef::Null, |v| ValueRef::Float(*v)),
            AttributeValues::Bool(column) => ValueRef::Bool(column.get(index) != 0),
            AttributeValues::Bytes(column) => ValueRef::Bytes(column.get(index)),
            AttributeValues::Nested(column) => ValueRef::Nested(column.get(index)),
        }
    }
}

/// Streams of one source of rows, read when they are asked for and then kept.
pub struct Streams {
    kept: Vec<OnceLock<Arc<Stream>>>,
    read: Box<dyn Fn(u32) -> Result<Stream> + Send + Sync>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("count", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl Streams {
    /// `count` streams that `read` reads.
    pub fn new(count: usize, read: impl Fn(u32) -> Result<Stream> + Send + Sync + 'static) -> Self {
        Self {
            kept: (0..count).map(|_| OnceLock::new()).collect(),
            read: Box::new(read),
        }
    }

    /// Streams that are there already.
    #[must_use]
    pub fn of(streams: &[Arc<Stream>]) -> Self {
        let kept = streams
            .iter()
            .map(|stream| OnceLock::from(Arc::clone(stream)));
        Self {
            kept: kept.collect(),
            read: Box::new(|_| Ok(Stream::default())),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// A stream by number, if it is there already.
    pub(crate) fn peek(&self, number: u32) -> Option<&Arc<Stream>> {
        self.kept.get(number as usize)?.get()
    }

    /// A stream by number.
    ///
    /// # Errors
    /// Damage.
    pub fn get(&self, number: u32) -> Result<Arc<Stream>> {
        let Some(place) = self.kept.get(number as usize) else {
            return Ok(Arc::default());
        };
        if let Some(stream) = place.get() {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new((self.read)(number)?);
        Ok(Arc::clone(place.get_or_init(|| stream)))
    }
}

/// Rows of a log scan. Columns that were not asked for are as if nobody had written them.
#[derive(Clone, Debug)]
pub struct LogBlock {
    /// Rows in the block.
    pub rows: usize,
    /// The streams of the block's source: blocks of one source share them, so that what a reader knows
    /// of stream numbers can be kept as long as `Arc::ptr_eq` holds.
    pub streams: Arc<Streams>,
    /// Numbers among `streams`.
    pub stream: IntColumn,
    /// Nanoseconds since the epoch.
    pub time: Vec<i64>,
    /// Nanoseconds since the epoch.
    pub observed_time: IntColumn,
    /// 0 to 24.
    pub severity: IntColumn,
    /// As the source wrote it.
    pub severity_text: TextColumn,
    /// 1 where the body is a value in its stored form, see [`LogBlock::body_value`].
    pub body_kind: IntColumn,
    /// Text, or the stored form of a value.
    pub body: TextColumn,
    /// Bytes of the body. Of a segment's rows that fit templates the mean of their block, so that the sum
    /// over a block is exact and no text need be made.
    pub body_size: IntColumn,
    /// The trace.
    pub trace_id: IdColumn<16>,
    /// The span.
    pub span_id: IdColumn<8>,
    /// Empty for ordinary records.
    pub event_name: TextColumn,
    /// The attributes asked for.
    pub attributes: Vec<AttributeColumn>,
    /// Fields of bodies, where they were asked for and found without the lines.
    pub fields: Option<BodyFields>,
}

impl LogBlock {
    /// The body of a row as a value of its own.
    #[must_use]
    pub fn body_value(&self, row: usize) -> AttributeValue {
        let bytes = self.body.get(row);
        if self.body_kind.get(row) == 0 {
            return AttributeValue::String(String::from_utf8_lossy(bytes).into_owned());
        }
        read_value(bytes, &mut 0, NESTING_MAX).unwrap_or(AttributeValue::Null)
    }
}

/// Things that rows have several of: those of row `i` are `ends[i - 1]..ends[i]` (from 0 for the first).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nested {
    /// Per row; empty when no row has any, or when they were not asked for.
    pub ends: Vec<u32>,
    /// Events: time after the span's start in nanoseconds.
    pub after_start: Vec<i64>,
    /// Events: name.
    pub name: TextColumn,
    /// Links: trace and span.
    pub ids: Vec<([u8; 16], [u8; 8])>,
    /// Attributes; their rows count events or links, not spans.
    pub attributes: Vec<AttributeColumn>,
}

impl Nested {
    /// The places of a row's things.
    #[must_use]
    pub fn of(&self, row: usize) -> std::ops::Range<usize> {
        let end = self.ends.get(row).map_or(0, |end| *end as usize);
        let start = match row {
            0 => 0,
            _ => self.ends.get(row - 1).map_or(0, |end| *end as usize),
        };
        start..end.max(start)
    }
}

/// Rows of a span scan. Columns that were not asked for are as if nobody had written them.
#[derive(Clone, Debug)]
pub struct SpanBlock {
    /// Rows in the block.
    pub rows: usize,
    /// As in [`LogBlock::streams`].
    pub streams: Arc<Streams>,
    /// Numbers among `streams`.
    pub stream: IntColumn,
    /// The trace.
    pub trace_id: IdColumn<16>,
    /// The span.
    pub span_id: IdColumn<8>,
    /// The parent; none for a root.
    pub parent_span_id: IdColumn<8>,
    /// W3C trace state.
    pub trace_state: TextColumn,
    /// Operation name.
    pub name: TextColumn,
    /// [`crate::model::SpanKind`].
    pub kind: IntColumn,
    /// Start, nanoseconds since the epoch.
    pub time: Vec<i64>,
    /// Nanoseconds; may be negative.
    pub duration: IntColumn,
    /// [`crate::model::SpanStatus`].
    pub status: IntColumn,
    /// Words about the status.
    pub status_message: TextColumn,
    /// The attributes asked for.
    pub attributes: Vec<AttributeColumn>,
    /// Events, if asked for.
    pub events: Nested,
    /// Links, if asked for.
    pub links: Nested,
}
