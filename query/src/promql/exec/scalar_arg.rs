//! Scalar arguments of operators: a number known when the plan is built, or an input of its own
//! that is evaluated once, whatever the number of partitions that need it.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use tokio::sync::OnceCell;

use super::operator::Inputs;
use crate::promql::batch::StepVectors;
use futures::TryStreamExt;

/// Where a scalar comes from.
#[derive(Debug, Clone)]
pub enum ScalarArg {
    /// A literal.
    Number(f64),
    /// The operator's input of that number.
    Input(usize, Arc<OnceCell<Arc<[f64]>>>),
}

/// A scalar's value at every step.
#[derive(Debug, Clone)]
pub enum ScalarValues {
    /// The same at all steps.
    Constant(f64),
    /// One per step.
    PerStep(Arc<[f64]>),
}

impl ScalarValues {
    /// The value at a step.
    #[inline]
    pub fn get(&self, step: usize) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::PerStep(values) => values.get(step).copied().unwrap_or(f64::NAN),
        }
    }

    /// The value at every step.
    pub fn iter(&self, steps: usize) -> impl Iterator<Item = f64> + '_ {
        (0..steps).map(|step| self.get(step))
    }
}

impl ScalarArg {
    /// The input of that number.
    pub fn input(index: usize) -> Self {
        Self::Input(index, Arc::default())
    }

    /// Finds the values out.
    ///
    /// # Errors
    /// Those of the input.
    pub fn resolve(
        &self,
        inputs: &Inputs,
    ) -> impl Future<Output = Result<ScalarValues>> + Send + use<> {
        let this = self.clone();
        let shared = inputs.shared();
        async move {
            let (index, cell) = match this {
                Self::Number(number) => return Ok(ScalarValues::Constant(number)),
                Self::Input(index, cell) => (index, cell),
            };
            let values = cell
                .get_or_try_init(|| async {
                    let mut stream = shared.stream(index, 0)?;
                    // A subquery may have no step at all: then there is no row either.
                    let mut values: Arc<[f64]> = Arc::default();
                    while let Some(batch) = stream.try_next().await? {
                        values = Arc::from(StepVectors::from_batch(&batch)?.values(0));
                    }
                    Ok::<_, DataFusionError>(values)
                })
                .await?;
            Ok(ScalarValues::PerStep(Arc::clone(values)))
        }
    }
}

impl std::fmt::Display for ScalarArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Input(index, _) => write!(f, "#{index}"),
        }
    }
}
