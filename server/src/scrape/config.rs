//! The `global` and `scrape_configs` sections, in the shape Prometheus users already have.
//!
//! Unknown keys are refused. What Prometheus has and we don't (service discoveries but static and
//! file, protobuf exposition) is refused by name rather than ignored, so that nobody waits for
//! targets that will never appear.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::discovery;
use super::relabel::{RelabelConfig, Rule};
use crate::config::{FileConfig, Secret, parse_duration};

/// Defaults for all jobs.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalConfig {
    /// How often targets are read.
    #[serde(deserialize_with = "duration")]
    pub scrape_interval: Duration,
    /// How long a target may take.
    #[serde(deserialize_with = "duration")]
    pub scrape_timeout: Duration,
    /// Used by rules.
    #[serde(deserialize_with = "duration")]
    pub evaluation_interval: Duration,
    /// Added to what leaves this server.
    pub external_labels: BTreeMap<String, String>,
    /// Bytes of a body; 0 for the built-in maximum.
    #[serde(deserialize_with = "size")]
    pub body_size_limit: u64,
    /// Samples of a scrape after relabelling; 0 for none. More fails the scrape.
    pub sample_limit: usize,
    /// Labels of a sample; 0 for none.
    pub label_limit: usize,
    /// Bytes of a label's name; 0 for none.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value; 0 for none.
    pub label_value_length_limit: usize,
    /// Targets of a job; 0 for none.
    pub target_limit: usize,
    /// Also store classic histograms as native histograms with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Keep the classic series of converted histograms.
    pub always_scrape_classic_histograms: bool,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            external_labels: BTreeMap::new(),
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
        }
    }
}

/// User name and password.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password, read at each scrape.
    pub password_file: Option<PathBuf>,
}

/// The `Authorization` header.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The scheme, `Bearer` unless said otherwise.
    #[serde(rename = "type")]
    pub scheme: String,
    /// What follows it.
    pub credentials: Option<Secret>,
    /// A file with the credentials, read at each scrape.
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            scheme: "Bearer".into(),
            credentials: None,
            credentials_file: None,
        }
    }
}

/// How to speak TLS to targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetTls {
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Our key.
    pub key_file: Option<PathBuf>,
    /// Trust anything.
    pub insecure_skip_verify: bool,
}

/// Targets written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    /// `host:port` each.
    pub targets: Vec<String>,
    /// Labels for all of them.
    pub labels: BTreeMap<String, String>,
}

/// Files that list targets as [`StaticConfig`]s in YAML or JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths; the last part may hold one `*`.
    pub files: Vec<String>,
    /// How often they are looked at.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub refresh_interval: Duration,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

/// A job as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawScrapeConfig {
    job_name: String,
    #[serde(deserialize_with = "optional_duration")]
    scrape_interval: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    scrape_timeout: Option<Duration>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    params: BTreeMap<String, Vec<String>>,
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    track_timestamps_staleness: bool,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    tls_config: TargetTls,
    follow_redirects: Option<bool>,
    enable_compression: Option<bool>,
    static_configs: Vec<StaticConfig>,
    file_sd_configs: Vec<FileSdConfig>,
    relabel_configs: Vec<RelabelConfig>,
    metric_relabel_configs: Vec<RelabelConfig>,
    #[serde(deserialize_with = "optional_size")]
    body_size_limit: Option<u64>,
    sample_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
    target_limit: Option<usize>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    fallback_scrape_protocol: Option<String>,
    scrape_protocols: Vec<String>,
}

/// A job, checked, with the global defaults filled in.
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    /// Its name, unique.
    pub job_name: String,
    /// The job as it was written, secrets included.
    pub written: serde_json::Value,
    /// How often.
    pub scrape_interval: Duration,
    /// How long a target may take; at most the interval.
    pub scrape_timeout: Duration,
    /// Path on the target.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Query parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels of the target win over ours.
    pub honor_labels: bool,
    /// Whether timestamps of the target are used.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of their own get staleness markers.
    pub track_timestamps_staleness: bool,
    /// Credentials.
    pub basic_auth: Option<BasicAuth>,
    /// Other credentials.
    pub authorization: Option<Authorization>,
    /// TLS.
    pub tls: TargetTls,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether gzip is asked for.
    pub enable_compression: bool,
    /// Targets written down.
    pub static_configs: Vec<StaticConfig>,
    /// Targets in files.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Rules for targets.
    pub relabel_rules: Vec<Rule>,
    /// Rules for samples.
    pub metric_relabel_rules: Vec<Rule>,
    /// Bytes of a body, decompressed.
    pub body_size_limit: u64,
    /// Samples of a scrape; 0 for none.
    pub sample_limit: usize,
    /// Labels of a sample; 0 for none.
    pub label_limit: usize,
    /// Bytes of a label's name; 0 for none.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value; 0 for none.
    pub label_value_length_limit: usize,
    /// Targets of the job; 0 for none.
    pub target_limit: usize,
    /// Also store classic histograms as native ones.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Keep the classic series of converted histograms.
    pub always_scrape_classic_histograms: bool,
}

