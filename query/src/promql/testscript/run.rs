//! Runs the cases of a script: each one as it stands, frozen at other times, and as range queries.

use chronolith_engine::Store;

use super::compare::{compare, compare_annotations, compare_column};
use super::freeze::{depends_on_time, freeze};
use super::parse::{Case, CommandKind, Expected, ScriptError, When, parse_script};
use super::storage::Storage;
use crate::promql::ast::Expr;
use crate::promql::features::Features;
use crate::promql::parser::parse;
use crate::promql::result::Value;

/// What a query gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// Texts of the warnings, positions included.
    pub warnings: Vec<String>,
    /// Texts of the infos, positions included.
    pub infos: Vec<String>,
}

/// What evaluates the queries of a script over one store: the engine under test.
pub trait Evaluator {
    /// Evaluates `expr`, which was parsed from `query`, at `start_ms`, `start_ms + step_ms`, … up
    /// to `end_ms`; as an instant query at `start_ms` where `step_ms` is `None`.
    ///
    /// # Errors
    /// The text of the error, as a user sees it.
    fn evaluate(
        &self,
        query: &str,
        expr: Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: Option<i64>,
    ) -> Result<Answer, String>;
}

/// Makes an evaluator over a store; called again after each `clear`.
pub type EvaluatorFactory<'a> = &'a dyn Fn(&Store) -> Box<dyn Evaluator>;

/// A case that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of its `eval` command, from 1.
    pub line: usize,
    /// Which run failed, what was expected and what came.
    pub message: String,
    /// Whether already the plain run failed.
    pub plain: bool,
}

/// What came of a script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScriptReport {
    /// How many cases there are.
    pub cases: usize,
    /// Those that failed, in order of the script.
    pub failures: Vec<Failure>,
}

impl ScriptReport {
    /// How many cases passed their plain run.
    pub fn plain_passed(&self) -> usize {
        self.cases - self.failures.iter().filter(|f| f.plain).count()
    }

    /// How many cases passed all runs.
    pub fn passed(&self) -> usize {
        self.cases - self.failures.len()
    }
}

/// Runs a script on a fresh in-memory store.
///
/// # Errors
/// Text that is no script.
pub fn run_script(text: &str, over: EvaluatorFactory<'_>) -> Result<ScriptReport, ScriptError> {
    let commands = parse_script(text)?;
    let fresh = |line| Storage::new().map_err(|message| ScriptError { line, message });
    let mut storage = fresh(1)?;
    let mut evaluator = over(storage.store());
    // Why every case up to the next `clear` fails.
    let mut load_failure: Option<String> = None;
    let mut report = ScriptReport::default();
    for command in commands {
        match command.kind {
            CommandKind::Clear => {
                storage = fresh(command.line)?;
                evaluator = over(storage.store());
                load_failure = None;
            }
            CommandKind::Load(load) => {
                let loaded = load.and_then(|load| storage.load(&load));
                if let Err(message) = loaded {
                    load_failure.get_or_insert(format!("load of line {}: {message}", command.line));
                }
            }
            CommandKind::Eval(case) => {
                report.cases += 1;
                let outcome = match (&load_failure, case) {
                    (Some(message), _) => Err((message.clone(), true)),
                    (None, Err(message)) => Err((message, true)),
                    (None, Ok(case)) => run_case(&case, &*evaluator),
                };
                if let Err((message, plain)) = outcome {
                    report.failures.push(Failure {
                        line: command.line,
                        message,
                        plain,
                    });
                }
            }
        }
    }
    Ok(report)
}

