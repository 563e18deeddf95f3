//! What of a query the scan can do: the streams, the times, the filters of lines before anything
//! changes them, and which columns nobody needs.

use std::sync::Arc;

use chronolith_engine::Matcher;
use chronolith_engine::model::{TimeRange, TimestampNs, TraceId};
use chronolith_engine::rows::{
    AttributeChoice, LogCondition, LogScanRequest, TextPattern, TextTest,
};

use super::super::ast::{
    self, Grouping, LabelFilter, LineOp, LogExpr, MatchOp, RangeAggregation, RangeOp, StageKind,
};
use super::super::pipeline::labels::ERROR_LABEL;
use super::failure::Result;
use super::rows::LEVEL;

/// A scan, and what it does.
#[derive(Debug, Clone)]
pub(super) struct Pushed {
    pub(super) request: LogScanRequest,
    /// How many stages of the pipeline, from the first on, the scan has run.
    pub(super) stages: usize,
}

/// The labels that a query looks at.
#[derive(Debug, Clone)]
pub(super) enum Needed {
    All,
    Names(Vec<String>),
}

pub(super) fn matchers(selector: &[ast::Matcher]) -> Result<Vec<Matcher>> {
    let matcher = |m: &ast::Matcher| {
        let op = match m.op {
            MatchOp::Equal => chronolith_engine::MatchOp::Equal,
            MatchOp::NotEqual => chronolith_engine::MatchOp::NotEqual,
            MatchOp::Regex => chronolith_engine::MatchOp::Regex,
            MatchOp::NotRegex => chronolith_engine::MatchOp::NotRegex,
        };
        Ok(Matcher::new(&m.name, op, &m.value)?)
    };
    selector.iter().map(matcher).collect()
}

/// A line filter as a condition of the scan; `None` for those that it does not know.
fn condition(filter: &ast::LineFilter) -> Result<Option<LogCondition>> {
    let mut patterns = Vec::new();
    for alternative in &filter.alternatives {
        if alternative.ip {
            return Ok(None);
        }
        patterns.push(match filter.op {
            LineOp::Contains | LineOp::NotContains => {
                TextPattern::Contains(alternative.text.as_str().into())
            }
            LineOp::Regex | LineOp::NotRegex => TextPattern::regex(&alternative.text)?,
            LineOp::Pattern | LineOp::NotPattern => return Ok(None),
        });
    }
    let pattern = match patterns.pop() {
        Some(only) if patterns.is_empty() => only,
        Some(last) => {
            patterns.push(last);
            TextPattern::AnyOf(patterns)
        }
        None => return Ok(None),
    };
    Ok(Some(LogCondition::Body(TextTest {
        pattern,
        negated: filter.op.is_negative(),
    })))
}

