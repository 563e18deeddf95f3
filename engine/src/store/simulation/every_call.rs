//! One scripted life, in which each call of the file system fails once, in each way; and the same with
//! a disk that is full at each point. The model says what must be there afterwards.

use super::step::{Armed, Ending, Setting, Step};
use super::world::World;
use crate::io::Fault;
use crate::options::SyncMode;

const SETTING: Setting = Setting {
    sync: SyncMode::Always,
    retention_hours: None,
    as_of_hours: 0,
    faults: true,
    log_bytes: (2_500, 1_000),
};

/// A little of everything that writes.
const SCRIPT: [Step; 13] = [
    Step::Append { tenant: 0, seed: 3 },
    Step::ChangeState { tenant: 0, seed: 4 },
    Step::Flush,
    Step::Append { tenant: 0, seed: 5 },
    Step::Delete { tenant: 0, seed: 9 },
    Step::Append { tenant: 0, seed: 7 },
    Step::Replace { tenant: 0, seed: 1 },
    Step::Flush,
    Step::Compact,
    Step::Append { tenant: 0, seed: 8 },
    Step::ChangeState { tenant: 0, seed: 6 },
    Step::Housekeeping,
    Step::Check,
];

const FAULTS: [Fault; 5] = [
    Fault::Dead,
    Fault::InputOutput,
    Fault::Error(std::io::ErrorKind::StorageFull),
    Fault::Error(std::io::ErrorKind::Interrupted),
    Fault::Short(30),
];

fn nth(n: u64, fault: Fault) -> Armed {
    Armed {
        after: n,
        count: 1,
        only: None,
        fault,
    }
}

/// Executes steps; a failure names what was special about this run.
fn run(what: &str, steps: impl IntoIterator<Item = Step>) -> World {
    let mut world = World::new(&SETTING);
    for step in steps {
        if let Err(failure) = world.step(&step) {
            panic!("{what}: {failure}\nafter\n{}", world.trace.join("\n"));
        }
    }
    world
}

#[test]
fn every_call_of_a_life_may_fail() {
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for n in 0.. {
            let armed = nth(n, fault);
            let ending = if (n + number as u64).is_multiple_of(2) {
                Ending::Kill
            } else {
                Ending::PowerCut { keep: 0 }
            };
            let end = Step::Reopen {
                ending,
                fault: None,
            };
            let steps = std::iter::once(Step::Fault(armed)).chain(SCRIPT);
            let mut world = run(&format!("{armed:?}"), steps);
            let fired = world.had_trouble() || world.was_renewed();
            if let Err(failure) = world.step(&end).and_then(|()| world.step(&Step::Check)) {
                panic!("{armed:?}: {failure}\nafter\n{}", world.trace.join("\n"));
            }
            if !fired {
                assert!(n > 50, "the script makes more calls than {n}");
                break;
            }
        }
    }
}

#[test]
fn every_call_of_an_opening_may_fail() {
    // The last steps leave something in the log.
    let life = [&SCRIPT[..], &[SCRIPT[0], SCRIPT[1]]].concat();
    for fault in FAULTS {
        for n in 0.. {
            let armed = nth(n, fault);
            let again = Step::Reopen {
                ending: Ending::Kill,
                fault: Some(armed),
            };
            let steps = life.iter().copied().chain([again, SCRIPT[3], Step::Check]);
            let world = run(&format!("opening with {armed:?}"), steps);
            let failed = world
                .trace
                .iter()
                .any(|line| line.contains("opening failed"));
            if !failed && n > 40 {
                break;
            }
        }
    }
}

#[test]
fn the_disk_may_be_full_at_any_point() {
    for spare_bytes in (0..30_000).step_by(700) {
        let full = Step::DiskFull { spare_bytes };
        let before = [SCRIPT[0], SCRIPT[1], full];
        let steps = before
            .into_iter()
            .chain(SCRIPT)
            .chain([Step::Heal, SCRIPT[3], Step::Flush, Step::Check])
            .chain([Step::Reopen {
                ending: Ending::PowerCut { keep: 0 },
                fault: None,
            }]);
        run(&format!("{spare_bytes} bytes left"), steps);
    }
}
