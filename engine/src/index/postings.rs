//! Stored postings: sorted row numbers, in whichever of three forms is smallest.
//!
//! Layout: `varint(count << 2 | form)`, then for form
//! 0 (deltas): first row, then distances minus one, as varints;
//! 1 (runs): per run the gap to the end of the run before and the length minus one, as varints;
//! 2 (roaring): the portable serialisation of a roaring bitmap.

use roaring::RoaringBitmap;

use crate::codec::varint;

const FORM_DELTAS: u64 = 0;
const FORM_RUNS: u64 = 1;
const FORM_ROARING: u64 = 2;

/// Lists shorter than this are not tried as roaring bitmaps: the headers alone would be larger.
const ROARING_COUNT_MIN: usize = 1024;

/// Lists shorter than this are added to a set row by row; a union would visit all of the set.
const UNION_COUNT_MIN: usize = 128;

/// Why stored postings were refused: offset in the list and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPostings {
    /// Bytes into the list.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Appends `rows`, which ascend without duplicates.
pub fn encode(rows: &[u32], out: &mut Vec<u8>) {
    debug_assert!(
        rows.windows(2).all(|w| w[0] < w[1]),
        "bug: postings not ascending"
    );
    let count = (rows.len() as u64) << 2;
    let start = out.len();
    varint::write_u64(out, count | FORM_DELTAS);
    let body = out.len();
    put_deltas(rows, out);
    let run_count = 1 + rows.windows(2).filter(|w| w[1] != w[0] + 1).count();
    let mut size = out.len() - body;
    // A run takes two varints, a delta one: more runs than half the rows cannot be smaller.
    if run_count * 2 <= rows.len() {
        let mut runs = Vec::new();
        put_runs(rows, &mut runs);
        if runs.len() < size {
            replace(out, start, count | FORM_RUNS, &runs);
            size = runs.len();
        }
    }
    if rows.len() >= ROARING_COUNT_MIN {
        let mut bitmap: RoaringBitmap = rows.iter().copied().collect();
        bitmap.optimize();
        if bitmap.serialized_size() < size {
            let mut bytes = Vec::with_capacity(bitmap.serialized_size());
            bitmap
                .serialize_into(&mut bytes)
                .expect("bug: writing to memory failed");
            replace(out, start, count | FORM_ROARING, &bytes);
        }
    }
}

fn replace(out: &mut Vec<u8>, start: usize, head: u64, body: &[u8]) {
    out.truncate(start);
    varint::write_u64(out, head);
    out.extend_from_slice(body);
}

fn put_deltas(rows: &[u32], out: &mut Vec<u8>) {
    let mut next = 0;
    for row in rows {
        varint::write_u64(out, u64::from(*row) - next);
        next = u64::from(*row) + 1;
    }
}

fn put_runs(rows: &[u32], out: &mut Vec<u8>) {
    let mut end = 0_u64;
    let mut rest = rows;
    while let [first, ..] = rest {
        let length = 1 + rest
            .windows(2)
            .take_while(|pair| pair[1] == pair[0] + 1)
            .count();
        varint::write_u64(out, u64::from(*first) - end);
        varint::write_u64(out, length as u64 - 1);
        end = u64::from(*first) + length as u64;
        rest = &rest[length..];
    }
}

/// How many rows a list has, without decoding it.
///
/// # Errors
/// The list has no head.
pub fn count(bytes: &[u8]) -> Result<u64, BadPostings> {
    let head = varint::read_u64(bytes, &mut 0).ok_or(BadPostings {
        offset: 0,
        what: "a missing head",
    })?;
    Ok(head >> 2)
}

/// Decodes a list whose rows are all below `row_count`.
///
/// # Errors
/// The list is damaged.
pub fn decode(bytes: &[u8], row_count: u32) -> Result<RoaringBitmap, BadPostings> {
    let mut rows = RoaringBitmap::new();
    decode_into(bytes, row_count, &mut rows)?;
    Ok(rows)
}

