//! Runs of pipelines and workflows: entities folded from the events and spans that arrive while they
//! live.
//!
//! Nothing has to be declared. A log record or a span that carries a run id ([`RunNames`] says under
//! which attributes) is an [`Observation`]; [`Run`] folds them in any order of arrival, since child
//! spans end before their root and collectors batch as they like. A [`RunBook`] keeps the recent runs
//! of one tenant with the history of their pipelines: what is usual there says how far a run has come,
//! whether it is slow, and when silence means that it is lost. A [`RunReader`] makes observations of
//! rows, as they arrive or as [`StoredRuns`] reads them back.
//!
//! Except for the last, everything here is plain data and arithmetic: no clock, no store. Times are
//! nanoseconds since the epoch. The same fold serves what arrives now and what is read back.

mod book;
mod fold;
mod history;
mod names;
mod rows;
mod stored;

pub use book::{BookLimits, RunBook, RunFilter, Schedule};
pub use fold::{Run, RunState, Stage};
pub use history::{PipelineHistory, Usual};
pub use names::{
    Collected, Field, Observation, ObservedEvent, ObservedSpan, RUN_ID_BYTES_MAX, RunFields,
    RunNames, Seen, Slot, Value,
};
pub use rows::RunReader;
pub use stored::{BookAccess, StoredRuns, trace_id};
