//! Runs read back from the store: at the start, and those that are no longer in the book.
//!
//! Rows are found by their run id: filters over the texts of attributes say which blocks have one, as
//! they do for trace ids in bodies, so that a run of last month costs its own blocks. Where a resource
//! names the run there is no such filter: only ranges of a few days are looked through for those.

use std::sync::Arc;

use chronolith_engine::model::{TimeRange, TraceId};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, LogColumnSet, LogCondition, LogScanRequest, SpanColumnSet,
    SpanCondition, SpanScanRequest, TextPattern, TextTest, ValueTest,
};
use chronolith_engine::{EngineError, RequestContext, Snapshot};

use super::book::{RunBook, RunFilter};
use super::fold::Run;
use super::rows::RunReader;

/// Traces of which the other spans are read back too, newest runs first.
const TRACES_MAX: usize = 512;

/// The longest range that is looked through for resources that name runs: two days.
const RESOURCE_RANGE_NS: i64 = 2 * 86_400_000_000_000;

/// Columns of spans that runs are made of.
fn span_columns() -> SpanColumnSet {
    SpanColumnSet {
        trace_id: true,
        span_ids: true,
        name: true,
        duration: true,
        status: true,
        details: true,
        events: true,
        ..SpanColumnSet::default()
    }
}

/// Columns of log records that runs are made of.
fn log_columns(with_body: bool) -> LogColumnSet {
    LogColumnSet {
        severity: true,
        body: with_body,
        ids: true,
        event_name: true,
        ..LogColumnSet::default()
    }
}

/// A book that rows are entered into; perhaps one that others use meanwhile, so that it is taken for a
/// block of rows at a time.
pub trait BookAccess {
    /// Does something with the book.
    fn with<T>(&mut self, work: impl FnOnce(&mut RunBook) -> T) -> T;
}

impl BookAccess for RunBook {
    fn with<T>(&mut self, work: impl FnOnce(&mut RunBook) -> T) -> T {
        work(self)
    }
}

/// One state of a store, looked through for runs.
pub struct StoredRuns<'s> {
    /// The state of the store.
    pub snapshot: &'s Snapshot,
    /// Who asks.
    pub context: &'s RequestContext,
    /// The names.
    pub reader: &'s RunReader,
    /// Now, in nanoseconds since the epoch.
    pub now: i64,
}

/// How the rows of one scan are found.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// Those that name any run.
    OfAnyRun,
    /// Those that name this run.
    OfRun(&'a str),
}

