//! Searching a block without putting its lines together.
//!
//! The pattern (a literal is one too) is an automaton. It runs over the static text of a template once;
//! at a slot it goes on in all states that a value of the slot's kind can lead to. Often these are few,
//! and the text behind the slot leads all of them to one: a search for words is decided so for all rows
//! of nearly every template, with nothing decoded. Where states stay apart to the end, the first slot at
//! which they parted is decoded, and each row goes on from there with its own state; what lies ahead of
//! a state is remembered, so that a row costs its slot's bytes and a look-up.
//!
//! This is exact: what spans text and slots is found, since the state goes through both.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use memchr::memmem;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::Hir;
use smallvec::{SmallVec, smallvec};

use super::super::CodecError;
use super::super::strings::Strings;
use super::columns::SlotValues;
use super::reader::{TemplateBlock, TemplateRef};
use super::tokenize::SlotKind;
use crate::error::EngineError;
use crate::limits;

/// Bytes of an automaton's table, and of memory to make it; larger patterns run on decoded lines.
const DFA_BYTES_MAX: usize = 1 << 20;
const DETERMINIZE_BYTES_MAX: usize = 8 << 20;
/// States that are followed at once; with more, rows are looked at.
const REACH_MAX: usize = 16;
/// States behind a slot for which what is ahead is remembered.
const AHEAD_MAX: usize = 16;

/// A compiled question: which lines contain this?
#[derive(Debug)]
pub struct TextSearch {
    /// None for patterns that are too large for it or need more than an automaton has.
    dfa: Option<dense::DFA<Vec<u32>>>,
    start: StateID,
    regex: regex::bytes::Regex,
    /// Of a plain literal.
    literal: Option<memmem::Finder<'static>>,
}

impl TextSearch {
    /// Lines that contain these bytes.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] if they are too many.
    pub fn literal(literal: &[u8]) -> Result<Self, EngineError> {
        let mut pattern = String::from("(?-u)");
        for &byte in literal {
            pattern.push_str(&format!("\\x{byte:02x}"));
        }
        let mut search = Self::compile(&pattern)?;
        search.literal = Some(memmem::Finder::new(literal).into_owned());
        Ok(search)
    }

    /// Lines that contain this text in any mixture of upper and lower case, by Unicode's simple
    /// folding.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] if it is too long.
    pub fn literal_ignoring_case(literal: &str) -> Result<Self, EngineError> {
        Self::compile(&format!("(?i){}", regex_syntax::escape(literal)))
    }

    /// Lines in which this regex (syntax of the `regex` crate, flags in the pattern) matches somewhere.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] for patterns that are wrong or too large.
    pub fn regex(pattern: &str) -> Result<Self, EngineError> {
        Self::compile(pattern)
    }

    fn compile(pattern: &str) -> Result<Self, EngineError> {
        let refuse = |reason: String| EngineError::InvalidArgument(format!("regex: {reason}"));
        if pattern.len() > limits::REGEX_PATTERN_BYTES_MAX {
            return Err(refuse(format!("a pattern of {} bytes", pattern.len())));
        }
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(limits::REGEX_COMPILED_BYTES_MAX)
            .dfa_size_limit(limits::REGEX_COMPILED_BYTES_MAX)
            .nest_limit(limits::REGEX_NESTING_MAX)
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        let hir = regex_syntax::ParserBuilder::new()
            .utf8(false)
            .nest_limit(limits::REGEX_NESTING_MAX)
            .build()
            .parse(pattern)
            .map_err(|error| refuse(error.to_string()))?;
        let dfa = build_dfa(&hir);
        let start = dfa.as_ref().and_then(|dfa| {
            dfa.start_state(&start::Config::new().anchored(Anchored::No))
                .ok()
        });
        Ok(TextSearch {
            dfa: dfa.filter(|_| start.is_some()),
            start: start.unwrap_or_default(),
            regex,
            literal: None,
        })
    }

    /// Whether `line` is among those asked for.
    pub fn is_match(&self, line: &[u8]) -> bool {
        match &self.literal {
            Some(literal) => literal.find(line).is_some(),
            None => self.regex.is_match(line),
        }
    }

    /// Calls `each` with the index of every string that is among those asked for, ascending.
    pub fn for_each_match(&self, strings: &Strings, mut each: impl FnMut(usize)) {
        let Some(literal) = &self.literal else {
            for (index, string) in strings.iter().enumerate() {
                if self.is_match(string) {
                    each(index);
                }
            }
            return;
        };
        // All strings at once: most columns have nothing of what is looked for.
        let needle = literal.needle();
        if needle.is_empty() {
            (0..strings.len()).for_each(each);
            return;
        }
        let (bytes, mut from) = (strings.bytes(), 0);
        while let Some(found) = bytes.get(from..).and_then(|rest| literal.find(rest)) {
            let at = from + found;
            let index = strings.index_at(at);
            let end = strings.end_of(index);
            if at + needle.len() <= end {
                each(index);
                from = end;
            } else {
                // It spans two strings.
                from = at + 1;
            }
        }
    }
}

