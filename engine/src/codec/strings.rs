//! Blocks of strings (any bytes): constant, dictionary, plain, or zstd; and sorted lists for symbols.
//!
//! Decoded columns are [`Strings`]: offsets and one run of bytes, which is what Arrow's string arrays
//! are made of.

use super::block::Tag;
use super::choose::EncodeEffort;
use super::reader::ByteReader;
use super::templates::TemplateBlock;
use super::varint;
use super::{CodecError, intstream, zstd_context};
use hashbrown::HashMap;

const CODEC: &str = "strings";

/// Dictionaries of more entries than this are not tried.
const DICTIONARY_MAX: usize = 1 << 16;

/// Entries between restart points of a sorted list.
const RESTART_INTERVAL: usize = 16;

/// A decoded column: string `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Strings {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }
}

impl Strings {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (start, end) = (*self.offsets.get(index)?, *self.offsets.get(index + 1)?);
        self.bytes.get(start as usize..end as usize)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets
            .windows(2)
            .map(|pair| &self.bytes[pair[0] as usize..pair[1] as usize])
    }

    /// Offsets (one more than strings) and bytes, as Arrow wants them.
    pub fn into_parts(self) -> (Vec<i32>, Vec<u8>) {
        (self.offsets, self.bytes)
    }

    /// Offsets (one more than strings) and bytes.
    pub fn parts(&self) -> (&[i32], &[u8]) {
        (&self.offsets, &self.bytes)
    }

    /// From offsets and bytes, if they fit together: offsets ascend from 0 to the number of bytes.
    #[must_use]
    pub fn from_parts(offsets: Vec<i32>, bytes: Vec<u8>) -> Option<Self> {
        let fits = offsets.first() == Some(&0)
            && offsets.is_sorted()
            && offsets.last().map(|end| *end as usize) == Some(bytes.len());
        fits.then_some(Strings { offsets, bytes })
    }

    /// Makes room for `count` more strings of `bytes` bytes together.
    pub fn reserve(&mut self, count: usize, bytes: usize) {
        self.offsets.reserve(count);
        self.bytes.reserve(bytes);
    }

    /// Gives back memory that is not used.
    pub fn shrink_to_fit(&mut self) {
        self.offsets.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// Bytes of all strings together.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// None, with room for `count` of `size` bytes together.
    pub(super) fn with_capacity(count: usize, size: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        Strings {
            offsets,
            bytes: Vec::with_capacity(size),
        }
    }

    /// All strings, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Index of the (non-empty) string that has byte `at` of [`Self::bytes`].
    pub(super) fn index_at(&self, at: usize) -> usize {
        let behind = self
            .offsets
            .partition_point(|&offset| offset as usize <= at);
        behind.saturating_sub(1)
    }

    /// Where string `index` ends in [`Self::bytes`].
    pub(super) fn end_of(&self, index: usize) -> usize {
        let end = self.offsets.get(index + 1).copied();
        end.map_or(self.bytes.len(), |end| end as usize)
    }

    /// Where the next string is being written, and the strings before it.
    pub(super) fn open_end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the string that was written to [`Self::open_end`].
    pub(super) fn end_string(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Appends a string. All of them together must stay below 2 GiB.
    #[inline]
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Appends what `write` writes to the last string; there must be one.
    #[inline]
    pub fn extend_last(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        if let Some(end) = self.offsets.last_mut() {
            *end = self.bytes.len() as i32;
        }
    }

    /// Appends the string that `write` appends to the bytes; it must leave what is there alone.
    #[inline]
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.offsets.push(self.bytes.len() as i32);
    }
}

/// A decoded dictionary block: row `i` is `values[keys[i]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dictionary {
    /// Index into `values` for each row; all are in range.
    pub keys: Vec<i32>,
    /// The distinct strings, in order of first appearance.
    pub values: Strings,
}

/// zstd level by effort: as measured on log text, 1 serves all but cold data.
fn zstd_level(effort: EncodeEffort) -> i32 {
    match effort {
        EncodeEffort::Flush | EncodeEffort::Compact => 1,
        EncodeEffort::Cold => 9,
    }
}

