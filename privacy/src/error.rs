//! What can go wrong between a raw update and its noised form, or between a sum and its decoded form.
//! Must never carry a coordinate's value of a client's update: messages end up in logs.

use crate::number::shortest;
use crate::sampler::SkellamError;

/// Why the pipeline from update to noised vector, or from sum to estimate, stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The update has no coordinates.
    #[error("the update is empty; a delta has at least one coordinate")]
    Empty,
    /// A coordinate is NaN or infinite.
    #[error(
        "coordinate {coordinate} of the update is {kind}; training diverged, so discard this update and \
         lower the learning rate"
    )]
    NotFinite {
        /// Index of the first such coordinate.
        coordinate: usize,
        /// `NaN` or `infinite`.
        kind: &'static str,
    },
    /// The clip norm is not a number that the pipeline can carry.
    #[error("clip norm {} is refused; it must be between {minimum:e} and {maximum:e}", shortest(*clip))]
    ClipOutOfRange {
        /// The clip norm given.
        clip: f64,
        /// The smallest accepted.
        minimum: f64,
        /// The largest accepted.
        maximum: f64,
    },
    /// The update or sum has another number of coordinates than the plan.
    #[error(
        "the vector has {found} coordinates but the plan's mechanism has {expected}; check adapter shape and \
         plan version"
    )]
    DimensionMismatch {
        /// Coordinates in the plan.
        expected: usize,
        /// Coordinates found.
        found: usize,
    },
    /// The update was clipped to another norm than the plan's.
    #[error(
        "the update was clipped to {found} but the plan's clip norm is {expected}; clip with the plan's norm"
    )]
    ClipMismatch {
        /// The plan's clip norm.
        expected: f64,
        /// The norm that the update was clipped to.
        found: f64,
    },
    /// Randomised rounding never met the norm bound.
    #[error(
        "randomised rounding missed the norm bound {attempts} times in a row, which has probability below \
         2^-90; the generator is broken"
    )]
    RoundingNeverFits {
        /// Attempts made.
        attempts: u32,
    },
    /// There is no noise of the mechanism's law.
    #[error("no noise can be drawn: {0}")]
    NoiseSampler(#[from] SkellamError),
    /// A coordinate of a sum does not fit into the plan's bits.
    #[error(
        "coordinate {coordinate} of the sum is {value}, not below 2^{bits}; the sum was not reduced modulo \
         2^{bits}"
    )]
    OutOfRing {
        /// Index of the first such coordinate.
        coordinate: usize,
        /// Its value: of a sum, never of one client's update.
        value: u32,
        /// Bits per coordinate in the plan.
        bits: u32,
    },
}
