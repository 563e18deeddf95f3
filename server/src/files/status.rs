//! What the jobs tell about themselves: files, how far they are read, what is in the way.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronolith_engine::model::MetricType;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::telemetry::{Exposition, rfc3339};

/// How a file is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// What is written to it is read.
    Followed,
    /// No meant name leads to it any more; it is read to its end.
    Renamed,
    /// Read to its end; there will be no more.
    Done,
    /// It cannot be read.
    Failed,
}

impl FileState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Renamed => "renamed",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A file that is followed.
#[derive(Clone, Debug)]
pub struct FileStatus {
    /// Its name now.
    pub path: PathBuf,
    /// How it is doing.
    pub state: FileState,
    /// Bytes that it has.
    pub size: u64,
    /// Bytes that are stored.
    pub offset: u64,
    /// Whether both count the same bytes.
    pub is_plain: bool,
    /// When something of it was stored last; 0 for never.
    pub read_ms: i64,
    /// What is in the way.
    pub error: Option<String>,
}

impl FileStatus {
    fn lag_bytes(&self) -> u64 {
        match self.is_plain {
            true => self.size.saturating_sub(self.offset),
            false => 0,
        }
    }
}

/// A job.
#[derive(Debug, Default)]
pub struct JobStatus {
    /// Its name.
    pub job: String,
    /// Records stored.
    pub records: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Records that were cut off.
    pub cut: AtomicU64,
    /// Files that were renamed or removed.
    pub rotations: AtomicU64,
    /// Files that were emptied or written anew.
    pub truncations: AtomicU64,
    /// Reads that failed.
    pub read_errors: AtomicU64,
    files: Mutex<Vec<FileStatus>>,
    errors: Mutex<BTreeSet<(PathBuf, String)>>,
    problem: Mutex<Option<String>>,
}

impl JobStatus {
    /// Of a job that begins.
    #[must_use]
    pub fn new(job: &str) -> Arc<Self> {
        Arc::new(Self {
            job: job.to_owned(),
            ..Self::default()
        })
    }

    pub(super) fn set_files(&self, files: Vec<FileStatus>) {
        *self.files.lock() = files;
    }

    pub(super) fn set_errors(&self, errors: BTreeSet<(PathBuf, String)>) {
        let mut known = self.errors.lock();
        for (path, error) in errors.difference(&known) {
            let (job, path) = (&self.job, path.display());
            tracing::warn!(job, %path, error, "log files: a file cannot be read");
        }
        *known = errors;
    }

    /// Why nothing is stored now; `None` if nothing is in the way. Whether that is news.
    pub(super) fn set_problem(&self, problem: Option<String>) -> bool {
        let mut known = self.problem.lock();
        let is_news = *known != problem;
        *known = problem;
        is_news
    }

    /// As the API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let time = |ms: i64| {
            let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            (ms > 0).then(|| rfc3339(std::time::UNIX_EPOCH + since))
        };
        let files: Vec<Value> = self
            .files
            .lock()
            .iter()
            .map(|file| {
                json!({
                    "path": file.path.to_string_lossy(), "state": file.state.as_str(), "size": file.size,
                    "position": file.offset, "lagBytes": file.lag_bytes(),
                    "lastRead": time(file.read_ms), "error": file.error,
                })
            })
            .collect();
        let errors: Vec<Value> = self
            .errors
            .lock()
            .iter()
            .map(|(path, error)| json!({"path": path.to_string_lossy(), "error": error}))
            .collect();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "job": self.job, "problem": *self.problem.lock(), "files": files, "errors": errors,
            "records": load(&self.records), "bytes": load(&self.bytes),
        })
    }
}

/// Adds the figures of the jobs to the server's own metrics.
pub fn write(jobs: &[Arc<JobStatus>], out: &mut Exposition) {
    type Figure = fn(&JobStatus) -> f64;
    fn load(counter: &AtomicU64) -> f64 {
        counter.load(Ordering::Relaxed) as f64
    }
    let families: [(&str, &str, MetricType, Figure); 9] = [
        (
            "chronolith_files_records_total",
            "Records of log files stored.",
            MetricType::Counter,
            |job| load(&job.records),
        ),
        (
            "chronolith_files_bytes_total",
            "Bytes of log files read.",
            MetricType::Counter,
            |job| load(&job.bytes),
        ),
        (
            "chronolith_files_records_cut_total",
            "Records of log files that were longer than `log_line_max`.",
            MetricType::Counter,
            |job| load(&job.cut),
        ),
        (
            "chronolith_files_rotations_total",
            "Log files that were renamed or removed.",
            MetricType::Counter,
            |job| load(&job.rotations),
        ),
        (
            "chronolith_files_truncations_total",
            "Log files that were emptied or written anew.",
            MetricType::Counter,
            |job| load(&job.truncations),
        ),
        (
            "chronolith_files_read_errors_total",
            "Reads of log files that failed.",
            MetricType::Counter,
            |job| load(&job.read_errors),
        ),
        (
            "chronolith_files_followed",
            "Log files that are open.",
            MetricType::Gauge,
            |job| job.files.lock().len() as f64,
        ),
        (
            "chronolith_files_unreadable",
            "Log files and folders that cannot be read.",
            MetricType::Gauge,
            |job| job.errors.lock().len() as f64,
        ),
        (
            "chronolith_files_lag_bytes",
            "Bytes of log files that are not stored yet.",
            MetricType::Gauge,
            |job| {
                let files = job.files.lock();
                files.iter().map(FileStatus::lag_bytes).sum::<u64>() as f64
            },
        ),
    ];
    if jobs.is_empty() {
        return;
    }
    for (name, help, kind, figure) in families {
        let family = out.family(name, help, kind);
        for job in jobs {
            family.row(&[("job", job.job.as_str())], figure(job));
        }
    }
}
