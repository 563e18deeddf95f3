//! What the head keeps per tenant across generations: its index, metadata and exemplars.

use std::collections::BTreeMap;

use parking_lot::{Mutex, RwLock};

use super::exemplars::ExemplarRing;
use super::postings::PostingIndex;
use super::series_table::TenantIndex;
use crate::context::TenantId;
use crate::model::Metadata;

/// Kinds of metadata kept per metric name: targets may disagree, but not without end.
const METADATA_PER_METRIC_MAX: usize = 8;

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) index: TenantIndex,
    pub(crate) postings: RwLock<PostingIndex>,
    pub(crate) metadata: RwLock<BTreeMap<String, Vec<Metadata>>>,
    pub(crate) exemplars: Mutex<ExemplarRing>,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, index: TenantIndex) -> Self {
        Self {
            id,
            index,
            postings: RwLock::default(),
            metadata: RwLock::default(),
            exemplars: Mutex::default(),
        }
    }

    /// Whether the metadata is already the newest of its metric.
    pub(crate) fn knows_metadata(&self, metric: &str, metadata: &Metadata) -> bool {
        self.metadata.read().get(metric).and_then(|all| all.first()) == Some(metadata)
    }

    /// Remembers metadata, newest first.
    pub(crate) fn set_metadata(&self, metric: &str, metadata: Metadata) {
        let mut all = self.metadata.write();
        let known = match all.get_mut(metric) {
            Some(known) => known,
            None => all.entry(metric.to_owned()).or_default(),
        };
        known.retain(|m| *m != metadata);
        known.insert(0, metadata);
        known.truncate(METADATA_PER_METRIC_MAX);
    }
}
