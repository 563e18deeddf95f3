//! Attributes, histograms and times inside a record.

use std::sync::Arc;

use super::time_column;
use crate::codec::varint::{write_i64, write_u64};
use crate::model::{
    AttributeValue, Attributes, BucketSpan, CounterResetHint, Histogram, NANOS_PER_MILLI,
    NANOS_PER_SECOND,
};
use crate::wal::cursor::{Cursor, Malformed, write_bytes, write_text};

/// Nesting of arrays and maps in an attribute; deeper ones are refused at the border.
pub(crate) const ATTRIBUTE_DEPTH_MAX: usize = 64;

/// Kinds of attribute values; on disk, never renumbered.
mod kind {
    pub(super) const NULL: u8 = 0;
    pub(super) const STRING: u8 = 1;
    pub(super) const INT: u8 = 2;
    pub(super) const FLOAT: u8 = 3;
    pub(super) const FALSE: u8 = 4;
    pub(super) const TRUE: u8 = 5;
    pub(super) const BYTES: u8 = 6;
    pub(super) const ARRAY: u8 = 7;
    pub(super) const MAP: u8 = 8;
}

/// An attribute nests deeper than [`ATTRIBUTE_DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

pub(super) fn write_value(
    out: &mut Vec<u8>,
    value: &AttributeValue,
    depth: usize,
) -> Result<(), TooDeep> {
    match value {
        AttributeValue::Null => out.push(kind::NULL),
        AttributeValue::String(text) => {
            out.push(kind::STRING);
            write_text(out, text);
        }
        AttributeValue::Int(number) => {
            out.push(kind::INT);
            write_i64(out, *number);
        }
        AttributeValue::Float(number) => {
            out.push(kind::FLOAT);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        AttributeValue::Bool(false) => out.push(kind::FALSE),
        AttributeValue::Bool(true) => out.push(kind::TRUE),
        AttributeValue::Bytes(bytes) => {
            out.push(kind::BYTES);
            write_bytes(out, bytes);
        }
        AttributeValue::Array(items) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            out.push(kind::ARRAY);
            write_u64(out, items.len() as u64);
            for item in items {
                write_value(out, item, depth)?;
            }
        }
        AttributeValue::Map(pairs) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            out.push(kind::MAP);
            write_pairs(out, pairs, depth)?;
        }
    }
    Ok(())
}

pub(super) fn write_attributes(out: &mut Vec<u8>, attributes: &Attributes) -> Result<(), TooDeep> {
    write_pairs(out, attributes, ATTRIBUTE_DEPTH_MAX)
}

fn write_pairs(
    out: &mut Vec<u8>,
    pairs: &[(String, AttributeValue)],
    depth: usize,
) -> Result<(), TooDeep> {
    write_u64(out, pairs.len() as u64);
    for (key, value) in pairs {
        write_text(out, key);
        write_value(out, value, depth)?;
    }
    Ok(())
}

pub(super) fn read_value(
    cursor: &mut Cursor<'_>,
    depth: usize,
) -> Result<AttributeValue, Malformed> {
    let deeper = |cursor: &Cursor<'_>| {
        depth
            .checked_sub(1)
            .ok_or_else(|| cursor.malformed("attribute nested too deep"))
    };
    Ok(match cursor.u8()? {
        kind::NULL => AttributeValue::Null,
        kind::STRING => AttributeValue::String(cursor.text()?.to_owned()),
        kind::INT => AttributeValue::Int(cursor.zigzag()?),
        kind::FLOAT => AttributeValue::Float(cursor.f64()?),
        kind::FALSE => AttributeValue::Bool(false),
        kind::TRUE => AttributeValue::Bool(true),
        kind::BYTES => AttributeValue::Bytes(cursor.bytes()?.to_vec()),
        kind::ARRAY => {
            let depth = deeper(cursor)?;
            let count = cursor.count(1)?;
            let items = (0..count).map(|_| read_value(cursor, depth));
            AttributeValue::Array(items.collect::<Result<_, _>>()?)
        }
        kind::MAP => {
            let depth = deeper(cursor)?;
            AttributeValue::Map(read_pairs(cursor, depth)?)
        }
        _ => return Err(cursor.malformed("unknown kind of attribute")),
    })
}

