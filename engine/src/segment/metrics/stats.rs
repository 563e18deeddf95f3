//! Statistics of a chunk, so that counts, extremes and sums over whole chunks need no decode.
//!
//! Record: varint of the samples that are not NaN, then six numbers (min, max, sum, first, last, sum of
//! resets). A number is a varint whose lowest bit says how to go on: 0: the rest is a whole number,
//! zig-zag; 1: eight bytes with the bits of the double follow.

use crate::codec::floats::Stats;
use crate::codec::varint::{unzigzag, zigzag};
use crate::error::Result;

use super::super::wire::{Cursor, put_f64, put_u64};

/// Statistics of a chunk's float samples; see [`Stats`] for how NaNs are treated.
pub type ChunkStats = Stats;

/// Whole numbers up to here are stored as varints: above, doubles are shorter.
const WHOLE_MAX: f64 = (1_u64 << 48) as f64;

/// Appends a record.
pub(crate) fn put(out: &mut Vec<u8>, stats: &Stats) {
    put_u64(out, stats.count);
    for number in [
        stats.min,
        stats.max,
        stats.sum,
        stats.first,
        stats.last,
        stats.counter_resets_sum,
    ] {
        put_number(out, number);
    }
}

fn put_number(out: &mut Vec<u8>, number: f64) {
    let whole = number as i64;
    let exact = (whole as f64).to_bits() == number.to_bits();
    if exact && number.abs() <= WHOLE_MAX {
        put_u64(out, zigzag(whole) << 1);
    } else {
        out.push(1);
        put_f64(out, number);
    }
}

/// Reads how many samples are not NaN: the first field of a record.
pub(crate) fn read_count(cursor: &mut Cursor<'_>) -> Result<u64> {
    cursor.varint()
}

/// Reads a record.
pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Stats> {
    let count = read_count(cursor)?;
    let mut numbers = [0.0; 6];
    for number in &mut numbers {
        *number = read_number(cursor)?;
    }
    cursor.finish()?;
    let [min, max, sum, first, last, counter_resets_sum] = numbers;
    Ok(Stats {
        min,
        max,
        sum,
        count,
        first,
        last,
        counter_resets_sum,
    })
}

fn read_number(cursor: &mut Cursor<'_>) -> Result<f64> {
    let head = cursor.varint()?;
    if head & 1 == 1 {
        return cursor.f64();
    }
    Ok(unzigzag(head >> 1) as f64)
}

/// Statistics of `count` times the same value.
pub(crate) fn of_constant(value: f64, count: usize) -> Stats {
    if value.is_nan() {
        return Stats {
            first: value,
            last: value,
            ..Stats::EMPTY
        };
    }
    // Added one by one, as for any other chunk: the sum of a thousand tenths is not a hundred.
    let sum = (0..count).fold(0.0, |sum, _| sum + value);
    Stats {
        min: value,
        max: value,
        sum,
        count: count as u64,
        first: value,
        last: value,
        counter_resets_sum: 0.0,
    }
}
