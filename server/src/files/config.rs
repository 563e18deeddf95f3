//! The section `logs_configs`: which files are followed, and how their lines become log records.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chronolith_engine::TenantId;
use chronolith_engine::model::{Labels, LabelsBuilder};
use glob::Pattern;
use regex::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::split::Splitter;
use crate::config::{ByteSize, FileConfig, SettingValue as _};
use crate::process::{Parse, ProcessConfig, Processor, RuleConfig};
use crate::rows::labels::{finish_labels, label_name};

/// Jobs of a configuration.
const JOBS_MAX: usize = 256;
/// Names by which a parsed field tells the time or the severity.
const KNOWN_FIELDS: [(&str, &str); 8] = [
    ("@timestamp", "time"),
    ("level", "severity_text"),
    ("lvl", "severity_text"),
    ("severity", "severity_text"),
    ("time", "time"),
    ("timestamp", "time"),
    ("ts", "time"),
    ("body", "body"),
];

/// Where reading begins in files that are there when a job is seen for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With their first line.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// How several lines make one record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultilineConfig {
    /// A regex that the first line of a record matches.
    pub first_line: String,
    /// Lines of a record; the next one begins another.
    #[serde(default = "lines_max")]
    pub lines_max: usize,
}

fn lines_max() -> usize {
    500
}

/// An entry of `logs_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// Names the job and is the label `job`; positions are kept under it.
    pub job_name: String,
    /// Whose records they are.
    pub tenant: String,
    /// Files, with `*`, `?`, `[…]` and `**`.
    pub paths: Vec<String>,
    /// Files of those that are not meant; a pattern without `/` is held against the name only.
    pub exclude: Vec<String>,
    /// Where reading begins.
    pub start_at: StartAt,
    /// Labels of all records.
    pub labels: BTreeMap<String, String>,
    /// The label that holds a file's path; empty for none.
    pub filename_label: String,
    /// A regex over the path whose named groups become labels.
    pub path_labels: Option<String>,
    /// How several lines make one record; a line is a record without.
    pub multiline: Option<MultilineConfig>,
    /// How long the end of a file must rest until it counts as a whole record although no newline, or
    /// no first line of another record, stands behind it.
    #[serde(deserialize_with = "duration")]
    pub flush_after: Duration,
    /// How fields are found in a line.
    pub parse: Option<ParseConfig>,
    /// What is done with the records, before the rules of the section `process`.
    pub rules: Vec<RuleConfigEq>,
    /// How often files are looked at.
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Duration,
    /// Bytes that are read in a second; 0 for no limit.
    #[serde(deserialize_with = "size")]
    pub read_rate_max: ByteSize,
    /// Files that are followed at the same time.
    pub files_max: usize,
    /// Files that were not written to for so long when they are met first are passed over; 0 for none.
    #[serde(deserialize_with = "duration")]
    pub ignore_older: Duration,
    /// Also read files that end in `.gz`, once.
    pub gzip: bool,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            tenant: TenantId::default().as_str().to_owned(),
            paths: Vec::new(),
            exclude: Vec::new(),
            start_at: StartAt::default(),
            labels: BTreeMap::new(),
            filename_label: "filename".into(),
            path_labels: None,
            multiline: None,
            flush_after: Duration::from_secs(5),
            parse: None,
            rules: Vec::new(),
            poll_interval: Duration::from_secs(1),
            read_rate_max: ByteSize(0),
            files_max: 1_000,
            ignore_older: Duration::ZERO,
            gzip: false,
        }
    }
}

/// [`Parse`], as it is written here.
pub type ParseConfig = Parse;

/// A rule that can be compared by its text: whether a reload changes a job.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct RuleConfigEq(pub RuleConfig);

impl PartialEq for RuleConfigEq {
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

fn text_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = text_of(deserializer)?;
    Duration::parse(&text).map_err(|e| D::Error::custom(format!("{e}, got {text:?}")))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let text = text_of(deserializer)?;
    ByteSize::parse(&text).map_err(|e| D::Error::custom(format!("{e}, got {text:?}")))
}

