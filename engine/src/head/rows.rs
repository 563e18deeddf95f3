//! Log records and spans of one generation of the head: batches as they arrived, per tenant.
//!
//! Nothing is sorted or copied when rows arrive; a reader tests the columns of the batches whose times
//! and streams fit. Streams are numbered per tenant, so that a selector is tested once per stream. Rows
//! of a generation are numbered in order of arrival; a pin sees those below its mark.
//!
//! Log records have no identity. A span's identity is (trace id, span id, kind, service): the later one
//! takes the place of the earlier, which is noted with the number of the later row, so that a pin in
//! between goes on seeing what it saw. Deleted rows are sets of row numbers with the newest pin at that
//! time: pins up to it go on seeing them.
//!
//! A batch to which no more rows are joined has a filter of its trace ids: a trace by id looks at the
//! filters and reads the few batches that may have it.
//!
//! Small batches are joined while nobody reads them: a client that sends line by line must not cost a
//! batch per line.

use std::sync::{Arc, OnceLock};

use hashbrown::{HashMap, HashTable};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use super::series_table::TenantIndex;
use crate::index::{Matcher, bloom};
use crate::model::{AttributeValue, Stream, TimeRange, TraceId};
use crate::rows::{KeyTable, LogBatch, Selection, SpanBatch, Streams};
use crate::segment::stream_sort_key;

/// Batches of fewer rows take in the one that follows.
const JOINED_ROWS_MAX: usize = 1024;
/// What a batch takes beside its rows: tables, vectors, the allocator.
const BATCH_BYTES: usize = 1024;
/// What the identity of a span takes.
const IDENTITY_BYTES: usize = 24;

/// A batch of log records or spans, as the head sees it.
pub(crate) trait RowBatch: Default + Send + Sync + 'static {
    /// What tells two rows apart of which the later takes the place of the earlier; `None` for rows
    /// that are always kept. `service` is a hash of the row's service.
    fn identity(&self, row: usize, service: u64) -> Option<u64>;
    /// Whether a row has the ids of a row of another batch.
    fn has_ids_of(&self, row: usize, other: &Self, other_row: usize) -> bool;
    fn row_count(&self) -> usize;
    fn row_bytes(&self) -> usize;
    fn times(&self) -> &[i64];
    fn stream_numbers(&self) -> &[u32];
    fn stream_table(&self) -> &[Arc<Stream>];
    fn key_table(&self) -> &KeyTable;
    /// Of every row; zeros: none.
    fn trace_ids(&self) -> &[[u8; 16]];
    fn add_stream(&mut self, stream: Arc<Stream>) -> u32;
    fn add_rows(&mut self, other: &Self, numbers: &[u32]);
}

impl RowBatch for LogBatch {
    fn identity(&self, _row: usize, _service: u64) -> Option<u64> {
        None
    }

    fn has_ids_of(&self, _row: usize, _other: &Self, _other_row: usize) -> bool {
        false
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn row_bytes(&self) -> usize {
        self.bytes()
    }

    fn times(&self) -> &[i64] {
        &self.columns.time
    }

    fn stream_numbers(&self) -> &[u32] {
        &self.columns.stream
    }

    fn stream_table(&self) -> &[Arc<Stream>] {
        &self.streams
    }

    fn key_table(&self) -> &KeyTable {
        &self.keys
    }

    fn trace_ids(&self) -> &[[u8; 16]] {
        &self.columns.trace_id
    }

    fn add_stream(&mut self, stream: Arc<Stream>) -> u32 {
        self.stream(stream)
    }

    fn add_rows(&mut self, other: &Self, numbers: &[u32]) {
        self.push_batch(other, numbers);
    }
}

impl RowBatch for SpanBatch {
    fn identity(&self, row: usize, service: u64) -> Option<u64> {
        let columns = &self.columns;
        let (trace, span) = (&columns.trace_id[row], &columns.span_id[row]);
        Some(span_identity(trace, span, columns.kind[row], service))
    }

