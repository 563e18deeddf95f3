//! Statements over a small store.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;
use chronolith_engine::StoreOptions;
use chronolith_engine::model::{Labels, TimestampNs};
use serde_json::{Value, json};

fn store() -> Store {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let context = RequestContext::new();
    let mut append = store.begin(&context).unwrap();
    for (job, instance, base) in [("api", "a", 0.0), ("api", "b", 100.0), ("db", "c", 200.0)] {
        let pairs = [
            ("__name__", "requests_total"),
            ("job", job),
            ("instance", instance),
        ];
        let series = append
            .define(None, &Labels::from_pairs(pairs).unwrap())
            .unwrap();
        for step in 0..10 {
            append.sample(
                series,
                TimestampNs(step * 1_000_000_000),
                base + step as f64,
            );
        }
    }
    let lonely = append
        .define(None, &Labels::from_pairs([("__name__", "up")]).unwrap())
        .unwrap();
    append.sample(lonely, TimestampNs(5), 1.0);
    append.commit().unwrap();
    store
}

async fn run(text: &str, params: &[Value]) -> Result<Value, SqlError> {
    let engine = SqlEngine::new(store(), SqlEngineOptions::default())?;
    let stream = engine.query(&RequestContext::new(), text, params).await?;
    let mut encoder = Encoder::new(Format::Json, stream.schema()).unwrap();
    let mut out = encoder.start().unwrap();
    for batch in stream.collect().await? {
        out.extend(encoder.batch(&batch).unwrap());
    }
    out.extend(encoder.finish().unwrap());
    Ok(serde_json::from_slice::<Value>(&out).unwrap()["rows"].take())
}

