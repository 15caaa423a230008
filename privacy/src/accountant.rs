//! Rényi differential privacy: the curve of one release, its composition over rounds, and epsilon at a delta.
//! Must never report less than the composed mechanisms cost: every bound here errs upwards.

mod calibration;
mod central;
mod conversion;
mod curve;
mod distributed;
mod divergence;
mod laplace;
mod pld;
mod poisson_gaussian;
mod remainder;
mod skellam;
mod spent;
mod zcdp;

use crate::number::shortest;

pub use calibration::{CalibrationError, calibrate};
pub use curve::RdpCurve;
pub(crate) use distributed::{DistributedGaussian, tau};
pub use divergence::{RenyiDivergence, composed_epsilon};
pub use pld::{PrivacyLoss, gaussian_delta, gaussian_epsilon};
pub(crate) use remainder::remainder;
pub(crate) use spent::Largest;
pub use spent::{ROUND_FAILURE, epsilon_spent};
pub use zcdp::{zcdp_epsilon, zcdp_epsilon_bun_steinke};

/// Why a privacy cost cannot be stated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AccountantError {
    /// The target delta is not a probability that a guarantee can be stated for.
    #[error(
        "delta {} is refused; it must lie strictly between 0 and 1, and far below one over the number of \
         clients",
        shortest(*.0)
    )]
    DeltaOutOfRange(f64),
    /// The target delta is too small for privacy loss distributions in double precision.
    #[error(
        "delta {delta:e} is below {least:e}, the least that privacy loss distributions resolve; take the Rényi bound"
    )]
    DeltaTooSmall {
        /// The target delta.
        delta: f64,
        /// The least accepted.
        least: f64,
    },
    /// The sampling rate is not a probability with which anybody takes part.
    #[error("sampling rate {} is refused; it must be above 0 and at most 1, which is no sampling", shortest(*.0))]
    SamplingRateOutOfRange(f64),
    /// Nothing of delta is left after what protocol and sampling cost.
    #[error(
        "delta {delta:e} does not cover {rounds} rounds that each fail with probability up to 2^-40 and \
         whose noise is {distance:e} away from the exact law, which counts e^epsilon times; state epsilon at \
         a larger delta, or take the loss as unbounded where epsilon is beyond 40"
    )]
    DeltaExhausted {
        /// The target delta.
        delta: f64,
        /// Rounds composed.
        rounds: u64,
        /// Total variation distance of all noise drawn, from [`RdpCurve::sampling_distance`].
        distance: f64,
    },
    /// No order of the curve is finite.
    #[error(
        "the privacy loss is unbounded: a mechanism in the composition adds no noise that can be relied on"
    )]
    Unbounded,
    /// A round with fewer survivors than the plan's minimum releases nothing and has no cost to state.
    #[error(
        "{survivors} survivors are fewer than n_min = {n_min}; such a round must be aborted, not accounted"
    )]
    TooFewSurvivors {
        /// Clients whose updates are in the sum.
        survivors: u32,
        /// Fewest with which anything is released.
        n_min: u32,
    },
    /// More survivors than clients.
    #[error("{survivors} survivors exceed the cohort of {clients} clients")]
    MoreSurvivorsThanClients {
        /// Clients whose updates are in the sum.
        survivors: u32,
        /// Cohort size.
        clients: u32,
    },
    /// A stored curve does not have one value per order.
    #[error(
        "a stored curve has {found} values for {expected} orders; it was written by another version of the \
         accountant"
    )]
    WrongOrders {
        /// Orders of this version.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// A stored curve has a value that no divergence has.
    #[error("a stored curve has the divergence {}, which is negative or not a number", shortest(*.0))]
    InvalidDivergence(f64),
    /// A mechanism's parameter is one that the privacy loss distribution is not computed for.
    #[error(
        "{name} {} is refused; it must be a number from {smallest:e} to {largest:e}, so choose other units \
         for noise and sensitivity or take the Rényi bound",
        shortest(*value)
    )]
    ParameterOutOfRange {
        /// Which parameter.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The smallest accepted.
        smallest: f64,
        /// The largest accepted.
        largest: f64,
    },
    /// More releases than the privacy loss distribution is computed for.
    #[error("{releases} composed releases exceed {most}; take the Rényi bound for more")]
    TooManyReleases {
        /// Releases composed.
        releases: u64,
        /// The most accepted.
        most: u64,
    },
}
