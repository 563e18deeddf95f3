//! Log records and events of the story: what runners, gateway, warehouse and services write.
//!
//! Runners write logfmt, the gateway JSON access lines, the warehouse and the broker plain text, as
//! such programs do. Events carry the life of each run: queued, started, stage by stage, ended.

use crate::incidents::{FAILED_CODE, Script};
use crate::random::Random;
use crate::rows::{LogLine, Pairs, Severity};
use crate::runs::{Run, RunState, Stage};
use crate::season::{MINUTE_MS, SECOND_MS, demand};
use crate::traces::{
    BROKER, DATAFLOW, GATEWAY, MS_NS, WAREHOUSE_SOURCE, run_attributes, runner_of,
};
use crate::world::{REGIONS, pipeline};

/// Access lines of the shop's database framework at average demand, each second.
const DATAFLOW_LINES_PER_SECOND: f64 = 0.6;

/// All records of the story, by time.
pub(crate) fn records(
    seed: u64,
    script: &Script,
    runs: &[Run],
    start_ms: i64,
    end_ms: i64,
) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let random = Random::new(seed, "logs", number as u64);
        let mut journal = Journal {
            run,
            random,
            lines: &mut lines,
        };
        journal.write();
    }
    services(seed, start_ms, end_ms, &mut lines);
    leak_warnings(script, start_ms, end_ms, &mut lines);
    lines.retain(|line| (start_ms * MS_NS..=end_ms * MS_NS).contains(&line.time_ns));
    // Stable: what was written at one moment keeps its order.
    lines.sort_by_key(|line| line.time_ns);
    lines
}

/// Writes what one run leaves in the logs.
struct Journal<'a> {
    run: &'a Run,
    random: Random,
    lines: &'a mut Vec<LogLine>,
}

