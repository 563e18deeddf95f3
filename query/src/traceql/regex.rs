//! Regular expressions of TraceQL: anchored at both ends, `.` matches line ends, as in Tempo.

use ::regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// Compiles an expression that must match the whole text.
///
/// # Errors
/// Why it is none, or that it is too large.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| error.to_string())
}
