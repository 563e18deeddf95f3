//! Span segments against plain lists.

use std::sync::Arc;

use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::sets_builder::COLUMNS_MAX;
use super::*;
use crate::codec::EncodeEffort;
use crate::index::Matcher;
use crate::model::{
    AttributeValue, Attributes, Labels, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink,
    SpanStatus, Stream, TimeRange, TimestampNs, TraceId,
};
use crate::rows::{
    AttributeChoice, AttributeScope, Selection, SpanBatch, SpanColumnSet, SpanCondition,
    SpanScanRequest, TextPattern, TextTest, ValueTest,
};
use crate::segment::metrics::tests::origin;
use crate::segment::{SegmentBytes, verify};

fn streams() -> Vec<Arc<Stream>> {
    [("shop", "1"), ("cart", "1"), ("cart", "2"), ("auth", "1")]
        .into_iter()
        .map(|(service, version)| {
            Arc::new(Stream {
                labels: Labels::from_pairs([("service", service)]).unwrap(),
                resource: vec![("replicas".into(), AttributeValue::Int(3))],
                scope: Scope {
                    name: "lib".into(),
                    version: version.into(),
                    attributes: Attributes::new(),
                },
            })
        })
        .collect()
}

fn any_attribute() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Null),
        "[a-zé ]{0,3}".prop_map(AttributeValue::String),
        any::<i64>().prop_map(AttributeValue::Int),
        (-9_i64..9).prop_map(AttributeValue::Int),
        (-1e9_f64..1e9).prop_map(AttributeValue::Float),
        Just(AttributeValue::Float(f64::NAN)),
        any::<bool>().prop_map(AttributeValue::Bool),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(AttributeValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::Array),
            prop::collection::vec(("[a-c]", inner), 0..3).prop_map(AttributeValue::Map),
        ]
    })
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    // Few keys, so that repeats and changes of type occur.
    prop::collection::vec(("[a-d]", any_attribute()), 0..4)
}

prop_compose! {
    fn any_span()(
        time in 0_i64..50, trace in 1_u8..9, span in 0_u8..12, parent in prop::option::of(1_u8..14),
        name in "(GET /|query|)", kind in 0_u8..6, duration_ns in any::<i32>(), status in 0_u8..3,
        status_message in "(|boom|ü)", trace_state in "(|a=b)", attributes in any_attributes(),
        events in prop::collection::vec((any::<i32>(), "[a-b]{0,2}", any_attributes()), 0..3),
        links in prop::collection::vec((any::<[u8; 16]>(), any_attributes()), 0..2),
    ) -> Span {
        Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId([span; 8]),
            parent_span_id: parent.map(|parent| SpanId([parent; 8])),
            trace_state,
            name,
            kind: SpanKind::from_u8(kind).unwrap(),
            time: TimestampNs(time),
            duration_ns: i64::from(duration_ns),
            status: SpanStatus::from_u8(status).unwrap(),
            status_message,
            attributes,
            events: events
                .into_iter()
                .map(|(after, name, attributes)| SpanEvent {
                    time: TimestampNs(time + i64::from(after)),
                    name,
                    attributes,
                })
                .collect(),
            links: links
                .into_iter()
                .map(|(trace, attributes)| SpanLink {
                    trace_id: TraceId(trace),
                    span_id: SpanId([9; 8]),
                    attributes,
                })
                .collect(),
        }
    }
}

/// Spans in batches, each with its own numbers of streams and keys.
fn batches(spans: &[(usize, Span)]) -> Vec<Arc<SpanBatch>> {
    let streams = streams();
    spans
        .chunks(7)
        .map(|part| {
            let mut batch = SpanBatch::new();
            for stream in streams.iter().rev() {
                batch.stream(Arc::clone(stream));
            }
            for (stream, span) in part {
                batch.push((streams.len() - 1 - stream) as u32, span);
            }
            Arc::new(batch)
        })
        .collect()
}

