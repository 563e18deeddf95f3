//! The syntax tree of `/api/v1/parse_query`, in the shape that Grafana and Prometheus' own pages read.
//!
//! Times are milliseconds; what a query does not have is `null`; lists are never `null`.

use chronolith_query::promql::ast::{
    At, Binary, Call, DurationExpr, DurationKind, Expr, Extension, LabelMatcher, MatrixSelector,
    Subquery, VectorSelector,
};
use chronolith_query::promql::display::FloatText;
use serde_json::{Value, json};

/// The tree of a parsed query. The parser bounds its height, so recursion is safe.
#[must_use]
pub fn syntax_tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({
            "type": "numberLiteral",
            "val": FloatText(number.value).to_string(),
        }),
        Expr::String(string) => json!({ "type": "stringLiteral", "val": string.value }),
        Expr::Vector(selector) => vector_selector(selector),
        Expr::Matrix(selector) => matrix_selector(selector),
        Expr::Subquery(subquery) => self::subquery(subquery),
        Expr::Call(call) => self::call(call),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": syntax_tree(&aggregate.expr),
            "param": aggregate.param.as_deref().map(syntax_tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Binary(binary) => self::binary(binary),
        Expr::Unary(unary) => json!({
            "type": "unaryExpr",
            "op": if unary.negate { "-" } else { "+" },
            "expr": syntax_tree(&unary.expr),
        }),
        Expr::Paren(paren) => json!({ "type": "parenExpr", "expr": syntax_tree(&paren.expr) }),
    }
}

fn binary(binary: &Binary) -> Value {
    let fill = |value: Option<f64>| value.map(|value| FloatText(value).to_string());
    let matching = binary.matching.as_ref().map(|matching| {
        json!({
            "card": matching.card.as_str(),
            "labels": matching.matching_labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": { "lhs": fill(matching.fill_lhs), "rhs": fill(matching.fill_rhs) },
        })
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": syntax_tree(&binary.lhs),
        "rhs": syntax_tree(&binary.rhs),
        "matching": matching,
        "bool": binary.return_bool,
    })
}

fn call(call: &Call) -> Value {
    let arg_types: Vec<&str> = call.func.arg_types.iter().map(|t| t.as_str()).collect();
    let args: Vec<Value> = call.args.iter().map(syntax_tree).collect();
    json!({
        "type": "call",
        "func": {
            "name": call.func.name,
            "argTypes": arg_types,
            "variadic": call.func.variadic,
            "returnType": call.func.return_type.as_str(),
        },
        "args": args,
    })
}

fn vector_selector(selector: &VectorSelector) -> Value {
    json!({
        "type": "vectorSelector",
        "name": selector.name.as_deref().unwrap_or(""),
        "matchers": matchers(&selector.matchers),
        "offset": selector.offset_ms,
        "offsetExpr": duration(selector.offset_expr.as_deref()),
        "timestamp": timestamp(selector.at),
        "startOrEnd": start_or_end(selector.at),
        "anchored": selector.extension == Extension::Anchored,
        "smoothed": selector.extension == Extension::Smoothed,
    })
}

fn matrix_selector(matrix: &MatrixSelector) -> Value {
    let mut tree = vector_selector(&matrix.selector);
    tree["type"] = "matrixSelector".into();
    tree["range"] = matrix.range_ms.into();
    tree["rangeExpr"] = duration(matrix.range_expr.as_deref());
    tree
}

fn subquery(subquery: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": syntax_tree(&subquery.expr),
        "range": subquery.range_ms,
        "rangeExpr": duration(subquery.range_expr.as_deref()),
        "step": subquery.step_ms,
        "stepExpr": duration(subquery.step_expr.as_deref()),
        "offset": subquery.offset_ms,
        "offsetExpr": duration(subquery.offset_expr.as_deref()),
        "timestamp": timestamp(subquery.at),
        "startOrEnd": start_or_end(subquery.at),
    })
}

