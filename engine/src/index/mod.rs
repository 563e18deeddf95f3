//! Finding series and rows: matchers, postings, token filters, trace ids.

mod matcher;
pub mod postings;

pub use matcher::{MatchOp, Matcher};
