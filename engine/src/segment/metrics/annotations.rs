//! Exemplars of series and metadata of metric names.
//!
//! Exemplars: row count varint, packed runs of the rows and of the ends of their records, then the
//! records: per exemplar time (zig-zag varint), value (8 bytes) and the canonical bytes of its labels.
//! Metadata: count varint; per entry metric name, type byte, unit and help; by name, those of one
//! name oldest first.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::{Exemplar, Labels, Metadata, MetricType, TimestampNs};

use super::super::file::SegmentFile;
use super::super::format::SectionKind;
use super::super::packed::{Packed, put_packed};
use super::super::wire::{Cursor, put_bytes, put_f64, put_i64, put_str, put_u64};

/// Collects the exemplars of rows in ascending order.
#[derive(Debug, Default)]
pub(crate) struct ExemplarsBuilder {
    rows: Vec<u64>,
    ends: Vec<u64>,
    records: Vec<u8>,
}

impl ExemplarsBuilder {
    /// Adds exemplars of `row`, which is the last row so far or a later one.
    pub(crate) fn push(&mut self, row: u32, exemplars: &[Exemplar]) {
        for exemplar in exemplars {
            put_i64(&mut self.records, exemplar.time.0);
            put_f64(&mut self.records, exemplar.value);
            put_bytes(&mut self.records, exemplar.labels.as_bytes());
        }
        let end = self.records.len() as u64;
        if self.rows.last() == Some(&u64::from(row)) {
            self.ends.pop();
        } else {
            self.rows.push(u64::from(row));
        }
        self.ends.push(end);
    }

    /// The section's bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.rows.is_empty() {
            return out;
        }
        put_u64(&mut out, self.rows.len() as u64);
        put_packed(&mut out, &self.rows);
        put_packed(&mut out, &self.ends);
        out.extend_from_slice(&self.records);
        out
    }
}

/// The rows that have exemplars, ascending.
pub(crate) fn exemplar_rows(file: &SegmentFile) -> Result<Vec<u32>> {
    let mut cursor = file.cursor(SectionKind::Exemplars)?;
    if cursor.remaining() == 0 {
        return Ok(Vec::new());
    }
    let count = cursor.varint_max(u64::from(u32::MAX), "exemplar rows")? as usize;
    let rows = Packed::read(&mut cursor, count)?;
    let row = |at| {
        u32::try_from(rows.get(at))
            .map_err(|_| cursor.corrupt("a row with exemplars", rows.get(at)))
    };
    (0..count).map(row).collect()
}

/// The exemplars of `row`, in the order added.
pub(crate) fn read_exemplars(file: &SegmentFile, row: u32) -> Result<Vec<Exemplar>> {
    let mut cursor = file.cursor(SectionKind::Exemplars)?;
    if cursor.remaining() == 0 {
        return Ok(Vec::new());
    }
    let count = cursor.varint_max(u64::from(u32::MAX), "exemplar rows")? as usize;
    let rows = Packed::read(&mut cursor, count)?;
    let ends = Packed::read(&mut cursor, count)?;
    let base = cursor.offset();
    let records = cursor.rest();
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if rows.get(middle) < u64::from(row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == count || rows.get(low) != u64::from(row) {
        return Ok(Vec::new());
    }
    let start = if low == 0 { 0 } else { ends.get(low - 1) };
    let slice = usize::try_from(start)
        .ok()
        .zip(usize::try_from(ends.get(low)).ok())
        .and_then(|(start, end)| records.get(start..end));
    let Some(slice) = slice else {
        return Err(cursor.corrupt("exemplars inside their section", "an offset outside"));
    };
    let mut cursor = Cursor::new(file, slice, base + start);
    let mut exemplars = Vec::new();
    while cursor.remaining() > 0 {
        let time = TimestampNs(cursor.varint_i64()?);
        let value = cursor.f64()?;
        let bytes = cursor.bytes()?;
        let labels = Labels::from_bytes(bytes)
            .map_err(|error| cursor.corrupt("an exemplar's labels", error))?;
        exemplars.push(Exemplar {
            labels,
            value,
            time,
        });
    }
    Ok(exemplars)
}

/// The metadata section's bytes.
pub(crate) fn encode_metadata(all: &BTreeMap<String, Vec<Metadata>>) -> Vec<u8> {
    let mut out = Vec::new();
    let count: usize = all.values().map(Vec::len).sum();
    if count == 0 {
        return out;
    }
    put_u64(&mut out, count as u64);
    for (metric, known) in all {
        for metadata in known {
            put_str(&mut out, metric);
            out.push(metadata.metric_type as u8);
            put_str(&mut out, &metadata.unit);
            put_str(&mut out, &metadata.help);
        }
    }
    out
}

/// All metadata of the segment by metric name, oldest first.
pub(crate) fn read_metadata(file: &SegmentFile) -> Result<BTreeMap<String, Vec<Metadata>>> {
    let mut cursor = file.cursor(SectionKind::Metadata)?;
    let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    if cursor.remaining() == 0 {
        return Ok(all);
    }
    for _ in 0..cursor.count("metadata count")? {
        let metric = cursor.str()?.to_owned();
        let number = cursor.u8()?;
        let metric_type = MetricType::from_u8(number)
            .ok_or_else(|| cursor.corrupt("a metric type from 0 to 7", number))?;
        let unit = cursor.str()?.to_owned();
        let help = cursor.str()?.to_owned();
        all.entry(metric).or_default().push(Metadata {
            metric_type,
            unit,
            help,
        });
    }
    cursor.finish()?;
    Ok(all)
}
