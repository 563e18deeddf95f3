//! `ScalarOf`: the function `scalar`: the only float of a vector, NaN if there is none or several.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::batch::{StepVectors, StepVectorsBuilder};

/// The operator.
#[derive(Debug)]
pub struct ScalarOf {
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for ScalarOf {
    const NAME: &'static str = "ScalarOf";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("only float")
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let mut input = inputs.all(0)?;
        let schema = inputs.schema();
        Ok(inputs.once(async move {
            let steps = StepVectors::steps_of(&schema);
            let mut values = vec![f64::NAN; steps];
            let mut counts = vec![0_u32; steps];
            while let Some(batch) = input.try_next().await? {
                self.state.check()?;
                let vectors = StepVectors::from_batch(&batch)?;
                for row in 0..vectors.rows() {
                    for step in vectors.presence(row).iter() {
                        counts[step] += 1;
                        values[step] = if counts[step] == 1 {
                            vectors.values(row)[step]
                        } else {
                            f64::NAN
                        };
                    }
                }
            }
            let mut builder = StepVectorsBuilder::new(schema);
            builder.begin();
            builder.set_all(&values);
            builder.finish_row(&[], false);
            Ok(builder.finish()?.into_iter().collect())
        }))
    }
}
