//! Differential privacy for federated learning: clip, rotate, encode, noise, accountant, ledger.
//!
//! This crate must never do I/O, read a clock, draw ambient randomness or know a peer.

mod accountant;
mod book;
mod clip;
mod decode;
mod encode;
mod error;
mod keystream;
pub mod ledger;
mod mechanism;
mod noise;
mod rotate;
mod sampler;
mod seed;
mod units;

pub use accountant::{AccountantError, ROUND_FAILURE, RdpCurve, epsilon_spent};
pub use book::{ClientNumber, ParticipationBook};
pub use clip::{Clipped, MAX_CLIP, MIN_CLIP};
pub use decode::decode_sum;
pub use error::PipelineError;
pub use mechanism::{
    Adjacency, Infeasible, MAX_BITS, MAX_CLIENTS, MAX_DIMENSION, MAX_INFLATION, MIN_BITS, MIN_LOCAL_SIGMA,
    Mechanism, MechanismRequest,
};
pub use noise::Noised;
pub use rotate::Rotated;
pub use sampler::{
    DISTANCE as SAMPLER_DISTANCE, DiscreteGaussian, MAX_VARIANCE, MIN_VARIANCE, VarianceOutOfRange,
};
pub use seed::RotationSeed;
pub use units::{BasisPoints, UnitError};
