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
}

/// Rows of one signal, by tenant and stream.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    tenants: HashMap<TenantIndex, Vec<StreamRows<R>>>,
    /// Streams by the hash of their labels, to find one without walking all.
    by_labels: HashMap<(TenantIndex, u64), Vec<usize>>,
    count: u64,
}

pub(crate) type LogRows = Rows<LogRecord>;
pub(crate) type SpanRows = Rows<Span>;

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self {
            tenants: HashMap::new(),
            by_labels: HashMap::new(),
            count: 0,
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
                });
                known.push(streams.len() - 1);
                streams.len() - 1
            }
        };
        streams[index].rows.push(row);
        self.count += 1;
    }

    /// Rows held.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// All rows of a tenant, by stream, in order of arrival.
    pub(crate) fn streams_of(&self, tenant: TenantIndex) -> Vec<(Arc<Stream>, Vec<Arc<R>>)> {
        let streams = self.tenants.get(&tenant).into_iter().flatten();
        streams
            .map(|s| (Arc::clone(&s.stream), s.rows.clone()))
            .collect()
    }

    /// The rows of matching streams that `keep` accepts, in order of arrival per stream.
    pub(crate) fn select<'a>(
        &'a self,
        tenant: TenantIndex,
        matchers: &'a [Matcher],
        keep: impl Fn(&R) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (&'a Arc<Stream>, &'a Arc<R>)> {
        self.tenants
            .get(&tenant)
            .into_iter()
            .flatten()
            .filter(|s| matchers.iter().all(|m| m.matches_labels(&s.stream.labels)))
            .flat_map(move |s| {
                s.rows
                    .iter()
                    .filter(move |row| keep(row))
                    .map(move |row| (&s.stream, row))
            })
    }

    /// Removes the rows of matching streams for which `doomed` answers true.
    pub(crate) fn remove(
        &mut self,
        tenant: TenantIndex,
        matchers: &[Matcher],
        doomed: impl Fn(&R) -> bool,
    ) {
        for streams in self.tenants.get_mut(&tenant).into_iter().flatten() {
            if matchers
                .iter()
                .all(|m| m.matches_labels(&streams.stream.labels))
            {
                let before = streams.rows.len();
                streams.rows.retain(|row| !doomed(row));
                self.count -= (before - streams.rows.len()) as u64;
            }
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