    fn has_ids_of(&self, row: usize, other: &Self, other_row: usize) -> bool {
        let (a, b) = (&self.columns, &other.columns);
        a.trace_id.get(row) == b.trace_id.get(other_row)
            && a.span_id.get(row) == b.span_id.get(other_row)
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn row_bytes(&self) -> usize {
        self.bytes() + IDENTITY_BYTES * self.len()
    }

    fn times(&self) -> &[i64] {
        &self.columns.time
    }

    fn stream_numbers(&self) -> &[u32] {
        &self.columns.stream
    }

    fn stream_table(&self) -> &[Arc<Stream>] {
        &self.streams
    }

    fn key_table(&self) -> &KeyTable {
        &self.keys
    }

    fn trace_ids(&self) -> &[[u8; 16]] {
        &self.columns.trace_id
    }

    fn add_stream(&mut self, stream: Arc<Stream>) -> u32 {
        self.stream(stream)
    }

    fn add_rows(&mut self, other: &Self, numbers: &[u32]) {
        self.push_batch(other, numbers);
    }
}

/// A hash of what makes two spans the same; `service` is a hash of [`service_of`].
pub(crate) fn span_identity(trace: &[u8; 16], span: &[u8; 8], kind: u8, service: u64) -> u64 {
    let mut key = [0; 33];
    key[..16].copy_from_slice(trace);
    key[16..24].copy_from_slice(span);
    key[24..32].copy_from_slice(&service.to_le_bytes());
    key[32] = kind;
    xxh3_64(&key)
}

/// The streams of a tenant in a generation, each once.
#[derive(Default)]
struct StreamTable {
    streams: Vec<Arc<Stream>>,
    /// Hash of the service of each.
    services: Vec<u64>,
    by_content: HashTable<(u64, u32)>,
    /// As readers get them, until another stream comes.
    shared: OnceLock<Arc<Streams>>,
    /// The numbers of streams as callers hold them, by address: a caller that keeps its streams pays
    /// for the comparison once.
    by_address: HashMap<usize, (Arc<Stream>, u32)>,
}

/// Addresses remembered: callers that make each stream anew fill the table with what nobody asks for.
const ADDRESSES_MAX: usize = 4096;

impl StreamTable {
    fn number(&mut self, stream: &Arc<Stream>) -> u32 {
        let address = Arc::as_ptr(stream) as usize;
        if let Some((_, number)) = self.by_address.get(&address) {
            return *number;
        }
        let (labels, rest) = stream_sort_key(stream);
        let hash = xxh3_64(labels.as_bytes()) ^ xxh3_64(&rest).rotate_left(1);
        let streams = &self.streams;
        let same = |(known, number): &(u64, u32)| {
            *known == hash
                && streams
                    .get(*number as usize)
                    .is_some_and(|s| is_same(s, stream))
        };
        let number = match self.by_content.find(hash, same) {
            Some((_, number)) => *number,
            None => {
                let number = self.streams.len() as u32;
                self.by_content
                    .insert_unique(hash, (hash, number), |(hash, _)| *hash);
                self.streams.push(Arc::clone(stream));
                self.services.push(xxh3_64(service_of(stream).as_bytes()));
                self.shared = OnceLock::new();
                number
            }
        };
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.clear();
        }
        self.by_address
            .insert(address, (Arc::clone(stream), number));
        number
    }

    /// About how many bytes of memory the streams take.
    fn bytes_of(stream: &Stream) -> usize {
        let (labels, rest) = stream_sort_key(stream);
        256 + 2 * labels.as_bytes().len() + 4 * rest.len()
    }
}

/// Whether two streams are the same, bit by bit (a NaN equals itself).
fn is_same(a: &Stream, b: &Stream) -> bool {
    a.labels == b.labels && stream_sort_key(a).1 == stream_sort_key(b).1
}

/// The service of a stream: the resource's `service.name`, else the label.
pub(crate) fn service_of(stream: &Stream) -> &str {
    let named = stream
        .resource
        .iter()
        .rev()
        .find_map(|(key, value)| match value {
            AttributeValue::String(name) if key == "service.name" => Some(name.as_str()),
            _ => None,
        });
    named
        .or_else(|| stream.labels.get("service_name"))
        .unwrap_or("")
}

/// Rows that are gone, but for pins up to a number.
#[derive(Clone)]
struct Hidden {
    rows: RoaringBitmap,
    newest_pin: u64,
}

struct HeadBatch<B> {
    batch: Arc<B>,
    /// Of each stream of the batch: its number among the tenant's.
    numbers: Arc<Vec<u32>>,
    range: TimeRange,
    /// Number of the first row; the others follow.
    first: u64,
    hidden: Vec<Hidden>,
    /// Rows whose place a later row took, and the number of that row.
    replaced: Vec<(u32, u64)>,
    /// A Bloom filter of the trace ids, once no more rows are joined to the batch.
    traces: Option<Box<[u8]>>,
}

impl<B: RowBatch> HeadBatch<B> {
    /// Makes the filter of trace ids. Answers how many bytes it takes.
    fn close(&mut self) -> usize {
        let mut before = [0; 16];
        let mut hashes = Vec::new();
        for id in self.batch.trace_ids() {
            // Spans of a trace mostly come together.
            if *id != before && *id != [0; 16] {
                before = *id;
                hashes.push(bloom::hash(id));
            }
        }
        let mut filter = Vec::new();
        bloom::build(&hashes, &mut filter);
        let bytes = filter.len();
        self.traces = Some(filter.into());
        bytes
    }

