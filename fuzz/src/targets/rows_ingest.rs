//! What senders of logs and spans send: any bytes are rows or a refusal, nothing is counted that is
//! not in the batch, and JSON becomes protobuf that can be read.

use std::sync::{Arc, LazyLock};

use chronolith_engine::TenantId;
use chronolith_engine::model::TimestampNs;
use chronolith_server::ingest::{documents, elastic, loki, syslog, zipkin};
use chronolith_server::otlp::json::{schema, to_protobuf};
use chronolith_server::otlp::{logs, traces};
use chronolith_server::process::{
    Parse, Preset, ProcessConfig, Processor, RedactConfig, RuleConfig,
};
use chronolith_server::rows::{LogRow, LogSink, RowLimits, SinkContext, SpanSink, StreamCache};

use crate::Target;

/// Logs. The first byte picks the protocol.
pub static LOG_ROWS: Target = Target {
    name: "log_rows",
    body: log_rows,
    seeds: log_seeds,
    dictionary: DICTIONARY,
};

/// Spans. The first byte picks the protocol.
pub static SPAN_ROWS: Target = Target {
    name: "span_rows",
    body: span_rows,
    seeds: span_seeds,
    dictionary: DICTIONARY,
};

const DICTIONARY: &[&str] = &[
    "\"resourceLogs\":[",
    "\"logRecords\":[",
    "\"spans\":[",
    "\"traceId\":\"5b8efff798038103d269b633813fc60c\"",
    "{\"arrayValue\":{\"values\":[",
    "{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"x\"]]}]}",
    "{\"create\":{}}\n",
    "level=info",
    "<13>1 - - - - - - ",
    "<34>Oct 11 22:14:15 h su: ",
    "\n",
    "\u{12}",
    "{",
    "}",
    "]",
    ",",
];
/// Bytes that a message made of JSON may have.
const BYTES_MAX: usize = 1 << 20;

static STREAMS: LazyLock<StreamCache> = LazyLock::new(|| StreamCache::new(1 << 20, 1_000));

/// Everything that can be turned on is.
static PROCESSOR: LazyLock<Arc<Processor>> = LazyLock::new(|| {
    use Preset::{Cards, Emails, Ibans, Ips, Passwords, Secrets};
    let fields = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let config = ProcessConfig {
        detect_level: true,
        redact: RedactConfig {
            presets: vec![Secrets, Passwords, Cards, Emails, Ips, Ibans],
            ..RedactConfig::default()
        },
        rules: vec![
            RuleConfig {
                parse: Some(Parse::Json),
                rename: fields(&[("msg", "body"), ("ts", "time")]),
                ..RuleConfig::default()
            },
            RuleConfig {
                parse: Some(Parse::Logfmt),
                ..RuleConfig::default()
            },
            RuleConfig {
                when: fields(&[("a", "x")]),
                drop: true,
                ..RuleConfig::default()
            },
        ],
    };
    match Processor::new(&config) {
        Ok(processor) => Arc::new(processor),
        Err(error) => panic!("bug: the configuration cannot be: {error}"),
    }
});

fn context() -> SinkContext<'static> {
    SinkContext {
        tenant: TenantId::default(),
        streams: &STREAMS,
        processor: Arc::clone(&PROCESSOR),
        limits: RowLimits {
            now: TimestampNs(1_700_000_000_000_000_000),
            latest: TimestampNs(1_800_000_000_000_000_000),
            line_bytes_max: 1 << 12,
            attributes_max: 16,
        },
    }
}

fn labels() -> Vec<String> {
    vec!["service.name".to_owned()]
}

fn log_rows(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let mut sink = LogSink::new(context());
    let mut message = Vec::new();
    match choice % 8 {
        0 => drop(logs::decode(body, &labels(), &mut sink)),
        1 => {
            let table = schema::export_logs_request();
            if to_protobuf(body, table, &mut message, BYTES_MAX).is_ok() {
                let read = logs::decode(&message, &labels(), &mut sink);
                assert!(
                    read.is_ok(),
                    "JSON became a message that cannot be read: {read:?}"
                );
            }
        }
        2 => drop(loki::decode::decode(body, None, &mut sink)),
        3 => {
            if loki::json::to_protobuf(body, &mut message).is_ok() {
                let read = loki::decode::decode(&message, None, &mut sink);
                assert!(
                    read.is_ok(),
                    "JSON became a push that cannot be read: {read:?}"
                );
            }
        }
        4 => {
            let fields = documents::DocumentFields::default();
            drop(elastic::take_bulk(body, Some("i"), &fields, &mut sink));
        }
        5 => {
            let fields = documents::DocumentFields::default();
            let counts = documents::take_lines(body, &fields, 3, &mut sink);
            assert!(counts.refused <= counts.lines);
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let mut row = LogRow::default();
            let now = sink.limits().now;
            let sender = syslog::message::read(&text, now, &mut row);
            assert!(text.contains(sender.host) && text.contains(sender.app));
        }
    }
    let (batch, taken) = sink.finish();
    assert_eq!(batch.len() as u64, taken.rows);
    for row in 0..batch.len() {
        drop(batch.record(row));
    }
}

