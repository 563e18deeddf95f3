//! Relabelling: Prometheus' rules that rewrite, keep or drop label sets.
//!
//! Source: the `relabel_config` section of Prometheus' configuration page. Regexes are anchored;
//! source labels are joined by the separator; an empty result removes a label. `$1` and `${name}`
//! expand by the same rule in Go and in the regex crate (the longest run of word characters).

use chronolith_engine::model::LabelsBuilder;
use serde::{Deserialize, Serialize};

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets the target label to the replacement where the regex matches.
    #[default]
    Replace,
    /// Keeps only label sets that match.
    Keep,
    /// Drops label sets that match.
    Drop,
    /// Keeps label sets whose joined source labels equal the target label.
    KeepEqual,
    /// Drops label sets whose joined source labels equal the target label.
    DropEqual,
    /// Sets the target label to a hash of the source labels, modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to names made by the replacement.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets the target label to the source labels in lower case.
    Lowercase,
    /// Sets the target label to the source labels in upper case.
    Uppercase,
}

/// One rule as written in YAML.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelabelConfig {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// What joins them.
    pub separator: String,
    /// The label to set.
    pub target_label: String,
    /// What the joined values, or label names, are matched with.
    pub regex: String,
    /// For `hashmod`.
    pub modulus: u64,
    /// May hold `$1`, `${name}`.
    pub replacement: String,
    /// What to do.
    pub action: Action,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".into(),
            target_label: String::new(),
            regex: "(.*)".into(),
            modulus: 0,
            replacement: "$1".into(),
            action: Action::Replace,
        }
    }
}

/// A rule ready to be applied.
#[derive(Clone, Debug)]
pub struct Rule {
    config: RelabelConfig,
    regex: regex::Regex,
}

impl Rule {
    /// Checks a rule.
    ///
    /// # Errors
    /// What is wrong with it, in words for who wrote the configuration.
    pub fn new(config: RelabelConfig) -> Result<Self, String> {
        use Action as A;
        let regex = regex::RegexBuilder::new(&format!("^(?s:{})$", config.regex))
            .size_limit(1 << 20)
            .build()
            .map_err(|e| format!("regex {:?}: {e}", config.regex))?;
        let needs_target = matches!(
            config.action,
            A::Replace | A::HashMod | A::Lowercase | A::Uppercase | A::KeepEqual | A::DropEqual
        );
        if needs_target && config.target_label.is_empty() {
            return Err(format!("action {:?} needs target_label", config.action).to_lowercase());
        }
        if config.action == A::HashMod && config.modulus == 0 {
            return Err("action hashmod needs a modulus above 0".into());
        }
        Ok(Self { config, regex })
    }

    /// Checks a list of rules.
    ///
    /// # Errors
    /// The first rule that is wrong, with its number from 1.
    pub fn all(configs: &[RelabelConfig]) -> Result<Vec<Self>, String> {
        let check = |(index, config): (usize, &RelabelConfig)| {
            Self::new(config.clone()).map_err(|e| format!("relabel rule {}: {e}", index + 1))
        };
        configs.iter().enumerate().map(check).collect()
    }

    /// The rule as written.
    #[must_use]
    pub fn config(&self) -> &RelabelConfig {
        &self.config
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let config = &self.config;
        match config.action {
            Action::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
                return true;
            }
            Action::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
                return true;
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter_map(|(name, value)| {
                        let captures = self.regex.captures(name)?;
                        let mut target = String::new();
                        captures.expand(&config.replacement, &mut target);
                        Some((target, value.to_owned()))
                    })
                    .collect();
                for (name, value) in mapped {
                    labels.set(&name, &value);
                }
                return true;
            }
            _ => {}
        }
        let mut joined = String::new();
        for (index, name) in config.source_labels.iter().enumerate() {
            if index > 0 {
                joined.push_str(&config.separator);
            }
            joined.push_str(labels.get(name).unwrap_or(""));
        }
        match config.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return labels.get(&config.target_label).unwrap_or("") == joined,
            Action::DropEqual => return labels.get(&config.target_label).unwrap_or("") != joined,
            Action::HashMod => {
                let digest = md5(joined.as_bytes());
                labels.set(&config.target_label, &(digest % config.modulus).to_string());
            }
            Action::Lowercase => labels.set(&config.target_label, &joined.to_lowercase()),
            Action::Uppercase => labels.set(&config.target_label, &joined.to_uppercase()),
            Action::Replace => {
                if let Some(captures) = self.regex.captures(&joined) {
                    let (mut target, mut value) = (String::new(), String::new());
                    captures.expand(&config.target_label, &mut target);
                    captures.expand(&config.replacement, &mut value);
                    if !target.is_empty() {
                        labels.set(&target, &value);
                    }
                }
            }
            Action::LabelDrop | Action::LabelKeep | Action::LabelMap => {}
        }
        true
    }
}

