//! `HistogramQuantile`: `histogram_quantile`, `histogram_fraction`, `histogram_quantiles`, over
//! native histograms and over classic ones, whose buckets are series that differ in `le`.

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::name_removal::same_labelset;
use super::operator::{Inputs, Operator};
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::state::QueryState;
use crate::promql::annotations::{Annotation, Annotations, GoFloat};
use crate::promql::ast::PosRange;
use crate::promql::batch::{SeriesCollector, StepTable, Value};
use crate::promql::histogram::{Histogram, classic, quantile};
use crate::promql::labelset;
use crate::promql::steps::Steps;

/// What is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantileKind {
    /// One quantile; the scalar argument.
    Quantile,
    /// The fraction of observations between two scalar arguments.
    Fraction,
    /// A quantile per scalar argument; its value goes into this label.
    Quantiles(String),
}

/// The operator. Its first input is the vector; scalar arguments that are no literals follow.
#[derive(Debug)]
pub struct HistogramQuantile {
    /// What is computed.
    pub kind: QuantileKind,
    /// The scalar arguments.
    pub scalars: Vec<ScalarArg>,
    /// Where they stand, for remarks.
    pub scalar_pos: Vec<PosRange>,
    /// Where the vector stands.
    pub vector_pos: PosRange,
    /// When.
    pub steps: Steps,
    /// The query.
    pub state: Arc<QueryState>,
}

/// The label of a classic bucket's upper boundary.
const BUCKET_LABEL: &str = "le";

impl Operator for HistogramQuantile {
    const NAME: &'static str = "HistogramQuantile";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        self.scalars
            .iter()
            .try_for_each(|scalar| write!(f, ", {scalar}"))
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let input = inputs.collect(0, &self.state)?;
        let scalars: Vec<_> = self.scalars.iter().map(|s| s.resolve(&inputs)).collect();
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let scalars = futures::future::try_join_all(scalars).await?;
            let input = input.await?;
            let _timer = time.timer();
            self.compute(&input.batches, &scalars, schema)
        }))
    }
}

/// The series of one classic histogram: boundary and row.
#[derive(Debug, Default)]
struct Classic {
    labels: Vec<u8>,
    buckets: Vec<(f64, usize)>,
}

impl HistogramQuantile {
    fn compute(
        &self,
        batches: &[RecordBatch],
        scalars: &[ScalarValues],
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let table = StepTable::from_batches(batches)?;
        let mut notes = Annotations::default();
        let classics = self.classics(&table, &mut notes);
        let by_labels: HashMap<&[u8], usize> = classics
            .iter()
            .enumerate()
            .map(|(i, c)| (c.labels.as_slice(), i))
            .collect();
        let mut work = Work {
            operator: self,
            scalars,
            results: SeriesCollector::new(schema),
            series: HashMap::new(),
            notes,
        };
        // Also without any histogram.
        work.check_quantiles();
        // Steps at which a native histogram of the same labels spoils a classic one.
        let mut spoiled: Vec<Vec<u32>> = vec![Vec::new(); classics.len()];
        for row in table.rows().filter(|row| !row.histograms.is_empty()) {
            self.state.check()?;
            let twin = by_labels.get(row.labels).copied();
            for (step, histogram) in row.histograms {
                let clash = twin.is_some_and(|twin| {
                    let buckets = &classics[twin].buckets;
                    buckets
                        .iter()
                        .any(|(_, b)| table.row(*b).presence.get(*step as usize))
                });
                if let (true, Some(twin)) = (clash, twin) {
                    spoiled[twin].push(*step);
                    let metric = labelset::metric_name(row.labels);
                    work.notes
                        .add(Annotation::mixed_classic_native(self.vector_pos, metric));
                    continue;
                }
                work.native(row.labels, *step as usize, histogram)?;
            }
        }
        let mut buckets = Vec::new();
        for (classic, spoiled) in classics.iter().zip(&spoiled) {
            self.state.check()?;
            for step in 0..self.steps.count {
                if spoiled.contains(&(step as u32)) {
                    continue;
                }
                buckets.clear();
                buckets.extend(classic.buckets.iter().filter_map(|&(upper_bound, row)| {
                    let row = table.row(row);
                    let count = row.values[step];
                    row.presence
                        .get(step)
                        .then_some(classic::ClassicBucket { upper_bound, count })
                }));
                if !buckets.is_empty() {
                    work.classic(&classic.labels, step, &buckets)?;
                }
            }
        }
        self.state.annotate_all(work.notes);
        work.results.finish()
    }

    /// Puts the series of floats together that differ in `le` only.
    fn classics(&self, table: &StepTable, notes: &mut Annotations) -> Vec<Classic> {
        let mut by_labels: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut classics: Vec<Classic> = Vec::new();
        for (number, row) in table.rows().enumerate() {
            if row.presence.is_empty() {
                continue;
            }
            let text = labelset::get(row.labels, BUCKET_LABEL);
            let Ok(upper_bound) = text.parse::<f64>() else {
                let metric = labelset::metric_name(row.labels);
                notes.add(Annotation::bad_bucket_label(self.vector_pos, metric, text));
                continue;
            };
            let labels = labelset::filter(row.labels, |name| name != BUCKET_LABEL.as_bytes());
            let index = *by_labels.entry(labels).or_insert_with_key(|labels| {
                classics.push(Classic {
                    labels: labels.clone(),
                    ..Classic::default()
                });
                classics.len() - 1
            });
            classics[index].buckets.push((upper_bound, number));
        }
        classics
    }
}