/// Appends one block with `values`. Their bytes must sum up to less than 2 GiB.
pub fn encode<S: AsRef<[u8]>>(values: &[S], effort: EncodeEffort, out: &mut Vec<u8>) {
    let total: usize = values.iter().map(|value| value.as_ref().len()).sum();
    assert!(
        i32::try_from(total).is_ok(),
        "bug: string block of {total} bytes"
    );
    if let Some((first, rest)) = values.split_first()
        && rest.iter().all(|value| value.as_ref() == first.as_ref())
    {
        out.push(Tag::StringConstant as u8);
        out.extend_from_slice(first.as_ref());
        return;
    }
    if let Some((keys, distinct)) = build_dictionary(values) {
        out.push(Tag::StringDictionary as u8);
        varint::write_u64(out, distinct.len() as u64);
        let mut inner = Vec::new();
        encode_plain(&distinct, effort, &mut inner);
        varint::write_u64(out, inner.len() as u64);
        out.extend_from_slice(&inner);
        intstream::encode(&keys, effort, out);
        return;
    }
    encode_plain(values, effort, out);
}

/// Keys and distinct values, if values repeat four times on average.
fn build_dictionary<S: AsRef<[u8]>>(values: &[S]) -> Option<(Vec<i64>, Vec<&[u8]>)> {
    let distinct_max = (values.len() / 4).min(DICTIONARY_MAX);
    let mut keys = Vec::with_capacity(values.len());
    let mut distinct = Vec::new();
    let mut index: HashMap<&[u8], i64> = HashMap::new();
    let mut last: Option<(&[u8], i64)> = None;
    for value in values {
        let value = value.as_ref();
        let key = match last {
            Some((same, key)) if same == value => key,
            _ => *index.entry(value).or_insert_with(|| {
                distinct.push(value);
                distinct.len() as i64 - 1
            }),
        };
        last = Some((value, key));
        if distinct.len() > distinct_max {
            return None;
        }
        keys.push(key);
    }
    Some((keys, distinct))
}

/// Lengths, then all bytes, compressed where that helps.
fn encode_plain<S: AsRef<[u8]>>(values: &[S], effort: EncodeEffort, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(Tag::StringPlain as u8);
    let lengths: Vec<i64> = values
        .iter()
        .map(|value| value.as_ref().len() as i64)
        .collect();
    let mut packed = Vec::new();
    intstream::encode(&lengths, effort, &mut packed);
    varint::write_u64(out, packed.len() as u64);
    out.extend_from_slice(&packed);
    let mut raw = Vec::with_capacity(lengths.iter().sum::<i64>() as usize);
    for value in values {
        raw.extend_from_slice(value.as_ref());
    }
    let body = out.len();
    if raw.len() >= zstd_context::SIZE_MIN {
        zstd_context::compress(&raw, zstd_level(effort), out);
    }
    if raw.len() >= zstd_context::SIZE_MIN && out.len() - body < raw.len() {
        out[start] = Tag::StringZstd as u8;
    } else {
        out.truncate(body);
        out.extend_from_slice(&raw);
    }
}

/// Decodes the `count` strings of `block`, of at most `bytes_max` bytes together.
///
/// # Errors
/// [`CodecError`] if the block is damaged, of another kind or too large.
pub fn decode(block: &[u8], count: usize, bytes_max: usize) -> Result<Strings, CodecError> {
    match Tag::of(block, CODEC)? {
        Tag::StringTemplates => TemplateBlock::open(block, count, bytes_max)?.decode_all(),
        _ => decode_untemplated(block, count, bytes_max),
    }
}

/// As [`decode`], of blocks that may lie inside one of templates: those do not nest.
pub(super) fn decode_untemplated(
    block: &[u8],
    count: usize,
    bytes_max: usize,
) -> Result<Strings, CodecError> {
    let bytes_max = bytes_max.min(i32::MAX as usize);
    let mut reader = ByteReader::new(CODEC, block, 1);
    match Tag::of(block, CODEC)? {
        Tag::StringConstant => {
            let value = reader.rest();
            if value.len().saturating_mul(count) > bytes_max {
                return Err(reader.corrupt("more bytes than declared"));
            }
            let mut strings = Strings::default();
            (0..count).for_each(|_| strings.push(value));
            Ok(strings)
        }
        Tag::StringDictionary => {
            let Dictionary { keys, values } = decode_dictionary(block, count, bytes_max)?;
            let lengths = keys
                .iter()
                .map(|&key| values.get(key as usize).map_or(0, <[u8]>::len));
            if lengths.sum::<usize>() > bytes_max {
                return Err(reader.corrupt("more bytes than declared"));
            }
            let mut strings = Strings::default();
            strings.offsets.reserve(count);
            for key in keys {
                strings.push(values.get(key as usize).unwrap_or_default());
            }
            Ok(strings)
        }
        Tag::StringPlain | Tag::StringZstd => decode_plain(block, count, bytes_max),
        tag => Err(tag.unexpected(CODEC)),
    }
}

