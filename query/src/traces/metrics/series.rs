//! Series of a metrics query, labelled as Tempo labels them.

use chronolith_engine::model::{SpanId, TraceId};
use chronolith_engine::rows::SpanBlock;

use super::cells::{BUCKETS, quantile};
use super::{Evaluation, Gathering, numbers};
use crate::traceql::ast::*;
use crate::traceql::display::{GoDuration, kind_word, status_word};

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSeries {
    /// Names and values, values with their types, in the order of the query.
    pub labels: Vec<(String, Value)>,
    /// One per step; NaN: nothing there.
    pub values: Vec<f64>,
    /// Spans that stand for others.
    pub exemplars: Vec<TraceExemplar>,
}

impl TraceSeries {
    /// Orders series: their labels as text.
    #[must_use]
    pub fn sort_key(&self) -> Vec<(String, String)> {
        let labels = self.labels.iter();
        let mut key: Vec<_> = labels.map(|(n, v)| (n.clone(), label_text(v))).collect();
        key.sort_unstable();
        key
    }
}

/// A span that stands for others.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceExemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// It.
    pub span_id: SpanId,
    /// Its start, ms since the epoch.
    pub time_ms: i64,
    /// What it adds to the series; NaN where it only counts.
    pub value: f64,
}

/// The value of a label as Prometheus' text: what is not there is `<nil>`, no text is `<empty>`.
#[must_use]
pub fn label_text(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        Value::String(text) => match text.as_str() {
            "nil" => "<nil>".to_owned(),
            "" => "<empty>".to_owned(),
            text => text.to_owned(),
        },
        Value::Int(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Duration(ns) => GoDuration(*ns).to_string(),
        Value::Status(status) => status_word(*status).to_owned(),
        Value::Kind(kind) => kind_word(*kind).to_owned(),
    }
}

/// Exemplars of all groups: a sample of the spans, each span with the same chance (Vitter's algorithm R).
#[derive(Debug)]
pub(super) struct Exemplars {
    count: usize,
    offered: u64,
    random: u64,
    kept: Vec<(u32, TraceExemplar)>,
}

impl Exemplars {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            offered: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            kept: Vec::new(),
        }
    }

    /// Offers a span. Columns with its ids must be there.
    pub(super) fn offer(&mut self, group: u32, block: &SpanBlock, row: usize, value: f64) {
        if self.count == 0 {
            return;
        }
        self.offered += 1;
        let place = if self.kept.len() < self.count {
            self.kept.len()
        } else {
            // Xorshift: the same spans in the same order give the same exemplars.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random % self.offered) as usize
        };
        if place >= self.count {
            return;
        }
        let exemplar = TraceExemplar {
            trace_id: TraceId(block.trace_id.get(row).unwrap_or_default()),
            span_id: SpanId(block.span_id.get(row).unwrap_or_default()),
            time_ms: block.time.get(row).copied().unwrap_or_default() / 1_000_000,
            value,
        };
        match self.kept.get_mut(place) {
            Some(kept) => *kept = (group, exemplar),
            None => self.kept.push((group, exemplar)),
        }
    }

    fn of(&self, group: usize) -> Vec<TraceExemplar> {
        let of_group = self.kept.iter().filter(|(of, _)| *of as usize == group);
        let mut exemplars: Vec<_> = of_group.map(|(_, exemplar)| exemplar.clone()).collect();
        exemplars.sort_by_key(|exemplar| exemplar.time_ms);
        exemplars
    }
}

