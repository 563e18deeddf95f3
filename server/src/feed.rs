//! Hands rows that were committed to whoever computes from them: runs, metrics of spans.
//!
//! The engine tells an observer of every batch on the thread that applies the log, so the observer only
//! asks who wants the batch (by its keys, not its rows) and puts it into a queue; one worker does the
//! rest. Batches are shared with the head, not copied. When the queue is full, the batch is worked on
//! where it is, so that ingest waits and nothing is lost.
//!
//! What the log gives back at the start is passed over: consumers that need the past read it from the
//! store, which has more of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronolith_engine::rows::{LogBatch, SpanBatch};
use chronolith_engine::{RowObserver, TenantId};
use parking_lot::{Condvar, Mutex};

use crate::telemetry::now_ms;

/// Bytes of batches that may wait.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// How often consumers are told the time.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Computes something from rows. Calls may come from several threads.
pub trait RowConsumer: Send + Sync {
    /// Whether a batch is of interest. Called while nothing else is applied: must not look at rows.
    fn wants_logs(&self, batch: &LogBatch) -> bool {
        let _ = batch;
        false
    }

    /// The same for spans.
    fn wants_spans(&self, batch: &SpanBatch) -> bool {
        let _ = batch;
        false
    }

    /// Log records were stored.
    fn logs(&self, tenant: &TenantId, batch: &LogBatch) {
        let _ = (tenant, batch);
    }

    /// Spans were stored.
    fn spans(&self, tenant: &TenantId, batch: &SpanBatch) {
        let _ = (tenant, batch);
    }

    /// Another second has passed; `now` in nanoseconds since the epoch.
    fn tick(&self, now: i64) {
        let _ = now;
    }
}

enum Rows {
    Logs(Arc<LogBatch>),
    Spans(Arc<SpanBatch>),
}

struct Item {
    tenant: TenantId,
    rows: Rows,
    /// Bit `i`: consumer `i` wants it.
    wanted_by: u32,
    bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    /// Bytes of what waits or is worked on.
    bytes: usize,
    /// Items that were put into the queue, and those that are done.
    pushed: u64,
    done: u64,
    is_stopped: bool,
}

