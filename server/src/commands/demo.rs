//! `demo`: a store full of sample telemetry, a server over it, and a short tour.
//!
//! The data is that of `chronolith-datasets`: a day of a retail data pipeline that ends now, with
//! incidents that the tour finds again, one query at a time.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chronolith_datasets::{Telemetry, TelemetryOptions};
use chronolith_engine::{RequestContext, Store};
use chronolith_query::logql::eval::{QueryParams, QueryValue};
use chronolith_query::promql::result::Value as PromqlValue;
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};
use chronolith_query::runs::{RunFilter, RunState};
use chronolith_query::sql::{Encoder, Format, SqlEngine, SqlEngineOptions};
use chronolith_query::traceql;
use chronolith_query::traces::metrics::{MetricsRequest, metrics};

use super::serve;
use crate::cli::DemoArgs;
use crate::config::{Config, LogFormat};
use crate::{demo, demo_rows};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// A stop of the tour.
struct Stop {
    language: &'static str,
    question: &'static str,
    query: &'static str,
}

/// How long the tour waits for what is computed from spans and events.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// One question per kind of trouble in the data.
const TOUR: [Stop; 9] = [
    Stop {
        language: "PromQL",
        question: "How long do runs take? (95th percentile of the last hour, seconds)",
        query: "sort_desc(histogram_quantile(0.95, sum by (pipeline_name) (rate(pipeline_duration_seconds[1h]))))",
    },
    Stop {
        language: "PromQL",
        question: "Which machine leaks memory? (percentage points per hour over the last 6 hours)",
        query: "topk(3, deriv(memory_usage_percent[6h]) * 3600)",
    },
    Stop {
        language: "PromQL",
        question: "Which stage failed most? (failed attempts over the day)",
        query: "topk(3, sum by (pipeline_name, task_name, region) (increase(task_executions_total{status=\"failed\"}[1d])))",
    },
    Stop {
        language: "PromQL",
        question: "Whose bill spiked? (dollars in the dearest hour against the median hour)",
        query: "topk(3, max_over_time(sum by (model) (increase(model_cost_dollars[1h]))[1d:10m]) / quantile_over_time(0.5, sum by (model) (increase(model_cost_dollars[1h]))[1d:10m]))",
    },
    Stop {
        language: "SQL",
        question: "Which source was late? (oldest data against what is usual there, in minutes)",
        query: "SELECT pipeline_name, region, store, round(max(value) / 60) AS oldest, round(median(value) / 60) AS usual \
                FROM metric.data_freshness_seconds GROUP BY 1, 2, 3 ORDER BY max(value) / median(value) DESC LIMIT 3",
    },
    Stop {
        language: "LogQL",
        question: "What do the failed runs complain about? (failed runs of the day by error)",
        query: "topk(3, sum by (code) (count_over_time({service_name=\"pipeline-runner\"} |= \"run failed\" | logfmt [1d])))",
    },
    Stop {
        language: "TraceQL",
        question: "Where do runs fail? (failed spans of the day by service and name)",
        query: "{ status = error } | count_over_time() by (resource.service.name, name) | topk(3)",
    },
    Stop {
        language: "PromQL",
        question: "Which operations take longest? (95th percentile of spans, seconds, counted as they came)",
        query: "topk(3, histogram_quantile(0.95, sum by (service, span_name, le) (traces_spanmetrics_latency_bucket)))",
    },
    Stop {
        language: "SQL",
        question: "What is stored? (largest metrics)",
        query: "SELECT metric, count(*) AS series, sum(samples) AS samples FROM series GROUP BY metric ORDER BY samples DESC LIMIT 5",
    },
];

/// Fills a store, starts the server, runs the tour, and stays up unless told to exit.
///
/// # Errors
/// What kept it from running: a taken port, a directory that cannot be used.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<u8> {
    crate::telemetry::init_logging(LogFormat::Text, "warn").map_err(anyhow::Error::msg)?;
    serve::runtime()?.block_on(tour(args))
}

