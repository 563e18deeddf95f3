//! Floats as integers times a common scale: counters, decimals, eighths.
//!
//! Most telemetry was once an integer or a short decimal. `value = integer / 10^e`, or
//! `integer * 2^k`, must give back the very bits; what does not (NaN, `-0.0`, the odd long fraction)
//! is an exception, stored as bits beside its position, and the integers stay below 2^51 so that
//! conversion is one addition and one subtraction per lane. The integers then go to the integer
//! stream.

use std::ops::Range;

use crate::codec::block::Tag;
use crate::codec::choose::EncodeEffort;
use crate::codec::reader::ByteReader;
use crate::codec::varint;
use crate::codec::{CodecError, intstream};

/// Adding this to a double below 2^51 leaves the nearest integer in the low mantissa bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
/// Integers are smaller than this in absolute value.
const INTEGER_BOUND: f64 = (1_u64 << 51) as f64;

/// Powers of ten that are exact doubles.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Largest decimal exponent that is tried and read.
const DECIMAL_MAX: u8 = 17;
/// Largest power of two, up or down, that is tried and read: exact in both directions.
const BINARY_MAX: i32 = 1000;
/// Fractions this short (1/8, 1/64) are taken as binary before decimals are tried.
const BINARY_FRACTION_BITS: i32 = 10;

/// First byte of the payload when the scale is a power of two, whose exponent then follows.
const SCALE_BINARY: u8 = 0x80;

/// How integers become values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// `integer / 10^e`
    Decimal(u8),
    /// `integer * 2^k`
    Binary(i32),
}

/// At most this many of `count` values may be exceptions, at about ten bytes each.
fn exceptions_max(count: usize) -> usize {
    count / 16 + 2
}

/// Integers in place of values; exceptions repeat the integer before them.
struct Scaled {
    scale: Scale,
    integers: Vec<i64>,
    exceptions: Vec<usize>,
}

/// Appends a block, or returns false if the values are not of this kind.
pub(super) fn encode(values: &[f64], effort: EncodeEffort, out: &mut Vec<u8>) -> bool {
    let Some(scaled) = find_scale(values) else {
        return false;
    };
    out.push(Tag::FloatScaled as u8);
    match scaled.scale {
        Scale::Decimal(exponent) => out.push(exponent),
        Scale::Binary(exponent) => {
            out.push(SCALE_BINARY);
            varint::write_i64(out, i64::from(exponent));
        }
    }
    varint::write_u64(out, scaled.exceptions.len() as u64);
    let mut previous = 0;
    for &at in &scaled.exceptions {
        varint::write_u64(out, (at - previous) as u64);
        out.extend_from_slice(&values[at].to_bits().to_le_bytes());
        previous = at;
    }
    intstream::encode(&scaled.integers, effort, out);
    true
}

/// The scale with the smallest integers that nearly all values fit.
fn find_scale(values: &[f64]) -> Option<Scaled> {
    let mut integers = Vec::with_capacity(values.len());
    let misses_max = exceptions_max(values.len());
    let integer_misses = quantise_decimal(values, 0, &mut integers);
    // An exception costs ten bytes; one more decimal digit costs 3.3 bits for each value.
    if integer_misses <= values.len() / 24 {
        return Some(Scaled::new(values, Scale::Decimal(0), integers));
    }
    if let Some(exponent) = binary_exponent(values) {
        integers.clear();
        if quantise_binary(values, exponent, &mut integers) <= misses_max {
            return Some(Scaled::new(values, Scale::Binary(exponent), integers));
        }
    }
    let mut decimals = 1;
    for _ in 0..4 {
        decimals = sample_decimals(values, decimals)?;
        integers.clear();
        if quantise_decimal(values, decimals, &mut integers) <= misses_max {
            return Some(Scaled::new(values, Scale::Decimal(decimals), integers));
        }
        decimals += 1;
    }
    None
}

impl Scaled {
    /// Finds the exceptions and makes them cheap for the integer stream.
    fn new(values: &[f64], scale: Scale, mut integers: Vec<i64>) -> Scaled {
        let mut exceptions = Vec::new();
        let is_exact = |at: usize, integer: i64| match scale {
            Scale::Decimal(exponent) => {
                let value = integer as f64 / POWERS_OF_TEN[usize::from(exponent)];
                value.to_bits() == values[at].to_bits()
            }
            Scale::Binary(exponent) => {
                (integer as f64 * power_of_two(exponent)).to_bits() == values[at].to_bits()
            }
        };
        for at in 0..integers.len() {
            if !is_exact(at, integers[at]) {
                exceptions.push(at);
                integers[at] = if at == 0 { 0 } else { integers[at - 1] };
            }
        }
        // Leading exceptions take the first integer that counts.
        let leading = exceptions
            .iter()
            .enumerate()
            .take_while(|&(i, &at)| i == at)
            .count();
        if let Some(&first) = integers.get(leading) {
            integers[..leading].fill(first);
        }
        Scaled {
            scale,
            integers,
            exceptions,
        }
    }
}

/// Appends `round(value * 10^e)` for all values; returns how many do not come back to the bit.
///
/// Such values leave an integer that does not convert to them, below 2^52 in absolute value.
fn quantise_decimal(values: &[f64], exponent: u8, integers: &mut Vec<i64>) -> usize {
    let power = POWERS_OF_TEN[usize::from(exponent)];
    if exponent == 0 {
        quantise(values, |value| value, |integer| integer, integers)
    } else {
        quantise(
            values,
            |value| value * power,
            |integer| integer / power,
            integers,
        )
    }
}

