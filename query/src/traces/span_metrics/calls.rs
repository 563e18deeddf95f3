//! Spans by service, operation, kind and status.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::histogram::{Bounds, Histogram};
use super::{
    MetricRow, NAME_BYTES_MAX, NO_SERVICE, OVERFLOW, Services, SpanMetricsOptions, SpanSample,
    kind, status_name,
};

#[derive(Debug)]
struct Key {
    service: u32,
    kind: u8,
    status: u8,
    /// As hashed, so that a longer name with the same beginning is the same.
    name: Box<str>,
}

#[derive(Debug)]
struct Counted {
    key: Option<Key>,
    hash: u64,
    latency: Histogram,
    bytes: u64,
    /// When a span came last.
    last: i64,
    /// When it stood at 0; `None` before the first collection.
    started: Option<i64>,
}

/// Counters by key.
#[derive(Debug)]
pub(super) struct Calls {
    bounds: Bounds,
    seed: u64,
    keys_max: usize,
    /// Places in `counted`.
    table: HashTable<u32>,
    counted: Vec<Counted>,
    overflow: Counted,
}

impl Calls {
    pub(super) fn new(options: &SpanMetricsOptions, seed: u64) -> Self {
        let bounds = Bounds::new(&options.latency_buckets_ns);
        Self {
            overflow: Counted::new(None, 0, &bounds),
            bounds,
            seed,
            keys_max: options.keys_max,
            table: HashTable::new(),
            counted: Vec::new(),
        }
    }

    pub(super) fn set_keys_max(&mut self, keys_max: usize) {
        self.keys_max = keys_max;
    }

    pub(super) fn len(&self) -> usize {
        self.counted.len()
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.overflow.latency.count()
    }

    #[inline]
    pub(super) fn count(&mut self, span: &SpanSample<'_>, now: i64) {
        let name = span.name.get(..NAME_BYTES_MAX).unwrap_or(span.name);
        let rest =
            u64::from(span.service) << 16 | u64::from(span.kind) << 8 | u64::from(span.status);
        let hash = xxh3_64_with_seed(name, self.seed ^ rest.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let counted = &mut self.counted;
        let is_same = |place: &u32| {
            let found = counted.get(*place as usize).and_then(|c| c.key.as_ref());
            found.is_some_and(|key| {
                key.service == span.service
                    && (key.kind, key.status) == (span.kind, span.status)
                    && is_name(&key.name, name)
            })
        };
        let place = match self.table.find(hash, is_same) {
            Some(place) => Some(*place),
            None => self.add(span, name, hash),
        };
        let counted = place.and_then(|place| self.counted.get_mut(place as usize));
        let counted = counted.unwrap_or(&mut self.overflow);
        counted.latency.add(&self.bounds, span.duration_ns);
        counted.bytes += span.size_bytes;
        counted.last = now;
    }

    #[cold]
    fn add(&mut self, span: &SpanSample<'_>, name: &[u8], hash: u64) -> Option<u32> {
        if self.counted.len() >= self.keys_max || span.service == NO_SERVICE {
            return None;
        }
        let key = Key {
            service: span.service,
            kind: span.kind,
            status: span.status,
            name: valid(name).into(),
        };
        let place = u32::try_from(self.counted.len()).ok()?;
        self.counted
            .push(Counted::new(Some(key), hash, &self.bounds));
        let counted = &self.counted;
        let rehash = |place: &u32| counted.get(*place as usize).map_or(0, |c| c.hash);
        self.table.insert_unique(hash, place, rehash);
        Some(place)
    }

    pub(super) fn collect(
        &mut self,
        services: &Services,
        since: i64,
        idle_since: i64,
        row: &mut impl FnMut(MetricRow<'_>),
    ) {
        let mut place = 0;
        while let Some(counted) = self.counted.get_mut(place) {
            let is_idle = counted.last < idle_since;
            counted.collect(&self.bounds, services, (since, is_idle), row);
            if !is_idle {
                place += 1;
                continue;
            }
            // The last one takes its place.
            let (gone, last) = (place as u32, self.counted.len() as u32 - 1);
            let hash = self.counted.get(place).map_or(0, |c| c.hash);
            if let Ok(entry) = self.table.find_entry(hash, |p| *p == gone) {
                entry.remove();
            }
            self.counted.swap_remove(place);
            let moved = self.counted.get(place).map_or(0, |c| c.hash);
            if let Some(entry) = self.table.find_mut(moved, |p| *p == last) {
                *entry = gone;
            }
        }
        if self.overflow.latency.count() > 0 {
            // This one stays: it says that a limit was met.
            let of_overflow = (since, false);
            self.overflow
                .collect(&self.bounds, services, of_overflow, row);
        }
    }
}

/// The valid beginning of a name: text that was cut may end inside a letter.
fn valid(name: &[u8]) -> &str {
    match std::str::from_utf8(name) {
        Ok(name) => name,
        Err(error) => {
            let valid = name.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).unwrap_or_default()
        }
    }
}

#[inline]
fn is_name(kept: &str, name: &[u8]) -> bool {
    kept.as_bytes() == name || (name.len() == NAME_BYTES_MAX && kept == valid(name))
}

impl Counted {
    fn new(key: Option<Key>, hash: u64, bounds: &Bounds) -> Self {
        Self {
            key,
            hash,
            latency: bounds.empty(),
            bytes: 0,
            last: i64::MIN,
            started: None,
        }
    }

    fn collect(
        &mut self,
        bounds: &Bounds,
        services: &Services,
        (since, has_ended): (i64, bool),
        row: &mut impl FnMut(MetricRow<'_>),
    ) {
        let is_new = self.started.is_none();
        let started = *self.started.get_or_insert(since);
        let mut labels = match &self.key {
            Some(key) => vec![
                ("service", services.name(key.service)),
                ("span_name", &*key.name),
                ("span_kind", kind::name(key.kind)),
                ("status_code", status_name(key.status)),
            ],
            None => vec![OVERFLOW],
        };
        let mut emit = |metric, labels: &[(&'static str, &str)], value: f64| {
            row(MetricRow {
                metric,
                labels,
                value: (!has_ended).then_some(value),
                started,
                is_new,
            });
        };
        let count = self.latency.count() as f64;
        emit("traces_spanmetrics_calls_total", &labels, count);
        emit("traces_spanmetrics_size_total", &labels, self.bytes as f64);
        let sum = self.latency.sum_seconds();
        emit("traces_spanmetrics_latency_sum", &labels, sum);
        emit("traces_spanmetrics_latency_count", &labels, count);
        for (le, count) in self.latency.cumulative(bounds) {
            labels.push(("le", le));
            emit("traces_spanmetrics_latency_bucket", &labels, count as f64);
            labels.pop();
        }
    }
}
