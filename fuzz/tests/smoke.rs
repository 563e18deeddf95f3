//! Replays every target over its seeds and corpus, then mutates them for a moment.
//!
//! `CHRONOLITH_FUZZ_SECONDS` makes the moment longer (per target), `CHRONOLITH_FUZZ_SEED` picks
//! other mutants. A fault prints the seed, the round and the input, and writes the input to a file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chronolith_fuzz::mutate::{Random, mutant};
use chronolith_fuzz::{TARGETS, Target, targets};

/// Mutants per target when no time is given; also bounded by time, for slow machines.
const ROUNDS: u64 = 3_000;
const MOMENT: Duration = Duration::from_secs(5);
/// One input may not keep a target busier than this, even in a debug build.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

fn smoke(target: &Target) {
    let inputs = target.inputs().expect("the corpus can be read");
    for (index, input) in inputs.iter().enumerate() {
        run(target, input, &format!("input {index}"));
    }
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("CHRONOLITH_FUZZ_SEED").unwrap_or(1);
    let seconds = number("CHRONOLITH_FUZZ_SECONDS");
    let (rounds, moment) = match seconds {
        Some(seconds) => (u64::MAX, Duration::from_secs(seconds)),
        None => (ROUNDS, MOMENT),
    };
    let mut random = Random::new(seed);
    let began = Instant::now();
    let mut round = 0;
    while round < rounds && began.elapsed() < moment {
        let input = mutant(&inputs, target.dictionary, &mut random);
        run(target, &input, &format!("seed {seed}, round {round}"));
        round += 1;
    }
    println!(
        "{}: {} inputs, {round} mutants of seed {seed}",
        target.name,
        inputs.len()
    );
}

/// Runs the body; on a fault says how to run it again.
fn run(target: &Target, input: &[u8], origin: &str) {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.body)(input)));
    let took = began.elapsed();
    if result.is_ok() && took < INPUT_TIME_MAX {
        return;
    }
    let path = std::env::temp_dir().join(format!("chronolith-fuzz-{}.bin", target.name));
    let written = std::fs::write(&path, input);
    panic!(
        "{} on {origin}: {}, input of {} bytes in {} ({written:?}): {:?}",
        target.name,
        if result.is_ok() {
            format!("took {took:?}")
        } else {
            "panicked".to_owned()
        },
        input.len(),
        path.display(),
        String::from_utf8_lossy(&input[..input.len().min(400)]),
    );
}

macro_rules! smoke_tests {
    ($($name:ident: $target:expr,)*) => {
        $(#[test]
        fn $name() {
            smoke(&$target);
        })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$($target.name),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, tested);
        }
    };
}

smoke_tests! {
    varint: targets::codec::VARINT,
    block: targets::codec::BLOCK,
    labels: targets::labels::LABELS,
    matcher: targets::labels::MATCHER,
    metric_segment: targets::segment::METRIC_SEGMENT,
    log_segment: targets::rows::LOG_SEGMENT,
    span_segment: targets::spans::SPAN_SEGMENT,
    wal: targets::wal::WAL,
    manifest: targets::manifest::MANIFEST,
    state: targets::state::STATE,
    store: targets::store::STORE,
    promql: targets::promql::PROMQL,
    durations: targets::promql::NUMBERS,
    traceql: targets::traceql::TRACEQL,
    sql: targets::sql::SQL,
    remote_write: targets::ingest::REMOTE_WRITE,
    exposition: targets::ingest::EXPOSITION,
    line_protocol: targets::influx::LINE_PROTOCOL,
    otlp_metrics: targets::otlp::OTLP_METRICS,
    log_rows: targets::rows_ingest::LOG_ROWS,
    span_rows: targets::rows_ingest::SPAN_ROWS,
    config: targets::config::CONFIG,
}
