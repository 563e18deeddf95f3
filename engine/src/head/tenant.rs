//! What the head keeps per tenant across generations: its index and metadata.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::postings::PostingIndex;
use super::series_table::{Owner, TenantIndex};
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
}

impl Tenant {
    pub(crate) fn new(id: TenantId, index: TenantIndex) -> Self {
        Self {
            id,
            index,
            postings: RwLock::default(),
            metadata: RwLock::default(),
        }
    }

    /// The tenant as the series table sees it.
    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner {
            index: self.index,
            postings: &self.postings,
        }
    }

    /// Whether the metadata is already the newest of its metric.
    pub(crate) fn knows_metadata(&self, metric: &str, metadata: &Metadata) -> bool {
        self.metadata.read().get(metric).and_then(|all| all.first()) == Some(metadata)
    }

    /// Metadata of a metric and of the family that it belongs to (`x` for `x_bucket`, `x_sum`,
    /// `x_count`, `x_total`), oldest first.
    pub(crate) fn metadata_of_family(&self, metric: &str) -> Vec<(String, Metadata)> {
        let all = self.metadata.read();
        let suffixes = ["_bucket", "_sum", "_count", "_total", "_created", "_info"];
        let family = suffixes
            .iter()
            .find_map(|suffix| metric.strip_suffix(suffix));
        let names = std::iter::once(metric).chain(family);
        names
            .filter_map(|name| Some((name, all.get(name)?)))
            .flat_map(|(name, known)| known.iter().rev().map(|m| (name.to_owned(), m.clone())))
            .collect()
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
