//! Reading: matchers to series, series to samples, across head and segments.
//!
//! A scan pins what it reads (generations of the head and segments by `Arc`), so that sealing and
//! compaction beside it neither remove nor double a row. Sources are ordered by arrival; where two
//! hold the same series and time, the later source wins.

pub(crate) mod blocks;
pub(crate) mod listing;
pub(crate) mod merge;
pub(crate) mod metric_scan;
mod request;
pub(crate) mod row_listing;
mod rows;
mod span_versions;

pub use blocks::{LogBlockScan, SpanBlockScan};
pub use metric_scan::MetricScan;
pub use request::ScanRequest;
pub use rows::{LogScan, SpanScan};
