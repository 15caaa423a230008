//! The parameters of a round whose noise the coordinator adds after the secure sum, checked against each other.
//! Must never be taken for the distributed mechanism: until the coordinator has added it, there is no noise at all.

mod adaptive;
mod release;
mod rounded;

use serde::{Deserialize, Serialize};

use crate::encode::Encoding;
use crate::mechanism::search::{fewest_bits, largest_scale, norm_bound_squared, range_of};
use crate::mechanism::{Adjacency, Infeasible, MAX_BITS, MAX_INFLATION, MIN_BITS, check_shape, positive};
use crate::sampler::DiscreteGaussian;

pub use adaptive::AdaptiveClip;
pub use release::{CentralRelease, CentralSum, NoiseKey, ReleaseError};
pub use rounded::Rounded;

/// Standard deviations of its noise that the count of clipped updates has room for on either side: it wraps
/// with probability below 2^-45.
const COUNT_DEVIATIONS: f64 = 8.0;

/// What a plan asks of the central mechanism, before scale and bits are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentralRequest {
    /// Cohort size n.
    pub clients: u32,
    /// Fewest survivors with which anything is released.
    pub n_min: u32,
    /// Coordinates d of an update.
    pub dimension: usize,
    /// Clip norm c, in the units of the update.
    pub clip: f64,
    /// Noise multiplier z of the whole release, the count of clipped updates included.
    pub noise_multiplier: f64,
    /// Which cohorts are neighbours.
    pub adjacency: Adjacency,
    /// How the clip norm follows the updates' norms; none for one that stays.
    #[serde(default)]
    pub adaptive_clip: Option<AdaptiveClip>,
}

/// A feasible central mechanism: discrete Gaussian noise, added once to the integer sum of rounded updates.
///
/// With an adaptive clip norm the ring vector has one coordinate more, in which each client says whether its
/// update was clipped: +1 when it was *not*, -1 when it was (Andrew, Thakkar, McMahan, Ramaswamy 2021). The
/// noise multipliers of sum and count, z_Delta and 2 sigma_b, satisfy `1/z^2 = 1/z_Delta^2 + 1/(2 sigma_b)^2`
/// (their theorem 1), so that together they cost what one Gaussian release at z costs.
///
/// Under zero-out adjacency one client's whole contribution is replaced by zeros, its clip bit too.
///
/// Serialised as the request with `scale` and `bits`; everything else is recomputed, and checked, on the way
/// in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "CentralForm", try_from = "CentralForm")]
pub struct CentralMechanism {
    request: CentralRequest,
    bits: u32,
    scale: f64,
    norm_bound_squared: u64,
    sensitivity: f64,
    sampler: DiscreteGaussian,
    count_sampler: Option<DiscreteGaussian>,
}

/// The serial form of a [`CentralMechanism`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CentralForm {
    clients: u32,
    n_min: u32,
    dimension: usize,
    clip: f64,
    noise_multiplier: f64,
    adjacency: Adjacency,
    #[serde(default)]
    adaptive_clip: Option<AdaptiveClip>,
    scale: f64,
    bits: u32,
}

impl From<CentralMechanism> for CentralForm {
    fn from(mechanism: CentralMechanism) -> Self {
        let CentralRequest { clients, n_min, dimension, clip, noise_multiplier, adjacency, adaptive_clip } =
            mechanism.request;
        let (scale, bits) = (mechanism.scale, mechanism.bits);
        Self { clients, n_min, dimension, clip, noise_multiplier, adjacency, adaptive_clip, scale, bits }
    }
}

impl TryFrom<CentralForm> for CentralMechanism {
    type Error = Infeasible;

    fn try_from(form: CentralForm) -> Result<Self, Infeasible> {
        let CentralForm {
            clients,
            n_min,
            dimension,
            clip,
            noise_multiplier,
            adjacency,
            adaptive_clip,
            scale,
            bits,
        } = form;
        let request =
            CentralRequest { clients, n_min, dimension, clip, noise_multiplier, adjacency, adaptive_clip };
        Self::with_encoding(&request, bits, scale)
    }
}

