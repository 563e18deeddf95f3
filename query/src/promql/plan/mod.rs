//! From the expression tree to a physical plan, directly: there is no logical plan in between,
//! because PromQL leaves no choice of order to an optimizer, and dashboards ask for small queries
//! in large numbers.
//!
//! Every node of the tree becomes one or two operators of [`exec`](super::exec). Subtrees that do not
//! depend on the step ([`invariant`]) are planned for a single step and broadcast. Scans are opened
//! here, and selectors that ask for the same share one.

mod aggregation;
mod call;
mod info;
mod invariant;
mod selector;

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::model::TimeRange;
use chronolith_engine::{Matcher, Snapshot};
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use selector::has_one_name;

use super::ast::{Binary, BinaryOp, Expr, ValueType};
use super::exec::OperatorExec;
use super::exec::binary_scalar::BinaryScalar;
use super::exec::binary_vector::BinaryVector;
use super::exec::broadcast::Broadcast;
use super::exec::gather::Gather;
use super::exec::map_values::{MapKind, MapValues};
use super::exec::name_removal::{Duplicates, NameRemoval};
use super::exec::scalar_arg::ScalarArg;
use super::exec::series_scan::{OpenScan, Spread};
use super::exec::set_operation::SetOperation;
use super::exec::source::{Source, SourceKind};
use super::exec::state::QueryState;
use super::failure::{PromqlError, Result};
use super::functions::binary;
use super::steps::Steps;

/// A part of a plan that gives step vectors.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The operators.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The label sets stay different if metric names are taken off.
    pub distinct_without_name: bool,
}

/// Where an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// At which times.
    pub steps: Steps,
    /// How often samples count in the statistics: 0 inside subqueries, the number of broadcast
    /// steps in invariant parts.
    pub count_weight: u64,
    /// What is needed of native histograms.
    pub histograms: HistogramParts,
    /// Directly above a selector whose values nobody looks at, only when there are any.
    pub presence_only: bool,
}

/// What the functions around an expression need of native histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramParts {
    /// Everything, unless a function further in says otherwise.
    Default,
    /// Count and sum: below `histogram_count` and the like.
    Summary,
    /// Everything: below what looks at buckets, and in subqueries, where resets can only be told by
    /// the buckets. No function further in changes that.
    All,
}

/// The root of a plan.
#[derive(Debug)]
pub enum Root {
    /// Step vectors in one partition.
    Vectors(Arc<dyn ExecutionPlan>),
    /// Raw samples in one partition.
    Samples(Arc<dyn ExecutionPlan>),
    /// No plan: a text.
    String(String),
}

/// Makes plans of one query.
pub struct Planner<'a> {
    snapshot: &'a Snapshot,
    state: Arc<QueryState>,
    /// The steps of the whole query.
    query: Steps,
    /// The end as asked for: `@ end()`; the last step may come before it.
    end_ms: i64,
    is_range: bool,
    spread: Spread,
    scans: HashMap<(Vec<Matcher>, TimeRange), Arc<OpenScan>>,
}

/// More steps than this are refused in subqueries, whatever the sample limit.
const SUBQUERY_STEPS_MAX: usize = 10_000_000;

impl<'a> Planner<'a> {
    /// A planner for a query over `query`, which is a range query or not. All its selectors read the
    /// same snapshot.
    pub fn new(
        snapshot: &'a Snapshot,
        state: &Arc<QueryState>,
        (query, end_ms): (Steps, i64),
        is_range: bool,
        spread: Spread,
    ) -> Self {
        Self {
            snapshot,
            state: Arc::clone(state),
            query,
            end_ms,
            is_range,
            spread,
            scans: HashMap::new(),
        }
    }

    /// The plan of a whole query.
    ///
    /// # Errors
    /// What cannot be planned, storage errors, limits.
    pub fn root(&mut self, expr: &Expr) -> Result<Root> {
        let place = Place {
            steps: self.query,
            count_weight: 1,
            histograms: HistogramParts::Default,
            presence_only: false,
        };
        match expr.value_type() {
            ValueType::String => match expr.unparen() {
                Expr::String(text) => Ok(Root::String(text.value.clone())),
                _ => Err(PromqlError::Internal("string expression".into())),
            },
            ValueType::Matrix => self.matrix_root(expr.unparen(), place).map(Root::Samples),
            ValueType::Scalar | ValueType::Vector => {
                let planned = self.expr(expr, place)?;
                let plan = if self.state.features.delayed_name_removal {
                    self.remove_names(planned, Duplicates::Merge).plan
                } else {
                    planned.plan
                };
                Ok(Root::Vectors(Gather::plan(plan)))
            }
        }
    }

    /// The plan of an expression that gives a vector or scalar.
    fn expr(&mut self, expr: &Expr, place: Place) -> Result<Planned> {
        // Trees may be hundreds of levels tall.
        stacker::maybe_grow(128 << 10, 2 << 20, || self.expr_with_stack(expr, place))
    }

    fn expr_with_stack(&mut self, expr: &Expr, place: Place) -> Result<Planned> {
        if let Some(number) = invariant::constant(expr) {
            return Ok(self.source(SourceKind::Number(number), place));
        }
        if place.steps.count > 1 && invariant::is_invariant(expr) {
            let steps = place.steps.count;
            let first = Place {
                steps: place.steps.first(),
                count_weight: place.count_weight * steps as u64,
                ..place
            };
            let planned = self.expr_at(expr, first)?;
            let broadcast = Broadcast {
                steps,
                state: Arc::clone(&self.state),
            };
            return Ok(Planned {
                plan: OperatorExec::new(broadcast, vec![planned.plan]),
                ..planned
            });
        }
        self.expr_at(expr, place)
    }

