//! Search: traces that a TraceQL query finds, newest first.
//!
//! The store names candidates: spans that the first filter can be about, newest first. Their traces are
//! read whole, some at a time, and the pipeline decides. The scan ends with the last trace that is wanted.

use std::collections::HashSet;

use chronolith_engine::RequestContext;
use chronolith_engine::model::{TimeRange, TraceId};
use chronolith_engine::rows::{AttributeChoice, RowOrder, SpanColumnSet, SpanScanRequest};

use super::error::{Result, TracesError};
use super::fields::{Needs, Val, service};
use super::load::{LoadedTrace, LoadedTraces, load};
use super::pipeline::{self, OneTrace, PipelineProgram, Spanset};
use super::pushdown;
use super::source::SpanSource;
use crate::traceql::ast::*;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// When a matching span began.
    pub range: TimeRange,
    /// Traces in the answer. Default: 20.
    pub limit: usize,
    /// Spans shown per spanset; 0 for all. Default: 3.
    pub spans_per_spanset: usize,
}

impl Default for SearchRequest {
    fn default() -> Self {
        Self {
            range: TimeRange::ALL,
            limit: 20,
            spans_per_spanset: 3,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchAnswer {
    /// The traces, latest start first.
    pub traces: Vec<TraceMatch>,
    /// Traces that were read whole.
    pub inspected_traces: usize,
    /// Spans of these.
    pub inspected_spans: usize,
}

/// A trace that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceMatch {
    /// Its id.
    pub trace_id: TraceId,
    /// Service of the root span; `None` while that has not come.
    pub root_service: Option<String>,
    /// Name of the root span; `None` while that has not come.
    pub root_name: Option<String>,
    /// Earliest start, nanoseconds since the epoch.
    pub start_ns: i64,
    /// To the latest end, nanoseconds.
    pub duration_ns: i64,
    /// Spans and failed spans of each service, by name.
    pub services: Vec<ServiceSpans>,
    /// What came out of the pipeline.
    pub span_sets: Vec<SpansetMatch>,
}

impl TraceMatch {
    /// What it takes in memory, nearly.
    fn bytes(&self) -> usize {
        let pairs = |pairs: &[(String, Value)]| -> usize {
            let text = |value: &Value| match value {
                Value::String(text) => text.len(),
                _ => 0,
            };
            let sizes = pairs.iter().map(|(key, value)| key.len() + text(value));
            sizes.sum::<usize>() + size_of_val(pairs)
        };
        let set = |set: &SpansetMatch| {
            let spans = set.spans.iter();
            let spans = spans.map(|span| span.name.len() + pairs(&span.attributes));
            spans.sum::<usize>() + size_of_val(&*set.spans) + pairs(&set.attributes)
        };
        size_of::<Self>()
            + size_of_val(&*self.services)
            + self.span_sets.iter().map(set).sum::<usize>()
    }
}

/// What a service has in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpans {
    /// The service.
    pub service: String,
    /// Its spans.
    pub span_count: usize,
    /// Those with status error.
    pub error_count: usize,
}

/// A spanset that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct SpansetMatch {
    /// Its spans, as many as are shown.
    pub spans: Vec<SpanMatch>,
    /// How many there are.
    pub matched: usize,
    /// What `by` and aggregates attached.
    pub attributes: Vec<(String, Value)>,
}

/// A span that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanMatch {
    /// Its id.
    pub span_id: [u8; 8],
    /// Its name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Nanoseconds.
    pub duration_ns: i64,
    /// Fields that the query reads or selects.
    pub attributes: Vec<(String, Value)>,
}

/// Traces read at a time: few enough that the first answers come soon, many enough that a scan pays.
const BATCH_TRACES: usize = 64;
/// What a candidate that is remembered takes, nearly.
const SEEN_BYTES: usize = 40;

/// Searches.
///
/// # Errors
/// A metrics query; more bytes than the source allows; what the store says; the deadline.
pub fn search(
    source: &dyn SpanSource,
    context: &RequestContext,
    query: &Query,
    request: &SearchRequest,
) -> Result<SearchAnswer> {
    let Body::Search(pipeline) = &query.body else {
        let message = "a metrics query gives series, not traces".to_owned();
        return Err(TracesError::BadRequest(message));
    };
    let mut searcher = Searcher::new(source, context, pipeline, request);
    let mut answer = SearchAnswer::default();
    if request.limit == 0 {
        return Ok(answer);
    }
    let scan = SpanScanRequest {
        conditions: pushdown::of_pipeline(pipeline).into_iter().collect(),
        order: RowOrder::NewestFirst,
        columns: SpanColumnSet {
            trace_id: true,
            ..SpanColumnSet::default()
        },
        attributes: AttributeChoice::None,
        ..SpanScanRequest::new(Vec::new(), request.range)
    };
    let batch_traces = BATCH_TRACES.min(request.limit);
    let mut candidates = Vec::new();
    'scan: for block in source.scan(context, &scan)? {
        let block = block?;
        for row in 0..block.rows {
            let id = TraceId(block.trace_id.get(row).unwrap_or_default());
            if searcher.seen.insert(id) {
                candidates.push(id);
            }
            if candidates.len() >= batch_traces && searcher.decide(&mut candidates, &mut answer)? {
                break 'scan;
            }
        }
    }
    searcher.decide(&mut candidates, &mut answer)?;
    answer
        .traces
        .sort_by_key(|found| std::cmp::Reverse(found.start_ns));
    answer.traces.truncate(request.limit);
    Ok(answer)
}

