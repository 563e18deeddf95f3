//! How answers are written: numbers and JSON, straight into the output, without a tree between.

pub mod json;
pub mod number;
pub mod prometheus;
