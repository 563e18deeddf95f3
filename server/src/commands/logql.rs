//! `logql`: one question about logs, to a server or to a directory.

use anyhow::{Context as _, anyhow, bail};
use chronolith_query::logql::eval::{
    Direction, LogQlEngine, LogQlOptions, Point, QueryParams, QueryValue, Series, StoreLogs,
    StreamEntry, StreamResult,
};
use chronolith_query::sql::{Format, encode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use std::io::Write as _;
use std::sync::Arc;

use super::query::{context, format, store};
use super::remote;
use crate::api::loki::answer_text;
use crate::api::loki::times::{duration_ns, parse_time_ns};
use crate::cli::LogqlArgs;
use crate::error::ApiError;
use crate::request::TENANT_HEADER;
use crate::telemetry::now_ms;

/// `chronolith logql EXPR`: JSON as Loki's API has it; in the other formats a table with one column a
/// label, `time` and `line` or `value`.
///
/// # Errors
/// What kept the question from being answered.
pub(super) fn logql(args: &LogqlArgs) -> anyhow::Result<u8> {
    let (params, format) = (params(args)?, format(&args.query)?);
    let answer = match &args.query.url {
        Some(url) => remote_answer(args, url, params, format)?,
        None => local_answer(args, params, format)?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&answer)?;
    if format == Format::Json {
        writeln!(out)?;
    }
    Ok(0)
}

fn plain(error: ApiError) -> anyhow::Error {
    anyhow!("{}", error.message)
}

fn params(args: &LogqlArgs) -> anyhow::Result<QueryParams> {
    let query = &args.query;
    let time = |name: &str, text: &str| parse_time_ns(name, text).map_err(plain);
    let params = match (&query.start, &query.end) {
        (Some(start), Some(end)) => {
            let step = duration_ns("step", &query.step).map_err(plain)?;
            QueryParams::range(time("start", start)?, time("end", end)?, step)
        }
        _ => QueryParams::instant(match &query.time {
            Some(text) => time("time", text)?,
            None => now_ms().saturating_mul(1_000_000),
        }),
    };
    let direction = match args.forward {
        true => Direction::Forward,
        false => Direction::Backward,
    };
    Ok(QueryParams {
        limit: args.limit,
        direction,
        ..params
    })
}

fn local_answer(args: &LogqlArgs, params: QueryParams, format: Format) -> anyhow::Result<Vec<u8>> {
    let source = Arc::new(StoreLogs::new(store(&args.query)?));
    let options = LogQlOptions::default();
    let options = LogQlOptions {
        lines_max: options.lines_max.max(params.limit),
        ..options
    };
    let engine = LogQlEngine::new(source, options);
    let query = engine.parse(&args.query.query)?;
    let result = engine.query_blocking(&context(&args.query)?, &query, params)?;
    match format {
        Format::Json => Ok(answer_text(&result).into_bytes()),
        other => table(&result.value, other),
    }
}

fn table(value: &QueryValue, format: Format) -> anyhow::Result<Vec<u8>> {
    let batch = value.to_batch()?;
    Ok(encode(format, batch.schema(), &[batch])?)
}

fn remote_answer(
    args: &LogqlArgs,
    url: &str,
    params: QueryParams,
    format: Format,
) -> anyhow::Result<Vec<u8>> {
    let query = utf8_percent_encode(&args.query.query, NON_ALPHANUMERIC);
    let direction = match params.direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    };
    let shared = format!("query={query}&limit={}&direction={direction}", params.limit);
    let (path, form) = match params.step_ns {
        None => (
            "/loki/api/v1/query",
            format!("{shared}&time={}", params.end_ns),
        ),
        Some(step_ns) => (
            "/loki/api/v1/query_range",
            format!(
                "{shared}&start={}&end={}&step={}",
                params.start_ns,
                params.end_ns,
                step_ns as f64 / 1e9
            ),
        ),
    };
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        (TENANT_HEADER, args.query.tenant.as_str()),
    ];
    let runtime = super::serve::runtime()?;
    let answer = runtime.block_on(remote::post(url, path, &headers, form))?;
    if answer.status != 200 {
        bail!("{}", String::from_utf8_lossy(&answer.body).trim_end());
    }
    if format == Format::Json {
        return Ok(answer.body.to_vec());
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} answered without JSON"))?;
    let value = read_answer(&body["data"]).ok_or_else(|| anyhow!("{url} answered no result"))?;
    table(&value, format)
}

/// The answer of Loki's API as the engine has it; labels are all in one set.
fn read_answer(data: &Value) -> Option<QueryValue> {
    let result = &data["result"];
    let pairs = |value: &Value| -> Option<Vec<(String, String)>> {
        let pair =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        value.as_object()?.iter().map(pair).collect()
    };
    let point = |value: &Value| {
        Some(Point {
            time_ms: (value[0].as_f64()? * 1e3).round() as i64,
            value: value[1].as_str()?.parse().ok()?,
        })
    };
    let series = |points: &dyn Fn(&Value) -> Option<Vec<Point>>| -> Option<Vec<Series>> {
        let one = |value: &Value| {
            Some(Series {
                labels: pairs(&value["metric"])?,
                points: points(value)?,
            })
        };
        result.as_array()?.iter().map(one).collect()
    };
    Some(match data["resultType"].as_str()? {
        "streams" => {
            let entry = |value: &Value| {
                Some(StreamEntry {
                    time_ns: value[0].as_str()?.parse().ok()?,
                    line: value[1].as_str()?.to_owned(),
                })
            };
            let stream = |value: &Value| {
                Some(StreamResult {
                    stream: pairs(&value["stream"])?,
                    entries: value["values"]
                        .as_array()?
                        .iter()
                        .map(entry)
                        .collect::<Option<_>>()?,
                    ..StreamResult::default()
                })
            };
            QueryValue::Streams(
                result
                    .as_array()?
                    .iter()
                    .map(stream)
                    .collect::<Option<_>>()?,
            )
        }
        "vector" => QueryValue::Vector(series(&|value| Some(vec![point(&value["value"])?]))?),
        "matrix" => QueryValue::Matrix(series(&|value| {
            value["values"].as_array()?.iter().map(point).collect()
        })?),
        "scalar" => QueryValue::Scalar(point(result)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_a_server_become_tables() {
        let streams = json!({"resultType": "streams", "result": [
            {"stream": {"app": "a"}, "values": [["1700000000000000001", "x"], ["2", "y"]]}]});
        let Some(QueryValue::Streams(found)) = read_answer(&streams) else {
            panic!("expected streams");
        };
        assert_eq!(found[0].entries[0].time_ns, 1_700_000_000_000_000_001);
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1.5, "2"], [2.5, "NaN"]]}]});
        let Some(QueryValue::Matrix(found)) = read_answer(&matrix) else {
            panic!("expected a matrix");
        };
        assert_eq!(
            (found[0].points[0].time_ms, found[0].points.len()),
            (1500, 2)
        );
        let scalar = json!({"resultType": "scalar", "result": [1, "+Inf"]});
        assert!(matches!(read_answer(&scalar), Some(QueryValue::Scalar(_))));
        for bad in [
            json!({}),
            json!({"resultType": "vector", "result": [{"metric": {}}]}),
            json!({"resultType": "streams", "result": [{"stream": {}, "values": [[1, "x"]]}]}),
        ] {
            assert!(read_answer(&bad).is_none(), "{bad}");
        }
    }
}
