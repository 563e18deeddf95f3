//! How cost grows: with active series, with history, with churn. Measures what issue 3 promises and
//! draws it into `docs/img/`.
//!
//! ```text
//! cargo bench -p chronolith-benches --bench growth
//! ```
//!
//! Every measurement runs in a process of its own, so that one does not inherit the memory of
//! another. Figures are kept in `growth.tsv` beside the charts: a part that is measured alone
//! replaces its own lines only. Environment:
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `GROWTH_PARTS` | `ingest,restart,history,churn,pacing` | what to measure; empty: only draw |
//! | `GROWTH_SERIES` | `10000,100000,1000000` | active series: `ingest`; the last one also `restart` |
//! | `GROWTH_SCRAPES` | `150` | scrapes per series: `ingest`; a third of them in the log: `restart` |
//! | `GROWTH_DAYS` | `1,7,30,90` | days of history |
//! | `GROWTH_HISTORY_HOSTS` | `7` | machines with history, 142 series each |
//! | `GROWTH_CHURNED` | `1000000,3000000,10000000` | churned series, a million a day |
//! | `GROWTH_PACING_SECONDS` | `30` | load per pacing measurement |
//! | `GROWTH_PACING_SERIES` | `10000,1000000` | active series under that load |
//! | `GROWTH_DIR` | system's | where stores are made (about 10 GB) |
//! | `GROWTH_OUT` | `docs/img` | where figures and charts go; `-` writes none |
//!
//! Without `--bench` (under `cargo test`) small sizes prove that it runs, and nothing is written.

mod churn;
mod fleet;
mod history;
mod ingest;
mod pacing;
mod report;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use report::Figures;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Names the measurement that a child process makes: part and size.
const CHILD: &str = "GROWTH_CHILD";

/// A list of numbers from the environment.
fn numbers(name: &str, full: &[usize], small: &[usize]) -> Vec<usize> {
    match std::env::var(name) {
        Ok(list) => list
            .split(',')
            .filter_map(|n| n.trim().parse().ok())
            .collect(),
        Err(_) if is_measured() => full.to_vec(),
        Err(_) => small.to_vec(),
    }
}

/// One number from the environment.
fn number(name: &str, full: usize, small: usize) -> usize {
    numbers(name, &[full], &[small])
        .first()
        .copied()
        .unwrap_or(full)
}

/// Whether this is more than a test that it runs.
fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A new directory for a store.
fn store_dir() -> std::io::Result<tempfile::TempDir> {
    match std::env::var_os("GROWTH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
}

/// Hands a figure to the parent process.
fn figure(name: &str, x: f64, y: f64) {
    println!("figure\t{name}\t{x}\t{y}");
}

fn run_child(part: &str, size: usize) -> Outcome {
    match part {
        "ingest" => ingest::run(size),
        "restart" => ingest::restart(size),
        "history" => history::run(),
        "churn" => churn::run(),
        "churn-open" => churn::open(size),
        "pacing" => pacing::run(size),
        other => Err(format!("no part {other}").into()),
    }
}

/// Measures a part in a process of its own, prints what it prints and keeps its figures.
fn measure(part: &str, size: usize, figures: &mut Figures) -> Outcome {
    println!("\n== {part} {size}");
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(CHILD, format!("{part} {size}"))
        .stdout(Stdio::piped());
    if is_measured() {
        command.arg("--bench");
    }
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("bug: standard output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if !figures.take(&line) {
            println!("{line}");
        }
        std::io::stdout().flush()?;
    }
    if child.wait()?.success() {
        return Ok(());
    }
    Err(format!("{part} {size} failed").into())
}

fn main() -> Outcome {
    if let Ok(child) = std::env::var(CHILD) {
        let (part, size) = child.split_once(' ').ok_or("part and size")?;
        return run_child(part, size.parse()?);
    }
    let out = std::env::var("GROWTH_OUT").unwrap_or_else(|_| {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/img");
        if is_measured() { docs } else { "-" }.to_owned()
    });
    let mut figures = Figures::load(&out);
    let parts = std::env::var("GROWTH_PARTS")
        .unwrap_or_else(|_| "ingest,restart,history,churn,pacing".to_owned());
    let series = fleet::series_counts();
    for part in parts.split(',').filter(|part| !part.is_empty()) {
        figures.forget(part);
        match part {
            "ingest" => {
                for count in &series {
                    measure(part, *count, &mut figures)?;
                }
            }
            "restart" => {
                if let Some(count) = series.last() {
                    measure(part, *count, &mut figures)?;
                }
            }
            "pacing" => {
                for count in numbers("GROWTH_PACING_SERIES", &[10_000, 1_000_000], &[300]) {
                    measure(part, count, &mut figures)?;
                }
            }
            other => measure(other, 0, &mut figures)?,
        }
        figures.store(&out)?;
    }
    figures.store(&out)?;
    figures.print();
    Ok(())
}
