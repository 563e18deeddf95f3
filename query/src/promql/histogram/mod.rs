//! Arithmetic on native and classic histograms: pure functions over the engine's [`Histogram`].
//!
//! They give what Prometheus' `model/histogram` and `promql/quantile.go` give. The design is our
//! own: a side (positive or negative) is worked on as a list of (index, population), and spans are
//! only made when a [`Histogram`] is handed out.
//!
//! - [`bounds`]: where buckets lie; all buckets of a histogram from low to high;
//! - [`arithmetic`]: add, subtract, scale, compact, reduce resolution, compensated sums;
//! - [`reset`]: counter resets, equality;
//! - [`quantile`]: quantile, fraction, variance of native histograms;
//! - [`classic`]: quantile and fraction of classic buckets;
//! - [`trim`]: the operators `</` and `>/`.

pub mod arithmetic;
pub mod bounds;
pub mod classic;
pub mod quantile;
pub mod reset;
mod side;
pub mod trim;

pub use arithmetic::{Combined, HistogramSum, IncompatibleLayouts};
pub use bounds::{Bucket, all_buckets, populated_buckets};
pub use chronolith_engine::model::Histogram;

#[cfg(test)]
mod fixtures {
    use super::Histogram;
    use chronolith_engine::model::BucketSpan;

    /// An exponential histogram with one run of buckets a side: (index of the first, populations).
    pub(super) fn exponential(
        schema: i32,
        zero: (f64, f64),
        positive: (i32, &[f64]),
        negative: (i32, &[f64]),
    ) -> Histogram {
        let spans = |(offset, buckets): (i32, &[f64])| match buckets.len() {
            0 => Vec::new(),
            length => vec![BucketSpan {
                offset,
                length: length as u32,
            }],
        };
        let observations: f64 = positive.1.iter().chain(negative.1).sum();
        Histogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: observations + zero.1,
            sum: 10.0,
            positive_spans: spans(positive),
            positive_buckets: positive.1.to_vec(),
            negative_spans: spans(negative),
            negative_buckets: negative.1.to_vec(),
            ..Histogram::default()
        }
    }

    /// A histogram with custom boundaries and all of its buckets.
    pub(super) fn custom(boundaries: &[f64], buckets: &[f64]) -> Histogram {
        Histogram {
            schema: chronolith_engine::model::CUSTOM_BUCKETS_SCHEMA,
            custom_values: Some(boundaries.into()),
            ..exponential(0, (0.0, 0.0), (0, buckets), (0, &[]))
        }
    }
}
