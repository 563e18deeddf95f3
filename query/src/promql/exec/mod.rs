//! The physical operators of PromQL, one per file, as nodes of DataFusion plans.
//!
//! Leaves read the store ([`series_scan`]) or make constants ([`source`]). Between them and the root
//! flow step vectors (see [`batch`](super::batch)), except that `SeriesScan` and `Subquery` give raw
//! samples, which `InstantSelect` and `RangeFunction` turn into step vectors.

pub mod absent;
pub mod aggregate;
pub mod aggregate_state;
pub mod binary_scalar;
pub mod binary_vector;
pub mod broadcast;
pub mod gather;
pub mod group_floats;
pub mod group_values;
pub mod histogram_quantile;
pub mod info;
pub mod instant_select;
pub mod label_change;
pub mod map_values;
pub mod name_removal;
pub mod operator;
pub mod range_function;
pub mod scalar_arg;
pub mod scalar_of;
pub mod select_k;
pub mod series_input;
pub mod series_scan;
pub mod set_operation;
pub mod sort;
pub mod source;
pub mod state;
pub mod subquery;
pub mod time_grid;
pub mod window_samples;

pub use operator::{Inputs, Measured, Operator, OperatorExec};
pub use state::{HeldSamples, QueryState, SampleCounts, StepCounts};
