//! The Pushgateway API: short jobs push their metrics before they end.
//!
//! `PUT` replaces a group, `POST` replaces the metrics of the same names in it, `DELETE` removes
//! it. A group is named by the labels in the path. Groups are kept as state documents, so that they
//! survive a restart, and their values are written into the store at each interval as if they had
//! been scraped with `honor_labels`, plus `push_time_seconds` and `push_failure_time_seconds`.
//!
//! A group is changed and written by one thread at a time, different groups by several: each write
//! waits for the log's sync, and those that wait together share one.
//! Source: the Pushgateway's README.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use chronolith_engine::model::{Labels, LabelsBuilder, METRIC_NAME};
use chronolith_engine::{EngineError, RequestContext, Store, TenantId};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::exposition::{self, Dialect, Entry, Reader};
use super::writer::{self, SeriesCache, WriteError, WriteRules};
use crate::telemetry::now_ms;

const COLLECTION: &str = "pushgateway";
/// Groups that may exist per tenant; pushes at the same time may exceed it by a few.
const GROUPS_MAX: usize = 10_000;
/// Locks over which groups are spread.
const SHARDS: usize = 64;
/// Threads that write groups at each interval.
const WRITERS: usize = 8;

/// Why a push was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The client's fault.
    #[error("{0}")]
    Invalid(String),
    /// The store refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What is kept of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Group {
    labels: BTreeMap<String, String>,
    /// Metric family → its lines, ready to be written out again.
    families: BTreeMap<String, String>,
    push_time_seconds: f64,
    push_failure_time_seconds: f64,
}

/// The pushed groups of a store.
#[derive(Debug)]
pub struct Pushgateway {
    store: Store,
    /// Caches of groups that nobody is writing.
    caches: Mutex<HashMap<GroupId, SeriesCache>>,
    /// One change of a group at a time.
    changing: [Mutex<()>; SHARDS],
}

/// A group of a tenant.
type GroupId = (TenantId, String);

/// How a push changes its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushMode {
    /// `PUT`: the group is what was pushed.
    Replace,
    /// `POST`: metrics of the same names are replaced, others stay.
    Merge,
}

