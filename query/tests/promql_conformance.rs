//! The conformance scripts and the compliance query list, where they are at hand: in the directory
//! that `CHRONOLITH_SHARED` names, else in `../shared` beside the workspace.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use chronolith_query::promql::features::Features;
use chronolith_query::promql::parser::parse;
use chronolith_query::promql::testscript::run_files;

/// The directory of the scripts, or a remark that it is not there.
fn scripts() -> Option<PathBuf> {
    let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let scripts = shared.join("conformance/promql");
    if scripts.is_dir() {
        return Some(scripts);
    }
    // Past the test runner's capture, which would keep it to itself.
    let remark = format!("SKIPPED: no conformance scripts in {}\n", scripts.display());
    let _ = std::io::stderr().write_all(remark.as_bytes());
    None
}

#[test]
fn compliance_queries_parse() {
    let Some(scripts) = scripts() else { return };
    let list = std::fs::read_to_string(scripts.join("compliance_queries.txt")).unwrap();
    let mut queries = 0;
    for (verdict, query) in list.lines().filter_map(|line| line.split_once('\t')) {
        queries += 1;
        let parsed = parse(query, &Features::conformance());
        // The other queries to refuse are refused at run time.
        let refused = verdict == "!fail" && query == "{__name__=~\".*\"}";
        assert_eq!(parsed.is_err(), refused, "{query}");
        if let Ok(expr) = parsed {
            let text = expr.to_string();
            let again = parse(&text, &Features::conformance());
            assert_eq!(again.map(|e| e.to_string()), Ok(text), "{query}");
        }
    }
    assert!(queries > 300);
}

#[test]
fn scripts_pass() {
    let Some(scripts) = scripts() else { return };
    let entries = std::fs::read_dir(&scripts)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    let mut out = Vec::new();
    let totals = run_files(&files, &mut out).unwrap();
    let report = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(totals.failed(), 0, "{report}");
}
