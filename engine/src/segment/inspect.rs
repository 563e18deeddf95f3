//! Prints what is in a segment and where its bytes go: `chronolith inspect FILE`, and the tool with
//! which sizes are tuned.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::codec::block::Tag;
use crate::error::Result;
use crate::model::{Signal, TimeRange};

use super::file::{SegmentBytes, SegmentFile};
use super::logs::LogSegmentReader;
use super::meta::SegmentMeta;
use super::metrics::MetricSegmentReader;
use super::rows::columns::{ColumnEntry, ValueKind};
use super::rows::{BlockRef, RowSegmentReader};
use super::spans::{self, SpanReader};

/// Describes a segment file of any signal.
///
/// # Errors
/// Damage that stands in the way of the description; `verify` looks for all damage.
pub fn inspect(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<String> {
    let path = path.into();
    let file = SegmentFile::open(SegmentBytes::clone(&bytes), &path)?;
    let meta = SegmentMeta::read(&file)?;
    let mut out = String::new();
    describe_meta(&mut out, &file, &meta);
    describe_sections(&mut out, &file, meta.row_count);
    match file.signal() {
        Signal::Metrics => describe_metrics(&mut out, &MetricSegmentReader::open(bytes, path)?)?,
        Signal::Logs => {
            let reader = LogSegmentReader::open(bytes, path)?;
            let entries = |block: &BlockRef| match reader.trace_table() {
                Some(_) => Ok(reader.log_details(block)?.entries),
                None => Ok(reader.details(block, 0)?.entries),
            };
            describe_rows(&mut out, &reader, entries)?;
        }
        Signal::Spans => {
            let reader = SpanReader::open(bytes, path)?;
            match reader.old() {
                Some(old) => {
                    let entries = |block: &BlockRef| Ok(old.details(block, 0)?.entries);
                    describe_rows(&mut out, old, entries)?;
                }
                None => describe_spans(&mut out, &reader)?,
            }
        }
    }
    Ok(out)
}

/// Writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($argument:tt)*) => {{
        let _ = writeln!($out, $($argument)*);
    }};
}

fn per_row(bytes: u64, rows: u64) -> f64 {
    bytes as f64 / rows.max(1) as f64
}

fn describe_meta(out: &mut String, file: &SegmentFile, meta: &SegmentMeta) {
    let origin = &meta.origin;
    let identity = file.identity();
    line!(out, "segment      {}", file.path().display());
    line!(out, "signal       {}", meta.signal.as_str());
    line!(out, "tenant       {}", origin.tenant.as_str());
    line!(out, "level        {}", origin.level);
    line!(out, "generation   {}", origin.generation);
    let sources: Vec<String> = origin.sources.iter().map(ToString::to_string).collect();
    line!(
        out,
        "made from    {}",
        if sources.is_empty() {
            "the head".into()
        } else {
            sources.join(", ")
        }
    );
    if let Some(derivation) = &origin.derivation {
        line!(out, "derivation   {derivation}");
    }
    line!(
        out,
        "times        {} to {}",
        meta.range.start,
        meta.range.end
    );
    line!(
        out,
        "arrived      {} to {}",
        origin.arrival.start,
        origin.arrival.end
    );
    line!(out, "series       {}", meta.series_count);
    line!(out, "rows         {}", meta.row_count);
    line!(out, "chunks       {}", meta.chunk_count);
    line!(
        out,
        "bytes        {} ({:.3} a row), checksum {:08x}",
        identity.length,
        per_row(identity.length, meta.row_count),
        identity.checksum
    );
}

fn describe_sections(out: &mut String, file: &SegmentFile, rows: u64) {
    line!(
        out,
        "\n{:<18} {:>12} {:>12} {:>9}",
        "section",
        "offset",
        "bytes",
        "B/row"
    );
    let mut body = 0;
    for (kind, section) in file.sections() {
        body += section.length;
        line!(
            out,
            "{:<18} {:>12} {:>12} {:>9.4}",
            kind.as_str(),
            section.offset,
            section.length,
            per_row(section.length, rows)
        );
    }
    let rest = file.identity().length - body;
    line!(
        out,
        "{:<18} {:>12} {:>12} {:>9.4}",
        "header, tables",
        "",
        rest,
        per_row(rest, rows)
    );
}

#[derive(Default)]
struct CodecTotals {
    blocks: u64,
    values: u64,
    bytes: u64,
}

