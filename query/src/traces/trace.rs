//! One trace in memory as arrays.
//!
//! Spans are sorted by start, so that the first is the earliest; everything else refers to them by place.
//! Spans arrive from many machines, late, twice or not at all, so the tree is made, not found:
//!
//! - A span whose parent is not there is an *orphan* and begins a tree of its own, as a root does.
//! - Several spans may share an id: the two halves of a Zipkin RPC (the server half is made the child of the
//!   client half), or the same span sent twice with another kind. A child of such an id belongs to the server
//!   half if there is one, else to the earliest.
//! - A cycle is cut at its earliest span, which becomes an orphan.
//! - Clocks differ: a child may start before its parent. Times are kept as sent.
//!
//! **Invariants.** `parent` has no cycles; `children` of a span are ascending; numbers of the nested set
//! contain each other exactly as subtrees do.

use chronolith_engine::model::SpanKind;

/// No span.
pub const NONE: u32 = u32::MAX;

/// Where a span lies: in which block of a scan, in which row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RowAt {
    /// Block.
    pub block: u32,
    /// Row in the block.
    pub row: u32,
}

/// What the tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSpan {
    /// The span.
    pub id: [u8; 8],
    /// Its parent; `None` for a root.
    pub parent_id: Option<[u8; 8]>,
    /// Role.
    pub kind: SpanKind,
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Nanoseconds; may be negative.
    pub duration_ns: i64,
    /// Where the rest of it is.
    pub at: RowAt,
}

impl TreeSpan {
    /// When it ended; not before its start.
    #[must_use]
    pub fn end_ns(&self) -> i64 {
        self.start_ns.saturating_add(self.duration_ns.max(0))
    }
}

/// The spans of one trace and how they hang together.
#[derive(Debug, Clone)]
pub struct Trace {
    id: [u8; 16],
    spans: Vec<TreeSpan>,
    parent: Vec<u32>,
    /// Children of span `i`: `children[child_ends[i - 1]..child_ends[i]]`.
    child_ends: Vec<u32>,
    children: Vec<u32>,
    /// Every span after its parent.
    preorder: Vec<u32>,
    left: Vec<u32>,
    right: Vec<u32>,
}