impl Journal<'_> {
    fn write(&mut self) {
        let run = self.run;
        self.event(run.scheduled_ms, "run.queued", Severity::Info, Pairs::new());
        if run.state == RunState::Queued {
            return;
        }
        let queue = ("queue_ms", run.queue_ms().into());
        self.event(run.started_ms, "run.started", Severity::Info, vec![queue]);
        self.say(
            run.started_ms,
            run.span_id,
            Severity::Info,
            format!(
                "msg=\"run started\" pipeline={} run={} worker={} since=watermark records={}",
                run.pipeline,
                run.run_id,
                1 + run.span_id[0] % 2,
                run.records
            ),
        );
        for stage in &run.stages {
            self.stage(stage);
        }
        if !matches!(run.state, RunState::Succeeded | RunState::Failed) {
            return;
        }
        let mut pairs: Pairs = vec![
            ("duration_ms", run.duration_ms().into()),
            ("records", run.records.into()),
        ];
        if run.cost_dollars() > 0.0 {
            pairs.push(("cost_dollars", run.cost_dollars().into()));
            pairs.push(("tokens", run.tokens().into()));
        }
        match run.error {
            None => {
                self.event(run.ended_ms, "run.completed", Severity::Info, pairs);
                self.say(
                    run.ended_ms,
                    run.span_id,
                    Severity::Info,
                    format!(
                        "msg=\"run finished\" pipeline={} run={} records={} took={:.3}s",
                        run.pipeline,
                        run.run_id,
                        run.records,
                        run.duration_ms() as f64 / 1e3
                    ),
                );
            }
            Some(error) => {
                pairs.push(("error.code", error.code.into()));
                pairs.push(("error.message", error.message.into()));
                self.event(run.ended_ms, "run.failed", Severity::Error, pairs);
                self.say(
                    run.ended_ms,
                    run.span_id,
                    Severity::Error,
                    format!(
                        "msg=\"run failed\" pipeline={} run={} code={} err=\"{}\"",
                        run.pipeline, run.run_id, error.code, error.message
                    ),
                );
            }
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let of_stage = |pairs: &mut Pairs| {
            pairs.push(("task.name", stage.name.into()));
            pairs.push(("records", stage.records.into()));
        };
        let mut pairs = Pairs::new();
        of_stage(&mut pairs);
        self.event(stage.started_ms, "stage.started", Severity::Info, pairs);
        let memory_mb = self.random.log_normal(420.0, 0.2);
        self.say(
            stage.started_ms,
            stage.span_id,
            Severity::Debug,
            format!(
                "msg=\"stage started\" stage={} records={} memory_mb={memory_mb:.0}",
                stage.name, stage.records
            ),
        );
        for (number, attempt) in stage.failed_attempts.iter().enumerate() {
            let trace = format!(
                "{}: {}\n  at runner.tasks.{}.attempt (tasks/{}.py:{})\n  at runner.pool.work (pool.py:188)",
                attempt.error.code,
                attempt.error.message,
                stage.name,
                stage.name,
                60 + attempt.error.code.len()
            );
            self.say(
                attempt.ended_ms,
                stage.span_id,
                Severity::Warn,
                format!(
                    "msg=\"attempt failed\" stage={} attempt={} code={} err=\"{}\" took={:.3}s",
                    stage.name,
                    number + 1,
                    attempt.error.code,
                    attempt.error.message,
                    (attempt.ended_ms - attempt.started_ms) as f64 / 1e3
                ),
            );
            self.say(attempt.ended_ms, stage.span_id, Severity::Error, trace);
            if attempt.error.code == FAILED_CODE {
                self.warehouse(
                    attempt.ended_ms,
                    stage.span_id,
                    Severity::Error,
                    format!("ERROR:  {} at character 118", attempt.error.message),
                );
            }
        }
        self.model_calls(stage);
        if stage.name == "extract" {
            self.pages(stage);
        }
        match stage.state {
            RunState::Succeeded => {
                let mut pairs: Pairs = vec![("duration_ms", stage.duration_ms().into())];
                of_stage(&mut pairs);
                self.event(stage.ended_ms, "stage.completed", Severity::Info, pairs);
                self.say(
                    stage.ended_ms,
                    stage.span_id,
                    Severity::Info,
                    format!(
                        "msg=\"stage done\" stage={} records={} took={:.3}s",
                        stage.name,
                        stage.records,
                        stage.duration_ms() as f64 / 1e3
                    ),
                );
                if stage.name == "load" {
                    self.copies(stage);
                }
            }
            RunState::Failed => {
                let code = stage.error.map_or("", |error| error.code);
                let mut pairs: Pairs = vec![("error.code", code.into())];
                of_stage(&mut pairs);
                self.event(stage.ended_ms, "stage.failed", Severity::Error, pairs);
            }
            RunState::Queued | RunState::Running => {}
        }
    }

    fn model_calls(&mut self, stage: &Stage) {
        for call in &stage.model_calls {
            let status = if call.succeeded { 200 } else { 422 };
            let request: [u8; 8] = self.random.bytes();
            let body = format!(
                "{{\"request_id\":\"req_{}\",\"method\":\"POST\",\"path\":\"/v1/chat/completions\",\"status\":{status},\
                 \"model\":\"{}\",\"latency_ms\":{},\"input_tokens\":{},\"output_tokens\":{},\"cost_usd\":{:.6}}}",
                hex(&request),
                call.model,
                call.latency_ms,
                call.input_tokens,
                call.output_tokens,
                call.cost_dollars
            );
            let severity = if call.succeeded {
                Severity::Info
            } else {
                Severity::Warn
            };
            let ended_ms = call.started_ms + call.latency_ms;
            self.line(GATEWAY, ended_ms, Some(stage.span_id), severity, body);
        }
    }

    fn pages(&mut self, stage: &Stage) {
        let pages = (stage.records / 500).min(12);
        for page in 0..pages {
            let share = (page + 1) as f64 / (pages + 1) as f64;
            let at_ms = stage.started_ms + (stage.duration_ms() as f64 * share) as i64;
            let bytes = self.random.log_normal(180_000.0, 0.3) as u64;
            self.say(
                at_ms,
                stage.span_id,
                Severity::Debug,
                format!("msg=\"page read\" stage=extract page={page} rows=500 bytes={bytes}"),
            );
        }
    }

    fn copies(&mut self, stage: &Stage) {
        for table in pipeline(self.run.pipeline).tables {
            let rows = (stage.records as f64 * table.rows_per_record) as u64;
            let took = self.random.between(0.2, 0.9) * stage.duration_ms() as f64;
            self.warehouse(
                stage.ended_ms,
                stage.span_id,
                Severity::Info,
                format!(
                    "LOG:  duration: {took:.3} ms  statement: COPY {} FROM STDIN; {rows} rows",
                    table.name
                ),
            );
        }
    }

    fn warehouse(&mut self, at_ms: i64, span: [u8; 8], severity: Severity, body: String) {
        self.line(WAREHOUSE_SOURCE, at_ms, Some(span), severity, body);
    }

    /// A line of the runner.
    fn say(&mut self, at_ms: i64, span: [u8; 8], severity: Severity, body: String) {
        let source = runner_of(self.run);
        let body = match body.starts_with("msg=") {
            true => format!("level={} {body}", severity.as_str()),
            false => body,
        };
        self.line(source, at_ms, Some(span), severity, body);
    }

    fn line(
        &mut self,
        source: usize,
        at_ms: i64,
        span: Option<[u8; 8]>,
        severity: Severity,
        body: String,
    ) {
        let jitter = (self.random.unit() * MS_NS as f64) as i64;
        self.lines.push(LogLine {
            source,
            time_ns: at_ms * MS_NS + jitter,
            severity,
            body,
            attributes: Pairs::new(),
            context: span.map(|span| (self.run.trace_id, span)),
            event: "",
        });
    }

    /// Something in the life of the run.
    fn event(&mut self, at_ms: i64, name: &'static str, severity: Severity, more: Pairs) {
        let mut attributes = run_attributes(self.run);
        attributes.extend(more);
        self.lines.push(LogLine {
            source: runner_of(self.run),
            time_ns: at_ms * MS_NS,
            severity,
            body: format!("{name} {}", self.run.pipeline),
            attributes,
            context: Some((self.run.trace_id, self.run.span_id)),
            event: name,
        });
    }
}

