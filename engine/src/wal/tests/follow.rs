//! Reading the log beside a live writer.

use super::*;

fn ids(followed: Followed) -> Vec<(u64, u64)> {
    match followed {
        Followed::Records(records) => records
            .iter()
            .map(|(sequence, record)| (*sequence, record.arrival.0 as u64))
            .collect(),
        Followed::Idle => Vec::new(),
        Followed::Vanished => panic!("the log vanished"),
    }
}

#[test]
fn a_follower_sees_every_record_once_it_is_durable() {
    let fs = memory();
    let small = WalOptions {
        file_bytes: 700,
        ..options()
    };
    let wal = Wal::create(shared(&fs), &dir(), small, Recorder::default()).unwrap();
    let mut follower = Follower::new(&dir(), LogStart::default());
    assert!(matches!(
        follower.poll(&fs, 1 << 20).unwrap(),
        Followed::Idle
    ));
    let mut seen = Vec::new();
    for id in 1..=30 {
        wal.append(record(id, 100), id, None).unwrap();
        wal.sync().unwrap();
        seen.extend(ids(follower.poll(&fs, 1 << 20).unwrap()));
        assert_eq!(seen, counted(id));
    }
    assert!(wal.stats().files > 2);
    assert_eq!(follower.next_sequence(), 31);
}

#[test]
fn a_follower_beside_a_busy_writer_never_sees_damage() {
    let fs = memory();
    let small = WalOptions {
        file_bytes: 20_000,
        ..options()
    };
    let wal = Wal::create(shared(&fs), &dir(), small, Recorder::default()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1..=2000 {
                wal.append(record(id, 100), id, None).unwrap();
            }
            wal.sync().unwrap();
        });
        let mut follower = Follower::new(&dir(), LogStart::default());
        let mut seen = Vec::new();
        while seen.len() < 2000 {
            seen.extend(ids(follower.poll(&fs, 4096).unwrap()));
        }
        assert_eq!(seen, counted(2000));
    });
}

#[test]
fn a_follower_notices_that_its_files_were_removed() {
    let fs = memory();
    let wal = Wal::create(shared(&fs), &dir(), options(), Recorder::default()).unwrap();
    wal.append(record(1, 10), 1, None).unwrap();
    let cut = wal.cut().unwrap();
    wal.remove_before(cut).unwrap();
    wal.append(record(2, 10), 2, None).unwrap();
    wal.sync().unwrap();
    let mut late = Follower::new(&dir(), LogStart::default());
    assert!(matches!(
        late.poll(&fs, 1 << 20).unwrap(),
        Followed::Vanished
    ));
    let start = LogStart {
        first_file: wal.first_file_for(cut),
        sequence: cut,
    };
    let mut follower = Follower::new(&dir(), start);
    assert_eq!(ids(follower.poll(&fs, 1 << 20).unwrap()), [(2, 2)]);
}

/// A power cut may take the mark at the end of a file although the next file is there. Nothing follows
/// the last frame then, and it is complete all the same.
#[test]
fn a_file_that_lost_its_end_mark_is_read_to_its_end() {
    let fs = memory();
    let wal = Wal::create(shared(&fs), &dir(), options(), Recorder::default()).unwrap();
    for id in 1..=3 {
        wal.append(record(id, 10), id, None).unwrap();
    }
    wal.cut().unwrap();
    wal.append(record(4, 10), 4, None).unwrap();
    wal.sync().unwrap();
    fs.damage(&path(1), |bytes| {
        let mark = bytes.len() - format::FRAME_HEADER_BYTES;
        bytes[mark..].fill(0);
    })
    .unwrap();
    let mut follower = Follower::new(&dir(), LogStart::default());
    assert_eq!(ids(follower.poll(&fs, 1 << 20).unwrap()), counted(4));
}
