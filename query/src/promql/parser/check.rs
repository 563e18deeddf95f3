//! The type check: what may be an argument of what. Binary operators are checked while they are
//! parsed.

use super::*;

/// Checks a whole tree.
pub(super) fn check(query: &str, expr: &Expr) -> Result<(), ParseError> {
    on_enough_stack(|| check_level(query, expr))
}

fn check_level(query: &str, expr: &Expr) -> Result<(), ParseError> {
    let error = |pos: PosRange, message: String| Err(ParseError::new(query, pos, message));
    let expect = |arg: &Expr, want: ValueType, context: &str| {
        let got = arg.value_type();
        if got == want {
            return Ok(());
        }
        let (want, got) = (want.documented(), got.documented());
        error(
            arg.pos(),
            format!("expected type {want} in {context}, got {got}"),
        )
    };
    match expr {
        Expr::Vector(selector) => return check_selector(query, selector),
        Expr::Matrix(matrix) => return check_selector(query, &matrix.selector),
        Expr::Aggregate(e) => {
            check(query, &e.expr)?;
            expect(&e.expr, ValueType::Vector, "aggregation expression")?;
            if let (Some(param), Some(want)) = (&e.param, e.op.parameter()) {
                check(query, param)?;
                expect(param, want, "aggregation parameter")?;
            }
            return Ok(());
        }
        Expr::Call(call) => return check_call(query, call),
        Expr::Unary(e) => {
            check(query, &e.expr)?;
            let got = e.expr.value_type();
            if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar \
                     or instant vector, got {:?}",
                    got.documented()
                );
                return error(e.pos, message);
            }
            return Ok(());
        }
        Expr::Subquery(e) => {
            check(query, &e.expr)?;
            let got = e.expr.value_type();
            if got != ValueType::Vector {
                let got = got.as_str();
                let message =
                    format!("subquery is only allowed on instant vector, got {got} instead");
                return error(e.pos, message);
            }
            return Ok(());
        }
        Expr::Number(_) | Expr::String(_) | Expr::Binary(_) | Expr::Paren(_) => {}
    }
    expr.children()
        .into_iter()
        .try_for_each(|child| check(query, child))
}

fn check_call(query: &str, call: &Call) -> Result<(), ParseError> {
    let func = call.func;
    let name = func.name;
    let error = |pos: PosRange, message: String| Err(ParseError::new(query, pos, message));
    let (types, got) = (func.arg_types, call.args.len());
    let all = types.len();
    if func.variadic == 0 {
        if got != all {
            let message = format!("expected {all} argument(s) in call to {name:?}, got {got}");
            return error(call.pos, message);
        }
    } else {
        let least = all.saturating_sub(1);
        let most = usize::try_from(func.variadic).map(|extra| least + extra);
        if got < least {
            let message =
                format!("expected at least {least} argument(s) in call to {name:?}, got {got}");
            return error(call.pos, message);
        }
        if let Ok(most) = most
            && got > most
        {
            let message =
                format!("expected at most {most} argument(s) in call to {name:?}, got {got}");
            return error(call.pos, message);
        }
    }
    for (i, arg) in call.args.iter().enumerate() {
        let Some(want) = types.get(i).or(types.last()) else {
            continue;
        };
        if name == "info" && i == 1 {
            match arg {
                // This one may match everything: it restricts the info metrics.
                Expr::Vector(selector) if selector.name.is_none() => continue,
                Expr::Vector(selector) => {
                    let message = "expected label selectors only, got vector selector instead";
                    return error(selector.pos, message.to_owned());
                }
                other if other.value_type() == ValueType::Vector => {
                    return error(arg.pos(), "expected label selectors only".to_owned());
                }
                _ => {}
            }
        }
        check(query, arg)?;
        let got = arg.value_type();
        if got != *want {
            let (want, got) = (want.documented(), got.documented());
            let message = format!("expected type {want} in call to function {name:?}, got {got}");
            return error(arg.pos(), message);
        }
    }
    Ok(())
}

/// A selector must name its metric once, and must not select everything.
pub(super) fn check_selector(query: &str, selector: &VectorSelector) -> Result<(), ParseError> {
    if let Some(name) = &selector.name {
        let others = selector.matchers.len().saturating_sub(1);
        let twice = selector
            .matchers
            .iter()
            .take(others)
            .find(|m| m.name == METRIC_NAME);
        if let Some(matcher) = twice {
            let value = &matcher.value;
            let message = format!("metric name must not be set twice: {name:?} or {value:?}");
            return Err(ParseError::new(query, selector.pos, message));
        }
        return Ok(());
    }
    if selector.matchers.iter().any(refuses_empty) {
        return Ok(());
    }
    let message = "vector selector must contain at least one non-empty matcher";
    Err(ParseError::new(query, selector.pos, message))
}

/// Whether the matcher does not match an absent label.
fn refuses_empty(matcher: &LabelMatcher) -> bool {
    if let Some(compiled) = &matcher.compiled {
        return !compiled.matches_missing();
    }
    match matcher.op {
        MatchOp::Equal => !matcher.value.is_empty(),
        MatchOp::NotEqual => matcher.value.is_empty(),
        // Not made by the parser.
        MatchOp::Regex | MatchOp::NotRegex => false,
    }
}
