//! Reads all of a span segment and compares it with what directory, filters and table of traces say.

use super::block_reader::{BlockReader, Wanted};
use super::columns::Columns;
use super::directory::BlockHead;
use super::fields::Group;
use super::filter::{has, key_hash, name_hash, value_hash};
use super::reader::SpanReader;
use super::sets::Chosen;
use crate::error::Result;
use crate::model::TraceId;
use crate::rows::{AttributeChoice, SpanBlock, SpanColumnSet, ValueRef};
use crate::segment::file::SegmentFile;
use crate::segment::format::SectionKind;
use crate::segment::verify::Verified;

/// Checks a segment of version 4.
pub(crate) fn verify(reader: &SpanReader) -> Result<Verified> {
    let mut verified = Verified::default();
    let Some(columns) = reader.columns() else {
        return Ok(verified);
    };
    let file = &columns.file;
    columns.table.selector(file).verify()?;
    for number in 0..reader.stream_count() {
        reader.stream(number)?;
    }
    verify_traces(columns)?;
    let mut before: Option<(i64, u128)> = None;
    for block in 0..columns.directory.len() {
        let Some(head) = columns.directory.head(block) else {
            break;
        };
        columns.with_block(block, reader.streams(), |reader| {
            let wanted = Wanted {
                columns: SpanColumnSet::ALL,
                stream: true,
                time: true,
                attributes: AttributeChoice::All,
                event_attributes: AttributeChoice::All,
                link_attributes: AttributeChoice::All,
            };
            let rows = reader.block(&wanted, Chosen::All(reader.rows()))?;
            columns.check_size(&rows)?;
            for group in [Group::Spans, Group::Events, Group::Links] {
                if let Some(sets) = reader.sets_of(group, count_of(reader, group))? {
                    sets.check_counts()?;
                }
            }
            verify_order(reader, head, &rows, &mut before)?;
            verify_facts(columns, reader, block, head, &rows)
        })?;
        verified.rows += u64::from(head.rows);
        verified.chunks += 1;
    }
    verified.series = u64::from(reader.stream_count());
    let meta = reader.meta();
    let told = (meta.row_count, meta.chunk_count);
    if told != (verified.rows, verified.chunks) {
        return Err(corrupt(
            file,
            SectionKind::Blocks,
            &format!("{} rows in {} blocks", told.0, told.1),
            &format!("{} in {}", verified.rows, verified.chunks),
        ));
    }
    Ok(verified)
}

fn corrupt(
    file: &SegmentFile,
    kind: SectionKind,
    expected: &str,
    found: &str,
) -> crate::EngineError {
    file.corrupt(file.section(kind).offset, expected, found)
}

/// Ids ascend in their order, so each trace is there once, and a look-up finds it.
fn verify_traces(columns: &Columns) -> Result<()> {
    let file = &columns.file;
    let mut before: Option<[u8; 16]> = None;
    for place in 0..columns.traces.len() {
        let (number, id) = columns.traces.by_order(file, place)?;
        let found = columns.traces.find(file, &TraceId(id))?;
        if before.is_some_and(|before| before >= id) || found != Some(number) {
            return Err(corrupt(
                file,
                SectionKind::TraceOrder,
                "ids in ascending order",
                &format!("{} at place {place}", TraceId(id)),
            ));
        }
        before = Some(id);
    }
    Ok(())
}

/// Traces by first start and id; spans of a trace by start.
fn verify_order(
    reader: &BlockReader<'_>,
    head: &BlockHead,
    rows: &SpanBlock,
    before: &mut Option<(i64, u128)>,
) -> Result<()> {
    let mut start = 0;
    for end in reader.run_ends()? {
        let end = *end as usize;
        let times = rows.time.get(start..end).unwrap_or(&[]);
        let id = rows.trace_id.get(start).unwrap_or_default();
        let place = (times.first().copied().unwrap_or(0), u128::from_be_bytes(id));
        // The rest of a trace that began in the block before keeps the place of its beginning.
        let goes_on = start == 0 && before.is_some_and(|(_, id)| id == place.1);
        let follows = goes_on || before.is_none_or(|before| before < place);
        if !times.is_sorted() || !follows {
            return Err(reader.corrupt(
                "spans by trace and start",
                format!("others before row {end}"),
            ));
        }
        if !goes_on {
            *before = Some(place);
        }
        start = end;
    }
    let range = super::builder::range_of(rows.time.iter().copied());
    if range != head.range {
        return Err(reader.corrupt(
            &format!("times {} to {}", head.range.start, head.range.end),
            format!("{} to {}", range.start, range.end),
        ));
    }
    Ok(())
}

