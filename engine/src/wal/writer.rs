//! Group commit: many callers, one write, one sync.
//!
//! ```text
//!  callers ── encode ──> queue ──> committer: one frame, one fdatasync ──> applier ──> callbacks
//! ```
//!
//! Callers encode on their own threads and hand over bytes, rows and a callback. The committer
//! takes all that waits, writes it as one frame and syncs once; while it syncs, the next batch
//! gathers, so there is no timer and no artificial delay. The applier thread then hands the rows
//! to the head in sequence order and calls back, while the committer is already syncing the next
//! batch. Nothing is applied, and nobody is told of success, before it is as durable as
//! [`SyncMode`] promises.
//!
//! - No space left: the waiting callers get `Unavailable`; the next caller tries again, so the log
//!   recovers as soon as there is space.
//! - A failed sync: everyone gets `Poisoned` from then on. The kernel may have dropped the pages,
//!   and a second sync that succeeds would prove nothing.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel;
use parking_lot::Mutex;

use super::completion::{Completion, completion_channel};
use super::format::file_name;
use super::log_file::{Failure, LogFile};
use super::queue::{CommitQueue, NoEntry, Queued, Taken};
use super::record::EncodedRecord;
use super::replay::{LogPosition, LogStart, replay};
use super::stats::{Counters, WalStats};
use crate::error::{EngineError, Result};
use crate::io::SharedFileSystem;
use crate::options::SyncMode;

/// Batches that may wait for the applier before the committer waits for it.
const APPLY_BACKLOG: usize = 2;
/// How long [`Wal::append`] waits for room in the queue when no deadline is given.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// When a record counts as durable.
    pub sync: SyncMode,
    /// A log file is continued in a new one beyond this size. Default: 64 MiB.
    pub file_bytes: u64,
    /// Space is allocated this far ahead, which spares each sync the file's metadata; 0 to allocate
    /// nothing (in-memory stores). Default: 4 MiB.
    pub preallocate_bytes: u64,
    /// A batch takes no further record beyond this size: bounds the time one commit takes.
    /// Default: 8 MiB.
    pub batch_bytes_max: usize,
    /// Encoded bytes that may wait; callers beyond it wait or are refused. Default: 64 MiB.
    pub queue_bytes_max: usize,
    /// Makes the files' contents repeatable in tests; `None` takes random numbers.
    pub salt: Option<u64>,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            file_bytes: 64 << 20,
            preallocate_bytes: 4 << 20,
            batch_bytes_max: 8 << 20,
            queue_bytes_max: 64 << 20,
            salt: None,
        }
    }
}

/// What a record becomes once it is durable.
#[derive(Debug)]
pub struct Logged<T> {
    /// Its place in the order of all records.
    pub sequence: u64,
    /// What the caller handed over with it.
    pub payload: T,
}

/// Takes durable records, in order, on the log's own thread.
pub trait Applier<T>: Send + 'static {
    /// Makes records visible. Callers are told of success when this returns.
    fn apply(&mut self, records: Vec<Logged<T>>);

    /// Everything below `next_sequence` has been applied and nothing at or above it; called by
    /// [`Wal::cut`], for a checkpoint that takes exactly the rows below.
    fn cut(&mut self, next_sequence: u64);
}

struct Waiting<T> {
    record: EncodedRecord,
    payload: T,
    done: Completion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barrier {
    /// Everything before is durable, whatever the mode.
    Sync,
    /// A new file begins.
    Cut,
}

enum Item<T> {
    Record(Waiting<T>),
    Barrier(Barrier, Completion),
}

impl<T> Item<T> {
    fn into_done(self) -> Completion {
        match self {
            Self::Record(waiting) => waiting.done,
            Self::Barrier(_, done) => done,
        }
    }
}

impl<T> Queued for Item<T> {
    fn bytes(&self) -> usize {
        match self {
            Self::Record(waiting) => waiting.record.size(),
            Self::Barrier(..) => 0,
        }
    }

