//! Spans of a batch, as they are counted.

use chronolith_engine::model::{AttributeValue, Stream};
use chronolith_engine::rows::{KeyTable, RawAttributes, SpanBatch, ValueRef};

use super::{Connection, SpanMetrics, SpanSample, kind};

/// Bytes of a span besides its texts: ids, times, kind, status.
const FIXED_BYTES: u64 = 65;
/// The service of spans whose stream names none.
const UNKNOWN: &str = "unknown_service";

/// Attributes of client spans that name whom they call, the best first.
const PEERS: [(&str, Connection); 8] = [
    ("db.name", Connection::Database),
    ("db.namespace", Connection::Database),
    ("db.system.name", Connection::Database),
    ("db.system", Connection::Database),
    ("peer.service", Connection::Virtual),
    ("server.address", Connection::Virtual),
    ("net.peer.name", Connection::Virtual),
    ("messaging.system", Connection::Virtual),
];

fn service_of(stream: &Stream) -> &str {
    let mut resource = stream.resource.iter().rev();
    let named = resource.find_map(|(key, value)| match value {
        AttributeValue::String(name) if key == "service.name" => Some(name.as_str()),
        _ => None,
    });
    named
        .or_else(|| stream.labels.get("service_name"))
        .unwrap_or(UNKNOWN)
}

/// Which keys of a batch name peers, by number; empty when none does.
fn peer_keys(keys: &KeyTable) -> Vec<(u32, usize)> {
    let places = PEERS.iter().enumerate();
    let found = places.filter_map(|(rank, (key, _))| Some((keys.find(key)?, rank)));
    found.collect()
}

fn peer<'a>(
    mut attributes: RawAttributes<'a>,
    keys: &[(u32, usize)],
) -> Option<(&'a str, Connection)> {
    let mut best: Option<(usize, &str)> = None;
    while let Some((number, value)) = attributes.next_numbered() {
        let rank = keys.iter().find(|(key, _)| *key == number);
        if let (Some((_, rank)), ValueRef::Str(name)) = (rank, value)
            && !name.is_empty()
            && best.is_none_or(|(known, _)| *rank < known)
        {
            best = Some((*rank, name));
        }
    }
    let (rank, name) = best?;
    PEERS.get(rank).map(|(_, connection)| (name, *connection))
}

impl SpanMetrics {
    /// Counts the spans of a batch that arrived at `now`, nanoseconds.
    pub fn batch(&mut self, batch: &SpanBatch, now: i64) {
        let streams = batch.streams().iter();
        let services: Vec<u32> = streams.map(|s| self.service(service_of(s))).collect();
        let keys = peer_keys(batch.keys());
        let columns = batch.columns();
        let rows = columns
            .stream
            .iter()
            .zip(&columns.kind)
            .zip(&columns.status);
        let rows = rows.zip(&columns.duration).zip(&columns.trace_id);
        let rows = rows.zip(&columns.span_id).zip(&columns.parent_span_id);
        for (row, ((((((stream, kind), status), duration), trace), span), parent)) in
            rows.enumerate()
        {
            let name = columns.name.get(row).unwrap_or_default();
            let is_client = matches!(*kind, kind::CLIENT | kind::PRODUCER);
            let length = |texts: Option<&[u8]>| texts.map_or(0, <[u8]>::len) as u64;
            let size = length(columns.attributes.get(row))
                + length(columns.events.get(row))
                + length(columns.links.get(row))
                + length(columns.status_message.get(row));
            self.count(
                &SpanSample {
                    service: services.get(*stream as usize).copied().unwrap_or(u32::MAX),
                    name,
                    kind: *kind,
                    status: *status,
                    duration_ns: *duration,
                    size_bytes: FIXED_BYTES + name.len() as u64 + size,
                    trace_id: *trace,
                    span_id: *span,
                    parent_span_id: *parent,
                    peer: match is_client && !keys.is_empty() {
                        true => peer(batch.attributes(row), &keys),
                        false => None,
                    },
                },
                now,
            );
        }
    }
}
