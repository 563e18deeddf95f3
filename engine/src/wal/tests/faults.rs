//! Every call fails once, in every way; power is cut; the disk fills up. Nothing acknowledged is
//! lost, nothing is invented.

use super::*;
use crate::io::{Fault, Faulty, Operation};

/// What a run was told, and what the manifest would say.
#[derive(Clone, Debug, Default)]
struct Outcome {
    acknowledged: Vec<(u64, u64)>,
    offered: Vec<u64>,
    start: LogStart,
}

fn small() -> WalOptions {
    WalOptions {
        file_bytes: 1500,
        preallocate_bytes: 1024,
        ..options()
    }
}

/// Writes, cuts, removes and writes on; notes what succeeded.
fn scenario(fs: SharedFileSystem, options: WalOptions, outcome: &mut Outcome) {
    let Ok(wal) = Wal::create(fs, &dir(), options, Recorder::default()) else {
        return;
    };
    let mut id = 0;
    for round in 0..3 {
        for bytes in [0, 200, 900, 30, 2000, 100] {
            id += 1;
            outcome.offered.push(id);
            if let Ok(sequence) = wal.append(record(id, bytes), id, None) {
                outcome.acknowledged.push((sequence, id));
            }
        }
        if round < 2
            && let Ok(cut) = wal.cut()
        {
            outcome.start = LogStart {
                first_file: wal.first_file_for(cut),
                sequence: cut,
            };
            let _ = wal.remove_before(cut);
        }
    }
}

/// All acknowledged records from the start on are there, in order, and no others than were offered.
fn check(fs: &Memory, outcome: &Outcome, what: &str) {
    if outcome.offered.is_empty() && is_pristine(fs, &dir()).unwrap() {
        return;
    }
    let (ids, _) = replay_ids(fs, outcome.start).unwrap_or_else(|error| panic!("{what}: {error}"));
    for pair in &outcome.acknowledged {
        assert!(
            pair.0 < outcome.start.sequence || ids.contains(pair),
            "{what}: {pair:?} was acknowledged and is not in {ids:?}"
        );
    }
    assert!(
        ids.iter().all(|(_, id)| outcome.offered.contains(id)),
        "{what}"
    );
    assert!(ids.windows(2).all(|w| w[0].0 + 1 == w[1].0), "{what}");
    assert!(
        ids.windows(2).all(|w| w[0].1 < w[1].1),
        "{what}: twice or out of order"
    );

    // It goes on, and survives another power cut.
    let wal = reopen(shared(fs), outcome.start, small())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let sequence = wal.append(record(1000, 500), 0, None).unwrap();
    drop(wal);
    fs.crash();
    let (again, report) = replay_ids(fs, outcome.start).unwrap();
    assert_eq!(again[..again.len() - 1], ids, "{what}");
    assert_eq!(again.last(), Some(&(sequence, 1000)), "{what}");
    assert_eq!(report.torn_tail, None);
}

/// The calls of an undisturbed run; up to the one that fails, a disturbed run makes the same.
fn calls_of_a_run() -> Vec<Operation> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let fs = Faulty::new(shared(&memory()), move |call| {
        seen.lock().push(call.operation);
        None
    });
    let mut outcome = Outcome::default();
    scenario(Arc::new(fs), small(), &mut outcome);
    assert_eq!(outcome.acknowledged.len(), outcome.offered.len());
    let calls = calls.lock();
    calls.clone()
}

/// Each life is a chain of threads that wait for each other: several at a time keep a core busy.
fn at_the_same_time<T: Send>(items: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for item in items {
            let run = &run;
            scope.spawn(move || run(item));
        }
    });
}

