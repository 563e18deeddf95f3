//! How long an append waits while the store seals and merges beside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
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

/// What goes on beside the writers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// The background thread, as in a server.
    Background,
    /// The same, and somebody who brings the store to its final form over and over: all that can be
    /// merged is merged all the time.
    Compaction,
}

/// Requests by what they met.
#[derive(Default)]
struct Met {
    nothing: Latencies,
    /// A generation on its way to a segment, and no merge.
    seal: Latencies,
    merge: Latencies,
}

const NOTHING: u8 = 0;
const SEAL: u8 = 1;
const MERGE: u8 = 2;

/// Two writers as fast as they can, each request timed.
fn load(store: &Store, fleet: &mut Fleet, duration: Duration, beside: Beside) -> Outcome<Met> {
    let met = Mutex::new(Met::default());
    let going_on = AtomicU8::new(NOTHING);
    let is_over = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| -> Outcome {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let stats = store.stats();
                let what = match (stats.merges_under_way, stats.frozen_heads) {
                    (0, 0) => NOTHING,
                    (0, _) => SEAL,
                    _ => MERGE,
                };
                going_on.store(what, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let compactor = (beside == Beside::Compaction).then(|| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    store.compact().map_err(|e| e.to_string())?;
                }
                Ok::<(), String>(())
            })
        });
        let sent = (|| -> Outcome {
            while begin.elapsed() < duration {
                fleet.advance();
                let fleet = &*fleet;
                let writer = |from: usize| -> Result<(), String> {
                    for first in fleet.requests().skip(from).step_by(2) {
                        let at = Instant::now();
                        let before = going_on.load(Ordering::Relaxed);
                        fleet
                            .send_request(store, first)
                            .map_err(|e| e.to_string())?;
                        let took = at.elapsed().as_secs_f64() * 1e3;
                        let mut met = met.lock().map_err(|e| e.to_string())?;
                        let kind = match before.max(going_on.load(Ordering::Relaxed)) {
                            NOTHING => &mut met.nothing,
                            SEAL => &mut met.seal,
                            _ => &mut met.merge,
                        };
                        kind.0.push(took);
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
        if let Some(compactor) = compactor {
            compactor
                .join()
                .map_err(|_| "the compactor panicked".to_owned())??;
        }
        sent
    })?;
    Ok(met.into_inner().map_err(|e| e.to_string())?)
}

/// The same load without background work, with it, and with merges all the time.
pub(crate) fn run(series: usize) -> Outcome {
    let seconds = number("GROWTH_PACING_SECONDS", 30, 1) as u64;
    let duration = Duration::from_secs(seconds);
    // Often enough that every run sees several seals, of whole scrapes.
    let seal_samples = (series as u64 * 3).max(1_000_000);
    for (mode, sync) in [("sync", SyncMode::Always), ("nosync", SyncMode::Off)] {
        for (beside, name) in [
            (Beside::Nothing, "alone"),
            (Beside::Background, "background"),
            (Beside::Compaction, "compacting"),
        ] {
            let mut fleet = Fleet::new(series)?;
            let x = fleet.series() as f64;
            let dir = store_dir()?;
            let background = beside != Beside::Nothing;
            let store = Store::open(dir.path(), options(background, sync, seal_samples))?;
            // Definitions are not what is measured.
            fleet.send(&store)?;
            let mut met = load(&store, &mut fleet, duration, beside)?;
            let stats = store.stats();
            println!(
                "{mode}, {name}: {} segments at the end, {} merges",
                stats.segments, stats.merges
            );
            if let Some(wal) = &stats.wal {
                println!("  sync p50 {:?}, p99 {:?}", wal.sync.p50, wal.sync.p99);
            }
            let names = match beside {
                Beside::Nothing => ["alone", "", ""],
                Beside::Background => ["between", "sealing", "merging"],
                Beside::Compaction => ["", "compacting_sealing", "compacting_merging"],
            };
            for (latencies, name) in [&mut met.nothing, &mut met.seal, &mut met.merge]
                .into_iter()
                .zip(names)
            {
                if !latencies.0.is_empty() && !name.is_empty() {
                    latencies.print(&format!("{mode}_{name}"), x);
                }
            }
            store.close()?;
        }
    }
    Ok(())
}
