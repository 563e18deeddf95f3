//! Series lines: a metric and its points, `http_requests{job="api"} 0+10x5 _ stale {{count:3}}x2`.

use std::sync::Arc;

use chronolith_engine::model::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Labels, STALE_NAN_BITS,
};

use crate::promql::histogram::arithmetic;
use crate::promql::number::{parse_duration_ms, parse_number};
use crate::promql::parser::parse_metric;

/// A line may make this many points.
const MAX_POINTS: usize = 4_000_000;

/// One point of a series line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Point {
    /// `_`
    Missing,
    /// A number, or `stale`.
    Float(f64),
    /// `{{…}}`, and whether it spells a counter-reset hint.
    Histogram(Arc<Histogram>, bool),
}

/// A line of samples, or of expected values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeriesLine {
    pub(super) labels: Labels,
    pub(super) points: Vec<Point>,
}

/// A line of start timestamps, relative to the sample times, ms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StartLine {
    pub(super) labels: Labels,
    pub(super) offsets_ms: Vec<Option<i64>>,
}

/// Either of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LoadLine {
    Samples(SeriesLine),
    Starts(StartLine),
}

/// Parses a line of a `load` block.
pub(super) fn parse_load_line(line: &str) -> Result<LoadLine, String> {
    let (metric, rest) = split_metric(line)?;
    let labels = labels(metric)?;
    if let Some(items) = rest.strip_prefix("@st") {
        let mut offsets_ms = Vec::new();
        for item in items.split([' ', '\t']).filter(|item| !item.is_empty()) {
            start_item(item, &mut offsets_ms)?;
        }
        return Ok(LoadLine::Starts(StartLine { labels, offsets_ms }));
    }
    Ok(LoadLine::Samples(SeriesLine {
        labels,
        points: points(rest)?,
    }))
}

/// Parses a line of expected values.
pub(super) fn parse_series_line(line: &str) -> Result<SeriesLine, String> {
    match parse_load_line(line)? {
        LoadLine::Samples(line) => Ok(line),
        LoadLine::Starts(_) => Err("start timestamps make no sense here".to_owned()),
    }
}

/// Parses a number with an optional sign, alone on a line.
pub(super) fn parse_scalar(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    parse_number(digits).ok().map(|value| sign * value)
}

/// The metric at the start of a line and what follows it.
fn split_metric(line: &str) -> Result<(&str, &str), String> {
    let bytes = line.as_bytes();
    let name = bytes
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    let mut end = name.count();
    if bytes.get(end) == Some(&b'{') && bytes.get(end + 1) != Some(&b'{') {
        let mut quote = None;
        let mut escaped = false;
        let close = bytes[end..].iter().position(|&b| {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(q) if b == q => quote = None,
                Some(q) => escaped = b == b'\\' && q != b'`',
                None if matches!(b, b'"' | b'\'' | b'`') => quote = Some(b),
                None => return b == b'}',
            }
            false
        });
        end += close.ok_or_else(|| format!("metric is not closed: {line}"))? + 1;
    }
    if end == 0 {
        return Err(format!("no metric at the start of: {line}"));
    }
    Ok(line.split_at(end))
}

fn labels(metric: &str) -> Result<Labels, String> {
    let pairs = parse_metric(metric).map_err(|e| e.to_string())?;
    Labels::from_pairs(pairs).map_err(|e| e.to_string())
}

fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let end = item_end(rest)?;
        item(&rest[..end], &mut points)?;
        if points.len() > MAX_POINTS {
            return Err(format!("more than {MAX_POINTS} points in one line"));
        }
        rest = rest[end..].trim_start_matches([' ', '\t']);
    }
    Ok(points)
}

