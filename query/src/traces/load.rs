//! Whole traces from a scan.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::RequestContext;
use chronolith_engine::model::{SpanKind, Stream, TimeRange, TraceId};
use chronolith_engine::rows::{
    AttributeChoice, AttributeColumn, AttributeValues, IdColumn, IntColumn, Nested, RowOrder,
    SpanBlock, SpanColumnSet, SpanCondition, SpanScanRequest, TextColumn,
};

use super::error::{Result, TracesError};
use super::fields::{Needs, SpanView, TraceFacts, service};
use super::source::SpanSource;
use super::trace::{RowAt, Trace, TreeSpan};

/// Spans of one trace that are read; more are an error, not a crash.
pub const TRACE_SPANS_MAX: usize = 1_000_000;

/// Some traces with the columns that were asked for.
#[derive(Debug, Default)]
pub struct LoadedTraces {
    blocks: Vec<SpanBlock>,
    traces: Vec<LoadedTrace>,
}

/// One trace of [`LoadedTraces`].
#[derive(Debug)]
pub struct LoadedTrace {
    /// Its tree and what is asked of it as a whole.
    pub facts: TraceFacts,
    /// Per span, in the order of the trace.
    streams: Vec<Arc<Stream>>,
}

impl LoadedTraces {
    /// The traces, in the order of the ids that were asked for.
    #[must_use]
    pub fn traces(&self) -> &[LoadedTrace] {
        &self.traces
    }

    /// The blocks that hold their spans.
    #[must_use]
    pub fn blocks(&self) -> &[SpanBlock] {
        &self.blocks
    }

    /// A span of a trace.
    #[must_use]
    pub fn view<'a>(&'a self, trace: &'a LoadedTrace, place: u32) -> Option<SpanView<'a>> {
        let at = trace.facts.trace.spans().get(place as usize)?.at;
        Some(SpanView {
            block: self.blocks.get(at.block as usize)?,
            row: at.row as usize,
            stream: trace.streams.get(place as usize)?,
            trace: Some((&trace.facts, place)),
        })
    }
}

impl LoadedTrace {
    /// The stream of a span.
    #[must_use]
    pub fn stream(&self, place: u32) -> Option<&Arc<Stream>> {
        self.streams.get(place as usize)
    }
}

/// Reads whole traces, whenever they were: what trees need, and `needs`. Traces that are not there
/// are left out.
///
/// # Errors
/// What the store says; a trace of more than [`TRACE_SPANS_MAX`] spans; more bytes than the source allows.
pub fn load(
    source: &dyn SpanSource,
    context: &RequestContext,
    ids: &[TraceId],
    needs: &Needs,
) -> Result<LoadedTraces> {
    let mut columns = needs.columns;
    columns.trace_id = true;
    columns.span_ids = true;
    columns.name = true;
    columns.kind = true;
    columns.duration = true;
    load_columns(source, context, ids, columns, needs.attributes())
}

/// As [`load`], with all columns and attributes: a trace to be shown.
///
/// # Errors
/// As [`load`].
pub fn load_all(
    source: &dyn SpanSource,
    context: &RequestContext,
    ids: &[TraceId],
) -> Result<LoadedTraces> {
    load_columns(
        source,
        context,
        ids,
        SpanColumnSet::ALL,
        AttributeChoice::All,
    )
}

fn load_columns(
    source: &dyn SpanSource,
    context: &RequestContext,
    ids: &[TraceId],
    columns: SpanColumnSet,
    attributes: AttributeChoice,
) -> Result<LoadedTraces> {
    let mut loaded = LoadedTraces::default();
    if ids.is_empty() {
        return Ok(loaded);
    }
    let request = SpanScanRequest {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        conditions: vec![SpanCondition::Trace(ids.into())],
        order: RowOrder::Any,
        limit: None,
        columns,
        attributes,
    };
    let mut spans: HashMap<[u8; 16], Vec<TreeSpan>> = HashMap::new();
    let (mut bytes, bytes_max) = (0_usize, source.bytes_max());
    for block in source.scan(context, &request)? {
        let block = block?;
        bytes = bytes.saturating_add(block_bytes(&block));
        if bytes > bytes_max {
            let count = ids.len();
            return Err(TracesError::TooLarge(format!(
                "{count} traces take more than {bytes_max} bytes of memory"
            )));
        }
        let number = loaded.blocks.len() as u32;
        for row in 0..block.rows {
            let at = RowAt {
                block: number,
                row: row as u32,
            };
            let id = block.trace_id.get(row).unwrap_or_default();
            let of_trace = spans.entry(id).or_default();
            if of_trace.len() >= TRACE_SPANS_MAX {
                let id = TraceId(id);
                let message = format!("trace {id} has more than {TRACE_SPANS_MAX} spans");
                return Err(TracesError::TooLarge(message));
            }
            of_trace.push(tree_span(&block, row, at));
        }
        loaded.blocks.push(block);
    }
    for id in ids {
        if let Some(spans) = spans.remove(&id.0) {
            let trace = assemble(&loaded.blocks, Trace::new(id.0, spans))?;
            loaded.traces.push(trace);
        }
    }
    Ok(loaded)
}