/// Decodes a block as keys and distinct values: cheaper than [`decode`] where values repeat.
///
/// Constant blocks give one value; plain ones give as many as there are rows.
///
/// # Errors
/// As [`decode`]; `bytes_max` bounds the distinct values.
pub fn decode_dictionary(
    block: &[u8],
    count: usize,
    bytes_max: usize,
) -> Result<Dictionary, CodecError> {
    let bytes_max = bytes_max.min(i32::MAX as usize);
    let mut reader = ByteReader::new(CODEC, block, 1);
    match Tag::of(block, CODEC)? {
        Tag::StringConstant => {
            let distinct = count.min(1);
            let values = decode(block, distinct, bytes_max)?;
            Ok(Dictionary {
                keys: vec![0; count],
                values,
            })
        }
        Tag::StringDictionary => {
            let distinct = reader.varint_max(count, "more distinct values than rows")?;
            let inner_size = reader.varint_max(block.len(), "dictionary outside the block")?;
            let inner = reader.take(inner_size)?;
            let values = match Tag::of(inner, CODEC)? {
                Tag::StringPlain | Tag::StringZstd => decode_plain(inner, distinct, bytes_max)?,
                tag => return Err(tag.unexpected(CODEC)),
            };
            let mut keys = Vec::with_capacity(count);
            let mut in_range = true;
            intstream::decode(&mut reader, count, |block| {
                in_range &= block.iter().all(|&key| key >= 0 && key < distinct as i64);
                keys.extend(block.iter().map(|&key| key as i32));
            })?;
            reader.finish()?;
            if in_range {
                Ok(Dictionary { keys, values })
            } else {
                Err(reader.corrupt("key outside the dictionary"))
            }
        }
        _ => {
            let values = decode(block, count, bytes_max)?;
            Ok(Dictionary {
                keys: (0..count as i32).collect(),
                values,
            })
        }
    }
}

fn decode_plain(block: &[u8], count: usize, bytes_max: usize) -> Result<Strings, CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    let packed_size = reader.varint_max(block.len(), "lengths outside the block")?;
    let packed = reader.take(packed_size)?;
    let mut lengths = ByteReader::new(CODEC, packed, 0);
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(0);
    let (mut end, mut in_range) = (0_i64, true);
    intstream::decode(&mut lengths, count, |block| {
        for &length in block {
            in_range &= (0..=bytes_max as i64).contains(&length);
            end = end.wrapping_add(length);
            in_range &= (0..=bytes_max as i64).contains(&end);
            offsets.push(end as i32);
        }
    })?;
    lengths.finish()?;
    if !in_range {
        return Err(reader.corrupt("more bytes than declared"));
    }
    let size = end as usize;
    let bytes = if block[0] == Tag::StringZstd as u8 {
        let mut bytes = vec![0; size];
        zstd_context::decompress(CODEC, reader.rest(), &mut bytes)?;
        bytes
    } else {
        let bytes = reader.take(size)?.to_vec();
        reader.finish()?;
        bytes
    };
    Ok(Strings { offsets, bytes })
}

/// Appends a list in strictly ascending order of bytes, front-coded, for [`SortedStrings`].
pub fn encode_sorted<S: AsRef<[u8]>>(sorted: &[S], out: &mut Vec<u8>) {
    out.push(Tag::StringSorted as u8);
    varint::write_u64(out, sorted.len() as u64);
    let mut entries = Vec::new();
    let mut restarts: Vec<u32> = Vec::with_capacity(sorted.len().div_ceil(RESTART_INTERVAL));
    let mut previous: &[u8] = &[];
    for (index, string) in sorted.iter().enumerate() {
        let string = string.as_ref();
        assert!(
            index == 0 || previous < string,
            "bug: string list not ascending"
        );
        let shared = if index % RESTART_INTERVAL == 0 {
            restarts.push(u32::try_from(entries.len()).expect("bug: string list beyond 4 GiB"));
            0
        } else {
            previous
                .iter()
                .zip(string)
                .take_while(|(a, b)| a == b)
                .count()
        };
        varint::write_u64(&mut entries, shared as u64);
        varint::write_u64(&mut entries, (string.len() - shared) as u64);
        entries.extend_from_slice(&string[shared..]);
        previous = string;
    }
    out.extend(restarts.iter().flat_map(|restart| restart.to_le_bytes()));
    out.extend_from_slice(&entries);
}

