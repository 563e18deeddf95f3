//! `traceql`: one question about traces, to a server or to a directory.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::error::ArrowError;
use chronolith_engine::model::{Labels, TimeRange, TimestampNs};
use chronolith_query::promql::result::{FloatPoint, Series, Value as PromqlValue};
use chronolith_query::sql::{Format, encode};
use chronolith_query::traceql;
use chronolith_query::traceql::ast::{Body, Query};
use chronolith_query::traces::metrics::{MetricsRequest, metrics};
use chronolith_query::traces::search::{SearchRequest, search};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::query::{context, format, store};
use super::remote;
use crate::api::loki::times::{duration_ns, parse_time_ns};
use crate::api::tempo::{Shape, metrics_text, search_text};
use crate::cli::TraceqlArgs;
use crate::request::TENANT_HEADER;
use crate::telemetry::now_ms;

/// How far metrics look back unless a range is given: an hour.
const LOOKBACK_NS: i64 = 3_600_000_000_000;

/// `chronolith traceql EXPR`: JSON as Tempo's API has it. In the other formats a search is a table with a
/// row per span that was found, a metrics query one with a column per label, `time` and `value`.
///
/// # Errors
/// What kept the question from being answered.
pub(super) fn traceql(args: &TraceqlArgs) -> anyhow::Result<u8> {
    let format = format(&args.query)?;
    let query = traceql::parse(&args.query.query)?;
    let asked = asked(args, &query)?;
    let text = match &args.query.url {
        Some(url) => remote_answer(args, url, &asked)?,
        None => local_answer(args, &query, &asked)?,
    };
    let mut out = std::io::stdout().lock();
    if format == Format::Json {
        out.write_all(text.as_bytes())?;
        writeln!(out)?;
        return Ok(0);
    }
    let answer: Value = serde_json::from_str(&text).context("the answer is no JSON")?;
    let batch = match &asked {
        Asked::Search(_) => search_table(&answer)?,
        Asked::Metrics(request, _) => metrics_table(&answer, request.end_ns)?,
    };
    out.write_all(&encode(format, batch.schema(), &[batch])?)?;
    Ok(0)
}

/// What a text asks for.
enum Asked {
    Search(SearchRequest),
    Metrics(MetricsRequest, Shape),
}

fn asked(args: &TraceqlArgs, query: &Query) -> anyhow::Result<Asked> {
    let given = &args.query;
    let time = |name: &str, text: &str| {
        parse_time_ns(name, text).map_err(|error| anyhow!("{}", error.message))
    };
    let range = match (&given.start, &given.end) {
        (Some(start), Some(end)) => Some((time("start", start)?, time("end", end)?)),
        _ => None,
    };
    if matches!(query.body, Body::Search(_)) {
        let range = range.map_or(TimeRange::ALL, |(start, end)| TimeRange {
            start: TimestampNs(start),
            end: TimestampNs(end),
        });
        return Ok(Asked::Search(SearchRequest {
            range,
            limit: args.limit,
            spans_per_spanset: args.spans,
        }));
    }
    if let Some((start_ns, end_ns)) = range {
        let step_ns = duration_ns("step", &given.step).map_err(|e| anyhow!("{}", e.message))?;
        let request = MetricsRequest {
            start_ns,
            end_ns,
            step_ns,
            exemplars: 0,
        };
        return Ok(Asked::Metrics(request, Shape::Range));
    }
    let end_ns = match &given.time {
        Some(text) => time("time", text)?,
        None => now_ms().saturating_mul(1_000_000),
    };
    let request = MetricsRequest {
        start_ns: end_ns.saturating_sub(LOOKBACK_NS),
        end_ns,
        step_ns: LOOKBACK_NS,
        exemplars: 0,
    };
    Ok(Asked::Metrics(request, Shape::Instant))
}

fn local_answer(args: &TraceqlArgs, query: &Query, asked: &Asked) -> anyhow::Result<String> {
    let (store, context) = (store(&args.query)?, context(&args.query)?);
    let snapshot = store.pin(&context)?;
    Ok(match asked {
        Asked::Search(request) => search_text(&search(&snapshot, &context, query, request)?),
        Asked::Metrics(request, shape) => {
            let found = metrics(&snapshot, &context, query, request)?;
            metrics_text(&found, *shape, context.usage.samples())
        }
    })
}

fn remote_answer(args: &TraceqlArgs, url: &str, asked: &Asked) -> anyhow::Result<String> {
    let query = utf8_percent_encode(&args.query.query, NON_ALPHANUMERIC);
    let (path, form) = match asked {
        Asked::Search(request) => {
            let mut form = format!(
                "q={query}&limit={}&spss={}",
                request.limit, request.spans_per_spanset
            );
            if request.range != TimeRange::ALL {
                let (start, end) = (request.range.start.0, request.range.end.0);
                form.push_str(&format!("&start={start}&end={end}"));
            }
            ("/tempo/api/search", form)
        }
        Asked::Metrics(request, shape) => {
            let (start, end) = (request.start_ns, request.end_ns);
            let times = format!("q={query}&start={start}&end={end}");
            match shape {
                Shape::Instant => ("/tempo/api/metrics/query", times),
                Shape::Range => {
                    let step = request.step_ns as f64 / 1e9;
                    let form = format!("{times}&step={step}&exemplars=0");
                    ("/tempo/api/metrics/query_range", form)
                }
            }
        }
    };
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        (TENANT_HEADER, args.query.tenant.as_str()),
    ];
    let runtime = super::serve::runtime()?;
    let answer = runtime.block_on(remote::post(url, path, &headers, form))?;
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        bail!("{}", text.trim_end());
    }
    Ok(text.into_owned())
}

