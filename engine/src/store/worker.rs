//! The thread that seals, merges and drops what is expired, without being asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::engine::Engine;
use crate::error::{EngineError, Result};

/// Between two looks at the head.
const ROUND: Duration = Duration::from_millis(200);
/// Between two looks at retention and merges.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// After something failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Signal {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits; answers whether it is time to end.
    fn wait(&self, duration: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, duration);
        }
        *stopped
    }
}

/// The thread, once it was started.
#[derive(Default)]
pub(crate) struct Worker {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(crate) fn start(&self, engine: Weak<Engine>) -> Result<()> {
        let signal = Arc::clone(&self.signal);
        let thread = std::thread::Builder::new()
            .name("store-worker".into())
            .spawn(move || run(&signal, &engine))
            .map_err(|error| EngineError::io("store-worker", error))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends the thread after what it is doing.
    pub(crate) fn stop(&self) {
        *self.signal.stopped.lock() = true;
        self.signal.changed.notify_all();
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        // The worker itself may hold the last reference to the store for a moment.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("bug: the store's worker panicked");
        }
    }
}

fn run(signal: &Signal, engine: &Weak<Engine>) {
    let mut housekeeping_due = Instant::now() + HOUSEKEEPING;
    let mut pause = ROUND;
    while !signal.wait(pause) {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let mut due = Instant::now() >= housekeeping_due;
        let mut work = || -> Result<()> {
            engine.measure_postings();
            if let Some(reason) = engine.seal_reason() {
                tracing::debug!(reason, "sealing the head");
                engine.seal()?;
                due = true;
            }
            if due {
                engine.housekeep()?;
            }
            Ok(())
        };
        // What is shared is replaced as a whole, so a round that panics leaves nothing half done; the
        // store must not be left without the thread that makes room.
        let worked = catch_unwind(AssertUnwindSafe(&mut work)).unwrap_or_else(|_| {
            let what = "bug: background work panicked".to_owned();
            Err(EngineError::Unavailable(what))
        });
        pause = match worked {
            Ok(()) => ROUND,
            // The store is being closed; a merge that was ended has changed nothing.
            Err(EngineError::Cancelled) => return,
            Err(error) => {
                tracing::error!(%error, "background work failed, trying again later");
                PAUSE_AFTER_ERROR
            }
        };
        if due {
            housekeeping_due = Instant::now() + HOUSEKEEPING;
        }
    }
}
