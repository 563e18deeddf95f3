//! The section `otlp:`, as Prometheus has it: how OpenTelemetry's names and resources become labels.

use serde::Deserialize;

use super::ConfigError;
use super::file::FileConfig;

/// How OTLP metrics become series. Names and defaults are those of Prometheus 3.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Resource attributes that become labels of every series of the resource.
    pub promote_resource_attributes: Vec<String>,
    /// All resource attributes become labels, but for those that are ignored.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that `promote_all_resource_attributes` leaves out.
    pub ignore_resource_attributes: Vec<String>,
    /// What happens to names.
    pub translation_strategy: TranslationStrategy,
    /// `target_info` bears `service.name`, `service.namespace` and `service.instance.id` as well.
    pub keep_identifying_resource_attributes: bool,
    /// Explicit histograms become native histograms with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Name, version, schema and attributes of the scope become labels `otel_scope_…`.
    pub promote_scope_metadata: bool,
    /// Label names that begin with one underscore get `key` in front, where names are escaped.
    pub label_name_underscore_sanitization: bool,
    /// Several underscores in a row stay in label names, where names are escaped.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            translation_strategy: TranslationStrategy::default(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

/// What happens to the names of metrics and labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TranslationStrategy {
    /// What Prometheus' classic names do not allow becomes `_`; unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// What Prometheus' classic names do not allow becomes `_`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are; unit and type are appended.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    /// Whether names are brought into Prometheus' classic form.
    #[must_use]
    pub fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }

    /// Whether metric names get unit and type appended.
    #[must_use]
    pub fn adds_suffixes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes
        )
    }
}

impl OtlpConfig {
    /// Reads the section of a file; the defaults if it has none.
    ///
    /// # Errors
    /// An unknown key, a wrong value, or settings that contradict each other.
    pub fn of(file: &FileConfig) -> Result<Self, ConfigError> {
        let Some(section) = file.section("otlp") else {
            return Ok(Self::default());
        };
        let refuse = |message: String| ConfigError::Syntax {
            path: file.path.clone(),
            message: format!("section otlp: at line {}: {message}", section.line),
        };
        if section.value.is_null() {
            return Ok(Self::default());
        }
        let config: Self =
            serde_json::from_value(section.value.clone()).map_err(|e| refuse(e.to_string()))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously".into());
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err("'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true".into());
        }
        let lists = [
            ("promoted", &self.promote_resource_attributes),
            ("ignored", &self.ignore_resource_attributes),
        ];
        for (word, list) in lists {
            for (index, name) in list.iter().enumerate() {
                if name.trim().is_empty() {
                    return Err(format!("empty {word} OTel resource attribute"));
                }
                if list.iter().take(index).any(|earlier| earlier == name) {
                    return Err(format!(
                        "duplicated {word} OTel resource attribute \"{name}\""
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(yaml: &str) -> Result<OtlpConfig, String> {
        let file = FileConfig::parse(Path::new("c.yml"), yaml.to_owned()).unwrap();
        OtlpConfig::of(&file).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_prometheus() {
        let config = read("retention: 1d\n").unwrap();
        assert_eq!(config, OtlpConfig::default());
        assert_eq!(read("otlp:\n"), Ok(config.clone()));
        assert!(config.translation_strategy.escapes() && config.label_name_underscore_sanitization);
    }

    #[test]
    fn keys_and_values_have_prometheus_names() {
        let yaml = "otlp:\n  promote_resource_attributes: [k8s.pod.name]\n  translation_strategy: NoTranslation\n  convert_histograms_to_nhcb: true\n";
        let config = read(yaml).unwrap();
        assert_eq!(config.promote_resource_attributes, ["k8s.pod.name"]);
        assert_eq!(
            config.translation_strategy,
            TranslationStrategy::NoTranslation
        );
        assert!(config.convert_histograms_to_nhcb && !config.translation_strategy.adds_suffixes());
    }

    #[test]
    fn contradictions_and_unknown_words_are_refused() {
        let cases = [
            ("{promote_all: true}", "unknown field"),
            ("{translation_strategy: Other}", "unknown variant"),
            (
                "{promote_all_resource_attributes: true, promote_resource_attributes: [a]}",
                "simultaneously",
            ),
            ("{ignore_resource_attributes: [a]}", "unless"),
            (
                "{promote_resource_attributes: [a, a]}",
                "duplicated promoted",
            ),
            ("{promote_resource_attributes: ['']}", "empty promoted"),
        ];
        for (yaml, part) in cases {
            let error = read(&format!("otlp: {yaml}\n")).unwrap_err();
            assert!(
                error.contains(part) && error.contains("line 1"),
                "{yaml}: {error}"
            );
        }
    }
}