    fn expr_at(&mut self, expr: &Expr, place: Place) -> Result<Planned> {
        match expr {
            Expr::Number(number) => Ok(self.source(SourceKind::Number(number.value), place)),
            Expr::Paren(paren) => self.expr(&paren.expr, place),
            Expr::Unary(unary) => {
                let input = self.expr(&unary.expr, place)?;
                if !unary.negate {
                    return Ok(input);
                }
                let is_scalar = unary.expr.value_type() == ValueType::Scalar;
                let negated = self.map_values("-", MapKind::Negate, input, Vec::new(), Vec::new());
                Ok(if is_scalar {
                    negated
                } else {
                    // Prometheus looks at whole series here, as for functions of windows.
                    self.derived(negated, Duplicates::Refuse)
                })
            }
            Expr::Vector(selector) => self.vector_selector(selector, place),
            Expr::Call(call) => self.call(call, place),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, place),
            Expr::Binary(binary) => self.binary(binary, place),
            Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                let kind = expr.value_type().documented();
                Err(PromqlError::Internal(format!(
                    "{kind} where a vector belongs"
                )))
            }
        }
    }

    fn source(&self, kind: SourceKind, place: Place) -> Planned {
        let plan = OperatorExec::new(
            Source {
                kind,
                steps: place.steps,
            },
            Vec::new(),
        );
        Planned {
            plan,
            distinct_without_name: true,
        }
    }

    fn map_values(
        &self,
        name: &'static str,
        kind: MapKind,
        input: Planned,
        scalars: Vec<ScalarArg>,
        others: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Planned {
        let state = Arc::clone(&self.state);
        let map = MapValues {
            name,
            kind,
            scalars,
            state,
        };
        let inputs = std::iter::once(input.plan).chain(others).collect();
        Planned {
            plan: OperatorExec::new(map, inputs),
            ..input
        }
    }

    /// Takes names off at once, unless that is to be done at the end.
    fn derived(&self, planned: Planned, duplicates: Duplicates) -> Planned {
        if self.state.features.delayed_name_removal {
            planned
        } else {
            self.remove_names(planned, duplicates)
        }
    }

    fn remove_names(&self, planned: Planned, duplicates: Duplicates) -> Planned {
        let distinct = planned.distinct_without_name;
        let duplicates = if distinct {
            Duplicates::None
        } else {
            duplicates
        };
        let removal = NameRemoval::new(duplicates, &self.state);
        let plan = OperatorExec::new(removal, vec![planned.plan]);
        Planned {
            plan,
            distinct_without_name: distinct || duplicates != Duplicates::None,
        }
    }

    /// A scalar argument: literals are folded, others become an input pushed to `others`, which will
    /// follow `before` inputs.
    fn scalar(
        &mut self,
        expr: &Expr,
        place: Place,
        before: usize,
        others: &mut Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<ScalarArg> {
        if let Some(number) = invariant::constant(expr) {
            return Ok(ScalarArg::Number(number));
        }
        let planned = self.expr(expr, place)?;
        others.push(Gather::plan(planned.plan));
        Ok(ScalarArg::input(before + others.len() - 1))
    }

    fn binary(&mut self, e: &Binary, place: Place) -> Result<Planned> {
        let place = match e.op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => Place {
                histograms: HistogramParts::All,
                ..place
            },
            _ => place,
        };
        let scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        let Some(matching) = e
            .matching
            .as_ref()
            .filter(|_| !scalar(&e.lhs) && !scalar(&e.rhs))
        else {
            return self.binary_scalar(e, place);
        };
        let (left, right) = (self.expr(&e.lhs, place)?, self.expr(&e.rhs, place)?);
        let inputs = vec![left.plan, right.plan];
        let (op, state) = (e.op, Arc::clone(&self.state));
        if op.is_set() {
            let operation = SetOperation {
                op,
                matching: matching.clone(),
                state,
            };
            let plan = OperatorExec::new(operation, inputs);
            let or = op == BinaryOp::Or;
            let distinct_without_name = !or && left.distinct_without_name;
            return Ok(Planned {
                plan,
                distinct_without_name,
            });
        }
        let operation = BinaryVector {
            op,
            matching: matching.clone(),
            return_bool: e.return_bool,
            pos: e.pos,
            state,
        };
        let plan = OperatorExec::new(operation, inputs);
        let distinct_without_name = binary::changes_metric(op) && matching.include.is_empty();
        Ok(Planned {
            plan,
            distinct_without_name,
        })
    }

    fn binary_scalar(&mut self, e: &Binary, place: Place) -> Result<Planned> {
        let scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        let scalars_only = scalar(&e.lhs) && scalar(&e.rhs);
        let scalar_is_left = scalar(&e.lhs) && !scalars_only;
        let (vector, other) = if scalar_is_left {
            (&e.rhs, &e.lhs)
        } else {
            (&e.lhs, &e.rhs)
        };
        let input = self.expr(vector, place)?;
        let mut inputs = Vec::new();
        let scalar = self.scalar(other, place, 1, &mut inputs)?;
        let operation = BinaryScalar {
            op: e.op,
            scalar,
            scalar_is_left,
            return_bool: e.return_bool || (scalars_only && e.op.is_comparison()),
            pos: e.pos,
            state: Arc::clone(&self.state),
        };
        inputs.insert(0, input.plan);
        let planned = Planned {
            plan: OperatorExec::new(operation, inputs),
            ..input
        };
        let derives = binary::changes_metric(e.op) || e.return_bool;
        if scalars_only || !derives {
            return Ok(planned);
        }
        Ok(self.derived(planned, Duplicates::Merge))
    }
}
