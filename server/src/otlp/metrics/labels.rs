//! From resource, scope and attributes to the labels of a series, as Prometheus does it.
//!
//! What a resource and a scope give is worked out once for all of their data points. The labels of a
//! data point are worked out only when its series is not known yet. Order of strength, weakest first:
//! attributes, promoted resource attributes (which replace nothing), `job` and `instance`, the scope,
//! type and unit, the metric's name with `le` or `quantile`.

use std::collections::{BTreeMap, HashSet};

use chronolith_engine::model::{Labels, LabelsBuilder, METRIC_NAME, Metadata, MetricType};
use xxhash_rust::xxh3::Xxh3;

use super::message::ScopeMetrics;
use super::names::{NameRules, unit_words};
use crate::config::OtlpConfig;
use crate::otlp::attributes::{AttributeError, Attributes};

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
/// Attributes that name the target; they become `job` and `instance`.
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];

/// Name of the series that carries what is known of a target.
pub(super) const TARGET_INFO: &str = "target_info";

/// Why there are no labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    /// An attribute cannot be read.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// A name cannot be.
    #[error("{0}")]
    Name(String),
}

/// Labels in the making; an empty value is the same as no label.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelMap(BTreeMap<String, String>);

impl LabelMap {
    fn get(&self, name: &str) -> Option<&String> {
        self.0.get(name).filter(|value| !value.is_empty())
    }

    fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The labels of one of the series of a metric.
    ///
    /// # Errors
    /// A label without a name.
    pub(super) fn of_series(
        &self,
        name: &str,
        extra: Option<(&'static str, String)>,
    ) -> Result<Labels, LabelError> {
        let mut builder = LabelsBuilder::new();
        let is_set = |known: &str| {
            known == METRIC_NAME || extra.as_ref().is_some_and(|(extra, _)| *extra == known)
        };
        for (known, value) in &self.0 {
            if !is_set(known) {
                builder.push(known, value);
            }
        }
        if let Some((extra, value)) = &extra {
            builder.push(extra, value);
        }
        builder.push(METRIC_NAME, name);
        builder
            .finish()
            .map_err(|e| LabelError::Name(e.to_string()))
    }
}

/// Which resource attributes become labels.
#[derive(Clone, Debug)]
enum Promoted {
    These(HashSet<String>),
    AllBut(HashSet<String>),
}

impl Promoted {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.contains(name),
            Self::AllBut(names) => !names.contains(name),
        }
    }
}

/// The rules in force.
#[derive(Clone, Debug)]
pub(super) struct LabelRules {
    /// How names are written.
    pub(super) names: NameRules,
    promoted: Promoted,
    keep_identifying: bool,
    promote_scope: bool,
    type_and_unit: bool,
}

impl LabelRules {
    /// As the configuration has it; `type_and_unit` turns the labels `__type__` and `__unit__` on.
    #[must_use]
    pub(super) fn new(config: &OtlpConfig, type_and_unit: bool) -> Self {
        let set = |names: &[String]| names.iter().cloned().collect();
        Self {
            names: NameRules::new(config),
            promoted: match config.promote_all_resource_attributes {
                true => Promoted::AllBut(set(&config.ignore_resource_attributes)),
                false => Promoted::These(set(&config.promote_resource_attributes)),
            },
            keep_identifying: config.keep_identifying_resource_attributes,
            promote_scope: config.promote_scope_metadata,
            type_and_unit,
        }
    }

    /// The same with another section `otlp:`.
    pub(super) fn reconfigured(&self, config: &OtlpConfig) -> Self {
        Self::new(config, self.type_and_unit)
    }

