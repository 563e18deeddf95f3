//! How long an append waits while the store seals and merges beside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronolith_engine::{Store, StoreOptions, SyncMode};

use super::fleet::Fleet;
use super::{Outcome, figure, number, store_dir};

/// Latencies of requests in milliseconds.
#[derive(Default)]
struct Latencies(Vec<f64>);

impl Latencies {
    fn quantile(&mut self, at: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let index = ((self.0.len() as f64 * at).ceil() as usize).max(1) - 1;
        self.0.get(index).copied().unwrap_or(0.0)
    }

    fn print(&mut self, name: &str, x: f64) {
        let (p50, p99, max) = (self.quantile(0.5), self.quantile(0.99), self.quantile(1.0));
        println!(
            "  {name:22} {:7} requests: p50 {p50:7.2}, p99 {p99:7.2}, max {max:8.2} ms",
            self.0.len()
        );
        figure(&format!("pacing.{name}.p50_ms"), x, p50);
        figure(&format!("pacing.{name}.p99_ms"), x, p99);
        figure(&format!("pacing.{name}.max_ms"), x, max);
    }
}

fn options(background: bool, sync: SyncMode, seal_samples: u64) -> StoreOptions {
    StoreOptions {
        sync,
        background,
        series_per_tenant_max: 0,
        memory_bytes_max: 8 << 30,
        seal_samples,
        seal_samples_per_series_min: 1,
        ..StoreOptions::default()
    }
}

/// Two writers as fast as they can, each request timed; `during` tells requests apart that met a
/// generation on its way to a segment.
fn load(
    store: &Store,
    fleet: &mut Fleet,
    duration: Duration,
) -> Outcome<(Latencies, Latencies, u64)> {
    let (quiet, busy) = (
        Mutex::new(Latencies::default()),
        Mutex::new(Latencies::default()),
    );
    let is_sealing = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| -> Outcome {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                is_sealing.store(store.stats().frozen_heads > 0, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let sent = (|| -> Outcome {
            while begin.elapsed() < duration {
                fleet.advance();
                let fleet = &*fleet;
                let writer = |from: usize| -> Result<(), String> {
                    for first in fleet.requests().skip(from).step_by(2) {
                        let at = Instant::now();
                        let met_before = is_sealing.load(Ordering::Relaxed);
                        fleet
                            .send_request(store, first)
                            .map_err(|e| e.to_string())?;
                        let took = at.elapsed().as_secs_f64() * 1e3;
                        let met = met_before || is_sealing.load(Ordering::Relaxed);
                        let kind = if met { &busy } else { &quiet };
                        kind.lock().map_err(|e| e.to_string())?.0.push(took);
                    }
                    Ok(())
                };
                std::thread::scope(|inner| -> Result<(), String> {
                    let other = inner.spawn(|| writer(1));
                    writer(0)?;
                    other.join().map_err(|_| "a writer panicked".to_owned())?
                })?;
            }
            Ok(())
        })();
        is_over.store(true, Ordering::Relaxed);
        sent
    })?;
    let segments = store.stats().segments;
    let take = |all: Mutex<Latencies>| all.into_inner().map_err(|e| e.to_string());
    Ok((take(quiet)?, take(busy)?, segments))
}

/// The same load without and with background work.
pub(crate) fn run(series: usize) -> Outcome {
    let seconds = number("GROWTH_PACING_SECONDS", 30, 1) as u64;
    let duration = Duration::from_secs(seconds);
    // Often enough that every run sees several seals, of whole scrapes.
    let seal_samples = (series as u64 * 3).max(1_000_000);
    for (mode, sync) in [("sync", SyncMode::Always), ("nosync", SyncMode::Off)] {
        for background in [false, true] {
            let mut fleet = Fleet::new(series)?;
            let x = fleet.series() as f64;
            let dir = store_dir()?;
            let store = Store::open(dir.path(), options(background, sync, seal_samples))?;
            // Definitions are not what is measured.
            fleet.send(&store)?;
            let (mut quiet, mut busy, segments) = load(&store, &mut fleet, duration)?;
            println!(
                "{mode}, background {}: {segments} segments at the end",
                if background { "on" } else { "off" }
            );
            if let Some(wal) = &store.stats().wal {
                println!("  sync p50 {:?}, p99 {:?}", wal.sync.p50, wal.sync.p99);
            }
            if background {
                busy.print(&format!("{mode}_sealing"), x);
                quiet.print(&format!("{mode}_between"), x);
            } else {
                quiet.print(&format!("{mode}_alone"), x);
            }
            store.close()?;
        }
    }
    Ok(())
}
