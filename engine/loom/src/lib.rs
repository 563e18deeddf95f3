//! Hand-over protocols of the engine under every schedule that loom can tell apart.
//!
//! ```text
//! cd engine/loom && RUSTFLAGS="--cfg loom" cargo test --release
//! ```
//!
//! The files under test are those of the engine, word for word; only the locks are loom's. What is
//! not checked here: parking_lot and crossbeam themselves, timeouts (nobody may depend on one: a lost
//! wake-up is a deadlock here), and the weak orderings of the engine's counters, which nobody waits
//! for.

#![cfg(loom)]

mod sync;

#[allow(dead_code, reason = "not every way in is modelled")]
#[path = "../../src/wal/queue.rs"]
mod queue;

#[path = "../../src/store/swap.rs"]
mod swap;

#[cfg(test)]
mod commit;
#[cfg(test)]
mod view;
