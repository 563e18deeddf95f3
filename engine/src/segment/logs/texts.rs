//! Texts of many distinct values: encoding by templates, and searching without putting lines together.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::codec::EncodeEffort;
use crate::codec::templates::{RowSet, TemplateEncoder, TextBlock, TextSearch};
use crate::error::Result;
use crate::index::text_filter::TextFilterBuilder;
use crate::rows::{Selection, TextPattern, TextTest};

use super::attributes_builder::TextEncoder;

/// Encodes bodies and text attributes; kept from block to block for what it has learnt.
#[derive(Default)]
pub(super) struct Texts(TemplateEncoder);

impl Texts {
    /// Encodes, and puts what the texts have into a filter.
    pub(super) fn encode_filtered(
        &mut self,
        values: &[&[u8]],
        effort: EncodeEffort,
        filter: &mut TextFilterBuilder,
        out: &mut Vec<u8>,
    ) {
        self.0.encode_values_shown(values, effort, filter, out);
    }
}

impl TextEncoder for Texts {
    fn encode(&mut self, values: &[&[u8]], effort: EncodeEffort, out: &mut Vec<u8>) {
        self.0.encode_values(values, effort, out);
    }
}

/// Compiled patterns that are kept: a scan asks for the same in every block.
const SEARCHES_MAX: usize = 16;

/// What a compiled pattern was made from.
#[derive(Clone, PartialEq, Eq)]
struct SearchKey {
    is_regex: bool,
    pattern: Box<str>,
}

/// Compiled patterns, the one used last in front.
static SEARCHES: LazyLock<Mutex<Vec<(SearchKey, Arc<TextSearch>)>>> = LazyLock::new(Mutex::default);

fn search_for(is_regex: bool, pattern: &str) -> Result<Arc<TextSearch>> {
    let mut known = SEARCHES.lock();
    let place = known
        .iter()
        .position(|(key, _)| key.is_regex == is_regex && *key.pattern == *pattern);
    if let Some(place) = place {
        known[..=place].rotate_right(1);
        return Ok(Arc::clone(&known[0].1));
    }
    drop(known);
    let search = Arc::new(match is_regex {
        true => TextSearch::regex(pattern)?,
        false => TextSearch::literal(pattern.as_bytes())?,
    });
    let key = SearchKey {
        is_regex,
        pattern: pattern.into(),
    };
    let mut known = SEARCHES.lock();
    known.insert(0, (key, Arc::clone(&search)));
    known.truncate(SEARCHES_MAX);
    Ok(search)
}

/// A pattern, compiled for blocks of templates.
enum Search {
    One(Arc<TextSearch>),
    Any(Vec<Search>),
}

impl Search {
    fn new(pattern: &TextPattern) -> Result<Self> {
        Ok(match pattern {
            TextPattern::Equals(text) => {
                let whole = format!(r"\A{}\z", regex_syntax::escape(text));
                Self::One(search_for(true, &whole)?)
            }
            TextPattern::Contains(text) => Self::One(search_for(false, text)?),
            TextPattern::Regex(regex) => Self::One(search_for(true, regex.as_str())?),
            TextPattern::AnyOf(patterns) => {
                Self::Any(patterns.iter().map(Self::new).collect::<Result<_>>()?)
            }
        })
    }

    /// Adds the rows among `within` that match to `found`.
    fn find(
        &self,
        block: &TextBlock<'_>,
        within: &RowSet,
        found: &mut RowSet,
    ) -> std::result::Result<(), crate::codec::CodecError> {
        match self {
            Self::One(search) => {
                let hits = block.search(search, within)?;
                hits.iter().for_each(|row| found.insert(row));
                Ok(())
            }
            Self::Any(searches) => searches
                .iter()
                .try_for_each(|search| search.find(block, within, found)),
        }
    }
}

/// A test that is ready for blocks of templates.
pub(super) struct PreparedTest {
    search: Search,
    negated: bool,
}

impl PreparedTest {
    /// `None` for a pattern that cannot be searched so, and must be tested line by line.
    pub(super) fn new(test: &TextTest) -> Option<Self> {
        Some(Self {
            search: Search::new(&test.pattern).ok()?,
            negated: test.negated,
        })
    }

    /// Keeps the rows whose text passes.
    pub(super) fn retain(
        &self,
        block: &TextBlock<'_>,
        rows: &mut Selection,
    ) -> std::result::Result<(), crate::codec::CodecError> {
        let within = match &*rows {
            Selection::All(_) => RowSet::all(block.len()),
            Selection::Rows(rows) => {
                let mut within = RowSet::none(block.len());
                rows.iter().for_each(|row| within.insert(*row));
                within
            }
        };
        let mut found = RowSet::none(block.len());
        self.search.find(block, &within, &mut found)?;
        let found: Vec<u32> = found.iter().collect();
        match self.negated {
            true => rows.remove(&found),
            false if found.len() == block.len() => {}
            false => *rows = Selection::Rows(found),
        }
        Ok(())
    }
}
