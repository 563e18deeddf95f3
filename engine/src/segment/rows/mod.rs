//! Segments of log records and spans: rows in blocks, each block a set of columns.
//!
//! What both signals share is here: the stream table, the block directory, columns, attributes, word
//! filters and the trace index. Logs are written by [`super::logs`]; here is what older versions need.

pub(crate) mod attributes;
pub(crate) mod blocks;
mod builder;
pub(crate) mod columns;
pub(crate) mod legacy_logs;
mod reader;
mod spans;
pub(crate) mod streams;

pub use builder::RowBuildOptions;
pub(crate) use columns::Column;
pub use reader::{BlockRef, RowFilter, RowSegmentReader};
pub use spans::{SpanSegmentBuilder, SpanSegmentReader, StoredSpan};
pub use streams::stream_sort_key;

#[cfg(test)]
pub(crate) mod tests;