    fn ends_batch(&self) -> bool {
        matches!(self, Self::Barrier(..))
    }
}

struct Shared<T> {
    queue: CommitQueue<Item<T>>,
    counters: Arc<Counters>,
    poisoned: Mutex<Option<String>>,
    /// Number, first sequence number and bytes used of each file; the last one is being written.
    files: Mutex<VecDeque<(u64, u64, u64)>>,
}

enum ToApply<T> {
    Records(u64, Vec<(T, Completion)>),
    Barrier(Barrier, u64, Completion),
}

/// Makes the first file of a new log in `dir` (which must exist), unless it is there. A store does
/// this before it stores its first manifest: from then on the manifest says that the file must be
/// there, and its absence is a loss.
///
/// # Errors
/// What the file system says.
pub fn initialize(fs: &SharedFileSystem, dir: &Path, options: &WalOptions) -> Result<()> {
    if fs.length(&dir.join(file_name(1)))?.is_some() {
        return Ok(());
    }
    let counters = Arc::new(Counters::default());
    LogFile::create(Arc::clone(fs), dir, options.clone(), counters, 1, 1)
        .map(|_| ())
        .map_err(plain)
}

/// An open log.
pub struct Wal<T> {
    shared: Arc<Shared<T>>,
    fs: SharedFileSystem,
    dir: PathBuf,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<T> std::fmt::Debug for Wal<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wal({})", self.dir.display())
    }
}

fn plain(failure: Failure) -> EngineError {
    match failure {
        Failure::Retryable(error) | Failure::Final(error) => error,
    }
}

