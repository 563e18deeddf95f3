//! `SetOperation`: `and`, `or`, `unless` between two vectors.

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::binary_vector::signature_choice;
use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::ast::{BinaryOp, VectorMatching};
use crate::promql::batch::{Row, SeriesCollector, StepTable, StepVectors};
use crate::promql::labelset::LabelChoice;

/// The operator. Its inputs are the left and the right operand.
#[derive(Debug)]
pub struct SetOperation {
    /// `and`, `or` or `unless`.
    pub op: BinaryOp,
    /// How elements are paired.
    pub matching: VectorMatching,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for SetOperation {
    const NAME: &'static str = "SetOperation";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.matching.on { "on" } else { "ignoring" };
        write!(
            f,
            "{}, {word} {:?}",
            self.op.as_str(),
            self.matching.matching_labels
        )
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let left = inputs.collect(0, &self.state)?;
        let right = inputs.collect(1, &self.state)?;
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let (left, right) = futures::future::try_join(left, right).await?;
            let _timer = time.timer();
            self.compute(&left.batches, &right.batches, schema)
        }))
    }
}

/// At which steps a signature occurs.
struct Present {
    choice: LabelChoice,
    steps: HashMap<Vec<u8>, Vec<bool>>,
}

impl Present {
    fn new(table: &StepTable, choice: LabelChoice, count: usize) -> Self {
        let mut steps: HashMap<Vec<u8>, Vec<bool>> = HashMap::new();
        for row in table.rows() {
            let seen = steps
                .entry(choice.of(row.labels))
                .or_insert_with(|| vec![false; count]);
            for (step, seen) in seen.iter_mut().enumerate() {
                *seen = *seen || row.has(step);
            }
        }
        Self { choice, steps }
    }

    fn of(&self, labels: &[u8]) -> Option<&[bool]> {
        self.steps.get(&self.choice.of(labels)).map(Vec::as_slice)
    }
}

impl SetOperation {
    fn compute(
        &self,
        left: &[RecordBatch],
        right: &[RecordBatch],
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let count = StepVectors::steps_of(&schema);
        let (left, right) = (
            StepTable::from_batches(left)?,
            StepTable::from_batches(right)?,
        );
        let mut results = SeriesCollector::new(schema);
        let choice = signature_choice(&self.matching);
        let (passing, other, wanted) = match self.op {
            BinaryOp::And => (&left, &right, true),
            BinaryOp::Unless => (&left, &right, false),
            _ => (&right, &left, false),
        };
        if self.op == BinaryOp::Or {
            for row in left.rows() {
                self.copy(&mut results, row, None, true)?;
            }
        }
        let present = Present::new(other, choice, count);
        for row in passing.rows() {
            self.copy(&mut results, row, present.of(row.labels), wanted)?;
        }
        results.finish()
    }

    /// Copies the cells of a row at whose step `mask` is `wanted`; no mask: false everywhere for
    /// rows that ask for a partner, else all cells.
    fn copy(
        &self,
        results: &mut SeriesCollector,
        row: Row<'_>,
        mask: Option<&[bool]>,
        wanted: bool,
    ) -> Result<()> {
        self.state.check()?;
        if mask.is_none() && wanted && self.op == BinaryOp::And {
            return Ok(());
        }
        let series = results.series(row.labels, row.drop_name);
        for step in 0..row.values.len() {
            if mask.is_some_and(|mask| mask[step] != wanted) {
                continue;
            }
            let Some(value) = row.value(step) else {
                continue;
            };
            if !results.set(series, step, value) {
                return Err(super::name_removal::same_labelset().into());
            }
        }
        Ok(())
    }
}
