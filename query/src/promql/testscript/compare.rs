//! Whether an answer is the expected one.

use std::sync::Arc;

use chronolith_engine::model::{Histogram, Labels};

use super::parse::{AnnotationRules, Expected};
use super::series::{Point, SeriesLine};
use crate::promql::almost::almost_equal;
use crate::promql::histogram::arithmetic::compact;
use crate::promql::result::{SampleValue, Series, Value};

/// Relative difference up to which floats count as equal.
const EPSILON: f64 = 1e-6;

fn floats_equal(want: f64, got: f64) -> bool {
    almost_equal(want, got, EPSILON)
}

/// Compares a whole answer; the error says what was expected and what came.
pub(super) fn compare(expected: &Expected, got: &Value) -> Result<(), String> {
    match (expected, got) {
        (Expected::Scalar(want), Value::Scalar(point)) if floats_equal(*want, point.value) => {
            Ok(())
        }
        (Expected::Scalar(want), Value::Scalar(point)) => {
            Err(format!("expected scalar {want}, got {}", point.value))
        }
        (Expected::String(want), Value::String { value, .. }) if want == value => Ok(()),
        (Expected::String(want), Value::String { value, .. }) => {
            Err(format!("expected string {want:?}, got {value:?}"))
        }
        (Expected::Vector { lines, ordered }, Value::Vector(elements)) => {
            let got: Vec<_> = elements.iter().map(|e| (&e.labels, &e.value)).collect();
            compare_vector(lines, *ordered, &got)
        }
        (Expected::Vector { lines, .. }, Value::Matrix(series))
            if lines.is_empty() && series.is_empty() =>
        {
            Ok(())
        }
        (
            Expected::Matrix {
                lines,
                start_ms,
                step_ms,
            },
            Value::Matrix(series),
        ) => compare_matrix(lines, *start_ms, *step_ms, series),
        (expected, got) => {
            let want = match expected {
                Expected::Scalar(_) => "a scalar",
                Expected::String(_) => "a string",
                Expected::Vector { .. } => "a vector",
                Expected::Matrix { .. } => "a matrix",
            };
            Err(format!("expected {want}, got a {}", got.type_name()))
        }
    }
}

/// Compares the column of a range query's answer at `time_ms` with what an instant query gives.
pub(super) fn compare_column(
    expected: &Expected,
    series: &[Series],
    time_ms: i64,
) -> Result<(), String> {
    if let Some(pair) = series
        .windows(2)
        .find(|pair| pair[0].labels >= pair[1].labels)
    {
        let (a, b) = (labels_text(&pair[0].labels), labels_text(&pair[1].labels));
        return Err(format!("expected sorted series, got {a} before {b}"));
    }
    let column = series.iter().filter_map(|s| {
        let float = s
            .floats
            .iter()
            .find(|p| p.time_ms == time_ms)
            .map(|p| SampleValue::Float(p.value));
        let histogram = s.histograms.iter().find(|p| p.time_ms == time_ms);
        let histogram = histogram.map(|p| SampleValue::Histogram(Arc::clone(&p.histogram)));
        Some((&s.labels, float.or(histogram)?))
    });
    let column: Vec<_> = column.collect();
    let got: Vec<_> = column
        .iter()
        .map(|(labels, value)| (*labels, value))
        .collect();
    match expected {
        Expected::Vector { lines, .. } => compare_vector(lines, false, &got),
        Expected::Scalar(want) => match got[..] {
            [(labels, SampleValue::Float(value))] if labels.is_empty() => {
                if floats_equal(*want, *value) {
                    Ok(())
                } else {
                    Err(format!("expected scalar {want}, got {value}"))
                }
            }
            _ => Err(format!(
                "expected one series without labels, got {} series",
                got.len()
            )),
        },
        Expected::String(_) | Expected::Matrix { .. } => Ok(()),
    }
}

/// Checks the annotations of one level.
pub(super) fn compare_annotations(
    level: &str,
    rules: &AnnotationRules,
    got: &[String],
) -> Result<(), String> {
    if rules.none && !got.is_empty() {
        return Err(format!("expected no {level}, got {:?}", got[0]));
    }
    if rules.rules.is_empty() {
        return Ok(());
    }
    if let Some(rule) = rules
        .rules
        .iter()
        .find(|rule| !got.iter().any(|text| rule.accepts(text)))
    {
        return Err(format!("expected {level} {rule}, got {got:?}"));
    }
    match got
        .iter()
        .find(|text| !rules.rules.iter().any(|rule| rule.accepts(text)))
    {
        Some(text) => Err(format!("unexpected {level} {text:?}")),
        None => Ok(()),
    }
}

