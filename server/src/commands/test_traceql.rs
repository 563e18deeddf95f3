//! `test traceql FILE…`: queries whose verdict is known.
//!
//! A file is YAML: groups of texts, named after what becomes of them. Texts of `valid` parse and check,
//! those of `parse_fails` are no queries, those of `validate_fails` have types that do not fit, those of
//! `unsupported` mean something that is not evaluated. Other groups are passed over.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use chronolith_query::traceql::{self, FaultKind};

const GROUPS: [&str; 4] = ["valid", "parse_fails", "validate_fails", "unsupported"];

/// Prints the cases that fail and the totals; the exit code is 1 if there is such a case.
///
/// # Errors
/// A file that cannot be read or is no such list.
pub(super) fn run(files: &[PathBuf]) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let groups: BTreeMap<String, Vec<String>> =
            serde_saphyr::from_str(&text).with_context(|| format!("{name}: no list of queries"))?;
        for (group, queries) in groups {
            if !GROUPS.contains(&group.as_str()) {
                continue;
            }
            for query in queries {
                match mismatch(&group, &query) {
                    None => passed += 1,
                    Some(found) => {
                        failed += 1;
                        writeln!(out, "{name}: {query:?} of {group}: {found}")?;
                    }
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(u8::from(failed > 0))
}

/// What became of a query, if that is not what its group says.
fn mismatch(group: &str, query: &str) -> Option<String> {
    let (verdict, words) = match traceql::parse(query) {
        Ok(_) => ("valid", "is valid".to_owned()),
        Err(error) => {
            let verdict = match error.kind {
                FaultKind::Parse => "parse_fails",
                FaultKind::Invalid => "validate_fails",
                FaultKind::Unsupported => "unsupported",
            };
            (verdict, error.to_string())
        }
    };
    (verdict != group).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_compared_with_the_group() {
        assert_eq!(mismatch("valid", "{ .a = 1 }"), None);
        assert_eq!(mismatch("parse_fails", "{ .a = }"), None);
        assert_eq!(mismatch("validate_fails", "{ name = 1 }"), None);
        assert_eq!(mismatch("unsupported", "{ parent.a = 1 }"), None);
        assert_eq!(mismatch("parse_fails", "{}").unwrap(), "is valid");
        assert!(mismatch("valid", "{").unwrap().starts_with("parse error"));
    }
}