fn build_dfa(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(DFA_BYTES_MAX)),
        )
        .build_from_hir(hir)
        .ok()?;
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(DFA_BYTES_MAX))
        .determinize_size_limit(Some(DETERMINIZE_BYTES_MAX));
    dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .ok()
}

/// A set of rows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    count: usize,
}

impl RowSet {
    /// No row of `count`.
    pub fn none(count: usize) -> Self {
        RowSet {
            words: vec![0; count.div_ceil(64)],
            count,
        }
    }

    /// All of `count` rows.
    pub fn all(count: usize) -> Self {
        let mut set = RowSet {
            words: vec![u64::MAX; count.div_ceil(64)],
            count,
        };
        if let Some(last) = set.words.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        set
    }

    /// How many rows there are, in the set or not.
    pub fn row_count(&self) -> usize {
        self.count
    }

    /// How many rows are in the set.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Adds a row; rows beyond the count are ignored.
    #[inline]
    pub fn insert(&mut self, row: u32) {
        if (row as usize) < self.count {
            self.words[row as usize / 64] |= 1 << (row % 64);
        }
    }

    /// Whether a row is in the set.
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        let word = self.words.get(row as usize / 64).copied().unwrap_or(0);
        word >> (row % 64) & 1 == 1
    }

    /// Keeps the rows that `other` has too.
    pub fn intersect(&mut self, other: &RowSet) {
        for (at, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(at).copied().unwrap_or(0);
        }
    }

    /// The rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| at as u32 * 64 + word.trailing_zeros())
        })
    }
}

/// What is known of a line when the automaton stands somewhere in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Match,
    Never,
    At(StateID),
}

/// What can be said of rows without looking into the slots that lie ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    All,
    None,
    /// Rows differ at this slot; the automaton comes to it in this state.
    Look {
        slot: usize,
        state: StateID,
    },
}

/// Where a slot of some kind can lead the automaton.
#[derive(Debug, Default)]
struct Reach {
    states: Vec<StateID>,
    may_match: bool,
    may_die: bool,
    /// There are more states than are listed.
    is_cut: bool,
}

/// The automaton on templates, with what it has found out.
struct Runner<'s> {
    dfa: &'s dense::DFA<Vec<u32>>,
    reach: RefCell<HashMap<(StateID, SlotKind), Rc<Reach>>>,
}

impl<'s> Runner<'s> {
    fn new(dfa: &'s dense::DFA<Vec<u32>>) -> Self {
        Runner {
            dfa,
            reach: RefCell::default(),
        }
    }

    #[inline]
    fn step(&self, state: StateID) -> Step {
        if self.dfa.is_special_state(state) {
            if self.dfa.is_match_state(state) {
                return Step::Match;
            }
            if self.dfa.is_dead_state(state) {
                return Step::Never;
            }
        }
        Step::At(state)
    }

    /// Runs over bytes.
    #[inline]
    fn run(&self, mut state: StateID, bytes: &[u8]) -> Step {
        for &byte in bytes {
            state = self.dfa.next_state(state, byte);
            match self.step(state) {
                Step::At(_) => {}
                decided => return decided,
            }
        }
        Step::At(state)
    }

    /// Whether a line that ends in this state matches.
    fn ends_in_match(&self, state: StateID) -> bool {
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }

    /// Where one or more bytes of a kind lead.
    fn reach(&self, state: StateID, kind: SlotKind) -> Rc<Reach> {
        let mut known = self.reach.borrow_mut();
        let reach = known
            .entry((state, kind))
            .or_insert_with(|| Rc::new(self.find_reach(state, kind)));
        Rc::clone(reach)
    }

    fn find_reach(&self, state: StateID, kind: SlotKind) -> Reach {
        let mut reach = Reach::default();
        let (mut from, mut next) = (state, 0);
        loop {
            for byte in (0..=u8::MAX).filter(|&byte| kind.may_hold(byte)) {
                match self.step(self.dfa.next_state(from, byte)) {
                    Step::Match => reach.may_match = true,
                    Step::Never => reach.may_die = true,
                    Step::At(state) if reach.states.contains(&state) => {}
                    Step::At(_) if reach.states.len() >= REACH_MAX => reach.is_cut = true,
                    Step::At(state) => reach.states.push(state),
                }
            }
            match reach.states.get(next) {
                Some(&state) if !reach.is_cut => (from, next) = (state, next + 1),
                _ => return reach,
            }
        }
    }

