//! `promql` and `sql`: one question, to a server or to a directory.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use chronolith_engine::{RequestContext, Store, StoreOptions, TenantId};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};
use chronolith_query::sql::{
    Encoder, Format, SqlEngine, SqlEngineOptions, encode, read_arrow_stream,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::remote;
use crate::api::params::{parse_duration_ms, parse_time_ms};
use crate::api::query::{INFOS, QueryTime, WARNINGS, answer_text, encoded};
use crate::cli::QueryArgs;
use crate::request::TENANT_HEADER;

pub(super) fn store(args: &QueryArgs) -> anyhow::Result<Store> {
    let dir = &args.data_dir;
    Store::open_read_only(dir, StoreOptions::default())
        .with_context(|| format!("cannot read the store in {}", dir.display()))
}

pub(super) fn context(args: &QueryArgs) -> anyhow::Result<RequestContext> {
    Ok(RequestContext::for_tenant(TenantId::new(&args.tenant)?))
}

fn time(args: &QueryArgs) -> anyhow::Result<QueryTime> {
    let parse = |text: &str| parse_time_ms(text).map_err(anyhow::Error::msg);
    if let (Some(start), Some(end)) = (&args.start, &args.end) {
        return Ok(QueryTime::Range {
            start_ms: parse(start)?,
            end_ms: parse(end)?,
            step_ms: parse_duration_ms(&args.step).map_err(anyhow::Error::msg)?,
        });
    }
    let time_ms = match &args.time {
        Some(text) => parse(text)?,
        None => crate::telemetry::now_ms(),
    };
    Ok(QueryTime::Instant { time_ms })
}

pub(super) fn format(args: &QueryArgs) -> anyhow::Result<Format> {
    Ok(match args.format.as_str() {
        "table" => Format::Table,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "arrow" => Format::ArrowStream,
        "parquet" => Format::Parquet,
        other => bail!("--format {other}: expected table, json, csv, arrow or parquet"),
    })
}

/// `chronolith promql EXPR`: JSON as the Prometheus API has it; in the other formats a table with one
/// column a label, `time` and `value`.
///
/// # Errors
/// What kept the question from being answered.
pub(super) fn promql(args: &QueryArgs) -> anyhow::Result<u8> {
    let (time, format) = (time(args)?, format(args)?);
    let answer = match &args.url {
        Some(url) => promql_remote(args, url, time, format)?,
        None => promql_local(args, time, format)?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&answer)?;
    if format == Format::Json {
        writeln!(out)?;
    }
    Ok(0)
}

fn print_remarks(remarks: impl IntoIterator<Item = impl AsRef<str>>) {
    for remark in remarks {
        eprintln!("{}", remark.as_ref());
    }
}

fn promql_local(args: &QueryArgs, time: QueryTime, format: Format) -> anyhow::Result<Vec<u8>> {
    let mut features = Features::default();
    for name in &args.enable_feature {
        if !features.enable(name) {
            bail!("--enable-feature {name}: PromQL has no feature of this name");
        }
    }
    let options = PromqlOptions {
        features,
        ..PromqlOptions::default()
    };
    let engine = PromqlEngine::new(store(args)?, options);
    let query = engine.parse(&args.query)?;
    let (context, options) = (context(args)?, QueryOptions::default());
    let result = match time {
        QueryTime::Instant { time_ms } => {
            engine.instant_blocking(&context, &query, time_ms, &options)?
        }
        QueryTime::Range {
            start_ms,
            end_ms,
            step_ms,
        } => engine.range_blocking(&context, &query, (start_ms, end_ms, step_ms), &options)?,
    };
    print_remarks(result.annotations.warnings(&args.query));
    print_remarks(result.annotations.infos(&args.query));
    Ok(match format {
        Format::Json => answer_text(result, &args.query, time).into_bytes(),
        other => encoded(&result, &args.query, other)?,
    })
}

/// What to ask a server for: it draws no tables, those are made here of the rows.
fn asked(format: Format) -> Format {
    match format {
        Format::Table => Format::ArrowStream,
        other => other,
    }
}

fn promql_remote(
    args: &QueryArgs,
    url: &str,
    time: QueryTime,
    format: Format,
) -> anyhow::Result<Vec<u8>> {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1e3);
    let query = utf8_percent_encode(&args.query, NON_ALPHANUMERIC);
    let (path, form) = match time {
        QueryTime::Instant { time_ms } => (
            "/api/v1/query",
            format!("query={query}&time={}", seconds(time_ms)),
        ),
        QueryTime::Range {
            start_ms,
            end_ms,
            step_ms,
        } => (
            "/api/v1/query_range",
            format!(
                "query={query}&start={}&end={}&step={}",
                seconds(start_ms),
                seconds(end_ms),
                seconds(step_ms)
            ),
        ),
    };
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", asked(format).content_type()),
        (TENANT_HEADER, args.tenant.as_str()),
    ];
    let runtime = super::serve::runtime()?;
    let answer = runtime.block_on(remote::post(url, path, &headers, form))?;
    if answer.status != 200 {
        let body: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{url} answered {} without JSON", answer.status))?;
        bail!("{}", body["error"].as_str().unwrap_or("the server refused"));
    }
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().into_iter().flatten();
        texts
            .filter_map(|t| t.as_str().map(str::to_owned))
            .collect()
    };
    match format {
        Format::Json => {
            let body: Value = serde_json::from_slice(&answer.body)
                .with_context(|| format!("{url} answered without JSON"))?;
            for name in [WARNINGS, INFOS] {
                print_remarks(texts(&body[name]));
            }
        }
        Format::Table => {
            let (schema, batches) = read_arrow_stream(&answer.body)?;
            for name in [WARNINGS, INFOS] {
                if let Some(list) = schema.metadata().get(name) {
                    print_remarks(texts(&serde_json::from_str(list)?));
                }
            }
            return Ok(encode(Format::Table, schema, &batches)?);
        }
        _ => {}
    }
    Ok(answer.body.to_vec())
}

