//! `GET /federate?match[]=…`: the last sample of each series, for another server to scrape.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Labels, METRIC_NAME, SampleColumns, TimeRange, is_stale};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store};
use http::header;

use super::params::Params;
use super::selectors::required_matcher_sets;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::telemetry::push_escaped;
use crate::wire::number;

/// Answers in the text format, sorted by metric name. Native histograms exist only in the
/// protobuf format and are left out.
pub async fn federate(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = required_matcher_sets(&params)?;
    let timeout = params.timeout(state.settings().query_timeout)?;
    let lookback_ms =
        i64::try_from(state.settings().query_lookback.as_millis()).unwrap_or(i64::MAX);
    let _slot = state.query_slot(timeout).await?;
    let (context, _cancel) = state.context(caller.tenant, caller.principal.as_ref(), timeout);
    let text = state
        .blocking(move |state| {
            let now = now_ms();
            let range = TimeRange::from_millis(now.saturating_sub(lookback_ms) + 1, now);
            let found = last_samples(state.store(), &context, &sets, range)?;
            Ok(to_text(&found))
        })
        .await?;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// A value and its time in milliseconds.
type Last = (f64, i64);

fn last_samples(
    store: &Store,
    context: &RequestContext,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<BTreeMap<(String, Labels), Last>, ApiError> {
    let mut found = BTreeMap::new();
    let mut columns = SampleColumns::default();
    for set in sets {
        let scan = store.scan_metrics(context, &ScanRequest::new(set.clone(), range))?;
        for index in 0..scan.len() {
            context.check()?;
            scan.read(index, range, &mut columns)?;
            let (Some(time), Some(value)) = (columns.timestamps.last(), columns.values.last())
            else {
                continue;
            };
            let newer_histogram = columns.histograms.last().is_some_and(|h| h.time.0 > *time);
            if is_stale(*value) || newer_histogram {
                continue;
            }
            let labels = scan.labels(index);
            let name = labels.metric_name().to_owned();
            let time_ms = time.div_euclid(chronolith_engine::model::NANOS_PER_MILLI);
            found.insert((name, labels), (*value, time_ms));
        }
    }
    Ok(found)
}

fn to_text(found: &BTreeMap<(String, Labels), Last>) -> String {
    let mut out = String::new();
    let mut last_name = None;
    for ((name, labels), (value, time_ms)) in found {
        let plain = is_plain_name(name);
        if last_name != Some(name) {
            out.push_str("# TYPE ");
            if plain {
                out.push_str(name);
            } else {
                push_quoted(&mut out, name);
            }
            out.push_str(" untyped\n");
            last_name = Some(name);
        }
        if plain {
            out.push_str(name);
        }
        push_labels(&mut out, name, plain, labels);
        out.push(' ');
        number::push_float(&mut out, *value);
        out.push_str(&format!(" {time_ms}\n"));
    }
    out
}

/// Names beyond the old rules stand quoted inside the braces.
fn push_labels(out: &mut String, name: &str, plain: bool, labels: &Labels) {
    out.push('{');
    let mut separator = "";
    if !plain {
        push_quoted(out, name);
        separator = ",";
    }
    for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
        out.push_str(separator);
        separator = ",";
        if is_plain_name(label.name) && !label.name.contains(':') {
            out.push_str(label.name);
        } else {
            push_quoted(out, label.name);
        }
        out.push('=');
        push_quoted(out, label.value);
    }
    if labels.get("instance").is_none() {
        // Otherwise the scraping server would add its own.
        out.push_str(separator);
        out.push_str("instance=\"\"");
    }
    out.push('}');
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_become_lines_with_their_times() {
        let up = Labels::from_pairs([("__name__", "up"), ("job", "a\"b")]).unwrap();
        let odd = Labels::from_pairs([("__name__", "my.metric"), ("instance", "i")]).unwrap();
        let found = BTreeMap::from([
            (("up".to_owned(), up), (1.0, 1_500)),
            (("my.metric".to_owned(), odd), (0.5, 2)),
        ]);
        assert_eq!(
            to_text(&found),
            "# TYPE \"my.metric\" untyped\n{\"my.metric\",instance=\"i\"} 0.5 2\n\
             # TYPE up untyped\nup{job=\"a\\\"b\",instance=\"\"} 1 1500\n"
        );
    }
}
