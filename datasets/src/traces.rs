//! Spans of the story: one trace per run, from the scheduler through the stages down to the
//! warehouse, the sources and the models that they call.
//!
//! A span appears when it ends. So a run that is under way at the end of the story has the spans of
//! its finished stages, and no root yet.

use crate::incidents::LATE_STORE;
use crate::random::Random;
use crate::rows::{Pairs, Source, SpanRecord, SpanRole};
use crate::runs::{ModelCall, Run, RunState, Stage};
use crate::world::{REGIONS, pipeline};

/// Nanoseconds of a millisecond.
pub(crate) const MS_NS: i64 = 1_000_000;

/// Services that serve all regions, behind the runners in the list of sources.
const SHARED: [(&str, &str, &str); 4] = [
    ("model-gateway", "gateway-1", "1.9.4"),
    ("warehouse", "warehouse-1", "15.4"),
    ("dataflow", "dataflow-1", "2.3.0"),
    ("broker", "broker-1", "3.13.1"),
];

/// Places in the list of sources.
pub(crate) const GATEWAY: usize = REGIONS.len();
pub(crate) const WAREHOUSE_SOURCE: usize = REGIONS.len() + 1;
pub(crate) const DATAFLOW: usize = REGIONS.len() + 2;
pub(crate) const BROKER: usize = REGIONS.len() + 3;

/// All producers of spans and log records: the runners by region, then the shared services.
pub(crate) fn sources() -> Vec<Source> {
    let runners = REGIONS.iter().map(|region| Source {
        service: "pipeline-runner",
        host: region.runner,
        region: region.name,
        version: "5.6.0",
    });
    let shared = SHARED.iter().map(|&(service, host, version)| Source {
        service,
        host,
        region: "eu",
        version,
    });
    runners.chain(shared).collect()
}

/// The runner of a run's region.
pub(crate) fn runner_of(run: &Run) -> usize {
    let found = REGIONS.iter().position(|region| region.name == run.region);
    found.unwrap_or(0)
}

/// Attributes that name a run in every span and event of it.
pub(crate) fn run_attributes(run: &Run) -> Pairs {
    let mut pairs: Pairs = vec![
        ("execution_id", run.run_id.as_str().into()),
        ("pipeline.name", run.pipeline.into()),
        ("pipeline.version", run.pipeline_version.into()),
        ("region", run.region.into()),
    ];
    if let Some(store) = run.store {
        pairs.push(("store", store.into()));
    }
    pairs
}

/// The spans of all runs that ended by `end_ms`, by run.
pub(crate) fn spans(seed: u64, runs: &[Run], end_ms: i64) -> Vec<SpanRecord> {
    let mut made = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        // A stream of its own for each run: what one run draws leaves the others as they are.
        let random = Random::new(seed, "spans", number as u64);
        let mut trace = Trace {
            run,
            random,
            end_ns: end_ms * MS_NS,
            spans: &mut made,
        };
        trace.write();
    }
    made
}

/// Writes the spans of one run.
struct Trace<'a> {
    run: &'a Run,
    random: Random,
    end_ns: i64,
    spans: &'a mut Vec<SpanRecord>,
}

