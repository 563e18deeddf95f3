//! `BinaryScalar`: an operator between a vector (or scalar) and a scalar, on either side. Row by
//! row; floats are computed over whole columns.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::state::QueryState;
use crate::promql::annotations::Annotations;
use crate::promql::ast::{BinaryOp, PosRange};
use crate::promql::batch::{StepTable, StepVectors, StepVectorsBuilder, Value};
use crate::promql::functions::binary::{self, Computed};

/// The operator. Its first input is the vector.
#[derive(Debug)]
pub struct BinaryScalar {
    /// The operator of the language.
    pub op: BinaryOp,
    /// The other operand.
    pub scalar: ScalarArg,
    /// The scalar stands on the left.
    pub scalar_is_left: bool,
    /// Comparisons give 0 or 1 rather than filtering.
    pub return_bool: bool,
    /// Where the operation stands, for remarks.
    pub pos: PosRange,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for BinaryScalar {
    const NAME: &'static str = "BinaryScalar";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = self.op.as_str();
        let bool = if self.return_bool { " bool" } else { "" };
        if self.scalar_is_left {
            write!(f, "{} {op}{bool} vector", self.scalar)
        } else {
            write!(f, "vector {op}{bool} {}", self.scalar)
        }
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        let scalars = [self.scalar.clone()];
        inputs.map_with(&scalars, move |scalars| {
            move |batch| {
                self.state.check()?;
                self.compute(&batch, &scalars[0], &schema)
            }
        })
    }
}

impl BinaryScalar {
    fn drops_name(&self) -> bool {
        binary::changes_metric(self.op) || self.return_bool
    }

    fn compute(
        &self,
        batch: &RecordBatch,
        scalar: &ScalarValues,
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>> {
        let vectors = StepVectors::from_batch(batch)?;
        let filters = self.op.is_comparison() && !self.return_bool;
        let trims = matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if vectors.has_histograms() || filters || trims {
            return self.element_wise(batch, scalar, schema);
        }
        let mut values = Vec::with_capacity(vectors.rows() * vectors.steps());
        for row in 0..vectors.rows() {
            let pairs = vectors.values(row).iter().zip(scalar.iter(vectors.steps()));
            values.extend(pairs.map(|(&v, s)| {
                let (left, right) = if self.scalar_is_left { (s, v) } else { (v, s) };
                binary::scalars(self.op, left, right)
            }));
        }
        let result = vectors.with_floats(values, self.drops_name());
        result.into_batch_of(Arc::clone(schema)).map(Some)
    }

    fn element_wise(
        &self,
        batch: &RecordBatch,
        scalar: &ScalarValues,
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>> {
        let table = StepTable::from_batches(std::slice::from_ref(batch))?;
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        let mut notes = Annotations::default();
        for row in table.rows() {
            builder.begin();
            for step in 0..row.values.len() {
                let Some(value) = row.value(step) else {
                    continue;
                };
                let number = Value::Float(scalar.get(step));
                let (left, right) = if self.scalar_is_left {
                    (number, value)
                } else {
                    (value, number)
                };
                let computed = binary::elements(self.op, left, right, self.pos, &mut notes);
                let Some((computed, holds)) = computed else {
                    continue;
                };
                if self.return_bool {
                    builder.set(step, f64::from(u8::from(holds)));
                } else if self.op.is_comparison() {
                    // What passes the filter is the vector's element, wherever it stands.
                    match value {
                        Value::Float(value) if holds => builder.set(step, value),
                        Value::Histogram(h) if holds => builder.set_histogram(step, h),
                        _ => {}
                    }
                } else {
                    match computed {
                        Computed::Float(value) => builder.set(step, value),
                        Computed::Histogram(h) => builder.set_histogram(step, &h),
                    }
                }
            }
            builder.finish_row(row.labels, row.drop_name || self.drops_name());
        }
        self.state.annotate_all(notes);
        builder.finish()
    }
}