/// Applies rules in order; false when the label set is dropped.
#[must_use]
pub fn apply_all(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// The last 8 bytes of the MD5 digest as a big-endian number: Prometheus' `hashmod`, so that
/// shards stay where they are after a migration.
fn md5(bytes: &[u8]) -> u64 {
    let digest: [u8; 16] = <md5::Md5 as md5::Digest>::digest(bytes).into();
    digest[8..]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(yaml_like: RelabelConfig, labels: &[(&str, &str)]) -> Option<String> {
        let mut builder = LabelsBuilder::new();
        for (name, value) in labels {
            builder.push(name, value);
        }
        let rule = Rule::new(yaml_like).unwrap();
        apply_all(&[rule], &mut builder).then(|| builder.finish().unwrap().to_string())
    }

    fn config(action: Action) -> RelabelConfig {
        RelabelConfig {
            action,
            ..RelabelConfig::default()
        }
    }

    #[test]
    fn replace_joins_matches_and_expands() {
        let rule = RelabelConfig {
            source_labels: vec!["a".into(), "b".into()],
            regex: "f(.*);(.*)r".into(),
            target_label: "x".into(),
            replacement: "b${1}z-$2".into(),
            ..config(Action::Replace)
        };
        let found = run(rule, &[("a", "foo"), ("b", "bar")]).unwrap();
        assert_eq!(found, r#"{a="foo", b="bar", x="booz-ba"}"#);
    }

    #[test]
    fn keep_and_drop() {
        let rule = |action| RelabelConfig {
            source_labels: vec!["a".into()],
            regex: "fo+".into(),
            ..config(action)
        };
        assert!(run(rule(Action::Keep), &[("a", "foo")]).is_some());
        assert!(run(rule(Action::Keep), &[("a", "xfoo")]).is_none());
        assert!(run(rule(Action::Drop), &[("a", "foo")]).is_none());
    }

    #[test]
    fn label_names_are_mapped_and_dropped() {
        let map = RelabelConfig {
            regex: "__meta_(.+)".into(),
            ..config(Action::LabelMap)
        };
        assert_eq!(
            run(map, &[("__meta_x", "1")]).unwrap(),
            r#"{__meta_x="1", x="1"}"#
        );
        let drop = RelabelConfig {
            regex: "tmp_.*".into(),
            ..config(Action::LabelDrop)
        };
        assert_eq!(
            run(drop, &[("tmp_a", "1"), ("b", "2")]).unwrap(),
            r#"{b="2"}"#
        );
    }

    #[test]
    fn hashmod_is_that_of_prometheus() {
        // From the test table of the reference: "foo" and "bar" joined, modulo 1000.
        let rule = RelabelConfig {
            source_labels: vec!["c".into()],
            target_label: "d".into(),
            modulus: 1000,
            ..config(Action::HashMod)
        };
        assert_eq!(run(rule, &[("c", "baz")]).unwrap(), r#"{c="baz", d="976"}"#);
    }

    #[test]
    fn faulty_rules_are_refused() {
        assert!(Rule::new(config(Action::HashMod)).is_err());
        assert!(
            Rule::new(RelabelConfig {
                regex: "(".into(),
                ..config(Action::Keep)
            })
            .is_err()
        );
        assert!(Rule::new(config(Action::Replace)).is_err());
    }
}
