//! Changes of metadata that are on their way through the log.
//!
//! What a tenant knows of its metrics changes when a record is applied, but a session decides earlier,
//! while it is filled, whether what its client says is news. A client that hands over one text and then,
//! before the answer, the text that was there before, must not be told that the latter is known: the
//! first would stay the newest. So what is under way is announced, and sessions log what concerns it.
//!
//! Invariant: a metric is in the list from before a record that changes it is handed to the log until
//! after that record has been applied or refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::tenant::Tenant;
use crate::model::Metadata;

/// What is under way, of one tenant.
#[derive(Debug, Default)]
pub(crate) struct MetadataUnderWay {
    /// By metric: the newest that was handed over, and how many records under way change it.
    newest: Mutex<BTreeMap<String, (Metadata, usize)>>,
    /// Entries of the map: mostly none, and then nobody needs the lock.
    count: AtomicUsize,
}

impl MetadataUnderWay {
    /// Whether metadata of the metric is about to change.
    pub(super) fn concerns(&self, metric: &str) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.newest.lock().contains_key(metric)
    }
}

/// Changes of one record. Dropped when the record has been applied or refused.
#[derive(Debug)]
pub(crate) struct AnnouncedMetadata {
    tenant: Arc<Tenant>,
    metrics: Vec<String>,
}

impl AnnouncedMetadata {
    /// Announces what a record says; `None` if it changes nothing.
    ///
    /// A repetition of what is under way is logged but not announced: under a steady load there would
    /// otherwise always be one under way, and each request would log all that it says.
    pub(crate) fn new(tenant: &Arc<Tenant>, said: &[(String, Metadata)]) -> Option<Self> {
        if said.is_empty() {
            return None;
        }
        let under_way = &tenant.metadata_under_way;
        let mut newest = under_way.newest.lock();
        let mut metrics = Vec::new();
        for (metric, metadata) in said {
            match newest.get_mut(metric) {
                Some((known, _)) if known == metadata => {}
                Some((known, records)) => {
                    known.clone_from(metadata);
                    *records += 1;
                    metrics.push(metric.clone());
                }
                None if tenant.is_newest(metric, metadata) => {}
                None => {
                    newest.insert(metric.clone(), (metadata.clone(), 1));
                    metrics.push(metric.clone());
                }
            }
        }
        under_way.count.store(newest.len(), Ordering::SeqCst);
        drop(newest);
        (!metrics.is_empty()).then(|| Self {
            tenant: Arc::clone(tenant),
            metrics,
        })
    }
}

impl Drop for AnnouncedMetadata {
    fn drop(&mut self) {
        let under_way = &self.tenant.metadata_under_way;
        let mut newest = under_way.newest.lock();
        for metric in &self.metrics {
            let Some((_, records)) = newest.get_mut(metric) else {
                continue;
            };
            *records -= 1;
            if *records == 0 {
                newest.remove(metric);
            }
        }
        under_way.count.store(newest.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::TenantId;
    use crate::options::TenantLimits;

    fn help(text: &str) -> Metadata {
        Metadata {
            help: text.into(),
            ..Metadata::default()
        }
    }

    #[test]
    fn nothing_is_known_of_a_metric_while_it_changes() {
        let tenant = Arc::new(Tenant::new(TenantId::default(), 0, TenantLimits::default()));
        tenant.set_metadata("m", help("a"));
        assert!(tenant.knows_metadata("m", &help("a")));
        let says = |text: &str| [("m".to_owned(), help(text))];

        let first = AnnouncedMetadata::new(&tenant, &says("b"));
        assert!(first.is_some());
        assert!(!tenant.knows_metadata("m", &help("a")));
        assert!(!tenant.knows_metadata("m", &help("b")));
        assert!(AnnouncedMetadata::new(&tenant, &says("b")).is_none());
        let second = AnnouncedMetadata::new(&tenant, &says("a"));
        assert!(second.is_some());

        tenant.set_metadata("m", help("b"));
        drop(first);
        assert!(!tenant.knows_metadata("m", &help("b")));
        tenant.set_metadata("m", help("a"));
        drop(second);
        assert!(tenant.knows_metadata("m", &help("a")));
        assert!(AnnouncedMetadata::new(&tenant, &says("a")).is_none());
    }
}
