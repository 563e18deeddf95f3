//! The capacity set: when generated volumes pass their threshold.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use chronolith_analysis::forecast::breach::{Breach, BreachOptions, time_to_breach};

use crate::table::series_values;

/// How far ahead a breach counts, in hours.
const HORIZON_HOURS: usize = 720;

/// Writes `OUT/capacity_synth.csv` with series, breach_h, lo, hi; -1 is not within the horizon.
pub(crate) fn run(datasets: &Path, out: &Path) -> Result<()> {
    let folder = datasets.join("forecast");
    let data = folder.join("capacity_synth.parquet");
    if !data.exists() {
        println!("capacity_synth: {} is not there, skipped", data.display());
        return Ok(());
    }
    let truth_path = folder.join("capacity_synth_truth.csv");
    let truth = truths(&std::fs::read_to_string(&truth_path)?)
        .with_context(|| format!("cannot read {}", truth_path.display()))?;
    let mut text = String::from("series,breach_h,lo,hi\n");
    let mut tally = Tally::default();
    for (name, values) in series_values(&data)? {
        let Some((_, threshold, breach)) = truth.iter().find(|(other, ..)| *other == name) else {
            continue;
        };
        let options = BreachOptions::new(*threshold, HORIZON_HOURS).with_step_seconds(3_600.0);
        let found = time_to_breach(&values, &options).with_context(|| name.clone())?;
        let hours =
            |point: Option<usize>, never: i64| point.map_or(never, |hours| hours.max(1) as i64);
        let never_late = 10 * HORIZON_HOURS as i64;
        writeln!(
            text,
            "{name},{},{},{}",
            hours(found.at, -1),
            hours(found.earliest, never_late),
            hours(found.latest, never_late)
        )?;
        tally.add(&found, *breach);
    }
    std::fs::write(out.join("capacity_synth.csv"), text)?;
    println!(
        "capacity_synth: {} volumes, within 20 % {:.3}, false {:.3}, in the band {:.3}",
        tally.count,
        tally.hits / tally.count as f64,
        tally.alarms / tally.quiet.max(1.0),
        tally.inside / tally.told.max(1.0)
    );
    Ok(())
}

/// Series, threshold, and the hour of the breach (not positive: none).
fn truths(text: &str) -> Result<Vec<(String, f64, f64)>> {
    let line = |line: &str| -> Result<(String, f64, f64)> {
        let fields: Vec<&str> = line.split(',').collect();
        let [name, threshold, breach] = fields[..] else {
            anyhow::bail!("{line:?} has not three fields");
        };
        Ok((name.to_owned(), threshold.parse()?, breach.parse()?))
    };
    text.lines()
        .skip(1)
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

/// Counts as `score_extra.py capacity` does.
#[derive(Default)]
struct Tally {
    count: usize,
    hits: f64,
    quiet: f64,
    alarms: f64,
    told: f64,
    inside: f64,
}

impl Tally {
    fn add(&mut self, found: &Breach, truth: f64) {
        self.count += 1;
        let told = found.at.map(|hours| hours.max(1) as f64);
        let hit = match told {
            Some(hours) if truth > 0.0 => (hours - truth).abs() <= (0.2 * truth).max(6.0),
            told => told.is_none() && truth <= 0.0,
        };
        self.hits += f64::from(u8::from(hit));
        if truth <= 0.0 {
            self.quiet += 1.0;
            self.alarms += f64::from(u8::from(told.is_some()));
        } else if told.is_some() {
            self.told += 1.0;
            let above = found.earliest.is_some_and(|hours| hours as f64 <= truth);
            let below = found.latest.is_none_or(|hours| truth <= hours as f64);
            self.inside += f64::from(u8::from(above && below));
        }
    }
}
