//! `cargo xtask timings`: what a newcomer waits for. Builds the server from nothing into a
//! directory of its own, and prints wall time, processor time, size and number of crates.

use std::path::Path;
use std::time::Instant;

use crate::step::{Report, Step};
use crate::workspace::Workspace;

/// Linux counts the processor time of children in these.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn run(workspace: &Workspace) -> Report {
    let mut report = Report::new();
    let target = std::env::temp_dir().join(format!("chronolith-timings-{}", std::process::id()));
    let (began, cpu_before) = (Instant::now(), children_cpu_seconds());
    let step = Step::cargo(workspace, "cold build")
        .arguments(["build", "--package", "chronolith-server", "--quiet"])
        .environment("CARGO_TARGET_DIR", &target);
    report.run(step);
    let wall_seconds = began.elapsed().as_secs_f64();
    println!("wall       {wall_seconds:8.1} s");
    if let (Some(before), Some(after)) = (cpu_before, children_cpu_seconds()) {
        println!("processor  {:8.1} s", after - before);
    }
    println!(
        "target     {:8.1} MiB",
        directory_bytes(&target) as f64 / 1024.0 / 1024.0
    );
    if let Some(lock) = workspace.text("Cargo.lock") {
        let crates = lock.lines().filter(|line| *line == "[[package]]").count();
        println!("packages   {crates:8} in Cargo.lock");
    }
    if let Ok(cores) = std::thread::available_parallelism() {
        println!("cores      {cores:8}");
    }
    if let Err(error) = std::fs::remove_dir_all(&target) {
        eprintln!("{}: {error}", target.display());
    }
    report
}

/// Processor time of all children that have ended, from `/proc`; none on other systems.
fn children_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses, which may hold spaces; the 16th and 17th are
    // the times, thus the 14th and 15th after it.
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(13);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Bytes of all files below a directory.
fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
