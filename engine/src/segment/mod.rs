//! Immutable segment files: one container for metrics, logs and spans.
//!
//! *Builders* take rows in order and write the file as they go; *readers* work over mapped bytes and
//! copy nothing before it is decoded. `docs/formats/segment.md` describes every byte.
//!
//! Invariants:
//! - A segment never changes after its rename; its identity (length and checksum) is in the manifest.
//! - No byte is believed before the checksum of its page was compared, and no offset before it was
//!   found inside its section: damage gives an error that names file and offset, never a panic.
//! - Samples are sorted by series and time, log records by stream and time, spans by trace and start.

mod check;
mod column;
mod container;
mod file;
pub mod format;
mod inspect;
mod interner;
mod label_index;
mod logs;
mod meta;
mod metrics;
mod packed;
mod row_reader;
mod rows;
mod select;
mod select_cache;
mod series_table;
mod spans;
mod verify;
pub(crate) mod wire;
mod write;

pub use check::{check_file, read_identity};
pub use container::{FileIdentity, SegmentSink};
pub use file::{Section, SegmentBytes, SegmentFile};
pub use inspect::inspect;
pub use logs::{LogBuildOptions, LogSegmentBuilder, LogSegmentReader};
pub use meta::{SegmentMeta, SegmentOrigin};
pub use metrics::{
    ChunkRef, ChunkStats, DecodeCache, LabelCardinality, MetricBuildOptions, MetricSegmentBuilder,
    MetricSegmentReader, TimestampColumn,
};
pub(crate) use row_reader::RowReader;
pub use rows::{BlockRef, RowSegmentReader, stream_sort_key};
pub use spans::{SpanBlockRef, SpanBuildOptions, SpanBuilder, SpanReader, sort_spans};
pub use verify::{Verified, verify};
pub use write::{FILE_SUFFIX, SegmentFileWriter, file_name, map};

#[cfg(test)]
mod hostile_tests;
