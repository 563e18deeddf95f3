//! Loads the log records, events and spans of the sample telemetry into a store.

use std::sync::Arc;

use chronolith_datasets::{LogLine, Pairs, Source, SpanRecord, SpanRole, Telemetry, Value};
use chronolith_engine::model::{
    AttributeValue, Attributes, Labels, Scope, SpanId, SpanKind, SpanStatus, Stream, TimestampNs,
    TraceId,
};
use chronolith_engine::rows::{AttributeWriter, LogBatch, SpanBatch, SpanFields};
use chronolith_engine::{EngineError, RequestContext, Store};

/// Rows of one append.
const BATCH_ROWS: usize = 10_000;

/// How many rows were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadedRows {
    /// Log records, events included.
    pub logs: usize,
    /// Spans.
    pub spans: usize,
}

/// Loads all log records, events and spans, one append per batch.
///
/// # Errors
/// When the store refuses.
pub fn load_rows(
    store: &Store,
    context: &RequestContext,
    telemetry: &Telemetry,
) -> Result<LoadedRows, EngineError> {
    let streams = telemetry
        .sources()
        .iter()
        .map(|source| stream(source).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let (logs, spans) = (telemetry.logs(), telemetry.spans());
    for lines in logs.chunks(BATCH_ROWS) {
        let mut append = store.begin(context)?;
        append.logs(log_batch(&streams, lines));
        append.commit()?;
    }
    for records in spans.chunks(BATCH_ROWS) {
        let mut append = store.begin(context)?;
        append.spans(span_batch(&streams, records));
        append.commit()?;
    }
    Ok(LoadedRows {
        logs: logs.len(),
        spans: spans.len(),
    })
}

fn stream(source: &Source) -> Result<Stream, EngineError> {
    let labels = [
        ("service_name", source.service),
        ("host_name", source.host),
        ("region", source.region),
    ];
    let labels = Labels::from_pairs(labels)
        .map_err(|error| EngineError::InvalidArgument(format!("sample telemetry: {error}")))?;
    let text = |text: &str| AttributeValue::String(text.to_owned());
    let resource: Attributes = vec![
        ("service.name".to_owned(), text(source.service)),
        ("service.version".to_owned(), text(source.version)),
        ("host.name".to_owned(), text(source.host)),
        ("cloud.region".to_owned(), text(source.region)),
    ];
    Ok(Stream {
        labels,
        resource,
        scope: Scope::default(),
    })
}

fn write_pairs(pairs: &Pairs, writer: &mut AttributeWriter<'_>) {
    for (key, value) in pairs {
        match value {
            Value::Text(text) => writer.str(key, text),
            Value::Int(number) => writer.int(key, *number),
            Value::Float(number) => writer.float(key, *number),
            Value::Bool(truth) => writer.bool(key, *truth),
        }
    }
}

fn log_batch(streams: &[Arc<Stream>], lines: &[LogLine]) -> LogBatch {
    let mut batch = LogBatch::new();
    for stream in streams {
        batch.stream(Arc::clone(stream));
    }
    for line in lines {
        // There are as many streams as sources.
        let mut row = batch.row(line.source as u32, TimestampNs(line.time_ns));
        row.severity(line.severity as u8);
        if let Some((trace, span)) = line.context {
            row.ids(Some(TraceId(trace)), Some(SpanId(span)));
        }
        let severity = line.severity.as_str();
        row.finish_text(severity, &line.body, line.event, |writer| {
            write_pairs(&line.attributes, writer);
        });
    }
    batch
}

fn span_batch(streams: &[Arc<Stream>], records: &[SpanRecord]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    for stream in streams {
        batch.stream(Arc::clone(stream));
    }
    for record in records {
        let fields = SpanFields {
            trace_id: TraceId(record.trace_id),
            span_id: SpanId(record.span_id),
            parent_span_id: record.parent_span_id.map(SpanId),
            trace_state: "",
            name: &record.name,
            kind: match record.role {
                SpanRole::Internal => SpanKind::Internal,
                SpanRole::Server => SpanKind::Server,
                SpanRole::Client => SpanKind::Client,
            },
            time: TimestampNs(record.start_ns),
            duration_ns: record.end_ns.saturating_sub(record.start_ns),
            status: match record.error {
                Some(_) => SpanStatus::Error,
                None => SpanStatus::Unset,
            },
            status_message: record.error.as_deref().unwrap_or(""),
        };
        let mut row = batch.row(record.source as u32, &fields);
        row.attributes(|writer| write_pairs(&record.attributes, writer));
        for (time_ns, name, pairs) in &record.events {
            let after = time_ns.saturating_sub(record.start_ns);
            row.event(after, name, |writer| write_pairs(pairs, writer));
        }
    }
    batch
}
