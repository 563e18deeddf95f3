//! The view: rows move from the active generation to a frozen one and on to a segment, and a reader
//! that pins a view finds each acknowledged row exactly once, at every moment.
//!
//! Modelled after `store/maintain.rs` (`freeze`, `publish`) and `store/commit.rs` (`apply`): the gate is
//! held shared while a row is handed over and applied (in the engine the barrier of `Wal::cut` waits for
//! the applier), exclusively while the generation is changed.

use loom::sync::Arc;
use loom::thread;

use crate::swap::Swap;
use crate::sync::{Mutex, RwLock};

type Rows = std::sync::Arc<Mutex<Vec<u32>>>;

#[derive(Clone)]
struct View {
    segments: std::sync::Arc<Vec<u32>>,
    frozen: Option<Rows>,
    active: Rows,
}

fn empty() -> Rows {
    std::sync::Arc::new(Mutex::new(Vec::new()))
}

struct Store {
    gate: RwLock<u32>,
    view: Swap<View>,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: RwLock::new(0),
            view: Swap::new(View {
                segments: std::sync::Arc::default(),
                frozen: None,
                active: empty(),
            }),
        })
    }

    fn append(&self, row: u32) {
        let _gate = self.gate.read();
        let active = std::sync::Arc::clone(&self.view.load().active);
        active.lock().push(row);
    }

    fn seal(&self) {
        {
            let mut epoch = self.gate.write();
            *epoch += 1;
            self.view
                .change(|view| view.frozen = Some(std::mem::replace(&mut view.active, empty())));
        }
        let frozen = self.view.load().frozen.clone();
        let rows = frozen.map_or_else(Vec::new, |frozen| frozen.lock().clone());
        self.view.change(|view| {
            std::sync::Arc::make_mut(&mut view.segments).extend(rows);
            view.frozen = None;
        });
    }

    /// All rows that a pinned view holds, sorted.
    fn read(&self) -> Vec<u32> {
        let view = self.view.load();
        let mut rows = view.segments.to_vec();
        for generation in view.frozen.iter().chain([&view.active]) {
            rows.extend_from_slice(&generation.lock());
        }
        rows.sort_unstable();
        rows
    }
}

#[test]
fn a_reader_finds_each_row_once_while_the_head_is_sealed() {
    loom::model(|| {
        let store = Store::new();
        store.append(1);
        let sealer = thread::spawn({
            let store = Arc::clone(&store);
            move || store.seal()
        });
        let writer = thread::spawn({
            let store = Arc::clone(&store);
            move || store.append(2)
        });
        let rows = store.read();
        assert!(rows == [1] || rows == [1, 2], "{rows:?}");
        sealer.join().unwrap();
        writer.join().unwrap();
        assert_eq!(store.read(), [1, 2]);
    });
}

#[test]
fn no_change_gets_lost() {
    loom::model(|| {
        let swap = Arc::new(Swap::new(0_u32));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let swap = Arc::clone(&swap);
                thread::spawn(move || swap.change(|value| *value += 1))
            })
            .collect();
        let before = *swap.load();
        let after = *swap.load();
        assert!(before <= after);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(*swap.load(), 2);
    });
}
