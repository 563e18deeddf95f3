//! Who follows the logs, and the batches that wait for each of them.
//!
//! The engine tells of every batch of log records on the thread that applies the log. A batch is shared
//! with the head, not copied, and put into the queue of each tail of its tenant; what happens to it
//! there is the tail's own business. A queue that is full takes no batch: the tail learns which streams
//! it missed something of, and since when. So a slow client costs nobody but itself, and never more
//! memory than its queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chronolith_engine::model::Stream;
use chronolith_engine::rows::LogBatch;
use chronolith_engine::{RowObserver, TenantId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes of batches that may wait for a tail.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Batches that may wait for a tail.
const QUEUE_BATCHES_MAX: usize = 4_096;
/// Dropped entries that are told of at a time; more are only counted.
const DROPPED_MAX: usize = 256;

/// All tails; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tails(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queues: RwLock<Vec<Arc<Queue>>>,
    /// Their number, to be looked at without a lock.
    count: AtomicUsize,
    places: Arc<Semaphore>,
    is_closed: AtomicBool,
    /// The last one went.
    emptied: Notify,
}

#[derive(Debug)]
struct Queue {
    tenant: TenantId,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arc<LogBatch>>,
    bytes: usize,
    dropped: Vec<Dropped>,
    dropped_rows: u64,
}

/// A stream of which something was missed.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Time of the first record that was missed, ns.
    pub time_ns: i64,
}

/// What came since the last time.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Batches, in order of arrival.
    pub batches: Vec<Arc<LogBatch>>,
    /// What did not fit into the queue, as far as it is remembered.
    pub dropped: Vec<Dropped>,
    /// Records that did not fit.
    pub dropped_rows: u64,
    /// There is nothing more to come: the server stops.
    pub is_end: bool,
}

/// A follower's place; given back when it is dropped.
#[derive(Debug)]
pub struct Tail {
    all: Tails,
    queue: Arc<Queue>,
    _place: OwnedSemaphorePermit,
}

impl Tails {
    /// Room for so many tails.
    #[must_use]
    pub fn new(tails_max: usize) -> Self {
        Self(Arc::new(Inner {
            queues: RwLock::default(),
            count: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(tails_max.min(Semaphore::MAX_PERMITS))),
            is_closed: AtomicBool::new(false),
            emptied: Notify::new(),
        }))
    }

    /// Follows the logs of a tenant from now on; `None` when all places are taken or everything ends.
    #[must_use]
    pub fn follow(&self, tenant: TenantId) -> Option<Tail> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        if self.0.is_closed.load(Ordering::Acquire) {
            return None;
        }
        let queue = Arc::new(Queue {
            tenant,
            waiting: Mutex::default(),
            more: Notify::new(),
        });
        let mut queues = self.0.queues.write();
        queues.push(Arc::clone(&queue));
        self.0.count.store(queues.len(), Ordering::Release);
        Some(Tail {
            all: self.clone(),
            queue,
            _place: place,
        })
    }

    /// How many follow.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Whether nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when nobody follows.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Ends all tails once they have taken what waits for them.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0
            .queues
            .read()
            .iter()
            .for_each(|queue| queue.more.notify_one());
    }
}

impl RowObserver for Tails {
    fn logs(&self, tenant: &TenantId, batch: &Arc<LogBatch>) {
        if self.is_empty() {
            return;
        }
        for queue in self.0.queues.read().iter() {
            if queue.tenant == *tenant {
                queue.push(batch);
            }
        }
    }
}

impl Queue {
    fn push(&self, batch: &Arc<LogBatch>) {
        let mut waiting = self.waiting.lock();
        let bytes = batch.bytes();
        let is_full = waiting.bytes.saturating_add(bytes) > QUEUE_BYTES_MAX
            || waiting.batches.len() >= QUEUE_BATCHES_MAX;
        // One batch always fits, however large it is: it is held by the head anyway.
        if is_full && !waiting.batches.is_empty() {
            waiting.miss(batch);
        } else {
            waiting.bytes += bytes;
            waiting.batches.push_back(Arc::clone(batch));
        }
        drop(waiting);
        self.more.notify_one();
    }
}

impl Waiting {
    fn miss(&mut self, batch: &LogBatch) {
        self.dropped_rows += batch.len() as u64;
        let columns = batch.columns();
        for (number, stream) in batch.streams().iter().enumerate() {
            if self.dropped.len() >= DROPPED_MAX {
                return;
            }
            let row = columns
                .stream
                .iter()
                .position(|of_row| *of_row as usize == number);
            let time = row.and_then(|row| columns.time.get(row));
            self.dropped.extend(time.map(|time| Dropped {
                stream: Arc::clone(stream),
                time_ns: *time,
            }));
        }
    }
}

impl Tail {
    /// Returns when something may have arrived.
    pub async fn wait(&self) {
        if !self.all.0.is_closed.load(Ordering::Acquire) {
            self.queue.more.notified().await;
        }
    }

    /// Takes what has arrived.
    #[must_use]
    pub fn take(&self) -> Arrived {
        let is_end = self.all.0.is_closed.load(Ordering::Acquire);
        let waiting = std::mem::take(&mut *self.queue.waiting.lock());
        Arrived {
            batches: waiting.batches.into(),
            dropped: waiting.dropped,
            dropped_rows: waiting.dropped_rows,
            is_end,
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut queues = self.all.0.queues.write();
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.all.0.count.store(queues.len(), Ordering::Release);
        if queues.is_empty() {
            self.all.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::{Labels, TimestampNs};

    use super::*;

    fn batch(rows: i64, line_bytes: usize) -> Arc<LogBatch> {
        let mut batch = LogBatch::new();
        let labels = Labels::from_pairs([("app", "a")]).unwrap();
        let stream = batch.stream(Arc::new(Stream::from_labels(labels)));
        let line = "x".repeat(line_bytes);
        for row in 0..rows {
            batch
                .row(stream, TimestampNs(row))
                .finish_text("", &line, "", |_| {});
        }
        Arc::new(batch)
    }

    #[test]
    fn a_tail_gets_what_its_tenant_writes_and_no_more_than_fits() {
        let tails = Tails::new(1);
        let (mine, other) = (TenantId::default(), TenantId::new("other").unwrap());
        tails.logs(&mine, &batch(1, 1));
        let tail = tails.follow(mine.clone()).unwrap();
        assert!(tails.follow(mine.clone()).is_none(), "one place");
        tails.logs(&other, &batch(1, 1));
        tails.logs(&mine, &batch(2, 1));
        let arrived = tail.take();
        assert_eq!((arrived.batches.len(), arrived.batches[0].len()), (1, 2));
        assert!(arrived.dropped.is_empty() && !arrived.is_end);
        let large = batch(3, QUEUE_BYTES_MAX / 4);
        (0..5).for_each(|_| tails.logs(&mine, &large));
        let arrived = tail.take();
        assert_eq!((arrived.batches.len(), arrived.dropped_rows), (1, 12));
        assert_eq!(arrived.dropped.len(), 4);
        assert_eq!(arrived.dropped[0].time_ns, 0);
        drop(tail);
        assert!(tails.is_empty());
        let tail = tails.follow(mine.clone()).unwrap();
        tails.close();
        assert!(tail.take().is_end);
        drop(tail);
        assert!(tails.follow(mine).is_none());
    }
}
