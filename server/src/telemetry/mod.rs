//! What the server knows about itself: metrics, log lines, and its own samples in the store.

mod clock;
mod exposition;
mod logging;
mod metrics;
mod process;
pub mod rows;
pub mod self_scrape;

pub use clock::{now_ms, now_ns, rfc3339};
pub(crate) use exposition::push_escaped;
pub use exposition::{Exposition, Family, FamilyKind, Row};
pub use logging::init as init_logging;
pub use metrics::{Histogram, Metrics};