    /// What the attributes of a resource give all of its series.
    ///
    /// # Errors
    /// An attribute that is to be a label cannot be one.
    pub(super) fn resource(
        &self,
        attributes: Attributes<'_>,
    ) -> Result<ResourceLabels, LabelError> {
        let mut labels = ResourceLabels::default();
        let (mut namespace, mut service) = (None, None);
        attributes.for_each(|key, value| {
            match key {
                SERVICE_NAME => service = Some(value.text()?),
                SERVICE_NAMESPACE => namespace = Some(value.text()?),
                SERVICE_INSTANCE => labels.instance = value.text()?,
                _ => {}
            }
            if self.promoted.contains(key) {
                let name = self.names.label(key).map_err(LabelError::Name)?;
                labels.promoted.set(&name, value.text()?);
            }
            Ok::<_, LabelError>(())
        })?;
        labels.job = match (namespace, service) {
            (_, None) => String::new(),
            (None, Some(service)) => service,
            (Some(namespace), Some(service)) => format!("{namespace}/{service}"),
        };
        Ok(labels)
    }

    /// What a scope gives all of its series.
    ///
    /// # Errors
    /// An attribute cannot be a label.
    pub(super) fn scope(&self, scope: &ScopeMetrics<'_>) -> Result<LabelMap, LabelError> {
        let mut labels = LabelMap::default();
        if !self.promote_scope || scope.name.is_empty() {
            return Ok(labels);
        }
        scope.attributes.for_each(|key, value| {
            let name = format!("otel_scope_{key}");
            let name = self.names.label(&name).map_err(LabelError::Name)?;
            labels.set(&name, value.text()?);
            Ok::<_, LabelError>(())
        })?;
        labels.set("otel_scope_name", scope.name.to_owned());
        labels.set("otel_scope_version", scope.version.to_owned());
        labels.set("otel_scope_schema_url", scope.schema_url.to_owned());
        Ok(labels)
    }

    /// The labels of a data point, without the name of its metric.
    ///
    /// # Errors
    /// An attribute cannot be a label.
    pub(super) fn point(
        &self,
        attributes: Attributes<'_>,
        resource: &ResourceLabels,
        scope: &LabelMap,
        metadata: &Metadata,
    ) -> Result<LabelMap, LabelError> {
        let mut labels = self.attributes(attributes, &[])?;
        for (name, value) in &resource.promoted.0 {
            if labels.get(name).is_none() {
                labels.set(name, value.clone());
            }
        }
        resource.set_identity(&mut labels);
        for (name, value) in &scope.0 {
            labels.set(name, value.clone());
        }
        if self.type_and_unit {
            if metadata.metric_type != MetricType::Unknown {
                labels.set("__type__", metadata.metric_type.as_str().to_owned());
            }
            if !metadata.unit.is_empty() {
                labels.set("__unit__", unit_words(&metadata.unit));
            }
        }
        Ok(labels)
    }

    /// The labels of a resource's `target_info`; `None` if there is nothing to tell or nobody to tell
    /// it of.
    ///
    /// # Errors
    /// An attribute cannot be a label.
    pub(super) fn target_info(
        &self,
        attributes: Attributes<'_>,
        resource: &ResourceLabels,
    ) -> Result<Option<Labels>, LabelError> {
        let mut telling = false;
        attributes.for_each(|key, _| {
            telling |= !IDENTIFYING.contains(&key);
            Ok::<_, LabelError>(())
        })?;
        if !telling {
            return Ok(None);
        }
        let ignored: &[&str] = match self.keep_identifying {
            true => &[],
            false => &IDENTIFYING,
        };
        let mut labels = self.attributes(attributes, ignored)?;
        resource.set_identity(&mut labels);
        if labels.get("job").is_none() && labels.get("instance").is_none() {
            return Ok(None);
        }
        labels.of_series(TARGET_INFO, None).map(Some)
    }

