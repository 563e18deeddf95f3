//! Who asks, for which tenant, and how long they will wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::index::Matcher;

/// The tenant used when nobody names one.
pub const DEFAULT_TENANT: &str = "default";

/// Names a tenant. Segments, limits and retention are kept per tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Bytes a tenant's name may have.
    pub const LENGTH_MAX: usize = 150;

    /// Checks a name: 1 to 150 bytes of letters, digits and `!-_.*'()`, not `.` or `..`
    /// (the rule of the peers that share the `X-Scope-OrgID` header).
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] saying what is wrong.
    pub fn new(name: &str) -> Result<Self, EngineError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!-_.*'()".contains(&b);
        if name.is_empty()
            || name.len() > Self::LENGTH_MAX
            || name == "."
            || name == ".."
            || !name.bytes().all(allowed)
        {
            return Err(EngineError::InvalidArgument(format!(
                "tenant {name:?}: expected 1 to {} letters, digits or !-_.*'()",
                Self::LENGTH_MAX
            )));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Arc::from(DEFAULT_TENANT))
    }
}

/// A switch that many hold and anyone may turn off: the client left, the query was killed.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks everything that holds this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a request took so far: counted by whoever works for it, read by whoever watches.
#[derive(Debug, Default)]
pub struct Usage {
    samples: AtomicU64,
    bytes: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Usage {
    /// Counts samples read from the store.
    pub fn add_samples(&self, count: u64) {
        self.samples.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts bytes of the answer.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts time that processors spent.
    pub fn add_cpu(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Samples read from the store.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Bytes of the answer so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Time that processors spent, as far as it has been added up.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }
}

/// Travels with every append, scan, listing and cache look-up.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// Whose data.
    pub tenant: TenantId,
    /// Who asks, once authenticated.
    pub principal: Option<Arc<str>>,
    /// Matchers that every series must satisfy, whatever the request says (row-level access).
    pub required_matchers: Arc<[Matcher]>,
    /// When the answer becomes useless.
    pub deadline: Option<Instant>,
    /// Names the query in logs and listings; 0 for none.
    pub query_id: u64,
    /// Turned on when the work should stop.
    pub cancel: CancelToken,
    /// What the work took so far.
    pub usage: Arc<Usage>,
}

impl RequestContext {
    /// A context of the default tenant without limits: tests, examples, single-tenant embedding.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A context of `tenant`.
    #[must_use]
    pub fn for_tenant(tenant: TenantId) -> Self {
        Self {
            tenant,
            ..Self::default()
        }
    }

    /// Called now and then by long work.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] or [`EngineError::DeadlineExceeded`] when the work should stop.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(EngineError::DeadlineExceeded);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_checked() {
        assert!(TenantId::new("team-a").is_ok());
        for bad in ["", ".", "..", "a/b", "a\0", &"x".repeat(151)] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cancelled_context_stops_work() {
        let context = RequestContext::new();
        assert!(context.check().is_ok());
        context.clone().cancel.cancel();
        assert!(matches!(context.check(), Err(EngineError::Cancelled)));
    }
}