    /// Whether there may be rows of traces with these hashes; `false` is certain.
    fn may_have(&self, traces: &[u64]) -> bool {
        let has = |filter: &[u8]| traces.iter().any(|hash| bloom::may_contain(filter, *hash));
        self.traces.as_deref().is_none_or(has)
    }

    /// The rows that a pin (0: nobody) sees, for which rows end at `mark`.
    fn seen(&self, pin: u64, mark: u64) -> Selection {
        let count = mark
            .saturating_sub(self.first)
            .min(self.batch.row_count() as u64);
        let mut rows = Selection::All(count as usize);
        for hidden in &self.hidden {
            if pin == 0 || pin > hidden.newest_pin {
                rows.retain(|row| !hidden.rows.contains(row));
            }
        }
        if !self.replaced.is_empty() {
            let replaced = self.replaced.iter().filter(|(_, by)| *by < mark);
            let replaced: RoaringBitmap = replaced.map(|(row, _)| *row).collect();
            rows.retain(|row| !replaced.contains(row));
        }
        rows
    }
}

/// Rows of one tenant.
struct TenantRows<B> {
    streams: StreamTable,
    batches: Vec<HeadBatch<B>>,
    /// Identities and the number of the newest row of each.
    newest: HashTable<(u64, u64)>,
    /// Rows of the batch that is being added that are replaced by others of it.
    replaced_inside: Vec<(u64, u64)>,
}

impl<B> Default for TenantRows<B> {
    fn default() -> Self {
        Self {
            streams: StreamTable::default(),
            batches: Vec::new(),
            newest: HashTable::new(),
            replaced_inside: Vec::new(),
        }
    }
}

/// A batch as a reader sees it.
#[derive(Clone)]
pub(crate) struct SeenBatch<B> {
    pub(crate) batch: Arc<B>,
    /// Of each stream of the batch: its number among those of the source.
    pub(crate) numbers: Arc<Vec<u32>>,
    pub(crate) range: TimeRange,
    /// Rows that are there.
    pub(crate) rows: Selection,
}

/// The rows of a tenant in a generation, as a reader sees them.
pub(crate) struct SeenRows<B> {
    pub(crate) streams: Arc<Streams>,
    /// In order of arrival.
    pub(crate) batches: Vec<SeenBatch<B>>,
}

/// Rows of one signal.
pub(crate) struct Rows<B> {
    tenants: HashMap<TenantIndex, TenantRows<B>>,
    count: u64,
    next: u64,
}

pub(crate) type LogRows = Rows<LogBatch>;
pub(crate) type SpanRows = Rows<SpanBatch>;

impl<B> Default for Rows<B> {
    fn default() -> Self {
        Self {
            tenants: HashMap::new(),
            count: 0,
            next: 0,
        }
    }
}

fn range_of(times: &[i64]) -> TimeRange {
    let (first, last) = times
        .iter()
        .fold((i64::MAX, i64::MIN), |(first, last), time| {
            (first.min(*time), last.max(*time))
        });
    TimeRange::new(first, last)
}

impl<B: RowBatch> Rows<B> {
    /// Adds a batch. Answers how many bytes of memory that took.
    pub(crate) fn push(&mut self, tenant: TenantIndex, batch: Arc<B>) -> u64 {
        let rows = self.tenants.entry(tenant).or_default();
        let known = rows.streams.streams.len();
        let table = batch.stream_table().iter();
        let numbers: Vec<u32> = table.map(|stream| rows.streams.number(stream)).collect();
        let new = rows.streams.streams.iter().skip(known);
        let mut bytes: usize = new.map(|stream| StreamTable::bytes_of(stream)).sum();
        let count = batch.row_count();
        let first = self.next;
        rows.note_newest(&*batch, &numbers, first);
        bytes += batch.row_bytes();
        let range = range_of(batch.times());
        if let Some(last) = rows.batches.last_mut()
            && last.first + last.batch.row_count() as u64 == first
            && last.batch.row_count() + count <= JOINED_ROWS_MAX
            && let Some(open) = Arc::get_mut(&mut last.batch)
        {
            let joined = Arc::make_mut(&mut last.numbers);
            let mut places = Vec::with_capacity(numbers.len());
            for (stream, number) in batch.stream_table().iter().zip(&numbers) {
                let place = match joined.iter().position(|known| known == number) {
                    Some(place) => place as u32,
                    None => {
                        joined.push(*number);
                        open.add_stream(Arc::clone(stream))
                    }
                };
                places.push(place);
            }
            open.add_rows(&batch, &places);
            last.range = TimeRange::new(
                last.range.start.0.min(range.start.0),
                last.range.end.0.max(range.end.0),
            );
        } else {
            bytes += BATCH_BYTES;
            if let Some(last) = rows.batches.last_mut()
                && last.traces.is_none()
            {
                bytes += last.close();
            }
            let mut new = HeadBatch {
                batch,
                numbers: Arc::new(numbers),
                range,
                first,
                hidden: Vec::new(),
                replaced: Vec::new(),
                traces: None,
            };
            if count >= JOINED_ROWS_MAX {
                bytes += new.close();
            }
            rows.batches.push(new);
        }
        if let Some(last) = rows.batches.last_mut() {
            let inside = rows.replaced_inside.drain(..);
            last.replaced
                .extend(inside.map(|(row, by)| ((row - last.first) as u32, by)));
        }
        self.next += count as u64;
        self.count += count as u64;
        bytes as u64
    }