/// What services write by themselves.
fn services(seed: u64, start_ms: i64, end_ms: i64, lines: &mut Vec<LogLine>) {
    let mut random = Random::new(seed, "service-logs", 0);
    let mut push = |source, time_ns, severity, body| {
        lines.push(LogLine {
            source,
            time_ns,
            severity,
            body,
            attributes: Pairs::new(),
            context: None,
            event: "",
        });
    };
    for second in start_ms / SECOND_MS..end_ms / SECOND_MS {
        let at_ms = second * SECOND_MS;
        let busy: f64 = REGIONS
            .iter()
            .map(|r| demand(at_ms, r.utc_offset_hours))
            .sum();
        let count = random.count(DATAFLOW_LINES_PER_SECOND * busy / REGIONS.len() as f64);
        for _ in 0..count as usize {
            let (severity, line) = dataflow_line(&mut random);
            let at_ns = at_ms * MS_NS + (random.unit() * 1e9) as i64;
            push(DATAFLOW, at_ns, severity, line);
        }
        if at_ms % MINUTE_MS == 0 {
            let depth = random.log_normal(40.0, 0.4) as u64;
            push(
                BROKER,
                at_ms * MS_NS,
                Severity::Info,
                format!(
                    "[broker] queue pos-events: depth {depth}, consumers 6, unacked {}",
                    depth / 7
                ),
            );
            if Script::is_vacuum(at_ms) {
                let pages = random.log_normal(90_000.0, 0.5) as u64;
                push(
                    WAREHOUSE_SOURCE,
                    at_ms * MS_NS,
                    Severity::Info,
                    format!(
                        "LOG:  automatic vacuum of table \"shop.public.order_items\": pages: {pages} removed"
                    ),
                );
            }
        }
    }
}

fn dataflow_line(random: &mut Random) -> (Severity, String) {
    let entity = ["Order", "Order", "Product", "Customer"][(random.unit() * 4.0) as usize % 4];
    let operation = ["read", "read", "list", "update"][(random.unit() * 4.0) as usize % 4];
    let key = (random.unit() * 90_000.0) as u64 + 10_000;
    let took = random.log_normal(0.006, 0.8);
    if random.chance(0.002) {
        let line = format!("{operation} {entity}/{key}: deadlock detected, retrying after 50 ms");
        return (Severity::Warn, line);
    }
    let client = format!(
        "10.{}.{}.{}",
        (random.unit() * 3.0) as u8,
        (random.unit() * 255.0) as u8,
        (random.unit() * 255.0) as u8
    );
    let line = format!(
        "{client} {operation} {entity}/{key} 200 {:.2}ms",
        took * 1e3
    );
    (Severity::Info, line)
}

/// The leaking runner complains once it is over 80 percent.
fn leak_warnings(script: &Script, start_ms: i64, end_ms: i64, lines: &mut Vec<LogLine>) {
    let mut at_ms = start_ms;
    while at_ms < end_ms {
        let percent = crate::incidents::LEAK_START_PERCENT + script.leaked_percent(at_ms);
        if percent > 80.0 {
            lines.push(LogLine {
                source: 0,
                time_ns: at_ms * MS_NS,
                severity: Severity::Warn,
                body: format!("level=warn msg=\"memory is short\" used_percent={percent:.1} gc_pause_ms={:.0}", percent * 2.0),
                attributes: Pairs::new(),
                context: None,
                event: "",
            });
        }
        at_ms += 5 * MINUTE_MS;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
