//! Damage at rest and torn tails: the right answer, or an error that names the file.

use super::*;
use crate::wal::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES};

const RECORDS: u64 = 4;

/// A log of a few records, one frame each, as a killed process leaves it: its bytes and the ends
/// of its frames.
fn log_bytes(options: WalOptions) -> (Vec<u8>, Vec<usize>) {
    let fs = memory();
    let wal = Wal::create(shared(&fs), &dir(), options, Recorder::default()).unwrap();
    let mut ends = vec![FILE_HEADER_BYTES];
    for id in 1..=RECORDS {
        wal.append(record(id, 40), id, None).unwrap();
        wal.sync().unwrap();
        ends.push(wal.stats().bytes as usize);
    }
    let killed = fs.snapshot();
    (killed.read(&path(1), 1 << 20).unwrap(), ends)
}

fn with_file(bytes: &[u8]) -> Memory {
    let fs = memory();
    let file = fs.create(&path(1)).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    fs.sync_dir(&dir()).unwrap();
    fs
}

/// Replays, checks that `count` records are there, goes on writing, and replays again.
fn continues_after(fs: &Memory, count: u64, options: WalOptions) {
    let (ids, _) = replay_ids(fs, LogStart::default()).unwrap();
    assert_eq!(ids, counted(count));
    let wal = reopen(shared(fs), LogStart::default(), options).unwrap();
    let next = count + 1;
    assert_eq!(wal.append(record(next, 16), next, None).unwrap(), next);
    drop(wal);
    fs.crash();
    let (ids, report) = replay_ids(fs, LogStart::default()).unwrap();
    assert_eq!(ids, counted(next));
    assert_eq!(report.torn_tail, None);
}

#[test]
fn a_tail_torn_at_any_byte_keeps_what_is_before() {
    let (bytes, ends) = log_bytes(options());
    let end = ends[RECORDS as usize];
    for cut in FILE_HEADER_BYTES..=end {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        // A last frame that ends in zeros by itself is whole although "cut" there.
        let whole = ends.iter().filter(|e| torn[..**e] == bytes[..**e]).count() as u64 - 1;
        let fs = with_file(&torn);
        let (_, report) = replay_ids(&fs, LogStart::default()).unwrap();
        let last = ends[whole as usize];
        let torn_at = report.torn_tail.map(|t| t.offset as usize);
        let rest_is_zero = torn[last..].iter().all(|b| *b == 0);
        assert_eq!(torn_at, (!rest_is_zero).then_some(last), "cut at {cut}");
        continues_after(&fs, whole, options());
    }
}

#[test]
fn a_file_without_allocation_may_end_anywhere() {
    let options = WalOptions {
        preallocate_bytes: 0,
        ..options()
    };
    let (bytes, ends) = log_bytes(options.clone());
    for cut in FILE_HEADER_BYTES..=ends[RECORDS as usize] {
        let whole = ends.iter().filter(|e| **e <= cut).count() as u64 - 1;
        continues_after(&with_file(&bytes[..cut]), whole, options.clone());
    }
}

#[test]
fn cutting_an_allocated_file_at_any_byte_is_noticed() {
    let (bytes, ends) = log_bytes(options());
    let end = ends[RECORDS as usize] + FRAME_HEADER_BYTES;
    for cut in 0..end {
        let fs = with_file(&bytes[..cut]);
        let result = replay_ids(&fs, LogStart::default());
        assert_eq!(corrupt_path(result), path(1), "cut at {cut}");
    }
    continues_after(&with_file(&bytes[..end]), RECORDS, options());
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    for preallocate_bytes in [0, 8192] {
        let options = WalOptions {
            preallocate_bytes,
            ..options()
        };
        let (bytes, ends) = log_bytes(options);
        let mut harmless = 0;
        for at in 0..bytes.len() {
            for flip in [0x01, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                match replay_ids(&with_file(&bad), LogStart::default()) {
                    Ok((ids, _)) => {
                        assert_eq!(ids, counted(RECORDS), "flip at {at}");
                        harmless += usize::from(at < ends[RECORDS as usize]);
                    }
                    error => assert_eq!(corrupt_path(error), path(1), "flip at {at}"),
                }
            }
        }
        // Only padding between frames carries no checksum.
        assert!(harmless <= 2 * 7 * RECORDS as usize, "{harmless}");
    }
}

