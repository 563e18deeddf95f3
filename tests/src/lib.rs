//! Black-box tests: the real binary on a free port and a temporary directory, spoken to over HTTP.
//!
//! [`server::Server`] starts and stops it, [`target`] is
//! something to scrape, [`http`] is a client of a few lines that also sends what
//! no proper client would, [`websocket`] follows logs, [`write`] makes remote write bodies.

pub mod http;
pub mod server;
pub mod target;
pub mod websocket;
pub mod write;

pub use http::{Answer, Client};
pub use server::{Server, run};
pub use target::Target;
pub use websocket::WebSocket;
