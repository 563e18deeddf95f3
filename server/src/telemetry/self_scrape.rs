//! Stores the server's own metrics, so that a fresh start has data within seconds.
//!
//! They take the way of a scrape ([`writer`]), with the target labels `job` and `instance`; only
//! the detour over HTTP is left out.

use std::time::{Duration, Instant};

use chronolith_engine::model::Labels;
use chronolith_engine::{RequestContext, Store};
use tokio::sync::watch;

use crate::scrape::exposition::Dialect;
use crate::scrape::target::reports;
use crate::scrape::writer::{self, SeriesCache, WriteError, WriteRules, Written};
use crate::state::AppState;
use crate::telemetry::now_ms;

/// The job that the server's own series bear.
pub const JOB: &str = "chronolith";

/// Stores a scrape at every `interval` until `stop` turns true.
pub async fn run(
    state: AppState,
    instance: String,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let rules = match rules(&instance) {
        Ok(rules) => rules,
        Err(error) => {
            tracing::error!(error, "cannot name own metrics");
            return;
        }
    };
    let mut cache = SeriesCache::default();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let (state, rules) = (state.clone(), rules.clone());
        let stored = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let text = state.exposition().to_text();
            let result = store(state.store(), &rules, &mut cache, &text, began);
            (result, cache)
        });
        match stored.await {
            Ok((result, returned)) => {
                cache = returned;
                if let Err(error) = result {
                    tracing::warn!(%error, "cannot store own metrics");
                }
            }
            Err(error) => {
                cache = SeriesCache::default();
                tracing::error!(%error, "self-scrape ended early");
            }
        }
    }
}

fn rules(instance: &str) -> Result<WriteRules, String> {
    let source_labels =
        Labels::from_pairs([("job", JOB), ("instance", instance)]).map_err(|e| e.to_string())?;
    Ok(WriteRules {
        source_labels,
        ..WriteRules::default()
    })
}

fn store(
    store: &Store,
    rules: &WriteRules,
    cache: &mut SeriesCache,
    text: &str,
    began: Instant,
) -> Result<Written, WriteError> {
    let body = (text.as_bytes(), Dialect::Prometheus);
    let about = |written| reports(true, began.elapsed(), written);
    writer::write_exposition(
        store,
        &RequestContext::new(),
        rules,
        cache,
        body,
        now_ms(),
        about,
    )
}
