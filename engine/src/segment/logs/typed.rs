//! Columns of a log block: typed values to bytes, and back into the columns that a scan returns.
//!
//! Decoding keeps what encoding found: a constant stays one value, a dictionary stays keys and values.

use crate::codec::block::Tag;
use crate::codec::reader::ByteReader;
use crate::codec::strings::{self, Strings};
use crate::codec::templates::TextBlock;
use crate::codec::{CodecError, EncodeEffort, floats, integers, timestamps, varint};
use crate::error::Result;
use crate::rows::{IdColumn, IntColumn, TextColumn};

use super::super::column::{bad_block, decode_floats, decode_timestamps};
use super::super::file::SegmentFile;
use super::super::format::COLUMN_BYTES_MAX;
use super::super::rows::columns::{
    ColumnEntry, ColumnsWriter, Field, ValueKind, Zone, float_zone, int_zone,
};

const CODEC: &str = "log columns";

/// Bytes of a span id.
const SPAN_ID_SIZE: usize = 8;

impl ColumnsWriter {
    /// Adds integers.
    pub(super) fn ints(
        &mut self,
        field: Field,
        kind: ValueKind,
        key: u32,
        ints: &[i64],
        effort: EncodeEffort,
    ) {
        self.add(field, kind, key, ints.len(), int_zone(ints), |out| {
            integers::encode(ints, effort, out);
        });
    }

    /// Adds times, ascending in runs.
    pub(super) fn times(&mut self, times: &[i64], effort: EncodeEffort) {
        let zone = int_zone(times);
        self.add(Field::Time, ValueKind::Time, 0, times.len(), zone, |out| {
            timestamps::encode(times, effort, out);
        });
    }

    /// Adds doubles.
    pub(super) fn floats(&mut self, field: Field, key: u32, values: &[f64], effort: EncodeEffort) {
        let (kind, zone) = (ValueKind::Float, float_zone(values));
        self.add(field, kind, key, values.len(), zone, |out| {
            floats::encode(values, effort, out);
        });
    }

    /// Adds strings.
    pub(super) fn strings<S: AsRef<[u8]>>(
        &mut self,
        field: Field,
        kind: ValueKind,
        key: u32,
        values: &[S],
        effort: EncodeEffort,
    ) {
        self.add(field, kind, key, values.len(), Zone::None, |out| {
            strings::encode(values, effort, out);
        });
    }

    /// Adds the streams of rows, which ascend: runs as values and lengths.
    pub(super) fn streams(&mut self, streams: &[u32], effort: EncodeEffort) {
        let runs = streams.chunk_by(|a, b| a == b);
        let (mut values, mut lengths) = (Vec::new(), Vec::new());
        for run in runs {
            values.extend(run.first().map(|stream| i64::from(*stream)));
            lengths.push(run.len() as i64);
        }
        let zone = int_zone(&values);
        let count = streams.len();
        self.add(Field::Stream, ValueKind::Runs, 0, count, zone, |out| {
            varint::write_u64(out, values.len() as u64);
            let mut block = Vec::new();
            integers::encode(&values, effort, &mut block);
            varint::write_u64(out, block.len() as u64);
            out.extend_from_slice(&block);
            integers::encode(&lengths, effort, out);
        });
    }

    /// Adds the span ids of the rows that have one, of `row_count` rows.
    pub(super) fn span_ids(
        &mut self,
        rows: &[u32],
        ids: &[[u8; SPAN_ID_SIZE]],
        row_count: usize,
        effort: EncodeEffort,
    ) {
        let (field, kind) = (Field::SpanId, ValueKind::Ids);
        self.add(field, kind, 0, ids.len(), Zone::None, |out| {
            put_presence(rows, row_count, effort, out);
            out.extend_from_slice(ids.as_flattened());
        });
    }
}

const PRESENT_ALL: u8 = 0;
const PRESENT_BITS: u8 = 1;
const PRESENT_LIST: u8 = 2;

/// Appends which of `row_count` rows are there: all, a bit per row, or their numbers.
pub(super) fn put_presence(
    rows: &[u32],
    row_count: usize,
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    if rows.len() == row_count {
        out.push(PRESENT_ALL);
        return;
    }
    let numbers: Vec<i64> = rows.iter().map(|row| i64::from(*row)).collect();
    let mut list = Vec::new();
    integers::encode(&numbers, effort, &mut list);
    let bits_size = row_count.div_ceil(8);
    if list.len() < bits_size {
        out.push(PRESENT_LIST);
        varint::write_u64(out, list.len() as u64);
        out.extend_from_slice(&list);
        return;
    }
    out.push(PRESENT_BITS);
    let start = out.len();
    out.resize(start + bits_size, 0);
    for row in rows {
        out[start + *row as usize / 8] |= 1 << (row % 8);
    }
}