struct Searcher<'a> {
    source: &'a dyn SpanSource,
    context: &'a RequestContext,
    request: &'a SearchRequest,
    program: PipelineProgram,
    needs: Needs,
    shown: Vec<FieldName>,
    seen: HashSet<TraceId>,
    /// What the answer takes so far, nearly.
    found_bytes: usize,
}

impl<'a> Searcher<'a> {
    fn new(
        source: &'a dyn SpanSource,
        context: &'a RequestContext,
        pipeline: &Pipeline,
        request: &'a SearchRequest,
    ) -> Self {
        let mut needs = Needs::default();
        let mut shown = Vec::new();
        pipeline::add_needs(pipeline, &mut needs, &mut shown);
        needs.columns.status = true;
        shown.retain(is_shown);
        Self {
            source,
            context,
            request,
            program: PipelineProgram::new(pipeline),
            needs,
            shown,
            seen: HashSet::new(),
            found_bytes: 0,
        }
    }

    /// Reads the candidates and keeps those that match; answers whether there are enough.
    fn decide(&mut self, candidates: &mut Vec<TraceId>, answer: &mut SearchAnswer) -> Result<bool> {
        let loaded = load(self.source, self.context, candidates, &self.needs)?;
        candidates.clear();
        self.check_memory()?;
        for trace in loaded.traces() {
            self.context.check()?;
            answer.inspected_traces += 1;
            answer.inspected_spans += trace.facts.trace.len();
            let one = OneTrace {
                loaded: &loaded,
                trace,
            };
            let sets = self.program.run(one);
            if !sets.is_empty() {
                let found = self.found(&loaded, trace, &sets);
                self.found_bytes += found.bytes();
                self.check_memory()?;
                answer.traces.push(found);
            }
        }
        Ok(answer.traces.len() >= self.request.limit)
    }

    /// Candidates that are remembered and the answer so far must not be more than may be held.
    fn check_memory(&self) -> Result<()> {
        let bytes_max = self.source.bytes_max();
        let candidates = self.seen.len();
        match candidates.saturating_mul(SEEN_BYTES) + self.found_bytes > bytes_max {
            true => Err(TracesError::TooLarge(format!(
                "the search holds more than {bytes_max} bytes after {candidates} candidates; narrow it down"
            ))),
            false => Ok(()),
        }
    }

    fn found(&self, loaded: &LoadedTraces, trace: &LoadedTrace, sets: &[Spanset]) -> TraceMatch {
        let facts = &trace.facts;
        TraceMatch {
            trace_id: TraceId(facts.trace.id()),
            root_service: facts.root_service.clone(),
            root_name: facts.root_name.clone(),
            start_ns: facts.trace.start_ns(),
            duration_ns: facts.duration_ns,
            services: services(loaded, trace),
            span_sets: sets
                .iter()
                .map(|set| SpansetMatch {
                    spans: self.shown_spans(loaded, trace, set),
                    matched: set.spans.len(),
                    attributes: set.attributes.clone(),
                })
                .collect(),
        }
    }

    fn shown_spans(
        &self,
        loaded: &LoadedTraces,
        trace: &LoadedTrace,
        set: &Spanset,
    ) -> Vec<SpanMatch> {
        let count = match self.request.spans_per_spanset {
            0 => usize::MAX,
            count => count,
        };
        let places = set.spans.iter().take(count);
        places
            .filter_map(|place| {
                let view = loaded.view(trace, *place)?;
                let span = trace.facts.trace.spans().get(*place as usize)?;
                let attributes = self
                    .shown
                    .iter()
                    .filter_map(|field| match view.read(field) {
                        Val::Nil | Val::Opaque => None,
                        value => Some((shown_name(field), value.to_value())),
                    });
                Some(SpanMatch {
                    span_id: span.id,
                    name: view.block.name.str(view.row).to_owned(),
                    start_ns: span.start_ns,
                    duration_ns: span.duration_ns,
                    attributes: attributes.collect(),
                })
            })
            .collect()
    }
}

/// What a span of the answer has anyway is not shown again.
fn is_shown(field: &FieldName) -> bool {
    !matches!(
        field,
        FieldName::Intrinsic {
            intrinsic: Intrinsic::Name
                | Intrinsic::Duration
                | Intrinsic::SpanId
                | Intrinsic::TraceId
                | Intrinsic::TraceDuration
                | Intrinsic::TraceRootName
                | Intrinsic::TraceRootService,
            ..
        }
    )
}

/// Attributes are shown by their key alone.
fn shown_name(field: &FieldName) -> String {
    match field {
        FieldName::Attribute { key, .. } => key.clone(),
        FieldName::Intrinsic { .. } => {
            let (name, of_parent, pos) = (field.clone(), false, PosRange::default());
            Field {
                name,
                of_parent,
                pos,
            }
            .to_string()
        }
    }
}

fn services(loaded: &LoadedTraces, trace: &LoadedTrace) -> Vec<ServiceSpans> {
    let mut services = std::collections::BTreeMap::new();
    for place in 0..trace.facts.trace.len() as u32 {
        let Some(view) = loaded.view(trace, place) else {
            continue;
        };
        let (spans, errors) = services
            .entry(service(view.stream).unwrap_or_default())
            .or_insert((0, 0));
        *spans += 1;
        *errors += usize::from(view.block.status.get(view.row) == 2);
    }
    services
        .into_iter()
        .map(|(service, (span_count, error_count))| ServiceSpans {
            service: service.to_owned(),
            span_count,
            error_count,
        })
        .collect()
}

#[cfg(test)]
mod tests;