#[test]
fn any_call_may_fail_in_any_way() {
    let faults = [
        Fault::Dead,
        Fault::InputOutput,
        Fault::Error(std::io::ErrorKind::StorageFull),
        Fault::Short(0),
        Fault::Short(7),
        Fault::Short(300),
    ];
    let calls = calls_of_a_run();
    assert!(calls.len() > 60, "{}", calls.len());
    at_the_same_time(faults, |fault| {
        for (n, operation) in calls.iter().enumerate() {
            // Only writes can be short; other calls would fail once more for lack of space.
            if matches!(fault, Fault::Short(_)) && *operation != Operation::Write {
                continue;
            }
            let memory = memory();
            let fs = Faulty::nth(shared(&memory), n as u64, fault);
            let mut outcome = Outcome::default();
            scenario(Arc::new(fs.clone()), small(), &mut outcome);
            assert!(fs.calls() > n as u64, "{fault:?} at call {n}");
            let killed = memory.snapshot();
            check(&killed, &outcome, &format!("{fault:?} at call {n}, killed"));
            memory.crash();
            check(
                &memory,
                &outcome,
                &format!("{fault:?} at call {n}, power cut"),
            );
        }
    });
}

#[test]
fn a_power_cut_may_keep_any_of_the_unsynced_writes() {
    let modes = [SyncMode::Always, SyncMode::Off];
    let lives = modes.into_iter().flat_map(|sync| {
        let calls = [5, 12, 20, 33, 47, 60];
        calls.into_iter().map(move |n| (sync, n))
    });
    at_the_same_time(lives, |(sync, n)| {
        for seed in 0..20_u64 {
            let memory = memory();
            let fs = Faulty::nth(shared(&memory), n, Fault::Dead);
            let mut outcome = Outcome::default();
            let options = WalOptions { sync, ..small() };
            scenario(Arc::new(fs), options, &mut outcome);
            let mut state = seed * 2 + 1;
            memory.crash_keeping(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                state >> 63 == 1
            });
            if sync == SyncMode::Off {
                // Unsynced records may go, but never one before another that stays.
                outcome.acknowledged.clear();
            }
            check(
                &memory,
                &outcome,
                &format!("{sync:?}, seed {seed}, call {n}"),
            );
        }
    });
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    for preallocate_bytes in [0, 4096] {
        let fs = memory();
        let options = WalOptions {
            preallocate_bytes,
            ..options()
        };
        let wal = Wal::create(shared(&fs), &dir(), options, Recorder::default()).unwrap();
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            fs.set_capacity(Some(wal.stats().bytes + 10_000));
            let mut refused = 0;
            for n in 0..60 {
                let id = round * 1000 + n;
                match wal.append(record(id, 500), id, None) {
                    Ok(sequence) => acknowledged.push((sequence, id)),
                    Err(EngineError::Unavailable(reason)) => {
                        assert!(reason.contains("no space left"), "{reason}");
                        refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(refused > 10, "{refused}");
            let killed = fs.snapshot();
            killed.set_capacity(None);
            assert_eq!(
                replay_ids(&killed, LogStart::default()).unwrap().0,
                acknowledged
            );
            fs.set_capacity(None);
            let id = round * 1000 + 999;
            acknowledged.push((wal.append(record(id, 5000), id, None).unwrap(), id));
        }
        drop(wal);
        fs.crash();
        assert_eq!(
            replay_ids(&fs, LogStart::default()).unwrap().0,
            acknowledged
        );
    }
}

#[test]
fn a_full_disk_can_be_opened() {
    let fs = memory();
    write_log(&fs, options(), 1..=3, 100);
    fs.set_capacity(Some(0));
    let wal = reopen(shared(&fs), LogStart::default(), options()).unwrap();
    assert!(wal.append(record(4, 9000), 4, None).is_err());
    fs.set_capacity(None);
    wal.append(record(4, 9000), 4, None).unwrap();
    drop(wal);
    assert_eq!(replay_ids(&fs, LogStart::default()).unwrap().0, counted(4));
}

#[test]
fn a_failed_sync_is_final() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |_| None);
    let wal = Wal::create(Arc::new(fs.clone()), &dir(), options(), Recorder::default()).unwrap();
    wal.append(record(1, 10), 1, None).unwrap();
    let mut failed = false;
    fs.set_rule(move |call| {
        let fails = call.operation == Operation::Sync && !failed;
        failed |= fails;
        fails.then_some(Fault::InputOutput)
    });
    for id in 2..6 {
        let result = wal.append(record(id, 10), id, None);
        assert!(
            matches!(result, Err(EngineError::Poisoned(_))),
            "{result:?}"
        );
    }
    assert!(matches!(wal.sync(), Err(EngineError::Poisoned(_))));
    assert!(matches!(wal.cut(), Err(EngineError::Poisoned(_))));
    assert!(wal.stats().poisoned.is_some());
    assert!(wal.close().is_err());
    drop(wal);
    // Record 2 was written; it may be there, the later ones were refused.
    let (ids, _) = replay_ids(&memory, LogStart::default()).unwrap();
    assert!(ids == counted(1) || ids == counted(2), "{ids:?}");
}

