//! Scans over log records and spans.

use std::sync::Arc;

use hashbrown::HashMap;

use super::ScanRequest;
use super::metric_scan::{all_matchers, generations};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::rows::span_identity;
use crate::model::{LogRow, SpanId, SpanKind, SpanRow, TraceId};
use crate::store::inner::Inner;

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

impl LogScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &ScanRequest,
    ) -> Result<Self> {
        context.check()?;
        inner.check_generation(request.generation)?;
        let view = inner.view();
        let matchers = all_matchers(context, &request.matchers);
        let mut rows = Vec::new();
        if let Some(tenant) = inner.tenant(&context.tenant) {
            for generation in generations(&view) {
                rows.extend(generation.logs.read().in_range(
                    tenant.index,
                    &matchers,
                    request.range,
                ));
            }
        }
        // Stable, so that equal times keep their order of arrival.
        rows.sort_by(|a, b| {
            let streams = || a.stream.labels.cmp(&b.stream.labels);
            streams().then_with(|| a.record.time.cmp(&b.record.time))
        });
        if let Some(limit) = request.limit {
            rows.truncate(limit);
        }
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
    ) -> Result<Self> {
        context.check()?;
        inner.check_generation(request.generation)?;
        let view = inner.view();
        let matchers = all_matchers(context, &request.matchers);
        let mut rows: Vec<SpanRow> = Vec::new();
        let mut newest: HashMap<(TraceId, SpanId, SpanKind, Arc<str>), usize> = HashMap::new();
        if let Some(tenant) = inner.tenant(&context.tenant) {
            for generation in generations(&view) {
                let found =
                    generation
                        .spans
                        .read()
                        .in_range(tenant.index, &matchers, request.range);
                for row in found {
                    let (trace, span, kind, service) = span_identity(&row.stream, &row.span);
                    match newest.entry((trace, span, kind, Arc::from(service))) {
                        hashbrown::hash_map::Entry::Occupied(known) => rows[*known.get()] = row,
                        hashbrown::hash_map::Entry::Vacant(place) => {
                            place.insert(rows.len());
                            rows.push(row);
                        }
                    }
                }
            }
        }
        rows.sort_by(|a, b| {
            let streams = || a.stream.labels.cmp(&b.stream.labels);
            streams().then_with(|| a.span.time.cmp(&b.span.time))
        });
        if let Some(limit) = request.limit {
            rows.truncate(limit);
        }
        Ok(Self {
            context: context.clone(),
            rows: rows.into_iter(),
        })
    }
}
