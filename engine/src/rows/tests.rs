//! What is asked of a batch through columns equals what its rows say one by one.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    AttributeValue, Attributes, Labels, LogRecord, Scope, Span, SpanEvent, SpanId, SpanKind,
    SpanLink, SpanStatus, Stream, TimestampNs, TraceId,
};

fn value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        Just(AttributeValue::Null),
        text().prop_map(AttributeValue::String),
        (-3_i64..4).prop_map(AttributeValue::Int),
        prop_oneof![Just(f64::NAN), Just(0.5), Just(2.0)].prop_map(AttributeValue::Float),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Bytes(vec![1, 2])),
        Just(AttributeValue::Array(vec![AttributeValue::Int(1)])),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ab]{1,4}", Just("abba".to_owned())]
}

fn pairs() -> impl Strategy<Value = Attributes> {
    prop::collection::vec(
        (prop_oneof![Just("k"), Just("l"), Just("m")], value()),
        0..4,
    )
    .prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    })
}

fn trace() -> impl Strategy<Value = TraceId> {
    (1_u8..4).prop_map(|number| TraceId([number; 16]))
}

fn stream(number: u32) -> Arc<Stream> {
    Arc::new(Stream {
        labels: Labels::from_pairs([("n", number.to_string())]).unwrap(),
        resource: vec![("k".into(), AttributeValue::Int(i64::from(number)))],
        scope: Scope {
            name: if number == 0 {
                String::new()
            } else {
                format!("scope{number}")
            },
            ..Scope::default()
        },
    })
}

prop_compose! {
    fn log()(
        time in 0_i64..10,
        observed in 0_i64..2,
        severity in 0_u8..4,
        severity_text in text(),
        is_text in any::<bool>(),
        body_text in text(),
        body_value in value(),
        attributes in pairs(),
        trace_id in prop::option::of(trace()),
        has_span in any::<bool>(),
        event_name in text(),
    ) -> LogRecord {
        LogRecord {
            time: TimestampNs(time),
            observed_time: TimestampNs(time + observed),
            severity,
            severity_text,
            body: if is_text { AttributeValue::String(body_text) } else { body_value },
            attributes,
            trace_id,
            span_id: has_span.then_some(SpanId([7; 8])),
            event_name,
        }
    }
}

prop_compose! {
    fn span()(
        trace_id in trace(),
        id in 1_u8..9,
        parent in prop::option::of(1_u8..9),
        name in text(),
        kind in 0_u8..6,
        time in 0_i64..10,
        duration_ns in -1_i64..5,
        status in 0_u8..3,
        status_message in text(),
        attributes in pairs(),
        events in prop::collection::vec((0_i64..5, text(), pairs()), 0..3),
        links in prop::collection::vec((trace(), pairs()), 0..3),
    ) -> Span {
        Span {
            trace_id,
            span_id: SpanId([id; 8]),
            parent_span_id: parent.map(|id| SpanId([id; 8])),
            trace_state: String::new(),
            name,
            kind: SpanKind::from_u8(kind).unwrap(),
            time: TimestampNs(time),
            duration_ns,
            status: SpanStatus::from_u8(status).unwrap(),
            status_message,
            attributes,
            events: events.into_iter().map(|(after, name, attributes)| SpanEvent {
                time: TimestampNs(time + after),
                name,
                attributes,
            }).collect(),
            links: links.into_iter().map(|(trace_id, attributes)| SpanLink {
                trace_id,
                span_id: SpanId([8; 8]),
                attributes,
            }).collect(),
        }
    }
}

fn pattern() -> impl Strategy<Value = TextPattern> {
    prop_oneof![
        text().prop_map(|text| TextPattern::Equals(text.into())),
        text().prop_map(|text| TextPattern::Contains(text.into())),
        prop_oneof![Just("a+b"), Just("^b"), Just("(?i)BA")]
            .prop_map(|regex| TextPattern::regex(regex).unwrap()),
    ]
}

fn text_test() -> impl Strategy<Value = TextTest> {
    (pattern(), any::<bool>()).prop_map(|(pattern, negated)| TextTest { pattern, negated })
}