impl<T: Send + 'static> Wal<T> {
    /// Makes a new log in `dir` (which must exist) with file 1 and sequence number 1.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(
        fs: SharedFileSystem,
        dir: &Path,
        options: WalOptions,
        applier: impl Applier<T>,
    ) -> Result<Self> {
        initialize(&fs, dir, &options)?;
        let (_, position) = replay(&*fs, dir, LogStart::default(), |_, _| Ok(()))?;
        Self::open(fs, dir, &position, options, applier)
    }

    /// Continues a log where [`replay`](super::replay) found its end: the torn tail is cut off,
    /// what may not have been synced is written again, and files before `position` are removed.
    ///
    /// # Errors
    /// What the file system says; a failed sync among it.
    pub fn open(
        fs: SharedFileSystem,
        dir: &Path,
        position: &LogPosition,
        options: WalOptions,
        applier: impl Applier<T>,
    ) -> Result<Self> {
        // The process before may have failed between making a file and making its name durable; what
        // is written into the file now would go with the name.
        fs.sync_dir(dir)?;
        crate::io::remove_temporary_files(&*fs, dir)?;
        let first = position.files.first().map_or(1, |f| f.0);
        for name in fs.list(dir)? {
            if super::format::file_number(&name).is_some_and(|number| number < first) {
                fs.remove(&dir.join(name))?;
            }
        }
        let counters = Arc::new(Counters::default());
        let log = LogFile::reopen(
            Arc::clone(&fs),
            dir,
            options.clone(),
            Arc::clone(&counters),
            position,
        )
        .map_err(plain)?;
        let mut files = Vec::with_capacity(position.files.len());
        for (number, sequence) in position.files.iter().copied() {
            let length = fs.length(&dir.join(file_name(number)))?;
            files.push((number, sequence, length.unwrap_or(0)));
        }
        Self::start(fs, dir, options, counters, log, files, applier)
    }

    fn start(
        fs: SharedFileSystem,
        dir: &Path,
        options: WalOptions,
        counters: Arc<Counters>,
        log: LogFile,
        files: Vec<(u64, u64, u64)>,
        applier: impl Applier<T>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: CommitQueue::new(options.queue_bytes_max),
            counters,
            poisoned: Mutex::new(None),
            files: Mutex::new(files.into()),
        });
        shared.note_position(&log);
        let (sender, receiver) = channel::bounded(APPLY_BACKLOG);
        let committer = Committer {
            shared: Arc::clone(&shared),
            log,
            sync: options.sync,
            batch_bytes_max: options.batch_bytes_max,
            apply: sender,
            sync_due: None,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(|error| EngineError::io(dir, error))
        };
        let threads = vec![
            spawn(
                "wal-apply",
                Box::new({
                    let shared = Arc::clone(&shared);
                    move || apply_loop(&shared, &receiver, applier)
                }),
            )?,
            spawn("wal-commit", Box::new(move || commit_loop(committer)))?,
        ];
        Ok(Self {
            shared,
            fs,
            dir: dir.to_owned(),
            threads: Mutex::new(threads),
        })
    }

    /// Hands over a record; `done` is called with its sequence number from the log's thread once it
    /// is durable and applied, or with the reason why it is not. Never waits: a full queue refuses.
    pub fn submit(
        &self,
        record: EncodedRecord,
        payload: T,
        done: impl FnOnce(Result<u64>) + Send + 'static,
    ) {
        let waiting = Waiting {
            record,
            payload,
            done: Completion::new(done),
        };
        if let Err((item, why)) = self.shared.queue.offer(Item::Record(waiting)) {
            item.into_done().complete(Err(self.shared.refusal(why)));
        }
    }

    /// Writes a record and waits until it is durable and applied. Returns its sequence number.
    ///
    /// # Errors
    /// [`EngineError::DeadlineExceeded`] when `deadline` passes before there is room in the queue
    /// (nothing is stored then), [`EngineError::Unavailable`] when there is no space left or the
    /// log is closed, [`EngineError::Poisoned`] after a failed sync.
    pub fn append(
        &self,
        record: EncodedRecord,
        payload: T,
        deadline: Option<Instant>,
    ) -> Result<u64> {
        let give_up = deadline.unwrap_or_else(|| Instant::now() + ROOM_TIMEOUT);
        let (done, answer) = completion_channel();
        let waiting = Waiting {
            record,
            payload,
            done,
        };
        match self
            .shared
            .queue
            .offer_until(Item::Record(waiting), give_up)
        {
            Ok(()) => answer.wait(),
            Err((_, NoEntry::Full)) if deadline.is_some() => Err(EngineError::DeadlineExceeded),
            Err((_, why)) => Err(self.shared.refusal(why)),
        }
    }

    /// Makes everything handed over before durable, whatever the mode, and waits until it is
    /// applied.
    ///
    /// # Errors
    /// [`EngineError::Poisoned`] when the sync fails or one has failed before.
    pub fn sync(&self) -> Result<()> {
        self.barrier(Barrier::Sync).map(|_| ())
    }

    /// Begins a new log file and calls [`Applier::cut`] between the records before and those after.
    /// Returns the first sequence number after the cut: once the rows below it are in segments and
    /// the manifest says so, [`Wal::remove_before`] drops the files.
    ///
    /// # Errors
    /// As [`Wal::append`]; the applier is not called then.
    pub fn cut(&self) -> Result<u64> {
        self.barrier(Barrier::Cut)
    }

    fn barrier(&self, barrier: Barrier) -> Result<u64> {
        let (done, answer) = completion_channel();
        match self.shared.queue.force(Item::Barrier(barrier, done)) {
            Ok(()) => answer.wait(),
            Err((_, why)) => Err(self.shared.refusal(why)),
        }
    }

    /// Number of the oldest file that holds a record from `sequence` on: what the manifest must name
    /// as the first file before [`Wal::remove_before`] is called.
    #[must_use]
    pub fn first_file_for(&self, sequence: u64) -> u64 {
        let files = self.shared.files.lock();
        let older = files.iter().rev().find(|f| f.1 <= sequence);
        older.or(files.front()).map_or(1, |f| f.0)
    }

    /// Removes the files all of whose records are below `sequence`. The manifest must say so
    /// already. Returns how many were removed.
    ///
    /// # Errors
    /// What the file system says; the files that are left are removed by the next call.
    pub fn remove_before(&self, sequence: u64) -> Result<usize> {
        let first = self.first_file_for(sequence);
        let mut files = self.shared.files.lock();
        let mut removed = 0;
        while let Some((number, ..)) = files.front().copied() {
            if number >= first || files.len() == 1 {
                break;
            }
            self.fs.remove(&self.dir.join(file_name(number)))?;
            files.pop_front();
            removed += 1;
        }
        if removed > 0 {
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(removed)
    }

    /// The state of the log.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let counters = &self.shared.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (files, bytes) = {
            let files = self.shared.files.lock();
            (files.len() as u64, files.iter().map(|f| f.2).sum())
        };
        WalStats {
            next_sequence: read(&counters.next_sequence),
            synced_sequence: read(&counters.synced_sequence),
            records: read(&counters.records),
            commits: read(&counters.commits),
            bytes_written: read(&counters.bytes_written),
            refused: read(&counters.refused),
            files,
            bytes,
            queue_bytes: self.shared.queue.waiting_bytes() as u64,
            sync: counters.sync.summary(),
            sync_within: counters.sync.within(),
            poisoned: self.shared.poisoned.lock().clone(),
        }
    }

    /// Writes and syncs what waits, and stops the threads.
    ///
    /// # Errors
    /// As [`Wal::sync`]; the threads are stopped all the same.
    pub fn close(&self) -> Result<()> {
        let synced = self.sync();
        self.stop();
        match synced {
            // Closed before: everything was synced then.
            Err(EngineError::Unavailable(_)) => Ok(()),
            other => other,
        }
    }
}

