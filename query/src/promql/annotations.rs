//! Annotations: remarks that come with an answer, in the words of Prometheus 3.14.
//!
//! A remark is a level, a message and the part of the query it is about. Equal messages are one
//! remark; the position is added (`line:column`) when the remarks are turned into text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::ast::PosRange;

/// How serious a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The answer is probably not what was asked for.
    Warning,
    /// Worth knowing.
    Info,
}

impl Level {
    fn prefix(self) -> &'static str {
        match self {
            Self::Warning => "PromQL warning: ",
            Self::Info => "PromQL info: ",
        }
    }
}

/// What operators did to histograms of different layout, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramOperation {
    /// Addition.
    Add,
    /// Subtraction.
    Sub,
    /// Aggregation.
    Aggregation,
}

impl HistogramOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "addition",
            Self::Sub => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// One remark.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    level: Level,
    message: String,
    pos: PosRange,
    monotonicity: Option<ForcedMonotonicity>,
}

/// Where buckets of classic histograms had to be made monotonic: merged over steps and series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForcedMonotonicity {
    /// Evaluation times in ms at which it happened, first and last.
    pub times: (i64, i64),
    /// Upper bounds of the lowest and the highest bucket changed.
    pub buckets: (f64, f64),
    /// The largest change.
    pub difference: f64,
}

