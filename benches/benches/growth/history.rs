//! What an hour costs to query when there are days of it: the store grows, the question stays.

use std::time::Instant;

use chronolith_benches::devops::{self, DevopsSeries};
use chronolith_benches::usage::{process_cpu_seconds, thread_cpu_seconds};
use chronolith_engine::index::MatchOp;
use chronolith_engine::model::{SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store, StoreOptions, SyncMode};

use super::fleet::START_NS;
use super::{Outcome, figure, number, numbers, store_dir};

const STEP_NS: i64 = 60_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const HOURS_PER_REQUEST: usize = 6;

/// Answers from a query: how many series and samples.
pub(crate) type Answer = (usize, usize);

/// Selects and decodes.
pub(crate) fn query(store: &Store, matchers: &[Matcher], range: TimeRange) -> Outcome<Answer> {
    let request = ScanRequest::new(matchers.to_vec(), range);
    let scan = store.scan_metrics(&RequestContext::new(), &request)?;
    let mut columns = SampleColumns::default();
    let (mut samples, mut bits) = (0, 0_u64);
    for index in 0..scan.len() {
        scan.read(index, range, &mut columns)?;
        samples += columns.len();
        bits ^= columns.values.iter().fold(0, |all, v| all ^ v.to_bits());
    }
    std::hint::black_box(bits);
    Ok((scan.len(), samples))
}

/// CPU and wall microseconds of a query: the best of several stretches of repetitions.
pub(crate) fn time_query(
    store: &Store,
    matchers: &[Matcher],
    range: TimeRange,
) -> Outcome<(f64, f64, Answer)> {
    let answer = query(store, matchers, range)?;
    let (stretches, seconds) = if super::is_measured() {
        (7, 0.15)
    } else {
        (1, 0.0)
    };
    let (mut best_cpu, mut best_wall) = (f64::MAX, f64::MAX);
    for _ in 0..stretches {
        let (wall, cpu) = (Instant::now(), thread_cpu_seconds());
        let mut count = 0.0;
        while count < 3.0 || wall.elapsed().as_secs_f64() < seconds {
            query(store, matchers, range)?;
            count += 1.0;
        }
        best_wall = f64::min(best_wall, wall.elapsed().as_secs_f64() / count);
        best_cpu = f64::min(best_cpu, (thread_cpu_seconds() - cpu) / count);
    }
    Ok((best_cpu * 1e6, best_wall * 1e6, answer))
}

fn send_day(
    store: &Store,
    day: usize,
    series: &[DevopsSeries],
    values: &mut [devops::Values],
) -> Outcome {
    let steps = HOURS_PER_REQUEST as i64 * HOUR_NS / STEP_NS;
    let first = START_NS + day as i64 * 24 * HOUR_NS;
    for part in 0..24 / HOURS_PER_REQUEST as i64 {
        let hosts = series.chunks(devops::SERIES_PER_HOST);
        for (series, values) in hosts.zip(values.chunks_mut(devops::SERIES_PER_HOST)) {
            let mut append = store.begin(&RequestContext::new())?;
            for (series, values) in series.iter().zip(values) {
                let reference = append.define(None, &series.labels)?;
                for (step, value) in (0..steps).zip(values) {
                    let time = first + (part * steps + step) * STEP_NS;
                    append.sample(reference, TimestampNs(time), value);
                }
            }
            append.commit()?;
        }
    }
    Ok(())
}

/// Days go in one by one; at each size the store is brought to its final form and asked.
pub(crate) fn run() -> Outcome {
    let sizes = numbers("GROWTH_DAYS", &[1, 7, 30, 90], &[1, 2]);
    let hosts = number("GROWTH_HISTORY_HOSTS", 7, 1);
    let series: Vec<_> = (0..hosts).flat_map(devops::host).collect();
    let mut values: Vec<_> = series.iter().map(DevopsSeries::values).collect();
    let dir = store_dir()?;
    let options = || StoreOptions {
        sync: SyncMode::Off,
        background: false,
        ..StoreOptions::default()
    };
    let mut store = Store::open(dir.path(), options())?;
    let begin = process_cpu_seconds();
    for day in 0..sizes.last().copied().unwrap_or(0) {
        send_day(&store, day, &series, &mut values)?;
        store.flush()?;
        let days = day + 1;
        if !sizes.contains(&days) {
            continue;
        }
        store.compact()?;
        store.close()?;
        store = Store::open(dir.path(), options())?;
        let end = START_NS + days as i64 * 24 * HOUR_NS;
        let last_hour = TimeRange::new(end - HOUR_NS, end - 1);
        let middle = START_NS + days as i64 * 12 * HOUR_NS;
        let old_hour = TimeRange::new(middle - HOUR_NS, middle - 1);
        let metric = Matcher::equal("__name__", "node_cpu_seconds_total");
        let regex = Matcher::new("mode", MatchOp::Regex, "i.*|user")?;
        let one = Matcher::equal("instance", "host-00000:9100");
        let stats = store.stats();
        println!(
            "{days} days: {} rows in {} segments, {:.3} bytes a row, {:.0} CPU s so far",
            stats.segment_rows,
            stats.segments,
            stats.segment_bytes as f64 / stats.segment_rows.max(1) as f64,
            process_cpu_seconds() - begin
        );
        for (name, matchers, range) in [
            ("last_hour", vec![metric.clone()], last_hour),
            ("old_hour", vec![metric.clone()], old_hour),
            ("regex", vec![metric.clone(), regex], last_hour),
            ("one_host", vec![one], last_hour),
        ] {
            let (cpu, wall, (found, samples)) = time_query(&store, &matchers, range)?;
            println!(
                "  {name:10} {cpu:9.1} us CPU {wall:9.1} us; {found} series, {samples} samples"
            );
            figure(&format!("history.{name}"), days as f64, cpu);
        }
    }
    store.close()?;
    Ok(())
}
