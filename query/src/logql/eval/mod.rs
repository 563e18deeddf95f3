//! The evaluator of LogQL.
//!
//! [`LogQlEngine`] is its entry point. Rows come from a [`LogSource`] in columns; log queries run them
//! through their pipeline (`log_query`). A metric query becomes a plan (`plan`) whose leaves
//! (`range_scan`) fold rows into accumulators per series and piece of time (`window`, `accumulate`)
//! and give step vectors; everything above the leaves is PromQL's operators.

mod accumulate;
mod codes;
mod engine;
pub mod explore;
mod failure;
mod fold;
mod log_query;
mod plan;
mod pushdown;
mod range_scan;
mod result;
mod rows;
mod source;
mod tail;
mod to_arrow;
mod window;

pub use engine::{LogQlEngine, LogQlOptions, Query, QueryParams};
pub use failure::LogQlError;
pub use log_query::Direction;
pub use result::{
    LabelPairs, Point, QueryResult, QueryStats, QueryValue, Series, StreamEntry, StreamResult,
};
pub use source::{LogBlocks, LogSource, MemoryLogs, StoreLogs};
pub use tail::LineTail;

use chronolith_engine::Matcher;

/// The engine's matchers of a stream selector such as `{a="b", c=~"d.*"}`.
///
/// # Errors
/// Text that is none, or a regex that does not compile.
pub fn selector_matchers(text: &str) -> Result<Vec<Matcher>, LogQlError> {
    pushdown::matchers(&super::parser::parse_selector(text)?)
}
