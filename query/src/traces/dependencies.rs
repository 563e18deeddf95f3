//! Who calls whom: edges between services, counted over parents and children in different services.
//!
//! A scan in any order gives the spans of a trace together, so nearly all parents are found among the
//! neighbours, without a table of all spans. Spans whose parent is not there (it lies in another segment, or
//! outside of the range, or was never sent) are put aside; their traces are read once more at the end.

use std::collections::HashMap;

use chronolith_engine::RequestContext;
use chronolith_engine::model::{SpanKind, TimeRange, TraceId};
use chronolith_engine::rows::{
    IdColumn, RowOrder, SpanBlock, SpanColumnSet, SpanCondition, SpanScanRequest,
};

use super::error::{Result, TracesError};
use super::groups::{self, Groups, KeyPart, StreamCache};
use super::listing::service_field;
use super::source::SpanSource;

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The service that calls.
    pub parent: String,
    /// The service that is called.
    pub child: String,
    /// Spans of the child whose parent is one of the parent.
    pub calls: u64,
}

/// Spans without their parent that are put aside.
const ASIDE_MAX: usize = 1 << 20;
/// Traces read again at a time.
const BATCH_TRACES: usize = 1024;
/// Up to this many spans of a trace are searched one after the other.
const LINEAR_MAX: usize = 16;

/// The edges between services, of spans that began in a range, sorted.
///
/// # Errors
/// More than a million spans whose parents are elsewhere; what the store says.
pub fn dependencies(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
) -> Result<Vec<Dependency>> {
    let mut graph = Graph::default();
    for block in source.scan(context, &request(range, Vec::new()))? {
        graph.add(&block?)?;
    }
    graph.resolve(source, context)?;
    Ok(graph.edges())
}

fn request(range: TimeRange, conditions: Vec<SpanCondition>) -> SpanScanRequest {
    SpanScanRequest {
        conditions,
        order: RowOrder::Any,
        columns: SpanColumnSet {
            trace_id: true,
            span_ids: true,
            kind: true,
            ..SpanColumnSet::default()
        },
        ..SpanScanRequest::new(Vec::new(), range)
    }
}

/// What an edge needs of a span.
#[derive(Debug, Clone, Copy)]
struct Node {
    id: u64,
    /// 0: none.
    parent: u64,
    kind: u8,
    service: u32,
}

/// How often services call each other: a square of counts while there are few services, as there mostly
/// are, a map beyond.
#[derive(Debug, Default)]
struct Calls {
    side: u32,
    square: Vec<u64>,
    others: HashMap<(u32, u32), u64>,
}

/// Services that the square has room for.
const SQUARE_SIDE_MAX: u32 = 1024;

impl Calls {
    /// Counts a call, unless a service calls itself.
    fn add(&mut self, parent: u32, child: u32) {
        if parent == child {
            return;
        }
        let last = parent.max(child);
        if last >= SQUARE_SIDE_MAX {
            *self.others.entry((parent, child)).or_default() += 1;
            return;
        }
        if last >= self.side {
            self.grow((last + 1).next_power_of_two());
        }
        if let Some(calls) = self.square.get_mut((parent * self.side + child) as usize) {
            *calls += 1;
        }
    }

    fn grow(&mut self, side: u32) {
        let mut square = vec![0; (side * side) as usize];
        for (parent, child, calls) in self.of_square() {
            square[(parent * side + child) as usize] = calls;
        }
        self.side = side;
        self.square = square;
    }

    fn of_square(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        let counted = self
            .square
            .iter()
            .enumerate()
            .filter(|(_, calls)| **calls > 0);
        counted.map(|(place, calls)| (place as u32 / self.side, place as u32 % self.side, *calls))
    }

    fn edges(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        let others = self.others.iter();
        self.of_square()
            .chain(others.map(|((parent, child), calls)| (*parent, *child, *calls)))
    }
}

#[derive(Debug, Default)]
struct Graph {
    services: Groups,
    streams: StreamCache,
    calls: Calls,
    /// By trace.
    aside: HashMap<[u8; 16], Vec<Node>>,
    aside_count: usize,
}

