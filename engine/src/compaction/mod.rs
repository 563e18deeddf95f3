//! Fewer, larger, final segments: pure planning, thin doing.
//!
//! - [`plan`] decides from metadata alone which segments to merge, rewrite or drop.
//! - [`merge`], [`merge_logs`] and [`merge_spans`] stream segments into one: duplicates resolved, deletions applied, short chunks joined.
//!
//! Invariant: the segments of one merge are neighbours in arrival order among those of their group,
//! and the output takes the highest generation of its inputs. So arrival order between segments is
//! what it was, and a deletion still hides exactly the rows that arrived before it.

pub(crate) mod merge;
pub(crate) mod merge_logs;
pub(crate) mod merge_spans;
pub(crate) mod plan;
