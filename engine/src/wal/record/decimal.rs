//! The values of a record: most are short decimals, and as whole numbers they take half the bytes.
//!
//! One record holds one value each of many series, so there is no earlier value to take a
//! difference to. But counters are whole numbers, and gauges mostly have one to three decimals:
//! stripped of the binary noise of a double they are shorter before compression (half the bytes for
//! zstd to look at, which saves more time than this costs) and after it (a quarter, measured in
//! benches/RESULTS.md). Exactness is checked bit by bit for every value: whatever does not come
//! back as it was (full-precision doubles, -0.0, NaN payloads, infinities) is kept as its bits.

use super::value_column;
use crate::codec::varint::write_i64;
use crate::wal::cursor::{Cursor, Malformed};

const POWERS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
/// Marks a value that is kept as its bits.
const RAW: u8 = POWERS.len() as u8;
/// Whole numbers below this are exact in a double.
const WHOLE_MAX: u64 = 1 << 53;

/// The decimals of a value and the value in units of the last one, if that is exact.
#[inline]
fn split(value: f64) -> Option<(u8, i64)> {
    let whole = value as i64;
    if (whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < WHOLE_MAX {
        return Some((0, whole));
    }
    // Two decimals first: they cover one as well, and are the most frequent.
    for decimals in [2_u8, 3] {
        let power = POWERS[usize::from(decimals)];
        let scaled = (value * power + 0.5_f64.copysign(value)) as i64;
        if scaled.unsigned_abs() >= WHOLE_MAX {
            return None;
        }
        if (scaled as f64 / power).to_bits() == value.to_bits() {
            let tenth = scaled / 10;
            if decimals == 2
                && tenth * 10 == scaled
                && (tenth as f64 / 10.0).to_bits() == value.to_bits()
            {
                return Some((1, tenth));
            }
            return Some((decimals, scaled));
        }
    }
    None
}

/// Appends a column of values.
pub(super) fn write_values(out: &mut Vec<u8>, values: &[f64]) {
    let start = out.len();
    out.push(value_column::DECIMAL);
    let tags_at = out.len();
    out.resize(tags_at + values.len(), RAW);
    let mut raw_count = 0;
    for (index, value) in values.iter().enumerate() {
        match split(*value) {
            Some((decimals, number)) => {
                out[tags_at + index] = decimals;
                write_i64(out, number);
            }
            None => raw_count += 1,
        }
    }
    if raw_count > values.len() / 2 {
        out.truncate(start);
        out.push(value_column::RAW);
        for value in values {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        return;
    }
    for (index, value) in values.iter().enumerate() {
        if out[tags_at + index] == RAW {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

/// Reads `count` values.
pub(super) fn read_values(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    match cursor.u8()? {
        value_column::RAW => {
            let bytes = cursor.take(count.saturating_mul(8))?;
            let (chunks, _) = bytes.as_chunks::<8>();
            let bits = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
            Ok(bits.map(f64::from_bits).collect())
        }
        value_column::DECIMAL => {
            let tags = cursor.take(count)?;
            let mut values = Vec::with_capacity(count);
            for tag in tags {
                values.push(match POWERS.get(usize::from(*tag)) {
                    Some(power) => cursor.zigzag()? as f64 / power,
                    None if *tag == RAW => 0.0,
                    None => return Err(cursor.malformed("unknown number of decimals")),
                });
            }
            let raw = values.iter_mut().zip(tags).filter(|(_, tag)| **tag == RAW);
            for (value, _) in raw {
                *value = cursor.f64()?;
            }
            Ok(values)
        }
        _ => Err(cursor.malformed("unknown column of values")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::STALE_NAN_BITS;
    use proptest::prelude::*;

    fn round_trip(values: &[f64]) -> usize {
        let mut out = Vec::new();
        write_values(&mut out, values);
        let mut cursor = Cursor::new(&out);
        let found = read_values(&mut cursor, values.len()).unwrap();
        cursor.finish().unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(values));
        for cut in 0..out.len() {
            assert!(read_values(&mut Cursor::new(&out[..cut]), values.len()).is_err());
        }
        out.len()
    }

    #[test]
    fn ugly_values_keep_their_bits() {
        let ugly = [
            f64::from_bits(STALE_NAN_BITS),
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            0.0,
            f64::MIN_POSITIVE / 2.0,
            f64::MAX,
            f64::MIN,
            9_007_199_254_740_991.0,
            9_007_199_254_740_992.0,
            9.3e18,
            -9.3e18,
            0.1 + 0.2,
        ];
        for value in ugly {
            round_trip(&[value]);
            round_trip(&[value, 1.0, 2.5, 0.001, -7.25]);
        }
        round_trip(&ugly);
        round_trip(&[]);
    }

    #[test]
    fn short_decimals_are_short() {
        assert_eq!(split(-12.5), Some((1, -125)));
        assert_eq!(split(12.34), Some((2, 1234)));
        assert_eq!(split(0.007), Some((3, 7)));
        assert_eq!(split(-3.0), Some((0, -3)));
        assert_eq!(split(0.1 + 0.2), None);
        assert_eq!(round_trip(&[12.34, 1.0, 0.5]), 1 + 3 + 2 + 1 + 1);
    }

    proptest! {
        #[test]
        fn any_bits_round_trip(bits in prop::collection::vec(any::<u64>(), 0..40)) {
            let values: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
            round_trip(&values);
        }

        #[test]
        fn any_decimals_round_trip(
            numbers in prop::collection::vec((any::<i32>(), 0..6_i32), 0..40)
        ) {
            let scale = |(n, e): (i32, i32)| f64::from(n) / 10_f64.powi(e);
            let values: Vec<f64> = numbers.into_iter().map(scale).collect();
            round_trip(&values);
        }
    }
}
