//! Fields that the scan finds for the parser: see [`LineFields`].
//!
//! A template is read once, with stand-ins in its slots, by the same scanner that reads lines. What a
//! slot holds has no marks of structure, so all its lines have their fields where the template has
//! them; three things depend on the slots all the same, and leave a template to the parser: a key that
//! a slot is part of, a JSON value without quotes that does not begin as a number, and escapes in a
//! value that is wanted. So does every template that is malformed.

use std::ops::Range;
use std::sync::Arc;

use chronolith_engine::codec::templates::{Skeleton, SlotKind, ValuePart};
use chronolith_engine::rows::{FieldForm, LineFields};

use super::hints;
use super::json::{self, Fields, JsonScratch, Key, SomeFields, Takes, Value};
use super::labels::{NameId, append_sanitized};
use super::logfmt::{LogfmtOptions, Pairs};
use super::stage::{Op, Pipeline};

/// What the only parser of a pipeline has to find.
#[derive(Debug)]
pub(super) struct FieldPlan {
    format: Format,
    /// The labels by number, with their names.
    names: Vec<(NameId, Box<[u8]>)>,
    /// The same as labels of the query.
    pub(super) ids: Vec<NameId>,
    forms: Vec<FieldForm>,
    /// Whether filters or series look at the field.
    looked_at: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Logfmt(LogfmtOptions),
}

impl FieldPlan {
    /// For a pipeline of which, behind the stages that the scan runs, only the labels `used` are looked
    /// at; `unwrapped` becomes the value, as a plain number if its flag says so. `None` if something else
    /// than the parser looks at lines, or if labels depend on more.
    pub(super) fn new(
        pipeline: &Pipeline,
        skip: usize,
        used: &[NameId],
        unwrapped: Option<(NameId, bool)>,
    ) -> Option<Arc<Self>> {
        let ops = pipeline.ops.get(skip..)?;
        let is_known = |op: &Op| hints::is_parser(op) || matches!(op, Op::LabelFilter(_));
        if !ops.iter().all(is_known) {
            return None;
        }
        let mut parsers = ops.iter().filter(|op| hints::is_parser(op));
        let format = match (parsers.next()?, parsers.next()) {
            (Op::Json, None) => Format::Json,
            (Op::Logfmt(options), None) => Format::Logfmt(*options),
            _ => return None,
        };
        let filtered = hints::filter_names(ops);
        let ids = filtered.iter().chain(used).copied();
        let ids = ids.chain(unwrapped.map(|(id, _)| id));
        let wanted = hints::wanted(&pipeline.names, ids)?;
        let is_looked_at = |id: &NameId| filtered.contains(id) || used.contains(id);
        let looked_at: Vec<bool> = wanted.iter().map(|(id, _)| is_looked_at(id)).collect();
        let as_number = unwrapped.is_some_and(|(_, as_number)| as_number);
        let form = |looked_at: &bool| match !looked_at && as_number {
            true => FieldForm::Number,
            false => FieldForm::Text,
        };
        Some(Arc::new(Self {
            format,
            forms: looked_at.iter().map(form).collect(),
            looked_at,
            ids: wanted.iter().map(|(id, _)| *id).collect(),
            names: (0..)
                .zip(wanted)
                .map(|(at, (_, name))| (at, name))
                .collect(),
        }))
    }

    /// Whether filters or series look at a field.
    pub(super) fn looks_at(&self, place: usize) -> bool {
        self.looked_at.get(place).copied().unwrap_or(false)
    }

    /// The number of a label among the fields.
    pub(super) fn place_of(&self, label: NameId) -> Option<usize> {
        self.ids.iter().position(|id| *id == label)
    }
}

impl LineFields for FieldPlan {
    fn wanted(&self) -> &[FieldForm] {
        &self.forms
    }

    fn places(&self, skeleton: &Skeleton) -> Option<Vec<Option<Vec<ValuePart>>>> {
        let finder = Finder {
            skeleton,
            found: vec![None; self.names.len()],
            is_sure: true,
        };
        match self.format {
            Format::Json => finder.json(&self.names),
            Format::Logfmt(options) => finder.logfmt(options, &self.names),
        }
    }
}

type Places = Vec<Option<Vec<ValuePart>>>;

