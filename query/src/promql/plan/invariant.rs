//! Which expressions have the same value at every step, and which are plain numbers.

use crate::promql::ast::Expr;
use crate::promql::functions::binary;

/// Functions whose value depends on the step, whatever their arguments.
fn depends_on_step(name: &str) -> bool {
    matches!(
        name,
        "time"
            | "timestamp"
            | "predict_linear"
            | "days_in_month"
            | "day_of_month"
            | "day_of_week"
            | "day_of_year"
            | "hour"
            | "minute"
            | "month"
            | "year"
    )
}

/// Whether the value is the same at every step: all selectors and subqueries are pinned by `@`, and
/// no function looks at the time.
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => selector.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Paren(paren) => is_invariant(&paren.expr),
        Expr::Unary(unary) => is_invariant(&unary.expr),
        Expr::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        // As in Prometheus, the parameter is not looked at: its first value holds for all steps.
        Expr::Aggregate(aggregate) => is_invariant(&aggregate.expr),
        Expr::Call(call) => !depends_on_step(call.func.name) && call.args.iter().all(is_invariant),
    }
}

/// The value of an expression made of literals.
pub(super) fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Number(number) => Some(number.value),
        Expr::Paren(paren) => constant(&paren.expr),
        Expr::Unary(unary) => {
            constant(&unary.expr).map(|value| if unary.negate { -value } else { value })
        }
        Expr::Binary(e) => {
            let (left, right) = (constant(&e.lhs)?, constant(&e.rhs)?);
            Some(binary::scalars(e.op, left, right))
        }
        _ => None,
    }
}