/// A job whose patterns and regexes are compiled.
#[derive(Debug)]
pub struct Job {
    /// As it was written.
    pub config: LogsConfig,
    /// Whose records they are.
    pub tenant: TenantId,
    exclude: Vec<Pattern>,
    path_labels: Option<Regex>,
    /// Parses, and applies the job's own rules.
    pub processor: Processor,
    first_line: Option<regex::bytes::Regex>,
}

impl Job {
    /// Compiles and checks an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(config: LogsConfig) -> Result<Self, String> {
        if config.job_name.is_empty() || config.job_name.contains('/') {
            return Err("job_name: expected a name without /".into());
        }
        if config.paths.is_empty() {
            return Err("paths: expected at least one".into());
        }
        if config.poll_interval.is_zero() || config.files_max == 0 {
            return Err("poll_interval and files_max: expected more than 0".into());
        }
        let pattern = |text: &String| {
            Pattern::new(text).map_err(|e| format!("{text:?}: not a pattern of paths: {e}"))
        };
        for path in &config.paths {
            pattern(path)?;
            if !Path::new(path).is_absolute() {
                return Err(format!("paths: {path:?}: expected an absolute path"));
            }
        }
        let regex = |key: &str, text: &str| {
            Regex::new(text).map_err(|e| format!("{key}: {text:?} is not a regex: {e}"))
        };
        let path_labels = config.path_labels.as_deref();
        let first_line = config.multiline.as_ref().map(|multiline| {
            let text = &multiline.first_line;
            regex::bytes::Regex::new(text)
                .map_err(|e| format!("multiline: first_line: {text:?} is not a regex: {e}"))
        });
        let mut rules: Vec<RuleConfig> = Vec::new();
        rules.extend(config.parse.clone().map(|parse| {
            RuleConfig {
                parse: Some(parse),
                rename: KNOWN_FIELDS
                    .iter()
                    .map(|(from, to)| (format!("attributes.{from}"), (*to).to_owned()))
                    .collect(),
                ..RuleConfig::default()
            }
        }));
        rules.extend(config.rules.iter().map(|rule| rule.0.clone()));
        let process = ProcessConfig {
            // The server's own stage does, for all protocols.
            detect_level: false,
            rules,
            ..ProcessConfig::default()
        };
        Ok(Self {
            tenant: TenantId::new(&config.tenant).map_err(|e| format!("tenant: {e}"))?,
            exclude: config
                .exclude
                .iter()
                .map(pattern)
                .collect::<Result<_, _>>()?,
            path_labels: path_labels
                .map(|text| regex("path_labels", text))
                .transpose()?,
            processor: Processor::new(&process)?,
            first_line: first_line.transpose()?,
            config,
        })
    }

    /// How its files are split, with records of at most `bytes_max` bytes.
    #[must_use]
    pub fn splitter(&self, bytes_max: usize) -> Splitter {
        let multiline = self.config.multiline.as_ref();
        Splitter {
            first_line: self.first_line.clone(),
            lines_max: multiline.map_or(1, |m| m.lines_max.max(1)),
            bytes_max,
        }
    }

    /// Whether a file is meant, going by its name.
    #[must_use]
    pub fn takes(&self, path: &Path) -> bool {
        let name = path.file_name().map(Path::new).unwrap_or(path);
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_compressed = matches!(kind, "gz" | "bz2" | "xz" | "zst" | "zip");
        if is_compressed && !(self.config.gzip && kind == "gz") {
            return false;
        }
        !self
            .exclude
            .iter()
            .any(|pattern| match pattern.as_str().contains('/') {
                true => pattern.matches_path(path),
                false => pattern.matches_path(name),
            })
    }

    /// The labels of a file's records.
    #[must_use]
    pub fn labels(&self, path: &Path) -> Labels {
        let mut labels = LabelsBuilder::new();
        let path = path.to_string_lossy();
        labels.set("job", &self.config.job_name);
        if !self.config.filename_label.is_empty() {
            labels.set(&label_name(&self.config.filename_label), &path);
        }
        if let Some(regex) = &self.path_labels
            && let Some(found) = regex.captures(&path)
        {
            for name in regex.capture_names().flatten() {
                if let Some(group) = found.name(name) {
                    labels.set(&label_name(name), group.as_str());
                }
            }
        }
        for (name, value) in &self.config.labels {
            labels.set(&label_name(name), value);
        }
        finish_labels(labels)
    }
}

