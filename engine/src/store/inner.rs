//! What all handles of a store share, and how a commit runs through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::state::StateStore;
use crate::append::AppendRows;
use crate::context::{RequestContext, TenantId};
use crate::error::{EngineError, Result};
use crate::head::data::HeadData;
use crate::head::series_table::{SeriesTable, TenantIndex, slot_of};
use crate::head::tenant::Tenant;
use crate::index::Matcher;
use crate::model::{Generation, Signal, TimeRange};
use crate::options::StoreOptions;
use crate::scan::metric_scan::{all_matchers, generations};

/// What a scan pins: replaced as a whole, never changed.
pub(crate) struct View {
    /// Generations of the head that are being sealed, earliest first.
    pub(crate) frozen: Vec<Arc<HeadData>>,
    /// The generation that takes rows.
    pub(crate) active: Arc<HeadData>,
}

#[derive(Default)]
struct Tenants {
    by_id: HashMap<TenantId, Arc<Tenant>>,
}

/// The shared part of a store.
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) table: SeriesTable,
    pub(crate) state: StateStore,
    tenants: RwLock<Tenants>,
    view: RwLock<Arc<View>>,
    /// Held while rows are applied: they are applied in the order of the log.
    applier: Mutex<()>,
    generation: AtomicU64,
    closed: AtomicBool,
}

impl Inner {
    pub(crate) fn new(options: StoreOptions) -> Self {
        let view = View {
            frozen: Vec::new(),
            active: Arc::default(),
        };
        Self {
            options,
            table: SeriesTable::new(random_seed()),
            state: StateStore::default(),
            tenants: RwLock::default(),
            view: RwLock::new(Arc::new(view)),
            applier: Mutex::new(()),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// What a scan that begins now reads.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Refuses a scan that pins a generation which is gone.
    pub(crate) fn check_generation(&self, pinned: Option<Generation>) -> Result<()> {
        let now = self.generation();
        match pinned {
            Some(pinned) if pinned != now => Err(EngineError::InvalidArgument(format!(
                "generation {pinned} is gone, the store is at {now}"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses writes to a store that takes none.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(EngineError::Unavailable("the store is closed".into()));
        }
        Ok(())
    }

    pub(crate) fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().by_id.get(id).map(Arc::clone)
    }

    pub(crate) fn tenant_or_insert(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.tenant(id) {
            return tenant;
        }
        let mut tenants = self.tenants.write();
        let index = tenants.by_id.len() as TenantIndex;
        let tenant = tenants
            .by_id
            .entry(id.clone())
            .or_insert_with(|| Arc::new(Tenant::new(id.clone(), index)));
        Arc::clone(tenant)
    }

    pub(crate) fn tenant_ids(&self) -> Vec<TenantId> {
        let mut ids: Vec<_> = self.tenants.read().by_id.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Refuses a new series at the tenant's limit, naming the label with the most values.
    pub(crate) fn check_series_limit(&self, tenant: &Tenant) -> Result<()> {
        let limit = self.options.series_per_tenant_max;
        let postings = tenant.postings.read();
        if limit == 0 || postings.series_count() < limit {
            return Ok(());
        }
        let (name, values) = postings.widest_label().unwrap_or(("", 0));
        Err(EngineError::LimitExceeded(format!(
            "tenant {}: limit of {limit} active series reached; label {name:?} has the most values \
             ({values})",
            tenant.id.as_str()
        )))
    }

    /// Stores the rows of one request.
    pub(crate) fn commit(&self, tenant: &Tenant, rows: AppendRows) -> Result<()> {
        self.check_writable()?;
        let _order = self.applier.lock();
        self.apply(tenant, rows);
        Ok(())
    }

    /// Makes rows visible. Called by one thread at a time, in the order of the log.
    fn apply(&self, tenant: &Tenant, rows: AppendRows) {
        let active = Arc::clone(&self.view.read().active);
        for (series, sample) in rows.samples {
            active.push_sample(slot_of(series), sample);
        }
        for (series, exemplar) in rows.exemplars {
            if let Some(entry) = self.table.get(series) {
                let count_max = self.options.exemplars_per_tenant_max;
                tenant
                    .exemplars
                    .lock()
                    .push(&entry.labels, exemplar, count_max);
            }
        }
        for (metric, metadata) in rows.metadata {
            tenant.set_metadata(&metric, metadata);
        }
        if !rows.logs.is_empty() {
            let mut logs = active.logs.write();
            for (stream, record) in rows.logs {
                logs.push(tenant.index, &stream, record);
            }
        }
        if !rows.spans.is_empty() {
            let mut spans = active.spans.write();
            for (stream, span) in rows.spans {
                spans.push(tenant.index, &stream, span);
            }
        }
    }

    /// Deletes matching rows of a signal in a range.
    pub(crate) fn delete(
        &self,
        context: &RequestContext,
        signal: Signal,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Generation> {
        context.check()?;
        self.check_writable()?;
        let matchers = all_matchers(context, matchers);
        let _order = self.applier.lock();
        if let Some(tenant) = self.tenant(&context.tenant) {
            self.erase_from_head(&tenant, signal, &matchers, range);
        }
        Ok(Generation(
            self.generation.fetch_add(1, Ordering::AcqRel) + 1,
        ))
    }

    fn erase_from_head(
        &self,
        tenant: &Tenant,
        signal: Signal,
        matchers: &[Matcher],
        range: TimeRange,
    ) {
        let view = self.view();
        for generation in generations(&view) {
            match signal {
                Signal::Metrics => {
                    for slot in tenant.postings.read().select(matchers) {
                        generation.remove(slot, range);
                    }
                }
                Signal::Logs => generation
                    .logs
                    .write()
                    .remove(tenant.index, matchers, |record| range.contains(record.time)),
                Signal::Spans => generation
                    .spans
                    .write()
                    .remove(tenant.index, matchers, |span| range.contains(span.time)),
            }
        }
        if signal == Signal::Metrics {
            tenant.exemplars.lock().remove(matchers, range);
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

/// A seed that a client cannot guess: hashes of its bytes must not be steered into collisions.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
