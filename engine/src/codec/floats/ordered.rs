//! Floats as integers that sort alike: the fallback for full-precision values.
//!
//! Neighbours on the number line differ by one, so a slow walk has differences of few bits, measured
//! in units of the last place at hand: where values are small, so are the units. Values that were
//! once `f32` have 29 zero bits at the end, which the integer stream takes out as a divisor.

use std::ops::Range;

use crate::codec::block::Tag;
use crate::codec::choose::EncodeEffort;
use crate::codec::reader::ByteReader;
use crate::codec::{CodecError, intstream};

/// Maps bits so that integer order is numeric order (`-0.0` just below `0.0`, NaNs outside).
#[inline]
fn to_ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

#[inline]
fn from_ordered(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ (((ordered >> 63) as u64) >> 1) as i64) as u64)
}

pub(super) fn encode(values: &[f64], effort: EncodeEffort, out: &mut Vec<u8>) {
    out.push(Tag::FloatOrdered as u8);
    let ordered: Vec<i64> = values.iter().map(|&value| to_ordered(value)).collect();
    intstream::encode(&ordered, effort, out);
}

pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    out.reserve(range.len());
    let is_whole = range.end == count;
    intstream::decode_range(reader, count, range, |block| {
        out.extend(block.iter().map(|&ordered| from_ordered(ordered)));
    })?;
    match is_whole {
        true => reader.finish(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_inverted() {
        let ascending = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.0,
            -5e-324,
            -0.0,
            0.0,
            5e-324,
            1.0,
            f64::INFINITY,
        ];
        for pair in ascending.windows(2) {
            assert!(to_ordered(pair[0]) < to_ordered(pair[1]), "{pair:?}");
        }
        for bits in [0x7ff0_0000_0000_0002_u64, u64::MAX, 1 << 63, 0] {
            assert_eq!(
                from_ordered(to_ordered(f64::from_bits(bits))).to_bits(),
                bits
            );
        }
    }
}
