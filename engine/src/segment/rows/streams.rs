//! The streams of a log or span segment: labels in the series table and its index, resource and scope
//! in the section of streams, attribute keys beside them.

use std::sync::Arc;

use crate::error::{EngineError, Result};
use crate::model::{Labels, Scope, Stream};

use super::super::container::{ContainerWriter, SegmentSink};
use super::super::file::SegmentFile;
use super::super::format::SectionKind;
use super::super::interner::RowLabels;
use super::super::label_index::LabelIndex;
use super::super::packed::{Packed, put_packed};
use super::super::select::Selector;
use super::super::series_table::{LabelsCursor, SeriesTable};
use super::super::wire::{Cursor, put_attributes, put_str, put_u64};
use super::attributes::KeyNumbers;

/// The order of streams in a segment: by labels, then by the stored form of resource and scope.
#[must_use]
pub fn stream_sort_key(stream: &Stream) -> (Labels, Vec<u8>) {
    (stream.labels.clone(), stream_record(stream))
}

/// The stored form of what a stream has beside its labels.
fn stream_record(stream: &Stream) -> Vec<u8> {
    let mut out = Vec::new();
    put_attributes(&mut out, &stream.resource);
    put_str(&mut out, &stream.scope.name);
    put_str(&mut out, &stream.scope.version);
    put_attributes(&mut out, &stream.scope.attributes);
    out
}

/// Collects the streams of a segment while it is built.
#[derive(Default)]
pub(crate) struct StreamsBuilder {
    labels: RowLabels,
    ends: Vec<u64>,
    records: Vec<u8>,
    /// Labels and record of the last stream, for the check of the order.
    last: Option<(Labels, Vec<u8>)>,
}

impl StreamsBuilder {
    /// Adds the next stream in order of [`stream_sort_key`].
    pub(crate) fn begin(&mut self, stream: &Stream) -> Result<()> {
        if self.labels.len() >= u32::MAX as usize {
            return Err(EngineError::LimitExceeded(
                "a segment holds at most 2^32 - 1 streams".into(),
            ));
        }
        let key = stream_sort_key(stream);
        assert!(
            self.last.as_ref().is_none_or(|last| *last < key),
            "bug: stream {} does not come after the one before",
            stream.labels
        );
        self.labels.push(&stream.labels);
        self.records.extend_from_slice(&key.1);
        self.ends.push(self.records.len() as u64);
        self.last = Some(key);
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Writes attribute keys, streams, label index and series table.
    pub(crate) fn write<S: SegmentSink>(
        &self,
        keys: &KeyNumbers,
        writer: &mut ContainerWriter<S>,
    ) -> Result<()> {
        let mut section = Vec::new();
        if !keys.names().is_empty() {
            put_u64(&mut section, keys.names().len() as u64);
            keys.names()
                .iter()
                .for_each(|key| put_str(&mut section, key));
        }
        writer.section(SectionKind::AttributeKeys, &section)?;
        let mut streams = Vec::new();
        if !self.ends.is_empty() {
            put_packed(&mut streams, &self.ends);
            streams.extend_from_slice(&self.records);
        }
        writer.section(SectionKind::Streams, &streams)?;
        self.labels.write(writer)
    }
}

/// The streams of an open segment, with the file that they are read from.
pub(crate) struct StreamTables {
    pub(crate) file: SegmentFile,
    pub(crate) count: u32,
    pub(crate) index: LabelIndex,
    series: SeriesTable,
}

impl StreamTables {
    pub(crate) fn open(file: SegmentFile, count: u32) -> Result<Self> {
        Ok(Self {
            index: LabelIndex::open(&file, count)?,
            series: SeriesTable::open(&file, count)?,
            count,
            file,
        })
    }

    pub(crate) fn selector(&self) -> Selector<'_> {
        Selector {
            file: &self.file,
            index: &self.index,
            series: &self.series,
            row_count: self.count,
        }
    }

    pub(crate) fn labels(&self, stream: u32) -> Result<Labels> {
        LabelsCursor::new(&self.file, &self.series, &self.index).labels(stream)
    }

    pub(crate) fn stream(&self, stream: u32) -> Result<Stream> {
        let labels = self.labels(stream)?;
        let mut cursor = self.file.cursor(SectionKind::Streams)?;
        let ends = Packed::read(&mut cursor, self.count as usize)?;
        let base = cursor.offset();
        let records = cursor.rest();
        let start = match stream {
            0 => 0,
            _ => ends.get(stream as usize - 1),
        };
        let end = ends.get(stream as usize);
        let record = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| records.get(start..end));
        let Some(record) = record else {
            return Err(cursor.corrupt("a stream's record inside its section", "one outside"));
        };
        let mut cursor = Cursor::new(&self.file, record, base.saturating_add(start));
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

/// The attribute keys of a segment, in order of first occurrence.
pub(crate) fn read_keys(file: &SegmentFile) -> Result<Vec<Arc<str>>> {
    let mut cursor = file.cursor(SectionKind::AttributeKeys)?;
    let mut keys = Vec::new();
    if cursor.remaining() > 0 {
        for _ in 0..cursor.count("attribute key count")? {
            keys.push(Arc::from(cursor.str()?));
        }
        cursor.finish()?;
    }
    Ok(keys)
}
