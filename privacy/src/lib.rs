//! Differential privacy for federated learning: clip, rotate, encode, noise, accountant, ledger.
//!
//! This crate must never do I/O, read a clock, draw ambient randomness or know a peer.
//!
//! A client's update passes through [`Clipped`], [`Rotated`] and [`Noised`], each made only from the one
//! before; what leaves is a vector modulo 2^bits for secure aggregation. The sum of many comes back through
//! [`decode_sum`]. Where the coordinator is trusted to add the noise, a [`Rounded`] takes the place of the
//! `Noised`, and a [`CentralSum`] the sum's. [`Mechanism`] holds the parameters, [`RdpCurve`] and
//! [`epsilon_spent`] state the cost ([`PrivacyLoss`], [`RenyiDivergence`] and [`calibrate`] that of other
//! mechanisms),
//! [`ParticipationBook`] keeps it for every client and [`ledger`] for everybody. The guarantees and their
//! proofs are in `docs/privacy/mechanism.md`.
//!
//! ```
//! use rand_chacha::ChaCha20Rng;
//! use rand_core::SeedableRng;
//! use tacit_privacy::{
//!     Adjacency, BasisPoints, Clipped, Mechanism, MechanismRequest, NoiseLaw, RdpCurve, RotationSeed,
//!     decode_sum, epsilon_spent,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mechanism = Mechanism::build(&MechanismRequest {
//!     clients: 100,
//!     n_min: 90,
//!     corrupt: "0.05".parse::<BasisPoints>()?,
//!     dropout: "0.1".parse::<BasisPoints>()?,
//!     dimension: 1000,
//!     clip: 0.5,
//!     noise_multiplier: 1.0,
//!     adjacency: Adjacency::ZeroOut,
//!     noise_law: NoiseLaw::DiscreteGaussian,
//! })?;
//! let seed = RotationSeed([7; 32]);
//! let mask = (1_u32 << mechanism.bits()) - 1;
//! let mut sum = vec![0_u32; 1000];
//! for client in 0..100 {
//!     // In production a generator of the operating system; a fixed seed has no place outside an example.
//!     let mut rng = ChaCha20Rng::seed_from_u64(client);
//!     let noised = Clipped::new(vec![0.01; 1000], 0.5)?.rotate(&seed).noise(&mechanism, &mut rng)?;
//!     for (sum, residue) in sum.iter_mut().zip(noised.into_ring()) {
//!         *sum = (*sum + residue) & mask;
//!     }
//! }
//! let estimate = decode_sum(&sum, &mechanism, &seed)?;
//! let mean = estimate.iter().sum::<f32>() / 1000.0;
//! assert!((mean - 1.0).abs() < 0.1);
//!
//! let cost = RdpCurve::distributed(&mechanism, 100)?;
//! assert!(epsilon_spent(&cost, 1e-5, 1)? < 4.5);
//! # Ok(())
//! # }
//! ```

mod accountant;
mod book;
mod central;
mod clip;
mod decode;
mod encode;
mod error;
mod keystream;
pub mod ledger;
mod mechanism;
mod noise;
mod number;
mod rotate;
mod round_mechanism;
mod sampler;
mod seed;
mod units;

pub use accountant::{
    AccountantError, CalibrationError, PrivacyLoss, ROUND_FAILURE, RdpCurve, RenyiDivergence, calibrate,
    composed_epsilon, epsilon_spent, gaussian_delta, gaussian_epsilon, zcdp_epsilon,
    zcdp_epsilon_bun_steinke,
};
pub use book::{ClientNumber, ParticipationBook};
pub use central::{
    AdaptiveClip, CentralMechanism, CentralRelease, CentralRequest, CentralSum, NoiseKey, ReleaseError,
    Rounded,
};
pub use clip::{Clipped, MAX_CLIP, MIN_CLIP};
pub use decode::decode_sum;
pub use error::PipelineError;
pub use mechanism::{
    Adjacency, Infeasible, MAX_BITS, MAX_CLIENTS, MAX_DIMENSION, MAX_INFLATION, MIN_BITS, MIN_LOCAL_SIGMA,
    Mechanism, MechanismRequest, NoiseLaw,
};
pub use noise::Noised;
pub use number::shortest;
pub use rotate::Rotated;
pub use round_mechanism::RoundMechanism;
pub use sampler::{
    DISTANCE as SAMPLER_DISTANCE, DiscreteGaussian, MAX_SKELLAM_VARIANCE, MAX_VARIANCE, MIN_VARIANCE,
    Skellam, SkellamError, VarianceOutOfRange,
};
pub use seed::RotationSeed;
pub use units::{BasisPoints, UnitError};
