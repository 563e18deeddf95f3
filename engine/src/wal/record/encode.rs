//! A request's columns become bytes, on the caller's thread and without intermediate copies.

use std::cell::RefCell;

use super::batches::{self, Refused};
use super::decimal::write_values;
use super::values::{ATTRIBUTE_DEPTH_MAX, write_histogram, write_times};
use super::{RecordRef, SampleRows, body_flag, section};
use crate::codec::varint::{write_i64, write_u64};
use crate::error::{EngineError, Result};
use crate::model::SeriesRef;
use crate::wal::cursor::{write_bytes, write_text};
use crate::wal::format::{
    RECORD_BODY_BYTES_MAX, RECORD_FLAG_ZSTD, RECORD_HEADER_BYTES, RecordHeader,
};

/// Bodies below this are stored as they are: compression would save less than it costs.
const COMPRESS_BYTES_MIN: usize = 256;
/// Log records and spans are stored as they are: compressing them would cost more than all else on
/// their way to the log, and the log is short-lived. Level of all others, as
/// measured on remote-write bodies (benches/RESULTS.md): higher levels cost more than they save.
const COMPRESS_LEVEL: i32 = 1;
/// A thread's scratch buffer is given back when a request made it larger than this.
const SCRATCH_BYTES_MAX: usize = 4 << 20;

/// A record ready to be copied into the log: header, checksum and compressed payload.
#[derive(Clone, Debug)]
pub struct EncodedRecord {
    bytes: Vec<u8>,
}

impl EncodedRecord {
    /// Bytes that the record takes in the log.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::wal) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::wal) fn header_bytes(&self) -> &[u8] {
        self.bytes.get(..RECORD_HEADER_BYTES).unwrap_or(&[])
    }
}

struct Scratch {
    body: Vec<u8>,
    packed: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

thread_local! {
    /// The body before compression and zstd's tables: making them anew for each record costs as
    /// much as encoding a small one.
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { body: Vec::new(), packed: Vec::new(), compressor: None })
    };
}

impl RecordRef<'_> {
    /// Encodes the record.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] when columns differ in length, a stream index leads
    /// nowhere, an attribute nests too deep or the record is larger than one may be.
    pub fn encode(&self) -> Result<EncodedRecord> {
        self.check()?;
        if !self.logs.is_empty() || !self.spans.is_empty() {
            return self.encode_in_place();
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.body.clear();
            self.write_body(&mut scratch.body)?;
            let encoded = scratch.seal();
            scratch.trim();
            encoded
        })
    }

    /// Encodes a record that is stored as it is, behind the place of its header: large ones are not
    /// copied.
    fn encode_in_place(&self) -> Result<EncodedRecord> {
        let logs = self.logs.iter().map(|batch| batch.bytes());
        let spans = self.spans.iter().map(|batch| batch.bytes());
        let expected = logs.chain(spans).sum::<usize>();
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES + expected);
        bytes.resize(RECORD_HEADER_BYTES, 0);
        self.write_body(&mut bytes)?;
        let (header, body) = bytes.split_at_mut(RECORD_HEADER_BYTES);
        check_size(body.len())?;
        header.copy_from_slice(&RecordHeader::of(body, body.len() as u32, 0));
        Ok(EncodedRecord { bytes })
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(EngineError::InvalidArgument(reason.to_owned()));
        let samples = &self.samples;
        let count = samples.values.len();
        if samples.series.len() != count
            || samples.times.len() != count
            || !(samples.starts.is_empty() || samples.starts.len() == count)
        {
            return refuse("columns of samples differ in length");
        }
        Ok(())
    }

    fn write_body(&self, out: &mut Vec<u8>) -> Result<()> {
        let mut flags = 0;
        if self.batch.is_some() {
            flags |= body_flag::BATCH;
        }
        if self.derivation.is_some() {
            flags |= body_flag::DERIVATION;
        }
        out.push(flags);
        write_text(out, self.tenant.as_str());
        out.extend_from_slice(&self.arrival.0.to_le_bytes());
        if let Some(batch) = self.batch {
            out.extend_from_slice(&batch.0);
        }
        if let Some(derivation) = self.derivation {
            write_text(out, derivation);
        }
        self.write_metrics(out);
        self.write_changes(out);
        self.write_rows(out).map_err(|refused| {
            EngineError::InvalidArgument(match refused {
                Refused::Deep => {
                    format!("attribute nested deeper than {ATTRIBUTE_DEPTH_MAX} levels")
                }
                Refused::Torn => "a row of a batch was begun and not finished".to_owned(),
            })
        })
    }

    fn write_metrics(&self, out: &mut Vec<u8>) {
        section(out, section::SERIES, self.series.len(), |out| {
            let mut ids = Deltas::default();
            for (series, labels) in self.series {
                ids.write(out, *series);
                write_bytes(out, labels.as_bytes());
            }
        });
        section(out, section::SAMPLES, self.samples.values.len(), |out| {
            write_samples(out, &self.samples);
        });
        section(out, section::HISTOGRAMS, self.histograms.len(), |out| {
            let mut ids = Deltas::default();
            let mut time = 0;
            let mut custom = None;
            for row in self.histograms {
                ids.write(out, row.series);
                write_i64(out, row.time.0.wrapping_sub(time));
                time = row.time.0;
                match row.start {
                    None => out.push(0),
                    Some(start) => {
                        out.push(1);
                        write_i64(out, start.0.wrapping_sub(time));
                    }
                }
                write_histogram(out, &row.histogram, &mut custom);
            }
        });
        section(out, section::EXEMPLARS, self.exemplars.len(), |out| {
            let mut ids = Deltas::default();
            let mut time = 0;
            for (series, exemplar) in self.exemplars {
                ids.write(out, *series);
                write_i64(out, exemplar.time.0.wrapping_sub(time));
                time = exemplar.time.0;
                out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
                write_bytes(out, exemplar.labels.as_bytes());
            }
        });
        section(out, section::METADATA, self.metadata.len(), |out| {
            for (metric, metadata) in self.metadata {
                write_text(out, metric);
                out.push(metadata.metric_type as u8);
                write_text(out, &metadata.unit);
                write_text(out, &metadata.help);
            }
        });
    }

    fn write_rows(&self, out: &mut Vec<u8>) -> Result<(), Refused> {
        try_section(out, section::LOG_BATCHES, self.logs.len(), |out| {
            self.logs
                .iter()
                .try_for_each(|batch| batches::write_logs(out, batch))
        })?;
        try_section(out, section::SPAN_BATCHES, self.spans.len(), |out| {
            self.spans
                .iter()
                .try_for_each(|batch| batches::write_spans(out, batch))
        })
    }

    fn write_changes(&self, out: &mut Vec<u8>) {
        section(out, section::STATE, self.state.len(), |out| {
            for op in self.state {
                write_text(out, &op.collection);
                write_text(out, &op.key);
                write_u64(out, op.version);
                out.push(u8::from(op.value.is_some()));
                if let Some(value) = &op.value {
                    write_bytes(out, value);
                }
            }
        });
        section(out, section::DELETIONS, self.deletions.len(), |out| {
            for deletion in self.deletions {
                write_u64(out, deletion.id);
                write_u64(out, deletion.generation.0);
                out.push(deletion.signal as u8);
                write_range(out, deletion.range);
                write_matchers(out, &deletion.matchers);
            }
        });
        section(out, section::SOURCES, self.sources.len(), |out| {
            for source in self.sources {
                write_u64(out, source.0);
            }
        });
    }
}

