//! The YAML file: flat settings and the sections that other parts own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{ConfigError, TABLE};

/// Sections with a structure of their own.
const SECTIONS: &[&str] = &[
    "global",
    "logs_configs",
    "otlp",
    "process",
    "runs",
    "scrape_configs",
    "scrape_config_files",
    "tenants",
    "web",
];

/// Bytes that a configuration file may have.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A value and the line where it stands.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Line, from 1.
    pub line: u64,
}

/// A section as it was parsed, for whoever owns it.
pub type Section = Located<Value>;

/// What a file holds.
#[derive(Clone, Default)]
pub struct FileConfig {
    /// The file; empty when there is none.
    pub path: PathBuf,
    /// The file's text, for sections that want positions of their own.
    pub text: String,
    /// The settings, as text.
    pub values: BTreeMap<String, Located<String>>,
    sections: BTreeMap<String, Section>,
}

/// Sections may hold secrets, so only their names are shown.
impl fmt::Debug for FileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileConfig")
            .field("path", &self.path)
            .field("values", &self.values)
            .field("sections", &self.sections.keys())
            .finish_non_exhaustive()
    }
}

impl FileConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, is not YAML, or has unknown or repeated keys.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, read_text(path)?)
    }

    /// Checks the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// It is not YAML, or has unknown or repeated keys.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let Entries(entries) = parse_yaml(path, &text)?;
        let mut config = Self {
            path: path.to_owned(),
            text,
            ..Self::default()
        };
        for (key, value) in entries {
            let line = key.referenced.line();
            let key = key.value;
            if config.values.contains_key(&key) || config.sections.contains_key(&key) {
                let path = path.to_owned();
                return Err(ConfigError::DuplicateKey { path, line, key });
            }
            if SECTIONS.contains(&key.as_str()) {
                config.sections.insert(key, Located { value, line });
            } else if TABLE.iter().any(|s| s.key == key) {
                let value = scalar(&value).ok_or_else(|| ConfigError::Syntax {
                    path: path.to_owned(),
                    message: format!("line {line}: {key}: expected a plain value or a list"),
                })?;
                config.values.insert(key, Located { value, line });
            } else {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    line,
                    nearest: nearest_key(&key),
                    key,
                });
            }
        }
        Ok(config)
    }

    /// A section, if the file has it.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// The names of the sections that the file has.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }
}

/// Reads a text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let refuse = |reason: String| ConfigError::Read {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|e| refuse(e.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(refuse(format!("{size} bytes, at most {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))
}

/// Parses YAML into a type; the error has line and column.
pub(super) fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| {
            format!("line {}, column {}: ", at.line(), at.column())
        });
        // The library appends its own place to the message; ours stands in front.
        let message = error.without_snippet().to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        ConfigError::Syntax {
            path: path.to_owned(),
            message: format!("{place}{message}"),
        }
    })
}

/// The key that exists and is most like the one that does not.
fn nearest_key(key: &str) -> Option<String> {
    let known = TABLE.iter().map(|s| s.key).chain(SECTIONS.iter().copied());
    nearest(&key.replace('-', "_"), known).map(str::to_owned)
}

/// The candidate most like `word`, if any is like it at all.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, candidate)| candidate)
}

/// A scalar, or a list of scalars, as the text that a flag would take.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(true) => Some("true".into()),
        Value::Bool(false) => Some("false".into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items
                .iter()
                .map(|item| match item {
                    Value::Array(_) | Value::Object(_) => None,
                    plain => scalar(plain),
                })
                .collect();
            words.map(|w| w.join(","))
        }
        Value::Object(_) => None,
    }
}

/// The entries of a mapping in their order, with the places of the keys.
struct Entries(Vec<(Spanned<String>, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of settings")
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_any(EntriesVisitor)
    }
}
