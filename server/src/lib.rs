//! The server of Chronolith: the only crate that knows HTTP, JSON and protobuf.

#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod listen;
