//! What follows the first computation: arithmetic between series, the greatest and smallest, comparisons.

use std::collections::HashMap;

use super::Part;
use super::series::TraceSeries;
use crate::traceql::ast::*;

/// Runs one second stage.
pub(super) fn run(stage: SecondStage, mut series: Vec<TraceSeries>) -> Vec<TraceSeries> {
    match stage {
        SecondStage::TopK(k) => select(series, k, |a, b| b.total_cmp(&a)),
        SecondStage::BottomK(k) => select(series, k, |a, b| a.total_cmp(&b)),
        SecondStage::Compare(op, threshold) => {
            for series in &mut series {
                for value in &mut series.values {
                    if value.is_nan() || !op.holds(value, &threshold) {
                        *value = f64::NAN;
                    }
                }
            }
            series.retain(has_values);
            series
        }
    }
}

fn has_values(series: &TraceSeries) -> bool {
    series.values.iter().any(|value| !value.is_nan())
}

/// At each step the first `k` in an order; of equal ones those whose labels come first.
fn select(
    mut series: Vec<TraceSeries>,
    k: i64,
    order: impl Fn(f64, f64) -> std::cmp::Ordering,
) -> Vec<TraceSeries> {
    let k = usize::try_from(k).unwrap_or(0);
    if series.len() <= k {
        return series;
    }
    series.sort_by_cached_key(TraceSeries::sort_key);
    let steps = series
        .iter()
        .map(|series| series.values.len())
        .max()
        .unwrap_or(0);
    for step in 0..steps {
        let value = |series: &TraceSeries| series.values.get(step).copied().unwrap_or(f64::NAN);
        let mut ranked: Vec<(usize, f64)> = series
            .iter()
            .map(value)
            .enumerate()
            .filter(|(_, value)| !value.is_nan())
            .collect();
        ranked.sort_by(|(_, a), (_, b)| order(*a, *b));
        for (place, _) in ranked.into_iter().skip(k) {
            if let Some(value) = series.get_mut(place).and_then(|s| s.values.get_mut(step)) {
                *value = f64::NAN;
            }
        }
    }
    series.retain(has_values);
    series
}

/// Arithmetic. Series meet by their labels, names aside; one without labels meets every other. Where one
/// side has nothing at a step it counts as 0; a division by 0 gives nothing.
pub(super) fn arithmetic(op: ArithmeticOp, lhs: Part, rhs: Part) -> Part {
    match (lhs, rhs) {
        (Part::Number(a), Part::Number(b)) => Part::Number(op.apply(a, b)),
        (Part::Series(series), Part::Number(number)) => {
            Part::Series(map(series, |value| apply(op, value, number)))
        }
        (Part::Number(number), Part::Series(series)) => {
            Part::Series(map(series, |value| apply(op, number, value)))
        }
        (Part::Series(lhs), Part::Series(rhs)) => Part::Series(matched(op, &lhs, &rhs)),
    }
}

fn map(mut series: Vec<TraceSeries>, of: impl Fn(f64) -> f64) -> Vec<TraceSeries> {
    for series in &mut series {
        for value in series.values.iter_mut().filter(|value| !value.is_nan()) {
            *value = of(*value);
        }
    }
    series
}

fn apply(op: ArithmeticOp, lhs: f64, rhs: f64) -> f64 {
    let or_zero = |x: f64| if x.is_nan() { 0.0 } else { x };
    match op {
        ArithmeticOp::Div if or_zero(rhs) == 0.0 => f64::NAN,
        op => op.apply(or_zero(lhs), or_zero(rhs)),
    }
}

const NAME: &str = "__name__";

type Key = Vec<(String, String)>;

fn key(series: &TraceSeries) -> Key {
    let mut key = series.sort_key();
    key.retain(|(name, _)| name != NAME);
    key
}

fn matched(op: ArithmeticOp, lhs: &[TraceSeries], rhs: &[TraceSeries]) -> Vec<TraceSeries> {
    let by_key = |side: &[TraceSeries]| -> HashMap<Key, usize> {
        side.iter()
            .enumerate()
            .map(|(place, series)| (key(series), place))
            .collect()
    };
    let (left, right) = (by_key(lhs), by_key(rhs));
    let nothing = Key::new();
    // The side whose series all have labels says which series there are.
    let leading = match right.contains_key(&nothing) {
        true => &left,
        false => &right,
    };
    let find = |side: &HashMap<Key, usize>, key: &Key| {
        side.get(key).or_else(|| side.get(&nothing)).copied()
    };
    leading
        .keys()
        .filter_map(|key| {
            let (l, r) = (lhs.get(find(&left, key)?)?, rhs.get(find(&right, key)?)?);
            let values = l.values.iter().zip(&r.values);
            Some(TraceSeries {
                labels: joined_labels(op, l, r),
                values: values.map(|(l, r)| apply(op, *l, *r)).collect(),
                exemplars: [&*l.exemplars, &*r.exemplars].concat(),
            })
        })
        .collect()
}

/// The labels of both; names become the name of the computation.
fn joined_labels(op: ArithmeticOp, l: &TraceSeries, r: &TraceSeries) -> Vec<(String, Value)> {
    let name = |series: &TraceSeries| {
        let mut named = series.labels.iter().filter(|(name, _)| name == NAME);
        match named.next() {
            Some((_, Value::String(name))) => Some(name.clone()),
            _ => None,
        }
    };
    let mut labels: Vec<(String, Value)> = Vec::new();
    if let (Some(l), Some(r)) = (name(l), name(r)) {
        let name = format!("({l} {} {r})", op.as_str());
        labels.push((NAME.to_owned(), Value::String(name)));
    }
    for (name, value) in l.labels.iter().chain(&r.labels) {
        if name != NAME && !labels.iter().any(|(known, _)| known == name) {
            labels.push((name.clone(), value.clone()));
        }
    }
    labels
}
