//! `GET /federate?match[]=…`: the last sample of each series, for another server to scrape.
//!
//! Sorted by metric name; in the text format or, by `Accept`, in protobuf, the only one that has room
//! for native histograms. Each series bears the external labels of this server that it lacks, and
//! `instance=""` where it has no instance, so that whoever scrapes does not add its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{
    Histogram, Labels, METRIC_NAME, SampleColumns, TimeRange, is_stale,
};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store};
use http::{HeaderMap, header};

use super::params::Params;
use super::selectors::required_matcher_sets;
use crate::active::ActiveQuery;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::telemetry::push_escaped;
use crate::wire::exposition_format::{Escaping, ExpositionFormat, is_plain};
use crate::wire::metric_family::{Content, Family, Kind, Metric};
use crate::wire::number;

/// Answers with the last samples.
pub async fn federate(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = required_matcher_sets(&params)?;
    let format = ExpositionFormat::negotiate(&headers);
    let timeout = params.timeout(state.settings().query_timeout)?;
    let lookback_ms =
        i64::try_from(state.settings().query_lookback.as_millis()).unwrap_or(i64::MAX);
    let asked = params.shown_after("federate");
    let (mut query, context) =
        ActiveQuery::begin(&state, &caller, ("federate", &asked), timeout).await?;
    let body = state
        .blocking(move |state| {
            let now = now_ms();
            let range = TimeRange::from_millis(now.saturating_sub(lookback_ms) + 1, now);
            let reading = Reading {
                series_max: state.settings().query_samples_max,
                external: state.scraper().external_labels(),
            };
            let found = reading.last_samples(state.store(), &context, &sets, range)?;
            Ok(match format.protobuf {
                true => to_protobuf(&found, format.escaping),
                false => to_text(&found, format.escaping).into_bytes(),
            })
        })
        .await;
    let body = body.inspect_err(|error| query.fail(&error.message))?;
    let headers = [(header::CONTENT_TYPE, format.content_type())];
    Ok((headers, query.whole(body)).into_response())
}

