//! Versioned documents: small state of the layers above, with compare-and-set.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::TenantId;
use crate::error::{EngineError, Result};

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDocument {
    /// Its key inside the collection.
    pub key: String,
    /// Grows with every write; never 0.
    pub version: u64,
    /// Its content.
    pub value: Arc<[u8]>,
}

type Path = (TenantId, String, String);

#[derive(Default)]
struct Documents {
    documents: BTreeMap<Path, (u64, Arc<[u8]>)>,
    last_version: u64,
}

/// The documents of all tenants.
#[derive(Default)]
pub(crate) struct StateStore {
    inner: Mutex<Documents>,
}

fn path(tenant: &TenantId, collection: &str, key: &str) -> Path {
    (tenant.clone(), collection.to_owned(), key.to_owned())
}

fn check_version(path: &Path, actual: u64, expected: Option<u64>) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(EngineError::VersionConflict {
            collection: path.1.clone(),
            key: path.2.clone(),
            expected,
            actual,
        }),
        _ => Ok(()),
    }
}

impl StateStore {
    pub(crate) fn get(
        &self,
        tenant: &TenantId,
        collection: &str,
        key: &str,
    ) -> Option<StateDocument> {
        let inner = self.inner.lock();
        let (version, value) = inner.documents.get(&path(tenant, collection, key))?;
        Some(StateDocument {
            key: key.to_owned(),
            version: *version,
            value: Arc::clone(value),
        })
    }

    pub(crate) fn put(
        &self,
        tenant: &TenantId,
        collection: &str,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
    ) -> Result<u64> {
        let path = path(tenant, collection, key);
        let mut inner = self.inner.lock();
        let actual = inner
            .documents
            .get(&path)
            .map_or(0, |(version, _)| *version);
        check_version(&path, actual, expected)?;
        // One counter for all documents: a document that was removed and made again never bears an
        // old version.
        inner.last_version += 1;
        let version = inner.last_version;
        inner.documents.insert(path, (version, Arc::from(value)));
        Ok(version)
    }

    pub(crate) fn delete(
        &self,
        tenant: &TenantId,
        collection: &str,
        key: &str,
        expected: Option<u64>,
    ) -> Result<()> {
        let path = path(tenant, collection, key);
        let mut inner = self.inner.lock();
        let actual = inner
            .documents
            .get(&path)
            .map_or(0, |(version, _)| *version);
        check_version(&path, actual, expected)?;
        inner.documents.remove(&path);
        Ok(())
    }

    pub(crate) fn list(
        &self,
        tenant: &TenantId,
        collection: &str,
        prefix: &str,
        limit: usize,
    ) -> Vec<StateDocument> {
        let inner = self.inner.lock();
        let from = path(tenant, collection, prefix);
        inner
            .documents
            .range(from..)
            .take_while(|((t, c, key), _)| {
                t == tenant && c == collection && key.starts_with(prefix)
            })
            .take(limit)
            .map(|((_, _, key), (version, value))| StateDocument {
                key: key.clone(),
                version: *version,
                value: Arc::clone(value),
            })
            .collect()
    }
}