    /// What is known of rows when the automaton stands before piece `first` in this state: it goes on in
    /// all states that the slots can lead to.
    fn look_ahead(
        &self,
        pieces: &[&[u8]],
        kinds: &[SlotKind],
        first: usize,
        state: StateID,
    ) -> Verdict {
        let mut states: SmallVec<[StateID; 8]> = smallvec![state];
        let (mut some_match, mut some_do_not) = (false, false);
        // The first slot at which rows may part.
        let mut parting = None;
        for (at, piece) in pieces.iter().enumerate().skip(first) {
            let mut behind: SmallVec<[StateID; 8]> = SmallVec::new();
            for &state in &states {
                match self.run(state, piece) {
                    Step::Match => some_match = true,
                    Step::Never => some_do_not = true,
                    Step::At(state) if behind.contains(&state) => {}
                    Step::At(state) => behind.push(state),
                }
            }
            let Some(&kind) = kinds.get(at) else {
                states = behind;
                break;
            };
            states.clear();
            for &state in &behind {
                let reach = self.reach(state, kind);
                let is_one =
                    reach.states.len() + usize::from(reach.may_match) + usize::from(reach.may_die)
                        == 1;
                if parting.is_none() && (!is_one || reach.is_cut) {
                    parting = Some(Verdict::Look { slot: at, state });
                }
                if reach.is_cut {
                    return parting.unwrap_or(Verdict::None);
                }
                some_match |= reach.may_match;
                some_do_not |= reach.may_die;
                for &state in &reach.states {
                    if !states.contains(&state) {
                        states.push(state);
                    }
                }
            }
            if (some_match && some_do_not) || states.len() > REACH_MAX {
                return parting.unwrap_or(Verdict::None);
            }
            if states.is_empty() {
                break;
            }
        }
        for &state in &states {
            if self.ends_in_match(state) {
                some_match = true;
            } else {
                some_do_not = true;
            }
        }
        match (some_match, some_do_not, parting) {
            (true, true, Some(look)) => look,
            (true, ..) => Verdict::All,
            (false, ..) => Verdict::None,
        }
    }
}

/// A template whose rows have to be looked at, and what was found out at each place of it.
struct Look<'b> {
    slot: usize,
    state: StateID,
    pieces: Vec<&'b [u8]>,
    /// Behind each slot: states that came out of it, and what is ahead then.
    ahead: Vec<SmallVec<[(StateID, Verdict); 4]>>,
    /// For slots with a dictionary: the last state that came in, and what each entry makes of it.
    words: Vec<(StateID, Vec<Option<Step>>)>,
}

impl<'b> Look<'b> {
    fn new(slot: usize, state: StateID, pieces: Vec<&'b [u8]>) -> Self {
        Look {
            slot,
            state,
            ahead: vec![SmallVec::new(); pieces.len()],
            words: vec![(StateID::ZERO, Vec::new()); pieces.len()],
            pieces,
        }
    }

    /// Whether row `rank` of the group matches.
    fn is_match<'c>(
        &mut self,
        runner: &Runner<'_>,
        kinds: &[SlotKind],
        rank: usize,
        scratch: &mut Vec<u8>,
        mut column: impl FnMut(usize) -> Result<&'c SlotValues, CodecError>,
    ) -> Result<bool, CodecError> {
        let (mut slot, mut state) = (self.slot, self.state);
        loop {
            let behind = self.run_slot(runner, slot, state, column(slot)?, rank, scratch);
            let Step::At(behind) = behind else {
                return Ok(behind == Step::Match);
            };
            match self.ahead_of(runner, kinds, slot, behind) {
                Verdict::All => return Ok(true),
                Verdict::None => return Ok(false),
                Verdict::Look { slot: s, state: at } => (slot, state) = (s, at),
            }
        }
    }

    #[inline]
    fn ahead_of(
        &mut self,
        runner: &Runner<'_>,
        kinds: &[SlotKind],
        slot: usize,
        state: StateID,
    ) -> Verdict {
        let known = &mut self.ahead[slot];
        if let Some(&(_, verdict)) = known.iter().find(|(of, _)| *of == state) {
            return verdict;
        }
        let verdict = runner.look_ahead(&self.pieces, kinds, slot + 1, state);
        if known.len() < AHEAD_MAX {
            known.push((state, verdict));
        }
        verdict
    }

    #[inline]
    fn run_slot(
        &mut self,
        runner: &Runner<'_>,
        slot: usize,
        state: StateID,
        values: &SlotValues,
        rank: usize,
        scratch: &mut Vec<u8>,
    ) -> Step {
        if let Some((keys, texts)) = values.dictionary()
            && let Some(&key) = keys.get(rank)
            && let Some(text) = texts.get(key as usize)
        {
            let (known, steps) = &mut self.words[slot];
            if *known != state || steps.len() != texts.len() {
                *known = state;
                steps.clear();
                steps.resize(texts.len(), None);
            }
            return *steps[key as usize].get_or_insert_with(|| runner.run(state, text));
        }
        scratch.clear();
        values.append(rank, scratch);
        runner.run(state, scratch)
    }
}