fn matchers(matchers: &[LabelMatcher]) -> Vec<Value> {
    let tree = |matcher: &LabelMatcher| json!({ "name": matcher.name, "value": matcher.value, "type": matcher.op.as_str() });
    matchers.iter().map(tree).collect()
}

fn timestamp(at: Option<At>) -> Value {
    match at {
        Some(At::Time(time_ms)) => time_ms.into(),
        Some(At::Start | At::End) | None => Value::Null,
    }
}

fn start_or_end(at: Option<At>) -> Value {
    match at {
        Some(At::Start) => "start".into(),
        Some(At::End) => "end".into(),
        Some(At::Time(_)) | None => Value::Null,
    }
}

fn duration(expr: Option<&DurationExpr>) -> Value {
    let Some(expr) = expr else {
        return Value::Null;
    };
    let node = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>, wrapped: bool| {
        json!({
            "type": "durationExpr",
            "op": op,
            "lhs": duration(lhs),
            "rhs": duration(rhs),
            "wrapped": wrapped,
        })
    };
    match &expr.kind {
        DurationKind::Literal { seconds, .. } => json!({
            "type": "numberLiteral",
            "val": FloatText(*seconds).to_string(),
        }),
        DurationKind::Step => node("step", None, None, false),
        DurationKind::Range => node("range", None, None, false),
        DurationKind::MinOf(a, b) => node("min_of", Some(a), Some(b), false),
        DurationKind::MaxOf(a, b) => node("max_of", Some(a), Some(b), false),
        DurationKind::Neg(a) => node("-", None, Some(a), false),
        DurationKind::Pos(a) => node("+", None, Some(a), false),
        DurationKind::Binary(op, a, b) => node(op.as_str(), Some(a), Some(b), false),
        DurationKind::Paren(a) => {
            let mut inner = duration(Some(a));
            inner["wrapped"] = true.into();
            inner
        }
    }
}

#[cfg(test)]
mod tests {
    use chronolith_query::promql::features::Features;
    use chronolith_query::promql::parser::parse;

    use super::*;

    fn tree(text: &str) -> Value {
        syntax_tree(&parse(text, &Features::conformance()).unwrap())
    }

    #[test]
    fn selectors_tell_name_matchers_and_modifiers() {
        let got = tree("up{job=~\"a.*\"}[5m] offset 1m @ 12.5");
        assert_eq!(got["type"], "matrixSelector");
        assert_eq!(
            (
                &got["name"],
                &got["range"],
                &got["offset"],
                &got["timestamp"]
            ),
            (
                &json!("up"),
                &json!(300_000),
                &json!(60_000),
                &json!(12_500)
            )
        );
        let matchers = got["matchers"].as_array().unwrap();
        assert!(matchers.contains(&json!({"name": "job", "value": "a.*", "type": "=~"})));
        assert!(matchers.contains(&json!({"name": "__name__", "value": "up", "type": "="})));
        let got = tree("up[step() + 5m] @ end()");
        assert_eq!(got["startOrEnd"], "end");
        assert_eq!(got["rangeExpr"]["op"], "+");
        assert_eq!(got["rangeExpr"]["rhs"]["val"], "300");
    }

    #[test]
    fn operators_tell_how_vectors_match() {
        let got = tree("a / on (x) group_left (y) fill_right (0) b");
        assert_eq!(
            got["matching"],
            json!({"card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                "fillValues": {"lhs": null, "rhs": "0"}})
        );
        assert_eq!(tree("1 + 2")["matching"], Value::Null);
        let got = tree("topk without (job) (3, rate(a[1m]))");
        assert_eq!(got["param"]["val"], "3");
        assert_eq!(got["expr"]["func"]["argTypes"], json!(["matrix"]));
        assert_eq!(
            (&got["without"], &got["grouping"]),
            (&json!(true), &json!(["job"]))
        );
    }
}
