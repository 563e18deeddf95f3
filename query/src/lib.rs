//! The query layer: PromQL, LogQL, TraceQL and SQL over the storage engine.

#![forbid(unsafe_code)]

pub mod export;
pub mod logql;
mod memory;
pub mod position;
pub mod promql;
pub mod running;
pub mod runs;
pub mod sql;
mod tables;
pub mod traceql;
pub mod traces;