/// Where the first item ends: at a blank outside of `{{…}}`.
fn item_end(text: &str) -> Result<usize, String> {
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("{{") {
            at += rest.find("}}").ok_or("histogram is not closed")? + 2;
        } else if rest.is_empty() || rest.starts_with([' ', '\t']) {
            break;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Ok(at)
}

/// The repetition `xN` at the end of an item.
fn repetition(text: &str) -> Result<usize, String> {
    let digits = text
        .strip_prefix('x')
        .ok_or_else(|| format!("unexpected {text:?} in item"))?;
    let times = digits
        .parse()
        .map_err(|_| format!("invalid repetition in series values: {digits}"))?;
    if times > MAX_POINTS {
        return Err(format!("repetition {times} is above {MAX_POINTS}"));
    }
    Ok(times)
}

fn item(text: &str, points: &mut Vec<Point>) -> Result<(), String> {
    if let Some(rest) = text.strip_prefix('_') {
        let times = if rest.is_empty() {
            1
        } else {
            repetition(rest)?
        };
        points.extend(std::iter::repeat_n(Point::Missing, times));
        return Ok(());
    }
    if text == "stale" {
        points.push(Point::Float(f64::from_bits(STALE_NAN_BITS)));
        return Ok(());
    }
    if text.starts_with("{{") {
        return histogram_item(text, points);
    }
    let (mut value, rest) = signed_number(text)?;
    if rest.is_empty() {
        points.push(Point::Float(value));
        return Ok(());
    }
    let (step, rest) = if rest.starts_with('x') {
        (0.0, rest)
    } else {
        signed_number(rest)?
    };
    for _ in 0..=repetition(rest)? {
        points.push(Point::Float(value));
        value += step;
    }
    Ok(())
}

/// A number or duration with an optional sign at the start of `text`, and the rest.
fn signed_number(text: &str) -> Result<(f64, &str), String> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if text.len() - unsigned.len() > 1 {
        return Err(format!("too many signs in {text:?}"));
    }
    let bytes = unsigned.as_bytes();
    let mut end = 0;
    while let Some(&b) = bytes.get(end) {
        let exponent_sign = matches!(b, b'+' | b'-')
            && end > 0
            && matches!(bytes[end - 1], b'e' | b'E')
            && bytes[0] != b'e';
        if !(exponent_sign || b == b'.' || b == b'_' || (b.is_ascii_alphanumeric() && b != b'x')) {
            break;
        }
        end += 1;
    }
    let (digits, rest) = unsigned.split_at(end);
    let value = parse_number(digits).or_else(|error| {
        parse_duration_ms(digits)
            .map(|ms| ms as f64 / 1000.0)
            .map_err(|_| error)
    });
    value.map(|value| (sign * value, rest))
}

fn histogram_item(text: &str, points: &mut Vec<Point>) -> Result<(), String> {
    let (first, hinted, rest) = histogram(text)?;
    if rest.is_empty() {
        points.push(Point::Histogram(Arc::new(first), hinted));
        return Ok(());
    }
    if rest.starts_with('x') {
        let first = Arc::new(first);
        let times = repetition(rest)? + 1;
        let repeated = (0..times).map(|_| Point::Histogram(Arc::clone(&first), hinted));
        points.extend(repeated);
        return Ok(());
    }
    let combine = match rest.as_bytes()[0] {
        b'+' => arithmetic::add,
        b'-' => arithmetic::sub,
        _ => return Err(format!("unexpected {rest:?} after histogram")),
    };
    let (step, step_hinted, rest) = histogram(&rest[1..])?;
    let times = repetition(rest)?;
    if first.schema > step.schema {
        return Err(format!(
            "error combining histograms: cannot merge from schema {} to {}",
            step.schema, first.schema
        ));
    }
    // The hint that is spelled last decides whether hints are compared.
    let hinted = hinted || step_hinted;
    let mut current = first;
    for _ in 0..times {
        let (next, _) = combine(&current, &step).map_err(|e| e.to_string())?;
        points.push(Point::Histogram(
            Arc::new(std::mem::replace(&mut current, next)),
            hinted,
        ));
    }
    points.push(Point::Histogram(Arc::new(current), hinted));
    Ok(())
}

/// A literal `{{…}}` at the start of `text`: the histogram, whether it spells a hint, the rest.
fn histogram(text: &str) -> Result<(Histogram, bool, &str), String> {
    let body = text
        .strip_prefix("{{")
        .ok_or_else(|| format!("no histogram: {text:?}"))?;
    let end = body.find("}}").ok_or("histogram is not closed")?;
    let (mut keys, rest) = (&body[..end], &body[end + 2..]);
    let mut h = Histogram::default();
    let (mut hinted, mut offset, mut negative_offset) = (false, 0, 0);
    loop {
        keys = keys.trim_start_matches([' ', '\t']);
        let Some((key, after)) = keys.split_once(':') else {
            if keys.is_empty() {
                break;
            }
            return Err(format!("missing `:` for histogram descriptor in {keys:?}"));
        };
        let length = match after.strip_prefix('[') {
            Some(list) => list.find(']').ok_or("list is not closed")? + 2,
            None => after.find([' ', '\t']).unwrap_or(after.len()),
        };
        let value = &after[..length];
        let number = || parse_scalar(value).ok_or_else(|| format!("bad number {value:?} of {key}"));
        let integer = || {
            value
                .parse::<i32>()
                .map_err(|_| format!("bad integer {value:?} of {key}"))
        };
        match key.to_ascii_lowercase().as_str() {
            "schema" => h.schema = integer()?,
            "count" => h.count = number()?,
            "sum" => h.sum = number()?,
            "z_bucket" => h.zero_count = number()?,
            "z_bucket_w" => h.zero_threshold = number()?,
            "buckets" => h.positive_buckets = list(value)?,
            "n_buckets" => h.negative_buckets = list(value)?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "custom_values" => h.custom_values = Some(list(value)?.into()),
            "counter_reset_hint" => {
                hinted = true;
                h.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    _ => return Err(format!("unknown counter_reset_hint {value:?}")),
                };
            }
            _ => return Err(format!("bad histogram descriptor found: {key:?}")),
        }
        keys = &after[length..];
    }
    let spans = |offset, buckets: &[f64]| match buckets.len() {
        0 => Vec::new(),
        length => vec![BucketSpan {
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        }],
    };
    h.positive_spans = spans(offset, &h.positive_buckets);
    h.negative_spans = spans(negative_offset, &h.negative_buckets);
    if h.schema == CUSTOM_BUCKETS_SCHEMA && h.custom_values.is_none() {
        h.custom_values = Some(Arc::from([]));
    }
    Ok((h, hinted, rest))
}

