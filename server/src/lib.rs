//! The server of Chronolith: the only crate that knows HTTP, JSON and protobuf.
//!
//! A library so that benches, tests and other front ends can reach its parts; `main.rs` is the
//! binary `chronolith`.

#![forbid(unsafe_code)]

pub mod active;
pub mod api;
pub mod body;
pub mod cli;
pub mod commands;
pub mod config;
pub mod cors;
pub mod demo;
pub mod demo_rows;
pub mod error;
pub mod feed;
pub mod files;
pub mod ingest;
pub mod lifecycle;
pub mod listen;
pub mod notifications;
pub mod otlp;
pub mod page;
pub mod process;
pub mod remote_read;
pub mod request;
pub mod router;
pub mod routes;
pub mod rows;
pub mod runs;
pub mod scrape;
pub mod span_metrics;
pub mod state;
pub mod tails;
pub mod telemetry;
pub mod wire;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
