//! From a body to a durable commit: the one way by which log records and spans get into the store.

use std::sync::atomic::Ordering;
use std::time::Instant;

use chronolith_engine::model::TimestampNs;
use chronolith_engine::rows::{LogBatch, SpanBatch};
use chronolith_engine::{EngineError, RequestContext};
use tokio::sync::oneshot;

use super::sink::{LogSink, RowLimits, SinkContext, SpanSink, Taken};
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::rows::Protocol;
use crate::telemetry::{now_ms, now_ns};

/// Nanoseconds of a millisecond.
const MS: i64 = 1_000_000;

/// What a request is, for the counters.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// By which protocol it came.
    pub protocol: Protocol,
    /// Bytes of the body as it came.
    pub received_bytes: usize,
    /// Bytes after decompression.
    pub decoded_bytes: usize,
}

/// Stores what `fill` puts into the sink. `held` (the body and the memory reserved for it) lives until
/// the rows are durable.
///
/// # Errors
/// What `fill` answers (nothing is stored then), 429 and 503 as the store has it.
pub async fn logs<K: Send + 'static>(
    state: &AppState,
    caller: Caller,
    source: Source,
    held: K,
    fill: impl FnOnce(&K, &mut LogSink<'_>) -> Result<(), ApiError> + Send + 'static,
) -> Result<Taken, ApiError> {
    take(state, caller, source, held, move |state, context, held| {
        let mut sink = LogSink::new(sink_context(state, context));
        sink.expect(source.decoded_bytes);
        fill(held, &mut sink)?;
        let (batch, taken) = sink.finish();
        Ok((Rows::Logs(batch), taken))
    })
    .await
}

/// The same for spans.
///
/// # Errors
/// See [`logs`].
pub async fn spans<K: Send + 'static>(
    state: &AppState,
    caller: Caller,
    source: Source,
    held: K,
    fill: impl FnOnce(&K, &mut SpanSink<'_>) -> Result<(), ApiError> + Send + 'static,
) -> Result<Taken, ApiError> {
    take(state, caller, source, held, move |state, context, held| {
        let mut sink = SpanSink::new(sink_context(state, context));
        sink.expect(source.decoded_bytes);
        fill(held, &mut sink)?;
        let (batch, taken) = sink.finish();
        Ok((Rows::Spans(batch), taken))
    })
    .await
}

enum Rows {
    Logs(LogBatch),
    Spans(SpanBatch),
}

/// What a sink for rows that arrive now needs.
pub(crate) fn sink_context<'s>(state: &'s AppState, context: &RequestContext) -> SinkContext<'s> {
    let settings = state.settings();
    let future_ms = i64::try_from(settings.write_future_max.as_millis()).unwrap_or(i64::MAX);
    let now_ms = now_ms();
    SinkContext {
        tenant: context.tenant.clone(),
        streams: state.streams(),
        processor: state.processor(),
        limits: RowLimits {
            now: TimestampNs(now_ns()),
            latest: TimestampNs(now_ms.saturating_add(future_ms).saturating_mul(MS)),
            line_bytes_max: settings.log_line_max.as_usize(),
            attributes_max: settings.row_attributes_max as usize,
        },
    }
}

async fn take<K: Send + 'static>(
    state: &AppState,
    caller: Caller,
    source: Source,
    held: K,
    decode: impl FnOnce(&AppState, &RequestContext, &K) -> Result<(Rows, Taken), ApiError>
    + Send
    + 'static,
) -> Result<Taken, ApiError> {
    state.refuse_while_stopping()?;
    let metrics = state.metrics();
    let sizes = [
        (&metrics.ingest_received_bytes, source.received_bytes),
        (&metrics.ingest_decoded_bytes, source.decoded_bytes),
    ];
    for (counter, bytes) in sizes {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    // A batch takes about as much as the message that it is made of.
    let _batch_budget = state.write_budget(source.decoded_bytes).await?;
    let (context, _cancel) = state.context(
        caller.tenant,
        caller.principal.as_ref(),
        state.settings().body_timeout,
    );
    let began = Instant::now();
    let (done, committed) = oneshot::channel();
    let (_held, taken) = state
        .blocking(move |state| {
            let (rows, taken) = decode(state, &context, &held)?;
            submit(state, &context, rows, done)?;
            Ok((held, taken))
        })
        .await?;
    committed
        .await
        .map_err(|_| ApiError::internal("the store dropped a commit"))??;
    metrics.commit_duration.observe(began.elapsed());
    metrics.rows.count(source, &taken);
    if !taken.rejections.is_empty() {
        tracing::debug!(
            rows = taken.rejections.count(),
            reason = taken.rejections.message(),
            protocol = source.protocol.as_str(),
            "rows were refused"
        );
    }
    Ok(taken)
}

type Done = oneshot::Sender<Result<(), EngineError>>;

fn submit(
    state: &AppState,
    context: &RequestContext,
    rows: Rows,
    done: Done,
) -> Result<(), ApiError> {
    let mut append = state.store().begin(context)?;
    match rows {
        Rows::Logs(batch) => append.logs(batch),
        Rows::Spans(batch) => append.spans(batch),
    }
    if append.rows() == 0 {
        // Senders ask with empty requests whether somebody is there: no sync for those.
        let _ = done.send(Ok(()));
        return Ok(());
    }
    append.submit(move |result| {
        // The receiver is gone when the client is; what is stored stays stored.
        let _ = done.send(result.map(|_| ()));
    });
    Ok(())
}