/// Appends `value * 2^-k` for all values; returns how many are no such integers.
fn quantise_binary(values: &[f64], exponent: i32, integers: &mut Vec<i64>) -> usize {
    let (up, down) = (power_of_two(-exponent), power_of_two(exponent));
    quantise(
        values,
        |value| value * up,
        |integer| integer * down,
        integers,
    )
}

#[inline(always)]
fn quantise(
    values: &[f64],
    scale: impl Fn(f64) -> f64,
    unscale: impl Fn(f64) -> f64,
    integers: &mut Vec<i64>,
) -> usize {
    let mut misses = 0_usize;
    integers.extend(values.iter().map(|&value| {
        let scaled = scale(value);
        let in_range = scaled.abs() < INTEGER_BOUND;
        let shifted = if in_range { scaled } else { 0.0 } + ROUNDER;
        let exact = unscale(shifted - ROUNDER).to_bits() == value.to_bits();
        misses += usize::from(!(exact & in_range));
        (shifted.to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64)
    }));
    misses
}

/// The smallest number of decimals, from `decimals` up, with which most of a sample fits.
fn sample_decimals(values: &[f64], mut decimals: u8) -> Option<u8> {
    const SAMPLES: usize = 32;
    let step = values.len().div_ceil(SAMPLES);
    let (mut fits, mut seen) = (0, 0);
    for &value in values
        .iter()
        .step_by(step)
        .filter(|value| value.is_finite())
    {
        seen += 1;
        let needed = (decimals..=DECIMAL_MAX).find(|&exponent| {
            let power = POWERS_OF_TEN[usize::from(exponent)];
            let scaled = value * power;
            let rounded = (scaled + ROUNDER) - ROUNDER;
            scaled.abs() < INTEGER_BOUND && (rounded / power).to_bits() == value.to_bits()
        });
        if let Some(needed) = needed {
            decimals = needed;
            fits += 1;
        } else if seen - fits > 3 {
            return None;
        }
    }
    (fits > 0 && fits * 8 >= seen * 7).then_some(decimals)
}

/// The exponent of the lowest set bit over all values, where that makes short integers.
fn binary_exponent(values: &[f64]) -> Option<i32> {
    const STEP: usize = 7;
    let exponent_of = |value: f64| {
        let bits = value.to_bits();
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        ((bits >> 52 & 0x7ff) as i32) - 1075 + mantissa.trailing_zeros() as i32
    };
    let (mut lowest, mut largest) = (i32::MAX, 0.0_f64);
    // A sample rejects decimals, whose lowest bits are random, at once.
    for pass in [STEP, 1] {
        for &value in values.iter().step_by(pass) {
            if value.is_normal() {
                lowest = lowest.min(exponent_of(value));
                largest = largest.max(value.abs());
            }
        }
        if !(-BINARY_FRACTION_BITS..=BINARY_MAX).contains(&lowest) {
            return None;
        }
    }
    (largest * power_of_two(-lowest) < INTEGER_BOUND).then_some(lowest)
}

/// `2^exponent`, for normal numbers.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    debug_assert!(
        (-1022..=1023).contains(&exponent),
        "bug: exponent {exponent}"
    );
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Doubles of integers below 2^51. Others (only damaged blocks have them) give any value.
#[inline(always)]
fn to_double(integer: i64) -> f64 {
    f64::from_bits((integer.wrapping_add(ROUNDER.to_bits() as i64)) as u64) - ROUNDER
}

/// Appends the values `range` of the `count` values of a payload.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    let scale = match reader.u8()? {
        SCALE_BINARY => {
            let exponent = reader.varint_i64()?;
            match i32::try_from(exponent) {
                Ok(exponent) if exponent.abs() <= BINARY_MAX => Scale::Binary(exponent),
                _ => return Err(reader.corrupt("binary exponent out of range")),
            }
        }
        exponent if exponent <= DECIMAL_MAX => Scale::Decimal(exponent),
        _ => return Err(reader.corrupt("decimal exponent out of range")),
    };
    let exception_count = reader.varint_max(count, "more exceptions than values")?;
    let mut exceptions = reader.clone();
    let mut at = 0_usize;
    for _ in 0..exception_count {
        at = at.saturating_add(reader.varint_max(count, "exception outside the block")?);
        if at >= count {
            return Err(reader.corrupt("exception outside the block"));
        }
        reader.take(8)?;
    }
    let start = out.len();
    out.reserve(range.len());
    match scale {
        Scale::Decimal(0) => intstream::decode_range(reader, count, range.clone(), |block| {
            out.extend(block.iter().map(|&integer| to_double(integer)));
        })?,
        Scale::Decimal(exponent) => {
            let power = POWERS_OF_TEN[usize::from(exponent)];
            intstream::decode_range(reader, count, range.clone(), |block| {
                out.extend(block.iter().map(|&integer| to_double(integer) / power));
            })?;
        }
        Scale::Binary(exponent) => {
            let power = power_of_two(exponent);
            intstream::decode_range(reader, count, range.clone(), |block| {
                out.extend(block.iter().map(|&integer| to_double(integer) * power));
            })?;
        }
    }
    let mut at = 0;
    for _ in 0..exception_count {
        at += exceptions.varint_max(count, "exception outside the block")?;
        let bits = exceptions.u64_le()?;
        if range.contains(&at) {
            out[start + at - range.start] = f64::from_bits(bits);
        }
    }
    match range.end == count {
        true => reader.finish(),
        false => Ok(()),
    }
}
