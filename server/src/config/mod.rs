//! Configuration: one table of settings, read from flags, environment and file.
//!
//! Precedence: flag, then environment variable, then file, then default. The file is YAML; besides
//! the keys of [`table::TABLE`] it takes the Prometheus sections `global`, `otlp`, `scrape_configs`,
//! `scrape_config_files` and `web`, limits of single tenants under `tenants`, `process` for what
//! happens to logs and spans, `logs_configs` for log files, and `runs` for what makes them parts of runs.
//! An unknown key is an error that names the line and the nearest key that exists.

mod document;
mod file;
mod otlp;
mod process;
mod runs;
mod secret;
pub mod table;
mod tenants;
mod values;
mod web;

use std::path::{Path, PathBuf};

use crate::otlp::{FEATURE_DELTAS_ADDED_UP, FEATURE_DELTAS_NATIVE};
use crate::process::ProcessConfig;

pub use document::settings_markdown;
pub use file::{FileConfig, Located, Section};
pub use otlp::{OtlpConfig, TranslationStrategy};
pub use process::process;
pub use runs::{RunsConfig, runs};
pub use secret::Secret;
pub use table::{Setting, Settings, Source, TABLE};
pub use tenants::{TenantConfig, Tenants};
pub use values::{ByteSize, Listen, LogFormat, SettingValue, Sync, parse_duration};
pub use web::{ClientAuth, TlsConfig, TlsVersion, WebConfig};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{}: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not YAML, or a section has the wrong shape.
    #[error("{}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// A key that does not exist.
    #[error("{}: line {line}: unknown key \"{key}\"{}", .path.display(), .nearest.as_deref().map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: u64,
        /// The key.
        key: String,
        /// The key that is most like it.
        nearest: Option<String>,
    },
    /// A key that stands twice.
    #[error("{}: line {line}: key \"{key}\" stands twice", .path.display())]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// Line of the second one, from 1.
        line: u64,
        /// The key.
        key: String,
    },
    /// A value of the wrong form.
    #[error("{origin}: {key}: {expected}, got \"{text}\"")]
    Value {
        /// The setting.
        key: String,
        /// Where the value came from.
        origin: String,
        /// The value.
        text: String,
        /// What would be right.
        expected: String,
    },
    /// Anything else that cannot work.
    #[error("{0}")]
    Invalid(String),
}

/// Everything that `serve` was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings.
    pub settings: Settings,
    /// Text and source of each setting, in the order of [`TABLE`].
    pub sources: Vec<(String, Source)>,
    /// The file's sections and where it lies.
    pub file: FileConfig,
    /// TLS and users.
    pub web: WebConfig,
    /// How OTLP metrics become series.
    pub otlp: OtlpConfig,
    /// What happens to log records and spans before they are stored.
    pub process: ProcessConfig,
    /// What makes a row part of a run.
    pub runs: RunsConfig,
    /// Tenants with limits of their own.
    pub tenants: Tenants,
}

