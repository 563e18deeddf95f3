//! Blocks of `i64`: constant, integer stream (delta, divisor, bit-packing), or pco.

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
