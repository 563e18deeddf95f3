//! Keeps the scrape loops in step with the configuration and the target files.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chronolith_engine::Store;
use chronolith_engine::model::Labels;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::{ScrapeConfig, ScrapeConfigs};
use super::discovery::{self, Discovered, Target};
use super::target::{self, ActiveTarget, TargetHealth};
use super::writer::{FamilyMetadata, WriteRules};

/// How often target files are looked at, whatever `refresh_interval` says: a look is cheap, and an
/// edit should show soon.
const FILES_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the scrape loops. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ScrapeManager {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Relative paths in the configuration count from here.
    base: Arc<Path>,
    future_ms_max: i64,
    state: Mutex<State>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    jobs: Vec<Arc<ScrapeConfig>>,
    external_labels: Vec<(String, String)>,
    running: HashMap<(String, Target), Running>,
    dropped: Vec<(String, Labels)>,
    problems: Vec<(String, String)>,
}

struct Running {
    active: Arc<ActiveTarget>,
    stop: CancellationToken,
    mark_stale: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// A target as the targets page shows it.
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// The job.
    pub job: String,
    /// What is scraped.
    pub target: Target,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// With what success.
    pub health: TargetHealth,
    /// What it says about its metrics.
    pub metadata: Arc<FamilyMetadata>,
}

impl ScrapeManager {
    /// A manager without jobs. `base` is the folder of the configuration file.
    #[must_use]
    pub fn new(store: Store, base: &Path, future_max: Duration) -> Self {
        let inner = Inner {
            store,
            base: Arc::from(base),
            future_ms_max: i64::try_from(future_max.as_millis()).unwrap_or(i64::MAX),
            state: Mutex::default(),
            stop: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Takes over a configuration: new targets start, gone ones end, unchanged ones go on.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a job's certificates cannot be used; the configuration before stays.
    pub fn apply(&self, configs: &ScrapeConfigs) -> Result<(), String> {
        for job in &configs.jobs {
            target::client(job, &self.inner.base)
                .map_err(|e| format!("scrape_configs: job {:?}: {e}", job.job_name))?;
        }
        let jobs = configs.jobs.iter().cloned().map(Arc::new).collect();
        let mut state = self.inner.state.lock();
        // A job's settings may have changed in any way: its loops start anew.
        for (_, running) in state.running.drain() {
            running.end(false);
        }
        state.jobs = jobs;
        let external = configs.global.external_labels.iter();
        state.external_labels = external.map(|(n, v)| (n.clone(), v.clone())).collect();
        drop(state);
        self.refresh();
        Ok(())
    }

    /// `global.external_labels`: what this server is called when others read from it.
    #[must_use]
    pub fn external_labels(&self) -> Vec<(String, String)> {
        self.inner.state.lock().external_labels.clone()
    }

    /// Looks at target files for as long as the manager lives.
    pub async fn watch(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(FILES_LOOK_INTERVAL) => {}
            }
            let has_files = self
                .inner
                .state
                .lock()
                .jobs
                .iter()
                .any(|job| !job.file_sd_configs.is_empty());
            if has_files {
                self.refresh();
            }
        }
    }

    /// Finds the targets of all jobs and starts and ends loops accordingly.
    fn refresh(&self) {
        let mut state = self.inner.state.lock();
        let (mut dropped, mut problems) = (Vec::new(), Vec::new());
        let mut wanted: HashMap<(String, Target), Arc<ScrapeConfig>> = HashMap::new();
        for job in &state.jobs {
            let found: Discovered = discovery::discover(job, &self.inner.base);
            let name = &job.job_name;
            dropped.extend(
                found
                    .dropped
                    .into_iter()
                    .map(|labels| (name.clone(), labels)),
            );
            problems.extend(found.problems.into_iter().map(|text| (name.clone(), text)));
            for target in found.active {
                wanted.insert((name.clone(), target), Arc::clone(job));
            }
        }
        for (job, text) in &problems {
            if !state.problems.iter().any(|(_, old)| old == text) {
                tracing::warn!(job, "{text}");
            }
        }
        state.dropped = dropped;
        state.problems = problems;
        let gone: Vec<_> = state
            .running
            .keys()
            .filter(|k| !wanted.contains_key(*k))
            .cloned()
            .collect();
        for key in gone {
            if let Some(running) = state.running.remove(&key) {
                running.end(true);
            }
        }
        for (key, job) in wanted {
            if let Entry::Vacant(place) = state.running.entry(key) {
                match self.start(place.key().1.clone(), job) {
                    Ok(running) => {
                        place.insert(running);
                    }
                    Err(error) => tracing::error!(job = place.key().0, error, "cannot scrape"),
                }
            }
        }
    }

