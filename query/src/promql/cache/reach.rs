//! [`Reach`]: which samples the value of a step depends on, and whether steps may be kept at all.
//!
//! A step at time `T` may be kept only if its value does not depend on which other steps are evaluated
//! with it. That holds for all that is listed here and for nothing else: what is not known to be so
//! (functions of the query's own bounds, `info`, `limitk`, functions to come) is evaluated anew every
//! time.
//!
//! ```text
//! a[5m] offset 1h     (T - 65m, T - 60m]       back 65m, ahead -60m
//! a smoothed          (T - 5m, T + 5m]         back 5m,  ahead 5m      (lookback 5m)
//! a @ 1000            (700, 1000]              the same for all steps
//! ```

use crate::promql::ast::{AggregateOp, At, BinaryOp, Call, Expr, Extension, VectorSelector};
use crate::promql::plan::has_one_name;

/// Where the samples lie that the value of a step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// They come later than this long before the step, ms.
    pub(crate) back_ms: i64,
    /// They come no later than this long after the step, ms; negative where all are older.
    pub(crate) ahead_ms: i64,
    /// Besides, samples from here to there, whatever the step: ms since the epoch.
    pub(crate) fixed: Option<(i64, i64)>,
}

/// When a part of the expression is evaluated for a step.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Between these distances from the step.
    Around(i64, i64),
    /// Between these times.
    Fixed(i64, i64),
}

impl When {
    fn at(self, at: Option<At>) -> Option<Self> {
        match at {
            None => Some(self),
            Some(At::Time(time)) => Some(Self::Fixed(time, time)),
            // Moves with the query.
            Some(At::Start | At::End) => None,
        }
    }

    fn moved(self, from: i64, to: i64) -> Self {
        let moved = |a: i64, b: i64| (a.saturating_add(from), b.saturating_add(to));
        match self {
            Self::Around(a, b) => {
                let (a, b) = moved(a, b);
                Self::Around(a, b)
            }
            Self::Fixed(a, b) => {
                let (a, b) = moved(a, b);
                Self::Fixed(a, b)
            }
        }
    }
}

/// Collects the reach of a tree.
struct Survey {
    lookback_ms: i64,
    delayed_name_removal: bool,
    around: Option<(i64, i64)>,
    fixed: Option<(i64, i64)>,
}

impl Reach {
    /// The reach of an expression as it was parsed, and as it was resolved for the range that is asked
    /// for. `None` if its steps cannot be kept, or need no samples.
    pub(crate) fn of(
        parsed: &Expr,
        resolved: &Expr,
        lookback_ms: i64,
        delayed_name_removal: bool,
    ) -> Option<Self> {
        if parsed.any(moves_with_the_query) {
            return None;
        }
        let mut survey = Survey {
            lookback_ms,
            delayed_name_removal,
            around: None,
            fixed: None,
        };
        survey.visit(resolved, When::Around(0, 0))?;
        if survey.around.is_none() && survey.fixed.is_none() {
            return None;
        }
        // Without a selector that follows the steps, nothing around them matters.
        let (from, to) = survey.around.unwrap_or((0, i64::MIN));
        Some(Self {
            back_ms: from.saturating_neg(),
            ahead_ms: to,
            fixed: survey.fixed,
        })
    }
}

/// `@ start()`, `@ end()`.
fn moves_with_the_query(expr: &Expr) -> bool {
    let at = match expr {
        Expr::Vector(selector) => selector.at,
        Expr::Matrix(matrix) => matrix.selector.at,
        Expr::Subquery(subquery) => subquery.at,
        _ => None,
    };
    matches!(at, Some(At::Start | At::End))
}