/// A whole number that may be text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The value of an attribute as text.
fn any_text(value: &Value) -> String {
    let inner = value.as_object().and_then(|pairs| pairs.values().next());
    match inner {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A row per span that was found.
fn search_table(answer: &Value) -> Result<RecordBatch, ArrowError> {
    const TEXTS: [&str; 6] = [
        "trace_id",
        "root_service",
        "root_name",
        "span_id",
        "name",
        "attributes",
    ];
    let mut texts: [Vec<String>; TEXTS.len()] = Default::default();
    let (mut starts, mut durations_ms) = (Vec::new(), Vec::new());
    for trace in list(&answer["traces"]) {
        let of_trace = |key: &str| trace[key].as_str().unwrap_or("").to_owned();
        let sets = list(&trace["spanSets"]).iter();
        for span in sets.flat_map(|set| list(&set["spans"])) {
            let attributes = list(&span["attributes"]).iter();
            let attributes: Vec<String> = attributes
                .map(|pair| {
                    let key = pair["key"].as_str().unwrap_or("");
                    format!("{key}={}", any_text(&pair["value"]))
                })
                .collect();
            let of_span = |key: &str| span[key].as_str().unwrap_or("").to_owned();
            let row = [
                of_trace("traceID"),
                of_trace("rootServiceName"),
                of_trace("rootTraceName"),
                of_span("spanID"),
                of_span("name"),
                attributes.join(" "),
            ];
            for (column, text) in texts.iter_mut().zip(row) {
                column.push(text);
            }
            starts.push(number(&span["startTimeUnixNano"]));
            let ns = number(&span["durationNanos"]);
            durations_ms.push(ns.map(|ns| ns as f64 / 1e6));
        }
    }
    let mut columns: Vec<(&str, ArrayRef)> = TEXTS
        .into_iter()
        .zip(texts)
        .map(|(name, texts)| (name, Arc::new(StringArray::from(texts)) as ArrayRef))
        .collect();
    let starts = TimestampNanosecondArray::from(starts).with_timezone("UTC");
    columns.insert(3, ("time", Arc::new(starts)));
    columns.insert(
        6,
        ("duration_ms", Arc::new(Float64Array::from(durations_ms))),
    );
    RecordBatch::try_from_iter(columns)
}

/// A row per series and step; of an instant answer one at `end_ns`.
fn metrics_table(answer: &Value, end_ns: i64) -> anyhow::Result<RecordBatch> {
    let mut matrix = Vec::new();
    for series in list(&answer["series"]) {
        let labels = list(&series["labels"]).iter();
        let labels = labels.map(|pair| {
            let key = pair["key"].as_str().unwrap_or("");
            (key, any_text(&pair["value"]))
        });
        let floats = match &series["samples"] {
            Value::Array(samples) => samples
                .iter()
                .filter_map(|sample| {
                    Some(FloatPoint {
                        time_ms: number(&sample["timestampMs"])?,
                        value: sample["value"].as_f64()?,
                    })
                })
                .collect(),
            _ => vec![FloatPoint {
                time_ms: end_ns / 1_000_000,
                value: series["value"].as_f64().unwrap_or(0.0),
            }],
        };
        matrix.push(Series {
            labels: Labels::from_pairs(labels)?,
            floats,
            histograms: Vec::new(),
        });
    }
    Ok(PromqlValue::Matrix(matrix).to_batch()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_become_tables() {
        let span = json!({"spanID": "2", "name": "charge", "startTimeUnixNano": "1700000000000000001", "durationNanos": "1500000",
            "attributes": [{"key": "http.status", "value": {"intValue": "500"}}, {"key": "ok", "value": {"boolValue": true}}]});
        let answer = json!({"traces": [{"traceID": "1f", "rootServiceName": "shop", "rootTraceName": "GET /",
            "spanSets": [{"spans": [span, {}], "matched": 2}]}]});
        let table = search_table(&answer).unwrap();
        assert_eq!((table.num_rows(), table.num_columns()), (2, 8));
        let names: Vec<_> = table
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let expected = [
            "trace_id",
            "root_service",
            "root_name",
            "time",
            "span_id",
            "name",
            "duration_ms",
            "attributes",
        ];
        assert_eq!(names, expected);
        assert_eq!(search_table(&json!({})).unwrap().num_rows(), 0);

        let label = json!([{"key": "name", "value": {"stringValue": "a"}}]);
        let range = json!({"series": [{"labels": label, "samples": [{"timestampMs": "1", "value": 2}, {"timestampMs": "2", "value": 3.5}]}]});
        assert_eq!(metrics_table(&range, 0).unwrap().num_rows(), 2);
        let instant = json!({"series": [{"labels": label, "value": 7}]});
        assert_eq!(metrics_table(&instant, 0).unwrap().num_columns(), 3);
    }
}
