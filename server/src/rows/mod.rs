//! Log records and spans between a protocol's decoder and the store: what all those protocols share.
//!
//! A decoder reads a request into one [`LogRow`] or [`SpanRow`] after the other and gives each to a
//! [`LogSink`] or [`SpanSink`], which holds it against the limits and appends it to the batch of the
//! request. [`take`] makes one durable commit of the batch. Streams are found by the bytes in which a
//! protocol names them ([`StreamCache`]).
//!
//! **Invariants**: one request is one commit; a row is stored whole or counted and named as refused;
//! nothing is allocated by a count or length that a client claims.

pub mod fields;
pub mod ids;
pub mod labels;
mod row;
mod sink;
mod streams;
pub mod take;
mod value;

pub use row::{EventRow, LinkRow, LogRow, SpanRow};
pub use sink::{LogSink, Reason, RowLimits, SinkContext, SpanSink, Taken};
pub use streams::{StreamCache, TooManyStreams};
pub use value::{Pairs, Value};
