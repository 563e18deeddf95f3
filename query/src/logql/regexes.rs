//! Regular expressions of queries: the syntax of RE2 as far as the `regex` crate shares it, with
//! bounds on what a pattern may cost. Faults are worded as Go words them.

/// Bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 8 << 20;
/// How deep groups may nest.
const NESTING_MAX: u32 = 200;
/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 16 << 10;

fn reason(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    // The crate draws the pattern with a caret below; the last line holds the reason.
    let last = text.lines().last().unwrap_or("");
    let last = last.trim_start_matches("error: ");
    format!("error parsing regexp: {last}: `{pattern}`")
}

fn check_length(pattern: &str) -> Result<(), String> {
    if pattern.len() <= PATTERN_BYTES_MAX {
        return Ok(());
    }
    let length = pattern.len();
    Err(format!(
        "error parsing regexp: {length} bytes, at most {PATTERN_BYTES_MAX} are allowed"
    ))
}

/// A pattern over the bytes of a line, anchored nowhere.
///
/// # Errors
/// A pattern that is none, or costs too much.
pub(super) fn of_lines(pattern: &str) -> Result<regex::bytes::Regex, String> {
    check_length(pattern)?;
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| reason(pattern, &error))
}

/// A pattern over the whole of a label's value.
///
/// # Errors
/// A pattern that is none, or costs too much.
pub(super) fn of_values(pattern: &str) -> Result<regex::bytes::Regex, String> {
    // Alone it must be a pattern, so that parentheses in it cannot close those around it.
    of_lines(pattern)?;
    regex::bytes::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX + 2)
        .build()
        .map_err(|error| reason(pattern, &error))
}
