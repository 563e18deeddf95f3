//! How much there is: streams, lines and bytes, and their distribution over labels and time.
//!
//! Sizes come from the store without any text being made; of part of a block they are its share.

use std::collections::{BTreeMap, HashSet};

use chronolith_engine::model::TimeRange;
use chronolith_engine::rows::{LogBlock, LogColumnSet, LogScanRequest};
use chronolith_engine::{MatchOp, Matcher, RequestContext};

use super::super::failure::{LogQlError, Result};
use super::super::result::LabelPairs;
use super::super::rows::StreamTable;
use super::super::source::LogSource;

/// Numbers that an answer may hold while it is made.
const CELLS_MAX: usize = 4_000_000;

/// What a selector finds in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Streams with lines.
    pub streams: u64,
    /// Runs of lines of one stream that the store keeps together.
    pub chunks: u64,
    /// Lines.
    pub entries: u64,
    /// Bytes of the lines.
    pub bytes: u64,
}

/// What bytes are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeBy {
    /// Combinations of labels.
    Series,
    /// Names of labels: a line counts for each that its stream has.
    Labels,
}

/// What volumes are asked for.
#[derive(Debug, Clone)]
pub struct VolumeRequest {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// When.
    pub range: TimeRange,
    /// The labels that are told apart; streams must have all of them. If there are none, the labels that
    /// the matchers name, and without matchers all.
    pub target_labels: Vec<String>,
    /// What is added up.
    pub by: VolumeBy,
    /// Length of the pieces of time, ns; `None`: the whole range is one.
    pub step_ns: Option<i64>,
    /// The most answers, the largest.
    pub limit: usize,
}

/// Bytes of lines with these labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The labels; of a label by its name alone, its value is empty.
    pub labels: LabelPairs,
    /// Bytes in all.
    pub bytes: u64,
    /// Where a piece of time begins (ns), and its bytes; only pieces with lines.
    pub points: Vec<(i64, u64)>,
}

fn scan_request(matchers: &[Matcher], range: TimeRange) -> LogScanRequest {
    LogScanRequest {
        columns: LogColumnSet {
            body_size: true,
            ..LogColumnSet::default()
        },
        ..LogScanRequest::new(matchers.to_vec(), range)
    }
}

/// Calls `each` with the number of a run's stream and its rows.
fn runs(
    table: &mut StreamTable,
    block: &LogBlock,
    mut each: impl FnMut(&StreamTable, usize, std::ops::Range<usize>) -> Result<()>,
) -> Result<()> {
    let mut start = 0;
    while start < block.rows {
        let stream = block.stream.get(start);
        let mut end = start + 1;
        while end < block.rows && block.stream.get(end) == stream {
            end += 1;
        }
        let number = table.number(block, start)?;
        each(table, number, start..end)?;
        start = end;
    }
    Ok(())
}