impl Trace {
    /// Makes the trace of its spans, in any order.
    #[must_use]
    pub fn new(id: [u8; 16], mut spans: Vec<TreeSpan>) -> Self {
        // Longer first: of two that start together the longer one is more likely the parent.
        spans.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.duration_ns), span.id));
        let mut parent = parents(&spans);
        cut_cycles(&mut parent);
        let (child_ends, children) = children(&parent);
        let mut trace = Self {
            id,
            left: vec![0; spans.len()],
            right: vec![0; spans.len()],
            preorder: Vec::with_capacity(spans.len()),
            spans,
            parent,
            child_ends,
            children,
        };
        trace.number();
        trace
    }

    /// The trace's id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Spans by start.
    #[must_use]
    pub fn spans(&self) -> &[TreeSpan] {
        &self.spans
    }

    /// How many spans there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The parent of a span, if it is there.
    #[must_use]
    pub fn parent(&self, span: u32) -> Option<u32> {
        let parent = self.parent.get(span as usize).copied();
        parent.filter(|parent| *parent != NONE)
    }

    /// The children of a span, by start.
    #[must_use]
    pub fn children(&self, span: u32) -> &[u32] {
        let span = span as usize;
        let end = self.child_ends.get(span).map_or(0, |end| *end as usize);
        let start = match span {
            0 => 0,
            _ => self.child_ends.get(span - 1).map_or(0, |end| *end as usize),
        };
        self.children.get(start..end).unwrap_or(&[])
    }

    /// All spans, each after its parent, trees by start.
    #[must_use]
    pub fn preorder(&self) -> &[u32] {
        &self.preorder
    }

    /// The earliest span that names no parent.
    #[must_use]
    pub fn root(&self) -> Option<u32> {
        let place = self.spans.iter().position(|span| span.parent_id.is_none());
        place.map(|place| place as u32)
    }

    /// The earliest start.
    #[must_use]
    pub fn start_ns(&self) -> i64 {
        self.spans.first().map_or(0, |span| span.start_ns)
    }

    /// From the earliest start to the latest end.
    #[must_use]
    pub fn duration_ns(&self) -> i64 {
        let end = self.spans.iter().map(TreeSpan::end_ns).max();
        end.map_or(0, |end| end.saturating_sub(self.start_ns()))
    }

    /// Numbers of the nested set: a subtree's numbers lie between left and right. From 1.
    #[must_use]
    pub fn nested_set(&self, span: u32) -> (i64, i64) {
        let number = |numbers: &[u32]| numbers.get(span as usize).map_or(0, |n| i64::from(*n));
        (number(&self.left), number(&self.right))
    }

    /// The left number of the parent; -1 for a root, 0 for an orphan.
    #[must_use]
    pub fn nested_set_parent(&self, span: u32) -> i64 {
        let is_root = self
            .spans
            .get(span as usize)
            .is_none_or(|span| span.parent_id.is_none());
        match self.parent(span) {
            Some(parent) => self.nested_set(parent).0,
            None if is_root => -1,
            None => 0,
        }
    }

    /// Walks all trees without recursion: traces may be as deep as they are long.
    fn number(&mut self) {
        let mut next = 1;
        let mut open: Vec<(u32, usize)> = Vec::new();
        for top in 0..self.spans.len() as u32 {
            if self.parent(top).is_some() {
                continue;
            }
            open.push((top, 0));
            while let Some((span, visited)) = open.pop() {
                let place = span as usize;
                if visited == 0 {
                    self.preorder.push(span);
                    self.left[place] = next;
                    next += 1;
                }
                match self.children(span).get(visited) {
                    Some(child) => {
                        let child = *child;
                        open.push((span, visited + 1));
                        open.push((child, 0));
                    }
                    None => {
                        self.right[place] = next;
                        next += 1;
                    }
                }
            }
        }
    }
}

/// Who belongs to whom, by id.
fn parents(spans: &[TreeSpan]) -> Vec<u32> {
    let mut by_id: Vec<([u8; 8], u32)> = spans
        .iter()
        .enumerate()
        .map(|(place, span)| (span.id, place as u32))
        .collect();
    by_id.sort_unstable();
    let of_id = |id: [u8; 8]| {
        let start = by_id.partition_point(|(other, _)| *other < id);
        let rest = by_id.get(start..).unwrap_or(&[]);
        rest.iter()
            .take_while(move |(other, _)| *other == id)
            .map(|(_, place)| *place)
    };
    let kind = |place: u32| spans.get(place as usize).map(|span| span.kind);
    spans
        .iter()
        .enumerate()
        .map(|(place, span)| {
            let place = place as u32;
            if span.kind == SpanKind::Server {
                let client = of_id(span.id).find(|other| kind(*other) == Some(SpanKind::Client));
                if let Some(client) = client {
                    return client;
                }
            }
            let Some(parent_id) = span.parent_id else {
                return NONE;
            };
            let candidates = || of_id(parent_id).filter(|other| *other != place);
            let server = candidates().find(|other| kind(*other) == Some(SpanKind::Server));
            server.or_else(|| candidates().next()).unwrap_or(NONE)
        })
        .collect()
}

/// Makes the earliest span of every cycle an orphan.
fn cut_cycles(parent: &mut [u32]) {
    // 0: not seen; otherwise the number of the walk that came by.
    let mut seen = vec![0_u32; parent.len()];
    for start in 0..parent.len() {
        let walk = start as u32 + 1;
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = walk;
            match parent[at] {
                NONE => break,
                next => at = next as usize,
            }
        }
        if seen[at] != walk || parent[at] == NONE {
            continue;
        }
        // The walk met itself: go round once more and find the earliest.
        let mut earliest = at;
        let mut next = parent[at] as usize;
        while next != at {
            earliest = earliest.min(next);
            next = parent[next] as usize;
        }
        parent[earliest] = NONE;
    }
}

