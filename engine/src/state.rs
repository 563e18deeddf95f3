//! State documents: small versioned pieces of state of the layers above (dashboards, silences,
//! tailer positions, models), with compare-and-set and listing by prefix.
//!
//! A change goes through three steps: [`StateStore::begin_put`] checks the expected version and
//! reserves the document, the caller logs [`StateChange::op`], and the log's applier calls
//! [`StateStore::apply`]. While a change is under way, others of the same document wait, so that
//! each compares with what its predecessor left; a change that could not be logged leaves nothing.
//!
//! Versions come from one counter for all documents: one that was removed and made again never
//! bears an old version. Applying is idempotent, so that a snapshot may be newer than the record
//! at which replay begins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::codec::varint::write_u64;
use crate::context::{RequestContext, TenantId};
use crate::error::{EngineError, Result};
use crate::limits::{STATE_NAME_BYTES_MAX, STATE_VALUE_BYTES_MAX};
use crate::sealed;
use crate::wal::StateOp;
use crate::wal::cursor::{write_bytes, write_text};

/// Version of a snapshot's content.
pub const FORMAT_VERSION: u32 = 1;
/// Ends the names of snapshot files.
pub const SNAPSHOT_SUFFIX: &str = ".state";

pub(crate) const KIND: sealed::Kind = sealed::Kind {
    magic: *b"CHRONSTA",
    version: FORMAT_VERSION,
};
/// How long a change waits for another one of the same document when no deadline is given.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Tenant, collection and key.
type Name = (TenantId, Arc<str>, Arc<str>);

#[derive(Debug)]
struct Stored {
    version: u64,
    value: Arc<[u8]>,
}

#[derive(Debug, Default)]
struct Documents {
    by_name: BTreeMap<Name, Stored>,
    /// Documents that are being changed.
    busy: BTreeSet<Name>,
    version_last: u64,
}

/// The documents of all tenants.
#[derive(Debug, Default)]
pub struct StateStore {
    documents: Mutex<Documents>,
    released: Condvar,
}

/// A change that was admitted and is to be logged. Dropping it lets the next change of the document
/// go on; whether it took effect is up to [`StateStore::apply`].
#[derive(Debug)]
pub struct StateChange<'a> {
    store: &'a StateStore,
    name: Name,
    op: StateOp,
}

impl StateChange<'_> {
    /// What to log and to apply.
    #[must_use]
    pub fn op(&self) -> &StateOp {
        &self.op
    }

    /// The version that the document will have.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.op.version
    }
}

impl Drop for StateChange<'_> {
    fn drop(&mut self) {
        self.store.documents.lock().busy.remove(&self.name);
        self.store.released.notify_all();
    }
}

fn name(tenant: &TenantId, collection: &str, key: &str) -> Name {
    (tenant.clone(), Arc::from(collection), Arc::from(key))
}

impl StateStore {
    /// The document, if there is one.
    #[must_use]
    pub fn get(&self, tenant: &TenantId, collection: &str, key: &str) -> Option<StateDocument> {
        let documents = self.documents.lock();
        let stored = documents.by_name.get(&name(tenant, collection, key))?;
        Some(StateDocument {
            key: key.to_owned(),
            version: stored.version,
            value: Arc::clone(&stored.value),
        })
    }

