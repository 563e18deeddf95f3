//! Turns SQL filters into what the engine's scan understands: a time range and label matchers.
//!
//! A column that stands for a label is NULL where the series lacks it, while a matcher sees the
//! empty string there. Filters for which that makes a difference are pushed down only as far as
//! they keep every row (*inexact*), and DataFusion applies them again.

use chronolith_engine::model::{METRIC_NAME, TimeRange, TimestampNs};
use chronolith_engine::{MatchOp, Matcher};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};

/// What a conjunction of filters asks of a scan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pushed {
    /// Rows outside this range are not wanted.
    pub(crate) range: TimeRange,
    /// Series that fail one of these are not wanted.
    pub(crate) matchers: Vec<Matcher>,
}

impl Default for Pushed {
    fn default() -> Self {
        Self {
            range: TimeRange::ALL,
            matchers: Vec::new(),
        }
    }
}

/// What a column means to the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<'a> {
    Time,
    Label(&'a str),
}

/// Which columns stand for labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnRule {
    /// Long form: `metric` is the name, `labels['x']` a label.
    Long,
    /// A table of one metric: each column but `time` and `value` is a label.
    PerMetric,
}

/// Collects what can be pushed of `filters`, which are joined by AND.
pub(crate) fn collect<'a>(filters: impl IntoIterator<Item = &'a Expr>, rule: ColumnRule) -> Pushed {
    let mut pushed = Pushed::default();
    for filter in filters {
        push(filter, rule, &mut pushed);
    }
    pushed
}

/// How well one filter can be pushed down.
pub(crate) fn support(filter: &Expr, rule: ColumnRule) -> TableProviderFilterPushDown {
    push(filter, rule, &mut Pushed::default())
}

fn push(filter: &Expr, rule: ColumnRule, pushed: &mut Pushed) -> TableProviderFilterPushDown {
    use TableProviderFilterPushDown::{Exact, Inexact, Unsupported};
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => match (push(left, rule, pushed), push(right, rule, pushed)) {
            (Exact, Exact) => Exact,
            (Unsupported, Unsupported) => Unsupported,
            _ => Inexact,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let (Some(target), Some(value)) = (target(left, rule), literal(right)) {
                push_comparison(target, *op, value, pushed)
            } else if let (Some(value), Some(target), Some(op)) =
                (literal(left), target(right, rule), op.swap())
            {
                push_comparison(target, op, value, pushed)
            } else {
                Unsupported
            }
        }
        Expr::Between(between) if !between.negated => {
            match (
                target(&between.expr, rule),
                literal(&between.low),
                literal(&between.high),
            ) {
                (Some(target @ Target::Time), Some(low), Some(high)) => {
                    push_comparison(target, Operator::GtEq, low, pushed);
                    push_comparison(target, Operator::LtEq, high, pushed)
                }
                _ => Unsupported,
            }
        }
        Expr::InList(list) => push_in_list(list, rule, pushed),
        Expr::Like(like) => push_like(like, rule, pushed),
        Expr::IsNotNull(inner) => match target(inner, rule) {
            Some(Target::Label(name)) => push_matcher(name, MatchOp::NotEqual, "", pushed, Exact),
            _ => Unsupported,
        },
        _ => Unsupported,
    }
}

fn push_comparison(
    target: Target<'_>,
    op: Operator,
    value: &ScalarValue,
    pushed: &mut Pushed,
) -> TableProviderFilterPushDown {
    use TableProviderFilterPushDown::{Exact, Inexact, Unsupported};
    match target {
        Target::Time => {
            let ScalarValue::TimestampNanosecond(Some(time), _) = value else {
                return Unsupported;
            };
            let wanted = match op {
                Operator::Eq => Some(TimeRange::new(*time, *time)),
                Operator::GtEq => Some(TimeRange::new(*time, i64::MAX)),
                Operator::LtEq => Some(TimeRange::new(i64::MIN, *time)),
                Operator::Gt => time.checked_add(1).map(|t| TimeRange::new(t, i64::MAX)),
                Operator::Lt => time.checked_sub(1).map(|t| TimeRange::new(i64::MIN, t)),
                _ => return Unsupported,
            };
            let nothing = TimeRange {
                start: TimestampNs::MAX,
                end: TimestampNs::MIN,
            };
            pushed.range = pushed.range.intersect(wanted.unwrap_or(nothing));
            Exact
        }
        Target::Label(name) => {
            let Some(text) = text(value) else {
                return Unsupported;
            };
            match op {
                Operator::Eq if !text.is_empty() => {
                    push_matcher(name, MatchOp::Equal, text, pushed, Exact)
                }
                Operator::NotEq => push_matcher(name, MatchOp::NotEqual, text, pushed, Inexact),
                Operator::RegexMatch => push_pattern(name, &search(text), pushed),
                Operator::RegexIMatch => {
                    push_pattern(name, &search(&format!("(?i:{text})")), pushed)
                }
                _ => Unsupported,
            }
        }
    }
}

fn push_in_list(
    list: &InList,
    rule: ColumnRule,
    pushed: &mut Pushed,
) -> TableProviderFilterPushDown {
    use TableProviderFilterPushDown::{Exact, Unsupported};
    let Some(Target::Label(name)) = target(&list.expr, rule) else {
        return Unsupported;
    };
    let values: Option<Vec<&str>> = list.list.iter().map(|e| text(literal(e)?)).collect();
    match values {
        Some(values) if !list.negated && values.iter().all(|v| !v.is_empty()) => {
            let pattern = values
                .iter()
                .map(|v| regex::escape(v))
                .collect::<Vec<_>>()
                .join("|");
            push_matcher(name, MatchOp::Regex, &pattern, pushed, Exact)
        }
        _ => Unsupported,
    }
}

