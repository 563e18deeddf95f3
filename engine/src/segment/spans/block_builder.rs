//! Collects the spans of one block and encodes their columns.

use super::builder::{SegmentKeys, Zones, range_of};
use super::directory::{BlockHead, NumberZone};
use super::fields::{ColumnsWriter, Field, Group};
use super::filter::{key_hash, name_hash, value_hash};
use super::sets_builder::{
    KEY_MESSAGE, KEY_NAME, KEY_OVERFLOW, KEY_TRACE_STATE, KEYS_FROM, SetsBuilder,
};
use super::values::Kind;
use crate::codec::varint::zigzag;
use crate::codec::{EncodeEffort, integers, varint};
use crate::rows::{RawAttributes, SpanBatch, ValueRef};

use hashbrown::HashMap;

/// Traces of more spans than this look their parents up in a table.
const SHORT_TRACE: usize = 12;

/// The spans of an open block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    streams: Vec<i64>,
    times: Vec<i64>,
    durations: Vec<i64>,
    span_ids: Vec<[u8; 8]>,
    parent_ids: Vec<[u8; 8]>,
    /// Where each run of spans of one trace begins.
    run_starts: Vec<usize>,
    event_counts: Vec<i64>,
    event_times: Vec<i64>,
    link_counts: Vec<i64>,
    link_ids: Vec<u8>,
    spans: SetsBuilder,
    events: SetsBuilder,
    links: SetsBuilder,
    bytes: usize,
    kinds: u8,
    statuses: u8,
}

/// A finished block.
pub(super) struct ClosedBlock {
    pub(super) bytes: Vec<u8>,
    /// Without the places in the file and the number of its first trace.
    pub(super) head: BlockHead,
    /// Ascending.
    pub(super) streams: Vec<u32>,
    pub(super) zones: Vec<NumberZone>,
    /// What its filter holds, each once.
    pub(super) hashes: Vec<u64>,
}

impl BlockBuilder {
    pub(super) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes of text and attributes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events or links, whichever are more.
    pub(super) fn items(&self) -> usize {
        self.events.len().max(self.links.len())
    }

    /// The next span is the first of its trace in this block.
    pub(super) fn begin_trace(&mut self) {
        self.run_starts.push(self.times.len());
    }

    /// Adds a span; `keys` are the segment's numbers of the batch's keys.
    pub(super) fn push(&mut self, batch: &SpanBatch, row: usize, stream: u32, keys: &[u32]) {
        let columns = batch.columns();
        let (kind, status) = (columns.kind[row], columns.status[row]);
        self.kinds |= 1 << (kind & 7);
        self.statuses |= 1 << (status & 7);
        self.streams.push(i64::from(stream));
        self.times.push(columns.time[row]);
        self.durations.push(columns.duration[row]);
        self.span_ids.push(columns.span_id[row]);
        self.parent_ids.push(columns.parent_span_id[row]);
        let text = |column: &'_ crate::codec::strings::Strings| -> usize {
            column.get(row).map_or(0, <[u8]>::len)
        };
        self.bytes += text(&columns.name)
            + text(&columns.attributes)
            + text(&columns.events)
            + text(&columns.links)
            + text(&columns.status_message)
            + text(&columns.trace_state);

        self.spans.begin(kind, status);
        self.spans
            .text(KEY_NAME, columns.name.get(row).unwrap_or(&[]));
        self.spans
            .text(KEY_MESSAGE, columns.status_message.get(row).unwrap_or(&[]));
        self.spans
            .text(KEY_TRACE_STATE, columns.trace_state.get(row).unwrap_or(&[]));
        push_set(&mut self.spans, batch.attributes(row), keys);

