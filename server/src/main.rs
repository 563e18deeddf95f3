//! The `chronolith` binary.
fn main() {}