/// Reads what [`put_presence`] wrote about `count` of `row_count` rows; ascending.
pub(super) fn read_presence(
    reader: &mut ByteReader<'_>,
    count: usize,
    row_count: usize,
) -> Result<Vec<u32>, CodecError> {
    let rows: Vec<u32> = match reader.u8()? {
        PRESENT_ALL => (0..row_count as u32).collect(),
        PRESENT_BITS => {
            let bits = reader.take(row_count.div_ceil(8))?;
            let mut rows = Vec::with_capacity(count);
            for (at, byte) in (0_u32..).step_by(8).zip(bits) {
                let mut byte = *byte;
                while byte != 0 {
                    rows.push(at + byte.trailing_zeros());
                    byte &= byte - 1;
                }
            }
            rows
        }
        PRESENT_LIST => {
            let size = reader.varint_max(reader.remaining(), "list outside of the column")?;
            let mut numbers = Vec::new();
            integers::decode(reader.take(size)?, count, &mut numbers)?;
            let is_row = |number: &i64| u32::try_from(*number).is_ok();
            if !numbers.iter().all(is_row) {
                return Err(reader.corrupt("a row that is none"));
            }
            numbers.into_iter().map(|number| number as u32).collect()
        }
        _ => return Err(reader.corrupt("unknown form of presence")),
    };
    let ascends = rows.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = rows.last().is_none_or(|row| (*row as usize) < row_count);
    if rows.len() == count && ascends && fits {
        return Ok(rows);
    }
    Err(reader.corrupt("rows that do not ascend or are not as many as said"))
}

fn block_of<'a>(file: &'a SegmentFile, entry: &ColumnEntry) -> Result<&'a [u8]> {
    file.get(entry.offset, entry.length as usize)
}

fn checked<T>(
    file: &SegmentFile,
    entry: &ColumnEntry,
    decoded: Result<T, CodecError>,
) -> Result<T> {
    decoded.map_err(|error| bad_block(file, entry.offset, &error))
}

/// Integers.
pub(super) fn ints(file: &SegmentFile, entry: &ColumnEntry) -> Result<IntColumn> {
    let block = block_of(file, entry)?;
    if block.first() == Some(&(Tag::IntConstant as u8)) {
        let mut value = Vec::new();
        checked(file, entry, integers::decode(block, 1, &mut value))?;
        return Ok(IntColumn::Constant(value.first().copied().unwrap_or(0)));
    }
    let mut values = Vec::with_capacity(entry.count as usize);
    let count = entry.count as usize;
    checked(file, entry, integers::decode(block, count, &mut values))?;
    Ok(IntColumn::Values(values))
}

/// Times.
pub(super) fn times(file: &SegmentFile, entry: &ColumnEntry) -> Result<Vec<i64>> {
    let mut times = Vec::with_capacity(entry.count as usize);
    let block = block_of(file, entry)?;
    decode_timestamps(file, entry.offset, block, entry.count as usize, &mut times)?;
    Ok(times)
}

/// Doubles.
pub(super) fn doubles(file: &SegmentFile, entry: &ColumnEntry) -> Result<Vec<f64>> {
    let count = entry.count as usize;
    let mut values = Vec::with_capacity(count);
    let block = block_of(file, entry)?;
    decode_floats(file, entry.offset, block, count, 0..count, &mut values)?;
    Ok(values)
}

/// Strings.
pub(super) fn text(file: &SegmentFile, entry: &ColumnEntry) -> Result<TextColumn> {
    let block = block_of(file, entry)?;
    checked(file, entry, decode_text(block, entry.count as usize))
}

/// Strings that are made of templates, without decoding them; `None` for others.
pub(super) fn templates<'a>(
    file: &'a SegmentFile,
    entry: &ColumnEntry,
) -> Result<Option<TextBlock<'a>>> {
    let block = block_of(file, entry)?;
    if block.first() != Some(&(Tag::StringTemplates as u8)) {
        return Ok(None);
    }
    let opened = TextBlock::open(block, entry.count as usize, COLUMN_BYTES_MAX);
    checked(file, entry, opened).map(Some)
}

fn decode_text(block: &[u8], count: usize) -> Result<TextColumn, CodecError> {
    match Tag::of(block, CODEC)? {
        Tag::StringConstant => {
            let value = strings::decode(block, 1, COLUMN_BYTES_MAX)?;
            Ok(TextColumn::Constant(value.get(0).unwrap_or(&[]).into()))
        }
        Tag::StringDictionary => {
            let dictionary = strings::decode_dictionary(block, count, COLUMN_BYTES_MAX)?;
            Ok(TextColumn::Dictionary {
                keys: dictionary.keys,
                values: dictionary.values,
            })
        }
        _ => Ok(TextColumn::Plain(plain(block, count)?)),
    }
}

