//! The locks of the protocols that `engine/loom` checks under all schedules: there they are loom's.

pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
