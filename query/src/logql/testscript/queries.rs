//! Lists of queries: `query:` in YAML, with placeholders for a selector and a range. Each must parse,
//! print to a text that parses to the same, and give an answer over lines that have what it asks for.

use std::sync::Arc;

use chronolith_engine::RequestContext;

use super::super::eval::{LogQlEngine, LogQlOptions, MemoryLogs, QueryParams};
use super::super::parser::parse;
use super::super::pretty::pretty;
use super::run::{Outcome, TIME_ZERO_NS};

const MINUTE_NS: i64 = 60_000_000_000;

/// Lines of the kinds that queries ask for: logfmt and JSON with the same fields.
fn logs() -> Result<Arc<MemoryLogs>, String> {
    let logs = MemoryLogs::new();
    for i in 0..120_i64 {
        let level = ["info", "error", "warn", "debug"][(i % 4) as usize];
        let status = if i % 4 == 1 { 500 } else { 200 };
        let fields = [
            ("level", level.to_owned()),
            ("msg", format!("request {i} done")),
            ("duration", format!("{}ms", i + 1)),
            ("duration_seconds", format!("0.{i:03}")),
            ("status", status.to_string()),
            ("rows_affected", i.to_string()),
        ];
        let numbers = [
            ("duration_ms", i),
            ("status_code", status),
            ("size", i * 100),
            ("bytes", i),
        ];
        let mut logfmt = String::new();
        let mut json = String::from("{");
        for (name, value) in &fields {
            logfmt += &format!("{name}={value:?} ");
            json += &format!("{name:?}:{value:?},");
        }
        for (name, value) in numbers {
            logfmt += &format!("{name}={value} ");
            json += &format!("{name:?}:{value},");
        }
        json += "\"nested\":{\"a\":1}}";
        let metadata = [("detected_level", level), ("pod", "p-1"), ("trace_id", "t")];
        for (format, line) in [("logfmt", &logfmt), ("json", &json)] {
            let service = format!("service-{}", i % 3);
            let labels = [
                ("service_name", service.as_str()),
                ("cluster", "c"),
                ("namespace", "n"),
                ("format", format),
            ];
            let time_ns = TIME_ZERO_NS + i * 10_000_000_000;
            logs.push(&labels, time_ns, line, &metadata)
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(Arc::new(logs))
}

/// The queries of a list with their lines.
fn queries(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_start().trim_start_matches("- ");
        let query = line.strip_prefix("query:")?.trim();
        let unquoted = match query.as_bytes().first() {
            Some(b'\'') => query.trim_matches('\'').replace("''", "'"),
            Some(b'"') => serde_json::from_str(query).unwrap_or_else(|_| query.to_owned()),
            _ => query.to_owned(),
        };
        Some((index + 1, unquoted))
    })
}

/// The cases of a list with their lines.
pub(super) fn run(text: &str) -> Vec<(usize, Outcome)> {
    let logs = match logs() {
        Ok(logs) => logs,
        Err(error) => return vec![(0, Err(error))],
    };
    let options = LogQlOptions {
        series_max: usize::MAX,
        ..LogQlOptions::default()
    };
    let engine = LogQlEngine::new(logs, options);
    queries(text)
        .map(|(line, query)| (line, case(&engine, &query)))
        .collect()
}

fn case(engine: &LogQlEngine, query: &str) -> Outcome {
    let format = if query.contains("| json") {
        "json"
    } else {
        "logfmt"
    };
    let query = query
        .replace("${SELECTOR}", &format!("{{format=\"{format}\"}}"))
        .replace("${RANGE}", "5m")
        .replace("${LABEL_NAME}", "service_name")
        .replace("${LABEL_VALUE}", "service-1");
    let parsed = engine.parse(&query).map_err(|e| e.to_string())?;
    let text = parsed.expr().to_string();
    for form in [text.clone(), pretty(parsed.expr())] {
        let again = parse(&form).map_err(|e| format!("{form}: {e}"))?;
        if again.to_string() != text {
            return Err(format!("{form} is not the same as {text}"));
        }
    }
    let end_ns = TIME_ZERO_NS + 20 * MINUTE_NS;
    let params = QueryParams::range(TIME_ZERO_NS, end_ns, MINUTE_NS);
    engine
        .query_blocking(&RequestContext::new(), &parsed, params)
        .map(|_| ())
        .map_err(|e| format!("{query}: {e}"))
}
