//! Data for the benches, and what they share.

pub mod chart;
pub mod devops;
pub mod usage;