pub(super) fn read_attributes(cursor: &mut Cursor<'_>) -> Result<Attributes, Malformed> {
    read_pairs(cursor, ATTRIBUTE_DEPTH_MAX)
}

fn read_pairs(
    cursor: &mut Cursor<'_>,
    depth: usize,
) -> Result<Vec<(String, AttributeValue)>, Malformed> {
    let count = cursor.count(2)?;
    (0..count)
        .map(|_| Ok((cursor.text()?.to_owned(), read_value(cursor, depth)?)))
        .collect()
}

/// Divisors that a column of times may use, largest first.
const TIME_UNITS_NS: [i64; 4] = [NANOS_PER_SECOND, NANOS_PER_MILLI, 1_000, 1];

/// Appends a column of times. Usually all are equal (one scrape) or step by a grid.
pub(super) fn write_times(out: &mut Vec<u8>, times: &[i64]) {
    let Some(first) = times.first().copied() else {
        out.push(time_column::ABSENT);
        return;
    };
    if times.iter().all(|time| *time == first) {
        out.push(time_column::SHARED);
        write_i64(out, first);
        return;
    }
    let divides = |unit: &i64| times.iter().all(|time| time % unit == 0);
    let code = TIME_UNITS_NS.iter().position(divides).unwrap_or(3);
    let unit = TIME_UNITS_NS[code];
    out.push(time_column::DELTAS);
    out.push(code as u8);
    let mut previous = 0_i64;
    for time in times {
        let time = time / unit;
        // Wrapping on both sides: two extremes differ by more than an i64 holds.
        write_i64(out, time.wrapping_sub(previous));
        previous = time;
    }
}

/// Reads `count` times; an absent column is empty.
pub(super) fn read_times(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    match cursor.u8()? {
        time_column::ABSENT => Ok(Vec::new()),
        time_column::SHARED => Ok(vec![cursor.zigzag()?; count]),
        time_column::DELTAS => {
            let unit = *TIME_UNITS_NS
                .get(usize::from(cursor.u8()?))
                .ok_or_else(|| cursor.malformed("unknown unit of time"))?;
            let mut times = Vec::with_capacity(count.min(cursor.remaining()));
            let mut time = 0_i64;
            for _ in 0..count {
                time = time.wrapping_add(cursor.zigzag()?);
                times.push(
                    time.checked_mul(unit)
                        .ok_or_else(|| cursor.malformed("time out of range"))?,
                );
            }
            Ok(times)
        }
        _ => Err(cursor.malformed("unknown column of times")),
    }
}

/// Bits of a histogram's first byte, above the two of the counter reset hint.
mod histogram_flag {
    pub(super) const HINT_MASK: u8 = 0b11;
    pub(super) const INTEGER: u8 = 1 << 2;
    /// Bucket populations are whole numbers, written as zig-zag differences.
    pub(super) const WHOLE_BUCKETS: u8 = 1 << 3;
    pub(super) const CUSTOM: u8 = 1 << 4;
    /// The custom boundaries are those of the histogram before it.
    pub(super) const CUSTOM_AS_BEFORE: u8 = 1 << 5;
    pub(super) const KNOWN: u8 = (1 << 6) - 1;
}

/// The whole number with exactly these bits, if it is small enough to subtract safely.
fn whole(value: f64) -> Option<i64> {
    let number = value as i64;
    let exact = (number as f64).to_bits() == value.to_bits();
    (exact && number.unsigned_abs() < 1 << 53).then_some(number)
}