/// A front-coded list over mapped bytes: look-up by index and by value without decoding it all.
#[derive(Debug, Clone, Copy)]
pub struct SortedStrings<'a> {
    len: usize,
    restarts: &'a [[u8; 4]],
    entries: &'a [u8],
}

impl<'a> SortedStrings<'a> {
    /// Reads the head of a block; entries are checked when they are read.
    ///
    /// # Errors
    /// [`CodecError`] if the block is of another kind or shorter than its restart points.
    pub fn open(block: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = ByteReader::new(CODEC, block, 1);
        match Tag::of(block, CODEC)? {
            Tag::StringSorted => {}
            tag => return Err(tag.unexpected(CODEC)),
        }
        // An entry takes two bytes or more.
        let len = reader.varint_max(block.len() / 2, "more entries than bytes")?;
        let (restarts, _) = reader
            .take(len.div_ceil(RESTART_INTERVAL) * 4)?
            .as_chunks::<4>();
        Ok(SortedStrings {
            len,
            restarts,
            entries: reader.rest(),
        })
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the string at `index` into `string`, which is cleared. False if there is none.
    ///
    /// # Errors
    /// [`CodecError`] if the entries are damaged.
    pub fn get(&self, index: usize, string: &mut Vec<u8>) -> Result<bool, CodecError> {
        string.clear();
        if index >= self.len {
            return Ok(false);
        }
        let mut cursor = self.cursor(index / RESTART_INTERVAL);
        for _ in 0..=index % RESTART_INTERVAL {
            cursor.advance(string)?;
        }
        Ok(true)
    }

    /// The index of `wanted`, or where it would be: as [`slice::binary_search`].
    ///
    /// # Errors
    /// [`CodecError`] if the entries are damaged.
    pub fn search(&self, wanted: &[u8]) -> Result<Result<usize, usize>, CodecError> {
        let mut string = Vec::new();
        let (mut low, mut high) = (0, self.restarts.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            string.clear();
            self.cursor(middle).advance(&mut string)?;
            if string.as_slice() <= wanted {
                low = middle + 1
            } else {
                high = middle
            }
        }
        let Some(restart) = low.checked_sub(1) else {
            return Ok(Err(0));
        };
        let start = restart * RESTART_INTERVAL;
        let mut cursor = self.cursor(restart);
        string.clear();
        for index in start..self.len.min(start + RESTART_INTERVAL) {
            cursor.advance(&mut string)?;
            match string.as_slice().cmp(wanted) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Ok(index)),
                std::cmp::Ordering::Greater => return Ok(Err(index)),
            }
        }
        Ok(Err(self.len.min(start + RESTART_INTERVAL)))
    }

    /// Calls `visit` with index and bytes of each string from `start` on, until it returns false.
    ///
    /// # Errors
    /// [`CodecError`] if the entries are damaged.
    pub fn visit_from(
        &self,
        start: usize,
        mut visit: impl FnMut(usize, &[u8]) -> bool,
    ) -> Result<(), CodecError> {
        let mut string = Vec::new();
        if start >= self.len {
            return Ok(());
        }
        let first = start / RESTART_INTERVAL * RESTART_INTERVAL;
        let mut cursor = self.cursor(start / RESTART_INTERVAL);
        for index in first..self.len {
            cursor.advance(&mut string)?;
            if index >= start && !visit(index, &string) {
                break;
            }
        }
        Ok(())
    }

    fn cursor(&self, restart: usize) -> EntryCursor<'a> {
        let offset = u32::from_le_bytes(self.restarts[restart]) as usize;
        EntryCursor {
            reader: ByteReader::new(CODEC, self.entries, offset),
        }
    }
}

struct EntryCursor<'a> {
    reader: ByteReader<'a>,
}

impl EntryCursor<'_> {
    /// Turns the string before into the next one.
    fn advance(&mut self, string: &mut Vec<u8>) -> Result<(), CodecError> {
        let shared = self
            .reader
            .varint_max(string.len(), "prefix longer than the string before")?;
        let size = self
            .reader
            .varint_max(self.reader.remaining(), "string outside the list")?;
        string.truncate(shared);
        string.extend_from_slice(self.reader.take(size)?);
        Ok(())
    }
}