/// A file system never panics; a bug in the committer might. Nobody may wait for a thread that is gone.
#[test]
fn a_committer_that_panics_refuses_callers_instead_of_hanging() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |_| None);
    let wal = Wal::create(Arc::new(fs.clone()), &dir(), options(), Recorder::default()).unwrap();
    wal.append(record(1, 10), 1, None).unwrap();
    fs.set_rule(|call| {
        assert!(call.operation != Operation::Sync, "on purpose");
        None
    });
    std::thread::scope(|scope| {
        for id in 2..6 {
            let wal = &wal;
            scope.spawn(move || {
                let result = wal.append(record(id, 10), id, None);
                assert!(
                    matches!(result, Err(EngineError::Poisoned(_))),
                    "{result:?}"
                );
            });
        }
    });
    assert!(matches!(wal.sync(), Err(EngineError::Poisoned(_))));
    assert!(wal.close().is_err());
}

/// After a failed sync the page cache may show what the medium never got. Opening again must not
/// build on it without writing it again.
#[test]
fn what_was_read_from_the_page_cache_is_written_again() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |_| None);
    let wal = Wal::create(Arc::new(fs.clone()), &dir(), options(), Recorder::default()).unwrap();
    wal.append(record(1, 10), 1, None).unwrap();
    fs.set_rule(|call| (call.operation == Operation::Sync).then_some(Fault::InputOutput));
    assert!(wal.append(record(2, 10), 2, None).is_err());
    drop(wal);
    let rewritten = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&rewritten);
    let fs = Faulty::new(shared(&memory), move |call| {
        if call.operation == Operation::Write && call.length > FRAME_HEADER {
            *seen.lock() += 1;
        }
        None
    });
    let wal = reopen(Arc::new(fs), LogStart::default(), options()).unwrap();
    assert_eq!(*rewritten.lock(), 1, "record 2 was not known to be durable");
    wal.append(record(3, 10), 3, None).unwrap();
    drop(wal);
    memory.crash();
    assert_eq!(
        replay_ids(&memory, LogStart::default()).unwrap().0,
        counted(3)
    );
}

/// The name of a new file could not be made durable; opening again finds the file all the same, and goes
/// on in it. Then its name has to be made durable, or all goes with it.
#[test]
fn a_file_whose_name_was_not_synced_is_not_built_upon() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |_| None);
    let wal = Wal::create(Arc::new(fs.clone()), &dir(), options(), Recorder::default()).unwrap();
    wal.append(record(1, 10), 1, None).unwrap();
    fs.set_rule(|call| (call.operation == Operation::SyncDir).then_some(Fault::InputOutput));
    assert!(wal.cut().is_err());
    drop(wal);
    assert_exists(&memory, &path(2));
    let wal = reopen(shared(&memory), LogStart::default(), options()).unwrap();
    wal.append(record(2, 10), 2, None).unwrap();
    memory.crash();
    drop(wal);
    let (ids, _) = replay_ids(&memory, LogStart::default()).unwrap();
    assert_eq!(ids, counted(2));
}

const FRAME_HEADER: usize = crate::wal::format::FRAME_HEADER_BYTES;
