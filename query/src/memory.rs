//! What one query may take of the memory that all queries share.
//!
//! All queries of a language reserve in one pool, so together they stay within it. [`QueryPool`] stands
//! between one query and that pool and counts what this query holds: a single greedy query is refused
//! when it reaches its own limit, before it leaves nothing for others.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnv;

/// The part of a shared pool that one query reserves.
///
/// A refusal is DataFusion's `ResourcesExhausted`, so that operators which can do with less (by
/// spilling) still try. They often answer with an error of their own then; [`refusal`](Self::refusal)
/// tells what it was about, and that it was not the shared pool that is empty.
#[derive(Debug)]
pub(crate) struct QueryPool {
    shared: Arc<dyn MemoryPool>,
    bytes_max: usize,
    reserved: AtomicUsize,
    refusal: OnceLock<String>,
}

impl QueryPool {
    /// A part of `shared` of at most `bytes_max`.
    pub(crate) fn new(shared: &Arc<dyn MemoryPool>, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            bytes_max,
            reserved: AtomicUsize::new(0),
            refusal: OnceLock::new(),
        })
    }

    /// `runtime` with this pool in place of its own.
    pub(crate) fn runtime(self: &Arc<Self>, runtime: &RuntimeEnv) -> Arc<RuntimeEnv> {
        let memory_pool: Arc<dyn MemoryPool> = Arc::<Self>::clone(self);
        Arc::new(RuntimeEnv {
            memory_pool,
            ..runtime.clone()
        })
    }

    /// How much more than its part the query asked for, if it did.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(bytes_max: {})", self.name(), self.bytes_max)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.reserved.fetch_add(additional, Ordering::AcqRel);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.reserved.fetch_sub(shrink, Ordering::AcqRel);
        self.shared.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = |held: usize| {
            held.checked_add(additional)
                .filter(|held| *held <= self.bytes_max)
        };
        let reserved = &self.reserved;
        let Err(held) = reserved.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown) else {
            return (self.shared.try_grow(reservation, additional)).inspect_err(|_| {
                reserved.fetch_sub(additional, Ordering::AcqRel);
            });
        };
        let refusal = format!(
            "query would hold {} bytes at a time, query_memory_max allows {}",
            held.saturating_add(additional),
            self.bytes_max
        );
        let _ = self.refusal.set(refusal.clone());
        Err(DataFusionError::ResourcesExhausted(refusal))
    }

    fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn a_query_is_refused_at_its_own_limit_and_gives_back_what_it_held() {
        let shared: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1000));
        let (greedy, other) = (QueryPool::new(&shared, 600), QueryPool::new(&shared, 600));
        let reserve = |pool: &Arc<QueryPool>| {
            let pool: Arc<dyn MemoryPool> = Arc::<QueryPool>::clone(pool);
            MemoryConsumer::new("test").register(&pool)
        };
        let (a, b) = (reserve(&greedy), reserve(&other));
        a.try_grow(600).unwrap();
        let refused = a.try_grow(1).unwrap_err().to_string();
        assert!(refused.contains("601 bytes") && refused.contains("query_memory_max allows 600"));
        assert!(greedy.refusal().is_some_and(|text| refused.contains(text)));
        // What the shared pool refuses is not the query's own doing, and is not counted.
        b.try_grow(500).unwrap_err();
        assert!(other.refusal().is_none() && other.reserved() == 0);
        b.try_grow(400).unwrap();
        drop((a, b));
        assert_eq!((greedy.reserved(), shared.reserved()), (0, 0));
    }
}
