//! Labels of a segment: names, their sorted values, the rows of each pair. Metrics use it for series,
//! logs and spans for streams.
//!
//! A label value is known by its *rank*: its place among the sorted values of its label. Values are
//! stored plain, so that a look-up is a binary search that touches only what it compares, and a value
//! is handed out as a slice of the mapped file; front coding would save about 1 % of a segment and
//! cost a decode per label of every series returned.
//!
//! Sections: label names (count; per label name, value count, postings of all rows that have it),
//! label values and their end offsets, postings and their end offsets. Values and postings of all
//! labels lie one after the other, label by label.

use std::sync::atomic::{AtomicU64, Ordering};

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::index::postings::{self, BadPostings};

use super::container::{ContainerWriter, SegmentSink};
use super::file::{Section, SegmentFile};
use super::format::SectionKind;
use super::packed::{PackedArray, PackedArrayBuilder};
use super::wire::{put_bytes, put_str, put_u64};

/// One label of an open segment.
#[derive(Debug)]
struct LabelEntry {
    name: String,
    /// Number of its first value among the values of all labels.
    first_value: u64,
    value_count: u32,
    /// Where the postings of the rows that have the label lie in the file.
    presence: Section,
}

/// Labels, values and postings of an open segment.
#[derive(Debug)]
pub(crate) struct LabelIndex {
    labels: Vec<LabelEntry>,
    value_ends: PackedArray,
    values: Section,
    posting_ends: PackedArray,
    postings: Section,
    row_count: u32,
    id: u64,
}

/// Numbers of opened indexes.
static IDS: AtomicU64 = AtomicU64::new(0);

impl LabelIndex {
    /// Opens the index of a segment with `row_count` series or streams. Reads the label names only.
    pub(crate) fn open(file: &SegmentFile, row_count: u32) -> Result<Self> {
        let mut cursor = file.cursor(SectionKind::LabelNames)?;
        let mut labels: Vec<LabelEntry> = Vec::new();
        let mut first_value = 0_u64;
        let count = if cursor.remaining() == 0 {
            0
        } else {
            cursor.count("label count")?
        };
        for _ in 0..count {
            let name = cursor.str()?.to_owned();
            if name.is_empty() || labels.last().is_some_and(|last| last.name >= name) {
                return Err(cursor.corrupt("label names in ascending order", name));
            }
            let value_count = cursor.varint_max(u64::from(row_count), "value count")? as u32;
            let length = cursor.count("postings length")?;
            let presence = Section {
                offset: cursor.offset(),
                length: length as u64,
            };
            cursor.take(length)?;
            labels.push(LabelEntry {
                name,
                first_value,
                value_count,
                presence,
            });
            first_value += u64::from(value_count);
        }
        cursor.finish()?;
        let index = Self {
            labels,
            value_ends: PackedArray::open(file, SectionKind::LabelValueEnds)?,
            values: file.section(SectionKind::LabelValues),
            posting_ends: PackedArray::open(file, SectionKind::PostingEnds)?,
            postings: file.section(SectionKind::Postings),
            row_count,
            id: IDS.fetch_add(1, Ordering::Relaxed),
        };
        if index.value_ends.len() != first_value || index.posting_ends.len() != first_value {
            return Err(cursor.corrupt(
                &format!("{first_value} label values"),
                format!(
                    "{} values, {} postings",
                    index.value_ends.len(),
                    index.posting_ends.len()
                ),
            ));
        }
        Ok(index)
    }

    /// A number that no other opened index of this process has or will have.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How many labels there are. Labels are numbered in ascending order of their names.
    pub(crate) fn label_count(&self) -> u32 {
        self.labels.len() as u32
    }

    /// The number of a label.
    pub(crate) fn label(&self, name: &str) -> Option<u32> {
        let found = self.labels.binary_search_by(|l| l.name.as_str().cmp(name));
        found.ok().map(|index| index as u32)
    }

    /// The name of label `label`, which is below [`LabelIndex::label_count`].
    pub(crate) fn label_name(&self, label: u32) -> &str {
        &self.labels[label as usize].name
    }

    /// How many values label `label` has.
    pub(crate) fn value_count(&self, label: u32) -> u32 {
        self.labels[label as usize].value_count
    }

    fn value_number(&self, file: &SegmentFile, label: u32, rank: u32) -> Result<u64> {
        match self.labels.get(label as usize) {
            Some(entry) if rank < entry.value_count => Ok(entry.first_value + u64::from(rank)),
            _ => Err(file.corrupt(
                self.values.offset,
                "a label value that exists",
                &format!("value {rank} of label {label}"),
            )),
        }
    }

