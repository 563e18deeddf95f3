//! Which rows of a block share columns, and which are left over.
//!
//! A *group* is a set of rows with the same slots. Its *members* are its templates: they have the same
//! slots in the same order and differ in static text. One form with many rows is a group of its own,
//! since its numbers have their own distribution; the rarer forms of a shape are together the members
//! of another. Where they are too many (names, free text), the positions with the most different words
//! become slots too.

use hashbrown::HashMap;

use super::forms::{Forms, Part};

/// Rows from which on a form has columns of its own.
const OWN_ROWS_MIN: usize = 1024;
/// Members of a group that are never too many, and rows for each that justify more.
const MEMBERS_FEW: usize = 32;
const ROWS_PER_MEMBER_MIN: usize = 16;
/// Rows that a group must have at least: columns and template cost more than they save below.
const ROWS_MIN: usize = 4;
/// Words of a shape that may become slots: with more it is free text, which zstd does better.
const WORD_SLOTS_MAX: usize = 6;
/// Different words, per member allowed, from which a position becomes a slot; tried in turn.
const WORDS_FOR_SLOT: [usize; 3] = [32, 4, 2];
/// Templates of a block.
const GROUPS_MAX: usize = 1 << 15;

/// What a slot of a group is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Token of this number.
    Token(usize),
    /// Word of this number.
    Word(usize),
}

/// Rows that share columns.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Slots in the order in which they lie in the lines.
    pub(super) slots: Vec<Source>,
    /// A form for each member, whose words are not all those of its rows where words are slots.
    pub(super) members: Vec<u32>,
}

/// Where the rows of a form go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the group plus one, or 0: left over.
    pub(super) group: u32,
    pub(super) member: u32,
}

const LEFT_OVER: Place = Place {
    group: 0,
    member: 0,
};

/// Groups of a block, and the place of each of its forms.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) groups: Vec<Group>,
    /// In the order of the forms that were planned for.
    pub(super) places: Vec<Place>,
}

impl Plan {
    /// Plans for forms with their counts of rows.
    pub(super) fn new(forms: &Forms, used: &[(u32, usize)]) -> Plan {
        let mut plan = Plan {
            groups: Vec::new(),
            places: vec![LEFT_OVER; used.len()],
        };
        let mut by_shape: Vec<usize> = (0..used.len()).collect();
        by_shape.sort_by_key(|&at| forms.shape_of(used[at].0));
        for of_shape in
            by_shape.chunk_by(|&a, &b| forms.shape_of(used[a].0) == forms.shape_of(used[b].0))
        {
            let (own, shared): (Vec<usize>, Vec<usize>) =
                of_shape.iter().partition(|&&at| used[at].1 >= OWN_ROWS_MIN);
            for at in own {
                plan.add_group(forms, used, &[at], &[]);
            }
            plan.add_shared(forms, used, &shared);
        }
        plan
    }

    fn add_shared(&mut self, forms: &Forms, used: &[(u32, usize)], shared: &[usize]) {
        let rows: usize = shared.iter().map(|&at| used[at].1).sum();
        if rows < ROWS_MIN || self.groups.len() >= GROUPS_MAX {
            return;
        }
        let enough =
            |members: usize| members <= (rows / ROWS_PER_MEMBER_MIN).max(MEMBERS_FEW.min(rows / 2));
        if enough(shared.len()) {
            self.add_group(forms, used, shared, &[]);
            return;
        }
        let different = different_words(forms, used, shared);
        for words_min in WORDS_FOR_SLOT {
            let slots: Vec<bool> = different.iter().map(|&words| words >= words_min).collect();
            let slot_count = slots.iter().filter(|&&slot| slot).count();
            if slot_count > WORD_SLOTS_MAX {
                return;
            }
            if slot_count > 0 && enough(count_members(forms, used, shared, &slots)) {
                self.add_group(forms, used, shared, &slots);
                return;
            }
        }
    }