/// What follows from a request alone: how many deviations of noise a unit of sensitivity gets.
#[derive(Clone, Copy, Debug)]
struct Multipliers {
    /// z_Delta.
    sum: f64,
    /// Standard deviation of the noise in the count of clip bits: `2 sigma_b` times the adjacency's factor.
    count: Option<f64>,
}

impl Multipliers {
    fn of(request: &CentralRequest) -> Result<Self, Infeasible> {
        let z = request.noise_multiplier;
        let Some(adaptive) = request.adaptive_clip else { return Ok(Self { sum: z, count: None }) };
        adaptive.check()?;
        let of_count = 2.0 * adaptive.count_noise;
        let left = 1.0 / (z * z) - 1.0 / (of_count * of_count);
        let sum = (1.0 / left).sqrt();
        if !(left > 0.0 && sum.is_finite()) {
            return Err(Infeasible::CountNoise {
                count_noise: adaptive.count_noise,
                noise_multiplier: z,
                clients: request.clients,
            });
        }
        Ok(Self { sum, count: Some(request.adjacency.sensitivity_factor() * of_count) })
    }

    /// The range that the count of clip bits needs.
    fn count_range(self, clients: u32) -> f64 {
        self.count.map_or(0.0, |deviation| 2.0 * (f64::from(clients) + COUNT_DEVIATIONS * deviation))
    }
}

/// What follows from a scale, in integer units.
#[derive(Clone, Copy, Debug)]
struct Noise {
    norm_bound_squared: u64,
    /// Distance between the sums of neighbouring cohorts.
    sensitivity: f64,
    variance: f64,
}

impl Noise {
    fn at(request: &CentralRequest, multiplier: f64, scale: f64) -> Self {
        let norm_bound_squared = norm_bound_squared(scale * request.clip, request.dimension);
        // Rounded up, so that it is no less than the distance it stands for.
        let sensitivity =
            (request.adjacency.sensitivity_factor() * (norm_bound_squared as f64).sqrt()).next_up();
        let sigma = multiplier * sensitivity;
        Self { norm_bound_squared, sensitivity, variance: sigma * sigma }
    }
}

impl CentralMechanism {
    /// Picks the fewest bits and, for them, the largest scale that serve `request`, by the rule of
    /// [`crate::Mechanism::build`] with the noise of the sum in place of n shares.
    ///
    /// # Errors
    /// [`Infeasible`], saying which number stands in the way and what to change.
    pub fn build(request: &CentralRequest) -> Result<Self, Infeasible> {
        check(request)?;
        let multipliers = Multipliers::of(request)?;
        let at_bits = |bits: u32| {
            let available = f64::from(1_u32 << bits);
            let scale = largest_scale(available / request.clip, |scale| {
                required_range(request, multipliers, scale) <= available
            });
            if scale <= 0.0 {
                let range = required_range(request, multipliers, 0.0);
                return Err(Infeasible::RangeTooSmall { bits, scale: 0.0, range, available });
            }
            Self::with_encoding(request, bits, scale)
        };
        fewest_bits(at_bits, Self::sensitivity_inflation)
    }