/// What a plan relies on: nothing that is in the block may be passed over.
fn verify_facts(
    columns: &Columns,
    reader: &BlockReader<'_>,
    block: usize,
    head: &BlockHead,
    rows: &SpanBlock,
) -> Result<()> {
    let file = &columns.file;
    let mut streams = Vec::new();
    columns.directory.streams(file, block, |stream| {
        streams.push(stream);
        true
    })?;
    let filters = file.section(SectionKind::TokenFilters);
    let length = usize::try_from(head.filter_length).unwrap_or(usize::MAX);
    let filter = file.get_in(filters, head.filter_offset, length)?;
    let zones = columns.directory.zones(file, block)?;
    for row in 0..rows.rows {
        let duration = rows.duration.get(row);
        let told = streams
            .binary_search(&(rows.stream.get(row) as u32))
            .is_ok()
            && (head.duration_min..=head.duration_max).contains(&duration)
            && head.kinds & 1 << (rows.kind.get(row) & 7) != 0
            && head.statuses & 1 << (rows.status.get(row) & 7) != 0
            && has(filter, name_hash(rows.name.get(row)));
        if !told {
            return Err(reader.corrupt("rows as the directory says", format!("row {row}")));
        }
    }
    let groups = [
        (Group::Spans, &rows.attributes),
        (Group::Events, &rows.events.attributes),
        (Group::Links, &rows.links.attributes),
    ];
    for (group, attributes) in groups {
        for column in attributes {
            let key = key_hash(group, &column.key);
            let zone = columns
                .key_number(&column.key)
                .and_then(|key| zones.iter().find(|zone| zone.0 == key));
            let count = match (&column.rows, group) {
                (Some(rows), _) => rows.len(),
                (None, Group::Spans) => rows.rows,
                (None, Group::Events) => rows.events.after_start.len(),
                (None, Group::Links) => rows.links.ids.len(),
            };
            let mut told = has(filter, key);
            for index in 0..count {
                told &= match column.value(index) {
                    ValueRef::Str(text) => has(filter, value_hash(key, text.as_bytes())),
                    ValueRef::Int(number) if group == Group::Spans => {
                        zone.is_some_and(|zone| (zone.1..=zone.2).contains(&(number as f64)))
                    }
                    ValueRef::Float(number) if group == Group::Spans && !number.is_nan() => {
                        zone.is_some_and(|zone| (zone.1..=zone.2).contains(&number))
                    }
                    _ => true,
                };
            }
            if !told {
                return Err(reader.corrupt(
                    "values as filter and directory say",
                    format!("others of {}", column.key),
                ));
            }
        }
    }
    Ok(())
}

/// How many sets of a group a block has.
fn count_of(reader: &BlockReader<'_>, group: Group) -> usize {
    let mut columns = reader.stored().iter();
    columns
        .find(|column| column.field == group.class_of())
        .map_or(0, |column| column.count)
}

/// A column of a block, for `inspect`: what it is, its first byte, values and bytes.
pub(crate) struct ColumnSize {
    pub(crate) name: String,
    pub(crate) values: u64,
    pub(crate) bytes: u64,
}

/// The columns of all blocks of a segment of version 4.
pub(crate) fn column_sizes(reader: &SpanReader) -> Result<Vec<ColumnSize>> {
    let mut sizes = Vec::new();
    let Some(columns) = reader.columns() else {
        return Ok(sizes);
    };
    let keys = reader.attribute_keys();
    for block in 0..columns.directory.len() {
        columns.with_block(block, reader.streams(), |reader| {
            for group in [Group::Spans, Group::Events, Group::Links] {
                let sets = reader.sets_of(group, count_of(reader, group))?;
                let table = sets.as_ref().map_or(&[][..], |sets| &sets.columns);
                for column in reader.stored() {
                    let name = if column.field == group.values() {
                        let key = table.get(column.index as usize);
                        let (key, kind) = key.copied().unwrap_or_default();
                        format!("{:?} {} {kind:?}", column.field, key_name(keys, key))
                    } else if column.field.group() == Some(group)
                        || (column.field.group().is_none() && group == Group::Spans)
                    {
                        format!("{:?}", column.field)
                    } else {
                        continue;
                    };
                    sizes.push(ColumnSize {
                        name,
                        values: column.count as u64,
                        bytes: column.bytes.len() as u64,
                    });
                }
            }
            Ok(())
        })?;
    }
    Ok(sizes)
}

fn key_name(keys: &[std::sync::Arc<str>], key: u32) -> &str {
    use super::sets_builder::{KEY_MESSAGE, KEY_NAME, KEY_OVERFLOW, KEY_TRACE_STATE, KEYS_FROM};
    match key {
        KEY_NAME => "(name)",
        KEY_MESSAGE => "(status message)",
        KEY_TRACE_STATE => "(trace state)",
        KEY_OVERFLOW => "(whole sets)",
        key => keys
            .get((key - KEYS_FROM) as usize)
            .map_or("(unknown)", AsRef::as_ref),
    }
}