    /// Rows held (of which some may have been replaced).
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the next row.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.next
    }

    /// What a pin (0: nobody), for which rows end at number `mark`, sees of a tenant: batches that may
    /// have rows in the range and, where `traces` are given, of one of those.
    pub(crate) fn see(
        &self,
        tenant: TenantIndex,
        range: TimeRange,
        traces: Option<&[TraceId]>,
        (pin, mark): (u64, u64),
    ) -> Option<SeenRows<B>> {
        let rows = self.tenants.get(&tenant)?;
        let table = &rows.streams;
        let streams = table
            .shared
            .get_or_init(|| Arc::new(Streams::of(&table.streams)));
        let streams = Arc::clone(streams);
        let hashes: Option<Vec<u64>> =
            traces.map(|ids| ids.iter().map(|id| bloom::hash(&id.0)).collect());
        let batches = rows.batches.iter().filter(|batch| {
            batch.range.overlaps(range)
                && batch.first < mark
                && hashes.as_ref().is_none_or(|hashes| batch.may_have(hashes))
        });
        let seen = batches.map(|batch| SeenBatch {
            batch: Arc::clone(&batch.batch),
            numbers: Arc::clone(&batch.numbers),
            range: batch.range,
            rows: batch.seen(pin, mark),
        });
        Some(SeenRows {
            streams,
            batches: seen.filter(|batch| !batch.rows.is_empty()).collect(),
        })
    }

    /// Removes the rows of matching streams in a range. Pins up to `newest_pin` go on seeing them.
    pub(crate) fn remove(
        &mut self,
        tenant: TenantIndex,
        matchers: &[Matcher],
        newest_pin: u64,
        range: TimeRange,
    ) {
        let Some(rows) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let matches =
            |stream: &Arc<Stream>| matchers.iter().all(|m| m.matches_labels(&stream.labels));
        let doomed: Vec<bool> = rows.streams.streams.iter().map(matches).collect();
        for batch in &mut rows.batches {
            if !batch.range.overlaps(range) {
                continue;
            }
            let doomed: Vec<bool> = batch
                .numbers
                .iter()
                .map(|number| doomed.get(*number as usize) == Some(&true))
                .collect();
            let mut gone = Selection::All(batch.batch.row_count());
            gone.retain_times(batch.batch.times(), range);
            let streams = batch.batch.stream_numbers();
            gone.retain(|row| {
                let stream = streams.get(row as usize);
                stream.is_some_and(|stream| doomed.get(*stream as usize) == Some(&true))
            });
            let hidden = &batch.hidden;
            gone.retain(|row| !hidden.iter().any(|hidden| hidden.rows.contains(row)));
            if gone.is_empty() {
                continue;
            }
            self.count -= gone.len() as u64;
            batch.hidden.push(Hidden {
                rows: gone.into_rows().into_iter().collect(),
                newest_pin,
            });
        }
    }

