//! Finding series and rows: matchers, postings, words, Bloom filters.

pub mod bloom;
mod compiled_regex;
mod matcher;
pub mod postings;
pub(crate) mod text_filter;
mod text_keys;

pub use matcher::{MatchOp, Matcher};
