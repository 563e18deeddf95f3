//! The plan of the function `info`.

use std::sync::Arc;

use chronolith_engine::{MatchOp, Matcher};

use super::selector::matcher;
use super::{Place, Planned, Planner};
use crate::promql::ast::{At, Call, Expr, METRIC_NAME, VectorSelector};
use crate::promql::exec::OperatorExec;
use crate::promql::exec::info::Info;
use crate::promql::exec::instant_select::{InstantSelect, Selected};
use crate::promql::failure::Result;
use crate::promql::steps::Lookup;

/// The info metric that is meant if none is named.
const TARGET_INFO: &str = "target_info";

/// When the info series are looked at: `@` and offset of the first selector, seen through the
/// subqueries around it. `None` without a selector.
fn reference(expr: &Expr) -> Option<(Option<i64>, i64)> {
    let of = |selector: &VectorSelector| {
        let at = match selector.at {
            Some(At::Time(time_ms)) => Some(time_ms),
            _ => None,
        };
        (at, selector.offset_ms)
    };
    match expr {
        Expr::Vector(selector) => Some(of(selector)),
        Expr::Matrix(matrix) => Some(of(&matrix.selector)),
        Expr::Subquery(subquery) => {
            let (at, offset_ms) = reference(&subquery.expr)?;
            if at.is_some() {
                return Some((at, offset_ms));
            }
            let at = match subquery.at {
                Some(At::Time(time_ms)) => Some(time_ms),
                _ => None,
            };
            Some((at, offset_ms.saturating_add(subquery.offset_ms)))
        }
        other => other.children().into_iter().find_map(reference),
    }
}

impl Planner<'_> {
    pub(super) fn info(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let base = self.expr(&call.args[0], place)?;
        let mut matchers = Vec::new();
        if let Some(Expr::Vector(selector)) = call.args.get(1).map(Expr::unparen) {
            for m in &selector.matchers {
                matchers.push(matcher(m)?);
            }
        }
        let (mut name_matchers, data_matchers): (Vec<Matcher>, Vec<Matcher>) =
            matchers.into_iter().partition(|m| m.name() == METRIC_NAME);
        let positive = |m: &Matcher| matches!(m.op(), MatchOp::Equal | MatchOp::Regex);
        if name_matchers.is_empty() {
            name_matchers.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !name_matchers.iter().any(positive) {
            // Only said which names are not meant: of the info metrics, that is.
            name_matchers.push(Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info")?);
        }
        let mut selected = data_matchers.clone();
        selected.extend(name_matchers.iter().cloned());
        let (at_ms, offset_ms) = reference(&call.args[0]).unwrap_or_default();
        let lookup = Lookup {
            steps: place.steps,
            at_ms,
            offset_ms,
        };
        let (first, last) = lookup.bounds();
        let start = first
            .saturating_sub(self.state.lookback_ms)
            .saturating_add(1);
        let scan = self.scan_matchers(selected, start, last)?;
        let select = InstantSelect {
            lookup,
            selected: Selected::InfoTime,
            pos: call.pos,
            count_weight: place.count_weight,
            state: Arc::clone(&self.state),
        };
        let info_series = OperatorExec::new(select, vec![scan]);
        let state = Arc::clone(&self.state);
        let operator = Info {
            name_matchers,
            data_matchers,
            state,
        };
        let plan = OperatorExec::new(operator, vec![base.plan, info_series]);
        Ok(Planned {
            plan,
            distinct_without_name: false,
        })
    }
}
