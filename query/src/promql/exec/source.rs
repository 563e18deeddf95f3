//! `Source`: leaves that need no data: a number, the evaluation time.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator};
use crate::promql::batch::{StepVectors, StepVectorsBuilder};
use crate::promql::steps::Steps;

/// What a source gives at every step: a single series without labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SourceKind {
    /// The same number.
    Number(f64),
    /// The step's time in seconds.
    Time,
}

/// The operator.
#[derive(Debug)]
pub struct Source {
    /// What it gives.
    pub kind: SourceKind,
    /// When.
    pub steps: Steps,
}

impl Operator for Source {
    const NAME: &'static str = "Source";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        StepVectors::schema(self.steps.count)
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            SourceKind::Number(number) => write!(f, "{number}"),
            SourceKind::Time => f.write_str("time()"),
        }
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let mut batch = self.batch(inputs.schema())?;
        Ok(inputs.generate(move || Ok(batch.take())))
    }
}

impl Source {
    fn batch(&self, schema: SchemaRef) -> Result<Option<RecordBatch>> {
        let values: Vec<f64> = match self.kind {
            SourceKind::Number(number) => vec![number; self.steps.count],
            SourceKind::Time => self.steps.iter().map(|t| t as f64 / 1000.0).collect(),
        };
        let mut builder = StepVectorsBuilder::new(schema);
        builder.begin();
        builder.set_all(&values);
        builder.finish_row(&[], false);
        builder.finish()
    }
}
