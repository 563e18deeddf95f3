//! What the operator should know: that the server stops, that the store takes no writes.
//!
//! A notification is active as long as its cause lasts; its text is its identity. Listeners hear what
//! is active when they come and every change after that. Their number is bounded, and so is what
//! waits for a slow one: whoever falls too far behind misses the oldest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chronolith_engine::{EngineError, RequestContext, Store};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

/// Changes that may wait for a slow listener.
const PENDING_MAX: usize = 64;
/// How often the store is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Said on the way down.
pub const STOPPING: &str = "Chronolith is shutting down and gracefully stopping all operations.";
/// Said when a configuration was refused.
pub const RELOAD_FAILED: &str = "Configuration reload has failed.";
/// Said as long as the log takes no writes.
pub const NO_WRITES: &str =
    "The write-ahead log failed to sync: no write is taken until the server is started anew.";

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What.
    pub text: String,
    /// Since when.
    pub date: SystemTime,
    /// Whether it still holds.
    pub active: bool,
}

/// All notifications, and who listens.
#[derive(Debug)]
pub struct Notifications {
    state: Mutex<State>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    active: Vec<Notification>,
    /// `None` after the end.
    changes: Option<broadcast::Sender<Notification>>,
}

/// A listener's share: what is active, and what comes.
#[derive(Debug)]
pub struct Subscription {
    /// Active when the listener came.
    pub active: Vec<Notification>,
    /// Every change since then; closed at the end.
    pub changes: broadcast::Receiver<Notification>,
    _place: OwnedSemaphorePermit,
}

impl Notifications {
    /// None yet, and at most `subscribers_max` listeners.
    #[must_use]
    pub fn new(subscribers_max: usize) -> Self {
        let (changes, _) = broadcast::channel(PENDING_MAX);
        Self {
            state: Mutex::new(State {
                active: Vec::new(),
                changes: Some(changes),
            }),
            places: Arc::new(Semaphore::new(subscribers_max.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Says that something holds; nothing happens if that is known.
    pub fn raise(&self, text: &str) {
        let mut state = self.state.lock();
        if state.active.iter().any(|known| known.text == text) {
            return;
        }
        let notification = Notification {
            text: text.to_owned(),
            date: SystemTime::now(),
            active: true,
        };
        state.active.push(notification.clone());
        state.tell(notification);
    }

    /// Says that something holds no more.
    pub fn clear(&self, text: &str) {
        let mut state = self.state.lock();
        let place = state.active.iter().position(|known| known.text == text);
        if let Some(place) = place {
            let mut ended = state.active.remove(place);
            ended.active = false;
            state.tell(ended);
        }
    }

    /// What holds now, oldest first.
    #[must_use]
    pub fn active(&self) -> Vec<Notification> {
        self.state.lock().active.clone()
    }

    /// A place among the listeners; `None` if all are taken or everything ends.
    #[must_use]
    pub fn subscribe(&self) -> Option<Subscription> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let state = self.state.lock();
        Some(Subscription {
            active: state.active.clone(),
            changes: state.changes.as_ref()?.subscribe(),
            _place: place,
        })
    }

    /// Ends all subscriptions once what was said has been heard.
    pub fn close(&self) {
        self.state.lock().changes = None;
    }

    /// Keeps what is said about the store true until `stop`.
    pub async fn watch(&self, store: Store, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let store = store.clone();
            let begun = tokio::task::spawn_blocking(move || {
                let begun = store.begin(&RequestContext::new());
                matches!(begun, Err(EngineError::Poisoned(_)))
            });
            match begun.await {
                Ok(true) => self.raise(NO_WRITES),
                _ => self.clear(NO_WRITES),
            }
        }
    }
}

impl State {
    fn tell(&self, notification: Notification) {
        if let Some(changes) = &self.changes {
            // Nobody may be listening.
            let _ = changes.send(notification);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_hear_what_holds_and_what_changes() {
        let all = Notifications::new(1);
        all.raise("a");
        all.raise("a");
        let mut subscription = all.subscribe().unwrap();
        assert!(all.subscribe().is_none(), "there is one place");
        assert_eq!(subscription.active.len(), 1);
        all.raise("b");
        all.clear("a");
        all.clear("never said");
        let next = subscription.changes.try_recv().unwrap();
        assert_eq!((next.text.as_str(), next.active), ("b", true));
        let next = subscription.changes.try_recv().unwrap();
        assert_eq!((next.text.as_str(), next.active), ("a", false));
        assert_eq!(all.active().len(), 1);
        all.close();
        let closed = subscription.changes.try_recv();
        assert_eq!(closed, Err(broadcast::error::TryRecvError::Closed));
        drop(subscription);
        assert!(all.subscribe().is_none(), "it is over");
    }
}
