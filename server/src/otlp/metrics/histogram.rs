//! OpenTelemetry's histograms as native histograms.
//!
//! Exponential ones keep their boundaries: bucket `i` of OpenTelemetry holds `(base^i, base^(i+1)]`
//! and is bucket `i + 1` here. Beyond schema 8 neighbours are merged. Explicit ones become histograms
//! with custom buckets. Empty buckets are left out, except for up to two between full ones, as
//! Prometheus has it. Whole numbers beyond 2^53, populations that do not add up to the count and
//! boundaries that do not ascend are refused.

use std::sync::Arc;

use chronolith_engine::model::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, STALE_NAN_BITS,
};

use super::message::{BUCKETS_MAX, Counts, Explicit, Exponential, Side, Temporality};

/// The finest schema; finer histograms are merged down to it.
const SCHEMA_MAX: i32 = 8;
/// The coarsest schema; coarser ones would need buckets to be split.
const SCHEMA_MIN: i32 = -4;
/// Half-width of the zero bucket where the client names none.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets between full ones that are written rather than skipped.
const GAP_MAX: i64 = 2;
/// Above this not every whole number is a double.
const EXACT_MAX: u64 = 1 << 53;

/// A data point of an exponential histogram.
///
/// # Errors
/// What is wrong, in words for the client.
pub(super) fn from_exponential(
    point: &Exponential,
    temporality: Temporality,
    ended: bool,
) -> Result<Histogram, String> {
    if point.scale < SCHEMA_MIN {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {SCHEMA_MIN}, was {}",
            point.scale
        ));
    }
    let threshold = point.zero_threshold;
    if !threshold.is_finite() || threshold < 0.0 {
        return Err(format!("zero threshold {threshold} cannot be"));
    }
    let merged = u32::try_from(point.scale - SCHEMA_MAX).unwrap_or(0);
    let (positive_spans, positive_buckets) = side(&point.positive, merged)?;
    let (negative_spans, negative_buckets) = side(&point.negative, merged)?;
    let histogram = Histogram {
        schema: point.scale.min(SCHEMA_MAX),
        zero_threshold: match threshold == 0.0 {
            true => ZERO_THRESHOLD,
            false => threshold,
        },
        zero_count: exact(point.zero_count)?,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..Histogram::default()
    };
    complete(histogram, point.count, point.sum, temporality, ended)
}

/// A data point of an explicit histogram, with custom buckets.
///
/// # Errors
/// What is wrong, in words for the client.
pub(super) fn from_explicit(
    point: &Explicit,
    temporality: Temporality,
    ended: bool,
) -> Result<Histogram, String> {
    check_explicit(point)?;
    let mut layout = Layout::default();
    for (index, count) in (0_i64..).zip(&point.buckets.values) {
        layout.push(index, *count)?;
    }
    if point.buckets.values.is_empty() {
        // Only count and sum are known: all observations lie in the one bucket that there is.
        layout.push(0, point.count)?;
    }
    let histogram = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: layout.spans,
        positive_buckets: layout.buckets,
        custom_values: Some(Arc::from(point.bounds.as_slice())),
        ..Histogram::default()
    };
    complete(histogram, point.count, point.sum, temporality, ended)
}

/// Whether boundaries and buckets of an explicit histogram fit together.
///
/// # Errors
/// What is wrong, in words for the client.
pub(super) fn check_explicit(point: &Explicit) -> Result<(), String> {
    if point.buckets.too_many || point.bounds.len() > BUCKETS_MAX {
        return Err(format!("more than {BUCKETS_MAX} buckets"));
    }
    let (buckets, bounds) = (point.buckets.values.len(), point.bounds.len());
    if buckets != 0 && buckets != bounds + 1 {
        return Err(format!("{buckets} buckets for {bounds} boundaries"));
    }
    let ascending = point.bounds.is_sorted_by(|a, b| a < b);
    if !ascending || point.bounds.iter().any(|bound| bound.is_nan()) {
        return Err("explicit boundaries are not ascending".into());
    }
    Ok(())
}

