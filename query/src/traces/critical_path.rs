//! What a trace waited for: its critical path, and what spans did themselves.
//!
//! The algorithm is that of CRISP (Zhang et al., *CRISP: Critical Path Analysis of Large-Scale Microservice
//! Architectures*, USENIX ATC 2022), also used by Jaeger's user interface. Walk back from the end of the
//! root: the child that ended last before the present moment is what its parent waited for. The time between
//! its end and the present moment is the parent's own; then the walk goes on inside that child, and after it
//! at the child's start in the parent. Children are cut to their parent's time, because clocks differ and
//! because nobody waits for what goes on after the parent's end.
//!
//! Cost: every child is looked at once per visit of its parent, after one sort by end: `O(n log n)`.

use super::trace::Trace;

/// A piece of the critical path: the time in which a span was what everything waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathPiece {
    /// Place of the span in its trace.
    pub span: u32,
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Nanoseconds since the epoch, after the start.
    pub end_ns: i64,
}

/// The critical path of a trace, in order of time. Pieces touch, from the start of the root (the earliest
/// span if there is no root) to its end; a span may have several.
#[must_use]
pub fn critical_path(trace: &Trace) -> Vec<PathPiece> {
    let Some(root) = trace.root().or((!trace.is_empty()).then_some(0)) else {
        return Vec::new();
    };
    let mut pieces = Vec::new();
    let Some((start_ns, end_ns)) = interval(trace, root) else {
        return pieces;
    };
    // Spans that are open, with the children not yet looked at, earliest end first.
    let mut open = vec![Visit::new(trace, root, start_ns, end_ns)];
    while let Some(visit) = open.last_mut() {
        match visit.children.pop() {
            // Ended after the present moment: something else was waited for.
            Some(child) if child.end_ns > visit.now_ns => {}
            Some(child) => {
                push(&mut pieces, visit.span, child.end_ns, visit.now_ns);
                visit.now_ns = child.start_ns;
                let visit = Visit::new(trace, child.span, child.start_ns, child.end_ns);
                open.push(visit);
            }
            None => {
                push(&mut pieces, visit.span, visit.start_ns, visit.now_ns);
                open.pop();
            }
        }
    }
    pieces.reverse();
    pieces
}

/// What each span did itself: its duration without the time in which a child of it ran. Nanoseconds, by
/// place in the trace.
#[must_use]
pub fn self_times(trace: &Trace) -> Vec<i64> {
    (0..trace.len() as u32)
        .map(|span| {
            let Some((start, end)) = interval(trace, span) else {
                return 0;
            };
            // Children are ascending by start: one sweep joins those that overlap.
            let (mut covered, mut reached) = (0_i64, start);
            for child in trace.children(span) {
                let Some((child_start, child_end)) = interval(trace, *child) else {
                    continue;
                };
                let from = child_start.max(reached);
                let to = child_end.min(end);
                if to > from {
                    covered = covered.saturating_add(to.saturating_sub(from));
                    reached = to;
                }
            }
            end.saturating_sub(start).saturating_sub(covered)
        })
        .collect()
}

struct Visit {
    span: u32,
    start_ns: i64,
    /// Everything after this is done.
    now_ns: i64,
    children: Vec<PathPiece>,
}

impl Visit {
    fn new(trace: &Trace, span: u32, start_ns: i64, end_ns: i64) -> Self {
        let mut children: Vec<_> = trace
            .children(span)
            .iter()
            .filter_map(|child| {
                let (child_start, child_end) = interval(trace, *child)?;
                let piece = PathPiece {
                    span: *child,
                    start_ns: child_start.max(start_ns),
                    end_ns: child_end.min(end_ns),
                };
                (piece.start_ns < piece.end_ns).then_some(piece)
            })
            .collect();
        children.sort_unstable_by_key(|piece| (piece.end_ns, piece.start_ns));
        Self {
            span,
            start_ns,
            now_ns: end_ns,
            children,
        }
    }
}

fn push(pieces: &mut Vec<PathPiece>, span: u32, start_ns: i64, end_ns: i64) {
    if start_ns < end_ns {
        pieces.push(PathPiece {
            span,
            start_ns,
            end_ns,
        });
    }
}

fn interval(trace: &Trace, span: u32) -> Option<(i64, i64)> {
    let span = trace.spans().get(span as usize)?;
    Some((span.start_ns, span.end_ns()))
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::span;
    use super::*;

    fn path(trace: &Trace) -> Vec<(u8, i64, i64)> {
        let id = |piece: &PathPiece| trace.spans()[piece.span as usize].id[0];
        let pieces = critical_path(trace);
        pieces
            .iter()
            .map(|p| (id(p), p.start_ns, p.end_ns))
            .collect()
    }

    #[test]
    fn the_last_child_to_end_is_waited_for() {
        // 1: 0-100, 2: 10-40, 3: 20-60 (with 4: 30-50), 5: 70-90.
        let spans = vec![
            span(1, 0, 0, 100),
            span(2, 1, 10, 30),
            span(3, 1, 20, 40),
            span(4, 3, 30, 20),
            span(5, 1, 70, 20),
        ];
        let trace = Trace::new([0; 16], spans);
        let expected = [
            (1, 0, 20),
            (3, 20, 30),
            (4, 30, 50),
            (3, 50, 60),
            (1, 60, 70),
            (5, 70, 90),
            (1, 90, 100),
        ];
        assert_eq!(path(&trace), expected);
        assert_eq!(self_times(&trace), [30, 30, 20, 20, 20]);
    }

    #[test]
    fn children_are_cut_to_their_parent() {
        let spans = vec![
            span(1, 0, 10, 10),
            span(2, 1, 5, 10),
            span(3, 1, 18, 100),
            span(4, 1, 30, 5),
        ];
        let trace = Trace::new([0; 16], spans);
        assert_eq!(path(&trace), [(2, 10, 15), (1, 15, 18), (3, 18, 20)]);
        // Sorted by start: 2, 1, 3, 4.
        assert_eq!(self_times(&trace), [10, 3, 100, 5]);
        assert!(critical_path(&Trace::new([0; 16], Vec::new())).is_empty());
        let backwards = Trace::new([0; 16], vec![span(1, 0, 10, -5)]);
        assert!(critical_path(&backwards).is_empty());
        assert_eq!(self_times(&backwards), [0]);
    }
}
