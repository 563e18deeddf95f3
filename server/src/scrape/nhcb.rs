//! Turns the classic histograms of one scrape into native histograms with custom buckets.
//!
//! The lines of a classic histogram (`x_bucket{le="…"}`, `x_sum`, `x_count`) belong together when
//! their labels but `le` are the same. Once all lines of a scrape are read, each group with
//! buckets becomes one histogram sample under the bare name.
//! Source: Prometheus' `convert_classic_histograms_to_nhcb`.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::model::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Labels, METRIC_NAME,
};

/// What one line says about a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// A cumulative bucket with its upper boundary.
    Bucket(f64),
    /// The sum of observations.
    Sum,
    /// The number of observations.
    Count,
}

/// The part a line of a histogram family stands for, and the labels of the histogram as a whole.
#[must_use]
pub fn classify(labels: &Labels) -> Option<(Part, Labels)> {
    let name = labels.metric_name();
    let (family, part) = if let Some(family) = name.strip_suffix("_bucket") {
        let boundary: f64 = labels.get("le")?.parse().ok()?;
        (family, Part::Bucket(boundary))
    } else if let Some(family) = name.strip_suffix("_sum") {
        (family, Part::Sum)
    } else {
        (name.strip_suffix("_count")?, Part::Count)
    };
    let mut builder = labels.to_builder();
    builder.set(METRIC_NAME, family);
    if matches!(part, Part::Bucket(_)) {
        builder.remove("le");
    }
    Some((part, builder.finish().ok()?))
}

/// Collects the parts of the histograms of one scrape.
#[derive(Debug, Default)]
pub struct Collector {
    groups: HashMap<(Labels, Option<i64>), Group>,
}

/// The parts of one histogram at one time.
#[derive(Debug, Default)]
pub struct Group {
    /// Boundary and cumulative count.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

impl Group {
    /// Adds a part.
    pub fn add(&mut self, part: Part, value: f64) {
        match part {
            Part::Bucket(boundary) => self.buckets.push((boundary, value)),
            Part::Sum => self.sum = value,
            Part::Count => self.count = Some(value),
        }
    }

    /// The histogram; `None` without buckets, or when the counts fall from one boundary to the
    /// next or disagree with the total.
    #[must_use]
    pub fn finish(self) -> Option<Histogram> {
        convert(self)
    }
}

impl Collector {
    /// Adds a line.
    pub fn add(&mut self, whole: Labels, timestamp_ms: Option<i64>, part: Part, value: f64) {
        self.groups
            .entry((whole, timestamp_ms))
            .or_default()
            .add(part, value);
    }

    /// The histograms, ordered by labels, and how many groups were inconsistent and left out.
    #[must_use]
    pub fn finish(self) -> (Vec<(Labels, Option<i64>, Arc<Histogram>)>, usize) {
        let mut rejected = 0;
        let mut histograms = Vec::new();
        for ((labels, timestamp_ms), group) in self.groups {
            if group.buckets.is_empty() {
                continue; // a summary's _sum and _count
            }
            match group.finish() {
                Some(histogram) => histograms.push((labels, timestamp_ms, Arc::new(histogram))),
                None => rejected += 1,
            }
        }
        histograms.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        (histograms, rejected)
    }
}

fn convert(mut group: Group) -> Option<Histogram> {
    if group.buckets.iter().any(|(boundary, _)| boundary.is_nan()) {
        return None;
    }
    group.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    group
        .buckets
        .dedup_by(|later, earlier| later.0 == earlier.0);
    let highest = group.buckets.last().copied()?;
    let count = group.count.unwrap_or(highest.1);
    if highest.0 != f64::INFINITY {
        group.buckets.push((f64::INFINITY, count));
    } else if highest.1 != count {
        return None;
    }
    let mut populations = Vec::with_capacity(group.buckets.len());
    let mut below = 0.0;
    for &(_, cumulative) in &group.buckets {
        let population = cumulative - below;
        if population.is_nan() || population < 0.0 {
            return None;
        }
        populations.push(population);
        below = cumulative;
    }
    let boundaries: Vec<f64> = group.buckets[..group.buckets.len() - 1]
        .iter()
        .map(|(boundary, _)| *boundary)
        .collect();
    let integer = populations
        .iter()
        .all(|p| p.fract() == 0.0 && *p < 9_007_199_254_740_992.0);
    Some(Histogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: group.sum,
        positive_spans: vec![BucketSpan {
            offset: 0,
            length: u32::try_from(populations.len()).ok()?,
        }],
        positive_buckets: populations,
        custom_values: Some(boundaries.into()),
        integer,
        ..Histogram::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn collect(
        lines: &[(&[(&str, &str)], f64)],
    ) -> (Vec<(Labels, Option<i64>, Arc<Histogram>)>, usize) {
        let mut collector = Collector::default();
        for (pairs, value) in lines {
            let (part, whole) = classify(&set(pairs)).unwrap();
            collector.add(whole, None, part, *value);
        }
        collector.finish()
    }

    #[test]
    fn a_classic_histogram_becomes_a_native_one() {
        let (found, rejected) = collect(&[
            (&[("__name__", "d_bucket"), ("le", "0.5"), ("a", "b")], 3.0),
            (&[("__name__", "d_bucket"), ("le", "+Inf"), ("a", "b")], 7.0),
            (&[("__name__", "d_bucket"), ("le", "1"), ("a", "b")], 5.0),
            (&[("__name__", "d_sum"), ("a", "b")], 4.5),
            (&[("__name__", "d_count"), ("a", "b")], 7.0),
        ]);
        assert_eq!(rejected, 0);
        let [(labels, None, histogram)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(*labels, set(&[("__name__", "d"), ("a", "b")]));
        assert_eq!(histogram.validate(), Ok(()));
        assert_eq!(histogram.custom_bounds(), [0.5, 1.0]);
        assert_eq!(histogram.positive_buckets, [3.0, 2.0, 2.0]);
        assert_eq!((histogram.count, histogram.sum), (7.0, 4.5));
    }

    #[test]
    fn summaries_and_inconsistent_counts_are_left_out() {
        let (found, rejected) = collect(&[
            (&[("__name__", "s_sum")], 4.5),
            (&[("__name__", "s_count")], 7.0),
            (&[("__name__", "d_bucket"), ("le", "1")], 5.0),
            (&[("__name__", "d_bucket"), ("le", "2")], 4.0),
        ]);
        assert!(found.is_empty());
        assert_eq!(rejected, 1);
    }
}