async fn tour(args: &DemoArgs) -> anyhow::Result<u8> {
    // Kept until the end, so that the directory goes with the demo.
    let (dir, _temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
            (temporary.path().join("store"), Some(temporary))
        }
    };
    let config = config(args, &dir)?;
    let server = serve::start(config).await?;
    let store = server.state.store().clone();
    let context = RequestContext::new();

    let end_ms = crate::telemetry::now_ms();
    let telemetry = Telemetry::new(TelemetryOptions::demo(end_ms));
    let hours = (telemetry.end_ms() - telemetry.start_ms()) / 3_600_000;
    println!("A retail data pipeline: the last {hours} hours of six stores in three regions.\n");
    println!("Known incidents in the data:");
    for incident in telemetry.incidents() {
        println!("  {:16} {}", incident.name, incident.description);
    }

    let started = Instant::now();
    let loading = {
        let (store, context) = (store.clone(), context.clone());
        tokio::task::spawn_blocking(move || {
            let mut bar = Progress::new();
            let loaded =
                demo::load_metrics(&store, &context, &telemetry, |samples| bar.show(samples));
            bar.clear();
            let rows = demo_rows::load_rows(&store, &context, &telemetry)?;
            loaded.map(|loaded| (loaded, rows))
        })
    };
    let (loaded, rows) = loading.await??;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "\nLoaded {} samples of {} series, {} log records and {} spans in {seconds:.1} s, each batch synced to disk.",
        loaded.samples, loaded.series, rows.logs, rows.spans
    );

    counted(&server).await?;
    // After the last sample of the story, and after what was counted of its spans.
    let asked_ms = crate::telemetry::now_ms();
    let promql = PromqlEngine::new(store.clone(), PromqlOptions::default());
    let sql = SqlEngine::new(store.clone(), SqlEngineOptions::default())?;
    for stop in &TOUR {
        println!("\n{}\n  {}: {}", stop.question, stop.language, stop.query);
        let started = Instant::now();
        let table = match stop.language {
            "SQL" => {
                let stream = sql.query(&context, stop.query, &[]).await?;
                let schema = stream.schema();
                table(schema, &stream.collect().await?)?
            }
            "LogQL" => {
                let query = server.state.logql().parse(stop.query)?;
                let params = QueryParams::instant(asked_ms.saturating_mul(1_000_000));
                let answer = server.state.logql().query(&context, &query, params).await?;
                series_table(&answer.value)
            }
            "TraceQL" => {
                let (store, context) = (store.clone(), context.clone());
                let answer = move || span_metrics(&store, &context, stop.query, end_ms);
                tokio::task::spawn_blocking(answer).await??
            }
            _ => {
                let query = promql.parse(stop.query)?;
                let options = QueryOptions::default();
                let answer = promql.instant(&context, &query, asked_ms, &options).await?;
                let batch = answer.value.to_batch()?;
                table(batch.schema(), &[batch])?
            }
        };
        print!("{table}");
        println!("  in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    }

    show_runs(&server).await?;

    println!("\nThe server is up. Try:");
    println!(
        "  curl -sG {}/api/v1/query --data-urlencode 'query=data_quality_score < 0.97'",
        server.url
    );
    println!(
        "  chronolith sql --url {} 'SELECT * FROM series LIMIT 5'",
        server.url
    );
    println!("  curl -s {}/jaeger/api/services", server.url);
    println!("listening on {}", server.url);
    if !args.exit {
        println!("Press Ctrl-C to end.");
        serve::wait_for_signal().await?;
    }
    server.stop().await?;
    Ok(0)
}

/// Waits for what is computed from the rows that were loaded, and writes it.
async fn counted(server: &serve::Running) -> anyhow::Result<()> {
    let state = server.state.clone();
    let counted = tokio::task::spawn_blocking(move || {
        state.feed().settle(SETTLE_MAX);
        state.span_metrics().write(state.store())
    });
    Ok(counted.await??)
}

/// Shows a run that is under way and explains the one that failed last.
async fn show_runs(server: &serve::Running) -> anyhow::Result<()> {
    for (wanted, question) in [
        (RunState::Running, "What is running, and how far?"),
        (
            RunState::Failed,
            "What went wrong with the last run that failed?",
        ),
    ] {
        let state = server.state.clone();
        let shown = tokio::task::spawn_blocking(move || {
            let context = RequestContext::new();
            let filter = RunFilter {
                state: Some(wanted),
                ..RunFilter::default()
            };
            let runs = state.runs().list(state.store(), &context, &filter, 1)?;
            let runs: serde_json::Value = serde_json::from_str(&runs)?;
            let Some(run) = runs.pointer("/runs/0").cloned() else {
                return anyhow::Ok(None);
            };
            let id = run["run_id"].as_str().unwrap_or_default();
            let detail = state.runs().detail(state.store(), &context, id)?;
            Ok(Some((run, detail)))
        });
        let Some((run, Some(detail))) = shown.await?? else {
            continue;
        };
        let id = run["run_id"].as_str().unwrap_or_default();
        println!("\n{question}\n  GET {}/api/v1/runs/{id}", server.url);
        for sentence in detail.explained() {
            println!("  {sentence}");
        }
        if let Some(progress) = run["progress"].as_f64() {
            println!("  progress: {:.0} %", progress * 100.0);
        }
    }
    Ok(())
}

fn config(args: &DemoArgs, dir: &std::path::Path) -> anyhow::Result<Config> {
    let listen = args.listen.clone();
    let dir = dir.display().to_string();
    let off = [
        "otlp_grpc_listen",
        "otlp_http_listen",
        "flight_listen",
        "pg_listen",
    ];
    let config = Config::load(
        None,
        |setting| match setting.key {
            "listen" => Some(listen.clone()),
            "data_dir" => Some(dir.clone()),
            key if off.contains(&key) => Some("off".into()),
            _ => None,
        },
        |name| std::env::var(name).ok(),
    )?;
    Ok(config)
}

fn table(
    schema: arrow::datatypes::SchemaRef,
    batches: &[arrow::array::RecordBatch],
) -> anyhow::Result<String> {
    let mut encoder = Encoder::new(Format::Table, schema)?;
    let mut out = encoder.start()?;
    for batch in batches {
        out.extend(encoder.batch(batch)?);
    }
    out.extend(encoder.finish()?);
    Ok(String::from_utf8(out)?)
}

/// What a TraceQL metrics query counts over the day before `end_ms`.
fn span_metrics(
    store: &Store,
    context: &RequestContext,
    text: &str,
    end_ms: i64,
) -> anyhow::Result<String> {
    let end_ns = end_ms.saturating_mul(1_000_000);
    let request = MetricsRequest {
        start_ns: end_ns.saturating_sub(DAY_NS),
        end_ns,
        step_ns: DAY_NS,
        exemplars: 0,
    };
    let snapshot = store.pin(context)?;
    let found = metrics(&snapshot, context, &traceql::parse(text)?, &request)?;
    let batch = PromqlValue::Matrix(found.to_matrix()).to_batch()?;
    table(batch.schema(), &[batch])
}

/// The series of a LogQL answer, a line each.
fn series_table(value: &QueryValue) -> String {
    let (QueryValue::Vector(all) | QueryValue::Matrix(all)) = value else {
        return String::new();
    };
    let mut out = String::new();
    for series in all {
        let labels: Vec<String> = series
            .labels
            .iter()
            .map(|(n, v)| format!("{n}={v:?}"))
            .collect();
        let value = series.points.last().map_or(f64::NAN, |point| point.value);
        out.push_str(&format!("  {{{}}}  {value}\n", labels.join(", ")));
    }
    out
}

/// A line on the terminal that says how far loading is; silent when nobody watches.
struct Progress {
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            shown: None,
            terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()),
        }
    }

    fn show(&mut self, samples: usize) {
        let due = self
            .shown
            .is_none_or(|at| at.elapsed() > Duration::from_millis(100));
        if self.terminal && due {
            eprint!("\rloading: {samples} samples ");
            let _ = std::io::stderr().flush();
            self.shown = Some(Instant::now());
        }
    }

    fn clear(&self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
