//! The store under test, the file system under it, and the model beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::model::{Contents, Model, Op};
use super::observe::observe;
use super::rows::{Request, START_NS};
use super::step::{Armed, Setting, Step, TENANTS};
use crate::context::{RequestContext, TenantId};
use crate::error::{EngineError, Result};
use crate::io::{Faulty, FileSystem as _, Memory, SharedFileSystem};
use crate::model::TimestampNs;
use crate::options::{Clock, StoreOptions};
use crate::store::Store;
use crate::store::engine::Engine;
use crate::store::open::wal_options;

/// Where the store lies.
pub(super) const DIR: &str = "/data";
/// Requests in doubt at which the store is opened again: each doubles the number of explanations.
const DOUBTS_MAX: usize = 5;

/// What went wrong.
pub(super) type Failure = String;

pub(super) struct World {
    pub(super) memory: Memory,
    fs: Faulty,
    /// How often the store was opened after the first time.
    openings: u64,
    /// Calls that were made to fail since the store was opened.
    fired: Arc<AtomicU64>,
    /// The same, when the step that is under way began.
    fired_before: u64,
    pub(super) store: Option<Store>,
    pub(super) reader: Option<Store>,
    pub(super) contexts: Vec<RequestContext>,
    clock: Arc<AtomicI64>,
    /// All times that the clock has shown.
    pub(super) stops: Vec<i64>,
    /// Where backups go.
    pub(super) backups: Memory,
    /// The store ended otherwise than by being closed since the last backup.
    pub(super) was_cut: bool,
    pub(super) options: StoreOptions,
    log_bytes: (u64, u64),
    pub(super) model: Model,
    pub(super) last_request: Option<Request>,
    /// The disk has a limit.
    pub(super) is_full: bool,
    /// The store said that it takes no more writes until it is opened again.
    is_poisoned: bool,
    /// The highest version that a document ever had.
    pub(super) version_max: u64,
    /// The highest number that a deletion was given.
    pub(super) generation_max: u64,
    /// What happened, for the one who reads the failure.
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let clock = Arc::new(AtomicI64::new(START_NS));
        let options = StoreOptions {
            sync: setting.sync,
            background: false,
            retention: setting
                .retention_hours
                .map(|hours| Duration::from_secs(3600 * u64::from(hours))),
            as_of_retention: Duration::from_secs(3600 * u64::from(setting.as_of_hours)),
            clock: Clock::new({
                let clock = Arc::clone(&clock);
                move || TimestampNs(clock.load(Ordering::Relaxed))
            }),
            ..StoreOptions::default()
        };
        let names = ["default", "other"];
        assert_eq!(names.len() as u64, TENANTS);
        let contexts = names.map(|name| RequestContext::for_tenant(TenantId::new(name).unwrap()));
        let memory = Memory::new();
        let mut world = Self {
            fs: Faulty::new(Arc::new(memory.clone()), |_| None),
            memory,
            openings: 0,
            fired: Arc::default(),
            fired_before: 0,
            store: None,
            reader: None,
            contexts: contexts.into(),
            clock,
            stops: vec![START_NS],
            backups: Memory::new(),
            was_cut: false,
            model: Model::new(setting.sync == crate::options::SyncMode::Off),
            options,
            log_bytes: setting.log_bytes,
            last_request: None,
            is_full: false,
            is_poisoned: false,
            version_max: 0,
            generation_max: 0,
            trace: Vec::new(),
        };
        world.store = Some(world.open().expect("an empty directory opens"));
        world
    }

    /// Executes one step.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), Failure> {
        self.fired_before = self.fired();
        self.trace.push(format!("{step:?}"));
        match *step {
            Step::Append { tenant, seed } => self.append(tenant, seed),
            Step::Abandon { tenant, seed } => self.abandon(tenant, seed),
            Step::Retry => self.retry(),
            Step::Burst { seed, flush } => self.burst(seed, flush),
            Step::AppendAcrossFlush { tenant, seed } => self.append_across_flush(tenant, seed),
            Step::Replace { tenant, seed } => self.replace(tenant, seed),
            Step::Delete { tenant, seed } => self.delete(tenant, seed),
            Step::ChangeState { tenant, seed } => self.change_state(tenant, seed),
            Step::Advance { seconds } => {
                let by = i64::from(seconds) * super::rows::SECOND_NS;
                self.clock.fetch_add(by, Ordering::Relaxed);
                self.stops.push(self.now());
                Ok(())
            }
            Step::Flush => self.flush(),
            Step::Compact => self.compact(),
            Step::Housekeeping => self.housekeeping(),
            Step::Scan { seed } => self.scan(seed),
            Step::Check => self.check(),
            Step::PinnedScan { tenant, seed } => self.pinned_scan(tenant, seed),
            Step::AsOf { seed } => self.as_of(seed),
            Step::Backup { seed } => self.back_up(seed),
            Step::Reader => self.read_beside(),
            Step::Fault(armed) => {
                self.arm(armed);
                Ok(())
            }
            Step::DiskFull { spare_bytes } => {
                let lengths = self.memory.paths().into_iter().map(|path| {
                    let length = self.memory.length(&path).ok().flatten();
                    length.unwrap_or(0)
                });
                let used: u64 = lengths.sum();
                self.memory
                    .set_capacity(Some(used + u64::from(spare_bytes)));
                self.is_full = true;
                Ok(())
            }
            Step::Heal => {
                self.heal();
                Ok(())
            }
            Step::Reopen { ending, fault } => self.reopen(ending, fault),
        }?;
        self.settle();
        if self.fs.is_dead() || self.model.doubts() >= DOUBTS_MAX {
            self.trace.push("  (opened again after that)".into());
            self.reopen(super::step::Ending::Kill, None)?;
        }
        Ok(())
    }

    /// Waits until the log's threads have nothing left to do, so that calls come in the same order
    /// whenever the seed is replayed.
    fn settle(&self) {
        if let Some(store) = &self.store
            && let Ok(wal) = store.inner.wal()
        {
            // What fails here fails again when something is stored.
            let _ = wal.sync();
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("bug: no store is open")
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// When rows arrive that are sent now, if the store keeps what is overwritten.
    pub(super) fn arrival(&self) -> Option<i64> {
        (!self.options.as_of_retention.is_zero()).then(|| self.now())
    }

    fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }

    /// Whether calls may have failed since the store was opened.
    pub(super) fn had_trouble(&self) -> bool {
        self.is_full || self.fired() > 0
    }

    /// Opens the store over a file system of its own, whose calls fail as armed next.
    pub(super) fn open(&mut self) -> Result<Store> {
        let shared: SharedFileSystem = Arc::new(self.fs.clone());
        let mut log = wal_options(&self.options);
        log.file_bytes = self.log_bytes.0;
        if log.preallocate_bytes > 0 {
            log.preallocate_bytes = self.log_bytes.1;
        }
        let engine = Engine::open_with(shared, Path::new(DIR), self.options.clone(), log)?;
        self.is_poisoned = false;
        Ok(Store { inner: engine })
    }

    /// A file system without history: that of a new process.
    pub(super) fn renew_fs(&mut self) {
        self.fs = Faulty::new(Arc::new(self.memory.clone()), |_| None);
        self.fired = Arc::default();
        self.fired_before = 0;
        self.openings += 1;
    }

    /// Whether the store is not the one with which this world began.
    pub(super) fn was_renewed(&self) -> bool {
        self.openings > 0
    }

    pub(super) fn open_reader(&self) -> Result<Store> {
        let shared: SharedFileSystem = Arc::new(self.memory.clone());
        Store::open_read_only_on(shared, Path::new(DIR), self.options.clone())
    }

    pub(super) fn arm(&mut self, armed: Armed) {
        let fired = Arc::clone(&self.fired);
        let mut matching = 0_u64;
        self.fs.set_rule(move |call| {
            if armed.only.is_some_and(|only| only != call.operation) {
                return None;
            }
            let number = matching;
            matching += 1;
            let fails = number >= armed.after && number - armed.after < armed.count;
            fails.then(|| {
                fired.fetch_add(1, Ordering::SeqCst);
                armed.fault
            })
        });
    }

    pub(super) fn heal(&mut self) {
        self.fs.set_rule(|_| None);
        self.memory.set_capacity(None);
        self.is_full = false;
    }

    /// Tells the model what became of a change.
    pub(super) fn settled<T>(&mut self, op: Op, result: Result<T>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => {
                if self.is_poisoned {
                    return Err("acknowledged although a sync had failed before".into());
                }
                self.model.acknowledged(op);
                Ok(Some(value))
            }
            Err(error) => {
                self.refusal(&error)?;
                self.model.refused(op);
                Ok(None)
            }
        }
    }

    /// Checks that a change was refused for a reason, and as it should be.
    pub(super) fn refusal(&mut self, error: &EngineError) -> Result<(), Failure> {
        self.trace.push(format!("  refused: {error}"));
        let fired_now = self.fired() > self.fired_before;
        match error {
            EngineError::Poisoned(_) if self.fired() > 0 => self.is_poisoned = true,
            EngineError::Unavailable(_) if !self.is_poisoned && (fired_now || self.is_full) => {}
            other => return Err(format!("refused without a reason: {other:?}")),
        }
        Ok(())
    }

    /// Checks that upkeep failed for a reason. It changes no rows, whatever becomes of it.
    pub(super) fn upkeep<T>(&mut self, result: Result<T>) -> Result<bool, Failure> {
        let Err(error) = result else {
            return Ok(true);
        };
        self.trace.push(format!("  failed: {error}"));
        let fired_now = self.fired() > self.fired_before;
        match error {
            EngineError::Poisoned(_) if self.fired() > 0 => self.is_poisoned = true,
            EngineError::Unavailable(_) | EngineError::Io { .. } if fired_now || self.is_full => {}
            other => return Err(format!("failed without a reason: {other:?}")),
        }
        Ok(false)
    }

    /// Compares all that the store shows with the model.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let shown = self.observe()?;
        let floor = self.model.floor;
        self.model
            .observe(|expected| expected.difference(&shown, floor))
            .map_err(|difference| format!("the open store: {difference}"))
    }

    pub(super) fn observe(&self) -> Result<Contents, Failure> {
        observe(self.store(), &self.contexts).map_err(|error| format!("reading: {error}"))
    }
}
