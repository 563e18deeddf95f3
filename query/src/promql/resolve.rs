//! What of a query depends on its start, end and step: duration expressions, `@ start()`,
//! `@ end()`, the default step of subqueries. A pure function from tree to tree.
//!
//! After it no node holds a duration expression, every `@` is a time, every window and subquery
//! step is above 0, and `anchored`/`smoothed` windows stand only in functions that know them.

use super::ast::*;

/// The bounds of the evaluation, ms since the epoch. An instant query has `start_ms == end_ms` and
/// step 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationRange {
    /// First evaluation time.
    pub start_ms: i64,
    /// Last evaluation time at most.
    pub end_ms: i64,
    /// Distance of evaluation times.
    pub step_ms: i64,
    /// Step of subqueries that name none; Prometheus' global evaluation interval.
    pub default_subquery_step_ms: i64,
}

/// Why a query that parses cannot be evaluated over a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    /// What is wrong, as Prometheus words it.
    pub message: String,
    /// The part of the query that it is about.
    pub pos: PosRange,
}

/// Functions whose windows may be `anchored`.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];

/// Functions whose windows may be `smoothed`.
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

/// Seconds beyond this do not fit Prometheus' durations.
const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

/// Resolves the whole tree.
pub fn resolve(mut expr: Expr, range: &EvaluationRange) -> Result<Expr, ResolveError> {
    resolve_in_place(&mut expr, range)?;
    Ok(expr)
}

fn resolve_in_place(expr: &mut Expr, range: &EvaluationRange) -> Result<(), ResolveError> {
    match expr {
        Expr::Vector(selector) => resolve_selector(selector, range)?,
        Expr::Matrix(matrix) => {
            resolve_selector(&mut matrix.selector, range)?;
            if let Some(expr) = matrix.range_expr.take() {
                matrix.range_ms = positive_ms(&expr, range)?;
            }
        }
        Expr::Subquery(subquery) => {
            if let Some(expr) = subquery.offset_expr.take() {
                subquery.offset_ms = milliseconds(&expr, range)?;
            }
            if let Some(expr) = subquery.step_expr.take() {
                subquery.step_ms = positive_ms(&expr, range)?;
            } else if subquery.step_ms == 0 {
                subquery.step_ms = range.default_subquery_step_ms.max(1);
            }
            if let Some(expr) = subquery.range_expr.take() {
                subquery.range_ms = positive_ms(&expr, range)?;
            }
            resolve_at(&mut subquery.at, range);
        }
        Expr::Call(call) => check_extensions(call)?,
        _ => {}
    }
    expr.children_mut()
        .into_iter()
        .try_for_each(|child| resolve_in_place(child, range))
}

fn resolve_selector(
    selector: &mut VectorSelector,
    range: &EvaluationRange,
) -> Result<(), ResolveError> {
    if let Some(expr) = selector.offset_expr.take() {
        selector.offset_ms = milliseconds(&expr, range)?;
    }
    resolve_at(&mut selector.at, range);
    Ok(())
}

fn resolve_at(at: &mut Option<At>, range: &EvaluationRange) {
    match at {
        Some(At::Start) => *at = Some(At::Time(range.start_ms)),
        Some(At::End) => *at = Some(At::Time(range.end_ms)),
        Some(At::Time(_)) | None => {}
    }
}

fn check_extensions(call: &Call) -> Result<(), ResolveError> {
    for arg in &call.args {
        let Expr::Matrix(matrix) = arg.unparen() else {
            continue;
        };
        let (name, functions) = match matrix.selector.extension {
            Extension::None => continue,
            Extension::Anchored => ("anchored", &ANCHORED[..]),
            Extension::Smoothed => ("smoothed", &SMOOTHED[..]),
        };
        let func = call.func.name;
        if !functions.contains(&func) {
            let functions = functions.join(", ");
            let message =
                format!("{name} modifier can only be used with: {functions} - not with {func}");
            return Err(ResolveError {
                message,
                pos: call.pos,
            });
        }
    }
    Ok(())
}