fn children(parent: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut ends = vec![0_u32; parent.len()];
    for parent in parent.iter().filter(|parent| **parent != NONE) {
        ends[*parent as usize] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        // For now where the children begin; each one placed moves it on to where they end.
        let count = *end;
        *end = total;
        total += count;
    }
    let mut children = vec![0; total as usize];
    for (child, parent) in parent.iter().enumerate() {
        if *parent != NONE {
            let place = &mut ends[*parent as usize];
            children[*place as usize] = child as u32;
            *place += 1;
        }
    }
    (ends, children)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A span with a one-byte id; parent 0 for none.
    pub(in crate::traces) fn span(id: u8, parent: u8, start_ns: i64, duration_ns: i64) -> TreeSpan {
        TreeSpan {
            id: [id; 8],
            parent_id: (parent > 0).then_some([parent; 8]),
            start_ns,
            duration_ns,
            ..TreeSpan::default()
        }
    }

    fn ids(trace: &Trace, places: &[u32]) -> Vec<u8> {
        places
            .iter()
            .map(|p| trace.spans()[*p as usize].id[0])
            .collect()
    }

    #[test]
    fn a_tree_is_numbered() {
        let spans = vec![
            span(3, 1, 5, 1),
            span(2, 1, 2, 3),
            span(1, 0, 0, 10),
            span(4, 2, 3, 1),
        ];
        let trace = Trace::new([9; 16], spans);
        assert_eq!(ids(&trace, &[0, 1, 2, 3]), [1, 2, 4, 3]);
        assert_eq!(ids(&trace, trace.preorder()), [1, 2, 4, 3]);
        assert_eq!(ids(&trace, trace.children(0)), [2, 3]);
        let numbers: Vec<_> = (0..4).map(|s| trace.nested_set(s)).collect();
        assert_eq!(numbers, [(1, 8), (2, 5), (3, 4), (6, 7)]);
        let parents: Vec<_> = (0..4).map(|s| trace.nested_set_parent(s)).collect();
        assert_eq!(parents, [-1, 1, 2, 1]);
        assert_eq!(
            (trace.root(), trace.start_ns(), trace.duration_ns()),
            (Some(0), 0, 10)
        );
    }

    #[test]
    fn orphans_cycles_and_duplicates_end_up_somewhere() {
        // 2 is an orphan; 3 and 4 name each other; 5 names itself.
        let spans = vec![
            span(2, 9, 1, 1),
            span(3, 4, 2, 1),
            span(4, 3, 3, 1),
            span(5, 5, 4, 1),
        ];
        let trace = Trace::new([0; 16], spans);
        assert_eq!(trace.preorder().len(), 4);
        let parents: Vec<_> = (0..4).map(|s| trace.parent(s)).collect();
        assert_eq!(parents, [None, None, Some(1), None]);
        assert_eq!((trace.root(), trace.nested_set_parent(0)), (None, 0));
        // A long chain is no deep recursion.
        let chain: Vec<_> = (0..100_000_u64)
            .map(|i| TreeSpan {
                id: i.to_be_bytes(),
                parent_id: i.checked_sub(1).map(u64::to_be_bytes),
                start_ns: i as i64,
                ..TreeSpan::default()
            })
            .collect();
        let trace = Trace::new([0; 16], chain);
        assert_eq!(trace.nested_set(0), (1, 200_000));
        assert!(Trace::new([0; 16], Vec::new()).is_empty());
    }

    #[test]
    fn halves_of_a_call_are_parent_and_child() {
        let with_kind = |kind, span: TreeSpan| TreeSpan { kind, ..span };
        let spans = vec![
            span(1, 0, 0, 10),
            with_kind(SpanKind::Client, span(2, 1, 1, 8)),
            with_kind(SpanKind::Server, span(2, 1, 2, 6)),
            span(3, 2, 3, 1),
        ];
        let trace = Trace::new([0; 16], spans);
        let parents: Vec<_> = (0..4).map(|s| trace.parent(s)).collect();
        assert_eq!(parents, [None, Some(0), Some(1), Some(2)]);
    }
}
