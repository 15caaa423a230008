//! The choice of scale and bits for a request.
//! Must never use a function whose last bits differ between machines to fix a number that a plan carries.

use super::{
    DEVIATIONS_IN_RANGE, Infeasible, MAX_BITS, MIN_BITS, Mechanism, MechanismRequest, check, flatness,
};

/// Overhead below which fewer bits are preferred to less noise.
const TARGET_OVERHEAD: f64 = 1.05;
/// Bits that are exceeded only where they are infeasible.
const PREFERRED_BITS: u32 = 16;
/// Halvings of the interval in which the scale is sought: more than a double has bits.
const HALVINGS: u32 = 100;

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
        let sensitivity = (request.adjacency.factor() * norm_bound).next_up();
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

/// `2K sqrt(rho (n s c)^2 / d + n/4 + n sigma_l^2)`, or four times a single update's norm bound where that is
/// more: an update alone must never wrap.
pub(super) fn required_range(request: &MechanismRequest, scale: f64, local_variance: f64) -> f64 {
    let noise = f64::from(request.clients) * local_variance;
    range_of(request.clients, request.dimension, scale * request.clip, noise)
}

/// The range of a coordinate of the sum of `clients` updates of at most `norm` integer units each, with noise
/// of variance `noise` in the sum: four times a single update's norm at least.
pub(crate) fn range_of(clients: u32, dimension: usize, norm: f64, noise: f64) -> f64 {
    let clients = f64::from(clients);
    let signal = flatness(dimension) * (clients * norm) * (clients * norm) / dimension as f64;
    let variance = signal + clients / 4.0 + noise;
    (2.0 * DEVIATIONS_IN_RANGE * variance.sqrt()).max(4.0 * norm)
}

/// See [`Mechanism::build`].
pub(super) fn choose(request: &MechanismRequest) -> Result<Mechanism, Infeasible> {
    let honest_minimum = check(request)?;
    fewest_bits(|bits| at_bits(request, honest_minimum, bits), Mechanism::overhead)
}

/// Of the mechanisms for 8 to 16 bits the first of little overhead; else that for 16 bits, if feasible; else
/// the first that is feasible.
pub(crate) fn fewest_bits<M>(
    at_bits: impl Fn(u32) -> Result<M, Infeasible>,
    overhead: impl Fn(&M) -> f64,
) -> Result<M, Infeasible> {
    let mut preferred = None;
    for bits in MIN_BITS..=PREFERRED_BITS {
        match at_bits(bits) {
            Ok(mechanism) if overhead(&mechanism) < TARGET_OVERHEAD => return Ok(mechanism),
            other => preferred = Some(other),
        }
    }
    if let Some(Ok(mechanism)) = preferred {
        return Ok(mechanism);
    }
    let mut last = Err(Infeasible::Bits { bits: MAX_BITS });
    for bits in PREFERRED_BITS + 1..=MAX_BITS {
        last = at_bits(bits);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The mechanism of the largest scale that fits into `bits`.
fn at_bits(request: &MechanismRequest, honest_minimum: u32, bits: u32) -> Result<Mechanism, Infeasible> {
    let available = f64::from(1_u32 << bits);
    // The range grows with the scale and is at least 4 s c, so a scale above 2^b / (4 c) never fits.
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