    /// The value of that rank.
    #[inline]
    pub(crate) fn value<'a>(
        &self,
        file: &'a SegmentFile,
        label: u32,
        rank: u32,
    ) -> Result<&'a str> {
        let number = self.value_number(file, label, rank)?;
        let (start, length) = self.value_ends.extent(file, number)?;
        let bytes = file.get_in(self.values, start, length)?;
        std::str::from_utf8(bytes).map_err(|_| {
            file.corrupt(
                self.values.offset + start,
                "a label value in UTF-8",
                "other bytes",
            )
        })
    }

    /// The rank of `value`, or where it would be.
    pub(crate) fn find_value(
        &self,
        file: &SegmentFile,
        label: u32,
        value: &str,
    ) -> Result<std::result::Result<u32, u32>> {
        let (mut low, mut high) = (0, self.value_count(label));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.value(file, label, middle)?.cmp(value) {
                std::cmp::Ordering::Equal => return Ok(Ok(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }

    /// The ranks of the values that start with `prefix`.
    pub(crate) fn prefix_ranks(
        &self,
        file: &SegmentFile,
        label: u32,
        prefix: &str,
    ) -> Result<std::ops::Range<u32>> {
        let count = self.value_count(label);
        if prefix.is_empty() {
            return Ok(0..count);
        }
        let first = match self.find_value(file, label, prefix)? {
            Ok(rank) | Err(rank) => rank,
        };
        let (mut low, mut high) = (first, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.value(file, label, middle)?.starts_with(prefix) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(first..low)
    }

    fn posting_bytes<'a>(
        &self,
        file: &'a SegmentFile,
        label: u32,
        rank: u32,
    ) -> Result<(&'a [u8], u64)> {
        let number = self.value_number(file, label, rank)?;
        let (start, length) = self.posting_ends.extent(file, number)?;
        let bytes = file.get_in(self.postings, start, length)?;
        Ok((bytes, self.postings.offset + start))
    }

    /// Adds the rows with that value to `rows`.
    pub(crate) fn add_postings(
        &self,
        file: &SegmentFile,
        label: u32,
        rank: u32,
        rows: &mut RoaringBitmap,
    ) -> Result<()> {
        let (bytes, offset) = self.posting_bytes(file, label, rank)?;
        postings::decode_into(bytes, self.row_count, rows)
            .map_err(|bad| bad_postings(file, offset, bad))
    }

    /// How many rows have that value.
    pub(crate) fn posting_count(&self, file: &SegmentFile, label: u32, rank: u32) -> Result<u64> {
        let (bytes, offset) = self.posting_bytes(file, label, rank)?;
        postings::count(bytes).map_err(|bad| bad_postings(file, offset, bad))
    }

    /// The rows that have the label at all.
    pub(crate) fn presence(&self, file: &SegmentFile, label: u32) -> Result<RoaringBitmap> {
        let section = self.labels[label as usize].presence;
        let bytes = file.get(section.offset, section.length as usize)?;
        postings::decode(bytes, self.row_count)
            .map_err(|bad| bad_postings(file, section.offset, bad))
    }

    /// How many rows have the label at all.
    pub(crate) fn presence_count(&self, file: &SegmentFile, label: u32) -> Result<u64> {
        let section = self.labels[label as usize].presence;
        let bytes = file.get(section.offset, section.length as usize)?;
        postings::count(bytes).map_err(|bad| bad_postings(file, section.offset, bad))
    }
}

fn bad_postings(file: &SegmentFile, offset: u64, bad: BadPostings) -> crate::EngineError {
    file.corrupt(offset + bad.offset as u64, "postings", bad.what)
}

/// One label with its values, ready to be written.
#[derive(Debug)]
pub(crate) struct LabelToWrite<'a> {
    pub(crate) name: &'a str,
    /// Values in ascending order, with the rows of each, ascending.
    pub(crate) values: Vec<(&'a str, &'a [u32])>,
}

/// Writes the five sections of the index. `labels` ascend by name.
pub(crate) fn write<S: SegmentSink>(
    writer: &mut ContainerWriter<S>,
    labels: &[LabelToWrite<'_>],
) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut value_ends = PackedArrayBuilder::default();
    let mut posting_ends = PackedArrayBuilder::default();
    let mut value_bytes = Vec::new();
    let mut posting_bytes = Vec::new();
    let mut presence = Vec::new();
    let mut encoded = Vec::new();
    put_u64(&mut names, labels.len() as u64);
    for label in labels {
        presence.clear();
        for (value, rows) in &label.values {
            value_bytes.extend_from_slice(value.as_bytes());
            value_ends.push(value_bytes.len() as u64);
            postings::encode(rows, &mut posting_bytes);
            posting_ends.push(posting_bytes.len() as u64);
            presence.extend_from_slice(rows);
        }
        // A row has one value of a label, so there are no duplicates.
        presence.sort_unstable();
        encoded.clear();
        postings::encode(&presence, &mut encoded);
        put_str(&mut names, label.name);
        put_u64(&mut names, label.values.len() as u64);
        put_bytes(&mut names, &encoded);
    }
    writer.section(SectionKind::LabelNames, &names)?;
    writer.section(SectionKind::LabelValueEnds, &value_ends.finish())?;
    writer.section(SectionKind::LabelValues, &value_bytes)?;
    writer.section(SectionKind::PostingEnds, &posting_ends.finish())?;
    writer.section(SectionKind::Postings, &posting_bytes)
}
