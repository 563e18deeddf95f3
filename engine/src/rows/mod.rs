//! Log records and spans as columns: batches as they arrive, blocks as a scan returns them, and what
//! a scan asks for.
//!
//! Rows of these signals are many and small, so nothing on their way allocates per row. A protocol
//! decoder fills a [`LogBatch`] or [`SpanBatch`]; the log writes its columns as they are; the head
//! keeps them; sealing sorts row numbers and encodes columns; a scan answers with [`LogBlock`]s and
//! [`SpanBlock`]s that hold only the columns that were asked for. [`crate::model::LogRecord`] and
//! [`crate::model::Span`] are the same rows one by one, for embedders and tests.
//!
//! Invariants: columns of a batch or block are equally long, except those that are documented as
//! empty when no row has a value; stream numbers are inside the stream table; text is UTF-8.

mod attributes;
mod block;
mod collect;
mod fields;
mod log_batch;
mod request;
mod select;
mod span_batch;
mod take;
mod text_search;
mod transpose;
mod value;

pub use attributes::{AttributeWriter, KeyTable, RawAttributes};
pub use block::{
    AttributeColumn, AttributeValues, IdColumn, IntColumn, LogBlock, Nested, SpanBlock, Streams,
    TextColumn,
};
pub use fields::{BodyFields, FieldColumn, FieldForm, FieldValue, LineFields};
pub use log_batch::{BodyKind, LogBatch, LogColumns, LogRowBuilder};
pub use request::{
    AttributeChoice, AttributeScope, LogColumnSet, LogCondition, LogScanRequest, OUTLINE_SLOT,
    RowOrder, SpanColumnSet, SpanCondition, SpanScanRequest, TextPattern, TextTest, ValueTest,
};
pub use select::{SCOPE_NAME, SCOPE_VERSION, Selection, stream_passes};
pub use span_batch::{SpanBatch, SpanColumns, SpanFields, SpanRowBuilder};
pub use transpose::AttributeRows;
pub(crate) use value::skip_value;
pub use value::{ValueRef, append_text};

#[cfg(test)]
mod tests;
