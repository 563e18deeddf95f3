//! Reads everything there is in a segment: checksums, cross-references, and the decoded content.

use std::path::PathBuf;

use crate::error::Result;
use crate::model::{Labels, SampleColumns, Signal, TimeRange};

use super::file::{SegmentBytes, SegmentFile};
use super::format::{ROW_SHAPES_VERSION, SectionKind};
use super::logs::LogSegmentReader;
use super::metrics::{DecodeCache, MetricSegmentReader};
use super::rows::{Column, RowSegmentReader};
use super::spans::{self, SpanReader};

/// What a verification went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Series or streams.
    pub series: u64,
    /// Samples, records or spans, all decoded.
    pub rows: u64,
    /// Chunks or blocks.
    pub chunks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Checks a segment file of any signal: every page's checksum, the order of its rows, that the index
/// finds each row by each of its labels, that every value decodes, and that the totals are those that
/// the file states.
///
/// # Errors
/// The first thing wrong, with its place in the file.
pub fn verify(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Verified> {
    let path = path.into();
    let file = SegmentFile::open(SegmentBytes::clone(&bytes), &path)?;
    file.check_all_pages()?;
    let verified = match file.signal() {
        Signal::Metrics => verify_metrics(&MetricSegmentReader::open(bytes, path)?)?,
        Signal::Logs => {
            let reader = LogSegmentReader::open(bytes, path)?;
            verify_rows(&reader, || reader.verify_blocks())?
        }
        Signal::Spans => {
            let reader = SpanReader::open(bytes, path)?;
            match reader.old() {
                Some(old) => verify_rows(old, || reader.count_old_rows())?,
                None => spans::verify::verify(&reader)?,
            }
        }
    };
    Ok(Verified {
        bytes: file.identity().length,
        ..verified
    })
}

fn require(
    file: &SegmentFile,
    kind: SectionKind,
    expected: u64,
    found: u64,
    what: &str,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(file.corrupt(
        file.section(kind).offset,
        &format!("{expected} {what}"),
        &found.to_string(),
    ))
}

fn verify_metrics(reader: &MetricSegmentReader) -> Result<Verified> {
    let file = reader.file();
    let mut verified = Verified::default();
    let mut cache = DecodeCache::new();
    let mut samples = SampleColumns::default();
    let mut before: Option<Labels> = None;
    reader.selector().verify()?;
    for row in 0..reader.row_count() {
        let labels = reader.labels(row)?;
        if before.as_ref().is_some_and(|before| *before >= labels) {
            return Err(file.corrupt(
                file.section(SectionKind::Series).offset,
                "series in ascending order",
                &format!("{labels} in row {row}"),
            ));
        }
        samples.clear();
        reader.read(row, TimeRange::ALL, &mut cache, &mut samples)?;
        let ascending = samples.timestamps.windows(2).all(|w| w[0] < w[1])
            && samples.histograms.windows(2).all(|w| w[0].time < w[1].time);
        let range = reader.meta().range;
        let inside = samples
            .timestamps
            .iter()
            .all(|t| range.start.0 <= *t && *t <= range.end.0);
        if !ascending || !inside {
            return Err(file.corrupt(
                file.section(SectionKind::Chunks).offset,
                "samples in ascending order, inside the segment's range",
                &format!("others in row {row}"),
            ));
        }
        verified.rows += samples.len() as u64;
        for chunk in reader.all_chunks(row, TimeRange::ALL)? {
            reader.chunk_stats(&chunk)?;
            reader.arrivals(&chunk)?;
            verified.chunks += 1;
        }
        reader.exemplars(row, TimeRange::ALL)?;
        before = Some(labels);
    }
    reader.metadata()?;
    verified.series = u64::from(reader.row_count());
    let meta = reader.meta();
    require(
        file,
        SectionKind::Chunks,
        meta.row_count,
        verified.rows,
        "samples",
    )?;
    require(
        file,
        SectionKind::Chunks,
        meta.chunk_count,
        verified.chunks,
        "chunks",
    )?;
    Ok(verified)
}

fn verify_rows(reader: &RowSegmentReader, rows: impl FnOnce() -> Result<u64>) -> Result<Verified> {
    let file = reader.file();
    reader.selector().verify()?;
    for stream in 0..reader.stream_count() {
        reader.stream(stream)?;
    }
    let is_old = file.version() <= ROW_SHAPES_VERSION;
    for block in reader.all_blocks().iter().filter(|_| is_old) {
        for entry in reader.details(block, 0)?.entries {
            if !Column::decode(file, &entry)?.agrees_with(&entry) {
                return Err(file.corrupt(
                    entry.offset,
                    &format!("{} values inside the zone map", entry.count),
                    &format!("others in column {:?}", entry.field),
                ));
            }
        }
    }
    let verified = Verified {
        series: u64::from(reader.stream_count()),
        rows: rows()?,
        chunks: reader.all_blocks().len() as u64,
        bytes: 0,
    };
    let meta = reader.meta();
    require(
        file,
        SectionKind::Blocks,
        meta.row_count,
        verified.rows,
        "rows",
    )?;
    require(
        file,
        SectionKind::Blocks,
        meta.chunk_count,
        verified.chunks,
        "blocks",
    )?;
    Ok(verified)
}