    /// A hash of all that decides on the labels of a data point besides its attributes: equal hashes
    /// and equal attributes mean the same series. Resource attributes that become no label have no
    /// part in it, so that one that changes with every request does not make the series look new.
    pub(super) fn context_hash(
        &self,
        resource: &ResourceLabels,
        scope: &LabelMap,
        metric_name: &str,
        metadata: &Metadata,
    ) -> u128 {
        let mut hasher = Xxh3::new();
        hasher.update(&[self.fingerprint()]);
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(metric_name);
        add(metadata.metric_type.as_str());
        add(&metadata.unit);
        add(&resource.job);
        add(&resource.instance);
        for map in [&resource.promoted, scope] {
            for (name, value) in &map.0 {
                add(name);
                add(value);
            }
            add("");
        }
        hasher.digest128()
    }

    /// Differs where the same attributes become other labels.
    pub(super) fn fingerprint(&self) -> u8 {
        let NameRules {
            escape,
            suffixes,
            underscore_prefix,
            keep_underscores,
        } = self.names;
        let switches = [
            escape,
            suffixes,
            underscore_prefix,
            keep_underscores,
            self.keep_identifying,
        ];
        let bits = switches
            .iter()
            .zip(0..)
            .map(|(on, bit)| u8::from(*on) << bit);
        bits.sum()
    }

    /// Attributes as labels. Where escaping makes two names one, their values are joined with `;`, in
    /// the order of the names before.
    fn attributes(
        &self,
        attributes: Attributes<'_>,
        ignored: &[&str],
    ) -> Result<LabelMap, LabelError> {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        attributes.for_each(|key, value| {
            if key != METRIC_NAME && !ignored.contains(&key) {
                pairs.push((key, value.text()?));
            }
            Ok::<_, LabelError>(())
        })?;
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let mut labels = LabelMap::default();
        for (key, value) in pairs {
            let name = self.names.label(key).map_err(LabelError::Name)?;
            let joined = match labels.get(&name) {
                Some(earlier) if self.names.escape => format!("{earlier};{value}"),
                _ => value,
            };
            labels.set(&name, joined);
        }
        Ok(labels)
    }
}

/// What a resource gives all of its series.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceLabels {
    job: String,
    instance: String,
    promoted: LabelMap,
}

impl ResourceLabels {
    fn set_identity(&self, labels: &mut LabelMap) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.set(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TranslationStrategy;
    use crate::wire::protobuf::push_bytes;

    /// A message whose field 1 holds attributes with text values.
    fn message(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            let (mut any, mut pair) = (Vec::new(), Vec::new());
            push_bytes(&mut any, 1, value.as_bytes());
            push_bytes(&mut pair, 1, key.as_bytes());
            push_bytes(&mut pair, 2, &any);
            push_bytes(&mut out, 1, &pair);
        }
        out
    }

    fn labels(config: &OtlpConfig, resource: &[(&str, &str)], point: &[(&str, &str)]) -> String {
        let rules = LabelRules::new(config, false);
        let (resource, point) = (message(resource), message(point));
        let resource = rules.resource(Attributes::new(&resource, 1)).unwrap();
        let map = rules.point(
            Attributes::new(&point, 1),
            &resource,
            &LabelMap::default(),
            &Metadata::default(),
        );
        map.unwrap().of_series("m", None).unwrap().to_string()
    }

    const RESOURCE: [(&str, &str); 5] = [
        ("service.name", "api"),
        ("service.namespace", "shop"),
        ("service.instance.id", "i-1"),
        ("k8s.pod.name", "pod-7"),
        ("cloud.region", "eu"),
    ];