impl StoredRuns<'_> {
    /// Whether a row in a range names a run: a look at the first one that does.
    ///
    /// # Errors
    /// As [`StoredRuns::read_range`].
    pub fn has_any(&self, range: TimeRange) -> Result<bool, EngineError> {
        for (scope, key, test) in self.places(Rows::OfAnyRun, range) {
            let mut spans = SpanScanRequest::new(Vec::new(), range);
            let (k, t) = (Arc::clone(&key), test.clone());
            spans.conditions = vec![SpanCondition::Attribute {
                scope,
                key: k,
                test: t,
            }];
            spans.limit = Some(1);
            let mut logs = LogScanRequest::new(Vec::new(), range);
            logs.conditions = vec![LogCondition::Attribute { scope, key, test }];
            logs.limit = Some(1);
            for block in self.snapshot.scan_span_blocks(self.context, &spans)? {
                if block?.rows > 0 {
                    return Ok(true);
                }
            }
            for block in self.snapshot.scan_log_blocks(self.context, &logs)? {
                if block?.rows > 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Enters what rows in a range say of any run. Ordinary log records only say that a run lives, so
    /// they are read from `lines_since` on.
    ///
    /// # Errors
    /// What the store says; the context's deadline.
    pub fn read_range(
        &self,
        range: TimeRange,
        lines_since: i64,
        book: &mut impl BookAccess,
    ) -> Result<(), EngineError> {
        self.spans(Rows::OfAnyRun, range, book)?;
        // Errors with their words, then all events, then who is alive.
        let errors = LogCondition::Severity(17..=24);
        self.logs(Rows::OfAnyRun, range, &[errors], true, book)?;
        let named = LogCondition::EventName(TextTest {
            pattern: TextPattern::Equals("".into()),
            negated: true,
        });
        self.logs(Rows::OfAnyRun, range, &[named], false, book)?;
        let recent = TimeRange::new(range.start.0.max(lines_since), range.end.0);
        self.logs(Rows::OfAnyRun, recent, &[], false, book)?;
        // Calls of models and the like know their trace only; a root that says what all cost needs none.
        let in_parts = book.with(|book| -> Vec<TraceId> {
            let runs = book.list(&RunFilter::default(), range.end.0, usize::MAX);
            runs.into_iter()
                .filter(|run| !run.state.is_final() || run.cost.is_none())
                .filter(|run| run.trace_id != [0; 16])
                .map(|run| TraceId(run.trace_id))
                .take(TRACES_MAX)
                .collect()
        });
        self.traces(&in_parts, book)
    }

    /// Reads a run by its id, or by its trace id, whenever it was. `book` lends what is usual for its
    /// pipeline to nobody: give an empty one.
    ///
    /// # Errors
    /// As [`StoredRuns::read_range`].
    pub fn read_run(&self, id: &str, book: &mut RunBook) -> Result<Option<Run>, EngineError> {
        self.read_by_id(id, book)?;
        if book.get(id).is_none()
            && let Some(trace) = trace_id(id)
        {
            self.traces(&[trace], book)?;
            self.logs_of_trace(trace, book)?;
            if let Some(run_id) = book.get(id).map(|run| run.run_id.clone()) {
                self.read_by_id(&run_id, book)?;
            }
        }
        let Some(run) = book.get(id) else {
            return Ok(None);
        };
        if run.trace_id != [0; 16] {
            let (id, trace) = (run.run_id.clone(), TraceId(run.trace_id));
            self.traces(&[trace], book)?;
            return Ok(book.get(&id).cloned());
        }
        Ok(Some(run.clone()))
    }

    fn read_by_id(&self, id: &str, book: &mut impl BookAccess) -> Result<(), EngineError> {
        // All times for rows that name the run; if there are none, it may be a resource of these days.
        for range in [
            TimeRange::ALL,
            TimeRange::new(self.now.saturating_sub(RESOURCE_RANGE_NS), self.now),
        ] {
            self.spans(Rows::OfRun(id), range, book)?;
            self.logs(Rows::OfRun(id), range, &[], true, book)?;
            if book.with(|book| book.get(id).is_some()) {
                break;
            }
        }
        Ok(())
    }

    /// The conditions under which a row of a range names a run, one for each place where the id may stand.
    fn places(
        &self,
        rows: Rows<'_>,
        range: TimeRange,
    ) -> Vec<(AttributeScope, Arc<str>, ValueTest)> {
        let test = match rows {
            Rows::OfAnyRun => ValueTest::Present,
            Rows::OfRun(id) => ValueTest::Text(TextTest {
                pattern: TextPattern::Equals(id.into()),
                negated: false,
            }),
        };
        let length = range.end.0.saturating_sub(range.start.0);
        let scopes: &[AttributeScope] = match length <= RESOURCE_RANGE_NS {
            true => &[AttributeScope::Row, AttributeScope::Resource],
            false => &[AttributeScope::Row],
        };
        let names = self.reader.names().run_id.iter();
        names
            .flat_map(|name| {
                let place =
                    |scope: &AttributeScope| (*scope, Arc::from(name.as_str()), test.clone());
                scopes.iter().map(place).collect::<Vec<_>>()
            })
            .collect()
    }

    fn logs(
        &self,
        rows: Rows<'_>,
        range: TimeRange,
        conditions: &[LogCondition],
        with_body: bool,
        book: &mut impl BookAccess,
    ) -> Result<(), EngineError> {
        for (scope, key, test) in self.places(rows, range) {
            let mut request = LogScanRequest::new(Vec::new(), range);
            request.conditions = conditions.to_vec();
            let condition = LogCondition::Attribute { scope, key, test };
            request.conditions.push(condition);
            request.columns = log_columns(with_body);
            self.log_scan(request, book)?;
        }
        Ok(())
    }

    fn logs_of_trace(&self, trace: TraceId, book: &mut impl BookAccess) -> Result<(), EngineError> {
        let mut request = LogScanRequest::new(Vec::new(), TimeRange::ALL);
        request.conditions = vec![LogCondition::Trace([trace].into())];
        request.columns = log_columns(true);
        self.log_scan(request, book)
    }

    fn log_scan(
        &self,
        mut request: LogScanRequest,
        book: &mut impl BookAccess,
    ) -> Result<(), EngineError> {
        request.attributes = AttributeChoice::Keys(self.reader.keys());
        for block in self.snapshot.scan_log_blocks(self.context, &request)? {
            let block = block?;
            book.with(|book| self.reader.log_block(&block, book))?;
        }
        Ok(())
    }

    fn spans(
        &self,
        rows: Rows<'_>,
        range: TimeRange,
        book: &mut impl BookAccess,
    ) -> Result<(), EngineError> {
        // Together they would cost as much as the dearest: nothing filters blocks by resources.
        let (of_rows, of_resources) = self
            .places(rows, range)
            .into_iter()
            .partition::<Vec<_>, _>(|(scope, ..)| *scope == AttributeScope::Row);
        for places in [of_rows, of_resources] {
            let conditions: Vec<SpanCondition> = places
                .into_iter()
                .map(|(scope, key, test)| SpanCondition::Attribute { scope, key, test })
                .collect();
            if !conditions.is_empty() {
                self.span_scan(SpanCondition::Any(conditions), range, book)?;
            }
        }
        Ok(())
    }

    fn traces(&self, traces: &[TraceId], book: &mut impl BookAccess) -> Result<(), EngineError> {
        if traces.is_empty() {
            return Ok(());
        }
        self.span_scan(SpanCondition::Trace(traces.into()), TimeRange::ALL, book)
    }

    fn span_scan(
        &self,
        condition: SpanCondition,
        range: TimeRange,
        book: &mut impl BookAccess,
    ) -> Result<(), EngineError> {
        let mut request = SpanScanRequest::new(Vec::new(), range);
        request.conditions = vec![condition];
        request.columns = span_columns();
        request.attributes = AttributeChoice::Keys(self.reader.keys());
        for block in self.snapshot.scan_span_blocks(self.context, &request)? {
            let block = block?;
            book.with(|book| self.reader.span_block(&block, book))?;
        }
        Ok(())
    }
}

/// The trace id that 32 hexadecimal digits are.
#[must_use]
pub fn trace_id(text: &str) -> Option<TraceId> {
    let number = u128::from_str_radix(text, 16).ok()?;
    let is_id = text.len() == 32 && number != 0 && !text.starts_with('+');
    is_id.then(|| TraceId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::{
        AttributeValue, Labels, LogRecord, Span, SpanId, SpanKind, SpanStatus, Stream, TimestampNs,
    };
    use chronolith_engine::{Store, StoreOptions};

    use super::super::book::BookLimits;
    use super::super::fold::RunState;
    use super::super::names::RunNames;
    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::String(text.to_owned())
    }

    fn event(run: &str, name: &str, time: i64) -> LogRecord {
        LogRecord {
            time: TimestampNs(time),
            observed_time: TimestampNs(time),
            severity: 9,
            severity_text: String::new(),
            body: text("said"),
            attributes: vec![
                ("run_id".into(), text(run)),
                ("pipeline.name".into(), text("etl")),
            ],
            trace_id: None,
            span_id: None,
            event_name: name.to_owned(),
        }
    }

    fn span(trace: u8, id: u8, parent: Option<u8>, attributes: &[(&str, &str)]) -> Span {
        let pairs = attributes.iter();
        Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId([id; 8]),
            parent_span_id: parent.map(|id| SpanId([id; 8])),
            trace_state: String::new(),
            name: "work".into(),
            kind: SpanKind::Internal,
            time: TimestampNs(i64::from(id)),
            duration_ns: 10,
            status: SpanStatus::Unset,
            status_message: String::new(),
            attributes: pairs.map(|(k, v)| ((*k).to_owned(), text(v))).collect(),
            events: Vec::new(),
            links: Vec::new(),
        }
    }

    fn store(is_sealed: bool) -> Store {
        let store = Store::in_memory(StoreOptions::default()).unwrap();
        let context = RequestContext::new();
        let labels = Labels::from_pairs([("service_name", "runner")]).unwrap();
        let stream = Arc::new(Stream::from_labels(labels.clone()));
        let mut of_job = Stream::from_labels(labels);
        of_job.resource = vec![("run.id".into(), text("job"))];
        let of_job = Arc::new(of_job);
        let mut append = store.begin(&context).unwrap();
        for run in 0..50_i64 {
            let id = format!("run-{run:04}");
            append.log(&stream, event(&id, "run.started", 100 * run));
            append.log(&stream, event(&id, "run.completed", 100 * run + 50));
        }
        append.log(
            &of_job,
            LogRecord {
                attributes: Vec::new(),
                ..event("", "job.started", 7)
            },
        );
        let root = [("execution_id", "traced"), ("pipeline.name", "etl")];
        let stage = [("execution_id", "traced"), ("task.name", "load")];
        append.span(&stream, span(9, 2, Some(1), &stage));
        append.span(&stream, span(9, 3, Some(2), &[("cost_dollars", "0.5")]));
        append.span(&stream, span(9, 1, None, &root));
        append.commit().unwrap();
        if is_sealed {
            store.flush().unwrap();
        }
        store
    }

    #[test]
    fn runs_come_back_from_head_and_segments() {
        for is_sealed in [false, true] {
            let store = store(is_sealed);
            let context = RequestContext::new();
            let snapshot = store.pin(&context).unwrap();
            let reader = RunReader::new(RunNames::default());
            let stored = StoredRuns {
                snapshot: &snapshot,
                context: &context,
                reader: &reader,
                now: 10_000,
            };
            let new = || RunBook::new(BookLimits::default(), Vec::new(), 0);
            let mut book = new();
            assert!(stored.has_any(TimeRange::new(0, 10_000)).unwrap());
            assert!(!stored.has_any(TimeRange::new(6_000, 10_000)).unwrap());
            stored
                .read_range(TimeRange::new(0, 10_000), 0, &mut book)
                .unwrap();
            assert_eq!(book.len(), 52);
            assert_eq!(book.get("job").unwrap().started, Some(7));
            // Twice changes nothing.
            let change = book.get("traced").cloned();
            stored
                .read_range(TimeRange::new(0, 10_000), 0, &mut book)
                .unwrap();
            assert_eq!(book.get("traced").cloned(), change);

            let run = stored.read_run("run-0007", &mut new()).unwrap().unwrap();
            assert_eq!((run.state, run.ended), (RunState::Succeeded, Some(750)));
            assert_eq!(run.pipeline, "etl");
            for id in ["traced", &"09".repeat(16)] {
                let run = stored.read_run(id, &mut new()).unwrap().unwrap();
                assert_eq!((run.run_id.as_str(), run.cost), ("traced", Some(0.5)));
                assert_eq!(run.stages.len(), 1);
            }
            let job = stored.read_run("job", &mut new()).unwrap().unwrap();
            assert_eq!(job.state, RunState::Running);
            for id in ["nobody", &"0a".repeat(16), ""] {
                assert!(stored.read_run(id, &mut new()).unwrap().is_none());
            }
        }
        assert!(trace_id(&"0".repeat(32)).is_none() && trace_id("+1").is_none());
    }
}
