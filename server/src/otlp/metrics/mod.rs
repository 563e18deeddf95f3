//! Metrics: from a decoded request to one commit of series.

pub mod delta;
mod exemplar;
mod histogram;
mod labels;
pub mod message;
pub mod names;
pub mod translate;

use std::sync::atomic::Ordering;
use std::time::Instant;

use chronolith_engine::{EngineError, RequestContext};
use tokio::sync::oneshot;

use self::translate::{Prepared, Refusal, prepare};
use super::envelope::Decoded;
use super::partial::Rejections;
use crate::error::{ApiError, ErrorType};
use crate::ingest::append::{Counts, TimeLimits};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// Stores a request; answers what was left out.
pub(super) async fn store(
    state: &AppState,
    caller: Caller,
    decoded: Decoded,
) -> Result<Rejections, ApiError> {
    let settings = state.settings();
    state.refuse_while_stopping()?;
    let metrics = state.metrics();
    let sizes = [
        (&metrics.ingest_received_bytes, decoded.received_bytes),
        (&metrics.ingest_decoded_bytes, decoded.message().len()),
    ];
    for (counter, bytes) in sizes {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    let (context, _cancel) = state.context(
        caller.tenant,
        caller.principal.as_ref(),
        settings.body_timeout,
    );
    let future_ms = i64::try_from(settings.write_future_max.as_millis()).unwrap_or(i64::MAX);
    let now_ms = now_ms();
    let times = TimeLimits {
        latest_ms: now_ms.saturating_add(future_ms),
    };
    let began = Instant::now();
    let (done, committed) = oneshot::channel();
    // The reservation lives until the rows are durable: so long they are in memory too.
    let (_decoded, stored) = state
        .blocking(move |state| {
            let stored = submit(state, &context, decoded.message(), times, now_ms, done)?;
            Ok((decoded, stored))
        })
        .await?;
    committed
        .await
        .map_err(|_| ApiError::internal("the store dropped a commit"))??;
    metrics.commit_duration.observe(began.elapsed());
    let figures = [
        (&metrics.ingest_samples, stored.counts.samples),
        (&metrics.ingest_histograms, stored.counts.histograms),
        (&metrics.ingest_exemplars, stored.counts.exemplars),
        (&metrics.ingest_series_over_limit, stored.over_limit),
        (&metrics.otlp_points, stored.points),
        (&metrics.otlp_points_rejected, stored.rejections.count()),
    ];
    for (counter, more) in figures {
        counter.fetch_add(more, Ordering::Relaxed);
    }
    if stored.points == 0 && stored.over_limit > 0 {
        // A retry may find room; a partial success would say that there is nothing to retry.
        return Err(ApiError::new(
            ErrorType::TooMany,
            stored.rejections.message(),
        ));
    }
    if !stored.rejections.is_empty() {
        tracing::debug!(
            points = stored.rejections.count(),
            reason = stored.rejections.message(),
            "OTLP metrics were refused in part"
        );
    }
    Ok(stored.rejections)
}

/// What a request came to.
struct Stored {
    counts: Counts,
    points: u64,
    over_limit: u64,
    rejections: Rejections,
}

type Done = oneshot::Sender<Result<(), EngineError>>;

fn submit(
    state: &AppState,
    context: &RequestContext,
    message: &[u8],
    times: TimeLimits,
    now_ms: i64,
    done: Done,
) -> Result<Stored, ApiError> {
    let translator = state.otlp();
    let Prepared {
        append,
        counts,
        points,
        rejections,
        over_limit,
        deltas,
    } = prepare(state.store(), context, &translator, message, times, now_ms)?;
    let stored = Stored {
        counts,
        points,
        over_limit,
        rejections,
    };
    if append.rows() == 0 {
        // Collectors send empty requests to see whether somebody is there: no sync for those.
        let _ = done.send(Ok(()));
        return Ok(stored);
    }
    append.submit(move |result| {
        if let (Ok(_), Some(deltas)) = (&result, deltas) {
            deltas.keep();
        }
        // The receiver is gone when the client is; what is stored stays stored.
        let _ = done.send(result.map(|_| ()));
    });
    Ok(stored)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Message(error) => Self::bad_data(format!("protobuf: {error}")),
            Refusal::Engine(error) => error.into(),
        }
    }
}
