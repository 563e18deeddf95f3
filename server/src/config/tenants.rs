//! The section `tenants:`: what single tenants may have instead of what the settings give to all.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chronolith_engine::{TenantId, TenantLimits};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::file::{Section, scalar};
use super::values::{ByteSize, SettingValue};
use super::{ConfigError, Settings};

/// What a tenant has of its own; what is missing is as for all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Age after which its data goes; 0 keeps everything.
    #[serde(default, deserialize_with = "setting")]
    pub retention: Option<Duration>,
    /// Bytes on disk above which its oldest days go; 0 for no limit.
    #[serde(default, deserialize_with = "setting")]
    pub retention_size: Option<ByteSize>,
    /// Active series; 0 for no limit.
    #[serde(default)]
    pub series_max: Option<u64>,
    /// Labels of a series, the metric name among them.
    #[serde(default)]
    pub labels_max: Option<usize>,
    /// Bytes of a label's name.
    #[serde(default)]
    pub label_name_bytes_max: Option<usize>,
    /// Bytes of a label's value.
    #[serde(default)]
    pub label_value_bytes_max: Option<usize>,
}

/// A value written as in the settings.
pub(super) fn setting<'de, T: SettingValue, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(from)?;
    let text = scalar(&value).ok_or_else(|| D::Error::custom("expected a plain value"))?;
    let refuse = |expected: String| D::Error::custom(format!("{expected}, got {text:?}"));
    T::parse(&text).map(Some).map_err(refuse)
}

/// Tenants with limits of their own.
pub type Tenants = BTreeMap<TenantId, TenantConfig>;

/// Reads the section of the file `path`.
///
/// # Errors
/// It has another shape; names that no tenant can have.
pub(super) fn from_section(path: &Path, section: &Section) -> Result<Tenants, ConfigError> {
    let refuse = |what: String| ConfigError::Syntax {
        path: path.to_owned(),
        message: format!("section tenants: at line {}: {what}", section.line),
    };
    if section.value.is_null() {
        return Ok(Tenants::new());
    }
    let all: BTreeMap<String, Value> =
        serde_json::from_value(section.value.clone()).map_err(|e| refuse(e.to_string()))?;
    let read = all.into_iter().map(|(name, value)| {
        let tenant = TenantId::new(&name).map_err(|e| refuse(e.to_string()))?;
        let config = serde_json::from_value(value).map_err(|e| refuse(format!("{name}: {e}")))?;
        Ok((tenant, config))
    });
    read.collect()
}

impl TenantConfig {
    /// What the tenant may have.
    #[must_use]
    pub fn limits(&self, settings: &Settings) -> TenantLimits {
        let shared = TenantLimits::default();
        let retention = self.retention.unwrap_or(settings.retention);
        TenantLimits {
            retention: (!retention.is_zero()).then_some(retention),
            retention_bytes: self.retention_size.map_or(0, |size| size.0),
            series_max: self.series_max.unwrap_or(settings.tenant_series_max),
            labels_per_series_max: self.labels_max.unwrap_or(shared.labels_per_series_max),
            label_name_bytes_max: self
                .label_name_bytes_max
                .unwrap_or(shared.label_name_bytes_max),
            label_value_bytes_max: self
                .label_value_bytes_max
                .unwrap_or(shared.label_value_bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(yaml: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yml");
        std::fs::write(&path, yaml).unwrap();
        Config::load(Some(&path), |_| None, |_| None)
    }

    #[test]
    fn tenants_have_limits_of_their_own() {
        let config = load(
            "retention: 10d\ntenant_series_max: 5\ntenants:\n  a:\n    retention: 0\n    series_max: 7\n    labels_max: 12\n  b:\n    retention_size: 1GiB\n",
        )
        .unwrap();
        let of = |name: &str| {
            let tenant = TenantId::new(name).unwrap();
            config
                .tenants
                .get(&tenant)
                .unwrap()
                .limits(&config.settings)
        };
        let (a, b) = (of("a"), of("b"));
        assert_eq!((a.retention, a.series_max), (None, 7));
        assert_eq!(a.labels_per_series_max, 12);
        assert_eq!(b.retention, Some(Duration::from_secs(864_000)));
        assert_eq!((b.retention_bytes, b.series_max), (1 << 30, 5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, part) in [
            (
                "tenants:\n  a:\n    series: 7\n",
                "a: unknown field `series`",
            ),
            ("tenants:\n  a/b:\n    series_max: 7\n", "tenant \"a/b\""),
            ("tenants:\n  a:\n    retention: soon\n", "got \"soon\""),
            ("\ntenants: 3\n", "line 2"),
        ] {
            let error = load(yaml).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
