//! Prints what the sample telemetry holds: `cargo run -p chronolith-datasets --example describe`.
//!
//! An argument gives the end in milliseconds since the epoch; without one the story ends now.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chronolith_datasets::{RunState, Telemetry, TelemetryOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let end_ms = match std::env::args().nth(1) {
        Some(argument) => argument.parse()?,
        None => i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
    };
    let began = Instant::now();
    let telemetry = Telemetry::new(TelemetryOptions::demo(end_ms));
    println!("simulated in {:?}", began.elapsed());

    let began = Instant::now();
    let samples: usize = telemetry.metrics().map(|batch| batch.sample_count()).sum();
    println!(
        "{} series, {samples} samples in {:?}\n",
        telemetry.series().len(),
        began.elapsed()
    );

    let began = Instant::now();
    let (logs, spans) = (telemetry.logs(), telemetry.spans());
    let events = logs.iter().filter(|line| !line.event.is_empty()).count();
    println!(
        "{} log records ({events} of them events), {} spans in {:?}\n",
        logs.len(),
        spans.len(),
        began.elapsed()
    );

    let mut series_by_family: BTreeMap<&str, usize> = BTreeMap::new();
    for series in telemetry.series() {
        *series_by_family
            .entry(telemetry.metadata()[series.family].name)
            .or_default() += 1;
    }
    for family in telemetry.metadata() {
        let count = series_by_family.get(family.name).copied().unwrap_or(0);
        println!(
            "{count:4}  {:<34} {:<10} {}",
            family.name,
            family.kind.as_str(),
            family.help
        );
    }

    let mut runs_by_pipeline: BTreeMap<&str, (usize, usize, usize, i64)> = BTreeMap::new();
    for run in telemetry.runs() {
        let (count, failed, running, duration_ms) =
            runs_by_pipeline.entry(run.pipeline).or_default();
        *count += 1;
        *failed += usize::from(run.state == RunState::Failed);
        *running += usize::from(run.state == RunState::Running);
        *duration_ms += run.duration_ms();
    }
    println!("\n{} runs", telemetry.runs().len());
    for (pipeline, (count, failed, running, duration_ms)) in runs_by_pipeline {
        let mean_seconds = duration_ms as f64 / 1e3 / count as f64;
        println!(
            "{pipeline:<20} {count:5} runs, {failed:3} failed, {running} running, {mean_seconds:6.1} s"
        );
    }
    let dollars: f64 = telemetry.runs().iter().map(|run| run.cost_dollars()).sum();
    println!("{dollars:.2} dollars for models\n");

    for incident in telemetry.incidents() {
        let minutes_ago = |at_ms: i64| (telemetry.end_ms() - at_ms) / 60_000;
        println!(
            "{} ({:?}): from {} to {} minutes before the end\n  {}",
            incident.name,
            incident.kind,
            minutes_ago(incident.start_ms),
            minutes_ago(incident.end_ms),
            incident.description
        );
        for affected in incident.affected {
            println!("  {}: {}", affected.selector(), affected.effect);
        }
    }
    Ok(())
}
