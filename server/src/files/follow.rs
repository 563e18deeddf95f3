//! One job: which files it follows, how far each is read, and the commits that move it on.
//!
//! A look finds files that came, went, were renamed, emptied or written anew. A batch reads some of
//! what is there and commits the records together with the positions behind them ([`super::position`]).
//! What could not be committed is read again, so a store that takes no writes slows the reading down
//! and nothing else.
//!
//! Rotation: a file that was renamed is the same file and is read to its end, by the open handle when
//! its new name is not meant. A file that was emptied is read from its beginning; what had not been
//! read of it is looked for in a copy beside it (copytruncate). A copy, compressed or not, of what was
//! read goes on where that ended. **Invariant**: positions move only by a commit.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use chronolith_engine::model::{Labels, Stream};
use chronolith_engine::{EngineError, RequestContext, StatePut};

use super::config::{Job, StartAt};
use super::discover::{self, Found, siblings};
use super::position::{COLLECTION, FileId, PRINT_BYTES_MAX, Position, Print};
use super::source::{Source, hint, id_of, is_compressed};
use super::status::{FileState, FileStatus, JobStatus};
use crate::error::{ApiError, ErrorType};
use crate::process::RowKind;
use crate::rows::take::{Source as RowSource, sink_context};
use crate::rows::{LogRow, LogSink, TooManyStreams, Value};
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::telemetry::rows::Protocol;

/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 16;
/// Bytes that are read at a time, unless a record is longer.
const READ_BYTES: usize = 256 << 10;
/// Bytes and records after which a batch is committed.
const BATCH_BYTES: usize = 2 << 20;
const BATCH_ROWS: u64 = 100_000;
/// Documents of a job that are read at its start.
const DOCUMENTS_MAX: usize = 100_000;
/// Files beside a file that are held against it.
const SIBLINGS_MAX: usize = 200;
/// How long after its last change a file may still be a copy that is being made.
const COPY_TIME_MAX: Duration = Duration::from_secs(5);
/// How often what is remembered of files that are gone is looked through.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a file that is gone is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// A position that is stored, of a file that is not followed now.
#[derive(Clone, Debug)]
struct Known {
    position: Position,
    version: u64,
}

#[derive(Debug)]
struct Followed {
    source: Source,
    labels: Labels,
    /// As it is stored, or would be if it were.
    position: Position,
    /// Behind what the batch under way has read.
    pending: Option<Position>,
    /// Version of the stored document; 0 for none.
    version: u64,
    /// The position is not stored although it should be.
    is_dirty: bool,
    size: u64,
    modified: Option<SystemTime>,
    grew_at: Instant,
    /// The size at which nothing more could be read.
    tried: Option<u64>,
    /// Whether a name that is meant leads to it.
    is_named: bool,
    /// There will be no more.
    is_done: bool,
    read_ms: i64,
    error: Option<String>,
}

impl Followed {
    fn rested(&self, flush_after: Duration) -> bool {
        self.grew_at.elapsed() >= flush_after
    }

    /// Whether a batch would find something in it.
    fn is_ready(&self, flush_after: Duration) -> bool {
        if self.is_done {
            return false;
        }
        if !self.source.is_plain() {
            return true;
        }
        let has_more = self.size > self.position.offset;
        has_more && (self.tried != Some(self.size) || self.rested(flush_after))
    }

    fn state(&self) -> FileState {
        match (self.error.is_some(), self.is_named, self.is_done) {
            (true, ..) => FileState::Failed,
            (_, _, true) => FileState::Done,
            (_, true, _) => FileState::Followed,
            (_, false, _) => FileState::Renamed,
        }
    }
}

/// One job at work.
#[derive(Debug)]
pub struct Follower {
    job: Arc<Job>,
    status: Arc<JobStatus>,
    is_loaded: bool,
    /// No position was ever stored: where reading begins is up to the configuration.
    is_new: bool,
    files: BTreeMap<FileId, Followed>,
    known: HashMap<FileId, Known>,
    buffer: Vec<u8>,
    /// Where the next batch begins, so that a file that grows fast does not keep the others waiting.
    next: Option<FileId>,
    /// Bytes that may be read now, if there is a limit.
    allowance: f64,
    refilled: Instant,
    purged: Instant,
}

