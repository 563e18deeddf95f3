//! Log segments against plain lists: everything comes back, and a scan finds exactly the rows that
//! pass.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::index::{MatchOp, Matcher};
use crate::model::{AttributeValue, LogRecord, SpanId, TimeRange, TimestampNs, TraceId};
use crate::rows::{
    AttributeChoice, AttributeScope, LogBatch, LogColumnSet, LogCondition, LogScanRequest,
    RowOrder, Selection, TextPattern, TextTest, ValueTest,
};
use crate::segment::metrics::tests::origin;
use crate::segment::rows::tests::{OLD_LOGS, any_attribute, any_attributes, streams};
use crate::segment::{LogBuildOptions, SegmentBytes, SpanReader, verify};

prop_compose! {
    fn any_log()(
        time in 0_i64..1000, observed in -5_i64..5, severity in 0_u8..25,
        severity_text in "(|WARN|error)",
        body in prop_oneof![
            any_attribute(),
            "(GET|PUT) /[a-c]{1,2} (user_000[0-9]{2}|job failed|é)".prop_map(AttributeValue::String),
        ],
        attributes in any_attributes(),
        trace in prop::option::of(1_u8..5), span in prop::option::of(1_u8..5),
        event_name in "(|started)",
    ) -> LogRecord {
        LogRecord {
            time: TimestampNs(time * 1_000_000),
            observed_time: TimestampNs(time * 1_000_000 + observed),
            severity,
            severity_text,
            body,
            attributes,
            trace_id: trace.map(|t| TraceId([t; 16])),
            span_id: span.map(|t| SpanId([t; 8])),
            event_name,
        }
    }
}

/// A record with nothing but a short body.
fn plain(time: i64) -> LogRecord {
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time),
        severity: 0,
        severity_text: String::new(),
        body: AttributeValue::String("x".into()),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
        event_name: String::new(),
    }
}

fn small_blocks() -> LogBuildOptions {
    LogBuildOptions {
        block_rows: 7,
        ..LogBuildOptions::default()
    }
}

/// Records of each stream.
type PerStream = Vec<Vec<LogRecord>>;

/// Sorts each stream's records by time, keeping the order of arrival, and takes them from batches of
/// mixed streams.
fn build_logs(per_stream: &mut PerStream, options: LogBuildOptions) -> Vec<u8> {
    let streams = streams();
    let mut batches = [LogBatch::new(), LogBatch::new()];
    let mut places = Vec::new();
    for batch in &mut batches {
        let stream = batch.stream(Arc::default());
        // Keys have other numbers in each batch, and none is where it is in the segment.
        let odd = LogRecord {
            attributes: vec![("odd".into(), AttributeValue::Null)],
            ..plain(0)
        };
        batch.push(stream, &odd);
    }
    for records in per_stream.iter_mut() {
        records.sort_by_key(|record| record.time);
        let of_stream = records.iter().enumerate().map(|(number, record)| {
            let batch = number % 2;
            batches[batch].push(0, record);
            (batch, batches[batch].len() as u32 - 1)
        });
        places.push(of_stream.collect::<Vec<_>>());
    }
    let batches = batches.map(Arc::new);
    let mut builder = LogSegmentBuilder::new(Vec::new(), origin(), options).unwrap();
    for (stream, places) in streams.iter().zip(places) {
        builder.begin_stream(stream).unwrap();
        for (batch, row) in places {
            builder.push_row(&batches[batch], row).unwrap();
        }
    }
    builder.finish().unwrap().0
}

fn open(bytes: Vec<u8>) -> LogSegmentReader {
    LogSegmentReader::open(Arc::new(bytes), "memory.seg").unwrap()
}

/// Stream and record of all rows that a scan of the segment answers with.
fn scan(reader: &LogSegmentReader, request: &LogScanRequest) -> Vec<(u32, LogRecord)> {
    let streams = reader.select_streams(&request.matchers).unwrap();
    let mut found = Vec::new();
    for block in reader.plan(request, Some(&streams)).unwrap() {
        let Some(rows) = reader.read(&block, request, Some(&streams)).unwrap() else {
            continue;
        };
        let mut batch = LogBatch::new();
        batch.stream(Arc::default());
        batch.push_block(&rows, |_| 0);
        let numbers = (0..rows.rows).map(|row| rows.stream.get(row) as u32);
        found.extend(
            numbers
                .enumerate()
                .map(|(row, stream)| (stream, batch.record(row))),
        );
    }
    found
}