impl Pushgateway {
    /// The groups kept in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            caches: Mutex::default(),
            changing: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The right to change a group.
    fn change(&self, id: &GroupId) -> MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        id.hash(&mut hasher);
        let shard = hasher.finish() as usize % SHARDS;
        self.changing[shard].lock()
    }

    /// Takes a push. `path` is what follows `/metrics/`: `job/x/instance/y`.
    ///
    /// # Errors
    /// A path, format or metric that cannot be accepted; then the group's failure time is set.
    pub fn push(
        &self,
        context: &RequestContext,
        path: &str,
        mode: PushMode,
        body: &[u8],
        dialect: Dialect,
    ) -> Result<(), PushError> {
        let labels = group_labels(path)?;
        let key = group_key(&labels)?;
        let families = parse_families(body, dialect, &labels);
        let id = (context.tenant.clone(), key.clone());
        let changing = self.change(&id);
        let existing = self.store.state_get(context, COLLECTION, &key)?;
        let is_new = existing.is_none();
        let mut group = match &existing {
            Some(document) => serde_json::from_slice(&document.value)
                .map_err(|e| EngineError::InvalidArgument(format!("pushed group {key}: {e}")))?,
            None => Group::default(),
        };
        if is_new
            && self
                .store
                .state_list(context, COLLECTION, "", GROUPS_MAX)?
                .len()
                >= GROUPS_MAX
        {
            return Err(PushError::Invalid(format!(
                "{GROUPS_MAX} groups are there already: delete some first"
            )));
        }
        group.labels = labels
            .iter()
            .map(|l| (l.name.to_owned(), l.value.to_owned()))
            .collect();
        let now_seconds = now_ms() as f64 / 1e3;
        let outcome = match families {
            Ok(families) => {
                if mode == PushMode::Replace {
                    group.families.clear();
                }
                group.families.extend(families);
                group.push_time_seconds = now_seconds;
                Ok(())
            }
            Err(reason) => {
                group.push_failure_time_seconds = now_seconds;
                Err(PushError::Invalid(reason))
            }
        };
        let value = serde_json::to_vec(&group)
            .map_err(|e| EngineError::InvalidArgument(format!("pushed group {key}: {e}")))?;
        self.store
            .state_put(context, COLLECTION, &key, None, &value)?;
        if outcome.is_ok() {
            self.write_group(context, &id, &group, &changing)?;
        }
        outcome
    }

    /// Removes a group; its series end.
    ///
    /// # Errors
    /// A path that cannot be a group, or the store refuses.
    pub fn delete(&self, context: &RequestContext, path: &str) -> Result<(), PushError> {
        let labels = group_labels(path)?;
        let key = group_key(&labels)?;
        let id = (context.tenant.clone(), key);
        let _changing = self.change(&id);
        let key = &id.1;
        if self.store.state_get(context, COLLECTION, key)?.is_none() {
            return Ok(());
        }
        self.store.state_delete(context, COLLECTION, key, None)?;
        let cache = self.caches.lock().remove(&id);
        if let Some(mut cache) = cache {
            let rules = rules(labels);
            let stale = f64::from_bits(chronolith_engine::model::STALE_NAN_BITS);
            let reports = vec![
                ("push_time_seconds", stale),
                ("push_failure_time_seconds", stale),
            ];
            writer::write_absence(&self.store, context, &rules, &mut cache, now_ms(), reports)?;
        }
        Ok(())
    }

    /// Writes the values of all groups of all tenants, as one scrape of each would.
    pub fn write_all(&self) {
        for tenant in self.store.tenants() {
            let context = RequestContext::for_tenant(tenant);
            let documents = match self.store.state_list(&context, COLLECTION, "", GROUPS_MAX) {
                Ok(documents) => documents,
                Err(error) => {
                    tracing::warn!(%error, "cannot list pushed groups");
                    continue;
                }
            };
            let next = AtomicUsize::new(0);
            let write = || {
                while let Some(document) = documents.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = self.write_again(&context, &document.key) {
                        let group = &document.key;
                        tracing::warn!(group, %error, "cannot write a pushed group");
                    }
                }
            };
            std::thread::scope(|scope| {
                for _ in 1..WRITERS.min(documents.len()) {
                    scope.spawn(write);
                }
                write();
            });
        }
    }

    /// Writes a group as it is now: it may have been pushed anew or deleted since it was listed.
    fn write_again(&self, context: &RequestContext, key: &str) -> Result<(), PushError> {
        let id = (context.tenant.clone(), key.to_owned());
        let changing = self.change(&id);
        let Some(document) = self.store.state_get(context, COLLECTION, key)? else {
            return Ok(());
        };
        let group = serde_json::from_slice(&document.value)
            .map_err(|e| PushError::Invalid(format!("pushed group {key}: {e}")))?;
        self.write_group(context, &id, &group, &changing)
    }

    /// Calls [`Pushgateway::write_all`] at each interval, for ever.
    pub async fn run(self: std::sync::Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let gateway = std::sync::Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || gateway.write_all()).await {
                tracing::error!(%error, "writing pushed groups failed");
            }
        }
    }

    /// Writes a group that the caller has the right to change.
    fn write_group(
        &self,
        context: &RequestContext,
        id: &GroupId,
        group: &Group,
        _changing: &MutexGuard<'_, ()>,
    ) -> Result<(), PushError> {
        let labels = Labels::from_pairs(&group.labels)
            .map_err(|e| PushError::Invalid(format!("group {}: {e}", id.1)))?;
        let text: String = group.families.values().map(String::as_str).collect();
        let (pushed, failed) = (group.push_time_seconds, group.push_failure_time_seconds);
        let reports = |_| {
            vec![
                ("push_time_seconds", pushed),
                ("push_failure_time_seconds", failed),
            ]
        };
        let body = (text.as_bytes(), Dialect::Prometheus);
        let rules = rules(labels);
        let mut cache = self.caches.lock().remove(id).unwrap_or_default();
        let now_ms = now_ms();
        let written = writer::write_exposition(
            &self.store,
            context,
            &rules,
            &mut cache,
            body,
            now_ms,
            reports,
        );
        self.caches.lock().insert(id.clone(), cache);
        match written {
            Ok(_) => Ok(()),
            Err(WriteError::Engine(error)) => Err(error.into()),
            Err(other) => Err(PushError::Invalid(other.to_string())),
        }
    }
}

fn rules(labels: Labels) -> WriteRules {
    WriteRules {
        source_labels: labels,
        future_ms_max: i64::MAX,
        ..WriteRules::default()
    }
}

/// The labels that a path names. A name that ends in `@base64` has its value in URL-safe base64.
fn group_labels(path: &str) -> Result<Labels, PushError> {
    let refuse = |reason: String| PushError::Invalid(reason);
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if !parts.len().is_multiple_of(2) {
        return Err(refuse(format!(
            "{path:?}: expected job/NAME, then label/value pairs"
        )));
    }
    let mut builder = LabelsBuilder::new();
    for pair in parts.chunks_exact(2) {
        let [name, value] = pair else { continue };
        let (name, value) = match name.strip_suffix("@base64") {
            None => (*name, (*value).to_owned()),
            Some(name) => {
                let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
                    .decode(value.trim_end_matches('='))
                    .map_err(|e| refuse(format!("label {name}: {e}")))?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| refuse(format!("label {name}: not UTF-8")))?;
                (name, text)
            }
        };
        if name == METRIC_NAME {
            return Err(refuse("a group cannot fix the metric name".into()));
        }
        builder.push(name, &value);
    }
    let labels = builder.finish().map_err(|e| refuse(e.to_string()))?;
    if labels.get("job").is_none() || !parts[0].starts_with("job") {
        return Err(refuse("job name is required".into()));
    }
    Ok(labels)
}

