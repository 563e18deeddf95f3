//! Traces: one in memory ([`trace`]), how its spans stand to each other ([`relation`]), what it waited for
//! ([`critical_path`]); and questions to all of them, over a columnar scan ([`source`]).
//!
//! A TraceQL search ([`search`]) lets the store find candidates ([`pushdown`]), reads their traces whole
//! ([`load`]) and runs the query on each ([`pipeline`], [`expr`], [`fields`]). TraceQL metrics ([`metrics`]) come
//! straight from columns where that is possible. Jaeger's questions ([`jaeger`], [`listing`], [`monitor`],
//! [`dependencies`]) run over the same scan.

pub mod critical_path;
pub mod dependencies;
pub mod error;
pub mod expr;
pub mod fields;
pub mod groups;
pub mod jaeger;
pub mod listing;
pub mod load;
pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod pipeline;
pub mod pushdown;
pub mod relation;
pub mod search;
pub mod source;
pub mod span_metrics;
pub mod trace;

#[cfg(test)]
mod sample;

pub use error::TracesError;
pub use source::{SpanBlocks, SpanSource};
