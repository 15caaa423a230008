//! Why no mechanism serves a request: each reason names its numbers and says what to change.
//! Must never be a bare "invalid parameter".

use super::{MAX_BITS, MAX_CLIENTS, MAX_DIMENSION, MAX_INFLATION, MIN_BITS, MIN_LOCAL_SIGMA};
use crate::clip::{MAX_CLIP, MIN_CLIP};
use crate::number::shortest;
use crate::units::BasisPoints;

/// Why a mechanism cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Infeasible {
    /// A parameter that must be a positive finite number is not.
    #[error("{name} is {}; it must be a positive finite number", shortest(*value))]
    NotPositive {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// The clip norm is outside what the pipeline carries.
    #[error("clip is {}; it must be between {MIN_CLIP:e} and {MAX_CLIP:e}", shortest(*clip))]
    Clip {
        /// What was given.
        clip: f64,
    },
    /// The cohort size is outside the supported range.
    #[error("a cohort of {clients} clients is outside 2 to {MAX_CLIENTS}")]
    Clients {
        /// Cohort size given.
        clients: u32,
    },
    /// The dimension is outside the supported range.
    #[error("{dimension} coordinates are outside 1 to {MAX_DIMENSION}")]
    Dimension {
        /// Coordinates given.
        dimension: usize,
    },
    /// The bits are outside the supported range.
    #[error("{bits} bits per coordinate are outside {MIN_BITS} to {MAX_BITS}")]
    Bits {
        /// Bits given.
        bits: u32,
    },
    /// More survivors are demanded than there are clients.
    #[error("n_min = {n_min} exceeds the cohort of {clients} clients; lower n_min or enlarge the cohort")]
    MinimumAboveCohort {
        /// Fewest survivors demanded.
        n_min: u32,
        /// Cohort size.
        clients: u32,
    },
    /// `n_min` is below what the drop-out allowance leaves.
    #[error(
        "n_min = {n_min} is below the {least} clients that survive when {dropout} of {clients} \
         ({allowed_drops}) drop out; raise n_min to at least {least} or raise dropout"
    )]
    MinimumBelowSurvivors {
        /// Fewest survivors demanded.
        n_min: u32,
        /// Cohort size.
        clients: u32,
        /// Fraction that may drop out.
        dropout: BasisPoints,
        /// `floor(dropout * clients)`.
        allowed_drops: u32,
        /// The smallest acceptable `n_min`.
        least: u32,
    },
    /// Fewer than two honest survivors are guaranteed.
    #[error(
        "only {honest} honest survivors are guaranteed: n_min = {n_min} less {colluders} colluders \
         ({corrupt} of {clients}); two are needed, so raise n_min, enlarge the cohort or lower corrupt"
    )]
    TooFewHonest {
        /// Fewest survivors demanded.
        n_min: u32,
        /// Cohort size.
        clients: u32,
        /// Fraction that may collude.
        corrupt: BasisPoints,
        /// `floor(corrupt * clients)`.
        colluders: u32,
        /// `n_min - colluders`, or 0.
        honest: u32,
    },
    /// A client's noise share would be too narrow for the sum of shares to resemble a Gaussian.
    #[error(
        "at {bits} bits a client's noise share has standard deviation {local_sigma:.4}, below \
         {MIN_LOCAL_SIGMA}; raise noise_multiplier (now {}) or the bits, or shrink the \
         cohort",
        shortest(*noise_multiplier)
    )]
    NoiseTooSmall {
        /// Bits per coordinate.
        bits: u32,
        /// Standard deviation of one share, in integer units.
        local_sigma: f64,
        /// The noise multiplier.
        noise_multiplier: f64,
    },
    /// A client's noise share is wider than the sampler serves.
    #[error(
        "at {bits} bits a client's noise share has standard deviation {}, above the {largest:.0} up to \
         which the law {law} has a sampler; lower the scale, use fewer bits or enlarge the cohort",
        shortest(local_sigma.round())
    )]
    NoiseTooLarge {
        /// Bits per coordinate.
        bits: u32,
        /// The law's name.
        law: &'static str,
        /// Standard deviation of one share, in integer units.
        local_sigma: f64,
        /// The largest that the law's sampler serves.
        largest: f64,
    },
    /// The coordinator's noise is outside what the sampler serves.
    #[error(
        "at {bits} bits the noise of the sum has standard deviation {sigma:.4}, outside 1/2 to 2^22; change \
         noise_multiplier (now {noise_multiplier}) or the bits"
    )]
    CentralNoise {
        /// Bits per coordinate.
        bits: u32,
        /// Standard deviation of the noise in a coordinate of the sum, in integer units.
        sigma: f64,
        /// The noise multiplier.
        noise_multiplier: f64,
    },
    /// The count of clipped updates alone would cost what the whole release may cost.
    #[error(
        "count_noise = {count_noise} of the adaptive clip norm leaves nothing for the updates at \
         noise_multiplier {noise_multiplier}: it must exceed half of that, and a twentieth of the cohort of \
         {clients} is usual; raise count_noise or lower noise_multiplier"
    )]
    CountNoise {
        /// sigma_b, in clients.
        count_noise: f64,
        /// The noise multiplier of the whole release.
        noise_multiplier: f64,
        /// Cohort size.
        clients: u32,
    },
    /// The quantile that the clip norm follows is no quantile.
    #[error("target_quantile is {0}; it must lie between 0 and 1")]
    TargetQuantile(f64),
    /// Rounding lengthens the updates too much at the largest scale that fits.
    #[error(
        "at {bits} bits rounding {dimension} coordinates inflates the sensitivity {} times, \
         above {MAX_INFLATION}; use more bits, a smaller dimension, a cohort smaller than {clients} or a \
         smaller noise_multiplier",
        shortest((inflation * 1e3).round() / 1e3)
    )]
    Inflated {
        /// Bits per coordinate.
        bits: u32,
        /// `Delta2 / (s c)`.
        inflation: f64,
        /// Cohort size.
        clients: u32,
        /// Coordinates.
        dimension: usize,
    },
    /// The sum would not fit into the ring.
    #[error("{}", too_small(*bits, *scale, *range, *available))]
    RangeTooSmall {
        /// Bits per coordinate.
        bits: u32,
        /// Integer units per unit of the update.
        scale: f64,
        /// The range that the plan's rule demands.
        range: f64,
        /// `2^bits`.
        available: f64,
    },
}

/// What to do about a range that is too small depends on whether any scale would fit.
fn too_small(bits: u32, scale: f64, range: f64, available: f64) -> String {
    let needed = format!("a range of {} but {bits} bits hold {available:.0}", shortest(range.round()));
    if scale > 0.0 {
        let scale = shortest(scale);
        format!(
            "at scale {scale} the sum needs {needed}; use more bits, a smaller scale, a smaller cohort or a smaller \
             noise_multiplier"
        )
    } else {
        format!(
            "at any scale rounding and noise alone need {needed}; use more bits, a smaller dimension, a smaller cohort or a \
             smaller noise_multiplier"
        )
    }
}
