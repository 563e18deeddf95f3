//! Span segments: as [`super::segment`], for columns of spans. The seeds are of this version and of
//! version 3.

use std::sync::{Arc, LazyLock};

use chronolith_engine::model::{
    AttributeValue, Attributes, Generation, Labels, Span, SpanEvent, SpanId, SpanKind, SpanLink,
    SpanStatus, Stream, TimeRange, TimestampNs, TraceId,
};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, SpanBatch, SpanColumnSet, SpanCondition, SpanScanRequest,
    TextPattern, TextTest, ValueTest,
};
use chronolith_engine::segment::format::MAGIC;
use chronolith_engine::segment::{SegmentOrigin, SpanBuildOptions, SpanBuilder, SpanReader};
use chronolith_engine::{Matcher, Result, TenantId};

use super::segment::with_right_checksums;
use crate::{Target, patch};

/// Segments of spans.
pub static SPAN_SEGMENT: Target = Target {
    name: "span_segment",
    body,
    seeds: || FILES.iter().cloned().chain(patch::seeds()).collect(),
    dictionary: &[],
};

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let built = [0, 1, 40, 300].map(|spans| match segment(spans) {
        Ok(bytes) => bytes,
        Err(error) => panic!("bug: the seed of {spans} spans cannot be built: {error}"),
    });
    let old = include_bytes!("../../../engine/tests/golden/v3/store/0000000036.seg");
    built.into_iter().chain([old.to_vec()]).collect()
});

/// Reads a file as it is, and with right checksums.
fn body(data: &[u8]) {
    let file = if data.starts_with(&MAGIC[..4]) {
        data.to_vec()
    } else {
        patch::apply(&FILES, data)
    };
    let _ = read(file.clone());
    if let Some(repaired) = with_right_checksums(file) {
        let _ = read(repaired);
    }
}

fn read(bytes: Vec<u8>) -> Result<()> {
    let reader = SpanReader::open(Arc::new(bytes), "fuzz.seg")?;
    let _ = reader.attribute_keys();
    for name in reader.label_names().iter().take(16) {
        let _ = reader.label_values(name);
    }
    let _ = reader.select_streams(&[Matcher::equal("service", "shop")]);
    for stream in 0..reader.stream_count().min(16) {
        let _ = reader.stream(stream);
    }
    let _ = reader.trace_ids();
    let _ = reader.may_have_trace(&TraceId([1; 16]));
    for request in requests() {
        let Ok(blocks) = reader.plan(&request, None) else {
            continue;
        };
        for block in blocks.iter().take(16) {
            if let Ok(Some(rows)) = reader.read(block, &request, None) {
                assert!(rows.rows <= block.row_count());
                assert_eq!(rows.time.len(), rows.rows);
                // Not that all times are inside the range: a directory that lies under right checksums
                // is believed. `verify` compares it with the rows.
            }
        }
    }
    for block in reader.blocks().iter().take(16) {
        if let Ok(batch) = reader.read_batch(block) {
            assert!(batch.len() <= block.row_count());
        }
    }
    Ok(())
}

const START_NS: i64 = 1_763_600_400_000_000_000;

fn requests() -> [SpanScanRequest; 3] {
    let all = SpanScanRequest {
        columns: SpanColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..SpanScanRequest::new(Vec::new(), TimeRange::ALL)
    };
    let test = TextTest {
        pattern: TextPattern::Equals("/cart/3".into()),
        negated: false,
    };
    [
        all.clone(),
        SpanScanRequest {
            conditions: vec![
                SpanCondition::Trace(vec![TraceId([1; 16])].into()),
                SpanCondition::Root,
            ],
            ..all.clone()
        },
        SpanScanRequest {
            range: TimeRange::new(START_NS, START_NS + 5_000_000_000),
            conditions: vec![
                SpanCondition::Duration(10_000..=i64::MAX),
                SpanCondition::Attribute {
                    scope: AttributeScope::Row,
                    key: "path".into(),
                    test: ValueTest::Text(test),
                },
            ],
            ..all
        },
    ]
}

/// Attributes of every type, which differ from span to span.
fn attributes(row: usize) -> Attributes {
    let path = format!("/cart/{}", row % 7);
    vec![
        ("path".into(), AttributeValue::String(path)),
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

fn segment(spans: usize) -> Result<Vec<u8>> {
    let origin = SegmentOrigin::received(TenantId::default(), Generation(1), TimeRange::new(1, 2));
    let options = SpanBuildOptions {
        block_rows: 100,
        ..SpanBuildOptions::default()
    };
    let mut builder = SpanBuilder::new(Vec::new(), origin, options)?;
    let mut batch = SpanBatch::new();
    let stream = batch.stream(Arc::new(Stream {
        labels: Labels::from_pairs([("service", "shop")]).unwrap_or_default(),
        resource: vec![("replicas".into(), AttributeValue::Int(3))],
        ..Stream::default()
    }));
    for row in 0..spans {
        let time = TimestampNs(START_NS + row as i64 * 100_000_000);
        let span = Span {
            trace_id: TraceId([(row / 40) as u8; 16]),
            span_id: SpanId((row as u64 + 1).to_le_bytes()),
            parent_span_id: (!row.is_multiple_of(5)).then_some(SpanId((row as u64).to_le_bytes())),
            trace_state: String::new(),
            name: format!("stage-{}", row % 4),
            kind: SpanKind::default(),
            time,
            duration_ns: row as i64 * 1_000,
            status: SpanStatus::default(),
            status_message: String::new(),
            attributes: attributes(row),
            events: vec![SpanEvent {
                time,
                name: "retry".into(),
                attributes: attributes(row),
            }],
            links: vec![SpanLink {
                trace_id: TraceId([4; 16]),
                span_id: SpanId([5; 8]),
                attributes: Vec::new(),
            }],
        };
        batch.push(stream, &span);
    }
    let batch = Arc::new(batch);
    for row in 0..spans {
        builder.push(&batch, row)?;
    }
    Ok(builder.finish()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_files_are_read_whole_and_patches_reach_inside() {
        for file in &*FILES {
            read(file.clone()).unwrap();
            assert_eq!(with_right_checksums(file.clone()).as_ref(), Some(file));
        }
        let seeds = patch::seeds();
        let opened = seeds.iter().filter(|patches| {
            let repaired = with_right_checksums(patch::apply(&FILES, patches));
            repaired.is_some_and(|bytes| read(bytes).is_ok())
        });
        let opened = opened.count();
        assert!(opened > 10, "{opened} of 100 patched files open");
    }
}