/// The trace that a filter asks for.
fn trace(filter: &LabelFilter) -> Option<TraceId> {
    let LabelFilter::Matcher(m) = filter else {
        return None;
    };
    if m.name != "trace_id" || m.op != MatchOp::Equal || m.value.len() != 32 {
        return None;
    }
    let mut id = [0; 16];
    for (byte, digits) in id.iter_mut().zip(m.value.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let is_lower = !m.value.bytes().any(|b| b.is_ascii_uppercase());
    (is_lower && id != [0; 16]).then_some(TraceId(id))
}

/// The keys of attributes that may be called `name`; `None` if there are too many.
fn keys_of(name: &str) -> Option<Vec<Arc<str>>> {
    let mut keys = vec![String::new()];
    for c in name.chars() {
        if keys.len() > 16 {
            return None;
        }
        let choices: &[char] = if c == '_' {
            &['_', '.', '-', '/']
        } else {
            &[c]
        };
        keys = choices
            .iter()
            .flat_map(|c| keys.iter().map(move |key| format!("{key}{c}")))
            .collect();
    }
    Some(keys.into_iter().map(Arc::from).collect())
}

/// The scan of a log expression from `first_ns` to `last_ns`, both in it.
pub(super) fn push_down(
    log: &LogExpr,
    (first_ns, last_ns): (i64, i64),
    needed: &Needed,
    needs_lines: bool,
    trace_ids_are_columns: bool,
) -> Result<Pushed> {
    let range = TimeRange {
        start: TimestampNs(first_ns),
        end: TimestampNs(last_ns),
    };
    let mut request = LogScanRequest::new(matchers(&log.matchers)?, range);
    let mut stages = 0;
    for stage in &log.stages {
        let StageKind::LineFilter(filter) = &stage.kind else {
            break;
        };
        let Some(condition) = condition(filter)? else {
            break;
        };
        request.conditions.push(condition);
        stages += 1;
    }
    if trace_ids_are_columns {
        // Filters of lines do not change labels: the filter may stand behind any number of them.
        let kinds = log.stages.iter().map(|stage| &stage.kind);
        let mut filters = kinds.skip_while(|kind| matches!(kind, StageKind::LineFilter(_)));
        if let Some(StageKind::LabelFilter(filter)) = filters.next()
            && let Some(id) = trace(filter)
        {
            request.conditions.push(LogCondition::Trace([id].into()));
        }
    }
    let lines_left = log.stages.len() > stages && log.stages[stages..].iter().any(reads_line);
    request.columns.body = needs_lines || lines_left;
    match needed {
        Needed::All => {
            request.columns.ids = true;
            request.columns.severity = true;
            request.attributes = AttributeChoice::All;
        }
        Needed::Names(names) => {
            let has = |name: &str| names.iter().any(|n| n == name);
            request.columns.ids = has("trace_id") || has("span_id");
            request.columns.severity = has("severity_text") || has("severity_number") || has(LEVEL);
            let keys: Option<Vec<Vec<Arc<str>>>> = names.iter().map(|n| keys_of(n)).collect();
            request.attributes = match keys {
                None => AttributeChoice::All,
                Some(keys) if keys.is_empty() => AttributeChoice::None,
                Some(keys) => AttributeChoice::Keys(keys.concat()),
            };
        }
    }
    Ok(Pushed { request, stages })
}

fn reads_line(stage: &ast::Stage) -> bool {
    !matches!(
        stage.kind,
        StageKind::LabelFilter(_) | StageKind::Drop(_) | StageKind::Keep(_) | StageKind::Decolorize
    )
}

fn filter_names(filter: &LabelFilter, names: &mut Vec<String>) {
    match filter {
        // What has an error goes, and shows no labels.
        LabelFilter::Matcher(m)
            if m.name == ERROR_LABEL && m.op == MatchOp::Equal && m.value.is_empty() => {}
        LabelFilter::Matcher(m) => names.push(m.name.clone()),
        LabelFilter::Ip { name, .. }
        | LabelFilter::Duration { name, .. }
        | LabelFilter::Bytes { name, .. }
        | LabelFilter::Number { name, .. } => names.push(name.clone()),
        LabelFilter::And(a, b) | LabelFilter::Or(a, b) => {
            filter_names(a, names);
            filter_names(b, names);
        }
    }
}

/// The labels that a range aggregation looks at.
pub(super) fn needed(e: &RangeAggregation, grouping: Option<&Grouping>) -> Needed {
    let mut names = Vec::new();
    match grouping {
        _ if e.op == RangeOp::AbsentOverTime => {}
        Some(g) if !g.without => names.extend(g.labels.iter().cloned()),
        _ => return Needed::All,
    }
    for stage in &e.range.log.stages {
        match &stage.kind {
            StageKind::LabelFilter(filter) => filter_names(filter, &mut names),
            StageKind::LineFilter(_) | StageKind::Decolorize => {}
            StageKind::Json(paths) if paths.is_empty() => {}
            StageKind::Logfmt { expressions, .. } if expressions.is_empty() => {}
            _ => return Needed::All,
        }
    }
    if let Some(unwrap) = &e.range.unwrap {
        names.push(unwrap.label.clone());
        for filter in &unwrap.filters {
            filter_names(filter, &mut names);
        }
    }
    // An entry with an error shows all its labels, and `x_extracted` comes of metadata called `x`.
    let wants_all = |name: &String| name.starts_with("__") || name.ends_with("_extracted");
    if names.iter().any(wants_all) {
        return Needed::All;
    }
    names.sort();
    names.dedup();
    Needed::Names(names)
}

#[cfg(test)]
mod tests {
    use super::super::super::ast::{Expr, MetricExpr};
    use super::super::super::parser::parse;
    use super::*;

    fn pushed(query: &str) -> Pushed {
        let expr = parse(query).unwrap();
        let log = expr.log_exprs()[0];
        push_down(log, (0, 9), &Needed::All, true, true).unwrap()
    }

    #[test]
    fn leading_line_filters_and_traces_go_to_the_scan() {
        let found = pushed(r#"{a="b"} |= "x" or "y" !~ "z" |= ip("::1") |= "w" | json"#);
        assert_eq!((found.stages, found.request.conditions.len()), (2, 2));
        let id = "0123456789abcdef0123456789abcdef";
        let found = pushed(&format!(r#"{{a="b"}} |= "x" | trace_id="{id}" | json"#));
        assert!(matches!(
            found.request.conditions[1],
            LogCondition::Trace(_)
        ));
        let found = pushed(&format!(r#"{{a="b"}} | json | trace_id="{id}""#));
        assert!(found.request.conditions.is_empty());
    }

    #[test]
    fn columns_that_nobody_needs_are_not_read() {
        let choice = |query: &str| {
            let Expr::Metric(MetricExpr::Range(e)) = parse(query).unwrap() else {
                panic!("{query}");
            };
            let needed = needed(&e, e.grouping.as_ref());
            let found = push_down(&e.range.log, (0, 9), &needed, false, true).unwrap();
            (found.request.attributes, found.request.columns.body)
        };
        let (attributes, body) =
            choice(r#"avg_over_time({a="b"} | json | unwrap x_y [1m]) by (level)"#);
        assert!(body);
        let AttributeChoice::Keys(keys) = attributes else {
            panic!("{attributes:?}");
        };
        assert!(keys.iter().any(|key| &**key == "x.y") && keys.len() == 5);
        assert_eq!(
            choice(r#"absent_over_time({a="b"}[1m])"#),
            (AttributeChoice::None, false)
        );
        assert_eq!(
            choice(r#"rate({a="b"} |= "x" [1m])"#),
            (AttributeChoice::All, false)
        );
    }
}
