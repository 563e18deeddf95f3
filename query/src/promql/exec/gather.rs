//! `Gather`: several partitions become one, in their order, so that answers do not depend on which
//! thread was faster.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, OperatorExec, partition_count};

/// The operator.
#[derive(Debug)]
pub struct Gather;

impl Gather {
    /// `input` in one partition; `input` itself if it has no more than one.
    pub fn plan(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if partition_count(&input) == 1 {
            return input;
        }
        OperatorExec::new(Self, vec![input])
    }
}

impl Operator for Gather {
    const NAME: &'static str = "Gather";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("ordered")
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let all = inputs.all(0)?;
        Ok(inputs.pass(all))
    }
}