    /// Joins what was deleted at different times: no pin sees any of it any more.
    pub(crate) fn forget_removed(&mut self) {
        for rows in self.tenants.values_mut() {
            for batch in &mut rows.batches {
                if let Some((first, others)) = batch.hidden.split_first_mut() {
                    others.iter().for_each(|other| first.rows |= &other.rows);
                    first.newest_pin = 0;
                    batch.hidden.truncate(1);
                }
            }
        }
    }
}

impl Rows<SpanBatch> {
    /// Whether a pin (0: nobody), for which rows end at `mark`, sees a span of this identity and ids.
    pub(crate) fn has_span(
        &self,
        tenant: TenantIndex,
        identity: u64,
        (trace, span): ([u8; 16], [u8; 8]),
        (pin, mark): (u64, u64),
    ) -> bool {
        let Some(rows) = self.tenants.get(&tenant) else {
            return false;
        };
        let Some((_, newest)) = rows.newest.find(identity, |known| known.0 == identity) else {
            return false;
        };
        let is_it = |batch: &HeadBatch<SpanBatch>, row: u32| {
            let columns = &batch.batch.columns;
            columns.trace_id.get(row as usize) == Some(&trace)
                && columns.span_id.get(row as usize) == Some(&span)
        };
        if *newest < mark {
            let at = rows.batches.partition_point(|batch| batch.first <= *newest);
            let batch = at.checked_sub(1).and_then(|at| rows.batches.get(at));
            return batch.is_some_and(|batch| {
                let row = (*newest - batch.first) as u32;
                let is_hidden = |hidden: &Hidden| {
                    (pin == 0 || pin > hidden.newest_pin) && hidden.rows.contains(row)
                };
                is_it(batch, row) && !batch.hidden.iter().any(is_hidden)
            });
        }
        // The newest version came after the pin; an earlier one may be there.
        rows.batches.iter().any(|batch| {
            let mut seen = batch.seen(pin, mark);
            seen.retain(|row| is_it(batch, row));
            !seen.is_empty()
        })
    }
}

impl<B: RowBatch> TenantRows<B> {
    /// Notes identities, and which rows were replaced by those of a batch that is about to be added.
    fn note_newest(&mut self, batch: &B, numbers: &[u32], first: u64) {
        for (row, stream) in batch.stream_numbers().iter().enumerate() {
            let number = numbers.get(*stream as usize).copied().unwrap_or(0);
            let service = self.streams.services.get(number as usize).copied();
            let Some(identity) = batch.identity(row, service.unwrap_or(0)) else {
                return;
            };
            let by = first + row as u64;
            match self.newest.find_mut(identity, |known| known.0 == identity) {
                None => {
                    self.newest
                        .insert_unique(identity, (identity, by), |known| known.0);
                }
                Some(known) => {
                    let before = std::mem::replace(&mut known.1, by);
                    self.note_replaced(before, (batch, row), (first, by));
                }
            }
        }
    }

    /// Row `before` gives its place to a row of a batch that is not here yet and will begin at `first`,
    /// as row `by`; unless only their hashes are the same.
    fn note_replaced(&mut self, before: u64, (batch, row): (&B, usize), (first, by): (u64, u64)) {
        if let Some(inside) = before.checked_sub(first) {
            if batch.has_ids_of(row, batch, inside as usize) {
                self.replaced_inside.push((before, by));
            }
            return;
        }
        let at = self.batches.partition_point(|batch| batch.first <= before);
        let earlier = at.checked_sub(1).and_then(|at| self.batches.get_mut(at));
        let Some(earlier) = earlier else { return };
        let place = (before - earlier.first) as u32;
        if batch.has_ids_of(row, &earlier.batch, place as usize) {
            earlier.replaced.push((place, by));
        }
    }
}