fn list(text: &str) -> Result<Vec<f64>, String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let inner = inner.ok_or_else(|| format!("no list: {text:?}"))?;
    let items = inner.split([' ', '\t']).filter(|item| !item.is_empty());
    items
        .map(|item| parse_scalar(item).ok_or_else(|| format!("bad number {item:?}")))
        .collect()
}

/// `_`, `_xN`, `-1m`, `-1mxN`, `-30s-1mxN`.
fn start_item(text: &str, offsets: &mut Vec<Option<i64>>) -> Result<(), String> {
    if let Some(rest) = text.strip_prefix('_') {
        let times = if rest.is_empty() {
            1
        } else {
            repetition(rest)?
        };
        offsets.extend(std::iter::repeat_n(None, times));
        return Ok(());
    }
    let (mut offset, rest) = signed_duration(text)?;
    if rest.is_empty() {
        offsets.push(Some(offset));
        return Ok(());
    }
    let (step, rest) = if rest.starts_with('x') {
        (0, rest)
    } else {
        signed_duration(rest)?
    };
    for _ in 0..=repetition(rest)? {
        offsets.push(Some(offset));
        offset = offset.saturating_add(step);
    }
    Ok(())
}

fn signed_duration(text: &str) -> Result<(i64, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(['+', '-', 'x']).unwrap_or(unsigned.len());
    let ms = parse_duration_ms(&unsigned[..end])?;
    Ok((
        if text.starts_with('-') { -ms } else { ms },
        &unsigned[end..],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(line: &str) -> Vec<Option<f64>> {
        let points = parse_series_line(line).unwrap().points;
        let float = |point| match point {
            Point::Float(value) => Some(value),
            Point::Missing => None,
            Point::Histogram(..) => panic!("no histogram expected"),
        };
        points.into_iter().map(float).collect()
    }

    #[test]
    fn items_expand() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(
            floats("a 1 2x2 0+10x2 -1-1x1"),
            some(&[1., 2., 2., 2., 0., 10., 20., -1., -2.])
        );
        assert_eq!(
            floats("a{b=\"}\"} _ 1 _x2 1m"),
            [None, Some(1.), None, None, Some(60.)]
        );
        assert_eq!(
            floats("{} 1e+3 1.5e-3+1e2x1 -Inf"),
            some(&[1e3, 1.5e-3, 100.0015, f64::NEG_INFINITY])
        );
        assert_eq!(floats("a 0x3"), some(&[0.; 4]));
        assert!(floats("a stale")[0].is_some_and(|v| v.to_bits() == STALE_NAN_BITS));
        for bad in [
            "a 1x",
            "a 1y2",
            "a {{count:1",
            "a --1",
            "{a=\"b\" 1",
            "a 1x99999999999",
        ] {
            assert!(parse_series_line(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn histograms_expand() {
        let line = "h {{schema:1 count:4 sum:-2.5 z_bucket:1 z_bucket_w:0.01 buckets:[1 2] offset:-3 \
                    counter_reset_hint:gauge}} {{schema:1 buckets:[1]}}+{{schema:1 buckets:[0 2]}}x2";
        let points = parse_series_line(line).unwrap().points;
        let Point::Histogram(first, hinted) = &points[0] else {
            panic!("histogram")
        };
        assert!(hinted);
        assert_eq!((first.count, first.positive_spans[0].offset), (4.0, -3));
        let Point::Histogram(last, hinted) = &points[3] else {
            panic!("histogram")
        };
        assert!(!hinted);
        assert_eq!(last.positive_buckets, [1.0, 4.0]);
        assert_eq!(points.len(), 4);
    }

    #[test]
    fn start_timestamps_are_relative() {
        let line = parse_load_line("m{a=\"b\"}@st _ -30s-1mx2 0 _x2").unwrap();
        let LoadLine::Starts(line) = line else {
            panic!("starts")
        };
        let want = [
            None,
            Some(-30_000),
            Some(-90_000),
            Some(-150_000),
            Some(0),
            None,
            None,
        ];
        assert_eq!(line.offsets_ms, want);
    }
}
