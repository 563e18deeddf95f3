//! Log queries: lines of streams, the newest or the oldest first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chronolith_engine::RequestContext;
use chronolith_engine::rows::RowOrder;

use super::super::ast::LogExpr;
use super::super::pipeline::{Category, Entry, Hints, Pipeline, Runner};
use super::failure::{LogQlError, Result};
use super::pushdown::{self, Needed};
use super::range_scan::RowCounts;
use super::result::{LabelPairs, StreamEntry, StreamResult};
use super::rows::{RowReader, StreamTable};
use super::source::LogSource;

/// In which order lines come, and which of them where there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The oldest first.
    Forward,
    /// The newest first.
    #[default]
    Backward,
}

/// What lines are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinesWanted {
    /// From this time on, ns.
    pub(super) start_ns: i64,
    /// Before this time, ns.
    pub(super) end_ns: i64,
    pub(super) limit: usize,
    pub(super) direction: Direction,
    /// Lines are at least so far apart, ns; 0: however close.
    pub(super) interval_ns: i64,
}

/// Labels of one entry, by where they come from.
type Categorized = (LabelPairs, LabelPairs, LabelPairs);

/// The lines of a log expression.
pub(super) fn run(
    source: &dyn LogSource,
    context: &RequestContext,
    log: &LogExpr,
    wanted: LinesWanted,
    counts: &RowCounts,
) -> Result<Vec<StreamResult>> {
    let mut streams = Vec::new();
    let Some(last_ns) = wanted
        .end_ns
        .checked_sub(1)
        .filter(|l| *l >= wanted.start_ns)
    else {
        return Ok(streams);
    };
    let times = (wanted.start_ns, last_ns);
    let ids_are_columns = source.trace_ids_are_columns();
    let mut pushed = pushdown::push_down(log, times, &Needed::All, true, ids_are_columns)?;
    pushed.request.order = match wanted.direction {
        Direction::Forward => RowOrder::OldestFirst,
        Direction::Backward => RowOrder::NewestFirst,
    };
    if pushed.stages == log.stages.len() && wanted.interval_ns <= 0 {
        pushed.request.limit = Some(wanted.limit);
    }
    let pipeline = Arc::new(Pipeline::new(&log.stages).map_err(LogQlError::Internal)?);
    let hints = Hints::for_filters(&pipeline);
    let mut runner = Runner::new(pipeline, hints, pushed.stages);
    let mut table = StreamTable::default();
    let mut reader = RowReader::default();
    let mut current = None;
    let mut numbers: HashMap<Categorized, usize> = HashMap::new();
    let mut left = wanted.limit;
    let mut last_time: Option<i64> = None;
    if left == 0 {
        return Ok(streams);
    }
    'blocks: for block in source.scan(context, &pushed.request)? {
        context.check()?;
        let block = block?;
        counts.rows.fetch_add(block.rows as u64, Ordering::Relaxed);
        reader.begin(&block);
        for row in 0..block.rows {
            let Some(&time_ns) = block.time.get(row) else {
                break;
            };
            let number = table.number(&block, row)?;
            if current != Some(number) || runner.needs_stream() {
                let info = table.info(number);
                runner.set_stream(number, || info.labels());
                current = Some(number);
            }
            reader.load(&block, row);
            let (line, pairs) = reader.row(&block, row, table.info(number));
            counts
                .line_bytes
                .fetch_add(line.len() as u64, Ordering::Relaxed);
            if !runner.run(Entry { time_ns, line }, pairs) {
                continue;
            }
            let far_enough = last_time.is_none_or(|last| match wanted.direction {
                Direction::Forward => time_ns >= last.saturating_add(wanted.interval_ns),
                Direction::Backward => time_ns <= last.saturating_sub(wanted.interval_ns),
            });
            if wanted.interval_ns > 0 && !far_enough {
                continue;
            }
            last_time = Some(time_ns);
            let text = runner.changed_line().unwrap_or(line);
            let entry = StreamEntry {
                time_ns,
                line: String::from_utf8_lossy(text).into_owned(),
            };
            let labels = categorized(&mut runner);
            let index = match numbers.get(&labels) {
                Some(index) => *index,
                None => {
                    streams.push(StreamResult {
                        stream: labels.0.clone(),
                        metadata: labels.1.clone(),
                        parsed: labels.2.clone(),
                        entries: Vec::new(),
                    });
                    numbers.insert(labels, streams.len() - 1);
                    streams.len() - 1
                }
            };
            streams[index].entries.push(entry);
            counts.passed.fetch_add(1, Ordering::Relaxed);
            left -= 1;
            if left == 0 {
                break 'blocks;
            }
        }
    }
    streams.sort_by(|a, b| {
        let key = |s: &StreamResult| -> Vec<(String, String)> {
            let mut all: Vec<_> = s
                .labels()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect();
            all.sort();
            all
        };
        key(a).cmp(&key(b))
    });
    Ok(streams)
}

fn categorized(runner: &mut Runner) -> Categorized {
    let (labels, names, base) = runner.result();
    let mut all = Categorized::default();
    labels.visit(base, |name, value, category| {
        let pair = (
            names.name(name).to_owned(),
            String::from_utf8_lossy(value).into_owned(),
        );
        match category {
            Category::Stream => all.0.push(pair),
            Category::Metadata => all.1.push(pair),
            Category::Parsed => all.2.push(pair),
        }
    });
    let errors = [
        ("__error__", labels.error),
        ("__error_details__", labels.error_details.as_str()),
    ];
    for (name, value) in errors {
        if !labels.error.is_empty() && !value.is_empty() {
            all.2.push((name.to_owned(), value.to_owned()));
        }
    }
    all.0.sort();
    all.1.sort();
    all.2.sort();
    all
}