pub(super) fn write_histogram(
    out: &mut Vec<u8>,
    histogram: &Histogram,
    custom_before: &mut Option<Arc<[f64]>>,
) {
    let mut flags = histogram.counter_reset_hint as u8;
    if histogram.integer {
        flags |= histogram_flag::INTEGER;
    }
    let buckets = [&histogram.positive_buckets, &histogram.negative_buckets];
    let is_whole = buckets
        .iter()
        .all(|b| b.iter().all(|p| whole(*p).is_some()));
    if is_whole {
        flags |= histogram_flag::WHOLE_BUCKETS;
    }
    let mut custom = None;
    if let Some(bounds) = &histogram.custom_values {
        flags |= histogram_flag::CUSTOM;
        let bits = |b: &[f64]| b.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        if custom_before
            .as_ref()
            .is_some_and(|b| bits(b) == bits(bounds))
        {
            flags |= histogram_flag::CUSTOM_AS_BEFORE;
        } else {
            custom = Some(bounds);
        }
        *custom_before = Some(Arc::clone(bounds));
    }
    out.push(flags);
    write_i64(out, i64::from(histogram.schema));
    for number in [
        histogram.zero_threshold,
        histogram.zero_count,
        histogram.count,
        histogram.sum,
    ] {
        out.extend_from_slice(&number.to_bits().to_le_bytes());
    }
    if let Some(bounds) = custom {
        write_floats(out, bounds);
    }
    let spans = [&histogram.positive_spans, &histogram.negative_spans];
    for (spans, buckets) in spans.into_iter().zip(buckets) {
        write_u64(out, spans.len() as u64);
        for span in spans {
            write_i64(out, i64::from(span.offset));
            write_u64(out, u64::from(span.length));
        }
        if is_whole {
            write_u64(out, buckets.len() as u64);
            let mut previous = 0;
            for number in buckets.iter().filter_map(|p| whole(*p)) {
                write_i64(out, number - previous);
                previous = number;
            }
        } else {
            write_floats(out, buckets);
        }
    }
}

pub(super) fn read_histogram(
    cursor: &mut Cursor<'_>,
    custom_before: &mut Option<Arc<[f64]>>,
) -> Result<Histogram, Malformed> {
    let flags = cursor.u8()?;
    if flags & !histogram_flag::KNOWN != 0 {
        return Err(cursor.malformed("unknown histogram flag"));
    }
    let hint = CounterResetHint::from_u8(flags & histogram_flag::HINT_MASK);
    let schema = i32::try_from(cursor.zigzag()?)
        .map_err(|_| cursor.malformed("histogram schema out of range"))?;
    let mut histogram = Histogram {
        counter_reset_hint: hint.unwrap_or_default(),
        schema,
        integer: flags & histogram_flag::INTEGER != 0,
        zero_threshold: cursor.f64()?,
        zero_count: cursor.f64()?,
        count: cursor.f64()?,
        sum: cursor.f64()?,
        ..Histogram::default()
    };
    if flags & histogram_flag::CUSTOM != 0 {
        if flags & histogram_flag::CUSTOM_AS_BEFORE == 0 {
            *custom_before = Some(Arc::from(read_floats(cursor)?));
        }
        let bounds = custom_before
            .as_ref()
            .ok_or_else(|| cursor.malformed("no custom boundaries before"))?;
        histogram.custom_values = Some(Arc::clone(bounds));
    }
    let is_whole = flags & histogram_flag::WHOLE_BUCKETS != 0;
    for positive in [true, false] {
        let count = cursor.count(2)?;
        let mut spans = Vec::with_capacity(count);
        for _ in 0..count {
            let offset = i32::try_from(cursor.zigzag()?)
                .map_err(|_| cursor.malformed("bucket offset out of range"))?;
            let length = cursor.narrow("bucket count out of range")?;
            spans.push(BucketSpan { offset, length });
        }
        let buckets = if is_whole {
            read_whole_buckets(cursor)?
        } else {
            read_floats(cursor)?
        };
        if positive {
            (histogram.positive_spans, histogram.positive_buckets) = (spans, buckets);
        } else {
            (histogram.negative_spans, histogram.negative_buckets) = (spans, buckets);
        }
    }
    Ok(histogram)
}

fn read_whole_buckets(cursor: &mut Cursor<'_>) -> Result<Vec<f64>, Malformed> {
    let count = cursor.count(1)?;
    let mut buckets = Vec::with_capacity(count);
    let mut number = 0_i64;
    for _ in 0..count {
        number = number.wrapping_add(cursor.zigzag()?);
        buckets.push(number as f64);
    }
    Ok(buckets)
}

fn write_floats(out: &mut Vec<u8>, values: &[f64]) {
    write_u64(out, values.len() as u64);
    for value in values {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn read_floats(cursor: &mut Cursor<'_>) -> Result<Vec<f64>, Malformed> {
    let count = cursor.count(8)?;
    (0..count).map(|_| cursor.f64()).collect()
}