        let before = self.events.len();
        for (after, name, set) in batch.events(row) {
            self.event_times.push(after);
            self.events.begin(0, 0);
            self.events.text(KEY_NAME, name.as_bytes());
            push_set(&mut self.events, set, keys);
        }
        self.event_counts.push((self.events.len() - before) as i64);
        let before = self.links.len();
        for (trace, span, set) in batch.links(row) {
            self.link_ids.extend_from_slice(&trace.0);
            self.link_ids.extend_from_slice(&span.0);
            self.links.begin(0, 0);
            push_set(&mut self.links, set, keys);
        }
        self.link_counts.push((self.links.len() - before) as i64);
    }

    /// Encodes the block and makes ready for the next.
    pub(super) fn finish(&mut self, effort: EncodeEffort, keys: &SegmentKeys) -> ClosedBlock {
        let mut zones = Zones::default();
        let hashes = self.hashes(keys, &mut zones);
        let mut streams: Vec<u32> = self.streams.iter().map(|s| *s as u32).collect();
        streams.sort_unstable();
        streams.dedup();
        let head = BlockHead {
            offset: 0,
            length: 0,
            filter_offset: 0,
            filter_length: 0,
            rows: self.rows() as u32,
            first_trace: 0,
            traces: self.run_starts.len() as u32,
            range: range_of(self.times.iter().copied()),
            duration_min: self.durations.iter().copied().min().unwrap_or(0),
            duration_max: self.durations.iter().copied().max().unwrap_or(0),
            kinds: self.kinds,
            statuses: self.statuses,
        };
        let bytes = self.encode(effort);
        ClosedBlock {
            bytes,
            head,
            streams,
            zones: zones
                .0
                .into_iter()
                .map(|(key, (min, max))| (key, min, max))
                .collect(),
            hashes,
        }
    }

    fn encode(&mut self, effort: EncodeEffort) -> Vec<u8> {
        let mut writer = ColumnsWriter::default();
        let ints = |writer: &mut ColumnsWriter, field, values: &[i64]| {
            writer.push(field, 0, values.len(), |out| {
                integers::encode(values, effort, out);
            });
        };
        let (lengths, first_times, deltas) = self.runs();
        ints(&mut writer, Field::RunLengths, &lengths);
        ints(&mut writer, Field::RunTimes, &first_times);
        ints(&mut writer, Field::TimeDeltas, &deltas);
        ints(&mut writer, Field::Durations, &self.durations);
        ints(&mut writer, Field::Stream, &self.streams);
        self.spans.finish(Group::Spans, effort, &mut writer);
        let (parents, others) = self.parents();
        ints(&mut writer, Field::Parents, &parents);
        let put_ids = |writer: &mut ColumnsWriter, field, ids: &[[u8; 8]]| {
            if !ids.is_empty() {
                writer.push(field, 0, ids.len(), |out| {
                    out.extend_from_slice(ids.as_flattened());
                });
            }
        };
        put_ids(&mut writer, Field::ParentIds, &others);
        put_ids(&mut writer, Field::SpanIds, &self.span_ids);
        if !self.event_times.is_empty() {
            ints(&mut writer, Field::EventCounts, &self.event_counts);
            ints(&mut writer, Field::EventTimes, &self.event_times);
            self.events.finish(Group::Events, effort, &mut writer);
        }
        if !self.link_ids.is_empty() {
            ints(&mut writer, Field::LinkCounts, &self.link_counts);
            writer.push(Field::LinkIds, 0, self.links.len(), |out| {
                out.extend_from_slice(&self.link_ids);
            });
            self.links.finish(Group::Links, effort, &mut writer);
        }
        self.clear();
        writer.finish()
    }

    fn clear(&mut self) {
        self.streams.clear();
        self.times.clear();
        self.durations.clear();
        self.span_ids.clear();
        self.parent_ids.clear();
        self.run_starts.clear();
        self.event_counts.clear();
        self.event_times.clear();
        self.link_counts.clear();
        self.link_ids.clear();
        self.bytes = 0;
        self.kinds = 0;
        self.statuses = 0;
    }

    /// The rows of each run.
    fn run_ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let ends = self.run_starts.iter().skip(1).copied();
        let ends = ends.chain(std::iter::once(self.rows()));
        self.run_starts
            .iter()
            .zip(ends)
            .map(|(start, end)| *start..end)
    }

    /// Length and first time of each run, and the time of each span after the one before.
    fn runs(&self) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
        let mut lengths = Vec::with_capacity(self.run_starts.len());
        let mut firsts = Vec::with_capacity(self.run_starts.len());
        let mut deltas = Vec::with_capacity(self.rows());
        for run in self.run_ranges() {
            lengths.push(run.len() as i64);
            let times = &self.times[run];
            firsts.push(times[0]);
            deltas.push(0);
            deltas.extend(times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
        }
        (lengths, firsts, deltas)
    }

    /// How each span names its parent, and the ids of those that are not in its run.
    fn parents(&self) -> (Vec<i64>, Vec<[u8; 8]>) {
        let mut codes = Vec::with_capacity(self.rows());
        let mut others = Vec::new();
        let mut rows: HashMap<[u8; 8], usize> = HashMap::new();
        for run in self.run_ranges() {
            let ids = &self.span_ids[run.clone()];
            if ids.len() > SHORT_TRACE {
                rows.clear();
                rows.extend(ids.iter().enumerate().map(|(row, id)| (*id, row)));
            }
            for (row, parent) in self.parent_ids[run].iter().enumerate() {
                if *parent == [0; 8] {
                    codes.push(0);
                    continue;
                }
                let place = if ids.len() > SHORT_TRACE {
                    rows.get(parent).copied()
                } else {
                    ids.iter().position(|id| id == parent)
                };
                match place {
                    Some(place) if place != row => {
                        codes.push(1 + zigzag(place as i64 - row as i64) as i64);
                    }
                    _ => {
                        codes.push(1);
                        others.push(*parent);
                    }
                }
            }
        }
        (codes, others)
    }

    fn hashes(&self, keys: &SegmentKeys, zones: &mut Zones) -> Vec<u64> {
        let mut hashes = Vec::new();
        let groups = [
            (Group::Spans, &self.spans),
            (Group::Events, &self.events),
            (Group::Links, &self.links),
        ];
        for (group, sets) in groups {
            sets.for_each_column(|column| match column.key {
                KEY_NAME if group == Group::Spans => {
                    hashes.extend(column.texts.iter().map(name_hash));
                }
                KEY_OVERFLOW => {
                    let sets = column.texts.iter();
                    sets.for_each(|set| hash_set(set, group, keys, zones, &mut hashes));
                }
                key if key >= KEYS_FROM => {
                    let key = key - KEYS_FROM;
                    let of_key = key_hash(group, keys.name(key));
                    hashes.push(of_key);
                    match column.kind {
                        Kind::Text => {
                            let texts = column.texts.iter();
                            hashes.extend(texts.map(|text| value_hash(of_key, text)));
                        }
                        Kind::Int if group == Group::Spans => {
                            let codes = column.codes.iter().map(|code| *code as i64);
                            for value in [codes.clone().min(), codes.max()].into_iter().flatten() {
                                zones.add(key, value as f64);
                            }
                        }
                        Kind::Float if group == Group::Spans => {
                            let codes = column.codes.iter();
                            codes.for_each(|code| zones.add(key, f64::from_bits(*code)));
                        }
                        _ => {}
                    }
                }
                _ => {}
            });
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

fn push_set(sets: &mut SetsBuilder, mut set: RawAttributes<'_>, keys: &[u32]) {
    let whole = set.clone();
    while let Some((number, value)) = set.next_numbered() {
        sets.value(keys[number as usize], value);
    }
    sets.end(|out| {
        let mut whole = whole;
        while let Some((number, value)) = whole.next_numbered() {
            varint::write_u64(out, u64::from(keys[number as usize]));
            value.write(out);
        }
    });
}

fn hash_set(
    set: &[u8],
    group: Group,
    keys: &SegmentKeys,
    zones: &mut Zones,
    hashes: &mut Vec<u64>,
) {
    for (key, value) in overflow_pairs(set) {
        let of_key = key_hash(group, keys.name(key));
        hashes.push(of_key);
        match value {
            ValueRef::Str(text) => hashes.push(value_hash(of_key, text.as_bytes())),
            ValueRef::Int(number) if group == Group::Spans => zones.add(key, number as f64),
            ValueRef::Float(number) if group == Group::Spans => zones.add(key, number),
            _ => {}
        }
    }
}

/// The pairs of a set that was stored whole: the key's number in the segment, and the value.
pub(super) fn overflow_pairs(set: &[u8]) -> impl Iterator<Item = (u32, ValueRef<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let key = u32::try_from(varint::read_u64(set, &mut at)?).ok()?;
        Some((key, ValueRef::read(set, &mut at)?))
    })
}