fn everything() -> LogScanRequest {
    LogScanRequest {
        columns: LogColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..LogScanRequest::new(Vec::new(), TimeRange::ALL)
    }
}

/// The rows that pass, by the evaluation over batches.
fn expected(per_stream: &PerStream, request: &LogScanRequest) -> Vec<(u32, LogRecord)> {
    let mut expected = Vec::new();
    for ((number, stream), records) in (0..).zip(streams()).zip(per_stream) {
        if !request
            .matchers
            .iter()
            .all(|matcher| matcher.matches(stream.labels.get(matcher.name()).unwrap_or_default()))
        {
            continue;
        }
        let mut batch = LogBatch::new();
        let its = batch.stream(Arc::new(stream));
        records.iter().for_each(|record| batch.push(its, record));
        let mut rows = Selection::All(batch.len());
        for condition in &request.conditions {
            condition.retain_batch(&batch, &mut rows);
        }
        let keep = |row: &u32| request.range.contains(records[*row as usize].time);
        let rows = rows.into_rows().into_iter().filter(keep);
        expected.extend(rows.map(|row| (number, records[row as usize].clone())));
    }
    expected
}

pub(crate) fn log_segment() -> Vec<u8> {
    let record = |at: i64| LogRecord {
        time: TimestampNs(at),
        observed_time: TimestampNs(at + 3),
        severity: 9,
        severity_text: "INFO".into(),
        body: AttributeValue::String(format!("request {at} handled by worker-{}", at % 3)),
        attributes: vec![
            ("status".into(), AttributeValue::Int(200 + at % 2)),
            ("path".into(), AttributeValue::String("/api".into())),
            (
                "tags".into(),
                AttributeValue::Array(vec![AttributeValue::Bool(true)]),
            ),
        ],
        trace_id: (at % 4 == 0).then_some(TraceId([at as u8 + 1; 16])),
        span_id: (at % 2 == 0).then_some(SpanId([at as u8 + 1; 8])),
        event_name: String::new(),
    };
    let mut rows: PerStream = (0..4).map(|s| (s..s + 12).map(record).collect()).collect();
    build_logs(&mut rows, small_blocks())
}

#[test]
fn streams_read_back_whole() {
    let reader = open(log_segment());
    let expected = streams();
    assert_eq!(reader.stream_count() as usize, expected.len());
    for (row, stream) in expected.iter().enumerate() {
        assert_eq!(reader.stream(row as u32).unwrap(), *stream);
        assert_eq!(*reader.streams().get(row as u32).unwrap(), *stream);
    }
    assert_eq!(reader.label_names(), ["level", "service"]);
    assert_eq!(reader.label_values("service").unwrap(), ["cart", "shop"]);
    let keys: Vec<&str> = reader.attribute_keys().iter().map(AsRef::as_ref).collect();
    assert_eq!(keys, ["status", "path", "tags"]);
}

#[test]
fn a_segment_of_one_signal_is_not_opened_as_another() {
    let error = SpanReader::open(Arc::new(log_segment()), "a.seg").unwrap_err();
    assert!(error.to_string().contains("a segment of spans"), "{error}");
}

fn body(pattern: TextPattern) -> LogCondition {
    LogCondition::Body(TextTest {
        pattern,
        negated: false,
    })
}

fn attribute(key: &str, test: ValueTest) -> LogCondition {
    LogCondition::Attribute {
        scope: AttributeScope::Row,
        key: key.into(),
        test,
    }
}

fn number(min: Option<f64>, max: Option<f64>) -> ValueTest {
    ValueTest::Number {
        min: min.map(|bound| (bound, true)),
        max: max.map(|bound| (bound, false)),
        negated: false,
    }
}

#[test]
fn the_directory_tells_which_blocks_have_nothing() {
    let reader = open(log_segment());
    let all = reader.all_blocks().len();
    let planned = |conditions: Vec<LogCondition>| {
        let request = LogScanRequest {
            conditions,
            ..everything()
        };
        reader.plan(&request, None).unwrap().len()
    };
    assert_eq!(planned(vec![]), all);
    assert_eq!(
        planned(vec![body(TextPattern::Contains(" handled ".into()))]),
        all
    );
    assert_eq!(
        planned(vec![body(TextPattern::Contains(" dropped ".into()))]),
        0
    );
    assert_eq!(planned(vec![LogCondition::Severity(10..=24)]), 0);
    assert_eq!(planned(vec![LogCondition::Severity(0..=9)]), all);
    assert_eq!(
        planned(vec![attribute("status", number(Some(202.0), None))]),
        0
    );
    assert_eq!(
        planned(vec![attribute("status", number(None, Some(201.0)))]),
        all
    );
    assert_eq!(planned(vec![attribute("absent", ValueTest::Present)]), 0);
    assert_eq!(planned(vec![attribute("absent", ValueTest::Absent)]), all);
    assert_eq!(
        planned(vec![LogCondition::Trace([TraceId([77; 16])].into())]),
        0
    );
    let one = planned(vec![LogCondition::Trace([TraceId([1; 16])].into())]);
    assert!(0 < one && one < all, "{one} of {all}");
    assert!(!reader.may_have_trace(&TraceId([99; 16])).unwrap());
    assert!(reader.may_have_trace(&TraceId([1; 16])).unwrap());
}

