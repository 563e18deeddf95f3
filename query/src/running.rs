//! Queries that run now and those that ended lately: what `system.queries` shows, and where a query is
//! found that somebody wants to end.
//!
//! Whoever answers a query registers it and holds the [`QueryTicket`] until the last byte of the answer
//! is on its way or nobody listens any more. What the query takes is counted in the [`Usage`] of its
//! context, without a lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chronolith_engine::{RequestContext, TenantId, Usage};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

/// Ended queries that are remembered.
const ENDED_MAX: usize = 256;
/// Bytes of a text that are remembered.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum QueryState {
    /// Waits for its turn.
    Waiting,
    /// Is evaluated.
    Running,
    /// The answer is being sent; of some languages the rest is still evaluated meanwhile.
    Sending,
    /// Was answered.
    Finished,
    /// Ended with an error.
    Failed,
    /// Was ended by somebody, or the client left.
    Cancelled,
}

impl QueryState {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Running,
        Self::Sending,
        Self::Finished,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word in `system.queries`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Sending => "sending",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A query as it stands, or as it ended.
#[derive(Clone, Debug)]
pub struct QueryInfo {
    /// Names it, until the server restarts.
    pub id: u64,
    /// Whose data.
    pub tenant: TenantId,
    /// Who asks, once authenticated.
    pub principal: Option<Arc<str>>,
    /// `promql`, `sql`, …
    pub language: &'static str,
    /// The text, cut off if it is very long.
    pub text: Arc<str>,
    /// When it was asked.
    pub started: SystemTime,
    /// How long it has been taking or took, waiting included.
    pub elapsed: Duration,
    /// Samples read from the store.
    pub samples: u64,
    /// Bytes of the answer so far.
    pub bytes: u64,
    /// Processor time, as far as it has been added up.
    pub cpu: Duration,
    /// Where it stands.
    pub state: QueryState,
}

#[derive(Debug)]
struct Record {
    context: RequestContext,
    language: &'static str,
    text: Arc<str>,
    started: SystemTime,
    began: Instant,
    state: AtomicU8,
}

impl Record {
    fn info(&self) -> QueryInfo {
        let usage = &self.context.usage;
        let state = usize::from(self.state.load(Ordering::Acquire));
        QueryInfo {
            id: self.context.query_id,
            tenant: self.context.tenant.clone(),
            principal: self.context.principal.clone(),
            language: self.language,
            text: Arc::clone(&self.text),
            started: self.started,
            elapsed: self.began.elapsed(),
            samples: usage.samples(),
            bytes: usage.bytes(),
            cpu: usage.cpu(),
            state: *QueryState::ALL.get(state).unwrap_or(&QueryState::Running),
        }
    }
}

/// Knows the queries of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct QueryRegistry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<BTreeMap<u64, Arc<Record>>>,
    /// Earliest first.
    ended: Mutex<VecDeque<QueryInfo>>,
}

impl QueryRegistry {
    /// Registers a query that waits for its turn, under the id of its context.
    #[must_use]
    pub fn register(
        &self,
        context: &RequestContext,
        language: &'static str,
        text: &str,
    ) -> QueryTicket {
        let record = Arc::new(Record {
            context: context.clone(),
            language,
            text: Arc::from(cut_off(text)),
            started: SystemTime::now(),
            began: Instant::now(),
            state: AtomicU8::new(QueryState::Waiting as u8),
        });
        let mut running = self.0.running.lock();
        running.insert(context.query_id, Arc::clone(&record));
        QueryTicket {
            registry: self.clone(),
            record,
        }
    }

    /// The queries of a tenant (`None`: of all), those that ended first, in the order of their ends,
    /// then those that run, by id.
    #[must_use]
    pub fn list(&self, tenant: Option<&TenantId>) -> Vec<QueryInfo> {
        let is_meant = |info: &QueryInfo| tenant.is_none_or(|tenant| info.tenant == *tenant);
        let ended = self.0.ended.lock().iter().cloned().collect::<Vec<_>>();
        let running = self.0.running.lock();
        let running: Vec<_> = running.values().map(|record| record.info()).collect();
        ended.into_iter().chain(running).filter(is_meant).collect()
    }