/// A file that `scrape_config_files` names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtraFile {
    scrape_configs: Vec<serde_json::Value>,
}

/// Bytes of a body when nothing else is said.
pub const BODY_BYTES_MAX: u64 = 64 << 20;

/// All of scraping.
#[derive(Clone, Debug, Default)]
pub struct ScrapeConfigs {
    /// Defaults and external labels.
    pub global: GlobalConfig,
    /// The jobs.
    pub jobs: Vec<ScrapeConfig>,
}

impl ScrapeConfigs {
    /// Reads the sections of a configuration file, and the files that `scrape_config_files` names.
    ///
    /// # Errors
    /// What is wrong, naming the file and the job.
    pub fn of(file: &FileConfig) -> Result<Self, String> {
        let section = |name| file.section(name).map(|section| &section.value);
        let mut jobs = match section("scrape_configs") {
            None | Some(serde_json::Value::Null) => Vec::new(),
            Some(serde_json::Value::Array(jobs)) => jobs.clone(),
            Some(_) => return Err("scrape_configs: expected a list of jobs".into()),
        };
        let base = file.path.parent().unwrap_or(Path::new(""));
        let patterns: Vec<String> = match section("scrape_config_files") {
            None => Vec::new(),
            Some(list) => {
                Vec::deserialize(list).map_err(|e| format!("scrape_config_files: {e}"))?
            }
        };
        for path in patterns
            .iter()
            .flat_map(|pattern| discovery::expand(&base.join(pattern)))
        {
            let text =
                discovery::read_text(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let extra: ExtraFile =
                serde_saphyr::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            jobs.extend(extra.scrape_configs);
        }
        Self::parse(section("global"), Some(&serde_json::Value::Array(jobs)))
            .map_err(|e| format!("{}: {e}", file.path.display()))
    }

    /// Reads the two sections.
    ///
    /// # Errors
    /// What is wrong, naming the job.
    pub fn parse(
        global: Option<&serde_json::Value>,
        scrape_configs: Option<&serde_json::Value>,
    ) -> Result<Self, String> {
        let global = match global {
            None | Some(serde_json::Value::Null) => GlobalConfig::default(),
            Some(value) => GlobalConfig::deserialize(value).map_err(|e| format!("global: {e}"))?,
        };
        let mut jobs: Vec<ScrapeConfig> = Vec::new();
        let written = match scrape_configs {
            None | Some(serde_json::Value::Null) => &Vec::new(),
            Some(serde_json::Value::Array(items)) => items,
            Some(_) => return Err("scrape_configs: expected a list of jobs".into()),
        };
        for (index, value) in written.iter().enumerate() {
            let place = || match value.get("job_name").and_then(|name| name.as_str()) {
                Some(name) => format!("scrape_configs: job {name:?}"),
                None => format!("scrape_configs: item {}", index + 1),
            };
            let raw =
                RawScrapeConfig::deserialize(value).map_err(|e| format!("{}: {e}", place()))?;
            let job = check(raw, value, &global).map_err(|e| format!("{}: {e}", place()))?;
            if jobs.iter().any(|other| other.job_name == job.job_name) {
                return Err(format!("{}: the name is taken by an earlier job", place()));
            }
            jobs.push(job);
        }
        Ok(Self { global, jobs })
    }
}

fn check(
    raw: RawScrapeConfig,
    written: &serde_json::Value,
    global: &GlobalConfig,
) -> Result<ScrapeConfig, String> {
    if raw.job_name.is_empty() {
        return Err("job_name is missing".into());
    }
    let scrape_interval = raw.scrape_interval.unwrap_or(global.scrape_interval);
    if scrape_interval.is_zero() {
        return Err("scrape_interval must be above 0".into());
    }
    let scrape_timeout = match raw.scrape_timeout {
        Some(timeout) if timeout > scrape_interval => {
            return Err("scrape_timeout is greater than scrape_interval".into());
        }
        Some(timeout) if timeout.is_zero() => return Err("scrape_timeout must be above 0".into()),
        Some(timeout) => timeout,
        None => global.scrape_timeout.min(scrape_interval),
    };
    let scheme = raw.scheme.unwrap_or_else(|| "http".into());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("scheme {scheme:?}: expected http or https"));
    }
    if raw.basic_auth.is_some() && raw.authorization.is_some() {
        return Err("at most one of basic_auth and authorization may be set".into());
    }
    let protocols = raw
        .scrape_protocols
        .iter()
        .chain(&raw.fallback_scrape_protocol);
    for protocol in protocols {
        const KNOWN: [&str; 6] = [
            "PrometheusText0.0.4",
            "PrometheusText1.0.0",
            "OpenMetricsText0.0.1",
            "OpenMetricsText1.0.0",
            "OpenMetricsText2.0.0",
            "PrometheusProto",
        ];
        if !KNOWN.contains(&protocol.as_str()) {
            return Err(format!(
                "scrape protocol {protocol:?}: expected one of {}",
                KNOWN.join(", ")
            ));
        }
    }
    let body_size_limit = raw.body_size_limit.unwrap_or(global.body_size_limit);
    Ok(ScrapeConfig {
        written: written.clone(),
        scrape_interval,
        scrape_timeout,
        metrics_path: raw.metrics_path.unwrap_or_else(|| "/metrics".into()),
        scheme,
        params: raw.params,
        honor_labels: raw.honor_labels,
        honor_timestamps: raw.honor_timestamps.unwrap_or(true),
        track_timestamps_staleness: raw.track_timestamps_staleness,
        basic_auth: raw.basic_auth,
        authorization: raw.authorization,
        tls: raw.tls_config,
        follow_redirects: raw.follow_redirects.unwrap_or(true),
        enable_compression: raw.enable_compression.unwrap_or(true),
        static_configs: raw.static_configs,
        file_sd_configs: raw.file_sd_configs,
        relabel_rules: Rule::all(&raw.relabel_configs)?,
        metric_relabel_rules: Rule::all(&raw.metric_relabel_configs)
            .map_err(|e| format!("metric_relabel_configs: {e}"))?,
        body_size_limit: if body_size_limit == 0 {
            BODY_BYTES_MAX
        } else {
            body_size_limit
        },
        sample_limit: raw.sample_limit.unwrap_or(global.sample_limit),
        label_limit: raw.label_limit.unwrap_or(global.label_limit),
        label_name_length_limit: raw
            .label_name_length_limit
            .unwrap_or(global.label_name_length_limit),
        label_value_length_limit: raw
            .label_value_length_limit
            .unwrap_or(global.label_value_length_limit),
        target_limit: raw.target_limit.unwrap_or(global.target_limit),
        convert_classic_histograms_to_nhcb: raw
            .convert_classic_histograms_to_nhcb
            .unwrap_or(global.convert_classic_histograms_to_nhcb),
        always_scrape_classic_histograms: raw
            .always_scrape_classic_histograms
            .unwrap_or(global.always_scrape_classic_histograms),
        job_name: raw.job_name,
    })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    optional_duration(deserializer)?.ok_or_else(|| D::Error::custom("a duration is missing"))
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let Some(value) = Option::<serde_json::Value>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let text = match &value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_duration(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration like 15s or 1h30m")))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(optional_size(deserializer)?.unwrap_or(0))
}

fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(value) = Option::<serde_json::Value>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let text = match &value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_size(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not a size like 10MB or 2GiB")))
}

/// Sizes as Prometheus writes them: `KB` is 1024 bytes there, as `KiB` is.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match &text[digits..] {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        "T" | "TB" | "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(global: serde_json::Value, jobs: serde_json::Value) -> Result<ScrapeConfigs, String> {
        ScrapeConfigs::parse(Some(&global), Some(&jobs))
    }

    #[test]
    fn jobs_inherit_and_override() {
        let configs = parse(
            json!({"scrape_interval": "15s", "sample_limit": 100, "body_size_limit": "10MB"}),
            json!([
                {"job_name": "a", "static_configs": [{"targets": ["x:1"]}]},
                {"job_name": "b", "scrape_interval": "5s", "sample_limit": 7},
            ]),
        )
        .unwrap();
        let [a, b] = configs.jobs.as_slice() else {
            panic!()
        };
        assert_eq!(
            (a.scrape_interval, a.scrape_timeout),
            (Duration::from_secs(15), Duration::from_secs(10))
        );
        assert_eq!((a.sample_limit, a.body_size_limit), (100, 10 << 20));
        assert_eq!(
            (b.scrape_timeout, b.sample_limit),
            (Duration::from_secs(5), 7)
        );
    }

    #[test]
    fn mistakes_name_the_job() {
        let bad = [
            (json!([{"job_name": "a"}, {"job_name": "a"}]), "taken"),
            (json!([{"job_name": "a", "scheme": "ftp"}]), "ftp"),
            (
                json!([{"job_name": "a", "scrape_timeout": "2m"}]),
                "greater",
            ),
            (
                json!([{"job_name": "a", "scrape_interval": "soon"}]),
                "soon",
            ),
            (
                json!([{"job_name": "a", "kubernetes_sd_configs": []}]),
                "kubernetes_sd_configs",
            ),
            (
                json!([{"job_name": "a", "relabel_configs": [{"action": "keep", "regex": "("}]}]),
                "rule 1",
            ),
            (json!([{}]), "item 1"),
        ];
        for (jobs, word) in bad {
            let error = parse(json!({}), jobs).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
