//! `SubquerySamples`: step vectors become raw samples, so that functions of ranges have one
//! implementation, whether the range is of a selector or of a subquery.
//!
//! Hints on counter resets are forgotten: the samples between two steps may hide a reset, and a
//! step may see one sample twice. Start timestamps do not come through.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::{CounterResetHint, Histogram};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::state::QueryState;
use crate::promql::batch::{SampleBatch, SampleBatchBuilder, StepTable};
use crate::promql::steps::Steps;

/// The operator.
#[derive(Debug)]
pub struct SubquerySamples {
    /// The steps of the inner expression.
    pub steps: Steps,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for SubquerySamples {
    const NAME: &'static str = "SubquerySamples";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        SampleBatch::schema()
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Steps {
            start_ms,
            step_ms,
            count,
        } = self.steps;
        write!(f, "from={start_ms}, step={step_ms}, steps={count}")
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        inputs.map(move |batch| self.samples(&batch))
    }
}

impl SubquerySamples {
    fn samples(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let table = StepTable::from_batches(std::slice::from_ref(batch))?;
        let mut builder = SampleBatchBuilder::new();
        for row in table.rows() {
            self.state.check()?;
            let (times, values) = builder.floats();
            if row.presence.is_full() {
                times.extend(self.steps.iter());
                values.extend_from_slice(row.values);
            } else {
                for step in row.presence.iter() {
                    times.push(self.steps.time(step));
                    values.push(row.values[step]);
                }
            }
            for (step, histogram) in row.histograms {
                let time = self.steps.time(*step as usize);
                match histogram.counter_reset_hint {
                    CounterResetHint::Reset | CounterResetHint::NotReset => {
                        let counter_reset_hint = CounterResetHint::Unknown;
                        let unmarked = Histogram {
                            counter_reset_hint,
                            ..(**histogram).clone()
                        };
                        builder.push_histogram(time, 0, &unmarked);
                    }
                    _ => builder.push_histogram(time, 0, histogram),
                }
            }
            builder.finish_row(row.labels, row.drop_name);
        }
        builder.finish()
    }
}
