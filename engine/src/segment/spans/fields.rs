//! Which columns a block of spans has, and the list of them that opens it.
//!
//! Block: length of the list varint; list: for each column field u8, index varint (columns of
//! attributes: place in the table of columns), values varint, length varint; then the columns one after
//! the other.

use crate::codec::varint;
use crate::error::Result;
use crate::segment::file::SegmentFile;
use crate::segment::format::{COLUMN_BYTES_MAX, COLUMN_VALUES_MAX};
use crate::segment::wire::Cursor;

/// What a column holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    /// Per span: number of its stream.
    Stream = 0,
    /// Per run of spans of one trace: how many they are.
    RunLengths = 1,
    /// Per run: time of the first span.
    RunTimes = 2,
    /// Per span: time after the span before it in the run; 0 for the first.
    TimeDeltas = 3,
    /// Per span: nanoseconds.
    Durations = 4,
    /// Per span: 8 bytes.
    SpanIds = 5,
    /// Per span: 0 none, 1 the next of the parent ids, else 1 + zig-zag of the distance to the parent
    /// in rows.
    Parents = 6,
    /// 8 bytes for each parent that is not in the run.
    ParentIds = 7,
    /// Per span: events.
    EventCounts = 8,
    /// Per event: time after the span's start.
    EventTimes = 9,
    /// Per span: links.
    LinkCounts = 10,
    /// Per link: 16 bytes of trace id and 8 of span id.
    LinkIds = 11,
    /// Classes of spans.
    SpanClasses = 16,
    /// Per span: number of its class.
    SpanClassOf = 17,
    /// Values of a column of spans.
    SpanValues = 18,
    /// Classes of events.
    EventClasses = 20,
    /// Per event: number of its class.
    EventClassOf = 21,
    /// Values of a column of events.
    EventValues = 22,
    /// Classes of links.
    LinkClasses = 24,
    /// Per link: number of its class.
    LinkClassOf = 25,
    /// Values of a column of links.
    LinkValues = 26,
}

impl Field {
    const ALL: [Self; 21] = [
        Self::Stream,
        Self::RunLengths,
        Self::RunTimes,
        Self::TimeDeltas,
        Self::Durations,
        Self::SpanIds,
        Self::Parents,
        Self::ParentIds,
        Self::EventCounts,
        Self::EventTimes,
        Self::LinkCounts,
        Self::LinkIds,
        Self::SpanClasses,
        Self::SpanClassOf,
        Self::SpanValues,
        Self::EventClasses,
        Self::EventClassOf,
        Self::EventValues,
        Self::LinkClasses,
        Self::LinkClassOf,
        Self::LinkValues,
    ];

    /// Whose attribute sets the column is of, if of any.
    pub(super) fn group(self) -> Option<Group> {
        [Group::Spans, Group::Events, Group::Links]
            .into_iter()
            .find(|group| [group.classes(), group.class_of(), group.values()].contains(&self))
    }

    fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|field| *field as u8 == number)
    }
}

/// Whose attribute sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Spans,
    Events,
    Links,
}

impl Group {
    pub(super) fn classes(self) -> Field {
        match self {
            Self::Spans => Field::SpanClasses,
            Self::Events => Field::EventClasses,
            Self::Links => Field::LinkClasses,
        }
    }

    pub(super) fn class_of(self) -> Field {
        match self {
            Self::Spans => Field::SpanClassOf,
            Self::Events => Field::EventClassOf,
            Self::Links => Field::LinkClassOf,
        }
    }

    pub(super) fn values(self) -> Field {
        match self {
            Self::Spans => Field::SpanValues,
            Self::Events => Field::EventValues,
            Self::Links => Field::LinkValues,
        }
    }
}

/// Collects the columns of one block.
#[derive(Debug, Default)]
pub(super) struct ColumnsWriter {
    list: Vec<u8>,
    data: Vec<u8>,
}

impl ColumnsWriter {
    /// Adds the column that `write` appends.
    pub(super) fn push(
        &mut self,
        field: Field,
        index: u32,
        count: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.data.len();
        write(&mut self.data);
        self.list.push(field as u8);
        varint::write_u64(&mut self.list, u64::from(index));
        varint::write_u64(&mut self.list, count as u64);
        varint::write_u64(&mut self.list, (self.data.len() - start) as u64);
    }

    /// The block.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + self.list.len() + 4);
        varint::write_u64(&mut out, self.list.len() as u64);
        out.extend_from_slice(&self.list);
        out.extend_from_slice(&self.data);
        out
    }
}

/// A column of a block as it lies in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredColumn<'a> {
    pub(super) field: Field,
    pub(super) index: u32,
    /// Values.
    pub(super) count: usize,
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

/// Reads the list of columns of the block at `offset` of the file.
pub(super) fn read_columns<'a>(
    file: &'a SegmentFile,
    offset: u64,
    length: usize,
) -> Result<Vec<StoredColumn<'a>>> {
    let mut cursor = Cursor::new(file, file.get(offset, length)?, offset);
    let list_length = cursor.count("length of the list of columns")?;
    let list_at = cursor.offset();
    let mut list = Cursor::new(file, cursor.take(list_length)?, list_at);
    let mut columns = Vec::new();
    while list.remaining() > 0 {
        let number = list.u8()?;
        let field = Field::from_u8(number).ok_or_else(|| list.corrupt("a field", number))?;
        let index = list.varint_max(u64::from(u32::MAX), "column")? as u32;
        let count = list.varint_max(COLUMN_VALUES_MAX as u64, "value count")? as usize;
        let length = list.varint_max(COLUMN_BYTES_MAX as u64, "column length")? as usize;
        let offset = cursor.offset();
        columns.push(StoredColumn {
            field,
            index,
            count,
            offset,
            bytes: cursor.take(length)?,
        });
    }
    cursor.finish()?;
    Ok(columns)
}
