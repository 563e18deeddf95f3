//! The bodies, by what they attack.

pub mod codec;
pub mod config;
pub mod influx;
pub mod ingest;
pub mod labels;
pub mod manifest;
pub mod otlp;
pub mod promql;
pub mod rows;
pub mod rows_ingest;
pub mod segment;
pub mod spans;
pub mod sql;
pub mod state;
pub mod store;
pub mod traceql;
pub mod wal;