fn push_like(like: &Like, rule: ColumnRule, pushed: &mut Pushed) -> TableProviderFilterPushDown {
    use TableProviderFilterPushDown::Unsupported;
    let Some(Target::Label(name)) = target(&like.expr, rule) else {
        return Unsupported;
    };
    let Some(pattern) = literal(&like.pattern).and_then(text) else {
        return Unsupported;
    };
    if like.negated || like.escape_char.is_some() || pattern.contains('\\') {
        return Unsupported;
    }
    let mut anchored = String::new();
    for character in pattern.chars() {
        match character {
            '%' => anchored.push_str(".*"),
            '_' => anchored.push('.'),
            other => anchored.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    let anchored = if like.case_insensitive {
        format!("(?i:{anchored})")
    } else {
        anchored
    };
    push_pattern(name, &anchored, pushed)
}

/// SQL's `~` finds its pattern anywhere; a matcher's pattern is anchored at both ends.
fn search(pattern: &str) -> String {
    format!("(?s:.*)(?-s:{pattern})(?s:.*)")
}

fn push_pattern(name: &str, pattern: &str, pushed: &mut Pushed) -> TableProviderFilterPushDown {
    push_matcher(
        name,
        MatchOp::Regex,
        pattern,
        pushed,
        TableProviderFilterPushDown::Inexact,
    )
}

fn push_matcher(
    name: &str,
    op: MatchOp,
    value: &str,
    pushed: &mut Pushed,
    support: TableProviderFilterPushDown,
) -> TableProviderFilterPushDown {
    match Matcher::new(name, op, value) {
        Ok(matcher) => {
            pushed.matchers.push(matcher);
            support
        }
        // DataFusion will refuse the pattern in its own words, or knows a dialect that we don't.
        Err(_) => TableProviderFilterPushDown::Unsupported,
    }
}

fn target<'a>(expr: &'a Expr, rule: ColumnRule) -> Option<Target<'a>> {
    match expr {
        Expr::Column(column) => match (rule, column.name.as_str()) {
            (_, "time") => Some(Target::Time),
            (ColumnRule::Long, "metric") => Some(Target::Label(METRIC_NAME)),
            (ColumnRule::Long, _) | (ColumnRule::PerMetric, "value") => None,
            (ColumnRule::PerMetric, name) => Some(Target::Label(label_of_column(name))),
        },
        Expr::ScalarFunction(call) if rule == ColumnRule::Long && call.name() == "get_field" => {
            match call.args.as_slice() {
                [Expr::Column(column), key] if column.name == "labels" => {
                    Some(Target::Label(text(literal(key)?)?))
                }
                _ => None,
            }
        }
        Expr::Cast(cast) => target_through_text_cast(&cast.expr, cast.field.data_type(), rule),
        Expr::TryCast(cast) => target_through_text_cast(&cast.expr, cast.field.data_type(), rule),
        _ => None,
    }
}

/// A cast between kinds of text keeps a label what it is; any other cast does not.
fn target_through_text_cast<'a>(
    inner: &'a Expr,
    to: &arrow::datatypes::DataType,
    rule: ColumnRule,
) -> Option<Target<'a>> {
    use arrow::datatypes::DataType;
    match (to, target(inner, rule)) {
        (
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
            found @ Some(Target::Label(_)),
        ) => found,
        _ => None,
    }
}

/// Labels whose names are taken by fixed columns get a prefix as columns.
pub(crate) fn column_of_label(label: &str) -> String {
    match label {
        "time" | "value" => format!("label_{label}"),
        other => other.to_owned(),
    }
}

/// The reverse of [`column_of_label`].
pub(crate) fn label_of_column(column: &str) -> &str {
    match column {
        "label_time" => "time",
        "label_value" => "value",
        other => other,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => Some(text),
        ScalarValue::Dictionary(_, inner) => self::text(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    fn time(nanos: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(
            Some(nanos),
            Some("UTC".into()),
        ))
    }

    #[test]
    fn time_bounds_meet() {
        let filters = [col("time").gt_eq(time(10)), time(20).gt(col("time"))];
        assert_eq!(
            collect(&filters, ColumnRule::Long).range,
            TimeRange::new(10, 19)
        );
        let both = col("time")
            .between(time(1), time(5))
            .and(col("time").lt_eq(time(3)));
        assert_eq!(
            collect([&both], ColumnRule::Long).range,
            TimeRange::new(1, 3)
        );
        assert!(
            collect([&col("time").lt(time(i64::MIN))], ColumnRule::Long)
                .range
                .is_empty()
        );
    }

    #[test]
    fn labels_become_matchers_with_the_right_exactness() {
        use TableProviderFilterPushDown::{Exact, Inexact, Unsupported};
        let rule = ColumnRule::PerMetric;
        assert_eq!(support(&col("job").eq(lit("a")), rule), Exact);
        assert_eq!(support(&col("job").eq(lit("")), rule), Unsupported);
        assert_eq!(support(&col("job").not_eq(lit("a")), rule), Inexact);
        assert_eq!(support(&col("job").like(lit("a%b_")), rule), Inexact);
        assert_eq!(support(&col("value").gt(lit(1.0)), rule), Unsupported);
        let list = col("job").in_list(vec![lit("a.b"), lit("c")], false);
        let pushed = collect([&list], rule);
        assert!(pushed.matchers[0].matches("a.b") && !pushed.matchers[0].matches("axb"));
        let metric = collect([&col("metric").eq(lit("up"))], ColumnRule::Long);
        assert_eq!(metric.matchers, vec![Matcher::equal(METRIC_NAME, "up")]);
    }
}
