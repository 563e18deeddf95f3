//! Group commit: whoever is let in gets exactly one answer, in the order of entry, whatever the
//! committer and the one who closes do meanwhile.

use std::time::Instant;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::Arc;
use loom::thread;

use crate::queue::{CommitQueue, Queued, Taken};

/// Answers that were given to one caller.
#[derive(Default)]
struct Answers {
    committed: AtomicUsize,
    refused: AtomicUsize,
}

impl Answers {
    fn all(&self) -> (usize, usize) {
        (
            self.committed.load(Ordering::SeqCst),
            self.refused.load(Ordering::SeqCst),
        )
    }
}

/// A record with its completion: dropped without an answer, it is refused.
struct Record {
    answers: Option<Arc<Answers>>,
    bytes: usize,
    is_barrier: bool,
}

impl Record {
    fn new(answers: &Arc<Answers>, bytes: usize, is_barrier: bool) -> Self {
        Self {
            answers: Some(Arc::clone(answers)),
            bytes,
            is_barrier,
        }
    }

    fn commit(mut self) {
        if let Some(answers) = self.answers.take() {
            answers.committed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(answers) = self.answers.take() {
            answers.refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Queued for Record {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn ends_batch(&self) -> bool {
        self.is_barrier
    }
}

type Queue = CommitQueue<Record>;

/// The committer: batch by batch until the queue is closed and empty.
fn commit_all(queue: &Queue) {
    loop {
        match queue.take(2, None) {
            Taken::Batch(batch) => batch.into_iter().for_each(Record::commit),
            Taken::Due => unreachable!("nothing is due"),
            Taken::Closed => break,
        }
    }
    drop(queue.abandon());
}

#[test]
fn all_that_is_let_in_is_committed_before_the_end() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(10));
        let committer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || commit_all(&queue)
        });
        let answers: Vec<_> = (0..2).map(|_| Arc::new(Answers::default())).collect();
        let caller = thread::spawn({
            let (queue, answers) = (Arc::clone(&queue), Arc::clone(&answers[0]));
            move || drop(queue.offer(Record::new(&answers, 1, false)))
        });
        drop(queue.force(Record::new(&answers[1], 0, true)));
        caller.join().unwrap();
        queue.close();
        committer.join().unwrap();
        for answers in answers {
            assert_eq!(answers.all(), (1, 0));
        }
    });
}

/// There is room for one record; both get in, one after the other, although one of them may have to
/// be woken.
#[test]
fn who_waits_for_room_is_woken() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        let answers: Vec<_> = (0..2).map(|_| Arc::new(Answers::default())).collect();
        let callers: Vec<_> = answers
            .iter()
            .map(|answers| {
                let (queue, answers) = (Arc::clone(&queue), Arc::clone(answers));
                thread::spawn(move || {
                    drop(queue.offer_until(Record::new(&answers, 1, false), Instant::now()));
                })
            })
            .collect();
        let mut committed = 0;
        while committed < 2 {
            if let Taken::Batch(batch) = queue.take(1, None) {
                committed += batch.len();
                batch.into_iter().for_each(Record::commit);
            }
        }
        for caller in callers {
            caller.join().unwrap();
        }
        for answers in answers {
            assert_eq!(answers.all(), (1, 0));
        }
    });
}

/// A batch that ends with a barrier makes room as any other does.
#[test]
fn a_barrier_does_not_keep_others_out() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        let answers: Vec<_> = (0..3).map(|_| Arc::new(Answers::default())).collect();
        assert!(queue.offer(Record::new(&answers[0], 1, false)).is_ok());
        assert!(queue.force(Record::new(&answers[1], 0, true)).is_ok());
        let caller = thread::spawn({
            let (queue, answers) = (Arc::clone(&queue), Arc::clone(&answers[2]));
            move || {
                drop(queue.offer_until(Record::new(&answers, 1, false), Instant::now()));
            }
        });
        for _ in 0..2 {
            if let Taken::Batch(batch) = queue.take(9, None) {
                batch.into_iter().for_each(Record::commit);
            }
        }
        caller.join().unwrap();
        for answers in answers {
            assert_eq!(answers.all(), (1, 0));
        }
    });
}

/// Closing in the middle: each caller is committed or refused, once.
#[test]
fn closing_leaves_nobody_without_an_answer() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(10));
        let committer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || commit_all(&queue)
        });
        let answers = Arc::new(Answers::default());
        let caller = thread::spawn({
            let (queue, answers) = (Arc::clone(&queue), Arc::clone(&answers));
            move || drop(queue.offer(Record::new(&answers, 1, false)))
        });
        queue.close();
        caller.join().unwrap();
        committer.join().unwrap();
        let (committed, refused) = answers.all();
        assert_eq!(committed + refused, 1);
    });
}

/// The committer panics instead of taking: what waits, and what comes later, is refused.
#[test]
fn a_committer_that_is_gone_leaves_nobody_without_an_answer() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        let answers: Vec<_> = (0..2).map(|_| Arc::new(Answers::default())).collect();
        let callers: Vec<_> = answers
            .iter()
            .map(|answers| {
                let (queue, answers) = (Arc::clone(&queue), Arc::clone(answers));
                thread::spawn(move || {
                    drop(queue.offer_until(Record::new(&answers, 1, false), Instant::now()));
                })
            })
            .collect();
        drop(queue.abandon());
        for caller in callers {
            caller.join().unwrap();
        }
        for answers in answers {
            assert_eq!(answers.all(), (0, 1));
        }
    });
}
