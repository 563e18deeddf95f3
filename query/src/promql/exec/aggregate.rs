//! `Aggregate`: `sum`, `avg`, `count`, `group`, `min`, `max`, `stddev`, `stdvar`: what can be added up
//! series by series, so that memory is needed for the groups only.
//!
//! Over an input of one partition it works in one go ([`Phase::Single`]). Over several, a partial
//! aggregation per partition gives group states ([`Phase::Partial`], schema in
//! [`aggregate_state`](super::aggregate_state)), which the final one ([`Phase::Final`]) merges in the
//! order of the partitions, so that the answer does not depend on timing.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

use super::aggregate_state::{GroupStates, state_schema};
use super::operator::{Inputs, Operator, OperatorExec, partition_count};
use super::state::QueryState;
use crate::promql::ast::{AggregateOp, PosRange};
use crate::promql::batch::{StepTable, StepVectors};
use crate::promql::labelset::LabelChoice;

/// Which part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Series in, results out.
    Single,
    /// Series in, group states out.
    Partial,
    /// Group states in, results out.
    Final,
}

/// The operator.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// What is computed.
    pub op: AggregateOp,
    /// The labels that make a group.
    pub grouping: LabelChoice,
    /// Where the aggregated expression stands, for remarks.
    pub pos: PosRange,
    /// How many steps there are.
    pub steps: usize,
    /// Which part of the work.
    pub phase: Phase,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Aggregate {
    /// The plan: one node, or a partial and a final one.
    pub fn plan(self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if partition_count(&input) == 1 {
            return OperatorExec::new(
                Self {
                    phase: Phase::Single,
                    ..self
                },
                vec![input],
            );
        }
        let partial = Self {
            phase: Phase::Partial,
            ..self.clone()
        };
        let input = OperatorExec::new(partial, vec![input]);
        OperatorExec::new(
            Self {
                phase: Phase::Final,
                ..self
            },
            vec![input],
        )
    }
}

impl Operator for Aggregate {
    const NAME: &'static str = "Aggregate";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        match self.phase {
            Phase::Partial => state_schema(self.steps),
            Phase::Single | Phase::Final => StepVectors::schema(self.steps),
        }
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        match self.phase {
            Phase::Partial => partition_count(&inputs[0]),
            Phase::Single | Phase::Final => 1,
        }
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (labels, keep) = self.grouping.parts();
        let word = if keep { "by" } else { "without" };
        write!(
            f,
            "{}, {word} {labels:?}, {:?}",
            self.op.as_str(),
            self.phase
        )
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let mut input = match self.phase {
            Phase::Partial => inputs.stream(0)?,
            Phase::Single | Phase::Final => inputs.all(0)?,
        };
        let schema = inputs.schema();
        let time = inputs.compute_time();
        let memory = inputs.memory();
        Ok(inputs.once(async move {
            let mut groups = GroupStates::new(self.op, self.steps, self.pos);
            while let Some(batch) = input.try_next().await? {
                let _timer = time.timer();
                self.state.check()?;
                match self.phase {
                    Phase::Final => groups.merge(&batch)?,
                    Phase::Single | Phase::Partial => {
                        groups.add(&StepTable::from_batches(&[batch])?, &self.grouping);
                    }
                }
                memory.try_resize(groups.memory_bytes())?;
            }
            let _timer = time.timer();
            let output = match self.phase {
                Phase::Partial => groups.take_states()?,
                Phase::Single | Phase::Final => groups.take_results(schema)?,
            };
            self.state.annotate_all(groups.into_notes());
            Ok(output)
        }))
    }
}
