//! Hand-over protocols of the engine under every schedule that loom can tell apart.
//!
//! ```text
//! cd engine/loom && LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg loom" cargo test --release
//! ```
//!
//! With at most three switches of thread against a thread's will, which find nearly all that can be
//! found, each model runs to its end in seconds (the longest in 4 s, all seven in 8 s, on one core of two busy
//! ones); without the bound some take hours.
//!
//! The files under test are those of the engine, word for word; only the locks are loom's. What is
//! not checked here: parking_lot and crossbeam themselves, timeouts (nobody may depend on one: a lost
//! wake-up is a deadlock here), and the weak orderings of the engine's counters, which nobody waits
//! for.

#![cfg(all(loom, test))]

mod sync;

#[allow(dead_code, reason = "not every way in is modelled")]
#[path = "../../src/wal/queue.rs"]
mod queue;

#[path = "../../src/store/swap.rs"]
mod swap;

mod commit;
mod view;
