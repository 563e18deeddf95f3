//! `GroupValues`: aggregations that need all values of a group at once: `quantile`, `count_values`.

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator};
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::state::QueryState;
use crate::promql::annotations::{Annotation, Annotations, GoFloat};
use crate::promql::ast::PosRange;
use crate::promql::batch::{SeriesCollector, StepTable, StepVectors, Value};
use crate::promql::display::FloatText;
use crate::promql::functions::numeric::quantile;
use crate::promql::histogram::{Histogram, populated_buckets};
use crate::promql::labelset::{self, LabelChoice};

/// What is computed.
#[derive(Debug, Clone)]
pub enum GroupKind {
    /// The quantile of the group's floats.
    Quantile(ScalarArg),
    /// How often each value occurs; the value becomes this label.
    CountValues(String),
}

/// The operator. Its first input is the vector.
#[derive(Debug)]
pub struct GroupValues {
    /// What is computed.
    pub kind: GroupKind,
    /// The labels that make a group.
    pub grouping: LabelChoice,
    /// Where the parameter and the aggregated expression stand, for remarks.
    pub pos: (PosRange, PosRange),
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for GroupValues {
    const NAME: &'static str = "GroupValues";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (labels, keep) = self.grouping.parts();
        let word = if keep { "by" } else { "without" };
        write!(f, "{:?}, {word} {labels:?}", self.kind)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let input = inputs.collect(0, &self.state)?;
        let param = match &self.kind {
            GroupKind::Quantile(param) => param.clone(),
            GroupKind::CountValues(_) => ScalarArg::Number(f64::NAN),
        };
        let param = param.resolve(&inputs);
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let param = param.await?;
            let input = input.await?;
            let _timer = time.timer();
            let table = StepTable::from_batches(&input.batches)?;
            match &self.kind {
                GroupKind::Quantile(_) => self.quantiles(&table, &param, schema),
                GroupKind::CountValues(label) => self.count_values(&table, label, schema),
            }
        }))
    }
}

impl GroupValues {
    fn quantiles(
        &self,
        table: &StepTable,
        param: &ScalarValues,
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let steps = StepVectors::steps_of(&schema);
        let mut notes = Annotations::default();
        // Of several bad parameters only the worst are told.
        let any_nan = param.iter(steps).any(f64::is_nan);
        let worst = if any_nan {
            (f64::NAN, f64::NAN)
        } else {
            param
                .iter(steps)
                .fold((0.0, 1.0), |(min, max), q| (q.min(min), q.max(max)))
        };
        for q in [worst.0, worst.1] {
            if !(0.0..=1.0).contains(&q) {
                notes.add(Annotation::invalid_quantile(self.pos.0, q));
            }
        }
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut results = SeriesCollector::new(schema);
        for (number, row) in table.rows().enumerate() {
            let key = self.grouping.of(row.labels);
            let index = *by_key.entry(key).or_insert_with_key(|key| {
                results.append(key, false);
                groups.push(Vec::new());
                groups.len() - 1
            });
            if row.drop_name {
                results.set_drop_name(index, true);
            }
            groups[index].push(number);
            if !row.histograms.is_empty() {
                let pos = self.pos.1;
                notes.add(Annotation::histogram_ignored_in_aggregation(
                    pos, "quantile",
                ));
            }
        }
        let mut values = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            self.state.check()?;
            for step in 0..steps {
                values.clear();
                values.extend(group.iter().filter_map(|&number| {
                    let row = table.row(number);
                    row.presence.get(step).then(|| row.values[step])
                }));
                if !values.is_empty() {
                    let value = quantile(param.get(step), &mut values);
                    results.set(index, step, Value::Float(value));
                }
            }
        }
        self.state.annotate_all(notes);
        results.finish()
    }

    fn count_values(
        &self,
        table: &StepTable,
        label: &str,
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let steps = StepVectors::steps_of(&schema);
        // The label of the value is part of the group, whatever the grouping says of it.
        let mut counts: HashMap<Vec<u8>, Vec<f64>> = HashMap::new();
        let mut order: Vec<Vec<u8>> = Vec::new();
        for row in table.rows() {
            self.state.check()?;
            for step in 0..steps {
                let text = match row.value(step) {
                    Some(Value::Float(value)) => FloatText(value).to_string(),
                    Some(Value::Histogram(histogram)) => histogram_text(histogram),
                    None => continue,
                };
                let labels = labelset::with(row.labels, label, &text);
                let key = self.grouping.of(&labels);
                let count = counts.entry(key).or_insert_with_key(|key| {
                    order.push(key.clone());
                    vec![0.0; steps]
                });
                count[step] += 1.0;
            }
        }
        let mut results = SeriesCollector::new(schema);
        for key in order {
            let series = results.append(&key, false);
            for (step, &count) in counts.get(&key).into_iter().flatten().enumerate() {
                if count > 0.0 {
                    results.set(series, step, Value::Float(count));
                }
            }
        }
        results.finish()
    }
}

/// A histogram as Prometheus prints it: `{count:2, sum:3, (0.5,1]:2}`.
pub fn histogram_text(histogram: &Histogram) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{{count:{}, sum:{}",
        GoFloat(histogram.count),
        GoFloat(histogram.sum)
    );
    for bucket in populated_buckets(histogram) {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (GoFloat(bucket.lower), GoFloat(bucket.upper));
        let _ = write!(
            text,
            ", {open}{lower},{upper}{close}:{}",
            GoFloat(bucket.count)
        );
    }
    text.push('}');
    text
}
