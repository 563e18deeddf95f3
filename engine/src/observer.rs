//! Who is told of log records and spans as they are stored: span metrics, templates, runs.

use std::fmt;
use std::sync::Arc;

use crate::context::TenantId;
use crate::rows::{LogBatch, SpanBatch};

/// Is told of every batch that was committed.
///
/// Called on the thread that applies the log, in its order, after the rows became durable and before
/// the commit returns: nothing else is applied meanwhile, so an observer should take note and return, and
/// must not call the store. Batches may be kept (they are shared, not copied). After a restart, what
/// the log gives back is told again: rows since the last seal.
pub trait RowObserver: Send + Sync {
    /// Log records were stored.
    fn logs(&self, tenant: &TenantId, batch: &Arc<LogBatch>) {
        let _ = (tenant, batch);
    }

    /// Spans were stored.
    fn spans(&self, tenant: &TenantId, batch: &Arc<SpanBatch>) {
        let _ = (tenant, batch);
    }
}

/// Observers of a store; none by default.
#[derive(Clone, Default)]
pub struct RowObservers(Vec<Arc<dyn RowObserver>>);

impl RowObservers {
    /// Adds one; they are called in the order in which they were added.
    pub fn push(&mut self, observer: Arc<dyn RowObserver>) {
        self.0.push(observer);
    }

    pub(crate) fn logs(&self, tenant: &TenantId, batch: &Arc<LogBatch>) {
        self.0
            .iter()
            .for_each(|observer| observer.logs(tenant, batch));
    }

    pub(crate) fn spans(&self, tenant: &TenantId, batch: &Arc<SpanBatch>) {
        self.0
            .iter()
            .for_each(|observer| observer.spans(tenant, batch));
    }
}

impl fmt::Debug for RowObservers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowObservers({})", self.0.len())
    }
}
