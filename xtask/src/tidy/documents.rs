//! Rules for the documents: they exist, their links lead somewhere, they quote current versions.

use crate::workspace::Workspace;

/// What every release carries.
const REQUIRED: [&str; 8] = [
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/operations.md",
    "docs/formats/README.md",
];

/// Finds documents that are missing.
pub(super) fn required(files: &[String]) -> Vec<String> {
    REQUIRED
        .into_iter()
        .filter(|required| !files.iter().any(|file| file == required))
        .map(|required| format!("{required}: missing"))
        .collect()
}

/// Finds relative links of a Markdown file that lead nowhere.
pub(super) fn broken_links(workspace: &Workspace, file: &str, text: &str) -> Vec<String> {
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut findings = Vec::new();
    for (index, line) in prose(text) {
        for link in links(line) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !workspace.root.join(directory).join(path).exists() {
                findings.push(format!("{file}:{}: broken link to {path}", index + 1));
            }
        }
    }
    findings
}

/// The lines outside of fenced code, with their indexes.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        !in_code
    })
}

/// Targets of the inline links in a line: `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .collect()
}

/// Format pages must quote the version that the code writes, as `version N` or in a table row
/// `| version | N |`.
pub(super) fn format_versions(workspace: &Workspace, files: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    let sources = files
        .iter()
        .filter(|file| file.starts_with("engine/src/") && file.ends_with(".rs"));
    for file in sources {
        let Some(text) = workspace.text(file) else {
            continue;
        };
        for (constant, version) in version_constants(&text) {
            let page = format_page(file);
            let Some(document) = workspace.text(page) else {
                findings.push(format!("{file}: {constant} has no page {page}"));
                continue;
            };
            if !quotes_version(&document, &version) {
                findings.push(format!(
                    "{page}: does not quote version {version} ({constant})"
                ));
            }
        }
    }
    findings
}

/// The page that describes the format of a source file.
fn format_page(source: &str) -> &'static str {
    if source.contains("/wal/") {
        "docs/formats/wal.md"
    } else if source.contains("manifest") {
        "docs/formats/manifest.md"
    } else {
        "docs/formats/segment.md"
    }
}

/// Constants such as `pub(crate) const FORMAT_VERSION: u16 = 1;` with their values.
fn version_constants(source: &str) -> Vec<(String, String)> {
    source
        .lines()
        .filter_map(|line| {
            let (_, declaration) = line.trim_start().split_once("const ")?;
            let (name, rest) = declaration.split_once(':')?;
            let (_, value) = rest.split_once('=')?;
            let value = value.trim().trim_end_matches(';').trim();
            let is_version = name == "VERSION" || name.ends_with("_VERSION");
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            (is_version && is_number).then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// True if the page says `version N`, whatever stands between the words in tables and code.
fn quotes_version(document: &str, version: &str) -> bool {
    document.lines().any(|line| {
        let words: Vec<&str> = line
            .split(|character: char| !character.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let says_version = words
            .iter()
            .any(|word| word.eq_ignore_ascii_case("version"));
        says_version && words.contains(&version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_code_are_found() {
        let text = "see [a](b.md) and [c](d/e.md#f \"title\")\n```\n[x](y)\n```\n";
        let found: Vec<&str> = prose(text).flat_map(|(_, line)| links(line)).collect();
        assert_eq!(found, ["b.md", "d/e.md#f"]);
    }

    #[test]
    fn versions_are_read_from_code_and_pages() {
        let source = "pub(crate) const FORMAT_VERSION: u16 = 3;\nconst NAME: &str = \"x\";\n";
        let expected = [("FORMAT_VERSION".to_owned(), "3".to_owned())];
        assert_eq!(version_constants(source), expected);
        assert!(quotes_version("| 4 | 2 | u16 | version | 3 |", "3"));
        assert!(quotes_version("This page describes version 3.", "3"));
        assert!(!quotes_version("This page describes version 2.", "3"));
    }
}