/// The last sample of a series.
#[derive(Clone, Debug, PartialEq)]
struct Last {
    value: LastValue,
    time_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
enum LastValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Last {
    fn kind(&self) -> Kind {
        match &self.value {
            LastValue::Float(_) => Kind::Untyped,
            LastValue::Histogram(histogram) => Kind::of_histogram(histogram),
        }
    }
}

/// Samples by name and labels.
type Found = BTreeMap<(String, Labels), Last>;

struct Reading {
    series_max: u64,
    external: Vec<(String, String)>,
}

impl Reading {
    fn last_samples(
        &self,
        store: &Store,
        context: &RequestContext,
        sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Found, ApiError> {
        let mut found = BTreeMap::new();
        let mut columns = SampleColumns::default();
        for set in sets {
            let scan = store.scan_metrics(context, &ScanRequest::new(set.clone(), range))?;
            for index in 0..scan.len() {
                context.check()?;
                scan.read(index, range, &mut columns)?;
                let Some(last) = last_of(&columns) else {
                    continue;
                };
                let labels = self.named(&scan.labels(index))?;
                let name = labels.metric_name().to_owned();
                found.insert((name, labels), last);
                if found.len() as u64 > self.series_max {
                    let message = format!("more than {} series match", self.series_max);
                    return Err(ApiError::new(ErrorType::Execution, message));
                }
            }
        }
        Ok(found)
    }

    /// A series with the external labels that it lacks.
    fn named(&self, labels: &Labels) -> Result<Labels, ApiError> {
        if self
            .external
            .iter()
            .all(|(name, _)| labels.get(name).is_some())
        {
            return Ok(labels.clone());
        }
        let mut builder = labels.to_builder();
        for (name, value) in &self.external {
            if labels.get(name).is_none() {
                builder.set(name, value);
            }
        }
        builder
            .finish()
            .map_err(|e| ApiError::internal(format!("external labels: {e}")))
    }
}

/// The newest sample of a series, if the series has not ended.
fn last_of(columns: &SampleColumns) -> Option<Last> {
    let float = columns.timestamps.last().zip(columns.values.last());
    let histogram = columns.histograms.last();
    let float_is_newest = match (float, histogram) {
        (Some((time, _)), Some(histogram)) => *time >= histogram.time.0,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let to_ms = |time: i64| time.div_euclid(chronolith_engine::model::NANOS_PER_MILLI);
    if float_is_newest {
        let (time, value) = float?;
        return (!is_stale(*value)).then(|| Last {
            value: LastValue::Float(*value),
            time_ms: to_ms(*time),
        });
    }
    let sample = histogram.filter(|sample| !sample.histogram.is_stale())?;
    Some(Last {
        value: LastValue::Histogram(Arc::clone(&sample.histogram)),
        time_ms: to_ms(sample.time.0),
    })
}

/// A family per name and kind.
fn to_protobuf(found: &Found, escaping: Escaping) -> Vec<u8> {
    let mut out = Vec::new();
    let mut family: Option<Family<'_>> = None;
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by(|((a, _), x), ((b, _), y)| (a, x.kind()).cmp(&(b, y.kind())));
    for ((name, labels), last) in sorted {
        let name = escaping.apply(name);
        let continues = |f: &Family<'_>| f.name == name && f.kind == last.kind();
        if !family.as_ref().is_some_and(continues) {
            if let Some(done) = &family {
                done.push_delimited(&mut out);
            }
            family = Some(Family {
                name,
                help: "",
                kind: last.kind(),
                metrics: Vec::new(),
            });
        }
        let mut pairs: Vec<(Cow<'_, str>, &str)> = labels
            .iter()
            .filter(|label| label.name != METRIC_NAME)
            .map(|label| (escaping.apply(label.name), label.value))
            .collect();
        if labels.get("instance").is_none() {
            pairs.push(("instance".into(), ""));
        }
        let content = match &last.value {
            LastValue::Float(value) => Content::Number(*value),
            LastValue::Histogram(histogram) => Content::Native(histogram),
        };
        if let Some(family) = &mut family {
            family.metrics.push(Metric {
                labels: pairs,
                content,
                time_ms: Some(last.time_ms),
            });
        }
    }
    if let Some(last) = &family {
        last.push_delimited(&mut out);
    }
    out
}

fn to_text(found: &Found, escaping: Escaping) -> String {
    let mut out = String::new();
    let mut last_name = None;
    for ((original, labels), last) in found {
        let LastValue::Float(value) = &last.value else {
            continue;
        };
        let name = &*escaping.apply(original);
        let plain = is_plain(name);
        if last_name != Some(original) {
            out.push_str("# TYPE ");
            if plain {
                out.push_str(name);
            } else {
                push_quoted(&mut out, name);
            }
            out.push_str(" untyped\n");
            last_name = Some(original);
        }
        if plain {
            out.push_str(name);
        }
        push_labels(&mut out, (!plain).then_some(name), labels, escaping);
        out.push(' ');
        number::push_float(&mut out, *value);
        out.push_str(&format!(" {}\n", last.time_ms));
    }
    out
}

/// Names beyond the old rules stand quoted inside the braces, that of the metric too.
fn push_labels(out: &mut String, metric: Option<&str>, labels: &Labels, escaping: Escaping) {
    out.push('{');
    let mut separator = "";
    if let Some(metric) = metric {
        push_quoted(out, metric);
        separator = ",";
    }
    for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
        out.push_str(separator);
        separator = ",";
        let name = escaping.apply(label.name);
        if is_plain(&name) && !name.contains(':') {
            out.push_str(&name);
        } else {
            push_quoted(out, &name);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64, time_ms: i64) -> Last {
        Last {
            value: LastValue::Float(value),
            time_ms,
        }
    }

    #[test]
    fn series_become_lines_with_their_times() {
        let up = Labels::from_pairs([("__name__", "up"), ("job", "a\"b")]).unwrap();
        let odd = Labels::from_pairs([("__name__", "my.metric"), ("instance", "i")]).unwrap();
        let histogram = Labels::from_pairs([("__name__", "native")]).unwrap();
        let native = Last {
            value: LastValue::Histogram(Arc::default()),
            time_ms: 3,
        };
        let found = BTreeMap::from([
            (("up".to_owned(), up), float(1.0, 1_500)),
            (("my.metric".to_owned(), odd), float(0.5, 2)),
            (("native".to_owned(), histogram), native),
        ]);
        assert_eq!(
            to_text(&found, Escaping::AllowUtf8),
            "# TYPE \"my.metric\" untyped\n{\"my.metric\",instance=\"i\"} 0.5 2\n\
             # TYPE up untyped\nup{job=\"a\\\"b\",instance=\"\"} 1 1500\n"
        );
        // Three families, each with its length in front.
        let text = to_text(&found, Escaping::Underscores);
        assert!(
            text.contains("\nmy_metric{instance=\"i\"} 0.5 2\n"),
            "{text}"
        );
        let protobuf = to_protobuf(&found, Escaping::AllowUtf8);
        let mut rest = protobuf.as_slice();
        let mut families = 0;
        while let Some((length, after)) = rest.split_first() {
            rest = &after[usize::from(*length)..];
            families += 1;
        }
        assert_eq!(families, 3);
    }

    #[test]
    fn external_labels_are_added_where_they_lack() {
        let reading = Reading {
            series_max: 1,
            external: vec![
                ("cluster".to_owned(), "x".to_owned()),
                ("job".to_owned(), "y".to_owned()),
            ],
        };
        let up = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
        let named = reading.named(&up).unwrap();
        assert_eq!(
            (named.get("cluster"), named.get("job")),
            (Some("x"), Some("a"))
        );
    }
}
