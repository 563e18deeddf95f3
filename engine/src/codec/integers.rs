//! Blocks of `i64`: constant, integer stream (delta, divisor, bit-packing), or pco.

use std::ops::Range;

use super::block::Tag;
use super::choose::{self, DecodeCost, EncodeEffort};
use super::reader::ByteReader;
use super::varint;
use super::{CodecError, intstream, pco_wrapper};

const CODEC: &str = "integers";

/// Appends one block with `values`.
pub fn encode(values: &[i64], effort: EncodeEffort, out: &mut Vec<u8>) {
    if let Some((&first, rest)) = values.split_first()
        && rest.iter().all(|&value| value == first)
    {
        out.push(Tag::IntConstant as u8);
        varint::write_i64(out, first);
        return;
    }
    let start = out.len();
    out.push(Tag::IntStream as u8);
    intstream::encode(values, effort, out);
    if effort == EncodeEffort::Cold && values.len() >= pco_wrapper::COUNT_MIN {
        let size = out.len() - start;
        let mut pco = vec![Tag::IntPco as u8];
        pco_wrapper::encode(values, pco_wrapper::LEVEL_COLD, &mut pco);
        if choose::score(effort, pco.len(), values.len(), DecodeCost::PCO)
            < choose::score(effort, size, values.len(), DecodeCost::PACKED)
        {
            out.truncate(start);
            out.extend_from_slice(&pco);
        }
    }
}

/// Appends the `count` values of `block` to `out`.
///
/// # Errors
/// [`CodecError`] if the block is damaged or of another kind; `out` is then as it was.
pub fn decode(block: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let start = out.len();
    let decoded = decode_into(block, count, out);
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

/// As [`decode`], of the values `range` only; what lies behind them is not looked at.
///
/// # Errors
/// As [`decode`].
pub fn decode_range(
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    let start = out.len();
    let decoded = decode_range_into(block, count, range, out);
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

fn decode_range_into(
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    if range.end > count || range.start > range.end {
        return Err(reader.corrupt("a range outside of the values"));
    }
    match Tag::of(block, CODEC)? {
        Tag::IntConstant => decode_into(block, range.len(), out),
        Tag::IntStream => {
            out.reserve(range.len());
            intstream::decode_range(&mut reader, count, range, |values| {
                out.extend_from_slice(values);
            })
        }
        _ => {
            let mut all = Vec::new();
            decode_into(block, count, &mut all)?;
            out.extend_from_slice(all.get(range).unwrap_or(&[]));
            Ok(())
        }
    }
}

fn decode_into(block: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    match Tag::of(block, CODEC)? {
        Tag::IntConstant => {
            let value = reader.varint_i64()?;
            reader.finish()?;
            out.resize(out.len() + count, value);
            Ok(())
        }
        Tag::IntStream => {
            out.reserve(count);
            intstream::decode(&mut reader, count, |values| out.extend_from_slice(values))?;
            reader.finish()
        }
        Tag::IntPco => pco_wrapper::decode(reader.rest(), CODEC, count, out),
        tag => Err(tag.unexpected(CODEC)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parts_of_the_whole() {
        let columns: [Vec<i64>; 4] = [
            vec![7; 300],
            (0..1000).map(|v| v * 3).collect(),
            (0..1000).map(|v| (v * 7919) % 1013).collect(),
            (0..5000)
                .map(|v| v * 1_000_003 % 777 + (v % 13) * 1_000_000)
                .collect(),
        ];
        for values in columns {
            for effort in [
                EncodeEffort::Flush,
                EncodeEffort::Compact,
                EncodeEffort::Cold,
            ] {
                let mut block = Vec::new();
                encode(&values, effort, &mut block);
                for range in [
                    0..0,
                    0..1,
                    5..133,
                    127..129,
                    250..values.len(),
                    0..values.len(),
                ] {
                    let mut out = vec![-1];
                    decode_range(&block, values.len(), range.clone(), &mut out).unwrap();
                    assert_eq!(out[1..], values[range]);
                }
                let outside = values.len()..values.len() + 1;
                assert!(decode_range(&block, values.len(), outside, &mut Vec::new()).is_err());
            }
        }
    }
}
