//! How spans of a trace stand to each other: the structural operators of TraceQL.
//!
//! Both sides are sets of places in the trace; one pass over the trace decides for all spans, whatever the
//! sizes of the sets. Orphans and roots have no siblings: what they share is not there.

use super::trace::Trace;
use crate::traceql::ast::{Relation, RelationMode};

/// Spans of one trace, by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanSet(Vec<bool>);

impl SpanSet {
    /// No spans of a trace with `len` spans.
    #[must_use]
    pub fn none(len: usize) -> Self {
        Self(vec![false; len])
    }

    /// Of a trace with `len` spans those at `places`.
    #[must_use]
    pub fn of(len: usize, places: &[u32]) -> Self {
        let mut set = Self::none(len);
        places.iter().for_each(|place| set.insert(*place));
        set
    }

    fn insert(&mut self, place: u32) {
        if let Some(is_in) = self.0.get_mut(place as usize) {
            *is_in = true;
        }
    }

    /// Whether a span is in it.
    #[must_use]
    pub fn has(&self, place: u32) -> bool {
        self.0.get(place as usize).copied().unwrap_or(false)
    }

    /// The places, ascending.
    #[must_use]
    pub fn places(&self) -> Vec<u32> {
        let places = self.0.iter().enumerate().filter(|(_, is_in)| **is_in);
        places.map(|(place, _)| place as u32).collect()
    }
}

/// The spans that `lhs relation rhs` gives, ascending.
#[must_use]
pub fn related(
    trace: &Trace,
    relation: Relation,
    mode: RelationMode,
    lhs: &SpanSet,
    rhs: &SpanSet,
) -> Vec<u32> {
    let stands = standing(trace, relation, lhs);
    let all = 0..trace.len() as u32;
    match mode {
        RelationMode::Match => all.filter(|s| rhs.has(*s) && stands.has(*s)).collect(),
        RelationMode::Negated => all.filter(|s| rhs.has(*s) && !stands.has(*s)).collect(),
        RelationMode::Union => {
            let reverse = standing(trace, opposite(relation), rhs);
            let is_in =
                |s: &u32| (rhs.has(*s) && stands.has(*s)) || (lhs.has(*s) && reverse.has(*s));
            all.filter(is_in).collect()
        }
    }
}

fn opposite(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// All spans that stand in the relation to some span of `to`.
fn standing(trace: &Trace, relation: Relation, to: &SpanSet) -> SpanSet {
    let mut found = SpanSet::none(trace.len());
    match relation {
        Relation::Child | Relation::Descendant => {
            // Parents come before their children, so a parent is decided when its children are.
            for span in trace.preorder() {
                let inherits = |parent: u32| {
                    to.has(parent) || (relation == Relation::Descendant && found.has(parent))
                };
                if trace.parent(*span).is_some_and(inherits) {
                    found.insert(*span);
                }
            }
        }
        Relation::Parent | Relation::Ancestor => {
            for span in trace.preorder().iter().rev() {
                let passes_on =
                    to.has(*span) || (relation == Relation::Ancestor && found.has(*span));
                if let Some(parent) = trace.parent(*span).filter(|_| passes_on) {
                    found.insert(parent);
                }
            }
        }
        Relation::Sibling => {
            for parent in trace.preorder() {
                let children = trace.children(*parent);
                let count = children.iter().filter(|child| to.has(**child)).count();
                for child in children {
                    if count > usize::from(to.has(*child)) {
                        found.insert(*child);
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::span;
    use super::*;
    use Relation::*;
    use RelationMode::*;

    /// 0 -> (1 -> (3, 4), 2 -> 5); 6 is an orphan.
    fn trace() -> Trace {
        let spans = vec![
            span(1, 0, 0, 9),
            span(2, 1, 1, 1),
            span(3, 1, 2, 1),
            span(4, 2, 3, 1),
            span(5, 2, 4, 1),
            span(6, 3, 5, 1),
            span(7, 99, 6, 1),
        ];
        Trace::new([0; 16], spans)
    }

    fn result(relation: Relation, mode: RelationMode, lhs: &[u32], rhs: &[u32]) -> Vec<u32> {
        let set = |places| SpanSet::of(7, places);
        related(&trace(), relation, mode, &set(lhs), &set(rhs))
    }

    #[test]
    fn relations_give_the_right_side() {
        let all = [0, 1, 2, 3, 4, 5, 6];
        assert_eq!(result(Child, Match, &[1], &all), [3, 4]);
        assert_eq!(result(Child, Match, &[1], &[4, 5]), [4]);
        assert_eq!(result(Parent, Match, &[4, 5], &all), [1, 2]);
        assert_eq!(result(Descendant, Match, &[0], &all), [1, 2, 3, 4, 5]);
        assert_eq!(result(Descendant, Match, &[1, 2], &all), [3, 4, 5]);
        assert_eq!(result(Ancestor, Match, &[3], &all), [0, 1]);
        assert_eq!(result(Sibling, Match, &[3], &all), [4]);
        assert_eq!(result(Sibling, Match, &[3, 4], &all), [3, 4]);
        assert_eq!(result(Sibling, Match, &[0], &all), [0; 0]);
    }

    #[test]
    fn negated_and_union_forms() {
        let all = [0, 1, 2, 3, 4, 5, 6];
        assert_eq!(result(Child, Negated, &[1], &all), [0, 1, 2, 5, 6]);
        assert_eq!(result(Descendant, Negated, &[0], &all), [0, 6]);
        // With nothing on the left every span of the right has no relation to it.
        assert_eq!(result(Sibling, Negated, &[], &[3, 4]), [3, 4]);
        assert_eq!(result(Child, Union, &[1, 2], &[4]), [1, 4]);
        assert_eq!(result(Ancestor, Union, &[4, 5], &[1]), [1, 4]);
        assert_eq!(result(Sibling, Union, &[3], &[4, 5]), [3, 4]);
    }
}