#[test]
fn only_rows_that_can_be_among_the_first_are_read() {
    let reader = open(log_segment());
    let block = reader.all_blocks()[0];
    let request = everything();
    for (order, expected) in [
        (RowOrder::NewestFirst, vec![5, 6]),
        (RowOrder::OldestFirst, vec![0, 1]),
        (RowOrder::Any, vec![0, 1, 2, 3, 4, 5, 6]),
    ] {
        let first = Some((order, 2));
        let rows = reader.read_first(&block, &request, None, first).unwrap();
        assert_eq!(rows.unwrap().time, expected);
    }
}

#[test]
fn thousands_of_keys_stay_bounded_and_come_back() {
    let record = |row: usize| LogRecord {
        attributes: (0..8)
            .map(|at| {
                let key = match at {
                    // Of a thousand keys with enough values, and of many that occur once or twice.
                    0..4 => format!("often{}", (row * 7 + at * 300) % 1100),
                    _ => format!("rare{}", (row * 31 + at * 977) % 20_000),
                };
                let value = match row % 5 {
                    0 => AttributeValue::Int(row as i64),
                    1 => AttributeValue::Array(vec![AttributeValue::Int(at as i64)]),
                    _ => AttributeValue::String(format!("v{at}")),
                };
                (key, value)
            })
            .collect(),
        ..plain(row as i64)
    };
    let rows: Vec<LogRecord> = (0..8000).map(record).collect();
    let mut per_stream = vec![rows, vec![], vec![], vec![]];
    let bytes: SegmentBytes = Arc::new(build_logs(&mut per_stream, LogBuildOptions::default()));
    verify(SegmentBytes::clone(&bytes), "memory.seg").unwrap();
    let reader = LogSegmentReader::open(bytes, "memory.seg").unwrap();
    for block in reader.all_blocks() {
        assert!(reader.log_details(&block).unwrap().entries.len() < 1100);
    }
    let mut request = everything();
    assert_eq!(scan(&reader, &request), expected(&per_stream, &request));
    for (key, test) in [
        ("rare3908", ValueTest::Present),
        ("often10", number(Some(100.0), Some(3000.0))),
        ("nowhere", ValueTest::Present),
    ] {
        request.conditions = vec![attribute(key, test)];
        let expected = expected(&per_stream, &request);
        assert_eq!(expected.is_empty(), key == "nowhere");
        assert_eq!(scan(&reader, &request), expected, "{key}");
    }
}

