//! What can happen to a store, and how a seed becomes a list of it.
//!
//! To add a kind of step: a variant here, its weight in [`random_step`], its execution in the file of
//! its concern (`writes.rs`, `upkeep.rs`, `reads.rs`, `crashes.rs`, or a new one), and what it does to
//! the rows in [`super::model::Op`] if it changes any.

use super::random::Random;
use crate::io::{Fault, Operation};
use crate::options::SyncMode;

/// Tenants that share the store.
pub(super) const TENANTS: u64 = 2;

/// One thing that happens. Details that would be long to print follow from `seed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// One request.
    Append { tenant: usize, seed: u64 },
    /// A session that is dropped before it commits.
    Abandon { tenant: usize, seed: u64 },
    /// The last request once more, as a client does that saw no answer.
    Retry,
    /// Requests that share commits; `flush` seals while they are under way.
    Burst { seed: u64, flush: bool },
    /// A session that is open while the head is sealed.
    AppendAcrossFlush { tenant: usize, seed: u64 },
    /// Replaces a range of what a computation wrote.
    Replace { tenant: usize, seed: u64 },
    /// Deletes rows of one signal by matchers and range.
    Delete { tenant: usize, seed: u64 },
    /// Writes or removes a state document, sometimes with a wrong version.
    ChangeState { tenant: usize, seed: u64 },
    /// Time goes by.
    Advance { seconds: u32 },
    /// Seals.
    Flush,
    /// Seals and merges to the final form; retention.
    Compact,
    /// What the background thread does when its time has come.
    Housekeeping,
    /// Reads with matchers in a range.
    Scan { seed: u64 },
    /// Reads everything.
    Check,
    /// A scan that is read after the store was changed under it.
    PinnedScan { tenant: usize, seed: u64 },
    /// Reads metrics as they were known earlier.
    AsOf { seed: u64 },
    /// Makes or renews a backup and looks at a store restored from it.
    Backup { seed: u64 },
    /// Opens a reader beside the writer, or lets the one that is there take notice of what is new.
    Reader,
    /// Calls fail from now on.
    Fault(Armed),
    /// The disk has only so many bytes left.
    DiskFull { spare_bytes: u32 },
    /// Nothing fails any more.
    Heal,
    /// The store ends in one of these ways, and is opened again, with failing calls perhaps.
    Reopen {
        ending: Ending,
        fault: Option<Armed>,
    },
}

/// How a store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Close,
    /// The process is killed: what was written stays.
    Kill,
    /// Only what was synced stays, and single writes that were not: those drawn from `keep`; 0 for
    /// none.
    PowerCut { keep: u64 },
}

/// Calls of the file system that fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Armed {
    /// So many calls succeed before.
    pub(super) after: u64,
    /// So many fail.
    pub(super) count: u64,
    /// Only calls of this kind count.
    pub(super) only: Option<Operation>,
    pub(super) fault: Fault,
}

/// What is fixed for a whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) sync: SyncMode,
    /// Retention in hours; `None` keeps all.
    pub(super) retention_hours: Option<u32>,
    /// How long overwritten rows stay, in hours; 0 keeps none.
    pub(super) as_of_hours: u32,
    /// Whether calls may fail.
    pub(super) faults: bool,
    /// Bytes of a log file, and bytes that are allocated ahead.
    pub(super) log_bytes: (u64, u64),
}

impl Setting {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5e77_1265);
        // Unsynced writes and failing calls in one run would leave little that can be said.
        let relaxed = random.once_in(6);
        Self {
            sync: if relaxed {
                SyncMode::Off
            } else {
                SyncMode::Always
            },
            retention_hours: random.once_in(4).then_some(60),
            as_of_hours: *random.pick(&[0, 0, 2, 30]),
            faults: !relaxed && random.below(3) > 0,
            log_bytes: *random.pick(&[(3_000, 1_000), (20_000, 6_000), (1 << 26, 30_000)]),
        }
    }
}

/// The steps of a seed.
pub(super) fn steps_of(seed: u64, setting: &Setting) -> Vec<Step> {
    let mut random = Random::new(seed);
    let count = 25 + random.below(60);
    let mut steps: Vec<_> = (0..count)
        .map(|_| random_step(&mut random, setting))
        .collect();
    steps.push(Step::Heal);
    steps.push(Step::Check);
    steps
}

fn random_step(random: &mut Random, setting: &Setting) -> Step {
    let tenant = random.below(TENANTS) as usize;
    let seed = random.next() >> 32;
    match random.below(110) {
        0..30 => Step::Append { tenant, seed },
        30..32 => Step::Abandon { tenant, seed },
        32..35 => Step::Retry,
        35..38 => Step::Burst {
            seed,
            flush: random.once_in(2),
        },
        38..40 => Step::AppendAcrossFlush { tenant, seed },
        40..46 => Step::Delete { tenant, seed },
        46..52 => Step::ChangeState { tenant, seed },
        52..56 => Step::Advance {
            seconds: *random.pick(&[60, 3_600, 14_400, 50_000]),
        },
        56..65 => Step::Flush,
        65..69 => Step::Compact,
        69..72 => Step::Housekeeping,
        72..77 => Step::Scan { seed },
        77..80 => Step::Check,
        80..82 => Step::PinnedScan { tenant, seed },
        82..85 => Step::Reader,
        85..89 if setting.faults => Step::Fault(random_fault(random)),
        89..91 if setting.faults => Step::DiskFull {
            spare_bytes: random.below(40_000) as u32,
        },
        91..93 if setting.faults => Step::Heal,
        100..104 => Step::Replace { tenant, seed },
        104..107 => Step::AsOf { seed },
        107..109 => Step::Backup { seed },
        _ => Step::Reopen {
            ending: match random.below(5) {
                0 => Ending::Close,
                1 | 2 => Ending::Kill,
                3 => Ending::PowerCut { keep: 0 },
                _ => Ending::PowerCut { keep: seed | 1 },
            },
            fault: (setting.faults && random.once_in(4)).then(|| random_fault(random)),
        },
    }
}

fn random_fault(random: &mut Random) -> Armed {
    let fault = match random.below(8) {
        0..2 => Fault::Dead,
        2..4 => Fault::InputOutput,
        4 => Fault::Error(std::io::ErrorKind::StorageFull),
        5 => Fault::Error(std::io::ErrorKind::Interrupted),
        _ => Fault::Short(random.below(500) as usize),
    };
    let kinds = [
        Operation::Sync,
        Operation::SyncDir,
        Operation::Rename,
        Operation::Create,
        Operation::Write,
        Operation::Remove,
        Operation::Truncate,
    ];
    let only = random.once_in(2).then(|| *random.pick(&kinds));
    Armed {
        after: random.below(if only.is_some() { 6 } else { 30 }),
        count: *random.pick(&[1, 1, 1, 3, u64::MAX]),
        only,
        fault,
    }
}