/// Counts what the matchers find.
///
/// # Errors
/// A context that was cancelled or has timed out; damaged data.
pub fn log_stats(
    source: &dyn LogSource,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<LogStats> {
    let mut stats = LogStats::default();
    let mut table = StreamTable::default();
    // Each source of blocks counts streams for itself.
    let mut streams = HashSet::new();
    for block in source.scan(context, &scan_request(matchers, range))? {
        context.check()?;
        let block = block?;
        let mut in_block = HashSet::new();
        runs(&mut table, &block, |table, number, rows| {
            stats.entries += rows.len() as u64;
            for row in rows {
                stats.bytes += block.body_size.get(row).unsigned_abs();
            }
            if in_block.insert(number) {
                streams.insert(table.info(number).label_bytes().to_vec());
            }
            Ok(())
        })?;
        stats.chunks += in_block.len() as u64;
    }
    stats.streams = streams.len() as u64;
    Ok(stats)
}

/// Adds up bytes; the largest volumes first.
///
/// # Errors
/// A step that is not above 0, or too small for the range; a context that was cancelled or has timed
/// out; damaged data.
pub fn volumes(
    source: &dyn LogSource,
    context: &RequestContext,
    wanted: &VolumeRequest,
) -> Result<Vec<Volume>> {
    let start_ns = wanted.range.start.0;
    let span = wanted.range.end.0.saturating_sub(start_ns).max(0);
    let (step_ns, pieces) = match wanted.step_ns {
        None => (i64::MAX, 1),
        Some(step) if step > 0 => (step, (span / step).saturating_add(1)),
        Some(_) => {
            let message = "the step of volumes must be above 0";
            return Err(LogQlError::BadRequest(message.to_owned()));
        }
    };
    let pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
    let mut matchers = wanted.matchers.clone();
    for name in &wanted.target_labels {
        if !matchers.iter().any(|matcher| matcher.name() == name) {
            matchers.push(Matcher::new(name, MatchOp::NotEqual, "")?);
        }
    }
    let mut grouper = Grouper {
        names: names_told_apart(wanted),
        by: wanted.by,
        groups: BTreeMap::new(),
        of_stream: Vec::new(),
        cells: Vec::new(),
        pieces,
    };
    let mut table = StreamTable::default();
    for block in source.scan(context, &scan_request(&matchers, wanted.range))? {
        context.check()?;
        let block = block?;
        runs(&mut table, &block, |table, number, rows| {
            grouper.know(table, number)?;
            for row in rows {
                let time = block.time.get(row).copied().unwrap_or(start_ns);
                let piece = time.saturating_sub(start_ns) / step_ns;
                let piece = usize::try_from(piece).unwrap_or(0).min(pieces - 1);
                grouper.add(number, piece, block.body_size.get(row).unsigned_abs());
            }
            Ok(())
        })?;
    }
    Ok(grouper.finish(start_ns, step_ns, wanted.limit))
}

/// `None`: all labels.
fn names_told_apart(wanted: &VolumeRequest) -> Option<Vec<String>> {
    if !wanted.target_labels.is_empty() {
        return Some(wanted.target_labels.clone());
    }
    let names: Vec<String> = wanted
        .matchers
        .iter()
        .map(|m| m.name().to_owned())
        .collect();
    (!names.is_empty()).then_some(names)
}

/// Adds up by what is told apart.
struct Grouper {
    names: Option<Vec<String>>,
    by: VolumeBy,
    /// Place among the cells.
    groups: BTreeMap<LabelPairs, usize>,
    /// The groups of each stream.
    of_stream: Vec<Option<Vec<usize>>>,
    /// Bytes per group and piece of time.
    cells: Vec<u64>,
    pieces: usize,
}

impl Grouper {
    /// Finds the groups of a stream that has not been met before.
    fn know(&mut self, table: &StreamTable, number: usize) -> Result<()> {
        if self.of_stream.len() <= number {
            self.of_stream.resize(number + 1, None);
        }
        if self.of_stream[number].is_some() {
            return Ok(());
        }
        let names = &self.names;
        let is_wanted = |name: &str| {
            names
                .as_ref()
                .is_none_or(|all| all.iter().any(|n| n == name))
        };
        let labels = table
            .info(number)
            .labels()
            .filter(|(name, _)| is_wanted(name));
        let keys: Vec<LabelPairs> = match self.by {
            VolumeBy::Series => {
                vec![labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()]
            }
            VolumeBy::Labels => labels
                .map(|(n, _)| vec![(n.to_owned(), String::new())])
                .collect(),
        };
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            let next = self.groups.len();
            let place = *self.groups.entry(key).or_insert(next);
            if place == next {
                let cells = self.groups.len().saturating_mul(self.pieces);
                if cells > CELLS_MAX {
                    return Err(LogQlError::Limit(format!(
                        "more than {CELLS_MAX} volumes; ask for fewer labels, a larger step or a shorter range"
                    )));
                }
                self.cells.resize(cells, 0);
            }
            places.push(place);
        }
        self.of_stream[number] = Some(places);
        Ok(())
    }

    #[inline]
    fn add(&mut self, number: usize, piece: usize, bytes: u64) {
        for place in self.of_stream[number].iter().flatten() {
            self.cells[place * self.pieces + piece] += bytes;
        }
    }

    fn finish(self, start_ns: i64, step_ns: i64, limit: usize) -> Vec<Volume> {
        let mut volumes: Vec<Volume> = self
            .groups
            .into_iter()
            .map(|(labels, place)| {
                let cells = &self.cells[place * self.pieces..(place + 1) * self.pieces];
                let begins =
                    |piece: usize| start_ns.saturating_add(step_ns.saturating_mul(piece as i64));
                let points = cells.iter().enumerate().filter(|(_, bytes)| **bytes > 0);
                Volume {
                    labels,
                    bytes: cells.iter().sum(),
                    points: points
                        .map(|(piece, bytes)| (begins(piece), *bytes))
                        .collect(),
                }
            })
            .collect();
        // Of equal volumes those with the first labels come first.
        volumes.sort_by_key(|volume| std::cmp::Reverse(volume.bytes));
        volumes.truncate(limit);
        volumes
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::source::MemoryLogs;
    use super::*;

    fn logs() -> MemoryLogs {
        let logs = MemoryLogs::new();
        for second in 0..10 {
            let time = second * 1_000_000_000;
            logs.push(&[("app", "a"), ("pod", "1")], time, "12345", &[])
                .unwrap();
            logs.push(&[("app", "a"), ("pod", "2")], time, "1", &[])
                .unwrap();
            logs.push(&[("app", "b")], time, "1234567", &[]).unwrap();
        }
        logs
    }

    fn found(
        target: &[&str],
        by: VolumeBy,
        step_ns: Option<i64>,
        matchers: Vec<Matcher>,
    ) -> Vec<Volume> {
        let wanted = VolumeRequest {
            matchers,
            range: TimeRange::new(0, 9_999_999_999),
            target_labels: target.iter().map(|t| (*t).to_owned()).collect(),
            by,
            step_ns,
            limit: 10,
        };
        volumes(&logs(), &RequestContext::new(), &wanted).unwrap()
    }

    fn shown(volumes: &[Volume]) -> Vec<(String, u64)> {
        let text = |v: &Volume| {
            v.labels
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
        };
        volumes
            .iter()
            .map(|v| (text(v).join(","), v.bytes))
            .collect()
    }

    #[test]
    fn bytes_are_added_up_by_labels() {
        let all = |target: &[&str], by| shown(&found(target, by, None, Vec::new()));
        let pair = |text: &str, bytes| (text.to_owned(), bytes);
        assert_eq!(
            all(&["app"], VolumeBy::Series),
            [pair("app=b", 70), pair("app=a", 60)]
        );
        assert_eq!(
            all(&[], VolumeBy::Series),
            [
                pair("app=b", 70),
                pair("app=a,pod=1", 50),
                pair("app=a,pod=2", 10)
            ]
        );
        assert_eq!(
            all(&[], VolumeBy::Labels),
            [pair("app=", 130), pair("pod=", 60)]
        );
        // Streams without the label do not count.
        assert_eq!(
            all(&["pod"], VolumeBy::Series),
            [pair("pod=1", 50), pair("pod=2", 10)]
        );
        let matcher = Matcher::new("app", MatchOp::Equal, "a").unwrap();
        let of_matcher = found(&[], VolumeBy::Series, None, vec![matcher]);
        assert_eq!(shown(&of_matcher), [pair("app=a", 60)]);
    }

    #[test]
    fn pieces_of_time_begin_with_the_range() {
        let by_time = found(&["app"], VolumeBy::Series, Some(4_000_000_000), Vec::new());
        assert_eq!(
            by_time[0].points,
            [(0, 28), (4_000_000_000, 28), (8_000_000_000, 14)]
        );
        let wanted = VolumeRequest {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            target_labels: Vec::new(),
            by: VolumeBy::Series,
            step_ns: Some(1),
            limit: 1,
        };
        let refused = volumes(&logs(), &RequestContext::new(), &wanted);
        assert!(matches!(refused, Err(LogQlError::Limit(_))));
    }

    #[test]
    fn statistics_count_streams_lines_and_bytes() {
        let stats = log_stats(&logs(), &RequestContext::new(), &[], TimeRange::ALL).unwrap();
        let expected = LogStats {
            streams: 3,
            chunks: 3,
            entries: 30,
            bytes: 130,
        };
        assert_eq!(stats, expected);
    }
}
