//! Encodings: pure bytes in, bytes out.

pub mod varint;