struct Work<'a> {
    operator: &'a HistogramQuantile,
    scalars: &'a [ScalarValues],
    results: SeriesCollector,
    series: HashMap<(Vec<u8>, u64), usize>,
    notes: Annotations,
}

impl Work<'_> {
    /// Remarks on quantiles outside of [0, 1].
    fn check_quantiles(&mut self) {
        if self.operator.kind == QuantileKind::Fraction {
            return;
        }
        for (values, pos) in self.scalars.iter().zip(&self.operator.scalar_pos) {
            for q in values.iter(self.operator.steps.count) {
                if !(0.0..=1.0).contains(&q) {
                    self.notes.add(Annotation::invalid_quantile(*pos, q));
                }
            }
        }
    }

    fn scalar(&self, index: usize, step: usize) -> f64 {
        self.scalars.get(index).map_or(f64::NAN, |s| s.get(step))
    }

    /// How many results each histogram has.
    fn results_per_histogram(&self) -> usize {
        match self.operator.kind {
            QuantileKind::Quantiles(_) => self.scalars.len(),
            QuantileKind::Quantile | QuantileKind::Fraction => 1,
        }
    }

    fn native(&mut self, labels: &[u8], step: usize, histogram: &Histogram) -> Result<()> {
        let metric = labelset::metric_name(labels);
        let pos = self.operator.vector_pos;
        if self.operator.kind == QuantileKind::Fraction {
            let (lower, upper) = (self.scalar(0, step), self.scalar(1, step));
            let (fraction, had_nan) = quantile::fraction(lower, upper, histogram);
            if had_nan {
                self.notes.add(Annotation::fraction_nans(pos, metric));
            }
            return self.set(labels, None, step, fraction);
        }
        for index in 0..self.results_per_histogram() {
            let q = self.scalar(index, step);
            let (value, effect) = quantile::quantile(q, histogram);
            match effect {
                quantile::NanEffect::None => {}
                quantile::NanEffect::Result => {
                    self.notes.add(Annotation::quantile_nan_result(pos, metric));
                }
                quantile::NanEffect::Skew => {
                    self.notes.add(Annotation::quantile_nan_skew(pos, metric));
                }
            }
            self.set(labels, Some(q), step, value)?;
        }
        Ok(())
    }

    fn classic(
        &mut self,
        labels: &[u8],
        step: usize,
        buckets: &[classic::ClassicBucket],
    ) -> Result<()> {
        let operator = self.operator;
        if operator.kind == QuantileKind::Fraction {
            let (lower, upper) = (self.scalar(0, step), self.scalar(1, step));
            let fraction = classic::fraction(lower, upper, &mut buckets.to_vec());
            return self.set(labels, None, step, fraction);
        }
        for index in 0..self.results_per_histogram() {
            let q = self.scalar(index, step);
            let (value, forced) = classic::quantile(q, &mut buckets.to_vec());
            if let Some(forced) = forced {
                let delayed = operator.state.features.delayed_name_removal;
                let metric = if delayed {
                    labelset::metric_name(labels)
                } else {
                    ""
                };
                self.notes.add(Annotation::forced_monotonicity(
                    operator.vector_pos,
                    metric,
                    operator.steps.time(step),
                    (forced.min_bucket, forced.max_bucket),
                    forced.max_difference,
                ));
            }
            self.set(labels, Some(q), step, value)?;
        }
        Ok(())
    }

    fn set(&mut self, labels: &[u8], q: Option<f64>, step: usize, value: f64) -> Result<()> {
        let series = match &self.operator.kind {
            QuantileKind::Quantiles(label) => {
                let q = q.unwrap_or(f64::NAN);
                let key = (labels.to_vec(), q.to_bits());
                let results = &mut self.results;
                *self.series.entry(key).or_insert_with(|| {
                    let labels = labelset::with(labels, label, &open_metrics(q));
                    results.series(&labels, true)
                })
            }
            QuantileKind::Quantile | QuantileKind::Fraction => self.results.series(labels, true),
        };
        if self.results.set(series, step, Value::Float(value)) {
            Ok(())
        } else {
            Err(same_labelset().into())
        }
    }
}

/// A float as OpenMetrics writes it: with a point, so that it is seen to be no integer.
fn open_metrics(value: f64) -> String {
    if value == 1.0 {
        return "1.0".into();
    }
    if value == 0.0 {
        return "0.0".into();
    }
    if value == -1.0 {
        return "-1.0".into();
    }
    let text = GoFloat(value).to_string();
    if value.is_finite() && !text.contains(['e', '.']) {
        text + ".0"
    } else {
        text
    }
}