fn build(batches: &[Arc<SpanBatch>], options: SpanBuildOptions) -> Vec<u8> {
    let mut rows: Vec<(u32, u32)> = batches
        .iter()
        .zip(0..)
        .flat_map(|(batch, number)| (0..batch.len() as u32).map(move |row| (number, row)))
        .collect();
    sort_spans(batches, &mut rows);
    let mut builder = SpanBuilder::new(Vec::new(), origin(), options).unwrap();
    for (batch, row) in rows {
        builder
            .push(&batches[batch as usize], row as usize)
            .unwrap();
    }
    builder.finish().unwrap().0
}

fn open(bytes: Vec<u8>) -> SpanReader {
    let bytes: SegmentBytes = Arc::new(bytes);
    verify(SegmentBytes::clone(&bytes), "spans.seg").unwrap();
    SpanReader::open(bytes, "spans.seg").unwrap()
}

/// The order of a segment.
fn sorted(spans: &[(usize, Span)]) -> Vec<(usize, Span)> {
    let first = |id: TraceId| {
        let of_trace = spans.iter().filter(|(_, span)| span.trace_id == id);
        of_trace.map(|(_, span)| span.time).min()
    };
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|(_, span)| (first(span.trace_id), span.trace_id, span.time));
    sorted
}

/// Spans in words: NaNs are equal.
fn words(spans: &[(Arc<Stream>, Span)]) -> Vec<String> {
    spans
        .iter()
        .map(|(stream, span)| format!("{} {} {span:?}", stream.labels, stream.scope.version))
        .collect()
}

fn read_all(reader: &SpanReader) -> Vec<(Arc<Stream>, Span)> {
    let mut spans = Vec::new();
    for block in reader.blocks() {
        let batch = reader.read_batch(&block).unwrap();
        assert_eq!(batch.len(), block.row_count());
        for row in 0..batch.len() {
            let stream = batch.columns().stream[row] as usize;
            spans.push((Arc::clone(&batch.streams()[stream]), batch.span(row)));
        }
    }
    spans
}

fn with_streams(spans: &[(usize, Span)]) -> Vec<(Arc<Stream>, Span)> {
    let streams = streams();
    spans
        .iter()
        .map(|(stream, span)| (Arc::clone(&streams[*stream]), span.clone()))
        .collect()
}

fn text(pattern: TextPattern, negated: bool) -> TextTest {
    TextTest { pattern, negated }
}

fn attribute(scope: AttributeScope, key: &str, test: ValueTest) -> SpanCondition {
    SpanCondition::Attribute {
        scope,
        key: key.into(),
        test,
    }
}

/// Conditions of every kind.
fn conditions() -> Vec<SpanCondition> {
    let equals = |text: &str| TextPattern::Equals(text.into());
    let above_zero = ValueTest::Number {
        min: Some((0.0, false)),
        max: None,
        negated: false,
    };
    vec![
        SpanCondition::Trace(vec![TraceId([3; 16]), TraceId([200; 16])].into()),
        SpanCondition::Name(text(equals("query"), false)),
        SpanCondition::Name(text(equals("nowhere"), false)),
        SpanCondition::Name(text(equals("query"), true)),
        SpanCondition::Kind(0b110),
        SpanCondition::Status(0b100),
        SpanCondition::StatusMessage(text(TextPattern::Contains("oo".into()), false)),
        SpanCondition::Duration(0..=1 << 30),
        SpanCondition::Root,
        attribute(AttributeScope::Row, "a", ValueTest::Present),
        attribute(AttributeScope::Row, "a", ValueTest::Absent),
        attribute(AttributeScope::Row, "nowhere", ValueTest::Present),
        attribute(AttributeScope::Row, "b", above_zero.clone()),
        attribute(AttributeScope::Row, "b", ValueTest::Bool(true)),
        attribute(
            AttributeScope::Row,
            "c",
            ValueTest::Text(text(
                TextPattern::AnyOf(vec![equals("a"), equals("")]),
                false,
            )),
        ),
        attribute(AttributeScope::Event, "a", above_zero),
        attribute(AttributeScope::Link, "a", ValueTest::Present),
        attribute(
            AttributeScope::Instrumentation,
            crate::rows::SCOPE_VERSION,
            ValueTest::Text(text(equals("2"), false)),
        ),
        SpanCondition::Any(vec![
            SpanCondition::Kind(1),
            SpanCondition::All(vec![
                SpanCondition::Status(1),
                attribute(AttributeScope::Row, "d", ValueTest::Present),
            ]),
        ]),
    ]
}

