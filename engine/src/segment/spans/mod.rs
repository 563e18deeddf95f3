//! Segments of spans, format version 4: spans trace by trace, in blocks of typed columns.
//!
//! Spans are sorted by their trace's first start in the segment, the trace's id, their own start, and
//! arrival. So a trace is read from one place, a range of time still passes over blocks, and a parent is
//! a distance in rows. What spans of one program point share stands once per block, in their *class*
//! ([`sets_builder`]); columns hold what differs. `docs/formats/segment.md` describes every byte.
//!
//! Invariants:
//! - Rows of a trace are contiguous; only a trace that is longer than a block lies in several.
//! - Whatever a span was sent with comes back: order of attributes, repeats, types, exact times.
//! - A scan looks at the directory, the filters and the table of traces before it touches a block, and
//!   decodes of a block only the columns and, where few rows are wanted, the rows it needs.

mod block_builder;
mod block_reader;
mod builder;
mod columns;
mod directory;
mod fields;
mod filter;
mod old;
mod overflow;
mod reader;
mod sets;
mod sets_builder;
mod size;
mod stream_table;
mod text;
mod traces;
mod values;
pub(super) mod verify;
mod wanted;

pub use builder::{SpanBuildOptions, SpanBuilder, sort_spans};
pub use reader::{SpanBlockRef, SpanReader};

#[cfg(test)]
pub(super) mod tests;
