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
        let sensitivity = (request.adjacency.sensitivity_factor() * norm_bound).next_up();
        let sigma = request.noise_multiplier * sensitivity;
        let local_variance = sigma * sigma / f64::from(honest_minimum);
        Self { norm_bound_squared, norm_bound, sensitivity, local_variance }
    }
}

/// `floor(Delta2^2)` for updates of norm at most `norm` before rounding (Kairouz, Liu, Steinke 2021, theorem
/// 1): `Delta2^2 = min{ r^2 + d/4 + sqrt(2 ln(1/beta)) (r + sqrt(d)/2), (r + sqrt(d))^2 }` with `beta =
/// e^(-1/2)`, which makes the square root 1. Saturates at 2^63.
pub(super) fn norm_bound_squared(norm: f64, dimension: usize) -> u64 {
    let dimension = dimension as f64;
    let by_chance = norm * norm + dimension / 4.0 + (norm + dimension.sqrt() / 2.0);
    let for_certain = (norm + dimension.sqrt()) * (norm + dimension.sqrt());
    // A cast from a double saturates, and the square root of 2^63 is far beyond any ring.
    (by_chance.min(for_certain).floor() as u64).min(1 << 63)
}

/// `2K sqrt(rho (n s c)^2 / d + n/4 + n sigma_l^2)`, or four times a single update's norm bound where that is
/// more: an update alone must never wrap.
pub(super) fn required_range(request: &MechanismRequest, scale: f64, local_variance: f64) -> f64 {
    let clients = f64::from(request.clients);
    let dimension = request.dimension as f64;
    let norm = scale * request.clip;
    let signal = flatness(request.dimension) * (clients * norm) * (clients * norm) / dimension;
    let variance = signal + clients / 4.0 + clients * local_variance;
    (2.0 * DEVIATIONS_IN_RANGE * variance.sqrt()).max(4.0 * norm)
}

/// See [`Mechanism::build`].
pub(super) fn choose(request: &MechanismRequest) -> Result<Mechanism, Infeasible> {
    let honest_minimum = check(request)?;
    let mut preferred = None;
    for bits in MIN_BITS..=PREFERRED_BITS {
        let candidate = at_bits(request, honest_minimum, bits);
        match candidate {
            Ok(mechanism) if mechanism.overhead() < TARGET_OVERHEAD => return Ok(mechanism),
            other => preferred = Some(other),
        }
    }
    if let Some(Ok(mechanism)) = preferred {
        return Ok(mechanism);
    }
    let mut last = Err(Infeasible::Bits { bits: MAX_BITS });
    for bits in PREFERRED_BITS + 1..=MAX_BITS {
        last = at_bits(request, honest_minimum, bits);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The mechanism of the largest scale that fits into `bits`.
fn at_bits(request: &MechanismRequest, honest_minimum: u32, bits: u32) -> Result<Mechanism, Infeasible> {
    let available = f64::from(1_u32 << bits);
    let fits = |scale: f64| {
        required_range(request, scale, Noise::at(request, honest_minimum, scale).local_variance) <= available
    };
    // The range grows with the scale and is at least 4 s c, so a scale above 2^b / (4 c) never fits.
    let (mut low, mut high) = (0.0, available / request.clip);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if fits(middle) { low = middle } else { high = middle }
    }
    // Cutting digits only lowers the scale, and the range never grows when the scale falls.
    let scale = six_digits(low);
    if scale <= 0.0 {
        let range = required_range(request, 0.0, Noise::at(request, honest_minimum, 0.0).local_variance);
        return Err(Infeasible::RangeTooSmall { bits, scale: 0.0, range, available });
    }
    Mechanism::with_encoding(request, bits, scale)
}

/// `value` cut to six significant decimal digits, so that text carries it exactly.
fn six_digits(value: f64) -> f64 {
    let rounded = |value: f64| format!("{value:.5e}").parse().unwrap_or(0.0_f64);
    let nearest = rounded(value);
    if nearest <= value { nearest } else { rounded(value * (1.0 - 0.6e-5)) }
}
