//! Runs the commands of a script.

use std::sync::Arc;

use chronolith_engine::RequestContext;

use super::super::eval::{LogQlEngine, LogQlOptions, MemoryLogs, QueryParams, QueryValue, Series};
use super::parse::{Command, Eval, Expected, Load, Message, parse};

/// Where the time 0 of scripts lies: a full hour.
pub(super) const TIME_ZERO_NS: i64 = 1_700_002_800_000_000_000;

/// What came of a case: nothing, or what was wrong.
pub(super) type Outcome = Result<(), String>;

/// The cases of a script with their lines.
pub(super) fn run(text: &str) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    let mut logs = Arc::new(MemoryLogs::new());
    for (line, command) in parse(text) {
        match command {
            Err(error) => outcomes.push((line, Err(error))),
            Ok(Command::Clear) => logs = Arc::new(MemoryLogs::new()),
            Ok(Command::Load(loads)) => {
                if let Err(error) = loads.iter().try_for_each(|load| fill(&logs, load)) {
                    outcomes.push((line, Err(error)));
                }
            }
            Ok(Command::Eval(eval)) => outcomes.push((line, case(&logs, &eval))),
        }
    }
    outcomes
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn fill(logs: &MemoryLogs, load: &Load) -> Outcome {
    let labels = borrowed(&load.labels);
    let metadata = borrowed(&load.metadata);
    for index in 0..load.count {
        let line = load.line.replace("{{.i}}", &index.to_string());
        let time_ns = TIME_ZERO_NS + load.at_ns + load.every_ns * index as i64;
        logs.push(&labels, time_ns, &line, &metadata)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn case(logs: &Arc<MemoryLogs>, eval: &Eval) -> Outcome {
    let source = Arc::clone(logs);
    let engine = LogQlEngine::new(source, LogQlOptions::default());
    let (start_ns, end_ns) = (TIME_ZERO_NS + eval.start_ns, TIME_ZERO_NS + eval.end_ns);
    let params = match eval.step_ns {
        Some(step_ns) => QueryParams::range(start_ns, end_ns, step_ns),
        None => QueryParams::instant(end_ns),
    };
    let result = engine
        .parse(&eval.query)
        .and_then(|query| engine.query_blocking(&RequestContext::new(), &query, params));
    match (result, &eval.expected.fail) {
        (Ok(result), None) => compare(&result.value, eval),
        (Ok(result), Some(_)) => Err(format!("expected a failure, got {:?}", result.value)),
        (Err(error), None) => Err(format!("failed: {error}")),
        (Err(error), Some(message)) => {
            let text = error.to_string();
            let fits = match message {
                Message::Any => true,
                Message::Contains(part) => text.contains(part),
                Message::Matches(pattern) => regex::Regex::new(pattern)
                    .map_err(|e| e.to_string())?
                    .is_match(&text),
            };
            if fits {
                Ok(())
            } else {
                Err(format!("expected {message:?}, got {text:?}"))
            }
        }
    }
}

fn same(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn compare(value: &QueryValue, eval: &Eval) -> Outcome {
    let Expected {
        series: expected,
        scalar,
        empty,
        ordered,
        ..
    } = &eval.expected;
    let got = match (value, scalar) {
        (QueryValue::Scalar(point), Some(wanted)) if same(point.value, *wanted) => return Ok(()),
        (QueryValue::Vector(series) | QueryValue::Matrix(series), None) => series,
        (value, _) => return Err(format!("expected {scalar:?}, got {value:?}")),
    };
    let steps = match eval.step_ns {
        Some(step_ns) => (eval.end_ns - eval.start_ns) / step_ns + 1,
        None => 1,
    };
    let time_ms = |step: i64| {
        let ns = TIME_ZERO_NS + eval.start_ns + step * eval.step_ns.unwrap_or(0);
        ns / 1_000_000
    };
    let points = |series: &Series| -> Vec<Option<f64>> {
        (0..steps)
            .map(|step| {
                let found = series.points.iter().find(|p| p.time_ms == time_ms(step));
                found.map(|point| point.value)
            })
            .collect()
    };
    if *empty || got.len() != expected.len() {
        return if got.is_empty() && expected.is_empty() {
            Ok(())
        } else {
            Err(format!("expected {} series, got {got:?}", expected.len()))
        };
    }
    for (index, (labels, values)) in expected.iter().enumerate() {
        let found = if *ordered {
            got.get(index).filter(|series| series.labels == *labels)
        } else {
            got.iter().find(|series| series.labels == *labels)
        };
        let Some(series) = found else {
            return Err(format!("no series {labels:?} in {got:?}"));
        };
        let points = points(series);
        let fits = points.len() == values.len()
            && points
                .iter()
                .zip(values)
                .all(|(got, wanted)| match (got, wanted) {
                    (None, None) => true,
                    (Some(got), Some(wanted)) => same(*got, *wanted),
                    _ => false,
                });
        if !fits {
            return Err(format!("{labels:?}: expected {values:?}, got {points:?}"));
        }
    }
    Ok(())
}
