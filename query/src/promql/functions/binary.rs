//! Binary operators on two values: floats, native histograms, or one of each.

use std::sync::Arc;

use chronolith_engine::model::CounterResetHint;

use crate::promql::annotations::{Annotation, Annotations, HistogramOperation};
use crate::promql::ast::{BinaryOp, PosRange};
use crate::promql::batch::Value;
use crate::promql::histogram::{Histogram, arithmetic, reset, trim};

/// An arithmetic operator on floats; NaN for operators that are none.
#[inline]
pub fn arithmetic(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => f64::NAN,
    }
}

/// A comparison of floats; false for operators that are none.
#[inline]
pub fn compare(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Eq => left == right,
        BinaryOp::Ne => left != right,
        BinaryOp::Lt => left < right,
        BinaryOp::Le => left <= right,
        BinaryOp::Gt => left > right,
        BinaryOp::Ge => left >= right,
        _ => false,
    }
}

/// An operator on two scalars: comparisons give 0 or 1.
#[inline]
pub fn scalars(op: BinaryOp, left: f64, right: f64) -> f64 {
    if op.is_comparison() {
        f64::from(u8::from(compare(op, left, right)))
    } else {
        arithmetic(op, left, right)
    }
}

/// Whether the result is another quantity than the operands, so that the name goes.
pub fn changes_metric(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
            | BinaryOp::Atan2
    )
}

/// A result that is owned where it was computed.
#[derive(Debug, Clone)]
pub enum Computed {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

impl Computed {
    /// As a value of a table.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Float(value) => Value::Float(*value),
            Self::Histogram(histogram) => Value::Histogram(histogram),
        }
    }
}

/// `left op right` for elements of vectors: the value, and whether a comparison holds (true for
/// other operators). `None`, with a remark, where the operator does not take such operands.
pub fn elements(
    op: BinaryOp,
    left: Value<'_>,
    right: Value<'_>,
    pos: PosRange,
    notes: &mut Annotations,
) -> Option<(Computed, bool)> {
    let histogram = |h: Histogram| Some((Computed::Histogram(Arc::new(h)), true));
    let refuse = |notes: &mut Annotations| {
        let kind = |value: Value<'_>| match value {
            Value::Float(_) => "float",
            Value::Histogram(_) => "histogram",
        };
        let note = Annotation::incompatible_types(pos, kind(left), op.as_str(), kind(right));
        notes.add(note);
        None
    };
    match (left, right) {
        (Value::Float(l), Value::Float(r)) => match op {
            BinaryOp::TrimLower | BinaryOp::TrimUpper => refuse(notes),
            op if op.is_comparison() => Some((Computed::Float(l), compare(op, l, r))),
            op => Some((Computed::Float(arithmetic(op, l, r)), true)),
        },
        (Value::Float(factor), Value::Histogram(h)) if op == BinaryOp::Mul => {
            histogram(scaled(h, |h| arithmetic::mul(h, factor)))
        }
        (Value::Histogram(h), Value::Float(number)) => match op {
            BinaryOp::Mul => histogram(scaled(h, |h| arithmetic::mul(h, number))),
            BinaryOp::Div => histogram(scaled(h, |h| arithmetic::div(h, number))),
            BinaryOp::TrimUpper => histogram(trim::trim(h, number, trim::Keep::Below)),
            BinaryOp::TrimLower => histogram(trim::trim(h, number, trim::Keep::Above)),
            _ => refuse(notes),
        },
        (Value::Histogram(l), Value::Histogram(r)) => match op {
            BinaryOp::Eq => Some((Computed::Histogram(Arc::clone(l)), reset::equal(l, r))),
            BinaryOp::Ne => Some((Computed::Histogram(Arc::clone(l)), !reset::equal(l, r))),
            BinaryOp::Add => sum(l, r, pos, notes, HistogramOperation::Add).and_then(histogram),
            BinaryOp::Sub => sum(l, r, pos, notes, HistogramOperation::Sub).and_then(histogram),
            _ => refuse(notes),
        },
        _ => refuse(notes),
    }
}

fn scaled(histogram: &Histogram, scale: impl FnOnce(&mut Histogram)) -> Histogram {
    let mut copy = histogram.clone();
    scale(&mut copy);
    arithmetic::compact(&mut copy);
    copy
}

fn sum(
    left: &Histogram,
    right: &Histogram,
    pos: PosRange,
    notes: &mut Annotations,
    operation: HistogramOperation,
) -> Option<Histogram> {
    let subtract = operation == HistogramOperation::Sub;
    let result = if subtract {
        arithmetic::sub(left, right)
    } else {
        arithmetic::add(left, right)
    };
    let Ok((mut result, combined)) = result else {
        let op = if subtract { "-" } else { "+" };
        notes.add(Annotation::incompatible_layout(pos, op));
        return None;
    };
    if combined.counter_reset_collision {
        notes.add(Annotation::counter_reset_collision(pos, operation));
        return None;
    }
    if combined.bounds_reconciled {
        notes.add(Annotation::mismatched_custom_buckets(pos, operation));
    }
    if subtract {
        result.counter_reset_hint = CounterResetHint::Gauge;
    }
    arithmetic::compact(&mut result);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_histograms_mix_only_in_products() {
        let mut notes = Annotations::default();
        let histogram = Arc::new(Histogram {
            count: 2.0,
            sum: 3.0,
            ..Histogram::default()
        });
        let pos = PosRange::default();
        let product = elements(
            BinaryOp::Mul,
            Value::Float(2.0),
            Value::Histogram(&histogram),
            pos,
            &mut notes,
        );
        let Some((Computed::Histogram(product), true)) = product else {
            panic!("{product:?}")
        };
        assert_eq!((product.count, product.sum), (4.0, 6.0));
        assert!(notes.is_empty());
        let sum = elements(
            BinaryOp::Add,
            Value::Float(2.0),
            Value::Histogram(&histogram),
            pos,
            &mut notes,
        );
        assert!(sum.is_none());
        assert_eq!(
            notes.infos("a")[0],
            "PromQL info: incompatible sample types encountered for binary operator \"+\": float + histogram (1:1)"
        );
    }
}
