//! The section `runs:`: what makes a row part of a run, and what is expected of pipelines.

use std::time::Duration;

use chronolith_query::runs::{RunNames, Schedule};
use serde::Deserialize;

use super::ConfigError;
use super::file::FileConfig;
use super::tenants::setting;

/// Names of one kind that may be configured.
const NAMES_MAX: usize = 32;
/// Declared schedules.
const SCHEDULES_MAX: usize = 10_000;

/// The section `runs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunsConfig {
    /// Whether runs are kept track of.
    pub enabled: bool,
    /// The names of attributes.
    pub names: RunNames,
    /// How long a run may be silent before it is lost.
    pub lost_after: Duration,
    /// How far back runs are read from the store at the start.
    pub read_back: Duration,
    /// Runs that a tenant has in memory; older ones are read from the store when asked for.
    pub kept_max: usize,
    /// Listeners to `/api/v1/runs/live` at the same time.
    pub listeners_max: usize,
    /// Pipelines that have to run at certain times.
    pub schedules: Vec<Schedule>,
}

impl Default for RunsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            names: RunNames::default(),
            lost_after: Duration::from_secs(15 * 60),
            read_back: Duration::from_secs(24 * 3600),
            kept_max: 20_000,
            listeners_max: 64,
            schedules: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    enabled: Option<bool>,
    #[serde(default)]
    names: Names,
    #[serde(default, deserialize_with = "setting")]
    lost_after: Option<Duration>,
    #[serde(default, deserialize_with = "setting")]
    read_back: Option<Duration>,
    kept_max: Option<usize>,
    listeners_max: Option<usize>,
    #[serde(default)]
    schedules: Vec<Declared>,
}

/// Each list replaces that of the defaults.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    run_id: Option<Vec<String>>,
    pipeline: Option<Vec<String>>,
    stage: Option<Vec<String>>,
    cost: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
    token_parts: Option<Vec<String>>,
    queue_ms: Option<Vec<String>>,
    error: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    pipeline: String,
    #[serde(default, deserialize_with = "setting")]
    every: Option<Duration>,
    #[serde(default, deserialize_with = "setting")]
    offset: Option<Duration>,
    #[serde(default, deserialize_with = "setting")]
    grace: Option<Duration>,
}

/// Reads the section of a file; the defaults if it has none.
///
/// # Errors
/// An unknown key, a wrong value, too many names, a schedule without `every`.
pub fn runs(file: &FileConfig) -> Result<RunsConfig, ConfigError> {
    let Some(section) = file.section("runs").filter(|s| !s.value.is_null()) else {
        return Ok(RunsConfig::default());
    };
    let refuse = |message: String| ConfigError::Syntax {
        path: file.path.clone(),
        message: format!("section runs: at line {}: {message}", section.line),
    };
    let section: Section =
        serde_json::from_value(section.value.clone()).map_err(|e| refuse(e.to_string()))?;
    let mut config = RunsConfig::default();
    let given = section.names;
    let names = &mut config.names;
    for (name, list, given) in [
        ("run_id", &mut names.run_id, given.run_id),
        ("pipeline", &mut names.pipeline, given.pipeline),
        ("stage", &mut names.stage, given.stage),
        ("cost", &mut names.cost, given.cost),
        ("tokens", &mut names.tokens, given.tokens),
        ("token_parts", &mut names.token_parts, given.token_parts),
        ("queue_ms", &mut names.queue_ms, given.queue_ms),
        ("error", &mut names.error, given.error),
    ] {
        let Some(given) = given else { continue };
        if given.len() > NAMES_MAX || given.iter().any(String::is_empty) {
            let words = format!("names: {name}: expected at most {NAMES_MAX} names, none empty");
            return Err(refuse(words));
        }
        *list = given;
    }
    if config.names.run_id.is_empty() {
        return Err(refuse("names: run_id: at least one name is needed".into()));
    }
    if section.schedules.len() > SCHEDULES_MAX {
        return Err(refuse(format!("schedules: at most {SCHEDULES_MAX}")));
    }
    for declared in section.schedules {
        let every = declared.every.filter(|every| !every.is_zero());
        let Some(every) = every else {
            let words = format!("schedules: {:?} needs `every` above 0", declared.pipeline);
            return Err(refuse(words));
        };
        let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        config.schedules.push(Schedule {
            pipeline: declared.pipeline,
            every_ns: ns(every),
            offset_ns: ns(declared.offset.unwrap_or_default()),
            // Half a period late is what a pipeline without a declaration may be.
            grace_ns: ns(declared.grace.unwrap_or(every / 2)),
        });
    }
    config.enabled = section.enabled.unwrap_or(config.enabled);
    config.lost_after = section.lost_after.unwrap_or(config.lost_after);
    config.read_back = section.read_back.unwrap_or(config.read_back);
    config.kept_max = section.kept_max.unwrap_or(config.kept_max);
    config.listeners_max = section.listeners_max.unwrap_or(config.listeners_max);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_section_is_read_and_checked() {
        let read = |text: &str| {
            let file = FileConfig::parse(Path::new("c.yml"), text.to_owned()).unwrap();
            runs(&file).map_err(|e| e.to_string())
        };
        assert_eq!(read("retention: 1d\n").unwrap(), RunsConfig::default());
        let text = "runs:\n  names: {run_id: [dag_run], stage: [task]}\n  lost_after: 5m\n  schedules:\n    - {pipeline: nightly, every: 1d, offset: 2h}\n";
        let config = read(text).unwrap();
        assert_eq!(config.names.run_id, ["dag_run"]);
        assert_eq!(config.names.pipeline, RunNames::default().pipeline);
        assert_eq!(config.lost_after.as_secs(), 300);
        let schedule = &config.schedules[0];
        assert_eq!(schedule.grace_ns, schedule.every_ns / 2);
        assert_eq!(schedule.offset_ns, 7_200_000_000_000);
        for (text, part) in [
            ("runs: {lost: 5m}\n", "unknown field `lost`"),
            ("runs: {lost_after: soon}\n", "soon"),
            ("runs: {names: {run_id: []}}\n", "at least one"),
            ("runs: {schedules: [{pipeline: a}]}\n", "needs `every`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
