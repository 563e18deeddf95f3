//! Conformance scripts: load lines, run a query, compare the answer.
//!
//! The language is that of Loki's `logqltest`: a script is parsed whole (`parse`), loads go into an
//! in-memory source, and each case is run and compared (`run`). Lists of queries in YAML, with what
//! they need of the data, are run too (`queries`): each must give an answer. [`run_files`] is what
//! `chronolith test logql` does.

mod parse;
mod queries;
mod run;

use std::io::{self, Write};
use std::path::Path;

/// What came of several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Cases that gave what was expected.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
}

/// Runs the cases of `files`; writes a line per failed case and a closing one.
///
/// # Errors
/// Only those of `out`.
///
/// # Panics
/// On a thread of an async runtime.
pub fn run_files<P: AsRef<Path>>(files: &[P], out: &mut dyn Write) -> io::Result<Totals> {
    let mut totals = Totals::default();
    for file in files {
        let path = file.as_ref();
        let name = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                totals.failed += 1;
                writeln!(out, "{name}: {error}")?;
                continue;
            }
        };
        let is_list = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let outcomes = if is_list {
            queries::run(&text)
        } else {
            run::run(&text)
        };
        for (line, outcome) in outcomes {
            match outcome {
                Ok(()) => totals.passed += 1,
                Err(error) => {
                    totals.failed += 1;
                    writeln!(
                        out,
                        "{name}:{line}: {}",
                        error.trim_end().replace('\n', " ")
                    )?;
                }
            }
        }
    }
    writeln!(out, "{} passed, {} failed", totals.passed, totals.failed)?;
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_say_what_fails() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("x.logqltest");
        let text = r#"
clear
load
  {app="a"} "v={{.i}}" @ 10s [repeat every 10s for 3] [metadata k="m"]  # note
  {app="b"} `raw "x"` @ 1m
eval instant at 60s sum(count_over_time({app=~".+"}[1m])) # a comment
  {} 4
eval range from 10s to 30s step 10s max_over_time({app="a"} | logfmt | unwrap v [10s])
  {app="a", k="m"} 0+1x2
eval instant at 60s 1 +
  expect fail msg: unexpected $end
eval instant at 60s count_over_time({app="c"}[1m])
  expect empty
eval instant at 60s count_over_time({app="a"}[1m])
  {app="a"} 3
eval instant at 60s 3
  4
"#;
        std::fs::write(&script, text).unwrap();
        let mut out = Vec::new();
        let totals = run_files(&[script], &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!((totals.passed, totals.failed), (4, 2), "{out}");
        assert!(
            out.ends_with("4 passed, 2 failed\n") && out.contains("x.logqltest:14: "),
            "{out}"
        );
    }

    /// The scripts and lists that are shared between implementations, where they are at hand.
    #[test]
    fn shared_scripts_pass() {
        let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
            Into::into,
        );
        let loki = shared.join("conformance/logs_traces/loki");
        let mut files = Vec::new();
        for folder in [
            "logqltest",
            "bench_queries/exhaustive",
            "bench_queries/fast",
            "bench_queries/regression",
        ] {
            let Ok(entries) = std::fs::read_dir(loki.join(folder)) else {
                continue;
            };
            files.extend(entries.filter_map(|entry| entry.ok().map(|e| e.path())));
        }
        if files.is_empty() {
            eprintln!("skipped: no scripts in {}", loki.display());
            return;
        }
        files.sort();
        let mut out = Vec::new();
        let totals = run_files(&files, &mut out).unwrap();
        assert_eq!(totals.failed, 0, "{}", String::from_utf8_lossy(&out));
    }
}
