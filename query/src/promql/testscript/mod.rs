//! Conformance scripts: load series, run a query, compare the answer.
//!
//! The language is that of Prometheus' `promqltest`. A script is parsed whole (`parse`, `series`),
//! loads go into a fresh in-memory store (`storage`), and each case is run (`run`) up to a dozen
//! ways: plainly, frozen in time by `@` (`freeze`), and as a range query; all must give the
//! expected answer (`compare`). [`run_files`] is what `chronolith test promql` does.

mod compare;
mod engine;
mod freeze;
mod parse;
mod run;
mod series;
mod storage;

use std::io::{self, Write};
use std::path::Path;

pub use engine::run_files;
pub use parse::ScriptError;
pub use run::{Answer, Evaluator, EvaluatorFactory, Failure, ScriptReport, run_script};

/// What came of several scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Cases in all scripts.
    pub cases: usize,
    /// Cases whose plain run passed.
    pub plain: usize,
    /// Cases all of whose runs passed.
    pub passed: usize,
}

impl Totals {
    /// Cases that did not pass all runs.
    pub fn failed(&self) -> usize {
        self.cases - self.passed
    }
}

/// Runs the scripts in `files` and writes one line per failed case (`file:line: …`), then
/// `plain: N of M`, then `N passed, N failed`. A file that cannot be read or is no script counts as
/// one failed case.
///
/// # Errors
/// Only those of `out`.
pub fn run_files_with<P: AsRef<Path>>(
    files: &[P],
    over: EvaluatorFactory<'_>,
    out: &mut dyn Write,
) -> io::Result<Totals> {
    let mut totals = Totals::default();
    for file in files {
        let file = file.as_ref();
        let report = std::fs::read_to_string(file)
            .map_err(|e| e.to_string())
            .and_then(|text| run_script(&text, over).map_err(|e| e.to_string()));
        match report {
            Ok(report) => {
                totals.cases += report.cases;
                totals.plain += report.plain_passed();
                totals.passed += report.passed();
                for failure in &report.failures {
                    // One line per case, whatever an error message holds.
                    let message = failure.message.replace('\n', " ");
                    writeln!(out, "{}:{}: {message}", file.display(), failure.line)?;
                }
            }
            Err(message) => {
                totals.cases += 1;
                writeln!(out, "{}: {message}", file.display())?;
            }
        }
    }
    writeln!(out, "plain: {} of {}", totals.plain, totals.cases)?;
    writeln!(out, "{} passed, {} failed", totals.passed, totals.failed())?;
    Ok(totals)
}