fn tree_span(block: &SpanBlock, row: usize, at: RowAt) -> TreeSpan {
    let kind = u8::try_from(block.kind.get(row))
        .ok()
        .and_then(SpanKind::from_u8);
    TreeSpan {
        id: block.span_id.get(row).unwrap_or_default(),
        parent_id: block.parent_span_id.get(row),
        kind: kind.unwrap_or_default(),
        start_ns: block.time.get(row).copied().unwrap_or_default(),
        duration_ns: block.duration.get(row),
        at,
    }
}

/// What a block takes in memory, nearly; spans of its trees included.
fn block_bytes(block: &SpanBlock) -> usize {
    let ints = |column: &IntColumn| match column {
        IntColumn::Constant(_) => 0,
        IntColumn::Values(values) => 8 * values.len(),
    };
    let nested = |nested: &Nested| {
        4 * nested.ends.len()
            + 8 * nested.after_start.len()
            + 24 * nested.ids.len()
            + text_bytes(&nested.name)
            + attribute_bytes(&nested.attributes)
    };
    let ids = match &block.trace_id {
        IdColumn::None => 0,
        IdColumn::Values(ids) => 32 * ids.len(),
    };
    let per_span = size_of::<TreeSpan>() + size_of::<Arc<Stream>>() + size_of::<[u32; 8]>();
    block.rows * per_span
        + 8 * block.time.len()
        + ids
        + ints(&block.stream)
        + ints(&block.kind)
        + ints(&block.duration)
        + ints(&block.status)
        + text_bytes(&block.trace_state)
        + text_bytes(&block.name)
        + text_bytes(&block.status_message)
        + attribute_bytes(&block.attributes)
        + nested(&block.events)
        + nested(&block.links)
}

fn text_bytes(column: &TextColumn) -> usize {
    match column {
        TextColumn::Constant(bytes) => bytes.len(),
        TextColumn::Dictionary { keys, values } => {
            4 * keys.len() + 4 * values.len() + values.byte_len()
        }
        TextColumn::Plain(values) => 4 * values.len() + values.byte_len(),
    }
}

fn attribute_bytes(columns: &[AttributeColumn]) -> usize {
    let of_column = |column: &AttributeColumn| {
        let values = match &column.values {
            AttributeValues::Null => 0,
            AttributeValues::Text(text)
            | AttributeValues::Bytes(text)
            | AttributeValues::Nested(text) => text_bytes(text),
            AttributeValues::Int(IntColumn::Values(values))
            | AttributeValues::Bool(IntColumn::Values(values)) => 8 * values.len(),
            AttributeValues::Int(_) | AttributeValues::Bool(_) => 0,
            AttributeValues::Float(values) => 8 * values.len(),
        };
        let rows = column.rows.as_ref().map_or(0, Vec::len);
        size_of::<AttributeColumn>() + values + 4 * rows + 2 * column.positions.len()
    };
    columns.iter().map(of_column).sum()
}

fn assemble(blocks: &[SpanBlock], trace: Trace) -> Result<LoadedTrace> {
    let mut streams = Vec::with_capacity(trace.len());
    for span in trace.spans() {
        let block = blocks.get(span.at.block as usize);
        streams.push(match block {
            Some(block) => {
                let number = block.stream.get(span.at.row as usize);
                block
                    .streams
                    .get(u32::try_from(number).unwrap_or(u32::MAX))?
            }
            None => Arc::default(),
        });
    }
    let root = trace.root().map(|root| root as usize);
    let root_service = root
        .and_then(|root| streams.get(root))
        .and_then(|stream| service(stream))
        .map(str::to_owned);
    let root_name = root
        .and_then(|root| trace.spans().get(root))
        .and_then(|span| {
            let block = blocks.get(span.at.block as usize)?;
            Some(block.name.str(span.at.row as usize).to_owned())
        });
    let duration_ns = trace.duration_ns();
    let facts = TraceFacts {
        trace,
        root_name,
        root_service,
        duration_ns,
    };
    Ok(LoadedTrace { facts, streams })
}
