//! PromQL: text to tree ([`parser`]), the tree ([`ast`]), its canonical text ([`display`]), what depends
//! on the range of the evaluation ([`resolve`]), the functions ([`functions`]) and the arithmetic of
//! histograms ([`histogram`]).

pub mod almost;
pub mod ast;
pub mod display;
pub mod error;
pub mod features;
pub mod functions;
pub mod histogram;
mod lexer;
pub mod number;
pub mod parser;
pub mod pattern;
pub mod resolve;
