//! A store that is read beside the process that writes it: manifest, segments, tail of the log.
//!
//! Nothing is locked and nothing is written. The writer may replace the manifest and remove files at
//! any moment; what vanishes while it is being opened is looked up again in the newer manifest.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::engine::Engine;
use super::inner::Inner;
use super::open::{Replayer, WAL_DIR, open_segments, read_state};
use super::view::View;
use crate::error::{EngineError, Result};
use crate::io::SharedFileSystem;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::model::Generation;
use crate::options::StoreOptions;
use crate::wal::{Followed, Follower, LogStart, Record};

/// How often a directory that changes meanwhile is looked at again.
const ATTEMPTS: usize = 50;
/// Encoded bytes of the log that are taken at a time.
const POLL_BYTES: usize = 4 << 20;

/// Reads on where the last look at the log ended.
pub(crate) struct Tail {
    follower: Follower,
    replayer: Replayer,
}

impl Tail {
    fn new(dir: &Path, start: LogStart) -> Self {
        Self {
            follower: Follower::new(&dir.join(WAL_DIR), start),
            replayer: Replayer::default(),
        }
    }

    /// Hands over what was written since; answers false when the log has moved on past it.
    fn catch_up(&mut self, inner: &Inner, mut apply: impl FnMut(u64, Record)) -> Result<bool> {
        loop {
            match self.follower.poll(&*inner.fs, POLL_BYTES)? {
                Followed::Records(records) => {
                    for (sequence, record) in records {
                        apply(sequence, self.replayer.translate(inner, sequence, record)?);
                    }
                }
                Followed::Idle => return Ok(true),
                Followed::Vanished => return Ok(false),
            }
        }
    }
}

fn read_manifest(fs: &SharedFileSystem, dir: &Path) -> Result<Manifest> {
    Manifest::load(&**fs, dir)?.ok_or_else(|| {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no store here");
        EngineError::io(dir.join(MANIFEST_FILE), missing)
    })
}

/// Repeats `look` while files vanish or the log moves on under it.
fn patiently<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if attempt < ATTEMPTS => {}
            Err(error) if error.is_not_found() && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
            Ok(None) => {
                let why = "the directory changes faster than it can be read".to_owned();
                return Err(EngineError::Unavailable(why));
            }
        }
    }
}

/// Turns damage into "look again" when the manifest was replaced meanwhile: a file that it named may
/// have been removed between two looks.
fn unless_replaced<T>(
    fs: &SharedFileSystem,
    dir: &Path,
    generation: Generation,
    found: Result<Option<T>>,
) -> Result<Option<T>> {
    match found {
        Err(EngineError::Corruption(_)) if read_manifest(fs, dir)?.generation != generation => {
            Ok(None)
        }
        other => other,
    }
}

impl Engine {
    /// Opens a store for reading, without its lock.
    pub(crate) fn open_read_only(
        fs: SharedFileSystem,
        dir: &Path,
        options: StoreOptions,
    ) -> Result<Arc<Self>> {
        read_manifest(&fs, dir)?;
        let (inner, tail) = patiently(|| {
            let manifest = read_manifest(&fs, dir)?;
            let generation = manifest.generation;
            let look = || {
                let mut tail = Tail::new(dir, manifest.log);
                let inner = Inner::new(Arc::clone(&fs), dir, options.clone(), manifest)?;
                let complete =
                    tail.catch_up(&inner, |sequence, record| inner.apply(sequence, record, 0))?;
                Ok(complete.then_some((inner, tail)))
            };
            unless_replaced(&fs, dir, generation, look())
        })?;
        Ok(Self::for_reading(Arc::new(inner), Mutex::new(tail)))
    }

    /// Takes notice of what the writer did since. Scans that are under way keep what they pinned.
    pub(crate) fn refresh(&self) -> Result<()> {
        let Some(tail) = self.tail() else {
            return Ok(());
        };
        let mut tail = tail.lock();
        let on_disk = read_manifest(&self.fs, &self.dir)?.generation;
        let known = self.manifest.lock().generation;
        let apply = |sequence, record| self.apply(sequence, record, 0);
        if on_disk == known && tail.catch_up(self, apply)? {
            return Ok(());
        }
        *tail = patiently(|| {
            let manifest = read_manifest(&self.fs, &self.dir)?;
            let generation = manifest.generation;
            unless_replaced(&self.fs, &self.dir, generation, self.read_anew(manifest))
        })?;
        Ok(())
    }

    /// Builds what the directory says now beside what is shown, then swaps.
    fn read_anew(&self, manifest: Manifest) -> Result<Option<Tail>> {
        let segments = open_segments(&*self.fs, &self.dir, &manifest, &self.view().segments)?;
        let state = read_state(&*self.fs, &self.dir, &manifest)?;
        // Before the tail of the log, which knows more.
        self.learn_from(&segments)?;
        let mut view = View {
            segments: Arc::new(segments),
            tombstones: Arc::new(manifest.tombstones.clone()),
            frozen: Vec::new(),
            since: self.now(),
            active: Arc::default(),
            derived: Arc::default(),
        };
        let mut tail = Tail::new(&self.dir, manifest.log);
        let complete = tail.catch_up(self, |sequence, record| {
            let mut record = record;
            let tenant = self.tenant_or_insert(&record.tenant);
            self.change_rows(&mut view, sequence, &tenant, &mut record);
            for op in &record.state {
                state.apply(&tenant.id, op);
            }
            let _ = self.apply_rows(&view.active, &tenant, record);
        })?;
        if !complete {
            return Ok(None);
        }
        self.state.replace_by(state);
        self.raise_generation(manifest.generation);
        *self.manifest.lock() = manifest;
        let _between_records = self.applying.lock();
        self.change_view(|shown| *shown = view);
        // What the writer changed on the way here, nobody knows.
        for tenant in self.all_tenants() {
            tenant.changes.touch(i64::MIN);
        }
        Ok(Some(tail))
    }
}
