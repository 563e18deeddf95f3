//! What a query does with each line: a [`Pipeline`] is its compiled stages, a [`Runner`] runs entries
//! through them, one after the other, with buffers that all entries share.
//!
//! Parsers normally make a label of every field. Where only a few labels can matter (a metric query
//! that groups by few of them) or where a filter behind the parser throws most lines away, the parser
//! looks for those labels alone ([`Hints`]). The answer is the same; the property tests compare both.

mod extract;
mod fields;
mod filter;
mod hints;
mod json;
mod json_path;
pub mod labels;
mod line_fields;
mod logfmt;
mod runner;
mod stage;
#[cfg(test)]
mod tests;

pub use extract::{Decision, Sample, SampleExtractor};
pub use filter::FILTER_ERROR;
pub use hints::Hints;
pub use json::JSON_ERROR;
pub use labels::{BaseLabels, Category, Labels, NameId, Names, sanitized_name};
pub use line_fields::{json_fields, logfmt_fields};
pub use logfmt::LOGFMT_ERROR;
pub use runner::{Entry, Runner};
pub use stage::Pipeline;
