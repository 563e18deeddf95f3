//! Pushes that were taken lately, so that one that is sent again stores nothing twice.
//!
//! Loki's key is (stream, time, line), which would cost a look-up per line for good. What repeats in
//! practice is a whole request: a client that got no answer, or a 5xx, sends the same bytes again. So
//! a request is known by the hash of its bytes. One that is still under way is refused for the moment
//! (429), since nobody knows yet how it ends. A push that was stored but for streams beyond the limit
//! is remembered with those streams, and when it comes again only they are looked at.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_engine::TenantId;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// How long a push is remembered.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Pushes that are remembered.
const KEPT_MAX: usize = 1 << 16;

/// Remembers pushes; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RecentPushes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pushes: HashMap<u128, Push>,
    /// Ended ones, oldest first.
    ended: VecDeque<(Instant, u128)>,
}

#[derive(Debug)]
enum Push {
    UnderWay,
    Stored,
    /// All but these streams.
    Partly(Arc<[u64]>),
}

/// What is known of a push.
pub enum Begun {
    /// It is new, or came before and was stored but for some streams.
    Now(Turn),
    /// It is being stored.
    UnderWay,
    /// It is stored.
    Stored,
}

/// The right to store a push. Dropped without [`Turn::end`], the push was not stored.
pub struct Turn {
    recent: RecentPushes,
    key: u128,
    only: Option<Arc<[u64]>>,
    ended: bool,
}

impl RecentPushes {
    /// Begins a push with these bytes.
    #[must_use]
    pub fn begin(&self, tenant: &TenantId, body: &[u8]) -> Begun {
        let seed = xxhash_rust::xxh3::xxh3_64(tenant.as_str().as_bytes());
        let key = xxh3_128_with_seed(body, seed);
        let state = &mut *self.0.lock();
        state.forget_old();
        let before = state.pushes.get(&key);
        let only = match before {
            None => None,
            Some(Push::UnderWay) => return Begun::UnderWay,
            Some(Push::Stored) => return Begun::Stored,
            Some(Push::Partly(streams)) => Some(Arc::clone(streams)),
        };
        state.pushes.insert(key, Push::UnderWay);
        Begun::Now(Turn {
            recent: self.clone(),
            key,
            only,
            ended: false,
        })
    }
}

impl State {
    fn forget_old(&mut self) {
        while let Some((when, key)) = self.ended.front().copied() {
            if when.elapsed() < KEPT && self.ended.len() <= KEPT_MAX {
                return;
            }
            self.ended.pop_front();
            if !matches!(self.pushes.get(&key), Some(Push::UnderWay)) {
                self.pushes.remove(&key);
            }
        }
    }
}

impl Turn {
    /// The streams that are to be stored; `None` for all.
    #[must_use]
    pub fn only(&self) -> Option<Arc<[u64]>> {
        self.only.clone()
    }

    /// The push is stored but for these streams.
    pub fn end(mut self, over_limit: Vec<u64>) {
        self.ended = true;
        let push = match over_limit.is_empty() {
            true => Push::Stored,
            false => Push::Partly(over_limit.into()),
        };
        let state = &mut *self.recent.0.lock();
        state.pushes.insert(self.key, push);
        state.ended.push_back((Instant::now(), self.key));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let state = &mut *self.recent.0.lock();
        match self.only.take() {
            None => drop(state.pushes.remove(&self.key)),
            Some(streams) => drop(state.pushes.insert(self.key, Push::Partly(streams))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(recent: &RecentPushes, body: &[u8]) -> Turn {
        match recent.begin(&TenantId::default(), body) {
            Begun::Now(turn) => turn,
            _ => panic!("expected a turn"),
        }
    }

    #[test]
    fn a_push_is_stored_once() {
        let recent = RecentPushes::default();
        let first = turn(&recent, b"a");
        let tenant = TenantId::default();
        assert!(matches!(recent.begin(&tenant, b"a"), Begun::UnderWay));
        drop(first);
        turn(&recent, b"a").end(Vec::new());
        assert!(matches!(recent.begin(&tenant, b"a"), Begun::Stored));
        let other = TenantId::new("other").unwrap();
        assert!(matches!(recent.begin(&other, b"a"), Begun::Now(_)));
        turn(&recent, b"b").end(Vec::new());
    }

    #[test]
    fn what_was_left_out_is_looked_at_again() {
        let recent = RecentPushes::default();
        let first = turn(&recent, b"a");
        assert_eq!(first.only(), None);
        first.end(vec![7]);
        let again = turn(&recent, b"a");
        assert_eq!(again.only().as_deref(), Some(&[7][..]));
        drop(again);
        let again = turn(&recent, b"a");
        assert_eq!(again.only().as_deref(), Some(&[7][..]));
        again.end(Vec::new());
        assert!(matches!(
            recent.begin(&TenantId::default(), b"a"),
            Begun::Stored
        ));
    }

    #[test]
    fn memory_is_bounded() {
        let recent = RecentPushes::default();
        for number in 0..KEPT_MAX + 100 {
            turn(&recent, &(number as u64).to_le_bytes()).end(Vec::new());
        }
        let state = recent.0.lock();
        assert!(state.pushes.len() <= KEPT_MAX + 1);
        assert!(state.ended.len() <= KEPT_MAX + 1);
    }
}
