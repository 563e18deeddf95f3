//! Fields of bodies out of their templates, without the lines.

use hashbrown::HashMap;

use crate::codec::CodecError;
use crate::codec::strings::Strings;
use crate::codec::templates::{Numbers, SlotValues, TemplateBlock, TemplateRef, ValuePart};
use crate::rows::{BodyFields, FieldColumn, FieldForm, LineFields, Selection};

/// Numbers of a column that lie so close together are told apart by a table.
const SPREAD_MAX: i64 = 1024;

/// Templates of a group for each of which a table is worth its making.
const TABLES_MAX: usize = 64;

/// The fields of the selected rows, as far as templates tell; `None` if they tell nothing.
pub(super) fn read(
    block: &TemplateBlock<'_>,
    wanted: &dyn LineFields,
    selected: &Selection,
) -> Result<Option<BodyFields>, CodecError> {
    let forms = wanted.wanted();
    let mut fields = BodyFields::new(block.len(), forms.len());
    let mut interned: Vec<Interned> = forms.iter().map(|_| Interned::default()).collect();
    let is_selected = mask(block.len(), selected);
    let mut knows_any = false;
    for group in 0..block.group_count() as u32 {
        let places: Vec<Option<Vec<Option<Vec<ValuePart>>>>> = (0..block.member_count(group)
            as u32)
            .map(|member| {
                let skeleton = block.skeleton(TemplateRef { group, member });
                let places = wanted.places(&skeleton);
                places.filter(|places| places.len() == forms.len())
            })
            .collect();
        if places.iter().all(Option::is_none) {
            continue;
        }
        let (rows, members) = (block.rows_of_group(group)?, block.members_of_ranks(group)?);
        let member = |rank: usize| members.map_or(0, |members| members[rank] as usize);
        let chosen = |row: u32| is_selected.as_ref().is_none_or(|all| all[row as usize]);
        for (rank, row) in rows.iter().enumerate() {
            if chosen(*row) && places[member(rank)].is_some() {
                fields.known[*row as usize] = true;
                knows_any = true;
            }
        }
        let has_tables = places.len() <= TABLES_MAX;
        for (number, form) in forms.iter().enumerate() {
            let column = &mut fields.columns[number];
            let mut fills = places
                .iter()
                .map(|places| {
                    let parts = places.as_ref().and_then(|places| places[number].as_deref());
                    Fill::new(block, group, parts, *form, has_tables)
                })
                .collect::<Result<Vec<_>, _>>()?;
            if fills.iter().all(|fill| matches!(fill, Fill::Nothing)) {
                continue;
            }
            for (rank, row) in rows.iter().enumerate() {
                if chosen(*row) {
                    let fill = &mut fills[member(rank)];
                    fill.set(column, &mut interned[number], *row as usize, rank);
                    if column.text_bytes() > block.bytes_total() {
                        return Err(crate::codec::templates::more_bytes_than_declared());
                    }
                }
            }
        }
    }
    Ok(knows_any.then_some(fields))
}

/// Which rows are selected; `None`: all.
fn mask(count: usize, selected: &Selection) -> Option<Vec<bool>> {
    let Selection::Rows(rows) = selected else {
        return None;
    };
    let mut mask = vec![false; count];
    for row in rows {
        if let Some(slot) = mask.get_mut(*row as usize) {
            *slot = true;
        }
    }
    Some(mask)
}

/// Texts of a column that occur in many rows, by their numbers.
#[derive(Default)]
struct Interned(HashMap<Vec<u8>, u32>);

impl Interned {
    fn number(&mut self, column: &mut FieldColumn, text: Vec<u8>) -> u32 {
        *self
            .0
            .entry(text)
            .or_insert_with_key(|text| column.add_text(|out| out.extend_from_slice(text)))
    }
}

