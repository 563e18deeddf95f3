//! `/api/v1/admin/*`: refused unless `enable_admin_api` is on; but everybody may end queries of their
//! own.

use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Signal, TimestampNs};
use chronolith_engine::store::{BackupOptions, OnProgress, Pace, Progress, ReadBack, Step};
use chronolith_query::running::QueryInfo;
use http::{StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::envelope::success;
use super::params::Params;
use super::selectors::required_matcher_sets;
use crate::config::{ByteSize, SettingValue as _};
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// Where snapshots go below the data directory.
const SNAPSHOT_DIR: &str = "snapshots";
/// Between two lines of a backup's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Lines of progress that may wait for a slow client.
const PROGRESS_LINES_MAX: usize = 16;

pub(super) fn enabled(state: &AppState) -> Result<(), ApiError> {
    if state.settings().enable_admin_api {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorType::Forbidden,
        "admin APIs disabled; start the server with --enable-admin-api",
    ))
}

async fn done<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce(&AppState) -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    enabled(state)?;
    state.blocking(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/admin/queries/{id}/kill`: ends a query of the caller's tenant that runs or waits. With
/// `enable_admin_api` any of them, otherwise whoever asked for it may.
pub async fn kill_query(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let gone = || ApiError::new(ErrorType::NotFound, format!("no query {id:?} is running"));
    let id: u64 = id.parse().map_err(|_| gone())?;
    let found = state.queries().find(id);
    let found = found.filter(|query| query.tenant == caller.tenant);
    let principal = caller.principal.as_ref().map(|principal| &principal.0);
    let is_own = |query: &QueryInfo| principal.is_some() && query.principal.as_ref() == principal;
    if !found.as_ref().is_some_and(is_own) {
        enabled(&state)?;
    }
    if found.is_none() || !state.queries().kill(id) {
        return Err(gone());
    }
    tracing::info!(id, by = principal.map(|name| &**name), "query killed");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/admin/flush`: seals the head and syncs everything; answers when done.
pub async fn flush(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().flush()?)).await
}

/// `POST /api/v1/admin/compact`: brings the store to its final form; answers when done.
pub async fn compact(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().compact()?)).await
}

/// `POST /api/v1/admin/tsdb/clean_tombstones`: erases what was deleted.
pub async fn clean_tombstones(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().erase_deleted()?)).await
}

/// `POST /api/v1/admin/tsdb/delete_series`: hides at once what the matchers select.
pub async fn delete_series(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    enabled(&state)?;
    let sets = required_matcher_sets(&params)?;
    let range = params.time_range()?;
    let timeout = state.settings().query_timeout;
    let (context, _cancel) = state.context(caller.tenant, caller.principal.as_ref(), timeout);
    done(&state, move |state| {
        for set in &sets {
            state
                .store()
                .delete(&context, Signal::Metrics, set, range)?;
        }
        Ok(())
    })
    .await
}

/// `POST|PUT /api/v1/admin/tsdb/snapshot[?skip_head=true]`: a store of its own under
/// `<data_dir>/snapshots/<name>`, made of hard links where the file system has them.
pub async fn snapshot(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    enabled(&state)?;
    let skip_head = params.flag("skip_head")?;
    let name = snapshot_name(TimestampNs(now_ms().saturating_mul(1_000_000)));
    let dir = state.settings().data_dir.join(SNAPSHOT_DIR).join(&name);
    state
        .blocking(move |state| {
            let options = BackupOptions {
                skip_head,
                hard_links: true,
                // A link shows the bytes that the store itself reads.
                read_back: ReadBack::Ends,
                pace: Pace::Shared,
                ..BackupOptions::default()
            };
            state.store().snapshot(&dir, &options).map_err(|error| {
                // Half a snapshot is of no use to anybody, and its name is never used again.
                if let Err(left) = std::fs::remove_dir_all(&dir) {
                    tracing::warn!(error = %left, dir = %dir.display(), "half a snapshot stays");
                }
                ApiError::from(error)
            })
        })
        .await?;
    let data = json!({ "name": name });
    Ok(success(&data.to_string(), &[], &[]))
}

/// The time and a random number, as Prometheus names them: `20171210T211224Z-2be650b6d019eb54`.
fn snapshot_name(now: TimestampNs) -> String {
    let time = format!("{now:.0}").replace(['-', ':'], "");
    let random = std::hash::RandomState::new().hash_one(now.0) >> 1;
    format!("{time}-{random:016x}")
}