impl<T> Wal<T> {
    fn stop(&self) {
        self.shared.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        let here = std::thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == here) {
            // The last handle was dropped by a callback: the threads end by themselves, and this one
            // cannot wait for itself.
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("bug: a thread of the write-ahead log panicked");
            }
        }
    }
}

impl<T> Drop for Wal<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T> Shared<T> {
    /// Why the queue lets nobody in.
    fn refusal(&self, why: NoEntry) -> EngineError {
        match (why, &*self.poisoned.lock()) {
            (NoEntry::Closed, Some(reason)) => EngineError::Poisoned(reason.clone()),
            (NoEntry::Closed, None) => EngineError::Unavailable("the log is closed".into()),
            (NoEntry::Full, _) => {
                EngineError::Unavailable("the write-ahead log's queue is full".into())
            }
        }
    }

    fn poison(&self, reason: &str) {
        let mut poisoned = self.poisoned.lock();
        if poisoned.is_none() {
            tracing::error!(reason, "the write-ahead log takes no more writes");
            *poisoned = Some(reason.to_owned());
        }
    }

    /// Notes how full the file is.
    fn note_position(&self, log: &LogFile) {
        if let Some(last) = self.files.lock().back_mut() {
            last.2 = log.position();
        }
    }
}

fn commit_loop<T: Send + 'static>(committer: Committer<T>) {
    let shared = Arc::clone(&committer.shared);
    if catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
        shared.poison("the thread that writes the log panicked");
    }
    // Nobody takes from the queue any more: who waits in it is refused by dropping the item.
    drop(shared.queue.abandon());
}

fn apply_loop<T>(
    shared: &Shared<T>,
    receiver: &channel::Receiver<ToApply<T>>,
    mut applier: impl Applier<T>,
) {
    let apply_all = AssertUnwindSafe(|| {
        for job in receiver {
            apply_one(job, &mut applier);
        }
    });
    // Until the senders are gone, what they send is dropped here and so refused: a channel keeps
    // what was sent to a receiver that is gone, and its callers would wait for ever.
    if catch_unwind(apply_all).is_err() {
        shared.poison("the thread that applies records panicked");
        receiver.iter().for_each(drop);
    }
}

fn apply_one<T>(job: ToApply<T>, applier: &mut impl Applier<T>) {
    match job {
        ToApply::Records(first_sequence, records) => {
            let mut logged = Vec::with_capacity(records.len());
            let mut completions = Vec::with_capacity(records.len());
            for (sequence, (payload, done)) in (first_sequence..).zip(records) {
                logged.push(Logged { sequence, payload });
                completions.push((sequence, done));
            }
            applier.apply(logged);
            for (sequence, done) in completions {
                done.complete(Ok(sequence));
            }
        }
        ToApply::Barrier(barrier, next_sequence, done) => {
            if barrier == Barrier::Cut {
                applier.cut(next_sequence);
            }
            done.complete(Ok(next_sequence));
        }
    }
}

/// The thread that writes.
struct Committer<T> {
    shared: Arc<Shared<T>>,
    log: LogFile,
    sync: SyncMode,
    batch_bytes_max: usize,
    apply: channel::Sender<ToApply<T>>,
    /// When the next sync of [`SyncMode::Interval`] is due; set while something is unsynced.
    sync_due: Option<Instant>,
}

/// What the committer found in the queue.
enum Work<T> {
    Batch(Vec<Waiting<T>>, Option<(Barrier, Completion)>),
    SyncDue,
    Closed,
}

