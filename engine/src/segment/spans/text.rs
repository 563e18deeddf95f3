//! Columns of text: distinct values, and which of them each row has; runs of equal values as one.
//!
//! Values of a trace repeat from span to span (a user's id, a host), so a column is first cut into runs
//! where that halves it. Bytes:
//!
//! ```text
//! form u8: bit 0 runs, bit 1 keys
//! runs: count varint, length varint, integers: length of each run
//! keys: number of distinct values varint, length varint, integers: one per run (or per value)
//! list: the distinct values (or, without keys, one per run or value) as a block of strings
//! ```

use std::ops::Range;

use crate::codec::reader::ByteReader;
use crate::codec::strings::{self, Strings};
use crate::codec::{CodecError, EncodeEffort, integers, varint};

const CODEC: &str = "span text";
const HAS_RUNS: u8 = 1;
const HAS_KEYS: u8 = 2;

/// Appends a length and what `write` writes.
pub(super) fn put_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    varint::write_u64(out, body.len() as u64);
    out.extend_from_slice(&body);
}

/// Appends a column: value `i` is `distinct[keys[i]]`; every distinct value occurs, and they are in the
/// order of their first occurrence.
pub(super) fn encode(distinct: &[&[u8]], keys: &[u32], effort: EncodeEffort, out: &mut Vec<u8>) {
    let run_count = keys.chunk_by(|a, b| a == b).count();
    let has_runs = run_count * 2 <= keys.len();
    let stored = if has_runs { run_count } else { keys.len() };
    let has_keys = distinct.len() < stored;
    out.push((u8::from(has_runs) * HAS_RUNS) | (u8::from(has_keys) * HAS_KEYS));
    if has_runs {
        let lengths: Vec<i64> = keys
            .chunk_by(|a, b| a == b)
            .map(|run| run.len() as i64)
            .collect();
        varint::write_u64(out, run_count as u64);
        put_sized(out, |out| integers::encode(&lengths, effort, out));
    }
    if has_keys {
        let keys: Vec<i64> = if has_runs {
            let runs = keys.chunk_by(|a, b| a == b);
            runs.filter_map(|run| run.first().map(|key| i64::from(*key)))
                .collect()
        } else {
            keys.iter().map(|key| i64::from(*key)).collect()
        };
        varint::write_u64(out, distinct.len() as u64);
        put_sized(out, |out| integers::encode(&keys, effort, out));
    }
    strings::encode(distinct, effort, out);
}

/// Part of a column: value `i` of it is `values[keys[i]]`; keys are in range.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text {
    pub(super) keys: Vec<i32>,
    pub(super) values: Strings,
}

fn sized<'a>(reader: &mut ByteReader<'a>) -> Result<&'a [u8], CodecError> {
    let size = reader.varint_max(reader.remaining(), "a part outside of its column")?;
    reader.take(size)
}

/// Where the values of a range are among the stored ones: for each value the place of its run.
fn runs_of(
    lengths: &[i64],
    count: usize,
    range: &Range<usize>,
    reader: &ByteReader<'_>,
) -> Result<(Vec<i32>, Range<usize>), CodecError> {
    let mut places = Vec::with_capacity(range.len());
    let mut stored = 0..0;
    let mut start = 0_usize;
    for (place, length) in lengths.iter().enumerate() {
        let end = usize::try_from(*length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end <= count && *end > start)
            .ok_or_else(|| reader.corrupt("runs of another length than the column"))?;
        let wanted = range.start.max(start)..range.end.min(end);
        if !wanted.is_empty() {
            if stored.is_empty() {
                stored = place..place;
            }
            stored.end = place + 1;
            let place = (place - stored.start) as i32;
            places.resize(places.len() + wanted.len(), place);
        }
        start = end;
    }
    if start != count {
        return Err(reader.corrupt("runs of another length than the column"));
    }
    Ok((places, stored))
}

/// Decodes the values `range` of the `count` in `block`; the distinct values may take `bytes_max` bytes.
///
/// # Errors
/// [`CodecError`] if the block is damaged.
pub(super) fn decode(
    block: &[u8],
    count: usize,
    range: Range<usize>,
    bytes_max: usize,
) -> Result<Text, CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 0);
    let form = reader.u8()?;
    if form & !(HAS_RUNS | HAS_KEYS) != 0 || range.end > count {
        return Err(reader.corrupt("unknown form of text"));
    }
    let mut stored_count = count;
    let mut stored = range.clone();
    let mut places = None;
    if form & HAS_RUNS != 0 {
        stored_count = reader.varint_max(count, "more runs than values")?;
        let mut lengths = Vec::new();
        integers::decode(sized(&mut reader)?, stored_count, &mut lengths)?;
        let (of_values, of_runs) = runs_of(&lengths, count, &range, &reader)?;
        places = Some(of_values);
        stored = of_runs;
    }
    if form & HAS_KEYS == 0 {
        let base = stored.start as i32;
        let keys = match places {
            Some(places) => places.into_iter().map(|place| place + base).collect(),
            None => stored.map(|place| place as i32).collect(),
        };
        let values = strings::decode(reader.rest(), stored_count, bytes_max)?;
        return Ok(Text { keys, values });
    }
    let distinct = reader.varint_max(stored_count, "more distinct values than values")?;
    let mut keys = Vec::new();
    integers::decode_range(sized(&mut reader)?, stored_count, stored, &mut keys)?;
    if keys.iter().any(|key| *key < 0 || *key >= distinct as i64) {
        return Err(reader.corrupt("a key outside of the dictionary"));
    }
    let keys: Vec<i32> = match places {
        Some(places) => places
            .into_iter()
            .map(|place| keys.get(place as usize).map_or(0, |key| *key as i32))
            .collect(),
        None => keys.into_iter().map(|key| key as i32).collect(),
    };
    let values = strings::decode(reader.rest(), distinct, bytes_max)?;
    Ok(Text { keys, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[String]) {
        let mut distinct: Vec<&[u8]> = Vec::new();
        let mut keys = Vec::new();
        for value in values {
            let known = distinct.iter().position(|known| *known == value.as_bytes());
            keys.push(known.unwrap_or(distinct.len()) as u32);
            if known.is_none() {
                distinct.push(value.as_bytes());
            }
        }
        for effort in [
            EncodeEffort::Flush,
            EncodeEffort::Compact,
            EncodeEffort::Cold,
        ] {
            let mut block = Vec::new();
            encode(&distinct, &keys, effort, &mut block);
            let count = values.len();
            for range in [0..count, 0..1.min(count), count / 3..count / 2] {
                let text = decode(&block, count, range.clone(), 1 << 20).unwrap();
                let read = text.keys.iter().map(|key| text.values.get(*key as usize));
                let wanted = values[range].iter().map(|value| Some(value.as_bytes()));
                assert!(read.eq(wanted));
            }
            for cut in 0..block.len() {
                let _ = decode(&block[..cut], count, 0..count, 1 << 20);
            }
        }
    }

    #[test]
    fn all_forms_come_back_in_whole_and_in_part() {
        check(&[]);
        check(&["one".into()]);
        check(&vec!["same".into(); 100]);
        check(
            &(0..200)
                .map(|i| format!("select {}", i * 7))
                .collect::<Vec<_>>(),
        );
        check(&(0..200).map(|i| format!("u{}", i / 9)).collect::<Vec<_>>());
        check(&(0..200).map(|i| format!("m{}", i % 5)).collect::<Vec<_>>());
        check(
            &(0..200)
                .map(|i| format!("r{}", i / 9 % 4))
                .collect::<Vec<_>>(),
        );
    }
}