fn value_test() -> impl Strategy<Value = ValueTest> {
    let bound = || prop::option::of((prop_oneof![Just(-1.0), Just(0.5), Just(2.0)], any::<bool>()));
    prop_oneof![
        Just(ValueTest::Present),
        Just(ValueTest::Absent),
        text_test().prop_map(ValueTest::Text),
        (bound(), bound(), any::<bool>()).prop_map(|(min, max, negated)| ValueTest::Number {
            min,
            max,
            negated
        }),
        any::<bool>().prop_map(ValueTest::Bool),
    ]
}

fn key() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("k"), Just("l"), Just("none"), Just(SCOPE_NAME)].prop_map(Arc::from)
}

fn log_condition() -> impl Strategy<Value = LogCondition> {
    let scope = prop_oneof![
        3 => Just(AttributeScope::Row),
        1 => Just(AttributeScope::Resource),
        1 => Just(AttributeScope::Instrumentation),
    ];
    prop_oneof![
        text_test().prop_map(LogCondition::Body),
        (0_u8..4, 0_u8..4).prop_map(|(a, b)| LogCondition::Severity(a..=b)),
        text_test().prop_map(LogCondition::SeverityText),
        prop::collection::vec(trace(), 0..3).prop_map(|ids| LogCondition::Trace(ids.into())),
        text_test().prop_map(LogCondition::EventName),
        (scope, key(), value_test()).prop_map(|(scope, key, test)| LogCondition::Attribute {
            scope,
            key,
            test
        }),
    ]
}

fn span_condition() -> impl Strategy<Value = SpanCondition> {
    let scope = prop_oneof![
        Just(AttributeScope::Row),
        Just(AttributeScope::Resource),
        Just(AttributeScope::Event),
        Just(AttributeScope::Link),
    ];
    let leaf = prop_oneof![
        prop::collection::vec(trace(), 0..3).prop_map(|ids| SpanCondition::Trace(ids.into())),
        text_test().prop_map(SpanCondition::Name),
        any::<u8>().prop_map(SpanCondition::Kind),
        any::<u8>().prop_map(SpanCondition::Status),
        text_test().prop_map(SpanCondition::StatusMessage),
        (-1_i64..5, 0_i64..5).prop_map(|(a, b)| SpanCondition::Duration(a..=b)),
        Just(SpanCondition::Root),
        (scope, key(), value_test()).prop_map(|(scope, key, test)| SpanCondition::Attribute {
            scope,
            key,
            test
        }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(SpanCondition::Any),
            prop::collection::vec(inner, 0..3).prop_map(SpanCondition::All),
        ]
    })
}

/// A value test, one value at a time and by other means than the code does it.
fn value_passes(test: &ValueTest, pairs: &Attributes, key: &str) -> bool {
    let value = pairs
        .iter()
        .rev()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value);
    match (test, value) {
        (ValueTest::Absent, None) => true,
        (ValueTest::Absent, Some(_)) | (_, None) => false,
        (ValueTest::Present, Some(_)) => true,
        (ValueTest::Text(test), Some(AttributeValue::String(text))) => test.passes(text.as_bytes()),
        (ValueTest::Bool(wanted), Some(AttributeValue::Bool(truth))) => wanted == truth,
        (ValueTest::Number { min, max, negated }, Some(value)) => {
            let number = match value {
                AttributeValue::Int(number) => *number as f64,
                AttributeValue::Float(number) => *number,
                _ => return false,
            };
            let above = min.is_none_or(|(b, inside)| number > b || inside && number == b);
            let below = max.is_none_or(|(b, inside)| number < b || inside && number == b);
            (above && below && !number.is_nan()) != *negated
        }
        _ => false,
    }
}

