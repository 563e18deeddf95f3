//! The recent, mutable part of the store.
//!
//! - [`series_table`] turns label sets into slots and [`crate::model::SeriesRef`]s, and finds them
//!   again by hash; it outlives seals.
//! - [`postings`] indexes the series of one tenant by label and keeps the texts of their labels.
//! - [`data`] holds the rows of one *generation* of the head. Sealing freezes the active generation
//!   and starts an empty one, so that ingest goes on; readers hold generations by `Arc`.
//! - [`series_data`] is one series' samples inside a generation.
//! - [`derived`] holds the derived rows of a generation, apart from what was received.
//!
//! Invariants: rows are applied by one thread at a time, in the order of the log; a row of a later
//! generation arrived later; within a generation a later run's sample arrived later than the same
//! time's sample of an earlier run.

pub(crate) mod data;
pub(crate) mod derived;
pub(crate) mod exemplars;
pub(crate) mod metadata;
pub(crate) mod newcomers;
pub(crate) mod pair_arena;
pub(crate) mod postings;
pub(crate) mod raw_keys;
pub(crate) mod rows;
pub(crate) mod seal;
pub(crate) mod seal_derived;
pub(crate) mod seal_rows;
pub(crate) mod series_data;
pub(crate) mod series_table;
pub(crate) mod sorted_series;
pub(crate) mod tenant;
