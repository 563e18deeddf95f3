//! Native histograms: exponential (schema -4 to 8) and custom buckets (schema -53).
//!
//! Populations are absolute (not deltas) and held as `f64`, which is how PromQL computes with them;
//! `integer` says that the writer sent whole numbers, so that they can be written out as such.
//! Whole numbers above 2^53 cannot be held exactly and are refused at the border.

use std::sync::Arc;

/// The schema number that means "explicit bucket boundaries in `custom_values`".
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What the writer knows about a counter reset just before this sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CounterResetHint {
    /// Not known: compare with the sample before.
    #[default]
    Unknown = 0,
    /// This sample comes after a reset.
    Reset = 1,
    /// No reset since the sample before.
    NotReset = 2,
    /// A gauge histogram: resets mean nothing.
    Gauge = 3,
}

impl CounterResetHint {
    /// From its stored number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Reset,
            2 => Self::NotReset,
            3 => Self::Gauge,
            _ => return None,
        })
    }
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the span before it; for the first span the index of its first bucket.
    pub offset: i32,
    /// How many buckets the run has.
    pub length: u32,
}

/// One native histogram sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What is known about a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// -4 to 8: boundaries grow by 2^(2^-schema); [`CUSTOM_BUCKETS_SCHEMA`]: explicit boundaries.
    pub schema: i32,
    /// Half-width of the zero bucket.
    pub zero_threshold: f64,
    /// Population of the zero bucket.
    pub zero_count: f64,
    /// Number of observations.
    pub count: f64,
    /// Sum of observations.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Absolute populations of the positive buckets; as many as the spans' lengths add up to.
    pub positive_buckets: Vec<f64>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Absolute populations of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper boundaries for custom buckets, ascending, without the final +Inf; shared by samples.
    pub custom_values: Option<Arc<[f64]>>,
    /// All populations were sent as whole numbers.
    pub integer: bool,
}

impl Histogram {
    /// Whether this is a staleness marker (the sum bears the marker's bits).
    #[must_use]
    pub fn is_stale(&self) -> bool {
        super::is_stale(self.sum)
    }

    /// Whether boundaries are explicit.
    #[must_use]
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The boundaries of custom buckets; empty for exponential ones.
    #[must_use]
    pub fn custom_bounds(&self) -> &[f64] {
        self.custom_values.as_deref().unwrap_or(&[])
    }

    /// Bytes held outside the struct itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        (self.positive_spans.len() + self.negative_spans.len()) * size_of::<Span>()
            + (self.positive_buckets.len() + self.negative_buckets.len()) * size_of::<f64>()
    }

    /// Checks what every stored histogram must keep: a known schema, spans that match the
    /// populations, no negative or NaN population, ascending custom boundaries.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    pub fn validate(&self) -> Result<(), String> {
        let custom = self.uses_custom_buckets();
        if !custom && !(-4..=8).contains(&self.schema) {
            return Err(format!("histogram schema {} is not known", self.schema));
        }
        let sides = [
            ("positive", &self.positive_spans, &self.positive_buckets),
            ("negative", &self.negative_spans, &self.negative_buckets),
        ];
        for (side, spans, buckets) in sides {
            let mut index = 0_i64;
            let mut spanned = 0_u64;
            for (number, span) in spans.iter().enumerate() {
                if number > 0 && span.offset < 0 {
                    return Err(format!(
                        "{side} span {number} has a negative offset {}",
                        span.offset
                    ));
                }
                index += i64::from(span.offset) + i64::from(span.length);
                spanned += u64::from(span.length);
            }
            if spanned != buckets.len() as u64 {
                return Err(format!(
                    "{side} spans name {spanned} buckets, {} were sent",
                    buckets.len()
                ));
            }
            if i32::try_from(index).is_err() {
                return Err(format!("{side} spans reach bucket {index}"));
            }
            if let Some(bad) = buckets.iter().find(|b| b.is_nan() || **b < 0.0)
                && !self.is_stale()
            {
                return Err(format!("{side} bucket has population {bad}"));
            }
            if custom && side == "positive" {
                let first = spans.first().map_or(0, |s| s.offset);
                if first < 0 || index > self.custom_bounds().len() as i64 + 1 {
                    return Err(format!(
                        "spans reach bucket {index} of {} custom boundaries",
                        self.custom_bounds().len()
                    ));
                }
            }
        }
        if custom {
            if !self.negative_buckets.is_empty() || self.zero_count != 0.0 {
                return Err(
                    "custom buckets have neither negative buckets nor a zero bucket".into(),
                );
            }
            if !self.custom_bounds().windows(2).all(|w| w[0] < w[1]) {
                return Err("custom boundaries are not ascending".into());
            }
            if self
                .custom_bounds()
                .iter()
                .any(|b| b.is_nan() || *b == f64::INFINITY)
            {
                return Err("custom boundaries must be numbers below +Inf".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_must_match_populations() {
        let mut histogram = Histogram {
            positive_spans: vec![Span {
                offset: 0,
                length: 2,
            }],
            positive_buckets: vec![1.0, 2.0],
            ..Histogram::default()
        };
        assert_eq!(histogram.validate(), Ok(()));
        histogram.positive_buckets.pop();
        assert!(histogram.validate().is_err());
        histogram.schema = 9;
        assert!(histogram.validate().unwrap_err().contains("schema 9"));
    }

    #[test]
    fn custom_boundaries_must_ascend() {
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: Some(Arc::from([1.0, 1.0])),
            ..Histogram::default()
        };
        assert!(histogram.validate().is_err());
    }
}
