//! Segments of rows in blocks, each block a set of columns, sorted by stream.
//!
//! What log segments of all versions share with span segments of versions 1 to 3 is here: the stream
//! table, the block directory, the entries of columns, the index of traces; and the reading of blocks of
//! those versions. Blocks of logs are written by [`super::logs`], those of spans by [`super::spans`].

pub(crate) mod attributes;
pub(crate) mod blocks;
pub(crate) mod columns;
pub(crate) mod legacy_logs;
pub(crate) mod legacy_spans;
mod reader;
pub(crate) mod streams;

pub(crate) use columns::Column;
pub use reader::{BlockRef, RowSegmentReader};
pub use streams::stream_sort_key;

#[cfg(test)]
pub(crate) mod tests;
