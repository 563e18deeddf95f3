//! An expression over several lines, as Prometheus' `format_query` lays it out: what fits into a line
//! of [`LINE_CHARS_MAX`] characters stays on it, the rest is opened at its parentheses and operators.
//!
//! Source of the layout: Prometheus' PromQL formatter (`promql/parser/prettier.md` describes it).

use super::ast::{Aggregate, Binary, Call, Expr, Subquery};

/// Longer expressions are split.
const LINE_CHARS_MAX: usize = 100;
const INDENT: &str = "  ";

/// The text of an expression, without a line break at its end.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(&mut out, expr, 0);
    out
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str(INDENT);
    }
}

/// Writes the expression with `level` indents before its first line.
fn write(out: &mut String, expr: &Expr, level: usize) {
    let line = expr.to_string();
    let is_short = line.chars().count() <= LINE_CHARS_MAX;
    match expr {
        Expr::Aggregate(aggregate) if !is_short => write_aggregate(out, aggregate, level),
        Expr::Binary(binary) if !is_short => write_binary(out, binary, level),
        Expr::Call(call) if !is_short => write_call(out, call, level),
        Expr::Subquery(subquery) if !is_short => write_subquery(out, subquery, level),
        Expr::Paren(paren) if !is_short => {
            indent(out, level);
            out.push_str("(\n");
            write(out, &paren.expr, level + 1);
            close(out, level);
        }
        Expr::Unary(unary) => {
            indent(out, level);
            out.push(if unary.negate { '-' } else { '+' });
            let mut operand = String::new();
            write(&mut operand, &unary.expr, level);
            out.push_str(operand.trim_start());
        }
        _ => {
            indent(out, level);
            out.push_str(&line);
        }
    }
}

fn close(out: &mut String, level: usize) {
    out.push('\n');
    indent(out, level);
    out.push(')');
}

fn write_aggregate(out: &mut String, aggregate: &Aggregate, level: usize) {
    indent(out, level);
    out.push_str(&aggregate.head().to_string());
    out.push_str("(\n");
    if let Some(param) = &aggregate.param {
        write(out, param, level + 1);
        out.push_str(",\n");
    }
    write(out, &aggregate.expr, level + 1);
    close(out, level);
}

fn write_binary(out: &mut String, binary: &Binary, level: usize) {
    write(out, &binary.lhs, level + 1);
    out.push('\n');
    indent(out, level);
    out.push_str(binary.op.as_str());
    if binary.return_bool {
        out.push_str(" bool");
    }
    if let Some(matching) = &binary.matching {
        out.push_str(&matching.to_string());
    }
    out.push('\n');
    write(out, &binary.rhs, level + 1);
}

fn write_call(out: &mut String, call: &Call, level: usize) {
    indent(out, level);
    out.push_str(call.func.name);
    out.push_str("(\n");
    for (index, argument) in call.args.iter().enumerate() {
        if index > 0 {
            out.push_str(",\n");
        }
        write(out, argument, level + 1);
    }
    close(out, level);
}

fn write_subquery(out: &mut String, subquery: &Subquery, level: usize) {
    write(out, &subquery.expr, level);
    out.push_str(&subquery.tail().to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::features::Features;
    use crate::promql::parser::parse;

    fn formatted(text: &str) -> String {
        let expr = parse(text, &Features::default()).unwrap();
        let pretty = pretty(&expr);
        // Whatever the layout, the query is the same.
        let again = parse(&pretty, &Features::default()).unwrap();
        assert_eq!(again.to_string(), expr.to_string());
        pretty
    }

    #[test]
    fn short_queries_stay_on_a_line() {
        assert_eq!(formatted("sum(  up )by(job)"), "sum by (job) (up)");
        assert_eq!(formatted("-up"), "-up");
    }

    #[test]
    fn long_queries_are_opened() {
        let long = "a".repeat(60);
        assert_eq!(
            formatted(&format!(
                "sum by (job) ({long} + on (x) group_left (y) {long})"
            )),
            format!("sum by (job) (\n    {long}\n  + on (x) group_left (y)\n    {long}\n)")
        );
        assert_eq!(
            formatted(&format!(
                "topk(5, rate({long}[5m])) / (abs({long}) + {long})"
            )),
            format!(
                "  topk(5, rate({long}[5m]))\n/\n  (\n      abs({long})\n    +\n      {long}\n  )"
            )
        );
        assert_eq!(
            formatted(&format!("clamp_max({long} * {long}, 5)")),
            format!("clamp_max(\n    {long}\n  *\n    {long},\n  5\n)")
        );
        assert_eq!(
            formatted(&format!(
                "-max_over_time(({long} - {long})[1h:5m] offset 1d)"
            )),
            format!(
                "-max_over_time(\n  (\n      {long}\n    -\n      {long}\n  )[1h:5m] offset 1d\n)"
            )
        );
    }
}
