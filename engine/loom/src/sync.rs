//! Loom's locks with the names and habits of parking_lot's, for the files that are checked here.

use std::time::Instant;

use loom::sync as checked;

#[derive(Debug)]
pub(crate) struct Mutex<T>(checked::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = checked::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checked::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().unwrap()))
    }
}

/// A guard that a condition variable can take and give back.
pub(crate) struct Guard<'a, T>(Option<MutexGuard<'a, T>>);

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("held")
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("held")
    }
}

pub(crate) struct TimedOut;

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(checked::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(checked::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        let held = guard.0.take().expect("held");
        guard.0 = Some(self.0.wait(held).unwrap());
    }

    /// No time passes here: whoever waits must be woken, or the schedule is a deadlock and reported.
    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _give_up: Instant) -> TimedOut {
        self.wait(guard);
        TimedOut
    }
}

#[derive(Debug)]
pub(crate) struct RwLock<T>(checked::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checked::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> checked::RwLockReadGuard<'_, T> {
        self.0.read().unwrap()
    }

    pub(crate) fn write(&self) -> checked::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap()
    }
}
