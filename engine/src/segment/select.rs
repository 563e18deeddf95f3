//! Matchers to rows.
//!
//! Each matcher becomes the set of rows that pass it, found over whichever of the label's values are
//! fewer to look at: the ones that pass, or the ones that do not. Literals and alternations are looked
//! up, a literal prefix narrows the values by binary search, and only what is left is tested value by
//! value. Once few rows are left, the remaining expensive matchers look at those rows instead. What a
//! pattern finds among many values is remembered ([`super::select_cache`]): segments never change.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::index::{MatchOp, Matcher};

use super::file::SegmentFile;
use super::format::SectionKind;
use super::label_index::LabelIndex;
use super::select_cache::{self, CacheKey};
use super::series_table::SeriesTable;

/// What a pattern finds among fewer values than this is found again as fast as it is remembered.
const REMEMBERED_VALUES_MIN: u32 = 256;

/// What is needed to evaluate matchers over one segment.
pub(crate) struct Selector<'a> {
    pub(crate) file: &'a SegmentFile,
    pub(crate) index: &'a LabelIndex,
    pub(crate) series: &'a SeriesTable,
    pub(crate) row_count: u32,
}

impl Selector<'_> {
    /// The rows that pass all matchers.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        let mut ordered: Vec<(u64, &Matcher)> =
            matchers.iter().map(|m| (self.estimate(m), m)).collect();
        ordered.sort_by_key(|(cost, _)| *cost);
        let mut rows: Option<RoaringBitmap> = None;
        for (cost, matcher) in ordered {
            let next = match rows {
                None => self.matching(matcher)?,
                // Testing a row costs a few times what testing a value does.
                Some(rows) if rows.len() * 4 < cost => self.filter(rows, matcher)?,
                Some(rows) => rows & self.matching(matcher)?,
            };
            if next.is_empty() {
                return Ok(next);
            }
            rows = Some(next);
        }
        Ok(rows.unwrap_or_else(|| self.all()))
    }

    fn all(&self) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..self.row_count);
        rows
    }

    /// About how many values have to be looked at.
    fn estimate(&self, matcher: &Matcher) -> u64 {
        match (matcher.op(), self.index.label(matcher.name())) {
            (_, None) => 0,
            (MatchOp::Equal | MatchOp::NotEqual, Some(_)) => 1,
            (_, Some(label)) => match matcher.pattern_literals() {
                Some(literals) => 2 * literals.len() as u64,
                None => u64::from(self.index.value_count(label)),
            },
        }
    }

    /// The rows that pass one matcher.
    fn matching(&self, matcher: &Matcher) -> Result<RoaringBitmap> {
        let passes_missing = matcher.matches_missing();
        let Some(label) = self.index.label(matcher.name()) else {
            return Ok(if passes_missing {
                self.all()
            } else {
                RoaringBitmap::new()
            });
        };
        if !passes_missing && let Some(values) = matcher.literal_values() {
            return self.with_values(label, &values);
        }
        if matcher.op() == MatchOp::NotEqual {
            let without = self.with_values(label, &[matcher.value()])?;
            let from = if passes_missing {
                self.all()
            } else {
                self.index.presence(self.file, label)?
            };
            return Ok(from - without);
        }
        if matcher.op() == MatchOp::Equal {
            // With the empty string: no stored value is empty.
            return Ok(self.all() - self.index.presence(self.file, label)?);
        }
        if matcher.passes_all() {
            return Ok(self.all());
        }
        self.scan_values(label, matcher, passes_missing)
    }

    fn with_values(&self, label: u32, values: &[&str]) -> Result<RoaringBitmap> {
        let mut rows = RoaringBitmap::new();
        for value in values.iter().filter(|v| !v.is_empty()) {
            if let Ok(rank) = self.index.find_value(self.file, label, value)? {
                self.index.add_postings(self.file, label, rank, &mut rows)?;
            }
        }
        Ok(rows)
    }

    /// The rows that pass `=~` or `!~`; remembered when many values had to be tested.
    fn scan_values(
        &self,
        label: u32,
        matcher: &Matcher,
        passes_missing: bool,
    ) -> Result<RoaringBitmap> {
        let key = || CacheKey {
            index: self.index.id(),
            label,
            op: matcher.op(),
            pattern: Arc::clone(matcher.shared_value()),
        };
        let is_costly = matcher.pattern_literals().is_none()
            && self.index.value_count(label) >= REMEMBERED_VALUES_MIN;
        if is_costly && let Some(known) = select_cache::get(&key()) {
            return Ok(RoaringBitmap::clone(&known));
        }
        let hits = self.hits(label, matcher)?;
        let rows = self.rows_of_hits(label, matcher, passes_missing, &hits)?;
        if is_costly {
            select_cache::insert(key(), &rows);
        }
        Ok(rows)
    }

    /// Ranks of the values that the pattern of `=~` or `!~` matches, ascending.
    fn hits(&self, label: u32, matcher: &Matcher) -> Result<Vec<u32>> {
        let mut hits = Vec::new();
        if let Some(literals) = matcher.pattern_literals() {
            for literal in literals {
                hits.extend(self.index.find_value(self.file, label, literal)?.ok());
            }
            hits.sort_unstable();
            hits.dedup();
            return Ok(hits);
        }
        let prefix = matcher.pattern_prefix();
        for rank in self.index.prefix_ranks(self.file, label, prefix)? {
            if matcher.pattern_matches(self.index.value(self.file, label, rank)?) {
                hits.push(rank);
            }
        }
        Ok(hits)
    }

    /// From the values that a pattern matches to rows, over those values or over the others, whichever
    /// are fewer.
    fn rows_of_hits(
        &self,
        label: u32,
        matcher: &Matcher,
        passes_missing: bool,
        hits: &[u32],
    ) -> Result<RoaringBitmap> {
        let value_count = self.index.value_count(label);
        let others = || {
            let mut hits = hits.iter().copied().peekable();
            (0..value_count).filter(move |rank| hits.next_if_eq(rank).is_none())
        };
        let hits_are_few = hits.len() <= value_count as usize / 2;
        let hits_pass = matcher.op() == MatchOp::Regex;
        if hits_are_few == hits_pass && !passes_missing {
            // The few pass.
            return match hits_pass {
                true => self.union(label, hits.iter().copied()),
                false => self.union(label, others()),
            };
        }
        let failing = match hits_pass {
            true => self.union(label, others())?,
            false => self.union(label, hits.iter().copied())?,
        };
        let from = match passes_missing {
            true => self.all(),
            false => self.index.presence(self.file, label)?,
        };
        Ok(from - failing)
    }

    fn union(&self, label: u32, ranks: impl IntoIterator<Item = u32>) -> Result<RoaringBitmap> {
        let mut rows = RoaringBitmap::new();
        for rank in ranks {
            self.index.add_postings(self.file, label, rank, &mut rows)?;
        }
        Ok(rows)
    }

    /// Tests the value of each row.
    fn filter(&self, rows: RoaringBitmap, matcher: &Matcher) -> Result<RoaringBitmap> {
        let Some(label) = self.index.label(matcher.name()) else {
            return Ok(if matcher.matches_missing() {
                rows
            } else {
                RoaringBitmap::new()
            });
        };
        let mut kept = Vec::new();
        for row in rows {
            let rank = self.series.rank(self.file, row, label)?;
            let value = match rank {
                Some(rank) => self.index.value(self.file, label, rank)?,
                None => "",
            };
            if matcher.matches(value) {
                kept.push(row);
            }
        }
        Ok(RoaringBitmap::from_sorted_iter(kept).unwrap_or_default())
    }

    /// Checks that values ascend and that postings and series table say the same of every row, label by
    /// label: for verify.
    pub(crate) fn verify(&self) -> Result<()> {
        let place = self.file.section(SectionKind::Postings).offset;
        for label in 0..self.index.label_count() {
            let name = self.index.label_name(label);
            let mut rank_of_row: Vec<Option<u32>> = vec![None; self.row_count as usize];
            let mut before = "";
            for rank in 0..self.index.value_count(label) {
                let value = self.index.value(self.file, label, rank)?;
                if value <= before {
                    let expected = format!("values of {name} in ascending order");
                    return Err(self.file.corrupt(place, &expected, value));
                }
                before = value;
                for row in self.union(label, [rank])? {
                    let slot = rank_of_row.get_mut(row as usize);
                    if slot.is_none_or(|slot| slot.replace(rank).is_some()) {
                        let expected = format!("one value of {name} for each row");
                        let found = format!("two for row {row}");
                        return Err(self.file.corrupt(place, &expected, &found));
                    }
                }
            }
            let presence = self.index.presence(self.file, label)?;
            for (row, rank) in (0..).zip(rank_of_row) {
                if self.series.rank(self.file, row, label)? != rank
                    || presence.contains(row) != rank.is_some()
                {
                    return Err(self.file.corrupt(
                        place,
                        &format!("postings of {name} that agree with the series table"),
                        &format!("others for row {row}"),
                    ));
                }
            }
        }
        Ok(())
    }
}