fn scope_passes(stream: &Stream, scope: AttributeScope, key: &str, test: &ValueTest) -> bool {
    let pairs = match (scope, key) {
        (AttributeScope::Resource, _) => stream.resource.clone(),
        (_, SCOPE_NAME) if !stream.scope.name.is_empty() => {
            vec![(
                key.to_owned(),
                AttributeValue::String(stream.scope.name.clone()),
            )]
        }
        _ => Vec::new(),
    };
    value_passes(test, &pairs, key)
}

fn log_passes(condition: &LogCondition, stream: &Stream, log: &LogRecord) -> bool {
    match condition {
        LogCondition::Body(test) => match &log.body {
            AttributeValue::String(text) => test.passes(text.as_bytes()),
            value => {
                let mut text = Vec::new();
                append_text(value, &mut text);
                test.passes(&text)
            }
        },
        LogCondition::Severity(range) => range.contains(&log.severity),
        LogCondition::SeverityText(test) => test.passes(log.severity_text.as_bytes()),
        LogCondition::Trace(ids) => log.trace_id.is_some_and(|id| ids.contains(&id)),
        LogCondition::EventName(test) => test.passes(log.event_name.as_bytes()),
        LogCondition::Attribute { scope, key, test } => match scope {
            AttributeScope::Row => value_passes(test, &log.attributes, key),
            _ => scope_passes(stream, *scope, key, test),
        },
    }
}

fn span_passes(condition: &SpanCondition, stream: &Stream, span: &Span) -> bool {
    let some = |sets: Vec<&Attributes>, key: &str, test: &ValueTest| match test {
        ValueTest::Absent => sets.iter().all(|set| value_passes(test, set, key)),
        _ => sets.iter().any(|set| value_passes(test, set, key)),
    };
    match condition {
        SpanCondition::Trace(ids) => ids.contains(&span.trace_id),
        SpanCondition::Name(test) => test.passes(span.name.as_bytes()),
        SpanCondition::Kind(mask) => mask & (1 << span.kind as u8) != 0,
        SpanCondition::Status(mask) => mask & (1 << span.status as u8) != 0,
        SpanCondition::StatusMessage(test) => test.passes(span.status_message.as_bytes()),
        SpanCondition::Duration(range) => range.contains(&span.duration_ns),
        SpanCondition::Root => span.parent_span_id.is_none(),
        SpanCondition::Attribute { scope, key, test } => match scope {
            AttributeScope::Row => value_passes(test, &span.attributes, key),
            AttributeScope::Event => some(
                span.events.iter().map(|event| &event.attributes).collect(),
                key,
                test,
            ),
            AttributeScope::Link => some(
                span.links.iter().map(|link| &link.attributes).collect(),
                key,
                test,
            ),
            _ => scope_passes(stream, *scope, key, test),
        },
        SpanCondition::Any(any) => any.iter().any(|one| span_passes(one, stream, span)),
        SpanCondition::All(all) => all.iter().all(|one| span_passes(one, stream, span)),
    }
}

