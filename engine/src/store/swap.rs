//! A value that is read by many and replaced as a whole.
//!
//! A reader takes a reference and keeps it as long as it likes; a change makes the next value from the
//! present one and puts it in place, so that no reader ever sees half of it and no change gets lost.
//! Apart from the engine's locks this file depends on nothing, so that `engine/loom` can check it
//! under all schedules of its threads.

use std::sync::Arc;

use crate::sync::RwLock;

/// The value that is in force.
pub(crate) struct Swap<T>(RwLock<Arc<T>>);

impl<T: Clone> Swap<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// Pins what is in force now.
    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the value by what `change` makes of it; in place when no reader holds it. Changes
    /// happen one after the other.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(Arc::make_mut(&mut self.0.write()));
    }
}
