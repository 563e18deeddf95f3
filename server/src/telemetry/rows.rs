//! Counters of log records and spans, by protocol.

use std::sync::atomic::{AtomicU64, Ordering};

use chronolith_engine::model::MetricType;

use super::exposition::Exposition;
use crate::rows::take::Source;
use crate::rows::{Reason, Taken};

/// By which protocol rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// OpenTelemetry logs.
    OtlpLogs,
    /// OpenTelemetry traces.
    OtlpTraces,
    /// Loki's push.
    LokiPush,
    /// Elasticsearch's `_bulk`.
    ElasticBulk,
    /// JSON lines.
    JsonLines,
    /// Zipkin v2.
    Zipkin,
    /// Syslog.
    Syslog,
    /// Files of this machine.
    Files,
    /// Events of runs.
    RunEvents,
}

impl Protocol {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::OtlpLogs,
        Self::OtlpTraces,
        Self::LokiPush,
        Self::ElasticBulk,
        Self::JsonLines,
        Self::Zipkin,
        Self::Syslog,
        Self::Files,
        Self::RunEvents,
    ];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtlpLogs | Self::OtlpTraces => "otlp",
            Self::LokiPush => "loki",
            Self::ElasticBulk => "elasticsearch",
            Self::JsonLines => "jsonline",
            Self::Zipkin => "zipkin",
            Self::Syslog => "syslog",
            Self::Files => "files",
            Self::RunEvents => "runs",
        }
    }

    fn signal(self) -> &'static str {
        match self {
            Self::OtlpTraces | Self::Zipkin => "spans",
            _ => "logs",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct RowCounters {
    /// Requests that came again and were not stored again.
    pub repeated_requests: AtomicU64,
    by_protocol: [Counters; Protocol::ALL.len()],
}

#[derive(Debug, Default)]
struct Counters {
    stored: AtomicU64,
    bytes: AtomicU64,
    repaired: AtomicU64,
    dropped: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl RowCounters {
    /// Counts a request.
    pub fn count(&self, source: Source, taken: &Taken) {
        let Some(counters) = self.by_protocol.get(source.protocol as usize) else {
            return;
        };
        let add = |counter: &AtomicU64, more: u64| {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&counters.stored, taken.rows);
        add(&counters.bytes, source.decoded_bytes as u64);
        add(&counters.repaired, taken.repaired_texts);
        add(&counters.dropped, taken.dropped);
        for (counter, more) in counters.refused.iter().zip(taken.refused) {
            add(counter, more);
        }
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let all = || Protocol::ALL.iter().zip(&self.by_protocol);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let stored = out.family(
            "chronolith_ingest_rows_total",
            "Log records and spans stored.",
            MetricType::Counter,
        );
        for (protocol, counters) in all() {
            stored.row(&labels(*protocol), load(&counters.stored));
        }
        let bytes = out.family(
            "chronolith_ingest_rows_bytes_total",
            "Bytes, after decompression, of the requests with log records and spans.",
            MetricType::Counter,
        );
        for (protocol, counters) in all() {
            bytes.row(&labels(*protocol), load(&counters.bytes));
        }
        let refused = out.family(
            "chronolith_ingest_rows_refused_total",
            "Log records and spans refused, by reason.",
            MetricType::Counter,
        );
        for (protocol, counters) in all() {
            for (reason, counter) in Reason::ALL.iter().zip(&counters.refused) {
                let [signal, name] = labels(*protocol);
                refused.row(&[signal, name, ("reason", reason.as_str())], load(counter));
            }
        }
        let dropped = out.family(
            "chronolith_ingest_rows_dropped_total",
            "Log records and spans that a rule of the section `process` dropped.",
            MetricType::Counter,
        );
        for (protocol, counters) in all() {
            dropped.row(&labels(*protocol), load(&counters.dropped));
        }
        out.counter(
            "chronolith_ingest_rows_repeated_requests_total",
            "Pushes that came again as they were stored before, and were not stored again.",
            load(&self.repeated_requests),
        );
        let repaired = out.family(
            "chronolith_ingest_rows_texts_repaired_total",
            "Texts in log records and spans that were not UTF-8 and were repaired.",
            MetricType::Counter,
        );
        for (protocol, counters) in all() {
            repaired.row(&labels(*protocol), load(&counters.repaired));
        }
    }
}

fn labels(protocol: Protocol) -> [(&'static str, &'static str); 2] {
    [
        ("signal", protocol.signal()),
        ("protocol", protocol.as_str()),
    ]
}
