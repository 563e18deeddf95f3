//! `promql` and `sql`: one question, to a server or to a directory.

use std::io::Write as _;

use anyhow::{Context as _, anyhow, bail};
use chronolith_engine::{RequestContext, Store, StoreOptions, TenantId};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};
use chronolith_query::sql::{Encoder, Format, SqlEngine, SqlEngineOptions};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::remote;
use super::table::Table;
use crate::api::params::{parse_duration_ms, parse_time_ms};
use crate::api::query::{QueryTime, answer_text};
use crate::cli::QueryArgs;
use crate::request::TENANT_HEADER;

fn store(args: &QueryArgs) -> anyhow::Result<Store> {
    let dir = &args.data_dir;
    Store::open_read_only(dir, StoreOptions::default())
        .with_context(|| format!("cannot read the store in {}", dir.display()))
}

fn context(args: &QueryArgs) -> anyhow::Result<RequestContext> {
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

/// `chronolith promql EXPR`
///
/// # Errors
/// What kept the question from being answered.
pub(super) fn promql(args: &QueryArgs) -> anyhow::Result<u8> {
    let time = time(args)?;
    let answer = match &args.url {
        Some(url) => promql_remote(args, url, time)?,
        None => promql_local(args, time)?,
    };
    let mut out = std::io::stdout().lock();
    match args.format.as_str() {
        "json" => writeln!(out, "{answer}")?,
        "csv" => out.write_all(rows(&answer)?.to_csv().as_bytes())?,
        "table" => out.write_all(rows(&answer)?.to_text().as_bytes())?,
        "arrow" | "parquet" => bail!(
            "--format {}: for PromQL only table, json and csv are built yet",
            args.format
        ),
        other => bail!("--format {other}: expected table, json or csv"),
    }
    for kind in ["warnings", "infos"] {
        for remark in answer[kind].as_array().into_iter().flatten() {
            eprintln!("{}", remark.as_str().unwrap_or_default());
        }
    }
    Ok(0)
}

fn promql_local(args: &QueryArgs, time: QueryTime) -> anyhow::Result<Value> {
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
    Ok(serde_json::from_str(&answer_text(
        result,
        &args.query,
        time,
    ))?)
}

fn promql_remote(args: &QueryArgs, url: &str, time: QueryTime) -> anyhow::Result<Value> {
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
        (TENANT_HEADER, args.tenant.as_str()),
    ];
    let runtime = super::serve::runtime()?;
    let answer = runtime.block_on(remote::post(url, path, &headers, form))?;
    let body: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} answered {} without JSON", answer.status))?;
    if answer.status != 200 {
        bail!("{}", body["error"].as_str().unwrap_or("the server refused"));
    }
    Ok(body)
}

/// An answer of the Prometheus API as rows: labels, time, value.
fn rows(answer: &Value) -> anyhow::Result<Table> {
    let data = &answer["data"];
    let result = &data["result"];
    let mut table = Table::new(&["metric", "time", "value"]);
    let mut add = |metric: &str, point: &Value| {
        let value = match &point[1] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.push(vec![metric.to_owned(), point[0].to_string(), value]);
    };
    match data["resultType"].as_str() {
        Some("scalar" | "string") => add("", result),
        Some("vector" | "matrix") => {
            for series in result.as_array().into_iter().flatten() {
                let metric = metric_text(&series["metric"]);
                for single in ["value", "histogram"] {
                    if !series[single].is_null() {
                        add(&metric, &series[single]);
                    }
                }
                for many in ["values", "histograms"] {
                    for point in series[many].as_array().into_iter().flatten() {
                        add(&metric, point);
                    }
                }
            }
        }
        _ => return Err(anyhow!("unknown type of answer: {}", data["resultType"])),
    }
    Ok(table)
}

/// `name{label="value"}`
fn metric_text(metric: &Value) -> String {
    let labels = metric.as_object().into_iter().flatten();
    let shown: Vec<String> = labels
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let name = metric["__name__"].as_str().unwrap_or_default();
    if shown.is_empty() && !name.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", shown.join(", "))
}

/// `chronolith sql STATEMENT`
///
/// # Errors
/// What kept the statement from being answered.
pub(super) fn sql(args: &QueryArgs) -> anyhow::Result<u8> {
    let format = match args.format.as_str() {
        "table" => Format::Table,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "arrow" => Format::ArrowStream,
        "parquet" => Format::Parquet,
        other => bail!("--format {other}: expected table, json, csv, arrow or parquet"),
    };
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
    // The table for people is drawn here; the server has no such format.
    let asked = match format {
        Format::Table => Format::Json,
        other => other,
    };
    let headers = [
        ("content-type", "application/json"),
        ("accept", asked.content_type()),
        (TENANT_HEADER, args.tenant.as_str()),
    ];
    let body = serde_json::json!({ "query": args.query }).to_string();
    let answer = remote::post(url, "/api/v1/sql", &headers, body).await?;
    if answer.status != 200 {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        bail!("{}", body["error"].as_str().unwrap_or("the server refused"));
    }
    let mut out = std::io::stdout().lock();
    if format != Format::Table {
        out.write_all(&answer.body)?;
        return Ok(0);
    }
    let body: Value = serde_json::from_slice(&answer.body)?;
    let columns: Vec<&str> = body["columns"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    let mut table = Table::new(&columns);
    for row in body["rows"].as_array().into_iter().flatten() {
        let cells = row.as_array().into_iter().flatten();
        let cells = cells.map(|cell| match cell {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        table.push(cells.collect());
    }
    out.write_all(table.to_text().as_bytes())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_rows() {
        let answer = serde_json::json!({"data": {"resultType": "matrix", "result": [
            {"metric": {"__name__": "up", "job": "x"}, "values": [[1.5, "1"], [2, "0"]]},
        ]}});
        assert_eq!(
            rows(&answer).unwrap().to_csv(),
            "metric,time,value\n\"up{job=\"\"x\"\"}\",1.5,1\n\"up{job=\"\"x\"\"}\",2,0\n"
        );
        let scalar = serde_json::json!({"data": {"resultType": "scalar", "result": [0, "3"]}});
        assert_eq!(
            rows(&scalar).unwrap().to_text(),
            "metric  time  value\n        0     3\n"
        );
    }
}
