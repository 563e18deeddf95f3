//! Log segments: as [`super::segment`], for rows with streams and attributes. The seeds are of this
//! version and of version 3.

use std::sync::{Arc, LazyLock};

use chronolith_engine::model::{
    AttributeValue, Attributes, Generation, Labels, LogRecord, SpanId, Stream, TimeRange,
    TimestampNs, TraceId,
};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, LogColumnSet, LogCondition, LogScanRequest, TextPattern,
    TextTest, ValueTest,
};
use chronolith_engine::segment::format::MAGIC;
use chronolith_engine::segment::{
    LogBuildOptions, LogSegmentBuilder, LogSegmentReader, RowSegmentReader, SegmentOrigin,
};
use chronolith_engine::{Matcher, Result, TenantId};

use super::segment::with_right_checksums;
use crate::{Target, patch};

/// Segments of log records.
pub static LOG_SEGMENT: Target = Target {
    name: "log_segment",
    body,
    seeds: || LOG_FILES.iter().cloned().chain(patch::seeds()).collect(),
    dictionary: &[],
};

static LOG_FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let built = [0, 1, 40, 300].map(|rows| match log_segment(rows) {
        Ok(bytes) => bytes,
        Err(error) => panic!("bug: the seed of {rows} rows cannot be built: {error}"),
    });
    let old = include_bytes!("../../../engine/tests/golden/v3/store/0000000035.seg");
    built.into_iter().chain([old.to_vec()]).collect()
});

const START_NS: i64 = 1_763_600_400_000_000_000;

/// Reads a file as it is, and with right checksums.
fn body(data: &[u8]) {
    let file = if data.starts_with(&MAGIC[..4]) {
        data.to_vec()
    } else {
        patch::apply(&LOG_FILES, data)
    };
    let _ = read_logs(file.clone());
    if let Some(repaired) = with_right_checksums(file) {
        let _ = read_logs(repaired);
    }
}

fn read_logs(bytes: Vec<u8>) -> Result<()> {
    let reader = LogSegmentReader::open(Arc::new(bytes), "fuzz.seg")?;
    read_common(&reader);
    for request in requests() {
        for block in reader.plan(&request, None)?.iter().take(16) {
            let rows = reader.read(block, &request, None);
            if let Ok(Some(rows)) = rows {
                assert!(0 < rows.rows && rows.rows <= block.row_count());
                assert_eq!(rows.time.len(), rows.rows);
                // A block that says to lie inside the range is believed; `verify` finds the lie.
                let said = block.range();
                let inside = request.range.start <= said.start && said.end <= request.range.end;
                let mut times = rows.time.iter().map(|time| TimestampNs(*time));
                assert!(inside || times.all(|time| request.range.contains(time)));
                for row in 0..rows.rows {
                    let _ = (rows.body_value(row), rows.attributes_of(row).count());
                }
            }
            let _ = reader.read_batch(block);
        }
    }
    Ok(())
}

/// All rows whole, and a few conditions of every sort.
fn requests() -> [LogScanRequest; 3] {
    let all = LogScanRequest {
        columns: LogColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..LogScanRequest::new(Vec::new(), TimeRange::ALL)
    };
    let number = ValueTest::Number {
        min: Some((100.0, true)),
        max: None,
        negated: false,
    };
    [
        all.clone(),
        LogScanRequest {
            conditions: vec![
                LogCondition::Severity(9..=24),
                LogCondition::Body(TextTest {
                    pattern: TextPattern::Contains(" timed ".into()),
                    negated: false,
                }),
                LogCondition::Attribute {
                    scope: AttributeScope::Row,
                    key: "bytes".into(),
                    test: number,
                },
            ],
            attributes: AttributeChoice::Keys(vec!["path".into(), "nested".into()]),
            ..all.clone()
        },
        LogScanRequest {
            range: TimeRange::new(START_NS, START_NS + 5_000_000_000),
            conditions: vec![LogCondition::Trace([TraceId([1; 16])].into())],
            ..all
        },
    ]
}

/// Tables and indexes.
fn read_common(reader: &RowSegmentReader) {
    let _ = reader.file().check_all_pages();
    let _ = reader.attribute_keys();
    for name in reader.label_names().iter().take(16) {
        let _ = reader.label_values(name);
    }
    let _ = reader.select_streams(&[Matcher::equal("service", "shop")]);
    for stream in 0..reader.stream_count().min(16) {
        let _ = reader.stream_labels(stream);
        let _ = reader.stream(stream);
    }
    let _ = reader.may_have_trace(&TraceId([1; 16]));
}

fn origin() -> SegmentOrigin {
    SegmentOrigin::received(TenantId::default(), Generation(1), TimeRange::new(1, 2))
}

fn stream() -> Stream {
    Stream {
        labels: Labels::from_pairs([("level", "error"), ("service", "shop")]).unwrap_or_default(),
        resource: vec![("replicas".into(), AttributeValue::Int(3))],
        ..Stream::default()
    }
}

/// Attributes of every type, which differ from row to row.
fn attributes(row: usize) -> Attributes {
    vec![
        (
            "path".into(),
            AttributeValue::String(format!("/cart/{}", row % 7)),
        ),
        ("bytes".into(), AttributeValue::Int(row as i64 * 31)),
        ("ratio".into(), AttributeValue::Float(row as f64 / 7.0)),
        ("ok".into(), AttributeValue::Bool(row.is_multiple_of(3))),
        (
            "raw".into(),
            AttributeValue::Bytes(vec![row as u8; row % 5]),
        ),
        (
            "nested".into(),
            AttributeValue::Array(vec![AttributeValue::Null, AttributeValue::Map(vec![])]),
        ),
    ]
}

fn log_segment(rows: usize) -> Result<Vec<u8>> {
    let mut builder = LogSegmentBuilder::new(Vec::new(), origin(), LogBuildOptions::default())?;
    if rows > 0 {
        builder.begin_stream(&stream())?;
    }
    for row in 0..rows {
        let record = LogRecord {
            time: TimestampNs(START_NS + row as i64 * 100_000_000),
            observed_time: TimestampNs(START_NS + row as i64 * 100_000_000 + 5),
            severity: (row % 24) as u8,
            severity_text: "ERROR".into(),
            body: AttributeValue::String(format!("copy {row} into orders timed out")),
            attributes: attributes(row),
            trace_id: row
                .is_multiple_of(4)
                .then_some(TraceId([(row % 9) as u8; 16])),
            span_id: row.is_multiple_of(8).then_some(SpanId([7; 8])),
            event_name: String::new(),
        };
        builder.push(&record, row as u64)?;
    }
    Ok(builder.finish()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_files_are_read_whole_and_patches_reach_inside() {
        for file in &*LOG_FILES {
            read_logs(file.clone()).unwrap();
            assert_eq!(with_right_checksums(file.clone()).as_ref(), Some(file));
        }
        let seeds = patch::seeds();
        let opened = seeds.iter().filter(|patches| {
            let repaired = with_right_checksums(patch::apply(&LOG_FILES, patches));
            repaired.is_some_and(|bytes| read_logs(bytes).is_ok())
        });
        let opened = opened.count();
        assert!(opened > 10, "{opened} of 100 patched files open");
    }
}