/// The queue and the consumers.
pub struct Feed {
    consumers: Vec<Arc<dyn RowConsumer>>,
    is_open: AtomicBool,
    state: Mutex<State>,
    pushed: Condvar,
    done: Condvar,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("consumers", &self.consumers.len())
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// For these consumers, at most 32. Passes everything over until [`Feed::open`].
    #[must_use]
    pub fn new(consumers: Vec<Arc<dyn RowConsumer>>) -> Self {
        debug_assert!(consumers.len() <= 32, "bug: too many consumers of rows");
        Self {
            consumers,
            is_open: AtomicBool::new(false),
            state: Mutex::default(),
            pushed: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// From now on rows are handed on; starts the worker, which runs until [`Feed::stop`].
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn open(self: &Arc<Self>) -> std::io::Result<()> {
        let feed = Arc::clone(self);
        let worker = std::thread::Builder::new().name("chronolith-feed".into());
        worker.spawn(move || feed.work())?;
        self.is_open.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends the worker once it has done what waits.
    pub fn stop(&self) {
        self.is_open.store(false, Ordering::Release);
        self.state.lock().is_stopped = true;
        self.pushed.notify_all();
    }

    /// Waits until what is in the queue now is done, no longer than `timeout`: whoever wrote before
    /// reads what came of it. Blocks.
    pub fn settle(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        let wanted = state.pushed;
        while state.done < wanted {
            if self.done.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    fn wanted_by(&self, wants: impl Fn(&dyn RowConsumer) -> bool) -> u32 {
        if !self.is_open.load(Ordering::Acquire) {
            return 0;
        }
        let consumers = self.consumers.iter().enumerate();
        consumers.fold(0, |all, (place, consumer)| {
            all | u32::from(wants(&**consumer)) << place
        })
    }

    fn push(&self, item: Item) {
        let mut state = self.state.lock();
        if state.bytes + item.bytes > QUEUE_BYTES_MAX && state.bytes > 0 {
            drop(state);
            return self.work_on(&item);
        }
        state.bytes += item.bytes;
        state.pushed += 1;
        state.queue.push_back(item);
        drop(state);
        self.pushed.notify_one();
    }

    fn work_on(&self, item: &Item) {
        for (place, consumer) in self.consumers.iter().enumerate() {
            if item.wanted_by >> place & 1 == 1 {
                match &item.rows {
                    Rows::Logs(batch) => consumer.logs(&item.tenant, batch),
                    Rows::Spans(batch) => consumer.spans(&item.tenant, batch),
                }
            }
        }
    }

    fn work(&self) {
        let mut next_tick = Instant::now() + TICK_INTERVAL;
        loop {
            let mut state = self.state.lock();
            while state.queue.is_empty() && !state.is_stopped && Instant::now() < next_tick {
                self.pushed.wait_until(&mut state, next_tick);
            }
            let item = state.queue.pop_front();
            if item.is_none() && state.is_stopped {
                return;
            }
            drop(state);
            if let Some(item) = item {
                self.work_on(&item);
                let mut state = self.state.lock();
                state.done += 1;
                state.bytes = state.bytes.saturating_sub(item.bytes);
                drop(state);
                self.done.notify_all();
            }
            if Instant::now() >= next_tick {
                let now = now_ms().saturating_mul(1_000_000);
                self.consumers
                    .iter()
                    .for_each(|consumer| consumer.tick(now));
                next_tick = Instant::now() + TICK_INTERVAL;
            }
        }
    }
}

impl RowObserver for Feed {
    fn logs(&self, tenant: &TenantId, batch: &Arc<LogBatch>) {
        let wanted_by = self.wanted_by(|consumer| consumer.wants_logs(batch));
        if wanted_by != 0 {
            self.push(Item {
                tenant: tenant.clone(),
                bytes: batch.bytes(),
                rows: Rows::Logs(Arc::clone(batch)),
                wanted_by,
            });
        }
    }

    fn spans(&self, tenant: &TenantId, batch: &Arc<SpanBatch>) {
        let wanted_by = self.wanted_by(|consumer| consumer.wants_spans(batch));
        if wanted_by != 0 {
            self.push(Item {
                tenant: tenant.clone(),
                bytes: batch.bytes(),
                rows: Rows::Spans(Arc::clone(batch)),
                wanted_by,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use chronolith_engine::model::{Labels, Stream, TimestampNs};

    use super::*;

    #[derive(Default)]
    struct Counter {
        rows: AtomicUsize,
    }

    impl RowConsumer for Counter {
        fn wants_logs(&self, batch: &LogBatch) -> bool {
            batch.keys().find("wanted").is_some()
        }

        fn logs(&self, _tenant: &TenantId, batch: &LogBatch) {
            self.rows.fetch_add(batch.len(), Ordering::Relaxed);
        }
    }

    fn batch(key: &str, body_bytes: usize) -> Arc<LogBatch> {
        let mut batch = LogBatch::new();
        let stream = batch.stream(Arc::new(Stream::from_labels(Labels::default())));
        let row = batch.row(stream, TimestampNs(1));
        row.finish_text("", &"x".repeat(body_bytes), "", |out| out.str(key, "v"));
        Arc::new(batch)
    }

    #[test]
    fn only_what_is_wanted_is_handed_on_and_nothing_is_lost() {
        let counter = Arc::new(Counter::default());
        let feed = Arc::new(Feed::new(
            vec![Arc::clone(&counter) as Arc<dyn RowConsumer>],
        ));
        let tenant = TenantId::default();
        feed.logs(&tenant, &batch("wanted", 1));
        feed.open().unwrap();
        feed.logs(&tenant, &batch("other", 1));
        let large = batch("wanted", QUEUE_BYTES_MAX / 2);
        (0..9).for_each(|_| feed.logs(&tenant, &large));
        feed.settle(Duration::from_secs(60));
        assert_eq!(counter.rows.load(Ordering::Relaxed), 9);
        feed.stop();
    }
}