    fn start(&self, found: Target, job: Arc<ScrapeConfig>) -> Result<Running, String> {
        let rules = Arc::new(WriteRules {
            source_labels: found.labels.clone(),
            honor_labels: job.honor_labels,
            honor_timestamps: job.honor_timestamps,
            track_timestamps_staleness: job.track_timestamps_staleness,
            relabel: job.metric_relabel_rules.clone(),
            sample_limit: job.sample_limit,
            label_limit: job.label_limit,
            label_name_length_limit: job.label_name_length_limit,
            label_value_length_limit: job.label_value_length_limit,
            convert_classic_histograms: job.convert_classic_histograms_to_nhcb,
            keep_classic_histograms: job.always_scrape_classic_histograms,
            future_ms_max: self.inner.future_ms_max,
        });
        let client = target::client(&job, &self.inner.base)?;
        let active = Arc::new(ActiveTarget {
            target: found,
            job,
            health: Mutex::default(),
            metadata: Mutex::default(),
        });
        let stop = self.inner.stop.child_token();
        let mark_stale = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(target::run(
            Arc::clone(&active),
            client,
            self.inner.store.clone(),
            Arc::clone(&self.inner.base),
            rules,
            stop.clone(),
            Arc::clone(&mark_stale),
        ));
        Ok(Running {
            active,
            stop,
            mark_stale,
            task,
        })
    }

    /// All targets, ordered by job and labels.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetReport> {
        let state = self.inner.state.lock();
        let mut reports: Vec<TargetReport> = state
            .running
            .values()
            .map(|running| TargetReport {
                job: running.active.job.job_name.clone(),
                target: running.active.target.clone(),
                interval: running.active.job.scrape_interval,
                timeout: running.active.job.scrape_timeout,
                health: running.active.health.lock().clone(),
                metadata: Arc::clone(&running.active.metadata.lock()),
            })
            .collect();
        reports.sort_by(|a, b| (&a.job, &a.target.labels).cmp(&(&b.job, &b.target.labels)));
        reports
    }

    /// Targets that relabelling dropped: job and labels as discovered.
    #[must_use]
    pub fn dropped(&self) -> Vec<(String, Labels)> {
        self.inner.state.lock().dropped.clone()
    }

    /// A job by its name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<Arc<ScrapeConfig>> {
        let state = self.inner.state.lock();
        state.jobs.iter().find(|job| job.job_name == name).cloned()
    }

    /// Names of the jobs.
    #[must_use]
    pub fn jobs(&self) -> Vec<String> {
        self.inner
            .state
            .lock()
            .jobs
            .iter()
            .map(|job| job.job_name.clone())
            .collect()
    }

    /// Ends all loops. Their series get no staleness markers: a restart goes on with them.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let running: Vec<Running> = self
            .inner
            .state
            .lock()
            .running
            .drain()
            .map(|(_, running)| running)
            .collect();
        for Running { task, .. } in running {
            // A loop that panicked has said so already.
            let _ = task.await;
        }
    }
}

impl Running {
    fn end(self, mark_stale: bool) {
        self.mark_stale.store(mark_stale, Ordering::Relaxed);
        self.stop.cancel();
    }
}
