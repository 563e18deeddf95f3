//! Which labels a parser need look for.

use super::labels::{EXTRACTED_SUFFIX, NameId, Names};
use super::stage::{Op, Pipeline};

/// The labels that can matter of those that parsers make, and as long as that holds.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The labels with their names, as keys of lines have them.
    pub(super) wanted: Vec<(NameId, Box<[u8]>)>,
    /// How many stages look at no other label: all of them, or those up to a filter.
    pub(super) stages: usize,
    /// Behind them nothing is left to be done.
    pub(super) complete: bool,
}

/// Whether the stage may run when parsers look for some labels only.
fn is_transparent(op: &Op) -> bool {
    matches!(
        op,
        Op::LineFilter(_) | Op::Json | Op::Logfmt(_) | Op::LabelFilter(_) | Op::Decolorize
    )
}

/// The labels, unless one of them may be a name that a parser gives for want of a free one.
pub(super) fn wanted(
    names: &Names,
    ids: impl Iterator<Item = NameId>,
) -> Option<Vec<(NameId, Box<[u8]>)>> {
    let mut wanted: Vec<(NameId, Box<[u8]>)> = Vec::new();
    for id in ids {
        let name = names.name(id);
        if name.ends_with(EXTRACTED_SUFFIX) {
            return None;
        }
        if wanted.iter().all(|(known, _)| *known != id) {
            wanted.push((id, name.as_bytes().into()));
        }
    }
    Some(wanted)
}

pub(super) fn is_parser(op: &Op) -> bool {
    matches!(op, Op::Json | Op::Logfmt(_))
}

pub(super) fn filter_names(ops: &[Op]) -> Vec<NameId> {
    let mut ids = Vec::new();
    for op in ops {
        if let Op::LabelFilter(filter) = op {
            filter.names(&mut |name| ids.extend(name));
        }
    }
    ids
}

impl Hints {
    /// For a pipeline of which only the labels `used` are looked at behind it. `None` if parsers must
    /// look for all labels.
    pub fn for_labels(pipeline: &Pipeline, used: &[NameId]) -> Option<Self> {
        let ops = &pipeline.ops;
        if !ops.iter().any(is_parser) || !ops.iter().all(is_transparent) {
            return None;
        }
        let ids = filter_names(ops).into_iter().chain(used.iter().copied());
        Some(Self {
            wanted: wanted(&pipeline.names, ids)?,
            stages: ops.len(),
            complete: true,
        })
    }

    /// For a pipeline all of whose labels are wanted in the end: entries that a filter refuses need
    /// not be parsed completely. `None` if there is no filter behind a parser.
    pub fn for_filters(pipeline: &Pipeline) -> Option<Self> {
        let ops = &pipeline.ops;
        let transparent = ops.iter().take_while(|op| is_transparent(op)).count();
        let last = ops[..transparent]
            .iter()
            .rposition(|op| matches!(op, Op::LabelFilter(_)))?;
        let ops = &ops[..=last];
        if !ops.iter().any(is_parser) {
            return None;
        }
        Some(Self {
            wanted: wanted(&pipeline.names, filter_names(ops).into_iter())?,
            stages: ops.len(),
            complete: false,
        })
    }
}
