//! Finding series: matchers, symbols, postings.

mod matcher;

pub use matcher::{MatchOp, Matcher};
