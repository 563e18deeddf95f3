//! PromQL: text to tree ([`parser`]), the tree ([`ast`]) and its canonical text ([`display`]), and
//! the functions that the language knows ([`functions`]).

pub mod ast;
pub mod display;
pub mod error;
pub mod features;
pub mod functions;
mod lexer;
pub mod number;
pub mod parser;
pub mod pattern;