/// A block of strings of any encoding, one after the other.
pub(super) fn plain(block: &[u8], count: usize) -> Result<Strings, CodecError> {
    strings::decode(block, count, COLUMN_BYTES_MAX)
}

/// Streams; all are below `stream_count`, and ascend.
pub(super) fn streams(
    file: &SegmentFile,
    entry: &ColumnEntry,
    stream_count: u32,
) -> Result<IntColumn> {
    let block = block_of(file, entry)?;
    checked(
        file,
        entry,
        decode_streams(block, entry.count as usize, stream_count),
    )
}

fn decode_streams(block: &[u8], count: usize, stream_count: u32) -> Result<IntColumn, CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 0);
    let run_count = reader.varint_max(count, "more runs than rows")?;
    let size = reader.varint_max(reader.remaining(), "streams outside of the column")?;
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    integers::decode(reader.take(size)?, run_count, &mut values)?;
    integers::decode(reader.rest(), run_count, &mut lengths)?;
    let ascends = values.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = values.first().is_some_and(|first| *first >= 0)
        && values
            .last()
            .is_some_and(|last| *last < i64::from(stream_count));
    let all = lengths.iter().try_fold(0_i64, |sum, length| {
        sum.checked_add(*length).filter(|_| *length > 0)
    });
    if !ascends || !fits || all != Some(count as i64) {
        return Err(reader.corrupt("runs of streams that do not ascend or fit the rows"));
    }
    if let [stream] = values.as_slice() {
        return Ok(IntColumn::Constant(*stream));
    }
    let mut rows = Vec::with_capacity(count);
    for (stream, length) in values.iter().zip(&lengths) {
        rows.resize(rows.len() + *length as usize, *stream);
    }
    Ok(IntColumn::Values(rows))
}

/// Span ids, with the rows that have one.
pub(super) fn span_ids(
    file: &SegmentFile,
    entry: &ColumnEntry,
    row_count: usize,
) -> Result<IdColumn<SPAN_ID_SIZE>> {
    let block = block_of(file, entry)?;
    let (rows, ids) = checked(
        file,
        entry,
        read_span_ids(block, entry.count as usize, row_count),
    )?;
    let mut column = vec![[0; SPAN_ID_SIZE]; row_count];
    for (row, id) in rows.iter().zip(ids) {
        column[*row as usize] = *id;
    }
    Ok(IdColumn::Values(column))
}

/// The rows that have a span id.
pub(super) fn rows_with_span(
    file: &SegmentFile,
    entry: &ColumnEntry,
    row_count: usize,
) -> Result<Vec<u32>> {
    let block = block_of(file, entry)?;
    let read = read_span_ids(block, entry.count as usize, row_count);
    Ok(checked(file, entry, read)?.0)
}

type RowsAndIds<'a> = (Vec<u32>, &'a [[u8; SPAN_ID_SIZE]]);

fn read_span_ids(
    block: &[u8],
    count: usize,
    row_count: usize,
) -> Result<RowsAndIds<'_>, CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 0);
    let rows = read_presence(&mut reader, count, row_count)?;
    let bytes = reader.take(rows.len() * SPAN_ID_SIZE)?;
    reader.finish()?;
    Ok((rows, bytes.as_chunks::<SPAN_ID_SIZE>().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_reads_back_in_every_form() {
        let cases: [(Vec<u32>, usize); 5] = [
            ((0..100).collect(), 100),
            ((0..3000).filter(|row| row % 3 == 0).collect(), 3000),
            (vec![5, 2999], 3000),
            ((1000..2000).collect(), 3000),
            (vec![], 7),
        ];
        for (rows, count) in cases {
            let mut bytes = Vec::new();
            put_presence(&rows, count, EncodeEffort::Flush, &mut bytes);
            let read = |bytes: &[u8]| {
                let mut reader = ByteReader::new(CODEC, bytes, 0);
                read_presence(&mut reader, rows.len(), count)
            };
            assert_eq!(read(&bytes).unwrap(), rows);
            assert!(read(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn streams_read_back_as_runs() {
        for streams in [
            vec![3; 50],
            [vec![0; 10], vec![4; 1], vec![9; 100]].concat(),
        ] {
            let mut columns = ColumnsWriter::default();
            columns.streams(&streams, EncodeEffort::Flush);
            let count = streams.len();
            let column = decode_streams(&columns.data, count, 10).unwrap();
            for (row, stream) in streams.iter().enumerate() {
                assert_eq!(column.get(row), i64::from(*stream));
            }
            assert!(decode_streams(&columns.data, count, 3).is_err());
            assert!(decode_streams(&columns.data, count + 1, 10).is_err());
        }
    }
}
