//! Regular expressions of matchers and `label_replace`: fully anchored, `.` matches newlines,
//! bounded in size. Those of matchers are the engine's, which keeps compiled ones for the next query;
//! here are Prometheus' words for what is wrong with others.

use chronolith_engine::limits::{
    REGEX_COMPILED_BYTES_MAX, REGEX_NESTING_MAX, REGEX_PATTERN_BYTES_MAX,
};
use chronolith_engine::{MatchOp, Matcher};
use regex::{Regex, RegexBuilder};

/// The compiled form of a regular expression may take this many bytes.
pub const MAX_COMPILED_BYTES: usize = REGEX_COMPILED_BYTES_MAX;
/// Bytes of a pattern that are shown in a message.
const SHOWN_BYTES_MAX: usize = 256;

/// The engine's matcher with a regular expression.
pub(crate) fn matcher(name: &str, negated: bool, pattern: &str) -> Result<Matcher, String> {
    let op = match negated {
        true => MatchOp::NotRegex,
        false => MatchOp::Regex,
    };
    Matcher::new(name, op, pattern).map_err(|refused| match compile_anchored(pattern) {
        Err(message) => message,
        Ok(_) => format!("error parsing regexp: {refused}"),
    })
}

/// Compiles `pattern` so that it matches only whole texts.
pub fn compile_anchored(pattern: &str) -> Result<Regex, String> {
    let refuse = |reason: &str| {
        let shown = pattern
            .char_indices()
            .take_while(|(at, _)| *at < SHOWN_BYTES_MAX);
        let shown: String = shown.map(|(_, c)| c).collect();
        let rest = if shown.len() < pattern.len() {
            "…"
        } else {
            ""
        };
        Err(format!("error parsing regexp: {reason}: `{shown}{rest}`"))
    };
    if pattern.len() > REGEX_PATTERN_BYTES_MAX {
        return refuse("expression too large");
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED_BYTES)
            .nest_limit(REGEX_NESTING_MAX + 2)
            .build()
    };
    // Compiled alone first: `a)(b` must not become valid by the parentheses around it.
    match build(pattern).and_then(|_| build(&format!("^(?s:{pattern})$"))) {
        Ok(regex) => Ok(regex),
        Err(regex::Error::CompiledTooBig(_)) => refuse("expression too large"),
        Err(error) => {
            // The last line of the long form says what is wrong; the others draw it.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            refuse(reason.strip_prefix("error: ").unwrap_or(reason))
        }
    }
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