impl Trace<'_> {
    fn write(&mut self) {
        let run = self.run;
        if run.state == RunState::Queued {
            return;
        }
        for stage in &run.stages {
            self.stage(stage);
        }
        let mut attributes = run_attributes(run);
        attributes.push(("queue_ms", run.queue_ms().into()));
        attributes.push(("records", run.records.into()));
        if run.cost_dollars() > 0.0 {
            attributes.push(("cost_dollars", run.cost_dollars().into()));
            attributes.push(("tokens", run.tokens().into()));
        }
        let error = run.error.map(|error| (error.code, error.message));
        self.push(SpanRecord {
            source: runner_of(run),
            trace_id: run.trace_id,
            span_id: run.span_id,
            parent_span_id: None,
            name: format!("run {}", run.pipeline),
            role: SpanRole::Internal,
            start_ns: run.started_ms * MS_NS,
            end_ns: run.ended_ms * MS_NS,
            error: error.map(|(code, message)| format!("{code}: {message}")),
            attributes,
            events: Vec::new(),
        });
    }

    /// Adds a span if it ended inside the story.
    fn push(&mut self, span: SpanRecord) {
        if span.end_ns <= self.end_ns {
            self.spans.push(span);
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let run = self.run;
        let mut attributes = run_attributes(run);
        attributes.push(("task.name", stage.name.into()));
        attributes.push(("records", stage.records.into()));
        attributes.push(("retry_count", (stage.retry_count() as i64).into()));
        let events = stage.failed_attempts.iter().map(|attempt| {
            let pairs: Pairs = vec![
                ("exception.type", attempt.error.code.into()),
                ("exception.message", attempt.error.message.into()),
            ];
            (attempt.ended_ms * MS_NS, "exception", pairs)
        });
        let span = SpanRecord {
            source: runner_of(run),
            trace_id: run.trace_id,
            span_id: stage.span_id,
            parent_span_id: Some(run.span_id),
            name: stage.name.to_owned(),
            role: SpanRole::Internal,
            start_ns: stage.started_ms * MS_NS,
            end_ns: stage.ended_ms * MS_NS,
            error: stage.error.map(|e| format!("{}: {}", e.code, e.message)),
            attributes,
            events: events.collect(),
        };
        self.push(span);
        for call in &stage.model_calls {
            self.model_call(stage, call);
        }
        match stage.name {
            "extract" => self.source_request(stage),
            "load" => self.warehouse_copies(stage),
            _ => {}
        }
    }

    fn model_call(&mut self, stage: &Stage, call: &ModelCall) {
        let client: [u8; 8] = self.random.bytes();
        let (start, end) = (
            call.started_ms * MS_NS + self.jitter(MS_NS),
            (call.started_ms + call.latency_ms) * MS_NS,
        );
        let error = (!call.succeeded).then(|| "answer is not valid JSON".to_owned());
        let attributes: Pairs = vec![
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.request.model", call.model.into()),
            ("gen_ai.usage.input_tokens", call.input_tokens.into()),
            ("gen_ai.usage.output_tokens", call.output_tokens.into()),
            ("cost_dollars", call.cost_dollars.into()),
        ];
        let span = SpanRecord {
            source: runner_of(self.run),
            trace_id: self.run.trace_id,
            span_id: client,
            parent_span_id: Some(stage.span_id),
            name: format!("chat {}", call.model),
            role: SpanRole::Client,
            start_ns: start,
            end_ns: end.max(start),
            error,
            attributes,
            events: Vec::new(),
        };
        let server = SpanRecord {
            source: GATEWAY,
            span_id: self.random.bytes(),
            parent_span_id: Some(client),
            name: "POST /v1/chat/completions".into(),
            role: SpanRole::Server,
            start_ns: start + (end - start).max(0) / 50,
            end_ns: end - (end - start).max(0) / 50,
            error: None,
            attributes: vec![
                ("http.request.method", "POST".into()),
                ("http.route", "/v1/chat/completions".into()),
                ("http.response.status_code", 200_i64.into()),
                ("gen_ai.request.model", call.model.into()),
            ],
            ..span.clone()
        };
        self.push(span);
        self.push(server);
    }

    /// The question to the store's point of sale, the feed, the database.
    fn source_request(&mut self, stage: &Stage) {
        let share = self.random.between(0.55, 0.8);
        let length = ((stage.duration_ms() * MS_NS) as f64 * share) as i64;
        let start = stage.started_ms * MS_NS + self.jitter(40 * MS_NS);
        let late = self.run.store == Some(LATE_STORE) && stage.records == 0;
        let client: [u8; 8] = self.random.bytes();
        let span = SpanRecord {
            source: runner_of(self.run),
            trace_id: self.run.trace_id,
            span_id: client,
            parent_span_id: Some(stage.span_id),
            name: "GET /export".into(),
            role: SpanRole::Client,
            start_ns: start,
            end_ns: start + length,
            error: None,
            attributes: vec![
                ("http.request.method", "GET".into()),
                (
                    "url.path",
                    format!("/export/{}", self.run.store.unwrap_or(self.run.region)).into(),
                ),
                (
                    "http.response.status_code",
                    if late { 204_i64 } else { 200 }.into(),
                ),
                ("records", stage.records.into()),
            ],
            events: Vec::new(),
        };
        let server = SpanRecord {
            source: DATAFLOW,
            span_id: self.random.bytes(),
            parent_span_id: Some(client),
            role: SpanRole::Server,
            start_ns: start + length / 20,
            end_ns: start + length - length / 20,
            ..span.clone()
        };
        let mut cursor = server.start_ns;
        let pages = (stage.records / 2_000 + 1).min(6);
        let step = (server.end_ns - server.start_ns) / (pages as i64 + 1);
        let parent = server.span_id;
        self.push(span);
        self.push(server);
        for page in 0..pages {
            let query = SpanRecord {
                source: DATAFLOW,
                trace_id: self.run.trace_id,
                span_id: self.random.bytes(),
                parent_span_id: Some(parent),
                name: "SELECT events".into(),
                role: SpanRole::Internal,
                start_ns: cursor,
                end_ns: cursor + step,
                error: None,
                attributes: vec![
                    ("db.system", "postgresql".into()),
                    ("db.operation.name", "SELECT".into()),
                    ("page", page.into()),
                ],
                events: Vec::new(),
            };
            cursor += step;
            self.push(query);
        }
    }

    /// One copy per table and attempt.
    fn warehouse_copies(&mut self, stage: &Stage) {
        let tables = pipeline(self.run.pipeline).tables;
        let mut attempts: Vec<(i64, i64, Option<String>)> = stage
            .failed_attempts
            .iter()
            .map(|a| (a.started_ms, a.ended_ms, Some(a.error.message.to_owned())))
            .collect();
        if stage.error.is_none() {
            let start = attempts.last().map_or(stage.started_ms, |last| last.1);
            attempts.push((start, stage.ended_ms, None));
        }
        for (start_ms, end_ms, error) in attempts {
            let (mut cursor, end) = (start_ms * MS_NS, end_ms * MS_NS);
            for (number, table) in tables.iter().enumerate() {
                let left = (tables.len() - number) as i64;
                let length = (end - cursor) / left;
                let failed = error.clone().filter(|_| number == 0);
                let client: [u8; 8] = self.random.bytes();
                let rows = (stage.records as f64 * table.rows_per_record) as i64;
                let span = SpanRecord {
                    source: runner_of(self.run),
                    trace_id: self.run.trace_id,
                    span_id: client,
                    parent_span_id: Some(stage.span_id),
                    name: format!("COPY {}", table.name),
                    role: SpanRole::Client,
                    start_ns: cursor,
                    end_ns: cursor + length,
                    error: failed.clone(),
                    attributes: vec![
                        ("db.system", "warehouse".into()),
                        ("db.operation.name", "COPY".into()),
                        ("db.collection.name", table.name.into()),
                        ("rows", rows.into()),
                    ],
                    events: Vec::new(),
                };
                let server = SpanRecord {
                    source: WAREHOUSE_SOURCE,
                    span_id: self.random.bytes(),
                    parent_span_id: Some(client),
                    role: SpanRole::Server,
                    start_ns: cursor + length / 40,
                    end_ns: cursor + length - length / 40,
                    ..span.clone()
                };
                self.push(span);
                self.push(server);
                cursor += length;
                if failed.is_some() {
                    break;
                }
            }
        }
    }

    /// A little time, so that not everything begins on a full millisecond.
    fn jitter(&mut self, below_ns: i64) -> i64 {
        (self.random.unit() * below_ns as f64) as i64
    }
}
