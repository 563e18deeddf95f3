//! What the head keeps per tenant across generations: its index, its metadata and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::metadata::MetadataUnderWay;
use super::newcomers::Newcomers;
use super::postings::PostingIndex;
use super::series_table::{Owner, TenantIndex};
use crate::context::TenantId;
use crate::error::{EngineError, Result};
use crate::model::{Labels, Metadata};
use crate::options::TenantLimits;
use crate::store::changes::ChangeLog;

/// Kinds of metadata kept per metric name: targets may disagree, but not without end.
const METADATA_PER_METRIC_MAX: usize = 8;

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) index: TenantIndex,
    pub(crate) postings: RwLock<PostingIndex>,
    pub(crate) metadata: RwLock<BTreeMap<String, Vec<Metadata>>>,
    pub(crate) metadata_under_way: MetadataUnderWay,
    limits: RwLock<Arc<TenantLimits>>,
    newcomers: Mutex<Newcomers>,
    /// What changed of its metrics.
    pub(crate) changes: ChangeLog,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, index: TenantIndex, limits: TenantLimits) -> Self {
        Self {
            id,
            index,
            postings: RwLock::default(),
            metadata: RwLock::default(),
            metadata_under_way: MetadataUnderWay::default(),
            limits: RwLock::new(Arc::new(limits)),
            newcomers: Mutex::default(),
            changes: ChangeLog::default(),
        }
    }

    /// The tenant as the series table sees it.
    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner {
            index: self.index,
            postings: &self.postings,
        }
    }

    pub(crate) fn limits(&self) -> Arc<TenantLimits> {
        Arc::clone(&self.limits.read())
    }

    pub(crate) fn set_limits(&self, limits: TenantLimits) {
        *self.limits.write() = Arc::new(limits);
    }

    /// Decides whether a new series may be made, and remembers it either way: a label that explodes
    /// is found among the newcomers.
    pub(crate) fn admit(&self, labels: &Labels) -> Result<()> {
        let limits = self.limits();
        self.check_labels(&limits, labels)?;
        let mut newcomers = self.newcomers.lock();
        newcomers.push(labels);
        let max = limits.series_max;
        if max == 0 || self.postings.read().series_count() < max {
            return Ok(());
        }
        let widest = newcomers.widest_label();
        Err(EngineError::LimitExceeded(format!(
            "tenant {}: limit of {max} active series reached; label {:?} has the most values among \
             new series ({} in the last {})",
            self.id.as_str(),
            widest.name,
            widest.values,
            widest.series
        )))
    }

    fn check_labels(&self, limits: &TenantLimits, labels: &Labels) -> Result<()> {
        let refuse = |what: String| {
            let metric = labels.get(crate::model::METRIC_NAME).unwrap_or("");
            let tenant = self.id.as_str();
            let why = format!("tenant {tenant}: series of metric {metric:?}: {what}");
            Err(EngineError::LimitExceeded(why))
        };
        let mut count = 0;
        for label in labels {
            count += 1;
            let (name, value) = (label.name.len(), label.value.len());
            if name > limits.label_name_bytes_max {
                let max = limits.label_name_bytes_max;
                let shown: String = label.name.chars().take(64).collect();
                return refuse(format!(
                    "label name of {name} bytes ({shown:?}), limit {max}"
                ));
            }
            if value > limits.label_value_bytes_max {
                let max = limits.label_value_bytes_max;
                let name = label.name;
                return refuse(format!("label {name:?} has {value} bytes, limit {max}"));
            }
        }
        let max = limits.labels_per_series_max;
        if count > max {
            return refuse(format!("{count} labels, limit {max}"));
        }
        Ok(())
    }

    /// Whether the metadata is already the newest of its metric, and no record is under way that
    /// changes that.
    pub(crate) fn knows_metadata(&self, metric: &str, metadata: &Metadata) -> bool {
        !self.metadata_under_way.concerns(metric) && self.is_newest(metric, metadata)
    }

    pub(super) fn is_newest(&self, metric: &str, metadata: &Metadata) -> bool {
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

    /// What is known of a metric, oldest first.
    pub(crate) fn known_metadata(&self, metric: &str) -> Vec<Metadata> {
        let all = self.metadata.read();
        all.get(metric)
            .map_or_else(Vec::new, |known| known.iter().rev().cloned().collect())
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
