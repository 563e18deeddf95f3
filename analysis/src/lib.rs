//! Analysis over plain slices: anomalies, forecasts, patterns.
//!
//! Knows no storage engine and no query language: numbers in, structs out. It starts with the
//! robust statistics that everything later leans on.

#![forbid(unsafe_code)]

pub mod forecast;
pub mod robust;
