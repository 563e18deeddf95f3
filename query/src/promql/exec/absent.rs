//! `Absent`: the functions `absent` and `absent_over_time`: 1 where a vector has no element.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::batch::{StepTable, StepVectors, StepVectorsBuilder};
use crate::promql::labelset;

/// The operator.
#[derive(Debug)]
pub struct Absent {
    /// The labels of the result.
    pub labels: Vec<u8>,
    /// Its name is marked for removal.
    pub drop_name: bool,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for Absent {
    const NAME: &'static str = "Absent";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&labelset::text(&self.labels))
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let mut input = inputs.all(0)?;
        let schema = inputs.schema();
        Ok(inputs.once(async move {
            let mut found = vec![false; StepVectors::steps_of(&schema)];
            while let Some(batch) = input.try_next().await? {
                self.state.check()?;
                for row in StepTable::from_batches(&[batch])?.rows() {
                    for (step, found) in found.iter_mut().enumerate() {
                        *found = *found || row.has(step);
                    }
                }
            }
            let mut builder = StepVectorsBuilder::new(schema);
            builder.begin();
            for step in (0..found.len()).filter(|&step| !found[step]) {
                builder.set(step, 1.0);
            }
            builder.finish_row(&self.labels, self.drop_name);
            Ok(builder.finish()?.into_iter().collect())
        }))
    }
}
