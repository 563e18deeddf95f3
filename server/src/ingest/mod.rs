//! What comes in: one file per protocol, and the readers that they share.

pub mod append;
pub mod documents;
pub mod elastic;
pub mod influx;
pub mod loki;
pub mod protobuf;
pub mod pushgateway;
pub mod remote_write;
pub mod syslog;
pub mod write_request;
pub mod zipkin;
