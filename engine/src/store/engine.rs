//! An open store: the shared state, the log in front of it and the thread behind it.
//!
//! The log's threads and the worker never keep the store alive: the log applies to [`Inner`], which
//! knows nothing of the log, and the worker looks the engine up for each round.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::inner::{Inner, SessionToken};
use super::read_only::Tail;
use super::worker::Worker;
use parking_lot::Mutex;

use crate::error::{EngineError, Result};
use crate::io::LockGuard;
use crate::wal::{Applier, Logged, Record, Wal};

/// A record on its way through the log.
pub(crate) struct Payload {
    pub(crate) record: Record,
    pub(crate) epoch: u32,
    /// Keeps the series of the record from being evicted before it is applied.
    pub(crate) token: SessionToken,
}

/// Makes durable records visible, on the log's thread.
pub(crate) struct HeadApplier(pub(crate) Arc<Inner>);

impl Applier<Payload> for HeadApplier {
    fn apply(&mut self, records: Vec<Logged<Payload>>) {
        for Logged { sequence, payload } in records {
            let Payload {
                mut record,
                epoch,
                token,
            } = payload;
            if !Arc::ptr_eq(&token, &self.0.sessions.read()) {
                self.0.revive_evicted(&mut record);
            }
            self.0.apply(sequence, record, epoch);
            drop(token);
        }
    }

    fn cut(&mut self, _next_sequence: u64) {
        // The gate is held while the log is cut: nothing can arrive until the view is swapped.
    }
}

/// An open store.
pub(crate) struct Engine {
    inner: Arc<Inner>,
    /// `None` for a store that was opened for reading.
    wal: Option<Wal<Payload>>,
    worker: Worker,
    /// Where a reader beside the writer has got to.
    tail: Option<Mutex<Tail>>,
    _lock: Option<LockGuard>,
}

impl Deref for Engine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Engine {
    pub(crate) fn for_writing(inner: Arc<Inner>, wal: Wal<Payload>, lock: LockGuard) -> Arc<Self> {
        let worker = Worker::default();
        Arc::new(Self {
            inner,
            wal: Some(wal),
            worker,
            tail: None,
            _lock: Some(lock),
        })
    }

    pub(crate) fn for_reading(inner: Arc<Inner>, tail: Mutex<Tail>) -> Arc<Self> {
        let worker = Worker::default();
        Arc::new(Self {
            inner,
            wal: None,
            worker,
            tail: Some(tail),
            _lock: None,
        })
    }

    /// The state that outlives the handle for as long as something reads it.
    pub(crate) fn shared(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn tail(&self) -> Option<&Mutex<Tail>> {
        self.tail.as_ref()
    }

    /// Begins background work, if the options want it.
    pub(crate) fn start_worker(self: &Arc<Self>) -> Result<()> {
        if self.options.background && self.wal.is_some() {
            self.worker.start(Arc::downgrade(self))?;
        }
        Ok(())
    }

    /// The log, unless the store is only read.
    pub(crate) fn wal(&self) -> Result<&Wal<Payload>> {
        self.wal
            .as_ref()
            .ok_or_else(|| EngineError::Unavailable("the store was opened for reading only".into()))
    }

    /// Refuses writes to a store that takes none.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.wal()?;
        self.inner.check_writable()
    }

    /// Stops taking writes, makes all of them durable, stops the threads.
    pub(crate) fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.shutdown.cancel();
        self.worker.stop();
        match &self.wal {
            Some(wal) => wal.close(),
            None => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.worker.stop();
    }
}
