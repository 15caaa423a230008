//! The choice of scale and bits for a request.
//! Must never use a function whose last bits differ between machines to fix a number that a plan carries.

use super::{
    DEVIATIONS_IN_RANGE, Infeasible, MAX_BITS, MAX_INFLATION, MIN_BITS, Mechanism, MechanismRequest,
    NoiseLaw, check, flatness,
};

/// Overhead below which fewer bits are preferred to less noise.
const TARGET_OVERHEAD: f64 = 1.05;
/// Bits that are exceeded only where they are infeasible.
const PREFERRED_BITS: u32 = 16;
/// Halvings of the interval in which the scale is sought: more than a double has bits.
const HALVINGS: u32 = 100;
/// Standard deviations in the range that are tried beyond [`DEVIATIONS_IN_RANGE`], in steps of [`MARGIN_STEP`]: up to 7,
/// where one coordinate in 4 * 10^11 wraps.
const MARGIN_STEPS: u32 = 12;
/// See [`MARGIN_STEPS`].
const MARGIN_STEP: f64 = 0.25;

/// What follows from a scale, in integer units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Noise {
    /// `floor(Delta2^2)`, saturating.
    pub(super) norm_bound_squared: u64,
    /// `sqrt(floor(Delta2^2))`.
    pub(super) norm_bound: f64,
    /// The distance between neighbouring sums: the norm bound times the adjacency's factor.
    pub(super) sensitivity: f64,
    /// Variance of one client's share: `(z sensitivity)^2 / m`.
    pub(super) local_variance: f64,
}

impl Noise {
    pub(super) fn at(request: &MechanismRequest, honest_minimum: u32, scale: f64) -> Self {
        let norm_bound_squared = norm_bound_squared(scale * request.clip, request.dimension);
        let norm_bound = (norm_bound_squared as f64).sqrt();
        // Rounded up, so that it is no less than the distance it stands for.
        let sensitivity = (request.adjacency.sensitivity_factor() * norm_bound).next_up();
        let sigma = request.noise_multiplier * sensitivity;
        let local_variance = sigma * sigma / f64::from(honest_minimum);
        Self { norm_bound_squared, norm_bound, sensitivity, local_variance }
    }
}

/// `floor(Delta2^2)` for updates of norm at most `norm` before rounding (Kairouz, Liu, Steinke 2021, theorem
/// 1): `Delta2^2 = min{ r^2 + d/4 + sqrt(2 ln(1/beta)) (r + sqrt(d)/2), (r + sqrt(d))^2 }` with `beta =
/// e^(-1/2)`, which makes the square root 1. Saturates at 2^63.
pub(crate) fn norm_bound_squared(norm: f64, dimension: usize) -> u64 {
    let dimension = dimension as f64;
    let by_chance = norm * norm + dimension / 4.0 + (norm + dimension.sqrt() / 2.0);
    let for_certain = (norm + dimension.sqrt()) * (norm + dimension.sqrt());
    // A cast from a double saturates, and the square root of 2^63 is far beyond any ring.
    (by_chance.min(for_certain).floor() as u64).min(1 << 63)
}

/// `rho (n s c)^2 / d + n/4 + n sigma_l^2`: variance of a coordinate of the sum at most, where everyone survives and
/// every update points the same way.
fn worst_variance(request: &MechanismRequest, scale: f64, local_variance: f64) -> f64 {
    let noise = f64::from(request.clients) * local_variance;
    variance_of(request.clients, request.dimension, scale * request.clip, noise)
}

/// `rho (n s c)^2 / d`: the part of [`worst_variance`] that the updates themselves have.
fn worst_signal(request: &MechanismRequest, scale: f64) -> f64 {
    signal_of(request.clients, request.dimension, scale * request.clip)
}

/// `2K` times the square root of [`worst_variance`], and `K^2 / 3` more for Skellam; or four times a single update's norm
/// bound where that is more: an update alone must never wrap.
pub(super) fn required_range(request: &MechanismRequest, scale: f64, local_variance: f64) -> f64 {
    let heavier_tails = match request.noise_law {
        NoiseLaw::DiscreteGaussian => 0.0,
        NoiseLaw::Skellam => DEVIATIONS_IN_RANGE * DEVIATIONS_IN_RANGE / 3.0,
    };
    let variance = worst_variance(request, scale, local_variance);
    (2.0 * DEVIATIONS_IN_RANGE * variance.sqrt() + heavier_tails).max(4.0 * scale * request.clip)
}

/// The range of a coordinate of the sum of `clients` updates of at most `norm` integer units each, with Gaussian noise
/// of variance `noise` in the sum: four times a single update's norm at least.
pub(crate) fn range_of(clients: u32, dimension: usize, norm: f64, noise: f64) -> f64 {
    let variance = variance_of(clients, dimension, norm, noise);
    (2.0 * DEVIATIONS_IN_RANGE * variance.sqrt()).max(4.0 * norm)
}

fn variance_of(clients: u32, dimension: usize, norm: f64, noise: f64) -> f64 {
    signal_of(clients, dimension, norm) + f64::from(clients) / 4.0 + noise
}

fn signal_of(clients: u32, dimension: usize, norm: f64) -> f64 {
    let sum = f64::from(clients) * norm;
    flatness(dimension) * sum * sum / dimension as f64
}