/// Reads and checks the section.
///
/// # Errors
/// What is wrong with it, and where.
pub fn jobs(file: &FileConfig) -> Result<Vec<Job>, String> {
    let Some(section) = file.section("logs_configs") else {
        return Ok(Vec::new());
    };
    if section.value.is_null() {
        return Ok(Vec::new());
    }
    let place = |message: String| {
        let path = file.path.display();
        format!(
            "{path}: section logs_configs: at line {}: {message}",
            section.line
        )
    };
    let configs: Vec<LogsConfig> =
        serde_json::from_value(section.value.clone()).map_err(|e| place(e.to_string()))?;
    if configs.len() > JOBS_MAX {
        return Err(place(format!("more than {JOBS_MAX} jobs")));
    }
    let mut jobs: Vec<Job> = Vec::new();
    for config in configs {
        let name = config.job_name.clone();
        if jobs.iter().any(|job| job.config.job_name == name) {
            return Err(place(format!("job {name:?} stands twice")));
        }
        jobs.push(Job::new(config).map_err(|e| place(format!("job {name:?}: {e}")))?);
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Vec<Job>, String> {
        jobs(&FileConfig::parse(Path::new("c.yml"), yaml.to_owned()).unwrap())
    }

    #[test]
    fn jobs_are_read_with_their_defaults() {
        let text = "logs_configs:\n- job_name: app\n  paths: [/var/log/*.log]\n  exclude: ['*.tmp.log']\n  labels: {env: prod}\n  path_labels: '/(?P<unit>\\w+)\\.log'\n  parse: json\n  flush_after: 2s\n  read_rate_max: 5MiB\n";
        let jobs = read(text).unwrap();
        let job = &jobs[0];
        assert_eq!(job.config.start_at, StartAt::Beginning);
        assert_eq!(job.config.read_rate_max, ByteSize(5 << 20));
        assert_eq!(
            job.labels(Path::new("/var/log/shop.log")).to_string(),
            r#"{env="prod", filename="/var/log/shop.log", job="app", service_name="app", unit="shop"}"#
        );
        assert!(job.takes(Path::new("/var/log/shop.log")));
        for not_meant in ["/var/log/x.tmp.log", "/var/log/shop.log.gz"] {
            assert!(!job.takes(Path::new(not_meant)), "{not_meant}");
        }
        assert!(read("retention: 1d\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("- {job_name: a}", "paths"),
            ("- {job_name: a, paths: [x.log]}", "absolute"),
            ("- {job_name: a, paths: ['/x[']}", "pattern"),
            ("- {paths: [/x]}", "job_name"),
            ("- {job_name: a, paths: [/x], parse: {regex: '('}}", "regex"),
            (
                "- {job_name: a, paths: [/x], multiline: {first_line: '('}}",
                "first_line",
            ),
            ("- {job_name: a, paths: [/x], flush_after: soon}", "soon"),
            (
                "- {job_name: a, paths: [/x], poll: 1s}",
                "unknown field `poll`",
            ),
            (
                "- {job_name: a, paths: [/x]}\n- {job_name: a, paths: [/y]}",
                "twice",
            ),
        ] {
            let error = read(&format!("logs_configs:\n{text}\n")).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
    }
}
