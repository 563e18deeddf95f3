//! `MapValues`: functions that look at one sample at a time: mathematics, calendar, `-vector`,
//! statistics of native histograms.

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
use crate::promql::batch::{StepTable, StepVectors, StepVectorsBuilder, Value};
use crate::promql::functions::math;
use crate::promql::histogram::{Histogram, arithmetic};
use crate::promql::steps::Steps;

/// What is done to each sample.
#[derive(Clone, Copy)]
pub enum MapKind {
    /// A function of the float; histograms go.
    Float(fn(f64) -> f64),
    /// A function of the histogram; floats go.
    Histogram(fn(&Histogram) -> f64),
    /// `-vector`: floats and histograms change sign.
    Negate,
    /// `round(vector, to)`.
    Round,
    /// `clamp(vector, min, max)`; nothing is left where max < min.
    Clamp,
    /// `clamp_min(vector, min)`.
    ClampMin,
    /// `clamp_max(vector, max)`.
    ClampMax,
    /// `min_of(scalar, scalar)`.
    MinOf,
    /// `max_of(scalar, scalar)`.
    MaxOf,
    /// The time of the step in seconds, whatever the value (`timestamp` of no plain selector).
    StepTime(Steps),
    /// Nothing is left (`start_timestamp` of no plain selector).
    Nothing,
}

/// The operator. Inputs: the vector, then scalar arguments that are no literals.
pub struct MapValues {
    /// The name of the function.
    pub name: &'static str,
    /// What is done.
    pub kind: MapKind,
    /// Scalar arguments.
    pub scalars: Vec<ScalarArg>,
    /// The query.
    pub state: Arc<QueryState>,
}

impl fmt::Debug for MapValues {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "MapValues({})", self.name)
    }
}

impl Operator for MapValues {
    const NAME: &'static str = "MapValues";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for scalar in &self.scalars {
            write!(f, ", {scalar}")?;
        }
        Ok(())
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        let arguments = self.scalars.clone();
        inputs.map_with(&arguments, move |scalars| {
            move |batch| {
                self.state.check()?;
                self.change(&batch, &scalars, &schema)
            }
        })
    }
}

impl MapValues {
    fn change(
        &self,
        batch: &RecordBatch,
        scalars: &[ScalarValues],
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>> {
        if let MapKind::Float(f) = self.kind {
            return floats(batch, schema, |value, _| f(value));
        }
        let scalar = |i: usize, step: usize| scalars.get(i).map_or(1.0, |s| s.get(step));
        match self.kind {
            MapKind::Round => {
                return floats(batch, schema, |value, step| {
                    math::round(value, scalar(0, step))
                });
            }
            MapKind::ClampMin | MapKind::MaxOf => {
                return floats(batch, schema, |value, step| {
                    math::go_max(scalar(0, step), value)
                });
            }
            MapKind::ClampMax | MapKind::MinOf => {
                return floats(batch, schema, |value, step| {
                    math::go_min(scalar(0, step), value)
                });
            }
            MapKind::Negate if !StepVectors::from_batch(batch)?.has_histograms() => {
                return floats(batch, schema, |value, _| -value);
            }
            _ => {}
        }
        let table = StepTable::from_batches(std::slice::from_ref(batch))?;
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        for row in table.rows() {
            builder.begin();
            for step in 0..row.values.len() {
                let Some(value) = row.value(step) else {
                    continue;
                };
                match (self.kind, value) {
                    (MapKind::Histogram(f), Value::Histogram(h)) => builder.set(step, f(h)),
                    (MapKind::Negate, Value::Float(value)) => builder.set(step, -value),
                    (MapKind::Negate, Value::Histogram(h)) => {
                        let mut negated = Histogram::clone(h);
                        arithmetic::mul(&mut negated, -1.0);
                        builder.set_histogram(step, &negated);
                    }
                    (MapKind::Clamp, Value::Float(value)) => {
                        let (min, max) = (scalar(0, step), scalar(1, step));
                        let empty = max < min;
                        if !empty {
                            builder.set(step, math::clamp(value, min, max));
                        }
                    }
                    (MapKind::StepTime(steps), _) => {
                        builder.set(step, steps.time(step) as f64 / 1000.0);
                    }
                    (MapKind::Nothing, _) => {}
                    _ => {}
                }
            }
            builder.finish_row(row.labels, true);
        }
        builder.finish()
    }
}

/// A function of floats and steps over whole columns.
fn floats(
    batch: &RecordBatch,
    schema: &SchemaRef,
    mut f: impl FnMut(f64, usize) -> f64,
) -> Result<Option<RecordBatch>> {
    let vectors = StepVectors::from_batch(batch)?;
    let steps = vectors.steps();
    if vectors.has_histograms() {
        // Series without any float vanish.
        let table = StepTable::from_batches(std::slice::from_ref(batch))?;
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        for row in table.rows() {
            builder.begin();
            for step in row.presence.iter() {
                builder.set(step, f(row.values[step], step));
            }
            builder.finish_row(row.labels, true);
        }
        return builder.finish();
    }
    let mut values = Vec::with_capacity(vectors.rows() * steps);
    for row in 0..vectors.rows() {
        let row = vectors.values(row).iter().enumerate();
        values.extend(row.map(|(step, &value)| f(value, step)));
    }
    vectors
        .with_floats(values, true)
        .into_batch_of(Arc::clone(schema))
        .map(Some)
}