    /// The mechanism with the encoding that a plan already fixed; checks all that [`Self::build`] promises,
    /// except that the encoding is the best one.
    ///
    /// # Errors
    /// [`Infeasible`], as [`Self::build`].
    pub fn with_encoding(request: &CentralRequest, bits: u32, scale: f64) -> Result<Self, Infeasible> {
        check(request)?;
        let multipliers = Multipliers::of(request)?;
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err(Infeasible::Bits { bits });
        }
        let scale = positive("scale", scale)?;
        let range = required_range(request, multipliers, scale);
        let available = f64::from(1_u32 << bits);
        if range > available {
            return Err(Infeasible::RangeTooSmall { bits, scale, range, available });
        }
        let Noise { norm_bound_squared, sensitivity, variance } = Noise::at(request, multipliers.sum, scale);
        let inflation = (norm_bound_squared as f64).sqrt() / (scale * request.clip);
        if inflation > MAX_INFLATION {
            let (clients, dimension) = (request.clients, request.dimension);
            return Err(Infeasible::Inflated { bits, inflation, clients, dimension });
        }
        let noise_multiplier = request.noise_multiplier;
        let sampler = |variance: f64| {
            let sigma = variance.sqrt();
            DiscreteGaussian::new(variance).map_err(|_| Infeasible::CentralNoise {
                bits,
                sigma,
                noise_multiplier,
            })
        };
        Ok(Self {
            request: request.clone(),
            bits,
            scale,
            norm_bound_squared,
            sensitivity,
            sampler: sampler(variance)?,
            count_sampler: multipliers.count.map(|deviation| sampler(deviation * deviation)).transpose()?,
        })
    }

    /// The request that this mechanism serves.
    #[must_use]
    pub fn request(&self) -> &CentralRequest {
        &self.request
    }

    /// Coordinates d of an update.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.request.dimension
    }

    /// Coordinates of the ring vector: d, and one more where the clip norm adapts.
    #[must_use]
    pub fn ring_dimension(&self) -> usize {
        self.request.dimension + usize::from(self.count_sampler.is_some())
    }

    /// Cohort size n.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.request.clients
    }

    /// Fewest survivors with which anything is released.
    #[must_use]
    pub fn n_min(&self) -> u32 {
        self.request.n_min
    }

    /// Clip norm c, in the units of the update.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.request.clip
    }

    /// How the clip norm follows the updates' norms; none where it stays.
    #[must_use]
    pub fn adaptive_clip(&self) -> Option<&AdaptiveClip> {
        self.request.adaptive_clip.as_ref()
    }

    /// Scale s: integer units per unit of the update.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Bits b per coordinate: sums are taken modulo 2^b.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Largest distance between the integer sums of two neighbouring cohorts, in integer units, the clip bits
    /// aside: Delta2 for zero-out, twice that for replace-one.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        self.sensitivity
    }

    /// Largest squared Euclidean norm of a rounded update, in squared integer units: `floor(Delta2^2)`.
    #[must_use]
    pub fn norm_bound_squared(&self) -> u64 {
        self.norm_bound_squared
    }

    /// `Delta2 / (s c)`: by how much rounding to integers lengthens an update at worst.
    #[must_use]
    pub fn sensitivity_inflation(&self) -> f64 {
        (self.norm_bound_squared as f64).sqrt() / (self.scale * self.request.clip)
    }

    /// Variance parameter of the noise in each coordinate of the integer sum.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.sampler.variance()
    }

    /// Variance parameter of the noise in the sum of the clip bits; none where the clip norm stays.
    #[must_use]
    pub fn count_variance(&self) -> Option<f64> {
        self.count_sampler.as_ref().map(DiscreteGaussian::variance)
    }

    /// Standard deviation of the noise in each coordinate of the decoded sum, in the units of the update,
    /// whatever the number of survivors. Rounding and wrapping come on top.
    #[must_use]
    pub fn noise_std(&self) -> f64 {
        self.variance().sqrt() / self.scale
    }

    /// `1/z^2` of the noise that is really drawn: squared sensitivity over variance, of sum and count.
    pub(crate) fn inverse_squared_multiplier(&self) -> f64 {
        // One client's clip bit goes from +1 or -1 to 0, or to the other.
        let count = self.request.adjacency.sensitivity_factor();
        let of_count = self.count_variance().map_or(0.0, |variance| count * count / variance);
        self.sensitivity * self.sensitivity / self.variance() + of_count
    }

    pub(crate) fn encoding(&self) -> Encoding {
        Encoding { scale: self.scale, norm_bound_squared: self.norm_bound_squared }
    }
}

fn check(request: &CentralRequest) -> Result<(), Infeasible> {
    let &CentralRequest { clients, n_min, dimension, clip, noise_multiplier, .. } = request;
    check_shape(clients, n_min, dimension, clip, noise_multiplier)?;
    if n_min == 0 {
        return Err(Infeasible::NotPositive { name: "n_min", value: 0.0 });
    }
    Ok(())
}

fn required_range(request: &CentralRequest, multipliers: Multipliers, scale: f64) -> f64 {
    let noise = Noise::at(request, multipliers.sum, scale);
    let of_sum = range_of(request.clients, request.dimension, scale * request.clip, noise.variance);
    of_sum.max(multipliers.count_range(request.clients))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