impl Annotation {
    fn new(level: Level, pos: PosRange, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            pos,
            monotonicity: None,
        }
    }

    fn warning(pos: PosRange, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, pos, message)
    }

    fn info(pos: PosRange, message: impl Into<String>) -> Self {
        Self::new(Level::Info, pos, message)
    }

    /// A quantile outside of [0, 1].
    pub fn invalid_quantile(pos: PosRange, quantile: f64) -> Self {
        let got = GoFloat(quantile);
        Self::warning(
            pos,
            format!("quantile value should be between 0 and 1, got {got}"),
        )
    }

    /// A ratio outside of [-1, 1].
    pub fn invalid_ratio(pos: PosRange, ratio: f64, capped: f64) -> Self {
        let (got, to) = (GoFloat(ratio), GoFloat(capped));
        Self::warning(
            pos,
            format!("ratio value should be between -1 and 1, got {got}, capping to {to}"),
        )
    }

    /// A classic bucket whose `le` is missing or no number.
    pub fn bad_bucket_label(pos: PosRange, metric: &str, value: &str) -> Self {
        let about = for_metric(metric);
        Self::warning(
            pos,
            format!("bucket label \"le\" is missing or has a malformed value of {value:?}{about}"),
        )
    }

    /// Floats and histograms in one range.
    pub fn mixed_floats_histograms(pos: PosRange, metric: &str) -> Self {
        Self::warning(
            pos,
            format!("encountered a mix of histograms and floats for metric name {metric:?}"),
        )
    }

    /// Floats and histograms in one aggregation.
    pub fn mixed_floats_histograms_aggregation(pos: PosRange) -> Self {
        Self::warning(
            pos,
            "encountered a mix of histograms and floats for aggregation",
        )
    }

    /// Classic and native histograms of one name.
    pub fn mixed_classic_native(pos: PosRange, metric: &str) -> Self {
        let about = for_metric(metric);
        Self::warning(
            pos,
            format!("vector contains a mix of classic and native histograms{about}"),
        )
    }

    /// `rate` and the like of a gauge histogram.
    pub fn histogram_not_counter(pos: PosRange, metric: &str) -> Self {
        Self::warning(
            pos,
            format!("this native histogram metric is not a counter: {metric:?}"),
        )
    }

    /// `delta` and the like of a counter histogram.
    pub fn histogram_not_gauge(pos: PosRange, metric: &str) -> Self {
        Self::warning(
            pos,
            format!("this native histogram metric is not a gauge: {metric:?}"),
        )
    }

    /// Histograms whose layouts cannot be reconciled.
    pub fn mixed_exponential_custom(pos: PosRange, metric: &str) -> Self {
        Self::warning(
            pos,
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas \
                 for metric name {metric:?}"
            ),
        )
    }

    /// Two histograms whose layouts cannot be reconciled, in a binary operator.
    pub fn incompatible_layout(pos: PosRange, operator: &str) -> Self {
        Self::warning(
            pos,
            format!("incompatible bucket layout encountered for binary operator {operator}"),
        )
    }

    /// Sorting in a range query.
    pub fn sort_in_range_query(pos: PosRange) -> Self {
        Self::warning(
            pos,
            "sort is ineffective for range queries since results are always ordered by labels",
        )
    }

    /// Histograms that say "reset" and "no reset" in one operation.
    pub fn counter_reset_collision(pos: PosRange, operation: HistogramOperation) -> Self {
        let operation = operation.as_str();
        Self::warning(
            pos,
            format!("conflicting counter resets during histogram {operation}"),
        )
    }

    /// Custom boundaries were intersected.
    pub fn mismatched_custom_buckets(pos: PosRange, operation: HistogramOperation) -> Self {
        let operation = operation.as_str();
        Self::info(
            pos,
            format!("mismatched custom buckets were reconciled during {operation}"),
        )
    }

    /// `rate` of a metric whose name does not look like a counter's.
    pub fn possible_non_counter(pos: PosRange, metric: &str) -> Self {
        Self::info(
            pos,
            format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
                 {metric:?}"
            ),
        )
    }

    /// `rate` of a metric whose type label is not that of a counter.
    pub fn possible_non_counter_label(pos: PosRange, metric: &str, metric_type: &str) -> Self {
        Self::info(
            pos,
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \
                 \"histogram\", got {metric_type:?}: {metric:?}"
            ),
        )
    }

    /// Classic buckets that had to be made monotonic.
    pub fn forced_monotonicity(
        pos: PosRange,
        metric: &str,
        time_ms: i64,
        buckets: (f64, f64),
        difference: f64,
    ) -> Self {
        let about = for_metric(metric);
        let message = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){about}"
        );
        let details = ForcedMonotonicity {
            times: (time_ms, time_ms),
            buckets,
            difference,
        };
        Self {
            monotonicity: Some(details),
            ..Self::info(pos, message)
        }
    }

    /// Operands that an operator does not take.
    pub fn incompatible_types(pos: PosRange, left: &str, operator: &str, right: &str) -> Self {
        Self::info(
            pos,
            format!(
                "incompatible sample types encountered for binary operator {operator:?}: \
                 {left} {operator} {right}"
            ),
        )
    }

    /// A histogram in an aggregation that does not take any.
    pub fn histogram_ignored_in_aggregation(pos: PosRange, aggregation: &str) -> Self {
        Self::info(
            pos,
            format!("ignored histogram in {aggregation} aggregation"),
        )
    }

    /// Histograms in a range for a function of floats.
    pub fn histogram_ignored_in_mixed_range(pos: PosRange, metric: &str) -> Self {
        Self::info(
            pos,
            format!(
                "ignored histograms in a range containing both floats and histograms for metric \
                 name {metric:?}"
            ),
        )
    }

    /// The quantile is NaN because of NaN observations.
    pub fn quantile_nan_result(pos: PosRange, metric: &str) -> Self {
        let about = for_metric(metric);
        Self::info(
            pos,
            format!("input to histogram_quantile has NaN observations, result is NaN{about}"),
        )
    }

    /// The quantile is too high because of NaN observations.
    pub fn quantile_nan_skew(pos: PosRange, metric: &str) -> Self {
        let about = for_metric(metric);
        Self::info(
            pos,
            format!(
                "input to histogram_quantile has NaN observations, result is skewed higher{about}"
            ),
        )
    }

    /// NaN observations count in no fraction.
    pub fn fraction_nans(pos: PosRange, metric: &str) -> Self {
        let about = for_metric(metric);
        Self::info(
            pos,
            format!(
                "input to histogram_fraction has NaN observations, which are excluded from all \
                 fractions{about}"
            ),
        )
    }

    /// A sample that claims to have begun before the sample in front of it.
    pub fn start_time_overlap(pos: PosRange, metric: &str) -> Self {
        Self::warning(
            pos,
            format!(
                "sample has start time that overlaps with previous sample timestamp for metric \
                 {metric:?}"
            ),
        )
    }

    /// How serious it is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The full text with the position in `query`.
    pub fn text(&self, query: &str) -> String {
        let mut text = format!("{}{}", self.level.prefix(), self.message);
        if let Some(m) = &self.monotonicity {
            let (low, high) = m.buckets;
            let (first, last) = m.times;
            let difference = GoFloat(m.difference);
            let _ = write!(
                text,
                ", from buckets {} to {}, with a max diff of {difference}, over {} samples from {} to {}",
                GoFloat(low),
                GoFloat(high),
                1,
                Rfc3339(first),
                Rfc3339(last),
            );
        }
        let _ = write!(text, " ({})", self.pos.line_column(query));
        text
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() {
        String::new()
    } else {
        format!(" for metric name {metric:?}")
    }
}