#[test]
fn zeroed_ranges_in_the_middle_are_damage() {
    let (bytes, ends) = log_bytes(options());
    for window in ends.windows(2) {
        let mut bad = bytes.clone();
        bad[window[0]..window[1]].fill(0);
        let result = replay_ids(&with_file(&bad), LogStart::default());
        assert_eq!(corrupt_path(result), path(1));
    }
}

/// A client must not be able to make a torn tail look like damage by sending frames as data.
#[test]
fn frames_inside_payloads_prove_nothing() {
    let (bytes, ends) = log_bytes(WalOptions {
        salt: Some(7),
        ..options()
    });
    let fs = with_file(&log_bytes(options()).0);
    fs.damage(&path(1), |file| {
        let torn = ends[RECORDS as usize - 1] + 8;
        file[torn..].fill(0);
        // Whole frames of another file, aligned, claiming that everything was durable.
        let foreign = &bytes[ends[0]..ends[4] + FRAME_HEADER_BYTES];
        let at = ends[4] + 64;
        file[at..at + foreign.len()].copy_from_slice(foreign);
    })
    .unwrap();
    let (ids, report) = replay_ids(&fs, LogStart::default()).unwrap();
    assert_eq!(ids, counted(RECORDS - 1));
    assert!(report.torn_tail.is_some());
}

#[test]
fn missing_emptied_and_foreign_files_are_named() {
    let small = WalOptions {
        file_bytes: 300,
        ..options()
    };
    let fs = memory();
    write_log(&fs, small.clone(), 1..=12, 100);
    let files = fs.paths().len() as u64;
    assert!(files >= 4);
    for number in 1..=files {
        let missing = fs.snapshot();
        missing.remove(&path(number)).unwrap();
        let result = replay_ids(&missing, LogStart::default());
        assert_eq!(corrupt_path(result), path(number), "removed {number}");
        let emptied = fs.snapshot();
        emptied.damage(&path(number), Vec::clear).unwrap();
        let result = replay_ids(&emptied, LogStart::default());
        assert_eq!(corrupt_path(result), path(number), "emptied {number}");
        let zeroed = fs.snapshot();
        zeroed.damage(&path(number), |b| b.fill(0)).unwrap();
        let result = replay_ids(&zeroed, LogStart::default());
        assert_eq!(corrupt_path(result), path(number), "zeroed {number}");
    }
    let swapped = fs.snapshot();
    let second = swapped.read(&path(2), 1 << 20).unwrap();
    swapped.damage(&path(3), |bytes| *bytes = second).unwrap();
    let result = replay_ids(&swapped, LogStart::default());
    assert_eq!(corrupt_path(result), path(3));
    let gone = memory();
    let start = LogStart {
        first_file: 2,
        sequence: 9,
    };
    assert_eq!(corrupt_path(replay_ids(&gone, start)), path(2));
    let result = replay_ids(&gone, LogStart::default());
    assert_eq!(
        corrupt_path(result),
        path(1),
        "even a log without a checkpoint"
    );
}

#[test]
fn every_flip_in_a_chain_of_files_is_noticed_or_harmless() {
    let fs = memory();
    let small = WalOptions {
        file_bytes: 300,
        preallocate_bytes: 512,
        ..options()
    };
    write_log(&fs, small, 1..=6, 100);
    for file in fs.paths() {
        let length = fs.length(&file).unwrap().unwrap() as usize;
        for at in 0..length {
            let bad = fs.snapshot();
            bad.damage(&file, |bytes| bytes[at] ^= 0x40).unwrap();
            match replay_ids(&bad, LogStart::default()) {
                Ok((ids, _)) => assert_eq!(ids, counted(6), "{} at {at}", file.display()),
                error => assert_eq!(corrupt_path(error), file, "at {at}"),
            }
        }
    }
}

#[test]
fn only_a_log_without_records_is_pristine() {
    let fs = memory();
    assert!(is_pristine(&fs, &dir()).unwrap());
    assert!(is_pristine(&fs, Path::new("/nowhere")).unwrap());
    let wal = Wal::create(shared(&fs), &dir(), options(), Recorder::default()).unwrap();
    assert!(is_pristine(&fs, &dir()).unwrap());
    wal.append(record(1, 1), 1, None).unwrap();
    assert!(!is_pristine(&fs, &dir()).unwrap());
}
