//! The numbers that a metrics function is computed of, as one column.

use chronolith_engine::rows::{AttributeValues, SpanBlock};

use crate::traceql::ast::{FieldName, Intrinsic, Scope};
use crate::traces::error::Result;
use crate::traces::fields::{SpanView, Val};
use crate::traces::groups::StreamCache;

/// What answers divide the numbers of a field by: durations are nanoseconds here, seconds there.
pub(super) fn divisor(field: &FieldName) -> f64 {
    match field {
        FieldName::Intrinsic {
            intrinsic:
                Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart,
            ..
        } => 1e9,
        _ => 1.0,
    }
}

/// A value as a number. Buckets are for whole numbers: floats may be anywhere, so they have none.
pub(super) fn number(value: &Val<'_>, is_bucketed: bool) -> f64 {
    match value {
        Val::Float(_) if is_bucketed => f64::NAN,
        Val::Many(values) => values.first().map_or(f64::NAN, |v| number(v, is_bucketed)),
        value => value.as_number().unwrap_or(f64::NAN),
    }
}

/// One number per row of a block; NaN: none. Durations in nanoseconds.
///
/// # Errors
/// Damage of a stream.
pub(super) fn of_block(
    block: &SpanBlock,
    field: &FieldName,
    is_bucketed: bool,
    streams: &mut StreamCache,
) -> Result<Vec<f64>> {
    match field {
        FieldName::Intrinsic {
            intrinsic: Intrinsic::Duration,
            ..
        } => {
            return Ok((0..block.rows)
                .map(|row| block.duration.get(row) as f64)
                .collect());
        }
        FieldName::Attribute {
            scope: Scope::Span,
            key,
        } => return Ok(of_attribute(block, key, is_bucketed)),
        _ => {}
    }
    let mut numbers = Vec::with_capacity(block.rows);
    for row in 0..block.rows {
        let stream = streams.get(block, row)?;
        let view = SpanView {
            block,
            row,
            stream: &stream,
            trace: None,
        };
        numbers.push(number(&view.read(field), is_bucketed));
    }
    Ok(numbers)
}

fn of_attribute(block: &SpanBlock, key: &str, is_bucketed: bool) -> Vec<f64> {
    let mut numbers = vec![f64::NAN; block.rows];
    for column in block.attributes.iter().filter(|column| &*column.key == key) {
        let value = |index: usize| match &column.values {
            AttributeValues::Int(column) => column.get(index) as f64,
            AttributeValues::Float(values) if !is_bucketed => {
                values.get(index).copied().unwrap_or(f64::NAN)
            }
            _ => f64::NAN,
        };
        match &column.rows {
            None => {
                for (row, number) in numbers.iter_mut().enumerate() {
                    *number = value(row);
                }
            }
            Some(rows) => {
                for (index, row) in rows.iter().enumerate() {
                    if let Some(number) = numbers.get_mut(*row as usize) {
                        *number = value(index);
                    }
                }
            }
        }
    }
    numbers
}
