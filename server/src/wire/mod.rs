//! How answers are written: numbers, JSON and protobuf, straight into the output, without a tree
//! between.

pub mod json;
pub mod number;
pub mod prometheus;
pub mod protobuf;
