//! Which spans of a source were written again in a later one: the later version counts.
//!
//! Inside a source there is one version of each span. Between sources, a generation of the head knows
//! the identities of its spans, and a segment the traces that it has: most traces lie in one source,
//! which the trace index tells without reading a row.

use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::blocks::{SegmentSource, segments_of};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::rows::{service_of, span_identity};
use crate::head::series_table::TenantIndex;
use crate::manifest::Tombstone;
use crate::model::{TimeRange, TraceId};
use crate::rows::{Selection, SpanBlock, SpanColumnSet, SpanCondition, SpanScanRequest};
use crate::store::inner::Inner;
use crate::store::row_kind::{RowKind, Spans};
use crate::store::segments::Segment;
use crate::store::snapshot::ReadAt;

/// Traces whose later versions are remembered.
const TRACES_MAX: usize = 1 << 16;

/// A span in a later source: its rank and identity.
type LaterSpan = (usize, u64);

/// Finds later versions for one scan.
pub(super) struct SpanVersions {
    context: RequestContext,
    tenant: TenantIndex,
    /// With their ranks, ascending.
    segments: Vec<(usize, Arc<Segment>)>,
    tombstones: Arc<Vec<Tombstone>>,
    /// With their ranks, ascending, the pin and where rows end.
    heads: Vec<(usize, Arc<HeadData>, (u64, u64))>,
    /// By trace: what segments behind the first have of it.
    later: HashMap<TraceId, Vec<LaterSpan>>,
}

impl SpanVersions {
    /// `None` when there is at most one source.
    pub(super) fn new(
        inner: &Inner,
        context: &RequestContext,
        at: &ReadAt,
    ) -> Result<Option<Self>> {
        let view = &at.view;
        let segments = segments_of::<Spans>(view, context, TimeRange::ALL);
        let segments = segments.map(|(rank, segment)| (rank, Arc::clone(segment)));
        let segments: Vec<_> = segments.collect();
        let Some(tenant) = inner.tenant(&context.tenant) else {
            return Ok(None);
        };
        let heads = view
            .heads()
            .enumerate()
            .filter(|(_, head)| head.spans.read().count() > 0);
        let heads = heads.map(|(number, head)| {
            let seen = (at.pin(), Spans::mark(at.marks(number)));
            (view.segments.len() + number, Arc::clone(head), seen)
        });
        let heads: Vec<_> = heads.collect();
        Ok((segments.len() + heads.len() > 1).then(|| Self {
            context: context.clone(),
            tenant: tenant.index,
            segments,
            tombstones: Arc::clone(&view.tombstones),
            heads,
            later: HashMap::new(),
        }))
    }

    /// The block of a source without spans that a later source has again.
    pub(super) fn without_replaced(&mut self, rank: usize, block: SpanBlock) -> Result<SpanBlock> {
        let heads = self.heads.iter().filter(|(of, ..)| *of > rank);
        let has_later = self.segments.last().is_some_and(|(last, _)| *last > rank);
        let mut rows = Selection::All(block.rows);
        if !has_later && heads.clone().next().is_none() {
            return Ok(block);
        }
        let identities = identities_of(&block)?;
        let mut replaced = Vec::new();
        for (_, head, seen) in heads {
            let spans = head.spans.read();
            for (row, identity) in identities.iter().enumerate() {
                let (Some(trace), Some(span)) = (block.trace_id.get(row), block.span_id.get(row))
                else {
                    continue;
                };
                if spans.has_span(self.tenant, *identity, (trace, span), *seen) {
                    replaced.push(row as u32);
                }
            }
        }
        if has_later {
            for (row, identity) in identities.iter().enumerate() {
                if let Some(trace) = block.trace_id.get(row) {
                    let later = self.later_spans(TraceId(trace))?;
                    if later
                        .iter()
                        .any(|(of, known)| *of > rank && known == identity)
                    {
                        replaced.push(row as u32);
                    }
                }
            }
        }
        replaced.sort_unstable();
        replaced.dedup();
        rows.remove(&replaced);
        Ok(match rows {
            Selection::All(_) => block,
            Selection::Rows(rows) => block.take(&rows),
        })
    }

    /// The spans of a trace in all segments but the first.
    fn later_spans(&mut self, trace: TraceId) -> Result<&[LaterSpan]> {
        if self.later.len() >= TRACES_MAX && !self.later.contains_key(&trace) {
            self.later.clear();
        }
        if !self.later.contains_key(&trace) {
            let spans = self.read_later(trace)?;
            self.later.insert(trace, spans);
        }
        Ok(self.later.get(&trace).map_or(&[], Vec::as_slice))
    }

    fn read_later(&self, trace: TraceId) -> Result<Vec<LaterSpan>> {
        let mut spans = Vec::new();
        for (rank, segment) in self.segments.iter().skip(1) {
            let reader = Spans::reader(segment);
            if !reader.map_or(Ok(false), |reader| reader.may_have_trace(&trace))? {
                continue;
            }
            self.context.check()?;
            let request = SpanScanRequest {
                conditions: vec![SpanCondition::Trace(Arc::new([trace]))],
                columns: SpanColumnSet {
                    trace_id: true,
                    span_ids: true,
                    kind: true,
                    ..SpanColumnSet::default()
                },
                ..SpanScanRequest::new(Vec::new(), TimeRange::ALL)
            };
            let source = SegmentSource::<Spans>::open(segment, &self.tombstones, &request)?;
            let Some(source) = source else { continue };
            for number in 0..source.blocks() {
                let Some(block) = source.read(number, &request)? else {
                    continue;
                };
                let identities = identities_of(&block)?;
                spans.extend(identities.into_iter().map(|identity| (*rank, identity)));
            }
        }
        Ok(spans)
    }
}

/// Hashes of what makes two spans the same.
fn identities_of(block: &SpanBlock) -> Result<Vec<u64>> {
    let mut services: HashMap<u32, u64> = HashMap::new();
    let mut identities = Vec::with_capacity(block.rows);
    for row in 0..block.rows {
        let stream = block.stream.get(row) as u32;
        let service = match services.get(&stream) {
            Some(service) => *service,
            None => {
                let service = xxh3_64(service_of(&*block.streams.get(stream)?).as_bytes());
                services.insert(stream, service);
                service
            }
        };
        identities.push(span_identity(
            &block.trace_id.get(row).unwrap_or_default(),
            &block.span_id.get(row).unwrap_or_default(),
            block.kind.get(row) as u8,
            service,
        ));
    }
    Ok(identities)
}
