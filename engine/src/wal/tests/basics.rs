//! Group commit, file changes, refusals and barriers of a healthy or full disk.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::io::{Disk, Fault, Faulty, Operation};

#[test]
fn records_come_back_in_order_from_many_files() {
    let fs = memory();
    let recorder = Recorder::default();
    let options = WalOptions {
        file_bytes: 2000,
        ..options()
    };
    let wal = Wal::create(shared(&fs), &dir(), options, recorder.clone()).unwrap();
    for id in 1..=50 {
        assert_eq!(wal.append(record(id, 200), id, None).unwrap(), id);
    }
    let stats = wal.stats();
    assert!(stats.files > 3, "{stats:?}");
    assert_eq!((stats.records, stats.next_sequence), (50, 51));
    wal.close().unwrap();
    wal.close().unwrap();
    assert!(wal.append(record(1, 0), 1, None).is_err());
    let applied: Vec<_> = (1..=50).map(|n| Event::Applied(n, n)).collect();
    assert_eq!(recorder.events(), applied);
    fs.crash();
    let (ids, report) = replay_ids(&fs, LogStart::default()).unwrap();
    assert_eq!(ids, counted(50));
    assert_eq!(report.torn_tail, None);
    assert_eq!(report.next_sequence, 51);
}

#[test]
fn a_real_directory_works_like_memory() {
    let temp = tempfile::tempdir().unwrap();
    let fs: SharedFileSystem = Arc::new(Disk);
    let options = WalOptions {
        file_bytes: 100_000,
        preallocate_bytes: 1 << 16,
        ..WalOptions::default()
    };
    let mut position = None;
    for round in 0..3 {
        let wal = match &position {
            None => Wal::create(
                Arc::clone(&fs),
                temp.path(),
                options.clone(),
                Recorder::default(),
            ),
            Some(position) => Wal::open(
                Arc::clone(&fs),
                temp.path(),
                position,
                options.clone(),
                Recorder::default(),
            ),
        }
        .unwrap();
        for id in 1..=100 {
            wal.append(record(round * 100 + id, 1000), 0, None).unwrap();
        }
        drop(wal);
        let mut next = 1;
        let (report, end) = replay(
            &*fs,
            temp.path(),
            LogStart::default(),
            |sequence, record| {
                assert_eq!((sequence, record.arrival.0 as u64), (next, next));
                next += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(report.records, (round + 1) * 100);
        position = Some(end);
    }
}

#[test]
fn a_cut_lies_between_records_and_frees_files() {
    let fs = memory();
    let recorder = Recorder::default();
    let wal = Wal::create(shared(&fs), &dir(), options(), recorder.clone()).unwrap();
    for id in 1..=3 {
        wal.append(record(id, 10), id, None).unwrap();
    }
    let cut = wal.cut().unwrap();
    assert_eq!(cut, 4);
    wal.append(record(4, 10), 4, None).unwrap();
    let events = recorder.events();
    assert_eq!(events[3..], [Event::Cut(4), Event::Applied(4, 4)]);
    let start = LogStart {
        first_file: wal.first_file_for(cut),
        sequence: cut,
    };
    assert_eq!(start.first_file, 2);
    assert_eq!(wal.remove_before(cut).unwrap(), 1);
    assert_eq!(wal.remove_before(cut).unwrap(), 0);
    drop(wal);
    let (ids, _) = replay_ids(&fs, start).unwrap();
    assert_eq!(ids, [(4, 4)]);
    // The manifest may lag behind the removal of no file, never the other way round.
    let error = replay_ids(&fs, LogStart::default());
    assert_eq!(corrupt_path(error), path(1));
}

#[test]
fn replay_passes_over_what_segments_hold() {
    let fs = memory();
    write_log(&fs, options(), 1..=9, 10);
    let start = LogStart {
        first_file: 1,
        sequence: 6,
    };
    let (ids, report) = replay_ids(&fs, start).unwrap();
    assert_eq!(ids, counted(9)[5..]);
    assert_eq!(report.records_skipped, 5);
    // The manifest says that more was in the log than there is.
    let start = LogStart {
        first_file: 1,
        sequence: 11,
    };
    assert_eq!(corrupt_path(replay_ids(&fs, start)), path(1));
}

#[test]
fn concurrent_callers_share_syncs() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |call| {
        if call.operation == Operation::Sync {
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    });
    let wal = Wal::create(Arc::new(fs), &dir(), options(), Recorder::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let wal = &wal;
            scope.spawn(move || {
                for n in 0..20 {
                    wal.append(record(thread * 100 + n, 50), 0, None).unwrap();
                }
            });
        }
    });
    let stats = wal.stats();
    assert_eq!(stats.records, 160);
    assert!(stats.commits <= 80, "{stats:?}");
    assert!(stats.sync.p50 >= Duration::from_millis(2));
    drop(wal);
    let (ids, _) = replay_ids(&memory, LogStart::default()).unwrap();
    assert_eq!(ids.len(), 160);
    for thread in 0..8 {
        let of_thread: Vec<u64> = ids
            .iter()
            .map(|i| i.1)
            .filter(|i| i / 100 == thread)
            .collect();
        assert!(
            of_thread.is_sorted(),
            "each caller's records keep their order"
        );
    }
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let memory = memory();
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let mut armed = false;
    let fs = Faulty::new(shared(&memory), move |call| {
        armed |= call.operation == Operation::Write && call.length > 64;
        if armed && call.operation == Operation::Sync {
            // An error here means that the test has ended.
            let _ = opened.recv();
        }
        None
    });
    let recorder = Recorder::default();
    let wal = Wal::create(Arc::new(fs), &dir(), options(), recorder.clone()).unwrap();
    let (sender, answers) = std::sync::mpsc::channel();
    wal.submit(record(1, 10), 1, move |result| {
        sender.send(result.map_err(|e| e.to_string())).unwrap();
    });
    assert!(answers.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(recorder.events(), []);
    gate.send(()).unwrap();
    assert_eq!(answers.recv().unwrap(), Ok(1));
    assert_eq!(recorder.events(), [Event::Applied(1, 1)]);
    drop(gate);
}

