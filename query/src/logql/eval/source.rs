//! Where rows come from: anything that answers a scan with blocks of columns.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::model::{Labels, Stream, TimestampNs};
use chronolith_engine::rows::{LogBatch, LogBlock, LogScanRequest, RowOrder, Selection, Streams};
use chronolith_engine::{EngineError, Matcher, RequestContext, Store};
use parking_lot::RwLock;

/// The blocks of a scan, one after the other.
pub type LogBlocks = Box<dyn Iterator<Item = Result<LogBlock, EngineError>> + Send>;

/// Log records that can be scanned.
pub trait LogSource: Send + Sync + 'static {
    /// Starts a scan. Every condition of the request is applied by the source.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out; damaged data.
    fn scan(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlocks, EngineError>;

    /// Whether a trace id that a client sent as structured metadata `trace_id` stands in the column of
    /// trace ids, so that a filter on it can be left to the scan.
    fn trace_ids_are_columns(&self) -> bool {
        false
    }
}

/// Log records in memory: for tests and small embedders.
#[derive(Debug, Default)]
pub struct MemoryLogs {
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    batch: LogBatch,
    streams: HashMap<Labels, u32>,
}

impl MemoryLogs {
    /// No records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Labels that are none.
    pub fn push(
        &self,
        labels: &[(&str, &str)],
        time_ns: i64,
        line: &str,
        metadata: &[(&str, &str)],
    ) -> Result<(), EngineError> {
        let labels = labels
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty());
        let labels = Labels::from_pairs(labels)
            .map_err(|error| EngineError::InvalidArgument(error.to_string()))?;
        let mut held = self.held.write();
        let Held { batch, streams } = &mut *held;
        let stream = match streams.get(&labels) {
            Some(stream) => *stream,
            None => {
                let stream = batch.stream(Arc::new(Stream::from_labels(labels.clone())));
                streams.insert(labels, stream);
                stream
            }
        };
        batch
            .row(stream, TimestampNs(time_ns))
            .finish_text("", line, "", |attributes| {
                for (name, value) in metadata {
                    attributes.str(name, value);
                }
            });
        Ok(())
    }
}

fn passes(stream: &Stream, matchers: &[Matcher]) -> bool {
    let labels = &stream.labels;
    matchers
        .iter()
        .all(|matcher| matcher.matches_labels(labels))
}

/// The rows of a batch that a request asks for.
pub(super) fn select(
    batch: &LogBatch,
    context: &RequestContext,
    request: &LogScanRequest,
) -> LogBlock {
    let streams: Vec<bool> = batch
        .streams()
        .iter()
        .map(|stream| {
            passes(stream, &request.matchers) && passes(stream, &context.required_matchers)
        })
        .collect();
    let mut rows = Selection::All(batch.len());
    let columns = batch.columns();
    rows.retain(|row| streams[columns.stream[row as usize] as usize]);
    rows.retain_times(&columns.time, request.range);
    for condition in &request.conditions {
        condition.retain_batch(batch, &mut rows);
    }
    let mut rows = rows.into_rows();
    let time = |row: &u32| columns.time[*row as usize];
    match request.order {
        RowOrder::Any => {}
        RowOrder::OldestFirst => rows.sort_by_key(time),
        RowOrder::NewestFirst => {
            rows.reverse();
            rows.sort_by_key(|row| std::cmp::Reverse(time(row)));
        }
    }
    rows.truncate(request.limit.unwrap_or(usize::MAX));
    let shared = Arc::new(Streams::of(batch.streams()));
    let numbers: Vec<u32> = (0..batch.streams().len() as u32).collect();
    batch.block(
        &shared,
        &numbers,
        &Selection::Rows(rows),
        request.columns,
        &request.attributes,
    )
}

impl LogSource for MemoryLogs {
    fn scan(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlocks, EngineError> {
        context.check()?;
        let block = select(&self.held.read().batch, context, request);
        Ok(Box::new(std::iter::once(Ok(block))))
    }
}

/// The log records of a store.
#[derive(Clone)]
pub struct StoreLogs {
    store: Store,
}

impl StoreLogs {
    /// All log records of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl LogSource for StoreLogs {
    fn scan(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlocks, EngineError> {
        Ok(Box::new(self.store.scan_log_blocks(context, request)?))
    }

    fn trace_ids_are_columns(&self) -> bool {
        true
    }
}
