//! `NameRemoval`: takes the metric name (and type and unit) off the series that are marked.
//!
//! With delayed name removal there is one at the root of the plan; without, one behind every
//! operator that derives a new quantity. Series that then have the same labels are one series, if
//! they have no step in common; else the query fails.

use std::collections::HashSet;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use super::operator::{Inputs, Operator, partition_count};
use super::state::QueryState;
use crate::promql::batch::{SeriesCollector, StepTable, StepVectors};
use crate::promql::failure::PromqlError;
use crate::promql::labelset;

/// What happens to series that become equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// There are none: the name was the same for all.
    None,
    /// They become one.
    Merge,
    /// The query fails even if they have no step in common.
    Refuse,
}

/// The operator.
#[derive(Debug)]
pub struct NameRemoval {
    /// What happens to series that become equal.
    pub duplicates: Duplicates,
    seen: Mutex<HashSet<Vec<u8>>>,
    state: Arc<QueryState>,
}

/// Two series of a vector have the same labels.
pub fn same_labelset() -> PromqlError {
    PromqlError::execution("vector cannot contain metrics with the same labelset")
}

impl NameRemoval {
    /// The operator.
    pub fn new(duplicates: Duplicates, state: &Arc<QueryState>) -> Self {
        Self {
            duplicates,
            seen: Mutex::default(),
            state: Arc::clone(state),
        }
    }

    fn strip(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let vectors = StepVectors::from_batch(batch)?;
        let rows = vectors.rows();
        let unmarked = !(0..rows).any(|row| vectors.drop_name(row));
        if unmarked && self.duplicates != Duplicates::Refuse {
            return Ok(batch.clone());
        }
        let stripped = vectors.with_labels(Some(false), |row, labels| {
            if vectors.drop_name(row) {
                labelset::without_metadata(labels)
            } else {
                labels.to_vec()
            }
        });
        if self.duplicates == Duplicates::Refuse {
            let mut seen = self.seen.lock();
            for row in 0..rows {
                if !seen.insert(stripped.labels(row).to_vec()) {
                    return Err(same_labelset().into());
                }
            }
        }
        stripped.into_batch_of(Arc::clone(schema))
    }
}

impl Operator for NameRemoval {
    const NAME: &'static str = "NameRemoval";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        if self.duplicates == Duplicates::Merge {
            1
        } else {
            partition_count(&inputs[0])
        }
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "duplicates={:?}", self.duplicates)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        if self.duplicates != Duplicates::Merge {
            return inputs.map(move |batch| self.strip(&batch, &schema).map(Some));
        }
        let input = inputs.collect(0, &self.state)?;
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let input = input.await?;
            let _timer = time.timer();
            let mut batches = Vec::with_capacity(input.batches.len());
            for batch in &input.batches {
                batches.push(self.strip(batch, &schema)?);
            }
            merge_equal(batches, schema)
        }))
    }
}

/// Makes one series of those with equal labels; batches without such series stay as they are.
///
/// # Errors
/// Two series with equal labels have a value at the same step.
pub fn merge_equal(batches: Vec<RecordBatch>, schema: SchemaRef) -> Result<Vec<RecordBatch>> {
    let table = StepTable::from_batches(&batches)?;
    let mut seen = HashSet::with_capacity(table.len());
    if table.rows().all(|row| seen.insert(row.labels)) {
        return Ok(batches);
    }
    let mut merged = SeriesCollector::new(schema);
    for row in table.rows() {
        let series = merged.series(row.labels, row.drop_name);
        for step in 0..row.values.len() {
            if let Some(value) = row.value(step)
                && !merged.set(series, step, value)
            {
                return Err(same_labelset().into());
            }
        }
    }
    merged.finish()
}
