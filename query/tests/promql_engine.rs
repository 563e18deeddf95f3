//! The PromQL engine from outside: parallel plans give the same answers, names go at the right
//! moment, limits and cancellation hold, plans can be looked at.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_engine::model::{Labels, TimestampNs};
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::result::{SampleValue, Value};
use chronolith_query::promql::{PromqlEngine, PromqlError, PromqlOptions, QueryOptions};

const MINUTE: i64 = 60_000;

/// 60 series of a counter and of a gauge, an hour of one sample per minute.
fn store() -> Store {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let ctx = RequestContext::new();
    let mut append = store.begin(&ctx).unwrap();
    for name in ["requests_total", "queue_depth"] {
        for series in 0..60_i64 {
            let labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("instance", format!("i{series:02}")),
                ("job", format!("j{}", series % 4)),
            ])
            .unwrap();
            let reference = append.define(None, &labels).unwrap();
            for minute in 0..60_i64 {
                let value = if name == "requests_total" {
                    (minute * (series + 1)) as f64 * 0.1
                } else {
                    ((minute * 7 + series * 13) % 50) as f64
                };
                let time = TimestampNs::from_millis(minute * MINUTE).unwrap();
                append.sample(reference, time, value);
            }
        }
    }
    append.commit().unwrap();
    store
}

fn engine(store: &Store, partitions_max: usize) -> PromqlEngine {
    let features = Features::conformance();
    let options = PromqlOptions {
        partitions_max,
        partition_samples_min: 1,
        features,
        ..PromqlOptions::default()
    };
    PromqlEngine::new(store.clone(), options)
}

fn range(engine: &PromqlEngine, text: &str) -> Result<Value, PromqlError> {
    let query = engine.parse(text)?;
    let times = (10 * MINUTE, 50 * MINUTE, MINUTE);
    let options = QueryOptions::default();
    Ok(engine
        .range_blocking(&RequestContext::new(), &query, times, &options)?
        .value)
}

#[test]
fn parallel_plans_give_the_same_answers() {
    let store = store();
    let (one, four) = (engine(&store, 1), engine(&store, 4));
    for text in [
        "rate(requests_total[5m])",
        "sum by (job) (rate(requests_total[5m]))",
        "sum(queue_depth)",
        "avg by (job) (queue_depth)",
        "min(queue_depth)",
        "max without (instance) (queue_depth)",
        "count(queue_depth) by (job)",
        "group(queue_depth)",
        "stddev by (job) (queue_depth)",
        "stdvar(queue_depth)",
        "topk(3, queue_depth)",
        "bottomk by (job) (1, queue_depth)",
        "quantile(0.9, queue_depth)",
        "count_values(\"v\", queue_depth)",
        "limitk(5, queue_depth)",
        "requests_total / on (instance) queue_depth",
        "queue_depth and on (instance) requests_total > 3",
        "queue_depth or requests_total",
        "label_replace(queue_depth, \"x\", \"$1\", \"job\", \"j(.)\")",
        "max_over_time(sum by (job) (queue_depth)[10m:1m])",
        "absent(queue_depth{job=\"none\"})",
        "scalar(sum(queue_depth)) + queue_depth",
        "queue_depth @ 600",
        "sum(rate(requests_total[5m] offset 5m)) * 2",
    ] {
        let (a, b) = (range(&one, text).unwrap(), range(&four, text).unwrap());
        assert!(same(&a, &b), "{text}: {a:?} differs from {b:?}");
    }
}

/// Equal but for the last bits, which depend on the order of addition.
fn same(a: &Value, b: &Value) -> bool {
    let (Value::Matrix(a), Value::Matrix(b)) = (a, b) else {
        return a == b;
    };
    let close = |x: f64, y: f64| x == y || (x - y).abs() <= 1e-12 * (x.abs() + y.abs());
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.labels == b.labels
                && a.floats.len() == b.floats.len()
                && a.floats
                    .iter()
                    .zip(&b.floats)
                    .all(|(x, y)| x.time_ms == y.time_ms && close(x.value, y.value))
        })
}

#[test]
fn names_go_at_once_unless_removal_is_delayed() {
    let store = store();
    let options = |delayed_name_removal| PromqlOptions {
        features: Features {
            delayed_name_removal,
            ..Features::conformance()
        },
        ..PromqlOptions::default()
    };
    let ask = |delayed, text: &str| {
        let engine = PromqlEngine::new(store.clone(), options(delayed));
        let query = engine.parse(text).unwrap();
        let options = QueryOptions::default();
        engine.instant_blocking(&RequestContext::new(), &query, 30 * MINUTE, &options)
    };
    let by_name = "count by (__name__) (rate(requests_total[5m]))";
    for (delayed, labels) in [(false, "{}"), (true, "{}")] {
        let Value::Vector(vector) = ask(delayed, by_name).unwrap().value else {
            panic!()
        };
        assert_eq!(vector.len(), 1);
        assert_eq!(vector[0].labels.to_string(), labels);
    }
    // With the name gone at once, two metrics of the same labels cannot be told apart.
    let both = "rate({__name__=~\"requests_total|queue_depth\"}[5m])";
    let renamed = "label_replace(rate({__name__=~\"requests_total|queue_depth\"}[5m]), \
                   \"m\", \"$1\", \"__name__\", \"(.*)\")";
    for delayed in [false, true] {
        let error = ask(delayed, both).unwrap_err();
        let message = "vector cannot contain metrics with the same labelset";
        assert_eq!(error.to_string(), message);
    }
    assert!(ask(false, renamed).is_err());
    let Value::Vector(vector) = ask(true, renamed).unwrap().value else {
        panic!()
    };
    assert_eq!(vector.len(), 120);
    // Negation looks at whole series: these have no step in common.
    let negated = "-(queue_depth < 25 or requests_total)";
    for delayed in [false, true] {
        let engine = PromqlEngine::new(store.clone(), options(delayed));
        assert_eq!(range(&engine, negated).is_err(), !delayed);
    }
}

