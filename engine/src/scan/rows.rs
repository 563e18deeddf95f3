//! Scans over log records and spans.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::ScanRequest;
use super::metric_scan::all_matchers;
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::rows::span_identity;
use crate::index::Matcher;
use crate::model::{
    LogRecord, LogRow, Span, SpanId, SpanKind, SpanRow, Stream, TimeRange, TimestampNs, TraceId,
};
use crate::segment::RowFilter;
use crate::store::inner::Inner;
use crate::store::row_kind::RowKind;
use crate::store::snapshot::ReadAt;
use crate::store::view::Hides;

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

/// A row and its stream.
type StreamRow<R> = (Arc<Stream>, Arc<R>);

/// All rows that pass, in order of arrival: segments, then generations of the head.
fn collect<R: RowKind>(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<StreamRow<R>>> {
    if at.as_of.is_some() {
        let why = "only metrics can be read as of an earlier moment";
        return Err(EngineError::InvalidArgument(why.into()));
    }
    let view = &at.view;
    let mut found = Vec::new();
    for segment in view.segments_of(&context.tenant, R::SIGNAL, range) {
        context.check()?;
        let Some(reader) = R::reader(segment) else {
            continue;
        };
        let selected = reader.select_streams(matchers)?;
        if selected.is_empty() {
            continue;
        }
        let mut streams: HashMap<u32, Arc<Stream>> = HashMap::new();
        for number in &selected {
            streams.insert(number, Arc::new(reader.stream(number)?));
        }
        let filter = RowFilter {
            streams: Some(selected),
            ..RowFilter::in_range(range)
        };
        for (number, row) in R::read(segment, &filter)? {
            let Some(stream) = streams.get(&number) else {
                continue;
            };
            let deleted = view.tombstones.iter().any(|t| {
                t.concerns(segment)
                    && t.range.contains(TimestampNs(row.time()))
                    && t.covers(&stream.labels, t.range)
            });
            if !deleted {
                found.push((Arc::clone(stream), Arc::new(row)));
            }
        }
    }
    if let Some(tenant) = inner.tenant(&context.tenant) {
        for (number, head) in view.heads().enumerate() {
            let seen = (at.pin(), R::mark(at.marks(number)));
            let keep = move |row: &R| range.contains(TimestampNs(row.time()));
            R::with_rows(head, |rows| {
                let selected = rows.select(tenant.index, matchers, seen, keep);
                found.extend(selected.map(|(stream, row)| (Arc::clone(stream), Arc::clone(row))));
            });
        }
    }
    Ok(found)
}

/// Sorts by stream and time; stable, so that equal times keep their order of arrival.
fn sort_and_limit<R: RowKind>(rows: &mut Vec<StreamRow<R>>, limit: Option<usize>) {
    rows.sort_by(|(stream_a, a), (stream_b, b)| {
        let streams = || stream_a.labels.cmp(&stream_b.labels);
        streams().then_with(|| a.time().cmp(&b.time()))
    });
    rows.truncate(limit.unwrap_or(usize::MAX));
}

impl LogScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &ScanRequest,
        at: &ReadAt,
    ) -> Result<Self> {
        let matchers = all_matchers(context, &request.matchers);
        let mut rows = collect::<LogRecord>(inner, at, context, &matchers, request.range)?;
        sort_and_limit(&mut rows, request.limit);
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(stream, record)| LogRow { stream, record })
            .collect();
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
        let matchers = all_matchers(context, &request.matchers);
        let found = collect::<Span>(inner, at, context, &matchers, request.range)?;
        let mut rows = newest_versions(found);
        sort_and_limit(&mut rows, request.limit);
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(stream, span)| SpanRow { stream, span })
            .collect();
        Ok(Self {
            context: context.clone(),
            rows: rows.into_iter(),
        })
    }
}

/// Of spans with the same identity the one that arrived last.
fn newest_versions(found: Vec<StreamRow<Span>>) -> Vec<StreamRow<Span>> {
    let mut places: HashMap<(TraceId, SpanId, SpanKind, Arc<str>), usize> = HashMap::new();
    let mut rows: Vec<StreamRow<Span>> = Vec::with_capacity(found.len());
    for row in found {
        let (trace, span, kind, service) = span_identity(&row.0, &row.1);
        match places.entry((trace, span, kind, Arc::from(service))) {
            Entry::Occupied(known) => rows[*known.get()] = row,
            Entry::Vacant(place) => {
                place.insert(rows.len());
                rows.push(row);
            }
        }
    }
    rows
}
