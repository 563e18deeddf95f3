//! From the tree of a metric query to a physical plan: leaves of this language, operators of PromQL.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::super::ast::{
    Binary, BinaryOp, Cardinality, Grouping, MetricExpr, RangeAggregation, RangeOp, Span,
    VectorAggregation, VectorOp,
};
use super::failure::{LogQlError, Result};
use super::range_scan::{LogRangeScan, RowCounts};
use super::source::LogSource;
use super::window::Grid;
use crate::promql::ast as promql;
use crate::promql::exec::aggregate::{Aggregate, Phase};
use crate::promql::exec::binary_scalar::BinaryScalar;
use crate::promql::exec::binary_vector::BinaryVector;
use crate::promql::exec::label_change::{LabelChange, LabelRule};
use crate::promql::exec::map_values::{MapKind, MapValues};
use crate::promql::exec::scalar_arg::ScalarArg;
use crate::promql::exec::select_k::SelectK;
use crate::promql::exec::set_operation::SetOperation;
use crate::promql::exec::sort::{Sort, SortKey};
use crate::promql::exec::source::{Source, SourceKind};
use crate::promql::exec::{OperatorExec, QueryState};
use crate::promql::labelset::LabelChoice;
use crate::promql::steps::Steps;

type Plan = Arc<dyn ExecutionPlan>;

/// When a query is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The first time and the distance of two, ns.
    pub(super) start_ns: i64,
    pub(super) step_ns: i64,
    pub(super) count: usize,
    pub(super) is_range: bool,
}

impl Times {
    /// Time number `step`, ms.
    pub(super) fn time_ms(&self, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX);
        let ns = self
            .start_ns
            .saturating_add(steps.saturating_mul(self.step_ns));
        ns.div_euclid(1_000_000)
    }

    /// The same for operators that do not look at times.
    fn steps(&self) -> Steps {
        Steps {
            start_ms: self.time_ms(0),
            step_ms: (self.step_ns / 1_000_000).max(1),
            count: self.count,
        }
    }
}

/// Makes plans of one query.
pub(super) struct Planner<'a> {
    pub(super) source: &'a Arc<dyn LogSource>,
    pub(super) state: &'a Arc<QueryState>,
    pub(super) counts: &'a Arc<RowCounts>,
    pub(super) times: Times,
}

fn pos(span: Span) -> promql::PosRange {
    promql::PosRange::new(span.start, span.end)
}

fn choice(grouping: Option<&Grouping>) -> LabelChoice {
    match grouping {
        None => LabelChoice::only(&[]),
        Some(g) if g.without => LabelChoice::all_but(&g.labels),
        Some(g) => LabelChoice::only(&g.labels),
    }
}

fn operator(op: BinaryOp) -> promql::BinaryOp {
    match op {
        BinaryOp::Or => promql::BinaryOp::Or,
        BinaryOp::And => promql::BinaryOp::And,
        BinaryOp::Unless => promql::BinaryOp::Unless,
        BinaryOp::Add => promql::BinaryOp::Add,
        BinaryOp::Sub => promql::BinaryOp::Sub,
        BinaryOp::Mul => promql::BinaryOp::Mul,
        BinaryOp::Div => promql::BinaryOp::Div,
        BinaryOp::Mod => promql::BinaryOp::Mod,
        BinaryOp::Pow => promql::BinaryOp::Pow,
        BinaryOp::Eq => promql::BinaryOp::Eq,
        BinaryOp::Ne => promql::BinaryOp::Ne,
        BinaryOp::Gt => promql::BinaryOp::Gt,
        BinaryOp::Ge => promql::BinaryOp::Ge,
        BinaryOp::Lt => promql::BinaryOp::Lt,
        BinaryOp::Le => promql::BinaryOp::Le,
    }
}

/// Whether an aggregation of a range aggregation is the same as that range aggregation over its groups,
/// so that the leaf need not keep more series than there are groups.
fn folds_into(e: &VectorAggregation, inner: &RangeAggregation) -> bool {
    if inner.grouping.is_some() {
        return false;
    }
    // The unwrapped label is no label of the series, so it cannot make groups.
    let groups_by_value = inner.range.unwrap.as_ref().is_some_and(|unwrap| {
        let grouping = e.grouping.as_ref();
        grouping.is_some_and(|g| !g.without && g.labels.contains(&unwrap.label))
    });
    match (e.op, inner.op) {
        (
            VectorOp::Sum,
            RangeOp::CountOverTime
            | RangeOp::Rate
            | RangeOp::BytesOverTime
            | RangeOp::BytesRate
            | RangeOp::SumOverTime,
        ) => true,
        (VectorOp::Max, RangeOp::MaxOverTime) | (VectorOp::Min, RangeOp::MinOverTime) => {
            !groups_by_value
        }
        _ => false,
    }
}