fn all_columns(conditions: Vec<SpanCondition>, range: TimeRange) -> SpanScanRequest {
    SpanScanRequest {
        conditions,
        columns: SpanColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..SpanScanRequest::new(Vec::new(), range)
    }
}

/// What a scan of the segment answers.
fn scan(reader: &SpanReader, request: &SpanScanRequest) -> Vec<(Arc<Stream>, Span)> {
    let streams: Option<RoaringBitmap> = match request.matchers.is_empty() {
        true => None,
        false => Some(reader.select_streams(&request.matchers).unwrap()),
    };
    let mut spans = Vec::new();
    for block in reader.plan(request, streams.as_ref()).unwrap() {
        let Some(block) = reader.read(&block, request, streams.as_ref()).unwrap() else {
            continue;
        };
        let mut batch = SpanBatch::new();
        for number in 0..block.streams.len() as u32 {
            batch.stream(block.streams.get(number).unwrap());
        }
        batch.push_block(&block, |number| number);
        for row in 0..batch.len() {
            let stream = batch.columns().stream[row] as usize;
            spans.push((Arc::clone(&batch.streams()[stream]), batch.span(row)));
        }
    }
    spans
}

/// What it must answer.
fn expected(spans: &[(usize, Span)], request: &SpanScanRequest) -> Vec<(Arc<Stream>, Span)> {
    let all = with_streams(spans);
    let mut batch = SpanBatch::new();
    for (stream, span) in &all {
        let number = batch.stream(Arc::clone(stream));
        batch.push(number, span);
    }
    let mut rows = Selection::All(all.len());
    for condition in &request.conditions {
        condition.retain_batch(&batch, &mut rows);
    }
    rows.retain(|row| {
        let (stream, span) = &all[row as usize];
        request.range.contains(span.time)
            && request
                .matchers
                .iter()
                .all(|matcher| matcher.matches_labels(&stream.labels))
    });
    rows.into_rows()
        .into_iter()
        .map(|row| all[row as usize].clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn spans_come_back_and_scans_are_exact(
        spans in prop::collection::vec((0_usize..4, any_span()), 0..90),
        block_rows in 1_usize..40,
        effort in prop_oneof![
            Just(EncodeEffort::Flush), Just(EncodeEffort::Compact), Just(EncodeEffort::Cold)
        ],
        picked in any::<prop::sample::Index>(),
    ) {
        let options = SpanBuildOptions { effort, block_rows, ..SpanBuildOptions::default() };
        let batches = batches(&spans);
        let reader = open(build(&batches, options));
        let spans = sorted(&spans);
        prop_assert_eq!(words(&read_all(&reader)), words(&with_streams(&spans)));

        let mut ids: Vec<TraceId> = spans.iter().map(|(_, span)| span.trace_id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(&reader.trace_ids().unwrap(), &ids);
        prop_assert!(!reader.may_have_trace(&TraceId([77; 16])).unwrap());

        let conditions = conditions();
        for condition in &conditions {
            let request = all_columns(vec![condition.clone()], TimeRange::ALL);
            let found = scan(&reader, &request);
            prop_assert_eq!(words(&found), words(&expected(&spans, &request)), "{:?}", condition);
        }
        let two = vec![picked.get(&conditions).clone(), conditions[7].clone()];
        let request = SpanScanRequest {
            matchers: vec![Matcher::equal("service", "cart")],
            ..all_columns(two, TimeRange::new(10, 30))
        };
        let found = scan(&reader, &request);
        prop_assert_eq!(words(&found), words(&expected(&spans, &request)));
    }
}

fn span(trace: u64, number: u64) -> Span {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&trace.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    // All zeros are no id.
    id[8..].copy_from_slice(&(trace + 1).to_be_bytes());
    let own = trace * 100 + number;
    let user = format!("u{}", trace * 7 % 50);
    Span {
        trace_id: TraceId(id),
        span_id: SpanId((own + 1).to_be_bytes()),
        parent_span_id: (number > 0)
            .then_some(SpanId((trace * 100 + number / 2 + 1).to_be_bytes())),
        trace_state: String::new(),
        name: format!("operation {}", number % 3),
        kind: SpanKind::Server,
        time: TimestampNs((trace * 1_000_000 + number * 1_000) as i64),
        duration_ns: (own * 977 % 10_000) as i64,
        status: SpanStatus::Unset,
        status_message: String::new(),
        attributes: vec![
            ("http.route".into(), AttributeValue::String("/cart".into())),
            ("user.id".into(), AttributeValue::String(user)),
            ("thread.id".into(), AttributeValue::Int((own % 64) as i64)),
        ],
        events: Vec::new(),
        links: Vec::new(),
    }
}

/// A segment as others damage it.
pub(crate) fn span_columns_segment() -> Vec<u8> {
    let mut spans = Vec::new();
    for trace in 0..6 {
        for number in 0..4 {
            let mut span = span(trace, number);
            if number == 3 {
                span.events.push(SpanEvent {
                    time: span.time,
                    name: "retry".into(),
                    attributes: span.attributes.clone(),
                });
                span.links.push(SpanLink {
                    trace_id: TraceId([4; 16]),
                    span_id: SpanId([5; 8]),
                    attributes: vec![("x".into(), AttributeValue::Float(0.5))],
                });
            }
            spans.push(((trace % 4) as usize, span));
        }
    }
    let options = SpanBuildOptions {
        block_rows: 9,
        ..SpanBuildOptions::default()
    };
    build(&batches(&spans), options)
}

#[test]
fn a_plan_reads_no_block_without_the_trace_the_key_or_the_value() {
    let spans: Vec<(usize, Span)> = (0..200)
        .flat_map(|trace| (0..10).map(move |number| (0, span(trace, number))))
        .collect();
    let options = SpanBuildOptions {
        block_rows: 100,
        ..SpanBuildOptions::default()
    };
    let reader = open(build(&batches(&spans), options));
    assert_eq!(reader.blocks().len(), 20);
    assert_eq!(reader.trace_count(), Some(200));
    let planned = |condition: SpanCondition| {
        let request = all_columns(vec![condition], TimeRange::ALL);
        reader.plan(&request, None).unwrap().len()
    };
    for trace in 0..200 {
        let id = span(trace, 0).trace_id;
        assert_eq!(planned(SpanCondition::Trace(vec![id].into())), 1);
        let request = all_columns(vec![SpanCondition::Trace(vec![id].into())], TimeRange::ALL);
        assert_eq!(scan(&reader, &request).len(), 10);
    }
    assert_eq!(
        planned(SpanCondition::Trace(vec![TraceId([9; 16])].into())),
        0
    );
    let row = AttributeScope::Row;
    assert_eq!(planned(attribute(row, "nowhere", ValueTest::Present)), 0);
    assert_eq!(planned(attribute(row, "user.id", ValueTest::Present)), 20);
    let user = |user: &str| {
        let pattern = TextPattern::Equals(user.into());
        attribute(row, "user.id", ValueTest::Text(text(pattern, false)))
    };
    assert!(planned(user("u500")) <= 2, "filters tell what is not there");
    assert!(
        (4..=6).contains(&planned(user("u0"))),
        "{}",
        planned(user("u0"))
    );
    assert_eq!(planned(SpanCondition::Duration(10_000..=i64::MAX)), 0);
    assert_eq!(planned(SpanCondition::Kind(1)), 0);
    let request = all_columns(Vec::new(), TimeRange::new(0, 9_000_000));
    assert_eq!(reader.plan(&request, None).unwrap().len(), 1);
}

#[test]
fn one_trace_longer_than_blocks_stays_in_order() {
    let spans: Vec<(usize, Span)> = (0..90).map(|number| (0, span(7, number))).collect();
    let options = SpanBuildOptions {
        block_rows: 10,
        ..SpanBuildOptions::default()
    };
    let reader = open(build(&batches(&spans), options));
    assert_eq!(reader.blocks().len(), 5);
    assert_eq!(words(&read_all(&reader)), words(&with_streams(&spans)));
    let id = span(7, 0).trace_id;
    let request = all_columns(vec![SpanCondition::Trace(vec![id].into())], TimeRange::ALL);
    assert_eq!(scan(&reader, &request).len(), 90);
}

#[test]
fn thousands_of_keys_stay_within_the_bound_and_come_back() {
    let spans: Vec<(usize, Span)> = (0..300)
        .map(|number| {
            let mut span = span(number / 3, number % 3);
            span.attributes = (0..10)
                .map(|at| {
                    let key = format!("key.{}", number * 10 + at);
                    (key, AttributeValue::Int((number + at) as i64))
                })
                .collect();
            (0, span)
        })
        .collect();
    let reader = open(build(&batches(&spans), SpanBuildOptions::default()));
    assert!(reader.attribute_keys().len() > 2 * COLUMNS_MAX);
    assert_eq!(words(&read_all(&reader)), words(&with_streams(&spans)));
    for key in ["key.5", "key.2999", "key.1500"] {
        let number = ValueTest::Number {
            min: Some((0.0, true)),
            max: None,
            negated: false,
        };
        let condition = attribute(AttributeScope::Row, key, number);
        let request = SpanScanRequest {
            attributes: AttributeChoice::Keys(vec![key.into()]),
            ..all_columns(vec![condition], TimeRange::ALL)
        };
        let found = scan(&reader, &request);
        assert_eq!(found.len(), 1, "{key}");
        assert_eq!(found[0].1.attributes.len(), 1);
    }
}

#[test]
fn blocks_are_taken_over_as_they_lie() {
    let spans: Vec<(usize, Span)> = (0..200)
        .flat_map(|trace| (0..10).map(move |number| ((trace % 3) as usize, span(trace, number))))
        .collect();
    let options = SpanBuildOptions {
        block_rows: 100,
        ..SpanBuildOptions::default()
    };
    let bytes = build(&batches(&spans), options);
    let reader = open(bytes.clone());
    let mut builder = SpanBuilder::new(Vec::new(), origin(), options).unwrap();
    assert!(!builder.has_numbers_of(&reader).unwrap());
    for number in 0..reader.stream_count() {
        let stream = reader.stream(number).unwrap();
        builder.number([&stream], []).unwrap();
    }
    let keys = reader.attribute_keys().iter().map(AsRef::as_ref);
    builder.number([], keys).unwrap();
    assert!(builder.has_numbers_of(&reader).unwrap());
    for block in reader.blocks() {
        assert!(builder.push_block(&reader, &block).unwrap());
    }
    // Every byte, indexes and all.
    assert!(builder.finish().unwrap().0 == bytes);

    // A small block is not worth one of its own.
    let options = SpanBuildOptions::default();
    let mut builder = SpanBuilder::new(Vec::new(), origin(), options).unwrap();
    let first = reader.blocks()[0];
    assert!(!builder.push_block(&reader, &first).unwrap());
}

#[test]
fn segments_of_older_versions_answer_alike() {
    for bytes in crate::segment::rows::tests::OLD_SPANS {
        let bytes: SegmentBytes = Arc::new(bytes.to_vec());
        let reader = SpanReader::open(SegmentBytes::clone(&bytes), "old.seg").unwrap();
        assert_eq!(reader.trace_count(), None);
        assert_eq!(
            verify(bytes, "old.seg").unwrap().rows,
            reader.meta().row_count
        );
        // What the rows are is compared with golden stores; here, that conditions are exact on them.
        let spans = read_all(&reader);
        assert!(!spans.is_empty());
        let mut conditions = conditions();
        let ids = reader.trace_ids().unwrap();
        assert!(ids.iter().all(|id| reader.may_have_trace(id).unwrap()));
        conditions.push(SpanCondition::Trace(ids[..1].into()));
        conditions.push(SpanCondition::Trace(ids.into()));
        for condition in conditions {
            let request = all_columns(vec![condition.clone()], TimeRange::ALL);
            let mut wanted = spans.clone();
            wanted.retain(|(stream, span)| {
                let mut batch = SpanBatch::new();
                let number = batch.stream(Arc::clone(stream));
                batch.push(number, span);
                let mut rows = Selection::All(1);
                condition.retain_batch(&batch, &mut rows);
                !rows.is_empty()
            });
            assert_eq!(
                words(&scan(&reader, &request)),
                words(&wanted),
                "{condition:?}"
            );
        }
    }
}
