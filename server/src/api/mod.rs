//! The routes, one file per family.

pub mod admin;
pub mod envelope;
pub mod export;
pub mod federate;
pub mod health;
pub mod jaeger;
pub mod lifecycle;
pub mod log_files;
pub mod loki;
pub mod metadata;
pub mod notifications;
pub mod openapi;
pub mod params;
pub mod query;
mod query_pieces;
pub mod rules;
pub mod runs;
pub mod search;
pub mod selectors;
pub mod sql;
pub mod status;
pub mod syntax_tree;
pub mod targets;
pub mod tempo;
pub mod traces;
pub mod zipkin;
