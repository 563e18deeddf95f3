//! The routes, one file per family.

pub mod admin;
pub mod envelope;
pub mod federate;
pub mod health;
pub mod metadata;
pub mod params;
pub mod selectors;
pub mod status;
pub mod targets;