/// What a batch does with one file.
enum Read {
    /// Nothing is left for now.
    Nothing,
    /// So many bytes were read.
    Bytes(usize),
}

impl Follower {
    /// Begins; nothing is read yet.
    #[must_use]
    pub fn new(job: Arc<Job>, status: Arc<JobStatus>) -> Self {
        Self {
            job,
            status,
            is_loaded: false,
            is_new: false,
            files: BTreeMap::new(),
            known: HashMap::new(),
            buffer: Vec::new(),
            next: None,
            allowance: 0.0,
            refilled: Instant::now(),
            purged: Instant::now(),
        }
    }

    fn context(&self) -> RequestContext {
        RequestContext::for_tenant(self.job.tenant.clone())
    }

    /// Reads the positions that are stored.
    fn load(&mut self, state: &AppState) -> Result<(), ApiError> {
        let prefix = format!("{}/", self.job.config.job_name);
        let context = self.context();
        let documents = state
            .store()
            .state_list(&context, COLLECTION, &prefix, DOCUMENTS_MAX)?;
        self.files.clear();
        self.known.clear();
        self.is_new = documents.is_empty();
        for document in documents {
            let id = document.key.strip_prefix(&prefix).and_then(FileId::parse);
            let position = serde_json::from_slice::<Position>(&document.value);
            if let (Some(id), Ok(position)) = (id, position) {
                let version = document.version;
                self.known.insert(id, Known { position, version });
            }
        }
        self.purge(state)?;
        self.is_loaded = true;
        Ok(())
    }

    /// Forgets files that are gone for long.
    fn purge(&mut self, state: &AppState) -> Result<(), ApiError> {
        self.purged = Instant::now();
        let remembered_ms = i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
        let oldest = now_ms().saturating_sub(remembered_ms);
        let known = self.known.iter();
        let old = known.filter(|(_, k)| k.position.seen_ms < oldest && !k.position.path.exists());
        let old: Vec<(FileId, u64)> = old.map(|(id, known)| (*id, known.version)).collect();
        for (id, version) in old {
            let key = id.key(&self.job.config.job_name);
            let context = self.context();
            state
                .store()
                .state_delete(&context, COLLECTION, &key, Some(version))?;
            self.known.remove(&id);
        }
        Ok(())
    }

