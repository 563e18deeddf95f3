//! The queue in front of the committer: callers put in, one thread takes out in batches.
//!
//! Who is let in gets an answer, whatever happens: an item is either handed back at once, or taken, or
//! given out by [`CommitQueue::abandon`]; its answer hangs on the item (see `completion.rs`). So a
//! caller that waits for an answer never waits for ever, also when the committer is gone.
//!
//! Apart from the engine's locks this file depends on nothing, so that `engine/loom` can check it
//! under all schedules of its threads.

use std::collections::VecDeque;
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

/// What can wait in the queue.
pub(crate) trait Queued {
    /// Bytes that it takes while it waits.
    fn bytes(&self) -> usize;

    /// Whether a batch ends with it.
    fn ends_batch(&self) -> bool;
}

/// Why an item was not let in; it comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// There is no room.
    Full,
    /// Nobody takes from the queue any more.
    Closed,
}

/// What the committer gets.
pub(crate) enum Taken<I> {
    /// At least one item, in the order in which they came.
    Batch(Vec<I>),
    /// Nothing came until it was due.
    Due,
    /// Nothing is left and nothing will come.
    Closed,
}

struct State<I> {
    items: VecDeque<I>,
    bytes: usize,
    closed: bool,
}

/// The queue.
pub(crate) struct CommitQueue<I> {
    state: Mutex<State<I>>,
    /// The committer waits here for work.
    work: Condvar,
    /// Callers wait here for room.
    room: Condvar,
    bytes_max: usize,
}

impl<I: Queued> State<I> {
    /// An item larger than the whole queue is let in when the queue is empty.
    fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.closed || self.items.is_empty() || self.bytes + bytes <= bytes_max
    }
}

impl<I: Queued> CommitQueue<I> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                closed: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            bytes_max,
        }
    }

    /// Puts an item in without waiting.
    pub(crate) fn offer(&self, item: I) -> Result<(), (I, NoEntry)> {
        let mut state = self.state.lock();
        if !state.has_room(item.bytes(), self.bytes_max) {
            return Err((item, NoEntry::Full));
        }
        self.put(&mut state, item)
    }

    /// Puts an item in, and waits for room until `give_up`.
    pub(crate) fn offer_until(&self, item: I, give_up: Instant) -> Result<(), (I, NoEntry)> {
        let mut state = self.state.lock();
        while !state.has_room(item.bytes(), self.bytes_max) {
            if self.room.wait_until(&mut state, give_up).timed_out() {
                return Err((item, NoEntry::Full));
            }
        }
        self.put(&mut state, item)
    }

    /// Puts an item in, full or not.
    pub(crate) fn force(&self, item: I) -> Result<(), (I, NoEntry)> {
        self.put(&mut self.state.lock(), item)
    }

    fn put(&self, state: &mut State<I>, item: I) -> Result<(), (I, NoEntry)> {
        if state.closed {
            return Err((item, NoEntry::Closed));
        }
        state.bytes += item.bytes();
        state.items.push_back(item);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for work, at most until `due`, and takes all that fits a batch, up to the first item
    /// that ends one.
    pub(crate) fn take(&self, batch_bytes_max: usize, due: Option<Instant>) -> Taken<I> {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            match due {
                Some(due) => {
                    if Instant::now() >= due || self.work.wait_until(&mut state, due).timed_out() {
                        return Taken::Due;
                    }
                }
                None => self.work.wait(&mut state),
            }
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.items.front() {
            let size = next.bytes();
            if !batch.is_empty() && !next.ends_batch() && bytes + size > batch_bytes_max {
                break;
            }
            let ends = next.ends_batch();
            bytes += size;
            state.bytes -= size;
            batch.extend(state.items.pop_front());
            if ends {
                break;
            }
        }
        drop(state);
        self.room.notify_all();
        Taken::Batch(batch)
    }

    /// Lets nothing in any more. What waits is still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Closes, and gives out what nobody will take.
    pub(crate) fn abandon(&self) -> VecDeque<I> {
        let mut state = self.state.lock();
        state.closed = true;
        state.bytes = 0;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.room.notify_all();
        left
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.state.lock().bytes
    }
}
