//! `Sort`: the functions `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`. They matter in
//! instant queries; what is sorted is the first step.

use std::cmp::Ordering;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::batch::{Row, StepTable, StepVectorsBuilder};
use crate::promql::labelset;

/// By what series are sorted.
#[derive(Debug, Clone)]
pub enum SortKey {
    /// By value, NaN last; histograms go.
    Value,
    /// By the values of these labels in natural order, then by all labels.
    Labels(Vec<String>),
}

/// The operator.
#[derive(Debug)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// The largest first.
    pub descending: bool,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for Sort {
    const NAME: &'static str = "Sort";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, descending={}", self.key, self.descending)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let input = inputs.collect(0, &self.state)?;
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let input = input.await?;
            let _timer = time.timer();
            let table = StepTable::from_batches(&input.batches)?;
            let mut rows: Vec<Row<'_>> = table.rows().collect();
            rows.sort_by(|a, b| self.compare(a, b));
            let mut builder = StepVectorsBuilder::new(schema);
            let mut batches = Vec::new();
            for row in rows {
                builder.begin();
                match self.key {
                    SortKey::Value => {
                        for step in row.presence.iter() {
                            builder.set(step, row.values[step]);
                        }
                    }
                    SortKey::Labels(_) => builder.copy_row(&row),
                }
                builder.finish_row(row.labels, row.drop_name);
                if builder.is_full() {
                    batches.extend(builder.finish()?);
                }
            }
            batches.extend(builder.finish()?);
            Ok(batches)
        }))
    }
}

impl Sort {
    fn compare(&self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        match &self.key {
            SortKey::Value => {
                let value = |row: &Row<'_>| {
                    row.values
                        .first()
                        .copied()
                        .filter(|_| row.presence.get(0))
                        .unwrap_or(f64::NAN)
                };
                let (a, b) = (value(a), value(b));
                // NaN comes last in either direction.
                match (a.is_nan(), b.is_nan()) {
                    (false, false) => self.directed(a.total_cmp(&b)),
                    (a, b) => a.cmp(&b),
                }
            }
            SortKey::Labels(names) => {
                let by_name = names.iter().map(|name| {
                    natural(labelset::get(a.labels, name), labelset::get(b.labels, name))
                });
                let by_names = by_name.fold(Ordering::Equal, Ordering::then);
                self.directed(by_names.then_with(|| labelset::compare(a.labels, b.labels)))
            }
        }
    }

    fn directed(&self, order: Ordering) -> Ordering {
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

/// Natural order: runs of digits compare as numbers, everything else as text.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    while !a_rest.is_empty() && !b_rest.is_empty() {
        let (a_run, b_run) = (run(a_rest), run(b_rest));
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(a_run) && digits(b_run) {
            let (x, y) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            x.len()
                .cmp(&y.len())
                .then_with(|| x.cmp(y))
                .then_with(|| a_run.len().cmp(&b_run.len()))
        } else {
            a_run.cmp(b_run)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a_rest, b_rest) = (&a_rest[a_run.len()..], &b_rest[b_run.len()..]);
    }
    a_rest.len().cmp(&b_rest.len())
}

/// The run of digits, or of other characters, at the beginning.
fn run(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_text_compare_as_numbers() {
        let mut names = ["a10", "a2", "b1", "a", "a02", "10", "9"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9", "10", "a", "a2", "a02", "a10", "b1"]);
    }
}
