//! The threads that queries run on.
//!
//! Decoding and evaluating is work for the processor, not waiting; on the server's own runtime it
//! would keep connections from being served. So all queries of a process share one runtime with a
//! thread per core, and callers only wait for its answers.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Stack of each thread: the streams of a plan nest as deeply as the query does.
const STACK_BYTES: usize = 32 << 20;

/// The runtime of all queries of this process; made at the first use, never shut down.
///
/// # Panics
/// If the operating system refuses the threads.
pub fn query_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let build = Builder::new_multi_thread()
            .worker_threads(thread_count())
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build();
        match build {
            Ok(runtime) => runtime,
            Err(error) => panic!("bug: no threads for queries: {error}"),
        }
    })
}

/// How many threads queries run on: one per core.
pub fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
