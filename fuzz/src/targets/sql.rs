//! SQL: any text is answered or refused at a position inside of it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use chronolith_engine::model::{Labels, TimestampNs};
use chronolith_engine::{RequestContext, Result, Store, StoreOptions};
use chronolith_query::sql::{SqlEngine, SqlEngineOptions, SqlError};
use tokio::runtime::Runtime;

use crate::Target;

/// Whole statements over a store of three series.
pub static SQL: Target = Target {
    name: "sql",
    body: statement,
    seeds,
    dictionary: &[
        "SELECT ",
        " FROM metrics",
        " WHERE ",
        "time >= ",
        "labels['job']",
        " GROUP BY ",
        " ORDER BY ",
        " LIMIT 1",
        "metric.\"up\"",
        "series",
        " JOIN ",
        " AND ",
        "count(*)",
        "now()",
        "INTERVAL '5m'",
        "'",
        "\"",
        "(",
        ")",
        "NULL",
        " LIKE '%a%'",
        " ~ 'a.*'",
        "UNION ALL ",
        "WITH x AS (",
        "CAST(",
        "DELETE ",
        "$1",
        "1e400",
        "--",
        "/*",
    ],
};

/// One statement may not take longer: hostile ones end by their deadline.
const TIME_MAX: Duration = Duration::from_secs(1);

struct World {
    engine: SqlEngine,
    runtime: Runtime,
}

static WORLD: LazyLock<World> = LazyLock::new(|| match world() {
    Ok(world) => world,
    Err(error) => panic!("bug: the store of the target cannot be made: {error}"),
});

fn world() -> std::result::Result<World, Box<dyn std::error::Error>> {
    let engine = SqlEngine::new(
        store()?,
        SqlEngineOptions {
            memory_bytes_max: 32 << 20,
            parallelism: 1,
            ..SqlEngineOptions::default()
        },
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    Ok(World { engine, runtime })
}

fn store() -> Result<Store> {
    let store = Store::in_memory(StoreOptions {
        background: false,
        ..StoreOptions::default()
    })?;
    let mut append = store.begin(&RequestContext::new())?;
    for job in ["api", "web", ""] {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]).unwrap_or_default();
        let series = append.define(None, &labels)?;
        for step in 0..20 {
            let time = TimestampNs(1_763_600_400_000_000_000 + step * 15_000_000_000);
            append.sample(series, time, step as f64);
        }
    }
    append.commit()?;
    Ok(store)
}

fn statement(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut context = RequestContext::new();
    context.deadline = Some(Instant::now() + TIME_MAX);
    let answer = WORLD.runtime.block_on(async {
        let stream = WORLD.engine.query(&context, text, &[]).await?;
        stream.collect().await
    });
    if let Err(SqlError::Invalid {
        message,
        position: Some(position),
    }) = answer
    {
        let lines = text.split('\n').count() as u64;
        assert!(
            position.line <= lines,
            "{position:?} in {lines} lines: {message}"
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "SELECT time, metric, labels['job'] AS job, value FROM metrics WHERE metric = 'up' AND labels['job'] = 'api' ORDER BY time LIMIT 5",
        "SELECT job, count(*), max(value) FROM metric.\"up\" WHERE time >= '2025-11-20T01:00:00Z' GROUP BY job",
        "SELECT * FROM series",
        "SELECT a.value / b.value FROM metric.up a JOIN metric.up b ON a.time = b.time WHERE a.job = 'api' AND b.job = 'web'",
        "SELECT\n  nothing\nFROM metrics",
        "DELETE FROM metrics",
        "EXPLAIN SELECT value FROM metrics WHERE labels['job'] ~ 'a.*'",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
