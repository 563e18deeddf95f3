//! Reading one state of the store several times: pins, and reads as of an earlier moment.
//!
//! A plain scan sees each series as it is when it reads it. A [`Snapshot`] sees the store between two
//! records of the log, however many scans it serves and whatever happens meanwhile. It holds the view
//! (segments, frozen generations, tombstones, derived rows never change inside one) and *pins* what
//! goes on changing: while a pin is live, the first change of a series in the head saves the state
//! before it, once per series and newest pin (`head/data.rs`); log records and spans are numbered.
//! Without pins none of this costs anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::changes::{ChangeMark, ChangedSince};
use super::engine::Engine;
use super::inner::{Inner, SessionToken};
use super::view::View;
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::data::HeadData;
use crate::head::tenant::Tenant;
use crate::index::Matcher;
use crate::model::{Generation, Labels, TimeRange, TimestampNs};
use crate::rows::{LogScanRequest, SpanScanRequest};
use crate::scan::{
    LogBlockScan, LogScan, MetricScan, ScanRequest, SpanBlockScan, SpanScan, listing,
};

/// Numbers of live pins, ascending. 0 is no pin.
pub(crate) type LivePins = SmallVec<[u64; 4]>;

/// The live pins of a store.
#[derive(Default)]
pub(crate) struct Pins {
    live: Mutex<BTreeMap<u64, Arc<View>>>,
    /// The highest number in `live`, or 0: to be looked at without the lock.
    newest: AtomicU64,
    issued: AtomicU64,
}

impl Pins {
    fn begin(&self, view: &Arc<View>) -> u64 {
        let mut live = self.live.lock();
        let number = self.issued.fetch_add(1, Ordering::AcqRel) + 1;
        live.insert(number, Arc::clone(view));
        self.newest.store(number, Ordering::Release);
        number
    }

    /// Answers whether no pin is left.
    fn end(&self, number: u64) -> bool {
        let mut live = self.live.lock();
        let ended = live.remove(&number);
        let newest = live.last_key_value().map_or(0, |(number, _)| *number);
        self.newest.store(newest, Ordering::Release);
        let none_left = live.is_empty();
        drop(live);
        // The last reference to a view may free a generation of the head: not under the lock.
        drop(ended);
        none_left
    }

    /// The live pins: empty, nearly always and for little.
    pub(crate) fn live(&self) -> LivePins {
        match self.newest.load(Ordering::Acquire) {
            0 => LivePins::new(),
            _ => self.live.lock().keys().copied().collect(),
        }
    }

    /// Estimated bytes that only pins hold: states before changes, and generations of the head that
    /// are not in the present view.
    pub(crate) fn held_bytes(&self, present: &View) -> u64 {
        if self.newest.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let live = self.live.lock();
        let mut seen: Vec<*const HeadData> = Vec::new();
        let mut bytes = 0;
        for head in present.heads() {
            seen.push(Arc::as_ptr(head));
            bytes += head.saved_bytes();
        }
        for head in live.values().flat_map(|view| view.heads()) {
            if !seen.contains(&Arc::as_ptr(head)) {
                seen.push(Arc::as_ptr(head));
                bytes += head.saved_bytes() + head.bytes();
            }
        }
        bytes
    }

    /// How many pins there have been: the number of the newest ever.
    pub(crate) fn issued(&self) -> u64 {
        self.issued.load(Ordering::Acquire)
    }
}

/// Where log records and spans of a generation of the head stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowMarks {
    pub(crate) logs: u64,
    pub(crate) spans: u64,
}

/// Keeps a state of the head readable.
pub(crate) struct Pin {
    inner: Arc<Inner>,
    view: Arc<View>,
    number: u64,
    /// Of each generation of the view's head.
    marks: Vec<RowMarks>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if !self.inner.pins.end(self.number) {
            return;
        }
        // A pin that begins now waits for this lock, and with it the saving of states for it.
        let _between_records = self.inner.applying.lock();
        if self.inner.pins.live().is_empty() {
            for head in self.view.heads().chain(self.inner.view().heads()) {
                head.forget_saved();
            }
        }
    }
}

/// The state of the store that a scan reads.
#[derive(Clone)]
pub(crate) struct ReadAt {
    pub(crate) view: Arc<View>,
    /// Only rows that were there at this time, nanoseconds.
    pub(crate) as_of: Option<i64>,
    pin: Option<Arc<Pin>>,
    /// Series of the head keep their slots meanwhile.
    _token: SessionToken,
}

impl ReadAt {
    /// The pin's number in the generations of the head, 0 without a pin.
    pub(crate) fn pin(&self) -> u64 {
        self.pin.as_ref().map_or(0, |pin| pin.number)
    }

    /// Where log records and spans of the head's generation `index` end.
    pub(crate) fn marks(&self, index: usize) -> RowMarks {
        let pinned = self.pin.as_ref().and_then(|pin| pin.marks.get(index));
        pinned.copied().unwrap_or(RowMarks {
            logs: u64::MAX,
            spans: u64::MAX,
        })
    }
}

impl Inner {
    /// The present, unpinned: what the head receives meanwhile may be seen.
    pub(crate) fn read_now(&self) -> ReadAt {
        let token = Arc::clone(&self.sessions.read());
        ReadAt {
            view: self.view(),
            as_of: None,
            pin: None,
            _token: token,
        }
    }