/// See [`Mechanism::build`].
pub(super) fn choose(request: &MechanismRequest) -> Result<Mechanism, Infeasible> {
    let honest_minimum = check(request)?;
    fewest_bits(|bits| at_bits(request, honest_minimum, bits, 1.0), Mechanism::overhead)
}

/// Of the mechanisms for 8 to 16 bits the first of little overhead; else the first for 16 to 24 bits whose overhead is no
/// more than what rounding may cost; else that for 16 bits, if feasible.
pub(crate) fn fewest_bits<M>(
    at_bits: impl Fn(u32) -> Result<M, Infeasible>,
    overhead: impl Fn(&M) -> f64,
) -> Result<M, Infeasible> {
    let mut preferred = Err(Infeasible::Bits { bits: PREFERRED_BITS });
    for bits in MIN_BITS..=PREFERRED_BITS {
        match at_bits(bits) {
            Ok(mechanism) if overhead(&mechanism) < TARGET_OVERHEAD => return Ok(mechanism),
            other => preferred = other,
        }
    }
    // What is accepted with more overhead than wanted must not cost more than rounding may.
    let bearable = |candidate: &Result<M, Infeasible>| {
        candidate.as_ref().is_ok_and(|mechanism| overhead(mechanism) < MAX_INFLATION)
    };
    if bearable(&preferred) {
        return preferred;
    }
    let mut last = Err(Infeasible::Bits { bits: MAX_BITS });
    for bits in PREFERRED_BITS + 1..=MAX_BITS {
        last = at_bits(bits);
        if bearable(&last) {
            return last;
        }
    }
    preferred.or(last)
}

/// See [`Mechanism::build_with_bits`].
pub(super) fn choose_scale(request: &MechanismRequest, bits: u32) -> Result<Mechanism, Infeasible> {
    let honest_minimum = check(request)?;
    if !(MIN_BITS..=MAX_BITS).contains(&bits) {
        return Err(Infeasible::Bits { bits });
    }
    let mut best = at_bits(request, honest_minimum, bits, 1.0)?;
    let mut least = worst_error(&best);
    for step in 1..=MARGIN_STEPS {
        let share = DEVIATIONS_IN_RANGE / (DEVIATIONS_IN_RANGE + f64::from(step) * MARGIN_STEP);
        // A scale that is too small for the noise ends the search, not the plan.
        let Ok(candidate) = at_bits(request, honest_minimum, bits, share) else { break };
        let error = worst_error(&candidate);
        if error < least {
            (best, least) = (candidate, error);
        }
    }
    Ok(best)
}

/// Expected square error of a decoded coordinate of the sum in the worst case, in squared units of the update and at
/// equal privacy: noise, rounding (at most 1/4 for each client) and wraps.
///
/// A wrap takes 2^b off a coordinate X of about 2^b / 2, of which the share r of the noise in the variance is error
/// already: the square error goes from `(r X)^2` to `(r X - 2^b)^2`, which is `(1 - r) 2^2b` more.
fn worst_error(mechanism: &Mechanism) -> f64 {
    let (request, scale) = (mechanism.request(), mechanism.scale());
    let clients = f64::from(request.clients);
    let ring = f64::from(1_u32 << mechanism.bits());
    let variance = worst_variance(request, scale, mechanism.local_variance());
    let wraps = libm::erfc(ring / (2.0 * (2.0 * variance).sqrt()));
    let squares = clients * mechanism.local_variance()
        + clients / 4.0
        + wraps * ring * ring * worst_signal(request, scale) / variance;
    // Summing discrete Gaussians costs privacy, which more noise would have to make good.
    let discreteness = mechanism.overhead() / mechanism.sensitivity_inflation();
    squares / (scale * scale) * discreteness * discreteness
}

/// The mechanism of the largest scale that fits into `share` of the range of `bits`.
fn at_bits(
    request: &MechanismRequest,
    honest_minimum: u32,
    bits: u32,
    share: f64,
) -> Result<Mechanism, Infeasible> {
    let available = share * f64::from(1_u32 << bits);
    let fits = |scale: f64| {
        required_range(request, scale, Noise::at(request, honest_minimum, scale).local_variance) <= available
    };
    let scale = largest_scale(available / request.clip, fits);
    if scale <= 0.0 {
        let range = required_range(request, 0.0, Noise::at(request, honest_minimum, 0.0).local_variance);
        return Err(Infeasible::RangeTooSmall { bits, scale: 0.0, range, available });
    }
    Mechanism::with_encoding(request, bits, scale)
}

/// The largest scale below `limit` that fits, cut to six significant digits; 0 where none does. What a scale
/// needs must not grow when the scale falls, so that cutting digits is safe.
pub(crate) fn largest_scale(limit: f64, fits: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, limit);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if fits(middle) { low = middle } else { high = middle }
    }
    six_digits(low)
}

/// `value` cut to six significant decimal digits, so that text carries it exactly.
fn six_digits(value: f64) -> f64 {
    let rounded = |value: f64| format!("{value:.5e}").parse().unwrap_or(0.0_f64);
    let nearest = rounded(value);
    if nearest <= value { nearest } else { rounded(value * (1.0 - 0.6e-5)) }
}
