//! Freezing a query in time: the same answer must come out whenever it is evaluated.

use crate::promql::ast::{At, Expr};

/// Functions whose value depends on the evaluation time itself.
const UNSAFE: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "end",
    "range",
    "start",
    "step",
    "time",
    "predict_linear",
    "timestamp",
];

/// Whether the answer of the frozen query may still depend on the evaluation time.
pub(super) fn depends_on_time(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => false,
        Expr::Call(call) if UNSAFE.contains(&call.func.name) => true,
        _ => expr.children().into_iter().any(depends_on_time),
    }
}

/// Gives every selector and every outermost subquery that has no time of its own `@ time_ms`. What
/// is inside a subquery is left alone. `@ start()` and `@ end()` are the evaluation time here.
pub(super) fn freeze(expr: &mut Expr, time_ms: i64) {
    let set = |at: &mut Option<At>| match at {
        Some(At::Time(_)) => {}
        None | Some(At::Start | At::End) => *at = Some(At::Time(time_ms)),
    };
    match expr {
        Expr::Vector(selector) => set(&mut selector.at),
        Expr::Matrix(matrix) => set(&mut matrix.selector.at),
        Expr::Subquery(subquery) => {
            set(&mut subquery.at);
            return;
        }
        _ => {}
    }
    for child in expr.children_mut() {
        freeze(child, time_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::features::Features;
    use crate::promql::parser::parse;

    #[test]
    fn selectors_and_outer_subqueries_are_frozen() {
        let cases = [
            ("a + rate(b[5m] @ 7)", "a @ 10.000 + rate(b[5m] @ 7.000)"),
            (
                "sum_over_time(rate(a[1m])[5m:])",
                "sum_over_time(rate(a[1m])[5m:] @ 10.000)",
            ),
            ("a @ end()", "a @ 10.000"),
        ];
        for (query, want) in cases {
            let mut expr = parse(query, &Features::default()).unwrap();
            freeze(&mut expr, 10_000);
            assert_eq!(expr.to_string(), want);
        }
        let depends = |query: &str| depends_on_time(&parse(query, &Features::default()).unwrap());
        assert!(depends("a + time()") && !depends("max_over_time(vector(time())[5m:])"));
    }
}
