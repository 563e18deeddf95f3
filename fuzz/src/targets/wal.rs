//! Log files: replay hands on records, finds a torn tail, or names the damage; it never panics and
//! never invents a record beyond the damage.
//!
//! As with segments, files are read as they are and with all checksums made right; inputs are log
//! files, or patches to ours.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use chronolith_engine::codec::checksum::{crc32c, crc32c_append};
use chronolith_engine::io::{FileSystem, Memory, SharedFileSystem};
use chronolith_engine::model::{
    AttributeValue, BucketSpan, Exemplar, Generation, Histogram, LogRecord, Metadata, SeriesRef,
    Signal, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TimeRange, TraceId,
};
use chronolith_engine::model::{Labels, TimestampNs};
use chronolith_engine::rows::{LogBatch, SpanBatch};
use chronolith_engine::wal::{
    Applier, Deletion, HistogramRow, LogStart, Logged, RecordRef, SampleRows, StateOp, Wal,
    WalOptions, replay,
};
use chronolith_engine::{Matcher, Result, TenantId};

use crate::{Target, patch};

/// One log file.
pub static WAL: Target = Target {
    name: "wal",
    body: log_file,
    seeds,
    dictionary: &["CWF1"],
};

// The layout as `docs/formats/wal.md` has it.
const MAGIC: &[u8] = b"CHRONWAL";
const FILE_HEADER_BYTES: usize = 64;
const SALT_AT: usize = 32;
const FRAME_MAGIC: &[u8] = b"CWF1";
const FRAME_HEADER_BYTES: usize = 40;
const FRAME_BODY_BYTES_AT: usize = 8;
const FRAME_RECORD_COUNT_AT: usize = 12;
const FRAME_RECORDS_CRC_AT: usize = 32;
const FRAME_CRC_AT: usize = 36;
const FRAME_ALIGN: usize = 8;
const RECORD_HEADER_BYTES: usize = 16;
const RECORD_CRC_AT: usize = 12;

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| match files() {
    Ok(files) => files,
    Err(error) => panic!("bug: the seeds cannot be written: {error}"),
});

fn seeds() -> Vec<Vec<u8>> {
    FILES.iter().cloned().chain(patch::seeds()).collect()
}

fn log_file(data: &[u8]) {
    let file = if data.starts_with(MAGIC) {
        data.to_vec()
    } else {
        patch::apply(&FILES, data)
    };
    read(&file);
    let mut repaired = file;
    if make_checksums_right(&mut repaired).is_some() {
        read(&repaired);
    }
}

fn directory() -> PathBuf {
    PathBuf::from("/wal")
}