    /// A query that has not ended.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<QueryInfo> {
        let running = self.0.running.lock();
        running.get(&id).map(|record| record.info())
    }

    /// Asks a query to end. Answers whether it was there; it stops at its next look at the context.
    pub fn kill(&self, id: u64) -> bool {
        let running = self.0.running.lock();
        let Some(record) = running.get(&id) else {
            return false;
        };
        record.context.cancel.cancel();
        true
    }
}

/// A text that is worth keeping, cut at a character.
fn cut_off(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let cuts = (0..=TEXT_BYTES_MAX).rev();
    let cut = cuts.into_iter().find(|at| text.is_char_boundary(*at));
    text.get(..cut.unwrap_or(0)).unwrap_or("")
}

/// Held while a query is being answered.
#[derive(Debug)]
pub struct QueryTicket {
    registry: QueryRegistry,
    record: Arc<Record>,
}

impl QueryTicket {
    /// Notes where the query stands.
    pub fn set(&self, state: QueryState) {
        self.record.state.store(state as u8, Ordering::Release);
    }

    /// Whether somebody ended it, or the client left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.record.context.cancel.is_cancelled()
    }

    /// What the query takes.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.record.context.usage
    }

    /// The query as it stands.
    #[must_use]
    pub fn info(&self) -> QueryInfo {
        self.record.info()
    }
}

impl Drop for QueryTicket {
    fn drop(&mut self) {
        let mut info = self.record.info();
        if !matches!(info.state, QueryState::Finished | QueryState::Failed) {
            info.state = QueryState::Cancelled;
        }
        let shared = &self.registry.0;
        let gone = shared.running.lock().remove(&info.id);
        let mut ended = shared.ended.lock();
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back(info);
        drop(ended);
        drop(gone);
    }
}

/// Processor time that the operators of a plan have spent, those of parts that run beside each other
/// added up.
pub(crate) fn cpu_of(plan: &Arc<dyn ExecutionPlan>) -> Duration {
    let own = plan.metrics().and_then(|metrics| metrics.elapsed_compute());
    let own = Duration::from_nanos(own.unwrap_or(0) as u64);
    plan.children().into_iter().map(cpu_of).sum::<Duration>() + own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(query_id: u64) -> RequestContext {
        RequestContext {
            query_id,
            ..RequestContext::new()
        }
    }

    #[test]
    fn queries_are_listed_killed_and_remembered() {
        let registry = QueryRegistry::default();
        let (a, b) = (context(1), context(2));
        let first = registry.register(&a, "promql", "up");
        let second = registry.register(&b, "sql", &"é".repeat(TEXT_BYTES_MAX));
        first.set(QueryState::Running);
        a.usage.add_samples(7);
        let listed = registry.list(Some(&TenantId::default()));
        assert_eq!(listed.len(), 2);
        assert_eq!(
            (listed[0].samples, listed[0].state.as_str()),
            (7, "running")
        );
        assert!(listed[1].text.len() <= TEXT_BYTES_MAX);
        let other = TenantId::new("other").unwrap();
        assert!(registry.list(Some(&other)).is_empty());
        assert!(registry.kill(1) && !registry.kill(3));
        assert!(a.cancel.is_cancelled() && !b.cancel.is_cancelled());
        second.set(QueryState::Finished);
        drop((first, second));
        assert!(!registry.kill(1));
        let states: Vec<_> = registry.list(None).iter().map(|q| q.state).collect();
        assert_eq!(states, [QueryState::Cancelled, QueryState::Finished]);
    }

    #[test]
    fn not_all_ended_queries_are_remembered() {
        let registry = QueryRegistry::default();
        for id in 0..2 * ENDED_MAX as u64 {
            let _ = registry.register(&context(id), "promql", "up");
        }
        let listed = registry.list(None);
        assert_eq!(listed.len(), ENDED_MAX);
        assert_eq!(listed[0].id, ENDED_MAX as u64);
    }
}
