//! The forecast sets: M4 hourly and weekly, and monitoring series by hour and by five minutes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use chronolith_analysis::forecast::{Forecast, ForecastOptions, forecast};

use crate::figures::{Case, figures};
use crate::table::{Series, series_values};

/// A line of `sets.csv`.
struct Set {
    name: String,
    season: usize,
    horizon: usize,
    step_seconds: f64,
}

/// Forecasts every set that is there; writes `OUT/<set>.csv` with series, h, point, lo, hi.
pub(crate) fn run(datasets: &Path, out: &Path) -> Result<()> {
    let folder = datasets.join("forecast");
    let listing = folder.join("sets.csv");
    if !listing.exists() {
        println!("forecast: {} is not there, skipped", listing.display());
        return Ok(());
    }
    for set in sets(&std::fs::read_to_string(&listing)?)? {
        let train = folder.join(format!("{}.train.parquet", set.name));
        let test = folder.join(format!("{}.test.parquet", set.name));
        if !train.exists() {
            println!("{}: {} is not there, skipped", set.name, train.display());
            continue;
        }
        let histories = series_values(&train)?;
        let started = Instant::now();
        let found = forecast_all(&set, &histories)?;
        let seconds = started.elapsed().as_secs_f64();
        write_csv(&out.join(format!("{}.csv", set.name)), &histories, &found)?;
        if test.exists() {
            print_figures(&set, &histories, &series_values(&test)?, &found);
        }
        println!(
            "{}: {:.0} series/s on one thread",
            set.name,
            found.len() as f64 / seconds
        );
    }
    Ok(())
}

/// One configuration for all: the horizon and the step are all that a set says.
fn forecast_all(set: &Set, histories: &[Series]) -> Result<Vec<Forecast>> {
    let options = ForecastOptions::new(set.horizon).with_step_seconds(set.step_seconds);
    histories
        .iter()
        .map(|(name, values)| forecast(values, &options).with_context(|| name.clone()))
        .collect()
}

fn sets(text: &str) -> Result<Vec<Set>> {
    let line = |line: &str| -> Result<Set> {
        let fields: Vec<&str> = line.split(',').collect();
        let [name, season, _, horizon, frequency] = fields[..] else {
            anyhow::bail!("sets.csv: {line:?} has not five fields");
        };
        let step_seconds = match frequency {
            "5min" => 300.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            other => anyhow::bail!("sets.csv: unknown step {other:?}"),
        };
        Ok(Set {
            name: name.to_owned(),
            season: season.parse()?,
            horizon: horizon.parse()?,
            step_seconds,
        })
    };
    text.lines()
        .skip(1)
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

fn write_csv(path: &Path, histories: &[Series], found: &[Forecast]) -> Result<()> {
    let mut text = String::from("series,h,point,lo,hi\n");
    for ((name, _), found) in histories.iter().zip(found) {
        for (at, point) in found.point.iter().enumerate() {
            writeln!(
                text,
                "{name},{},{point},{},{}",
                at + 1,
                found.lower[at],
                found.upper[at]
            )?;
        }
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn print_figures(set: &Set, histories: &[Series], actual: &[Series], found: &[Forecast]) {
    let truth = |name: &str| {
        actual
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, values)| values)
    };
    let cases: Vec<Case<'_>> = histories
        .iter()
        .zip(found)
        .filter_map(|((name, history), found)| {
            let actual = truth(name)?;
            let count = actual.len().min(found.point.len());
            Some(Case {
                history,
                actual: &actual[..count],
                point: &found.point[..count],
                lower: &found.lower[..count],
                upper: &found.upper[..count],
            })
        })
        .collect();
    let f = figures(&cases, set.season);
    println!(
        "{}: {} series, owa {:.4}, smape {:.3}, mase {:.3}, median mase {:.3}, msis {:.3}, \
         coverage {:.3}",
        set.name, f.series, f.owa, f.smape, f.mase, f.median_mase, f.msis, f.coverage
    );
}
