//! Scores the analysis module on data sets: `analysis_score DATASETS OUT`.
//!
//! DATASETS holds `forecast/`, `anomaly/`, … as the scorers' own README describes; what is missing is
//! skipped and named. `OUT/<set>.csv` gets what the module says, in the form that the Python
//! scorers read, and the figures that need no scorer are printed, one line per set. Every set is
//! run with one configuration: nothing here knows a set's answers before it has forecast.
//!
//! One file per family of sets; each has a `run(datasets, out) -> Result<()>` that names what it did.

mod capacity;
mod figures;
mod forecast;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(datasets), Some(out), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: analysis_score DATASETS OUT");
    };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    forecast::run(&datasets, &out)?;
    capacity::run(&datasets, &out)
}