    /// Finds out what changed. Whether there is something to read or to store.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn look(&mut self, state: &AppState) -> Result<bool, ApiError> {
        let is_start = !self.is_loaded;
        if is_start {
            self.load(state)?;
        }
        if self.purged.elapsed() > PURGE_INTERVAL {
            self.purge(state)?;
        }
        let look = discover::look(&self.job);
        let mut named = Vec::new();
        for (id, file) in &mut self.files {
            if std::mem::take(&mut file.is_named) {
                named.push(*id);
            }
        }
        let mut errors = look.errors;
        for (id, found) in &look.files {
            match self.files.get_mut(id) {
                Some(file) => {
                    file.is_named = true;
                    if file.position.path != found.path {
                        file.position.path.clone_from(&found.path);
                        file.is_dirty = true;
                        self.status.rotations.fetch_add(1, Ordering::Relaxed);
                    }
                }
                None => {
                    if let Err(error) = self.adopt(*id, found) {
                        errors.insert((found.path.clone(), hint(&error)));
                    }
                }
            }
        }
        let files = &self.files;
        let is_gone = |id: &FileId| files.get(id).is_some_and(|file| !file.is_named);
        let gone = named.iter().filter(|id| is_gone(id)).count() as u64;
        self.status.rotations.fetch_add(gone, Ordering::Relaxed);
        if is_start {
            self.find_renamed();
        }
        self.check_changes();
        if look.too_many {
            let most = self.job.config.files_max;
            let words = format!("more than {most} files; see files_max");
            errors.insert((Path::new("").to_owned(), words));
        }
        self.status.set_errors(errors);
        self.show();
        let flush_after = self.job.config.flush_after;
        let mut files = self.files.values();
        Ok(self.is_new || files.any(|file| file.is_dirty || file.is_ready(flush_after)))
    }

    /// Begins to follow a file.
    fn adopt(&mut self, id: FileId, found: &Found) -> std::io::Result<()> {
        let (mut source, metadata) = Source::open(&found.path)?;
        if id_of(&metadata) != id {
            // Another file has the name by now: the next look finds it.
            return Ok(());
        }
        let mut head = [0; PRINT_BYTES_MAX];
        let length = source.read_at(0, &mut head)?;
        let head = head.get(..length).unwrap_or_default();
        if !self.known.contains_key(&id) && self.may_be_unfinished(&found.path, &metadata, head) {
            return Ok(());
        }
        let known = self.known.remove(&id);
        let version = known.as_ref().map_or(0, |known| known.version);
        let fits = |position: &Position| {
            let fits = !source.is_plain() || metadata.len() >= position.offset;
            fits && position.head.begins(head)
        };
        let mut is_dirty = false;
        let mut position = match known {
            Some(known) if fits(&known.position) => known.position,
            other => {
                if let Some(before) = other {
                    // It was emptied or written anew while nobody looked.
                    self.status.truncations.fetch_add(1, Ordering::Relaxed);
                    self.recover(&before.position);
                }
                is_dirty = true;
                match self.copied(&found.path, &mut source) {
                    Some(position) => position,
                    None => self.beginning(&found.path, &metadata, head),
                }
            }
        };
        position.path.clone_from(&found.path);
        self.insert(id, source, position, version);
        if let Some(file) = self.files.get_mut(&id) {
            // Also where nothing is read yet: renamed before it is, it would be found by nobody.
            file.is_dirty = is_dirty;
            file.is_named = true;
        }
        Ok(())
    }

    fn insert(&mut self, id: FileId, source: Source, position: Position, version: u64) {
        let origin = match position.origin.as_os_str().is_empty() {
            true => &position.path,
            false => &position.origin,
        };
        let labels = self.job.labels(origin);
        let metadata = source.metadata().ok();
        let file = Followed {
            size: metadata.as_ref().map_or(0, std::fs::Metadata::len),
            modified: metadata.and_then(|m| m.modified().ok()),
            source,
            labels,
            position,
            pending: None,
            version,
            is_dirty: false,
            grew_at: Instant::now(),
            tried: None,
            is_named: false,
            is_done: false,
            read_ms: 0,
            error: None,
        };
        self.files.insert(id, file);
    }

    /// Where reading begins in a file of which nothing was read.
    fn beginning(&self, path: &Path, metadata: &std::fs::Metadata, head: &[u8]) -> Position {
        let config = &self.job.config;
        let age = metadata.modified().ok().and_then(|m| m.elapsed().ok());
        let is_old =
            !config.ignore_older.is_zero() && age.is_some_and(|age| age >= config.ignore_older);
        let at_end = is_old || (self.is_new && config.start_at == StartAt::End);
        let mut position = Position {
            path: path.to_owned(),
            origin: path.to_owned(),
            ..Position::default()
        };
        if at_end {
            // Of compressed files the end is not known; nothing lies behind it either.
            let is_plain = !is_compressed(path);
            position.offset = if is_plain { metadata.len() } else { u64::MAX };
            position.head = Print::of(head);
        }
        position
    }

    /// Whether a new file may be a copy that is still being made: what was read of the original is not
    /// in it yet, so it would be read a second time.
    fn may_be_unfinished(&self, path: &Path, metadata: &std::fs::Metadata, head: &[u8]) -> bool {
        let age = metadata.modified().ok().and_then(|m| m.elapsed().ok());
        if age.is_some_and(|age| age > COPY_TIME_MAX) {
            return false;
        }
        let mut positions = self.positions();
        positions.any(|position| {
            let has_begun = position.head.begins(head) || head.is_empty();
            let is_short = is_compressed(path) || metadata.len() < position.offset;
            has_begun && is_short && position.may_have_moved_to(path)
        })
    }

    fn positions(&self) -> impl Iterator<Item = &Position> {
        let followed = self.files.values().map(|file| &file.position);
        followed.chain(self.known.values().map(|known| &known.position))
    }

    /// Where reading goes on in a file that is a copy of one that was read.
    fn copied(&self, path: &Path, source: &mut Source) -> Option<Position> {
        let mut candidates = self.positions().filter(|p| p.may_have_moved_to(path));
        candidates.find(|position| holds(source, position)).cloned()
    }

    /// Looks beside a file for a copy that holds what was not read of it before it was emptied, and
    /// reads that to its end.
    fn recover(&mut self, before: &Position) {
        for path in siblings(&before.path).take(SIBLINGS_MAX) {
            if !before.may_have_moved_to(&path) {
                continue;
            }
            let Ok((mut source, metadata)) = Source::open(&path) else {
                continue;
            };
            let id = id_of(&metadata);
            let is_new = !self.files.contains_key(&id) && !self.known.contains_key(&id);
            if is_new && holds(&mut source, before) {
                let position = Position {
                    path,
                    ..before.clone()
                };
                self.insert(id, source, position, 0);
                if let Some(file) = self.files.get_mut(&id) {
                    file.is_dirty = true;
                }
                return;
            }
        }
    }

    /// Files that were renamed while nobody looked, to names that are not meant: what was not read of
    /// them is read.
    fn find_renamed(&mut self) {
        let mut by_folder: HashMap<std::path::PathBuf, Vec<FileId>> = HashMap::new();
        for (id, known) in &self.known {
            if let Some(folder) = known.position.path.parent() {
                by_folder.entry(folder.to_owned()).or_default().push(*id);
            }
        }
        for ids in by_folder.into_values() {
            let first = ids.first().and_then(|id| self.known.get(id));
            let Some(place) = first.map(|known| known.position.path.clone()) else {
                continue;
            };
            let all = siblings(&place).chain([place.clone()]).take(DOCUMENTS_MAX);
            for path in all.collect::<Vec<_>>() {
                let Ok(metadata) = std::fs::metadata(&path) else {
                    continue;
                };
                let id = id_of(&metadata);
                let Some(known) = self.known.get(&id).filter(|_| ids.contains(&id)) else {
                    continue;
                };
                let Ok((mut source, metadata)) = Source::open(&path) else {
                    continue;
                };
                let has_more = metadata.len() > known.position.offset;
                // Of a file that was not read there is nothing but the name to know it by.
                let is_known = known.position.offset > 0 || known.position.names(&path);
                if id_of(&metadata) == id
                    && has_more
                    && is_known
                    && holds(&mut source, &known.position)
                {
                    let Known { position, version } = known.clone();
                    self.known.remove(&id);
                    self.insert(id, source, Position { path, ..position }, version);
                }
            }
        }
    }

    /// Looks at the followed files: which grew, which were emptied or written anew.
    fn check_changes(&mut self) {
        let mut emptied = Vec::new();
        for (id, file) in &mut self.files {
            let Ok(metadata) = file.source.metadata() else {
                continue;
            };
            let (size, modified) = (metadata.len(), metadata.modified().ok());
            if (size, modified) == (file.size, file.modified) {
                continue;
            }
            file.grew_at = Instant::now();
            (file.size, file.modified) = (size, modified);
            file.error = None;
            if !file.source.is_plain() {
                file.is_done = false;
                continue;
            }
            let mut head = [0; PRINT_BYTES_MAX];
            let length = file.source.read_at(0, &mut head).unwrap_or(0);
            let is_same = file
                .position
                .head
                .begins(head.get(..length).unwrap_or_default());
            if size < file.position.offset || !is_same {
                emptied.push((*id, file.position.clone()));
            }
        }
        for (id, before) in emptied {
            self.status.truncations.fetch_add(1, Ordering::Relaxed);
            self.recover(&before);
            if let Some(file) = self.files.get_mut(&id) {
                file.position = Position {
                    path: before.path,
                    origin: before.origin,
                    ..Position::default()
                };
                file.tried = None;
                file.is_dirty = true;
            }
        }
    }

    /// Bytes that the next batch may read.
    fn allowed(&mut self) -> usize {
        let rate = self.job.config.read_rate_max.0 as f64;
        if rate == 0.0 {
            return BATCH_BYTES;
        }
        let most = rate * self.job.config.poll_interval.as_secs_f64().max(1.0);
        let refill = rate * self.refilled.elapsed().as_secs_f64();
        self.refilled = Instant::now();
        self.allowance = (self.allowance + refill).min(most);
        (self.allowance as usize).min(BATCH_BYTES)
    }

    /// Memory that a batch may take.
    #[must_use]
    pub fn batch_bytes_max(state: &AppState) -> usize {
        let settings = state.settings();
        let record = settings.log_line_max.as_usize();
        let wanted = 2 * (BATCH_BYTES + READ_BYTES.max(record));
        wanted.min(settings.write_inflight_max.as_usize() / 2)
    }

    /// Reads and commits some of what is there. Whether there is more at once.
    ///
    /// # Errors
    /// The store takes no writes; nothing has moved then.
    pub fn batch(&mut self, state: &AppState) -> Result<bool, ApiError> {
        let result = self.read_and_commit(state);
        if result.is_err() {
            for file in self.files.values_mut() {
                file.pending = None;
                file.tried = None;
            }
        }
        self.show();
        result
    }

    fn read_and_commit(&mut self, state: &AppState) -> Result<bool, ApiError> {
        let began = Instant::now();
        let allowed = self.allowed();
        let context = self.context();
        let mut sink = LogSink::new(sink_context(state, &context));
        let flush_after = self.job.config.flush_after;
        let from = self.next.take();
        let ready = |file: &Followed| file.is_ready(flush_after);
        let behind = self.files.range(
            from.unwrap_or(FileId {
                device: 0,
                inode: 0,
            })..,
        );
        let mut order: Vec<FileId> = behind
            .filter(|(_, f)| ready(f))
            .map(|(id, _)| *id)
            .collect();
        let before = self.files.iter().take_while(|(id, _)| Some(**id) < from);
        order.extend(before.filter(|(_, f)| ready(f)).map(|(id, _)| *id));
        let (mut bytes, mut has_more) = (0, false);
        'files: for id in order {
            loop {
                if bytes >= allowed || sink.taken.rows >= BATCH_ROWS {
                    has_more = allowed == BATCH_BYTES || sink.taken.rows >= BATCH_ROWS;
                    self.next = Some(id);
                    break 'files;
                }
                match self.read(id, &mut sink, state) {
                    Read::Nothing => break,
                    Read::Bytes(more) => bytes += more,
                }
            }
        }
        self.allowance -= bytes as f64;
        self.commit(state, &context, sink, bytes)?;
        let metrics = state.metrics();
        metrics.commit_duration.observe(began.elapsed());
        self.forget_gone();
        Ok(has_more)
    }

    /// Reads a piece of a file into the sink.
    fn read(&mut self, id: FileId, sink: &mut LogSink<'_>, state: &AppState) -> Read {
        let Some(file) = self.files.get_mut(&id) else {
            return Read::Nothing;
        };
        let bytes_max = state.settings().log_line_max.as_usize();
        let splitter = self.job.splitter(bytes_max);
        let mut key = sink.tenant().as_str().as_bytes().to_vec();
        key.push(KEY_MARK);
        key.extend_from_slice(file.labels.as_bytes());
        let labels = file.labels.clone();
        let stream = sink.stream(&key, || {
            Ok::<_, TooManyStreams>(Stream::from_labels(labels))
        });
        let stream = match stream {
            Ok(stream) => stream,
            // Nothing of it is read until the tenant may have one stream more.
            Err(error) => {
                file.error = Some(error.to_string());
                file.tried = Some(file.size);
                return Read::Nothing;
            }
        };
        let position = file.pending.as_ref().unwrap_or(&file.position).clone();
        let mut wanted = READ_BYTES;
        let (got, split) = loop {
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
            let got = match file.source.read_at(position.offset, buffer) {
                Ok(got) => got,
                Err(error) => {
                    file.error = Some(hint(&error));
                    file.is_done = !file.source.is_plain();
                    self.status.read_errors.fetch_add(1, Ordering::Relaxed);
                    return Read::Nothing;
                }
            };
            let is_last = got < wanted;
            // What came after the last look has not rested, whatever was there then.
            let rests = position.offset + got as u64 == file.size
                && file.rested(self.job.config.flush_after);
            let is_end = is_last && (rests || !file.source.is_plain());
            let text = self.buffer.get(..got).unwrap_or_default();
            let job = &self.job;
            let plan = job.processor.plan(RowKind::Logs, &file.labels);
            let limits = *sink.limits();
            let split = splitter.split(text, position.skipping, is_end, |record| {
                let text = String::from_utf8_lossy(record);
                let is_repaired = matches!(text, std::borrow::Cow::Owned(_));
                sink.taken.repaired_texts += u64::from(is_repaired);
                let mut row = LogRow {
                    body: Value::Text(text),
                    ..LogRow::default()
                };
                match job.processor.log(&plan, &mut row, limits.attributes_max) {
                    true => sink.push(stream, &mut row),
                    false => sink.taken.dropped += 1,
                }
            });
            // A record that is longer than what was read: with so much more it is whole, or cut.
            if split.consumed == 0 && !is_last && wanted < bytes_max.saturating_add(2) {
                wanted = wanted.saturating_mul(2).min(bytes_max.saturating_add(2));
                continue;
            }
            if is_last && !file.source.is_plain() {
                file.is_done = true;
            }
            break (got, split);
        };
        self.status.cut.fetch_add(split.cut, Ordering::Relaxed);
        if split.consumed == 0 {
            file.tried = Some(file.size);
            return Read::Nothing;
        }
        let consumed = self.buffer.get(..split.consumed).unwrap_or_default();
        let moved = moved_on(&position, consumed, split.skipping, &mut file.source);
        file.pending = Some(moved);
        file.error = None;
        Read::Bytes(got.max(1))
    }

    /// Stores the records and the positions behind them.
    fn commit(
        &mut self,
        state: &AppState,
        context: &RequestContext,
        sink: LogSink<'_>,
        bytes: usize,
    ) -> Result<(), ApiError> {
        let (batch, taken) = sink.finish();
        let now = now_ms();
        let job = &self.job.config.job_name;
        let mut documents = Vec::new();
        for (id, file) in &mut self.files {
            if file.pending.is_none() && !file.is_dirty {
                continue;
            }
            let mut position = file.pending.as_ref().unwrap_or(&file.position).clone();
            position.seen_ms = now;
            let value = serde_json::to_vec(&position)
                .map_err(|e| ApiError::internal(format!("position of a file: {e}")))?;
            documents.push((*id, id.key(job), file.version, value));
            file.pending = Some(position);
        }
        let mark = format!("{job}/");
        let mut puts: Vec<StatePut<'_>> = Vec::with_capacity(documents.len() + 1);
        puts.extend(documents.iter().map(|(_, key, version, value)| StatePut {
            collection: COLLECTION,
            key,
            expected_version: Some(*version),
            value,
        }));
        if self.is_new {
            puts.push(StatePut {
                collection: COLLECTION,
                key: &mark,
                expected_version: None,
                value: b"{}",
            });
        }
        if puts.is_empty() {
            return Ok(());
        }
        let mut append = state.store().begin(context)?;
        append.logs(batch);
        let versions = match append.commit_with_state(&puts) {
            Ok((_, versions)) => versions,
            Err(error @ EngineError::VersionConflict { .. }) => {
                // Somebody else moved the positions: what they say counts.
                self.is_loaded = false;
                return Err(ApiError::new(ErrorType::Unavailable, error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        self.is_new = false;
        for ((id, ..), version) in documents.iter().zip(versions) {
            if let Some(file) = self.files.get_mut(id) {
                if let Some(position) = file.pending.take() {
                    if position.offset > file.position.offset {
                        file.read_ms = now;
                    }
                    file.position = position;
                }
                file.version = version;
                file.is_dirty = false;
            }
        }
        self.status.records.fetch_add(taken.rows, Ordering::Relaxed);
        self.status.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let metrics = state.metrics();
        for counter in [
            &metrics.ingest_received_bytes,
            &metrics.ingest_decoded_bytes,
        ] {
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        let source = RowSource {
            protocol: Protocol::Files,
            received_bytes: bytes,
            decoded_bytes: bytes,
        };
        metrics.rows.count(source, &taken);
        if !taken.rejections.is_empty() {
            let reason = taken.rejections.message();
            tracing::warn!(
                job = self.job.config.job_name,
                reason,
                "log files: records refused"
            );
        }
        Ok(())
    }

    /// Lets files go that no meant name leads to, once they are read and rest.
    fn forget_gone(&mut self) {
        let flush_after = self.job.config.flush_after;
        let gone: Vec<FileId> = self
            .files
            .iter()
            .filter(|(_, file)| {
                let is_read = file.is_done || file.size <= file.position.offset;
                !file.is_named && is_read && !file.is_dirty && file.rested(flush_after)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(Followed {
                position, version, ..
            }) = self.files.remove(&id)
                && version > 0
            {
                self.known.insert(id, Known { position, version });
            }
        }
    }

    /// Tells of the files to whoever asks.
    fn show(&mut self) {
        self.forget_gone();
        let files = self.files.values().map(|file| FileStatus {
            path: file.position.path.clone(),
            state: file.state(),
            size: file.size,
            offset: file.position.offset.min(match file.source.is_plain() {
                true => u64::MAX,
                // Decompressed bytes say nothing beside the size of the file.
                false => file.size,
            }),
            is_plain: file.source.is_plain(),
            read_ms: file.read_ms,
            error: file.error.clone(),
        });
        self.status.set_files(files.collect());
    }
}

/// The position behind what was read.
fn moved_on(before: &Position, consumed: &[u8], skipping: bool, source: &mut Source) -> Position {
    let offset = before.offset.saturating_add(consumed.len() as u64);
    let mut head = before.head;
    if (head.bytes as usize) < PRINT_BYTES_MAX {
        if before.offset == 0 {
            head = Print::of(consumed.get(..PRINT_BYTES_MAX).unwrap_or(consumed));
        } else if source.is_plain() {
            let mut first = [0; PRINT_BYTES_MAX];
            let length = PRINT_BYTES_MAX.min(usize::try_from(offset).unwrap_or(PRINT_BYTES_MAX));
            let first = first.get_mut(..length).unwrap_or_default();
            if source.read_at(0, first).is_ok_and(|got| got == length) {
                head = Print::of(first);
            }
        }
    }
    let tail = consumed.len().saturating_sub(PRINT_BYTES_MAX);
    Position {
        offset,
        head,
        tail: Print::of(consumed.get(tail..).unwrap_or_default()),
        skipping,
        ..before.clone()
    }
}

/// Whether a file holds, up to the position, what was read before.
fn holds(source: &mut Source, position: &Position) -> bool {
    let mut check = |offset: u64, print: Print| {
        let mut bytes = vec![0; (print.bytes as usize).min(PRINT_BYTES_MAX)];
        let got = source.read_at(offset, &mut bytes);
        got.is_ok_and(|got| got == bytes.len()) && (print.bytes == 0 || Print::of(&bytes) == print)
    };
    let Some(tail) = position.offset.checked_sub(position.tail.bytes.into()) else {
        return false;
    };
    check(0, position.head) && check(tail, position.tail)
}
