//! How answers are written: numbers, JSON, YAML and protobuf, straight into the output, without a tree
//! between. And how times are read.

pub mod exposition_format;
pub mod json;
pub mod metric_family;
pub mod number;
pub mod prometheus;
pub mod protobuf;
pub mod time;
pub mod yaml;