impl Planner<'_> {
    /// The plan of an expression; a single partition.
    pub(super) fn plan(&self, expr: &MetricExpr) -> Result<Plan> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.plan_with_stack(expr))
    }

    fn plan_with_stack(&self, expr: &MetricExpr) -> Result<Plan> {
        match expr {
            MetricExpr::Range(e) => Ok(self.range(e, e.grouping.as_ref())),
            MetricExpr::Vector(e) => self.vector(e),
            MetricExpr::Binary(e) => self.binary(e),
            MetricExpr::Literal(literal) | MetricExpr::VectorOf(literal) => {
                let source = Source {
                    kind: SourceKind::Number(literal.value),
                    steps: self.times.steps(),
                };
                Ok(OperatorExec::new(source, Vec::new()))
            }
            MetricExpr::LabelReplace(e) => {
                let input = self.plan(&e.expr)?;
                let rule = LabelRule::replace(&e.destination, &e.replacement, &e.source, &e.regex)?;
                let change = LabelChange {
                    rule,
                    state: Arc::clone(self.state),
                };
                Ok(OperatorExec::new(change, vec![input]))
            }
        }
    }

    fn range(&self, e: &RangeAggregation, grouping: Option<&Grouping>) -> Plan {
        let Times {
            start_ns,
            step_ns,
            count,
            ..
        } = self.times;
        let range = &e.range;
        let scan = LogRangeScan {
            source: Arc::clone(self.source),
            aggregation: e.clone(),
            grouping: grouping.cloned(),
            grid: Grid::new((start_ns, step_ns, count), range.range_ns, range.offset_ns),
            state: Arc::clone(self.state),
            counts: Arc::clone(self.counts),
        };
        OperatorExec::new(scan, Vec::new())
    }

    fn vector(&self, e: &VectorAggregation) -> Result<Plan> {
        let grouping = choice(e.grouping.as_ref());
        let state = Arc::clone(self.state);
        let no_groups = Grouping::default();
        let input = match &e.expr {
            MetricExpr::Range(inner) if folds_into(e, inner) => {
                self.range(inner, Some(e.grouping.as_ref().unwrap_or(&no_groups)))
            }
            other => self.plan(other)?,
        };
        let op = match e.op {
            VectorOp::Sum => promql::AggregateOp::Sum,
            VectorOp::Avg => promql::AggregateOp::Avg,
            VectorOp::Count => promql::AggregateOp::Count,
            VectorOp::Max => promql::AggregateOp::Max,
            VectorOp::Min => promql::AggregateOp::Min,
            VectorOp::Stddev => promql::AggregateOp::Stddev,
            VectorOp::Stdvar => promql::AggregateOp::Stdvar,
            VectorOp::Bottomk => promql::AggregateOp::Bottomk,
            VectorOp::Topk => promql::AggregateOp::Topk,
            VectorOp::ApproxTopk if self.times.is_range => {
                let message = "approx_topk is only supported on instant queries";
                return Err(LogQlError::BadRequest(message.to_owned()));
            }
            // Exact is the best approximation there is.
            VectorOp::ApproxTopk => promql::AggregateOp::Topk,
            VectorOp::Sort | VectorOp::SortDesc => {
                let sort = Sort {
                    key: SortKey::Value,
                    descending: e.op == VectorOp::SortDesc,
                    state,
                };
                return Ok(OperatorExec::new(sort, vec![input]));
            }
        };
        if let Some(k) = e.k {
            let select = SelectK {
                op,
                param: ScalarArg::Number(k as f64),
                grouping,
                pos: (pos(e.span), pos(e.span)),
                state,
            };
            return Ok(OperatorExec::new(select, vec![input]));
        }
        let aggregate = Aggregate {
            op,
            grouping,
            pos: pos(e.span),
            steps: self.times.count,
            phase: Phase::Single,
            state,
        };
        Ok(aggregate.plan(input))
    }

    /// Zeros become NaN: what divides by them is NaN in LogQL.
    fn divisor(&self, input: Plan) -> Plan {
        let map = MapValues {
            name: "nan_for_zero",
            kind: MapKind::Float(|value| if value == 0.0 { f64::NAN } else { value }),
            scalars: Vec::new(),
            state: Arc::clone(self.state),
        };
        OperatorExec::new(map, vec![input])
    }

    fn binary(&self, e: &Binary) -> Result<Plan> {
        let op = operator(e.op);
        let divides = matches!(e.op, BinaryOp::Div | BinaryOp::Mod);
        let state = Arc::clone(self.state);
        let (vector, literal, scalar_is_left) = match (&e.left, &e.right) {
            (MetricExpr::Literal(literal), vector) => (vector, *literal, true),
            (vector, MetricExpr::Literal(literal)) => (vector, *literal, false),
            (left, right) => {
                let (left, mut right) = (self.plan(left)?, self.plan(right)?);
                if divides {
                    right = self.divisor(right);
                }
                return Ok(self.binary_vector(e, vec![left, right]));
            }
        };
        let mut input = self.plan(vector)?;
        let mut number = literal.value;
        if divides && scalar_is_left {
            input = self.divisor(input);
        } else if divides && number == 0.0 {
            number = f64::NAN;
        }
        let operation = BinaryScalar {
            op,
            scalar: ScalarArg::Number(number),
            scalar_is_left,
            return_bool: e.modifier.return_bool,
            pos: pos(e.span),
            state,
        };
        Ok(OperatorExec::new(operation, vec![input]))
    }

    fn binary_vector(&self, e: &Binary, inputs: Vec<Plan>) -> Plan {
        let op = operator(e.op);
        let state = Arc::clone(self.state);
        let modifier = &e.modifier;
        let matching = promql::VectorMatching {
            card: match modifier.cardinality {
                _ if e.op.is_set() => promql::Cardinality::ManyToMany,
                Cardinality::OneToOne => promql::Cardinality::OneToOne,
                Cardinality::ManyToOne => promql::Cardinality::ManyToOne,
                Cardinality::OneToMany => promql::Cardinality::OneToMany,
            },
            matching_labels: modifier.labels.clone(),
            on: modifier.on,
            include: modifier.include.clone(),
            fill_lhs: None,
            fill_rhs: None,
        };
        if e.op.is_set() {
            let operation = SetOperation {
                op,
                matching,
                state,
            };
            return OperatorExec::new(operation, inputs);
        }
        let operation = BinaryVector {
            op,
            matching,
            return_bool: modifier.return_bool,
            pos: pos(e.span),
            state,
        };
        OperatorExec::new(operation, inputs)
    }
}
