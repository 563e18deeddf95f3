//! `Broadcast`: a step-invariant expression, evaluated at one step, becomes its value at every step.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::state::QueryState;
use crate::promql::batch::{StepTable, StepVectors, StepVectorsBuilder, Value};

/// The operator. Its input has one step.
#[derive(Debug)]
pub struct Broadcast {
    /// How many steps come out.
    pub steps: usize,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for Broadcast {
    const NAME: &'static str = "Broadcast";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        StepVectors::schema(self.steps)
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "steps={}", self.steps)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        inputs.flat_map(move |batch| {
            let Some(batch) = batch else {
                return Ok(Vec::new());
            };
            let table = StepTable::from_batches(&[batch])?;
            let mut builder = StepVectorsBuilder::new(Arc::clone(&schema));
            let mut batches = Vec::new();
            for row in table.rows() {
                self.state.check()?;
                builder.begin();
                match row.value(0) {
                    Some(Value::Float(value)) => builder.set_all(&vec![value; self.steps]),
                    Some(Value::Histogram(histogram)) => {
                        for step in 0..self.steps {
                            builder.set_histogram(step, histogram);
                        }
                    }
                    None => {}
                }
                builder.finish_row(row.labels, row.drop_name);
                if builder.is_full() {
                    batches.extend(builder.finish()?);
                }
            }
            batches.extend(builder.finish()?);
            Ok(batches)
        })
    }
}
