//! Bulk export: whole signals as files that every reader of Parquet opens.
//!
//! One file or more per signal and day (`metrics/date=2026-11-21/part-00000.parquet`), so that readers
//! prune by folder. A file appears under its name when it is complete and synced; what was written is noted
//! in a ledger, so that a broken export goes on where it ended and a later one adds what came since. Memory
//! is that of a row group and of the sort of a day, which spills.

mod days;
mod ledger;
mod rows;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chronolith_engine::model::TimeRange;
use chronolith_engine::{EngineError, Matcher, RequestContext, Signal, Store};

pub use rows::ExportRows;

use crate::sql::{Encoder, Format, SqlEngine, SqlEngineOptions, SqlError};
use ledger::{Ledger, Partition};
use writer::DayWriter;

/// Rows of a file; the next ones go to the next part of the day.
const FILE_ROWS_MAX: u64 = 20_000_000;

/// What is exported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportSignal {
    /// Float samples.
    Metrics,
    /// Log records and events.
    Logs,
    /// Spans.
    Spans,
}

impl ExportSignal {
    /// All.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Spans];

    /// Its name: that of the SQL table and of the folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }

    /// The signal of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    fn engine(self) -> Signal {
        match self {
            Self::Metrics => Signal::Metrics,
            Self::Logs => Signal::Logs,
            Self::Spans => Signal::Spans,
        }
    }
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The directory cannot take this export.
    #[error("{0}")]
    Target(String),
    /// A file or folder.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What.
        error: std::io::Error,
    },
    /// Reading the rows.
    #[error(transparent)]
    Read(#[from] SqlError),
    /// The format cannot hold a value.
    #[error("cannot write the rows: {0}")]
    Encoding(#[from] arrow::error::ArrowError),
    /// The caller asked to stop. What is complete stays, and the export can go on later.
    #[error("stopped; run the same export again to go on")]
    Stopped,
}

impl From<EngineError> for ExportError {
    fn from(error: EngineError) -> Self {
        Self::Read(error.into())
    }
}

impl ExportError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// Shorthand for results of this module.
pub type Result<T, E = ExportError> = std::result::Result<T, E>;

/// What is exported, and where to.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Which signals.
    pub signals: Vec<ExportSignal>,
    /// Tests that labels of series and streams must pass.
    pub matchers: Vec<Matcher>,
    /// Times of the rows.
    pub range: TimeRange,
    /// Parquet, CSV or JSON lines.
    pub format: Format,
    /// The directory; made if it is not there.
    pub dir: PathBuf,
}

/// How far an export is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// Signal and day, as a folder.
    pub partition: String,
    /// Partitions that are complete.
    pub partitions_done: usize,
    /// Partitions in all.
    pub partitions: usize,
    /// Rows written by this run.
    pub rows: u64,
    /// Bytes written by this run.
    pub bytes: u64,
}

/// What an export did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Files written by this run.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Partitions that were complete before.
    pub partitions_kept: usize,
}

/// Writes all that a request asks for. `progress` is told now and then, and may stop it.
///
/// # Errors
/// [`ExportError`]; complete files stay, half-written ones are removed.
pub async fn export(
    store: &Store,
    context: &RequestContext,
    request: &ExportRequest,
    progress: &mut (dyn FnMut(&ExportProgress) -> ControlFlow<()> + Send),
) -> Result<ExportReport> {
    let dir = &request.dir;
    std::fs::create_dir_all(dir).map_err(ExportError::io(dir))?;
    let mut ledger = Ledger::open(request, context)?;
    let spill = dir.join(".spill");
    std::fs::create_dir_all(&spill).map_err(ExportError::io(&spill))?;
    let engine = SqlEngine::new(
        store.clone(),
        SqlEngineOptions {
            // One thread reads series in order.
            parallelism: 1,
            spill_dir: Some(spill.clone()),
            ..SqlEngineOptions::default()
        },
    )?;
    let written = write_all(store, &engine, context, request, &mut ledger, progress).await;
    // Nothing of it is needed again, whatever happened.
    let _ = std::fs::remove_dir_all(&spill);
    written
}

async fn write_all(
    store: &Store,
    engine: &SqlEngine,
    context: &RequestContext,
    request: &ExportRequest,
    ledger: &mut Ledger,
    progress: &mut (dyn FnMut(&ExportProgress) -> ControlFlow<()> + Send),
) -> Result<ExportReport> {
    let context = with_matchers(context, &request.matchers);
    let mut partitions = Vec::new();
    for signal in &request.signals {
        for day in days::with_rows(store, &context, signal.engine(), request.range)? {
            partitions.push((*signal, day));
        }
    }
    let mut report = ExportReport::default();
    let mut shown = ExportProgress {
        partitions: partitions.len(),
        ..ExportProgress::default()
    };
    for (signal, day) in partitions {
        shown.partition = format!("{}/date={}", signal.name(), day.name());
        if ledger.has(&shown.partition, day.range) {
            report.partitions_kept += 1;
            shown.partitions_done += 1;
            continue;
        }
        let mut rows = ExportRows::open(engine, &context, signal, day.range).await?;
        let mut writer = DayWriter::new(request, &shown.partition, rows.schema());
        while let Some(batch) = rows.next().await {
            writer.write(&batch?)?;
            if writer.rows_in_file() >= FILE_ROWS_MAX {
                writer.end_file()?;
            }
            let now = ExportProgress {
                rows: report.rows + writer.rows(),
                bytes: report.bytes + writer.bytes(),
                ..shown.clone()
            };
            if progress(&now).is_break() {
                return Err(ExportError::Stopped);
            }
        }
        let files = writer.finish()?;
        report.files += files.len();
        report.rows += files.iter().map(|file| file.rows).sum::<u64>();
        report.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        ledger.add(&shown.partition, Partition::new(day.range, files))?;
        shown.partitions_done += 1;
        shown.rows = report.rows;
        shown.bytes = report.bytes;
        if progress(&shown).is_break() {
            return Err(ExportError::Stopped);
        }
    }
    Ok(report)
}

/// An encoder of exported rows in a file's format.
///
/// # Errors
/// When the format cannot hold one of the columns.
pub fn file_encoder(
    format: Format,
    schema: SchemaRef,
) -> std::result::Result<Encoder, arrow::error::ArrowError> {
    match format {
        Format::Parquet => Encoder::parquet(schema, writer::parquet_properties()),
        format => Encoder::new(format, schema),
    }
}

/// The context with more matchers that every scan obeys.
#[must_use]
pub fn with_matchers(context: &RequestContext, matchers: &[Matcher]) -> RequestContext {
    let all = context.required_matchers.iter().chain(matchers).cloned();
    let all: Arc<[Matcher]> = all.collect();
    RequestContext {
        required_matchers: all,
        ..context.clone()
    }
}
