//! Telling a caller what became of its record: exactly once, whatever happens to the threads.

use crossbeam::channel;

use crate::error::{EngineError, Result};

/// Calls back exactly once: with a refusal if it is dropped before.
pub(super) struct Completion(Option<Box<dyn FnOnce(Result<u64>) + Send>>);

impl Completion {
    pub(super) fn new(done: impl FnOnce(Result<u64>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    pub(super) fn complete(mut self, result: Result<u64>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(EngineError::Poisoned("the log's thread ended".into())));
        }
    }
}

/// The caller's end.
pub(super) struct Answer(channel::Receiver<Result<u64>>);

/// A completion, and the answer that waits for it.
pub(super) fn completion_channel() -> (Completion, Answer) {
    let (sender, receiver) = channel::bounded(1);
    let done = Completion::new(move |result| {
        // The receiver waits below; it can only be gone with its thread.
        let _ = sender.send(result);
    });
    (done, Answer(receiver))
}

impl Answer {
    /// Waits until the completion is called or dropped.
    pub(super) fn wait(self) -> Result<u64> {
        self.0
            .recv()
            .unwrap_or_else(|_| Err(EngineError::Poisoned("the log's thread ended".into())))
    }
}