/// Adds count and sum, and checks the whole.
fn complete(
    mut histogram: Histogram,
    count: u64,
    sum: Option<f64>,
    temporality: Temporality,
    ended: bool,
) -> Result<Histogram, String> {
    // Only the store knows whether a counter was reset. Deltas are no counters at all.
    histogram.counter_reset_hint = match temporality {
        Temporality::Delta => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    if ended {
        histogram.sum = f64::from_bits(STALE_NAN_BITS);
        return Ok(histogram);
    }
    histogram.integer = true;
    histogram.count = exact(count)?;
    histogram.sum = sum.unwrap_or(0.0);
    let populations = [&histogram.positive_buckets, &histogram.negative_buckets];
    let inside: f64 = populations.into_iter().flatten().sum();
    let observed = inside + histogram.zero_count;
    // Observations of NaN are in no bucket; then the sum is NaN.
    let adds_up = match histogram.sum.is_nan() {
        true => observed <= histogram.count,
        false => observed == histogram.count,
    };
    if !adds_up {
        return Err(format!(
            "{observed} observations in the buckets, {count} in all"
        ));
    }
    histogram.validate()?;
    Ok(histogram)
}

fn exact(count: u64) -> Result<f64, String> {
    match count <= EXACT_MAX {
        true => Ok(count as f64),
        false => Err(format!("{count} observations cannot be held exactly")),
    }
}

fn side(side: &Side, merged: u32) -> Result<(Vec<BucketSpan>, Vec<f64>), String> {
    let Counts { values, too_many } = &side.buckets;
    if *too_many {
        return Err(format!("more than {BUCKETS_MAX} buckets"));
    }
    let mut layout = Layout::default();
    // Beyond 62 halvings every index is 0 or -1.
    let merged = merged.min(62);
    let (mut index, mut population) = (i64::MIN, 0_u64);
    for (own, count) in (side.offset..).zip(values) {
        let target = (own >> merged) + 1;
        if target != index {
            layout.push(index, std::mem::take(&mut population))?;
            index = target;
        }
        population = population.saturating_add(*count);
    }
    layout.push(index, population)?;
    Ok((layout.spans, layout.buckets))
}

/// Spans and populations in the making.
#[derive(Default)]
struct Layout {
    spans: Vec<BucketSpan>,
    buckets: Vec<f64>,
    /// Index behind the last bucket.
    next: i64,
}

impl Layout {
    /// Adds a bucket; they come in ascending order. An empty one adds nothing.
    fn push(&mut self, index: i64, count: u64) -> Result<(), String> {
        if count == 0 {
            return Ok(());
        }
        let gap = index - self.next;
        match self.spans.last_mut() {
            Some(span) if gap <= GAP_MAX => {
                for _ in 0..gap {
                    self.buckets.push(0.0);
                    span.length += 1;
                }
                span.length += 1;
            }
            _ => {
                let offset =
                    i32::try_from(gap).map_err(|_| format!("bucket {index} is too far"))?;
                self.spans.push(BucketSpan { offset, length: 1 });
            }
        }
        self.buckets.push(exact(count)?);
        self.next = index + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[u64]) -> Counts {
        Counts {
            values: values.to_vec(),
            too_many: false,
        }
    }

    fn exponential(scale: i32, offset: i64, values: &[u64]) -> Exponential {
        Exponential {
            count: values.iter().sum(),
            sum: Some(3.5),
            scale,
            positive: Side {
                offset,
                buckets: counts(values),
            },
            ..Exponential::default()
        }
    }

    fn spans(histogram: &Histogram) -> Vec<(i32, u32)> {
        let spans = histogram.positive_spans.iter();
        spans.map(|span| (span.offset, span.length)).collect()
    }

    fn convert(point: &Exponential) -> Result<Histogram, String> {
        from_exponential(point, Temporality::Cumulative, false)
    }

    #[test]
    fn exponential_buckets_move_up_by_one() {
        let mut point = exponential(0, -2, &[1, 2, 0, 4]);
        point.zero_count = 5;
        point.count += 5;
        point.negative = Side {
            offset: 3,
            buckets: counts(&[7]),
        };
        point.count += 7;
        let histogram = convert(&point).unwrap();
        assert_eq!((histogram.schema, histogram.zero_threshold), (0, 1e-128));
        assert_eq!(spans(&histogram), [(-1, 4)]);
        assert_eq!(histogram.positive_buckets, [1.0, 2.0, 0.0, 4.0]);
        assert_eq!(histogram.negative_spans[0].offset, 4);
        assert_eq!(
            (histogram.count, histogram.sum, histogram.zero_count),
            (19.0, 3.5, 5.0)
        );
        assert!(histogram.integer);
        assert_eq!(histogram.counter_reset_hint, CounterResetHint::Unknown);
    }

    #[test]
    fn wide_gaps_begin_a_span() {
        let histogram = convert(&exponential(1, 0, &[1, 0, 0, 2, 0, 0, 0, 3, 0])).unwrap();
        assert_eq!(spans(&histogram), [(1, 4), (3, 1)]);
        assert_eq!(histogram.positive_buckets, [1.0, 0.0, 0.0, 2.0, 3.0]);
        let empty = convert(&exponential(1, 7, &[0, 0, 0])).unwrap();
        assert!(spans(&empty).is_empty());
    }

    #[test]
    fn finer_scales_are_merged() {
        // Four neighbours become one: indexes -1 | 0..4 | 4..8.
        let histogram = convert(&exponential(10, -1, &[1, 2, 0, 3, 4, 0, 0, 5])).unwrap();
        assert_eq!(histogram.schema, 8);
        assert_eq!(spans(&histogram), [(0, 3)]);
        assert_eq!(histogram.positive_buckets, [1.0, 9.0, 5.0]);
        // Leading empty buckets of a merged one do not shift the rest.
        let histogram = convert(&exponential(9, 0, &[0, 0, 3, 4])).unwrap();
        assert_eq!(
            (spans(&histogram), histogram.positive_buckets),
            (vec![(2, 1)], vec![7.0])
        );
        assert!(convert(&exponential(i32::MAX, i64::from(i32::MIN), &[1, 1])).is_ok());
    }

    #[test]
    fn a_named_zero_threshold_is_kept() {
        let mut point = exponential(0, 0, &[1]);
        point.zero_threshold = 0.25;
        assert_eq!(convert(&point).unwrap().zero_threshold, 0.25);
        point.zero_threshold = f64::NAN;
        assert!(convert(&point).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(
            convert(&exponential(-5, 0, &[1]))
                .unwrap_err()
                .contains("Scale must be >= -4")
        );
        let mut off = exponential(0, 0, &[1]);
        off.count = 2;
        assert!(convert(&off).unwrap_err().contains("1 observations"));
        off.sum = Some(f64::NAN);
        assert!(convert(&off).is_ok(), "NaN is in no bucket");
        assert!(
            convert(&exponential(0, 0, &[1 << 60]))
                .unwrap_err()
                .contains("exactly")
        );
        let far = exponential(0, i64::from(i32::MAX), &[1, 1]);
        assert!(convert(&far).unwrap_err().contains("too far"));
    }

    #[test]
    fn the_end_of_a_series_is_a_stale_histogram() {
        let point = exponential(0, 0, &[]);
        let histogram = from_exponential(&point, Temporality::Cumulative, true).unwrap();
        assert!(histogram.is_stale());
    }

    #[test]
    fn explicit_boundaries_become_custom_buckets() {
        let mut point = Explicit {
            count: 10,
            sum: Some(4.0),
            buckets: counts(&[0, 3, 0, 7]),
            bounds: vec![0.5, 1.0, 2.0],
            ..Explicit::default()
        };
        let histogram = from_explicit(&point, Temporality::Delta, false).unwrap();
        assert_eq!(
            (spans(&histogram), histogram.schema),
            (vec![(1, 3)], CUSTOM_BUCKETS_SCHEMA)
        );
        assert_eq!(histogram.positive_buckets, [3.0, 0.0, 7.0]);
        assert_eq!(histogram.custom_bounds(), [0.5, 1.0, 2.0]);
        assert_eq!(histogram.counter_reset_hint, CounterResetHint::Gauge);
        for (change, part) in [
            (
                (|p| p.bounds[1] = 0.5) as fn(&mut Explicit),
                "not ascending",
            ),
            (|p| p.bounds.truncate(1), "4 buckets for 1 boundaries"),
            (|p| p.bounds[0] = f64::NAN, "not ascending"),
            (|p| p.count = 11, "10 observations"),
        ] {
            let mut bad = point.clone();
            change(&mut bad);
            let error = from_explicit(&bad, Temporality::Cumulative, false).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        point.buckets.values.clear();
        point.bounds.clear();
        let histogram = from_explicit(&point, Temporality::Cumulative, false).unwrap();
        assert_eq!(histogram.positive_buckets, [10.0]);
    }
}