/// A piece of a value, ready to be written.
enum Part<'b> {
    Text(&'b [u8]),
    Slot(&'b SlotValues),
}

/// Not interned yet.
const UNKNOWN: u32 = u32::MAX;

/// How the rows of a template get a field's values.
enum Fill<'b> {
    /// They have none, or are not known.
    Nothing,
    /// All have the same.
    Constant(&'b [u8], u32),
    /// One of few, by the key of the slot.
    Keyed {
        parts: Vec<Part<'b>>,
        keys: &'b [u32],
        numbers: Vec<u32>,
    },
    /// One of few, by the number in the slot.
    Spread {
        parts: Vec<Part<'b>>,
        values: &'b [i64],
        least: i64,
        numbers: Vec<u32>,
    },
    /// A number each.
    Numbers(Numbers<'b>, Vec<Part<'b>>),
    /// A text each.
    Texts(Vec<Part<'b>>),
}

impl<'b> Fill<'b> {
    fn new(
        block: &'b TemplateBlock<'_>,
        group: u32,
        parts: Option<&'b [ValuePart]>,
        form: FieldForm,
        has_tables: bool,
    ) -> Result<Self, CodecError> {
        let Some(places) = parts else {
            return Ok(Self::Nothing);
        };
        if form == FieldForm::Number
            && has_tables
            && let Some(numbers) = block.numbers(group, places)?
        {
            return Ok(Self::Numbers(numbers, written(block, group, places)?));
        }
        let parts = written(block, group, places)?;
        let mut slots = parts.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(*slot),
            Part::Text(_) => None,
        });
        let (slot, other) = (slots.next(), slots.next());
        drop(slots);
        Ok(match (slot, other, parts.as_slice()) {
            (None, _, []) => Self::Constant(&[], UNKNOWN),
            (None, _, [Part::Text(text)]) => Self::Constant(text, UNKNOWN),
            (Some(slot), None, _) if has_tables => Self::of_slot(slot, parts),
            _ => Self::Texts(parts),
        })
    }

    /// Values with a single slot.
    fn of_slot(slot: &'b SlotValues, parts: Vec<Part<'b>>) -> Self {
        let unknown = |count: usize| vec![UNKNOWN; count];
        if let Some((keys, texts)) = slot.dictionary() {
            return Self::Keyed {
                parts,
                keys,
                numbers: unknown(Strings::len(texts)),
            };
        }
        let spread = slot.decimals().and_then(|values| {
            let (least, greatest) = (*values.iter().min()?, *values.iter().max()?);
            let spread = greatest.checked_sub(least)?;
            (spread < SPREAD_MAX).then_some((values, least, spread))
        });
        match spread {
            Some((values, least, spread)) => Self::Spread {
                parts,
                values,
                least,
                numbers: unknown(spread as usize + 1),
            },
            None => Self::Texts(parts),
        }
    }

    /// Sets the value of a row.
    #[inline]
    fn set(&mut self, column: &mut FieldColumn, interned: &mut Interned, row: usize, rank: usize) {
        let (parts, number) = match self {
            Self::Nothing => return,
            Self::Constant(text, number) => {
                if *number == UNKNOWN {
                    *number = interned.number(column, text.to_vec());
                }
                return column.set_text(row, *number);
            }
            Self::Numbers(numbers, parts) => {
                match numbers.get(rank) {
                    Some(number) => column.set_number(row, number),
                    None => {
                        let number = column.add_text(|out| write(parts, rank, out));
                        column.set_text(row, number);
                    }
                }
                return;
            }
            Self::Texts(parts) => {
                let number = column.add_text(|out| write(parts, rank, out));
                return column.set_text(row, number);
            }
            Self::Keyed {
                parts,
                keys,
                numbers,
            } => {
                let key = keys.get(rank).map_or(0, |key| *key as usize);
                (parts, numbers.get_mut(key))
            }
            Self::Spread {
                parts,
                values,
                least,
                numbers,
            } => {
                let key = values
                    .get(rank)
                    .map_or(0, |value| (value - *least) as usize);
                (parts, numbers.get_mut(key))
            }
        };
        let Some(number) = number else { return };
        if *number == UNKNOWN {
            let mut text = Vec::new();
            write(parts, rank, &mut text);
            *number = interned.number(column, text);
        }
        column.set_text(row, *number);
    }
}

fn written<'b>(
    block: &'b TemplateBlock<'_>,
    group: u32,
    parts: &'b [ValuePart],
) -> Result<Vec<Part<'b>>, CodecError> {
    let part = |part: &'b ValuePart| match part {
        ValuePart::Text(text) => Ok(Part::Text(text)),
        ValuePart::Slot(slot) => block.slot_column(group, *slot).map(Part::Slot),
    };
    parts.iter().map(part).collect()
}

#[inline]
fn write(parts: &[Part<'_>], rank: usize, out: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Slot(slot) => slot.append(rank, out),
        }
    }
}
