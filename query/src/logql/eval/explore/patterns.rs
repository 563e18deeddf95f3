//! Patterns of the lines that a selector finds, and how many came when.
//!
//! Segments keep lines as templates: of those only outlines are read, each once per block, and which
//! row has which. Lines that fit no template, and lines in the head, are read as they are.

use std::collections::HashMap;

use chronolith_engine::RequestContext;
use chronolith_engine::rows::{AttributeChoice, LogBlock, LogColumnSet, TextColumn, append_text};

use super::super::super::ast::LogExpr;
use super::super::failure::{LogQlError, Result};
use super::super::pushdown::{self, Needed};
use super::super::source::LogSource;
use super::miner::{LogPattern, PatternMiner};

/// What patterns are asked for.
#[derive(Debug, Clone, Copy)]
pub struct PatternRequest {
    /// From this time on, ns.
    pub start_ns: i64,
    /// Up to this time, ns.
    pub end_ns: i64,
    /// Lines are counted in pieces of time of this length, ns; above 0.
    pub step_ns: i64,
    /// The most patterns.
    pub limit: usize,
}

/// The patterns with the most lines first; pieces of time are numbered from the epoch on.
///
/// # Errors
/// A pipeline that is more than filters of lines which the store can run; a step of 0; too many counts; a
/// context that was cancelled or has timed out; damaged data.
pub fn patterns(
    source: &dyn LogSource,
    context: &RequestContext,
    log: &LogExpr,
    wanted: PatternRequest,
) -> Result<Vec<LogPattern>> {
    if wanted.step_ns <= 0 {
        let message = "the step of patterns must be above 0";
        return Err(LogQlError::BadRequest(message.to_owned()));
    }
    let needed = Needed::Names(Vec::new());
    let times = (wanted.start_ns, wanted.end_ns);
    let mut pushed = pushdown::push_down(log, times, &needed, false, false)?;
    if pushed.stages < log.stages.len() {
        let message = "patterns are found with a selector and line filters (|=, !=, |~, !~) only";
        return Err(LogQlError::BadRequest(message.to_owned()));
    }
    pushed.request.columns = LogColumnSet {
        body_outline: true,
        ..LogColumnSet::default()
    };
    pushed.request.attributes = AttributeChoice::None;
    let mut miner = PatternMiner::default();
    for block in source.scan(context, &pushed.request)? {
        context.check()?;
        add_block(&mut miner, &block?, wanted.step_ns).map_err(LogQlError::Limit)?;
    }
    Ok(miner.finish(wanted.limit))
}

fn add_block(miner: &mut PatternMiner, block: &LogBlock, step_ns: i64) -> Result<(), String> {
    let piece = |row: usize| {
        block
            .time
            .get(row)
            .map_or(0, |time| time.div_euclid(step_ns))
    };
    let keyed = match &block.body {
        TextColumn::Dictionary { keys, values } => Some((keys.as_slice(), values.len())),
        _ => None,
    };
    let Some((keys, distinct)) = keyed else {
        for row in 0..block.rows {
            if let Some(number) = miner.place(&line_of(block, row)) {
                miner.count(number, piece(row), 1)?;
            }
        }
        return Ok(());
    };
    // Each distinct text is looked at once.
    let mut counts: HashMap<(i32, i64), u64> = HashMap::new();
    for (row, key) in keys.iter().enumerate() {
        *counts.entry((*key, piece(row))).or_default() += 1;
    }
    let mut placed: Vec<Option<Option<usize>>> = vec![None; distinct];
    let mut first_rows: Vec<(i32, usize)> = keys.iter().copied().zip(0..).collect();
    first_rows.sort_unstable();
    first_rows.dedup_by_key(|(key, _)| *key);
    for (key, row) in first_rows {
        if let Some(place) = placed.get_mut(key as usize) {
            *place = Some(miner.place(&line_of(block, row)));
        }
    }
    for ((key, piece), lines) in counts {
        if let Some(Some(Some(number))) = placed.get(key as usize) {
            miner.count(*number, piece, lines)?;
        }
    }
    Ok(())
}

/// The text of a row, or what its body is as JSON.
fn line_of(block: &LogBlock, row: usize) -> std::borrow::Cow<'_, str> {
    if block.body_kind.get(row) == 0 {
        return String::from_utf8_lossy(block.body.get(row));
    }
    let mut text = Vec::new();
    append_text(&block.body_value(row), &mut text);
    String::from_utf8_lossy(&text).into_owned().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::model::{Labels, Stream, TimestampNs};
    use chronolith_engine::rows::LogBatch;
    use chronolith_engine::{Store, StoreOptions};

    use super::super::super::super::parser::parse_log;
    use super::super::super::source::StoreLogs;
    use super::*;

    /// Lines of two services, one a second.
    fn write(store: &Store, seconds: std::ops::Range<i64>) {
        let mut batch = LogBatch::new();
        let streams: Vec<u32> = ["api", "db"]
            .map(|name| Labels::from_pairs([("app", name)]).unwrap())
            .map(|labels| batch.stream(Arc::new(Stream::from_labels(labels))))
            .to_vec();
        for second in seconds {
            let id = (second as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let time = TimestampNs(second * 1_000_000_000);
            let api = format!(
                "GET /items/{} took {}.{}ms trace={id:016x}",
                id % 97,
                second,
                id % 10
            );
            batch
                .row(streams[0], time)
                .finish_text("", &api, "", |_| {});
            let db = match second % 2 {
                0 => format!("slow query of {} ms on shard {}", id % 1000, id % 7),
                _ => "checkpoint complete".to_owned(),
            };
            batch.row(streams[1], time).finish_text("", &db, "", |_| {});
        }
        let mut append = store.begin(&RequestContext::new()).unwrap();
        append.logs(batch);
        append.commit().unwrap();
    }

    #[test]
    fn head_and_segments_give_the_same_patterns() {
        let options = StoreOptions {
            background: false,
            ..StoreOptions::default()
        };
        let store = Store::in_memory(options).unwrap();
        let source = StoreLogs::new(store.clone());
        let find = |query: &str| {
            let wanted = PatternRequest {
                start_ns: 0,
                end_ns: i64::MAX,
                step_ns: 600_000_000_000,
                limit: 10,
            };
            patterns(
                &source,
                &RequestContext::new(),
                &parse_log(query).unwrap(),
                wanted,
            )
        };
        write(&store, 0..600);
        let head = find(r#"{app=~".+"}"#).unwrap();
        store.flush().unwrap();
        assert_eq!(find(r#"{app=~".+"}"#).unwrap(), head, "from a segment");
        write(&store, 600..1200);
        let both = find(r#"{app=~".+"}"#).unwrap();
        let shown: Vec<_> = both
            .iter()
            .map(|p| (p.pattern.as_str(), &*p.samples))
            .collect();
        assert_eq!(
            shown,
            [
                ("GET <_> took <_> trace=<_>", &[(0, 600), (1, 600)][..]),
                ("checkpoint complete", &[(0, 300), (1, 300)]),
                ("slow query of <_> ms on shard <_>", &[(0, 300), (1, 300)]),
            ]
        );
        let filtered = find(r#"{app="db"} |= "slow""#).unwrap();
        assert_eq!(filtered, both[2..]);
        assert!(find(r#"{app="db"} | json"#).is_err());
    }
}
