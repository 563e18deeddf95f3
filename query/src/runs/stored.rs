//! Runs read back from the store: at the start, and those that are no longer in the book.
//!
//! Rows are found by their run id: filters over the texts of attributes say which blocks have one, as
//! they do for trace ids in bodies, so that a run of last month costs its own blocks.

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

/// Traces of unfinished runs whose other spans are read back.
const TRACES_MAX: usize = 512;

/// Columns of spans that runs are made of.
const SPAN_COLUMNS: SpanColumnSet = SpanColumnSet {
    trace_id: true,
    span_ids: true,
    name: true,
    kind: false,
    duration: true,
    status: true,
    details: true,
    events: true,
    links: false,
};

/// Columns of log records that runs are made of.
const LOG_COLUMNS: LogColumnSet = LogColumnSet {
    observed_time: false,
    severity: true,
    body: false,
    ids: true,
    event_name: true,
};

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
        let unfinished = book.with(|book| -> Vec<TraceId> {
            let runs = book.list(&RunFilter::default(), range.end.0, usize::MAX);
            runs.into_iter()
                .filter(|run| !run.state.is_final() && run.trace_id != [0; 16])
                .map(|run| TraceId(run.trace_id))
                .take(TRACES_MAX)
                .collect()
        });
        self.traces(&unfinished, book)
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
        self.spans(Rows::OfRun(id), TimeRange::ALL, book)?;
        self.logs(Rows::OfRun(id), TimeRange::ALL, &[], true, book)
    }

    /// The conditions under which a row names a run, one for each place where the id may stand.
    fn places(&self, rows: Rows<'_>) -> Vec<(AttributeScope, Arc<str>, ValueTest)> {
        let test = match rows {
            Rows::OfAnyRun => ValueTest::Present,
            Rows::OfRun(id) => ValueTest::Text(TextTest {
                pattern: TextPattern::Equals(id.into()),
                negated: false,
            }),
        };
        let scopes = [AttributeScope::Row, AttributeScope::Resource];
        let names = self.reader.names().run_id.iter();
        names
            .flat_map(|name| scopes.map(|scope| (scope, Arc::from(name.as_str()), test.clone())))
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
        for (scope, key, test) in self.places(rows) {
            let mut request = LogScanRequest::new(Vec::new(), range);
            request.conditions = conditions.to_vec();
            let condition = LogCondition::Attribute { scope, key, test };
            request.conditions.push(condition);
            request.columns = LogColumnSet {
                body: with_body,
                ..LOG_COLUMNS
            };
            self.log_scan(request, book)?;
        }
        Ok(())
    }

    fn logs_of_trace(&self, trace: TraceId, book: &mut impl BookAccess) -> Result<(), EngineError> {
        let mut request = LogScanRequest::new(Vec::new(), TimeRange::ALL);
        request.conditions = vec![LogCondition::Trace([trace].into())];
        request.columns = LogColumnSet {
            body: true,
            ..LOG_COLUMNS
        };
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
        let places = self.places(rows).into_iter();
        let places = places.map(|(scope, key, test)| SpanCondition::Attribute { scope, key, test });
        self.span_scan(SpanCondition::Any(places.collect()), range, book)
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
        request.columns = SPAN_COLUMNS;
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