fn any_condition() -> impl Strategy<Value = LogCondition> {
    let pattern = prop_oneof![
        "(GET| /a|r_0001|user_00012|job failed|é|)".prop_map(|t| TextPattern::Contains(t.into())),
        "(|GET /a job failed|a)".prop_map(|t| TextPattern::Equals(t.into())),
        Just(TextPattern::regex("(?i)put /[ab] USER_000[0-4]+$").unwrap()),
        Just(TextPattern::regex("^GET|failed").unwrap()),
    ];
    let text = || {
        (pattern.clone(), any::<bool>())
            .prop_map(|(pattern, negated)| TextTest { pattern, negated })
    };
    let test = prop_oneof![
        Just(ValueTest::Present),
        Just(ValueTest::Absent),
        Just(ValueTest::Bool(true)),
        "[a-z]".prop_map(|t| ValueTest::Text(TextTest {
            pattern: TextPattern::Contains(t.as_str().into()),
            negated: false,
        })),
        any::<bool>().prop_map(|negated| ValueTest::Number {
            min: Some((0.0, true)),
            max: None,
            negated,
        }),
    ];
    prop_oneof![
        text().prop_map(LogCondition::Body),
        (0_u8..25, 0_u8..25).prop_map(|(a, b)| LogCondition::Severity(a.min(b)..=a.max(b))),
        Just(LogCondition::SeverityText(TextTest {
            pattern: TextPattern::Equals("WARN".into()),
            negated: false,
        })),
        prop::collection::vec(0_u8..7, 0..3).prop_map(|ids| LogCondition::Trace(
            ids.into_iter().map(|t| TraceId([t; 16])).collect()
        )),
        Just(LogCondition::EventName(TextTest {
            pattern: TextPattern::Equals("started".into()),
            negated: false,
        })),
        ("[a-e]", test.clone()).prop_map(|(key, test)| attribute(&key, test)),
        ("(replicas|none)", test).prop_map(|(key, test)| LogCondition::Attribute {
            scope: AttributeScope::Resource,
            key: key.as_str().into(),
            test,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn logs_read_back(
        mut rows in prop::collection::vec(prop::collection::vec(any_log(), 0..30), 4..=4),
        start in 0_i64..1000, length in 0_i64..1000,
    ) {
        let bytes: SegmentBytes = Arc::new(build_logs(&mut rows, small_blocks()));
        verify(SegmentBytes::clone(&bytes), "memory.seg").unwrap();
        let reader = LogSegmentReader::open(bytes, "memory.seg").unwrap();
        for range in [TimeRange::ALL, TimeRange::new(start * 1_000_000, (start + length) * 1_000_000)] {
            let request = LogScanRequest { range, ..everything() };
            prop_assert_eq!(scan(&reader, &request), expected(&rows, &request));
        }
        let mut batched = Vec::new();
        for block in reader.all_blocks() {
            let batch = reader.read_batch(&block).unwrap();
            batched.extend((0..batch.len()).map(|row| batch.record(row)));
        }
        let records = rows.iter().flatten().cloned().collect::<Vec<_>>();
        prop_assert_eq!(batched, records);
    }

    #[test]
    fn a_scan_answers_with_exactly_the_rows_that_pass(
        mut rows in prop::collection::vec(prop::collection::vec(any_log(), 0..30), 4..=4),
        conditions in prop::collection::vec(any_condition(), 1..3),
        service in prop_oneof![Just(".*"), Just("shop")],
    ) {
        let reader = open(build_logs(&mut rows, small_blocks()));
        let request = LogScanRequest {
            matchers: vec![Matcher::new("service", MatchOp::Regex, service).unwrap()],
            conditions,
            ..everything()
        };
        prop_assert_eq!(scan(&reader, &request), expected(&rows, &request));
        // With other columns the same rows.
        let few = LogScanRequest {
            columns: LogColumnSet::default(),
            attributes: AttributeChoice::Keys(vec!["a".into()]),
            ..request.clone()
        };
        let times: Vec<i64> = scan(&reader, &few).iter().map(|(_, record)| record.time.0).collect();
        let expected = expected(&rows, &request);
        prop_assert_eq!(times, expected.iter().map(|(_, record)| record.time.0).collect::<Vec<_>>());
    }
}

#[test]
fn segments_of_older_versions_answer_alike() {
    for bytes in OLD_LOGS {
        let bytes: SegmentBytes = Arc::new(bytes.to_vec());
        let reader = LogSegmentReader::open(SegmentBytes::clone(&bytes), "old.seg").unwrap();
        assert_eq!(
            verify(bytes, "old.seg").unwrap().rows,
            reader.meta().row_count
        );
        let all = scan(&reader, &everything());
        assert_eq!(all.len() as u64, reader.meta().row_count);
        let traces: Vec<TraceId> = all.iter().filter_map(|(_, r)| r.trace_id).collect();
        let conditions = [
            LogCondition::Severity(17..=24),
            LogCondition::Trace(traces.clone().into()),
            LogCondition::Trace(traces[..1].into()),
            body(TextPattern::Contains("-3 loaded".into())),
            LogCondition::Attribute {
                scope: AttributeScope::Row,
                key: "attempt".into(),
                test: ValueTest::Number {
                    min: Some((1.0, true)),
                    max: None,
                    negated: false,
                },
            },
        ];
        for condition in conditions {
            let mut wanted = all.clone();
            wanted.retain(|(_, record)| {
                let mut batch = LogBatch::new();
                let stream = batch.stream(Arc::default());
                batch.push(stream, record);
                let mut rows = Selection::All(1);
                condition.retain_batch(&batch, &mut rows);
                !rows.is_empty()
            });
            assert!(!wanted.is_empty() && wanted.len() < all.len());
            let request = LogScanRequest {
                conditions: vec![condition],
                ..everything()
            };
            assert_eq!(scan(&reader, &request), wanted);
        }
    }
}
