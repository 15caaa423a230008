//! Secure aggregation of integer vectors: masks, shares, and the state machines of both sides.
//!
//! Pure and synchronous: no input or output, and time and randomness are arguments. Must never learn what the integers mean:
//! clipping, noise and budgets are others' concern. The protocol, what it guarantees and why is in `docs/protocol.md`.
//!
//! A round is driven through the phases of [`server`] and, on each client's side, the states of [`client`], which exchange
//! the types of [`messages`] under the terms and parameters of [`params`]. The rest are their parts.

pub mod bitmap;
pub mod client;
mod cohort;
pub mod context;
pub mod graph;
pub mod identity;
pub mod journal;
pub mod kdf;
mod keys;
pub mod mask;
pub mod merkle;
pub mod messages;
pub mod params;
pub mod ring_vector;
#[cfg(test)]
mod secrecy;
pub mod server;
pub mod shamir;
mod signatures;
mod step;
#[cfg(test)]
mod vectors;

pub use step::Step;

/// A SHA-256 digest.
pub type Digest = [u8; 32];
