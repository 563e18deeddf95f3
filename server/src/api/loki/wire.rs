//! Answers as text.

use std::fmt::Write as _;

use chronolith_query::logql::eval::{Point, QueryResult, QueryValue, Series, StreamResult};

use super::older;
use crate::tails::Dropped;
use crate::wire::json::{push_array, push_labels, push_string};
use crate::wire::number;

/// In which shape lines are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All labels together.
    Plain,
    /// Labels by where they come from.
    Categorized,
    /// As under `/api/prom`.
    Older,
}

/// A frame of a tail.
pub(super) fn frame(streams: &[StreamResult], dropped: &[Dropped], shape: Shape) -> String {
    let mut out = String::from("{\"streams\":");
    push_array(&mut out, streams, |out, stream| match shape {
        Shape::Older => older::push_stream(out, stream),
        shape => push_stream(out, stream, shape == Shape::Categorized),
    });
    if shape == Shape::Categorized {
        out.push_str(",\"encodingFlags\":[\"categorize-labels\"]");
    }
    out.push_str(",\"dropped_entries\":");
    push_array(&mut out, dropped, |out, dropped| {
        let labels = &dropped.stream.labels;
        out.push_str("{\"labels\":");
        match shape {
            Shape::Older => {
                let pairs = labels.iter().map(|label| (label.name, label.value));
                push_string(out, &older::selector(pairs));
            }
            _ => push_labels(out, labels),
        }
        let _ = write!(out, ",\"timestamp\":\"{}\"}}", dropped.time_ns);
    });
    out.push('}');
    out
}

/// The whole answer of a query. `categorized`: labels of lines by where they came from, as Grafana asks
/// for by a header.
pub(super) fn answer(result: &QueryResult, categorized: bool) -> String {
    let mut out = String::with_capacity(1 << 12);
    let kind = result.value.type_name();
    let _ = write!(
        out,
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\","
    );
    if categorized {
        out.push_str("\"encodingFlags\":[\"categorize-labels\"],");
    }
    out.push_str("\"result\":");
    match &result.value {
        QueryValue::Streams(streams) => {
            push_array(&mut out, streams, |out, stream| {
                push_stream(out, stream, categorized)
            });
        }
        QueryValue::Vector(series) => push_array(&mut out, series, |out, series| {
            push_metric(out, series);
            out.push_str(",\"value\":");
            if let Some(point) = series.points.first() {
                push_point(out, point);
            }
            out.push('}');
        }),
        QueryValue::Matrix(series) => push_array(&mut out, series, |out, series| {
            push_metric(out, series);
            out.push_str(",\"values\":");
            push_array(out, &series.points, push_point);
            out.push('}');
        }),
        QueryValue::Scalar(point) => push_point(&mut out, point),
    }
    push_stats(&mut out, result);
    out.push_str("}}");
    out
}

pub(super) fn push_pairs<'a>(
    out: &mut String,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    out.push('{');
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

fn push_stream(out: &mut String, stream: &StreamResult, categorized: bool) {
    out.push_str("{\"stream\":");
    let mut more = String::new();
    if categorized {
        push_pairs(
            out,
            stream.stream.iter().map(|(n, v)| (n.as_str(), v.as_str())),
        );
        more.push_str(",{");
        for (name, pairs) in [
            ("structuredMetadata", &stream.metadata),
            ("parsed", &stream.parsed),
        ] {
            if !pairs.is_empty() {
                if more.len() > 2 {
                    more.push(',');
                }
                let _ = write!(more, "\"{name}\":");
                push_pairs(
                    &mut more,
                    pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())),
                );
            }
        }
        more.push('}');
    } else {
        push_pairs(out, stream.labels());
    }
    out.push_str(",\"values\":");
    push_array(out, &stream.entries, |out, entry| {
        let _ = write!(out, "[\"{}\",", entry.time_ns);
        push_string(out, &entry.line);
        out.push_str(&more);
        out.push(']');
    });
    out.push('}');
}

fn push_metric(out: &mut String, series: &Series) {
    out.push_str("{\"metric\":");
    push_pairs(
        out,
        series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())),
    );
}

fn push_point(out: &mut String, point: &Point) {
    out.push('[');
    number::push_timestamp(out, point.time_ms);
    out.push_str(",\"");
    number::push_float(out, point.value);
    out.push_str("\"]");
}

fn push_stats(out: &mut String, result: &QueryResult) {
    let stats = &result.stats;
    let (execution, queued) = (stats.execution.as_secs_f64(), stats.queued.as_secs_f64());
    let per_second = |count: u64| match execution > 0.0 {
        true => (count as f64 / execution) as u64,
        false => 0,
    };
    let _ = write!(
        out,
        ",\"stats\":{{\"summary\":{{\"bytesProcessedPerSecond\":{},\"linesProcessedPerSecond\":{},\"totalBytesProcessed\":{},\
         \"totalLinesProcessed\":{},\"execTime\":{execution},\"queueTime\":{queued},\"subqueries\":0,\"totalEntriesReturned\":{},\
         \"splits\":0,\"shards\":0,\"totalPostFilterLines\":{}}},\"querier\":{{}},\"ingester\":{{}},\"cache\":{{}}}}",
        per_second(stats.line_bytes),
        per_second(stats.rows),
        stats.line_bytes,
        stats.rows,
        stats.passed,
        stats.passed,
    );
}
