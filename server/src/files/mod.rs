//! Log files of this machine, followed as they grow: the section `logs_configs`.
//!
//! ```text
//! discover -> follow (which files, rotation) -> source (bytes) -> split (records) -> rows, process
//!                └── position: a state document in the same commit as the records
//! ```
//!
//! A job is one task. It looks at its files every `poll_interval`, reads what is new in batches, and
//! waits as long as the store takes no writes. After a crash it goes on behind the last record that is
//! stored: none is lost, none is stored twice.

pub mod config;
pub mod discover;
pub mod follow;
pub mod position;
pub mod source;
pub mod split;
pub mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use status::{JobStatus, write as write_metrics};

use self::config::Job;
use self::follow::Follower;
use crate::error::ApiError;
use crate::state::AppState;

/// The longest wait after the store took no writes.
const RETRY_MAX: Duration = Duration::from_secs(15);
const RETRY_MIN: Duration = Duration::from_millis(500);

/// Runs the jobs.
#[derive(Debug, Default)]
pub struct LogFiles {
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    job: Arc<Job>,
    status: Arc<JobStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl LogFiles {
    /// Takes over a configuration: new jobs start, those that are gone end, changed ones go on from
    /// where they are. Must be called inside a tokio runtime.
    pub fn apply(&self, state: &AppState, jobs: Vec<Job>) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for job in jobs {
            let name = job.config.job_name.clone();
            let old = before.remove(&name);
            let entry = match old {
                Some(old) if old.job.config == job.config && !old.task.is_finished() => old,
                old => start(state, Arc::new(job), old),
            };
            running.insert(name, entry);
        }
        for gone in before.into_values() {
            gone.stop.cancel();
        }
    }

    /// The jobs by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<Arc<JobStatus>> {
        let running = self.running.lock();
        let mut all: Vec<_> = running.values().map(|r| Arc::clone(&r.status)).collect();
        all.sort_by(|a, b| a.job.cmp(&b.job));
        all
    }

    /// Ends all jobs; what they have under way is stored.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for job in running.values() {
            job.stop.cancel();
        }
        for job in running.into_values() {
            let _ = job.task.await;
        }
    }
}

/// Starts a job, once the one that it replaces has ended.
fn start(state: &AppState, job: Arc<Job>, before: Option<Running>) -> Running {
    let stop = CancellationToken::new();
    let status = match &before {
        // Counters go on.
        Some(before) => Arc::clone(&before.status),
        None => JobStatus::new(&job.config.job_name),
    };
    let follower = Follower::new(Arc::clone(&job), Arc::clone(&status));
    let follow = follow_files(
        state.clone(),
        follower,
        job.config.poll_interval,
        Arc::clone(&status),
        stop.clone(),
    );
    let task = tokio::spawn(async move {
        if let Some(before) = before {
            before.stop.cancel();
            let _ = before.task.await;
        }
        follow.await;
    });
    Running {
        job,
        status,
        stop,
        task,
    }
}

async fn follow_files(
    state: AppState,
    follower: Follower,
    poll_interval: Duration,
    status: Arc<JobStatus>,
    stop: CancellationToken,
) {
    let follower = Arc::new(Mutex::new(follower));
    let mut retry = RETRY_MIN;
    while !stop.is_cancelled() && !state.is_stopping() {
        let wait = match round(&state, &follower, &stop).await {
            Ok(()) => {
                if status.set_problem(None) {
                    tracing::info!(job = status.job, "log files: stored again");
                }
                retry = RETRY_MIN;
                poll_interval
            }
            Err(error) => {
                if status.set_problem(Some(error.to_string())) {
                    tracing::warn!(job = status.job, %error, "log files: waiting for the store");
                }
                retry = (retry * 2).min(RETRY_MAX);
                retry
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One look, and batches until nothing more is there.
async fn round(
    state: &AppState,
    follower: &Arc<Mutex<Follower>>,
    stop: &CancellationToken,
) -> Result<(), ApiError> {
    let looking = Arc::clone(follower);
    let mut has_more = state
        .blocking(move |state| looking.lock().look(state))
        .await?;
    while has_more && !stop.is_cancelled() {
        state.refuse_while_stopping()?;
        let _budget = state.write_budget(Follower::batch_bytes_max(state)).await?;
        let reading = Arc::clone(follower);
        has_more = state
            .blocking(move |state| reading.lock().batch(state))
            .await?;
    }
    Ok(())
}
