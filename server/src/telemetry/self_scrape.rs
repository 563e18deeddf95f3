//! Stores the server's own metrics, so that a fresh start has data within seconds.
//!
//! The rows take the way of a scrape: target labels `job` and `instance`, the `up` and `scrape_*`
//! series, one append for the whole exposition. Only the detour over HTTP and text is left out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronolith_engine::model::{Labels, Metadata, TimestampNs};
use chronolith_engine::{EngineError, RequestContext, Store};
use tokio::sync::watch;

use super::exposition::Exposition;
use crate::state::AppState;

/// The job that the server's own series bear.
pub const JOB: &str = "chronolith";

/// Stores a scrape at every `interval` until `stop` turns true.
pub async fn run(
    state: AppState,
    instance: String,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let (state, instance) = (state.clone(), instance.clone());
        let stored = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let exposition = state.metrics().exposition(state.store());
            store(state.store(), &exposition, &instance, now(), began)
        });
        match stored.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot store own metrics"),
            Err(error) => tracing::error!(%error, "self-scrape ended early"),
        }
    }
}

fn now() -> TimestampNs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    TimestampNs::from_millis_saturating(ms)
}

/// Stores one exposition; returns how many samples it had.
///
/// # Errors
/// The store's.
pub fn store(
    store: &Store,
    exposition: &Exposition,
    instance: &str,
    time: TimestampNs,
    began: Instant,
) -> Result<usize, EngineError> {
    let mut append = store.begin(&RequestContext::new())?;
    let mut samples = 0;
    for family in &exposition.families {
        append.metadata(
            family.name,
            Metadata {
                metric_type: family.kind,
                unit: String::new(),
                help: family.help.to_owned(),
            },
        );
        for row in &family.rows {
            let name = format!("{}{}", family.name, row.suffix);
            let own = row.labels.iter().map(|(n, v)| (*n, v.as_str()));
            let series = append.define(None, &labels(&name, instance, own)?)?;
            append.sample(series, time, row.value);
            samples += 1;
        }
    }
    let about = [
        ("up", 1.0),
        ("scrape_samples_scraped", samples as f64),
        ("scrape_samples_post_metric_relabeling", samples as f64),
        ("scrape_duration_seconds", began.elapsed().as_secs_f64()),
    ];
    for (name, value) in about {
        let series = append.define(None, &labels(name, instance, [])?)?;
        append.sample(series, time, value);
    }
    append.commit()?;
    Ok(samples)
}

fn labels<'a>(
    name: &'a str,
    instance: &'a str,
    own: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Labels, EngineError> {
    let target = [("__name__", name), ("instance", instance), ("job", JOB)];
    Labels::from_pairs(target.into_iter().chain(own))
        .map_err(|e| EngineError::InvalidArgument(format!("own metric {name}: {e}")))
}