fn tag_name(block: &[u8]) -> String {
    match block.first().and_then(|tag| Tag::from_byte(*tag)) {
        Some(tag) => format!("{tag:?}"),
        None => "other".to_owned(),
    }
}

fn describe_totals(out: &mut String, what: &str, totals: &BTreeMap<String, CodecTotals>) {
    line!(
        out,
        "\n{what:<34} {:>9} {:>12} {:>12} {:>9}",
        "blocks",
        "values",
        "bytes",
        "B/value"
    );
    for (name, total) in totals {
        line!(
            out,
            "{name:<34} {:>9} {:>12} {:>12} {:>9.4}",
            total.blocks,
            total.values,
            total.bytes,
            per_row(total.bytes, total.values)
        );
    }
}

fn describe_metrics(out: &mut String, reader: &MetricSegmentReader) -> Result<()> {
    let mut by_codec: BTreeMap<String, CodecTotals> = BTreeMap::new();
    let mut by_metric: BTreeMap<String, CodecTotals> = BTreeMap::new();
    for row in 0..reader.row_count() {
        let metric = reader
            .label_value(row, "__name__")?
            .unwrap_or("(none)")
            .to_owned();
        for chunk in reader.chunks(row, TimeRange::ALL)? {
            let block = reader.value_block(&chunk)?;
            let codec = if chunk.is_histogram() {
                "Histograms".to_owned()
            } else {
                tag_name(block)
            };
            for (key, map) in [(codec, &mut by_codec), (metric.clone(), &mut by_metric)] {
                let total = map.entry(key).or_default();
                total.blocks += 1;
                total.values += chunk.count() as u64;
                total.bytes += chunk.encoded_size() as u64;
            }
        }
    }
    describe_totals(out, "values by codec", &by_codec);
    describe_totals(out, "values by metric", &by_metric);
    let (columns, bytes) = reader.timestamp_columns()?;
    line!(out, "\ntimestamp columns  {columns}, {bytes} bytes encoded");
    line!(out, "\n{:<24} {:>9} {:>9}", "label", "values", "series");
    for label in reader.cardinality()? {
        line!(
            out,
            "{:<24} {:>9} {:>9}",
            label.name,
            label.values,
            label.series
        );
    }
    Ok(())
}

fn describe_spans(out: &mut String, reader: &SpanReader) -> Result<()> {
    let mut columns: BTreeMap<String, CodecTotals> = BTreeMap::new();
    for column in spans::verify::column_sizes(reader)? {
        let total = columns.entry(column.name).or_default();
        total.blocks += 1;
        total.values += column.values;
        total.bytes += column.bytes;
    }
    describe_totals(out, "columns", &columns);
    if let Some(traces) = reader.trace_count() {
        line!(out, "\ntraces  {traces}");
    }
    for name in reader.label_names() {
        line!(
            out,
            "label {name}: {} values",
            reader.label_values(&name)?.len()
        );
    }
    Ok(())
}

fn describe_rows(
    out: &mut String,
    reader: &RowSegmentReader,
    entries: impl Fn(&BlockRef) -> Result<Vec<ColumnEntry>>,
) -> Result<()> {
    let mut columns: BTreeMap<String, CodecTotals> = BTreeMap::new();
    let mut filters = 0;
    for block in reader.all_blocks() {
        filters += block.head.filter_length;
        for entry in entries(&block)? {
            let bytes = reader.file().get(entry.offset, entry.length as usize)?;
            let key = reader.attribute_keys().get(entry.key as usize);
            let encoding = match entry.kind {
                // Not single blocks with a tag.
                ValueKind::Ids | ValueKind::Runs => format!("{:?}", entry.kind),
                _ => tag_name(bytes),
            };
            let name = match key {
                Some(key) if entry.field.is_attribute() => {
                    format!("{:?} {key} {encoding}", entry.field)
                }
                _ => format!("{:?} {encoding}", entry.field),
            };
            let total = columns.entry(name).or_default();
            total.blocks += 1;
            total.values += u64::from(entry.count);
            total.bytes += u64::from(entry.length);
        }
    }
    describe_totals(out, "columns", &columns);
    line!(out, "\nword filters  {filters} bytes");
    for name in reader.label_names() {
        line!(
            out,
            "label {name}: {} values",
            reader.label_values(&name)?.len()
        );
    }
    Ok(())
}