/// Replays a log of this one file. Returns the number of records, if there was no error.
fn read(bytes: &[u8]) -> Option<u64> {
    let fs = Memory::new();
    let dir = directory();
    let written = fs
        .create_dir_all(&dir)
        .and_then(|()| fs.create(&dir.join("000000000001.wal")))
        .and_then(|file| file.write_at(0, bytes).and_then(|()| file.sync()));
    if let Err(error) = written {
        panic!("bug: the memory file system refuses a file: {error}");
    }
    let mut next = 1;
    let result = replay(&fs, &dir, LogStart::default(), |sequence, record| {
        assert_eq!(sequence, next, "sequence numbers have no gaps");
        next += 1;
        // What was decoded is well-formed: it can be encoded, and its references resolve.
        let _ = record.as_record_ref().encode()?;
        for batch in &record.logs {
            let streams = batch.streams().len();
            assert!(
                batch
                    .columns()
                    .stream
                    .iter()
                    .all(|s| (*s as usize) < streams)
            );
            (0..batch.len()).for_each(|row| drop(batch.record(row)));
        }
        for batch in &record.spans {
            let streams = batch.streams().len();
            assert!(
                batch
                    .columns()
                    .stream
                    .iter()
                    .all(|s| (*s as usize) < streams)
            );
            (0..batch.len()).for_each(|row| drop(batch.span(row)));
        }
        assert_eq!(record.samples.times.len(), record.samples.values.len());
        assert_eq!(record.samples.times.len(), record.samples.series.len());
        Ok(())
    });
    match result {
        Ok((report, _)) => {
            assert_eq!(report.records, next - 1);
            Some(report.records)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Computes the checksums of the file header, of each frame, and of each record anew, as far as the
/// frames can be followed.
fn make_checksums_right(bytes: &mut [u8]) -> Option<()> {
    let header_crc = crc32c(bytes.get(..FILE_HEADER_BYTES - 4)?);
    put_u32(bytes, FILE_HEADER_BYTES - 4, header_crc)?;
    let salt = *bytes.get(SALT_AT..)?.first_chunk::<8>()?;
    let mut at = FILE_HEADER_BYTES;
    while bytes.get(at..at + 4)? == FRAME_MAGIC {
        let body_at = at + FRAME_HEADER_BYTES;
        let body_bytes = get_u32(bytes, at + FRAME_BODY_BYTES_AT)? as usize;
        let mut record_at = body_at;
        let mut records_crc = 0;
        for _ in 0..get_u32(bytes, at + FRAME_RECORD_COUNT_AT)? {
            let payload_bytes = get_u32(bytes, record_at)? as usize;
            let payload_at = record_at + RECORD_HEADER_BYTES;
            let payload = bytes.get(payload_at..payload_at.checked_add(payload_bytes)?)?;
            let head = bytes.get(record_at..record_at + RECORD_CRC_AT)?;
            let crc = crc32c_append(crc32c(head), payload);
            put_u32(bytes, record_at + RECORD_CRC_AT, crc)?;
            records_crc = crc32c_append(records_crc, bytes.get(record_at..payload_at)?);
            record_at = payload_at + payload_bytes;
        }
        put_u32(bytes, at + FRAME_RECORDS_CRC_AT, records_crc)?;
        let covered = bytes.get(at..at + FRAME_CRC_AT)?;
        let frame_crc = crc32c_append(crc32c(&salt), covered);
        put_u32(bytes, at + FRAME_CRC_AT, frame_crc)?;
        at += (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(FRAME_ALIGN);
    }
    Some(())
}

fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    bytes
        .get_mut(at..at + 4)?
        .copy_from_slice(&value.to_le_bytes());
    Some(())
}

/// Nothing is made visible: only the file matters.
struct Ignore;

impl Applier<()> for Ignore {
    fn apply(&mut self, _records: Vec<Logged<()>>) {}
    fn cut(&mut self, _next_sequence: u64) {}
}

/// An empty log, and one with a record of each kind of row.
fn files() -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for full in [false, true] {
        let fs = Memory::new();
        let dir = directory();
        fs.create_dir_all(&dir)?;
        let options = WalOptions {
            preallocate_bytes: 0,
            salt: Some(7),
            ..WalOptions::default()
        };
        let shared: SharedFileSystem = Arc::new(fs.clone());
        let wal = Wal::create(shared, &dir, options, Ignore)?;
        if full {
            append_all(&wal)?;
        }
        wal.close()?;
        for path in fs.paths() {
            files.push(fs.read(&path, 1 << 20)?);
        }
    }
    Ok(files)
}

fn append_all(wal: &Wal<()>) -> Result<()> {
    let tenant = TenantId::default();
    let time = TimestampNs(1_763_600_400_000_000_000);
    let record = || RecordRef::new(&tenant, time);
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "demo")]);
    let labels = |name: &str| labels(name).unwrap_or_default();
    let series = [
        (SeriesRef(1), labels("up")),
        (SeriesRef(2), labels("queue_depth")),
    ];

    let samples = SampleRows {
        series: &[SeriesRef(1), SeriesRef(2), SeriesRef(1)],
        times: &[time.0, time.0 + 1, time.0 + 15_000_000_000],
        starts: &[],
        values: &[1.0, f64::NAN, -0.0],
    };
    let metadata = [("up".to_owned(), Metadata::default())];
    let first = RecordRef {
        series: &series,
        samples,
        metadata: &metadata,
        ..record()
    };
    wal.append(first.encode()?, (), None)?;

    let histograms = [HistogramRow {
        series: SeriesRef(2),
        time,
        start: Some(TimestampNs(time.0 - 1)),
        histogram: Arc::new(Histogram {
            count: 5.0,
            sum: 12.5,
            positive_spans: vec![BucketSpan {
                offset: -2,
                length: 2,
            }],
            positive_buckets: vec![2.0, 3.0],
            ..Histogram::default()
        }),
    }];
    let exemplar = Exemplar {
        labels: labels("trace"),
        value: 0.5,
        time,
    };
    let exemplars = [(SeriesRef(1), exemplar)];
    let second = RecordRef {
        histograms: &histograms,
        exemplars: &exemplars,
        ..record()
    };
    wal.append(second.encode()?, (), None)?;

    let attributes = vec![
        (
            "pipeline.name".to_owned(),
            AttributeValue::String("orders_etl".to_owned()),
        ),
        (
            "nested".to_owned(),
            AttributeValue::Array(vec![
                AttributeValue::Int(-1),
                AttributeValue::Map(Vec::new()),
            ]),
        ),
    ];
    let streams = [Arc::new(Stream {
        resource: attributes.clone(),
        ..Stream::default()
    })];
    let log = LogRecord {
        time,
        observed_time: time,
        severity: 17,
        severity_text: "ERROR".to_owned(),
        body: AttributeValue::String("copy into orders timed out".to_owned()),
        attributes: attributes.clone(),
        trace_id: Some(TraceId([1; 16])),
        span_id: Some(SpanId([2; 8])),
        event_name: "pipeline.failed".to_owned(),
    };
    let span = Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: Some(SpanId([3; 8])),
        trace_state: String::new(),
        name: "load".to_owned(),
        kind: SpanKind::default(),
        time,
        duration_ns: 5_000_000,
        status: SpanStatus::default(),
        status_message: String::new(),
        attributes: attributes.clone(),
        events: vec![SpanEvent {
            time,
            name: "retry".to_owned(),
            attributes: Vec::new(),
        }],
        links: vec![SpanLink {
            trace_id: TraceId([4; 16]),
            span_id: SpanId([5; 8]),
            attributes,
        }],
    };
    let mut logs = LogBatch::new();
    let mut spans = SpanBatch::new();
    for stream in &streams {
        logs.stream(Arc::clone(stream));
        spans.stream(Arc::clone(stream));
    }
    logs.push(0, &log);
    spans.push(0, &span);
    let (logs, spans) = ([Arc::new(logs)], [Arc::new(spans)]);
    let third = RecordRef {
        logs: &logs,
        spans: &spans,
        ..record()
    };
    wal.append(third.encode()?, (), None)?;

    let state = [StateOp {
        collection: "dashboards".into(),
        key: "main".into(),
        version: 3,
        value: Some(Arc::from(&b"{}"[..])),
    }];
    let deletions = [Deletion {
        id: 1,
        generation: Generation(2),
        signal: Signal::Metrics,
        matchers: vec![Matcher::equal("job", "demo")],
        range: TimeRange::ALL,
    }];
    let fourth = RecordRef {
        state: &state,
        deletions: &deletions,
        ..record()
    };
    wal.append(fourth.encode()?, (), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_logs_replay_and_need_no_repair() {
        let files = files().unwrap();
        assert_eq!(
            files.iter().map(|file| read(file)).collect::<Vec<_>>(),
            [Some(0), Some(4)]
        );
        for file in files {
            let mut repaired = file.clone();
            let _ = make_checksums_right(&mut repaired);
            assert!(repaired == file, "the layout here is that of the writer");
        }
    }
}