#[test]
fn a_full_queue_refuses_or_waits() {
    let memory = memory();
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let mut armed = false;
    let fs = Faulty::new(shared(&memory), move |call| {
        armed |= call.operation == Operation::Write && call.length > 64;
        if armed && call.operation == Operation::Sync {
            let _ = opened.recv();
        }
        None
    });
    let options = WalOptions {
        queue_bytes_max: 1000,
        ..options()
    };
    let wal = Wal::create(Arc::new(fs), &dir(), options, Recorder::default()).unwrap();
    let (sender, answers) = std::sync::mpsc::channel();
    let submit = |id| {
        let sender = sender.clone();
        wal.submit(record(id, 700), id, move |result| {
            sender.send(result).unwrap()
        });
    };
    submit(1);
    while wal.stats().records == 0 {
        std::thread::yield_now();
    }
    submit(2);
    submit(3);
    let refused = answers.recv().unwrap();
    assert!(
        matches!(refused, Err(EngineError::Unavailable(_))),
        "{refused:?}"
    );
    let soon = Instant::now() + Duration::from_millis(20);
    let late = wal.append(record(4, 700), 4, Some(soon));
    assert!(
        matches!(late, Err(EngineError::DeadlineExceeded)),
        "{late:?}"
    );
    drop(gate);
    assert_eq!(answers.recv().unwrap().unwrap(), 1);
    assert_eq!(answers.recv().unwrap().unwrap(), 2);
    wal.append(record(5, 700), 5, None).unwrap();
}

#[test]
fn relaxed_modes_write_at_once_and_sync_later() {
    for sync in [SyncMode::Off, SyncMode::Interval(Duration::from_millis(5))] {
        let fs = memory();
        let options = WalOptions { sync, ..options() };
        let wal = Wal::create(shared(&fs), &dir(), options, Recorder::default()).unwrap();
        for id in 1..=5 {
            wal.append(record(id, 10), id, None).unwrap();
        }
        if sync == SyncMode::Off {
            assert_eq!(wal.stats().synced_sequence, 0);
            let killed = fs.snapshot();
            let (ids, _) = replay_ids(&killed, LogStart::default()).unwrap();
            assert_eq!(ids, counted(5), "a killed process loses nothing");
            wal.sync().unwrap();
        } else {
            let started = Instant::now();
            while wal.stats().synced_sequence < 5 {
                assert!(started.elapsed() < Duration::from_secs(10));
                std::thread::yield_now();
            }
        }
        fs.crash();
        drop(wal);
        let (ids, _) = replay_ids(&fs, LogStart::default()).unwrap();
        assert_eq!(ids, counted(5));
    }
}

#[test]
fn an_applier_that_panics_refuses_callers_instead_of_hanging() {
    struct Panics;
    impl Applier<u64> for Panics {
        fn apply(&mut self, _: Vec<Logged<u64>>) {
            panic!("on purpose");
        }
        fn cut(&mut self, _: u64) {}
    }
    let fs = memory();
    let wal = Wal::create(shared(&fs), &dir(), options(), Panics).unwrap();
    // Some wait while the thread unwinds, some come after it.
    let (answer, answers) = mpsc::channel();
    for id in 1..=20 {
        let answer = answer.clone();
        wal.submit(record(id, 10), id, move |r| answer.send(r).unwrap());
    }
    drop(answer);
    let answers: Vec<_> = answers.iter().collect();
    assert_eq!(answers.len(), 20);
    for result in answers
        .into_iter()
        .chain([wal.append(record(21, 10), 21, None), wal.sync().map(|()| 0)])
    {
        assert!(
            matches!(result, Err(EngineError::Poisoned(_))),
            "{result:?}"
        );
    }
    assert!(wal.stats().poisoned.is_some());
}

#[test]
fn a_failing_new_file_keeps_the_old_one_going() {
    let memory = memory();
    let fs = Faulty::new(shared(&memory), |call| {
        let second = call.path.to_string_lossy().contains("000000000002.wal");
        (second && call.operation == Operation::Create)
            .then_some(Fault::Error(std::io::ErrorKind::StorageFull))
    });
    let options = WalOptions {
        file_bytes: 500,
        ..options()
    };
    let wal = Wal::create(Arc::new(fs.clone()), &dir(), options, Recorder::default()).unwrap();
    for id in 1..=10 {
        wal.append(record(id, 100), id, None).unwrap();
    }
    assert_eq!(wal.stats().files, 1);
    fs.set_rule(|_| None);
    wal.append(record(11, 100), 11, None).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.stats().files, 2);
    assert_exists(&memory, &path(2));
    drop(wal);
    assert_eq!(
        replay_ids(&memory, LogStart::default()).unwrap().0,
        counted(11)
    );
}
