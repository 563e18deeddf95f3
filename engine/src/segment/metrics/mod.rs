//! Segments of metric samples.

mod annotations;
mod builder;
mod cache;
mod directory;
mod reader;
mod stats;

pub use builder::{MetricBuildOptions, MetricSegmentBuilder};
pub use cache::DecodeCache;
pub use directory::{ChunkRef, TimestampColumn};
pub use reader::{LabelCardinality, MetricSegmentReader};
pub use stats::ChunkStats;

#[cfg(test)]
pub(crate) mod tests;