/// Adds the rows of a list to `rows`.
///
/// # Errors
/// The list is damaged; `rows` may then hold some of it.
pub fn decode_into(
    bytes: &[u8],
    row_count: u32,
    rows: &mut RoaringBitmap,
) -> Result<(), BadPostings> {
    let mut at = 0;
    let bad = |offset, what| BadPostings { offset, what };
    let head = varint::read_u64(bytes, &mut at).ok_or(bad(0, "a missing head"))?;
    let (count, form) = (head >> 2, head & 3);
    if count > u64::from(row_count) {
        return Err(bad(0, "more rows than the segment has"));
    }
    match form {
        FORM_DELTAS => {
            let mut list = Vec::with_capacity((count as usize).min(bytes.len()));
            let mut next = 0_u64;
            for _ in 0..count {
                let delta = varint::read_u64(bytes, &mut at).ok_or(bad(at, "a cut list"))?;
                let row = next.saturating_add(delta);
                if row >= u64::from(row_count) {
                    return Err(bad(at, "a row outside the segment"));
                }
                list.push(row as u32);
                next = row + 1;
            }
            if rows.is_empty() || list.len() >= UNION_COUNT_MIN {
                // Ascending by construction.
                *rows |= RoaringBitmap::from_sorted_iter(list)
                    .map_err(|_| bad(at, "rows out of order"))?;
            } else {
                rows.extend(list);
            }
        }
        FORM_RUNS => {
            let (mut end, mut seen) = (0_u64, 0_u64);
            while seen < count {
                let gap = varint::read_u64(bytes, &mut at).ok_or(bad(at, "a cut list"))?;
                let more = varint::read_u64(bytes, &mut at).ok_or(bad(at, "a cut list"))?;
                let first = end.saturating_add(gap);
                let length = more.saturating_add(1);
                end = first.saturating_add(length);
                seen = seen.saturating_add(length);
                if end > u64::from(row_count) {
                    return Err(bad(at, "a row outside the segment"));
                }
                rows.insert_range(first as u32..=(end - 1) as u32);
            }
            if seen != count {
                return Err(bad(at, "runs that do not add up"));
            }
        }
        FORM_ROARING => {
            let body = bytes.get(at..).unwrap_or(&[]);
            let bitmap = RoaringBitmap::deserialize_from(body)
                .map_err(|_| bad(at, "a damaged roaring bitmap"))?;
            if bitmap.len() != count || bitmap.max().is_some_and(|row| row >= row_count) {
                return Err(bad(at, "a row outside the segment"));
            }
            *rows |= bitmap;
            return Ok(());
        }
        _ => return Err(bad(0, "an unknown form")),
    }
    if at == bytes.len() {
        Ok(())
    } else {
        Err(bad(at, "bytes behind the list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[u32], form: u64) {
        let mut bytes = Vec::new();
        encode(rows, &mut bytes);
        assert_eq!(u64::from(bytes[0]) & 3, form, "{rows:?}");
        assert_eq!(count(&bytes).unwrap(), rows.len() as u64);
        let bound = rows.last().map_or(0, |last| last + 1);
        let decoded = decode(&bytes, bound).unwrap();
        assert!(decoded.iter().eq(rows.iter().copied()));
        let mut joined = RoaringBitmap::from_iter([0_u32]);
        decode_into(&bytes, bound, &mut joined).unwrap();
        assert_eq!(joined, decoded | RoaringBitmap::from_iter([0_u32]));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], bound).is_err(), "cut at {cut}");
        }
        if bound > 0 {
            assert!(decode(&bytes, bound - 1).is_err());
        }
    }

    #[test]
    fn each_form_reads_back() {
        check(&[7], FORM_DELTAS);
        check(&[0, 5, 9, 1000, 100_000], FORM_DELTAS);
        check(&[3, 4, 5, 6, 7, 20, 21, 22], FORM_RUNS);
        let mut state = 1_u32;
        let dense: Vec<u32> = (0..60_000)
            .filter(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 31 == 1
            })
            .collect();
        check(&dense, FORM_ROARING);
    }

    #[test]
    fn any_byte_may_be_damaged() {
        let mut bytes = Vec::new();
        encode(&(0..3000).step_by(3).collect::<Vec<_>>(), &mut bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode(&damaged, 3000);
            }
        }
    }
}
