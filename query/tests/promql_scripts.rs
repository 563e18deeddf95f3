//! Our own scripts, in `scripts` beside this file: what the conformance scripts do not ask.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use chronolith_query::promql::testscript::run_files;

#[test]
fn own_scripts_pass() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = std::fs::read_dir(scripts).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut out = Vec::new();
    let totals = run_files(&files, &mut out).unwrap();
    let report = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(totals.failed(), 0, "{report}");
}
