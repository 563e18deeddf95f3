//! From jobs to targets: static lists, files, and relabelling.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chronolith_engine::model::{Labels, LabelsBuilder};
use serde::Deserialize;

use super::config::{ScrapeConfig, StaticConfig};
use super::relabel;

/// One address to scrape, after relabelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Labels of its series.
    pub labels: Labels,
    /// Labels before relabelling, for the targets page.
    pub discovered: Labels,
    /// Where to read.
    pub url: String,
}

/// What became of the targets of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// To be scraped.
    pub active: Vec<Target>,
    /// Dropped by relabelling, as discovered.
    pub dropped: Vec<Labels>,
    /// Files that could not be read, targets that make no sense.
    pub problems: Vec<String>,
}

/// Finds the targets of a job. Files are read; relative paths count from `base`.
#[must_use]
pub fn discover(job: &ScrapeConfig, base: &Path) -> Discovered {
    let mut found = Discovered::default();
    let mut groups: Vec<(StaticConfig, Option<PathBuf>)> = job
        .static_configs
        .iter()
        .map(|group| (group.clone(), None))
        .collect();
    for pattern in job.file_sd_configs.iter().flat_map(|config| &config.files) {
        for path in expand(&base.join(pattern)) {
            match read_groups(&path) {
                Ok(read) => groups.extend(read.into_iter().map(|g| (g, Some(path.clone())))),
                Err(reason) => found.problems.push(format!("{}: {reason}", path.display())),
            }
        }
    }
    for (group, file) in &groups {
        for address in &group.targets {
            match target(job, address, &group.labels, file.as_deref()) {
                Ok(Ok(target)) => found.active.push(target),
                Ok(Err(dropped)) => found.dropped.push(dropped),
                Err(reason) => found.problems.push(format!("target {address:?}: {reason}")),
            }
        }
    }
    found
        .active
        .sort_by(|a, b| (&a.labels, &a.url).cmp(&(&b.labels, &b.url)));
    found
        .active
        .dedup_by(|a, b| a.labels == b.labels && a.url == b.url);
    if job.target_limit > 0 && found.active.len() > job.target_limit {
        found.problems.push(format!(
            "{} targets exceed target_limit {}",
            found.active.len(),
            job.target_limit
        ));
        found.active.clear();
    }
    found
}

/// Paths that a pattern names: the last part may hold one `*`.
pub(crate) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let Some((prefix, suffix)) = name.split_once('*') else {
        return vec![pattern.to_owned()];
    };
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            path.file_name().and_then(|n| n.to_str()).is_some_and(|n| {
                n.len() >= prefix.len() + suffix.len()
                    && n.starts_with(prefix)
                    && n.ends_with(suffix)
            })
        })
        .collect();
    paths.sort();
    paths
}

/// Reads a file that people write by hand, if it is not absurdly large.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    const FILE_BYTES_MAX: u64 = 16 << 20;
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes, at most {FILE_BYTES_MAX} are read"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

fn read_groups(path: &Path) -> Result<Vec<StaticConfig>, String> {
    let text = read_text(path)?;
    // JSON is YAML too.
    let value: serde_json::Value = serde_saphyr::from_str(&text).map_err(|e| e.to_string())?;
    Vec::<StaticConfig>::deserialize(value).map_err(|e| e.to_string())
}

/// The target of an address; `Ok(Err(labels))` when relabelling drops it.
fn target(
    job: &ScrapeConfig,
    address: &str,
    group_labels: &BTreeMap<String, String>,
    file: Option<&Path>,
) -> Result<Result<Target, Labels>, String> {
    let mut builder = LabelsBuilder::new();
    let mut set = |name: &str, value: &str| builder.set(name, value);
    set("job", &job.job_name);
    set("__scheme__", &job.scheme);
    set("__metrics_path__", &job.metrics_path);
    set(
        "__scrape_interval__",
        &format!("{}ms", job.scrape_interval.as_millis()),
    );
    set(
        "__scrape_timeout__",
        &format!("{}ms", job.scrape_timeout.as_millis()),
    );
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            set(&format!("__param_{name}"), first);
        }
    }
    if let Some(file) = file {
        set("__meta_filepath", &file.display().to_string());
    }
    for (name, value) in group_labels {
        set(name, value);
    }
    set("__address__", address);
    let discovered = builder.clone().finish().map_err(|e| e.to_string())?;
    if !relabel::apply_all(&job.relabel_rules, &mut builder) {
        return Ok(Err(discovered));
    }
    let Some(address) = builder
        .get("__address__")
        .map(str::to_owned)
        .filter(|a| !a.is_empty())
    else {
        return Ok(Err(discovered));
    };
    if address.contains('/') {
        return Err("an address is host:port, without scheme or path".into());
    }
    let part = |name: &str, default: &str| builder.get(name).unwrap_or(default).to_owned();
    let (scheme, path) = (
        part("__scheme__", "http"),
        part("__metrics_path__", "/metrics"),
    );
    let mut url =
        reqwest::Url::parse(&format!("{scheme}://{address}{path}")).map_err(|e| e.to_string())?;
    for (name, values) in &job.params {
        for (index, value) in values.iter().enumerate() {
            let relabelled = builder
                .get(&format!("__param_{name}"))
                .filter(|_| index == 0);
            url.query_pairs_mut()
                .append_pair(name, relabelled.unwrap_or(value));
        }
    }
    if builder.get("instance").is_none() {
        builder.set("instance", &address);
    }
    builder.retain(|name, _| !name.starts_with("__"));
    let labels = builder.finish().map_err(|e| e.to_string())?;
    Ok(Ok(Target {
        labels,
        discovered,
        url: url.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::ScrapeConfigs;
    use serde_json::json;

    fn job(value: serde_json::Value) -> ScrapeConfig {
        ScrapeConfigs::parse(None, Some(&json!([value])))
            .unwrap()
            .jobs
            .remove(0)
    }

    #[test]
    fn addresses_become_targets() {
        let job = job(json!({
            "job_name": "node", "params": {"collect[]": ["cpu"]},
            "static_configs": [{"targets": ["a:9100", "b:9100"], "labels": {"env": "x"}}],
            "relabel_configs": [
                {"source_labels": ["__address__"], "regex": "b:.*", "action": "drop"},
            ],
        }));
        let found = discover(&job, Path::new("."));
        assert_eq!(found.active.len(), 1);
        assert_eq!(found.dropped.len(), 1);
        let target = &found.active[0];
        assert_eq!(
            target.labels.to_string(),
            r#"{env="x", instance="a:9100", job="node"}"#
        );
        assert_eq!(target.url, "http://a:9100/metrics?collect%5B%5D=cpu");
    }

    #[test]
    fn files_list_targets_and_faults_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.yml"),
            "- targets: ['x:1']\n  labels: {l: v}\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("b.json"), r#"[{"targets": ["y:1"]}]"#).unwrap();
        std::fs::write(folder.path().join("c.yml"), "{").unwrap();
        let job = job(json!({
            "job_name": "f", "file_sd_configs": [{"files": ["*.yml", "b.json"]}],
        }));
        let found = discover(&job, folder.path());
        assert_eq!(found.active.len(), 2);
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    }
}
