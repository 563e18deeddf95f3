//! What log streams hold, for whoever looks around before asking: how much there is ([`volume`]),
//! which fields lines have ([`fields`]), what lines look like ([`miner`], [`patterns`]).
//!
//! Nothing here keeps lines: what a scan gives is counted block by block, and what is kept is bounded.

mod fields;
mod miner;
mod patterns;
mod volume;

pub use fields::{DetectedField, FieldType, detect_fields, field_values};
pub use miner::{LogPattern, PatternMiner};
pub use patterns::{PatternRequest, patterns};
pub use volume::{LogStats, Volume, VolumeBy, VolumeRequest, log_stats, volumes};
