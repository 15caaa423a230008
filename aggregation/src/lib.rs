//! Secure aggregation of integer vectors: masks, shares, and the state machines of both sides.
//!
//! Pure and synchronous: no input or output, no ambient time or randomness; both are arguments.

pub mod bitmap;
pub mod client;
mod cohort;
pub mod context;
pub mod graph;
pub mod identity;
pub mod kdf;
mod keys;
pub mod mask;
pub mod merkle;
pub mod messages;
pub mod params;
pub mod ring_vector;
pub mod server;
pub mod shamir;
mod signatures;
mod step;
#[cfg(test)]
mod vectors;

pub use step::Step;

/// A SHA-256 digest.
pub type Digest = [u8; 32];
