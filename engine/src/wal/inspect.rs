//! Prints a log file for people: header, frames, records, and how it ends. One frame is in memory at a
//! time, and neither the other files nor the manifest are needed.

use std::io::Write;

use super::format::{FILE_HEADER_BYTES, FORMAT_VERSION, RecordHeader};
use super::reader::{LogReader, Step};
use super::record::Record;
use crate::error::{Corruption, EngineError, Result};
use crate::io::File;

/// Writes a description of a log file to `out`.
///
/// # Errors
/// Damage of an acknowledged record, after what is before it was printed; what `out` says.
pub(crate) fn inspect(file: Box<dyn File>, out: &mut dyn Write) -> Result<()> {
    let path = file.path().to_owned();
    let length = file.length()?;
    let mut reader = LogReader::from_file(file)?;
    let failed = |error| EngineError::io("output", error);
    let header = *reader.header();
    writeln!(
        out,
        "log file     {}\nnumber       {}\nversion      {FORMAT_VERSION}\nfirst record {}\nbytes        \
         {length}{}\n",
        path.display(),
        header.number,
        header.first_sequence,
        if header.preallocated { ", allocated ahead" } else { "" }
    )
    .map_err(failed)?;
    let (mut records, mut rows) = (0_u64, 0_u64);
    loop {
        let offset = reader.position();
        let step = reader.next()?;
        let (mut sequence, body) = match &step {
            Step::Frame {
                first_sequence,
                body,
            } => (*first_sequence, body.as_slice()),
            Step::End => {
                writeln!(out, "{offset:>12}  end: the log goes on in the next file")
                    .map_err(failed)?;
                break;
            }
            Step::Clean => {
                writeln!(out, "{offset:>12}  end of the log").map_err(failed)?;
                break;
            }
            Step::Torn => {
                writeln!(
                    out,
                    "{offset:>12}  torn write: never acknowledged, cut at the next start"
                )
                .map_err(failed)?;
                break;
            }
        };
        debug_assert!(
            offset >= FILE_HEADER_BYTES as u64,
            "bug: a frame in the header"
        );
        writeln!(out, "{offset:>12}  commit, {} bytes", body.len()).map_err(failed)?;
        let mut rest = body;
        // The reader has checked that the body consists of whole records.
        while let Some((head, payload, after)) = RecordHeader::split(rest) {
            let record = Record::decode(&head, payload).map_err(|error| Corruption {
                path: path.clone(),
                offset,
                expected: format!("record {sequence}"),
                found: error.to_string(),
            })?;
            records += 1;
            rows += record.rows() as u64;
            describe(sequence, &record, payload.len(), out).map_err(failed)?;
            sequence += 1;
            rest = after;
        }
    }
    writeln!(out, "\n{records} records, {rows} rows").map_err(failed)
}

fn describe(
    sequence: u64,
    record: &Record,
    bytes: usize,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let counts = [
        ("new series", record.series.len()),
        ("samples", record.samples.values.len()),
        ("histograms", record.histograms.len()),
        ("exemplars", record.exemplars.len()),
        ("metadata", record.metadata.len()),
        ("log records", record.log_records()),
        ("spans", record.span_count()),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    writeln!(
        out,
        "              record {sequence}, {bytes} bytes: tenant {}, arrived {} {}",
        record.tenant.as_str(),
        record.arrival,
        counts.join(", ")
    )?;
    if let Some(derivation) = &record.derivation {
        writeln!(out, "                derived by {derivation}")?;
    }
    for op in &record.state {
        let what = match &op.value {
            Some(value) => format!("{} bytes", value.len()),
            None => "removed".to_owned(),
        };
        let (collection, key, version) = (&op.collection, &op.key, op.version);
        writeln!(
            out,
            "                document {collection}/{key} version {version}: {what}"
        )?;
    }
    for deletion in &record.deletions {
        let matchers: Vec<String> = deletion.matchers.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "                deletion {} of {} {{{}}} from {} to {}",
            deletion.id,
            deletion.signal.as_str(),
            matchers.join(", "),
            deletion.range.start,
            deletion.range.end
        )?;
    }
    if !record.sources.is_empty() {
        let sources: Vec<String> = record.sources.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "                computed from generations {}",
            sources.join(", ")
        )?;
    }
    Ok(())
}
