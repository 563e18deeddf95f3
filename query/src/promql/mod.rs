//! PromQL: the expression tree ([`ast`]), its canonical text ([`display`]), and the functions
//! that the language knows ([`functions`]).

pub mod ast;
pub mod display;
pub mod functions;