    /// Adds a group with the forms at `chosen`, in which the words with `word_slots` are slots.
    fn add_group(
        &mut self,
        forms: &Forms,
        used: &[(u32, usize)],
        chosen: &[usize],
        word_slots: &[bool],
    ) {
        let is_slot = |word: usize| word_slots.get(word).copied().unwrap_or(false);
        let mut group = Group::default();
        if let Some(&first) = chosen.first() {
            forms.for_each_part(used[first].0, |part| match part {
                Part::Token(token, _) => group.slots.push(Source::Token(token)),
                Part::Word(word, _) if is_slot(word) => group.slots.push(Source::Word(word)),
                Part::Word(..) | Part::Static(_) => {}
            });
        }
        let number = self.groups.len() as u32 + 1;
        let mut members: HashMap<Vec<u8>, u32> = HashMap::new();
        for &at in chosen {
            let member = if word_slots.is_empty() {
                group.members.push(used[at].0);
                group.members.len() as u32 - 1
            } else {
                *members
                    .entry(member_key(forms, used[at].0, word_slots))
                    .or_insert_with(|| {
                        group.members.push(used[at].0);
                        group.members.len() as u32 - 1
                    })
            };
            self.places[at] = Place {
                group: number,
                member,
            };
        }
        self.groups.push(group);
    }
}

/// How many different words each position of a shape has.
fn different_words(forms: &Forms, used: &[(u32, usize)], shared: &[usize]) -> Vec<usize> {
    let mut words: Vec<HashMap<&[u8], ()>> = Vec::new();
    for &at in shared {
        forms.for_each_part(used[at].0, |part| {
            if let Part::Word(word, text) = part {
                if words.len() <= word {
                    words.resize_with(word + 1, HashMap::new);
                }
                words[word].insert(text, ());
            }
        });
    }
    words.iter().map(HashMap::len).collect()
}

/// Members that the forms of a shape make when the words with `slots` are slots.
fn count_members(forms: &Forms, used: &[(u32, usize)], shared: &[usize], slots: &[bool]) -> usize {
    let mut members: HashMap<Vec<u8>, ()> = HashMap::new();
    for &at in shared {
        members.insert(member_key(forms, used[at].0, slots), ());
    }
    members.len()
}

/// The words of a form that are no slots.
fn member_key(forms: &Forms, form: u32, slots: &[bool]) -> Vec<u8> {
    let mut key = Vec::new();
    forms.for_each_part(form, |part| {
        if let Part::Word(word, text) = part
            && !slots.get(word).copied().unwrap_or(false)
        {
            key.extend_from_slice(text);
            // No word has a blank.
            key.push(b' ');
        }
    });
    key
}

#[cfg(test)]
mod tests {
    use super::super::tokenize::tokenize;
    use super::*;

    fn plan_of(lines: impl Iterator<Item = String>) -> (Plan, usize) {
        let mut forms = Forms::default();
        let mut used: Vec<(u32, usize)> = Vec::new();
        for line in lines {
            let mut tokens = Vec::new();
            assert!(tokenize(line.as_bytes(), 100, &mut tokens));
            let form = forms.number_of(line.as_bytes(), &tokens);
            match used.iter_mut().find(|(known, _)| *known == form) {
                Some((_, rows)) => *rows += 1,
                None => used.push((form, 1)),
            }
        }
        (Plan::new(&forms, &used), used.len())
    }

    #[test]
    fn forms_are_members_or_slots_or_left_over() {
        // Few words: members of one group.
        let (plan, _) = plan_of((0..200).map(|i| {
            let method = ["GET", "POST", "PUT"][i % 3];
            format!("{method} took {i} ms")
        }));
        assert_eq!(plan.groups.len(), 1);
        assert_eq!(plan.groups[0].slots, [Source::Token(0)]);
        assert_eq!(plan.groups[0].members.len(), 3);
        // Many: a slot.
        let name = |i: usize| -> String {
            let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
            [letter(i), letter(i / 26), 'x'].iter().collect()
        };
        let (plan, forms) = plan_of((0..200).map(|i| format!("user {} took {i} ms", name(i))));
        assert_eq!(forms, 200);
        assert_eq!(plan.groups.len(), 1);
        assert_eq!(plan.groups[0].slots, [Source::Word(1), Source::Token(0)]);
        assert_eq!(plan.groups[0].members.len(), 1);
        // Frequent: its own group.
        let (plan, _) = plan_of((0..3000).map(|i| format!("{} {i}", ["a", "b", "c"][i % 8 / 3])));
        assert_eq!(plan.groups.len(), 3);
        // Rare: left over.
        let (plan, _) = plan_of(
            ["once 1", "and, twice", "and, twice"]
                .map(str::to_owned)
                .into_iter(),
        );
        assert!(plan.groups.is_empty());
        assert!(plan.places.iter().all(|&place| place == LEFT_OVER));
    }
}