impl Graph {
    fn nodes(&mut self, block: &SpanBlock) -> Result<Vec<Node>> {
        let fields = [service_field()];
        let services = groups::of_block(block, &fields, &mut self.services, &mut self.streams)?;
        let number = |id: Option<[u8; 8]>| id.map_or(0, u64::from_be_bytes);
        let node = |(row, service)| Node {
            id: number(block.span_id.get(row)),
            parent: number(block.parent_span_id.get(row)),
            kind: block.kind.get(row) as u8,
            service,
        };
        Ok(services.into_iter().enumerate().map(node).collect())
    }

    /// Counts what can be decided within the block.
    fn add(&mut self, block: &SpanBlock) -> Result<()> {
        let nodes = self.nodes(block)?;
        let IdColumn::Values(traces) = &block.trace_id else {
            return Ok(());
        };
        let mut sorted = Vec::new();
        let mut start = 0;
        for run in traces.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            let of_trace = nodes.get(start..end).unwrap_or(&[]);
            start = end;
            let found = of_run(of_trace, &mut sorted, |parent, child| {
                self.calls.add(parent, child);
            });
            let Some(trace) = run.first().filter(|_| !found.is_empty()) else {
                continue;
            };
            self.aside_count += found.len();
            if self.aside_count > ASIDE_MAX {
                let message = format!("more than {ASIDE_MAX} spans have their parents elsewhere");
                return Err(TracesError::TooLarge(message));
            }
            self.aside.entry(*trace).or_default().extend(found);
        }
        Ok(())
    }

    /// Looks for the parents of the spans put aside, whenever they were.
    fn resolve(&mut self, source: &dyn SpanSource, context: &RequestContext) -> Result<()> {
        let aside = std::mem::take(&mut self.aside);
        let ids: Vec<TraceId> = aside.keys().copied().map(TraceId).collect();
        for ids in ids.chunks(BATCH_TRACES) {
            let mut spans: HashMap<[u8; 16], Vec<Node>> = HashMap::new();
            let conditions = vec![SpanCondition::Trace(ids.into())];
            for block in source.scan(context, &request(TimeRange::ALL, conditions))? {
                let block = block?;
                for (row, node) in self.nodes(&block)?.into_iter().enumerate() {
                    let trace = block.trace_id.get(row).unwrap_or_default();
                    spans.entry(trace).or_default().push(node);
                }
            }
            for (trace, mut candidates) in spans {
                sort(&mut candidates);
                for child in aside.get(&trace).into_iter().flatten() {
                    if let Some(parent) = parent_of(child, &candidates) {
                        self.calls.add(parent, child.service);
                    }
                }
            }
        }
        Ok(())
    }

    fn edges(&self) -> Vec<Dependency> {
        let names = self.services.keys();
        let name = |service: u32| match names.get(service as usize).and_then(|key| key.first()) {
            Some(KeyPart::Str(name)) => name.to_string(),
            _ => String::new(),
        };
        let mut edges: Vec<_> = self
            .calls
            .edges()
            .map(|(parent, child, calls)| Dependency {
                parent: name(parent),
                child: name(child),
                calls,
            })
            .collect();
        edges.sort_unstable();
        edges
    }
}

/// Servers first: a child of an id that client and server share belongs to the server.
fn sort(nodes: &mut [Node]) {
    nodes.sort_unstable_by_key(|node| (node.id, node.kind != SpanKind::Server as u8));
}

/// The service of a span's parent among spans sorted by id.
fn parent_of(child: &Node, sorted: &[Node]) -> Option<u32> {
    let of_id = |id: u64| {
        let start = sorted.partition_point(|node| node.id < id);
        let rest = sorted.get(start..).unwrap_or(&[]);
        rest.iter().take_while(move |node| node.id == id)
    };
    if child.kind == SpanKind::Server as u8 {
        // The other half of a call, as Zipkin reports it.
        let client = of_id(child.id).find(|node| node.kind == SpanKind::Client as u8);
        if let Some(client) = client {
            return Some(client.service);
        }
    }
    let parent = of_id(child.parent).next();
    parent.map(|parent| parent.service)
}