/// The remarks of one query; each message once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    by_message: BTreeMap<(Level, String), Annotation>,
}

impl Annotations {
    /// Adds a remark.
    pub fn add(&mut self, annotation: Annotation) {
        let key = (annotation.level, annotation.message.clone());
        match self.by_message.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(annotation);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let (Some(old), Some(new)) = (entry.get().monotonicity, annotation.monotonicity)
                else {
                    // What is evaluated last wins in Prometheus, which goes from left to right.
                    if annotation.pos.start >= entry.get().pos.start {
                        entry.insert(annotation);
                    }
                    return;
                };
                entry.get_mut().monotonicity = Some(ForcedMonotonicity {
                    times: (old.times.0.min(new.times.0), old.times.1.max(new.times.1)),
                    buckets: (
                        old.buckets.0.min(new.buckets.0),
                        old.buckets.1.max(new.buckets.1),
                    ),
                    difference: old.difference.max(new.difference),
                });
            }
        }
    }

    /// Adds the remarks of another set.
    pub fn merge(&mut self, other: Annotations) {
        for annotation in other.by_message.into_values() {
            self.add(annotation);
        }
    }

    /// Whether all of these are among `other` and say no more there: no times or amounts of their own.
    pub(crate) fn is_repeated_in(&self, other: &Self) -> bool {
        self.by_message.iter().all(|(message, annotation)| {
            annotation.monotonicity.is_none() && other.by_message.contains_key(message)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }

    /// Every remark.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.by_message.values()
    }

    /// The texts of one level with positions in `query`; at most `count_max` of them (0: all), and
    /// a line that says how many are missing.
    pub fn texts(&self, level: Level, query: &str, count_max: usize) -> Vec<String> {
        let mut texts: Vec<String> = self
            .iter()
            .filter(|a| a.level == level)
            .map(|a| a.text(query))
            .collect();
        let omitted = texts.len().saturating_sub(count_max);
        if count_max > 0 && omitted > 0 {
            texts.truncate(count_max);
            let level = match level {
                Level::Warning => "warning",
                Level::Info => "info",
            };
            texts.push(format!("{omitted} more {level} annotations omitted"));
        }
        texts
    }

    /// The warnings as the HTTP API gives them.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.texts(Level::Warning, query, 10)
    }

    /// The infos as the HTTP API gives them.
    pub fn infos(&self, query: &str) -> Vec<String> {
        self.texts(Level::Info, query, 10)
    }
}

/// A float as Go's `%g` prints it.
pub(crate) struct GoFloat(pub(crate) f64);

impl std::fmt::Display for GoFloat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.0;
        if value.is_nan() {
            return f.write_str("NaN");
        }
        if value.is_infinite() {
            return f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
        let exponent = if value == 0.0 {
            0
        } else {
            value.abs().log10().floor() as i32
        };
        if (-4..21).contains(&exponent) {
            return write!(f, "{value}");
        }
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{mantissa}e{sign}{:02}", exponent.abs())
    }
}

/// A time in ms as RFC 3339 in UTC with whole seconds.
struct Rfc3339(i64);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let date = super::functions::time::CivilTime::from_unix(seconds);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.year, date.month, date.day, date.hour, date.minute, date.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_messages_are_one_remark() {
        let mut all = Annotations::default();
        let pos = PosRange::new(4, 8);
        all.add(Annotation::invalid_quantile(pos, 2.0));
        all.add(Annotation::invalid_quantile(pos, 2.0));
        all.add(Annotation::possible_non_counter(pos, "up"));
        assert_eq!(
            all.warnings("sum(x)"),
            ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:5)"]
        );
        assert_eq!(all.infos("sum(x)").len(), 1);
    }

    #[test]
    fn many_are_cut() {
        let mut all = Annotations::default();
        for i in 0..13 {
            all.add(Annotation::possible_non_counter(
                PosRange::default(),
                &format!("m{i:02}"),
            ));
        }
        assert_eq!(all.infos("x").len(), 11);
        assert_eq!(all.infos("x")[10], "3 more info annotations omitted");
    }

    #[test]
    fn floats_print_as_in_go() {
        for (value, text) in [
            (1.5, "1.5"),
            (f64::INFINITY, "+Inf"),
            (1e-7, "1e-07"),
            (1e21, "1e+21"),
            (-2.0, "-2"),
        ] {
            assert_eq!(GoFloat(value).to_string(), text);
        }
    }
}