/// Runs a case; the error is what went wrong, and whether it did so in the plain run.
fn run_case(case: &Case, evaluator: &dyn Evaluator) -> Result<(), (String, bool)> {
    let expr = match parse(&case.query, &Features::conformance()) {
        Ok(expr) => expr,
        Err(error) => {
            return check_failure(case, &error.to_string()).map_err(|message| (message, true));
        }
    };
    let evaluate = |expr: &Expr, start_ms, end_ms, step_ms| {
        evaluator.evaluate(&case.query, expr.clone(), start_ms, end_ms, step_ms)
    };
    let time_ms = match case.when {
        When::Range {
            start_ms,
            end_ms,
            step_ms,
        } => {
            let answer = evaluate(&expr, start_ms, end_ms, Some(step_ms));
            return check_answer(case, answer).map_err(|message| (message, true));
        }
        When::Instant { time_ms } => time_ms,
    };
    let plain = evaluate(&expr, time_ms, time_ms, None);
    check_answer(case, plain).map_err(|message| (message, true))?;
    let as_range = |expr: &Expr, time_ms: i64| {
        if !range_run_applies(case) {
            return Ok(());
        }
        let (start_ms, end_ms) = (time_ms - 60_000, time_ms + 60_000);
        match evaluate(expr, start_ms, end_ms, Some(60_000))?.value {
            Value::Matrix(series) => match &case.expected {
                Expected::Vector { ordered: true, .. } => Ok(()),
                expected => compare_column(expected, &series, time_ms),
            },
            other => Err(format!("expected a matrix, got a {}", other.type_name())),
        }
    };
    as_range(&expr, time_ms).map_err(|e| (format!("as range query: {e}"), false))?;
    if depends_on_time(&expr) {
        return Ok(());
    }
    let mut frozen = expr;
    freeze(&mut frozen, time_ms);
    let times = match time_ms {
        0 => vec![-1000, 0, 1000],
        t => vec![t.saturating_mul(-10), 0, t / 5, t, t.saturating_mul(10)],
    };
    for at_ms in times {
        check_answer(case, evaluate(&frozen, at_ms, at_ms, None))
            .map_err(|e| (format!("frozen, at {at_ms} ms: {e}"), false))?;
        as_range(&frozen, at_ms).map_err(|e| {
            (
                format!("frozen, as range query around {at_ms} ms: {e}"),
                false,
            )
        })?;
    }
    Ok(())
}

/// Whether the instant case is also run as a range query.
fn range_run_applies(case: &Case) -> bool {
    let mentions = |text: &str| case.query.contains(text);
    case.fail.is_none()
        && !case.instant_only
        && !["start()", "end()", "range()", "step()"]
            .into_iter()
            .any(mentions)
}

fn check_answer(case: &Case, answer: Result<Answer, String>) -> Result<(), String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(message) => return check_failure(case, &message),
    };
    if let Some(rule) = &case.fail {
        return Err(format!(
            "expected failure ({rule}), got a {}",
            answer.value.type_name()
        ));
    }
    compare(&case.expected, &answer.value)?;
    compare_annotations("warning", &case.warnings, &answer.warnings)?;
    compare_annotations("info", &case.infos, &answer.infos)
}

fn check_failure(case: &Case, message: &str) -> Result<(), String> {
    match &case.fail {
        None => Err(format!("expected an answer, got error: {message}")),
        Some(rule) if rule.accepts(message) => Ok(()),
        Some(rule) => Err(format!("expected failure {rule}, got {message:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::result::FloatPoint;

    /// Knows number literals only.
    struct Literals;

    impl Evaluator for Literals {
        fn evaluate(
            &self,
            _: &str,
            expr: Expr,
            start_ms: i64,
            _: i64,
            step_ms: Option<i64>,
        ) -> Result<Answer, String> {
            let Expr::Number(number) = expr else {
                return Err("not a number".to_owned());
            };
            let point = |time_ms| FloatPoint {
                time_ms,
                value: number.value,
            };
            let value = match step_ms {
                None => Value::Scalar(point(start_ms)),
                Some(step_ms) => Value::Matrix(vec![crate::promql::result::Series {
                    labels: chronolith_engine::model::Labels::empty(),
                    floats: (0..3).map(|k| point(start_ms + k * step_ms)).collect(),
                    histograms: Vec::new(),
                }]),
            };
            Ok(Answer {
                value,
                warnings: Vec::new(),
                infos: Vec::new(),
            })
        }
    }

    #[test]
    fn cases_are_counted_and_failures_located() {
        let script = "\
eval instant at 1m 1
  1
eval instant at 1m 2
  3
eval instant at 1m foo
  expect fail msg: not a number

eval instant at 1m foo +
  expect fail regex: unexpected end of input

load 1m
  x 1 2

load 1m
  x 3

eval instant at 1m 4
  4
clear
eval instant at 1m 4
  4
";
        let report = run_script(script, &|_| Box::new(Literals)).unwrap();
        assert_eq!(
            (report.cases, report.passed(), report.plain_passed()),
            (6, 4, 4)
        );
        assert_eq!(report.failures[0].line, 3);
        assert_eq!(report.failures[0].message, "expected scalar 3, got 2");
        assert!(report.failures[1].message.starts_with("load of line 14"));
    }
}