impl Scratch {
    /// Makes a record of the body, compressed if that makes it smaller.
    fn seal(&mut self) -> Result<EncodedRecord> {
        let size = self.body.len();
        check_size(size)?;
        let (payload, flags) = if size >= COMPRESS_BYTES_MIN && self.compress() {
            (&self.packed, RECORD_FLAG_ZSTD)
        } else {
            (&self.body, 0)
        };
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&RecordHeader::of(payload, size as u32, flags));
        bytes.extend_from_slice(payload);
        Ok(EncodedRecord { bytes })
    }

    /// Compresses the body; whether that made it smaller.
    fn compress(&mut self) -> bool {
        if self.compressor.is_none() {
            // Only an allocation can fail here; the record is then stored as it is.
            self.compressor = zstd::bulk::Compressor::new(COMPRESS_LEVEL).ok();
        }
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.body.len()));
        let Some(compressor) = &mut self.compressor else {
            return false;
        };
        match compressor.compress_to_buffer(&self.body, &mut self.packed) {
            Ok(written) => written < self.body.len(),
            Err(_) => false,
        }
    }

    /// Gives back what an unusually large request took.
    fn trim(&mut self) {
        if self.body.capacity() > SCRATCH_BYTES_MAX {
            self.body = Vec::new();
            self.packed = Vec::new();
        }
    }
}

/// Refuses bodies that are larger than one may be.
fn check_size(size: usize) -> Result<()> {
    match size > RECORD_BODY_BYTES_MAX {
        true => Err(EngineError::InvalidArgument(format!(
            "request of {size} bytes, at most {RECORD_BODY_BYTES_MAX} are accepted"
        ))),
        false => Ok(()),
    }
}

/// Writes tag, item count, size and content of a section; nothing for one without items.
fn section(out: &mut Vec<u8>, tag: u8, count: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let written = try_section(out, tag, count, |out| {
        write(out);
        Ok(())
    });
    debug_assert!(written.is_ok(), "bug: only attributes can nest too deep");
}

fn try_section(
    out: &mut Vec<u8>,
    tag: u8,
    count: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    if count == 0 {
        return Ok(());
    }
    out.push(tag);
    write_u64(out, count as u64);
    let size_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    write(out)?;
    // Bodies beyond the limit are refused as a whole, so that a size cut here is never stored.
    let size = (out.len() - start) as u32;
    out[size_at..start].copy_from_slice(&size.to_le_bytes());
    Ok(())
}

/// Series ids as differences: neighbours in a request are usually neighbours in the store.
#[derive(Default)]
struct Deltas(u64);

impl Deltas {
    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, series: SeriesRef) {
        write_i64(out, series.0.wrapping_sub(self.0) as i64);
        self.0 = series.0;
    }
}

fn write_samples(out: &mut Vec<u8>, rows: &SampleRows<'_>) {
    out.reserve(rows.values.len() * 10);
    let mut ids = Deltas::default();
    for series in rows.series {
        ids.write(out, *series);
    }
    write_times(out, rows.times);
    write_times(out, rows.starts);
    write_values(out, rows.values);
}

fn write_range(out: &mut Vec<u8>, range: crate::model::TimeRange) {
    out.extend_from_slice(&range.start.0.to_le_bytes());
    out.extend_from_slice(&range.end.0.to_le_bytes());
}

/// Appends matchers: count, then name, operator and value of each.
pub(crate) fn write_matchers(out: &mut Vec<u8>, matchers: &[crate::index::Matcher]) {
    use crate::index::MatchOp;
    write_u64(out, matchers.len() as u64);
    for matcher in matchers {
        write_text(out, matcher.name());
        out.push(match matcher.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        write_text(out, matcher.value());
    }
}
