//! PromQL: text to tree ([`parser`]), the tree ([`ast`]) and its canonical text ([`display`]),
//! and the functions that the language knows ([`functions`]).
//!
//! The evaluator: [`engine`] is its entry point, [`plan`] makes a physical plan of a tree, [`exec`]
//! holds the operators, [`batch`] what flows between them, [`annotations`] and [`result`] what
//! comes out.

pub mod almost;
pub mod annotations;
pub mod ast;
pub mod batch;
mod cache;
pub mod display;
pub mod engine;
pub mod error;
pub mod exec;
pub mod failure;
pub mod features;
pub mod functions;
pub mod histogram;
pub mod labelset;
mod lexer;
pub mod number;
pub mod parser;
pub mod pattern;
pub mod plan;
pub mod pretty;
pub mod resolve;
pub mod result;
pub mod runtime;
pub mod steps;
pub mod testscript;
mod to_arrow;

pub use cache::CacheStats;
pub use engine::{PromqlEngine, PromqlOptions, Query, QueryOptions};
pub use failure::PromqlError;
