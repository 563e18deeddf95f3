//! Log records and spans of one generation of the head.
//!
//! Rows are kept as they came, per tenant and stream. Log records have no identity: equal times keep
//! their order of arrival. A span's identity is (trace id, span id, kind, service): the later wins.

use std::sync::Arc;

use hashbrown::HashMap;

use super::series_table::TenantIndex;
use crate::index::Matcher;
use crate::model::{AttributeValue, LogRecord, Span, SpanId, SpanKind, Stream, TraceId};

/// Rows of one stream in order of arrival.
#[derive(Debug)]
struct StreamRows<R> {
    stream: Arc<Stream>,
    rows: Vec<Arc<R>>,
    /// The number of each row among all of the generation.
    ordinals: Vec<u64>,
    /// Rows that were deleted while pins were live, with their numbers.
    removed: Vec<Removed<R>>,
}

#[derive(Debug)]
struct Removed<R> {
    row: Arc<R>,
    ordinal: u64,
    /// Pins above this number came after the deletion.
    newest_pin: u64,
}

impl<R> StreamRows<R> {
    /// The rows that a pin sees, which ends at `mark`: in order of arrival.
    fn seen(&self, pin: u64, mark: u64) -> Vec<&Arc<R>> {
        let count = self.ordinals.partition_point(|ordinal| *ordinal < mark);
        let there = self.rows.iter().zip(&self.ordinals).take(count);
        let removed = self
            .removed
            .iter()
            .filter(|gone| 0 < pin && pin <= gone.newest_pin && gone.ordinal < mark)
            .map(|gone| (&gone.row, &gone.ordinal));
        let mut seen: Vec<_> = there.chain(removed).collect();
        seen.sort_by_key(|(_, ordinal)| **ordinal);
        seen.into_iter().map(|(row, _)| row).collect()
    }
}

/// Rows of one signal, by tenant and stream.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    tenants: HashMap<TenantIndex, Vec<StreamRows<R>>>,
    /// Streams by the hash of their labels, to find one without walking all.
    by_labels: HashMap<(TenantIndex, u64), Vec<usize>>,
    count: u64,
    next_ordinal: u64,
}

pub(crate) type LogRows = Rows<LogRecord>;
pub(crate) type SpanRows = Rows<Span>;

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self {
            tenants: HashMap::new(),
            by_labels: HashMap::new(),
            count: 0,
            next_ordinal: 0,
        }
    }
}

impl<R> Rows<R> {
    pub(crate) fn push(&mut self, tenant: TenantIndex, stream: &Arc<Stream>, row: Arc<R>) {
        let streams = self.tenants.entry(tenant).or_default();
        let known = self
            .by_labels
            .entry((tenant, stream.labels.stable_hash()))
            .or_default();
        let same = |index: &&usize| {
            Arc::ptr_eq(&streams[**index].stream, stream) || *streams[**index].stream == **stream
        };
        let index = match known.iter().find(same) {
            Some(index) => *index,
            None => {
                streams.push(StreamRows {
                    stream: Arc::clone(stream),
                    rows: Vec::new(),
                    ordinals: Vec::new(),
                    removed: Vec::new(),
                });
                known.push(streams.len() - 1);
                streams.len() - 1
            }
        };
        streams[index].rows.push(row);
        streams[index].ordinals.push(self.next_ordinal);
        self.next_ordinal += 1;
        self.count += 1;
    }

    /// Rows held.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the next row.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }

    /// All rows of a tenant, by stream, in order of arrival.
    pub(crate) fn streams_of(&self, tenant: TenantIndex) -> Vec<(Arc<Stream>, Vec<Arc<R>>)> {
        let streams = self.tenants.get(&tenant).into_iter().flatten();
        streams
            .map(|s| (Arc::clone(&s.stream), s.rows.clone()))
            .collect()
    }

    /// The rows of matching streams that `keep` accepts, in order of arrival per stream, as a pin (0:
    /// nobody) sees them, for which the rows end at number `mark`.
    pub(crate) fn select<'a>(
        &'a self,
        tenant: TenantIndex,
        matchers: &'a [Matcher],
        (pin, mark): (u64, u64),
        keep: impl Fn(&R) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (&'a Arc<Stream>, &'a Arc<R>)> {
        self.tenants
            .get(&tenant)
            .into_iter()
            .flatten()
            .filter(|s| matchers.iter().all(|m| m.matches_labels(&s.stream.labels)))
            .flat_map(move |s| {
                let seen = s.seen(pin, mark).into_iter();
                seen.filter(move |row| keep(row))
                    .map(move |row| (&s.stream, row))
            })
    }

    /// Removes the rows of matching streams for which `doomed` answers true. Pins up to `newest_pin`
    /// go on seeing them.
    pub(crate) fn remove(
        &mut self,
        tenant: TenantIndex,
        matchers: &[Matcher],
        newest_pin: u64,
        doomed: impl Fn(&R) -> bool,
    ) {
        for streams in self.tenants.get_mut(&tenant).into_iter().flatten() {
            let labels = &streams.stream.labels;
            if !matchers.iter().all(|m| m.matches_labels(labels)) {
                continue;
            }
            let before = streams.rows.len();
            let rows = std::mem::take(&mut streams.rows).into_iter();
            let ordinals = std::mem::take(&mut streams.ordinals);
            for (row, ordinal) in rows.zip(ordinals) {
                if !doomed(&row) {
                    streams.rows.push(row);
                    streams.ordinals.push(ordinal);
                } else if newest_pin > 0 {
                    streams.removed.push(Removed {
                        row,
                        ordinal,
                        newest_pin,
                    });
                }
            }
            self.count -= (before - streams.rows.len()) as u64;
        }
    }

    /// Forgets deleted rows: no pin sees them any more.
    pub(crate) fn forget_removed(&mut self) {
        for streams in self.tenants.values_mut().flatten() {
            streams.removed = Vec::new();
        }
    }
}

/// What makes two spans the same.
pub(crate) type SpanIdentity<'a> = (TraceId, SpanId, SpanKind, &'a str);

/// The identity of a span; the service is the resource's `service.name`.
pub(crate) fn span_identity<'a>(stream: &'a Stream, span: &Span) -> SpanIdentity<'a> {
    let service = stream
        .resource
        .iter()
        .rev()
        .find_map(|(key, value)| match value {
            AttributeValue::String(name) if key == "service.name" => Some(name.as_str()),
            _ => None,
        });
    let service = service
        .or_else(|| stream.labels.get("service_name"))
        .unwrap_or("");
    (span.trace_id, span.span_id, span.kind, service)
}