impl TemplateBlock<'_> {
    /// The rows among `within` that are asked for.
    ///
    /// # Errors
    /// Damage in the columns that had to be looked at.
    pub fn search(&self, search: &TextSearch, within: &RowSet) -> Result<RowSet, CodecError> {
        let mut found = RowSet::none(self.len());
        let Some(dfa) = &search.dfa else {
            let rows: Vec<u32> = within.iter().collect();
            let lines = self.decode_rows(&rows)?;
            search.for_each_match(&lines, |index| found.insert(rows[index]));
            return Ok(found);
        };
        let runner = Runner::new(dfa);
        for group in 0..self.group_count() as u32 {
            let verdicts = self.verdicts(&runner, search.start, group);
            if verdicts.iter().all(|&verdict| verdict == Verdict::None) {
                continue;
            }
            let rows = self.rows_of_group(group)?;
            let is_wanted = |rank: usize| within.contains(rows[rank]);
            self.for_each_rank(&runner, group, &verdicts, is_wanted, |rank| {
                found.insert(rows[rank]);
            })?;
        }
        if self.left_over_count()? > 0 {
            let rows = self.rows_left_over()?;
            search.for_each_match(self.left_over()?, |index| {
                if within.contains(rows[index]) {
                    found.insert(rows[index]);
                }
            });
        }
        Ok(found)
    }

    /// How many rows are asked for. Cheaper than [`Self::search`]: rows need no places.
    ///
    /// # Errors
    /// Damage in the columns that had to be looked at.
    pub fn count_matches(&self, search: &TextSearch) -> Result<usize, CodecError> {
        let Some(dfa) = &search.dfa else {
            return Ok(self.search(search, &RowSet::all(self.len()))?.len());
        };
        let runner = Runner::new(dfa);
        let mut count = 0;
        for group in 0..self.group_count() as u32 {
            let mut verdicts = self.verdicts(&runner, search.start, group);
            for (member, verdict) in verdicts.iter_mut().enumerate() {
                if *verdict == Verdict::All {
                    let member = member as u32;
                    count += self.template_row_count(TemplateRef { group, member });
                    *verdict = Verdict::None;
                }
            }
            if verdicts.iter().any(|&verdict| verdict != Verdict::None) {
                self.for_each_rank(&runner, group, &verdicts, |_| true, |_| count += 1)?;
            }
        }
        if self.left_over_count()? > 0 {
            search.for_each_match(self.left_over()?, |_| count += 1);
        }
        Ok(count)
    }

    fn verdicts(&self, runner: &Runner<'_>, start: StateID, group: u32) -> Vec<Verdict> {
        let kinds = self.slot_kinds(group);
        let mut pieces: Vec<&[u8]> = Vec::new();
        (0..self.member_count(group) as u32)
            .map(|member| {
                pieces.clear();
                pieces.extend(self.pieces(TemplateRef { group, member }));
                runner.look_ahead(&pieces, kinds, 0, start)
            })
            .collect()
    }

    /// Calls `each` with the rank of every row of a group that is wanted and matches.
    fn for_each_rank(
        &self,
        runner: &Runner<'_>,
        group: u32,
        verdicts: &[Verdict],
        is_wanted: impl Fn(usize) -> bool,
        mut each: impl FnMut(usize),
    ) -> Result<(), CodecError> {
        let kinds = self.slot_kinds(group);
        let members = self.members_of_ranks(group)?;
        let mut looks: Vec<Option<Look<'_>>> = verdicts
            .iter()
            .enumerate()
            .map(|(member, &verdict)| match verdict {
                Verdict::Look { slot, state } => {
                    let member = member as u32;
                    let pieces = self.pieces(TemplateRef { group, member });
                    Some(Look::new(slot, state, pieces.collect()))
                }
                Verdict::All | Verdict::None => None,
            })
            .collect();
        let mut scratch = Vec::new();
        for rank in 0..self.group_row_count(group) {
            let member = members.map_or(0, |members| members[rank]) as usize;
            if verdicts[member] == Verdict::None || !is_wanted(rank) {
                continue;
            }
            let is_match = match &mut looks[member] {
                None => true,
                Some(look) => look.is_match(runner, kinds, rank, &mut scratch, |slot| {
                    self.slot_column(group, slot)
                })?,
            };
            if is_match {
                each(rank);
            }
        }
        Ok(())
    }
}
