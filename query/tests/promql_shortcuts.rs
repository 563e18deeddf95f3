//! The short ways of the evaluator give what the long ones give: values that are not decoded,
//! sample times that series share, times within one millisecond.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_engine::model::{Labels, STALE_NAN_BITS, TimestampNs};
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_query::promql::result::{SampleValue, Value};
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};

const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 2_000;
/// Where the second series has a staleness marker, and where it ends with one.
const GAP: i64 = 1_000;
const END: i64 = 1_500;

/// Two series in a segment whose chunks are large enough to have statistics.
fn engine() -> PromqlEngine {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let mut append = store.begin(&RequestContext::new()).unwrap();
    for name in ["whole", "broken"] {
        let labels = Labels::from_pairs([("__name__", "m"), ("kind", name)]).unwrap();
        let series = append.define(None, &labels).unwrap();
        let last = if name == "broken" { END } else { SAMPLES - 1 };
        for i in 0..=last {
            let is_stale = name == "broken" && (i == GAP || i == END);
            let value = if is_stale {
                f64::from_bits(STALE_NAN_BITS)
            } else {
                (i * 7 % 97) as f64 * 0.25
            };
            append.sample(series, time(i * STEP_MS), value);
        }
    }
    append.commit().unwrap();
    store.flush().unwrap();
    PromqlEngine::new(store, PromqlOptions::default())
}

fn time(ms: i64) -> TimestampNs {
    TimestampNs::from_millis(ms).unwrap()
}

fn instant(engine: &PromqlEngine, text: &str, time_ms: i64) -> Vec<f64> {
    let query = engine.parse(text).unwrap();
    let options = QueryOptions::default();
    let context = RequestContext::new();
    let result = engine.instant_blocking(&context, &query, time_ms, &options);
    let Value::Vector(elements) = result.unwrap().value else {
        panic!("{text} is no vector");
    };
    let float = |value: &SampleValue| match value {
        SampleValue::Float(value) => *value,
        SampleValue::Histogram(_) => panic!("{text} gives a histogram"),
    };
    elements.iter().map(|e| float(&e.value)).collect()
}

#[test]
fn staleness_is_seen_where_values_are_not_decoded() {
    let engine = engine();
    let at = |sample: i64| sample * STEP_MS + 1;
    for (sample, count) in [(GAP - 1, 2.0), (GAP, 1.0), (GAP + 1, 2.0), (END, 1.0)] {
        assert_eq!(
            instant(&engine, "count(m)", at(sample)),
            [count],
            "{sample}"
        );
        assert_eq!(instant(&engine, "count(m + 0)", at(sample)), [count]);
    }
    assert_eq!(
        instant(&engine, "count_over_time(m[5m])", at(GAP + 3)),
        [19.0, 20.0]
    );
    assert_eq!(
        instant(&engine, "absent(m{kind=\"broken\"})", at(END)),
        [1.0]
    );
    assert!(instant(&engine, "absent(m{kind=\"broken\"})", at(GAP + 1)).is_empty());
    assert_eq!(
        instant(&engine, "group by (kind) (m)", at(GAP)),
        [1.0],
        "the series that is stale makes no group"
    );
}

#[test]
fn of_samples_in_one_millisecond_the_last_counts() {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let mut append = store.begin(&RequestContext::new()).unwrap();
    let labels = Labels::from_pairs([("__name__", "fast")]).unwrap();
    let series = append.define(None, &labels).unwrap();
    for (time_ns, value) in [(1_000_000, 1.0), (2_000_000, 2.0), (2_400_000, 5.0)] {
        append.sample(series, TimestampNs(time_ns), value);
    }
    append.commit().unwrap();
    let engine = PromqlEngine::new(store, PromqlOptions::default());
    assert_eq!(instant(&engine, "sum_over_time(fast[1s])", 10), [6.0]);
    assert_eq!(instant(&engine, "fast", 10), [5.0]);
}

#[test]
fn a_subquery_without_steps_gives_nothing() {
    // Steps are multiples of a minute, of which the window has none.
    let text = "resets((m ^ scalar(m{kind=\"whole\"}))[10s:])";
    assert!(instant(&engine(), text, 10 * 60_000 + 30_000).is_empty());
}
