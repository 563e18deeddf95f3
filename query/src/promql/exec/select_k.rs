//! `SelectK`: `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the elements of each group, with
//! their own labels.

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
use crate::promql::ast::{AggregateOp, PosRange};
use crate::promql::batch::{SeriesCollector, StepTable, StepVectors, Value};
use crate::promql::failure::PromqlError;
use crate::promql::functions::hash::xxh64;
use crate::promql::labelset::LabelChoice;

/// The operator. Its first input is the vector.
#[derive(Debug)]
pub struct SelectK {
    /// `topk`, `bottomk`, `limitk` or `limit_ratio`.
    pub op: AggregateOp,
    /// How many, or what share.
    pub param: ScalarArg,
    /// The labels that make a group.
    pub grouping: LabelChoice,
    /// Where the parameter and the whole expression stand, for remarks.
    pub pos: (PosRange, PosRange),
    /// The query.
    pub state: Arc<QueryState>,
}

/// The largest float that is a 64-bit integer.
const INTEGER_MAX: f64 = 9_223_372_036_854_774_784.0;

impl Operator for SelectK {
    const NAME: &'static str = "SelectK";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (labels, keep) = self.grouping.parts();
        let word = if keep { "by" } else { "without" };
        write!(f, "{}, {}, {word} {labels:?}", self.op.as_str(), self.param)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let input = inputs.collect(0, &self.state)?;
        let param = self.param.resolve(&inputs);
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let param = param.await?;
            let input = input.await?;
            let _timer = time.timer();
            self.compute(&input.batches, &param, schema)
        }))
    }
}

impl SelectK {
    fn compute(
        &self,
        batches: &[RecordBatch],
        param: &ScalarValues,
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let steps = StepVectors::steps_of(&schema);
        let table = StepTable::from_batches(batches)?;
        let mut notes = Annotations::default();
        if !self.check_parameter(param, steps, &mut notes)? {
            self.state.annotate_all(notes);
            return Ok(Vec::new());
        }
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (number, row) in table.rows().enumerate() {
            let index = *by_key
                .entry(self.grouping.of(row.labels))
                .or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
            groups[index].push(number);
        }
        let mut results = SeriesCollector::new(schema);
        let mut series: HashMap<usize, usize> = HashMap::new();
        let mut chosen = Vec::new();
        for step in 0..steps {
            self.state.check()?;
            for group in &groups {
                chosen.clear();
                self.choose(
                    &table,
                    group,
                    step,
                    param.get(step),
                    &mut chosen,
                    &mut notes,
                );
                for &number in &chosen {
                    let row = table.row(number);
                    let Some(value) = row.value(step) else {
                        continue;
                    };
                    let series = *series
                        .entry(number)
                        .or_insert_with(|| results.append(row.labels, row.drop_name));
                    results.set(series, step, value);
                }
            }
        }
        self.state.annotate_all(notes);
        results.finish()
    }

    /// Whether anything can come out; refuses parameters that mean nothing.
    fn check_parameter(
        &self,
        param: &ScalarValues,
        steps: usize,
        notes: &mut Annotations,
    ) -> Result<bool, PromqlError> {
        let values = || param.iter(steps);
        let any_nan = values().any(f64::is_nan);
        let max = values()
            .filter(|v| !v.is_nan())
            .fold(f64::NEG_INFINITY, f64::max);
        let min = values()
            .filter(|v| !v.is_nan())
            .fold(f64::INFINITY, f64::min);
        if self.op == AggregateOp::LimitRatio {
            if max == 0.0 && min == 0.0 && !any_nan {
                return Ok(false);
            }
            if any_nan {
                return Err(PromqlError::execution("Ratio value is NaN"));
            }
            if max > 1.0 {
                notes.add(Annotation::invalid_ratio(self.pos.0, max, 1.0));
            }
            if min < -1.0 {
                notes.add(Annotation::invalid_ratio(self.pos.0, min, -1.0));
            }
            return Ok(true);
        }
        if any_nan {
            return Err(PromqlError::execution("Parameter value is NaN"));
        }
        if max < 1.0 {
            return Ok(false);
        }
        if min <= i64::MIN as f64 {
            let message = format!("Scalar value {} underflows int64", GoFloat(min));
            return Err(PromqlError::Execution(message));
        }
        if max >= INTEGER_MAX {
            let message = format!("Scalar value {} overflows int64", GoFloat(max));
            return Err(PromqlError::Execution(message));
        }
        Ok(true)
    }