/// `chronolith sql STATEMENT`
///
/// # Errors
/// What kept the statement from being answered.
pub(super) fn sql(args: &QueryArgs) -> anyhow::Result<u8> {
    let format = format(args)?;
    let runtime = super::serve::runtime()?;
    match &args.url {
        Some(url) => runtime.block_on(sql_remote(args, url, format)),
        None => runtime.block_on(sql_local(args, format)),
    }
}

async fn sql_local(args: &QueryArgs, format: Format) -> anyhow::Result<u8> {
    let engine = SqlEngine::new(store(args)?, SqlEngineOptions::default())?;
    let mut rows = engine.query(&context(args)?, &args.query, &[]).await?;
    let mut encoder = Encoder::new(format, rows.schema())?;
    let mut out = std::io::stdout().lock();
    out.write_all(&encoder.start()?)?;
    while let Some(batch) = rows.next().await {
        out.write_all(&encoder.batch(&batch?)?)?;
    }
    out.write_all(&encoder.finish()?)?;
    if format == Format::Json {
        writeln!(out)?;
    }
    Ok(0)
}

async fn sql_remote(args: &QueryArgs, url: &str, format: Format) -> anyhow::Result<u8> {
    let headers = [
        ("content-type", "application/json"),
        ("accept", asked(format).content_type()),
        (TENANT_HEADER, args.tenant.as_str()),
    ];
    let body = serde_json::json!({ "query": args.query }).to_string();
    let answer = remote::post(url, "/api/v1/sql", &headers, body).await?;
    if answer.status != 200 {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        bail!("{}", body["error"].as_str().unwrap_or("the server refused"));
    }
    let mut out = std::io::stdout().lock();
    if format == Format::Table {
        let (schema, batches) = read_arrow_stream(&answer.body)?;
        out.write_all(&encode(Format::Table, schema, &batches)?)?;
    } else {
        out.write_all(&answer.body)?;
    }
    Ok(0)
}
