//! The streams of a span segment: numbered in order of first use while it is built, stored in order of
//! labels, resource and scope.

use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use crate::error::{EngineError, Result};
use crate::index::Matcher;
use crate::model::{Labels, Scope, Stream};
use crate::segment::container::{ContainerWriter, SegmentSink};
use crate::segment::file::SegmentFile;
use crate::segment::format::SectionKind;
use crate::segment::interner::RowLabels;
use crate::segment::label_index::LabelIndex;
use crate::segment::packed::{Packed, put_packed};
use crate::segment::rows::stream_sort_key;
use crate::segment::select::Selector;
use crate::segment::series_table::{LabelsCursor, SeriesTable};
use crate::segment::wire::Cursor;

/// Numbers streams in order of first use.
#[derive(Debug, Default)]
pub(super) struct StreamNumbers {
    numbers: HashMap<(Labels, Vec<u8>), u32>,
}

impl StreamNumbers {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a stream, if it has one.
    pub(super) fn peek(&self, stream: &Stream) -> Option<u32> {
        self.numbers.get(&stream_sort_key(stream)).copied()
    }

    /// The number of a stream.
    pub(super) fn number(&mut self, stream: &Arc<Stream>) -> Result<u32> {
        let next = self.numbers.len();
        if next >= u32::MAX as usize {
            return Err(EngineError::LimitExceeded(
                "a segment holds at most 2^32 - 1 streams".into(),
            ));
        }
        let number = self.numbers.entry(stream_sort_key(stream));
        Ok(*number.or_insert(next as u32))
    }

    /// Writes resources and scopes, labels, and which row of the table each number is.
    pub(super) fn write<S: SegmentSink>(self, writer: &mut ContainerWriter<S>) -> Result<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<((Labels, Vec<u8>), u32)> = self.numbers.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut labels = RowLabels::default();
        let mut ends = Vec::new();
        let mut records = Vec::new();
        let mut rows = vec![0; sorted.len()];
        for (row, ((set, record), number)) in sorted.iter().enumerate() {
            labels.push(set);
            records.extend_from_slice(record);
            ends.push(records.len() as u64);
            rows[*number as usize] = row as u64;
        }
        let mut section = Vec::new();
        put_packed(&mut section, &ends);
        section.extend_from_slice(&records);
        writer.section(SectionKind::Streams, &section)?;
        let mut section = Vec::new();
        put_packed(&mut section, &rows);
        writer.section(SectionKind::StreamRows, &section)?;
        labels.write(writer)
    }
}

/// The streams of an open segment.
#[derive(Debug)]
pub(super) struct StreamTable {
    index: LabelIndex,
    series: SeriesTable,
    /// Row of the table by number.
    rows: Vec<u32>,
    /// Number by row of the table.
    numbers: Vec<u32>,
}

impl StreamTable {
    pub(super) fn open(file: &SegmentFile, count: u32) -> Result<Self> {
        let mut cursor = file.cursor(SectionKind::StreamRows)?;
        let mut rows = Vec::new();
        let mut numbers = Vec::new();
        if count > 0 {
            // Every stream has at least a byte of record, which bounds what is allocated.
            let records = file.section(SectionKind::Streams).length;
            if u64::from(count) > records {
                return Err(cursor.corrupt(&format!("at most {records} streams"), count));
            }
            let packed = Packed::read(&mut cursor, count as usize)?;
            numbers.resize(count as usize, u32::MAX);
            for number in 0..count {
                let row = packed.get(number as usize);
                let place = usize::try_from(row).ok().and_then(|r| numbers.get_mut(r));
                match place {
                    Some(place) if *place == u32::MAX => {
                        *place = number;
                        rows.push(row as u32);
                    }
                    _ => return Err(cursor.corrupt("each row of the stream table once", row)),
                }
            }
        }
        cursor.finish()?;
        Ok(Self {
            index: LabelIndex::open(file, count)?,
            series: SeriesTable::open(file, count)?,
            rows,
            numbers,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(super) fn index(&self) -> &LabelIndex {
        &self.index
    }

    pub(super) fn selector<'a>(&'a self, file: &'a SegmentFile) -> Selector<'a> {
        Selector {
            file,
            index: &self.index,
            series: &self.series,
            row_count: self.len(),
        }
    }

    /// Numbers of the streams whose labels pass all matchers.
    pub(super) fn select(&self, file: &SegmentFile, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        let rows = self.selector(file).select(matchers)?;
        Ok(rows
            .iter()
            .filter_map(|row| self.numbers.get(row as usize).copied())
            .collect())
    }

    /// The row of the table that a stream has.
    fn row(&self, file: &SegmentFile, number: u32) -> Result<u32> {
        self.rows.get(number as usize).copied().ok_or_else(|| {
            file.corrupt(
                file.section(SectionKind::StreamRows).offset,
                &format!("a stream below {}", self.len()),
                &number.to_string(),
            )
        })
    }

    /// The labels of a stream by number.
    pub(super) fn labels(&self, file: &SegmentFile, number: u32) -> Result<Labels> {
        let row = self.row(file, number)?;
        LabelsCursor::new(file, &self.series, &self.index).labels(row)
    }

    /// A stream by number.
    pub(super) fn read(&self, file: &SegmentFile, number: u32) -> Result<Stream> {
        let row = self.row(file, number)?;
        let labels = LabelsCursor::new(file, &self.series, &self.index).labels(row)?;
        let mut cursor = file.cursor(SectionKind::Streams)?;
        let ends = Packed::read(&mut cursor, self.rows.len())?;
        let base = cursor.offset();
        let records = cursor.rest();
        let start = match row {
            0 => 0,
            _ => ends.get(row as usize - 1),
        };
        let end = ends.get(row as usize);
        let record = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| records.get(start..end));
        let Some(record) = record else {
            return Err(cursor.corrupt("a stream's record inside its section", "one outside"));
        };
        let mut cursor = Cursor::new(file, record, base + start);
        let resource = cursor.attributes()?;
        let scope = Scope {
            name: cursor.str()?.to_owned(),
            version: cursor.str()?.to_owned(),
            attributes: cursor.attributes()?,
        };
        cursor.finish()?;
        Ok(Stream {
            labels,
            resource,
            scope,
        })
    }
}