/// NaNs are equal here.
fn assert_same<T: std::fmt::Debug>(found: &T, expected: &T) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn logs_through_blocks_are_those_of_the_batch(
        logs in prop::collection::vec((0_u32..3, log()), 1..20),
        conditions in prop::collection::vec(log_condition(), 0..3),
        shuffle in any::<u64>(),
    ) {
        let mut batch = LogBatch::new();
        for number in 0..3 {
            batch.stream(stream(number));
        }
        for (stream, log) in &logs {
            batch.push(*stream, log);
        }
        let streams = Arc::new(Streams::of(batch.streams()));
        let passes = |at: &usize| {
            let (number, log) = &logs[*at];
            conditions.iter().all(|c| log_passes(c, &stream(*number), log))
        };
        let expected: Vec<u32> =
            (0..logs.len()).filter(passes).map(|at| at as u32).collect();
        let mut direct = Selection::All(logs.len());
        conditions.iter().for_each(|c| c.retain_batch(&batch, &mut direct));
        prop_assert_eq!(direct.clone().into_rows(), expected.clone());

        let all = Selection::All(logs.len());
        let block = batch.block(&streams, &[0, 1, 2], &all, LogColumnSet::ALL, &AttributeChoice::All);
        let mut through = Selection::All(logs.len());
        for condition in &conditions {
            condition.retain(&block, &mut through).unwrap();
        }
        prop_assert_eq!(through.into_rows(), expected.clone());

        // Some rows in another order, then once more behind themselves, then back into a batch.
        let mut order = expected.clone();
        if shuffle % 2 == 0 {
            order.reverse();
        }
        let taken = block.take(&order);
        let mut twice = batch.block(&streams, &[0, 1, 2], &direct, LogColumnSet::ALL, &AttributeChoice::All);
        twice.append(&taken);
        let mut back = LogBatch::new();
        for number in 0..3 {
            back.stream(stream(number));
        }
        back.push_block(&twice, |number| number);
        let again = expected.iter().chain(&order);
        let wanted: Vec<&LogRecord> = again.map(|row| &logs[*row as usize].1).collect();
        prop_assert_eq!(back.len(), wanted.len());
        for (row, log) in wanted.into_iter().enumerate() {
            assert_same(&back.record(row), log);
            let pairs: Attributes = twice.attributes_of(row)
                .map(|(key, value)| (key.to_owned(), value.to_value())).collect();
            assert_same(&pairs, &log.attributes);
        }
        let mut joined = LogBatch::new();
        joined.keys.number("m");
        joined.stream(stream(9));
        (0..3).for_each(|number| { joined.stream(stream(number)); });
        joined.push_batch(&batch, &[1, 2, 3]);
        for (row, (number, log)) in logs.iter().enumerate() {
            assert_same(&joined.record(row), log);
            prop_assert_eq!(joined.columns.stream[row], number + 1);
        }
    }

    #[test]
    fn spans_through_blocks_are_those_of_the_batch(
        spans in prop::collection::vec((0_u32..3, span()), 1..16),
        conditions in prop::collection::vec(span_condition(), 0..3),
        shuffle in any::<u64>(),
    ) {
        let mut batch = SpanBatch::new();
        for number in 0..3 {
            batch.stream(stream(number));
        }
        for (stream, span) in &spans {
            batch.push(*stream, span);
        }
        let streams = Arc::new(Streams::of(batch.streams()));
        let passes = |at: &usize| {
            let (number, span) = &spans[*at];
            conditions.iter().all(|c| span_passes(c, &stream(*number), span))
        };
        let expected: Vec<u32> =
            (0..spans.len()).filter(passes).map(|at| at as u32).collect();
        let mut direct = Selection::All(spans.len());
        conditions.iter().for_each(|c| c.retain_batch(&batch, &mut direct));
        prop_assert_eq!(direct.clone().into_rows(), expected.clone());

        let all = Selection::All(spans.len());
        let block = batch.block(&streams, &[0, 1, 2], &all, SpanColumnSet::ALL, &AttributeChoice::All);
        let mut through = Selection::All(spans.len());
        for condition in &conditions {
            condition.retain(&block, &mut through).unwrap();
        }
        prop_assert_eq!(through.into_rows(), expected.clone());

        let mut order = expected.clone();
        if shuffle % 2 == 0 {
            order.reverse();
        }
        let mut twice = batch.block(&streams, &[0, 1, 2], &direct, SpanColumnSet::ALL, &AttributeChoice::All);
        twice.append(&block.take(&order));
        let mut back = SpanBatch::new();
        for number in 0..3 {
            back.stream(stream(number));
        }
        back.push_block(&twice, |number| number);
        let again = expected.iter().chain(&order);
        let wanted: Vec<&Span> = again.map(|row| &spans[*row as usize].1).collect();
        prop_assert_eq!(back.len(), wanted.len());
        for (row, span) in wanted.into_iter().enumerate() {
            assert_same(&back.span(row), span);
        }
        let mut joined = SpanBatch::new();
        joined.keys.number("m");
        (0..3).for_each(|number| { joined.stream(stream(number)); });
        joined.push_batch(&batch, &[0, 1, 2]);
        for (row, (_, span)) in spans.iter().enumerate() {
            assert_same(&joined.span(row), span);
        }
    }
}
