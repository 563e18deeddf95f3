//! Regular expressions of matchers and `label_replace`: fully anchored, `.` matches newlines,
//! bounded in size.

use regex::{Regex, RegexBuilder};

/// The compiled form of a regular expression may take this many bytes.
pub const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Compiles `pattern` so that it matches only whole texts.
pub fn compile_anchored(pattern: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        // Compiled alone first: `a)(b` must not become valid by the parentheses around it.
        RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED_BYTES)
            .build()?;
        RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(MAX_COMPILED_BYTES)
            .build()
    };
    build(pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("error parsing regexp: expression needs more than {limit} bytes when compiled")
        }
        error => {
            // The last line of the long form says what is wrong; the others draw it.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("error parsing regexp: {reason}: `{pattern}`")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_bounded() {
        let regex = compile_anchored("a|b.").unwrap();
        assert!(regex.is_match("a") && regex.is_match("b\n") && !regex.is_match("ab"));
        assert!(
            compile_anchored("a)(b")
                .unwrap_err()
                .starts_with("error parsing regexp: ")
        );
        assert!(compile_anchored("(((a{100}){100}){100}){100}").is_err());
        assert!(
            compile_anchored("(x")
                .unwrap_err()
                .contains("unclosed group")
        );
    }
}
