//! `format_query`: a query over several lines where it is too long for one.
//!
//! An expression whose text fits stays on its line; otherwise its parts go on lines of their own, two
//! blanks deeper.

use std::fmt::Write;

use super::ast::{Expr, Grouping, LogExpr, LogRange, MetricExpr, RangeAggregation};
use super::display::{Operator, Selector};
use super::units::{GoQuoted, plain_float, prometheus_duration};

/// The longest text that stays on one line.
const LINE_CHARS_MAX: usize = 100;

/// The query as people like to read it.
pub fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(log) => pretty_log(log, 0),
        Expr::Metric(metric) => pretty_metric(metric, 0),
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn is_long(text: &str) -> bool {
    text.len() > LINE_CHARS_MAX
}

fn pretty_log(log: &LogExpr, level: usize) -> String {
    let text = log.to_string();
    if !is_long(&text) || log.stages.is_empty() {
        return indent(level) + &text;
    }
    let mut out = format!("{}{}", indent(level), Selector(&log.matchers));
    for stage in &log.stages {
        let _ = write!(out, "\n{}{stage}", indent(level + 1));
    }
    out
}

fn pretty_range(range: &LogRange, level: usize) -> String {
    let mut out = pretty_log(&range.log, level);
    if let Some(unwrap) = &range.unwrap {
        let _ = write!(out, "\n{}{unwrap}", indent(level + 1));
    }
    let _ = write!(out, " [{}]", prometheus_duration(range.range_ns));
    let _ = range.fmt_offset(&mut out);
    out
}

fn pretty_grouping(grouping: Option<&Grouping>) -> String {
    grouping.map_or_else(String::new, |g| {
        let word = if g.without { "without" } else { "by" };
        format!(" {word} ({})", g.labels.join(", "))
    })
}

fn pretty_aggregation(e: &RangeAggregation, level: usize) -> String {
    let mut out = format!("{}{}(\n", indent(level), e.op.as_str());
    if let Some(param) = e.param {
        let _ = writeln!(out, "{}{},", indent(level + 1), plain_float(param));
    }
    out += &pretty_range(&e.range, level + 1);
    let grouping = pretty_grouping(e.grouping.as_ref());
    let _ = write!(out, "\n{}){grouping}", indent(level));
    out
}

fn pretty_metric(expr: &MetricExpr, level: usize) -> String {
    let text = expr.to_string();
    if !is_long(&text) {
        return indent(level) + &text;
    }
    let list = |head: String, parts: Vec<String>| {
        format!(
            "{}{head}(\n{}\n{})",
            indent(level),
            parts.join(",\n"),
            indent(level)
        )
    };
    match expr {
        MetricExpr::Range(e) => pretty_aggregation(e, level),
        MetricExpr::Vector(e) => {
            let grouping = pretty_grouping(e.grouping.as_ref());
            let mut parts = Vec::new();
            if let Some(k) = e.k {
                parts.push(format!("{}{k}", indent(level + 1)));
            }
            parts.push(pretty_metric(&e.expr, level + 1));
            list(format!("{}{grouping}", e.op.as_str()), parts)
        }
        MetricExpr::Binary(e) => {
            let (left, right) = (
                pretty_metric(&e.left, level + 1),
                pretty_metric(&e.right, level + 1),
            );
            let inner = format!("{left}\n{}{}\n{right}", indent(level), Operator(e));
            if level == 0 {
                inner
            } else {
                // Parentheses keep the operand what it is below another operator.
                format!("{}(\n{inner}\n{})", indent(level), indent(level))
            }
        }
        MetricExpr::LabelReplace(e) => {
            let text = |text: &str| format!("{}{}", indent(level + 1), GoQuoted(text));
            let parts = vec![
                pretty_metric(&e.expr, level + 1),
                text(&e.destination),
                text(&e.replacement),
                text(&e.source),
                text(&e.regex),
            ];
            list("label_replace".to_owned(), parts)
        }
        MetricExpr::Literal(_) | MetricExpr::VectorOf(_) => indent(level) + &text,
    }
}