impl<T: Send + 'static> Committer<T> {
    fn run(mut self) {
        loop {
            match self.wait() {
                Work::Batch(records, barrier) => {
                    if !records.is_empty() {
                        self.commit(records);
                    }
                    if let Some((barrier, done)) = barrier {
                        self.pass_barrier(barrier, done);
                    }
                }
                Work::SyncDue => {
                    // The failure is reported to the next caller.
                    let _ = self.sync_now();
                }
                Work::Closed => break,
            }
        }
        if self.log.has_unsynced() {
            let _ = self.sync_now();
        }
    }

    /// Waits for work and takes all that fits a batch, up to the first barrier.
    fn wait(&self) -> Work<T> {
        let batch = match self.shared.queue.take(self.batch_bytes_max, self.sync_due) {
            Taken::Batch(batch) => batch,
            Taken::Due => return Work::SyncDue,
            Taken::Closed => return Work::Closed,
        };
        let mut records = Vec::with_capacity(batch.len());
        let mut barrier = None;
        for item in batch {
            match item {
                Item::Record(waiting) => records.push(waiting),
                Item::Barrier(kind, done) => barrier = Some((kind, done)),
            }
        }
        Work::Batch(records, barrier)
    }

    fn commit(&mut self, records: Vec<Waiting<T>>) {
        match self.write(&records) {
            Ok(first_sequence) => {
                let rows = records.into_iter().map(|w| (w.payload, w.done)).collect();
                // The applier's thread outlives this one.
                let _ = self.apply.send(ToApply::Records(first_sequence, rows));
                self.after_commit();
            }
            Err(failure) => {
                let refused = &self.shared.counters.refused;
                refused.fetch_add(records.len() as u64, Ordering::Relaxed);
                for waiting in records {
                    waiting.done.complete(Err(self.refusal(&failure)));
                }
            }
        }
    }

    /// Writes and, where the mode asks for it, syncs.
    fn write(&mut self, records: &[Waiting<T>]) -> Result<u64, Failure> {
        self.check_poison()?;
        let always = self.sync == SyncMode::Always;
        let encoded = records.iter().map(|waiting| &waiting.record);
        let written = self.log.write_frame(encoded, !always);
        if let Err(Failure::Final(error)) = &written {
            self.shared.poison(&error.to_string());
        }
        let first_sequence = written?;
        if always {
            self.sync_now()?;
        } else if let SyncMode::Interval(interval) = self.sync {
            self.sync_due
                .get_or_insert_with(|| Instant::now() + interval);
        }
        Ok(first_sequence)
    }

    fn check_poison(&self) -> Result<(), Failure> {
        match &*self.shared.poisoned.lock() {
            Some(reason) => Err(Failure::Final(EngineError::Poisoned(reason.clone()))),
            None => Ok(()),
        }
    }

    fn sync_now(&mut self) -> Result<(), Failure> {
        self.sync_due = None;
        self.check_poison()?;
        let synced = self.log.sync();
        if let Err(Failure::Final(error)) = &synced {
            self.shared.poison(&error.to_string());
        }
        synced
    }

    fn after_commit(&mut self) {
        self.shared.note_position(&self.log);
        if self.sync == SyncMode::Always {
            self.log.write_marker();
        }
        if self.log.is_full() {
            match self.rotate() {
                Err(Failure::Retryable(error)) => {
                    tracing::warn!(%error, "cannot begin a new log file, going on in the old one");
                }
                Ok(()) | Err(Failure::Final(_)) => {}
            }
        }
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        self.check_poison()?;
        let rotated = self.log.rotate();
        match &rotated {
            Ok(()) => {
                self.sync_due = None;
                let mut files = self.shared.files.lock();
                files.push_back((
                    self.log.number(),
                    self.log.next_sequence(),
                    self.log.position(),
                ));
            }
            Err(Failure::Final(error)) => self.shared.poison(&error.to_string()),
            Err(Failure::Retryable(_)) => {}
        }
        rotated
    }

    fn pass_barrier(&mut self, barrier: Barrier, done: Completion) {
        let passed = match barrier {
            Barrier::Sync if self.log.has_unsynced() => self.sync_now(),
            Barrier::Sync => self.check_poison(),
            Barrier::Cut => self.rotate(),
        };
        match passed {
            Ok(()) => {
                let job = ToApply::Barrier(barrier, self.log.next_sequence(), done);
                let _ = self.apply.send(job);
            }
            Err(failure) => done.complete(Err(self.refusal(&failure))),
        }
    }

    fn refusal(&self, failure: &Failure) -> EngineError {
        if let Some(reason) = &*self.shared.poisoned.lock() {
            return EngineError::Poisoned(reason.clone());
        }
        let error = match failure {
            Failure::Retryable(error) | Failure::Final(error) => error,
        };
        let reason = if error.is_out_of_space() {
            format!("no space left for the write-ahead log: {error}")
        } else {
            format!("the write-ahead log cannot be written: {error}")
        };
        EngineError::Unavailable(reason)
    }
}
