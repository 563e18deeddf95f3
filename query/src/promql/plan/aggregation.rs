//! Plans of aggregations.

use std::sync::Arc;

use super::selector::plain_selector;
use super::{Place, Planned, Planner};
use crate::promql::ast::{self, AggregateOp, Expr};
use crate::promql::exec::OperatorExec;
use crate::promql::exec::aggregate::{Aggregate, Phase};
use crate::promql::exec::group_values::{GroupKind, GroupValues};
use crate::promql::exec::select_k::SelectK;
use crate::promql::failure::{PromqlError, Result};
use crate::promql::labelset::{LabelChoice, METADATA_LABELS};

impl Planner<'_> {
    pub(super) fn aggregate(&mut self, e: &ast::Aggregate, place: Place) -> Result<Planned> {
        let mut names = e.grouping.clone();
        if let (AggregateOp::CountValues, false, Some(Expr::String(label))) =
            (e.op, e.without, e.param.as_deref().map(Expr::unparen))
        {
            names.push(label.value.clone());
        }
        let grouping = if e.without {
            LabelChoice::all_but(&names)
        } else {
            LabelChoice::only(&names)
        };
        let keeps_metadata = METADATA_LABELS
            .iter()
            .any(|name| grouping.keeps(name.as_bytes()));
        let param = e.param.as_deref().ok_or_else(|| {
            PromqlError::Internal(format!("{} without its parameter", e.op.as_str()))
        });
        let counts = matches!(e.op, AggregateOp::Count | AggregateOp::Group);
        let presence_only = counts && plain_selector(&e.expr).is_some();
        let of_input = Place {
            presence_only,
            ..place
        };
        let input = self.expr(&e.expr, of_input)?;
        let state = Arc::clone(&self.state);
        match e.op {
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => {
                let param = param?;
                let mut inputs = Vec::new();
                let k = self.scalar(param, place, 1, &mut inputs)?;
                inputs.insert(0, input.plan);
                let pos = (param.pos(), e.pos);
                let select = SelectK {
                    op: e.op,
                    param: k,
                    grouping,
                    pos,
                    state,
                };
                Ok(Planned {
                    plan: OperatorExec::new(select, inputs),
                    ..input
                })
            }
            AggregateOp::Quantile => {
                let param = param?;
                let mut inputs = Vec::new();
                let q = self.scalar(param, place, 1, &mut inputs)?;
                inputs.insert(0, input.plan);
                let pos = (param.pos(), e.expr.pos());
                let kind = GroupKind::Quantile(q);
                let values = GroupValues {
                    kind,
                    grouping,
                    pos,
                    state,
                };
                let plan = OperatorExec::new(values, inputs);
                Ok(Planned {
                    plan,
                    distinct_without_name: !keeps_metadata,
                })
            }
            AggregateOp::CountValues => {
                let Expr::String(label) = param?.unparen() else {
                    return Err(PromqlError::Internal("count_values without a label".into()));
                };
                if label.bytes.is_some() || label.value.is_empty() {
                    let message = format!("invalid label name {label}");
                    return Err(PromqlError::Execution(message));
                }
                let kind = GroupKind::CountValues(label.value.clone());
                let pos = (label.pos, e.expr.pos());
                let values = GroupValues {
                    kind,
                    grouping,
                    pos,
                    state,
                };
                let plan = OperatorExec::new(values, vec![input.plan]);
                Ok(Planned {
                    plan,
                    distinct_without_name: !keeps_metadata,
                })
            }
            op => {
                let aggregate = Aggregate {
                    op,
                    grouping,
                    pos: e.expr.pos(),
                    steps: place.steps.count,
                    phase: Phase::Single,
                    state,
                };
                let plan = aggregate.plan(input.plan);
                Ok(Planned {
                    plan,
                    distinct_without_name: !keeps_metadata,
                })
            }
        }
    }
}
