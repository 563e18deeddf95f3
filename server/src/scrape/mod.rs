//! Pulling metrics: scraping by Prometheus' `scrape_configs`, and the Pushgateway API for jobs
//! that end before anyone could scrape them.

pub mod config;
pub mod discovery;
pub mod exposition;
pub mod manager;
pub mod nhcb;
pub mod pushgateway;
pub mod relabel;
pub mod target;
pub mod writer;
