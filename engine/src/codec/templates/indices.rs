//! Columns of small numbers: which template a row has, which entry of a dictionary.
//!
//! Layout: u8 how (0: integer block; 1: bytes block of one byte each; 2: bytes blocks of the low, then
//! of the high bytes, the first after its varint size), then that. Skewed numbers want an entropy
//! coder, which sees bytes; few different ones are smaller bit-packed. Both are tried.

use super::super::reader::ByteReader;
use super::super::{CodecError, EncodeEffort, bytes, integers, varint};
use super::{CODEC, zstd_level};

const INTEGERS: u8 = 0;
const ONE_PLANE: u8 = 1;
const TWO_PLANES: u8 = 2;

/// Fewer are only bit-packed: the tables of an entropy coder are larger.
const BYTES_COUNT_MIN: usize = 64;

/// Appends `indices`, all below `bound`.
pub(super) fn encode(indices: &[u32], bound: usize, effort: EncodeEffort, out: &mut Vec<u8>) {
    let start = out.len();
    if bound <= 1 << 16 && indices.len() >= BYTES_COUNT_MIN {
        let low: Vec<u8> = indices.iter().map(|&index| index as u8).collect();
        let level = zstd_level(effort);
        if bound <= 1 << 8 {
            out.push(ONE_PLANE);
            bytes::encode(&low, level, out);
        } else {
            let high: Vec<u8> = indices.iter().map(|&index| (index >> 8) as u8).collect();
            let mut plane = Vec::new();
            bytes::encode(&low, level, &mut plane);
            out.push(TWO_PLANES);
            varint::write_u64(out, plane.len() as u64);
            out.extend_from_slice(&plane);
            bytes::encode(&high, level, out);
        }
    }
    let wide: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    let mut packed = vec![INTEGERS];
    integers::encode(&wide, effort, &mut packed);
    if out.len() == start || packed.len() <= out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&packed);
    }
}

/// The `count` indices of `column`, all below `bound`.
pub(super) fn decode(column: &[u8], count: usize, bound: usize) -> Result<Vec<u32>, CodecError> {
    let mut reader = ByteReader::new(CODEC, column, 0);
    let indices: Vec<u32> = match reader.u8()? {
        INTEGERS => {
            let mut values = Vec::new();
            integers::decode(reader.rest(), count, &mut values)?;
            // What does not fit is refused below, whatever it is cut to.
            let narrow = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
            values.into_iter().map(narrow).collect()
        }
        ONE_PLANE => plane(reader.rest(), count)?
            .into_iter()
            .map(u32::from)
            .collect(),
        TWO_PLANES => {
            let size = reader.varint_max(column.len(), "index plane outside the block")?;
            let low = plane(reader.take(size)?, count)?;
            let high = plane(reader.rest(), count)?;
            low.into_iter()
                .zip(high)
                .map(|(low, high)| u32::from(high) << 8 | u32::from(low))
                .collect()
        }
        _ => return Err(reader.corrupt("unknown index column")),
    };
    if indices.iter().all(|&index| (index as usize) < bound) {
        Ok(indices)
    } else {
        Err(reader.corrupt("index out of range"))
    }
}

fn plane(block: &[u8], count: usize) -> Result<Vec<u8>, CodecError> {
    let mut plane = Vec::new();
    bytes::decode(block, count, &mut plane)?;
    if plane.len() == count {
        Ok(plane)
    } else {
        Err(CodecError::Count {
            codec: CODEC,
            expected: count,
            found: plane.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_round_trip_and_are_checked() {
        for bound in [1_usize, 2, 17, 256, 257, 65_536, 70_000] {
            for count in [0, 1, 5, 1000] {
                let indices: Vec<u32> = (0..count)
                    .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 7) % bound as u32)
                    .collect();
                let mut column = Vec::new();
                encode(&indices, bound, EncodeEffort::Flush, &mut column);
                assert_eq!(decode(&column, count as usize, bound), Ok(indices.clone()));
                if let Some(max) = indices.iter().max() {
                    assert!(decode(&column, count as usize, *max as usize).is_err());
                    let longer = decode(&column, count as usize + 129, bound);
                    assert!(longer.is_err() || indices.iter().all(|index| index == max));
                }
            }
        }
    }
}
