//! The project's commands, in Rust: `cargo xtask COMMAND` (an alias in `.cargo/config.toml`).
//!
//! Uses the standard library only, so that the first command of a fresh clone starts in seconds.
//! `check` is what continuous integration runs; everything it does can be run by hand with the
//! command lines it prints.

#![forbid(unsafe_code)]

mod check;
mod features;
mod step;
mod tidy;
mod timings;
mod workspace;

use std::process::ExitCode;

use step::{Report, Step};
use workspace::Workspace;

const USAGE: &str = "\
cargo xtask COMMAND

  check [--quick]       format, tidy, deny, tests, doc tests, clippy; --quick: format, tidy, clippy
  tidy                  house rules that no other tool checks
  fuzz-smoke [SECONDS]  mutates the fuzz corpus for this long (default 60) in every target
  bench [FILTER]        micro benchmarks whose name contains FILTER
  timings               builds the server from nothing and prints what it took
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let workspace = match Workspace::find() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("xtask: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = match arguments.as_slice() {
        ["check"] => check::full(&workspace),
        ["check", "--quick"] => check::quick(&workspace),
        ["tidy"] => check::tidy_only(&workspace),
        ["fuzz-smoke"] => fuzz_smoke(&workspace, "60"),
        ["fuzz-smoke", seconds] if seconds.parse::<u32>().is_ok() => {
            fuzz_smoke(&workspace, seconds)
        }
        ["bench"] => bench(&workspace, None),
        ["bench", filter] => bench(&workspace, Some(filter)),
        ["timings"] => timings::run(&workspace),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    report.finish()
}

/// Runs the seeded mutation test of every fuzz target for a given time.
fn fuzz_smoke(workspace: &Workspace, seconds: &str) -> Report {
    let mut report = Report::new();
    let step = Step::cargo(workspace, "fuzz smoke")
        .arguments(["test", "--package", "chronolith-fuzz", "--", "--nocapture"])
        .environment("CHRONOLITH_FUZZ_SECONDS", seconds);
    report.run(step);
    report
}

fn bench(workspace: &Workspace, filter: Option<&str>) -> Report {
    let mut report = Report::new();
    let mut step =
        Step::cargo(workspace, "bench").arguments(["bench", "--package", "chronolith-benches"]);
    if let Some(filter) = filter {
        step = step.arguments(["--", filter]);
    }
    report.run(step);
    report
}
