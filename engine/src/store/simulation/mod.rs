//! Simulated lives of a store: random requests, deletions, upkeep, failing calls, kills and power
//! cuts over a file system in memory, compared with a plain map after each opening and now and then.
//!
//! One seed is one life. The default run looks at a few; more, and the one that failed:
//!
//! ```text
//! CHRONOLITH_SIM_SEEDS=0..10000 cargo test -p chronolith-engine --lib simulation -- --nocapture
//! CHRONOLITH_SIM_SEED=77        cargo test -p chronolith-engine --lib simulation -- --nocapture
//! CHRONOLITH_SIM_SEED=77 CHRONOLITH_SIM_STEPS=0,4,9  (the same, only these steps of it)
//! ```
//!
//! A failure is cut down to the steps that it needs before it is printed. A life that does not end
//! within [`LIFE_MAX`] ends the process, naming the seed: a hang is a failure too.
//!
//! | file | holds |
//! |---|---|
//! | `step.rs` | what can happen; how a seed becomes a list of it |
//! | `model.rs` | the plain map, and what may be true of requests in doubt |
//! | `versions.rs` | what a row shows now and showed earlier, by arrival and owner |
//! | `rows.rs`, `observe.rs` | requests from seeds; what a store shows |
//! | `world.rs` | store, file system and model, step by step |
//! | `writes.rs`, `derived.rs`, `upkeep.rs`, `backups.rs`, `reads.rs`, `crashes.rs` | the steps, by concern |
//! | `every_call.rs` | one scripted life in which each call fails once |
//! | `damage.rs` | each byte of a store flipped, each file cut at each length |

mod backups;
mod crashes;
mod damage;
mod derived;
mod every_call;
mod model;
mod observe;
mod random;
mod reads;
mod rows;
mod step;
mod upkeep;
mod versions;
mod world;
mod writes;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use step::{Setting, Step, steps_of};
use world::World;

/// Seeds of the default run.
const DEFAULT_SEEDS: Range<u64> = 0..80;
/// A life takes milliseconds; one that takes this long waits for something that never comes.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// Time spent on cutting a failure down.
const SHRINK_MAX: Duration = Duration::from_secs(30);

/// A life that went wrong.
struct Failed {
    message: String,
    trace: Vec<String>,
}

/// Runs steps, all of them or up to the first failure.
fn live(seed: u64, setting: &Setting, steps: &[Step]) -> Result<(), Failed> {
    LIVES.begin(seed);
    let mut trace = Vec::new();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(setting);
        let outcome = steps.iter().try_for_each(|step| world.step(step));
        trace = std::mem::take(&mut world.trace);
        outcome
    }));
    LIVES.end();
    let message = match lived {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without words"))
        }
    };
    Err(Failed { message, trace })
}

/// Leaves out steps as long as the rest still fails. Answers the indexes of those that are left.
fn shrink(seed: u64, setting: &Setting, steps: &[Step]) -> (Vec<usize>, Option<Failed>) {
    let started = Instant::now();
    let mut kept: Vec<usize> = (0..steps.len()).collect();
    let mut failed = None;
    let mut chunk = kept.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < kept.len() && started.elapsed() < SHRINK_MAX {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + chunk).min(kept.len()));
            let chosen: Vec<_> = fewer.iter().map(|index| steps[*index]).collect();
            match live(seed, setting, &chosen) {
                Err(again) => {
                    kept = fewer;
                    failed = Some(again);
                }
                Ok(()) => at += chunk,
            }
        }
        chunk /= 2;
    }
    (kept, failed)
}

