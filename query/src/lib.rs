//! The query layer: PromQL, LogQL, TraceQL and SQL over the storage engine.

pub mod promql;
pub mod sql;
mod tables;