/// Counts the edges within spans of one trace; gives those whose parent is not among them.
fn of_run(nodes: &[Node], sorted: &mut Vec<Node>, mut count: impl FnMut(u32, u32)) -> Vec<Node> {
    let mut aside = Vec::new();
    let is_small = nodes.len() <= LINEAR_MAX;
    // Two halves of a call need the order; without servers beside clients a look at each will do.
    let shares_ids = is_small
        && nodes.iter().enumerate().any(|(place, node)| {
            node.kind == SpanKind::Server as u8
                && nodes
                    .iter()
                    .enumerate()
                    .any(|(other, n)| other != place && n.id == node.id)
        });
    if is_small && !shares_ids {
        for child in nodes.iter().filter(|node| node.parent != 0) {
            match nodes.iter().find(|node| node.id == child.parent) {
                Some(parent) => count(parent.service, child.service),
                None => aside.push(*child),
            }
        }
        return aside;
    }
    sorted.clear();
    sorted.extend_from_slice(nodes);
    sort(sorted);
    for child in nodes {
        match parent_of(child, sorted) {
            Some(parent) => count(parent, child.service),
            None if child.parent != 0 => aside.push(*child),
            None => {}
        }
    }
    aside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::memory::MemorySpans;
    use crate::traces::sample::{span, spans, stream};
    use chronolith_engine::model::{Span, TimestampNs};

    fn edges(source: &dyn SpanSource, range: TimeRange) -> Vec<(String, String, u64)> {
        let found = dependencies(source, &RequestContext::new(), range).unwrap();
        found
            .into_iter()
            .map(|d| (d.parent, d.child, d.calls))
            .collect()
    }

    fn edge(parent: &str, child: &str, calls: u64) -> (String, String, u64) {
        (parent.to_owned(), child.to_owned(), calls)
    }

    #[test]
    fn calls_between_services_count() {
        assert_eq!(edges(&spans(), TimeRange::ALL), [edge("shop", "pay", 2)]);
        // The parent began before the range.
        let late = TimeRange {
            start: TimestampNs(2_005_000_000),
            end: TimestampNs::MAX,
        };
        assert_eq!(edges(&spans(), late), [edge("shop", "pay", 1)]);
    }

    #[test]
    fn many_services_are_counted_too() {
        let mut calls = Calls::default();
        for service in 0..1500 {
            calls.add(service, service / 2);
            calls.add(service, service);
        }
        assert_eq!(calls.edges().count(), 1499);
        assert!(
            calls
                .edges()
                .all(|(parent, child, count)| parent / 2 == child && count == 1)
        );
    }

    #[test]
    fn halves_of_a_call_and_long_traces() {
        let kind = |kind, span: Span| Span { kind, ..span };
        let mut all = MemorySpans::default();
        let front: Vec<_> = (1..40_u8).map(|id| span(1, id, 0, "x", 1, 1)).collect();
        all.add(stream("front", Vec::new()), front);
        let back: Vec<_> = (1..40_u8)
            .map(|id| span(1, id + 100, id, "y", 2, 1))
            .collect();
        all.add(stream("back", Vec::new()), back);
        all.add(
            stream("a", Vec::new()),
            vec![kind(SpanKind::Client, span(2, 1, 0, "c", 1, 9))],
        );
        all.add(
            stream("b", Vec::new()),
            vec![kind(SpanKind::Server, span(2, 1, 0, "s", 2, 5))],
        );
        all.add(stream("c", Vec::new()), vec![span(2, 2, 1, "t", 3, 1)]);
        let expected = [
            edge("a", "b", 1),
            edge("b", "c", 1),
            edge("front", "back", 39),
        ];
        assert_eq!(edges(&all, TimeRange::ALL), expected);
    }
}
