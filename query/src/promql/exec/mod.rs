//! The physical operators of PromQL, one per file, as nodes of DataFusion plans.
//!
//! Leaves read the store ([`series_scan`]) or make constants ([`source`]). Between them and the root
//! flow step vectors (see [`batch`](super::batch)), except that `SeriesScan` and `Subquery` give raw
//! samples, which `InstantSelect` and `RangeFunction` turn into step vectors.

pub mod gather;
pub mod instant_select;
pub mod operator;
pub mod range_function;
pub mod series_scan;
pub mod source;
pub mod state;

pub use operator::{Inputs, Operator, OperatorExec};
pub use state::{HeldSamples, QueryState};
