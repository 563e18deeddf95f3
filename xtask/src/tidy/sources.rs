//! Rules for the text of files: no machine paths, a headline, a sensible length.

/// Directories of the machines that this is developed on; split, so that this file obeys the rule.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/ro", "ot/"),
];

/// Lines before the tests at which a file holds more than one idea.
const LINES_MAX: usize = 1_000;

/// Files that may be longer, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Finds strings that only make sense on the machine of one developer.
pub(super) fn machine_paths(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            if line.contains(path) {
                findings.push(format!("{file}:{}: machine path {path}", index + 1));
            }
        }
    }
    findings
}

/// Checks the headline and the length of a Rust file.
pub(super) fn rust_file(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!(
            "{file}:1: should open with `//!`: what it is and why it exists"
        ));
    }
    let length = lines_before_tests(text);
    let is_excused = LONG_FILES.iter().any(|(excused, _)| *excused == file);
    let is_test = file.contains("/tests/");
    if length > LINES_MAX && !is_excused && !is_test {
        findings.push(format!(
            "{file}: {length} lines before its tests, more than {LINES_MAX}: split it by idea"
        ));
    }
    findings
}

/// Lines up to the unit tests at the end of a file.
fn lines_before_tests(text: &str) -> usize {
    let mut previous = "";
    for (index, line) in text.lines().enumerate() {
        if previous == "#[cfg(test)]" && line.starts_with("mod ") {
            return index - 1;
        }
        previous = line;
    }
    text.lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_files_need_a_headline_and_an_end() {
        assert!(rust_file("a.rs", "//! A.\n").is_empty());
        assert_eq!(rust_file("a.rs", "use std;\n").len(), 1);
        let long = format!("//! A.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(rust_file("a.rs", &long).len(), 1);
        let mostly_tests = format!(
            "//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "\n".repeat(2_000)
        );
        assert!(rust_file("a.rs", &mostly_tests).is_empty());
        assert_eq!(lines_before_tests(&mostly_tests), 1);
    }

    #[test]
    fn machine_paths_are_found() {
        let text = format!("fine\n{}main\n", MACHINE_PATHS[0]);
        assert_eq!(machine_paths("a.md", &text).len(), 1);
        assert!(machine_paths("a.md", "target/debug and src/work.rs\n").is_empty());
    }
}