/// Functions whose value at a step depends on samples around that step only, or on the step's time.
fn is_stepwise(name: &str) -> bool {
    const NAMES: [&str; 86] = [
        "abs",
        "absent",
        "absent_over_time",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "avg_over_time",
        "ceil",
        "changes",
        "clamp",
        "clamp_max",
        "clamp_min",
        "cos",
        "cosh",
        "count_over_time",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "days_in_month",
        "deg",
        "delta",
        "deriv",
        "double_exponential_smoothing",
        "exp",
        "first_over_time",
        "floor",
        "histogram_avg",
        "histogram_count",
        "histogram_fraction",
        "histogram_quantile",
        "histogram_quantiles",
        "histogram_stddev",
        "histogram_stdvar",
        "histogram_sum",
        "hour",
        "idelta",
        "increase",
        "irate",
        "label_join",
        "label_replace",
        "last_over_time",
        "ln",
        "log10",
        "log2",
        "mad_over_time",
        "max_of",
        "max_over_time",
        "min_of",
        "min_over_time",
        "minute",
        "month",
        "pi",
        "predict_linear",
        "present_over_time",
        "quantile_over_time",
        "rad",
        "rate",
        "resets",
        "round",
        "scalar",
        "sgn",
        "sin",
        "sinh",
        "sort",
        "sort_by_label",
        "sort_by_label_desc",
        "sort_desc",
        "sqrt",
        "start_timestamp",
        "stddev_over_time",
        "stdvar_over_time",
        "step",
        "sum_over_time",
        "tan",
        "tanh",
        "time",
        "timestamp",
        "ts_of_first_over_time",
        "ts_of_last_over_time",
        "ts_of_max_over_time",
        "ts_of_min_over_time",
        "vector",
        "year",
    ];
    NAMES.contains(&name)
}

impl Survey {
    /// `None` if the steps cannot be kept.
    fn visit(&mut self, expr: &Expr, when: When) -> Option<()> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.visit_with_stack(expr, when))
    }

    fn visit_with_stack(&mut self, expr: &Expr, when: When) -> Option<()> {
        match expr {
            Expr::Number(_) | Expr::String(_) => Some(()),
            Expr::Vector(selector) => self.selector(selector, 0, when),
            Expr::Matrix(matrix) => self.selector(&matrix.selector, matrix.range_ms, when),
            Expr::Subquery(subquery) => {
                let when = when.at(subquery.at)?;
                let back = subquery.offset_ms.saturating_neg();
                let when = when.moved(back.saturating_sub(subquery.range_ms), back);
                self.visit(&subquery.expr, when)
            }
            Expr::Call(call) => self.call(call, when),
            Expr::Aggregate(aggregate) => {
                // Which series come first depends on all that are looked at.
                if matches!(aggregate.op, AggregateOp::Limitk | AggregateOp::LimitRatio) {
                    return None;
                }
                let param = aggregate.param.as_deref();
                param.map_or(Some(()), |param| self.visit(param, when))?;
                self.visit(&aggregate.expr, when)
            }
            Expr::Binary(binary) => {
                self.visit(&binary.lhs, when)?;
                self.visit(&binary.rhs, when)
            }
            Expr::Unary(unary) => {
                let may_meet = unary.negate && !has_one_name_at_most(&unary.expr);
                if may_meet && !self.delayed_name_removal {
                    return None;
                }
                self.visit(&unary.expr, when)
            }
            Expr::Paren(paren) => self.visit(&paren.expr, when),
        }
    }

    fn selector(&mut self, selector: &VectorSelector, range_ms: i64, when: When) -> Option<()> {
        let when = when.at(selector.at)?;
        let lookback = self.lookback_ms;
        let is_instant = range_ms == 0;
        let (before, after) = match selector.extension {
            Extension::Smoothed => (lookback, lookback),
            Extension::Anchored => (lookback, 0),
            Extension::None if is_instant => (lookback, 0),
            Extension::None => (0, 0),
        };
        let back = selector.offset_ms.saturating_neg();
        let from = back.saturating_sub(range_ms).saturating_sub(before);
        let widened = |known: Option<(i64, i64)>, (from, to): (i64, i64)| {
            Some(known.map_or((from, to), |(a, b)| (a.min(from), b.max(to))))
        };
        match when.moved(from, back.saturating_add(after)) {
            When::Around(from, to) => self.around = widened(self.around, (from, to)),
            When::Fixed(from, to) => self.fixed = widened(self.fixed, (from, to)),
        }
        Some(())
    }

    fn call(&mut self, call: &Call, when: When) -> Option<()> {
        if !is_stepwise(call.func.name) {
            return None;
        }
        for arg in &call.args {
            let window = match arg.unparen() {
                Expr::Matrix(matrix) => Some(has_one_name(&matrix.selector)),
                Expr::Subquery(subquery) => Some(has_one_name_at_most(&subquery.expr)),
                _ => None,
            };
            // Taking names off at once, functions of windows (and negation) refuse series that become
            // equal even if they have no step in common.
            if window == Some(false) && !self.delayed_name_removal {
                return None;
            }
            self.visit(arg, when)?;
        }
        Some(())
    }
}