    /// The documents of a collection whose keys start with `prefix`, by key, at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        tenant: &TenantId,
        collection: &str,
        prefix: &str,
        limit: usize,
    ) -> Vec<StateDocument> {
        let documents = self.documents.lock();
        documents
            .by_name
            .range(name(tenant, collection, prefix)..)
            .take_while(|((t, c, key), _)| {
                t == tenant && &**c == collection && key.starts_with(prefix)
            })
            .take(limit)
            .map(|((_, _, key), stored)| StateDocument {
                key: key.to_string(),
                version: stored.version,
                value: Arc::clone(&stored.value),
            })
            .collect()
    }

    /// Whether no document was ever written. Without documents but not untouched, the store still
    /// knows which versions were given out.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.documents.lock().version_last == 0
    }

    /// How many documents there are and how many bytes they hold.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let documents = self.documents.lock();
        let bytes = |(name, stored): (&Name, &Stored)| {
            (name.1.len() + name.2.len() + stored.value.len()) as u64
        };
        (
            documents.by_name.len(),
            documents.by_name.iter().map(bytes).sum(),
        )
    }

    /// Admits writing a document. `expected` is the version that it must have, 0 for "must not be
    /// there", `None` for any.
    ///
    /// # Errors
    /// [`EngineError::VersionConflict`], [`EngineError::InvalidArgument`] beyond the limits, or what
    /// the context says while another change of the document is under way.
    pub fn begin_put(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
    ) -> Result<StateChange<'_>> {
        if value.len() > STATE_VALUE_BYTES_MAX {
            return Err(EngineError::InvalidArgument(format!(
                "{collection}/{key}: document of {} bytes, at most {STATE_VALUE_BYTES_MAX} are \
                 accepted",
                value.len()
            )));
        }
        self.begin(context, collection, key, expected, Some(Arc::from(value)))
    }

    /// Admits removing a document; removing one that is not there is no error.
    ///
    /// # Errors
    /// As [`StateStore::begin_put`].
    pub fn begin_delete(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected: Option<u64>,
    ) -> Result<StateChange<'_>> {
        self.begin(context, collection, key, expected, None)
    }

    fn begin(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected: Option<u64>,
        value: Option<Arc<[u8]>>,
    ) -> Result<StateChange<'_>> {
        if collection.is_empty() || collection.len().max(key.len()) > STATE_NAME_BYTES_MAX {
            return Err(EngineError::InvalidArgument(format!(
                "state collection and key must have at most {STATE_NAME_BYTES_MAX} bytes, and the \
                 collection at least one"
            )));
        }
        let name = name(&context.tenant, collection, key);
        let give_up = context
            .deadline
            .unwrap_or_else(|| Instant::now() + BUSY_TIMEOUT);
        let mut documents = self.documents.lock();
        while documents.busy.contains(&name) {
            context.check()?;
            if self
                .released
                .wait_until(&mut documents, give_up)
                .timed_out()
            {
                return Err(EngineError::DeadlineExceeded);
            }
        }
        let actual = documents.by_name.get(&name).map_or(0, |s| s.version);
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(EngineError::VersionConflict {
                collection: collection.to_owned(),
                key: key.to_owned(),
                expected,
                actual,
            });
        }
        documents.version_last += 1;
        documents.busy.insert(name.clone());
        let op = StateOp {
            collection: Arc::clone(&name.1),
            key: Arc::clone(&name.2),
            version: documents.version_last,
            value,
        };
        Ok(StateChange {
            store: self,
            name,
            op,
        })
    }

    /// The documents as they are now, on their own; contents are shared.
    pub(crate) fn fork(&self) -> Self {
        let documents = self.documents.lock();
        let by_name = documents.by_name.iter();
        let copy = |(name, stored): (&Name, &Stored)| {
            let value = Arc::clone(&stored.value);
            let version = stored.version;
            (name.clone(), Stored { version, value })
        };
        Self {
            documents: Mutex::new(Documents {
                by_name: by_name.map(copy).collect(),
                busy: BTreeSet::new(),
                version_last: documents.version_last,
            }),
            released: Condvar::new(),
        }
    }

    /// Calls `each` with tenant, collection, key, version and value of every document, in order.
    ///
    /// # Errors
    /// What `each` answers.
    pub(crate) fn for_each<E>(
        &self,
        mut each: impl FnMut(&TenantId, &str, &str, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let documents = self.documents.lock();
        let mut all = documents.by_name.iter();
        all.try_for_each(|((tenant, collection, key), stored)| {
            each(tenant, collection, key, stored.version, &stored.value)
        })
    }

    /// Takes over the documents of another store: a reader read them anew.
    pub(crate) fn replace_by(&self, other: Self) {
        let mut documents = self.documents.lock();
        let fresh = other.documents.into_inner();
        documents.by_name = fresh.by_name;
        documents.version_last = documents.version_last.max(fresh.version_last);
    }

    /// Takes over a change that the log holds. One that is older than what is there is passed over.
    pub fn apply(&self, tenant: &TenantId, op: &StateOp) {
        let name = (
            tenant.clone(),
            Arc::clone(&op.collection),
            Arc::clone(&op.key),
        );
        let mut documents = self.documents.lock();
        documents.version_last = documents.version_last.max(op.version);
        let present = documents.by_name.get(&name).map_or(0, |s| s.version);
        if op.version <= present {
            return;
        }
        match &op.value {
            Some(value) => {
                let value = Arc::clone(value);
                let version = op.version;
                documents.by_name.insert(name, Stored { version, value });
            }
            None => {
                documents.by_name.remove(&name);
            }
        }
    }

    /// The bytes of a snapshot file, and its name for the manifest change `generation`.
    #[must_use]
    pub fn snapshot(&self, generation: crate::model::Generation) -> (String, Vec<u8>) {
        let documents = self.documents.lock();
        let mut out = Vec::new();
        write_u64(&mut out, documents.version_last);
        write_u64(&mut out, documents.by_name.len() as u64);
        for ((tenant, collection, key), stored) in &documents.by_name {
            write_text(&mut out, tenant.as_str());
            write_text(&mut out, collection);
            write_text(&mut out, key);
            write_u64(&mut out, stored.version);
            write_bytes(&mut out, &stored.value);
        }
        let name = format!("{:012}{SNAPSHOT_SUFFIX}", generation.0);
        (name, sealed::encode(KIND, &out))
    }

    /// Reads the bytes of the snapshot file at `path`.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] naming `path` and the offset of what is wrong.
    pub fn from_snapshot(path: &Path, bytes: &[u8]) -> Result<Self> {
        sealed::read(KIND, path, bytes, |_version, cursor| {
            let mut documents = Documents {
                version_last: cursor.varint()?,
                ..Documents::default()
            };
            let count = cursor.count(5)?;
            for _ in 0..count {
                let tenant = TenantId::new(cursor.text()?)
                    .map_err(|_| cursor.malformed("malformed tenant"))?;
                let name = (tenant, Arc::from(cursor.text()?), Arc::from(cursor.text()?));
                let stored = Stored {
                    version: cursor.varint()?,
                    value: Arc::from(cursor.bytes()?),
                };
                documents.by_name.insert(name, stored);
            }
            Ok(Self {
                documents: Mutex::new(documents),
                released: Condvar::new(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    fn put(
        store: &StateStore,
        key: &str,
        expected: Option<u64>,
        value: &str,
    ) -> Result<u64, EngineError> {
        let context = RequestContext::new();
        let change = store.begin_put(&context, "c", key, expected, value.as_bytes())?;
        store.apply(&context.tenant, change.op());
        Ok(change.version())
    }

    fn values(store: &StateStore, prefix: &str) -> Vec<String> {
        let listed = store.list(&TenantId::default(), "c", prefix, 10);
        let text = |d: StateDocument| format!("{}={}", d.key, String::from_utf8_lossy(&d.value));
        listed.into_iter().map(text).collect()
    }

    #[test]
    fn compare_and_set_sees_every_write() {
        let store = StateStore::default();
        let first = put(&store, "a", Some(0), "1").unwrap();
        let second = put(&store, "a", Some(first), "2").unwrap();
        assert!(second > first);
        match put(&store, "a", Some(first), "3") {
            Err(EngineError::VersionConflict {
                expected, actual, ..
            }) => assert_eq!((expected, actual), (first, second)),
            other => panic!("expected a conflict, got {other:?}"),
        }
        assert!(put(&store, "a", Some(0), "3").is_err());
        let context = RequestContext::new();
        let change = store
            .begin_delete(&context, "c", "a", Some(second))
            .unwrap();
        store.apply(&context.tenant, change.op());
        drop(change);
        assert_eq!(store.get(&context.tenant, "c", "a"), None);
        let third = put(&store, "a", Some(0), "3").unwrap();
        assert!(third > second, "versions never repeat");
    }

    #[test]
    fn a_change_that_is_not_applied_leaves_nothing() {
        let store = StateStore::default();
        let context = RequestContext::new();
        drop(store.begin_put(&context, "c", "a", Some(0), b"x").unwrap());
        assert_eq!(values(&store, ""), [""; 0]);
        put(&store, "a", Some(0), "y").unwrap();
    }

    #[test]
    fn changes_of_one_document_wait_for_each_other() {
        let store = StateStore::default();
        let mut context = RequestContext::new();
        context.deadline = Some(Instant::now() + Duration::from_millis(20));
        let change = store.begin_put(&context, "c", "a", None, b"1").unwrap();
        store.begin_put(&context, "c", "b", None, b"1").unwrap();
        let refused = store.begin_put(&context, "c", "a", None, b"2");
        assert!(matches!(refused, Err(EngineError::DeadlineExceeded)));
        drop(change);

        // Racing increments: each succeeds exactly once.
        let store = &store;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut done = 0;
                    while done < 50 {
                        let tenant = TenantId::default();
                        let found = store.get(&tenant, "c", "n");
                        let version = found.as_ref().map_or(0, |d| d.version);
                        let count: u64 =
                            found.map_or(0, |d| String::from_utf8_lossy(&d.value).parse().unwrap());
                        let next = (count + 1).to_string();
                        match put(store, "n", Some(version), &next) {
                            Ok(_) => done += 1,
                            Err(EngineError::VersionConflict { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        assert_eq!(values(store, "n"), ["n=200"]);
    }

    #[test]
    fn listing_stays_inside_tenant_collection_and_prefix() {
        let store = StateStore::default();
        for key in ["a/1", "a/2", "b/1"] {
            put(&store, key, None, key).unwrap();
        }
        let other = RequestContext::for_tenant(TenantId::new("other").unwrap());
        let change = store.begin_put(&other, "c", "a/3", None, b"").unwrap();
        store.apply(&other.tenant, change.op());
        assert_eq!(values(&store, "a/"), ["a/1=a/1", "a/2=a/2"]);
        assert_eq!(values(&store, "").len(), 3);
        assert_eq!(store.list(&other.tenant, "c", "", 10).len(), 1);
        assert_eq!(store.list(&other.tenant, "d", "", 10).len(), 0);
    }

    #[test]
    fn replay_over_a_newer_snapshot_changes_nothing() {
        let store = StateStore::default();
        let context = RequestContext::new();
        let mut log = Vec::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            let change = store
                .begin_put(&context, "c", key, None, value.as_bytes())
                .unwrap();
            log.push(change.op().clone());
            store.apply(&context.tenant, change.op());
        }
        let (name, bytes) = store.snapshot(Generation(7));
        assert_eq!(name, "000000000007.state");
        let again = StateStore::from_snapshot(Path::new(&name), &bytes).unwrap();
        for op in &log {
            again.apply(&context.tenant, op);
        }
        assert_eq!(values(&again, ""), ["a=3", "b=2"]);
        assert_eq!(again.size(), store.size());
        assert!(put(&again, "d", Some(0), "x").unwrap() > 3);
    }

    #[test]
    fn damaged_snapshots_are_reported() {
        let store = StateStore::default();
        put(&store, "a", None, "value").unwrap();
        let (name, bytes) = store.snapshot(Generation(1));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let result = StateStore::from_snapshot(Path::new(&name), &bad);
            assert!(matches!(result, Err(EngineError::Corruption(_))), "{at}");
            assert!(StateStore::from_snapshot(Path::new(&name), &bytes[..at]).is_err());
        }
    }
}
