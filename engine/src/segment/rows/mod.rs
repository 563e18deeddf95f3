//! Segments of log records and spans: rows in blocks, each block a set of columns.
//!
//! What both signals share is here: the stream table, the block directory, columns, attributes, word
//! filters and the trace index. `logs` and `spans` say which columns their rows have.

mod attributes;
mod blocks;
mod builder;
mod columns;
mod logs;
mod reader;
mod spans;

pub use builder::{RowBuildOptions, stream_sort_key};
pub(crate) use columns::Column;
pub use logs::{LogSegmentBuilder, LogSegmentReader, StoredLog};
pub use reader::{BlockRef, RowFilter, RowSegmentReader};
pub use spans::{SpanSegmentBuilder, SpanSegmentReader, StoredSpan};

#[cfg(test)]
pub(crate) mod tests;