#[test]
fn limits_hold() {
    let store = store();
    let options = PromqlOptions {
        samples_max: 1000,
        ..PromqlOptions::default()
    };
    let engine = PromqlEngine::new(store.clone(), options);
    assert!(matches!(
        range(&engine, "queue_depth"),
        Err(PromqlError::TooManySamples)
    ));
    // An aggregation holds its groups, not its series.
    assert!(range(&engine, "sum(queue_depth)").is_ok());
    let endless = "count_over_time(vector(1)[1y:1ms])";
    assert!(matches!(
        range(&engine, endless),
        Err(PromqlError::TooManySamples)
    ));

    let engine = PromqlEngine::new(store, PromqlOptions::default());
    let ctx = RequestContext::new();
    ctx.cancel.cancel();
    let query = engine.parse("sum(queue_depth)").unwrap();
    let stopped = engine.instant_blocking(&ctx, &query, MINUTE, &QueryOptions::default());
    assert!(matches!(stopped, Err(PromqlError::Cancelled)));
    let options = QueryOptions {
        timeout: Some(std::time::Duration::ZERO),
        ..QueryOptions::default()
    };
    let late = engine.instant_blocking(&RequestContext::new(), &query, MINUTE, &options);
    assert!(matches!(late, Err(PromqlError::Timeout)));
}

#[test]
fn a_query_may_hold_less_than_all_together() {
    let options = PromqlOptions {
        query_bytes_max: 20_000,
        ..PromqlOptions::default()
    };
    let engine = PromqlEngine::new(store(), options);
    // The answer alone is 60 series of 41 points of 16 bytes.
    for refused in ["queue_depth", "topk(50, queue_depth)"] {
        let error = range(&engine, refused).unwrap_err();
        assert!(matches!(error, PromqlError::TooMuchMemory(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.ends_with("query_memory_max allows 20000"), "{text}");
    }
    assert!(range(&engine, "sum(queue_depth)").is_ok());
    // What is refused since the memory of all is used up is another matter.
    let options = PromqlOptions {
        memory_bytes_max: 20_000,
        ..PromqlOptions::default()
    };
    let engine = PromqlEngine::new(store(), options);
    let error = range(&engine, "queue_depth").unwrap_err();
    assert!(matches!(error, PromqlError::OutOfMemory(_)), "{error:?}");
}

#[test]
fn nesting_is_limited() {
    let options = PromqlOptions {
        height_max: 10,
        ..PromqlOptions::default()
    };
    let engine = PromqlEngine::new(store(), options);
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(engine.parse(&nested(8)).is_ok());
    let error = engine.parse(&nested(20)).unwrap_err().to_string();
    assert!(
        error.ends_with("parse error: expression nests deeper than 10 levels"),
        "{error}"
    );
}

#[test]
fn tall_queries_run() {
    let engine = engine(&store(), 1);
    let sum = vec!["queue_depth"; 300].join(" + ");
    let Value::Matrix(matrix) = range(&engine, &sum).unwrap() else {
        panic!()
    };
    assert_eq!(matrix.len(), 60);
    let nested = format!("{}queue_depth{}", "abs(".repeat(200), ")".repeat(200));
    assert!(range(&engine, &nested).is_ok());
}

#[test]
fn plans_and_statistics_come_with_the_answer() {
    let engine = engine(&store(), 4);
    let query = engine
        .parse("sum by (job) (rate(requests_total[5m]))")
        .unwrap();
    let options = QueryOptions {
        explain: true,
        per_step_stats: true,
        ..QueryOptions::default()
    };
    let times = (10 * MINUTE, 12 * MINUTE, MINUTE);
    let result = engine
        .range_blocking(&RequestContext::new(), &query, times, &options)
        .unwrap();
    let plan = result.plan.unwrap();
    for node in [
        "Aggregate: sum, by [\"job\"], Final",
        "Partial",
        "RangeFunction",
        "SeriesScan",
    ] {
        assert!(plan.contains(node), "{node} in {plan}");
    }
    let samples = result.stats.samples;
    // Windows of 5 minutes hold 5 samples of each of 60 series, at each of 3 steps.
    assert_eq!(samples.queryable, 900);
    assert_eq!(samples.read, 60 * 7);
    let per_step = samples.per_step.unwrap();
    assert_eq!(per_step.queryable, [300; 3]);
    // Each window has one sample that the window before has not.
    assert_eq!(per_step.read, [300, 60, 60]);
}

#[test]
fn answers_come_on_async_threads_too() {
    let engine = engine(&store(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let query = engine.parse("sum(queue_depth)").unwrap();
    let result = runtime.block_on(engine.instant(
        &RequestContext::new(),
        &query,
        30 * MINUTE,
        &QueryOptions::default(),
    ));
    let Value::Vector(vector) = result.unwrap().value else {
        panic!()
    };
    let expected: i64 = (0..60).map(|series| (30 * 7 + series * 13) % 50).sum();
    assert_eq!(vector[0].value, SampleValue::Float(expected as f64));
}