fn span_rows(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let mut sink = SpanSink::new(context());
    let mut message = Vec::new();
    match choice % 4 {
        0 => drop(traces::decode(body, &labels(), &mut sink)),
        1 => {
            let table = schema::export_trace_request();
            if to_protobuf(body, table, &mut message, BYTES_MAX).is_ok() {
                let read = traces::decode(&message, &labels(), &mut sink);
                assert!(
                    read.is_ok(),
                    "JSON became a message that cannot be read: {read:?}"
                );
            }
        }
        2 => drop(zipkin::decode_json(body, &mut sink)),
        _ => drop(zipkin::decode_protobuf(body, &mut sink)),
    }
    let (batch, taken) = sink.finish();
    assert_eq!(batch.len() as u64, taken.rows);
    for row in 0..batch.len() {
        drop(batch.span(row));
    }
}

const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"scope":{"name":"lib"},"logRecords":[
{"timeUnixNano":"1700000000000000001","severityNumber":9,"severityText":"INFO","body":{"stringValue":"{\"msg\":\"x\",\"ts\":1}"},"attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}],"traceId":"abc","spanId":"eee19b7ec3c1b174","eventName":"e"}]}]}]}"#;
const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"GET","kind":2,"startTimeUnixNano":"5","endTimeUnixNano":"9","attributes":[{"key":"a","value":{"boolValue":true}}],"events":[{"timeUnixNano":"6","name":"e","attributes":[{"key":"k","value":{"doubleValue":1.5}}]}],"links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175"}],"status":{"code":2,"message":"no"}}]}]}]}"#;
const PUSH: &str = r#"{"streams":[{"stream":{"job":"x","level":"info"},"values":[["1700000000000000001","a=1 level=warn",{"trace_id":"ABC","k":"v"}]]}]}"#;
const BULK: &str = "{\"create\":{\"_index\":\"a\"}}\n{\"@timestamp\":\"2023-11-14T22:13:20Z\",\"message\":\"x\",\"n\":{\"m\":[1]}}\n";
const ZIPKIN: &str = r#"[{"traceId":"1","id":"2","parentId":"3","kind":"CLIENT","timestamp":5,"duration":6,"localEndpoint":{"serviceName":"s","ipv4":"1.2.3.4"},"annotations":[{"timestamp":5,"value":"x"}],"tags":{"error":"e"}}]"#;

fn seed(choice: u8, body: &[u8]) -> Vec<u8> {
    [&[choice], body].concat()
}

fn rewritten(text: &str, table: &'static schema::Message) -> Vec<u8> {
    let mut message = Vec::new();
    if let Err(error) = to_protobuf(text.as_bytes(), table, &mut message, BYTES_MAX) {
        panic!("bug: the seed is not a request: {error}");
    }
    message
}

fn log_seeds() -> Vec<Vec<u8>> {
    let mut push = Vec::new();
    if let Err(error) = loki::json::to_protobuf(PUSH.as_bytes(), &mut push) {
        panic!("bug: the seed is not a push: {error}");
    }
    vec![
        seed(0, &rewritten(LOGS, schema::export_logs_request())),
        seed(1, LOGS.as_bytes()),
        seed(2, &push),
        seed(3, PUSH.as_bytes()),
        seed(4, BULK.as_bytes()),
        seed(5, BULK.as_bytes()),
        seed(
            6,
            b"<165>1 2023-11-14T22:13:20.003Z host app 77 ID47 [a@1 k=\"v\\\"]\"] hello",
        ),
        seed(7, b"<34>Nov 14 22:13:21 mymachine su[12]: failed"),
    ]
}

fn span_seeds() -> Vec<Vec<u8>> {
    vec![
        seed(0, &rewritten(SPANS, schema::export_trace_request())),
        seed(1, SPANS.as_bytes()),
        seed(2, ZIPKIN.as_bytes()),
        seed(
            3,
            &[
                0x0a, 0x16, 0x0a, 1, 1, 0x1a, 1, 2, 0x20, 1, 0x2a, 1, b'x', 0x5a, 6, 0x0a, 1, b'k',
                0x12, 1, b'v',
            ],
        ),
    ]
}
