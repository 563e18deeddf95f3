//! A store in memory against a plain map: the input is a list of operations.
//!
//! `engine/tests` has a larger simulation with crashes; this one lets mutations look for an order of
//! operations that nobody thought of.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{
    Committed, Matcher, RequestContext, Result, ScanRequest, Signal, Store, StoreOptions, SyncMode,
};

use crate::Target;

/// Operations on a store.
pub static STORE: Target = Target {
    name: "store",
    body: operations,
    seeds,
    dictionary: &[],
};

/// Operations of one input.
const OPERATIONS_MAX: usize = 60;
const SERIES: u8 = 4;
const STEP_NS: i64 = 15_000_000_000;
/// Times are steps around a midnight, so that rows fall into several partitions.
const MIDNIGHT_NS: i64 = 20_412 * 86_400_000_000_000;

/// Series number and time to the bits of the value.
type Model = BTreeMap<(u8, i64), u64>;

fn operations(data: &[u8]) {
    if let Err(error) = run(data) {
        panic!("a store in memory does not fail: {error}");
    }
}

fn time(byte: u8) -> i64 {
    MIDNIGHT_NS + (i64::from(byte) - 128) * STEP_NS
}

fn labels(series: u8) -> Labels {
    let number = series.to_string();
    Labels::from_pairs([("__name__", "depth"), ("n", number.as_str())]).unwrap_or_default()
}

fn run(data: &[u8]) -> Result<()> {
    let store = Store::in_memory(StoreOptions {
        sync: SyncMode::Off,
        background: false,
        ..StoreOptions::default()
    })?;
    let context = RequestContext::new();
    let mut model = Model::new();
    let mut under_way = Vec::new();
    for (count, operation) in data.chunks_exact(4).enumerate() {
        if count == OPERATIONS_MAX {
            break;
        }
        let [kind, a, b, c] = [operation[0], operation[1], operation[2], operation[3]];
        // Waiting after each append for the log's two threads would take several times what all else
        // takes, so those that follow each other share a commit. Who reads or deletes waits.
        if kind % 8 > 3 {
            settle(&mut under_way)?;
        }
        match kind % 8 {
            // Rows of one series: every second step from a time on.
            0..=3 => under_way.push(append(&store, &context, &mut model, [a, b, c])?),
            4 => store.flush()?,
            5 => store.compact()?,
            6 => {
                let (from, to) = (time(b.min(c)), time(b.max(c)));
                let range = TimeRange::new(from, to);
                let matchers = [Matcher::equal("n", &(a % SERIES).to_string())];
                store.delete(&context, Signal::Metrics, &matchers, range)?;
                model.retain(|(series, time), _| {
                    *series != a % SERIES || !(from..=to).contains(time)
                });
            }
            _ => check(
                &store,
                &context,
                &model,
                TimeRange::new(time(b.min(c)), time(b.max(c))),
            )?,
        }
    }
    settle(&mut under_way)?;
    check(&store, &context, &model, TimeRange::ALL)?;
    store.compact()?;
    check(&store, &context, &model, TimeRange::ALL)?;
    store.close()
}

/// The answer to an append that was handed over.
type UnderWay = Receiver<Result<Committed>>;

fn settle(under_way: &mut Vec<UnderWay>) -> Result<()> {
    under_way.drain(..).try_for_each(|answer| {
        let answer = answer.recv().expect("each append is answered");
        answer.map(|_| ())
    })
}

fn append(
    store: &Store,
    context: &RequestContext,
    model: &mut Model,
    [a, b, c]: [u8; 3],
) -> Result<UnderWay> {
    let mut append = store.begin(context)?;
    let series = append.define(None, &labels(a % SERIES))?;
    for step in 0..=(c % 16) {
        let time = time(b.wrapping_add(step * 2));
        let value = f64::from_bits(u64::from(c) << 52 | u64::from(step));
        append.sample(series, TimestampNs(time), value);
        model.insert((a % SERIES, time), value.to_bits());
    }
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    append.submit(move |answer| {
        // Nobody listens any more after a fault elsewhere.
        let _ = sender.send(answer);
    });
    Ok(receiver)
}

fn check(store: &Store, context: &RequestContext, model: &Model, range: TimeRange) -> Result<()> {
    let mut found = Model::new();
    let scan = store.scan_metrics(context, &ScanRequest::new(Vec::new(), range))?;
    let mut columns = SampleColumns::default();
    for index in 0..scan.len() {
        let number = scan
            .labels(index)
            .get("n")
            .and_then(|text| text.parse().ok());
        let number: u8 = number.expect("only our series are there");
        scan.read(index, range, &mut columns)?;
        for (time, value) in columns.timestamps.iter().zip(&columns.values) {
            let before = found.insert((number, *time), value.to_bits());
            assert_eq!(before, None, "a time twice");
        }
    }
    let expected = model
        .iter()
        .filter(|((_, time), _)| range.contains(TimestampNs(*time)));
    let expected: Model = expected.map(|(key, bits)| (*key, *bits)).collect();
    assert_eq!(found, expected);
    Ok(())
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            0, 0, 100, 15, 0, 1, 100, 3, 4, 0, 0, 0, 0, 0, 101, 9, 5, 0, 0, 0, 7, 0, 90, 140,
        ],
        vec![
            0, 0, 120, 15, 6, 0, 121, 125, 4, 0, 0, 0, 0, 0, 120, 2, 6, 0, 0, 255, 5, 0, 0, 0,
        ],
        vec![
            0, 2, 130, 12, 0, 2, 118, 12, 0, 2, 124, 7, 4, 0, 0, 0, 0, 2, 124, 8, 4, 0, 0, 0, 7, 0,
            0, 255,
        ],
    ]
}