    /// The rows of a group that are taken at a step, in the order in which they are given out.
    fn choose(
        &self,
        table: &StepTable,
        group: &[usize],
        step: usize,
        param: f64,
        chosen: &mut Vec<usize>,
        notes: &mut Annotations,
    ) {
        let values = || {
            group
                .iter()
                .filter_map(|&n| table.row(n).value(step).map(|value| (n, value)))
        };
        let k = if param < 1.0 { 0 } else { param as usize }.min(table.len());
        match self.op {
            AggregateOp::LimitRatio => {
                let ratio = param.clamp(-1.0, 1.0);
                let taken = values().filter(|(n, _)| in_ratio(table.row(*n).labels, ratio));
                chosen.extend(taken.map(|(n, _)| n));
            }
            AggregateOp::Limitk => chosen.extend(values().take(k).map(|(n, _)| n)),
            op => {
                let mut best = Best {
                    largest: op == AggregateOp::Topk,
                    k,
                    heap: Vec::new(),
                };
                if k == 0 {
                    return;
                }
                for (number, value) in values() {
                    match value {
                        Value::Float(value) => best.offer(value, number),
                        Value::Histogram(_) => {
                            let pos = self.pos.1;
                            let name = op.as_str();
                            notes.add(Annotation::histogram_ignored_in_aggregation(pos, name));
                        }
                    }
                }
                chosen.extend(best.into_sorted());
            }
        }
    }
}

/// Whether a label set belongs to the share `ratio`, by its hash; that of `ratio` and that of
/// `ratio - 1` complement each other.
fn in_ratio(labels: &[u8], ratio: f64) -> bool {
    let offset = xxh64(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 {
        offset < ratio
    } else {
        offset >= 1.0 + ratio
    }
}

/// The k best values so far, in a binary heap with the worst on top. NaN is worse than all.
///
/// Written out, because which of several equal values stays depends on the heap's moves, and should
/// not differ from those of Prometheus.
struct Best {
    largest: bool,
    k: usize,
    heap: Vec<(f64, usize)>,
}

impl Best {
    fn less(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a].0, self.heap[b].0);
        a.is_nan() || if self.largest { a < b } else { a > b }
    }

    fn offer(&mut self, value: f64, number: usize) {
        if self.heap.len() < self.k {
            self.heap.push((value, number));
            let mut child = self.heap.len() - 1;
            while child > 0 {
                let parent = (child - 1) / 2;
                if !self.less(child, parent) {
                    break;
                }
                self.heap.swap(child, parent);
                child = parent;
            }
            return;
        }
        let worst = self.heap[0].0;
        let better = if self.largest {
            worst < value
        } else {
            worst > value
        };
        if !(better || (worst.is_nan() && !value.is_nan())) {
            return;
        }
        self.heap[0] = (value, number);
        let mut parent = 0;
        loop {
            let mut child = 2 * parent + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.less(child + 1, child) {
                child += 1;
            }
            if !self.less(child, parent) {
                break;
            }
            self.heap.swap(child, parent);
            parent = child;
        }
    }

    fn into_sorted(mut self) -> impl Iterator<Item = usize> {
        let largest = self.largest;
        self.heap
            .sort_by(|(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
                (false, false) if largest => b.total_cmp(a),
                (false, false) => a.total_cmp(b),
                (a, b) => a.cmp(&b),
            });
        self.heap.into_iter().map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_sorted() {
        let pick = |largest, k, values: &[f64]| {
            let mut best = Best {
                largest,
                k,
                heap: Vec::new(),
            };
            values
                .iter()
                .enumerate()
                .for_each(|(i, &v)| best.offer(v, i));
            best.into_sorted().collect::<Vec<_>>()
        };
        assert_eq!(pick(true, 2, &[1.0, 3.0, 2.0, f64::NAN]), [1, 2]);
        assert_eq!(pick(false, 2, &[1.0, 3.0, 2.0, f64::NAN]), [0, 2]);
        assert_eq!(pick(true, 9, &[f64::NAN, 1.0]), [1, 0]);
    }

    #[test]
    fn ratios_complement_each_other() {
        for i in 0..100_u8 {
            assert_ne!(in_ratio(&[i], 0.3), in_ratio(&[i], -0.7));
        }
    }
}
