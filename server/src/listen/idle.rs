//! Connections on which nobody is being served, and how the oldest of them makes room.
//!
//! At the cap a server that only waits for time limits can be shut up by clients that connect and
//! say nothing. Here each newcomer takes the place of the connection that has been idle for the
//! longest, silent ones and kept-alive ones alike: clients that keep connections alive connect again,
//! and whoever speaks at once is never idle.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All idle connections, by when they became idle.
#[derive(Default)]
pub(super) struct IdleConnections {
    ordered: Mutex<Ordered>,
}

#[derive(Default)]
struct Ordered {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

impl IdleConnections {
    /// Ends the connection that has been idle for the longest; false when none is idle.
    pub(super) fn evict_oldest(&self) -> bool {
        match self.ordered.lock().by_age.pop_first() {
            Some((_, evicted)) => {
                evicted.notify_one();
                true
            }
            None => false,
        }
    }
}

/// One connection's part: idle from the start, unless a request is being served.
pub(super) struct Activity {
    all: Arc<IdleConnections>,
    evicted: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serving: usize,
    idle_since: Option<u64>,
}

impl Activity {
    pub(super) fn new(all: &Arc<IdleConnections>) -> Arc<Self> {
        let activity = Self {
            all: Arc::clone(all),
            evicted: Arc::default(),
            state: Mutex::default(),
        };
        activity.rest(&mut activity.state.lock());
        Arc::new(activity)
    }

    /// Returns when the connection has to go.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The connection is not idle before the guard is dropped.
    pub(super) fn serving(self: &Arc<Self>) -> Serving {
        let mut state = self.state.lock();
        state.serving += 1;
        if let Some(since) = state.idle_since.take() {
            self.all.ordered.lock().by_age.remove(&since);
        }
        Serving(Arc::clone(self))
    }

    fn rest(&self, state: &mut State) {
        let mut ordered = self.all.ordered.lock();
        let since = ordered.next;
        ordered.next += 1;
        ordered.by_age.insert(since, Arc::clone(&self.evicted));
        state.idle_since = Some(since);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(since) = self.state.get_mut().idle_since {
            self.all.ordered.lock().by_age.remove(&since);
        }
    }
}

/// A request that is being served.
pub(super) struct Serving(Arc<Activity>);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.serving -= 1;
        if state.serving == 0 {
            self.0.rest(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_goes_first_and_who_is_served_stays() {
        let all = Arc::new(IdleConnections::default());
        let [first, second, third] = [0; 3].map(|_| Activity::new(&all));
        let order = || -> Vec<u64> { all.ordered.lock().by_age.keys().copied().collect() };
        assert_eq!(order(), [0, 1, 2]);
        let (a, b) = (first.serving(), first.serving());
        assert_eq!(order(), [1, 2]);
        drop(a);
        assert_eq!(order(), [1, 2]);
        drop(b);
        assert_eq!(order(), [1, 2, 3], "idle again, and the youngest");
        drop(second);
        assert_eq!(order(), [2, 3]);
        let busy = third.serving();
        assert!(all.evict_oldest());
        assert!(!all.evict_oldest(), "nobody else is idle");
        drop(busy);
        assert!(all.evict_oldest());
    }
}