/// Notes where the wanted fields of a template lie.
struct Finder<'s> {
    skeleton: &'s Skeleton,
    found: Places,
    /// Nothing so far depends on slots that must not.
    is_sure: bool,
}

impl<'s> Finder<'s> {
    /// The place of a part of the template's line.
    fn range(&self, part: &[u8]) -> Range<usize> {
        let line = self.skeleton.line().as_ptr().addr();
        let start = part.as_ptr().addr().saturating_sub(line);
        start..start + part.len()
    }

    /// What a part of the line is made of.
    fn parts(&mut self, part: &[u8]) -> Vec<ValuePart> {
        let parts = self.skeleton.parts(self.range(part));
        self.is_sure &= parts.is_some();
        parts.unwrap_or_default()
    }

    fn has_slots(&mut self, part: &[u8]) -> bool {
        let parts = self.parts(part);
        parts.iter().any(|part| matches!(part, ValuePart::Slot(_)))
    }

    fn logfmt(mut self, options: LogfmtOptions, names: &[(NameId, Box<[u8]>)]) -> Option<Places> {
        let mut key = Vec::new();
        for pair in Pairs::new(self.skeleton.line()) {
            let pair = match pair {
                Ok(pair) => pair,
                Err(_) if options.strict => return None,
                Err(_) => continue,
            };
            if pair.value.is_empty() && !options.keep_empty {
                continue;
            }
            if self.has_slots(pair.key) {
                return None;
            }
            key.clear();
            match pair.plain {
                true => key.extend_from_slice(pair.key),
                false => append_sanitized(&mut key, pair.key),
            }
            let Some(number) = names.iter().position(|(_, name)| **name == *key) else {
                continue;
            };
            if self.found[number].is_none() {
                if pair.escaped {
                    return None;
                }
                self.found[number] = Some(self.parts(pair.value));
            }
        }
        self.is_sure.then_some(self.found)
    }

    fn json(self, names: &[(NameId, Box<[u8]>)]) -> Option<Places> {
        let line = self.skeleton.line();
        let mut scratch = JsonScratch::default();
        let mut checked = Checked(SomeFields::new(self, names, &mut scratch));
        json::scan(line, &mut checked).ok()?;
        let finder = checked.0.into_taker();
        finder.is_sure.then_some(finder.found)
    }
}

impl<'l> Takes<'l> for Finder<'_> {
    fn take(&mut self, name: NameId, value: Value<'l>) {
        let raw = match value {
            Value::String(raw, is_escaped) => {
                self.is_sure &= !is_escaped;
                raw
            }
            Value::Plain(raw) => raw,
            Value::Null | Value::Array(_) => return,
        };
        let number = name as usize;
        if self.found.get(number).is_some_and(Option::is_none) {
            self.found[number] = Some(self.parts(raw));
        }
    }
}

/// Looks at all keys and values, wanted or not, whether they depend on slots.
struct Checked<'a, 's>(SomeFields<'a, Finder<'s>>);

impl Checked<'_, '_> {
    fn check_key(&mut self, key: Key<'_>) {
        let finder = self.0.taker();
        if finder.has_slots(key.raw) {
            finder.is_sure = false;
        }
    }

    fn check_value(&mut self, value: Value<'_>) {
        let finder = self.0.taker();
        let token = match value {
            Value::Plain(token) => token,
            // `null` comes of no stand-in.
            Value::Null | Value::String(..) | Value::Array(_) => return,
        };
        let parts = finder.parts(token);
        let is_number = match parts.first() {
            Some(ValuePart::Slot(slot)) => finder.skeleton.kind(*slot) == Some(SlotKind::Decimal),
            Some(ValuePart::Text(text)) => {
                parts.len() == 1
                    || text
                        .first()
                        .is_some_and(|b| matches!(b, b'-' | b'0'..=b'9'))
            }
            None => false,
        };
        finder.is_sure &= is_number;
    }
}

impl<'l> Fields<'l> for Checked<'_, '_> {
    fn enter(&mut self, key: Key<'l>) {
        self.check_key(key);
        self.0.enter(key);
    }

    fn leave(&mut self) {
        self.0.leave();
    }

    fn value(&mut self, key: Key<'l>, value: Value<'l>) {
        self.check_key(key);
        self.check_value(value);
        self.0.value(key, value);
    }
}
