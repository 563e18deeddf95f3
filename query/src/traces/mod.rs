//! Traces: one in memory ([`trace`]), how its spans stand to each other ([`relation`]), what it waited for
//! ([`critical_path`]).

pub mod critical_path;
pub mod relation;
pub mod trace;