/// Runs the life of a seed; a failure comes with all that is needed to look at it.
fn run_seed(seed: u64, only: Option<&[usize]>) -> Result<(), String> {
    let setting = Setting::of(seed);
    let all = steps_of(seed, &setting);
    let steps: Vec<Step> = match only {
        None => all.clone(),
        Some(only) => only
            .iter()
            .filter_map(|index| all.get(*index))
            .copied()
            .collect(),
    };
    let Err(first) = live(seed, &setting, &steps) else {
        return Ok(());
    };
    let (kept, shrunk) = match only {
        Some(only) => (only.to_vec(), None),
        None => shrink(seed, &setting, &steps),
    };
    let failed = shrunk.as_ref().unwrap_or(&first);
    let kept: Vec<_> = kept.iter().map(usize::to_string).collect();
    Err(format!(
        "seed {seed} ({setting:?}): {}\nafter\n{}\nreplay: CHRONOLITH_SIM_SEED={seed} \
         CHRONOLITH_SIM_STEPS={} cargo test -p chronolith-engine --lib simulation -- --nocapture\n\
         uncut: {}",
        failed.message,
        failed.trace.join("\n"),
        kept.join(","),
        first.message,
    ))
}

/// The lives that are under way, by thread: what the watchdog looks at.
struct Lives {
    running: Mutex<Vec<(std::thread::ThreadId, u64, Instant)>>,
    watched: AtomicBool,
}

static LIVES: Lives = Lives {
    running: Mutex::new(Vec::new()),
    watched: AtomicBool::new(false),
};

impl Lives {
    fn begin(&'static self, seed: u64) {
        let thread = std::thread::current().id();
        self.running.lock().push((thread, seed, Instant::now()));
        if !self.watched.swap(true, Ordering::SeqCst) {
            std::thread::spawn(|| self.watch());
        }
    }

    fn end(&self) {
        let thread = std::thread::current().id();
        self.running.lock().retain(|life| life.0 != thread);
    }

    /// Ends the process when a life does not end: nothing else gets a waiting thread back.
    fn watch(&self) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            for (_, seed, since) in self.running.lock().iter() {
                if since.elapsed() > LIFE_MAX {
                    eprintln!("seed {seed} hangs: CHRONOLITH_SIM_SEED={seed} replays it");
                    std::process::abort();
                }
            }
        }
    }
}

/// Runs many seeds on all cores. Answers the failures.
fn run_seeds(seeds: Range<u64>) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(failure) = run_seed(seed, None) {
                        eprintln!("{failure}\n");
                        failures.lock().push(failure);
                    }
                    if seed % 1000 == 999 {
                        eprintln!("{} seeds", seed + 1);
                    }
                }
            });
        }
    });
    failures.into_inner()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[test]
fn lives_agree_with_a_plain_map() {
    if let Some(seed) = variable("CHRONOLITH_SIM_SEED") {
        let seed = seed.parse().expect("CHRONOLITH_SIM_SEED: a number");
        let only: Option<Vec<usize>> = variable("CHRONOLITH_SIM_STEPS").map(|list| {
            let numbers = list.split(',').map(|n| n.trim().parse());
            numbers
                .map(|n| n.expect("CHRONOLITH_SIM_STEPS: numbers"))
                .collect()
        });
        let setting = Setting::of(seed);
        println!("{setting:?}");
        for (index, step) in steps_of(seed, &setting).iter().enumerate() {
            println!("{index:3} {step:?}");
        }
        if let Err(failure) = run_seed(seed, only.as_deref()) {
            panic!("{failure}");
        }
        return;
    }
    let seeds = match variable("CHRONOLITH_SIM_SEEDS") {
        None => DEFAULT_SEEDS,
        Some(text) => {
            let (start, end) = text.split_once("..").expect("CHRONOLITH_SIM_SEEDS: 0..100");
            let number = |text: &str| text.parse().expect("CHRONOLITH_SIM_SEEDS: 0..100");
            number(start)..number(end)
        }
    };
    let failures = run_seeds(seeds.clone());
    assert!(
        failures.is_empty(),
        "{} of {seeds:?} failed; the first:\n{}",
        failures.len(),
        failures[0]
    );
}
