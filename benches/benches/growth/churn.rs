//! Opening and asking a store through which many series have gone: pods that live for minutes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use chronolith_benches::devops::{self, SERIES_PER_POD};
use chronolith_benches::usage::{Memory, process_cpu_seconds};
use chronolith_engine::index::MatchOp;
use chronolith_engine::model::{TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, Store, StoreOptions, SyncMode};

use super::fleet::{SCRAPE_NS, START_NS};
use super::history::time_query;
use super::{CHILD, Outcome, figure, numbers, store_dir};

const DAY_NS: i64 = 86_400_000_000_000;
/// Churned series of a day.
const SERIES_PER_DAY: usize = 1_000_000;
/// Seals of a day.
const SEALS_PER_DAY: usize = 4;
/// Scrapes in the life of a pod.
const SCRAPES: i64 = 4;
const PODS_PER_REQUEST: usize = 80;
/// Where the store is that a child process opens.
const OPEN_DIR: &str = "GROWTH_CHURN_DIR";

fn options() -> StoreOptions {
    StoreOptions {
        sync: SyncMode::Off,
        background: false,
        series_per_tenant_max: 0,
        memory_bytes_max: 8 << 30,
        ..StoreOptions::default()
    }
}

/// Pods that live at one time and are gone after it.
fn send_pods(store: &Store, pods: std::ops::Range<usize>, begin: i64) -> Outcome {
    let all: Vec<usize> = pods.collect();
    for request in all.chunks(PODS_PER_REQUEST) {
        let mut append = store.begin(&RequestContext::new())?;
        for pod in request {
            for series in devops::pod(*pod) {
                let reference = append.define(None, &series.labels)?;
                for (scrape, value) in (0..SCRAPES).zip(series.values()) {
                    let time = begin + scrape * SCRAPE_NS;
                    append.sample(reference, TimestampNs(time), value);
                }
            }
        }
        append.commit()?;
    }
    Ok(())
}

/// Fills a store day by day and has it opened at each size.
pub(crate) fn run() -> Outcome {
    let sizes = numbers(
        "GROWTH_CHURNED",
        &[1_000_000, 3_000_000, 10_000_000],
        &[480, 960],
    );
    let per_day = SERIES_PER_DAY.min(sizes.first().copied().unwrap_or(SERIES_PER_DAY));
    let pods_per_seal = per_day / SEALS_PER_DAY / SERIES_PER_POD;
    let dir = store_dir()?;
    let mut store = Store::open(dir.path(), options())?;
    let mut pod = 0;
    let begin = process_cpu_seconds();
    let mut sizes = sizes.into_iter().peekable();
    for day in 0.. {
        let Some(size) = sizes.peek().copied() else {
            break;
        };
        for part in 0..SEALS_PER_DAY {
            let time = START_NS + day * DAY_NS + part as i64 * DAY_NS / SEALS_PER_DAY as i64;
            send_pods(&store, pod..pod + pods_per_seal, time)?;
            pod += pods_per_seal;
            store.flush()?;
        }
        let series = pod * SERIES_PER_POD;
        println!(
            "day {day}: {series} series churned, {} in the head, {:.0} CPU s",
            store.stats().head_series,
            process_cpu_seconds() - begin
        );
        // The last seal of a day may round off a few pods.
        if series + SERIES_PER_POD * SEALS_PER_DAY * 16 < size {
            continue;
        }
        sizes.next();
        store.compact()?;
        store.close()?;
        let opened = Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .env(CHILD, format!("churn-open {series}"))
            .env(OPEN_DIR, dir.path())
            .status()?;
        if !opened.success() {
            return Err("the store does not open".into());
        }
        store = Store::open(dir.path(), options())?;
    }
    store.close()?;
    Ok(())
}

/// In a process of its own: opens the store, measures, asks for an hour of the last day.
pub(crate) fn open(series: usize) -> Outcome {
    let dir = PathBuf::from(std::env::var(OPEN_DIR)?);
    let x = series as f64;
    let before = Memory::now();
    let (wall, cpu) = (Instant::now(), process_cpu_seconds());
    let store = Store::open(&dir, options())?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), process_cpu_seconds() - cpu);
    let after = Memory::now();
    let anonymous = after.anonymous.saturating_sub(before.anonymous) as f64 / 1e6;
    let resident = after.resident.saturating_sub(before.resident) as f64 / 1e6;
    let stats = store.stats();
    println!(
        "{series} churned series in {} segments, {:.0} MB: opened in {:.1} ms ({cpu:.2} CPU s), \
         {anonymous:.1} MB anonymous, {resident:.1} MB with mapped pages",
        stats.segments,
        stats.segment_bytes as f64 / 1e6,
        wall * 1e3,
    );
    figure("churn.open_ms", x, wall * 1e3);
    figure("churn.open_anonymous_mb", x, anonymous);
    figure("churn.open_resident_mb", x, resident);

    let days = series.div_ceil(SERIES_PER_DAY) as i64;
    let end = START_NS + (days - 1) * DAY_NS + 3_600_000_000_000;
    let hour = TimeRange::new(end - 3_600_000_000_000, end);
    let metric = Matcher::equal("__name__", "container_memory_rss_bytes");
    let deployment = Matcher::equal("deployment", "svc-003");
    let prefix = Matcher::new("pod", MatchOp::Regex, "svc-003-0.*")?;
    let contains = Matcher::new("pod", MatchOp::Regex, ".*-00ab.*")?;
    for (name, matchers) in [
        ("deployment", vec![metric.clone(), deployment]),
        ("prefix", vec![metric.clone(), prefix]),
        ("contains", vec![metric, contains]),
    ] {
        let (cpu, wall, (found, samples)) = time_query(&store, &matchers, hour)?;
        println!("  {name:10} {cpu:9.1} us CPU {wall:9.1} us; {found} series, {samples} samples");
        figure(&format!("churn.query_{name}"), x, cpu);
    }
    let after = Memory::now();
    let anonymous = after.anonymous.saturating_sub(before.anonymous) as f64 / 1e6;
    println!("  after these queries {anonymous:.1} MB anonymous");
    figure("churn.queried_anonymous_mb", x, anonymous);
    store.close()?;
    Ok(())
}
