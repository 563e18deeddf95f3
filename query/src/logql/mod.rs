//! LogQL: text to tree ([`parser`]), the tree ([`ast`]), its canonical text ([`display`]) and the one
//! that people read ([`pretty`]); what is done with each line ([`pipeline`]); and the evaluator
//! ([`eval`]), which shares the step vectors and operators of PromQL.

pub mod ast;
pub mod display;
pub mod error;
pub mod eval;
mod ip;
mod lexer;
pub mod parser;
mod pattern;
pub mod pipeline;
pub mod pretty;
mod regexes;
mod template;
pub mod testscript;
pub mod units;