/// The series of what was gathered.
pub(super) fn of(
    evaluation: &Evaluation<'_>,
    query: &MetricsQuery,
    gathering: &Gathering,
) -> Vec<TraceSeries> {
    let field = query.function.field();
    let divisor = field.map_or(1.0, |field| numbers::divisor(&field.name));
    let mut series = Vec::new();
    for (group, key) in gathering.groups.keys().into_iter().enumerate() {
        let mut labels: Vec<(String, Value)> = query
            .by
            .iter()
            .zip(key)
            .map(|(field, part)| (field.to_string(), part.to_value()))
            .filter(|(_, value)| *value != Value::Nil)
            .collect();
        let exemplars = gathering.exemplars.of(group);
        match &query.function {
            MetricsFunction::QuantileOverTime(_, quantiles) => {
                let histograms = gathering.cells.histograms(group);
                of_quantiles(
                    quantiles,
                    &histograms,
                    divisor,
                    &labels,
                    exemplars,
                    &mut series,
                );
                continue;
            }
            MetricsFunction::HistogramOverTime(_) => {
                let histograms = gathering.cells.histograms(group);
                of_histogram(&histograms, divisor, &labels, exemplars, &mut series);
                continue;
            }
            _ => {}
        }
        if labels.is_empty() {
            // Every series has a label: the function's name, or that there is nothing to group by.
            labels.push(match query.by.first() {
                Some(field) => (field.to_string(), Value::Nil),
                None => {
                    let name = query.function.name().to_owned();
                    ("__name__".to_owned(), Value::String(name))
                }
            });
        }
        let divisor = match query.function {
            MetricsFunction::Rate => evaluation.steps.step_seconds(),
            _ => divisor,
        };
        let values = gathering.cells.values(group);
        series.push(TraceSeries {
            labels,
            values: values.into_iter().map(|value| value / divisor).collect(),
            exemplars,
        });
    }
    series
}

fn of_quantiles(
    quantiles: &[f64],
    histograms: &[Option<&[u32; BUCKETS]>],
    divisor: f64,
    labels: &[(String, Value)],
    exemplars: Vec<TraceExemplar>,
    series: &mut Vec<TraceSeries>,
) {
    if histograms.iter().all(Option::is_none) {
        return;
    }
    // An exemplar goes to the smallest quantile that is not below it, over all steps.
    let mut whole = [0_u32; BUCKETS];
    for histogram in histograms.iter().flatten() {
        for (sum, count) in whole.iter_mut().zip(*histogram) {
            *sum = sum.saturating_add(*count);
        }
    }
    let thresholds: Vec<_> = quantiles
        .iter()
        .map(|q| quantile(*q, &whole) / divisor)
        .collect();
    let target = |exemplar: &TraceExemplar| {
        let above = thresholds
            .iter()
            .position(|threshold| exemplar.value <= *threshold);
        above.unwrap_or(thresholds.len().saturating_sub(1))
    };
    for (place, q) in quantiles.iter().enumerate() {
        let mut labels = labels.to_vec();
        labels.push(("p".to_owned(), Value::Float(*q)));
        let value = |histogram: &Option<&[u32; BUCKETS]>| match histogram {
            Some(histogram) => quantile(*q, histogram) / divisor,
            None => 0.0,
        };
        let of_quantile = exemplars
            .iter()
            .filter(|exemplar| target(exemplar) == place);
        series.push(TraceSeries {
            labels,
            values: histograms.iter().map(value).collect(),
            exemplars: of_quantile.cloned().collect(),
        });
    }
}

fn of_histogram(
    histograms: &[Option<&[u32; BUCKETS]>],
    divisor: f64,
    labels: &[(String, Value)],
    mut exemplars: Vec<TraceExemplar>,
    series: &mut Vec<TraceSeries>,
) {
    for bucket in 0..BUCKETS {
        let count = |histogram: &Option<&[u32; BUCKETS]>| {
            histogram.map_or(0, |histogram| histogram.get(bucket).copied().unwrap_or(0))
        };
        if histograms.iter().all(|histogram| count(histogram) == 0) {
            continue;
        }
        let end = (bucket as f64).exp2() / divisor;
        let mut labels = labels.to_vec();
        labels.push(("__bucket".to_owned(), Value::Float(end)));
        let (inside, others) = exemplars.into_iter().partition(|e| e.value <= end);
        exemplars = others;
        series.push(TraceSeries {
            labels,
            values: histograms.iter().map(|h| f64::from(count(h))).collect(),
            exemplars: inside,
        });
    }
}
