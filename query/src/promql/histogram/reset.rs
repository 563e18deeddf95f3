//! Counter resets between two samples of a histogram series, and equality of histograms.

use chronolith_engine::model::{CounterResetHint, Histogram};

use super::arithmetic::Work;
use super::side::{Side, entries};

/// Whether a reset lies between `previous` and `current`: any population, the zero bucket's or the
/// count went down, a populated bucket vanished, or resolution went up. The hint of `current`
/// decides where it says something; gauges are treated as counters.
pub fn detect_reset(current: &Histogram, previous: &Histogram) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if current.uses_custom_buckets() != previous.uses_custom_buckets() {
        return true;
    }
    if current.uses_custom_buckets() {
        return custom_reset(current, previous);
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let mut before = Work::new(previous);
    let (zero_count, threshold) = before.widened_zero(current.zero_threshold, false);
    if threshold != current.zero_threshold || current.zero_count < zero_count.value {
        return true;
    }
    let now = Work::new(current);
    before.positive.reduce(before.schema, now.schema, false);
    before.negative.reduce(before.schema, now.schema, false);
    [
        (now.positive, before.positive),
        (now.negative, before.negative),
    ]
    .into_iter()
    .any(|(mut now, mut before)| {
        now.drop_below(threshold, current.schema);
        before.drop_below(threshold, current.schema);
        fell(&now, &before)
    })
}

/// Whether a bucket of `before` has a smaller population in `now`, or none there.
fn fell(now: &Side, before: &Side) -> bool {
    let mut rest = now.0.iter().peekable();
    before.0.iter().any(|old| {
        while rest.next_if(|new| new.index < old.index).is_some() {}
        match rest.peek() {
            Some(new) if new.index == old.index => new.count.value < old.count.value,
            _ => old.count.value != 0.0,
        }
    })
}

fn custom_reset(current: &Histogram, previous: &Histogram) -> bool {
    let (mine, theirs) = (current.custom_bounds(), previous.custom_bounds());
    let mut now = Side::new(&current.positive_spans, &current.positive_buckets);
    let mut before = Side::new(&previous.positive_spans, &previous.positive_buckets);
    if mine != theirs {
        let common: Vec<f64> = mine
            .iter()
            .copied()
            .filter(|b| theirs.contains(b))
            .collect();
        now.rebound(mine, &common, false);
        before.rebound(theirs, &common, false);
    }
    fell(&now, &before)
}

/// Whether the two are the same data: layout, populations, count and sum bit by bit. The hint does
/// not count, nor how buckets are cut into spans. Compact both first if empty buckets should not
/// count either.
pub fn equal(a: &Histogram, b: &Histogram) -> bool {
    let side =
        |x: &Histogram, y: &Histogram, pick: fn(&Histogram) -> Vec<(i32, u64)>| pick(x) == pick(y);
    a.schema == b.schema
        && a.count.to_bits() == b.count.to_bits()
        && a.sum.to_bits() == b.sum.to_bits()
        && a.zero_threshold == b.zero_threshold
        && a.zero_count.to_bits() == b.zero_count.to_bits()
        && (!a.uses_custom_buckets() || a.custom_bounds() == b.custom_bounds())
        && side(a, b, |h| bits(&h.positive_spans, &h.positive_buckets))
        && side(a, b, |h| bits(&h.negative_spans, &h.negative_buckets))
}

fn bits(spans: &[chronolith_engine::model::BucketSpan], buckets: &[f64]) -> Vec<(i32, u64)> {
    entries(spans, buckets)
        .map(|(index, count)| (index, count.to_bits()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{custom, exponential};
    use super::*;

    #[test]
    fn falling_or_vanishing_buckets_are_resets() {
        let before = exponential(1, (0.25, 1.0), (0, &[1.0, 2.0, 0.0, 3.0]), (0, &[1.0]));
        let with = |change: fn(&mut Histogram)| {
            let mut h = before.clone();
            h.count += 10.0;
            change(&mut h);
            detect_reset(&h, &before)
        };
        assert!(!with(|_| {}));
        assert!(with(|h| h.count = 1.0));
        assert!(with(|h| h.zero_count = 0.0));
        assert!(with(|h| h.positive_buckets[1] = 1.0));
        assert!(with(|h| h.schema = 2));
        assert!(with(|h| h.zero_threshold = 0.1));
        assert!(with(|h| h.negative_spans[0].offset = 5));
        assert!(with(|h| h.counter_reset_hint = CounterResetHint::Reset));
        assert!(!with(|h| {
            h.counter_reset_hint = CounterResetHint::NotReset;
            h.count = 0.0;
        }));
    }

    #[test]
    fn a_coarser_schema_is_no_reset() {
        let before = exponential(1, (0.0, 0.0), (1, &[1.0, 2.0]), (0, &[]));
        assert!(!detect_reset(
            &exponential(0, (0.0, 0.0), (1, &[3.0]), (0, &[])),
            &before
        ));
        assert!(detect_reset(
            &exponential(0, (0.0, 0.0), (1, &[2.0, 5.0]), (0, &[])),
            &before
        ));
    }

    #[test]
    fn custom_boundaries_are_compared_in_common() {
        let before = custom(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!(!detect_reset(
            &custom(&[2.0, 8.0], &[3.0, 7.0, 0.0]),
            &before
        ));
        assert!(detect_reset(
            &custom(&[2.0, 8.0], &[2.0, 9.0, 0.0]),
            &before
        ));
        assert!(detect_reset(
            &exponential(0, (0.0, 99.0), (0, &[]), (0, &[])),
            &before
        ));
    }

    #[test]
    fn equality_ignores_how_spans_are_cut() {
        use chronolith_engine::model::BucketSpan;
        let a = exponential(0, (0.0, 1.0), (0, &[1.0, 2.0]), (0, &[]));
        let mut b = a.clone();
        b.positive_spans = vec![
            BucketSpan {
                offset: 0,
                length: 1,
            },
            BucketSpan {
                offset: 0,
                length: 1,
            },
        ];
        b.integer = true;
        assert!(equal(&a, &b));
        b.sum = 0.5;
        assert!(!equal(&a, &b));
    }
}