fn positive_ms(expr: &DurationExpr, range: &EvaluationRange) -> Result<i64, ResolveError> {
    let ms = milliseconds(expr, range)?;
    if ms <= 0 {
        let message = "duration must be greater than 0".to_owned();
        return Err(ResolveError {
            message,
            pos: expr.pos,
        });
    }
    Ok(ms)
}

/// The expression in ms, rounded.
fn milliseconds(expr: &DurationExpr, range: &EvaluationRange) -> Result<i64, ResolveError> {
    let seconds = seconds(expr, range)?;
    if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
        let message = "duration is out of range".to_owned();
        return Err(ResolveError {
            message,
            pos: expr.pos,
        });
    }
    Ok((seconds * 1000.0).round() as i64)
}

fn seconds(expr: &DurationExpr, range: &EvaluationRange) -> Result<f64, ResolveError> {
    let eval = |expr: &DurationExpr| seconds(expr, range);
    let fail = |message: &str| {
        Err(ResolveError {
            message: message.to_owned(),
            pos: expr.pos,
        })
    };
    Ok(match &expr.kind {
        DurationKind::Literal { seconds, .. } => *seconds,
        DurationKind::Step => range.step_ms as f64 / 1000.0,
        DurationKind::Range => range.end_ms.saturating_sub(range.start_ms) as f64 / 1000.0,
        DurationKind::MinOf(a, b) => eval(a)?.min(eval(b)?),
        DurationKind::MaxOf(a, b) => eval(a)?.max(eval(b)?),
        DurationKind::Neg(a) => -eval(a)?,
        DurationKind::Pos(a) | DurationKind::Paren(a) => eval(a)?,
        DurationKind::Binary(op, a, b) => {
            let (a, b) = (eval(a)?, eval(b)?);
            match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div if b == 0.0 => return fail("division by zero"),
                BinaryOp::Div => a / b,
                BinaryOp::Mod if b == 0.0 => return fail("modulo by zero"),
                BinaryOp::Mod => a % b,
                BinaryOp::Pow => a.powf(b),
                _ => return fail("unexpected operator in duration expression"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::features::Features;
    use super::super::parser::parse;
    use super::*;

    fn resolved(query: &str) -> Result<String, String> {
        let range = EvaluationRange {
            start_ms: 100_000,
            end_ms: 160_000,
            step_ms: 10_000,
            default_subquery_step_ms: 60_000,
        };
        let expr = parse(query, &Features::conformance()).map_err(|e| e.to_string())?;
        resolve(expr, &range)
            .map(|e| e.to_string())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn durations_and_times_become_plain() {
        let cases = [
            ("a[step()]", "a[10s]"),
            ("a[range() * 2 + 1ms]", "a[2m1ms]"),
            ("a offset -(min_of(step(), 2s) - 5)", "a offset 3s"),
            ("a offset (2 ^ 3 % 5)", "a offset 3s"),
            ("a @ start() + b @ end()", "a @ 100.000 + b @ 160.000"),
            ("a[1h:]", "a[1h:1m]"),
            (
                "a[max_of(1m, 1h):step() / 4] @ end()",
                "a[1h:2s500ms] @ 160.000",
            ),
        ];
        for (query, want) in cases {
            assert_eq!(resolved(query).as_deref(), Ok(want), "{query}");
        }
    }

    #[test]
    fn bad_durations_are_refused() {
        let cases = [
            ("a[step() - 1h]", "duration must be greater than 0"),
            ("a[1h / (step() - 10s)]", "division by zero"),
            ("a[5 % (step() - 10s)]", "modulo by zero"),
            ("a offset (10 ^ step() ^ 5)", "duration is out of range"),
            (
                "deriv(a[5m] smoothed)",
                "smoothed modifier can only be used with: delta, increase, rate - not with deriv",
            ),
        ];
        for (query, want) in cases {
            assert_eq!(resolved(query), Err(want.to_owned()), "{query}");
        }
    }
}
