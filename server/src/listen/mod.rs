//! From a socket to requests: the accept loop, TLS, and who is asking.
//!
//! `axum::serve` sets no timer, so a client that sends its head slowly holds a connection for
//! ever. The loop here bounds everything that a client can hold: connections, the time for a
//! head, the size of a head; the body's time and size are bounded where it is read
//! ([`crate::body`]).

mod accept;
mod auth;
mod idle;
mod tls;

pub use accept::{Bound, Limits, Place, serve};
pub use auth::{Authenticator, Principal};
pub use tls::acceptor;
