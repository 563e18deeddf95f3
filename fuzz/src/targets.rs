//! The bodies, by what they attack.

pub mod codec;
pub mod labels;
pub mod manifest;
pub mod promql;
pub mod segment;
pub mod wal;
