//! Segments of log records, version 4 of the format: blocks of typed columns.
//!
//! Rows are sorted by stream, time and arrival. A block holds each field of its rows as a column of its
//! own (`typed`), attributes as columns by key and type (`attributes_builder`), trace ids as numbers in
//! a table that the segment has once (`trace_table`, `trace_rows`), and a filter over its text says
//! which searches need not look at it. Older segments are read through [`super::rows`].

mod attributes;
mod attributes_builder;
mod block;
mod builder;
mod fields;
mod reader;
mod texts;
mod trace_rows;
pub(crate) mod trace_table;
mod typed;

pub use builder::{LogBuildOptions, LogSegmentBuilder};
pub use reader::LogSegmentReader;

#[cfg(test)]
pub(crate) mod tests;