    #[test]
    fn job_and_instance_come_from_the_service() {
        let config = OtlpConfig::default();
        assert_eq!(
            labels(
                &config,
                &RESOURCE,
                &[("http.method", "GET"), ("job", "mine")]
            ),
            r#"{__name__="m", http_method="GET", instance="i-1", job="shop/api"}"#
        );
        assert_eq!(
            labels(&config, &RESOURCE[..1], &[]),
            r#"{__name__="m", job="api"}"#
        );
        assert_eq!(labels(&config, &RESOURCE[1..2], &[]), r#"{__name__="m"}"#);
    }

    #[test]
    fn resource_attributes_are_promoted_and_replace_nothing() {
        let some = OtlpConfig {
            promote_resource_attributes: vec!["k8s.pod.name".into()],
            ..OtlpConfig::default()
        };
        assert_eq!(
            labels(&some, &RESOURCE[3..], &[]),
            r#"{__name__="m", k8s_pod_name="pod-7"}"#
        );
        assert_eq!(
            labels(&some, &RESOURCE[3..], &[("k8s.pod.name", "own")]),
            r#"{__name__="m", k8s_pod_name="own"}"#
        );
        let all = OtlpConfig {
            promote_all_resource_attributes: true,
            ignore_resource_attributes: vec!["k8s.pod.name".into()],
            ..OtlpConfig::default()
        };
        assert_eq!(
            labels(&all, &RESOURCE[3..], &[]),
            r#"{__name__="m", cloud_region="eu"}"#
        );
    }

    #[test]
    fn names_that_become_one_join_their_values() {
        let pairs = [("a.b", "2"), ("a-b", "1"), ("a_b", "3"), ("__name__", "x")];
        assert_eq!(
            labels(&OtlpConfig::default(), &[], &pairs),
            r#"{__name__="m", a_b="1;2;3"}"#
        );
        let as_they_are = OtlpConfig {
            translation_strategy: TranslationStrategy::NoTranslation,
            ..OtlpConfig::default()
        };
        assert_eq!(
            labels(&as_they_are, &[], &pairs),
            r#"{__name__="m", a-b="1", a.b="2", a_b="3"}"#
        );
    }

    #[test]
    fn target_info_tells_what_does_not_identify() {
        let info = |config: &OtlpConfig, pairs: &[(&str, &str)]| {
            let rules = LabelRules::new(config, false);
            let message = message(pairs);
            let attributes = Attributes::new(&message, 1);
            let resource = rules.resource(attributes).unwrap();
            let found = rules.target_info(attributes, &resource).unwrap();
            found.map(|labels| labels.to_string())
        };
        let config = OtlpConfig::default();
        assert_eq!(
            info(&config, &RESOURCE).unwrap(),
            r#"{__name__="target_info", cloud_region="eu", instance="i-1", job="shop/api", k8s_pod_name="pod-7"}"#
        );
        assert_eq!(info(&config, &RESOURCE[..3]), None, "nothing to tell");
        assert_eq!(info(&config, &RESOURCE[3..]), None, "nobody to tell it of");
        let keep = OtlpConfig {
            keep_identifying_resource_attributes: true,
            ..config
        };
        assert!(
            info(&keep, &RESOURCE)
                .unwrap()
                .contains(r#"service_name="api""#)
        );
    }

    #[test]
    fn scopes_types_and_units_become_labels_when_asked_for() {
        let config = OtlpConfig {
            promote_scope_metadata: true,
            ..OtlpConfig::default()
        };
        let rules = LabelRules::new(&config, true);
        let attributes = message(&[("lib.kind", "x")]);
        let mut scope = ScopeMetrics {
            name: "lib",
            version: "1",
            schema_url: "",
            attributes: Attributes::new(&attributes, 1),
        };
        let labels = rules.scope(&scope).unwrap();
        let metadata = Metadata {
            metric_type: MetricType::Counter,
            unit: "seconds".into(),
            help: String::new(),
        };
        let resource = ResourceLabels::default();
        let point = rules.point(Attributes::new(&[], 1), &resource, &labels, &metadata);
        assert_eq!(
            point
                .unwrap()
                .of_series("m", Some(("le", "1".into())))
                .unwrap()
                .to_string(),
            r#"{__name__="m", __type__="counter", __unit__="seconds", le="1", otel_scope_lib_kind="x", otel_scope_name="lib", otel_scope_version="1"}"#
        );
        scope.name = "";
        assert!(rules.scope(&scope).unwrap().0.is_empty());
    }
}
