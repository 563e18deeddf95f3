//! Streams by the bytes in which a protocol names them, so that a known one costs a hash; and the
//! limit on how many a tenant may have.
//!
//! What is remembered is bounded in bytes: two generations, and when the younger has its share the
//! older one is forgotten. Streams are counted by the hour: each counts in the hours in which rows
//! come for it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_engine::TenantId;
use chronolith_engine::model::{Labels, Stream};
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Over which time streams are counted.
const WINDOW: Duration = Duration::from_secs(3600);
/// Newcomers that are looked through for the label that explodes.
const NEWCOMERS_KEPT: usize = 1024;
/// How often a tenant's newcomers are looked through at most.
const BLAME_INTERVAL: Duration = Duration::from_secs(1);
/// What an entry takes besides its bytes: hash table, stream, lists.
const ENTRY_BYTES: usize = 256;

/// Remembers streams.
#[derive(Debug)]
pub struct StreamCache {
    seed: u64,
    generation_bytes_max: usize,
    streams_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    young: Generation,
    old: Generation,
    tenants: HashMap<TenantId, Tenant>,
    window_began: Instant,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashMap<u64, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    stream: Arc<Stream>,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Hashes of the labels, resources and scopes of this hour's streams.
    seen: HashSet<u64>,
    newcomers: VecDeque<Labels>,
    blamed: Option<(Instant, String)>,
}

/// Why a stream was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TooManyStreams(pub String);

impl StreamCache {
    /// One that takes about `bytes_max` bytes and allows each tenant `streams_max` streams an hour
    /// (0: any number).
    #[must_use]
    pub fn new(bytes_max: usize, streams_max: u64) -> Self {
        let state = State {
            young: Generation::default(),
            old: Generation::default(),
            tenants: HashMap::new(),
            window_began: Instant::now(),
        };
        Self {
            // Senders must not be able to make keys that meet.
            seed: RandomState::new().build_hasher().finish(),
            generation_bytes_max: bytes_max / 2,
            streams_max,
            state: Mutex::new(state),
        }
    }

    /// The stream of `key`, which names tenant and protocol too; made by `make` if it is not known.
    ///
    /// # Errors
    /// The tenant has too many, or what `make` answers.
    pub fn get<E: From<TooManyStreams>>(
        &self,
        tenant: &TenantId,
        key: &[u8],
        make: impl FnOnce() -> Result<Stream, E>,
    ) -> Result<Arc<Stream>, E> {
        let hash = xxh3_64_with_seed(key, self.seed);
        {
            let state = &mut *self.state.lock();
            if state.window_began.elapsed() > WINDOW {
                *state = State {
                    young: Generation::default(),
                    old: Generation::default(),
                    tenants: HashMap::new(),
                    window_began: Instant::now(),
                };
            }
            if let Some(known) = state.young.get(hash, key) {
                return Ok(known);
            }
            if let Some(known) = state.old.get(hash, key) {
                let entry = Entry {
                    key: key.into(),
                    stream: Arc::clone(&known),
                };
                self.remember(state, hash, entry);
                return Ok(known);
            }
        }
        let stream = make()?;
        let identity = identity(&stream);
        let mut state = self.state.lock();
        self.admit(&mut state, tenant, identity, &stream.labels)?;
        let stream = Arc::new(stream);
        let entry = Entry {
            key: key.into(),
            stream: Arc::clone(&stream),
        };
        self.remember(&mut state, hash, entry);
        Ok(stream)
    }

    fn remember(&self, state: &mut State, hash: u64, entry: Entry) {
        if state.young.bytes >= self.generation_bytes_max {
            state.old = std::mem::take(&mut state.young);
        }
        // Attributes are about as long as the bytes that they came from.
        state.young.bytes += ENTRY_BYTES + 3 * entry.key.len();
        state.young.entries.insert(hash, entry);
    }

