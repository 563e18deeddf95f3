//! CPU time per sample and memory per series while more and more series are active, and how long
//! it takes to read the log back.

use std::time::{Duration, Instant};

use chronolith_benches::usage::{Memory, process_cpu_seconds, thread_cpu_by_name};
use chronolith_engine::{Store, StoreOptions, SyncMode};

use super::fleet::Fleet;
use super::{Outcome, figure, number, store_dir};

fn options() -> StoreOptions {
    StoreOptions {
        // The disk's pace is measured elsewhere; every byte goes through the log all the same.
        sync: SyncMode::Off,
        series_per_tenant_max: 0,
        memory_bytes_max: number("GROWTH_MEMORY_MAX", 2 << 30, 2 << 30) as u64,
        ..StoreOptions::default()
    }
}

/// Lets a seal end before the next scrape, as it does when scrapes are 15 s apart: otherwise many
/// scrapes would gather beside a frozen generation that in real time meets one. Answers the most memory
/// that was taken meanwhile.
fn wait_for_seal(store: &Store) -> u64 {
    let begin = Instant::now();
    let mut most = Memory::now().anonymous;
    while store.stats().frozen_heads > 0 && begin.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(Memory::now().anonymous);
    }
    most
}

/// What the process has used, less what made the data.
fn engine_cpu(fleet: &Fleet) -> f64 {
    process_cpu_seconds() - fleet.generator_cpu
}

/// Scrapes a fleet until its rows were sealed at least once, background work on.
pub(crate) fn run(series: usize) -> Outcome {
    let mut fleet = Fleet::new(series)?;
    let (count, x) = (fleet.series(), fleet.series() as f64);
    // Small fleets make as many samples as it takes to seal several times.
    let scrapes = number("GROWTH_SCRAPES", 150, 20).max(if super::is_measured() {
        20_000_000 / count
    } else {
        0
    });
    let dir = store_dir()?;
    let before = Memory::now().anonymous;
    let store = Store::open(dir.path(), options())?;
    let per_series = |bytes: u64| bytes as f64 / count as f64;

    let begin = engine_cpu(&fleet);
    fleet.send(&store)?;
    let defined = engine_cpu(&fleet);
    let taken = Memory::now().anonymous.saturating_sub(before);
    println!(
        "{count} series defined: {:.2} us CPU and {:.0} bytes each",
        (defined - begin) * 1e6 / count as f64,
        per_series(taken)
    );
    figure(
        "ingest.define_us",
        x,
        (defined - begin) * 1e6 / count as f64,
    );

    let (mut peak, mut sum, mut sealed_at) = (0, 0.0, Vec::new());
    let mut segments = 0;
    let every = (scrapes / 60).max(1);
    let wall = Instant::now();
    for scrape in 1..scrapes {
        fleet.advance();
        fleet.send(&store)?;
        let taken = wait_for_seal(&store).saturating_sub(before);
        peak = peak.max(taken);
        sum += per_series(taken);
        let stats = store.stats();
        if stats.segments != segments {
            segments = stats.segments;
            sealed_at.push(scrape);
        }
        if scrape % every == 0 {
            figure(
                &format!("ingest.memory.{series}"),
                scrape as f64,
                per_series(taken),
            );
            let own = per_series(stats.memory_bytes);
            figure(&format!("ingest.accounted.{series}"), scrape as f64, own);
            println!(
                "scrape {scrape}: {:.0} bytes a series anonymous; accounted: rows {:.0}, series and \
                 hash tables and postings {:.0}; log queue {}; {} frozen, {} segments",
                per_series(taken),
                per_series(stats.head_bytes),
                per_series(stats.index_bytes),
                stats.wal.map_or(0, |wal| wal.queue_bytes),
                stats.frozen_heads,
                stats.segments
            );
        }
    }
    let samples = (count * (scrapes - 1)) as f64;
    let cpu_ns = (engine_cpu(&fleet) - defined) * 1e9 / samples;
    println!(
        "{:.1} M samples: {cpu_ns:.1} ns CPU each, {:.2} M samples/s; sealed at {sealed_at:?}",
        samples / 1e6,
        samples / 1e6 / wall.elapsed().as_secs_f64()
    );
    for (name, seconds) in thread_cpu_by_name() {
        println!("  {name}: {:.1} ns a sample", seconds * 1e9 / samples);
    }
    println!(
        "memory per series: mean {:.0}, peak {:.0} bytes",
        sum / (scrapes - 1) as f64,
        per_series(peak)
    );
    figure("ingest.cpu_ns", x, cpu_ns);
    figure("ingest.memory_mean", x, sum / (scrapes - 1) as f64);
    figure("ingest.memory_peak", x, per_series(peak));
    let begin = engine_cpu(&fleet);
    store.flush()?;
    let rest = engine_cpu(&fleet) - begin;
    figure("ingest.cpu_ns_sealed", x, cpu_ns + rest * 1e9 / samples);
    println!(
        "with the rest sealed: {:.1} ns CPU",
        cpu_ns + rest * 1e9 / samples
    );
    store.close()?;
    Ok(())
}

/// Opens a store whose rows are all in the log.
pub(crate) fn restart(series: usize) -> Outcome {
    let scrapes = number("GROWTH_SCRAPES", 150, 20) / 3;
    let options = || StoreOptions {
        background: false,
        memory_bytes_max: 8 << 30,
        ..options()
    };
    let mut fleet = Fleet::new(series)?;
    let x = fleet.series() as f64;
    let dir = store_dir()?;
    let store = Store::open(dir.path(), options())?;
    for _ in 0..scrapes {
        fleet.send(&store)?;
        fleet.advance();
    }
    let log_bytes = store.stats().wal.map_or(0, |wal| wal.bytes);
    store.close()?;
    let samples = fleet.series() * scrapes;
    drop(fleet);

    let (wall, cpu) = (Instant::now(), process_cpu_seconds());
    let store = Store::open(dir.path(), options())?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), process_cpu_seconds() - cpu);
    let stats = store.stats();
    assert_eq!(stats.replay.rows, samples as u64, "all rows come back");
    let rate = samples as f64 / 1e6;
    println!(
        "replay of {rate:.1} M samples, {:.0} MB of log: {wall:.2} s, {cpu:.2} CPU s, \
         {:.1} M samples/s, {:.1} M samples per CPU s",
        log_bytes as f64 / 1e6,
        rate / wall,
        rate / cpu
    );
    figure("restart.seconds", x, wall);
    figure("restart.cpu_seconds", x, cpu);
    figure("restart.msamples_per_s", x, rate / wall);
    figure("restart.msamples_per_cpu_s", x, rate / cpu);
    store.close()?;
    Ok(())
}
