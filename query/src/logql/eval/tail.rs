//! Lines as they arrive: a log query over one batch of records after the other.

use std::sync::Arc;

use chronolith_engine::model::Stream;
use chronolith_engine::rows::{LogBatch, LogScanRequest};
use chronolith_engine::{EngineError, Matcher, RequestContext};

use super::super::ast::LogExpr;
use super::failure::Result;
use super::log_query::{self, Direction, LinesWanted};
use super::pushdown;
use super::range_scan::RowCounts;
use super::result::StreamResult;
use super::source::{LogBlocks, LogSource, select};

/// A log query that is asked of batches instead of a store.
#[derive(Debug, Clone)]
pub struct LineTail {
    log: LogExpr,
    matchers: Vec<Matcher>,
}

/// A batch as the only thing there is.
struct OneBatch(Arc<LogBatch>);

impl LogSource for OneBatch {
    fn scan(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlocks, EngineError> {
        context.check()?;
        let block = select(&self.0, context, request);
        Ok(Box::new(std::iter::once(Ok(block))))
    }

    fn trace_ids_are_columns(&self) -> bool {
        true
    }
}

impl LineTail {
    /// A tail of `log`.
    ///
    /// # Errors
    /// A regex that does not compile.
    pub fn new(log: LogExpr) -> Result<Self> {
        Ok(Self {
            matchers: pushdown::matchers(&log.matchers)?,
            log,
        })
    }

    /// Whether lines of a stream may pass.
    #[must_use]
    pub fn wants(&self, context: &RequestContext, stream: &Stream) -> bool {
        let all = self.matchers.iter().chain(&*context.required_matchers);
        all.into_iter()
            .all(|matcher| matcher.matches_labels(&stream.labels))
    }

    /// The lines of a batch that pass, the oldest first.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out; a pipeline that fails.
    pub fn lines(
        &self,
        context: &RequestContext,
        batch: &Arc<LogBatch>,
    ) -> Result<Vec<StreamResult>> {
        if !batch
            .streams()
            .iter()
            .any(|stream| self.wants(context, stream))
        {
            return Ok(Vec::new());
        }
        let wanted = LinesWanted {
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            limit: usize::MAX,
            direction: Direction::Forward,
            interval_ns: 0,
        };
        let source = OneBatch(Arc::clone(batch));
        log_query::run(&source, context, &self.log, wanted, &RowCounts::default())
    }
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::{Labels, TimestampNs};

    use super::super::super::parser::parse_log;
    use super::*;

    #[test]
    fn lines_of_a_batch_go_through_the_pipeline() {
        let mut batch = LogBatch::new();
        for (app, lines) in [("a", ["n=2", "n=1"]), ("b", ["n=3", "n=4"])] {
            let labels = Labels::from_pairs([("app", app)]).unwrap();
            let stream = batch.stream(Arc::new(Stream::from_labels(labels)));
            for (index, line) in lines.iter().enumerate() {
                let time = TimestampNs(10 - index as i64);
                batch.row(stream, time).finish_text("", line, "", |_| {});
            }
        }
        let batch = Arc::new(batch);
        let lines = |query: &str| -> Vec<String> {
            let tail = LineTail::new(parse_log(query).unwrap()).unwrap();
            let found = tail.lines(&RequestContext::new(), &batch).unwrap();
            let entries = found.iter().flat_map(|stream| &stream.entries);
            entries.map(|entry| entry.line.clone()).collect()
        };
        assert_eq!(lines(r#"{app="a"}"#), ["n=1", "n=2"]);
        assert_eq!(
            lines(r#"{app=~".+"} | logfmt | n > 1 | line_format "{{.n}}""#),
            ["2", "3", "4"]
        );
        assert!(lines(r#"{app="c"}"#).is_empty());
    }
}