fn compare_vector(
    lines: &[SeriesLine],
    ordered: bool,
    got: &[(&Labels, &SampleValue)],
) -> Result<(), String> {
    for (position, line) in lines.iter().enumerate() {
        let [want] = line.points.as_slice() else {
            return Err(format!(
                "{} must have one expected value",
                labels_text(&line.labels)
            ));
        };
        let found = if ordered {
            got.get(position)
                .filter(|(labels, _)| **labels == line.labels)
        } else {
            got.iter().find(|(labels, _)| **labels == line.labels)
        };
        let Some((_, value)) = found else {
            let order = if ordered {
                format!(" at position {position}")
            } else {
                String::new()
            };
            let (want, got) = (labels_text(&line.labels), elements_text(got));
            return Err(format!("expected {want}{order}, got {got}"));
        };
        let got = match value {
            SampleValue::Float(value) => PointRef::Float(*value),
            SampleValue::Histogram(histogram) => PointRef::Histogram(histogram),
        };
        compare_point(want, &got).map_err(|e| format!("{}: {e}", labels_text(&line.labels)))?;
    }
    let extra = got
        .iter()
        .find(|(labels, _)| !lines.iter().any(|l| l.labels == **labels));
    if let Some((labels, value)) = extra {
        let (labels, value) = (labels_text(labels), value_text(value));
        return Err(format!("expected no {labels}, got {value}"));
    }
    if got.len() != lines.len() {
        return Err(format!(
            "expected {} elements, got {}",
            lines.len(),
            got.len()
        ));
    }
    Ok(())
}

fn compare_matrix(
    lines: &[SeriesLine],
    start_ms: i64,
    step_ms: i64,
    got: &[Series],
) -> Result<(), String> {
    for line in lines {
        let name = labels_text(&line.labels);
        let points = line
            .points
            .iter()
            .enumerate()
            .filter(|(_, p)| **p != Point::Missing);
        let want: Vec<(i64, &Point)> = points
            .map(|(k, p)| {
                let steps = i64::try_from(k).unwrap_or(i64::MAX);
                (start_ms.saturating_add(step_ms.saturating_mul(steps)), p)
            })
            .collect();
        let Some(series) = got.iter().find(|s| s.labels == line.labels) else {
            if want.is_empty() {
                continue;
            }
            let all: Vec<_> = got.iter().map(|s| labels_text(&s.labels)).collect();
            return Err(format!("expected {name}, got [{}]", all.join(", ")));
        };
        let floats = series
            .floats
            .iter()
            .map(|p| (p.time_ms, PointRef::Float(p.value)));
        let histograms = series
            .histograms
            .iter()
            .map(|p| (p.time_ms, PointRef::Histogram(&p.histogram)));
        let mut points: Vec<(i64, PointRef<'_>)> = floats.chain(histograms).collect();
        points.sort_by_key(|(time_ms, _)| *time_ms);
        for ((want_ms, want), (got_ms, got)) in want.iter().zip(&points) {
            if want_ms != got_ms {
                return Err(format!(
                    "{name}: expected a point at {want_ms} ms, got one at {got_ms} ms"
                ));
            }
            compare_point(want, got).map_err(|e| format!("{name} at {got_ms} ms: {e}"))?;
        }
        if want.len() != points.len() {
            return Err(format!(
                "{name}: expected {} points, got {}",
                want.len(),
                points.len()
            ));
        }
    }
    match got
        .iter()
        .find(|s| !lines.iter().any(|l| l.labels == s.labels))
    {
        Some(series) => Err(format!(
            "expected no {}, got it",
            labels_text(&series.labels)
        )),
        None => Ok(()),
    }
}

enum PointRef<'a> {
    Float(f64),
    Histogram(&'a Histogram),
}

fn compare_point(want: &Point, got: &PointRef<'_>) -> Result<(), String> {
    match (want, got) {
        (Point::Float(want), PointRef::Float(got)) if floats_equal(*want, *got) => Ok(()),
        (Point::Float(want), PointRef::Float(got)) => Err(format!("expected {want}, got {got}")),
        (Point::Histogram(want, hinted), PointRef::Histogram(got)) => {
            if histograms_equal(want, got, *hinted) {
                Ok(())
            } else {
                let (want, got) = (histogram_text(want), histogram_text(got));
                Err(format!("expected {want}, got {got}"))
            }
        }
        (Point::Float(want), PointRef::Histogram(got)) => {
            Err(format!("expected {want}, got {}", histogram_text(got)))
        }
        (Point::Histogram(want, _), PointRef::Float(got)) => {
            Err(format!("expected {}, got {got}", histogram_text(want)))
        }
        (Point::Missing, _) => Err("expected nothing".to_owned()),
    }
}

fn histograms_equal(want: &Histogram, got: &Histogram, with_hint: bool) -> bool {
    let compacted = |h: &Histogram| {
        let mut h = h.clone();
        compact(&mut h);
        h
    };
    let (want, got) = (compacted(want), compacted(got));
    let all_equal = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| floats_equal(*a, *b))
    };
    want.schema == got.schema
        && want.zero_threshold == got.zero_threshold
        && want.custom_bounds() == got.custom_bounds()
        && want.positive_spans == got.positive_spans
        && want.negative_spans == got.negative_spans
        && floats_equal(want.count, got.count)
        && floats_equal(want.sum, got.sum)
        && floats_equal(want.zero_count, got.zero_count)
        && all_equal(&want.positive_buckets, &got.positive_buckets)
        && all_equal(&want.negative_buckets, &got.negative_buckets)
        && (!with_hint || want.counter_reset_hint == got.counter_reset_hint)
}

