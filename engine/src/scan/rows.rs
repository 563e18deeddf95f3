//! Log records and spans one by one, as embedders and tests want them: thin over the scans of blocks.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::ScanRequest;
use super::blocks::{LogBlockScan, SpanBlockScan};
use crate::context::RequestContext;
use crate::error::Result;
use crate::model::{Labels, LogRow, SpanRow, Stream};
use crate::rows::{IntColumn, LogBatch, SpanBatch, Streams};
use crate::store::inner::Inner;
use crate::store::row_kind::RowRequest;
use crate::store::snapshot::ReadAt;

/// Rows handed out at a time.
const BATCH_ROWS: usize = 1024;

/// Log records in batches, ordered by (stream, time); equal times in order of arrival.
#[derive(Debug)]
pub struct LogScan {
    context: RequestContext,
    rows: std::vec::IntoIter<LogRow>,
}

/// Spans in batches, ordered by (stream, time).
#[derive(Debug)]
pub struct SpanScan {
    context: RequestContext,
    rows: std::vec::IntoIter<SpanRow>,
}

fn next_batch<R>(
    context: &RequestContext,
    rows: &mut std::vec::IntoIter<R>,
) -> Option<Result<Vec<R>>> {
    if rows.as_slice().is_empty() {
        return None;
    }
    Some(
        context
            .check()
            .map(|()| rows.by_ref().take(BATCH_ROWS).collect()),
    )
}

impl Iterator for LogScan {
    type Item = Result<Vec<LogRow>>;

    fn next(&mut self) -> Option<Self::Item> {
        next_batch(&self.context, &mut self.rows)
    }
}

impl Iterator for SpanScan {
    type Item = Result<Vec<SpanRow>>;

    fn next(&mut self) -> Option<Self::Item> {
        next_batch(&self.context, &mut self.rows)
    }
}

/// A request for all columns of matching streams.
fn wide<R: RowRequest>(request: &ScanRequest) -> R {
    let mut wide = R::everything(request.range);
    wide.set_matchers(request.matchers.clone());
    wide
}

/// Sorts by labels of the stream and time; stable, so that equal times keep their order of arrival.
fn sort_and_limit<R>(rows: &mut Vec<R>, limit: Option<usize>, key: impl Fn(&R) -> (&Labels, i64)) {
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    rows.truncate(limit.unwrap_or(usize::MAX));
}

impl LogScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &ScanRequest,
        at: &ReadAt,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        for block in LogBlockScan::new(inner, context, &wide(request), at)? {
            let block = block?;
            let mut streams = Vec::new();
            let batch = rows_of(&block.streams, &block.stream, block.rows, &mut streams)?;
            let mut logs = LogBatch::new();
            streams.iter().for_each(|stream| {
                logs.stream(Arc::clone(stream));
            });
            logs.push_block(&block, |stream| batch.get(&stream).copied().unwrap_or(0));
            for row in 0..logs.len() {
                rows.push(LogRow {
                    stream: Arc::clone(&streams[logs.columns().stream[row] as usize]),
                    record: Arc::new(logs.record(row)),
                });
            }
        }
        sort_and_limit(&mut rows, request.limit, |row: &LogRow| {
            (&row.stream.labels, row.record.time.0)
        });
        Ok(Self {
            context: context.clone(),
            rows: rows.into_iter(),
        })
    }
}

impl SpanScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &ScanRequest,
        at: &ReadAt,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        for block in SpanBlockScan::new(inner, context, &wide(request), at)? {
            let block = block?;
            let mut streams = Vec::new();
            let batch = rows_of(&block.streams, &block.stream, block.rows, &mut streams)?;
            let mut spans = SpanBatch::new();
            streams.iter().for_each(|stream| {
                spans.stream(Arc::clone(stream));
            });
            spans.push_block(&block, |stream| batch.get(&stream).copied().unwrap_or(0));
            for row in 0..spans.len() {
                rows.push(SpanRow {
                    stream: Arc::clone(&streams[spans.columns().stream[row] as usize]),
                    span: Arc::new(spans.span(row)),
                });
            }
        }
        sort_and_limit(&mut rows, request.limit, |row: &SpanRow| {
            (&row.stream.labels, row.span.time.0)
        });
        Ok(Self {
            context: context.clone(),
            rows: rows.into_iter(),
        })
    }
}

/// Collects the streams of a block's rows; answers the place of each among them.
fn rows_of(
    all: &Streams,
    numbers: &IntColumn,
    rows: usize,
    streams: &mut Vec<Arc<Stream>>,
) -> Result<HashMap<u32, u32>> {
    let mut places = HashMap::new();
    for row in 0..rows {
        let number = numbers.get(row) as u32;
        if let Entry::Vacant(place) = places.entry(number) {
            place.insert(streams.len() as u32);
            streams.push(all.get(number)?);
        }
    }
    Ok(places)
}