/// Whether series of the expression stay different without their names, as far as can be seen.
fn has_one_name_at_most(expr: &Expr) -> bool {
    match expr.unparen() {
        Expr::Number(_) => true,
        Expr::Vector(selector) => has_one_name(selector),
        Expr::Unary(unary) => has_one_name_at_most(&unary.expr),
        Expr::Binary(binary) => {
            binary.op != BinaryOp::Or
                && has_one_name_at_most(&binary.lhs)
                && has_one_name_at_most(&binary.rhs)
        }
        Expr::Aggregate(aggregate) => {
            aggregate.without || !aggregate.grouping.iter().any(|l| l == "__name__")
        }
        Expr::Call(call) => {
            !call.func.name.starts_with("label_")
                && call.args.iter().all(|arg| match arg.unparen() {
                    Expr::Matrix(matrix) => has_one_name(&matrix.selector),
                    Expr::Subquery(subquery) => has_one_name_at_most(&subquery.expr),
                    Expr::String(_) => true,
                    other => has_one_name_at_most(other),
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::features::Features;
    use crate::promql::parser::parse;
    use crate::promql::resolve::{EvaluationRange, resolve};

    fn reach(query: &str) -> Option<Reach> {
        let range = EvaluationRange {
            start_ms: 1_000_000,
            end_ms: 2_000_000,
            step_ms: 10_000,
            default_subquery_step_ms: 60_000,
        };
        let parsed = parse(query, &Features::conformance()).unwrap();
        let resolved = resolve(parsed.clone(), &range).unwrap();
        Reach::of(&parsed, &resolved, 300_000, false)
    }

    #[test]
    fn the_reach_follows_ranges_offsets_and_subqueries() {
        for (query, back_s, ahead_s) in [
            ("a", 300, 0),
            ("a offset 1h", 3900, -3600),
            ("a offset -1m", 240, 60),
            ("rate(a[10m])", 600, 0),
            ("rate(a[10m]) / a", 600, 0),
            ("a smoothed", 300, 300),
            ("rate(a[10m] anchored)", 900, 0),
            ("max_over_time(rate(a[5m])[1h:1m] offset 10m)", 4500, -600),
            ("sum by (x) (rate(a[5m])) + on() time()", 300, 0),
            ("rate(a[range() / 10])", 100, 0),
        ] {
            let want = Reach {
                back_ms: back_s * 1000,
                ahead_ms: ahead_s * 1000,
                fixed: None,
            };
            assert_eq!(reach(query), Some(want), "{query}");
        }
    }

    #[test]
    fn fixed_times_are_kept_apart() {
        let found = reach("a - a[5m:1m] @ 5000".replace("a[5m:1m]", "b").as_str()).unwrap();
        assert_eq!(found.fixed, Some((4_700_000, 5_000_000)));
        assert_eq!((found.back_ms, found.ahead_ms), (300_000, 0));
        let found = reach("avg_over_time(a[5m] @ 5000)").unwrap();
        assert_eq!(found.fixed, Some((4_700_000, 5_000_000)));
        assert_eq!(found.ahead_ms, i64::MIN);
    }

    #[test]
    fn what_cannot_be_proven_is_not_kept() {
        for query in [
            "1 + 1",
            "time()",
            "a @ start()",
            "rate(a[5m] @ end())",
            "a + end()",
            "a * range()",
            "info(a)",
            "limitk(2, a)",
            "limit_ratio(0.5, a)",
            "rate({job=\"x\"}[5m])",
            "max_over_time((a or b)[5m:1m])",
            "-(a or b)",
        ] {
            assert_eq!(reach(query), None, "{query}");
        }
    }
}