    fn admit(
        &self,
        state: &mut State,
        tenant: &TenantId,
        identity: u64,
        labels: &Labels,
    ) -> Result<(), TooManyStreams> {
        if !state.tenants.contains_key(tenant) {
            state.tenants.insert(tenant.clone(), Tenant::default());
        }
        let Some(counts) = state.tenants.get_mut(tenant) else {
            return Ok(());
        };
        if self.streams_max == 0 || counts.seen.contains(&identity) {
            return Ok(());
        }
        if counts.newcomers.len() >= NEWCOMERS_KEPT {
            counts.newcomers.pop_front();
        }
        counts.newcomers.push_back(labels.clone());
        if (counts.seen.len() as u64) < self.streams_max {
            counts.seen.insert(identity);
            return Ok(());
        }
        let blame = match &counts.blamed {
            Some((when, blame)) if when.elapsed() < BLAME_INTERVAL => blame.clone(),
            _ => {
                let blame = widest_label(&counts.newcomers);
                counts.blamed = Some((Instant::now(), blame.clone()));
                blame
            }
        };
        Err(TooManyStreams(format!(
            "tenant {}: limit of {} streams an hour reached; {blame}",
            tenant.as_str(),
            self.streams_max
        )))
    }
}

impl Generation {
    fn get(&self, hash: u64, key: &[u8]) -> Option<Arc<Stream>> {
        let entry = self.entries.get(&hash)?;
        (*entry.key == *key).then(|| Arc::clone(&entry.stream))
    }
}

/// A stream is what its labels, its resource and its scope are.
fn identity(stream: &Stream) -> u64 {
    let mut text = String::new();
    if !stream.resource.is_empty() || stream.scope != Default::default() {
        text = format!("{:?}{:?}", stream.resource, stream.scope);
    }
    xxh3_64_with_seed(stream.labels.as_bytes(), xxh3_64(text.as_bytes()))
}

/// The label with the most values, of equals the first, in words.
fn widest_label(newcomers: &VecDeque<Labels>) -> String {
    let mut values: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for label in newcomers.iter().flatten() {
        values.entry(label.name).or_default().insert(label.value);
    }
    let widest = values.iter().rev().max_by_key(|(_, values)| values.len());
    match widest {
        Some((name, values)) if values.len() > 1 => format!(
            "label {name:?} has the most values among the newest streams ({} in {})",
            values.len(),
            newcomers.len()
        ),
        _ => "the newest streams differ in attributes that are no labels".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pod: usize) -> Stream {
        let pod = format!("p{pod}");
        let pairs = [("job", "x"), ("pod", pod.as_str())];
        Stream::from_labels(Labels::from_pairs(pairs).unwrap())
    }

    #[test]
    fn a_known_stream_is_not_made_again() {
        let cache = StreamCache::new(1 << 20, 0);
        let tenant = TenantId::default();
        let first = cache.get::<TooManyStreams>(&tenant, b"k", || Ok(stream(1)));
        let again = cache.get::<TooManyStreams>(&tenant, b"k", || panic!("known"));
        assert!(Arc::ptr_eq(&first.unwrap(), &again.unwrap()));
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = StreamCache::new(20_000, 0);
        let tenant = TenantId::default();
        for number in 0..10_000_usize {
            let key = (number as u64).to_le_bytes();
            let got = cache.get::<TooManyStreams>(&tenant, &key, || Ok(stream(number)));
            got.unwrap();
            let kept = cache.get::<TooManyStreams>(&tenant, b"kept", || Ok(stream(0)));
            kept.unwrap();
        }
        let state = cache.state.lock();
        assert!(state.young.entries.len() + state.old.entries.len() < 100);
        assert!(state.young.bytes < 11_000);
    }

    #[test]
    fn the_limit_names_the_label_that_explodes() {
        let cache = StreamCache::new(1 << 20, 10);
        let tenant = TenantId::default();
        let get = |number: usize| {
            let key = (number as u64).to_le_bytes();
            cache.get::<TooManyStreams>(&tenant, &key, || Ok(stream(number)))
        };
        for number in 0..10 {
            get(number).unwrap();
        }
        let refused = get(10).unwrap_err().to_string();
        assert!(refused.contains("limit of 10 streams"), "{refused}");
        assert!(refused.contains("label \"pod\""), "{refused}");
        get(3).unwrap();
        let other = TenantId::new("other").unwrap();
        let key = [1, 2];
        let got = cache.get::<TooManyStreams>(&other, &key, || Ok(stream(99)));
        got.unwrap();
    }
}