    /// The present, pinned between two records.
    fn read_pinned(
        self: &Arc<Self>,
        tenant: Option<&Tenant>,
        as_of: Option<i64>,
    ) -> (ReadAt, ChangeMark) {
        let token = Arc::clone(&self.sessions.read());
        let _between_records = self.applying.lock();
        let view = self.view();
        let marks = view.heads().map(|head| RowMarks {
            logs: head.logs.read().next_ordinal(),
            spans: head.spans.read().next_ordinal(),
        });
        let pin = Arc::new(Pin {
            inner: Arc::clone(self),
            number: self.pins.begin(&view),
            marks: marks.collect(),
            view: Arc::clone(&view),
        });
        let mark = tenant.map(|tenant| tenant.changes.mark());
        let at = ReadAt {
            view,
            as_of,
            pin: Some(pin),
            _token: token,
        };
        (at, mark.unwrap_or_default())
    }
}

/// One state of the store, to be read as often as needed: appends, deletions, seals and merges that
/// happen meanwhile are not seen. Clones share it.
///
/// While it lives, the segments that it reads stay on disk, and changed series of the head are kept
/// twice: hold it for a query, not for a day. Exemplars and metadata are not part of it.
#[derive(Clone)]
pub struct Snapshot {
    engine: Arc<Engine>,
    at: ReadAt,
    generation: Generation,
    /// Whose changes it knows: the tenant of the context that it was taken with.
    tenant: Option<Arc<Tenant>>,
    mark: ChangeMark,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("as_of", &self.at.as_of)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        context: &RequestContext,
        as_of: Option<TimestampNs>,
    ) -> Result<Self> {
        context.check()?;
        if let Some(moment) = as_of {
            engine.check_as_of(moment)?;
        }
        let tenant = engine.tenant(&context.tenant);
        let as_of = as_of.map(|moment| moment.0);
        let (at, mark) = engine.shared().read_pinned(tenant.as_deref(), as_of);
        Ok(Self {
            engine: Arc::clone(engine),
            generation: engine.generation(),
            at,
            tenant,
            mark,
        })
    }

    /// The store's generation when it was taken.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The moment that it shows, unless it is the present.
    #[must_use]
    pub fn as_of(&self) -> Option<TimestampNs> {
        self.at.as_of.map(TimestampNs)
    }

    /// Names this state of the metrics of the tenant that it was taken for.
    #[must_use]
    pub fn change_mark(&self) -> ChangeMark {
        self.mark
    }

    /// What changed between an earlier state of the same tenant's metrics and this one. What changed
    /// after this one may be among it.
    #[must_use]
    pub fn changed_since(&self, mark: ChangeMark) -> ChangedSince {
        let tenant = self.tenant.as_ref();
        tenant.map_or_else(ChangedSince::default, |tenant| tenant.changes.since(mark))
    }

    fn check(&self, context: &RequestContext, pinned: Option<Generation>) -> Result<()> {
        context.check()?;
        match pinned {
            Some(pinned) if pinned != self.generation => {
                Err(EngineError::InvalidArgument(format!(
                    "generation {pinned} is not that of the snapshot, {}",
                    self.generation
                )))
            }
            _ => Ok(()),
        }
    }

    /// Selects metric series.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out; damaged data.
    pub fn scan_metrics(
        &self,
        context: &RequestContext,
        request: &ScanRequest,
    ) -> Result<MetricScan> {
        self.check(context, request.generation)?;
        MetricScan::new(&self.engine, context, request, self.at.clone())
    }

    /// Log records in batches, ordered by (stream, time).
    ///
    /// # Errors
    /// As [`Snapshot::scan_metrics`]; and a snapshot of an earlier moment, which log records do not
    /// know.
    pub fn scan_logs(&self, context: &RequestContext, request: &ScanRequest) -> Result<LogScan> {
        self.check(context, request.generation)?;
        LogScan::new(&self.engine, context, request, &self.at)
    }

    /// Spans in batches, ordered by (stream, time).
    ///
    /// # Errors
    /// As [`Snapshot::scan_logs`].
    pub fn scan_spans(&self, context: &RequestContext, request: &ScanRequest) -> Result<SpanScan> {
        self.check(context, request.generation)?;
        SpanScan::new(&self.engine, context, request, &self.at)
    }

    /// Log records as blocks of columns.
    ///
    /// # Errors
    /// As [`Snapshot::scan_logs`].
    pub fn scan_log_blocks(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlockScan> {
        LogBlockScan::new(&self.engine, context, request, &self.at)
    }

    /// Spans as blocks of columns; of a span that was written several times the last version.
    ///
    /// # Errors
    /// As [`Snapshot::scan_logs`].
    pub fn scan_span_blocks(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlockScan> {
        SpanBlockScan::new(&self.engine, context, request, &self.at)
    }

    /// Label names of the selected metric series, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::scan_metrics`].
    pub fn label_names(
        &self,
        context: &RequestContext,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        listing::label_names(&self.engine, &self.at, context, matchers, range, limit)
    }

    /// Values of one label over the selected metric series, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::scan_metrics`].
    pub fn label_values(
        &self,
        context: &RequestContext,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        listing::label_values(
            &self.engine,
            &self.at,
            context,
            name,
            matchers,
            range,
            limit,
        )
    }

    /// Label sets of the metric series that pass any of the matcher sets, sorted, no duplicates.
    ///
    /// # Errors
    /// As [`Snapshot::scan_metrics`].
    pub fn series(
        &self,
        context: &RequestContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>> {
        listing::series(&self.engine, &self.at, context, matcher_sets, range, limit)
    }
}
