//! What flows between the operators of a PromQL plan.
//!
//! Two kinds of record batches, one row a series in both:
//!
//! - [`StepVectors`]: the series' value at every step of the expression (instant vectors and, as a
//!   single row without labels, scalars);
//! - [`SampleBatch`]: the series' raw samples with their timestamps (range vectors).
//!
//! Floats travel as flat Arrow buffers, so that operators work on slices; native histograms are
//! rare and travel as bytes ([`histogram_codec`]). Operators read batches through the views here
//! and write them through the builders; nobody else knows the columns.

pub mod histogram_codec;
mod samples;
mod step_vectors;
mod table;

pub use samples::{HistogramPoint, SampleBatch, SampleBatchBuilder, SeriesSamples};
pub use step_vectors::{Presence, StepMask, StepVectors, StepVectorsBuilder};
pub use table::{Row, SeriesCollector, StepTable, Value};