async fn rows(text: &str) -> Value {
    run(text, &[])
        .await
        .unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_table_holds_all_samples() {
    assert_eq!(rows("SELECT count(*) FROM metrics").await, json!([[31]]));
    let text = "SELECT metric, labels['job'] AS job, sum(value) FROM metrics \
                WHERE metric = 'requests_total' GROUP BY 1, 2 ORDER BY job";
    let expected = json!([
        ["requests_total", "api", 1090.0],
        ["requests_total", "db", 2045.0]
    ]);
    assert_eq!(rows(text).await, expected);
    let text = "SELECT labels FROM metrics WHERE labels['instance'] = 'c' LIMIT 1";
    assert_eq!(rows(text).await, json!([[{"instance": "c", "job": "db"}]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_is_a_table_with_labels_as_columns() {
    let text = "SELECT time, instance, value FROM metric.requests_total \
                WHERE job IN ('api', 'x') AND time >= '1970-01-01T00:00:08Z' ORDER BY 2, 1";
    let expected = json!([
        ["1970-01-01T00:00:08.000000000Z", "a", 8.0],
        ["1970-01-01T00:00:09.000000000Z", "a", 9.0],
        ["1970-01-01T00:00:08.000000000Z", "b", 108.0],
        ["1970-01-01T00:00:09.000000000Z", "b", 109.0],
    ]);
    assert_eq!(rows(text).await, expected);
    let text =
        "SELECT count(*) FROM metric.requests_total WHERE instance ~ '^[ab]$' AND job LIKE 'a%'";
    assert_eq!(rows(text).await, json!([[20]]));
    let text = "SELECT count(*) FROM metric.requests_total WHERE instance <> 'a'";
    assert_eq!(rows(text).await, json!([[20]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_reach_the_scan() {
    let text = "EXPLAIN SELECT value FROM metric.requests_total \
                WHERE job = 'api' AND time < '1970-01-01T00:00:02Z' LIMIT 3";
    let plan = rows(text).await.to_string();
    assert!(plan.contains("series=2"), "{plan}");
    assert!(
        plan.contains("1999999999]") && plan.contains("limit=3"),
        "{plan}"
    );
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_listed_with_their_extent() {
    let text = "SELECT metric, samples, last FROM series WHERE metric = 'up'";
    assert_eq!(
        rows(text).await,
        json!([["up", 1, "1970-01-01T00:00:00.000000005Z"]])
    );
    let text =
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'metric' ORDER BY 1";
    assert_eq!(rows(text).await, json!([["requests_total"], ["up"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_fill_placeholders() {
    let text = "SELECT count(*) FROM metric.requests_total WHERE job = $1 AND value > $2";
    assert_eq!(
        run(text, &[json!("api"), json!(50)]).await.unwrap(),
        json!([[10]])
    );
    assert!(run(text, &[json!({})]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_the_clients_and_have_a_place() {
    let cases = [
        ("SELEC 1", Some((1, 1))),
        ("SELECT\n nope FROM metrics", Some((2, 2))),
        ("SELECT * FROM missing", None),
        (
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            None,
        ),
        ("COPY metrics TO '/tmp/x.csv'", None),
        ("DROP TABLE metrics", None),
        ("SELECT * FROM '/etc/passwd'", None),
        ("SET datafusion.execution.target_partitions = 1", None),
    ];
    for (text, place) in cases {
        let error = run(text, &[]).await.unwrap_err();
        let SqlError::Invalid { position, .. } = &error else {
            panic!("{text}: {error:?}")
        };
        if let Some((line, column)) = place {
            assert_eq!(
                *position,
                Some(Position { line, column }),
                "{text}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_sees_nothing() {
    let engine = SqlEngine::new(store(), SqlEngineOptions::default()).unwrap();
    let other = chronolith_engine::TenantId::new("other").unwrap();
    let context = RequestContext::for_tenant(other);
    let stream = engine
        .query(&context, "SELECT * FROM metrics", &[])
        .await
        .unwrap();
    let rows: usize = stream
        .collect()
        .await
        .unwrap()
        .iter()
        .map(RecordBatch::num_rows)
        .sum();
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_needs_too_much_memory_is_refused() {
    let options = SqlEngineOptions {
        memory_bytes_max: 10_000,
        ..SqlEngineOptions::default()
    };
    let engine = SqlEngine::new(store(), options).unwrap();
    let text = "SELECT a.value FROM metrics a CROSS JOIN metrics b CROSS JOIN metrics c ORDER BY a.value + b.value + c.value";
    let stream = engine
        .query(&RequestContext::new(), text, &[])
        .await
        .unwrap();
    let error = stream.collect().await.unwrap_err();
    assert!(matches!(error, SqlError::Resources(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_may_hold_less_than_all_together() {
    let options = SqlEngineOptions {
        query_bytes_max: 10_000,
        ..SqlEngineOptions::default()
    };
    let engine = SqlEngine::new(store(), options).unwrap();
    let text = "SELECT a.value FROM metrics a CROSS JOIN metrics b CROSS JOIN metrics c ORDER BY a.value + b.value + c.value";
    let stream = engine
        .query(&RequestContext::new(), text, &[])
        .await
        .unwrap();
    let error = stream.collect().await.unwrap_err();
    assert!(matches!(error, SqlError::TooMuchMemory(_)), "{error:?}");
    assert!(error.to_string().contains("query_memory_max allows 10000"));
}

/// Every scan of the union counts the same rows while others are written: between planning and reading,
/// and between one scan and the other.
#[test]
fn a_statement_that_reads_twice_sees_one_state() {
    struct StopOnDrop<'a>(&'a AtomicBool);
    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let store = store();
    let write = |time: i64| {
        let mut append = store.begin(&RequestContext::new()).unwrap();
        for name in ["left", "right"] {
            let labels = Labels::from_pairs([("__name__", name)]).unwrap();
            let series = append.define(None, &labels).unwrap();
            append.sample(series, TimestampNs(time), 1.0);
        }
        append.commit().unwrap();
    };
    write(0);
    let engine = SqlEngine::new(store.clone(), SqlEngineOptions::default()).unwrap();
    let text = "SELECT count(*) AS n FROM metric.left UNION ALL SELECT count(*) FROM metric.right \
                UNION ALL SELECT samples FROM series WHERE metric IN ('left', 'right')";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let time = written.fetch_add(1, Ordering::Relaxed) + 1;
                write(time);
                if time % 50 == 0 {
                    store.flush().unwrap();
                }
            }
        });
        let _stop = StopOnDrop(&stop);
        for round in 0..20 {
            // Something happens in every round.
            let before = written.load(Ordering::Relaxed);
            while written.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
            let batches = runtime.block_on(async {
                let stream = engine.query(&RequestContext::new(), text, &[]).await;
                stream.unwrap().collect().await.unwrap()
            });
            let seen: Vec<i64> = batches
                .iter()
                .flat_map(|batch| {
                    let column = batch.column(0);
                    let column = column.as_any().downcast_ref::<arrow::array::Int64Array>();
                    column.unwrap().values().to_vec()
                })
                .collect();
            assert_eq!(seen, [seen[0]; 4], "round {round}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn other_languages_are_tables() {
    let text = "SELECT labels['job'] AS job, max(value) FROM promql('requests_total', 0, 9, '3s') \
                GROUP BY 1 ORDER BY 1";
    assert_eq!(rows(text).await, json!([["api", 109.0], ["db", 209.0]]));
    let text = "SELECT count(*) FROM promql('requests_total', to_timestamp(9)) p \
                JOIN metrics m ON p.labels['instance'] = m.labels['instance'] AND m.time = p.time";
    assert_eq!(rows(text).await, json!([[3]]));
    let text = "SELECT time, metric, value FROM promql('sum(requests_total)', 9)";
    let expected = json!([["1970-01-01T00:00:09.000000000Z", null, 327.0]]);
    assert_eq!(rows(text).await, expected);
    let nothing = [
        "SELECT line FROM logql('{a=\"b\"}', now() - INTERVAL '1 hour', now())",
        "SELECT value FROM logql('sum(rate({a=\"b\"}[1m]))')",
        "SELECT trace_id FROM traceql('{ status = error }')",
        "SELECT value FROM traceql('{ } | rate()', 0, 60, INTERVAL '10 seconds') WHERE value > 0",
    ];
    for text in nothing {
        assert_eq!(rows(text).await, json!([]), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_query_inside_a_statement_is_its_writers_fault() {
    for (text, word) in [
        ("SELECT * FROM promql('sum(')", "promql"),
        ("SELECT * FROM logql('{')", "logql"),
        ("SELECT * FROM traceql('{')", "traceql"),
        ("SELECT * FROM promql('up', 10, 0, 1)", "promql"),
        ("SELECT * FROM promql(1)", "text"),
        ("SELECT * FROM promql('up', 0, 1e9, '0s')", "step"),
    ] {
        match run(text, &[]).await {
            Err(SqlError::Invalid { message, .. }) => assert!(message.contains(word), "{message}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
