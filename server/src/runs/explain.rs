//! One run in full: its stages against what is usual, what it waited for, what went wrong first, and
//! where to read on.

use std::collections::HashMap;

use chronolith_engine::model::TraceId;
use chronolith_engine::{EngineError, RequestContext, Snapshot};
use chronolith_query::runs::{PipelineHistory, Run, RunNames, RunState};
use chronolith_query::traces::TracesError;
use chronolith_query::traces::critical_path::critical_path;
use chronolith_query::traces::fields::{Needs, service};
use chronolith_query::traces::load::{LoadedTrace, LoadedTraces, load};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::shown::{Summary, ms, rounded, time};
use crate::rows::ids::to_hex;
use crate::rows::labels::label_name;

/// Pieces of the critical path that are shown.
const PATH_PIECES_MAX: usize = 1_000;
/// Stages among the slowest.
const SLOWEST_MAX: usize = 5;
/// How many times the usual is slow.
const SLOW_TIMES: f64 = 2.0;
/// Added to a run's times when something else is looked for in them.
const MARGIN_NS: i64 = 60_000_000_000;
/// Links to other traces that are shown.
const LINKED_MAX: usize = 100;

/// All that is known of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    #[serde(flatten)]
    summary: Summary,
    /// What is usual for the pipeline.
    usual: Option<UsualRun>,
    /// Whether it took twice what is usual.
    slow: bool,
    stages: Vec<StageShown>,
    slowest_stages: Vec<SlowStage>,
    critical_path: Vec<Piece>,
    first_error: Option<FirstError>,
    spans: Option<SpanCounts>,
    links: Links,
    /// In words.
    explained: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct UsualRun {
    runs: usize,
    median_ms: f64,
    p95_ms: f64,
    /// Duration of this run over the median.
    times: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct StageShown {
    name: String,
    state: &'static str,
    started: Option<String>,
    ended: Option<String>,
    duration_ms: Option<f64>,
    usual_ms: Option<f64>,
    /// Whether it took twice what is usual.
    slow: bool,
    span_id: Option<String>,
    error: Option<String>,
    /// Spans below that of the stage, its own included.
    spans: usize,
    failed_spans: usize,
}

#[derive(Clone, Debug, Serialize)]
struct SlowStage {
    name: String,
    duration_ms: f64,
    /// Of the time of all stages.
    share: f64,
    usual_ms: Option<f64>,
    times: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Piece {
    span_id: String,
    name: String,
    service: Option<String>,
    stage: Option<String>,
    started: String,
    duration_ms: f64,
    share: f64,
}

#[derive(Clone, Debug, Serialize)]
struct FirstError {
    time: String,
    message: String,
    stage: Option<String>,
    span_id: Option<String>,
    span: Option<String>,
    service: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct SpanCounts {
    spans: usize,
    failed: usize,
    services: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Links {
    #[serde(rename = "self")]
    run: String,
    live: String,
    runs_of_pipeline: Option<String>,
    trace: Option<String>,
    jaeger: Option<String>,
    logs: String,
    logs_of_trace: Option<String>,
    metrics: Option<String>,
    /// Traces that spans of this one link to.
    traces: Vec<String>,
}

/// What the spans of a run's trace say.
#[derive(Default)]
struct Spans {
    path: Vec<Piece>,
    counts: Option<SpanCounts>,
    /// By stage: spans and failed spans.
    of_stages: HashMap<String, (usize, usize)>,
    /// Of the failed span that ended first: time, words, name, id, service, stage.
    first_failed: Option<(i64, FirstError)>,
    linked: Vec<String>,
}

/// Puts all of it together.
///
/// # Errors
/// What the store says; the context's deadline.
pub fn explain(
    snapshot: &Snapshot,
    context: &RequestContext,
    names: &RunNames,
    summary: Summary,
    run: &Run,
    history: Option<&PipelineHistory>,
) -> Result<Detail, EngineError> {
    let mut spans = Spans::default();
    if run.trace_id != [0; 16] {
        let mut needs = Needs::default();
        needs.columns.status = true;
        needs.columns.details = true;
        needs.columns.links = true;
        match load(snapshot, context, &[TraceId(run.trace_id)], &needs) {
            Ok(loaded) => spans = spans_of(&loaded, run),
            Err(TracesError::Store(error)) => return Err(error),
            // A trace too large to be drawn: the run is shown without it.
            Err(error) => tracing::warn!(run = run.run_id, %error, "trace of a run is not shown"),
        }
    }
    let stages = stages(run, history, &spans);
    let slowest_stages = slowest(run, history);
    let usual = usual(run, history);
    let slow = usual
        .as_ref()
        .and_then(|usual| usual.times)
        .is_some_and(|times| times >= SLOW_TIMES);
    let first_error = first_error(run, &mut spans);
    let mut detail = Detail {
        links: links(run, names, std::mem::take(&mut spans.linked)),
        summary,
        usual,
        slow,
        stages,
        slowest_stages,
        critical_path: spans.path,
        first_error,
        spans: spans.counts,
        explained: Vec::new(),
    };
    detail.explained = in_words(&detail, run);
    Ok(detail)
}

impl Detail {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "null".to_owned())
    }

    /// What happened, a sentence each.
    #[must_use]
    pub fn explained(&self) -> &[String] {
        &self.explained
    }
}

fn usual_ns(history: Option<&PipelineHistory>, stage: &str) -> Option<i64> {
    history?.stages.get(stage)?.median()
}

fn times(taken: i64, usual: Option<i64>) -> Option<f64> {
    let usual = usual.filter(|usual| *usual > 0)?;
    Some((taken as f64 / usual as f64 * 100.0).round() / 100.0)
}

fn usual(run: &Run, history: Option<&PipelineHistory>) -> Option<UsualRun> {
    let durations = &history?.durations;
    let median = durations.median()?;
    let taken = run.ended.and_then(|ended| run.duration(ended));
    Some(UsualRun {
        runs: durations.count(),
        median_ms: ms(median),
        p95_ms: ms(durations.quantile(0.95)?),
        times: taken.and_then(|taken| times(taken, Some(median))),
    })
}

fn stages(run: &Run, history: Option<&PipelineHistory>, spans: &Spans) -> Vec<StageShown> {
    let shown = run.stages.iter().map(|stage| {
        let usual = usual_ns(history, &stage.name);
        let taken = stage.duration();
        let counts = spans.of_stages.get(&stage.name).copied();
        let (count, failed) = counts.unwrap_or_default();
        StageShown {
            name: stage.name.clone(),
            state: stage.state.as_str(),
            started: stage.started.map(time),
            ended: stage.ended.map(time),
            duration_ms: taken.map(ms),
            usual_ms: usual.map(ms),
            slow: taken
                .and_then(|taken| times(taken, usual))
                .is_some_and(|times| times >= SLOW_TIMES),
            span_id: stage.span_id.map(|id| to_hex(&id)),
            error: stage.error.clone(),
            spans: count,
            failed_spans: failed,
        }
    });
    shown.collect()
}

fn slowest(run: &Run, history: Option<&PipelineHistory>) -> Vec<SlowStage> {
    let mut taken: Vec<(&str, i64)> = run
        .stages
        .iter()
        .filter_map(|stage| Some((stage.name.as_str(), stage.duration()?)))
        .collect();
    let total: f64 = taken.iter().map(|(_, ns)| *ns as f64).sum();
    taken.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let slowest = taken.into_iter().take(SLOWEST_MAX).map(|(name, ns)| {
        let usual = usual_ns(history, name);
        SlowStage {
            name: name.to_owned(),
            duration_ms: ms(ns),
            share: rounded(ns as f64 / total.max(1.0)),
            usual_ms: usual.map(ms),
            times: times(ns, usual),
        }
    });
    slowest.collect()
}

fn spans_of(loaded: &LoadedTraces, run: &Run) -> Spans {
    let Some(trace) = loaded.traces().first() else {
        return Spans::default();
    };
    let tree = &trace.facts.trace;
    let stage_of_span: HashMap<[u8; 8], &str> = run
        .stages
        .iter()
        .filter_map(|stage| Some((stage.span_id?, stage.name.as_str())))
        .collect();
    // Parents come first, so that a span has the stage of its parent unless it is one.
    let mut stage_of: Vec<Option<&str>> = vec![None; tree.len()];
    for place in tree.preorder() {
        let own = tree.spans().get(*place as usize);
        let own = own.and_then(|span| stage_of_span.get(&span.id).copied());
        let inherited = || {
            let parent = tree.parent(*place)?;
            stage_of.get(parent as usize).copied().flatten()
        };
        let stage = own.or_else(inherited);
        if let Some(of_span) = stage_of.get_mut(*place as usize) {
            *of_span = stage;
        }
    }
    let stage = |place: u32| stage_of.get(place as usize).copied().flatten();
    let mut spans = Spans::default();
    let (mut failed, mut services) = (0, std::collections::HashSet::new());
    for (place, span) in tree.spans().iter().enumerate() {
        let place = place as u32;
        let Some(block) = loaded.blocks().get(span.at.block as usize) else {
            continue;
        };
        let row = span.at.row as usize;
        let has_failed = block.status.get(row) == 2;
        failed += usize::from(has_failed);
        let service = service_of(trace, place);
        services.insert(service.clone());
        if let Some(stage) = stage(place) {
            let counts = spans.of_stages.entry(stage.to_owned()).or_default();
            counts.0 += 1;
            counts.1 += usize::from(has_failed);
        }
        let end = span.end_ns();
        let is_first = |known: &Option<(i64, FirstError)>| {
            known.as_ref().is_none_or(|(earliest, _)| end < *earliest)
        };
        if has_failed && is_first(&spans.first_failed) {
            let name = block.name.str(row).to_owned();
            let message = block.status_message.str(row);
            let error = FirstError {
                time: time(end),
                message: match message.is_empty() {
                    true => format!("{name} failed"),
                    false => message.to_owned(),
                },
                stage: stage(place).map(str::to_owned),
                span_id: Some(to_hex(&span.id)),
                span: Some(name),
                service: service.clone(),
            };
            spans.first_failed = Some((end, error));
        }
        for link in block.links.of(row) {
            if let Some((linked, _)) = block.links.ids.get(link)
                && spans.linked.len() < LINKED_MAX
                && *linked != run.trace_id
            {
                let id = TraceId(*linked).to_string();
                if !spans.linked.contains(&id) {
                    spans.linked.push(id);
                }
            }
        }
    }
    let whole = tree.duration_ns().max(1) as f64;
    let pieces = critical_path(tree).into_iter().take(PATH_PIECES_MAX);
    let pieces = pieces.filter_map(|piece| {
        let span = tree.spans().get(piece.span as usize)?;
        let block = loaded.blocks().get(span.at.block as usize)?;
        let taken = piece.end_ns.saturating_sub(piece.start_ns);
        Some(Piece {
            span_id: to_hex(&span.id),
            name: block.name.str(span.at.row as usize).to_owned(),
            service: service_of(trace, piece.span),
            stage: stage(piece.span).map(str::to_owned),
            started: time(piece.start_ns),
            duration_ms: ms(taken),
            share: rounded(taken as f64 / whole),
        })
    });
    spans.path = pieces.collect();
    spans.counts = Some(SpanCounts {
        spans: tree.len(),
        failed,
        services: services.len(),
    });
    spans
}

fn service_of(trace: &LoadedTrace, place: u32) -> Option<String> {
    trace
        .stream(place)
        .and_then(|s| service(s))
        .map(str::to_owned)
}

/// Of what events and spans say, the earlier; the words of an event go before those of a span.
fn first_error(run: &Run, spans: &mut Spans) -> Option<FirstError> {
    let failed = spans.first_failed.take();
    let Some((at, words)) = &run.first_error else {
        return failed.map(|(_, error)| error);
    };
    let stage = run.stages.iter().find(|stage| stage.error.is_some());
    let stage = stage.map(|stage| stage.name.clone());
    match failed {
        Some((end, error)) if end < *at => Some(error),
        Some((_, error)) => Some(FirstError {
            time: time(*at),
            message: words.clone(),
            ..error
        }),
        None => Some(FirstError {
            time: time(*at),
            message: words.clone(),
            stage,
            span_id: None,
            span: None,
            service: None,
        }),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    crate::wire::json::push_string(&mut out, text);
    out
}

fn links(run: &Run, names: &RunNames, traces: Vec<String>) -> Links {
    let id = encoded(&run.run_id);
    let from = run.queued.or(run.started).unwrap_or(run.last_seen);
    let to = run.ended.unwrap_or(run.last_seen);
    let (from, to) = (from.saturating_sub(MARGIN_NS), to.saturating_add(MARGIN_NS));
    let logs = |filter: String| {
        let query = encoded(&format!("{{service_name=~\".+\"}} | {filter}"));
        format!(
            "/loki/api/v1/query_range?query={query}&start={from}&end={to}&limit=1000&direction=forward"
        )
    };
    let mut labels: Vec<String> = names.run_id.iter().map(|name| label_name(name)).collect();
    labels.sort_unstable();
    labels.dedup();
    let any = labels
        .iter()
        .map(|label| format!("{label}={}", quoted(&run.run_id)));
    let trace = (run.trace_id != [0; 16]).then(|| TraceId(run.trace_id).to_string());
    let seconds = |ns: i64| ns.div_euclid(1_000_000_000);
    let pipeline = (!run.pipeline.is_empty()).then_some(&run.pipeline);
    Links {
        run: format!("/api/v1/runs/{id}"),
        live: format!("/api/v1/runs/live?run={id}"),
        runs_of_pipeline: pipeline.map(|p| format!("/api/v1/runs?pipeline={}", encoded(p))),
        jaeger: trace.as_ref().map(|t| format!("/jaeger/api/traces/{t}")),
        logs: logs(any.collect::<Vec<_>>().join(" or ")),
        logs_of_trace: trace.as_ref().map(|t| logs(format!("trace_id={t:?}"))),
        trace: trace.map(|t| format!("/tempo/api/traces/{t}")),
        metrics: pipeline.map(|pipeline| {
            let query = encoded(&format!("{{pipeline_name={}}}", quoted(pipeline)));
            let (from, to) = (seconds(from), seconds(to));
            let step = to.saturating_sub(from).div_euclid(250).max(1);
            format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={step}")
        }),
        traces,
    }
}

fn seconds(ms: f64) -> String {
    match ms {
        ms if ms >= 60_000.0 => format!("{:.1} min", ms / 60_000.0),
        ms if ms >= 1_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => format!("{ms:.0} ms"),
    }
}

fn in_words(detail: &Detail, run: &Run) -> Vec<String> {
    let mut said = Vec::new();
    let mut whole = format!(
        "{} {}",
        if run.pipeline.is_empty() {
            "the run"
        } else {
            &run.pipeline
        },
        match detail.summary.state {
            "running" => "is running",
            "queued" => "is waiting",
            "lost" => "has gone silent",
            "missed" => "did not run when it was due",
            state => state,
        },
    );
    let failed = run.stages.iter().find(|s| s.state == RunState::Failed);
    if let Some(stage) = failed {
        whole.push_str(&format!(" in stage {}", stage.name));
    } else if let Some(stage) = run.current_stage().filter(|_| run.ended.is_none()) {
        whole.push_str(&format!(" in stage {}", stage.name));
    }
    if let Some(taken) = run.ended.and_then(|ended| run.duration(ended)) {
        whole.push_str(&format!(" after {}", seconds(ms(taken))));
    }
    if let Some(usual) = &detail.usual {
        whole.push_str(&format!(" (usually {})", seconds(usual.median_ms)));
    }
    said.push(whole);
    if let Some(error) = &detail.first_error {
        let place = error.span.as_ref().map_or(String::new(), |span| {
            let service = error.service.as_ref().map(|s| format!(" of {s}"));
            format!(" in {span}{}", service.unwrap_or_default())
        });
        said.push(format!("the first error{place}: {}", error.message));
    }
    for stage in detail.stages.iter().filter(|stage| stage.slow) {
        if let (Some(taken), Some(usual)) = (stage.duration_ms, stage.usual_ms) {
            let (taken, usual) = (seconds(taken), seconds(usual));
            said.push(format!(
                "stage {} took {taken}, usually {usual}",
                stage.name
            ));
        }
    }
    let longest = detail
        .critical_path
        .iter()
        .max_by(|a, b| a.duration_ms.total_cmp(&b.duration_ms));
    if let Some(piece) = longest {
        said.push(format!(
            "most of the time went to {}: {} on the critical path ({:.0} %)",
            piece.name,
            seconds(piece.duration_ms),
            piece.share * 100.0
        ));
    }
    said
}