/// What a backup was asked to be.
#[derive(Clone)]
struct Backup {
    to: PathBuf,
    read_back: ReadBack,
    pace: Pace,
}

impl Backup {
    fn of(params: &Params) -> Result<Self, ApiError> {
        let to = PathBuf::from(params.get("to").unwrap_or_default());
        if !to.is_absolute() {
            return Err(ApiError::parameter("to", "expected an absolute path"));
        }
        let read_back = match params.get_filled("read_back") {
            None | Some("all") => ReadBack::All,
            Some("copied") => ReadBack::Copied,
            Some("ends") => ReadBack::Ends,
            Some(_) => {
                let why = "expected all, copied or ends";
                return Err(ApiError::parameter("read_back", why));
            }
        };
        let pace = match params.get_filled("rate") {
            None => Pace::Shared,
            Some(text) => match ByteSize::parse(text) {
                Ok(rate) => Pace::BytesPerSecond(rate.0),
                Err(why) => return Err(ApiError::parameter("rate", why)),
            },
        };
        Ok(Self {
            to,
            read_back,
            pace,
        })
    }

    /// Makes or renews the backup; answers with what was done.
    fn run(&self, state: &AppState, progress: Option<&OnProgress<'_>>) -> Result<Value, ApiError> {
        let options = BackupOptions {
            read_back: self.read_back,
            pace: self.pace,
            progress,
            ..BackupOptions::default()
        };
        let made = state.store().backup(&self.to, &options);
        state.metrics().backup(&made);
        let report = made?;
        Ok(json!({
            "generation": report.generation.0,
            "segments": report.segments,
            "bytes": report.bytes,
            "segments_copied": report.segments_copied,
            "bytes_copied": report.bytes_copied,
            "segments_reused": report.segments_reused,
            "bytes_verified": report.bytes_verified,
            "took_seconds": report.took.as_secs_f64(),
        }))
    }
}

/// `POST /api/v1/admin/backup?to=DIR[&read_back=all|copied|ends][&rate=BYTES][&progress=true]`: makes
/// or renews the backup in a directory of this machine; answers with what was done, on request with
/// how far it has got before that. It goes on when the client leaves.
pub async fn backup(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    enabled(&state)?;
    let backup = Backup::of(&params)?;
    if params.flag("progress")? {
        return Ok(with_progress(state, backup));
    }
    let data = state.blocking(move |state| backup.run(state, None)).await?;
    Ok(success(&data.to_string(), &[], &[]))
}

/// Lines of JSON: progress now and then, and at the end what would have been the whole answer.
fn with_progress(state: AppState, backup: Backup) -> Response {
    let (lines, from) = mpsc::channel::<String>(PROGRESS_LINES_MAX);
    tokio::task::spawn_blocking(move || {
        let told: Mutex<Option<(Step, Instant)>> = Mutex::new(None);
        let tell = |progress: &Progress| {
            let mut told = told.lock();
            let now = Instant::now();
            let is_news = told.is_none_or(|(step, at)| {
                step != progress.step || now.duration_since(at) >= PROGRESS_INTERVAL
            });
            if is_news {
                *told = Some((progress.step, now));
                // A line that finds no room is left out: the next one tells more.
                let _ = lines.try_send(progress_line(progress));
            }
            ControlFlow::Continue(())
        };
        let last = match backup.run(&state, Some(&tell)) {
            Ok(data) => json!({"status": "success", "data": data}),
            Err(error) => error.to_json(),
        };
        let _ = lines.blocking_send(format!("{last}\n"));
    });
    let stream = futures::stream::unfold(from, async |mut from| {
        let line = from.recv().await?;
        Some((Ok::<_, Infallible>(line), from))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(stream)).into_response()
}

fn progress_line(progress: &Progress) -> String {
    let step = match progress.step {
        Step::Copy => "copy",
        Step::Verify => "verify",
    };
    let line = json!({
        "step": step,
        "files_done": progress.files_done,
        "files": progress.files,
        "bytes_done": progress.bytes_done,
        "bytes": progress.bytes,
    });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_as_prometheus_names_them() {
        let name = snapshot_name(TimestampNs(1_512_940_344_567_000_000));
        let (time, random) = name.split_once('-').unwrap();
        assert_eq!(time, "20171210T211224Z");
        assert_eq!(random.len(), 16);
        assert!(u64::from_str_radix(random, 16).unwrap() <= u64::MAX >> 1);
    }
}
