//! Loaded traces span by span, with everything that is shown of a span at hand.
//!
//! Attributes lie in columns; here they are turned into rows once per block, so that a trace of many spans
//! costs what its attributes cost, however many keys there are.

use chronolith_engine::model::{SpanId, SpanStatus, Stream, TraceId};
use chronolith_engine::rows::{AttributeRows, Nested, SpanBlock, ValueRef};
use chronolith_query::traces::fields::service;
use chronolith_query::traces::load::{LoadedTrace, LoadedTraces};
use chronolith_query::traces::trace::{Trace, TreeSpan};

/// Loaded traces as rows.
pub(crate) struct Shown<'a> {
    traces: &'a [LoadedTrace],
    blocks: Vec<ShownBlock<'a>>,
}

struct ShownBlock<'a> {
    block: &'a SpanBlock,
    spans: AttributeRows<'a>,
    events: AttributeRows<'a>,
    links: AttributeRows<'a>,
}

impl<'a> Shown<'a> {
    /// Turns all blocks.
    pub(crate) fn new(loaded: &'a LoadedTraces) -> Self {
        let nested = |nested: &'a Nested| {
            let count = nested.ends.last().map_or(0, |end| *end as usize);
            AttributeRows::new(&nested.attributes, count)
        };
        let shown = |block: &'a SpanBlock| ShownBlock {
            block,
            spans: AttributeRows::new(&block.attributes, block.rows),
            events: nested(&block.events),
            links: nested(&block.links),
        };
        Self {
            traces: loaded.traces(),
            blocks: loaded.blocks().iter().map(shown).collect(),
        }
    }

    /// The traces, in the order in which they were asked for.
    pub(crate) fn traces(&self) -> impl Iterator<Item = ShownTrace<'_>> {
        self.traces.iter().map(|trace| ShownTrace {
            trace,
            blocks: &self.blocks,
        })
    }
}

/// One trace.
#[derive(Clone, Copy)]
pub(crate) struct ShownTrace<'a> {
    trace: &'a LoadedTrace,
    blocks: &'a [ShownBlock<'a>],
}

impl<'a> ShownTrace<'a> {
    /// How its spans hang together.
    pub(crate) fn tree(&self) -> &'a Trace {
        &self.trace.facts.trace
    }

    /// Its id.
    pub(crate) fn id(&self) -> TraceId {
        TraceId(self.tree().id())
    }

    /// Name of the root span, if it is there.
    pub(crate) fn root_name(&self) -> Option<&'a str> {
        self.trace.facts.root_name.as_deref()
    }

    /// Service of the root span, if it is there.
    pub(crate) fn root_service(&self) -> Option<&'a str> {
        self.trace.facts.root_service.as_deref()
    }

    /// A span by its place in the tree.
    pub(crate) fn span(&self, place: u32) -> Option<ShownSpan<'a>> {
        let tree = self.tree().spans().get(place as usize)?;
        Some(ShownSpan {
            place,
            tree,
            block: self.blocks.get(tree.at.block as usize)?,
            stream: self.trace.stream(place)?,
        })
    }

    /// All spans, by start.
    pub(crate) fn spans(&self) -> impl Iterator<Item = ShownSpan<'a>> {
        let this = *self;
        (0..this.tree().len() as u32).filter_map(move |place| this.span(place))
    }
}

/// One span.
#[derive(Clone, Copy)]
pub(crate) struct ShownSpan<'a> {
    /// Its place in the tree.
    pub(crate) place: u32,
    /// Ids, kind and times.
    pub(crate) tree: &'a TreeSpan,
    /// Resource and scope.
    pub(crate) stream: &'a Stream,
    block: &'a ShownBlock<'a>,
}

impl<'a> ShownSpan<'a> {
    fn row(&self) -> usize {
        self.tree.at.row as usize
    }

    pub(crate) fn id(&self) -> SpanId {
        SpanId(self.tree.id)
    }

    pub(crate) fn name(&self) -> &'a str {
        self.block.block.name.str(self.row())
    }

    pub(crate) fn service(&self) -> Option<&'a str> {
        service(self.stream)
    }

    pub(crate) fn status(&self) -> SpanStatus {
        let number = u8::try_from(self.block.block.status.get(self.row())).unwrap_or(0);
        SpanStatus::from_u8(number).unwrap_or_default()
    }

    pub(crate) fn status_message(&self) -> &'a str {
        self.block.block.status_message.str(self.row())
    }

    pub(crate) fn trace_state(&self) -> &'a str {
        self.block.block.trace_state.str(self.row())
    }

    /// Attributes in the order sent.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> {
        self.block.spans.of(self.row())
    }

    /// Events in the order sent.
    pub(crate) fn events(&self) -> impl Iterator<Item = ShownEvent<'a>> {
        let (block, start_ns) = (self.block, self.tree.start_ns);
        let events = &block.block.events;
        events.of(self.row()).map(move |item| ShownEvent {
            time_ns: start_ns.saturating_add(events.after_start.get(item).copied().unwrap_or(0)),
            name: events.name.str(item),
            rows: &block.events,
            item,
        })
    }

    /// Links in the order sent.
    pub(crate) fn links(&self) -> impl Iterator<Item = ShownLink<'a>> {
        let block = self.block;
        let links = &block.block.links;
        links.of(self.row()).filter_map(move |item| {
            let (trace, span) = links.ids.get(item)?;
            Some(ShownLink {
                trace_id: TraceId(*trace),
                span_id: SpanId(*span),
                rows: &block.links,
                item,
            })
        })
    }
}

/// An event of a span.
pub(crate) struct ShownEvent<'a> {
    /// Nanoseconds since the epoch.
    pub(crate) time_ns: i64,
    pub(crate) name: &'a str,
    rows: &'a AttributeRows<'a>,
    item: usize,
}

impl<'a> ShownEvent<'a> {
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> {
        self.rows.of(self.item)
    }
}

/// A link of a span.
pub(crate) struct ShownLink<'a> {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    rows: &'a AttributeRows<'a>,
    item: usize,
}

impl<'a> ShownLink<'a> {
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> {
        self.rows.of(self.item)
    }
}