impl Config {
    /// Puts flags, environment and file together.
    ///
    /// `flag` and `variable` answer with the text given for a setting, if one was.
    ///
    /// # Errors
    /// The first thing wrong, with its place.
    pub fn load(
        path: Option<&Path>,
        flag: impl Fn(&Setting) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let file = match path {
            Some(path) => FileConfig::read(path)?,
            None => FileConfig::default(),
        };
        let mut sources = Vec::with_capacity(TABLE.len());
        let settings = Settings::resolve(|setting| {
            let found = if let Some(text) = flag(setting) {
                (text, Source::Flag(setting.flag()))
            } else if let Some(text) = variable(&setting.variable()) {
                (text, Source::Environment(setting.variable()))
            } else if let Some(located) = file.values.get(setting.key) {
                let source = Source::File(file.path.clone(), located.line);
                (located.value.clone(), source)
            } else {
                (setting.default.to_owned(), Source::Default)
            };
            sources.push(found.clone());
            found
        })?;
        let web = match (&settings.web_config_file, file.section("web")) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::Invalid(
                    "web_config_file and the section web: exclude each other".into(),
                ));
            }
            (Some(path), None) => WebConfig::read(path)?,
            (None, Some(section)) => WebConfig::from_section(&file.path, section)?,
            (None, None) => WebConfig::default(),
        };
        let otlp = OtlpConfig::of(&file)?;
        let process = process(&file)?;
        let runs = runs(&file)?;
        let enabled = |name: &str| settings.enable_feature.iter().any(|f| f == name);
        if enabled(FEATURE_DELTAS_ADDED_UP) && enabled(FEATURE_DELTAS_NATIVE) {
            return Err(ConfigError::Invalid(format!(
                "enable_feature: {FEATURE_DELTAS_ADDED_UP} and {FEATURE_DELTAS_NATIVE} exclude each other"
            )));
        }
        let tenants = match file.section("tenants") {
            Some(section) => tenants::from_section(&file.path, section)?,
            None => Tenants::new(),
        };
        Ok(Self {
            settings,
            sources,
            file,
            web,
            otlp,
            process,
            runs,
            tenants,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        yaml: &str,
        flags: &[(&str, &str)],
        env: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yml");
        std::fs::write(&path, yaml).unwrap();
        let find = |pairs: &[(&str, &str)], key: &str| {
            let found = pairs.iter().find(|(k, _)| *k == key);
            found.map(|(_, v)| (*v).to_owned())
        };
        Config::load(Some(&path), |s| find(flags, s.key), |name| find(env, name))
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let yaml = "retention: 1d\nquery_timeout: 1m\nmemory_max: 1GiB\n";
        let env = [
            ("CHRONOLITH_QUERY_TIMEOUT", "2m"),
            ("CHRONOLITH_MEMORY_MAX", "3GiB"),
        ];
        let config = load(yaml, &[("memory_max", "5GiB")], &env).unwrap();
        assert_eq!(config.settings.retention.as_secs(), 86_400);
        assert_eq!(config.settings.query_timeout.as_secs(), 120);
        assert_eq!(config.settings.memory_max, ByteSize(5 << 30));
        assert_eq!(config.settings.query_lookback.as_secs(), 300);
    }

    #[test]
    fn an_unknown_key_names_line_and_neighbour() {
        let error = load("listen: 127.0.0.1:1\nretenton: 1d\n", &[], &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 2: unknown key \"retenton\""), "{text}");
        assert!(text.contains("did you mean \"retention\"?"), "{text}");
    }

    #[test]
    fn a_bad_value_names_its_source() {
        let text = load("\nretention: soon\n", &[], &[])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("line 2") && text.contains("retention") && text.contains("soon"),
            "{text}"
        );
        let text = load("", &[("listen", "nowhere")], &[])
            .unwrap_err()
            .to_string();
        assert!(text.contains("flag --listen"), "{text}");
    }

    #[test]
    fn truth_values_numbers_and_lists_are_settings_too() {
        let yaml = "self_scrape: off\nenable_admin_api: true\nmemory_max: 1000000000\nenable_feature: [a, b]\nsyslog_tcp_listen: off\n";
        let config = load(yaml, &[], &[]).unwrap();
        assert!(!config.settings.self_scrape);
        assert!(config.settings.enable_admin_api);
        assert_eq!(config.settings.memory_max, ByteSize(1_000_000_000));
        assert_eq!(config.settings.enable_feature, ["a", "b"]);
        assert_eq!(config.settings.syslog_tcp_listen, Listen::Off);
    }

    #[test]
    fn prometheus_sections_are_kept_for_their_owners() {
        let yaml = "global:\n  scrape_interval: 5s\nscrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: [a:1]\n";
        let config = load(yaml, &[], &[]).unwrap();
        let section = config.file.section("scrape_configs").unwrap();
        assert_eq!(section.line, 3);
        assert_eq!(section.value[0]["job_name"], "node");
        assert!(config.file.section("global").is_some());
    }

    #[test]
    fn syntax_errors_and_missing_files_are_reported() {
        let text = load("a: [1, 2\nb: 3\n", &[], &[]).unwrap_err().to_string();
        assert!(text.contains("c.yml") && text.contains("line"), "{text}");
        let missing = Config::load(Some(Path::new("/no/such/file.yml")), |_| None, |_| None);
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .contains("/no/such/file.yml")
        );
        let text = load("listen: a:1\nlisten: b:2\n", &[], &[])
            .unwrap_err()
            .to_string();
        assert!(text.contains("listen"), "{text}");
    }

    #[test]
    fn web_section_is_typed_and_hides_secrets() {
        let yaml =
            "web:\n  basic_auth_users:\n    alice: $2b$04$abc\n  bearer_tokens:\n    ci: tok\n";
        let config = load(yaml, &[], &[]).unwrap();
        assert_eq!(config.web.basic_auth_users.len(), 1);
        assert!(!format!("{config:?}").contains("tok\""));
        let text = load("web:\n  basic_auth_user:\n    a: b\n", &[], &[])
            .unwrap_err()
            .to_string();
        assert!(text.contains("basic_auth_user"), "{text}");
    }
}