fn labels_text(labels: &Labels) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|l| format!("{}={:?}", l.name, l.value))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn value_text(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => value.to_string(),
        SampleValue::Histogram(histogram) => histogram_text(histogram),
    }
}

/// At most a few elements, for messages.
fn elements_text(elements: &[(&Labels, &SampleValue)]) -> String {
    let shown = elements.iter().take(4);
    let mut texts: Vec<_> = shown
        .map(|(l, v)| format!("{} {}", labels_text(l), value_text(v)))
        .collect();
    if elements.len() > texts.len() {
        texts.push("…".to_owned());
    }
    format!("[{}]", texts.join(", "))
}

fn histogram_text(h: &Histogram) -> String {
    let mut h = h.clone();
    compact(&mut h);
    let spans = |spans: &[chronolith_engine::model::BucketSpan], buckets: &[f64]| {
        let spans: Vec<_> = spans.iter().map(|s| (s.offset, s.length)).collect();
        format!("{spans:?} {buckets:?}")
    };
    format!(
        "{{{{schema:{} count:{} sum:{} zero:{}/{} positive:{} negative:{} custom:{:?} hint:{:?}}}}}",
        h.schema,
        h.count,
        h.sum,
        h.zero_count,
        h.zero_threshold,
        spans(&h.positive_spans, &h.positive_buckets),
        spans(&h.negative_spans, &h.negative_buckets),
        h.custom_bounds(),
        h.counter_reset_hint,
    )
}

#[cfg(test)]
mod tests {
    use super::super::series::parse_series_line;
    use super::*;

    #[test]
    fn vectors_must_match_exactly() {
        let lines: Vec<_> = ["a 1", "b 2"]
            .map(|line| parse_series_line(line).unwrap())
            .into_iter()
            .collect();
        let (one, two) = (SampleValue::Float(1.0 + 1e-9), SampleValue::Float(2.0));
        let (a, b) = (&lines[0].labels, &lines[1].labels);
        assert!(compare_vector(&lines, false, &[(b, &two), (a, &one)]).is_ok());
        assert!(compare_vector(&lines, true, &[(b, &two), (a, &one)]).is_err());
        assert!(compare_vector(&lines, false, &[(a, &one)]).is_err());
        assert!(compare_vector(&lines[..1], false, &[(a, &one), (b, &two)]).is_err());
        assert!(compare_vector(&lines, false, &[(a, &two), (b, &two)]).is_err());
    }

    #[test]
    fn histograms_compare_without_empty_buckets() {
        let point = |line: &str| parse_series_line(line).unwrap().points[0].clone();
        let (Point::Histogram(a, _), Point::Histogram(b, hinted)) = (
            point("h {{count:3 buckets:[0 3]}}"),
            point("h {{count:3 buckets:[3 0] offset:1 counter_reset_hint:gauge}}"),
        ) else {
            panic!("histograms")
        };
        assert!(histograms_equal(&a, &b, false));
        assert!(!histograms_equal(&a, &b, hinted));
    }

    #[test]
    fn annotations_match_both_ways() {
        use super::super::parse::TextRule;
        let rules = |rules, none| AnnotationRules { none, rules };
        let got = ["x (1:1)".to_owned()];
        let equals = |s: &str| TextRule::Equals(s.to_owned());
        assert!(compare_annotations("warning", &rules(vec![], false), &got).is_ok());
        assert!(compare_annotations("warning", &rules(vec![], true), &got).is_err());
        assert!(
            compare_annotations("warning", &rules(vec![equals("x (1:1)")], false), &got).is_ok()
        );
        assert!(compare_annotations("warning", &rules(vec![equals("y")], false), &got).is_err());
        assert!(compare_annotations("warning", &rules(vec![TextRule::Any], false), &[]).is_err());
    }
}
