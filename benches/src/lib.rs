//! Data for the benches, and what they share.

pub mod devops;