/// Names the group among the state documents.
fn group_key(labels: &Labels) -> Result<String, PushError> {
    let map: BTreeMap<&str, &str> = labels.iter().map(|l| (l.name, l.value)).collect();
    serde_json::to_string(&map).map_err(|e| PushError::Invalid(e.to_string()))
}

/// Checks a pushed body and splits it by metric family, the group's labels put into each line.
fn parse_families(
    body: &[u8],
    dialect: Dialect,
    group: &Labels,
) -> Result<BTreeMap<String, String>, String> {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut types: HashMap<String, &'static str> = HashMap::new();
    let mut reader = Reader::new(body, dialect).map_err(|e| e.to_string())?;
    while let Some(entry) = reader.next_entry().map_err(|e| e.to_string())? {
        match entry {
            Entry::Type {
                metric,
                metric_type,
            } => {
                let word = match metric_type.as_str() {
                    "unknown" => "untyped",
                    word => word,
                };
                types.insert(metric.to_string(), word);
                let _ = writeln!(
                    families.entry(metric.to_string()).or_default(),
                    "# TYPE {metric} {word}"
                );
            }
            Entry::Help { metric, help } => {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(
                    families.entry(metric.to_string()).or_default(),
                    "# HELP {metric} {help}"
                );
            }
            Entry::Unit { .. } => {}
            Entry::Sample(line) => {
                if line.timestamp_ms.is_some() {
                    return Err(format!(
                        "{}: pushed metrics must not have timestamps",
                        line.series
                    ));
                }
                let mut builder = LabelsBuilder::new();
                exposition::parse_series(line.series, &mut builder)
                    .map_err(|e| format!("{}: {e}", line.series))?;
                for label in group {
                    builder.set(label.name, label.value);
                }
                let labels = builder
                    .finish()
                    .map_err(|e| format!("{}: {e}", line.series))?;
                let name = labels.metric_name();
                if name.is_empty() {
                    return Err(format!("{}: no metric name", line.series));
                }
                let family = family_of(name, &types);
                let text = families.entry(family.to_owned()).or_default();
                write_line(text, &labels, line.value);
            }
        }
    }
    Ok(families)
}

/// The family that a sample name belongs to, given the types said so far.
fn family_of<'a>(name: &'a str, types: &HashMap<String, &'static str>) -> &'a str {
    for suffix in ["_bucket", "_sum", "_count", "_total", "_created", "_info"] {
        match name.strip_suffix(suffix) {
            Some(family) if types.contains_key(family) => return family,
            _ => {}
        }
    }
    name
}

fn write_line(out: &mut String, labels: &Labels, value: f64) {
    out.push('{');
    quote(out, labels.metric_name());
    for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
        out.push(',');
        quote(out, label.name);
        out.push('=');
        quote(out, label.value);
    }
    let value = if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    };
    // Writing into a string cannot fail.
    let _ = writeln!(out, "}} {value}");
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_groups() {
        let labels = group_labels("job/batch/instance/a").unwrap();
        assert_eq!(labels.to_string(), r#"{instance="a", job="batch"}"#);
        let labels = group_labels("job@base64/YS9i/").unwrap();
        assert_eq!(labels.get("job"), Some("a/b"));
        for bad in [
            "",
            "job",
            "job/",
            "x/y",
            "job/a/b",
            "job/a/__name__/b",
            "job/a/l@base64/!!",
        ] {
            assert!(group_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_are_split_by_family() {
        let group = group_labels("job/batch").unwrap();
        let body = "# TYPE d histogram\nd_bucket{le=\"+Inf\"} 1\nd_sum 2\nd_count 1\n# HELP e x\ne{job=\"mine\"} 3\n";
        let families = parse_families(body.as_bytes(), Dialect::Prometheus, &group).unwrap();
        assert_eq!(families.len(), 2);
        assert!(
            families["d"].contains("{\"d_sum\",\"job\"=\"batch\"} 2"),
            "{}",
            families["d"]
        );
        assert!(
            families["e"].contains("\"job\"=\"batch\""),
            "the group's labels win"
        );
        assert!(parse_families(b"a 1 1700000000000\n", Dialect::Prometheus, &group).is_err());
    }
}
